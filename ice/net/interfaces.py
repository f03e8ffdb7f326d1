"""The network interfaces of this machine: which there are, what they can, and when that changes.

The kernel is asked by netlink (rtnetlink(7)), which answers for the network namespace that this process is in, wherever ``/sys`` is mounted from, and
knows everything in one place: flags, IPv4 and IPv6 addresses, and by which interface a destination is reached.

**Being told of changes.**  :class:`InterfaceWatch` keeps a netlink socket open that rings when a link or an address changes, and then *looks again*: the
message that rang is thrown away, since one that was lost (the socket's buffer is bounded) must do no harm.  It looks every :data:`LOOK_S` without
having been rung as well.  Asking every second instead would find an interface that returns up to a second later, and cost the same on a day when
nothing happens as on one when everything does; not looking without a ring would trust that no message is ever lost.
"""

import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from ice.errors import LocalError
from ice.net.clock import DelayedCall

LOOK_S: Final = 5.0  # a message that was lost costs this much; a look takes some 0.3 ms
SETTLE_S: Final = 0.02  # an interface that comes rings five times: look once, when it is done
ANSWER_S: Final = 1.0  # the kernel answers within microseconds, or not at all
RINGS_PER_TURN: Final = 64  # messages thrown away before others have their turn
MAX_ANSWER: Final = 1 << 16  # the kernel fills 32 KiB at a time

# <linux/if.h>
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_RUNNING: Final = 0x40
IFF_MULTICAST: Final = 0x1000
# <linux/if_addr.h>: addresses that cannot be sent from (RFC 4862 section 5.4)
_UNUSABLE: Final = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED

# <linux/rtnetlink.h>, <linux/netlink.h>
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _GET_ADDRESS, _NEW_ROUTE, _GET_ROUTE = 16, 18, 20, 22, 24, 26
_REQUEST, _DUMP = 0x1, 0x300
_IFLA_IFNAME, _IFLA_EXT_MASK, _SKIP_STATISTICS = 3, 29, 8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF = 1, 4
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


class InterfaceTrouble(LocalError):
    """The kernel does not tell of its interfaces; the message says what to do."""


@attrs.frozen
class Interface:
    """One interface: its number and name, ``IFF_`` flags (netdevice(7)), and its usable addresses, as text without zone."""

    index: int
    name: str
    flags: int
    addresses: tuple[str, ...] = ()
    broadcasts: tuple[str, ...] = ()

    @property
    def up(self) -> bool:
        """Switched on, with a carrier: a cable, a radio, or nothing that could be missing."""
        return self.flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING

    @property
    def loopback(self) -> bool:
        """Leads to this machine only."""
        return bool(self.flags & IFF_LOOPBACK)

    @property
    def multicast(self) -> bool:
        """Can multicast; loopback can, among the programs of this machine, whatever its flags say."""
        return bool(self.flags & (IFF_MULTICAST | IFF_LOOPBACK))

    def addresses_of(self, ipv6: bool) -> tuple[str, ...]:
        """Its addresses of one family."""
        return tuple(address for address in self.addresses if (":" in address) is ipv6)


def interfaces() -> dict[str, Interface]:
    """Every interface of this network namespace, by name.

    Raises :class:`InterfaceTrouble` where netlink is not allowed.
    """
    with _netlink() as sock:
        links = list(_ask(sock, _GET_LINK, _link_request(), dump=True))
        addresses = list(_ask(sock, _GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0), dump=True))
    own: dict[int, list[str]] = {}
    broadcasts: dict[int, list[str]] = {}
    for kind, body in addresses:
        if kind != _NEW_ADDRESS or len(body) < _ADDRESS.size:
            continue
        _, _, flags, _, index = _ADDRESS.unpack_from(body)
        told = dict(_attributes(body[_ADDRESS.size :]))
        if len(told.get(_IFA_FLAGS, b"")) == 4:
            flags = int.from_bytes(told[_IFA_FLAGS], _ORDER)
        if flags & _UNUSABLE:
            continue
        if (text := _text(told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS, b""))) is not None:
            own.setdefault(index, []).append(text)
        if (text := _text(told.get(_IFA_BROADCAST, b""))) is not None:
            broadcasts.setdefault(index, []).append(text)
    found = {}
    for kind, body in links:
        if kind != _NEW_LINK or len(body) < _LINK.size:
            continue
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = (
            dict(_attributes(body[_LINK.size :]))
            .get(_IFLA_IFNAME, b"")
            .rstrip(b"\0")
            .decode(errors="replace")
        )
        found[name] = Interface(
            index, name, flags, tuple(own.get(index, ())), tuple(broadcasts.get(index, ()))
        )
    return found


