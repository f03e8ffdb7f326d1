"""One member's tally, told by hand: what counts, who comes first, what it becomes."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import Ballot, Reason, encode
from ice.election.decisions import Act, Lead, Send, State, Yield
from ice.election.rules import Group, Quorum
from ice.election.status import guarantee, message
from ice.election.tally import Tally
from ice.errors import LocalError
from tests.unit.election.groups import GROUP_ID, MS, SALT, group, with_members

START = 5_000.0  # the monotonic clock when it all begins


class Told:
    """A member of a group to whom everything is told by hand; time is in cycles since its start."""

    def __init__(self, own: str = "a", of: Group | None = None, **options: Any) -> None:
        self.group = of or group()
        self.cycles = 0.0
        self.skew_s = 0.0
        self.tally = Tally(self.group, own, START, MS, **options)
        self.done: list[Act] = []
        self.collect()

    @property
    def now(self) -> float:
        return START + self.cycles * self.group.cycle_s

    @property
    def unix_ms(self) -> int:
        return MS + round((self.cycles * self.group.cycle_s + self.skew_s) * 1_000)

    def collect(self) -> None:
        for act in self.tally.acts():
            if isinstance(act, Send):
                self.tally.sent(self.now)
            self.done.append(act)

    def to(self, cycles: float) -> "Told":
        """Let time pass until then, and do what is due."""
        goal = START + cycles * self.group.cycle_s
        while self.tally.deadline <= goal:
            self.cycles = max(self.cycles, (self.tally.deadline - START) / self.group.cycle_s)
            self.tally.tick(max(self.now, self.tally.deadline), self.unix_ms)
            self.collect()
        self.cycles = cycles
        return self

    def ballot(self, id: str, votes: int | None = None, *, age_s: float = 0.0, **fields: Any) -> Ballot:
        """A ballot of another member, sent so long ago; one that names us answers our last."""
        made = Ballot(
            id,
            self.group.places[id] if votes is None else votes,
            self.unix_ms - round(age_s * 1_000),
            (GROUP_ID,),
            names=self.group.names_first,
        )
        if fields.pop("leads", False):
            fields["lids"] = (GROUP_ID,)
        if fields.get("named"):
            fields.setdefault("held_ms", int(self.group.valid_s * 1_000))
            fields.setdefault("heard_ms", self.sent[-1].ms)
            fields.setdefault("hears", len(self.group.members))
        return attrs.evolve(made, **fields)

    def hear(self, id: str, votes: int | None = None, **fields: Any) -> Reason:
        reason = self.tally.hear(self.ballot(id, votes, **fields), self.now, self.unix_ms)
        self.collect()
        return reason

    def through(self, cycles: float, *said: dict[str, Any]) -> "Told":
        """Every tenth of a cycle until then these ballots are heard anew."""
        while self.cycles < cycles - 1e-9:
            for each in said:
                self.hear(**each)
            self.to(round(self.cycles + 0.1, 6))
        return self

    @property
    def sent(self) -> list[Ballot]:
        return [act.ballot for act in self.done if isinstance(act, Send)]

    @property
    def turns(self) -> list[str]:
        """When it began to lead and ceased to, in words."""
        return [type(act).__name__ for act in self.done if isinstance(act, Lead | Yield)]


class WhatCounts(SynchronousTestCase):
    def test_twice(self) -> None:
        """A ballot that comes twice changes nothing the second time; an older one is a replay."""
        told = Told().to(0.5)
        ballot = told.ballot("b")
        older = told.ballot("b", age_s=1)
        self.assertEqual(told.tally.hear(ballot, told.now, told.unix_ms), Reason.COUNTED)
        before = told.tally.ballots(told.now)
        for again, reason in ((ballot, Reason.DUPLICATE), (older, Reason.REPLAY), (ballot, Reason.DUPLICATE)):
            self.assertEqual(told.tally.hear(again, told.now, told.unix_ms), reason)
            self.assertEqual(told.tally.ballots(told.now), before)
        self.assertEqual(told.tally.counts, {Reason.COUNTED: 1, Reason.DUPLICATE: 2, Reason.REPLAY: 1})

    def test_bytes(self) -> None:
        """Bytes that come again, by the other transport, are not even read; what is refused is counted by its reason."""
        told = Told()
        data = encode(told.ballot("b"), SALT)
        forged = data[:-1] + b" }"
        for each, reason in (
            (data, Reason.COUNTED), (data, Reason.DUPLICATE), (forged, Reason.DUPLICATE), (data[:-1], Reason.JSON),
            (encode(told.ballot("c"), b"salt"), Reason.HMAC),
            (encode(attrs.evolve(told.ballot("c"), id="stranger"), SALT), Reason.NOT_MEMBER),
            (encode(attrs.evolve(told.ballot("c"), rids=("other",)), SALT), Reason.WRONG_GROUP),
            (told.tally.encode(told.sent[0]), Reason.OWN),
        ):  # fmt: skip
            self.assertEqual(told.tally.receive(each, told.now, told.unix_ms), reason)
        self.assertEqual(sum(told.tally.counts.values()), 8)
        self.assertEqual(list(told.tally.ballots(told.now)), ["b"])

    def test_age(self) -> None:
        """A ballot is valid for two cycles from its time stamp, inclusive; clocks may differ by half a cycle."""
        for age_s, reason in (
            (-5.0, Reason.COUNTED),
            (-5.001, Reason.FUTURE),
            (20.0, Reason.COUNTED),
            (20.001, Reason.EXPIRED),
        ):
            self.assertEqual(Told().hear("b", age_s=age_s), reason, age_s)
        told = Told()
        told.hear("b", age_s=5.0)
        told.hear("c", age_s=-5.0)  # by its own clock 25 s; by receipt 20
        self.assertEqual(set(told.tally.ballots(START + 15.0)), {"b", "c"})
        self.assertEqual(set(told.tally.ballots(START + 15.001)), {"c"})
        self.assertEqual(set(told.tally.ballots(START + 20.001)), set())

    def test_age_in_short_cycles(self) -> None:
        """Under two seconds age counts from the receipt, but no time stamp holds for longer than the tolerance beyond."""
        fast = group(cycle_s=0.1)
        for age_s, reason in (
            (-0.5, Reason.COUNTED),
            (-0.501, Reason.FUTURE),
            (0.7, Reason.COUNTED),
            (0.701, Reason.EXPIRED),
        ):
            self.assertEqual(Told(of=fast).hear("b", age_s=age_s), reason, age_s)
        told = Told(of=fast)
        told.hear("b", age_s=0.4)
        told.hear("c", age_s=0.6)
        self.assertEqual(set(told.tally.ballots(START + 0.1)), {"b", "c"})
        self.assertEqual(set(told.tally.ballots(START + 0.2)), {"b"})

    def test_stranger(self) -> None:
        """Who is no member has no tally, and its ballots count nothing."""
        self.assertRaises(LocalError, Told, "z")
        self.assertEqual(Told().tally.hear(Ballot("z", 9, MS, (GROUP_ID,)), START, MS), Reason.NOT_MEMBER)


class Winning(SynchronousTestCase):
    def test_first_election(self) -> None:
        """A ballot goes out at once, the first election is a full cycle after the start, and two are to be won."""
        told = Told(of=group(1))
        self.assertEqual((len(told.sent), told.sent[0].named, told.sent[0].votes), (1, None, 1))
        self.assertEqual(told.to(0.999).tally.state, State.GETTING_READY)
        self.assertEqual(len(told.sent), 1)
        told.to(1)
        self.assertEqual(
            message(told.tally), "GETTING READY: Waiting to win 2 consecutive elections (won 1 so far)."
        )
        self.assertEqual((told.tally.state, told.tally.active), (State.GETTING_READY, False))
        told.to(2)
        self.assertEqual((told.tally.state, told.tally.active), (State.ACTIVE, True))
        self.assertEqual((told.turns, told.sent[-1].lids), (["Lead"], (GROUP_ID,)))

    def test_not_winner(self) -> None:
        """Who hears more votes stands by, and says who leads."""
        told = Told("b").through(3, {"id": "a", "leads": True})
        self.assertEqual(told.tally.state, State.NOT_WINNER)
        self.assertEqual(
            message(told.tally), "STANDBY: Ballots received from 2 candidates. Leading server: a"
        )
        self.assertEqual((told.tally.leader, told.tally.term, told.turns), ("a", 1, []))

    def test_ties(self) -> None:
        """Among equal votes the lowest id comes first; who leads stays first among equals, but not against more votes."""
        open_to_all = group(3, Quorum.NONE)
        for votes, leads, first in ((3, False, "a"), (4, False, "c"), (3, True, "c"), (2, True, "a")):
            told = Told("a", open_to_all).through(2.5, {"id": "c", "votes": votes, "leads": leads})
            self.assertEqual(told.tally.outcome.first, first, (votes, leads))
            self.assertEqual(told.tally.active, first == "a")
        told = Told("c", open_to_all, ready=False).through(3, {"id": "b", "votes": 0})
        self.assertEqual(told.tally.outcome.first, "b")

    def test_quorum_resets(self) -> None:
        """A win without quorum is none, and the count begins anew."""
        told = Told("a", group(3, exclusive=False))
        told.hear("b", age_s=1.0)
        self.assertEqual(told.to(1.05).tally.wins, 1)
        told.to(2.05)
        self.assertEqual((told.tally.wins, told.tally.state), (0, State.NO_QUORUM))
        self.assertIn("1 of 3 members, 2 are needed; leader will not be elected", message(told.tally))
        told.through(3.05, {"id": "b"})
        self.assertEqual((told.tally.wins, told.turns), (1, []))
        self.assertTrue(told.through(4.05, {"id": "b"}).tally.active)

    def test_out_of_service_counts(self) -> None:
        """Who is disabled counts to the quorum, and never leads."""
        told = Told("a", group(3, exclusive=False)).through(2.5, {"id": "b", "votes": -2})
        self.assertTrue(told.tally.active)
        self.assertEqual(told.tally.outcome.votes, {"a": 3, "b": -2})
        off = Told("a", with_members(group(3, Quorum.NONE), "abc", disabled="a")).to(5)
        self.assertEqual((off.tally.state, off.turns, off.sent[-1].votes), (State.OUT_OF_SERVICE, [], -3))
        self.assertIn("Disabled", message(off.tally))

    def test_nothing_to_work_by(self) -> None:
        """Not ready with a stored configuration: 0 votes, and it may lead where nobody is ready; without one: never."""
        for stored, votes, active in ((True, 0, True), (False, -3, False)):
            told = Told("a", group(3, exclusive=False), ready=False, stored=stored).through(
                3, {"id": "b", "votes": 0}
            )
            self.assertEqual((told.sent[-1].votes, told.tally.active), (votes, active))
        self.assertIn("no stored configuration", message(told.tally))

    def test_last_member(self) -> None:
        """Alone, a member leads without a quorum or as one of two with N minus 1; not under majority."""
        for quorum, size, active in (
            (Quorum.NONE, 5, True), (Quorum.N_MINUS_1, 2, True), (Quorum.N_MINUS_1, 3, False), (Quorum.MAJORITY, 2, False),
        ):  # fmt: skip
            self.assertEqual(Told("b" if size > 1 else "a", group(size, quorum)).to(4).tally.active, active)


class OutOfService(SynchronousTestCase):
    def test_nobody_may(self) -> None:
        """Who is out of service comes first for nobody, not even where nobody else is there, nor for itself; it is counted to the quorum."""
        of = with_members(group(), "abc", disabled="a")
        for quorum in Quorum:
            told = Told("a", attrs.evolve(of, quorum=quorum))
            told.through(3, {"id": "b", "votes": -2}, {"id": "c", "votes": -1, "leads": True})
            self.assertEqual((told.tally.outcome.first, told.sent[-1].named, told.turns), (None, None, []))
            self.assertEqual((told.tally.outcome.quorum, told.tally.state), (True, State.OUT_OF_SERVICE))
            self.assertEqual(told.tally.outcome.votes, {"a": -3, "b": -2, "c": -1})


class Naming(SynchronousTestCase):
    NAMED: dict[str, Any] = {"id": "b", "named": "a"}  # noqa: RUF012

    def leading(self) -> Told:
        told = Told().through(2.5, self.NAMED)
        self.assertTrue(told.tally.active)
        return told

    def test_named(self) -> None:
        """With a majority that names it a member leads; it says whom it names itself, and for how long."""
        told = self.leading()
        self.assertTrue(told.tally.outcome.exclusive)
        self.assertEqual((told.sent[-1].named, told.sent[-1].held_ms), ("a", 20_000))

    def test_not_named(self) -> None:
        """First in its own eyes, named by itself alone: no leader, and the status says why."""
        told = Told().through(4, {"id": "b", "named": "c"}, {"id": "c", "named": "b"})
        self.assertEqual((told.tally.state, told.turns), (State.NO_QUORUM, []))
        self.assertIn("1 of 3 members name this one first, 2 are needed", message(told.tally))

    def test_held_too_short(self) -> None:
        """Who has named another lately is counted on only when that is two cycles ago."""
        told = Told().to(1.1)
        for tenths in range(11, 32):
            told.hear("b", named="a", held_ms=round((told.cycles - 1.1) * 10_000))  # it named another at 1.1
            told.to(tenths / 10 + 0.01)
            self.assertEqual(told.tally.active, told.cycles >= 3.1, told.cycles)
        leads = next(place for place, act in enumerate(told.done) if isinstance(act, Lead))
        claim = next(act.ballot for act in told.done[leads:] if isinstance(act, Send))
        self.assertEqual((claim.ms, claim.lids), (MS + 31_000, (GROUP_ID,)))

    def test_held_by_itself(self) -> None:
        """Who has started anew may have lent itself to another just before: it counts on itself after two cycles only, whatever haste there is."""
        told = Told().through(1.2, {"id": "b", "named": "b", "leads": True}, {"id": "c", "named": "b"})
        self.assertEqual(told.sent[-1].named, "a")
        told.hear("b", -1, resigned=True)
        for tenths in range(12, 23):
            told.to(tenths / 10 + 0.01)
            told.hear("c", named="a")
            self.assertEqual(told.tally.active, told.cycles >= 2, told.cycles)
        self.assertEqual(told.tally.wins, 2)

    def test_answer_to_nothing(self) -> None:
        """A ballot that names us, but answers none of ours since we started, lends us nothing."""
        told = Told().through(4, {"id": "b", "named": "a", "heard_ms": MS - 1})
        self.assertEqual((told.turns, told.tally.outcome.named), ([], 2))

    def test_ends_early(self) -> None:
        """Silence of the others ends the right a tenth of a cycle before their ballots do, without any election."""
        told = self.leading()
        told.hear(**self.NAMED)
        self.assertAlmostEqual(told.tally.fence.until, START + 39.0)  # its own last ballot went out at 20
        told.to(3.5)
        until = told.tally.fence.until
        self.assertAlmostEqual(until, START + 25.0 + 19.0)
        told.to((until - START) / 10)
        self.assertEqual((told.turns, told.tally.state), (["Lead", "Yield"], State.NO_QUORUM))
        self.assertEqual(told.tally.why, "too few ballots are heard")
        self.assertFalse(told.tally.fence.allows(until, told.unix_ms))

    def test_mixed(self) -> None:
        """Where a ballot names nobody because its sender does not know how, the documented rule holds, and status says so."""
        told = Told().through(2.5, {"id": "b", "named": "c"}, {"id": "c", "votes": 1, "names": False})
        self.assertTrue(told.tally.active)
        self.assertFalse(told.tally.outcome.exclusive)
        self.assertIn("documented rule, since some ballots", guarantee(told.tally))
        told.through(5.5, {"id": "b", "named": "c"})
        self.assertEqual(told.turns, ["Lead", "Yield"])
        self.assertIn("two never lead", guarantee(told.tally))

    def test_newcomer(self) -> None:
        """Who leads is named until a better one has held its first election, and names itself."""
        told = Told("c").through(3, {"id": "b", "leads": True}, {"id": "a"})
        self.assertEqual(told.sent[-1].named, "b")
        told.through(4.2, {"id": "b", "leads": True}, {"id": "a", "named": "a"})
        self.assertEqual(told.sent[-1].named, "a")
        self.assertLess(told.sent[-1].held_ms, 20_000)

    def test_coasting_leader(self) -> None:
        """A leader that is not ready goes on being named until it has lost two of our elections."""
        told = Told("c", ready=False).through(2, {"id": "a", "votes": 0, "leads": True})
        self.assertEqual(told.sent[-1].named, "a")
        at = len(told.sent)
        told.through(6, {"id": "a", "votes": 0, "leads": True}, {"id": "b", "named": "b"})
        self.assertEqual([each.named for each in told.sent[at : at + 3]], ["a", "b", "b"])


class Yielding(SynchronousTestCase):
    OPEN = group(3, Quorum.NONE)

    def test_claim(self) -> None:
        """A leader that hears a better one's claim yields at once; a worse one's claim it ignores."""
        told = Told("b", self.OPEN).to(2.5)
        told.hear("c", leads=True)
        self.assertTrue(told.tally.active)
        told.hear("a", leads=True)
        self.assertEqual((told.turns, told.tally.leader, told.tally.why), (["Lead", "Yield"], "a", "A leads"))

    def test_two_losses(self) -> None:
        """Without a claim it yields when it has lost two in a row, and says so, so that others need not wait."""
        told = Told("b", self.OPEN).to(2.5)
        told.through(3.1, {"id": "a"})
        self.assertTrue(told.tally.active)
        told.through(4.1, {"id": "a"})
        self.assertEqual(told.turns, ["Lead", "Yield"])
        self.assertTrue(any(each.resigned and each.votes == -1 for each in told.sent))
        self.assertEqual(told.tally.why, "A won twice")

    def test_one_loss(self) -> None:
        """One lost election is forgiven."""
        told = Told("b", self.OPEN).to(2.05)
        told.hear("a", age_s=9.9)
        told.to(6)
        self.assertEqual(told.turns, ["Lead"])

    def test_disabled(self) -> None:
        """A leader that is disabled yields at once."""
        told = Told("a", self.OPEN).to(2.5)
        told.tally.configure(with_members(self.OPEN, "abc", disabled="a"), told.now, told.unix_ms)
        told.collect()
        self.assertEqual((told.turns, told.tally.state), (["Lead", "Yield"], State.OUT_OF_SERVICE))
        self.assertTrue(told.sent[-1].resigned)
        self.assertEqual(told.to(3).sent[-1].votes, -3)

    def test_nothing_left_to_work_by(self) -> None:
        """A leader that is not ready, and has nothing stored, yields in its next election, and says so."""
        told = Told("a", self.OPEN).through(2.5, {"id": "b"})
        told.tally.set_ready(ready=False, stored=False)
        told.through(3.05, {"id": "b"})
        self.assertEqual((told.turns, told.tally.why), (["Lead", "Yield"], "out of service"))
        self.assertTrue(any(each.resigned for each in told.sent))

    def test_silent_transports(self) -> None:
        """What nobody took was not said: the right ends before the last ballot that went out expires; without a quorum it does not."""
        for quorum, turns in ((Quorum.N_MINUS_1, ["Lead", "Yield"]), (Quorum.NONE, ["Lead"])):
            told = Told("a", group(3, quorum)).through(2.5, {"id": "b"}, {"id": "c"})
            last = max(each.ms for each in told.sent)
            told.tally.sent = lambda now: None  # type: ignore[method-assign]
            told.through(6, {"id": "b"}, {"id": "c"})
            self.assertEqual(told.turns, turns)
            if quorum is Quorum.N_MINUS_1:
                stopped = next(each.ms for each in told.sent if each.ms > last + 19_000)
                self.assertGreater(stopped - last, 19_000)

    def test_resign(self) -> None:
        """An orderly stop: the right ends first, then it is said three times, and nothing more comes."""
        told = Told("a", group(1)).to(2.5)
        told.tally.resign(told.now, told.unix_ms)
        acts = told.tally.acts()
        self.assertEqual(
            [type(act).__name__ for act in acts if isinstance(act, Yield | Send)], ["Yield", "Send"]
        )
        said = next(act for act in acts if isinstance(act, Send))
        self.assertEqual((said.copies, said.ballot.resigned, said.ballot.votes), (3, True, -1))
        self.assertEqual((said.ballot.lids, said.ballot.names, said.ballot.named), ((), True, None))
        self.assertEqual((told.tally.deadline, told.tally.state), (float("inf"), State.OUT_OF_SERVICE))
        told.tally.tick(told.now + 100, told.unix_ms)
        told.tally.resign(told.now, told.unix_ms)
        self.assertEqual((told.tally.acts(), told.hear("a")), ([], Reason.OWN))

    def test_hears_resignation(self) -> None:
        """When the leader resigns, an election is held at once and another a tenth of a cycle later, which make two wins."""
        told = Told("b", self.OPEN).through(3.5, {"id": "a", "leads": True})
        at = len(told.sent)
        told.hear("a", -1, resigned=True)
        told.to(told.cycles)
        self.assertEqual((len(told.sent), told.tally.active), (at + 1, False))
        told.to(told.cycles + 0.11)
        self.assertTrue(told.tally.active)

    def test_standby_resigns(self) -> None:
        """When somebody else resigns, it is gone, and nothing else happens."""
        told = Told("b", self.OPEN).through(3.5, {"id": "a", "leads": True}, {"id": "c"})
        at = len(told.sent)
        told.hear("c", -1, resigned=True)
        told.to(told.cycles)
        self.assertEqual((len(told.sent), set(told.tally.ballots(told.now))), (at, {"a"}))


class NewAgain(SynchronousTestCase):
    def test_slept(self) -> None:
        """Who slept more than a cycle past its election is new: it does not lead, and has no right when its backlog comes."""
        told = Told("a", group(1)).to(2.5)
        self.assertTrue(told.tally.active)
        told.cycles = 5.6
        self.assertFalse(told.tally.fence.allows(told.now, told.unix_ms))
        told.hear("a")  # whatever its socket holds, before any timer
        self.assertEqual((told.turns, told.tally.state), (["Lead", "Yield"], State.GETTING_READY))
        self.assertEqual(told.tally.restarts, {"slept": 1})
        self.assertFalse(told.to(6.55).tally.outcome.held)
        self.assertTrue(told.to(7.65).tally.active)

    def test_overslept_a_little(self) -> None:
        """Elections that were missed are not made up."""
        told = Told("a", group(1, Quorum.NONE)).to(2.0)
        at = len(told.sent)
        told.cycles = 3.8
        told.tally.tick(told.now, told.unix_ms)
        told.collect()
        self.assertEqual(len(told.sent), at + 1)
        self.assertAlmostEqual(told.tally._next, told.now + 10)
        self.assertTrue(told.tally.active)

    def test_clock_set(self) -> None:
        """A clock that is set by more than the tolerance makes a member new; by less it does not."""
        for skew_s, restarts in ((4.9, 0), (-4.9, 0), (5.1, 1), (-5.1, 1), (86_400.0, 1)):
            told = Told("a", group(1)).to(2.5)
            told.skew_s = skew_s
            told.tally.tick(told.now, told.unix_ms)
            told.collect()
            self.assertEqual((sum(told.tally.restarts.values()), told.tally.active), (restarts, not restarts))

    def test_monotonic_clock_went_back(self) -> None:
        """A monotonic clock that goes back is none: everything begins anew."""
        told = Told("a", group(1)).to(2.5)
        told.tally.tick(START, MS)
        self.assertEqual((told.tally.active, told.tally.restarts), (False, {"clock": 1}))

    def test_time_stamps_grow(self) -> None:
        """Time stamps grow, also when the clock was put back a little, so that nobody takes a ballot for a replay."""
        told = Told("a", group(1, cycle_s=0.1)).to(3)
        told.skew_s = -0.4
        told.to(6)
        stamps = [each.ms for each in told.sent]
        self.assertEqual(stamps, sorted(set(stamps)))

    def test_wrong_clock(self) -> None:
        """Who sees two others agree against it excludes itself, says by how much, and is no candidate."""
        told = Told("a").to(2)
        told.hear("b", age_s=-3_600)
        told.hear("c", age_s=-3_600.5)
        told.to(3)
        self.assertEqual((told.tally.state, told.tally.active), (State.CLOCK_SKEW, False))
        self.assertIn("3600.5 s behind that of 2 other members", message(told.tally))
        self.assertEqual((told.sent[-1].votes, told.sent[-1].named), (-3, None))
        told.to(7)  # it heard nothing for long: nothing is known
        self.assertNotEqual(told.tally.state, State.CLOCK_SKEW)

    def test_configured(self) -> None:
        """Other members or priorities count at once; another cycle or quorum is a new beginning."""
        told = Told("b", group(3, exclusive=False)).through(2.5, {"id": "a"}, {"id": "c"})
        told.tally.configure(with_members(told.group, "bc"), told.now, told.unix_ms)
        self.assertEqual((set(told.tally.ballots(told.now)), told.tally.votes), ({"c"}, 2))
        told.tally.configure(attrs.evolve(told.group, cycle_s=1.0), told.now, told.unix_ms)
        self.assertEqual((told.tally.restarts, told.tally.deadline), ({"rules": 1}, told.now + 1.0))
        self.assertRaises(LocalError, told.tally.configure, group(1), told.now, told.unix_ms)
