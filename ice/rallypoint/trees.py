"""The shortest-path tree of an origin: which way its datagrams go, the same at every Rallypoint.

Every Rallypoint that holds the same states computes the same tree, without asking anybody: of all ways the shortest; of two equally short
ones the way whose last Rallypoint has the lower origin.  A leaf is reached but not passed through, unless it is the root.

**Changes.** A tree is not grown anew when the graph changes.  What hung on a broken edge is cut off and grown again from its border, and a
better edge spreads only as far as it improves anything; a tree that the change does not touch is not looked at again.  The result is
exactly the tree that would have been grown from nothing (a test holds it to that).

**Both ways for two seconds.** Rallypoints do not hear of a change at the same instant.  So each tree remembers the shapes of the last two
seconds, and next hops are those of all of them; the windows of whoever hears a datagram twice let it pass once.  A tree that is first
needed within these two seconds grows its former shapes from the former graphs.

Trees exist only for origins whose datagrams come through here; :class:`Forest` holds them.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

from ice.rallypoint.topology import BOTH_S, MAX_SNAPSHOTS, Adjacency, Edge, Graph

_NOBODY = -1
#: Edges that may be waiting for a tree that nobody asks for; beyond it the tree is grown from nothing when it is needed.
MAX_PENDING = 256


class Shape:
    """A tree as it is, or was: the parent of every vertex but the root, and who lies below which child of ours."""

    __slots__ = ("_below", "_me", "parents")

    def __init__(self, parents: Mapping[int, int], me: int) -> None:
        self.parents = parents
        self._me = me
        self._below: dict[int, int | None] = {me: None}

    def child(self, vertex: int) -> int | None:
        """The neighbour of ours that leads down to ``vertex``; None when it is not below us."""
        below = self._below
        path = []
        while vertex not in below:
            path.append(vertex)
            parent = self.parents.get(vertex)
            if parent is None or parent == self._me:
                below[vertex] = None if parent is None else vertex
                break
            vertex = parent
        found = below[vertex]
        for passed in path:
            below[passed] = found
        return found


class Tree:
    """The shortest-path tree of ``root`` in a graph."""

    __slots__ = ("distances", "former", "parents", "pending", "pending_at", "root", "shape")

    def __init__(self, root: int, graph: Graph, me: int) -> None:
        self.root = root
        self.parents, self.distances = grown(root, graph.adjacency, graph.leaves)
        self.shape = Shape(self.parents, me)
        #: Shapes of the last two seconds, and until when each is served.
        self.former: list[tuple[float, Shape]] = []
        #: Edges that changed since it was last looked at, and when the last of them did.
        self.pending: list[Edge] = []
        self.pending_at = 0.0

    def touched(self, graph: Graph, edges: Iterable[Edge]) -> bool:
        """Whether a change of ``edges`` to what they are in ``graph`` can make any difference here."""
        parents = self.parents
        return any(
            parents.get(v) == u
            or parents.get(u) == v
            or self._better(graph, u, v)
            or self._better(graph, v, u)
            for u, v in edges
        )

    def update(self, graph: Graph, edges: Iterable[Edge]) -> None:
        """Follow a change of ``edges``."""
        parents, distances = dict(self.parents), self.distances
        adjacency, leaves, root = graph.adjacency, graph.leaves, self.root
        edges = list(edges)
        seeds = [v for u, v in edges if parents.get(v) == u]
        seeds += [u for u, v in edges if parents.get(u) == v]
        lost: set[int] = set()
        while seeds:
            vertex = seeds.pop()
            if vertex not in lost:
                lost.add(vertex)
                # A child whose edge to us is gone is a seed itself.
                seeds += [w for w in adjacency.get(vertex, ()) if parents.get(w) == vertex]
        for vertex in lost:
            del parents[vertex], distances[vertex]
        heap: list[tuple[int, int, int]] = []
        for vertex in lost:
            for u, weight in adjacency.get(vertex, {}).items():
                if u in distances and (u == root or u not in leaves):
                    heappush(heap, (distances[u] + weight, u, vertex))
        for edge in edges:
            for u, v in (edge, edge[::-1]):
                weight_or_none = adjacency.get(u, {}).get(v)
                if weight_or_none is not None and u in distances and (u == root or u not in leaves):
                    heappush(heap, (distances[u] + weight_or_none, u, v))
        _spread(heap, root, parents, distances, adjacency, leaves)
        self.parents = parents

    def _better(self, graph: Graph, u: int, v: int) -> bool:
        weight = graph.adjacency.get(u, {}).get(v)
        if weight is None or u not in self.distances or (u in graph.leaves and u != self.root):
            return False
        known = self.distances.get(v)
        return known is None or (self.distances[u] + weight, u) < (known, self.parents.get(v, _NOBODY))


def grown(root: int, adjacency: Adjacency, leaves: frozenset[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Parents and distances of the shortest-path tree of ``root``."""
    parents: dict[int, int] = {}
    distances = {root: 0}
    heap = [(weight, root, v) for v, weight in adjacency.get(root, {}).items()]
    heap.sort()
    _spread(heap, root, parents, distances, adjacency, leaves)
    return parents, distances


