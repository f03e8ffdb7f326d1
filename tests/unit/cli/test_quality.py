"""``ice quality``: two ends on a network in memory; what is told of what was found."""

import io
import json
from typing import Any

import attrs
from click.testing import CliRunner
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.display import JsonLines, Lines
from ice.cli.loop import Stop
from ice.cli.quality import End, answer_probes, measure, measure_parrot, quality
from ice.cli.quality_output import show
from ice.errors import LocalError
from ice.link.frame import MEDIA_HEADER, Flag, media
from ice.media.path_quality import Direction, Path
from ice.rallypoint.parrot import Parrot
from ice.streams.memory import MemoryNetwork

STEP_S = 0.005
GOOD = Direction(500, 0, 20.0, 21.0, 25.0, 1.0, 2.0)


class Started:
    """A network in memory as the command has networks."""

    why = "the test has cut the path"
    round_trip_s = 0.05

    def start(self) -> None:
        """It always is."""

    def stop(self) -> Deferred[None]:
        """Nothing to end."""
        return succeed(None)


class Ends(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, delay_s=0.02)

    def end(self, timeout_s: float = 5.0) -> tuple[End, Stop, io.StringIO]:
        """One end, joined, and what it says."""
        stop, out = Stop(), io.StringIO()
        end = End(self.clock, stop, JsonLines(out), "town", "town", timeout_s)
        end.joined(Started(), self.network.join("town", end))
        return end, stop, out

    def run_all(self, *coroutines: Any, seconds: float) -> list[Any]:
        """Let time pass; the results, or failures."""
        results: list[Any] = []
        for coroutine in coroutines:
            Deferred.fromCoroutine(coroutine).addBoth(results.append)
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
        return results

    @staticmethod
    def told(out: io.StringIO, event: str) -> Any:
        """The only event of that name."""
        (found,) = (each for each in map(json.loads, out.getvalue().splitlines()) if each["event"] == event)
        return found

    def test_two_ends(self) -> None:
        """20 ms each way: found, both ways, ideal, exit status 0; the other end answers until it is stopped, and tells how much."""
        near, _, out = self.end()
        far, stop, said = self.end()

        async def ask() -> int:
            async with near:
                return await measure(near, 100, 50.0, 174)

        async def answer() -> int:
            async with far:
                return await answer_probes(far, None)

        self.assertEqual(self.run_all(ask(), answer(), seconds=4), [0])
        found = self.told(out, "quality")
        self.assertEqual((found["grade"], found["complete"], found["size"]), ("ideal", True, 172))
        for way in ("there", "back"):
            self.assertEqual((found[way]["sent"], found[way]["lost"]), (100, 0))
            self.assertLess(abs(found[way]["latency_ms"] - 20), 2 * STEP_S * 1_000)
        stop.ask()
        self.clock.advance(0)
        self.assertEqual(self.told(said, "answered")["runs"], 1)
        self.assertGreaterEqual(self.told(said, "answered")["answered"], 100)

    def test_loss(self) -> None:
        """A tenth is lost each way: unacceptable, exit status 1, and the end is asked for until it is answered."""
        self.network.loss = 0.1
        near, _, out = self.end()
        far, _, _ = self.end()
        results = self.run_all(answer_probes(far, 9.0), measure(near, 200, 50.0, 172), seconds=10)
        self.assertEqual(sorted(results), [0, 1])
        found = self.told(out, "quality")
        self.assertEqual(found["grade"], "unacceptable")
        self.assertTrue(found["complete"])
        lost = found["there"]["lost"] + found["back"]["lost"]
        self.assertTrue(10 < lost < 80, found)

    def test_nobody(self) -> None:
        """Nobody answers: an error that says what to start."""
        near, _, _ = self.end()
        (failure,) = self.run_all(measure(near, 10, 50.0, 172), seconds=6)
        self.assertTrue(failure.check(LocalError))
        self.assertIn("ice quality town --answer", failure.getErrorMessage())

    def test_no_way(self) -> None:
        """No path in time: an error that says why."""
        self.network.up = False
        near, _, _ = self.end(1.0)

        async def ask() -> None:
            async with near:
                pass

        (failure,) = self.run_all(ask(), seconds=2)
        self.assertIn("the test has cut the path", failure.getErrorMessage())

    def test_interrupted(self) -> None:
        """Stopped amid the run: what is known so far is told."""
        near, stop, out = self.end()
        far, _, _ = self.end()
        results: list[Any] = []
        Deferred.fromCoroutine(measure(near, 500, 50.0, 172)).addBoth(results.append)
        self.run_all(answer_probes(far, 20.0), seconds=3)
        stop.ask()
        for _ in range(400):
            self.clock.advance(STEP_S)
        self.assertEqual(results, [0])
        self.assertTrue(50 < self.told(out, "quality")["there"]["sent"] < 200)

    def test_parrot(self) -> None:
        """Against a Rallypoint's own parrot: everything comes back, the latency is half of the link's round trip."""
        near, _, out = self.end()
        parrot: Parrot[str] = Parrot(lambda: 1)
        bird = Bird(self.clock, parrot)
        bird.stream = self.network.join("town", bird)
        bird.sing()
        self.clock.advance(0)  # the paths open
        (status,) = self.run_all(measure_parrot(near, 50, 50.0, 172), seconds=4)
        bird.done = True
        found = self.told(out, "quality")
        self.assertEqual(
            (status, found["there"]["sent"], found["there"]["lost"], found["back"]), (0, 50, 0, None)
        )
        self.assertEqual(found["there"]["latency_ms"], 25)

    def test_silent_parrot(self) -> None:
        """No parrot: an error that says so."""
        near, _, _ = self.end(2.0)
        (failure,) = self.run_all(measure_parrot(near, 10, 50.0, 172), seconds=4)
        self.assertIn("parrot does not answer", failure.getErrorMessage())


