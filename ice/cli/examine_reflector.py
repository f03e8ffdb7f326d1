"""What ``ice doctor`` says of a reflector's rules: are their interfaces here, may we listen to who joins, will a Rallypoint take that many streams.

Like every examination these change nothing and raise nothing; what they look at is an argument where a test must stand in for the machine.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ice.cli.examine import Result, ok, warn
from ice.cli.examine_multicast import named_interface
from ice.config.schema import Config
from ice.net.interfaces import Interface, InterfaceTrouble, interfaces
from ice.net.multicast_options import RECEIVE_BUFFER

DEFAULT_JOINS = 256  # rallypoint.limits.joins where nobody has changed it
DEFAULT_PACKETS_PER_S = 2_000  # rallypoint.limits.packets_per_s, likewise
TALKER_PACKETS_PER_S = 50  # one talker
CHARGED = 768  # bytes that Linux charges for a datagram of 172; what is asked for is doubled


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
    root: Path = Path("/"),
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
    yield from _receive_buffer(root)
    if settings.snooping.enabled and not snoop():
        yield warn(
            "reflector.snooping",
            "this user may not listen to who joins groups (CAP_NET_RAW); the daemon may, where its unit says so",
            "systemctl edit ice-reflector, as etc/systemd/ice-reflector.service says",
        )


def _receive_buffer(root: Path) -> Iterator[Result]:
    """How much the kernel may hold for a socket of a program without rights, while that program does something else."""
    try:
        most = int((root / "proc/sys/net/core/rmem_max").read_text("ascii"))
    except (OSError, ValueError):
        return
    if most < RECEIVE_BUFFER:  # enough for voice; a group of hundreds of talkers wants more
        held = 2 * most // CHARGED
        yield ok(
            "net.core.rmem_max",
            f"{most}: while the reflector does not run, {held} datagrams of a group wait, {held / TALKER_PACKETS_PER_S:.0f} s of one talker "
            f"(more: sysctl net.core.rmem_max={RECEIVE_BUFFER})",
        )
