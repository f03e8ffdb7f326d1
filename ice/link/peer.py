"""What Rallypoints say to each other: RELAY, TOPOLOGY and INTEREST, bytes <-> frozen values.

A RELAY is ``origin u64 | hops u8`` and then one whole MEDIA frame, which no Rallypoint ever rebuilds.  TOPOLOGY and INTEREST begin with a
byte that says which of four kinds follows::

    TOPOLOGY   1 state     who an origin is and whom it is linked to; signed by it, flooded
               2 summary   the numbers that the sender holds, per origin
               3 digest    eight bytes over a summary: "nothing new from me", and the end of what a summary has set off
               4 request   say this origin's state again, certificate included
    INTEREST   1 delta     what an origin wants now and did not want before, or no longer; signed by it, flooded
               2 full      everything an origin wants, in parts
               3 ack       the sender holds this number
               4 request   say everything this origin wants

All integers are big-endian.  What an origin signs is independent of who passes it on and in which pieces: a state's *core*, and for interest
the number and a hash of everything wanted.  An origin is not stated but derived (:func:`origin_of`), so nobody can name another's.
See ``docs/mesh.md``.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from struct import Struct
from struct import error as StructError
from types import MappingProxyType
from uuid import UUID

import attrs

from ice.errors import RemoteError
from ice.link.frame import MEDIA, FrameType, control
from ice.link.message import MAX_STREAM_ID
from ice.link.naming import stream_key

MAX_HOPS = 16  # a RELAY that has been passed on this often is a bug's; no sensible mesh is as deep
MAX_LINKS = 256  # of one Rallypoint to others; a full mesh of the largest size in use has 50
MAX_FORMER = 16  # earlier origins that a Rallypoint says it no longer is: as many restarts within a minute
MAX_COST = 0xFFFF
MAX_ROUND_TRIP = 0xFFFF  # tenths of a millisecond: 6.5 s, and a link is dead after 2.5 s without an answer
MAX_NUMBER = 1 << 62  # a number per microsecond for 146,000 years
MAX_CERTIFICATE = 4_096  # bytes of DER; ours have about 600
MAX_SIGNATURE = 255  # ECDSA on P-256 takes 72 at most
MAX_SUMMARY = 2_048  # origins: 49,152 bytes, one frame
MAX_KEYS = 1 << 20  # what a count may claim; what is held is bounded by the engine
SALT_BYTES = 16
PART_BYTES = (
    48_000  # of keys and ids in one INTEREST frame; with everything else it stays below a frame's 65,535
)

#: A whole RELAY frame up to the payload: length, type, origin, hops, then the MEDIA header.
RELAY = Struct(">HBQBHBBQQI")
#: Where the MEDIA frame begins in a whole RELAY frame.
MEDIA_AT = RELAY.size - MEDIA.size
_RELAY_HEAD = Struct(">HBQB")
_HOPS_AT = MEDIA_AT - 1
_HOPS = [bytes([n]) for n in range(256)]

_STATE, _SUMMARY, _DIGEST, _STATE_REQUEST = 1, 2, 3, 4
_DELTA, _FULL, _ACK, _INTEREST_REQUEST = 1, 2, 3, 4

_OWN, _CERTIFIED = 1, 2
_LEAF = 1
_COMPLETE, _ASK = 1, 2

_CORE = Struct(">B16s16sQHB")
_LINK = Struct(">QHH")
_U64 = Struct(">Q")
_SUMMARY_HEAD = Struct(">BBH")
_SUMMARY_ENTRY = Struct(">QQQ")
_DELTA_HEAD = Struct(">BQQQIHHHB")
_FULL_HEAD = Struct(">BQQIHHHHB")
_ACK_BODY = Struct(">BQQ")
_REQUEST_BODY = Struct(">BQ")

_UNMEASURED: Mapping[int, int] = MappingProxyType({})

_TOPOLOGY_MARK = b"ice-link/1 TOPOLOGY"
_INTEREST_MARK = b"ice-link/1 INTEREST"
_ORIGIN_MARK = b"ice-link/1 origin"


class PeerFrameError(RemoteError):
    """The body is not what a Rallypoint may send.

    :ivar reason: a short word for counters: ``malformed``, or ``unsupported`` for a kind that a later version may know.
    """

    def __init__(self, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


# -- RELAY -------------------------------------------------------------------------------------------------------------


def relay(origin: int, media_frame: bytes) -> bytes:
    """A whole RELAY frame around one whole MEDIA frame, at its origin."""
    return _RELAY_HEAD.pack(len(media_frame) + 9, FrameType.RELAY, origin, 0) + media_frame


def onward(frame: bytes, hops: int) -> bytes:
    """The same RELAY frame with ``hops`` (0–255) for its count; everything else byte for byte."""
    return frame[:_HOPS_AT] + _HOPS[hops] + frame[MEDIA_AT:]


# -- origins -----------------------------------------------------------------------------------------------------------


def origin_of(id: UUID, salt: bytes) -> int:
    """The origin of a Rallypoint's present life: 8 bytes of SHA-256 of its UUID and the salt of this start."""
    return int.from_bytes(sha256(_ORIGIN_MARK + id.bytes + salt).digest()[:8], "big")


