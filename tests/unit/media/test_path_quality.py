"""How good a path is: two engines joined by hand, with delays, clocks, loss and disorder that are known."""

import heapq
import itertools
import random
from collections.abc import Callable

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.path_quality import (
    ANSWERS_PER_S,
    JITTER_MS,
    LATENCY_MS,
    LOSS_PERCENT,
    MAX_PROBES,
    RUNS_MAX,
    Answerer,
    Asker,
    Direction,
    Echo,
    Grade,
    Path,
    worst,
)
from ice.media.probe import Kind, Probe

Delay = Callable[[int], float | None]
"""How long the n-th packet of a direction takes, seconds; none: it is lost."""


def measured(
    there: Delay, back: Delay, *, count: int = 200, ahead_s: float = 1_000.0, drift: float = 0.0
) -> Path:
    """A run between two ends whose clocks are ``ahead_s`` apart and drift; the end is asked for until it is answered."""
    asker, answerer = Asker(7, count), Answerer(9)
    order = itertools.count()
    events: list[tuple[float, int, str, bytes]] = []
    numbers = {"there": itertools.count(), "back": itertools.count()}

    def at(time: float, what: str, payload: bytes = b"") -> None:
        heapq.heappush(events, (time, next(order), what, payload))

    def carry(now: float, way: str, delay: Delay, payload: bytes) -> None:
        if (taken := delay(next(numbers[way]))) is not None:
            at(now + taken, way, payload)

    for number in range(count):
        at(number * asker.spacing_s, "send")
    for number in range(15):
        at(count * asker.spacing_s + 2 + number * 0.2, "ask")
    while events:
        now, _, what, payload = heapq.heappop(events)
        if what == "send":
            carry(now, "there", there, asker.probe(now))
            asker.went()
        elif what == "ask" and not asker.complete:
            carry(now, "there", there, asker.ask(now))
        elif what == "there":
            answer = answerer.heard(payload, now * (1 + drift) + ahead_s)
            assert answer is not None
            carry(now, "back", back, answer.encode())
        elif what == "back":
            asker.heard(payload, now)
    return asker.report()


def steady(seconds: float) -> Delay:
    return lambda number: seconds


class Latency(SynchronousTestCase):
    def test_one_way(self) -> None:
        """30 ms each way, clocks a quarter of an hour apart: 30 ms each way, no jitter, no loss, ideal."""
        path = measured(steady(0.03), steady(0.03))
        assert path.back is not None
        for direction in (path.there, path.back):
            self.assertAlmostEqual(direction.latency_ms or 0, 30, 3)
            self.assertAlmostEqual(direction.jitter_ms or 0, 0, 3)
            self.assertEqual((direction.sent, direction.lost, direction.grade), (200, 0, Grade.IDEAL))
        self.assertAlmostEqual(path.round_trip_ms or 0, 60, 3)
        self.assertAlmostEqual(path.uncertainty_ms or 0, 30, 3)
        self.assertIs(path.grade, Grade.IDEAL)

    def test_asymmetry(self) -> None:
        """What is longer one way is halved between both: the truth lies within the uncertainty, and the report says that the grade is doubtful."""
        path = measured(steady(0.06), steady(0.01))
        assert path.back is not None
        self.assertAlmostEqual(path.there.latency_ms or 0, 35, 3)
        self.assertAlmostEqual(path.uncertainty_ms or 0, 35, 3)
        self.assertTrue(path.doubtful)
        self.assertFalse(measured(steady(0.01), steady(0.01)).doubtful)

    @settings(max_examples=40, deadline=None)
    @given(
        st.floats(0, 0.4),
        st.floats(0, 0.4),
        st.floats(-1e4, 1e4).filter(lambda ahead: ahead > -1e3),
        st.integers(0, 999),
    )
    def test_within_uncertainty(self, there: float, back: float, ahead: float, seed: int) -> None:
        """Whatever the path and the clocks, and whatever queues add, the median found is within the uncertainty of the true one."""
        chance = random.Random(seed)
        queues = [chance.expovariate(200) for _ in range(300)]
        path = measured(lambda n: there + queues[n], lambda n: back, ahead_s=ahead + 2_000, count=100)
        true_ms = (there + sorted(queues[:100])[50]) * 1_000
        assert path.there.latency_ms is not None
        assert path.uncertainty_ms is not None
        self.assertLessEqual(abs(path.there.latency_ms - true_ms), path.uncertainty_ms + 0.01)

    def test_clocks_that_run_apart(self) -> None:
        """100 ppm for a minute are 6 ms: reckoned anew every ten seconds, they do no harm."""
        path = measured(steady(0.02), steady(0.02), count=3_000, drift=1e-4)
        assert path.back is not None
        self.assertLess(abs((path.there.latency_ms or 0) - 20), 1.1)
        self.assertLess(abs((path.back.latency_ms or 0) - 20), 1.1)
        self.assertLess(path.there.latency_max_ms or 0, 22)

    def test_queue_on_one_way(self) -> None:
        """A queue that builds up on one way is that way's latency: the quickest packets have set the clocks right."""
        path = measured(lambda n: 0.02 + (0.1 if n >= 60 else 0), steady(0.02))
        assert path.back is not None
        self.assertAlmostEqual(path.there.latency_ms or 0, 120, 3)
        self.assertAlmostEqual(path.back.latency_ms or 0, 20, 3)
        self.assertAlmostEqual(path.there.latency_max_ms or 0, 120, 3)


