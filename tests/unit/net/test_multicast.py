"""Multicast sockets: real ones on loopback, with the interfaces and the time of a test."""

import errno
import socket
import struct

import attrs
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from ice.net import multicast, place
from ice.net import multicast_options as options
from ice.net.addresses import Address
from ice.net.batch import Given, Intake, Outlet, PythonIntake, PythonOutlet
from ice.net.interfaces import IFF_MULTICAST, IFF_RUNNING, IFF_UP, Interface, InterfaceWatch, interfaces
from ice.net.multicast import BATCH, MAX_DATAGRAM, PULSE_S, MulticastSocket, Place

from .lan import Loop

GROUP = "239.255.73.67"


def port() -> int:
    """A port that nobody else uses just now, as far as can be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Case(SynchronousTestCase):
    """Sockets on loopback, in a test that is their reactor."""

    intake: Intake | None = None  # what is in use here
    outlet: Outlet | None = None

    def setUp(self) -> None:
        self.loop = Loop()
        self.machine: dict[str, Interface] = dict(interfaces())
        if not self.machine["lo"].up:
            self.skipTest("loopback is down here")
        self.watch = InterfaceWatch(self.loop, look=lambda: dict(self.machine))
        self.heard: list[tuple[str, bytes]] = []
        self.paths: list[tuple[bool, str]] = []
        self.port = port()

    def tearDown(self) -> None:
        self.assertEqual((self.loop.getDelayedCalls(), self.loop.readers), ([], []))

    def place(self, group: str = GROUP, **more: object) -> Place:
        at = Address(group, self.port)
        return attrs.evolve(Place(at, at, "lo", ttl=0), **more)

    def socket(self, place: Place, name: str = "", **more: object) -> MulticastSocket:
        def received(data: bytes, sender: Address) -> None:
            self.heard.append((name, data))

        def changed(up: bool, why: str) -> None:
            self.paths.append((up, why))

        more = {"watch": self.watch, "intake": self.intake, "outlet": self.outlet} | more
        made = MulticastSocket(self.loop, place, received, changed, **more)  # type: ignore[arg-type]
        made.start()
        self.addCleanup(made.stop)
        return made

    def stop(self, *sockets: MulticastSocket) -> None:
        for each in sockets:
            each.stop()

    def change(self, **interfaces: Interface | None) -> None:
        """Interfaces come, change and go; the watch sees it at its next look."""
        for name, interface in interfaces.items():
            if interface is None:
                del self.machine[name]
            else:
                self.machine[name] = interface
        self.watch._look()


class Talking(Case):
    def test_two_programs(self) -> None:
        """Two sockets of one machine hear each other, and nobody hears himself."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")
        self.assertTrue(a.up and a.joined)
        self.assertEqual(self.paths[0], (True, f"joined {GROUP}:{self.port} on lo"))
        self.assertTrue(a.send(b"hello"))
        self.assertTrue(self.loop.until(lambda: self.heard and a.counts.own))
        self.assertEqual(self.heard, [("b", b"hello")])
        self.assertEqual((a.counts.sent, a.counts.sent_bytes, a.counts.received), (1, 5, 0))
        self.assertEqual((b.counts.received, b.counts.received_bytes), (1, 5))
        self.stop(a, b)

    def test_no_cross_talk(self) -> None:
        """Two groups on one port: what is said in one is not heard in the other, although the machine has joined both."""
        one = self.socket(self.place("239.255.73.1"), "one")
        two = self.socket(self.place("239.255.73.2"), "two")
        other = self.socket(self.place("239.255.73.2"), "other")
        one.send(b"for one")
        two.send(b"for two")
        self.loop.until(lambda: one.counts.own and two.counts.own and self.heard)
        while self.loop.turn(0.05):
            pass
        self.assertEqual(self.heard, [("other", b"for two")])
        self.stop(one, two, other)

    def test_other_way_there_than_back(self) -> None:
        """Where we are heard and where we hear may be two groups, and a single machine."""
        there, back = Address("239.255.73.3", self.port), Address("239.255.73.4", self.port)
        a = self.socket(self.place(rx=there, tx=back), "a")
        b = self.socket(self.place(rx=back, tx=there), "b")
        a.send(b"there")
        b.send(b"back")
        self.assertTrue(self.loop.until(lambda: len(self.heard) == 2))
        self.assertEqual(sorted(self.heard), [("a", b"back"), ("b", b"there")])
        self.stop(a, b)

    def test_machines(self) -> None:
        """Unicast: what is said comes from the port where one listens, so that it finds its way back."""
        here, there = Address("127.0.0.1", self.port), Address("127.0.0.1", port())
        a = self.socket(Place(here, there), "a")
        b = self.socket(Place(there, here), "b")
        self.assertEqual(a.why, f"listening at {here}")
        senders: list[Address] = []
        b._received = lambda data, sender: senders.append(sender)
        a.send(b"hello")
        self.assertTrue(self.loop.until(lambda: senders))
        self.assertEqual(senders, [here])
        self.assertFalse(a.joined)
        self.stop(a, b)

    def test_loopback(self) -> None:
        """Whether this machine hears us is the kernel's to do, by an option of the socket that talks."""
        for loopback in (True, False):
            a = self.socket(self.place(loopback=loopback))
            assert a._tx is not None
            self.assertEqual(a._tx.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP), loopback)
            a.stop()

    def test_sources(self) -> None:
        """Source-specific: only who was named is heard."""
        anybody, talker = self.socket(self.place(), "anybody"), self.socket(self.place(), "talker")
        senders: list[Address] = []
        anybody._received = lambda data, sender: senders.append(sender)
        talker.send(b"who am I?")
        self.assertTrue(self.loop.until(lambda: senders))
        wanted = self.socket(self.place(sources=(senders[0].host,)), "wanted")
        strange = self.socket(self.place(sources=("192.0.2.99",)), "strange")
        self.assertTrue(wanted.joined and strange.joined)
        talker.send(b"hello")
        self.assertTrue(self.loop.until(lambda: self.heard))
        while self.loop.turn(0.02):
            pass
        self.assertEqual(self.heard, [("wanted", b"hello")])
        self.stop(anybody, wanted, strange, talker)

    def test_marks(self) -> None:
        """Hops and code points are what the place says, by priority class; what is above voice is voice."""
        for priority, dscp in ((0, 0), (1, 40), (2, 34), (3, 46), (4, 46), (-1, 0)):
            made = self.socket(self.place(priority=priority, ttl=7))
            assert made._tx is not None
            self.assertEqual(made._tx.getsockopt(socket.IPPROTO_IP, socket.IP_TOS), dscp << 2)
            self.assertEqual(made._tx.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL), 7)
            made.stop()

    def test_marks_of_ipv6(self) -> None:
        """The same for IPv6, on options of its own."""
        at = Address("ff15::4943:45", self.port)
        try:
            sock = options.talking(at, self.machine["lo"].index)
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")
        with sock:
            options.mark(sock, at, ttl=9, priority=3, loopback=True)
            level = socket.IPPROTO_IPV6
            self.assertEqual(sock.getsockopt(level, socket.IPV6_MULTICAST_HOPS), 9)
            self.assertEqual(sock.getsockopt(level, socket.IPV6_TCLASS), 46 << 2)
        with options.listening(at, self.machine["lo"].index, shared=True) as sock:
            self.assertEqual(sock.getsockopt(level, options.IPV6_MULTICAST_ALL), 0)
            self.assertEqual(sock.getsockname()[:2], (at.host, at.port))

    def test_hops_to_a_machine(self) -> None:
        """A hop limit of 1 is meant for groups; a machine is reached with the system's own."""
        a = self.socket(Place(Address("127.0.0.1", self.port), Address("127.0.0.1", 9), ttl=1))
        assert a._tx is not None
        self.assertGreater(a._tx.getsockopt(socket.IPPROTO_IP, socket.IP_TTL), 1)
        a.stop()


