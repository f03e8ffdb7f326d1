"""What it costs to seal, open, encode and decode one packet, on one core.

``python bench/sealing.py [--rounds 9] [--bitrate 24000] [--out FILE]``

Every row is measured once per round, for some 30 ms of CPU, all rows in turn, so that a disturbed moment falls on all of them; told are
the median of the rounds and their range, in CPU time of this thread. "Packets per core" is what one core would do of nothing else.

*Sealing* is what :mod:`ice.streams.sealed` calls per packet: Python, HKDF and AES of OpenSSL, the replay window, all of it. Hostile packets
(another key, random start ids) are the dearest ones to refuse. *Voice* is Opus at 20 ms through :mod:`ice.media.codecs` on a spoken sentence, and
libopus's own figure beside it: a loop in C over the same sentence with the same settings, bound to the same library
(``bench/opus_loop.c``, compiled with gcc when the bench is run; left out where there is no compiler).

The table goes to the terminal, and everything as JSON into ``bench/results/sealing-….json``.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from cryptography.hazmat.backends.openssl import backend

from bench.compiling import BENCH, BUILD
from bench.paired import median
from bench.report import Table
from ice.cli.speech import SPEECH
from ice.media import opus, wav
from ice.media.codecs import decoder, encoder
from ice.media.payload import Pcm
from ice.security import traffic
from ice.security.traffic import Cipher, Opener, Refused, Sealer, TrafficKey

SIZES = (60, 160, 500)
SLICE_S = 0.03  # CPU time of one row in one round: long beside the clock's grain, short beside a disturbance
STREAM = "6c1f8d1e-0a51-5f0f-9c0b-3a8b6a5d2f10"
NOW = 1_760_000_000.0
BATCH = 200
FRAME = 960  # samples of 20 ms

#: Does the work on so many packets; what must be ready for it is made before, and not counted.
Work = Callable[[], None]
Prepare = Callable[[int], Work]


def sealing(cipher: Cipher, size: int) -> Prepare:
    """Seal packets of ``size`` bytes."""
    sealer = Sealer(TrafficKey(bytes(32)), cipher, STREAM)
    payload = b"\x80\x76" + os.urandom(size - 2)

    def prepare(count: int) -> Work:
        def work() -> None:
            for _ in range(count):
                sealer.seal(payload, NOW)

        return work

    return prepare


def opening(cipher: Cipher, size: int) -> Prepare:
    """Open fresh packets of ``size`` bytes, each once."""
    key = TrafficKey(bytes(32))
    sealer, ear = Sealer(key, cipher, STREAM), Opener(key, cipher, STREAM)
    payload = b"\x80\x76" + bytes(10) + os.urandom(size - 12)

    def prepare(count: int) -> Work:
        packets = [sealer.seal(payload, NOW) for _ in range(count)]

        def work() -> None:
            for packet in packets:
                if isinstance(ear.open(packet, NOW), Refused):
                    raise SystemExit(f"a packet was refused: {ear.refused}")

        return work

    return prepare


def refusing(cipher: Cipher, size: int) -> Prepare:
    """Refuse packets sealed with another key, each of another sender."""
    ear = Opener(TrafficKey(bytes(32)), cipher, STREAM)

    def prepare(count: int) -> Work:
        other = TrafficKey(bytes([1]) * 32)
        packets = [Sealer(other, cipher, STREAM).seal(bytes(size), NOW) for _ in range(count)]

        def work() -> None:
            for packet in packets:
                ear.open(packet, NOW)

        return work

    return prepare


def starting() -> Prepare:
    """The first packet of a sender, both ends: two keys are derived."""
    key = TrafficKey(bytes(32))

    def prepare(count: int) -> Work:
        ear = Opener(key, Cipher.GCM, STREAM)

        def work() -> None:
            for _ in range(count):
                ear.open(Sealer(key, Cipher.GCM, STREAM).seal(bytes(160), NOW), NOW)

        return work

    return prepare


def deriving() -> Prepare:
    """A traffic key from a password, once per group and process."""

    def prepare(count: int) -> Work:
        passwords = [os.urandom(32) for _ in range(count)]

        def work() -> None:
            for password in passwords:
                traffic._derived.__wrapped__(password, traffic.DEFAULT_SALT)

        return work

    return prepare


def spoken() -> list[Pcm]:
    """The sentence in frames of 20 ms, 48 kHz mono."""
    pcm = wav.read(SPEECH)
    return [pcm[at : at + FRAME] for at in range(0, len(pcm) - FRAME + 1, FRAME)]


def encoding(frames: list[Pcm], bitrate: int) -> Prepare:
    """Encode the sentence, over and over."""
    voice = encoder("opus", bitrate=bitrate, fec=False)
    place = 0

    def prepare(count: int) -> Work:
        def work() -> None:
            nonlocal place
            for _ in range(count):
                voice.encode(frames[place])
                place = (place + 1) % len(frames)

        return work

    return prepare


def decoding(frames: list[Pcm], bitrate: int) -> Prepare:
    """Decode it again."""
    voice = encoder("opus", bitrate=bitrate, fec=False)
    ear = decoder(voice.codec.payload_type)
    packets = [voice.encode(frame) for frame in frames]
    place = 0

    def prepare(count: int) -> Work:
        def work() -> None:
            nonlocal place
            for _ in range(count):
                ear.decode(packets[place])
                place = (place + 1) % len(packets)

        return work

    return prepare


def timed(prepare: Prepare, batch: int) -> float:
    """CPU microseconds of one packet, over some :data:`SLICE_S`."""
    spent, done = 0.0, 0
    while spent < SLICE_S:
        work = prepare(batch)
        began = time.thread_time()
        work()
        spent += time.thread_time() - began
        done += batch
    return spent / done * 1e6


def libopus_alone(frames: list[Pcm], bitrate: int, rounds: int) -> tuple[str, list[tuple[float, float]]]:
    """The version, and per round microseconds of one encoded and one decoded frame; nothing where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "no C compiler (apt install gcc): libopus alone was not measured", []
    BUILD.mkdir(parents=True, exist_ok=True)
    made = BUILD / "opus_loop"
    command = [
        compiler,
        "-O2",
        "-Wall",
        "-Wextra",
        "-o",
        str(made),
        str(BENCH / "opus_loop.c"),
        "-l:libopus.so.0",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        return f"libopus alone was not measured: {built.stderr.strip()[-200:]}", []
    speech = np.concatenate(frames).tobytes()
    done = subprocess.run(
        [str(made), str(bitrate), str(rounds)], input=speech, capture_output=True, check=True
    )
    version, *lines = done.stdout.decode().split("\n")
    pairs = [line.split() for line in lines if line]
    return version, [(float(encode) / 1e3, float(decode) / 1e3) for encode, decode in pairs]


def rows(frames: list[Pcm], bitrate: int) -> dict[str, tuple[Prepare, int]]:
    """Everything that is measured in this process, by its title."""
    found: dict[str, tuple[Prepare, int]] = {}
    for cipher in Cipher:
        for size in SIZES:
            found[f"seal {cipher} {size} bytes"] = sealing(cipher, size), BATCH
            found[f"open {cipher} {size} bytes"] = opening(cipher, size), BATCH
    for cipher in Cipher:
        found[f"refuse another key, {cipher} 160 bytes"] = refusing(cipher, 160), BATCH
    found["first packet of a sender, both ends"] = starting(), BATCH
    found["PBKDF2, per group and start"] = deriving(), 2
    found[f"opus encode 20 ms, {bitrate} bit/s, ice.media"] = encoding(frames, bitrate), 50
    found["opus decode 20 ms, ice.media"] = decoding(frames, bitrate), 50
    return found


def measure(rounds: int, bitrate: int) -> dict[str, Any]:
    """All of it, round by round."""
    frames = spoken()
    measured = rows(frames, bitrate)
    for prepare, batch in measured.values():
        prepare(batch)()  # libraries are loaded, caches are warm
    times: dict[str, list[float]] = {title: [] for title in measured}
    version = ""
    for _ in range(rounds):
        for title, (prepare, batch) in measured.items():
            times[title].append(timed(prepare, batch))
        version, alone = libopus_alone(frames, bitrate, 1)
        for encode, decode in alone:
            times.setdefault("opus encode, libopus alone (C)", []).append(encode)
            times.setdefault("opus decode, libopus alone (C)", []).append(decode)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
        "libopus": opus.version(),
        "libopus alone": version,
        "load average": os.getloadavg()[0],
        "rounds": rounds,
        "microseconds": times,
    }


def table(results: dict[str, Any]) -> Table:
    """One row per measurement."""
    lines = []
    for title, times in results["microseconds"].items():
        middle = median(times)
        lines.append((title, f"{middle:.2f}", f"{min(times):.2f}–{max(times):.2f}", f"{1e6 / middle:,.0f}"))
    heading = (
        f"CPU time of one packet: Python {results['python']}, {results['openssl']}, {results['libopus']}; "
        f"median of {results['rounds']} rounds, load average {results['load average']:.1f}"
    )
    return Table(heading, ("", "µs", "range", "per core and second"), lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bitrate", type=int, default=24_000)
    parser.add_argument("--out", type=Path, help="the JSON file (bench/results/sealing-….json)")
    asked = parser.parse_args()
    results = measure(max(1, asked.rounds), asked.bitrate)
    print(table(results).text())
    if "microseconds" in results and not any("alone (C)" in title for title in results["microseconds"]):
        print(results["libopus alone"])
    out = asked.out or BENCH / "results" / f"sealing-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1))
    print(f"\n{out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
