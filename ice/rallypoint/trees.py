"""The shortest-path tree of an origin: which way its datagrams go, the same at every Rallypoint.

Every Rallypoint that holds the same states computes the same tree, without asking anybody: of all ways the shortest; of two equally short
ones the way whose last Rallypoint has the lower origin.  A leaf is reached but not passed through, unless it is the root.

**Changes.** A tree is not grown anew when the graph changes.  What hung on a broken edge is cut off and grown again from its border, and a
better edge spreads only as far as it improves anything; a tree that the change does not touch is not looked at again.  The result is
exactly the tree that would have been grown from nothing (a test holds it to that).  Most changes of a tree are elsewhere: what counts here is
which Rallypoints now lie below another neighbour of ours, and only streams that one of those wants get new next hops.

**Both ways for two seconds.** Rallypoints do not hear of a change at the same instant.  So each tree remembers the shapes of the last two
seconds, and next hops are those of all of them; the windows of whoever hears a datagram twice let it pass once.  A tree that is first
needed within these two seconds grows its former shapes from the former graphs.

Trees exist only for origins whose datagrams come through here; :class:`Forest` holds them.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush

from ice.rallypoint.topology import BOTH_S, MAX_SNAPSHOTS, Adjacency, Edge, Graph

_NOBODY = -1


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

    def moved(self, since: "Shape", suspects: Iterable[int]) -> set[int]:
        """Who lies below another child of ours than in an earlier shape, or no longer or newly below any.

        ``suspects``: those whose parent is another.  Who has moved has moved with a suspect above, so if none of them has, nobody has.
        """
        if all(self.child(vertex) == since.child(vertex) for vertex in suspects):
            return set()
        vertices = self.parents.keys() | since.parents.keys()
        return {vertex for vertex in vertices if self.child(vertex) != since.child(vertex)}


class Tree:
    """The shortest-path tree of ``root`` in a graph."""

    __slots__ = ("distances", "former", "parents", "root", "shape")

    def __init__(self, root: int, graph: Graph, me: int) -> None:
        self.root = root
        self.parents, self.distances = grown(root, graph.adjacency, graph.leaves)
        self.shape = Shape(self.parents, me)
        #: Shapes of the last two seconds: until when each is served, and who has moved since.
        self.former: list[tuple[float, Shape, set[int]]] = []

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

    def update(self, graph: Graph, edges: Iterable[Edge]) -> set[int]:
        """Follow a change of ``edges``; returns the vertices that may have another parent."""
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
        lost |= _spread(heap, root, parents, distances, adjacency, leaves)
        self.parents = parents
        return lost

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
) -> set[int]:
    """Let candidates (distance, parent, vertex) spread as far as they are better than what is there; returns where."""
    reached = set()
    while heap:
        distance, parent, vertex = heappop(heap)
        known = distances.get(vertex)
        if known is not None and (known, parents.get(vertex, _NOBODY)) <= (distance, parent):
            continue
        parents[vertex] = parent
        distances[vertex] = distance
        reached.add(vertex)
        if known == distance or vertex in leaves:
            continue  # only the parent is another, or nothing goes on from here
        for w, weight in adjacency[vertex].items():
            reach = distance + weight
            there = distances.get(w)
            if there is None or (reach, vertex) < (there, parents.get(w, _NOBODY)):
                heappush(heap, (reach, vertex, w))
    return reached


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

    def changed(self, edges: list[Edge], now: float) -> Iterator[tuple[int, set[int]]]:
        """The graph has changed at ``edges``: roots of trees that are others now, and who has moved in them, as seen from here."""
        graph = self._graph
        for root, tree in self._trees.items():
            if not tree.touched(graph, edges):
                self.untouched += 1
                continue
            self.updated += 1
            was = tree.shape
            suspects = tree.update(graph, edges)
            shape = Shape(tree.parents, self.me)
            moved = shape.moved(was, suspects)
            tree.shape = shape
            if moved:
                tree.former.append((now + BOTH_S, was, moved))
                if len(tree.former) > MAX_SNAPSHOTS:
                    # Who moved after the shape that goes is looked at when the one before it does.
                    until, oldest, since = tree.former[0]
                    tree.former[:2] = [(until, oldest, since | tree.former[1][2])]
                yield root, moved

    def tree(self, root: int) -> Tree | None:
        """The tree of ``root``, if it is in use."""
        return self._trees.get(root)

    def children(self, root: int, vertices: Iterable[int], now: float) -> set[int]:
        """The neighbours of ours that lead to any of ``vertices`` in the tree of ``root``, as it is or was within two seconds.

        From here on the tree is in use.
        """
        tree = self._trees.get(root)
        if tree is None:
            tree = self._grow(root, now)
        child = tree.shape.child
        found = {child(vertex) for vertex in vertices}
        for until, shape, _ in tree.former:
            if until > now:
                child = shape.child
                found |= {child(vertex) for vertex in vertices}
        found.discard(None)
        return found  # type: ignore[return-value]  # None is gone

    def expire(self, now: float) -> Iterator[tuple[int, set[int]]]:
        """Forget shapes whose time is over: roots of the trees that had any, and who had moved."""
        self._graph.expire(now)
        for root, tree in self._trees.items():
            if tree.former and tree.former[0][0] <= now:
                for until, _, moved in tree.former:
                    if until <= now:
                        yield root, moved
                tree.former = [former for former in tree.former if former[0] > now]

    def drop(self, root: int) -> None:
        """The tree of ``root`` is not in use any more."""
        if root != self.me:
            self._trees.pop(root, None)

    def _grow(self, root: int, now: float) -> Tree:
        graph = self._graph
        tree = self._trees[root] = Tree(root, graph, self.me)
        for until, adjacency, leaves in graph.former:
            if until > now:
                shape = Shape(grown(root, adjacency, leaves)[0], self.me)
                moved = tree.shape.moved(shape, tree.parents.keys() | shape.parents.keys())
                if moved:
                    tree.former.append((until, shape, moved))
        self.grown += 1
        return tree