class Jitter(SynchronousTestCase):
    def test_rfc_3550(self) -> None:
        """Packets that are 0 and 8 ms late by turns differ by 8 ms each: the running mean goes to 8; the other way has none."""
        path = measured(lambda n: 0.02 + 0.008 * (n % 2), steady(0.02), count=500)
        assert path.back is not None
        self.assertAlmostEqual(path.there.jitter_max_ms or 0, 8, 1)
        self.assertTrue(7 < (path.there.jitter_ms or 0) <= 8)
        self.assertAlmostEqual(path.back.jitter_ms or 0, 0, 3)
        self.assertEqual(path.there.grades["jitter"], Grade.ACCEPTABLE)

    def test_disorder(self) -> None:
        """Packets that overtake each other are counted, and are no loss."""
        path = measured(lambda n: 0.07 if n % 10 == 0 else 0.02, steady(0.02), count=100)
        self.assertEqual((path.there.overtaken, path.there.lost), (10, 0))


class Loss(SynchronousTestCase):
    def test_each_way(self) -> None:
        """Lost on the way there and lost on the way back are told apart."""
        path = measured(
            lambda n: None if n % 20 == 3 and n < 200 else 0.02, lambda n: None if n % 50 == 7 else 0.02
        )
        assert path.back is not None
        self.assertEqual((path.there.sent, path.there.lost), (200, 10))
        self.assertEqual(path.back.sent, 190)
        self.assertEqual(path.back.lost, 4)
        self.assertEqual((path.there.grade, path.grade), (Grade.UNACCEPTABLE, Grade.UNACCEPTABLE))
        self.assertEqual(path.there.loss_percent, 5)

    def test_last_packets(self) -> None:
        """The end of a run is lost as well as its midst: it is asked for."""
        path = measured(lambda n: None if 190 <= n < 203 else 0.02, steady(0.02))
        self.assertEqual((path.there.lost, path.back.lost if path.back else None), (10, 0))

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 2**16))
    def test_counts(self, there: float, back: float, seed: int) -> None:
        """At any loss the counts are exact, once the end has been answered."""
        chance = random.Random(seed)
        lost_there = [chance.random() < there for _ in range(200)] + [False] * 100
        lost_back = [chance.random() < back for _ in range(200)] + [False] * 100
        answers = 200 - sum(lost_there[:200])
        path = measured(lambda n: None if lost_there[n] else 0.01, lambda n: None if lost_back[n] else 0.01)
        assert path.back is not None
        self.assertEqual((path.there.lost, path.back.sent), (sum(lost_there), answers))
        self.assertEqual(path.back.lost, sum(lost_back[:answers]))

    def test_nobody(self) -> None:
        """Nobody answers: all is lost, nothing else is known."""
        path = measured(lambda n: None, steady(0.01), count=10)
        self.assertEqual((path.there.lost, path.there.latency_ms, path.grade), (10, None, Grade.UNACCEPTABLE))
        self.assertIsNone(path.uncertainty_ms)
        self.assertFalse(path.doubtful)


