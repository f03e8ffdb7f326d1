"""AudioSocket: one TCP connection per call leg, made by the call manager, with the call's sound in both directions.

Each message is a byte that says what it is, two bytes of length (big-endian), and so many bytes::

    00 0000                     the call is hung up
    01 0010 <16 bytes>          which call it is; the first message of a connection
    03 0001 <ASCII>             one telephone key
    10 0140 <320 bytes>         20 ms of sound: signed, 16 bit, little-endian, mono; 10 at 8 kHz, 11 at 12, 12 at 16, 13 at 24,
                                14 at 32, 15 at 44.1, 16 at 48, 17 at 96, 18 at 192 kHz
    ff 0001 <code>              an error: 1 the caller hung up, 2 frame forwarding, 4 memory

**Inbound, anything may come.** Frames of any length, the last one short and odd; types that we do not know; digits that are none. :class:`Reader` gives each message as a
value and never raises: what has no meaning is an :class:`Odd` with a reason. Three bytes say how long a message is, so a reader never keeps more than 65,538 bytes.

**Outbound, only what is safe.** Asterisk ends the call within milliseconds when it is sent a type it does not know, an empty audio frame, an error, a digit or
a second UUID. So :func:`sound` and :func:`hang_up` are all that a gateway says; what else there is, is written by the call manager's side (:mod:`ice.testing` speaks it), by
:func:`encode`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.media.dtmf import DIGITS

HEADER: Final = struct.Struct(">BH")
MAX_PAYLOAD: Final = 0xFFFF  # two bytes of length
MAX_SOUND: Final = MAX_PAYLOAD - 1  # whole samples of two bytes
UUID_BYTES: Final = 16


class Kind(IntEnum):
    """The first byte of a message, as far as it is no sound (:data:`RATES`)."""

    HANG_UP = 0x00
    UUID = 0x01
    DIGIT = 0x03
    ERROR = 0xFF


#: Sampling rate in Hz by the first byte of a message of sound.
RATES: Final[Mapping[int, int]] = MappingProxyType(
    {
        0x10: 8_000,
        0x11: 12_000,
        0x12: 16_000,
        0x13: 24_000,
        0x14: 32_000,
        0x15: 44_100,
        0x16: 48_000,
        0x17: 96_000,
        0x18: 192_000,
    }
)
KINDS: Final[Mapping[int, int]] = MappingProxyType({rate: kind for kind, rate in RATES.items()})

#: What the code of an error message means.
ERRORS: Final[Mapping[int, str]] = MappingProxyType(
    {1: "the caller hung up", 2: "frame forwarding", 4: "memory"}
)


class Oddity(StrEnum):
    """Why a message has no meaning."""

    UNKNOWN_KIND = "unknown-kind"
    UUID_LENGTH = "uuid-length"
    DIGIT = "digit"  #: not one ASCII character, or no telephone key
    EMPTY = "empty"  #: sound without a sample


@attrs.frozen
class Named:
    """Which call this connection belongs to."""

    call: UUID


@attrs.frozen
class HungUp:
    """The call manager has hung up."""


@attrs.frozen
class Digit:
    """A telephone key was pressed at the far end."""

    digit: str


@attrs.frozen
class Sound:
    """Samples at ``rate`` Hz as bytes, 16 bit little-endian mono; an odd byte at the end was cut off (``odd``)."""

    rate: int
    samples: bytes = attrs.field(repr=False)
    odd: bool = False


@attrs.frozen
class Failed:
    """The call manager reports an error; the code is 0 where it gave none."""

    code: int

    @property
    def text(self) -> str:
        """What it means."""
        return ERRORS.get(self.code, f"error {self.code}")


@attrs.frozen
class Odd:
    """A message without a meaning, and why."""

    kind: int
    length: int
    why: Oddity


Message: TypeAlias = Named | HungUp | Digit | Sound | Failed | Odd


def decode(kind: int, payload: bytes) -> Message:
    """The message of that kind with that payload."""
    rate = RATES.get(kind)
    if rate is not None:
        odd = len(payload) & 1
        if len(payload) < 2:
            return Odd(kind, len(payload), Oddity.EMPTY)
        return Sound(rate, payload[: len(payload) - odd], bool(odd))
    match kind:
        case Kind.HANG_UP:
            return HungUp()  # whatever stands behind it
        case Kind.UUID if len(payload) == UUID_BYTES:
            return Named(UUID(bytes=payload))
        case Kind.UUID:
            return Odd(kind, len(payload), Oddity.UUID_LENGTH)
        case Kind.DIGIT:
            digit = payload.decode("ascii", "replace").upper()
            good = len(digit) == 1 and digit in DIGITS
            return Digit(digit) if good else Odd(kind, len(payload), Oddity.DIGIT)
        case Kind.ERROR:
            return Failed(payload[0] if payload else 0)
        case _:
            return Odd(kind, len(payload), Oddity.UNKNOWN_KIND)


def encode(kind: int, payload: bytes = b"") -> bytes:
    """Any message, as a call manager may send it; raises :class:`~ice.errors.LocalError` for what fits in no header."""
    if not 0 <= kind <= 0xFF or len(payload) > MAX_PAYLOAD:
        raise LocalError(
            f"an AudioSocket message has a kind of 0–255 and at most {MAX_PAYLOAD} bytes, not {kind} and {len(payload)}"
        )
    return HEADER.pack(kind, len(payload)) + payload


def sound(rate: int, samples: bytes) -> bytes:
    """A message of sound for a call manager: whole samples of 16 bit little-endian mono.

    Raises :class:`~ice.errors.LocalError` for a rate that AudioSocket does not have, and for what would end the call: nothing, half a sample, or more than
    65,534 bytes.
    """
    kind = KINDS.get(rate)
    if kind is None:
        raise LocalError(f"AudioSocket has no sound at {rate} Hz; it has {', '.join(map(str, KINDS))}")
    if not 2 <= len(samples) <= MAX_SOUND or len(samples) & 1:
        raise LocalError(
            f"a frame of {len(samples)} bytes: a call manager takes whole samples, 2 to {MAX_SOUND} bytes of them"
        )
    return HEADER.pack(kind, len(samples)) + samples


def hang_up() -> bytes:
    """The message that ends the call; nothing may be sent after it."""
    return HEADER.pack(Kind.HANG_UP, 0)


class Reader:
    """Bytes as they come from the socket, in pieces of any size, to messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes of a message that is not whole yet; above 0 at the end of the connection it was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that have become whole with these bytes."""
        buffer = self._buffer
        buffer += data
        messages = []
        position = 0
        while len(buffer) - position >= HEADER.size:
            kind, length = HEADER.unpack_from(buffer, position)
            end = position + HEADER.size + length
            if end > len(buffer):
                break
            messages.append(decode(kind, bytes(buffer[position + HEADER.size : end])))
            position = end
        del buffer[:position]
        return messages
