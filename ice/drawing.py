"""Pictures out of lines, dots, boxes and words, as SVG or PNG: what the charts, maps and waves of this suite are drawn with.

Whoever makes a picture says which shapes stand where (pixels from the left upper corner, back to front); here they are only drawn.  SVG is written in words and needs nothing else; it is self-contained, without
a script or a reference to anything outside.  PNG is drawn by Pillow at twice the size and reduced, which makes the edges smooth; Pillow is loaded when the first one is.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import attrs

from ice.errors import LocalError
from ice.streams.words import plain

SMOOTH: Final = 2  # a PNG is drawn so many times larger and reduced
PAPER: Final = "#fafafc"
PANEL: Final = "#ffffff"
INK: Final = "#1c2230"
SOFT: Final = "#707a8a"
GRID: Final = "#e6e9f0"
BORDER: Final = "#dee1e8"


class PillowMissing(LocalError):
    """Pillow is not installed."""


@attrs.frozen
class Line:
    """From one point to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    width: float = 1.0


@attrs.frozen
class Dot:
    """A filled circle, or a ring where ``fill`` is empty."""

    x: float
    y: float
    radius: float
    fill: str
    stroke: str = ""
    width: float = 0.0


@attrs.frozen
class Box:
    """A rectangle, with a border where ``stroke`` is not empty; ``radius`` rounds its corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = ""
    radius: float = 0.0


@attrs.frozen
class Words:
    """A line of text whose baseline is at ``y``, or whose ``middle`` is; ``anchor`` says where ``x`` is: start, middle or end."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str = "start"
    bold: bool = False
    middle: bool = False


Shape = Line | Dot | Box | Words


def nice(most: float) -> float:
    """The largest of 1, 2, 5 × 10ⁿ that is not over ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= most * (1 + 1e-9))


def save(
    path: Path,
    shapes: Iterable[Shape],
    width: float,
    height: float,
    *,
    what: str = "picture",
    title: str = "",
) -> None:
    """Write a picture to ``path``: PNG where it ends so, else SVG.

    Raises :class:`~ice.errors.LocalError` for another ending, and where the file cannot be written; :class:`PillowMissing`.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise LocalError(f"{path}: a {what} is a .svg or a .png file")
    data = png(shapes, width, height) if kind == ".png" else svg(shapes, width, height, title=title).encode()
    put(path, data, what)


def put(path: Path, data: bytes, what: str = "picture") -> None:
    """Write a picture's bytes; raises :class:`~ice.errors.LocalError` where that cannot be."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise LocalError(f"{path}: the {what} cannot be written: {error.strerror or error}") from None


def svg(shapes: Iterable[Shape], width: float, height: float, *, title: str = "") -> str:
    """The picture as SVG 1.1; ``title`` is what is read to who cannot see it."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    font = 'font-family="DejaVu Sans, Verdana, sans-serif"'
    aloud = f' role="img" aria-label={quoteattr(plain(title))}' if title else ""
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}{aloud}>']
    lines.append(f'<rect width="100%" height="100%" fill="{PAPER}"/>')
    lines += [_svg(each) for each in shapes]
    return "\n".join([*lines, "</svg>", ""])


def _svg(shape: Shape) -> str:
    match shape:
        case Line():
            ends = f'x1="{_px(shape.x1)}" y1="{_px(shape.y1)}" x2="{_px(shape.x2)}" y2="{_px(shape.y2)}"'
            return f'<line {ends} stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
        case Dot():
            ring = f' stroke="{shape.stroke}" stroke-width="{shape.width:g}"' if shape.stroke else ""
            where = f'cx="{_px(shape.x)}" cy="{_px(shape.y)}" r="{_px(shape.radius)}"'
            return f'<circle {where} fill="{shape.fill or "none"}"{ring}/>'
        case Box():
            size = f'width="{_px(shape.width)}" height="{_px(shape.height)}"'
            more = f' stroke="{shape.stroke}"' if shape.stroke else ""
            more += f' rx="{_px(shape.radius)}"' if shape.radius else ""
            return f'<rect x="{_px(shape.x)}" y="{_px(shape.y)}" {size} fill="{shape.fill}"{more}/>'
        case Words():
            style = f'font-size="{shape.size:g}" fill="{shape.colour}" text-anchor="{shape.anchor}"'
            more = ' font-weight="bold"' if shape.bold else ""
            more += ' dominant-baseline="central"' if shape.middle else ""
            words = escape(plain(shape.text))
            return f'<text x="{_px(shape.x)}" y="{_px(shape.y)}" {style}{more}>{words}</text>'


