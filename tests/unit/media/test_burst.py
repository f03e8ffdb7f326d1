"""Bursts as they are sent: whole at both ends, marked, counted, and due in their time."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import codecs
from ice.media.burst import END_COPIES, BurstSender, Sending
from ice.media.dtmf import Dialer
from ice.media.payload import Pcm
from ice.media.rtp import Packet, Talk, TalkFlag


def sound(samples: int) -> Pcm:
    """A ramp in which every sample of a burst can be told from the others."""
    return np.arange(1, samples + 1, dtype=np.int16)


def sender(name: str = "l16", framing_ms: int = 20, **settings: object) -> BurstSender:
    """A sender with predictable counts."""
    dtx = bool(settings.pop("dtx", False))
    encoder = codecs.encoder(name, framing_ms=framing_ms, dtx=dtx)
    return BurstSender(encoder, chance=random.Random(5), **settings)  # type: ignore[arg-type]


def packets(sendings: list[Sending]) -> list[Packet]:
    return [Packet.decode(each.payload) for each in sendings]


class Whole(SynchronousTestCase):
    """Nothing is lost at either end."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, 3_000), max_size=8), st.sampled_from((20, 40, 60, 80, 100)))
    def test_every_sample_is_sent(self, pieces: list[int], framing_ms: int) -> None:
        """Whatever the pieces: all samples in order, then at least 10 ms of silence, in whole frames."""
        talker = sender(framing_ms=framing_ms)
        talker.press(0.0)
        spoken = sound(sum(pieces))
        sendings, start = [], 0
        for piece in pieces:
            sendings += talker.pcm(spoken[start : start + piece])
            start += piece
        sendings += talker.release(9.9)
        if not len(spoken):
            self.assertEqual(sendings, [])
            return
        heard = np.concatenate(
            [
                np.frombuffer(each.payload, ">i2").astype(np.int16)
                for each in packets(sendings)[: 1 - END_COPIES]
            ]
        )
        self.assertEqual(heard[: len(spoken)].tolist(), spoken.tolist())
        self.assertFalse(heard[len(spoken) :].any())
        tail = len(heard) - len(spoken)
        self.assertTrue(480 <= tail < 480 + 48 * framing_ms)

    def test_opus_is_flushed(self) -> None:
        """A click in the very last millisecond comes out of the far decoder."""
        talker = sender("opus")
        talker.press(0.0)
        spoken = np.zeros(4 * 960, np.int16)
        spoken[-48:] = 20_000
        sendings = talker.pcm(spoken) + talker.release(0.08)
        decoder = codecs.decoder(118)
        heard = np.concatenate([decoder.decode(each.payload) for each in packets(sendings)[: 1 - END_COPIES]])
        self.assertGreater(np.abs(heard[-960:]).max(), 2_000)


class Marks(SynchronousTestCase):
    """What says that a burst begins and ends, and who talks."""

    def test_flags_marker_and_extension(self) -> None:
        """FIRST with the RTP marker, LAST with its copies, the extension on the first five, every tenth and the last."""
        talker = sender(alias="Anna", priority=7, emergency=True, node_id=bytes(range(16)))
        talker.press(0.0)
        sendings = talker.pcm(sound(24 * 960)) + talker.release(0.48)
        came = packets(sendings)
        self.assertEqual(sendings[0].flags, Flag.URGENT | Flag.FIRST)
        self.assertEqual([each.flags for each in sendings[1:-3]], [Flag.URGENT] * 23)
        self.assertEqual([each.flags for each in sendings[-3:]], [Flag.URGENT | Flag.LAST] * 3)
        self.assertEqual([each.marker for each in came], [True] + [False] * 26)
        carrying = [index for index, each in enumerate(came) if each.extension is not None]
        self.assertEqual(carrying, [0, 1, 2, 3, 4, 10, 20, 24, 25, 26])
        talk = Talk.from_extension(came[0].extension)
        self.assertEqual((talk.alias, talk.priority, talk.node_id), ("Anna", 7, bytes(range(16))))
        self.assertEqual(talk.flags, TalkFlag.EMERGENCY | TalkFlag.BURST_START)
        self.assertEqual(Talk.from_extension(came[10].extension).flags, TalkFlag.EMERGENCY)
        self.assertEqual(
            Talk.from_extension(came[-1].extension).flags, TalkFlag.EMERGENCY | TalkFlag.BURST_END
        )

    def test_copies_of_the_end_are_the_same_bytes(self) -> None:
        """Three times the last packet, 20 ms apart, so that a listener can tell them as copies."""
        talker = sender()
        talker.press(10.0)
        sendings = talker.pcm(sound(960)) + talker.release(10.02)
        self.assertEqual(len({each.payload for each in sendings[-3:]}), 1)
        self.assertEqual([round(each.due, 6) for each in sendings], [10.0, 10.02, 10.04, 10.06])

    def test_the_wire(self) -> None:
        """One short burst of µ-law, byte for byte up to the sound."""
        talker = sender("pcmu", alias="Bo")
        talker.press(0.0)
        first, last, *_ = talker.pcm(np.zeros(960, np.int16)) + talker.release(0.02)
        rest = random.Random(5)
        ssrc, sequence, start = rest.getrandbits(32), rest.getrandbits(16), rest.getrandbits(32)
        head = f"{sequence:04x} {start:08x} {ssrc:08x}"
        self.assertEqual(
            first.payload[:28].hex(),
            f"90 80 {head} 1000 0002 1002 426f 1201 02 00".replace(" ", "") + "ffff" * 2,
        )
        self.assertEqual(len(first.payload), 12 + 4 + 8 + 160)
        self.assertEqual(last.payload[:2].hex(), "9000")


