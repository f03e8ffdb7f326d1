"""Pictures by Graphviz, with a program of the test's own in its place."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.net import graphviz
from ice.net.graphviz import DRAW_S, Graphviz, NotDrawn


class Program:
    """A run of the program; the transport of its protocol."""

    def __init__(self, protocol: Any, command: list[str], environment: dict[str, str]) -> None:
        self.protocol = protocol
        self.command = command
        self.environment = environment
        self.told = b""
        self.closed = False
        self.killed: list[str] = []
        protocol.transport = self
        protocol.connectionMade()

    def write(self, data: bytes) -> None:
        self.told += data

    def closeStdin(self) -> None:
        self.closed = True

    def signalProcess(self, name: str) -> None:
        if self.killed:
            raise ProcessExitedAlready()
        self.killed.append(name)

    def ends(self, code: int = 0) -> None:
        """It is over."""
        why = ProcessTerminated(exitCode=code) if code else ProcessDone(0)
        self.protocol.processEnded(Failure(why))


class Reactor(Clock):
    """A clock that runs programs."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: list[Program] = []
        self.broken: OSError | None = None

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], env: dict[str, str]) -> None:
        if self.broken is not None:
            raise self.broken
        assert executable == args[0]
        self.programs.append(Program(protocol, args, env))


class GraphvizTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.installed = {"dot": "/usr/bin/dot", "nice": "/usr/bin/nice"}
        self.graphviz = Graphviz(self.reactor, self.installed.get)

    def drawing(self, text: str = "digraph {}") -> "Deferred[bytes]":
        """What is asked for."""
        return self.graphviz.draw(text)

    def why(self, drawing: "Deferred[bytes]") -> str:
        """Why there is no picture."""
        return str(self.failureResultOf(drawing, NotDrawn).value)

    def test_a_picture(self) -> None:
        """The text goes in, the picture comes out in pieces, nothing else is told to the program."""
        drawing = self.drawing("digraph {é}")
        (program,) = self.reactor.programs
        self.assertEqual(program.command, ["/usr/bin/nice", "-n", "19", "/usr/bin/dot", "-Kneato", "-Tsvg"])
        self.assertEqual(sorted(program.environment), ["LC_ALL", "PATH"])
        self.assertEqual((program.told, program.closed), ("digraph {é}".encode(), True))
        program.protocol.outReceived(b"<svg>")
        program.protocol.errReceived(b"Warning: arrow type")
        self.assertNoResult(drawing)
        program.protocol.outReceived(b"</svg>")
        program.ends()
        self.assertEqual(self.successResultOf(drawing), b"<svg></svg>")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_the_last_picture_is_kept(self) -> None:
        """The same graph is not drawn twice; another is."""
        drawing = self.drawing()
        self.reactor.programs[0].protocol.outReceived(b"<svg/>")
        self.reactor.programs[0].ends()
        self.successResultOf(drawing)
        self.assertEqual(self.successResultOf(self.drawing()), b"<svg/>")
        self.assertNoResult(self.drawing("another"))
        self.assertEqual(len(self.reactor.programs), 2)

    def test_one_at_a_time(self) -> None:
        """Who asks while one is drawn is given that one; who does not wait any more is not waited for."""
        drawings = [self.drawing(str(n)) for n in range(5)]
        drawings[2].cancel()
        self.assertEqual(len(self.reactor.programs), 1)
        self.reactor.programs[0].protocol.outReceived(b"<svg/>")
        self.reactor.programs[0].ends()
        self.failureResultOf(drawings.pop(2))
        self.assertEqual([self.successResultOf(drawing) for drawing in drawings], [b"<svg/>"] * 4)

    def test_it_is_not_installed(self) -> None:
        """What to type is said; without nice it is drawn all the same."""
        del self.installed["nice"]
        drawing = self.drawing()
        self.assertEqual(self.reactor.programs[0].command[0], "/usr/bin/dot")
        self.reactor.programs[0].ends(1)
        self.why(drawing)
        del self.installed["dot"]
        self.assertIn("apt install graphviz", self.why(self.drawing()))

    def test_it_cannot_be_run(self) -> None:
        """And the next attempt is one again."""
        self.reactor.broken = PermissionError(13, "Permission denied")
        self.assertIn("Permission denied", self.why(self.drawing()))
        self.reactor.broken = None
        self.assertNoResult(self.drawing())

    def test_it_fails(self) -> None:
        """Its own words are repeated, without what a terminal obeys."""
        drawing = self.drawing()
        program = self.reactor.programs[0]
        program.protocol.outReceived(b"<svg")
        program.protocol.errReceived(b"Error: syntax\x1b[2J error" + b"x" * 10_000)
        program.ends(1)
        said = self.why(drawing)
        self.assertIn("Error: syntax [2J error", said)
        self.assertLess(len(said), 1_200)
        drawing = self.drawing()
        self.reactor.programs[1].ends()
        self.assertIn("it said nothing", self.why(drawing))

    def test_it_takes_too_long(self) -> None:
        """It is killed."""
        drawing = self.drawing()
        program = self.reactor.programs[0]
        program.protocol.outReceived(b"<svg>")
        self.reactor.advance(DRAW_S)
        self.assertEqual(program.killed, ["KILL"])
        program.protocol.outReceived(b"</svg>")
        program.ends(9)
        self.assertIn("longer than 20 s", self.why(drawing))

    def test_a_picture_without_end(self) -> None:
        """It is killed too, and nothing of it is kept; killing what is gone already is harmless."""
        self.patch(graphviz, "MAX_SVG", 100)
        drawing = self.drawing()
        program = self.reactor.programs[0]
        for _ in range(5):
            program.protocol.outReceived(b"x" * 60)
        self.assertEqual(program.killed, ["KILL"])
        program.ends(9)
        self.assertIn("larger than 100 bytes", self.why(drawing))
