"""Pages and files about the mesh, of a whole Rallypoint on a clock."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.config.reports import ReportSettings
from ice.net.graphviz import NotDrawn
from ice.observe.health import Health, HealthSite
from ice.observe.metrics import Metrics
from ice.rallypoint.mesh_metrics import add_mesh_metrics
from ice.rallypoint.reports import DRAWN_EVERY_S, Reports, here_of, write
from tests.unit.observe.test_health import Connection
from tests.unit.rallypoint.mesh_network import id_of
from tests.unit.rallypoint.peers import linked, square, waiting
from tests.unit.rallypoint.sea import Sea
from tests.unit.rallypoint.stage import Stage

ROOT = Path(__file__).resolve().parents[3]


class Pen:
    """A Graphviz that draws what it is told at once, or does not."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.why = ""

    def draw(self, text: str) -> "Deferred[bytes]":
        self.drawn.append(text)
        return fail(NotDrawn(self.why)) if self.why else succeed(b"<svg/>" * len(self.drawn))


class Thread:
    """A thread that works when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, call: Callable[[], None]) -> "Deferred[None]":
        done: Deferred[None] = Deferred()
        self.waiting.append((call, done))
        return done

    def work(self) -> int:
        """Do all that is waiting; how much that was."""
        waiting, self.waiting = self.waiting, []
        for call, done in waiting:
            try:
                call()
            except Exception:
                done.errback(Failure())
            else:
                done.callback(None)
        return len(waiting)


class Said:
    """A log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str, sentence: str) -> None:
        self.lines.append(sentence)

    def info(self, text: str, sentence: str) -> None:
        self.lines.append("mended")


