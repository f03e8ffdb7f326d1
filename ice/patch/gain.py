"""Automatic gain: a quiet stream made louder, a loud one quieter, slowly, so that nobody reaches for a knob.

Off unless a person asks for it: it raises the noise of a quiet room along with the voice in it. It follows the level of what is speech (frames
above :data:`GATE_DBOV`) and never of pauses, moves by :data:`RISE_DB` and :data:`FALL_DB` per second, and stays within ±:data:`MAX_DB`.
"""

from __future__ import annotations

from typing import Final

from ice.media.codecs import SAMPLE_RATE, Pcm
from ice.media.mixer import level_dbov

TARGET_DBOV: Final = -24.0  # the middle of ordinary speech
GATE_DBOV: Final = -45.0
MAX_DB: Final = 12.0
RISE_DB: Final = 3.0  # per second of speech
FALL_DB: Final = 12.0  # what is too loud hurts


def amplitude(gain_db: float) -> float:
    """The factor of a gain."""
    return float(10.0 ** (gain_db / 20.0))


class AutomaticGain:
    """The gain of one stream."""

    def __init__(self) -> None:
        self.gain_db = 0.0

    def follow(self, pcm: Pcm) -> float:
        """The factor for this piece of sound, after having listened to it."""
        level = level_dbov(pcm)
        if level > GATE_DBOV:
            seconds = len(pcm) / SAMPLE_RATE
            wanted = max(-MAX_DB, min(MAX_DB, TARGET_DBOV - level))
            step = max(-FALL_DB * seconds, min(RISE_DB * seconds, wanted - self.gain_db))
            self.gain_db += step
        return amplitude(self.gain_db)
