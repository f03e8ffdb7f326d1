"""libopus, wrapped: framings, loss, silence, and what hostile packets get."""

import sys
from importlib.resources import as_file, files
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import opus, tones, wav
from ice.media.payload import FRAMINGS_MS, MalformedPayload, Pcm
from ice.media.quality import similarity


def speech() -> Pcm:
    """Two seconds of the spoken line."""
    with as_file(files("ice.testing") / "data" / "speech.wav") as path:
        return wav.read(path)[4_800:100_800]


SPEECH = speech()


def frames(pcm: Pcm, samples: int) -> list[Pcm]:
    return [pcm[start : start + samples] for start in range(0, len(pcm) - samples + 1, samples)]


def snr_db(spoken: Pcm, heard: Pcm, delay: int) -> float:
    """Signal to noise once the codec's delay is taken out."""
    reference = spoken[: len(heard) - delay].astype(float)
    noise = heard[delay : delay + len(reference)].astype(float) - reference
    return float(10 * np.log10(np.mean(reference**2) / np.mean(noise**2)))


class EncoderTests(SynchronousTestCase):
    def test_every_framing(self) -> None:
        """Each framing gives packets of exactly its duration, which decode to as many samples, in time with what was spoken."""
        for framing_ms in FRAMINGS_MS:
            for bitrate in (6_000, 24_000, 128_000):
                with self.subTest(framing_ms=framing_ms, bitrate=bitrate):
                    encoder, decoder = opus.Encoder(bitrate, framing_ms, fec=False), opus.Decoder()
                    pieces = frames(SPEECH[:48_000], encoder.samples)
                    packets = [encoder.encode(piece) for piece in pieces]
                    self.assertEqual({opus.packet_samples(packet) for packet in packets}, {48 * framing_ms})
                    heard = np.concatenate([decoder.decode(packet) for packet in packets])
                    self.assertEqual(len(heard), len(pieces) * encoder.samples)
                    spoken = np.concatenate(pieces)
                    self.assertApproximates(tones.level_dbov(heard), tones.level_dbov(spoken), 3.0)
                    lag = int(
                        np.argmax(
                            np.correlate(
                                heard[2_000:30_000:4].astype(float), spoken[2_000:28_000:4].astype(float)
                            )
                        )
                    )
                    self.assertApproximates(lag * 4, encoder.lookahead, 60)

    def test_bit_rate(self) -> None:
        """The bit rate asked for is about the bit rate sent."""
        for bitrate in (6_000, 12_000, 24_000, 64_000):
            with self.subTest(bitrate=bitrate):
                encoder = opus.Encoder(bitrate)
                sizes = [len(encoder.encode(piece)) for piece in frames(SPEECH, 960)]
                self.assertApproximates(sum(sizes) * 8 * 50 / len(sizes), bitrate, 0.2 * bitrate)

    def test_quality_rises(self) -> None:
        """More bits come nearer to the original; at 128 kbit/s it is near indeed."""
        heard_db = []
        for bitrate in (12_000, 32_000, 128_000):
            encoder, decoder = opus.Encoder(bitrate, fec=False), opus.Decoder()
            heard = np.concatenate([decoder.decode(encoder.encode(piece)) for piece in frames(SPEECH, 960)])
            heard_db.append(snr_db(SPEECH, heard, encoder.lookahead))
        self.assertEqual(heard_db, sorted(heard_db))
        self.assertGreater(heard_db[-1], 12)

    def test_fullband(self) -> None:
        """At 64 kbit/s a tone of 15 kHz comes through: the whole band is there."""
        noise = np.random.default_rng(7).normal(0, 1_500, 48_000)
        sound = np.asarray(noise + tones.sine(15_000, 48_000), np.int16)
        encoder, decoder = opus.Encoder(64_000), opus.Decoder()
        heard = np.concatenate([decoder.decode(encoder.encode(piece)) for piece in frames(sound, 960)])
        spectrum = np.abs(np.fft.rfft(heard[24_000:].astype(float)))
        self.assertEqual(int(np.argmax(spectrum)) * 2, 15_000)

    def test_wrong_pcm(self) -> None:
        """Short, long, two-dimensional or floating-point frames are refused before libopus sees them."""
        encoder = opus.Encoder()
        for pcm in (
            np.zeros(959, np.int16),
            np.zeros(961, np.int16),
            np.zeros((960, 1), np.int16),
            np.zeros(960),
        ):
            self.assertRaises(LocalError, encoder.encode, pcm)
        self.assertTrue(encoder.encode(np.zeros(1_920, np.int16)[::2]))

    def test_settings_out_of_range(self) -> None:
        """Settings that make no sense are named."""
        for arguments in (
            {"bitrate": 5_999},
            {"bitrate": 128_001},
            {"framing_ms": 30},
            {"expected_loss_percent": 101},
        ):
            with self.subTest(arguments=arguments):
                error = self.assertRaises(LocalError, lambda: opus.Encoder(**arguments))  # noqa: B023
                self.assertIn(str(next(iter(arguments.values()))), str(error))

    def test_dtx(self) -> None:
        """With DTX a pause is mostly not sent, whatever the framing; speech behind it is; without DTX all is sent."""
        for framing_ms in FRAMINGS_MS:
            with self.subTest(framing_ms=framing_ms):
                encoder = opus.Encoder(24_000, framing_ms, dtx=True)
                pause = tones.silence(encoder.samples)
                sent = [bool(encoder.encode(pause)) for _ in range(2_000 // framing_ms)]
                self.assertLess(sum(sent), 0.4 * len(sent) + 2)
                self.assertTrue(
                    all(encoder.encode(piece) for piece in frames(SPEECH[9_600:28_800], encoder.samples))
                )
                always = opus.Encoder(24_000, framing_ms)
                self.assertTrue(all(always.encode(pause) for _ in range(2_000 // framing_ms)))

    def test_reset(self) -> None:
        """After a reset the encoder says the same again, bit for bit."""
        encoder = opus.Encoder()
        first = [encoder.encode(piece) for piece in frames(SPEECH[:9_600], 960)]
        encoder.reset()
        self.assertEqual([encoder.encode(piece) for piece in frames(SPEECH[:9_600], 960)], first)


class LossTests(SynchronousTestCase):
    def setUp(self) -> None:
        encoder = opus.Encoder(24_000, fec=True)
        self.delay = encoder.lookahead
        self.packets = [encoder.encode(piece) for piece in frames(SPEECH, 960)]

    def heard(self, *, use_fec: bool) -> Pcm:
        decoder, pieces = opus.Decoder(), []
        for number, packet in enumerate(self.packets):
            following = self.packets[number + 1] if use_fec and number + 1 < len(self.packets) else None
            lost = number % 4 == 3
            pieces.append(decoder.conceal(960, following) if lost else decoder.decode(packet))
        return np.concatenate(pieces)

    def test_fec_is_there(self) -> None:
        """At 24 kbit/s most packets of speech carry a copy of the one before; with FEC off none does."""
        self.assertGreater(sum(map(opus.carries_fec, self.packets)), 0.5 * len(self.packets))
        encoder = opus.Encoder(24_000, fec=False)
        self.assertFalse(any(opus.carries_fec(encoder.encode(piece)) for piece in frames(SPEECH, 960)))

    def test_fec_while_talking(self) -> None:
        """FEC goes off and on again between two frames, and never comes where it was not allowed."""
        pieces = frames(SPEECH, 960)
        encoder, never = opus.Encoder(24_000), opus.Encoder(24_000, fec=False)
        copies = []
        for percent in (0, 10):
            encoder.expect_loss(percent)
            never.expect_loss(percent)
            packets = [encoder.encode(piece) for piece in pieces]
            copies.append(sum(map(opus.carries_fec, packets[1:])))
            self.assertFalse(any(opus.carries_fec(never.encode(piece)) for piece in pieces))
        self.assertEqual(copies[0], 0)
        self.assertGreater(copies[1], 20)
        self.assertRaises(LocalError, encoder.expect_loss, 101)

    def test_fec_helps(self) -> None:
        """A quarter of the packets lost: with the copies the sound is much nearer to the spoken than by extrapolation."""
        recovered, guessed = self.heard(use_fec=True), self.heard(use_fec=False)
        self.assertEqual(len(recovered), len(guessed))
        decoder = opus.Decoder()
        whole = np.concatenate([decoder.decode(packet) for packet in self.packets])
        self.assertGreater(snr_db(whole, recovered, 0), snr_db(whole, guessed, 0) + 3)

    def test_conceal_gives_what_was_asked(self) -> None:
        """Any length, of libopus's 2.5 ms or not, longer than its longest packet or not, comes out exactly."""
        decoder = opus.Decoder()
        for packet in self.packets[:20]:
            decoder.decode(packet)
        for samples in (1, 119, 120, 441, 960, 4_800, 5_760, 5_761, 20_000, 48_000):
            for following in (None, self.packets[30], b"", b"\xff"):
                with self.subTest(samples=samples, following=following):
                    self.assertEqual(decoder.conceal(samples, following).shape, (samples,))
        for samples in (0, -1, 48_001):
            self.assertRaises(LocalError, decoder.conceal, samples)

    def test_conceal_fades(self) -> None:
        """A second of nothing but loss ends in near silence: no talker buzzes on for ever."""
        decoder = opus.Decoder()
        for packet in self.packets[:40]:
            decoder.decode(packet)
        gone = decoder.conceal(48_000)
        self.assertLess(tones.level_dbov(gone[-9_600:]), -50)

    def test_conceal_before_anything(self) -> None:
        """A decoder that has heard nothing conceals with silence."""
        self.assertEqual(tones.level_dbov(opus.Decoder().conceal(960)), tones.SILENCE_DBOV)

    def test_reset(self) -> None:
        """After a reset the same packets give the same sound."""
        decoder = opus.Decoder()
        first = [decoder.decode(packet).tobytes() for packet in self.packets[:5]]
        decoder.reset()
        self.assertEqual([decoder.decode(packet).tobytes() for packet in self.packets[:5]], first)


class PacketTests(SynchronousTestCase):
    def test_table_of_contents(self) -> None:
        """RFC 6716 section 3.1: duration by configuration and number of frames."""
        for packet, milliseconds in (
            ("00", 10),
            ("08", 20),
            ("10", 40),
            ("18", 60),
            ("60", 10),
            ("68", 20),
            ("80", 2.5),
            ("88", 5),
            ("90", 10),
            ("98", 20),
            ("f8", 20),
            ("09", 40),
            ("0a00", 40),
            ("4b05", 100),
            ("8330", 120),
            ("1b02", 120),
        ):
            with self.subTest(packet=packet):
                self.assertEqual(opus.packet_samples(bytes.fromhex(packet)), milliseconds * 48)

    def test_impossible_packets(self) -> None:
        """No bytes, no count, no frames, more than 120 ms, more bytes than any packet: each by its name."""
        for packet, reason in (
            (b"", "empty"),
            (b"\x03", "corrupt"),
            (b"\x03\x00", "corrupt"),
            (b"\x1b\x03", "corrupt"),
            (b"\x83\x31", "corrupt"),
            (bytes(opus.MAX_PACKET + 1), "too-long"),
        ):
            with self.subTest(packet=packet[:4]):
                self.assertEqual(self.reason_of(packet), reason)

    def reason_of(self, packet: bytes) -> str:
        error = self.assertRaises(MalformedPayload, opus.packet_samples, packet)
        return str(error.reason)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=120))
    def test_any_bytes(self, packet: bytes) -> None:
        """Any bytes decode to their duration or are refused by name, and the decoder hears the next good packet."""
        decoder = DECODER
        try:
            self.assertEqual(len(decoder.decode(packet)), opus.packet_samples(packet))
        except MalformedPayload as error:
            self.assertIn(error.reason, ("empty", "corrupt"))
        self.assertIn(opus.carries_fec(packet), (True, False))
        self.assertEqual(len(decoder.conceal(960, packet)), 960)
        self.assertEqual(len(decoder.decode(GOOD)), 960)

    def test_truncations(self) -> None:
        """A packet cut at every byte is decoded or refused by name, never worse."""
        packet = opus.Encoder(24_000, 100).encode(SPEECH[9_600:14_400])
        decoder = opus.Decoder()
        for length in range(len(packet)):
            try:
                self.assertEqual(len(decoder.decode(packet[:length])), 4_800)
            except MalformedPayload as error:
                self.assertIn(error.reason, ("empty", "corrupt"))

    def test_huge(self) -> None:
        """A megabyte is refused without being looked at."""
        self.assertRaises(MalformedPayload, opus.Decoder().decode, bytes(1 << 20))


class CrowdTests(SynchronousTestCase):
    """Many voices in one sound."""

    def setUp(self) -> None:
        turned = sum(np.roll(SPEECH, -9_757 * n).astype(np.float64) for n in range(9))
        self.crowd = np.rint(turned * (30_000 / np.abs(turned).max())).astype(np.int16)

    def packets(self, sound: Pcm, counts: list[int], **settings: int) -> list[bytes]:
        """A frame for each count of voices."""
        encoder = opus.Encoder(fec=False, **settings)  # type: ignore[arg-type]
        found = []
        for index, count in enumerate(counts):
            encoder.voices(count)
            found.append(encoder.encode(sound[index * 960 : (index + 1) * 960]))
        return found

    def test_the_coder(self) -> None:
        """From five voices on it is the music coder, and the speech coder again when three are left; each change is a frame of both."""
        packets = self.packets(self.crowd, [1] * 20 + [5] * 20 + [4] * 20 + [3] * 20)
        music = [packet[0] >> 3 >= 16 for packet in packets]
        self.assertFalse(any(music[:20]))
        self.assertTrue(all(music[22:60]))
        self.assertFalse(any(music[62:]))

    def test_low_bitrates(self) -> None:
        """Below 24 kbit/s nothing changes."""
        alone, crowded = (self.packets(self.crowd, [count] * 30, bitrate=16_000) for count in (1, 9))
        self.assertEqual(alone, crowded)

    def test_the_same_sound(self) -> None:
        """What a crowd says is heard as well as with ten times the work."""
        frames = len(self.crowd) // 960
        scores = []
        for count in (1, 9):
            decoder = opus.Decoder()
            heard = np.concatenate(
                [decoder.decode(each) for each in self.packets(self.crowd, [count] * frames)]
            )
            scores.append(similarity(self.crowd, heard))
        self.assertGreater(scores[1], scores[0] - 0.02)
        self.assertGreater(scores[1], 0.95)

    def test_bounds(self) -> None:
        """A complexity or a rate that libopus does not have is refused."""
        for wrong in ({"complexity": 11}, {"complexity": -1}, {"rate": 44_100}):
            self.assertRaises(LocalError, opus.Encoder, **wrong)


class LibraryTests(SynchronousTestCase):
    def test_version(self) -> None:
        """libopus says which it is."""
        self.assertIn("libopus", opus.version())

    def test_missing(self) -> None:
        """Without libopus the error says what to type; importing the module and making no codec needs none."""
        opus._library.cache_clear()
        self.addCleanup(opus._library.cache_clear)
        hidden = {name: module for name, module in sys.modules.items() if name.split(".")[0] != "opuslib"}
        with (
            mock.patch.dict(sys.modules, hidden, clear=True),
            mock.patch("ctypes.util.find_library", return_value=None),
        ):
            error = self.assertRaises(opus.LibopusMissing, opus.Decoder)
        self.assertIsInstance(error, LocalError)
        self.assertIn("apt install libopus0", str(error))

    def test_missing_binding(self) -> None:
        """Without the Python binding the error names that instead."""
        opus._library.cache_clear()
        self.addCleanup(opus._library.cache_clear)
        with mock.patch.dict(sys.modules, {"opuslib": None}):
            error = self.assertRaises(opus.LibopusMissing, opus.Encoder)
        self.assertIn("pip install opuslib", str(error))


DECODER = opus.Decoder()
GOOD = opus.Encoder(24_000).encode(SPEECH[9_600:10_560])
