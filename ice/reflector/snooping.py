"""IGMP and MLD on real interfaces: the driver of :class:`ice.reflector.membership.Memberships`.

Reports are heard through packet sockets, since a host's report for a group goes to that very group, which we may not have joined.  A filter in the kernel (classic BPF)
lets nothing else up to us.  Questions go out through raw sockets, with the router alert that switches look for.  Both need CAP_NET_RAW; without it every group
counts as joined, and :attr:`Snooping.trouble` says why.
"""

import ctypes
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from ice.config.reflector import SnoopingSettings
from ice.net.interfaces import Interface, InterfaceWatch
from ice.net.multicast_options import is_multicast
from ice.reflector.membership import (
    ALL_HOSTS,
    ALL_NODES,
    LAST_S,
    RESPONSE_S,
    Memberships,
    igmp_query,
    mld_query,
    read_igmp,
    read_mld,
)

# <linux/if_ether.h>, <linux/if_packet.h>, <asm-generic/socket.h>
ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
SOL_PACKET: Final = 263
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_MR_ALLMULTI: Final = 2
SO_ATTACH_FILTER: Final = 26
IPV6_HOPOPTS: Final = 54
BATCH: Final = 32
MAX_PACKET: Final = 9_216  # a jumbo frame
#: Router alert as an option of IPv4 (RFC 2113) and of IPv6 (RFC 2711: for MLD).
ALERT4: Final = b"\x94\x04\0\0"
ALERT6: Final = b"\x3a\0\x05\x02\0\0\x01\0"

_LOAD_BYTE, _EQUAL, _RETURN = 0x30, 0x15, 0x06
#: IPv4: the protocol is IGMP (2).  IPv6: a hop-by-hop header, which every MLD message has, and ICMPv6 behind it.
_FILTERS: Final = {
    ETH_P_IP: ((_LOAD_BYTE, 0, 0, 9), (_EQUAL, 0, 1, 2), (_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0)),
    ETH_P_IPV6: (
        (_LOAD_BYTE, 0, 0, 6),
        (_EQUAL, 0, 3, 0),
        (_LOAD_BYTE, 0, 0, 40),
        (_EQUAL, 0, 1, 58),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ),
}


class Snooping:
    """Who has joined what, on the interfaces that :meth:`watch_over` names; :meth:`stop` it in the end."""

    _log = Logger()

    def __init__(self, reactor: Any, watch: InterfaceWatch, settings: SnoopingSettings) -> None:
        self.settings = settings
        #: Why nothing is known, or "".
        self.trouble = ""
        self._reactor = reactor
        self._watch = watch
        self._ears: dict[tuple[int, bool], _Ear] = {}

    def listened(self, interface: str, group: str) -> bool:
        """Whether somebody on that network wants ``group``; True for what is no group, and where nothing is known."""
        found = self._watch.present.get(interface)
        if found is None or not is_multicast(group):
            return True
        ear = self._ears.get((found.index, ":" in group))
        return ear is None or ear.memberships.listened(group.partition("%")[0], self._reactor.seconds())

    def tick(self, interfaces: set[str]) -> None:
        """Some times a second: be on these interfaces, and ask where it is time."""
        now = self._reactor.seconds()
        present = [self._watch.present[name] for name in interfaces if name in self._watch.present]
        wanted = {
            (each.index, six): each
            for each in present
            for six in (False, True)
            if each.up and each.multicast and each.addresses_of(six)
        }
        for key in [key for key in self._ears if key not in wanted]:
            self._ears.pop(key).close()
        for key, interface in wanted.items():
            ear = self._ears.get(key)
            if ear is None:
                ear = self._open(interface, key[1], now)
                if ear is None:
                    continue
                self._ears[key] = ear
            ear.memberships.own = interface.addresses
            if ear.memberships.asks(now):
                ear.ask("", RESPONSE_S)

    def stop(self) -> None:
        """Listen no more."""
        for ear in self._ears.values():
            ear.close()
        self._ears.clear()

    def groups(self) -> dict[str, list[str]]:
        """The groups that others have joined, by interface, for people."""
        found: dict[str, list[str]] = {}
        for ear in self._ears.values():
            found.setdefault(ear.interface, []).extend(ear.memberships.groups)
        return found

    def _open(self, interface: Interface, six: bool, now: float) -> "_Ear | None":
        settings = self.settings
        memberships = Memberships(interface.addresses, settings.query_s, settings.subscription_s, now)
        try:
            ear = _Ear(self._reactor, interface, six, memberships, settings.query_s)
        except OSError as error:
            why = f"cannot hear who joins groups on {interface.name}: {error.strerror or error}; give CAP_NET_RAW (etc/systemd/ice-reflector.service says how)"
            if why != self.trouble:
                self._log.warn("{why}; until then every group counts as joined", why=why)
            self.trouble = why
            return None
        self.trouble = ""
        return ear


