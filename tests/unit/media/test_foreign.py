"""Codecs through libraries: all of them keep the promises of the native ones, whichever library it is. Skipped where none is installed."""

from __future__ import annotations

import random
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError, RemoteError
from ice.media import amr, codec2, codecs, foreign, gsm, libav, library, speex, tones
from ice.media.burst import BurstSender
from ice.media.library import CodecMissing, Library
from ice.media.payload import MalformedPayload, Pcm
from ice.media.payload_map import PayloadMap
from ice.media.playout import Listener
from ice.media.quality import similarity
from ice.media.rtp import Packet
from ice.media.table import CODECS, FAMILIES, NATIVE, SENT, Codec
from tests.unit.media.carried import SUPPORT, need, sent_here
from tests.unit.media.test_playout import SPEECH

SECOND = tones.sine(440, 48_000, level_dbov=-20)
REASONS = ("empty", "too-long", "odd", "corrupt")


def payloads(row: Codec, pcm: Pcm, framing_ms: int, bitrate: int = 24_000) -> list[bytes]:
    """Sound as payloads."""
    encoder = codecs.encoder(row.name, bitrate=bitrate, framing_ms=framing_ms)
    size = encoder.samples
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


class Table(SynchronousTestCase):
    """Names and rates."""

    def test_families(self) -> None:
        """What a person may write, and what of it is sent."""
        self.assertEqual(
            FAMILIES, ("opus", "pcmu", "pcma", "l16", "gsm", "g722", "g729", "amr-nb", "speex", "codec2")
        )
        self.assertEqual(set(FAMILIES) - set(SENT), {"g729"})
        self.assertEqual(set(SUPPORT), set(FAMILIES) - NATIVE)

    def test_a_family_by_bit_rate(self) -> None:
        """The best rate that is not above the wish, else the lowest."""
        for wish, name in (
            (24_000, "codec2-3200"),
            (1_350, "codec2-1300"),
            (700, "codec2-700"),
            (1, "codec2-450"),
        ):
            self.assertEqual(codecs.codec("codec2", wish).name, name)
        self.assertEqual(codecs.codec("codec2-1200", 24_000).name, "codec2-1200")
        amr_rates = CODECS["amr-nb"]
        self.assertEqual([amr_rates.bitrate(each) for each in (0, 5_000, 64_000)], [4_750, 4_750, 12_200])

    def test_framings(self) -> None:
        """Packets hold whole frames: 20 ms of most codecs, 40 ms of Codec 2's low rates."""
        self.assertEqual(CODECS["gsm"].framings_ms, (20, 40, 60, 80, 100, 120))
        self.assertEqual(CODECS["codec2-1300"].framings_ms, (40, 80, 120))
        need("codec2")
        error = self.assertRaises(LocalError, lambda: codecs.encoder("codec2-1300", framing_ms=60))
        self.assertIn("40, 80, 120", str(error))

    def test_heard_only(self) -> None:
        """G.729 is not sent, and that is said."""
        self.assertIn("heard only", str(self.assertRaises(LocalError, codecs.encoder, "g729")))


