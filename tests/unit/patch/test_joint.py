"""A patch at work on a reactor that is held up."""

from __future__ import annotations

import numpy as np

from ice.media.burst import BurstSender
from ice.media.codecs import encoder
from ice.media.rtp import Packet
from ice.patch.channel import Channel
from ice.patch.plan import Mode, Patch
from ice.streams.interface import Datagram
from tests.unit.patch.test_service import DATA, L16, Stage

FRAMES = 30
HELD_AT_S, HELD_S = 0.301, 0.15


class HeldUp(Stage):
    def test_sockets_first(self) -> None:
        """What came while the process stood still is passed on, not what a jitter buffer makes up in its place."""
        channels = {name: Channel(name, voice=L16) for name in "ab"}
        server = self.begun(Patch.of("p", ("a", "b"), mode=Mode.TRANSCODE), channels=channels)
        spoken = np.arange(1, FRAMES * 960 + 1, dtype=np.int16)
        sender = BurstSender(encoder("l16"))
        sender.press(0.0)
        for number, sending in enumerate(sender.pcm(spoken) + sender.release(0.0)):
            at = number * 0.02
            if HELD_AT_S < at < HELD_AT_S + HELD_S:
                at = HELD_AT_S + HELD_S  # it lies in a socket, which is read behind the timers
            datagram = Datagram(sending.flags, 7, number, sending.payload)
            self.clock.callLater(at, server.joints["p"].heard, "a", datagram)
        for step in (0.001,) * 301, (HELD_S,), (0.001,) * 600:
            self.clock.pump(step)
        packets = [Packet.decode(each.payload) for each in self.ears["b"].datagrams if not each.flags & DATA]
        heard = np.concatenate([np.frombuffer(each.payload, ">i2") for each in packets])
        begins = int(np.flatnonzero(heard)[0])
        np.testing.assert_array_equal(heard[begins : begins + len(spoken)], spoken)
