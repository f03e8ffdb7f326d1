"""The table of codecs, what all of its rows promise, and the pieces under G.711 and L16."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError, RemoteError
from ice.media import codecs, tones
from ice.media.codecs import FRAMINGS_MS, MalformedPayload, UnknownPayloadType
from ice.media.conceal import Concealer
from ice.media.payload import Pcm
from ice.media.resample import Downsampler, Upsampler

CODECS = {
    name: codecs.CODECS[name] for name in ("opus", "pcmu", "pcma", "l16")
}  # those that need no library but libopus
SECOND = tones.sine(440, 48_000, level_dbov=-20)
DELAY = {"opus": 312, "pcmu": 192, "pcma": 192, "l16": 0}  # samples at 48 kHz from spoken to heard


def through(name: str, pcm: Pcm, framing_ms: int = 20) -> list[Pcm]:
    encoder = codecs.encoder(name, framing_ms=framing_ms)
    decoder = codecs.decoder(encoder.codec.payload_type)
    size = encoder.samples
    return [decoder.decode(encoder.encode(pcm[at : at + size])) for at in range(0, len(pcm) - size + 1, size)]


class TableTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """Names, payload types and RTP clocks are those of the suite's contract."""
        rows = {(row.name, row.payload_type, row.clock_rate) for row in CODECS.values()}
        self.assertEqual(set(CODECS), codecs.NATIVE)
        self.assertEqual(
            rows, {("opus", 118, 48_000), ("pcmu", 0, 8_000), ("pcma", 8, 8_000), ("l16", 96, 48_000)}
        )

    def test_unknown(self) -> None:
        """An unknown name is our mistake and told with those that exist; an unknown payload type is the far side's."""
        self.assertIn("opus, pcmu, pcma, l16", str(self.assertRaises(LocalError, codecs.encoder, "mp3")))
        for payload_type in (4, codecs.TELEPHONE_EVENT, 127, -1):
            error = self.assertRaises(UnknownPayloadType, codecs.decoder, payload_type)
            self.assertIsInstance(error, RemoteError)
            self.assertEqual(error.payload_type, payload_type)

    def test_timestamp_step(self) -> None:
        """The RTP clock advances by what the frame lasts, in the codec's own clock."""
        steps = {name: codecs.encoder(name, framing_ms=60).timestamp_step for name in CODECS}
        self.assertEqual(steps, {"opus": 2_880, "pcmu": 480, "pcma": 480, "l16": 2_880})
        for row in CODECS.values():
            self.assertEqual(row.timestamp_step(20) * row.ticks_to_48k, 960)

    def test_largest_payload(self) -> None:
        """No frame is larger than the table says."""
        noise = np.random.default_rng(3).integers(-30_000, 30_000, 5_760).astype(np.int16)
        for name in CODECS:
            payload = codecs.encoder(name, bitrate=128_000, framing_ms=120).encode(noise)
            self.assertLessEqual(len(payload), codecs.largest_payload(name, 120))
        self.assertEqual(codecs.largest_payload("l16", 20), 1_920)
        self.assertEqual(codecs.largest_payload("pcmu", 20), 160)


