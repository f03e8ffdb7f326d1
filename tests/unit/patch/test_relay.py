"""Relay: as it was said, to everybody else, once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.patch.channel import Channel
from ice.patch.keys import Lock, Locks
from ice.patch.plan import Mode
from ice.patch.probe import probe, read_probe
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from ice.streams.interface import Datagram
from tests.unit.patch.lab import WALL, Air, Station, patched, power, tone

KEYS = [derive(f"{number:02x}" * 32) for number in range(3)]
GCM = [Keyring(Cipher.GCM, key) for key in KEYS]
CBC = [Keyring(Cipher.CBC, key) for key in KEYS]


class Plain(SynchronousTestCase):
    """Streams without keys."""

    def test_as_it_was_said(self) -> None:
        """The same bytes under the same names reach every other stream; nothing comes back; flags stay."""
        air = Air()
        patched(air, Mode.RELAY, ("a", "b", "c"))
        ada, eve, bob, cat = (Station(air, stream, alias=stream) for stream in "aabc")
        ada.talk(tone(440, 0.5), 0.1)
        air.run(2.0)
        said = [(each.flags, each.source, each.sequence, each.payload) for _, each, _ in eve.datagrams]
        self.assertEqual(len(said), 28)  # 26 frames and two copies of the last
        for station in (bob, cat):
            heard = [
                (each.flags, each.source, each.sequence, each.payload) for _, each, _ in station.datagrams
            ]
            self.assertEqual(heard, said)
        self.assertEqual(ada.datagrams, [])

    def test_sound(self) -> None:
        """What B hears is the tone that A said, with its name and its borders."""
        air = Air()
        patched(air, Mode.RELAY, ("a", "b"))
        ada, bob = Station(air, "a", alias="Ada", priority=7), Station(air, "b")
        bob.listen(0.0, 2.0)
        ada.talk(tone(440, 1.0), 0.1)
        air.run(2.0)
        self.assertGreater(power(bob.pcm[9_600:52_800], 440), 0.1)
        began, ended = bob.events[0], bob.events[-1]
        self.assertEqual((began.alias, began.priority), ("Ada", 7))  # type: ignore[union-attr]
        self.assertEqual(ended.why, "mark")  # type: ignore[union-attr]

    def test_what_is_no_rtp_passes(self) -> None:
        """A stream of another kind is joined all the same, and data holds no floor."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"))
        ada, bob = Station(air, "a"), Station(air, "b")
        air.send(ada.party, b"\x00\x01 anything", 0)
        air.send(ada.party, b'{"presence": 1}', int(Flag.DATA))
        air.run(1.0)
        self.assertEqual(
            [each.payload for _, each, _ in bob.datagrams], [b"\x00\x01 anything", b'{"presence": 1}']
        )
        self.assertEqual(server.engine.status(1.0).talkers, ())

    def test_unknown_stream(self) -> None:
        """A datagram of a stream that is not in the patch is dropped and counted."""
        engine = patched(Air(), Mode.RELAY, ("a", "b")).engine
        self.assertEqual(engine.datagram("z", Datagram(0, 1, 1, b"x"), 0.0, WALL), [])
        self.assertEqual(engine.refused["unknown-stream"], 1)

    def test_our_own(self) -> None:
        """What we said on A, brought to B by somebody else, goes nowhere."""
        server = patched(Air(), Mode.RELAY, ("a", "b", "c"))
        datagram = Datagram(0, server.parties["a"].source, 5, b"x")
        self.assertEqual(server.engine.datagram("b", datagram, 0.0, WALL), [])
        self.assertEqual(server.engine.status(0.0).members[1].refused, {"own": 1})

    def test_a_path_that_is_down(self) -> None:
        """A stream without a path is left out until it has one; status says so."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b", "c"))
        server.engine.path("b", False, "no Rallypoint answers")
        outs = server.engine.datagram("a", Datagram(0, 1, 0, b"one"), 0.0, WALL)
        self.assertEqual([out.streams for out in outs], [("c",)])
        self.assertEqual(server.engine.status(0.0).members[1].why, "no Rallypoint answers")
        self.assertEqual(server.engine.status(0.0).members[1].state, 3)
        server.engine.path("b", True, "joined")
        outs = server.engine.datagram("a", Datagram(0, 1, 1, b"two"), 0.0, WALL)
        self.assertEqual([out.streams for out in outs], [("b", "c")])
        self.assertEqual([member.tx.packets for member in server.engine.status(0.0).members], [0, 1, 2])

    def test_standing_by(self) -> None:
        """A server that stands by is silent, and goes on amid the burst when it takes over; nobody hears a packet twice."""
        air = Air()
        first, second = (patched(air, Mode.RELAY, ("a", "b"), active=active) for active in (True, False))
        ada, bob = Station(air, "a"), Station(air, "b")
        ada.talk(tone(440, 1.0), 0.0)

        def takeover() -> None:
            first.carry(first.engine.stand_by(air.now, WALL + air.now))
            second.engine.take_over()

        air.at(0.5, takeover)
        air.run(2.0)
        self.assertEqual([each.sequence for _, each, _ in bob.datagrams], list(range(53)))

    def test_two_actives(self) -> None:
        """Two active servers of a group for a moment: everybody hears everything once."""
        air = Air(delay_s=(0.001, 0.02))
        for _ in range(2):
            patched(air, Mode.RELAY, ("a", "b"))
        ada, bob, eve = Station(air, "a"), Station(air, "b"), Station(air, "a")
        ada.talk(tone(440, 0.5), 0.0)
        air.run(1.0)
        for station in (bob, eve):
            self.assertEqual(sorted(each.sequence for _, each, _ in station.datagrams), list(range(28)))


class Keyed(SynchronousTestCase):
    """Streams with keys."""

    def keyed(self, air: Air, **rings: Keyring | None) -> dict[str, Station]:
        channels = {name: Channel(name, keyring=ring) for name, ring in rings.items()}
        patched(air, Mode.RELAY, tuple(rings), channels)
        return {name: Station(air, name, lock=Lock(name, ring)) for name, ring in rings.items()}

    def test_each_with_its_own(self) -> None:
        """GCM, CBC and clear: all hear what each says, and of a keyed stream nothing goes out in clear but where the group is clear."""
        for talker in "abcd":
            air = Air()
            stations = self.keyed(air, a=GCM[0], b=CBC[1], c=GCM[2], d=None)
            stations[talker].talk(tone(440, 0.1), 0.0)
            air.run(1.0)
            said = [station.datagrams for name, station in stations.items() if name != talker]
            self.assertEqual([len(each) for each in said], [8, 8, 8])
            clear = [payload for _, _, payload in said[0]]
            for each in said:
                self.assertEqual([payload for _, _, payload in each], clear)
            self.assertEqual([station.unreadable for station in stations.values()], [0, 0, 0, 0])
            for name, station in stations.items():
                for _, datagram, payload in station.datagrams:
                    self.assertEqual(datagram.payload == payload, name == "d")

    def test_the_same_bytes_where_they_may_be(self) -> None:
        """CBC streams of one key get the ciphertext as it came; GCM ones never, for it is bound to its stream."""
        for ring, same in ((CBC[0], True), (GCM[0], False)):
            air = Air()
            stations = self.keyed(air, a=ring, b=ring)
            eve = Station(air, "a", lock=Lock("a", ring))
            stations["a"].talk(tone(440, 0.1), 0.0)
            air.run(1.0)
            at_a = [each.payload for _, each, _ in eve.datagrams]
            at_b = [each.payload for _, each, _ in stations["b"].datagrams]
            self.assertEqual((len(at_b), at_a == at_b), (8, same))

    def test_a_wrong_key(self) -> None:
        """A member whose key is wrong here is silent, alone, and shown."""
        air = Air()
        channels = {name: Channel(name, keyring=GCM[0]) for name in "abc"}
        server = patched(air, Mode.RELAY, ("a", "b", "c"), channels)
        ada, bob = (Station(air, name, lock=Lock(name, GCM[0])) for name in "ab")
        cat = Station(air, "c", lock=Lock("c", GCM[1]))
        ada.talk(tone(440, 0.1), 0.0)
        cat.talk(tone(440, 0.1), 1.0)
        air.run(2.0)
        self.assertEqual((len(ada.datagrams), len(bob.datagrams), len(cat.datagrams)), (0, 8, 0))
        self.assertEqual(server.engine.status(2.0).members[2].refused, {"tag": 8})
        self.assertEqual(server.engine.status(2.0).members[2].rx.errors, 8)

    def test_no_key(self) -> None:
        """A group whose key is not here is neither heard nor spoken to: nothing goes out in clear by mistake."""
        air = Air()
        channels = {"a": Channel("a", keyring=GCM[0]), "c": Channel("c", shut=True)}
        server = patched(air, Mode.RELAY, ("a", "b", "c"), channels)
        ada, bob, cat = Station(air, "a", lock=Lock("a", GCM[0])), Station(air, "b"), Station(air, "c")
        ada.talk(tone(440, 0.1), 0.0)
        cat.talk(tone(440, 0.1), 1.0)
        air.run(2.0)
        self.assertEqual((len(ada.datagrams), len(bob.datagrams), len(cat.datagrams)), (0, 8, 0))
        status = server.engine.status(2.0).members[2]
        self.assertEqual((status.state, status.refused), (-1, {"no-key": 8}))
        self.assertIn("its key is not here", status.why)

    def test_another_key(self) -> None:
        """Where one of two streams of one key gets another, the ciphertext is no longer passed as it came."""
        engine = patched(
            Air(), Mode.RELAY, ("a", "b"), {name: Channel(name, keyring=CBC[0]) for name in "ab"}
        ).engine
        opener = Lock("b", CBC[1])
        for sequence, ring in ((0, CBC[0]), (1, CBC[1])):
            engine.rekey("b", ring)
            wire = Lock("a", CBC[0]).seal(b'{"data": 1}', WALL)
            outs = engine.datagram("a", Datagram(int(Flag.DATA), 9, sequence, wire), 0.0, WALL)
            self.assertEqual(outs[0].datagram.payload == wire, ring == CBC[0])  # type: ignore[union-attr]
        self.assertEqual(opener.open(outs[0].datagram.payload, WALL), b'{"data": 1}')  # type: ignore[union-attr]

    def test_a_replay(self) -> None:
        """A packet that is played back is refused, also after the patch was off and on."""
        locks = Locks()
        channels = {name: Channel(name, keyring=GCM[0]) for name in "ab"}
        wire = Lock("a", GCM[0]).seal(b'{"data": 1}', WALL)
        for count, sequence in ((1, 0), (0, 1)):
            engine = patched(Air(), Mode.RELAY, ("a", "b"), channels, locks=locks).engine
            outs = engine.datagram("a", Datagram(0, 9, sequence, wire), 0.0, WALL)
            self.assertEqual(len(outs), count)
        self.assertEqual(engine.status(0.0).members[0].refused, {"replay": 1})


class FloorAcross(SynchronousTestCase):
    """Two who talk on two streams at once."""

    def heard_by(self, station: Station, since: float) -> set[int]:
        return {
            packet.ssrc
            for (at, _, _), packet in zip(station.datagrams, station.packets, strict=True)
            if at >= since
        }

    def test_equals(self) -> None:
        """Of equals the lower SSRC crosses, whoever was first; the other is held back until he has ended."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b", "c"))
        ada, bob, cat = Station(air, "a", ssrc=50), Station(air, "b", ssrc=20), Station(air, "c")
        ada.talk(tone(440, 2.0), 0.0)
        bob.talk(tone(550, 1.0), 0.5)
        air.run(4.0)
        at = {
            ssrc: [t for (t, _, _), p in zip(cat.datagrams, cat.packets, strict=True) if p.ssrc == ssrc]
            for ssrc in (50, 20)
        }
        self.assertEqual(len(at[20]), 53)
        self.assertFalse([t for t in at[50] if 0.51 < t < 1.5])
        self.assertTrue([t for t in at[50] if t > 1.6])
        refused = server.engine.status(4.0).members[0].refused
        self.assertEqual(set(refused), {"floor"})

    def test_ranks(self) -> None:
        """A higher priority crosses, and an emergency before that; the end of a burst crosses all the same."""
        for rank in ({"priority": 5}, {"priority": 0, "emergency": True}):
            air = Air()
            patched(air, Mode.RELAY, ("a", "b", "c"))
            ada = Station(air, "a", ssrc=1, priority=4 if "emergency" not in rank else 200)
            bob, cat = Station(air, "b", ssrc=9, **rank), Station(air, "c")  # type: ignore[arg-type]
            ada.talk(tone(440, 1.0), 0.0)
            bob.talk(tone(550, 2.0), 0.5)
            air.run(4.0)
            ssrcs = [(round(t, 2), p.ssrc) for (t, _, _), p in zip(cat.datagrams, cat.packets, strict=True)]
            late = [t for t, ssrc in ssrcs if ssrc == 1 and t > 0.51]
            self.assertEqual(late, [1.0, 1.02, 1.04])  # the end, and its copies
            self.assertEqual(sum(ssrc == 9 for _, ssrc in ssrcs), 103)

    def test_a_stuck_key(self) -> None:
        """Who talks for longer than a stream allows crosses no more, and does not keep others from it."""
        for full_duplex in (False, True):
            air = Air()
            channels = {"b": Channel("b", max_rx_s=1.0, full_duplex=full_duplex)}
            patched(air, Mode.RELAY, ("a", "b", "c"), channels, full_duplex=full_duplex)
            ada, bob, cat = Station(air, "a", ssrc=1), Station(air, "b", ssrc=2), Station(air, "c")
            ada.talk(tone(440, 4.0), 0.0)
            bob.talk(tone(550, 0.5), 2.0)
            air.run(5.0)
            late = Counter(
                packet.ssrc
                for (at, each, _), packet in zip(cat.datagrams, cat.packets, strict=True)
                if at > 1.15 and not each.flags & Flag.LAST
            )
            self.assertEqual(late, {2: 25})

    def test_full_duplex(self) -> None:
        """Where everybody may talk at once, everybody crosses."""
        air = Air()
        patched(air, Mode.RELAY, ("a", "b", "c"), full_duplex=True)
        ada, bob, cat = Station(air, "a", ssrc=1), Station(air, "b", ssrc=2), Station(air, "c")
        ada.talk(tone(440, 1.0), 0.0)
        bob.talk(tone(550, 1.0), 0.0)
        air.run(2.0)
        self.assertEqual(Counter(packet.ssrc for packet in cat.packets), {1: 53, 2: 53})

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.integers(0, 60),
                st.integers(5, 60),
                st.integers(0, 2),
                st.booleans(),
            ),
            min_size=1,
            max_size=6,
        ),
        st.integers(0, 1_000),
    )
    def test_one_at_a_time(self, talks: list[tuple[str, int, int, int, bool]], seed: int) -> None:
        """Whoever talks when and how urgently, stubborn stations all: outside 100 ms round a change one voice crosses at a time, and somebody always does."""
        air = Air(seed=seed)
        patched(air, Mode.RELAY, ("a", "b", "c", "z"))
        ears = Station(air, "z")
        for number, (stream, start, frames, priority, emergency) in enumerate(talks):
            station = Station(air, stream, ssrc=seed * 10 + number, priority=priority, emergency=emergency)
            station.talk(np.ones(960 * frames, np.int16), start * 0.02)
        air.run(5.0)
        sound = [
            (at, packet.ssrc)
            for (at, datagram, _), packet in zip(ears.datagrams, ears.packets, strict=True)
            if not datagram.flags & Flag.LAST
        ]
        for start in np.arange(0.0, 2.5, 0.02):
            talking = any(
                s * 0.02 <= start - 0.02 and start + 0.08 < (s + f) * 0.02 for _, s, f, _, _ in talks
            )
            soon = {ssrc for at, ssrc in sound if start <= at < start + 0.08}
            self.assertTrue(soon or not talking, (start, talks))
            borders = [place * 0.02 for _, s, f, _, _ in talks for place in (s, s + f)]
            if all(abs(border - start) > 0.08 for border in borders):
                self.assertLessEqual(len({ssrc for at, ssrc in sound if start <= at < start + 0.02}), 1)


