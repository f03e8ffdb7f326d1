"""What RTP payload types mean on a stream, for who sends and for who listens."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import codecs, engage, tones
from ice.media.burst import BurstSender
from ice.media.dtmf import Dialer
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.playout import DigitPressed, Listener
from ice.media.rtp import Packet
from ice.media.table import BY_PAYLOAD_TYPE, CODECS

OPUS, PCMU = CODECS["opus"], CODECS["pcmu"]
SECOND = tones.sine(440, 48_000, level_dbov=-20)


class Meaning(SynchronousTestCase):
    """Which codec a number stands for."""

    def test_the_table(self) -> None:
        """Without a word, numbers mean what the table says, and 101 telephone events."""
        for payload_type, row in BY_PAYLOAD_TYPE.items():
            self.assertIs(DEFAULT.codec(payload_type), row)
        self.assertEqual(DEFAULT.payload_type(OPUS), 118)
        self.assertTrue(DEFAULT.is_telephone_event(101))
        self.assertIsNone(DEFAULT.codec(101))
        self.assertEqual(PayloadMap.of(), DEFAULT)

    def test_custom_type(self) -> None:
        """It is sent and heard as the group's codec; the codec's own number is still understood."""
        types = PayloadMap.of(25, custom_payload_type=99)
        self.assertEqual(types.payload_type(OPUS), 99)
        self.assertIs(types.codec(99), OPUS)
        self.assertIs(types.codec(118), OPUS)
        self.assertEqual(types.payload_type(PCMU), 0)

    def test_translations(self) -> None:
        """An external number is what Engage's is, and goes before everything else."""
        types = PayloadMap.of(21, translations=[(96, 118), (0, 8), (118, 77), (96, 0)])
        self.assertIs(types.codec(96), OPUS)
        self.assertIs(types.codec(0), CODECS["pcma"])
        self.assertIsNone(types.codec(118))
        self.assertIn("MELPe 2400", types.explain(118))

    def test_custom_type_of_a_radio(self) -> None:
        """As for a radio: sent under its number, its number heard as ours."""
        types = PayloadMap.of(12, custom_payload_type=120, translations=[(120, 122)])
        self.assertEqual((types.codec(120), types.payload_type(CODECS["amr-nb"])), (CODECS["amr-nb"], 120))

    def test_two_of_one_number(self) -> None:
        """88 is Codec 2 at 700 bit/s, unless the group talks at 450."""
        self.assertEqual(DEFAULT.codec(88), CODECS["codec2-700"])
        self.assertEqual(PayloadMap.of(41).codec(88), CODECS["codec2-700"])
        types = PayloadMap.of(40, translations=[(100, 88)])
        self.assertEqual((types.codec(88), types.codec(100)), (CODECS["codec2-450"],) * 2)

    def test_telephone_events(self) -> None:
        """Another number, none, and a translated one."""
        self.assertTrue(PayloadMap.of(telephone_event=97).is_telephone_event(97))
        self.assertIsNone(PayloadMap.of(telephone_event=97).codec(97))
        self.assertFalse(PayloadMap.of(telephone_event=97).is_telephone_event(101))
        self.assertFalse(PayloadMap.of(telephone_event=0).is_telephone_event(101))
        types = PayloadMap.of(telephone_event=101, translations=[(110, 101), (101, 0)])
        self.assertTrue(types.is_telephone_event(110))
        self.assertFalse(types.is_telephone_event(101))
        self.assertIs(types.codec(101), PCMU)

    def test_unsupported_encoder(self) -> None:
        """A group that talks MELPe still hears what it can, and its custom number is nothing we know."""
        types = PayloadMap.of(52, custom_payload_type=118)
        self.assertIsNone(types.codec(118))
        self.assertIs(types.codec(0), PCMU)

    def test_impossible(self) -> None:
        """Numbers of more than seven bits, ids that are none, one number for sound and keys."""
        for wrong in (
            lambda: PayloadMap.of(99),
            lambda: PayloadMap.of(21, custom_payload_type=128),
            lambda: PayloadMap.of(21, custom_payload_type=-2),
            lambda: PayloadMap.of(translations=[(300, 0)]),
            lambda: PayloadMap.of(translations=[(0, -1)]),
            lambda: PayloadMap.of(telephone_event=128),
            lambda: PayloadMap.of(21, custom_payload_type=101),
        ):
            self.assertRaises(LocalError, wrong)

    def test_keys_under_the_number_of_a_codec(self) -> None:
        """A number that a translation calls telephone events is no sound any more."""
        types = PayloadMap.of(translations=[(0, 101)])
        self.assertTrue(types.is_telephone_event(0))
        self.assertIsNone(types.codec(0))

    @settings(max_examples=100, deadline=None)
    @given(
        st.none() | st.sampled_from(list(engage.ENCODERS)),
        st.integers(-1, 127),
        st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127)), max_size=5),
        st.none() | st.integers(0, 127),
    )
    def test_any_agreement(
        self, encoder_id: int | None, custom: int, translations: list[tuple[int, int]], event: int | None
    ) -> None:
        """Each number is one thing: a codec, keys, or nothing; and what a group sends it hears, unless a translation says otherwise."""
        try:
            types = PayloadMap.of(
                encoder_id, custom_payload_type=custom, translations=translations, telephone_event=event
            )
        except LocalError:
            self.assertEqual(custom, event)
            return
        for payload_type in range(128):
            self.assertFalse(types.codec(payload_type) is not None and types.is_telephone_event(payload_type))
            self.assertIn(str(payload_type), types.explain(payload_type))
        if encoder_id is not None and engage.encoder_of(encoder_id).codec and not translations:
            row = engage.encoder_of(encoder_id).row
            if types.payload_type(row) != event:
                self.assertEqual(types.codec(types.payload_type(row)), row)