def _spread(
    heap: list[tuple[int, int, int]],
    root: int,
    parents: dict[int, int],
    distances: dict[int, int],
    adjacency: Adjacency,
    leaves: frozenset[int],
) -> None:
    """Let candidates (distance, parent, vertex) spread as far as they are better than what is there."""
    while heap:
        distance, parent, vertex = heappop(heap)
        known = distances.get(vertex)
        if known is not None and (known, parents.get(vertex, _NOBODY)) <= (distance, parent):
            continue
        parents[vertex] = parent
        distances[vertex] = distance
        if known == distance or vertex in leaves:
            continue  # only the parent is another, or nothing goes on from here
        for w, weight in adjacency[vertex].items():
            reach = distance + weight
            there = distances.get(w)
            if there is None or (reach, vertex) < (there, parents.get(w, _NOBODY)):
                heappush(heap, (reach, vertex, w))


class Forest:
    """The trees in use, as seen by ``me``; its own is always among them."""

    def __init__(self, me: int, graph: Graph) -> None:
        self.me = me
        self._graph = graph
        self._trees: dict[int, Tree] = {}
        #: How often a tree was grown from nothing, followed a change, or was not touched by one.
        self.grown = 0
        self.updated = 0
        self.untouched = 0
        self.own = self._grow(me, float("-inf"))

    def __len__(self) -> int:
        return len(self._trees)

    def changed(self, edges: list[Edge], now: float) -> list[int]:
        """The graph has changed at ``edges``; returns the roots of the trees that may be others now."""
        touched = []
        for root, tree in list(self._trees.items()):
            if not tree.pending and not tree.touched(self._graph, edges):
                self.untouched += 1
                continue
            tree.pending += edges
            tree.pending_at = now
            touched.append(root)
            if len(tree.pending) > MAX_PENDING and root != self.me:
                del self._trees[root]
        self.tree(self.me, now)  # who can be reached is asked at once
        return touched

    def tree(self, root: int, now: float) -> Tree:
        """The tree of ``root``, grown or brought up to date as needed."""
        tree = self._trees.get(root)
        if tree is None:
            return self._grow(root, now)
        if tree.pending:
            self._follow(tree, now)
        return tree

    def children(self, root: int, vertices: Iterable[int], now: float) -> set[int]:
        """The neighbours of ours that lead to any of ``vertices`` in the tree of ``root``, as it is or was within two seconds."""
        tree = self.tree(root, now)
        found = {tree.shape.child(vertex) for vertex in vertices}
        for until, shape in tree.former:
            if until > now:
                found |= {shape.child(vertex) for vertex in vertices}
        found.discard(None)
        return found  # type: ignore[return-value]  # None is gone

    def expire(self, now: float) -> list[int]:
        """Forget shapes whose time is over; returns the roots of the trees that had any."""
        self._graph.expire(now)
        expired = []
        for root, tree in self._trees.items():
            kept = [former for former in tree.former if former[0] > now]
            if len(kept) < len(tree.former):
                tree.former = kept
                expired.append(root)
        return expired

    def drop(self, root: int) -> None:
        """The tree of ``root`` is not in use any more."""
        if root != self.me:
            self._trees.pop(root, None)

    def _grow(self, root: int, now: float) -> Tree:
        graph = self._graph
        tree = self._trees[root] = Tree(root, graph, self.me)
        for until, adjacency, leaves in graph.former:
            if until > now:
                parents, _ = grown(root, adjacency, leaves)
                if parents != tree.parents:
                    tree.former.append((until, Shape(parents, self.me)))
        self.grown += 1
        return tree

    def _follow(self, tree: Tree, now: float) -> None:
        self.updated += 1
        was = tree.shape
        tree.update(self._graph, tree.pending)
        tree.pending = []
        if tree.parents == was.parents:
            return
        until = tree.pending_at + BOTH_S
        if until > now:
            tree.former.append((until, was))
            if len(tree.former) > MAX_SNAPSHOTS:
                del tree.former[1]
        tree.shape = Shape(tree.parents, self.me)
