"""RTP packets (RFC 3550), header extensions (RFC 8285), and what we put into them: who talks, how urgently.

A packet is a frozen value. :meth:`Packet.decode` believes nothing: version, contributing sources, extension and padding are
each checked against the bytes that are really there, and what does not fit is a :class:`MalformedRtp` that names it. What is
well formed but unknown is kept: a foreign header extension comes out of :meth:`Packet.encode` byte for byte as it went in.
Padding alone is not kept; it has no meaning once the packet is whole.

**Our header-extension elements** are written in the two-byte form of RFC 8285 §4.3 (profile ``0x1000``), because an element may
then be empty or longer than 16 bytes. Generic elements are read in the one-byte form too. Our identifiers start above 14, the
largest that the one-byte form can carry, so no element of a foreign sender that counts its own from 1 is ever taken for ours:

===  =============  ==========  ===================================================================================
id   element        bytes       meaning
===  =============  ==========  ===================================================================================
16   alias          1–16        talker alias, UTF-8, printable
17   priority       1           0 (lowest, and what an absent element means) to 255
18   flags          1           :class:`TalkFlag`: 1 emergency, 2 first of a burst, 4 last of a burst; other bits are free
19   node id        16          UUID of the device that talks
20   via            16 × n      identities of the patches that made this burst anew on its way, oldest first; at most 15
===  =============  ==========  ===================================================================================

A new element takes the next free identifier in this table and a constant in :class:`ElementId`. A receiver ignores what it does
not know, what has the wrong length and what is not UTF-8: a strange extension never costs the listener the sound behind it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Final

import attrs

from ice.errors import LocalError, RemoteError
from ice.printable import printable

HEADER: Final = struct.Struct(">BBHII")
EXTENSION_HEADER: Final = struct.Struct(">HH")
VERSION: Final = 2
RTCP: Final = range(192, 224)  # second byte of what is RTCP and not RTP (RFC 5761 section 4)
MAX_PACKET: Final = 65_507  # the largest payload of one UDP datagram over IPv4; no path of ours carries more
MAX_CSRCS: Final = 15  # four bits count them
ONE_BYTE_PROFILE: Final = 0xBEDE  # RFC 8285 §4.2
TWO_BYTE_PROFILE: Final = 0x1000  # RFC 8285 §4.3, with the four "appbits" zero
MAX_ALIAS: Final = 16  # bytes of UTF-8, as in the original system
NODE_ID_LENGTH: Final = 16  # a UUID
MAX_VIA: Final = 15  # identities of 16 bytes that fit in one element's 255


class MalformedRtp(RemoteError):
    """The bytes are no RTP packet.

    ``reason`` is a short fixed word for counters: ``too-short``, ``too-long``, ``version``, ``csrcs``, ``extension``, ``padding``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ElementId(enum.IntEnum):
    """Identifiers of our header-extension elements (the table above)."""

    ALIAS = 16
    PRIORITY = 17
    FLAGS = 18
    NODE_ID = 19
    VIA = 20


class TalkFlag(enum.IntFlag):
    """What the sender says about this packet's place in its burst."""

    EMERGENCY = 1
    BURST_START = 2
    BURST_END = 4


NO_FLAGS: Final = TalkFlag(0)
KNOWN_FLAGS: Final = TalkFlag.EMERGENCY | TalkFlag.BURST_START | TalkFlag.BURST_END


@attrs.frozen
class Element:
    """One element of a header extension: its local identifier (1–255) and its bytes (0–255 of them)."""

    id: int
    data: bytes


@attrs.frozen
class Extension:
    """A header extension as it stands on the wire: the 16-bit profile and whole 32-bit words of data (RFC 3550 §5.3.1)."""

    profile: int
    data: bytes

    @classmethod
    def of(cls, elements: Iterable[Element]) -> Extension:
        """Pack elements in the two-byte form, padded with zeros to a whole word.

        Raises :class:`~ice.errors.LocalError` for an identifier outside 1–255 or data longer than 255 bytes.
        """
        data = bytearray()
        for element in elements:
            if not 1 <= element.id <= 255:
                raise LocalError(f"header-extension element id {element.id} is not in 1–255")
            if len(element.data) > 255:
                raise LocalError(
                    f"header-extension element {element.id} has {len(element.data)} bytes; at most 255 fit"
                )
            data += bytes((element.id, len(element.data))) + element.data
        data += bytes(-len(data) % 4)
        return cls(TWO_BYTE_PROFILE, bytes(data))

    def elements(self) -> tuple[Element, ...]:
        """The elements, in order, of either RFC 8285 form; empty for any other profile.

        Reading ends at the first element that does not fit in the data or that RFC 8285 §4.2 tells a reader to stop at
        (identifier 15 of the one-byte form, identifier 0 with a length); what stood before it is returned.
        """
        if self.profile == ONE_BYTE_PROFILE:
            return self._one_byte_elements()
        if self.profile & 0xFFF0 == TWO_BYTE_PROFILE:
            return self._two_byte_elements()
        return ()

    def _one_byte_elements(self) -> tuple[Element, ...]:
        found: list[Element] = []
        data, position = self.data, 0
        while position < len(data):
            first = data[position]
            position += 1
            if first == 0:
                continue
            identifier, length = first >> 4, (first & 0x0F) + 1
            if identifier in (0, 15) or position + length > len(data):
                break
            found.append(Element(identifier, data[position : position + length]))
            position += length
        return tuple(found)

    def _two_byte_elements(self) -> tuple[Element, ...]:
        found: list[Element] = []
        data, position = self.data, 0
        while position < len(data):
            identifier = data[position]
            position += 1
            if identifier == 0:
                continue
            if position == len(data) or position + 1 + data[position] > len(data):
                break
            length = data[position]
            position += 1
            found.append(Element(identifier, data[position : position + length]))
            position += length
        return tuple(found)


