"""Streams, stations and patch engines joined by hand: no reactor, no clock but ours.

What the streams of :mod:`ice.streams` do for a patch is done here too: every party has a window per stream, hears each datagram once and
never its own, and passes nothing on that the stream has carried before.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import attrs
import numpy as np

from ice.link.frame import Flag
from ice.media.burst import BurstSender, Sending
from ice.media.codecs import SAMPLE_RATE, Pcm, encoder
from ice.media.playout import Event, Listener
from ice.media.rtp import Packet, Talk
from ice.media.tones import sine
from ice.patch.channel import Channel, Voice
from ice.patch.engine import engine_for
from ice.patch.junction import Junction
from ice.patch.keys import Lock, Locks
from ice.patch.outcome import Loop, Out, Passed
from ice.patch.plan import Mode, Patch
from ice.patch.probe import read_probe
from ice.streams.heard import Heard
from ice.streams.interface import Datagram

WALL = 1_790_000_000.0  # Unix seconds at our second 0
L16 = Voice(codec="l16")


@attrs.define(eq=False)
class Party:
    """Somebody on one stream, with his windows and his name."""

    stream: str
    source: int
    hear: Callable[[Datagram, float], None]
    heard: Heard = attrs.field(factory=Heard)
    sequence: int = 0


class Air:
    """The streams. ``loss`` 0–1 and ``delay_s`` (least, most) of each delivery are drawn from ``seed``."""

    def __init__(
        self, *, delay_s: tuple[float, float] = (0.002, 0.002), loss: float = 0.0, seed: int = 0
    ) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.delay_s, self.loss = delay_s, loss
        self.parties: dict[str, list[Party]] = {}
        self.servers: list[Server] = []
        self.sent = 0  # datagrams on any stream
        self.sent_at: list[float] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def join(self, stream: str, hear: Callable[[Datagram, float], None]) -> Party:
        party = Party(stream, self.chance.getrandbits(64), hear)
        self.parties.setdefault(stream, []).append(party)
        return party

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what))

    def send(self, party: Party, payload: bytes, flags: int) -> None:
        datagram = Datagram(flags, party.source, party.sequence, payload)
        party.sequence += 1
        self._carry(party, datagram)

    def forward(self, party: Party, datagram: Datagram) -> bool:
        if datagram.source == party.source or party.heard.ask(datagram.source, datagram.sequence, self.now):
            return False
        self._carry(party, datagram)
        return True

    def _carry(self, sender: Party, datagram: Datagram) -> None:
        self.sent += 1
        self.sent_at.append(self.now)
        for party in self.parties[sender.stream]:
            if party is sender or self.chance.random() < self.loss:
                continue
            self.at(
                self.now + self.chance.uniform(*self.delay_s), lambda to=party: self._deliver(to, datagram)
            )  # type: ignore[misc]

    def _deliver(self, party: Party, datagram: Datagram) -> None:
        if datagram.source == party.source or party.heard.ask(datagram.source, datagram.sequence, self.now):
            return
        party.hear(datagram, self.now)

    def run(self, until: float) -> None:
        """Let time pass, to ``until``."""
        while True:
            event_at = self._events[0][0] if self._events else math.inf
            server = min(self.servers, key=lambda each: each.engine.deadline, default=None)
            server_at = server.engine.deadline if server is not None else math.inf
            when = min(event_at, server_at)
            if when > until:
                self.now = until
                return
            self.now = max(self.now, when)
            if server is not None and server_at <= event_at:
                server.carry(server.engine.tick(self.now, WALL + self.now))
            else:
                heapq.heappop(self._events)[2]()


class Server:
    """A patch engine on the air, driven as a service would."""

    def __init__(self, air: Air, engine: Junction) -> None:
        self.air = air
        self.engine = engine
        self.parties: dict[str, Party] = {}
        self.loops: list[Loop] = []
        for stream in engine.patch.stream_ids:
            party = air.join(stream, lambda datagram, now, stream=stream: self.hear(stream, datagram, now))  # type: ignore[misc]
            self.parties[stream] = party
            engine.named(stream, party.source)
        air.servers.append(self)

    def hear(self, stream: str, datagram: Datagram, now: float) -> None:
        self.carry(self.engine.datagram(stream, datagram, now, WALL + now))

    def carry(self, outs: list[Out]) -> None:
        for out in outs:
            for stream in out.streams:
                party = self.parties[stream]
                if isinstance(out, Passed):
                    if not self.air.forward(party, out.datagram):
                        self.engine.passed_before(stream, self.air.now)
                else:
                    self.air.send(party, out.payload, out.flags)
        self.loops += self.engine.loops()


class Station:
    """A person on a stream: talks with one voice, hears what comes; sealed with a lock where one is given."""

    def __init__(
        self,
        air: Air,
        stream: str,
        *,
        voice: Voice = L16,
        lock: Lock | None = None,
        alias: str = "",
        priority: int = 0,
        emergency: bool = False,
        ssrc: int | None = None,
    ) -> None:
        self.air = air
        self.lock = lock
        self.datagrams: list[tuple[float, Datagram, bytes]] = []
        self.unreadable = 0
        self.probes = 0
        self.listening = False
        self.listener = Listener(payload_types=voice.payload_types)
        self.events: list[Event] = []
        self.sound: list[Pcm] = []
        self.party = air.join(stream, self._hear)
        coder = encoder(voice.codec, bitrate=voice.bitrate, framing_ms=voice.framing_ms, fec=False)
        talk = Talk(alias, priority)
        self.sender: BurstSender = voice.sender(
            coder, talk, air.chance.getrandbits(32) if ssrc is None else ssrc, random.Random(1)
        )
        self.sender.emergency = emergency

    # -- ears

    def _hear(self, datagram: Datagram, now: float) -> None:
        payload: bytes | str = datagram.payload
        if self.lock is not None:
            payload = self.lock.open(datagram.payload, WALL + now)
        if isinstance(payload, str):
            self.unreadable += 1
            return
        if read_probe(payload) is not None:
            self.probes += 1
            return
        self.datagrams.append((now, datagram, payload))
        if self.listening:
            self.listener.datagram(payload, datagram.flags, datagram.source, now)

    def listen(self, start: float, end: float) -> None:
        """Record what a loudspeaker would give, from ``start`` to ``end``."""
        self.listening = True
        steps = round((end - start) / 0.02)
        for step in range(steps):
            self.air.at(start + step * 0.02, self._pull)

    def _pull(self) -> None:
        self.sound.append(self.listener.pull(960, self.air.now))
        self.events += self.listener.events()

    @property
    def pcm(self) -> Pcm:
        return np.concatenate(self.sound)

    @property
    def packets(self) -> list[Packet]:
        return [
            Packet.decode(payload)
            for _, datagram, payload in self.datagrams
            if not datagram.flags & Flag.DATA
        ]

    @property
    def talks(self) -> list[Talk]:
        """What header extensions said, in order."""
        return [
            Talk.from_extension(packet.extension) for packet in self.packets if packet.extension is not None
        ]

    # -- mouth

    def talk(self, pcm: Pcm, at: float) -> None:
        """Say ``pcm`` from ``at`` on."""
        self.air.at(at, lambda: self._say(pcm, at))

    def _say(self, pcm: Pcm, at: float) -> None:
        self.sender.press(at)
        for sending in self.sender.pcm(pcm) + self.sender.release(at + len(pcm) / SAMPLE_RATE):
            self.air.at(sending.due, lambda each=sending: self._send(each))  # type: ignore[misc]

    def _send(self, sending: Sending) -> None:
        payload = sending.payload
        if self.lock is not None:
            payload = self.lock.seal(payload, WALL + self.air.now, first=bool(sending.flags & Flag.FIRST))
        self.air.send(self.party, payload, sending.flags)


def tone(frequency_hz: float, seconds: float, level_dbov: float = -18.0) -> Pcm:
    return sine(frequency_hz, round(seconds * SAMPLE_RATE), level_dbov=level_dbov)


def power(pcm: Pcm, frequency_hz: float) -> float:
    """How much of a tone is in the sound, 0–1 of full scale (Goertzel over all of it)."""
    place = np.arange(len(pcm)) * (2 * math.pi * frequency_hz / SAMPLE_RATE)
    sound = pcm.astype(np.float64) / 32_768
    return float(
        2 * math.hypot(np.dot(sound, np.cos(place)), np.dot(sound, np.sin(place))) / max(1, len(pcm))
    )


def patched(
    air: Air,
    mode: Mode,
    streams: tuple[str, ...],
    channels: dict[str, Channel] | None = None,
    *,
    id: str = "patch",
    group: str = "group",
    seed: int = 1,
    active: bool = True,
    full_duplex: bool = False,
    voice: Voice = L16,
    locks: Locks | None = None,
) -> Server:
    """A patch of these streams on the air, each an L16 channel where nothing else is said."""
    known = {stream: Channel(stream, full_duplex=full_duplex, voice=voice) for stream in streams}
    engine = engine_for(
        Patch.of(id, streams, mode=mode),
        known | (channels or {}),
        group_id=group,
        chance=random.Random(f"{seed} {group} {id} {len(air.servers)}"),
        active=active,
        locks=locks,
    )
    return Server(air, engine)
