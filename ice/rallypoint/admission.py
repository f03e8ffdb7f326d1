"""Who comes in, in which order and how many: decisions about newcomers, without I/O.

A newcomer has a :class:`Ticket`, from the moment its TCP connection is accepted until that connection is gone::

    arrive --> WAITING --> SHAKING (TLS, then HELLO) --> LINKED --> gone
          \\-> refused                \\-> refused

**Waiting instead of refusing.** After a Rallypoint dies, everybody comes to its neighbour at once, and must not be turned
away. So newcomers are let in at a pace (:data:`PACE_PER_S`; :data:`BUSY_PACE_PER_S` while our CPU is above its threshold, so that
those who talk are not disturbed by those who shake hands), and the others wait in order, with nothing spent on them
but an open socket. Who waits longer than the time for a handshake has gone elsewhere and is let go.

**Refusing** is for what cannot be healthy: more than the limits say, in total or from one address (an IPv6 network of 64 bits
counts as one address, since one machine may have all of it); a full waiting room; a CPU that is fully used
over several seconds although newcomers were held back all that time.

Each decision against a newcomer is a :class:`Refused` with a code for the link (``limit``, ``denied-address``, ``draining``), a
reason for the counters and a sentence for a person.
"""

import ipaddress
from collections import deque
from collections.abc import Hashable, Iterable
from enum import Enum
from functools import lru_cache
from math import exp

import attrs

from ice.link.message import Code

PACE_PER_S = 1_000.0  # more than a core can do, at one to two milliseconds each
BUSY_PACE_PER_S = 200.0  # a third of a core; 1,000 clients of a dead neighbour are in within 5 s
BURST = 20  # newcomers that may begin in one turn of 20 ms: talkers wait for some 30 ms in the worst case
LOAD_MEMORY_S = 2.0  # how fast the CPU figure follows: flat out for 8 s is 98 percent

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class AdmissionLimits:
    """The bounds of ``[rallypoint.limits]`` that concern newcomers; named as there."""

    links: int = 10_000
    links_per_address: int = 4_096
    links_per_identity: int = 8
    handshakes: int = 512
    handshakes_per_address: int = 128
    handshake_s: float = 10.0
    cpu_delay_percent: float = 75
    cpu_refuse_percent: float = 98
    newcomers_waiting: int = 2_048
    denied_networks: tuple[Network, ...] = ()


@attrs.frozen
class Refused:
    """A newcomer is turned away."""

    code: Code
    reason: str  #: for counters: ``links``, ``links-per-address``, …
    sentence: str


class Phase(Enum):
    """Where a newcomer is."""

    WAITING = "waiting"
    SHAKING = "shaking"
    LINKED = "linked"
    GONE = "gone"


class Ticket:
    """One connection, for as long as it exists."""

    __slots__ = ("address", "arrived", "group", "identity", "phase", "placed")

    def __init__(self, address: str, group: Hashable, arrived: float) -> None:
        self.address = address
        self.group = group
        self.arrived = arrived
        self.phase = Phase.SHAKING
        #: Set while one of the identity's places is taken.
        self.identity: Hashable = None
        #: Whether one of the places for links is taken.
        self.placed = False


class Load:
    """How much of one core this process used lately, in percent, from its CPU clock."""

    def __init__(self, memory_s: float = LOAD_MEMORY_S) -> None:
        self._memory_s = memory_s
        self._last: tuple[float, float] | None = None
        self.percent = 0.0

    def measure(self, cpu_s: float, now: float) -> float:
        """``cpu_s``: CPU seconds used by the process so far. Gives the smoothed percentage."""
        if self._last is not None and now > self._last[1]:
            used, passed = cpu_s - self._last[0], now - self._last[1]
            weight = 1 - exp(-passed / self._memory_s)
            self.percent += weight * (100.0 * used / passed - self.percent)
        self._last = (cpu_s, now)
        return self.percent


@lru_cache(maxsize=4_096)
def _group(address: str) -> tuple[Hashable, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped), ip.ipv4_mapped
        return int(ip) >> 64, ip
    return str(ip), ip


