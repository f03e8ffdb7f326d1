"""Graph and trees: the same everywhere, followed instead of grown anew, and as they were for two seconds."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.rallypoint.topology import BOTH_S, MAX_SNAPSHOTS, Edge, Graph, cost_of, depth_of
from ice.rallypoint.trees import Forest, Shape, Tree, grown


def line(*costs: int) -> Graph:
    """Vertices 0, 1, 2 … on a line."""
    graph = Graph()
    links: dict[int, dict[int, int]] = {n: {} for n in range(len(costs) + 1)}
    for n, cost in enumerate(costs):
        links[n][n + 1] = links[n + 1][n] = cost
    for vertex, there in links.items():
        graph.set(vertex, there, False, 0.0)
    graph.former.clear()
    return graph


class GraphTests(SynchronousTestCase):
    """What counts as an edge."""

    def test_both_ends_must_agree(self) -> None:
        """Who names everybody is linked to nobody until they name it."""
        graph = Graph()
        self.assertEqual(graph.set(1, {2: 1, 3: 1, 4: 1}, False, 0.0), [])
        self.assertEqual(graph.set(2, {}, False, 0.0), [])
        self.assertEqual(graph.set(3, {1: 1}, False, 0.0), [(3, 1)])
        self.assertEqual(graph.edges, 1)

    def test_the_dearer_cost_holds(self) -> None:
        """Nobody makes a way through itself cheaper than its neighbour says."""
        graph = Graph()
        graph.set(1, {2: 1}, False, 0.0)
        graph.set(2, {1: 500}, False, 0.0)
        self.assertEqual([cost_of(w) for w in graph.neighbours(1).values()], [500])
        self.assertEqual(graph.neighbours(1)[2], graph.neighbours(2)[1])

    def test_gone(self) -> None:
        """A vertex takes its edges along, and its claims."""
        graph = line(1, 1)
        self.assertEqual(sorted(graph.set(1, None, False, 1.0)), [(1, 0), (1, 2)])
        self.assertEqual((graph.edges, graph.adjacency), (0, {}))
        self.assertEqual(graph.set(0, {1: 1}, False, 1.0), [])

    def test_turning_into_a_leaf_changes_every_edge(self) -> None:
        """And back."""
        graph = line(1, 1)
        self.assertEqual(sorted(graph.set(1, {0: 1, 2: 1}, True, 1.0)), [(1, 0), (1, 2)])
        self.assertEqual(grown(0, graph.adjacency, graph.leaves)[1].keys(), {0, 1})
        self.assertEqual(sorted(graph.set(1, {0: 1, 2: 1}, False, 1.0)), [(1, 0), (1, 2)])

    def test_snapshots_are_few_and_short_lived(self) -> None:
        """The oldest, from when it was quiet, and the newest; none after two seconds; one per instant."""
        graph = line(1, 1)
        quiet = dict(graph.adjacency)
        for n in range(20):
            graph.set(0, {1: n + 2}, False, n * 0.01)
            graph.set(2, {1: n + 2}, False, n * 0.01)
        self.assertEqual(len(graph.former), MAX_SNAPSHOTS)
        self.assertEqual(graph.former[0][1], quiet)
        self.assertFalse(graph.expire(BOTH_S - 0.1))
        self.assertTrue(graph.expire(BOTH_S + 1))
        self.assertEqual(graph.former, [])


class TreeTests(SynchronousTestCase):
    """Shortest, and decided."""

    def test_ties(self) -> None:
        """Of ways that cost the same the one with fewer links; of those the one over the lower origin."""
        graph = Graph()
        links = {
            0: {1: 5, 2: 5, 4: 5},
            1: {0: 5, 3: 5},
            2: {0: 5, 3: 5},
            3: {1: 5, 2: 5, 5: 10},
            4: {0: 5, 6: 5},
            6: {4: 5, 5: 5, 7: 1},
            5: {6: 5, 3: 10, 0: 15},
            7: {6: 1},
        }
        links[0][5] = 15
        for vertex, there in links.items():
            graph.set(vertex, there, False, 0.0)
        parents, distances = grown(0, graph.adjacency, frozenset())
        self.assertEqual(parents[3], 1)
        self.assertEqual(parents[5], 0)
        self.assertEqual((cost_of(distances[7]), depth_of(distances[7])), (11, 3))

    def test_a_leaf_is_an_end(self) -> None:
        """Nothing passes through it, but everything starts at it that is its own."""
        graph = line(1, 1)
        graph.set(1, {0: 1, 2: 1}, True, 0.0)
        self.assertEqual(grown(0, graph.adjacency, graph.leaves)[0], {1: 0})
        self.assertEqual(grown(1, graph.adjacency, graph.leaves)[0], {0: 1, 2: 1})

    def test_child(self) -> None:
        """Who lies below which neighbour of ours."""
        shape = Shape({1: 0, 2: 1, 3: 2, 4: 1, 5: 0}, 1)
        self.assertEqual([shape.child(v) for v in (3, 2, 4, 5, 0, 1, 9)], [2, 2, 4, None, None, None, None])

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(1, 5))
    def test_followed_is_grown(self, seed: int, size: int, batch: int) -> None:
        """After any change a tree that followed it is the tree that grows from nothing; one not touched needs nothing."""
        rng = random.Random(seed)
        graph = Graph()
        claims: list[dict[int, int]] = [{} for _ in range(size)]
        leaves = [rng.random() < 0.1 for _ in range(size)]
        trees = [Tree(root, graph, 0) for root in range(size)]
        for _ in range(12):
            edges: list[Edge] = []
            for _ in range(rng.randrange(1, batch + 1)):
                vertex = rng.randrange(size)
                for other in rng.sample(range(size), rng.randrange(1, size)):
                    if other != vertex:
                        claims[vertex][other] = rng.choice((1, 1, 1, 2, 3))
                        claims[other][vertex] = rng.choice((1, 1, 2))
                for other in rng.sample(range(size), rng.randrange(size)):
                    claims[vertex].pop(other, None)
                if rng.random() < 0.1:
                    leaves[vertex] = not leaves[vertex]
                gone = rng.random() < 0.1
                for changed in range(size):
                    said = None if gone and changed == vertex else claims[changed]
                    edges += graph.set(changed, said, leaves[changed], 0.0)
            for tree in trees:
                parents, distances = grown(tree.root, graph.adjacency, graph.leaves)
                was, suspects = tree.parents, set()
                if tree.touched(graph, edges):
                    suspects = tree.update(graph, edges)
                self.assertEqual((tree.parents, tree.distances), (parents, distances))
                for me in range(size):
                    before, after = Shape(was, me), Shape(parents, me)
                    moved = {v for v in range(size) if before.child(v) != after.child(v)}
                    self.assertEqual(after.moved(before, suspects), moved)


class ForestTests(SynchronousTestCase):
    """Trees in use."""

    def test_both_ways_for_two_seconds(self) -> None:
        """The child of before a change is served beside the new one, and then no longer."""
        graph = Graph()
        for vertex, there in {0: {1: 1, 2: 5}, 1: {0: 1, 3: 1}, 2: {0: 5, 3: 5}, 3: {1: 1, 2: 5}}.items():
            graph.set(vertex, there, False, 0.0)
        graph.former.clear()
        forest = Forest(0, graph)
        self.assertEqual(forest.children(0, (3,), 0.0), {1})
        self.assertEqual(list(forest.changed(graph.set(1, {0: 1}, False, 10.0), 10.0)), [(0, {3})])
        self.assertEqual(forest.children(0, (3,), 10.0), {1, 2})
        self.assertEqual(list(forest.expire(11.9)), [])
        self.assertEqual(list(forest.expire(12.0)), [(0, {3})])
        self.assertEqual(forest.children(0, (3,), 12.0), {2})

    def test_a_tree_first_used_after_the_change(self) -> None:
        """Serves both ways too: others may not have heard of the change yet."""
        graph = line(1, 1, 1)
        graph.set(0, {1: 1, 3: 1}, False, 0.0)
        forest = Forest(1, graph)
        edges = graph.set(3, {2: 1, 0: 1}, False, 5.0)
        self.assertEqual(list(forest.changed(edges, 5.0)), [(1, {3})])
        self.assertEqual(forest.children(0, (3,), 5.5), {2})
        self.assertEqual(sorted(forest.expire(7.0)), [(0, {3}), (1, {3})])
        self.assertEqual(forest.children(0, (3,), 7.0), set())

    def test_more_changes_than_shapes_are_kept(self) -> None:
        """Counterexample: who moved after a shape that had to go is told when the oldest goes, or an old next hop would be served for ever."""
        graph = Graph()
        size = 30
        for vertex in range(3):
            graph.set(vertex, dict.fromkeys({0, 1, 2} - {vertex} if vertex == 0 else {0}, 1), False, 0.0)
        for vertex in range(3, size):
            graph.set(vertex, {1: 1, 2: 2}, False, 0.0)
        links = {1: {0: 1}, 2: {0: 1}}
        for vertex in range(3, size):
            links[1][vertex] = links[2][vertex] = 1
        for via, there in links.items():
            graph.set(via, there, False, 0.0)
        graph.former.clear()
        forest = Forest(0, graph)
        hops = {v: forest.children(0, (v,), 10.0) for v in range(3, size)}
        self.assertEqual(hops, {v: {1} for v in range(3, size)})
        told: set[int] = set()
        for vertex in range(3, size):
            now = 10.0 + vertex * 0.01
            for root, moved in forest.changed(graph.set(vertex, {2: 2}, False, now), now):
                self.assertEqual((root, moved), (0, {vertex}))
            self.assertEqual(forest.children(0, (vertex,), now), {1, 2})
        self.assertEqual(len(forest.own.former), MAX_SNAPSHOTS)
        for _, moved in forest.expire(20.0):
            told |= moved
        self.assertEqual(told, set(range(3, size)))

    def test_what_is_not_touched_is_not_looked_at(self) -> None:
        """A change beyond a better way leaves the tree alone, and one elsewhere in the tree leaves its next hops alone."""
        graph = line(1, 1, 1)
        forest = Forest(1, graph)
        forest.children(2, (), 0.0)
        graph.set(0, {1: 1, 3: 50}, False, 1.0)
        self.assertEqual(list(forest.changed(graph.set(3, {2: 1, 0: 50}, False, 1.0), 1.0)), [])
        self.assertEqual((forest.updated, forest.untouched), (0, 2))
        self.assertEqual(list(forest.changed(graph.set(3, {0: 50}, False, 2.0), 2.0)), [(1, {3}), (2, {3})])
        forest.drop(2)
        forest.drop(1)
        self.assertEqual(len(forest), 1)
