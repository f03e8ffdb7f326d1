"""Telephone keys as events and as tones; a dialer and a recogniser joined by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import dtmf, tones
from ice.media.dtmf import Dialer, Event, EventPacket, Press, Recogniser
from ice.media.payload import MalformedPayload

KEYS = st.text(dtmf.DIGITS, min_size=1, max_size=12)


def dialled(dialer: Dialer) -> list[tuple[float, EventPacket]]:
    """Let time pass until the dialer has nothing more to say."""
    packets = []
    while (now := dialer.deadline) is not None:
        packets += [(now, packet) for packet in dialer.due(now)]
    return packets


class EventTests(SynchronousTestCase):
    def test_wire(self) -> None:
        """RFC 4733 figure 1: event, end and volume, duration."""
        self.assertEqual(Event(11, 1_760, True, -7).encode().hex(), "0b8706e0")
        self.assertEqual(Event.decode(bytes.fromhex("0b8706e0")), Event(11, 1_760, True, -7))
        self.assertEqual(Event(5, 160).encode().hex(), "050a00a0")

    @given(st.builds(Event, st.integers(0, 255), st.integers(0, 65_535), st.booleans(), st.integers(-63, 0)))
    def test_round_trip(self, event: Event) -> None:
        """What is encoded is decoded."""
        self.assertEqual(Event.decode(event.encode()), event)

    def test_truncations(self) -> None:
        """Fewer than four bytes are refused, more are passed over, the reserved bit does not matter."""
        wire = Event(1, 2, True, -3).encode()
        for length in range(4):
            error = self.assertRaises(MalformedPayload, Event.decode, wire[:length])
            self.assertEqual(error.reason, "too-short" if length else "empty")
        self.assertEqual(Event.decode(wire + b"more"), Event(1, 2, True, -3))
        self.assertEqual(Event.decode(bytes.fromhex("01c30002")), Event(1, 2, True, -3))

    def test_digits(self) -> None:
        """Codes 0 to 15 are keys; a hook flash (16) and a fax tone (32) are not."""
        self.assertEqual(
            "".join(Event(code, 0).digit or "?" for code in (0, 9, 10, 11, 15, 16, 32)), "09*#D??"
        )

    def test_fields_that_do_not_fit(self) -> None:
        """Out of range is our mistake."""
        for event in (
            Event(256, 0),
            Event(0, 65_536),
            Event(-1, 0),
            Event(0, 0, False, 1),
            Event(0, 0, False, -64),
        ):
            self.assertRaises(LocalError, event.encode)


class DialerTests(SynchronousTestCase):
    def test_one_key(self) -> None:
        """A key of 120 ms at 8 kHz: marker first, updates every 50 ms, three ends with the whole duration, one timestamp."""
        dialer = Dialer(8_000, duration_ms=120)
        dialer.press("7", 3.0, 16_000)
        self.assertEqual(
            [
                (round(now, 3), packet.timestamp, packet.payload.hex(), packet.marker)
                for now, packet in dialled(dialer)
            ],
            [
                (3.0, 16_000, "070a0190", True),
                (3.05, 16_000, "070a0320", False),
                (3.1, 16_000, "078a03c0", False),
                (3.15, 16_000, "078a03c0", False),
                (3.2, 16_000, "078a03c0", False),
            ],
        )

    def test_keys_follow(self) -> None:
        """Keys stand duration and gap apart, in time and timestamp, over the wrap of the clock, a second press behind the first."""
        dialer = Dialer(48_000, duration_ms=100, gap_ms=60)
        dialer.press("1", 0.0, 0xFFFF_FFFF)
        dialer.press("a", 0.02, 959)
        starts = [(now, packet.timestamp) for now, packet in dialled(dialer) if packet.marker]
        self.assertEqual([now for now, _ in starts], [0.0, 0.16])
        self.assertEqual([timestamp for _, timestamp in starts], [0xFFFF_FFFF, 7_679])

    def test_time_never_runs_back(self) -> None:
        """However short the gap, packets of one key end before the next begins."""
        dialer = Dialer(48_000, duration_ms=40, gap_ms=40, update_ms=100)
        dialer.press("123", 0.0, 0)
        packets = dialled(dialer)
        self.assertEqual([now for now, _ in packets], sorted(now for now, _ in packets))
        self.assertEqual(
            [packet.timestamp for _, packet in packets], sorted(packet.timestamp for _, packet in packets)
        )

    def test_refusals(self) -> None:
        """No key, too many keys, durations no receiver understands: refused, and nothing is pressed."""
        dialer = Dialer(48_000)
        self.assertRaises(LocalError, dialer.press, "12x", 0.0, 0)
        self.assertRaises(LocalError, dialer.press, "1" * 65, 0.0, 0)
        self.assertIsNone(dialer.deadline)
        dialer.press("1" * 64, 0.0, 0)
        self.assertRaises(LocalError, dialer.press, "1", 0.1, 0)
        dialer.press("1", 0.2, 0)
        for arguments in ({"duration_ms": 39}, {"duration_ms": 1_366}, {"gap_ms": 10}, {"update_ms": 5}):
            self.assertRaises(LocalError, lambda: Dialer(48_000, **arguments))  # noqa: B023


class RecogniserTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(KEYS, st.sampled_from([8_000, 48_000]), st.integers(0, 2**32 - 1))
    def test_keys_arrive(self, keys: str, clock_rate: int, timestamp: int) -> None:
        """What is dialled is recognised, each key once, in order."""
        dialer, recogniser = Dialer(clock_rate), Recogniser()
        dialer.press(keys, 0.0, timestamp)
        presses = [recogniser.receive(packet.timestamp, packet.payload) for _, packet in dialled(dialer)]
        self.assertEqual("".join(press.digit for press in presses if press), keys)

    @settings(max_examples=60, deadline=None)
    @given(KEYS, st.randoms(use_true_random=False))
    def test_loss_and_doubles(self, keys: str, random) -> None:  # type: ignore[no-untyped-def]
        """As long as one packet of each key arrives, in whatever number of copies, each key is recognised once."""
        dialer, recogniser, heard = Dialer(48_000), Recogniser(), ""
        dialer.press(keys, 0.0, 0)
        by_key: dict[int, list[EventPacket]] = {}
        for _, packet in dialled(dialer):
            by_key.setdefault(packet.timestamp, []).append(packet)
        for packets in by_key.values():
            for packet in random.choices(packets, k=random.randint(1, 6)):
                press = recogniser.receive(packet.timestamp, packet.payload)
                heard += press.digit if press else ""
        self.assertEqual(heard, keys)

    def test_straggler(self) -> None:
        """A late end packet of an earlier key presses nothing; one of a key never heard of is counted."""
        recogniser = Recogniser()
        self.assertEqual(recogniser.receive(1_000, Event(1, 400).encode()), Press("1", 1_000))
        self.assertEqual(recogniser.receive(9_000, Event(2, 400).encode()), Press("2", 9_000))
        self.assertIsNone(recogniser.receive(1_000, Event(1, 800, True).encode()))
        self.assertEqual(recogniser.late, 0)
        self.assertIsNone(recogniser.receive(5_000, Event(3, 800, True).encode()))
        self.assertEqual(recogniser.late, 1)

    def test_same_key_twice(self) -> None:
        """The same key with another timestamp is another press."""
        recogniser = Recogniser()
        self.assertTrue(recogniser.receive(0, Event(5, 800, True).encode()))
        self.assertTrue(recogniser.receive(1_600, Event(5, 800, True).encode()))

    def test_segments(self) -> None:
        """A key held for three segments of the largest duration is one press (RFC 4733 section 2.5.1.3)."""
        recogniser, presses = Recogniser(), 0
        for segment in range(3):
            for duration in (30_000, 65_535):
                presses += recogniser.receive(segment * 65_535, Event(9, duration).encode()) is not None
        self.assertEqual(presses, 1)

    def test_new_beginning(self) -> None:
        """A burst whose clock begins far behind the last is heard, as is any after a reset."""
        recogniser = Recogniser()
        recogniser.receive(10_000_000, Event(1, 800, True).encode())
        self.assertEqual(recogniser.receive(500, Event(2, 800, True).encode()), Press("2", 500))
        recogniser.reset()
        self.assertEqual(recogniser.receive(400, Event(3, 800, True).encode()), Press("3", 400))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=8)), max_size=20))
    def test_anything(self, packets: list[tuple[int, bytes]]) -> None:
        """Any payloads are keys, nothing, or refused by name."""
        recogniser = Recogniser()
        for timestamp, payload in packets:
            try:
                press = recogniser.receive(timestamp, payload)
            except MalformedPayload:
                self.assertLess(len(payload), 4)
            else:
                self.assertTrue(press is None or press.digit in dtmf.DIGITS)

    def test_ignored(self) -> None:
        """Events that are no keys are counted."""
        recogniser = Recogniser()
        self.assertIsNone(recogniser.receive(0, Event(16, 100).encode()))
        self.assertEqual(recogniser.ignored, 1)


class ToneTests(SynchronousTestCase):
    def test_frequencies(self) -> None:
        """ITU-T Q.23: every key is its row's and its column's tone, at the level asked for."""
        for digit, low, high in (
            ("1", 697, 1209),
            ("5", 770, 1336),
            ("9", 852, 1477),
            ("*", 941, 1209),
            ("0", 941, 1336),
            ("d", 941, 1633),
        ):
            pcm = dtmf.tone(digit, 48_000)
            spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
            lower, upper = int(np.argmax(spectrum[:1_100])), 1_100 + int(np.argmax(spectrum[1_100:]))
            self.assertEqual((lower, upper), (low, high))
            self.assertApproximates(20 * np.log10(spectrum[upper] / spectrum[lower]), 2.0, 0.1)
            self.assertApproximates(tones.level_dbov(pcm), -15.0, 0.1)

    def test_refusals(self) -> None:
        """No key and too loud are our mistakes; the loudest allowed does not wrap round."""
        for digit in ("", "E", "12", "٣"):
            self.assertRaises(LocalError, dtmf.tone, digit, 100)
        self.assertRaises(LocalError, lambda: dtmf.tone("1", 100, level_dbov=-5.9))
        steps = np.abs(np.diff(dtmf.tone("D", 48_000, level_dbov=-6).astype(int)))
        self.assertLess(int(steps.max()), 16_000)
