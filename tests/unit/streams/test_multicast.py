"""Streams on a local network: what is heard once, what is passed on, and the path; over sockets of a test's own."""

from typing import Any
from uuid import UUID

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.config.multicast import MulticastSettings
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.rtp import Packet, Talk, TalkFlag
from ice.net.addresses import Address
from ice.net.multicast import Place, SocketCounts, SocketStatus
from ice.streams.interface import Datagram
from ice.streams.memory import Collector
from ice.streams.multicast import MulticastNetwork, MulticastStream, place_of_settings

ME = UUID("11111111-2222-4333-8444-555555555555")
ANNA, BERT = Address("192.0.2.1", 40_001), Address("192.0.2.2", 40_001)
GROUP = Address("239.1.2.3", 5_000)
HERE = Place(GROUP, GROUP, "eth0")


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"sound", **more: Any) -> bytes:
    """An RTP packet."""
    return Packet(111, sequence & 0xFFFF, 960 * sequence & 0xFFFF_FFFF, ssrc, payload, **more).encode()


@attrs.define
class Wire:
    """A socket that is a list."""

    reactor: Any
    place: Place
    received: Any
    changed: Any
    more: dict[str, Any]
    counts: SocketCounts = attrs.field(factory=SocketCounts)
    sent: list[bytes] = attrs.field(factory=list)
    works: bool = True
    running: bool = False

    def start(self) -> None:
        self.running = True
        self.changed(True, f"joined {self.place.rx} on eth0")

    def stop(self) -> None:
        self.running = False

    def send(self, data: bytes) -> bool:
        if self.works:
            self.sent.append(data)
        return self.works

    def status(self) -> SocketStatus:
        return SocketStatus(
            "eth0", str(self.place.rx), str(self.place.tx), self.running, True, "joined it", 1.0
        )


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wires: list[Wire] = []
        self.places: dict[str, Place] = {"hall": HERE}
        self.network = MulticastNetwork(
            self.clock, self.places.get, identity=ME, socket_of=self.wire, random_bits=lambda bits: 5
        )
        self.hears = Collector()

    def wire(self, reactor: Any, place: Place, received: Any, changed: Any, **more: Any) -> Wire:
        self.wires.append(Wire(reactor, place, received, changed, more))
        return self.wires[-1]

    def join(self, stream_id: str = "hall", **more: Any) -> MulticastStream:
        self.network.start()
        stream = self.network.join(stream_id, self.hears, **more)
        self.clock.advance(0)
        return stream

    def hear(self, payload: bytes, sender: Address = ANNA) -> None:
        self.wires[-1].received(payload, sender)


