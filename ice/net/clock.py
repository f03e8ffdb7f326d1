"""The one clock of a process: what we ask of a reactor, typed, and how its time is made steady.

Twisted's reactors tell the time of day, which jumps when somebody sets it: every keep-alive would fire at once, or
not for an hour.  :func:`steady` puts the monotonic clock in its place before anything is scheduled.
"""

import time
from collections.abc import Callable
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
    """``reactor``, with :func:`time.monotonic` as its clock; call it before anything is scheduled."""
    reactor.seconds = time.monotonic
    return reactor
