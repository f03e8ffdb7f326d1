"""``ice talk``: where the voice comes from, keys, and what is told; sending is in test_voice and the system tests."""

import io
import os
import pty
import sys
import termios
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.display import JsonLines, Lines
from ice.cli.floor_gate import Gate
from ice.cli.keys import Keys
from ice.cli.loop import Stop
from ice.cli.mouth import Mouth, file_pieces, frame_samples_of, sender_of
from ice.cli.talk import Wishes, _Attentive, _File, _Live, _sender, _source, _Tell, talk
from ice.cli.voice import Way
from ice.config.load import loads
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import wav
from ice.media.devices import NoSound
from ice.media.floor import Rules
from ice.mission.model import Group
from ice.mission.parts import TxAudio
from ice.streams.memory import Collector, MemoryNetwork

from .told import Told

MEDIA = MediaSettings(codec="pcmu")


def wishes(**changes: Any) -> Wishes:
    values: dict[str, Any] = dict.fromkeys(
        ("config", "file", "device", "codec", "bitrate", "alias", "priority", "trace")
    ) | {"loop": 1, "emergency": False, "timeout_s": 10.0, "as_json": False}
    return Wishes(**(values | changes))


class FakeMicrophone:
    """Ten milliseconds of a hum each time it is asked."""

    def read(self) -> list[Any]:
        return [np.full(480, 1_000, np.int16)]


class FakeKeys:
    """A hand that the test moves."""

    pressed = quit = False

    def start(self, reactor: Any) -> None:
        """Nothing to read from."""


class TalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.stop, self.out = Clock(), Stop(), io.StringIO()
        network = MemoryNetwork(self.clock)
        self.collector = Collector()
        network.join("town", self.collector)
        stream = network.join("town", Collector(), listen=False)
        self.mouth = Mouth(self.clock, stream, sender_of(MEDIA, alias="Anna"), frame_samples_of(MEDIA))
        self.tell = _Tell(Lines(self.out), self.mouth, wishes())
        self.clock.advance(0)

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def test_file(self) -> None:
        """A file is said in its own time, as often as asked, and told with its length and packets."""
        path = Path(self.mktemp())
        wav.write(path, np.full(4_800, 1_000, np.int16))
        talking = Deferred.fromCoroutine(_File(path, 5).speak(self.clock, self.stop, self.mouth, self.tell))
        self.run_for(0.4)
        self.assertNoResult(talking)
        self.run_for(0.3)
        self.successResultOf(talking)
        self.assertIn("0.1 s, 5 times", self.out.getvalue())
        self.assertIn("ended: 0.5 s, 28 packets", self.out.getvalue())

    def test_silent_file(self) -> None:
        """A file without a sample is no speech."""
        path = Path(self.mktemp())
        wav.write(path, np.zeros(0, np.int16))
        self.assertIn("holds no sound", str(self.assertRaises(LocalError, _File, path, 1)))

    def test_push_to_talk(self) -> None:
        """Sound goes out between a press and the next only; each burst has its marks; q ends it."""
        keys = FakeKeys()
        talking = Deferred.fromCoroutine(
            _Live(FakeMicrophone(), keys).speak(self.clock, self.stop, self.mouth, self.tell)
        )
        self.run_for(0.5)
        self.assertEqual(self.collector.datagrams, [])
        keys.pressed = True
        self.run_for(0.5)
        keys.pressed = False
        self.run_for(0.5)
        count = len(self.collector.datagrams)
        self.assertGreaterEqual(count, 20)
        self.assertTrue(self.collector.datagrams[0].flags & Flag.FIRST)
        self.assertTrue(self.collector.datagrams[-1].flags & Flag.LAST)
        keys.pressed = True
        self.run_for(0.2)
        keys.quit = True
        self.run_for(0.2)
        self.successResultOf(talking)
        self.assertTrue(self.collector.datagrams[-1].flags & Flag.LAST)
        self.assertGreater(len(self.collector.datagrams), count)

    def test_open_microphone(self) -> None:
        """Without a terminal the microphone is open until we are asked to stop."""
        talking = Deferred.fromCoroutine(
            _Live(FakeMicrophone(), None).speak(self.clock, self.stop, self.mouth, self.tell)
        )
        self.run_for(0.5)
        self.stop.ask()
        self.run_for(0.2)
        self.successResultOf(talking)
        self.assertTrue(self.collector.datagrams[-1].flags & Flag.LAST)

    def test_emergency_is_told(self) -> None:
        """An emergency is shown as one, to people and machines."""
        out = io.StringIO()
        _Tell(JsonLines(out), self.mouth, wishes(emergency=True)).began("live")
        self.assertIn('"emergency": true', out.getvalue())

    def test_no_microphone(self) -> None:
        """Without --file and without the audio extra both ways out are told."""
        absent = mock.patch.dict(sys.modules, {"sounddevice": None})
        with absent, self.assertRaises(NoSound) as raised, _source(wishes()):
            pass
        self.assertIn("--file", str(raised.exception))

    def test_usage(self) -> None:
        """Codecs, bit rates and priorities that are none are refused before anything is opened."""
        for arguments in (["--codec", "mp3"], ["--bitrate", "1"], ["--priority", "256"], ["--loop", "0"]):
            self.assertEqual(CliRunner().invoke(talk, ["town", *arguments]).exit_code, 2, arguments)


