"""One stream on two paths: what comes twice is heard once, and a talker keeps one name, whichever path brings them.

An engine: time is an argument. The same sealed bytes may come by a Rallypoint and by multicast, in either order, seconds apart. The two paths
know nothing of each other, and name the same talker differently, so the bytes themselves are all there is to go by.

**Copies.** The same bytes from another source, on the same path or the other, are a copy: a reflector that ties both paths together gives new names. From the same source on
the same path they are none: each path lets a datagram through once by itself, so whoever says the same thing twice is heard twice. Hence a count per payload and source, and
what is heard is the largest. Of less than :data:`SURE_BYTES` only what comes on the other path is a copy: two people may say "ok".

**Own talk.** What we sent on one path and a reflector brings back on the other is ours. What comes back on the path where it was sent, that path knows by itself.

**Names.** A listener keeps a jitter buffer per source, so a talker whose packets come now by one path and now by the other must not change source with each of
them. When a copy shows that two sources are one talker, the name under which that talker is being heard stays, and the other path's is replaced by it;
numbers go on from the last one heard. A gap in the numbers of one path stays a gap: it is a loss. Going over to the other path leaves none.

**Strangers.** Of a source that begins on one path while somebody is heard on the other, it is not known at once whether it is that somebody: it waits for its first copy,
at most :data:`STRANGER_S`. So nobody is heard as two people for the moment in which a second path opens.

**Bounds.** Payloads are remembered as digests, for ten seconds and up to 8,192; talkers up to 1,024, the longest silent of them forgotten first; strangers up to 64.
"""

from collections import deque
from enum import IntEnum
from hashlib import blake2b
from typing import Final

import attrs

from ice.streams.heard import Heard
from ice.streams.interface import Datagram

WINDOW_S: Final = 10.0  # several Rallypoints may each hold a datagram for 2 s, and TCP for some more
LIMIT: Final = 8_192  # ten seconds of 16 talkers at 50 packets a second
MAX_TALKERS: Final = 1_024
SURE_BYTES: Final = 13  # of a payload: an RTP header and a byte of sound; what is sealed is longer, and few people say as much alike by chance
AGREEING: Final = 2  # shorter copies in a row that say the same of two sources: one may be two people's "ok"
ALONE_S: Final = 1.0  # a datagram that has not come by the Rallypoint by then does not: their queues are shorter in practice
STRANGER_S: Final = 0.1  # two paths that differ by more are rare, and a jitter buffer bridges as much
ACTIVE_S: Final = 0.5  # heard a moment ago: longer than any framing and jitter
MAX_STRANGERS: Final = 64
MAX_WAITING: Final = 16  # datagrams of one stranger
_U32: Final = 0xFFFF_FFFF
_DIGEST_BYTES: Final = 16


class Path(IntEnum):
    """The two ways to one stream; also indices."""

    PRIMARY = 0
    SECONDARY = 1

    @property
    def other(self) -> "Path":
        """The other one."""
        return Path.SECONDARY if self is Path.PRIMARY else Path.PRIMARY


@attrs.define
class _Talker:
    """Somebody who is heard under one name."""

    source: int
    path: Path
    at: float = float("-inf")
    high: int | None = None
    offsets: list[int] = attrs.field(factory=lambda: [0, 0])


@attrs.define
class _Payload:
    """What is known of the same bytes."""

    key: bytes
    at: float
    came: dict[tuple[Path, int], int] = attrs.field(factory=dict)
    on_primary: bool = False
    sent: list[int] = attrs.field(factory=lambda: [0, 0])
    heard: int = 0
    talker: _Talker | None = None
    stranger: "_Stranger | None" = None


@attrs.define(eq=False)
class _Stranger:
    """A source that has begun, and may be somebody who is heard on the other path."""

    path: Path
    source: int
    at: float
    waiting: list[tuple[_Payload, Datagram]] = attrs.field(factory=list)


