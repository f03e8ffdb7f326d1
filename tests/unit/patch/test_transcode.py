"""Transcode: each talker anew for each stream, and still himself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.media.dtmf import Dialer
from ice.media.payload_map import PayloadMap
from ice.media.playout import BurstBegan, BurstEnded, DigitPressed
from ice.media.rtp import Packet, Talk, TalkFlag
from ice.patch.channel import Channel, Voice
from ice.patch.keys import Lock
from ice.patch.plan import Mode
from ice.patch.transcode import TALKERS_MAX
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from ice.streams.interface import Datagram
from tests.unit.patch.lab import L16, WALL, Air, Station, patched, power, tone

PCMU = Voice(codec="pcmu", framing_ms=40)
OPUS = Voice(codec="opus", bitrate=24_000, framing_ms=60)
VOICES = {"a": L16, "b": PCMU, "c": OPUS}
CHANNELS = {name: Channel(name, voice=voice) for name, voice in VOICES.items()}


class Anew(SynchronousTestCase):
    def test_each_in_its_own_voice(self) -> None:
        """L16 in frames of 20 ms reaches B as G.711 of 40 ms and C as Opus of 60 ms: the tone, the name, the rank, the SSRC."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b", "c"), CHANNELS)
        ada = Station(air, "a", alias="Ada", priority=7, emergency=True, ssrc=77)
        ears = {name: Station(air, name, voice=VOICES[name]) for name in "bc"}
        for ear in ears.values():
            ear.listen(0.0, 2.5)
        ada.talk(tone(440, 1.0), 0.1)
        air.run(3.0)
        for name, payload_type, octets in (("b", 0, 320), ("c", 118, 0)):
            ear = ears[name]
            self.assertEqual({packet.payload_type for packet in ear.packets}, {payload_type})
            self.assertEqual({packet.ssrc for packet in ear.packets}, {77})
            if octets:
                self.assertEqual({len(packet.payload) for packet in ear.packets}, {octets})
            self.assertGreater(power(ear.pcm[14_400:52_800], 440), 0.1)
            self.assertEqual((ear.talks[0].alias, ear.talks[0].priority), ("Ada", 7))
            self.assertTrue(all(each.flags & Flag.URGENT for _, each, _ in ear.datagrams))
            self.assertEqual({each.source for _, each, _ in ear.datagrams}, {server.parties[name].source})

    def test_borders(self) -> None:
        """Each burst begins with a mark and ends with one, thrice, on every side."""
        air = Air()
        patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada, bob = Station(air, "a"), Station(air, "b", voice=PCMU)
        bob.listen(0.0, 4.0)
        for at in (0.1, 1.5):
            ada.talk(tone(440, 0.5), at)
        air.run(4.0)
        marks = [
            (bool(t.flags & TalkFlag.BURST_START), bool(t.flags & TalkFlag.BURST_END)) for t in bob.talks
        ]
        self.assertEqual(marks.count((True, False)), 2)
        self.assertEqual(marks.count((False, True)), 6)
        self.assertEqual([type(event) for event in bob.events], [BurstBegan, BurstEnded] * 2)
        self.assertEqual({event.why for event in bob.events if isinstance(event, BurstEnded)}, {"mark"})
        lasts = [at for at, each, _ in bob.datagrams if each.flags & Flag.LAST]
        self.assertAlmostEqual(lasts[2] - lasts[0], 0.04, 2)

    def test_a_lost_end(self) -> None:
        """Where a talker's end is lost, the burst ends after the silence, marked."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada, bob = Station(air, "a"), Station(air, "b", voice=PCMU)
        hear = server.parties["a"].hear
        server.parties["a"].hear = lambda each, now: None if each.flags & Flag.LAST else hear(each, now)
        ada.talk(tone(440, 0.5), 0.0)
        air.run(3.0)
        self.assertTrue(bob.datagrams[-1][1].flags & Flag.LAST)
        self.assertLess(bob.datagrams[-1][0], 1.3)

    def test_losses_are_made_up(self) -> None:
        """What is lost on A is no loss on B: what goes out is whole and in order."""
        air = Air(loss=0.15, delay_s=(0.002, 0.03), seed=4)
        server = patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada = Station(air, "a")
        said: list[int] = []
        send = air.send
        air.send = (
            lambda party, payload, flags: (  # type: ignore[method-assign]
                said.append(int.from_bytes(payload[2:4], "big"))  # type: ignore[func-returns-value]
                if party is server.parties["b"] and not flags & Flag.DATA
                else None,
                send(party, payload, flags),
            )
        )
        ada.talk(tone(440, 2.0), 0.0)
        air.run(4.0)
        steps = np.diff(np.array(said, np.int64)) & 0xFFFF
        self.assertEqual(set(steps[:-2].tolist()), {1})
        self.assertGreaterEqual(len(said), 50)

    def test_shared_work(self) -> None:
        """Streams of one voice get the same bytes, in one piece."""
        air = Air()
        patched(air, Mode.TRANSCODE, ("a", "b", "c", "d"), {"a": CHANNELS["a"]}, voice=OPUS)
        ada = Station(air, "a")
        ears = [Station(air, name) for name in "bcd"]
        ada.talk(tone(440, 0.3), 0.0)
        air.run(2.0)
        first, *others = [[payload for _, _, payload in ear.datagrams] for ear in ears]
        self.assertGreater(len(first), 5)
        self.assertEqual(others, [first, first])

    def test_keys(self) -> None:
        """Each stream under its key."""
        rings = {
            name: Keyring(cipher, derive(name.encode().hex() * 16))
            for name, cipher in (("a", Cipher.GCM), ("b", Cipher.CBC))
        }
        air = Air()
        patched(
            air,
            Mode.TRANSCODE,
            ("a", "b", "c"),
            {name: Channel(name, voice=VOICES[name], keyring=rings.get(name)) for name in "abc"},
        )
        ada, bob = (
            Station(air, "a", lock=Lock("a", rings["a"])),
            Station(air, "b", voice=PCMU, lock=Lock("b", rings["b"])),
        )
        cat = Station(air, "c", voice=OPUS)
        ada.talk(tone(440, 0.5), 0.0)
        air.run(2.0)
        self.assertTrue(len(bob.datagrams) > 10 and len(cat.datagrams) > 8)
        self.assertEqual((bob.unreadable, cat.unreadable), (0, 0))

    def test_telephone_keys(self) -> None:
        """A key pressed on A is pressed on B, under B's own number for keys."""
        voice = Voice(codec="pcmu", payload_types=PayloadMap.of(telephone_event=98))
        air = Air()
        patched(air, Mode.TRANSCODE, ("a", "b"), {"a": CHANNELS["a"], "b": Channel("b", voice=voice)})
        ada, bob = Station(air, "a"), Station(air, "b", voice=voice)
        bob.listen(0.0, 2.0)
        dialer = Dialer(48_000)
        ada.sender.press(1.5)
        for sending in ada.sender.pcm(np.zeros(960, np.int16)):
            air.at(1.5, lambda each=sending: ada._send(each))  # type: ignore[misc]
        dialer.press("5", 1.5, ada.sender.timestamp)
        while dialer.deadline is not None:
            when = dialer.deadline
            for event in dialer.due(when):
                sending = ada.sender.event(event, when)
                air.at(when, lambda each=sending: ada._send(each))  # type: ignore[misc]
        air.run(2.5)
        self.assertEqual([event.digit for event in bob.events if isinstance(event, DigitPressed)], ["5"])
        self.assertIn(98, {packet.payload_type for packet in bob.packets})

    def test_one_packet(self) -> None:
        """A burst so short that it is over before its sound is due reaches the others all the same."""
        air = Air()
        patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada, bob = Station(air, "a"), Station(air, "b", voice=PCMU)
        ada.talk(tone(440, 0.01), 0.0)
        air.run(2.0)
        self.assertTrue(bob.datagrams[0][1].flags & Flag.FIRST)
        self.assertTrue(bob.datagrams[-1][1].flags & Flag.LAST)

    def test_what_is_no_sound(self) -> None:
        """Data passes as it is; noise does not."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada, bob = Station(air, "a"), Station(air, "b", voice=PCMU)
        air.send(ada.party, b"{}", int(Flag.DATA))
        air.send(ada.party, b"noise", 0)
        air.run(1.0)
        self.assertEqual([each.payload for _, each, _ in bob.datagrams], [b"{}"])
        self.assertEqual(server.engine.status(1.0).members[0].refused, {"not-rtp": 1})

    def test_switched_off(self) -> None:
        """A patch that is switched off amid speech ends its bursts at once, and has nothing left to do."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"), CHANNELS)
        ada, bob = Station(air, "a"), Station(air, "b", voice=PCMU)
        ada.talk(tone(440, 1.0), 0.0)
        air.run(0.5)
        air.servers.remove(server)
        server.carry(server.engine.close(0.5, WALL + 0.5))
        self.assertEqual(server.engine.deadline, float("inf"))
        server.parties["a"].hear = lambda each, now: None
        air.run(2.0)
        self.assertTrue(bob.datagrams[-1][1].flags & Flag.LAST)
        self.assertLess(bob.datagrams[-1][0], 0.52)


