"""Whether what was heard is what was spoken: one number between 0 and 1, and by how much it came later.

This is no opinion score (PESQ and its kin answer that question); it answers *did these words arrive whole?*, for a table line, a radio check
and a test, from numpy alone. It is near 1 for speech through any of our codecs, falls clearly when a fiftieth of it is missing, when its first or last
syllable is clipped, or when noise lies over it, and is near 0 for silence or for another sentence.

1. **Offset.** Both are reduced to 16 kHz. The peak of their cross-correlation (by FFT) is the offset of the whole.
2. **Picture.** Powers in 18 bands of equal width in mel between 100 and 3,400 Hz, in decibels, nothing counted that lies
   :data:`DEPTH_DB` below the loud parts. Above 3,400 Hz a telephone has nothing, so nothing is asked of anybody there. Loudness as a whole is
   evened out.
3. **Alignment.** Every 10 ms the lag may change, within half a second of the offset, because a jitter buffer may change its delay on the way, in a pause or, where it has to, within a word; that is no
   fault. What is lost or added by that is (:mod:`ice.media.quality_alignment`): a longer pause costs next to nothing, a syllable that is missing or doubled all of its moments.
4. **Score.** The two pictures differ by so many decibels at each moment in which either says something: up to :data:`ALIKE_DB` on average over the bands
   is what codecs do to speech and costs nothing, :data:`ALIEN_DB` is another sound. The mean of that, over what was spoken and what was heard besides, to the power of :data:`SEVERITY`, is
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
from ice.media.quality_alignment import FINE, Alignment, align

Wave: TypeAlias = npt.NDArray[np.float32]

RATE: Final = 16_000  # Hz; enough for the bands, a third of the work
WANDER: Final = RATE // 2  # a moment may lie so far from the offset of the whole: a stalled path delays
WINDOW: Final = 512  # samples: 32 ms
HOP: Final = 160  # samples: 10 ms
WANDER_STEPS: Final = WANDER * FINE // HOP
BANDS: Final = 18
LOWEST_HZ, HIGHEST_HZ = 100.0, 3_400.0
DEPTH_DB: Final = 50.0  # what is so much softer than the loud parts does not carry words
SPEECH_DB: Final = 35.0  # no further below the loud parts than this, in the loudest band, something is said
ALIKE_DB: Final = 3.0  # measured: Opus at 24 kbit/s differs by less nearly everywhere, G.711 everywhere
ALIEN_DB: Final = (
    12.0  # measured: two sentences of one voice differ by about that much, their chance likenesses included
)
SEVERITY: Final = 4
THERE: Final = 0.25  # a moment that is less alike is not there
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
    said_db = _picture(said, HOP)
    came_db = _picture(_cut(came, offset - WANDER, len(said) + 2 * WANDER), HOP // FINE)
    loudest = said_db.max(axis=1)
    loud_db = float(np.percentile(loudest, 95))
    active = loudest > loud_db - SPEECH_DB
    places = FINE * np.arange(len(said_db))
    gain_db = _gain_db(said_db, came_db[places + WANDER_STEPS], active)
    found = _laid(said_db, came_db, gain_db, loud_db)
    gain_db = _gain_db(said_db, came_db[places + found.lags], active & ~found.missing)
    difference, speaking = _difference(said_db, came_db[places + found.lags], gain_db, loud_db)
    alike = np.where(found.missing, 0.0, _alike(difference))
    judged = active | (speaking & ~found.missing)
    score = float(np.sum(alike[judged])) / (int(np.sum(judged)) + found.inserted)
    there = alike > THERE
    lag = int(found.lags[np.flatnonzero(active & there)[0]]) if np.any(active & there) else WANDER_STEPS
    offset = _refined(
        said, came, offset, offset - WANDER + lag * HOP // FINE, active & there & (found.lags == lag)
    )
    return Likeness(score**SEVERITY, offset * 1000 / RATE, gain_db, float(np.mean(there[active])))


def _laid(said_db: Wave, came_db: Wave, gain_db: float, loud_db: float) -> Alignment:
    """The heard picture laid over the spoken one."""
    lags = 2 * WANDER_STEPS + 1
    cost = np.zeros((len(said_db), lags))
    for t, moment in enumerate(said_db):
        difference, speaking = _difference(moment, came_db[FINE * t : FINE * t + lags], gain_db, loud_db)
        cost[t] = np.where(speaking, 1.0 - _alike(difference), 0.0)
    threshold = loud_db - SPEECH_DB
    return align(cost, said_db.max(axis=1) > threshold, came_db.max(axis=1) - gain_db > threshold)


def _difference(
    said_db: Wave, came_db: Wave, gain_db: float, loud_db: float
) -> tuple[Wave, npt.NDArray[np.bool_]]:
    """By how many decibels moments differ, and whether either says something."""
    came_db = came_db - np.float32(gain_db)
    speaking = (said_db.max(axis=-1) > loud_db - SPEECH_DB) | (came_db.max(axis=-1) > loud_db - SPEECH_DB)
    floor = np.float32(loud_db - DEPTH_DB)
    return np.abs(np.maximum(said_db, floor) - np.maximum(came_db, floor)).mean(axis=-1), speaking


def _alike(difference: Wave) -> Wave:
    """1 for what codecs do, 0 for another sound."""
    return np.asarray(np.clip((ALIEN_DB - difference) / (ALIEN_DB - ALIKE_DB), 0.0, 1.0), np.float32)


def _gain_db(said_db: Wave, came_db: Wave, active: npt.NDArray[np.bool_]) -> float:
    """How much louder the heard is; beyond 40 dB it is not speech that was turned down, but nothing."""
    if not np.any(active):
        return 0.0
    return max(-40.0, min(40.0, float(np.median((came_db - said_db)[active]))))


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


def _refined(said: Wave, came: Wave, whole: int, found: int, there: npt.NDArray[np.bool_]) -> int:
    """The offset to the sample: ``found`` is right to 2.5 ms, for the moments that are ``there``."""
    step = HOP // FINE
    if abs(found - whole) <= step // 2:
        return whole  # the whole has been correlated already
    kept = np.repeat(there, HOP)[: len(said)]
    spoken = np.where(kept, said[: len(kept)], 0.0)
    matches = [
        float(np.dot(spoken, _cut(came, lag, len(spoken)))) for lag in range(found - step, found + step + 1)
    ]
    return found - step + int(np.argmax(np.abs(matches)))


def _picture(wave: Wave, hop: int) -> Wave:
    """``float32[frames, BANDS]``: decibels, every ``hop`` samples."""
    padded = np.concatenate((wave, np.zeros(WINDOW, np.float32)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)) ** 2
    mel = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 1)
    edges = np.rint(700.0 * np.expm1(mel / 1127.0) * WINDOW / RATE).astype(int)
    bands = [power[:, low : max(high, low + 1)].mean(axis=1) for low, high in itertools.pairwise(edges)]
    return np.asarray(10 * np.log10(np.stack(bands, axis=1) + 1.0), np.float32)


def _mel(hertz: float) -> float:
    return float(1127.0 * np.log1p(hertz / 700.0))
