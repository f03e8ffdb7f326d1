"""Sealed packets, mutated, the same for the same seed: ``nice python -m tests.unit.security.fuzz --count 300000 --seed 1``.

Half of what goes in is AES-256-GCM, half AES-256-CBC, under the key of :data:`KEY`, some under another key or clear; then bytes are
flipped, cut, repeated, spliced and put in, and some packets come as they were, or twice.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator

from ice.security.traffic import Cipher, Opener, Refused, Sealer, TrafficKey

STREAM = "6c1f8d1e-0a51-5f0f-9c0b-3a8b6a5d2f10"
KEY = TrafficKey(bytes(range(32)))
OTHER_KEY = TrafficKey(bytes(range(1, 33)))
NOW = 1_760_000_000.0
KEPT = 256  # packets from which the next is made


def rtp(random_: random.Random, size: int) -> bytes:
    """An RTP packet with so many random bytes of payload."""
    return b"\x80\x76" + random_.randbytes(10) + random_.randbytes(size)


def fuzz_packets(seed: int, count: int) -> Iterator[bytes]:
    """``count`` packets, most of them damaged, made by nothing but ``seed``."""
    random_ = random.Random(seed)
    sealers = [
        Sealer(key, cipher, stream, random_bytes=random_.randbytes)
        for cipher in Cipher
        for key, stream in ((KEY, STREAM), (KEY, STREAM), (OTHER_KEY, STREAM), (KEY, "elsewhere"))
    ]
    kept: list[bytes] = []
    for _ in range(count):
        if len(kept) < KEPT or random_.random() < 0.2:
            payload = rtp(random_, random_.choice((0, 1, 20, 48, 60, 160)))
            if random_.random() < 0.1:
                payload = b'{"type":1}' + random_.randbytes(random_.randrange(3))
            now = NOW + random_.choice((0, 0, 0, 1, -5, 600, 601, -86_400, -86_401, 2e9))
            fresh = payload if random_.random() < 0.05 else random_.choice(sealers).seal(payload, now)
            if len(kept) < KEPT:
                kept.append(fresh)
            else:
                kept[random_.randrange(KEPT)] = fresh
        yield _mutated(random_, bytearray(random_.choice(kept)), kept)


def _mutated(random_: random.Random, packet: bytearray, kept: list[bytes]) -> bytes:
    for _ in range(random_.choice((0, 1, 1, 1, 2, 3))):
        at = random_.randrange(len(packet)) if packet else 0
        match random_.randrange(8):
            case 0 | 1 if packet:
                packet[at] ^= 1 << random_.randrange(8)
            case 2 if packet:
                packet[at] = random_.choice((0, 1, 16, 17, 0x7F, 0x80, 0xFF))
            case 3:
                del packet[at:]
            case 4:
                del packet[at : at + random_.choice((1, 2, 8, 16))]
            case 5:
                packet[at:at] = random_.randbytes(random_.choice((1, 2, 8, 16, 32)))
            case 6:
                packet[at:] = random_.choice(kept)[at:]
            case 7 if random_.random() < 0.02:
                packet *= random_.choice((2, 40, 600))
    return bytes(packet)


def run(seed: int, count: int) -> dict[Cipher, Counter[str]]:
    """Give every packet to an opener of each cipher; what came of it, by cipher.  Raises :class:`AssertionError` at the first fault."""
    openers = {cipher: Opener(KEY, cipher, STREAM) for cipher in Cipher}
    heard: set[bytes] = set()
    for sealed in fuzz_packets(seed, count):
        for cipher, opener in openers.items():
            result = opener.open(sealed, NOW)
            if isinstance(result, Refused) or cipher is Cipher.CBC:
                continue
            name = sealed[:14]
            assert name not in heard, f"opened twice: {sealed.hex()}"
            heard.add(name)
    outcomes = {}
    for cipher, opener in openers.items():
        outcomes[cipher] = Counter({str(reason): times for reason, times in opener.refused.items()})
        outcomes[cipher]["opened"] = opener.opened
        assert outcomes[cipher].total() == count, f"{cipher}: {outcomes[cipher]} of {count}"
    return outcomes


def main() -> None:
    """Fuzz, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.perf_counter()
    outcomes = run(asked.seed, asked.count)
    passed = time.perf_counter() - began
    print(f"{asked.count} packets through two openers in {passed:.1f} s, seed {asked.seed}")
    for cipher, outcome in outcomes.items():
        print(f"{cipher}: " + ", ".join(f"{word} {times}" for word, times in outcome.most_common()))


if __name__ == "__main__":
    main()
