"""How sound is coded on a stream, as a value: from it an encoder and a sender of bursts."""

from __future__ import annotations

import random
from typing import Final

import attrs

from ice.media.burst import END_COPIES, EXTENSION_EVERY, EXTENSION_FIRST, BurstSender
from ice.media.codecs import Encoder, encoder
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.rtp import Talk

BITRATE: Final = 24_000  # bits per second, for a codec that wants to be told and whose number does not say
FRAMING_MS: Final = 20


@attrs.frozen
class Voice:
    """How sound is coded on a stream, in and out. Streams of equal voices share the work of coding."""

    codec: str = "opus"
    bitrate: int = BITRATE
    framing_ms: int = FRAMING_MS
    dtx: bool = False
    payload_types: PayloadMap = DEFAULT
    extension: bool = True
    extension_first: int = EXTENSION_FIRST
    extension_every: int = EXTENSION_EVERY
    end_copies: int = END_COPIES
    reset_each_burst: bool = False

    def encoder(self, *, fec: bool = False) -> Encoder:
        """An encoder for one talker; raises :class:`~ice.errors.LocalError` where there is none here."""
        return encoder(self.codec, bitrate=self.bitrate, framing_ms=self.framing_ms, fec=fec, dtx=self.dtx)

    def sender(
        self, coder: Encoder, talk: Talk, ssrc: int | None = None, chance: random.Random | None = None
    ) -> BurstSender:
        """Bursts of one talker through ``coder``, marked as the stream wants them."""
        sender = BurstSender(
            coder,
            reset_each_burst=self.reset_each_burst,
            payload_types=self.payload_types,
            extension=self.extension,
            extension_first=self.extension_first,
            extension_every=self.extension_every,
            end_copies=self.end_copies,
            chance=chance,
            ssrc=ssrc,
        )
        sender.talk = talk
        return sender


ORDINARY: Final = Voice()  #: what this suite uses where nothing is said
