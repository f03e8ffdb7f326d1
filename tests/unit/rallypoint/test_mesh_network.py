"""Many engines on a network that delays, cuts, restarts and reorders: what every listener hears, and that all agree in the end.

``ICE_MESH_EXAMPLES`` asks for more than the few examples that an ordinary run has time for.
"""

import os
from collections import Counter

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.peer import MAX_HOPS
from tests.unit.rallypoint.mesh_network import PROTECTED, Network, Node

EXAMPLES = int(os.environ.get("ICE_MESH_EXAMPLES", "0"))
SEEDS = st.integers(0, 2**32 - 1)


def few(count: int) -> settings:
    """Modest by default; the environment asks for more."""
    return settings(
        max_examples=EXAMPLES or count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not EXAMPLES,
    )


class Speech:
    """Talkers that say one numbered datagram after the other, and what should be heard of them."""

    def __init__(self, network: Network, streams: int = 3) -> None:
        self.network = network
        self.keys = [network.nodes[0].listen(f"stream {n}") for n in range(streams)]
        network.nodes[0].listening.clear()
        for key in self.keys:
            network.nodes[0].mesh.unwant(key, network.now)
        self.next: Counter[tuple[int, int]] = Counter()

    def say(self, node: Node, key: int, flags: int = 0, also: Node | None = None) -> tuple[int, int, int]:
        """One datagram of the talker of this Rallypoint, who may be on two."""
        source = (node.index + 1) << 32 | node.index
        sequence = self.next[source, key]
        self.next[source, key] += 1
        for home in (node, also):
            if home is not None:
                home.say(key, source, sequence, flags)
        return key, source, sequence


def listeners(network: Network, key: int, root: Node) -> list[Node]:
    """Who should hear a datagram of ``root``."""
    reach = network.reachable(root.index)
    return [
        node
        for node in network.nodes
        if node.alive and key in node.listening and reach.get(node.index, 99) <= MAX_HOPS
    ]


class Case(SynchronousTestCase):
    """What all of these check in the end."""

    def steady(self, network: Network, speech: Speech) -> None:
        """Everybody connected hears everything once, by no more copies than there are Rallypoints on the way."""
        said: dict[tuple[int, int, int], Node] = {}
        live = [node for node in network.nodes if node.alive]
        before = {node.index: node.mesh.counts.dropped() for node in live}
        for node in live:
            for key in speech.keys:
                for _ in range(2):
                    said[speech.say(node, key)] = node
        network.run(3)
        for name, root in said.items():
            there = listeners(network, name[0], root)
            heard = {node.index: node.heard[name] for node in live if node.heard[name]}
            self.assertEqual(heard, {node.index: 1 for node in there}, f"{name} said at {root.index}")
            way = root.mesh.trace(name[0])
            self.assertEqual(network.relayed[name], len(way), "as many copies as links on the way")
        self.assertEqual({node.index: node.mesh.counts.dropped() for node in live}, before)

    def never_twice(self, network: Network) -> None:
        """No listener has heard anything twice."""
        for node in network.nodes:
            doubled = [name for name, count in node.heard.items() if count > 1]
            self.assertEqual(doubled, [])

    def bounded(self, network: Network) -> None:
        """Nothing has circulated, nobody was accused, and nothing is left over."""
        origins = len(network.nodes)
        for name, copies in network.relayed.items():
            self.assertLess(copies, 2 * origins * origins, name)
        live = [node for node in network.nodes if node.alive]
        for node in live:
            self.assertEqual(node.mesh.counts.malformed, 0)
            self.assertEqual([n for n in node.notices if n.what in ("faults", "reborn", "twin")], [])
            unfair = {"forged", "absurd", "malformed", "identity", "equivocation"} & set(node.mesh.refused)
            self.assertEqual(unfair, set())
        network.run(70)
        for node in live:
            reach = network.reachable(node.index)
            self.assertEqual(len(list(node.mesh.records)), len(reach))
            self.assertLessEqual(len(node.mesh.graph.former), 8)
            self.assertEqual(len(node.mesh.graph.former), 0)


