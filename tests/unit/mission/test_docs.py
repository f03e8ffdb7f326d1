"""The programs in docs/missions.md do what the page says, beside ours."""

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.mission.packing import pack, unpack
from ice.mission.reading import read_mission
from ice.mission.writing import write_mission
from tests.unit.mission.cases import KEY, OTHER_KEY, WHOLE, small, text

PAGE = Path(__file__).parents[3] / "docs" / "missions.md"
ROOT = PAGE.parents[1]


class Page(SynchronousTestCase):
    def setUp(self) -> None:
        self.unpacker, self.packer, self.reader = re.findall(
            r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
        )

    def run_it(self, program: str, given: str, cwd: Path | None = None) -> str:
        """What a program prints, run by itself."""
        done = subprocess.run(
            [sys.executable, *([] if cwd else ["-I"]), "-c", program],
            input=given.encode(),
            capture_output=True,
            check=False,
            cwd=cwd,
            env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        )
        self.assertEqual(done.stderr.decode(), "")
        return done.stdout.decode()

    def test_nothing_of_ours(self) -> None:
        """Both scripts need Python alone, and are short."""
        for program in (self.unpacker, self.packer):
            self.assertEqual(re.findall(r"^import (.*)$", program, re.MULTILINE), ["gzip, sys"])
            self.assertLess(len([line for line in program.splitlines() if line]), 15)

    def test_theirs_unpacks_ours(self) -> None:
        """What we pack, the script unpacks; lengths of every remainder."""
        for value in (
            small(),
            WHOLE,
            *(small(description="x" * length, cryptoPassword=KEY[: 64 - 2 * length]) for length in range(8)),
        ):
            source = text(value)
            self.assertEqual(self.run_it(self.unpacker, pack(source) + "\n"), source + "\n")

    def test_ours_unpacks_theirs(self) -> None:
        """What the script packs, we unpack and read."""
        for value in (small(), WHOLE, small(cryptoPassword=OTHER_KEY, name="Grün")):
            source = write_mission(read_mission(text(value), "x").mission)
            packed = self.run_it(self.packer, source)
            self.assertEqual(unpack(packed, "x"), source)

    def test_the_reader(self) -> None:
        """The third prints the groups, and no key."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "Demo.json").write_text(text(small(cryptoPassword=KEY)), "utf-8")
        said = self.run_it(self.reader, "", folder)
        self.assertIn("Red", said)
        self.assertNotIn(KEY, said)