class BothEnds(SynchronousTestCase):
    """A sender and a listener with an agreement of their own."""

    def talk(
        self, types: PayloadMap, heard_as: PayloadMap, codec: str = "pcmu"
    ) -> tuple[list[Packet], Listener]:
        """Half a second of sound and a key."""
        talker = BurstSender(codecs.encoder(codec), payload_types=types, chance=random.Random(4))
        listener = Listener(payload_types=heard_as)
        talker.press(0.0)
        sendings = talker.pcm(SECOND[:9_600])
        if types.telephone_event is not None:
            dialer = Dialer(talker._encoder.codec.clock_rate)
            dialer.press("7", 0.2, talker.timestamp)
            sendings += [talker.event(each, 0.2) for each in dialer.due(0.2)]
        sendings += talker.release(0.2)
        for each in sendings:
            listener.datagram(each.payload, each.flags, 9, each.due)
        return [Packet.decode(each.payload) for each in sendings], listener

    def test_custom_numbers_are_heard(self) -> None:
        """Sound and keys under numbers of the group's own."""
        types = PayloadMap.of(1, custom_payload_type=111, telephone_event=99)
        packets, listener = self.talk(types, types)
        self.assertEqual({each.payload_type for each in packets}, {111, 99})
        sound = np.concatenate([listener.pull(960, 0.05 + n * 0.02) for n in range(12)])
        self.assertGreater(tones.level_dbov(sound), -24)
        self.assertEqual([each.digit for each in listener.events() if isinstance(each, DigitPressed)], ["7"])
        self.assertEqual(dict(listener.statistics().refused), {})

    def test_numbers_that_nobody_agreed_on(self) -> None:
        """They are counted, and a sentence says what to do, once per number."""
        packets, listener = self.talk(PayloadMap.of(1, custom_payload_type=111, telephone_event=0), DEFAULT)
        self.assertEqual(dict(listener.statistics().refused), {"payload-type": len(packets)})
        self.assertEqual(list(listener.unplayable), [111])
        self.assertIn("translation", listener.unplayable[111])

    def test_melpe_is_named(self) -> None:
        """A radio that talks MELPe is told by name."""
        listener = Listener()
        listener.datagram(Packet(77, 1, 2, 3, bytes(7), True, (), None).encode(), 0, 1, 0.0)
        self.assertIn("MELPe 2400 (STANAG 4591)", listener.unplayable[77])

    def test_no_keys(self) -> None:
        """Where the group has no telephone events, none are sent and none heard."""
        off = PayloadMap.of(telephone_event=0)
        talker = BurstSender(codecs.encoder("pcmu"), payload_types=off)
        talker.press(0.0)
        dialer = Dialer(8_000)
        dialer.press("1", 0.0, 0)
        with self.assertRaisesRegex(LocalError, "rfc4733RtpPayloadId"):
            talker.event(dialer.due(0.0)[0], 0.0)
        _, listener = self.talk(DEFAULT, off)
        self.assertEqual(listener.statistics().refused["payload-type"], 1)
