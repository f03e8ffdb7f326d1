"""What tests of a network over Rallypoints share."""

from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.streams.memory import Collector
from ice.streams.rallypoint import Notice, RallypointNetwork
from ice.testing.network import (
    MemoryDialler,
    MemoryRallypoint,
    network_on,
    run,
)

A, B = "a.test:7443", "b.test:7443"
HALL = "town-hall"
ELSE = UUID(int=7)
SECOND = UUID("bbbbbbbb-bbbb-4ccc-8ddd-eeeeeeeeeeee")


class Case(SynchronousTestCase):
    """A clock, two addresses, and the promise that nothing is left at the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dialler = MemoryDialler(self.clock, latency_s=0.001)
        self.a = MemoryRallypoint(self.clock, name="a")
        self.b = MemoryRallypoint(self.clock, id=SECOND, name="b")
        self.dialler.there[A] = self.a
        self.networks: list[RallypointNetwork] = []
        self.notices: list[Notice] = []

    def tearDown(self) -> None:
        fired: list[None] = []
        for network in self.networks:
            network.stop().addCallback(fired.append)
        run(self.clock, 3.0)
        self.assertEqual(len(fired), len(self.networks))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def network(self, *addresses: str, **settings: object) -> RallypointNetwork:
        network = network_on(
            self.dialler,
            *(addresses or (A,)),
            on_notice=self.notices.append,
            **settings,  # type: ignore[arg-type]
        )
        self.networks.append(network)
        return network

    def started(self, *addresses: str, **settings: object) -> tuple[RallypointNetwork, Collector]:
        """A network that has joined the hall."""
        network, heard = self.network(*addresses, **settings), Collector()
        self.stream = network.join(HALL, heard)
        network.start()
        return network, heard

    def listener(self, *addresses: str) -> Collector:
        """Somebody else in the hall."""
        network, heard = self.network(*addresses, identity=ELSE, seed=2), Collector()
        network.join(HALL, heard)
        network.start()
        run(self.clock, 0.2)
        return heard