class Missions(SynchronousTestCase):
    """What a mission's group may ask for."""

    def carrying(self, frames: int, **settings: object) -> list[bool]:
        """Which packets of a burst carry the header extension, copies of the end among them."""
        talker = sender(alias="Anna", **settings)
        talker.press(0.0)
        return [
            each.extension is not None
            for each in packets(talker.pcm(sound(frames * 960)) + talker.release(0.0))
        ]

    def test_how_many_extensions(self) -> None:
        """initialHeaderBurst, extensionSendInterval and trailingHeaderBurst."""
        came = self.carrying(11, extension_first=2, extension_every=4, end_copies=5)
        self.assertEqual(
            [index for index, there in enumerate(came) if there], [0, 1, 4, 8, 11, 12, 13, 14, 15]
        )
        came = self.carrying(11, extension_first=0, extension_every=0, end_copies=0)
        self.assertEqual([index for index, there in enumerate(came) if there], [11])

    def test_plain_rtp(self) -> None:
        """noHdrExt: twelve bytes and the sound, each packet once, the first one marked."""
        talker = sender("pcmu", alias="Anna", priority=9, emergency=True, extension=False)
        talker.press(0.0)
        sendings = talker.pcm(sound(3 * 960)) + talker.release(0.06)
        self.assertEqual({len(each.payload) for each in sendings}, {172})
        self.assertEqual([each.payload[:2].hex() for each in sendings], ["8080", "8000", "8000", "8000"])
        self.assertEqual(len({each.payload for each in sendings}), 4)
        self.assertEqual(sendings[-1].flags, Flag.URGENT | Flag.LAST)
        self.assertEqual(talker.datagrams, 4)

    def test_impossible(self) -> None:
        """Counts below zero and beyond sense are refused by name."""
        for wrong in ({"extension_first": -1}, {"extension_every": 1_001}, {"end_copies": -5}):
            with self.assertRaisesRegex(LocalError, "header extensions"):
                sender(**wrong)

    def test_an_encoder_by_id(self) -> None:
        """The mission's encoder id and framing give the codec at its rate; what cannot be carried is named."""
        for encoder_id, framing_ms, name, octets in (
            (29, 60, "opus", 180),
            (21, 20, "opus", 20),
            (1, 100, "pcmu", 800),
        ):
            encoder = codecs.encoder_of(encoder_id, framing_ms, fec=False)
            self.assertEqual((encoder.codec.name, encoder.framing_ms), (name, framing_ms))
            noise = np.random.default_rng(2).integers(-3_000, 3_000, encoder.samples).astype(np.int16)
            self.assertTrue(0.5 * octets < len(encoder.encode(noise)) < 1.5 * octets)
        with self.assertRaisesRegex(LocalError, "MELPe 1200"):
            codecs.encoder_of(51)


