"""``ice who``: what is asked for, what is shown, and the driver on a network in memory."""

import io
import json
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import click
from click.testing import CliRunner, Result
from rich.console import Console
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.boards import JsonBoard, LinesBoard, board_for
from ice.cli.loop import Stop
from ice.cli.voice import Way
from ice.cli.who import _me, control_group, own_node_id, who
from ice.cli.who_board import (
    HEADINGS,
    Row,
    ScreenBoard,
    compass,
    distance,
    drawn,
    plain_table,
    rows_of,
    sentence,
)
from ice.cli.who_watch import Watch, Wishes, write_whole
from ice.errors import LocalError
from ice.media.rtp import Packet, Talk, TalkFlag
from ice.mission.announcing import Manner
from ice.mission.identity import stream_id
from ice.mission.model import Mission
from ice.mission.people import Happened, People, What
from ice.mission.presence import Connectivity, Descriptor, Form, Identity, Kind, Location, Power, Told
from ice.mission.reading import read_mission
from ice.mission.talkers import Talker
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.presence import Presence

UNIX = 1_800_000_000.0
PLACE = {"address": "239.9.9.1", "port": 20_000}


def mission(*groups: dict[str, Any]) -> Mission:
    """A mission of these groups."""
    all_of_them = [{"rx": PLACE, "tx": PLACE, **group} for group in groups]
    return read_mission(json.dumps({"name": "Exercise", "groups": all_of_them}), "a test").mission


CONTROL = {"type": 2, "name": "Control"}
RED = {"type": 1, "name": "Red"}


def person(**told: Any) -> Any:
    """Somebody who is there."""
    people = People()
    name = told.pop("name", "Anna")
    people.hear(
        Told(Kind.PRESENCE, Form.JSON, Descriptor(Identity("n", display_name=name), **told)), 1, 0, UNIX
    )
    return people.everybody[0]


class Asking(SynchronousTestCase):
    def ask(self, *words: str) -> Result:
        """The command, as a person types it."""
        return CliRunner().invoke(who, list(words))

    def mission_file(self, *groups: dict[str, Any]) -> str:
        """A mission's file."""
        path = Path(self.mktemp()).with_suffix(".json")
        path.write_text(
            json.dumps({"name": "Exercise", "groups": [{"rx": PLACE, "tx": PLACE, **g} for g in groups]})
        )
        return str(path)

    def test_places(self) -> None:
        """A location is two or three numbers on earth, the latitude first."""
        for words in ("47", "47,", "91,0", "0,181", "a,b", "1,2,3,4", "nan,0", "1e3,0"):
            result = self.ask("m.json", "--announce", "A", "--location", words)
            self.assertEqual(result.exit_code, 2, words)
            self.assertIn("--location", result.output)

    def test_pictures(self) -> None:
        """A map is SVG or PNG."""
        self.assertIn(".svg or .png", self.ask("m.json", "--map", "map.jpg").output)

    def test_alone(self) -> None:
        """What is told to others needs a name under which it is told."""
        for words in (["--emergency"], ["--busy"], ["--status", "x"], ["--node-id", "x"]):
            result = self.ask("m.json", *words)
            self.assertEqual(result.exit_code, 2)
            self.assertIn("--announce", result.output)
        self.assertEqual(self.ask("m.json", "--announce", " ").exit_code, 2)
        self.assertEqual(self.ask("m.json", "--announce", "A", "--node-id", "a\nb").exit_code, 2)

    def test_me(self) -> None:
        """We are available unless busy, and where we say."""
        me = _me(" Anna ", "at the gate", False, Location(1, 2), True, "n-1")
        self.assertEqual(
            me,
            Descriptor(
                Identity("n-1", display_name="Anna"),
                comment="at the gate",
                disposition=2,
                location=Location(1, 2),
            ),
        )
        busy = _me("Anna", None, True, None, False, None)
        assert busy is not None
        self.assertEqual(busy.disposition, 4)
        self.assertIsNone(_me(None, None, False, Location(1, 2), False, None))

    def test_node_id(self) -> None:
        """A node id is the same for a name on a machine, another for another name, and tells neither."""
        machine = Path(self.mktemp())
        machine.write_text("0123456789abcdef0123456789abcdef\n")
        with mock.patch("ice.cli.who.MACHINE_ID", machine):
            self.assertEqual(own_node_id("Anna"), own_node_id("Anna"))
            self.assertNotEqual(own_node_id("Anna"), own_node_id("Bob"))
        with mock.patch("ice.cli.who.MACHINE_ID", Path("/nowhere")):
            self.assertNotEqual(own_node_id("Anna"), own_node_id("Anna"))

    def test_group(self) -> None:
        """The mission control group is the one that there is; where there is none, or several, the error says what to do."""
        self.assertEqual(control_group(mission(RED, CONTROL), None).name, "Control")
        with self.assertRaisesRegex(LocalError, "no mission control group"):
            control_group(mission(RED), None)
        two = mission(CONTROL, {**CONTROL, "name": "Other"})
        with self.assertRaisesRegex(LocalError, "--group: 'Control', 'Other'"):
            control_group(two, None)
        self.assertEqual(control_group(two, "other").name, "Other")
        self.assertEqual(control_group(two, two.groups[0].id).name, "Control")
        with self.assertRaisesRegex(LocalError, "no mission control group 'Red'"):
            control_group(mission(RED, CONTROL), "Red")

    def test_no_control(self) -> None:
        """A mission without mission control is told before anything is opened."""
        result = CliRunner().invoke(who, [self.mission_file(RED)], standalone_mode=False)
        self.assertIsInstance(result.exception, LocalError)
        usage = CliRunner().invoke(who, [self.mission_file(CONTROL), "--busy"], standalone_mode=False)
        self.assertIsInstance(usage.exception, click.UsageError)


