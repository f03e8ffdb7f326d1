"""Engines over the networks of ice.streams: in memory, sealed below or sealed by the engine."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.media.burst import BurstSender
from ice.media.codecs import encoder
from ice.media.rtp import Packet, Talk
from ice.patch.channel import Channel
from ice.patch.engine import engine_for
from ice.patch.junction import Junction
from ice.patch.outcome import Out, Passed
from ice.patch.plan import Mode, Patch
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from ice.streams.interface import Datagram, Network
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.sealed import SealedNetwork
from tests.unit.patch.lab import L16, WALL

RINGS = {
    "a": Keyring(Cipher.GCM, derive("01" * 32)),
    "b": Keyring(Cipher.CBC, derive("02" * 32)),
    "c": None,
}


class Driver:
    """The least that drives an engine over a network."""

    def __init__(self, clock: Clock, network: Network, engine: Junction) -> None:
        self.clock, self.engine = clock, engine
        self.streams = {
            stream: network.join(stream, _Ear(self, stream)) for stream in engine.patch.stream_ids
        }
        for stream, joined in self.streams.items():
            engine.named(stream, joined.source)

    def carry(self, outs: list[Out]) -> None:
        for out in outs:
            for stream in out.streams:
                joined = self.streams[stream]
                if isinstance(out, Passed):
                    if not joined.forward(out.datagram) and joined.up:  # type: ignore[attr-defined]
                        self.engine.passed_before(stream, self.clock.seconds())
                else:
                    joined.send(out.payload, out.flags)

    def tick(self) -> None:
        now = self.clock.seconds()
        if self.engine.deadline <= now:
            self.carry(self.engine.tick(now, WALL + now))


class _Ear:
    def __init__(self, driver: Driver, stream: str) -> None:
        self.driver, self.stream = driver, stream

    def datagram(self, datagram: Datagram) -> None:
        now = self.driver.clock.seconds()
        self.driver.carry(self.driver.engine.datagram(self.stream, datagram, now, WALL + now))

    def path(self, up: bool, why: str) -> None:
        self.driver.engine.path(self.stream, up, why)


class Networks(SynchronousTestCase):
    def test_sealed_by_either(self) -> None:
        """The same people hear the same, whether the network below opens and seals, or the engine does."""
        for by_engine in (False, True):
            for mode in Mode:
                clock = Clock()
                air = MemoryNetwork(clock, delay_s=0.003, seed=3)
                people = SealedNetwork(air, RINGS.get, lambda clock=clock: WALL + clock.seconds())  # type: ignore[misc]
                channels = {
                    name: Channel(name, voice=L16, keyring=ring if by_engine else None)
                    for name, ring in RINGS.items()
                }
                engine = engine_for(Patch.of("p", "abc", mode=mode), channels, chance=random.Random(1))
                driver = Driver(clock, air if by_engine else people, engine)
                ears = {name: Collector() for name in "abc"}
                for name in "bc":
                    people.join(name, ears[name])
                talker = people.join("a", ears["a"])
                clock.advance(0)
                sender = BurstSender(encoder("l16"), alias="Ada", chance=random.Random(2))
                sender.press(0.0)
                frames = sender.pcm(np.ones(960 * 20, np.int16)) + sender.release(0.4)
                for step in range(500):
                    now = step * 0.002
                    while frames and frames[0].due <= now + 1e-9:
                        sending = frames.pop(0)
                        talker.send(sending.payload, sending.flags)
                    clock.advance(0.002)
                    driver.tick()
                for name in "bc":
                    packets = [
                        Packet.decode(each.payload) for each in ears[name].datagrams if not each.flags & 8
                    ]
                    self.assertGreaterEqual(len(packets), 23, (by_engine, mode, name))
                    alias = Talk.from_extension(packets[0].extension).alias
                    self.assertEqual(alias, "" if mode is Mode.MIXED else "Ada")
                self.assertEqual([each for each in ears["a"].datagrams if not each.flags & 8], [])
                self.assertEqual([member.rx.errors for member in engine.status(1.0).members], [0, 0, 0])
                self.assertEqual(engine.deadline, math.inf)


class Anything(SynchronousTestCase):
    @settings(max_examples=120, deadline=None)
    @given(
        st.sampled_from(list(Mode)),
        st.lists(
            st.tuples(
                st.sampled_from("abz"),
                st.integers(0, 255),
                st.integers(0, 3),
                st.integers(0, 2**32 - 1),
                st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x90\x00" + tail),
            ),
            max_size=12,
        ),
    )
    def test_datagrams(self, mode: Mode, rows: list[tuple[str, int, int, int, bytes]]) -> None:
        """No datagram, whatever is in it, is an error; each is passed on or counted, and nothing is sent where it came from."""
        engine = engine_for(Patch.of("p", "ab", mode=mode), {}, chance=random.Random(1))
        for number, (stream, flags, source, sequence, payload) in enumerate(rows):
            now = number * 0.01
            outs = engine.datagram(stream, Datagram(flags, source, sequence, payload), now, WALL + now)
            self.assertFalse([out for out in outs if isinstance(out, Passed) and stream in out.streams])
            engine.tick(now, WALL + now)
        engine.status(1.0)
        engine.close(1.0, WALL + 1.0)
        self.assertEqual(engine.deadline, math.inf)
