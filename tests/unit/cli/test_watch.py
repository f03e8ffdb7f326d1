"""``ice watch``: which groups are meant, what is shown, and the driver on real sockets of loopback."""

import io
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.boards import JsonBoard, LinesBoard, board_for
from ice.cli.watch import Picture, watch
from ice.cli.watch_board import (
    HEADINGS,
    Row,
    ScreenBoard,
    bars,
    drawn,
    plain_table,
    row_of,
)
from ice.cli.watch_groups import Watched, Watchlist, watchlist
from ice.config.load import load
from ice.errors import LocalError
from ice.media.rtp import Packet
from ice.net.addresses import Address
from ice.net.interfaces import InterfaceWatch, interfaces
from ice.net.multicast import MulticastSocket, Place
from ice.streams.activity import Voice
from tests.unit.net.lan import Loop

GROUP = Address("239.255.73.90", 5_990)
OTHER = Address("239.255.73.91", 5_990)


def voice(**more: Any) -> Voice:
    """Somebody."""
    told: dict[str, Any] = {
        "sender": Address("192.0.2.7", 4_000), "ssrc": 0x1A2B3C4D, "codec": "pcmu", "alias": "", "active": True,
        "began_at": 1.0, "heard_at": 5.0, "packets": 200, "bytes": 34_400, "lost": 0, "jitter_ms": 1.25,
        "packets_per_s": 50.0, "kbit_per_s": 68.8, "levels": (0,) * 6 + (1, 25, 50, 90), "burst_packets": 200,
        "burst_lost": 0,
    }  # fmt: skip
    return Voice(**(told | more))


class Groups(SynchronousTestCase):
    def mission(self, **more: Any) -> str:
        path = Path(self.mktemp())
        groups = [
            {"type": 1, "name": "Red", "rx": {"address": "239.9.9.1", "port": 20_000},
             "tx": {"address": "239.9.9.2", "port": 20_000}, "rfc4733RtpPayloadId": 101,
             "txAudio": {"encoder": 1, "customRtpPayloadType": 99}} | more,
            {"type": 1, "name": "Blue", "rx": {"address": "239.9.9.3", "port": 20_000}, "cryptoPassword": "0f" * 32,
             "interfaceName": "eth9", "sourceFilter": ["192.0.2.1"]},
        ]  # fmt: skip
        path.write_text(json.dumps({"name": "Exercise", "id": "x", "groups": groups}))
        return str(path)

    def names(self, found: Watchlist) -> list[tuple[str, str, str]]:
        return [(each.name, str(each.address), each.place.interface) for each in found.groups]

    def test_addresses(self) -> None:
        """Groups by address, with an interface each or one for all; the same one is watched once."""
        found = watchlist(
            ["239.1.2.3:5", "239.1.2.3:5@eth1", "[ff15::1]:5", "239.1.2.3:5"], None, interface="eth0"
        )
        self.assertEqual(
            self.names(found),
            [
                ("239.1.2.3:5", "239.1.2.3:5", "eth0"),
                ("239.1.2.3:5", "239.1.2.3:5", "eth1"),
                ("[ff15::1]:5", "[ff15::1]:5", "eth0"),
            ],
        )
        self.assertEqual(found.groups[0].title, "239.1.2.3:5")

    def test_a_mission(self) -> None:
        """A mission's groups, where they are heard and where they are said, by their names, with their numbers' meanings."""
        found = watchlist([self.mission()], None, interface="eth0")
        self.assertEqual(
            self.names(found),
            [
                ("Red", "239.9.9.1:20000", "eth0"),
                ("Red", "239.9.9.2:20000", "eth0"),
                ("Blue", "239.9.9.3:20000", "eth9"),
            ],
        )
        red, _, blue = found.groups
        self.assertEqual(
            (red.codec_name(99), red.codec_name(101), red.codec_name(98)), ("pcmu", "digits", "type 98")
        )
        self.assertEqual((blue.place.sealed, blue.place.sources), (True, ("192.0.2.1",)))
        self.assertEqual(red.title, "Red (239.9.9.1:20000)")

    def test_what_is_no_group(self) -> None:
        """Unicast places and names are left out with a word, and one address of two names has both."""
        found = watchlist([self.mission(tx={"address": "192.0.2.9", "port": 5}), "239.9.9.1:20000@"], None)
        self.assertEqual(self.names(found)[0], ("Red, 239.9.9.1:20000", "239.9.9.1:20000", ""))
        (remark,) = found.remarks
        self.assertIn("no multicast group", remark)
        found = watchlist([self.mission(rx={"address": "radio.example", "port": 5})], None)
        self.assertIn("a group has a number", found.remarks[0])

    def test_rules(self) -> None:
        """Without words, the reflector's rules: each group that is heard or spoken to, but not what is switched off."""
        path = Path(self.mktemp())
        path.write_text(
            '[reflector]\ninterface = "eth5"\n'
            '[[reflector.rules]]\nstream = "one"\nrx = "239.1.1.1:5000"\ntx = "239.1.1.2:5000"\n'
            '[[reflector.rules]]\nstream = "two"\nrx = "239.1.1.3:5000"\ninterface = "eth6"\nadditional_tx = ["192.0.2.1:7"]\n'
            '[[reflector.rules]]\nstream = "three"\nrx = "239.1.1.4:5000"\nenabled = false\n'
        )
        self.assertEqual(
            self.names(watchlist([], load(path))),
            [
                ("one", "239.1.1.1:5000", "eth5"),
                ("one", "239.1.1.2:5000", "eth5"),
                ("two", "239.1.1.3:5000", "eth6"),
            ],
        )
        path.write_text("")
        with self.assertRaisesRegex(LocalError, r"\[\[reflector.rules\]\]"):
            watchlist([], load(path))
        with self.assertRaisesRegex(LocalError, "no configuration"):
            watchlist([], None)

    def test_slips(self) -> None:
        """A machine's address, a port that is missing and a file that is not there are told apart."""
        for word, said in (
            ("192.0.2.1:5", "no multicast group"),
            ("239.1.2.3", "port"),
            ("239.1.2.3:99999", "port"),
            ("missing.json", "missing.json"),
        ):
            with self.assertRaisesRegex(LocalError, said):
                watchlist([word], None)

    def test_exit_status(self) -> None:
        """A slip is an error before anything is opened."""
        done = CliRunner().invoke(watch, ["192.0.2.1:5"])
        self.assertIsInstance(done.exception, LocalError)


