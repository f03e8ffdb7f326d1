"""Where datagrams are heard and said on a local network, and which interface that means just now.

**Which interface.**  The one that is named; where none is, the one by which the kernel routes to the group; where there is no route, the only one that
can multicast.  Of several, none is guessed: half of a team on the wrong network is worse than a sentence that says what to write.
"""

import attrs

from ice.net import multicast_options as options
from ice.net.addresses import Address
from ice.net.interfaces import Interface, InterfaceTrouble, InterfaceWatch, route_to
from ice.net.multicast_options import VOICE


@attrs.frozen
class Place:
    """Where datagrams are heard (``rx``) and said (``tx``), on which interface, and how.

    ``rx`` and ``tx`` are IP addresses: groups, machines or broadcasts, of one family or of two.  ``interface`` is a name, or "" for the one that the kernel routes to.
    ``ttl`` (hops): how many networks a datagram to a group reaches, 1: this one.  ``priority``: 0 best effort, 1 signalling, 2 video, 3 voice.  ``loopback``: other programs of this
    machine hear us.  ``sources``: the only machines that are listened to (source-specific multicast); none: all.  ``sealed``: payloads are ciphertext, of which nothing is read.
    """

    rx: Address
    tx: Address
    interface: str = ""
    ttl: int = 1
    priority: int = VOICE
    loopback: bool = True
    sources: tuple[str, ...] = ()
    sealed: bool = False

    def trouble(self, *, listen: bool = True, talk: bool = True) -> str:
        """What is wrong with this place, in a sentence; "" where nothing is.  Of ``rx`` and ``tx`` only what is used has to be right."""
        for what, address, used in (("rx", self.rx, listen), ("tx", self.tx, talk)):
            if not used:
                continue
            if address.ip is None:
                return f"{what} {address} is a name; write the IP address of a group or of a machine"
            if not 0 < address.port <= 65535:
                return f"{what} {address} has no port: expected 1–65535"
        if not 0 <= self.ttl <= 255:
            return f"a time to live of {self.ttl} is not in 0–255"
        for source in self.sources * listen:
            ip = Address(source, 0).ip
            if ip is None or ip.is_multicast or (":" in source) is not (":" in self.rx.host):
                return f"source {source[:40]} is not the IP address of a machine that could send to {self.rx}"
        if self.sources and listen and not options.is_multicast(self.rx.host):
            return f"sources are for groups; {self.rx.host} is none"
        return ""


class Closed(Exception):
    """Why a place cannot be used now."""


def choose(
    place: Place, watch: InterfaceWatch, *, listen: bool = True, talk: bool = True
) -> Interface | None:
    """The interface to use, or None where none matters.  Raises :class:`Closed` with a sentence."""
    if trouble := place.trouble(listen=listen, talk=talk):
        raise Closed(trouble)
    hosts = [place.rx.host] * listen + [place.tx.host] * talk
    groups = [host for host in hosts if options.is_multicast(host)]
    name = place.interface or next((zone for host in groups if (zone := host.partition("%")[2])), "")
    if not name and not groups and options.BROADCAST not in hosts:
        return None
    if watch.trouble:
        raise Closed(watch.trouble)
    if name:
        chosen = watch.present.get(name)
        if chosen is None:
            raise Closed(f"there is no interface {name[:40]} here: ip -brief link")
    else:
        chosen = _default(watch, next(iter(groups), options.BROADCAST))
    _check(chosen, groups)
    return chosen


def _default(watch: InterfaceWatch, group: str) -> Interface:
    """The interface that is meant where none is named."""
    try:
        index = route_to(group)
    except InterfaceTrouble as trouble:
        raise Closed(str(trouble)) from None
    routed = None if index is None else watch.by_index(index)
    if routed is not None:
        return routed
    able = [each for each in watch.present.values() if each.up and each.multicast and not each.loopback]
    if len(able) == 1:
        return able[0]
    net = "ff00::/8" if ":" in group else "239.0.0.0/8"
    if not able:
        raise Closed("no interface that is up can multicast: sudo ip link set dev NAME up multicast on")
    raise Closed(
        f"no interface is named, there is no route to {group}, and {' and '.join(each.name for each in able[:4])} could be meant: "
        f"name one, or: sudo ip route add {net} dev {able[0].name}"
    )


def _check(interface: Interface, groups: list[str]) -> None:
    """Raise :class:`Closed` where ``interface`` cannot carry these groups now."""
    name = interface.name
    if not interface.up:
        raise Closed(f"{name} is down or has no carrier: sudo ip link set dev {name} up; is the cable in?")
    if groups and not interface.multicast:
        raise Closed(f"{name} does not multicast: sudo ip link set dev {name} multicast on")
    for ipv6 in sorted({":" in group for group in groups}):
        if not interface.addresses_of(ipv6):
            raise Closed(f"{name} has no {'IPv6' if ipv6 else 'IPv4'} address: ip address show dev {name}")
