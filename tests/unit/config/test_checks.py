"""What is found in a site's files: one fault at a time in a site that is otherwise well."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.checks import Finding, Purpose, Severity, check_site
from ice.config.load import load
from ice.security.authority import Authority
from ice.security.certificates import Role

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Site(SynchronousTestCase):
    """A site with an authority, a client and a Rallypoint, made at NOW."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.pki = self.folder / "pki"
        self.folder.mkdir()
        self.write("")
        self.authority = Authority.create(self.pki, NOW)
        self.authority.issue("client", Role.CLIENT, NOW)
        self.authority.issue("rallypoint", Role.RALLYPOINT, NOW, dns=["localhost"])

    def write(self, text: str) -> None:
        (self.folder / "ice.toml").write_text(text, "utf-8")

    def findings(self, now: datetime = NOW, *purposes: Purpose) -> list[Finding]:
        loaded = load(environ={"ICE_CONFIG": str(self.folder / "ice.toml")})
        return check_site(loaded, now, purposes)

    def finding(self, now: datetime = NOW, *purposes: Purpose) -> Finding:
        findings = self.findings(now, *purposes)
        self.assertEqual(len(findings), 1, "\n".join(map(str, findings)))
        return findings[0]

    def check(self, found: Finding, severity: Severity, file: Path, message: str, remedy: str) -> None:
        self.assertEqual((found.severity, found.file), (severity, str(file)))
        self.assertIn(message, found.message)
        self.assertIn(remedy, found.remedy)


