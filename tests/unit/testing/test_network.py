"""The test kit for links and streams."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.link.event import HelloReceived, JoinAsked, JoinedReceived, Opened
from ice.link.frame import FrameType
from ice.link.session import State
from ice.streams.memory import Collector
from ice.testing.network import MemoryDialler, MemoryRallypoint, Script, SessionPair, network_on, run, until

A = "a.test:7443"


class SessionPairTests(SynchronousTestCase):
    def test_open(self) -> None:
        """Opened, both ends are open, and each has seen the other's greeting."""
        pair = SessionPair().open()
        self.assertEqual((pair.opener.state, pair.acceptor.state), (State.OPEN, State.OPEN))
        self.assertIsInstance(pair.opener_events[0], Opened)
        self.assertIsInstance(pair.acceptor_events[0], HelloReceived)

    def test_carry(self) -> None:
        """What one end says the other sees."""
        pair = SessionPair().open()
        txn = pair.opener.join("town-hall")
        pair.carry()
        asked = pair.acceptor_events[-1]
        assert isinstance(asked, JoinAsked)
        pair.acceptor.joined(asked.txn, asked.stream, asked.key)
        pair.carry()
        self.assertEqual(pair.opener_events[-1], JoinedReceived(txn, "town-hall", asked.key))

    def test_time_passes(self) -> None:
        """Two ends that only let time pass keep each other alive."""
        pair = SessionPair().open()
        for _ in range(100):
            pair.advance(1.0)
        self.assertEqual((pair.opener.state, pair.acceptor.state), (State.OPEN, State.OPEN))


class ScriptTests(SynchronousTestCase):
    def test_expect(self) -> None:
        """A script keeps what it hears, and says so when that is not what was expected."""
        clock = Clock()
        dialler = MemoryDialler(clock)
        script = dialler.there[A] = Script()
        network = network_on(dialler, A)
        network.start()
        run(clock, 0.1)
        self.assertRaises(AssertionError, script.expect, FrameType.JOIN)
        script.expect()
        network.stop()
        run(clock, 1.0)
        self.assertEqual(clock.getDelayedCalls(), [])


class MemoryRallypointTests(SynchronousTestCase):
    def test_latency(self) -> None:
        """Bytes take the time that was asked for: TCP, TLS, HELLO, WELCOME, JOIN, JOINED."""
        clock = Clock()
        dialler = MemoryDialler(clock, latency_s=0.1)
        dialler.there[A] = MemoryRallypoint(clock)
        network = network_on(dialler, A)
        stream = network.join("town-hall", Collector())
        network.start()
        took = until(clock, lambda: stream.up)
        self.assertTrue(0.6 <= took < 0.7, took)
        network.stop()
        run(clock, 1.0)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_until_says_what_did_not_happen(self) -> None:
        """Waiting for what never happens is an assertion that fails, not a test that hangs."""
        self.assertRaises(AssertionError, until, Clock(), lambda: False, 1.0)
