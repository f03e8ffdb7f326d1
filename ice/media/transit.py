"""How late packets come: relative transit times over a sliding window.

The *transit* of a packet is its arrival on our clock minus its place in the talker's media time. The two clocks have nothing to
do with each other, so a transit alone means nothing; but the smallest one of the last seconds is the path at its fastest
(:attr:`TransitWindow.base`), and how far the others lie above it is the jitter that a buffer has to hide
(:attr:`TransitWindow.spread`).

The window holds a fixed time of *speech*, not of wall clock: what was learned in one burst is still known at the start of the
next, minutes later. Everything costs a binary search in a list of a few hundred numbers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

WINDOW_S: Final = (
    8.0  # long enough for several stalls of a radio link, short enough that a calm network is soon believed
)
WINDOW_MIN: Final = 25  # packets; of fewer no percentile can be spoken
PERCENTILE: Final = 0.98  # one packet in fifty may come too late and be concealed; fewer cost everybody delay


class TransitWindow:
    """The transits of the last :data:`WINDOW_S` seconds of speech.

    ``limit_s``: a transit further than this above the base is not learned: no buffer could have waited for that packet, and a
    stall of seconds says nothing about the next packets.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, transit_s: float, duration_s: float) -> None:
        """Learn the transit of one packet that holds ``duration_s`` of speech (it bounds the window's length)."""
        ordered = self._sorted
        if ordered and transit_s > ordered[0] + self._limit_s:
            return
        if ordered and transit_s < ordered[0]:
            cut = bisect_left(ordered, transit_s + self._limit_s)
            del ordered[cut:]
        insort(ordered, transit_s)
        self._order.append(transit_s)
        longest = max(WINDOW_MIN, round(WINDOW_S / max(duration_s, 0.005)))
        while len(self._order) > longest:
            self._forget(self._order.popleft())

    def reset(self, transit_s: float) -> None:
        """Forget everything but one transit: the path is another one now, or its stall is over."""
        self._order = deque((transit_s,))
        self._sorted = [transit_s]

    @property
    def base(self) -> float:
        """The smallest transit known, seconds; 0 while nothing is known."""
        return self._sorted[0] if self._sorted else 0.0

    @property
    def usual(self) -> float:
        """The median transit, seconds: the best guess for a packet whose timestamp begins a new count."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else 0.0

    @property
    def spread(self) -> float:
        """How far the :data:`PERCENTILE` of transits lies above the base, seconds."""
        ordered = self._sorted
        if not ordered:
            return 0.0
        return ordered[min(len(ordered) - 1, int(PERCENTILE * len(ordered)))] - ordered[0]

    def _forget(self, transit_s: float) -> None:
        place = bisect_left(self._sorted, transit_s)
        if place < len(self._sorted) and self._sorted[place] == transit_s:
            del self._sorted[place]