class Boards(SynchronousTestCase):
    def test_a_row(self) -> None:
        """A voice as a line, with units."""
        row = row_of("Red", voice(alias="Anna", lost=10), 6.0)
        self.assertEqual(
            row.cells,
            (
                "Red",
                "Anna (192.0.2.7:4000 1a2b3c4d)",
                "pcmu",
                "50",
                "69",
                "4.8 %",
                "1.2 ms",
                "      ▁▄██",
                "now",
            ),
        )
        self.assertTrue(row.bad and row.active)

    def test_silent_and_unreadable(self) -> None:
        """What is not known, and what is nothing, is not written."""
        told = voice(
            ssrc=None, codec="sealed", jitter_ms=None, active=False, packets_per_s=0.0, kbit_per_s=0.0
        )
        row = row_of("Red", told, 65.0)
        self.assertEqual(
            row.cells[1:7] + row.cells[8:], ("192.0.2.7:4000", "sealed", "", "", "", "", "1 min ago")
        )
        self.assertFalse(row.bad)

    def test_bars(self) -> None:
        """One packet is seen, 50 fill a bar, more is no more."""
        self.assertEqual(bars((0, 1, 25, 50, 5_000)), " ▁▄██")

    def test_terminal_safe(self) -> None:
        """A stranger's name is text, neither control characters nor markup."""
        console = Console(file=io.StringIO(), width=150)
        console.print(drawn([row_of("Red", voice(alias="[red]x\x1b[2J"), 6.0)], "title"))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        self.assertIn("[red]x�[2J", text)
        self.assertEqual(Watched("a\x1b[2Jb", Place(GROUP, GROUP)).title, f"a�[2Jb ({GROUP})")

    def test_table(self) -> None:
        """On a terminal a group's name stands once; in a pipe every line is whole, without the picture."""
        rows = [row_of("Red", voice(ssrc=n), 6.0) for n in (1, 2)] + [Row("Blue", "nobody")]
        console = Console(file=io.StringIO(), width=150)
        console.print(drawn(rows, "who is active"))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        self.assertEqual((text.count("Red"), text.count("▄")), (1, 2))
        lines = plain_table(rows)
        self.assertEqual([line.split()[0] for line in lines], ["group", "Red", "Red", "Blue"])
        self.assertNotIn("last 10 s", lines[0])
        self.assertEqual(len(HEADINGS), len(rows[0].cells))

    def test_faces(self) -> None:
        """JSON where asked for, lines in a pipe, a table on a terminal; events that the table shows are not told there."""
        self.assertIsInstance(board_for(ScreenBoard, "t", as_json=True, out=io.StringIO()), JsonBoard)
        self.assertIsInstance(board_for(ScreenBoard, "t", as_json=False, out=io.StringIO()), LinesBoard)
        out = io.StringIO()
        screen = ScreenBoard(Console(file=out, force_terminal=True, width=150), "who is active")
        screen.say("path", "listening")
        screen.say("began", "somebody begins")
        screen.rows([row_of("Red", voice(), 6.0)])
        screen.meters([])
        screen.close()
        self.assertIn("listening", out.getvalue())
        self.assertNotIn("somebody", out.getvalue())


