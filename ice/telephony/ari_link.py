"""The way to an Asterisk: requests by HTTP (:class:`AriRest`), events by a WebSocket (:class:`AriEvents`). Drivers; what they carry is :mod:`ice.telephony.ari`.

Credentials travel in the Authorization header of both, never in a URL. Everything has a bound: how long a request may take, how large an answer or an event may be, how long the WebSocket may be silent: it is asked by a PING every
:data:`PING_S` and given up after :data:`DEAD_S` without a sign of life. It is dialled again after a pause that doubles; where another WebSocket has taken our application, after a long one, so that two gateways do not
take it from each other all the time.
"""

from __future__ import annotations

import random
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet import protocol
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ice.net.clock import DelayedCall
from ice.printable import printable
from ice.telephony.ari import MAX_EVENT, Ask
from ice.telephony.ari_door import Door, in_words
from ice.telephony.asterisk_call import Reply

CONNECT_S: Final = 3.0
ANSWER_S: Final = 5.0  # Asterisk tries an AudioSocket that does not answer for 2 s, and answers then
MAX_ANSWER: Final = 4 * 1024 * 1024  # a list of five thousand channels
AT_ONCE: Final = 24  # requests: Asterisk takes a hundred connections (sessionlimit)
KEPT: Final = 8  # connections kept between requests
KEPT_S: Final = 8  # Asterisk closes them after 15 s
PING_S: Final = 4.0
DEAD_S: Final = 10.0
AGAIN_S: Final = 0.25  # doubled at each try, up to
AGAIN_MAX_S: Final = 8.0
STEADY_S: Final = 5.0  # a connection that held so long was a good one
REPLACED_S: Final = 60.0
GOODBYE_S: Final = 0.5
UNAUTHORISED: Final = (401, 403)


