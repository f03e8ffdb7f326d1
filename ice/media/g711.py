"""G.711 as ITU-T wrote it: 16-bit linear PCM to and from 8-bit µ-law and A-law.

Which of two neighbouring codes a sample on a decision value belongs to is settled as in the reference software of ITU-T (G.191, the
STL): the sign is taken off by one's complement and the lowest bits are cut, never rounded. So positive samples fill intervals that
are closed below, negative ones intervals that are closed towards zero, and −1 is the mirror of 0.

Both laws are looked up in tables that are computed from this definition once, at import: 65,536 entries to encode, 256 to decode.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_MU_BIAS: Final = 33  # G.711 table 2a: makes every segment begin at a power of two (14-bit scale)
_MU_CLIP: Final = 0x1FFF  # 8,191: the largest biased magnitude of 14 bits


def _magnitudes() -> npt.NDArray[np.int64]:
    """For each 16-bit pattern (as an unsigned index) the magnitude of its sample by one's complement, 0–32,767."""
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int64)
    return np.where(samples < 0, ~samples, samples)


def _mu_encode_table() -> npt.NDArray[np.uint8]:
    """G.711 table 2: 8 segments, each twice as coarse as the last; all bits but the sign are inverted on the line."""
    biased = np.minimum((_magnitudes() >> 2) + _MU_BIAS, _MU_CLIP)
    segment = np.floor(np.log2(biased)).astype(np.int64) - 5
    step = (biased >> (segment + 1)) & 0x0F
    codes = 0x7F - ((segment << 4) | step)
    positive = np.arange(65_536) < 32_768
    return np.asarray(codes | np.where(positive, 0x80, 0), np.uint8)


def _mu_decode_table() -> npt.NDArray[np.int16]:
    codes = np.arange(256, dtype=np.int64)
    inverted = ~codes & 0x7F
    segment, step = inverted >> 4, inverted & 0x0F
    # The middle of the interval, less the bias, on the 14-bit scale, then four times that for 16 bits.
    magnitude = (((2 * step + 33) << segment) - _MU_BIAS) << 2
    return np.where(codes < 0x80, -magnitude, magnitude).astype(np.int16)


def _a_encode_table() -> npt.NDArray[np.uint8]:
    """G.711 table 1: the first two segments share a step, then each doubles; every other bit is inverted on the line."""
    magnitude = _magnitudes() >> 4  # 12 bits: 0–2,047
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 3, 0)
    step = (magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    codes = (segment << 4) | step
    positive = np.arange(65_536) < 32_768
    return np.asarray((codes | np.where(positive, 0x80, 0)) ^ 0x55, np.uint8)


def _a_decode_table() -> npt.NDArray[np.int16]:
    codes = np.arange(256, dtype=np.int64) ^ 0x55
    segment, step = (codes >> 4) & 0x07, codes & 0x0F
    # The middle of the interval; from the second segment on a leading one is implied.
    middle = (2 * step + 1 + np.where(segment > 0, 32, 0)) << 3
    magnitude = middle << np.maximum(segment - 1, 0)
    return np.asarray(np.where(codes < 0x80, -magnitude, magnitude), np.int16)


_MU_ENCODE: Final = _mu_encode_table()
_MU_DECODE: Final = _mu_decode_table()
_A_ENCODE: Final = _a_encode_table()
_A_DECODE: Final = _a_decode_table()


def encode_mu(pcm: npt.NDArray[np.int16]) -> bytes:
    """``int16[n]`` at any rate as n bytes of µ-law."""
    return _MU_ENCODE[np.ascontiguousarray(pcm, np.int16).view(np.uint16)].tobytes()


def decode_mu(data: bytes) -> npt.NDArray[np.int16]:
    """n bytes of µ-law as ``int16[n]``."""
    return _MU_DECODE[np.frombuffer(data, np.uint8)]


def encode_a(pcm: npt.NDArray[np.int16]) -> bytes:
    """``int16[n]`` at any rate as n bytes of A-law."""
    return _A_ENCODE[np.ascontiguousarray(pcm, np.int16).view(np.uint16)].tobytes()


def decode_a(data: bytes) -> npt.NDArray[np.int16]:
    """n bytes of A-law as ``int16[n]``."""
    return _A_DECODE[np.frombuffer(data, np.uint8)]
