"""The routing engine of a Rallypoint among others: one voice network out of many, without I/O.

Every Rallypoint of the mesh says who it is linked to and which streams its listeners want.  Both words are signed, numbered and passed on to
everybody (:mod:`ice.rallypoint.flood`), believed for their signature (:mod:`ice.rallypoint.ledger`), and drawn as a graph
(:mod:`ice.rallypoint.topology`) in which everybody finds the same shortest-path tree per origin (:mod:`ice.rallypoint.trees`).  A datagram follows the
tree of the Rallypoint where it entered, to those only who want its stream (:mod:`ice.rallypoint.interest`), and passes each place once
(:mod:`ice.rallypoint.routes`).  ``docs/mesh.md`` tells the whole story and every byte.

**Using it.**  Tell the engine what happens, then take what it wants done, at the latest when :attr:`Mesh.deadline` comes::

    mesh.link_up(link, id, cost, now)         mesh.receive(link, frame, now)       mesh.want(key, stream_id, now)
    for output in mesh.take(now): ...         Send, End, Settled, Notice

A turn of the reactor may hold many events and one :meth:`Mesh.take`: what they change is told in one flood.  The way of a packet is
:meth:`Mesh.relay` and :meth:`Mesh.originate`; neither needs a ``take`` afterwards.  A *link* is whatever the driver calls it by.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from secrets import token_bytes
from typing import Generic, TypeVar
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.link.naming import stream_key
from ice.link.peer import MAX_COST, MAX_LINKS
from ice.rallypoint.flood import FORGET_S, Flood
from ice.rallypoint.interest import Wishes, weight_of
from ice.rallypoint.ledger import Bounds, Identify, Ledger, Sign, Verify
from ice.rallypoint.neighbours import End, Neighbour, Notice, Output, Settled
from ice.rallypoint.routes import Account, Counts, Passed, Routes
from ice.rallypoint.topology import BOTH_S, Edge, Graph, Record, cost_of, depth_of
from ice.rallypoint.trees import Forest, grown

#: Floods of our own at once, and per second after that: what happens in between is told together.
STATES, STATES_PER_S = 6.0, 10.0
INTERESTS, INTERESTS_PER_S = 20.0, 20.0
#: Round trips that have changed are told together, this long after the first of them and once a minute at most: they are for people.
ROUND_TRIPS_WAIT_S = 2.0
ROUND_TRIPS_EVERY_S = 60.0
#: A round trip has changed when it is so many times what was told, or the inverse, and by over half a millisecond, in tenths of one.
ROUND_TRIP_FACTOR = 1.5
ROUND_TRIP_LEAST = 5

LinkT = TypeVar("LinkT", bound=Hashable)


@attrs.frozen
class Hop:
    """One link of the way of a datagram."""

    parent: UUID
    child: UUID
    cost: int
    depth: int
    #: Whether the child wants the stream itself, or only leads to one that does.
    wants: bool
    #: As its ends have measured it; None where neither has said so.
    round_trip_s: float | None = None


@attrs.frozen
class Reach:
    """How another Rallypoint is reached from here."""

    id: UUID
    origin: int
    cost: int
    depth: int
    #: The neighbour that the way begins with.
    via: UUID


@attrs.frozen
class Detour:
    """A Rallypoint that should be a neighbour, and how it is reached meanwhile; None: not at all."""

    id: UUID
    reach: Reach | None


class TooManyStreams(LocalError):
    """More streams than other Rallypoints would believe that one has listeners for."""


class _Purse:
    """A bounded number of floods per second."""

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, most: float, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = self._most = most
        self._at = now

    def ready_at(self, now: float) -> float:
        """When the next may be said."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        return now if self._left >= 1 else now + (1 - self._left) / self._per_s

    def spend(self, weight: float = 1.0) -> None:
        """One is said, which counts for ``weight``."""
        self._left -= weight

    @property
    def next_at(self) -> float:
        """The same, seen from when it was last looked at."""
        return self._at if self._left >= 1 else self._at + (1 - self._left) / self._per_s