class Faults(Site):
    def test_well(self) -> None:
        """There is nothing to say about a site as `ice pki init` makes it."""
        self.assertEqual(self.findings(), [])

    def test_nothing_there(self) -> None:
        """Before the first `ice pki init`, each missing file is an error whose remedy is that command."""
        self.pki.rename(self.folder / "elsewhere")
        findings = self.findings()
        self.assertEqual(
            [(f.severity, f.key, f.remedy) for f in findings],
            [
                (Severity.ERROR, "authority.certificates", "ice pki init"),
                (Severity.ERROR, "identity.certificate", "ice pki init"),
                (Severity.ERROR, "rallypoint.certificate", "ice pki init"),
            ],
        )
        self.assertEqual(
            str(findings[0]),
            f"{self.folder}/ice.toml: authority.certificates: there is no file {self.pki}/authority.pem, which should "
            "hold an authority's certificate; to do: ice pki init",
        )

    def test_remedies_find_the_site(self) -> None:
        """For a file that had to be named, or files elsewhere, the command to type says where."""
        (self.pki / "client.pem").unlink()
        (self.pki / "client.key").unlink()
        loaded = load(self.folder / "ice.toml", environ={})
        (found,) = check_site(loaded, NOW, [Purpose.CLIENT])
        self.assertEqual(found.remedy, f"ice pki issue client --role client --folder {self.pki}")
        self.write('[identity]\ncertificate = "my keys/me.pem"')
        found = self.finding(NOW, Purpose.CLIENT)
        self.assertEqual(found.remedy, f"ice pki issue me --role client --folder '{self.folder}/my keys'")

    def test_only_what_the_machine_is_for(self) -> None:
        """A laptop needs no Rallypoint's certificate, unless its file names one or it is asked about."""
        (self.pki / "rallypoint.pem").unlink()
        (self.pki / "rallypoint.key").unlink()
        self.assertEqual(self.findings(), [])
        self.assertEqual(self.finding(NOW, Purpose.RALLYPOINT).key, "rallypoint.certificate")
        self.write('[rallypoint]\n\ncertificate = "pki/rallypoint.pem"')
        self.check(
            self.finding(),
            Severity.ERROR,
            self.folder / "ice.toml",
            "there is no file",
            "ice pki issue rallypoint --role rallypoint",
        )
        self.assertEqual(self.finding().line, 3)

    def test_key_missing(self) -> None:
        """A certificate without its key is an error."""
        (self.pki / "client.key").unlink()
        self.assertEqual(self.finding().key, "identity.key")

    def test_expiring(self) -> None:
        """From thirty days before its end a certificate is warned about, after it an error."""
        self.authority.issue("client", Role.CLIENT, NOW, days=100, replace=True)
        path = self.pki / "client.pem"
        self.assertEqual(self.findings(NOW + 69 * DAY), [])
        soon = self.finding(NOW + 70 * DAY)
        self.check(soon, Severity.WARNING, path, "(in 30 days): it expires soon", "ice pki renew client")
        late = self.finding(NOW + 101 * DAY)
        self.check(late, Severity.ERROR, path, "expired on 2031-06-09", "ice pki renew client")

    def test_not_yet(self) -> None:
        """Certificates of the future mean a wrong clock."""
        findings = self.findings(NOW - 10 * DAY, Purpose.CLIENT)
        for found in findings:
            self.assertEqual(found.severity, Severity.ERROR)
            self.assertIn("not valid before", found.message)
            self.assertIn("clock", found.remedy)
        self.assertEqual({Path(found.file).name for found in findings}, {"authority.pem", "client.pem"})

    def test_authority_expiring(self) -> None:
        """An authority near its end is warned about in time to roll over."""
        late = NOW + 3640 * DAY
        for name, role in (("client", Role.CLIENT), ("rallypoint", Role.RALLYPOINT)):
            self.authority.issue(name, role, late, days=100, replace=True)
        found, *leaves = self.findings(late)
        self.check(found, Severity.WARNING, self.pki / "authority.pem", "it expires soon", "roll over")
        self.assertEqual(
            [f.severity for f in leaves], [Severity.WARNING] * 2
        )  # no leaf outlives its authority

    def test_key_mode(self) -> None:
        """Keys that others can read are warned about, the authority's too."""
        for name in ("client.key", "authority.key"):
            (self.pki / name).chmod(0o644)
            self.check(
                self.finding(),
                Severity.WARNING,
                self.pki / name,
                "mode 0644 lets others",
                f"chmod 600 {self.pki}/{name}",
            )
            (self.pki / name).chmod(0o600)

    def test_key_of_another(self) -> None:
        """A key that does not belong to its certificate is an error."""
        (self.pki / "client.key").write_bytes((self.pki / "rallypoint.key").read_bytes())
        self.check(
            self.finding(), Severity.ERROR, self.pki / "client.key", "does not belong", "ice pki renew"
        )

    def test_wrong_role(self) -> None:
        """A Rallypoint's certificate is not for a person, nor the reverse; a satellite's is for opening links."""
        self.write('[identity]\ncertificate = "pki/rallypoint.pem"\nkey = "pki/rallypoint.key"')
        self.check(
            self.finding(),
            Severity.ERROR,
            self.pki / "rallypoint.pem",
            "expected a certificate with the role client, operator or satellite, found the role rallypoint",
            "--role client",
        )
        self.authority.issue("client", Role.SATELLITE, NOW, replace=True)
        self.write("")
        self.assertEqual(self.findings(), [])

    def test_other_authority(self) -> None:
        """A certificate that no listed authority issued is an error."""
        other = Authority.create(self.folder / "other", NOW)
        other.issue("client", Role.CLIENT, NOW)
        self.write('[authority]\ncertificates = ["other/authority.pem"]\nrevocations = "none.pem"')
        findings = self.findings(NOW, Purpose.CLIENT)
        self.assertEqual(len(findings), 1)
        self.check(
            findings[0],
            Severity.ERROR,
            self.pki / "client.pem",
            "none of the 1 authorities trusted here",
            "--like",
        )
        self.write('[authority]\ncertificates = ["other/authority.pem", "pki/authority.pem"]')
        self.assertEqual(self.findings(), [])

    def test_leaf_as_authority(self) -> None:
        """A leaf listed as an authority is an error, and the rest is looked at all the same."""
        self.write('[authority]\ncertificates = ["pki/client.pem", "pki/authority.pem"]')
        (self.pki / "rallypoint.key").chmod(0o666)
        leaf, mode = self.findings()
        self.check(leaf, Severity.ERROR, self.pki / "client.pem", "expected an authority's certificate", "")
        self.check(mode, Severity.WARNING, self.pki / "rallypoint.key", "mode 0666", "chmod")

    def test_revoked(self) -> None:
        """A revoked certificate of ours is an error."""
        self.authority.revoke("client", NOW)
        self.check(
            self.finding(),
            Severity.ERROR,
            self.pki / "client.pem",
            "is revoked",
            "ice pki issue client --role client --force",
        )

    def test_old_list(self) -> None:
        """A revocation list past its next update is a warning."""
        for name, role in (("client", Role.CLIENT), ("rallypoint", Role.RALLYPOINT)):
            self.authority.issue(name, role, NOW, days=1000, replace=True)
        found = self.finding(NOW + 500 * DAY)
        self.check(
            found,
            Severity.WARNING,
            self.pki / "revoked.pem",
            "a newer revocation list was due",
            "ice pki revoke --refresh",
        )

    def test_no_list(self) -> None:
        """A list that is absent revokes nothing and is nothing to speak of."""
        (self.pki / "revoked.pem").unlink()
        self.assertEqual(self.findings(), [])

    def test_damaged(self) -> None:
        """A file that holds something else is an error that names it."""
        for name in ("authority.pem", "client.pem", "client.key", "revoked.pem"):
            path = self.pki / name
            before = path.read_bytes()
            path.write_bytes(b"hello")
            findings = self.findings(NOW, Purpose.CLIENT)
            self.assertEqual([(f.severity, f.file) for f in findings], [(Severity.ERROR, str(path))], name)
            self.assertIn("no PEM block at all", findings[0].message)
            path.write_bytes(before)

    def test_nobody_dials_its_names(self) -> None:
        """A Rallypoint dialled by addresses that its certificate does not name is warned about, with the command to mend it."""
        path = self.pki / "rallypoint.pem"
        for settings, option in [
            ('rallypoints = ["127.0.0.2:7443"]\n[rallypoint]\nlisten = ["127.0.0.2:7443"]', "--ip 127.0.0.2"),
            ('rallypoints = ["[::1]:7443"]\n[rallypoint]\nlisten = ["[::1]:7443"]', "--ip ::1"),
            (
                'rallypoints = ["voice.site.example:7443"]\n[rallypoint]\nalternatives = ["voice.site.example:7443"]',
                "--dns voice.site.example",
            ),
        ]:
            self.write(f"[network]\n{settings}")
            remedy = f"ice pki renew rallypoint {option}"
            host = option.split(" ")[1]
            self.check(self.finding(), Severity.WARNING, path, f"names localhost, but not {host},", remedy)
            self.assertEqual(self.findings(NOW, Purpose.CLIENT), [])
            self.write(f"[network]\nverify_name = false\n{settings}")
            self.assertNotIn("but not", "".join(map(str, self.findings())))
        self.authority.renew("rallypoint", NOW, dns=["*.site.example"])
        self.write(f"[network]\n{settings}")
        self.assertEqual(self.findings(), [])

    def test_dialled_elsewhere(self) -> None:
        """Where nothing tells how this Rallypoint is dialled, or one of the names fits, there is nothing to warn of."""
        self.authority.issue("rallypoint", Role.RALLYPOINT, NOW, dns=["a.example"], replace=True)
        for settings in [
            "",
            'rallypoints = ["b.example:7443"]',
            'rallypoints = ["localhost:7444"]',
            'rallypoints = ["[::1]:7443"]',
            'rallypoints = ["a.example:7443", "localhost:7443"]',
            'rallypoints = ["localhost:7443"]\n[rallypoint]\nalternatives = ["a.example:7443"]',
            'rallypoints = ["a.example:1", "b.example:1"]\n[rallypoint]\nalternatives = ["b.example:1"]',
        ]:
            self.write(f"[network]\n{settings}")
            self.assertEqual(self.findings(), [], settings)

    def test_warnings_of_the_file(self) -> None:
        """What the file itself gives cause to warn of comes first, with its line."""
        self.write('[rallypoint]\nlisten = ["0.0.0.0:7443"]')
        found = self.finding()
        self.assertEqual((found.severity, found.line, found.key), (Severity.WARNING, 2, "rallypoint.listen"))