class Missing(SynchronousTestCase):
    """Libraries that are not there."""

    def test_the_package_is_named(self) -> None:
        """What to install is said, all of the ways there are."""
        nowhere = Library("libgsm", ("libno-such-thing.so.9",), "libgsm1")
        with mock.patch.object(gsm, "LIBRARY", nowhere), mock.patch.object(library, "_libav", lambda: None):
            text = str(self.assertRaises(CodecMissing, codecs.decoder_of, CODECS["gsm"]))
            self.assertIn("apt install libgsm1", text)
            self.assertIn("pip install 'ice-voice[codecs]'", text)
            self.assertIn("gsm", text)
            self.assertIn("apt install libgsm1", str(self.assertRaises(CodecMissing, codecs.encoder, "gsm")))
            (row,) = (each for each in foreign.support() if each.family == "gsm")
            self.assertEqual((row.sends, row.hears), ("", ""))
            self.assertIn("libgsm1", row.missing)

    def test_the_next_best_is_taken(self) -> None:
        """Without the C libraries PyAV makes them heard, and AMR is sent too."""
        need("g722")  # PyAV is here
        nowhere = Library("nothing", ("libno-such-thing.so.9",), "nothing")
        with (
            mock.patch.object(gsm, "LIBRARY", nowhere),
            mock.patch.object(amr, "LIBRARY", nowhere),
            mock.patch.object(speex, "LIBRARY", nowhere),
        ):
            found = {each.family: (each.sends, each.hears) for each in foreign.support()}
            self.assertEqual(found["gsm"], ("", "PyAV"))
            self.assertEqual(found["speex"], ("", "PyAV"))
            self.assertEqual(found["amr-nb"], ("PyAV", "PyAV"))
            row = CODECS["amr-nb"]
            decoder = codecs.decoder_of(row)
            heard = np.concatenate(
                [decoder.decode(each) for each in payloads(row, SPEECH[:96_000], 60, 12_200)]
            )
            self.assertGreater(similarity(SPEECH[:96_000], heard), 0.7)

    def test_a_listener_says_it_once(self) -> None:
        """Packets of a codec that nobody here decodes are counted, told of, and begin no burst."""
        nowhere = Library("libgsm", ("libno-such-thing.so.9",), "libgsm1")
        listener = Listener()
        with mock.patch.object(gsm, "LIBRARY", nowhere), mock.patch.object(library, "_libav", lambda: None):
            for number in range(3):
                packet = Packet(3, number, 160 * number, 7, b"\xd0" + bytes(32))
                listener.datagram(packet.encode(), 0, 1, 0.02 * number)
        self.assertEqual(dict(listener.statistics().refused), {"codec-missing": 3})
        self.assertIn("libgsm1", listener.unplayable[3])
        self.assertEqual((listener.events(), listener.statistics().talkers), ([], ()))


