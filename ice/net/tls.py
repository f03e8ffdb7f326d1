"""TLS in which OpenSSL owns the socket: no memory BIO, no second buffer, one system call per record.

Twisted's own TLS carries every byte through two memory BIOs and its write queue, which costs about as much again as the
encryption (docs/performance.md).  Here a reactor descriptor gives the socket to OpenSSL: ``SSL_write`` is the write and
``SSL_read`` the read.  To its protocol it is the transport that Twisted's TLS would be: ``write``, producers,
``loseConnection`` with close_notify, ``abortConnection``, :class:`~twisted.internet.interfaces.IHandshakeListener`,
``getPeerCertificate``, ``negotiatedProtocol``.

Reading and writing may each want the other direction of the socket (a handshake, a key update); then the operation is
tried again when the socket is ready for what it wanted.  What OpenSSL has begun to write must be offered again, the same bytes first:
it stays at the head of the buffer, and the producer is paused from the first byte that the kernel did not take, so that
the queue of a slow link is *its own bounded queue* and not an unbounded one here.

:func:`listen` and :class:`Dialling` are the two ways in.
"""

import os
import socket as sockets
from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocolFactory,
    IReactorTCP,
    ISSLTransport,
)
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from ice.net.fanout import NOTHING, RECORD, WANT_READ, Compiled, Lane, compiled

#: Reads of one link in one turn of the reactor: a talker sends one record per 20 ms, so more than this is a backlog,
#: and the other links have a right to their turn.
READS_PER_TURN = 16
BACKLOG = 4_096  # a mesh of clients comes back all at once; the kernel cuts it to net.core.somaxconn

#: Time that a far side whose handshake has failed is given to read the alert that says why.
ALERT_S = 1.0

#: Set to ``twisted`` to carry links over Twisted's own TLS instead, e.g. to compare.
SWITCH = "ICE_TLS"

Connect = Callable[[sockets.socket], SSL.Connection]
"""Makes the TLS of a connected socket: ``ServerTls.connection``, or ``ClientTls.connection`` with its address bound."""


def owned() -> bool:
    """Whether links own their sockets; else Twisted's TLS carries them."""
    return os.environ.get(SWITCH, "") != "twisted"


def _gone() -> None:
    """What is read from a connection that is gone."""


