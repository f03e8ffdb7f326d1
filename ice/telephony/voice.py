"""The encoder of what a telephone line says, made for the bandwidth that the line has.

A line at 8 kHz has nothing above 4 kHz. Told so, Opus spends its bits, and our processor, on what is there: measured with libopus 1.3.1 at 24 kbit/s on one spoken sentence that had been
coded once before (a phone's way to the gateway and back), 8 kHz: 160 µs a frame and PESQ-NB 4.1 instead of 280 µs and 4.0. Complexity 5 instead of 10 takes another half off; at 8 kHz nobody hears it
(4.08 instead of 4.13), at 16 kHz it costs more (3.50 instead of 3.65 with 7 already), so narrow lines have 5 and wide ones 10.

There is no FEC (:mod:`ice.media.opus` has the numbers): calls go over Rallypoints, whose links lose nothing.
"""

from __future__ import annotations

from typing import Final

from ice.media.codecs import OpusEncoder
from ice.media.opus import COMPLEXITY

BITRATE: Final = 24_000  # as the suite's voices have it
NARROW: Final = 12_000  # Hz: lines up to this …
NARROW_COMPLEXITY: Final = 5  # … need no more


class LineVoice(OpusEncoder):
    """Opus for a line of ``rate`` Hz, in frames of 20 ms; raises :class:`~ice.errors.LocalError` for a rate that lines do not have, and as its base class."""

    def __init__(self, rate: int, bitrate: int = BITRATE, complexity: int | None = None) -> None:
        if complexity is None:
            complexity = NARROW_COMPLEXITY if rate <= NARROW else COMPLEXITY
        super().__init__(bitrate, 20, fec=False, complexity=complexity, rate=rate)
