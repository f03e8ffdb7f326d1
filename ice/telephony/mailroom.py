"""Says messages on streams that are joined when they are wanted: a gateway writes to thousands of people, each of whom listens to a stream of his own, and a link may have joined a few hundred.

A stream is joined to talk alone, and kept as long as others do not need its place (:data:`KEPT`). What is said before its path is open waits for that, a second at most: whoever wants an answer says it again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Final

import attrs

from ice.link.frame import Flag
from ice.net.clock import Clock
from ice.streams.interface import Datagram, Network, Stream
from ice.telephony.post import Mail

KEPT: Final = 64  # streams: of a link's 256 the rest is for calls
MOST: Final = 128  # while many people are written to within IDLE_S
IDLE_S: Final = 1.0  # what was said has left by then
WAIT_S: Final = 1.0
WAITING: Final = 32  # messages of one stream whose path is not open yet


@attrs.define(eq=False)
class _Box:
    """One stream, and what waits for its path."""

    room: Mailroom
    stream: Stream | None = None
    said_at: float = 0.0
    waiting: deque[tuple[float, bytes]] = attrs.field(factory=lambda: deque(maxlen=WAITING))

    def datagram(self, datagram: Datagram) -> None:
        """Nobody listens here."""
        self.room.counts["heard"] += 1

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if up:
            self.room.opened(self)


class Mailroom:
    """Says mail on ``network``; see the module docstring. ``counts``: ``said``, and what was not, by reason."""

    def __init__(self, clock: Clock, network: Network) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._network = network
        self._boxes: OrderedDict[str, _Box] = OrderedDict()  # the one used last at the end

    def __len__(self) -> int:
        return len(self._boxes)

    def say(self, mail: Mail) -> None:
        """Say it on its stream, at once or as soon as the path is open."""
        now = self._clock.seconds()
        box = self._boxes.get(mail.stream)
        if box is None:
            if not self._make_room(now):
                self.counts["full"] += 1
                return
            box = self._boxes[mail.stream] = _Box(self)
            box.stream = self._network.join(mail.stream, box, listen=False)
        self._boxes.move_to_end(mail.stream)
        box.said_at = now
        if box.stream is not None and box.stream.up:
            self._send(box.stream, mail.payload)
            return
        if len(box.waiting) == WAITING:
            self.counts["no-path"] += 1
        box.waiting.append((now + WAIT_S, mail.payload))

    def close(self) -> None:
        """Leave all streams; more may be said afterwards."""
        for box in self._boxes.values():
            self._drop(box)
        self._boxes.clear()

    def opened(self, box: _Box) -> None:
        """The path to a stream has opened: say what waits for it."""
        now = self._clock.seconds()
        while box.waiting and box.stream is not None:
            until, payload = box.waiting.popleft()
            if now <= until:
                self._send(box.stream, payload)
            else:
                self.counts["no-path"] += 1

    # -- within

    def _send(self, stream: Stream, payload: bytes) -> None:
        self.counts["said" if stream.send(payload, Flag.DATA) else "no-path"] += 1

    def _make_room(self, now: float) -> bool:
        while len(self._boxes) >= KEPT:
            name, oldest = next(iter(self._boxes.items()))
            if now - oldest.said_at < IDLE_S:
                return len(self._boxes) < MOST
            del self._boxes[name]
            self._drop(oldest)
        return True

    def _drop(self, box: _Box) -> None:
        self.counts["no-path"] += len(box.waiting)
        box.waiting.clear()
        if box.stream is not None:
            box.stream.leave()
