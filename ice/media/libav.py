"""Codecs through FFmpeg's libraries, bound by PyAV (the extra ``codecs``): G.722 both ways, G.729 to hear, and a second way for GSM, AMR and Speex.

FFmpeg takes any bytes without harm, so what is checked before is only how long a packet sounds: that is promised to the jitter buffer before anything
is decoded. What does not come out at that length is refused, and the decoder begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ice.media import amr, gsm, library, speex
from ice.media.payload import MalformedPayload, Pcm

WIDE_RATE: Final = 16_000  # Hz, of G.722's sound
MAX_MS: Final = 200  # of one packet (RFC 3551 §4.2)
G722_STEP: Final = 320  # samples that its encoder is given at once: 20 ms
G729_OCTETS: Final = 10  # of a frame of 10 ms
G729_PAUSE: Final = (
    2  # bytes of Annex B's description of comfort noise, which may end a packet (RFC 3551 §4.5.6)
)


def g722_samples(payload: bytes) -> int:
    """Samples at 16 kHz of a G.722 packet: two per byte; raises :class:`~ice.media.payload.MalformedPayload`."""
    if not payload:
        raise MalformedPayload("empty", "a G.722 packet without a sample")
    if 2 * len(payload) > MAX_MS * WIDE_RATE // 1000:
        raise MalformedPayload(
            "too-long", f"a G.722 packet of {len(payload)} bytes is longer than {MAX_MS} ms"
        )
    return 2 * len(payload)


def g729_samples(payload: bytes) -> int:
    """Samples at 8 kHz of a G.729 packet; raises :class:`~ice.media.payload.MalformedPayload`.

    Annex B's description of a pause stands for no time of its own behind speech, and for 10 ms alone.
    """
    if not payload:
        raise MalformedPayload("empty", "a G.729 packet without a frame")
    frames, rest = divmod(len(payload), G729_OCTETS)
    if frames * 10 > MAX_MS:
        raise MalformedPayload(
            "too-long", f"a G.729 packet of {len(payload)} bytes is longer than {MAX_MS} ms"
        )
    if rest not in (0, G729_PAUSE):
        raise MalformedPayload("odd", f"a G.729 packet of {len(payload)} bytes; frames have {G729_OCTETS}")
    return 80 * max(1, frames)


def _whole(payload: bytes) -> list[bytes]:
    return [payload]


def _amr_frames(payload: bytes) -> list[bytes]:
    return [frame.stored for frame in amr.unpack(payload)]


def _g729_frames(payload: bytes) -> list[bytes]:
    return [payload[: len(payload) // G729_OCTETS * G729_OCTETS]]


_DECODERS: Final[dict[str, tuple[str, int, Callable[[bytes], int], Callable[[bytes], list[bytes]]]]] = {
    # family: FFmpeg's name, rate in Hz, how long a packet sounds, and in what pieces the decoder wants it
    "g722": ("g722", WIDE_RATE, g722_samples, _whole),
    "g729": ("g729", 8_000, g729_samples, _g729_frames),
    "gsm": ("gsm", gsm.RATE, gsm.samples, _whole),
    "amr-nb": ("amrnb", amr.RATE, amr.samples, _amr_frames),
    "speex": ("speex", speex.RATE, speex.samples, speex.frames),
}


class Decoder:
    """Packets of one family to ``int16[n]`` at :attr:`rate`; raises :class:`~ice.media.library.CodecMissing`."""

    def __init__(self, family: str) -> None:
        self._name, self.rate, self._samples, self._pieces = _DECODERS[family]
        self._av = library.libav()
        self.reset()

    def samples(self, payload: bytes) -> int:
        """How many samples :meth:`decode` gives; raises :class:`~ice.media.payload.MalformedPayload`."""
        return self._samples(payload)

    def decode(self, payload: bytes) -> Pcm:
        """All samples of a packet; raises :class:`~ice.media.payload.MalformedPayload`, and goes on working after it."""
        expected = self._samples(payload)
        heard: list[Pcm] = []
        try:
            for piece in self._pieces(payload):
                if piece:
                    heard += [
                        _int16(frame.to_ndarray()) for frame in self._context.decode(self._av.Packet(piece))
                    ]
        except (self._av.FFmpegError, ValueError) as error:
            self.reset()
            raise MalformedPayload("corrupt", f"FFmpeg's decoder {self._name}: {error}") from None
        pcm = np.concatenate(heard) if heard else np.zeros(0, np.int16)
        if not len(pcm) and len(payload) == G729_PAUSE:
            return np.zeros(expected, np.int16)
        if len(pcm) != expected:
            self.reset()
            raise MalformedPayload(
                "corrupt", f"FFmpeg's decoder {self._name} gave {len(pcm)} samples instead of {expected}"
            )
        return pcm

    def lost(self) -> Pcm | None:
        """FFmpeg's decoders have no word for a lost frame."""
        return None

    def reset(self) -> None:
        """Forget the talker."""
        self._context: Any = _context(self._av, self._name, "r", self.rate)


class G722Encoder:
    """``int16[320 n]`` at 16 kHz to 160 n bytes."""

    rate = WIDE_RATE

    def __init__(self) -> None:
        self._av = library.libav()
        self.reset()

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        return b"".join(
            packet
            for start in range(0, len(pcm), G722_STEP)
            for packet in _encoded(self._av, self._context, pcm[start : start + G722_STEP])
        )

    def reset(self) -> None:
        """Forget what was heard."""
        self._context = _context(self._av, "g722", "w", self.rate)


class AmrEncoder:
    """``int16[160 n]`` at 8 kHz to a packet of n frames, bandwidth-efficient."""

    rate = amr.RATE

    def __init__(self, bitrate: int) -> None:
        self._av = library.libav()
        self._bitrate = bitrate
        self.reset()

    def encode(self, pcm: Pcm) -> bytes:
        """One packet."""
        return amr.pack(
            [
                amr.Frame.from_stored(stored)
                for start in range(0, len(pcm), amr.FRAME)
                for stored in _encoded(self._av, self._context, pcm[start : start + amr.FRAME])
            ]
        )

    def reset(self) -> None:
        """Forget what was heard."""
        self._context = _context(self._av, "libopencore_amrnb", "w", self.rate)
        self._context.bit_rate = self._bitrate


def _context(av: Any, name: str, mode: str, rate: int) -> Any:
    try:
        context = av.CodecContext.create(name, mode)
    except (av.FFmpegError, ValueError) as error:  # built without it
        raise library.CodecMissing(f"this PyAV has no {name}: {library.EXTRA}") from error
    context.sample_rate = rate
    context.layout = "mono"
    if mode == "w":
        context.format = "s16"
    return context


def _encoded(av: Any, context: Any, pcm: Pcm) -> list[bytes]:
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = context.sample_rate
    return [bytes(packet) for packet in context.encode(frame)]


def _int16(samples: Any) -> Pcm:
    row = samples.reshape(-1)
    if row.dtype == np.int16:
        return np.asarray(row, np.int16)
    return np.asarray(np.rint(np.clip(row * 32_768.0, -32_768, 32_767)), np.int16)
