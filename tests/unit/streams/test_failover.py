"""Failover: when talk goes where, what is heard of two paths, and what a person is told."""

import contextlib
import io
import re
from pathlib import Path as FilePath
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.streams.copies import ALONE_S, LIMIT, STRANGER_S, Copies, Path
from ice.streams.failover import BOTH, HOLD_S, SETTLE_S, Failover, Way
from ice.streams.failover_network import FailoverNetwork, FailoverStream
from ice.streams.interface import Datagram, Receiver
from ice.streams.memory import Collector, MemoryNetwork
from ice.testing.network import run

HALL = "town-hall"
P, S = Path.PRIMARY, Path.SECONDARY
FIRST, LAST = int(Flag.FIRST), int(Flag.LAST)


class EngineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.engine = Failover(
            primary=True, secondary=True, now=0.0, after_s=2.0, name="multicast 239.1.1.1:9"
        )

    def stands(self, now: float = 0.0) -> Failover:
        """Both paths open at ``now``."""
        self.engine.path(P, True, "joined at rp:7443", now)
        self.engine.path(S, True, "joined 239.1.1.1:9", now)
        return self.engine

    def returned(self) -> Failover:
        """The Rallypoint was lost at 10, a burst began over multicast at 13.5, and the Rallypoint is back at 14."""
        engine = self.stands()
        engine.path(P, False, "gone", 10.0)
        engine.turn(12.0)
        self.assertEqual(engine.send(FIRST, 13.5)[0], (S,))
        engine.path(P, True, "joined at rp:7443", 14.0)
        return engine


class Ways(EngineCase):
    def test_the_rallypoint_is_first(self) -> None:
        """While a Rallypoint answers, nothing goes over multicast."""
        engine = self.stands()
        self.assertEqual(engine.way, Way.RALLYPOINT)
        self.assertEqual(engine.send(FIRST, 1.0), ((P,), FIRST))
        self.assertEqual(engine.why(1.0), "joined at rp:7443")
        self.assertFalse(engine.limited)

    def test_multicast_after_a_while(self) -> None:
        """A Rallypoint that is gone has ``after_s`` to come back; what is said meanwhile goes nowhere."""
        engine = self.stands()
        engine.path(P, False, "the link was reset", 5.0)
        self.assertEqual((engine.way, engine.due), (Way.WAITING, 7.0))
        self.assertEqual(engine.send(0, 6.0)[0], ())
        engine.turn(6.99)
        self.assertEqual(engine.way, Way.WAITING)
        engine.turn(7.0)
        self.assertEqual((engine.way, engine.due), (Way.MULTICAST, None))
        self.assertEqual(engine.send(0, 7.0)[0], (S,))
        self.assertTrue(engine.limited)
        self.assertEqual(
            engine.why(15.0),
            "limited connectivity: no Rallypoint has answered for 10 s, talking over multicast 239.1.1.1:9 "
            "(the link was reset)",
        )

    def test_counted_from_the_join(self) -> None:
        """At start no Rallypoint has answered since the join, or since the network was started, whichever is later."""
        engine = self.engine
        engine.path(S, True, "joined", 0.1)
        self.assertEqual(engine.due, 2.0)
        engine.begin(5.0)
        self.assertEqual(engine.due, 7.0)

    def test_at_once(self) -> None:
        """With ``after_s`` 0 nothing is waited for."""
        engine = Failover(primary=True, secondary=True, now=0.0, after_s=0.0)
        engine.path(S, True, "joined", 0.0)
        self.assertEqual(engine.way, Way.MULTICAST)

    def test_late_multicast(self) -> None:
        """Where multicast opens after the time is over, it is taken at once."""
        engine = self.engine
        engine.turn(3.0)
        self.assertEqual(engine.way, Way.NONE)
        self.assertIn("nor is there a way over multicast 239.1.1.1:9 (not tried yet)", engine.why(3.0))
        engine.path(S, True, "joined", 3.5)
        self.assertEqual(engine.way, Way.MULTICAST)

    def test_short_loss(self) -> None:
        """A Rallypoint that is back in time leaves everything as it was."""
        engine = self.stands()
        engine.path(P, False, "gone", 5.0)
        engine.path(P, True, "back", 6.0)
        self.assertEqual(engine.send(FIRST, 6.0)[0], (P,))
        self.assertEqual(engine.counts.to_multicast, 0)

    def test_one_path_alone(self) -> None:
        """Without a primary it is multicast, which is no limitation; without a secondary there is nothing to go over to."""
        alone = Failover(primary=False, secondary=True, now=0.0)
        alone.path(S, True, "joined 239.1.1.1:9", 0.0)
        self.assertEqual(
            (alone.way, alone.limited, alone.why(1.0)), (Way.MULTICAST, False, "joined 239.1.1.1:9")
        )
        only = Failover(primary=True, secondary=False, now=0.0)
        only.turn(100.0)
        self.assertEqual((only.way, only.due), (Way.NONE, None))
        only.path(P, True, "joined at rp:7443", 101.0)
        only.path(P, False, "gone", 102.0)
        self.assertEqual((only.send(0, 103.0)[0], only.why(103.0)), ((), "gone"))


