"""``[[federations]]``: the Rallypoints of another organisation, and the streams that are shared with it.

Whom we believe beside our own authority stands here and nowhere else: an authority of theirs, for exactly the Rallypoints listed. Streams
are listed by their ids, because a pattern would share streams that nobody has thought of yet. What a Rallypoint makes of
it is :mod:`ice.rallypoint.federation`'s affair.
"""

from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import (
    FileName,
    Listed,
    OptionalFileName,
    Section,
    Text,
    within_bytes,
)
from ice.config.groups import DialledAddress, IdField
from ice.link.message import MAX_STREAM_ID

MAX_FEDERATIONS = 64  # each costs an authority and its lists in every handshake
MAX_ALLIES = 64  # Rallypoints of one federation: each of theirs is linked with each of ours
MAX_SHARED = (
    256  # stream ids one way; each may be three questions when a link comes up, and 2,000 are heard at once
)


def _shared(value: str) -> str:
    if value.startswith("__"):
        raise PydanticCustomError(
            "stream", "stream ids that begin with __ are a site's own; they are not shared"
        )
    if "*" in value:
        raise PydanticCustomError(
            "pattern", "streams are shared by their exact ids, without patterns: list each of them"
        )
    return value


SharedStream = Annotated[Text, within_bytes(MAX_STREAM_ID), Field(min_length=1), AfterValidator(_shared)]
"""A stream id that another organisation may know: not one of ours beginning with ``__``, and no pattern."""


class AllySettings(Section):
    """One Rallypoint of the federation above, theirs."""

    id: IdField = Field(
        description="The UUID in its certificate; they tell it (ice pki show FILE).",
        examples=["c1d2e3f4-0516-4728-893a-4b5c6d7e8f90"],
    )
    address: DialledAddress = Field(
        None,
        description="Where we dial it, as its certificate names it; empty: it dials us.",
        examples=["rally.coast.example:7443"],
    )


class FederationSettings(Section):
    """Another organisation, whose Rallypoints listed here are linked with ours to share the streams listed here."""

    name: Annotated[Text, within_bytes(256)] = Field(
        min_length=1, description="Name of the organisation, for people.", examples=["coast"]
    )
    authority: Listed[FileName] = Field(
        min_length=1,
        max_length=16,
        description="Certificates of their authority (PEM), never one of ours; believed for the Rallypoints listed here and nobody else.",
        examples=[(Path("pki/coast-authority.pem"),)],
    )
    revocations: OptionalFileName = Field(
        None, description="Their list of revoked certificates (PEM); empty: they gave none."
    )
    incoming: Listed[SharedStream] = Field(
        (),
        max_length=MAX_SHARED,
        description="Streams that are heard here when they talk; exact ids, no patterns.",
        examples=[("mutual aid",)],
    )
    outgoing: Listed[SharedStream] = Field(
        (),
        max_length=MAX_SHARED,
        description="Streams that they hear when we talk; exact ids, no patterns.",
        examples=[("mutual aid",)],
    )
    packets_per_s: int = Field(
        20_000, ge=1, le=10_000_000, description="Packets per second that one link may bring in."
    )
    bytes_per_s: int = Field(
        20_000_000, ge=1_000, le=10_000_000_000, description="Bytes per second that one link may bring in."
    )
    rallypoints: Listed[AllySettings] = Field(min_length=1, max_length=MAX_ALLIES)

    @field_validator("incoming", "outgoing")
    @classmethod
    def _each_stream_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for index, stream in enumerate(value):
            if stream in value[:index]:
                raise PydanticCustomError(
                    "twice", "{stream} is listed twice", {"stream": stream[:40], "below": index}
                )
        return value

    @field_validator("outgoing")
    @classmethod
    def _something_shared(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not value and info.data.get("incoming") == ():
            raise PydanticCustomError(
                "nothing",
                "nothing is shared: list streams in incoming, in outgoing or in both",
                {"also": "incoming"},
            )
        return value

    @field_validator("rallypoints")
    @classmethod
    def _each_ally_once(cls, value: tuple[AllySettings, ...]) -> tuple[AllySettings, ...]:
        seen: set[UUID] = set()
        for index, ally in enumerate(value):
            if ally.id in seen:
                raise PydanticCustomError(
                    "twice", "{id} is listed already", {"id": str(ally.id), "below": index}
                )
            seen.add(ally.id)
        return value


def distinct_federations(
    federations: tuple[FederationSettings, ...], info: ValidationInfo
) -> tuple[FederationSettings, ...]:
    """Refuse a second federation of one name, a Rallypoint in two of them, and the parrot, which answers whoever speaks to it."""
    names: set[str] = set()
    owners: dict[UUID, str] = {}
    rallypoint = info.data.get("rallypoint")
    parrot = None if rallypoint is None else rallypoint.parrot
    for index, federation in enumerate(federations):
        if federation.name in names:
            raise PydanticCustomError(
                "twice",
                'a federation is named "{name}" already; each has a name of its own',
                {"name": federation.name[:40], "below": index},
            )
        names.add(federation.name)
        for ally in federation.rallypoints:
            if ally.id in owners:
                raise PydanticCustomError(
                    "twice",
                    '{id} is a Rallypoint of the federation "{owner}" already; it belongs to one',
                    {"id": str(ally.id), "owner": owners[ally.id][:40], "below": index},
                )
            owners[ally.id] = federation.name
        if parrot and parrot in (*federation.incoming, *federation.outgoing):
            raise PydanticCustomError(
                "parrot",
                '"{parrot}" is rallypoint.parrot, which nobody else can hear; it is not shared',
                {"parrot": parrot[:40], "below": index},
            )
    return federations