# -- TOPOLOGY ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class State:
    """What an origin says of itself: the signed core, and what travels beside it."""

    id: UUID
    salt: bytes
    number: int
    leaf: bool
    #: Cost of the link to each origin it is linked to, ascending.
    links: dict[int, int]
    #: Round trips that it has measured on them, in tenths of a millisecond; for people, no way depends on them.
    round_trips: dict[int, int]
    #: Origins of the same UUID that it says it no longer is.
    former: tuple[int, ...]
    #: The bytes that hold all of the above.
    core: bytes
    signature: bytes = b""
    certificate: bytes = b""
    #: Whether the sender says: this is me.
    own: bool = False

    @property
    def origin(self) -> int:
        """Follows from the UUID and the salt."""
        return origin_of(self.id, self.salt)


@attrs.frozen
class Entry:
    """The newest numbers that the sender of a summary holds of one origin."""

    origin: int
    topology: int
    interest: int


@attrs.frozen
class Summary:
    """The numbers that the sender holds.

    :ivar complete: what is not listed is not held.
    :ivar ask: the receiver answers with a summary of its own if anything listed is newer than what it holds.
    """

    entries: tuple[Entry, ...]
    complete: bool = False
    ask: bool = False


@attrs.frozen
class Digest:
    """:func:`digest_of` what the sender holds."""

    value: bytes


@attrs.frozen
class StateRequest:
    """Say this origin's state again, certificate included."""

    origin: int


def state_core(
    id: UUID,
    salt: bytes,
    number: int,
    leaf: bool,
    links: dict[int, int],
    former: Iterable[int],
    round_trips: Mapping[int, int] = _UNMEASURED,
) -> bytes:
    """The canonical bytes of a state; what is signed is :func:`topology_message` of them.

    ``round_trips``: of those links that one is known of, as :func:`round_trip_of` makes them.
    """
    former = sorted(former)
    head = _CORE.pack(_LEAF if leaf else 0, id.bytes, salt, number, len(links), len(former))
    return (
        head
        + b"".join(_LINK.pack(origin, links[origin], round_trips.get(origin, 0)) for origin in sorted(links))
        + b"".join(map(_U64.pack, former))
    )


def round_trip_of(seconds: float) -> int:
    """A round trip as a state tells it: tenths of a millisecond, 1 (or less) to 65,535 (6.5535 s, or more)."""
    return max(1, round(min(seconds * 10_000, MAX_ROUND_TRIP)))


def topology_message(core: bytes) -> bytes:
    """What the origin signs of its state."""
    return _TOPOLOGY_MARK + core


def state(core: bytes, signature: bytes, certificate: bytes = b"", own: bool = False) -> bytes:
    """A whole TOPOLOGY frame; ``certificate`` is DER and may be left out where the receiver knows it."""
    flags = (_OWN if own else 0) | (_CERTIFIED if certificate else 0)
    body = bytes((_STATE, flags)) + core + bytes((len(signature),)) + signature
    if certificate:
        body += len(certificate).to_bytes(2, "big") + certificate
    return control(FrameType.TOPOLOGY, body)


