"""Charts of plans: lying bars in parts, a line that they are compared with, as SVG or PNG.

A chart is laid out once, as rectangles, lines and texts (:func:`layout`); SVG says them in words, Pillow draws them at twice the size and
reduces, which makes the edges smooth. Nothing else is needed for SVG.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import attrs

from ice.errors import LocalError

WIDTH: Final = 1_100  # pixels
LABEL: Final = 250  # of it, for the names of bars
NOTE: Final = 130  # of it, for the figure behind a bar
BAR, GAP, MARGIN, TITLE, AXIS, LEGEND = 22, 12, 28, 64, 34, 34
SMOOTH: Final = 2
MAX_BARS: Final = 400
TICKS_MAX: Final = 9

Colour: TypeAlias = tuple[int, int, int]

PAPER: Final = (250, 250, 252)
PANEL: Final = (255, 255, 255)
GRID: Final = (226, 229, 236)
INK: Final = (28, 34, 48)
SOFT_INK: Final = (98, 106, 124)
MARK: Final = (196, 43, 58)
PARTS: Final = (  # told apart also by people who see few colours: dark, middle, light
    (37, 99, 207), (104, 170, 220), (247, 193, 116), (190, 150, 225), (150, 200, 160),
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


@attrs.frozen
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: Colour


@attrs.frozen
class Line:
    """A line of one pixel."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: Colour


@attrs.frozen
class Words:
    """A text, its middle at ``y``; ``anchor`` says where ``x`` is: ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    size: int
    colour: Colour
    anchor: str = "start"


Shape: TypeAlias = Box | Line | Words


def draw(path: Path, chart: Chart) -> None:
    """Write the chart to ``path``: PNG where it ends so, else SVG.

    Raises :class:`~ice.errors.LocalError` for another ending, without Pillow (PNG), and where the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise LocalError(f"{path}: a chart is a .svg or a .png file")
    data = svg(chart).encode() if kind == ".svg" else png(chart)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise LocalError(f"{path}: the chart cannot be written: {error.strerror or error}") from None


def svg(chart: Chart) -> str:
    """The chart as an SVG document."""
    shapes, height = layout(chart)
    words = quoteattr(chart.title)
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img" aria-label={words}>',
        f'<rect width="100%" height="100%" fill="{_hex(PAPER)}"/>',
    ]
    for shape in shapes:
        if isinstance(shape, Box):
            out.append(
                f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
                f' fill="{_hex(shape.colour)}"/>'
            )
        elif isinstance(shape, Line):
            out.append(
                f'<line x1="{shape.x1:.1f}" y1="{shape.y1:.1f}" x2="{shape.x2:.1f}" y2="{shape.y2:.1f}"'
                f' stroke="{_hex(shape.colour)}"/>'
            )
        else:
            out.append(
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size}" fill="{_hex(shape.colour)}"'
                f' text-anchor="{shape.anchor}" dominant-baseline="central">{escape(shape.text)}</text>'
            )
    return "\n".join([*out, "</svg>", ""])


def png(chart: Chart) -> bytes:
    """The chart as a PNG file; raises :class:`~ice.errors.LocalError` where Pillow is not installed."""
    try:
        image_module = importlib.import_module("PIL.Image")
        draw_module = importlib.import_module("PIL.ImageDraw")
        font_module = importlib.import_module("PIL.ImageFont")
    except ModuleNotFoundError as error:
        raise LocalError(
            "Pillow, which draws PNG, is not installed: pip install pillow, or ask for an .svg"
        ) from error
    shapes, height = layout(chart)
    image = image_module.new("RGB", (WIDTH * SMOOTH, round(height) * SMOOTH), PAPER)
    canvas = draw_module.Draw(image)
    for shape in shapes:
        if isinstance(shape, Box):
            corner = (shape.x * SMOOTH, shape.y * SMOOTH)
            other = ((shape.x + shape.width) * SMOOTH - 1, (shape.y + shape.height) * SMOOTH - 1)
            if other[0] >= corner[0]:
                canvas.rectangle([corner, other], fill=shape.colour)
        elif isinstance(shape, Line):
            ends = [(shape.x1 * SMOOTH, shape.y1 * SMOOTH), (shape.x2 * SMOOTH, shape.y2 * SMOOTH)]
            canvas.line(ends, fill=shape.colour, width=SMOOTH)
        else:
            anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
            font = font_module.load_default(shape.size * SMOOTH)
            canvas.text(
                (shape.x * SMOOTH, shape.y * SMOOTH),
                _drawable(shape.text),
                font=font,
                fill=shape.colour,
                anchor=anchor,
            )
    out = io.BytesIO()
    image.resize((WIDTH, round(height)), image_module.Resampling.LANCZOS).save(
        out, format="PNG", optimize=True
    )
    return out.getvalue()


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
        Words(MARGIN, TITLE / 2 + 4, chart.title, 20, INK),
        Box(left, top, right - left, bottom - top, PANEL),
    ]
    shapes += _legend(chart, top)
    for tick in range(round((right - left) / (scale * step)) + 1):
        x = left + tick * step * scale
        shapes.append(Line(x, top, x, bottom, GRID))
        shapes.append(Words(x, bottom + 14, _figure(tick * step), 12, SOFT_INK, "middle"))
    shapes.append(Words(right + 34, bottom + 14, chart.unit, 12, SOFT_INK))
    for index, bar in enumerate(chart.bars):
        y = top + GAP + index * (BAR + GAP)
        shapes.append(Words(left - 10, y + BAR / 2, bar.label, 13, INK, "end"))
        x = left
        for part, value in enumerate(bar.parts):
            if value > 0:
                shapes.append(Box(x, y, value * scale, BAR, PARTS[part % len(PARTS)]))
                x += value * scale
        shapes.append(Words(x + 8, y + BAR / 2, bar.note, 12, SOFT_INK))
    if chart.mark > 0:
        x = left + chart.mark * scale
        shapes.append(Line(x, top - 6, x, bottom, MARK))
        shapes.append(Words(x, top - 14, chart.mark_label, 12, MARK, "middle"))
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
        shapes.append(Words(x + 18, TITLE - 2, name, 13, SOFT_INK))
        x += 40 + 7.5 * len(name)
    return shapes


def _drawable(text: str) -> str:
    """``text`` as Pillow's own font can draw it: it has no micro sign."""
    return text.replace("µ", "u")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
