"""``ice mission`` as a person types it: what it prints, what it writes, how it refuses, and that no key is ever seen."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli import mission_hand, mission_show, mission_source
from ice.cli.mission import COMMANDS, mission
from ice.errors import IceError
from ice.mission import packing
from ice.mission.packing import unpack
from ice.mission.reading import open_mission
from tests.unit.mission.cases import KEY, OTHER_KEY, small, text

KEY_LIKE = re.compile(r"[0-9A-Fa-f]{40,}")


class Case(SynchronousTestCase):
    """An empty folder, and the command run in it."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.patch(packing, "_SCRYPT_N", 2)

    def run_it(self, *words: str | Path, input: str | bytes | None = None) -> Result:
        """``ice mission …``."""
        return CliRunner().invoke(mission, [str(word) for word in words], input=input)

    def ice(self, *words: str | Path, input: str | bytes | None = None, status: int = 0) -> str:
        """The same, which must end with this status; what it printed."""
        result = self.run_it(*words, input=input)
        self.assertEqual(result.exit_code, status, (result.output, result.exception))
        return result.stdout

    def answer(self, *words: str | Path, status: int = 0) -> Any:
        """The same with ``--json``."""
        return json.loads(self.ice(*words, "--json", status=status))

    def refused(self, *words: str | Path, input: str | None = None) -> str:
        """The same, which must end in an error for a person."""
        result = self.run_it(*words, input=input)
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertIsInstance(result.exception, IceError, result.output)
        return str(result.exception)

    def made(self, *words: str) -> Path:
        """A new mission."""
        path = self.base / "demo.json"
        self.ice("new", "Demo", "-g", "Red", "-g", "Blue", *words, "--out", path)
        return path

    def file(self, value: Any, name: str = "m.json") -> Path:
        """A mission of ours in a file."""
        path = self.base / name
        path.write_text(value if isinstance(value, str) else text(value), "utf-8")
        return path

    def password(self, word: str = "geheim") -> Path:
        """A file with a password."""
        return self.file(f"{word}\nsecond line\n", f"{word}.txt")


class New(Case):
    def test_file(self) -> None:
        """The file is readable by its owner alone, holds a mission without remarks, and the next steps are told."""
        path = self.base / "demo.json"
        said = self.ice("new", "Demo", "-g", "Red", "--rallypoint", "rp.test", "--out", path)
        self.assertIn("ice mission qr", said)
        self.assertIsNone(KEY_LIKE.search(said))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        reading = open_mission(str(path))
        self.assertEqual(reading.remarks, ())
        self.assertEqual(
            [str(each.rallypoints[0].host.port) for each in reading.mission.groups], ["7443", "7443"]
        )
        self.ice("check", path)

    def test_not_twice(self) -> None:
        """What is there stays, without --force."""
        path = self.made()
        before = path.read_text("utf-8")
        self.assertIn("--force", self.refused("new", "Demo", "--out", path))
        self.assertEqual(path.read_text("utf-8"), before)
        self.ice("new", "Demo", "--out", path, "--force")
        self.assertNotEqual(path.read_text("utf-8"), before)

    def test_wishes(self) -> None:
        """Options reach the mission; - is standard output; a group is there without being asked for."""
        value = json.loads(
            self.ice(
                "new",
                "Demo",
                "--multicast",
                "239.7.7.7:30000",
                "--cipher",
                "aes-256-cbc",
                "--encoder",
                "1",
                "--framing",
                "60",
                "--out",
                "-",
            )
        )
        found = {group["name"]: group for group in value["groups"]}
        self.assertEqual(list(found), ["Mission Control", "Alpha"])
        self.assertEqual(
            (found["Alpha"]["rx"], found["Alpha"].get("cipher")),
            ({"address": "239.7.7.8", "port": 30002}, None),
        )
        self.assertEqual(found["Alpha"]["txAudio"]["encoder"], 1)

    def test_packed(self) -> None:
        """An .ice file is packed at once."""
        self.ice("new", "Demo", "--out", self.base / "demo.ice")
        self.assertEqual(open_mission(str(self.base / "demo.ice")).mission.name, "Demo")
        self.assertFalse((self.base / "demo.ice").read_text("ascii").startswith("{"))

    def test_refusals(self) -> None:
        """Wrong wishes are refused, and nothing is written."""
        for words in (
            ("--no-multicast",),
            ("--rallypoint", "host:port"),
            ("--multicast", "10.0.0.1:5"),
            ("--encoder", "99"),
            ("-g", "A", "-g", "A"),
        ):
            self.refused("new", "Demo", *words, "--out", self.base / "x.json")
        self.assertEqual(
            self.run_it("new", "Demo", "--no-multicast", "--multicast", "239.1.1.1:5").exit_code, 2
        )
        self.assertFalse((self.base / "x.json").exists())
        self.assertIn("folder", self.refused("new", "Demo", "--out", self.base))


