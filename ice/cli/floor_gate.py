"""The floor of the stream on which a person talks: asked at each press, listened for all the time.

The driver of :mod:`ice.media.floor` for one talker: its deadlines become delayed calls, its decisions sentences for a person. A burst that has lost
the floor is not torn off here: :attr:`Gate.stopped` says so, and who sends ends it with its marks.
"""

from __future__ import annotations

from collections.abc import Iterable

from ice.cli.display import Display
from ice.media.floor import Claim, Decision, Floor, Reason, Refused, Rules, TimeUp, TimeWarning, Usurped
from ice.media.floor_ears import FloorEars
from ice.net.clock import Clock, DelayedCall
from ice.streams.interface import Datagram

LEAST_WAIT_S = 0.001  # rounding may make a deadline due a moment before it is past


class Gate:
    """Who may talk on one stream: an :class:`ice.streams.interface.Receiver` of it; :meth:`close` when it is done with."""

    def __init__(
        self,
        clock: Clock,
        rules: Rules,
        display: Display,
        *,
        priority: int = 0,
        emergency: bool = False,
    ) -> None:
        #: Whether the burst that runs has to end; whether that is because its time is over.
        self.stopped = self.time_up = False
        #: Bursts that had to end before they were said, and presses that were refused.
        self.cut, self.refused = 0, 0
        self._clock = clock
        self._display = display
        self._floor = Floor(rules)
        self._ears = FloorEars(self._floor)
        self._priority, self._emergency = priority, emergency
        self._call: DelayedCall | None = None
        self._due_at = 0.0
        self._closed = False
        self._told: tuple[Reason, int] | None = None

    # -- ice.streams.interface.Receiver, the path aside

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._carry_out(self._ears.datagram(datagram.payload, datagram.flags, self._clock.seconds()))

    # -- the talker's

    def press(self, ssrc: int, *, waiting: bool = False) -> Refused | None:
        """Ask to talk under this SSRC; who is in the way, and none once the floor is ours.

        ``waiting``: a program asks again and again until the floor is free, so that the same answer is no news. A person who presses again is told again.
        """
        answer = self._floor.request(Claim(ssrc, self._priority, self._emergency), self._clock.seconds())
        self.stopped = self.time_up = False
        self._carry_out(())
        if not isinstance(answer, Refused):
            self._told = None
            return None
        if not waiting or self._told != (answer.reason, answer.by.source):
            self._told = answer.reason, answer.by.source
            self.refused += 1
            who = self._ears.name(answer.by.source)
            above = "" if answer.reason is Reason.BUSY else f" {_rank(answer.by)}, which is above ours"
            self._display.say(
                "refused",
                f"not now: {who} talks{above}; the floor is free {answer.remaining_s:.1f} s after the last word",
                reason=str(answer.reason), by=who, priority=answer.by.priority, emergency=answer.by.emergency,
                remaining_s=answer.remaining_s,
            )  # fmt: skip
        return answer

    def release(self) -> None:
        """We have ended."""
        self._carry_out(self._floor.release(self._clock.seconds()))

    def close(self) -> None:
        """Leave nothing in the reactor, whatever is heard afterwards."""
        self._closed = True
        self._cancel()

    # -- within

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Usurped):
                self._stop()
                who = self._ears.name(decision.by.source)
                how = (
                    "began at the same moment"
                    if decision.reason is Reason.COLLISION
                    else f"talks {_rank(decision.by)}"
                )
                self._display.say(
                    "usurped",
                    f"stopped after {decision.talked_s:.1f} s: {who} {how}",
                    reason=str(decision.reason), by=who, priority=decision.by.priority,
                    emergency=decision.by.emergency, talked_s=decision.talked_s,
                )  # fmt: skip
            elif isinstance(decision, TimeUp):
                self._stop()
                self.time_up = True
                self._display.say(
                    "time-up",
                    f"stopped: {round(decision.talked_s, 1):g} s is as long as anybody may talk here at a time",
                    talked_s=decision.talked_s,
                )
            elif isinstance(decision, TimeWarning):
                self._display.say(
                    "time-warning",
                    f"{round(decision.remaining_s, 1):g} s left to talk",
                    remaining_s=decision.remaining_s,
                )
        self._schedule()

    def _stop(self) -> None:
        self.stopped = True
        self.cut += 1

    def _schedule(self) -> None:
        """Look again at the floor's deadline; packets move it on all the time, so a call that comes too early is left alone."""
        deadline = self._floor.deadline
        if self._closed:
            return
        if self._call is not None and self._call.active() and self._due_at <= deadline:
            return
        self._cancel()
        if deadline != float("inf"):
            wait_s = max(LEAST_WAIT_S, deadline - self._clock.seconds())
            self._due_at = self._clock.seconds() + wait_s
            self._call = self._clock.callLater(wait_s, self._tick)

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _tick(self) -> None:
        self._call = None
        self._carry_out(self._floor.tick(self._clock.seconds()))


def _rank(claim: Claim) -> str:
    return "in an emergency" if claim.emergency else f"with priority {claim.priority}"
