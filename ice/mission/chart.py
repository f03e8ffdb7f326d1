"""Where people are: a map picture (SVG, or PNG), and GeoJSON (RFC 7946) for other people's maps.

The picture needs no tiles and no network: places on a plane about their middle, a grid in degrees, a scale bar, names, emergencies in red. It is
equirectangular with the middle's own lengths of a degree (WGS 84), right to a thousandth over tens of kilometres; over thousands, the scale holds
at the middle only. Teams across the date line stay together.

:func:`layout` decides what is drawn where; :mod:`ice.drawing` draws it.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ice import drawing
from ice.drawing import BORDER, GRID, INK, PANEL, SOFT, Box, Dot, Line, Shape, Words, nice
from ice.mission.people import Person, State
from ice.mission.presence import CONNECTIVITY, POWER_SOURCES, POWER_STATES, Disposition
from ice.streams.words import plain

WIDTH: Final = 1_200.0  # pixels: a screen, or a page across
HEIGHT: Final = 900.0
HEAD: Final = 56.0  # pixels above the map, for its title
FOOT: Final = 52.0  # and below, for the scale
SIDE: Final = 24.0
ROOM: Final = 90.0  # pixels between the outermost place and the map's edge: room for names
LEAST_SPAN_M: Final = 200.0  # people in one room are not drawn a finger's breadth per metre
MAX_LABELS: Final = 200  # more names than this are a grey page
MAX_NAME: Final = 28  # characters
NAME_SIZE: Final = 15.0
MARK: Final = 7.0  # radius
MOVING_M_S: Final = 0.5  # slower than this a direction is noise

RED, HERE, BUSY, LATE = "#d01c1f", "#2563cf", "#cb7410", "#9aa3b2"


# -- GeoJSON -----------------------------------------------------------------------------------------------------------


def geojson(people: Iterable[Person], now: float, unix_s: float) -> str:
    """A FeatureCollection with a point for everybody whose location is known; positions are [longitude, latitude, altitude]."""
    features = [_feature(each, now, unix_s) for each in people if each.descriptor.location is not None]
    return (
        json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"
    )


def facts(person: Person, now: float, unix_s: float) -> dict[str, Any]:
    """What is known of a person, for machines: plain JSON values, others' texts made printable; what is not known is not there."""
    told = person.descriptor
    place, power, link = told.location, told.power, told.connectivity
    found: dict[str, Any] = {
        "node_id": plain(told.identity.node_id),
        "name": plain(person.name),
        "user_id": plain(told.identity.user_id) or None,
        "state": person.state.value,
        "emergency": person.emergency,
        "emergency_s": None if person.emergency_at is None else round(now - person.emergency_at, 1),
        "alert": plain(person.alert) or None,
        "status": plain(told.comment) or None,
        "disposition": told.disposition,
        "busy": bool(told.disposition & Disposition.BUSY),
        "available": bool(told.disposition & Disposition.AVAILABLE),
        "last_heard": _iso(unix_s - max(0.0, now - person.heard_at)),
        "silent_s": round(max(0.0, now - person.heard_at), 1),
        "format": person.form.value,
        "two_places": person.two_places or None,
        "clock_off_s": round(person.skew_s, 1) if person.skew_s is not None and person.clock_wrong else None,
        "groups": [{"id": plain(each.group_id), "alias": plain(each.alias)} for each in told.group_aliases]
        or None,
    }
    if place is not None:
        age_s = person.fix_age_s(now)
        found |= {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "altitude_m": place.altitude_m,
            "direction_deg": place.direction_deg,
            "speed_m_s": place.speed_m_s,
            "fix_age_s": None if age_s is None else round(age_s, 1),
        }
    if power is not None:
        found |= {
            "power_percent": power.level_percent,
            "power_source": POWER_SOURCES.get(power.source),
            "power_state": POWER_STATES.get(power.state),
        }
    if link is not None:
        found |= {"connectivity": CONNECTIVITY.get(link.type, str(link.type)), "strength": link.strength}
    return {key: value for key, value in found.items() if value is not None}


