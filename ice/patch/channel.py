"""What a patch knows of each of its streams: how voice is coded there, who may talk, and whether there is a key.

A mission's group says it (:func:`channel_of`); of a stream that no mission knows, :class:`Channel` has what this suite uses where nothing is said: Opus, 24 kbit/s,
20 ms, half duplex, in clear.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media import engage
from ice.media.burst import END_COPIES, EXTENSION_EVERY, EXTENSION_FIRST, BurstSender
from ice.media.codecs import Encoder, encoder
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.rtp import Talk
from ice.mission.model import Group
from ice.mission.voice import BITRATE, payload_types
from ice.security.keyring import Keyring

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

    def encoder(self) -> Encoder:
        """An encoder for one talker; raises :class:`~ice.errors.LocalError` where there is none here."""
        return encoder(self.codec, bitrate=self.bitrate, framing_ms=self.framing_ms, fec=False, dtx=self.dtx)

    def sender(
        self, coder: Encoder, talk: Talk, ssrc: int, chance: random.Random | None = None
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


@attrs.frozen
class Channel:
    """One stream as a patch server finds it.

    ``keyring``: its keys; ``shut``: it has one, which is not here, or nobody knows whether it has one (``why_shut`` says so for people). With both left out, bytes are passed as they
    are: a clear group, or a network below that seals. ``max_rx_s``: for how long a burst is heard there, 0 for no limit.
    """

    stream_id: str
    name: str = ""
    full_duplex: bool = False
    voice: Voice = Voice()
    keyring: Keyring | None = None
    shut: bool = False
    on_rallypoints: bool = True
    max_rx_s: float = 0.0
    why_shut: str = ""

    @property
    def clear(self) -> bool:
        """Whether what is said there can be read by everybody who has the datagrams."""
        return self.keyring is None and not self.shut

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.name or self.stream_id


def channel_of(
    group: Group, stream_id: str, *, keyring: Keyring | None = None, shut: bool = False
) -> Channel:
    """The channel of a mission's group. Raises :class:`~ice.errors.LocalError` that names the group for an encoder that cannot be."""
    audio = group.tx_audio
    try:
        coded = engage.encoder_of(audio.encoder)
        voice = Voice(
            coded.row.name,
            coded.bitrate or BITRATE,
            coded.framing_ms(audio.framing_ms, audio.block_count),
            audio.dtx,
            payload_types(group),
            not audio.no_hdr_ext,
            audio.initial_header_burst,
            audio.extension_send_interval,
            audio.trailing_header_burst,
            audio.reset_rtp_on_tx,
        )
    except LocalError as error:
        raise LocalError(f"group {group.name!r}: {error}") from None
    return Channel(
        stream_id, group.name, audio.fdx, voice, keyring, shut, bool(group.rallypoints), group.max_rx_s
    )


@attrs.frozen
class Leg:
    """Streams whose voice is coded alike: what is coded once goes to all of them."""

    voice: Voice
    streams: tuple[str, ...]


def legs(channels: Iterable[Channel]) -> tuple[Leg, ...]:
    """The channels by their voices, in their order."""
    found: list[tuple[Voice, list[str]]] = []
    for channel in channels:
        for voice, streams in found:
            if voice == channel.voice:
                streams.append(channel.stream_id)
                break
        else:
            found.append((channel.voice, [channel.stream_id]))
    return tuple(Leg(voice, tuple(streams)) for voice, streams in found)
