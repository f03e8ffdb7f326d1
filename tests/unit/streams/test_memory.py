"""Streams in memory."""

import doctest

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import ice.streams.memory
from ice.errors import LocalError
from ice.link.naming import StreamIdError
from ice.streams.interface import Datagram, Network, PassingStream
from ice.streams.memory import Collector, MemoryNetwork, MemoryStream
from ice.testing.network import run

HALL = "town-hall"


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def hall(self, **faults: float) -> tuple[MemoryNetwork, MemoryStream, Collector]:
        """A network, somebody who talks and somebody who listens."""
        network, heard = MemoryNetwork(self.clock, **faults), Collector()  # type: ignore[arg-type]
        talker = network.join(HALL, Collector())
        network.join(HALL, heard)
        self.clock.advance(0)
        return network, talker, heard

    def said(self, **faults: float) -> list[int]:
        """What is heard of 500 datagrams, by number."""
        _, talker, heard = self.hall(**faults)
        for _ in range(500):
            talker.send(b"x")
            run(self.clock, 0.02)
        run(self.clock, 1.0)
        return heard.sequences

    def test_the_example_in_the_docstring(self) -> None:
        """The first lines that a reader sees do what they say."""
        self.assertEqual(doctest.testmod(ice.streams.memory).failed, 0)
        self.assertGreater(doctest.testmod(ice.streams.memory).attempted, 5)

    def test_everybody_but_the_sender(self) -> None:
        """All others on the stream hear a datagram, after the delay, and never inside send."""
        network, talker, heard = self.hall(delay_s=0.05)
        elsewhere = Collector()
        network.join("elsewhere", elsewhere)
        self.assertTrue(talker.send(b"hi", 2))
        self.clock.advance(0.04)
        self.assertEqual(heard.datagrams, [])
        self.clock.advance(0.02)
        self.assertEqual(heard.datagrams, [Datagram(2, talker.source, 0, b"hi")])
        self.assertEqual(elsewhere.datagrams, [])

    def test_path(self) -> None:
        """The path opens after join, and as the test says; while it is closed nothing is sent or heard."""
        network, talker, heard = self.hall()
        network.up = False
        network.up = False
        self.assertFalse(talker.send(b"x"))
        network.up = True
        self.assertEqual([up for up, _ in heard.paths], [True, False, True])
        self.assertEqual(network.counts.without_path, 1)

    def test_path_closed_before_it_opened(self) -> None:
        """A network that is down when somebody joins stays down for them."""
        network, heard = MemoryNetwork(self.clock), Collector()
        network.join(HALL, heard)
        network.up = False
        self.clock.advance(0)
        self.assertEqual(heard.paths, [])

    def test_same_seed_same_faults(self) -> None:
        """Loss and reordering are the same each time, and differ with the seed."""
        first = self.said(loss=0.1, reorder=0.1)
        self.assertEqual(first, self.said(loss=0.1, reorder=0.1))
        self.assertNotEqual(first, self.said(loss=0.1, reorder=0.1, seed=5))
        self.assertTrue(430 < len(first) < 470, len(first))
        self.assertNotEqual(first, sorted(first))

    def test_without_faults_all_in_order(self) -> None:
        """Where no fault is ordered there is none."""
        self.assertEqual(self.said(delay_s=0.3), list(range(500)))

    def test_forward_in_a_circle(self) -> None:
        """Two patches between the same two streams pass each datagram once and then stop."""
        network = MemoryNetwork(self.clock)

        class Patch:
            def __init__(self, here: str, there: str) -> None:
                network.join(here, self)
                self.there: PassingStream = network.join(there, Collector())

            def datagram(self, datagram: Datagram) -> None:
                self.there.forward(datagram)

            def path(self, up: bool, why: str) -> None:
                pass

        heard = Collector()
        for _ in range(2):
            Patch("red", "blue")
            Patch("blue", "red")
        network.join("blue", heard)
        talker = network.join("red", Collector())
        self.clock.advance(0)
        talker.send(b"x")
        run(self.clock, 1.0)
        self.assertEqual(heard.payloads, [b"x"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leave(self) -> None:
        """Who has left hears nothing, not even what is under way."""
        network, talker, heard = self.hall(delay_s=0.1)
        other = Collector()
        listener = network.join(HALL, other)
        self.clock.advance(0)
        talker.send(b"x")
        listener.leave()
        listener.leave()
        self.clock.advance(0.2)
        self.assertEqual((other.datagrams, heard.payloads), ([], [b"x"]))
        self.assertEqual(network.counts.missed, 1)

    def test_misuse(self) -> None:
        """It is as strict as the real one."""
        network: Network = MemoryNetwork(self.clock)
        self.assertRaises(StreamIdError, network.join, "", Collector())
        self.assertRaises(LocalError, network.join(HALL, Collector(), talk=False).send, b"x")
        _, talker, _ = self.hall()
        self.assertFalse(talker.send(bytes(4_097)))
