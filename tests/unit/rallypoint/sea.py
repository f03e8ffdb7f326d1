"""Several whole Rallypoints on one clock, linked by cables that carry bytes, lose their far end, or fall silent; no socket and no TLS."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import attrs
from OpenSSL import crypto
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from ice.net.addresses import Address
from ice.net.link import ALPN
from ice.rallypoint.peering import Expected, Plan
from ice.rallypoint.service import Rallypoint
from ice.security.certificates import Role
from ice.security.contexts import ClientTls, ServerTls
from ice.security.trust import Credentials
from tests.unit.rallypoint.stage import Person, rules
from tests.unit.security import wire

MOST_STEPS = 10_000


class End:
    """One end of a cable: the transport of a protocol."""

    negotiatedProtocol: bytes | None = ALPN

    def __init__(self, cable: "Cable", credentials: Credentials) -> None:
        self.cable = cable
        self.shown = crypto.X509.from_cryptography(credentials.certificate)
        self.protocol: Any = None
        self.other: End = self
        self.over = False
        self.leaving = False

    def write(self, data: bytes) -> None:
        if not self.over and not self.cable.silent:
            self.cable.clock.callLater(self.cable.delay_s, self.other.take, data)

    def take(self, data: bytes) -> None:
        """Bytes arrive here."""
        if not self.over:
            self.protocol.dataReceived(data)

    def getPeerCertificate(self) -> crypto.X509:
        return self.other.shown

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never full."""

    def unregisterProducer(self) -> None:
        """Never full."""

    def setTcpKeepAlive(self, on: bool) -> None:
        """As TCP has it."""

    def setTcpNoDelay(self, on: bool) -> None:
        """As TCP has it."""

    def loseConnection(self) -> None:
        self.leaving = True
        if not self.cable.silent:
            clock, delay_s = self.cable.clock, self.cable.delay_s
            clock.callLater(delay_s, self.other.lost, ConnectionDone())
            clock.callLater(delay_s, self.lost, ConnectionDone())

    def abortConnection(self) -> None:
        self.lost(ConnectionLost("cut from here"))
        if not self.cable.silent:
            self.cable.clock.callLater(self.cable.delay_s, self.other.lost, ConnectionLost("reset"))

    def lost(self, why: Exception) -> None:
        """The connection is gone, as seen from here."""
        if not self.over:
            self.over = True
            self.protocol.connectionLost(Failure(why))


@attrs.define(eq=False)
class Cable:
    """A connection between two Rallypoints."""

    clock: Clock
    delay_s: float
    dialler: End = attrs.field(init=False)
    port: End = attrs.field(init=False)
    silent: bool = False

    def reset(self) -> None:
        """Both ends are told that it broke."""
        for end in (self.dialler, self.port):
            end.lost(ConnectionLost("reset"))


@attrs.define(eq=False)
class Arrival:
    """Somebody at the door of a Rallypoint."""

    cable: Cable
    host: str = "192.0.2.9"
    port: int = 50_000

    def begin(self, protocol: Any) -> None:
        """The Rallypoint takes it."""
        cable = self.cable
        cable.port.protocol = protocol
        protocol.makeConnection(cable.port)
        protocol.handshakeCompleted()
        cable.dialler.protocol.handshakeCompleted()

    def drop(self) -> None:
        """Turned away without a word."""
        self.cable.dialler.lost(ConnectionDone())


class Dialler:
    """Dials the other Rallypoints of the sea."""

    def __init__(self, sea: "Sea", island: "Island") -> None:
        self._sea, self._island = sea, island

    def connect(self, address: Address, factory: Factory) -> "Deferred[IProtocol]":
        there = self._sea.islands.get(address.host)
        if there is None or not there.rallypoint.listening or self._sea.is_cut(self._island, there):
            return fail(ConnectionRefusedError())
        cable = Cable(self._sea.clock, self._sea.delay_s)
        cable.dialler = End(cable, self._island.credentials)
        cable.port = End(cable, there.credentials)
        cable.dialler.other, cable.port.other = cable.port, cable.dialler
        protocol: Any = factory.buildProtocol(None)
        cable.dialler.protocol = protocol
        self._sea.cables[self._island.name, there.name] = cable
        protocol.makeConnection(cable.dialler)
        self._sea.clock.callLater(self._sea.delay_s, there.arrived, Arrival(cable))
        return succeed(protocol)

    def identify(self, certificate: crypto.X509) -> str:
        trust = self._island.tls.trust
        return str(trust.peer(certificate.to_cryptography()).identity.id)

    def explain(self, failure: Failure) -> tuple[str, str]:
        return "refused" if failure.check(ConnectionRefusedError) else "lost", failure.getErrorMessage()


