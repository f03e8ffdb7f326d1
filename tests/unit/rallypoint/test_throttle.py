"""A bounded log."""

from twisted.trial.unittest import SynchronousTestCase

from ice.rallypoint.throttle import Throttle


class ThrottleTests(SynchronousTestCase):
    def test_once_in_a_while_with_a_count(self) -> None:
        """The next that passes says how many were kept back."""
        throttle = Throttle(60.0)
        self.assertEqual(throttle.passes("a", 0.0), 0)
        self.assertEqual([throttle.passes("a", float(n)) for n in range(1, 6)], [None] * 5)
        self.assertEqual(throttle.passes("b", 5.0), 0)
        self.assertEqual(throttle.passes("a", 60.0), 5)
        self.assertEqual(throttle.kept_back, 5)

    def test_many_addresses_do_not_fill_the_log(self) -> None:
        """All keys together have a bound too, which is given anew after a while."""
        throttle = Throttle(60.0, burst=3)
        self.assertEqual([throttle.passes(n, 0.0) for n in range(5)], [0, 0, 0, None, None])
        self.assertEqual(throttle.passes(9, 60.0), 0)

    def test_nor_the_memory(self) -> None:
        """The oldest key is forgotten."""
        throttle = Throttle(60.0, burst=1_000, max_keys=10)
        for n in range(100):
            throttle.passes(n, 0.0)
        self.assertEqual(len(throttle._seen), 10)
        self.assertEqual(throttle.passes(0, 1.0), 0)
