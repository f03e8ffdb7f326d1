"""Mixed: one voice for each stream, and never its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.media.mixer import level_dbov
from ice.media.playout import BurstBegan, BurstEnded
from ice.patch.channel import Channel
from ice.patch.engine import engine_for
from ice.patch.gain import AutomaticGain
from ice.patch.plan import Member, Mode, Patch
from tests.unit.patch.lab import L16, Air, Server, Station, patched, power, tone

HZ = {"a": 400, "b": 700, "c": 1_100, "d": 1_700}


class Conference(SynchronousTestCase):
    """Full duplex."""

    @settings(max_examples=8, deadline=None)
    @given(st.sets(st.sampled_from("abcd"), min_size=1), st.integers(0, 100), st.sampled_from((0.0, 0.05)))
    def test_mix_minus(self, talking: set[str], seed: int, loss: float) -> None:
        """Whoever talks: each stream hears all the others that talk, and nothing of itself."""
        air = Air(delay_s=(0.002, 0.02), seed=seed, loss=loss)
        patched(air, Mode.MIXED, tuple("abcd"), full_duplex=True)
        stations = {name: Station(air, name) for name in "abcd"}
        for name, station in stations.items():
            station.listen(0.0, 1.6)
            if name in talking:
                station.talk(tone(HZ[name], 1.4, -24.0), 0.1)
        air.run(1.6)
        for name, station in stations.items():
            middle = station.pcm[24_000:62_400]
            for other, hz in HZ.items():
                heard = power(middle, hz)
                if other in talking and other != name:
                    self.assertGreater(heard, 0.03, (name, other))
                else:
                    self.assertLess(heard, 0.004, (name, other))
            self.assertLessEqual(len({packet.ssrc for packet in station.packets}), 1)

    def test_one_stream_one_burst(self) -> None:
        """A burst begins with the first of the others and ends with the last of them; the mix is anonymous."""
        air = Air()
        patched(air, Mode.MIXED, ("a", "b", "c"), full_duplex=True)
        ada, bob, cat = (Station(air, name, alias=name) for name in "abc")
        cat.listen(0.0, 3.0)
        ada.talk(tone(400, 1.0), 0.1)
        bob.talk(tone(700, 1.0), 0.6)
        air.run(3.0)
        began, ended = cat.events
        assert isinstance(began, BurstBegan)
        assert isinstance(ended, BurstEnded)
        self.assertEqual((began.alias, ended.why), ("", "mark"))
        self.assertTrue(1.55 < ended.duration_s < 1.75)

    def test_loud_together(self) -> None:
        """Four who shout at once do not wrap round nor clip: the mix is turned down."""
        air = Air()
        patched(air, Mode.MIXED, tuple("abcd"), full_duplex=True)
        stations = {name: Station(air, name) for name in "abcd"}
        stations["d"].listen(0.0, 1.2)
        for name in "abc":
            stations[name].talk(tone(HZ[name], 1.0, -6.0), 0.0)
        air.run(1.2)
        middle = stations["d"].pcm[14_400:43_200]
        self.assertGreater(level_dbov(middle), -9.0)
        self.assertLess(power(middle, 3 * HZ["a"] - HZ["b"]), 0.05)

    def test_gain(self) -> None:
        """A member's gain is how loud the others hear it."""
        levels = []
        for gain_db in (-12.0, 0.0, 6.0):
            air = Air()
            patch = Patch("p", "p", (Member("a", gain_db), Member("b")), mode=Mode.MIXED)
            channels = {name: Channel(name, voice=L16) for name in "ab"}
            Server(air, engine_for(patch, channels))
            ada, bob = Station(air, "a"), Station(air, "b")
            bob.listen(0.0, 1.0)
            ada.talk(tone(400, 1.0, -30.0), 0.0)
            air.run(1.0)
            levels.append(level_dbov(bob.pcm[14_400:43_200]))
        self.assertAlmostEqual(levels[0] - levels[1], -12.0, 1)
        self.assertAlmostEqual(levels[2] - levels[1], 6.0, 1)

    def test_automatic_gain(self) -> None:
        """Off unless asked for; slowly up for a quiet voice, quickly down for a loud one, never for a pause."""
        self.assertFalse(Member("a").automatic_gain)
        gain = AutomaticGain()
        for _ in range(50):
            gain.follow(tone(400, 0.02, -40.0))
        self.assertAlmostEqual(gain.gain_db, 3.0, 1)
        for _ in range(500):
            gain.follow(np.zeros(960, np.int16))
        self.assertAlmostEqual(gain.gain_db, 3.0, 1)
        for _ in range(500):
            gain.follow(tone(400, 0.02, -40.0))
        self.assertAlmostEqual(gain.gain_db, 12.0, 1)
        for _ in range(200):
            gain.follow(tone(400, 0.02, -6.0))
        self.assertAlmostEqual(gain.gain_db, -12.0, 1)

    def test_a_talker_amid_losses(self) -> None:
        """A jitter buffer stands before the mix: what comes late and out of order sounds in order."""
        air = Air(delay_s=(0.002, 0.06), seed=2)
        server = patched(air, Mode.MIXED, ("a", "b"), full_duplex=True)
        ada = Station(air, "a")
        server.parties["b"].hear = lambda each, now: None
        out: list[bytes] = []
        send = air.send
        air.send = lambda party, payload, flags: (  # type: ignore[method-assign]
            out.append(payload) if party is server.parties["b"] and not flags & Flag.DATA else None,  # type: ignore[func-returns-value]
            send(party, payload, flags),
        )
        ada.talk(tone(400, 2.0), 0.0)
        air.run(3.0)
        sound = np.concatenate([np.frombuffer(payload[-1920:], ">i2").astype(np.int16) for payload in out])
        self.assertGreater(power(sound[48_000:86_400], 400), 0.15)


