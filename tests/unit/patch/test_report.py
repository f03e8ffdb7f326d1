"""Status in the shape that sites' tools know."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from ice.patch.plan import Mode, Patch, standing
from ice.patch.report import report
from tests.unit.patch.lab import Air, Station, patched, tone


class Shape(SynchronousTestCase):
    def test_documented(self) -> None:
        """Bridges and groups, counted and in detail, with their states, their traffic, and why something does not stand."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"), id="one")
        talker = Station(air, "a")
        talker.talk(tone(440, 0.1), 0.0)
        air.run(1.0)
        patches = [server.engine.patch, Patch.of("two", "bc"), Patch.of("off", "bc", enabled=False)]
        value = report(
            patches,
            {"one": server.engine.status(1.0)},
            standing(patches, since={"one": 1, "two": 2}),
            id="server",
            version="1",
            unix_s=1_790_000_000.5,
            uptime_s=60.0,
            names={"a": "North"},
        )
        json.dumps(value)
        self.assertEqual((value["id"], value["ts"], value["uptime"]), ("server", 1_790_000_000, 60))
        bridges, groups = value["bridges"], value["groups"]
        assert isinstance(bridges, dict)
        assert isinstance(groups, dict)
        self.assertEqual(
            [(each["id"], each["state"]) for each in bridges["detail"]], [("one", 1), ("two", -1), ("off", 0)]
        )
        self.assertIn("is in the active patch 'one' already", bridges["detail"][1]["why"])
        self.assertEqual(groups["count"], 2)
        north = groups["detail"][0]
        self.assertEqual((north["name"], north["state"], north["rxTraffic"]["packets"]), ("North", 1, 8))
        self.assertEqual(groups["detail"][1]["txTraffic"]["packets"], 9)  # the burst, and a probe
