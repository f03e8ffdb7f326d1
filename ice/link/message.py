"""Control messages of the Rallypoint link: JSON bodies <-> frozen values.

Unknown keys are ignored (a newer far side may say more than we know); a missing or ill-typed one is a
:class:`MessageError`.  Every string and list is bounded, and so is what is kept of them.
See ``docs/link-protocol.md``.
"""

from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ice.errors import RemoteError

VERSION = 1
MAX_STREAM_ID = 256  # bytes of UTF-8
ANY_SOURCE = "any"  # what a satellite declares, which passes on the names of others


class Code(StrEnum):
    """Reason codes of BYE and ERROR: one name per fact, the same in logs, counters and on the wire."""

    # BYE: the link ends
    BAD_FRAME = "bad-frame"
    TOO_LARGE = "too-large"
    ORDER = "order"
    VERSION = "version"
    IDENTITY = "identity"
    ROLE = "role"
    ALPN = "alpn"
    DRAINING = "draining"
    DENIED_ADDRESS = "denied-address"
    IDLE = "idle"
    INTERNAL = "internal"
    REVOKED = "revoked"
    LEAVING = "leaving"
    # BYE between Rallypoints
    REFUSED = "refused"
    REPLACED = "replaced"
    TWIN = "twin"
    SELF = "self"
    # BYE in HELLO, ERROR afterwards
    BAD_JSON = "bad-json"
    LIMIT = "limit"
    # ERROR: the link lives on
    BAD_STREAM = "bad-stream"
    DENIED = "denied"
    KEY_COLLISION = "key-collision"
    NOT_JOINED = "not-joined"
    FOREIGN_SOURCE = "foreign-source"
    UNSUPPORTED = "unsupported"


class LinkRole(StrEnum):
    """What the opener of a link wants to be."""

    CLIENT = "client"
    PEER = "peer"
    LEAF = "leaf"
    FEDERATION = "federation"


class MessageError(RemoteError):
    """A control body is not what its frame type promises."""


_Name = Annotated[str, Meta(max_length=256)]
_Word = Annotated[str, Meta(max_length=64)]
_Words = Annotated[list[_Word], Meta(max_length=64)]
_Address = Annotated[str, Meta(max_length=300)]
_Addresses = Annotated[list[_Address], Meta(max_length=64)]
_Txn = Annotated[int, Meta(ge=0, lt=2**32)]
_Seconds = Annotated[float, Meta(ge=0, le=86_400)]
_Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
_Text = Annotated[str, Meta(max_length=1_000)]


class Limits(msgspec.Struct, frozen=True, omit_defaults=False):
    """What a Rallypoint lets one link do."""

    media_bytes: Annotated[int, Meta(ge=1, le=65_000)] = 4_096
    joins: Annotated[int, Meta(ge=0)] = 256
    packets_per_s: Annotated[int, Meta(ge=0)] = 0
    bytes_per_s: Annotated[int, Meta(ge=0)] = 0


class Hello(msgspec.Struct, frozen=True):
    """The opener introduces itself; ``id`` is the UUID of its certificate."""

    version: int
    role: _Word
    id: _Word
    name: _Name = ""
    agent: _Name = ""
    features: _Words = []


class Welcome(msgspec.Struct, frozen=True):
    """The Rallypoint lets the opener in."""

    version: int
    id: _Word
    name: _Name = ""
    session: _Word = ""
    keepalive: Annotated[float, Meta(gt=0, le=3_600)] = 5.0
    features: _Words = []
    alternatives: _Addresses = []
    limits: Limits = Limits()


class Join(msgspec.Struct, frozen=True, omit_defaults=True):
    """The opener wants to hear and talk on ``stream``; ``source`` is where it talks, in 16 hex digits."""

    txn: _Txn
    stream: str
    listen: bool = True
    talk: bool = True
    source: str | UnsetType = UNSET


class Joined(msgspec.Struct, frozen=True):
    """From here on the first syllable is heard."""

    txn: _Txn
    stream: Annotated[str, Meta(max_length=MAX_STREAM_ID)]
    key: _Hex16


class Leave(msgspec.Struct, frozen=True):
    """The opener is done with ``stream``."""

    stream: str


class ErrorMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something asked for cannot be; the link lives on.  ``txn`` names the question it answers."""

    code: _Word
    message: _Text = ""
    txn: _Txn | UnsetType = UNSET


class Bye(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sender ends the link after this frame."""

    code: _Word
    reason: _Text = ""
    retry_after: _Seconds | UnsetType = UNSET
    alternatives: _Addresses = []


class _OnlyTxn(msgspec.Struct):
    txn: _Txn


_T = TypeVar("_T")
_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Hello, Welcome, Join, Joined, Leave, ErrorMessage, Bye, _OnlyTxn)
}


def encode(message: msgspec.Struct) -> bytes:
    """The JSON body of ``message``, UTF-8, without white space."""
    return _encoder.encode(message)


def decode(kind: type[_T], body: bytes) -> _T:
    """``body`` as a value of ``kind``; raises :class:`MessageError` with the place and what was expected."""
    try:
        value: _T = _decoders[kind].decode(body)
        return value
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MessageError(str(error)) from None
    except RecursionError:
        raise MessageError("JSON is nested too deeply") from None


def txn_of(body: bytes) -> int | None:
    """The transaction number of a body that could not be read otherwise, so that the refusal finds its question."""
    try:
        return decode(_OnlyTxn, body).txn
    except MessageError:
        return None
