"""The one clock of a process: what we ask of a reactor, typed, and how its time is made steady.

Twisted's reactors tell the time of day, which jumps when somebody sets it: every keep-alive would fire at once, or
not for an hour.  :func:`steady` puts a monotonic clock in its place before anything is scheduled: one that goes on while the
machine is suspended, where there is one, since whoever wakes must know how long it slept.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol


class DelayedCall(Protocol):
    """What ``callLater`` gives."""

    def cancel(self) -> None:
        """Do not call."""

    def active(self) -> bool:
        """Neither called nor cancelled yet."""


class Clock(Protocol):
    """``IReactorTime`` as a type: a reactor, or :class:`twisted.internet.task.Clock` in a test."""

    def seconds(self) -> float:
        """Now, in seconds since nobody cares when."""

    def callLater(
        self, delay: float, callable: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> DelayedCall:
        """Call ``callable`` after ``delay`` seconds."""


def steady(reactor: Any) -> Any:
    """``reactor``, with a monotonic clock as its own; call it before anything is scheduled."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    reactor.seconds = time.monotonic if boot is None else partial(time.clock_gettime, boot)
    return reactor
