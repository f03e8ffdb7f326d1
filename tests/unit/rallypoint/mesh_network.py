"""A network of Rallypoints in memory: engines, wires with delays that lose what is on them when they are cut, talkers and listeners.

Order is kept within a wire and direction, as TCP keeps it, and nowhere else.  Certificates are ``C`` and a UUID, signatures a keyed hash: what is
proved of them is that nobody else's are believed.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256
from heapq import heappop, heappush
from uuid import UUID

from ice.errors import RemoteError
from ice.link.frame import MEDIA, Flag, FrameType, media
from ice.link.naming import stream_key
from ice.link.peer import MEDIA_AT
from ice.link.window import Window
from ice.rallypoint.ledger import Bounds
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.neighbours import End, Notice, Send, Settled

Link = tuple[int, int, int]
"""The end of a wire at the first, towards the second, in its third life."""


def id_of(index: int) -> UUID:
    """The UUID of the Rallypoint with this number."""
    return UUID(bytes=sha256(b"rallypoint %d" % index).digest()[:16], version=4)


def certificate_of(id: UUID) -> bytes:
    """What stands for its certificate."""
    return b"C" + id.bytes


def signature_of(certificate: bytes, message: bytes) -> bytes:
    """What only the holder of the key to this certificate can make."""
    return sha256(b"key of" + certificate + message).digest()[:16]


def verify(certificate: bytes, message: bytes, signature: bytes) -> bool:
    """Whether they fit."""
    return signature == signature_of(certificate, message)


class Authority:
    """Believes every certificate but those it has revoked."""

    def __init__(self) -> None:
        self.revoked: set[UUID] = set()

    def identify(self, certificate: bytes) -> UUID:
        """The UUID in a certificate."""
        if certificate[:1] != b"C" or len(certificate) < 17:
            raise RemoteError("no certificate of ours")
        id = UUID(bytes=certificate[1:17])
        if id in self.revoked:
            raise RemoteError("revoked")
        return id


def engine(
    index: int, rng: random.Random, authority: Authority, now: float = 0.0, **options: object
) -> Mesh[Link]:
    """A Rallypoint's engine."""
    id = id_of(index)
    certificate = certificate_of(id)
    return Mesh(
        id,
        certificate,
        lambda message: signature_of(certificate, message),
        authority.identify,
        verify,
        random_bytes=rng.randbytes,
        now=now,
        **options,  # type: ignore[arg-type]
    )


class Node:
    """A Rallypoint with its local talkers and listeners."""

    def __init__(self, network: "Network", index: int, leaf: bool, bounds: Bounds | None) -> None:
        self.network = network
        self.index = index
        self.leaf = leaf
        self.bounds = bounds
        self.alive = False
        self.mesh: Mesh[Link]
        self.listening: set[int] = set()
        #: What local listeners have heard in this life of the Rallypoint: (key, source, sequence).
        self.heard: Counter[tuple[int, int, int]] = Counter()
        self.settled: list[int] = []
        self.notices: list[Notice] = []
        self.ended: list[str] = []
        self._delivery: dict[tuple[int, int], Window] = {}
        self._timer = float("inf")

    def start(self) -> None:
        """A new life: nothing of the former is remembered."""
        net = self.network
        self.mesh = engine(self.index, net.rng, net.authority, net.now, leaf=self.leaf, bounds=self.bounds)
        self.alive = True
        self.heard = Counter()
        self._delivery = {}
        self._timer = float("inf")
        for key in self.listening:
            self.mesh.want(key, net.ids[key], net.now)
        self.pump()

    def listen(self, stream_id: str) -> int:
        """One listener on a stream; its key."""
        key = stream_key(stream_id)
        self.network.ids[key] = stream_id
        if key not in self.listening:
            self.listening.add(key)
            if self.alive:
                self.mesh.want(key, stream_id, self.network.now)
                self.pump()
        return key

    def unlisten(self, key: int) -> None:
        """Its last listener goes."""
        if key in self.listening:
            self.listening.discard(key)
            if self.alive:
                self.mesh.unwant(key, self.network.now)
                self.pump()

    def say(self, key: int, source: int, sequence: int, flags: int = 0) -> None:
        """A local talker's datagram."""
        if not self.alive:
            return
        frame = media(flags, key, source, sequence, b"voice")
        now = self.network.now
        self.deliver(frame)
        account = self.mesh.routes.account("somebody")
        passed = self.mesh.originate(account, frame, flags, key, source, sequence, now)
        if passed is not None:
            for link in passed.route.hops or ():
                self.network.send(link, passed.frame)

    def deliver(self, frame: bytes) -> None:
        """To local listeners, once."""
        _, _, _, key, source, sequence = MEDIA.unpack_from(frame)
        window = self._delivery.setdefault((key, source), Window())
        if not window.ask(sequence, self.network.now) and key in self.listening:
            self.heard[key, source, sequence] += 1

    def arrive(self, link: Link, frame: bytes) -> None:
        """A frame comes in."""
        if frame[2] == FrameType.RELAY:
            passed = self.mesh.relay(link, frame, self.network.now)
            if passed is not None:
                self.deliver(frame[MEDIA_AT:])
                if passed.frame:
                    for hop in passed.route.hops or ():
                        if hop != link:
                            self.network.send(hop, passed.frame)
        else:
            self.mesh.receive(link, frame, self.network.now)
            self.pump()

    def pump(self) -> None:
        """Do what the engine wants done."""
        net = self.network
        for output in self.mesh.take(net.now):
            if isinstance(output, Send):
                net.send(output.link, output.frame)
            elif isinstance(output, End):
                self.ended.append(output.code)
                net.cut(self.index, output.link[1], generation=output.link[2])
            elif isinstance(output, Settled):
                self.settled.append(output.key)
            else:
                self.notices.append(output)
        deadline = self.mesh.deadline
        if deadline < self._timer:
            self._timer = max(deadline, net.now)
            net.at(self._timer, self._tick, self.mesh)

    def _tick(self, mesh: Mesh[Link]) -> None:
        if self.alive and mesh is self.mesh and self._timer <= self.network.now:
            self._timer = float("inf")
            self.pump()


