"""The built-in call manager as a trunk: drives :mod:`ice.telephony.loopback` by a clock.

One timer for all lines, set to what is due next, though no sooner than :data:`LEAST_WAIT_S` after the last look: lines that speak would otherwise wake the process once each in 20 ms, and sound that comes
a few milliseconds later is what the gateway's buffers are for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from twisted.internet.defer import Deferred, succeed

from ice.net.alarm import Alarm
from ice.net.clock import Clock
from ice.telephony.loopback import RING_S, Loopback
from ice.telephony.trunk import Ears, Health, Report, Request

LEAST_WAIT_S: Final = 0.005
NOT_STARTED: Final = Health(False, "the built-in call manager was not started")


class LoopbackTrunk:
    """A :class:`~ice.telephony.trunk.Trunk` without telephones; ``rate``: of its lines, Hz, ``ring_s``: until an answer. What it has to tell is told to ``ears``.

    Raises :class:`~ice.errors.LocalError` for a rate that lines do not have.
    """

    def __init__(
        self, name: str, clock: Clock, ears: Ears, *, rate: int = 16_000, ring_s: float = RING_S
    ) -> None:
        self.name = name
        self.rate = rate
        self.engine = Loopback(rate, ring_s=ring_s)
        self.health = NOT_STARTED
        self._clock = clock
        self._ears = ears
        self._alarm = Alarm(clock, self._look)
        self._looked_at = float("-inf")
        self._waiting: list[Report] = []

    @property
    def counters(self) -> Counter[str]:
        """Sound that nobody listened to, and requests without a meaning, by why."""
        return self.engine.dropped + self.engine.ignored

    def start(self) -> None:
        """Take calls; told as soon as the caller has returned. Starting twice is harmless."""
        if not self.health.up:
            self.health = self.engine.health
            self._tell([self.health])

    def stop(self) -> Deferred[None]:
        """Take no more calls, forget those that are; fires when that is done, at once."""
        self.health = NOT_STARTED
        self.engine.clear()
        self._waiting.clear()
        self._alarm.cancel()
        return succeed(None)

    def ask(self, request: Request) -> None:
        """See :meth:`ice.telephony.trunk.Trunk.ask`."""
        self._tell(self.engine.ask(request, self._clock.seconds()))

    def sound(self, call: UUID, samples: bytes) -> None:
        """See :meth:`ice.telephony.trunk.Trunk.sound`."""
        self.engine.sound(call, samples)
        self._arm()

    # -- within

    def _tell(self, reports: Iterable[Report]) -> None:
        """Tell it later, not from within what has led to it."""
        self._waiting += reports
        self._arm()

    def _arm(self) -> None:
        due = None
        if self._waiting:
            due = self._clock.seconds()
        elif self.health.up and (soonest := self.engine.deadline) is not None:
            due = max(soonest, self._looked_at + LEAST_WAIT_S)
        self._alarm.set(due)

    def _look(self) -> None:
        self._looked_at = now = self._clock.seconds()
        reports, self._waiting = self._waiting, []
        if self.health.up:
            reports += self.engine.tick(now)
        for report in reports:
            self._ears.told(self, report)
        self._arm()
