"""AMR over RTP: both packings, bit by bit (RFC 4867)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import amr
from ice.media.amr import BITS, Frame, pack, unpack
from ice.media.payload import MalformedPayload


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any frame, its spare bits zero."""
    kind = draw(st.sampled_from(list(BITS)))
    bits = BITS[kind]
    value = draw(st.integers(0, (1 << bits) - 1)) if bits else 0
    return Frame(kind, draw(st.booleans()), (value << -bits % 8).to_bytes(-(-bits // 8)))


class Packing(SynchronousTestCase):
    """What goes on the wire."""

    def test_bandwidth_efficient(self) -> None:
        """RFC 4867 §4.3.5.1: one frame at 5.9 kbit/s is 4 + 6 + 118 bits, here all ones, in 16 bytes."""
        frame = Frame(2, True, bytes.fromhex("ff" * 14 + "fc"))
        self.assertEqual(pack([frame]).hex(), "f17f" + "ff" * 14)
        self.assertEqual(unpack(bytes.fromhex("f17f" + "ff" * 14)), [frame])

    def test_octet_aligned(self) -> None:
        """RFC 4867 §4.4.5: a byte for the request, a byte per frame that tells its type, then whole bytes."""
        two = [Frame(8, True, bytes.fromhex("1122334454")), Frame(15, True, b"")]
        wire = pack(two, octet_aligned=True)
        self.assertEqual(wire.hex(), "f0" + "c4" + "7c" + "1122334454")
        self.assertEqual(unpack(wire), two)

    def test_sixty_milliseconds(self) -> None:
        """Three frames at 12.2 kbit/s: 4 + 3 × (6 + 244) bits are 95 bytes."""
        three = [Frame(7, True, bytes(range(30)) + b"\xf0")] * 3
        self.assertEqual(len(pack(three)), 95)
        self.assertEqual(unpack(pack(three)), three)
        self.assertEqual(amr.samples(pack(three)), 480)

    def test_stored(self) -> None:
        """As in a file (§5.3): a damaged frame is given to a decoder as one that did not come."""
        frame = Frame(7, True, bytes(31))
        self.assertEqual(frame.stored, b"\x3c" + bytes(31))
        self.assertEqual(Frame.from_stored(frame.stored), frame)
        self.assertEqual(Frame(7, False, bytes(31)).stored, b"\x7c")
        for wrong in (b"", b"\x3c" + bytes(30), b"\x4c" + bytes(40)):
            self.assertRaises(MalformedPayload, Frame.from_stored, wrong)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(frames(), min_size=1, max_size=10))
    def test_round_trip(self, several: list[Frame]) -> None:
        """What is packed in the packing that we send is read as it was."""
        self.assertEqual(unpack(pack(several)), several)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(frames(), min_size=1, max_size=10))
    def test_the_other_packing(self, several: list[Frame]) -> None:
        """The other packing is read as it was where it cannot be taken for ours; and never longer than ten frames."""
        wire = pack(several, octet_aligned=True)
        if amr._efficient(wire) is None:
            self.assertEqual(unpack(wire), several)
        self.assertLessEqual(len(unpack(wire)), 10)

    def test_speech_is_told_apart(self) -> None:
        """Frames of speech at one rate, as every sender has them: the octet-aligned packing is never taken for the other."""
        for kind in range(8):
            octets = -(-BITS[kind] // 8)
            for count in (1, 2, 3, 5):
                several = [Frame(kind, True, b"\xa4" * (octets - 1) + b"\x80")] * count
                self.assertEqual(unpack(pack(several, octet_aligned=True)), several, (kind, count))


class Refused(SynchronousTestCase):
    """What is no packet."""

    def test_truncations(self) -> None:
        """Cut anywhere, a packet is refused, or it was cut within its padding."""
        whole = pack([Frame(7, True, b"\xff" * 30 + b"\xf0")] * 2)
        for length in range(len(whole)):
            error = self.assertRaises(MalformedPayload, unpack, whole[:length])
            self.assertEqual(error.reason, "corrupt" if length else "empty")

    def test_types_of_other_systems(self) -> None:
        """Types 9 to 14 make the whole packet unreadable (§4.3.2)."""
        for kind in range(9, 15):
            wire = ((0xF << 6 | kind << 1 | 1) << 6).to_bytes(2)
            self.assertEqual(self.assertRaises(MalformedPayload, unpack, wire).reason, "corrupt")

    def test_too_many(self) -> None:
        """More than ten frames, and no end to the list of them."""
        self.assertRaises(MalformedPayload, unpack, b"\xff" * 300)
        self.assertRaises(MalformedPayload, unpack, pack([Frame(15, True, b"")] * 11))
        self.assertEqual(self.assertRaises(MalformedPayload, unpack, bytes(400)).reason, "too-long")
        self.assertRaises(LocalError, pack, [])

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=340))
    def test_anything(self, payload: bytes) -> None:
        """Any bytes are frames, at most ten, or refused."""
        try:
            found = unpack(payload)
        except MalformedPayload as error:
            self.assertIn(error.reason, ("empty", "too-long", "corrupt"))
        else:
            self.assertTrue(1 <= len(found) <= 10)
            for frame in found:
                self.assertEqual(len(frame.data), -(-BITS[frame.kind] // 8))
