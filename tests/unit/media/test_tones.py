"""Beeps, silence and levels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import tones


class LevelTests(SynchronousTestCase):
    def test_fixed_points(self) -> None:
        """RFC 6464: full-scale square 0, full-scale sine −3.01, silence and no samples −127, one step above silence −90.3."""
        square = np.repeat(np.array([-32_768], np.int16), 960)
        self.assertEqual(tones.level_dbov(square), 0.0)
        sine = np.asarray(32_767 * np.sin(np.arange(960) * 2 * np.pi / 48), np.int16)
        self.assertApproximates(tones.level_dbov(sine), -3.01, 0.01)
        self.assertEqual(tones.level_dbov(tones.silence(960)), -127.0)
        self.assertEqual(tones.level_dbov(tones.silence(0)), -127.0)
        self.assertApproximates(tones.level_dbov(np.ones(960, np.int16)), -90.31, 0.01)

    @given(st.lists(st.integers(-32_768, 32_767), max_size=50))
    def test_range(self, samples: list[int]) -> None:
        """Whatever the samples, the level is a number from −127 to 0."""
        self.assertTrue(-127.0 <= tones.level_dbov(np.array(samples, np.int16)) <= 0.0)


class SineTests(SynchronousTestCase):
    def test_level_and_pitch(self) -> None:
        """A sine has the level and the frequency asked for, at any rate."""
        for rate in (8_000, 48_000):
            pcm = tones.sine(1_000, rate, level_dbov=-20, rate=rate)
            self.assertApproximates(tones.level_dbov(pcm), -20, 0.05)
            self.assertEqual(int(np.argmax(np.abs(np.fft.rfft(pcm.astype(float))))), 1_000)

    def test_pieces_join(self) -> None:
        """Frames cut from an endless sine are the sine."""
        whole = tones.sine(433.7, 9_600)
        pieces = [tones.sine(433.7, 960, start=start) for start in range(0, 9_600, 960)]
        self.assertEqual(np.concatenate(pieces).tolist(), whole.tolist())

    def test_loudest(self) -> None:
        """The loudest sine allowed does not wrap round."""
        pcm = tones.sine(1_000, 48_000, level_dbov=tones.SINE_MAX_DBOV)
        self.assertGreater(int(pcm.max()), 32_700)
        self.assertLess(int(pcm.min()), -32_700)

    def test_out_of_range(self) -> None:
        """Too loud, too high and no frequency at all are our mistakes."""
        for frequency, level in ((1_000, -3.0), (24_001, -20), (0, -20), (-5, -20)):
            self.assertRaises(LocalError, tones.sine, frequency, 10, level_dbov=level)


class BeepTests(SynchronousTestCase):
    def test_beeps(self) -> None:
        """Each beep is short, audible, without a click at its ends, the same object each time and safe from writing."""
        for beep, milliseconds in ((tones.talk_permit, 140), (tones.busy, 400), (tones.error, 500)):
            pcm = beep()
            self.assertEqual(len(pcm), milliseconds * 48)
            self.assertTrue(-24 < tones.level_dbov(pcm) < -16)
            self.assertLess(abs(int(pcm[0])) + abs(int(pcm[-1])), 20)
            self.assertIs(beep(), pcm)
            self.assertRaises(ValueError, pcm.__setitem__, 0, 1)

    def test_beeps_differ(self) -> None:
        """A person tells them apart: no two begin alike."""
        starts = {beep()[:1_440].tobytes() for beep in (tones.talk_permit, tones.busy, tones.error)}
        self.assertEqual(len(starts), 3)

    def test_shaped_short(self) -> None:
        """Edges fit even where there is hardly a sample to shape."""
        for length in (0, 1, 2, 3):
            self.assertEqual(len(tones.shaped(tones.sine(100, length))), length)