class Showing(SynchronousTestCase):
    def test_row(self) -> None:
        """A row tells everything that is known, and distances from where we are."""
        anna = person(
            comment="at the gate",
            disposition=5,
            location=Location(47.5, 8.25, None, 91.0, 1.5),
            power=Power(1, 1, 83),
            connectivity=Connectivity(2, -60),
        )
        talker = Talker("red-id", 1, 2, 0, 0, alias="Anna")
        (row,) = rows_of([anna], [talker], {"red-id": "Red"}, 3, Location(47.4, 8.25))
        self.assertEqual(
            row.cells,
            (
                "Anna",
                "EMERGENCY, busy, at the gate",
                "Red",
                "47.50000, 8.25000 (11.1 km N), E at 1.5 m/s",
                "83 %, charging",
                "wifi -60 dBm",
                "3 s",
            ),
        )
        self.assertTrue(row.emergency)

    def test_stranger(self) -> None:
        """A voice of somebody who announces nothing has a row of its own."""
        (row,) = rows_of([], [Talker("red-id", 0xAB << 32, 2, 0, 0)], {}, 3)
        self.assertEqual((row.who, row.status, row.talks_on), ("voice 000000ab", "no presence", "red-id"))

    def test_old_fix(self) -> None:
        """A place that is old says how old it is."""
        (row,) = rows_of([person(location=Location(1, 2))], [], {}, 600)
        self.assertEqual(row.where, "1.00000, 2.00000, 10 min ago")

    def test_harmless(self) -> None:
        """Nothing that others write reaches the terminal as anything but text."""
        bad = "[bold]x[/]\x1b[2J\u202e\n"
        anna = person(name=bad, comment=bad)
        for row in rows_of([anna], [Talker("g", 1, 2, 0, 0, alias="\x1b]0;x\x07")], {}, 0):
            for cell in row.cells:
                self.assertTrue(cell.isprintable(), cell)
        out = io.StringIO()
        Console(file=out, force_terminal=True, width=120).print(drawn(rows_of([anna], [], {}, 0), "t"))
        self.assertIn("[bold]x[/]", out.getvalue())
        self.assertNotIn("\x1b[2J", out.getvalue())
        for what in What:
            self.assertTrue(sentence(Happened(what, anna), 0).isprintable())

    def test_plain_table(self) -> None:
        """Piped, the table is columns that line up, wide characters included."""
        lines = plain_table([Row("指挥", "busy"), Row("Bob", "at lunch", heard="3 s")])
        self.assertTrue(lines[0].startswith("who   status    talks on"))
        self.assertTrue(lines[1].startswith("指挥  busy      -"))
        self.assertTrue(lines[2].startswith("Bob   at lunch  -"))
        self.assertEqual(len(HEADINGS), len(Row("x").cells))

    def test_distances(self) -> None:
        """Metres and the direction, over the sphere."""
        metres, bearing = distance(Location(0, 179.5), Location(0, -179.5))
        self.assertAlmostEqual(metres, 111_195, places=-1)
        self.assertAlmostEqual(bearing, 90)
        self.assertEqual([compass(each) for each in (0, 44, 181, 359)], ["N", "NE", "S", "N"])

    def test_faces(self) -> None:
        """JSON where asked for, lines where piped, a live table on a terminal unless the answer is wanted once."""
        pipe = io.StringIO()
        self.assertIsInstance(board_for(ScreenBoard, "t", as_json=True, out=pipe), JsonBoard)
        self.assertIsInstance(board_for(ScreenBoard, "t", as_json=False, out=pipe), LinesBoard)
        terminal = io.StringIO()
        with mock.patch.object(terminal, "isatty", lambda: True), mock.patch.dict("os.environ", TERM="xterm"):
            self.assertIsInstance(
                board_for(ScreenBoard, "t", as_json=False, live=False, out=terminal), LinesBoard
            )
            board = board_for(ScreenBoard, "t", as_json=False, out=terminal)
            self.assertIsInstance(board, ScreenBoard)
            board.rows([Row("Anna", "EMERGENCY", emergency=True)])
            board.say("emergency", "EMERGENCY: Anna")
            board.meters([])
            board.close()
        self.assertIn("Anna", terminal.getvalue())

    def test_write_whole(self) -> None:
        """A file is replaced whole; where it cannot be written, the error names it and nothing is left behind."""
        path = Path(self.mktemp())
        write_whole(path, b"one")
        write_whole(path, b"two")
        self.assertEqual(path.read_bytes(), b"two")
        self.assertEqual(
            [each.name for each in path.parent.iterdir() if each.name.startswith(f".{path.name}.")], []
        )
        with self.assertRaisesRegex(LocalError, "/nowhere/map.svg"):
            write_whole(Path("/nowhere/map.svg"), b"")


