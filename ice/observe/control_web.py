"""The control of a daemon (:mod:`ice.observe.control`) over HTTPS, for people with a certificate of the role ``operator`` and for nobody else.

A request is a POST to ``/`` with the content type ``application/json``; its body is what is said on the Unix socket: a line, and behind it as many bytes as the line announces::

    POST / HTTP/1.1
    content-type: application/json

    {"do":"activate","id":"ns"}

The answer is the same object: 200 where it was done, 409 where it was refused, 400 for what is no request, 500 where the daemon failed.

**Who may.** TLS 1.3; a certificate of one of the site's own authorities, with the role ``operator``, valid now and not revoked. Another organisation's certificates are never believed here. What was revoked or has
expired since is found out at each request, on connections that are open too. What we show is the daemon's own certificate, which has to name the address that people dial.

A page in a browser that holds an operator's certificate cannot have its owner's commands done: the content type makes the browser ask for leave first, which nobody gives.

**Bounds.** :data:`MAX_CONNECTIONS` at once, :data:`EACH` of them from one address; :data:`HANDSHAKE_S` until the first word, :data:`IDLE_S` without another; a body has the length that its head tells, which is refused before it is read where it is more than any request has. Who could not come in is logged once a minute, however often he tries.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Request as WebRequest
from zope.interface import implementer

from ice.config.control import unnamed
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.net.ports import PortService
from ice.observe.control import DONE, FAILED, Answer, Asker, Control, Malformed, encoded
from ice.observe.web import TEXT, Few, QuietSite, answer
from ice.rallypoint.throttle import Throttle
from ice.security.certificates import Role, common_name
from ice.security.contexts import ServerTls, addresses_in, peer_of
from ice.security.refusals import Reason, Refusal, explain
from ice.security.trust import Credentials, Peer, Trust

MAX_CONNECTIONS: Final = 16  # a control room; each may bring as much as a command takes
EACH: Final = 4  # from one address, so that nobody keeps others out
IDLE_S: Final = 30.0
HANDSHAKE_S: Final = 5.0  # from the connection to the first request
ALPN: Final = b"http/1.1"
JSON: Final = "application/json"
CODES: Final = {DONE: 200, FAILED: 500}
Wall = Callable[[], datetime]


class Shown(Protocol):
    """What the daemon shows and believes, as it is now: a :class:`~ice.security.contexts.ClientTls` or :class:`~ice.security.contexts.ServerTls`."""

    @property
    def credentials(self) -> Credentials:
        """Our certificate and its key."""

    @property
    def trust(self) -> Trust:
        """The authorities, and whom they have revoked."""


@implementer(IOpenSSLServerConnectionCreator)
class OperatorTls:
    """The accepting end of a control: what ``shown`` has when somebody connects, for operators alone.

    Raises :class:`LocalError` where the certificate names nobody who could be dialled; ``setting`` is the key that asks for it.
    """

    _log = Logger()

    def __init__(self, shown: Shown, setting: str) -> None:
        certificate = shown.credentials.certificate
        if not addresses_in(certificate):
            raise LocalError(f"{unnamed('identity.certificate', common_name(certificate))} ({setting})")
        self._shown = shown
        self._made = shown.credentials, shown.trust
        self._tls = ServerTls(*self._made, admits=(Role.OPERATOR,), alpn=ALPN)

    @property
    def trust(self) -> Trust:
        """Who is let in now."""
        return self._shown.trust.domestic

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """A connection by the newest certificates that can be used."""
        shown = self._shown.credentials, self._shown.trust
        if any(new is not old for new, old in zip(shown, self._made, strict=True)):
            self._made = shown
            try:
                self._tls.swap(*shown)
            except LocalError as error:
                self._log.error("the control goes on with its earlier certificate: {why}", why=str(error))
        return self._tls.connection()


class ControlPage(Resource):
    """The one page there is."""

    isLeaf = True

    def __init__(self, control: Control, tls: OperatorTls, wall: Wall) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._control = control
        self._tls = tls
        self._wall = wall

    def render(self, request: WebRequest) -> Any:
        """Carry out a request."""
        if request.path != b"/":
            return answer(request, 404, TEXT, b"there is / and nothing else\n")
        if request.method != b"POST":
            return answer(request, 405, TEXT, b"POST a request of the control\n", b"POST")
        kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind != JSON.encode():
            return answer(request, 415, TEXT, f"the content type of a request is {JSON}\n".encode())
        connection: Any = request.channel.transport
        peer = peer_of(connection.getHandle())
        refusal = still_refused(self._tls.trust, peer, self._wall())
        if refusal is not None:
            self._control.turned_away[str(refusal.reason)] += 1
            request.setHeader(b"connection", b"close")
            return answer(request, 403, TEXT, f"{refusal}\n".encode("utf-8", "replace"))
        return self._perform(request, asker(peer, request))

    def _perform(self, request: WebRequest, asker: Asker) -> Any:
        assert request.content is not None
        line, _, attached = request.content.read().partition(b"\n")
        try:
            asked = self._control.read(line)
            if len(attached) != asked.attached:
                raise Malformed(f"{len(attached)} bytes follow the line, but its bytes says {asked.attached}")
        except Malformed as error:
            return _answer(request, 400, self._control.refuse(error))
        made = self._control.perform(asked, asker, attached)
        if not isinstance(made, Deferred):
            return _answer(request, _code(made), made)
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        made.addCallback(partial(_finish, request, gone))
        return NOT_DONE_YET


def still_refused(trust: Trust, peer: Peer, now: datetime) -> Refusal | None:
    """Why somebody who was let in when he connected may ask no more, or None."""
    if peer.valid_until < now:
        return Refusal(Reason.EXPIRED, f"the certificate of {peer.identity} has expired", by_us=True)
    return trust.still_refuses(peer)


def asker(peer: Peer, request: WebRequest) -> Asker:
    """Who shows this certificate, for the audit log."""
    identity, client = peer.identity, request.getClientAddress()
    detail = {
        "via": "https",
        "certificate": str(identity.id),
        "serial": f"{peer.serial:x}",
        "from": str(getattr(client, "host", "")),
    }
    return Asker(identity.name, detail)


def _answer(request: WebRequest, code: int, told: Answer) -> bytes:
    return answer(request, code, JSON, encoded(told))


def _code(told: Answer) -> int:
    return 200 if told["ok"] else 500 if told.get("reason") == FAILED else 409


def _finish(request: WebRequest, gone: list[Failure], told: Answer) -> None:
    if not gone:
        request.write(_answer(request, _code(told), told))
        request.finish()


class _Watched(ProtocolWrapper):
    """Between TLS and HTTP: tells why a handshake came to nothing, and ends one that comes to nothing for long."""

    _timer: Any = None

    def makeConnection(self, transport: Any) -> None:
        factory: Any = self.factory
        self._timer = factory.reactor.callLater(HANDSHAKE_S, self._late)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self._cancel()  # what TLS has deciphered comes of somebody whom it has let in
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _late(self) -> None:
        self._timer = None
        factory: Any = self.factory
        factory.late()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._cancel()
        if isinstance(reason.value, SSL.Error) and not isinstance(reason.value, SSL.ZeroReturnError):
            factory: Any = self.factory
            factory.told(self.getPeer(), explain(reason.value))  # type: ignore[no-untyped-call]
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Watching(WrappingFactory):
    protocol = _Watched
    noisy = False
    _log = Logger()

    def logPrefix(self) -> str:
        return self._title

    def __init__(self, site: QuietSite, control: Control, section: str, reactor: Any) -> None:
        super().__init__(site)  # type: ignore[no-untyped-call]
        self.reactor = reactor
        self._title = site.logPrefix()
        self._control = control
        self._section = section
        self._throttle = Throttle()

    def late(self) -> None:
        """Somebody has said nothing that could be deciphered for too long."""
        self._control.turned_away["handshake"] += 1

    def told(self, address: Any, refusal: Refusal) -> None:
        """Somebody could not come in."""
        self._control.turned_away[refusal.code] += 1
        host = str(getattr(address, "host", address))
        kept = self._throttle.passes((host, refusal.code), self.reactor.seconds())
        if kept is not None:
            self._log.warn(
                "{section}: no control for {address}: {code}: {why} ({kept} more like it before)",
                section=self._section,
                address=host,
                code=refusal.code,
                why=str(refusal),
                kept=kept,
            )


def bounded(control: Control) -> type[WebRequest]:
    """What reads requests whose body is no longer than any of ``control`` has; others end the connection, and nothing is kept or done of what has come of them."""
    most = control.max_line + 1 + control.max_attached

    class Bounded(WebRequest):
        """One request."""

        _fits = True

        def gotLength(self, length: int | None) -> None:
            """The head is in, and announces ``length`` bytes of body (None: nobody knows how many)."""
            self._fits = length is not None and length <= most
            super().gotLength(length if self._fits else 0)  # type: ignore[no-untyped-call]
            if not self._fits:
                control.too_long()
                connection: Any = self.channel.transport
                connection.abortConnection()  # a mere goodbye waits for theirs, and they may go on for ever

        def handleContentChunk(self, data: bytes) -> None:
            """Some of the body."""
            if self._fits:
                super().handleContentChunk(data)  # type: ignore[no-untyped-call]

        def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
            """The body is in: what stood behind the head in one piece is heard to its end."""
            if self._fits:
                super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    return Bounded


def web_service(
    reactor: Any,
    address: Address,
    control: Control,
    shown: Shown,
    section: str,
    wall: Wall = lambda: datetime.now(UTC),
) -> PortService:
    """What listens at ``address``; ``section`` names the settings in messages. Raises :class:`LocalError` where our certificate cannot serve."""
    setting = f"{section}.listen"
    tls = OperatorTls(shown, setting)
    site = QuietSite(ControlPage(control, tls, wall), bounded(control), reactor, IDLE_S, "control over HTTPS")
    watching: Any = _Watching(site, control, section, reactor)
    secured = TLSMemoryBIOFactory(tls, False, watching, reactor)  # type: ignore[arg-type]
    few = Few(secured, MAX_CONNECTIONS, control.full, EACH)
    return PortService(reactor, address, few, setting)
