"""The sound of calls at work: streams joined under their keys, one clock for all, and what is left when a call is over."""

from __future__ import annotations

import random
from unittest import mock
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import codecs
from ice.media.burst import BurstSender
from ice.media.dtmf import Dialer
from ice.media.mixer import level_dbov
from ice.media.playout import DigitPressed, Listener
from ice.media.tones import sine
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher
from ice.streams.interface import Datagram
from ice.streams.memory import MemoryNetwork
from ice.streams.sealed import SealedNetwork
from ice.telephony.causes import Cause
from ice.telephony.messages import Media, sound_stream
from ice.telephony.sound import LOST_S, PHASES, SILENT_S, STEP_S, Sounds

WALL = 1_900_000_000.0


def media(number: int) -> Media:
    return Media(sound_stream(UUID(int=number)), f"{number:064x}")


class Person:
    """Somebody on a call's stream, with its key."""

    def __init__(self, clock: Clock, network: MemoryNetwork, media: Media) -> None:
        self.clock = clock
        self.listener = Listener()
        self.flags: list[int] = []
        self.paths = 0
        keyring = Keyring.of(media.key, Cipher.GCM)
        sealed = SealedNetwork(network, {media.stream: keyring}.get, lambda: WALL + clock.seconds())
        self.stream = sealed.join(media.stream, self)
        self.sender = BurstSender(codecs.encoder("opus", fec=False), chance=random.Random(1))
        self.pressed = False

    def datagram(self, datagram: Datagram) -> None:
        self.flags.append(datagram.flags)
        self.listener.datagram(
            datagram.payload, datagram.flags, datagram.source, self.clock.seconds(), datagram.sequence
        )

    def path(self, up: bool, why: str) -> None:
        self.paths += 1

    def say(self, pcm: object) -> None:
        if not self.pressed:
            self.pressed = True
            self.sender.press(self.clock.seconds())
        for sending in self.sender.pcm(pcm):  # type: ignore[arg-type]
            self.stream.send(sending.payload, sending.flags)


