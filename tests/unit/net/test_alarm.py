"""One look at the clock, when something is due."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.net.alarm import Alarm


class Looks(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.looks: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.looks.append(self.clock.seconds()))

    def test_when_due(self) -> None:
        """Once, then; what is due sooner moves it, what is due later does not."""
        for due in (5.0, 3.0, 9.0):
            self.alarm.set(due)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.looks, [3.0])

    def test_past(self) -> None:
        """What is past is due at once, though never within the call."""
        self.clock.advance(7.0)
        self.alarm.set(3.0)
        self.assertEqual(self.looks, [])
        self.clock.advance(0.001)
        self.assertEqual(len(self.looks), 1)

    def test_nothing(self) -> None:
        """Where nothing is due there is no timer; cancelling twice is harmless; it may be set again."""
        for nothing in (None, float("inf")):
            self.alarm.set(1.0)
            self.alarm.set(nothing)
            self.alarm.cancel()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.alarm.set(2.0)
        self.clock.advance(2.0)
        self.assertEqual(self.looks, [2.0])

    def test_set_while_looking(self) -> None:
        """Whoever looks says when to look again."""
        alarm = Alarm(self.clock, lambda: (self.looks.append(1), alarm.set(self.clock.seconds() + 1.0)))
        alarm.set(1.0)
        self.clock.pump([0.5] * 10)
        self.assertEqual(len(self.looks), 5)