class Hearing(Case):
    def test_sizes(self) -> None:
        """The largest datagram there is arrives; an empty one says nothing and is counted."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")
        assert a._tx is not None
        a._tx.sendto(b"", a._to)
        self.assertTrue(a.send(bytes(MAX_DATAGRAM)))
        self.assertTrue(self.loop.until(lambda: self.heard))
        self.assertEqual((b.counts.empty, b.counts.received_bytes), (1, MAX_DATAGRAM))
        self.assertFalse(a.send(bytes(MAX_DATAGRAM + 1)))
        self.assertEqual(a.counts.unsent, {"emsgsize": 1})
        self.assertTrue(a.up)
        self.stop(a, b)

    def test_turns(self) -> None:
        """A flood is read a batch at a time, so that others have their turn between."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")
        for number in range(BATCH + 10):
            a.send(b"%d" % number)
        self.loop.turn(1.0)
        self.assertEqual(b.counts.received, BATCH)
        self.assertTrue(self.loop.until(lambda: b.counts.received == BATCH + 10))
        self.stop(a, b)

    def test_kernel_drops(self) -> None:
        """What the kernel had no room for is counted, and said once, with the setting that gives more room."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")
        assert b._rx is not None
        b._rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        for _ in range(60):
            a.send(bytes(1_000))
        while self.loop.turn(0.02):
            pass
        with capturedLogs() as logs:
            a.send(b"after")  # the kernel tells with the next one that it has room for
            self.assertTrue(self.loop.until(lambda: b.counts.kernel_dropped))
        self.assertEqual(b.counts.kernel_dropped + b.counts.received, 61)
        [told] = [formatEvent(event) or "" for event in logs]
        self.assertIn(f"the kernel has dropped {b.counts.kernel_dropped} datagrams", told)
        self.assertIn("sysctl net.core.rmem_max", told)
        self.stop(a, b)

    def test_standing_still(self) -> None:
        """What came while the process stood still is dropped and counted; what comes afterwards is heard."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")
        for _ in range(70):
            a.send(b"old")
        self.loop.rightNow += 60.0  # time has passed, and nothing was called
        self.loop.turn(1.0)
        self.assertEqual((b.counts.stale, self.heard), (70, []))
        a.send(b"new")
        self.assertTrue(self.loop.until(lambda: self.heard))
        self.assertEqual(self.heard, [("b", b"new")])
        self.loop.advance(0)
        a.send(b"newer")
        self.assertTrue(self.loop.until(lambda: len(self.heard) == 2))
        self.stop(a, b)

    def test_stopped_when_told(self) -> None:
        """An owner may stop the socket from whatever it is told."""
        made = MulticastSocket(self.loop, self.place(), print, lambda up, why: made.stop(), watch=self.watch)  # type: ignore[arg-type]
        made.start()
        self.assertFalse(made.up)

    def test_an_owner_who_fails(self) -> None:
        """What the owner raises is counted and told once, and the next datagram is given all the same."""
        a, b = self.socket(self.place(), "a"), self.socket(self.place(), "b")

        def fails(data: bytes, sender: Address) -> None:
            raise RuntimeError("of its own")

        b._received = fails
        a.send(b"one")
        a.send(b"two")
        self.assertTrue(self.loop.until(lambda: b.counts.owner_errors == 2))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.stop(a, b)

    def test_ancillary(self) -> None:
        """The kernel's words beside a datagram, read and misread."""
        said = [
            (socket.IPPROTO_IPV6, options.IPV6_PKTINFO, bytes(16) + struct.pack("=I", 7)),
            (socket.SOL_SOCKET, options.SO_RXQ_OVFL, struct.pack("=I", 12)),
        ]
        self.assertEqual((options.arrived_on(said), options.dropped_so_far(said)), (7, 12))
        cut = [(level, kind, data[:3]) for level, kind, data in said]
        self.assertEqual((options.arrived_on(cut), options.dropped_so_far(cut)), (0, None))

    def test_another_interface(self) -> None:
        """A datagram of the same IPv6 group that came by another interface is not ours; by ours it is."""
        lo = self.machine["lo"]
        b = self.socket(self.place(), "b", intake=PythonIntake())
        b.place = Place(Address("ff15::1", self.port), Address("ff15::1", self.port), "lo")
        real, came = b._rx, [9, lo.index]

        class Six:
            family = socket.AF_INET6

            def recvmsg(self, size: int, room: int) -> object:
                if not came:
                    raise BlockingIOError
                info = bytes(16) + struct.pack("=I", came.pop(0))
                return b"x", [(socket.IPPROTO_IPV6, options.IPV6_PKTINFO, info)], 0, ("fd00::9", 5000, 0, 0)

        b._rx = Six()  # type: ignore[assignment]
        b._read()
        b._rx = real
        self.assertEqual((b.counts.other_interface, b.counts.received), (1, 1))
        b.stop()


