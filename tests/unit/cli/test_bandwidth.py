"""``ice bandwidth``: what is asked for is found, and said in a table, in JSON and in a chart."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.bandwidth import bandwidth, find_encoders
from ice.errors import LocalError

MISSION = {
    "meta": {"type": "ICE-MISSION", "version": 1, "created": "2026-01-01T00:00:00.000Z"},
    "name": "Demo",
    "groups": [
        {
            "type": 1, "name": "Red", "idOverride": False, "rx": {"address": "239.9.9.1", "port": 20000},
            "tx": {"address": "239.9.9.1", "port": 20000}, "txAudio": {"encoder": 29, "framingMs": 20, "noHdrExt": True},
            "cryptoPassword": "ab" * 32, "rallypoints": [{"host": {"address": "rp.test", "port": 7443}}],
        },
        {
            "type": 2, "name": "Control", "idOverride": False, "rx": {"address": "239.9.9.2", "port": 20002},
            "tx": {"address": "239.9.9.2", "port": 20002}, "presence": {"intervalSecs": 20},
        },
    ],
}  # fmt: skip


class Bandwidth(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.mission = self.folder / "demo.json"
        self.mission.write_text(json.dumps(MISSION))

    def ask(self, *words: object) -> Result:
        result = CliRunner().invoke(bandwidth, [str(word) for word in words], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit | LocalError):
            raise result.exception
        return result

    def answer(self, *words: object) -> Any:
        result = self.ask(*words, "--json")
        self.assertEqual(result.exit_code, 0, result.output)
        return json.loads(result.stdout)

    def test_encoders(self) -> None:
        """By number, by whole name, by a piece of a name, whatever its case and signs; else the names are told."""
        self.assertEqual(find_encoders(["21"]), [21])
        self.assertEqual(find_encoders(["opus 16"]), [25])
        self.assertEqual(find_encoders(["OPUS16", "25"]), [25])
        self.assertEqual(find_encoders(["g.711"]), [1, 2])
        self.assertEqual(len(find_encoders(["opus"])), 10)
        self.assertIn("Opus", str(self.assertRaises(LocalError, find_encoders, ["ilbc"])))
        self.assertEqual(find_encoders(["0"]), [0])

    def test_codecs(self) -> None:
        """Without arguments the codecs and framings of the documented tables, in all ciphers, both carriers."""
        answer = self.answer()
        self.assertEqual(len(answer["streams"]), 8 * 4)
        row = next(
            each for each in answer["streams"] if (each["codec"], each["framing_ms"]) == ("Opus 24", 20)
        )
        amounts = {
            way: {seal: each["kbits_per_s"] for seal, each in row["rates"][way].items()}
            for way in row["rates"]
        }
        self.assertEqual(amounts["multicast"], {"clear": 45.6, "aes-256-cbc": 55.2, "aes-256-gcm": 57.6})
        self.assertEqual(amounts["rallypoint"], {"clear": 73.6, "aes-256-cbc": 83.2, "aes-256-gcm": 85.6})
        self.assertEqual(row["original_tls_kbits_per_s"], {"clear": 64.0, "aes-256-cbc": 73.6})

    def test_table(self) -> None:
        """The table says the same to people."""
        lines = self.ask("--codec", "opus 24", "--framing", 20).stdout.splitlines()
        self.assertEqual(
            lines[4].split(),
            ["Opus", "24", "20", "60", "50.0", "45.6", "55.2", "57.6", "73.6", "83.2", "85.6"],
        )

    def test_ipv6_and_extension(self) -> None:
        """IPv6 costs 20 bytes a packet more, an alias its header extension on each tenth."""
        plain, six, named = (
            self.answer("--codec", "opus 24", "--framing", 20, *more)["streams"][0]["rates"]["multicast"][
                "clear"
            ]["octets_per_packet"]
            for more in ((), ("--ipv6",), ("--alias", "Ann"))
        )
        self.assertEqual((six - plain, round(named - plain, 2)), (20, 1.2))

    def test_mission(self) -> None:
        """A mission's groups in their own ciphers and ways, its mission control, and all of it against the plan."""
        answer = self.answer(self.mission)
        (red,) = answer["streams"]
        self.assertEqual((red["name"], red["cipher"]), ("Red", "aes-256-cbc"))
        self.assertEqual(red["rates"]["multicast"]["aes-256-cbc"]["kbits_per_s"], 55.2)
        (control,) = answer["presence"]
        self.assertEqual((control["interval_s"], control["rallypoint"]), (20, None))
        self.assertFalse(answer["all_groups"]["within_plan"])
        said = self.ask(self.mission).stdout
        self.assertIn("Control: each member tells of himself every 20 s", said)
        self.assertIn("over the plan of 64 kbit/s", said)

    def test_site(self) -> None:
        """A site, of a mission or of channels alike: places, usual and peak."""
        answer = self.answer(
            "--users", 200, "--channels", 12, "--talking", 10, "--joined", 1, "--rallypoints", 3
        )
        self.assertEqual((answer["channels"], answer["joined"], answer["busy_peak"]), (12, 1, 12))
        self.assertIn("a mesh link, one way", answer["loads"])
        self.assertTrue(answer["user_within_plan"])
        said = self.ask("--users", 200, "--channels", 12, "--joined", 1).stdout
        self.assertTrue(said.startswith("200 users, 12 channels, 10% talking:"))
        self.assertIn("is within the plan of 64 kbit/s", said)
        self.assertEqual(self.answer(self.mission, "--users", 20)["channels"], 1)

    def test_charts(self) -> None:
        """Each plan can be drawn."""
        for index, words in enumerate(((), (self.mission,), ("--users", 5))):
            for ending in ("svg", "png"):
                path = self.folder / f"{index}.{ending}"
                self.assertEqual(self.ask(*words, "--chart", path).exit_code, 0)
                self.assertGreater(path.stat().st_size, 500)

    def test_refusals(self) -> None:
        """What contradicts itself is said, not planned."""
        for words, piece in (
            ((self.mission, "--codec", "opus"), "a mission says itself"),
            ((self.folder / "none.json",), "no such file"),
            (("nothing",), "no such mission file"),
            (("--users", 5, "--codec", "opus"), "give one --codec"),
            (("--users", 5, "--channels", 2, "--joined", 3), "at most all 2"),
            ((self.mission, "--measure"), "leave out the mission"),
            (("--chart", self.folder / "a.gif"), ".svg or a .png"),
        ):
            error = self.ask(*words).exception
            self.assertIsInstance(error, LocalError)
            self.assertIn(piece, str(error))
