"""One timer for all the elections of a process that wait for the same moment.

Elections with a slow cycle look at their engines in slots (:data:`ice.election.service.SLOTS`).  Whoever runs many of them gives them one wheel, and the reactor has one call to keep for each slot instead of one
for each election.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from ice.net.clock import Clock, DelayedCall

LEAST_WAIT_S: Final = 0.0005  # rounding may make a moment due a little before it is past


class Wheel:
    """Calls at moments of ``clock``."""

    _log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns: dict[float, tuple[DelayedCall, dict[Callable[[], None], None]]] = {}

    def add(self, when: float, call: Callable[[], None]) -> None:
        """Call at ``when``, once, after those that were added before."""
        turn = self._turns.get(when)
        if turn is None:
            wait_s = max(LEAST_WAIT_S, when - self._clock.seconds())
            turn = self._turns[when] = self._clock.callLater(wait_s, self._turn, when), {}
        turn[1][call] = None

    def remove(self, when: float, call: Callable[[], None]) -> None:
        """Do not, after all."""
        timer, calls = self._turns[when]
        del calls[call]
        if not calls:
            del self._turns[when]
            timer.cancel()

    def _turn(self, when: float) -> None:
        for call in self._turns.pop(when)[1]:
            try:
                call()
            except Exception:  # the others are called all the same
                self._log.failure("an election could not go on")
