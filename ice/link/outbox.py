"""Media that waits: the bounded queue of one link.

While the link is *open* media goes straight to the transport and never comes here.  It is shut while the kernel
takes no more (*blocked*) or while the far program leaves a PING unanswered (*stale*; see "Alive and fresh" in
docs/link-protocol.md).  Then frames wait; at the bound the oldest ordinary frame goes first and urgent ones last,
and a frame that has waited too long is not sent at all: late audio is lost audio.  Every loss has a counter.
"""

from collections import deque
from typing import Protocol

from ice.link.frame import FLAGS_AT, Flag

MAX_FRAMES = 256  # five seconds of one talker at 50 packets/s
MAX_AGE_S = 2.0  # who wakes after a minute wants to hear now, not then


class Gate(Protocol):
    """Whoever writes media beside the outbox and must know when it may: told at each change."""

    open: bool


class Outbox:
    """The media queue of one link.  ``open`` is a plain attribute, since it is read once per packet."""

    __slots__ = (
        "_blocked",
        "_frames",
        "_gate",
        "_max_age_s",
        "_max_frames",
        "_stale",
        "dropped_full",
        "dropped_old",
        "flags_at",
        "open",
        "queued",
    )

    def __init__(self, *, max_frames: int = MAX_FRAMES, max_age_s: float = MAX_AGE_S) -> None:
        #: Made when the first frame waits: most links never need it, and an empty deque is 600 bytes.
        self._frames: deque[tuple[float, bytes]] | None = None
        self._max_frames = max_frames
        self._max_age_s = max_age_s
        self._blocked = False
        self._stale = False
        self._gate: Gate | None = None
        #: Where the flags are in a whole frame of media of this link.
        self.flags_at = FLAGS_AT
        #: True while media may be written directly: not blocked, not stale, nothing waiting.
        self.open = True
        self.queued = 0  #: frames that ever waited
        self.dropped_full = 0  #: frames dropped because the queue was full
        self.dropped_old = 0  #: frames dropped because they had waited too long

    def __len__(self) -> int:
        return len(self._frames) if self._frames else 0

    @property
    def blocked(self) -> bool:
        """The transport takes no more."""
        return self._blocked

    @blocked.setter
    def blocked(self, value: bool) -> None:
        self._blocked = value
        self._judge()

    @property
    def stale(self) -> bool:
        """The far program has not answered a PING for too long."""
        return self._stale

    @stale.setter
    def stale(self, value: bool) -> None:
        self._stale = value
        self._judge()

    def _judge(self) -> None:
        self.open = not (self._blocked or self._stale or self._frames)
        if self._gate is not None:
            self._gate.open = self.open

    @property
    def gate(self) -> Gate | None:
        """Told whenever :attr:`open` may have changed, and at once."""
        return self._gate

    @gate.setter
    def gate(self, gate: Gate | None) -> None:
        if self._gate is not None:
            self._gate.open = False
        self._gate = gate
        self._judge()

    def push(self, frame: bytes, now: float) -> None:
        """Let ``frame`` (a whole MEDIA frame) wait; something older may be dropped for it."""
        self.queued += 1
        if self._frames is None:
            self._frames = deque()
        if len(self._frames) >= self._max_frames:
            self._drop_one(self._frames)
        self._frames.append((now, frame))
        if self.open:
            self._judge()

    def _drop_one(self, frames: deque[tuple[float, bytes]]) -> None:
        self.dropped_full += 1
        for index, (_, frame) in enumerate(frames):
            if not frame[self.flags_at] & Flag.URGENT:
                del frames[index]
                return
        frames.popleft()

    def next(self, now: float) -> bytes | None:
        """The next frame to write, oldest first, or None while the outbox is shut or when it is empty."""
        frames = self._frames
        if self._blocked or self._stale:
            return None
        while frames:
            queued_at, frame = frames.popleft()
            if now - queued_at <= self._max_age_s:
                if not frames:
                    self._judge()
                return frame
            self.dropped_old += 1
        self._judge()
        return None

    def forget(self) -> int:
        """Throw away everything that waits; how much it was."""
        count = len(self)
        self._frames = None
        self._judge()
        return count
