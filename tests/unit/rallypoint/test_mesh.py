"""The engine by name of its rules: joining, lives and twins, links, detours, windows, and the cases that the first rules did not cover."""

import random

from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import media
from ice.link.naming import stream_key
from ice.link.peer import MAX_COST, relay
from ice.rallypoint import routes
from ice.rallypoint.interest import LINGER_S, SETTLE_S
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.neighbours import Settled
from ice.rallypoint.topology import BOTH_S
from tests.unit.rallypoint.mesh_network import (
    PROTECTED,
    Authority,
    Link,
    Network,
    Node,
    engine,
    id_of,
    signature_of,
)
from tests.unit.rallypoint.test_mesh_network import Speech

ALPHA = stream_key("alpha")
SOURCE = 7 << 32


def meshed(size: int, seed: int = 1, delay: float | None = None) -> Network:
    """A full mesh that stands."""
    network = Network(seed)
    network.add(size)
    for a in range(size):
        for b in range(a):
            network.join(a, b, 10, delay)
    network.settle()
    return network


class JoiningTests(SynchronousTestCase):
    """From a listener to the mesh and back."""

    def test_who_is_joined_hears_the_first_syllable(self) -> None:
        """What any neighbour's talker says from then on arrives."""
        network = meshed(5)
        node = network.nodes[0]
        node.listen("alpha")
        while not node.settled:
            network.run(0.001)
        self.assertLess(network.now % 100, 100)
        for talker in network.nodes[1:]:
            talker.say(ALPHA, talker.index << 32, 0)
        network.run(0.1)
        self.assertEqual(sum(node.heard.values()), 4)

    def test_joined_waits_for_the_slowest_neighbour_but_not_longer_than_it_may(self) -> None:
        """An acknowledgement that does not come is not waited for beyond 250 ms."""
        for delay, expected in ((0.04, 0.08), (0.4, SETTLE_S)):
            network = meshed(2, delay=delay)
            begin = network.now
            network.nodes[0].listen("alpha")
            while not network.nodes[0].settled:
                network.run(0.001)
            self.assertLess(abs(network.now - begin - expected), 0.005)

    def test_alone(self) -> None:
        """Without neighbours nobody is waited for."""
        network = Network()
        (node,) = network.add()
        node.listen("alpha")
        self.assertEqual(node.settled, [ALPHA])

    def test_a_second_listener_is_cheap(self) -> None:
        """It waits as long as the first, or not at all, and the mesh is told nothing."""
        network = meshed(3)
        mesh = network.nodes[0].mesh
        self.assertFalse(mesh.want(ALPHA, "alpha", network.now))
        self.assertFalse(mesh.want(ALPHA, "alpha", network.now))
        network.nodes[0].pump()
        network.run(1)
        number = mesh.ledger.records[mesh.origin].interest.number
        self.assertTrue(mesh.want(ALPHA, "alpha", network.now))
        for _ in range(2):
            mesh.unwant(ALPHA, network.now)
        network.nodes[0].pump()
        network.run(3)
        self.assertEqual(mesh.ledger.records[mesh.origin].interest.number, number)
        self.assertEqual(network.nodes[1].mesh.ledger.wanted.origins(ALPHA), (mesh.origin,))

    def test_who_comes_back_within_a_second_was_never_gone(self) -> None:
        """And who stays away is told after it."""
        network = meshed(2)
        node, other = network.nodes
        node.listen("alpha")
        network.run(1)
        node.unlisten(ALPHA)
        network.run(LINGER_S / 2)
        node.settled.clear()
        self.assertTrue(node.mesh.want(ALPHA, "alpha", network.now))
        node.mesh.unwant(ALPHA, network.now)
        node.pump()
        network.run(LINGER_S - 0.1)
        self.assertEqual(len(other.mesh.ledger.wanted), 1)
        network.run(0.3)
        self.assertEqual(len(other.mesh.ledger.wanted), 0)
        self.assertEqual(other.mesh.stream_id(ALPHA), None)

    def test_a_turn_with_many_joins_is_one_flood(self) -> None:
        """A thousand streams cost each link a handful of frames, and their ids are known everywhere."""
        network = meshed(4)
        before = dict(network.control_bytes)
        mesh = network.nodes[0].mesh
        for n in range(1_000):
            mesh.want(stream_key(f"stream {n}"), f"stream {n}", network.now)
        network.nodes[0].pump()
        network.run(2)
        self.assertEqual(network.differences(), [])
        self.assertEqual(mesh.ledger.records[mesh.origin].interest.number, 1)
        self.assertEqual(len(network.nodes[0].settled), 1_000)
        told = {node.mesh.stream_id(stream_key("stream 999")) for node in network.nodes}
        self.assertEqual(told, {"stream 999"})
        self.assertLess(network.control_bytes[0, 1] - before[0, 1], 25_000)

    def test_more_than_a_frame_holds(self) -> None:
        """30,000 streams take several deltas; who comes later gets them in parts."""
        network = meshed(2)
        mesh = network.nodes[0].mesh
        for n in range(30_000):
            mesh.want(stream_key(f"{n:020}"), f"{n:020}", network.now)
        network.nodes[0].pump()
        network.run(2)
        (late,) = network.add()
        network.join(late.index, 1)
        self.assertLess(network.settle(), 1)
        self.assertEqual(len(late.mesh.ledger.wanted), 30_000)

    def test_two_ids_with_one_key(self) -> None:
        """The first stays and the second is counted; the guest can ask before it says JOINED."""
        network = meshed(2)
        wanted = network.nodes[0].mesh.ledger.wanted
        network.nodes[1].listen("alpha")
        network.run(1)
        wanted.name({ALPHA: "omega"})
        self.assertEqual((wanted.ids[ALPHA], wanted.collisions), ("alpha", 1))
        self.assertEqual(network.nodes[0].mesh.stream_id(ALPHA), "alpha")

    def test_a_key_that_is_not_the_ids(self) -> None:
        """Would be refused by every neighbour, and is refused here."""
        mesh = engine(0, random.Random(1), Authority())
        self.assertRaises(ValueError, mesh.want, ALPHA + 1, "alpha", 0.0)

    def test_settled_once(self) -> None:
        """A listener that is gone before the answer gets it all the same, once."""
        rng = random.Random(1)
        mesh = engine(0, rng, Authority())
        mesh.want(ALPHA, "alpha", 0.0)
        mesh.unwant(ALPHA, 0.0)
        self.assertEqual(mesh.take(0.0), [Settled(ALPHA)])
        self.assertEqual(mesh.take(1.0), [])