class Many(Case):
    """Datagrams by the turn."""

    def gather(self, *places: Place) -> tuple[MulticastSocket, list[list[tuple[bytes, Address]]]]:
        """Somebody who hears by the turn."""
        turns: list[list[tuple[bytes, Address]]] = []
        made = MulticastSocket(
            self.loop, self.place(), None, lambda up, why: None, received_many=turns.append,
            watch=self.watch, intake=self.intake, outlet=self.outlet,
        )  # fmt: skip
        made.start()
        self.addCleanup(made.stop)
        return made, turns

    def test_by_the_turn(self) -> None:
        """What a turn brings comes in one call, in order, without our own, and each sender is one object."""
        a, (b, turns) = self.socket(self.place(), "a"), self.gather()
        words = [b"%d" % number for number in range(BATCH - 3)]
        self.assertEqual(a.send_many(words), len(words))
        b.send_many([b"own", b"own"])
        a.send(b"last")
        self.assertTrue(self.loop.until(lambda: turns and b.counts.own == 2))
        (heard,) = turns
        self.assertEqual([data for data, _ in heard], [*words, b"last"])
        self.assertEqual(len({id(sender) for _, sender in heard}), 1)
        self.assertEqual(heard[0][1].port, a._own_port)
        self.assertEqual((b.counts.received, b.counts.received_bytes), (BATCH - 2, sum(map(len, words)) + 4))
        self.assertEqual((a.counts.sent, a.counts.sent_bytes), (BATCH - 2, sum(map(len, words)) + 4))
        self.stop(a, b)

    def test_many_senders(self) -> None:
        """A flood of senders is forgotten now and then, and each datagram still has its own."""
        self.patch(multicast, "MAX_KNOWN", 3)
        (b, turns), others = self.gather(), [self.socket(self.place(), "a") for _ in range(5)]
        for round in range(2):
            for number, each in enumerate(others):
                each.send(b"%d of %d" % (number, round))
        self.assertTrue(self.loop.until(lambda: sum(map(len, turns)) == 10))
        self.assertEqual(
            [(data, sender.port) for turn in turns for data, sender in turn],
            [(b"%d of %d" % (n, r), each._own_port) for r in range(2) for n, each in enumerate(others)],
        )
        self.assertLessEqual(len(b._known), 3)
        self.stop(b, *others)

    def test_some_that_cannot_be_sent(self) -> None:
        """One datagram that the kernel refuses does not keep the others; each is counted."""
        a, (b, turns) = self.socket(self.place(), "a"), self.gather()
        self.assertEqual(a.send_many([b"one", bytes(MAX_DATAGRAM + 1), b"two"]), 2)
        self.assertEqual((a.counts.unsent, a.counts.sent, a.counts.sent_bytes), ({"emsgsize": 1}, 2, 6))
        self.assertTrue(self.loop.until(lambda: sum(map(len, turns)) == 2))
        a.stop()
        self.assertEqual(a.send_many([b"one", b"two"]), 0)
        self.assertEqual(a.counts.unsent, {"emsgsize": 1, "closed": 2})
        b.stop()

    def test_an_owner_who_fails(self) -> None:
        """What the owner raises is counted and told once, and the next turn is given all the same."""
        a, (b, _) = self.socket(self.place(), "a"), self.gather()

        def fails(datagrams: object) -> None:
            raise RuntimeError("of its own")

        b._received_many = fails
        for count in (1, 2):
            a.send(b"one")
            self.assertTrue(self.loop.until(lambda count=count: b.counts.owner_errors == count))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.stop(a, b)

    def test_a_firewall(self) -> None:
        """A path that refuses everything is closed within a second, and opens with what goes out."""
        a = self.socket(self.place(), "a")

        class Refusing:
            def give(self, sock: object, datagrams: list[bytes], to: object) -> Given:
                return Given(0, 0, [errno.EPERM] * len(datagrams))

        works, a._outlet = a._outlet, Refusing()  # type: ignore[assignment]
        a.send_many([b"one", b"two"])
        self.loop.rightNow += 1.0
        a.send_many([b"three"])
        self.assertFalse(a.up)
        self.assertIn("firewall", a.why)
        a._outlet = works
        a.send_many([b"four"])
        self.assertTrue(a.up)
        self.assertEqual(a.counts.unsent, {"eperm": 3})
        a.stop()


