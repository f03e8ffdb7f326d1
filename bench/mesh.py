"""The mesh at its largest: ``python bench/mesh.py [--rallypoints 200] [--degree 6] [--streams 10000]``.

One engine is measured, in the middle of a random mesh of the given size; the floods of all others are made and signed (ECDSA, P-256) beforehand.
Printed: the CPU time that a broken and a mended link cost it, from the two floods until every stream in use has its next hops again;
what a join elsewhere costs; what a datagram costs; memory.  Then an idle mesh of 20 in full: control bytes per link and second.
"""

import argparse
import gc
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from heapq import heappop, heappush
from statistics import median, quantiles
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from ice.link.frame import MEDIA, media
from ice.link.naming import stream_key
from ice.link.peer import (
    Delta,
    delta,
    full,
    interest_message,
    origin_of,
    relay,
    state,
    state_core,
    topology_message,
)
from ice.rallypoint.interest import Interest, Wanted
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.neighbours import Send
from ice.rallypoint.signatures import sign_with, verify_with

SALT = bytes(16)


class Author:
    """Another Rallypoint, as far as its signed words go."""

    def __init__(self, number: int) -> None:
        self.id = UUID(bytes=sha256(b"%d" % number).digest()[:16], version=4)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.sign = sign_with(self.key)
        self.certificate = self.id.bytes + bytes(600)
        self.origin = origin_of(self.id, SALT)
        self.number = 0
        self.links: dict[int, int] = {}
        self.interest = Interest()

    def state(self, certified: bool = False) -> bytes:
        """Its next state."""
        self.number += 1
        core = state_core(self.id, SALT, self.number, False, self.links, ())
        return state(core, self.sign(topology_message(core)), self.certificate if certified else b"")

    def wants(self, keys: set[int], ids: dict[int, str]) -> list[bytes]:
        """Its whole interest."""
        self.interest = Interest(keys, 1)
        self.interest.signature = self._signed(self.interest)
        return full(self.origin, 1, self.interest.keys, ids, self.interest.signature)

    def change(self, added: tuple[int, ...], removed: tuple[int, ...]) -> bytes:
        """A delta."""
        was = self.interest
        now = was.after(added, removed, was.number + 1, b"")
        assert now is not None
        now.signature, self.interest = self._signed(now), now
        return delta(Delta(self.origin, was.number, now.number, len(now), added, removed, {}, now.signature))

    def _signed(self, interest: Interest) -> bytes:
        return self.sign(interest_message(self.origin, interest.number, len(interest), interest.digest))


def random_mesh(count: int, degree: int, rng: random.Random) -> list[tuple[int, int, int]]:
    """Edges with costs: a ring, so that it hangs together, and random ones up to the degree."""
    edges = {(n, (n + 1) % count) for n in range(count)}
    degrees = [2] * count
    for _ in range(100 * count):
        a, b = rng.randrange(count), rng.randrange(count)
        if a != b and degrees[a] < degree and degrees[b] < degree and not {(a, b), (b, a)} & edges:
            edges.add((a, b))
            degrees[a] += 1
            degrees[b] += 1
    return [(a, b, rng.choice((10, 10, 20, 30))) for a, b in sorted(edges)]


