"""What it costs to pass speech through a patch, on one core, beside what it costs a Rallypoint to pass it on.

``python bench/patching.py [--part packets|conferences|quality] [--rounds 5] [--members 4]``, half a minute for all parts. Real processes are in ``bench/patch_server.py``.

The engines alone: no sockets, no TLS. *Rallypoint* is :mod:`ice.rallypoint.relay` with as many listeners; a patch in the mode relay is
:mod:`ice.patch.relay` (windows, floor, keys), told per packet that comes in, in CPU time of this thread: the median and the range. *Conferences* are of ten members: how many of them one core serves in real time (the best round), and
what share of that is libopus. *Quality* is a sentence that goes from Opus to G.711 and back, beside what ffmpeg makes of it.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from bench.paired import median
from bench.speech import pesq_wb
from ice.cli.speech import SPEECH
from ice.link.frame import Flag, media
from ice.media import wav
from ice.media.burst import BurstSender
from ice.media.codecs import decoder_of, encoder
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.playout import Listener
from ice.media.rtp import Packet, Talk
from ice.media.table import OPUS
from ice.patch.channel import Channel, Voice
from ice.patch.engine import engine_for
from ice.patch.keys import Lock
from ice.patch.outcome import Out, Spoken
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


def libopus(talking: int, members: int, steps: int) -> Callable[[], None]:
    """What coding alone costs a conference: each talker decoded, each distinct mix encoded, in the way in which the conference does it."""
    said = [
        [Packet.decode(payload).payload for _, payload in speech(steps, number)] for number in range(talking)
    ]
    decoders = [decoder_of(OPUS) for _ in said]
    # Who talks hears all others but himself; who listens hears all, and that is coded once.
    voices = [talking - 1] * (talking if talking > 1 else 0) + [talking] * (talking < members)
    coders = [encoder("opus", bitrate=24_000, fec=False) for _ in voices]

    def work() -> None:
        for step in range(steps):
            heard = [decoder.decode(payloads[step]) for decoder, payloads in zip(decoders, said, strict=True)]
            for number, (coder, count) in enumerate(zip(coders, voices, strict=True)):
                coder.voices(count)  # type: ignore[attr-defined]
                coder.encode(heard[number % talking])

    return work


def conference(talking: int, members: int, steps: int, mode: Mode) -> Callable[[], None]:
    """So many of the members talk, full duplex, for ``steps`` of 20 ms."""
    names = [f"s{number}" for number in range(members)]
    engine = engine_for(
        Patch.of("p", names, mode=mode),
        {name: Channel(name, voice=VOICE, full_duplex=True) for name in names},
    )
    said = [speech(steps, number) for number in range(talking)]

    def work() -> None:
        for step in range(steps):
            now = step * 0.02
            for number, (name, packets) in enumerate(zip(names, said, strict=False)):
                flags, payload = packets[step]
                engine.datagram(name, Datagram(flags, number + 1, step, payload), now, WALL + now)
            engine.tick(now, WALL + now)

    return work


def transcoded(
    packets: Iterable[tuple[float, int, bytes]], voice_in: Voice, voice_out: Voice
) -> list[tuple[float, int, bytes]]:
    """Times, flags and payloads of one talker's packets on the other side of a patch."""
    engine = engine_for(
        Patch.of(f"to {voice_out.codec}", ("in", "out"), mode=Mode.TRANSCODE),
        {"in": Channel("in", voice=voice_in), "out": Channel("out", voice=voice_out)},
    )
    said: list[tuple[float, int, bytes]] = []

    def carry(now: float, outs: list[Out]) -> None:
        said.extend(
            (now, out.flags, out.payload)
            for out in outs
            if isinstance(out, Spoken) and "out" in out.streams and not out.flags & Flag.DATA
        )

    now = 0.0
    for number, (at, flags, payload) in enumerate(packets):
        while engine.deadline <= at:
            now = engine.deadline
            carry(now, engine.tick(now, WALL + now))
        now = at
        carry(now, engine.datagram("in", Datagram(flags, 9, number, payload), now, WALL + now))
    while engine.deadline < math.inf:
        now = engine.deadline
        carry(now, engine.tick(now, WALL + now))
    return said


