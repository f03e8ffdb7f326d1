"""The buffer between a telephone line and us: frames in as the line brings them, 20 ms out whenever we want some, though two clocks run.

A line's sound has no numbers and no times: it comes over TCP in frames of any length, some late, with pauses in which nothing comes at all, because the far
side is silent. It comes by the line's clock and is taken by ours. An engine: time is an argument.

**Backlog.** What is asked about is not how many samples are here, which jumps by a frame with every arrival, but how old the oldest is: samples here plus the time since the last
arrival. That moves by the difference of the clocks alone. Its *target* is what is taken at once (20 ms), a frame of the line, a guard of 5 ms, and
what earlier underruns have taught (10 ms each, given back 1 ms every five seconds).

**Clock drift.** A slow controller (proportional and integral, settled within a minute) stretches or squeezes the sound by a few hundred parts per million, which
nobody hears, by interpolation between samples at 48 kHz (Lagrange, six points: for what telephones carry the error lies 60 dB and more below the sound). Where the clocks agree
nothing is touched: what came in goes out bit for bit.

**Too much at once**, after a stall, is too slow a matter for that: a backlog of 40 ms and more above the target is given back by shortening frames by a pitch period, quiet ones by
leaving them out; and what lies beyond :data:`MOST_MS` is skipped, with a cross-fade.

**Too little** is concealed (:mod:`ice.media.conceal`), fading within 60 ms. Then the line is silent until the next frame comes, which is buffered anew to exactly the target.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

import attrs
import numpy as np
import numpy.typing as npt

from ice.errors import LocalError
from ice.media.conceal import SILENT_MS, Concealer
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.resample import Upsampler
from ice.media.timescale import shorten

RATES: Final = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz: whole fractions of 48 kHz
FRAME_MS: Final = 20
FRAME: Final = SAMPLE_RATE * FRAME_MS // 1000
MS: Final = SAMPLE_RATE // 1000  # samples
GUARD_MS: Final = 5.0  # frames of a call manager come up to 5 ms late
LESSON_MS: Final = 10.0  # added to the target by an underrun
FORGIVEN_MS: Final = 0.004  # of it given back per frame: 1 ms in five seconds
LESSONS_MS: Final = 120.0  # at most
HASTE_MS: Final = 40.0  # above the target: shorten
MOST_MS: Final = 250.0  # above the target: skip
ROOM_MS: Final = 1_000.0  # never more than that is kept
KNOWN_FRAME_MS: Final = 60.0  # frames of a line up to this length are waited for; a longer one is a stall
PROPORTIONAL: Final = 100e-6  # per ms of excess: half of it is gone in seven seconds
INTEGRAL: Final = 0.05e-6  # per ms of excess and frame: critically damped
DRIFT_MAX: Final = 500e-6  # two bad crystals
STRETCH_MAX: Final = 2_000e-6  # 3.5 hundredths of a semitone
DEAD_MS: Final = 1.0  # excess that is none
AVERAGE: Final = 1 / 50  # of the backlog, per frame: a second
QUIET_DBOV: Final = -55.0
SEAM: Final = 5 * MS  # cross-fade over a skip
BEFORE, AFTER = 2, 3  # samples that interpolation needs round a place


@attrs.define
class LineCounters:
    """Plain numbers that only grow; milliseconds of sound where the name says so."""

    frames: int = 0
    heard_ms: float = 0.0
    concealed_ms: float = 0.0
    skipped_ms: float = 0.0  #: thrown away: too much at once
    shortened_ms: float = 0.0  #: given back unheard
    underruns: int = 0
    pauses: int = 0  #: times that the line fell silent


class LineBuffer:
    """Sound of one line, any of :data:`RATES`, as 48 kHz; see the module docstring. Raises :class:`~ice.errors.LocalError` for another rate."""

    def __init__(self, rate: int) -> None:
        if rate not in RATES:
            raise LocalError(f"a line has sound at {', '.join(map(str, RATES))} Hz, not at {rate}")
        self.rate = rate
        self.counters = LineCounters()
        self.level_dbov = SILENCE_DBOV
        self._up = Upsampler(SAMPLE_RATE // rate) if rate != SAMPLE_RATE else None
        self._samples: npt.NDArray[np.int16] = np.zeros(BEFORE, np.int16)
        self._place = float(BEFORE)  # where the next sample to play lies in _samples
        self._playing = False
        self._missed_ms = 0.0  # concealed in a row
        self._arrived_at = float("-inf")
        self._frame_ms = 0.0  # of the line, as long as the longest lately
        self._lessons_ms = 0.0
        self._average_ms = 0.0
        self._drift = 0.0
        self._concealer = Concealer(SAMPLE_RATE)
        self._speech_dbov = SILENCE_DBOV
        self._haste = False

    @property
    def waiting_ms(self) -> float:
        """Sound that is here."""
        return (len(self._samples) - self._place) / MS

    @property
    def target_ms(self) -> float:
        """How old the oldest sample should be when it is taken."""
        return FRAME_MS + (self._frame_ms or FRAME_MS) + GUARD_MS + self._lessons_ms

    @property
    def drift_ppm(self) -> float:
        """How much faster the line's clock runs than ours, as far as that is known."""
        return self._drift * 1e6

    def feed(self, samples: bytes, now: float) -> None:
        """Sound has come: 16 bit little-endian mono at the line's rate, any number of samples; half a sample at the end is dropped."""
        pcm = np.frombuffer(samples, "<i2", len(samples) // 2).astype(np.int16)
        if not len(pcm):
            return
        length_ms = len(pcm) * 1000 / self.rate
        self.counters.frames += 1
        self.counters.heard_ms += length_ms
        self._frame_ms = max(min(length_ms, KNOWN_FRAME_MS), self._frame_ms * 0.999)
        if self._up is not None:
            pcm = self._up.process(pcm)
        start = int(self._place) - BEFORE
        self._samples = np.concatenate((self._samples[start:], pcm))
        self._place -= start
        self._arrived_at = now
        surplus = self.waiting_ms - ROOM_MS
        if surplus > 0:
            self._skip(surplus)

    def pull(self, now: float) -> Pcm | None:
        """The next 20 ms, ``int16[960]``; ``None`` while the line is silent."""
        if not self._playing:
            return self._begin(now)
        waiting_ms = self.waiting_ms
        backlog_ms = waiting_ms + self._age_ms(now)
        self._average_ms += (backlog_ms - self._average_ms) * AVERAGE
        self._lessons_ms = max(0.0, self._lessons_ms - FORGIVEN_MS)
        excess_ms = self._average_ms - self.target_ms
        if min(excess_ms, backlog_ms - self.target_ms) > MOST_MS:
            self._skip(backlog_ms - self.target_ms)
            excess_ms = 0.0
        pcm = self._take(FRAME, self._stretch(excess_ms))
        if len(pcm) < FRAME:
            return self._bridge(pcm)
        pcm = self._concealer.heard(pcm)
        self._missed_ms = 0.0
        self.level_dbov = level_dbov(pcm)
        self._speech_dbov = max(self.level_dbov, self._speech_dbov - 0.05)
        self._haste = not self._haste and min(excess_ms, waiting_ms - 2 * FRAME_MS) > HASTE_MS
        return self._shortened(pcm) if self._haste else pcm

    # -- within

    def _age_ms(self, now: float) -> float:
        return min(max(0.0, (now - self._arrived_at) * 1000), self._frame_ms + GUARD_MS)

    def _begin(self, now: float) -> Pcm | None:
        """Play from silence: exactly so many zeros first that the oldest sample is as old as the target says."""
        if self.waiting_ms <= 0:
            return None
        self._place = float(
            math.ceil(self._place)
        )  # in silence nobody hears where between two samples we stood
        backlog_ms = self.waiting_ms + self._age_ms(now)
        if backlog_ms - self.target_ms > MOST_MS:
            self._skip(backlog_ms - self.target_ms)
        lead = max(0, round((self.target_ms - backlog_ms) * MS))
        # A lone short frame would wait for ever: what has waited long enough is played.
        overdue = (now - self._arrived_at) * 1000 > self.target_ms
        if lead >= FRAME and not overdue:
            return None
        self._playing = True
        self._average_ms = max(backlog_ms, self.target_ms)
        self._concealer.reset()
        pcm = self._take(FRAME - min(lead, FRAME - 1), 1.0)
        lead = FRAME - len(pcm)
        pcm = np.concatenate((np.zeros(lead, np.int16), pcm)) if lead else pcm
        self._concealer.heard(pcm)
        return pcm

    def _stretch(self, excess_ms: float) -> float:
        """How many samples of the line one of ours is, by the controller."""
        excess_ms = 0.0 if abs(excess_ms) < DEAD_MS else excess_ms
        if abs(excess_ms) < HASTE_MS:
            self._drift = min(DRIFT_MAX, max(-DRIFT_MAX, self._drift + INTEGRAL * excess_ms))
        return 1.0 + min(STRETCH_MAX, max(-STRETCH_MAX, PROPORTIONAL * excess_ms + self._drift))

    def _take(self, count: int, stretch: float) -> Pcm:
        """Up to ``count`` samples from the buffer, each ``stretch`` of the line's."""
        samples, place = self._samples, self._place
        if stretch == 1.0 and place == int(place):
            start = int(place)
            pcm = samples[start : start + count]
            self._place += len(pcm)
            return pcm
        last = len(samples) - 1 - AFTER
        count = min(count, max(0, int((last - place) / stretch) + 1))
        if not count:
            return samples[:0]
        places = place + stretch * np.arange(count, dtype=np.float64)
        self._place = place + stretch * count
        return _interpolated(samples, places)

    def _bridge(self, pcm: Pcm) -> Pcm | None:
        """Nothing, or not enough, is here."""
        missing = FRAME - len(pcm)
        if not self._missed_ms:
            self.counters.underruns += 1
            self._lessons_ms = min(LESSONS_MS, self._lessons_ms + LESSON_MS)
        elif self._missed_ms >= SILENT_MS and not len(pcm):
            # The line is silent, it is not late: nothing was to be learned from that.
            self._lessons_ms = max(0.0, self._lessons_ms - LESSON_MS)
            self.counters.underruns -= 1
            self.counters.pauses += 1
            self._playing = False
            self._missed_ms = 0.0
            self.level_dbov = SILENCE_DBOV
            return None
        if len(pcm):
            pcm = self._concealer.heard(pcm)
        self.counters.concealed_ms += missing / MS
        self._missed_ms += missing / MS
        bridged = np.concatenate((pcm, self._concealer.conceal(missing)))
        self.level_dbov = level_dbov(bridged)
        return bridged

    def _shortened(self, pcm: Pcm) -> Pcm:
        """Give back delay: leave a quiet frame out, shorten one of speech, and fill up from what follows."""
        quiet = self.level_dbov < max(QUIET_DBOV, self._speech_dbov - 30.0)
        shorter = pcm[:0] if quiet else shorten(pcm)
        more = self._take(FRAME - len(shorter), 1.0 + self._drift)
        given_ms = len(more) / MS
        self.counters.shortened_ms += given_ms
        self._average_ms -= given_ms
        if len(shorter) + len(more) < FRAME:
            return pcm
        return np.concatenate((shorter, self._concealer.heard(more)))

    def _skip(self, surplus_ms: float) -> None:
        """Throw away the oldest sound, with a cross-fade where something is being played."""
        count = min(int(surplus_ms * MS), int(len(self._samples) - self._place) - 2 * SEAM)
        if count <= 0:
            return
        start = int(self._place)
        samples = self._samples.copy()
        if self._playing:
            ramp = np.linspace(0.0, 1.0, SEAM, dtype=np.float32)
            old, new = samples[start : start + SEAM], samples[start + count : start + count + SEAM]
            samples[start + count : start + count + SEAM] = np.rint(old * (1 - ramp) + new * ramp)
            samples[start + count - BEFORE : start + count] = samples[start - BEFORE : start]
        self._samples = samples
        self._place += count
        self._average_ms -= count / MS
        self.counters.skipped_ms += count / MS


def _interpolated(samples: Pcm, places: npt.NDArray[np.floating]) -> Pcm:
    """The sound at places between samples: Lagrange's polynomial through the six samples round each."""
    whole = np.floor(places).astype(np.int64)
    first = int(whole[0])
    window = samples[first - BEFORE : int(whole[-1]) + AFTER + 1].astype(np.float32)
    c = (places - whole).astype(np.float32)
    a, b, d, e, f = c + 2, c + 1, c - 1, c - 2, c - 3  # distances to the six samples
    ab, ef, cd = a * b, e * f, c * d
    weights = (
        b * cd * ef / np.float32(-120),
        a * cd * ef / np.float32(24),
        ab * d * ef / np.float32(-12),
        ab * c * ef / np.float32(12),
        ab * cd * f / np.float32(-24),
        ab * cd * e / np.float32(120),
    )
    total = np.empty(len(places), np.float32)
    # With hardly any stretch the samples lie side by side but for a step now and then: piece by piece, without an index.
    steps = np.flatnonzero(np.diff(whole) != 1) + 1
    for begin, end in itertools.pairwise((0, *steps.tolist(), len(places))):
        offset = int(whole[begin]) - first
        piece = weights[0][begin:end] * window[offset : offset + end - begin]
        for tap in range(1, 6):
            piece += weights[tap][begin:end] * window[offset + tap : offset + tap + end - begin]
        total[begin:end] = piece
    np.rint(total, out=total)
    np.clip(total, -32_768, 32_767, out=total)
    return total.astype(np.int16)
