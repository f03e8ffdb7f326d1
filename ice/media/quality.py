"""Whether what was heard is what was spoken: one number between 0 and 1, and by how much it came later.

This is no opinion score (PESQ and its kin answer that question); it answers *did these words arrive whole?*, for a table line, a radio check
and a test, from numpy alone. It is near 1 for speech through any of our codecs, falls clearly when a fiftieth of it is missing, when its first or last
syllable is clipped, or when noise lies over it, and is near 0 for silence or for another sentence.

1. **Alignment.** Both are reduced to 16 kHz. The peak of their cross-correlation (by FFT) is the offset. Each further half second is then
   aligned anew within :data:`WANDER_S` of it, because a jitter buffer may change its delay on the way; that is no fault.
2. **Picture.** Powers in 18 bands of equal width in mel between 100 and 3,400 Hz, every 10 ms, in decibels, nothing counted that lies
   :data:`DEPTH_DB` below the loud parts. Above 3,400 Hz a telephone has nothing, so nothing is asked of anybody there. Loudness as a whole is
   evened out.
3. **Score.** The two pictures differ by so many decibels at each moment in which either says something: up to :data:`ALIKE_DB` on average over the bands
   is what codecs do to speech and costs nothing, :data:`ALIEN_DB` is another sound. The mean of that, to the power of :data:`SEVERITY`, is
   the score: a listener forgives a share of holes much less than in proportion.
"""

from __future__ import annotations

import itertools
from typing import Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

Wave: TypeAlias = npt.NDArray[np.float32]

RATE: Final = 16_000  # Hz; enough for the bands, a third of the work
BLOCK: Final = RATE // 2  # samples that are aligned together
WANDER_S: Final = 0.5  # how far a block may lie from the offset of the whole: as far as a stalled path delays
SETTLED: Final = 0.7  # a block that correlates so well where the last one lay is not moved …
WANDER_GAIN: Final = 0.1  # … and another only to a place so much better
WINDOW: Final = 512  # samples: 32 ms
HOP: Final = 160  # samples: 10 ms
BANDS: Final = 18
LOWEST_HZ, HIGHEST_HZ = 100.0, 3_400.0
DEPTH_DB: Final = 50.0  # what is so much softer than the loud parts does not carry words
SPEECH_DB: Final = 35.0  # no further below the loud parts than this, in the loudest band, something is said
ALIKE_DB: Final = 3.0  # measured: Opus at 24 kbit/s differs by less nearly everywhere, G.711 everywhere
ALIEN_DB: Final = (
    12.0  # measured: two sentences of one voice differ by about that much, their chance likenesses included
)
SEVERITY: Final = 4
MINIMUM_S: Final = 0.1


@attrs.frozen
class Likeness:
    """How alike two sounds are.

    ``score`` 0 (silence, or something else) to 1 (the same words, whole). ``offset_ms``: how much later the heard sound is; negative where it
    begins before the spoken one. ``gain_db``: how much louder it is. ``coverage``: the share of what was spoken that is there at all, 0–1.
    """

    score: float
    offset_ms: float
    gain_db: float
    coverage: float


NOTHING: Final = Likeness(0.0, 0.0, 0.0, 0.0)


def similarity(spoken: Pcm, heard: Pcm) -> float:
    """The score of :func:`compare` alone."""
    return compare(spoken, heard).score


