"""A local network of network namespaces: a switch, and hosts on it with an IPv4 and an IPv6 address each.

::

    host 1: eth0 10.65.0.1, fd65::1 --veth--+
    host 2: eth0 10.65.0.2, fd65::2 --veth--+-- the switch (a bridge in a namespace of its own)
    host 3: …

Cables can be pulled, put back, and a whole interface can be taken out and put in again, as a USB adapter is.  What really is on a cable is seen by a :class:`Tap`.
There is no default route: where the machine has no other way, multicast finds the interface by itself, or is told its name.
"""

import contextlib
import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from .roads import NAMESPACES, RoadsError, command, inside, sweep

ETH_P_ALL = 0x0003
PARTY = Path(__file__).with_name("lan_party.py")


@attrs.frozen
class Packet:
    """What of an IP packet on the wire matters here: version 4 or 6, DSCP, hops, protocol (17 UDP, 2 IGMP, 58 ICMPv6), destination, what the protocol carries."""

    version: int
    dscp: int
    hops: int
    protocol: int
    source: str
    to: str
    data: bytes

    @property
    def payload(self) -> bytes:
        """Of a UDP datagram."""
        return self.data[8:]


class Tap:
    """Everything that passes an interface, from the moment it is opened."""

    def __init__(self, namespace: str, device: str) -> None:
        def open_it() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            sock.bind((device, ETH_P_ALL))
            return sock

        self._sock = inside(namespace, open_it)
        self._sock.settimeout(0.2)

    def until(self, wanted: Callable[[Packet], bool], timeout_s: float = 10.0) -> Packet:
        """The first packet that is wanted."""
        deadline, seen = time.monotonic() + timeout_s, 0
        while time.monotonic() < deadline:
            try:
                packet = _parsed(self._sock.recv(65_535))
            except TimeoutError:
                continue
            seen += 1
            if packet is not None and wanted(packet):
                return packet
        raise AssertionError(f"not on the wire within {timeout_s} s, among {seen} packets")

    def close(self) -> None:
        """See nothing more."""
        self._sock.close()


def _parsed(data: bytes) -> Packet | None:
    if len(data) >= 20 and data[0] >> 4 == 4:
        head = 4 * (data[0] & 0x0F)
        source, to = (socket.inet_ntop(socket.AF_INET, data[at : at + 4]) for at in (12, 16))
        return Packet(4, data[1] >> 2, data[8], data[9], source, to, data[head:])
    if len(data) >= 40 and data[0] >> 4 == 6:
        traffic_class = struct.unpack_from(">I", data)[0] >> 20 & 0xFF
        source, to = (socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24))
        protocol, rest = data[6], data[40:]
        if protocol == 0 and len(rest) >= 8:  # hop-by-hop options, as MLD has them
            protocol, rest = rest[0], rest[8 + 8 * rest[1] :]
        return Packet(6, traffic_class >> 2, data[7], protocol, source, to, rest)
    return None


@attrs.frozen
class Host:
    """A namespace on the network."""

    number: int
    namespace: str
    switch: str

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"10.65.0.{self.number}"

    @property
    def address6(self) -> str:
        """Its IPv6 address."""
        return f"fd65::{self.number}"

    @property
    def port(self) -> str:
        """The switch's end of its cable."""
        return f"port{self.number}"

    def command(self, *words: object) -> list[str]:
        """A command as it is to be started here."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def party(self, *places: str, **settings: object) -> list[str]:
        """A program of `lan_party.py`, as it is to be started here."""
        words = [f"{key}={value}" for key, value in settings.items()]
        return self.command(sys.executable, PARTY, *words, *places)

    def ip(self, *words: str) -> str:
        """``ip`` with these words, here."""
        return command("ip", "-n", self.namespace, *words)

    def plug(self) -> None:
        """Put the interface in, and give it its addresses."""
        lines = (
            f"link add name eth0 netns {self.namespace} type veth peer name {self.port} netns {self.switch}",
        )
        command("ip", "-batch", "-", script=lines)
        command("ip", "-n", self.switch, "-batch", "-", script=(f"link set {self.port} master lan up",))
        here = ("link set lo up", "link set eth0 up", f"address add {self.address}/24 dev eth0")
        command("ip", "-n", self.namespace, "-batch", "-", script=here)
        self.ip("address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")

    def unplug(self) -> None:
        """Take the interface out: it is gone."""
        self.ip("link", "delete", "eth0")

    def cable(self, there: bool) -> None:
        """Pull the cable, or put it back."""
        command("ip", "-n", self.switch, "link", "set", self.port, "up" if there else "down")

    def tap(self) -> Tap:
        """See what passes its cable, at the switch's end."""
        return Tap(self.switch, self.port)


class Lan:
    """See the module's docstring.  Close it in the end, whatever happened."""

    def __init__(self, count: int) -> None:
        """Hosts 1 to ``count``.  Raises :class:`~tests.system.roads.RoadsError`, with nothing left behind."""
        sweep()
        begin = f"ice{os.getpid()}-{secrets.token_hex(2)}-"
        self.switch = begin + "switch"
        self.hosts: Sequence[Host] = [
            Host(number, f"{begin}host{number}", self.switch) for number in range(1, count + 1)
        ]
        try:
            names = [self.switch, *(host.namespace for host in self.hosts)]
            command("ip", "-batch", "-", script=(f"netns add {name}" for name in names))
            bridge = ("link add name lan type bridge", "link set lan up")  # without a querier it floods
            command("ip", "-n", self.switch, "-batch", "-", script=bridge)
            for host in self.hosts:
                host.plug()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    @contextlib.contextmanager
    def second(self, one: Host, other: Host) -> Iterator[None]:
        """A second network, of two hosts alone: a cable between their eth1."""
        ends = f"netns {one.namespace} type veth peer name eth1 netns {other.namespace}"
        command("ip", "-batch", "-", script=(f"link add name eth1 {ends}",))
        for host in (one, other):
            host.ip("link", "set", "eth1", "up")
            host.ip("address", "add", f"10.66.0.{host.number}/24", "dev", "eth1")
            host.ip("address", "add", f"fd66::{host.number}/64", "dev", "eth1", "nodad")
        try:
            yield
        finally:
            one.ip("link", "delete", "eth1")

    def close(self) -> None:
        """Remove everything; closing twice is harmless.  Programs inside must have ended before."""
        for name in [*(host.namespace for host in self.hosts), self.switch]:
            if (NAMESPACES / name).exists():
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


__all__ = ["Host", "Lan", "Packet", "RoadsError", "Tap"]
