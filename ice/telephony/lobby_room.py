"""One channel with its callers: who hears whom.

An engine. :meth:`Room.datagram` takes what is heard on the stream, :meth:`Room.frame`, asked every 20 ms by our clock, gives what is said to the stream and to each line. All callers share one membership of the stream; each talks there under a
source of his own (:mod:`ice.telephony.visitor`).

**Who hears whom.** The network gives nobody his own datagrams back, so callers would not hear each other by way of the stream. To each line goes the sum of everybody on the stream and of all *other* callers who are heard there
(mix-minus): nobody's own sound comes back to him.

**Rank.** What callers say is told to each other's floors, and to the room's own, which silences for the ears of callers whoever is outranked, as on any radio.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final
from uuid import UUID

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.burst import Sending
from ice.media.floor import POLICY_MAX_TX_S, Floor, Rules
from ice.media.floor_ears import FloorEars
from ice.media.mixer import Sum
from ice.media.playout import Listener, ListenerStatistics
from ice.mission import voice
from ice.mission.model import Group
from ice.patch.channel import Channel, channel_of
from ice.patch.heading import heading
from ice.security.keyring import Keyring
from ice.streams.interface import Datagram
from ice.telephony.line_buffer import FRAME
from ice.telephony.visitor import Visitor

CALLERS_MAX: Final = 16  # of one channel; more is a conference bridge's business
TALKERS_MAX: Final = 16  # heard at once
DUE_S: Final = 0.001  # what is due within a millisecond is due


@attrs.frozen
class Place:
    """A channel as callers find it: how voice is coded and sealed there, and who may talk for how long."""

    channel: Channel
    rules: Rules

    @classmethod
    def plain(cls, stream_id: str, *, full_duplex: bool = False) -> Place:
        """A stream that no mission knows: Opus in clear, half a minute at a time."""
        limit = 0.0 if full_duplex else POLICY_MAX_TX_S
        return cls(
            Channel(stream_id, full_duplex=full_duplex), Rules(full_duplex=full_duplex, max_tx_s=limit)
        )


def place_of(group: Group, stream_id: str, *, keyring: Keyring | None = None, shut: bool = False) -> Place:
    """The place that a mission's group is. Raises :class:`~ice.errors.LocalError` for a group that is heard only, and as :func:`~ice.patch.channel.channel_of`."""
    if not group.tx_audio.enabled:
        raise LocalError(
            f"group {group.name!r} is heard only (its txAudio.enabled is false): callers cannot talk there"
        )
    return Place(channel_of(group, stream_id, keyring=keyring, shut=shut), voice.rules(group))


class Room:
    """See the module docstring."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self.place = place
        self.up_since = float("inf")  # of the way to the channel
        #: Datagrams that were not listened to.
        self.refused: Counter[str] = Counter()
        self.sent = 0
        self._chance = chance
        self._visitors: dict[UUID, Visitor] = {}
        self._listener = Listener(talkers_max=TALKERS_MAX, payload_types=place.channel.voice.payload_types)
        self._ears = FloorEars(Floor(attrs.evolve(place.rules, max_tx_s=0.0)))
        self._parting: list[Sending] = []

    def __len__(self) -> int:
        return len(self._visitors)

    @property
    def idle(self) -> bool:
        """Whether there is nobody, and nothing to be said any more."""
        return not self._visitors and not self._parting

    @property
    def sources(self) -> frozenset[int]:
        """The SSRCs of our callers."""
        return frozenset(visitor.ssrc for visitor in self._visitors.values())

    def statistics(self) -> ListenerStatistics:
        """What was heard on the stream."""
        return self._listener.statistics()

    # -- callers

    def enter(self, id: UUID, visitor: Visitor, now: float) -> None:
        """A caller is here. Raises :class:`~ice.errors.LocalError` where the channel's codec is not here."""
        visitor.enter(self.place.channel, self.place.rules, now, self._chance)
        self._visitors[id] = visitor

    def leave(self, id: UUID, now: float) -> None:
        """A caller is not here any more; the end of his burst is still said. One who is not here is no error."""
        visitor = self._visitors.pop(id, None)
        if visitor is not None:
            self._parting += self._told(visitor.part(now), visitor, now)

    # -- the stream

    def path(self, up: bool, now: float) -> None:
        """The way to the stream has opened or closed."""
        self.up_since = now if up else float("inf")
        if not up:
            for visitor in self._visitors.values():
                visitor.lost_path(now)

    def datagram(self, datagram: Datagram, now: float) -> None:
        """Somebody on the stream is heard."""
        payload, flags = datagram.payload, datagram.flags
        head = heading(payload, flags)
        if head is not None and head.ssrc in self.sources:  # back by way of somebody else
            self.refused["own"] += 1
            return
        self._listener.datagram(payload, flags, datagram.source, now, datagram.sequence)
        self._ears.datagram(payload, flags, now)
        for visitor in self._visitors.values():
            visitor.overhear(payload, flags, now)

    def frame(self, now: float) -> tuple[list[Sending], list[tuple[UUID, bytes]]]:
        """20 ms of everything: what is to be said to the stream, and to which lines."""
        sendings: list[Sending] = []
        for visitor in self._visitors.values():
            visitor.step(now, self.up_since)
            sendings += self._told(visitor.said_now(), visitor, now)
        self._parting += sendings
        due = [sending for sending in self._parting if sending.due <= now + DUE_S]
        self._parting = [sending for sending in self._parting if sending.due > now + DUE_S]
        self.sent += len(due)
        return due, self._lines(now)

    def finish(self) -> list[Sending]:
        """All that is still to be said, at once: the process ends."""
        rest, self._parting = self._parting, []
        return rest

    # -- within

    def _told(self, sendings: list[Sending], sender: Visitor, now: float) -> list[Sending]:
        """What a caller says concerns the floors of all others, where there is a floor."""
        if self.place.channel.full_duplex:
            return sendings
        for sending in sendings:
            self._ears.datagram(sending.payload, sending.flags, now)
            for other in self._visitors.values():
                if other is not sender:
                    other.overhear(sending.payload, sending.flags, now)
        return sendings

    def _lines(self, now: float) -> list[tuple[UUID, bytes]]:
        """What each line hears."""
        floor = self._ears.floor
        if floor.deadline <= now:
            floor.tick(now)
        parts = [visitor.said for visitor in self._visitors.values() if visitor.said is not None]
        total: Sum = np.zeros(FRAME, np.int32)
        heard = not self._listener.idle
        if heard:
            self._listener.muted = floor.muted
            people = self._listener.pull(FRAME, now)
            heard = bool(people.any())
            total += people
        else:
            self._listener.pull(0, now)
        self._listener.events()
        for part in parts:
            total += part
        lines = []
        for id, visitor in self._visitors.items():
            own = visitor.said
            others = heard or len(parts) > (own is not None)
            lines.append((id, visitor.hear((total if own is None else total - own) if others else None)))
        return lines
