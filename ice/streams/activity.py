"""Who is active on a multicast group, as far as datagrams tell without being played: senders, codecs, rates, loss, jitter.

:class:`Activity` is one group. What is readable as RTP is told apart by its sender's address and SSRC; loss and jitter are :mod:`ice.reflector.statistics`'. Of a sender that once
sends what cannot be RTP (it seals, or it is something else) nothing more is read: it is one voice without a codec, by its address.

**Belief.** Any bytes look like RTP once in four times, and a stranger may send what he likes. So a voice is shown from its second packet on, whose number must follow the
first's; and there are at most :data:`MAX_VOICES`, of which the one silent longest is forgotten.

**Levels.** Packets are counted by the second, for the last :data:`LEVELS` of them. A rate is that of the last whole second and of what has passed of this one.

Time is an argument, in seconds.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ice.media.rtp import HEADER, RTCP, VERSION, MalformedRtp, Packet, Talk
from ice.media.table import BY_PAYLOAD_TYPE, TELEPHONE_EVENT
from ice.net.addresses import Address
from ice.reflector.statistics import Reception

SILENCE_S: Final = 0.6  # five times the longest usual packet
LEVELS: Final = 10  # seconds that are remembered
MAX_VOICES: Final = 256
MAX_FIRST: Final = 64  # numbers that may be missing between a voice's first two packets
COMFORT_NOISE: Final = 13  # RFC 3389: no codec of its own
_ASIDE: Final = frozenset((TELEPHONE_EVENT, COMFORT_NOISE))

Codecs = Callable[[int], str]
"""What a payload type is called."""


def codec_name(payload_type: int) -> str:
    """What a payload type usually means: ``pcmu``, ``opus``, ``type 99``."""
    known = BY_PAYLOAD_TYPE.get(payload_type)
    return known.name if known is not None else f"type {payload_type}"


@attrs.frozen
class Voice:
    """Somebody who was heard on a group."""

    sender: Address
    ssrc: int | None  #: none: what it sends is not readable as RTP
    codec: str  #: where nothing is readable: ``sealed``, or ``not RTP`` where nobody has said that it is
    alias: str  #: as told in the packets' header extension
    active: bool
    began_at: float  #: of the last burst
    heard_at: float
    packets: int  #: since it was first heard
    bytes: int  #: their payloads
    lost: int
    jitter_ms: float | None
    packets_per_s: float
    kbit_per_s: float  #: of the UDP payloads
    levels: tuple[int, ...]  #: packets in each of the last :data:`LEVELS` seconds, this one last
    burst_packets: int  #: of the last burst
    burst_lost: int


@attrs.frozen
class Began:
    """Somebody has begun to send."""

    voice: Voice


@attrs.frozen
class Ended:
    """Somebody has not been heard for :data:`SILENCE_S`."""

    voice: Voice
    seconds: float  #: from the first packet of the burst to the last


class _Known:
    """A voice as it is kept."""

    __slots__ = (
        "active", "alias", "at", "began_at", "begun_lost", "begun_packets", "bytes", "codec_type",
        "first_number", "packets", "reception", "seconds", "sender", "ssrc", "told",
    )  # fmt: skip

    def __init__(self, sender: Address, ssrc: int | None, now: float) -> None:
        self.sender = sender
        self.ssrc = ssrc
        self.began_at = self.at = now
        self.packets = self.bytes = 0
        self.codec_type = -1
        self.alias = ""
        self.first_number = -1  # until it is believed
        self.active = False
        self.told = False
        self.begun_packets = self.begun_lost = 0
        self.reception = Reception()
        self.seconds: deque[list[int]] = deque(maxlen=LEVELS)  # second, packets, bytes

    def count(self, size: int, now: float) -> None:
        if not self.active:
            self.active = True
            self.began_at = now
            self.begun_packets, self.begun_lost = self.packets, self.reception.lost
        self.at = now
        self.packets += 1
        self.bytes += size
        second, seconds = int(now), self.seconds
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += 1
            seconds[-1][2] += size
        else:
            seconds.append([second, 1, size])


class Activity:
    """Who is active on one group."""

    def __init__(self, *, sealed: bool = False, codecs: Codecs = codec_name) -> None:
        """``sealed``: payloads are ciphertext, of which nothing is read."""
        self._sealed = sealed
        self._codecs = codecs
        self._known: dict[tuple[Address, int | None], _Known] = {}  # the one silent longest first
        self._opaque: dict[Address, None] = {}
        #: Of all who were ever heard: datagrams, their payloads' bytes, RTCP, voices forgotten.
        self.packets = self.bytes = self.control = self.forgotten = 0

    def heard(self, data: bytes, sender: Address, now: float) -> None:
        """The hot path: a datagram came."""
        self.packets += 1
        self.bytes += len(data)
        if not (self._sealed or sender in self._opaque):
            if len(data) >= HEADER.size and data[0] >> 6 == VERSION:
                first, second, number, timestamp, ssrc = HEADER.unpack_from(data)
                if second in RTCP:
                    self.control += 1
                    return
                self._rtp(data, sender, now, first, second, number, timestamp, ssrc)
                return
            self._unreadable(sender)
        self._of(sender, None, now).count(len(data), now)

    def look(self, now: float) -> list[Began | Ended]:
        """What has happened since this was last asked; ask some times a second."""
        happened: list[Began | Ended] = []
        for known in self._known.values():
            if not _believed(known):
                continue
            if known.active and not known.told:
                known.told = True
                happened.append(Began(self._voice(known, now)))
            if known.active and now - known.at > SILENCE_S:
                known.active = known.told = False
                happened.append(Ended(self._voice(known, now), known.at - known.began_at))
        return happened

    def voices(self, now: float) -> tuple[Voice, ...]:
        """Everybody who is known, by the time of their first packet of the last burst."""
        found = (self._voice(each, now) for each in self._known.values() if _believed(each))
        return tuple(sorted(found, key=lambda each: each.began_at))

    # -- inside

    def _rtp(
        self,
        data: bytes,
        sender: Address,
        now: float,
        first: int,
        second: int,
        number: int,
        timestamp: int,
        ssrc: int,
    ) -> None:
        known = self._of(sender, ssrc, now)
        if not known.packets:
            known.first_number = number
        elif not _believed(known):
            if 0 < (number - known.first_number) & 0xFFFF <= MAX_FIRST:
                known.first_number = -1
            else:
                known.first_number = number
        known.count(len(data), now)
        kind = second & 0x7F
        if kind not in _ASIDE or known.codec_type < 0:
            known.codec_type = kind
        known.reception.heard(second, number, timestamp, now)
        if first & 0x10 and not known.alias:
            with contextlib.suppress(MalformedRtp):
                known.alias = Talk.from_extension(Packet.decode(data).extension).alias

    def _of(self, sender: Address, ssrc: int | None, now: float) -> _Known:
        key = (sender, ssrc)
        known = self._known.pop(key, None)
        if known is None:
            known = _Known(sender, ssrc, now)
            if len(self._known) >= MAX_VOICES:
                del self._known[next(iter(self._known))]
                self.forgotten += 1
        self._known[key] = known
        return known

    def _unreadable(self, sender: Address) -> None:
        """From now on nothing is read of this sender; what was taken for voices of his were none."""
        if len(self._opaque) >= MAX_VOICES:
            del self._opaque[next(iter(self._opaque))]
        self._opaque[sender] = None
        for key in [key for key, known in self._known.items() if key[0] == sender and not _believed(known)]:
            del self._known[key]

    def _voice(self, known: _Known, now: float) -> Voice:
        second = int(now)
        counts = {each[0]: each for each in known.seconds}
        packets = bytes_ = 0
        for each in (counts.get(second), counts.get(second - 1)):
            if each is not None:
                packets += each[1]
                bytes_ += each[2]
        span = max(min(now - second + 1.0, now - known.began_at), 0.2) if known.active else now - second + 1.0
        report = known.reception.report()
        return Voice(
            sender=known.sender,
            ssrc=known.ssrc,
            codec=self._codecs(known.codec_type)
            if known.ssrc is not None
            else "sealed"
            if self._sealed
            else "not RTP",
            alias=known.alias,
            active=known.active,
            began_at=known.began_at,
            heard_at=known.at,
            packets=known.packets,
            bytes=known.bytes,
            lost=report.lost,
            jitter_ms=report.jitter_ms if known.ssrc is not None else None,
            packets_per_s=packets / span,
            kbit_per_s=bytes_ * 8 / 1_000 / span,
            levels=tuple(
                counts[each][1] if each in counts else 0 for each in range(second - LEVELS + 1, second + 1)
            ),
            burst_packets=known.packets - known.begun_packets,
            burst_lost=max(0, report.lost - known.begun_lost),
        )


def _believed(known: _Known) -> bool:
    return known.first_number < 0


def total(voices: Iterable[Voice]) -> tuple[float, float]:
    """Packets and kbit per second of all of them."""
    packets = kbit = 0.0
    for each in voices:
        packets += each.packets_per_s
        kbit += each.kbit_per_s
    return packets, kbit
