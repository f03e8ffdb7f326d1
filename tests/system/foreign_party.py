"""One of ours among foreign programs, for tests: records what it hears on some streams of a local network, and says a file on others.

Usage: ``foreign_party.py hear=STREAM,GROUP:PORT … say=STREAM,GROUP:PORT,CODEC,FRAMING_MS,EXTENSION … file=SPEECH.wav``. What is heard on a stream is in ``STREAM.wav`` of the
working folder as soon as a burst has ended. It begins to talk at the signal SIGUSR1. Each line that it prints is one fact: ``up STREAM``, ``ended STREAM COUNTERS``, ``said STREAM``.
"""

import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from twisted.internet import task
from twisted.internet.defer import Deferred

from ice.media import codecs, wav
from ice.media.burst import BurstSender
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.playout import BurstEnded, Listener
from ice.net.addresses import parse_address
from ice.streams.interface import Datagram
from ice.streams.multicast import MulticastNetwork, MulticastStream, Place

BLOCK_S = 0.02
BITRATE = 24_000  # of Opus, as the foreign senders are told


class Ear:
    """Records a stream, from its first datagram on."""

    def __init__(self, stream_id: str, reactor: Any) -> None:
        self.stream_id = stream_id
        self._reactor = reactor
        self._listener = Listener()
        self._blocks: list[Pcm] = []
        self._next = 0.0

    def datagram(self, datagram: Datagram) -> None:
        now = self._reactor.seconds()
        if not self._blocks and not self._next:
            self._next = now
        self._listener.datagram(datagram.payload, datagram.flags, datagram.source, now, datagram.sequence)

    def path(self, up: bool, why: str) -> None:
        print("up" if up else "down", self.stream_id, why, flush=True)

    def pull(self) -> None:
        """What is due of the sound."""
        while self._next and self._next <= self._reactor.seconds():
            self._blocks.append(self._listener.pull(round(BLOCK_S * SAMPLE_RATE), self._next))
            self._next += BLOCK_S
        for event in self._listener.events():
            if isinstance(event, BurstEnded):
                wav.write(Path(f"{self.stream_id}.wav"), np.concatenate(self._blocks))
                print("ended", self.stream_id, event.why, event.counters, flush=True)
                print("refused", self.stream_id, dict(self._listener.statistics().refused), flush=True)


class Mouth:
    """Says a file on a stream; all of it is coded before, so that whoever hears on others is not kept waiting."""

    def __init__(self, stream_id: str, codec: str, framing_ms: int, extension: bool, pcm: Pcm) -> None:
        self.stream_id = stream_id
        encoder = codecs.encoder(codec, bitrate=BITRATE, framing_ms=framing_ms, fec=False)
        talker = BurstSender(encoder, alias="Anna", priority=5, extension=extension)
        talker.press(0.0)
        self._sendings = talker.pcm(pcm) + talker.release(0.0)

    def datagram(self, datagram: Datagram) -> None:
        print("heard", self.stream_id, flush=True)

    def path(self, up: bool, why: str) -> None:
        print("up" if up else "down", self.stream_id, why, flush=True)

    def say(self, stream: MulticastStream, reactor: Any) -> None:
        """All of it, each datagram in its time."""
        for each in self._sendings:
            reactor.callLater(each.due, stream.send, each.payload, each.flags)
        reactor.callLater(self._sendings[-1].due + 0.05, print, "said", self.stream_id, flush=True)


def main(reactor: Any) -> Any:
    """Hear and talk until the end."""
    words = [word.split("=", 1) for word in sys.argv[1:]]
    places: dict[str, Place] = {}
    ears: list[Ear] = []
    mouths: list[Mouth] = []
    for what, said in words:
        if what == "file":
            speech = wav.read(Path(said))
            continue
        stream_id, group, *more = said.split(",")
        places[stream_id] = Place(parse_address(group), parse_address(group))
        if what == "hear":
            ears.append(Ear(stream_id, reactor))
        else:
            mouths.append(Mouth(stream_id, more[0], int(more[1]), more[2] == "1", speech))
    network = MulticastNetwork(reactor, places.get, identity=uuid4())
    for ear in ears:
        network.join(ear.stream_id, ear)
    streams = [network.join(mouth.stream_id, mouth) for mouth in mouths]
    network.start()

    def talk(*_: object) -> None:
        for mouth, stream in zip(mouths, streams, strict=True):
            reactor.callFromThread(mouth.say, stream, reactor)

    def pull() -> None:
        for ear in ears:
            ear.pull()

    signal.signal(signal.SIGUSR1, talk)
    task.LoopingCall(pull).start(BLOCK_S / 2)
    return Deferred()


if __name__ == "__main__":
    task.react(main)