class Ends(SynchronousTestCase):
    def test_others(self) -> None:
        """Probes of other runs, duplicates, second answerers and what is no probe do not count."""
        asker, answerer, second = Asker(7, 10), Answerer(9), Answerer(10)
        wire = asker.probe(0.0)
        asker.went()
        answer, other = answerer.heard(wire, 5.0), second.heard(wire, 5.0)
        assert answer is not None
        assert other is not None
        for payload in (
            answer.encode(),
            answer.encode(),
            other.encode(),
            wire,
            b"",
            attrs.evolve(answer, run=8).encode(),
        ):
            asker.heard(payload, 0.1)
        asker.heard(attrs.evolve(answer, sequence=5).encode(), 0.1)  # never sent
        path = asker.report()
        self.assertEqual((asker.duplicates, asker.strange, path.answerers), (1, 3, 2))
        self.assertEqual((path.there.lost, path.back.lost if path.back else None), (0, 0))

    def test_answerer_is_bounded(self) -> None:
        """Runs, probes of a run, and answers in a second are bounded."""
        answerer = Answerer(1)
        for run in range(RUNS_MAX * 2):
            answerer.heard(Probe(Kind.PROBE, 1, run, 0, 0).encode(), run)
        self.assertEqual(len(answerer._runs), RUNS_MAX)
        self.assertIsNone(answerer.heard(Probe(Kind.PROBE, 1, 1, MAX_PROBES, 0).encode(), 900.0))
        answers = [
            answerer.heard(Probe(Kind.PROBE, 1, 1, n, 0).encode(), 1_000.5) for n in range(ANSWERS_PER_S + 5)
        ]
        self.assertEqual(sum(each is None for each in answers), 5)
        self.assertEqual(answerer.throttled, 5)

    def test_answerer_answers_questions_only(self) -> None:
        """Two answerers on one stream do not answer each other."""
        answer = Answerer(1).heard(Probe(Kind.PROBE, 1, 1, 0, 0).encode(), 0.0)
        assert answer is not None
        self.assertIsNone(Answerer(2).heard(answer.encode(), 0.0))
        self.assertIsNone(Answerer(2).heard(b"hello", 0.0))

    def test_sizes(self) -> None:
        """A run has at least one probe and at most so many."""
        self.assertRaises(LocalError, Asker, 1, 0)
        self.assertRaises(LocalError, Asker, 1, MAX_PROBES + 1)

    def test_echo(self) -> None:
        """By a parrot: loss and jitter of both ways together, half of the link's round trip as latency."""
        echo = Echo(7, 100)
        wires = []
        for number in range(100):
            wires.append(echo.probe(number * 0.02))
            echo.went()
        for number, wire in enumerate(wires):
            if number not in (3, 50):
                echo.heard(wire, 10 + number * 0.02)
                echo.heard(wire if number == 9 else b"", 10 + number * 0.02)
        path = echo.report(0.05)
        self.assertIsNone(path.back)
        self.assertEqual((path.there.lost, path.there.duplicates, path.there.latency_ms), (2, 1, 25))
        self.assertAlmostEqual(path.there.jitter_ms or 0, 0, 3)
        self.assertIs(path.grade, Grade.ACCEPTABLE)
        self.assertIsNone(echo.report(None).there.latency_ms)


class Table(SynchronousTestCase):
    def test_borders(self) -> None:
        """The documented borders: under 40, 5, none; up to 250, 30, 2; above."""
        for limits, ideal, acceptable, unacceptable in (
            (LATENCY_MS, 39.9, (40, 250), 250.1),
            (JITTER_MS, 4.9, (5, 30), 30.1),
            (LOSS_PERCENT, 0, (0.01, 2), 2.01),
        ):
            self.assertIs(limits.grade(ideal), Grade.IDEAL)
            for value in acceptable:
                self.assertIs(limits.grade(value), Grade.ACCEPTABLE)
            self.assertIs(limits.grade(unacceptable), Grade.UNACCEPTABLE)

    def test_worst(self) -> None:
        """A path is as good as the worst of its figures."""
        self.assertIs(worst([Grade.IDEAL, Grade.UNACCEPTABLE, Grade.ACCEPTABLE]), Grade.UNACCEPTABLE)
        self.assertIs(worst([]), Grade.UNACCEPTABLE)
        direction = Direction(100, 1, 10, 10, 10, 1, 1)
        self.assertIs(direction.grade, Grade.ACCEPTABLE)