class _Port:
    def __init__(self, island: "Island", host: str, port: int) -> None:
        self._island, self.host, self.port = island, host, port

    def stopListening(self) -> None:
        """Nobody comes any more."""

    def getHost(self) -> "_Port":
        return self


class Island:
    """One Rallypoint."""

    def __init__(self, sea: "Sea", name: str, id: UUID) -> None:
        self.sea, self.name, self.id = sea, name, id
        self.credentials = wire.ca().leaf(name, Role.RALLYPOINT, id, dns=(name,))
        self.tls = ServerTls(self.credentials, wire.server().trust)
        self.arrived: Any = None
        self.rallypoint: Rallypoint
        self.boot()

    # for Person, which knows its Rallypoint as a stage
    @property
    def clock(self) -> Clock:
        return self.sea.clock

    def boot(self) -> None:
        """A new process."""
        self.rallypoint = Rallypoint(
            self.sea.clock,
            rules(name=self.name),
            self.tls,
            open_port=self._open,
            cpu_s=lambda: 0.0,
            wall=lambda: wire.NOW,
            dialler=self._dialler,
        )
        self.house = self.rallypoint.house
        self.backbone = self.house.backbone

    def _dialler(self, reactor: Any, tls: ClientTls) -> Dialler:
        return Dialler(self.sea, self)

    def _open(self, reactor: Any, host: str, port: int, tls: Any, arrived: Any) -> _Port:
        self.arrived = arrived
        return _Port(self, host, port)

    def plan(self, others: Sequence["Island"], *, leaf: bool = False, **more: Any) -> None:
        """Expect these."""
        peers = {
            other.id: Expected(other.id, Address(other.name, 7443), leaf=other.name.startswith("leaf"))
            for other in others
            if other is not self
        }
        self.rallypoint.mesh(Plan(leaf=leaf, peers=peers, alternatives=(), warnings=(), **more))

    def person(self, *streams: str, **wishes: Any) -> Person:
        """Somebody who is here, and on these streams."""
        person = Person(self, wire.ca().leaf(), "192.0.2.1", 40_000)  # type: ignore[arg-type]
        self.arrived(person)
        person.hello()
        for stream in streams:
            person.session.join(stream, source=person.source, **wishes)
            person.talk_over()
        return person

    def linked(self) -> set[str]:
        """Names of those it has links with."""
        return {far.name for far in self.backbone.fars.values()}

    def die(self) -> None:
        """The process is killed: its connections break, and it does nothing any more."""
        for (a, b), cable in list(self.sea.cables.items()):
            if self.name in (a, b):
                cable.reset()
        self.rallypoint.house.backbone._stopping = True
        if self.rallypoint._pulse.running:
            self.rallypoint._pulse.stop()
        self.rallypoint._ports.clear()


class Sea:
    """All of them, and the clock."""

    def __init__(self, *names: str, delay_s: float = 0.005, leaf: str = "") -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.delay_s = delay_s
        self.cables: dict[tuple[str, str], Cable] = {}
        self.cuts: set[frozenset[str]] = set()
        self.islands = {name: Island(self, name, UUID(int=at + 1)) for at, name in enumerate(names)}
        self.leaf = leaf
        for island in self.islands.values():
            island.rallypoint.startService()

    def __getitem__(self, name: str) -> Island:
        return self.islands[name]

    def mesh(self, *names: str) -> None:
        """Link these (all, where none is named) each with each, except leaves among themselves."""
        members = [self.islands[name] for name in names or self.islands]
        for island in members:
            leaf = island.name.startswith("leaf")
            island.plan([o for o in members if not (leaf and o.name.startswith("leaf"))], leaf=leaf)
        self.run(3.0)

    def is_cut(self, one: Island, other: Island) -> bool:
        return frozenset((one.name, other.name)) in self.cuts

    def cut(self, one: str, other: str, *, silent: bool = False) -> None:
        """Break the link between two, and let no other come to be."""
        self.cuts.add(frozenset((one, other)))
        for pair in ((one, other), (other, one)):
            cable = self.cables.get(pair)
            if cable is not None:
                if silent:
                    cable.silent = True
                else:
                    cable.reset()

    def run(self, seconds: float, *people: Person, step_s: float = 0.02) -> None:
        """Let time pass; ``people`` listen and answer PINGs meanwhile."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            for person in people:
                if not person.wire.ended:
                    person.talk_over()

    def stop(self) -> None:
        """Take everything down, so that nothing is left on the clock."""
        stopped = [partial(island.rallypoint.stopService)() for island in self.islands.values()]
        self.run(4.0, step_s=0.1)
        assert all(each.called for each in stopped)
