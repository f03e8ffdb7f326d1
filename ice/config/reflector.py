"""``[reflector]`` and ``[[reflector.rules]]``: which streams are tied to which multicast groups, for ``ice-reflector``.

A rule is one stream of the Rallypoints and one place on a network where radios, gateways or telephones speak RTP: what is heard at
the one is sent to the other, untouched. The addresses are always numbers, so that a name server that changes its mind never moves
a radio channel. Two rules that would send everything twice are refused here, before anybody hears it. Whoever wants something changed in
the datagrams says so rule by rule, and is reminded of it.
"""

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Annotated, Final, Literal, LiteralString

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import (
    RESTART,
    AddressField,
    Listed,
    OptionalAddress,
    OptionalFileName,
    OptionalListenAddress,
    Section,
    Text,
    network_text,
    within_bytes,
)
from ice.config.multicast import InterfaceName
from ice.link.message import MAX_STREAM_ID
from ice.net.addresses import Address
from ice.net.capture import MIN_BYTES, old_half
from ice.printable import printable

MAX_RULES = 4_096  # each joins a group; a kernel's own limits on memberships come long before
MAX_ADDITIONAL = 16  # copies of every datagram
MAX_FILTERS = 1_024  # networks that every datagram's sender is compared with
MAX_CAPTURE: Final = 1 << 40  # whoever means more has written a digit too many


def _ordinary_stream(value: str) -> str:
    if value.startswith("__"):
        raise PydanticCustomError("stream", "stream ids that begin with __ are for satellites")
    return value


StreamId = Annotated[Text, within_bytes(MAX_STREAM_ID), Field(min_length=1), AfterValidator(_ordinary_stream)]
"""The exact id of a stream that people may join: not one of ours beginning with ``__``."""


def _in_numbers(value: Address | None) -> Address | None:
    if value is not None and value.ip is None:
        raise PydanticCustomError(
            "numbers",
            "expected an address in numbers, found the name {host}, which may mean another machine tomorrow; what it means now: getent ahosts {host}",
            {"host": printable(value.host, 60)},
        )
    return value


def _destination(value: Address | None) -> Address | None:
    if value is not None and value.is_wildcard:
        raise PydanticCustomError(
            "destination",
            "{address} is no place to send to: write a group's or a device's address",
            {"address": str(value)},
        )
    return value


HeardAt = Annotated[AddressField, AfterValidator(_in_numbers)]
"""Where datagrams are heard: a group, or an address of this machine; in numbers."""

Destination = Annotated[AddressField, AfterValidator(_in_numbers), AfterValidator(_destination)]
"""Where datagrams are sent: a group, a device, a broadcast address; in numbers."""

OptionalDestination = Annotated[OptionalAddress, AfterValidator(_in_numbers), AfterValidator(_destination)]
"""The same, or None, written ``""``."""

Network = Annotated[Text, AfterValidator(network_text)]

_PAIR: Final = re.compile(r"([0-9]{1,3}) *= *([0-9]{1,3})\Z")


def _payload_pair(value: str) -> str:
    found = _PAIR.match(value)
    if found is None or int(found[1]) > 127 or int(found[2]) > 127:
        raise PydanticCustomError(
            "payload_types",
            'expected two RTP payload types of 0–127, the radio\'s first: "97=111", found "{shown}"',
            {"shown": printable(value, 40)},
        )
    return f"{int(found[1])}={int(found[2])}"


PayloadPair = Annotated[str, AfterValidator(_payload_pair)]
"""The radio's number and the stream's number of one RTP payload type, ``"97=111"``."""

Codec = Literal["", "opus", "pcmu", "pcma", "l16", "gsm", "g722", "amr-nb", "speex", "codec2"]
"""A codec that we can speak, or none."""


