"""The way of one datagram through the mesh: which neighbours it goes to, and whether it went there before.

A :class:`Route` belongs to one origin and one stream and holds two things made ready: the *next hops*, those neighbours of ours that lead to
somebody who wants the stream, and the *forwarding windows*, one per source.  Next hops are thrown away when the tree or the interest
changes and made anew for the next datagram only, so that what nobody uses costs nothing.

**Tree traffic** asks the window of (origin, source, stream): two copies of a datagram under two origins, as a dual-homed talker sends
them, each follow their own tree to its end.  **Protected** datagrams ask the window of (source, stream), whatever their origin, and go to every core
neighbour but the one they came from, and to leaves that want them.  Delivery to local listeners asks a third window, which is the
registry's.

**Bounds.**  Windows are charged to the account of whoever brought their first datagram: a neighbour, or the identity of a local link.  An account
that is full gives up its own oldest window; when the house is full, the largest account does.  What was not asked for an hour is
forgotten, a little at a time, and with a route's last window the route.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from typing import Generic, TypeVar

import attrs

from ice.link.fan import Fan
from ice.link.frame import FrameType
from ice.link.peer import MAX_HOPS, MEDIA_AT, RELAY, onward, relay
from ice.link.window import BITMAP_LIFE_S, DUPLICATE, FRESH, JUMP, MARK_LIFE_S, Window

#: Windows that one neighbour may open, all origins together: some 25 MB.
MAX_PEER_WINDOWS = 65_536
#: Windows of one identity on local links.
MAX_LOCAL_WINDOWS = 1_024
#: Windows in all: some 100 MB.
MAX_WINDOWS = 262_144
FAIR_WINDOWS = 256
SWEEP_EVERY_S = 60.0
SWEEP_AT_ONCE = 256

_PROTECTED = 0x10
_MEDIA = int(FrameType.MEDIA)
_RELAY_OVERHEAD = MEDIA_AT + 3  # two frame headers, origin and hops: what the inner length does not count
_FLOODED = -1  # stands for the origin where windows do not ask for one

LinkT = TypeVar("LinkT", bound=Hashable)
_unpack = RELAY.unpack_from


class Route(Generic[LinkT]):
    """One stream under one origin (or, flooded, under all of them)."""

    __slots__ = ("fan", "hops", "key", "origin", "windows")

    def __init__(self, origin: int, key: int) -> None:
        self.origin = origin
        self.key = key
        #: The links to the next hops; None after a change, until a datagram needs them.
        self.hops: tuple[LinkT, ...] | None = None
        #: Room for whoever sends: what it has made of ``hops``; None whenever they are made anew.
        self.fan: Fan | None = None
        #: Forwarding windows by source.
        self.windows: dict[int, Window] = {}


@attrs.frozen
class Passed(Generic[LinkT]):
    """A datagram that has not been here before under this origin.

    :ivar route: its ``hops`` are ready; whoever sends leaves out the link that the datagram came from.
    :ivar frame: the RELAY frame for the next hops; empty where there are none.
    """

    route: Route[LinkT]
    frame: bytes


@attrs.define(eq=False)
class Account:
    """The windows that somebody is charged for, oldest first: (origin, key, source)."""

    bound: int
    windows: dict[tuple[int, int, int], None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Carrier:
    """What the path of a packet must know of the link that a RELAY came from.

    :ivar only: the one origin that it may bring, where the far side is a leaf; None: any.
    """

    account: Account = attrs.field(factory=lambda: Account(MAX_PEER_WINDOWS))
    only: int | None = None


@attrs.define
class Counts:
    """Datagrams, by what became of them."""

    passed: int = 0  #: under others' origins, fresh
    copies: int = 0  #: handed to next hops
    originated: int = 0  #: of our own, sent to somebody
    flooded: int = 0  #: protected ones among both
    duplicate: int = 0
    late: int = 0
    jump: int = 0
    hops: int = 0
    own_origin: int = 0
    unknown_origin: int = 0
    leaf_origin: int = 0
    malformed: int = 0
    windows_evicted: int = 0
    windows_expired: int = 0

    def dropped(self) -> dict[str, int]:
        """RELAY frames that were not passed on, by reason."""
        return {
            "duplicate": self.duplicate,
            "late": self.late,
            "jump": self.jump,
            "hops": self.hops,
            "own-origin": self.own_origin,
            "unknown-origin": self.unknown_origin,
            "leaf-origin": self.leaf_origin,
            "malformed": self.malformed,
        }


class Routes(Generic[LinkT]):
    """Every route of one Rallypoint."""

    def __init__(
        self,
        origin: int,
        known: Callable[[int], bool],
        wanted: Callable[[int], Sequence[int]],
        next_hops: Callable[[int, int, float], tuple[LinkT, ...]],
        flood_hops: Callable[[int], tuple[LinkT, ...]],
        *,
        leaf: bool,
    ) -> None:
        """``known``: whether an origin exists; ``wanted(key)``: the origins that want a stream; ``next_hops(origin, key, now)``; ``flood_hops(key)``: core neighbours, and leaves that want it."""
        self.origin = origin
        self.counts = Counts()
        self.windows = 0
        self._known = known
        self._wanted = wanted
        self._next_hops = next_hops
        self._flood_hops = flood_hops
        self._leaf = leaf
        self._routes: dict[int, dict[int, Route[LinkT]]] = {}
        self._by_key: dict[int, dict[int, Route[LinkT]]] = {}
        self._accounts: dict[Hashable, Account] = {}
        self._charged: dict[tuple[int, int, int], Account] = {}
        self._sweeping: Iterator[tuple[int, int, int]] | None = None
        self._swept_at = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._routes.values()))

    # -- the way of one packet -----------------------------------------------------------------------------------------

    def relay(self, carrier: Carrier, link: LinkT, frame: bytes, now: float) -> Passed[LinkT] | None:
        """One whole RELAY frame from ``link``; None: it ends here, counted.

        What passes is to be delivered to local listeners too (``frame[MEDIA_AT:]`` is the MEDIA frame), and sent to the next hops.
        """
        counts = self.counts
        size = len(frame)
        if size < RELAY.size:
            counts.malformed += 1
            return None
        _, _, origin, hops, length, kind, flags, key, source, sequence = _unpack(frame)
        if length + _RELAY_OVERHEAD != size or kind != _MEDIA:
            counts.malformed += 1
            return None
        if hops >= MAX_HOPS:
            counts.hops += 1
            return None
        if carrier.only is not None and carrier.only != origin:
            counts.leaf_origin += 1
            return None
        if origin == self.origin:
            counts.own_origin += 1
            return None
        flooded = flags & _PROTECTED
        of_origin = self._routes.get(_FLOODED if flooded else origin)
        route = None if of_origin is None else of_origin.get(key)
        if flooded or route is None:
            if not self._known(origin):
                counts.unknown_origin += 1
                return None
            if route is None:
                route = self._new(_FLOODED if flooded else origin, key)
        window = route.windows.get(source)
        if window is None:
            window = self._window(route, source, carrier.account)
        asked_at = window.asked_at
        verdict = window.ask(sequence, now)
        if verdict and not (verdict == JUMP and self._believed(route, source, sequence, asked_at, now)):
            self._not_fresh(verdict)
            return None
        counts.passed += 1
        if flooded:
            counts.flooded += 1
            if self._leaf:
                return Passed(route, b"")
        next_hops = route.hops
        if next_hops is None:
            next_hops = self._ready(route, now)
        copies = len(next_hops) - (link in next_hops)
        if not copies or hops + 1 >= MAX_HOPS:
            if copies:
                counts.hops += 1
            return Passed(route, b"")
        counts.copies += copies
        return Passed(route, onward(frame, hops + 1))

    def originate(
        self, account: Account, frame: bytes, flags: int, key: int, source: int, sequence: int, now: float
    ) -> Passed[LinkT] | None:
        """One whole MEDIA frame of a local link, whatever the delivery window has said of it; None: nobody else wants it, or it went there before."""
        flooded = flags & _PROTECTED
        origin = _FLOODED if flooded else self.origin
        of_origin = self._routes.get(origin)
        route = None if of_origin is None else of_origin.get(key)
        if route is None:
            route = self._new(origin, key)
        window = route.windows.get(source)
        if window is None:
            window = self._window(route, source, account)
        asked_at = window.asked_at
        verdict = window.ask(sequence, now)
        if verdict and not (verdict == JUMP and self._believed(route, source, sequence, asked_at, now)):
            self._not_fresh(verdict)
            return None
        next_hops = route.hops
        if next_hops is None:
            next_hops = self._ready(route, now)
        if not next_hops:
            return None
        counts = self.counts
        counts.originated += 1
        counts.copies += len(next_hops)
        if flooded:
            counts.flooded += 1
        return Passed(route, relay(self.origin, frame))

    # -- off the path --------------------------------------------------------------------------------------------------

    def account(self, identity: Hashable) -> Account:
        """The account of a local identity."""
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = Account(MAX_LOCAL_WINDOWS)
        return account

    def close(self, identity: Hashable) -> None:
        """No link of a local identity is left; its windows live on, as long as windows do."""
        self._accounts.pop(identity, None)

    def tree_changed(self, origin: int, moved: Set[int]) -> None:
        """In the tree of ``origin``, those in ``moved`` lie below another neighbour of ours."""
        for route in self._routes.get(origin, {}).values():
            if not moved.isdisjoint(self._wanted(route.key)):
                route.hops = None

    def interest_changed(self, keys: Iterable[int]) -> None:
        """Others want these streams now."""
        for key in keys:
            for route in self._by_key.get(key, {}).values():
                route.hops = None

    def links_changed(self) -> None:
        """Neighbours have come, gone, or changed their role."""
        for routes in self._routes.values():
            for route in routes.values():
                route.hops = None

    def flood_changed(self) -> None:
        """Core neighbours have come or gone."""
        for route in self._routes.get(_FLOODED, {}).values():
            route.hops = None

    def forget(self, origin: int) -> None:
        """An origin is no more."""
        for route in list(self._routes.get(origin, {}).values()):
            for source in list(route.windows):
                self._drop(origin, route.key, source)

    def reborn(self, origin: int) -> None:
        """We are another origin now."""
        self.forget(self.origin)
        self.origin = origin

    def in_use(self, origin: int) -> bool:
        """Whether datagrams of an origin came through here within the life of a window."""
        return origin in self._routes

    def sweep(self, now: float, at_once: int = SWEEP_AT_ONCE) -> list[int]:
        """Forget windows that were not asked for an hour; returns origins that are not in use any more."""
        if self._sweeping is None:
            if now - self._swept_at < SWEEP_EVERY_S:
                return []
            self._swept_at = now
            self._sweeping = iter(list(self._charged))
        over = []
        for _ in range(at_once):
            found = next(self._sweeping, None)
            if found is None:
                self._sweeping = None
                break
            if found not in self._charged:
                continue
            origin, key, source = found
            if now - self._routes[origin][key].windows[source].asked_at > MARK_LIFE_S:
                self.counts.windows_expired += 1
                self._drop(origin, key, source)
                if origin not in self._routes:
                    over.append(origin)
        return over

    @property
    def sweep_at(self) -> float:
        """When :meth:`sweep` wants to be called."""
        return self._swept_at + SWEEP_EVERY_S if self._sweeping is None else self._swept_at

    def _new(self, origin: int, key: int) -> Route[LinkT]:
        route: Route[LinkT] = Route(origin, key)
        self._routes.setdefault(origin, {})[key] = route
        self._by_key.setdefault(key, {})[origin] = route
        return route

    def _ready(self, route: Route[LinkT], now: float) -> tuple[LinkT, ...]:
        key = route.key
        hops = self._flood_hops(key) if route.origin == _FLOODED else self._next_hops(route.origin, key, now)
        route.hops = hops
        route.fan = None
        return hops

    def _window(self, route: Route[LinkT], source: int, account: Account) -> Window:
        if len(account.windows) >= account.bound:
            self._evict(account)
        elif self.windows >= MAX_WINDOWS:
            # Who has many gives one of its own; who has few takes the oldest of all.
            self._evict(
                account if len(account.windows) >= FAIR_WINDOWS else next(iter(self._charged.values()))
            )
        name = (route.origin, route.key, source)
        window = route.windows[source] = Window()
        self._charged[name] = account
        account.windows[name] = None
        self.windows += 1
        if route.key not in self._routes.get(route.origin, {}):  # its last window has just been evicted
            self._routes.setdefault(route.origin, {})[route.key] = route
            self._by_key.setdefault(route.key, {})[route.origin] = route
        return window

    def _evict(self, account: Account) -> None:
        self.counts.windows_evicted += 1
        self._drop(*next(iter(account.windows)))

    def _drop(self, origin: int, key: int, source: int) -> None:
        routes = self._routes[origin]
        del routes[key].windows[source]
        name = (origin, key, source)
        del self._charged.pop(name).windows[name]
        self.windows -= 1
        if not routes[key].windows:
            del routes[key]
            if not routes:
                del self._routes[origin]
            streams = self._by_key[key]
            del streams[origin]
            if not streams:
                del self._by_key[key]

    def _believed(self, route: Route[LinkT], source: int, sequence: int, asked_at: float, now: float) -> bool:
        """Whether a jump is believed at once: after a silence it is no news that datagrams were missed, and if every Rallypoint on the
        way wanted a confirmation, each would cost one datagram more."""
        if now - asked_at <= BITMAP_LIFE_S:
            return False
        fresh = route.windows[source] = Window()
        return fresh.ask(sequence, now) == FRESH

    def _not_fresh(self, verdict: int) -> None:
        if verdict == DUPLICATE:
            self.counts.duplicate += 1
        elif verdict == JUMP:
            self.counts.jump += 1
        else:
            self.counts.late += 1
