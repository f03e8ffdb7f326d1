"""A mission as one network: every group by its stream id, on the ways that the mission names, sealed with its key.

::

    Team.join(stream id)
      └ SealedNetwork        with the group's keyring, or none for a group in clear: outermost, so that both paths carry the same bytes
         └ FailoverNetwork   as the group says: which paths, and how long to wait for a Rallypoint
            ├ RallypointNetwork   one for each distinct cluster; all groups that name the same share its link
            └ MulticastNetwork    one for all groups

**Which paths.** A group's Rallypoints, if it names any; its multicast address where it names none, or where it may fail over. Whether it may says the mission
(``multicastFailoverPolicy`` 1: always, 2: never), else the program (``multicast``), else the group (``enableMulticastFailover``).

**What is missing is told, and the rest works.** Without a configuration or a certificate no Rallypoint is dialled, and groups that may use multicast use it
alone, at once; a group without any way can be joined and says why nobody hears it. All of it stands in :attr:`Team.remarks`.

What a mission says of certificates is not used: who we are, and whom we trust, is the configuration's affair.
"""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import attrs
from twisted.internet.defer import Deferred, DeferredList

from ice.config.load import Loaded
from ice.config.multicast import MulticastSettings
from ice.config.schema import NetworkSettings
from ice.config.traffic import TrafficSettings
from ice.errors import LocalError
from ice.link.naming import checked_stream_id
from ice.mission.identity import stream_id
from ice.mission.model import Group, GroupType, Mission
from ice.mission.tolerant import Remark
from ice.net.clock import Clock
from ice.net.multicast import Place
from ice.net.multicast_options import is_multicast
from ice.security.keyring import Keyring
from ice.security.traffic import plausible_packet
from ice.streams.connect import Cluster, Passport, links_to, passport_of, ways_path
from ice.streams.failover import HOLD_S, SETTLE_S, FailoverStatus
from ice.streams.failover_network import REASON_LEFT, FailoverNetwork, FailoverStream
from ice.streams.interface import Network, Receiver, Stream
from ice.streams.multicast import MulticastNetwork
from ice.streams.nowhere import Nowhere
from ice.streams.rallypoint import Notice, RallypointNetwork
from ice.streams.sealed import SealedNetwork, Sealing
from ice.streams.team_groups import Reaching, TeamGroup

NO_CONFIGURATION: Final = "no Rallypoint is dialled without a configuration and a certificate"
MAX_TOLD: Final = 12  # names that an error lists
# The gap that people hear begins with the last packet before and ends with the first after: a framing on each side belongs to it, and what the mission says is its bound.
EARLY_S: Final = 0.15


@attrs.frozen
class GroupStatus:
    """How a joined group stands."""

    name: str
    failover: FailoverStatus
    sealing: Sealing


@attrs.frozen
class _Branch:
    """The networks of one group."""

    group: TeamGroup
    failover: FailoverNetwork
    sealed: SealedNetwork


@attrs.frozen
class _Joined:
    """A stream of ours that has not been left."""

    branch: _Branch
    stream: FailoverStream


