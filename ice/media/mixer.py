"""Several voices as one: sums of ``int16[n]`` frames that never wrap round and seldom clip.

Everything is summed in 32 bits. A sum of up to 65,536 frames cannot overflow there, so the order of the talkers is of no account.
Back to 16 bits there are two ways: :func:`saturate` clips, which is right where nothing may be remembered between frames; a
:class:`Limiter` turns the whole mix down just far enough, at once, and up again within half a second: two people shouting
stay intelligible, and one alone passes bit for bit.

**Mix-minus** is what a conference owes each of its members: everybody but oneself (:func:`mix_minus`). It is one sum, and one
subtraction per member.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

Sum: TypeAlias = npt.NDArray[np.int32]  # int32[n]: a sum of frames before it is limited

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


class Limiter:
    """Turns a mix down where it would clip, and up again gently. One per output, because it remembers its gain."""

    def __init__(self) -> None:
        self.gain = 1.0

    def limit(self, total: Sum) -> Pcm:
        """``int32[n]`` as ``int16[n]``: bit for bit what came in, as long as the gain is 1 and nothing exceeds full scale."""
        if not len(total):
            return total.astype(np.int16)
        peak = max(int(total.max()), -int(total.min()) - 1)  # the negative side reaches one further
        wanted = min(1.0, PEAK / peak) if peak else 1.0
        before = self.gain
        if wanted >= 1.0 and before >= 1.0:
            return total.astype(np.int16)
        self.gain = (
            wanted if wanted < before else min(wanted, before + len(total) / (RELEASE_S * SAMPLE_RATE))
        )
        ramp = np.full(len(total), self.gain, np.float32)
        if self.gain < before:
            attack = min(ATTACK, len(total))
            ramp[:attack] = np.linspace(before, self.gain, attack, dtype=np.float32)
        else:
            ramp = np.linspace(before, self.gain, len(total), dtype=np.float32)
        return saturate(np.rint(total * ramp).astype(np.int32))
