"""One home or two: the engine that keeps them, and a network that is on two Rallypoints at once."""

from random import Random
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import FLAGS_AT, MEDIA, Flag, media
from ice.link.message import Code, Limits
from ice.link.naming import stream_key
from ice.net.addresses import Address
from ice.streams.homes import LATE_ANSWERED_S, LATE_S, Dial, Homes, Place
from ice.streams.interface import Datagram
from ice.streams.memory import Collector
from ice.streams.rallypoint import RallypointNetwork, TalkOn
from ice.streams.roster import SPREAD_S, Roster, Strategy
from ice.testing.network import MemoryRallypoint, run, until
from tests.unit.streams.case import HALL, SECOND, A, B, Case

ONE, TWO, THREE = (Address(f"{letter}.test", 7443) for letter in "abc")
C = "c.test:7443"


@attrs.define(eq=False)
class Line:
    """A link as the engine sees it."""

    address: Address
    begun_at: float
    answered: bool = False
    open: bool = False
    far_id: str = ""


class Engine:
    """Homes, with a driver that does what it is told."""

    def __init__(self, *addresses: Address, wanted: int = 1, strategy: Strategy = Strategy.FAIL_BACK) -> None:
        roster = Roster(addresses or (ONE, TWO, THREE), strategy=strategy, random=Random(1))
        self.homes: Homes[Line] = Homes(roster, wanted)
        self.now = 0.0
        self.lines: list[Line] = []

    def dial(self) -> list[Line]:
        """Dial all that is to be dialled now."""
        begun = []
        while isinstance(step := self.homes.step(self.now), Dial):
            line = Line(step.address, self.now)
            self.homes.began(line, step)
            begun.append(line)
            assert len(begun) < 100
        self.until = step.until
        self.lines += begun
        return begun

    def open(self, line: Line, far_id: str = "") -> Place:
        """WELCOME on this line; whoever is left is closed."""
        line.open, line.answered, line.far_id = True, True, far_id or str(line.address)
        outcome = self.homes.opened(line, self.now)
        for other in outcome.leave:
            other.open = False
        self.left = list(outcome.leave)
        return outcome.place

    def end(self, line: Line, code: str = "lost") -> Line | None:
        """The line is gone; whoever has taken its place."""
        line.open = False
        outcome = self.homes.ended(line, self.now, code=code, why=f"{line.address}: {code}")
        self.left = list(outcome.leave)
        return outcome.promoted

    def addresses(self, lines: list[Line]) -> list[Address]:
        return [line.address for line in lines]


class RaceTests(SynchronousTestCase):
    def test_one_at_a_time(self) -> None:
        """While an attempt is not late nothing else is dialled; the engine says when to ask again."""
        engine = Engine()
        self.assertEqual(engine.addresses(engine.dial()), [ONE])
        self.assertEqual(engine.until, LATE_S)

    def test_a_late_one_is_raced(self) -> None:
        """Without TCP after 250 ms the next address is dialled as well, and so on; the first WELCOME wins."""
        engine = Engine(strategy=Strategy.ROUND_ROBIN)
        (first,) = engine.dial()
        engine.now = LATE_S
        (second,) = engine.dial()
        engine.now = 2 * LATE_S
        (third,) = engine.dial()
        self.assertEqual(engine.addresses([second, third]), [TWO, THREE])
        self.assertEqual(engine.open(second), Place.HOME)
        self.assertEqual(engine.left, [first, third])
        self.assertEqual(engine.homes.raced, 2)

    def test_who_has_answered_has_longer(self) -> None:
        """Once TCP stands there is somebody: the next address waits for 750 ms."""
        engine = Engine()
        (first,) = engine.dial()
        first.answered = True
        engine.now = LATE_S
        self.assertEqual(engine.dial(), [])
        self.assertEqual(engine.until, LATE_ANSWERED_S)
        engine.now = LATE_ANSWERED_S
        self.assertEqual(engine.addresses(engine.dial()), [TWO])

    def test_nobody_is_dialled_twice_at_once(self) -> None:
        """When all addresses swallow packets, each has one attempt at a time, for as long as the driver waits."""
        engine = Engine()
        for _ in range(40):
            engine.dial()
            engine.now += 0.1
        self.assertCountEqual(engine.addresses(engine.homes.attempts), [ONE, TWO, THREE])

    def test_an_overtaken_better_one_goes_on(self) -> None:
        """Fail back: an attempt to a better address goes on as the candidate; one to a worse is left."""
        engine = Engine()
        lines = []
        for _ in range(3):
            lines += engine.dial()
            engine.now += LATE_S
        engine.open(lines[1])
        self.assertIs(engine.homes.candidate, lines[0])
        self.assertEqual(engine.left, [lines[2]])
        self.assertEqual(engine.open(lines[0]), Place.CANDIDATE)
        self.assertIs(engine.homes.move(engine.now), lines[1])
        self.assertEqual(engine.homes.standing, [lines[0]])

    def test_a_candidate_takes_a_lost_home(self) -> None:
        """Where the home is lost, the candidate takes its place: open, as a home; on its way, as an attempt."""
        for opened in (True, False):
            engine = Engine()
            lines = engine.dial()
            engine.now = LATE_S
            lines += engine.dial()
            engine.open(lines[1])
            if opened:
                engine.open(lines[0])
            promoted = engine.end(lines[1])
            self.assertIs(promoted, lines[0] if opened else None)
            self.assertEqual(engine.homes.standing + engine.homes.attempts, [lines[0]])
            self.assertIsNone(engine.homes.candidate)


