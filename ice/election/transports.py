"""The two ways that ballots go, both at once: a stream of the Rallypoints, and a multicast group.

========== =================================================================== =================================
way        ballots                                                             everything else of the group
========== =================================================================== =================================
Rallypoint on the stream ``__election_<group id>``, sealed with the group's key on the same stream, sealed likewise
multicast  in clear, as documented; they are signed                            0x00 ‖ stream key (8) ‖ sealed; reports: 0x04 ‖ …
========== =================================================================== =================================

*Everything else* is the group document and members' reports (:mod:`ice.election.messages`); their first byte is less than a ballot's ``{``, so a message is told from a ballot
by it.  The seal is that of all traffic (:mod:`ice.security.traffic`, AES-256-GCM), with a key of this group's election alone (:func:`keyring_of`).

A message that comes by both ways is two messages here; ballots are idempotent, and so is everything else.

**Health.** A way is healthy while its path is open and it brings somebody; it is unhealthy too where it brings nobody although the other way does: multicast that a switch
filters looks open to a socket for ever.

**One socket for many groups.** All groups of a process that share a place share an :class:`Air`, which hands each datagram to the group that it names.
"""

from __future__ import annotations

import hmac
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.logger import Logger

from ice.election.messages import Kind
from ice.election.rules import Group
from ice.election.status import HEALTHY, NOT_RUNNING, UNHEALTHY, Transport
from ice.link.frame import Flag
from ice.link.naming import stream_key
from ice.net.addresses import Address
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import REJOIN_S, MulticastSocket
from ice.net.place import Place
from ice.security.keyring import Change, Keyring, KeyringOpener, KeyringSealer
from ice.security.traffic import Cipher, Refused, derive
from ice.streams.interface import Datagram, Network, Stream
from ice.streams.sealed import SealedNetwork, SealedStream

PREFIX: Final = "__election_"  # documented
MULTICAST_GROUP: Final = Address("239.255.74.43", 7445)  # administratively scoped (RFC 2365)
MULTICAST_TTL: Final = 8  # a site's routers; the ordinary 1 would end at the first
SIGNALLING: Final = 1  # the class that switches are told: before bulk traffic, behind voice
SILENT_CYCLES: Final = 3.0  # nobody heard on a way for this long, and elsewhere they are
RALLYPOINT: Final = "rallypoint"
MULTICAST: Final = "multicast"
SEALED: Final = b"\0"  # begins what is sealed on multicast
SEALED_REPORT: Final = bytes([Kind.REPORT])  # likewise, for whoever watches: members need not open it
_LABEL: Final = b"ice election stream 1"
_KEY_BYTES: Final = 8
_HEALTHY: Final = Transport(HEALTHY)
_RACE: Final = re.compile(rb'"rids":\["([^"\\]{1,64})"')


def election_stream(group_id: str) -> str:
    """The stream id of a group's election, from its id with or without braces."""
    return PREFIX + group_id.strip("{}").lower()


def keyring_of(group: Group, key_hex: str = "") -> Keyring:
    """What seals the messages of a group's election: the key given, in hexadecimal, else one that is derived from its salt.

    Of a group with two salts, both open; the first seals.  Raises :class:`~ice.errors.LocalError` for a key that is none.
    """
    if key_hex:
        return Keyring(Cipher.GCM, derive(key_hex))
    keys = [derive(hmac.digest(salt, _LABEL, "sha256").hex()) for salt in group.salts[:2]]
    change = None if len(keys) == 1 else Change(keys[1], float("inf"), 0.0)
    return Keyring(Cipher.GCM, keys[0], change)


def place_of(interface: str, address: Address = MULTICAST_GROUP, ttl: int = MULTICAST_TTL) -> Place:
    """Where ballots go by multicast."""
    return Place(address, address, interface=interface, ttl=ttl, priority=SIGNALLING)


class Hears(Protocol):
    """Who hears what comes on a way."""

    def heard(self, way: Way, data: bytes) -> None:
        """``data`` came: a ballot, or another message; nothing of it has been checked but its seal, where it has one."""

    def path(self, way: Way, up: bool, why: str) -> None:
        """The way is open, or closed, and why."""