class EveryCodecTests(SynchronousTestCase):
    def test_samples_in_are_samples_out(self) -> None:
        """From the first packet on, each frame comes out as long as it went in, and the decoder knew before."""
        for name in CODECS:
            for framing_ms in FRAMINGS_MS:
                with self.subTest(name=name, framing_ms=framing_ms):
                    encoder = codecs.encoder(name, framing_ms=framing_ms)
                    decoder = codecs.decoder(encoder.codec.payload_type)
                    self.assertEqual((encoder.framing_ms, encoder.samples), (framing_ms, 48 * framing_ms))
                    for _ in range(3):
                        payload = encoder.encode(SECOND[: encoder.samples])
                        self.assertEqual(decoder.samples_48k(payload), encoder.samples)
                        heard = decoder.decode(payload)
                        self.assertEqual((heard.dtype, heard.shape), (np.int16, (encoder.samples,)))

    def test_sound_survives(self) -> None:
        """A tone comes out at its level and pitch, later by the delay that is documented."""
        for name in CODECS:
            with self.subTest(name=name):
                heard = np.concatenate(through(name, SECOND))[4_800:]
                self.assertApproximates(tones.level_dbov(heard), -20, 1.0)
                spectrum = np.abs(np.fft.rfft(heard.astype(float) * np.hanning(len(heard))))
                self.assertApproximates(int(np.argmax(spectrum)) * 48_000 / len(heard), 440, 2)
                if name != "opus":
                    spoken = SECOND[4_800 - DELAY[name] : 48_000 - DELAY[name]].astype(float)
                    noise = heard[: len(spoken)] - spoken
                    self.assertGreater(10 * np.log10(np.mean(spoken**2) / max(np.mean(noise**2), 1e-9)), 33)

    def test_wrong_frames(self) -> None:
        """A frame of the wrong length or type is our mistake."""
        for name in CODECS:
            encoder = codecs.encoder(name)
            for pcm in (np.zeros(959, np.int16), np.zeros(0, np.int16), np.zeros(960, np.float32)):
                self.assertRaises(LocalError, encoder.encode, pcm)
            self.assertRaises(LocalError, lambda: codecs.encoder(name, framing_ms=30))  # noqa: B023

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(list(CODECS)), st.binary(max_size=500))
    def test_any_payload(self, name: str, payload: bytes) -> None:
        """Any bytes are decoded to what was foretold, or refused by both with one name."""
        decoder = codecs.decoder(CODECS[name].payload_type)
        try:
            expected = decoder.samples_48k(payload)
            self.assertEqual(len(decoder.decode(payload)), expected)
        except MalformedPayload as error:
            self.assertIn(error.reason, ("empty", "too-long", "odd", "corrupt"))
            self.assertRaises(MalformedPayload, decoder.decode, payload)
        self.assertEqual(len(decoder.conceal(480, payload)), 480)

    def test_empty_and_huge(self) -> None:
        """No bytes and a megabyte are refused by every decoder."""
        for row in CODECS.values():
            decoder = codecs.decoder(row.payload_type)
            for payload, reason in ((b"", "empty"), (bytes(1 << 20), "too-long")):
                self.assertEqual(self.assertRaises(MalformedPayload, decoder.decode, payload).reason, reason)

    def test_odd_l16(self) -> None:
        """Half a sample is named."""
        error = self.assertRaises(MalformedPayload, codecs.decoder(96).decode, b"\x01\x02\x03")
        self.assertEqual(error.reason, "odd")

    def test_conceal(self) -> None:
        """Exactly what is asked for comes, for every codec, whatever follows; more than a second is our mistake."""
        for row in CODECS.values():
            payload = codecs.encoder(row.name).encode(SECOND[:960])
            decoder = codecs.decoder(row.payload_type)
            decoder.decode(payload)
            for samples in (1, 7, 960, 4_799, 48_000):
                self.assertEqual(decoder.conceal(samples, payload).shape, (samples,))
            for samples in (0, 48_001):
                self.assertRaises(LocalError, decoder.conceal, samples)

    def test_only_opus_recovers(self) -> None:
        """A copy of a lost frame can be had from Opus alone."""
        for name in ("pcmu", "pcma", "l16"):
            payload = codecs.encoder(name).encode(SECOND[:960])
            self.assertFalse(codecs.decoder(CODECS[name].payload_type).recoverable(payload))

    def test_expected_loss(self) -> None:
        """Every encoder can be told what loss to expect, and refuses what is no percentage."""
        for name in CODECS:
            encoder = codecs.encoder(name)
            encoder.expect_loss(20)
            self.assertRaises(LocalError, encoder.expect_loss, -1)

    def test_reset(self) -> None:
        """After a reset encoder and decoder are as new."""
        for row in CODECS.values():
            encoder, decoder = codecs.encoder(row.name), codecs.decoder(row.payload_type)
            payload = encoder.encode(SECOND[:960])
            heard = decoder.decode(payload).tobytes()
            decoder.conceal(960)
            encoder.reset()
            decoder.reset()
            self.assertEqual(encoder.encode(SECOND[:960]), payload)
            self.assertEqual(decoder.decode(payload).tobytes(), heard)

    def test_l16_wire(self) -> None:
        """Linear PCM is big-endian."""
        pcm = np.zeros(960, np.int16)
        pcm[:3] = (1, -2, 0x1234)
        self.assertEqual(codecs.encoder("l16").encode(pcm)[:6].hex(), "0001fffe1234")


