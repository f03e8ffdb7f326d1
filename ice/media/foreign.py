"""Codecs that others use: GSM, AMR, Speex, Codec 2, G.722 and G.729, each through whichever library is here.

For a family several libraries may do; they are tried in the order of the tables below, and the first that is installed is taken. A C library comes before
PyAV because it encodes as well and tells of losses. Where none is there, :class:`~ice.media.library.CodecMissing` says what to install; where none exists
at all, that is said.

:class:`ForeignEncoder` and :class:`ForeignDecoder` give them the shape of every codec here: frames of 48 kHz in, frames of 48 kHz out, each as long
as was promised. Between the rates stands :mod:`ice.media.resample` (2 ms each way at 8 kHz, 1 ms at 16). What is lost is made up by the codec where it can,
else by :mod:`ice.media.conceal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media import amr, codec2, gsm, libav, speex
from ice.media.conceal import Concealer
from ice.media.library import CodecMissing
from ice.media.payload import SAMPLE_RATE, Pcm, check_conceal, check_frame
from ice.media.resample import Downsampler, Upsampler
from ice.media.table import CODECS, HEARD_ONLY, NATIVE, Codec


class PacketEncoder(Protocol):
    """A library's encoder: whole packets at its own rate."""

    @property
    def rate(self) -> int:
        """Hz."""

    def encode(self, pcm: Pcm) -> bytes:
        """``int16[n]``, whole frames, as one packet."""

    def reset(self) -> None:
        """Forget what was heard."""


class PacketDecoder(Protocol):
    """A library's decoder: whole packets at its own rate."""

    @property
    def rate(self) -> int:
        """Hz."""

    def samples(self, payload: bytes) -> int:
        """How many samples :meth:`decode` gives; raises :class:`~ice.media.payload.MalformedPayload`."""

    def decode(self, payload: bytes) -> Pcm:
        """``int16[samples(payload)]``; raises :class:`~ice.media.payload.MalformedPayload`."""

    def lost(self) -> Pcm | None:
        """One frame made up in place of a lost one; ``None`` where the codec cannot."""

    def reset(self) -> None:
        """Forget the talker."""


def _codec2_encoder(row: Codec, bitrate: int) -> PacketEncoder:
    return codec2.Encoder(row.bitrates[0])


_ENCODERS: Final[Mapping[str, tuple[tuple[str, Callable[[Codec, int], PacketEncoder]], ...]]] = (
    MappingProxyType(
        {
            "gsm": (("libgsm", lambda row, bitrate: gsm.Encoder()),),
            "amr-nb": (
                ("OpenCORE AMR", lambda row, bitrate: amr.Encoder(bitrate)),
                ("PyAV", lambda row, bitrate: libav.AmrEncoder(bitrate)),
            ),
            "speex": (("libspeex", lambda row, bitrate: speex.Encoder(bitrate)),),
            "codec2": (("libcodec2", _codec2_encoder),),
            "g722": (("PyAV", lambda row, bitrate: libav.G722Encoder()),),
        }
    )
)
_DECODERS: Final[Mapping[str, tuple[tuple[str, Callable[[Codec], PacketDecoder]], ...]]] = MappingProxyType(
    {
        "gsm": (("libgsm", lambda row: gsm.Decoder()), ("PyAV", lambda row: libav.Decoder("gsm"))),
        "amr-nb": (
            ("OpenCORE AMR", lambda row: amr.Decoder()),
            ("PyAV", lambda row: libav.Decoder("amr-nb")),
        ),
        "speex": (("libspeex", lambda row: speex.Decoder()), ("PyAV", lambda row: libav.Decoder("speex"))),
        "codec2": (("libcodec2", lambda row: codec2.Decoder(row.bitrates[0])),),
        "g722": (("PyAV", lambda row: libav.Decoder("g722")),),
        "g729": (("PyAV", lambda row: libav.Decoder("g729")),),
    }
)
_MOST_BITS_PER_MS: Final = MappingProxyType(
    {"gsm": 13.2, "amr-nb": (6 + 244) / 20, "speex": 492 / 20, "codec2": 3.2, "g722": 64.0, "g729": 8.0}
)
_MOST_IN_FRONT: Final = 4  # bits: AMR's request


