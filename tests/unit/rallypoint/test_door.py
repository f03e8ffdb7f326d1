"""The door: nothing is read, and no TLS begun, before somebody says so."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from ice.rallypoint.door import Arrival, open_port
from tests.unit.security import wire


class Tcp(StringTransport):
    """A TCP connection as its reactor has it."""

    protocol: Any = None
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(
            os, "environ", {**os.environ, "ICE_TLS": "twisted"}
        )  # a memory reactor has no sockets to own
        self.reactor: Any = MemoryReactorClock()
        self.arrivals: list[Arrival] = []
        self.decide: Callable[[Arrival], None] = self.arrivals.append
        open_port(self.reactor, "127.0.0.1", 7443, wire.server(), self.arrived)
        self.factory = self.reactor.tcpServers[0][1]

    def arrived(self, arrival: Arrival) -> None:
        """Somebody has come: as each test decides."""
        self.decide(arrival)

    def connect(self) -> Tcp:
        """Somebody connects."""
        tcp = Tcp()
        tcp.protocol = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
        tcp.protocol.makeConnection(tcp)
        return tcp

    def test_it_listens_where_it_is_told(self) -> None:
        """On one address."""
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (7443, "127.0.0.1"))

    def test_who_waits_is_not_read_from(self) -> None:
        """Until it is begun."""
        tcp = self.connect()
        self.assertEqual(tcp.producerState, "paused")
        self.assertEqual((self.arrivals[0].host, self.arrivals[0].port), ("192.0.2.1", 40_000))
        self.arrivals[0].begin(Protocol())
        self.assertEqual(tcp.producerState, "producing")

    def test_who_is_dropped_costs_no_tls(self) -> None:
        """It is closed at once, and not read from."""
        self.decide = lambda arrival: arrival.drop()
        tcp = self.connect()
        self.assertTrue(tcp.aborted)
        self.assertEqual(tcp.value(), b"")

    def test_a_handshake_and_a_word(self) -> None:
        """TLS stands between the connection and the protocol, which sees who came."""

        class Host(Protocol):
            heard = b""

            def dataReceived(self, data: bytes) -> None:
                self.heard += data

        host = Host()
        self.decide = lambda arrival: arrival.begin(host)
        tcp = self.connect()
        client = wire.client(verify_name=False).connection("rally.example.org")
        self.assertEqual(tcp.producerState, "producing")
        for _ in range(4):
            for step in (client.do_handshake, partial(client.send, b"hello")):
                try:
                    step()
                except SSL.WantReadError:
                    break
            try:
                tcp.protocol.dataReceived(client.bio_read(65_536))
            except SSL.WantReadError:
                break
            client.bio_write(tcp.value())
            tcp.clear()
            if host.heard:
                break
        transport: Any = host.transport
        self.assertEqual(host.heard, b"hello")
        self.assertEqual(transport.negotiatedProtocol, b"ice-link/1")
        certificate = transport.getPeerCertificate().to_cryptography()
        self.assertEqual(certificate, wire.alice().certificate)
        transport.abortConnection()
        self.reactor.pump([0, 0])
