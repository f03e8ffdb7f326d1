"""Pictures: the same shapes in SVG and in PNG, where they were put."""

import io
import sys
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

from PIL import Image, ImageFont
from twisted.trial.unittest import SynchronousTestCase

from ice.drawing import Box, Dot, Line, PillowMissing, Shape, Words, nice, png, save, svg
from ice.errors import LocalError

SHAPES: list[Shape] = [
    Box(10, 10, 80, 40, "#ff0000", "#0000ff", 4),
    Dot(150, 30, 12, "#00ff00"),
    Dot(150, 80, 12, "", "#0000ff", 2),
    Line(0, 60, 200, 60, "#000000", 8),
    Words(100, 90, "µ <&> ünï", 14, "#000000", "middle", True, True),
]


class Drawing(SynchronousTestCase):
    def test_svg(self) -> None:
        """Every shape is an element, words are said as they are, and the title is there for who cannot see."""
        root = ElementTree.fromstring(svg(SHAPES, 200, 100, title='a "b" <c>'))
        tags = [each.tag.rpartition("}")[2] for each in root]
        self.assertEqual(tags, ["rect", "rect", "circle", "circle", "line", "text"])
        self.assertEqual((root.get("width"), root.get("height")), ("200", "100"))
        self.assertEqual(root.get("aria-label"), 'a "b" <c>')
        self.assertEqual(root[-1].text, "µ <&> ünï")

    def test_png(self) -> None:
        """The same in pixels: filled, empty inside a ring, paper elsewhere."""
        with Image.open(io.BytesIO(png(SHAPES, 200, 100))) as image:
            self.assertEqual(image.size, (200, 100))
            at = image.convert("RGB").getpixel
            self.assertEqual(
                [at(xy) for xy in ((50, 30), (150, 30), (5, 60))], [(255, 0, 0), (0, 255, 0), (0, 0, 0)]
            )
            self.assertEqual([at(xy) for xy in ((150, 80), (3, 3))], [(250, 250, 252)] * 2)

    def test_without_fonts(self) -> None:
        """Where the machine has no font, Pillow's own is used, whatever the words."""
        real = ImageFont.truetype

        def none(font: Any, *words: Any, **named: Any) -> Any:
            if isinstance(font, str):
                raise OSError
            return real(font, *words, **named)

        with mock.patch("PIL.ImageFont.truetype", none):
            self.assertEqual(png(SHAPES, 200, 100)[:4], b"\x89PNG")

    def test_without_pillow(self) -> None:
        """SVG needs nothing; PNG says what to install."""
        with mock.patch.dict(sys.modules, {"PIL.Image": None}):
            svg(SHAPES, 200, 100)
            self.assertRaises(PillowMissing, png, SHAPES, 200, 100)

    def test_files(self) -> None:
        """The ending decides; another, and a folder that is not there, are refused in words."""
        folder = Path(self.mktemp())
        folder.mkdir()
        save(folder / "a.svg", SHAPES, 200, 100)
        save(folder / "a.PNG", SHAPES, 200, 100)
        self.assertTrue((folder / "a.svg").read_text("utf-8").startswith("<svg"))
        self.assertEqual((folder / "a.PNG").read_bytes()[:4], b"\x89PNG")
        with self.assertRaisesRegex(LocalError, "a map is a .svg or a .png file"):
            save(folder / "a.gif", SHAPES, 200, 100, what="map")
        with self.assertRaisesRegex(LocalError, "the picture cannot be written: No such"):
            save(folder / "none" / "a.svg", SHAPES, 200, 100)

    def test_nice(self) -> None:
        """Steps of axes: 1, 2 or 5 times a power of ten."""
        self.assertEqual([nice(most) for most in (0.7, 1, 3, 49, 500)], [0.5, 1, 2, 20, 500])