class PureTalking(Talking):
    """The same without anything compiled."""

    intake, outlet = PythonIntake(), PythonOutlet()


class PureHearing(Hearing):
    """The same without anything compiled."""

    intake, outlet = PythonIntake(), PythonOutlet()


class PureMany(Many):
    """The same without anything compiled."""

    intake, outlet = PythonIntake(), PythonOutlet()


class Coming(Case):
    """Interfaces come, change and go."""

    def test_gone_and_back(self) -> None:
        """The path closes with the interface, and opens with one of its name, whatever its number."""
        lo = self.machine["lo"]
        a = self.socket(self.place(), "a")
        self.change(lo=None)
        self.assertEqual(self.paths[-1], (False, "there is no interface lo here: ip -brief link"))
        self.assertFalse(a.send(b"nobody hears"))
        self.assertEqual(a.counts.unsent, {"closed": 1})
        self.change(lo=lo)
        self.assertTrue(a.up and a.joined)
        self.assertEqual([up for up, _ in self.paths], [True, False, True])
        self.assertEqual(a.counts.opens, 2)
        a.stop()

    def test_why_not(self) -> None:
        """Down, without an address, without multicast: each is said, with what to do."""
        lo = self.machine["lo"]
        a = self.socket(self.place(), "a")
        for broken, said in (
            (attrs.evolve(lo, flags=lo.flags & ~IFF_RUNNING), "no carrier"),
            (attrs.evolve(lo, flags=lo.flags & ~IFF_UP), "down"),
            (attrs.evolve(lo, addresses=("::1",)), "no IPv4 address"),
            (attrs.evolve(lo, flags=IFF_UP | IFF_RUNNING), "multicast on"),
        ):
            self.change(lo=broken)
            self.assertFalse(a.up)
            self.assertIn(said, a.why)
            self.change(lo=lo)
            self.assertTrue(a.up)
        a.stop()

    def test_another_address(self) -> None:
        """An interface whose address changed is the same one: left and joined again on the same socket, and nobody notices."""
        lo = self.machine["lo"]
        a = self.socket(self.place(), "a")
        before = a._rx
        self.change(lo=attrs.evolve(lo, addresses=(*lo.addresses, "127.0.0.9")))
        self.assertIs(a._rx, before)
        self.assertEqual((a.counts.rejoins, a.counts.joins, self.paths), (1, 2, self.paths[:1]))
        a.stop()

    def test_silence(self) -> None:
        """After so much silence the group is joined again, every time; while somebody talks, never."""
        a, b = self.socket(self.place(), "a", rejoin_s=3.0), self.socket(self.place(), "b", rejoin_s=0.0)
        self.loop.pump([PULSE_S] * 2)
        b.send(b"hello")
        self.assertTrue(self.loop.until(lambda: self.heard))
        self.loop.pump([PULSE_S] * 2)
        self.assertEqual(a.counts.rejoins, 0)
        self.loop.pump([PULSE_S] * 4)
        self.assertEqual((a.counts.rejoins, b.counts.rejoins), (2, 0))
        b.send(b"still here")
        self.assertTrue(self.loop.until(lambda: len(self.heard) == 2))
        self.stop(a, b)

    def test_our_own_voice_is_silence(self) -> None:
        """What comes back of what we say ourselves does not prove that others would be heard."""
        a = self.socket(self.place(), "a", rejoin_s=3.0)
        for number in range(4):
            a.send(b"still talking")
            self.assertTrue(self.loop.until(lambda so_far=number: a.counts.own > so_far))
            self.loop.advance(PULSE_S)
        self.assertEqual(a.counts.rejoins, 1)
        a.stop()

    def test_never_again(self) -> None:
        """0: never."""
        a = self.socket(self.place(), rejoin_s=0.0)
        self.loop.pump([PULSE_S] * 30)
        self.assertEqual(a.counts.rejoins, 0)
        a.stop()

    def test_by_route(self) -> None:
        """Without a name the kernel's route decides; without a route the only interface that can; of two, somebody must choose."""
        up = IFF_UP | IFF_RUNNING | IFF_MULTICAST
        lo, one, two = self.machine["lo"], Interface(71, "one", up, ("192.0.2.1",)), Interface(72, "two", up)
        self.machine = {"lo": lo, "one": one, "two": two}
        route: list[int | None] = [lo.index]
        self.patch(place, "route_to", lambda address: route[0])
        unnamed = self.place(interface="")
        a = self.socket(unnamed)
        self.assertEqual(a.status().interface, "lo")
        route[0] = None
        self.assertRaisesRegex(
            place.Closed, "one and two could be meant: name one, or", place.choose, unnamed, self.watch
        )
        self.machine = {"lo": lo, "one": one}
        self.watch._look()
        self.assertIs(place.choose(unnamed, self.watch), one)
        self.machine = {"lo": lo}
        self.watch._look()
        self.assertRaisesRegex(
            place.Closed, "no interface that is up can multicast", place.choose, unnamed, self.watch
        )
        a.stop()

    def test_places_that_cannot_be(self) -> None:
        """What is no place is said in a sentence, and nothing is opened."""
        here = self.place()
        for wrong, said in (
            (attrs.evolve(here, rx=Address("radio.example", 5000)), "is a name"),
            (attrs.evolve(here, tx=Address(GROUP, 0)), "no port"),
            (attrs.evolve(here, ttl=256), "256"),
            (attrs.evolve(here, sources=("ff15::1",)), "source ff15::1"),
            (
                attrs.evolve(here, rx=Address("127.0.0.1", 5000), sources=("192.0.2.1",)),
                "sources are for groups",
            ),
        ):
            made = self.socket(wrong)
            self.assertFalse(made.up)
            self.assertIn(said, made.why)
            made.stop()

    def test_half_a_place(self) -> None:
        """Who only talks needs no place to listen, and the other way round."""
        nowhere = Address("", 0)
        talker = self.socket(self.place(rx=nowhere), "talker", listen=False)
        listener = self.socket(self.place(tx=nowhere), "listener", talk=False)
        self.assertTrue(talker.up and listener.up)
        talker.send(b"hello")
        self.assertFalse(listener.send(b"hello"))
        self.assertTrue(self.loop.until(lambda: self.heard))
        self.assertEqual(self.heard, [("listener", b"hello")])
        self.stop(talker, listener)


