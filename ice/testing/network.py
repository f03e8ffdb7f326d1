"""A test kit for links and streams: two ends joined by hand, and Rallypoints that exist in memory only.

For engines, :class:`SessionPair` joins an opener's and an acceptor's :class:`~ice.link.session.Session` and carries bytes between them.

For whatever uses a :class:`~ice.streams.rallypoint.RallypointNetwork`, a :class:`MemoryDialler` stands for the network below TLS: a map of
addresses to what is found there, which is nothing (refused), a :class:`MemoryRallypoint` that switches streams, a :class:`Script` that
says what the test tells it to, or silence.  All on one clock::

    clock = Clock()
    dialler = MemoryDialler(clock)
    dialler.there["a.test:7443"] = rallypoint = MemoryRallypoint(clock)
    network = network_on(dialler, "a.test:7443")
    stream = network.join("town-hall", receiver)
    network.start()
    run(clock, 1.0)
"""

from collections.abc import Callable
from random import Random
from typing import Any, Protocol
from uuid import UUID

from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from ice.errors import RemoteError
from ice.link.event import Ended, Event, HelloReceived, JoinAsked, LeaveAsked
from ice.link.frame import MEDIA, FrameSplitter, FrameType
from ice.link.message import VERSION, Code, Hello, Limits, LinkRole
from ice.link.session import Session
from ice.net.addresses import Address, parse_address
from ice.net.link import ALPN
from ice.streams.dialling import tcp_failure
from ice.streams.rallypoint import RallypointNetwork

SOMEBODY = UUID("11111111-2222-4333-8444-555555555555")
RALLYPOINT = UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")


def run(clock: Clock, seconds: float, step_s: float = 0.01) -> None:
    """Let ``seconds`` pass in small steps, as a reactor would."""
    steps = max(1, round(seconds / step_s))
    for _ in range(steps):
        clock.advance(seconds / steps)


def frames_of(data: bytes) -> list[bytes]:
    """The whole frames in ``data``, header included."""
    return FrameSplitter(max_control=0xFFFF, max_media=0xFFFF).feed(data)


class SessionPair:
    """Two ends of a link without anything between them.

    ``opener_events`` and ``acceptor_events`` collect what each end has seen; ``now`` is everybody's time.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.opener = Session(opener=True, now=now)
        self.acceptor = Session(opener=False, now=now)
        self.opener_events: list[Event | bytes] = []
        self.acceptor_events: list[Event | bytes] = []

    def open(self) -> "SessionPair":
        """Exchange HELLO and WELCOME."""
        self.opener.hello(Hello(version=VERSION, role=LinkRole.CLIENT, id=str(SOMEBODY), name="somebody"))
        self.carry()
        self.acceptor.welcome(id=str(RALLYPOINT), name="rallypoint")
        self.carry()
        return self

    def carry(self) -> None:
        """Carry control bytes to and fro until nobody has anything to say."""
        while True:
            there, back = self.opener.take(), self.acceptor.take()
            if not there and not back:
                return
            if there:
                self.acceptor_events += self.acceptor.receive(there, self.now)
            if back:
                self.opener_events += self.opener.receive(back, self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass at both ends, and carry what they say about it."""
        self.now += seconds
        self.opener_events += self.opener.tick(self.now)
        self.acceptor_events += self.acceptor.tick(self.now)
        self.carry()


class FarSide(Protocol):
    """What may be found at an address."""

    def accept(self, wire: "Wire") -> None:
        """Somebody has connected; TLS stands."""

    def received(self, wire: "Wire", data: bytes) -> None:
        """Bytes came."""

    def gone(self, wire: "Wire") -> None:
        """The near side has closed."""


