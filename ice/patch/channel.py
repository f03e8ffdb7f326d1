"""What a patch knows of each of its streams: how voice is coded there, who may talk, and whether there is a key.

A mission's group says it (:func:`channel_of`); of a stream that no mission knows, :class:`Channel` has what this suite uses where nothing is said: Opus, 24 kbit/s,
20 ms, half duplex, in clear.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ice.media.voice import ORDINARY, Voice
from ice.mission.model import Group
from ice.mission.voice import voice_of
from ice.security.keyring import Keyring

__all__ = ["Channel", "Leg", "Voice", "channel_of", "legs"]


@attrs.frozen
class Channel:
    """One stream as a patch server finds it.

    ``keyring``: its keys; ``shut``: it has one, which is not here, or nobody knows whether it has one (``why_shut`` says so for people). With both left out, bytes are passed as they
    are: a clear group, or a network below that seals. ``max_rx_s``: for how long a burst is heard there, 0 for no limit.
    """

    stream_id: str
    name: str = ""
    full_duplex: bool = False
    voice: Voice = ORDINARY
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
    voice = voice_of(group)
    return Channel(
        stream_id,
        group.name,
        group.tx_audio.fdx,
        voice,
        keyring,
        shut,
        bool(group.rallypoints),
        group.max_rx_s,
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
