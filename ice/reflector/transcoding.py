"""Another codec for each packet: one in, one out, so that numbers and names stay.

Every talker (SSRC) has a decoder and an encoder of his own.  The frame of the new codec is as long as that of the old; where the new codec has no
such frame, the packet is refused (``framing``).  Timestamps are reckoned from one clock to the other, unwrapped, so that a pause stays as long as it was.
What is in the wanted codec already, and what is no sound that we know (telephone events, comfort noise), passes untouched.

Loss is not concealed here: the gap stays in the numbers, and whoever plays it conceals.
"""

from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.codecs import Decoder, Encoder, decoder_of, encoder
from ice.media.payload import FRAMINGS_MS, SAMPLE_RATE, MalformedPayload
from ice.media.rtp import MalformedRtp, Packet, timestamp_difference
from ice.media.table import BY_PAYLOAD_TYPE, Codec

MAX_TALKERS: Final = 64  # decoders and encoders at one time; the one longest silent is forgotten
_U32: Final = 0xFFFF_FFFF


@attrs.define(eq=False)
class _Voice:
    """One talker."""

    codec: Codec
    decoder: Decoder
    timestamp: int
    ticks: int
    encoder: Encoder | None = None


class Transcoding:
    """One direction of one rule; two of the same codec are equal."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._voices: dict[int, _Voice] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcoding) and other.codec is self.codec

    def __hash__(self) -> int:
        return hash(self.codec.name)

    def packet(self, data: bytes, now: float) -> bytes | str:
        """An RTP packet in our codec; or ``malformed``, ``payload``, ``framing`` or ``codec`` (its library is not installed), where there is none."""
        row = BY_PAYLOAD_TYPE.get(data[1] & 0x7F)
        if row is None or row is self.codec:
            return data
        try:
            packet = Packet.decode(data)
        except MalformedRtp:
            return "malformed"
        try:
            voice = self._voice(packet, row)
        except LocalError:
            return "codec"
        try:
            samples = voice.decoder.samples_48k(packet.payload)
            pcm = voice.decoder.decode(packet.payload)
        except MalformedPayload:
            return "payload"
        framing_ms = samples * 1_000 // SAMPLE_RATE
        if framing_ms not in FRAMINGS_MS or samples * 1_000 % SAMPLE_RATE:
            return "framing"
        if voice.encoder is None or voice.encoder.framing_ms != framing_ms:
            try:
                voice.encoder = encoder(self.codec.name, framing_ms=framing_ms)
            except LocalError:
                return "framing"
        voice.ticks += timestamp_difference(packet.timestamp, voice.timestamp)
        voice.timestamp = packet.timestamp
        return attrs.evolve(
            packet,
            payload_type=self.codec.payload_type,
            timestamp=voice.ticks * row.ticks_to_48k // self.codec.ticks_to_48k & _U32,
            payload=voice.encoder.encode(pcm),
        ).encode()

    def _voice(self, packet: Packet, row: Codec) -> _Voice:
        voices = self._voices
        voice = voices.pop(packet.ssrc, None)
        if voice is None or voice.codec is not row:
            if len(voices) >= MAX_TALKERS:
                del voices[next(iter(voices))]
            voice = _Voice(row, decoder_of(row), packet.timestamp, packet.timestamp)
        voices[packet.ssrc] = voice  # the latest is last
        return voice