class Show(Case):
    def test_without_keys(self) -> None:
        """Groups in a table that a program can read; keys as yes or no; with --secrets as they are."""
        path = self.file(small(cryptoPassword=KEY, cipher="aes-256-gcm", id=""))
        said = self.ice("show", path)
        self.assertIsNone(KEY_LIKE.search(said))
        rows = [line.split("\t") for line in said.splitlines() if "\t" in line]
        self.assertEqual(rows[0], ["group", "type", "key", "multicast", "rallypoints", "codec", "id"])
        self.assertEqual(
            rows[1][:6], ["Red", "audio", "yes/GCM", "239.9.9.1:20000", "rp.test:7443", "Opus 16, 60 ms"]
        )
        self.assertIn(KEY, self.ice("show", path, "--secrets"))
        self.assertIn("\tno\t", self.ice("show", self.file(small())))
        self.assertIn("yes/CBC", self.ice("show", self.file(small(cryptoPassword=KEY))))

    def test_json(self) -> None:
        """The same for programs."""
        path = self.file(small(cryptoPassword=KEY, id="{X}", idOverride=True))
        found = self.answer("show", path)
        group = found["groups"][0]
        self.assertEqual(
            (group["encrypted"], group["cipher"], group["stream"], group["id"]),
            (True, "aes-256-cbc", "x", "{X}"),
        )
        self.assertNotIn(KEY, json.dumps(found))
        self.assertEqual(self.answer("show", path, "--secrets")["groups"][0]["crypto_password"], KEY)

    def test_strangers_text(self) -> None:
        """Names that would command a terminal are shown without that."""
        said = self.ice("show", self.file(small(name="a\x1b[2Jb", description="\x07")))
        self.assertNotIn("\x1b", said)
        self.assertNotIn("\x07", said)

    def test_a_narrow_terminal(self) -> None:
        """Where the table is too wide, each group is a block of lines: an id that is broken over lines cannot be copied."""
        id = "6c1f8d1e-0a51-5f0f-9c0b-3a8b6a5d2f10"
        row = ("Red", "audio", "yes/GCM", "239.192.1.2:20002", "-", "Opus 16, 20 ms", id)
        for columns, heads in (("80", False), ("160", True)):
            out = io.StringIO()
            with mock.patch.dict(os.environ, {"COLUMNS": columns}), contextlib.redirect_stdout(out):
                mission_show._table([row])
            self.assertIn(id, out.getvalue())
            self.assertEqual("┃" in out.getvalue(), heads)

    def test_remarks_are_mentioned(self) -> None:
        """That there is more to say goes to standard error."""
        result = self.run_it("show", self.file(small(txOptions={"priority": 4})))
        self.assertIn("1 remark about this file; see them with: ice mission check", result.stderr)

    def test_standard_input(self) -> None:
        """- is standard input, in any form."""
        self.assertIn("Red", self.ice("show", "-", input=text(small())))
        self.assertIn("Red", self.ice("show", "-", input=packing.pack_bytes(text(small()))))

    def test_refusals(self) -> None:
        """What is no mission is refused with its place."""
        path = self.file("{\n “a”: 1}")
        self.assertTrue(self.refused("show", path).startswith(f"{path}:2:2: "))
        self.assertIn("no such file", self.refused("show", "nowhere.json"))


