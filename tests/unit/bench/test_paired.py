"""The statistics of the benchmark: pairs, intervals, verdicts."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.paired import Ratio, Summary, Verdict, compare, interval, judge, median, ratios

VALUES = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=15)


class MedianTests(SynchronousTestCase):
    """The middle."""

    def test_odd_and_even(self) -> None:
        """The middle value, or the mean of the two."""
        self.assertEqual(median([3, 1, 2]), 2)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)

    def test_nothing(self) -> None:
        """Nothing has no median."""
        self.assertRaises(ValueError, median, [])

    @given(VALUES)
    @settings(max_examples=100, deadline=None)
    def test_within_the_range(self, values: list[float]) -> None:
        """It lies between the least and the greatest."""
        summary = Summary.of(values)
        self.assertTrue(summary.least <= summary.median <= summary.greatest)


class PairTests(SynchronousTestCase):
    """Only runs of one repeat are compared."""

    def test_by_repeat(self) -> None:
        """A repeat that one of them lacks, and a zero, make no pair."""
        self.assertEqual(
            ratios({0: 2.0, 1: 3.0, 3: 5.0, 4: 1.0}, {0: 1.0, 2: 9.0, 3: 2.0, 4: 0.0}), [2.0, 2.5]
        )

    def test_no_pair(self) -> None:
        """Without a common repeat there is no ratio."""
        self.assertIsNone(compare({0: 1.0}, {1: 1.0}))

    def test_noise_that_hits_both_cancels(self) -> None:
        """A machine that slows down tenfold during the benchmark does not move the ratio."""
        slow = {repeat: 1.0 + repeat for repeat in range(10)}
        found = compare({repeat: 2 * value for repeat, value in slow.items()}, slow)
        assert found is not None
        self.assertEqual((found.median, found.low, found.high, found.pairs), (2.0, 2.0, 2.0, 10))

    def test_few(self) -> None:
        """Of three pairs the interval is the range."""
        self.assertEqual(interval([1.0, 3.0, 2.0]), (1.0, 3.0))

    def test_outlier(self) -> None:
        """One wild value of eleven widens the range and not the interval."""
        values = [1.0 + step / 100 for step in range(10)] + [50.0]
        low, high = interval(values)
        self.assertGreaterEqual(low, 1.0)
        self.assertLess(high, 1.2)

    @given(VALUES)
    @settings(max_examples=10, deadline=None)
    def test_interval_holds_the_median(self, values: list[float]) -> None:
        """The interval is within the range, and the same for the same values."""
        low, high = interval(values)
        self.assertTrue(min(values) <= low <= high <= max(values))
        self.assertEqual(interval(values), (low, high))


class JudgeTests(SynchronousTestCase):
    """Whether a goal is met, and how surely."""

    def ratio(self, low: float, middle: float, high: float) -> Ratio:
        """Ten pairs."""
        return Ratio(middle, low, high, low, high, 10)

    def test_cost(self) -> None:
        """A cost is to be at most the goal."""
        cases = (
            (0.8, 0.9, 1.0, Verdict.SURE),
            (0.8, 0.9, 1.1, Verdict.LIKELY),
            (0.9, 1.1, 1.2, Verdict.UNLIKELY),
            (1.1, 1.2, 1.3, Verdict.MISSED),
        )
        for low, middle, high, verdict in cases:
            self.assertEqual(judge(self.ratio(low, middle, high), 1.0, False), verdict)

    def test_yield(self) -> None:
        """A yield is to be at least the goal."""
        cases = (
            (1.0, 1.1, 1.2, Verdict.SURE),
            (0.9, 1.1, 1.2, Verdict.LIKELY),
            (0.8, 0.9, 1.0, Verdict.UNLIKELY),
            (0.7, 0.8, 0.9, Verdict.MISSED),
        )
        for low, middle, high, verdict in cases:
            self.assertEqual(judge(self.ratio(low, middle, high), 1.0, True), verdict)

    def test_few(self) -> None:
        """Three pairs make nothing sure, whatever they say."""
        self.assertEqual(judge(Ratio(0.5, 0.5, 0.5, 0.5, 0.5, 3), 1.0, False), Verdict.LIKELY)
        self.assertEqual(judge(Ratio(1.5, 1.5, 1.5, 1.5, 1.5, 3), 1.0, False), Verdict.UNLIKELY)

    def test_met(self) -> None:
        """Met by the median means met."""
        self.assertEqual([verdict.met for verdict in Verdict], [True, True, False, False])
