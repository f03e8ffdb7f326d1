"""A call's sound: who hears whom, keys, holds, clocks, and what it costs in delay and quality."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import ice.testing
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import codecs, wav
from ice.media.burst import BurstSender, Sending
from ice.media.dtmf import Dialer
from ice.media.mixer import level_dbov
from ice.media.payload import Pcm
from ice.media.playout import BurstBegan, DigitPressed, Listener
from ice.media.quality import compare
from ice.media.resample import Downsampler, Upsampler
from ice.media.rtp import Packet
from ice.telephony.audio import CATCH_UP, CallAudio, Turn
from ice.telephony.voice import LineVoice

FRAME = 960
TICK = 0.02
SPEECH = wav.read(Path(ice.testing.__file__).parent / "data" / "speech.wav")


def tone(hertz: float, seconds: float, amplitude: float = 6_000) -> Pcm:
    n = np.arange(round(seconds * 48_000))
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * n / 48_000)).astype(np.int16)


def amount(pcm: Pcm, hertz: float) -> float:
    """The amplitude of one frequency in a sound."""
    n = np.arange(len(pcm))
    return float(abs(np.dot(pcm.astype(float), np.exp(-2j * np.pi * hertz * n / 48_000)))) * 2 / len(pcm)


class Person:
    """Somebody on the stream, with a microphone and a loudspeaker."""

    def __init__(self, source: int) -> None:
        self.source = source
        self.sender = BurstSender(
            codecs.encoder("opus", fec=False), alias=f"person {source}", chance=random.Random(source)
        )
        self.sender.press(0.0)
        self.listener = Listener()
        self.pieces: list[Pcm] = []

    @property
    def heard(self) -> Pcm:
        return np.concatenate(self.pieces)


class Scene:
    """A call with people and lines; everything sounds in 20 ms steps on one clock, datagrams take ``delay`` steps."""

    def __init__(self, people: int = 1, *lines: int) -> None:
        self.audio = CallAudio(voice=LineVoice(max(lines)), chance=random.Random(0))
        self.people = [Person(number + 1) for number in range(people)]
        self.rates = {f"line {number}": rate for number, rate in enumerate(lines)}
        for name, rate in self.rates.items():
            self.audio.add_line(name, rate)
        self.audio.flow(True, True, 0.0)
        self.ups = {name: Upsampler(48_000 // rate) for name, rate in self.rates.items() if rate != 48_000}
        self.downs = {
            name: Downsampler(48_000 // rate) for name, rate in self.rates.items() if rate != 48_000
        }
        self.at_line: dict[str, list[Pcm]] = {name: [] for name in self.rates}
        self.turns: list[Turn] = []
        self.step = 0

    def say(self, person: Person, sendings: list[Sending], now: float) -> None:
        for sending in sendings:
            self.audio.datagram(sending.payload, sending.flags, person.source, now)
            for other in self.people:
                if other is not person:
                    other.listener.datagram(sending.payload, sending.flags, person.source, now)

    def play(self, steps: int, people: list[Pcm | None], lines: list[Pcm | None]) -> None:
        """Everybody says his sound, or nothing."""
        for _ in range(steps):
            now = self.step * TICK
            at = slice(self.step * FRAME, (self.step + 1) * FRAME)
            for person, pcm in zip(self.people, people, strict=True):
                if pcm is not None and len(pcm[at]) == FRAME:
                    self.say(person, person.sender.pcm(pcm[at]), now)
            for (name, rate), pcm in zip(self.rates.items(), lines, strict=True):
                if pcm is not None and len(pcm[at]) == FRAME:
                    samples = self.downs[name].process(pcm[at]) if rate != 48_000 else pcm[at]
                    self.audio.line_sound(name, rate, samples.astype("<i2").tobytes(), now)
            self.turn(self.audio.tick(now + 0.007), now + 0.007)
            self.step += 1

    def turn(self, turn: Turn, now: float) -> None:
        self.turns.append(turn)
        for sending in turn.to_stream:
            for person in self.people:
                person.listener.datagram(sending.payload, sending.flags, 99, now)
        for person in self.people:
            person.pieces.append(person.listener.pull(FRAME, now))
        for name, samples in turn.to_lines:
            pcm = np.frombuffer(samples, "<i2").astype(np.int16)
            self.at_line[name].append(self.ups[name].process(pcm) if name in self.ups else pcm)

    def line(self, name: str) -> Pcm:
        return np.concatenate(self.at_line[name])


class WhoHearsWhom(SynchronousTestCase):
    def test_mix_minus(self) -> None:
        """Two people and two lines: everybody hears all others, once, and never himself."""
        scene = Scene(2, 16_000, 48_000)
        tones = [tone(hertz, 2.0) for hertz in (400.0, 600.0, 900.0, 1_300.0)]
        scene.play(90, [tones[0], tones[1]], [tones[2], tones[3]])
        ears = [*(person.heard for person in scene.people), scene.line("line 0"), scene.line("line 1")]
        for ear, heard in enumerate(ears):
            steady = heard[40 * FRAME : 85 * FRAME]
            for voice, hertz in enumerate((400.0, 600.0, 900.0, 1_300.0)):
                loud = amount(steady, hertz)
                if ear == voice:
                    self.assertLess(loud, 60, (ear, voice))
                else:
                    self.assertGreater(loud, 4_500, (ear, voice))
                    self.assertLess(loud, 7_500, (ear, voice))

    def test_our_own_sound_is_refused(self) -> None:
        """What we said on the stream, brought back to us by whatever way, is not heard."""
        scene = Scene(1, 48_000)
        sound = tone(500.0, 1.0)
        for _ in range(40):
            scene.play(1, [None], [sound])
            for sending in scene.turns[-1].to_stream:
                scene.audio.datagram(sending.payload, sending.flags, 1234, scene.step * TICK)
        self.assertLess(amount(scene.line("line 0")[20 * FRAME :], 500.0), 20)
        self.assertEqual(scene.audio.statistics().refused, {"own": 40})

    def test_comfort_noise(self) -> None:
        """Where nobody says anything, both ends hear noise, and lines are sent frames all the time."""
        scene = Scene(1, 8_000)
        scene.play(60, [None], [None])
        self.assertEqual([len(turn.to_lines[0][1]) for turn in scene.turns], [320] * 60)
        for heard in (scene.line("line 0"), scene.people[0].heard):
            self.assertLess(abs(level_dbov(heard[20 * FRAME :]) + 67), 4)

    def test_hold(self) -> None:
        """On hold nothing of anybody goes anywhere; the line is sent noise, the burst on the stream ends and begins anew."""
        scene = Scene(1, 48_000)
        voice, ringing = tone(500.0, 4.0), tone(800.0, 4.0)
        scene.play(50, [voice], [ringing])
        scene.audio.flow(False, False, scene.step * TICK)
        scene.play(50, [voice], [ringing])
        scene.audio.flow(True, True, scene.step * TICK)
        scene.play(50, [voice], [ringing])
        held = slice(65 * FRAME, 100 * FRAME)
        self.assertLess(amount(scene.line("line 0")[held], 500.0), 20)
        self.assertLess(amount(scene.people[0].heard[held], 800.0), 20)
        later = slice(125 * FRAME, 150 * FRAME)
        self.assertGreater(amount(scene.line("line 0")[later], 500.0), 4_500)
        self.assertGreater(amount(scene.people[0].heard[later], 800.0), 4_500)
        began = [e for e in scene.people[0].listener.events() if isinstance(e, BurstBegan)]
        self.assertEqual(len(began), 2)

    def test_end(self) -> None:
        """The end of the burst is said three times, 20 ms apart: by and by on hold, handed over whole at the end of the call."""
        scene = Scene(1, 48_000)
        scene.play(5, [None], [None])
        scene.audio.flow(False, False, scene.step * TICK)
        scene.play(5, [None], [None])
        self.assertEqual([len(turn.to_stream) for turn in scene.turns[5:]], [1, 1, 1, 0, 0])
        scene.audio.flow(True, True, scene.step * TICK)
        scene.play(5, [None], [None])
        rest = scene.audio.finish(scene.step * TICK)
        self.assertEqual([sending.flags & Flag.LAST for sending in rest], [Flag.LAST] * 3)
        self.assertEqual((scene.audio.finish(9.0), scene.audio.tick(9.0).to_stream), ((), ()))

    def test_one_way(self) -> None:
        """Before the answer the caller hears, and is not heard."""
        scene = Scene(1, 48_000)
        scene.audio.flow(True, False, 0.0)
        scene.play(60, [tone(500.0, 2.0)], [tone(800.0, 2.0)])
        self.assertLess(amount(scene.line("line 0")[30 * FRAME :], 500.0), 20)
        self.assertGreater(amount(scene.people[0].heard[30 * FRAME :], 800.0), 4_500)


class Keys(SynchronousTestCase):
    def test_from_the_stream(self) -> None:
        """Keys of a person come out once each, in order, though their packets are lost and doubled."""
        scene = Scene(1, 8_000)
        person, chance = scene.people[0], random.Random(3)
        dialer = Dialer(48_000)
        dialer.press("19*#", 0.0, person.sender.timestamp)
        sound = tone(300.0, 3.0)
        for _ in range(60):
            scene.play(1, [sound], [None])
            for event in dialer.due(scene.step * TICK):
                sending = person.sender.event(event, scene.step * TICK)
                for _copy in range(chance.randrange(3) if not event.marker else 1):
                    scene.audio.datagram(sending.payload, sending.flags, 1, scene.step * TICK)
        self.assertEqual("".join(turn.digits for turn in scene.turns), "19*#")

    def test_to_the_stream(self) -> None:
        """Keys of a line are telephone events on the stream."""
        scene = Scene(1, 8_000)
        scene.play(5, [None], [None])
        self.assertTrue(scene.audio.line_digits("42#", scene.step * TICK))
        scene.play(60, [None], [None])
        pressed = [e.digit for e in scene.people[0].listener.events() if isinstance(e, DigitPressed)]
        self.assertEqual(pressed, ["4", "2", "#"])

    def test_what_is_no_key(self) -> None:
        """Nothing, nonsense, too many, and keys while nobody hears them are counted."""
        audio = CallAudio()
        self.assertFalse(audio.line_digits("1", 0.0))
        audio.flow(True, True, 0.0)
        for digits in ("", "x", "1" * 65):
            self.assertFalse(audio.line_digits(digits, 0.0))
        self.assertEqual(audio.statistics().refused, {"digits-unheard": 1, "digits": 2, "digits-many": 1})


class Odd(SynchronousTestCase):
    def test_lines(self) -> None:
        """Names twice, rates that do not exist, sound of nobody, at another rate, and of no length."""
        audio = CallAudio()
        audio.add_line("a", 8_000)
        self.assertRaises(LocalError, audio.add_line, "a", 8_000)
        self.assertRaises(LocalError, audio.add_line, "b", 44_100)
        self.assertRaises(LocalError, LineVoice, 44_100)
        self.assertRaises(LocalError, LineVoice, 8_000, complexity=11)
        self.assertRaises(LocalError, CallAudio, voice=codecs.encoder("opus", framing_ms=40))
        audio.line_sound("b", 8_000, b"ab", 0.0)
        audio.line_sound("a", 16_000, b"ab", 0.0)
        audio.line_sound("a", 8_000, b"a", 0.0)
        statistics = audio.statistics()
        self.assertEqual(statistics.refused, {"no-line": 1})
        self.assertEqual(statistics.lines["a"].refused, {"rate": 1, "empty": 1})
        audio.remove_line("a")
        audio.remove_line("a")
        self.assertEqual(audio.tick(0.0).to_lines, ())

    def test_slept(self) -> None:
        """A tick that comes late makes up for a few frames, and does not say a minute at once."""
        audio = CallAudio()
        audio.add_line("a", 8_000)
        self.assertIsNone(audio.deadline)
        self.assertEqual(len(audio.tick(1.0).to_lines), 1)
        self.assertEqual(len(audio.tick(1.01).to_lines), 0)
        self.assertEqual(len(audio.tick(1.06).to_lines), 3)
        self.assertEqual(len(audio.tick(61.0).to_lines), CATCH_UP)
        self.assertGreater(audio.statistics().slept_frames, 2_900)
        self.assertEqual(audio.deadline is not None and audio.deadline > 61.0, True)

    def test_when_last_heard(self) -> None:
        """Whoever wants to end calls without sound can ask."""
        scene = Scene(1, 8_000)
        self.assertEqual(scene.audio.heard_at(), (float("-inf"), float("-inf")))
        scene.play(2, [tone(500.0, 1.0)], [tone(500.0, 1.0)])
        self.assertEqual(scene.audio.heard_at(), (TICK, TICK))


class Delay(SynchronousTestCase):
    def test_added_by_the_gateway(self) -> None:
        """From a frame's arrival to its leaving: at most 60 ms each way, buffers at rest, codec included."""
        scene = Scene(1, 16_000)
        sound = np.concatenate((SPEECH, SPEECH))
        scene.play(len(sound) // FRAME, [sound], [sound])
        decoder = codecs.decoder_of(codecs.codec("opus"))
        packets = [Packet.decode(sending.payload) for turn in scene.turns for sending in turn.to_stream]
        pieces = [decoder.decode(packet.payload) for packet in packets]
        # The frame that arrives at step n holds the sound of step n; what is said at that step's tick, 7 ms later, would be no delay at all.
        to_stream = compare(sound, np.concatenate(pieces)).offset_ms + 7
        to_line = compare(sound, scene.line("line 0")).offset_ms + 7
        self.assertLess(to_stream, 60)
        self.assertLess(to_line, 60)


class Quality(SynchronousTestCase):
    def test_speech(self) -> None:
        """Speech through client, stream, line and back: whole at 16 kHz, whole at 8 kHz."""
        for rate, least in ((16_000, 0.9), (8_000, 0.85)):
            scene = Scene(1, rate)
            scene.play(len(SPEECH) // FRAME, [SPEECH], [SPEECH])
            scene.play(10, [None], [None])
            self.assertGreater(compare(SPEECH, scene.line("line 0")).score, least)
            self.assertGreater(compare(SPEECH, scene.people[0].heard).score, least)

    def test_pesq(self) -> None:
        """From client through stream and line's echo and back: PESQ-WB 3.3 at 16 kHz, PESQ-NB 3.8 at 8 kHz."""
        if importlib.util.find_spec("pesq") is None:
            raise SkipTest("pesq is not installed: pip install ice-voice[quality]")
        from pesq import pesq

        for rate, mode, least in ((16_000, "wb", 3.3), (8_000, "nb", 3.8)):
            scene = Scene(1, rate)
            for _ in range(len(SPEECH) // FRAME + 30):
                before = len(scene.turns)
                scene.play(1, [SPEECH], [None])
                for turn in scene.turns[before:]:
                    for name, samples in turn.to_lines:
                        scene.audio.line_sound(name, rate, samples, scene.step * TICK - 0.005)
            heard = scene.people[0].heard
            lag = round(compare(SPEECH, heard).offset_ms * 48)
            aligned = heard[lag : lag + len(SPEECH)]
            spoken = SPEECH[: len(aligned)]
            down = 48_000 // rate
            reference, degraded = (
                Downsampler(down).process(each[: len(each) // down * down]) for each in (spoken, aligned)
            )
            score = pesq(rate, reference, degraded, mode)
            self.assertGreaterEqual(score, least, (rate, score))