class Check(Case):
    def test_well(self) -> None:
        """A mission of ours is well."""
        self.assertIn("all is well", self.ice("check", self.made()))
        self.assertEqual(self.answer("check", self.base / "demo.json"), {"ok": True, "findings": []})

    def test_not_well(self) -> None:
        """Warnings first, then notes; exit status 1; no key."""
        said = self.ice(
            "check", self.file(small(cryptoPassword="AB" * 32, txOptions={"priority": 4})), status=1
        )
        self.assertIn("warning: groups[0].txOptions.priority", said)
        self.assertIn("warning: groups[0].cryptoPassword: repeats", said)
        self.assertIn("3 warnings, 2 notes", said)
        self.assertIsNone(KEY_LIKE.search(said))
        found = self.answer("check", self.base / "m.json", status=1)
        self.assertEqual([each["severity"] for each in found["findings"]], ["warning"] * 3 + ["note"] * 2)

    def test_codecs_that_are_not_carried(self) -> None:
        """Who hands out a mission hears before the first word that nobody can say it here, by the codec's proper name."""
        made = self.base / "M.json"
        self.ice("new", "M", "--group", "Red", "--out", made)
        for encoder, name in ((50, "MELPe 600"), (60, "CVSD"), (4, "G.729A"), (99, "99")):
            value = json.loads(made.read_text())
            value["groups"][0]["txAudio"]["encoder"] = encoder
            other = self.base / f"{encoder}.json"
            other.write_text(json.dumps(value))
            said = self.ice("check", other, status=1)
            self.assertIn("groups[0].txAudio.encoder", said)
            self.assertIn(name, said)

    def test_half_a_place(self) -> None:
        """A group with only one of its two addresses: what becomes of it here and elsewhere."""
        made = self.base / "M.json"
        self.ice("new", "M", "--group", "Red", "--out", made)
        value = json.loads(made.read_text())
        del value["groups"][0]["tx"]
        made.write_text(json.dumps(value))
        self.assertIn(
            "groups[0].tx: is missing: on multicast ice takes rx for it", self.ice("check", made, status=1)
        )

    def test_keys_for_everybody(self) -> None:
        """A file with keys that other users may read is noted with what to type; one without keys may be read by anybody."""
        made, clear = self.base / "M.json", self.base / "clear.json"
        self.ice("new", "M", "--group", "Red", "--out", made)
        self.assertNotIn("chmod", self.ice("check", made))
        made.chmod(0o640)
        self.assertIn(f"(mode 0640): chmod 600 {made}", self.ice("check", made))
        self.ice("new", "M", "--no-mission-control", "--group", "Red", "--clear", "Red", "--out", clear)
        clear.chmod(0o644)
        said = self.run_it("check", clear).output
        self.assertIn("in clear", said)
        self.assertNotIn("chmod", said)

    def test_a_drawing(self) -> None:
        """The SVG that `ice mission qr` draws is no picture that can be read again, and is told so."""
        made, drawn = self.base / "M.json", self.base / "M.svg"
        self.ice("new", "M", "--group", "Red", "--out", made)
        self.ice("qr", made, "--out", drawn)
        self.assertIn("PNG", self.refused("show", drawn))

    def test_half_a_pair(self) -> None:
        """A name with half of a UTF-16 pair is shown, for people and for machines."""
        made = self.base / "M.json"
        made.write_text('{"name": "\\ud800", "groups": [{"type": 1, "name": "\\udfff"}]}')
        self.assertIn("\ufffd", self.ice("show", made))
        self.assertEqual(self.answer("show", made)["name"], "\ud800")
        self.answer("id", made)

    def test_notes_alone(self) -> None:
        """Notes are no failure."""
        self.assertIn("1 note", self.ice("check", self.file(small(type=2))))


class Ids(Case):
    def test_ids(self) -> None:
        """Mission and groups, with what the file says where that is something else."""
        said = self.ice("id", self.file(small(id="old")))
        self.assertIn("1602115d-4eca-561b-a472-04a41f617f52\tDemo\n", said)
        self.assertIn("9eb9582e-d509-5fdf-b2d6-743355f4d532\tRed\tthe file says old\n", said)
        said = self.ice("id", self.file(small(id="mine", idOverride=True)))
        self.assertIn("mine\tRed\toverridden; the recipe gives 9eb9582e", said)
        found = self.answer("id", self.base / "m.json")
        self.assertEqual(
            (found[1]["id"], found[1]["computed"][:8], found[1]["overridden"]), ("mine", "9eb9582e", True)
        )


