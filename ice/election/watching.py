"""Looking at an election from outside: an engine that hears what members say, sends nothing, and tells who leads and why.

Ballots are checked as a member checks them, times included; what a member says of itself (:class:`ice.election.messages.Report`) is shown while its ballots are valid.  Of a member that does not
report, as one of another make, its state is derived from its ballot.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from ice.election.ballot import Ballot, BallotRefused, Reason, decode
from ice.election.decisions import State
from ice.election.messages import Kind, Report, decode_report
from ice.election.rules import Group

OFFLINE: Final = "offline"  # of whom no valid ballot was heard
STOPPED: Final = "stopped"  # who has resigned
NOT_READY: Final = "standby, not ready"


@attrs.frozen
class Row:
    """A member, as it is seen. ``ways``: seconds since it was heard on each; ``clock_s``: how far its clock is ahead of ours."""

    id: str
    name: str
    votes: int | None
    state: str
    leads: bool
    names: str
    ways: dict[str, float]
    clock_s: float | None
    message: str


@attrs.define
class _Member:
    ballot: Ballot | None = None
    heard_at: float = float("-inf")
    clock_s: float | None = None
    report: Report | None = None
    ways: dict[str, float] = attrs.Factory(dict)


class Watching:
    """An observer of ``group``. Time is an argument: ``now`` counts only, ``unix_ms`` is the clock on the wall."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.counts: Counter[str] = Counter()  #: ballots, by what became of them
        self._members = {member.id: _Member() for member in group.members}

    def hear(self, way: str, data: bytes, now: float, unix_ms: int) -> None:
        """A message came on this way."""
        if data[:1] == b"{":
            self._ballot(way, data, now, unix_ms)
        elif data[:1] == bytes([Kind.REPORT]):
            report = decode_report(data)
            if report is not None and report.sender in self._members:
                member = self._members[report.sender]
                if member.report is None or report.ms >= member.report.ms:
                    member.report = report

    def _ballot(self, way: str, data: bytes, now: float, unix_ms: int) -> None:
        group = self.group
        try:
            ballot = decode(data, group.id, group.places, group.salts)
        except BallotRefused as refusal:
            self.counts[refusal.reason] += 1
            return
        member = self._members[ballot.id]
        newest = -1 if member.ballot is None else member.ballot.ms
        if ballot.ms < newest:
            self.counts[Reason.REPLAY] += 1
            return
        member.ways[way] = now
        if ballot.ms == newest:
            self.counts[Reason.DUPLICATE] += 1
            return
        self.counts[Reason.COUNTED] += 1
        member.ballot, member.heard_at = ballot, now
        member.clock_s = (ballot.ms - unix_ms) / 1_000

    def _valid(self, member: _Member, now: float) -> bool:
        return member.ballot is not None and now <= member.heard_at + self.group.valid_s

    def leader(self, now: float) -> str | None:
        """Who leads; the one with the most votes where several say so."""
        leaders = [
            (-member.ballot.votes, id)
            for id, member in self._members.items()
            if member.ballot is not None and self._valid(member, now) and self.group.id in member.ballot.lids
        ]
        return min(leaders)[1] if leaders else None

    def rows(self, now: float) -> list[Row]:
        """All members, in the order of their priority."""
        return [self._row(id, member, now) for id, member in self._members.items()]

    def _row(self, id: str, member: _Member, now: float) -> Row:
        group, ballot, report = self.group, member.ballot, member.report
        ways = {way: now - at for way, at in member.ways.items()}
        if ballot is None or not self._valid(member, now):
            resigned = ballot is not None and ballot.resigned
            last = "" if ballot is None else f"no ballot for {now - member.heard_at:.1f} s"
            return Row(
                id, group.names[id], None, STOPPED if resigned else OFFLINE, False, "", ways, None, last
            )
        leads = group.id in ballot.lids
        if ballot.resigned:
            state, message = STOPPED, "resigned"
        elif report is not None:
            state, message = report.state, report.message
        else:
            state, message = _derived(ballot, leads), ""
        names = "" if ballot.named is None else group.names.get(ballot.named, ballot.named)
        return Row(id, group.names[id], ballot.votes, state, leads, names, ways, member.clock_s, message)

    def summary(self, now: float) -> str:
        """Who leads and why, or why nobody does, in a sentence."""
        group = self.group
        members = [member for member in self._members.values() if self._valid(member, now)]
        heard = [
            member.ballot for member in members if member.ballot is not None and not member.ballot.resigned
        ]
        many = f"{len(heard)} of {len(group.members)} members heard"
        leaders = [ballot.id for ballot in heard if group.id in ballot.lids]
        if len(leaders) > 1:
            said = " and ".join(group.names[id] for id in leaders)
            return f"{said} lead at once, {many}: do they hear each other?"
        if leaders:
            leader = leaders[0]
            report = self._members[leader].report
            why = f": {report.why}" if report is not None and report.active and report.why else ""
            named = sum(ballot.named == leader for ballot in heard)
            names = f", {named} name it" if group.names_first else ""
            return f"{group.names[leader]} leads{why}; {many}{names}"
        if len(heard) < group.required:
            return f"nobody leads: {many}, {group.required} are needed ({group.quorum})"
        if not any(ballot.votes >= 0 for ballot in heard):
            return f"nobody leads: {many}, and none of them may (out of service)"
        if group.names_first:
            counts = Counter(ballot.named for ballot in heard if ballot.named is not None)
            first, most = counts.most_common(1)[0] if counts else ("", 0)
            if most < group.required:
                whom = group.names.get(first, first) or "anybody"
                return f"nobody leads: {most} of {len(group.members)} members name {whom}, {group.required} are needed"
        return f"nobody leads yet: {many}; it takes two elections, a cycle is {group.cycle_s:g} s"


def _derived(ballot: Ballot, leads: bool) -> str:
    if leads:
        return str(State.ACTIVE)
    if ballot.votes < 0:
        return str(State.OUT_OF_SERVICE)
    return NOT_READY if ballot.votes == 0 else "standby"
