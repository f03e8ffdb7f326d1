"""Opening a mission from whatever a person has."""

import io
from pathlib import Path

import segno
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import IceError, LocalError
from ice.mission import packing
from ice.mission.packing import PasswordNeeded, WrongPassword, deflected, pack, pack_bytes
from ice.mission.reading import Reading, open_mission, read_mission
from ice.mission.tolerant import MissionError
from tests.unit.mission.cases import SMALL, text

JSON = text(SMALL)
PACKED = pack(JSON)
MISSION = read_mission(JSON, "x").mission


class Opening(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp())
        self.base.mkdir()
        self.patch(packing, "_SCRYPT_N", 2)

    def file(self, data: bytes | str, name: str = "m") -> str:
        """A file with these contents."""
        path = self.base / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def refused(self, given: str, password: str | None = None) -> str:
        """What is said when it cannot be opened."""
        with self.assertRaises(IceError) as caught:
            open_mission(given, password)
        return str(caught.exception)

    def test_ways(self) -> None:
        """JSON, packed text, a link: as a file or as text; packed bytes as a file. Names of files say nothing."""
        link = deflected("https://ice.example/m", PACKED)
        for found in (JSON, PACKED, link, f"\n{PACKED}\n", f" {link} "):
            self.assertEqual(open_mission(found).mission, MISSION)
            self.assertEqual(open_mission(self.file(found, "x.png")).mission, MISSION)
        for data in (pack_bytes(JSON), b"\xef\xbb\xbf" + JSON.encode(), JSON.encode("utf-16")):
            self.assertEqual(open_mission(self.file(data)).mission, MISSION)
        wrapped = "\n".join(PACKED[at : at + 76] for at in range(0, len(PACKED), 76))
        self.assertEqual(open_mission(self.file(wrapped)).mission, MISSION)

    def test_sealed(self) -> None:
        """A sealed one wants its password, from wherever it comes."""
        for found in (pack(JSON, "word"), deflected("https://x", pack(JSON, "word"))):
            self.assertEqual(open_mission(found, "word").mission, MISSION)
            self.assertEqual(open_mission(self.file(found), "word").mission, MISSION)
            self.assertRaises(PasswordNeeded, open_mission, found)
            self.assertRaises(WrongPassword, open_mission, self.file(found), "other")
        sealed = self.file(pack_bytes(JSON, "word"))
        self.assertEqual(open_mission(sealed, "word").mission, MISSION)

    def test_sealed_by_every_salt(self) -> None:
        """The first letters of a sealed mission come from its random salt; those that JSON begins with are no exception."""
        beginnings = set()
        for first in range(32):  # of the salt's bits, so many are in the first letter
            sealed = pack(JSON, "word", random_bytes=lambda count, first=first: bytes([first]) * count)
            beginnings.add(sealed[0])
            self.assertEqual(open_mission(self.file(sealed), "word").mission, MISSION)
        self.assertIn("[", beginnings)

    def test_lists_are_no_missions(self) -> None:
        """What is JSON but a list is told as such, not as a packed mission gone wrong."""
        for found in ("[]", '[{"host": {}}]', "[1, 2]", " [\n]"):
            self.assertIn("found a list", self.refused(self.file(found)))

    def test_pictures_of_other_contents(self) -> None:
        """A code may hold JSON, or packed bytes, as well."""
        for data in (JSON.encode(), pack_bytes(JSON)):
            code = io.BytesIO()
            segno.make(data, mode="byte", micro=False).save(code, kind="png", scale=4)
            self.assertEqual(open_mission(self.file(code.getvalue())).mission, MISSION)

    def test_no_file(self) -> None:
        """A name of nothing is a name of nothing, not a broken mission."""
        self.assertIn("no such file", self.refused("missions/demo.json"))
        self.assertRaises(LocalError, open_mission, "demo")
        self.assertRaises(LocalError, open_mission, "")

    def test_a_folder(self) -> None:
        """A folder cannot be read."""
        self.assertIn("cannot be read", self.refused(str(self.base)))

    def test_names_of_files_in_errors(self) -> None:
        """An error names the file, and the line in it."""
        path = self.file("{\n  “name”: 1}")
        self.assertTrue(self.refused(path).startswith(f"{path}:2:3: found the typographic quote"))
        path = self.file(PACKED[:100])
        self.assertTrue(self.refused(path).startswith(f"{path}: "))

    def test_files_of_something_else(self) -> None:
        """Text, nothing, zeros, another program's JSON: refused by name."""
        for data in (
            b"",
            b"hello",
            b"\0" * 100,
            b"[]",
            b"{}",
            b'// x\n{"groups": []}',
            "grüß".encode(),
            b"\xff\xfe\xfd",
            b"\x01",
            b"\x1f",
        ):
            with self.assertRaises(MissionError, msg=repr(data)):
                open_mission(self.file(data))
        self.assertIn("comments", self.refused(self.file('// mine\n{"groups": []}')))

    def test_a_reading_hides_its_keys(self) -> None:
        """Neither a reading nor its remarks show a key."""
        reading = open_mission(JSON)
        self.assertIsInstance(reading, Reading)
        self.assertNotIn("cryptoPassword='", repr(reading))
