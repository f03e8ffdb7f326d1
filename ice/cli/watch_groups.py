"""Which multicast groups ``ice watch`` is to watch: addresses, a mission's groups, the reflector's rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from ice.cli.mission_source import source_of
from ice.config.load import Loaded
from ice.errors import LocalError
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.mission import voice
from ice.mission.model import Group, Mission
from ice.mission.parts import Host
from ice.net.addresses import Address, AddressError, parse_address
from ice.net.multicast_options import is_multicast
from ice.net.place import Place
from ice.streams.words import plain

MAX_GROUPS: Final = 1_024  # sockets of one program; more is no picture


@attrs.frozen
class Watched:
    """One group to watch. ``rx`` of the place is the group; nothing is ever sent."""

    name: str
    place: Place
    payload_types: PayloadMap = DEFAULT

    @property
    def address(self) -> Address:
        """The group."""
        return self.place.rx

    @property
    def title(self) -> str:
        """For people: the name, and the address where it is another one; fit for a terminal, whoever has written the mission."""
        address = str(self.address)
        return address if self.name == address else f"{plain(self.name)} ({address})"

    def codec_name(self, payload_type: int) -> str:
        """What a number means there."""
        if self.payload_types.is_telephone_event(payload_type):
            return "digits"
        known = self.payload_types.codec(payload_type)
        return known.name if known is not None else f"type {payload_type}"


@attrs.frozen
class Watchlist:
    """What the words of a command line mean."""

    groups: tuple[Watched, ...]
    remarks: tuple[str, ...]  #: what was left out, in sentences


def watchlist(
    words: Sequence[str],
    loaded: Loaded | None,
    *,
    interface: str = "",
    ask: bool = False,
    password_file: Path | None = None,
) -> Watchlist:
    """The groups that ``words`` name, each once; without words, those of the reflector's rules in the configuration.

    ``interface``: of groups that name none; before that of the configuration. Raises :class:`~ice.errors.LocalError` for what is no group
    and no mission, and where nothing is left to watch.
    """
    local = "" if loaded is None else loaded.config.multicast.interface
    remarks: list[str] = []
    found: list[Watched] = []
    if not words:
        if loaded is None:
            raise LocalError(
                "name a group (239.1.2.3:5004) or a mission: there is no configuration with reflector rules"
            )
        found += _rules(loaded, interface)
        if not found and not loaded.config.reflector.rules:
            raise LocalError(
                f"{loaded.path}: there are no rules in [[reflector.rules]]; name a group (239.1.2.3:5004) or a mission"
            )
    for word in words:
        address = _address(word)
        if address is not None:
            at, zone = address
            found.append(Watched(str(at), Place(at, at, zone or interface or local)))
        else:
            mission = source_of(word, ask, password_file).reading.mission
            found += _mission(mission, interface, local, remarks)
    groups: dict[tuple[Address, str], Watched] = {}
    for each in found:
        key = (each.address, each.place.interface)
        if not is_multicast(each.address.host):
            remarks.append(
                f"{each.title} is no multicast group: only who is at that address hears what is sent there"
            )
        elif key not in groups:
            groups[key] = each
        elif each.name not in groups[key].name.split(", "):
            groups[key] = attrs.evolve(groups[key], name=f"{groups[key].name}, {each.name}")
    if not groups:
        raise LocalError("there is nothing to watch" + "".join(f"; {each}" for each in remarks[:3]))
    if len(groups) > MAX_GROUPS:
        raise LocalError(
            f"{len(groups)} groups are more than can be watched at once ({MAX_GROUPS}): name some"
        )
    return Watchlist(tuple(groups.values()), tuple(remarks))


def _address(word: str) -> tuple[Address, str] | None:
    """A group with its port, and the interface after an ``@``; None where the word is no address at all."""
    text, _, interface = word.partition("@")
    try:
        found = parse_address(text)
    except AddressError:
        if text.rstrip("0123456789.:") == "" and text:
            raise
        return None
    if found.ip is None:
        return None
    if not found.ip.is_multicast:
        raise LocalError(
            f"{text} is no multicast group: those are 224.0.0.0 to 239.255.255.255, and ff00::/8"
        )
    return found, interface


def _rules(loaded: Loaded, interface: str) -> Iterator[Watched]:
    settings = loaded.config.reflector
    for rule in settings.rules:
        if not rule.enabled:
            continue
        name = rule.interface or interface or settings.interface or loaded.config.multicast.interface
        for address in dict.fromkeys((rule.rx, *rule.destinations)):
            if is_multicast(address.host):
                yield Watched(rule.stream, Place(address, address, name))


def _mission(mission: Mission, interface: str, local: str, remarks: list[str]) -> Iterator[Watched]:
    for group in mission.groups:
        for host in _hosts(group):
            try:
                at = parse_address(
                    f"[{host.address}]:{host.port}" if ":" in host.address else f"{host.address}:{host.port}"
                )
                if at.ip is None:
                    raise AddressError(f"{host.address[:40]} is a name; a group has a number")
            except AddressError as error:
                remarks.append(f"{plain(group.name or group.id)}: {error}")
                continue
            place = Place(
                at,
                at,
                group.interface_name or interface or local,
                sources=group.source_filter,
                sealed=group.crypto_password is not None,
            )
            types = voice.payload_types(group) if voice.is_audio(group) else DEFAULT
            yield Watched(group.name or group.id, place, types)


def _hosts(group: Group) -> Iterable[Host]:
    """Where a group is heard and said, each once."""
    hosts = [host for host in (group.rx, group.tx) if host is not None and host.address]
    return dict.fromkeys(hosts)
