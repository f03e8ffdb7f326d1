"""What packets say of the floor: RTP in, decisions out.

:class:`~ice.media.floor.Floor` decides by claims; here they are read off datagrams as they come, whether or not anybody listens to their sound.
The talker is known by his SSRC, which is the same on every path and at every station, so that all decide alike.

A packet without our header extension says nothing of priority: what was known of its talker holds. An extension without a priority says 0, as RFC 8285
readers are to take what is left out; the emergency flag counts wherever it stands, in the extension or on the link.
"""

from __future__ import annotations

from typing import Final

from ice.link.frame import Flag
from ice.media.floor import Decision, Floor
from ice.media.rtp import MalformedRtp, Packet, Talk, TalkFlag

NAMES_MAX: Final = 256  # talkers of one stream whose names are remembered
_NOTHING: Final = ()


class FloorEars:
    """Tells ``floor`` what is heard on its stream. An engine: time is an argument."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self._names: dict[int, str] = {}

    def datagram(self, payload: bytes, flags: int, now: float) -> tuple[Decision, ...]:
        """A datagram came, with the link's ``flags`` (:class:`ice.link.frame.Flag`); what is no RTP says nothing."""
        if flags & Flag.DATA:
            return _NOTHING
        try:
            packet = Packet.decode(payload)
        except MalformedRtp:
            return _NOTHING
        talk = Talk.from_extension(packet.extension) if packet.extension is not None else None
        marks = talk.flags if talk is not None else TalkFlag(0)
        if talk is not None and talk.alias:
            self._remember(packet.ssrc, talk.alias)
        signals = bool(flags & (Flag.FIRST | Flag.LAST) or marks)
        decisions = self.floor.heard(
            packet.ssrc,
            now,
            priority=talk.priority if talk is not None else None,
            emergency=True
            if flags & Flag.URGENT or marks & TalkFlag.EMERGENCY
            else (False if talk is not None else None),
            first=bool(flags & Flag.FIRST or marks & TalkFlag.BURST_START or packet.marker),
            signals=signals,
        )
        if flags & Flag.LAST or marks & TalkFlag.BURST_END:
            decisions += self.floor.ended(packet.ssrc, now)
        return decisions

    def name(self, ssrc: int) -> str:
        """What a talker is called: the alias that came last, else ``SSRC`` and eight hex digits."""
        return self._names.get(ssrc) or f"SSRC {ssrc:08x}"

    def _remember(self, ssrc: int, alias: str) -> None:
        self._names.pop(ssrc, None)
        self._names[ssrc] = alias
        if len(self._names) > NAMES_MAX:
            del self._names[next(iter(self._names))]
