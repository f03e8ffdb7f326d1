"""From configuration files to a network."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load, loads
from ice.errors import LocalError
from ice.security.certificates import Role
from ice.streams.connect import network_of
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