class Salt(Site):
    def salt(self, text: str, mode: int = 0o600) -> Path:
        self.write('# a comment\n[traffic]\nsalt_file = "salt"\n')
        path = self.folder / "salt"
        path.write_text(text)
        path.chmod(mode)
        return path

    def test_well(self) -> None:
        """Nothing is said of a salt that is one, and that the owner alone can read."""
        self.salt("0123456789abcdef" * 2 + "\n")
        self.assertEqual(self.findings(), [])

    def test_missing(self) -> None:
        """A file that is not there is an error at the line that names it."""
        self.salt("").unlink()
        found = self.finding()
        self.assertEqual((found.line, found.key), (3, "traffic.salt_file"))
        self.check(
            found,
            Severity.ERROR,
            self.folder / "ice.toml",
            f"{self.folder}/salt: the salt of traffic keys cannot be read: No such file",
            "",
        )

    def test_no_salt(self) -> None:
        """What is no salt is an error with a way out, and does not repeat what stands there."""
        self.salt("c0ffee")
        found = self.finding()
        self.check(
            found,
            Severity.ERROR,
            self.folder / "ice.toml",
            "expected 32 hexadecimal digits",
            "copy the file from",
        )
        self.assertNotIn("c0ffee", str(found))

    def test_mode(self) -> None:
        """A salt that others can read is a warning."""
        path = self.salt("0123456789abcdef" * 2, 0o640)
        self.check(
            self.finding(),
            Severity.WARNING,
            path,
            "mode 0640 lets others than the owner read the salt of traffic keys",
            f"chmod 600 {path}",
        )


