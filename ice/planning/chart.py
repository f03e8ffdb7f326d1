"""Charts of plans: lying bars in parts, a line that they are compared with, as SVG or PNG.

A chart is laid out once, as rectangles, lines and texts (:func:`layout`); :mod:`ice.drawing` draws them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import attrs

from ice.drawing import GRID, INK, PANEL, SOFT, Box, Line, Shape, Words, save
from ice.errors import LocalError

WIDTH: Final = 1_100  # pixels
LABEL: Final = 250  # of it, for the names of bars
NOTE: Final = 130  # of it, for the figure behind a bar
BAR, GAP, MARGIN, TITLE, AXIS, LEGEND = 22, 12, 28, 64, 34, 34
MAX_BARS: Final = 400
TICKS_MAX: Final = 9

MARK: Final = "#c42b3a"
PARTS: Final = (  # told apart also by people who see few colours: dark, middle, light
    "#2563cf", "#68aadc", "#f7c174", "#be96e1", "#96c8a0",
)  # fmt: skip


@attrs.frozen
class Bar:
    """One bar: its name, the lengths of its parts, and what is written behind it."""

    label: str
    parts: tuple[float, ...]
    note: str = ""


@attrs.frozen
class Chart:
    """Bars with the names of their parts, on an axis in ``unit``; ``mark`` is a line across, with its name, none where 0."""

    title: str
    unit: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]
    mark: float = 0.0
    mark_label: str = ""


def draw(path: Path, chart: Chart) -> None:
    """Write the chart to ``path``: PNG where it ends so, else SVG.

    Raises :class:`~ice.errors.LocalError` for another ending, without Pillow (PNG), and where the file cannot be written.
    """
    shapes, height = layout(chart)
    save(path, shapes, WIDTH, height, what="chart", title=chart.title)


def layout(chart: Chart) -> tuple[list[Shape], float]:
    """The shapes of a chart, back to front, and its height. Raises :class:`~ice.errors.LocalError` for none or too many bars."""
    if not 1 <= len(chart.bars) <= MAX_BARS:
        raise LocalError(
            f"a chart shows 1 to {MAX_BARS} bars, not {len(chart.bars)}: ask for fewer framings or codecs"
        )
    left, right = MARGIN + LABEL, WIDTH - MARGIN - NOTE
    top = TITLE + LEGEND
    bottom = top + len(chart.bars) * (BAR + GAP) + GAP
    highest = max(chart.mark, *(sum(bar.parts) for bar in chart.bars), 1e-9)
    step = tick_step(highest)
    scale = (right - left) / (math.ceil(highest / step - 1e-9) * step)
    shapes: list[Shape] = [
        Words(MARGIN, TITLE / 2 + 4, chart.title, 20, INK, middle=True),
        Box(left, top, right - left, bottom - top, PANEL),
    ]
    shapes += _legend(chart, top)
    for tick in range(round((right - left) / (scale * step)) + 1):
        x = left + tick * step * scale
        shapes.append(Line(x, top, x, bottom, GRID))
        shapes.append(Words(x, bottom + 14, _figure(tick * step), 12, SOFT, "middle", middle=True))
    shapes.append(Words(right + 34, bottom + 14, chart.unit, 12, SOFT, middle=True))
    for index, bar in enumerate(chart.bars):
        y = top + GAP + index * (BAR + GAP)
        shapes.append(Words(left - 10, y + BAR / 2, bar.label, 13, INK, "end", middle=True))
        x = left
        for part, value in enumerate(bar.parts):
            if value > 0:
                shapes.append(Box(x, y, value * scale, BAR, PARTS[part % len(PARTS)]))
                x += value * scale
        shapes.append(Words(x + 8, y + BAR / 2, bar.note, 12, SOFT, middle=True))
    if chart.mark > 0:
        x = left + chart.mark * scale
        shapes.append(Line(x, top - 6, x, bottom, MARK))
        shapes.append(Words(x, top - 14, chart.mark_label, 12, MARK, "middle", middle=True))
    return shapes, float(bottom + AXIS)


def tick_step(highest: float) -> float:
    """The distance of ticks on an axis up to ``highest``: 1, 2 or 5 times a power of ten, without a crowd."""
    power = 10.0 ** math.floor(math.log10(highest / TICKS_MAX))
    return next(step * power for step in (1, 2, 5, 10) if highest / (step * power) <= TICKS_MAX)


def _legend(chart: Chart, top: float) -> list[Shape]:
    shapes: list[Shape] = []
    x = float(MARGIN)
    for index, name in enumerate(chart.parts):
        shapes.append(Box(x, TITLE - 8, 12, 12, PARTS[index % len(PARTS)]))
        shapes.append(Words(x + 18, TITLE - 2, name, 13, SOFT, middle=True))
        x += 40 + 7.5 * len(name)
    return shapes


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
