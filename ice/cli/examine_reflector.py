"""What ``ice doctor`` says of a reflector's rules: are their interfaces here, may we listen to who joins, will a Rallypoint take that many streams.

Like every examination these change nothing and raise nothing; what they look at is an argument where a test must stand in for the machine.
"""

import socket
from collections.abc import Callable, Iterator, Mapping

from ice.cli.examine import Result, ok, warn
from ice.cli.examine_multicast import named_interface
from ice.config.schema import Config
from ice.net.interfaces import Interface, InterfaceTrouble, interfaces

DEFAULT_JOINS = 256  # rallypoint.limits.joins where nobody has changed it
DEFAULT_PACKETS_PER_S = 2_000  # rallypoint.limits.packets_per_s, likewise
TALKER_PACKETS_PER_S = 50  # one talker


def may_snoop() -> bool:
    """Whether this process may open the sockets that snooping needs; a daemon has rights of its own."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except OSError:
        return False
    return True


def reflector_use(
    config: Config,
    *,
    look: Callable[[], Mapping[str, Interface]] = interfaces,
    snoop: Callable[[], bool] = may_snoop,
) -> Iterator[Result]:
    """What stands in the way of this configuration's rules on this machine; nothing where there are none."""
    settings = config.reflector
    rules = [rule for rule in settings.rules if rule.enabled]
    if not rules:
        return
    try:
        present = look()
    except InterfaceTrouble as trouble:
        yield warn("reflector", str(trouble))
        return
    names = {rule.interface or settings.interface or config.multicast.interface for rule in rules}
    for name in sorted(names - {""}):
        found = named_interface(f"reflector {name}", name, present, "reflector.rules.interface")
        yield found if isinstance(found, Result) else found[1]
    if "" in names:
        yield warn(
            "reflector",
            "some rules name no interface: they use the one by which groups are routed, which may change",
            'reflector.interface = "eth0"',
        )
    streams = len({rule.stream for rule in rules})
    if streams > DEFAULT_JOINS:
        yield warn(
            "reflector",
            f"{streams} streams; a Rallypoint takes {DEFAULT_JOINS} joins of one link unless told otherwise",
            f"on the Rallypoints: rallypoint.limits.joins = {streams}, and packets_per_s by how many talk at once",
        )
    elif streams * TALKER_PACKETS_PER_S > DEFAULT_PACKETS_PER_S:
        yield ok(
            "reflector",
            f"{streams} streams; a Rallypoint takes {DEFAULT_PACKETS_PER_S // TALKER_PACKETS_PER_S} talkers of one link at once "
            "unless told otherwise (rallypoint.limits.packets_per_s)",
        )
    if settings.snooping.enabled and not snoop():
        yield warn(
            "reflector.snooping",
            "this user may not listen to who joins groups (CAP_NET_RAW); the daemon may, where its unit says so",
            "systemctl edit ice-reflector, as etc/systemd/ice-reflector.service says",
        )
