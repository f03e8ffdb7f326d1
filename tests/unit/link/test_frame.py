"""Frames: every border found, every lie noticed."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import (
    MAX_CONTROL,
    MEDIA,
    MEDIA_HEADER,
    MEDIA_OVERHEAD,
    Flag,
    FrameSplitter,
    FrameType,
    control,
    media,
)
from ice.link.message import Code

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
media_frames = st.builds(media, st.integers(0, 255), u64, u64, u32, st.binary(max_size=300))
control_frames = st.builds(
    control,
    st.sampled_from([t for t in FrameType if t not in (FrameType.MEDIA, FrameType.PING, FrameType.PONG)]),
    st.binary(max_size=300),
) | st.builds(control, st.sampled_from([FrameType.PING, FrameType.PONG]), st.binary(min_size=8, max_size=8))
frames = st.lists(media_frames | control_frames, max_size=8)


class WireTests(SynchronousTestCase):
    """The bytes of docs/link-protocol.md."""

    def test_media_hexdump(self) -> None:
        """A MEDIA frame is length, type, flags, key, source, sequence, payload."""
        frame = media(
            Flag.FIRST | Flag.URGENT, 0x0102030405060708, 0x1112131415161718, 0x21222324, b"\xaa\xbb"
        )
        self.assertEqual(
            frame.hex(" "),
            "00 17 10 03 01 02 03 04 05 06 07 08 11 12 13 14 15 16 17 18 21 22 23 24 aa bb",
        )

    def test_ping_hexdump(self) -> None:
        """A PING carries 8 bytes."""
        self.assertEqual(
            control(FrameType.PING, (7).to_bytes(8, "big")).hex(" "), "00 08 06 00 00 00 00 00 00 00 07"
        )

    def test_overhead(self) -> None:
        """The header of MEDIA is 24 bytes, 21 of which are counted by the length."""
        self.assertEqual((MEDIA_HEADER, MEDIA_OVERHEAD), (24, 21))

    def test_control_too_long(self) -> None:
        """A body that a u16 cannot count is refused when it is made."""
        with self.assertRaises(ValueError):
            control(FrameType.BYE, bytes(65_536))

    @given(st.integers(0, 255), u64, u64, u32, st.binary(max_size=4_096))
    @settings(max_examples=100, deadline=None)
    def test_media_round_trip(self, flags: int, key: int, source: int, sequence: int, payload: bytes) -> None:
        """What goes into a MEDIA frame comes out of it."""
        frame = media(flags, key, source, sequence, payload)
        self.assertEqual(
            MEDIA.unpack_from(frame), (len(payload) + 21, FrameType.MEDIA, flags, key, source, sequence)
        )
        self.assertEqual(frame[MEDIA_HEADER:], payload)


class SplitterTests(SynchronousTestCase):
    """Borders in a byte stream that arrives in pieces."""

    @given(frames, st.data())
    @settings(max_examples=200, deadline=None)
    def test_any_pieces(self, sent: list[bytes], data: st.DataObject) -> None:
        """However the bytes are cut, the same frames come out, in order."""
        stream = b"".join(sent)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        splitter, got = FrameSplitter(), []
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            got += splitter.feed(stream[start:stop])
        self.assertEqual(got, sent)
        self.assertIsNone(splitter.error)
        self.assertEqual(splitter.waiting, 0)

    def test_every_truncation(self) -> None:
        """A frame cut at any byte gives nothing until the rest arrives."""
        frame = media(0, 1, 2, 3, b"payload")
        for cut in range(len(frame)):
            splitter = FrameSplitter()
            self.assertEqual(splitter.feed(frame[:cut]), [])
            self.assertEqual(splitter.waiting, cut)
            self.assertEqual(splitter.feed(frame[cut:]), [frame])

    def test_byte_by_byte(self) -> None:
        """One byte at a time works."""
        frame = control(FrameType.HELLO, b"{}")
        splitter, got = FrameSplitter(), []
        for byte in frame * 3:
            got += splitter.feed(bytes([byte]))
        self.assertEqual(got, [frame] * 3)

    def test_media_too_large(self) -> None:
        """A payload over the bound is noticed from the header alone, after the frames before it."""
        good = media(0, 1, 2, 3, b"x" * 10)
        splitter = FrameSplitter(max_media=10)
        self.assertEqual(splitter.feed(good + media(0, 1, 2, 3, b"x" * 11)[:3]), [good])
        assert splitter.error is not None
        self.assertEqual(splitter.error.code, Code.TOO_LARGE)
        self.assertIn("11 bytes; at most 10", str(splitter.error))
        self.assertEqual(splitter.feed(good), [], "nothing is given out after a break")

    def test_media_too_short(self) -> None:
        """A MEDIA frame without room for its own header is a bad frame."""
        for length in range(MEDIA_OVERHEAD):
            splitter = FrameSplitter()
            splitter.feed(bytes([0, length, FrameType.MEDIA]))
            assert splitter.error is not None
            self.assertEqual(splitter.error.code, Code.BAD_FRAME)

    def test_control_too_large(self) -> None:
        """A control body over the bound is refused before it is held."""
        splitter = FrameSplitter()
        splitter.feed((MAX_CONTROL + 1).to_bytes(2, "big") + bytes([FrameType.JOIN]))
        assert splitter.error is not None
        self.assertEqual(splitter.error.code, Code.TOO_LARGE)
        self.assertEqual(splitter.waiting, 0)

    def test_ping_length(self) -> None:
        """PING and PONG have exactly 8 bytes."""
        for kind in (FrameType.PING, FrameType.PONG):
            for length in (0, 7, 9):
                splitter = FrameSplitter()
                splitter.feed(bytes([0, length, kind]))
                assert splitter.error is not None
                self.assertEqual(splitter.error.code, Code.BAD_FRAME)

    @given(st.lists(st.binary(max_size=200), max_size=10))
    @settings(max_examples=200, deadline=None)
    def test_noise(self, pieces: list[bytes]) -> None:
        """Noise never raises, and never makes the splitter hold more than one bounded frame."""
        splitter = FrameSplitter(max_control=64, max_media=64)
        for piece in pieces:
            for frame in splitter.feed(piece):
                self.assertEqual(int.from_bytes(frame[:2], "big") + 3, len(frame))
            self.assertLessEqual(splitter.waiting, 64 + MEDIA_HEADER)