class HalfDuplex(SynchronousTestCase):
    def test_first_come(self) -> None:
        """Of equals, who reached the patch first is heard; the other is, once he has ended."""
        air = Air()
        patched(air, Mode.MIXED, ("a", "b", "c"))
        ada, bob, cat = Station(air, "a", ssrc=900), Station(air, "b", ssrc=100), Station(air, "c")
        cat.listen(0.0, 2.5)
        ada.talk(tone(400, 1.0), 0.0)
        bob.talk(tone(700, 1.5), 0.3)
        air.run(2.5)
        first, second = cat.pcm[19_200:43_200], cat.pcm[62_400:81_600]
        self.assertGreater(power(first, 400), 0.1)
        self.assertLess(power(first, 700), 0.004)
        self.assertGreater(power(second, 700), 0.1)
        self.assertFalse(
            [at for at, _, _ in ada.datagrams if at < 1.0]
        )  # he who crosses hears nothing meanwhile …
        self.assertTrue(bob.datagrams)  # … and he who does not hears who does

    def test_an_emergency(self) -> None:
        """A higher rank takes the mix, and the mix says so."""
        air = Air()
        patched(air, Mode.MIXED, ("a", "b", "c"))
        ada, bob, cat = Station(air, "a", priority=200), Station(air, "b", emergency=True), Station(air, "c")
        cat.listen(0.0, 2.0)
        ada.talk(tone(400, 2.0), 0.0)
        bob.talk(tone(700, 1.0), 0.5)
        air.run(2.0)
        self.assertLess(power(cat.pcm[33_600:67_200], 400), 0.004)
        self.assertGreater(power(cat.pcm[33_600:67_200], 700), 0.1)
        urgent = [at for at, each, _ in cat.datagrams if each.flags & Flag.URGENT]
        self.assertTrue(0.5 < urgent[0] < 0.6)
        self.assertIn(200, {talk.priority for talk in cat.talks})

    def test_the_mix_stands_before_stations(self) -> None:
        """The mix speaks under an SSRC of 16 bits, so a station that began at the same time yields to it."""
        air = Air()
        patched(air, Mode.MIXED, ("a", "b"))
        ada, bob = Station(air, "a"), Station(air, "b")
        ada.talk(tone(400, 0.3), 0.0)
        air.run(1.0)
        self.assertTrue(all(packet.ssrc < 1 << 16 for packet in bob.packets))
        self.assertTrue(bob.packets)
