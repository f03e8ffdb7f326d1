"""Another codec for each packet: what stays, what changes, and how it sounds."""

import functools
import itertools
from importlib.resources import as_file, files

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media import wav
from ice.media.codecs import codec, decoder, encoder
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.quality import similarity
from ice.media.rtp import Packet
from ice.reflector.transcoding import MAX_TALKERS, Transcoding


@functools.cache
def speech() -> Pcm:
    """A sentence."""
    with as_file(files("ice.testing") / "data" / "speech.wav") as path:
        return wav.read(path)


def tune(seconds: float) -> Pcm:
    """The beginning of it."""
    return speech()[: round(seconds * SAMPLE_RATE)]


def packets(name: str, pcm: Pcm, framing_ms: int = 20, ssrc: int = 7) -> list[bytes]:
    """Somebody's voice in RTP."""
    voice = encoder(name, framing_ms=framing_ms)
    return [
        Packet(
            voice.codec.payload_type,
            (65_500 + n) & 0xFFFF,
            (0xFFFF_F000 + n * voice.timestamp_step) & 0xFFFF_FFFF,
            ssrc,
            voice.encode(pcm[at : at + voice.samples]),
            marker=n == 0,
        ).encode()
        for n, at in enumerate(range(0, len(pcm) - voice.samples + 1, voice.samples))
    ]


def heard(data: list[bytes]) -> Pcm:
    """What a listener hears."""
    ear = decoder(Packet.decode(data[0]).payload_type)
    return np.concatenate([ear.decode(Packet.decode(each).payload) for each in data])


class TranscodingTests(SynchronousTestCase):
    def change(self, to: str, data: list[bytes]) -> list[bytes]:
        change = Transcoding(codec(to))
        out = [change.packet(each, 0.0) for each in data]
        assert all(isinstance(each, bytes) for each in out), out
        return [each for each in out if isinstance(each, bytes)]

    def test_what_stays(self) -> None:
        """Numbers, source and marker; the timestamp advances by the new clock, over its wrap; the frame is as long as it was."""
        for there, back, framing_ms in (("opus", "pcmu", 20), ("pcmu", "opus", 60), ("pcma", "l16", 40)):
            data = packets(there, tune(1.0), framing_ms)
            out = [Packet.decode(each) for each in self.change(back, data)]
            before = [Packet.decode(each) for each in data]
            row = codec(back)
            self.assertEqual(
                [(p.sequence, p.ssrc, p.marker) for p in out],
                [(p.sequence, p.ssrc, p.marker) for p in before],
            )
            self.assertEqual({p.payload_type for p in out}, {row.payload_type})
            steps = {(b.timestamp - a.timestamp) & 0xFFFF_FFFF for a, b in itertools.pairwise(out)}
            self.assertEqual(steps, {row.timestamp_step(framing_ms)})

    def test_how_it_sounds(self) -> None:
        """The same words come out at the other end."""
        pcm = speech()
        for there, back in (("opus", "pcmu"), ("pcmu", "opus")):
            out = heard(self.change(back, packets(there, pcm)))
            self.assertGreater(similarity(pcm, out), 0.8, (there, back))

    def test_a_pause(self) -> None:
        """Stays as long as it was."""
        data = [Packet.decode(each) for each in packets("pcmu", tune(0.04))]
        change = Transcoding(codec("opus"))
        later = Packet(0, data[1].sequence, (data[0].timestamp + 8_000) & 0xFFFF_FFFF, 7, data[1].payload)
        first, second = (change.packet(each.encode(), 0.0) for each in (data[0], later))
        assert isinstance(first, bytes) and isinstance(second, bytes)
        gap = (Packet.decode(second).timestamp - Packet.decode(first).timestamp) & 0xFFFF_FFFF
        self.assertEqual(gap, 48_000)

    def test_untouched(self) -> None:
        """What is in the codec already, and what is no sound that we know."""
        change = Transcoding(codec("pcmu"))
        for data in (
            *packets("pcmu", tune(0.1)),
            Packet(101, 1, 2, 3, b"\5\n\0\xa0").encode(),
            Packet(13, 1, 2, 3, b"x").encode(),
        ):
            self.assertEqual(change.packet(data, 0.0), data)

    def test_refused(self) -> None:
        """Frames that the new codec has not, and what is broken, each by its word; the talker goes on."""
        change = Transcoding(codec("opus"))
        self.assertEqual(change.packet(Packet(0, 1, 2, 3, bytes(240)).encode(), 0.0), "framing")
        self.assertEqual(change.packet(Packet(0, 1, 2, 3, b"").encode(), 0.0), "payload")
        self.assertEqual(change.packet(b"\x9f\x00" + bytes(10), 0.0), "malformed")
        self.assertIsInstance(change.packet(Packet(0, 1, 2, 3, bytes(160)).encode(), 0.0), bytes)

    def test_two_talkers(self) -> None:
        """Each has a decoder and an encoder of his own; there is a bound."""
        pcm = tune(1.0)
        one, two = packets("pcmu", pcm, ssrc=1), packets("pcmu", np.zeros_like(pcm), ssrc=2)
        change = Transcoding(codec("opus"))
        mixed = [change.packet(each, 0.0) for pair in zip(one, two, strict=True) for each in pair]
        apart = self.change("opus", one)
        self.assertEqual(mixed[::2], apart)
        for ssrc in range(2 * MAX_TALKERS):
            change.packet(Packet(0, 1, 2, ssrc, bytes(160)).encode(), 0.0)
        self.assertEqual(len(change._voices), MAX_TALKERS)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=60), st.sampled_from([0, 8, 96, 118]))
    def test_anything(self, payload: bytes, payload_type: int) -> None:
        """Whatever comes, a packet or a word."""
        change = Transcoding(codec("pcma"))
        for first in (0x80, 0x90, 0xA0, 0x8F):
            result = change.packet(bytes((first, payload_type)) + bytes(10) + payload, 0.0)
            self.assertIsInstance(result, bytes | str)
