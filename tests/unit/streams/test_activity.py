"""Who is active on a group, on paper: voices, belief, rates, loss, what cannot be read."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media.rtp import Packet, Talk
from ice.net.addresses import Address
from ice.streams import activity
from ice.streams.activity import LEVELS, SILENCE_S, Activity, Began, Ended, Voice, codec_name, total

RADIO, PHONE = Address("192.0.2.7", 40_000), Address("192.0.2.8", 40_002)


def packet(number: int, ssrc: int = 1, payload_type: int = 0, talk: Talk | None = None) -> bytes:
    """20 ms of something."""
    extension = None if talk is None else talk.to_extension()
    return Packet(
        payload_type, number & 0xFFFF, number * 160 & 0xFFFF_FFFF, ssrc, bytes(160), extension=extension
    ).encode()


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.activity = Activity()
        self.now = 1_000.001

    def say(
        self, count: int, *, start: int = 0, sender: Address = RADIO, ssrc: int = 1, payload_type: int = 0
    ) -> None:
        """Packets every 20 ms."""
        for number in range(start, start + count):
            self.activity.heard(packet(number, ssrc, payload_type), sender, self.now)
            self.now += 0.02

    def voices(self) -> tuple[Voice, ...]:
        return self.activity.voices(self.now)


class Voices(Case):
    def test_one(self) -> None:
        """A talker: who, what, how much, without loss and jitter."""
        self.say(100)
        (voice,) = self.voices()
        self.assertEqual((voice.sender, voice.ssrc, voice.codec), (RADIO, 1, "pcmu"))
        self.assertEqual((voice.packets, voice.bytes, voice.lost, voice.active), (100, 17_200, 0, True))
        self.assertAlmostEqual(voice.packets_per_s, 50, places=0)
        self.assertAlmostEqual(voice.kbit_per_s, 68.8, places=0)
        self.assertLess(voice.jitter_ms or 0, 0.01)
        self.assertEqual((sum(voice.levels), len(voice.levels)), (100, LEVELS))

    def test_several(self) -> None:
        """The same SSRC from two senders is two voices, and so are two SSRCs of one sender; they stand in the order of beginning."""
        self.say(3)
        self.say(3, sender=PHONE)
        self.say(3, ssrc=2)
        self.assertEqual(
            [(each.sender, each.ssrc) for each in self.voices()], [(RADIO, 1), (PHONE, 1), (RADIO, 2)]
        )
        packets, kbit = total(self.voices())
        self.assertTrue(packets > 9 and kbit > 0)

    def test_loss(self) -> None:
        """Gaps in the numbers are losses; a burst's own are told at its end, and a pause is none."""
        self.say(50)
        self.say(50, start=60)
        self.activity.look(self.now)
        self.now += 1.0
        (ended,) = self.activity.look(self.now)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.voice.lost, ended.voice.burst_lost, ended.voice.burst_packets), (10, 10, 100))
        self.assertAlmostEqual(ended.seconds, 1.98, places=2)
        self.say(50, start=110)
        self.activity.look(self.now)
        self.now += 1.0
        (ended,) = self.activity.look(self.now)
        self.assertEqual((ended.voice.lost, ended.voice.burst_lost, ended.voice.burst_packets), (10, 0, 50))

    def test_jitter(self) -> None:
        """Packets that come late now and then have jitter (RFC 3550 A.8)."""
        for number in range(200):
            self.activity.heard(packet(number), RADIO, self.now + (number % 2) * 0.01)
            self.now += 0.02
        (voice,) = self.voices()
        self.assertAlmostEqual(voice.jitter_ms or 0, 10, places=2)

    def test_unknown_clock(self) -> None:
        """Without a clock there is no jitter, and a number is a number."""
        self.say(5, payload_type=99)
        (voice,) = self.voices()
        self.assertEqual((voice.codec, voice.jitter_ms), ("type 99", None))
        self.assertEqual(codec_name(8), "pcma")

    def test_digits(self) -> None:
        """Digits and comfort noise in between do not change what a talker's codec is called."""
        self.say(3, payload_type=8)
        self.say(3, start=3, payload_type=101)
        self.say(3, start=6, payload_type=13)
        (voice,) = self.voices()
        self.assertEqual(voice.codec, "pcma")

    def test_alias(self) -> None:
        """Who says his name in a header extension has it."""
        for number in range(3):
            self.activity.heard(packet(number, talk=Talk("Anna")), RADIO, self.now)
        self.assertEqual([each.alias for each in self.voices()], ["Anna"])

    def test_beginning_and_end(self) -> None:
        """Each burst begins once and ends once, when nothing has come for a while."""
        self.assertEqual(self.activity.look(self.now), [])
        self.say(1)
        self.assertEqual(self.activity.look(self.now), [], "one packet is nobody")
        self.say(1, start=1)
        (began,) = self.activity.look(self.now)
        self.assertIsInstance(began, Began)
        self.assertEqual(self.activity.look(self.now), [])
        self.now += SILENCE_S
        (ended,) = self.activity.look(self.now)
        self.assertIsInstance(ended, Ended)
        self.assertFalse(ended.voice.active)
        self.assertEqual(self.activity.look(self.now + 9), [])
        self.say(1, start=2)
        self.assertIsInstance(self.activity.look(self.now)[0], Began)

    def test_levels(self) -> None:
        """Each second has its count; what is older than ten seconds is forgotten, and silence is nothing."""
        self.say(50)
        self.now += 3.0
        self.say(25, start=50)
        (voice,) = self.voices()
        self.assertEqual(voice.levels[-5:], (50, 0, 0, 0, 25))
        self.now += LEVELS + 1
        (voice,) = self.voices()
        self.assertEqual((sum(voice.levels), voice.packets_per_s), (0, 0.0))


