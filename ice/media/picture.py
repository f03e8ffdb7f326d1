"""A picture of sounds, one above the other on a common time axis: what was spoken and what was heard, for people who trust their eyes.

Each column of a track shows the highest and the lowest sample about its time (pale) and the effective value (dark), so that the loudness
that is heard is what is seen. All tracks share one scale of loudness, that of the loudest, so that a track which came through softer looks softer.
:mod:`ice.drawing` draws it, at twice the size; a column is half a pixel of the finished picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ice.drawing import BORDER, INK, PANEL, SMOOTH, Box, Line, PillowMissing, Shape, Words, png, put
from ice.errors import LocalError
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm

WIDTH: Final = 1_400  # pixels: wide enough for syllables of a sentence, narrow enough for a screen
TRACK: Final = 210  # pixels of height for each sound
MAX_TRACKS: Final = 16
TICK_STEPS_S: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)
TICKS_MAX: Final = 14  # more labels than this are a smear
OUTLINE_S: Final = (
    0.016  # what a column shows at least: the slowest voice's period, or vowels look like combs
)
SOFTEST_PEAK: Final = 0.03  # of full scale: the noise of a silent track is not blown up to look like speech

MARGIN_LEFT, MARGIN_RIGHT, TITLE_HEIGHT, AXIS_HEIGHT, GAP, CAPTION = 36, 36, 62, 46, 16, 30

GRID: Final = "#eceef3"
MIDDLE: Final = "#cdd2dc"
TOLD: Final = "#70788a"
COLOURS: Final = (  # of a track's peaks and of its effective value
    ("#a6c4f7", "#2563cf"),
    ("#96d7c4", "#0c8267"),
    ("#f7cd96", "#cb7410"),
    ("#d6b6f0", "#7e3abe"),
)

__all__ = ["PillowMissing", "draw", "tick_label", "tick_step"]


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
    height = TITLE_HEIGHT + len(tracks) * (TRACK + GAP) - GAP + AXIS_HEIGHT
    put(path, png(_layout(tracks, title, rate), WIDTH, height))


def _layout(tracks: Sequence[tuple[str, Pcm]], title: str, rate: int) -> Iterator[Shape]:
    yield Words(MARGIN_LEFT, TITLE_HEIGHT / 2 + 3, title, 22, INK, middle=True)
    seconds = max(max(len(pcm) for _, pcm in tracks) / rate, 0.01)
    peak = max(SOFTEST_PEAK, *(_peak(pcm) for _, pcm in tracks))
    top = TITLE_HEIGHT
    for index, (name, pcm) in enumerate(tracks):
        yield from _track(top, name, pcm, COLOURS[index % len(COLOURS)], seconds, peak, rate)
        top += TRACK + GAP
    yield from _axis(top - GAP, seconds)


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
    top: float,
    name: str,
    pcm: Pcm,
    colours: tuple[str, str],
    seconds: float,
    peak: float,
    rate: int,
) -> Iterator[Shape]:
    left, width = _left_and_width()
    yield Box(left, top, width, TRACK, PANEL, BORDER, 8)
    upper, lower = top + CAPTION, top + TRACK - 10
    middle, half = (upper + lower) / 2, (lower - upper) / 2
    for at in _ticks(seconds)[1:]:
        x = left + width * at / seconds
        if x < left + width - 2:
            yield Line(x, upper, x, lower, GRID)
    yield Line(left + 1, middle, left + width - 1, middle, MIDDLE)
    pale, dark = colours
    inner = (width - 2) * SMOOTH
    columns = round(inner * min(1.0, len(pcm) / rate / seconds))
    scale = half / (peak * 32_768)
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
        thin = 1 / SMOOTH
        for index in range(columns):
            x = left + 1 + index * thin
            if high[index] - low[index] >= thin:
                yield Line(x, middle - high[index], x, middle - low[index], pale, thin)
            if effective[index] >= thin / 2:
                yield Line(x, middle - effective[index], x, middle + effective[index], dark, thin)
    yield Words(left + 14, top + CAPTION / 2 + 2, name, 16, dark, middle=True)
    level = level_dbov(pcm)
    said = "silence" if level <= SILENCE_DBOV else f"{level:.1f} dBov"
    told = f"{len(pcm) / rate:.2f} s   {said}"
    yield Words(left + width - 14, top + CAPTION / 2 + 2, told, 13, TOLD, "end", middle=True)


def _around(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """For each value the ``count`` values about it, one row each."""
    before = (count - 1) // 2
    padded = np.pad(values, (before, count - 1 - before), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, count)


def _axis(top: float, seconds: float) -> Iterator[Shape]:
    left, width = _left_and_width()
    step = tick_step(seconds)
    unit = "seconds" if step < 15 else "minutes:seconds"
    for at in _ticks(seconds):
        x = left + width * at / seconds
        yield Line(x, top + 3, x, top + 9, TOLD)
        anchor = "start" if at == 0 else "end" if x > left + width - 14 else "middle"
        yield Words(x, top + 19, tick_label(at, step), 13, TOLD, anchor, middle=True)
    yield Words(left + width, top + 36, unit, 12, TOLD, "end", middle=True)
