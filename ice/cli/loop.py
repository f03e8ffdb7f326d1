"""Runs one coroutine on the reactor and gives its exit status: what every command that talks or listens does.

Ctrl-C, SIGTERM and SIGHUP do not tear anything down: they fire :attr:`Stop.asked`, and the coroutine ends its burst, writes its
file and says goodbye. Who presses Ctrl-C twice means it: the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from ice.cli.processes import heeded
from ice.net.clock import Clock, steady

_T = TypeVar("_T")


class Stop:
    """Whether a person has asked us to stop, and a way to wait for it."""

    def __init__(self) -> None:
        self.asked = False
        self.signal: signal.Signals | None = None
        self._waiting: list[Deferred[None]] = []

    def ask(self) -> None:
        """Stop soon; asking twice is harmless."""
        if not self.asked:
            self.asked = True
            # One by one: who is told first may cancel the waits of others, which then are not in the list any more.
            while self._waiting:
                self._waiting.pop(0).callback(None)

    def wait(self) -> Deferred[None]:
        """Fires when we are asked to stop; cancel it when it is not wanted any more."""
        deferred: Deferred[None] = Deferred(self._forget)
        if self.asked:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    def _forget(self, deferred: Deferred[None]) -> None:
        if deferred in self._waiting:
            self._waiting.remove(deferred)


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires after ``seconds``; may be cancelled."""
    deferred: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, deferred.callback, None)
    return deferred


async def first(*deferreds: Deferred[Any]) -> int:
    """The index of the one that fires first; the others are cancelled. A failure of the first is raised."""
    done = DeferredList(deferreds, fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True)
    try:
        _, index = await done
    except Exception as error:
        inner = getattr(error, "subFailure", None)
        if inner is not None:
            inner.raiseException()
        raise
    finally:
        for deferred in deferreds:
            deferred.cancel()
    return int(index)


def run(main: Callable[[Any, Stop], Coroutine[Deferred[Any], Any, _T]], *, verbosity: int = 0) -> _T:
    """Run ``main(reactor, stop)`` to its end on the global reactor, with a steady clock; its result, or its exception.

    A process can do this once. Log lines from ``error`` on go to standard error (from ``info`` on with ``-v``, all with ``-vv``).
    """
    from twisted.internet import reactor as unsteady

    reactor = steady(unsteady)
    _begin_log((LogLevel.error, LogLevel.info, LogLevel.debug)[min(verbosity, 2)])
    stop = Stop()
    outcome: list[Any] = []

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.signal = signal.Signals(number)
        reactor.callFromThread(stop.ask)

    def ended(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(main(reactor, stop)).addBoth(ended)

    before = {number: signal.signal(number, note) for number in heeded()}
    try:
        reactor.callWhenRunning(begin)
        reactor.run(installSignalHandlers=False)
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    result = outcome[0]
    if isinstance(result, Failure):
        if result.check(CancelledError):
            raise KeyboardInterrupt
        result.raiseException()
    finished: _T = result
    return finished


def _begin_log(level: Any) -> None:
    # Twisted's own classes do not say in types that they are what they are.
    wanted: Any = LogLevelFilterPredicate(level)
    printed: Any = FileLogObserver(sys.stderr, formatEventAsClassicLogText)
    observer: Any = FilteringLogObserver(printed, [wanted])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
