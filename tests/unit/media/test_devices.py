"""Live sound against a PortAudio that is not there."""

import sys
from typing import Any
from unittest import mock

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.media.devices import BLOCK, MAX_WAITING, Loudspeaker, Microphone, NoSound, backend


class FakeStream:
    def __init__(self, **options: Any) -> None:
        self.options = options
        self.running = False

    def start(self) -> None:
        self.running = True

    def close(self) -> None:
        self.running = False


class FakeSound:
    """As much of ``sounddevice`` as is used; the test plays the device."""

    class PortAudioError(Exception):
        pass

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.streams: list[FakeStream] = []

    def _open(self, **options: Any) -> FakeStream:
        if self.error:
            raise self.PortAudioError(self.error)
        self.streams.append(FakeStream(**options))
        return self.streams[-1]

    InputStream = OutputStream = _open


def block(value: int, samples: int = BLOCK) -> Any:
    return np.full((samples, 1), value, np.int16)


class MicrophoneTests(SynchronousTestCase):
    def test_blocks_in_order(self) -> None:
        """What the device brings is read once, in order, as copies."""
        sound = FakeSound()
        microphone = Microphone("1", sounddevice=sound)
        callback = sound.streams[0].options["callback"]
        data = block(1)
        callback(data, BLOCK, None, None)
        data[:] = 2
        callback(data, BLOCK, None, None)
        self.assertEqual([int(b[0]) for b in microphone.read()], [1, 2])
        self.assertEqual(microphone.read(), [])
        self.assertEqual(sound.streams[0].options["device"], 1)
        microphone.close()
        self.assertFalse(sound.streams[0].running)

    def test_nobody_reads(self) -> None:
        """At most a second waits; the oldest is dropped and counted, and so is what the device lost itself."""
        sound = FakeSound()
        microphone = Microphone(sounddevice=sound)
        for n in range(MAX_WAITING + 3):
            sound.streams[0].options["callback"](block(n), BLOCK, None, "input overflow" if n == 0 else None)
        self.assertEqual(int(microphone.read()[0][0]), 3)
        self.assertEqual((microphone.dropped, microphone.overruns), (3, 1))


class LoudspeakerTests(SynchronousTestCase):
    def test_plays_what_was_written(self) -> None:
        """The device takes what waits, in pieces of its own size; silence where nothing does."""
        sound = FakeSound()
        loudspeaker = Loudspeaker(sounddevice=sound)
        loudspeaker.write(np.arange(1, 301, dtype=np.int16))
        self.assertEqual(loudspeaker.buffered, 300)
        out = np.full((200, 1), 9, np.int16)
        sound.streams[0].options["callback"](out, 200, None, None)
        self.assertEqual((int(out[0, 0]), int(out[-1, 0]), loudspeaker.underruns), (1, 200, 0))
        sound.streams[0].options["callback"](out, 200, None, None)
        self.assertEqual((int(out[99, 0]), int(out[100, 0]), loudspeaker.underruns), (300, 0, 1))
        loudspeaker.close()

    def test_never_more_than_a_second(self) -> None:
        """A device that stands still costs old sound, not memory."""
        loudspeaker = Loudspeaker(sounddevice=FakeSound())
        for _ in range(MAX_WAITING + 5):
            loudspeaker.write(np.zeros(BLOCK, np.int16))
        self.assertEqual((loudspeaker.buffered, loudspeaker.dropped), (MAX_WAITING * BLOCK, 5 * BLOCK))


class MissingTests(SynchronousTestCase):
    def test_not_installed(self) -> None:
        """Without the extra the message is the two commands that mend it."""
        with mock.patch.dict(sys.modules, {"sounddevice": None}):
            error = str(self.assertRaises(NoSound, backend))
        self.assertIn("pip install 'ice-voice[audio]'", error)
        self.assertIn("apt install libportaudio2", error)

    def test_no_device(self) -> None:
        """A device that cannot be opened is told by name."""
        for kind in (Microphone, Loudspeaker):
            error = str(self.assertRaises(NoSound, kind, "Jabra", sounddevice=FakeSound("Invalid device")))
            self.assertIn("'Jabra'", error)
            self.assertIn("Invalid device", error)