class Team:
    """An :class:`ice.streams.interface.Network` for all groups of a mission, made by :func:`team_of`.

    :meth:`join` at any time, :meth:`start` once, and wait for :meth:`stop`, after which it is over.
    """

    def __init__(
        self,
        mission: Mission,
        groups: tuple[TeamGroup, ...],
        remarks: tuple[Remark, ...],
        branches: Mapping[str, _Branch],
        rallypoints: Mapping[Cluster, RallypointNetwork],
        multicast: MulticastNetwork | None,
    ) -> None:
        self.mission = mission
        #: In the mission's order, each stream once.
        self.groups = groups
        #: What the mission names and this program does not use, and why.
        self.remarks = remarks
        #: The links, by cluster.
        self.rallypoints = rallypoints
        #: The local network, if any group is there.
        self.multicast = multicast
        self._branches = branches
        self._joined: dict[str, _Joined] = {}

    def group(self, name: str) -> TeamGroup:
        """The group of this name (in any case, if only one is meant) or id (with or without braces); raises :class:`LocalError` that names those there are."""
        wanted = stream_id(name)
        exact = [each for each in self.groups if each.name == name or each.stream_id == wanted]
        found = exact or [each for each in self.groups if each.name.casefold() == name.casefold()]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(each.stream_id for each in found[:MAX_TOLD])
            raise LocalError(f"{len(found)} groups are named '{name[:60]}': say which by its id: {ids}")
        there = ", ".join(f"'{each.name}'" for each in self.groups[:MAX_TOLD]) or "none at all"
        more = f" and {len(self.groups) - MAX_TOLD} more" if len(self.groups) > MAX_TOLD else ""
        raise LocalError(
            f"mission '{self.mission.name}' has no group '{name[:60]}'; its groups are {there}{more}"
        )

    def join(self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True) -> Stream:
        """See :meth:`ice.streams.interface.Network.join`; ``stream_id`` is a group's (:attr:`TeamGroup.stream_id`).

        Raises :class:`LocalError` for a stream of no group, and for one that is joined already.
        """
        branch = self._branch(checked_stream_id(stream_id))
        stream = branch.sealed.join(stream_id, receiver, listen=listen, talk=talk)
        below = getattr(stream, "inner", stream)
        assert isinstance(below, FailoverStream)
        self._joined[stream_id] = _Joined(branch, below)
        return stream

    def start(self) -> None:
        """Begin to connect and to listen."""
        if self.multicast is not None:
            self.multicast.start()
        for network in self.rallypoints.values():
            network.start()
        for branch in self._branches.values():
            branch.failover.start()

    def stop(self, reason: str = REASON_LEFT) -> "Deferred[None]":
        """Leave every group; fires when nothing is left in the reactor."""
        for branch in self._branches.values():
            branch.failover.stop(reason)
        parts = [network.stop(reason) for network in self.rallypoints.values()]
        if self.multicast is not None:
            parts.append(self.multicast.stop())
        done: Deferred[None] = Deferred()
        DeferredList(parts, consumeErrors=True).addCallback(partial(_over, done))
        return done

    @property
    def up(self) -> bool:
        """Whether any joined group can be talked on."""
        return any(joined.stream.up for joined in self._joined.values())

    def sealing(self, stream_id: str) -> Sealing:
        """How a group is sealed and what of it was refused; raises :class:`LocalError` for a stream of no group."""
        return self._branch(stream_id).sealed.status(stream_id)

    def status(self) -> tuple[GroupStatus, ...]:
        """Each group that has been joined, in the order joined; those that were left again say so."""
        return tuple(
            GroupStatus(
                joined.branch.group.name, joined.stream.status(), joined.branch.sealed.status(stream_id)
            )
            for stream_id, joined in self._joined.items()
        )

    def _branch(self, stream_id: str) -> _Branch:
        branch = self._branches.get(stream_id)
        if branch is None:
            raise LocalError(f"mission '{self.mission.name}' has no group whose stream is {stream_id!r}")
        return branch


