"""Pictures of sounds: what is drawn where, and what is said when it cannot be drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.payload import Pcm
from ice.media.picture import (
    CAPTION,
    GAP,
    MARGIN_LEFT,
    MARGIN_RIGHT,
    TITLE_HEIGHT,
    TRACK,
    WIDTH,
    PillowMissing,
    draw,
    tick_label,
    tick_step,
)


def burst(start: float, end: float, seconds: float) -> Pcm:
    """Silence with noise between two times."""
    pcm = np.zeros(round(seconds * 48_000), np.int16)
    size = round((end - start) * 48_000)
    first = round(start * 48_000)
    pcm[first : first + size] = np.random.default_rng(1).integers(-9_000, 9_000, size)
    return pcm


class Picture(SynchronousTestCase):
    """The file."""

    def drawn(self, *tracks: tuple[str, Pcm]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        path = Path(self.mktemp())
        draw(path, tracks)
        with Image.open(path) as image:
            self.assertEqual(image.format, "PNG")
            return np.asarray(image.convert("RGB"))

    def coloured(
        self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], track: int
    ) -> tuple[float, float]:
        """Where, in fractions of the width, the wave of a track begins and ends."""
        top = TITLE_HEIGHT + track * (TRACK + GAP) + CAPTION
        strip = pixels[top : top + TRACK - CAPTION - 10, MARGIN_LEFT + 2 : WIDTH - MARGIN_RIGHT - 2].astype(
            int
        )
        vivid = (strip.max(axis=2) - strip.min(axis=2) > 40).sum(axis=0) > 4
        columns = np.flatnonzero(vivid)
        return float(columns[0]) / strip.shape[1], float(columns[-1]) / strip.shape[1]

    def test_both_on_one_time_axis(self) -> None:
        """What sounds from 1 to 2 s of four lies in the second quarter, in whichever track; a shorter one ends earlier."""
        pixels = self.drawn(("spoken", burst(1, 2, 4)), ("heard", burst(2, 3, 3)))
        self.assertEqual(pixels.shape, (TITLE_HEIGHT + 2 * TRACK + GAP + 46, WIDTH, 3))
        for track, (begin, end) in enumerate(((0.25, 0.5), (0.5, 0.75))):
            from_, to = self.coloured(pixels, track)
            self.assertTrue(abs(from_ - begin) < 0.01 and abs(to - end) < 0.01, (track, from_, to))

    def test_silence_and_nothing(self) -> None:
        """A silent track is a line, an empty one too; neither is an error."""
        pixels = self.drawn(("silence", np.zeros(48_000, np.int16)), ("nothing", np.zeros(0, np.int16)))
        with self.assertRaises(IndexError):
            self.coloured(pixels, 0)

    def test_the_extremes_of_a_sample(self) -> None:
        """−32,768 has no positive twin in 16 bits; it is drawn all the same."""
        self.drawn(("square", np.tile(np.array([-32_768, 32_767], np.int16), 3)))

    def test_errors(self) -> None:
        """No tracks, a folder that is not there, no Pillow: each says so."""
        with self.assertRaisesRegex(LocalError, "1 to 16"):
            draw(Path(self.mktemp()), ())
        with self.assertRaisesRegex(LocalError, "cannot be written"):
            draw(Path(self.mktemp()) / "no" / "p.png", (("a", burst(0, 1, 1)),))
        with (
            mock.patch.dict(sys.modules, {"PIL.Image": None}),
            self.assertRaisesRegex(PillowMissing, "pip install pillow"),
        ):
            draw(Path(self.mktemp()), (("a", burst(0, 1, 1)),))


class Axis(SynchronousTestCase):
    """Ticks and their labels."""

    def test_never_crowded(self) -> None:
        """From a blink to a day: at least two ticks, never more than fifteen."""
        for seconds in (0.11, 0.5, 1, 3, 6, 12, 59, 61, 300, 3_600, 86_400):
            self.assertTrue(1 <= seconds / tick_step(seconds) <= 14, seconds)

    def test_labels(self) -> None:
        """Parts of seconds, seconds, minutes."""
        self.assertEqual(
            [tick_label(0.15, 0.05), tick_label(2.5, 0.5), tick_label(7, 1), tick_label(125, 15)],
            ["0.15", "2.5", "7", "2:05"],
        )