def timed(call: Callable[[], object]) -> float:
    """CPU seconds."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def shown(title: str, seconds: list[float]) -> None:
    """Median, 95th percentile and worst in ms."""
    p95 = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    print(
        f"{title:<58} median {1e3 * median(seconds):8.2f} ms   p95 {1e3 * p95:8.2f} ms   "
        f"worst {1e3 * max(seconds):8.2f} ms   n={len(seconds)}"
    )


def large(count: int, degree: int, streams: int, wanting: int, seed: int) -> None:
    """One engine among many."""
    rng = random.Random(seed)
    authors = [Author(n) for n in range(count)]
    keys_of = {a.certificate: a.key.public_key() for a in authors}
    edges = random_mesh(count, degree, rng)
    me = authors[0]
    gc.collect()
    tracemalloc.start()
    mesh: Mesh[int] = Mesh(
        me.id,
        me.certificate,
        me.sign,
        lambda certificate: UUID(bytes=certificate[:16]),
        lambda certificate, message, signature: verify_with(keys_of[certificate], message, signature),
        random_bytes=lambda size: SALT[:size],
    )
    for a, b, cost in edges:
        authors[a].links[authors[b].origin] = cost
        authors[b].links[authors[a].origin] = cost
    near = [n for n, author in enumerate(authors) if author.origin in me.links]
    now = 1.0
    for n in near:
        mesh.link_up(n, authors[n].id, me.links[authors[n].origin], now)
        own = state(*_own(authors[n]), own=True)
        mesh.receive(n, own, now)
        mesh.receive(n, b"\x00\x04\x12\x02\x01\x00\x00", now)  # a complete summary of nothing
        mesh.receive(n, b"\x00\x09\x12\x03" + bytes(8), now)  # a digest
    mesh.take(now)
    link = near[0]
    for author in authors[1:]:
        mesh.receive(link, author.state(certified=True), now)
    names = {stream_key(f"stream {n}"): f"stream {n}" for n in range(streams)}
    keys = sorted(names)
    wishes: list[set[int]] = [set() for _ in authors]
    for key in keys:
        for n in rng.sample(range(1, count), wanting):
            wishes[n].add(key)
    for author, wish in zip(authors[1:], wishes[1:], strict=True):
        for frame in author.wants(wish, names):
            mesh.receive(link, frame, now)
    mesh.take(now)
    tracemalloc.stop()
    print(
        f"{count} Rallypoints, {len(edges)} links, {streams} streams wanted by {wanting} each; reached: "
        f"{len(mesh.reach())}, refused: {mesh.refused}"
    )
    tracemalloc.start()
    sources = {key: rng.randrange(1, count) for key in keys}
    sequence = 0

    def speak() -> None:
        """Every stream says one datagram."""
        nonlocal sequence
        sequence += 1
        for key, n in sources.items():
            frame = relay(authors[n].origin, media(0, key, n << 32, sequence, b"x" * 120))
            mesh.relay(link, frame, now)

    first = timed(speak)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(
        f"memory of routes, windows and trees: {memory / 1e6:.1f} MB for {len(mesh.routes)} routes in {len(mesh.forest)} trees"
    )
    usual = median([timed(speak) for _ in range(5)])
    print(
        f"first datagram of each stream (traced) {1e6 * first / streams:.1f} µs; later ones {1e6 * usual / streams:.2f} µs"
    )

    def hear(frames: list[bytes]) -> None:
        """What a neighbour passes on."""
        for frame in frames:
            mesh.receive(link, frame, now)
        mesh.take(now)

    def end_of_both() -> None:
        """The two seconds are over."""
        mesh.take(now)

    heard, spoken, ended, whole, trees, joins = [], [], [], [], [], []
    far = [edge for edge in edges if 0 not in edge[:2]]
    for a, b, cost in rng.sample(far, 40):
        one, other = authors[a], authors[b]
        for mended in (False, True):
            for here, there in ((one, other), (other, one)):
                if mended:
                    here.links[there.origin] = cost
                else:
                    del here.links[there.origin]
            frames = [one.state(), other.state()]
            before = mesh.forest.updated
            heard.append(timed(partial(hear, frames)))
            spoken.append(max(0.0, timed(speak) - usual))
            trees.append(mesh.forest.updated - before)
            now += 3
            ended.append(timed(end_of_both) + max(0.0, timed(speak) - usual))
            whole.append(heard[-1] + spoken[-1] + ended[-1])
    shown("a link breaks or mends: two floods, trees followed", heard)
    shown("  next hops of the streams that need new ones", spoken)
    shown("  the same again when the two seconds are over", ended)
    shown("  in all (reach: 100 ms)", whole)
    print(
        f"  trees followed per change: median {median(trees):.0f}, most {max(trees)}, of {len(mesh.forest)} in use"
    )
    for n in range(200):
        frames = [authors[rng.randrange(1, count)].change((n + 1,), ())]
        now += 0.02
        joins.append(timed(partial(hear, frames)))
    shown("a join elsewhere: one flood", joins)
    print(
        f"largest resident size of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


def _own(author: Author) -> tuple[bytes, bytes, bytes]:
    author.number += 1
    core = state_core(author.id, SALT, author.number, False, author.links, ())
    return core, author.sign(topology_message(core)), author.certificate


def state_memory(count: int, degree: int, streams: int, wanting: int, seed: int) -> None:
    """The same ledger once more, for its memory alone."""
    rng = random.Random(seed)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    wanted = Wanted()
    interests = []
    for origin in range(count):
        keys = {rng.randrange(2**64) for _ in range(streams * wanting // count)}
        interests.append(Interest(keys))
        wanted.change(origin, keys, ())
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    held = sum(map(len, interests))
    print(
        f"memory of {held} keys wanted, each by one origin only (the dearest case): {memory / 1e6:.1f} MB, {memory / held:.0f} bytes each"
    )


def idle(count: int, seconds: float) -> None:
    """A full mesh in which nothing happens, every engine real."""
    rng = random.Random(1)
    meshes: list[Mesh[tuple[int, int]]] = []
    for n in range(count):
        author = Author(n)
        meshes.append(
            Mesh(
                author.id,
                author.certificate,
                lambda message: sha256(message).digest(),
                lambda certificate: UUID(bytes=certificate[:16]),
                lambda certificate, message, signature: signature == sha256(message).digest(),
                random_bytes=rng.randbytes,
            )
        )
    events: list[tuple[float, int, int, tuple[int, int] | None, bytes]] = []
    serial = 0
    told: dict[tuple[int, int], int] = {}

    def pump(n: int, now: float) -> None:
        nonlocal serial
        for output in meshes[n].take(now):
            if isinstance(output, Send):
                serial += 1
                there = output.link[1]
                told[output.link] = told.get(output.link, 0) + len(output.frame)
                heappush(events, (now + 0.02, serial, there, (there, n), output.frame))
        due = max(now + 1e-3, meshes[n].deadline)
        if due < timers[n]:
            timers[n] = due
            serial += 1
            heappush(events, (due, serial, n, None, b""))

    timers = [float("inf")] * count
    for a in range(count):
        for b in range(count):
            if a != b:
                meshes[a].link_up((a, b), meshes[b].id, 10, 0.0)
        key = stream_key(f"stream {a}")
        meshes[a].want(key, f"stream {a}", 0.0)
    for n in range(count):
        pump(n, 0.0)
    start = 10.0
    settled: dict[tuple[int, int], int] = {}
    while events and events[0][0] < start + seconds:
        now, _, n, link, frame = heappop(events)
        if now >= start and not settled:
            settled = dict(told)
        if link is not None:
            meshes[n].receive(link, frame, now)
            pump(n, now)
        elif timers[n] <= now:
            timers[n] = float("inf")
            pump(n, now)
    rates = [
        (told[link] + told[link[::-1]] - settled.get(link, 0) - settled.get(link[::-1], 0)) / seconds
        for link in told
        if link[0] < link[1]
    ]
    begun = sum(settled.values()) / len(rates)
    print(
        f"idle full mesh of {count}: {max(rates):.2f} B/s on the busiest link, both directions, the keep-alive of the link not counted "
        f"(reach: 1,000); {begun / 1e3:.1f} kB per link to begin with"
    )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rallypoints", type=int, default=200)
    parser.add_argument("--degree", type=int, default=6)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--wanting", type=int, default=8, help="Rallypoints with listeners, per stream")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, MEDIA header {MEDIA.size} bytes")
    large(given.rallypoints, given.degree, given.streams, given.wanting, given.seed)
    state_memory(given.rallypoints, given.degree, given.streams, given.wanting, given.seed)
    idle(20, 600.0)


if __name__ == "__main__":
    main()
