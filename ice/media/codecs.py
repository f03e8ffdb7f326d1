"""From the one table of codecs (:mod:`ice.media.table`) an encoder or a decoder, all of which look alike.

Inside, sound is ``int16[n]``, mono, 48 kHz, whatever goes over the wire: an encoder takes exactly ``samples`` = 48 × framing_ms of it
per frame, a decoder gives exactly ``samples_48k(payload)`` of it per packet, from the first to the last. So whoever schedules
sound counts in 48 kHz samples only, and :attr:`Codec.ticks_to_48k` is the one bridge from RTP timestamps.

Opus, G.711 and linear PCM are here; what others use besides is in :mod:`ice.media.foreign` and needs a library that is asked for at its first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from ice.errors import LocalError
from ice.media import engage, foreign, g711, opus
from ice.media.conceal import Concealer
from ice.media.payload import (
    FRAMINGS_MS,
    SAMPLE_RATE,
    MalformedPayload,
    Pcm,
    UnknownPayloadType,
    check_conceal,
    check_frame,
    check_framing,
)
from ice.media.resample import Downsampler, Upsampler
from ice.media.table import (
    BY_PAYLOAD_TYPE,
    CODECS,
    FAMILIES,
    L16,
    NATIVE,
    OPUS,
    PCMU,
    SENT,
    TELEPHONE_EVENT,
    Codec,
    codec,
)

__all__ = [
    "BY_PAYLOAD_TYPE",
    "CODECS",
    "FAMILIES",
    "FRAMINGS_MS",
    "NATIVE",
    "SAMPLE_RATE",
    "SENT",
    "TELEPHONE_EVENT",
    "Codec",
    "Decoder",
    "Encoder",
    "MalformedPayload",
    "Pcm",
    "UnknownPayloadType",
    "codec",
    "decoder",
    "decoder_of",
    "encoder",
    "encoder_of",
    "largest_payload",
]

MAX_PCM_MS: Final = 200  # RFC 3551 §4.2: what a receiver of sampled audio is to accept in one packet


class Encoder(Protocol):
    """One talker's voice, frame by frame, to payloads. Not for use from two threads at once."""

    @property
    def codec(self) -> Codec: ...

    @property
    def framing_ms(self) -> int: ...

    @property
    def samples(self) -> int:
        """Samples at 48 kHz per frame: 48 × framing_ms."""

    @property
    def timestamp_step(self) -> int:
        """Units of the RTP clock per frame, whether the frame is sent or, by DTX, is not."""

    def encode(self, pcm: Pcm) -> bytes:
        """The payload of one frame, ``b""`` where DTX says that nothing needs to be sent.

        Raises :class:`~ice.errors.LocalError` unless ``pcm`` is ``int16[samples]``.
        """

    def expect_loss(self, percent: int) -> None:
        """How much loss FEC is to be ready for from now on, 0–100 %; 0 spends nothing on it. Without effect where there is no FEC."""

    def reset(self) -> None:
        """Forget what was heard: the next frame begins a new burst."""


class Decoder(Protocol):
    """One talker's payloads to ``int16[n]``, 48 kHz mono. Not for use from two threads at once."""

    @property
    def codec(self) -> Codec: ...

    def decode(self, payload: bytes) -> Pcm:
        """``samples_48k(payload)`` samples; raises :class:`~ice.media.payload.MalformedPayload` and goes on working after it."""

    def conceal(self, samples: int, following: bytes | None = None) -> Pcm:
        """Exactly ``samples`` (1 to one second) for what is missing: recovered from the packet behind the gap, or extrapolated.

        ``following`` is that packet where it is here already; it must still be decoded afterwards.
        """

    def recoverable(self, following: bytes) -> bool:
        """Whether ``following`` carries a copy of what came before it, so that concealing is more than guessing."""

    def samples_48k(self, payload: bytes) -> int:
        """What :meth:`decode` would give, without decoding; raises :class:`~ice.media.payload.MalformedPayload`."""

    def reset(self) -> None:
        """Forget the talker: the next packet begins a new burst."""


class OpusEncoder(opus.Encoder):
    """:class:`ice.media.opus.Encoder` as a row of the table."""

    codec = OPUS

    @property
    def timestamp_step(self) -> int:
        return self.codec.timestamp_step(self.framing_ms)


class OpusDecoder(opus.Decoder):
    """:class:`ice.media.opus.Decoder` as a row of the table."""

    codec = OPUS


class _PcmEncoder:
    """What G.711 and L16 share: one frame in, one payload out, always."""

    def __init__(self, codec: Codec, framing_ms: int) -> None:
        self.codec = codec
        self.framing_ms = check_framing(framing_ms)
        self.samples = framing_ms * SAMPLE_RATE // 1000
        self.timestamp_step = codec.timestamp_step(framing_ms)

    def expect_loss(self, percent: int) -> None:
        if not 0 <= percent <= 100:
            raise LocalError(f"expected loss of {percent} % is not in 0–100")


class G711Encoder(_PcmEncoder):
    """48 kHz to 8 kHz, then the law of the codec."""

    def __init__(self, codec: Codec, framing_ms: int) -> None:
        super().__init__(codec, framing_ms)
        self._down = Downsampler(codec.ticks_to_48k)
        self._law: Callable[[Pcm], bytes] = g711.encode_mu if codec is PCMU else g711.encode_a

    def encode(self, pcm: Pcm) -> bytes:
        return self._law(self._down.process(check_frame(pcm, self.samples)))

    def reset(self) -> None:
        self._down.reset()


