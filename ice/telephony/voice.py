"""The encoder of what a telephone line says, made for the bandwidth that the line has.

A line at 8 kHz has nothing above 4 kHz. Told so, Opus spends its bits, and our processor, on what is there: measured with libopus 1.3.1 at 24 kbit/s on one spoken sentence that had been
coded once before (a phone's way to the gateway and back), 8 kHz: 160 µs a frame and PESQ-NB 4.1 instead of 280 µs and 4.0. Complexity 7 instead of 10 takes another quarter off; at 8 kHz nobody hears it
(4.09 instead of 4.13), at 16 kHz it costs more (3.50 instead of 3.65), so narrow lines have 7 and wide ones 10.

There is no FEC (:mod:`ice.media.opus` has the numbers): calls go over Rallypoints, whose links lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ice.errors import LocalError
from ice.media.codecs import OpusEncoder

#: OPUS_BANDWIDTH_* of the Opus API by the rate of a line: narrow, medium, wide, super-wide, full.
BANDWIDTHS: Final[Mapping[int, int]] = MappingProxyType(
    {8_000: 1101, 12_000: 1102, 16_000: 1103, 24_000: 1104, 48_000: 1105}
)
BITRATE: Final = 24_000  # as the suite's voices have it
NARROW: Final = 12_000  # Hz: lines up to this …
NARROW_COMPLEXITY, COMPLEXITY = 7, 10  # … on libopus's own scale, 0–10


class LineVoice(OpusEncoder):
    """Opus for a line of ``rate`` Hz, in frames of 20 ms; raises :class:`~ice.errors.LocalError` for a rate that lines do not have, and as its base class."""

    def __init__(self, rate: int, bitrate: int = BITRATE, complexity: int | None = None) -> None:
        bandwidth = BANDWIDTHS.get(rate)
        if complexity is None:
            complexity = NARROW_COMPLEXITY if rate <= NARROW else COMPLEXITY
        if bandwidth is None or not 0 <= complexity <= 10:
            raise LocalError(
                f"a line has {', '.join(map(str, BANDWIDTHS))} Hz and an encoder a complexity of 0–10, not {rate} and {complexity}"
            )
        super().__init__(bitrate, 20, fec=False)
        api, ctl = self._library.encoder, self._library.ctl
        api.encoder_ctl(self._state, ctl.set_max_bandwidth, bandwidth)
        api.encoder_ctl(self._state, ctl.set_complexity, complexity)
