"""How voice is on a mission's group: what its numbers mean, how it is coded, who may talk.

The mission says it in the original's keys; :mod:`ice.media` works with plain values. Here the one becomes the other, for everybody who talks or
listens on a group: people, patches, gateways.
"""

from __future__ import annotations

from typing import Final

from ice.errors import LocalError
from ice.media import engage
from ice.media.burst import BurstSender
from ice.media.floor import POLICY_MAX_TX_S, Rules, transmit_limit
from ice.media.payload_map import PayloadMap
from ice.media.rtp import Talk, clip_alias
from ice.media.voice import BITRATE, Voice
from ice.mission.model import Group, GroupType

FULL_LEVEL_PERCENT: Final = 100  # a level of the original's that changes nothing


def is_audio(group: Group) -> bool:
    """Whether people talk there; old files leave the type out of audio groups."""
    return group.type in (GroupType.AUDIO, GroupType.UNKNOWN)


def payload_types(group: Group) -> PayloadMap:
    """What RTP payload types mean on the group. Raises :class:`~ice.errors.LocalError` that names the group for numbers that cannot be."""
    audio = group.tx_audio
    try:
        return PayloadMap.of(
            audio.encoder,
            custom_payload_type=audio.custom_payload_type,
            translations=[(each.external, each.engage) for each in group.payload_translations],
            telephone_event=group.rfc4733_payload_type,
        )
    except LocalError as error:
        raise LocalError(f"group {group.name!r}: {error}") from None


def rules(group: Group, policy_max_tx_s: float = POLICY_MAX_TX_S) -> Rules:
    """Who may talk on the group, and for how long; ``policy_max_tx_s`` (seconds, 0: no limit) where the group does not say."""
    silence_s = group.rtp_profile.inactivity_ms / 1_000
    signalled_ms = group.rtp_profile.signalled_inactivity_ms
    return Rules(
        full_duplex=group.tx_audio.fdx,
        max_tx_s=transmit_limit(group.tx_audio.max_tx_s, policy_max_tx_s),
        max_rx_s=group.max_rx_s,
        silence_s=silence_s,
        signalled_silence_s=silence_s * 4 if signalled_ms < 0 else signalled_ms / 1_000,
        sticky_s=group.sticky_tid_hang_s,
    )


def gain(group: Group) -> float:
    """How loud the group is wanted, 1 as it is: the louder of its two sides, since we are mono; 0 where it is muted."""
    audio = group.audio
    if audio.output_muted:
        return 0.0
    level = max(audio.output_level_left_percent, audio.output_level_right_percent) / FULL_LEVEL_PERCENT
    return level * max(0.0, 1.0 + audio.output_gain_percent / 100)


def voice_of(group: Group) -> Voice:
    """How sound is coded on the group. Raises :class:`~ice.errors.LocalError` that names the group for an encoder that cannot be."""
    audio = group.tx_audio
    try:
        coded = engage.encoder_of(audio.encoder)
        framing_ms = coded.framing_ms(audio.framing_ms, audio.block_count)
    except LocalError as error:
        raise LocalError(f"group {group.name!r}: {error}") from None
    return Voice(
        coded.row.name,
        coded.bitrate or BITRATE,
        framing_ms,
        audio.dtx,
        payload_types(group),
        not audio.no_hdr_ext,
        audio.initial_header_burst,
        audio.extension_send_interval,
        audio.trailing_header_burst,
        audio.reset_rtp_on_tx,
    )


def sender(
    group: Group, *, alias: str, priority: int = 0, emergency: bool = False, fec: bool = False
) -> tuple[BurstSender, int]:
    """Somebody's voice as the group wants it, and the samples (48 kHz) that make one packet.

    Raises :class:`~ice.errors.LocalError` that names the group: an encoder that we cannot
    carry, a library that is not installed, a group that is heard only.
    """
    audio = group.tx_audio
    if not audio.enabled:
        raise LocalError(f"group {group.name!r} is heard only: its txAudio.enabled is false")
    voice = voice_of(group)
    try:
        encoder = voice.encoder(fec=fec)
    except LocalError as error:
        raise LocalError(f"group {group.name!r}: {error}") from None
    burst = voice.sender(encoder, Talk(clip_alias(alias), priority))
    burst.emergency = emergency
    return burst, encoder.samples