class Mesh(Generic[LinkT]):
    """One Rallypoint's view of the mesh, and its part in it."""

    def __init__(
        self,
        id: UUID,
        certificate: bytes,
        sign: Sign,
        identify: Identify,
        verify: Verify,
        *,
        leaf: bool = False,
        bounds: Bounds | None = None,
        random_bytes: Callable[[int], bytes] = token_bytes,
        now: float = 0.0,
    ) -> None:
        """``certificate``: ours, DER; ``leaf``: never carry others' traffic."""
        self.id = id
        self.leaf = leaf
        self.ledger = Ledger(identify, verify, bounds or Bounds())
        self.graph = Graph()
        self._flood: Flood[LinkT] = Flood(
            id, certificate, sign, self.ledger, leaf=leaf, random_bytes=random_bytes, now=now
        )
        self.forest = Forest(self.origin, self.graph)
        self.routes: Routes[LinkT] = Routes(
            self.origin,
            self.ledger.records.__contains__,
            self.ledger.wanted.origins,
            self._next_hops,
            self._flood_hops,
            leaf=leaf,
        )
        self._wishes = Wishes()
        self._links: dict[int, LinkT] = {}
        self._drawn: dict[UUID, set[int]] = {}
        self._several: set[UUID] = set()
        self._twins: set[UUID] = set()
        self._expiries: deque[float] = deque()
        self._forget_at = float("inf")
        #: When round trips are to be told, and when that may be again.
        self._round_trips_at = float("inf")
        self._round_trips_next = now
        self._states = _Purse(STATES, STATES_PER_S, now)
        self._interests = _Purse(INTERESTS, INTERESTS_PER_S, now)
        self._draining = False
        self._flood.own.reached = True
        self._conclude(now)

    # -- what is ---------------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> int:
        """Ours: another after each start."""
        return self._flood.own.origin

    @property
    def counts(self) -> Counts:
        """Datagrams, by what became of them."""
        return self.routes.counts

    @property
    def refused(self) -> dict[str, int]:
        """Floods refused, by reason."""
        return dict(self.ledger.refused)

    @property
    def floods(self) -> dict[str, int]:
        """TOPOLOGY and INTEREST frames ``sent`` to links and their ``sent_bytes``; words ``accepted`` and those ``known`` already."""
        flood, ledger = self._flood, self.ledger
        return {
            "sent": flood.sent,
            "sent_bytes": flood.sent_bytes,
            "accepted": ledger.accepted,
            "known": ledger.seen,
        }

    @property
    def neighbours(self) -> Iterable[Neighbour[LinkT]]:
        """The links that stand."""
        return self._flood.neighbours.values()

    @property
    def records(self) -> Iterable[Record]:
        """Every origin that is known, ours included."""
        return self.ledger.records.values()

    @property
    def twins(self) -> frozenset[UUID]:
        """UUIDs under which two Rallypoints run at once."""
        return frozenset(self._twins)

    def stream_id(self, key: int) -> str | None:
        """The id of a stream that somebody in the mesh wants, where it was told: for people, and to notice two ids with one key."""
        return self.ledger.wanted.ids.get(key)

    def reach(self) -> list[Reach]:
        """Every other Rallypoint that can be reached, nearest first."""
        tree = self.forest.own
        found = []
        for origin, distance in sorted(tree.distances.items(), key=lambda item: (item[1], item[0])):
            child = tree.shape.child(origin)
            if child is not None:
                records = self.ledger.records
                cost, depth = cost_of(distance), depth_of(distance)
                found.append(Reach(records[origin].id, origin, cost, depth, records[child].id))
        return found

    def detours(self, expected: Iterable[UUID]) -> list[Detour]:
        """Rallypoints of ``expected`` to which no link stands, and how they are reached instead."""
        linked = {neighbour.id for neighbour in self.neighbours if neighbour.ready}
        reach = {far.id: far for far in self.reach()}
        return [Detour(id, reach.get(id)) for id in expected if id not in linked and id != self.id]

    def trace(self, key: int, origin: int | None = None) -> list[Hop]:
        """The links that a datagram of a stream takes from ``origin`` (ours, where left out), from the root down."""
        root = self.origin if origin is None else origin
        parents, distances = grown(root, self.graph.adjacency, self.graph.leaves)
        wanting = {o for o in self.ledger.wanted.origins(key) if o in distances and o != root}
        used: set[int] = set()
        for vertex in wanting:
            while vertex != root and vertex not in used:
                used.add(vertex)
                vertex = parents[vertex]
        records = self.ledger.records
        return [
            Hop(
                parent=records[parents[vertex]].id,
                child=records[vertex].id,
                cost=cost_of(self.graph.adjacency[parents[vertex]][vertex]),
                depth=depth_of(distances[vertex]),
                wants=vertex in wanting,
                round_trip_s=self.round_trip_s(parents[vertex], vertex),
            )
            for vertex in sorted(used, key=lambda v: (distances[v], v))
        ]

    def round_trip_s(self, one: int, other: int) -> float | None:
        """The round trip between two origins that are linked: what we measure where one of them is ours, else the longer of what they say."""
        if self.origin in (one, other):
            far = other if one == self.origin else one
            for neighbour in self.neighbours:
                if neighbour.origin == far and neighbour.round_trip_s is not None:
                    return neighbour.round_trip_s
        records = self.ledger.records
        said = [
            records[here].state.round_trips.get(there, 0)
            for here, there in ((one, other), (other, one))
            if here in records
        ]
        return max(said, default=0) / 10_000 or None

    # -- what happens ------------------------------------------------------------------------------------------------------

    def link_up(self, link: LinkT, id: UUID, cost: int, now: float, *, leaf: bool = False) -> None:
        """A link to another Rallypoint of our authority stands.

        ``id`` is in its certificate, ``cost`` (1 to 65,535) is what we set for it; ``leaf``: it was let in as a leaf.
        """
        if id == self.id:
            sentence = (
                "the far side has our own UUID: our own address among the peers, or a copy of our certificate"
            )
            self._flood.out.append(End(link, "self", sentence))
            return
        if len(self._flood.neighbours) >= MAX_LINKS:
            self._flood.out.append(End(link, "limit", f"{MAX_LINKS} links to Rallypoints are held"))
            return
        self._flood.up(Neighbour(link, id, _checked(cost), now, leaf))

    def link_down(self, link: LinkT, now: float) -> None:
        """A link is gone; unknown ones are ignored."""
        self._flood.down(link)
        self._conclude(now)

    def set_cost(self, link: LinkT, cost: int, now: float) -> None:
        """The configuration says another cost for a link."""
        neighbour = self._flood.neighbours.get(link)
        if neighbour is not None and neighbour.cost != _checked(cost):
            neighbour.cost = cost
            self._flood.restate = True

    def set_round_trip(self, link: LinkT, seconds: float, now: float) -> None:
        """A round trip was measured on a link.  It is told to everybody, for people to see; no way and no cost depends on it."""
        neighbour = self._flood.neighbours.get(link)
        if neighbour is None:
            return
        neighbour.measured(seconds)
        if self._round_trips_at == float("inf") and self._has_news(neighbour):
            self._round_trips_at = max(now + ROUND_TRIPS_WAIT_S, self._round_trips_next)

    def receive(self, link: LinkT, frame: bytes, now: float) -> None:
        """One whole TOPOLOGY or INTEREST frame from a link."""
        neighbour = self._flood.neighbours.get(link)
        if neighbour is not None:
            self._flood.receive(neighbour, frame, now)
            self._conclude(now)

    def want(self, key: int, stream_id: str, now: float) -> bool:
        """One local listener more on a stream; whether JOINED may be sent at once.  If not, :class:`Settled` will say when."""
        if stream_key(stream_id) != key:
            raise ValueError(f"{key:016x} is not the key of {stream_id!r}")
        if len(self._wishes) >= self.ledger.bounds.keys:
            raise TooManyStreams(f"the mesh takes {self.ledger.bounds.keys} streams of one Rallypoint")
        return self._wishes.want(key, stream_id, now)

    def unwant(self, key: int, now: float) -> None:
        """One local listener less."""
        self._wishes.unwant(key, now)

    def renew(self, certificate: bytes, sign: Sign, now: float) -> None:
        """Go on under a renewed certificate of the same UUID."""
        self._flood.renew(certificate, sign)
        self._conclude(now)

    def reconsider(self, now: float) -> None:
        """The lists of authorities or revocations have changed: forget whom we believe no longer."""
        for record in self.ledger.reconsider():
            if record is not self._flood.own:
                self.ledger.refused["untrusted"] += 1
                self._forget(record)
        self._conclude(now)

    def drain(self, now: float) -> None:
        """We are about to stop: every link of ours is the dearest from now on, so that others go round us while we still carry."""
        self._draining = True
        self._flood.restate = True

    # -- the way of a packet -----------------------------------------------------------------------------------------------

    def relay(self, link: LinkT, frame: bytes, now: float) -> Passed[LinkT] | None:
        """One whole RELAY frame from a link: see :meth:`ice.rallypoint.routes.Routes.relay`."""
        neighbour = self._flood.neighbours.get(link)
        if neighbour is None:
            return None
        return self.routes.relay(neighbour.carrier, link, frame, now)

    def originate(
        self, account: Account, frame: bytes, flags: int, key: int, source: int, sequence: int, now: float
    ) -> Passed[LinkT] | None:
        """One whole MEDIA frame of a local talker: see :meth:`ice.rallypoint.routes.Routes.originate`."""
        return self.routes.originate(account, frame, flags, key, source, sequence, now)

    # -- what is to be done ------------------------------------------------------------------------------------------------

    def take(self, now: float) -> list[Output[LinkT]]:
        """Everything to be done now, in order; also does what is due."""
        flood = self._flood
        self._say_interest(now)
        self._say_state(now)
        flood.tick(now)
        self._conclude(now)
        flood.out += map(Settled, self._wishes.settle(self._acknowledged, now))
        if self._expiries and self._expiries[0] <= now:
            while self._expiries and self._expiries[0] <= now:
                self._expiries.popleft()
            for root, moved in self.forest.expire(now):
                self.routes.tree_changed(root, moved)
        if now >= self._forget_at:
            self._forget_at = float("inf")
            for record in list(self.records):
                if record.forget_at is not None and record.forget_at <= now:
                    self._forget(record)
            self._conclude(now)
        for origin in self.routes.sweep(now):
            self.forest.drop(origin)
        out, flood.out = flood.out, []
        return out

    @property
    def deadline(self) -> float:
        """When :meth:`take` wants to be called at the latest; before the present when it has something already."""
        flood, wishes = self._flood, self._wishes
        if flood.out or flood.changed or wishes.settled(self._acknowledged):
            return float("-inf")
        due = min(flood.deadline, wishes.deadline, self._forget_at, self.routes.sweep_at)
        if self._expiries:
            due = min(due, self._expiries[0])
        if wishes.news:
            due = min(due, self._interests.next_at)
        if flood.restate:
            due = min(due, self._states.next_at)
        if self._round_trips_at < float("inf"):
            due = min(due, max(self._round_trips_at, self._states.next_at))
        return due

    @property
    def _acknowledged(self) -> int | None:
        """The number of our interest that all neighbours hold; None: there are none."""
        return min((neighbour.acknowledged for neighbour in self.neighbours if neighbour.ready), default=None)

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _say_interest(self, now: float) -> None:
        wishes = self._wishes
        while self._interests.ready_at(now) <= now:
            added, removed = wishes.take(now)
            if not added and not removed:
                return
            self._flood.say_interest(added, removed, wishes.ids)
            self._interests.spend(weight_of(len(self._flood.own.interest)))
            wishes.told(added, self._flood.own.interest.number)

    def _say_state(self, now: float) -> None:
        flood, timed = self._flood, self._round_trips_at <= now
        if not (flood.restate or timed) or self._states.ready_at(now) > now:
            return
        flood.restate = False
        links = {
            neighbour.origin: MAX_COST if self._draining else neighbour.cost
            for neighbour in self.neighbours
            if neighbour.ready and neighbour.origin is not None
        }
        links.pop(self.origin, None)
        if timed:
            self._round_trips_at = float("inf")
            timed = any(map(self._has_news, self.neighbours))
        if links != flood.own.state.links or timed:
            self._states.spend()
            flood.say_state(links)
            if timed:
                self._round_trips_next = now + ROUND_TRIPS_EVERY_S

    def _has_news(self, neighbour: Neighbour[LinkT]) -> bool:
        """Whether the round trip of a link that is told of is another than was told."""
        origin, own = neighbour.origin, self._flood.own.state
        if origin is None or origin not in own.links:
            return False  # its first will be told with the link
        told, measured = own.round_trips.get(origin, 0), neighbour.round_trip
        if not told or not measured:
            return bool(measured)
        least, most = sorted((told, measured))
        return most > ROUND_TRIP_FACTOR * least and most - least >= ROUND_TRIP_LEAST

    def _conclude(self, now: float) -> None:
        """Draw conclusions from what the flood has brought."""
        flood = self._flood
        if flood.reborn:
            flood.reborn, flood.own.reached = False, True
            self.forest = Forest(self.origin, self.graph)
            self.routes.reborn(self.origin)
            self._wishes.renumber()
            flood.links_changed = True
        if flood.links_changed:
            flood.links_changed = False
            flood.changed |= self._several  # the far end may be a life that does not count
            self._links = {n.origin: n.link for n in self.neighbours if n.origin is not None}
            self.routes.links_changed()
        if flood.changed:
            edges: list[Edge] = []
            # Whose life counts may hang on what others say of it: who has several is looked at each time.
            for id in flood.changed | self._several:
                edges += self._draw(id, now)
            flood.changed.clear()
            if edges:
                for root, moved in self.forest.changed(edges, now):
                    self.routes.tree_changed(root, moved)
                self._expiries.append(now + BOTH_S)
            self.routes.flood_changed()
            self._reach(now)
        if flood.keys_changed:
            self.routes.interest_changed(flood.keys_changed)
            flood.keys_changed.clear()

    def _draw(self, id: UUID, now: float) -> list[Edge]:
        """Bring one Rallypoint's vertices up to date; returns the edges that are not as they were."""
        flood, edges = self._flood, []
        known = set()
        lives = list(self.ledger.lives(id))
        for record in lives:
            rival = self.ledger.outranked(record)
            if rival is None:
                state = record.state
                known.add(record.origin)
                edges += self.graph.set(record.origin, state.links, state.leaf, now)
                continue
            twins = rival.origin in record.state.former
            for neighbour in self.neighbours:
                if neighbour.origin == record.origin:
                    code = "twin" if twins else "replaced"
                    sentence = (
                        "another Rallypoint runs with this UUID" if twins else "it has begun another life"
                    )
                    flood.out.append(End(neighbour.link, code, sentence))
            if not twins:
                self._forget(record)
        for origin in self._drawn.get(id, set()) - known:
            edges += self.graph.set(origin, None, False, now)
        self._drawn[id] = known
        if not known:
            del self._drawn[id]
        (self._several.add if len(lives) > 1 else self._several.discard)(id)
        self._name_twins(id)
        return edges

    def _name_twins(self, id: UUID) -> None:
        lives = list(self.ledger.lives(id))
        twins = any(
            one.origin in other.state.former and other.origin in one.state.former
            for one in lives
            for other in lives
        )
        if twins and id not in self._twins:
            self._twins.add(id)
            sentence = (
                f"two Rallypoints run with the UUID {id}: stop one, or give it a certificate of its own"
            )
            self._flood.out.append(Notice("twin", id, sentence))
        elif not twins:
            self._twins.discard(id)

    def _reach(self, now: float) -> None:
        """Note which origins there is a way to; from the others a minute runs."""
        reached = self.forest.own.distances
        for record in self.records:
            if record.origin in reached:
                record.forget_at = None
                if not record.reached:
                    record.reached = True
                    self._flood.out.append(Notice("came", record.id, f"{record.name} can be reached"))
            elif record.forget_at is None:
                record.forget_at = now + FORGET_S
                if record.reached:
                    record.reached = False
                    self._flood.out.append(Notice("gone", record.id, f"{record.name} cannot be reached"))
        self._forget_at = min(
            (record.forget_at for record in self.records if record.forget_at is not None),
            default=float("inf"),
        )

    def _forget(self, record: Record) -> None:
        self._flood.forget(record)
        self.routes.forget(record.origin)
        self.forest.drop(record.origin)

    def _next_hops(self, origin: int, key: int, now: float) -> tuple[LinkT, ...]:
        children = self.forest.children(origin, self.ledger.wanted.origins(key), now)
        return tuple(self._links[child] for child in sorted(children) if child in self._links)

    def _flood_hops(self, key: int) -> tuple[LinkT, ...]:
        """Core neighbours, and those leaves that want the stream."""
        wanting = self.ledger.wanted.origins(key)
        return tuple(
            link
            for origin, link in sorted(self._links.items(), key=lambda item: item[0])
            if origin in self.ledger.records
            and (not self.ledger.records[origin].state.leaf or origin in wanting)
        )


def _checked(cost: int) -> int:
    if not 1 <= cost <= MAX_COST:
        raise ValueError(f"the cost of a link is 1 to {MAX_COST}, not {cost}")
    return cost
