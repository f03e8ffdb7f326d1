"""From the configuration to an election: which server group a satellite is in, its ways, and where its files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from ice.config.election import ServerGroupSettings
from ice.config.load import Loaded
from ice.election.rules import Group
from ice.election.satellite import Work
from ice.election.service import Election, Wishes
from ice.election.transports import (
    MULTICAST,
    RALLYPOINT,
    Air,
    MulticastWay,
    NoWay,
    RallypointWay,
    Way,
    keyring_of,
    place_of,
)
from ice.errors import LocalError
from ice.net.interfaces import InterfaceWatch
from ice.streams.interface import Network


def server_group(loaded: Loaded, id: UUID) -> ServerGroupSettings | None:
    """The server group that has this satellite as a member, None where it works alone.

    Raises :class:`LocalError` where several have: a process has one function.
    """
    found = [each for each in loaded.config.server_groups if any(member.id == id for member in each.members)]
    if len(found) > 1:
        names = " and ".join(each.name or str(each.id) for each in found)
        raise LocalError(
            f"{loaded.path}: the satellite {id} is a member of {names}; one process is in one server group: give each a certificate of its own"
        )
    return found[0] if found else None


def named_group(loaded: Loaded, name: str) -> ServerGroupSettings:
    """The server group of this name, in any case, or id; raises :class:`LocalError` that says which there are."""
    groups = loaded.config.server_groups
    wanted = name.strip("{}").casefold()
    found = [each for each in groups if str(each.id) == wanted or each.name.casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"'{each.name or each.id}'" for each in groups[:12]) or "none at all"
    raise LocalError(
        f"{loaded.path} has {len(found) or 'no'} server group{'s' if len(found) > 1 else ''} '{name[:60]}'; its server groups are {there}"
    )


def ways_of(
    settings: ServerGroupSettings,
    group: Group,
    network: Network | None,
    reactor: Any,
    *,
    wall: Callable[[], float],
    rejoin_s: float,
    watch: InterfaceWatch | None = None,
    airs: dict[object, Air] | None = None,
) -> tuple[Way, Way]:
    """The two ways of a group's ballots; ``network`` None: no Rallypoints. ``airs``: shared by the elections of a process."""
    keyring = keyring_of(group)
    rallypoint: Way
    if not settings.rallypoint:
        rallypoint = NoWay(RALLYPOINT, "switched off (server_groups.rallypoint)")
    elif network is None:
        rallypoint = NoWay(RALLYPOINT, "there is no network of Rallypoints")
    else:
        rallypoint = RallypointWay(network, group.id, keyring, wall=wall, seconds=reactor.seconds)
    if not settings.interface:
        return rallypoint, NoWay(MULTICAST, "not initialised: no interface is named")
    place = place_of(settings.interface, settings.multicast, settings.ttl)
    air = None if airs is None else airs.get(place)
    if air is None:
        air = Air(reactor, place, rejoin_s=rejoin_s, watch=watch)
        if airs is not None:
            airs[place] = air
    return rallypoint, MulticastWay(air, group.id, keyring, wall=wall)


def election_of(
    loaded: Loaded,
    settings: ServerGroupSettings,
    id: UUID,
    network: Network | None,
    work: Work,
    reactor: Any,
    *,
    wall: Callable[[], float],
    environ: Mapping[str, str],
    watch: InterfaceWatch | None = None,
    stuck: Callable[[str], None] | None = None,
    merge: Callable[[bytes, bytes], bytes] | None = None,
    learned: Callable[[bytes], None] | None = None,
) -> Election:
    """The election of the satellite ``id``, not started yet. Raises :class:`LocalError` where a salt cannot be read."""
    group = settings.rules()
    ways = ways_of(
        settings,
        group,
        network,
        reactor,
        wall=wall,
        rejoin_s=loaded.config.multicast.rejoin_s,
        watch=watch,
    )
    folder = state_folder(environ)
    wishes = Wishes(
        deadline_s=settings.hand_over_s or None,
        status_file=folder / f"election-{group.id}-{str(id)[:8]}.json",
        document_file=folder / f"group-{group.id}-{str(id)[:8]}.document",
    )
    return Election(
        reactor,
        group,
        str(id),
        work,
        ways,
        wishes=wishes,
        wall=wall,
        stuck=stuck,
        merge=merge,
        learned=learned,
    )


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where a satellite keeps what outlives it: the folder that systemd has made for a service, or that of the person (XDG Base Directory Specification)."""
    if service := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(service)
    if (person := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(person) / "ice"
    return Path("~/.local/state/ice").expanduser()
