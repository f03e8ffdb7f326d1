"""Two pictures: how ice stands to each other server, and what latency and CPU do as the load rises."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from bench.figures import Judged, Run, judged
from bench.paired import median
from bench.report import title
from bench.servers import SERVERS

SCALE = 2  # drawn twice as large and reduced: Pillow does not smooth lines
# Pillow's own font has no ≤, ≥ or µ: words are written out.
INK, SOFT, GRID, PAPER = "#1f2933", "#6b7785", "#e3e7eb", "#ffffff"
GOOD, FAIR, POOR = "#2f9e6e", "#e0a526", "#d4553d"
COLOURS = {
    "ice": "#1763c6",
    "ice-python": "#62a8f0",
    "ice-twisted": "#a9c9ee",
    "floor": "#1f2933",
    "nats": "#2f9e6e",
    "mosquitto": "#8b4fc6",
    "mumble": "#d4553d",
}


class Canvas:
    """A sheet in points; lines, boxes and words."""

    def __init__(self, wide: int, high: int) -> None:
        self.wide, self.high = wide, high
        self.image = Image.new("RGB", (wide * SCALE, high * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._fonts: dict[int, Any] = {}

    def text(
        self, x: float, y: float, words: str, size: int = 13, ink: str = INK, anchor: str = "lm"
    ) -> None:
        """Words; ``anchor`` as Pillow has it (lm: left, middle)."""
        self._draw.text((x * SCALE, y * SCALE), words, fill=ink, font=self._font(size), anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], ink: str, wide: float = 1.0) -> None:
        """A line through points."""
        self._draw.line(
            [(x * SCALE, y * SCALE) for x, y in points], fill=ink, width=round(wide * SCALE), joint="curve"
        )

    def box(self, left: float, top: float, right: float, bottom: float, ink: str, round_: float = 0) -> None:
        """A filled box."""
        corners = (left * SCALE, top * SCALE, max(left, right) * SCALE, bottom * SCALE)
        self._draw.rounded_rectangle(corners, radius=round_ * SCALE, fill=ink)

    def dot(self, x: float, y: float, ink: str, radius: float = 3.0) -> None:
        """A filled circle with a rim of paper."""
        for size, colour in ((radius + 1, PAPER), (radius, ink)):
            self._draw.ellipse(
                [(x - size) * SCALE, (y - size) * SCALE, (x + size) * SCALE, (y + size) * SCALE], fill=colour
            )

    def save(self, path: Path) -> Path:
        """Reduce and write."""
        self.image.resize((self.wide, self.high), Image.Resampling.LANCZOS).save(path, optimize=True)
        return path

    def _font(self, size: int) -> Any:
        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size * SCALE)
        return self._fonts[size]


def draw(results: dict[str, Any], stem: Path) -> list[Path]:
    """``STEM-ratios.png`` and ``STEM-load.png``; what there is no data for is not drawn."""
    runs: list[Run] = results["runs"]
    made = []
    found = judged(runs)
    if found:
        made.append(_bars(found, results["quick"]).save(stem.with_name(f"{stem.name}-ratios.png")))
    if any(run["result"].get("steps") for run in runs):
        made.append(_load(runs).save(stem.with_name(f"{stem.name}-load.png")))
    return made


# -- ratio bars ------------------------------------------------------------------------------------------------------

ROW, TOP, LEFT, WIDE = 30, 92, 330, 960


def _bars(found: Sequence[Judged], quick: bool) -> Canvas:
    """A row per goal: a bar to the median, a whisker for the interval, ticks for what is to be reached and aimed at."""
    sheet = Canvas(WIDE, TOP + ROW * len(found) + 44)
    most = (
        max(
            1.25,
            *(
                max(each.ratio.median, min(each.ratio.high, 3.0), each.goal.reach, each.goal.aim)
                for each in found
            ),
        )
        * 1.08
    )
    right = WIDE - 160

    def at(ratio: float) -> float:
        return LEFT + (right - LEFT) * min(ratio, most) / most

    sheet.text(24, 26, "ice beside the others", 20)
    what = "a quick look, no judgement" if quick else "medians of paired ratios; the whisker holds 95 %"
    sheet.text(24, 50, f"{what}; 1.0 is level with the other", 13, SOFT)
    bottom = TOP + ROW * len(found)
    for mark in _marks(most):
        level = mark == 1
        sheet.line([(at(mark), TOP - 8), (at(mark), bottom)], SOFT if level else GRID, 1.2 if level else 1)
        sheet.text(at(mark), TOP - 18, f"{mark:g}", 12, SOFT, "mm")
    for number, each in enumerate(found):
        middle = TOP + ROW * number + ROW / 2
        ours = "" if each.goal.ours == "ice" else f" ({title(each.goal.ours).removeprefix('ice, ')})"
        sheet.text(24, middle, f"{each.goal.figure.workload}: {_short(each.goal.figure.name)}{ours}", 12)
        sheet.text(LEFT - 12, middle, title(each.theirs), 12, SOFT, "rm")
        ink = GOOD if each.aim.met else FAIR if each.reach.met else POOR
        sheet.box(LEFT, middle - 7, at(each.ratio.median), middle + 7, ink, 3)
        sheet.line([(at(each.ratio.low), middle), (at(each.ratio.high), middle)], INK, 1.4)
        for goal, long, wide in ((each.goal.reach, 12, 2.2), (each.goal.aim, 9, 1.2)):
            sheet.line([(at(goal), middle - long), (at(goal), middle + long)], INK, wide)
        bound = "at least" if each.goal.figure.more_is_better else "at most"
        sheet.text(right + 16, middle, f"{each.ratio.median:.2f}", 13)
        sheet.text(WIDE - 24, middle, f"{bound} {each.goal.reach:g}", 12, SOFT, "rm")
    x = 24.0
    legend = ((GOOD, "aim met"), (FAIR, "reached"), (POOR, "not reached"))
    for ink, words in legend:
        sheet.box(x, bottom + 19, x + 12, bottom + 31, ink, 3)
        sheet.text(x + 18, bottom + 25, words, 12, SOFT)
        x += 110
    sheet.text(x, bottom + 25, "ticks: thick to reach, thin to aim at", 12, SOFT)
    return sheet


def _short(name: str) -> str:
    return name.replace("deliveries/s at p99 ≤ 25 ms", "deliveries/s").replace("CPU per delivery", "CPU")


def _marks(most: float) -> Iterator[float]:
    step = 0.25 if most < 2.6 else 0.5 if most < 6 else 1.0
    number = 0
    while number * step <= most:
        yield number * step
        number += 1


# -- latency and CPU against load ---------------------------------------------------------------------------------------

PANEL_WIDE, PANEL_HIGH, GAP = 420, 330, 84

Curve = list[tuple[float, float]]


def curves(runs: Sequence[Run], key: str) -> dict[str, Curve]:
    """For each server (deliveries/s, ``key``) at every rate of the ramp, medians over the repeats; a step tried again
    counts with its best try, and what came after the first bad rate is left out but for that one."""
    found: dict[str, dict[float, list[tuple[float, float, bool]]]] = {}
    for run in runs:
        best: dict[float, tuple[float, float, bool]] = {}
        for step in run["result"].get("steps", ()):
            rate = round(step["rate"], 1)
            point = (step["deliveries_per_s"], step[key], step["good"])
            if step["deliveries_per_s"] and (rate not in best or point[2] > best[rate][2]):
                best[rate] = point
        for rate, point in best.items():
            found.setdefault(run["server"], {}).setdefault(rate, []).append(point)
    drawn: dict[str, Curve] = {}
    for server, rates in found.items():
        most = max(len(points) for points in rates.values())
        curve: Curve = []
        for _, points in sorted(rates.items()):
            if 2 * len(points) < most:
                continue  # a step between two others, which only some repeats took
            curve.append((median([point[0] for point in points]), median([point[1] for point in points])))
            if 2 * sum(point[2] for point in points) < len(points):
                break
        drawn[server] = curve
    return drawn


def _load(runs: Sequence[Run]) -> Canvas:
    latency, cost = curves(runs, "p99"), curves(runs, "cpu_us")
    sheet = Canvas(2 * PANEL_WIDE + 3 * GAP - 40, PANEL_HIGH + 178)
    sheet.text(24, 26, "what happens as the load rises", 20)
    sheet.text(
        24,
        50,
        "wide: links in streams of 20, one talker in each, every second more packets; medians over the repeats",
        13,
        SOFT,
    )
    _panel(sheet, GAP, "p99 latency, ms", latency, (0.1, 1_000.0), limit=25.0)
    _panel(
        sheet, 2 * GAP + PANEL_WIDE, "server CPU per delivery, microseconds", cost, (1.0, 100.0), limit=None
    )
    x, y = 24.0, PANEL_HIGH + 150
    for server in SERVERS:
        if server.name in latency:
            sheet.line([(x, y), (x + 22, y)], COLOURS[server.name], 2.6)
            sheet.text(x + 28, y, server.title, 12)
            x += 50 + 7 * len(server.title)
    return sheet


def _panel(
    sheet: Canvas,
    left: float,
    name: str,
    drawn: dict[str, Curve],
    limits: tuple[float, float],
    limit: float | None,
) -> None:
    top, bottom, right = 100.0, 100.0 + PANEL_HIGH, left + PANEL_WIDE
    loads = [load for curve in drawn.values() for load, _ in curve]
    heights = [value for curve in drawn.values() for _, value in curve]
    x = _logarithmic(min(loads) / 1.15, max(loads) * 1.15, left, right)
    low = max(limits[0], min(heights) / 1.4)
    y = _logarithmic(low, max(heights) * 1.4, bottom, top)
    sheet.text(left - 44, top - 22, name, 13)
    for mark in _decades(min(loads) / 1.15, max(loads) * 1.15):
        sheet.line([(x(mark), top), (x(mark), bottom)], GRID)
        sheet.text(x(mark), bottom + 14, f"{mark / 1000:g} k", 11, SOFT, "mm")
    for mark in _decades(low, max(heights) * 1.4):
        sheet.line([(left, y(mark)), (right, y(mark))], GRID)
        sheet.text(left - 8, y(mark), f"{mark:g}", 11, SOFT, "rm")
    sheet.text(right, bottom + 32, "deliveries per second", 12, SOFT, "rm")
    if limit is not None and low < limit < max(heights) * 1.4:
        sheet.line([(left, y(limit)), (right, y(limit))], POOR, 1.4)
        sheet.text(left + 6, y(limit) - 9, f"{limit:g} ms", 11, POOR)
    for server in reversed(SERVERS):
        curve = drawn.get(server.name, [])
        points = [(x(load), y(max(value, low))) for load, value in curve]
        ink, main = COLOURS[server.name], server.name in {"ice", "floor"}
        if len(points) > 1:
            sheet.line(points, ink, 2.6 if main else 1.8)
        for point in points:
            sheet.dot(*point, ink, 3.0 if main else 2.2)


def _logarithmic(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _decades(low: float, high: float) -> Iterator[float]:
    """1, 2, 5, 10, … between two bounds."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if low <= value <= high:
                yield value