@attrs.define
class MemoryTeam:
    """What ``ice who`` wants of a team, in memory."""

    mission: Mission
    network: MemoryNetwork
    remarks: tuple[Any, ...] = ()

    @property
    def groups(self) -> list[Any]:
        return [mock.Mock(group=each, stream_id=stream_id(each.id)) for each in self.mission.groups]

    def join(self, *words: Any, **more: Any) -> Any:
        return self.network.join(*words, **more)

    def status(self) -> tuple[Any, ...]:
        return ()


class Watching(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.mission = mission(RED, CONTROL)
        self.control, self.red = control_group(self.mission, None), self.mission.group("Red")
        self.out = io.StringIO()
        self.stop = Stop()

    def watch(self, *, as_json: bool = True, **wishes: Any) -> Watch:
        """``ice who`` on a network in memory, up and running."""
        plain = Wishes(None, None, None, as_json, None, None, True, None, False, None)
        board = board_for(ScreenBoard, "t", as_json=as_json, out=self.out)
        watch = Watch(
            self.clock, MemoryTeam(self.mission, self.network), self.control, attrs.evolve(plain, **wishes), board,
            Way(board, "Control"), wall=lambda: UNIX + self.clock.seconds(),
        )  # fmt: skip
        watch.join()
        self.running = Deferred.fromCoroutine(watch.until(self.stop))
        self.pass_by(0.1)
        return watch

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)

    def party(self, name: str, **told: Any) -> Presence:
        """Somebody else."""
        me = Descriptor(Identity(f"node-{name}", display_name=name), **told)
        presence = Presence(self.clock, manner=Manner(), me=me, wall=lambda: UNIX + self.clock.seconds())
        presence.join(self.network, stream_id(self.control.id))
        return presence

    def events(self) -> list[dict[str, Any]]:
        """What was told to a machine."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def end(self, watch: Watch) -> None:
        """Ctrl-C."""
        self.stop.ask()
        self.successResultOf(self.running)
        watch.leave()
        watch.summarise()

    def test_observing(self) -> None:
        """Somebody comes, raises an emergency, and leaves: each is an object; in the end there is the team. Nothing is sent."""
        watch = self.watch()
        anna = self.party("Anna", location=Location(47.5, 8.25))
        self.pass_by(1)
        anna.emergency(True)
        self.pass_by(1)
        self.end(watch)
        told = self.events()
        self.assertEqual([each["event"] for each in told], ["path", "unseen", "joined", "emergency", "team"])
        self.assertEqual((told[3]["name"], told[3]["latitude"], told[3]["emergency"]), ("Anna", 47.5, True))
        self.assertEqual((told[-1]["there"], told[-1]["emergencies"], told[-1]["sent"]), (1, 1, 0))
        self.assertEqual(told[-1]["people"][0]["node_id"], "node-Anna")
        anna.leave()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lines(self) -> None:
        """The same for people: one line for each event, none for being late."""
        watch = self.watch(as_json=False)
        anna = self.party("Anna", comment="at the gate")
        self.pass_by(1)
        self.network.loss = 1.0
        self.pass_by(40)
        self.network.loss = 0.0
        self.pass_by(40)
        anna.leave()
        self.pass_by(1)
        self.end(watch)
        lines = self.out.getvalue().splitlines()
        self.assertTrue(lines[1].startswith("listening unseen: everybody announces every 30 s"))
        self.assertEqual(lines[2:], ["Anna is here: at the gate", "Anna has left", "0 people there"])

    def test_taking_part(self) -> None:
        """Announced with an emergency, we are seen so, and Ctrl-C calls it off and says good-bye."""
        bob = self.party("Bob")
        self.pass_by(10)
        watch = self.watch(me=Descriptor(Identity("me", display_name="Me")), emergency=True)
        self.pass_by(2)
        seen = bob.people.person("me")
        assert seen is not None
        self.assertTrue(seen.emergency)
        self.assertEqual([row.who for row in watch._rows()], ["Bob", "Me (you)"])
        self.end(watch)
        self.pass_by(0.1)
        seen = bob.people.person("me")
        assert seen is not None
        self.assertEqual((seen.emergency, seen.state.value), (False, "left"))
        kinds = [each["event"] for each in self.events()]
        self.assertEqual(kinds, ["path", "announced", "raised", "joined", "team"])

    def test_talkers(self) -> None:
        """Who talks on an audio group is told by the name that presence gives."""
        watch = self.watch()
        assert self.red is not None
        stream = self.network.join(stream_id(self.red.id), Collector())
        self.party("Anna")
        self.pass_by(1)
        extension = Talk("Anna").to_extension()
        stream.send(Packet(118, 1, 2, 3, b"\x08\xff", extension=extension).encode())
        self.pass_by(0.3)
        self.assertEqual(watch._rows()[0].talks_on, "Red")
        end = Talk("Anna", 0, TalkFlag.BURST_END).to_extension()
        stream.send(Packet(118, 2, 962, 3, b"\x08\xff", extension=end).encode())
        self.pass_by(0.5)
        self.end(watch)
        talk = [(each["event"], each["name"], each["group"]) for each in self.events() if "group" in each]
        self.assertEqual(talk, [("talks", "Anna", "Red"), ("ended", "Anna", "Red")])

    def test_alone(self) -> None:
        """Nobody for more than an interval is worth a word, and so is what was not understood."""
        watch = self.watch()
        self.network.join(stream_id(self.control.id), Collector()).send(b"noise")
        stream = self.network.join(stream_id(self.control.id), Collector())
        self.pass_by(1)
        stream.send(b"noise")
        self.pass_by(40)
        self.end(watch)
        (alone,) = [each for each in self.events() if each["event"] == "alone"]
        self.assertGreater(alone["seconds"], 35)
        self.assertEqual(self.events()[-1]["refused"], {"unknown-format": 1})

    def test_files(self) -> None:
        """A map and GeoJSON are there at once, follow the team, and are whole at the end."""
        folder = Path(self.mktemp())
        folder.mkdir()
        watch = self.watch(map=folder / "map.svg", geojson=folder / "team.geojson")
        self.assertIn("nobody has told where they are", (folder / "map.svg").read_text())
        self.party("Anna", location=Location(47.5, 8.25))
        self.pass_by(6)
        self.assertIn(">Anna<", (folder / "map.svg").read_text())
        self.party("Bob", location=Location(47.6, 8.25))
        self.pass_by(0.5)
        self.end(watch)
        self.assertEqual(len(json.loads((folder / "team.geojson").read_text())["features"]), 2)
        self.assertEqual(sorted(each.name for each in folder.iterdir()), ["map.svg", "team.geojson"])

    def test_nowhere(self) -> None:
        """A folder that is not there is an error before anything is joined."""
        with self.assertRaises(LocalError):
            self.watch(map=Path("/nowhere/map.svg"))

    def test_seconds(self) -> None:
        """It ends when the time is over."""
        self.watch(seconds=2)
        self.assertNoResult(self.running)
        self.pass_by(2)
        self.successResultOf(self.running)

    def test_own_clock(self) -> None:
        """Where everybody else agrees on another time, it is ours that is told, once."""
        watch = self.watch(as_json=False)
        for name in ("A", "B", "C"):
            me = Descriptor(Identity(name, display_name=name))
            late = Presence(
                self.clock, manner=Manner(), me=me, wall=lambda: UNIX + 100 + self.clock.seconds()
            )
            late.join(self.network, stream_id(self.control.id))
        self.pass_by(5)
        self.end(watch)
        self.assertEqual(self.out.getvalue().count("this machine's clock seems wrong"), 1)
        self.assertIn("100 s behind everybody else's", self.out.getvalue())
