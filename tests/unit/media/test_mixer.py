"""Mixing: sums that do not wrap, everybody but oneself, and a limiter that is not heard."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.mixer import SILENCE_DBOV, Limiter, accumulate, level_dbov, minus, mix, mix_minus, saturate
from ice.media.payload import Pcm

FRAMES = st.integers(1, 6).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(-32_768, 32_767), min_size=8, max_size=8), min_size=count, max_size=count
    )
)


def tone(amplitude: float, hertz: float = 440, samples: int = 960, start: int = 0) -> Pcm:
    """A piece of a sine."""
    n = np.arange(start, start + samples)
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * n / 48_000)).astype(np.int16)


class Mix(SynchronousTestCase):
    """The saturating sum."""

    def test_loud_talkers_saturate(self) -> None:
        """Full scale twice is full scale, with its sign, and never the other side of zero."""
        loud = np.array([32_767, -32_768, 100], np.int16)
        self.assertEqual(mix([loud, loud]).tolist(), [32_767, -32_768, 200])

    def test_gains(self) -> None:
        """Each talker by its own gain, rounded; a gain of 0 is silence."""
        frame = np.array([1_000, -1_000, 3], np.int16)
        self.assertEqual(mix([frame, frame, frame], [0.5, 2.0, 0.0]).tolist(), [2_500, -2_500, 8])

    def test_what_cannot_be_mixed(self) -> None:
        """No frame, frames of two lengths, gains for somebody else: local errors that say which."""
        frame = np.zeros(8, np.int16)
        with self.assertRaisesRegex(LocalError, "at least one"):
            mix([])
        with self.assertRaisesRegex(LocalError, "of 8 and of 9"):
            mix([frame, np.zeros(9, np.int16)])
        with self.assertRaisesRegex(LocalError, "not 1"):
            mix([frame, frame], [1.0])

    @settings(max_examples=100, deadline=None)
    @given(FRAMES)
    def test_mix_minus_is_the_sum_of_the_others(self, samples: list[list[int]]) -> None:
        """For every member: exactly the clipped sum of all the others, in whatever order."""
        frames = [np.array(each, np.int16) for each in samples]
        for index, heard in enumerate(mix_minus(frames)):
            others = np.sum(
                [f.astype(np.int64) for f in frames[:index] + frames[index + 1 :]] or [frames[0] * 0], 0
            )
            self.assertEqual(heard.tolist(), np.clip(others, -32_768, 32_767).tolist())
        self.assertEqual(mix(frames).tolist(), mix(frames[::-1]).tolist())
        self.assertEqual(len(minus(frames)), len(frames))


class Level(SynchronousTestCase):
    """Levels in dBov."""

    def test_known_levels(self) -> None:
        """A full-scale square is 0 dBov, a full-scale sine −3.01, silence −127."""
        self.assertTrue(abs(level_dbov(np.full(960, -32_768, np.int16))) < 0.001)
        self.assertTrue(abs(level_dbov(tone(32_767, 1_000)) + 3.01) < 0.01)
        self.assertEqual(level_dbov(np.zeros(960, np.int16)), SILENCE_DBOV)
        self.assertEqual(level_dbov(np.zeros(0, np.int16)), SILENCE_DBOV)


class Limit(SynchronousTestCase):
    """The limiter."""

    def test_what_fits_passes_bit_for_bit(self) -> None:
        """One talker, however loud, is not touched."""
        limiter = Limiter()
        for frame in (tone(32_767), np.array([-32_768, 32_767], np.int16), np.zeros(0, np.int16)):
            self.assertEqual(limiter.limit(accumulate([frame])).tolist(), frame.tolist())

    def test_too_loud_is_turned_down_and_not_cut_off(self) -> None:
        """Twice full scale comes out as a sine at full scale: far fewer samples at the stop than clipping leaves."""
        limiter = Limiter()
        sums = [accumulate([tone(30_000, start=n * 960)] * 2) for n in range(10)]
        out = np.concatenate([limiter.limit(each) for each in sums])
        clipped = np.concatenate([saturate(each) for each in sums])
        self.assertLess(np.count_nonzero(np.abs(out.astype(int)) >= 32_767), 100)
        self.assertGreater(np.count_nonzero(np.abs(clipped.astype(int)) >= 32_767), 5_000)

    def test_the_gain_returns(self) -> None:
        """Half a second after the shouting one talker is as loud as ever, and no step is heard on the way."""
        limiter = Limiter()
        limiter.limit(accumulate([tone(32_000)] * 4))
        self.assertLess(limiter.gain, 0.3)
        gains = []
        for _ in range(26):
            limiter.limit(accumulate([tone(1_000)]))
            gains.append(limiter.gain)
        self.assertEqual(gains[-1], 1.0)
        self.assertLess(max(np.diff(gains)), 0.05)
