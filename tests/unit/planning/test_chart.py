"""Charts: laid out inside the picture, said in SVG, drawn in PNG."""

from pathlib import Path
from xml.etree import ElementTree

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.drawing import Box, Words, svg
from ice.errors import LocalError
from ice.planning.chart import MAX_BARS, WIDTH, Bar, Chart, draw, layout, tick_step

CHART = Chart(
    "Bandwidth & <more>",
    "kbit/s",
    ("codec", "headers"),
    (Bar("Opus 24 <20 ms>", (24.0, 21.6), "45.6"), Bar("G.711", (64.0, 0.0), "64")),
    mark=64,
    mark_label="64 per user",
)


class Charts(SynchronousTestCase):
    def test_lengths(self) -> None:
        """Parts of a bar follow each other and are as long as their values; nothing leaves the picture."""
        shapes, height = layout(CHART)
        boxes = [shape for shape in shapes if isinstance(shape, Box) and shape.height == 22]
        codec, headers, pcmu = boxes
        self.assertAlmostEqual(codec.width / headers.width, 24 / 21.6)
        self.assertAlmostEqual(codec.x + codec.width, headers.x)
        self.assertAlmostEqual(pcmu.width / codec.width, 64 / 24)
        for box in boxes:
            self.assertLessEqual(box.x + box.width, WIDTH)
            self.assertLessEqual(box.y + box.height, height)

    def test_svg(self) -> None:
        """The SVG is well-formed XML and says every text, whatever is in it."""
        shapes, height = layout(CHART)
        root = ElementTree.fromstring(svg(shapes, WIDTH, height, title=CHART.title))
        self.assertEqual(root.get("aria-label"), CHART.title)
        texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
        for words in ("Bandwidth & <more>", "Opus 24 <20 ms>", "45.6", "64 per user", "kbit/s"):
            self.assertIn(words, texts)

    def test_files(self) -> None:
        """The file's ending says what it is; another one is refused, and so is a folder that is not there."""
        folder = Path(self.mktemp())
        folder.mkdir()
        draw(folder / "a.svg", CHART)
        draw(folder / "a.PNG", CHART)
        self.assertTrue((folder / "a.svg").read_text("utf-8").startswith("<svg"))
        self.assertEqual((folder / "a.PNG").read_bytes()[:4], b"\x89PNG")
        self.assertRaises(LocalError, draw, folder / "a.gif", CHART)
        self.assertRaises(LocalError, draw, folder / "none" / "a.svg", CHART)

    def test_bounds(self) -> None:
        """No bars are no chart, hundreds are none that one could read."""
        self.assertRaises(LocalError, layout, attrs.evolve(CHART, bars=()))
        self.assertRaises(LocalError, layout, attrs.evolve(CHART, bars=CHART.bars[:1] * (MAX_BARS + 1)))

    @settings(max_examples=100, deadline=None)
    @given(st.floats(1e-6, 1e9))
    def test_ticks(self, highest: float) -> None:
        """An axis of any length has 2 to 9 steps."""
        self.assertTrue(1.9 < highest / tick_step(highest) <= 9.000_001)

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=5), st.floats(0, 1e6)
    )
    def test_any(self, values: list[tuple[float, float]], mark: float) -> None:
        """Any values, all zero among them, make a chart."""
        bars = tuple(Bar("x", parts) for parts in values)
        shapes, _ = layout(Chart("t", "u", ("a", "b"), bars, mark))
        self.assertTrue(any(isinstance(shape, Words) for shape in shapes))
        for shape in shapes:
            if isinstance(shape, Box):
                self.assertLessEqual(shape.x + shape.width, WIDTH + 1)
