"""The group document: what all members of a server group must know alike, as one numbered and signed value.

A document has a *body*, bytes that only the satellites understand (the list of patches, say), and a *header*: the group, a number that each change makes one
higher, who made it and when, and the SHA-256 of the packed body.  The header is signed with HMAC-SHA-256, keyed with a key that is derived from the group's salt.

**Why the salt and no certificate.** Whoever holds the salt can vote, can therefore lead, and may then change the document: a signature that proves less is not
missing anything, and one by certificate would fail just when the document is needed, on a member that coasts behind an expired certificate.  Who made a change is told by ``by``, on the word of
members who trust each other.  The key is derived, so that no ballot can be passed off as a document nor the other way round.  When the salt is changed, both salts verify for a while; whoever reads
its document again signs it with the first.

**Which one counts** (:attr:`Header.rank`): the higher number; of two with the same number, which only a divided group can make, the later ``ms``, then the greater ``by``, then the greater
digest.  So all members choose alike, in whatever order they hear.

**On the disk, and in pieces.** The file is the header in one line and the packed body (zlib).  On the wire the header goes by itself (``HAVE``), the packed body in pieces of
:data:`PIECE_BYTES` that name the digest's first eight bytes and their place::

    0x01 {"from":…,"header":{"body":5120,"by":…,"digest":…,"group":…,"hmac":…,"ms":…,"number":7,"packed":2040}}      and "kept":false where its disk refuses it
    0x02 {"digest":"0011…","from":…,"ranges":[[0,2]],"of":…}       send me pieces 0 and 1
    0x03 digest (8) ‖ place (u16, big-endian) ‖ bytes

Every length is bounded before anything is taken: the body by :data:`MAX_BODY`, packed by :data:`MAX_PACKED`, and what unpacks to more than it said is refused while it is unpacked.
"""

from __future__ import annotations

import hmac
import re
import struct
import zlib
from collections.abc import Collection, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import attrs

from ice.election.ballot import MAX_MS, canonical
from ice.election.messages import MAX_MESSAGE, Kind, is_id, is_whole, read_object
from ice.errors import LocalError, RemoteError

