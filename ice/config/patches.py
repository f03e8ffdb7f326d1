"""``[[patches]]``: which streams are joined so that their people hear each other; ``[patch]``: how ``ice-patch``, which joins them, runs here.

A stream is in at most one enabled patch: that rule is what keeps a circle of patches from ever being built. A
patch that waits (``enabled = false``) may name any stream.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.control import ControlSettings
from ice.config.fields import (
    RESTART,
    FileName,
    Listed,
    OptionalFileName,
    OptionalListenAddress,
    Section,
    Text,
    within_bytes,
)
from ice.config.reflector import StreamId
from ice.net.addresses import Address

MAX_PATCHES = 4_096
MIN_STREAMS = 2
MAX_STREAMS = 128  # the bound of a bridge in the original
MAX_GAIN_DB = 20.0  # either way: ten times the amplitude
MAX_MISSIONS = 64
MAX_CLEAR = 1_024


class PatchHttpSettings(Section):
    """The patch server's status pages: /healthz /readyz /metrics /status."""

    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        Address("127.0.0.1", 7482),
        description="Where the status pages are served, without encryption; empty: not at all.",
    )


class PatchServerSettings(Section):
    """The patch server of this machine (twistd ice-patch)."""

    missions: Listed[FileName] = Field(
        (),
        max_length=MAX_MISSIONS,
        description="Mission files that say how each stream is coded and sealed; a stream of no mission stays silent, unless patch.clear names it.",
    )
    password_file: OptionalFileName = Field(
        None,
        description="File with the passwords of missions that are sealed, one a line; nobody else may read it. Empty: none is sealed.",
    )
    clear: Listed[Annotated[Text, within_bytes(256), Field(min_length=1)]] = Field(
        (),
        max_length=MAX_CLEAR,
        description="Patterns (* ?) of streams of no mission that are in clear (Opus, half duplex): what others say under a key goes out on them for everybody to hear.",
    )
    bridges_file: OptionalFileName = Field(
        None, description="Bridges file (bridges.json) with more patches than [[patches]] has; empty: none."
    )
    control: ControlSettings = Field(default_factory=ControlSettings)
    http: PatchHttpSettings = Field(default_factory=PatchHttpSettings)


class GainSettings(Section):
    """How loud a stream of the patch above is for the others. For the mode mixed."""

    stream: StreamId = Field(description="Id of the stream, which is one of the patch's.", examples=["north"])
    gain_db: float = Field(
        0.0, ge=-MAX_GAIN_DB, le=MAX_GAIN_DB, description="Decibels louder than it is, or softer (negative)."
    )
    automatic: bool = Field(False, description="Follow its speech, so that all streams are equally loud.")


class PatchSettings(Section):
    """Streams whose people hear each other, whatever codecs and keys the streams use. For ice-patch."""

    id: Annotated[Text, within_bytes(64)] = Field(
        min_length=1,
        description="What the patch is known by, on every patch server; never changed.",
        examples=["north-south"],
    )
    name: Annotated[Text, within_bytes(256)] = Field(
        "", description="Name of the patch, for people; empty: its id."
    )
    streams: Listed[StreamId] = Field(
        min_length=MIN_STREAMS,
        max_length=MAX_STREAMS,
        description="Ids of the streams that are joined, 2 to 128; a stream is in one enabled patch at most.",
        examples=[("north", "south")],
    )
    enabled: bool = Field(
        True, description="Set to false, the patch is kept ready, and nothing passes through it."
    )
    mode: Literal["relay", "transcode", "mixed"] = Field(
        "relay",
        description="How speech passes: relay (as it is, with the other stream's key), transcode (coded anew for each stream, "
        "every talker by himself) or mixed (one anonymous mix for each stream).",
    )
    gains: Listed[GainSettings] = Field((), max_length=MAX_STREAMS)

    @field_validator("streams")
    @classmethod
    def _each_stream_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for index, stream in enumerate(value):
            if stream in seen:
                raise PydanticCustomError(
                    "twice", "{stream} is listed twice", {"stream": stream[:40], "below": index}
                )
            seen.add(stream)
        return value

    @field_validator("gains")
    @classmethod
    def _of_its_streams(
        cls, value: tuple[GainSettings, ...], info: ValidationInfo
    ) -> tuple[GainSettings, ...]:
        left = set(info.data.get("streams", [each.stream for each in value]))
        for index, each in enumerate(value):
            if each.stream not in left:
                raise PydanticCustomError(
                    "stream",
                    "{stream} is no stream of this patch, or has its gain already",
                    {"stream": each.stream[:40], "below": index},
                )
            left.discard(each.stream)
        return value


def distinct_patches(patches: tuple[PatchSettings, ...]) -> tuple[PatchSettings, ...]:
    """Refuse a second patch of one id, and a stream in two enabled patches."""
    ids: set[str] = set()
    owners: dict[str, str] = {}
    for index, patch in enumerate(patches):
        if patch.id in ids:
            raise PydanticCustomError(
                "twice",
                'a patch has the id "{id}" already; each has an id of its own',
                {"id": patch.id[:40], "below": index},
            )
        ids.add(patch.id)
        for stream in patch.streams if patch.enabled else ():
            if (owner := owners.setdefault(stream, patch.id)) != patch.id:
                raise PydanticCustomError(
                    "loop",
                    '"{stream}" is in two enabled patches, "{owner}" and "{id}": speech could go round for ever; '
                    "join all their streams in one patch, or switch one of the two off",
                    {"stream": stream[:40], "owner": owner[:40], "id": patch.id[:40], "below": index},
                )
    return patches
