"""The media clock."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.pacing import CATCH_UP, MediaClock


class MediaClockTests(SynchronousTestCase):
    def test_no_drift(self) -> None:
        """Timers that always fire late never make the talk longer: frame n is due at n × 20 ms."""
        clock = MediaClock(0.02, 100.0)
        now = 100.0
        for _ in range(5_000):
            self.assertTrue(clock.due(now))
            now = clock.next_at + 0.0013
        self.assertAlmostEqual(clock.next_at, 100.0 + 5_000 * 0.02)

    def test_not_early(self) -> None:
        """Asked too early it says no, and the frame is still due later."""
        clock = MediaClock(0.02, 0.0)
        self.assertTrue(clock.due(0.0))
        self.assertFalse(clock.due(0.019))
        self.assertTrue(clock.due(0.02))

    def test_catches_up_without_a_burst(self) -> None:
        """After a stall of 300 ms the missing frames follow at a quarter of the spacing, then all is as before."""
        clock = MediaClock(0.02, 0.0)
        self.assertTrue(clock.due(0.0))
        now, sent = 0.32, []
        while clock.next_at < 1.0:
            now = max(now, clock.next_at)
            self.assertTrue(clock.due(now))
            sent.append(now)
        gaps = [later - earlier for earlier, later in pairwise(sent)]
        self.assertGreaterEqual(min(gaps), 0.02 / CATCH_UP - 1e-9)
        self.assertEqual(len(sent), 49)
        self.assertAlmostEqual(gaps[-1], 0.02)
        self.assertEqual(clock.stalls, 0)

    def test_gives_up_a_long_stall(self) -> None:
        """More than a second behind is not caught up: the clock moves on, and says by how much."""
        clock = MediaClock(0.02, 0.0)
        clock.due(0.0)
        self.assertTrue(clock.due(3.02))
        self.assertEqual(clock.stalls, 1)
        self.assertAlmostEqual(clock.skipped_s, 3.0)
        self.assertAlmostEqual(clock.next_at, 3.04)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0.0, 2.0), max_size=60))
    def test_never_too_fast(self, steps: list[float]) -> None:
        """Whatever the timers do, two frames are never closer than a quarter of a frame."""
        clock, now, last = MediaClock(0.06, 0.0), 0.0, None
        for step in steps:
            now += step
            while clock.due(now):
                if last is not None:
                    self.assertGreaterEqual(now - last, 0.06 / CATCH_UP - 1e-9)
                last = now