class LifeTests(SynchronousTestCase):
    """Restarts, twins, copies."""

    def test_a_restart_is_a_new_origin_and_replaces_the_old_at_once(self) -> None:
        """Even for those who have not noticed that the old one died."""
        network = meshed(4)
        before = network.nodes[0].mesh.origin
        network.nodes[0].listen("alpha")
        network.run(1)
        network.kill(0, notice=60)
        network.nodes[0].start()
        network.join(0, 1)
        network.run(0.5)
        for node in network.nodes[1:]:
            known = [record.origin for record in node.mesh.records if record.id == id_of(0)]
            self.assertEqual(known, [network.nodes[0].mesh.origin])
            self.assertNotIn(before, node.mesh.ledger.wanted.origins(ALPHA))
        self.assertIn("replaced", network.nodes[2].ended)
        network.nodes[3].say(ALPHA, SOURCE, 0)
        network.run(0.5)
        self.assertEqual(sum(network.nodes[0].heard.values()), 1)
        self.assertEqual(
            [notice.what for n in network.nodes for notice in n.notices if notice.what == "twin"], []
        )

    def test_many_restarts(self) -> None:
        """Leave nothing behind."""
        network = meshed(3)
        for _ in range(30):
            network.kill(0, notice=0.1)
            network.run(0.15)
            network.nodes[0].start()
            for other in (1, 2):
                network.join(0, other)
            network.run(0.5)
        network.settle()
        self.assertEqual([len(list(node.mesh.records)) for node in network.nodes], [3, 3, 3])
        self.assertEqual(network.nodes[1].ended, [])

    def test_twins_are_named_by_everybody_and_the_mesh_goes_on(self) -> None:
        """Two that run with one UUID: the lower origin stays, the other is sent away until the first is gone."""
        network = meshed(3)
        twins = [Node(network, index, False, None) for index in (3, 4)]
        network.nodes += twins
        for twin in twins:
            twin.start()
        twins[1].mesh = engine(3, network.rng, network.authority, network.now)
        network.join(0, 3)
        generation = 99
        network._wires[frozenset((1, 4))] = network._lives[frozenset((1, 4))] = generation
        network._delay[1, 4] = network._delay[4, 1] = 0.01
        network.nodes[1].mesh.link_up((1, 4, generation), id_of(3), 10, network.now)
        twins[1].mesh.link_up((4, 1, generation), id_of(1), 10, network.now)
        for node in (network.nodes[1], twins[1]):
            node.pump()
        network.run(5)
        winner = min(twin.mesh.origin for twin in twins)
        for node in network.nodes[:3]:
            self.assertEqual([notice.id for notice in node.notices if notice.what == "twin"], [id_of(3)])
            self.assertEqual(node.mesh.twins, {id_of(3)})
            reached = {reach.origin for reach in node.mesh.reach()}
            self.assertEqual(len(reached), 3)
            self.assertIn(winner, reached)
        self.assertEqual([e for node in network.nodes[:3] for e in node.ended], ["twin"])
        network.nodes[0].listen("alpha")
        network.run(1)
        network.nodes[2].say(ALPHA, SOURCE, 0)
        network.run(1)
        self.assertEqual(sum(network.nodes[0].heard.values()), 1)

    def test_an_old_process_that_dies_late(self) -> None:
        """The new life of a Rallypoint is held back by the old one only while somebody is linked to that."""
        for seed in range(6):
            network = Network(seed)
            network.add(4)
            for a, b in ((0, 1), (1, 2), (0, 2), (3, 0)):
                network.join(a, b)
            network.settle()
            old, new = network.nodes[3], Node(network, 4, False, None)
            network.nodes.append(new)
            new.start()
            new.mesh = engine(3, network.rng, network.authority, network.now)
            link = network._lives[frozenset((1, 4))] = network._wires[frozenset((1, 4))] = 1
            network._delay[1, 4] = network._delay[4, 1] = 0.01
            network.nodes[1].mesh.link_up((1, 4, link), id_of(3), 10, network.now)
            new.mesh.link_up((4, 1, link), id_of(1), 10, network.now)
            network.nodes[1].pump()
            new.pump()
            network.run(1)
            network.kill(3)
            network.run(0.5)
            if (1, 4) not in network.wires:  # it was sent away and dials again
                link = network._lives[frozenset((1, 4))] = network._wires[frozenset((1, 4))] = 2
                network.nodes[1].mesh.link_up((1, 4, link), id_of(3), 10, network.now)
                new.mesh.link_up((4, 1, link), id_of(1), 10, network.now)
                network.nodes[1].pump()
                new.pump()
            network.run(2)
            reached = {reach.origin for reach in network.nodes[2].mesh.reach()}
            self.assertIn(new.mesh.origin, reached, f"old {old.mesh.origin:x}")
            self.assertNotIn(old.mesh.origin, reached)

    def test_our_own_address_among_the_peers(self) -> None:
        """A link to oneself is ended."""
        network = Network()
        (node,) = network.add()
        node.mesh.link_up((0, 0, 1), id_of(0), 1, 0.0)
        node.pump()
        self.assertEqual(node.ended, ["self"])

    def test_a_memory_that_was_set_back(self) -> None:
        """A process that goes on from an old snapshot would say numbers that are past: it takes a new origin instead."""
        network = meshed(3)
        node = network.nodes[0]
        node.listen("alpha")
        network.run(1)
        mesh = node.mesh
        state, interest = mesh.ledger.records[mesh.origin].state, mesh.ledger.records[mesh.origin].interest
        for other in (1, 2):
            network.cut(0, other)
        network.run(1)
        network.join(0, 1)
        network.join(0, 2)
        node.listen("beta")
        network.run(1)
        # Back to before: the same origin, older numbers.
        own = mesh.ledger.records[mesh.origin]
        mesh.ledger.wants(own, interest, *interest.against(own.interest))
        own.state = state
        before = mesh.origin
        for other in (1, 2):
            network.cut(0, other)
        network.run(1)
        network.join(0, 1)
        network.join(0, 2)
        network.run(3)
        self.assertNotEqual(mesh.origin, before)
        self.assertIn("reborn", [notice.what for notice in node.notices])
        network.nodes[2].say(ALPHA, SOURCE, 0)
        network.run(1)
        self.assertEqual(node.heard[ALPHA, SOURCE, 0], 1)
        node.say(ALPHA, SOURCE + 1, 0)
        network.nodes[1].listen("alpha")
        network.run(1)
        node.say(ALPHA, SOURCE + 1, 1)
        network.run(1)
        self.assertEqual(network.nodes[1].heard[ALPHA, SOURCE + 1, 1], 1)

    def test_an_interest_that_was_set_back(self) -> None:
        """The same where only the interest had gone on."""
        network = meshed(2)
        node = network.nodes[0]
        mesh = node.mesh
        interest = mesh.ledger.records[mesh.origin].interest
        node.listen("alpha")
        network.run(1)
        own, before = mesh.ledger.records[mesh.origin], mesh.origin
        mesh.ledger.wants(own, interest, *interest.against(own.interest))
        network.cut(0, 1)
        network.run(0)
        own.state = network.nodes[1].mesh.ledger.records[before].state
        network.join(0, 1)
        network.run(3)
        self.assertNotEqual(mesh.origin, before)

    def test_a_renewed_certificate(self) -> None:
        """The same origin under another key: what was signed with either is believed, also by who comes later."""
        network = meshed(3)
        node = network.nodes[0]
        node.listen("alpha")
        network.run(1)
        certificate = b"C" + id_of(0).bytes + b"renewed"
        node.mesh.renew(certificate, lambda message: signature_of(certificate, message), network.now)
        node.pump()
        node.listen("beta")
        (late,) = network.add()
        network.join(late.index, 2)
        network.settle()
        self.assertEqual([set(n.mesh.refused) & {"forged", "untrusted"} for n in network.nodes], [set()] * 4)
        self.assertEqual(late.mesh.ledger.records[node.mesh.origin].certificate, certificate)
        self.assertEqual(len(late.mesh.ledger.wanted), 2)