class Admission:
    """Everybody who is here or wants to be.  ``linked`` are those whose certificate is known, ``shaking`` those without HELLO."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self.limits = limits if limits is not None else AdmissionLimits()
        self.cpu_percent = 0.0
        #: Set while we stop: nobody comes in.
        self.draining = False
        self.shaking = 0
        self.linked = 0
        #: Newcomers let in, and those that had to wait first.
        self.accepted = 0
        self.delayed = 0
        #: Newcomers turned away, by reason.
        self.refused: dict[str, int] = {}
        self._waiting: deque[Ticket] = deque()
        self._waiting_gone = 0
        self._shaking_from: dict[Hashable, int] = {}
        self._linked_from: dict[Hashable, int] = {}
        self._identities: dict[Hashable, int] = {}
        self._allowance = float(BURST)
        self._counted_at: float | None = None

    @property
    def waiting(self) -> int:
        """Newcomers that wait for their turn."""
        return len(self._waiting) - self._waiting_gone

    def count(self, reason: str) -> None:
        """Count a newcomer that was lost for ``reason`` (one of a fixed set of words)."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def arrive(self, address: str, now: float) -> Ticket | Refused:
        """A TCP connection from ``address`` was accepted: a ticket to begin with, or to wait, or a refusal."""
        group, ip = _group(address)
        refused = self._refuses_arrival(group, ip)
        if refused is not None:
            self.count(refused.reason)
            return refused
        ticket = Ticket(address, group, now)
        _more(self._shaking_from, group)
        self._earn(now)
        if not self.waiting and self._allowance >= 1 and self.shaking < self.limits.handshakes:
            self._begin(ticket)
        else:
            ticket.phase = Phase.WAITING
            self.delayed += 1
            self._waiting.append(ticket)
        return ticket

    def turns(self, now: float) -> tuple[list[Ticket], list[Ticket]]:
        """Those who waited and may begin now, and those who waited too long and are to be let go."""
        self._earn(now)
        begin: list[Ticket] = []
        late: list[Ticket] = []
        while self._waiting:
            ticket = self._waiting[0]
            if ticket.phase is Phase.GONE:
                self._waiting_gone -= 1
            elif now - ticket.arrived > self.limits.handshake_s:
                late.append(ticket)
                ticket.phase = Phase.GONE
                _less(self._shaking_from, ticket.group)
                self.count("waited")
            elif self._allowance >= 1 and self.shaking < self.limits.handshakes and len(begin) < BURST:
                self._begin(ticket)
                begin.append(ticket)
            else:
                break
            self._waiting.popleft()
        return begin, late

    def identify(self, ticket: Ticket, identity: Hashable) -> Refused | None:
        """The TLS handshake has shown who it is: a place among the links, or why there is none."""
        limits = self.limits
        refused = None
        if self.draining:
            refused = _DRAINING
        elif self.linked >= limits.links:
            refused = Refused(Code.LIMIT, "links", f"all {limits.links} places are taken")
        elif self._linked_from.get(ticket.group, 0) >= limits.links_per_address:
            refused = Refused(
                Code.LIMIT,
                "links-per-address",
                f"{limits.links_per_address} links from one address are the limit",
            )
        elif self._identities.get(identity, 0) >= limits.links_per_identity:
            refused = Refused(
                Code.LIMIT,
                "links-per-identity",
                f"{limits.links_per_identity} links with one certificate are the limit; close another one first",
            )
        if refused is not None:
            self.count(refused.reason)
            return refused
        ticket.identity = identity
        _more(self._identities, identity)
        ticket.placed = True
        self.linked += 1
        _more(self._linked_from, ticket.group)
        return None

    def greeted(self, ticket: Ticket) -> None:
        """HELLO came and was answered: it is a link now."""
        if ticket.phase is Phase.SHAKING:
            self.shaking -= 1
            _less(self._shaking_from, ticket.group)
            ticket.phase = Phase.LINKED

    def ended(self, ticket: Ticket) -> None:
        """The link is over, though its connection may not be: its identity may come back at once."""
        if ticket.identity is not None:
            _less(self._identities, ticket.identity)
            ticket.identity = None

    def gone(self, ticket: Ticket) -> None:
        """The connection is gone; calling twice is harmless."""
        self.ended(ticket)
        if ticket.placed:
            ticket.placed = False
            self.linked -= 1
            _less(self._linked_from, ticket.group)
        if ticket.phase is Phase.SHAKING:
            self.shaking -= 1
            _less(self._shaking_from, ticket.group)
        elif ticket.phase is Phase.WAITING:
            self._waiting_gone += 1
            _less(self._shaking_from, ticket.group)
        ticket.phase = Phase.GONE

    def denies(self, address: str) -> bool:
        """Whether the configuration names a network that ``address`` is in as unwelcome."""
        return self._denied(_group(address)[1])

    # -- inside --------------------------------------------------------------------------------------------------------

    def _refuses_arrival(
        self, group: Hashable, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    ) -> Refused | None:
        limits = self.limits
        if self.draining:
            return _DRAINING
        if self._denied(ip):
            return Refused(Code.DENIED_ADDRESS, "denied-address", "links from this address are not wanted")
        if self.linked >= limits.links:
            return Refused(Code.LIMIT, "links", f"all {limits.links} places are taken")
        if self._linked_from.get(group, 0) >= limits.links_per_address:
            return Refused(
                Code.LIMIT,
                "links-per-address",
                f"{limits.links_per_address} links from one address are the limit",
            )
        if self._shaking_from.get(group, 0) >= limits.handshakes_per_address:
            return Refused(
                Code.LIMIT,
                "handshakes-per-address",
                f"{limits.handshakes_per_address} unfinished handshakes from one address are the limit",
            )
        if self.waiting >= limits.newcomers_waiting:
            return Refused(Code.LIMIT, "waiting", f"{limits.newcomers_waiting} newcomers wait already")
        if self.cpu_percent > limits.cpu_refuse_percent:
            return Refused(Code.LIMIT, "cpu", f"the CPU is {self.cpu_percent:.0f} percent used")
        return None

    def _denied(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        return ip is not None and any(ip in network for network in self.limits.denied_networks)

    def _begin(self, ticket: Ticket) -> None:
        ticket.phase = Phase.SHAKING
        self.shaking += 1
        self.accepted += 1
        self._allowance -= 1

    def _earn(self, now: float) -> None:
        since = now if self._counted_at is None else self._counted_at
        self._counted_at = now
        busy = self.cpu_percent > self.limits.cpu_delay_percent
        pace = BUSY_PACE_PER_S if busy else PACE_PER_S
        most = max(1.0, BURST * BUSY_PACE_PER_S / PACE_PER_S) if busy else float(BURST)
        self._allowance = min(most, self._allowance + max(0.0, now - since) * pace)


_DRAINING = Refused(Code.DRAINING, "draining", "this Rallypoint is stopping")


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from ``192.0.2.0/24``, ``2001:db8::/32`` or single addresses; raises :class:`ValueError`."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def _more(counts: dict[Hashable, int], key: Hashable) -> None:
    counts[key] = counts.get(key, 0) + 1


def _less(counts: dict[Hashable, int], key: Hashable) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