MAX_BODY: Final = 16 * 1024 * 1024  # 65,536 streams in patches, 200 bytes each
MAX_PACKED: Final = 4 * 1024 * 1024  # of these, UUIDs do not pack below a quarter
PIECE_BYTES: Final = 1_000  # of a piece: with its head and seal one datagram inside the IPv6 minimum MTU
MAX_PIECES: Final = -(-MAX_PACKED // PIECE_BYTES)
MAX_RANGES: Final = 64  # in one request; what is missing beyond is asked for later
MAX_HEADER: Final = 1_000
_PIECE: Final = struct.Struct(">B8sH")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_SHORT: Final = re.compile(r"[0-9a-f]{16}\Z")
_LABEL: Final = b"ice group document 1"


class Wrong(StrEnum):
    """Why a document, or a message about one, is refused."""

    FORM = "form"  #: no JSON object, or not the fields that there must be
    SIZE = "size"
    GROUP = "wrong-group"
    MEMBER = "not-member"
    HMAC = "hmac"  #: forged, or of another salt
    DIGEST = "digest"  #: the pieces are not what the header says
    BODY = "body"  #: does not unpack to what the header says


class DocumentRefused(RemoteError):
    """A document is not one; ``wrong`` names why, the message says more."""

    def __init__(self, wrong: Wrong, text: str) -> None:
        super().__init__(text)
        self.wrong = wrong


@attrs.frozen
class Header:
    """What a document says of itself. ``digest``: SHA-256 of the packed body, hexadecimal; ``ms``: Unix milliseconds; sizes in bytes."""

    group: str
    number: int
    ms: int
    by: str
    digest: str
    body_bytes: int
    packed_bytes: int

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """The greater counts."""
        return self.number, self.ms, self.by, self.digest

    @property
    def short(self) -> bytes:
        """The first eight bytes of the digest."""
        return bytes.fromhex(self.digest[:16])

    @property
    def pieces(self) -> int:
        """How many pieces the packed body has."""
        return -(-self.packed_bytes // PIECE_BYTES)

    def piece_bytes(self, place: int) -> int:
        """How long the piece at this place is."""
        return min(PIECE_BYTES, self.packed_bytes - place * PIECE_BYTES)


@attrs.frozen
class Document:
    """A header, and the packed body that fits it."""

    header: Header
    packed: bytes = attrs.field(repr=False)

    def body(self) -> bytes:
        """The body. Raises :class:`DocumentRefused` where it does not unpack to what the header says; one that was accepted does."""
        unpacker = zlib.decompressobj()
        try:
            body = unpacker.decompress(self.packed, self.header.body_bytes + 1)
        except zlib.error as error:
            raise DocumentRefused(Wrong.BODY, f"the body cannot be unpacked: {error}") from None
        if len(body) != self.header.body_bytes or not unpacker.eof or unpacker.unused_data:
            raise DocumentRefused(Wrong.BODY, f"expected a body of {self.header.body_bytes} bytes")
        return body

    def piece(self, place: int) -> bytes:
        """The message with the piece at this place."""
        begin = place * PIECE_BYTES
        return _PIECE.pack(Kind.PIECE, self.header.short, place) + self.packed[begin : begin + PIECE_BYTES]


@attrs.frozen
class Have:
    """``sender`` has the document of this header; ``kept``: on its disk, where it outlives the process."""

    sender: str
    header: Header
    kept: bool = True


@attrs.frozen
class Want:
    """``sender`` wants pieces of the document whose digest begins so, from the member ``of``; ranges are begin and end, exclusive."""

    sender: str
    of: str
    short: bytes
    ranges: tuple[tuple[int, int], ...]


@attrs.frozen
class Piece:
    """A piece."""

    short: bytes
    place: int
    data: bytes


def document_key(salt: bytes) -> bytes:
    """The key that signs documents of a group with this salt."""
    return hmac.digest(salt, _LABEL, "sha256")


def compose(group: str, number: int, ms: int, by: str, body: bytes) -> Document:
    """A new document. Raises :class:`LocalError` for a body that is too large."""
    if len(body) > MAX_BODY:
        raise LocalError(f"a group document has at most {MAX_BODY} bytes, not {len(body)}")
    packed = zlib.compress(body, 6)
    if len(packed) > MAX_PACKED:
        raise LocalError(
            f"a group document has at most {MAX_PACKED} bytes when packed, this one {len(packed)}"
        )
    if number > MAX_MS:
        raise LocalError("the group document's number has come to its end")
    digest = sha256(packed).hexdigest()
    return Document(Header(group, number, ms, by, digest, len(body), len(packed)), packed)


def checked(header: Header, packed: bytes) -> Document:
    """The document of ``header`` whose pieces are ``packed``. Raises :class:`DocumentRefused` where they do not fit each other."""
    if not hmac.compare_digest(sha256(packed).hexdigest(), header.digest):
        raise DocumentRefused(Wrong.DIGEST, f"the pieces of document {header.number} do not fit its header")
    document = Document(header, packed)
    document.body()
    return document


# -- bytes -----------------------------------------------------------------------------------------------------------------


def encode_document(document: Document, salt: bytes) -> bytes:
    """The bytes of a file."""
    return canonical(_signed(document.header, salt)) + b"\n" + document.packed


def decode_document(data: bytes, group: str, members: Collection[str], salts: Sequence[bytes]) -> Document:
    """The document in the bytes of a file. Raises :class:`DocumentRefused`."""
    line, end, packed = data[: MAX_HEADER + 1].partition(b"\n")
    if not end:
        raise DocumentRefused(Wrong.FORM, "expected a header in one line")
    packed = data[len(line) + 1 :]
    value = read_object(bytes([Kind.HAVE]) + line)
    header = _header(value, group, members, salts)
    return checked(header, packed)


def encode_have(have: Have, salt: bytes) -> bytes:
    """The message ``HAVE``."""
    value: dict[str, Any] = {"from": have.sender, "header": _signed(have.header, salt)}
    if not have.kept:
        value["kept"] = False
    return bytes([Kind.HAVE]) + canonical(value)


def encode_want(want: Want) -> bytes:
    """The message ``WANT``."""
    return bytes([Kind.WANT]) + canonical(
        {"from": want.sender, "of": want.of, "digest": want.short.hex(), "ranges": want.ranges}
    )


def decode_message(
    data: bytes, group: str, members: Collection[str], salts: Sequence[bytes]
) -> Have | Want | Piece:
    """What a message about documents says. Raises :class:`DocumentRefused`."""
    if not 0 < len(data) <= MAX_MESSAGE:
        raise DocumentRefused(Wrong.SIZE, f"expected 1 to {MAX_MESSAGE} bytes, found {len(data)}")
    if data[0] == Kind.PIECE:
        return _piece(data)
    value = read_object(data)
    if value is None or not is_id(value.get("from")):
        raise DocumentRefused(Wrong.FORM, "expected a JSON object that says from whom it is")
    sender: str = value["from"]
    if sender not in members:
        raise DocumentRefused(Wrong.MEMBER, f"{sender!a} is no member of the group {group}")
    if data[0] == Kind.HAVE:
        header = _header(value.get("header"), group, members, salts)
        return Have(sender, header, value.get("kept", True) is True)
    if data[0] == Kind.WANT:
        return _want(sender, value)
    raise DocumentRefused(Wrong.FORM, f"no message about documents begins with {data[0]}")


def _signed(header: Header, salt: bytes) -> dict[str, Any]:
    value: dict[str, Any] = {
        "group": header.group,
        "number": header.number,
        "ms": header.ms,
        "by": header.by,
        "digest": header.digest,
        "body": header.body_bytes,
        "packed": header.packed_bytes,
    }
    value["hmac"] = _code(value, salt)
    return value


def _code(value: dict[str, Any], salt: bytes) -> str:
    return hmac.digest(document_key(salt), canonical(value), "sha256").hex()


def _header(value: object, group: str, members: Collection[str], salts: Sequence[bytes]) -> Header:
    if not isinstance(value, dict):
        raise DocumentRefused(Wrong.FORM, "expected a header")
    code, digest, by = value.get("hmac"), value.get("digest"), value.get("by")
    body, packed = value.get("body"), value.get("packed")
    if not (
        isinstance(code, str)
        and _DIGEST.match(code)
        and isinstance(digest, str)
        and _DIGEST.match(digest)
        and is_id(by)
        and is_whole(value.get("number"))
        and is_whole(value.get("ms"))
    ):
        raise DocumentRefused(Wrong.FORM, "a field of the header is missing, or is not what it must be")
    if not (type(body) is int and type(packed) is int and 0 <= body <= MAX_BODY and 0 < packed <= MAX_PACKED):
        raise DocumentRefused(Wrong.SIZE, f"expected at most {MAX_BODY} bytes, {MAX_PACKED} packed")
    if value.get("group") != group:
        raise DocumentRefused(Wrong.GROUP, f"expected a document of the group {group}")
    signed = {key: each for key, each in value.items() if key != "hmac"}
    found = False
    for salt in salts:
        found |= hmac.compare_digest(_code(signed, salt), code)
    if not found:
        raise DocumentRefused(Wrong.HMAC, "the header was not signed with this group's salt")
    assert isinstance(by, str)
    return Header(group, value["number"], value["ms"], by, digest, body, packed)


def _want(sender: str, value: dict[str, Any]) -> Want:
    of, short, ranges = value.get("of"), value.get("digest"), value.get("ranges")
    if not (
        isinstance(of, str)
        and isinstance(short, str)
        and _SHORT.match(short)
        and isinstance(ranges, list)
        and len(ranges) <= MAX_RANGES
    ):
        raise DocumentRefused(Wrong.FORM, "expected the digest, the member and the ranges that are wanted")
    pairs = []
    for each in ranges:
        if not (
            isinstance(each, list)
            and len(each) == 2
            and all(type(number) is int for number in each)
            and 0 <= each[0] < each[1] <= MAX_PIECES
        ):
            raise DocumentRefused(Wrong.FORM, f"expected ranges of pieces from 0 to {MAX_PIECES}")
        pairs.append((each[0], each[1]))
    return Want(sender, of, bytes.fromhex(short), tuple(pairs))


def _piece(data: bytes) -> Piece:
    if not _PIECE.size < len(data) <= _PIECE.size + PIECE_BYTES:
        raise DocumentRefused(Wrong.SIZE, f"expected a piece of 1 to {PIECE_BYTES} bytes")
    _, short, place = _PIECE.unpack_from(data)
    if place >= MAX_PIECES:
        raise DocumentRefused(Wrong.FORM, f"expected a piece from 0 to {MAX_PIECES}")
    return Piece(short, place, data[_PIECE.size :])


def in_ranges(places: Collection[int]) -> tuple[tuple[int, int], ...]:
    """These places as at most :data:`MAX_RANGES` ranges, the first of them."""
    ranges: list[tuple[int, int]] = []
    for place in sorted(places):
        if ranges and ranges[-1][1] == place:
            ranges[-1] = (ranges[-1][0], place + 1)
        elif len(ranges) == MAX_RANGES:
            break
        else:
            ranges.append((place, place + 1))
    return tuple(ranges)


__all__ = [
    "Document",
    "DocumentRefused",
    "Have",
    "Header",
    "Piece",
    "Want",
    "Wrong",
    "checked",
    "compose",
    "decode_document",
    "decode_message",
    "document_key",
    "encode_document",
    "encode_have",
    "encode_want",
    "in_ranges",
]
