"""The throw-away site: everything a test dials, and everybody it must turn away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load
from ice.security.certificates import Role, identity_of
from ice.security.files import AlreadyThere
from ice.testing.site import Site, free_ports


class Sites(SynchronousTestCase):
    """`Site`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.site = Site.create(
            self.folder,
            ("alice", "bob"),
            port=17443,
            http_port=17480,
            rallypoint_toml="keepalive_s = 1.0",
            extra_toml="[rallypoint.limits]\nlinks = 3",
        )

    def test_configuration(self) -> None:
        """ice.toml is the Rallypoint's and the first client's; what was asked for stands in it."""
        config = load(self.site.config).config
        self.assertEqual(config.identity.certificate, self.site.client("alice").certificate)
        self.assertEqual(config.rallypoint.certificate, self.site.rallypoint.certificate)
        self.assertEqual([str(each) for each in config.rallypoint.listen], [self.site.address])
        self.assertEqual([str(each) for each in config.network.rallypoints], ["127.0.0.1:17443"])
        self.assertEqual((config.rallypoint.keepalive_s, config.rallypoint.limits.links), (1.0, 3))

    def test_each_client_has_its_own(self) -> None:
        """bob.toml is bob's."""
        config = load(self.site.client("bob").config).config
        self.assertEqual(config.identity.key, self.site.client("bob").key)
        self.assertRaises(KeyError, self.site.client, "carol")

    def test_members_are_who_they_seem(self) -> None:
        """The UUIDs are those in the certificates, which the site's trust accepts."""
        trust, now = self.site.trust(), datetime.now(UTC)
        for member in (self.site.rallypoint, *self.site.clients):
            certificate = member.credentials().certificate
            self.assertIsNone(trust.refuses(certificate, now))
            who = identity_of(certificate, trust.authorities)
            self.assertEqual((who.id, who.name), (member.id, member.name))

    def test_the_bad_ones(self) -> None:
        """Each is refused for its own reason, and has a configuration that loads."""
        bad = {
            "expired": self.site.expired(),
            "not-yet-valid": self.site.not_yet_valid(),
            "unknown-authority": self.site.stranger(),
            "revoked": self.site.revoked(),
        }
        trust, now = self.site.trust(), datetime.now(UTC)
        self.assertEqual(trust.warnings, ())
        for reason, member in bad.items():
            refusal = trust.refuses(member.credentials().certificate, now)
            assert refusal is not None
            self.assertEqual(refusal.code, reason)
            self.assertEqual(load(member.config).config.identity.certificate, member.certificate)

    def test_more(self) -> None:
        """A satellite, say."""
        member = self.site.issue("patch", Role.SATELLITE)
        self.assertEqual(
            identity_of(member.credentials().certificate, self.site.trust().authorities).role, "satellite"
        )

    def test_twice(self) -> None:
        """A folder that holds a site is left alone."""
        self.assertRaises(AlreadyThere, Site.create, self.folder)

    def test_free_ports(self) -> None:
        """They differ, and a site without ports gets some."""
        self.assertEqual(len(set(free_ports(20))), 20)
        site = Site.create(self.folder / "other", ())
        self.assertNotEqual(site.port, site.http_port)
