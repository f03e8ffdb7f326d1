"""GSM 06.10 full rate through libgsm: 13.2 kbit/s, frames of 20 ms in 33 bytes (RFC 3551 §4.5.8).

A packet is one frame after the other. Each begins with the four bits 1101, which is all that tells a frame from noise.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np

from ice.media.library import Library, Owned
from ice.media.payload import MalformedPayload, Pcm

RATE: Final = 8_000  # Hz
FRAME: Final = 160  # samples, 20 ms
OCTETS: Final = 33  # of a frame
MAX_FRAMES: Final = 10  # 200 ms: what a receiver is to accept in one packet (RFC 3551 §4.2)
SIGNATURE: Final = 0xD  # the first four bits of each frame
LIBRARY: Final = Library("libgsm", ("libgsm.so.1",), "libgsm1")


def samples(payload: bytes) -> int:
    """How many samples at 8 kHz a packet holds; raises :class:`~ice.media.payload.MalformedPayload`."""
    if not payload:
        raise MalformedPayload("empty", "a GSM packet without a frame")
    if len(payload) > MAX_FRAMES * OCTETS:
        raise MalformedPayload(
            "too-long", f"a GSM packet of {len(payload)} bytes; at most {MAX_FRAMES * OCTETS}"
        )
    if len(payload) % OCTETS:
        raise MalformedPayload("odd", f"a GSM packet of {len(payload)} bytes; frames have {OCTETS}")
    if any(payload[at] >> 4 != SIGNATURE for at in range(0, len(payload), OCTETS)):
        raise MalformedPayload("corrupt", "a GSM frame that does not begin with 1101")
    return len(payload) // OCTETS * FRAME


class _State:
    """libgsm's memory of one talker, in one direction."""

    def __init__(self) -> None:
        self._library = LIBRARY.load()
        self._library.gsm_create.restype = ctypes.c_void_p
        self._pcm = np.zeros(FRAME, np.int16)
        self._frame = ctypes.create_string_buffer(OCTETS)
        self._state = self._new()

    def _new(self) -> Owned:
        return Owned("libgsm", self._library.gsm_create, self._library.gsm_destroy)

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = self._new()


class Encoder(_State):
    """``int16[160 n]`` at 8 kHz to n frames."""

    rate = RATE

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        frames = []
        for start in range(0, len(pcm), FRAME):
            self._pcm[:] = pcm[start : start + FRAME]
            self._library.gsm_encode(self._state.pointer, ctypes.c_void_p(self._pcm.ctypes.data), self._frame)
            frames.append(self._frame.raw)
        return b"".join(frames)


class Decoder(_State):
    """Frames to ``int16[n]`` at 8 kHz."""

    rate = RATE

    def samples(self, payload: bytes) -> int:
        """See :func:`samples`."""
        return samples(payload)

    def decode(self, payload: bytes) -> Pcm:
        """All samples of a packet; raises :class:`~ice.media.payload.MalformedPayload`."""
        pieces = []
        for start in range(0, samples(payload) // FRAME * OCTETS, OCTETS):
            self._frame.raw = payload[start : start + OCTETS]
            if self._library.gsm_decode(
                self._state.pointer, self._frame, ctypes.c_void_p(self._pcm.ctypes.data)
            ):
                raise MalformedPayload("corrupt", "libgsm refused a frame")
            pieces.append(self._pcm.copy())
        return np.concatenate(pieces)

    def lost(self) -> Pcm | None:
        """libgsm has no word for a lost frame."""
        return None
