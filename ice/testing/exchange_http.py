"""HTTP and WebSocket for the scripted call manager (:mod:`ice.testing.exchange`): one port for both, as Asterisk has it; h11 and wsproto over a Twisted transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import h11
from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError


@attrs.frozen
class Asked:
    """A request: ``path`` in pieces below ``/ari``, ``query`` and headers by name (in lower case)."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@attrs.frozen
class Answer:
    """What is answered; ``status`` 0 stands for nothing: the connection is left as it is."""

    status: int
    body: bytes = b""


class Site(Protocol):
    """Whoever answers."""

    def answer(self, asked: Asked) -> Deferred[Answer]:
        """A request has come."""

    def may_listen(self, asked: Asked) -> int:
        """Whether a WebSocket may be opened: 101, or the status that refuses it."""

    def opened(self, socket: Connection) -> None:
        """A WebSocket was opened."""

    def closed(self, socket: Connection) -> None:
        """A WebSocket is no more."""


class Connection(protocol.Protocol):
    """One connection: requests one after the other, or a WebSocket."""

    def __init__(self, site: Site, gone: Callable[[Connection], None]) -> None:
        self.deaf = False  #: nothing that comes is heard any more, PINGs included
        self.asked: Asked | None = None
        self._site = site
        self._gone = gone
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = b""
        self._busy = False
        self._ws: WSConnection | None = None

    def dataReceived(self, data: bytes) -> None:
        if self.deaf:
            return
        try:
            if self._ws is not None:
                self._ws.receive_data(data)
                self._socket()
            else:
                self._http.receive_data(data)
                self._next()
        except (h11.RemoteProtocolError, RemoteProtocolError, LocalProtocolError):
            self.cut()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._gone(self)
        if self._ws is not None and self.asked is not None:
            self._site.closed(self)

    def cut(self) -> None:
        """Break it off."""
        transport: Any = self.transport
        transport.abortConnection()

    def say(self, text: str) -> None:
        """Send a text by the WebSocket."""
        self._write(ws.TextMessage(text))

    def say_close(self) -> None:
        """Close the WebSocket in order."""
        self._write(ws.CloseConnection(1000, "bye"))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        transport: Any = self.transport
        transport.write(data)

    # -- within

    def _next(self) -> None:
        while not self._busy:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._dispatch(self._request)
            else:
                return

    def _dispatch(self, request: h11.Request) -> None:
        target = urlsplit(request.target.decode("ascii", "replace"))
        pieces = tuple(unquote(piece) for piece in target.path.split("/") if piece)
        headers = {bytes(name).decode().lower(): bytes(value).decode() for name, value in request.headers}
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        asked = Asked(request.method.decode(), pieces[1:], query, headers, self._body)
        if headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(asked, request)
            return
        self._busy = True
        self._site.answer(asked).addCallback(self._answer)

    def _answer(self, answer: Answer) -> None:
        transport: Any = self.transport
        if not answer.status or transport is None or not transport.connected:
            return
        headers = [("Server", "Asterisk/22.10.0"), ("Content-type", "application/json")]
        headers.append(("Content-Length", str(len(answer.body))))
        with_body = answer.status != 204
        said = self._http.send(
            h11.Response(status_code=answer.status, headers=headers if with_body else headers[:1])
        )
        if with_body:
            said = (said or b"") + (self._http.send(h11.Data(data=answer.body)) or b"")
        transport.write((said or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        self._busy = False
        if self._http.our_state is h11.MUST_CLOSE:
            transport.loseConnection()
        else:
            self._http.start_next_cycle()
            self._next()

    def _upgrade(self, asked: Asked, request: h11.Request) -> None:
        self._ws = WSConnection(ConnectionType.SERVER)
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        self._ws.initiate_upgrade_connection(headers, request.target)
        status = self._site.may_listen(asked)
        for event in self._ws.events():
            if not isinstance(event, ws.Request):
                continue
            if status != 101:
                self._write(ws.RejectConnection(status_code=status))
                transport: Any = self.transport
                transport.loseConnection()
            else:
                self.asked = asked
                self._write(ws.AcceptConnection(subprotocol="ari" if "ari" in event.subprotocols else None))
                self._site.opened(self)

    def _socket(self) -> None:
        assert self._ws is not None
        for event in self._ws.events():
            if isinstance(event, ws.Ping):
                self._write(event.response())
            elif isinstance(event, ws.CloseConnection):
                self._write(event.response())
                transport: Any = self.transport
                transport.loseConnection()

    def _write(self, event: ws.Event) -> None:
        assert self._ws is not None
        transport: Any = self.transport
        transport.write(self._ws.send(event))


class HttpServer(protocol.Factory):
    """All connections of one site."""

    noisy = False

    def __init__(self, site: Site) -> None:
        self.connections: set[Connection] = set()
        self._site = site

    def buildProtocol(self, addr: Any) -> Connection:
        """Take everybody."""
        connection = Connection(self._site, self.connections.discard)
        self.connections.add(connection)
        return connection