@attrs.define
class Bird:
    """A Rallypoint's parrot on a network in memory."""

    clock: Clock
    parrot: Parrot[str]
    stream: Any = None
    done: bool = False

    def path(self, up: bool, why: str) -> None:
        """It is always there."""

    def datagram(self, datagram: Any) -> None:
        """Listen."""
        frame = media(datagram.flags, 1, datagram.source, datagram.sequence, datagram.payload)
        self.parrot.heard("one", frame, self.clock.seconds())

    def sing(self) -> None:
        """Say what is due, all the time."""
        for _, frame in self.parrot.play(self.clock.seconds()):
            self.stream.send(frame[MEDIA_HEADER:], int(Flag.DATA))
        if not self.done:
            self.clock.callLater(STEP_S, self.sing)


class Telling(SynchronousTestCase):
    def said(self, path: Path, **more: Any) -> tuple[int, str]:
        """The exit status and the words."""
        out = io.StringIO()
        fields = {"rate": 50.0, "size": 172, "stalls": 0, "complete": True} | more
        status = show(Lines(out), path, **fields)
        return status, out.getvalue()

    def test_table(self) -> None:
        """Both ways in a table, the round trip, how sure it is, and the verdict."""
        bad = attrs.evolve(GOOD, lost=15, jitter_ms=12.0)
        status, words = self.said(Path(GOOD, bad, 45.0, 40.0, 20.0))
        self.assertEqual(status, 1)
        lines = words.splitlines()
        self.assertEqual(
            lines[1].split(),
            ["there", "20.0", "ms", "21.0", "ms", "1.0", "ms", "2.0", "ms", "0.00", "%", "ideal"],
        )
        self.assertTrue(lines[2].endswith("3.00 %  unacceptable"))
        self.assertIn("± 20.0 ms", words)
        self.assertIn("Unacceptable: voice suffers on this way. (loss back is unacceptable.)", words)

    def test_doubt(self) -> None:
        """Where a longer way in one direction would change the grade, that is said."""
        status, words = self.said(Path(GOOD, GOOD, 45.0, 44.0, 22.0))
        self.assertEqual(status, 0)
        self.assertIn("longer in one direction, it would be worse", words)

    def test_remarks(self) -> None:
        """What makes a figure doubtful is said: an end that fell silent, our own stalls, several answerers."""
        _, words = self.said(Path(GOOD, GOOD, 1.0, 1.0, 0.5, answerers=2), stalls=1, complete=False)
        for piece in ("no longer answered", "stood still 1 time", "2 ends answer"):
            self.assertIn(piece, words)

    def test_contradictions(self) -> None:
        """An answerer does not measure; a parrot keeps no long burst."""
        for words in (["town", "--answer", "--parrot"], ["town", "--parrot", "--seconds", "25"]):
            self.assertIsInstance(CliRunner().invoke(quality, words).exception, LocalError)
