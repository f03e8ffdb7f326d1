"""What a voice costs on the wire: packets, overheads and bit rates by codec, framing, cipher and carrier, from sizes of headers alone.

One packet of speech is *codec data*, 12 bytes of RTP (RFC 3550 §5.1) and now and then a header extension; *sealed* by the traffic cipher, or not;
and *carried*:

=============  ====================================================================================  ==========
carrier        what is around the (sealed) RTP packet                                                 bytes
=============  ====================================================================================  ==========
multicast      Ethernet 14, IPv4 20 (IPv6 40), UDP 8                                                  42 (62)
rallypoint     Ethernet 14, IPv4 20 (IPv6 40), TCP 32, TLS record 22, MEDIA header 24                 112 (132)
mesh           the same, and 12 bytes of RELAY                                                        124 (144)
=============  ====================================================================================  ==========

TCP's 32 are its header with the timestamps that every common system uses (RFC 7323); a TLS 1.3 record has 5 bytes of header, 1 of content type
and 16 of tag (RFC 8446 §5.2). Ethernet is counted as captures show it and as the original's tables do, without preamble, check sequence and gap (24 more).
What does not fit an MTU of 1,500 is cut into more IP fragments or TCP segments, each with headers of its own.

**Ciphers.** AES-256-CBC: an initialisation vector of 16, and padding of 1 to 16 up to a whole block. AES-256-GCM: 8 of start id, 6 of counter, 16 of tag.

**Other ways.** A Rallypoint link has traffic back: TCP acknowledges (:func:`acknowledgements`), and both ends ask for life (:func:`keeping`). Both are told beside the voice, not in
it, because they depend on the far system and go the other way.

The original's tables ("Bandwidth Utilization Tables") are reproduced by :func:`stream_rate` for multicast, clear and CBC, to their last digit. Its third pair of columns, an
average that its makers have measured on their own protocol over TLS, is multicast and 46 bytes: exactly Ethernet, IPv4, TCP with timestamps, a TLS record and RTP.
:data:`ORIGINAL_TLS` is that. Ours is 24 more: the name of each datagram (stream, source, number), by which nobody hears it twice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from ice.errors import LocalError
from ice.link.frame import HEADER, MEDIA_HEADER, RELAY_HEADER
from ice.security.traffic import Cipher, sealed_bytes

ETHERNET: Final = 14
IPV4: Final = 20
IPV6: Final = 40
IPV6_FRAGMENT: Final = 8  # the extension header that a fragment carries (RFC 8200 §4.5)
UDP: Final = 8
TCP: Final = 32  # 20, and timestamps with their padding (RFC 7323 §3.2)
TLS_RECORD: Final = 22
RTP: Final = 12
ORIGINAL_TLS: Final = 46  # bytes that the original's tables add to multicast for its Rallypoint path
MTU: Final = 1_500

PER_USER_BITS_S: Final = 64_000  # "Required Network Quality of Service": plan 64 kbit/s per user

ACKS_PER_S: Final = 25.0  # a delayed acknowledgement waits 40 ms for more to acknowledge (Linux; RFC 9293 §3.8.6.3 allows 500)
PING: Final = HEADER.size + 8
PINGS_PER_S: Final = (
    1.0  # docs/link-protocol.md, "Alive and fresh": of a link that carries media, by each end that sends it
)
EXTENSION_EVERY: Final = 10  # packets: extensionSendInterval


class Seal(StrEnum):
    """How the RTP packet is encrypted end to end."""

    CLEAR = "clear"
    CBC = "aes-256-cbc"
    GCM = "aes-256-gcm"


class Carrier(StrEnum):
    """What carries it."""

    MULTICAST = "multicast"
    RALLYPOINT = "rallypoint"
    MESH = "mesh"  #: between two Rallypoints


@attrs.frozen
class Rate:
    """So many packets and bytes a second, all headers included."""

    packets_per_s: float = 0.0
    octets_per_s: float = 0.0

    @property
    def bits_per_s(self) -> float:
        """Bits a second."""
        return self.octets_per_s * 8

    @property
    def kbits_per_s(self) -> float:
        """Thousands of bits a second."""
        return self.octets_per_s * 8 / 1_000

    @property
    def octets_per_packet(self) -> float:
        """The mean size of a packet; 0 where there are none."""
        return self.octets_per_s / self.packets_per_s if self.packets_per_s else 0.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.packets_per_s + other.packets_per_s, self.octets_per_s + other.octets_per_s)

    def __mul__(self, times: float) -> Rate:
        return Rate(self.packets_per_s * times, self.octets_per_s * times)


NOTHING: Final = Rate()


@attrs.frozen
class Voice:
    """One talker's packets before they are sealed: ``octets`` of codec data every ``framing_ms``; each ``extension_every``-th has a header extension of ``extension`` bytes.

    Raises :class:`~ice.errors.LocalError` for what cannot be.
    """

    octets: int
    framing_ms: int
    extension: int = 0
    extension_every: int = EXTENSION_EVERY

    def __attrs_post_init__(self) -> None:
        if self.octets < 0 or self.extension < 0:
            raise LocalError("a packet has no fewer than 0 bytes")
        if self.framing_ms <= 0 or self.extension_every <= 0:
            raise LocalError(
                f"framing_ms {self.framing_ms} and extension_every {self.extension_every} must be above 0"
            )

    @classmethod
    def at(cls, bits_per_s: float, framing_ms: int, *, extension: int = 0) -> Voice:
        """The voice of a codec with a bit rate; a byte that is begun counts."""
        if framing_ms <= 0:
            raise LocalError(f"framing_ms {framing_ms} must be above 0")
        return cls(-int(-bits_per_s * framing_ms // 8_000), framing_ms, extension)

    @property
    def packets_per_s(self) -> float:
        """Packets a second."""
        return 1_000 / self.framing_ms


def extension_octets(alias: str = "", *, priority: bool = False, node_id: bool = False) -> int:
    """The bytes of our RTP header extension (RFC 8285, two-byte form) that says so much; 0 for nothing."""
    elements = (2 + len(alias.encode()) if alias else 0) + 3 * priority + 18 * node_id
    return 4 + -(-elements // 4) * 4 if elements else 0


def sealed(octets: int, seal: Seal) -> int:
    """How long an RTP packet of so many bytes is when it is sealed."""
    return octets if seal is Seal.CLEAR else sealed_bytes(Cipher(seal), octets)


def carried(octets: int, carrier: Carrier, *, ipv6: bool = False) -> int:
    """How many bytes are on the wire for a (sealed) RTP packet of ``octets``."""
    ip = IPV6 if ipv6 else IPV4
    if carrier is Carrier.MULTICAST:
        datagram = UDP + octets
        if ip + datagram <= MTU:
            return ETHERNET + ip + datagram
        head = ip + (IPV6_FRAGMENT if ipv6 else 0)
        room = (MTU - head) // 8 * 8  # fragments begin at whole words
        return datagram + -(-datagram // room) * (ETHERNET + head)
    frames = MEDIA_HEADER + octets + (RELAY_HEADER if carrier is Carrier.MESH else 0)
    segments = -(-(TLS_RECORD + frames) // (MTU - ip - TCP))
    return TLS_RECORD + frames + segments * (ETHERNET + ip + TCP)


def stream_rate(voice: Voice, seal: Seal, carrier: Carrier, *, ipv6: bool = False) -> Rate:
    """What one talker puts on one wire: the talker's link, each listener's link, a mesh link, or a LAN."""

    def size(extension: int) -> int:
        return carried(sealed(RTP + extension + voice.octets, seal), carrier, ipv6=ipv6)

    mean = size(0)
    if voice.extension:
        mean_extended = size(voice.extension)
        per_s = voice.packets_per_s * (mean + (mean_extended - mean) / voice.extension_every)
        return Rate(voice.packets_per_s, per_s)
    return Rate(voice.packets_per_s, voice.packets_per_s * mean)


def original_tls_rate(voice: Voice, seal: Seal) -> Rate:
    """What the original's tables estimate for its own protocol over TLS."""
    multicast = stream_rate(voice, seal, Carrier.MULTICAST)
    return multicast + Rate(0.0, multicast.packets_per_s * ORIGINAL_TLS)


def acknowledgements(rate: Rate, *, ipv6: bool = False) -> Rate:
    """What goes back on a TCP connection that nothing else goes back on: at most one acknowledgement per packet, and one per 40 ms."""
    per_s = min(rate.packets_per_s, ACKS_PER_S)
    return Rate(per_s, per_s * (ETHERNET + (IPV6 if ipv6 else IPV4) + TCP))


def keeping(*, ipv6: bool = False, per_s: float = PINGS_PER_S) -> Rate:
    """What asking for life costs in each direction of a link: a PING one way, its PONG the other, as long as each other."""
    size = ETHERNET + (IPV6 if ipv6 else IPV4) + TCP + TLS_RECORD + PING
    return Rate(per_s, per_s * size)
