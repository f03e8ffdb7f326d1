"""What the kernel counts and gives, read right; one real connection on the loopback counted both ways."""

import contextlib
import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ice.errors import LocalError
from ice.planning.bandwidth import Rate
from ice.planning.wire import Capture, Compared, Seen, TcpCounts, connections, direction


def info(*, sent: int, out: int, received: int, back: int, options: int = 1) -> bytes:
    """A ``struct tcp_info`` of Linux 6 with these counts."""
    data = bytearray(232)
    data[5] = options
    struct.pack_into("=Q", data, 128, received)
    struct.pack_into("=II", data, 136, out, back)
    struct.pack_into("=Q", data, 200, sent)
    return bytes(data)


def tcp4(source: int, destination: int, *, offset: int = 0, options: bytes = b"") -> bytes:
    """An Ethernet frame with an IPv4 TCP segment."""
    head = (
        bytes([0x40 | (5 + len(options) // 4), 0])
        + bytes(4)
        + struct.pack(">H", offset)
        + bytes([64, 6])
        + bytes(10)
    )
    return bytes(12) + b"\x08\x00" + head + options + struct.pack(">HH", source, destination) + bytes(60)


def udp(target: bytes, port: int, *, fragment: int | None = None) -> bytes:
    """An Ethernet frame with a UDP datagram, or a fragment of one, IPv4 or IPv6 by the address."""
    ports = struct.pack(">HH", 9, port)
    if len(target) == 4:
        head = (
            bytes([0x45, 0])
            + bytes(4)
            + struct.pack(">H", fragment or 0)
            + bytes([1, 17])
            + bytes(6)
            + target
        )
        return bytes(12) + b"\x08\x00" + head + ports + bytes(60)
    after = 17 if fragment is None else 44
    head = bytes([0x60]) + bytes(5) + bytes([after, 1]) + bytes(16) + target
    if fragment is not None:
        head += bytes([17, 0]) + struct.pack(">H", fragment << 3) + bytes(4)
    return bytes(12) + b"\x86\xdd" + head + ports + bytes(60)


class Counting(SynchronousTestCase):
    def test_headers(self) -> None:
        """Each segment has Ethernet, IP and TCP, with timestamps where the connection has them."""
        counts = TcpCounts.decode(info(sent=1_000, out=10, received=50, back=5))
        self.assertEqual(counts.seen, Seen(10, 1_000 + 10 * 66, 5, 50 + 5 * 66))
        bare = TcpCounts.decode(info(sent=1_000, out=10, received=50, back=5, options=0), ipv6=True)
        self.assertEqual(bare.seen, Seen(10, 1_000 + 10 * 74, 5, 50 + 5 * 74))

    def test_old_kernel(self) -> None:
        """A kernel that does not count bytes sent is named as what is missing, at whatever length."""
        whole = info(sent=1, out=1, received=1, back=1)
        for length in (0, 5, 104, 192, 207):
            self.assertRaises(LocalError, TcpCounts.decode, whole[:length])

    def test_real_connection(self) -> None:
        """Of a real connection the kernel counts what was sent; this process finds it by its far port."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = server.accept()
                with accepted:
                    found = connections(frozenset((port,)))
                    for each in found:
                        self.addCleanup(each.close)
                    self.assertEqual([each.getsockname() for each in found], [client.getsockname()])
                    before = TcpCounts.of(found[0])
                    client.sendall(bytes(300))
                    accepted.recv(300, socket.MSG_WAITALL)
                    after = TcpCounts.of(found[0])
        sent = after.seen - before.seen
        self.assertEqual((sent.packets_out, after.bytes_out - before.bytes_out), (1, 300))
        self.assertEqual(sent.octets_out, 300 + (66 if after.timestamps else 54))

    def test_no_tcp(self) -> None:
        """What is no TCP connection has no such counts."""
        with socket.socket(socket.AF_UNIX) as other:
            self.assertRaises(LocalError, TcpCounts.of, other)

    def test_rates(self) -> None:
        """Counts over a time are rates; a plan is compared by bytes."""
        seen = Seen(10, 2_000, 5, 500)
        self.assertEqual((seen.out(2), seen.back(2)), (Rate(5, 1_000), Rate(2.5, 250)))
        self.assertAlmostEqual(Compared("x", Rate(5, 800), seen.out(2)).difference, 0.25)
        self.assertEqual(Compared("x", Rate(), seen.out(2)).difference, 0)


class Capturing(SynchronousTestCase):
    def test_tcp(self) -> None:
        """A segment from our port goes out, one to it comes in; others, other protocols and later fragments are not ours."""
        self.assertEqual(direction(tcp4(7, 8), 14, 7), 1)
        self.assertEqual(direction(tcp4(7, 8), 14, 8), -1)
        self.assertEqual(direction(tcp4(7, 8), 14, 9), 0)
        self.assertEqual(direction(tcp4(7, 8, options=bytes(8)), 14, 7), 1)
        self.assertEqual(direction(tcp4(7, 8, offset=3), 14, 7), 0)
        self.assertEqual(direction(tcp4(7, 8)[14:], 0, 7), 1)
        self.assertEqual(direction(bytes(128), 14, 7), 0)

    def test_udp(self) -> None:
        """A datagram to the group and its port is the flow's, and so are the fragments of it that have no port."""
        four, six = socket.inet_aton("239.1.2.3"), socket.inet_pton(socket.AF_INET6, "ff15::1")
        for group in (four, six):
            self.assertEqual(direction(udp(group, 5_000), 14, 5_000, group), 1)
            self.assertEqual(direction(udp(group, 5_001), 14, 5_000, group), 0)
            self.assertEqual(direction(udp(group, 0, fragment=100), 14, 5_000, group), 1)
            self.assertEqual(direction(udp(group, 5_000, fragment=0), 14, 5_000, group), 1)
            self.assertEqual(direction(tcp4(1, 5_000), 14, 5_000, group), 0)
        self.assertEqual(direction(udp(four, 5_000), 14, 5_000, six), 0)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=128, max_size=128), st.sampled_from((0, 14)), st.none() | st.just(bytes(4)))
    def test_anything(self, frame: bytes, link: int, group: bytes | None) -> None:
        """Whatever passes an interface is looked at without an exception."""
        self.assertIn(direction(frame, link, 5_000, group), (-1, 0, 1))

    def test_both_agree(self) -> None:
        """Captured and counted, one connection gives the same bytes, frame by frame."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = server.accept()
                try:
                    capture = Capture(client.getsockname()[1])
                except LocalError as error:
                    accepted.close()
                    raise SkipTest(str(error)) from None
                with accepted, contextlib.closing(capture):
                    before = TcpCounts.of(client).seen
                    for size in (100, 200, 300):
                        client.sendall(bytes(size))
                        accepted.recv(size, socket.MSG_WAITALL)
                    accepted.sendall(bytes(50))
                    client.recv(50, socket.MSG_WAITALL)
                    counted, captured = TcpCounts.of(client).seen - before, capture.read()
        self.assertEqual(capture.dropped, 0)
        self.assertEqual(
            (captured.packets_out, captured.octets_out), (counted.packets_out, counted.octets_out)
        )
        self.assertEqual((captured.packets_in, captured.octets_in), (counted.packets_in, counted.octets_in))
