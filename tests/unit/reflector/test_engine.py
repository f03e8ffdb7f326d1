"""One stream and its groups: what goes where, once; and nothing that goes round."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.media.rtp import Talk, TalkFlag
from ice.net.addresses import Address
from ice.reflector.engine import Terms
from ice.reflector.senders import Network
from ice.streams.interface import Datagram
from tests.unit.reflector.world import STREAM, Reflector, World, rtp, stream_says

RADIO, PHONE = "10.0.0.1", "10.0.0.2"
ONE, TWO = "10.0.0.10", "10.0.0.20"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()

    def mesh(self, stream: str = STREAM) -> list[bytes]:
        return [datagram.payload for datagram in self.world.on_mesh.get(stream, ())]

    def lan(self, name: str = "lan", but: tuple[str, ...] = (RADIO, PHONE)) -> list[bytes]:
        return [data for host, data in self.world.on_lan.get(name, ()) if host not in but]


class Passing(Case):
    def test_both_ways_untouched(self) -> None:
        """What a radio says is on the stream, what the stream says is in the group: the same bytes, once, counted."""
        here = Reflector(self.world, ONE, "lan")
        said = [rtp(n) for n in range(5)] + [b"hello", b"\x01", bytes(1_472), bytes(9_000), bytes(65_507)]
        for data in said:
            self.world.say("lan", RADIO, data)
        for number, data in enumerate(said):
            stream_says(self.world, Datagram(0, 5, number, b"far " + data))
        self.world.settle()
        self.assertEqual([data for data in self.mesh() if data[:4] != b"far "], said)
        self.assertEqual(self.lan(), [b"far " + data for data in said])
        port = here.port
        self.assertEqual((port.inward.packets, port.outward.packets), (10, 10))
        self.assertEqual(port.inward.bytes, sum(map(len, said)))
        self.assertEqual((dict(port.inward.dropped), dict(port.outward.dropped)), ({}, {}))
        self.assertEqual(here.watching.told, [])

    def test_names(self) -> None:
        """One source per RTP sender, numbers that go on by one; what cannot be read is named by host and port, RTCP among it."""
        Reflector(self.world, ONE, "lan")
        for n in range(3):
            self.world.say("lan", RADIO, rtp(n, ssrc=1))
            self.world.say("lan", RADIO, rtp(n, ssrc=2))
            self.world.say("lan", PHONE, rtp(n, ssrc=1, payload=b"another"))
        self.world.say("lan", RADIO, b"\x80\xc8\x00\x06" + bytes(24))
        self.world.say("lan", RADIO, rtp(3, ssrc=1))
        self.world.settle()
        by_source: dict[int, list[int]] = {}
        for datagram in self.world.on_mesh[STREAM]:
            by_source.setdefault(datagram.source, []).append(datagram.sequence)
        self.assertEqual(sorted(map(len, by_source.values())), [1, 3, 3, 4])
        for numbers in by_source.values():
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    def test_flags(self) -> None:
        """The marker, and what our own header extension says, are flags of the link."""
        Reflector(self.world, ONE, "lan")
        urgent = Talk(flags=TalkFlag.EMERGENCY | TalkFlag.BURST_END).to_extension()
        for data in (rtp(1, marker=True), rtp(2, extension=urgent), rtp(3), b"\x90" + rtp(4)[1:]):
            self.world.say("lan", RADIO, data)
        self.world.settle()
        flags = [datagram.flags for datagram in self.world.on_mesh[STREAM]]
        self.assertEqual(flags, [Flag.FIRST, Flag.URGENT | Flag.LAST, 0, 0])

    def test_no_way(self) -> None:
        """Without a path nothing is kept for later, and it is counted."""
        here = Reflector(self.world, ONE, "lan")
        here.up = False
        self.world.say("lan", RADIO, rtp(1))
        self.world.settle()
        self.assertEqual(here.port.inward.dropped, {"no-path": 1})
        here.port.sends = (lambda data: False,)
        stream_says(self.world, Datagram(0, 5, 1, rtp(2)))
        self.world.settle()
        self.assertEqual(here.port.outward.dropped, {"unsent": 1})

    def test_two_groups_of_one_stream(self) -> None:
        """What one group says is heard in the other too, and on the stream once; also without a path."""
        here = Reflector(self.world, ONE, "lan", "yard")
        self.world.say("lan", RADIO, rtp(1))
        self.world.say("yard", PHONE, rtp(2))
        here.up = True
        self.world.settle()
        self.assertEqual(self.lan("yard"), [rtp(1)])
        self.assertEqual(self.lan("lan"), [rtp(2)])
        self.assertEqual(self.mesh(), [rtp(1), rtp(2)])

    def test_directions(self) -> None:
        """In only, or out only: nothing goes the other way."""
        Reflector(self.world, ONE, "lan", speaks=False)
        Reflector(self.world, TWO, "yard", hears=False)
        self.world.say("lan", RADIO, rtp(1))
        self.world.say("yard", PHONE, rtp(2))
        stream_says(self.world, Datagram(0, 5, 1, rtp(3)))
        self.world.settle()
        self.assertEqual(sorted(self.mesh()), [rtp(1), rtp(3)])
        self.assertEqual((self.lan("lan"), sorted(self.lan("yard"))), ([], [rtp(1), rtp(3)]))

    def test_standby(self) -> None:
        """A standby sends nothing and knows everything: taking over, it goes on with the same names."""
        first = Reflector(self.world, ONE, "lan")
        self.world.wait(86_400 * 2)
        second = Reflector(self.world, TWO, "lan", active=False)
        for n in range(5):
            self.world.say("lan", RADIO, rtp(n))
            self.world.settle()
        first.reflection.active, second.reflection.active = False, True
        for n in range(5, 10):
            self.world.wait(0.02)
            self.world.say("lan", RADIO, rtp(n))
            stream_says(self.world, Datagram(0, 5, n, rtp(n, ssrc=9)))
            self.world.settle()
        names = [(d.source, d.sequence) for d in self.world.on_mesh[STREAM] if d.source != 5]
        self.assertEqual(names, [(names[0][0], names[0][1] + n) for n in range(10)])
        self.assertEqual(self.lan(), [rtp(n, ssrc=9) for n in range(5, 10)])
        self.assertEqual(first.watching.told + second.watching.told, [])


class Lists(Case):
    def network(self, text: str) -> Network:
        from ipaddress import ip_network

        return ip_network(text)

    def test_allow_and_deny(self) -> None:
        """Only those who are allowed and not denied are heard."""
        allow, deny = (self.network("10.0.0.0/24"),), (self.network("10.0.0.2/32"),)
        here = Reflector(self.world, ONE, "lan", allow=allow, deny=deny)
        for host in (RADIO, PHONE, "10.0.1.1", "fd00::1"):
            self.world.say("lan", host, rtp(1, payload=host.encode()))
        self.world.settle()
        self.assertEqual(self.mesh(), [rtp(1, payload=RADIO.encode())])
        self.assertEqual(here.port.inward.dropped, {"denied": 3})

    def test_flood(self) -> None:
        """One address that sends too much is held to its rate and named once a minute; others are not touched."""
        here = Reflector(self.world, ONE, "lan", packets_per_s=100.0)
        for n in range(10_000):
            self.world.wait(0.001)
            self.world.say("lan", RADIO, rtp(n))
            if n % 20 == 0:
                self.world.say("lan", PHONE, rtp(n))
            self.world.settle(1_000_000)
        hosts = here.port.senders.hosts
        self.assertEqual((hosts[PHONE].packets, hosts[PHONE].limited), (500, 0))
        passed = hosts[RADIO].packets - hosts[RADIO].limited
        self.assertTrue(1_000 <= passed <= 1_051, passed)
        self.assertEqual(here.port.inward.dropped["limited"], hosts[RADIO].limited)
        self.assertEqual(here.watching.told, [("flood", RADIO)])


class Twice(Case):
    """By mistake, or for the moment of a takeover, two reflectors do the same."""

    def test_one_name(self) -> None:
        """Two reflectors on one network give one packet one name: the stream has it once, the group never again."""
        Reflector(self.world, ONE, "lan")
        Reflector(self.world, TWO, "lan")
        for n in range(200):
            self.world.wait(0.02)
            self.world.say("lan", RADIO, rtp(n))
            self.world.settle()
        self.assertEqual(self.mesh(), [rtp(n) for n in range(200)])
        self.assertEqual(self.lan(), [])

    def test_one_name_after_days(self) -> None:
        """Also where one has known the talker since another day: after one packet they agree."""
        Reflector(self.world, ONE, "lan")
        for n in range(100):
            self.world.wait(2_000.0)  # never silent for an hour
            self.world.say("lan", RADIO, rtp(n))
            self.world.settle()
        Reflector(self.world, TWO, "lan")
        for n in range(100, 200):
            self.world.wait(0.02)
            self.world.say("lan", RADIO, rtp(n))
            self.world.settle()
        heard = self.mesh()
        self.assertLessEqual(len(heard), 201)
        self.assertEqual(list(dict.fromkeys(heard)), [rtp(n) for n in range(200)])
        self.assertEqual(self.lan(), [])

    def test_ciphertext_too(self) -> None:
        """What cannot be read is counted by each for itself; hearing each other they agree."""
        Reflector(self.world, ONE, "lan")
        for n in range(7):
            self.world.say("lan", RADIO, b"\x01 noise %d" % n)
            self.world.settle()
        Reflector(self.world, TWO, "lan")
        for n in range(7, 100):
            self.world.wait(0.02)
            self.world.say("lan", RADIO, b"\x01 noise %d" % n)
            self.world.settle()
        self.assertEqual(len(set(self.mesh())), 100)
        self.assertLessEqual(len(self.mesh()), 101)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.lists(st.sampled_from("lfLFw"), max_size=120))
    def test_no_storm(self, seed: int, script: list[str]) -> None:
        """However datagrams overtake each other, two reflectors carry each a few times at most, and each name is on each side once."""
        world = World(random=Random(seed), shuffle=True)
        reflectors = [Reflector(world, host, "lan") for host in (ONE, TWO)]
        said = 0
        for number, do in enumerate(script):
            if do in "lL":
                world.say("lan", RADIO, rtp(number))
                said += 1
            elif do in "fF":
                stream_says(world, Datagram(0, 5, number, rtp(number, ssrc=9)))
                said += 1
            if do in "LFw":
                world.wait(0.02)
                world.settle(100_000)
        world.settle(100_000)
        names = [(d.source, d.sequence) for d in world.on_mesh.get(STREAM, ())]
        self.assertEqual(len(set(names)), len(names))
        for reflector in reflectors:
            sent = [data for host, data in world.on_lan.get("lan", ()) if host == reflector.host]
            self.assertEqual(len(set(sent)), len(sent))
        self.assertLessEqual(world.carried, 12 * said)


class Circles(Case):
    """Two reflectors of different streams on one network, and a patch between the streams."""

    def patched(self) -> list[Reflector]:
        def across(to: str, link: object) -> Any:
            return lambda datagram: self.world.put(to, link, datagram)

        first = Reflector(self.world, ONE, "lan")
        second = Reflector(self.world, TWO, "lan", stream="yard")
        for here, there in ((STREAM, "yard"), ("yard", STREAM)):
            self.world.meshes[here].append(("patch", across(there, "patch")))
        return [first, second]

    def talk(self, seconds: float, ssrc: int = 7, begin: int = 0, pace_s: float = 0.02) -> None:
        for n in range(begin, begin + round(seconds / pace_s)):
            self.world.wait(pace_s)
            self.world.say("lan", RADIO, rtp(n, ssrc))
            self.world.settle(1_000_000)

    def test_what_a_radio_says(self) -> None:
        """Has one name, whichever stream it was brought to first: both streams have it once, and nothing comes back to the group."""
        first, second = self.patched()
        self.talk(3.0)
        said = [rtp(n) for n in range(150)]
        self.assertEqual((self.mesh(), self.mesh("yard"), self.lan()), (said, said, []))
        self.assertEqual(first.watching.told + second.watching.told, [])

    def test_noticed_and_dead(self) -> None:
        """What comes by one stream goes round once, is noticed within a second, and a rule pauses with the reason; after the pause it is open again."""
        first, second = self.patched()
        far = 0
        while not first.watching.told and far < 50:
            self.world.wait(0.02)
            stream_says(self.world, Datagram(0, 5, far, rtp(far, ssrc=9)))
            self.world.settle(1_000_000)
            far += 1
        [(kind, why)] = first.watching.told
        self.assertEqual((kind, second.watching.told), ("paused", []))
        self.assertIn("another reflector hears this group: what we send comes back from the stream", why)
        self.assertLessEqual(self.world.carried, 10 * far)
        before = self.lan()
        for n in range(far, far + 20):
            self.world.wait(0.02)
            stream_says(self.world, Datagram(0, 5, n, rtp(n, ssrc=9)))
            self.world.settle(1_000_000)
        self.assertEqual(self.lan()[len(before) :], [rtp(n, ssrc=9) for n in range(far, far + 20)])
        self.assertEqual(first.port.outward.dropped["paused"], 20)
        self.world.wait(5.0)
        first.reflection.tick(self.world.now)
        self.assertEqual(first.watching.told[-1], ("resumed", ""))

    def test_data_never_counts(self) -> None:
        """Datagrams without an RTP header go round as little, and are no reason for silence."""
        first, second = self.patched()
        for n in range(500):
            self.world.wait(0.005)
            self.world.say("lan", RADIO, b"position %d" % n)
            self.world.settle(1_000_000)
        self.assertEqual(first.watching.told + second.watching.told, [])
        self.assertEqual(self.mesh(), [b"position %d" % n for n in range(500)])

    def test_said_twice(self) -> None:
        """Who says the same bytes again under the next number, as ours do at the end of a burst, is heard once, and is no sign of another reflector."""
        here = Reflector(self.world, ONE, "lan")
        for n in range(3):
            stream_says(self.world, Datagram(0, 5, n, rtp(7, ssrc=9)))
        self.world.settle()
        self.assertEqual((self.lan(), here.port.outward.dropped), ([rtp(7, ssrc=9)], {"duplicate": 2}))
        self.assertEqual((here.port.circle.returns, here.watching.told), (0, []))
        stream_says(self.world, Datagram(0, 6, 0, rtp(7, ssrc=9)))
        self.world.settle()
        self.assertEqual((here.port.outward.dropped["returned"], here.port.circle.returns), (1, 1))

    def test_an_echo_is_no_circle(self) -> None:
        """A host that sends back all it hears, however busy, is dropped and silences nobody."""
        here = Reflector(self.world, ONE, "lan")
        echo = "10.0.0.66"
        self.world.lans["lan"].append((echo, lambda data, sender: self.world.say("lan", echo, data)))
        for n in range(2_000):
            self.world.wait(0.002)
            self.world.say("lan", RADIO, rtp(n))
            stream_says(self.world, Datagram(0, 5, n, rtp(n, ssrc=9)))
            self.world.settle(1_000_000)
        self.assertEqual(here.watching.told, [])
        self.assertEqual(here.port.inward.dropped["returned"], 4_000)
        self.assertEqual(here.port.inward.packets, 2_000)
        self.assertEqual(here.port.circle.witness, echo)

    def test_an_echo_on_the_stream_is_no_circle(self) -> None:
        """Nor is somebody on the stream who says again what he hears, under his own name."""
        here = Reflector(self.world, ONE, "lan")

        def echo(datagram: Datagram) -> None:
            if datagram.source != 77:
                self.world.put(STREAM, "echo", Datagram(0, 77, datagram.sequence, datagram.payload))

        self.world.meshes[STREAM].append(("echo", echo))
        self.talk(3.0)
        self.assertEqual(here.watching.told, [])
        self.assertEqual(self.lan(), [])
        self.assertEqual(here.port.outward.dropped["returned"], 150)

    def test_another_reflector_takes_us_for_a_radio(self) -> None:
        """One that hears our group before the stream brings it everything twice: the certain sign, and enough alone."""
        here = Reflector(self.world, ONE, "lan")
        other = Reflector(
            World(unix=self.world.unix), TWO, "lan"
        )  # it computes the names that such a one gives
        for n in range(40):
            self.world.wait(0.02)
            data = rtp(n, ssrc=9)
            stream_says(self.world, Datagram(0, 5, n, data))
            self.world.settle()
            other.port.heard_many([(data, Address(ONE, 40_000))], self.world.now)
            [datagram] = other.world.on_mesh[STREAM][n:]
            stream_says(self.world, datagram)
            self.world.settle()
        self.assertEqual([kind for kind, _ in here.watching.told], ["paused"])
        self.assertIn("another reflector hears this group", here.watching.told[0][1])


class Changes(Case):
    def test_a_rule_that_stays(self) -> None:
        """Keeps its counters and names when others come and go."""
        here = Reflector(self.world, ONE, "lan")
        self.world.say("lan", RADIO, rtp(1))
        self.world.settle()
        port = here.port
        more = Terms("239.0.0.9:1")
        ports = here.reflection.open([(more, None), (port.terms, None)], self.world.now)
        self.assertIs(ports[1], port)
        self.world.say("lan", RADIO, rtp(2))
        self.world.settle()
        self.assertEqual(port.inward.packets, 2)
        self.assertEqual(here.reflection.open([(more, None)], self.world.now), ports[:1])

    def test_nobody_listens(self) -> None:
        """What nobody in the group wants to hear is not sent there."""
        here = Reflector(self.world, ONE, "lan")
        here.port.wanted = False
        self.assertFalse(here.reflection.wanted)
        stream_says(self.world, Datagram(0, 5, 1, rtp(1)))
        self.world.settle()
        self.assertEqual((self.lan(), dict(here.port.outward.dropped)), ([], {"nobody-listens": 1}))