class Wire:
    """One connection in memory: the near end is a transport for a Link, the far end is a :class:`FarSide`.

    Bytes take ``latency_s`` each way, and are never delivered inside a call of whoever sent them.
    """

    negotiatedProtocol = ALPN

    def __init__(self, clock: Clock, protocol: Any, far: FarSide, latency_s: float) -> None:
        self._clock = clock
        self._protocol = protocol
        self._far = far
        self._latency_s = latency_s
        self._lost = False
        self._closing = False
        self.disconnecting = False
        #: What the far side has been sent, ever.
        self.written = b""

    # -- near end: ITransport, ITCPTransport ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Near to far."""
        if not self._lost and not self._closing:
            self.written += data
            self._clock.callLater(self._latency_s, self._arrive, data)

    def loseConnection(self) -> None:
        """The near side closes, after what it has written."""
        if not self._closing:
            self._closing = self.disconnecting = True
            self._clock.callLater(self._latency_s, self._end, ConnectionDone())

    def abortConnection(self) -> None:
        """The near side cuts."""
        self._clock.callLater(0, self._end, ConnectionAborted())

    def getPeerCertificate(self) -> object:
        """A certificate that only :meth:`MemoryDialler.identify` understands."""
        return self._far

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to delay."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing to keep alive."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """This wire is never full."""

    def unregisterProducer(self) -> None:
        """See :meth:`registerProducer`."""

    # -- far end -------------------------------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Far to near."""
        self._clock.callLater(self._latency_s, self._deliver, data)

    def cut(self, reason: Exception | None = None) -> None:
        """The connection is lost, as the near side sees it after the latency."""
        self._clock.callLater(self._latency_s, self._end, reason or ConnectionLost())

    @property
    def lost(self) -> bool:
        """Whether the connection is over at the near end."""
        return self._lost

    def _arrive(self, data: bytes) -> None:
        if not self._lost:
            self._far.received(self, data)

    def _deliver(self, data: bytes) -> None:
        if not self._lost:
            self._protocol.dataReceived(data)

    def _end(self, reason: Exception) -> None:
        if not self._lost:
            self._lost = True
            self._far.gone(self)
            self._protocol.connectionLost(Failure(reason))


