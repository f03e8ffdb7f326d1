"""What was here a moment ago."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.streams.recent import Recent


class RecentTests(SynchronousTestCase):
    def test_once(self) -> None:
        """The same bytes are new once within the window, other bytes are their own affair."""
        recent = Recent(2.0)
        self.assertFalse(recent.ask(b"one", 10.0))
        self.assertTrue(recent.ask(b"one", 10.0))
        self.assertFalse(recent.ask(b"two", 10.5))
        self.assertTrue(recent.ask(b"one", 12.0))

    def test_window(self) -> None:
        """After the window the same bytes are new again, and asking meanwhile has not prolonged it."""
        recent = Recent(2.0)
        recent.ask(b"one", 10.0)
        self.assertTrue(recent.ask(b"one", 11.9))
        self.assertFalse(recent.ask(b"one", 12.1))
        self.assertTrue(recent.ask(b"one", 14.0))

    def test_seen_does_not_mark(self) -> None:
        """Looking alone remembers nothing."""
        recent = Recent()
        self.assertFalse(recent.seen(b"one", 0.0))
        self.assertFalse(recent.ask(b"one", 0.0))
        self.assertTrue(recent.seen(b"one", 1.0))
        self.assertFalse(recent.seen(b"one", 3.0))

    def test_bounded(self) -> None:
        """Datagrams without end cost bounded memory; the latest are known, and too many are counted."""
        recent = Recent(2.0, limit=100)
        for number in range(1_000):
            self.assertFalse(recent.ask(b"%d" % number, 5.0))
            self.assertLessEqual(len(recent), 100)
        for number in range(951, 1_000):
            self.assertTrue(recent.ask(b"%d" % number, 5.0))
        self.assertGreater(recent.overflows, 0)

    def test_a_long_silence(self) -> None:
        """What is old is given up when something new comes, and counts as no overflow."""
        recent = Recent(2.0)
        for number in range(50):
            recent.ask(b"%d" % number, 5.0)
        recent.ask(b"new", 100.0)
        self.assertEqual((len(recent), recent.overflows), (1, 0))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1.5)), max_size=80))
    def test_like_a_simple_one(self, asked: list[tuple[int, float]]) -> None:
        """It answers as a list of everything would, whatever is asked when, as long as there is room."""
        recent, simple, now = Recent(2.0), dict[int, float](), 0.0
        for number, step in asked:
            now += step
            expected = number in simple and now - simple[number] <= 2.0
            self.assertIs(recent.ask(b"payload %d" % number, now), expected)
            if not expected:
                simple[number] = now
