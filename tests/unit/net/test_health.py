"""The TCP health check."""

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from ice.net.health import HealthCheckFactory


class Probing(SynchronousTestCase):
    def test_closed_at_once(self) -> None:
        """A probe is counted and closed without a word."""
        factory = HealthCheckFactory()
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(factory.answered, 1)
