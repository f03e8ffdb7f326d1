"""Who talks where, as far as packets tell without being decoded: for a list of people, not for ears.

:class:`Talkers` looks at the header of each audio packet of a mission's groups and remembers who was heard last. :func:`talks` finds out whether it was
somebody whom presence knows: by the node id in the packet, else by the alias that the person has on that group, else by the display name as
an alias cuts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import attrs

from ice.link.frame import Flag
from ice.media.rtp import NOBODY, MalformedRtp, Packet, Talk, TalkFlag, clip_alias
from ice.mission.identity import stream_id
from ice.mission.people import Person, key_of

SILENCE_S: Final = 0.6  # five times the longest usual packet; most say that they end
MAX_TALKERS: Final = 256  # remembered at once


@attrs.frozen
class Talker:
    """Somebody who talks; times in seconds of the caller's clock."""

    group: str  #: stream id
    source: int
    ssrc: int
    since: float
    heard_at: float
    alias: str = ""
    node_id: str = ""  #: a UUID where the packet tells one
    emergency: bool = False
    ended: bool = False


class Talkers:
    """Everybody who was heard on any of the groups."""

    def __init__(self) -> None:
        self._talkers: dict[tuple[str, int, int], Talker] = {}

    def heard(self, group: str, payload: bytes, flags: int, source: int, now: float) -> None:
        """A datagram came on the group with this stream id; what is no RTP is passed over."""
        if flags & Flag.DATA:
            return
        try:
            packet = Packet.decode(payload)
        except MalformedRtp:
            return
        talk = Talk.from_extension(packet.extension) if packet.extension is not None else NOBODY
        key = (group, source, packet.ssrc)
        before = self._talkers.get(key)
        last = bool(flags & Flag.LAST or talk.flags & TalkFlag.BURST_END)
        urgent = bool(flags & Flag.URGENT or talk.flags & TalkFlag.EMERGENCY)
        if before is None or before.ended or now - before.heard_at > SILENCE_S:
            if last:  # a copy of the end
                return
            known = before if before is not None else Talker(group, source, packet.ssrc, now, now)
            before = attrs.evolve(known, since=now, ended=False, emergency=False)
        self._talkers[key] = attrs.evolve(
            before,
            heard_at=now,
            alias=talk.alias or before.alias,
            node_id=str(UUID(bytes=talk.node_id)) if talk.node_id else before.node_id,
            emergency=before.emergency or urgent,
            ended=last,
        )
        if len(self._talkers) > MAX_TALKERS:
            del self._talkers[min(self._talkers, key=lambda each: self._talkers[each].heard_at)]

    def talking(self, now: float) -> tuple[Talker, ...]:
        """Who talks now, the longest first."""
        found = [
            each for each in self._talkers.values() if not each.ended and now - each.heard_at <= SILENCE_S
        ]
        return tuple(sorted(found, key=lambda each: each.since))


def talks(person: Person, talkers: Iterable[Talker]) -> tuple[Talker, ...]:
    """Those of the talkers who are this person."""
    told = person.descriptor
    aliases = {(stream_id(each.group_id), each.alias) for each in told.group_aliases if each.alias}
    name = clip_alias(told.identity.display_name)
    return tuple(
        each
        for each in talkers
        if (
            key_of(each.node_id) == person.key
            if each.node_id
            else bool(each.alias) and ((each.group, each.alias) in aliases or each.alias == name)
        )
    )
