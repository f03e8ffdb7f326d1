"""Comfort noise: what a silent line sounds like, so that nobody believes the call to be dead.

Noise as a quiet room has it, falling by 6 dB per octave above 500 Hz, made once from a seed and played round and round from where it stands: 2 s are too long for an ear to notice the
repetition. It stands in only where there is nothing at all; whoever sends his own background is heard with that.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np

from ice.errors import LocalError
from ice.media.mixer import SILENCE_DBOV
from ice.media.payload import SAMPLE_RATE, Pcm

LEVEL_DBOV: Final = -66.0  # heard on a handset held to the ear, lost in any room
LOUDEST_DBOV: Final = -40.0
LENGTH: Final = 2 * SAMPLE_RATE
CORNER_HZ: Final = 500.0


class ComfortNoise:
    """A source of noise at ``level_dbov``, −127 (none) to −40; raises :class:`~ice.errors.LocalError` beyond."""

    def __init__(self, level_dbov: float = LEVEL_DBOV, start: int = 0) -> None:
        if not SILENCE_DBOV <= level_dbov <= LOUDEST_DBOV:
            raise LocalError(
                f"comfort noise of {level_dbov} dBov; {SILENCE_DBOV:g} to {LOUDEST_DBOV:g} comfort"
            )
        self._noise = _noise(level_dbov)
        self._place = start % LENGTH

    def take(self, samples: int) -> Pcm:
        """The next ``int16[samples]``, not to be changed."""
        end = self._place + samples
        if end <= LENGTH:
            pcm = self._noise[self._place : end]
        else:
            pcm = np.resize(np.roll(self._noise, -self._place), samples)
        self._place = end % LENGTH
        return pcm


@functools.lru_cache(maxsize=8)
def _noise(level_dbov: float) -> Pcm:
    if level_dbov <= SILENCE_DBOV:
        noise = np.zeros(LENGTH, np.int16)
    else:
        chance = np.random.default_rng(0x1CE)
        spectrum = np.fft.rfft(chance.standard_normal(LENGTH))
        hertz = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE)
        spectrum /= np.sqrt(1 + (hertz / CORNER_HZ) ** 2)
        spectrum[hertz < 50] = 0
        shape = np.fft.irfft(spectrum, LENGTH)  # periodic: its end joins its beginning
        shape *= 32_768 * 10 ** (level_dbov / 20) / math.sqrt(float(np.mean(shape**2)))
        noise = np.rint(shape + chance.uniform(-0.5, 0.5, LENGTH)).astype(np.int16)
    noise.flags.writeable = False
    return noise
