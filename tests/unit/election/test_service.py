"""A group of elections on both ways in memory: who leads, what hand-overs wait for, what is told."""

import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import Reason, decode
from ice.election.decisions import State
from ice.election.metrics import add_metrics
from ice.election.rules import Member
from ice.election.satellite import Phase
from ice.election.service import Wishes
from ice.election.status import REPUBLISH_S, Shown, judge
from ice.election.wheel import Wheel
from ice.observe.metrics import Metrics

from .groups import GROUP_ID, MS, SALT, group
from .kit import PLACE, Party

CYCLE = 0.1


class Case(SynchronousTestCase):
    def party(self, size: int = 3, **options: Any) -> Party:
        """A group that has elected its first."""
        party = Party(group(size, cycle_s=CYCLE), **options)
        party.start()
        party.until(lambda: party.leaders == ["a"], 3)
        party.pass_by(3 * CYCLE)
        self.addCleanup(self._end, party)
        return party

    def _end(self, party: Party) -> None:
        party.stop()
        self.assertEqual(party.clock.getDelayedCalls(), [])


class ManyInOne(SynchronousTestCase):
    def test_elections(self) -> None:
        """Elections of one process with a slow cycle share a wheel: every one is held, by a call or two of the reactor at a time."""
        clock = Clock()
        wheel = Wheel(clock)
        parties = [Party(group(3, cycle_s=10.0), clock, wheel=wheel) for _ in range(3)]
        for party in parties:
            party.start()
        parties[0].until(lambda: all(party.leaders == ["a"] for party in parties), 30, 0.05)
        parties[0].pass_by(1, 0.05)
        self.assertLessEqual(len(clock.getDelayedCalls()), 3)
        for party in parties:
            party.kill("a")
        parties[0].until(lambda: all(party.leaders == ["b"] for party in parties), 40, 0.05)
        for party in parties:
            party.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_calls(self) -> None:
        """Each is called once, in the order of asking, whatever befalls another; who has been taken out is not."""
        clock = Clock()
        wheel, told = Wheel(clock), []
        calls = [lambda name=name: told.append(name) for name in "abcd"]
        for call in (*calls[:2], lambda: 1 // 0, *calls[2:]):
            wheel.add(5.0, call)
        wheel.add(7.0, calls[0])
        wheel.remove(5.0, calls[1])
        wheel.remove(7.0, calls[0])
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(5.1)
        clock.advance(5)
        self.assertEqual((told, clock.getDelayedCalls()), (["a", "c", "d"], []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Leading(Case):
    def test_one_leads(self) -> None:
        """The first in the list leads, its work has begun, and nobody else's has."""
        party = self.party()
        self.assertEqual([party.works[id].told for id in "abc"], [["active"], [], []])
        self.assertIs(party.elections["a"].satellite.phase, Phase.ACTIVE)

    def test_kill(self) -> None:
        """The next takes over when the leader's process is gone."""
        party = self.party()
        party.kill("a")
        took_s = party.until(lambda: party.leaders == ["b"], 10 * CYCLE)
        self.assertLess(took_s, 5 * CYCLE)
        self.assertEqual(party.works["b"].told, ["active"])

    def test_orderly_stop(self) -> None:
        """A stop takes a cycle at most, and the resignation goes three times on each way."""
        party = self.party()
        party.ether.said.clear()
        party.elections.pop("a").stopService()
        took_s = party.until(lambda: party.leaders == ["b"], 5 * CYCLE, 0.001)
        self.assertLessEqual(took_s, CYCLE)
        party.pass_by(CYCLE)
        resigned = [
            data
            for data in party.ether.said
            if data[:1] == b"{" and decode(data, GROUP_ID, "abc", [SALT]).resigned
        ]
        self.assertEqual(len(resigned), 3)
        self.assertEqual(len(set(resigned)), 1)

    def test_one_way_is_enough(self) -> None:
        """Where multicast is filtered, or the Rallypoints are gone, nobody notices but the status."""
        party = self.party()
        terms = [election.tally.term for election in party.elections.values()]
        for cut, name, other in ((False, "igmpStatus", "rpStatus"), (True, "rpStatus", "igmpStatus")):
            party.ether.open, party.network.up = cut, not cut
            party.pass_by(20 * CYCLE)
            self.assertEqual(party.leaders, ["a"])
            for election in party.elections.values():
                details = election.status()["details"]
                self.assertEqual(details[name]["state"], "unhealthy", details)
                self.assertEqual(details[other]["state"], "healthy", details)
                self.assertEqual(election.status()["state"], "healthy")
            party.ether.open = party.network.up = True
            party.pass_by(5 * CYCLE)
            self.assertEqual(party.elections["b"].status()["details"][name]["state"], "healthy")
        self.assertEqual([election.tally.term for election in party.elections.values()], terms)

    def test_both_ways_gone(self) -> None:
        """Cut off from everybody, the leader stops before its ballots can have expired at others."""
        party = self.party()
        party.ether.open = party.network.up = False
        party.until(lambda: not party.leaders, 3 * CYCLE)
        self.assertEqual(party.works["a"].told, ["active", "standby"])
        self.assertIs(party.elections["a"].tally.state, State.NO_QUORUM)

    def test_ballots_over_both_ways_count_once(self) -> None:
        """The second copy is a duplicate."""
        counts = self.party().elections["a"].tally.counts
        self.assertGreater(counts[Reason.COUNTED], 10)
        self.assertGreaterEqual(counts[Reason.DUPLICATE], counts[Reason.COUNTED] - 2)


class Freezing(Case):
    def test_may_act_after_a_freeze(self) -> None:
        """Whoever wakes may not act, before any timer has run; and the work is told to stop."""
        party = self.party()
        frozen = party.elections["a"]
        party.clock.rightNow += 1.0  # no timer runs
        self.assertFalse(frozen.may_act)
        self.assertEqual(party.works["a"].told, ["active", "standby"])

    def test_clock_set(self) -> None:
        """A clock on the wall that is set takes the right at once."""
        party = self.party()
        party.skew_s["a"] = 3_600.0
        self.assertFalse(party.elections["a"].may_act)
        party.until(lambda: party.leaders == ["b"], 20 * CYCLE)
        party.pass_by(5 * CYCLE)
        self.assertIs(party.elections["a"].tally.state, State.CLOCK_SKEW)
        self.assertEqual(party.elections["a"].status()["state"], "unhealthy")


class HandingOver(Case):
    def test_resignation_waits_for_the_work(self) -> None:
        """Nobody is told that we have stopped before we have."""
        party = self.party()
        work = party.works["a"]
        work.slow = True
        done = party.elections.pop("a").stopService()
        party.ether.said.clear()
        party.pass_by(0.05)
        self.assertEqual([data for data in party.ether.said if b"resigned" in data], [])
        work.doing.pop().callback(None)
        party.pass_by(0.1)
        self.assertEqual(len([data for data in party.ether.said if b"resigned" in data]), 3)
        self.successResultOf(done)

    def test_slow_start_is_cancelled_when_the_lead_is_lost(self) -> None:
        """Who loses the lead while beginning, is told to stop when the beginning has ended."""
        party = Party(group(3, cycle_s=CYCLE))
        self.addCleanup(self._end, party)
        party.start()
        party.works["a"].slow = True
        party.until(lambda: party.works["a"].told == ["active"], 3)
        beginning = party.works["a"].doing[0]
        party.ether.open = party.network.up = False
        party.until(lambda: "standby" in party.works["a"].told, 5 * CYCLE)
        self.assertTrue(beginning.called)
        self.assertIs(party.elections["a"].satellite.phase, Phase.STOPPING)
        party.works["a"].slow = False
        party.works["a"].doing[-1].callback(None)
        self.assertIs(party.elections["a"].satellite.phase, Phase.STANDBY)

    def test_who_cannot_begin_gives_up_the_lead(self) -> None:
        """After the deadline another leads, and the one that failed rests."""
        party = Party(group(3, cycle_s=CYCLE), wishes=Wishes(deadline_s=0.5))
        self.addCleanup(self._end, party)
        party.start()
        party.works["a"].slow = True
        party.until(lambda: party.works["a"].told == ["active"], 3)
        party.until(lambda: "standby" in party.works["a"].told, 1)
        party.works["a"].doing.pop().callback(None)
        party.works["a"].slow = False
        party.until(lambda: party.leaders == ["b"], 1)
        party.pass_by(20)
        self.assertEqual(party.leaders, ["b"])
        self.assertEqual(party.elections["a"].satellite.failures, 1)
        party.until(lambda: party.leaders == ["a"], 20)  # rested

    def test_who_raises_cannot_begin(self) -> None:
        """An error is as good as a deadline."""
        party = Party(group(3, cycle_s=CYCLE))
        self.addCleanup(self._end, party)
        party.start()

        def broken() -> None:
            raise RuntimeError("no such interface")

        party.works["a"].active = broken  # type: ignore[method-assign, assignment]
        party.until(lambda: party.leaders == ["b"], 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_who_cannot_stop_is_stuck(self) -> None:
        """The daemon hears of it, the status says so, and others lead."""
        told: list[str] = []
        party = self.party(stuck=told.append, wishes=Wishes(deadline_s=0.5))
        party.works["a"].slow = True
        party.works["a"].why = "control plane lost"
        party.works["a"].has_stored = False
        party.until(lambda: bool(told), 3)
        self.assertEqual(told, ["becoming standby was not done within 0.5 s"])
        self.assertIs(party.elections["a"].satellite.phase, Phase.STUCK)
        self.assertEqual(party.elections["a"].status()["state"], "unhealthy")
        party.until(lambda: party.leaders == ["b"], 3)


class Readiness(Case):
    def test_not_ready(self) -> None:
        """Who loses its control plane votes 0, and who is ready takes over; ready again, it comes back."""
        party = self.party()
        party.works["a"].why = "no Rallypoint"
        party.elections["a"].changed()
        party.until(lambda: party.leaders == ["b"], 20 * CYCLE)
        self.assertEqual(party.elections["a"].tally.votes, 0)
        self.assertEqual(party.elections["a"].status()["details"]["notReady"], "no Rallypoint")
        party.works["a"].why = None
        party.until(lambda: party.leaders == ["a"], 20 * CYCLE)

    def test_work_that_cannot_say(self) -> None:
        """A work whose question fails is not ready."""
        party = self.party()

        def broken() -> None:
            raise RuntimeError("?")

        party.works["a"].ready = broken  # type: ignore[method-assign, assignment]
        party.pass_by(CYCLE)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))
        self.assertLess(party.elections["a"].tally.votes, 0)
        party.works["a"].ready = lambda: None  # type: ignore[method-assign]
        party.elections["a"].changed()


class Refusing(Case):
    def test_hostile_ballots(self) -> None:
        """What is forged, replayed, too large, foreign or nonsense changes nothing and is counted."""
        party = self.party()
        heard = party.ether.sockets[1]  # of b
        tally = party.elections["b"].tally
        before = tally.leader, tally.term
        old = next(data for data in party.ether.said if data[:1] == b"{" and b'"id":"a"' in data)
        forged = old.replace(b'"votes":3', b'"votes":9')
        foreign = old.replace(GROUP_ID.encode(), b"0" * 36)
        for data in (old, forged, foreign, b"{" + b" " * 2_000, b"{", b"\xff", b"{}", b"\x09?", b"\0" * 60):
            heard.received([(data, heard)])  # type: ignore[list-item]
        found = {reason: count for reason, count in tally.counts.items() if count and reason != "counted"}
        for reason in (Reason.REPLAY, Reason.HMAC, Reason.WRONG_GROUP, Reason.SIZE, Reason.JSON):
            self.assertIn(reason, found)
        self.assertEqual((tally.leader, tally.term), before)
        refused = party.elections["b"].ways[1].refused
        self.assertEqual(refused, {"clear": 1, "foreign": 1})

    @given(st.lists(st.binary(max_size=80), max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_any_bytes(self, messages: list[bytes]) -> None:
        """Whatever comes on either way, sealed or not, nothing happens but that it is counted."""
        party = Party(group(3, cycle_s=CYCLE))
        party.start()
        party.pass_by(5 * CYCLE, 0.02)
        before = party.leaders
        for data in messages:
            for begin in (b"", b"{", b"\0", b"\x01{", b"\x02", b"\x03", b"\x04{"):
                party.ether.sockets[1].received([(begin + data, PLACE.tx)])
                for way in party.elections["b"].ways:
                    party.elections["b"].heard(way, begin + data)
        party.pass_by(2 * CYCLE, 0.02)
        self.assertEqual(party.leaders, before)
        self._end(party)

    def test_sealed_streams_hear_no_strangers(self) -> None:
        """On the Rallypoints' stream, what was not sealed with the group's key is not even looked at."""
        party = self.party()

        class Deaf:
            def datagram(self, datagram: object) -> None: ...
            def path(self, up: bool, why: str) -> None: ...

        stranger = party.network.join(f"__election_{GROUP_ID}", Deaf())
        party.pass_by(0.01)
        before = sum(party.elections["a"].tally.counts.values())
        stranger.send(b"{}" * 40)
        party.clock.advance(0.002)
        party.elections["a"].status()
        self.assertEqual(party.elections["a"].ways[0].refused.total(), 1)
        self.assertLessEqual(sum(party.elections["a"].tally.counts.values()) - before, 4)


class Telling(Case):
    def test_status_file(self) -> None:
        """The documented JSON is in the file at each change, and again before it is stale."""
        path = Path(self.mktemp()) / "election.json"
        lone = Party(group(1, cycle_s=CYCLE))
        self.addCleanup(self._end, lone)
        made = lone.add("a", wishes=Wishes(status_file=path))
        made.startService()
        lone.until(lambda: lone.leaders == ["a"], 1)
        told = json.loads(path.read_text())
        self.assertEqual((told["version"], told["state"], told["active"]), (1, "healthy", True))
        self.assertEqual(told["details"]["elected"], {GROUP_ID: True})
        self.assertEqual(told["details"]["httpStatus"], {"state": "notRunning"})
        lone.pass_by(5 * CYCLE)
        first = json.loads(path.read_text())["updatedMs"]
        lone.pass_by(20 * CYCLE)
        self.assertEqual(json.loads(path.read_text())["updatedMs"], first, "winning on is no news")
        lone.pass_by(2.1 * REPUBLISH_S, 0.05)
        told = json.loads(path.read_text())
        self.assertGreaterEqual(told["updatedMs"], first + 60_000)
        self.assertIs(judge(told, MS + int(lone.clock.seconds() * 1_000)), Shown.ACTIVE)

    def test_metrics(self) -> None:
        """Every figure can be read."""
        party = self.party()
        metrics = Metrics(process=False)
        add_metrics(metrics, party.elections["a"], party.clock.seconds)
        page = metrics.render().decode()
        self.assertIn('ice_election_state{state="active"} 1.0', page)
        self.assertIn('ice_election_ballots_total{reason="duplicate"}', page)
        self.assertIn("ice_election_active 1.0", page)
        self.assertIn("ice_metric_errors_total 0.0", page)

    def test_configure(self) -> None:
        """Priorities count at once; the seal follows the salts."""
        party = self.party()
        salts = (bytes(32), SALT)
        order = tuple(Member(id, id.upper()) for id in "bac")
        new = attrs.evolve(party.group, members=order, salts=salts)
        for id in "abc":  # first everybody takes both
            party.elections[id].configure(attrs.evolve(party.group, salts=(SALT, bytes(32))))
        party.pass_by(3 * CYCLE)
        for id in "abc":
            party.elections[id].configure(new)
            party.pass_by(CYCLE)
        party.until(lambda: party.leaders == ["b"], 20 * CYCLE)
        party.pass_by(5 * CYCLE)
        self.assertEqual(party.elections["c"].tally.counts[Reason.HMAC], 0)


class Clocked(SynchronousTestCase):
    def test_nothing_before_the_start(self) -> None:
        """A made election has nothing on the clock and may not act."""
        clock = Clock()
        party = Party(group(1, cycle_s=CYCLE), clock)
        election = party.add("a")
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertFalse(election.may_act)