def there_and_back(spoken: Pcm) -> Pcm:
    """Opus at 24 kbit/s, through a patch to G.711, through another back to Opus, heard."""
    g711 = Voice(codec="pcmu")
    sender = VOICE.sender(VOICE.encoder(), Talk("Ada"), 7, random.Random(1))
    sender.press(0.0)
    sendings = sender.pcm(spoken) + sender.release(len(spoken) / SAMPLE_RATE)
    packets = [(each.due, each.flags, each.payload) for each in sendings]
    packets = transcoded(transcoded(packets, VOICE, g711), g711, VOICE)
    ear = Listener()
    heard = []
    for step in range(round(packets[-1][0] / 0.02) + 20):
        while packets and packets[0][0] <= step * 0.02:
            at, flags, payload = packets.pop(0)
            ear.datagram(payload, flags, 9, at)
        heard.append(ear.pull(SAMPLE_RATE // 50, step * 0.02))
    return np.concatenate(heard)


def by_ffmpeg(spoken: Pcm) -> Pcm:
    """The same chain as ffmpeg does it, with the same libopus and the same bit rate."""
    opus = ["-c:a", "libopus", "-b:a", "24k", "-application", "voip", "-frame_duration", "20", "-ac", "1"]
    with tempfile.TemporaryDirectory() as place:
        wav.write(Path(place) / "0.wav", spoken)
        for index, (coding, name) in enumerate(
            (
                (opus, "1.ogg"),
                (["-ar", "8000", "-c:a", "pcm_mulaw"], "2.wav"),
                (["-ar", "48000", *opus], "3.ogg"),
                (["-ar", "48000"], "4.wav"),
            )
        ):
            before = sorted(Path(place).iterdir())[index]
            words = ["ffmpeg", "-loglevel", "error", "-i", str(before), *coding, str(Path(place) / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        return wav.read(Path(place) / "4.wav")


def quality() -> None:
    """Opus to G.711 and back, ours beside ffmpeg's."""
    spoken = wav.read(SPEECH)
    ours, theirs = pesq_wb(spoken, there_and_back(spoken)), pesq_wb(spoken, by_ffmpeg(spoken))
    print(
        f"Opus 24k, G.711, Opus 24k: PESQ-WB {ours:.3f}, ffmpeg's same chain {theirs:.3f}: {ours - theirs:+.3f}"
    )


def packets(rounds: int, n: int) -> None:
    """What a packet costs a relay."""
    said = speech(PACKETS)
    rows: dict[str, Callable[[], Callable[[], None]]] = {
        f"Rallypoint, {n - 1} listeners": lambda: rallypoint(n, said),
        f"relay, clear, to {n - 1}": lambda: relaying(n, said),
        f"relay, one CBC key, to {n - 1}": lambda: relaying(n, said, "cbc", "cbc"),
        f"relay, GCM to clear {n - 1}": lambda: relaying(n, said, "gcm", ""),
        f"relay, GCM to CBC, to {n - 1}": lambda: relaying(n, said, "gcm", "cbc"),
        f"relay, GCM to GCM, to {n - 1}": lambda: relaying(n, said, "gcm", "gcm"),
    }
    found = {
        name: [cpu_s(prepare()) / PACKETS * 1e6 for _ in range(rounds)] for name, prepare in rows.items()
    }
    base = median(next(iter(found.values())))
    print(f"{'CPU per packet that comes in':40} {'µs':>7} {'range':>15} {'against Rallypoint':>20}")
    for name, values in found.items():
        middle = median(values)
        print(f"{name:40} {middle:7.2f} {min(values):7.2f}–{max(values):.2f} {middle / base:19.2f}×")


def conferences(rounds: int) -> None:
    """How many conferences of ten one core serves in real time, and what of that is libopus."""
    steps = 200
    print(f"{'conferences of ten, in real time per core':45} {'patches':>8} {'libopus':>8}")
    for talking in (1, 2, 3, 10):
        whole = min(cpu_s(conference(talking, 10, steps, Mode.MIXED)) for _ in range(rounds))
        coding = min(cpu_s(libopus(talking, 10, steps)) for _ in range(rounds))
        print(f"{f'mixed, {talking} talking':45} {steps * 0.02 / whole:8.1f} {coding / whole:8.0%}")
    whole = min(cpu_s(conference(4, 4, steps, Mode.TRANSCODE)) for _ in range(rounds))
    print(f"{'transcode, 4 of 4 talking':45} {steps * 0.02 / whole:8.1f}")


def cpu_s(work: Callable[[], None]) -> float:
    """CPU time of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--members", type=int, default=4)
    options.add_argument("--part", choices=("packets", "conferences", "quality"), action="append")
    asked = options.parse_args()
    parts = asked.part or ["packets", "conferences", "quality"]
    if "packets" in parts:
        packets(asked.rounds, asked.members)
    if "conferences" in parts:
        conferences(asked.rounds)
    if "quality" in parts:
        quality()


if __name__ == "__main__":
    main()
