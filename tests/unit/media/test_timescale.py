"""Shortening speech: shorter, of the same pitch, without a seam."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media.timescale import fade_in, shorten


class Shorten(SynchronousTestCase):
    """Leaving out pitch periods."""

    def test_a_voice_keeps_its_pitch(self) -> None:
        """A 125 Hz voice loses whole periods: what is left is the same wave without a jump."""
        n = np.arange(960)
        voice = sum(np.sin(2 * np.pi * 125 * k * n / 48_000 + k) / k for k in (1, 2, 3, 5))
        pcm = np.rint(8_000 * np.asarray(voice)).astype(np.int16)
        short = shorten(pcm)
        self.assertIn(len(short), (960 - 384, 960 - 384 - 6, 960 - 384 + 6))
        self.assertLess(
            np.abs(np.diff(short.astype(int))).max(), 1.3 * np.abs(np.diff(pcm.astype(int))).max()
        )
        self.assertEqual((short[0], short[-1]), (pcm[0], pcm[-1]))

    def test_long_frames_are_shortened_all_along(self) -> None:
        """100 ms lose between 12.5 and 75 ms."""
        noise = np.random.default_rng(1).integers(-5_000, 5_000, 4_800).astype(np.int16)
        self.assertTrue(4_800 - 5 * 720 <= len(shorten(noise)) <= 4_800 - 5 * 120)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 2_000), st.sampled_from((0, 1, 32_767)))
    def test_any_length(self, length: int, amplitude: int) -> None:
        """Never longer than before, never less than a quarter, whatever comes."""
        pcm = np.random.default_rng(length).integers(-amplitude - 1, amplitude + 1, length).astype(np.int16)
        short = shorten(pcm)
        self.assertEqual(short.dtype, np.int16)
        self.assertTrue(len(pcm) // 4 <= len(short) <= len(pcm))

    def test_fade_in(self) -> None:
        """The first samples rise from zero, the others are untouched, the argument too."""
        pcm = np.full(100, 1_000, np.int16)
        faded = fade_in(pcm, 10)
        self.assertEqual((faded[0], faded[9], faded[99], pcm[0]), (0, 1_000, 1_000, 1_000))
        self.assertEqual(len(fade_in(pcm[:5], 10)), 5)