class TwoHomesTests(SynchronousTestCase):
    def test_both_are_dialled_at_once(self) -> None:
        """Two homes: the two best addresses are dialled in the same instant."""
        engine = Engine(wanted=2)
        one, two = engine.dial()
        self.assertEqual([engine.open(one), engine.open(two)], [Place.HOME, Place.HOME])
        self.assertEqual(engine.dial(), [])

    def test_not_the_same_rallypoint(self) -> None:
        """A second link to the same Rallypoint is left, another way is tried at once, and that address rests."""
        engine = Engine(wanted=2)
        one, two = engine.dial()
        engine.open(one, "x")
        self.assertEqual(engine.open(two, "x"), Place.SAME)
        self.assertEqual(engine.left, [two])
        self.assertEqual(engine.addresses(engine.dial()), [THREE])
        self.assertEqual(engine.homes.same, 1)

    def test_one_home_may_be_the_same(self) -> None:
        """With one home, another address of the same Rallypoint may take its place: nothing is had twice."""
        engine = Engine()
        lines = engine.dial()
        engine.now = LATE_S
        lines += engine.dial()
        engine.open(lines[1], "x")
        self.assertEqual(engine.open(lines[0], "x"), Place.CANDIDATE)

    def test_the_other_stays(self) -> None:
        """When one home is lost the other stays, and a third address is dialled soon: those who have no home at all go first."""
        engine = Engine(wanted=2)
        one, two = engine.dial()
        engine.open(one)
        engine.open(two)
        engine.now = 100.0
        engine.end(one)
        self.assertEqual(engine.homes.standing, [two])
        self.assertEqual(engine.dial(), [])
        self.assertTrue(0.0 <= engine.until - engine.now <= SPREAD_S)
        engine.now = engine.until
        self.assertEqual(engine.addresses(engine.dial()), [THREE])

    def test_who_loses_both_waits_for_nothing(self) -> None:
        """When the second is lost while the first is not replaced yet, the next address is dialled in the same instant."""
        engine = Engine(wanted=2)
        one, two = engine.dial()
        engine.open(one)
        engine.open(two)
        engine.now = 100.0
        engine.end(one)
        engine.end(two)
        self.assertIn(THREE, engine.addresses(engine.dial()))

    def test_a_promoted_candidate_may_be_the_same(self) -> None:
        """A candidate that leads to the Rallypoint of the remaining home does not become the second."""
        engine = Engine(wanted=2)
        one, two = engine.dial()
        engine.end(one, "refused")
        (three,) = engine.dial()
        engine.open(two, "y")
        engine.open(three, "z")
        engine.now = 50.0
        (probe,) = engine.dial()
        self.assertEqual(probe.address, ONE)
        self.assertEqual(engine.open(probe, "z"), Place.CANDIDATE, "it would replace z")
        self.assertIsNone(engine.end(two))
        self.assertEqual(engine.left, [probe])
        self.assertEqual(engine.homes.standing, [three])

    def test_how_many(self) -> None:
        """There are one or two homes."""
        roster = Roster([ONE])
        for wanted in (0, 3):
            self.assertRaises(ValueError, Homes, roster, wanted)

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from([1, 2]),
        st.sampled_from(list(Strategy)),
        st.lists(
            st.tuples(
                st.sampled_from(["open", "end", "move", "wait"]), st.integers(0, 20), st.integers(0, 2)
            ),
            max_size=80,
        ),
    )
    def test_whatever_happens(
        self, wanted: int, strategy: Strategy, story: list[tuple[str, int, int]]
    ) -> None:
        """Never more homes than wanted, never two at one Rallypoint, never two attempts at one address, and never at rest without all."""
        engine = Engine(wanted=wanted, strategy=strategy)
        homes = engine.homes
        for what, which, far in story:
            engine.dial()
            lines = [*homes.attempts, *homes.standing, *([homes.candidate] if homes.candidate else [])]
            line = lines[which % len(lines)] if lines else None
            if what == "open" and line is not None and not line.open:
                engine.open(line, f"rallypoint {far}")
            elif what == "end" and line is not None:
                engine.end(line)
            elif what == "move" and homes.candidate is not None and homes.candidate.open:
                homes.move(engine.now)
            else:
                engine.now += which * 0.5
            self.assertLessEqual(len(homes.standing), wanted)
            ids = [each.far_id for each in homes.standing]
            self.assertEqual(len(set(ids)), len(ids))
            addresses = engine.addresses([*homes.standing, *homes.attempts]) + (
                [homes.candidate.address] if homes.candidate else []
            )
            self.assertEqual(len(set(addresses)), len(addresses))
            self.assertTrue(homes.candidate is None or not homes.vacant)
            if homes.vacant:
                step = homes.step(engine.now)
                self.assertTrue(isinstance(step, Dial) or step.until < engine.now + 400.0)


class DualTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.dialler.there[B] = self.b
        self.c = MemoryRallypoint(self.clock, id=UUID(int=3), name="c")
        self.key = stream_key(HALL)

    def dual(self, *addresses: str, **settings: object) -> tuple[RallypointNetwork, Collector]:
        network, heard = self.started(*(addresses or (A, B)), homes=2, **settings)
        until(self.clock, lambda: len(network.homes) == 2)
        run(self.clock, 0.1)
        return network, heard

    def sequences(self, rallypoint: MemoryRallypoint) -> list[int]:
        return [MEDIA.unpack_from(frame)[5] for frame in rallypoint.media]

    def test_two_links(self) -> None:
        """Both are joined under one name, the path is told once, and the network says where it is."""
        network, heard = self.dual()
        self.assertEqual([(str(home.address), home.name) for home in network.homes], [(A, "a"), (B, "b")])
        self.assertEqual([home.id for home in network.homes], [str(self.a.id), str(SECOND)])
        self.assertEqual(self.a.joins[0].source, self.b.joins[0].source)
        self.assertEqual([up for up, _ in heard.paths], [True])
        self.assertEqual(self.stream.why, f"joined at {A} and {B}")
        self.assertEqual([notice.homes for notice in self.notices], [(A,), (A, B)])

    def test_talks_on_both_and_hears_once(self) -> None:
        """What we say goes out on both with one number; what comes on both is heard once."""
        network, heard = self.dual()
        for _ in range(3):
            self.assertTrue(self.stream.send(b"x"))
        for number in range(3):
            for rallypoint in (self.a, self.b):
                rallypoint.say(media(0, self.key, 99, number, b"y"))
        run(self.clock, 0.1)
        self.assertEqual((self.sequences(self.a), self.sequences(self.b)), ([0, 1, 2], [0, 1, 2]))
        self.assertEqual(heard.sequences, [0, 1, 2])
        counts = network.counts
        self.assertEqual((counts.sent, counts.copies, counts.received, counts.duplicates), (3, 3, 3, 3))

    def test_the_death_of_one_loses_nothing(self) -> None:
        """Whichever is killed, or frozen, during a burst both ways: nothing is lost, nothing doubled, no path is told of."""
        for number, victim in enumerate((self.a, self.b, self.a, self.b)):
            frozen = number >= 2
            network, heard = self.dual(identity=UUID(int=100 + number))
            for rallypoint in (self.a, self.b):
                rallypoint.media.clear()
            said, unsent = 0, 0
            for turn in range(300):
                if turn == 100:
                    if frozen:
                        victim.frozen = True
                    else:
                        victim.crash()
                        self.dialler.there = {
                            at: far for at, far in self.dialler.there.items() if far is not victim
                        }
                unsent += not self.stream.send(b"x")
                said += 1
                for rallypoint in (self.a, self.b):
                    if not rallypoint.frozen:
                        rallypoint.say(media(0, self.key, 99 + number, turn, b"y"))
                run(self.clock, 0.02)
            survivor = self.b if victim is self.a else self.a
            self.assertEqual((unsent, self.sequences(survivor)), (0, list(range(said))))
            self.assertEqual(heard.sequences, list(range(300)))
            self.assertEqual([up for up, _ in heard.paths], [True])
            self.assertEqual(
                [notice.homes for notice in self.notices if notice.kind == "lost"][-1:], [network._where()]
            )
            self.networks.remove(network)
            network.stop()
            run(self.clock, 2.0)
            victim.frozen = False
            self.dialler.there |= {A: self.a, B: self.b}

    def test_the_lost_one_is_replaced(self) -> None:
        """A lost home is replaced by another address within half a second, joined without anybody noticing."""
        self.dialler.there[C] = self.c
        network, heard = self.dual(A, B, C)
        run(self.clock, 10.0)
        self.b.crash()
        until(self.clock, lambda: len(network.homes) == 1, step_s=0.001)
        self.assertLess(until(self.clock, lambda: len(network.homes) == 2, step_s=0.001), 0.52)
        run(self.clock, 0.1)
        self.assertEqual([join.stream for join in self.c.joins], [HALL])
        self.assertEqual([up for up, _ in heard.paths], [True])

    def test_it_comes_back(self) -> None:
        """A killed Rallypoint that is the only other one is a home again within a second of its port opening."""
        network, _ = self.dual()
        run(self.clock, 10.0)
        self.a.crash()
        del self.dialler.there[A]
        run(self.clock, 4.0)
        self.assertEqual([str(home.address) for home in network.homes], [B])
        self.dialler.there[A] = self.a
        self.assertLess(until(self.clock, lambda: len(network.homes) == 2), 1.0)

    def test_learned_at_once(self) -> None:
        """With one address configured, the second home is where WELCOME points."""
        self.a.alternatives = (B,)
        network, _ = self.dual(A)
        self.assertEqual([str(home.address) for home in network.homes], [A, B])
        self.assertLess(self.clock.seconds(), 0.2)

    def test_a_virtual_address(self) -> None:
        """An address behind which the same Rallypoint stands is left politely, and the next one tried; it is looked at again now and then."""
        virtual = "virtual.test:7443"
        self.dialler.there[virtual] = self.a
        network, _ = self.dual(A, virtual, B)
        self.assertEqual([str(home.address) for home in network.homes], [A, B])
        run(self.clock, 1.0)
        self.assertEqual([ended.code for ended in self.a.ended], ["leaving"])
        self.assertEqual(network.counts.same, 1)
        self.assertEqual(len(network._connections), 2)

    def test_only_one_there(self) -> None:
        """Where there is only one Rallypoint, one home does, and the other is looked for ever more rarely."""
        del self.dialler.there[B]
        network, heard = self.started(A, B, homes=2)
        run(self.clock, 60.0)
        before = len(self.dialler.attempts)
        run(self.clock, 60.0)
        self.assertEqual([up for up, _ in heard.paths], [True])
        self.assertTrue(network.up)
        self.assertTrue(6 <= len(self.dialler.attempts) - before <= 13)

    def test_refused_at_one(self) -> None:
        """A stream that one of the two refuses is open by way of the other."""
        self.b.refuse[HALL] = (Code.DENIED, "not here")
        network, heard = self.dual()
        self.assertEqual(heard.paths, [(True, f"joined at {A}")])
        self.assertTrue(self.stream.send(b"x"))
        self.assertEqual(network.counts.copies, 0)
        run(self.clock, 10.0)
        self.a.crash()
        del self.dialler.there[A]
        run(self.clock, 0.1)
        self.assertFalse(self.stream.up)
        self.assertTrue(network.up)

    def test_too_large_for_one(self) -> None:
        """A payload that only one of the two takes goes there."""
        self.b.limits = Limits(media_bytes=100)
        network, _ = self.dual()
        self.assertTrue(self.stream.send(bytes(101)))
        run(self.clock, 0.1)
        self.assertEqual((len(self.a.media), len(self.b.media)), (1, 0))
        self.assertFalse(self.stream.send(bytes(5_000)))
        self.assertEqual(network.counts.too_large, 1)

    def test_talk_on_one(self) -> None:
        """Talking on one: each datagram goes out once; half a second after that one falls silent, on the other."""
        network, _ = self.dual(talk_on=TalkOn.ONE)
        for turn in range(150):
            if turn == 50:
                self.a.frozen = True
            self.stream.send(b"x")
            run(self.clock, 0.02)
        self.assertEqual(self.sequences(self.a), list(range(50)))
        heard = self.sequences(self.b)
        self.assertEqual(heard, list(range(heard[0], 150)))
        self.assertLess((heard[0] - 50) * 0.02, 1.0 + 0.5 + 0.2)
        self.assertEqual(network.counts.copies, 0)

    def test_moves_back_beside_the_other(self) -> None:
        """Fail back with two homes: the worst of the two is replaced by a better one, nothing closes."""
        del self.dialler.there[A]
        self.dialler.there[C] = self.c
        network, heard = self.dual(A, B, C)
        self.assertEqual([str(home.address) for home in network.homes], [B, C])
        self.dialler.there[A] = self.a
        until(self.clock, lambda: str(network.homes[1].address) == A, 20.0)
        run(self.clock, 1.0)
        self.assertEqual([str(home.address) for home in network.homes], [B, A])
        self.assertEqual([up for up, _ in heard.paths], [True])
        self.assertEqual([ended.code for ended in self.c.ended], ["leaving"])

    def test_satellites_pass_on_both(self) -> None:
        """A satellite passes each datagram on, on both links, under its own name."""
        self.dual(satellite=True)
        self.assertTrue(self.stream.forward(Datagram(0, 77, 5, b"x")))
        run(self.clock, 0.1)
        self.assertEqual((self.sequences(self.a), self.sequences(self.b)), ([5], [5]))
        self.assertEqual([join.source for join in (*self.a.joins, *self.b.joins)], ["any", "any"])

    def test_stop_and_start(self) -> None:
        """Both are left, and found again."""
        network, _ = self.dual()
        network.stop()
        run(self.clock, 1.0)
        self.assertEqual(
            [[ended.code for ended in each.ended] for each in (self.a, self.b)], [["leaving"]] * 2
        )
        self.assertEqual((network.homes, network.up), ((), False))
        network.start()
        until(self.clock, lambda: len(network.homes) == 2)


