"""Which links a network keeps, makes and gives up: the roster's advice applied to one home or two, without I/O.

A **home** is a link that stands and is in use.  An ordinary network has one; a *dual-homed* one keeps two, at two different Rallypoints, says
everything on both and hears each datagram once, so that the death of one Rallypoint loses nothing.  The driver reports what happens to its links and does
what it is told::

    homes.step(now)      Dial(address, probe), or Wait(until): begin the link and report it with homes.began
    homes.opened(…)      WELCOME came: what the link is now, and which links to leave
    homes.ended(…)       what the link was, and which other has taken its place
    homes.move(now)      the candidate takes the place of the worst home, which is to be left

**Racing.**  An address that swallows packets must not cost the time-out of an attempt.  Where TCP does not stand after 250 ms (RFC 8305 section 5), or
WELCOME has not come 750 ms after dialling (somebody is there, and busy or far away), the next address is dialled beside it.  The first WELCOME
wins and the others are left.  All go on until their own time-out, so a long way that needs two seconds is waited for like before.

**Two homes are two Rallypoints.**  Two addresses may lead to one Rallypoint, by a virtual address or a balancer.  The id in WELCOME tells; the second link to the same is
left, its address rests, and another way is tried.

**The candidate** (strategy ``fail-back``) is a link to a better address than that of the worst home: a probe, or an attempt that was overtaken by a
worse address.  It takes over when the driver finds that nothing is lost by it; where a home is lost meanwhile, it takes its place at once.
"""

from enum import Enum
from typing import Generic, Protocol, TypeVar

import attrs

from ice.net.addresses import Address
from ice.streams.roster import Roster, Try, Wait

LATE_S = 0.25  # without TCP: RFC 8305 section 8, "Connection Attempt Delay"
LATE_ANSWERED_S = 0.75  # without WELCOME: TCP and TLS over a satellite take longer, a hall of newcomers too
MAX_HOMES = 2
OVERTAKEN = "another way was quicker"
HERE_ALREADY = "we are at this Rallypoint already"


class Line(Protocol):
    """What is asked of a link, in whatever state."""

    @property
    def address(self) -> Address:
        """Where it was dialled."""

    @property
    def begun_at(self) -> float:
        """When."""

    @property
    def answered(self) -> bool:
        """Whether anything has answered there: TCP stands."""

    @property
    def open(self) -> bool:
        """Whether WELCOME has come, and not the end."""

    @property
    def far_id(self) -> str:
        """The UUID in WELCOME, else ``""``."""


L = TypeVar("L", bound=Line)


@attrs.frozen
class Dial:
    """Dial this address now, as a probe or to fill a place."""

    address: Address
    probe: bool


class Place(Enum):
    """What a link is to the network."""

    NONE = "none"  #: left, or never ours
    ATTEMPT = "attempt"
    CANDIDATE = "candidate"
    HOME = "home"
    SAME = "same"  #: it leads to a Rallypoint where we have a home already


@attrs.frozen
class Outcome(Generic[L]):
    """What has become of a link, and of others by it."""

    place: Place
    promoted: L | None = None  #: a candidate that is a home now
    leave: tuple[L, ...] = ()  #: links that nobody needs any more
    why: str = ""  #: what to tell them


