"""How each group of a mission is reached from here: which Rallypoints, which place on the local network, and what of it is missing.

Which of the two, tells :mod:`ice.streams.team`. Whether a group that has Rallypoints may use multicast says the mission, else the program, else the group.
"""

from typing import Final

import attrs

from ice.config.multicast import MulticastSettings
from ice.config.schema import NetworkSettings
from ice.mission.identity import stream_id
from ice.mission.model import Group, Mission
from ice.mission.parts import Host
from ice.mission.tolerant import Remark
from ice.net.addresses import Address, AddressError, format_address, parse_address
from ice.net.multicast import Place
from ice.streams.connect import Cluster
from ice.streams.roster import Strategy

DEFAULT_PORT: Final = 7443  # of a Rallypoint whose host names none
ALLOW, PREVENT = 1, 2  # multicastFailoverPolicy: over what the app is set to; 0 follows it


@attrs.frozen
class TeamGroup:
    """A group of a mission as this program reaches it.

    :ivar cluster: the Rallypoints that are dialled for it, or None.
    :ivar place: where it is on the local network, if it is used there.
    :ivar after_s: without a Rallypoint until talk goes over multicast; where there are both.
    :ivar why: what is missing that the mission names, in a sentence; "" if nothing.
    """

    group: Group
    stream_id: str
    cluster: Cluster | None
    place: Place | None
    after_s: float
    why: str = ""

    @property
    def name(self) -> str:
        """The group's name, for people."""
        return self.group.name

    @property
    def fails_over(self) -> bool:
        """Whether there are two ways."""
        return self.cluster is not None and self.place is not None


class Reaching:
    """From a mission's groups to how each is reached, with remarks."""

    def __init__(
        self,
        mission: Mission,
        network: NetworkSettings,
        local: MulticastSettings,
        why: str,
        multicast: bool | None,
    ) -> None:
        """``why``: no Rallypoint can be dialled, "" if they can; ``multicast``: what the program is set to, None: as each group says."""
        #: What the mission names and is not used, and why.
        self.remarks: list[Remark] = []
        self._mission = mission
        self._network = network
        self._local = local
        self._why = why
        self._multicast = multicast

    def all(self) -> tuple[TeamGroup, ...]:
        """Each stream once."""
        found: dict[str, TeamGroup] = {}
        for index, group in enumerate(self._mission.groups):
            path = f"groups[{index}]"
            id = stream_id(group.id)
            if id in found:
                self._remark(path, f"is the same channel as '{found[id].name}'; it is used once")
            else:
                found[id] = self._one(path, group, id)
        return tuple(found.values())

    def _one(self, path: str, group: Group, id: str) -> TeamGroup:
        cluster = self._cluster(path, group)
        named = bool(group.rallypoints)
        why = ""
        if cluster is not None and self._why:
            cluster, why = None, self._why
        elif named and cluster is None:
            why = "none of its Rallypoints has an address that could be dialled"
        place = None
        if not named or self._may_fail_over(group):
            place, trouble = self._place(group)
            if trouble:
                self._remark(path, f"has no place on the local network: {trouble}")
                why = why if named else trouble
        elif why:
            why += "; and this group may not use multicast instead (enableMulticastFailover)"
        if why and named:
            self._remark(f"{path}.rallypoints", why)
        return TeamGroup(group, id, cluster, place, group.multicast_failover_s, why)

    def _may_fail_over(self, group: Group) -> bool:
        policy = self._mission.multicast_failover_policy
        if policy in (ALLOW, PREVENT):
            return policy == ALLOW
        return group.enable_multicast_failover if self._multicast is None else self._multicast

    def _cluster(self, path: str, group: Group) -> Cluster | None:
        addresses: list[Address] = []
        for index, rallypoint in enumerate(group.rallypoints):
            host = rallypoint.host
            try:
                address = parse_address(format_address(host.address, host.port or DEFAULT_PORT))
            except AddressError as error:
                self._remark(f"{path}.rallypoints[{index}].host", f"{error}; it is not dialled")
                continue
            if address not in addresses:
                addresses.append(address)
        if not addresses:
            return None
        settings, cluster = self._network, group.cluster
        if cluster is None:
            strategy, rollover_s, timeout_s = (
                Strategy(settings.strategy),
                settings.rollover_s,
                settings.connect_timeout_s,
            )
        else:
            strategy = Strategy.FAIL_BACK if cluster.connection_strategy else Strategy.ROUND_ROBIN
            rollover_s = float(cluster.rollover_s) or settings.rollover_s
            timeout_s = float(cluster.connection_timeout_s) or settings.connect_timeout_s
        return Cluster(tuple(addresses), strategy, rollover_s, timeout_s)

    def _place(self, group: Group) -> tuple[Place | None, str]:
        """Where a group is on the local network, or why it is nowhere."""
        local = self._local
        if not local.enabled:
            return None, "multicast is switched off here (multicast.enabled)"
        rx, tx = group.rx or group.tx, group.tx or group.rx
        if rx is None or tx is None or not (rx.address or tx.address):
            return None, "it names neither rx nor tx"
        options = group.tx_options
        place = Place(
            _address(rx),
            _address(tx),
            interface=group.interface_name or local.interface,
            ttl=options.ttl if "ttl" in options.written else local.ttl,
            priority=options.priority,
            loopback=local.loopback,
            sources=group.source_filter,
            sealed=group.crypto_password is not None,
        )
        trouble = place.trouble()
        return (None, trouble) if trouble else (place, "")

    def _remark(self, path: str, text: str) -> None:
        self.remarks.append(Remark(path, text))


def _address(host: Host) -> Address:
    """As :class:`Place` wants it; what is wrong with it, that says."""
    try:
        return parse_address(format_address(host.address, host.port or 0), any_port=True)
    except AddressError:
        return Address(host.address[:60], host.port)