class FloorTests(SynchronousTestCase):
    """Live and from a file, where one talks at a time and somebody else is there."""

    def setUp(self) -> None:
        self.clock, self.stop, self.told = Clock(), Stop(), Told()
        self.network = MemoryNetwork(self.clock, delay_s=0.005)
        self.heard = Collector()
        self.network.join("town", self.heard, talk=False)
        self.other = Mouth(
            self.clock,
            self.network.join("town", Collector(), listen=False),
            sender_of(MEDIA, alias="Chief", priority=5),
            frame_samples_of(MEDIA),
        )
        self.keys = FakeKeys()
        self.addCleanup(self.finish)

    def finish(self) -> None:
        self.stop.ask()
        self.run_for(0.3)

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def talk(self, source: Any, rules: Rules | None = None) -> "Deferred[bool]":
        gate = Gate(self.clock, rules if rules is not None else Rules(), self.told)
        self.addCleanup(gate.close)
        stream = self.network.join("town", _Attentive(Way(Told(), "town"), gate))
        self.clock.advance(0)
        self.mouth = Mouth(
            self.clock, stream, sender_of(MEDIA, alias="Anna"), frame_samples_of(MEDIA), gate=gate
        )
        tell = _Tell(self.told, self.mouth, wishes())
        return Deferred.fromCoroutine(source.speak(self.clock, self.stop, self.mouth, tell))

    def live(self, keys: Any, rules: Rules | None = None) -> "Deferred[bool]":
        return self.talk(_Live(FakeMicrophone(), keys), rules)

    def say(self, seconds: float) -> None:
        """The other one talks."""
        sound = np.full(round(seconds * 48_000), 1_000, np.int16)
        Deferred.fromCoroutine(self.other.say(file_pieces(sound, self.other.frame_samples), self.stop))

    def events(self) -> list[str]:
        return [event for event, _, _ in self.told.events]

    def test_a_refused_press(self) -> None:
        """A press while somebody talks is told, sends nothing and is over; the next one counts, and is told again or granted."""
        talking = self.live(self.keys)
        self.say(1.0)
        self.run_for(0.5)
        for _ in range(2):
            self.keys.pressed = True
            self.run_for(0.1)
            self.assertFalse(self.keys.pressed, "as if it had been let go")
        self.assertEqual(self.events(), ["ready", "refused", "refused"])
        self.assertEqual(self.mouth.said.sent, 0)
        self.run_for(0.6)
        self.keys.pressed = True
        self.run_for(0.3)
        self.assertEqual(self.events()[3:], ["began"])
        self.assertGreater(self.mouth.said.sent, 5)
        self.keys.quit = True
        self.run_for(0.2)
        self.assertTrue(self.successResultOf(talking))

    def test_a_lost_floor(self) -> None:
        """Who is talked over is stopped and told, with the marks of an end; the key has to be pressed again."""
        talking = self.live(self.keys)
        self.keys.pressed = True
        self.run_for(0.5)
        self.say(1.0)
        self.run_for(0.3)
        self.assertEqual(self.events(), ["ready", "began", "usurped", "ended"])
        self.assertFalse(self.keys.pressed)
        ours = [each for each in self.heard.datagrams if each.source == self.heard.datagrams[0].source]
        self.assertTrue(ours[-1].flags & Flag.LAST)
        self.assertEqual(len(ours), self.mouth.said.sent)
        self.run_for(1.5)
        self.assertEqual(self.events()[4:], [], "nothing begins by itself")
        self.keys.pressed = True
        self.run_for(0.2)
        self.assertEqual(self.events()[4:], ["began"])
        self.stop.ask()
        self.run_for(0.2)
        self.assertTrue(self.successResultOf(talking))
        self.assertEqual(self.events()[5:], ["ended"])

    def test_each_burst_for_itself(self) -> None:
        """What is told of a burst is the packets of that burst."""
        self.live(self.keys)
        for _ in range(2):
            self.keys.pressed = True
            self.run_for(0.5)
            self.keys.pressed = False
            self.run_for(0.5)
        first, second = (int(str(fields["sent"])) for fields in self.told.named("ended"))
        self.assertTrue(15 < second < first + 5, (first, second))

    def test_an_open_microphone_is_talked_over(self) -> None:
        """It is silent while the other talks, which is told once, and goes on afterwards."""
        talking = self.live(None)
        self.run_for(0.3)
        self.say(1.0)
        self.run_for(1.0)
        self.assertEqual(self.events(), ["ready", "began", "usurped", "ended", "refused"])
        self.run_for(0.5)
        self.assertEqual(self.events()[5:], ["began"])
        self.stop.ask()
        self.run_for(0.2)
        self.assertTrue(self.successResultOf(talking))

    def test_an_open_microphone_has_its_time(self) -> None:
        """It does not begin anew when its time is over: that would be no limit."""
        talking = self.live(None, Rules(max_tx_s=1.0))
        self.run_for(1.5)
        self.assertFalse(self.successResultOf(talking))
        self.assertEqual(self.events(), ["ready", "began", "time-warning", "time-up", "ended"])

    def test_a_key_has_its_time(self) -> None:
        """A burst that was too long is ended, and the next press is another one."""
        self.live(self.keys, Rules(max_tx_s=1.0))
        for _ in range(2):
            self.keys.pressed = True
            self.run_for(1.5)
            self.assertFalse(self.keys.pressed)
        self.assertEqual(self.events().count("time-up"), 2)

    def file(self, seconds: float) -> "Deferred[bool]":
        path = Path(self.mktemp())
        wav.write(path, np.full(round(seconds * 48_000), 1_000, np.int16))
        return self.talk(_File(path, 1))

    def test_a_file_waits(self) -> None:
        """A file begins when the floor is free, which is told then and not before; Ctrl-C ends the wait."""
        gate_hears = self.file(0.2)
        self.run_for(0.5)
        self.successResultOf(gate_hears)
        self.say(1.0)
        self.run_for(0.5)
        waiting = self.again(0.2)
        self.run_for(0.3)
        self.assertEqual(self.events(), ["began", "ended", "refused"])
        self.run_for(1.0)
        self.assertTrue(self.successResultOf(waiting))
        self.assertEqual(self.events()[3:], ["began", "ended"])
        self.say(1.0)
        self.run_for(0.5)
        waiting = self.again(0.2)
        self.stop.ask()
        self.run_for(0.3)
        self.assertTrue(self.successResultOf(waiting))
        self.assertEqual(self.events()[5:], ["refused"])

    def again(self, seconds: float) -> "Deferred[bool]":
        """Another file from the same mouth."""
        path = Path(self.mktemp())
        wav.write(path, np.full(round(seconds * 48_000), 1_000, np.int16))
        tell = _Tell(self.told, self.mouth, wishes())
        return Deferred.fromCoroutine(_File(path, 1).speak(self.clock, self.stop, self.mouth, tell))

    def test_a_file_is_talked_over(self) -> None:
        """A file that is stopped amid its words is not whole."""
        talking = self.file(1.0)
        self.run_for(0.3)
        self.say(0.5)
        self.run_for(0.5)
        self.assertFalse(self.successResultOf(talking))
        self.assertEqual(self.events(), ["began", "usurped", "ended"])

    def test_a_file_is_said(self) -> None:
        """One that nobody talks over is whole."""
        talking = self.file(0.5)
        self.run_for(1.0)
        self.assertTrue(self.successResultOf(talking))


