"""What the patch server itself says on the streams of a patch: recorded prompts, tones, telephone keys.

An announcement is a talker like any other: it asks for the floor, it has a name, a priority and perhaps the emergency flag, and who stands above it ends it.
Telephone keys follow the sound, as events where the stream has them (RFC 4733), else as tones.
"""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.codecs import SAMPLE_RATE, Pcm
from ice.media.dtmf import DIGITS, tone
from ice.media.rtp import clip_alias
from ice.patch.speaker import KEYS_MAX

MAX_S: Final = 300.0  # seconds of sound; a longer prompt is a broadcast
KEY_SAMPLES: Final = SAMPLE_RATE * 100 // 1000  # a key, and the pause behind it: what a Dialer does
TONE_DBOV: Final = -15.0


@attrs.frozen(eq=False)
class Announcement:
    """``pcm``: ``int16[n]``, 48 kHz mono, up to five minutes; ``digits`` are said after it; ``streams``: where, all where it is empty.

    Raises :class:`~ice.errors.LocalError` for what cannot be said.
    """

    pcm: Pcm = attrs.field(factory=lambda: np.zeros(0, np.int16))
    digits: str = ""
    alias: str = ""
    priority: int = 0
    emergency: bool = False
    streams: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.pcm.dtype != np.int16 or self.pcm.ndim != 1:
            raise LocalError(
                f"an announcement is a row of int16, not {self.pcm.dtype} of {self.pcm.ndim} dimensions"
            )
        if len(self.pcm) > MAX_S * SAMPLE_RATE:
            raise LocalError(
                f"an announcement lasts at most {MAX_S:g} s, not {len(self.pcm) / SAMPLE_RATE:.0f}"
            )
        if not len(self.pcm) and not self.digits:
            raise LocalError("an announcement has sound, or telephone keys")
        if len(self.digits) > KEYS_MAX or any(digit.upper() not in DIGITS for digit in self.digits):
            raise LocalError(f"telephone keys are up to {KEYS_MAX} of {DIGITS}")
        if clip_alias(self.alias) != self.alias:
            raise LocalError(f"{self.alias[:40]!r} is no alias: printable, up to 16 bytes")


class Playing:
    """An announcement that is being said."""

    def __init__(self, announcement: Announcement) -> None:
        self.announcement = announcement
        self._at = 0
        self._digits_at = len(announcement.pcm)
        keys = [
            np.concatenate((tone(d, KEY_SAMPLES, level_dbov=TONE_DBOV), np.zeros(KEY_SAMPLES, np.int16)))
            for d in announcement.digits
        ]
        self._tones = np.concatenate((announcement.pcm, *keys))
        self._silent = np.concatenate(
            (announcement.pcm, np.zeros(len(self._tones) - len(announcement.pcm), np.int16))
        )
        self._dialled = False

    @property
    def over(self) -> bool:
        """Whether all has been said."""
        return self._at >= len(self._tones)

    def take(self, samples: int) -> tuple[Pcm, Pcm, str]:
        """The next ``int16[samples]`` with keys as tones, the same with silence in their place, and the keys that begin in it."""
        at, self._at = self._at, self._at + samples
        digits = ""
        if not self._dialled and self._at > self._digits_at:
            self._dialled = True
            digits = self.announcement.digits
        return _piece(self._tones, at, samples), _piece(self._silent, at, samples), digits


def _piece(pcm: Pcm, at: int, samples: int) -> Pcm:
    piece = pcm[at : at + samples]
    return (
        piece if len(piece) == samples else np.concatenate((piece, np.zeros(samples - len(piece), np.int16)))
    )
