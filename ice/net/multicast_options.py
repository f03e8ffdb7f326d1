"""Sockets for multicast, one option at a time: what Linux calls it, and what it is for.

Twisted's own multicast calls set the IPv4 option for IPv6 hops, join by address only, and know neither sources nor :data:`IP_MULTICAST_ALL`; Python's
``socket`` has no names for half of what is here.  So options are set by number, from ``<linux/in.h>`` and ``<linux/in6.h>``.

**Why two sockets.**  What is heard comes through a socket that is bound to the group's own address and port; what is said goes through one bound
to nothing.  Bound to the group address, a socket gets no datagram of another group, and none that is sent to the machine's own address on that port.
With ``IP_MULTICAST_ALL`` off it gets none either of a group with the same address that another program has joined on another interface.  The talking
socket has a port of its own, by which our own datagrams, which loop back on purpose, are told from those of our neighbour on the same machine.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from typing import Final

from ice.net.addresses import Address

# <linux/in.h>
MCAST_JOIN_SOURCE_GROUP: Final = 46
MCAST_LEAVE_SOURCE_GROUP: Final = 47
IP_MULTICAST_ALL: Final = 49
IP_UNICAST_IF: Final = 50
# <linux/in6.h>
IPV6_MULTICAST_ALL: Final = 29
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
# <asm-generic/socket.h>
SO_RCVBUFFORCE: Final = 33
SO_RXQ_OVFL: Final = 40

#: What the kernel may hold for us: 180 ms of 60,000 datagrams a second, while somebody else has the processor, each counted with its overhead (some 770 bytes; Linux doubles what
#: is asked for).  A kernel that allows less (net.core.rmem_max) gives less, unless we have CAP_NET_ADMIN.
RECEIVE_BUFFER: Final = 4 << 20
#: A limited broadcast: to everybody on the link (RFC 919).
BROADCAST: Final = "255.255.255.255"

_MREQN = struct.Struct("=4s4si")  # ip_mreqn: group, address, index
_MREQ6 = struct.Struct("=16sI")  # ipv6_mreq: group, index
_PKTINFO6 = struct.Struct("=16sI")  # in6_pktinfo: destination, index
#: group_source_req: the index, then two sockaddr_storage, which are aligned like a long.
_SOURCE_HEAD = struct.Struct("@I0L")
_STORAGE = 128

#: Differentiated services code point by priority class: best effort; signalling; video; voice (RFC 4594 section 3: DF, CS5, AF41, EF).
CODE_POINTS: Final = (0, 40, 34, 46)
VOICE: Final = 3


def code_point(priority: int) -> int:
    """The DSCP (0–63) of a priority class, 0 to 3; what is above 3 counts as voice, as missions have it, and below 0 as best effort."""
    return CODE_POINTS[min(max(priority, 0), VOICE)]


def is_multicast(host: str) -> bool:
    """Whether an IP address, as text, is that of a group."""
    return ipaddress.ip_address(host.partition("%")[0]).is_multicast


def family_of(host: str) -> socket.AddressFamily:
    """The family of an IP address as text."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def destination(address: Address, index: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as a socket wants it; ``index``: the interface, which IPv6 wants to know where an address is meant on one link only."""
    host = address.host.partition("%")[0]
    if ":" not in host:
        return host, address.port
    ip = ipaddress.IPv6Address(host)
    scoped = ip.is_link_local or (
        ip.is_multicast and ip.packed[1] & 0x0F in (1, 2)
    )  # RFC 4007, RFC 4291 section 2.7
    return host, address.port, 0, index if scoped else 0


def listening(address: Address, index: int, *, shared: bool) -> socket.socket:
    """A bound socket that hears what is sent to ``address``, whether a group or our own; nothing is joined yet.

    ``shared``: others may have the same address and port (groups, broadcasts).  Raises OSError.
    """
    family = family_of(address.host)
    sock = _datagrams(family)
    try:
        if shared:
            # Never SO_REUSEPORT: where only one of several such sockets wants a datagram (by its interface, or its sources), Linux (seen on 6.18)
            # hands it to any of them.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # beyond net.core.rmem_max only with CAP_NET_ADMIN
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            with contextlib.suppress(
                OSError
            ):  # Linux before 4.20 has none: there the address and the interface have to do
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        else:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        sock.bind(destination(address, index))
    except BaseException:
        sock.close()
        raise
    return sock


def talking(address: Address, index: int) -> socket.socket:
    """A socket to send to ``address`` from, by the interface ``index`` (0: as the kernel routes).  Raises OSError."""
    family = family_of(address.host)
    sock = _datagrams(family)
    try:
        # A port of our own from the beginning: our own datagrams are known by it.
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _MREQN.pack(bytes(4), bytes(4), index))
            if address.host == BROADCAST and index:
                sock.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, struct.pack("!I", index))
    except BaseException:
        sock.close()
        raise
    return sock


