"""The way to a Rallypoint's socket: names, addresses, TCP and TLS behind one narrow seam.

:class:`Dialler` is all that a :class:`~ice.streams.rallypoint.RallypointNetwork` knows of sockets; whatever else can carry a link
(another TLS transport, a WebSocket, memory in a test) is another one.

A host name may stand for several IP addresses of both families.  They are tried in the resolver's order, the next at once when one
fails, and after 250 ms when one does not answer (RFC 8305 §5); the first connection wins.  Twisted's own ``HostnameEndpoint``
waits those 250 ms also after a refusal, which would cost a restarted Rallypoint's clients half a second each round.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, cast

from OpenSSL.crypto import X509
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from ice.net.addresses import Address
from ice.net.clock import DelayedCall
from ice.net.link import tls_failure
from ice.net.tls import Dialling, owned
from ice.security.contexts import ClientTls
from ice.security.refusals import explain

STAGGER_S = 0.25  # RFC 8305 section 8, "Connection Attempt Delay"
MAX_RESOLVED = 8  # addresses of one name that are tried
SOCKET_S = 60.0  # TCP gives up by itself then; whoever dials gives up much earlier


class Dialler(Protocol):
    """How links come to be, and what their failures mean."""

    def connect(self, address: Address, factory: Factory) -> "Deferred[IProtocol]":
        """Connect a protocol of ``factory`` to ``address``; fires when its transport is there, or fails.

        TLS may still be in progress: the protocol hears of it (``IHandshakeListener``).  Cancelling gives up.
        """

    def identify(self, certificate: X509) -> str:
        """The UUID of the Rallypoint that showed ``certificate``; raises :class:`~ice.errors.RemoteError`."""

    def explain(self, failure: Failure) -> tuple[str, str]:
        """A code for counters and a sentence for people, for a connection that failed or was lost."""


class TlsDialler:
    """TLS 1.3 over TCP: on the socket itself, or by Twisted's TLS where that is asked for (:func:`ice.net.tls.owned`)."""

    def __init__(self, reactor: Any, tls: ClientTls) -> None:
        self._reactor = reactor
        self._tls = tls

    def connect(self, address: Address, factory: Factory) -> "Deferred[IProtocol]":
        """See :class:`Dialler`."""
        if owned():
            self._tls.connection(address.host)  # a host that cannot be dialled is said at once
            dialling = Dialling(self._reactor, partial(self._tls.connection, address.host))
            return TcpEndpoint(dialling, address).connect(cast("Any", factory))
        creator: Any = self._tls.to(address.host)
        endpoint: Any = wrapClientTLS(creator, cast("Any", TcpEndpoint(self._reactor, address)))
        connecting: Deferred[IProtocol] = endpoint.connect(factory)
        return connecting

    def identify(self, certificate: X509) -> str:
        """See :class:`Dialler`."""
        return str(self._tls.trust.peer(certificate.to_cryptography()).identity.id)

    def explain(self, failure: Failure) -> tuple[str, str]:
        """See :class:`Dialler`."""
        refused = tls_failure(failure)
        if refused is not None:
            refusal = explain(refused)
            return refusal.code, refusal.sentence
        return tcp_failure(failure)


_TCP_FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (error.DNSLookupError, "no-such-host", "its name is not known (look with: getent hosts NAME)"),
    (error.ConnectionRefusedError, "refused", "nothing listens on that port"),
    (error.NoRouteError, "unreachable", "there is no route to it"),
    (error.TCPTimedOutError, "timeout", "it does not answer"),
    (error.TimeoutError, "timeout", "it does not answer"),
    (error.ConnectionAborted, "aborted", "the connection was cut from here"),
    (error.ConnectionDone, "closed", "the other side closed the connection"),
    (error.ConnectionLost, "lost", "the connection broke"),
)


def tcp_failure(failure: Failure) -> tuple[str, str]:
    """A code for counters and half a sentence for people, for a TCP connection that failed or was lost."""
    for kind, code, words in _TCP_FAILURES:
        if failure.check(kind):
            return code, words
    if failure.check(error.ConnectError):
        return "unreachable", f"no connection: {failure.getErrorMessage()}"
    return "lost", failure.getErrorMessage() or type(failure.value).__name__


@implementer(IResolutionReceiver)
class _Resolved:
    """Collects what a name stands for."""

    def __init__(self) -> None:
        self.addresses: list[IPv4Address | IPv6Address] = []
        self.done: Deferred[list[IPv4Address | IPv6Address]] = Deferred()

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Nothing to keep: resolvers cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """One more."""
        if isinstance(address, IPv4Address | IPv6Address) and len(self.addresses) < MAX_RESOLVED:
            self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """That was all."""
        self.done.callback(self.addresses)


@implementer(IStreamClientEndpoint)
class TcpEndpoint:
    """A TCP connection to whatever IP address of a host answers first."""

    def __init__(self, reactor: Any, address: Address) -> None:
        self._reactor = reactor
        self._address = address

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect; cancelling gives up all that is under way."""
        return _Race(self._reactor, self._address, protocolFactory).winner


class _Race:
    """Several IP addresses, one connection."""

    def __init__(self, reactor: Any, address: Address, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._left: list[IPv4Address | IPv6Address] = []
        self._running: list[Deferred[IProtocol]] = []
        self._stagger: DelayedCall | None = None
        self._first_failure: Failure | None = None
        self._over = False
        self.winner: Deferred[IProtocol] = Deferred(lambda _: self._end())
        self._name = address.host
        ip = address.ip
        if ip is not None and "%" not in address.host:
            # Nothing to look up, and no waiting behind look-ups that a dead name server does not answer.
            kind = IPv6Address if ip.version == 6 else IPv4Address
            self._begin([kind("TCP", address.host, address.port)])
            return
        resolved = _Resolved()
        reactor.nameResolver.resolveHostName(resolved, address.host, address.port)
        resolved.done.addCallback(self._begin)

    def _begin(self, addresses: Sequence[IPv4Address | IPv6Address]) -> None:
        if self._over:
            return
        self._left = list(addresses)
        if not self._left:
            self._end()
            self.winner.errback(error.DNSLookupError(f"the name {self._name} is not known"))
            return
        self._next()

    def _next(self) -> None:
        self._stop_stagger()
        target = self._left.pop(0)
        kind = TCP6ClientEndpoint if isinstance(target, IPv6Address) else TCP4ClientEndpoint
        attempt: Deferred[IProtocol] = kind(self._reactor, target.host, target.port, SOCKET_S).connect(
            self._factory
        )
        self._running.append(attempt)
        attempt.addCallbacks(self._won, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,))
        if self._left and not self._over and self._stagger is None:
            self._stagger = self._reactor.callLater(STAGGER_S, self._next)

    def _won(self, protocol: IProtocol, attempt: "Deferred[IProtocol]") -> None:
        self._running.remove(attempt)
        if self._over:
            protocol.transport.abortConnection()
            return
        self._end()
        self.winner.callback(protocol)

    def _failed(self, failure: Failure, attempt: "Deferred[IProtocol]") -> None:
        self._running.remove(attempt)
        if self._over:
            return
        if self._first_failure is None:
            self._first_failure = failure
        if self._left:
            self._next()
        elif not self._running:
            self._end()
            self.winner.errback(self._first_failure)

    def _end(self) -> None:
        self._over = True
        self._stop_stagger()
        for attempt in self._running[:]:
            attempt.cancel()

    def _stop_stagger(self) -> None:
        if self._stagger is not None and self._stagger.active():
            self._stagger.cancel()
        self._stagger = None
