"""``ice election simulate``: arguments and scripts become a timeline, in words, in JSON, as a picture."""

import json
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.election import election
from ice.errors import LocalError


class Simulate(SynchronousTestCase):
    def ask(self, *words: object) -> Result:
        result = CliRunner().invoke(election, ["simulate", *map(str, words)])
        if result.exception is not None and not isinstance(result.exception, SystemExit | LocalError):
            raise result.exception
        return result

    def test_words(self) -> None:
        """A leader dies, another leads: line by line, and the sum."""
        lines = self.ask("50 kill a").stdout.splitlines()
        leads = [line for line in lines if " leads: " in line]
        self.assertEqual(len(leads), 2)
        self.assertTrue(leads[1].split()[2] == "b", leads)
        self.assertIn("kill a", "\n".join(lines))
        self.assertEqual(lines[-1], "two never led at once")

    def test_json(self) -> None:
        """The same for machines; the documented rule has two leaders where some are not heard."""
        for words, leading in (((), ["b"]), (("--documented",), ["a", "b"])):
            told = json.loads(self.ask("50 cut a>b a>c", "--for", "20c", "--json", *words).stdout)
            self.assertEqual(told["leading"], leading)
            self.assertEqual(bool(told["overlaps"]), len(leading) > 1)
            self.assertEqual((told["length_s"], told["rules"]["exclusive"]), (200.0, not words))

    def test_script(self) -> None:
        """Steps from a file, a picture into one."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "steps").write_text("5c stop a\n8c start a # again\n")
        picture = folder / "a.svg"
        result = self.ask(
            "--script", folder / "steps", "--cycle", 0.1, "--picture", picture, "--members", 5, "--all"
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("stop a", picture.read_text("utf-8"))

    def test_mistakes(self) -> None:
        """Mistakes are sentences."""
        for words, said in (
            (["5 kill z"], "there is no member z"), (["--for", "soon"], "--for"), (["--for", "1000000c"], "at most"), (["--script", "/none"], "no such script"), (["--script", "/dev/zero"], "at most 1000000 bytes"),
            (["--picture", "a.gif"], ".svg or a .png"),
        ):  # fmt: skip
            self.assertIn(said, str(self.ask(*words).exception))
