"""Several streams at one loudspeaker: volumes, one clock for the recording, and who is told of which stream."""

import math
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.loop import Stop
from ice.cli.mouth import Mouth, file_pieces, frame_samples_of, sender_of
from ice.cli.room import Named, Room, Seat, volumes
from ice.cli.voice import FRAME, ClockPlayout, Ear, Way, listener_of
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.media.payload import Pcm
from ice.streams.memory import Collector, MemoryNetwork

from .told import Told

MEDIA = MediaSettings(codec="l16")  # bit for bit: what is compared here is volumes


def tone(seconds: float, hertz: int, peak: int = 8_000) -> Pcm:
    return (peak * np.sin(np.arange(round(seconds * 48_000)) * 2 * np.pi * hertz / 48_000)).astype(np.int16)


def strength(pcm: Pcm, hertz: int) -> float:
    """The amplitude of one tone in a sound."""
    turning = np.exp(-2j * np.pi * hertz * np.arange(len(pcm)) / 48_000)
    return float(2 * abs(np.dot(pcm.astype(float), turning)) / len(pcm))


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.pieces: list[Pcm] = []

    def write(self, pcm: Pcm) -> None:
        self.pieces.append(pcm)

    @property
    def pcm(self) -> Pcm:
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)


class RoomTests(SynchronousTestCase):
    """Two streams in memory, a talker and a seat on each."""

    def setUp(self) -> None:
        self.clock, self.stop, self.told = Clock(), Stop(), Told()
        self.network = MemoryNetwork(self.clock, delay_s=0.005)
        self.addCleanup(self.finish)
        self.mouths: dict[str, Mouth] = {}

    def finish(self) -> None:
        self.stop.ask()
        self.run_for(0.2)

    def room(self, **gains: float) -> Room:
        seats = []
        for name, gain in gains.items():
            own = Named(self.told, name) if len(gains) > 1 else self.told
            ear = Ear(self.clock, listener_of(MEDIA), Way(Told(), name), own)
            self.network.join(name, ear, talk=False)
            stream = self.network.join(name, Collector(), listen=False)
            sender = sender_of(MEDIA, alias=f"Anna at {name}")
            self.mouths[name] = Mouth(self.clock, stream, sender, frame_samples_of(MEDIA))
            seats.append(Seat(name, ear, gain))
        self.clock.advance(0)
        return Room(seats)

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def say(self, name: str, pcm: Pcm) -> "Deferred[None]":
        mouth = self.mouths[name]
        return Deferred.fromCoroutine(mouth.say(file_pieces(pcm, mouth.frame_samples), self.stop))

    def record(self, room: Room) -> Kept:
        sink = Kept()
        playout = ClockPlayout(self.clock, room, sink)
        playout.start()
        self.addCleanup(playout.stop)
        return sink

    def test_volumes(self) -> None:
        """Two streams are heard at once, each as loud as it is wanted."""
        sink = self.record(self.room(red=1.0, blue=0.25))
        self.say("red", tone(1.0, 400))
        self.say("blue", tone(1.0, 700))
        self.run_for(1.5)
        both = sink.pcm[24_000:43_200]  # a whole number of periods of either
        self.assertApproximates(strength(both, 400), 8_000, 160)
        self.assertApproximates(strength(both, 700), 2_000, 40)

    def test_muted(self) -> None:
        """A volume of nothing is silence, and its talker is told all the same."""
        sink = self.record(self.room(red=0.0, blue=1.0))
        self.say("red", tone(0.5, 400))
        self.run_for(1.2)
        self.assertEqual(int(np.abs(sink.pcm).max()), 0)
        self.assertEqual([fields["channel"] for fields in self.told.named("began")], ["red"])

    def test_louder_than_full(self) -> None:
        """What would clip is turned down, not torn."""
        sink = self.record(self.room(red=4.0, blue=4.0))
        self.say("red", tone(1.0, 400, peak=12_000))
        self.say("blue", tone(1.0, 700, peak=12_000))
        self.run_for(1.5)
        both = sink.pcm[24_000:43_200]
        self.assertGreater(level_dbov(both), -10)
        others = (
            strength(both, 1_100) + strength(both, 300) + strength(both, 1_200)
        )  # what clipping would add
        self.assertLess(others, 0.1 * strength(both, 400))

    def test_one_alone(self) -> None:
        """One stream at its own volume is given out as it came."""
        sink = self.record(self.room(red=1.0))
        sound = tone(0.5, 400)
        self.say("red", sound)
        self.run_for(1.2)
        begin = int(np.flatnonzero(sink.pcm)[0])
        self.assertEqual(sink.pcm[begin : begin + 20_000].tolist(), sound[1:20_001].tolist())

    def test_one_louder(self) -> None:
        """A volume counts for one stream alone, too."""
        sink = self.record(self.room(red=0.5))
        self.say("red", tone(1.0, 400))
        self.run_for(1.5)
        self.assertApproximates(strength(sink.pcm[24_000:43_200], 400), 4_000, 80)

    def test_one_clock(self) -> None:
        """The recording begins with the first burst on any stream; a burst that is told later on another has its moment in the file."""
        room = self.room(red=1.0, blue=1.0)
        sink = self.record(room)
        self.run_for(2.0)
        self.assertEqual((len(sink.pcm), room.samples), (0, None))
        self.say("blue", tone(0.5, 700))
        self.run_for(3.0)
        self.say("red", tone(0.5, 400))
        self.run_for(1.0)
        began = {fields["channel"]: fields["at_s"] for fields in self.told.named("began")}
        self.assertEqual(began["blue"], 0)
        self.assertApproximates(began["red"], 3.0, 0.05)
        at = round(float(str(began["red"])) * 48_000)
        self.assertLess(strength(sink.pcm[at - 9_600 : at], 400), 1)
        self.assertGreater(strength(sink.pcm[at + 9_600 : at + 19_200], 400), 7_000)
        self.assertApproximates(room.at_s, len(sink.pcm) / 48_000, 0.001)
        self.assertEqual({seat.ear.samples for seat in room.seats}, {room.samples})

    def test_a_stall_counts_for_all(self) -> None:
        """A process that stood still fills the file for all streams alike."""
        room = self.room(red=1.0, blue=1.0)
        sink = self.record(room)
        self.say("red", tone(0.2, 400))
        self.run_for(1.0)
        self.clock.advance(5.0)
        self.run_for(1.0)
        self.say("blue", tone(0.2, 700))
        self.run_for(0.5)
        (blue,) = [f for f in self.told.named("began") if f["channel"] == "blue"]
        self.assertApproximates(blue["at_s"], 7.0, 0.05)
        self.assertApproximates(len(sink.pcm) / 48_000, room.at_s, 0.001)

    def test_busy(self) -> None:
        """Somebody was heard last when anybody was on any stream."""
        room = self.room(red=1.0, blue=1.0)
        room.busy_at = 0.0
        self.record(room)
        self.say("blue", tone(0.5, 700))
        self.run_for(5.0)
        self.assertTrue(0.5 < room.busy_at < 2.0, room.busy_at)

    def test_who(self) -> None:
        """Meters and sentences say on which stream; with one stream there is nothing to tell apart."""
        room = self.room(red=1.0, blue=1.0)
        self.record(room)
        self.say("blue", tone(1.0, 700))
        self.run_for(0.5)
        self.assertEqual([row.name for row in room.meters()], ["blue: Anna at blue"])
        self.assertTrue(self.told.sentences("began")[0].startswith("[blue] Anna at blue began to talk"))
        alone = self.room(green=1.0)
        self.record(alone)
        self.say("green", tone(1.0, 400))
        self.run_for(0.5)
        self.assertEqual([row.name for row in alone.meters()], ["Anna at green"])

    def test_told_without_being_pulled(self) -> None:
        """What has happened is told when asked, though nobody pulls."""
        room = self.room(red=1.0, blue=1.0)
        self.say("blue", tone(0.2, 700))
        self.run_for(0.1)
        room.tell()
        self.assertEqual(len(self.told.named("began")), 1)

    def test_named_is_closed_by_others(self) -> None:
        """The display of one stream is not its own to close; meters go through."""
        named = Named(self.told, "red")
        named.close()
        self.assertFalse(self.told.closed)
        room = self.room(red=1.0)
        self.record(room)
        self.say("red", tone(0.5, 400))
        self.run_for(0.3)
        named.meters(room.meters())
        self.assertEqual(len(self.told.rows), 1)

    def test_ahead(self) -> None:
        """What will sound only later is pulled for that moment, on every stream: a buffer that waits is read sooner."""
        starts = []
        for ahead_s in (0.0, 0.04):
            room = self.room(red=1.0, blue=1.0)
            self.say("red", tone(0.3, 400))
            heard = []
            for _ in range(20):
                self.run_for(0.02)
                heard.append(room.pull(FRAME, ahead_s))
            starts.append(int(np.flatnonzero(np.concatenate(heard))[0]))
        self.assertLess(starts[1], starts[0])

    def test_frames(self) -> None:
        """What is pulled has the length that was asked for, heard or not."""
        room = self.room(red=1.0, blue=2.0)
        self.assertEqual(room.pull(FRAME).shape, (FRAME,))