class BallotSalts(Site):
    def test_all(self) -> None:
        """The salt of a server group: absent, as where nobody is a member, it is no trouble; readable by others, or none, it is."""
        self.write(
            '[[server_groups]]\nid = "6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"\nsalt_file = "ballots"\n'
            '[[server_groups.members]]\nid = "1d3a7c52-8f61-4b0e-9c27-5e4f6a8b9c0d"\n'
        )
        self.assertEqual(self.findings(), [])
        path = self.folder / "ballots"
        path.write_text("ab" * 32)
        path.chmod(0o644)
        self.check(
            self.finding(),
            Severity.WARNING,
            path,
            "mode 0644 lets others than the owner forge the ballots of this server group",
            f"chmod 600 {path}",
        )
        path.chmod(0o600)
        self.assertEqual(self.findings(), [])
        path.write_text("secret")
        found = self.finding()
        self.assertEqual(
            (found.severity, found.line, found.key), (Severity.ERROR, 3, "server_groups.salt_file")
        )
        self.assertIn("openssl rand -hex 32", found.remedy)
        self.assertNotIn("secret", str(found))


class Mesh(Site):
    def test_peering_file(self) -> None:
        """A peering file that is missing, wrong or odd is warned about: the Rallypoint starts without it."""
        path = self.folder / "peers.json"
        self.write('[rallypoint.mesh]\npeering_file = "peers.json"')
        self.check(self.finding(), Severity.WARNING, path, "there is no such file", "")
        path.write_bytes(b"[\xe9]")
        self.check(self.finding(), Severity.WARNING, path, "cannot be read", "")
        path.write_text("[{}]")
        self.check(self.finding(), Severity.WARNING, path, "[0].id: expected the UUID", "")
        path.write_text('[{"id": "b0c1d2e3-f405-4617-8829-3a4b5c6d7e8f", "sni": ""}]')
        self.check(self.finding(), Severity.WARNING, path, "[0].sni: unknown key", "")
        path.write_text("[]")
        self.assertEqual(self.findings(), [])

    def test_no_member(self) -> None:
        """A Rallypoint whose own id is in no group is told so; a laptop is not."""
        self.write('[[groups]]\nname = "town"\nmembers = [{ id = "b0c1d2e3-f405-4617-8829-3a4b5c6d7e8f" }]')
        self.check(self.finding(), Severity.WARNING, self.folder / "ice.toml", "is a member of no group", "")
        self.assertEqual(self.findings(NOW, Purpose.CLIENT), [])
