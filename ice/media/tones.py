"""Beeps, silence and levels.

Levels are in dBov, as in RFC 6464: the root mean square relative to that of a full-scale square wave. Digital silence is −127, a
full-scale sine −3.01, ordinary speech −30 to −20.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

SILENCE_DBOV: Final = -127.0  # RFC 6464 §3: the lowest level that can be said
SINE_MAX_DBOV: Final = -3.02  # a sine has half the power of the square wave around it
BEEP_DBOV: Final = -18.0  # clearly heard beside speech, startling no one on a headset
EDGE_MS: Final = 5  # raised-cosine edges: shorter ones click


def silence(samples: int) -> Pcm:
    """``int16[samples]`` of nothing."""
    return np.zeros(samples, np.int16)


def sine(
    frequency_hz: float,
    samples: int,
    *,
    level_dbov: float = BEEP_DBOV,
    start: int = 0,
    rate: int = SAMPLE_RATE,
) -> Pcm:
    """A piece of an endless sine, ``samples`` long, beginning ``start`` samples into it: pieces in a row join without a step.

    Raises :class:`~ice.errors.LocalError` for a frequency above half the rate or a level above a full-scale sine (−3.02 dBov).
    """
    if not 0 < frequency_hz <= rate / 2:
        raise LocalError(f"a tone of {frequency_hz} Hz does not fit a sample rate of {rate} Hz")
    if level_dbov > SINE_MAX_DBOV:
        raise LocalError(f"a sine of {level_dbov} dBov would clip; at most {SINE_MAX_DBOV}")
    amplitude = 32_768 * math.sqrt(2) * 10 ** (level_dbov / 20)
    phase = np.arange(start, start + samples) * (2 * math.pi * frequency_hz / rate)
    return np.asarray(np.rint(amplitude * np.sin(phase)), np.int16)


def shaped(pcm: Pcm, *, rate: int = SAMPLE_RATE) -> Pcm:
    """``pcm`` with soft edges of 5 ms (less where it is shorter than both), so that it begins and ends without a click."""
    edge = min(EDGE_MS * rate // 1000, len(pcm) // 2)
    ramp = 0.5 - 0.5 * np.cos(math.pi * (np.arange(edge) + 0.5) / max(edge, 1))
    gain = np.ones(len(pcm))
    gain[:edge] = ramp
    gain[len(pcm) - edge :] = ramp[::-1]
    return np.asarray(np.rint(pcm * gain), np.int16)


def level_dbov(pcm: Pcm) -> float:
    """The level of ``pcm``, −127.0 to 0.0; −127.0 for silence and for no samples at all."""
    if not len(pcm):
        return SILENCE_DBOV
    samples = pcm.astype(np.float32)
    power = float(np.dot(samples, samples)) / len(samples) / (32_768.0 * 32_768.0)
    if power <= 0:
        return SILENCE_DBOV
    return min(0.0, max(SILENCE_DBOV, 10 * math.log10(power)))


def _pulses(*pulses: tuple[float, int, int]) -> Pcm:
    """Pulses one after another, each (Hz, ms of tone, ms of silence after it). The result is shared, so it is read-only."""
    pieces = []
    for frequency_hz, tone_ms, gap_ms in pulses:
        pieces.append(shaped(sine(frequency_hz, tone_ms * SAMPLE_RATE // 1000)))
        pieces.append(silence(gap_ms * SAMPLE_RATE // 1000))
    pcm = np.concatenate(pieces)
    pcm.flags.writeable = False
    return pcm


@functools.cache
def talk_permit() -> Pcm:
    """ "Speak now": three quick high beeps, 140 ms in all (as land mobile radios do it). Read-only."""
    return _pulses((910, 30, 25), (910, 30, 25), (910, 30, 0))


@functools.cache
def busy() -> Pcm:
    """ "Someone else is talking": two medium beeps, 400 ms in all. Read-only."""
    return _pulses((425, 150, 100), (425, 150, 0))


@functools.cache
def error() -> Pcm:
    """ "That did not work": three falling tones, 500 ms in all. Read-only."""
    return _pulses((660, 120, 20), (520, 120, 20), (390, 220, 0))
