"""Shortening speech without changing its pitch: how a delay that has become too long is given back unheard.

Voiced speech repeats itself every 2.5 to 15 ms. Leaving out one such period and cross-fading the seam (overlap-add at the best match
of a normalised correlation) is the classic way; the search runs at 8 kHz, so a frame costs some tens of microseconds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ice.media.payload import SAMPLE_RATE, Pcm

DECIMATION: Final = 6  # the search runs at 8 kHz: a period needs no finer grid than its cross-fade forgives
PIECE: Final = SAMPLE_RATE * 20 // 1000  # longer frames are shortened piece by piece
SHORTEST_PERIOD: Final = SAMPLE_RATE * 25 // 10_000  # 2.5 ms: 400 Hz
LONGEST_PERIOD: Final = SAMPLE_RATE * 15 // 1000  # 15 ms: 67 Hz
OVERLAP: Final = SAMPLE_RATE * 5 // 1000  # the seam


def shorten(pcm: Pcm) -> Pcm:
    """``int16[n]`` as ``int16[m]``, each 20 ms of it shorter by 2.5 to 15 ms; less than 10 ms comes back as it is."""
    if len(pcm) <= PIECE:
        return _shorten_piece(pcm)
    return np.concatenate([_shorten_piece(pcm[start : start + PIECE]) for start in range(0, len(pcm), PIECE)])


def fade_in(pcm: Pcm, samples: int) -> Pcm:
    """The frame with its first ``samples`` rising from silence."""
    samples = min(samples, len(pcm))
    faded = pcm.copy()
    faded[:samples] = pcm[:samples] * np.linspace(0.0, 1.0, samples, dtype=np.float32)
    return faded


def _shorten_piece(pcm: Pcm) -> Pcm:
    longest = min(LONGEST_PERIOD, len(pcm) - OVERLAP)
    if longest <= SHORTEST_PERIOD:
        return pcm
    coarse = pcm[::DECIMATION].astype(np.float32)
    seam = coarse[: OVERLAP // DECIMATION]
    first = SHORTEST_PERIOD // DECIMATION
    rest = coarse[first : longest // DECIMATION + len(seam)]
    if len(rest) < len(seam):
        return pcm
    match = np.correlate(rest, seam, "valid")
    energy = np.convolve(rest * rest, np.ones(len(seam), np.float32), "valid")
    score = match / np.sqrt(energy + 1.0)
    period = (first + int(np.argmax(score))) * DECIMATION
    weight = np.linspace(0.0, 1.0, OVERLAP, dtype=np.float32)
    faded = pcm[:OVERLAP] * (1.0 - weight) + pcm[period : period + OVERLAP] * weight
    return np.concatenate((np.rint(faded).astype(np.int16), pcm[period + OVERLAP :]))
