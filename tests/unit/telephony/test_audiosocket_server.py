"""The server of AudioSocket connections without a network: nothing is left of connections that are over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.net.addresses import Address
from ice.telephony.audiosocket import encode
from ice.telephony.audiosocket_server import LINGER_S, LOOK_S, AudioSocketServer

HERE = IPv4Address("TCP", "127.0.0.1", 40_000)


class Wire(StringTransport):
    """The call manager's end, which reads nothing: what is closed stays until it is broken off."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = self.broken = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to be done in memory."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """The same."""

    def getHandle(self) -> Any:
        return self

    def setsockopt(self, *_: int) -> None:
        """The same."""

    def loseConnection(self) -> None:
        self.closing = True

    def abortConnection(self) -> None:
        self.broken = True


class Hearer:
    def __init__(self) -> None:
        self.ends: list[tuple[UUID, str]] = []

    def connected(self, media: UUID) -> None:
        """Known anyway."""

    def heard(self, media: UUID, rate: int, samples: bytes) -> None:
        """Nobody speaks."""

    def pressed(self, media: UUID, digit: str) -> None:
        """Nobody presses keys."""

    def ended(self, media: UUID, why: str) -> None:
        self.ends.append((media, why))


class Connections(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.hearer = Hearer()
        self.server = AudioSocketServer(self.reactor, Address("127.0.0.1", 0), self.hearer, rate=8_000)
        self.server.start()

    def connect(self, media: UUID) -> tuple[Any, Wire]:
        """A connection that says a UUID which is expected."""
        self.server.expect(media, 5.0)
        protocol, wire = self.server.buildProtocol(HERE), Wire()
        assert protocol is not None
        protocol.makeConnection(wire)
        protocol.dataReceived(encode(0x01, media.bytes))
        return protocol, wire

    def pass_by(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.reactor.advance(0.02)

    def test_stopped_with_connections(self) -> None:
        """Who is stopped while calls stand forgets them: the next start has no clock to keep, and expects the same UUID anew."""
        protocol, wire = self.connect(UUID(int=1))
        stopped = self.server.stop()
        self.assertTrue(wire.broken)
        protocol.connectionLost(Failure(ConnectionAborted()))
        self.successResultOf(stopped)
        self.assertEqual(len(self.server.rendezvous), 0)
        self.server.start()
        self.server.expect(UUID(int=2), 0.1)
        self.pass_by(1.0)
        self.assertEqual(self.hearer.ends, [(UUID(int=2), "the call manager did not connect")])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_closed_and_not_gone(self) -> None:
        """A connection that was closed, and whose far side reads nothing any more, is broken off, so that it takes nobody's place."""
        protocol, wire = self.connect(UUID(int=1))
        self.server.close(UUID(int=1))
        self.assertTrue(wire.closing)
        self.pass_by(LINGER_S - 0.1)
        self.assertFalse(wire.broken)
        self.pass_by(LOOK_S + 0.2)
        self.assertTrue(wire.broken)
        protocol.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(len(self.server), 0)
        self.pass_by(1.0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