class LinkTests(SynchronousTestCase):
    """Costs, detours, ways."""

    def test_detours(self) -> None:
        """A missing link of a full mesh is gone round, and shown."""
        network = meshed(4)
        network.cut(0, 3)
        network.run(0.5)
        everybody = [id_of(n) for n in range(5)]
        detours = network.nodes[0].mesh.detours(everybody)
        self.assertEqual([detour.id for detour in detours], [id_of(3), id_of(4)])
        there, nowhere = detours
        assert there.reach is not None
        self.assertEqual((there.reach.depth, there.reach.cost), (2, 20))
        self.assertIn(there.reach.via, everybody[1:3])
        self.assertIsNone(nowhere.reach)

    def test_heard_the_other_way_after_a_cut(self) -> None:
        """A broken link of a full mesh costs what was on it, and as long as the word of it needs."""
        network = meshed(5, delay=0.01)
        speech = Speech(network, 1)
        (key,) = speech.keys
        network.nodes[1].listen("stream 0")
        network.run(1)
        names = []
        for step in range(50):
            if step == 20:
                network.cut(0, 1)
            names.append(speech.say(network.nodes[0], key))
            network.run(0.01)
        network.run(1)
        lost = [name for name in names if not network.nodes[1].heard[name]]
        self.assertLessEqual(len(lost), 3)

    def test_trace(self) -> None:
        """The links a datagram takes, from the root down."""
        network = Network()
        network.add(4)
        for a, b, cost in ((0, 1, 5), (1, 2, 6), (1, 3, 7)):
            network.join(a, b, cost)
        network.nodes[2].listen("alpha")
        network.settle()
        for node in network.nodes:
            hops = node.mesh.trace(ALPHA, network.nodes[0].mesh.origin)
            shown = [(hop.parent, hop.child, hop.cost, hop.depth, hop.wants) for hop in hops]
            self.assertEqual(shown, [(id_of(0), id_of(1), 5, 1, False), (id_of(1), id_of(2), 6, 2, True)])
        self.assertEqual(network.nodes[3].mesh.trace(99), [])

    def test_costs_that_cannot_be(self) -> None:
        """Are refused where they are set."""
        mesh: Mesh[Link] = engine(0, random.Random(1), Authority())
        for cost in (0, -1, MAX_COST + 1):
            self.assertRaises(ValueError, mesh.link_up, (0, 1, 1), id_of(1), cost, 0.0)

    def test_who_dials_again_is_one_neighbour(self) -> None:
        """A second link to the same Rallypoint ends the first."""
        network = meshed(2)
        mesh = network.nodes[0].mesh
        ((a, b, generation),) = (neighbour.link for neighbour in mesh.neighbours)
        network._wires[frozenset((0, 1))] = generation + 1
        for here, there in ((a, b), (b, a)):
            network.nodes[here].mesh.link_up((here, there, generation + 1), id_of(there), 10, network.now)
            network.nodes[here].pump()
        network.run(1)
        self.assertIn("replaced", network.nodes[0].ended)

    def test_idle(self) -> None:
        """A mesh in which nothing happens says next to nothing."""
        network = meshed(6)
        network.control_bytes.clear()
        network.run(300)
        self.assertLess(max(network.control_bytes.values()), 300)


