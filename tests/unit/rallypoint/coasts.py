"""Several Rallypoints of two organisations on one clock: the sea of :mod:`tests.unit.rallypoint.sea`, with a border through it.

Rallypoints whose names begin with ``b`` are of the other authority. No TLS runs here, so what the handshake refuses is
:mod:`tests.unit.security.test_trust_foreign`'s affair; who is at a far end, and what a dialler believes, is asked with the real trust.
"""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from OpenSSL import crypto
from twisted.internet.task import Clock

from ice.net.addresses import Address
from ice.rallypoint.federation import Federation
from ice.rallypoint.peering import Expected
from ice.rallypoint.treaty import Treaty
from ice.security.certificates import Role
from ice.security.contexts import ClientTls, ServerTls
from ice.security.trust import Foreign, Trust
from tests.unit.rallypoint.sea import Dialler, Island, Sea
from tests.unit.rallypoint.stage import Person
from tests.unit.security import wire

RATE = 20_000, 20_000_000


class BorderDialler(Dialler):
    """Believes what the TLS of this one call believes."""

    def __init__(self, sea: Sea, island: Island, tls: ClientTls) -> None:
        super().__init__(sea, island)
        self._tls = tls

    def identify(self, certificate: crypto.X509) -> str:
        return str(self._tls.trust.peer(certificate.to_cryptography()).identity.id)


class Shore(Island):
    """One Rallypoint of either organisation."""

    def __init__(self, coasts: "Coasts", name: str, id: UUID) -> None:
        self.sea, self.name, self.id = coasts, name, id
        self.ca = wire.other_ca() if name.startswith("b") else wire.ca()
        self.credentials = self.ca.leaf(name, Role.RALLYPOINT, id, dns=(name,))
        self.tls = ServerTls(self.credentials, Trust((self.ca.certificate,)))
        self.arrived: Any = None
        self.boot()

    def _dialler(self, reactor: Any, tls: ClientTls) -> Dialler:
        return BorderDialler(self.sea, self, tls)

    @property
    def federation(self) -> Federation:
        """Its links to the other organisation."""
        return self.rallypoint.house.federation

    def treaty(
        self,
        others: Iterable["Shore"],
        incoming: Collection[str],
        outgoing: Collection[str],
        *,
        dials: bool = True,
        rate: tuple[int, int] = RATE,
        revoked: Iterable["Shore"] = (),
    ) -> Treaty:
        """An agreement with these, as this one has it."""
        peers = {o.id: Expected(o.id, Address(o.name, 7443) if dials else None) for o in others}
        theirs = wire.ca() if self.ca is wire.other_ca() else wire.other_ca()
        lists = tuple(theirs.revoking(each.credentials) for each in revoked)
        foreign = Foreign("abroad", (theirs.certificate,), frozenset(peers), lists)
        return Treaty(foreign, peers, frozenset(incoming), frozenset(outgoing), *rate)

    def agree(self, *treaties: Treaty) -> None:
        """Go by these from now on, as a reload does it."""
        trust = Trust((self.ca.certificate,), foreign=tuple(each.foreign for each in treaties))
        self.rallypoint.reload(self.rallypoint.house.settings, self.credentials, trust)
        self.rallypoint.federate(treaties)

    def person(self, *streams: str, **wishes: Any) -> Person:
        person = Person(self, self.ca.leaf(), "192.0.2.1", 40_000)  # type: ignore[arg-type]
        self.arrived(person)
        person.hello()
        for stream in streams:
            person.session.join(stream, source=person.source, **wishes)
            person.talk_over()
        return person

    def stranger(self, role: str, *, of: Any = None, id: UUID | None = None) -> Person:
        """Somebody with a Rallypoint's certificate at the door, who has said HELLO in this role."""
        person = Person(
            self,
            (of or self.ca).leaf("stranger", Role.RALLYPOINT, id),
            "192.0.2.2",
            40_001,  # type: ignore[arg-type]
        )
        self.arrived(person)
        person.hello(role=role)
        return person

    def allies(self) -> set[str]:
        """Names of those of the other organisation that it has links with."""
        return {ally.name for ally in self.federation.allies.values()}

    def die(self) -> None:
        super().die()
        self.federation._stopping = True


class Coasts(Sea):
    """All of them, and the clock."""

    def __init__(self, *names: str, delay_s: float = 0.005) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.delay_s = delay_s
        self.cables: dict[Any, Any] = {}
        self.cuts: set[frozenset[str]] = set()
        self.islands: dict[str, Any] = {
            name: Shore(self, name, UUID(int=at + 1)) for at, name in enumerate(names)
        }
        for shore in self.islands.values():
            shore.rallypoint.startService()

    def __getitem__(self, name: str) -> Shore:
        return self.islands[name]  # type: ignore[no-any-return]

    def side(self, letter: str) -> list[Shore]:
        """The Rallypoints of one organisation."""
        return [shore for name, shore in self.islands.items() if name.startswith(letter)]

    def federate(self, incoming: Collection[str] = ("town",), outgoing: Collection[str] = ("town",)) -> None:
        """Mesh each side, and let the two share what these say, seen from ``a``; each lists each of the other."""
        for letter in "ab":
            side = self.side(letter)
            if len(side) > 1:
                for shore in side:
                    shore.plan(side)
        for shore in self.side("a"):
            shore.agree(shore.treaty(self.side("b"), incoming, outgoing))
        for shore in self.side("b"):
            shore.agree(shore.treaty(self.side("a"), outgoing, incoming))
        self.run(3.0)