class Case(SynchronousTestCase):
    """A Rallypoint with two clients, in the mesh of :func:`square`."""

    def setUp(self) -> None:
        self.stage = Stage(name="north")
        self.rallypoint = self.stage.rallypoint
        self.addCleanup(self.rallypoint.stopService)
        self.alice = self.stage.guest(None, "fireground")
        self.alice.say("fireground")
        backbone = self.rallypoint.house.backbone
        self.peers = [linked(1), linked(3, leaf=True, inbound=True), waiting(9)]
        self.mesh = square().nodes[0].mesh
        self.patch(backbone, "mesh", self.mesh)
        self.patch(backbone, "rows", lambda now: self.peers)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.pen, self.thread, self.clock = Pen(), Thread(), Clock()
        self.wall = 1_790_000_000.0

    def reports(self, **settings: Any) -> Reports:
        """Started, with these settings."""
        made = Reports(
            self.clock,
            ReportSettings.model_validate(settings),
            self.rallypoint,
            in_thread=self.thread,
            graphviz=self.pen,  # type: ignore[arg-type]
            unix_s=lambda: self.wall,
        )
        made.startService()
        self.addCleanup(made.stopService)
        return made

    def all_files(self, **more: Any) -> Reports:
        """The same, with every file."""
        files = {"status_file": "status.json", "link_graph_file": "mesh.dot", "route_map_file": "routes.json"}
        return self.reports(**{key: str(self.folder / name) for key, name in files.items()}, **more)

    def held(self) -> dict[str, bytes]:
        """What the folder holds."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


class PageTests(Case):
    def setUp(self) -> None:
        super().setUp()
        health = Health(metrics=Metrics(process=False), pages=self.reports().pages)
        self.connection = Connection(HealthSite(health, self.clock))

    def test_status(self) -> None:
        """Of this Rallypoint and its mesh."""
        code, headers, body = self.connection.get("/mesh")
        told = json.loads(body)
        self.assertEqual((code, headers["content-type"]), (200, "application/json"))
        self.assertEqual((told["name"], told["id"]), ("north", str(self.rallypoint.house.identity.id)))
        self.assertEqual(told["links"]["clients"]["count"], 1)
        self.assertEqual(told["mesh"]["message"], "ACTIVE: 1 inbound peers, 1 outbound peers")
        self.assertEqual((told["rx"]["packets"], told["ts"]), (1, 1_790_000_000))

    def test_throughput(self) -> None:
        """Between two looks at the page."""
        self.connection.get("/mesh")
        self.clock.advance(1.0)
        for _ in range(100):
            self.alice.say("fireground")
        told = json.loads(self.connection.get("/mesh")[2])
        self.assertGreater(told["throughput"]["rate"], 100 * 8 * 20)

    def test_link_graph(self) -> None:
        """As text."""
        code, headers, body = self.connection.get("/mesh.dot")
        self.assertEqual((code, headers["content-type"]), (200, "text/vnd.graphviz; charset=utf-8"))
        self.assertTrue(body.startswith(b"strict digraph "), body)

    def test_picture(self) -> None:
        """Drawn with details, or the reason why not."""
        code, headers, body = self.connection.get("/mesh.svg")
        self.assertEqual((code, headers["content-type"], body), (200, "image/svg+xml", b"<svg/>"))
        self.assertIn("label=", self.pen.drawn[0])
        self.pen.why = "no Graphviz here"
        self.assertEqual(self.connection.get("/mesh.svg")[::2], (503, b"no Graphviz here\n"))

    def test_route_map(self) -> None:
        """Streams of our clients, and those of others."""
        told = json.loads(self.connection.get("/routes")[2])["routeMap"]
        self.assertEqual(
            [(each["id"], each["clients"], each["peers"]) for each in told],
            [("fireground", 1, 0), ("alpha", 0, 2)],
        )
        self.assertEqual(told[0]["rxTraffic"]["blobs"], 1)

    def test_calls_in_the_route_map(self) -> None:
        """The stream of a call is known to those in it, and not to who reads the page."""
        self.stage.guest(None, "__call_1a2b3c4d-0a0b-4c0d-8e0f-101112131415")
        told = json.loads(self.connection.get("/routes")[2])["routeMap"]
        self.assertEqual([each["id"] for each in told], ["fireground", "__call_1a2b3c4d…", "alpha"])

    def test_trace(self) -> None:
        """The tree; and what cannot be answered says why."""
        told = json.loads(self.connection.get("/trace?stream=alpha")[2])
        self.assertEqual(len(told["hops"]), 3)
        told = json.loads(self.connection.get(f"/trace?stream=alpha&from={str(id_of(1))[:18]}")[2])
        self.assertEqual(told["from"]["id"], str(id_of(1)))
        for query, words in (
            ("", b"bytes of UTF-8"),
            ("?stream=alpha&from=nobody", b"no Rallypoint of this mesh"),
        ):
            code, _, body = self.connection.get("/trace" + query)
            self.assertEqual(code, 400)
            self.assertIn(words, body)

    def test_without_a_mesh(self) -> None:
        """Every page is there."""
        self.patch(self.rallypoint.house.backbone, "mesh", None)
        self.peers = []
        codes = [
            self.connection.get(path)[0]
            for path in ("/mesh", "/mesh.dot", "/mesh.svg", "/routes", "/trace?stream=x")
        ]
        self.assertEqual(codes, [200, 200, 200, 200, 400])


class FileTests(Case):
    def test_nothing_is_written_unasked(self) -> None:
        """Without files there is nothing to look after."""
        self.reports()
        self.clock.advance(100)
        self.assertEqual((self.thread.waiting, self.pen.drawn), ([], []))

    def test_every_file(self) -> None:
        """At once, whole, and nothing beside them."""
        self.all_files()
        self.assertEqual(self.thread.work(), 4)
        held = self.held()
        self.assertEqual(sorted(held), ["mesh.dot", "mesh.svg", "routes.json", "status.json"])
        self.assertEqual(json.loads(held["status.json"])["name"], "north")
        self.assertEqual(json.loads(held["routes.json"])["routeMap"][0]["id"], "fireground")
        self.assertIn(b"strict digraph", held["mesh.dot"])
        self.assertEqual(held["mesh.svg"], b"<svg/>")

    def test_documented_forms_stay_in_the_file(self) -> None:
        """The text has no labels; the picture has."""
        self.all_files()
        self.thread.work()
        self.assertNotIn(b"label=", self.held()["mesh.dot"])
        self.assertIn("label=", self.pen.drawn[0])

    def test_they_are_written_when_they_change(self) -> None:
        """The status, which tells the time, always; the others when the mesh is another, or after a minute."""
        self.all_files(refresh_s=5.0)
        self.thread.work()
        self.wall += 5
        self.clock.advance(5)
        self.assertEqual(self.thread.work(), 1)
        self.peers = self.peers[:2]
        self.wall += 5
        self.clock.advance(5)
        self.assertEqual(self.thread.work(), 3, "status, graph, picture")
        for _ in range(round(DRAWN_EVERY_S / 5)):
            self.clock.advance(5)
            self.thread.work()
        self.assertEqual(len(self.pen.drawn), 3)

    def test_a_slow_disk(self) -> None:
        """A file whose last write is not over is passed over; nothing piles up."""
        self.all_files(svg=False)
        for _ in range(10):
            self.wall += 5
            self.clock.advance(5)
        self.assertEqual(len(self.thread.waiting), 3)
        self.thread.work()
        self.clock.advance(5)
        self.thread.work()
        self.assertEqual(json.loads(self.held()["status.json"])["ts"], int(self.wall))

    def test_a_file_that_cannot_be_written(self) -> None:
        """It is told once, and once that it is mended; the others are written."""
        said = Said()
        self.patch(Reports, "_log", said)
        (self.folder / "mesh.dot").mkdir()
        self.all_files(svg=False)
        for _ in range(5):
            self.thread.work()
            self.clock.advance(5)
        self.assertEqual(len(said.lines), 1, said.lines)
        self.assertIn("mesh.dot: Is a directory", said.lines[0])
        self.assertEqual(sorted(os.listdir(self.folder)), ["mesh.dot", "routes.json", "status.json"])
        (self.folder / "mesh.dot").rmdir()
        self.thread.work()
        self.clock.advance(5)
        self.thread.work()
        self.assertEqual(said.lines[1:], ["mended"])
        self.assertIn("mesh.dot", self.held())

    def test_a_picture_that_cannot_be_drawn(self) -> None:
        """It is told once, and once that it is mended; the text is there."""
        said = Said()
        self.patch(Reports, "_log", said)
        self.pen.why = "Graphviz is not installed"
        self.all_files()
        self.peers = []
        self.clock.advance(5)
        self.thread.work()
        self.assertEqual((said.lines, len(self.pen.drawn)), (["Graphviz is not installed"], 2))
        self.assertEqual(sorted(self.held()), ["mesh.dot", "routes.json", "status.json"])
        self.pen.why = ""
        self.clock.advance(DRAWN_EVERY_S)
        self.assertEqual(said.lines[1:], ["mended"])

    def test_a_picture_beside_a_picture(self) -> None:
        """The drawing never takes the place of the text."""
        self.reports(link_graph_file=str(self.folder / "mesh.svg"))
        self.thread.work()
        self.assertEqual(sorted(self.held()), ["mesh.svg", "mesh.svg.svg"])

    def test_reload(self) -> None:
        """Other files from then on, at another pace; the same settings change nothing."""
        made = self.all_files(svg=False)
        self.thread.work()
        made.reload(made._settings)
        self.assertEqual(self.thread.work(), 0)
        made.reload(ReportSettings(status_file=self.folder / "other.json", refresh_s=60.0))
        self.assertEqual(self.thread.work(), 1)
        self.assertIn("other.json", self.held())
        self.clock.advance(59)
        self.assertEqual(self.thread.work(), 0)
        made.reload(ReportSettings())
        self.clock.advance(500)
        self.assertEqual(self.thread.work(), 0)

    def test_clients(self) -> None:
        """They are in the graph where that is asked for, and not otherwise."""
        self.all_files(svg=False)
        self.thread.work()
        self.assertNotIn(b"192.0.2.1:40000", self.held()["mesh.dot"])
        self.reports(link_graph_file=str(self.folder / "more.dot"), clients=True, svg=False)
        self.thread.work()
        self.assertIn(b'"192.0.2.1:40000"->', self.held()["more.dot"])

    def test_what_cannot_be_drawn_up(self) -> None:
        """A fault is logged, and the next round comes."""
        self.all_files(svg=False)
        self.thread.work()
        self.patch(self.rallypoint.house.backbone, "rows", None)
        self.clock.advance(5)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.patch(self.rallypoint.house.backbone, "rows", lambda now: [])
        self.clock.advance(5)
        self.assertGreater(self.thread.work(), 0)


class WriteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def test_it_is_replaced(self) -> None:
        """Whole, and nothing is left beside it."""
        for data in (b"one", b"two" * 1_000, b""):
            write(self.path, data)
            self.assertEqual(self.path.read_bytes(), data)
            self.assertEqual(os.listdir(self.folder), ["file"])

    def test_who_reads_has_the_former_one(self) -> None:
        """A reader that has it open reads to its end what it began with."""
        write(self.path, b"former")
        with self.path.open("rb") as reader:
            write(self.path, b"new")
            self.assertEqual(reader.read(), b"former")

    def test_a_link_is_replaced_and_not_followed(self) -> None:
        """Nobody has another file of ours overwritten by putting a link in the place of the next part."""
        victim = self.folder / "victim"
        victim.write_bytes(b"dear")
        beside = self.folder / f".file.{os.getpid()}"
        beside.symlink_to(victim)
        write(self.path, b"new")
        self.assertEqual((victim.read_bytes(), self.path.read_bytes()), (b"dear", b"new"))

    def test_where_it_cannot_be(self) -> None:
        """The reason is an OSError, and nothing is left."""
        self.assertRaises(OSError, write, self.folder / "none" / "file", b"")
        self.path.mkdir()
        self.assertRaises(OSError, write, self.path, b"")
        self.assertEqual(os.listdir(self.folder), ["file"])


class FigureTests(Case):
    def page(self) -> str:
        """What is scraped."""
        metrics = Metrics(process=False)
        add_mesh_metrics(metrics, self.rallypoint.house.backbone, self.stage.clock.seconds)
        page = metrics.render().decode()
        self.assertEqual(metrics.errors, 0)
        return page

    def test_every_figure(self) -> None:
        """Links by state, round trips by peer, reach, detours, floods, relays."""
        self.mesh.ledger.refused["forged"] += 3
        page = self.page()
        for line in (
            'links{state="linked"} 2.0',
            'links{state="connecting"} 0.0',
            'links{state="waiting"} 1.0',
            f'round_trip_seconds{{peer="{str(id_of(1))[:18]}"}} 0.0125',
            "rallypoints 3.0",
            "detours 0.0",
            "unreached 1.0",
            "twins 0.0",
            "origins 4.0",
            "edges 4.0",
            "streams_wanted 1.0",
            'floods_refused_total{reason="forged"} 3.0',
            'relays_dropped_total{reason="duplicate"} 0.0',
        ):
            self.assertIn(f"ice_rallypoint_mesh_{line}\n", page)
        self.assertNotIn("ice_rallypoint_mesh_floods_sent_total 0.0\n", page)

    def test_without_a_mesh(self) -> None:
        """Every figure is 0, or has no label yet."""
        self.patch(self.rallypoint.house.backbone, "mesh", None)
        self.peers = []
        page = self.page()
        self.assertIn("ice_rallypoint_mesh_rallypoints 0.0\n", page)
        self.assertIn("ice_rallypoint_mesh_detours 0.0\n", page)

    def test_every_figure_is_explained(self) -> None:
        """Whoever reads a metric's name in an alarm finds it in docs/operation.md."""
        explained = (ROOT / "docs" / "operation.md").read_text("utf-8")
        families = [
            line.split()[2]
            for line in self.page().splitlines()
            if line.startswith("# TYPE ice_rallypoint_mesh_")
        ]
        self.assertGreater(len(families), 20)
        self.assertEqual([name for name in families if f"`{name}" not in explained], [])


