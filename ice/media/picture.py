"""A picture of sounds, one above the other on a common time axis: what was spoken and what was heard, for people who trust their eyes.

Each column of a track shows the highest and the lowest sample about its time (pale) and the effective value (dark), so that the loudness
that is heard is what is seen. All tracks share one scale of loudness, that of the loudest, so that a track which came through softer looks softer.
Everything is drawn at twice the size and reduced, which makes the edges smooth. Pillow is loaded when the first picture is drawn.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from ice.errors import LocalError
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm

WIDTH: Final = 1_400  # pixels: wide enough for syllables of a sentence, narrow enough for a screen
TRACK: Final = 210  # pixels of height for each sound
SMOOTH: Final = 2  # drawn so many times larger
MAX_TRACKS: Final = 16
TICK_STEPS_S: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)
TICKS_MAX: Final = 14  # more labels than this are a smear
OUTLINE_S: Final = (
    0.016  # what a column shows at least: the slowest voice's period, or vowels look like combs
)
SOFTEST_PEAK: Final = 0.03  # of full scale: the noise of a silent track is not blown up to look like speech

MARGIN_LEFT, MARGIN_RIGHT, TITLE_HEIGHT, AXIS_HEIGHT, GAP, CAPTION = 36, 36, 62, 46, 16, 30

PAPER: Final = (250, 250, 252)
PANEL: Final = (255, 255, 255)
BORDER: Final = (222, 225, 232)
GRID: Final = (236, 238, 243)
MIDDLE: Final = (205, 210, 220)
INK: Final = (28, 34, 48)
SOFT_INK: Final = (112, 120, 138)
COLOURS: Final = (  # of a track's peaks and of its effective value
    ((166, 196, 247), (37, 99, 207)),
    ((150, 215, 196), (12, 130, 103)),
    ((247, 205, 150), (203, 116, 16)),
    ((214, 182, 240), (126, 58, 190)),
)


class PillowMissing(LocalError):
    """Pillow is not installed."""


@attrs.frozen
class _Canvas:
    """A drawing and its fonts; lengths are in pixels of the finished picture."""

    draw: Any
    font: Any

    def text(
        self, x: float, y: float, text: str, size: int, colour: tuple[int, int, int], anchor: str
    ) -> None:
        self.draw.text(
            (x * SMOOTH, y * SMOOTH), text, font=self.font(size * SMOOTH), fill=colour, anchor=anchor
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: tuple[int, int, int]) -> None:
        self.draw.line([(x1 * SMOOTH, y1 * SMOOTH), (x2 * SMOOTH, y2 * SMOOTH)], fill=colour, width=SMOOTH)

    def panel(self, x: float, y: float, width: float, height: float) -> None:
        box = [x * SMOOTH, y * SMOOTH, (x + width) * SMOOTH, (y + height) * SMOOTH]
        self.draw.rounded_rectangle(box, radius=8 * SMOOTH, fill=PANEL, outline=BORDER, width=SMOOTH)


def draw(
    path: Path,
    tracks: Sequence[tuple[str, Pcm]],
    *,
    title: str = "What was spoken, and what was heard",
    rate: int = SAMPLE_RATE,
) -> None:
    """Write a PNG of the named sounds (``int16[n]`` at ``rate``), the first on top, all beginning at the left edge.

    Raises :class:`PillowMissing`, and :class:`~ice.errors.LocalError` for no or too many tracks and where the file cannot be written.
    """
    if not 1 <= len(tracks) <= MAX_TRACKS:
        raise LocalError(f"a picture shows 1 to {MAX_TRACKS} sounds, not {len(tracks)}")
    if rate <= 0:
        raise LocalError(f"a sample rate of {rate} Hz cannot be drawn")
    try:
        image_module = importlib.import_module("PIL.Image")
        draw_module = importlib.import_module("PIL.ImageDraw")
        font_module = importlib.import_module("PIL.ImageFont")
    except ModuleNotFoundError as error:
        raise PillowMissing("Pillow, which draws pictures, is not installed: pip install pillow") from error
    height = TITLE_HEIGHT + len(tracks) * (TRACK + GAP) - GAP + AXIS_HEIGHT
    image = image_module.new("RGB", (WIDTH * SMOOTH, height * SMOOTH), PAPER)
    canvas = _Canvas(draw_module.Draw(image), font_module.load_default)
    canvas.text(MARGIN_LEFT, TITLE_HEIGHT / 2 + 3, title, 22, INK, "lm")
    seconds = max(max(len(pcm) for _, pcm in tracks) / rate, 0.01)
    peak = max(SOFTEST_PEAK, *(_peak(pcm) for _, pcm in tracks))
    top = TITLE_HEIGHT
    for index, (name, pcm) in enumerate(tracks):
        _track(canvas, top, name, pcm, COLOURS[index % len(COLOURS)], seconds, peak, rate)
        top += TRACK + GAP
    _axis(canvas, top - GAP, seconds)
    try:
        image.resize((WIDTH, height), image_module.Resampling.LANCZOS).save(path, format="PNG", optimize=True)
    except OSError as error:
        raise LocalError(f"{path}: the picture cannot be written: {error.strerror or error}") from None


def _peak(pcm: Pcm) -> float:
    return float(np.abs(pcm.astype(np.int32)).max()) / 32_768 if len(pcm) else 0.0


def tick_step(seconds: float) -> float:
    """The time between two ticks of an axis of that length: the finest usual step that does not crowd it."""
    for step in TICK_STEPS_S:
        if seconds / step <= TICKS_MAX:
            return float(step)
    return math.ceil(seconds / TICKS_MAX / 3_600) * 3_600.0


def tick_label(at: float, step: float) -> str:
    """``0.4``, ``7`` or ``2:05``: seconds below a minute's steps, minutes and seconds above."""
    if step < 1:
        return f"{at:.2f}" if step < 0.1 else f"{at:.1f}"
    if step < 15:
        return f"{at:.0f}"
    return f"{int(at) // 60}:{int(at) % 60:02d}"


