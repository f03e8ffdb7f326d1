"""A listener at the end of a stream: what several talkers sound like, who talks, and what is counted."""

from __future__ import annotations

import random
import time
from pathlib import Path

import attrs
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import ice.testing
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media import codecs, wav
from ice.media.burst import BurstSender
from ice.media.dtmf import Dialer
from ice.media.mixer import level_dbov
from ice.media.payload import Pcm
from ice.media.playout import (
    TALKERS_PER_SOURCE,
    BurstBegan,
    BurstEnded,
    DigitPressed,
    Event,
    Listener,
    TalkerNamed,
)
from ice.media.probe import Kind, Probe
from ice.media.quality import compare
from ice.media.rtp import Packet

BLOCK = 960
SPEECH = wav.read(Path(ice.testing.__file__).parent / "data" / "speech.wav")


def tone(hertz: float, seconds: float, amplitude: float = 8_000) -> Pcm:
    n = np.arange(round(seconds * 48_000))
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * n / 48_000)).astype(np.int16)


def amount(pcm: Pcm, hertz: float) -> float:
    """The amplitude of one frequency in a sound."""
    n = np.arange(len(pcm))
    return float(abs(np.dot(pcm.astype(float), np.exp(-2j * np.pi * hertz * n / 48_000)))) * 2 / len(pcm)


@attrs.frozen(order=True)
class Flying:
    """A datagram between talker and listener."""

    at: float
    order: int
    flags: int = attrs.field(order=False)
    payload: bytes = attrs.field(order=False)
    source: int = attrs.field(order=False)
    sequence: int | None = attrs.field(order=False, default=None)


@attrs.define
class Room:
    """A listener, what flies towards it, and what it heard; pulled in blocks of 20 ms."""

    listener: Listener = attrs.field(factory=Listener)
    now: float = 100.0
    flying: list[Flying] = attrs.field(factory=list)
    sound: list[Pcm] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    numbers: dict[int, int] = attrs.field(factory=dict)

    def say(
        self,
        pcm: Pcm,
        source: int = 1,
        *,
        talker: BurstSender | None = None,
        codec: str = "l16",
        delay_s: float = 0.03,
        lost: frozenset[int] = frozenset(),
        after: float = 0.0,
        **who: object,
    ) -> BurstSender:
        """Let a source say something from now on; datagrams with an index in ``lost`` do not arrive."""
        talker = talker or BurstSender(codecs.encoder(codec), chance=random.Random(source), **who)  # type: ignore[arg-type]
        start = self.now + after
        talker.press(start)
        for index, sending in enumerate(talker.pcm(pcm) + talker.release(start)):
            number = self.numbers.get(source, 0)
            self.numbers[source] = number + 1
            if index not in lost:
                self.flying.append(
                    Flying(
                        sending.due + delay_s,
                        len(self.flying),
                        sending.flags,
                        sending.payload,
                        source,
                        number & 0xFFFF_FFFF,
                    )
                )
        return talker

    def listen(self, seconds: float) -> Pcm:
        """Let time pass; what was heard meanwhile."""
        self.flying.sort()
        heard = []
        for _ in range(round(seconds * 50)):
            while self.flying and self.flying[0].at <= self.now + 1e-9:
                each = self.flying.pop(0)
                self.listener.datagram(each.payload, each.flags, each.source, each.at, each.sequence)
            heard.append(self.listener.pull(BLOCK, self.now))
            self.events += self.listener.events()
            self.now += 0.02
        self.sound += heard
        return np.concatenate(heard)

    def of(self, kind: type) -> list[Event]:
        return [each for each in self.events if isinstance(each, kind)]