def summary(entries: Sequence[Entry], *, complete: bool = False, ask: bool = False) -> bytes:
    """A whole TOPOLOGY frame with at most :data:`MAX_SUMMARY` entries."""
    flags = (_COMPLETE if complete else 0) | (_ASK if ask else 0)
    packed = b"".join(_SUMMARY_ENTRY.pack(e.origin, e.topology, e.interest) for e in entries)
    return control(FrameType.TOPOLOGY, _SUMMARY_HEAD.pack(_SUMMARY, flags, len(entries)) + packed)


def digest_of(entries: Iterable[Entry]) -> bytes:
    """Eight bytes that are the same where the same numbers are held."""
    ordered = sorted((e.origin, e.topology, e.interest) for e in entries)
    return sha256(b"".join(_SUMMARY_ENTRY.pack(*e) for e in ordered)).digest()[:8]


def digest(value: bytes) -> bytes:
    """A whole TOPOLOGY frame."""
    return control(FrameType.TOPOLOGY, bytes((_DIGEST,)) + value)


def state_request(origin: int) -> bytes:
    """A whole TOPOLOGY frame."""
    return control(FrameType.TOPOLOGY, _REQUEST_BODY.pack(_STATE_REQUEST, origin))


def parse_topology(body: bytes | memoryview) -> State | Summary | Digest | StateRequest:
    """A TOPOLOGY body; raises :class:`PeerFrameError`."""
    body = bytes(body)
    kind = body[0] if body else 0
    try:
        if kind == _STATE:
            return _parse_state(body)
        if kind == _SUMMARY:
            return _parse_summary(body)
        if kind == _DIGEST:
            if len(body) != 9:
                raise PeerFrameError(f"a digest has 9 bytes, not {len(body)}")
            return Digest(body[1:])
        if kind == _STATE_REQUEST:
            return StateRequest(_REQUEST_BODY.unpack(body)[1])
    except StructError as error:
        raise PeerFrameError(f"TOPOLOGY of kind {kind}: {error}") from None
    raise _unknown("TOPOLOGY", kind, body)


def _parse_state(body: bytes) -> State:
    flags, id, salt, number, links, former = _CORE.unpack_from(body, 2)
    if links > MAX_LINKS or former > MAX_FORMER:
        raise PeerFrameError(f"a state names at most {MAX_LINKS} links and {MAX_FORMER} former origins")
    _check_number(number, least=1)
    links_at = 2 + _CORE.size
    former_at = links_at + links * _LINK.size
    end = former_at + former * 8
    signature_end = end + 1 + (body[end] if end < len(body) else 0)
    if signature_end > len(body):
        raise PeerFrameError("a state that ends before its signature does")
    told = list(_LINK.iter_unpack(body[links_at:former_at]))
    costs = {origin: cost for origin, cost, _ in told}
    origins = list(costs)
    if len(costs) != links or origins != sorted(origins):
        raise PeerFrameError("the links of a state ascend and name nobody twice")
    if not all(costs.values()):
        raise PeerFrameError(f"the cost of a link is 1 to {MAX_COST}")
    past = tuple(origin for (origin,) in _U64.iter_unpack(body[former_at:end]))
    if list(past) != sorted(set(past)):
        raise PeerFrameError("the former origins of a state ascend and name nobody twice")
    certificate = b""
    if body[1] & _CERTIFIED:
        certificate = body[signature_end + 2 :]
        size = int.from_bytes(body[signature_end : signature_end + 2], "big")
        if not 0 < size <= MAX_CERTIFICATE or size != len(certificate):
            raise PeerFrameError(f"a certificate has 1 to {MAX_CERTIFICATE} bytes and ends the frame")
    elif signature_end != len(body):
        raise PeerFrameError("bytes after the end of a state")
    return State(
        id=UUID(bytes=id),
        salt=salt,
        number=number,
        leaf=bool(flags & _LEAF),
        links=costs,
        round_trips={origin: round_trip for origin, _, round_trip in told if round_trip},
        former=past,
        core=body[2:end],
        signature=body[end + 1 : signature_end],
        certificate=certificate,
        own=bool(body[1] & _OWN),
    )