class Failing(Case):
    def refuse(self, sock: MulticastSocket, number: int) -> None:
        """From now on the kernel refuses to send, as a firewall makes it."""

        class Refusing:
            def sendto(self, data: bytes, to: object) -> int:
                raise OSError(number, "refused")

            def close(self) -> None:
                pass

        assert sock._tx is not None
        self.addCleanup(sock._tx.close)
        sock._tx = Refusing()  # type: ignore[assignment]

    def test_a_firewall(self) -> None:
        """Sends that fail are counted by reason; when that lasts the path closes, and opens as soon as one succeeds."""
        a = self.socket(self.place(), "a")
        works = a._tx
        self.refuse(a, errno.EPERM)
        self.assertFalse(a.send(b"one"))
        self.assertTrue(a.up)
        self.loop.advance(1.0)
        self.assertFalse(a.send(b"two"))
        self.assertEqual(a.counts.unsent, {"eperm": 2})
        self.assertFalse(a.up)
        self.assertIn("firewall", a.why)
        self.loop.advance(PULSE_S)
        self.assertFalse(a.up)
        a._tx = works
        self.loop.advance(PULSE_S)
        self.assertTrue(a.up)
        self.assertEqual([up for up, _ in self.paths], [True, False, True])
        a.stop()

    def test_a_moment(self) -> None:
        """One send that fails between others closes nothing."""
        a = self.socket(self.place(), "a")
        works = a._tx
        for _ in range(5):
            self.refuse(a, errno.ENOBUFS)
            a.send(b"lost")
            a._tx = works
            a.send(b"sent")
            self.loop.advance(0.5)
        self.assertTrue(a.up)
        self.assertEqual((a.counts.unsent, a.counts.sent), ({"enobufs": 5}, 5))
        a.stop()

    def test_joining_fails(self) -> None:
        """A join that fails is counted and named with what to do, tried again every second, and works when it can."""
        trouble: list[int] = [errno.ENOBUFS]
        join = options.join

        def fails(*words: object) -> None:
            if trouble:
                raise OSError(trouble[0], "refused")
            join(*words)  # type: ignore[arg-type]

        self.patch(options, "join", fails)
        a = self.socket(self.place(), "a")
        self.assertFalse(a.up)
        self.assertIn("igmp_max_memberships", a.why)
        trouble[0] = errno.ENODEV
        self.loop.advance(PULSE_S)
        self.assertIn("interface is gone", a.why)
        self.assertEqual(a.counts.join_failures, {"enobufs": 1, "enodev": 1})
        trouble.clear()
        self.loop.advance(PULSE_S)
        self.assertTrue(a.up)
        a.stop()

    def test_taken(self) -> None:
        """A machine's own port that another program has is told as that."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.port))
            a = self.socket(Place(Address("127.0.0.1", self.port), Address("127.0.0.1", 9)))
            self.assertIn("another program", a.why)
        self.loop.advance(PULSE_S)
        self.assertTrue(a.up)
        a.stop()

    def test_stopping(self) -> None:
        """Stopping, twice, and sending afterwards: harmless, and nothing is told."""
        a = self.socket(self.place())
        told = len(self.paths)
        a.stop()
        a.stop()
        self.assertFalse(a.send(b"late"))
        self.change(lo=None)
        self.assertEqual((len(self.paths), a.status().joined, a.why), (told, False, "left"))


class Layout(SynchronousTestCase):
    def test_source_request(self) -> None:
        """A source-specific join is a group_source_req: index, two sockaddr_storage at their alignment."""
        calls: list[tuple[int, int, bytes]] = []

        class Fake:
            family = socket.AF_INET

            def setsockopt(self, *words: object) -> None:
                calls.append(words)  # type: ignore[arg-type]

        options.join(Fake(), "232.1.2.3", 5, ("192.0.2.1",))  # type: ignore[arg-type]
        level, option, data = calls[0]
        self.assertEqual((level, option), (socket.IPPROTO_IP, options.MCAST_JOIN_SOURCE_GROUP))
        long = struct.calcsize("@L")
        self.assertEqual(len(data), long + 256)
        self.assertEqual(struct.unpack_from("@I", data)[0], 5)
        self.assertEqual(data[long + 4 : long + 8], bytes([232, 1, 2, 3]))
        self.assertEqual(data[long + 128 + 4 : long + 128 + 8], bytes([192, 0, 2, 1]))

    def test_destinations(self) -> None:
        """IPv6 wants to know the link of what is meant on one link only."""
        self.assertEqual(options.destination(Address("239.1.2.3", 5), 7), ("239.1.2.3", 5))
        self.assertEqual(options.destination(Address("ff02::1%eth0", 5), 7), ("ff02::1", 5, 0, 7))
        self.assertEqual(options.destination(Address("ff15::1", 5), 7), ("ff15::1", 5, 0, 0))
        self.assertEqual(options.destination(Address("fe80::1", 5), 7), ("fe80::1", 5, 0, 7))

    def test_every_error_is_a_sentence(self) -> None:
        """Whatever the kernel says, a person can read it, and a counter has a word for it."""
        for number in (*errno.errorcode, 99_999, None):
            error = OSError(number, "said so") if number is not None else OSError("said so")
            for joining in (False, True):
                self.assertTrue(options.explain(error, to=GROUP, interface="eth0", joining=joining))
            self.assertRegex(options.reason(error), r"\A[a-z0-9]+\Z")