@implementer(IReadDescriptor)
class _Ear:
    """One interface and family."""

    def __init__(
        self, reactor: Any, interface: Interface, six: bool, memberships: Memberships, query_s: float
    ) -> None:
        self.interface = interface.name
        self.memberships = memberships
        self._reactor = reactor
        self._six = six
        self._query_s = query_s
        self._index = interface.index
        self._heard = _packets(ETH_P_IPV6 if six else ETH_P_IP, interface.index, interface.name)
        try:
            self._voice = _asking(six, interface.index)
        except BaseException:
            self._heard.close()
            raise
        reactor.addReader(self)

    def ask(self, group: str, response_s: float) -> None:
        """A query; what cannot be sent is asked again in time."""
        to = group or (ALL_NODES if self._six else ALL_HOSTS)
        make: Callable[[str, float, float], bytes] = mld_query if self._six else igmp_query
        address = (to, 0, 0, self._index) if self._six else (to, 0)
        try:
            self._voice.sendto(make(group, response_s, self._query_s), address)
        except OSError:
            return

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._heard.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "snooping"

    def doRead(self) -> None:
        """See IReadDescriptor."""
        now = self._reactor.seconds()
        for _ in range(BATCH):
            try:
                packet = self._heard.recv(MAX_PACKET)
            except OSError:
                return
            host, words = packet_of(packet)
            for word in words:
                for group in self.memberships.heard(host, word, now):
                    self.ask(group, LAST_S)

    def connectionLost(self, reason: object) -> None:
        """See IFileDescriptor."""

    def close(self) -> None:
        """Hear and ask no more."""
        self._reactor.removeReader(self)
        self._heard.close()
        self._voice.close()


def packet_of(packet: bytes) -> tuple[str, list[Any]]:
    """Who sent an IP packet, and what it says of groups; nothing, where it is malformed."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        head, whole = 4 * (packet[0] & 0x0F), int.from_bytes(packet[2:4], "big")
        if head >= 20 and packet[9] == 2 and whole <= len(packet):
            return socket.inet_ntop(socket.AF_INET, packet[12:16]), list(read_igmp(packet[head:whole]))
    elif len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == 0 and packet[40] == 58:
        begin, whole = 48 + 8 * packet[41], 40 + int.from_bytes(packet[4:6], "big")
        if whole <= len(packet):
            return socket.inet_ntop(socket.AF_INET6, packet[8:24]), list(read_mld(packet[begin:whole]))
    return "", []


def _packets(protocol: int, index: int, name: str) -> socket.socket:
    """A packet socket on one interface that gets what its filter lets through, and makes the interface listen to all groups."""
    # Of protocol 0 nothing comes before the filter is there.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        lines = b"".join(struct.pack("=HBBI", *line) for line in _FILTERS[protocol])
        buffer = ctypes.create_string_buffer(lines)
        program = struct.pack("@HP", len(_FILTERS[protocol]), ctypes.addressof(buffer))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        sock.setsockopt(
            SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("=iHH8s", index, PACKET_MR_ALLMULTI, 0, b"")
        )
        sock.bind((name, protocol))
    except BaseException:
        sock.close()
        raise
    return sock


def _asking(six: bool, index: int) -> socket.socket:
    """A raw socket for queries."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    if six:
        sock = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
    else:
        sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_IGMP)
    try:
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HOPOPTS, ALERT6)
        else:
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index)
            )
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, ALERT4)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)  # RFC 3376 section 4: precedence 6
    except BaseException:
        sock.close()
        raise
    return sock
