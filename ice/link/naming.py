"""Names on a link: stream keys and sources.

A *stream key* is the first 8 bytes of SHA-256 of the stream id, the same everywhere.  A *source* names who put a
datagram on a link first: 4 bytes that follow from the identity in the sender's certificate, then 4 random bytes
chosen once per process and stream.
"""

from collections.abc import Callable
from hashlib import sha256
from secrets import randbits
from uuid import UUID

from ice.errors import LocalError
from ice.link.message import MAX_STREAM_ID

PREFIX_SHIFT = 32
_RANDOM_BITS = 32


class StreamIdError(LocalError):
    """A stream id that no link can carry."""


def checked_stream_id(stream_id: str) -> str:
    """``stream_id`` itself; raises :class:`StreamIdError` when it is empty, over 256 bytes or not UTF-8."""
    try:
        size = len(stream_id.encode())
    except UnicodeEncodeError:
        raise StreamIdError("a stream id is UTF-8; this one holds a lone surrogate") from None
    if not stream_id:
        raise StreamIdError("a stream id has at least one character")
    if size > MAX_STREAM_ID:
        raise StreamIdError(f"a stream id has at most {MAX_STREAM_ID} bytes of UTF-8, not {size}")
    return stream_id


def stream_key(stream_id: str) -> int:
    """The stream's 64-bit key: the first 8 bytes of SHA-256 of its id, big-endian."""
    return int.from_bytes(sha256(stream_id.encode()).digest()[:8], "big")


def source_prefix(identity: UUID) -> int:
    """The upper 32 bits of every source of ``identity``: the first 4 bytes of SHA-256 of its 16 UUID bytes."""
    return int.from_bytes(sha256(identity.bytes).digest()[:4], "big")


def new_source(identity: UUID, random_bits: Callable[[int], int] = randbits) -> int:
    """A source for one process and stream: keep it over reconnects and share it among links."""
    return (source_prefix(identity) << PREFIX_SHIFT) | random_bits(_RANDOM_BITS)


def format_u64(value: int) -> str:
    """A key or source as it stands in control messages: 16 lower-case hex digits."""
    return f"{value:016x}"


def parse_u64(text: str) -> int:
    """The inverse of :func:`format_u64`; raises :class:`ValueError` on anything but 16 lower-case hex digits."""
    if len(text) != 16 or not all(c in "0123456789abcdef" for c in text):
        raise ValueError(f"expected 16 lower-case hex digits, found {text[:40]!r}")
    return int(text, 16)
