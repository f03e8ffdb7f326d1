"""What the configuration says of patches: the patches themselves, and how each stream is coded and sealed.

Patches stand in ``[[patches]]`` and in a bridges file; streams are described by missions (``patch.missions``, and the groups of the bridges file), whose groups name codec, framing, duplex and keys.

**A stream that nobody describes is shut**: it may well be encrypted, and then what others say would go out on it in clear, for everybody to hear. So nothing is heard from it and nothing said to it, and the status
says why, unless ``patch.clear`` names it: then it is Opus, half duplex, in clear.

**On the Rallypoints.** A mission's group without Rallypoints is on multicast only and cannot be in a patch, unless a rule of the reflector (``[[reflector.rules]]`` of the same configuration) brings
its stream to the Rallypoints.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs

from ice.config.patches import PatchSettings
from ice.config.schema import Config
from ice.errors import IceError, LocalError
from ice.mission.identity import stream_id
from ice.mission.model import Group
from ice.mission.packing import PasswordNeeded, WrongPassword
from ice.mission.password import read_passwords
from ice.mission.reading import Reading, open_mission, read_mission
from ice.mission.voice import is_audio
from ice.patch.channel import Channel, channel_of
from ice.patch.listing import MAX_BYTES, MAX_MEMBERS
from ice.patch.parsing import read_bridges
from ice.patch.plan import Member, Mode, Patch, PatchRefused, Refusal, shown
from ice.rallypoint.access import Patterns
from ice.security.keyring import Keyring

MAX_SHOWN: Final = 8  # streams that a caution lists
UNDESCRIBED: Final = (
    "no mission describes this stream, which may be encrypted: nothing is heard from it, and nothing said to it. Name its mission in patch.missions, "
    "or the stream in patch.clear if it is in clear"
)


@attrs.frozen
class Plan:
    """What a configuration wants of a patch server; making one tells every mistake before anything is changed.

    ``patches``: of all files, in their order; ``refused``: bridges that cannot be; ``channels``: by stream, as far as somebody describes them; ``remarks``: what is passed over, in
    sentences; ``clear``: patterns of streams that nobody describes, and that are in clear.
    """

    patches: tuple[Patch, ...] = ()
    refused: tuple[Refusal, ...] = ()
    channels: Mapping[str, Channel] = MappingProxyType({})
    remarks: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    #: Whether a stream fits these patterns, once it was asked: there may be a thousand of them, and status pages ask for every stream.
    _fits: Callable[[str], bool] = attrs.field(init=False, repr=False, eq=False)

    @_fits.default
    def _compile(self) -> Callable[[str], bool]:
        return lru_cache(MAX_MEMBERS)(Patterns(self.clear).fit)

    _named: Mapping[str, list[str]] = attrs.field(init=False, repr=False, eq=False)

    @_named.default
    def _index(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = {}
        for id, channel in self.channels.items():
            names.setdefault(channel.name.casefold(), []).append(id)
        return names

    @classmethod
    def of(cls, config: Config) -> Plan:
        """The plan of ``config``. Raises :class:`LocalError` for a file that cannot be read, and a key or codec that cannot be."""
        patches = [patch_of(each) for each in config.patches]
        refused: tuple[Refusal, ...] = ()
        missions = _Missions(config)
        for mission in config.patch.missions:
            missions.add(mission)
        path = config.patch.bridges_file
        if path is not None:
            data = _read(path)
            try:
                sowing = read_bridges(data)
            except PatchRefused as error:
                raise LocalError(f"{path}: {error}") from None
            refused = sowing.refused
            patches += sowing.patches
            missions.add_bridges(path, data)
        channels = MappingProxyType(missions.channels)
        return cls(tuple(patches), refused, channels, tuple(missions.remarks), config.patch.clear)

    def of_patch(self, patch: Patch) -> Mapping[str, Channel]:
        """All streams of a patch: as they are described, else in clear where the configuration says so, else shut."""
        known = {stream: self.channels[stream] for stream in patch.stream_ids if stream in self.channels}
        # What nobody knows of a stream is no reason to refuse it.
        full_duplex = any(channel.full_duplex for channel in known.values())
        return {
            stream: known[stream]
            if stream in known
            else Channel(stream, full_duplex=full_duplex)
            if self._fits(stream)
            else Channel(stream, full_duplex=full_duplex, shut=True, why_shut=UNDESCRIBED)
            for stream in patch.stream_ids
        }

    def meant(self, text: str) -> str:
        """The stream that a person means: by its id, or by the name that its group has in a mission, in any case. Raises :class:`LocalError` where several have it."""
        if text in self.channels:
            return text
        found = self._named.get(text.casefold(), []) if text else []
        if len(found) > 1:
            raise LocalError(
                f"{shown(text)!r} is the name of {len(found)} groups: say which by its stream, {_listed([*map(shown, found)])}"
            )
        return found[0] if found else text

    def cautions(self, patch: Patch) -> tuple[str, ...]:
        """What is allowed in a patch but perhaps not meant: that it lets out in clear what is said under a key, and streams that are shut since nobody describes them."""
        channels = self.of_patch(patch).values()
        clear = [channel.shown for channel in channels if channel.clear]
        sealed = [channel.shown for channel in channels if channel.keyring is not None]
        told = []
        if clear and sealed:
            told.append(
                f"what is said on {_listed([*map(shown, sealed)])} under a key goes out in clear on {_listed([*map(shown, clear)])}, for everybody to hear"
            )
        if unknown := self.unknown(patch.stream_ids):
            told.append(
                f"no mission describes {unknown}: silent both ways (patch.missions; if it is in clear, patch.clear)"
            )
        return tuple(told)

    def unknown(self, streams: Iterable[str]) -> str:
        """Those of ``streams`` that are shut since nobody describes them, for people; empty: there is none."""
        found = {stream for stream in streams if stream not in self.channels and not self._fits(stream)}
        return _listed([self._hinted(stream) for stream in sorted(found)]) if found else ""

    def _hinted(self, stream: str) -> str:
        """With the id, where somebody has written a group's name into a file."""
        try:
            id = self.meant(stream)
        except LocalError:
            id = stream
        return shown(stream) if id == stream else f"{shown(stream)} (write the id of this group, {id})"


