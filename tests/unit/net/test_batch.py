"""Many datagrams in one call, compiled and not: every rule holds for both, on real sockets."""

import errno
import socket
import struct
from typing import Any
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.net import batch
from ice.net import multicast_options as options
from ice.net.addresses import Address
from ice.net.batch import (
    SLOTS,
    CompiledIntake,
    CompiledOutlet,
    Given,
    Intake,
    Outlet,
    PythonIntake,
    PythonOutlet,
    Taken,
)
from ice.net.fanout import SWITCH

LONGEST = 65_507


class PythonTests(SynchronousTestCase):
    """The pure twins; the compiled ones inherit every test."""

    intake: Intake = PythonIntake()
    outlet: Outlet = PythonOutlet()

    def setUp(self) -> None:
        self.near, self.far = self.pair()

    def pair(self, family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
        """Two sockets of this machine that do not block."""
        made = []
        for _ in range(2):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            self.addCleanup(sock.close)
            sock.setblocking(False)
            try:
                sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
            except OSError as error:
                raise SkipTest(f"no such addresses here: {error}") from None
            made.append(sock)
        return made[0], made[1]

    def take(self, limit: int = SLOTS, longest: int = LONGEST, interface: int = 0) -> Taken:
        """What waits at the far socket."""
        return self.intake.take(self.far, limit, longest, interface)

    def give(self, *datagrams: bytes) -> Given:
        """Send to the far socket."""
        return self.outlet.give(self.near, datagrams, self.far.getsockname())

    def test_there_and_back(self) -> None:
        """What is given is taken, in order, whole, with its sender."""
        words = [b"a", b"\0" * 172, bytes(range(256)) * 10]
        self.assertEqual(self.give(*words), Given(3, 1 + 172 + 2_560))
        taken = self.take()
        self.assertEqual(taken.datagrams, words)
        self.assertEqual(len(set(taken.senders)), 1)
        self.assertEqual(
            self.intake.host_and_port(taken.senders[0]), ("127.0.0.1", self.near.getsockname()[1])
        )
        self.assertEqual((taken.more, taken.failed, taken.empty, taken.too_large), (False,) * 2 + (0, 0))

    def test_ipv6(self) -> None:
        """The same for IPv6."""
        self.near, self.far = self.pair(socket.AF_INET6)
        self.give(b"six")
        taken = self.take()
        self.assertEqual(taken.datagrams, [b"six"])
        self.assertEqual(self.intake.host_and_port(taken.senders[0]), ("::1", self.near.getsockname()[1]))

    def test_senders(self) -> None:
        """Two senders have two keys, in the order of their datagrams."""
        other, _ = self.pair()
        for sock in (self.near, other, self.near):
            sock.sendto(b"x", self.far.getsockname())
        one, two, again = self.take().senders
        self.assertEqual(one, again)
        self.assertEqual(self.intake.host_and_port(two)[1], other.getsockname()[1])

    def test_nothing(self) -> None:
        """Where nothing waits nothing is taken, and that is no failure; giving nothing is none either."""
        self.assertEqual(self.take(), Taken([], []))
        self.assertEqual(self.give(), Given(0, 0))

    def test_limit(self) -> None:
        """No more than asked for is taken at once, whatever is asked for, and that there may be more is said."""
        self.give(*[b"%d" % n for n in range(2 * SLOTS + 5)])
        taken = self.take(10)
        self.assertEqual((len(taken.datagrams), taken.more), (10, True))
        taken = self.take(1_000)
        self.assertEqual((len(taken.datagrams), taken.datagrams[0]), (SLOTS, b"10"))
        taken = self.take(1_000)
        self.assertEqual((len(taken.datagrams), taken.datagrams[-1]), (59, b"%d" % (2 * SLOTS + 4)))

    def test_empty_and_too_large(self) -> None:
        """What is empty or longer than wanted is counted, and what stands between is taken with its own sender."""
        other, _ = self.pair()
        to = self.far.getsockname()
        for data in (b"", bytes(101), b"one", bytes(100), b""):
            self.near.sendto(data, to)
        other.sendto(b"two", to)
        taken = self.take(longest=100)
        self.assertEqual(taken.datagrams, [b"one", bytes(100), b"two"])
        self.assertEqual((taken.empty, taken.too_large), (2, 1))
        ports = [self.intake.host_and_port(each)[1] for each in taken.senders]
        self.assertEqual(ports, [self.near.getsockname()[1]] * 2 + [other.getsockname()[1]])

    def test_largest(self) -> None:
        """The largest datagram there is, next to the smallest."""
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.give(b"x", bytes(LONGEST), b"y")
        self.assertEqual(list(map(len, self.take().datagrams)), [1, LONGEST, 1])

    def test_refused(self) -> None:
        """What the kernel refuses is told with its reason, and the others are sent; how many bytes is right."""
        given = self.give(b"one", bytes(LONGEST + 1), b"three", bytes(LONGEST + 1))
        self.assertEqual(given, Given(2, 8, [errno.EMSGSIZE] * 2))
        self.assertEqual(self.take().datagrams, [b"one", b"three"])
        self.assertEqual(batch.count_errors(given.errors), {"emsgsize": 2})

    def test_full(self) -> None:
        """A socket that is full refuses all the rest, each counted, also beyond what one call gives."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        near.setblocking(False)
        sent = 0
        try:
            while True:
                near.send(bytes(1_000))
                sent += 1
        except BlockingIOError:
            pass

        class Connected:
            """Sends to whom it is connected with, as a UDP socket does that has no room."""

            fileno = near.fileno

            def sendto(self, data: bytes, to: object) -> int:
                return near.send(data)

        self.patch(batch, "_packed", lambda to: b"")
        given = self.outlet.give(Connected(), [b"x"] * 150, ("", 0))  # type: ignore[arg-type]
        self.assertEqual(given, Given(0, 0, [errno.EAGAIN] * 150))

    def test_a_socket_that_is_gone(self) -> None:
        """Reading that fails is told, and raises nothing."""
        self.far.close()
        self.assertEqual(self.take(), Taken([], [], failed=True))

    def test_kernel_drops(self) -> None:
        """What the kernel had no room for is told with what comes afterwards."""
        self.far.setsockopt(socket.SOL_SOCKET, options.SO_RXQ_OVFL, 1)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        self.give(*[bytes(500)] * 60)
        first = self.take()
        self.give(b"after")
        taken = self.take()
        self.assertEqual(taken.dropped, 60 - len(first.datagrams))

    def test_by_its_interface(self) -> None:
        """Of IPv6 datagrams only those are taken that came by the wanted interface; the others are counted."""
        self.near, self.far = self.pair(socket.AF_INET6)
        self.far.setsockopt(socket.IPPROTO_IPV6, options.IPV6_RECVPKTINFO, 1)
        lo = socket.if_nametoindex("lo")
        for interface, heard, others in ((lo, [b"a", b"b"], 0), (lo + 1_000, [], 2), (0, [b"a", b"b"], 0)):
            self.give(b"a", b"b")
            taken = self.take(interface=interface)
            self.assertEqual((taken.datagrams, taken.other_interface), (heard, others))

    def test_groups(self) -> None:
        """A group is a destination like any other."""
        lo = socket.if_nametoindex("lo")
        at = Address("239.255.73.99", self.far.getsockname()[1])
        with options.listening(at, lo, shared=True) as far, options.talking(at, lo) as near:
            options.join(far, at.host, lo)
            options.mark(near, at, ttl=0, priority=3, loopback=True)
            given = self.outlet.give(near, [b"one", b"two"], options.destination(at, lo))
            self.assertEqual(given, Given(2, 6))
            self.assertEqual(self.intake.take(far, 9, LONGEST).datagrams, [b"one", b"two"])

    def test_any(self) -> None:
        """Whatever is given comes out, but for what is empty."""

        @settings(max_examples=50, deadline=None, database=None)
        @given(st.lists(st.binary(max_size=300), max_size=100))
        def any_of_them(words: list[bytes]) -> None:
            self.assertEqual(self.give(*words), Given(len(words), sum(map(len, words))))
            got: list[bytes] = []
            empty, more = 0, True
            while more:
                taken = self.take()
                got += taken.datagrams
                empty += taken.empty
                more = taken.more
            self.assertEqual((got, empty), ([each for each in words if each], words.count(b"")))

        any_of_them()


class CompiledTests(PythonTests):
    """The compiled twins."""

    def setUp(self) -> None:
        super().setUp()
        try:
            from ice.net import _batch
        except ImportError:
            raise SkipTest("it was not built") from None
        self.intake, self.outlet = CompiledIntake(_batch), CompiledOutlet(_batch)


class ChoiceTests(SynchronousTestCase):
    """Which of the twins is in use."""

    def probe(self) -> str:
        """Ask afresh; what is in use."""
        for each in (batch._probe, batch.intake, batch.outlet):
            each.cache_clear()
            self.addCleanup(each.cache_clear)
        return batch.in_use()

    def test_not_built(self) -> None:
        """Without the extension the pure twins work, and say why."""

        def missing(name: str) -> Any:
            raise ImportError(name)

        self.patch(batch, "import_module", missing)
        self.patch(batch.os, "environ", {})
        self.assertIn("not built", self.probe())
        self.assertIsInstance(batch.intake(), PythonIntake)
        self.assertIsInstance(batch.outlet(), PythonOutlet)

    def test_switched_off(self) -> None:
        """What switches the compiled fan-out off switches this off too."""
        self.patch(batch.os, "environ", {SWITCH: "python"})
        self.assertIn("switched off", self.probe())
        self.assertIsInstance(batch.intake(), PythonIntake)

    def test_destinations(self) -> None:
        """A destination stands in memory as the kernel wants it (ip(7), ipv6(7))."""
        four = batch._packed(("239.1.2.3", 5_004))
        self.assertEqual(four[2:], bytes.fromhex("138c ef010203 0000000000000000"))
        self.assertEqual(struct.unpack_from("=H", four), (socket.AF_INET,))
        six = batch._packed(("ff02::1", 5_004, 0, 7))
        self.assertEqual(six[2:24], bytes.fromhex("138c 00000000 ff02 0000000000000000000000000001"))
        self.assertEqual(struct.unpack_from("=I", six, 24), (7,))