class L16Encoder(_PcmEncoder):
    """Samples in network byte order."""

    def encode(self, pcm: Pcm) -> bytes:
        return check_frame(pcm, self.samples).astype(">i2").tobytes()

    def reset(self) -> None:
        """There is nothing to forget."""


class _PcmDecoder:
    """What G.711 and L16 share: the length of a payload is its duration, and nothing in it repeats an earlier one."""

    def __init__(self, codec: Codec, bytes_per_tick: int) -> None:
        self.codec = codec
        self._bytes_per_tick = bytes_per_tick
        self._largest = MAX_PCM_MS * codec.clock_rate // 1000 * bytes_per_tick
        self._concealer = Concealer(codec.clock_rate)

    def recoverable(self, following: bytes) -> bool:
        return False

    def samples_48k(self, payload: bytes) -> int:
        if not payload:
            raise MalformedPayload("empty", f"a {self.codec.name} payload without a single sample")
        if len(payload) > self._largest:
            raise MalformedPayload(
                "too-long",
                f"a {self.codec.name} payload of {len(payload)} bytes is longer than {MAX_PCM_MS} ms",
            )
        ticks, rest = divmod(len(payload), self._bytes_per_tick)
        if rest:
            raise MalformedPayload(
                "odd", f"a {self.codec.name} payload of {len(payload)} bytes ends inside a sample"
            )
        return ticks * self.codec.ticks_to_48k


class G711Decoder(_PcmDecoder):
    """The law of the codec, then 8 kHz to 48 kHz."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec, 1)
        self._up = Upsampler(codec.ticks_to_48k)
        self._law: Callable[[bytes], Pcm] = g711.decode_mu if codec is PCMU else g711.decode_a

    def decode(self, payload: bytes) -> Pcm:
        self.samples_48k(payload)
        return self._up.process(self._concealer.heard(self._law(payload)))

    def conceal(self, samples: int, following: bytes | None = None) -> Pcm:
        ticks = -(-check_conceal(samples) // self._up.factor)
        return self._up.process(self._concealer.conceal(ticks))[:samples]

    def reset(self) -> None:
        self._up.reset()
        self._concealer.reset()


class L16Decoder(_PcmDecoder):
    """Samples in network byte order."""

    def __init__(self) -> None:
        super().__init__(L16, 2)

    def decode(self, payload: bytes) -> Pcm:
        self.samples_48k(payload)
        return self._concealer.heard(np.frombuffer(payload, ">i2").astype(np.int16))

    def conceal(self, samples: int, following: bytes | None = None) -> Pcm:
        return self._concealer.conceal(check_conceal(samples))

    def reset(self) -> None:
        self._concealer.reset()


def encoder(
    name: str, *, bitrate: int = 24_000, framing_ms: int = 20, fec: bool = True, dtx: bool = False
) -> Encoder:
    """An encoder for one talker, by the name of a codec or of a family of codecs.

    A codec of several rates takes the best of them up to ``bitrate``; others have one and ignore it. ``fec`` and ``dtx`` concern Opus alone: it
    makes ready for 5 % loss at a price in quality (:mod:`ice.media.opus`); :meth:`Encoder.expect_loss` changes that while talking.

    Raises :class:`~ice.errors.LocalError` for settings out of range, for a codec that is heard only, and where its library is not installed.
    """
    row = codec(name, bitrate)
    if row.family not in NATIVE:
        return foreign.ForeignEncoder(row, bitrate, framing_ms)
    if row is OPUS:
        return OpusEncoder(bitrate, framing_ms, fec=fec, dtx=dtx)
    if row is L16:
        return L16Encoder(row, framing_ms)
    return G711Encoder(row, framing_ms)


def encoder_of(
    encoder_id: int,
    framing_ms: int = engage.DEFAULT_FRAMING_MS,
    block_count: int = 0,
    *,
    fec: bool = True,
    dtx: bool = False,
) -> Encoder:
    """The encoder that a mission's group wants: ``encoder``, ``framingMs``, ``blockCount`` and ``dtx`` of its ``txAudio``.

    The framing is the nearest that the codec can (:meth:`ice.media.engage.EngageCodec.framing_ms`). Raises :class:`~ice.errors.LocalError` for what we cannot
    carry, with its name.
    """
    wanted = engage.encoder_of(encoder_id)
    framing_ms = wanted.framing_ms(framing_ms, block_count)
    return encoder(wanted.row.name, bitrate=wanted.bitrate, framing_ms=framing_ms, fec=fec, dtx=dtx)


def decoder(payload_type: int) -> Decoder:
    """A decoder for one talker by the table's payload type; raises :class:`~ice.media.payload.UnknownPayloadType`, and as :func:`decoder_of`."""
    row = BY_PAYLOAD_TYPE.get(payload_type)
    if row is None:
        raise UnknownPayloadType(payload_type)
    return decoder_of(row)


def decoder_of(row: Codec) -> Decoder:
    """A decoder for one talker; raises :class:`~ice.errors.LocalError` where the codec's library is not installed."""
    if row.family not in NATIVE:
        return foreign.ForeignDecoder(row)
    if row is OPUS:
        return OpusDecoder()
    if row is L16:
        return L16Decoder()
    return G711Decoder(row)


def largest_payload(name: str, framing_ms: int) -> int:
    """The most bytes that a frame of this codec can take, for comparison with what a path lets through (L16 is large)."""
    row = codec(name)
    if row is OPUS:
        return opus.MAX_ENCODED
    if row.family not in NATIVE:
        return foreign.largest_payload(row, framing_ms)
    return row.timestamp_step(check_framing(framing_ms)) * (2 if row is L16 else 1)
