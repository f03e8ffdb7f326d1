"""``ice pki`` as a person types it: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.pki import pki
from ice.errors import IceError
from ice.security import bundle as bundles
from ice.security.certificates import read_certificates, spaced
from ice.security.register import subject_of
from ice.security.trust import Credentials


class Case(SynchronousTestCase):
    """An empty folder, and the command run in it."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.config = self.base / "etc" / "ice.toml"
        self.pki = self.base / "etc" / "pki"
        self.patch(bundles, "COST", bundles.MIN_COST)

    def run_it(self, *words: str | Path, input: str | None = None) -> Result:
        """``ice pki …`` with ICE_CONFIG set to our configuration."""
        return CliRunner().invoke(
            pki, [str(word) for word in words], env={"ICE_CONFIG": str(self.config)}, input=input
        )

    def ice(self, *words: str | Path) -> str:
        """The same, which must succeed; what it printed."""
        result = self.run_it(*words)
        self.assertEqual(result.exit_code, 0, (result.output, result.exception))
        return result.stdout

    def answer(self, *words: str | Path) -> Any:
        """The same with ``--json``."""
        return json.loads(self.ice(*words, "--json"))

    def refused(self, *words: str | Path) -> str:
        """The same, which must end in an error for a person."""
        result = self.run_it(*words)
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertIsInstance(result.exception, IceError)
        return str(result.exception)


class Init(Case):
    """The first command of all."""

    def test_everything_for_one_machine(self) -> None:
        """An authority, a Rallypoint that names this machine, and a client with the login name; fingerprint and next step told."""
        self.patch(os, "environ", {**os.environ, "LOGNAME": "operator"})
        printed = self.ice("init")
        authority = self.answer("show")[0]
        self.assertIn(spaced(authority["fingerprint"]), printed)
        self.assertIn("next: twistd -n --pidfile= ice-rallypoint", printed)
        for name in ("rallypoint", "client"):
            Credentials.read(self.pki / f"{name}.pem", self.pki / f"{name}.key")
            self.assertEqual(stat.S_IMODE((self.pki / f"{name}.key").stat().st_mode), 0o600)
        rally = subject_of(read_certificates(self.pki / "rallypoint.pem")[0])
        self.assertIn("localhost", rally.dns)
        self.assertEqual([str(each) for each in rally.addresses], ["127.0.0.1", "::1"])
        self.assertEqual(subject_of(read_certificates(self.pki / "client.pem")[0]).name, "operator")

    def test_bare(self) -> None:
        """--bare makes the authority alone."""
        self.ice("init", "--bare")
        self.assertEqual(sorted(os.listdir(self.pki)), ["authority.key", "authority.pem", "revoked.pem"])

    def test_names(self) -> None:
        """--dns and --ip add to the Rallypoint's names."""
        self.ice("init", "--dns", "Rally.example.org", "--ip", "192.0.2.7")
        rally = subject_of(read_certificates(self.pki / "rallypoint.pem")[0])
        self.assertIn("rally.example.org", rally.dns)
        self.assertIn("192.0.2.7", map(str, rally.addresses))

    def test_twice(self) -> None:
        """A second init changes nothing and says what to do instead; --force begins anew."""
        self.ice("init")
        before = {path: path.read_bytes() for path in self.pki.rglob("*.*")}
        self.assertIn("--force", self.refused("init"))
        self.assertEqual({path: path.read_bytes() for path in self.pki.rglob("*.*")}, before)
        self.ice("init", "--force")
        self.assertNotEqual((self.pki / "authority.pem").read_bytes(), before[self.pki / "authority.pem"])

    def test_half_there(self) -> None:
        """Somebody's pair that is there keeps init from making even the authority."""
        self.pki.mkdir(parents=True)
        (self.pki / "client.key").write_text("precious")
        self.refused("init")
        self.assertEqual(os.listdir(self.pki), ["client.key"])

    def test_folder(self) -> None:
        """--folder and --config say where; without them it is pki/ beside the configuration in use."""
        self.ice("init", "--bare", "--folder", self.base / "a")
        self.ice("init", "--bare", "--config", self.base / "b" / "ice.toml")
        self.assertTrue((self.base / "a" / "authority.pem").exists())
        self.assertTrue((self.base / "b" / "pki" / "authority.pem").exists())

    def test_passphrase(self) -> None:
        """With --passphrase-file the authority's key is encrypted, and every later use wants it."""
        phrase = self.base / "phrase"
        phrase.write_text("secret\n")
        self.ice("init", "--passphrase-file", phrase)
        self.assertIn("--passphrase-file", self.refused("issue", "alice", "--role", "client"))
        self.ice("issue", "alice", "--role", "client", "--passphrase-file", phrase)