class FloorAcross(SynchronousTestCase):
    def test_outranked(self) -> None:
        """Who is outranked amid his burst ends there, marked; of the other nothing is lost."""
        air = Air()
        patched(air, Mode.TRANSCODE, ("a", "b", "c"))
        ada, bob, cat = Station(air, "a", ssrc=1), Station(air, "b", ssrc=2, priority=9), Station(air, "c")
        ada.talk(tone(440, 2.0), 0.0)
        bob.talk(tone(550, 0.5), 0.5)
        air.run(4.0)
        rows = [
            (at, packet.ssrc, bool(datagram.flags & Flag.LAST))
            for (at, datagram, _), packet in zip(cat.datagrams, cat.packets, strict=True)
        ]
        ends = [at for at, ssrc, last in rows if ssrc == 1 and last]
        self.assertTrue(0.5 < ends[0] < 0.56)
        self.assertFalse([at for at, ssrc, last in rows if ssrc == 1 and not last and 0.56 < at < 1.0])
        self.assertTrue([at for at, ssrc, _ in rows if ssrc == 1 and at > 1.2])

    def test_a_lost_talker(self) -> None:
        """Equals who begin at once on two streams, each at his own delay: one goes on at every station."""
        for seed in range(10):
            air = Air(delay_s=(0.002, 0.05), seed=seed)
            patched(air, Mode.TRANSCODE, ("a", "b", "c"))
            ada, bob, cat = Station(air, "a", ssrc=4), Station(air, "b", ssrc=5), Station(air, "c")
            ada.talk(tone(440, 1.0), 0.0)
            bob.talk(tone(550, 1.0), 0.0)
            air.run(3.0)
            late = {
                packet.ssrc
                for (at, _, _), packet in zip(cat.datagrams, cat.packets, strict=True)
                if 0.3 < at < 0.9
            }
            self.assertEqual(late, {4})


