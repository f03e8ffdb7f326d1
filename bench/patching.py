"""What it costs to pass speech through a patch, on one core, beside what it costs a Rallypoint to pass it on.

``python bench/patching.py [--rounds 7] [--members 4]``

The engines alone: no sockets, no TLS. *Rallypoint* is :mod:`ice.rallypoint.relay` with as many listeners; a patch in the mode relay is
:mod:`ice.patch.relay` (windows, floor, keys), told per packet that comes in. All rows are measured in turn in each round, in CPU time of this thread; told are the median and
the range. The last rows are conferences in real time per core, all members talking.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from bench.paired import median
from ice.cli.speech import SPEECH
from ice.link.frame import media
from ice.media import wav
from ice.media.burst import BurstSender
from ice.media.codecs import decoder_of, encoder
from ice.media.table import OPUS
from ice.patch.channel import Channel, Voice
from ice.patch.engine import engine_for
from ice.patch.keys import Lock
from ice.patch.plan import Mode, Patch
from ice.rallypoint.registry import Registry
from ice.rallypoint.relay import Relay
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from ice.streams.interface import Datagram

WALL = 1_790_000_000.0
PACKETS = 1_000
VOICE = Voice(codec="opus", bitrate=24_000)
RINGS = {
    "gcm": Keyring(Cipher.GCM, derive("01" * 32)),
    "cbc": Keyring(Cipher.CBC, derive("02" * 32)),
}


def speech(frames: int, seed: int = 1) -> list[tuple[int, bytes]]:
    """Flags and packets of one burst: a spoken sentence, again and again, from another place for each seed; Opus, 24 kbit/s, 20 ms each."""
    pcm = np.tile(np.roll(wav.read(SPEECH), -7_919 * seed), 1 + frames * 960 // 48_000)[: frames * 960]
    sender = BurstSender(encoder("opus", bitrate=24_000, fec=False), alias="Ada", chance=random.Random(seed))
    sender.press(0.0)
    return [(sending.flags, sending.payload) for sending in sender.pcm(pcm)]


def rallypoint(members: int, said: list[tuple[int, bytes]]) -> Callable[[], None]:
    """One talker, ``members`` − 1 listeners on one stream."""

    class Listener:
        def send_media(self, frame: bytes) -> None:
            pass

    registry = Registry()
    relay = Relay(registry)
    source = 7 << 32 | 1
    talker = registry.subscribe(Listener(), identity="a", prefix=7)
    registry.join(talker, "room", 0xAB, source=source)
    for number in range(members - 1):
        registry.join(registry.subscribe(Listener(), identity=number, prefix=100 + number), "room", 0xAB)
    frames = [media(flags, 0xAB, source, number, payload) for number, (flags, payload) in enumerate(said)]

    def work() -> None:
        for number, frame in enumerate(frames):
            relay.media(talker, frame, number * 0.02)

    return work


def relaying(
    members: int, said: list[tuple[int, bytes]], key_in: str = "", key_out: str = ""
) -> Callable[[], None]:
    """One talker on the first of ``members`` streams."""
    names = [f"s{number}" for number in range(members)]
    channels = {
        name: Channel(name, voice=VOICE, keyring=RINGS.get(key_out if number else key_in))
        for number, name in enumerate(names)
    }
    engine = engine_for(Patch.of("p", names), channels)
    lock = Lock("s0", RINGS.get(key_in))
    datagrams = [
        Datagram(flags, 9, number, lock.seal(payload, WALL)) for number, (flags, payload) in enumerate(said)
    ]

    def work() -> None:
        passed = 0
        for number, datagram in enumerate(datagrams):
            now = number * 0.02
            passed += len(engine.datagram("s0", datagram, now, WALL + now))
        if passed < len(datagrams):
            raise SystemExit(f"only {passed} went through: {engine.status(20.0)}")

    return work


def libopus(members: int, steps: int) -> Callable[[], None]:
    """What coding alone would cost: as many decodings and encodings as a conference of ``members`` needs."""
    sender = BurstSender(encoder("opus", bitrate=24_000, fec=False), extension=False)
    sender.press(0.0)
    payloads = [
        each.payload[12:]
        for each in sender.pcm(np.random.default_rng(1).normal(0, 3_000, 960 * steps).astype(np.int16))
    ]
    coders = [(encoder("opus", bitrate=24_000, fec=False), decoder_of(OPUS)) for _ in range(members)]

    def work() -> None:
        for payload in payloads:
            for coder, decoder in coders:
                coder.encode(decoder.decode(payload))

    return work


def conference(members: int, steps: int, mode: Mode) -> Callable[[], None]:
    """Everybody talks, full duplex, for ``steps`` of 20 ms."""
    names = [f"s{number}" for number in range(members)]
    engine = engine_for(
        Patch.of("p", names, mode=mode),
        {name: Channel(name, voice=VOICE, full_duplex=True) for name in names},
    )
    said = [speech(steps, number) for number in range(members)]

    def work() -> None:
        for step in range(steps):
            now = step * 0.02
            for number, name in enumerate(names):
                flags, payload = said[number][step]
                engine.datagram(name, Datagram(flags, number + 1, step, payload), now, WALL + now)
            engine.tick(now, WALL + now)

    return work


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--members", type=int, default=4)
    asked = options.parse_args()
    said = speech(PACKETS)
    n = asked.members
    rows: dict[str, Callable[[], Callable[[], None]]] = {
        f"Rallypoint, {n - 1} listeners": lambda: rallypoint(n, said),
        f"relay, clear, to {n - 1}": lambda: relaying(n, said),
        f"relay, one CBC key, to {n - 1}": lambda: relaying(n, said, "cbc", "cbc"),
        f"relay, GCM to clear {n - 1}": lambda: relaying(n, said, "gcm", ""),
        f"relay, GCM to CBC, to {n - 1}": lambda: relaying(n, said, "gcm", "cbc"),
        f"relay, GCM to GCM, to {n - 1}": lambda: relaying(n, said, "gcm", "gcm"),
    }
    found: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(asked.rounds):
        for name, prepare in rows.items():
            work = prepare()
            began = time.thread_time()
            work()
            found[name].append((time.thread_time() - began) / PACKETS * 1e6)
    base = median(next(iter(found.values())))
    print(f"{'CPU per packet that comes in':40} {'µs':>7} {'range':>15} {'against Rallypoint':>20}")
    for name, values in found.items():
        middle = median(values)
        print(f"{name:40} {middle:7.2f} {min(values):7.2f}–{max(values):.2f} {middle / base:19.2f}×")
    steps = 150
    for name, prepare in (
        ("mixed, 10 of 10 talking", lambda: conference(10, steps, Mode.MIXED)),
        ("transcode, 4 of 4 talking", lambda: conference(4, steps, Mode.TRANSCODE)),
        ("libopus, 10 decoded and encoded", lambda: libopus(10, steps)),
    ):
        values = []
        for _ in range(min(3, asked.rounds)):
            work = prepare()
            began = time.thread_time()
            work()
            values.append((time.thread_time() - began) / (steps * 0.02))
        print(f"{name:40} {1 / median(values):7.1f} in real time per core")


if __name__ == "__main__":
    main()
