"""The frame in which a satellite works: told when to begin and when to stop, by whoever wins or loses the election.

A daemon gives its work as a :class:`Work`.  The frame calls ``active()`` and ``standby()``, one at a time, and waits for each: no ``standby()`` is
called while ``active()`` runs; where the lead is lost meanwhile, ``active()`` is cancelled, and ``standby()`` follows.

::

    STANDBY -- lead --> STARTING -- done --> ACTIVE -- yield --> STOPPING -- done --> STANDBY
                           |  failed, or late                        | failed, or late
                           v                                         v
                        STOPPING, and the lead is given up        STUCK

**The deadline.** A hand-over that takes longer than ``deadline_s`` is an error.  Who cannot begin, gives up the lead, resigns, and rests
(:data:`REST_S`) before it takes part as a candidate again: another may be able to.  Who cannot stop is *stuck*, and its process has to end: nobody else can know what it still does, and
the kernel closes what a process leaves behind.  How a process ends is the daemon's affair (``stuck``, given to the election); without one it stays stuck, out of service, and says so.

**The fence is separate.** The right to act ends by the clock, whatever the frame is doing (:attr:`ice.election.service.Election.may_act`).  Whoever forwards asks it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ice.net.clock import Clock, DelayedCall

MIN_DEADLINE_S: Final = 2.0  # opening sockets on a loaded machine; and a cycle may be a tenth of a second
REST_S: Final = 30.0  # who could not begin tries again after this, or three cycles


class Work(Protocol):
    """What a daemon does while it leads."""

    def active(self) -> Deferred[None] | None:
        """Begin; fires when that is done. May be cancelled; then ``standby`` undoes what was done so far."""

    def standby(self) -> Deferred[None] | None:
        """Stop; fires when nothing is done any more. Called at the start too, where there may be nothing to stop."""

    def ready(self) -> str | None:
        """None while it could work (its control plane and its Rallypoints reach it), else why not."""

    def stored(self) -> bool:
        """Whether it has a configuration on disk that it can work by while its control plane does not answer."""


class Phase(StrEnum):
    """Where the frame is."""

    STANDBY = "standby"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    STUCK = "stuck"


class Satellite:
    """A frame around ``work``. ``failed(why)`` is called when it could not begin, ``stuck(why)`` when it could not stop."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        work: Work,
        *,
        deadline_s: float,
        failed: Callable[[str], None],
        stuck: Callable[[str], None],
    ) -> None:
        self.work = work
        self.deadline_s = deadline_s
        self.phase = Phase.STANDBY
        self.wanted = False  #: whether it is to be active
        self.failures = 0  #: times that it could not begin
        self.took_s = 0.0  #: how long the last hand-over took
        self._clock = clock
        self._failed = failed
        self._stuck = stuck
        self._doing: Deferred[Any] | None = None
        self._began = 0.0
        self._alarm: DelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    def lead(self) -> None:
        """Be active, as soon as that can be."""
        self.wanted = True
        self._go()

    def rest(self) -> None:
        """Be a standby, as soon as that can be."""
        self.wanted = False
        if self.phase is Phase.STARTING and self._doing is not None:
            self._doing.cancel()
        self._go()

    def settled(self) -> Deferred[None]:
        """Fires when nothing is being done: active or standby as wanted, or stuck."""
        if self.phase in (Phase.STANDBY, Phase.ACTIVE, Phase.STUCK):
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        return done

    def _go(self) -> None:
        if self.wanted and self.phase is Phase.STANDBY:
            self._begin(Phase.STARTING, self.work.active)
        elif not self.wanted and self.phase is Phase.ACTIVE:
            self._begin(Phase.STOPPING, self.work.standby)
        elif self.phase in (Phase.STANDBY, Phase.ACTIVE, Phase.STUCK):
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _begin(self, phase: Phase, call: Callable[[], Deferred[None] | None]) -> None:
        self.phase = phase
        self._began = self._clock.seconds()
        self._alarm = self._clock.callLater(self.deadline_s, self._late)
        doing: Deferred[Any] = maybeDeferred(call)
        self._doing = doing
        doing.addCallbacks(self._done, self._broken, callbackArgs=(doing,), errbackArgs=(doing,))

    def _done(self, result: object, doing: Deferred[Any]) -> None:
        if self._over(doing):
            self.phase = Phase.ACTIVE if self.phase is Phase.STARTING else Phase.STANDBY
            self._go()

    def _broken(self, failure: Failure, doing: Deferred[Any]) -> None:
        if not self._over(doing):
            return  # late, and dealt with
        if self.phase is Phase.STARTING and not self.wanted:  # the lead was lost, and it was cancelled
            self._begin(Phase.STOPPING, self.work.standby)
            return
        self._log.failure("the hand-over failed while {phase}", failure=failure, phase=str(self.phase))
        self._trouble(f"failed: {failure.getErrorMessage()}"[:200])

    def _late(self) -> None:
        doing, self._doing = self._doing, None
        self._alarm = None
        assert doing is not None
        doing.cancel()
        self._trouble(f"was not done within {self.deadline_s:g} s")

    def _over(self, doing: Deferred[Any]) -> bool:
        """Whether this is what was being done; it is no longer."""
        if self._doing is not doing:
            return False
        self._doing = None
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()
        self.took_s = self._clock.seconds() - self._began
        return True

    def _trouble(self, how: str) -> None:
        if self.phase is Phase.STARTING:
            self.failures += 1
            self.wanted = False
            why = f"becoming active {how}"
            self._begin(Phase.STOPPING, self.work.standby)
            self._failed(why)
        else:
            self.phase = Phase.STUCK
            self._stuck(f"becoming standby {how}")
            self._go()