def _parse_summary(body: bytes) -> Summary:
    _, flags, count = _SUMMARY_HEAD.unpack_from(body)
    if count > MAX_SUMMARY or len(body) != _SUMMARY_HEAD.size + count * _SUMMARY_ENTRY.size:
        raise PeerFrameError(f"a summary has at most {MAX_SUMMARY} entries of {_SUMMARY_ENTRY.size} bytes")
    entries = tuple(Entry(*fields) for fields in _SUMMARY_ENTRY.iter_unpack(body[_SUMMARY_HEAD.size :]))
    return Summary(entries, complete=bool(flags & _COMPLETE), ask=bool(flags & _ASK))


# -- INTEREST ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Delta:
    """What an origin wants at ``number``, against what it wanted at ``base``.

    :ivar count: how many keys it wants now; with the signature over the hash of them all, the proof of the result.
    :ivar ids: stream ids at their first mention, by key; each has been checked to have that key.
    """

    origin: int
    base: int
    number: int
    count: int
    added: tuple[int, ...]
    removed: tuple[int, ...]
    ids: dict[int, str]
    signature: bytes


@attrs.frozen
class Full:
    """One part of everything that an origin wants at ``number``; ``part`` counts from 0 to ``parts`` - 1."""

    origin: int
    number: int
    count: int
    part: int
    parts: int
    keys: tuple[int, ...]
    ids: dict[int, str]
    signature: bytes


@attrs.frozen
class Ack:
    """The sender holds ``number`` of the receiver's interest."""

    origin: int
    number: int


@attrs.frozen
class InterestRequest:
    """Say everything that this origin wants."""

    origin: int


def interest_message(origin: int, number: int, count: int, keys_digest: bytes) -> bytes:
    """What the origin signs of its interest; ``keys_digest``: SHA-256 of all keys, ascending, 8 bytes each."""
    return _INTEREST_MARK + _ACK_BODY.pack(0, origin, number) + count.to_bytes(4, "big") + keys_digest


def delta(value: Delta) -> bytes:
    """A whole INTEREST frame.  Raises :class:`ValueError` when it does not fit one: see :func:`cost_of`."""
    ids = _pack_ids(value.ids)
    head = _DELTA_HEAD.pack(
        _DELTA,
        value.origin,
        value.base,
        value.number,
        value.count,
        len(value.added),
        len(value.removed),
        len(value.ids),
        len(value.signature),
    )
    keys = b"".join(map(_U64.pack, (*value.added, *value.removed)))
    return control(FrameType.INTEREST, head + keys + ids + value.signature)


def cost_of(stream_id: str | None) -> int:
    """The bytes that one key takes in a delta or full, with its id where that is told."""
    return 8 if stream_id is None else 9 + len(stream_id.encode())


def full(origin: int, number: int, keys: Iterable[int], ids: dict[int, str], signature: bytes) -> list[bytes]:
    """Whole INTEREST frames, one per part; ``keys`` ascend."""
    parts: list[list[int]] = [[]]
    size = count = 0
    for key in keys:
        cost = cost_of(ids.get(key))
        if size + cost > PART_BYTES:
            parts.append([])
            size = 0
        size += cost
        count += 1
        parts[-1].append(key)
    frames = []
    for number_of_part, part in enumerate(parts):
        told = {key: ids[key] for key in part if key in ids}
        head = _FULL_HEAD.pack(
            _FULL, origin, number, count, number_of_part, len(parts), len(part), len(told), len(signature)
        )
        body = head + b"".join(map(_U64.pack, part)) + _pack_ids(told) + signature
        frames.append(control(FrameType.INTEREST, body))
    return frames


def ack(origin: int, number: int) -> bytes:
    """A whole INTEREST frame."""
    return control(FrameType.INTEREST, _ACK_BODY.pack(_ACK, origin, number))


