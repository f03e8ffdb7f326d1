"""Datagrams into a file that Wireshark opens: the classic form of pcap, bounded in size.

A capture is of payloads that this program itself has heard and said, so there are no packets of a network to be copied: each payload gets an IP and a UDP header made from the
addresses that are known (link type 101, "raw IP"; IPv4 and IPv6 may stand in one file). Checksums are right. What the headers do not tell, since a program does not know it, is
how far a packet had come (the hop limit says 64), and how it was marked.

**Bounded.** A file never grows beyond ``max_bytes``. What happens then is the owner's choice: :attr:`Keep.FIRST` ends the capture, which is right for the beginning of
something; :attr:`Keep.LAST` goes on in turns between two files of half the size, ``NAME`` and ``NAME.old``, so that the latest half at least is always there, which is right for
waiting until something happens.

A capture that stands there from before is not lost where the last are kept: it becomes the older half, if it is no longer than that may be. So a program that was started again after a crash
has not thrown away what came before it.

**Private.** It holds what people say: the file is made anew with mode 0600, never through a symbolic link, and never over a file that is no capture. What cannot be written ends the capture, with
the reason in :attr:`Capture.why`; nothing is raised where datagrams pass.

Sources: draft-ietf-opsawg-pcap (the file), the link-layer types of tcpdump.org, RFC 791, RFC 8200, RFC 768, RFC 1071 (checksums).
"""

import contextlib
import enum
import os
import socket
import stat
import struct
from pathlib import Path
from typing import BinaryIO, Final

from ice.errors import LocalError
from ice.net.addresses import Address

MAGIC_NS: Final = 0xA1B23C4D  # timestamps in nanoseconds
_MICROSECONDS: Final = 0xA1B2C3D4
MAGICS: Final = {struct.pack(order, each) for each in (MAGIC_NS, _MICROSECONDS) for order in (">I", "<I")}
LINKTYPE_RAW: Final = 101
SNAP: Final = 65_575  # the largest packet: an IPv6 header, a UDP header, 65,527 bytes
FILE_HEADER: Final = struct.pack("<IHHiIII", MAGIC_NS, 2, 4, 0, 0, SNAP, LINKTYPE_RAW)
RECORD: Final = struct.Struct("<IIII")  # seconds, nanoseconds, bytes kept, bytes there were
MAX_PAYLOAD: Final = 65_507  # of a UDP datagram over IPv4; a longer one over IPv6 is cut to it
MIN_BYTES: Final = 200_000  # less could not hold two of the largest packets in each half
HOPS: Final = 64
_BUFFER: Final = 1 << 16
_UDP: Final = 17


class CaptureError(LocalError):
    """A capture cannot be written there; the message says why."""


class Keep(enum.StrEnum):
    """What is kept when there is no more room."""

    FIRST = "first"  #: the capture ends
    LAST = "last"  #: the oldest half goes