def patch_of(settings: PatchSettings) -> Patch:
    """One of ``[[patches]]`` as the engines have it."""
    gains = {each.stream: each for each in settings.gains}
    members = tuple(
        Member(stream, gains[stream].gain_db, gains[stream].automatic) if stream in gains else Member(stream)
        for stream in settings.streams
    )
    return Patch(settings.id, settings.name or settings.id, members, settings.enabled, Mode(settings.mode))


class _Missions:
    """The streams that missions describe, and what is passed over. Of two missions with the same group the earlier counts."""

    def __init__(self, config: Config) -> None:
        self.channels: dict[str, Channel] = {}
        self.remarks: list[str] = []
        self._traffic = config.traffic
        self._tied = {rule.stream for rule in config.reflector.rules if rule.enabled}
        self._salt: bytes | None = None
        self._passwords = Passwords(config.patch.password_file)

    def add(self, path: Path) -> None:
        """A mission file, sealed or not. Raises :class:`LocalError` that names it."""
        reading = self._passwords.open(path)
        try:
            self._groups(reading.mission.groups, path)
        except LocalError as error:
            raise LocalError(f"{error} (patch.missions)") from None

    def add_bridges(self, path: Path, data: bytes) -> None:
        """The groups of a bridges file, which it may have; what cannot be read of them leaves streams that nobody describes."""
        value = json.loads(data)
        if not isinstance(value, dict) or not value.get("groups"):
            return
        whole = {"id": "bridges", "name": path.name, "groups": value["groups"]}
        try:
            self._groups(read_mission(json.dumps(whole), str(path)).mission.groups, path)
        except IceError as error:
            self.remarks.append(f"the groups of the bridges file are passed over: {error}")

    def _groups(self, groups: Iterable[Group], path: Path) -> None:
        for group in groups:
            stream = stream_id(group.id)
            if stream in self.channels:
                if self.channels[stream].name != group.name:
                    self.remarks.append(
                        f"{path}: group {group.name!r} is the stream {stream} of another mission: the first counts"
                    )
                continue
            keyring = self._keyring(group, path)
            if is_audio(group):
                try:
                    channel = channel_of(group, stream, keyring=keyring)
                except LocalError as error:
                    raise LocalError(f"{path}: {error}") from None
            else:  # data, for the mode relay: that needs the key and nothing more
                reached = bool(group.rallypoints)
                channel = Channel(stream, group.name, keyring=keyring, on_rallypoints=reached)
            self.channels[stream] = (
                attrs.evolve(channel, on_rallypoints=True) if stream in self._tied else channel
            )

    def _keyring(self, group: Group, path: Path) -> Keyring | None:
        if group.crypto_password is None:
            return None
        salt = self._salt = self._traffic.salt() if self._salt is None else self._salt
        try:
            return Keyring.of(group.crypto_password, group.cipher, salt=salt, rekey=group.rekey)
        except LocalError as error:
            raise LocalError(f"{path}: group {group.name!r}: {error}") from None


class Passwords:
    """The passwords in a file, which ``setting`` names, for missions that are sealed; read when the first of these is met. Each mission is tried with each."""

    def __init__(self, path: Path | None, setting: str = "patch.password_file") -> None:
        self._path = path
        self._setting = setting
        self._words: tuple[str, ...] | None = None

    def open(self, path: Path) -> Reading:
        """The mission in a file. Raises :class:`LocalError`, with the settings to look at."""
        if not path.exists():  # or a long name would be taken for a mission as text
            raise LocalError(f"{path}: there is no such file ({self._setting.partition('.')[0]}.missions)")
        try:
            return open_mission(str(path))
        except PasswordNeeded:
            if self._path is None:
                raise LocalError(
                    f"{path}: this mission is sealed with a password; write that into a file (mode 0600) that is named in the configuration ({self._setting})"
                ) from None
        except IceError as error:
            raise LocalError(f"{error} ({self._setting.partition('.')[0]}.missions)") from None
        if self._words is None:
            self._words = read_passwords(self._path)
        for word in self._words:
            with contextlib.suppress(WrongPassword):
                return open_mission(str(path), word)
        raise LocalError(
            f"{path}: none of the passwords in {self._path} opens this mission ({self._setting}), or it was altered"
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LocalError(
            f"{path}: the bridges file cannot be read: {error.strerror or error} (patch.bridges_file)"
        ) from None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more
