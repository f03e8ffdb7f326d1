"""Was this datagram here before?  A window of 1,024 sequence numbers per source and stream.

Sequence numbers are u32 and wrap; comparison is serial (RFC 1982).  A number ahead moves the window; one inside
it is fresh exactly once; one behind it is late.  A forward jump of more than 2,000 is suspect (a bug, or somebody
who wants to blind the window): it is dropped, and believed as soon as another datagram a little further on confirms it.  After 30 s of
silence the bitmap is forgotten, so that everything up to the high-water mark counts as seen; after an hour the mark
goes as well and the source may begin anywhere.
"""

from enum import IntEnum

SIZE = 1_024
MAX_JUMP = 2_000
BITMAP_LIFE_S = 30.0
MARK_LIFE_S = 3_600.0

_U32 = 0xFFFF_FFFF
_HALF = 0x8000_0000
_FULL = (1 << SIZE) - 1


class Verdict(IntEnum):
    """What the window says of a number; only FRESH passes, so ``if window.ask(…):`` reads as "drop"."""

    FRESH = 0
    DUPLICATE = 1
    LATE = 2
    JUMP = 3


FRESH, DUPLICATE, LATE, JUMP = Verdict.FRESH, Verdict.DUPLICATE, Verdict.LATE, Verdict.JUMP


class Window:
    """The numbers of one source on one stream.  Bit ``n`` of the bitmap stands for ``high - n``."""

    __slots__ = ("_bits", "_high", "_suspect", "asked_at")

    def __init__(self) -> None:
        self._high = -1
        self._bits = 0
        self._suspect = -1
        #: When the window was last asked, for whoever forgets idle windows.
        self.asked_at = 0.0

    def ask(self, sequence: int, now: float) -> Verdict:
        """Whether ``sequence`` (u32) is new at ``now``; asking marks it as seen."""
        silence = now - self.asked_at
        self.asked_at = now
        high = self._high
        ahead = (sequence - high) & _U32
        if silence <= BITMAP_LIFE_S and high >= 0:
            if ahead == 1:  # the common case
                self._high = sequence
                self._bits = ((self._bits << 1) | 1) & _FULL
                return FRESH
        elif high < 0 or silence > MARK_LIFE_S:
            # the first ever, or after an hour: whatever number comes is where the source now stands
            self._high, self._bits, self._suspect = sequence, 1, -1
            return FRESH
        else:
            self._bits = _FULL
        if 0 < ahead < _HALF:
            if ahead > MAX_JUMP:
                confirmed = self._suspect >= 0 and 0 < ((sequence - self._suspect) & _U32) <= SIZE
                if not confirmed:
                    self._suspect = sequence
                    return JUMP
                self._bits, self._suspect = 1, -1
            else:
                self._bits = ((self._bits << ahead) | 1) & _FULL if ahead < SIZE else 1
            self._high = sequence
            return FRESH
        behind = (high - sequence) & _U32
        if behind >= SIZE:
            return LATE
        bit = 1 << behind
        if self._bits & bit:
            return DUPLICATE
        self._bits |= bit
        return FRESH