class Network:
    """Rallypoints, wires and time."""

    def __init__(self, seed: int = 0, delays: tuple[float, float] = (0.001, 0.05)) -> None:
        self.rng = random.Random(seed)
        self.authority = Authority()
        self.delays = delays
        self.now = 0.0
        self.nodes: list[Node] = []
        self.ids: dict[int, str] = {}
        self.relayed: Counter[tuple[int, int, int]] = Counter()
        self.control_bytes: Counter[tuple[int, int]] = Counter()
        self.refusing_frames = False
        self._events: list[tuple[float, int, object, tuple[object, ...]]] = []
        self._count = 0
        self._wires: dict[frozenset[int], int] = {}
        self._lives: Counter[frozenset[int]] = Counter()
        self._delay: dict[tuple[int, int], float] = {}
        self._last: defaultdict[Link, float] = defaultdict(float)

    # -- building ------------------------------------------------------------------------------------------------------

    def add(self, count: int = 1, *, leaf: bool = False, bounds: Bounds | None = None) -> list[Node]:
        """Rallypoints, started."""
        added = [Node(self, len(self.nodes) + n, leaf, bounds) for n in range(count)]
        self.nodes += added
        for node in added:
            node.start()
        return added

    def join(self, a: int, b: int, cost: int = 10, delay: float | None = None) -> None:
        """A wire between two Rallypoints that run."""
        pair = frozenset((a, b))
        if a == b or pair in self._wires or not (self.nodes[a].alive and self.nodes[b].alive):
            return
        self._lives[pair] += 1
        generation = self._wires[pair] = self._lives[pair]
        for here, there in ((a, b), (b, a)):
            self._delay[here, there] = delay if delay is not None else self.rng.uniform(*self.delays)
        for here, there in ((a, b), (b, a)):
            self.nodes[here].mesh.link_up((here, there, generation), id_of(there), cost, self.now)
        for here in (a, b):
            if self.nodes[here].alive:
                self.nodes[here].pump()

    def cut(self, a: int, b: int, *, generation: int | None = None, notice: float = 0.0) -> None:
        """Cut a wire, if it stands; each end notices after up to ``notice`` seconds. What is on it is lost."""
        pair = frozenset((a, b))
        stands = self._wires.get(pair)
        if stands is None or generation not in (None, stands):
            return
        del self._wires[pair]
        for here, there in ((a, b), (b, a)):
            link = (here, there, stands)
            if self.nodes[here].alive:
                after = self.rng.uniform(0, notice) if notice else 0.0
                self.at(self.now + after, self._down, link, self.nodes[here].mesh)

    def kill(self, index: int, notice: float = 0.0) -> None:
        """End a Rallypoint; its neighbours notice after up to ``notice`` seconds."""
        node = self.nodes[index]
        node.alive = False
        for pair in [pair for pair in self._wires if index in pair]:
            (other,) = pair - {index}
            self.cut(index, other, notice=notice)

    def neighbours(self, index: int) -> list[int]:
        """The other ends of its wires."""
        return [other for pair in self._wires if index in pair for other in pair - {index}]

    @property
    def wires(self) -> list[tuple[int, int]]:
        """Those that stand."""
        return [(min(pair), max(pair)) for pair in self._wires]

    # -- time ----------------------------------------------------------------------------------------------------------

    def at(self, when: float, call: object, *args: object) -> None:
        """Call later."""
        self._count += 1
        heappush(self._events, (when, self._count, call, args))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call, args = heappop(self._events)
            call(*args)  # type: ignore[operator]
        self.now = end

    def send(self, link: Link, frame: bytes) -> None:
        """Put a frame on a wire."""
        here, there, generation = link
        if self._wires.get(frozenset((here, there))) != generation:
            return
        if frame[2] == FrameType.RELAY:
            _, _, _, key, source, sequence = MEDIA.unpack_from(frame, MEDIA_AT)
            self.relayed[key, source, sequence] += 1
        else:
            self.control_bytes[here, there] += len(frame)
        when = self._last[link] = max(self._last[link], self.now + self._delay[here, there])
        self.at(when, self._arrive, link, frame)

    def _arrive(self, link: Link, frame: bytes) -> None:
        here, there, generation = link
        if self._wires.get(frozenset((here, there))) == generation and self.nodes[there].alive:
            self.nodes[there].arrive((there, here, generation), frame)

    def _down(self, link: Link, mesh: Mesh[Link]) -> None:
        node = self.nodes[link[0]]
        if node.alive and node.mesh is mesh:
            mesh.link_down(link, self.now)
            node.pump()

    # -- what should be ------------------------------------------------------------------------------------------------

    def reachable(self, root: int) -> dict[int, int]:
        """Rallypoints that a datagram of ``root`` can come to, and the links to there at least; nothing passes through a leaf."""
        depth = {root: 0}
        todo = [root]
        for here in todo:
            if here == root or not self.nodes[here].leaf:
                for there in self.neighbours(here):
                    if there not in depth and self.nodes[there].alive:
                        depth[there] = depth[here] + 1
                        todo.append(there)
        return depth

    def differences(self) -> list[str]:
        """Where Rallypoints that are connected do not agree; empty once the mesh has converged."""
        found = []
        for node in self.nodes:
            if not node.alive:
                continue
            reach = self.reachable(node.index)
            wanted = {o: self.nodes[o].mesh for o in reach}
            mine = {r.id: r for r in node.mesh.records if r.forget_at is None}
            if set(mine) != {mesh.id for mesh in wanted.values()}:
                found.append(f"{node.index} knows {len(mine)} of {len(reach)}")
                continue
            for other, mesh in wanted.items():
                theirs = mesh.ledger.records[mesh.origin]
                held = mine[mesh.id]
                if (held.state.core, held.interest.number, held.interest.digest) != (
                    theirs.state.core,
                    theirs.interest.number,
                    theirs.interest.digest,
                ):
                    found.append(f"{node.index} is behind on {other}")
            links = {id_of(other) for other in self.neighbours(node.index)}
            said = mine[node.mesh.id].state.links
            if {r.id for r in mine.values() if r.origin in said} != links:
                found.append(f"{node.index} does not say its links")
        return found

    def settle(self, limit: float = 60.0) -> float:
        """Run until all agree and the two seconds of both ways are over; how long agreement took."""
        begin = self.now
        while self.differences():
            if self.now - begin > limit:
                raise AssertionError(f"not converged after {limit} s: {self.differences()[:5]}")
            self.run(0.1)
        took = self.now - begin
        self.run(2.5)
        return took

    def random_graph(self, indexes: Iterable[int], extra: int) -> None:
        """Wires: a random tree, not too deep, and ``extra`` more."""
        order = list(indexes)
        self.rng.shuffle(order)
        for n, index in enumerate(order[1:], 1):
            self.join(
                index,
                order[self.rng.randrange(max(0, n - 8), n) if n < 12 else self.rng.randrange(n)],
                self.cost(),
            )
        for _ in range(extra):
            a, b = self.rng.choice(order), self.rng.choice(order)
            self.join(a, b, self.cost())

    def cost(self) -> int:
        """Often the same, so that ties are common."""
        return self.rng.choice((10, 10, 10, 20, 30, self.rng.randrange(1, 1_000)))


PROTECTED = int(Flag.PROTECTED)
