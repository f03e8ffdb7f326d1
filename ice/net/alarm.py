"""One look at the clock, when something is due: what drives an engine by its deadline.

A deadline moves on all the time, with each packet perhaps. A timer that is early costs less than one that is moved so often, so it is left where it is when the time moves on, and set
anew only when something is due sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ice.net.clock import Clock, DelayedCall

LEAST_WAIT_S: Final = 0.0005  # rounding may make a deadline due a moment before it is past


class Alarm:
    """Calls ``look`` at the time that was set last, or a little earlier; whoever looks sets it again."""

    def __init__(self, clock: Clock, look: Callable[[], object]) -> None:
        self._clock = clock
        self._look = look
        self._timer: DelayedCall | None = None
        self._at = 0.0

    def set(self, due: float | None) -> None:
        """Something is due at ``due`` on the clock; at once where that is past, and nothing where it is ``None`` or infinity."""
        if due is None or due == float("inf"):
            self.cancel()
            return
        if self._timer is not None:
            if self._at <= due:
                return
            self._timer.cancel()
        now = self._clock.seconds()
        self._at = max(due, now + LEAST_WAIT_S)
        self._timer = self._clock.callLater(self._at - now, self._ring)

    def cancel(self) -> None:
        """Do not look; twice is harmless."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self._look()