class _OwnedSocket:
    """The descriptor; mixed into Twisted's TCP server and client connections."""

    # from tcp.Connection and FileDescriptor
    connected: int
    disconnected: int
    disconnecting: int
    socket: sockets.socket
    protocol: Any
    reactor: Any
    dataBuffer: bytes
    _tempDataLen: int
    startReading: Callable[[], None]
    startWriting: Callable[[], None]
    stopReading: Callable[[], None]
    stopWriting: Callable[[], None]
    abortConnection: Callable[[], None]

    #: Anything that the kernel does not take at once pauses the producer.
    bufferSize = 0

    # Slots beside the base classes' dictionary: with these names in it, that of each link would double in size.
    __slots__ = (
        "_compiled",
        "_read_wants_write",
        "_shaking",
        "_ssl",
        "_tls",
        "_write_wants_read",
        "doRead",
        "lane",
    )

    _tls: SSL.Connection

    def _prepare(self) -> None:
        #: For whoever writes beside us in C; None where that is not built.
        self.lane: Lane | None = None
        self._compiled: Compiled | None = None
        self._ssl: Any = None
        self._shaking = True
        self._read_wants_write = False
        self._write_wants_read = False

    def _own(self, connection: SSL.Connection) -> None:
        self._tls = connection
        self.doRead = self._shake

    # -- what a protocol asks for --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypt and send ``data`` now; what the kernel does not take waits its turn."""
        if self._shaking or self.dataBuffer or self._tempDataLen or self.disconnecting or not self.connected:
            if not self.disconnecting:
                FileDescriptor.write(self, data)  # type: ignore[arg-type]
            return
        if self._compiled is not None and len(data) <= RECORD and self._compiled.write(self._ssl, data):
            return
        try:
            sent = self._tls.send(data)
        except SSL.WantWriteError:
            sent = 0
        except SSL.Error:
            sent = 0  # the next doWrite meets the same error, where it can be reported
        if sent < len(data):
            FileDescriptor.write(self, data[sent:])  # type: ignore[arg-type]

    def writeSequence(self, pieces: list[bytes]) -> None:
        """The same for several pieces, in as few records as they fit."""
        self.write(b"".join(pieces))

    def loseConnection(self, reason: object = None) -> None:
        """Send what waits, then close_notify, and close when the far side has closed as well."""
        if self._shaking:
            self.abortConnection()
        else:
            FileDescriptor.loseConnection(self)  # type: ignore[arg-type]

    def getPeerCertificate(self) -> X509 | None:
        """The certificate that the far side has shown."""
        return self._tls.get_peer_certificate()

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What ALPN agreed on (RFC 7301), None for nothing."""
        return bytes(self._tls.get_alpn_proto_negotiated()) or None

    def export_key(self, label: bytes, length: int, context: bytes | None = None) -> bytes:
        """Key material that both ends of this link can derive and nobody else (RFC 8446 §7.5)."""
        return bytes(self._tls.export_keying_material(label, length, context))

    @property
    def tls(self) -> SSL.Connection:
        """The TLS object, for whoever asks who is at the far end."""
        return self._tls

    # -- what the reactor asks for ---------------------------------------------------------------------------------------

    doRead: Callable[[], Any]

    def _shake(self) -> Any:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return None
        except SSL.WantWriteError:
            self._read_wants_write = True
            self.startWriting()
            return None
        except SSL.SysCallError:
            return main.CONNECTION_LOST
        except SSL.Error as error:
            return self._refuse(error)
        self._shaking = False
        self._compiled = compiled()
        if self._compiled is not None:
            self.lane = Lane(self._compiled, self._tls)
            self._ssl = self._compiled.ssl(self._tls)
        self.doRead = self._read
        listener: Any = IHandshakeListener(self.protocol, None)
        if listener is not None:
            listener.handshakeCompleted()
        if self.dataBuffer or self._tempDataLen:
            self.startWriting()
        # what came with the end of the handshake may already be out of the socket
        return self._read() if self.connected and self.doRead == self._read else None

    def _read(self) -> Any:
        """Read until the socket is empty, or this link has had its turn."""
        if self._compiled is not None and not self._write_wants_read:
            data, why = self._compiled.drain(self._ssl)
            if data:
                self.protocol.dataReceived(data)
            if why in (WANT_READ, NOTHING) or not self.connected or self.doRead != self._read:
                return None  # the common case; anything else is met again below, where it has a name
        receive = self._tls.recv
        pieces: list[bytes] = []
        end: Any = None
        try:
            pieces.extend(receive(RECORD) for _ in range(READS_PER_TURN))
        except SSL.WantReadError:
            pass
        except SSL.WantWriteError:
            self._read_wants_write = True
            self.startWriting()
        except SSL.ZeroReturnError:
            end = main.CONNECTION_DONE
        except SSL.SysCallError:
            end = main.CONNECTION_LOST
        except SSL.Error as error:
            # Without a reason it is an end met before, whose reason has been read already: the connection broke.
            end = error if any(error.args) else main.CONNECTION_LOST
        if self._write_wants_read:
            self._write_wants_read = False
            self.startWriting()
        if pieces:
            self.protocol.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return end if self.connected else None

    def connectionLost(self, reason: Failure) -> None:
        """The socket is closed here, and its number may be another link's in a moment: nobody may write to it any more."""
        if self.lane is not None:
            self.lane.close()
        super().connectionLost(reason)  # type: ignore[misc]
        self.doRead = _gone  # a method of ours held by ourselves would keep the TLS object until the garbage is collected

    def doWrite(self) -> Any:
        """The socket takes bytes again: first for whom it was not reading, then for what waits."""
        if self._read_wants_write:
            self._read_wants_write = False
            end = self.doRead()
            if end is not None or not self.connected:
                return end
        if self._shaking or not (self.dataBuffer or self._tempDataLen or self.disconnecting):
            self.stopWriting()
            return None
        return FileDescriptor.doWrite(self)  # type: ignore[arg-type]

    def writeSomeData(self, data: bytes) -> Any:
        """Offer OpenSSL the head of the buffer; how much of it is gone, or why the link is over."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._tls.send(memoryview(data)[sent:])
        except SSL.WantWriteError:
            pass
        except SSL.WantReadError:
            self._write_wants_read = True
            self.stopWriting()
        except SSL.ZeroReturnError:
            return main.CONNECTION_DONE
        except SSL.Error:
            return main.CONNECTION_LOST
        return sent

    def _postLoseConnection(self) -> Any:
        """Everything is written: say that we close, and listen for the far side's end.

        A socket closed with unread bytes resets the connection, and a reset overtakes our last words in the far side's kernel.
        Whoever does not want to wait for ever calls ``abortConnection``.
        """
        try:
            self._tls.shutdown()
            self.socket.shutdown(sockets.SHUT_WR)
        except (SSL.Error, OSError):
            return main.CONNECTION_DONE
        self.doRead = self._linger
        self.startReading()
        return None

    def _refuse(self, error: SSL.Error) -> Any:
        """The handshake has failed, and OpenSSL has written the alert: close when the far side has read it, for the reason above."""
        try:
            self.socket.shutdown(sockets.SHUT_WR)
        except OSError:
            return error
        self.stopWriting()
        self.doRead = partial(self._hear_out, error)
        self.reactor.callLater(ALERT_S, self._cut, error)
        return self._hear_out(error)

    def _hear_out(self, error: SSL.Error) -> Any:
        return None if self._linger() is None else error

    def _cut(self, error: SSL.Error) -> None:
        if self.connected:
            self.stopReading()
            self.connectionLost(Failure(error))

    def _linger(self) -> Any:
        for _ in range(READS_PER_TURN):
            try:
                if not self.socket.recv(RECORD):
                    return main.CONNECTION_DONE
            except BlockingIOError:
                return None
            except OSError:
                return main.CONNECTION_DONE
        return None


@implementer(ISSLTransport)
class _Accepted(_OwnedSocket, tcp.Server):  # type: ignore[misc]
    """The accepting end.  Its TLS is made when the first byte comes: who says nothing costs a socket and no more."""

    def __init__(self, sock: sockets.socket, *rest: Any) -> None:
        self._prepare()
        self.doRead = self._begin
        super().__init__(sock, *rest)
        self.logstr = self.repstr = (
            "a link"  # as many different names as there are links would be read by nobody
        )

    def _begin(self) -> Any:
        self._own(self.server.tls_of(self.socket))  # type: ignore[attr-defined]
        return self._shake()


class _Port(tcp.Port):
    """A listening port whose connections are TLS."""

    transport = _Accepted  # type: ignore[assignment]

    def __init__(self, tls_of: Connect, *rest: Any, **named: Any) -> None:
        super().__init__(*rest, **named)
        self.tls_of = tls_of


@implementer(ISSLTransport)
class _Opened(_OwnedSocket, tcp.Client):  # type: ignore[misc]
    """The opening end."""

    def __init__(self, tls_of: Connect, *rest: Any) -> None:
        self._prepare()
        self._tls_of = tls_of
        super().__init__(*rest)  # type: ignore[no-untyped-call]

    def _connectDone(self) -> None:
        self._own(self._tls_of(self.socket))
        super()._connectDone()  # type: ignore[no-untyped-call]
        if self.connected and not self.disconnecting:
            end = self._shake()  # the opener speaks first
            if end is not None:
                self.reactor.callLater(0, self.connectionLost, Failure(end))


class _Connector(tcp.Connector):
    """Dials, and makes the connection TLS."""

    def __init__(self, tls_of: Connect, *rest: Any) -> None:
        self._tls_of = tls_of
        super().__init__(*rest)

    def _makeTransport(self) -> Any:
        return _Opened(self._tls_of, self.host, self.port, self.bindAddress, self, self.reactor)


def descriptors() -> tuple[type, ...]:
    """What the reactor reads links by, for :func:`ice.net.poll.shorten`."""
    return _Accepted, _Opened


def listen(reactor: Any, host: str, port: int, factory: IProtocolFactory, tls_of: Connect) -> Any:
    """Listen for TLS on ``host:port``; an ``IListeningPort``.

    Raises :class:`twisted.internet.error.CannotListenError` when the port cannot be had.
    """
    made = _Port(tls_of, port, factory, BACKLOG, host, reactor)
    made.startListening()
    return made


class Dialling:
    """A reactor whose ``connectTCP`` opens TLS: give it to any TCP client endpoint, which then resolves and dials as ever.

    The endpoint's Deferred fires when TCP stands; the protocol hears ``handshakeCompleted``.
    """

    def __init__(self, reactor: Any, tls_of: Connect) -> None:
        self._reactor = reactor
        self._tls_of = tls_of
        directlyProvides(self, providedBy(reactor) + IReactorTCP)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """``IReactorTCP.connectTCP``, with TLS."""
        connector = _Connector(self._tls_of, host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector
