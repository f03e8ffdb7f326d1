"""What the configuration says of patches: the patches themselves, and how each stream is coded and sealed.

Patches stand in ``[[patches]]`` and in a bridges file; streams are described by missions (``patch.missions``), whose groups name codec, framing, duplex and keys. Of a stream that no
mission knows, :class:`~ice.patch.channel.Channel` has what holds where nothing is said: Opus, half duplex, in clear.

**On the Rallypoints.** A mission's group without Rallypoints is on multicast only and cannot be in a patch, unless a rule of the reflector (``[[reflector.rules]]`` of the same configuration) brings
its stream to the Rallypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs

from ice.config.patches import PatchSettings
from ice.config.schema import Config
from ice.errors import LocalError
from ice.mission.identity import stream_id
from ice.mission.reading import open_mission
from ice.mission.voice import is_audio
from ice.patch.channel import Channel, channel_of
from ice.patch.listing import MAX_BYTES
from ice.patch.parsing import read_bridges
from ice.patch.plan import Member, Mode, Patch, PatchRefused, Refusal, shown
from ice.security.keyring import Keyring

MAX_SHOWN: Final = 8  # streams that a caution lists


@attrs.frozen
class Plan:
    """What a configuration wants of a patch server; making one tells every mistake before anything is changed.

    ``patches``: of all files, in their order; ``refused``: bridges that cannot be; ``channels``: by stream; ``remarks``: what is passed over, in sentences.
    """

    patches: tuple[Patch, ...] = ()
    refused: tuple[Refusal, ...] = ()
    channels: Mapping[str, Channel] = MappingProxyType({})
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> Plan:
        """The plan of ``config``. Raises :class:`LocalError` for a file that cannot be read, and a key or codec that cannot be."""
        patches = [patch_of(each) for each in config.patches]
        refused: tuple[Refusal, ...] = ()
        path = config.patch.bridges_file
        if path is not None:
            try:
                sowing = read_bridges(_read(path))
            except PatchRefused as error:
                raise LocalError(f"{path}: {error}") from None
            refused = sowing.refused
            patches += sowing.patches
        channels, remarks = channels_of(config)
        return cls(tuple(patches), refused, channels, remarks)

    def unknown(self, streams: Iterable[str]) -> str:
        """Those of ``streams`` that no mission describes, for people; empty: there is none."""
        found = sorted({stream for stream in streams if stream not in self.channels})
        more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
        return ", ".join(shown(stream) for stream in found[:MAX_SHOWN]) + more


def patch_of(settings: PatchSettings) -> Patch:
    """One of ``[[patches]]`` as the engines have it."""
    gains = {each.stream: each for each in settings.gains}
    members = tuple(
        Member(stream, gains[stream].gain_db, gains[stream].automatic) if stream in gains else Member(stream)
        for stream in settings.streams
    )
    return Patch(settings.id, settings.name or settings.id, members, settings.enabled, Mode(settings.mode))


def channels_of(config: Config) -> tuple[Mapping[str, Channel], tuple[str, ...]]:
    """The streams that the missions of ``config`` describe, and what is passed over.

    Of two missions with the same group the earlier counts. Raises :class:`LocalError` that names the file.
    """
    tied = {rule.stream for rule in config.reflector.rules if rule.enabled}
    channels: dict[str, Channel] = {}
    remarks: list[str] = []
    salt: bytes | None = None
    for path in config.patch.missions:
        for group in open_mission(str(path)).mission.groups:
            stream = stream_id(group.id)
            if not is_audio(group):
                continue
            if stream in channels:
                if channels[stream].name != group.name:
                    remarks.append(
                        f"{path}: group {group.name!r} is the stream {stream} of another mission: the first counts"
                    )
                continue
            keyring = None
            if group.crypto_password is not None:
                salt = config.traffic.salt() if salt is None else salt
                try:
                    keyring = Keyring.of(group.crypto_password, group.cipher, salt=salt, rekey=group.rekey)
                except LocalError as error:
                    raise LocalError(f"{path}: group {group.name!r}: {error}") from None
            try:
                channel = channel_of(group, stream, keyring=keyring)
            except LocalError as error:
                raise LocalError(f"{path}: {error}") from None
            channels[stream] = attrs.evolve(channel, on_rallypoints=True) if stream in tied else channel
    return MappingProxyType(channels), tuple(remarks)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LocalError(
            f"{path}: the bridges file cannot be read: {error.strerror or error} (patch.bridges_file)"
        ) from None
