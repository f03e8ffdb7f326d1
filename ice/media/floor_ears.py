"""What packets say of the floor: RTP in, decisions out.

:class:`~ice.media.floor.Floor` decides by claims; here they are read off datagrams as they come, whether or not anybody listens to their sound.
The talker is known by his SSRC, which is the same on every path and at every station, so that all decide alike.

A packet without a header extension says nothing of priority: what was known of its talker holds. In an extension, what is left out is 0 and no emergency, as
:class:`~ice.media.rtp.Talk` reads it. The emergency flag counts wherever it stands, in the extension or on the link.
"""

from __future__ import annotations

from typing import Final

from ice.link.frame import Flag
from ice.media.floor import Decision, Floor
from ice.media.probe import is_probe
from ice.media.rtp import MalformedRtp, Packet, Talk, TalkFlag

NAMES_MAX: Final = 256  # talkers of one stream whose names are remembered
_NOTHING: Final = ()
# Who says either marks his ends. The link's FIRST is no sign of that: multicast makes it of the RTP marker, which anybody sets.
_SIGNALS: Final = TalkFlag.BURST_START | TalkFlag.BURST_END


class FloorEars:
    """Tells ``floor`` what is heard on its stream. An engine: time is an argument."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self._names: dict[int, str] = {}

    def datagram(self, payload: bytes, flags: int, now: float) -> tuple[Decision, ...]:
        """A datagram came, with the link's ``flags`` (:class:`ice.link.frame.Flag`); what is no RTP, or measures (:mod:`ice.media.probe`), says nothing."""
        if flags & Flag.DATA or is_probe(payload):
            return _NOTHING
        try:
            packet = Packet.decode(payload)
        except MalformedRtp:
            return _NOTHING
        talk = Talk.from_extension(packet.extension) if packet.extension is not None else None
        marks = talk.flags if talk is not None else TalkFlag(0)
        if talk is not None and talk.alias:
            self._remember(packet.ssrc, talk.alias)
        signals = bool(flags & Flag.LAST or marks & _SIGNALS)
        emergency: bool | None = None if talk is None else False
        if flags & Flag.URGENT or marks & TalkFlag.EMERGENCY:
            emergency = True
        decisions = self.floor.heard(
            packet.ssrc,
            now,
            priority=talk.priority if talk is not None else None,
            emergency=emergency,
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
