"""Dialling other Rallypoints: the connections that carry out what :mod:`ice.rallypoint.calling` decides.

Who is called, and what becomes of a link once it stands, is the *owner's* to say: the mesh's backbone, or a federation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any, Generic, TypeVar
from uuid import UUID

from twisted.logger import Logger

from ice.link.event import Ended, Event
from ice.link.message import Code, Hello, Welcome
from ice.link.wake import Wake
from ice.net.clock import Clock
from ice.net.link import Link
from ice.rallypoint.calling import Call, Calls
from ice.rallypoint.codes import known_code
from ice.rallypoint.peering import Expected
from ice.streams.connection import Connection, Phase
from ice.streams.dialling import Dialler

#: A Rallypoint that says one of these will say it again until a person changes something.
REFUSALS = frozenset(
    {Code.REFUSED, Code.ROLE, Code.IDENTITY, Code.SELF, Code.TWIN, Code.REVOKED, Code.VERSION}
)


FarT = TypeVar("FarT")


class Owner(ABC, Generic[FarT]):
    """Whose links these are; ``FarT`` is what it makes of a link that stands."""

    def __init__(self) -> None:
        self._by_link: dict[Link, FarT] = {}

    @property
    @abstractmethod
    def linked(self) -> Collection[UUID]:
        """To whom a link stands, whoever called."""

    @abstractmethod
    def dialled(self, link: Link, id: UUID, name: str, address: str) -> None:
        """A Rallypoint that we called let us in."""

    @abstractmethod
    def media(self, far: FarT, frame: bytes) -> None:
        """One frame of media; called once per packet."""

    @abstractmethod
    def control(self, far: FarT, event: Event) -> None:
        """Something else came."""

    @abstractmethod
    def lost(self, far: FarT, ended: Ended) -> None:
        """A link that stood is over."""

    def heard(self, link: Link, frame: bytes) -> None:
        """One frame of media on a link that we dialled."""
        far = self._by_link.get(link)
        if far is not None:
            self.media(far, frame)

    def event(self, link: Link, event: Event) -> None:
        """Something else on a link that we dialled."""
        far = self._by_link.get(link)
        if far is not None:
            self.control(far, event)

    def over(self, link: Link, ended: Ended) -> bool:
        """A link that we dialled is over; whether it was one that stood."""
        far = self._by_link.get(link)
        if far is None:
            return False
        self.lost(far, ended)
        return True


class Dialout:
    """The calls of one owner.  An :class:`ice.streams.connection.Keeper`."""

    _log = Logger()

    def __init__(self, clock: Clock, own: UUID, owner: Owner[Any], wake: Wake, random: Random) -> None:
        self.calls = Calls(own, random)
        #: Calls that came to nothing, by code.
        self.failed: dict[str, int] = {}
        #: Straight to the owner: one call less per packet.
        self.heard = owner.heard
        self._clock = clock
        self._own = own
        self._owner = owner
        self._wake = wake
        self._connections: dict[Connection, UUID] = {}
        self._peers: Mapping[UUID, Expected] = {}
        self._dialler: Callable[[UUID], Dialler] | None = None
        self._hello: Hello | None = None
        self._stopping = False

    def expect(
        self,
        peers: Mapping[UUID, Expected],
        dialler: Callable[[UUID], Dialler],
        hello: Hello,
        spread_s: float,
    ) -> None:
        """Call these from now on, introducing ourselves so; ``dialler``: what dials one of them, by the certificates of now."""
        self._peers, self._dialler, self._hello = peers, dialler, hello
        for connection, id in list(self._connections.items()):
            if id not in peers and connection.phase is not Phase.OPEN:
                connection.give_up(Code.LEAVING, "it is not expected here any more")
        self.calls.expect(peers, spread_s, self._clock.seconds())

    def call(self, id: UUID) -> Call | None:
        """How it stands with the call to one of them."""
        return self.calls[id]

    @property
    def busy(self) -> bool:
        """Whether anything of a connection is left in the reactor."""
        return bool(self._connections)

    def pulse(self, now: float) -> None:
        """Let time pass on what we dialled, and dial; every 100 ms."""
        for connection in list(self._connections):
            connection.pulse(now)
        if not self._stopping:
            for expected in self.calls.due(self._owner.linked, now):
                self._dial(expected)

    def stop(self, reason: str) -> None:
        """Call nobody any more, and leave those that were called."""
        self._stopping = True
        for connection in list(self._connections):
            connection.leave(reason)

    # -- ice.streams.connection.Keeper ---------------------------------------------------------------------------------

    def opened(self, connection: Connection, welcome: Welcome) -> None:
        """It let us in."""
        wanted, link = self._connections[connection], connection.link
        assert link is not None  # it has just said WELCOME
        if welcome.id != str(wanted):
            what = "our own address" if welcome.id == str(self._own) else f"the Rallypoint {welcome.id}"
            connection.leave(f"this is {what}; {wanted} was expected")
            return
        self.calls.answered(wanted)
        self._owner.dialled(link, wanted, welcome.name, str(connection.address))

    def event(self, connection: Connection, event: Event) -> None:
        """Something else came."""
        if connection.link is not None:
            self._owner.event(connection.link, event)

    def over(self, connection: Connection, ended: Ended) -> None:
        """It is over, or never came to be."""
        id, now = self._connections[connection], self._clock.seconds()
        if connection.link is not None and self._owner.over(connection.link, ended):
            return
        self.calls.answered(id)
        if id in self._owner.linked:
            return  # there is a link already: this one crossed it
        code = known_code(ended.code)
        self.failed[code] = self.failed.get(code, 0) + 1
        call = self.calls[id]
        news = call is not None and call.why != ended.reason
        # "refused" is also what TCP says where nothing listens; that is ours to note, and no answer of a Rallypoint.
        refused = ended.code == Code.LEAVING if ended.ours else ended.code in REFUSALS
        self.calls.failed(id, ended.reason, now, refused=refused, again_s=ended.retry_after_s)
        if news and not self._stopping:
            self._log.warn("no link with Rallypoint {peer}: {why}", peer=str(id)[:18], why=ended.reason)

    def closed(self, connection: Connection) -> None:
        """Nothing is left of it."""
        self._connections.pop(connection, None)

    def _dial(self, expected: Expected) -> None:
        assert (
            expected.address is not None and self._dialler is not None and self._hello is not None
        )  # else not due
        connection = Connection(
            expected.address,
            clock=self._clock,
            dialler=self._dialler(expected.id),
            hello=self._hello,
            timeout_s=expected.connect_timeout_s,
            keeper=self,
            wake=self._wake,
        )
        self._connections[connection] = expected.id
        connection.start()