class Hearing(SynchronousTestCase):
    """What comes out."""

    def test_a_burst_is_heard_bit_for_bit(self) -> None:
        """Linear PCM over a good network: every sample of the burst, in place, and silence around it."""
        room = Room()
        spoken = np.random.default_rng(1).integers(-9_000, 9_000, 30_000).astype(np.int16)
        room.say(spoken)
        heard = room.listen(1.2)
        start = int(np.flatnonzero(heard)[0])
        self.assertEqual(heard[start : start + len(spoken)].tolist(), spoken.tolist())
        self.assertFalse(heard[start + len(spoken) :].any())
        self.assertLess(start, round(0.12 * 48_000))

    def test_every_codec_from_end_to_end(self) -> None:
        """A tone through each codec comes out as a tone of that loudness and length."""
        for codec in ("opus", "pcmu", "pcma", "l16"):
            room = Room()
            room.say(tone(440, 1.0), codec=codec)
            heard = room.listen(1.4)
            self.assertTrue(7_000 < amount(heard[12_000:36_000], 440) < 9_000, codec)
            self.assertEqual(room.listener.statistics().counters.missing, 0)

    def test_speech_from_end_to_end(self) -> None:
        """A real sentence through Opus on a calm network is what the codec alone makes of it, sample for sample."""
        room = Room()
        room.say(SPEECH, codec="opus")
        decoder = codecs.decoder(118)
        sent = [Packet.decode(each.payload) for each in sorted(room.flying)][:-2]
        alone = np.concatenate([decoder.decode(each.payload) for each in sent])
        heard = room.listen(7.0)
        place = round(compare(alone, heard).offset_ms / 20) * BLOCK
        self.assertEqual(heard[place : place + len(alone)].tolist(), alone.tolist())
        self.assertGreater(compare(SPEECH, heard).score, 0.98)

    def test_speech_through_a_bad_network(self) -> None:
        """Two in a hundred packets lost and 60 ms of jitter: what arrives is still the sentence."""
        room = Room()
        room.say(SPEECH, codec="opus", lost=frozenset(range(7, 300, 50)))
        chance = random.Random(6)
        room.flying = [attrs.evolve(each, at=each.at + chance.random() * 0.06) for each in room.flying]
        heard = room.listen(7.5)
        counters = room.listener.statistics().counters
        self.assertEqual((counters.lost, len(room.of(BurstEnded))), (6, 1))
        self.assertGreater(counters.recovered, 2)
        self.assertGreater(compare(SPEECH, heard).score, 0.85)

    def test_several_talkers_are_mixed(self) -> None:
        """Three at once, each through another codec and begun at another time: all three are in the sound."""
        room = Room()
        for source, (codec, hertz) in enumerate((("opus", 300.0), ("pcma", 700.0), ("l16", 1_100.0)), 1):
            room.say(tone(hertz, 1.0, 5_000), source, codec=codec, after=0.03 * source, alias=codec)
        heard = room.listen(0.5)
        self.assertEqual(len(room.listener.talking(room.now)), 3)
        for hertz in (300.0, 700.0, 1_100.0):
            self.assertTrue(4_000 < amount(heard[-12_000:], hertz) < 6_000)
        room.listen(1.5)
        self.assertEqual(len(room.of(BurstEnded)), 3)

    def test_muted(self) -> None:
        """Who is muted is not heard, but followed: his burst begins, is shown and ends, and he is heard again from the moment that he may be."""
        room = Room()
        anna = room.say(tone(300, 1.5), 1, alias="Anna")
        bob = room.say(tone(700, 1.5), 2, alias="Bob")
        room.listen(0.4)
        room.listener.muted = frozenset({bob.ssrc})
        heard = room.listen(0.4)
        self.assertGreater(amount(heard, 300), 7_000)
        self.assertLess(amount(heard, 700), 1)
        self.assertEqual({each.alias for each in room.listener.talking(room.now)}, {"Anna", "Bob"})
        room.listener.muted = frozenset({anna.ssrc})
        heard = room.listen(0.4)
        self.assertLess(amount(heard, 300), 1)
        self.assertGreater(amount(heard, 700), 7_000)
        room.listen(1.0)
        self.assertEqual(len(room.of(BurstEnded)), 2)
        self.assertEqual(room.listener.statistics().counters.missing, 0)

    def test_muted_before_the_first_word(self) -> None:
        """Who is muted when he begins is told all the same, and nothing of him is in the sound."""
        room = Room()
        bob = BurstSender(codecs.encoder("l16"), chance=random.Random(2))
        room.listener.muted = frozenset({bob.ssrc})
        room.say(tone(700, 0.5), 2, talker=bob)
        self.assertFalse(room.listen(1.5).any())
        self.assertEqual((len(room.of(BurstBegan)), len(room.of(BurstEnded))), (1, 1))
        self.assertTrue(room.listener.idle)

    def test_gain_per_talker(self) -> None:
        """One of two turned off, the other turned down; kept for the next burst; nonsense is refused."""
        room = Room()
        room.listener.set_gain(1, 0.0)
        room.listener.set_gain(2, 0.5)
        room.say(tone(300, 0.6), 1)
        room.say(tone(700, 0.6), 2)
        heard = room.listen(0.5)[-9_600:]
        self.assertLess(amount(heard, 300), 50)
        self.assertTrue(3_800 < amount(heard, 700) < 4_200)
        with self.assertRaisesRegex(LocalError, "0–16"):
            room.listener.set_gain(1, -1)

    def test_a_lost_packet_is_hidden(self) -> None:
        """Opus with one packet in the middle missing: no hole in the tone, and a lost packet in the counters."""
        room = Room()
        room.say(tone(440, 1.0), codec="opus", lost=frozenset({25}))
        heard = room.listen(1.4)
        levels = [level_dbov(heard[start : start + 480]) for start in range(14_400, 40_000, 480)]
        self.assertGreater(min(levels), -25)
        self.assertEqual(room.listener.statistics().counters.lost, 1)

    def test_blocks_of_any_size(self) -> None:
        """Whoever pulls 7 ms or 60 ms at a time hears the same sound."""
        spoken = np.random.default_rng(2).integers(-9_000, 9_000, 24_000).astype(np.int16)
        for block in (336, 1_000, 2_880):
            listener = Listener(jitter_min_ms=80)
            talker = BurstSender(codecs.encoder("l16"), chance=random.Random(1))
            talker.press(0.0)
            flying = sorted(talker.pcm(spoken) + talker.release(0.0), key=lambda each: each.due)
            heard = []
            for turn in range(60_000 // block):
                now = turn * block / 48_000
                while flying and flying[0].due <= now:
                    sending = flying.pop(0)
                    listener.datagram(sending.payload, sending.flags, 1, sending.due)
                heard.append(listener.pull(block, now))
            sound = np.concatenate(heard)
            start = int(np.flatnonzero(sound)[0])
            self.assertEqual(sound[start : start + len(spoken)].tolist(), spoken.tolist())

    def test_a_talker_with_pauses(self) -> None:
        """Opus with DTX: the pause is silence of its length, nothing is lost, one burst."""
        room = Room()
        spoken = np.concatenate((tone(440, 0.6), np.zeros(48_000, np.int16), tone(440, 0.6)))
        encoder = codecs.encoder("opus", dtx=True)
        room.say(spoken, talker=BurstSender(encoder, alias="Anna"))
        heard = room.listen(2.8)
        counters = room.listener.statistics().counters
        self.assertEqual((counters.missing, counters.skipped, counters.late), (0, 0, 0))
        self.assertLess(counters.played, 100)
        self.assertEqual(len(room.of(BurstEnded)), 1)
        loud = np.flatnonzero(np.abs(heard.astype(int)) > 2_000)
        gap = np.diff(loud).max() / 48_000
        self.assertTrue(0.9 < gap < 1.1, gap)

    def test_a_delay_that_became_long_is_given_back(self) -> None:
        """After a stall of 300 ms the sound is late at first and on time again some seconds later, and never stops meanwhile."""
        room = Room()
        talker = BurstSender(codecs.encoder("opus"), chance=random.Random(3))
        spoken = tone(200, 16.0)
        talker.press(room.now)
        for index, sending in enumerate(talker.pcm(spoken)):
            at = max(sending.due, room.now + 1.3) if sending.due > room.now + 1.0 else sending.due
            room.flying.append(Flying(at, index, sending.flags, sending.payload, 1))
        room.listen(2.0)
        (late,) = room.listener.statistics().talkers
        heard = room.listen(13.5)
        (after,) = room.listener.statistics().talkers
        self.assertGreater(late.delay_ms, 250)
        self.assertLess(after.delay_ms, 110)
        self.assertGreater(after.counters.hastened, 5)
        self.assertEqual(after.counters.skipped, 0)
        levels = [level_dbov(heard[start : start + 480]) for start in range(0, len(heard), 480)]
        self.assertGreater(min(levels), -25)


class Who(SynchronousTestCase):
    """Who is talking, and when that begins and ends."""

    def test_begin_and_end(self) -> None:
        """Events with alias, priority, emergency, duration and the burst's own counters."""
        room = Room()
        began = room.now
        talker = room.say(tone(440, 0.5), 7, alias="Anna", priority=9, emergency=True)
        room.listen(0.3)
        (talking,) = room.listener.talking(room.now)
        self.assertEqual((talking.alias, talking.priority, talking.emergency), ("Anna", 9, True))
        self.assertEqual((talking.source, talking.ssrc, talking.codec), (7, talker.ssrc, "l16"))
        self.assertTrue(-17 < talking.level_dbov < -14)
        self.assertTrue(0.2 < talking.duration_s < 0.3)
        room.listen(0.7)
        begin, end = room.events
        assert isinstance(begin, BurstBegan) and isinstance(end, BurstEnded)
        self.assertEqual((begin.alias, begin.priority, begin.emergency), ("Anna", 9, True))
        self.assertTrue(abs(begin.at - began - 0.03) < 0.001)
        self.assertEqual((end.why, end.counters.played, end.counters.lost), ("mark", 26, 0))
        self.assertTrue(0.5 < end.duration_s < 0.7)
        self.assertEqual(room.listener.talking(room.now), ())

    def test_two_bursts_of_one_sender(self) -> None:
        """Each has its own counters; a pause of ten seconds is no loss; emergency does not stick."""
        room = Room()
        talker = room.say(tone(440, 0.3), emergency=True, alias="Bob")
        room.listen(10.0)
        talker.emergency = False
        room.say(tone(440, 0.3), talker=talker)
        room.listen(1.0)
        first, second = room.of(BurstEnded)
        assert isinstance(first, BurstEnded) and isinstance(second, BurstEnded)
        self.assertEqual((first.counters.played, second.counters.played), (16, 16))
        self.assertEqual(second.counters.missing, 0)
        kinds = [(each.emergency, each.alias) for each in room.events if isinstance(each, BurstBegan)]
        self.assertEqual(kinds, [(True, "Bob"), (False, "Bob")])

    def test_a_new_ssrc_per_burst(self) -> None:
        """The original's way: no loss, two bursts, and the second starts with the delay of the first."""
        room = Room()
        talker = room.say(tone(440, 1.0), reset_each_burst=True)
        room.listen(2.0)
        room.say(tone(440, 0.3), talker=talker)
        room.listen(1.0)
        self.assertEqual([each.why for each in room.of(BurstEnded)], ["mark", "mark"])  # type: ignore[union-attr]
        self.assertEqual(room.listener.statistics().counters.missing, 0)
        second = room.listener.statistics().talkers[1]
        self.assertLess(second.target_ms, 30)

    def test_all_end_marks_lost(self) -> None:
        """The burst ends by silence, half a second after its last sound."""
        room = Room()
        room.say(tone(440, 0.5), lost=frozenset({25, 26, 27}))
        room.listen(1.5)
        (end,) = room.of(BurstEnded)
        assert isinstance(end, BurstEnded)
        self.assertEqual(end.why, "silence")
        self.assertTrue(0.9 < end.duration_s < 1.1)

    def test_the_first_packets_lost(self) -> None:
        """Whoever comes in late hears the burst from there and learns the name when it is told again."""
        room = Room()
        room.say(tone(440, 1.0), alias="Cleo", priority=3, lost=frozenset(range(7)))
        room.listen(1.5)
        begin, named, end = room.events
        assert (
            isinstance(begin, BurstBegan) and isinstance(named, TalkerNamed) and isinstance(end, BurstEnded)
        )
        self.assertEqual((begin.alias, named.alias, named.priority, end.alias), ("", "Cleo", 3, "Cleo"))

    def test_a_stranger_with_only_a_marker(self) -> None:
        """A sender without our marks: the RTP marker begins a burst, silence ends it; one on every packet begins but one."""
        for marked in (lambda index: index == 0, lambda index: True):
            room = Room()
            for index in range(25):
                packet = Packet(0, index, 160 * index, 5, bytes(160), marked(index)).encode()
                room.flying.append(Flying(room.now + 0.02 * index, index, 0, packet, 9))
            room.listen(1.5)
            self.assertEqual([type(each) for each in room.events], [BurstBegan, BurstEnded])
            self.assertEqual(room.listener.statistics().counters.played, 25)

    def test_keys_within_a_burst(self) -> None:
        """RFC 4733 keys are reported once each and cost the sound no loss."""
        room = Room()
        talker = BurstSender(codecs.encoder("pcmu"), chance=random.Random(4))
        dialer = Dialer(8_000)
        talker.press(room.now)
        for index in range(40):
            at = room.now + 0.02 * index
            if index == 5:
                dialer.press("42", at, talker.timestamp)
            sendings = talker.pcm(tone(440, 0.02)) + [talker.event(each, at) for each in dialer.due(at)]
            room.flying += [Flying(at, len(room.flying), each.flags, each.payload, 3) for each in sendings]
        room.flying += [
            Flying(each.due, 999, each.flags, each.payload, 3) for each in talker.release(room.now + 0.8)
        ]
        room.listen(1.5)
        self.assertEqual([each.digit for each in room.of(DigitPressed)], ["4", "2"])  # type: ignore[union-attr]
        counters = room.listener.statistics().counters
        self.assertEqual((counters.missing, counters.late, counters.underruns), (0, 0, 0))
        self.assertEqual(len(room.of(BurstEnded)), 1)

    def test_keys_alone(self) -> None:
        """Keys without a sound before them are reported too."""
        room = Room()
        dialer = Dialer(8_000)
        dialer.press("7#", room.now, 1_000)
        number = 0
        while dialer.deadline is not None:
            at = dialer.deadline
            for each in dialer.due(at):
                packet = Packet(101, number, each.timestamp, 8, each.payload, each.marker).encode()
                room.flying.append(Flying(at, number, 0, packet, 3))
                number += 1
        room.listen(2.0)
        self.assertEqual([each.digit for each in room.of(DigitPressed)], ["7", "#"])  # type: ignore[union-attr]
        self.assertTrue(room.listener.idle)


class Counting(SynchronousTestCase):
    """What is counted, and under which word."""

    def test_refusals_have_reasons(self) -> None:
        """Data, no RTP, unknown and impossible payloads: each under its word, and nothing is heard."""
        listener = Listener()
        listener.datagram(b"{}", Flag.DATA, 1, 0.0)
        listener.datagram(Probe(Kind.ASK, 1, 2, 3, 4).encode(), 0, 1, 0.0)  # multicast carries no flags
        listener.datagram(b"short", 0, 1, 0.0)
        listener.datagram(Packet(77, 1, 2, 3, b"x").encode(), 0, 1, 0.0)
        listener.datagram(Packet(96, 1, 2, 3, b"odd").encode(), 0, 1, 0.0)
        listener.datagram(Packet(0, 1, 2, 3, b"").encode(), 0, 1, 0.0)
        listener.datagram(Packet(101, 1, 2, 3, b"").encode(), 0, 1, 0.0)
        statistics = listener.statistics()
        self.assertEqual(
            dict(statistics.refused),
            {"data": 2, "rtp-too-short": 1, "payload-type": 1, "payload-odd": 1, "payload-empty": 2},
        )
        self.assertEqual(statistics.datagrams, 7)
        self.assertFalse(listener.pull(960, 1.0).any())
        self.assertEqual(listener.events(), [])

    def test_a_marker_on_everything(self) -> None:
        """Some senders mark each packet, and a way into the mesh may take the marker for the first of a burst: it is one burst all the same."""
        for flag in (0, Flag.FIRST):
            room = Room()
            for index in range(60):
                pause = 1.5 if index >= 30 else 0.0
                packet = Packet(0, index, 160 * index + round(8_000 * pause), 5, bytes(160), True).encode()
                room.flying.append(Flying(room.now + pause + 0.02 * index, index, flag, packet, 9))
            room.listen(4.0)
            self.assertEqual([each.why for each in room.of(BurstEnded)], ["silence", "silence"])  # type: ignore[union-attr]
            counters = room.listener.statistics().counters
            self.assertEqual((counters.received, counters.played, counters.missing), (60, 60, 0))

    def test_an_unknown_payload_type_within_a_burst_is_no_loss(self) -> None:
        """Comfort noise that nobody here decodes has a number; the sound around it is whole."""
        room = Room()
        for index in range(30):
            strange = index == 15
            packet = Packet(13 if strange else 0, index, 160 * index, 5, bytes(160), index == 0).encode()
            room.flying.append(Flying(room.now + 0.02 * index, index, 0, packet, 9))
        room.listen(1.5)
        statistics = room.listener.statistics()
        self.assertEqual(dict(statistics.refused), {"payload-type": 1})
        self.assertEqual(statistics.counters.missing, 0)

    def test_what_the_network_lost(self) -> None:
        """Gaps in the datagrams' numbers are missed, across the wrap; what comes out of order is not."""
        room = Room(numbers={1: 2**32 - 10})
        room.say(tone(440, 1.0), lost=frozenset({3, 20, 21}))
        room.flying[8], room.flying[9] = (
            attrs.evolve(room.flying[8], at=room.flying[9].at),
            attrs.evolve(room.flying[9], at=room.flying[8].at),
        )
        room.listen(2.0)
        statistics = room.listener.statistics()
        self.assertEqual((statistics.missed, statistics.counters.lost), (3, 3))
        self.assertEqual((room.listener.missed_of(1), room.listener.missed_of(2)), (3, 0))

    def test_a_corrupt_payload_is_concealed(self) -> None:
        """What looks like Opus and is none costs that packet only, and is counted."""
        room = Room()
        talker = BurstSender(codecs.encoder("opus"), chance=random.Random(1))
        talker.press(room.now)
        for index, sending in enumerate(talker.pcm(tone(440, 1.0))):
            packet = Packet.decode(sending.payload)
            if index == 20:
                packet = attrs.evolve(
                    packet, payload=b"\x0a" + bytes([253]) + b"\xff" * 3
                )  # a length that lies
            room.flying.append(Flying(sending.due, index, sending.flags, packet.encode(), 1))
        room.listen(1.2)
        statistics = room.listener.statistics()
        self.assertEqual(statistics.corrupt, 1)
        self.assertEqual(statistics.counters.played, 50)

    def test_talkers_are_bounded(self) -> None:
        """More sources than may be heard are refused while all talk; one source cannot fill the house with SSRCs."""
        listener = Listener(talkers_max=8)
        for source in range(20):
            listener.datagram(Packet(0, 1, 1, 1, bytes(160)).encode(), 0, source, 0.0)
        self.assertEqual(listener.statistics().refused["talkers"], 12)
        for ssrc in range(100):
            listener.datagram(Packet(0, 1, 1, ssrc, bytes(160)).encode(), 0, 3, 0.0)
        self.assertEqual(sorted(each.source for each in listener.statistics().talkers), list(range(8)))
        alone = Listener(talkers_max=8)
        for ssrc in range(100):
            alone.datagram(Packet(0, 1, 1, ssrc, bytes(160)).encode(), 0, 3, 0.0)
        statistics = alone.statistics()
        self.assertEqual(len(statistics.talkers), TALKERS_PER_SOURCE)
        self.assertEqual((statistics.counters.received, statistics.counters.overflow), (100, 96))

    def test_the_silent_are_forgotten(self) -> None:
        """After forget_s their memory is given back, and their counters stay in the sum."""
        room = Room(Listener(forget_s=5.0))
        room.say(tone(440, 0.5))
        room.listen(8.0)
        statistics = room.listener.statistics()
        self.assertEqual(statistics.talkers, ())
        self.assertEqual((statistics.counters.played, statistics.counters.repeated), (26, 2))

    def test_settings_that_cannot_be(self) -> None:
        """No talkers, or a minimum above the maximum: local errors at once."""
        with self.assertRaisesRegex(LocalError, "at least one"):
            Listener(talkers_max=0)
        with self.assertRaisesRegex(LocalError, "min_ms"):
            Listener(jitter_min_ms=500, jitter_max_ms=100)

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.binary(max_size=40)
                | st.builds(
                    lambda pt, seq, ts, ssrc, load, marker: Packet(pt, seq, ts, ssrc, load, marker).encode(),
                    st.sampled_from((0, 8, 13, 96, 101, 118)),
                    st.integers(0, 50),
                    st.integers(0, 2**32 - 1),
                    st.integers(0, 5),
                    st.binary(max_size=400),
                    st.booleans(),
                ),
                st.integers(0, 255),
                st.integers(0, 3),
                st.integers(0, 2**32 - 1),
            ),
            max_size=40,
        )
    )
    def test_anything(self, datagrams: list[tuple[bytes, int, int, int]]) -> None:
        """Whatever comes, the listener neither raises nor hangs, and always gives what was asked for."""
        listener = Listener(talkers_max=4)
        now = 0.0
        for payload, flags, source, sequence in datagrams:
            listener.datagram(payload, flags, source, now, sequence)
            self.assertEqual(len(listener.pull(480, now)), 480)
            listener.talking(now)
            now += 0.01
        for _ in range(150):
            self.assertEqual(len(listener.pull(960, now)), 960)
            now += 0.02
        self.assertEqual(listener.statistics().datagrams, len(datagrams))


class Cost(SynchronousTestCase):
    """Twenty talkers at once are no burden."""

    def test_twenty_talkers(self) -> None:
        """A second of twenty Opus talkers takes less than half a second of one core (about a tenth is usual)."""
        room = Room()
        for source in range(20):
            room.say(tone(200 + 50 * source, 1.2, 1_500), source, codec="opus", alias=f"n{source}")
        began = time.process_time()
        room.listen(1.0)
        self.assertEqual(len(room.listener.talking(room.now)), 20)
        self.assertLess(time.process_time() - began, 0.5)
