"""What a patch is, and which may be active together.

A patch joins 2 to 128 streams. Four rules hold, and each refusal has a word; where the original's bridge service has a code for it, the word has that code:

=====  ===================  =======================================================================================
code   reason               what is wrong
=====  ===================  =======================================================================================
−1     ``no-json``          the request, or the file, is no JSON object
−3     ``exists``           a patch has that id already
−4     ``invalid``          the patch itself cannot be: its id, its name, its mode, a gain
−5     ``invalid-stream``   one of its streams cannot be: no stream id, or one of those that are the system's own (``__…``)
−6     ``too-few``          fewer than two streams
−7     ``too-many``         more than 128 streams
−8     ``duplicate``        a stream is listed twice
−9     ``loop``             a stream is in another active patch: what is said could go round for ever
none   ``duplex``           half-duplex and full-duplex streams together
none   ``no-rallypoint``    a stream that is on multicast only: the patch server could not reach it
none   ``unknown``          no patch has that id
none   ``changed``          somebody else has changed the patch since it was read
none   ``deleted``          a file would bring back what a person has deleted
none   ``limit``            the list is full
=====  ===================  =======================================================================================

The original uses −4 and −5 for what is *invalid* without saying of which kind, and gives −2 to nobody.

**The rule against loops** (``loop``): a stream is in at most one active patch. It may wait in any number of inactive ones. Where a list breaks
the rule all the same, because two people have activated two patches at once on two servers, :func:`standing` lets the one stand that was activated
first, the same on every server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Final, Protocol

import attrs

from ice.errors import LocalError
from ice.link.naming import StreamIdError, checked_stream_id

MIN_STREAMS: Final = 2
MAX_STREAMS: Final = 128  # the bound of a bridge in the original
MAX_ID: Final = 64  # bytes of UTF-8
MAX_NAME: Final = 256  # bytes of UTF-8
MAX_GAIN_DB: Final = 20.0  # either way: ten times the amplitude; more is another fault
CHECKED: Final = 8_192  # patches whose check is remembered: each change looks at all of the list
_SHOWN: Final = 40  # characters of somebody's text that are repeated to him


class Mode(StrEnum):
    """How speech passes from stream to stream; the original's 0 raw, 1 multistream, 2 mixed."""

    RELAY = "relay"
    TRANSCODE = "transcode"
    MIXED = "mixed"


class Reason(StrEnum):
    """Why something about a patch is refused; the table above."""

    NO_JSON = "no-json"
    EXISTS = "exists"
    INVALID = "invalid"
    INVALID_STREAM = "invalid-stream"
    TOO_FEW = "too-few"
    TOO_MANY = "too-many"
    DUPLICATE = "duplicate"
    LOOP = "loop"
    DUPLEX = "duplex"
    NO_RALLYPOINT = "no-rallypoint"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    DELETED = "deleted"
    LIMIT = "limit"

    @property
    def code(self) -> int | None:
        """The code that the original's bridge service gives for it."""
        return _CODES.get(self)


_CODES: Final[Mapping[Reason, int]] = {
    Reason.NO_JSON: -1,
    Reason.EXISTS: -3,
    Reason.INVALID: -4,
    Reason.INVALID_STREAM: -5,
    Reason.TOO_FEW: -6,
    Reason.TOO_MANY: -7,
    Reason.DUPLICATE: -8,
    Reason.LOOP: -9,
}


@attrs.frozen
class Refusal:
    """Why something is refused: the word, and a sentence for a person. ``stream`` and ``other`` (a patch) are named where they matter."""

    reason: Reason
    message: str
    patch: str = ""
    stream: str = ""
    other: str = ""


class PatchRefused(LocalError):
    """A :class:`Refusal` as an exception, for whoever can go no further."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@attrs.frozen
class Member:
    """A stream in a patch. ``gain_db`` and ``automatic_gain`` concern the mode mixed: how loud the stream is in everybody else's mix."""

    stream: str
    gain_db: float = 0.0
    automatic_gain: bool = False


@attrs.frozen(cache_hash=True)
class Patch:
    """Streams that are joined, or wait to be (``enabled`` false)."""

    id: str
    name: str
    streams: tuple[Member, ...]
    enabled: bool = True
    mode: Mode = Mode.RELAY

    @classmethod
    def of(
        cls, id: str, streams: Iterable[str], *, name: str = "", enabled: bool = True, mode: Mode = Mode.RELAY
    ) -> Patch:
        """A patch of plain stream ids, named by its id where it has no name."""
        return cls(id, name or id, tuple(Member(stream) for stream in streams), enabled, mode)

    @cached_property
    def stream_ids(self) -> tuple[str, ...]:
        """The ids of the streams, in their order."""
        return tuple(member.stream for member in self.streams)


class Facts(Protocol):
    """What must be known of a stream to judge whether it can be patched (:class:`ice.patch.channel.Channel`)."""

    @property
    def full_duplex(self) -> bool:
        """Whether everybody may talk at once there: calls, and groups with ``fdx``."""

    @property
    def on_rallypoints(self) -> bool:
        """Whether it can be reached by a Rallypoint."""


