"""[[federations]]: what may be written, every mistake with its line, and what their files are worth."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.config.changes import changes
from ice.config.checks import Finding, Severity, check_site
from ice.config.load import ConfigError, load, loads
from ice.config.render import as_toml
from ice.net.addresses import Address
from ice.security.authority import Authority
from ice.security.certificates import Role

FILE = Path("/site/ice.toml")
NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
A, B = (UUID(f"{n:08x}-0000-4000-8000-000000000000") for n in (1, 2))

COAST = f"""\
[[federations]]
name = "coast"
authority = ["pki/coast.pem"]
incoming = ["mutual aid", "weather"]
outgoing = ["mutual aid"]
rallypoints = [
  {{ id = "{A}", address = "Rally.coast.example:7443" }},
  {{ id = "{{{str(B).upper()}}}" }},
]
"""


def wrong(text: str) -> list[tuple[int, str, str]]:
    """What is wrong with `text`: line, key and message of each problem."""
    try:
        loads(text, FILE)
    except ConfigError as error:
        return [(problem.line, problem.key, problem.message) for problem in error.problems]
    return []


class Values(SynchronousTestCase):
    def test_values(self) -> None:
        """Ids, addresses, files and defaults arrive typed."""
        (coast,) = loads(COAST, FILE).config.federations
        self.assertEqual((coast.name, coast.authority), ("coast", (Path("/site/pki/coast.pem"),)))
        self.assertIsNone(coast.revocations)
        self.assertEqual((coast.incoming, coast.outgoing), (("mutual aid", "weather"), ("mutual aid",)))
        self.assertEqual(
            [(ally.id, ally.address) for ally in coast.rallypoints],
            [(A, Address("rally.coast.example", 7443)), (B, None)],
        )
        self.assertEqual((coast.packets_per_s, coast.bytes_per_s), (20_000, 20_000_000))

    def test_round_trip(self) -> None:
        """What is shown loads to the same values."""
        config = loads(COAST, FILE).config
        self.assertEqual(loads(as_toml(config), FILE).config, config)

    def test_applied_by_a_reload(self) -> None:
        """A change is no reason for a restart."""
        one, other = (loads(text, FILE).config for text in (COAST, COAST.replace("weather", "news")))
        self.assertEqual(changes(one, other).live, ("federations",))

    def test_mistakes(self) -> None:
        """Each with its line and key."""
        cases = (
            ('"weather"', '"__election_x"', 4, "federations.incoming", "a site's own"),
            ('"weather"', '"we*"', 4, "federations.incoming", "without patterns"),
            ('"weather"', '""', 4, "federations.incoming", "must not be empty"),
            ('"weather"', '"mutual aid"', 4, "federations.incoming", "listed twice"),
            ('outgoing = ["mutual aid"]', 'outgoing = ["parrot"]', 1, "federations", "rallypoint.parrot"),
            (str(B).upper(), str(A), 8, "federations.rallypoints", "listed already"),
            (str(A), "7443", 7, "federations.rallypoints.id", "expected the UUID"),
            (
                "Rally.coast.example:7443",
                "0.0.0.0:7443",
                7,
                "federations.rallypoints.address",
                "no place to dial",
            ),
            ('["pki/coast.pem"]', "[]", 3, "federations.authority", "at least 1"),
            ('["pki/coast.pem"]', '"pki/coast.pem"', 3, "federations.authority", "a list"),
            ("weather", "w" * 257, 4, "federations.incoming", "257 bytes"),
            ("outgoing", "outgoin", 5, "federations.outgoin", "did you mean 'outgoing'?"),
        )
        for old, new, line, key, message in cases:
            found = wrong(COAST.replace(old, new, 1))
            self.assertEqual([(at, what) for at, what, _ in found], [(line, key)], found)
            self.assertIn(message, found[0][2])

    def test_nothing_shared(self) -> None:
        """A federation without any stream is a mistake."""
        text = COAST.replace('["mutual aid", "weather"]', "[]").replace('["mutual aid"]', "[]")
        ((line, _, message),) = wrong(text)
        self.assertEqual(line, 5)
        self.assertIn("nothing is shared", message)

    def test_twice(self) -> None:
        """Names and Rallypoints belong to one federation each."""
        self.assertIn("already", wrong(COAST + COAST)[0][2])
        ((line, key, message),) = wrong(COAST + COAST.replace("coast", "hills"))
        self.assertEqual((line, key), (10, "federations"))
        self.assertIn('of the federation "coast" already', message)


class Files(SynchronousTestCase):
    """Two sites, and what `ice check` at ours says of the other's files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.pki = self.folder / "pki"
        self.folder.mkdir()
        self.authority = Authority.create(self.pki, NOW)
        self.authority.issue("client", Role.CLIENT, NOW)
        self.own = self.authority.issue("rallypoint", Role.RALLYPOINT, NOW, dns=["localhost"])
        self.theirs = Authority.create(self.folder / "theirs", NOW)  # both have the usual name
        (self.pki / "coast.pem").write_bytes((self.folder / "theirs" / "authority.pem").read_bytes())
        self.text = COAST

    def findings(self, now: datetime = NOW) -> list[Finding]:
        (self.folder / "ice.toml").write_text(self.text, "utf-8")
        return check_site(load(environ={"ICE_CONFIG": str(self.folder / "ice.toml")}), now)

    def finding(self, now: datetime = NOW) -> tuple[Severity, str, int, str, str]:
        findings = [found for found in self.findings(now) if found.key.startswith("federations")]
        self.assertEqual(len(findings), 1, "\n".join(map(str, findings)))
        (found,) = findings
        self.assertEqual(found.file, str(self.folder / "ice.toml"))
        return found.severity, found.key, found.line, found.message, found.remedy

    def test_well(self) -> None:
        """There is nothing to say about two sites that know each other, not even where both authorities have the usual name."""
        self.assertEqual(self.findings(), [])

    def test_no_authority(self) -> None:
        """Their file is missing, or is none of an authority."""
        (self.pki / "coast.pem").unlink()
        severity, key, line, message, _ = self.finding()
        self.assertEqual((severity, key, line), (Severity.ERROR, "federations.authority", 3))
        self.assertIn(f"{self.pki}/coast.pem: there is no such file", message)
        (self.pki / "coast.pem").write_bytes((self.pki / "rallypoint.pem").read_bytes())
        self.assertIn("federations.authority wants", self.finding()[3])

    def test_ours(self) -> None:
        """Our own authority is none of theirs."""
        (self.pki / "coast.pem").write_bytes((self.pki / "authority.pem").read_bytes())
        severity, key, line, message, _ = self.finding()
        self.assertEqual((severity, key, line), (Severity.ERROR, "federations.authority", 3))
        self.assertIn("is one of ours", message)

    def test_own_id(self) -> None:
        """Our own UUID among theirs is told."""
        self.text = COAST.replace(str(A), str(self.own.id))
        severity, key, line, message, _ = self.finding()
        self.assertEqual((severity, key, line), (Severity.ERROR, "federations.rallypoints", 7))
        self.assertIn("own UUID", message)

    def test_lists(self) -> None:
        """A list that is named must be there; one past its time is a warning."""
        self.text = COAST.replace(
            '["pki/coast.pem"]', '["pki/coast.pem"]\nrevocations = "pki/coast-revoked.pem"'
        )
        self.assertEqual(self.finding()[:3], (Severity.ERROR, "federations.revocations", 4))
        self.theirs.refresh(NOW)
        (self.pki / "coast-revoked.pem").write_bytes((self.folder / "theirs" / "revoked.pem").read_bytes())
        self.assertEqual(self.findings(), [])
        later = [
            found
            for found in self.findings(NOW + timedelta(days=500))
            if found.key == "federations.revocations"
        ]
        self.assertEqual([found.severity for found in later], [Severity.WARNING])
        self.assertIn("was due on", later[0].message)

    def test_expired(self) -> None:
        """Their authority has come to its end: what to do is ask them."""
        found = [f for f in self.findings(NOW + timedelta(days=4_000)) if f.key == "federations.authority"]
        self.assertEqual([(f.severity, f.line) for f in found], [(Severity.ERROR, 3)])
        self.assertIn("ask 'coast'", found[0].remedy)