class Counts(SynchronousTestCase):
    """Sequence numbers, timestamps, SSRC."""

    def test_counts_go_on_from_burst_to_burst(self) -> None:
        """Same SSRC, next number, and timestamps as far apart as the presses were."""
        talker = sender()
        talker.press(100.0)
        first = packets(talker.pcm(sound(960)) + talker.release(100.02))
        talker.press(110.0)
        second = packets(talker.pcm(sound(960)) + talker.release(110.02))
        self.assertEqual(second[0].ssrc, first[0].ssrc)
        self.assertEqual((second[0].sequence - first[-1].sequence) & 0xFFFF, 1)
        self.assertEqual((second[0].timestamp - first[0].timestamp) & 0xFFFF_FFFF, 480_000)

    def test_a_file_sent_faster_than_it_sounds(self) -> None:
        """Released and pressed again before its media time is over: timestamps still never go back."""
        talker = sender()
        talker.press(0.0)
        first = packets(talker.pcm(sound(9_600)) + talker.release(0.0))
        talker.press(0.01)
        second = packets(talker.pcm(sound(960)))
        self.assertGreater((second[0].timestamp - first[-1].timestamp) & 0xFFFF_FFFF, 0)
        self.assertLess((second[0].timestamp - first[-1].timestamp) & 0xFFFF_FFFF, 10_000)

    def test_everything_anew_where_asked(self) -> None:
        """resetRtpOnTx: another SSRC, another number, another timestamp."""
        talker = sender(reset_each_burst=True)
        talker.press(0.0)
        (first, *_) = packets(talker.pcm(sound(960)) + talker.release(0.02))
        talker.press(1.0)
        (second, *_) = packets(talker.pcm(sound(960)))
        self.assertNotEqual(first.ssrc, second.ssrc)
        self.assertNotEqual((first.timestamp + 48_000) & 0xFFFF_FFFF, second.timestamp)

    def test_dtx_leaves_packets_out_and_no_numbers(self) -> None:
        """Two seconds of silence are few packets with one number after another and timestamps that keep the time."""
        talker = sender("opus", dtx=True)
        talker.press(0.0)
        sendings = talker.pcm(np.zeros(100 * 960, np.int16)) + talker.release(2.0)
        came = packets(sendings)
        self.assertLess(len(came), 60)
        numbers = [(each.sequence - came[0].sequence) & 0xFFFF for each in came[:-2]]
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertEqual((came[-1].timestamp - came[0].timestamp) & 0xFFFF_FFFF, 100 * 960)
        self.assertEqual(sendings[-1].flags, Flag.LAST)
        self.assertTrue(came[-1].payload)
        for sending, packet in zip(sendings[:-2], came[:-2], strict=True):
            ticks = (packet.timestamp - came[0].timestamp) & 0xFFFF_FFFF
            self.assertTrue(abs(sending.due - ticks / 48_000) < 1e-6)

    def test_keys_share_the_numbers(self) -> None:
        """A telephone event takes the next number between two frames of sound."""
        talker = sender("pcmu")
        talker.press(0.0)
        before = packets(talker.pcm(np.zeros(960, np.int16)))
        dialer = Dialer(8_000)
        dialer.press("5", 0.02, talker.timestamp)
        (event,) = packets([talker.event(each, 0.02) for each in dialer.due(0.02)])
        after = packets(talker.pcm(np.zeros(960, np.int16)))
        self.assertEqual((event.payload_type, event.marker), (101, True))
        self.assertEqual(event.timestamp, after[0].timestamp)
        self.assertEqual([(each.sequence - before[0].sequence) & 0xFFFF for each in (event, *after)], [1, 2])


class Translators(SynchronousTestCase):
    """Who makes somebody else's burst anew: patches."""

    def test_the_talkers_ssrc_is_kept(self) -> None:
        """A given SSRC is used, from burst to burst, whatever else begins anew."""
        sender = BurstSender(codecs.encoder("pcmu"), ssrc=0x1234, reset_each_burst=True)
        for now in (0.0, 1.0):
            sender.press(now)
            self.assertEqual(Packet.decode(sender.pcm(np.zeros(960, np.int16))[0].payload).ssrc, 0x1234)
            sender.release(now)

    def test_a_name_that_becomes_known(self) -> None:
        """Who talks may change amid a burst; the next packets say it as often as the first ones did."""
        sender = BurstSender(codecs.encoder("pcmu"), extension_first=2, extension_every=0)
        sender.press(0.0)

        def said() -> str | None:
            packet = Packet.decode(sender.pcm(np.zeros(960, np.int16))[0].payload)
            return packet.extension and Talk.from_extension(packet.extension).alias

        before = [said() for _ in range(3)]
        sender.talk = Talk("Ada", 7)
        self.assertEqual((before, [said() for _ in range(3)]), (["", None, None], ["Ada", "Ada", None]))


class Misuse(SynchronousTestCase):
    """Calls in an order that makes no sense."""

    def test_outside_a_burst(self) -> None:
        """Sound, release or keys without a press, and a second press, are local errors."""
        talker = sender()
        with self.assertRaisesRegex(LocalError, "press before"):
            talker.pcm(sound(1))
        with self.assertRaisesRegex(LocalError, "press before"):
            talker.release(0.0)
        talker.press(0.0)
        with self.assertRaisesRegex(LocalError, "release it"):
            talker.press(0.0)

    def test_another_kind_of_sound(self) -> None:
        """Floats and stereo are refused with what was expected."""
        talker = sender()
        talker.press(0.0)
        with self.assertRaisesRegex(LocalError, "int16"):
            talker.pcm(np.zeros(960, np.float32))  # type: ignore[arg-type]
        with self.assertRaisesRegex(LocalError, "2 dimensions"):
            talker.pcm(np.zeros((960, 2), np.int16))

    def test_pressed_and_released(self) -> None:
        """A press without a sound sends nothing and costs nothing."""
        talker = sender()
        talker.press(0.0)
        self.assertEqual(talker.release(0.5), [])
        self.assertFalse(talker.pressed)
        self.assertEqual((talker.datagrams, talker.bursts), (0, 0))