class AliasTests(SynchronousTestCase):
    """Under what name somebody talks on a group."""

    def sender(self, group_alias: str = "", loaded: Any = None, **asked: Any) -> str:
        from ice.cli.channels import Channel
        from ice.media.rtp import Packet, Talk

        group = Group(name="Red", alias=group_alias, tx_audio=TxAudio(encoder=1, framing_ms=20))
        sender, samples = _sender(Channel("Red", "red", group, 0), loaded, MEDIA, wishes(**asked))
        sender.press(0.0)
        (first, *_) = sender.pcm(np.zeros(samples, np.int16))
        extension = Packet.decode(first.payload).extension
        assert extension is not None
        return Talk.from_extension(extension).alias

    def test_order(self) -> None:
        """As asked, as the group says, as the configuration says, else who sits here."""
        with mock.patch("getpass.getuser", return_value="anna"):
            loaded = loads('[identity]\nalias = "Anna K."', Path("/nowhere/ice.toml"))
            self.assertEqual(self.sender("Group", loaded, alias="Asked"), "Asked")
            self.assertEqual(self.sender("Group", loaded), "Group")
            self.assertEqual(self.sender("", loaded), "Anna K.")
            self.assertEqual(self.sender(), "anna")
            bare = loads("", Path("/nowhere/ice.toml"))
            self.assertEqual(self.sender("", bare), "anna", "without a certificate")

    def test_nobody(self) -> None:
        """A user who has a number and no name talks without one."""
        for error in (KeyError("uid not found"), OSError("no username")):
            with mock.patch("getpass.getuser", side_effect=error):
                self.assertEqual(self.sender(), "")

    def test_a_long_name(self) -> None:
        """What does not fit is cut."""
        self.assertEqual(self.sender("a name that is far too long"), "a name that is f")

    def test_coding_is_the_mission_s(self) -> None:
        """Codec and bit rate cannot be wished for on a group."""
        for asked in ({"codec": "opus"}, {"bitrate": 32_000}):
            error = self.assertRaises(LocalError, self.sender, **asked)
            self.assertIn("leave out --codec and --bitrate", str(error))


class KeysTests(SynchronousTestCase):
    def test_keys(self) -> None:
        """Space and enter press and release; others do nothing; q and the end of input quit."""
        keys = Keys(-1)
        for typed, pressed in ((b" ", True), (b"x", True), (b"\n", False), (b" \r", False), (b"   ", True)):
            keys.typed(typed)
            self.assertEqual(keys.pressed, pressed, typed)
        self.assertFalse(keys.quit)
        keys.typed(b"q")
        self.assertTrue(keys.quit)
        gone = Keys(-1)
        gone.typed(b"")
        self.assertTrue(gone.quit)

    def test_terminal(self) -> None:
        """A terminal gives keys one by one, and is as it was afterwards."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        before = termios.tcgetattr(theirs)
        with Keys(theirs) as keys:
            self.assertFalse(termios.tcgetattr(theirs)[3] & termios.ICANON)
            os.write(ours, b" ")
            keys.doRead()
            self.assertTrue(keys.pressed)
        self.assertEqual(termios.tcgetattr(theirs), before)
