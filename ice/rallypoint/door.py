"""The door: the one place where a Rallypoint touches the library that carries its links.

:func:`open_port` accepts TCP connections and reports each as an :class:`Arrival`. Nothing is read from it and no TLS state exists
until somebody says :meth:`Arrival.begin`; who is turned away costs a few objects. Links are carried by :mod:`ice.net.tls`, or by
Twisted's own TLS where that is asked for.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from ice.net.tls import BACKLOG, listen, owned
from ice.security.contexts import ServerTls


class Arrival(Protocol):
    """A TCP connection that was accepted, and waits."""

    @property
    def host(self) -> str:
        """The far side's IP address."""

    @property
    def port(self) -> int:
        """The far side's TCP port."""

    def begin(self, protocol: TwistedProtocol) -> None:
        """Begin TLS, and give what comes out of it to ``protocol``; once."""

    def drop(self) -> None:
        """Close it without a word."""


class Port(Protocol):
    """An open port."""

    def stopListening(self) -> Any:
        """Accept nobody any more; connections live on."""

    def getHost(self) -> Any:
        """Where it listens, with ``host`` and ``port``."""


OpenPort = Callable[[Any, str, int, ServerTls, Callable[[Arrival], None]], Port]
"""The type of :func:`open_port`, for whoever brings another."""


def open_port(reactor: Any, host: str, port: int, tls: ServerTls, arrived: Callable[[Arrival], None]) -> Port:
    """Listen on ``host`` (an IP address) and ``port``; raises :class:`twisted.internet.error.CannotListenError`."""
    entrance: Any = _Entrance(reactor, tls, arrived)
    opened: Port
    if owned():
        opened = listen(reactor, host, port, entrance, tls.connection)
    else:
        opened = reactor.listenTCP(port, entrance, BACKLOG, host)
    return opened


class _Entrance(Factory):
    """Builds one :class:`_Waiting` per connection."""

    noisy = False

    def __init__(self, reactor: Any, tls: ServerTls, arrived: Callable[[Arrival], None]) -> None:
        self.arrived = arrived
        #: Twisted's TLS, where sockets do not own theirs.
        self.wrapping: Any = (
            None if owned() else TLSMemoryBIOFactory(cast("Any", tls), False, cast("Any", Factory()), reactor)
        )

    def buildProtocol(self, addr: IAddress | None) -> "_Waiting":
        """One connection more."""
        return _Waiting(self, addr)


class _Waiting(TwistedProtocol):
    """A connection before TLS: an :class:`Arrival`."""

    transport: Any

    def __init__(self, entrance: _Entrance, addr: Any) -> None:
        self._entrance = entrance
        self._decided = False
        self.host: str = addr.host
        self.port: int = addr.port

    def connectionMade(self) -> None:
        """Report it; what is not begun or dropped at once is not read from."""
        self._entrance.arrived(self)
        if not self._decided:
            self.transport.pauseProducing()

    def begin(self, protocol: TwistedProtocol) -> None:
        """Put TLS between the transport and ``protocol``."""
        self._decided = True
        transport, wrapping = self.transport, self._entrance.wrapping
        transport.protocol = protocol if wrapping is None else wrapping.protocol(wrapping, protocol)
        transport.protocol.makeConnection(transport)
        transport.resumeProducing()

    def drop(self) -> None:
        """Close it."""
        self._decided = True
        self.transport.abortConnection()
