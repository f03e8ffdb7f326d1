"""The demo's folder, its verdict and its reading of others' output; the demo itself is a system test."""

import fcntl
import json
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.demo import MARK, Heard, _beside_python, _events, _reserved, _tidy, demo
from ice.cli.processes import Child
from ice.cli.trace import Comparison
from ice.errors import LocalError


def heard(sent: int = 300, lost: int = 0, similarity: float = 0.95) -> Heard:
    return Heard("Anna", Comparison(sent, sent - lost, lost, 0, ()), 0, similarity)


class VerdictTests(SynchronousTestCase):
    def test_arrived(self) -> None:
        """Speech has arrived when its packets have, and it sounds like what was said; nothing said is nothing arrived."""
        self.assertTrue(heard().arrived)
        self.assertTrue(heard(lost=3).arrived)
        self.assertFalse(heard(lost=4).arrived)
        self.assertFalse(heard(similarity=0.5).arrived)
        self.assertFalse(heard(sent=0).arrived)


class FolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_ours_alone(self) -> None:
        """A folder is made, marked, and emptied at the next demo; a second demo at the same time is turned away."""
        with _reserved(self.folder) as folder:
            self.assertTrue(folder.is_absolute())
            (folder / "site").mkdir()
            (folder / "site" / "ice.toml").write_text("")
            with self.assertRaises(LocalError) as raised, _reserved(self.folder):
                pass
            self.assertIn("another demo is running", str(raised.exception))
        with _reserved(self.folder) as folder:
            self.assertEqual([path.name for path in folder.iterdir()], [MARK])

    def test_somebody_elses(self) -> None:
        """A folder with anybody's files is never emptied."""
        self.folder.mkdir()
        (self.folder / "thesis.txt").write_text("years of work")
        result = CliRunner().invoke(demo, ["--folder", str(self.folder)], standalone_mode=False)
        self.assertIsInstance(result.exception, LocalError)
        self.assertIn("not empty", str(result.exception))
        self.assertEqual((self.folder / "thesis.txt").read_text(), "years of work")

    def test_lock_goes_with_us(self) -> None:
        """The folder is free again when the demo has ended."""
        with _reserved(self.folder):
            pass
        with (self.folder.absolute() / MARK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_no_folder(self) -> None:
        """A place where no folder can be is told."""
        with self.assertRaises(LocalError) as raised, _reserved(Path("/proc/demo")):
            pass
        self.assertIn("/proc/demo", str(raised.exception))

    def test_tidy(self) -> None:
        """What a person wants to hear and see stays; a link to a folder is not followed."""
        self.folder.mkdir()
        other = Path(self.mktemp())
        other.mkdir()
        (other / "kept").write_text("")
        for name in (MARK, "heard.wav", "speech.png", "listener.log"):
            (self.folder / name).write_text("")
        (self.folder / "site").mkdir()
        (self.folder / "link").symlink_to(other.absolute())
        _tidy(self.folder)
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()), [MARK, "heard.wav", "speech.png"]
        )
        self.assertTrue((other / "kept").exists())


class OutputTests(SynchronousTestCase):
    def test_events(self) -> None:
        """Events are found among other lines, also when the last one is only half written."""
        output = Path(self.mktemp())
        lines = [
            json.dumps({"event": "path", "up": True}), "a warning", "[1]", '"path"', json.dumps({"event": "began"}), '{"event": "pa',
        ]  # fmt: skip
        child = Child("printer", ["printf", "%s", "\n".join(lines)], output=output)
        child._process.wait()
        self.assertEqual(_events(child, "path"), [{"event": "path", "up": True}])

    def test_twistd(self) -> None:
        """The daemon runs by this environment's own twistd; a program that is nowhere is told."""
        self.assertTrue(Path(_beside_python("twistd")).exists())
        self.assertRaises(LocalError, _beside_python, "no-such-program-anywhere")