class Homes(Generic[L]):
    """See the module's docstring."""

    def __init__(self, roster: Roster, wanted: int = 1) -> None:
        """``wanted``: how many homes to keep, 1 or 2."""
        if not 1 <= wanted <= MAX_HOMES:
            raise ValueError(f"a network keeps 1 or {MAX_HOMES} homes, not {wanted}")
        self.roster = roster
        self.wanted = wanted
        #: The homes, in the order in which their places were filled.
        self.standing: list[L] = []
        self.attempts: list[L] = []
        self.candidate: L | None = None
        self.raced = 0  #: attempts made because an earlier one was late
        self.same = 0  #: links that led to where we were already

    @property
    def vacant(self) -> int:
        """How many homes are missing."""
        return max(0, self.wanted - len(self.standing))

    @property
    def worst(self) -> L | None:
        """The home that a better address would replace."""
        return max(self.standing, key=lambda line: self.roster.rank(line.address), default=None)

    @property
    def busy(self) -> set[Address]:
        """Addresses that are being dialled."""
        lines = self.attempts if self.candidate is None else [*self.attempts, self.candidate]
        return {line.address for line in lines}

    def place(self, line: L) -> Place:
        """What ``line`` is now."""
        if line in self.standing:
            return Place.HOME
        if line in self.attempts:
            return Place.ATTEMPT
        return Place.CANDIDATE if line is self.candidate else Place.NONE

    # -- what to do ----------------------------------------------------------------------------------------------------

    def step(self, now: float) -> Dial | Wait:
        """What to do now; ask again after each :class:`Dial`."""
        vacant = self.vacant
        if vacant:
            late_at = [at for line in self.attempts if (at := _late_at(line)) > now]
            if len(late_at) >= vacant:
                return Wait(min(late_at), self.roster.why)
            step = self.roster.next(now, self.busy)
            if isinstance(step, Try):
                self.raced += len(self.attempts) > len(late_at)
                return Dial(step.address, probe=False)
            return step
        if self.candidate is None:
            better = self.roster.better(now, self.busy)
            if better is not None:
                return Dial(better, probe=True)
        return Wait(float("inf"), self.roster.why)

    def began(self, line: L, dial: Dial) -> None:
        """The driver is dialling as it was told."""
        if dial.probe:
            self.candidate = line
        else:
            self.attempts.append(line)

    # -- what happens --------------------------------------------------------------------------------------------------

    def opened(self, line: L, now: float, wall_s: float = 0.0) -> Outcome[L]:
        """WELCOME came on ``line``."""
        place = self.place(line)
        if place not in (Place.ATTEMPT, Place.CANDIDATE):
            return Outcome(place, leave=(line,) if place is Place.NONE else (), why=OVERTAKEN)
        if self._is_same(line, instead_of=None if self.vacant else self.worst):
            self._drop(line)
            self.same += 1
            self.roster.same(line.address, now)
            return Outcome(Place.SAME, leave=(line,), why=HERE_ALREADY)
        if not self.vacant:
            return Outcome(place)
        self._settle(line, now, wall_s)
        return Outcome(Place.HOME, leave=self._overtaken(now), why=OVERTAKEN)

    def ended(
        self,
        line: L,
        now: float,
        *,
        code: str,
        why: str,
        retry_after_s: float | None = None,
        alternatives: tuple[str, ...] = (),
        wall_s: float = 0.0,
    ) -> Outcome[L]:
        """``line`` has ended, or never came to be."""
        place = self.place(line)
        if place is Place.NONE:
            return Outcome(place)
        self._drop(line)
        self.roster.ended(
            line.address,
            now,
            code=code,
            why=why,
            retry_after_s=retry_after_s,
            alternatives=alternatives,
            wall_s=wall_s,
        )
        candidate = self.candidate
        if not self.vacant or candidate is None:
            return Outcome(place)
        self.candidate = None
        if not candidate.open:
            self.attempts.append(candidate)
            return Outcome(place)
        if self._is_same(candidate, instead_of=None):
            self.roster.same(candidate.address, now)
            return Outcome(place, leave=(candidate,), why=HERE_ALREADY)
        self._settle(candidate, now, wall_s)
        return Outcome(place, promoted=candidate)

    def move(self, now: float, wall_s: float = 0.0) -> L | None:
        """The candidate takes the place of the worst home, which is given: leave it."""
        old, new = self.worst, self.candidate
        if old is None or new is None:
            return None
        self.candidate = None
        self.standing[self.standing.index(old)] = new
        self.roster.left(old.address)
        self.roster.opened(new.address, now, wall_s)
        return old

    def clear(self) -> None:
        """Everything was left."""
        self.standing.clear()
        self.attempts.clear()
        self.candidate = None
        self.roster.restart()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_same(self, line: L, *, instead_of: L | None) -> bool:
        return any(
            home.far_id == line.far_id
            for home in self.standing
            if home is not instead_of and home is not line
        )

    def _settle(self, line: L, now: float, wall_s: float) -> None:
        self._drop(line)
        self.standing.append(line)
        self.roster.opened(line.address, now, wall_s)

    def _overtaken(self, now: float) -> tuple[L, ...]:
        """The attempts that nobody needs any more; one to a better address goes on as the candidate."""
        worst = self.worst
        if self.vacant or worst is None:
            return ()
        better = [line for line in self.attempts if self.roster.outranks(line.address, worst.address)]
        if better and self.candidate is None:
            self.candidate = min(better, key=lambda line: self.roster.rank(line.address))
            self.roster.probe(self.candidate.address, now)
        leave = tuple(line for line in self.attempts if line is not self.candidate)
        self.attempts.clear()
        return leave

    def _drop(self, line: L) -> None:
        if line in self.standing:
            self.standing.remove(line)
        if line in self.attempts:
            self.attempts.remove(line)
        if line is self.candidate:
            self.candidate = None


def _late_at(line: Line) -> float:
    return line.begun_at + (LATE_ANSWERED_S if line.answered else LATE_S)
