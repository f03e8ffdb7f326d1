"""Mutated frames against the session engine: ``python bench/fuzz_link.py --frames 1000000 --seed 7``.

Every round greets a fresh acceptor (or opener), then feeds it frames that were right before they were mutated: bytes
flipped, cut, repeated, spliced, lengths that lie; the pieces are cut anywhere.  Checked after every piece: nothing is
raised, at most one end comes and it is the last event, what is held is bounded, media is whole frames, and an ended
session stays silent.  Prints how many frames of each outcome, and what a second of it costs.
"""

import argparse
import random
import time
from bisect import bisect_left
from collections import Counter
from itertools import accumulate

from ice.link.event import Ended, HelloReceived
from ice.link.frame import FrameType, control, media
from ice.link.message import ErrorMessage, Hello, Join, Joined, Leave, Welcome, encode
from ice.link.session import Session, State

ID, RP = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
SEEDS = [
    control(FrameType.HELLO, encode(Hello(version=1, role="client", id=ID, name="n", features=["a"]))),
    control(FrameType.WELCOME, encode(Welcome(version=1, id=RP))),
    control(FrameType.JOIN, encode(Join(txn=1, stream="alpha", source="00112233445566aa"))),
    control(FrameType.JOIN, encode(Join(txn=2, stream="é" * 128, talk=False))),
    control(FrameType.JOINED, encode(Joined(txn=1, stream="alpha", key="8ed3f6ad685b959e"))),
    control(FrameType.LEAVE, encode(Leave(stream="alpha"))),
    control(FrameType.PING, b"12345678"),
    control(FrameType.PONG, b"\x00\x00\x00\x00\x00\x00\x00\x01"),
    control(FrameType.ERROR, encode(ErrorMessage(code="denied", message="m", txn=1))),
    control(FrameType.BYE, b'{"code":"draining","retry_after":1.5,"alternatives":["a:1"]}'),
    control(FrameType.RELAY, bytes(40)),
    control(FrameType.TOPOLOGY, b"{}"),
    media(2, 1, 2, 3, b"x" * 120),
    media(0, 1, 2, 4, b""),
    b"\x00\x02\x7f{}",
]
HELLO = SEEDS[0]
WELCOME = SEEDS[1]


def mutated(random_: random.Random) -> bytes:
    """One frame, damaged in one to four ways (or, sometimes, in none)."""
    frame = bytearray(random_.choice(SEEDS))
    for _ in range(random_.choice((0, 1, 1, 1, 2, 4))):
        kind = random_.randrange(6)
        at = random_.randrange(len(frame)) if frame else 0
        if not frame:
            break
        if kind == 0:
            frame[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            frame[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B, 0x5C))
        elif kind == 2:
            del frame[at : at + random_.randrange(1, 9)]
        elif kind == 3:
            frame[at:at] = random_.randbytes(random_.randrange(1, 9))
        elif kind == 4:
            frame[at:at] = frame[at : at + 16] * random_.randrange(1, 40)
        elif kind == 5:
            frame[0:2] = random_.randrange(65_536).to_bytes(2, "big")
    if (
        len(frame) > 3 and random_.random() < 0.8
    ):  # a length that is true, so that what lies behind it is reached
        frame[0:2] = min(65_535, len(frame) - 3).to_bytes(2, "big")
    return bytes(frame)


def main() -> None:
    """Fuzz, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    fed, rounds, started = 0, 0, time.perf_counter()
    while fed < options.frames:
        rounds += 1
        opener = random_.random() < 0.3
        now = random_.random() * 1e6
        session = Session(opener=opener, now=now, expected_id=RP if opener else ID)
        pieces = [] if random_.random() < 0.1 else [WELCOME if opener else HELLO]
        pieces += [mutated(random_) for _ in range(random_.randrange(1, 40))]
        borders = list(accumulate(map(len, pieces)))
        stream = b"".join(pieces)
        position = 0
        while position < len(stream):
            step = random_.choice((1, 3, 17, 200, 5_000))
            now += random_.random() * 0.2
            for event in session.receive(stream[position : position + step], now):
                if isinstance(event, bytes):
                    assert event[2] == 0x10 and int.from_bytes(event[:2], "big") + 3 == len(event)
                    outcomes["media"] += 1
                else:
                    outcomes[
                        type(event).__name__ if not isinstance(event, Ended) else f"ended: {event.code}"
                    ] += 1
                    if isinstance(event, HelloReceived):
                        session.welcome(id=RP)
            assert session._splitter.waiting <= 65_538
            for event in session.tick(now):
                outcomes[f"ended: {event.code}" if isinstance(event, Ended) else type(event).__name__] += 1
            session.take()
            if session.state is State.ENDED:
                assert (
                    session.receive(SEEDS[-2], now) == []
                    and session.take() == b""
                    and session.tick(now) == []
                )
                break
            position += step
        else:
            outcomes["still open"] += 1
        fed += bisect_left(borders, position) + 1  # what came after the end was not heard and does not count
    took = time.perf_counter() - started
    for name, count in outcomes.most_common():
        print(f"{count:>10,}  {name}")
    print(
        f"{fed:,} frames in {rounds:,} sessions, seed {options.seed}: nothing raised; {took:.0f} s, {fed / took:,.0f} frames/s"
    )


if __name__ == "__main__":
    main()
