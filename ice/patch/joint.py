"""One patch at work: its streams are joined, its engine is driven, and what the engine wants sent is sent.

One timer per patch, and only while somebody talks: it is set to the engine's deadline, and is left where it is when the deadline moves on, since a timer that is early costs less than one that is
moved with every packet.

A process that was held up finds its timers overdue, and what came meanwhile in its sockets. Sound that is pulled before that has been read is made up in its place: a word of 100 ms was heard with a
hole of 60. So a timer that comes late lets the sockets be read first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from ice.media.floor import Granted, Refused
from ice.net.clock import Clock, DelayedCall
from ice.patch.announcement import Announcement
from ice.patch.junction import Junction
from ice.patch.outcome import Out, Passed
from ice.streams.interface import Datagram, PassingStream
from ice.streams.rallypoint import RallypointNetwork

LEAST_WAIT_S: Final = 0.0005  # rounding may make a deadline due a moment before it is past
HELD_UP_S: Final = 0.01  # later than this a timer is not by itself; jitter buffers bridge four times as much


class Joint:
    """``engine`` over ``network``; ``look`` is called before each datagram is taken (the election's fence)."""

    def __init__(
        self,
        clock: Clock,
        network: RallypointNetwork,
        engine: Junction,
        wall: Callable[[], float],
        look: Callable[[], None],
    ) -> None:
        self.engine = engine
        self._clock = clock
        self._network = network
        self._wall = wall
        self._look = look
        self._timer: DelayedCall | None = None
        self._timer_at = math.inf
        self._streams: dict[str, PassingStream] = {}
        self._closed: dict[str, str] = {}
        for stream_id in engine.patch.stream_ids:
            self.path(stream_id, False, "not joined yet")
        for stream_id in engine.patch.stream_ids:
            stream = cast(PassingStream, network.join(stream_id, _Ear(self, stream_id)))
            self._streams[stream_id] = stream
            engine.named(stream_id, stream.source)
            if stream.up:
                self.path(stream_id, True, "joined")

    def __repr__(self) -> str:
        return f"<{self.engine!r} at work>"

    @property
    def down(self) -> tuple[str, str] | None:
        """A stream whose path is closed, and why; None where all are open."""
        return next(iter(self._closed.items()), None)

    def heard(self, stream_id: str, datagram: Datagram) -> None:
        """A datagram came on a stream."""
        self._look()
        now = self._clock.seconds()
        outs = self.engine.datagram(stream_id, datagram, now, self._wall())
        if outs:
            self._carry(outs, now)
        self._rearm()

    def path(self, stream_id: str, up: bool, why: str) -> None:
        """The way to a stream has opened or closed."""
        self.engine.path(stream_id, up, why)
        if up:
            self._closed.pop(stream_id, None)
        else:
            self._closed[stream_id] = why

    def announce(self, announcement: Announcement) -> Granted | Refused:
        """See :meth:`ice.patch.junction.Junction.announce`."""
        answer = self.engine.announce(announcement, self._clock.seconds())
        self._rearm()
        return answer

    def take_over(self) -> None:
        """Speak from now on."""
        self.engine.take_over()

    def stand_by(self) -> None:
        """Hear, and say nothing; the ends of bursts are not said either, since another may be speaking already."""
        self.engine.stand_by(self._clock.seconds(), self._wall())
        self._cancel()

    def leave(self) -> None:
        """End our bursts and leave the streams."""
        self._cancel()
        now = self._clock.seconds()
        if self.engine.active:
            self._carry(self.engine.close(now, self._wall()), now)
        for stream in self._streams.values():
            stream.leave()
        self._streams.clear()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _carry(self, outs: Sequence[Out], now: float) -> None:
        if len(outs) == 1 and len(outs[0].streams) == 1:
            self._send(outs, now)
            return
        self._network.hold()
        try:
            self._send(outs, now)
        finally:
            self._network.let_go()

    def _send(self, outs: Sequence[Out], now: float) -> None:
        streams, counts = self._streams, self._network.counts
        for out in outs:
            if isinstance(out, Passed):
                for stream_id in out.streams:
                    before = counts.circular
                    if not streams[stream_id].forward(out.datagram) and counts.circular != before:
                        self.engine.passed_before(stream_id, now)
            else:
                for stream_id in out.streams:
                    streams[stream_id].send(out.payload, out.flags)

    def _rearm(self) -> None:
        due = self.engine.deadline
        if due == math.inf:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._clock.callLater(max(LEAST_WAIT_S, due - self._clock.seconds()), self._tick)

    def _tick(self, *, patient: bool = True) -> None:
        self._timer = None
        now = self._clock.seconds()
        if patient and now - self._timer_at > HELD_UP_S:
            self._timer = self._clock.callLater(0, partial(self._tick, patient=False))
            return
        self._look()
        if now >= self.engine.deadline:
            self._carry(self.engine.tick(now, self._wall()), now)
        self._rearm()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


class _Ear:
    """One stream's receiver."""

    def __init__(self, joint: Joint, stream_id: str) -> None:
        self._joint = joint
        self._stream_id = stream_id

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._joint.heard(self._stream_id, datagram)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._joint.path(self._stream_id, up, why)
