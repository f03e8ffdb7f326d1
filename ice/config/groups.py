"""``[[groups]]``, and ``[rallypoint.mesh]``: which Rallypoints are linked with each other, and how.

A group is the same table on every machine, our own entry among its members; a Rallypoint finds itself in it by the UUID of
its certificate. What a Rallypoint makes of its groups and its peering file is :mod:`ice.rallypoint.peering`'s affair.
"""

from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import (
    AddressField,
    Listed,
    OptionalAddress,
    OptionalFileName,
    Section,
    Text,
    within_bytes,
)
from ice.link.peer import MAX_COST
from ice.net.addresses import Address, AddressError
from ice.rallypoint.peering import DEFAULT_COST, MAX_ALTERNATIVES, MAX_PEERS, IdError, rallypoint_id

MAX_GROUPS = 256


def _id(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        return rallypoint_id(value)
    raise IdError("expected the UUID of a Rallypoint's certificate, in quotes")


def _dialled(address: Address | None) -> Address | None:
    if address is not None and address.is_wildcard:
        raise AddressError(
            f"{address} is no place to dial: write the name or address by which others reach it"
        )
    return address


DialledAddress = Annotated[OptionalAddress, AfterValidator(_dialled)]
"""Where a Rallypoint is dialled, or nothing: it dials."""

IdField = Annotated[UUID, PlainValidator(_id), PlainSerializer(str, return_type=str)]
"""A Rallypoint's UUID, with or without braces."""


class _Member(Protocol):
    @property
    def id(self) -> UUID: ...


M = TypeVar("M", bound=_Member)


def each_once(members: tuple[M, ...]) -> tuple[M, ...]:
    """Refuse a member that is in the list twice."""
    seen: set[UUID] = set()
    for index, member in enumerate(members):
        if member.id in seen:
            raise PydanticCustomError(
                "twice", "{id} is a member already", {"id": str(member.id), "below": index}
            )
        seen.add(member.id)
    return members


class MemberSettings(Section):
    """One Rallypoint of the group above; each member is such a table, ours too."""

    id: IdField = Field(
        description="The UUID in its certificate (ice pki show FILE tells it).",
        examples=["b0c1d2e3-f405-4617-8829-3a4b5c6d7e8f"],
    )
    address: DialledAddress = Field(
        None,
        description="Where the other members dial it, told to clients too; empty: it dials the others.",
        examples=["rp1.example.org:7443"],
    )
    leaf: bool = Field(
        False,
        description="A leaf never carries the traffic of others, and is linked with members that are none.",
    )
    enabled: bool = Field(True, description="Set to false, the member is treated as if it were not there.")
    cost: int = Field(
        0, ge=0, le=MAX_COST, description="Cost of each link with it, instead of the group's; 0: the group's."
    )


class GroupSettings(Section):
    """Rallypoints that are linked each with each: the same table on every machine, our own entry among its members."""

    name: Annotated[Text, within_bytes(256)] = Field(
        min_length=1, description="Name of the group, for people.", examples=["town"]
    )
    cost: int = Field(
        DEFAULT_COST,
        ge=1,
        le=MAX_COST,
        description="Cost of each link between members; traffic takes the way of the least sum.",
    )
    virtual: Listed[AddressField] = Field(
        (),
        max_length=MAX_ALTERNATIVES,
        description="More ways in (virtual addresses, balancers), told to clients besides the members' own.",
    )
    members: Listed[MemberSettings] = Field(min_length=1, max_length=MAX_PEERS)

    _each_once = field_validator("members")(each_once)


def distinct_names(groups: tuple[GroupSettings, ...]) -> tuple[GroupSettings, ...]:
    """Refuse a second group of one name."""
    seen: set[str] = set()
    for index, group in enumerate(groups):
        if group.name in seen:
            raise PydanticCustomError(
                "twice",
                'a group is named "{name}" already; each has a name of its own',
                {"name": group.name[:40], "below": index},
            )
        seen.add(group.name)
    return groups


class RoundTripRule(Section):
    """What a slow link to another Rallypoint leads to: of the rules whose time is reached, that with the longest counts."""

    at_or_above_ms: int = Field(
        300, ge=1, le=3_600_000, description="Round trip at which the rule begins to hold."
    )
    action: Literal["info", "warn", "error", "drop"] = Field(
        "warn",
        description="A line of that kind in the log (info, warn, error), or the end of the link (drop).",
    )


class MeshSettings(Section):
    """How this Rallypoint finds and links with others, besides the [[groups]] that it is a member of."""

    peering_file: OptionalFileName = Field(
        None,
        description="Engage peering file (JSON): more Rallypoints to link with, read again when it changes; empty: none.",
    )
    peering_command: Listed[Text] = Field(
        (),
        max_length=64,
        description="Program and arguments of a command that prints such a file, run without a shell; empty: none.",
    )
    peering_reread_s: float = Field(
        60.0, ge=1, le=86_400, description="How often the command is run; a file is looked at every second."
    )
    spread_s: float = Field(
        1.0, ge=0, le=300, description="Others are dialled at a random moment within this long after a start."
    )
    round_trip: Listed[RoundTripRule] = Field((RoundTripRule(),), max_length=16)

    @field_validator("peering_command")
    @classmethod
    def _program(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not value:
            return value
        if not Path(value[0]).is_absolute():
            raise PydanticCustomError(
                "program",
                'expected the full name of a program, like "/usr/local/bin/our-peers", found "{shown}"',
                {"shown": value[0][:40], "below": 0},
            )
        if info.data.get("peering_file") is not None:
            raise PydanticCustomError("both", "peering_file is given too; name one of the two")
        return value

    @field_validator("round_trip")
    @classmethod
    def _thresholds(cls, value: tuple[RoundTripRule, ...]) -> tuple[RoundTripRule, ...]:
        seen: set[int] = set()
        for index, rule in enumerate(value):
            if rule.at_or_above_ms in seen:
                raise PydanticCustomError(
                    "twice", "two rules begin at {ms} ms", {"ms": rule.at_or_above_ms, "below": index}
                )
            seen.add(rule.at_or_above_ms)
        return value