def team_of(
    mission: Mission,
    loaded: Loaded | None,
    reactor: Any,
    *,
    multicast: bool | None = None,
    on_notice: Callable[[Notice], None] | None = None,
    wall: Callable[[], float] = time.time,
    settle_s: float = SETTLE_S,
    hold_s: float = HOLD_S,
    passport: Passport | None = None,
    multicast_of: Callable[..., MulticastNetwork] = MulticastNetwork,
) -> Team:
    """The network of a mission, not started yet.

    ``loaded``: the configuration, None where there is none; ``multicast``: what the program is set to, where the mission leaves that to it (None: what each
    group says); ``on_notice``: what happens to links; ``wall``: seconds since 1970; ``settle_s``, ``hold_s``: see :class:`FailoverNetwork`; ``passport``, ``multicast_of``: for tests.

    Raises :class:`LocalError` for a key that is none, and a file of the configuration's own (the salt) that cannot be read. That certificates are
    missing is no error: see :attr:`Team.remarks`.
    """
    network = loaded.config.network if loaded is not None else NetworkSettings()
    local = loaded.config.multicast if loaded is not None else MulticastSettings()
    traffic = loaded.config.traffic if loaded is not None else TrafficSettings()
    why = ""
    if passport is None and any(group.rallypoints for group in mission.groups):
        try:
            if loaded is None:
                raise LocalError(NO_CONFIGURATION)
            passport = passport_of(loaded, reactor)
        except LocalError as error:
            why = f"no Rallypoint is dialled: {error}" if loaded is not None else str(error)
    reading = Reaching(mission, network, local, why, multicast)
    groups = reading.all()
    rallypoints: dict[Cluster, RallypointNetwork] = {}
    for each in groups:
        if each.cluster is not None and each.cluster not in rallypoints:
            assert passport is not None  # else nobody has a cluster
            ways = None if loaded is None else _ways(loaded, each.cluster)
            rallypoints[each.cluster] = links_to(
                each.cluster, passport, network, reactor, ways=ways, on_notice=on_notice
            )
    places = {each.stream_id: each.place for each in groups if each.place is not None}
    air: MulticastNetwork | None = None
    if places:
        identity = passport.id if passport is not None else uuid4()
        air = multicast_of(reactor, places.get, identity=identity, rejoin_s=local.rejoin_s)
    salt = traffic.salt() if any(group.crypto_password is not None for group in mission.groups) else b""
    branches = {}
    for each in groups:
        below = _failover(reactor, each, rallypoints, air, settle_s, hold_s)
        keyring = _keyring(each.group, salt)
        sealed = SealedNetwork(
            below,
            {each.stream_id: keyring}.get,
            wall,
            # what a raw group carries may be anything
            _anything if each.group.type is GroupType.RAW else plausible_packet,
            accept_recordings=traffic.accept_recordings,
            clock_ahead_s=traffic.clock_ahead_s,
        )
        branches[each.stream_id] = _Branch(each, below, sealed)
    return Team(mission, groups, tuple(reading.remarks), branches, rallypoints, air)


def _failover(
    clock: Clock,
    group: TeamGroup,
    rallypoints: Mapping[Cluster, RallypointNetwork],
    air: MulticastNetwork | None,
    settle_s: float,
    hold_s: float,
) -> FailoverNetwork:
    primary: Network | None = None if group.cluster is None else rallypoints[group.cluster]
    secondary: Network | None = None if group.place is None else air
    if primary is None and secondary is None:
        primary = Nowhere(clock, group.why)
    name = _name(group.place)
    return FailoverNetwork(
        clock,
        primary,
        secondary,
        after_s=max(0.0, group.after_s - EARLY_S),
        settle_s=settle_s,
        hold_s=hold_s,
        name_of=lambda stream_id: name,
        instead=group.why,
    )


def _name(place: Place | None) -> str:
    if place is None:
        return "multicast"
    return f"{'multicast' if is_multicast(place.tx.host) else 'the local network, to'} {place.tx}"


def _keyring(group: Group, salt: bytes) -> Keyring | None:
    if group.crypto_password is None:
        return None
    return Keyring.of(group.crypto_password, group.cipher, salt=salt, rekey=group.rekey)


def _anything(payload: bytes) -> bool:
    return True


def _ways(loaded: Loaded, cluster: Cluster) -> Path | None:
    """Where other ways into this cluster are remembered: the usual file for the usual Rallypoints, else one of its own, since it may be another mesh."""
    path = ways_path(loaded, os.environ)
    if path is None or set(cluster.addresses) == set(loaded.config.network.rallypoints):
        return path
    text = " ".join(sorted(map(str, cluster.addresses)))
    return path.with_name(f"{path.stem}-{sha256(text.encode()).hexdigest()[:8]}{path.suffix}")


def _over(done: "Deferred[None]", _: object) -> None:
    done.callback(None)
