"""Circles: what counts, who pauses, and for how long."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.reflector.loop import FIRST_PAUSE_S, LONGEST_PAUSE_S, SETTLED_S, Circle, Paused


class CircleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.circle = Circle(Random(3), 0.0)
        self.now = 100.0

    def come_back(
        self, count: int, *witnesses: str, rate: float = 50.0, certain: bool = False
    ) -> Paused | None:
        """So many returns, by turns; the pause, if it came to one."""
        for n in range(count):
            self.now += 1 / rate
            pause = self.circle.returned(witnesses[n % len(witnesses)], self.now, certain=certain)
            if pause is not None:
                return pause
        return None

    def test_within_a_second(self) -> None:
        """Two witnesses, fifty returns a second: noticed within a second, with both in the reason."""
        begun = self.now
        pause = self.come_back(50, "10.0.0.2", "the stream")
        assert pause is not None
        self.assertLessEqual(self.now - begun, 0.9)
        self.assertIn("10.0.0.2", pause.why)
        self.assertIn("the stream", pause.why)
        self.assertTrue(self.circle.paused)

    def test_slower_is_none(self) -> None:
        """Forty a second is no circle: packets of 40 ms die one by one."""
        self.assertIsNone(self.come_back(1_000, "a", "b", rate=40.0))

    def test_one_witness(self) -> None:
        """A thousand a second from one are an echo; one of another among many is chance."""
        self.assertIsNone(self.come_back(5_000, "a", rate=1_000.0))
        for _ in range(50):
            self.assertIsNone(self.come_back(24, "a", rate=1_000.0))
            self.assertIsNone(self.come_back(1, "b", rate=1_000.0))

    def test_certain(self) -> None:
        """The certain sign is enough alone."""
        pause = self.come_back(50, "the stream", certain=True)
        assert pause is not None
        self.assertIn("another reflector", pause.why)

    def test_certain_and_shared(self) -> None:
        """Two reflectors that are equally quick see half of a talker's packets each: the certain sign is noticed within a second all the same."""
        begun = self.now
        self.assertIsNotNone(self.come_back(25, "the stream", rate=25.0, certain=True))
        self.assertLessEqual(self.now - begun, 0.9)
        self.circle = Circle(Random(3), 0.0)
        self.assertIsNone(self.come_back(200, "the stream", rate=15.0, certain=True))

    def test_patience(self) -> None:
        """Each rule has a patience of its own, always under a second."""
        spans = set()
        for seed in range(20):
            self.circle, begun = Circle(Random(seed), 0.0), self.now
            self.assertIsNotNone(self.come_back(50, "a", "b"))
            self.assertLessEqual(self.now - begun, 0.87)
            spans.add(round(self.now - begun, 3))
        self.assertGreater(len(spans), 8)

    def test_back_off(self) -> None:
        """Pauses double up to a minute, each a quarter more or less; after a calm time the first comes again."""
        lengths = []
        for _ in range(8):
            pause = self.come_back(50, "a", "b")
            assert pause is not None
            lengths.append(pause.seconds)
            self.assertFalse(self.circle.resume(self.now + pause.seconds - 0.01))
            self.now += pause.seconds
            self.assertTrue(self.circle.resume(self.now))
        for number, length in enumerate(lengths):
            middle = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number)
            self.assertTrue(0.75 * middle <= length <= 1.25 * middle, lengths)
        self.now += 100.0
        pause = self.come_back(50, "a", "b")
        assert pause is not None
        self.assertLessEqual(pause.seconds, 1.25 * FIRST_PAUSE_S)
        self.assertEqual(self.circle.noticed, 9)

    def test_the_newcomer_yields(self) -> None:
        """A rule that was opened a moment ago has less patience than one that was open for long: so one of two goes on."""
        pause = self.come_back(50, "a", "b")
        assert pause is not None
        self.now += pause.seconds
        self.circle.resume(self.now)
        other, begun = Circle(Random(4), 0.0), self.now
        while self.circle.paused is False:
            self.now += 0.01
            for witness in "ab":
                self.assertIsNone(other.returned(witness, self.now))
                self.circle.returned(witness, self.now)
        self.assertLess(self.now - begun, SETTLED_S)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 0.1), st.sampled_from("aab")), max_size=200))
    def test_never_slower(self, returns: list[tuple[float, str]]) -> None:
        """No pause without fifty a second of late."""
        circle, now, times = Circle(Random(1), 0.0), 0.0, []
        for wait, witness in returns:
            now += wait
            times.append(now)
            if circle.returned(witness, now) is not None:
                self.assertGreaterEqual(sum(now - at <= 0.5 for at in times), 25)
                return