class Hand(Case):
    def test_pack_and_unpack(self) -> None:
        """An .ice file, for its owner alone; and the JSON again, order and numbers as they were."""
        source = text(small(odd={"z": 1, "a": 2})).replace('"maxTxSecs": 120', '"maxTxSecs": 120.0')
        path, out = self.file(source), self.base / "m.ice"
        self.ice("pack", path, "--out", out)
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o600)
        self.assertEqual(json.loads(unpack(out.read_text("ascii"), "x")), json.loads(source))
        said = self.ice("unpack", out)
        self.assertEqual(list(json.loads(said)["groups"][0]["odd"]), ["z", "a"])
        self.assertIn("120.0", said)
        self.ice("unpack", out, "--out", self.base / "again.json")
        self.assertEqual((self.base / "again.json").read_text("utf-8"), said)
        self.assertEqual(
            open_mission(self.ice("pack", path).strip()).mission, open_mission(str(path)).mission
        )

    def test_sealed(self) -> None:
        """With a password from a file, or asked for twice; without it, it does not open."""
        path, out = self.made(), self.base / "m.ice"
        self.assertIn("sealed", self.ice("pack", path, "--out", out, "--password-file", self.password()))
        self.assertIn("--password", self.refused("show", out))
        self.assertIn("does not open", self.refused("show", out, "--password-file", self.password("falsch")))
        self.assertIn("Red", self.ice("show", out, "--password-file", self.password()))
        self.assertIn("Red", self.ice("show", out, "--password", input="geheim\n"))
        asked = self.ice("pack", path, "--password", input="wort\nwort\n")
        self.assertEqual(open_mission(asked.split()[-1], "wort").mission.name, "Demo")

    def test_passwords_that_are_none(self) -> None:
        """An empty first line, a long one, no file: refused, and what is there is not repeated."""
        path = self.made()
        for content in ("", "\nword\n", "x" * 5000, "\xff"):
            (self.base / "p").write_bytes(content.encode("latin-1"))
            said = self.refused("pack", path, "--password-file", self.base / "p")
            self.assertNotIn("xxxx", said)
        self.refused("pack", path, "--password-file", self.base / "none")

    def test_qr(self) -> None:
        """PNG and SVG into files, characters on standard output; a picture is a mission again."""
        path = self.made()
        for name in ("m.png", "m.svg"):
            self.ice("qr", path, "--out", self.base / name, "--url", "https://ice.example/m")
            self.assertEqual(stat.S_IMODE((self.base / name).stat().st_mode), 0o600)
        self.assertEqual(open_mission(str(self.base / "m.png")).mission, open_mission(str(path)).mission)
        self.assertIn("\u2588", self.ice("qr", path))
        self.ice("qr", path, "--out", self.base / "s.png", "--password-file", self.password())
        self.assertIn("Red", self.ice("show", self.base / "s.png", "--password-file", self.password()))
        self.assertEqual(self.run_it("qr", path, "--out", self.base / "m.pdf").exit_code, 2)

    def test_a_narrow_terminal(self) -> None:
        """A code that would be broken by the terminal's edge is not drawn."""
        self.patch(mission_hand.sys, "stdout", type("Tty", (), {"isatty": lambda self: True})())  # type: ignore[arg-type]
        self.patch(mission_hand.shutil, "get_terminal_size", lambda: os.terminal_size((40, 20)))
        path = self.file(small())
        with self.assertRaises(IceError) as caught:
            assert mission_hand.qr.callback is not None
            mission_hand.qr.callback(
                str(path), out=None, url=None, lean=False, force=False, ask=False, password_file=None
            )
        self.assertIn("columns", str(caught.exception))

    def test_too_large(self) -> None:
        """What does not fit is told with proposals, and --lean is one."""
        value = small()
        value["groups"] = [
            {
                **small()["groups"][0],
                "name": f"{n}",
                "cryptoPassword": f"{n:03}" + KEY[3:],
                "description": f"{n**30}",
            }
            for n in range(90)
        ]
        said = self.refused("qr", self.file(value))
        self.assertIn("2,953", said)
        self.assertIn("all descriptions", said)
        self.ice("pack", self.base / "m.json", "--lean")

    def test_what_is_there_stays(self) -> None:
        """Nothing is overwritten without --force."""
        path = self.made()
        for command in ("pack", "unpack"):
            self.assertIn("--force", self.refused(command, path, "--out", path))
        (self.base / "m.png").touch()
        self.assertIn("--force", self.refused("qr", path, "--out", self.base / "m.png"))
        self.ice("qr", path, "--out", self.base / "m.png", "--force")


