"""Failover of one stream: a Rallypoint first, multicast where none has answered for a while, and back.

An engine: time is an argument. :class:`Failover` is told when a path opens or closes and asked, for each datagram that is to be sent, where it goes.

============= ================ ================= ====================================================================
way           primary (a       secondary         what is said goes
              Rallypoint)      (multicast)
============= ================ ================= ====================================================================
rallypoint    open             either            to the Rallypoint; over multicast as well while somebody may need it
multicast     closed           open              over multicast
waiting       closed           open              nowhere: the Rallypoint has ``after_s`` to answer
none          closed           closed            nowhere
============= ================ ================= ====================================================================

::

             the primary closes                     after_s without it
    rallypoint ----------------> waiting (or none) -------------------> multicast
        ^  ^ \\                      |                                       |
        |  |  `-- closes while multicast has copies anyway: no waiting ---->|
        |  +------ it opens --------+                                       |
        +---------------------------------- it opens ----------------------+

Where there is no primary at all the way is multicast or none; where there is no secondary, rallypoint or none.

**Over both for a while.** When a Rallypoint comes back, it comes back to everybody at another moment: clients wait up to half a minute between two attempts. So
for ``settle_s`` from then what is said goes both ways; and if it goes away again within that time, nothing is waited for, and nothing lost. The same
where a datagram was heard over multicast alone: somebody else has no Rallypoint, and is to hear the answer.

**Borders.** A burst goes to its end where it began: ways change between bursts. There are few exceptions. Where none of its ways is open any more, it goes
on where there is one; if something was lost in between, the first datagram there is flagged FIRST, since for those who listen a burst begins. A burst that has run
over multicast alone for ``hold_s`` since the Rallypoint came back goes both ways from then on, and one that still goes both ways so long after nobody needs it
any more, to the Rallypoint. And what is flagged DATA is in no burst.
A burst begins with FIRST, with the first datagram after LAST, and after a second of silence; repeated LASTs belong to the burst that they end.
"""

from enum import StrEnum
from typing import Final

import attrs

from ice.link.frame import Flag
from ice.streams.copies import Path

AFTER_S: Final = 10.0  # multicastFailoverSecs of the original
SETTLE_S: Final = 30.0  # the longest pause between two attempts of a client to reach its Rallypoints
HOLD_S: Final = 10.0  # those whom multicast does not reach have waited long enough for the end of a burst
QUIET_S: Final = 1.0  # longer than any framing, jitter or pause between two words' packets
MAX_BURSTS: Final = 256  # talkers whom one process passes on at one time

BOTH: Final = (Path.PRIMARY, Path.SECONDARY)
NOTHING: Final[tuple[Path, ...]] = ()


class Way(StrEnum):
    """Where what is said goes."""

    RALLYPOINT = "rallypoint"
    MULTICAST = "multicast"
    WAITING = "waiting"
    NONE = "none"


@attrs.define
class FailoverCounts:
    """Since the stream was joined.  Datagrams, unless said otherwise."""

    to_multicast: int = 0  #: changes of the way from a Rallypoint, or from waiting for one, to multicast
    to_rallypoint: int = 0  #: changes of the way to a Rallypoint, the first one included
    mid_burst: int = 0  #: bursts that changed their way before their end
    held: int = 0  #: bursts that stayed on multicast though a Rallypoint had come back
    without_path: int = 0  #: not sent: no way was open, or none took it
    sent_primary: int = 0
    sent_secondary: int = 0
    sent_both: int = 0  #: of these, sent on both
    heard_primary: int = 0  #: given to the receiver
    heard_secondary: int = 0
    copies: int = 0  #: heard on the other path before
    own: int = 0  #: our own, brought back on the other path by somebody
    circular: int = 0  #: not passed on: the stream had carried this datagram before
    receiver_errors: int = 0  #: the receiver raised an exception


