"""Names for datagrams that come without: who talks on a multicast group, and which number each datagram has.

What is on the wire of a multicast group is what everybody understands: one payload per UDP datagram, without names of ours.  So names are given on hearing:

* *source*: 64 bits of SHA-256 over the stream's id, the sender's address and port, the SSRC where the payload is readable as RTP (RFC 3550), and a number that is drawn when the stream is joined.
* *sequence*: RTP's, unwrapped to 32 bits; elsewhere our own count of what came from that sender.  A talker may begin anywhere at each burst; where RTP's number jumps, ours goes on by one, so that no
  window behind us takes a new burst for an old one.

The number drawn is there for the same reason: a program that starts again begins its counts again, and must not be taken for its own past.  Names are good for one joining of the stream;
nobody needs to give the same name twice, since what comes by two ways has the same bytes.

A *sealed* payload is ciphertext (``Place.sealed``), and nothing is read from it.  A sender that is not said to seal but once sends something that cannot be RTP is named by its address from then on.

Senders are bounded (:data:`MAX_SENDERS`): the one silent longest is forgotten.
"""

from hashlib import sha256
from typing import Final

import attrs

from ice.link.frame import Flag
from ice.media.rtp import HEADER, RTCP, VERSION, MalformedRtp, Packet, Talk, TalkFlag, sequence_difference
from ice.net.addresses import Address

MAX_SENDERS: Final = 256  # names of one stream: talkers, each burst of some radios; 0.1 MiB
MAX_STEP: Final = (
    1_000  # an RTP number further away than this is a new beginning: half of what a window believes
)
_U32: Final = 0xFFFF_FFFF
_FLAGS: Final = {
    TalkFlag.EMERGENCY: Flag.URGENT,
    TalkFlag.BURST_START: Flag.FIRST,
    TalkFlag.BURST_END: Flag.LAST,
}


@attrs.define
class _Sender:
    """Somebody who was heard: his name, and where his numbers are."""

    source: int
    next: int  #: what an own count gives next
    high: int = -1  #: the highest RTP number, unwrapped; -1: none yet
    shift: int = 0  #: from RTP's numbers to ours, after new beginnings
    marked: bool = False  #: whether his last packet had the RTP marker

    def count(self) -> int:
        """Our own count."""
        number = self.next
        self.next = (number + 1) & _U32
        return number


class Naming:
    """Who talks on one stream, and which number each datagram has: pure."""

    def __init__(self, stream_id: str, nonce: int, *, sealed: bool, max_senders: int = MAX_SENDERS) -> None:
        self._begin = nonce.to_bytes(8, "big") + stream_id.encode() + b"\0"
        self._max_senders = max_senders
        self._senders: dict[tuple[str, int, int], _Sender] = {}  # the latest is last
        self._opaque: dict[tuple[str, int], None] = {}
        self.sealed = sealed
        self.forgotten = 0
        self.restarts = 0

    def __len__(self) -> int:
        return len(self._senders)

    def name(self, payload: bytes, sender: Address) -> tuple[int, int, int]:
        """Flags, source and sequence of what came from ``sender``."""
        host, port = sender.host, sender.port
        if self.sealed or (host, port) in self._opaque or not self._readable(payload, host, port):
            known = self._of(host, port, -1)
            return 0, known.source, known.count()
        _, second, number, _, ssrc = HEADER.unpack_from(payload)
        known = self._of(host, port, ssrc)
        marked, known.marked = known.marked, second >= 0x80
        # Some senders (ffmpeg) set the marker on every packet of Opus: the first of a row is a beginning, the others are none.
        first = Flag.FIRST if known.marked and not marked else Flag(0)
        return int(first | _flags(payload)), known.source, self._unwrapped(known, number)

    def _readable(self, payload: bytes, host: str, port: int) -> bool:
        """Whether this is RTP; a sender of what cannot be is remembered."""
        if len(payload) >= 2 and payload[0] >> 6 == VERSION:
            if payload[1] in RTCP:
                return False
            if len(payload) >= HEADER.size:
                return True
        if len(self._opaque) >= self._max_senders:
            del self._opaque[next(iter(self._opaque))]
        self._opaque[host, port] = None
        return False

    def _of(self, host: str, port: int, ssrc: int) -> _Sender:
        key = (host, port, ssrc)
        senders = self._senders
        known = senders.pop(key, None)
        if known is None:
            if len(senders) >= self._max_senders:
                del senders[next(iter(senders))]
                self.forgotten += 1
            # A sender that was forgotten and comes back is another one: his count begins again.
            text = f"{host}|{port}|{ssrc}|{self.forgotten}"
            digest = sha256(self._begin + text.encode()).digest()
            known = _Sender(int.from_bytes(digest[:8], "big"), 0)
        senders[key] = known
        return known

    def _unwrapped(self, known: _Sender, number: int) -> int:
        """RTP's ``number`` as one of 32 bits that goes on where RTP's jumps."""
        if known.high < 0:
            known.high = number
            known.shift = 0x1_0000  # so that one that was overtaken at the very beginning is not below 0
            return number + 0x1_0000
        step = sequence_difference(number, known.high & 0xFFFF)
        if step > MAX_STEP or step < -MAX_STEP:
            self.restarts += 1
            ours = known.high + known.shift + 1
            known.high = number
            known.shift = ours - number
            return ours & _U32
        ours = known.high + step + known.shift
        if step > 0:
            known.high += step
        return ours & _U32


def _flags(payload: bytes) -> Flag:
    """What our header extension says of a datagram's place in its burst, as flags of a link."""
    flags = Flag(0)
    if payload[0] & 0x10:  # a header extension, which may be ours
        try:
            talk = Talk.from_extension(Packet.decode(payload).extension)
        except MalformedRtp:
            return flags
        for said, meant in _FLAGS.items():
            if talk.flags & said:
                flags |= meant
    return flags