class WindowTests(SynchronousTestCase):
    """Two windows, and their bounds."""

    def test_a_copy_that_was_delivered_already_is_passed_on_further_down_another_tree(self) -> None:
        """Counterexample to one window: a dual-homed talker, and the way of one copy has just died unnoticed."""
        network = Network(delays=(0.01, 0.01))
        home, second, between, listener = network.add(4)
        for a, b, cost in ((0, 3, 5), (0, 2, 5), (2, 3, 6), (1, 2, 1)):
            network.join(a, b, cost)
        for node in (between, listener):
            node.listen("alpha")
        network.settle()
        self.assertEqual([hop.child for hop in home.mesh.trace(ALPHA)], [id_of(2), id_of(3)])
        self.assertEqual([hop.depth for hop in second.mesh.trace(ALPHA)], [1, 2])
        network.cut(0, 3, notice=1e9)
        for n in range(10):
            home.say(ALPHA, SOURCE, n)
            network.run(0.005)
            second.say(ALPHA, SOURCE, n)
            network.run(0.02)
        self.assertEqual([between.heard[ALPHA, SOURCE, n] for n in range(10)], [1] * 10)
        self.assertEqual([listener.heard[ALPHA, SOURCE, n] for n in range(10)], [1] * 10)

    def test_a_burst_that_begins_right_after_a_change(self) -> None:
        """Counterexample to remembering old next hops per stream in use: a stream that is first used between a change and the word of it."""
        network = Network()
        talker, _, offer, listener = network.add(4)
        # 0 reaches 3 over 1, until 2 and 3 offer a shorter way; 1 hears of it at once, and 0 only later.
        for a, b, cost, delay in ((0, 1, 10, 0.2), (1, 3, 10, 0.001), (0, 2, 10, 0.2), (2, 3, 100, 0.001)):
            network.join(a, b, cost, delay)
        listener.listen("alpha")
        network.settle()
        for node, far in ((offer, listener), (listener, offer)):
            link = next(n.link for n in node.mesh.neighbours if n.id == far.mesh.id)
            node.mesh.set_cost(link, 1, network.now)
            node.pump()
        for n in range(50):
            talker.say(ALPHA, SOURCE, n)
            network.run(0.01)
        network.run(1)
        self.assertEqual([listener.heard[ALPHA, SOURCE, n] for n in range(50)], [1] * 50)

    def test_a_third_party_that_joins_while_a_partition_heals(self) -> None:
        """Counterexample to offering only what can be reached: it is not yet, and nobody would offer it again for half a minute."""
        for seed in range(20):
            network = Network(seed)
            network.add(5)
            network.join(0, 1, delay=0.05)
            network.join(2, 3, delay=0.05)
            network.settle()
            network.join(1, 2, delay=0.05)
            network.run(seed * 0.01)
            network.join(4, 2, delay=0.002)
            self.assertLess(network.settle(), 1, f"seed {seed}")

    def test_a_talker_that_went_on_while_the_mesh_was_divided(self) -> None:
        """Counterexample to confirming every jump: each Rallypoint on the way would cost one datagram more."""
        network = Network(delays=(0.01, 0.01))
        network.add(6)
        for n in range(5):
            network.join(n, n + 1)
        network.nodes[5].listen("alpha")
        network.settle()
        network.nodes[0].say(ALPHA, SOURCE, 0)
        network.run(1)
        network.cut(0, 1)
        network.run(45)
        network.join(0, 1)
        network.run(5)
        for n in range(3_000, 3_010):
            network.nodes[0].say(ALPHA, SOURCE, n)
            network.run(0.02)
        network.run(1)
        self.assertEqual(
            [network.nodes[5].heard[ALPHA, SOURCE, n] for n in range(3_000, 3_010)], [0] + [1] * 9
        )

    def test_windows_are_bounded_by_who_brings_them(self) -> None:
        """A neighbour that invents sources loses its own oldest windows, and nobody else's."""
        self.patch(routes, "MAX_PEER_WINDOWS", 8)
        network = meshed(3)
        node, good, bad = network.nodes
        node.listen("alpha")
        network.run(1)
        for other in (good, bad):
            link = next(n for n in node.mesh.neighbours if n.id == other.mesh.id)
            link.carrier.account.bound = 8
        good.say(ALPHA, SOURCE, 5)
        network.run(1)
        for n in range(100):
            bad.say(ALPHA, SOURCE + 1 + n, 0)
        network.run(1)
        self.assertEqual((node.mesh.routes.windows, node.mesh.counts.windows_evicted), (9, 92))
        link = next(n.link for n in node.mesh.neighbours if n.id == good.mesh.id)
        again = relay(good.mesh.origin, media(0, ALPHA, SOURCE, 5, b"voice"))
        self.assertIsNone(node.mesh.relay(link, again, network.now))

    def test_all_windows_are_bounded(self) -> None:
        """When the house is full, who has many gives one of its own, and who has few takes the oldest."""
        self.patch(routes, "MAX_WINDOWS", 10)
        self.patch(routes, "FAIR_WINDOWS", 3)
        network = meshed(2)
        node = network.nodes[0]
        many, few = node.mesh.routes.account("many"), node.mesh.routes.account("few")
        for n in range(10):
            node.mesh.originate(many, media(0, n, SOURCE, 0, b""), 0, n, SOURCE, 0, 0.0)
        for n in range(4):
            node.mesh.originate(few, media(0, n + 50, SOURCE, 0, b""), 0, n + 50, SOURCE, 0, 0.0)
        self.assertEqual((len(many.windows), len(few.windows)), (7, 3))
        self.assertEqual((node.mesh.routes.windows, len(node.mesh.routes)), (10, 10))

    def test_an_hour_of_silence_ends_windows_routes_and_trees(self) -> None:
        """What nobody uses is let go."""
        network = meshed(3)
        network.nodes[1].listen("alpha")
        network.run(1)
        network.nodes[0].say(ALPHA, SOURCE, 0)
        network.nodes[2].say(ALPHA, SOURCE + 1, 0, PROTECTED)
        network.run(1)
        node = network.nodes[1]
        self.assertEqual((node.mesh.routes.windows, len(node.mesh.forest)), (2, 2))
        network.run(3_800)
        for node in network.nodes:
            self.assertEqual(
                (node.mesh.routes.windows, len(node.mesh.routes), len(node.mesh.forest)), (0, 0, 1)
            )
        self.assertEqual(network.nodes[1].mesh.counts.windows_expired, 2)

    def test_the_deadline_is_worth_waiting_for(self) -> None:
        """Calling at the deadline and never before is enough, and it does not call for ever."""
        network = meshed(3)
        mesh = network.nodes[0].mesh
        calls = 0
        original = mesh.take

        def take(now: float) -> object:
            nonlocal calls
            calls += 1
            return original(now)

        mesh.take = take  # type: ignore[assignment, method-assign]
        network.run(600)
        self.assertLess(calls, 100)
        self.assertGreater(mesh.deadline, network.now - BOTH_S)