class ProtectedTests(Case):
    def flags(self) -> list[int]:
        run(self.clock, 0.1)
        return [frame[FLAGS_AT] for frame in self.a.media]

    def test_by_pattern(self) -> None:
        """Streams that the settings name are talked on with the flag, whatever the other flags are; others without."""
        network = self.network(protects=lambda stream_id: stream_id == HALL)
        hall, other = network.join(HALL, Collector()), network.join("other", Collector())
        network.start()
        run(self.clock, 0.2)
        hall.send(b"x", Flag.FIRST)
        other.send(b"x", Flag.FIRST)
        self.assertEqual(self.flags(), [Flag.FIRST | Flag.PROTECTED, Flag.FIRST])

    def test_by_asking(self) -> None:
        """Who joins may say so, or the contrary."""
        network = self.network(protects=lambda stream_id: stream_id == HALL)
        hall = network.join(HALL, Collector(), protected=False)
        other = network.join("other", Collector(), protected=True)
        network.start()
        run(self.clock, 0.2)
        hall.send(b"x")
        other.send(b"x")
        self.assertEqual(self.flags(), [0, Flag.PROTECTED])

    def test_passed_on(self) -> None:
        """What a satellite passes on to a protected stream is protected there."""
        self.started(satellite=True, protects=lambda stream_id: True)
        run(self.clock, 0.2)
        self.stream.forward(Datagram(Flag.URGENT, 77, 5, b"x"))
        self.assertEqual(self.flags(), [Flag.URGENT | Flag.PROTECTED])

    def test_listening_only(self) -> None:
        """Nothing is sent where nothing may be."""
        self.started(protects=lambda stream_id: True)
        stream = self.networks[0].join("ears", Collector(), talk=False)
        self.assertRaises(LocalError, stream.send, b"x")