@lru_cache(CHECKED)
def check(patch: Patch) -> Refusal | None:
    """What is wrong with the patch by itself, if anything."""

    def refuse(reason: Reason, message: str, stream: str = "") -> Refusal:
        return Refusal(reason, message, shown(patch.id), stream)

    if not _is_id(patch.id):
        return refuse(
            Reason.INVALID,
            f"a patch id is 1 to {MAX_ID} bytes of printable text without spaces at its ends, not {shown(patch.id)!r}",
        )
    if not _fits(patch.name, MAX_NAME) or not (patch.name.isprintable() or not patch.name):
        return refuse(
            Reason.INVALID,
            f"the name of a patch is up to {MAX_NAME} bytes of printable text, not {shown(patch.name)!r}",
        )
    if len(patch.streams) < MIN_STREAMS:
        return refuse(
            Reason.TOO_FEW,
            f"a patch joins at least {MIN_STREAMS} streams; {shown(patch.id)!r} has {len(patch.streams)}",
        )
    if len(patch.streams) > MAX_STREAMS:
        return refuse(
            Reason.TOO_MANY,
            f"a patch joins at most {MAX_STREAMS} streams; {shown(patch.id)!r} has {len(patch.streams)}",
        )
    seen: set[str] = set()
    for member in patch.streams:
        stream = member.stream
        try:
            checked_stream_id(stream)
        except StreamIdError as error:
            stream = shown(stream)
            return refuse(Reason.INVALID_STREAM, f"{stream!r} is no stream: {error}", stream)
        if stream.startswith("__"):
            stream = shown(stream)
            return refuse(
                Reason.INVALID_STREAM,
                f"{stream!r} is for the system's own messages; nobody talks there",
                stream,
            )
        if stream in seen:
            stream = shown(stream)
            return refuse(Reason.DUPLICATE, f"{stream!r} is listed twice in {shown(patch.id)!r}", stream)
        seen.add(stream)
        if not -MAX_GAIN_DB <= member.gain_db <= MAX_GAIN_DB:
            return refuse(
                Reason.INVALID,
                f"the gain of {shown(stream)!r} is {member.gain_db} dB; it can be {-MAX_GAIN_DB:g} to {MAX_GAIN_DB:g}",
                stream,
            )
    return None


def check_streams(patch: Patch, facts: Mapping[str, Facts]) -> Refusal | None:
    """What is wrong with the streams taken together, as far as they are known: they differ in duplex, or cannot be reached."""
    duplex: bool | None = None
    first = ""
    for stream in patch.stream_ids:
        known = facts.get(stream)
        if known is None:
            continue
        if not known.on_rallypoints:
            return Refusal(
                Reason.NO_RALLYPOINT,
                f"{shown(stream)!r} is on multicast only: give its group a Rallypoint, or tie it to one with a reflector",
                shown(patch.id),
                stream,
            )
        if duplex is None:
            duplex, first = known.full_duplex, stream
        elif duplex is not known.full_duplex:
            full, half = (stream, first) if known.full_duplex else (first, stream)
            return Refusal(
                Reason.DUPLEX,
                f"{shown(full)!r} is full duplex and {shown(half)!r} is half duplex; a patch has streams of one kind",
                shown(patch.id),
                stream,
            )
    return None


def check_active(patch: Patch, others: Iterable[Patch]) -> Refusal | None:
    """Whether the patch may be active beside those of ``others`` that are enabled."""
    ours = set(patch.stream_ids)
    for other in others:
        if not other.enabled or other.id == patch.id:
            continue
        for stream in other.stream_ids:
            if stream in ours:
                return _loop(patch.id, stream, other.id)
    return None


def standing(
    patches: Iterable[Patch], facts: Mapping[str, Facts] | None = None, since: Mapping[str, int] | None = None
) -> dict[str, Refusal | None]:
    """For each enabled patch None where it stands, else why it does not, by id.

    Of two that share a stream the one stands that was activated first: ``since`` says when, in any unit; where it does not, or says the same,
    the lower id. So all who hold the same list serve the same patches.
    """
    since = since or {}
    found: dict[str, Refusal | None] = {}
    owners: dict[str, str] = {}
    enabled = [patch for patch in patches if patch.enabled]
    for patch in sorted(enabled, key=lambda each: (since.get(each.id, 0), each.id)):
        refusal = check(patch) or check_streams(patch, facts or {})
        if refusal is None:
            stream = next((stream for stream in patch.stream_ids if stream in owners), None)
            if stream is not None:
                refusal = _loop(patch.id, stream, owners[stream])
        found[patch.id] = refusal
        if refusal is None:
            owners.update(dict.fromkeys(patch.stream_ids, patch.id))
    return found


def shown(text: str) -> str:
    """Somebody's text, fit to be repeated in a sentence."""
    clean = "".join(each if each.isprintable() else "\ufffd" for each in text[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"


def _loop(patch: str, stream: str, other: str) -> Refusal:
    return Refusal(
        Reason.LOOP,
        f"{shown(stream)!r} is in the active patch {shown(other)!r} already: speech could go round for ever; join all "
        "their streams in one patch, or deactivate one of the two",
        shown(patch),
        stream,
        other,
    )


def _fits(text: str, most: int) -> bool:
    try:
        return len(text.encode()) <= most
    except UnicodeEncodeError:
        return False


def _is_id(text: str) -> bool:
    return bool(text) and _fits(text, MAX_ID) and text.isprintable() and text == text.strip()