class HereTests(Case):
    def test_here(self) -> None:
        """Clients, joins, streams and packets; not other Rallypoints."""
        here = here_of(self.rallypoint, 7.0)
        self.assertEqual((here.clients, here.joins, here.streams, here.received), (1, 1, 1, 1))
        self.assertEqual((here.name, here.unix_s, here.draining), ("north", 7.0, False))
        self.rallypoint.house.admission.draining = True
        self.assertTrue(here_of(self.rallypoint, 7.0).draining)
        self.rallypoint.house.admission.draining = False


class SeaTests(SynchronousTestCase):
    """Whole Rallypoints, linked: what one tells of all."""

    def setUp(self) -> None:
        self.sea = Sea("a", "b", "c", "leaf", delay_s=0.005)
        self.addCleanup(self.sea.stop)
        self.sea.mesh()
        self.people = [self.sea[name].person("town") for name in ("b", "leaf")]
        self.sea.run(12.0, *self.people)
        reports = Reports(self.sea.clock, ReportSettings(), self.sea["a"].rallypoint)
        health = Health(metrics=Metrics(process=False), pages=reports.pages)
        self.connection = Connection(HealthSite(health, self.sea.clock))

    def page(self, path: str) -> dict[str, Any]:
        """What it answers."""
        code, _, body = self.connection.get(path)
        self.assertEqual(code, 200, body)
        told = json.loads(body)
        assert isinstance(told, dict)
        return told

    def test_all_is_well(self) -> None:
        """Three peers, all reached directly, with names and round trips."""
        told = self.page("/mesh")
        self.assertEqual(
            (told["state"], told["links"]["peers"]["count"], told["detours"]), ("healthy", 3, [])
        )
        self.assertEqual(sorted(each["name"] for each in told["peers"]), ["b", "c", "leaf"])
        self.assertEqual([each["links"] for each in told["reach"]], [1, 1, 1])
        self.assertTrue(all(each["rtt_ms"] for each in told["peers"]), told["peers"])
        roles = {
            each["name"]: each["type"]
            for each in (
                peer | listed
                for peer, listed in zip(told["peers"], told["links"]["peers"]["list"], strict=True)
            )
        }
        self.assertEqual(roles, {"b": 1, "c": 1, "leaf": 2})

    def test_traces_know_links_of_others(self) -> None:
        """Each hop has a delay, also those between others."""
        told = self.page(f"/trace?stream=town&from={self.sea['c'].id}")
        self.assertEqual(sorted(hop["name"] for hop in told["hops"]), ["b", "leaf"])
        for hop in told["hops"]:
            self.assertTrue(9 <= hop["rtt_ms"] <= 60, hop)

    def test_a_link_is_missing(self) -> None:
        """The others are gone round, and the graph has a dotted line."""
        self.sea.cut("a", "b")
        self.sea.run(4.0, *self.people)
        told = self.page("/mesh")
        (missing,) = told["detours"]
        self.assertEqual((missing["reached"], missing["via_name"], missing["links"]), (True, "c", 2))
        peer = next(each for each in told["peers"] if each["id"] == missing["id"])
        self.assertNotEqual((peer["state"], peer["why"]), ("linked", ""))
        ids = f'"{self.sea["a"].id}"->"{self.sea["b"].id}"'
        self.assertIn(f"{ids}[style=dotted arrowhead=o]".encode(), self.connection.get("/mesh.dot")[2])
        hops = {hop["name"]: hop for hop in self.page("/trace?stream=town")["hops"]}
        self.assertEqual((hops["c"]["wants"], hops["c"]["links"]), (False, 1))
        self.assertEqual([hop["links"] for hop in hops.values() if hop["id"] == missing["id"]], [2])
