"""Members of a group on one clock: elections with ways in memory, and work that notes what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ice.election.rules import Group
from ice.election.service import Election, Wishes
from ice.election.transports import Air, MulticastWay, RallypointWay, Way, keyring_of
from ice.net.addresses import Address
from ice.net.place import Place
from ice.streams.memory import MemoryNetwork

from .groups import MS

PLACE = Place(Address("239.255.74.43", 7445), Address("239.255.74.43", 7445), "eth0", 8)


class Work:
    """What it is told, in ``told``; hand-overs that wait where ``slow`` is set."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.slow = False
        self.doing: list[Deferred[None]] = []
        self.why: str | None = None
        self.has_stored = True

    def _tell(self, what: str) -> Deferred[None] | None:
        self.told.append(what)
        if not self.slow:
            return None
        self.doing.append(Deferred())
        return self.doing[-1]

    def active(self) -> Deferred[None] | None:
        return self._tell("active")

    def standby(self) -> Deferred[None] | None:
        return self._tell("standby")

    def ready(self) -> str | None:
        return self.why

    def stored(self) -> bool:
        return self.has_stored


class Ether:
    """A multicast network in memory: every socket hears every other."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sockets: list[Socket] = []
        self.open = True  #: a switch passes datagrams on
        self.said: list[bytes] = []

    def socket(
        self,
        reactor: Any,
        place: Place,
        received: None,
        changed: Callable[[bool, str], None],
        *,
        received_many: Callable[[list[tuple[bytes, Address]]], None],
        **more: Any,
    ) -> Socket:
        """In place of MulticastSocket."""
        sock = Socket(self, changed, received_many)
        self.sockets.append(sock)
        return sock


class Socket:
    """One of them."""

    def __init__(
        self,
        ether: Ether,
        changed: Callable[[bool, str], None],
        received: Callable[[list[tuple[bytes, Address]]], None],
    ) -> None:
        self.ether = ether
        self.changed = changed
        self.received = received
        self.up = False
        self.why = "not started"

    def start(self) -> None:
        self.up, self.why = True, "joined"
        self.changed(True, self.why)

    def stop(self) -> None:
        self.up = False

    def send(self, data: bytes) -> bool:
        if self.up:
            self.ether.said.append(data)
            if self.ether.open:
                self.ether.clock.callLater(0.001, self._deliver, data)
        return self.up

    def _deliver(self, data: bytes) -> None:
        for sock in self.ether.sockets:
            if sock is not self and sock.up:
                sock.received([(data, Address("192.0.2.1", 7445))])


class Party:
    """All members of ``group`` on one clock, both ways open."""

    def __init__(self, group: Group, clock: Clock | None = None, **options: Any) -> None:
        self.clock = Clock() if clock is None else clock
        self.group = group
        self.options = options
        self.network = MemoryNetwork(self.clock, delay_s=0.001)
        self.ether = Ether(self.clock)
        self.works: dict[str, Work] = {}
        self.elections: dict[str, Election] = {}
        self.skew_s: dict[str, float] = {}

    def wall(self, id: str) -> float:
        """The clock on that member's wall."""
        return MS / 1_000 + self.clock.seconds() + self.skew_s.get(id, 0.0)

    def add(self, id: str, **options: Any) -> Election:
        """A member, not started yet."""
        work = self.works[id] = Work()
        keyring = keyring_of(self.group)
        ways: list[Way] = [
            RallypointWay(
                self.network,
                self.group.id,
                keyring,
                wall=lambda: self.wall(id),
                seconds=self.clock.seconds,
            ),
            MulticastWay(
                Air(self.clock, PLACE, socket_of=self.ether.socket),
                self.group.id,
                keyring,
                wall=lambda: self.wall(id),
            ),
        ]
        made = self.elections[id] = Election(
            self.clock,
            self.group,
            id,
            work,
            ways,
            wall=lambda: self.wall(id),
            **{"wishes": Wishes(), **self.options, **options},
        )
        return made

    def start(self, *ids: str) -> None:
        """Start these members, all where none is named."""
        for id in ids or [member.id for member in self.group.members]:
            self.add(id).startService()

    def kill(self, id: str) -> None:
        """Its process is gone: it neither hears nor says anything."""
        election = self.elections.pop(id)
        election._out.clear()
        election.running = 0
        for way in election.ways:
            way.stop()
        election._disarm()
        election.share.stop()

    def stop(self) -> None:
        """Everybody stops; nothing is left on the clock."""
        for election in list(self.elections.values()):
            election.stopService()
        self.pass_by(1.0)

    def pass_by(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass."""
        for _ in range(max(1, round(seconds / step))):
            self.clock.advance(step)

    def until(self, fact: Callable[[], bool], at_most: float, step: float = 0.01) -> float:
        """Let time pass until the fact; how long it took."""
        began = self.clock.seconds()
        while not fact():
            if self.clock.seconds() - began > at_most:
                raise AssertionError(f"not within {at_most} s")
            self.clock.advance(step)
        return self.clock.seconds() - began

    @property
    def leaders(self) -> list[str]:
        """Who may act."""
        return [id for id, election in self.elections.items() if election.may_act]
