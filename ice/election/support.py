"""Who names me: the leases on which a leader of an exclusive majority leads.

A member that names somebody (``for``) in a ballot stands by it for the life of that ballot, two cycles, whatever it says afterwards.  It may name another at
once, but says how long it has named nobody else (``held``), and who is named by it counts on it only when that is two cycles ago: the *lease* begins.  So at
no moment may two count on the same member, and since any two majorities share a member, at no moment may two lead.

All of this is in durations, each of one machine; the one thing that two clocks decide is when a ballot was sent, to know when it ends.  Where a clock is
behind and the ballot was long on its way, a lease seems longer by the less of the two; that is why a leader stops :data:`~ice.election.rules.MARGIN_CYCLES`
early.  And no lease outlives the ballot of ours that it answers (``heard``) by more than :data:`~ice.election.rules.ECHO_CYCLES`, so that, whatever clocks and
networks do, two may lead for no longer than a cycle.

``heard`` must be a ballot that we have sent since we started, or resigned: who has resigned has given back what it was lent, and what was said to it before
counts no more.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ice.election.ballot import Ballot
from ice.election.rules import ECHO_CYCLES, Group

NEVER: Final = math.inf


@attrs.frozen
class Lease:
    """From when, and until when, a member may be counted on."""

    begins: float
    ends: float


class Support:
    """What the members of a group have lent one of them."""

    def __init__(self, group: Group) -> None:
        self._valid_s = group.valid_s
        self._echo_s = ECHO_CYCLES * group.cycle_s
        self._mine: dict[int, float] = {}  # when each of our recent ballots was sent
        self._leases: dict[str, Lease] = {}

    def said(self, ms: int, now: float) -> None:
        """We have sent a ballot with this time stamp."""
        self._mine[ms] = now
        while (oldest := next(iter(self._mine))) != ms and self._mine[oldest] + self._echo_s <= now:
            del self._mine[oldest]

    def lend(self, id: str, ballot: Ballot, now: float, expires: float) -> bool:
        """A valid ballot that names us came; whether it is an answer to one of ours."""
        answered = self._mine.get(ballot.heard_ms)
        if answered is None:
            return False
        self._add(id, now + self._valid_s - ballot.held_ms / 1_000, min(expires, answered + self._echo_s))
        return True

    def lend_ourselves(self, id: str, held_ms: int, now: float) -> None:
        """We name ourselves in the ballot that we send now, having named nobody else for so long."""
        self._add(id, now + self._valid_s - held_ms / 1_000, now + self._valid_s)

    def _add(self, id: str, begins: float, ends: float) -> None:
        old = self._leases.get(id)
        if old is not None and begins <= old.ends:  # it goes on
            begins, ends = min(begins, old.begins), max(ends, old.ends)
        self._leases[id] = Lease(begins, ends)

    def forget(self) -> None:
        """We are new, or have resigned: nothing that was lent, or said to us so far, counts any more."""
        self._mine.clear()
        self._leases.clear()

    def keep(self, members: dict[str, int]) -> None:
        """Only these are members from now on."""
        self._leases = {id: lease for id, lease in self._leases.items() if id in members}

    def until(self, required: int, now: float) -> float:
        """Until when at least so many may be counted on; ``now`` or earlier where there are not so many."""
        ends = sorted((lease.ends for lease in self._leases.values() if lease.begins <= now), reverse=True)
        return ends[required - 1] if len(ends) >= required else now

    def at(self, required: int, now: float) -> float:
        """From when so many may be counted on, as things are; never (infinity) where there will not be so many."""
        begins = sorted(lease.begins for lease in self._leases.values() if lease.ends > now)
        return max(now, begins[required - 1]) if len(begins) >= required else NEVER
