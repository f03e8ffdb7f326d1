"""What was really on the wire, and how far the plan was off.

Two ways to know, both of exactly the packets in question:

* **captured** (:class:`Capture`): the kernel gives a copy of each frame that passes an interface (``AF_PACKET``, which needs root or CAP_NET_RAW). Lengths are
  those of whole Ethernet frames without check sequence, as any capture shows them. Frames that the kernel could not give us are counted.
* **counted** (:class:`TcpCounts`): for each TCP connection the kernel counts bytes and segments (``TCP_INFO``: bytes sent and received, all segments out and in), for
  anybody to read on his own sockets. With the headers that each segment has, that is what was on the wire, retransmissions included; only what a card cuts for the kernel
  (segmentation offload) is not seen, and packets of voice are never that large.

Counters of an interface (``/proc/net/dev``) are not used: whatever else the machine does is in them.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

import attrs

from ice.errors import LocalError
from ice.planning.bandwidth import ETHERNET, IPV4, IPV6, Rate

TIMESTAMPS: Final = 0x01  # TCPI_OPT_TIMESTAMPS
TCP_BARE: Final = 20
TCP_TIMESTAMPS: Final = 12
_OPTIONS_AT: Final = 5
_BYTES_RECEIVED_AT: Final = (
    128  # struct tcp_info, linux/tcp.h; the order never changes, new fields are added behind
)
_SEGMENTS_AT: Final = 136
_BYTES_SENT_AT: Final = 200
_INFO_SIZE: Final = 256

_ETH_P_ALL: Final = 0x0003
_OUTGOING: Final = 4  # PACKET_OUTGOING
_HOST_TYPES: Final = (0, 2)  # PACKET_HOST, PACKET_MULTICAST
_LOOPBACK: Final = 772  # ARPHRD_LOOPBACK
_LINK_HEADER: Final = {1: 14, _LOOPBACK: 14}  # bytes before IP by kind of interface; a tunnel has none
_SNAP: Final = 128
_READS: Final = 2_000  # of one turn: a busy interface must not hold us
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_BUFFER: Final = 4 * 1024 * 1024
_ETHERTYPE_4: Final = 0x0800
_ETHERTYPE_6: Final = 0x86DD
_TCP: Final = 6
_UDP: Final = 17


@attrs.frozen
class Seen:
    """So many packets and bytes (whole Ethernet frames), out of here and into here."""

    packets_out: int = 0
    octets_out: int = 0
    packets_in: int = 0
    octets_in: int = 0

    def __sub__(self, earlier: Seen) -> Seen:
        return Seen(*(a - b for a, b in zip(attrs.astuple(self), attrs.astuple(earlier), strict=True)))

    def out(self, seconds: float) -> Rate:
        """What went out, over that time."""
        return Rate(self.packets_out / seconds, self.octets_out / seconds)

    def back(self, seconds: float) -> Rate:
        """What came in, over that time."""
        return Rate(self.packets_in / seconds, self.octets_in / seconds)


@attrs.frozen
class TcpCounts:
    """What the kernel counts of one connection. Bytes are of TCP's payload; segments are all, pure acknowledgements included."""

    bytes_out: int
    segments_out: int
    bytes_in: int
    segments_in: int
    timestamps: bool
    ipv6: bool

    @classmethod
    def of(cls, link: socket.socket) -> TcpCounts:
        """The counts of a connected TCP socket; raises :class:`~ice.errors.LocalError` where this kernel does not tell."""
        try:
            info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        except (OSError, AttributeError) as error:
            raise LocalError(
                f"this system does not count bytes of a TCP connection (TCP_INFO): {error}"
            ) from None
        return cls.decode(info, ipv6=link.family == socket.AF_INET6 and not _is_mapped(link))

    @classmethod
    def decode(cls, info: bytes, *, ipv6: bool = False) -> TcpCounts:
        """The counts in a ``struct tcp_info``; raises :class:`~ice.errors.LocalError` where it is an older, shorter one."""
        if len(info) < _BYTES_SENT_AT + 8:
            raise LocalError(
                f"this kernel's TCP_INFO has {len(info)} bytes, without the count of bytes sent: Linux 4.19 or newer has it"
            )
        (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
        out, back = struct.unpack_from("=II", info, _SEGMENTS_AT)
        (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT_AT)
        return cls(sent, out, received, back, bool(info[_OPTIONS_AT] & TIMESTAMPS), ipv6)

    @property
    def seen(self) -> Seen:
        """The same on the wire: each segment with its headers."""
        tcp = TCP_BARE + (TCP_TIMESTAMPS if self.timestamps else 0)
        head = ETHERNET + (IPV6 if self.ipv6 else IPV4) + tcp
        return Seen(
            self.segments_out,
            self.bytes_out + self.segments_out * head,
            self.segments_in,
            self.bytes_in + self.segments_in * head,
        )


def connections(ports: frozenset[int]) -> list[socket.socket]:
    """Copies of this process's own TCP sockets that are connected to one of the far ``ports``; close them."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # no socket, or closed meanwhile
        try:
            fits = (
                copy.family in (socket.AF_INET, socket.AF_INET6)
                and copy.type == socket.SOCK_STREAM
                and copy.getpeername()[1] in ports
            )
        except OSError:
            fits = False
        if fits:
            found.append(copy)
        else:
            copy.close()
    return found


class Capture:
    """Counts the frames of one flow as they pass; see the module docstring. :meth:`read` often, :meth:`close` in the end.

    ``port`` is ours for TCP, the group's for UDP (``address``: and its address, packed). Raises :class:`~ice.errors.LocalError` without the right to capture.
    """

    def __init__(self, port: int, *, udp_to: bytes | None = None) -> None:
        self._port = port
        self._udp_to = udp_to
        self._buffer = bytearray(_SNAP)
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL)
            )
        except (OSError, AttributeError) as error:
            raise LocalError(f"capturing needs root, or CAP_NET_RAW: {error}") from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._seen = Seen()
        #: Frames of any kind that the kernel had to leave out.
        self.dropped = 0

    def read(self) -> Seen:
        """All that has passed so far."""
        packets_out, octets_out, packets_in, octets_in = attrs.astuple(self._seen)
        for _ in range(_READS):
            try:
                length, _, _, place = self._socket.recvmsg_into([self._buffer], 0, socket.MSG_TRUNC)
            except (BlockingIOError, InterruptedError):
                break
            # A frame on the loopback passes twice, going out and coming in; it is looked at once.
            kind, hardware = place[2], place[3]
            if kind != _OUTGOING and (kind not in _HOST_TYPES or hardware == _LOOPBACK):
                continue
            link = _LINK_HEADER.get(hardware, 0)
            way = direction(self._buffer, link, self._port, self._udp_to)
            if way == 0:
                continue
            octets = length - link + ETHERNET
            if way > 0:
                packets_out, octets_out = packets_out + 1, octets_out + octets
            else:
                packets_in, octets_in = packets_in + 1, octets_in + octets
        self._seen = Seen(packets_out, octets_out, packets_in, octets_in)
        return self._seen

    def close(self) -> None:
        """Be done; :attr:`dropped` is final."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.dropped = struct.unpack("=II", statistics)[1]
        self._socket.close()


def direction(frame: bytes | bytearray, link: int, port: int, udp_to: bytes | None = None) -> int:
    """Whether a frame (its first 128 bytes; IP begins at ``link``) belongs to a flow: 1 out of ``port``, −1 into it, 0 neither.

    With ``udp_to`` (a packed address) the flow is UDP to that address and port, and always 1; fragments of it count, by the address alone, where they have no port.
    """
    if link >= 14:
        (kind,) = struct.unpack_from(">H", frame, link - 2)
        version = {_ETHERTYPE_4: 4, _ETHERTYPE_6: 6}.get(kind, 0)
    else:
        version = frame[0] >> 4
    if version == 4:
        head = (frame[link] & 0x0F) * 4
        protocol, target = frame[link + 9], bytes(frame[link + 16 : link + 20])
        behind = struct.unpack_from(">H", frame, link + 6)[0] & 0x1FFF
    elif version == 6:
        head, behind = 40, 0
        protocol, target = frame[link + 6], bytes(frame[link + 24 : link + 40])
        if protocol == 44:  # a fragment
            protocol, head = frame[link + 40], 48
            behind = struct.unpack_from(">H", frame, link + 42)[0] >> 3
    else:
        return 0
    if udp_to is not None:
        if protocol != _UDP or target != udp_to:
            return 0
        return 1 if behind or struct.unpack_from(">H", frame, link + head + 2)[0] == port else 0
    if protocol != _TCP or behind:
        return 0
    source, destination = struct.unpack_from(">HH", frame, link + head)
    return 1 if source == port else -1 if destination == port else 0


@attrs.frozen
class Compared:
    """One row: what was planned, and what was."""

    what: str
    planned: Rate
    measured: Rate

    @property
    def difference(self) -> float:
        """How much more was measured, as a share of the plan; 0 where nothing was planned."""
        planned = self.planned.octets_per_s
        return self.measured.octets_per_s / planned - 1 if planned else 0.0


def _is_mapped(link: socket.socket) -> bool:
    return str(link.getpeername()[0]).startswith("::ffff:")
