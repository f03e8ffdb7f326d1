"""From configuration files to a network."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load, loads
from ice.errors import LocalError
from ice.security.certificates import Role
from ice.streams.connect import authority_of, network_of, ways_path
from ice.streams.memory import Collector
from ice.testing.site import Site


class ConnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site.create(Path(self.mktemp()), clients=("alice",))

    def test_a_client(self) -> None:
        """The network is who the certificate says, and dials what the configuration lists."""
        alice = self.site.client("alice")
        network = network_of(load(alice.config), Clock())
        self.assertEqual((network._hello.id, network._hello.name), (str(alice.id), "alice"))
        self.assertEqual([str(address) for address in network.roster.known], [self.site.address])
        self.assertFalse(network.satellite)

    def test_a_satellite(self) -> None:
        """A satellite's certificate makes a network that may pass on what others said."""
        patch = self.site.issue("patch-1", Role.SATELLITE)
        self.assertTrue(network_of(load(patch.config), Clock()).satellite)

    def test_files_missing(self) -> None:
        """Without certificates the error names the file, and what to type."""
        loaded = loads("", Path(self.mktemp()) / "ice.toml")
        error = self.assertRaises(LocalError, network_of, loaded, Clock())
        self.assertIn("client.pem", str(error))
        self.assertIn("ice pki init", str(error))

    def test_two_homes(self) -> None:
        """What the configuration says of homes, talking and protected streams holds."""
        alice = self.site.client("alice")
        text = alice.config.read_text()
        more = 'homes = 2\ntalk_on = "one"\nprotected = ["dispatch", "fire-*"]\n'
        alice.config.write_text(text.replace("[network]\n", f"[network]\n{more}"))
        network = network_of(load(alice.config), Clock())
        self.assertEqual((network.wanted, network._talk_on_one), (2, True))
        self.assertEqual(network_of(load(alice.config), Clock(), homes=1).wanted, 1)
        protected = {
            name: network.join(name, Collector()).protected for name in ("dispatch", "fire-7", "dispatch-2")
        }
        self.assertEqual(protected, {"dispatch": True, "fire-7": True, "dispatch-2": False})

    def test_three_homes(self) -> None:
        """More than two homes is a mistake of the configuration."""
        error = self.assertRaises(LocalError, loads, "[network]\nhomes = 3", Path("ice.toml"))
        self.assertIn("network.homes", str(error))

    def test_where_ways_are_kept(self) -> None:
        """Where the configuration says, or nowhere; where it says nothing, in the state folder of the service or the person."""

        def path(text: str, **environ: str) -> str | None:
            found = ways_path(loads(text, Path("/etc/ice/ice.toml")), environ)
            return None if found is None else str(found)

        service = {"STATE_DIRECTORY": "/var/lib/ice:/var/lib/more", "XDG_STATE_HOME": "/home/ann/state"}
        self.assertEqual(path('[network]\nways_file = "ways.json"', **service), "/etc/ice/ways.json")
        self.assertIsNone(path('[network]\nways_file = ""', **service))
        self.assertEqual(path("", **service), "/var/lib/ice/ways.json")
        self.assertEqual(path("", XDG_STATE_HOME="/home/ann/state"), "/home/ann/state/ice/ways.json")
        self.assertEqual(
            path("", XDG_STATE_HOME="state"),
            str(Path("~/.local/state/ice/ways.json").expanduser()),
            "not absolute",
        )

    def test_authorities_are_told_apart(self) -> None:
        """Everybody of a site has one name for its authority, and no other site has the same."""
        other = Site.create(Path(self.mktemp()), clients=("alice",))
        names = {
            authority_of(member.credentials().certificate)
            for member in (
                self.site.client("alice"),
                self.site.rallypoint,
                self.site.issue("patch", Role.SATELLITE),
            )
        }
        self.assertEqual(len(names), 1)
        self.assertNotIn(authority_of(other.client("alice").credentials().certificate), names)