class Circles(SynchronousTestCase):
    """What would go round for ever."""

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from((2, 3)), st.integers(0, 1_000), st.sampled_from((0.0, 0.1)))
    def test_dies_out(self, count: int, seed: int, loss: float) -> None:
        """Two or three patches of different groups in a circle: everybody hears each datagram once, and all is quiet within a second."""
        air = Air(delay_s=(0.001, 0.03), loss=loss, seed=seed)
        streams = "abc"[:count]
        for number in range(count):
            pair = (streams[number], streams[(number + 1) % count])
            patched(air, Mode.RELAY, pair, id=f"p{number}", group=f"g{number}")
        ears = [Station(air, stream) for stream in streams]
        talker = Station(air, "a")
        talker.talk(tone(440, 0.4), 0.0)
        air.run(5.0)
        for ear in ears:
            names = [(each.source, each.sequence) for _, each, _ in ear.datagrams]
            self.assertEqual(len(names), len(set(names)))
            if not loss:
                self.assertEqual(len(names), 23)
        self.assertLess(max(air.sent_at), 0.44 + 1.0)
        self.assertLessEqual(air.sent, 23 * 2 * count + 4 * count * count)
        self.assertTrue(loss or all(server.loops for server in air.servers))
        self.assertEqual(talker.datagrams, [])

    def test_is_named(self) -> None:
        """Two groups that join the same streams are told of within a second of speech, each with the other's identity, once a minute."""
        air = Air(delay_s=(0.001, 0.01))
        servers = [patched(air, Mode.RELAY, ("a", "b"), id=f"p{n}", group=f"g{n}") for n in range(2)]
        talker = Station(air, "a")
        talker.talk(tone(440, 3.0), 0.0)
        air.run(1.2)
        loops = servers[0].loops + servers[1].loops
        self.assertEqual({loop.how for loop in loops}, {"own"})
        self.assertIn("switch one of the two off", loops[0].text)
        self.assertIn(servers[1].engine.identity.hex(), servers[0].loops[-1].through)
        air.run(5.0)
        self.assertEqual(len(servers[0].loops), 2)  # once for each stream

    def test_a_probe(self) -> None:
        """What a patch says to hear whether it comes back: once in ten seconds of speech, on the wire as documented, known again under any name."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"))
        ada, bob = Station(air, "a"), Station(air, "b")
        ada.talk(tone(440, 12.0), 0.0)
        air.run(13.0)
        self.assertEqual((ada.probes, bob.probes), (2, 2))
        payload = probe(server.engine.identity, server.engine._mark)
        self.assertEqual(len(payload), 68)
        self.assertEqual(read_probe(payload), (server.engine.identity, server.engine._mark))
        for size in range(len(payload)):
            self.assertIsNone(read_probe(payload[:size]))
        for number, flags in enumerate((int(Flag.DATA), 0)):
            self.assertEqual(server.engine.datagram("b", Datagram(flags, 3, number, payload), 13.0, WALL), [])
        self.assertEqual([loop.how for loop in server.engine.loops()], ["own"])

    def test_renamed(self) -> None:
        """A bridge of another make that gives a talker new names on a second stream is held off, and named."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"))
        ada, bob = Station(air, "a"), Station(air, "b")
        foreign = air.join("b", lambda datagram, now: None)
        air.join("a", lambda datagram, now: air.send(foreign, datagram.payload, datagram.flags))
        ada.talk(tone(440, 1.0), 0.0)
        air.run(2.0)
        self.assertEqual(len(ada.datagrams), 0)
        self.assertEqual(len(bob.datagrams), 2 * 53)
        self.assertEqual({loop.how for loop in server.loops}, {"own", "twin"})