class Way(ABC):
    """One way for ballots. :meth:`start`, :meth:`send` at any time, :meth:`stop`."""

    name = ""

    def __init__(self) -> None:
        self.up = False
        self.why = "not started"
        self.running = False
        self.sent = 0  #: messages
        self.unsent = 0  #: messages, for want of a path
        self.refused: Counter[str] = Counter()  #: what could not be opened, by reason
        self._met: dict[str, float] = {}  # members, and when each was heard here last
        self._met_at = float("-inf")  # when anybody was
        self._up_at = 0.0

    @abstractmethod
    def start(self, hears: Hears, now: float, *, reports: bool = True) -> None:
        """Open the way as soon as that is possible; what comes goes to ``hears``. ``reports``: whether members' reports matter, which a way may drop unopened otherwise."""

    @abstractmethod
    def stop(self) -> None:
        """Close it. Stopping twice is harmless."""

    @abstractmethod
    def send(self, data: bytes) -> bool:
        """Send a ballot or another message; whether the way took it."""

    @abstractmethod
    def renew(self, keyring: Keyring) -> None:
        """The group's keys are others."""

    def meet(self, id: str, now: float) -> None:
        """An authentic ballot of this member came here."""
        self._met[id] = self._met_at = now

    def heard_since(self, moment: float) -> frozenset[str]:
        """Members whose ballots have come here since."""
        if self._met_at < moment:
            return frozenset()
        return frozenset(id for id, at in self._met.items() if at >= moment)

    def last_heard(self) -> dict[str, float]:
        """When each member was heard here last."""
        return dict(self._met)

    def state(self, now: float, cycle_s: float, ways: Sequence[Way] = ()) -> Transport:
        """How it is, as one of ``ways``: what is heard on the others counts."""
        if not self.running:
            return Transport(NOT_RUNNING, self.why)
        if not self.up:
            return Transport(UNHEALTHY, self.why)
        since = now - SILENT_CYCLES * cycle_s
        if max(self._met_at, self._up_at) >= since:
            return _HEALTHY
        elsewhere = frozenset[str]().union(*(way.heard_since(since) for way in ways))
        if not elsewhere:
            return _HEALTHY
        return Transport(
            UNHEALTHY,
            f"open, but nobody is heard here, while {len(elsewhere)} are heard otherwise: is something filtering?",
        )

    def _path(self, hears: Hears, now: float, up: bool, why: str) -> None:
        if up and not self.up:
            self._up_at = now
        self.up, self.why = up, why
        hears.path(self, up, why)

    def _count(self, sent: bool) -> bool:
        if sent:
            self.sent += 1
        else:
            self.unsent += 1
        return sent


class RallypointWay(Way):
    """The stream ``__election_<group id>`` of a network, sealed. The network belongs to the caller, who starts and stops it."""

    name = RALLYPOINT

    def __init__(
        self,
        network: Network,
        group_id: str,
        keyring: Keyring,
        *,
        wall: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        super().__init__()
        self.stream_id = election_stream(group_id)
        self._keyring = keyring
        self._seconds = seconds
        self._sealed = SealedNetwork(network, lambda stream_id: self._keyring, wall, _anything)
        self._stream: Stream | None = None
        self._hears: Hears | None = None

    def start(self, hears: Hears, now: float, *, reports: bool = True) -> None:
        """See :class:`Way`."""
        if self._stream is None:
            self._hears = hears
            self.running, self.why = True, "joining"
            self._stream = self._sealed.join(self.stream_id, self)

    def stop(self) -> None:
        """See :class:`Way`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._refusals(stream)
            stream.leave()
        self.running = self.up = False
        self.why, self._hears = "left", None

    def send(self, data: bytes) -> bool:
        """See :class:`Way`."""
        stream = self._stream
        return self._count(stream is not None and stream.up and stream.send(data, Flag.DATA))

    def renew(self, keyring: Keyring) -> None:
        """See :class:`Way`."""
        self._keyring = keyring
        self._sealed.renew()

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if self._hears is not None:
            self._hears.heard(self, datagram.payload)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if self._hears is not None:
            self._path(self._hears, self._seconds(), up, why)

    def state(self, now: float, cycle_s: float, ways: Sequence[Way] = ()) -> Transport:
        """See :class:`Way`."""
        if self._stream is not None:
            self._refusals(self._stream)
        return super().state(now, cycle_s, ways)

    def _refusals(self, stream: Stream) -> None:
        assert isinstance(stream, SealedStream)
        self.refused = Counter(stream.status().refused)


class Air:
    """A multicast place in use by the elections of this process."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: Place,
        *,
        rejoin_s: float = REJOIN_S,
        watch: InterfaceWatch | None = None,
        socket_of: Callable[..., Any] = MulticastSocket,
    ) -> None:
        self.place = place
        self.seconds: Callable[[], float] = reactor.seconds
        self._by_id: dict[bytes, MulticastWay] = {}
        self._by_key: dict[bytes, MulticastWay] = {}
        self.socket = socket_of(
            reactor,
            place,
            None,
            self._changed,
            received_many=self._heard,
            rejoin_s=rejoin_s,
            watch=watch,
        )

    def add(self, way: MulticastWay) -> None:
        """A group takes part; with the first the place is opened."""
        first = not self._by_id
        self._by_id[way.group_id.encode()] = way
        self._by_key[way.key] = way
        if first:
            self.socket.start()
        else:
            way.changed(self.socket.up, self.socket.why)

    def remove(self, way: MulticastWay) -> None:
        """A group takes part no more; with the last the place is closed."""
        if self._by_id.pop(way.group_id.encode(), None) is not None:
            del self._by_key[way.key]
            if not self._by_id:
                self.socket.stop()

    def _changed(self, up: bool, why: str) -> None:
        for way in list(self._by_id.values()):
            way.changed(up, why)

    def _heard(self, datagrams: list[tuple[bytes, Address]]) -> None:
        for data, _ in datagrams:
            way = self._way(data)
            if way is not None:
                try:
                    way.came(data)
                except Exception:
                    self._log.failure("a message at {place} could not be taken", place=str(self.place.rx))

    def _way(self, data: bytes) -> MulticastWay | None:
        if data[:1] in (SEALED, SEALED_REPORT):
            found = self._by_key.get(data[1 : 1 + _KEY_BYTES])
        else:
            race = _RACE.search(data, 0, 2_048)
            found = None if race is None else self._by_id.get(race[1])
        # What names none of our groups is counted once, by the oldest: a flood must not cost as many times as there are groups.
        return found or next(iter(self._by_id.values()), None)