class ForeignEncoder:
    """One talker's voice through a library; see :class:`ice.media.codecs.Encoder`."""

    def __init__(self, codec: Codec, bitrate: int, framing_ms: int) -> None:
        self.codec = codec
        self.framing_ms = codec.check_framing(framing_ms)
        self.samples = framing_ms * SAMPLE_RATE // 1000
        self.timestamp_step = codec.timestamp_step(framing_ms)
        self._packets = packet_encoder(codec, bitrate)
        self._down = Downsampler(SAMPLE_RATE // self._packets.rate)

    def encode(self, pcm: Pcm) -> bytes:
        """The payload of one frame; raises :class:`~ice.errors.LocalError` unless ``pcm`` is ``int16[samples]``."""
        return self._packets.encode(self._down.process(check_frame(pcm, self.samples)))

    def expect_loss(self, percent: int) -> None:
        """No codec of these repeats frames; raises :class:`~ice.errors.LocalError` for what is no percentage."""
        if not 0 <= percent <= 100:
            raise LocalError(f"expected loss of {percent} % is not in 0–100")

    def reset(self) -> None:
        """Forget what was heard: the next frame begins a new burst."""
        self._down.reset()
        self._packets.reset()


class ForeignDecoder:
    """One talker's payloads through a library; see :class:`ice.media.codecs.Decoder`."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._packets = packet_decoder(codec)
        self._up = Upsampler(SAMPLE_RATE // self._packets.rate)
        self._concealer = Concealer(self._packets.rate)

    def samples_48k(self, payload: bytes) -> int:
        """What :meth:`decode` would give; raises :class:`~ice.media.payload.MalformedPayload`."""
        return self._packets.samples(payload) * self._up.factor

    def decode(self, payload: bytes) -> Pcm:
        """``samples_48k(payload)`` samples; raises :class:`~ice.media.payload.MalformedPayload` and goes on working after it."""
        return self._up.process(self._concealer.heard(self._packets.decode(payload)))

    def conceal(self, samples: int, following: bytes | None = None) -> Pcm:
        """Exactly ``samples`` for what is missing, extrapolated."""
        wanted = -(-check_conceal(samples) // self._up.factor)
        pieces: list[Pcm] = []
        made = 0
        while made < wanted and (frame := self._packets.lost()) is not None:
            pieces.append(frame)
            made += len(frame)
        pcm = np.concatenate(pieces)[:wanted] if pieces else self._concealer.conceal(wanted)
        return self._up.process(pcm)[:samples]

    def recoverable(self, following: bytes) -> bool:
        """No codec of these repeats frames."""
        return False

    def reset(self) -> None:
        """Forget the talker: the next packet begins a new burst."""
        self._packets.reset()
        self._up.reset()
        self._concealer.reset()


def largest_payload(codec: Codec, framing_ms: int) -> int:
    """The most bytes that a packet of this codec takes at any of its rates."""
    bits = _MOST_IN_FRONT + _MOST_BITS_PER_MS[codec.family] * codec.check_framing(framing_ms)
    return math.ceil(bits / 8)


def packet_encoder(codec: Codec, bitrate: int) -> PacketEncoder:
    """An encoder at the best of the codec's rates up to ``bitrate``, from the first library that is here.

    Raises :class:`~ice.media.library.CodecMissing` where none is, and :class:`~ice.errors.LocalError` for a codec that is heard only.
    """
    return _encoder(codec, bitrate)[1]


def packet_decoder(codec: Codec) -> PacketDecoder:
    """A decoder from the first library that is here; raises :class:`~ice.media.library.CodecMissing` where none is."""
    return _decoder(codec)[1]


def _encoder(codec: Codec, bitrate: int) -> tuple[str, PacketEncoder]:
    if codec.family in HEARD_ONLY:
        raise LocalError(f"{codec.name} is heard only: no free library encodes it; talk in another codec")
    best = codec.bitrate(bitrate)
    reasons = []
    for name, make in _ENCODERS[codec.family]:
        try:
            return name, make(codec, best)
        except CodecMissing as error:
            reasons.append(str(error))
    raise _missing(codec, "encodes", reasons)


def _decoder(codec: Codec) -> tuple[str, PacketDecoder]:
    reasons = []
    for name, make in _DECODERS[codec.family]:
        try:
            return name, make(codec)
        except CodecMissing as error:
            reasons.append(str(error))
    raise _missing(codec, "decodes", reasons)


def _missing(codec: Codec, does: str, reasons: list[str]) -> CodecMissing:
    return CodecMissing(f"nothing here {does} {codec.name}: {'; or: '.join(reasons)}")


@attrs.frozen
class Support:
    """What carries a foreign family on this machine: the library's name, or ``""``; ``missing`` says what to install where one is not there."""

    family: str
    sends: str
    hears: str
    missing: str


def support() -> tuple[Support, ...]:
    """What carries each foreign family here; loads what is there."""
    rows = {row.family: row for row in CODECS.values() if row.family not in NATIVE}
    return tuple(_support(row) for row in rows.values())


def _support(row: Codec) -> Support:
    sends = hears = missing = ""
    try:
        hears = _decoder(row)[0]
    except CodecMissing as error:
        missing = str(error)
    if row.family not in HEARD_ONLY:
        try:
            sends = _encoder(row, 0)[0]
        except CodecMissing as error:
            missing = str(error)
    return Support(row.family, sends, hears, missing)