class Copies:
    """See the module's docstring; one per stream."""

    def __init__(
        self, *, window_s: float = WINDOW_S, limit: int = LIMIT, max_talkers: int = MAX_TALKERS
    ) -> None:
        self.given = [0, 0]  #: datagrams given to the receiver, by the path that brought them
        self.copies = 0  #: datagrams heard on the other path before
        self.own = 0  #: our own datagrams, brought back
        self.held = 0  #: datagrams of strangers that had to wait
        self.forgotten = 0  #: payloads forgotten before their time: there were more than the limit
        #: When a datagram last proved to have come on the secondary path alone.
        self.alone_at = float("-inf")
        self._window_s = window_s
        self._limit = limit
        self._max_talkers = max_talkers
        self._payloads: dict[bytes, _Payload] = {}
        self._talkers: dict[tuple[Path, int], _Talker] = {}
        self._strangers: dict[tuple[Path, int], _Stranger] = {}
        self._heard_at = [float("-inf"), float("-inf")]
        self._agreed: tuple[Path, int, int] | None = None
        self._agreeing = 0
        self._names = Heard()
        self._unproved: deque[_Payload] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._payloads)

    def sent(self, path: Path, payload: bytes, now: float) -> None:
        """We have sent these bytes on ``path``."""
        self._payload(payload, now).sent[path] += 1

    def heard(self, path: Path, datagram: Datagram, now: float) -> list[Datagram]:
        """A datagram has come on ``path``: what to give to the receiver now, under the names that it is to have there."""
        self.prove(now)
        known = self._payload(datagram.payload, now)
        known.on_primary = known.on_primary or path is Path.PRIMARY
        key = _counted(path, datagram)
        known.came[key] = came = known.came.get(key, 0) + 1
        count = came - known.sent[path.other]
        if count <= 0:
            self.own += 1
            return []
        if count <= known.heard:
            self.copies += 1
            self._copy(path, datagram, known)
            return self._introduce(self._strangers.get((path, datagram.source)), now)
        if path is Path.SECONDARY and not known.on_primary:
            self._unproved.append(known)
        waits = known.stranger
        stranger = self._stranger(path, datagram.source, now)
        if waits is not None and stranger is not None and waits is not stranger:
            # One stranger on both paths is nobody whom we hear already.
            given = self._admit(waits, now)
            self.copies += 1
            self._copy(path, datagram, known)
            return given + self._admit(stranger, now)
        if stranger is not None:
            known.stranger = stranger
            stranger.waiting.append((known, datagram))
            self.held += 1
            return []
        given = [self._give(path, datagram, known, now)]
        if waits is not None:
            for _, waiting in waits.waiting:
                if waiting.payload == datagram.payload:
                    self._copy(waits.path, waiting, known)
            given += self._introduce(waits, now)
        return given

    @property
    def due(self) -> float | None:
        """When :meth:`release` has something to give, if nothing comes before."""
        return min((each.at + STRANGER_S for each in self._strangers.values()), default=None)

    def release(self, now: float) -> list[Datagram]:
        """What strangers have said who have waited long enough: they are somebody else."""
        given = []
        for stranger in list(self._strangers.values()):
            if now >= stranger.at + STRANGER_S:
                given += self._admit(stranger, now)
        return given

    def passed(self, datagram: Datagram, now: float) -> bool:
        """Whether a datagram of this name was heard here, or asked about; asking marks it."""
        return bool(self._names.ask(datagram.source, datagram.sequence, now))

    def prove(self, now: float) -> None:
        """See whether what came on the secondary path a while ago has come on the primary one since."""
        unproved = self._unproved
        while unproved and now - unproved[0].at >= ALONE_S:
            known = unproved.popleft()
            if not known.on_primary:
                self.alone_at = known.at

    # -- inside --------------------------------------------------------------------------------------------------------

    def _payload(self, payload: bytes, now: float) -> _Payload:
        key = blake2b(payload, digest_size=_DIGEST_BYTES).digest()
        payloads = self._payloads
        known = payloads.get(key)
        if known is not None and now - known.at < self._window_s:
            return known
        if known is not None:
            del payloads[key]  # to its place at the end
        horizon = now - self._window_s
        while payloads:
            oldest = next(iter(payloads.values()))
            early = oldest.at > horizon
            if early and len(payloads) < self._limit:
                break
            self.forgotten += early
            del payloads[oldest.key]
        known = payloads[key] = _Payload(key, now)
        return known

    def _stranger(self, path: Path, source: int, now: float) -> _Stranger | None:
        """Where this source has to wait, if it has to."""
        key = path, source
        stranger = self._strangers.get(key)
        if stranger is not None:
            return stranger if len(stranger.waiting) < MAX_WAITING else None
        talker = self._talkers.get(key)
        talks = talker is not None and now - talker.at <= ACTIVE_S
        if talks or now - self._heard_at[path.other] > ACTIVE_S or len(self._strangers) >= MAX_STRANGERS:
            return None
        stranger = self._strangers[key] = _Stranger(path, source, now)
        return stranger

    def _introduce(self, stranger: _Stranger | None, now: float) -> list[Datagram]:
        """A copy has come: if it told whose name the stranger's is, the rest of what was said is heard."""
        if stranger is None:
            return []
        talker = self._talkers.get((stranger.path, stranger.source))
        return [] if talker is None or now - talker.at > ACTIVE_S else self._admit(stranger, now)

    def _admit(self, stranger: _Stranger, now: float) -> list[Datagram]:
        """What the stranger has said that nobody else has brought."""
        self._strangers.pop((stranger.path, stranger.source), None)
        given = []
        for known, datagram in stranger.waiting:
            known.stranger = None
            came = known.came[_counted(stranger.path, datagram)]
            if came - known.sent[stranger.path.other] > known.heard:
                given.append(self._give(stranger.path, datagram, known, now))
            else:
                self.copies += 1
        return given

    def _give(self, path: Path, datagram: Datagram, known: _Payload, now: float) -> Datagram:
        """A datagram as the receiver gets it."""
        known.heard += 1
        self.given[path] += 1
        known.talker = talker = self._talker(path, datagram.source)
        talker.at = self._heard_at[path] = now
        number = self._number(talker, path, datagram.sequence, now)
        if talker.source == datagram.source and number == datagram.sequence:
            return datagram
        return Datagram(datagram.flags, talker.source, number, datagram.payload)

    def _talker(self, path: Path, source: int) -> _Talker:
        key = path, source
        talker = self._talkers.pop(key, None)
        if talker is None:
            talker = _Talker(source, path)
            if len(self._talkers) >= self._max_talkers:
                del self._talkers[next(iter(self._talkers))]
        self._talkers[key] = talker  # the latest is last
        return talker

    def _copy(self, path: Path, datagram: Datagram, known: _Payload) -> None:
        """The other path has another name for the talker of these bytes."""
        talker, source = known.talker, datagram.source
        if talker is None or self._talkers.get((path, source)) is talker:
            return
        said = path, source, talker.source
        self._agreeing = self._agreeing + 1 if said == self._agreed else 1
        self._agreed = said
        if self._agreeing >= AGREEING or len(datagram.payload) >= SURE_BYTES:
            self._talker(path, source)
            self._talkers[path, source] = talker
            self._agreed, self._agreeing = None, 0

    def _number(self, talker: _Talker, path: Path, sequence: int, now: float) -> int:
        """The number of a datagram among all that were heard of this talker: always another one."""
        if talker.high is None:
            talker.path, talker.high = path, sequence
            talker.offsets = [0, 0]
            self._names.ask(talker.source, sequence, now)
            return sequence
        following = (talker.high + 1) & _U32
        if talker.path is not path:
            talker.path = path
            talker.offsets[path] = following - sequence
        number = (sequence + talker.offsets[path]) & _U32
        if self._names.ask(talker.source, number, now):
            talker.offsets[path] = following - sequence
            number = following
            self._names.ask(talker.source, number, now)
        if (number - talker.high) & _U32 < 0x8000_0000:
            talker.high = number
        return number


def _counted(path: Path, datagram: Datagram) -> tuple[Path, int]:
    """By what the comings of these bytes are counted."""
    return path, datagram.source if len(datagram.payload) >= SURE_BYTES else 0
