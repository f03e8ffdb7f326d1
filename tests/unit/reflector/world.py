"""A network in a test's hand: local networks and Rallypoints without sockets, reflectors between them, datagrams carried one by one."""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import attrs

from ice.media.rtp import Packet
from ice.net.addresses import Address
from ice.reflector.engine import Port, Reflection, Terms
from ice.reflector.translation import Translation
from ice.streams.heard import Heard
from ice.streams.interface import Datagram

GROUP = "239.192.7.1:21000"
NOON = 1_700_000_000.0  # Unix seconds; the time of day does not matter
STREAM = "3f2a9c1e-5b7d-5e0f-8a61-2c4d6e8f0a1b"


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"sound", payload_type: int = 0, **more: Any) -> bytes:
    """An RTP packet with 20 ms of something."""
    return Packet(
        payload_type, sequence & 0xFFFF, 160 * sequence & 0xFFFF_FFFF, ssrc, payload, **more
    ).encode()


@attrs.define(eq=False)
class Watching:
    """Remembers what a person would be told."""

    told: list[tuple[str, str]] = attrs.field(factory=list)

    def flood(self, port: Port, host: str) -> None:
        self.told.append(("flood", host))

    def paused(self, port: Port, why: str, seconds: float) -> None:
        self.told.append(("paused", why))

    def resumed(self, port: Port) -> None:
        self.told.append(("resumed", ""))


@attrs.define(eq=False)
class World:
    """Networks, streams, and what is on its way."""

    now: float = 1_000.0
    unix: float = NOON
    #: Who listens where: ``(host, f)`` by network or stream.
    lans: dict[str, list[tuple[str, Callable[[bytes, str], None]]]] = attrs.field(factory=dict)
    meshes: dict[str, list[tuple[object, Callable[[Datagram], None]]]] = attrs.field(factory=dict)
    #: What people at a listener's side of each heard.
    on_lan: dict[str, list[tuple[str, bytes]]] = attrs.field(factory=dict)
    on_mesh: dict[str, list[Datagram]] = attrs.field(factory=dict)
    way: deque[Callable[[], None]] = attrs.field(factory=deque)
    carried: int = 0
    _windows: dict[str, Heard] = attrs.field(factory=dict)
    random: Random = attrs.field(factory=lambda: Random(1))
    shuffle: bool = False

    def say(self, lan: str, host: str, data: bytes) -> None:
        """``host`` sends into the group of ``lan``: everybody else there hears it."""
        self.on_lan.setdefault(lan, []).append((host, data))
        for who, hears in self.lans.get(lan, ()):
            if who != host:
                self.way.append(lambda hears=hears: hears(data, host))  # type: ignore[misc]

    def put(self, stream: str, link: object, datagram: Datagram) -> None:
        """A link forwards into the stream: a name passes once."""
        if self._windows.setdefault(stream, Heard()).ask(datagram.source, datagram.sequence, self.now):
            return
        self.on_mesh.setdefault(stream, []).append(datagram)
        for who, hears in self.meshes.get(stream, ()):
            if who is not link:
                self.way.append(lambda hears=hears: hears(datagram))  # type: ignore[misc]

    def settle(self, limit: int = 10_000) -> None:
        """Carry everything; whoever never ends is a storm."""
        while self.way:
            if self.shuffle:
                self.way.rotate(self.random.randrange(len(self.way)))
            self.way.popleft()()
            self.carried += 1
            assert self.carried < limit, "a storm"

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.unix += seconds


class Reflector:
    """One reflector of one stream at one host, as the driver puts it together."""

    def __init__(
        self,
        world: World,
        host: str,
        *lans: str,
        stream: str = STREAM,
        group: str = GROUP,
        translation: Translation | None = None,
        active: bool = True,
        **terms: Any,
    ) -> None:
        self.world, self.host = world, host
        self.watching = Watching()
        self.window = Heard()
        self.stream = stream
        self.up = True
        self.reflection = Reflection(
            stream,
            self.forward,
            self.watching,
            wall=lambda: world.unix,
            random=Random(hash(host)),
            active=active,
        )
        rules = [
            (Terms(group, **terms) if not at else Terms(f"{group}#{at}"), translation)
            for at in range(len(lans))
        ]
        self.ports = self.reflection.open(rules, world.now)
        for port, lan in zip(self.ports, lans, strict=True):
            port.own_hosts = (host,)
            port.sends = (lambda data, lan=lan: self.send(lan, data),)  # type: ignore[misc]
            if port.terms.hears:
                world.lans.setdefault(lan, []).append(
                    (
                        host,
                        lambda data, sender, port=port: port.heard_many(
                            [(data, Address(sender, 5_004))], world.now
                        ),
                    )  # type: ignore[misc]
                )
        world.meshes.setdefault(stream, []).append((self, self.hear))
        self.port = self.ports[0]

    def send(self, lan: str, data: bytes) -> bool:
        self.world.say(lan, self.host, data)
        return True

    def forward(self, datagrams: Sequence[Datagram]) -> list[str]:
        return [self.forward_one(each) for each in datagrams]

    def forward_one(self, datagram: Datagram) -> str:
        if not self.up:
            return "no-path"
        if self.window.ask(datagram.source, datagram.sequence, self.world.now):
            return "circular"
        self.world.put(self.stream, self, datagram)
        return ""

    def hear(self, datagram: Datagram) -> None:
        if not self.window.ask(datagram.source, datagram.sequence, self.world.now):
            self.reflection.datagram(datagram, self.world.now)


def stream_says(world: World, datagram: Datagram, stream: str = STREAM) -> None:
    """Somebody far away says something on the stream."""
    world.put(stream, None, datagram)
