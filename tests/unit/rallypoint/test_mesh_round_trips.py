"""Round trips that everybody is told of: when, how often, and that no way depends on them."""

from twisted.trial.unittest import SynchronousTestCase

from ice.link.naming import stream_key
from ice.rallypoint.mesh import ROUND_TRIPS_EVERY_S, ROUND_TRIPS_WAIT_S, Mesh
from tests.unit.rallypoint.mesh_network import Link, Network, id_of

ALPHA = stream_key("alpha")


class Case(SynchronousTestCase):
    """0 – 1 – 2 on a line; what 2 knows of the link between 0 and 1."""

    def setUp(self) -> None:
        self.network = Network(1)
        self.network.add(3)
        self.network.join(0, 1, 10, 0.01)
        self.network.join(1, 2, 10, 0.01)
        self.network.nodes[2].listen("alpha")
        self.network.settle()
        self.near, self.middle, self.far = (node.mesh for node in self.network.nodes)

    def measure(self, seconds: float, here: int = 0, there: int = 1) -> None:
        """A Rallypoint measures the link to another."""
        node = self.network.nodes[here]
        node.mesh.set_round_trip(self.link(here, there), seconds, self.network.now)
        node.pump()

    def link(self, here: int, there: int) -> Link:
        """The end of a link."""
        return next(n.link for n in self.network.nodes[here].mesh.neighbours if n.id == id_of(there))

    def told(self) -> float | None:
        """What 2 knows."""
        return self.far.round_trip_s(self.near.origin, self.middle.origin)

    def number(self) -> int:
        """Of the newest state of 0."""
        return self.near.ledger.records[self.near.origin].state.number


class TellingTests(Case):
    def test_everybody_is_told(self) -> None:
        """A moment later, of whatever is not known yet."""
        self.assertIsNone(self.told())
        self.measure(0.0213)
        self.network.run(ROUND_TRIPS_WAIT_S - 0.1)
        self.assertIsNone(self.told())
        self.network.run(0.5)
        self.assertEqual(self.told(), 0.0213)
        self.assertEqual(self.network.differences(), [])

    def test_a_link_that_comes_tells_its_own(self) -> None:
        """What is measured before it is announced goes with it, in one word."""
        network = self.network
        (new,) = network.add()
        network.join(3, 0, 10, 0.01)
        new.mesh.set_round_trip(self.link(3, 0), 0.004, network.now)
        network.settle()
        self.assertEqual(self.far.round_trip_s(new.mesh.origin, self.near.origin), 0.004)
        states = new.mesh.ledger.records[new.mesh.origin].state
        self.assertEqual(states.number, 2, "one without links, one with")

    def test_what_has_not_changed_is_not_told_again(self) -> None:
        """Half as much again is the bound, and below half a millisecond there is none."""
        self.measure(0.010)
        self.network.run(100)
        before = self.number()
        for seconds in (0.012, 0.014, 0.008, 0.010):
            self.measure(seconds)
            self.network.run(100)
        self.assertEqual((self.number(), self.told()), (before, 0.010))
        self.measure(0.000_1, 1, 2)
        self.network.run(100)
        states = self.middle.ledger.records[self.middle.origin]
        before = states.state.number
        for _ in range(20):
            self.measure(0.000_4, 1, 2)
        self.network.run(100)
        self.assertEqual(states.state.number, before)

    def test_what_has_changed_is_told_once_a_minute(self) -> None:
        """However often it changes."""
        before = self.number()
        for n in range(600):
            self.measure(0.001 if n % 20 < 10 else 0.1)
            self.network.run(1)
        self.assertLessEqual(self.number() - before, 600 / ROUND_TRIPS_EVERY_S + 1)
        self.assertGreater(self.number() - before, 600 / ROUND_TRIPS_EVERY_S / 2)

    def test_a_change_that_is_over_is_not_told(self) -> None:
        """Nothing is said where the figure is again what was told when its time comes."""
        self.measure(0.010)
        self.network.run(10)
        before = self.number()
        for _ in range(20):
            self.measure(0.050)
        for _ in range(20):
            self.measure(0.010)
        self.network.run(100)
        self.assertEqual(self.number(), before)
        self.assertGreater(self.near.deadline, self.network.now)

    def test_one_late_answer_is_not_believed_at_once(self) -> None:
        """It counts for a quarter."""
        self.measure(0.010)
        self.measure(0.014)
        neighbour = next(iter(self.near.neighbours))
        self.assertAlmostEqual(neighbour.round_trip_s or 0, 0.011)

    def test_unknown_links(self) -> None:
        """A link that is gone is passed over."""
        self.near.set_round_trip((0, 7, 1), 0.1, self.network.now)
        self.assertGreater(self.near.deadline, self.network.now)


class KnowingTests(Case):
    def test_of_two_ends_the_longer_holds(self) -> None:
        """And what we measure ourselves, where it is our link."""
        self.measure(0.010, 0, 1)
        self.measure(0.030, 1, 0)
        self.network.run(5)
        self.assertEqual(self.told(), 0.030)
        self.assertEqual(self.near.round_trip_s(self.near.origin, self.middle.origin), 0.010)
        self.assertEqual(self.middle.round_trip_s(self.near.origin, self.middle.origin), 0.030)
        self.assertIsNone(self.far.round_trip_s(self.far.origin, self.middle.origin))
        self.assertIsNone(self.far.round_trip_s(1, 2))

    def test_traces_have_them(self) -> None:
        """Each hop has its own, those that nobody has measured none."""
        self.measure(0.010, 0, 1)
        self.network.run(5)
        hops = self.far.trace(ALPHA, self.near.origin)
        self.assertEqual(
            [(hop.child, hop.round_trip_s) for hop in hops], [(id_of(1), 0.010), (id_of(2), None)]
        )

    def test_no_way_depends_on_them(self) -> None:
        """No tree, no next hop and no cost is another for a long round trip."""
        meshes: list[Mesh[Link]] = [node.mesh for node in self.network.nodes]
        before = [
            (mesh.forest.grown, mesh.forest.updated, mesh.forest.untouched, mesh.reach()) for mesh in meshes
        ]
        self.measure(5.0, 0, 1)
        self.network.run(5)
        self.assertEqual(self.told(), 5.0)
        after = [
            (mesh.forest.grown, mesh.forest.updated, mesh.forest.untouched, mesh.reach()) for mesh in meshes
        ]
        self.assertEqual(before, after)

    def test_it_is_forgotten_with_its_link(self) -> None:
        """Another link is another length."""
        self.measure(0.010, 0, 1)
        self.network.run(5)
        self.network.cut(0, 1)
        self.network.run(1)
        self.network.join(0, 1, 10, 0.02)
        self.network.run(1)
        self.assertIsNone(self.told())


class CostTests(SynchronousTestCase):
    def test_an_idle_mesh_stays_quiet(self) -> None:
        """Where every round trip is another all the time, a full mesh of 6 says less than 100 bytes a second and link about it."""
        network = Network(1)
        network.add(6)
        for a in range(6):
            for b in range(a):
                network.join(a, b, 10, 0.01)
        network.settle()
        network.control_bytes.clear()
        for n in range(60):
            for node in network.nodes:
                for neighbour in node.mesh.neighbours:
                    node.mesh.set_round_trip(neighbour.link, 0.001 if n % 4 < 2 else 0.1, network.now)
                node.pump()
            network.run(5)
        worst = max(
            network.control_bytes[a, b] + network.control_bytes[b, a] for a in range(6) for b in range(a)
        )
        self.assertLess(worst / 300, 100)
