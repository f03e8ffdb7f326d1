"""The peering list as it changes: files that are replaced, broken and lost, commands that fail, hang and babble."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.config.groups import MeshSettings
from ice.rallypoint.peering import PeeringError, PeeringFile
from ice.rallypoint.peering_watch import (
    COMMAND_S,
    LOOK_S,
    MAX_BYTES,
    CommandFailed,
    PeeringWatch,
    read_file,
    run_command,
)

ARGV = ("/bin/our-peers", "--all")


def id_of(number: int) -> str:
    """The UUID of Rallypoint `number`."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def text(*numbers: int) -> str:
    """A list of these."""
    return json.dumps([{"id": id_of(number)} for number in numbers])


def numbers(peering: PeeringFile | None) -> list[int] | None:
    """Whom a list names."""
    return None if peering is None else [peer.id.int >> 96 for peer in peering.peers]


class Watching(SynchronousTestCase):
    """A watch on a clock, with what it told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[list[int] | None] = []
        self.path = Path(self.mktemp()).absolute()

    def watch(self, settings: MeshSettings, **more: Any) -> PeeringWatch:
        watch = PeeringWatch(
            self.clock, settings, lambda peering: self.heard.append(numbers(peering)), **more
        )
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(watch.stopService)
        return watch

    def logged(self, events: Sequence[Any], level: LogLevel = LogLevel.error) -> list[str]:
        return [formatEvent(event) for event in events if event["log_level"] is level]


class Files(Watching):
    def start(self, content: str | None = None) -> PeeringWatch:
        if content is not None:
            self.path.write_text(content)
        watch = self.watch(MeshSettings(peering_file=self.path))
        watch.startService()
        return watch

    def write(self, content: str, seconds: float = LOOK_S) -> None:
        """Write, and let time pass."""
        self.path.write_text(content)
        self.clock.advance(seconds)

    def test_nothing_to_watch(self) -> None:
        """Without file and command nothing is done, ever."""
        watch = self.watch(MeshSettings())
        watch.startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        watch.reread()
        self.assertEqual((self.heard, watch.current), ([], None))

    def test_at_the_start(self) -> None:
        """The list is there when the start returns."""
        watch = self.start(text(1, 2))
        self.assertEqual(self.heard, [[1, 2]])
        self.assertEqual(numbers(watch.current), [1, 2])
        self.assertEqual(watch.current and watch.current.source, str(self.path))

    def test_changes(self) -> None:
        """A change is seen within a second; the same list in other words is none."""
        self.start(text(1))
        self.write(text(1, 2))
        self.write(text(1, 2) + "\n")
        self.write(text(1, 2) + "\n")
        self.write("[]")
        self.assertEqual(self.heard, [[1], [1, 2], []])

    def test_twice_within_one_tick(self) -> None:
        """A change that leaves time stamp and size as they were is one like any other."""
        self.start(text(1))
        stamp = (1_790_000_000, 1_790_000_000)
        os.utime(self.path, stamp)
        self.clock.advance(LOOK_S)
        for number in (2, 3, 2):
            self.path.write_text(text(number))
            os.utime(self.path, stamp)
            self.clock.advance(LOOK_S)
        self.assertEqual(self.heard, [[1], [2], [3], [2]])

    def test_broken(self) -> None:
        """What is wrong is said once, with file and place; the last good list stays, and its return is said."""
        watch = self.start(text(1))
        with capturedLogs() as events:
            for _ in range(5):
                self.write('[{"id": "rp2"}]')
            self.assertEqual(len(self.logged(events)), 1)
            (line,) = self.logged(events)
            self.assertIn(f"{self.path}: [0].id: expected the UUID", line)
            self.assertIn("the last good list stays in force", line)
            self.assertIn("expected the UUID", watch.trouble)
            self.assertEqual((self.heard, numbers(watch.current), watch.refused), ([[1]], [1], 1))
            self.write(text(1))
            self.assertIn("is in order again", self.logged(events, LogLevel.info)[-1])
        self.assertEqual((self.heard, watch.trouble), ([[1]], ""))
        self.write(text(2))
        self.assertEqual(self.heard, [[1], [2]])

    def test_half_written(self) -> None:
        """What is wrong for a moment only, as while somebody writes, is no line in the log."""
        self.start(text(1))
        with capturedLogs() as events:
            self.write(text(1, 2)[:30])
            self.write(text(1, 2))
            self.path.unlink()
            self.clock.advance(LOOK_S)
            self.write(text(1, 2, 3))
        self.assertEqual(self.logged(events), [])
        self.assertEqual(self.heard, [[1], [1, 2], [1, 2, 3]])

    def test_another_trouble(self) -> None:
        """A different fault is a new line."""
        self.start(text(1))
        with capturedLogs() as events:
            for content in ("[", "[", "{", "{", "{}", "{}"):
                self.write(content)
        self.assertEqual(len(self.logged(events)), 3)

    def test_vanished(self) -> None:
        """A file that goes away ends nothing; the same file come back is no news."""
        watch = self.start(text(1))
        with capturedLogs() as events:
            self.path.unlink()
            for _ in range(5):
                self.clock.advance(LOOK_S)
            self.assertEqual(
                self.logged(events),
                [f"{self.path}: there is no such file; the last good list stays in force"],
            )
            self.assertEqual(numbers(watch.current), [1])
            self.write(text(1))
            self.assertEqual(watch.trouble, "")
        self.assertEqual(self.heard, [[1]])

    def test_none_at_the_start(self) -> None:
        """A file that is not there yet is said at once, and read when it comes."""
        with capturedLogs() as events:
            watch = self.start()
        self.assertEqual(self.logged(events), [f"{self.path}: there is no such file; nobody is linked by it"])
        self.assertIsNone(watch.current)
        self.write(text(4))
        self.assertEqual(self.heard, [[4]])

    def test_reread(self) -> None:
        """Asked to, it looks at once, and says again what is still wrong."""
        watch = self.start(text(1))
        self.path.write_text(text(2))
        watch.reread()
        self.assertEqual(self.heard, [[1], [2]])
        with capturedLogs() as events:
            self.path.write_text("[")
            watch.reread()
            self.clock.advance(LOOK_S)
            watch.reread()
        self.assertEqual(len(self.logged(events)), 2)
        self.assertEqual(watch.refused, 2)

    def test_oddities(self) -> None:
        """What is odd about a list is warned about when it is taken, not every second."""
        with capturedLogs() as events:
            self.start(f'[{{"id": "{id_of(1)}", "foo": 1}}]')
            self.clock.pump([LOOK_S] * 3)
        self.assertEqual(self.logged(events, LogLevel.warn), [f"{self.path}: [0].foo: unknown key, not used"])

    def test_not_text(self) -> None:
        """Bytes that are no UTF-8 are told with their line."""
        self.start(text(1))
        self.path.write_bytes(b"[\n\xe9]")
        with capturedLogs() as events:
            self.clock.pump([LOOK_S] * 2)
        self.assertIn(f"{self.path}:2: byte 0xe9 is not UTF-8", self.logged(events)[0])

    def test_other_settings(self) -> None:
        """A reload may name another file; a bad one leaves the list of the first in force; none at all ends it."""
        watch = self.start(text(1))
        other = Path(self.mktemp()).absolute()
        watch.reload(MeshSettings(peering_file=other))
        self.assertEqual((self.heard, numbers(watch.current)), ([[1]], [1]))
        other.write_text(text(2))
        self.clock.advance(LOOK_S)
        self.assertEqual(self.heard, [[1], [2]])
        watch.reload(MeshSettings(peering_file=other, spread_s=3))
        self.assertEqual(self.heard, [[1], [2]])
        watch.reload(MeshSettings())
        self.assertEqual((self.heard, watch.current, watch.trouble), ([[1], [2], None], None, ""))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        watch.reload(MeshSettings())
        watch.reload(MeshSettings(peering_file=other))
        self.assertEqual(self.heard, [[1], [2], None, [2]])

    def test_before_the_start(self) -> None:
        """A reload before the start reads nothing yet."""
        self.path.write_text(text(1))
        watch = self.watch(MeshSettings())
        watch.reload(MeshSettings(peering_file=self.path))
        self.assertEqual(self.heard, [])
        watch.startService()
        self.assertEqual(self.heard, [[1]])

    def test_who_follows_fails(self) -> None:
        """A list that cannot be followed is a line in the log, and the next is looked for all the same."""
        self.path.write_text(text(1))
        heard = []

        def changed(peering: PeeringFile | None) -> None:
            heard.append(numbers(peering))
            raise RuntimeError("no")

        watch = PeeringWatch(self.clock, MeshSettings(peering_file=self.path), changed)
        watch.startService()
        self.write(text(2))
        watch.stopService()
        self.assertEqual(heard, [[1], [2]])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)


class ReadFile(SynchronousTestCase):
    def refusal(self, path: Path) -> str:
        with self.assertRaises(PeeringError) as caught:
            read_file(path)
        return str(caught.exception)

    def test_plain_files_only(self) -> None:
        """Folders, pipes and devices are refused without waiting, and no descriptor stays open."""
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        folder, pipe = Path(self.mktemp()), Path(self.mktemp())
        folder.mkdir()
        os.mkfifo(pipe)
        for path in (folder, pipe, Path("/dev/null")):
            self.assertEqual(
                self.refusal(path), f"{path}: expected a file, found a folder, a pipe or a device"
            )
        if before:
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_what_cannot_be_read(self) -> None:
        """A missing, forbidden, failing or impossible name has its own sentence."""
        path = Path(self.mktemp())
        self.assertEqual(self.refusal(path), f"{path}: there is no such file")
        self.assertIn("cannot be read", self.refusal(Path("a\0b")))
        path.write_bytes(b"x")
        with mock.patch("os.open", side_effect=PermissionError(13, "no")):
            self.assertIn("this user may not read it", self.refusal(path))
        with mock.patch("os.open", side_effect=OSError(5, "Input/output error")):
            self.assertIn("cannot be read: Input/output error", self.refusal(path))

    def test_size(self) -> None:
        """Reading stops at the bound."""
        path = Path(self.mktemp())
        path.write_bytes(b" " * MAX_BYTES)
        self.assertEqual(len(read_file(path)), MAX_BYTES)
        path.write_bytes(b" " * (MAX_BYTES + 1))
        self.assertIn(f"is larger than {MAX_BYTES} bytes", self.refusal(path))


class Commands(Watching):
    def setUp(self) -> None:
        super().setUp()
        self.runs: list[Deferred[bytes]] = []
        self.asked: list[tuple[Sequence[str], float]] = []

    def run_it(self, reactor: Any, argv: Sequence[str], timeout_s: float) -> Deferred[bytes]:
        self.asked.append((argv, timeout_s))
        self.runs.append(Deferred())
        return self.runs[-1]

    def start(self, reread_s: float = 60.0) -> PeeringWatch:
        settings = MeshSettings(peering_command=ARGV, peering_reread_s=reread_s)
        watch = self.watch(settings, run=self.run_it)
        watch.startService()
        return watch

    def wait(self, seconds: int) -> None:
        self.clock.pump([LOOK_S] * seconds)

    def test_now_and_then(self) -> None:
        """It is run at the start and every so often; what it prints is the list."""
        watch = self.start()
        self.assertEqual(self.asked, [(ARGV, COMMAND_S)])
        self.runs[0].callback(text(1).encode())
        self.assertEqual(watch.current and watch.current.source, "output of /bin/our-peers")
        self.wait(59)
        self.assertEqual(len(self.runs), 1)
        self.wait(1)
        self.runs[1].callback(text(1, 2).encode())
        self.assertEqual(self.heard, [[1], [1, 2]])

    def test_never_twice_at_once(self) -> None:
        """While it runs it is not run again, neither by time nor when asked; what was asked for follows."""
        watch = self.start(reread_s=5)
        self.wait(20)
        watch.reread()
        self.assertEqual(len(self.runs), 1)
        self.runs[0].callback(text(1).encode())
        self.wait(1)
        self.assertEqual(len(self.runs), 2)

    def test_reread(self) -> None:
        """Asked to, it is run at once, and the time counts from then."""
        watch = self.start()
        self.runs[0].callback(text(1).encode())
        self.wait(30)
        watch.reread()
        self.runs[1].callback(text(2).encode())
        self.assertEqual(self.heard, [[1], [2]])
        self.wait(59)
        self.assertEqual(len(self.runs), 2)
        self.wait(1)
        self.assertEqual(len(self.runs), 3)

    def test_failures(self) -> None:
        """A failing command is said once per reason, and the last good list stays in force."""
        watch = self.start(reread_s=1)
        self.runs[0].callback(text(1).encode())
        with capturedLogs() as events:
            for _ in range(3):
                self.wait(1)
                self.runs[-1].errback(CommandFailed("ended with status 3: no"))
            self.wait(1)
            self.runs[-1].callback(b"")
        self.assertEqual(
            self.logged(events),
            [
                "output of /bin/our-peers: ended with status 3: no; the last good list stays in force",
                (
                    'output of /bin/our-peers: is empty; expected JSON, an object with "peers" or an array; '
                    "the last good list stays in force"
                ),
            ],
        )
        self.assertEqual((self.heard, numbers(watch.current)), ([[1]], [1]))

    def test_fails_at_once(self) -> None:
        """A program that cannot be started is tried again at its time."""
        results = [
            fail(CommandFailed("cannot be started: No such file or directory")),
            succeed(text(1).encode()),
        ]
        watch = self.watch(
            MeshSettings(peering_command=ARGV), run=lambda reactor, argv, timeout_s: results.pop(0)
        )
        watch.startService()
        self.assertIn("No such file", watch.trouble)
        self.wait(60)
        self.assertEqual((self.heard, watch.trouble), ([[1]], ""))

    def test_stop(self) -> None:
        """A stop, or a reload that names another source, kills what runs; what it still says is not heard."""
        watch = self.start()
        watch.reload(MeshSettings(peering_command=("/bin/other",)))
        self.assertEqual([argv for argv, _ in self.asked], [ARGV, ("/bin/other",)])
        self.assertEqual([run.called for run in self.runs], [True, False])
        watch.stopService()
        self.assertEqual([run.called for run in self.runs], [True, True])
        self.assertEqual((self.heard, watch.trouble), ([], ""))


class FakeTransport:
    """What a process's protocol sees of it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.gone = False

    def closeStdin(self) -> None:
        self.said.append("closeStdin")

    def signalProcess(self, signal: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.said.append(signal)

    def loseConnection(self) -> None:
        self.said.append("loseConnection")


class FakeReactor(Clock):
    """Spawns nothing, and remembers what."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = FakeTransport()
        self.refuses: OSError | None = None

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], env: dict[str, str]) -> None:
        if self.refuses:
            raise self.refuses
        self.protocol, self.executable, self.args, self.env = protocol, executable, args, env
        protocol.makeConnection(self.transport)

    def end(self, code: int | None = 0, signal: int | None = None) -> None:
        """The process is over."""
        why = ProcessDone(0) if code == 0 else ProcessTerminated(code, signal, 1)
        self.protocol.processEnded(Failure(why))


class Running(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        with mock.patch.dict(
            os.environ, {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "OURS": "1"}
        ):
            self.result = run_command(self.reactor, ARGV, 10.0)

    def failure(self) -> str:
        return str(self.failureResultOf(self.result, CommandFailed).value)

    def tearDown(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_output(self) -> None:
        """What it prints until it ends with status 0 is the result; it has no input and no shell."""
        self.reactor.protocol.outReceived(b"[")
        self.reactor.protocol.outReceived(b"]")
        self.reactor.protocol.errReceived(b"by the way")
        self.assertNoResult(self.result)
        self.reactor.end()
        self.assertEqual(self.successResultOf(self.result), b"[]")
        self.assertEqual((self.reactor.executable, self.reactor.args), (ARGV[0], list(ARGV)))
        self.assertEqual(self.reactor.transport.said, ["closeStdin"])

    def test_environment(self) -> None:
        """It has the daemon's environment, without what systemd said to the daemon alone."""
        self.reactor.end()
        self.successResultOf(self.result)
        self.assertEqual(self.reactor.env["OURS"], "1")
        self.assertEqual(self.reactor.env.keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"}, set())

    def test_status(self) -> None:
        """Any other status is a failure, told with what it complained of, short and safe."""
        self.reactor.protocol.outReceived(b"[]")
        self.reactor.protocol.errReceived(b"no route\n\x1b[2J" + b"x" * 1000)
        self.reactor.protocol.errReceived(b"y")
        self.reactor.end(3)
        said = self.failure()
        self.assertIn("ended with status 3: no route  [2Jxxx", said)
        self.assertLess(len(said), 500)
        self.assertNotIn("y", said)

    def test_signal(self) -> None:
        """So is an end by a signal."""
        self.reactor.end(None, 11)
        self.assertEqual(self.failure(), "was ended by signal 11")

    def test_too_long(self) -> None:
        """It is killed when its time is over; that it then ends is no news."""
        self.reactor.advance(9.9)
        self.assertNoResult(self.result)
        self.reactor.advance(0.2)
        self.failureResultOf(self.result, TimeoutError)
        self.assertEqual(self.reactor.transport.said, ["closeStdin", "KILL", "loseConnection"])
        self.reactor.protocol.outReceived(b"late")
        self.reactor.end(None, 9)

    def test_too_much(self) -> None:
        """It is killed when it prints more than a list may be."""
        chunk = b"x" * 65_536
        for _ in range(MAX_BYTES // len(chunk)):
            self.reactor.protocol.outReceived(chunk)
        self.assertNoResult(self.result)
        self.reactor.protocol.outReceived(b"x")
        self.assertEqual(self.failure(), f"printed more than {MAX_BYTES} bytes, and was killed")
        self.assertIn("KILL", self.reactor.transport.said)
        self.reactor.protocol.outReceived(b"x")
        self.reactor.end(None, 9)

    def test_gone_before_it_is_killed(self) -> None:
        """A process that is gone, but whose children hold its output, is let go of."""
        self.reactor.transport.gone = True
        self.result.addErrback(lambda failure: None)
        self.result.cancel()
        self.assertEqual(self.reactor.transport.said, ["closeStdin", "loseConnection"])

    def test_no_program(self) -> None:
        """A program that is not there is a failure like others."""
        self.reactor.end()
        self.successResultOf(self.result)
        self.reactor.refuses = FileNotFoundError(2, "No such file or directory")
        self.result = run_command(self.reactor, ARGV, 10.0)
        self.assertEqual(self.failure(), "cannot be started: No such file or directory")