class EveryCodec(SynchronousTestCase):
    """What holds for each that is here."""

    def test_samples_in_are_samples_out(self) -> None:
        """In every framing each frame comes out as long as it went in, the decoder knew before, and none is larger than foretold."""
        for row in sent_here():
            for framing_ms in row.framings_ms:
                with self.subTest(name=row.name, framing_ms=framing_ms):
                    decoder = codecs.decoder_of(row)
                    for payload in payloads(row, SECOND[: 96 * framing_ms], framing_ms):
                        self.assertLessEqual(len(payload), codecs.largest_payload(row.name, framing_ms))
                        self.assertEqual(decoder.samples_48k(payload), 48 * framing_ms)
                        heard = decoder.decode(payload)
                        self.assertEqual((heard.dtype, heard.shape), (np.int16, (48 * framing_ms,)))

    def test_sizes(self) -> None:
        """A packet has the bytes that the codec's specification says."""
        for name, bitrate, framing_ms, octets in (
            ("gsm", 0, 60, 99),
            ("g722", 0, 20, 160),
            ("amr-nb", 12_200, 20, 32),
            ("amr-nb", 4_750, 60, 39),
            ("speex", 8_000, 20, 20),
            ("speex", 24_600, 60, 185),
            ("codec2-3200", 0, 20, 8),
            ("codec2-1300", 0, 120, 21),
            ("codec2-450", 0, 40, 3),
        ):
            row = CODECS[name]
            if not SUPPORT[row.family].sends:
                continue
            self.assertEqual(
                len(payloads(row, SECOND[: 48 * framing_ms], framing_ms, bitrate)[0]), octets, name
            )

    def test_speech_survives(self) -> None:
        """The words arrive, at every rate, as far as the codec lets them."""
        for row in sent_here():
            for bitrate in row.bitrates or (24_000,):
                decoder = codecs.decoder_of(row)
                framing_ms = row.framings_ms[0]
                heard = np.concatenate(
                    [decoder.decode(each) for each in payloads(row, SPEECH, framing_ms, bitrate)]
                )
                least = (
                    0.8 if bitrate > 12_000 else 0.4 if bitrate > 4_500 else 0.08
                )  # nothing like it scores 0
                self.assertGreater(similarity(SPEECH, heard), least, (row.name, bitrate))

    def test_through_a_burst(self) -> None:
        """From the microphone to the loudspeaker over RTP, a packet lost on the way: its clock is right, and one packet is missing."""
        for row in sent_here():
            encoder = codecs.encoder(row.name, framing_ms=row.framings_ms[-1])
            talker = BurstSender(encoder, chance=random.Random(2))
            listener = Listener(payload_types=PayloadMap.of(40 if row.name == "codec2-450" else None))
            talker.press(0.0)
            sendings = talker.pcm(SPEECH[:96_000]) + talker.release(0.0)
            for index, each in enumerate(sendings):
                if index != 5:
                    listener.datagram(each.payload, each.flags, 1, each.due, index)
            heard = np.concatenate([listener.pull(960, n * 0.02) for n in range(150)])
            counters = listener.statistics().counters
            self.assertEqual((counters.missing, counters.late), (1, 0), row.name)
            self.assertGreater(tones.level_dbov(heard), -45, row.name)
            self.assertEqual(dict(listener.statistics().refused), {})

    def test_concealed(self) -> None:
        """Exactly what is asked for comes, before and after anything was heard; more than a second is our mistake."""
        for row in sent_here():
            decoder = codecs.decoder_of(row)
            for _ in range(2):
                for samples in (1, 7, 960, 4_799, 48_000):
                    self.assertEqual(decoder.conceal(samples).shape, (samples,), row.name)
                decoder.decode(payloads(row, SECOND[:5_760], row.framings_ms[0])[0])
            self.assertRaises(LocalError, decoder.conceal, 48_001)
            self.assertFalse(decoder.recoverable(b"x"))

    def test_reset(self) -> None:
        """After a reset encoder and decoder are as new."""
        for row in sent_here():
            if row.family == "codec2":  # begins anew from what it finds in memory, and draws its noise anew
                continue
            framing_ms = row.framings_ms[0]
            encoder = codecs.encoder(row.name, framing_ms=framing_ms)
            decoder = codecs.decoder_of(row)
            frame = SPEECH[48_000 : 48_000 + encoder.samples]
            payload = encoder.encode(frame)
            heard = decoder.decode(payload).tobytes()
            decoder.conceal(960)
            encoder.encode(frame)
            encoder.reset()
            decoder.reset()
            self.assertEqual(encoder.encode(frame), payload, row.name)
            self.assertEqual(decoder.decode(payload).tobytes(), heard, row.name)

    def test_wrong_frames(self) -> None:
        """A frame of the wrong length or type, and a loss that is no percentage, are our mistakes."""
        for row in sent_here():
            encoder = codecs.encoder(row.name, framing_ms=row.framings_ms[0])
            for pcm in (
                np.zeros(959, np.int16),
                np.zeros(0, np.int16),
                np.zeros(encoder.samples, np.float32),
            ):
                self.assertRaises(LocalError, encoder.encode, pcm)
            encoder.expect_loss(100)
            self.assertRaises(LocalError, encoder.expect_loss, 101)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from([row for row in CODECS.values() if row.family not in NATIVE]), st.data())
    def test_any_payload(self, row: Codec, data: st.DataObject) -> None:
        """Any bytes are decoded to what was foretold, or refused by both with one name; sound comes after them as before."""
        if not SUPPORT[row.family].hears:
            return
        decoder = decoder_kept(row)
        payload = data.draw(st.binary(max_size=120) | st.binary(min_size=33, max_size=33).map(signed))
        try:
            expected = decoder.samples_48k(payload)
        except MalformedPayload as error:
            self.assertIn(error.reason, REASONS)
            self.assertRaises(MalformedPayload, decoder.decode, payload)
        else:
            self.assertTrue(0 < expected <= 9_600)
            try:
                self.assertEqual(decoder.decode(payload).shape, (expected,))
            except MalformedPayload as error:  # what only the library could see
                self.assertEqual(error.reason, "corrupt")
        self.assertEqual(len(decoder.conceal(480, payload)), 480)

    def test_empty_and_huge(self) -> None:
        """No bytes and a megabyte are refused by every decoder, before a library sees them."""
        for row in CODECS.values():
            if row.family in NATIVE or not SUPPORT[row.family].hears:
                continue
            decoder = codecs.decoder_of(row)
            for payload, reason in ((b"", "empty"), (bytes(1 << 20), "too-long")):
                error = self.assertRaises(MalformedPayload, decoder.decode, payload)
                self.assertIsInstance(error, RemoteError)
                self.assertEqual(error.reason, reason, row.name)


