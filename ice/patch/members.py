"""The streams of one patch: their locks, their paths, what went in and out; and how one datagram becomes those that are sent.

For each stream it is worked out once, until a path or a key changes, which of the others get the same bytes of what it says (:class:`_Way`): a packet then costs one
sealing per way, not per stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs

from ice.errors import LocalError
from ice.patch.channel import Channel
from ice.patch.heading import FIRST
from ice.patch.keys import Lock, Locks
from ice.patch.outcome import MemberStatus, Out, Passed, Spoken, Traffic
from ice.patch.plan import Patch
from ice.streams.interface import Datagram

OK: Final = 1  # states of a member as the original's status counts them
JOINING: Final = 3
GONE: Final = 5
ERROR: Final = -1


@attrs.define
class _Way:
    """Streams that get the same bytes of what one stream says. ``lock`` None: the bytes as they came."""

    streams: tuple[str, ...]
    lock: Lock | None
    packets: int = 0
    bytes: int = 0


@attrs.define(eq=False)
class Joined:
    """One stream of the patch."""

    channel: Channel
    lock: Lock
    up: bool = True
    why: str = ""
    silent_because: str = ""  #: why we cannot speak there, if so: a codec that is not installed
    rx: Traffic = attrs.field(factory=Traffic)
    tx: Traffic = attrs.field(factory=Traffic)
    refused: Counter[str] = attrs.field(factory=Counter)
    ways: list[_Way] | None = None


class Members:
    """The streams of ``patch``; one that ``channels`` does not tell of is as :class:`~ice.patch.channel.Channel` has it."""

    def __init__(self, patch: Patch, channels: Mapping[str, Channel], locks: Locks) -> None:
        self.joined: dict[str, Joined] = {}
        for stream in patch.stream_ids:
            channel = channels.get(stream) or Channel(stream)
            self.joined[stream] = Joined(channel, locks.of(stream, channel.keyring, shut=channel.shut))

    @property
    def full_duplex(self) -> bool:
        """Whether everybody may talk at once."""
        return any(joined.channel.full_duplex for joined in self.joined.values())

    @property
    def max_rx_s(self) -> float:
        """For how long a burst may cross: the shortest that a stream allows, 0 for no limit."""
        limits = [joined.channel.max_rx_s for joined in self.joined.values()]
        return min((limit for limit in limits if limit > 0), default=0.0)

    def pass_on(self, joined: Joined, datagram: Datagram, payload: bytes, unix_s: float) -> list[Out]:
        """The datagram to all other streams, under its own name; ``payload`` is what is in it."""
        ways = joined.ways
        if ways is None:
            ways = joined.ways = self._ways(joined)
        outs: list[Out] = []
        flags, source, sequence, wire = datagram.flags, datagram.source, datagram.sequence, datagram.payload
        for way in ways:
            lock = way.lock
            if lock is None:
                sealed = datagram
                size = len(wire)
            else:
                try:
                    body = lock.seal(payload, unix_s, first=bool(flags & FIRST))
                except LocalError:
                    self.joined[way.streams[0]].tx.errors += 1
                    continue
                sealed = Datagram(flags, source, sequence, body)
                size = len(body)
            way.packets += 1
            way.bytes += size
            outs.append(Passed(way.streams, sealed))
        return outs

    def spoken(self, streams: tuple[str, ...], flags: int, payload: bytes, unix_s: float) -> list[Out]:
        """Our own words on some streams, sealed."""
        outs: list[Out] = []
        plain: list[str] = []
        for stream in streams:
            joined = self.joined[stream]
            lock = joined.lock
            if not joined.up or lock.shut:
                continue
            if lock.clear:
                plain.append(stream)
                body = payload
            else:
                try:
                    body = lock.seal(payload, unix_s, first=bool(flags & FIRST))
                except LocalError:
                    joined.tx.errors += 1
                    continue
                outs.append(Spoken((stream,), flags, body))
            joined.tx.packets += 1
            joined.tx.bytes += len(body)
        if plain:
            outs.append(Spoken(tuple(plain), flags, payload))
        return outs

    def status(self, *, says_anew: bool) -> tuple[MemberStatus, ...]:
        """All of them; ``says_anew``: whether we must be able to code for each."""
        self._fold_ways()
        return tuple(self._status(joined, says_anew=says_anew) for joined in self.joined.values())

    def _ways(self, origin: Joined) -> list[_Way]:
        same: list[str] = []
        clear: list[str] = []
        ways: list[_Way] = []
        for stream, joined in self.joined.items():
            lock = joined.lock
            if joined is origin or not joined.up or lock.shut:
                continue
            if lock.passes_as_is(origin.lock):
                same.append(stream)
            elif lock.clear:
                clear.append(stream)
            else:
                ways.append(_Way((stream,), lock))
        if clear:
            ways.insert(0, _Way(tuple(clear), self.joined[clear[0]].lock))
        if same:
            ways.insert(0, _Way(tuple(same), None))
        return ways

    def _fold_ways(self) -> None:
        """Add what went out by the ways to the streams' own counters."""
        for joined in self.joined.values():
            for way in joined.ways or ():
                for stream in way.streams:
                    tx = self.joined[stream].tx
                    tx.packets += way.packets
                    tx.bytes += way.bytes
                way.packets = way.bytes = 0

    def forget_ways(self) -> None:
        """A path or a key has changed."""
        self._fold_ways()
        for joined in self.joined.values():
            joined.ways = None

    def _status(self, joined: Joined, *, says_anew: bool) -> MemberStatus:
        lock = joined.lock
        if lock.shut:
            state, why = ERROR, joined.channel.why_shut or lock.words
        elif joined.silent_because and says_anew:
            state, why = ERROR, joined.silent_because
        elif not joined.up:
            state, why = (GONE if joined.rx.packets or joined.tx.packets else JOINING), joined.why
        else:
            state, why = OK, joined.why
        return MemberStatus(
            joined.channel.stream_id,
            state,
            why,
            "unknown" if lock.shut and joined.channel.why_shut else lock.words,
            attrs.evolve(joined.rx, errors=sum(joined.refused.values())),
            attrs.evolve(joined.tx),
            dict(joined.refused),
        )