class Capture:
    """A capture being written. Times are seconds since 1970; addresses are IP addresses, both of one family."""

    def __init__(self, path: Path, *, max_bytes: int, keep: Keep = Keep.FIRST) -> None:
        """Begin ``path`` anew.

        Raises :class:`CaptureError` where that cannot be, or ``max_bytes`` is below :data:`MIN_BYTES`.
        """
        if max_bytes < MIN_BYTES:
            raise CaptureError(f"a capture of {max_bytes} bytes holds nothing: expected at least {MIN_BYTES}")
        self.path = path
        self.keep = keep
        #: Packets written, and not written since there was no more room.
        self.packets = self.left_out = 0
        #: Times that the oldest half went.
        self.turns = 0
        #: Why it has ended, in a sentence; "" while it has not.
        self.why = ""
        self._limit = max_bytes // 2 if keep is Keep.LAST else max_bytes
        self._size = 0
        lengths = [_check(each) for each in (path, self._old)]
        if keep is Keep.LAST:
            self._make_old(lengths)
        self._file: BinaryIO | None = self._open()

    @property
    def size(self) -> int:
        """Bytes written into the present file, those that are still on their way to it included."""
        return self._size

    def add(self, unix_s: float, sender: Address, receiver: Address, payload: bytes) -> bool:
        """Write one datagram; whether it is in the file. Never raises."""
        if self._file is None:
            self.left_out += 1
            return False
        try:
            data = record(unix_s, sender, receiver, payload)
        except (OSError, ValueError):
            self.left_out += 1  # no addresses that a packet could have
            return False
        try:
            if self._size + len(data) > self._limit and not self._full():
                self.left_out += 1
                return False
            assert self._file is not None
            self._file.write(data)
        except OSError as error:
            self._end(f"cannot write {self.path}: {error.strerror or error}")
            self.left_out += 1
            return False
        self._size += len(data)
        self.packets += 1
        return True

    def flush(self) -> None:
        """Have everything in the file, for who looks at it meanwhile."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._end(f"cannot write {self.path}: {error.strerror or error}")

    def close(self) -> None:
        """Be done; closing twice is harmless."""
        self._end(self.why or "closed")

    # -- inside

    @property
    def _old(self) -> Path:
        return old_half(self.path)

    def _make_old(self, lengths: list[int]) -> None:
        """What an earlier capture has left becomes the older half; what is too long for it goes."""
        try:
            if len(FILE_HEADER) < lengths[0] <= self._limit:
                os.replace(self.path, self._old)
            elif lengths[0] > self._limit or lengths[1] > self._limit:
                self._old.unlink(missing_ok=True)
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _open(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            file = os.fdopen(os.open(self.path, flags, 0o600), "wb", _BUFFER)
            file.write(FILE_HEADER)
            file.flush()
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        self._size = len(FILE_HEADER)
        return file

    def _full(self) -> bool:
        """Make room, or end; whether there is room."""
        if self.keep is Keep.FIRST:
            self._end(f"it has its {self._limit:,} bytes: what came later is not in it")
            return False
        assert self._file is not None
        self._file.close()
        os.replace(self.path, self._old)
        try:
            self._file = self._open()
        except CaptureError as error:
            self._file = None
            self.why = str(error)
            return False
        self.turns += 1
        return True

    def _end(self, why: str) -> None:
        file, self._file = self._file, None
        if file is not None:
            self.why = why
            with contextlib.suppress(OSError):
                file.close()


def old_half(path: Path) -> Path:
    """Where the older half of a capture of the last is."""
    return path.with_name(path.name + ".old")


def record(unix_s: float, sender: Address, receiver: Address, payload: bytes) -> bytes:
    """One datagram as a record of the file: its header, and the packet.

    Raises OSError or ValueError for what is no IP address, two families, or a port that is none.
    """
    packet = packet_of(sender, receiver, payload)
    seconds = int(unix_s)
    rest = int((unix_s - seconds) * 1e9)  # a float holds a quarter of a microsecond of 1970's seconds
    return RECORD.pack(seconds & 0xFFFF_FFFF, max(0, rest), len(packet), len(packet)) + packet


def packet_of(sender: Address, receiver: Address, payload: bytes) -> bytes:
    """The IP packet that would carry ``payload``; what is beyond :data:`MAX_PAYLOAD` is cut off.

    Raises OSError or ValueError, as :func:`record` does.
    """
    payload = payload[:MAX_PAYLOAD]
    length = 8 + len(payload)
    hosts = [each.host.partition("%")[0] for each in (sender, receiver)]
    if not (0 <= sender.port <= 65_535 and 0 <= receiver.port <= 65_535):
        raise ValueError(f"no ports: {sender}, {receiver}")
    ports = struct.pack(">HHH", sender.port, receiver.port, length)
    family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
    source, target = (socket.inet_pton(family, host) for host in hosts)
    # RFC 768, RFC 8200 section 8.1: over addresses, protocol, length, and the datagram itself
    total = checksum(source + target + struct.pack(">II", length, _UDP) + ports + b"\0\0" + payload)
    datagram = ports + (total or 0xFFFF).to_bytes(2, "big") + payload
    if family == socket.AF_INET6:
        return struct.pack(">IHBB", 0x6000_0000, length, _UDP, HOPS) + source + target + datagram
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, HOPS, _UDP, 0) + source + target
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + datagram


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), 16 bits."""
    if len(data) % 2:
        data += b"\0"
    # A number of 16-bit digits is, modulo 2¹⁶ − 1, the sum of its digits: one division in C instead of a loop in Python.
    total = int.from_bytes(data, "big") % 0xFFFF
    if not total and any(data):
        total = 0xFFFF
    return ~total & 0xFFFF


def _check(path: Path) -> int:
    """The length of the capture that stands there, 0 where none does.  Raises :class:`CaptureError` where something else does, which must not be lost."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise CaptureError(f"{path}: cannot be written: {error.strerror or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise CaptureError(f"{path} is no plain file: name another, or remove it")
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror or error}") from None
    if begin and begin not in MAGICS:
        raise CaptureError(f"{path} is a file, and no capture: name another, or remove it")
    return found.st_size


__all__ = ["Capture", "CaptureError", "Keep", "checksum", "old_half", "packet_of", "record"]
