"""A link on a Twisted transport: the thin driver between a :class:`~ice.link.session.Session` and TLS.

The same driver serves both ends.  Its *owner* (a Rallypoint, a client) hears what happens in five verbs; the owner
creates the session once the handshake has shown who the far side is.  Whatever carries the bytes need only be an
``ITransport`` with a TLS handshake: nothing here knows which library owns the socket.

Time is ``clock.seconds()`` of the clock given; the owner calls :meth:`Link.pulse` about every 100 ms for
each of its links.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import interfaces
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ice.link.event import Ended, Event
from ice.link.message import Code
from ice.link.outbox import Outbox
from ice.link.session import Session
from ice.link.wake import Wake
from ice.net.clock import Clock, DelayedCall
from ice.net.fanout import RECORD, Lane

ALPN = b"ice-link/1"
#: How long the far side may take to read our BYE before the connection is cut.
CLOSE_S = 1.0
PULSE_S = 0.1


class Owner(Protocol):
    """Who a link belongs to."""

    def handshaken(self, link: "Link", certificate: X509) -> None:
        """TLS stands and the far side has shown ``certificate``: call :meth:`Link.begin`, or :meth:`Link.refuse`."""

    def media(self, link: "Link", frame: bytes) -> None:
        """One whole MEDIA frame came."""

    def event(self, link: "Link", event: Event) -> None:
        """Something else came; never :class:`~ice.link.event.Ended`."""

    def ended(self, link: "Link", ended: Ended) -> None:
        """The link is over: a BYE, a broken rule, silence, or the connection itself.  Called once, the last call."""

    def explain(self, failure: Failure) -> tuple[str, str]:
        """A code for counters and a sentence for people, for a connection that was lost."""


@implementer(interfaces.IHandshakeListener, interfaces.IPushProducer)
class Link(TwistedProtocol):
    """One link, of either end."""

    transport: Any

    def __init__(self, owner: Owner, clock: Clock, wake: Wake) -> None:
        """``wake``: what all links of this process share, and their owner beats."""
        # All attributes are set here, transport included: thousands of links then share the keys of their dictionaries.
        self.transport = None
        #: The session; there is none before the TLS handshake is over.
        self.session: Session | None = None
        #: Beside us, C may write media on this link (:mod:`ice.net.fanout`), where the transport has a lane.
        self.lane: Lane | None = None
        self._owner = owner
        self._clock = clock
        self._wake = wake
        self._naps = wake.naps
        self._ended: Ended | None = None
        self._told = False
        self._closing: DelayedCall | None = None
        self._paused = False
        self._sent_frames = 0
        self._sent_bytes = 0
        #: Frames and bytes of media received from the transport.
        self.received_frames = 0
        self.received_bytes = 0

    # -- for the owner -----------------------------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Use ``session`` from here on, and write what it has to say already."""
        self.session = session
        self._naps = self._wake.naps
        session.outbox.blocked = self._paused
        self.lane = getattr(self.transport, "lane", None)
        session.outbox.gate = self.lane
        self.flush()

    @property
    def sent_frames(self) -> int:
        """Frames of media handed to the transport."""
        return self._sent_frames + (0 if self.lane is None else self.lane.frames)

    @property
    def sent_bytes(self) -> int:
        """Bytes of those frames, headers included."""
        return self._sent_bytes + (0 if self.lane is None else self.lane.bytes)

    def note_carried(self) -> bool:
        """Whether media was sent since the last pulse; the session knows afterwards."""
        session, lane = self.session, self.lane
        if session is None:
            return False
        if lane is not None and lane.take_carried():
            session.vigil.carried = True
        return session.vigil.carried

    def refuse(self, code: Code, reason: str) -> None:
        """Turn the far side away before there is a session: BYE, then close."""
        self.session = Session(opener=False, now=self._clock.seconds())
        self.end(code, reason)

    def send_media(self, frame: bytes) -> None:
        """Send a whole MEDIA frame, or let it wait where the far side is behind."""
        session = self.session
        if session is None or self._ended is not None:
            return
        session.vigil.carried = True
        if session.outbox.open:
            self._sent_frames += 1
            self._sent_bytes += len(frame)
            self.transport.write(frame)
        else:
            session.outbox.push(frame, self._clock.seconds())

    def send_many(self, frames: Sequence[bytes]) -> None:
        """Send whole MEDIA frames, in order: as many as fit in one TLS record together, which costs one encryption and one system call."""
        if len(frames) == 1:
            self.send_media(frames[0])
            return
        session = self.session
        if session is None or self._ended is not None:
            return
        session.vigil.carried = True
        outbox, begin, size = session.outbox, 0, 0
        for at, frame in enumerate(frames):
            if size + len(frame) > RECORD and at > begin:
                self._send_together(outbox, frames[begin:at])
                begin, size = at, 0
            size += len(frame)
        self._send_together(outbox, frames[begin:] if begin else frames)

    def _send_together(self, outbox: Outbox, frames: Sequence[bytes]) -> None:
        if not outbox.open:
            now = self._clock.seconds()
            for frame in frames:
                outbox.push(frame, now)
            return
        data = b"".join(frames)
        self._sent_frames += len(frames)
        self._sent_bytes += len(data)
        self.transport.write(data)

    def flush(self) -> None:
        """Write what the session wants to say; call it after any call of the session."""
        session = self.session
        if session is not None and self.transport is not None:
            data = session.take()
            if data:
                self.transport.write(data)

    def pulse(self, now: float) -> None:
        """Let time pass on this link."""
        session = self.session
        if session is None or self._ended is not None:
            return
        self.note_carried()
        for event in session.tick(now):
            self._happened(event)
        self._drain(now)
        self.flush()

    def end(
        self,
        code: Code,
        reason: str,
        *,
        retry_after_s: float | None = None,
        alternatives: tuple[str, ...] = (),
    ) -> None:
        """Say BYE and close; the owner is told at once."""
        if self._ended is None and self.session is not None:
            self._happened(
                self.session.end(code, reason, retry_after_s=retry_after_s, alternatives=alternatives)
            )

    def abort(self) -> None:
        """Cut the connection now, without a word."""
        if self.transport is not None:
            self.transport.abortConnection()

    def release(self) -> None:
        """Let go of session and transport once the connection is gone: owner and link name each other, and what hangs on them is
        large and should not wait for the garbage collector."""
        self._sent_frames, self._sent_bytes = self.sent_frames, self.sent_bytes
        self.session = self.lane = self.transport = None

    # -- IProtocol, IHandshakeListener --------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        transport = self.transport
        certificate = transport.getPeerCertificate()
        if transport.negotiatedProtocol != ALPN:
            self.refuse(Code.ALPN, f"this port speaks {ALPN.decode()} (ALPN); offer it")
        elif certificate is None:
            self.refuse(Code.IDENTITY, "a certificate is required")
        else:
            self._owner.handshaken(self, certificate)

    def dataReceived(self, data: bytes) -> None:
        session = self.session
        if session is None or self._ended is not None:
            return
        now, wake = self._clock.seconds(), self._wake
        if now > wake.doubt_at:
            wake.beat(now)
        if wake.naps != self._naps:
            self._naps = wake.naps
            session.doubt(now)
        if session.lone_media(data, now):
            self.received_frames += 1
            self.received_bytes += len(data)
            self._owner.media(self, data)
            if session.out:
                self.flush()
            return
        self._understand(session.receive(data, now))
        if session.dropped_stale:
            wake.dropped_stale += session.dropped_stale
            session.dropped_stale = 0
        while session.holding and self._ended is None:
            self._understand(session.receive(b"", now))
        if session.outbox.open is False and not session.outbox.stale:
            self._drain(now)
        self.flush()

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self._ended is None:
            code, sentence = self._owner.explain(reason)
            self._ended = Ended(code, sentence, False)
            if self.session is not None:
                self.session.outbox.gate = None
        self._tell()

    # -- IPushProducer: the transport says when it is full ---------------------------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True
        if self.session is not None:
            self.session.outbox.blocked = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self.session is not None:
            self.session.outbox.blocked = False
            self._drain(self._clock.seconds())

    def stopProducing(self) -> None:
        """The connection is going away; :meth:`connectionLost` follows."""

    def _understand(self, events: list[Event | bytes]) -> None:
        owner = self._owner
        for event in events:
            if isinstance(event, bytes):
                self.received_frames += 1
                self.received_bytes += len(event)
                owner.media(self, event)
            else:
                self._happened(event)
            if self._ended is not None:
                break

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        session = self.session
        if session is None or self._ended is not None:
            return
        while (frame := session.outbox.next(now)) is not None:
            self._sent_frames += 1
            self._sent_bytes += len(frame)
            self.transport.write(frame)

    def _happened(self, event: Event) -> None:
        if not isinstance(event, Ended):
            self._owner.event(self, event)
            return
        self._ended = event
        if self.session is not None:
            self.session.outbox.gate = None
        self.flush()
        transport = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        self._closing = self._clock.callLater(CLOSE_S, transport.abortConnection)
        self._tell()

    def _tell(self) -> None:
        if not self._told and self._ended is not None:
            self._told = True
            self._owner.ended(self, self._ended)


def tls_failure(failure: Failure) -> SSL.Error | None:
    """The OpenSSL error inside a connection's end, where there is one."""
    return failure.value if isinstance(failure.value, SSL.Error) else None