class TwoLibraries(SynchronousTestCase):
    """Where two libraries carry a codec, they agree."""

    def test_decoders(self) -> None:
        """The same sound from both, but for the last bits and what each does to please the ear."""
        need("g722")  # PyAV is here
        for family in ("gsm", "amr-nb", "speex"):
            if SUPPORT[family].hears == "PyAV":
                continue
            row = CODECS[family]
            ours, other = foreign.packet_decoder(row), libav.Decoder(family)
            sent = payloads(row, SPEECH, 60)
            one, two = (np.concatenate([each.decode(payload) for payload in sent]) for each in (ours, other))
            self.assertEqual(len(one), len(two))
            likeness = np.corrcoef(one.astype(float), two.astype(float))[0, 1]
            self.assertGreater(likeness, 0.98, family)

    def test_amr_encoders(self) -> None:
        """PyAV's encoder gives packets of the same rate and packing."""
        need("g722")
        need("amr-nb")
        encoder = libav.AmrEncoder(7_950)
        frames = amr.unpack(encoder.encode(np.ascontiguousarray(SPEECH[: 6 * 480 : 6])))
        self.assertEqual([frame.kind for frame in frames], [5, 5, 5])
        encoder.reset()

    def test_after_a_refusal(self) -> None:
        """PyAV's decoder goes on after bytes that FFmpeg does not like."""
        need("g722")
        decoder = libav.Decoder("g729")
        self.assertRaises(MalformedPayload, decoder.decode, bytes(7))
        self.assertEqual(len(decoder.decode(bytes(20))), 160)
        self.assertEqual(len(decoder.decode(bytes(22))), 160)
        self.assertFalse(decoder.decode(bytes(2)).any())


class Formats(SynchronousTestCase):
    """How long a packet sounds, told without its library."""

    def test_gsm(self) -> None:
        """33 bytes a frame, each beginning with 1101."""
        frame = b"\xd5" + bytes(32)
        self.assertEqual(gsm.samples(frame * 3), 480)
        for payload, reason in (
            (frame[:-1], "odd"),
            (frame + bytes(33), "corrupt"),
            (frame * 11, "too-long"),
        ):
            self.assertEqual(self.assertRaises(MalformedPayload, gsm.samples, payload).reason, reason)

    def test_g729(self) -> None:
        """Ten bytes a frame, and perhaps two of a pause behind them."""
        for size, samples in ((10, 80), (20, 160), (22, 160), (2, 80)):
            self.assertEqual(libav.g729_samples(bytes(size)), samples)
        self.assertEqual(self.assertRaises(MalformedPayload, libav.g729_samples, bytes(13)).reason, "odd")

    def test_codec2(self) -> None:
        """Whole frames of the rate, at most 200 ms."""
        need("codec2")
        decoder = codec2.Decoder(1_300)
        self.assertEqual(decoder.samples(bytes(21)), 960)
        for size, reason in ((20, "odd"), (42, "too-long"), (0, "empty")):
            self.assertEqual(self.assertRaises(MalformedPayload, decoder.samples, bytes(size)).reason, reason)

    def test_rates_of_codec2(self) -> None:
        """Every row of the table is a rate that the library has."""
        rates = {row.bitrates[0] for row in CODECS.values() if row.family == "codec2"}
        self.assertEqual(rates, set(codec2.MODES))
        self.assertEqual(set(CODECS["amr-nb"].bitrates), set(amr.BITRATES))
        self.assertEqual(set(CODECS["speex"].bitrates), set(speex.SUBMODES))
        for row in CODECS.values():
            if row.family == "codec2":
                self.assertEqual(row.frame_ms * 8, codec2.MODES[row.bitrates[0]].samples)


_KEPT: dict[str, codecs.Decoder] = {}


def decoder_kept(row: Codec) -> codecs.Decoder:
    """One decoder for all examples: what came before must not matter."""
    if row.name not in _KEPT:
        _KEPT[row.name] = codecs.decoder_of(row)
    return _KEPT[row.name]


def signed(frame: bytes) -> bytes:
    """A GSM frame by its first bits."""
    return bytes((0xD0 | frame[0] & 0x0F,)) + frame[1:]
