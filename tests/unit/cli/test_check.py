"""``ice check``: what is printed, where, and with which exit status."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.check import check
from ice.security.authority import Authority
from ice.security.certificates import Role


class Checking(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "ice.toml"
        self.file.write_text("")

    def site(self) -> None:
        """Make the certificates of a whole site."""
        now = datetime.now(UTC)  # the command asks the clock of the machine
        authority = Authority.create(self.folder / "pki", now)
        authority.issue("client", Role.CLIENT, now)
        authority.issue("rallypoint", Role.RALLYPOINT, now)

    def run_check(self, *words: str) -> Result:
        return CliRunner().invoke(check, ["--config", str(self.file), *words])

    def test_well(self) -> None:
        """A whole site is well: one line, exit status 0."""
        self.site()
        result = self.run_check()
        self.assertEqual((result.stdout, result.exit_code), (f"{self.file}: all is well\n", 0))

    def test_all_errors(self) -> None:
        """All mistakes of a file are printed as file, line, key and message; exit status 1."""
        self.file.write_text('[media]\ncodek = "opus"\n[rallypoint]\nlisten = ["127.0.0.1:0"]\n')
        result = self.run_check()
        self.assertEqual(
            result.stdout,
            f"error: {self.file}:2: media.codek: unknown key; did you mean 'codec'?\n"
            f"error: {self.file}:4: rallypoint.listen: port 0 is not in 1–65535\n"
            "2 errors\n",
        )
        self.assertEqual(result.exit_code, 1)

    def test_first_start(self) -> None:
        """Without certificates it says exactly what to type."""
        result = CliRunner(env={"ICE_CONFIG": str(self.file)}).invoke(check, [])
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stdout.count("    to do: ice pki init\n"), 3)
        self.assertTrue(result.stdout.endswith(f"{self.file}: 3 errors\n"))

    def test_warnings_are_no_failure(self) -> None:
        """Warnings are printed, and the exit status is 0."""
        self.site()
        self.file.write_text('[rallypoint]\nlisten = ["0.0.0.0:7443"]')
        result = self.run_check()
        self.assertEqual(result.exit_code, 0)
        self.assertIn(
            f"warning: {self.file}:2: rallypoint.listen: 0.0.0.0:7443 listens on every", result.stdout
        )
        self.assertTrue(result.stdout.endswith("1 warning\n"))

    def test_purpose(self) -> None:
        """--for asks for the certificates of what the machine is for."""
        self.site()
        (self.folder / "pki/rallypoint.pem").unlink()
        self.assertEqual(self.run_check().exit_code, 0)
        self.assertEqual(self.run_check("--for", "client").exit_code, 0)
        self.assertEqual(self.run_check("--for", "rallypoint").exit_code, 1)

    def test_print(self) -> None:
        """--print writes the effective configuration, and only it, to standard output."""
        self.site()
        result = self.run_check("--print")
        self.assertEqual(result.exit_code, 0)
        shown = tomllib.loads(result.stdout)
        self.assertEqual(shown["rallypoint"]["limits"]["joins"], 256)
        self.assertEqual(shown["identity"]["key"], str(self.folder / "pki/client.key"))
        self.assertNotIn("PRIVATE KEY", result.stdout)
        self.assertEqual(result.stderr, f"{self.file}: all is well\n")

    def test_print_of_a_bad_file(self) -> None:
        """A bad file has no effective configuration: nothing on standard output."""
        self.file.write_text("x = 1")
        result = self.run_check("--print")
        self.assertEqual((result.stdout, result.exit_code), ("", 1))

    def test_json(self) -> None:
        """--json answers with one object: ok, the file, the findings, and with --print the configuration."""
        self.site()
        self.file.write_text('[rallypoint]\n\nlisten = ["0.0.0.0:7443"]')
        result = self.run_check("--json", "--print")
        answer = json.loads(result.stdout)
        self.assertEqual((answer["ok"], answer["file"], result.exit_code), (True, str(self.file), 0))
        (found,) = answer["findings"]
        self.assertEqual(
            (found["severity"], found["line"], found["key"]), ("warning", 3, "rallypoint.listen")
        )
        self.assertEqual(answer["config"]["rallypoint"]["listen"], ["0.0.0.0:7443"])

    def test_json_of_a_bad_file(self) -> None:
        """A bad file is an answer too."""
        self.file.write_text("x = 1")
        result = self.run_check("--json")
        answer = json.loads(result.stdout)
        self.assertEqual((answer["ok"], answer["file"], result.exit_code), (False, None, 1))
        self.assertEqual(answer["findings"][0]["file"], str(self.file))