def route_to(address: str) -> int | None:
    """The index of the interface by which the kernel would send to ``address``; None where there is no route.

    Raises :class:`InterfaceTrouble` where netlink is not allowed.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    request = _ROUTE.pack(family, ip.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, ip.packed)
    with _netlink() as sock:
        try:
            answers = list(_ask(sock, _GET_ROUTE, request, dump=False))
        except OSError as error:
            if error.errno in (
                errno.ENETUNREACH,
                errno.EHOSTUNREACH,
                errno.ENETDOWN,
                errno.EACCES,
                errno.EINVAL,
            ):
                return None
            raise InterfaceTrouble(
                f"the kernel does not tell its route to {address}: {error.strerror}"
            ) from None
    for kind, body in answers:
        if kind == _NEW_ROUTE and len(body) >= _ROUTE.size:
            told = dict(_attributes(body[_ROUTE.size :])).get(_RTA_OIF, b"")
            if len(told) == 4:
                return int.from_bytes(told, _ORDER)
    return None


class InterfaceWatch:
    """The machine's interfaces as they are now; whoever is added hears when they change.

    Open while anybody is added: then there is one netlink socket in the reactor and one delayed call.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        look: Callable[[], Mapping[str, Interface]] = interfaces,
        look_s: float = LOOK_S,
    ) -> None:
        self._reactor = reactor
        self._look_at = look
        self._look_s = look_s
        self._told: list[Callable[[], None]] = []
        self._bell: _Bell | None = None
        self._next: DelayedCall | None = None
        #: By name; as they were at the last look.
        self.present: Mapping[str, Interface] = {}
        #: Why they cannot be known, or "".
        self.trouble = ""

    def add(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after every look that found something else than the one before."""
        self._told.append(changed)
        if len(self._told) == 1:
            self._bell = _Bell.open(self._reactor, self._rung)
            self._look()

    def remove(self, changed: Callable[[], None]) -> None:
        """Call it no more; with the last one, everything ends."""
        if changed in self._told:
            self._told.remove(changed)
        if not self._told:
            if self._bell is not None:
                self._bell.close()
                self._bell = None
            if self._next is not None and self._next.active():
                self._next.cancel()
            self._next = None

    def by_index(self, index: int) -> Interface | None:
        """The interface with this number."""
        return next((each for each in self.present.values() if each.index == index), None)

    def local(self, address: str) -> bool:
        """Whether this is an address of this machine."""
        return any(address in each.addresses for each in self.present.values())

    def broadcast(self, address: str) -> bool:
        """Whether this address means everybody on one of the networks of this machine."""
        return any(address in each.broadcasts for each in self.present.values())

    def _rung(self) -> None:
        self._again(SETTLE_S)

    def _again(self, delay_s: float) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = self._reactor.callLater(delay_s, self._look)

    def _look(self) -> None:
        if not self._told:
            return
        before = (self.present, self.trouble)
        try:
            self.present, self.trouble = self._look_at(), ""
        except InterfaceTrouble as trouble:
            self.present, self.trouble = {}, str(trouble)
        self._again(self._look_s)
        if (self.present, self.trouble) == before:
            return
        for changed in list(self._told):
            try:
                changed()
            except Exception:
                self._log.failure("telling of changed interfaces failed")


@implementer(IReadDescriptor)
class _Bell:
    """A netlink socket that becomes readable when a link or an address changes."""

    def __init__(self, reactor: Any, sock: socket.socket, ring: Callable[[], None]) -> None:
        self._reactor, self._sock, self._ring = reactor, sock, ring
        reactor.addReader(self)

    @classmethod
    def open(cls, reactor: Any, ring: Callable[[], None]) -> "_Bell | None":
        """None where the reactor reads no sockets (a clock in a test), or netlink is not allowed: then looking has to do."""
        if not hasattr(reactor, "addReader"):
            return None
        try:
            sock = _netlink(_GROUPS)
        except InterfaceTrouble:
            return None
        sock.setblocking(False)
        return cls(reactor, sock, ring)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "interfaces"

    def doRead(self) -> None:
        """Something changed; what exactly, the look will tell."""
        for _ in range(RINGS_PER_TURN):
            try:
                self._sock.recv(1)  # the rest of the message is thrown away with it
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more rang than there was room for: look, of course
                    break
        self._ring()

    def connectionLost(self, reason: object) -> None:
        """See IFileDescriptor."""
        self.close()

    def close(self) -> None:
        """Ring no more."""
        if self._sock.fileno() >= 0:
            self._reactor.removeReader(self)
            self._sock.close()


_ORDER: Final = sys.byteorder


def _netlink(groups: int = 0) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except (OSError, AttributeError) as error:
        raise InterfaceTrouble(
            f"the kernel cannot be asked for its interfaces ({error}): let this program use netlink "
            "(systemd: RestrictAddressFamilies= with AF_NETLINK)"
        ) from None
    try:
        sock.bind((0, groups))
        sock.settimeout(ANSWER_S)
    except OSError as error:
        sock.close()
        raise InterfaceTrouble(f"the kernel cannot be asked for its interfaces: {error.strerror}") from None
    return sock


def _ask(sock: socket.socket, kind: int, body: bytes, *, dump: bool) -> Iterator[tuple[int, bytes]]:
    """The messages of the answer, as type and body.  Raises OSError with what the kernel says, :class:`InterfaceTrouble` without an answer."""
    number = int.from_bytes(os.urandom(3), "big")
    sock.send(
        _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | (_DUMP if dump else 0), number, 0) + body
    )
    while True:
        try:
            data = sock.recv(MAX_ANSWER)
        except TimeoutError:
            raise InterfaceTrouble("the kernel does not answer when asked for its interfaces") from None
        at = 0
        while at + _HEADER.size <= len(data):
            length, got, _, of, _ = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                return
            inside = data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3
            if of != number:
                continue
            if got == _DONE:
                return
            if got == _ERROR:
                code = -struct.unpack_from("=i", inside)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            yield got, inside
        if not dump:
            return


def _link_request() -> bytes:
    return _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS.to_bytes(4, _ORDER))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _text(packed: bytes) -> str | None:
    return str(ipaddress.ip_address(packed)) if len(packed) in (4, 16) else None
