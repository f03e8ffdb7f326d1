"""The shortened loop: our own descriptors are read directly, everything else as Twisted has it."""

import os
import socket
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.net.poll import SWITCH, shorten


class Plain:
    """A descriptor that notes what it is asked for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked: list[str] = []
        self.answer: Any = None
        self.lost: Failure | None = None

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        self.asked.append("logPrefix")
        return "plain"

    def doRead(self) -> Any:
        self.asked.append("doRead")
        if isinstance(self.answer, RuntimeError):
            raise self.answer
        return self.answer

    def doWrite(self) -> Any:
        self.asked.append("doWrite")

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason


class Ours(Plain):
    """One that is to be read directly."""


class PollTests(SynchronousTestCase):
    """On a reactor of its own, which never runs."""

    def setUp(self) -> None:
        self.reactor = EPollReactor()
        self.here, self.there = socket.socketpair()

    def tearDown(self) -> None:
        self.reactor.removeAll()
        self.reactor._poller.close()
        for each in self.reactor._internalReaders:
            each.connectionLost(Failure(ConnectionDone()))
        self.here.close()
        self.there.close()

    def reading(self, kind: type[Plain]) -> Plain:
        descriptor = kind(self.here)
        self.reactor.addReader(descriptor)
        return descriptor

    def turn(self) -> None:
        self.reactor.doIteration(0)

    def test_ours_are_read_directly(self) -> None:
        """No logging context, no question but the one."""
        self.assertTrue(shorten(self.reactor, (Ours,)))
        ours = self.reading(Ours)
        self.turn()
        self.assertEqual(ours.asked, [])
        self.there.send(b"x")
        self.turn()
        self.assertEqual(ours.asked, ["doRead"])

    def test_others_go_twisteds_way(self) -> None:
        """With their context; so do subclasses of ours, and events other than readable alone."""
        self.assertTrue(shorten(self.reactor, (Plain,)))
        ours = self.reading(Ours)
        self.there.send(b"x")
        self.turn()
        self.assertEqual(ours.asked, ["logPrefix", "doRead"])
        self.reactor.removeReader(ours)
        plain = self.reading(Plain)
        self.reactor.addWriter(plain)
        self.turn()
        self.assertEqual(plain.asked, ["logPrefix", "doRead", "doWrite"])

    def test_an_end_is_an_end(self) -> None:
        """What doRead returns ends the connection, and is taken off the reactor."""
        shorten(self.reactor, (Ours,))
        ours = self.reading(Ours)
        ours.answer = CONNECTION_DONE
        self.there.send(b"x")
        self.turn()
        assert ours.lost is not None
        self.assertTrue(ours.lost.check(ConnectionDone))
        self.assertNotIn(ours, self.reactor.getReaders())

    def test_a_fault_costs_one_connection(self) -> None:
        """It is logged, and the loop goes on."""
        shorten(self.reactor, (Ours,))
        ours = self.reading(Ours)
        ours.answer = RuntimeError("a fault of ours")
        self.there.send(b"x")
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        assert ours.lost is not None
        self.assertTrue(ours.lost.check(ConnectionLost))
        self.turn()

    def test_where_it_is_not_done(self) -> None:
        """Another reactor, a loop that somebody has replaced already, or the switch: Twisted's own stays."""
        other = SelectReactor()
        self.assertFalse(shorten(other, (Ours,)))
        for each in other._internalReaders:
            each.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(shorten(Clock(), (Ours,)))
        self.patch(os, "environ", {**os.environ, SWITCH: "twisted"})
        self.assertFalse(shorten(self.reactor, (Ours,)))
        self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != SWITCH})
        self.assertTrue(shorten(self.reactor, (Ours,)))
        self.assertFalse(shorten(self.reactor, (Ours,)))
