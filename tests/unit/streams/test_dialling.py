"""From a host name to one TCP connection."""

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ice.net.addresses import Address
from ice.streams.dialling import STAGGER_S, TcpEndpoint, tcp_failure

SIX, FOUR = IPv6Address("TCP", "::1", 7443), IPv4Address("TCP", "127.0.0.1", 7443)


@implementer(IHostnameResolver)
class Resolver:
    """Resolves every name to what it was given, when told."""

    def __init__(self, *addresses: object) -> None:
        self.addresses = addresses

    def resolveHostName(self, receiver: IResolutionReceiver, *args: object, **kwargs: object) -> object:
        receiver.resolutionBegan(self)
        for address in self.addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()
        return self


class RaceTests(SynchronousTestCase):
    def dial(self, *addresses: object) -> "Deferred[object]":
        self.reactor = MemoryReactorClock()
        self.reactor.nameResolver = Resolver(*addresses)
        self.addCleanup(lambda: self.assertEqual(self.reactor.getDelayedCalls(), []))
        return TcpEndpoint(self.reactor, Address("host.test", 7443)).connect(Factory.forProtocol(Protocol))

    def dialled(self) -> list[str]:
        return [client[0] for client in self.reactor.tcpClients]

    def answer(self, number: int) -> None:
        """The attempt with this number is connected."""
        client = self.reactor.tcpClients[number]
        client[2].buildProtocol(FOUR).makeConnection(StringTransport())

    def refuse(self, number: int, reason: Exception | None = None) -> None:
        client = self.reactor.tcpClients[number]
        client[2].clientConnectionFailed(
            self.reactor.connectors[number], Failure(reason or error.ConnectionRefusedError())
        )

    def test_next_at_once_when_refused(self) -> None:
        """localhost that listens on IPv4 alone costs no waiting."""
        dialled = self.dial(SIX, FOUR)
        self.assertEqual(self.dialled(), ["::1"])
        self.refuse(0)
        self.assertEqual(self.dialled(), ["::1", "127.0.0.1"])
        self.answer(1)
        self.assertIsInstance(self.successResultOf(dialled), Protocol)

    def test_all_refused(self) -> None:
        """When all refuse, the attempt fails at once, with the first reason."""
        dialled = self.dial(SIX, FOUR)
        self.refuse(0)
        self.refuse(1, error.NoRouteError())
        self.failureResultOf(dialled, error.ConnectionRefusedError)

    def test_silence_is_overtaken(self) -> None:
        """An address that does not answer is joined by the next after a quarter of a second; the first to answer wins."""
        dialled = self.dial(SIX, FOUR)
        self.reactor.advance(STAGGER_S)
        self.assertEqual(self.dialled(), ["::1", "127.0.0.1"])
        self.answer(1)
        self.assertIsInstance(self.successResultOf(dialled), Protocol)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_addresses_are_not_looked_up(self) -> None:
        """An IP address is dialled at once, whatever becomes of the name server."""
        for host in ("192.0.2.7", "2001:db8::7"):
            reactor = MemoryReactorClock()
            reactor.nameResolver = None
            dialled = TcpEndpoint(reactor, Address(host, 7443)).connect(Factory.forProtocol(Protocol))
            self.assertEqual([client[:2] for client in reactor.tcpClients], [(host, 7443)])
            dialled.cancel()
            self.failureResultOf(dialled, CancelledError)

    def test_unknown_name(self) -> None:
        """A name that stands for nothing is told as such."""
        self.failureResultOf(self.dial(), error.DNSLookupError)

    def test_cancelled(self) -> None:
        """Giving up stops all that is under way."""
        dialled = self.dial(SIX, FOUR)
        self.reactor.advance(STAGGER_S)
        dialled.cancel()
        self.failureResultOf(dialled, CancelledError)
        self.assertTrue(all(connector.stoppedConnecting for connector in self.reactor.connectors))

    def test_words_for_failures(self) -> None:
        """Every way in which TCP fails has a code and words."""
        for reason, code in (
            (error.DNSLookupError(), "no-such-host"),
            (error.ConnectionRefusedError(), "refused"),
            (error.NoRouteError(), "unreachable"),
            (error.TCPTimedOutError(), "timeout"),
            (error.ConnectionDone(), "closed"),
            (error.ConnectionLost(), "lost"),
            (error.UnknownHostError(), "unreachable"),
            (OSError("odd"), "lost"),
        ):
            found, words = tcp_failure(Failure(reason))
            self.assertEqual(found, code, reason)
            self.assertTrue(words)
