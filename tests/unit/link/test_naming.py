"""Stream keys and sources."""

from hashlib import sha256
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.naming import (
    StreamIdError,
    checked_stream_id,
    format_u64,
    new_source,
    parse_u64,
    source_prefix,
    stream_key,
)

SOMEBODY = UUID("00112233-4455-6677-8899-aabbccddeeff")


class NamingTests(SynchronousTestCase):
    """The same everywhere, so that frames can be passed on byte for byte."""

    def test_key(self) -> None:
        """A key is the first 8 bytes of SHA-256 of the id."""
        self.assertEqual(format_u64(stream_key("alpha")), "8ed3f6ad685b959e")
        self.assertEqual(format_u64(stream_key("Zürich")), sha256("Zürich".encode()).hexdigest()[:16])

    def test_prefix(self) -> None:
        """A source begins with 4 bytes that follow from the identity."""
        prefix = source_prefix(SOMEBODY)
        self.assertEqual(f"{prefix:08x}", "a8faed6a")
        self.assertEqual(prefix.to_bytes(4, "big"), sha256(SOMEBODY.bytes).digest()[:4])
        self.assertEqual(new_source(SOMEBODY, lambda bits: 0xDEADBEEF), (prefix << 32) | 0xDEADBEEF)

    def test_stream_ids(self) -> None:
        """Ids of 1 to 256 bytes of UTF-8 are carried; the bound counts bytes, not letters."""
        for good in ("a", "a" * 256, "é" * 128, "\N{RADIO}" * 64):
            self.assertEqual(checked_stream_id(good), good)
        for bad in ("", "a" * 257, "é" * 129, "\ud800"):
            with self.assertRaises(StreamIdError):
                checked_stream_id(bad)

    @given(st.integers(0, 2**64 - 1))
    def test_u64_round_trip(self, value: int) -> None:
        """16 lower-case hex digits and back."""
        self.assertEqual(parse_u64(format_u64(value)), value)

    def test_u64_refused(self) -> None:
        """Signs, blanks, capitals and other digits are not hex here."""
        for bad in (
            "",
            "0" * 15,
            "0" * 17,
            "00000000DEADBEEF",
            "+000000000000001",
            "0x00000000000001",
            "٠" * 16,
        ):
            with self.assertRaises(ValueError):
                parse_u64(bad)
