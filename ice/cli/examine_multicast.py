"""What ``ice doctor`` says of multicast beyond whether interfaces hear themselves: which interface groups use here, its IGMP, and containers.

Like every examination these change nothing and raise nothing; what they look at is an argument where a test must stand in for the machine.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ice.cli.examine import GROUP, Result, fail, ok, warn
from ice.config.multicast import MulticastSettings
from ice.net.container import REMEDY, container
from ice.net.interfaces import Interface, InterfaceTrouble, interfaces, route_to

SOURCES: Final = "source-specific groups need IGMPv3"


def multicast_use(
    settings: MulticastSettings,
    *,
    look: Callable[[], Mapping[str, Interface]] = interfaces,
    route: Callable[[str], int | None] = route_to,
    root: Path = Path("/"),
) -> Iterator[Result]:
    """By which interface this configuration's groups are reached, and what stands in their way."""
    if not settings.enabled:
        yield ok("multicast", "switched off: multicast.enabled = false")
        return
    try:
        present = look()
        name = settings.interface
        chosen = (
            named_interface(f"multicast.interface {name}", name, present, "multicast.interface")
            if name
            else _by_route(present, route)
        )
    except InterfaceTrouble as trouble:
        yield warn("multicast", str(trouble))
        return
    if isinstance(chosen, Result):
        yield chosen
    else:
        interface, result = chosen
        yield result
        yield _igmp(interface.name, root)
    yield from _container(root)


def named_interface(
    subject: str, name: str, present: Mapping[str, Interface], setting: str
) -> tuple[Interface, Result] | Result:
    """Whether the interface that ``setting`` names can multicast."""
    interface = present.get(name)
    if interface is None:
        others = ", ".join(each for each, it in sorted(present.items()) if not it.loopback)[:200]
        return fail(
            subject,
            f"there is no such interface here; there are: {others or 'none'}",
            f"change {setting}, or leave it empty",
        )
    if not interface.up:
        return fail(subject, "is down or has no carrier", f"sudo ip link set dev {name} up; is the cable in?")
    if not interface.multicast:
        return fail(subject, "does not multicast", f"sudo ip link set dev {name} multicast on")
    if not interface.addresses:
        return fail(subject, "has no address", f"sudo ip address add ADDRESS/LENGTH dev {name}")
    return interface, ok(subject, f"up, {', '.join(interface.addresses)[:120]}")


def _by_route(
    present: Mapping[str, Interface], route: Callable[[str], int | None]
) -> tuple[Interface, Result] | Result:
    subject = "multicast route"
    index = route(GROUP)
    routed = next((each for each in present.values() if each.index == index), None)
    if routed is not None and routed.loopback:
        return warn(
            subject,
            "groups stay on this machine: their route leads to loopback",
            f"sudo ip route del 224.0.0.0/4 dev {routed.name}; sudo ip route add 239.0.0.0/8 dev NAME",
        )
    if routed is not None:
        return routed, ok(subject, f"groups that name no interface use {routed.name}")
    able = [each for each in present.values() if each.up and each.multicast and not each.loopback]
    if len(able) == 1:
        found = f"none for 239.0.0.0/8; our groups use {able[0].name}, the only one that can multicast"
        return able[0], warn(
            subject, f"{found}, other programs may not", f"sudo ip route add 239.0.0.0/8 dev {able[0].name}"
        )
    if not able:
        return warn(
            subject, "no interface that is up can multicast", "sudo ip link set dev NAME up multicast on"
        )
    names = " and ".join(sorted(each.name for each in able)[:4])
    return warn(
        subject,
        f"none for 239.0.0.0/8, and {names} could be meant: groups that name no interface are not joined",
        f'multicast.interface = "{able[0].name}", or: sudo ip route add 239.0.0.0/8 dev {able[0].name}',
    )


def _igmp(name: str, root: Path) -> Result:
    """The version of IGMP that is spoken on an interface, which the oldest router there decides, or somebody has fixed."""
    subject = f"igmp {name}"
    try:
        table = (root / "proc/net/igmp").read_text("ascii", "replace")
    except OSError:
        return warn(
            subject,
            "this kernel has no multicast (CONFIG_IP_MULTICAST)",
            "use a kernel that has, or Rallypoints only",
        )
    for line in table.splitlines():
        found = re.match(r"\d+\s+(\S+?)\s*:\s+(\d+)\s+V(\d)", line)
        if found and found[1] == name:
            groups, version = int(found[2]), int(found[3])
            break
    else:
        return warn(
            subject,
            "no group is joined there, not even that of all hosts",
            f"sudo ip link set dev {name} multicast on",
        )
    said = f"version {version}, {groups} group{'s' if groups != 1 else ''} joined"
    if version >= 3:
        return ok(subject, said)
    if _number(root / f"proc/sys/net/ipv4/conf/{name}/force_igmp_version"):
        return warn(
            subject,
            f"{said}: fixed by a setting; {SOURCES}",
            f"sudo sysctl net.ipv4.conf.{name}.force_igmp_version=0",
        )
    return warn(
        subject,
        f"{said}: a router on this network speaks no other; {SOURCES}",
        "switch the querier to IGMPv3, if sources are used",
    )


def _container(root: Path) -> Iterator[Result]:
    """A container on a bridge of its host hears and says nothing on the LAN, although multicast seems to work."""
    found = container(root)
    if found is None:
        return
    if found.trouble:
        yield warn("container", found.trouble, REMEDY)
    else:
        yield ok("container", f"{found.kind}, with {', '.join(found.outside)[:80]} of its own")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0