def _feature(person: Person, now: float, unix_s: float) -> dict[str, Any]:
    place = person.descriptor.location
    assert place is not None
    position = [round(place.longitude, 7), round(place.latitude, 7)]  # 1 cm
    if place.altitude_m is not None:
        position.append(round(place.altitude_m, 2))
    properties = facts(person, now, unix_s)
    for key in ("latitude", "longitude", "altitude_m"):  # the geometry's own
        properties.pop(key, None)
    return {
        "type": "Feature",
        "id": properties.pop("node_id"),
        "geometry": {"type": "Point", "coordinates": position},
        "properties": properties,
    }


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(max(0.0, unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- what is drawn -----------------------------------------------------------------------------------------------------


@attrs.frozen
class Plane:
    """Places on earth, as points of the picture."""

    latitude: float  #: of the middle
    longitude: float
    metres_per_pixel: float

    @property
    def degree_m(self) -> tuple[float, float]:
        """Metres of one degree of latitude and of longitude at the middle (series for WGS 84)."""
        phi = math.radians(self.latitude)
        north = 111_132.92 - 559.82 * math.cos(2 * phi) + 1.175 * math.cos(4 * phi)
        east = 111_412.84 * math.cos(phi) - 93.5 * math.cos(3 * phi)
        return north, max(east, 1_000.0)  # at a pole every way is south; a picture needs a width

    def at(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Pixels of a place."""
        north, east = self.degree_m
        x = _wrapped(longitude - self.longitude) * east / self.metres_per_pixel
        y = (latitude - self.latitude) * north / self.metres_per_pixel
        return WIDTH / 2 + x, (HEAD + HEIGHT - FOOT) / 2 - y


def plane_of(places: Sequence[tuple[float, float]]) -> Plane:
    """The plane that shows all these places (latitude, longitude; at least one), as large as it can."""
    middle = _middle([longitude for _, longitude in places])
    aside = [_wrapped(longitude - middle) for _, longitude in places]
    latitudes = [latitude for latitude, _ in places]
    plane = Plane(
        (min(latitudes) + max(latitudes)) / 2, _wrapped(middle + (min(aside) + max(aside)) / 2), 1.0
    )
    north, east = plane.degree_m
    wide, high = (max(aside) - min(aside)) * east, (max(latitudes) - min(latitudes)) * north
    metres = max(
        wide / (WIDTH - 2 * SIDE - 2 * ROOM),
        high / (HEIGHT - HEAD - FOOT - 2 * ROOM),
        LEAST_SPAN_M / (HEIGHT - HEAD - FOOT),
    )
    return attrs.evolve(plane, metres_per_pixel=metres)


def _middle(longitudes: Sequence[float]) -> float:
    """A longitude near all the others, on whichever side of the date line they are."""
    x = sum(math.cos(math.radians(each)) for each in longitudes)
    y = sum(math.sin(math.radians(each)) for each in longitudes)
    return math.degrees(math.atan2(y, x)) if math.hypot(x, y) > 1e-9 else longitudes[0]


def _wrapped(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


def layout(people: Iterable[Person], now: float, unix_s: float, title: str = "") -> list[Shape]:
    """Everything that the picture shows, in the order of drawing."""
    everybody = list(people)
    shown = [each for each in everybody if each.descriptor.location is not None]
    # Emergencies are drawn last, on top of everybody, and named first.
    shown.sort(key=lambda each: (each.emergency, each.state is State.HERE, each.name.casefold()))
    top, bottom = HEAD, HEIGHT - FOOT
    shapes: list[Shape] = [
        Box(SIDE, top, WIDTH - 2 * SIDE, bottom - top, PANEL, BORDER),
        Words(SIDE, 36, plain(title)[:60] or "Team", 22, INK, bold=True),
        Words(WIDTH - SIDE, 36, f"{_iso(unix_s)}   {_count(everybody, shown)}", 14, SOFT, "end"),
    ]
    if not shown:
        shapes.append(Words(WIDTH / 2, HEIGHT / 2, "nobody has told where they are", 20, SOFT, "middle"))
        return shapes
    plane = plane_of([_place(each) for each in shown])
    shapes += _grid(plane, top, bottom)
    shapes += _scale(plane, bottom)
    shapes += _legend(shown)
    spots = [plane.at(*_place(each)) for each in shown]
    for person, spot in zip(shown, spots, strict=True):
        shapes += _mark(person, *spot)
    shapes += _names(shown, spots, now)
    return shapes


def _place(person: Person) -> tuple[float, float]:
    place = person.descriptor.location
    assert place is not None
    return place.latitude, place.longitude


def _count(everybody: Sequence[Person], shown: Sequence[Person]) -> str:
    there = sum(each.present for each in everybody)
    words = f"{there} there, {len(shown)} on the map"
    alarmed = sum(each.emergency for each in everybody)
    return words + (f", {alarmed} IN AN EMERGENCY" if alarmed else "")


def _grid(plane: Plane, top: float, bottom: float) -> Iterator[Shape]:
    north, east = plane.degree_m
    left, right = SIDE, WIDTH - SIDE
    step = nice((right - left) * plane.metres_per_pixel / east / 5)
    half = (right - left) / 2 * plane.metres_per_pixel / east
    for index in range(
        math.ceil((plane.longitude - half) / step), math.floor((plane.longitude + half) / step) + 1
    ):
        x, _ = plane.at(plane.latitude, index * step) if half < 180 else (None, None)
        if x is not None and left + 1 < x < right - 1:
            yield Line(x, top + 1, x, bottom - 1, GRID)
            label = degrees(_wrapped(index * step), step, "E", "W")
            yield Words(x + 4, bottom - 6, label, 12, SOFT)
    step = nice((bottom - top) * plane.metres_per_pixel / north / 4)
    half = (bottom - top) / 2 * plane.metres_per_pixel / north
    for index in range(
        math.ceil((plane.latitude - half) / step), math.floor((plane.latitude + half) / step) + 1
    ):
        if abs(index * step) > 90:
            continue
        _, y = plane.at(index * step, plane.longitude)
        if top + 1 < y < bottom - 24:
            yield Line(left + 1, y, right - 1, y, GRID)
            yield Words(left + 6, y - 4, degrees(index * step, step, "N", "S"), 12, SOFT)


def degrees(value: float, step: float, positive: str, negative: str) -> str:
    """A coordinate as precise as the grid: ``47.352° N``."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    number = f"{abs(value):.{digits}f}°"
    return (
        number
        if float(f"{value:.{digits}f}") in (-180.0, 0.0, 180.0)
        else f"{number} {positive if value > 0 else negative}"
    )


def _scale(plane: Plane, bottom: float) -> Iterator[Shape]:
    length_m = nice(260 * plane.metres_per_pixel)
    pixels = length_m / plane.metres_per_pixel
    x, y = SIDE + 4, bottom + 22
    yield Line(x, y, x + pixels, y, INK, 2)
    for end in (x, x + pixels):
        yield Line(end, y - 6, end, y + 6, INK, 2)
    words = f"{length_m / 1000:,.0f} km" if length_m >= 1000 else f"{length_m:g} m"
    yield Words(x + pixels + 12, y + 5, words, 14, INK)
    x = WIDTH - SIDE - 14  # north
    yield Line(x, y + 14, x, y - 10, INK, 2)
    yield Line(x, y - 10, x - 5, y - 2, INK, 2)
    yield Line(x, y - 10, x + 5, y - 2, INK, 2)
    yield Words(x - 12, y + 5, "N", 14, INK, "end", True)


def _legend(shown: Sequence[Person]) -> Iterator[Shape]:
    colours = {_colour(each) for each in shown}
    x, y = WIDTH - SIDE - 60, HEIGHT - FOOT + 22
    for colour, words in ((RED, "emergency"), (LATE, "late or gone"), (BUSY, "busy"), (HERE, "here")):
        if colour in colours:
            x -= width_of(words, 13) + 34
            yield Dot(x + 8, y, 6, colour)
            yield Words(x + 20, y + 5, words, 13, SOFT)


def _colour(person: Person) -> str:
    if person.emergency:
        return RED
    if person.state is not State.HERE:
        return LATE
    return BUSY if person.descriptor.disposition & Disposition.BUSY else HERE


def _heading(person: Person, x: float, y: float) -> tuple[float, float] | None:
    """The far end of the line that shows where somebody moves; None for who stands, or does not say."""
    place = person.descriptor.location
    if place is None or place.direction_deg is None or (place.speed_m_s or 0) < MOVING_M_S:
        return None
    angle = math.radians(place.direction_deg)
    return x + 22 * math.sin(angle), y - 22 * math.cos(angle)


def _mark(person: Person, x: float, y: float) -> Iterator[Shape]:
    colour = _colour(person)
    heading = _heading(person, x, y)
    if heading is not None:
        yield Line(x, y, *heading, colour, 3)
    if person.emergency:
        yield Dot(x, y, MARK + 7, "", RED, 3)
    if person.present:
        yield Dot(x, y, MARK, colour, PANEL, 1.5)
    else:
        yield Dot(x, y, MARK, PANEL, colour, 2.5)


_Room = tuple[float, float, float, float]  # left, upper, right, lower


class _Taken:
    """Rooms that are taken, found by the squares that they touch: a thousand people may stand in one place."""

    SIDE: Final = 64.0

    def __init__(self) -> None:
        self._squares: dict[tuple[int, int], list[_Room]] = {}

    def add(self, room: _Room) -> None:
        for square in self._touched(room):
            self._squares.setdefault(square, []).append(room)

    def covered(self, room: _Room) -> float:
        """How much of a room is taken; what is taken across a square's edge counts more than once, which only matters for which is worse."""
        return sum(
            _common(room, each) for square in self._touched(room) for each in self._squares.get(square, ())
        )

    def _touched(self, room: _Room) -> Iterator[tuple[int, int]]:
        for column in range(int(room[0] // self.SIDE), int(room[2] // self.SIDE) + 1):
            for row in range(int(room[1] // self.SIDE), int(room[3] // self.SIDE) + 1):
                yield column, row


def _names(shown: Sequence[Person], spots: Sequence[tuple[float, float]], now: float) -> Iterator[Shape]:
    taken = _Taken()
    for person, (x, y) in zip(shown, spots, strict=True):
        reach = MARK + 9 if person.emergency else MARK
        taken.add((x - reach, y - reach, x + reach, y + reach))
        heading = _heading(person, x, y)
        if heading is not None:
            taken.add((heading[0] - 4, heading[1] - 4, heading[0] + 4, heading[1] + 4))
    pairs = sorted(
        zip(shown, spots, strict=True),
        key=lambda pair: (not pair[0].emergency, pair[0].state is not State.HERE),
    )
    for named, (person, (x, y)) in enumerate(pairs):
        if named == MAX_LABELS:
            words = f"{len(shown) - named} more without a name"
            yield Words(WIDTH / 2, HEIGHT - FOOT - 10, words, 14, SOFT, "middle")
            return
        text = label(person, now)
        width = width_of(text, NAME_SIZE) * (1.15 if person.emergency else 1)  # bold
        box, reach = _room_for(x, y, width, taken)
        taken.add(box)
        colour = _colour(person)
        if reach > MARK + 12:  # far from its mark: show whose it is
            yield Line(x, y, min(max(x, box[0]), box[2]), (box[1] + box[3]) / 2, BORDER)
        yield Words(
            box[0],
            box[3] - 4,
            text,
            NAME_SIZE,
            INK if colour in (HERE, BUSY) else colour,
            "start",
            person.emergency,
        )


def _room_for(x: float, y: float, width: float, taken: _Taken) -> tuple[_Room, float]:
    """A place for a name beside its mark, where nothing else is; the first choice is on the right. And how far it is from the mark."""
    height = NAME_SIZE + 5
    best: tuple[float, _Room, float] | None = None
    for reach in (MARK + 5, MARK + 12, MARK + 24, MARK + 48, MARK + 80, MARK + 120):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            left = x + dx * reach - (width if dx < 0 else width / 2 if dx == 0 else 0)
            upper = y + dy * reach - height / 2
            left = min(max(left, SIDE + 2), WIDTH - SIDE - 2 - width)
            upper = min(max(upper, HEAD + 2), HEIGHT - FOOT - 2 - height)
            room = (left, upper, left + width, upper + height)
            covered = taken.covered(room)
            if not covered:
                return room, reach
            if best is None or covered < best[0]:
                best = covered, room, reach
    assert best is not None
    return best[1], best[2]


def _common(one: _Room, other: _Room) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def label(person: Person, now: float) -> str:
    """What stands beside a mark: the name, and what is not as usual."""
    name = plain(person.name)
    name = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    notes = ["EMERGENCY"] if person.emergency else []
    if person.state is State.LEFT:
        notes.append("left")
    elif person.state is not State.HERE:
        minutes = (now - person.heard_at) / 60
        notes.append(f"silent {minutes:.0f} min" if minutes >= 1 else "silent")
    return f"{name}: {', '.join(notes)}" if notes else name


def width_of(text: str, size: float) -> float:
    """About how wide a text is, in pixels: a little too much rather than too little."""
    cells = sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.62 for c in text)
    return cells * size


# -- drawing -----------------------------------------------------------------------------------------------------------


def svg(shapes: Iterable[Shape]) -> str:
    """The picture as SVG (:mod:`ice.drawing`)."""
    return drawing.svg(shapes, WIDTH, HEIGHT)


def png(shapes: Iterable[Shape]) -> bytes:
    """The same picture as PNG; raises :class:`~ice.drawing.PillowMissing`."""
    return drawing.png(shapes, WIDTH, HEIGHT)
