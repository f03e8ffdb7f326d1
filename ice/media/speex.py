"""Speex narrow band through libspeex: eight rates, frames of 20 ms, any rate in any packet (RFC 5574).

A packet is a row of bits: frame follows frame without a gap, and what is left of the last byte is a zero and then ones (RFC 5574 §3.3). How many frames
there are is read here from the bits alone, so that the library is given whole frames and nothing else (libspeex 1.2 prints a line for each packet that
it does not like). A sender of wide band adds layers between the frames; they are left out, and its voice is heard as narrow band.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import Final

import numpy as np

from ice.media.library import Library, Owned
from ice.media.payload import MalformedPayload, Pcm

RATE: Final = 8_000  # Hz
FRAME: Final = 160  # samples, 20 ms
MAX_FRAMES: Final = 10  # 200 ms (RFC 3551 §4.2)
MAX_OCTETS: Final = 1_500  # no packet of one datagram is longer; ten frames with all layers have 1,290
SUBMODES: Final = {2_150: 1, 3_950: 8, 5_950: 2, 8_000: 3, 11_000: 4, 15_000: 5, 18_200: 6, 24_600: 7}
LIBRARY: Final = Library("libspeex", ("libspeex.so.1",), "libspeex1")

# The Speex manual, tables 9.1 and 10.1: bits of a whole frame or layer, its own first bits included.
_NARROW_BITS: Final = {0: 5, 1: 43, 2: 119, 3: 160, 4: 220, 5: 300, 6: 364, 7: 492, 8: 79}
_LAYER_BITS: Final = {0: 4, 1: 36, 2: 112, 3: 192, 4: 352}
_TERMINATOR: Final = 15
_CUSTOM: Final = 13  # a message to the application: four bits say how many bytes, five which
_IN_BAND: Final = 14  # a message to the decoder: four bits say which, and with it how many bits
_IN_BAND_BITS: Final = (1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64)
_SET_MODE: Final = 6  # request of speex_encoder_ctl


def frames(payload: bytes) -> list[bytes]:
    """The 1 to 10 narrow-band frames of a packet, each filled up as a packet of its own; raises :class:`~ice.media.payload.MalformedPayload`.

    Layers of wide band and messages, which a telephone's ear has no use for, are left out.
    """
    if not payload:
        raise MalformedPayload("empty", "a Speex packet without a byte")
    if len(payload) > MAX_OCTETS:
        raise MalformedPayload("too-long", f"a Speex packet of {len(payload)} bytes; at most {MAX_OCTETS}")
    bits, left = int.from_bytes(payload), 8 * len(payload)
    found: list[bytes] = []
    while left >= 5:
        layer = bits >> (left - 1) & 1
        kind = bits >> (left - 4) & 0x07 if layer else bits >> (left - 5) & 0x0F
        if not layer and kind == _TERMINATOR:
            break
        size = _LAYER_BITS.get(kind) if layer else _size(kind, bits, left)
        if size is None or size > left or (layer and not found):
            raise MalformedPayload("corrupt", "a Speex frame of no known kind, or cut off")
        left -= size
        if not layer and kind in _NARROW_BITS:
            if len(found) == MAX_FRAMES:
                raise MalformedPayload("too-long", f"a Speex packet of more than {MAX_FRAMES} frames")
            found.append(_filled(bits >> left & (1 << size) - 1, size))
    if not found:
        raise MalformedPayload("empty", "a Speex packet without a frame")
    return found


def _filled(bits: int, size: int) -> bytes:
    """Bits in whole bytes, the rest of the last one a zero and ones."""
    rest = -size % 8
    return (bits << rest | (1 << rest >> 1) - (rest > 0)).to_bytes((size + rest) // 8)


def _size(kind: int, bits: int, left: int) -> int | None:
    """How many bits the frame or message has that begins here, its five in front included; ``None``: no such thing."""
    if kind in _NARROW_BITS:
        return _NARROW_BITS[kind]
    if kind not in (_CUSTOM, _IN_BAND) or left < 9:
        return None
    code = bits >> (left - 9) & 0x0F
    return 14 + 8 * code if kind == _CUSTOM else 9 + _IN_BAND_BITS[code]


def samples(payload: bytes) -> int:
    """How many samples at 8 kHz a packet holds; raises :class:`~ice.media.payload.MalformedPayload`."""
    return len(frames(payload)) * FRAME


class _Bits(ctypes.Structure):
    """``SpeexBits`` of speex_bits.h, whose layout is part of the library's interface."""

    _fields_ = [
        ("chars", ctypes.c_void_p),
        ("bits", ctypes.c_int),
        ("char", ctypes.c_int),
        ("bit", ctypes.c_int),
        ("owner", ctypes.c_int),
        ("overflow", ctypes.c_int),
        ("size", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("reserved_pointer", ctypes.c_void_p),
    ]


class _State:
    """What encoder and decoder share: the library, a row of bits, a frame of sound."""

    def __init__(self, direction: str) -> None:
        self._library = LIBRARY.load()
        self._library.speex_lib_get_mode.restype = ctypes.c_void_p
        narrow = ctypes.c_void_p(self._library.speex_lib_get_mode(0))
        create = getattr(self._library, f"speex_{direction}_init")
        create.restype = ctypes.c_void_p
        self._create = functools.partial(create, narrow)
        self._destroy = getattr(self._library, f"speex_{direction}_destroy")
        self._state = self._new()
        self._bits = _Bits()
        self._library.speex_bits_init(ctypes.byref(self._bits))
        weakref.finalize(self, _end_bits, self._library, self._bits)
        self._pcm = np.zeros(FRAME, np.int16)

    def _new(self) -> Owned:
        return Owned("libspeex", self._create, self._destroy)

    def reset(self) -> None:
        """Forget what was heard; the library's own reset keeps some of it."""
        self._state = self._new()


def _end_bits(library: ctypes.CDLL, bits: _Bits) -> None:
    library.speex_bits_destroy(ctypes.byref(bits))


class Encoder(_State):
    """``int16[160 n]`` at 8 kHz to a packet of n frames at ``bitrate``, one of :data:`SUBMODES`."""

    rate = RATE

    def __init__(self, bitrate: int) -> None:
        self._submode = ctypes.c_int(SUBMODES[bitrate])
        super().__init__("encoder")
        self._packet = ctypes.create_string_buffer(MAX_OCTETS)

    def _new(self) -> Owned:
        state = super()._new()
        self._library.speex_encoder_ctl(state.pointer, _SET_MODE, ctypes.byref(self._submode))
        return state

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        bits = ctypes.byref(self._bits)
        self._library.speex_bits_reset(bits)
        for start in range(0, len(pcm), FRAME):
            self._pcm[:] = pcm[start : start + FRAME]  # a copy: the library writes into it
            self._library.speex_encode_int(self._state.pointer, ctypes.c_void_p(self._pcm.ctypes.data), bits)
        self._library.speex_bits_insert_terminator(bits)
        size = self._library.speex_bits_write(bits, self._packet, MAX_OCTETS)
        return self._packet.raw[:size]


class Decoder(_State):
    """Packets to ``int16[n]`` at 8 kHz."""

    rate = RATE

    def __init__(self) -> None:
        super().__init__("decoder")

    def samples(self, payload: bytes) -> int:
        """See :func:`samples`."""
        return samples(payload)

    def decode(self, payload: bytes) -> Pcm:
        """All samples of a packet; raises :class:`~ice.media.payload.MalformedPayload`."""
        bits = ctypes.byref(self._bits)
        pieces = []
        for frame in frames(payload):
            self._library.speex_bits_read_from(bits, frame, len(frame))
            if self._library.speex_decode_int(
                self._state.pointer, bits, ctypes.c_void_p(self._pcm.ctypes.data)
            ):
                raise MalformedPayload("corrupt", "libspeex refused a frame")
            pieces.append(self._pcm.copy())
        return np.concatenate(pieces)

    def lost(self) -> Pcm | None:
        """20 ms in place of a frame that did not come."""
        self._library.speex_decode_int(self._state.pointer, None, ctypes.c_void_p(self._pcm.ctypes.data))
        return self._pcm.copy()
