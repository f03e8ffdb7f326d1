"""Frames of the Rallypoint link: bytes <-> whole frames, nothing else.

A frame is ``length u16 | type u8 | body``, big-endian; ``length`` counts the body only.  Control bodies are
UTF-8 JSON objects (:mod:`ice.link.message`), PING and PONG carry 8 bytes, and MEDIA carries::

    flags u8 | key u64 | source u64 | sequence u32 | payload

A MEDIA frame is never rebuilt on its way: what came in is handed on byte for byte, so the splitter gives out
*whole frames*, header included.  See ``docs/link-protocol.md``.
"""

from enum import IntEnum, IntFlag
from struct import Struct

from ice.errors import RemoteError
from ice.link.message import Code

HEADER = Struct(">HB")
#: A whole MEDIA frame up to its payload: length, type, flags, key, source, sequence.
MEDIA = Struct(">HBBQQI")
#: Bytes before the payload of a MEDIA frame.
MEDIA_HEADER = MEDIA.size
#: The same without the frame header: what ``length`` counts beside the payload.
MEDIA_OVERHEAD = MEDIA.size - HEADER.size

#: Offset of the flags in a whole MEDIA frame.
FLAGS_AT = 3
#: What a RELAY frame has before the MEDIA frame inside it: its own header, origin u64, hops u8.
RELAY_HEADER = HEADER.size + 9

MAX_BODY = 0xFFFF  # what a u16 can say
MAX_HELLO = 4_096  # nobody has shown who they are yet: enough for every field at its bound, and no more
MAX_CONTROL = 16_384  # a JOIN of 256 bytes, each written as \\uXXXX, fits ten times over
MAX_MEDIA_PAYLOAD = 4_096  # the original's largest datagram; a setting


class FrameType(IntEnum):
    """The types of link version 1; anything else is answered by ERROR ``unsupported``."""

    HELLO = 0x01
    WELCOME = 0x02
    JOIN = 0x03
    JOINED = 0x04
    LEAVE = 0x05
    PING = 0x06
    PONG = 0x07
    ERROR = 0x08
    BYE = 0x09
    MEDIA = 0x10
    RELAY = 0x11
    TOPOLOGY = 0x12
    INTEREST = 0x13


class Flag(IntFlag):
    """Media flags: what a Rallypoint may know of a datagram without reading it."""

    URGENT = 0x01  #: emergency; the last to be dropped
    FIRST = 0x02  #: first of a burst
    LAST = 0x04  #: last of a burst
    DATA = 0x08  #: data, not audio
    PROTECTED = 0x10  #: flooded over core links


class FrameError(RemoteError):
    """The far side sent what cannot be a frame; the link ends with ``code``."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def control(kind: FrameType, body: bytes = b"") -> bytes:
    """A whole control frame around ``body``.

    Raises :class:`ValueError` when the body is longer than a frame can say.
    """
    if len(body) > MAX_BODY:
        raise ValueError(f"a frame body holds at most {MAX_BODY} bytes, not {len(body)}")
    return HEADER.pack(len(body), kind) + body


def media(flags: int, key: int, source: int, sequence: int, payload: bytes) -> bytes:
    """A whole MEDIA frame.  ``payload`` is any bytes, normally one RTP packet or its ciphertext."""
    return MEDIA.pack(MEDIA_OVERHEAD + len(payload), FrameType.MEDIA, flags, key, source, sequence) + payload


class FrameSplitter:
    """Finds frame borders in a byte stream that arrives in pieces of any size.

    A length that lies, or that is over the bound of its type, is noticed as soon as the header is there: nobody
    makes us wait for, or hold, more than one bounded frame.
    """

    __slots__ = ("error", "least_media", "max_control", "max_media", "media_kind", "rest")

    def __init__(self, *, max_control: int = MAX_CONTROL, max_media: int = MAX_MEDIA_PAYLOAD) -> None:
        #: The unfinished frame that is held.
        self.rest = b""
        self.max_control = max_control
        #: The type of frame that carries media on this link, and the sizes that its body may have.
        self.media_kind = 0x10
        self.least_media = MEDIA_OVERHEAD
        self.max_media = max_media + MEDIA_OVERHEAD
        #: Set once the stream is broken; frames before the break have been given out.
        self.error: FrameError | None = None

    def relays(self) -> None:
        """From here on media comes as RELAY: this is a link between Rallypoints.

        What the other lets its clients send is the other's setting: as large as a frame can be.
        """
        self.media_kind = 0x11
        self.least_media += RELAY_HEADER
        self.max_media = MAX_BODY

    @property
    def waiting(self) -> int:
        """Bytes of an unfinished frame that are held."""
        return len(self.rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Every whole frame that ``data`` completes, in order, header included.

        When the stream breaks, :attr:`error` says why and nothing more is ever given out.
        """
        if self.error is not None:
            return []
        if self.rest:
            data = self.rest + data
        frames: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= 3:
            length = (data[position] << 8) | data[position + 1]
            kind = data[position + 2]
            if kind == self.media_kind:
                if length > self.max_media or length < self.least_media:
                    self.error = _bad_media(length, self.least_media, self.max_media)
                    break
            elif length > self.max_control:
                self.error = FrameError(
                    Code.TOO_LARGE,
                    f"a control body of {length} bytes; at most {self.max_control} are accepted",
                )
                break
            elif (kind == 0x06 or kind == 0x07) and length != 8:
                self.error = FrameError(Code.BAD_FRAME, f"PING and PONG carry 8 bytes, not {length}")
                break
            stop = position + 3 + length
            if stop > end:
                break
            frames.append(data[position:stop])
            position = stop
        self.rest = b"" if self.error is not None else data[position:]
        return frames


def _bad_media(length: int, least: int, most: int) -> FrameError:
    if length < least:
        return FrameError(Code.BAD_FRAME, f"a media body has at least {least} bytes here, not {length}")
    return FrameError(
        Code.TOO_LARGE, f"a media payload of {length - least} bytes; at most {most - least} are accepted"
    )