def _left_and_width() -> tuple[float, float]:
    return MARGIN_LEFT, WIDTH - MARGIN_LEFT - MARGIN_RIGHT


def _ticks(seconds: float) -> list[float]:
    step = tick_step(seconds)
    return [index * step for index in range(int(seconds / step + 1e-9) + 1)]


def _track(
    canvas: _Canvas,
    top: float,
    name: str,
    pcm: Pcm,
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
    seconds: float,
    peak: float,
    rate: int,
) -> None:
    left, width = _left_and_width()
    canvas.panel(left, top, width, TRACK)
    upper, lower = top + CAPTION, top + TRACK - 10
    middle, half = (upper + lower) / 2, (lower - upper) / 2
    for at in _ticks(seconds)[1:]:
        x = left + width * at / seconds
        if x < left + width - 2:
            canvas.line(x, upper, x, lower, GRID)
    canvas.line(left + 1, middle, left + width - 1, middle, MIDDLE)
    pale, dark = colours
    inner = (width - 2) * SMOOTH
    columns = round(inner * min(1.0, len(pcm) / rate / seconds))
    scale = half * SMOOTH / (peak * 32_768)
    if columns and len(pcm):
        edges = np.linspace(0, len(pcm), columns + 1).astype(int)
        starts = np.minimum(edges[:-1], len(pcm) - 1)
        lengths = np.maximum(np.diff(np.append(starts, len(pcm))), 1)
        powers = np.add.reduceat(pcm.astype(np.float64) ** 2, starts) / lengths
        around = max(1, round(OUTLINE_S / (len(pcm) / rate / columns)))
        high = (
            _around(_around(np.maximum.reduceat(pcm, starts), around).max(axis=1), around).mean(axis=1)
            * scale
        )
        low = (
            _around(_around(np.minimum.reduceat(pcm, starts), around).min(axis=1), around).mean(axis=1)
            * scale
        )
        effective = np.sqrt(_around(_around(powers, around).mean(axis=1), around).mean(axis=1)) * scale
        for index in range(columns):
            x = (left + 1) * SMOOTH + index
            zero = middle * SMOOTH
            if high[index] - low[index] >= 1:
                canvas.draw.line([(x, zero - high[index]), (x, zero - low[index])], fill=pale)
            if effective[index] >= 0.5:
                canvas.draw.line([(x, zero - effective[index]), (x, zero + effective[index])], fill=dark)
    canvas.text(left + 14, top + CAPTION / 2 + 2, name, 16, dark, "lm")
    level = level_dbov(pcm)
    said = "silence" if level <= SILENCE_DBOV else f"{level:.1f} dBov"
    canvas.text(
        left + width - 14,
        top + CAPTION / 2 + 2,
        f"{len(pcm) / rate:.2f} s   {said}",
        13,
        SOFT_INK,
        "rm",
    )


def _around(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """For each value the ``count`` values about it, one row each."""
    before = (count - 1) // 2
    padded = np.pad(values, (before, count - 1 - before), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, count)


def _axis(canvas: _Canvas, top: float, seconds: float) -> None:
    left, width = _left_and_width()
    step = tick_step(seconds)
    unit = "seconds" if step < 15 else "minutes:seconds"
    for at in _ticks(seconds):
        x = left + width * at / seconds
        canvas.line(x, top + 3, x, top + 9, SOFT_INK)
        anchor = "lt" if at == 0 else "rt" if x > left + width - 14 else "mt"
        canvas.text(x, top + 13, tick_label(at, step), 13, SOFT_INK, anchor)
    canvas.text(left + width, top + 30, unit, 12, SOFT_INK, "rt")