class Joining(Case):
    def test_path(self) -> None:
        """The path opens when the caller has returned, and tells where."""
        self.network.start()
        stream = self.network.join("hall", self.hears)
        self.assertEqual(self.hears.paths, [])
        self.clock.advance(0)
        self.assertEqual(self.hears.paths, [(True, "joined 239.1.2.3:5000 on eth0")])
        self.assertTrue(stream.up and self.network.up)
        self.wires[0].changed(False, "eth0 is down")
        self.wires[0].changed(False, "eth0 is gone")
        self.assertEqual(self.hears.paths[1:], [(False, "eth0 is down")])
        self.assertEqual((stream.up, stream.why), (False, "eth0 is gone"))

    def test_before_the_start(self) -> None:
        """What is joined before the start is opened by it; stopping leaves everything and ends what is planned."""
        stream = self.network.join("hall", self.hears)
        self.assertEqual(self.wires, [])
        self.network.start()
        self.clock.advance(0)
        self.assertTrue(stream.up)
        self.successResultOf(self.network.stop())
        self.assertEqual((stream.up, stream.why, self.wires[0].running), (False, "left", False))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(stream.send(b"late"))

    def test_nowhere(self) -> None:
        """A stream of which nobody has said where it is has no path, and says so; it opens when somebody has."""
        stream = self.join("somewhere")
        self.assertEqual([up for up, _ in self.hears.paths], [False])
        self.assertIn("nobody has said where", stream.why)
        self.places["somewhere"] = HERE
        self.network.refresh()
        self.clock.advance(0)
        self.assertEqual([up for up, _ in self.hears.paths], [False, True])

    def test_moved(self) -> None:
        """Asked again, a stream goes to its new place; one that stays notices nothing."""
        self.join()
        self.network.refresh()
        self.assertEqual(len(self.wires), 1)
        self.places["hall"] = attrs.evolve(HERE, ttl=8)
        self.network.refresh()
        self.clock.advance(0)
        self.assertEqual([wire.running for wire in self.wires], [False, True])

    def test_once_only(self) -> None:
        """A stream is joined once and shared; after leaving it may be joined again, under the same name."""
        stream = self.join()
        self.assertRaises(LocalError, self.network.join, "hall", self.hears)
        self.assertRaises(LocalError, self.network.join, "", self.hears)
        stream.leave()
        stream.leave()
        self.assertEqual(self.join().source, stream.source)

    def test_what_a_socket_is_told(self) -> None:
        """Who only talks does not listen, and silence has its limit."""
        self.join(talk=True, listen=False)
        more = self.wires[0].more
        self.assertEqual((more["talk"], more["listen"], more["rejoin_s"]), (True, False, 8.0))

    def test_status(self) -> None:
        """A stream tells how it stands."""
        stream = self.join()
        self.hear(rtp(1))
        stream.send(b"hello")
        (status,) = self.network.status()
        self.assertEqual(
            (status.stream_id, status.interface, status.rx, status.tx, status.joined, status.up),
            ("hall", "eth0", "239.1.2.3:5000", "239.1.2.3:5000", True, True),
        )
        self.assertEqual((status.senders, status.counts.received, status.counts.sent), (1, 1, 1))
        self.assertEqual(status.heard_at, 1.0)


class Talking(Case):
    def test_send(self) -> None:
        """What is said goes out as it is; what could not go is counted."""
        stream = self.join()
        self.assertTrue(stream.send(rtp(1)))
        self.wires[0].works = False
        self.assertFalse(stream.send(rtp(2)))
        self.assertEqual(self.wires[0].sent, [rtp(1)])
        counts = stream.counts
        self.assertEqual((counts.sent, counts.sent_bytes, counts.without_path), (1, len(rtp(1)), 1))

    def test_listeners(self) -> None:
        """Who joined to listen only may not talk."""
        stream = self.join(talk=False)
        self.assertRaises(LocalError, stream.send, b"no")
        self.assertRaises(LocalError, stream.forward, Datagram(0, 1, 2, b"no"))

    def test_own_datagrams(self) -> None:
        """What we said and another machine returns is not heard, for two seconds."""
        stream = self.join()
        stream.send(b"hello")
        self.hear(b"hello", BERT)
        self.assertEqual((self.hears.payloads, stream.counts.own), ([], 1))
        self.clock.advance(3)
        self.hear(b"hello", BERT)
        self.assertEqual(self.hears.payloads, [b"hello"])

    def test_passing_on(self) -> None:
        """What others said elsewhere is passed on once, by name and by bytes."""
        stream = self.join()
        self.assertTrue(stream.forward(Datagram(0, 9, 1, rtp(1))))
        self.assertFalse(stream.forward(Datagram(0, 9, 1, rtp(1))))
        self.assertFalse(stream.forward(Datagram(0, 8, 44, rtp(1))))
        self.assertTrue(stream.forward(Datagram(0, 9, 2, rtp(2))))
        self.assertFalse(stream.forward(Datagram(0, stream.source, 3, rtp(3))))
        self.assertEqual((stream.counts.circular, stream.counts.passed_on, stream.counts.sent), (3, 2, 2))
        self.hear(rtp(2), BERT)
        self.assertEqual(self.hears.payloads, [])

    def test_not_back_where_it_came_from(self) -> None:
        """What was heard here is not passed on to here, under its name or another."""
        stream = self.join()
        self.hear(rtp(1))
        self.assertFalse(stream.forward(self.hears.datagrams[0]))
        self.clock.advance(60)
        self.assertFalse(stream.forward(self.hears.datagrams[0]))
        self.hear(rtp(2))
        self.assertFalse(stream.forward(Datagram(0, 77, 1, rtp(2))))
        self.assertEqual(self.wires[0].sent, [])

    def test_no_path(self) -> None:
        """Nothing is passed on while the path is closed, and it may be tried again later."""
        stream = self.join()
        self.wires[0].changed(False, "eth0 is down")
        self.assertFalse(stream.forward(Datagram(0, 9, 1, rtp(1))))
        self.wires[0].changed(True, "eth0 is back")
        self.assertTrue(stream.forward(Datagram(0, 9, 1, rtp(1))))
        self.assertEqual(stream.counts.without_path, 1)