class Diff(Case):
    def test_diff(self) -> None:
        """What changed, per group; exit status 1 where something did; no key."""
        one = self.file(small(cryptoPassword=KEY), "a.json")
        other = self.file(small(cryptoPassword=OTHER_KEY, alias="R"), "b.json")
        self.assertEqual(self.ice("diff", one, one), "they say the same\n")
        said = self.ice("diff", one, other, status=1)
        self.assertIn("Red\n", said)
        self.assertIn("  cryptoPassword: a key → another key\n", said)
        self.assertIn('  alias: "R", was not there\n', said)
        self.assertIsNone(KEY_LIKE.search(said))
        self.assertEqual(
            {each["path"] for each in self.answer("diff", one, other, status=1)},
            {"id", "cryptoPassword", "alias"},
        )


class Rekey(Case):
    def test_a_change_from_end_to_end(self) -> None:
        """The next key, told without being shown; the same groups; and its end."""
        path = self.made()
        before = open_mission(str(path)).mission
        said = self.ice("rekey", path, "--at", "3d", "--overlap", "12h")
        self.assertIsNone(KEY_LIKE.search(said))
        self.assertIn("Red: next key from", said)
        during = open_mission(str(path)).mission
        self.assertEqual([group.id for group in during.groups], [group.id for group in before.groups])
        self.assertEqual({group.rekey.overlap_s for group in during.groups if group.rekey}, {43_200.0})
        self.assertIn("fall silent", self.refused("rekey", path, "--finish"))
        self.assertIn("the id stays", self.ice("rekey", path, "--finish", "--force"))
        after = open_mission(str(path))
        self.assertEqual(after.remarks, ())
        self.assertEqual([group.id for group in after.mission.groups], [group.id for group in before.groups])
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_where_it_goes(self) -> None:
        """Into the file itself, JSON or .ice; elsewhere with --out; a packed file of another name is not turned into JSON."""
        path, out = self.made(), self.base / "m.ice"
        self.ice("pack", path, "--out", out, "--password-file", self.password())
        self.ice("rekey", out, "-g", "Red", "--password-file", self.password())
        groups = open_mission(str(out), "geheim").mission.groups
        self.assertEqual([group.rekey is not None for group in groups], [True, False, False])
        self.ice("rekey", path, "--out", self.base / "n.json")
        self.assertIn("--force", self.refused("rekey", path, "--out", self.base / "n.json"))
        self.assertIsNone(open_mission(str(path)).mission.groups[0].rekey)
        (self.base / "m.txt").write_bytes(packing.pack_bytes(path.read_text("utf-8")))
        self.assertIn("is packed", self.refused("rekey", self.base / "m.txt"))
        self.assertIn("--out", self.refused("rekey", "-", input=path.read_text("utf-8")))

    def test_times(self) -> None:
        """Times are ISO 8601 or spans; what is past, or none, is wrong usage."""
        path = self.made()
        for wrong in ("yesterday", "2001-01-01", "999999w", "-3d", "1e9"):
            self.assertEqual(self.run_it("rekey", path, "--at", wrong).exit_code, 2, wrong)
        self.assertEqual(self.run_it("rekey", path, "--overlap", "long").exit_code, 2)
        self.assertEqual(self.run_it("rekey", path, "--finish", "--at", "3d").exit_code, 2)
        self.ice("rekey", path, "--at", "2999-01-01T00:00+02:00")


class Help(Case):
    def test_every_command(self) -> None:
        """Each has help, and is in the list."""
        listed = self.ice("--help")
        for name in COMMANDS:
            self.assertIn(name, listed)
            self.assertIn("Usage", self.ice(name, "--help"))

    def test_no_password_on_the_command_line(self) -> None:
        """--password takes no word."""
        for command in (mission_hand.pack, mission_hand.qr, mission_hand.unpack):
            options = {option: each for each in command.params for option in each.opts}
            self.assertTrue(options["--password"].is_flag)  # type: ignore[attr-defined]
        self.assertEqual(mission_source.given_password(False, None), None)