class VolumesTests(SynchronousTestCase):
    NAMES = ("Red", "Blue Team")

    def ask(self, *texts: str) -> dict[str, float]:
        return volumes(texts, self.NAMES)

    def test_each(self) -> None:
        """By name in any case, with or without the sign; what is not named is left as it is."""
        self.assertEqual(self.ask("red=50"), {"Red": 0.5})
        self.assertEqual(self.ask("Blue Team=150%", "Red=0"), {"Blue Team": 1.5, "Red": 0.0})
        self.assertEqual(self.ask(), {})

    def test_all(self) -> None:
        """A bare number is for all, and what comes later counts."""
        self.assertEqual(self.ask("30"), {"Red": 0.3, "Blue Team": 0.3})
        self.assertEqual(self.ask("30", "Red=60"), {"Red": 0.6, "Blue Team": 0.3})

    def test_names_with_signs(self) -> None:
        """The last = is the one that counts."""
        self.assertEqual(volumes(["a=b=50"], ["a=b"]), {"a=b": 0.5})

    def test_refused(self) -> None:
        """No number, too loud, less than nothing: told with what is expected."""
        wrong: tuple[Any, ...] = ("Red", "Red=", "Red=loud", "Red=401", "Red=-1", "nan", "Red=inf", "=")
        for text in wrong:
            error = self.assertRaises(LocalError, self.ask, text)
            self.assertIn("NAME=PERCENT with 0 to 400", str(error), text)
        self.assertFalse(math.isnan(self.ask("Red=400")["Red"]))

    def test_unknown(self) -> None:
        """A name that is none is told with those there are."""
        error = self.assertRaises(LocalError, self.ask, "Green=50")
        self.assertIn("'Green' is none of 'Red', 'Blue Team'", str(error))
