"""``ice import``: what is printed where, what is written, and that nothing is when anything is wrong."""

import json
import os
import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.import_ import import_
from ice.cli.main import COMMANDS
from ice.config.load import loads
from ice.config.reference import template

DATA = Path(__file__).parents[1] / "engage/data"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


class Importing(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.out = self.folder / "ice.toml"

    def run_import(self, *words: object) -> Result:
        return CliRunner().invoke(import_, list(map(str, words)))

    def file(self, name: str, value: object) -> Path:
        path = self.folder / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    def test_in_the_list(self) -> None:
        """It is a subcommand of ice."""
        self.assertEqual(COMMANDS["import"][0], "ice.cli.import_:import_")

    def test_printed(self) -> None:
        """The configuration goes to standard output, ready to be read; the report to standard error."""
        result = self.run_import(DATA / "rallypointd_conf.json")
        self.assertEqual(result.exit_code, 0)
        loads(result.stdout, self.out)
        self.assertIn("taken over with a change (", result.stderr)
        self.assertIn("listenPort → rallypoint.listen", result.stderr)
        self.assertIn("nsm (3 values): does not apply:", result.stderr)
        self.assertIn("to do by hand", result.stderr)
        self.assertNotIn("halyard", result.output)

    def test_json(self) -> None:
        """For machines: every entry with path, fate and reason, and the text."""
        result = self.run_import("--json", DATA / "peers.json")
        answer = json.loads(result.stdout)
        self.assertTrue(answer["ok"])
        (file,) = answer["files"]
        self.assertEqual(file["kind"], "peering")
        self.assertIn(
            {
                "path": "peers[0].id",
                "fate": "taken over",
                "ours": "groups.members.id",
                "why": None,
                "text": "",
                "values": 1,
            },
            file["entries"],
        )
        self.assertIn("groups", tomllib.loads(answer["toml"]))

    def test_new_file(self) -> None:
        """A new file is written for its owner alone, also into a folder."""
        for out in (self.out, self.folder):
            self.out.unlink(missing_ok=True)
            result = self.run_import(DATA / "policy.json", "--out", out)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(self.out.stat().st_mode & 0o777, 0o600)
            self.assertEqual(loads(self.out.read_text(), self.out).config.multicast.interface, "ens19")
            self.assertIn("ice check --config", result.stdout)

    def test_existing_file(self) -> None:
        """An existing file keeps its mode and what it says; a link to it goes on being one."""
        self.out.write_text(template().replace("[multicast]\n", '[multicast]\ninterface = "wlan0"\n'))
        self.out.chmod(0o640)
        link = self.folder / "link.toml"
        os.symlink(self.out, link)
        result = self.run_import(DATA / "policy.json", "--out", link)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn('conflict: multicast.interface: the file says "wlan0" and keeps it', result.stdout)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o640)
        config = loads(self.out.read_text(), self.out).config
        self.assertEqual((config.multicast.interface, config.multicast.rejoin_s), ("wlan0", 5.0))
        again = self.run_import(DATA / "policy.json", "--out", link)
        self.assertIn("nothing to add", again.stdout)
        forced = self.run_import(DATA / "policy.json", "--out", link, "--force")
        self.assertEqual(forced.exit_code, 0)
        self.assertEqual(loads(self.out.read_text(), self.out).config.multicast.interface, "ens19")

    def test_nothing_after_an_error(self) -> None:
        """One file that cannot be read, and nothing is written; all faults are told."""
        broken = self.file("broken.json", '{"listenPort": 7443,\n "id" "x"}')
        odd = self.file("odd.json", {"hello": 1})
        result = self.run_import(
            DATA / "policy.json", broken, odd, self.folder / "absent.json", self.folder, "--out", self.out
        )
        self.assertEqual(result.exit_code, 1)
        self.assertFalse(self.out.exists())
        self.assertIn(f"error: {broken}:2:", result.stderr)
        self.assertIn(f"error: {odd}: no key in it tells what it is", result.stderr)
        self.assertIn("absent.json: cannot be read: No such file", result.stderr)
        self.assertIn("Is a directory", result.stderr)
        self.assertIn("nothing is written", result.stderr)
        answer = json.loads(self.run_import("--json", broken).stdout)
        self.assertEqual((answer["ok"], answer["toml"], len(answer["errors"])), (False, None, 1))

    def test_broken_target(self) -> None:
        """A configuration that does not hold is left alone, with its own faults."""
        self.out.write_text("[log]\nlevle = 'info'\n")
        result = self.run_import(DATA / "policy.json", "--out", self.out)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("did you mean 'level'?", result.stderr)
        self.assertEqual(self.out.read_text(), "[log]\nlevle = 'info'\n")

    def test_kind(self) -> None:
        """--as insists on what a file is."""
        odd = self.file("odd.json", {"hello": 1})
        result = self.run_import("--as", "rallypoint", odd)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("hello: unknown here", result.stderr)
        self.assertEqual(self.run_import("--as", "mission", self.file("list.json", [{}])).exit_code, 1)

    def test_certificates(self) -> None:
        """Certificates that stand in a file are written only when asked for, for their owner alone, and never over others."""
        file = self.file("rp.json", {"listenPort": 7443, "certificate": {"certificate": PEM, "key": PEM}})
        pki = self.folder / "pki"
        self.assertEqual(self.run_import(file).exit_code, 0)
        self.assertFalse(pki.exists())
        result = self.run_import(file, "--write-certificates", pki)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(sorted(path.name for path in pki.iterdir()), ["rallypoint.key", "rallypoint.pem"])
        self.assertEqual((pki / "rallypoint.key").read_text(), PEM)
        for path in pki.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertNotIn("MIIB", result.output)
        again = self.run_import(file, "--write-certificates", pki, "--out", self.out)
        self.assertEqual(again.exit_code, 1)
        self.assertIn("already there", again.stderr)
        self.assertFalse(self.out.exists())

    def test_peers_as_file(self) -> None:
        """A peering file may be used as it stands."""
        result = self.run_import("--peers", "file", DATA / "peers.json")
        name = tomllib.loads(result.stdout)["rallypoint"]["mesh"]["peering_file"]
        self.assertTrue(os.path.samefile(name, DATA / "peers.json"))

    def test_nothing_is_followed(self) -> None:
        """A file that names others, and commands, touches none of them."""
        canary = self.folder / "canary"
        secret = self.file("secret.pem", PEM)
        file = self.file(
            "rp.json",
            {
                "listenPort": 7443,
                "certificate": {"certificate": f"@{secret}", "key": f"@file://{secret}"},
                "peeringConfigurationFileCommand": f"touch {canary}",
                "statusReport": {"runCmd": f"touch {canary}"},
                "staticReflectors": [],
            },
        )
        result = self.run_import(file, "--write-certificates", self.folder / "pki")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertFalse(canary.exists())
        self.assertNotIn("MIIB", result.output)
        self.assertEqual(list((self.folder / "pki").iterdir()), [])