@attrs.frozen
class Packet:
    """One RTP packet, fields in the order that people think of them.

    ``payload_type`` 0–127, ``sequence`` 0–65,535, ``timestamp`` and ``ssrc`` 0–2³²−1 (timestamp in units of the codec's RTP
    clock), ``csrcs`` at most 15 numbers of 32 bits. Ranges are checked where they matter, in :meth:`encode`.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrcs: tuple[int, ...] = ()
    extension: Extension | None = None

    def encode(self) -> bytes:
        """The packet as bytes; never padded.

        Raises :class:`~ice.errors.LocalError` where a field does not fit its place on the wire.
        """
        if not 0 <= self.payload_type <= 127:
            raise LocalError(f"RTP payload type {self.payload_type} is not in 0–127")
        if len(self.csrcs) > MAX_CSRCS:
            raise LocalError(f"{len(self.csrcs)} RTP contributing sources; at most {MAX_CSRCS} fit")
        first = VERSION << 6 | len(self.csrcs)
        if self.extension is not None:
            first |= 0x10
        try:
            head = HEADER.pack(
                first, self.marker << 7 | self.payload_type, self.sequence, self.timestamp, self.ssrc
            )
            if self.csrcs:
                head += struct.pack(f">{len(self.csrcs)}I", *self.csrcs)
            if self.extension is not None:
                words, rest = divmod(len(self.extension.data), 4)
                if rest:
                    raise LocalError(
                        f"an RTP header extension is whole 32-bit words; this one has {len(self.extension.data)} bytes"
                    )
                head += EXTENSION_HEADER.pack(self.extension.profile, words) + self.extension.data
        except struct.error as error:
            raise LocalError(f"an RTP header field does not fit its place: {error}") from None
        packet = head + self.payload
        if len(packet) > MAX_PACKET:
            raise LocalError(f"an RTP packet of {len(packet)} bytes; at most {MAX_PACKET} fit in a datagram")
        return packet

    @classmethod
    def decode(cls, data: bytes) -> Packet:
        """The packet in ``data`` (RFC 3550 §5.1); raises :class:`MalformedRtp` that names what is wrong."""
        end = len(data)
        if end < HEADER.size:
            raise MalformedRtp("too-short", f"an RTP packet has at least 12 bytes, this one {end}")
        if end > MAX_PACKET:
            raise MalformedRtp("too-long", f"an RTP packet has at most {MAX_PACKET} bytes, this one {end}")
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        if first >> 6 != VERSION:
            raise MalformedRtp("version", f"RTP version 2 expected, {first >> 6} came")
        position = HEADER.size
        csrcs: tuple[int, ...] = ()
        if count := first & 0x0F:
            if position + 4 * count > end:
                raise MalformedRtp(
                    "csrcs", f"{count} contributing sources announced, only {end - position} bytes follow"
                )
            csrcs = struct.unpack_from(f">{count}I", data, position)
            position += 4 * count
        extension = None
        if first & 0x10:
            if position + EXTENSION_HEADER.size > end:
                raise MalformedRtp(
                    "extension", f"a header extension is announced, only {end - position} bytes follow"
                )
            profile, words = EXTENSION_HEADER.unpack_from(data, position)
            position += EXTENSION_HEADER.size
            if position + 4 * words > end:
                raise MalformedRtp(
                    "extension",
                    f"a header extension of {4 * words} bytes announced, only {end - position} follow",
                )
            extension = Extension(profile, bytes(data[position : position + 4 * words]))
            position += 4 * words
        if first & 0x20:
            padding = data[end - 1] if position < end else 0
            if not 1 <= padding <= end - position:
                raise MalformedRtp(
                    "padding",
                    f"padding of {padding} bytes announced behind {end - position} bytes of payload",
                )
            end -= padding
        return cls(
            second & 0x7F,
            sequence,
            timestamp,
            ssrc,
            bytes(data[position:end]),
            second >= 0x80,
            csrcs,
            extension,
        )


@attrs.frozen
class Talk:
    """Who talks and how urgently, as carried in a packet's header extension.

    ``alias`` is printable UTF-8 of at most 16 bytes (:func:`clip_alias` makes one of any text), ``priority`` 0–255, ``node_id`` 16
    bytes or none, ``via`` at most 15 identities of 16 bytes, the oldest first. Building one that does not fit raises
    :class:`~ice.errors.LocalError`.
    """

    alias: str = ""
    priority: int = 0
    flags: TalkFlag = NO_FLAGS
    node_id: bytes = b""
    via: tuple[bytes, ...] = ()

    def __attrs_post_init__(self) -> None:
        try:
            size = len(self.alias.encode())
        except UnicodeEncodeError:
            raise LocalError(f"the talker alias {self.alias!r} cannot be written as UTF-8") from None
        if size > MAX_ALIAS:
            raise LocalError(
                f"the talker alias {self.alias!r} has {size} bytes of UTF-8; at most {MAX_ALIAS} fit"
            )
        if not self.alias.isprintable():
            raise LocalError(
                f"the talker alias {self.alias!r} has control or formatting characters; use printable ones"
            )
        if not 0 <= self.priority <= 255:
            raise LocalError(f"talk priority {self.priority} is not in 0–255")
        if len(self.node_id) not in (0, NODE_ID_LENGTH):
            raise LocalError(f"a node id has {NODE_ID_LENGTH} bytes, not {len(self.node_id)}")
        if len(self.via) > MAX_VIA or any(len(identity) != NODE_ID_LENGTH for identity in self.via):
            raise LocalError(
                f"a burst names at most {MAX_VIA} identities of {NODE_ID_LENGTH} bytes that it came through"
            )

    def to_extension(self) -> Extension | None:
        """The header extension that says this, elements with nothing to say left out; ``None`` when all are."""
        elements = []
        if self.alias:
            elements.append(Element(ElementId.ALIAS, self.alias.encode()))
        if self.priority:
            elements.append(Element(ElementId.PRIORITY, bytes((self.priority,))))
        if flags := self.flags & KNOWN_FLAGS:
            elements.append(Element(ElementId.FLAGS, bytes((flags,))))
        if self.node_id:
            elements.append(Element(ElementId.NODE_ID, self.node_id))
        if self.via:
            elements.append(Element(ElementId.VIA, b"".join(self.via)))
        return Extension.of(elements) if elements else None

    @classmethod
    def from_extension(cls, extension: Extension | None) -> Talk:
        """What ``extension`` says; never an error. The first element of a kind counts, unprintable characters become U+FFFD.

        An alias that replacement would make longer than 16 bytes is clipped at a character border.
        """
        if extension is None:
            return NOBODY
        alias: str | None = None
        priority: int | None = None
        flags: int | None = None
        node_id: bytes | None = None
        via: tuple[bytes, ...] | None = None
        for element in extension.elements():
            data = element.data
            match element.id:
                case ElementId.ALIAS if alias is None and 1 <= len(data) <= MAX_ALIAS:
                    try:
                        alias = clip_alias(data.decode())
                    except UnicodeDecodeError:
                        continue
                case ElementId.PRIORITY if priority is None and len(data) == 1:
                    priority = data[0]
                case ElementId.FLAGS if flags is None and len(data) == 1:
                    flags = data[0] & KNOWN_FLAGS
                case ElementId.NODE_ID if node_id is None and len(data) == NODE_ID_LENGTH:
                    node_id = data
                case ElementId.VIA if via is None and data and len(data) % NODE_ID_LENGTH == 0:
                    via = tuple(data[at : at + NODE_ID_LENGTH] for at in range(0, len(data), NODE_ID_LENGTH))
        return cls(alias or "", priority or 0, TalkFlag(flags or 0), node_id or b"", via or ())


NOBODY: Final = Talk()


def clip_alias(text: str) -> str:
    """``text`` as a talker alias: unprintable characters replaced by U+FFFD, cut to 16 bytes of UTF-8 at a character border."""
    encoded = printable(text).encode()
    return encoded[:MAX_ALIAS].decode(errors="ignore")


def sequence_difference(later: int, earlier: int) -> int:
    """How many packets ``later`` is ahead of ``earlier``, −32,768 to 32,767 (serial arithmetic, RFC 1982, 16 bits)."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


def timestamp_difference(later: int, earlier: int) -> int:
    """How many clock units ``later`` is ahead of ``earlier``, −2³¹ to 2³¹−1 (serial arithmetic, RFC 1982, 32 bits)."""
    return ((later - earlier + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def is_rtp(data: bytes) -> bool:
    """Whether this may be RTP (RFC 3550 section 5.1), and is not RTCP on the same port."""
    return len(data) >= HEADER.size and data[0] >> 6 == VERSION and data[1] not in RTCP


def is_rtcp(data: bytes) -> bool:
    """Whether this may be RTCP on the same port (RFC 5761 section 4)."""
    return len(data) >= 8 and data[0] >> 6 == VERSION and data[1] in RTCP