def compare(spoken: Pcm, heard: Pcm) -> Likeness:
    """Compare two ``int16[n]``, 48 kHz mono, of any lengths; what lies before and after the spoken in the heard is not judged.

    Raises :class:`~ice.errors.LocalError` where less than 0.1 s was spoken, or only silence.
    """
    if len(spoken) < MINIMUM_S * SAMPLE_RATE or not np.any(spoken):
        raise LocalError(
            f"a comparison needs at least {MINIMUM_S} s of spoken sound, not silence; {len(spoken) / SAMPLE_RATE:.2f} s came"
        )
    said, came = _reduced(spoken), _reduced(heard)
    if not np.any(came):
        return NOTHING
    offset = _offset(said, came)
    aligned, offset = _aligned(said, came, offset)
    said_db, came_db = _picture(said), _picture(aligned)
    loud_db = float(np.percentile(said_db.max(axis=1), 95))
    active = said_db.max(axis=1) > loud_db - SPEECH_DB
    gain_db = float(np.median((came_db - said_db)[active]))
    gain_db = max(-40.0, min(40.0, gain_db))  # beyond this it is not speech that was turned down, but nothing
    floor = loud_db - DEPTH_DB
    said_db = np.maximum(said_db, floor)
    came_db = np.maximum(came_db - gain_db, floor)
    speaking = active | (came_db.max(axis=1) > loud_db - SPEECH_DB)
    difference = np.abs(said_db - came_db).mean(axis=1)
    alike = np.clip((ALIEN_DB - difference) / (ALIEN_DB - ALIKE_DB), 0.0, 1.0)
    score = float(np.mean(alike[speaking])) ** SEVERITY
    return Likeness(score, offset * 1000 / RATE, gain_db, float(np.mean(alike[active] > 0.25)))


def _reduced(pcm: Pcm) -> Wave:
    """At 16 kHz: each three samples as one, which is filter enough for bands below 3,400 Hz."""
    whole = len(pcm) // 3 * 3
    return np.asarray(pcm[:whole].reshape(-1, 3).mean(axis=1), np.float32)


def _offset(said: Wave, came: Wave) -> int:
    """By how many samples ``came`` is later, where the two correlate best."""
    size = 1 << (len(said) + len(came) - 1).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(came, size) * np.conj(np.fft.rfft(said, size)), size)
    best = int(np.argmax(np.abs(correlation)))
    return best if best < len(came) else best - size


def _cut(came: Wave, start: int, length: int) -> Wave:
    """``came[start : start + length]``, with silence where there is nothing."""
    piece = np.zeros(length, np.float32)
    first, last = max(0, start), min(len(came), start + length)
    if first < last:
        piece[first - start : last - start] = came[first:last]
    return piece


def _aligned(said: Wave, came: Wave, offset: int) -> tuple[Wave, int]:
    """``came`` laid under ``said`` block by block, and the offset of the first block that says something."""
    wander = round(WANDER_S * RATE)
    pieces: list[Wave] = []
    lag = offset
    first: int | None = None
    softest = 0.05 * float(
        np.mean(came.astype(np.float64) ** 2)
    )  # power; what is softer correlates by chance
    for start in range(0, len(said), BLOCK):
        block = said[start : start + BLOCK]
        around = _cut(came, start + offset - wander, len(block) + 2 * wander)
        size = 1 << (len(around) + len(block) - 1).bit_length()
        product = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(block, size)), size)
        match = product[: 2 * wander + 1]
        power = np.concatenate(([0.0], np.cumsum(around.astype(np.float64) ** 2)))
        energy = (power[len(block) :] - power[: -len(block)])[: len(match)]
        norm = float(np.linalg.norm(block))
        score = match / (np.sqrt(np.maximum(energy, softest * len(block))) * norm + 1.0)
        best = int(np.argmax(score))
        stay = float(score[min(max(lag - offset + wander, 0), 2 * wander)])
        if stay < SETTLED and score[best] > stay + WANDER_GAIN:
            lag = offset + best - wander
        if first is None and score[best] > 0.5:
            first = lag
        pieces.append(_cut(came, start + lag, len(block)))
    return np.concatenate(pieces), offset if first is None else first


def _picture(wave: Wave) -> Wave:
    """``float32[frames, BANDS]``: decibels."""
    padded = np.concatenate((wave, np.zeros(WINDOW, np.float32)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)) ** 2
    mel = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 1)
    edges = np.rint(700.0 * np.expm1(mel / 1127.0) * WINDOW / RATE).astype(int)
    bands = [power[:, low : max(high, low + 1)].mean(axis=1) for low, high in itertools.pairwise(edges)]
    return np.asarray(10 * np.log10(np.stack(bands, axis=1) + 1.0), np.float32)


def _mel(hertz: float) -> float:
    return float(1127.0 * np.log1p(hertz / 700.0))
