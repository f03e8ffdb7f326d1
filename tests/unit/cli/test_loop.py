"""Waiting: for time, for a person, for whichever comes first.  Running the reactor itself is left to the system tests."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.loop import Stop, first, sleep


class StopTests(SynchronousTestCase):
    def test_asked(self) -> None:
        """Whoever waits hears of it once, and who comes later at once."""
        stop = Stop()
        early = stop.wait()
        self.assertNoResult(early)
        stop.ask()
        stop.ask()
        self.assertIsNone(self.successResultOf(early))
        self.assertIsNone(self.successResultOf(stop.wait()))
        self.assertTrue(stop.asked)

    def test_the_first_ends_the_others(self) -> None:
        """Several wait (one for each group of a mission), and the first of them gives up the rest as soon as it is told: nothing fires twice."""
        stop = Stop()
        waits = [stop.wait() for _ in range(3)]
        result = Deferred.fromCoroutine(first(*waits))
        stop.ask()
        self.assertEqual(self.successResultOf(result), 0)

    def test_not_wanted_any_more(self) -> None:
        """A wait that was cancelled is forgotten."""
        stop = Stop()
        waiting = stop.wait()
        waiting.cancel()
        self.failureResultOf(waiting)
        stop.ask()


class FirstTests(SynchronousTestCase):
    def test_the_earlier_wins(self) -> None:
        """The one that fires first is told by its place; the other is cancelled, and its timer with it."""
        clock = Clock()
        result = Deferred.fromCoroutine(first(sleep(clock, 5), sleep(clock, 1)))
        clock.advance(1)
        self.assertEqual(self.successResultOf(result), 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_one_was_there_already(self) -> None:
        """What has happened before counts."""
        clock, stop = Clock(), Stop()
        stop.ask()
        result = Deferred.fromCoroutine(first(sleep(clock, 5), stop.wait()))
        self.assertEqual(self.successResultOf(result), 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A failure that comes first is raised as it is, and nothing stays behind."""
        clock = Clock()
        failing: Deferred[None] = Deferred()
        result = Deferred.fromCoroutine(first(sleep(clock, 5), failing))
        failing.errback(ZeroDivisionError())
        self.failureResultOf(result, ZeroDivisionError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """Who waits for the first and gives up cancels them all."""
        clock = Clock()
        result = Deferred.fromCoroutine(first(sleep(clock, 5), sleep(clock, 1)))
        result.cancel()
        self.failureResultOf(result)
        self.assertEqual(clock.getDelayedCalls(), [])
