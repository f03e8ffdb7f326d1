"""Codec 2 through libcodec2: speech in 450 to 3,200 bit/s, for radios.

No RFC tells how Codec 2 goes over RTP, and how Engage packs it is not published. Here a packet is frame after frame, each filled up to whole bytes as
the library itself gives it. A frame lasts 20 ms at 2,400 and 3,200 bit/s and 40 ms at the other rates, so those go in packets of 40, 80 or 120 ms.
Nothing in the bits tells the rate: the payload type does.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from typing import Final

import attrs
import numpy as np

from ice.media.library import CodecMissing, Library, Owned
from ice.media.payload import MalformedPayload, Pcm

RATE: Final = 8_000  # Hz
MAX_MS: Final = 200  # of one packet (RFC 3551 §4.2)
LIBRARY: Final = Library(
    "libcodec2",
    ("libcodec2.so.1.2", "libcodec2.so.1.1", "libcodec2.so.1.0"),
    "libcodec2-1.0 (Debian 12; libcodec2-1.2 later)",
)


@attrs.frozen
class Mode:
    """One rate: the library's number for it, samples at 8 kHz and bytes of a frame."""

    number: int
    samples: int
    octets: int


MODES: Final[Mapping[int, Mode]] = {  # by bit/s; numbers of codec2.h
    3_200: Mode(0, 160, 8),
    2_400: Mode(1, 160, 6),
    1_600: Mode(2, 320, 8),
    1_400: Mode(3, 320, 7),
    1_300: Mode(4, 320, 7),
    1_200: Mode(5, 320, 6),
    700: Mode(8, 320, 4),
    450: Mode(10, 320, 3),
}


class _State:
    """libcodec2's memory of one talker, in one direction."""

    rate = RATE

    def __init__(self, bitrate: int) -> None:
        self._mode = MODES[bitrate]
        self._library = LIBRARY.load()
        self._library.codec2_create.restype = ctypes.c_void_p
        self._pcm = np.zeros(self._mode.samples, np.int16)
        self._frame = ctypes.create_string_buffer(self._mode.octets)
        self._state = self._new()
        if (self._library.codec2_samples_per_frame(self._state.pointer), self._octets()) != (
            self._mode.samples,
            self._mode.octets,
        ):
            raise CodecMissing(f"the installed libcodec2 has other frames of {bitrate} bit/s than we know")

    def _octets(self) -> int:
        return (int(self._library.codec2_bits_per_frame(self._state.pointer)) + 7) // 8

    def _new(self) -> Owned:
        create = functools.partial(self._library.codec2_create, self._mode.number)
        return Owned("libcodec2", create, self._library.codec2_destroy)

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = self._new()


class Encoder(_State):
    """``int16[n]`` at 8 kHz, whole frames, to a packet at ``bitrate``, one of :data:`MODES`."""

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        frames = []
        for start in range(0, len(pcm), self._mode.samples):
            self._pcm[:] = pcm[start : start + self._mode.samples]
            self._library.codec2_encode(
                self._state.pointer, self._frame, ctypes.c_void_p(self._pcm.ctypes.data)
            )
            frames.append(self._frame.raw)
        return b"".join(frames)


class Decoder(_State):
    """Packets to ``int16[n]`` at 8 kHz."""

    def samples(self, payload: bytes) -> int:
        """How many samples at 8 kHz a packet holds; raises :class:`~ice.media.payload.MalformedPayload`."""
        if not payload:
            raise MalformedPayload("empty", "a Codec 2 packet without a frame")
        frames, rest = divmod(len(payload), self._mode.octets)
        if frames * self._mode.samples > MAX_MS * RATE // 1000:
            raise MalformedPayload("too-long", f"a Codec 2 packet of more than {MAX_MS} ms")
        if rest:
            raise MalformedPayload(
                "odd", f"a Codec 2 packet of {len(payload)} bytes; frames have {self._mode.octets}"
            )
        return frames * self._mode.samples

    def decode(self, payload: bytes) -> Pcm:
        """All samples of a packet; raises :class:`~ice.media.payload.MalformedPayload`."""
        self.samples(payload)
        pieces = []
        for start in range(0, len(payload), self._mode.octets):
            self._frame.raw = payload[start : start + self._mode.octets]
            self._library.codec2_decode(
                self._state.pointer, ctypes.c_void_p(self._pcm.ctypes.data), self._frame
            )
            pieces.append(self._pcm.copy())
        return np.concatenate(pieces)

    def lost(self) -> Pcm | None:
        """libcodec2 has no word for a lost frame."""
        return None
