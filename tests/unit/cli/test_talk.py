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
from ice.cli.keys import Keys
from ice.cli.loop import Stop
from ice.cli.mouth import Mouth, frame_samples_of, sender_of
from ice.cli.talk import Wishes, _File, _Live, _source, _Tell, talk
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import wav
from ice.media.devices import NoSound
from ice.streams.memory import Collector, MemoryNetwork

MEDIA = MediaSettings(codec="pcmu")


def wishes(**changes: Any) -> Wishes:
    values: dict[str, Any] = dict.fromkeys(
        ("config", "password_file", "file", "device", "codec", "bitrate", "alias", "priority", "trace")
    ) | {"stream": "town", "loop": 1, "emergency": False, "timeout_s": 10.0, "as_json": False}
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