class Borders(EngineCase):
    def test_a_running_burst_stays(self) -> None:
        """A burst that runs when the Rallypoint returns goes to its end over multicast; the next one goes to the Rallypoint, and both ways for a while."""
        engine = self.returned()
        self.assertEqual(engine.way, Way.RALLYPOINT)
        self.assertEqual(engine.send(0, 13.9)[0], (S,))
        self.assertEqual(engine.send(LAST, 14.1)[0], (S,))
        self.assertEqual(engine.send(LAST, 14.12)[0], (S,))
        self.assertEqual(engine.send(FIRST, 14.5), (BOTH, FIRST))
        self.assertEqual(engine.counts.held, 1)

    def test_long_burst(self) -> None:
        """A burst that does not end is held for so long, and then heard at the Rallypoint as well."""
        engine = self.returned()
        sent = [(now / 10, *engine.send(0, now / 10)) for now in range(141, 260)]
        changed = next(now for now, ways, _ in sent if ways == BOTH)
        self.assertAlmostEqual(changed, 14.0 + HOLD_S, 1)
        self.assertFalse(any(flags for _, _, flags in sent))

    def test_settling(self) -> None:
        """Both ways until others have found the Rallypoint as well; then it alone."""
        engine = self.returned()
        self.assertEqual(engine.send(FIRST, 14.0 + SETTLE_S - 0.1)[0], BOTH)
        self.assertTrue(engine.both(20.0))
        self.assertEqual(engine.send(0, 14.0 + SETTLE_S + 0.5)[0], BOTH, "it runs")
        self.assertEqual(engine.send(FIRST, 14.0 + SETTLE_S + 1.0)[0], (P,))
        self.assertFalse(engine.both(14.0 + SETTLE_S + 1.0))

    def test_settling_ends_though_nobody_pauses(self) -> None:
        """What has no end and no pause (music) does not go both ways for ever."""
        engine = self.returned()
        ways = [engine.send(0, 14.0 + step / 2)[0] for step in range(200)]
        self.assertEqual(ways[-1], (P,))

    def test_gone_again(self) -> None:
        """A Rallypoint that goes again soon after its return costs nothing: multicast has everything anyway."""
        engine = self.returned()
        engine.send(LAST, 14.1)
        self.assertEqual(engine.send(FIRST, 15.0)[0], BOTH)
        engine.path(P, False, "gone again", 16.0)
        self.assertEqual(engine.way, Way.MULTICAST)
        self.assertEqual(engine.send(0, 16.0), ((S,), 0))

    def test_marked_after_a_gap(self) -> None:
        """A burst that loses its way goes on over the other; where something was lost, what follows is marked as a beginning."""
        engine = self.stands()
        engine.send(FIRST, 9.9)
        engine.path(P, False, "gone", 10.0)
        ways = []
        for step in range(150):
            now = 10.0 + step * 0.02
            engine.turn(now)
            ways.append(engine.send(0, now))
        began = next(index for index, (where, _) in enumerate(ways) if where)
        self.assertAlmostEqual(began * 0.02, 2.0)
        self.assertEqual(ways[began], ((S,), FIRST))
        self.assertEqual(set(ways[began + 1 :]), {((S,), 0)})
        self.assertEqual(engine.counts.mid_burst, 1)

    def test_multicast_lost(self) -> None:
        """A burst that is held on multicast goes to the Rallypoint where multicast is lost, without a mark: nothing was missed."""
        engine = self.returned()
        engine.path(S, False, "the interface is gone", 14.2)
        self.assertEqual(engine.send(0, 14.22), ((P,), 0))

    def test_silence_ends_a_burst(self) -> None:
        """Who never marks an end has ended after a second of silence."""
        engine = self.returned()
        self.assertEqual(engine.send(0, 13.5)[0], (S,))
        self.assertEqual(engine.send(0, 14.6)[0], BOTH)

    def test_data_has_no_bursts(self) -> None:
        """Data goes where it is best at the moment."""
        engine = self.returned()
        self.assertEqual(engine.send(int(Flag.DATA), 14.1)[0], BOTH)

    def test_each_talker_has_borders(self) -> None:
        """Who passes on several talkers moves each at its own border."""
        engine = self.stands()
        engine.path(P, False, "gone", 10.0)
        engine.turn(12.0)
        engine.send(FIRST, 13.0, 1)
        engine.path(P, True, "back", 14.0)
        self.assertEqual(engine.send(FIRST, 13.9, 2)[0], BOTH)
        self.assertEqual(engine.send(0, 13.9, 1)[0], (S,))

    def test_company(self) -> None:
        """Somebody is heard over multicast alone while we have a Rallypoint: the next burst goes both ways."""
        engine = self.stands()
        engine.company(5.0)
        self.assertEqual(engine.send(FIRST, 6.0)[0], BOTH)
        self.assertEqual(engine.send(FIRST, 5.0 + SETTLE_S)[0], (P,))

    def test_company_before_the_rallypoint(self) -> None:
        """What was heard while we had none ourselves says nothing."""
        engine = self.stands(now=5.0)
        engine.company(4.0)
        self.assertEqual(engine.send(FIRST, 6.0)[0], (P,))

    def test_many_talkers(self) -> None:
        """The talkers that are remembered are bounded."""
        engine = self.stands()
        for source in range(1_000):
            engine.send(FIRST, 1.0, source)
        self.assertLessEqual(len(engine._bursts), 256)

    @given(st.lists(st.tuples(st.sampled_from("pPsSt."), st.floats(0, 3)), max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_never_without_need(self, story: list[tuple[str, float]]) -> None:
        """Whatever happens: what is open is used once ``after_s`` is over, what is closed never is, and a state has its sentence."""
        engine = Failover(primary=True, secondary=True, now=0.0, after_s=2.0)
        now, up, lost_at = 0.0, {P: False, S: False}, 0.0
        for what, pause in story:
            now += pause
            if what in "pP":
                if up[P] and what == "p":
                    lost_at = now
                up[P] = what == "P"
                engine.path(P, up[P], "news", now)
            elif what in "sS":
                up[S] = what == "S"
                engine.path(S, up[S], "news", now)
            engine.turn(now)
            ways, _ = engine.send(0, now)
            self.assertTrue(all(up[way] for way in ways))
            if up[P] or (up[S] and now - lost_at >= 2.001):
                self.assertTrue(ways)
            self.assertEqual(engine.up, engine.way in (Way.RALLYPOINT, Way.MULTICAST))
            self.assertTrue(engine.why(now))
            self.assertEqual(engine.due is not None, engine.way is Way.WAITING)


def datagram(number: int, source: int = 1, what: str = "word") -> Datagram:
    return Datagram(0, source, number, f"{what} {number}".encode())


class CopiesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.copies = Copies()

    def heard(
        self, path: Path, number: int, source: int, now: float = 0.0, payload: int | None = None
    ) -> object:
        what = datagram(number if payload is None else payload, source)
        return self.come(path, Datagram(0, source, number, what.payload), now)

    def come(self, path: Path, what: Datagram, now: float) -> object:
        """What is heard of it: a datagram, several, or why nothing."""
        copies = self.copies
        before = copies.copies, copies.own
        given = copies.heard(path, what, now)
        if given:
            return given[0] if len(given) == 1 else given
        if copies.own > before[1]:
            return "own"
        return "a copy" if copies.copies > before[0] else "held"

    def test_whichever_is_first(self) -> None:
        """The same bytes are heard once, from the path that is faster."""
        self.assertEqual(self.heard(P, 1, 7), datagram(1, 7))
        self.assertEqual(self.heard(S, 100, 8, payload=1), "a copy")
        self.assertEqual(self.heard(S, 101, 8, 1.0, payload=2), Datagram(0, 8, 101, b"word 2"))

    def test_after_the_window(self) -> None:
        """Ten seconds later the same bytes are something new."""
        self.heard(P, 1, 7, 0.0)
        self.assertEqual(self.heard(S, 1, 8, 9.9), "a copy")
        self.assertIsInstance(self.heard(S, 2, 8, 10.1, payload=1), Datagram)

    def test_said_twice(self) -> None:
        """Who says the same bytes twice is heard twice, and each of the copies is one."""
        self.assertIsInstance(self.heard(P, 1, 7, payload=5), Datagram)
        self.assertIsInstance(self.heard(P, 2, 7, payload=5), Datagram)
        self.assertEqual(self.heard(S, 1, 8, payload=5), "a copy")
        self.assertEqual(self.heard(S, 2, 8, payload=5), "a copy")
        self.assertIsInstance(self.heard(S, 3, 8, payload=5), Datagram)

    def test_a_reflector_between(self) -> None:
        """What a reflector brings from one path to the other comes under a third name, on a path that has had it: it is a copy, and its name means the same talker."""
        word = b"%030d" % 1
        self.assertEqual(self.come(P, Datagram(0, 7, 1, word), 0.0), Datagram(0, 7, 1, word))
        self.assertEqual(self.come(S, Datagram(0, 8, 1, word), 0.01), "a copy")
        self.assertEqual(self.come(P, Datagram(0, 9, 1, word), 0.02), "a copy")
        more = b"%030d" % 2
        self.assertEqual(self.come(P, Datagram(0, 9, 2, more), 0.03), Datagram(0, 7, 2, more))
        self.assertEqual(self.come(P, Datagram(0, 7, 2, more), 0.04), "a copy")

    def test_two_say_ok(self) -> None:
        """Two people at one Rallypoint say the same short word: both are heard."""
        for source in (7, 8):
            self.assertEqual(self.come(P, Datagram(0, source, 1, b"ok"), 0.0), Datagram(0, source, 1, b"ok"))

    def test_own(self) -> None:
        """What we sent on one path and somebody brings back on the other is not heard; somebody else's same words are."""
        self.copies.sent(P, b"word 1", 0.0)
        self.assertEqual(self.heard(S, 1, 8), "own")
        self.assertIsInstance(self.heard(P, 1, 7), Datagram)

    def test_one_name(self) -> None:
        """Once copies have shown that two sources are one talker, the name in use stays, and each number is used once."""
        names = []
        for number in range(20):
            first, second = ((S, 8), (P, 7)) if number % 3 else ((P, 7), (S, 8))
            names += [
                result
                for path, source in (first, second)
                if isinstance(
                    result := self.heard(path, number + 100 * source, source, payload=number), Datagram
                )
            ]
        self.assertEqual([each.payload for each in names], [datagram(n).payload for n in range(20)])
        late = names[4:]
        self.assertEqual(len({each.source for each in late}), 1)
        numbers = [each.sequence for each in late]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(late))))

    def test_name_kept_at_the_next_failover(self) -> None:
        """A talker who was on both paths once goes over to the other later without a change of name or a gap in the numbers."""
        for number in range(4):
            self.heard(P, number, 7)
            self.heard(S, 500 + number, 8, payload=number)
        for number in range(4, 50):
            self.heard(P, number, 7)
        after = self.heard(S, 504, 8, payload=50)
        self.assertEqual(after, Datagram(0, 7, 50, b"word 50"))

    def test_one_copy_is_enough(self) -> None:
        """Of a payload that nobody says twice by chance, the first copy tells that two sources are one talker, whoever is faster next."""
        for number, (first, second) in enumerate(((P, S), (S, P), (P, S))):
            sound = b"%030d" % number
            result = self.come(first, Datagram(0, 7 + first, number, sound), number * 0.02)
            assert isinstance(result, Datagram)
            self.assertEqual((result.source, result.sequence), (7, number))
            self.assertEqual(
                self.come(second, Datagram(0, 7 + second, number, sound), number * 0.02), "a copy"
            )

    def test_strangers(self) -> None:
        """A second path opens while somebody talks, and is the faster one: nobody is heard as two people, and nothing is lost or late."""
        sound = [b"%030d" % number for number in range(5)]
        self.come(S, Datagram(0, 8, 0, sound[0]), 0.0)
        self.assertEqual(self.come(P, Datagram(0, 7, 71, sound[1]), 0.02), "held")
        self.assertEqual(self.come(S, Datagram(0, 8, 1, sound[1]), 0.03), Datagram(0, 8, 1, sound[1]))
        self.assertEqual(self.come(P, Datagram(0, 7, 72, sound[2]), 0.04), Datagram(0, 8, 2, sound[2]))
        self.assertEqual(self.come(S, Datagram(0, 8, 2, sound[2]), 0.05), "a copy")
        self.assertIsNone(self.copies.due)

    def test_a_real_stranger(self) -> None:
        """Who begins to talk on one path while somebody is heard on the other is heard after a moment, with every word."""
        self.come(S, Datagram(0, 8, 0, b"somebody who is heard on the air"), 0.0)
        words = [Datagram(0, 7, number, b"another who came by Rallypoint %d" % number) for number in range(4)]
        self.assertEqual([self.come(P, each, 0.02 * n) for n, each in enumerate(words[:3])], ["held"] * 3)
        self.assertEqual(self.copies.due, STRANGER_S)
        self.assertEqual(self.copies.release(STRANGER_S), words[:3])
        self.assertEqual(self.come(P, words[3], 0.12), words[3])

    def test_one_stranger_on_both_paths(self) -> None:
        """While somebody is heard on both paths another one begins on both: heard at once, under one name."""
        for number in range(3):
            self.come(S, Datagram(0, 8, number, b"somebody who is on both paths %d" % number), 0.0)
            self.come(P, Datagram(0, 7, number, b"somebody who is on both paths %d" % number), 0.01)
        self.come(P, Datagram(0, 7, 3, b"somebody who is on both paths %d" % 3), 0.01)
        word = b"the other one, who has a longer name"
        self.assertEqual(self.come(P, Datagram(0, 17, 0, word), 0.02), "held")
        self.assertEqual(self.come(S, Datagram(0, 18, 0, word), 0.03), Datagram(0, 17, 0, word))
        more = word + b" and more"
        self.assertEqual(self.come(S, Datagram(0, 18, 1, more), 0.04), Datagram(0, 17, 1, more))

    def test_many_strangers(self) -> None:
        """Neither strangers nor what they say is held without bounds."""
        self.heard(S, 0, 8)
        for number in range(500):
            self.heard(P, number, 1_000 + number % 100, payload=number)
            self.heard(P, number, 1_000, payload=10_000 + number)
        self.assertLessEqual(len(self.copies._strangers), 64)
        self.assertLessEqual(max(len(each.waiting) for each in self.copies._strangers.values()), 16)

    def test_a_loss_stays_a_loss(self) -> None:
        """A gap on a path is a gap for whoever counts losses."""
        self.heard(P, 10, 7)
        self.assertEqual(self.heard(P, 13, 7), datagram(13, 7))

    def test_overtaken(self) -> None:
        """One that was overtaken on its path fills its gap."""
        for number in (1, 2, 4, 3, 5):
            self.assertEqual(self.heard(P, number, 7), datagram(number, 7))

    def test_not_by_chance(self) -> None:
        """One payload that two people say without a cipher does not make them one."""
        self.heard(P, 1, 7, payload=1)
        self.heard(S, 1, 8, payload=1)
        self.assertEqual(self.heard(S, 2, 8, 1.0), datagram(2, 8))
        self.assertEqual(self.heard(P, 3, 7, 2.0), datagram(3, 7))

    def test_alone(self) -> None:
        """What came over multicast and not by the Rallypoint within a second came over multicast alone."""
        self.heard(S, 1, 8, 1.0)
        self.heard(S, 2, 8, 1.5)
        self.heard(P, 1, 7, 1.6)
        self.copies.prove(1.5 + ALONE_S - 0.01)
        self.assertEqual(self.copies.alone_at, float("-inf"))
        self.copies.prove(1.5 + ALONE_S)
        self.assertEqual(self.copies.alone_at, 1.5)

    def test_bounds(self) -> None:
        """Neither payloads nor talkers are remembered without end."""
        for number in range(LIMIT + 2_000):
            self.heard(S, number, number, number * 1e-4)
        self.assertEqual(len(self.copies), LIMIT)
        self.assertEqual(self.copies.forgotten, 2_000)
        self.assertLessEqual(len(self.copies._talkers), 1_024)

    @given(
        st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 30)), min_size=1, max_size=80),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    )
    @settings(max_examples=100, deadline=None)
    def test_each_once_by_any_order(
        self, plan: list[tuple[bool, bool, int]], begin_p: int, begin_s: int
    ) -> None:
        """Whatever is lost, late or overtaken on either path: each datagram is heard exactly once if it came at all, and no name twice."""
        copies, events = Copies(), []
        for number, (on_p, on_s, delay) in enumerate(plan):
            if on_p:
                events.append((number * 20 + 10, P, 7, (begin_p + number) & 0xFFFF_FFFF, number))
            if on_s:
                events.append((number * 20 + delay * 3, S, 8, (begin_s + number) & 0xFFFF_FFFF, number))
        heard = []
        for at, path, source, sequence, number in sorted(events):
            heard += copies.release(at / 1e3)
            heard += copies.heard(path, Datagram(0, source, sequence, b"%d" % number), at / 1e3)
        heard += copies.release(1e6)
        came = {number for number, (on_p, on_s, _) in enumerate(plan) if on_p or on_s}
        self.assertEqual(sorted(int(each.payload) for each in heard), sorted(came))
        self.assertEqual(len({(each.source, each.sequence) for each in heard}), len(heard))