@attrs.frozen
class FailoverStatus:
    """How a stream stands; ``since_s`` the way has been what it is, ``primary`` and ``secondary``: open, closed, or not there (None)."""

    stream_id: str
    way: Way
    up: bool
    limited: bool
    both: bool
    why: str
    since_s: float
    primary: bool | None
    secondary: bool | None
    counts: FailoverCounts


@attrs.define
class _Burst:
    """Somebody's burst that runs, or has just ended."""

    ways: tuple[Path, ...]
    at: float
    ended: bool = False
    lost: bool = False
    held: bool = False


@attrs.define
class _Side:
    """One path."""

    there: bool
    since: float
    up: bool = False
    why: str = "not tried yet"


class Failover:
    """See the module's docstring.

    ``name``: what the secondary is called in sentences, as ``multicast 239.1.2.3:20000``; ``instead``: why there is no primary where there should be one.
    All times are seconds.
    """

    def __init__(
        self,
        *,
        primary: bool,
        secondary: bool,
        now: float,
        after_s: float = AFTER_S,
        settle_s: float = SETTLE_S,
        hold_s: float = HOLD_S,
        name: str = "multicast",
        instead: str = "",
    ) -> None:
        self.counts = FailoverCounts()
        #: Where what is said goes.
        self.way = Way.NONE
        #: When that became so.
        self.since = now
        self.after_s = max(0.0, after_s)
        self.settle_s = max(0.0, settle_s)
        self.hold_s = max(0.0, hold_s)
        self.name = name
        self.instead = instead
        self._sides = (_Side(primary, now), _Side(secondary, now))
        self._both_until = float("-inf")
        self._bursts: dict[int | None, _Burst] = {}
        self._decide(now)

    # -- what happens --------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Begin to count here the time in which no Rallypoint answers: the network is started now."""
        for side in self._sides:
            if not side.up:
                side.since = now
        self._decide(now)

    def path(self, path: Path, up: bool, why: str, now: float) -> None:
        """A path has opened or closed."""
        side = self._sides[path]
        side.why = why
        if up is side.up:
            return
        side.up, side.since = up, now
        if path is Path.PRIMARY and up and self.way is Way.MULTICAST:
            self._both_until = now + self.settle_s
        self._decide(now)

    def company(self, at: float) -> None:
        """Somebody was heard over multicast alone at ``at``, while there was a Rallypoint: what we say is to reach them."""
        if self._primary.up and self._primary.since <= at:
            self._both_until = max(self._both_until, at + self.settle_s)

    def explain(self, path: Path, why: str) -> None:
        """Why a path is as it is, in newer words."""
        self._sides[path].why = why

    def turn(self, now: float) -> None:
        """Time has passed; due at :attr:`due`."""
        self._decide(now)

    @property
    def due(self) -> float | None:
        """When the way will change if nothing happens."""
        return self._primary.since + self.after_s if self.way is Way.WAITING else None

    # -- how it stands -------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether what is said goes anywhere."""
        return self.way in (Way.RALLYPOINT, Way.MULTICAST)

    @property
    def limited(self) -> bool:
        """Whether multicast has to do what a Rallypoint should."""
        return self.way is Way.MULTICAST and bool(self._primary.there or self.instead)

    def both(self, now: float) -> bool:
        """Whether the next burst goes both ways."""
        return self._target(now) == BOTH

    def why(self, now: float) -> str:
        """A sentence on how it stands."""
        primary, secondary = self._sides
        silent = f"no Rallypoint has answered for {max(0.0, now - primary.since):.0f} s"
        if self.way is Way.RALLYPOINT or not secondary.there:
            return primary.why
        if not primary.there:
            if self.limited:
                return f"limited connectivity: {self.instead}, talking over {self.name}"
            return secondary.why
        if self.way is Way.MULTICAST:
            return f"limited connectivity: {silent}, talking over {self.name} ({primary.why})"
        if self.way is Way.WAITING:
            rest = max(0.0, primary.since + self.after_s - now)
            return (
                f"no Rallypoint answers ({primary.why}); what is said goes over {self.name} in {rest:.0f} s"
            )
        return f"{silent} ({primary.why}), nor is there a way over {self.name} ({secondary.why})"

    def status(self, stream_id: str, now: float) -> FailoverStatus:
        """All of it as a value."""
        return FailoverStatus(
            stream_id=stream_id,
            way=self.way,
            up=self.up,
            limited=self.limited,
            both=self.both(now),
            why=self.why(now),
            since_s=now - self.since,
            primary=self._primary.up if self._primary.there else None,
            secondary=self._secondary.up if self._secondary.there else None,
            counts=attrs.evolve(self.counts),
        )

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, flags: int, now: float, source: int | None = None) -> tuple[tuple[Path, ...], int]:
        """Where a datagram goes, and with which flags; ``source``: who says it, None for ourselves. Nowhere: it is lost, and the caller counts it."""
        target = self._target(now)
        if flags & Flag.DATA:
            return target, flags
        burst = self._bursts.get(source)
        if burst is None or self._begins(burst, flags, now):
            burst = self._begin_burst(source, target, now)
        elif target and not any(self._sides[path].up for path in burst.ways):
            flags |= Flag.FIRST * burst.lost
            self._change(burst, target)
        elif self._held_enough(burst, now):
            self._change(burst, BOTH)
        elif burst.ways == BOTH != target and target and now - self._both_until >= self.hold_s:
            self._change(burst, target)  # one that never ends
        burst.at = now
        burst.ended = bool(flags & Flag.LAST)
        ways = tuple(path for path in burst.ways if self._sides[path].up)
        burst.lost = not ways
        return ways, flags

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _primary(self) -> _Side:
        return self._sides[Path.PRIMARY]

    @property
    def _secondary(self) -> _Side:
        return self._sides[Path.SECONDARY]

    def _decide(self, now: float) -> None:
        primary, secondary = self._sides
        if primary.there and primary.up:
            way = Way.RALLYPOINT
        elif not (secondary.there and secondary.up):
            way = Way.NONE
        elif (
            not primary.there
            or self.way is Way.MULTICAST
            or now >= primary.since + self.after_s
            or (self.way is Way.RALLYPOINT and now < self._both_until)
        ):
            way = Way.MULTICAST
        else:
            way = Way.WAITING
        if way is not self.way:
            self.counts.to_multicast += way is Way.MULTICAST
            self.counts.to_rallypoint += way is Way.RALLYPOINT
            self.way, self.since = way, now

    def _target(self, now: float) -> tuple[Path, ...]:
        """Where a burst that begins now goes."""
        if self.way is Way.RALLYPOINT:
            both = self._secondary.there and self._secondary.up and now < self._both_until
            return BOTH if both else (Path.PRIMARY,)
        return (Path.SECONDARY,) if self.way is Way.MULTICAST else NOTHING

    def _begins(self, burst: _Burst, flags: int, now: float) -> bool:
        if now - burst.at >= QUIET_S:
            return True
        if burst.ended:
            return not flags & Flag.LAST
        return bool(flags & Flag.FIRST)

    def _begin_burst(self, source: int | None, target: tuple[Path, ...], now: float) -> _Burst:
        bursts = self._bursts
        bursts.pop(source, None)
        if len(bursts) >= MAX_BURSTS:
            del bursts[next(iter(bursts))]  # the one that began first
        burst = bursts[source] = _Burst(target, now)
        return burst

    def _held_enough(self, burst: _Burst, now: float) -> bool:
        """Whether a burst over multicast alone has waited for its end long enough, now that there is a Rallypoint."""
        if self.way is not Way.RALLYPOINT or Path.PRIMARY in burst.ways:
            return False
        self.counts.held += not burst.held
        burst.held = True
        return now - self._primary.since >= self.hold_s

    def _change(self, burst: _Burst, target: tuple[Path, ...]) -> None:
        self.counts.mid_burst += bool(burst.ways)
        burst.ways = target