class TlsRefused(Exception):
    """A TLS handshake that one side refused: raised into ``connectionLost`` by a :class:`MemoryDialler`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class MemoryDialler:
    """An :class:`ice.streams.dialling.Dialler` on a map of what is where; what is not in it refuses connections."""

    def __init__(self, clock: Clock, latency_s: float = 0.0) -> None:
        self.clock = clock
        self.latency_s = latency_s
        #: What listens where, by ``host:port``.
        self.there: dict[str, FarSide] = {}
        #: Addresses that never answer.
        self.silent: set[str] = set()
        #: Addresses where the TLS handshake is refused: code and sentence.
        self.refusing: dict[str, tuple[str, str]] = {}
        #: Every attempt: when, and to which address.
        self.attempts: list[tuple[float, str]] = []

    @property
    def tried(self) -> list[str]:
        """The addresses of all attempts, in order."""
        return [address for _, address in self.attempts]

    def connect(self, address: Address, factory: Factory) -> "Deferred[IProtocol]":
        """See :class:`ice.streams.dialling.Dialler`."""
        self.attempts.append((self.clock.seconds(), str(address)))
        dialled: Deferred[IProtocol] = Deferred()
        if str(address) not in self.silent:
            call = self.clock.callLater(self.latency_s, self._answer, dialled, str(address), factory)
            dialled.addErrback(_cancelled, call)
        return dialled

    def _answer(self, dialled: "Deferred[IProtocol]", address: str, factory: Factory) -> None:
        refusal = self.refusing.get(address)
        far = self.there.get(address, Nobody() if refusal else None)
        if far is None:
            dialled.errback(ConnectionRefusedError())
            return
        protocol: Any = factory.buildProtocol(None)
        wire = Wire(self.clock, protocol, far, self.latency_s)
        protocol.makeConnection(wire)
        dialled.callback(protocol)
        if refusal is not None:
            wire.cut(TlsRefused(*refusal))
        else:
            self.clock.callLater(self.latency_s, self._handshaken, wire, protocol, far)

    def _handshaken(self, wire: Wire, protocol: Any, far: FarSide) -> None:
        if not wire.lost:
            far.accept(wire)
            protocol.handshakeCompleted()

    def identify(self, certificate: X509) -> str:
        """See :class:`ice.streams.dialling.Dialler`."""
        id: object = getattr(certificate, "id", None)
        if id is None:
            raise RemoteError("nobody is behind this certificate")
        return str(id)

    def explain(self, failure: Failure) -> tuple[str, str]:
        """See :class:`ice.streams.dialling.Dialler`."""
        if isinstance(failure.value, TlsRefused):
            return failure.value.code, str(failure.value)
        return tcp_failure(failure)


def _cancelled(failure: Failure, call: Any) -> Failure:
    if call.active():
        call.cancel()
    return failure


class Nobody:
    """A far side that says nothing, ever."""

    id = RALLYPOINT

    def accept(self, wire: Wire) -> None:
        """Nothing."""

    def received(self, wire: Wire, data: bytes) -> None:
        """Nothing."""

    def gone(self, wire: Wire) -> None:
        """Nothing."""


class Script:
    """A far side that says what the test tells it to, and keeps what it hears."""

    def __init__(self, greeting: bytes = b"", id: UUID = RALLYPOINT) -> None:
        """``greeting``: bytes sent as soon as TLS stands."""
        self.id = id
        self.greeting = greeting
        self.wires: list[Wire] = []
        self.data = b""

    def accept(self, wire: Wire) -> None:
        """Greet."""
        self.wires.append(wire)
        if self.greeting:
            wire.say(self.greeting)

    def received(self, wire: Wire, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def gone(self, wire: Wire) -> None:
        """Nothing to do."""

    def say(self, data: bytes) -> None:
        """Send these bytes on the latest connection."""
        self.wires[-1].say(data)

    def heard(self) -> list[bytes]:
        """The whole frames heard since the last call."""
        frames = frames_of(self.data)
        self.data = self.data[sum(map(len, frames)) :]
        return frames

    def expect(self, *kinds: FrameType) -> list[bytes]:
        """The frames heard since the last call; raises :class:`AssertionError` unless they are of these types."""
        frames = self.heard()
        found = [FrameType(frame[2]) for frame in frames]
        if found != list(kinds):
            raise AssertionError(f"expected {[kind.name for kind in kinds]}, heard {[k.name for k in found]}")
        return frames


class MemoryRallypoint:
    """A Rallypoint that switches streams between the links in memory, without access rules, limits or queues.

    Knobs: ``refuse[stream] = (code, message)`` answers JOIN by ERROR; ``turn_away = (code, reason)`` answers HELLO by BYE; while
    ``frozen`` nothing is read and nothing said; ``alternatives`` stand in WELCOME.
    """

    def __init__(self, clock: Clock, id: UUID = RALLYPOINT, name: str = "rallypoint") -> None:
        self.clock = clock
        self.id = id
        self.name = name
        self.refuse: dict[str, tuple[Code, str]] = {}
        self.turn_away: tuple[Code, str] | None = None
        self.retry_after_s: float | None = None
        self.alternatives: tuple[str, ...] = ()
        self.limits = Limits()
        self.frozen = False
        #: The links that stand, and who said HELLO on each.
        self.sessions: dict[Wire, Session] = {}
        self.hellos: list[Hello] = []
        #: The links of each stream, by key, and every JOIN ever asked, by stream id.
        self.listeners: dict[int, set[Wire]] = {}
        self.joins: list[JoinAsked] = []
        self.leaves: list[str] = []
        #: How each link ended that ended in words.
        self.ended: list[Ended] = []
        #: Every MEDIA frame that came.
        self.media: list[bytes] = []

    def accept(self, wire: Wire) -> None:
        """See :class:`FarSide`."""
        self.sessions[wire] = Session(opener=False, now=self.clock.seconds())

    def received(self, wire: Wire, data: bytes) -> None:
        """See :class:`FarSide`."""
        session = self.sessions.get(wire)
        if self.frozen or session is None:
            return
        for event in session.receive(data, self.clock.seconds()):
            if isinstance(event, bytes):
                self._switch(wire, event)
            else:
                self._happened(wire, session, event)
        self._flush(wire, session)

    def gone(self, wire: Wire) -> None:
        """See :class:`FarSide`."""
        self.sessions.pop(wire, None)
        for listeners in self.listeners.values():
            listeners.discard(wire)

    def say(self, frame: bytes) -> None:
        """Send these bytes on every link."""
        for wire in list(self.sessions):
            wire.say(frame)

    def bye(
        self,
        code: Code = Code.DRAINING,
        reason: str = "out of service",
        *,
        retry_after_s: float | None = None,
        alternatives: tuple[str, ...] = (),
    ) -> None:
        """Say BYE on every link and close."""
        for wire, session in list(self.sessions.items()):
            session.end(code, reason, retry_after_s=retry_after_s, alternatives=alternatives)
            self._flush(wire, session)
            wire.cut(ConnectionDone())

    def crash(self) -> None:
        """Every connection breaks, as after ``kill -9``; take the address out of :attr:`MemoryDialler.there` as well."""
        for wire in list(self.sessions):
            wire.cut()

    def _flush(self, wire: Wire, session: Session) -> None:
        data = session.take()
        if data:
            wire.say(data)

    def _happened(self, wire: Wire, session: Session, event: Event) -> None:
        if isinstance(event, HelloReceived):
            self.hellos.append(event.hello)
            if self.turn_away is not None:
                session.end(*self.turn_away, retry_after_s=self.retry_after_s, alternatives=self.alternatives)
                self._flush(wire, session)
                wire.cut(ConnectionDone())
            else:
                session.welcome(
                    id=str(self.id), name=self.name, alternatives=self.alternatives, limits=self.limits
                )
        elif isinstance(event, JoinAsked):
            self.joins.append(event)
            if event.stream in self.refuse:
                session.error(*self.refuse[event.stream], txn=event.txn)
            else:
                if event.listen:
                    self.listeners.setdefault(event.key, set()).add(wire)
                session.joined(event.txn, event.stream, event.key)
        elif isinstance(event, LeaveAsked):
            self.leaves.append(event.stream)
            self.listeners.get(event.key, set()).discard(wire)
        elif isinstance(event, Ended):
            self.ended.append(event)
            wire.cut(ConnectionDone())

    def _switch(self, wire: Wire, frame: bytes) -> None:
        self.media.append(frame)
        key = MEDIA.unpack_from(frame)[3]
        for listener in self.listeners.get(key, ()):
            if listener is not wire:
                listener.say(frame)


def network_on(
    dialler: MemoryDialler,
    *addresses: str,
    identity: UUID = SOMEBODY,
    seed: int = 1,
    **settings: Any,
) -> RallypointNetwork:
    """A network over a :class:`MemoryDialler`, its chance drawn from ``seed``; ``settings`` as :class:`RallypointNetwork` takes them."""
    return RallypointNetwork(
        dialler.clock,
        addresses=[parse_address(address) for address in addresses],
        dialler=dialler,
        identity=identity,
        random=Random(seed),
        **settings,
    )


def until(clock: Clock, true: Callable[[], object], limit_s: float = 60.0, step_s: float = 0.01) -> float:
    """Let time pass until ``true()``; how long it took.  Raises :class:`AssertionError` after ``limit_s``."""
    begun = clock.seconds()
    while not true():
        if clock.seconds() - begun > limit_s:
            raise AssertionError(f"it did not happen within {limit_s:g} s")
        clock.advance(step_s)
    return clock.seconds() - begun