def _px(value: float) -> str:
    return f"{round(value, 1):g}"


def png(shapes: Iterable[Shape], width: float, height: float) -> bytes:
    """The same picture as PNG. Raises :class:`PillowMissing`."""
    try:
        image_module = importlib.import_module("PIL.Image")
        draw_module = importlib.import_module("PIL.ImageDraw")
        font_module = importlib.import_module("PIL.ImageFont")
    except ModuleNotFoundError as error:
        raise PillowMissing(
            "Pillow, which draws PNG pictures, is not installed: pip install pillow"
        ) from error
    wide, high = round(width), round(height)
    image = image_module.new("RGB", (wide * SMOOTH, high * SMOOTH), PAPER)
    brush = _Brush(draw_module.Draw(image), font_module)
    for shape in shapes:
        brush.paint(shape)
    out = io.BytesIO()
    image.resize((wide, high), image_module.Resampling.LANCZOS).save(out, format="PNG", optimize=True)
    return out.getvalue()


class _Brush:
    """Paints shapes on a drawing of Pillow's."""

    def __init__(self, draw: Any, font_module: Any) -> None:
        self._draw = draw
        self._font_module = font_module
        self._fonts: dict[tuple[float, bool], tuple[Any, bool]] = {}

    def paint(self, shape: Shape) -> None:
        """Paint one."""
        draw, scaled = self._draw, _scaled
        match shape:
            case Line():
                ends = scaled(shape.x1, shape.y1, shape.x2, shape.y2)
                draw.line(ends, fill=shape.colour, width=max(1, round(shape.width * SMOOTH)))
            case Dot():
                r = shape.radius
                draw.ellipse(
                    scaled(shape.x - r, shape.y - r, shape.x + r, shape.y + r),
                    fill=shape.fill or None,
                    outline=shape.stroke or None,
                    width=round(shape.width * SMOOTH),
                )
            case Box():
                draw.rounded_rectangle(
                    scaled(shape.x, shape.y, shape.x + shape.width, shape.y + shape.height),
                    radius=shape.radius * SMOOTH,
                    fill=shape.fill,
                    outline=shape.stroke or None,
                    width=SMOOTH,
                )
            case Words():
                font, rich = self._font(shape.size, shape.bold)
                text = plain(shape.text)
                anchor = {"start": "l", "middle": "m", "end": "r"}[shape.anchor]
                draw.text(
                    scaled(shape.x, shape.y),
                    text if rich else text.replace("µ", "u"),  # which Pillow's own font has not
                    font=font,
                    fill=shape.colour,
                    anchor=anchor + ("m" if shape.middle else "s"),
                )

    def _font(self, size: float, bold: bool) -> tuple[Any, bool]:
        """A font with many scripts where the machine has one, else Pillow's own; and which it is."""
        found = self._fonts.get((size, bold))
        if found is None:
            found = self._fonts[size, bold] = self._load(size * SMOOTH, bold)
        return found

    def _load(self, size: float, bold: bool) -> tuple[Any, bool]:
        own = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        for name in (own, "NotoSans-Regular.ttf", "Arial.ttf"):
            try:
                return self._font_module.truetype(name, size), True
            except OSError:
                continue
        return self._font_module.load_default(size), False


def _scaled(*numbers: float) -> list[float]:
    return [number * SMOOTH for number in numbers]
