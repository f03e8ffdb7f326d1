"""A mission as one run of text that fits into a message, a file or a QR code, and back.

========  ==================================================================================================
step      what it makes
========  ==================================================================================================
1         ``&*3$e1@E`` ‖ ``001`` ‖ the mission as JSON, UTF-8
2         gzip (RFC 1952) of that
3         with a password: 0x01 ‖ salt 16 ‖ nonce 12 ‖ AES-256-GCM of step 2 ‖ tag 16, the key being
          scrypt(password, salt, n = 2¹⁵, r = 8, p = 1), the 11 bytes of magic and version its additional data
4         basE91 of that
5         with a deflection URL: URL ‖ ``/??`` ‖ step 4, which a telephone's camera opens as a page
========  ==================================================================================================

A reader tells step 3 from step 2 by the first byte, for gzip begins 1f 8b. Everything that comes from outside is bounded: the text before
it is decoded, the JSON while it is inflated, and scrypt's cost is ours, never the file's.
"""

import os
import re
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ice.errors import LocalError
from ice.mission.base91 import Base91Error, decode, encode
from ice.mission.tolerant import MAX_BYTES, MissionError, shown_text

MAGIC: Final = b"&*3$e1@E"
VERSION: Final = b"001"
HEADER: Final = MAGIC + VERSION
DEFLECTION: Final = "/??"
QR_BYTES: Final = (
    2_953  # the largest QR code, version 40 with error correction L, in bytes (ISO/IEC 18004 table 7)
)
MAX_PACKED: Final = 1024 * 1024  # characters; missions with inline certificates stay far below
MAX_URL: Final = 2_048
_GZIP: Final = b"\x1f\x8b"
_SEALED: Final = 0x01  # version of the container of step 3
_SALT, _NONCE, _TAG = 16, 12, 16
_SCRYPT_N: Final = (
    2**15
)  # 32 MiB and a tenth of a second: dear for who tries words, cheap for who knows the word
_URL: Final = re.compile(r"\s*https?://", re.IGNORECASE)


class PasswordNeeded(MissionError):
    """The mission is sealed with a password, and none was given."""


class WrongPassword(MissionError):
    """The password does not open the mission, or the mission was altered: the two cannot be told apart."""


def pack(
    json_text: str, password: str | None = None, *, random_bytes: Callable[[int], bytes] = os.urandom
) -> str:
    """Steps 1 to 4.

    :param json_text: the mission, best compact (``write_mission(mission, compact=True)``).
    :param password: seals it; None leaves it readable by everybody who has it.
    :raises LocalError: the password is empty, or the mission larger than any reader takes.
    """
    return encode(pack_bytes(json_text, password, random_bytes=random_bytes))


def pack_bytes(
    json_text: str, password: str | None = None, *, random_bytes: Callable[[int], bytes] = os.urandom
) -> bytes:
    """Steps 1 to 3."""
    data = json_text.encode()
    if len(data) > MAX_BYTES:
        raise LocalError(f"a mission of {len(data):,} bytes; at most {MAX_BYTES:,} can be packed")
    packer = zlib.compressobj(
        9, zlib.DEFLATED, 31
    )  # gzip, without a name or a time: the same mission, the same text
    packed = packer.compress(HEADER + data) + packer.flush()
    if password is None:
        return packed
    salt, nonce = random_bytes(_SALT), random_bytes(_NONCE)
    return bytes([_SEALED]) + salt + nonce + AESGCM(_key(password, salt)).encrypt(nonce, packed, HEADER)


def unpack(text: str, source: str, password: str | None = None) -> str:
    """The JSON in a packed text or a deflection URL with one.

    :raises PasswordNeeded: it is sealed.
    :raises WrongPassword: not with this password.
    :raises MissionError: it is no packed mission; the message says what is wrong with it.
    """
    if DEFLECTION not in text:
        return _unpack(text, source, password)
    after = text.partition(DEFLECTION)[2]
    # The three characters are of the alphabet too: without a scheme it may be either.
    ways = [after] if _URL.match(text) else [text, after]
    if "%" in after and len(after) <= MAX_PACKED:  # a program on the way has written " as %22, say
        ways.append(urllib.parse.unquote(after, errors="replace"))
    for way in ways[:-1]:
        try:
            return _unpack(way, source, password)
        except (PasswordNeeded, WrongPassword):
            raise
        except MissionError:
            continue
    return _unpack(ways[-1], source, password)


