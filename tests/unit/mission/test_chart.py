"""Where people are: GeoJSON by RFC 7946, and the picture."""

import io
import json
import math
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.drawing import Dot, Shape, Words, nice
from ice.mission.chart import (
    HEAD,
    HEIGHT,
    MAX_LABELS,
    RED,
    SIDE,
    WIDTH,
    Plane,
    degrees,
    facts,
    geojson,
    layout,
    plane_of,
    png,
    svg,
)
from ice.mission.people import People, Person
from ice.mission.presence import Connectivity, Descriptor, Form, Identity, Kind, Location, Power, Told

UNIX = 1_800_000_000


def team(*places: tuple[float, float] | None, **changes: Any) -> tuple[Person, ...]:
    """People at these places."""
    people = People()
    for number, place in enumerate(places):
        location = None if place is None else Location(*place)
        descriptor = Descriptor(
            Identity(f"n{number}", display_name=changes.get("name", f"P{number}")),
            ts=UNIX,
            next_update=UNIX + 30,
            disposition=changes.get("disposition", 0),
            location=location,
        )
        people.hear(Told(Kind.PRESENCE, Form.JSON, descriptor), 1, 0, UNIX)
    people.tick(changes.get("tick", 0))
    return people.everybody


def texts(shapes: list[Shape]) -> list[str]:
    """The words in a picture."""
    return [shape.text for shape in shapes if isinstance(shape, Words)]


class GeoJson(SynchronousTestCase):
    def test_collection(self) -> None:
        """A FeatureCollection of points, longitude first; who told no place is not in it."""
        people = People()
        anna = Descriptor(
            Identity("{N-1}", display_name="Anna"),
            ts=UNIX,
            next_update=UNIX + 30,
            comment="at the gate",
            disposition=5,
            location=Location(47.5, 8.25, 408.0, 90.0, 1.5, UNIX - 4),
            power=Power(1, 2, 83),
            connectivity=Connectivity(2, -60),
        )
        people.hear(Told(Kind.PRESENCE, Form.JSON, anna), 1, 100, UNIX)
        people.hear(Told(Kind.PRESENCE, Form.JSON, Descriptor(Identity("b"))), 1, 100, UNIX)
        self.assertEqual(
            json.loads(geojson(people.everybody, 103, UNIX + 3)),
            {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "id": "{N-1}",
                        "geometry": {"type": "Point", "coordinates": [8.25, 47.5, 408.0]},
                        "properties": {
                            "name": "Anna",
                            "state": "here",
                            "emergency": True,
                            "emergency_s": 3.0,
                            "status": "at the gate",
                            "disposition": 5,
                            "busy": True,
                            "available": False,
                            "last_heard": "2027-01-15T08:00:00Z",
                            "silent_s": 3.0,
                            "format": "json",
                            "direction_deg": 90.0,
                            "speed_m_s": 1.5,
                            "fix_age_s": 7.0,
                            "power_percent": 83,
                            "power_source": "battery",
                            "power_state": "discharging",
                            "connectivity": "wifi",
                            "strength": -60,
                        },
                    }
                ],
            },
        )

    def test_nobody(self) -> None:
        """Nobody anywhere is an empty collection, not an error."""
        self.assertEqual(json.loads(geojson((), 0, UNIX)), {"type": "FeatureCollection", "features": []})

    def test_texts(self) -> None:
        """Others' texts come out printable."""
        (person,) = team((1, 2), name="a\x1b[31m\u202eb")
        self.assertEqual(facts(person, 0, UNIX)["name"], "a�[31m�b")


class Projection(SynchronousTestCase):
    def test_degree(self) -> None:
        """A degree has WGS 84's length, within a metre or two of the tables."""
        for latitude, north, east in ((0, 110_574, 111_320), (45, 111_132, 78_847), (60, 111_412, 55_800)):
            found = Plane(latitude, 0, 1).degree_m
            self.assertTrue(abs(found[0] - north) < 3 and abs(found[1] - east) < 3, found)

    def test_scale(self) -> None:
        """Ten kilometres apart are ten kilometres of the scale apart."""
        places = [(47.0, 8.0), (47.0, 8.0 + 10_000 / Plane(47, 8, 1).degree_m[1])]
        plane = plane_of(places)
        (x1, y1), (x2, y2) = (plane.at(*place) for place in places)
        self.assertAlmostEqual(math.hypot(x2 - x1, y2 - y1) * plane.metres_per_pixel, 10_000, places=3)
        self.assertGreater(x2, x1)  # east is on the right
        self.assertGreater(plane.at(46, 8)[1], y1)  # and south below

    def test_date_line(self) -> None:
        """Neighbours across the date line are neighbours on the map."""
        plane = plane_of([(-17.0, 179.9), (-17.0, -179.9)])
        self.assertAlmostEqual(abs(plane.longitude), 180, places=6)
        self.assertLess(plane.at(-17, 179.9)[0], plane.at(-17, -179.9)[0])
        self.assertLess(plane.metres_per_pixel, 100)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=8))
    def test_everybody_is_on_it(self, places: list[tuple[float, float]]) -> None:
        """Wherever people are, poles and antipodes included, all of them are within the frame."""
        plane = plane_of(places)
        for x, y in (plane.at(*place) for place in places):
            self.assertTrue(SIDE <= x <= WIDTH - SIDE, (x, plane))
            self.assertTrue(HEAD <= y <= HEIGHT, (y, plane))

    def test_nice(self) -> None:
        """Scales and grids have steps of 1, 2, 5."""
        self.assertEqual(
            [nice(each) for each in (0.0123, 1, 1.99, 4.9, 5, 99, 260)], [0.01, 1, 1, 2, 5, 50, 200]
        )
        self.assertEqual(degrees(-47.3, 0.02, "N", "S"), "47.30° S")
        self.assertEqual(degrees(0, 50, "N", "S"), "0°")


