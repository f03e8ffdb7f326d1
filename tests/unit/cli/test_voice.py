"""Talker, listener and the way between them, on a clock of the test's own and a network in memory."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.display import Meter
from ice.cli.loop import Stop
from ice.cli.mouth import Mouth, file_pieces, frame_samples_of, sender_of
from ice.cli.trace import Trace, compare, read_trace
from ice.cli.voice import (
    AHEAD,
    FRAME,
    ClockPlayout,
    DevicePlayout,
    Ear,
    Way,
    listener_of,
    name_of,
    playout_of,
)
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.devices import Loudspeaker
from ice.media.payload import Pcm
from ice.media.rtp import Packet
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.notices import Notice

from .told import Told

# G.711 needs no library, and what comes out is the same on every machine.
MEDIA = MediaSettings(codec="pcmu")


def tone(seconds: float) -> Pcm:
    """A loud 440 Hz."""
    return (8_000 * np.sin(np.arange(round(seconds * 48_000)) * 2 * np.pi * 440 / 48_000)).astype(np.int16)


class Kept:
    """A sink that remembers, and may be full."""

    def __init__(self, room: float = math.inf) -> None:
        self.pieces: list[Pcm] = []
        self.room = room

    def write(self, pcm: Pcm) -> None:
        self.room -= len(pcm)
        if self.room < 0:
            raise LocalError("the disk is full")
        self.pieces.append(pcm)

    @property
    def pcm(self) -> Pcm:
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)


class Network:
    """What a network says when it does not come to be."""

    why = "127.0.0.1:7443: nothing listens on that port"


class WayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.stop, self.told = Clock(), Stop(), Told()
        self.way = Way(self.told, "town")

    def opened(self, timeout_s: float | None = None) -> "Deferred[bool]":
        return Deferred.fromCoroutine(self.way.opened(self.clock, self.stop, timeout_s, Network()))

    def test_opens(self) -> None:
        """Who waits goes on when the path is open, and who comes later at once."""
        waiting = self.opened(timeout_s=10)
        self.assertNoResult(waiting)
        self.way.path(True, "joined at 127.0.0.1:7443")
        self.assertTrue(self.successResultOf(waiting))
        self.assertTrue(self.successResultOf(self.opened()))
        self.assertEqual(self.told.events[0][1], "connected to 'town': joined at 127.0.0.1:7443")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_is_over(self) -> None:
        """After the time that was asked for it says how long it waited, and for what in vain."""
        waiting = self.opened(timeout_s=2)
        self.clock.advance(2)
        error = self.failureResultOf(waiting, LocalError)
        self.assertIn("not connected to 'town' within 2 s: 127.0.0.1:7443: nothing listens", str(error.value))

    def test_asked_to_stop(self) -> None:
        """Ctrl-C ends the wait without an error."""
        waiting = self.opened()
        self.stop.ask()
        self.assertFalse(self.successResultOf(waiting))

    def test_lost_and_found(self) -> None:
        """Each loss is told and counted; what happens after we have left is not."""
        for up in (True, False, True):
            self.way.path(up, "why")
        self.way.leaving = True
        self.way.path(False, "the program has ended")
        self.assertEqual(self.way.losses, 1)
        self.assertEqual([fields["up"] for fields in self.told.named("path")], [True, False, True])

    def test_the_same_failure_is_one_line(self) -> None:
        """A Rallypoint that is away is tried for ever, and told of once."""

        class Notice:
            kind, code, text = "failed", "refused", "nothing listens there"

        for _ in range(5):
            self.way.notice(Notice())
        self.assertEqual(len(self.told.events), 1)

    def test_two_links(self) -> None:
        """Who keeps two links is told which stand, at each change; who keeps one is told of its path only."""
        both, one = ("a:7443", "b:7443"), ("b:7443",)
        for kind, homes in (("connected", one), ("connected", both), ("lost", one), ("lost", ())):
            self.way.notice(Notice(kind, "a:7443", "", "", homes))
        self.way.notice(Notice("connected", "b:7443", "", "", one))
        self.assertEqual([fields["homes"] for fields in self.told.named("homes")], [list(both), list(one)])
        self.way.notice(Notice("failed", "a:7443", "refused", "a:7443: nothing listens", one))
        self.assertEqual(len(self.told.named("trying")), 1)


class VoiceTests(SynchronousTestCase):
    """A mouth and an ear on one stream in memory."""

    def setUp(self) -> None:
        self.clock, self.stop, self.told = Clock(), Stop(), Told()
        self.network = MemoryNetwork(self.clock, delay_s=0.005)
        self.sink = Kept()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.sent, self.heard = folder / "sent.jsonl", folder / "heard.jsonl"
        self.traces = [Trace(path, clock_ns=self.now_ns) for path in (self.sent, self.heard)]
        way = Way(Told(), "town")
        self.ear = Ear(self.clock, listener_of(MEDIA), way, self.told, trace=self.traces[1])
        self.network.join("town", self.ear, talk=False)
        self.collector = Collector()
        self.network.join("town", self.collector, talk=False)
        stream = self.network.join("town", Collector(), listen=False)
        self.mouth = Mouth(
            self.clock, stream, sender_of(MEDIA, alias="Anna"), frame_samples_of(MEDIA), trace=self.traces[0]
        )
        self.clock.advance(0)
        self.playout = playout_of(self.clock, self.ear, self.sink)
        self.addCleanup(self.playout.stop)
        self.addCleanup(lambda: [trace.close() for trace in self.traces])
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """End a burst that still runs: an unfinished coroutine is closed by the garbage collector, in some other test."""
        self.stop.ask()
        self.run_for(0.2)

    def now_ns(self) -> int:
        return round(self.clock.seconds() * 1e9)

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def say(self, pcm: Pcm) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.mouth.say(file_pieces(pcm, self.mouth.frame_samples), self.stop))

    def test_whole_burst(self) -> None:
        """A second of sound takes a second, is heard whole, and told with its beginning and end."""
        self.playout.start()
        saying = self.say(tone(1.0))
        self.run_for(0.99)
        self.assertNoResult(saying)
        self.run_for(0.11)
        self.assertIsNone(self.successResultOf(saying))
        self.run_for(1.0)
        (began,), (ended,) = self.told.named("began"), self.told.named("ended")
        self.assertEqual((began["alias"], began["codec"], began["at_s"]), ("Anna", "pcmu", 0.0))
        self.assertEqual((ended["lost"], ended["late"], ended["why"]), (0, 0, "mark"))
        loud = np.flatnonzero(np.abs(self.sink.pcm) > 100)
        self.assertApproximates((loud[-1] - loud[0]) / 48_000, 1.0, 0.03)

    def test_sink_begins_with_the_burst_and_goes_on(self) -> None:
        """Nothing is written before the first burst; then time in the sink is time on the clock, silence included."""
        self.playout.start()
        self.run_for(3.0)
        self.assertEqual(len(self.sink.pcm), 0)
        self.say(tone(0.5))
        self.run_for(4.0)
        self.assertApproximates(len(self.sink.pcm) / 48_000, 4.0, 0.05)
        self.assertAlmostEqual(self.ear.at_s, len(self.sink.pcm) / 48_000)

    def test_a_stall_is_silence(self) -> None:
        """A process that stood still for five seconds writes their silence, so that the file's time stays true."""
        self.playout.start()
        self.say(tone(0.5))
        self.run_for(1.0)
        self.clock.advance(5.0)
        self.run_for(1.0)
        self.assertApproximates(len(self.sink.pcm) / 48_000, 7.0, 0.05)

    def test_traces(self) -> None:
        """What was sent and what was heard match by name, and their times differ by the network's delay."""
        self.say(tone(1.0))
        self.run_for(1.5)
        for trace in self.traces:
            trace.close()
        comparison = compare(read_trace(self.sent), read_trace(self.heard))
        self.assertEqual(comparison.sent, self.mouth.said.sent)
        self.assertEqual((comparison.lost, comparison.duplicated), (0, 0))
        self.assertApproximates(comparison.percentile_ms(50), 5.0, 0.1)
        self.assertEqual([each.sequence for each in read_trace(self.sent)], list(range(comparison.sent)))

    def test_marks(self) -> None:
        """The first packet of a burst says so, and the last does, three times with time between."""
        self.say(tone(0.2))
        self.run_for(0.5)
        flags = [datagram.flags for datagram in self.collector.datagrams]
        self.assertTrue(flags[0] & Flag.FIRST)
        self.assertEqual([bool(each & Flag.LAST) for each in flags[-4:]], [False, True, True, True])
        self.assertIsNotNone(self.mouth.ended_at)

    def test_no_path(self) -> None:
        """Without a path nothing is kept for later: it is counted, and the burst goes on in its time."""
        self.say(tone(1.0))
        self.run_for(0.3)
        self.network.up = False
        self.run_for(0.4)
        self.network.up = True
        self.run_for(0.5)
        said = self.mouth.said
        self.assertApproximates(said.unsent, 20, 1)
        on_the_way = self.network.counts.missed  # when the path was cut
        self.assertEqual(said.sent, len(self.collector.datagrams) + on_the_way // 2)
        self.assertEqual(self.collector.sequences[-1], said.sent - 1)

    def test_stopped(self) -> None:
        """Asked to stop in the middle, the burst is ended with its marks."""
        saying = self.say(tone(10.0))
        self.run_for(1.0)
        self.stop.ask()
        self.run_for(0.1)
        self.assertIsNone(self.successResultOf(saying))
        self.assertFalse(self.mouth.pressed)
        self.assertTrue(self.collector.datagrams[-1].flags & Flag.LAST)

    def test_meters(self) -> None:
        """Who talks is shown with level and counts; nobody when nobody does."""
        self.assertEqual(self.ear.meters(), [])
        self.playout.start()
        self.say(tone(1.0))
        self.run_for(0.5)
        (row,) = self.ear.meters()
        self.assertIsInstance(row, Meter)
        self.assertEqual((row.name, row.lost, row.late), ("Anna", 0, 0))
        self.assertGreater(row.level_dbov, -20)

    def test_unplayable(self) -> None:
        """What comes and cannot be played is told once, with what helps, instead of being silence."""
        self.playout.start()
        stream = self.network.join("town", Collector(), listen=False)
        self.clock.advance(0)
        for number in (79, 79, 5):
            stream.send(Packet(number, 1, 160, 7, b"whatever").encode())
        self.run_for(0.1)
        told = self.told.named("unplayable")
        self.assertEqual([fields["payload_type"] for fields in told], [79, 5])
        self.assertIn("MELPe", str(told[0]["why"]))
        self.assertEqual(self.told.named("began"), [])

    def test_full_sink(self) -> None:
        """A sink that takes no more ends the playout, and whoever waits is told, also who asks later."""
        self.sink.room = 10 * FRAME
        early = self.playout.stuck()
        self.playout.start()
        self.say(tone(1.0))
        self.run_for(2.0)
        self.failureResultOf(early, LocalError)
        self.failureResultOf(self.playout.stuck(), LocalError)

    def test_live(self) -> None:
        """Sound that comes by itself is sent as it fills packets."""
        self.mouth.press()
        for block in np.array_split(tone(0.1), 10):
            self.mouth.hear(block)
        self.assertGreater(self.mouth.level_dbov, -20)
        releasing = Deferred.fromCoroutine(self.mouth.release())
        self.run_for(0.1)
        self.successResultOf(releasing)
        self.assertGreaterEqual(len(self.collector.datagrams), 6)


class DeviceTests(SynchronousTestCase):
    def test_device_sets_the_pace(self) -> None:
        """A loudspeaker always has two frames in hand, however fast or slow it takes them."""

        class Stream:
            def __init__(self, **options: Any) -> None:
                self.callback = options["callback"]
                streams.append(self)

            def start(self) -> None:
                """It runs when the test says so."""

        class Sound:
            InputStream = OutputStream = Stream
            PortAudioError = OSError

        streams: list[Any] = []
        clock, told = Clock(), Told()
        ear = Ear(clock, listener_of(MEDIA), Way(told, "town"), told)
        device = Loudspeaker(sounddevice=Sound())
        playout = playout_of(clock, ear, device)
        self.assertIsInstance(playout, DevicePlayout)
        playout.start()
        clock.advance(0)
        self.assertEqual(device.buffered, AHEAD)
        for _ in range(20):
            streams[0].callback(np.zeros((480, 1), np.int16), 480, None, None)
            clock.advance(0.005)
        self.assertGreaterEqual(device.buffered, AHEAD - 480)
        self.assertEqual(device.underruns, 0)
        playout.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_a_file_is_paced_by_us(self) -> None:
        """Anything else than a loudspeaker gets our own clock."""
        clock, told = Clock(), Told()
        ear = Ear(clock, listener_of(MEDIA), Way(told, "town"), told)
        self.assertIsInstance(playout_of(clock, ear, Kept()), ClockPlayout)


class PieceTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 5))
    def test_pieces(self, length: int, samples: int, times: int) -> None:
        """Pieces are whole but the last, and together they are the sound said so many times."""
        pcm = np.arange(length, dtype=np.int16)
        pieces = list(file_pieces(pcm, samples, times))
        self.assertTrue(all(len(piece) == samples for piece in pieces[:-1]))
        joined = np.concatenate(pieces) if pieces else pcm[:0]
        self.assertEqual(joined.tolist(), np.tile(pcm, times).tolist())

    def test_names(self) -> None:
        """A talker without an alias is called by the part of its source that its certificate gives."""
        self.assertEqual(name_of("Anna", 1), "Anna")
        self.assertEqual(name_of("", 0xDEADBEEF_00000001), "talker deadbeef")
