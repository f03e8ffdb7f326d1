"""Concealment for codecs that bring none: G.711 and linear PCM, in the spirit of G.711 Appendix I.

What was heard last is repeated one pitch period at a time, so that a vowel goes on as a vowel. The period is where the last 20 ms
resemble themselves most, 5 to 15 ms back. The repetition stands for 10 ms, then fades to silence at 60 ms: a longer gap is no
packet loss but a lost talker. The first packet behind a gap is faded in over the repetition for 4 ms.

Appendix I delays all sound by 3.75 ms to blend the seam in front of a gap. Here nothing is delayed: the step that is left where a
period follows the last is carried on as an offset that fades within a quarter of the period.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

PITCH_RATE: Final = 8_000  # Hz; pitch is looked for at telephone rate, whatever the rate of the sound
MIN_PERIOD: Final = 40  # samples at 8 kHz: 5 ms, 200 Hz (a higher voice repeats two periods at once)
MAX_PERIOD: Final = 120  # 15 ms, 66 Hz
COMPARED: Final = 160  # 20 ms of sound are compared with what was before
FULL_MS: Final = 10  # repetition at full level
SILENT_MS: Final = 60  # nothing is left of it
JOIN_MS: Final = 4  # of crossfade back to real sound


class Concealer:
    """Remembers a stream of ``int16`` PCM at ``rate`` Hz (a multiple of 8,000) and invents what is missing in it."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._scale = rate // PITCH_RATE
        self._history = np.zeros((COMPARED + MAX_PERIOD) * self._scale, np.int16)
        self._lost = 0  # samples invented since the last real ones
        self._period = np.zeros(1, np.float32)
        self._step = 0.0

    def heard(self, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Real sound arrived; returns it, its first 4 ms faded in where it follows a gap."""
        if self._lost and len(pcm):
            length = min(len(pcm), JOIN_MS * self.rate // 1000)
            ramp = (np.arange(length, dtype=np.float32) + 0.5) / length
            pcm = pcm.copy()
            blended = pcm[:length] * ramp + self._continued(length) * (1 - ramp)
            pcm[:length] = np.rint(np.clip(blended, -32_768, 32_767))
            self._lost = 0
        keep = len(self._history)
        if len(pcm) >= keep:
            self._history = pcm[len(pcm) - keep :].copy()
        else:
            self._history = np.concatenate((self._history[len(pcm) :], pcm))
        return pcm

    def conceal(self, samples: int) -> npt.NDArray[np.int16]:
        """The next ``samples`` of a gap."""
        if self._lost >= SILENT_MS * self.rate // 1000:
            self._lost += samples
            return np.zeros(samples, np.int16)
        if not self._lost:
            self._find_period()
        pcm = np.rint(np.clip(self._continued(samples), -32_768, 32_767)).astype(np.int16)
        self._lost += samples
        return pcm

    def reset(self) -> None:
        """Forget what was heard."""
        self._history[:] = 0
        self._lost = 0

    def _find_period(self) -> None:
        history = self._history.astype(np.float32)
        coarse = history if self._scale == 1 else history.reshape(-1, self._scale).mean(axis=1)
        recent = coarse[-COMPARED:]
        # Entry k compares with what lies MAX_PERIOD - k before; both sums run over COMPARED samples.
        products = np.correlate(coarse[: COMPARED + MAX_PERIOD - MIN_PERIOD], recent, "valid")
        energy = np.concatenate(([0.0], np.cumsum(coarse * coarse, dtype=np.float64)))
        energies = energy[COMPARED : COMPARED + len(products)] - energy[: len(products)]
        likeness = products / np.sqrt(np.maximum(energies, 1.0))
        period = (MAX_PERIOD - int(np.argmax(likeness))) * self._scale
        if self._scale > 1:
            period = self._refined(history, period)
        self._period = history[-period:]
        self._step = float(history[-1] - history[-period - 1])

    def _refined(self, history: npt.NDArray[np.float32], period: int) -> int:
        """The period near ``period`` to one sample at the full rate."""
        longest = min(period + self._scale, MAX_PERIOD * self._scale)
        shortest = max(period - self._scale, MIN_PERIOD * self._scale)
        compared = COMPARED * self._scale
        recent = history[-compared:]
        # Entry k compares with what lies longest - k before; over so few lags the energy hardly differs.
        products = np.correlate(history[-compared - longest : len(history) - shortest], recent, "valid")
        return longest - int(np.argmax(products))

    def _continued(self, samples: int) -> npt.NDArray[np.float32]:
        """``samples`` of the repetition from where the gap stands now."""
        position = np.arange(self._lost, self._lost + samples)
        period = len(self._period)
        quarter = period // 4
        turn = position % period
        offset = self._step * np.maximum(0, 1 - turn / quarter)
        full, silent = FULL_MS * self.rate // 1000, SILENT_MS * self.rate // 1000
        gain = np.clip((silent - position) / (silent - full), 0, 1)
        return np.asarray((self._period[turn] + offset) * gain, np.float32)