class Everyday(Case):
    """Issuing, showing, renewing, revoking."""

    def setUp(self) -> None:
        super().setUp()
        self.ice("init", "--bare")

    def test_issue(self) -> None:
        """A new name: its files, its line, the next step."""
        made = self.answer("issue", "alice", "--role", "client", "--common-name", "Alice A.", "--days", "10")
        entry = made["certificates"][0]
        self.assertEqual(
            (entry["name"], entry["common_name"], entry["role"], entry["state"]),
            ("alice", "Alice A.", "client", "valid"),
        )
        self.assertIn("ice pki bundle alice", made["next"][0])
        Credentials.read(self.pki / "alice.pem", self.pki / "alice.key")

    def test_issue_refused(self) -> None:
        """A taken name, a bad name, a bad address, an unknown role."""
        self.ice("issue", "alice", "--role", "client")
        self.assertIn("already there", self.refused("issue", "alice", "--role", "client"))
        self.assertIn("reserved", self.refused("issue", "authority", "--role", "client", "--force"))
        self.assertIn("letters", self.refused("issue", "../x", "--role", "client"))
        self.assertIn("--ip", self.refused("issue", "r", "--role", "rallypoint", "--dns", "192.0.2.7"))
        self.assertEqual(self.run_it("issue", "x", "--role", "king").exit_code, 2)
        self.assertEqual(self.run_it("issue", "x").exit_code, 2)

    def test_rallypoint_without_a_name(self) -> None:
        """A Rallypoint that names no address is made, with a word of what is missing."""
        self.assertIn("--dns NAME", self.ice("issue", "r", "--role", "rallypoint"))

    def test_show(self) -> None:
        """Piped: a line each, tab-separated, everything whole."""
        self.ice("issue", "alice", "--role", "client")
        lines = [line.split("\t") for line in self.ice("show").splitlines()]
        self.assertEqual(lines[0], ["name", "role", "id", "fingerprint", "valid until", "state"])
        self.assertEqual([line[1] for line in lines[1:]], ["authority", "client"])
        self.assertEqual(len(lines[2][3]), 64)

    def test_show_one(self) -> None:
        """By name, by file and by fingerprint it is the same certificate, with its validity in words."""
        self.ice("issue", "alice", "--role", "client", "--dns", "a.example.org")
        mark = self.answer("show", "alice")[0]["fingerprint"]
        for target in ("alice", self.pki / "alice.pem", mark[:12]):
            shown = self.ice("show", target)
            self.assertIn(spaced(mark), shown)
            self.assertRegex(shown, r"valid until .* \(in 36\d days\)")
            self.assertIn("a.example.org", shown)
        self.assertIn("alice", self.refused("show", "bob"))

    def test_show_warns_of_open_keys(self) -> None:
        """A key that others may read is told with the command that mends it."""
        self.ice("issue", "alice", "--role", "client")
        (self.pki / "alice.key").chmod(0o644)
        self.assertIn("chmod 600", self.ice("show", "alice"))

    def test_renew(self) -> None:
        """The same identity, another certificate; the earlier one is seen with --all."""
        self.ice("issue", "r", "--role", "rallypoint", "--dns", "a.example.org")
        before = self.answer("show", "r")[0]
        made = self.answer("renew", "r", "--dns", "b.example.org")
        after = made["certificates"][0]
        self.assertEqual(
            (before["id"], after["addresses"]), (after["id"], ["a.example.org", "b.example.org"])
        )
        self.assertNotEqual(before["fingerprint"], after["fingerprint"])
        self.assertIn("SIGHUP", made["next"][0])
        self.assertEqual(len(self.answer("show")), 2)
        self.assertIn(before["fingerprint"], [each["fingerprint"] for each in self.answer("show", "--all")])

    def test_revoke(self) -> None:
        """By name; shown as revoked from then on; where to copy the list is told: to whoever goes by one, and that all of these reload it."""
        self.ice("issue", "alice", "--role", "client")
        made = self.answer("revoke", "alice")
        self.assertEqual(made["certificates"][0]["state"], "revoked")
        self.assertIn(str(self.pki / "revoked.pem"), made["next"][0])
        for machine in ("Rallypoints", "gateways", "satellites controlled over HTTPS"):
            self.assertIn(machine, made["next"][0])
        for daemon in ("ice-rallypoint", "ice-gateway", "ice-patch"):
            self.assertIn(f"systemctl reload {daemon}", " ".join(made["next"][1:]))
        self.assertEqual(self.answer("show", "alice")[0]["state"], "revoked")
        self.assertIn("revoked", self.ice("show", "alice"))
        self.refused("renew", "alice")

    def test_revoke_nobody(self) -> None:
        """An unknown name is refused; neither a target nor --refresh, or both, is wrong usage."""
        self.refused("revoke", "bob")
        self.assertEqual(self.run_it("revoke").exit_code, 2)
        self.assertEqual(self.run_it("revoke", "x", "--refresh").exit_code, 2)

    def test_refresh(self) -> None:
        """--refresh signs the list anew."""
        before = (self.pki / "revoked.pem").read_bytes()
        self.assertIn("signed anew", self.ice("revoke", "--refresh"))
        self.assertNotEqual((self.pki / "revoked.pem").read_bytes(), before)

    def test_before_init(self) -> None:
        """Without an authority every command says how to begin."""
        nowhere = self.base / "nowhere"
        commands: Sequence[tuple[str, ...]] = (
            ("show",),
            ("issue", "a", "--role", "client"),
            ("renew", "a"),
            ("revoke", "a"),
            ("bundle", "a", "--rallypoint", "r:1"),
        )
        for words in commands:
            self.assertIn("ice pki init", self.refused(*words, "--folder", nowhere), words)
        self.assertFalse(nowhere.exists())


