"""Where a call manager brings the sound of calls: a TCP server of AudioSocket connections (:mod:`ice.telephony.audiosocket`).

**Who may connect.** AudioSocket is clear text without any proof of who speaks: connections are taken from this machine, else only from the networks listed; others are closed at once. What is let in has to say, within seconds,
a UUID that somebody waits for, and each UUID is let in once (:mod:`ice.telephony.audiosocket_session`).

**What is said** goes out as it is given, 20 ms at a time. Where nothing is given for a while (:data:`QUIET_S`), the server says silence, since a call manager may take a silent connection for a dead one. Where the
far side does not read, what it would hear too late is dropped and counted: at most :data:`BACKLOG` bytes wait here.

Nothing is clocked by what comes in: a line that is silent sends nothing at all.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol
from uuid import UUID

from twisted.internet import protocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ice.net.addresses import Address
from ice.net.clock import DelayedCall
from ice.telephony import audiosocket
from ice.telephony.audiosocket_session import Ended, Event, Rendezvous, Session, Why
from ice.telephony.line_buffer import FRAME_MS

FRAME_S: Final = FRAME_MS / 1000
QUIET_S: Final = 0.05  # two frames late: whoever speaks every 20 ms is never doubled by our silence
LINGER_S: Final = (
    2.0  # for what is still to be said to a connection that is closed; who reads nothing loses it
)
LOOK_S: Final = 0.5  # for UUIDs that do not come, and connections that say none
NAMELESS_MAX: Final = 64  # connections that have not said a UUID yet
CONNECTIONS_MAX: Final = 2_048
BACKLOG: Final = 16_384  # bytes, a quarter of a second at 16 kHz with what the kernel holds as much again


class Hearer(Protocol):
    """Whoever waits for connections."""

    def connected(self, media: UUID) -> None:
        """The connection of this UUID is there."""

    def heard(self, media: UUID, rate: int, samples: bytes) -> None:
        """It speaks: 16 bit little-endian mono at ``rate`` Hz."""

    def pressed(self, media: UUID, digit: str) -> None:
        """A telephone key."""

    def ended(self, media: UUID, why: str) -> None:
        """It has ended, or did not come in time; not told of those that :meth:`AudioSocketServer.close` closes."""


@implementer(IPushProducer)
class _Connection(protocol.Protocol):
    """One connection; the server decides, this one carries."""

    def __init__(self, server: AudioSocketServer, session: Session) -> None:
        self.session = session
        self.said_at = 0.0
        self.full = False
        self.gone_by = float("inf")  #: when it is broken off, if it was closed and does not go
        self._server = server

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BACKLOG)
        transport.bufferSize = BACKLOG
        transport.registerProducer(self, True)
        self._server.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._server.came(self, data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._server.lost(self, reason)

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False

    def stopProducing(self) -> None:
        self.full = True

    def say(self, message: bytes) -> None:
        transport: Any = self.transport
        transport.write(message)

    def look(self, now: float) -> None:
        """Break off what does not go."""
        transport: Any = self.transport
        if now >= self.gone_by:
            transport.abortConnection()

    def close(self, now: float, *, at_once: bool) -> None:
        transport: Any = self.transport
        self.gone_by = min(self.gone_by, now + LINGER_S)
        transport.unregisterProducer()
        transport.abortConnection() if at_once else transport.loseConnection()


class AudioSocketServer(protocol.Factory):
    """The server; see the module docstring.

    ``address`` is where it listens (port 0: the system's choice), ``allow`` networks beside this machine, ``rate`` that of what is said, Hz.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self, reactor: Any, address: Address, hearer: Hearer, *, rate: int, allow: Iterable[str] = ()
    ) -> None:
        self.rendezvous = Rendezvous()
        #: Connections that were not let in or have ended, by why (:class:`~ice.telephony.audiosocket_session.Why`, ``address``, ``many``, ``late``), and frames that went nowhere (``no-connection``, ``slow-reader``).
        self.counters: Counter[str] = Counter()
        self.silences = 0  #: frames of silence that were said because nobody said anything
        self._reactor = reactor
        self._address = address
        self._hearer = hearer
        self._rate = rate
        self._allow = tuple(ipaddress.ip_network(network, strict=False) for network in allow)
        self._silence = audiosocket.sound(rate, bytes(rate * FRAME_MS // 1000 * 2))
        self._all: set[_Connection] = set()
        self._named: dict[UUID, _Connection] = {}
        self._port: Any = None
        self._tick: DelayedCall | None = None
        self._next_tick = 0.0
        self._look_at = 0.0
        self._stopping: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return int(self._port.getHost().port) if self._port is not None else 0

    def start(self) -> None:
        """Listen. Raises :class:`twisted.internet.error.CannotListenError`."""
        if self._port is None:
            self._port = self._reactor.listenTCP(
                self._address.port, self, interface=self._address.host, backlog=128
            )

    def stop(self) -> Deferred[None]:
        """Close everything; fires when nothing is left in the reactor."""
        port, self._port = self._port, None
        done: Deferred[None] = Deferred()
        self._stopping = done
        closing = (port.stopListening() if port is not None else None) or succeed(None)
        closing.addBoth(lambda _: self._close_all())
        return done

    # -- the owner's side ----------------------------------------------------------------------------------------------

    def expect(self, media: UUID, within_s: float) -> None:
        """A connection of this UUID is to come; to be said before the call manager is asked for it."""
        self.rendezvous.expect(media, self._reactor.seconds() + within_s)
        self._arm()

    def close(self, media: UUID) -> None:
        """Close the connection of this UUID, and wait for none."""
        self.rendezvous.forget(media)
        connection = self._named.pop(media, None)
        if connection is not None:
            connection.session.refuse(Why.HUNG_UP)
            connection.say(audiosocket.hang_up())
            connection.close(self._reactor.seconds(), at_once=False)
            self._arm()

    def say(self, media: UUID, samples: bytes) -> None:
        """Say 20 ms; dropped and counted where there is no connection, or one that does not read."""
        connection = self._named.get(media)
        if connection is None:
            self.counters["no-connection"] += 1
            return
        connection.said_at = self._reactor.seconds()
        if connection.full:
            self.counters["slow-reader"] += 1
        else:
            connection.say(audiosocket.sound(self._rate, samples))

    # -- the connections' side -----------------------------------------------------------------------------------------

    def buildProtocol(self, addr: Any) -> protocol.Protocol | None:
        """Let a connection in by its address; ``None`` closes it."""
        host = ipaddress.ip_address(str(addr.host).partition("%")[0])
        host = getattr(host, "ipv4_mapped", None) or host
        if not host.is_loopback and not any(host in network for network in self._allow):
            if not self.counters["address"]:
                self._log.warn("a connection of {host} was refused: it is not listed (allow)", host=str(host))
            self.counters["address"] += 1
            return None
        if len(self._all) >= CONNECTIONS_MAX or len(self._all) - len(self._named) >= NAMELESS_MAX:
            self.counters["many"] += 1
            return None
        return _Connection(self, Session(self._reactor.seconds()))

    def opened(self, connection: _Connection) -> None:
        """A connection is there, and has said nothing yet."""
        self._all.add(connection)
        self._arm()

    def came(self, connection: _Connection, data: bytes) -> None:
        """Bytes have come."""
        self._take(connection, connection.session.receive(data, self._reactor.seconds()))

    def lost(self, connection: _Connection, reason: Failure) -> None:
        """A connection is at its end; a reset is as good as any."""
        self._all.discard(connection)
        cleanly = reason.check(ConnectionDone) is not None
        self.counters["reset"] += not cleanly
        self._take(connection, connection.session.closed())
        self._finished()

    def _take(self, connection: _Connection, events: Iterable[Event]) -> None:
        for event in events:
            media = connection.session.call
            match event:
                case audiosocket.Named(call):
                    why = self.rendezvous.arrived(call, self._reactor.seconds())
                    if why is not None:
                        self._end(connection, connection.session.refuse(why), known=False)
                        return
                    self._named[call] = connection
                    connection.said_at = self._reactor.seconds()
                    self._arm()
                    self._hearer.connected(call)
                case audiosocket.Sound(rate, samples) if media is not None:
                    self._hearer.heard(media, rate, samples)
                case audiosocket.Digit(digit) if media is not None:
                    self._hearer.pressed(media, digit)
                case Ended():
                    known = media is not None and self._named.get(media) is connection
                    self._end(connection, event, known=known)

    def _end(self, connection: _Connection, ended: Ended, *, known: bool) -> None:
        self.counters[str(ended.why)] += 1
        media = connection.session.call
        if connection in self._all:
            connection.close(self._reactor.seconds(), at_once=ended.why is not Why.HUNG_UP)
        if known and media is not None:
            del self._named[media]
            self.rendezvous.forget(media)
            self._hearer.ended(media, f"{ended.why}: {ended.text}" if ended.text else str(ended.why))

    # -- the clock -----------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Look every 20 ms while there is a connection, now and then while one is waited for, else not at all."""
        if self._tick is not None or self._stopping is not None:
            return
        now = self._reactor.seconds()
        if self._named:
            self._next_tick = max(self._next_tick + FRAME_S, now)
        elif self._all or len(self.rendezvous):
            self._next_tick = now + FRAME_S
        else:
            return
        self._tick = self._reactor.callLater(self._next_tick - now, self._turn)

    def _turn(self) -> None:
        self._tick = None
        now = self._reactor.seconds()
        for connection in self._named.values():
            if now - connection.said_at >= QUIET_S:
                connection.said_at = max(connection.said_at + FRAME_S, now - QUIET_S)
                if connection.full:
                    self.counters["slow-reader"] += 1
                else:
                    self.silences += 1
                    connection.say(self._silence)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            for connection in list(self._all):
                self._take(connection, connection.session.tick(now))
                connection.look(now)
            for media in self.rendezvous.overdue(now):
                self.counters["late"] += 1
                self._hearer.ended(media, "the call manager did not connect")
        self._arm()

    def _close_all(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for connection in list(self._all):
            connection.session.refuse(Why.HUNG_UP)
            connection.close(self._reactor.seconds(), at_once=True)
        self._named.clear()
        self.rendezvous.clear()
        self._finished()

    def _finished(self) -> None:
        if self._stopping is not None and not self._all and self._port is None:
            done, self._stopping = self._stopping, None
            done.callback(None)
