"""Notices that what is said comes back, and says so once a minute, not fifty times a second.

=========  =====================================================  ===============================
how        what was refused                                       noticed after, within a second
=========  =====================================================  ===============================
``via``    a burst that came through us                           1: it says so itself
``own``    what we said ourselves (:mod:`ice.patch.probe`)        1
``names``  a datagram that we had passed on already               10: for a moment two servers of a group may be active
``twin``   one talker on two streams                              10
=========  =====================================================  ===============================
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final

from ice.patch.outcome import Loop
from ice.patch.plan import shown

WITHIN_S: Final = 1.0
AGAIN_S: Final = 60.0
NOTICED_MAX: Final = 64  # for whoever never asks
_HOW: Final[Mapping[str, tuple[str, int]]] = {
    "via": ("via", 1),
    "via-full": ("via", 1),
    "own": ("own", 1),
    "circular": ("names", 10),
    "names": ("names", 10),
    "twin": ("twin", 10),
}
_TEXTS: Final[Mapping[str, str]] = {
    "via": "what comes on {stream} has been through this patch before",
    "own": "what this patch said itself comes back on {stream}",
    "names": "what was passed on already comes back on {stream}",
    "twin": "a talker is heard on {stream} and on another stream of the patch at once",
}
_ADVICE: Final = (
    "another patch or bridge joins the same streams; it is dropped, but switch one of the two off"
)


def told_of_circle(word: str) -> bool:
    """Whether a packet that is refused under that word may have come round in a circle."""
    return word in _HOW


class Loops:
    """Of one patch; an engine, time is an argument."""

    def __init__(self, patch: str) -> None:
        #: Refusals that told of a circle, by how.
        self.counts: Counter[str] = Counter()
        self._patch = patch
        self._since: dict[tuple[str, str], tuple[float, int]] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._noticed: deque[Loop] = deque(maxlen=NOTICED_MAX)

    def refused(self, word: str, stream: str, now: float, through: Iterable[bytes] = ()) -> None:
        """A packet was refused under that word; other words than those above tell of no circle."""
        if word in _HOW:
            self.note(word, stream, now, through)

    def note(self, word: str, stream: str, now: float, through: Iterable[bytes] = ()) -> None:
        """Something came back."""
        how, enough = _HOW[word]
        self.counts[how] += 1
        key = how, stream
        began, count = self._since.get(key, (now, 0))
        if now - began > WITHIN_S:
            began, count = now, 0
        self._since[key] = began, count + 1
        if count + 1 >= enough and now - self._told.get(key, -AGAIN_S) >= AGAIN_S:
            self._told[key] = now
            text = f"{_TEXTS[how].format(stream=repr(shown(stream)))}: {_ADVICE}"
            self._noticed.append(Loop(self._patch, how, stream, text, tuple(each.hex() for each in through)))

    def noticed(self) -> list[Loop]:
        """What was noticed since this was last asked."""
        noticed = list(self._noticed)
        self._noticed.clear()
        return noticed