class Belief(Case):
    def test_sealed_by_surprise(self) -> None:
        """A sender of what cannot be RTP is one voice without a codec; of what it sends afterwards nothing is read."""
        self.activity.heard(packet(1), RADIO, self.now)
        self.activity.heard(b"\x11" * 40, RADIO, self.now)
        self.say(5)
        (voice,) = self.voices()
        self.assertEqual(
            (voice.ssrc, voice.codec, voice.packets, voice.jitter_ms), (None, "not RTP", 6, None)
        )

    def test_sealed(self) -> None:
        """On a sealed group nothing is read."""
        self.activity = Activity(sealed=True)
        self.say(5)
        (voice,) = self.voices()
        self.assertEqual((voice.ssrc, voice.codec, voice.packets), (None, "sealed", 5))

    def test_chance(self) -> None:
        """Bytes that look like RTP by chance, each with another SSRC, are nobody."""
        for number in range(50):
            self.activity.heard(packet(number * 777, ssrc=number), RADIO, self.now)
        self.assertEqual((self.voices(), self.activity.look(self.now)), ((), []))
        self.assertEqual(self.activity.packets, 50)

    def test_numbers_that_do_not_follow(self) -> None:
        """A voice is believed when a number follows; a wild first one only delays that."""
        for number in (9_000, 30_000, 30_000):
            self.activity.heard(packet(number), RADIO, self.now)
        self.assertEqual(self.voices(), ())
        self.activity.heard(packet(30_002), RADIO, self.now)
        self.assertEqual(len(self.voices()), 1)

    def test_rtcp(self) -> None:
        """RTCP on the same port is counted and is nobody."""
        for _ in range(3):
            self.activity.heard(b"\x80\xc8\x00\x06" + bytes(24), RADIO, self.now)
        self.assertEqual((self.voices(), self.activity.control), ((), 3))

    def test_bounded(self) -> None:
        """Of too many the one silent longest goes."""
        self.patch(activity, "MAX_VOICES", 4)
        for ssrc in range(6):
            self.say(2, ssrc=ssrc)
            self.say(2, ssrc=0, start=2 + 2 * ssrc)
        self.assertEqual(sorted(each.ssrc or 0 for each in self.voices()), [0, 3, 4, 5])
        self.assertEqual(self.activity.forgotten, 2)
        for port in range(9):
            self.activity.heard(b"\x11", Address("192.0.2.9", port), self.now)
        self.assertLessEqual(len(self.voices()), 4)
        self.assertLessEqual(len(self.activity._opaque), 4)

    def test_anything(self) -> None:
        """No bytes hurt."""

        @settings(max_examples=100, deadline=None, database=None)
        @given(st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"\x90\x00" + data)))
        def survives(datagrams: list[bytes]) -> None:
            watched = Activity()
            for data in datagrams:
                watched.heard(data, RADIO, self.now)
            self.assertEqual(watched.packets, len(datagrams))
            watched.look(self.now)
            for voice in watched.voices(self.now):
                self.assertGreaterEqual(voice.lost, 0)

        survives()