class AriRest:
    """Requests and their answers."""

    def __init__(self, reactor: Any, door: Door) -> None:
        self.asked = 0
        self._reactor = reactor
        self._door = door
        self._pool: Any = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = KEPT
        self._pool.cachedConnectionTimeout = KEPT_S
        self._pool.retryAutomatically = False
        agent: Any = Agent(
            reactor, door.tls or BrowserLikePolicyForHTTPS(), connectTimeout=CONNECT_S, pool=self._pool
        )
        self._client = HTTPClient(agent)
        self._slots = DeferredSemaphore(AT_ONCE)
        self._asked: set[Deferred[Any]] = set()

    def ask(self, ask: Ask) -> Deferred[Reply]:
        """Make a request, as soon as fewer than :data:`AT_ONCE` are under way. Fires with what came of it, within :data:`ANSWER_S` from then; never fails."""
        self.asked += 1
        answered: Deferred[Any] = self._slots.run(self._request, ask)
        self._asked.add(answered)

        def done(result: Any) -> Reply:
            self._asked.discard(answered)
            return Reply(None, why=in_words(result)) if isinstance(result, Failure) else result

        return answered.addBoth(done)

    def close(self) -> Deferred[None]:
        """Give up what is under way, close the connections that are kept."""
        for asked in list(self._asked):
            asked.cancel()
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def _request(self, ask: Ask) -> Deferred[Any]:
        name, value = self._door.credentials
        headers: Any = {name: [value], b"Accept": [b"application/json"]}
        data = None
        if ask.body is not None:
            headers[b"Content-Type"] = [b"application/json"]
            data = msgspec.json.encode(ask.body)
        query = "&".join(f"{key}={quote(text, safe='')}" for key, text in ask.query)
        parts = (self._door.url.rstrip("/"), "/ari", ask.path, "?" + query if query else "")
        answered: Deferred[Any] = self._client.request(
            ask.method, "".join(parts), headers=headers, data=data, allow_redirects=False
        )
        answered.addCallback(self._read)
        answered.addTimeout(ANSWER_S, self._reactor)
        return answered

    @staticmethod
    def _read(response: Any) -> Deferred[Reply]:
        pieces: list[bytes] = []
        size = 0

        def keep(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size <= MAX_ANSWER:
                pieces.append(piece)

        def whole(_: object) -> Reply:
            if size > MAX_ANSWER:
                return Reply(None, why=f"it answered with more than {MAX_ANSWER} bytes")
            return Reply(response.code, b"".join(pieces))

        read: Deferred[Any] = collect(response, keep)
        return read.addCallback(whole)


class Listener(Protocol):
    """Whoever listens to events."""

    def linked(self) -> None:
        """The WebSocket is connected: the application is registered."""

    def event(self, text: str) -> None:
        """An event has come."""

    def unlinked(self, why: str, status: int | None) -> None:
        """The WebSocket is not there any more, or did not come to be; ``status`` where HTTP refused it."""


class _Socket(protocol.Protocol):
    """One WebSocket connection (RFC 6455), from its first byte to its last."""

    def __init__(self, owner: AriEvents) -> None:
        self._owner = owner
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._text: list[str] = []
        self._size = 0
        self._heard_at = 0.0
        self._timer: DelayedCall | None = None
        self.open = False
        self.status: int | None = None
        self.why = ""

    def connectionMade(self) -> None:
        self._heard_at = self._owner.reactor.seconds()
        self._say(self._owner.greeting())
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        self._heard_at = self._owner.reactor.seconds()
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._take(event)
                if self.why:
                    return
        except (RemoteProtocolError, LocalProtocolError) as error:
            self.end(f"it does not speak WebSocket: {printable(str(error), 120)}")

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.over(self, self.why or in_words(reason))

    def end(self, why: str) -> None:
        """Give it up."""
        self.why = self.why or why
        transport: Any = self.transport
        transport.abortConnection()

    def goodbye(self) -> None:
        """Close it as one should; aborted where that takes long."""
        self.why = self.why or "closed by us"
        transport: Any = self.transport
        if self.open:
            self._say(ws.CloseConnection(1000))
            transport.loseConnection()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._owner.reactor.callLater(GOODBYE_S, self._late)
        else:
            transport.abortConnection()

    def _late(self) -> None:
        self._timer = None
        transport: Any = self.transport
        transport.abortConnection()

    def _take(self, event: ws.Event) -> None:
        match event:
            case ws.AcceptConnection():
                self.open = True
                self._owner.opened(self)
            case ws.RejectConnection(status_code=status):
                self.status = status
                self.end(
                    f"user or password is wrong ({status})" if status in UNAUTHORISED
                    else f"it refuses the event WebSocket ({status})"
                )  # fmt: skip
            case ws.TextMessage(data=text):
                self._size += len(text)
                if self._size > MAX_EVENT:
                    self.end(f"it sent an event of more than {MAX_EVENT} bytes")
                    return
                self._text.append(text)
                if event.message_finished:
                    whole = "".join(self._text)
                    self._text.clear()
                    self._size = 0
                    self._owner.text(whole)
            case ws.Ping():
                self._say(event.response())
            case ws.CloseConnection(code=code, reason=reason):
                if not self.why:
                    self._say(event.response())
                self.end(
                    f"it closed the event WebSocket ({int(code)} {printable(reason or '', 80)})".replace(
                        " )", ")"
                    )
                )
            case ws.BytesMessage():
                self.end("it sent an event that is no text")

    def _say(self, event: ws.Event) -> None:
        transport: Any = self.transport
        transport.write(self._ws.send(event))

    def _watch(self) -> None:
        """Ask whether it is still there; nothing heard for long is its end."""
        self._timer = None
        silent_s = self._owner.reactor.seconds() - self._heard_at
        if silent_s >= DEAD_S or (not self.open and silent_s >= ANSWER_S):
            self.end("it does not answer any more" if self.open else "it does not answer the event WebSocket")
            return
        if self.open:
            self._say(ws.Ping())
        self._timer = self._owner.reactor.callLater(PING_S / (1 if self.open else 4), self._watch)


class AriEvents:
    """The event WebSocket of one application, connected again whenever it breaks."""

    _log = Logger()

    def __init__(
        self, reactor: Any, door: Door, app: str, listener: Listener, *, chance: random.Random | None = None
    ) -> None:
        self.reactor = reactor
        self.connections = 0  #: WebSockets that came to be
        self._door = door
        self._app = app
        self._listener = listener
        self._chance = chance or random.Random()
        self._socket: _Socket | None = None
        self._opening: Deferred[Any] | None = None
        self._timer: DelayedCall | None = None
        self._again_s = AGAIN_S
        self._rest_s = 0.0
        self._opened_at = 0.0
        self._running = False
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Connect, and again whenever that breaks."""
        if not self._running:
            self._running = True
            self._again_s = AGAIN_S
            self._connect()

    def stop(self) -> Deferred[None]:
        """Close it; fires when nothing is left in the reactor."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._opening is not None:
            self._opening.cancel()
        if self._socket is None:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._socket.goodbye()
        return self._stopped

    def rest(self) -> None:
        """Another WebSocket has taken the application: stay away for a while."""
        self._rest_s = REPLACED_S
        if self._socket is not None:
            self._socket.end("another program has taken the application: two gateways, or a test of it")

    # -- of the connection ---------------------------------------------------------------------------------------------

    def greeting(self) -> ws.Request:
        """The first words of a connection."""
        address = self._door.address
        target = f"{self._door.path}/events?app={quote(self._app, safe='')}"
        return ws.Request(
            host=str(address), target=target, extra_headers=[self._door.credentials], subprotocols=["ari"]
        )

    def opened(self, socket: _Socket) -> None:
        """The WebSocket is there."""
        self.connections += 1
        self._opened_at = self.reactor.seconds()
        self._listener.linked()

    def text(self, text: str) -> None:
        """An event."""
        self._listener.event(text)

    def over(self, socket: _Socket, why: str) -> None:
        """The WebSocket is no more."""
        self._socket = None
        if socket.open and self.reactor.seconds() - self._opened_at >= STEADY_S:
            self._again_s = AGAIN_S
        stopped, self._stopped = self._stopped, None
        self._later(why, socket.status)
        if stopped is not None:
            stopped.callback(None)

    # -- within --------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._timer = None
        address = self._door.address
        endpoint: Any = HostnameEndpoint(self.reactor, address.host, address.port, timeout=CONNECT_S)
        ours: Any = self._door.tls
        if ours is not None:
            endpoint = wrapClientTLS(ours, endpoint)
        self._opening = endpoint.connect(protocol.Factory.forProtocol(lambda: _Socket(self)))
        self._opening.addCallbacks(self._connected, self._failed)

    def _connected(self, socket: Any) -> None:
        self._opening = None
        self._socket = socket
        if not self._running:
            socket.goodbye()

    def _failed(self, failure: Failure) -> None:
        self._opening = None
        self._later(in_words(failure), None)

    def _later(self, why: str, status: int | None) -> None:
        if not self._running:
            return
        self._listener.unlinked(why, status)
        delay = self._again_s if status not in UNAUTHORISED else AGAIN_MAX_S
        delay, self._rest_s = max(delay, self._rest_s), 0.0
        self._again_s = min(AGAIN_MAX_S, self._again_s * 2)
        self._timer = self.reactor.callLater(delay * self._chance.uniform(0.8, 1.2), self._connect)
