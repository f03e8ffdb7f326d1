"""What a member publishes of itself, and how those who read it judge it.

:func:`report` is the documented JSON, with a few keys of ours under ``details``: ``state`` (the state's documented name, as ``state`` on top says how the election
system is), ``leader``, ``term``, ``wins``, ``named``, ``guarantee``, ``ballots``.  It is published whenever :class:`~ice.election.decisions.Changed` says so, and at least
every :data:`REPUBLISH_S`, so that it never becomes stale.

:func:`judge` is how a reader derives Offline, Stale and Error; it takes reports of the original too, where the state's name may stand on top.

Facts: "Interpreting election results", "Election State Descriptions", "Additional Statuses".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from ice.election.decisions import State
from ice.election.rules import WINS, Quorum
from ice.election.tally import Tally

VERSION: Final = 1
STALE_S: Final = 120.0  # a report older than that says nothing any more
REPUBLISH_S: Final = 60.0  # one of two may be lost
HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"
NOT_RUNNING: Final = "notRunning"


@attrs.frozen
class Transport:
    """How one way for ballots is: ``healthy``, ``unhealthy`` or ``notRunning``, and why."""

    state: str = NOT_RUNNING
    reason: str = ""

    def told(self) -> dict[str, str]:
        """As the report says it."""
        return {"state": self.state, "reason": self.reason} if self.reason else {"state": self.state}


UNUSED: Final = Transport()


def message(tally: Tally) -> str:
    """One line that says why a member is active or stands by."""
    outcome, group = tally.outcome, tally.group
    heard = len(outcome.votes)
    match tally.state:
        case State.ACTIVE:
            return f"ACTIVE: Leading since it won {WINS} consecutive elections; ballots received from {max(heard, 1)} of {len(group.members)} members."
        case State.CLOCK_SKEW:
            wrong = tally.wrong_clock
            assert wrong is not None
            direction = "behind" if wrong.ahead_s > 0 else "ahead of"
            return (
                f"CLOCK SKEW: This clock is {abs(wrong.ahead_s):.1f} s {direction} that of {wrong.others} other members, who agree with each other; "
                "set it right (NTP)."
            )
        case State.OUT_OF_SERVICE:
            if tally.resigned:
                return "OUT OF SERVICE: Stopped."
            if tally.own_id in group.disabled:
                return "OUT OF SERVICE: Disabled by the administrator."
            return "OUT OF SERVICE: Not ready, and there is no stored configuration to work by."
        case State.GETTING_READY:
            if not outcome.held:
                return f"GETTING READY: The first election is {group.cycle_s:g} s after the start."
            return (
                f"GETTING READY: Waiting to win {WINS} consecutive elections (won {tally.wins} so far)."
                if tally.wins < WINS
                else f"GETTING READY: Won {WINS} consecutive elections; waiting until what members said of others has expired."
            )
        case State.NOT_WINNER:
            first = tally.leader or outcome.first
            return f"STANDBY: Ballots received from {heard} candidates. Leading server: {first}"
        case State.NO_QUORUM:
            if not outcome.quorum or not outcome.exclusive:
                found = f"ballots received from {heard} of {len(group.members)} members, {group.required} are needed"
            elif outcome.named >= group.required:
                found = tally.why
            elif outcome.first is None:
                found = "no member that was heard may lead"
            else:
                found = f"{outcome.named} of {len(group.members)} members name this one first, {group.required} are needed (are some heard by others only?)"
            return f"STANDBY: Quorum not achieved; {found}; leader will not be elected"


def guarantee(tally: Tally) -> str:
    """What the group's rule promises as things are, in a sentence."""
    group = tally.group
    if group.quorum is Quorum.NONE:
        return "none: whoever hears nobody leads; parts of a divided group each have a leader"
    if group.quorum is Quorum.N_MINUS_1:
        if len(group.members) <= 2:
            return "n-1: with two members as none: each leads that does not hear the other"
        return "n-1: parts of a divided group have one leader at most; members that hear others but are not heard may lead too"
    if not group.exclusive:
        return "majority, documented rule: parts of a divided group have one leader at most; where some hear others but are not heard, two may lead"
    if tally.outcome.held and not tally.outcome.exclusive:
        return (
            "majority, documented rule, since some ballots do not say whom they name: "
            "where some hear others but are not heard, two may lead"
        )
    return f"majority that names its leader: two never lead while clocks, or delays, differ by less than {group.margin_s:g} s"


def report(
    tally: Tally, now: float, unix_ms: int, rallypoint: Transport = UNUSED, multicast: Transport = UNUSED
) -> dict[str, Any]:
    """The member's status as a JSON object, in the documented order."""
    group, outcome = tally.group, tally.outcome
    carried = HEALTHY in (rallypoint.state, multicast.state)
    healthy = carried and tally.wrong_clock is None
    return {
        "version": VERSION,
        "state": HEALTHY if healthy else UNHEALTHY,
        "active": tally.active,
        "updatedMs": unix_ms,
        "details": {
            "message": message(tally),
            "httpStatus": {"state": NOT_RUNNING},
            "igmpStatus": multicast.told(),
            "rpStatus": rallypoint.told(),
            "won": {group.id: outcome.won},
            "elected": {group.id: tally.active},
            "quorum": {group.id: outcome.quorum},
            "votes": {group.id: dict(outcome.votes) or {tally.own_id: tally.votes}},
            "state": str(tally.state),
            "leader": tally.leader,
            "leaderSinceS": round(now - tally.leader_since, 3),
            "term": tally.term,
            "wins": tally.wins,
            "named": outcome.named,
            "why": tally.why,
            "guarantee": guarantee(tally),
            "clocks": {id: round(ahead, 3) for id, ahead in tally.differences(now).items()},
            "ballots": {str(reason): count for reason, count in sorted(tally.counts.items())},
        },
    }


class Shown(StrEnum):
    """What a reader shows of a member."""

    ACTIVE = "Active"
    STANDBY = "Standby"
    OFFLINE = "Offline"
    STALE = "Stale"
    ERROR = "Error"


COLOURS: Final = {
    Shown.ACTIVE: "green",
    Shown.STANDBY: "yellow",
    Shown.OFFLINE: "red",
    Shown.STALE: "yellow",
    Shown.ERROR: "red",
}


_STATES: Final = [HEALTHY, UNHEALTHY, *map(str, State)]


def judge(report: object, unix_ms: int, *, connected: bool = True) -> Shown:
    """What to show of a member whose last report this is (None: there was none), when it is ``connected`` to its control plane or is not.

    Offline goes before all: nobody can say anything. A report that is none is an Error; one of over two minutes, or so far from the
    future, is Stale whatever it says; then its own word counts.
    """
    if not connected:
        return Shown.OFFLINE
    if not isinstance(report, Mapping):
        return Shown.ERROR
    state, active, updated = report.get("state"), report.get("active"), report.get("updatedMs")
    if state not in _STATES or not isinstance(active, bool) or type(updated) is not int:
        return Shown.ERROR
    if abs(unix_ms - updated) > STALE_S * 1_000:
        return Shown.STALE
    if state in (UNHEALTHY, str(State.CLOCK_SKEW)):
        return Shown.ERROR
    return Shown.ACTIVE if active else Shown.STANDBY