class Hearing(Case):
    def test_once(self) -> None:
        """The same bytes by two ways are heard once, whoever brings them."""
        stream = self.join()
        self.hear(rtp(1))
        self.hear(rtp(1))
        self.hear(rtp(1), BERT)
        self.assertEqual((self.hears.payloads, stream.counts.duplicates), ([rtp(1)], 2))

    def test_names(self) -> None:
        """Senders have names of their own, and so have the talkers of one sender; RTP's numbers count."""
        self.join()
        for payload, sender in ((rtp(5), ANNA), (rtp(6), ANNA), (rtp(6, ssrc=8), ANNA), (rtp(9), BERT)):
            self.hear(payload, sender)
        heard = self.hears.datagrams
        self.assertEqual(len({each.source for each in heard}), 3)
        self.assertEqual(heard[0].source, heard[1].source)
        self.assertEqual([each.sequence & 0xFFFF for each in heard], [5, 6, 6, 9])

    def test_flags(self) -> None:
        """What RTP says of a burst is what a link would."""
        self.join()
        talk = Talk(flags=TalkFlag.EMERGENCY | TalkFlag.BURST_END).to_extension()
        self.hear(rtp(1, marker=True))
        self.hear(rtp(2))
        self.hear(rtp(3, extension=talk))
        self.hear(b"\x90\x6f" + bytes(11))
        self.assertEqual(
            [each.flags for each in self.hears.datagrams], [Flag.FIRST, 0, Flag.URGENT | Flag.LAST, 0]
        )

    def test_a_marker_on_everything(self) -> None:
        """Who marks every packet begins one burst, not one with each."""
        self.join()
        for number, marker in enumerate((True, True, True, False, True)):
            self.hear(rtp(number, marker=marker))
        self.assertEqual([each.flags for each in self.hears.datagrams], [Flag.FIRST, 0, 0, 0, Flag.FIRST])

    def test_not_listening(self) -> None:
        """Who only talks hears nothing, and it is counted."""
        stream = self.join(listen=False)
        self.hear(rtp(1))
        self.assertEqual((self.hears.payloads, stream.counts.not_wanted), ([], 1))

    def test_receivers_who_fail(self) -> None:
        """What a receiver raises is counted and told once."""
        stream = self.join()

        def fails(*words: object) -> None:
            raise RuntimeError("of its own")

        self.hears.datagram = self.hears.path = fails  # type: ignore[method-assign]
        self.hear(rtp(1))
        self.hear(rtp(2))
        self.wires[0].changed(False, "eth0 is down")
        self.assertEqual(stream.counts.receiver_errors, 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)


class Settings(SynchronousTestCase):
    def test_what_the_machine_adds(self) -> None:
        """A mission's own words go before those of the configuration."""
        said = MulticastSettings(interface="eth1", ttl=4, loopback=False)
        place = place_of_settings(said, GROUP, GROUP)
        self.assertEqual((place.interface, place.ttl, place.loopback, place.priority), ("eth1", 4, False, 3))
        place = place_of_settings(said, GROUP, GROUP, interface="wlan0", ttl=2, priority=1, sealed=True)
        self.assertEqual((place.interface, place.ttl, place.priority, place.sealed), ("wlan0", 2, 1, True))

    def test_names_of_interfaces(self) -> None:
        """What no interface can be called is refused when the file is read."""
        for wrong in ("a-name-with-over-15", "eth 0", "../etc", "eth0:1", "..", "eth\n0"):
            self.assertRaises(ValueError, MulticastSettings, interface=wrong)
        self.assertEqual(MulticastSettings(interface="wlp3s0.100").interface, "wlp3s0.100")
