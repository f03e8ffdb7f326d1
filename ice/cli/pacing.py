"""The media clock: when the next frame of a burst is due.

Frame ``n`` is due at ``start + n × frame``, so errors of a timer never add up. After a stall (a suspended process, a busy
machine) the frames that fell behind follow at up to four times the normal pace, never all at once: a burst of packets only
fills queues. Who is more than :data:`GIVE_UP_S` behind does not catch up at all: the clock is moved on instead, and the
listener hears a pause where there was one.
"""

from __future__ import annotations

CATCH_UP = 4  # times the normal pace while frames are late
GIVE_UP_S = 1.0  # more than a listener's jitter buffer would bridge


class MediaClock:
    """Paces frames of ``frame_s`` seconds from ``now`` on; the first is due at once."""

    def __init__(self, frame_s: float, now: float) -> None:
        self.frame_s = frame_s
        self._start = now
        self._frames = 0
        self._last = float("-inf")
        #: Times that the clock was moved on because too much was late, and the seconds skipped by that.
        self.stalls = 0
        self.skipped_s = 0.0

    @property
    def next_at(self) -> float:
        """When the next frame may go."""
        return max(self._start + self._frames * self.frame_s, self._last + self.frame_s / CATCH_UP)

    def due(self, now: float) -> bool:
        """Whether a frame is to be sent now; asking counts it as sent."""
        if now < self.next_at:
            return False
        behind = now - (self._start + self._frames * self.frame_s)
        if behind > GIVE_UP_S:
            self.stalls += 1
            self.skipped_s += behind
            self._start += behind
        self._frames += 1
        self._last = now
        return True