class ResampleTests(SynchronousTestCase):
    def test_pieces_do_not_show(self) -> None:
        """However a stream is cut into frames, the same samples come out."""
        noise = np.random.default_rng(5).integers(-9_000, 9_000, 9_600).astype(np.int16)
        for factor in (2, 3, 4, 6):
            whole_down = Downsampler(factor).process(noise)
            down, up = Downsampler(factor), Upsampler(factor)
            pieces = [down.process(noise[at : at + 240]) for at in range(0, 9_600, 240)]
            self.assertLessEqual(int(np.abs(np.concatenate(pieces).astype(int) - whole_down).max()), 1)
            whole_up = Upsampler(factor).process(whole_down)
            ups = np.concatenate([up.process(piece) for piece in np.array_split(whole_down, 7)])
            self.assertLessEqual(int(np.abs(ups.astype(int) - whole_up).max()), 1)

    def test_telephone_band(self) -> None:
        """8 kHz keeps 300 to 3,400 Hz within half a decibel and lets nothing above 4,600 Hz fold into it."""
        for frequency, low, high in (
            (300, -0.2, 0.2),
            (1_000, -0.2, 0.2),
            (3_400, -0.5, 0.2),
            (4_600, -127, -55),
            (9_000, -127, -55),
        ):
            narrow = Downsampler(6).process(tones.sine(frequency, 48_000, level_dbov=-6))[100:]
            change = tones.level_dbov(narrow) + 6
            self.assertTrue(low <= change <= high, f"{frequency} Hz: {change:.2f} dB")

    def test_no_images(self) -> None:
        """Back at 48 kHz, the mirror images of the telephone band are gone."""
        wide = Upsampler(6).process(tones.sine(3_000, 8_000, level_dbov=-6, rate=8_000))[2_000:42_000]
        spectrum = np.abs(np.fft.rfft(wide * np.hanning(len(wide))))
        cut = 4_600 * len(wide) // 48_000
        self.assertLess(20 * np.log10(spectrum[cut:].max() / spectrum.max()), -55)

    def test_full_scale_does_not_wrap(self) -> None:
        """Overshoots of a full-scale square wave are clipped, never turned over."""
        square = np.repeat(np.array([32_767, -32_768] * 20, np.int16), 240)
        wide = Upsampler(6).process(Downsampler(6).process(square))
        self.assertGreater(int(wide[400:480].min()), 20_000 if wide[440] > 0 else -32_769)
        self.assertGreater(int(np.abs(wide.astype(int)).max()), 32_000)

    def test_bad_arguments(self) -> None:
        """A factor that is not offered and a frame that cannot be divided are named."""
        self.assertRaises(LocalError, Downsampler, 7)
        self.assertRaises(LocalError, Upsampler, 1)
        self.assertRaises(LocalError, Downsampler(6).process, np.zeros(961, np.int16))


class ConcealTests(SynchronousTestCase):
    def gap(self, rate: int, frequency: float, lost_ms: int) -> tuple[Pcm, Pcm]:
        """A tone with a gap, and the tone itself."""
        pcm = tones.sine(frequency, rate, rate=rate, level_dbov=-12)
        concealer, frame = Concealer(rate), rate // 50
        start, end = 10 * frame, 10 * frame + lost_ms * rate // 1000
        pieces = [concealer.heard(pcm[at : at + frame]) for at in range(0, start, frame)]
        pieces += [concealer.conceal(frame) for _ in range(start, end, frame)]
        pieces.append(concealer.heard(pcm[end : end + frame]))
        heard = np.concatenate(pieces)
        return heard, pcm[: len(heard)]

    def test_short_gap(self) -> None:
        """One lost frame of a steady voice is hard to find: no step at either seam, hardly less level."""
        for rate in (8_000, 48_000):
            for frequency in (100, 125, 200, 310, 437):
                with self.subTest(rate=rate, frequency=frequency):
                    heard, spoken = self.gap(rate, frequency, 20)
                    steepest = int(np.abs(np.diff(spoken.astype(int))).max())
                    self.assertLess(int(np.abs(np.diff(heard.astype(int))).max()), 1.6 * steepest + 10)
                    lost = heard[rate // 5 : rate // 5 + rate // 50]
                    self.assertGreater(tones.level_dbov(lost), -12 - 2.5)

    def test_long_gap(self) -> None:
        """From 60 ms on there is silence, and the stream goes on behind it."""
        heard, spoken = self.gap(8_000, 200, 200)
        self.assertEqual(tones.level_dbov(heard[1_600 + 480 : 1_600 + 1_600]), tones.SILENCE_DBOV)
        self.assertEqual(heard[-100:].tolist(), spoken[-100:].tolist())

    def test_nothing_heard(self) -> None:
        """Before anything is heard a gap is silence."""
        self.assertFalse(Concealer(8_000).conceal(160).any())

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 700)), max_size=12), st.integers(0, 2**32 - 1))
    def test_anything(self, steps: list[tuple[bool, int]], seed: int) -> None:
        """Loudest noise, gaps of any length in any order: the right number of samples, no overflow, no warning."""
        noise = np.random.default_rng(seed)
        concealer = Concealer(8_000)
        with np.errstate(all="raise"):
            for lost, count in steps:
                if lost:
                    pcm = concealer.conceal(count)
                else:
                    pcm = concealer.heard(noise.choice(np.array([-32_768, 32_767], np.int16), count))
                self.assertEqual((pcm.dtype, len(pcm)), (np.int16, count))