class Calls(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.said: list[tuple[float, str, UUID, bytes]] = []
        self.keys: list[tuple[UUID, str]] = []
        self.lost: list[tuple[UUID, Cause]] = []
        self.sounds = Sounds(
            self.clock,
            self.network,
            wall=lambda: WALL + self.clock.seconds(),
            say=lambda trunk, call, samples: self.said.append((self.clock.seconds(), trunk, call, samples)),
            keys=lambda call, digits: self.keys.append((call, digits)),
            lost=lambda call, cause: self.lost.append((call, cause)),
            chance=random.Random(0),
        )

    def open(self, number: int = 1, rate: int = 8_000) -> UUID:
        call = UUID(int=number)
        self.sounds.open(call, media(number), "pbx", rate, "100")
        return call

    def wait(self, seconds: float, step: float = 0.005) -> None:
        self.clock.pump([0.0] + [step] * round(seconds / step))

    def test_to_the_line(self) -> None:
        """A line is sent 20 ms every 20 ms at its rate, whatever flows."""
        call = self.open(rate=16_000)
        self.wait(1.0)
        self.assertIn(len(self.said), (50, 51))
        self.assertEqual({each[1:3] for each in self.said}, {("pbx", call)})
        self.assertEqual({len(each[3]) for each in self.said}, {640})

    def test_both_ways(self) -> None:
        """What a person says under the call's key comes to the line, and the line to the person, once the directions are open."""
        call = self.open()
        person = Person(self.clock, self.network, media(1))
        self.wait(0.02)
        tone = sine(500.0, 960)
        hearing = 0.0
        speaking = sine(700.0, 160 * 6)[::6].astype("<i2").tobytes()
        for opened in (False, True):
            self.sounds.flow(call, opened, opened)
            del self.said[:]
            person.flags.clear()
            for _ in range(30):
                person.say(tone)
                self.sounds.heard("pbx", call, 8_000, speaking)
                self.wait(0.02)
                hearing = max(hearing, level_dbov(person.listener.pull(960, self.clock.seconds())))
            loudest = max(abs(int.from_bytes(each[3][:2], "little", signed=True)) for each in self.said)
            self.assertEqual(loudest > 1_000, opened)
            self.assertEqual(bool(person.flags), opened)
        self.assertGreater(hearing, -30)
        statistics = self.sounds.statistics(call)
        assert statistics is not None
        self.assertGreater(statistics.stream.counters.received, 20)
        self.assertEqual(self.sounds.rate(call), 8_000)

    def test_other_key(self) -> None:
        """Who has not the key of the call is not heard."""
        call = self.open()
        stranger = Person(self.clock, self.network, Media(media(1).stream, "ff" * 32))
        self.sounds.flow(call, True, True)
        for _ in range(10):
            stranger.say(sine(500.0, 960))
            self.wait(0.02)
        statistics = self.sounds.statistics(call)
        assert statistics is not None
        self.assertEqual(statistics.stream.datagrams, 0)
        self.flushLoggedErrors()

    def test_whose_line(self) -> None:
        """Sound of another trunk, or of no call, is not this one's."""
        call = self.open()
        self.assertTrue(self.sounds.heard("pbx", call, 8_000, bytes(320)))
        self.assertFalse(self.sounds.heard("other", call, 8_000, bytes(320)))
        self.assertFalse(self.sounds.heard("pbx", UUID(int=9), 8_000, bytes(320)))

    def test_keys(self) -> None:
        """Keys of a person are told; keys of the line are heard by him."""
        call = self.open()
        person = Person(self.clock, self.network, media(1))
        self.wait(0.02)
        self.sounds.flow(call, True, True)
        self.sounds.digits(call, "42")
        dialer = Dialer(48_000)
        person.say(sine(500.0, 960))
        dialer.press("7", self.clock.seconds(), person.sender.timestamp)
        digits = ""
        for _ in range(60):
            for event in dialer.due(self.clock.seconds()):
                sending = person.sender.event(event, self.clock.seconds())
                person.stream.send(sending.payload, sending.flags)
            self.wait(0.02)
            person.listener.pull(960, self.clock.seconds())
            digits += "".join(
                each.digit for each in person.listener.events() if isinstance(each, DigitPressed)
            )
        self.assertEqual(self.keys, [(call, "7")])
        self.assertEqual(digits, "42")

    def test_phases(self) -> None:
        """Calls are spread over the 20 ms; one timer serves all."""
        for number in range(1, 9):
            self.open(number)
        self.wait(0.1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        by_time: dict[int, int] = {}
        del self.said[:]
        self.wait(0.02)
        for at, *_ in self.said:
            by_time[round(at / STEP_S)] = by_time.get(round(at / STEP_S), 0) + 1
        self.assertEqual(sorted(by_time.values()), [2] * PHASES)

    def test_late_timer(self) -> None:
        """A timer that comes late is made up for, and is not added up."""
        self.open()
        for _ in range(50):
            self.wait(0.023, 0.023)
        self.assertIn(len(self.said), range(56, 60))
        self.assertGreater(self.sounds.latest_s, 0.002)
        self.clock.advance(10.0)
        self.assertLessEqual(self.sounds.totals().slept_frames, 500)
        self.assertGreater(self.sounds.totals().slept_frames, 480)

    def test_close(self) -> None:
        """The end of the burst is said, then the stream is left, and nothing remains but the sums."""
        call = self.open()
        person = Person(self.clock, self.network, media(1))
        self.wait(0.02)
        self.sounds.flow(call, True, True)
        self.wait(0.2)
        self.sounds.close(call)
        self.assertEqual((len(self.sounds), call in self.sounds), (0, False))
        self.assertIsNone(self.sounds.statistics(call))
        self.assertEqual(self.sounds.rate(call), 0)
        self.wait(0.1)
        self.assertTrue(person.flags[-1] & Flag.LAST)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertGreater(self.sounds.totals().said, 8)
        missed = self.network.counts.missed
        person.stream.send(b"nobody is there", 0)
        self.clock.advance(0)
        self.assertEqual(self.network.counts.missed, missed)
        self.sounds.close(call)

    def test_again(self) -> None:
        """A call that is placed on the next trunk sounds on the same stream at once."""
        call = self.open()
        self.sounds.flow(call, True, True)
        self.wait(0.1)
        self.sounds.close(call)
        self.sounds.open(call, media(1), "other", 16_000, "100")
        self.wait(0.1)
        self.assertEqual(self.said[-1][1], "other")
        self.assertEqual(len(self.sounds), 1)

    def test_lost(self) -> None:
        """A stream that nobody reaches for half a minute is lost; a short interruption is not."""
        call = self.open()
        self.network.up = False
        self.wait(LOST_S - 2, 0.5)
        self.network.up = True
        self.wait(2.0, 0.5)
        self.assertEqual(self.lost, [])
        self.network.up = False
        self.wait(LOST_S + 2, 0.5)
        self.assertEqual(set(self.lost), {(call, Cause.MEDIA_LOST)})

    def test_silent_person(self) -> None:
        """Who is to be heard and says nothing, not even silence, for 10 s is gone; on hold nobody is missed."""
        call = self.open()
        self.wait(SILENT_S + 2, 0.5)
        self.sounds.flow(call, True, True)
        self.wait(SILENT_S - 2, 0.5)
        self.sounds.flow(call, False, False)
        self.wait(SILENT_S + 2, 0.5)
        self.sounds.flow(call, True, True)
        self.wait(SILENT_S - 2, 0.5)
        self.assertEqual(self.lost, [])
        self.wait(4.0, 0.5)
        self.assertEqual(set(self.lost), {(call, Cause.MEDIA_LOST)})

    def test_broken(self) -> None:
        """A call whose engine fails is lost, and the others go on."""
        broken, other = self.open(1), self.open(2)
        self.wait(0.02)
        del self.said[:]
        sound = self.sounds._sounds[broken]
        with mock.patch.object(sound.audio, "tick", side_effect=ZeroDivisionError):
            self.wait(0.04)
        self.assertEqual(set(self.lost), {(broken, Cause.FAILED)})
        self.assertEqual({each[2] for each in self.said}, {other})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(self.lost))

    def test_stop(self) -> None:
        """A stop leaves nothing in the clock."""
        for number in range(1, 4):
            self.sounds.flow(self.open(number), True, True)
        self.wait(0.1)
        self.sounds.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.open(5)
        self.wait(0.1)
        self.assertEqual(len(self.sounds), 1)

    def test_rate(self) -> None:
        """A rate that lines do not have is refused, and nothing is joined."""
        self.assertRaises(LocalError, self.open, 1, 44_100)
        self.assertEqual(len(self.sounds), 0)
