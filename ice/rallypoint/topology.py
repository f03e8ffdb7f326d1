"""Who is linked to whom: what every origin says of itself, and the graph that follows.

**Records.** A :class:`Record` is everything known of one origin, that is of one life of one Rallypoint.  It is replaced as a whole by each newer
state of the same origin, never changed by anybody else.

**The graph.** An edge counts when *both* ends name each other, and costs what the dearer of the two says: a Rallypoint that claims links to
everybody gains none, and one that claims to be cheap is believed only as far as its neighbour agrees.  A leaf is a vertex that
nothing passes through.  Weights are ``cost << 16 | 1``, so that the sum of a path holds its cost and, below, its number of links: of two paths that cost
the same the one with fewer links is shorter, and the depth of a vertex is read off its distance.

Vertices and adjacency are replaced, not changed in place, so that the graph as it was can be kept for two seconds at the price of one
shallow copy: trees are grown in it too while old and new next hops are both served (:mod:`ice.rallypoint.trees`).
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

from ice.link.peer import State
from ice.rallypoint.interest import Interest

#: How long the ways of before a change are served beside the new ones.
BOTH_S = 2.0
#: Graphs, or shapes of a tree, kept at once.  A mesh that changes more often within two seconds forgets those between the oldest, which
#: was there when it was quiet, and the newest.
MAX_SNAPSHOTS = 8

_SHIFT = 16
_DEPTH = (1 << _SHIFT) - 1

Edge = tuple[int, int]
Adjacency = Mapping[int, Mapping[int, int]]


def weight_of(cost: int) -> int:
    """The weight of an edge: its cost, and one link."""
    return cost << _SHIFT | 1


def cost_of(distance: int) -> int:
    """The cost of a path."""
    return distance >> _SHIFT


def depth_of(distance: int) -> int:
    """The number of links of a path."""
    return distance & _DEPTH


class Record:
    """One origin: its newest state, its certificates, and what it wants."""

    __slots__ = (
        "allowance",
        "allowance_at",
        "certificate",
        "forget_at",
        "former_certificate",
        "id",
        "interest",
        "origin",
        "reached",
        "state",
    )

    def __init__(self, state: State, certificate: bytes, now: float) -> None:
        self.origin = state.origin
        self.id: UUID = state.id
        self.state = state
        self.certificate = certificate
        #: The certificate before a renewal: what was signed with its key may still be on its way.
        self.former_certificate = b""
        self.interest = Interest()
        #: When it is forgotten, unless a way to it is found before; None while there is one.
        self.forget_at: float | None = None
        #: Whether there has been one.
        self.reached = False
        #: Floods that may still be accepted now; see :mod:`ice.rallypoint.flood`.
        self.allowance = float("inf")
        self.allowance_at = now

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Those that its signatures may be made with, newest first."""
        return (self.certificate, self.former_certificate) if self.former_certificate else (self.certificate,)

    @property
    def name(self) -> str:
        """The peer id shown to people: the first 18 characters of the UUID."""
        return str(self.id)[:18]


class Graph:
    """The edges that both ends agree on."""

    def __init__(self) -> None:
        #: Weights by vertex and neighbour; both levels are replaced, never changed.
        self.adjacency: dict[int, dict[int, int]] = {}
        self.leaves: frozenset[int] = frozenset()
        #: The graphs of the last two seconds, oldest first: until when each is served.
        self.former: list[tuple[float, dict[int, dict[int, int]], frozenset[int]]] = []
        self._claims: dict[int, dict[int, int]] = {}

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return sum(map(len, self.adjacency.values())) // 2

    def neighbours(self, vertex: int) -> Mapping[int, int]:
        """The neighbours of a vertex, and the weight of each edge."""
        return self.adjacency.get(vertex, {})

    def set(self, vertex: int, links: Mapping[int, int] | None, leaf: bool, now: float) -> list[Edge]:
        """What ``vertex`` says of itself now; None: nothing any more.  Returns the edges that are not as they were."""
        before = self.adjacency.get(vertex, {})
        claims = self._claims
        if links is None:
            claims.pop(vertex, None)
            after: dict[int, int] = {}
        else:
            claims[vertex] = dict(links)
            after = {
                other: weight_of(max(cost, claims[other][vertex]))
                for other, cost in links.items()
                if other in claims and vertex in claims[other]
            }
        turned = leaf != (vertex in self.leaves)
        changed = [
            (vertex, other)
            for other in {**before, **after}
            if turned or before.get(other) != after.get(other)
        ]
        if changed:
            self._keep(now)
            for _, other in changed:
                far = dict(self.adjacency.get(other, {}))
                if other in after:
                    far[vertex] = after[other]
                else:
                    far.pop(vertex, None)
                self._replace(other, far)
            self._replace(vertex, after)
        if turned:
            self.leaves = self.leaves | {vertex} if leaf else self.leaves - {vertex}
        return changed

    def expire(self, now: float) -> bool:
        """Forget graphs whose time is over; whether there were any."""
        before = len(self.former)
        self.former = [kept for kept in self.former if kept[0] > now]
        return len(self.former) < before

    def _keep(self, now: float) -> None:
        self.expire(now)
        if self.former and self.former[-1][0] == now + BOTH_S:
            return  # what was between two changes of one instant has been served by nobody
        self.former.append((now + BOTH_S, dict(self.adjacency), self.leaves))
        if len(self.former) > MAX_SNAPSHOTS:
            del self.former[1]

    def _replace(self, vertex: int, neighbours: dict[int, int]) -> None:
        if neighbours:
            self.adjacency[vertex] = neighbours
        else:
            self.adjacency.pop(vertex, None)


def touching(edges: Iterable[Edge]) -> set[int]:
    """The vertices at either end."""
    return {vertex for edge in edges for vertex in edge}