def mark(sock: socket.socket, address: Address, *, ttl: int, priority: int, loopback: bool) -> None:
    """How far what is sent to ``address`` goes, how urgent it is, and whether this machine hears it.

    To a single machine ``ttl`` counts only from 2 on: 1, which keeps a group on its network, would keep a machine unreachable.  Raises OSError.
    """
    tos = code_point(priority) << 2
    multicast = is_multicast(address.host)
    if sock.family == socket.AF_INET6:
        level = socket.IPPROTO_IPV6
        sock.setsockopt(level, socket.IPV6_TCLASS, tos)
        sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, loopback)
        hops = socket.IPV6_MULTICAST_HOPS if multicast else socket.IPV6_UNICAST_HOPS
    else:
        level = socket.IPPROTO_IP
        sock.setsockopt(level, socket.IP_TOS, tos)
        sock.setsockopt(level, socket.IP_MULTICAST_LOOP, loopback)
        hops = socket.IP_MULTICAST_TTL if multicast else socket.IP_TTL
    if multicast or ttl > 1:
        sock.setsockopt(level, hops, ttl)


def join(sock: socket.socket, group: str, index: int, sources: tuple[str, ...] = ()) -> None:
    """Join ``group`` on the interface ``index``, from anybody or from ``sources`` alone.  Raises OSError."""
    _membership(sock, group, index, sources, join=True)


def leave(sock: socket.socket, group: str, index: int, sources: tuple[str, ...] = ()) -> None:
    """Leave it again; what cannot be left is left already."""
    with contextlib.suppress(OSError):
        _membership(sock, group, index, sources, join=False)


def arrived_on(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The interface on which an IPv6 datagram came, or 0 where the kernel did not say."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO and len(data) >= _PKTINFO6.size:
            return int(_PKTINFO6.unpack_from(data)[1])
    return 0


def dropped_so_far(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """How many datagrams the kernel has dropped for want of room since the socket was opened (u32, wraps), where it says so."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL and len(data) >= 4:
            return int.from_bytes(data[:4], _ORDER)
    return None


#: Room for what :func:`arrived_on` and :func:`dropped_so_far` read.
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(4)


def reason(error: OSError) -> str:
    """An error of a socket as a key of a counter: its name in the kernel, lower case, or ``other``."""
    return errno.errorcode.get(error.errno or 0, "other").lower()


_SENTENCES: Final = {
    errno.EPERM: "a firewall on this machine refuses to send: sudo nft list ruleset",
    errno.EACCES: "the system does not let us send there: is the address a broadcast or prohibited by a route? ip route get {to}",
    errno.ENETUNREACH: "there is no route: sudo ip route add {net} dev {interface}",
    errno.EHOSTUNREACH: "the machine cannot be reached: ip route get {to}",
    errno.ENETDOWN: "the interface is down: sudo ip link set dev {interface} up",
    errno.ENODEV: "the interface is gone, or cannot multicast: ip link show dev {interface}",
    errno.EADDRNOTAVAIL: "no such address on this machine: ip -brief address",
    errno.EADDRINUSE: "another program has that address and port: ss -lunp",
    errno.EMFILE: "too many open files in this process: ulimit -n, or LimitNOFILE= of the unit",
    errno.ENOMEM: "no memory for one more group: sudo sysctl net.core.optmem_max=131072",
    errno.EMSGSIZE: "a datagram longer than this path carries",
    errno.EAGAIN: "the interface does not keep up with what is sent",
    errno.EAFNOSUPPORT: "this machine has no such protocol (is IPv6 switched off?)",
}
_JOINING: Final = {
    errno.ENOBUFS: "the kernel allows no more groups or sources: sudo sysctl net.ipv4.igmp_max_memberships=200 net.ipv4.igmp_max_msf=64 net.ipv6.mld_max_msf=64",
    errno.EINVAL: "not a group that can be joined",
}
_SENDING: Final = {
    errno.ENOBUFS: "the interface's queue is full: it does not keep up with what is sent",
    errno.EINVAL: "no such destination",
}


def explain(error: OSError, *, to: str, interface: str, joining: bool = False) -> str:
    """What an error of a socket means, and what to do."""
    sentences = _SENTENCES | (_JOINING if joining else _SENDING)
    text = sentences.get(error.errno or 0)
    if text is None:
        return error.strerror or str(error)
    net = "ff00::/8" if ":" in to else "239.0.0.0/8"
    return text.format(to=to, interface=interface or "NAME", net=net)


_ORDER: Final = sys.byteorder


def _datagrams(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    return sock


def _membership(sock: socket.socket, group: str, index: int, sources: tuple[str, ...], *, join: bool) -> None:
    group = group.partition("%")[0]
    six = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    if sources:
        option = MCAST_JOIN_SOURCE_GROUP if join else MCAST_LEAVE_SOURCE_GROUP
        trouble = None
        for source in sources:
            try:
                sock.setsockopt(level, option, _SOURCE_HEAD.pack(index) + _storage(group) + _storage(source))
            except OSError as error:
                trouble = error
        if trouble is not None:
            raise trouble
    elif six:
        option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
        sock.setsockopt(level, option, _MREQ6.pack(socket.inet_pton(socket.AF_INET6, group), index))
    else:
        option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
        sock.setsockopt(level, option, _MREQN.pack(socket.inet_aton(group), bytes(4), index))


def _storage(host: str) -> bytes:
    """A ``sockaddr_storage`` without port."""
    if ":" in host:
        head = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, host), 0)
    else:
        head = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(host))
    return head.ljust(_STORAGE, b"\0")