class Circles(SynchronousTestCase):
    @settings(max_examples=12, deadline=None)
    @given(
        st.sampled_from((2, 3)),
        st.integers(0, 1_000),
        st.sampled_from((Mode.TRANSCODE, Mode.MIXED)),
        st.booleans(),
    )
    def test_dies_out(self, count: int, seed: int, mode: Mode, full_duplex: bool) -> None:
        """Patches of different groups in a circle, each saying all anew: quiet within a second of the last word, nobody hears a datagram twice, all is named."""
        air = Air(delay_s=(0.001, 0.02), seed=seed)
        streams = "abc"[:count]
        for number in range(count):
            pair = (streams[number], streams[(number + 1) % count])
            patched(
                air, mode, pair, id=f"p{number}", group=f"g{number}", seed=number, full_duplex=full_duplex
            )
        ears = [Station(air, stream) for stream in streams]
        talker = Station(air, "a")
        talker.talk(tone(440, 0.4), 0.0)
        air.run(5.0)
        self.assertLess(max(air.sent_at), 0.44 + 1.0)
        self.assertLess(air.sent, 40 * 3 * count)
        for ear in ears:
            names = [(each.source, each.sequence) for _, each, _ in ear.datagrams]
            self.assertEqual(len(names), len(set(names)))
        self.assertTrue(any(server.loops for server in air.servers))
        for server in air.servers:
            self.assertEqual(server.engine.deadline, float("inf"))

    def test_via(self) -> None:
        """A chain of two patches names both, the first first; the second patch of one server is no circle."""
        air = Air()
        first = patched(air, Mode.TRANSCODE, ("a", "b"), id="one")
        second = patched(air, Mode.TRANSCODE, ("b", "c"), id="two")
        ada, cat = Station(air, "a", alias="Ada"), Station(air, "c")
        ada.talk(tone(440, 0.2), 0.0)
        air.run(2.0)
        self.assertEqual(
            cat.talks[0],
            Talk("Ada", flags=TalkFlag.BURST_START, via=(first.engine.identity, second.engine.identity)),
        )
        self.assertFalse(first.loops + second.loops)

    def test_it_finds_itself(self) -> None:
        """A burst that came through us is dropped from its first packet on, those without an extension included, and named."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"))
        bob = Station(air, "b")
        foreign = Station(air, "a")
        foreign.sender.talk = Talk("Eve", via=(bytes(16), server.engine.identity))
        foreign.talk(tone(440, 1.0), 0.0)
        air.run(2.0)
        self.assertEqual(bob.datagrams, [])
        self.assertEqual(server.engine.status(2.0).members[0].refused, {"via": 53})
        self.assertEqual([(loop.how, loop.through) for loop in server.loops], [("via", (bytes(16).hex(),))])

    def test_a_full_list(self) -> None:
        """A burst that has come through fifteen patches goes no further."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"))
        foreign, bob = Station(air, "a"), Station(air, "b")
        foreign.sender.talk = Talk(via=tuple(bytes([n]) * 16 for n in range(15)))
        foreign.talk(tone(440, 0.1), 0.0)
        air.run(1.0)
        self.assertEqual(bob.datagrams, [])
        self.assertEqual(server.engine.status(1.0).members[0].refused, {"via-full": 8})