def interest_request(origin: int) -> bytes:
    """A whole INTEREST frame."""
    return control(FrameType.INTEREST, _REQUEST_BODY.pack(_INTEREST_REQUEST, origin))


def parse_interest(body: bytes | memoryview) -> Delta | Full | Ack | InterestRequest:
    """An INTEREST body; raises :class:`PeerFrameError`."""
    body = bytes(body)
    kind = body[0] if body else 0
    try:
        if kind == _DELTA:
            return _parse_delta(body)
        if kind == _FULL:
            return _parse_full(body)
        if kind == _ACK:
            return Ack(*_ACK_BODY.unpack(body)[1:])
        if kind == _INTEREST_REQUEST:
            return InterestRequest(_REQUEST_BODY.unpack(body)[1])
    except StructError as error:
        raise PeerFrameError(f"INTEREST of kind {kind}: {error}") from None
    raise _unknown("INTEREST", kind, body)


def _parse_delta(body: bytes) -> Delta:
    _, origin, base, number, count, added, removed, ids, signature = _DELTA_HEAD.unpack_from(body)
    _check_number(number, least=1)
    if base >= number or count > MAX_KEYS:
        raise PeerFrameError("a delta leads from a lower number to a higher, and to a count that can be")
    keys, rest = _keys(body, _DELTA_HEAD.size, added + removed)
    came, went = keys[:added], keys[added:]
    if len(set(keys)) != len(keys):
        raise PeerFrameError("a delta names no key twice")
    told, rest = _parse_ids(body, rest, ids, set(came))
    return Delta(origin, base, number, count, came, went, told, _rest(body, rest, signature))


def _parse_full(body: bytes) -> Full:
    _, origin, number, count, part, parts, held, ids, signature = _FULL_HEAD.unpack_from(body)
    _check_number(number, least=0)
    if part >= parts or count > MAX_KEYS or held > count:
        raise PeerFrameError("a part that cannot be")
    keys, rest = _keys(body, _FULL_HEAD.size, held)
    if any(a >= b for a, b in pairwise(keys)):
        raise PeerFrameError("the keys of a full interest ascend")
    told, rest = _parse_ids(body, rest, ids, set(keys) if ids else set())
    return Full(origin, number, count, part, parts, keys, told, _rest(body, rest, signature))


def _keys(body: bytes, at: int, count: int) -> tuple[tuple[int, ...], int]:
    end = at + 8 * count
    if end > len(body):
        raise PeerFrameError(f"{count} keys that end after their frame")
    return tuple(key for (key,) in _U64.iter_unpack(body[at:end])), end


def _pack_ids(ids: dict[int, str]) -> bytes:
    encoded = [stream_id.encode() for stream_id in ids.values()]
    return b"".join(bytes((len(text) - 1,)) + text for text in encoded)


def _parse_ids(body: bytes, at: int, count: int, keys: set[int]) -> tuple[dict[int, str], int]:
    ids = {}
    for _ in range(count):
        end = at + 2 + body[at] if at < len(body) else len(body) + 1
        if end > len(body) or end - at - 1 > MAX_STREAM_ID:
            raise PeerFrameError("a stream id that ends after its frame")
        try:
            text = body[at + 1 : end].decode()
        except UnicodeDecodeError:
            raise PeerFrameError("a stream id is UTF-8") from None
        key = stream_key(text)
        if key not in keys:
            raise PeerFrameError("a stream id that belongs to none of the keys beside it")
        ids[key] = text
        at = end
    return ids, at


def _rest(body: bytes, at: int, size: int) -> bytes:
    if at + size != len(body):
        raise PeerFrameError("a signature that does not end with its frame")
    return body[at:]


def _check_number(number: int, least: int) -> None:
    if not least <= number < MAX_NUMBER:
        raise PeerFrameError(f"a number is {least} to {MAX_NUMBER - 1}, not {number}", "absurd-number")


def _unknown(what: str, kind: int, body: bytes) -> PeerFrameError:
    if not body:
        return PeerFrameError(f"{what} without a body")
    return PeerFrameError(f"{what} of kind {kind}, which this version does not know", "unsupported")
