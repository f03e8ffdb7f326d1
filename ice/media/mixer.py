"""Several voices as one: sums of ``int16[n]`` frames that never wrap round and seldom clip.

Everything is summed in 32 bits. A sum of up to 65,536 frames cannot overflow there, so the order of the talkers is of no account.
Back to 16 bits there are two ways: :func:`saturate` clips, which is right where nothing may be remembered between frames; a
:class:`Limiter` turns the whole mix down just far enough, at once, and up again within half a second: two people shouting
stay intelligible, and one alone passes bit for bit.

**Mix-minus** is what a conference owes each of its members: everybody but oneself (:func:`mix_minus`). It is one sum, and one
subtraction per member.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

Sum: TypeAlias = npt.NDArray[np.int32]  # int32[n]: a sum of frames before it is limited
Sums: TypeAlias = npt.NDArray[np.int32]  # int32[m, n]: several of them

PEAK: Final = 32_767
FULL_DB: Final = 20 * math.log10(32_768)
SILENCE_DBOV: Final = -127.0  # RFC 6464 and RFC 6465: the level of digital silence
RELEASE_S: Final = (
    0.5  # how long a limiter takes from silence to full gain: slower than syllables, faster than patience
)
ATTACK: Final = SAMPLE_RATE // 1000  # samples over which the gain falls when a frame is too loud


def level_dbov(pcm: Pcm) -> float:
    """The level of a frame: its effective value in dB below a full-scale square wave, −127 (silence) to 0 (RFC 6464 §3)."""
    if not len(pcm):
        return SILENCE_DBOV
    samples = pcm.astype(np.float32)
    power = float(samples.dot(samples)) / len(pcm)
    return max(SILENCE_DBOV, 10 * math.log10(power) - FULL_DB) if power else SILENCE_DBOV


def accumulate(frames: Sequence[Pcm], gains: Sequence[float] | None = None) -> Sum:
    """The plain sum ``int32[n]`` of one or more ``int16[n]``, each multiplied by its gain (1 where ``gains`` is absent).

    Raises :class:`~ice.errors.LocalError` for no frame, frames of different lengths, or another number of gains than of frames.
    """
    if not frames:
        raise LocalError("a mix needs at least one frame")
    if gains is not None and len(gains) != len(frames):
        raise LocalError(f"a mix of {len(frames)} frames needs as many gains, not {len(gains)}")
    total = np.zeros(len(frames[0]), np.int32)
    for index, frame in enumerate(frames):
        if len(frame) != len(total):
            raise LocalError(f"frames of {len(total)} and of {len(frame)} samples cannot be mixed")
        gain = 1.0 if gains is None else gains[index]
        if gain == 1.0:
            total += frame
        elif gain:
            total += np.rint(frame * np.float32(gain)).astype(np.int32)
    return total


def saturate(total: Sum) -> Pcm:
    """``int32[n]`` as ``int16[n]``, clipped at full scale."""
    return np.clip(total, -PEAK - 1, PEAK).astype(np.int16)


def mix(frames: Sequence[Pcm], gains: Sequence[float] | None = None) -> Pcm:
    """The saturating sum of ``int16[n]`` frames; raises as :func:`accumulate` does."""
    return saturate(accumulate(frames, gains))


def minus(frames: Sequence[Pcm]) -> list[Sum]:
    """For each member the sum of all others, not limited yet: ``int32[n]`` each. Raises as :func:`accumulate` does."""
    total = accumulate(frames)
    return [total - frame for frame in frames]


def mix_minus(frames: Sequence[Pcm]) -> list[Pcm]:
    """For each member the saturating sum of all others; a lone member gets silence. Raises as :func:`accumulate` does."""
    return [saturate(each) for each in minus(frames)]


def limit_all(limiters: Sequence[Limiter], totals: Sums) -> list[Pcm]:
    """What each of ``m`` limiters makes of its row of ``int32[m, n]``: a few operations for all of them together."""
    fits = not totals.size or (totals.max() <= PEAK and totals.min() >= -PEAK - 1)
    if fits and all(limiter.gain >= 1.0 for limiter in limiters):
        return list(totals.astype(np.int16))
    peaks = np.maximum(totals.max(axis=1), -totals.min(axis=1) - 1)  # the negative side reaches one further
    before = np.array([limiter.gain for limiter in limiters])
    wanted = np.minimum(1.0, PEAK / np.maximum(peaks, 1))
    samples = totals.shape[1]
    falls = wanted < before
    after = np.where(falls, wanted, np.minimum(wanted, before + samples / (RELEASE_S * SAMPLE_RATE)))
    for limiter, gain in zip(limiters, after, strict=True):
        limiter.gain = float(gain)
    fall, rise = _shapes(samples)
    ramps = np.where(falls[:, None], fall, rise) * (after - before).astype(np.float32)[:, None]
    ramps += before.astype(np.float32)[:, None]
    ramps *= totals
    np.rint(ramps, out=ramps)
    np.maximum(ramps, -PEAK - 1, out=ramps)
    np.minimum(ramps, PEAK, out=ramps)
    return list(ramps.astype(np.int16))


@functools.cache
def _shapes(samples: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """How a gain goes from 0 to 1: down at once, up over the whole frame."""
    fall = np.ones(samples, np.float32)
    attack = min(ATTACK, samples)
    fall[:attack] = np.linspace(0.0, 1.0, attack, dtype=np.float32)
    return fall, np.linspace(0.0, 1.0, samples, dtype=np.float32)


class Limiter:
    """Turns a mix down where it would clip, and up again gently. One per output, because it remembers its gain."""

    def __init__(self) -> None:
        self.gain = 1.0

    def limit(self, total: Sum) -> Pcm:
        """``int32[n]`` as ``int16[n]``: bit for bit what came in, as long as the gain is 1 and nothing exceeds full scale."""
        return limit_all((self,), total[None])[0]
