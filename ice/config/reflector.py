"""``[reflector]`` and ``[[reflector.rules]]``: which streams are tied to which multicast groups, for ``ice-reflector``.

A rule is one stream of the Rallypoints and one place on a network where radios, gateways or telephones speak RTP: what is heard at
the one is sent to the other, untouched. The addresses are always numbers, so that a name server that changes its mind never moves
a radio channel. Two rules that would send everything twice are refused here, before anybody hears it.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import (
    Listed,
    ListenAddress,
    OptionalListenAddress,
    Section,
    Text,
    network_text,
    within_bytes,
)
from ice.config.multicast import InterfaceName
from ice.link.message import MAX_STREAM_ID
from ice.net.addresses import Address

MAX_RULES = 4_096  # each joins a group; a kernel's own limits on memberships come long before
MAX_ADDITIONAL = 16  # copies of every datagram
MAX_FILTERS = 1_024  # networks that every datagram's sender is compared with


def _ordinary_stream(value: str) -> str:
    if value.startswith("__"):
        raise PydanticCustomError("stream", "stream ids that begin with __ are for satellites")
    return value


StreamId = Annotated[Text, within_bytes(MAX_STREAM_ID), Field(min_length=1), AfterValidator(_ordinary_stream)]
"""The exact id of a stream that people may join: not one of ours beginning with ``__``."""


def _destination(value: Address | None) -> Address | None:
    if value is not None and value.is_wildcard:
        raise PydanticCustomError(
            "destination",
            "{address} is no place to send to: write a group's or a device's address",
            {"address": str(value)},
        )
    return value


Destination = Annotated[ListenAddress, AfterValidator(_destination)]
"""Where datagrams are sent: a group, a device, a broadcast address; in numbers."""

OptionalDestination = Annotated[OptionalListenAddress, AfterValidator(_destination)]
"""The same, or None, written ``""``."""

Network = Annotated[Text, AfterValidator(network_text)]


class ReflectorRule(Section):
    """A stream and a multicast group that are one: what is heard at either is sent to the other. For ice-reflector."""

    stream: StreamId = Field(
        description="Id of the stream on the Rallypoints (a group's id, without braces, in small letters).",
        examples=["3f2a9c1e-5b7d-5e0f-8a61-2c4d6e8f0a1b"],
    )
    rx: ListenAddress = Field(
        description="Where datagrams are heard: a multicast group, which is joined, or an address of this machine.",
        examples=["239.192.7.1:21000"],
    )
    tx: OptionalDestination = Field(
        None, description="Where datagrams of the stream are sent: a group or one device; empty: to rx."
    )
    additional_tx: Listed[Destination] = Field(
        (), max_length=MAX_ADDITIONAL, description="More places that get a copy of what is sent to tx."
    )
    interface: InterfaceName = Field(
        "", description="Network interface, by its name; empty: that of [reflector]."
    )
    direction: Literal["both", "in", "out"] = Field(
        "both",
        description="Which way datagrams go: both, in (only from rx to the stream) or out (only from the stream to tx).",
    )
    ttl: int = Field(
        1,
        ge=0,
        le=255,
        description="Routers that a multicast datagram may pass, plus 1; 0: it stays on this machine.",
    )
    priority: int = Field(
        3,
        ge=0,
        le=3,
        description="Class that switches and routers are told (DSCP): 0 best effort, 1 signalling, 2 video, 3 voice.",
    )
    allow: Listed[Network] = Field(
        (),
        max_length=MAX_FILTERS,
        description="Networks and addresses of senders at rx that are heard; empty: all of them.",
    )
    deny: Listed[Network] = Field(
        (),
        max_length=MAX_FILTERS,
        description="Networks and addresses of senders at rx that are not heard, even where allow has them.",
    )
    enabled: bool = Field(True, description="Set to false, the rule is kept, and nothing goes either way.")

    @field_validator("additional_tx")
    @classmethod
    def _each_place_once(cls, value: tuple[Address, ...], info: ValidationInfo) -> tuple[Address, ...]:
        first = info.data.get("tx") or info.data.get("rx")
        for index, address in enumerate(value):
            if address == first or address in value[:index]:
                raise PydanticCustomError(
                    "twice",
                    "{address} gets every datagram already",
                    {"address": str(address), "below": index},
                )
        return value

    @field_validator("direction")
    @classmethod
    def _somewhere_to_send(cls, value: str, info: ValidationInfo) -> str:
        rx = info.data.get("rx")
        if value != "in" and rx is not None and info.data.get("tx", rx) is None and not _is_group(rx):
            raise PydanticCustomError(
                "tx",
                "rx is {rx}, an address of this machine and no multicast group: give tx, the place to send to, "
                'or direction = "in"',
                {"rx": str(rx), "also": "rx"},
            )
        return value

    @property
    def hears(self) -> bool:
        """Datagrams come in from ``rx``."""
        return self.enabled and self.direction != "out"

    @property
    def destinations(self) -> tuple[Address, ...]:
        """Where datagrams of the stream go; none where the rule is off or one way only."""
        if not self.enabled or self.direction == "in":
            return ()
        return (self.tx or self.rx, *self.additional_tx)


def _is_group(address: Address) -> bool:
    ip = address.ip
    return ip is not None and ip.is_multicast


def distinct_rules(rules: tuple[ReflectorRule, ...]) -> tuple[ReflectorRule, ...]:
    """Refuse enabled rules of one stream that hear the same place twice, or send everything twice to the same place."""
    heard: dict[tuple[str, str, Address], int] = {}
    sent: dict[tuple[str, str, Address], int] = {}
    for index, rule in enumerate(rules):
        if rule.hears and heard.setdefault((rule.stream, rule.interface, rule.rx), index) != index:
            raise PydanticCustomError(
                "twice",
                'the enabled rule {number} hears {address} for the stream "{stream}" already: all would be said twice',
                {
                    "number": heard[rule.stream, rule.interface, rule.rx] + 1,
                    "address": str(rule.rx),
                    "stream": rule.stream[:40],
                    "below": index,
                },
            )
        for address in rule.destinations:
            if sent.setdefault((rule.stream, rule.interface, address), index) != index:
                raise PydanticCustomError(
                    "twice",
                    'the enabled rule {number} sends the stream "{stream}" to {address} already: all would be said twice',
                    {
                        "number": sent[rule.stream, rule.interface, address] + 1,
                        "address": str(address),
                        "stream": rule.stream[:40],
                        "below": index,
                    },
                )
    return rules


class ReflectorSettings(Section):
    """The static reflector of this machine: Rallypoint streams tied to multicast groups. For ice-reflector."""

    interface: InterfaceName = Field(
        "",
        description="Network interface of rules that name none, by its name; empty: that of [multicast].",
    )
    rules: Annotated[Listed[ReflectorRule], AfterValidator(distinct_rules)] = Field((), max_length=MAX_RULES)
