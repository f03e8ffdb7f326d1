"""What a patch reads of a packet before it passes it on: who talks, and the marks of his burst. Sound is not looked at.

Most packets have no header extension, and of those nothing is built but four numbers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ice.link.frame import Flag
from ice.media.rtp import HEADER, VERSION, MalformedRtp, Packet, Talk, TalkFlag

RTCP_FIRST: Final = (
    192  # second byte; RFC 5761 §4: packet types of RTCP, which no payload type with a marker may be
)
RTCP_LAST: Final = 223

# Plain numbers: arithmetic with enum members costs a microsecond each, and this is met by every packet.
FIRST: Final = int(Flag.FIRST)
LAST: Final = int(Flag.LAST)
URGENT: Final = int(Flag.URGENT)
DATA: Final = int(Flag.DATA)
_START: Final = int(TalkFlag.BURST_START)
_END: Final = int(TalkFlag.BURST_END)
_EMERGENCY: Final = int(TalkFlag.EMERGENCY)

_unpack = HEADER.unpack_from


class Heading(NamedTuple):
    """The head of an RTP packet on its link. ``talk`` is None where the packet has no header extension."""

    ssrc: int
    talk: Talk | None
    first: bool
    last: bool
    urgent: bool


def heading(payload: bytes, flags: int) -> Heading | None:
    """The head of an RTP packet, with the link's ``flags``; None for what is none, and for RTCP.

    A burst begins where the link, the extension or the RTP marker say so.
    """
    if len(payload) < HEADER.size or payload[0] >> 6 != VERSION or RTCP_FIRST <= payload[1] <= RTCP_LAST:
        return None
    if payload[0] & 0x30:  # an extension or padding: to be believed only when it fits
        try:
            packet = Packet.decode(payload)
        except MalformedRtp:
            return None
        if packet.extension is not None:
            talk = Talk.from_extension(packet.extension)
            marks = int(talk.flags)
            return Heading(
                packet.ssrc,
                talk,
                bool(flags & FIRST or marks & _START or packet.marker),
                bool(flags & LAST or marks & _END),
                bool(flags & URGENT or marks & _EMERGENCY),
            )
    _, second, _, _, ssrc = _unpack(payload)
    return Heading(
        ssrc, None, bool(flags & FIRST) or second >= 0x80, bool(flags & LAST), bool(flags & URGENT)
    )