class MulticastWay(Way):
    """A multicast group of a named interface."""

    name = MULTICAST

    def __init__(
        self, air: Air, group_id: str, keyring: Keyring | None, *, wall: Callable[[], float]
    ) -> None:
        """``keyring`` None: ballots alone."""
        super().__init__()
        self.group_id = group_id
        stream_id = election_stream(group_id)
        self.key = stream_key(stream_id).to_bytes(_KEY_BYTES, "big")
        self._air = air
        self._wall = wall
        self._sealer = None if keyring is None else KeyringSealer(keyring, stream_id)
        self._opener = None if keyring is None else KeyringOpener(keyring, stream_id, plausible=_anything)
        self._hears: Hears | None = None
        self._reports = True

    def start(self, hears: Hears, now: float, *, reports: bool = True) -> None:
        """See :class:`Way`."""
        if not self.running:
            self._hears = hears
            self._reports = reports
            self.running, self.why = True, "opening"
            self._air.add(self)

    def stop(self) -> None:
        """See :class:`Way`."""
        if self.running:
            self.running = self.up = False
            self.why, self._hears = "left", None
            self._air.remove(self)

    def send(self, data: bytes) -> bool:
        """See :class:`Way`."""
        if not self.running:
            return self._count(False)
        if data[:1] == b"{":
            return self._count(self._air.socket.send(data))
        if self._sealer is None:
            return False
        begin = SEALED_REPORT if data[:1] == SEALED_REPORT else SEALED
        return self._count(self._air.socket.send(begin + self.key + self._sealer.seal(data, self._wall())))

    def renew(self, keyring: Keyring) -> None:
        """See :class:`Way`."""
        if self._sealer is not None and self._opener is not None:
            self._sealer.keyring = self._opener.keyring = keyring

    def came(self, data: bytes) -> None:
        """A datagram for this group, or for none."""
        if self._hears is None:
            return
        begin = data[:1]
        if begin == SEALED_REPORT and not self._reports:
            return
        if begin in (SEALED, SEALED_REPORT):
            if self._opener is None or data[1 : 1 + _KEY_BYTES] != self.key:
                self.refused["foreign"] += 1
                return
            opened = self._opener.open(data[1 + _KEY_BYTES :], self._wall())
            if isinstance(opened, Refused):
                self.refused[str(opened)] += 1
                return
            if opened[:1] == b"{":  # ballots go in clear
                self.refused["sealed-ballot"] += 1
                return
            data = opened
        elif begin < b"\x20":  # what must be sealed is not
            self.refused[str(Refused.CLEAR)] += 1
            return
        self._hears.heard(self, data)

    def changed(self, up: bool, why: str) -> None:
        """The place can be used, or cannot."""
        if self._hears is not None:
            self._path(self._hears, self._air.seconds(), up, why)


class NoWay(Way):
    """A way that is not used, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__()
        self.name = name
        self.why = why

    def start(self, hears: Hears, now: float, *, reports: bool = True) -> None:
        """See :class:`Way`: nothing happens."""

    def stop(self) -> None:
        """See :class:`Way`: nothing happens."""

    def send(self, data: bytes) -> bool:
        """See :class:`Way`: it never does."""
        return False

    def renew(self, keyring: Keyring) -> None:
        """See :class:`Way`: nothing happens."""


def _anything(payload: bytes) -> bool:
    return True
