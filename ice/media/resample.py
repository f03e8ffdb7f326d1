"""Streaming change of rate by a whole factor: 48 kHz to a telephone's rate and back, frame by frame.

A frame of n samples gives exactly n / factor samples (or n × factor) from the very first frame on, so no one has to count: the
filter starts filled with silence. The price is a constant delay of ``TAPS_PER_PHASE / 2`` samples of the *lower* rate (2 ms
between 8 and 48 kHz) in each direction. soxr's streaming resampler was measured for this place and not taken: at 8 → 48 kHz it
gives nothing for up to 137 ms and then everything at once (its high-quality setting; 35 to 48 ms in the lesser ones). Files, where
delay does not matter, go through soxr (:mod:`ice.media.wav`).

The filter is a Kaiser-windowed sinc of linear phase: flat to 0.85 of the lower rate's half, and 60 dB down where mirror images
would fold back into that band (at 8 kHz: flat to 3.4 kHz, down from 4.3 kHz).
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from ice.errors import LocalError

TAPS_PER_PHASE: Final = 32  # with the Kaiser window below: 900 Hz from pass to stop at 8 kHz
KAISER_BETA: Final = 5.65  # 60 dB of stop-band attenuation
CUTOFF: Final = 0.9625  # −6 dB point as a fraction of the lower rate's half: 3,850 Hz at 8 kHz


@functools.cache
def _filter(factor: int) -> npt.NDArray[np.float32]:
    """The prototype low-pass at the higher rate: ``TAPS_PER_PHASE * factor + 1`` taps, sum 1."""
    half = TAPS_PER_PHASE * factor // 2
    position = np.arange(-half, half + 1) / factor
    taps = np.sinc(position * CUTOFF) * np.kaiser(2 * half + 1, KAISER_BETA)
    return np.asarray(taps / taps.sum(), np.float32)


def _clipped(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    np.rint(samples, out=samples)
    np.clip(samples, -32_768, 32_767, out=samples)
    return samples.astype(np.int16)


def _check_factor(factor: int) -> int:
    if not 2 <= factor <= 6:
        raise LocalError(f"a change of rate by {factor} is not offered; 2 to 6 are")
    return factor


class Downsampler:
    """``int16[n * factor]`` in, ``int16[n]`` out, for as many frames as the stream has; constant delay (module docstring)."""

    def __init__(self, factor: int) -> None:
        self.factor = _check_factor(factor)
        self._taps = _filter(factor)
        self._history = np.zeros(len(self._taps) - 1, np.float32)

    def process(self, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """The next frame at the lower rate; raises :class:`~ice.errors.LocalError` unless n is a multiple of the factor."""
        if len(pcm) % self.factor:
            raise LocalError(f"{len(pcm)} samples cannot be divided by the resampling factor {self.factor}")
        buffer = np.concatenate((self._history, pcm), dtype=np.float32)
        stride = buffer.strides[0]
        windows = np.lib.stride_tricks.as_strided(
            buffer,
            (len(pcm) // self.factor, len(self._taps)),
            (stride * self.factor, stride),
            writeable=False,
        )
        self._history = buffer[len(buffer) - len(self._history) :]
        return _clipped(windows @ self._taps)

    def reset(self) -> None:
        """Forget what was heard: the next frame follows silence."""
        self._history = np.zeros_like(self._history)


class Upsampler:
    """``int16[n]`` in, ``int16[n * factor]`` out, for as many frames as the stream has; constant delay (module docstring)."""

    def __init__(self, factor: int) -> None:
        self.factor = _check_factor(factor)
        # Column p holds the taps that meet real samples in output phase p; the others meet the zeros in between.
        padded = np.zeros((TAPS_PER_PHASE + 1) * factor, np.float32)
        taps = _filter(factor)
        padded[: len(taps)] = taps * factor
        self._phases = np.ascontiguousarray(padded.reshape(TAPS_PER_PHASE + 1, factor)[::-1])
        self._history = np.zeros(TAPS_PER_PHASE, np.float32)

    def process(self, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """The next frame at the higher rate."""
        buffer = np.concatenate((self._history, pcm), dtype=np.float32)
        stride = buffer.strides[0]
        windows = np.lib.stride_tricks.as_strided(
            buffer, (len(pcm), TAPS_PER_PHASE + 1), (stride, stride), writeable=False
        )
        self._history = buffer[len(buffer) - TAPS_PER_PHASE :]
        return _clipped((windows @ self._phases).reshape(-1))

    def reset(self) -> None:
        """Forget what was heard: the next frame follows silence."""
        self._history = np.zeros_like(self._history)
