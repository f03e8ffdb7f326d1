"""AMR narrow band (3GPP TS 26.071) through OpenCORE: eight rates, frames of 20 ms, any rate in any packet (RFC 4867).

**Packing.** RFC 4867 knows two. *Bandwidth-efficient* (§4.3), its default and what we send: four bits that ask for a rate, six bits for each frame
that tell its kind, then the frames' bits, with nothing in between. *Octet-aligned* (§4.4): the same with each part filled up to whole bytes.
What Engage sends is not published, so both are understood: a packet is read as bandwidth-efficient where its length and its padding fit exactly, else
as octet-aligned where that fits; where both do, as that which has no damaged frame (octet-aligned speech, read as the other, always begins with one). A frame's own bits come in the same order in both.

**Frames** have a type: 0–7 speech by rate, 8 the description of comfort noise, 15 nothing was sent. Types in between belong to other systems and
make a packet one that cannot be read (§4.3.2). A frame that its sender calls damaged is concealed by the decoder.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.library import Library, Owned
from ice.media.payload import MalformedPayload, Pcm

RATE: Final = 8_000  # Hz
FRAME: Final = 160  # samples, 20 ms
MAX_FRAMES: Final = 10  # 200 ms (RFC 3551 §4.2)
BITRATES: Final = (4_750, 5_150, 5_900, 6_700, 7_400, 7_950, 10_200, 12_200)  # by frame type
BITS: Final = {0: 95, 1: 103, 2: 118, 3: 134, 4: 148, 5: 159, 6: 204, 7: 244, 8: 39, 15: 0}  # RFC 4867 §3.6
NO_REQUEST: Final = 15  # of the four bits in front: any rate will do
NO_DATA: Final = 15
MAX_OCTETS: Final = 1 + MAX_FRAMES * 32
LIBRARY: Final = Library("OpenCORE AMR", ("libopencore-amrnb.so.0",), "libopencore-amrnb0")


@attrs.frozen
class Frame:
    """One frame: its type (0–8 or 15), whether it is undamaged, and its bits, filled up with zeros to whole bytes."""

    kind: int
    good: bool
    data: bytes

    @property
    def stored(self) -> bytes:
        """As in a file (RFC 4867 §5.3), which is also how libraries take it: a byte that tells the type, then the bits."""
        kind = self.kind if self.good else NO_DATA
        return bytes((kind << 3 | 0x04,)) + (self.data if self.good else b"")

    @classmethod
    def from_stored(cls, stored: bytes) -> Frame:
        """The frame at the beginning of ``stored``; raises :class:`~ice.media.payload.MalformedPayload`."""
        kind = stored[0] >> 3 & 0x0F if stored else -1
        octets = -(-BITS.get(kind, 0) // 8)
        if kind not in BITS or len(stored) < 1 + octets:
            raise MalformedPayload("corrupt", f"{len(stored)} bytes are no stored AMR frame")
        return cls(kind, bool(stored[0] & 0x04), stored[1 : 1 + octets])


def pack(frames: list[Frame], *, octet_aligned: bool = False) -> bytes:
    """A packet of one or more frames, no rate asked for; raises :class:`~ice.errors.LocalError` for none."""
    if not frames:
        raise LocalError("an AMR packet has at least one frame")
    more = [index < len(frames) - 1 for index in range(len(frames))]
    entries = [
        follows << 5 | frame.kind << 1 | frame.good for follows, frame in zip(more, frames, strict=True)
    ]
    if octet_aligned:
        return bytes((NO_REQUEST << 4, *(entry << 2 for entry in entries))) + b"".join(
            frame.data for frame in frames
        )
    value, length = NO_REQUEST, 4
    for entry in entries:
        value, length = value << 6 | entry, length + 6
    for frame in frames:
        bits = BITS[frame.kind]
        value = value << bits | int.from_bytes(frame.data) >> -bits % 8
        length += bits
    return (value << -length % 8).to_bytes(-(-length // 8))


def unpack(payload: bytes) -> list[Frame]:
    """The frames of a packet in either packing (module docstring), at most ten; raises :class:`~ice.media.payload.MalformedPayload`."""
    if not payload:
        raise MalformedPayload("empty", "an AMR packet without a byte")
    if len(payload) > MAX_OCTETS:
        raise MalformedPayload("too-long", f"an AMR packet of {len(payload)} bytes; at most {MAX_OCTETS}")
    efficient, aligned = _efficient(payload), _aligned(payload)
    frames = efficient or aligned
    if efficient and aligned and not _all_good(efficient) and _all_good(aligned):
        frames = aligned
    if frames is None:
        raise MalformedPayload("corrupt", f"{len(payload)} bytes are no AMR packet of either packing")
    return frames


def _all_good(frames: list[Frame]) -> bool:
    return all(frame.good for frame in frames)


def _efficient(payload: bytes) -> list[Frame] | None:
    value, left = int.from_bytes(payload), 8 * len(payload)

    def take(bits: int) -> int:
        nonlocal left
        left -= bits
        return value >> left & (1 << bits) - 1

    take(4)
    entries: list[int] = []
    while left >= 6 and len(entries) < MAX_FRAMES:
        entries.append(take(6))
        if not entries[-1] >> 5:
            break
    if not entries or entries[-1] >> 5:
        return None
    kinds = [entry >> 1 & 0x0F for entry in entries]
    if any(kind not in BITS for kind in kinds):
        return None
    rest = left - sum(BITS[kind] for kind in kinds)
    if not 0 <= rest < 8 or value & (1 << rest) - 1:
        return None
    frames = []
    for kind, entry in zip(kinds, entries, strict=True):
        bits = BITS[kind]
        data = (take(bits) << -bits % 8).to_bytes(-(-bits // 8))
        frames.append(Frame(kind, bool(entry & 1), data))
    return frames


def _aligned(payload: bytes) -> list[Frame] | None:
    if payload[0] & 0x0F:
        return None
    entries = []
    for entry in payload[1 : 1 + MAX_FRAMES]:
        entries.append(entry)
        if not entry >> 7:
            break
    if not entries or entries[-1] >> 7 or any(entry & 0x03 for entry in entries):
        return None
    at = 1 + len(entries)
    frames = []
    for entry in entries:
        kind = entry >> 3 & 0x0F
        if kind not in BITS:
            return None
        octets = -(-BITS[kind] // 8)
        frames.append(Frame(kind, bool(entry & 0x04), payload[at : at + octets]))
        at += octets
    return frames if at == len(payload) else None


def samples(payload: bytes) -> int:
    """How many samples at 8 kHz a packet holds; raises :class:`~ice.media.payload.MalformedPayload`."""
    return len(unpack(payload)) * FRAME


class Encoder:
    """``int16[160 n]`` at 8 kHz to a packet of n frames at ``bitrate``, one of :data:`BITRATES`."""

    rate = RATE

    def __init__(self, bitrate: int, *, octet_aligned: bool = False) -> None:
        self._mode = BITRATES.index(bitrate)
        self._aligned = octet_aligned
        self._library = LIBRARY.load()
        self._library.Encoder_Interface_init.restype = ctypes.c_void_p
        self._pcm = np.zeros(FRAME, np.int16)
        self._stored = ctypes.create_string_buffer(64)
        self._state = self._new()

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        frames = []
        for start in range(0, len(pcm), FRAME):
            self._pcm[:] = pcm[start : start + FRAME]
            size = self._library.Encoder_Interface_Encode(
                self._state.pointer, self._mode, ctypes.c_void_p(self._pcm.ctypes.data), self._stored, 0
            )
            frames.append(Frame.from_stored(self._stored.raw[: max(0, size)]))
        return pack(frames, octet_aligned=self._aligned)

    def _new(self) -> Owned:
        library = self._library
        return Owned(
            "OpenCORE AMR",
            functools.partial(library.Encoder_Interface_init, 0),
            library.Encoder_Interface_exit,
        )

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = self._new()


class Decoder:
    """Packets to ``int16[n]`` at 8 kHz."""

    rate = RATE

    def __init__(self) -> None:
        self._library = LIBRARY.load()
        self._library.Decoder_Interface_init.restype = ctypes.c_void_p
        self._pcm = np.zeros(FRAME, np.int16)
        self._stored = ctypes.create_string_buffer(64)  # the decoder trusts the type, never a length
        self._state = self._new()

    def samples(self, payload: bytes) -> int:
        """See :func:`samples`."""
        return samples(payload)

    def decode(self, payload: bytes) -> Pcm:
        """All samples of a packet; raises :class:`~ice.media.payload.MalformedPayload`."""
        return np.concatenate([self._frame(frame.stored) for frame in unpack(payload)])

    def lost(self) -> Pcm | None:
        """20 ms in place of a frame that did not come (3GPP TS 26.091)."""
        return self._frame(bytes((NO_DATA << 3,)))

    def _new(self) -> Owned:
        library = self._library
        return Owned("OpenCORE AMR", library.Decoder_Interface_init, library.Decoder_Interface_exit)

    def reset(self) -> None:
        """Forget the talker."""
        self._state = self._new()

    def _frame(self, stored: bytes) -> Pcm:
        self._stored.raw = stored.ljust(64, b"\0")
        self._library.Decoder_Interface_Decode(
            self._state.pointer, self._stored, ctypes.c_void_p(self._pcm.ctypes.data), 0
        )
        return self._pcm.copy()
