"""A whole Rallypoint on a clock, with people at it: real sessions joined by hand, no socket and no TLS."""

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from OpenSSL import crypto
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from ice.config.schema import AccessRule, LimitSettings, RallypointSettings
from ice.link.event import Ended, ErrorReceived, Event, JoinedReceived, Opened
from ice.link.frame import MEDIA, media
from ice.link.message import Hello
from ice.link.naming import new_source, stream_key
from ice.link.session import Session
from ice.net.link import ALPN
from ice.rallypoint.door import Arrival
from ice.rallypoint.service import Rallypoint
from ice.security.contexts import ServerTls
from ice.security.trust import Credentials
from tests.unit.security import wire


class Wire(StringTransport):
    """The Rallypoint's transport after TLS; what is written lies here until the person takes it."""

    negotiatedProtocol: bytes | None = ALPN

    def __init__(self, certificate: crypto.X509 | None) -> None:
        super().__init__()
        self.certificate = certificate
        self.protocol: Any = None
        self.ended = False
        self.broken: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        super().write(data)

    def getPeerCertificate(self) -> crypto.X509 | None:
        return self.certificate

    def setTcpKeepAlive(self, on: bool) -> None:
        """As TCP has it."""

    def setTcpNoDelay(self, on: bool) -> None:
        """As TCP has it."""

    def abortConnection(self) -> None:
        self.lost(ConnectionAborted())

    def lost(self, why: Exception) -> None:
        """The connection is gone."""
        if not self.ended:
            self.ended = True
            self.protocol.connectionLost(Failure(why))


class Person:
    """A client: an arrival at the door, and a session of its own."""

    def __init__(self, stage: "Stage", credentials: Credentials, host: str, port: int) -> None:
        self.stage = stage
        self.host, self.port = host, port
        self.credentials = credentials
        self.identity = stage.tls.trust.peer(credentials.certificate).identity
        self.session = Session(opener=True, now=stage.clock.seconds())
        self.source = new_source(self.identity.id)
        self.wire = Wire(crypto.X509.from_cryptography(credentials.certificate))
        self.dropped = False
        self.begun = False
        self.shakes_hands = True
        self.sequence = 0
        self.heard: list[bytes] = []
        self.events: list[Event] = []

    # the arrival
    def begin(self, protocol: Any) -> None:
        self.begun = True
        self.wire.protocol = protocol
        protocol.makeConnection(self.wire)
        if self.shakes_hands:
            protocol.handshakeCompleted()

    def drop(self) -> None:
        self.dropped = True

    # the person
    def push(self) -> None:
        """Let the Rallypoint hear what the session has to say."""
        data = self.session.take()
        if data and self.begun and not self.wire.ended:
            self.wire.protocol.dataReceived(data)

    def pull(self) -> list[Event]:
        """Hear what the Rallypoint wrote; the new events."""
        new: list[Event] = []
        data = self.wire.value()
        self.wire.clear()
        for event in self.session.receive(data, self.stage.clock.seconds()):
            if isinstance(event, bytes):
                self.heard.append(event)
            else:
                new.append(event)
        self.events += new
        if self.wire.disconnecting:
            self.wire.lost(ConnectionDone())
        return new

    def talk_over(self) -> list[Event]:
        """Both ways, until nothing moves."""
        new: list[Event] = []
        while True:
            self.push()
            events = self.pull()
            new += events
            if not events and not self.session.out:
                return new

    def hello(self, *, role: str = "client", id: str | None = None) -> list[Event]:
        """Say HELLO."""
        self.session.hello(Hello(version=1, role=role, id=id or str(self.identity.id), agent="test"))
        return self.talk_over()

    def join(self, stream: str, **wishes: Any) -> Event:
        """Ask for a stream; the answer."""
        wishes.setdefault("source", self.source)
        self.session.join(stream, **wishes)
        return self.talk_over()[-1]

    def frame(
        self, stream: str, payload: bytes = b"voice", *, source: int | None = None, flags: int = 0
    ) -> bytes:
        """The next frame of this person."""
        made = media(
            flags, stream_key(stream), self.source if source is None else source, self.sequence, payload
        )
        self.sequence += 1
        return made

    def say(self, stream: str, payload: bytes = b"voice", **more: Any) -> bytes:
        """Send the next frame."""
        frame = self.frame(stream, payload, **more)
        self.send(frame)
        return frame

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.wire.protocol.dataReceived(data)

    def end(self) -> Ended:
        """How the link ended, by the BYE that came."""
        return next(event for event in self.events if isinstance(event, Ended))

    def errors(self) -> list[str]:
        """The codes of all ERROR that came."""
        return [event.error.code for event in self.events if isinstance(event, ErrorReceived)]

    def sequences(self) -> list[int]:
        """The sequence numbers heard."""
        return [MEDIA.unpack_from(frame)[5] for frame in self.heard]


@attrs.define
class FakePort:
    """An open port that nobody can reach but by :meth:`Stage.knock`."""

    host: str
    port: int
    open: bool = True

    def stopListening(self) -> None:
        self.open = False

    def getHost(self) -> "FakePort":
        return self


class Stage:
    """The Rallypoint and the clock."""

    def __init__(
        self,
        *,
        limits: dict[str, Any] | None = None,
        access: Iterable[AccessRule] = (),
        start: bool = True,
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.tls: ServerTls = wire.server()
        self.cpu_s = 0.0
        self.ports: list[FakePort] = []
        self.arrived: Callable[[Arrival], None]
        self.settings = rules(limits=limits, access=access, **settings)
        self.rallypoint = Rallypoint(
            self.clock,
            self.settings,
            self.tls,
            open_port=self._open,
            cpu_s=lambda: self.cpu_s,
            wall=lambda: wire.NOW,
        )
        self.house = self.rallypoint.house
        if start:
            self.rallypoint.startService()

    def _open(self, reactor: Any, host: str, port: int, tls: Any, arrived: Any) -> FakePort:
        self.arrived = arrived
        self.ports.append(FakePort(host, port))
        return self.ports[-1]

    def knock(
        self, credentials: Credentials | None = None, host: str = "192.0.2.1", *, shakes_hands: bool = True
    ) -> Person:
        """Somebody connects."""
        person = Person(self, credentials or wire.alice(), host, 40_000)
        person.shakes_hands = shakes_hands
        self.arrived(person)
        return person

    def guest(
        self, credentials: Credentials | None = None, *streams: str, host: str = "192.0.2.1", **wishes: Any
    ) -> Person:
        """Somebody who is in, and on these streams."""
        person = self.knock(credentials, host)
        assert isinstance(person.hello()[-1], Opened), person.events
        for stream in streams:
            assert isinstance(person.join(stream, **wishes), JoinedReceived), person.events
        return person

    def pass_time(self, seconds: float, *people: Person, step_s: float = 0.1) -> None:
        """Let time pass; ``people`` answer PINGs meanwhile."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            for person in people:
                if not person.wire.ended:
                    person.talk_over()


def rules(
    *, limits: dict[str, Any] | None = None, access: Iterable[AccessRule] = (), **settings: Any
) -> RallypointSettings:
    """Settings with these differences from the defaults."""
    return RallypointSettings(limits=LimitSettings(**(limits or {})), access=tuple(access), **settings)
