"""One stream on two paths: what comes twice is heard once, and a talker keeps one name, whichever path brings them.

An engine: time is an argument. The same sealed bytes may come by a Rallypoint and by multicast, in either order, seconds apart. The two paths
know nothing of each other, and name the same talker differently, so the bytes themselves are all there is to go by.

**Copies.** The second coming of the same bytes *on the other path* is a copy. On the same path it is none: each path lets a datagram through once by
itself, so whoever says the same thing twice is heard twice. Hence two counts per payload, and what is heard is the larger one.

**Own talk.** What we sent on one path and a reflector brings back on the other is ours. What comes back on the path where it was sent, that path knows by itself.

**Names.** A listener keeps a jitter buffer per source, so a talker whose packets come now by one path and now by the other must not change source with each of
them. When copies show twice in a row that two sources are one talker, the name under which that talker is being heard stays, and the other path's is replaced by it;
numbers go on from the last one heard. A gap in the numbers of one path stays a gap: it is a loss. Going over to the other path leaves none.

**Bounds.** Payloads are remembered as digests, for ten seconds and up to 8,192; talkers up to 1,024, the longest silent of them forgotten first.
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
AGREEING: Final = (
    2  # copies in a row that say the same of two sources; one may be two people's "ok" without a cipher
)
ALONE_S: Final = 1.0  # a datagram that has not come by the Rallypoint by then does not: their queues are shorter in practice
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


class Unheard(IntEnum):
    """Why a datagram is not given to anybody."""

    COPY = 0
    OWN = 1


@attrs.define
class _Talker:
    """Somebody who is heard under one name."""

    source: int
    path: Path
    high: int | None = None
    offsets: list[int] = attrs.field(factory=lambda: [0, 0])


@attrs.define
class _Payload:
    """What is known of the same bytes."""

    key: bytes
    at: float
    came: list[int] = attrs.field(factory=lambda: [0, 0])
    sent: list[int] = attrs.field(factory=lambda: [0, 0])
    heard: int = 0
    talker: _Talker | None = None


class Copies:
    """See the module's docstring; one per stream."""

    def __init__(
        self, *, window_s: float = WINDOW_S, limit: int = LIMIT, max_talkers: int = MAX_TALKERS
    ) -> None:
        self.forgotten = 0  #: payloads forgotten before their time: there were more than the limit
        #: When a datagram last proved to have come on the secondary path alone.
        self.alone_at = float("-inf")
        self._window_s = window_s
        self._limit = limit
        self._max_talkers = max_talkers
        self._payloads: dict[bytes, _Payload] = {}
        self._talkers: dict[tuple[Path, int], _Talker] = {}
        self._agreed: tuple[Path, int, int] | None = None
        self._agreeing = 0
        self._names = Heard()
        self._unproved: deque[_Payload] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._payloads)

    def sent(self, path: Path, payload: bytes, now: float) -> None:
        """We have sent these bytes on ``path``."""
        self._payload(payload, now).sent[path] += 1

    def heard(self, path: Path, datagram: Datagram, now: float) -> Datagram | Unheard:
        """A datagram has come on ``path``: what to give to the receiver, under the name it is to have there."""
        self.prove(now)
        known = self._payload(datagram.payload, now)
        known.came[path] += 1
        count = known.came[path] - known.sent[path.other]
        if count <= 0:
            return Unheard.OWN
        if count <= known.heard:
            self._copy(path, datagram.source, known)
            return Unheard.COPY
        known.heard = count
        known.talker = talker = self._talker(path, datagram.source)
        if path is Path.SECONDARY and not known.came[Path.PRIMARY]:
            self._unproved.append(known)
        number = self._number(talker, path, datagram.sequence, now)
        if talker.source == datagram.source and number == datagram.sequence:
            return datagram
        return Datagram(datagram.flags, talker.source, number, datagram.payload)

    def passed(self, datagram: Datagram, now: float) -> bool:
        """Whether a datagram of this name was heard here, or asked about; asking marks it."""
        return bool(self._names.ask(datagram.source, datagram.sequence, now))

    def prove(self, now: float) -> None:
        """See whether what came on the secondary path a while ago has come on the primary one since."""
        unproved = self._unproved
        while unproved and now - unproved[0].at >= ALONE_S:
            known = unproved.popleft()
            if not known.came[Path.PRIMARY]:
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

    def _talker(self, path: Path, source: int) -> _Talker:
        key = path, source
        talker = self._talkers.pop(key, None)
        if talker is None:
            talker = _Talker(source, path)
            if len(self._talkers) >= self._max_talkers:
                del self._talkers[next(iter(self._talkers))]
        self._talkers[key] = talker  # the latest is last
        return talker

    def _copy(self, path: Path, source: int, known: _Payload) -> None:
        """The other path calls the talker of these bytes ``source``."""
        talker = known.talker
        if talker is None or self._talkers.get((path, source)) is talker:
            return
        said = path, source, talker.source
        self._agreeing = self._agreeing + 1 if said == self._agreed else 1
        self._agreed = said
        if self._agreeing >= AGREEING:
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