class Bounds(SynchronousTestCase):
    def test_talkers(self) -> None:
        """Hundreds of SSRCs, each with a name and a way, take no more than their bounds."""
        for mode in Mode:
            engine = patched(Air(), mode, ("a", "b")).engine
            for number in range(800):
                extension = Talk("x", via=(bytes([number & 0xFF]) * 16,)).to_extension()
                payload = Packet(0, 1, 160, number, bytes(160), extension=extension).encode()
                now = number * 0.001
                engine.datagram("a", Datagram(0, number, 0, payload), now, WALL + now)
                engine.tick(now, WALL + now)
            self.assertLessEqual(len(engine._vias), 256)
            self.assertLessEqual(len(engine.floor), 256)
            self.assertLessEqual(len(engine._heard), 512)
            self.assertLessEqual(len(engine._aliases), 512)
            self.assertLessEqual(len(getattr(engine, "_talkers", ())), TALKERS_MAX)

    def test_a_sleep(self) -> None:
        """A process that slept for a minute goes on with now, and sends no minute of sound."""
        air = Air()
        server = patched(air, Mode.TRANSCODE, ("a", "b"))
        ada = Station(air, "a")
        ada.talk(tone(440, 1.0), 0.0)
        air.run(0.3)
        outs = server.engine.tick(60.0, WALL + 60.0)
        self.assertLess(len(outs), 5)
        self.assertEqual(server.engine.refused["slept"], 1)
