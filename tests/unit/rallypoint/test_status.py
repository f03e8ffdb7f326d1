"""What a Rallypoint says of itself."""

import json

from twisted.trial.unittest import SynchronousTestCase

from ice.observe.metrics import Metrics
from ice.rallypoint import status
from ice.rallypoint.status import add_metrics, counters_of, status_of
from tests.unit.rallypoint.stage import Stage
from tests.unit.security import wire

CALL = "__call_1a2b3c4d-0a0b-4c0d-8e0f-101112131415"


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage(name="north")
        self.rallypoint = self.stage.rallypoint
        self.addCleanup(self.rallypoint.stopService)
        self.alice = self.stage.guest(None, "fireground")
        self.bob = self.stage.guest(wire.ca().leaf("bob"), "fireground", talk=False)
        for _ in range(3):
            self.alice.say("fireground")
        self.stage.pass_time(1.0, self.alice, self.bob)

    def test_who_is_here_and_on_what(self) -> None:
        """Names, addresses, ages, streams; all of it JSON."""
        told = json.loads(json.dumps(status_of(self.rallypoint)))
        self.assertEqual((told["name"], told["state"], told["ready"]), ("north", "running", True))
        self.assertEqual((told["links_total"], told["streams_total"]), (2, 1))
        link = next(link for link in told["links"] if link["name"] == "alice")
        self.assertEqual((link["role"], link["received"], link["age_s"]), ("client", 3, 1.0))
        self.assertEqual(
            link["streams"], [{"stream": "fireground", "listen": True, "talk": True, "talked": 3}]
        )
        stream = told["streams"][0]
        self.assertEqual((stream["listeners"], stream["talkers"], stream["packets"]), (2, 1, 3))
        self.assertGreater(told["certificate"]["days_left"], 0)
        self.assertEqual(told["parrot"]["stream"], "parrot")

    def test_calls_are_shown_shortened(self) -> None:
        """Who reads the page does not learn the stream of a call."""
        self.stage.guest(wire.ca().leaf("carol"), CALL)
        told = json.dumps(status_of(self.rallypoint), ensure_ascii=False)
        self.assertNotIn(CALL, told)
        self.assertEqual(told.count('"__call_1a2b3c4d…"'), 2)

    def test_it_is_bounded(self) -> None:
        """With many links and streams some are shown, and all are counted."""
        self.patch(status, "MAX_SHOWN", 1)
        told = status_of(self.rallypoint)
        self.assertEqual((len(told["links"]), told["links_total"]), (1, 2))

    def test_what_links_sent_is_counted_after_they_are_gone(self) -> None:
        """A counter never goes down."""
        before = counters_of(self.rallypoint)
        self.assertEqual((before["media_received"], before["media_sent"]), (3, 3))
        self.bob.wire.lost(OSError())
        self.assertEqual(counters_of(self.rallypoint)["media_sent"], 3)

    def test_draining_is_shown(self) -> None:
        """As a state and as a reason for not being ready."""
        self.rallypoint.stopService()
        told = status_of(self.rallypoint)
        self.assertEqual((told["state"], told["ready"]), ("draining", False))
        self.assertIn("stopping", told["why_not_ready"])

    def test_every_figure_has_a_metric(self) -> None:
        """None fails, names are as usual, and no label comes from a client."""
        metrics = Metrics(process=False)
        add_metrics(metrics, self.rallypoint)
        page = metrics.render().decode()
        self.assertEqual(metrics.errors, 0)
        for line in (
            "ice_rallypoint_links 2.0",
            "ice_rallypoint_media_received_total 3.0",
            "ice_rallypoint_media_delivered_total 3.0",
            'ice_rallypoint_media_dropped_total{reason="not-joined"} 0.0',
            'ice_rallypoint_newcomers{phase="waiting"} 0.0',
        ):
            self.assertIn(line + "\n", page)
        for private in ("alice", "192.0.2.1", "fireground"):
            self.assertNotIn(private, page)