class Quiet(Collector):
    """A receiver that breaks."""

    def datagram(self, datagram: Datagram) -> None:
        raise RuntimeError("broken on purpose")


class NetworkCase(SynchronousTestCase):
    """Two networks in memory on one clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.rallypoint = MemoryNetwork(self.clock, delay_s=(0.02, 0.05), seed=1)
        self.multicast = MemoryNetwork(self.clock, delay_s=(0.001, 0.03), seed=2)
        self.networks: list[FailoverNetwork] = []

    def tearDown(self) -> None:
        for network in self.networks:
            network.stop()
        self.clock.advance(5.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def network(self, after_s: float = 2.0, **settings: float) -> FailoverNetwork:
        network = FailoverNetwork(
            self.clock,
            self.rallypoint,
            self.multicast,
            after_s=after_s,
            name_of=lambda stream_id: f"multicast for {stream_id}",
            **settings,  # type: ignore[arg-type]
        )
        self.networks.append(network)
        return network

    def party(self, receiver: Receiver | None = None, **settings: float) -> tuple[FailoverStream, Collector]:
        heard = receiver or Collector()
        stream = self.network(**settings).join(HALL, heard)
        return stream, heard  # type: ignore[return-value]

    def talk(
        self, stream: FailoverStream, begin: int, count: int, *, first: bool = True, last: bool = True
    ) -> int:
        """Say numbered words, one each 20 ms; how many had no way."""
        unsent = 0
        for number in range(begin, begin + count):
            flags = FIRST * (first and number == begin) | LAST * (last and number == begin + count - 1)
            unsent += not stream.send(b"%06d" % number, flags)
            run(self.clock, 0.02, 0.01)
        return unsent


class Talking(NetworkCase):
    def numbers(self, heard: Collector) -> list[int]:
        return [int(payload) for payload in heard.payloads]

    def test_through_two_outages(self) -> None:
        """The Rallypoint comes and goes twice within one burst: the gap is ``after_s``, nothing is heard twice, and the return loses nothing."""
        talker, _ = self.party(settle_s=1.0)
        _, heard = self.party(settle_s=1.0)
        run(self.clock, 0.1)
        number = 0
        for _ in range(2):
            self.assertEqual(self.talk(talker, number, 100, first=not number, last=False), 0)
            self.rallypoint.up = False
            unsent = self.talk(talker, number + 100, 200, first=False, last=False)
            self.assertIn(unsent, (100, 101))
            self.rallypoint.up = True
            self.assertEqual(self.talk(talker, number + 300, 700, first=False, last=False), 0)
            number += 1_000
        run(self.clock, 0.5)
        numbers = self.numbers(heard)
        self.assertEqual(len(numbers), len(set(numbers)))
        in_flight = 2 * 3  # of 20 to 50 ms, when the Rallypoint died
        missing = len(set(range(2_000)) - set(numbers))
        self.assertIn(missing - talker.counts.without_path, range(in_flight + 1))
        self.assertEqual(talker.counts.to_multicast, 2)

    def test_return_is_heard_once_and_whole(self) -> None:
        """After the return bursts go both ways, with any jitter; each word is heard once, and of one talker."""
        talker, _ = self.party()
        _, heard = self.party()
        run(self.clock, 0.1)
        self.rallypoint.up = False
        run(self.clock, 2.1)
        self.talk(talker, 0, 50, last=False)
        self.rallypoint.up = True
        self.talk(talker, 50, 50, first=False)
        self.assertEqual(talker.counts.sent_primary, 0)
        self.talk(talker, 100, 200)
        run(self.clock, 0.5)
        self.assertEqual(sorted(self.numbers(heard)), list(range(300)))
        self.assertEqual(talker.counts.sent_both, 200)
        self.assertEqual({each.source for each in heard.datagrams[-195:]}, {heard.datagrams[-1].source})

    def test_heard_by_who_has_a_rallypoint(self) -> None:
        """Who has failed over is heard by who has not, and answered both ways."""
        lonely = FailoverNetwork(self.clock, MemoryNetwork(self.clock, seed=9), self.multicast, after_s=0.5)
        lonely._networks[0].up = False  # type: ignore[union-attr]
        self.networks.append(lonely)
        lonely_heard = Collector()
        far = lonely.join(HALL, lonely_heard)
        near, near_heard = self.party()
        run(self.clock, 1.0)
        self.assertEqual((far.way, near.way), (Way.MULTICAST, Way.RALLYPOINT))
        self.talk(far, 0, 100)
        self.assertEqual(len(near_heard.datagrams), 100)
        self.talk(near, 500, 100)
        run(self.clock, 0.1)
        self.assertEqual(sorted(map(int, lonely_heard.payloads)), list(range(500, 600)))
        self.assertEqual(near.counts.sent_both, 100)

    def test_own_talk_does_not_return(self) -> None:
        """A reflector that ties both paths together brings nothing back to the talker, and nothing twice to the listener."""
        talker, own = self.party()
        _, heard = self.party()

        class Reflector(Collector):
            target: object = None

            def datagram(self, datagram: Datagram) -> None:
                self.target.send(datagram.payload, datagram.flags)  # type: ignore[attr-defined]

        one, other = Reflector(), Reflector()
        one.target = self.multicast.join(HALL, other)
        other.target = self.rallypoint.join(HALL, one)
        run(self.clock, 0.1)
        seen: set[bytes] = set()

        def once(reflector: Reflector, target: object) -> None:
            def datagram(datagram: Datagram) -> None:
                if datagram.payload not in seen:
                    seen.add(datagram.payload)
                    target.send(datagram.payload, datagram.flags)  # type: ignore[attr-defined]

            reflector.datagram = datagram  # type: ignore[method-assign]

        once(one, one.target)
        once(other, other.target)
        self.talk(talker, 0, 50)
        run(self.clock, 0.5)
        self.assertEqual(own.payloads, [])
        self.assertEqual(talker.counts.own, 50)
        self.assertEqual(sorted(self.numbers(heard)), list(range(50)))

    def test_told(self) -> None:
        """A person is told of each change of the way, in sentences, and of nothing else."""
        _, heard = self.party()
        run(self.clock, 0.1)
        self.rallypoint.up = False
        run(self.clock, 3.0)
        self.rallypoint.up = True
        run(self.clock, 1.0)
        self.assertEqual(
            heard.paths,
            [
                (True, "joined in memory"),
                (
                    False,
                    "no Rallypoint answers (the test has cut the path); what is said goes over multicast for town-hall in 2 s",
                ),
                (
                    True,
                    "limited connectivity: no Rallypoint has answered for 2 s, talking over multicast for town-hall (the test has cut the path)",
                ),
                (True, "joined in memory"),
            ],
        )

    def test_at_start(self) -> None:
        """Without any Rallypoint the time counts from the start, and nothing is said until it is over."""
        self.rallypoint.up = False
        network = self.network()
        heard = Collector()
        stream = network.join(HALL, heard)
        run(self.clock, 1.0)
        network.start()
        run(self.clock, 1.9)
        self.assertEqual((stream.way, heard.paths), (Way.WAITING, []))
        self.assertIn("in 0 s", stream.why)
        run(self.clock, 0.2)
        self.assertTrue(stream.limited)
        self.assertEqual([up for up, _ in heard.paths], [True])

    def test_status(self) -> None:
        """The state is there as a value."""
        stream, _ = self.party()
        run(self.clock, 1.0)
        status = stream.status()
        self.assertEqual(
            (
                status.stream_id,
                status.way,
                status.up,
                status.limited,
                status.both,
                status.primary,
                status.secondary,
            ),
            (HALL, Way.RALLYPOINT, True, False, False, True, True),
        )
        self.assertAlmostEqual(status.since_s, 0.99)
        self.assertEqual(status.counts.to_rallypoint, 1)

    def test_forward(self) -> None:
        """Somebody else's words are passed on under their name, on whichever way, once; what was heard here is not."""
        patch, heard = self.party()
        _, other = self.party()
        run(self.clock, 0.1)
        foreign = Datagram(FIRST, 99, 5, b"from another group")
        self.assertTrue(patch.forward(foreign))
        self.assertFalse(patch.forward(foreign))
        run(self.clock, 0.1)
        self.assertEqual(other.datagrams, [foreign])
        self.assertEqual(patch.counts.circular, 1)
        self.rallypoint.up = False
        run(self.clock, 2.1)
        self.assertTrue(patch.forward(Datagram(0, 99, 6, b"and another")))
        run(self.clock, 0.1)
        self.assertEqual(other.payloads[1:], [b"and another"])
        talker = self.party()[0]
        run(self.clock, 2.5)
        talker.send(b"said here")
        run(self.clock, 0.1)
        self.assertFalse(patch.forward(heard.datagrams[-1]))

    def test_broken_receiver(self) -> None:
        """What a receiver raises is logged once and counted, and ends nothing."""
        talker, _ = self.party()
        listener, _ = self.party(Quiet())
        run(self.clock, 0.1)
        self.talk(talker, 0, 3)
        run(self.clock, 0.2)
        self.assertEqual(listener.counts.receiver_errors, 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_leaving(self) -> None:
        """After leaving nothing is heard or sent, and leaving twice is harmless."""
        talker, _ = self.party()
        listener, heard = self.party()
        run(self.clock, 0.1)
        talker.send(b"last words")
        listener.leave()
        listener.leave()
        run(self.clock, 0.2)
        self.assertEqual(heard.datagrams, [])
        self.assertFalse(listener.send(b"anybody?"))
        self.assertEqual((listener.up, listener.why), (False, "left"))

    def test_stopping(self) -> None:
        """A stopped network changes its way no more, says so, and may start again."""
        network = self.network()
        heard = Collector()
        stream = network.join(HALL, heard)
        run(self.clock, 0.1)
        network.stop("done for today")
        self.rallypoint.up = False
        run(self.clock, 5.0)
        self.assertEqual(heard.paths[1:], [(False, "done for today")])
        self.assertFalse(stream.send(b"anybody?"))
        network.start()
        run(self.clock, 2.1)
        self.assertEqual(stream.way, Way.MULTICAST)

    def test_listening_only(self) -> None:
        """Who joined to listen may not talk."""
        stream = self.network().join(HALL, Collector(), talk=False)
        self.assertRaises(LocalError, stream.send, b"")
        self.assertRaises(LocalError, stream.forward, Datagram(0, 1, 1, b""))

    def test_nothing_to_join(self) -> None:
        """A network over nothing is refused with a reason."""
        self.assertRaises(LocalError, FailoverNetwork, self.clock, None, None)

    def test_one_network(self) -> None:
        """Over one network it is that network."""
        for networks in ((self.rallypoint, None), (None, self.multicast)):
            network = FailoverNetwork(self.clock, *networks)
            self.networks.append(network)
            talker, heard = network.join(HALL, Collector()), Collector()
            FailoverNetwork(self.clock, *networks).join(HALL, heard)
            run(self.clock, 0.1)
            self.talk(talker, 0, 3)
            run(self.clock, 0.2)
            self.assertEqual((len(heard.datagrams), talker.limited), (3, False))

    def test_under_loss(self) -> None:
        """With a lossy multicast and a late Rallypoint, what came on either path is heard once while both carry it."""
        self.multicast.loss = 0.3
        talker, _ = self.party()
        _, heard = self.party()
        run(self.clock, 0.1)
        self.rallypoint.up = False
        run(self.clock, 2.1)
        self.rallypoint.up = True
        run(self.clock, 0.1)
        chance, number = Random(3), 0
        for _ in range(5):
            count = chance.randrange(20, 60)
            self.talk(talker, number, count)
            number += count
        run(self.clock, 0.5)
        self.assertEqual(sorted(self.numbers(heard)), list(range(number)))


class Docs(SynchronousTestCase):
    def test_the_program_on_the_page(self) -> None:
        """docs/failover.md does what it says."""
        page = (FilePath(__file__).parents[3] / "docs" / "failover.md").read_text("utf-8")
        [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(program, "docs/failover.md", "exec"), {})
        self.assertEqual(
            said.getvalue(),
            "rallypoint\nmulticast True\n"
            "limited connectivity: no Rallypoint has answered for 10 s, talking over multicast (the test has cut the path)\n",
        )