def _unpack(text: str, source: str, password: str | None) -> str:
    if len(text) > MAX_PACKED:
        raise MissionError(source, f"{len(text):,} characters; a packed mission has at most {MAX_PACKED:,}")
    try:
        data = decode(text)
    except Base91Error as error:
        raise MissionError(source, f"expected a packed mission (basE91): {error}") from None
    return unpack_bytes(data, source, password)


def unpack_bytes(data: bytes, source: str, password: str | None = None) -> str:
    """The JSON in what steps 1 to 3 made; raises as :func:`unpack`."""
    if data[:1] == bytes([_SEALED]):
        data = _open(data, source, password)
    elif data[:2] != _GZIP:
        raise MissionError(
            source,
            f"expected a packed mission, which begins 1f 8b (gzip) or 01 (sealed), found {data[:2].hex(' ') or 'nothing'}; is it whole?",
        )
    text = _inflated(data, source)
    if not text.startswith(MAGIC):
        raise MissionError(source, f"expected the mark {MAGIC.decode()} of a mission, found {_start(text)}")
    version = text[len(MAGIC) : len(HEADER)]
    if version != VERSION:
        raise MissionError(
            source,
            f"expected version {VERSION.decode()} of the packing, found {_start(version)}; a newer program made it",
        )
    try:
        return text[len(HEADER) :].decode()
    except UnicodeDecodeError as error:
        raise MissionError(
            source, f"expected JSON in UTF-8, found byte 0x{text[len(HEADER) + error.start]:02x}"
        ) from None


def deflected(url: str, packed: str) -> str:
    """Step 5.

    :raises LocalError: the URL is none that a telephone opens.
    """
    if not _URL.match(url) or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise LocalError(
            f'"{shown_text(url)}" is no deflection URL: expected http:// or https:// and a place, plain ASCII, at most {MAX_URL} characters'
        )
    if "?" in url or "#" in url:
        raise LocalError(
            f'"{shown_text(url)}" has a ? or #: a deflection URL ends before that, for {DEFLECTION} follows'
        )
    return url.rstrip("/") + DEFLECTION + packed


def _open(data: bytes, source: str, password: str | None) -> bytes:
    least = 1 + _SALT + _NONCE + _TAG
    if len(data) <= least:
        raise MissionError(
            source, f"expected a sealed mission of more than {least} bytes, found {len(data)}; is it whole?"
        )
    if password is None:
        raise PasswordNeeded(
            source, "this mission is sealed with a password; give it with --password or --password-file"
        )
    salt, nonce = data[1 : 1 + _SALT], data[1 + _SALT : 1 + _SALT + _NONCE]
    try:
        return AESGCM(_key(password, salt)).decrypt(nonce, data[1 + _SALT + _NONCE :], HEADER)
    except InvalidTag:
        raise WrongPassword(
            source, "the password does not open this mission (or the mission was altered on its way)"
        ) from None


def _key(password: str, salt: bytes) -> bytes:
    if not password:
        raise LocalError("an empty password seals nothing; give one of several words")
    try:
        secret = password.encode()
    except UnicodeEncodeError:
        raise LocalError("the password is no text in UTF-8; type it again") from None
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=8, p=1).derive(secret)


def _inflated(data: bytes, source: str) -> bytes:
    limit = MAX_BYTES + len(HEADER)
    unpacker = zlib.decompressobj(31)
    try:
        text = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise MissionError(source, f"the packed mission is damaged ({error}); copy it again, whole") from None
    if len(text) > limit:
        raise MissionError(
            source,
            f"unpacks to more than {limit:,} bytes, which no mission has: refused, it may be meant to do harm",
        )
    if not unpacker.eof:
        raise MissionError(source, "the packed mission ends too early; copy it again, whole")
    if unpacker.unused_data:
        raise MissionError(
            source, f"{len(unpacker.unused_data)} bytes follow the packed mission; copy it again, alone"
        )
    return text


def _start(data: bytes) -> str:
    return f'"{shown_text(data[:16].decode("latin-1"))}"' if data else "nothing"
