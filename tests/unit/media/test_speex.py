"""Speex packets as rows of bits (RFC 5574), without the library."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media import speex
from ice.media.payload import MalformedPayload

NARROW = speex._NARROW_BITS
LAYER = speex._LAYER_BITS


def row(*parts: tuple[int, int]) -> bytes:
    """(value, bits) after each other, the last byte filled with a zero and ones."""
    value = length = 0
    for part, bits in parts:
        value, length = value << bits | part, length + bits
    rest = -length % 8
    filling = (1 << rest - 1) - 1 if rest else 0
    return (value << rest | filling).to_bytes((length + rest) // 8)


def frame(kind: int) -> tuple[int, int]:
    """A narrow-band frame, its voice all zeros."""
    return kind << NARROW[kind] - 5, NARROW[kind]


def layer(kind: int) -> tuple[int, int]:
    """A layer of wide band."""
    return (8 | kind) << LAYER[kind] - 4, LAYER[kind]


class Frames(SynchronousTestCase):
    """Where one frame ends and the next begins."""

    def test_eight_kilobits(self) -> None:
        """Submode 3 has 160 bits: whole bytes, nothing to fill."""
        self.assertEqual(speex.frames(row(frame(3))), [bytes.fromhex("18" + "00" * 19)])
        self.assertEqual(speex.samples(row(frame(3), frame(3), frame(3))), 480)

    def test_filled(self) -> None:
        """Two frames of 119 bits share a byte; each is given out filled up with a zero and ones."""
        whole = row(frame(2), frame(2))
        self.assertEqual(len(whole), 30)
        self.assertEqual(speex.frames(whole), [bytes.fromhex("10" + "00" * 14)] * 2)
        self.assertEqual(speex.frames(row(frame(1))), [bytes.fromhex("08" + "00" * 4 + "0f")])

    def test_any_mixture(self) -> None:
        """Every kind of frame after every other."""
        for one in NARROW:
            for two in NARROW:
                self.assertEqual(len(speex.frames(row(frame(one), frame(two)))), 2, (one, two))

    def test_terminator(self) -> None:
        """15 ends the packet, whatever comes behind it."""
        self.assertEqual(len(speex.frames(row(frame(5), (15, 5), frame(5)))), 1)

    def test_wide_band_is_left_out(self) -> None:
        """Layers between the frames and behind the last one do not count and are not passed on."""
        for kind in LAYER:
            packet = row(frame(5), layer(kind), frame(4), layer(kind))
            self.assertEqual(
                speex.frames(packet), [*speex.frames(row(frame(5))), *speex.frames(row(frame(4)))]
            )

    def test_messages_are_left_out(self) -> None:
        """To the decoder and to the application, of each length."""
        for code, bits in enumerate(speex._IN_BAND_BITS):
            packet = row((14, 5), (code, 4), (0, bits), frame(3))
            self.assertEqual(speex.frames(packet), [row(frame(3))])
        for octets in range(16):
            packet = row((13, 5), (octets, 4), (7, 5), (0, 8 * octets), frame(3))
            self.assertEqual(speex.frames(packet), [row(frame(3))])

    def test_refused(self) -> None:
        """Nothing, too much, unknown kinds, and frames that are cut off."""
        whole = row(frame(7))
        for length in range(1, len(whole)):
            self.assertEqual(
                self.assertRaises(MalformedPayload, speex.frames, whole[:length]).reason, "corrupt"
            )
        for payload, reason in (
            (b"", "empty"),
            (b"\x7f", "empty"),
            (bytes(1_501), "too-long"),
            (row(*[frame(8)] * 11), "too-long"),
            (row((9, 5), (0, 100)), "corrupt"),
            (row(layer(1), frame(3)), "corrupt"),
            (row(frame(3), (0xD, 4), (0, 100)), "corrupt"),
        ):
            self.assertEqual(
                self.assertRaises(MalformedPayload, speex.frames, payload).reason, reason, payload
            )

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300))
    def test_anything(self, payload: bytes) -> None:
        """Any bytes are frames, at most ten, each a packet of one frame; or refused."""
        try:
            found = speex.frames(payload)
        except MalformedPayload as error:
            self.assertIn(error.reason, ("empty", "too-long", "corrupt"))
        else:
            self.assertTrue(1 <= len(found) <= 10)
            for each in found:
                self.assertEqual(speex.frames(each), [each])