class Picture(SynchronousTestCase):
    def test_contents(self) -> None:
        """Names, a scale, north, a grid; an emergency in red and in words; the silent in outline, with how long."""
        people = People()
        for node, bits, at in (("anna", 1, 0), ("bob", 0, 0), ("carl", 0, -200)):
            descriptor = Descriptor(
                Identity(node, display_name=node.title()),
                disposition=bits,
                location=Location(47 + at / 1e5, 8.5),
            )
            people.hear(Told(Kind.PRESENCE, Form.JSON, descriptor), 1, at, UNIX)
        people.tick(0)
        shapes = layout(people.everybody, 0, UNIX, "Exercise <1>")
        words = texts(shapes)
        self.assertIn("Exercise <1>", words)
        self.assertIn("Anna: EMERGENCY", words)
        self.assertIn("Bob", words)
        self.assertIn("Carl: silent 3 min", words)
        self.assertIn("N", words)
        self.assertTrue(any(each.endswith((" m", " km")) for each in words))
        self.assertTrue(any(each.endswith("° N") for each in words))
        self.assertTrue(any(each.endswith("° E") for each in words))
        rings = [shape for shape in shapes if isinstance(shape, Dot) and shape.stroke == RED]
        self.assertEqual(len(rings), 1)
        self.assertIn("2 there, 3 on the map, 1 IN AN EMERGENCY", " ".join(words))

    def test_nobody(self) -> None:
        """Where nobody tells a place, the picture says so."""
        self.assertIn("nobody has told where they are", texts(layout(team(None), 0, UNIX)))

    def test_no_overlap(self) -> None:
        """The names of ten people in one room stand apart from each other, and inside the frame."""
        shapes = layout(team(*((47.0 + n / 1e6, 8.0) for n in range(10)), name="Somebody"), 0, UNIX)
        rooms = [(s.x, s.y) for s in shapes if isinstance(s, Words) and s.text == "Somebody"]
        self.assertEqual(len(rooms), 10)
        for index, (x, y) in enumerate(rooms):
            self.assertTrue(SIDE <= x <= WIDTH - SIDE - 70 and HEAD < y < HEIGHT)
            for x2, y2 in rooms[:index]:
                self.assertTrue(abs(x - x2) > 70 or abs(y - y2) > 14, (x, y, x2, y2))

    def test_many(self) -> None:
        """Five hundred people are all marked, and as many named as can be read."""
        places = [(47 + n % 25 / 1e4, 8 + n // 25 / 1e4) for n in range(500)]
        shapes = layout(team(*places), 0, UNIX)
        self.assertEqual(sum(isinstance(each, Dot) and each.radius == 7 for each in shapes), 500)
        self.assertIn(f"{500 - MAX_LABELS} more without a name", texts(shapes))

    def test_svg(self) -> None:
        """The SVG is XML whatever the names are, and refers to nothing outside."""
        text = svg(layout(team((1, 2), name="</text><script>alert(1)</script>&\x00\ufffe指"), 0, UNIX))
        root = ElementTree.fromstring(text)
        tags = {each.tag.rpartition("}")[2] for each in root.iter()}
        self.assertEqual(tags, {"svg", "rect", "text", "line", "circle"})
        self.assertNotIn("href", text)
        self.assertNotIn("<script", text)
        self.assertTrue(any("</text><script>" in (each.text or "") for each in root.iter()))

    def test_png(self) -> None:
        """The PNG is the same picture: its size, and red where the emergency is."""
        from PIL import Image

        shapes = layout(team((1, 2), disposition=1), 0, UNIX)
        (mark,) = [each for each in shapes if isinstance(each, Dot) and each.fill == RED and each.radius == 7]
        image = Image.open(io.BytesIO(png(shapes)))
        self.assertEqual(image.size, (WIDTH, HEIGHT))
        self.assertEqual(image.getpixel((round(mark.x), round(mark.y))), (0xD0, 0x1C, 0x1F))