class SteadyTests(Case):
    """A mesh that stands."""

    @few(25)
    @given(seed=SEEDS, size=st.integers(1, 14), extra=st.integers(0, 20), leaves=st.integers(0, 4))
    def test_every_listener_hears_everything_once(
        self, seed: int, size: int, extra: int, leaves: int
    ) -> None:
        """Any graph, any costs, leaves with one link or several, listeners anywhere."""
        network = Network(seed)
        network.add(size)
        network.add(leaves, leaf=True)
        network.random_graph(range(size), extra)
        rng = network.rng
        for leaf in range(size, size + leaves):
            for _ in range(rng.randrange(1, 3)):
                network.join(leaf, rng.randrange(size), network.cost())
        speech = Speech(network)
        for node in network.nodes:
            for key in speech.keys:
                if rng.random() < 0.4:
                    node.listen(network.ids[key])
        network.settle()
        self.steady(network, speech)
        self.bounded(network)

    def test_fifty(self) -> None:
        """The size that the engine is made for, and everybody on one stream."""
        network = Network(7)
        network.add(50)
        network.random_graph(range(50), 60)
        speech = Speech(network, 1)
        for node in network.nodes:
            node.listen(network.ids[speech.keys[0]])
        self.assertLess(network.settle(), 3)
        self.steady(network, speech)

    def test_deeper_than_the_hop_limit(self) -> None:
        """On a line of 20, who is 16 links away hears, and who is 17 away does not: a mesh is not a line."""
        network = Network(1)
        network.add(20)
        for n in range(19):
            network.join(n, n + 1)
        speech = Speech(network, 1)
        for node in network.nodes:
            node.listen(network.ids[speech.keys[0]])
        network.settle()
        name = speech.say(network.nodes[0], speech.keys[0])
        network.run(3)
        heard = [node.index for node in network.nodes if node.heard[name]]
        self.assertEqual(heard, list(range(17)))
        self.assertEqual(network.nodes[16].mesh.counts.hops, 1)


class PlannedTests(Case):
    """Changes that break nothing lose nothing."""

    @few(25)
    @given(seed=SEEDS, size=st.integers(2, 12), extra=st.integers(0, 12))
    def test_new_links_costs_and_rallypoints(self, seed: int, size: int, extra: int) -> None:
        """Links and Rallypoints that come, and costs that change, cost no datagram: old and new ways are both served."""
        network = Network(seed)
        network.add(size)
        network.random_graph(range(size), extra)
        speech = Speech(network, 2)
        rng = network.rng
        for node in network.nodes:
            for key in speech.keys:
                if rng.random() < 0.5:
                    node.listen(network.ids[key])
        network.settle()
        said = []
        for step in range(60):
            if step % 20 == 5:
                change = rng.randrange(3)
                if change == 0:
                    a, b = rng.randrange(size), rng.randrange(size)
                    network.join(a, b, rng.randrange(1, 10))
                elif change == 1:
                    a, b = rng.choice(network.wires)
                    for here, there in ((a, b), (b, a)):
                        link = next(n.link for n in network.nodes[here].mesh.neighbours if n.link[1] == there)
                        network.nodes[here].mesh.set_cost(link, rng.randrange(1, 1_000), network.now)
                        network.nodes[here].pump()
                else:
                    (new,) = network.add()
                    for _ in range(2):
                        network.join(new.index, rng.randrange(size), rng.randrange(1, 5))
            for node in network.nodes[:size]:
                key = rng.choice(speech.keys)
                said.append((speech.say(node, key), node))
            network.run(0.05)
        network.run(3)
        for name, root in said:
            for node in listeners(network, name[0], root):
                self.assertEqual(node.heard[name], 1, f"{name} of {root.index} at {node.index}")
        self.never_twice(network)

    def test_draining(self) -> None:
        """A Rallypoint that is about to stop is left by what it carried before it is gone: nothing is lost."""
        network = Network(3)
        network.add(4)
        for a, b, cost in ((0, 1, 1), (1, 3, 1), (0, 2, 10), (2, 3, 10)):
            network.join(a, b, cost)
        speech = Speech(network, 1)
        network.nodes[3].listen(network.ids[speech.keys[0]])
        network.settle()
        said = []
        for step in range(80):
            if step == 10:
                network.nodes[1].mesh.drain(network.now)
                network.nodes[1].pump()
            if step == 40:
                network.kill(1, notice=1.0)
            said.append(speech.say(network.nodes[0], speech.keys[0]))
            network.run(0.02)
        network.run(1)
        self.assertEqual([network.nodes[3].heard[name] for name in said], [1] * 80)


