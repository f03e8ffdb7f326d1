"""A simulated election as a picture: a lane for each member, coloured by its state, the mishaps above, two leaders in red.

:func:`layout` decides what is drawn where, :mod:`ice.drawing` draws it, as SVG or PNG.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ice.drawing import GRID, INK, SOFT, Box, Line, Shape, Words, nice, save
from ice.election.decisions import State
from ice.election.simulate import OFF, World

WIDTH: Final = 1_200.0  # pixels
MAX_HEIGHT: Final = 900.0
LEFT: Final = 130.0
RIGHT: Final = 30.0
TOP: Final = 190.0
BOTTOM: Final = 130.0
MISHAP_ROWS: Final = 5  # of words above the lanes, so that neighbours do not cover each other
RED: Final = "#d01c1f"
COLOURS: Final = {
    State.ACTIVE: ("#1f8a4c", "active"),
    State.GETTING_READY: ("#f2c14e", "getting ready"),
    State.NOT_WINNER: ("#a9c4ea", "not winner"),
    State.NO_QUORUM: ("#f19a5b", "no quorum"),
    State.OUT_OF_SERVICE: ("#c9b6d9", "out of service"),
    State.CLOCK_SKEW: ("#c76b98", "clock skew"),
    OFF: ("#dfe2e8", "not running"),
}


def draw(path: Path, world: World) -> None:
    """Write the picture to ``path``, PNG where it ends so, else SVG; raises :class:`~ice.errors.LocalError` where it cannot."""
    save(path, layout(world), WIDTH, height(world), title="A simulated election")


def height(world: World) -> float:
    """Of the picture, in pixels."""
    return TOP + _lane(world) * len(world.machines) + BOTTOM


def _lane(world: World) -> float:
    return min(90.0, (MAX_HEIGHT - TOP - BOTTOM) / len(world.machines))


def spans(world: World, id: str) -> Iterator[tuple[float, float, str]]:
    """From when to when a member was in which state, without gaps."""
    at, state = 0.0, OFF
    for entry in world.timeline:
        if entry.who == id and entry.state and entry.state != state:
            if entry.at_s > at:
                yield at, entry.at_s, state
            at, state = entry.at_s, entry.state
    if world.now > at:
        yield at, world.now, state


def layout(world: World) -> Iterator[Shape]:
    """The shapes of the picture, back to front."""
    group, length = world.group, max(world.now, 1e-9)
    scale = (WIDTH - LEFT - RIGHT) / length
    lane = _lane(world)
    end = TOP + lane * len(world.machines)
    rule = f"{group.quorum}{', naming' if group.names_first else ''}"
    yield Words(
        24,
        40,
        f"Election of {len(world.machines)} members, quorum {rule}, cycle {group.cycle_s:g} s",
        20,
        INK,
    )
    step = nice(length / 8)
    tick = 0.0
    while tick <= length:
        x = LEFT + tick * scale
        yield Line(x, TOP, x, end, GRID, 1)
        yield Words(x, end + 20, f"{tick:g} s", 12, SOFT, "middle")
        tick += step
    for row, id in enumerate(world.machines):
        y = TOP + row * lane
        yield Words(LEFT - 12, y + lane * 0.55, group.names.get(id, id)[:16], 15, INK, "end")
        for begins, ends, state in spans(world, id):
            high = 0.7 if state == State.ACTIVE else 0.36
            fill = COLOURS[state][0]
            width = max((ends - begins) * scale, 0.6)
            yield Box(LEFT + begins * scale, y + lane * (1 - high) / 2, width, lane * high, fill, fill)
    for overlap in world.overlaps:
        width = max((overlap.ends_s - overlap.begins_s) * scale, 2.0)
        yield Box(LEFT + overlap.begins_s * scale, TOP - 6, width, 6, RED, RED)
    for number, entry in enumerate(entry for entry in world.timeline if not entry.who):
        x = LEFT + entry.at_s * scale
        y = TOP - 16 - 22 * (number % MISHAP_ROWS)
        yield Line(x, y + 4, x, end, SOFT, 1)
        anchor = "end" if x > WIDTH - 200 else "start"
        yield Words(x - 4 if anchor == "end" else x + 4, y, f"{entry.what[:32]}", 13, INK, anchor)
    x, foot = 24.0, height(world)
    for fill, words in (*COLOURS.values(), (RED, "two lead")):
        yield Box(x, foot - 46, 14, 14, fill, fill)
        yield Words(x + 20, foot - 34, words, 13, SOFT)
        x += 44 + 7.6 * len(words)
