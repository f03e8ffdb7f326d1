"""Where a command talks or listens: streams of the configured Rallypoints, groups of a mission, or both at once.

A word on the command line is a stream's id, or names a mission: ``FILE`` all of its audio groups, ``FILE/GROUP`` one of them, by name or id. It is a
mission if such a file exists, so a stream may have slashes in its id; what ends like a mission's file and is none is taken for a slip, not for a
stream. What a person hears and says is the same for both; only the ways differ, and :class:`Networks` makes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from ice.cli.display import Display, plural
from ice.cli.mission_source import source_of
from ice.config.load import Loaded, load, load_if_any
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.media.floor import Rules
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.mission import voice
from ice.mission.identity import stream_id
from ice.mission.model import Group, Mission
from ice.mission.packing import PasswordNeeded
from ice.mission.reading import Reading
from ice.printable import printable
from ice.security.traffic import Refused
from ice.streams.connect import network_of
from ice.streams.interface import Network, Receiver, Stream
from ice.streams.rallypoint import Notice, RallypointNetwork
from ice.streams.sealed import advice
from ice.streams.team import Team, team_of

MISSION_ENDING: Final = re.compile(r"\.(?:json|ice|mission|png|svg)(?=/|$)", re.IGNORECASE)


@attrs.frozen
class Channel:
    """One stream to join. ``group`` is none for a stream of the configured Rallypoints; ``mission`` is the place in :attr:`Wanted.missions`."""

    name: str
    stream_id: str
    group: Group | None = None
    mission: int = -1

    @property
    def payload_types(self) -> PayloadMap:
        """What RTP payload types mean there."""
        return DEFAULT if self.group is None else voice.payload_types(self.group)

    def rules(self, settings: MediaSettings) -> Rules:
        """Who may talk there."""
        if self.group is not None:
            return voice.rules(self.group, settings.max_talk_s)
        return Rules(
            full_duplex=not settings.half_duplex,
            max_tx_s=settings.max_talk_s if settings.half_duplex else 0.0,
            silence_s=settings.end_of_burst_ms / 1_000,
        )

    @property
    def gain(self) -> float:
        """How loud it is wanted, 1 as it is."""
        return 1.0 if self.group is None else voice.gain(self.group)


@attrs.frozen
class Wanted:
    """What the words of a command line mean."""

    channels: tuple[Channel, ...]
    missions: tuple[Mission, ...]
    remarks: tuple[str, ...]  #: what the missions' files say that is not as expected, in sentences

    @property
    def title(self) -> str:
        """What is listened to, for people."""
        return ", ".join(channel.name for channel in self.channels)


def wanted(words: Sequence[str], password_file: Path | None = None) -> Wanted:
    """The channels that ``words`` name, each once.

    A sealed mission's password is the first line of ``password_file``, else it is asked for on a terminal. Raises :class:`~ice.errors.LocalError` and
    :class:`~ice.mission.tolerant.MissionError` for what is not there or cannot be read.
    """
    channels: dict[tuple[bool, str], Channel] = {}
    missions: list[Mission] = []
    remarks: list[str] = []
    read: dict[str, int] = {}
    for word in words:
        file, group_name = _parts(word)
        if not file:
            channels.setdefault((False, word), Channel(word, word))
            continue
        place = os.path.realpath(file)
        if place not in read:
            read[place] = len(missions)
            reading = _open(file, password_file)
            missions.append(reading.mission)
            remarks += [f"{file}: {remark.path}: {remark.text}" for remark in reading.remarks]
        index = read[place]
        for group in _groups(missions[index], group_name, file):
            id = stream_id(group.id)
            channels.setdefault((True, id), Channel(printable(group.name) or id, id, group, index))
    return Wanted(tuple(channels.values()), tuple(missions), tuple(remarks))


def one(words: Wanted) -> Channel:
    """The one channel that is meant; raises :class:`~ice.errors.LocalError` that lists them where there are several."""
    if len(words.channels) == 1:
        return words.channels[0]
    names = ", ".join(f"'{channel.name}'" for channel in words.channels)
    raise LocalError(
        f"which group? There are {names}: name one behind the file, as in FILE/{words.channels[0].name}"
    )


def configuration(path: Path | None, words: Wanted) -> Loaded | None:
    """The configuration; none where none is named or found and a mission is all that is asked for: that needs no site."""
    needless = words.missions and all(channel.group is not None for channel in words.channels)
    return load_if_any(path) if needless else load(path)


def media_of(loaded: Loaded | None) -> MediaSettings:
    """How voice is sent and heard, by default where there is no configuration."""
    return loaded.config.media if loaded is not None else MediaSettings()


class Networks:
    """The networks of some channels: join, start, stop."""

    def __init__(
        self, reactor: Any, loaded: Loaded | None, words: Wanted, on_notice: Callable[[Notice], None]
    ) -> None:
        self._links: RallypointNetwork | None = None
        if any(channel.group is None for channel in words.channels):
            assert loaded is not None  # see configuration()
            self._links = network_of(loaded, reactor, on_notice=on_notice)
        used = {channel.mission for channel in words.channels}
        self.teams: dict[int, Team] = {
            index: team_of(mission, loaded, reactor, on_notice=on_notice)
            for index, mission in enumerate(words.missions)
            if index in used
        }
        self._refused: dict[str, set[str]] = {}  # reasons that were told, by stream id

    def join(self, channel: Channel, receiver: Receiver, *, listen: bool = True, talk: bool = True) -> Stream:
        """Join one of the channels."""
        network: Network | None = self._links if channel.group is None else self.teams[channel.mission]
        assert network is not None
        return network.join(channel.stream_id, receiver, listen=listen, talk=talk)

    def start(self) -> None:
        """Begin to connect and to listen."""
        if self._links is not None:
            self._links.start()
        for team in self.teams.values():
            team.start()

    async def stop(self) -> None:
        """Leave everything."""
        if self._links is not None:
            await self._links.stop()
        for team in self.teams.values():
            await team.stop()

    @property
    def links(self) -> Iterable[RallypointNetwork]:
        """All networks of Rallypoints."""
        if self._links is not None:
            yield self._links
        for team in self.teams.values():
            yield from team.rallypoints.values()

    @property
    def why(self) -> str:
        """Why there is no way, as far as it is known."""
        whys = [network.why for network in self.links]
        whys += [status.failover.why for team in self.teams.values() for status in team.status()]
        return next((why for why in whys if why), "no Rallypoint has answered")

    def tell(self, display: Display, words: Wanted) -> None:
        """Say what the groups name that cannot be had, and how much in the missions' files is not as expected."""
        for index, team in self.teams.items():
            wanted = [channel.group for channel in words.channels if channel.mission == index]
            others = tuple(f"groups[{i}]" for i, each in enumerate(team.mission.groups) if each not in wanted)
            for remark in team.remarks:
                if remark.path.startswith(others):
                    continue
                sentence = f"{remark.path}: {remark.text}"
                display.say(
                    "remark", f"mission '{printable(team.mission.name)}': {sentence}", remark=sentence
                )
        if words.remarks:
            display.say(
                "remarks",
                f"{plural(len(words.remarks), 'remark')} about the mission's file: see `ice mission check`",
                remarks=list(words.remarks),
            )

    def tell_sealing(self, display: Display, channel: Channel) -> None:
        """Say how a mission's group is sealed, and what was refused because it was not."""
        if channel.group is None:
            return
        sealing = self.teams[channel.mission].sealing(channel.stream_id)
        refused = ", ".join(f"{count} {reason}" for reason, count in sealing.refused.items())
        display.say(
            "sealing",
            f"'{channel.name}' is {sealing.words}" + (f"; packets refused: {refused}" if refused else ""),
            cipher=sealing.cipher, authenticated=sealing.authenticated,
            sealed=sealing.sealed, opened=sealing.opened, refused=dict(sealing.refused),
        )  # fmt: skip

    def tell_refused(self, display: Display, channel: Channel) -> None:
        """Say, once for each reason, that somebody talks there whom we cannot open: who hears nothing wants to know why."""
        if channel.group is None:
            return
        sealing = self.teams[channel.mission].sealing(channel.stream_id)
        told = self._refused.setdefault(channel.stream_id, set())
        for reason in sorted(set(sealing.refused) - told):
            told.add(reason)
            meaning = advice(Refused(reason))
            display.say(
                "sealed-refused",
                f"'{channel.name}': a packet was refused ({reason}): {meaning}",
                reason=reason,
                advice=meaning,
            )

    def patience_s(self, channel: Channel) -> float:
        """How long a channel may wait before it is known whether there is a way: until it fails over."""
        if channel.group is None:
            return 0.0
        group = self.teams[channel.mission].group(channel.stream_id)
        return group.after_s if group.fails_over else 0.0

    @property
    def round_trip_s(self) -> float | None:
        """To the Rallypoint, where there is a link."""
        return next((n.round_trip_s for n in self.links if n.round_trip_s is not None), None)

    @property
    def dropped(self) -> int:
        """Datagrams dropped on this side since a link did not take them."""
        return sum(network.counts.dropped_full + network.counts.dropped_old for network in self.links)

    @property
    def stale(self) -> int:
        """Datagrams dropped because this program stood still."""
        return sum(network.wake.dropped_stale for network in self.links)


def _parts(word: str) -> tuple[str, str]:
    """The mission's file and the group's name in a word; no file for a stream's id."""
    borders = [index for index, letter in enumerate(word) if letter == "/" and index]
    for border in (len(word), *borders):
        if os.path.isfile(word[:border]):
            return word[:border], word[border + 1 :]
    slip = MISSION_ENDING.search(word)
    if slip is not None:
        raise LocalError(f"{word[: slip.end()]}: there is no such file")
    return "", ""


def _open(file: str, password_file: Path | None) -> Reading:
    try:
        return source_of(file, password_file=password_file).reading
    except PasswordNeeded:
        raise LocalError(
            f"{file} is sealed with a password: name a file that holds it with --password-file"
        ) from None


def _groups(mission: Mission, name: str, file: str) -> list[Group]:
    audio = [group for group in mission.groups if voice.is_audio(group)]
    if not name:
        if not audio:
            raise LocalError(f"{file}: mission '{printable(mission.name)}' has no audio group")
        return audio
    group = _named(mission, name, file)
    if not voice.is_audio(group):
        raise LocalError(
            f"{file}: group '{printable(group.name)}' carries no voice; `ice who {file}` shows who is there"
            if group.is_mission_control
            else f"{file}: group '{printable(group.name)}' carries no voice"
        )
    return [group]


def _named(mission: Mission, name: str, file: str) -> Group:
    """The group of that name or id; of that name in another case, if only one has it."""
    wanted = stream_id(name)
    exact = [each for each in mission.groups if each.name == name or stream_id(each.id) == wanted]
    found = exact or [each for each in mission.groups if each.name.casefold() == name.casefold()]
    ids = {stream_id(each.id) for each in found}
    if len(ids) == 1:
        return found[0]
    if ids:
        raise LocalError(
            f"{file}: {len(ids)} groups are named '{name}': say which by its id: {', '.join(sorted(ids))}"
        )
    there = (
        ", ".join(f"'{printable(each.name)}'" for each in mission.groups if voice.is_audio(each)) or "none"
    )
    raise LocalError(
        f"{file}: mission '{printable(mission.name)}' has no group '{name}'; its audio groups are {there}"
    )