class ChurnTests(Case):
    """Everything at once, and calm afterwards."""

    @few(25)
    @given(seed=SEEDS, size=st.integers(2, 14), extra=st.integers(0, 16), leaves=st.integers(0, 2))
    def test_nothing_doubles_or_circulates_and_all_agree_in_the_end(
        self, seed: int, size: int, extra: int, leaves: int
    ) -> None:
        """Joins, leaves, cuts that are noticed late, new links, deaths and restarts while everybody talks."""
        network = Network(seed)
        network.add(size)
        network.add(leaves, leaf=True)
        network.random_graph(range(size + leaves), extra)
        self.churn(network, steps=60)
        network.settle()
        self.steady(network, self.speech)
        self.never_twice(network)
        self.bounded(network)

    def test_fifty(self) -> None:
        """The same with fifty."""
        network = Network(11)
        network.add(46)
        network.add(4, leaf=True)
        network.random_graph(range(50), 60)
        self.churn(network, steps=25)
        network.settle()
        self.steady(network, self.speech)
        self.never_twice(network)

    def churn(self, network: Network, steps: int) -> None:
        """Random events a few hundredths of a second apart."""
        rng = network.rng
        speech = self.speech = Speech(network)
        count = len(network.nodes)
        for _ in range(steps):
            what = rng.random()
            node = rng.choice(network.nodes)
            key = rng.choice(speech.keys)
            if what < 0.25:
                node.listen(network.ids[key])
            elif what < 0.35:
                node.unlisten(key)
            elif what < 0.5 and network.wires:
                network.cut(*rng.choice(network.wires), notice=rng.choice((0, 0.05, 0.5, 2.5)))
            elif what < 0.75:
                network.join(rng.randrange(count), rng.randrange(count), network.cost())
            elif what < 0.85 and node.alive:
                network.kill(node.index, notice=rng.choice((0, 0.2, 2.5)))
            elif not node.alive:
                node.start()
                for other in rng.sample(range(count), min(count, 3)):
                    network.join(node.index, other, network.cost())
            for talker in rng.sample(network.nodes, min(count, 4)):
                if talker.alive:
                    speech.say(talker, key, rng.choice((0, 0, 0, PROTECTED)))
            network.run(rng.choice((0.0, 0.01, 0.03, 0.1, 0.5)))


class ProtectedTests(Case):
    """Protected datagrams, and what survives whose death."""

    @few(25)
    @given(seed=SEEDS, size=st.integers(4, 12), extra=st.integers(0, 8), leaves=st.integers(0, 2))
    @example(seed=1, size=4, extra=0, leaves=0)
    def test_any_one_rallypoint_may_die(self, seed: int, size: int, extra: int, leaves: int) -> None:
        """In a core that no single loss divides, dual-homed talkers are heard by dual-homed listeners without a gap, and by all others once."""
        network = Network(seed)
        network.add(size)
        network.add(leaves, leaf=True)
        rng = network.rng
        ring = list(range(size))
        rng.shuffle(ring)
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            network.join(a, b, network.cost())
        for _ in range(extra):
            network.join(rng.randrange(size), rng.randrange(size), network.cost())
        for leaf in range(size, size + leaves):
            for core in rng.sample(range(size), 2):
                network.join(leaf, core, network.cost())
        speech = Speech(network, 1)
        (key,) = speech.keys
        for node in network.nodes:
            if rng.random() < 0.6:
                node.listen(network.ids[key])
        network.settle()
        victim = rng.randrange(size)
        talkers = [rng.sample(network.nodes, 2) for _ in range(3)]
        homes = [
            rng.sample([n for n in network.nodes if key in n.listening], 2)
            for _ in range(3)
            if sum(key in n.listening for n in network.nodes) >= 2
        ]
        names = []
        died_at = rng.randrange(10, 30)
        heard_before = {}
        for step in range(40):
            if step == died_at:
                heard_before = dict(network.nodes[victim].heard)
                network.kill(victim, notice=2.5)
            for first, second in talkers:
                names.append(speech.say(first, key, PROTECTED, also=second))
            network.run(0.02)
        network.run(5)
        for one, other in homes:
            for name in names:
                there = [
                    (heard_before if node.index == victim else node.heard).get(name, 0)
                    for node in (one, other)
                ]
                self.assertGreaterEqual(
                    sum(there), 1, f"{name} at {one.index} and {other.index}, {victim} died"
                )
        self.never_twice(network)
        for node in network.nodes:
            if node.index != victim and key in node.listening:
                self.assertEqual([node.heard[name] for name in names], [1] * len(names))

    def test_once_over_each_core_link_at_most_twice(self) -> None:
        """A flood costs one copy per direction of a link at most, and ends."""
        network = Network(5)
        network.add(8)
        network.random_graph(range(8), 12)
        network.settle()
        speech = Speech(network, 1)
        name = speech.say(network.nodes[0], speech.keys[0], PROTECTED)
        network.run(3)
        links = len(network.wires)
        self.assertLessEqual(network.relayed[name], 2 * links)
        self.assertGreaterEqual(network.relayed[name], links)


class LeafTests(Case):
    """A leaf hangs on the mesh and carries nothing of it."""

    def test_nothing_passes_through(self) -> None:
        """Two halves that only a leaf is linked to both of stay two halves; the leaf speaks to both and hears both."""
        network = Network(2)
        network.add(2)
        network.add(1, leaf=True)
        network.join(0, 2)
        network.join(1, 2)
        speech = Speech(network, 1)
        (key,) = speech.keys
        for node in network.nodes:
            node.listen(network.ids[key])
        network.settle()
        for flags in (0, PROTECTED):
            names = [speech.say(node, key, flags) for node in network.nodes]
            network.run(1)
            heard = [[node.heard[name] for name in names] for node in network.nodes]
            self.assertEqual(heard, [[1, 0, 1], [0, 1, 1], [1, 1, 1]])
