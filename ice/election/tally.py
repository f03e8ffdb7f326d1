"""One member's part in the election of its group: an engine.

Ballots and moments go in, decisions come out.  Every input takes two times: ``now``, seconds of a clock that nobody sets and that counts on while the machine is
suspended (``CLOCK_BOOTTIME``), and ``unix_ms``, milliseconds since 1970.  After every input the driver takes :meth:`Tally.acts`, and calls
:meth:`Tally.tick` at :attr:`Tally.deadline`::

    reason = tally.receive(datagram, now, unix_ms)
    for act in tally.acts():
        match act:
            case Send(ballot, copies): ...   # tally.encode(ballot), over each transport; tally.sent(now) when one has taken it
            case Lead(why): ...              # begin to work; the fence is open
            case Yield(why): ...             # stop working; the fence is closed already
            case Changed(): ...              # publish the status

**An election** is held each cycle, then a ballot is sent.  Who holds a valid ballot of another member, has a candidate; the highest votes come first, then the
lowest id; who leads already stays first unless somebody has strictly more votes.  Who has won two in a row, with quorum, leads.  What is out of the cycle:

* After a start the first election is a full cycle away.
* When the leader resigns, everybody holds one at once and another a tenth of a cycle later; a win from then on counts as two.
* Who is named by a majority for the first time need not wait for its next election to know it.
* Who follows a leader holds its elections shortly after the leader's ballots, so that all followers miss a dead leader at the same moment.

**Losing the right.**  What the right to lead rests on is known in advance (:meth:`Tally._right`): the quorum's ballots, the leases of those who name us
(:mod:`ice.election.support`), our own last ballot.  The :class:`~ice.election.fence.Fence` closes shortly before the first of them ends, and
the deadline is then.

**New again.**  A process that slept more than a cycle past its election, whose monotonic clock went back, or whose clock on the wall was set by more than the
tolerance, knows nothing any more of what it may do: it starts as if new.

Facts: "Leader election", and all Decisions on ballots.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import attrs

from ice.election.ballot import Ballot, BallotRefused, Reason, decode, encode
from ice.election.clocks import Clocks, Wrong
from ice.election.decisions import Act, Changed, Held, Lead, Outcome, Send, State, Yield
from ice.election.fence import Fence
from ice.election.rules import (
    FOLLOW_CYCLES,
    HAND_OVER_CYCLES,
    LOSSES,
    SHORT_CYCLE_S,
    WINS,
    Group,
    Quorum,
)
from ice.election.support import Support
from ice.errors import LocalError

NEVER: Final = math.inf
COPIES: Final = 3  # of a resignation: nobody says it again
RESIGNED_VOTES: Final = -1


class Tally:
    """One member of ``group``, ``own_id``, from ``now`` on.

    ``ready``: its daemon can work (its control plane and its Rallypoints reach it); ``stored``: it has a configuration on disk to coast by.
    Raises :class:`~ice.errors.LocalError` where it is no member.
    """

    def __init__(
        self, group: Group, own_id: str, now: float, unix_ms: int, *, ready: bool = True, stored: bool = True
    ) -> None:
        _must_have(group, own_id)
        self.group = group
        self.own_id = own_id
        self.ready = ready
        self.stored = stored
        self.fence = Fence()
        self.counts: Counter[Reason] = Counter()  #: ballots by what became of them
        self.restarts: Counter[str] = Counter()  #: how often we began as if new, by reason
        self.active = False
        self.resigned = False
        self.wins = 0  #: elections won in a row
        self.losses = 0  #: elections lost in a row while leading
        self.outcome = Outcome()
        self.wrong_clock: Wrong | None = None
        self.leader: str | None = None  #: who leads as far as we know
        self.term = 0  #: changes of leader that we have seen
        self.leader_since = now
        self.why = "started"  #: the last time that we began to lead or ceased to
        self._acts: list[Act] = []
        self._said: tuple[object, ...] = ()
        self._newest: dict[str, int] = {}
        self._raw: dict[bytes, str] = {}  # the last ballots that counted, and whose they are
        self._last_ms = 0
        self._now = now
        self._offset = unix_ms / 1_000 - now
        self._begin(now)
        self._say(now, unix_ms)
        self._note(now)

    def _begin(self, now: float) -> None:
        group = self.group
        self._ballots: dict[str, Held] = {}
        self._clocks = Clocks(group)
        self._support = Support(group)
        self._promises: dict[str, float] = {}  # whom we named when, last
        # A leader that is not ready, and our elections that it lost.
        self._coasting: tuple[str, int] = ("", 0)
        self._named: str | None = None
        self._started = self._sent_at = now
        self._followed = -NEVER
        self._first = self._next = now + group.cycle_s
        self._lead_at = NEVER
        self._extra = NEVER
        self._hand_over = (NEVER, -NEVER)
        self.wins = self.losses = 0
        self.outcome = Outcome()
        self.wrong_clock = None

    # -- inputs ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float, unix_ms: int) -> Reason:
        """A datagram came over one of the transports; what became of it, which has been counted."""
        if data in self._raw:
            self.counts[Reason.DUPLICATE] += 1
            return Reason.DUPLICATE
        try:
            ballot = decode(data, self.group.id, self.group.places, self.group.salts)
        except BallotRefused as refusal:
            self.counts[refusal.reason] += 1
            return refusal.reason
        reason = self.hear(ballot, now, unix_ms)
        if reason is Reason.COUNTED:
            self._raw[data] = ballot.id
            if len(self._raw) > len(self.group.members):
                del self._raw[next(iter(self._raw))]
        return reason

    def voter(self, data: bytes) -> str | None:
        """Whose ballot these bytes are, where it counts or did a moment ago."""
        return self._raw.get(data)

    def hear(self, ballot: Ballot, now: float, unix_ms: int) -> Reason:
        """An authentic ballot came; what became of it, which has been counted."""
        if self.resigned:
            reason = Reason.OWN if ballot.id == self.own_id else Reason.EXPIRED
        else:
            self._advance(now, unix_ms)
            reason = self._admit(ballot, now, unix_ms)
        self.counts[reason] += 1
        if reason is Reason.COUNTED:
            self._weigh(ballot, now, unix_ms)
        return reason

    def tick(self, now: float, unix_ms: int) -> None:
        """It is :attr:`deadline`, or later, or earlier: what is due is done."""
        if self.resigned:
            return
        self._advance(now, unix_ms)
        if now >= self._next:
            self._elect(now, unix_ms)
        elif now >= self._lead_at:
            self._lead_at = NEVER
            if self._rank(now)[0] == self.own_id and self._quorum(now) and self._try_to_lead(now, unix_ms):
                self._say(now, unix_ms)
        self._note(now)

    def sent(self, now: float) -> None:
        """A transport has taken our last ballot."""
        self._sent_at = max(self._sent_at, now)
        if self.active:
            self._guard(now, round((now + self._offset) * 1_000))

    def set_ready(self, *, ready: bool, stored: bool) -> None:
        """The daemon can work, or cannot; it is in the next ballot."""
        self.ready, self.stored = ready, stored

    def configure(self, group: Group, now: float, unix_ms: int) -> None:
        """The group has changed: its members, priorities, salts at once; with another cycle or quorum we start as if new."""
        _must_have(group, self.own_id)
        old, self.group = self.group, group
        if self.resigned:
            return
        self._advance(now, unix_ms)
        rules = (old.id, old.cycle_s, old.quorum, old.exclusive)
        if rules != (group.id, group.cycle_s, group.quorum, group.exclusive):
            self._restart("its rules were changed", now, unix_ms)
        self._ballots = {id: held for id, held in self._ballots.items() if id in group.places}
        self._support.keep(group.places)
        if self.active and self.votes < 0:
            self._stand_down("out of service", now, unix_ms, resigning=True)
        elif self.active:
            self._guard(now, unix_ms)
        self._note(now)

    def resign(self, now: float, unix_ms: int) -> None:
        """An orderly stop: this member does not lead from this moment, says so three times, and takes part no more."""
        if self.resigned:
            return
        self._advance(now, unix_ms)
        if self.active:
            self._stand_down("stopping", now, unix_ms, resigning=False)
        self._resignation(now, unix_ms)
        self.resigned = True
        self._note(now)

    def acts(self) -> list[Act]:
        """What is to be done, in this order, since the last call."""
        acts, self._acts = self._acts, []
        return acts

    def encode(self, ballot: Ballot) -> bytes:
        """The bytes of a ballot of ours."""
        return encode(ballot, self.group.salts[0])

    # -- what can be asked -------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is to be called next, by the monotonic clock; never (infinity) after a resignation."""
        if self.resigned:
            return NEVER
        due = min(self._next, self._lead_at)
        return min(due, self.fence.until) if self.active else due

    @property
    def votes(self) -> int:
        """What our ballots say."""
        if self.wrong_clock is not None:  # nobody shall wait for us
            return -self.group.places[self.own_id]
        return self.group.votes_of(self.own_id, ready=self.ready, stored=self.stored)

    @property
    def named(self) -> str | None:
        """Whom our last ballot named."""
        return self._named

    @property
    def state(self) -> State:
        """How we stand, by its documented name."""
        if self.active:
            return State.ACTIVE
        if self.wrong_clock is not None:
            return State.CLOCK_SKEW
        if self.resigned or self.votes < 0:
            return State.OUT_OF_SERVICE
        if not self.outcome.held:
            return State.GETTING_READY
        if not self.outcome.quorum:
            return State.NO_QUORUM
        if self.outcome.first != self.own_id:
            return State.NOT_WINNER if self.outcome.first is not None else State.NO_QUORUM
        return State.GETTING_READY if self.outcome.won else State.NO_QUORUM

    def ballots(self, now: float) -> dict[str, Ballot]:
        """The valid ballots of the others."""
        return {id: held.ballot for id, held in self._ballots.items() if held.expires >= now}

    def differences(self, now: float) -> dict[str, float]:
        """How far each other clock is ahead of ours, seconds."""
        return self._clocks.differences(now)

    # -- time --------------------------------------------------------------------------------------------------------

    def _advance(self, now: float, unix_ms: int) -> None:
        offset = unix_ms / 1_000 - now
        moved, self._offset = offset - self._offset, offset
        if now < self._now:
            self._restart("the monotonic clock went back", now, unix_ms)
        elif abs(moved) > self.group.tolerance_s:
            self._last_ms = 0
            self._newest.clear()  # times that only the old clock found right
            self._raw.clear()
            self._restart(f"the clock was set {moved:+.1f} s", now, unix_ms)
        elif now - self._next > self.group.cycle_s:
            self._restart(f"slept {now - self._next:.1f} s past its election", now, unix_ms)
        self._now = now
        if self.active and not self.fence.allows(now, unix_ms):
            self._stand_down(self._lacking(now), now, unix_ms, resigning=False)

    def _restart(self, why: str, now: float, unix_ms: int) -> None:
        self.restarts["clock" if "clock" in why else "rules" if "rules" in why else "slept"] += 1
        if self.active:
            self._stand_down(why, now, unix_ms, resigning=False)
        self.why = f"started anew: {why}"
        self._begin(now)
        self._say(now, unix_ms)
        self._note(now)

    def _hasten(self, when: float) -> None:
        self._next = min(self._next, max(when, self._first))

    # -- ballots -----------------------------------------------------------------------------------------------------

    def _admit(self, ballot: Ballot, now: float, unix_ms: int) -> Reason:
        if ballot.id == self.own_id:
            return Reason.OWN
        if ballot.id not in self.group.places:
            return Reason.NOT_MEMBER
        newest = self._newest.get(ballot.id, -1)
        if ballot.ms <= newest:
            return Reason.DUPLICATE if ballot.ms == newest else Reason.REPLAY
        group = self.group
        ahead_s = (ballot.ms - unix_ms) / 1_000
        self._clocks.see(ballot.id, ahead_s, now)
        if ahead_s > group.tolerance_s:
            return Reason.FUTURE
        left_s = group.valid_s + ahead_s
        if group.cycle_s < SHORT_CYCLE_S:
            left_s += group.tolerance_s
        if left_s < 0:
            return Reason.EXPIRED
        self._newest[ballot.id] = ballot.ms
        self._ballots[ballot.id] = Held(ballot, now + min(group.valid_s, left_s))
        return Reason.COUNTED

    def _weigh(self, ballot: Ballot, now: float, unix_ms: int) -> None:
        """What a ballot that counts means before our next election."""
        if ballot.resigned:
            self._release(ballot.id, now)
            self._note(now)
            return
        if ballot.named == self.own_id:
            lent = self._support.lend(ballot.id, ballot, now, self._ballots[ballot.id].expires)
            if self.active:
                self._guard(now, unix_ms)
            elif (
                lent
                and self.wins == 0
                and self._named == self.own_id
                and self._named_by(now) >= self.group.required
            ):
                self._hasten(max(now, self._hand_over[0]) if now <= self._hand_over[1] else now)
        elif self.active:
            self._guard(now, unix_ms)
        if self.group.id in ballot.lids:
            if self.active and (-ballot.votes, ballot.id) < (-self.votes, self.own_id):
                self._stand_down(f"{self.group.names[ballot.id]} leads", now, unix_ms, resigning=False)
            elif not self.active and self.wins == 0 and now - self._followed >= self.group.cycle_s / 2:
                self._followed = now
                self._hasten(now + FOLLOW_CYCLES * self.group.cycle_s)
            if self.leader != ballot.id:
                self._note(now)
        elif self.leader == ballot.id:
            self._note(now)

    def _release(self, id: str, now: float) -> None:
        """Somebody has resigned: it counts for nothing any more, and holds nothing that we lent it."""
        del self._ballots[id]
        self._promises.pop(id, None)
        if self.leader != id and self._named != id:
            return
        if self._named == id:
            self._named = None
        soon = now + HAND_OVER_CYCLES * self.group.cycle_s
        self._hand_over = (soon, soon + self.group.cycle_s)
        self._extra = soon
        self._hasten(now)

    def _say(self, now: float, unix_ms: int) -> None:
        group = self.group
        self._last_ms = max(unix_ms, self._last_ms + 1)
        named = self._named if group.names_first else None
        held_ms = heard_ms = 0
        if named is not None:
            since = max([self._started, *(at for id, at in self._promises.items() if id != named)])
            held_ms = int(min(now - since, group.valid_s) * 1_000)
            self._promises[named] = now
            if named == self.own_id:
                heard_ms = self._last_ms
                self._support.lend_ourselves(named, held_ms, now)
            else:
                heard_ms = self._newest.get(named, 0)
        ballot = Ballot(
            self.own_id,
            self.votes,
            self._last_ms,
            (group.id,),
            (group.id,) if self.active else (),
            group.names_first,
            named,
            held_ms,
            heard_ms,
            hears=0 if named is None else self._hears(now),
        )
        self._support.said(self._last_ms, now)
        self._acts.append(Send(ballot))
        if group.quorum is Quorum.NONE:  # the documented rule: alone, one leads
            self._sent_at = now
        if self.active:
            self._guard(now, unix_ms)

    def _resignation(self, now: float, unix_ms: int) -> None:
        self._last_ms = max(unix_ms, self._last_ms + 1)
        self._support.forget()
        self._promises.pop(self.own_id, None)
        self._named = None
        ballot = Ballot(
            self.own_id, RESIGNED_VOTES, self._last_ms, (self.group.id,), names=True, resigned=True
        )
        self._acts.append(Send(ballot, COPIES))

    # -- elections ---------------------------------------------------------------------------------------------------

    def _elect(self, now: float, unix_ms: int) -> None:
        group = self.group
        self._next = now + group.cycle_s
        if self._extra != NEVER:
            if self._extra > now:
                self._next = self._extra
            self._extra = NEVER
        self._ballots = {id: held for id, held in self._ballots.items() if held.expires >= now}
        self.wrong_clock = self._clocks.verdict(now)
        first, leading = self._rank(now)
        self._named = self._nominee(first, leading)
        exclusive = self._exclusive(now)
        named = self._named_by(now)
        quorum = self._quorum(now)
        won = first == self.own_id and quorum and (not exclusive or named >= group.required)
        votes = {id: held.ballot.votes for id, held in self._ballots.items()}
        votes[self.own_id] = self.votes
        self.outcome = Outcome(True, first, quorum, won, named, exclusive, votes)
        if won:
            self.losses = 0
            self.wins += 1
            if self._hand_over[0] <= now <= self._hand_over[1]:
                self.wins = max(self.wins, WINS)
        else:
            self.wins = 0
        self._lead_at = NEVER
        if self.active:
            self._stay(first, now, unix_ms)
        elif self.wins >= WINS and not self._try_to_lead(now, unix_ms) and exclusive:
            begins = self._support.at(group.required, now)
            self._lead_at = begins if begins > now else NEVER
        self._say(now, unix_ms)

    def _stay(self, first: str | None, now: float, unix_ms: int) -> None:
        """Whether we go on leading after an election."""
        if self.votes < 0:
            why = "its clock is wrong" if self.wrong_clock else "out of service"
            self._stand_down(why, now, unix_ms, resigning=True)
        elif first != self.own_id:  # without a quorum the fence has closed before
            self.losses += 1
            if self.losses >= LOSSES:
                assert first is not None
                self._stand_down(f"{self.group.names[first]} won twice", now, unix_ms, resigning=True)

    def _rank(self, now: float) -> tuple[str | None, tuple[int, str] | None]:
        """Who comes first, and who of those that lead already comes first, with its rank; None where there is nobody.

        Where ballots name somebody, who leads gives way only to one that names itself, and so has held an election; and one that
        names itself but hears too few to lead is passed over: it would keep everybody from leading.
        """
        group_id = self.group.id
        best: tuple[int, str] | None = None
        claim: tuple[int, str] | None = None
        leading: tuple[int, str] | None = None
        if (votes := self.votes) >= 0:
            best = (-votes, self.own_id)
            leading = best if self.active else None
        for id, held in self._ballots.items():
            ballot = held.ballot
            if ballot.votes < 0 or held.expires < now:
                continue
            rank = (-ballot.votes, id)
            leads = group_id in ballot.lids
            if ballot.named == id and ballot.hears < self.group.required and not leads:
                continue
            if best is None or rank < best:
                best = rank
            if (claim is None or rank < claim) and (not ballot.names or ballot.named == id):
                claim = rank
            if leads and (leading is None or rank < leading):
                leading = rank
        if leading is None:
            return (best[1] if best else None), None
        if best is not None and best[1] == self.own_id:
            claim = best  # it is for us to make if nobody else does
        return (claim if claim is not None and claim[0] < leading[0] else leading)[1], leading

    def _nominee(self, first: str | None, leading: tuple[int, str] | None) -> str | None:
        """Whom our ballot names: who comes first; but a leader that is not ready until it has lost two of our elections."""
        if self.wrong_clock is not None:
            return None
        if leading is None or leading[0] != 0 or first == leading[1]:
            self._coasting = ("", 0)
            return first
        id = leading[1]
        lost = self._coasting[1] + 1 if self._coasting[0] == id else 1
        self._coasting = (id, lost)
        return id if lost < LOSSES else first

    def _hears(self, now: float) -> int:
        """How many ballots are valid, our own included."""
        return 1 + sum(held.expires >= now for held in self._ballots.values())

    def _quorum(self, now: float) -> bool:
        return self._hears(now) >= self.group.required

    def _exclusive(self, now: float) -> bool:
        """Whether all whom we hear say whom they name, so that majority means a majority that names us."""
        return self.group.names_first and all(
            held.ballot.names for held in self._ballots.values() if held.expires >= now
        )

    def _named_by(self, now: float) -> int:
        """How many name us in their newest valid ballots, ourselves included."""
        others = sum(
            held.ballot.named == self.own_id for held in self._ballots.values() if held.expires >= now
        )
        return others + (self._named == self.own_id)

    # -- leading -----------------------------------------------------------------------------------------------------

    def _right(self, now: float) -> float:
        """Until when we may lead, as things are: ``now`` or earlier where we may not."""
        group = self.group
        grounds = self._sent_at + group.valid_s
        if group.required > 1:
            others = sorted((held.expires for held in self._ballots.values()), reverse=True)
            if len(others) < group.required - 1:
                return now
            grounds = min(grounds, others[group.required - 2])
        if self._exclusive(now):
            grounds = min(grounds, self._support.until(group.required, now))
        return grounds - group.margin_s

    def _lacking(self, now: float) -> str:
        """Which of our grounds for leading ends, or ended, first."""
        group = self.group
        soon = now + group.margin_s
        if 1 + sum(held.expires > soon for held in self._ballots.values()) < group.required:
            return "too few ballots are heard"
        if self._sent_at + group.valid_s <= soon:
            return "no transport took its ballots"
        if self._exclusive(now) and self._support.until(group.required, now) <= soon:
            return "too few members name it"
        return "the right to lead has run out"

    def _guard(self, now: float, unix_ms: int) -> None:
        """Let the fence stand where our right ends."""
        until = self._right(now)
        if until > now:
            self.fence.grant(until, now, unix_ms)
        else:
            self._stand_down(self._lacking(now), now, unix_ms, resigning=False)

    def _try_to_lead(self, now: float, unix_ms: int) -> bool:
        if self.votes < 0 or (until := self._right(now)) <= now:
            return False
        self.active = True
        self.losses = 0
        self.fence.grant(until, now, unix_ms)
        self.why = "nobody led" if self.leader is None else f"more votes than {self.group.names[self.leader]}"
        self._acts.append(Lead(self.why))
        return True

    def _stand_down(self, why: str, now: float, unix_ms: int, *, resigning: bool) -> None:
        """We lead no more, from this moment."""
        self.active = False
        self.fence.revoke()
        self.why = why
        self.wins = self.losses = 0
        self.outcome = attrs.evolve(self.outcome, won=False)
        self._lead_at = NEVER
        self._acts.append(Yield(why))
        if resigning:
            self._resignation(now, unix_ms)
            self._extra = NEVER
            self._hasten(now + HAND_OVER_CYCLES * self.group.cycle_s)
        self._note(now)

    def _note(self, now: float) -> None:
        """Notice who leads, and whether there is something to publish."""
        leader: str | None = self.own_id
        if not self.active:
            ranks = [
                (-held.ballot.votes, id)
                for id, held in self._ballots.items()
                if self.group.id in held.ballot.lids and held.expires >= now
            ]
            leader = min(ranks)[1] if ranks else None
        if leader != self.leader:
            self.leader, self.leader_since = leader, now
            self.term += leader is not None
        # That who leads has won once more is no news.
        said = (self.state, leader, self.outcome, min(self.wins, WINS), self.resigned)
        if said != self._said:
            self._said = said
            self._acts.append(Changed())


def _must_have(group: Group, id: str) -> None:
    if id not in group.places:
        raise LocalError(
            f"{id} is no member of the server group {group.name or group.id}: add it there, or correct our own id"
        )