class ReflectorRule(Section):
    """A stream and a multicast group that are one: what is heard at either is sent to the other. For ice-reflector."""

    stream: StreamId = Field(
        description="Id of the stream on the Rallypoints (a group's id, without braces, in small letters).",
        examples=["3f2a9c1e-5b7d-5e0f-8a61-2c4d6e8f0a1b"],
    )
    rx: HeardAt = Field(
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
    payload_types: Listed[PayloadPair] = Field(
        (),
        max_length=128,
        description='RTP payload types that have other numbers on the stream: ["97=111"] is 97 at the radio and 111 on the stream.',
    )
    strip_extensions: bool = Field(
        False, description="Take RTP header extensions out of what is sent to tx, for devices that play them."
    )
    key_file: OptionalFileName = Field(
        None,
        description="File with the stream's key (cryptoPassword, hexadecimal): the radio speaks in clear, the stream is sealed; empty: untouched.",
    )
    cipher: Literal["aes-256-gcm", "aes-256-cbc"] = Field(
        "aes-256-gcm", description="How the stream is sealed, where key_file is given; as its mission says."
    )
    radio_codec: Codec = Field(
        "",
        description="Codec that the radio needs: what the stream says is coded anew for it; empty: untouched.",
    )
    stream_codec: Codec = Field(
        "",
        description="Codec that the stream is to have: what the radio says is coded anew for it; empty: untouched.",
    )
    capture_file: OptionalFileName = Field(
        None,
        description="File (pcap) into which what is heard and sent here is written for Wireshark, with FILE.old as its older half; empty: none.",
    )
    capture_bytes: int = Field(
        50_000_000,
        ge=MIN_BYTES,
        le=MAX_CAPTURE,
        description="Bytes that the two files of a capture may have together; the oldest half goes.",
    )
    enabled: bool = Field(True, description="Set to false, the rule is kept, and nothing goes either way.")

    @field_validator("payload_types")
    @classmethod
    def _each_number_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for side, whose in enumerate(("radio", "stream")):
            seen: set[str] = set()
            for index, pair in enumerate(value):
                number = pair.split("=")[side]
                if number in seen:
                    raise _twice("{number} of the {whose} is there twice", index, number=number, whose=whose)
                seen.add(number)
        return value

    @property
    def numbers(self) -> Mapping[int, int]:
        """The radio's payload types to the stream's, where they differ."""
        pairs = (pair.split("=") for pair in self.payload_types)
        return {int(radio): int(stream) for radio, stream in pairs}

    @property
    def changes(self) -> bool:
        """Datagrams are not passed as they are."""
        return bool(
            self.payload_types
            or self.strip_extensions
            or self.key_file
            or self.radio_codec
            or self.stream_codec
        )

    @field_validator("additional_tx")
    @classmethod
    def _each_place_once(cls, value: tuple[Address, ...], info: ValidationInfo) -> tuple[Address, ...]:
        first = info.data.get("tx") or info.data.get("rx")
        for index, address in enumerate(value):
            if address == first or address in value[:index]:
                raise _twice("{address} gets every datagram already", index, address=str(address))
        return value

    @field_validator("direction")
    @classmethod
    def _somewhere_to_send(cls, value: str, info: ValidationInfo) -> str:
        rx = info.data.get("rx")
        if value != "in" and rx is not None and info.data.get("tx", rx) is None and not is_group(rx):
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


def is_group(address: Address) -> bool:
    """Whether this is a multicast group's address."""
    ip = address.ip
    return ip is not None and ip.is_multicast


def distinct_rules(rules: tuple[ReflectorRule, ...]) -> tuple[ReflectorRule, ...]:
    """Refuse enabled rules of one stream that hear the same place twice, or send everything twice to the same place; and two captures in one file."""
    first: dict[Hashable, int] = {}
    for index, rule in enumerate(rules):
        for claim, does, why in _claims(rule):
            number = first.setdefault(claim, index) + 1
            if number != index + 1:
                words = "the enabled rule {number} {does} already: {why}"
                raise _twice(words, index, number=number, does=does, why=why)
    return rules


def _claims(rule: ReflectorRule) -> Iterator[tuple[Hashable, str, str]]:
    """What an enabled rule does that no other may do as well: as a key, and in words; and why not."""
    stream, at, said_twice = rule.stream, rule.interface, "all would be said twice"
    if rule.hears:
        yield ("hears", stream, at, rule.rx), f'hears {rule.rx} for the stream "{stream[:40]}"', said_twice
    for to in rule.destinations:
        yield ("sends", stream, at, to), f'sends the stream "{stream[:40]}" to {to}', said_twice
    if rule.enabled and rule.capture_file is not None:
        for path in (rule.capture_file, old_half(rule.capture_file)):
            yield ("writes", path), f"writes {path}", "a capture needs files of its own"


def _twice(words: LiteralString, below: int, **fields: object) -> PydanticCustomError:
    """The mistake that element ``below`` of a list says once more what is there."""
    return PydanticCustomError("twice", words, {**fields, "below": below})


class ReflectorHttpSettings(Section):
    """The reflector's status pages: /healthz /readyz /metrics /status."""

    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        Address("127.0.0.1", 7481),
        description="Where the status pages are served, without encryption; empty: not at all.",
    )


class SnoopingSettings(Section):
    """Streams are not heard for groups that nobody on the local network has joined (IGMP, MLD). Needs CAP_NET_RAW."""

    enabled: bool = Field(
        False, description="Listen to who joins, and fetch a stream only where somebody has."
    )
    query_s: float = Field(
        125.0,
        ge=0,
        le=3_600,
        description="Ask who listens this often; 0: ask nobody, where a switch or a router asks already.",
    )
    subscription_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="Who was not heard of for this long has left; 0: as RFC 3376 reckons it, 260 s at 125 s.",
    )


class ReflectorSettings(Section):
    """The static reflector of this machine: Rallypoint streams tied to multicast groups. For ice-reflector."""

    interface: InterfaceName = Field(
        "",
        description="Network interface of rules that name none, by its name; empty: that of [multicast].",
    )
    site: Annotated[Text, within_bytes(64)] = Field(
        "",
        description="Name of this local network, the same on every reflector of it: only where another has the same groups, addresses and SSRCs.",
    )
    sender_packets_per_s: int = Field(
        1_000,
        ge=0,
        le=1_000_000,
        description="Datagrams per second that one address may send into a group; more are dropped, and the address is named. 0: no limit.",
    )
    engage_file: OptionalFileName = Field(
        None,
        description="A Rallypoint's configuration of Engage (JSON) whose staticReflectors are rules too, read at each reload; empty: none.",
    )
    http: ReflectorHttpSettings = Field(default_factory=ReflectorHttpSettings)
    snooping: SnoopingSettings = Field(default_factory=SnoopingSettings)
    rules: Annotated[Listed[ReflectorRule], AfterValidator(distinct_rules)] = Field((), max_length=MAX_RULES)