class Carrying(Case):
    """Bundles and roll-over."""

    def setUp(self) -> None:
        super().setUp()
        self.ice("init", "--bare")
        self.ice("issue", "alice", "--role", "client")
        self.file = self.base / "alice.ice-bundle"
        self.there = self.base / "there"

    def pack(self, *more: str | Path) -> Any:
        return self.answer("bundle", "alice", "--out", self.file, "--rallypoint", "r.example.org:7443", *more)

    def test_there_and_back(self) -> None:
        """Packed here, unpacked there, with the next command told on both ends."""
        made = self.pack()
        self.assertEqual(made["encrypted"], False)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        printed = self.ice("unbundle", self.file, "--into", self.there)
        self.assertIn(f"ice check --config {self.there / 'ice.toml'}", printed)
        self.assertIn(spaced(self.answer("show")[0]["fingerprint"]), printed)
        written = tomllib.loads((self.there / "ice.toml").read_text())
        self.assertEqual(written["network"]["rallypoints"], ["r.example.org:7443"])
        Credentials.read(self.there / "pki/alice.pem", self.there / "pki/alice.key")

    def test_encrypted(self) -> None:
        """With a passphrase from a file; without it the bundle stays shut."""
        phrase = self.base / "phrase"
        phrase.write_text("secret")
        self.assertTrue(self.pack("--passphrase-file", phrase)["encrypted"])
        self.assertIn("--passphrase-file", self.refused("unbundle", self.file, "--into", self.there))
        self.assertFalse(self.there.exists())
        self.ice("unbundle", self.file, "--into", self.there, "--passphrase-file", phrase)

    def test_asked(self) -> None:
        """--passphrase asks twice, and does not show what is typed."""
        words = ("bundle", "alice", "--out", self.file, "--rallypoint", "r:1", "--passphrase")
        result = self.run_it(*words, input="secret\nsecret\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertNotIn("secret", result.output)
        self.assertTrue(bundles.is_encrypted(self.file.read_bytes()))

    def test_no_overwriting(self) -> None:
        """Neither the bundle nor what it unpacks to."""
        self.pack()
        self.assertIn("--force", self.refused("bundle", "alice", "--out", self.file, "--rallypoint", "r:1"))
        self.pack("--force")
        self.ice("unbundle", self.file, "--into", self.there)
        self.assertIn("--force", self.refused("unbundle", self.file, "--into", self.there))
        self.ice("unbundle", self.file, "--into", self.there, "--force")

    def test_where_it_will_dial(self) -> None:
        """Taken from the configuration; localhost is warned of; without a configuration the option is asked for."""
        self.assertIn("--rallypoint", self.refused("bundle", "alice", "--out", self.file))
        self.config.write_text('[network]\nrallypoints = ["localhost:7443"]\n')
        self.assertIn("other machine itself", self.answer("bundle", "alice", "--out", self.file)["warning"])
        self.config.write_text('[network]\nrallypoints = ["r.example.org:7443"]\n')
        made = self.answer("bundle", "alice", "--out", self.file, "--force")
        self.assertEqual(made["warning"], "")
        self.refused("bundle", "alice", "--out", self.file, "--force", "--rallypoint", "no port")

    def test_damaged(self) -> None:
        """A damaged bundle is refused, and nothing is written."""
        self.file.write_bytes(b"PK\x03\x04")
        self.refused("unbundle", self.file, "--into", self.there)
        self.assertFalse(self.there.exists())

    def test_trust(self) -> None:
        """A second authority is copied and listed in the configuration; without one, the key to set is told."""
        self.ice("init", "--bare", "--folder", self.base / "next")
        second = self.base / "next" / "authority.pem"
        self.assertIn("set authority.certificates", self.answer("trust", second)["next"][0])
        self.config.write_text("# ours\n[authority]\n")
        self.assertIn("now lists", self.ice("trust", second))
        listed = tomllib.loads(self.config.read_text())["authority"]["certificates"]
        self.assertEqual(len(listed), 2)
        for each in listed:
            self.assertTrue((self.config.parent / each).exists())
        self.assertIn("already lists", self.ice("trust", second))

    def test_roll_over(self) -> None:
        """A new authority issues like the old one did: the same UUID and names."""
        next_folder = self.base / "next"
        self.ice("init", "--bare", "--folder", next_folder)
        old = self.answer("show", "alice")[0]
        made = self.answer(
            "issue", "alice", "--role", "client", "--like", self.pki / "alice.pem", "--folder", next_folder
        )["certificates"][0]
        self.assertEqual(made["id"], old["id"])
        self.assertNotEqual(made["issuer"], old["issuer"])