class Driver(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.machine = dict(interfaces())
        if not self.machine["lo"].up:
            self.skipTest("loopback is down here")
        self.watch = InterfaceWatch(self.loop, look=lambda: dict(self.machine))
        self.out = io.StringIO()

    def picture(self, board: Any, *groups: Watched) -> Picture:
        made = Picture(self.loop, groups, board, interfaces=self.watch)
        made.start()
        self.addCleanup(made.stop)
        return made

    def talker(self, at: Address) -> MulticastSocket:
        made = MulticastSocket(
            self.loop, Place(at, at, "lo", ttl=0), None, lambda up, why: None, listen=False, watch=self.watch
        )
        made.start()
        self.addCleanup(made.stop)
        return made

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def say(self, mouth: MulticastSocket, picture: Picture, count: int, packets: int = 0) -> None:
        """Packets every 20 ms, all heard."""
        for number in range(count):
            mouth.send(Packet(0, number, number * 160, 7, bytes(160)).encode())
            self.loop.advance(0.02)
        self.loop.until(lambda: sum(each.activity.packets for each in picture._groups) >= packets + count)

    def test_heard(self) -> None:
        """Who talks on one of two groups begins, ends, and stands in the summary, on that group alone."""
        place = Place(GROUP, GROUP, "lo", ttl=0)
        picture = self.picture(
            JsonBoard(self.out), Watched("Red", place), Watched("Blue", Place(OTHER, OTHER, "lo", ttl=0))
        )
        mouth = self.talker(GROUP)
        self.say(mouth, picture, 20)
        picture.look()
        self.loop.advance(1.0)
        picture.look()
        self.assertEqual(picture.summarise(table=False), 0)
        events = self.events()
        self.assertEqual([each["event"] for each in events], ["path", "path", "began", "ended", "summary"])
        began, ended, summary = events[2:]
        self.assertEqual((began["name"], began["group"], began["codec"]), ("Red", str(GROUP), "pcmu"))
        self.assertEqual((began["ssrc"], began["interface"], began["active"]), ("00000007", "lo", True))
        self.assertEqual((ended["burst_packets"], ended["burst_lost"], ended["active"]), (20, 0, False))
        self.assertEqual((summary["voices"], summary["packets"], summary["dropped"]), (1, 20, 0))
        self.assertEqual([len(each["voices"]) for each in summary["groups"]], [1, 0])

    def test_lines(self) -> None:
        """In a pipe each event is a sentence, and the table is printed when it is asked for."""
        picture = self.picture(LinesBoard(self.out), Watched("Red", Place(GROUP, GROUP, "lo", ttl=0)))
        self.say(self.talker(GROUP), picture, 5)
        picture.look()
        self.assertRegex(
            self.out.getvalue(), r"listening: joined \S+ on lo\nRed \(\S+\): \S+ 00000007 begins \(pcmu\)\n"
        )
        rows = picture.rows(self.loop.seconds())
        self.assertEqual([(row.codec, row.heard) for row in rows], [("pcmu", "now")])
        self.loop.advance(61.0)
        self.assertEqual([row.who for row in picture.rows(self.loop.seconds())], ["nobody"])

    def test_trouble(self) -> None:
        """A group that cannot be heard says why, in the table and at the end; and when it can be heard after all."""
        picture = self.picture(LinesBoard(self.out), Watched("Red", Place(GROUP, GROUP, "nix")))
        self.assertIn("cannot listen to Red", self.out.getvalue())
        (row,) = picture.rows(0.0)
        self.assertTrue(row.trouble and "no interface nix" in row.who)
        with self.assertRaisesRegex(LocalError, "no interface nix"):
            picture.summarise(table=False)
        self.machine["nix"] = self.machine["lo"]
        self.watch._look()
        self.assertIn("listening: joined", self.out.getvalue())
        self.assertEqual(picture.summarise(table=False), 0)
