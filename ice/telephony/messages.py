"""What a gateway and a person's program say to each other about calls: kinds, fields, bounds, and the streams that carry it.

A message is a :class:`Header` that everybody on the stream may read (what kind, which call, for whom, when) and a body that only the recipient can
(:mod:`ice.telephony.envelope`: numbers, keys of the keypad, the key of the call's sound). Both are JSON. The header is *canonical*: keys in order, no white space, nothing
escaped that need not be; one that is written otherwise is refused.

**Streams.** People talk to a gateway group on :func:`group_stream`, which the gateway listens to; each person listens to :func:`user_stream`; what the gateway says to
all stands on :func:`notice_stream`. The sound of a call is on a stream of its own, :func:`sound_stream`, under a fresh key.

**Both ways alike.** Whoever is called says ``ringing``, ``early``, ``answered``, ``busy``; either says ``hold``, ``resume``, ``dtmf``, ``ended``. :func:`event_of` and
:func:`body_of` lead from messages to the call's state machine and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from ice.errors import LocalError, RemoteError
from ice.telephony import call
from ice.telephony.causes import Cause

MAX_HEADER: Final = 768  # bytes: a stream id of 256 bytes, each of them escaped, fits
MAX_BODY: Final = 1_280  # bytes of JSON
MAX_NUMBER: Final = 64  # E.164 has 15 digits, a SIP user part seldom more than 40 characters
MAX_NAME: Final = 64
PREFIX: Final = "__calls_"


class Kind(StrEnum):
    """What a message says."""

    HELLO = "hello"  #: a person's program: here I am, calls may come
    HERE = "here"  #: a gateway: here I am, write to this certificate
    DIAL = "dial"  #: person → gateway: call this number
    OFFER = "offer"  #: gateway → person: somebody calls you
    ADOPT = "adopt"  #: gateway → person: I was restarted, or have taken over; your call goes on, this is its sound
    PROCEEDING = "proceeding"  #: gateway → person: the call is on its way, this is its sound
    RINGING = "ringing"
    EARLY = "early"
    ANSWERED = "answered"
    BUSY = "busy"  #: the called does not take the call: the call is over
    ENDED = "ended"  #: the call is over
    HOLD = "hold"
    RESUME = "resume"
    DTMF = "dtmf"
    TRANSFER = "transfer"  #: person → gateway: hand the line to this number
    TRANSFERRING = "transferring"
    TRANSFER_FAILED = "transfer-failed"
    ERROR = "error"  #: a message was refused
    ACK = "ack"  #: a message has come


#: What is said once and not confirmed.
UNCONFIRMED: Final = frozenset({Kind.HELLO, Kind.HERE, Kind.ERROR, Kind.ACK})
#: What begins a call: number 0 of its sender.
BEGINNING: Final = frozenset({Kind.DIAL, Kind.OFFER, Kind.ADOPT})
#: What only a gateway says.
OF_GATEWAYS: Final = frozenset(
    {Kind.HERE, Kind.OFFER, Kind.ADOPT, Kind.PROCEEDING, Kind.TRANSFERRING, Kind.TRANSFER_FAILED}
)


class Code(StrEnum):
    """Why a message was refused, as ``error`` tells its sender."""

    UNKNOWN_CALL = "unknown-call"  #: nothing is known of that call: it is over, or the gateway was restarted
    CLOCK = "clock"  #: too old, or from the future: one of the two clocks is wrong, or this is a replay
    BUDGET = "budget"  #: too many messages
    FULL = "full"  #: too many calls
    STANDBY = "standby"  #: this gateway is not the active one of its group


class MessageRefused(RemoteError):
    """A message is not acceptable; ``reason`` is a short fixed word for counters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


Number: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NUMBER)]
Name: TypeAlias = Annotated[str, Meta(max_length=MAX_NAME)]
Hex64: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex64OrNone: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Id: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
IdOrNone: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")]
StreamId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a message that everybody on its stream may read; keys in the order of the alphabet.

    ``call`` is empty where the message is of no call; ``n`` counts the sender's messages of one call from 0; ``on`` is the stream that the message is said on; ``to`` is the
    SHA-256 of the recipient's certificate, empty for everybody; ``ms`` is the sender's clock, milliseconds of Unix time; ``re`` is the id of the message that this one answers.
    """

    call: str
    id: Id
    kind: Kind
    ms: Annotated[int, Meta(ge=0, le=1 << 52)]
    n: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
    on: StreamId
    re: IdOrNone
    to: Hex64OrNone

    @property
    def call_id(self) -> UUID | None:
        """The call, where the message is of one."""
        return UUID(self.call) if self.call else None


class Nothing(msgspec.Struct, frozen=True):
    """The body of a message whose kind says all."""


class Dial(msgspec.Struct, frozen=True):
    """``number``: whom to call. ``name``: who calls, as a person would say it; the called sees it where the telephone network carries it."""

    number: Number
    name: Name = ""


class Media(msgspec.Struct, frozen=True):
    """The sound of the call: its stream, and its key (a ``cryptoPassword`` for ``aes-256-gcm``: 64 hexadecimal digits)."""

    stream: StreamId
    key: Hex64

    def __repr__(self) -> str:
        return f"Media(stream={self.stream!r}, key=…)"


class Offer(msgspec.Struct, frozen=True):
    """Who calls (``number`` may be empty: withheld), which of our numbers he dialled, and the sound of the call."""

    number: Annotated[str, Meta(max_length=MAX_NUMBER)]
    media: Media
    name: Name = ""
    dialled: Annotated[str, Meta(max_length=MAX_NUMBER)] = ""


class Proceeding(msgspec.Struct, frozen=True):
    """The call is on its way, or goes on (``adopt``); its sound may be joined now."""

    media: Media


class Because(msgspec.Struct, frozen=True):
    """Why: of ``busy``, ``ended`` and ``transfer-failed``."""

    cause: Cause


class Keys(msgspec.Struct, frozen=True):
    """Telephone keys that were pressed, of ``dtmf``."""

    digits: Annotated[str, Meta(min_length=1, max_length=call.MAX_DIGITS, pattern=r"^[0-9*#A-D]+\Z")]

    def __repr__(self) -> str:
        return f"Keys({len(self.digits)} digits)"  # people key in their secrets


class Target(msgspec.Struct, frozen=True):
    """Whom the line is handed to, of ``transfer``."""

    number: Number


class Refusal(msgspec.Struct, frozen=True):
    """Why a message was refused, of ``error``; ``text`` is a sentence."""

    code: Code
    text: Annotated[str, Meta(max_length=300)] = ""


Body: TypeAlias = Nothing | Dial | Offer | Proceeding | Because | Keys | Target | Refusal

_BODIES: Final[Mapping[Kind, type[Body]]] = MappingProxyType(
    {
        Kind.DIAL: Dial,
        Kind.OFFER: Offer,
        Kind.ADOPT: Proceeding,
        Kind.PROCEEDING: Proceeding,
        Kind.BUSY: Because,
        Kind.ENDED: Because,
        Kind.DTMF: Keys,
        Kind.TRANSFER: Target,
        Kind.TRANSFER_FAILED: Because,
        Kind.ERROR: Refusal,
    }
)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_HEADER: Final = msgspec.json.Decoder(Header)
_DECODERS: Final = {kind: msgspec.json.Decoder(_BODIES.get(kind, Nothing)) for kind in Kind}


def body_type(kind: Kind) -> type[Body]:
    """What the body of a kind is."""
    return _BODIES.get(kind, Nothing)


def encode_header(header: Header) -> bytes:
    """The canonical bytes of a header; raises :class:`~ice.errors.LocalError` for one that nobody would read."""
    data = _ENCODER.encode(header)
    try:
        decode_header(data)
    except MessageRefused as error:
        raise LocalError(f"this header cannot be sent: {error}") from None
    return data


def decode_header(data: bytes) -> Header:
    """The header in these bytes; raises :class:`MessageRefused` (``header``, ``not-canonical``)."""
    if len(data) > MAX_HEADER:
        raise MessageRefused("header", f"a header of {len(data)} bytes; at most {MAX_HEADER} are read")
    try:
        header = _HEADER.decode(data)
        if header.call and str(UUID(header.call)) != header.call:
            raise ValueError(f"call {header.call!r} is not 8-4-4-4-12 lower-case hex digits")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MessageRefused("header", f"the header cannot be read: {str(error)[:120]!a}") from None
    if _ENCODER.encode(header) != data:
        raise MessageRefused("not-canonical", "the header is not written in the one form that is signed")
    return header


def encode_body(kind: Kind, body: Body) -> bytes:
    """The JSON of a body, empty where the kind says all; raises :class:`~ice.errors.LocalError` for another kind's body and values out of bounds."""
    if type(body) is not body_type(kind):
        raise LocalError(f"{kind} has a body of {body_type(kind).__name__}, not of {type(body).__name__}")
    if isinstance(body, Nothing):
        return b""
    data = _ENCODER.encode(body)
    try:
        decode_body(kind, data)
    except MessageRefused as error:
        raise LocalError(f"this {kind} cannot be sent: {error}") from None
    return data


def decode_body(kind: Kind, data: bytes) -> Body:
    """The body of a kind in these bytes; unknown keys are ignored. Raises :class:`MessageRefused` (``body``)."""
    if len(data) > MAX_BODY:
        raise MessageRefused("body", f"a body of {len(data)} bytes; at most {MAX_BODY} are read")
    if body_type(kind) is Nothing:
        return Nothing()
    try:
        body: Body = _DECODERS[kind].decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # The decoder's messages name places and types, never values.
        raise MessageRefused("body", f"the body of {kind} cannot be read: {str(error)[:120]!a}") from None
    return body


# Streams


def group_stream(group: str) -> str:
    """Where people write to the gateways of a group; the active one listens."""
    return f"{PREFIX}{group}"


def user_stream(group: str, user: UUID) -> str:
    """Where a gateway writes to a person, whose program listens."""
    return f"{PREFIX}{group}_{user}"


def notice_stream(group: str) -> str:
    """Where the active gateway of a group says to all that it is there."""
    return f"{PREFIX}{group}_all"


def sound_stream(call_id: UUID) -> str:
    """Where a call sounds, full duplex."""
    return f"__call_{call_id}"


# To the state machine and back


_SAID: Final[Mapping[Kind, Callable[[call.Side], call.Event]]] = MappingProxyType(
    {
        Kind.RINGING: call.Rings,
        Kind.EARLY: call.Sounds,
        Kind.ANSWERED: call.Answers,
        Kind.HOLD: call.Holds,
        Kind.RESUME: call.Resumes,
    }
)
_SAID_BECAUSE: Final[Mapping[Kind, Callable[[call.Side, Cause], call.Event]]] = MappingProxyType(
    {Kind.BUSY: call.Refuses, Kind.ENDED: call.HangsUp, Kind.TRANSFER_FAILED: call.TransferFails}
)


def event_of(kind: Kind, body: Body, side: call.Side) -> call.Event | None:
    """What a message means to the call, said by ``side``; ``None`` for kinds that are no event of a call that stands."""
    match body:
        case Nothing() if kind in _SAID:
            return _SAID[kind](side)
        case Because(cause) if kind in _SAID_BECAUSE:
            return _SAID_BECAUSE[kind](side, cause)
        case Keys(digits):
            return call.Presses(side, digits)
        case Target(number):
            return call.Transfers(side, number)
    return None


_PROGRESS: Final[Mapping[call.Progress, Kind]] = MappingProxyType(
    {
        call.Progress.RINGING: Kind.RINGING,
        call.Progress.EARLY: Kind.EARLY,
        call.Progress.ANSWERED: Kind.ANSWERED,
        call.Progress.HELD: Kind.HOLD,
        call.Progress.RESUMED: Kind.RESUME,
        call.Progress.TRANSFERRING: Kind.TRANSFERRING,
        call.Progress.TRANSFER_FAILED: Kind.TRANSFER_FAILED,
    }
)


def body_of(action: call.Action, *, answered: bool) -> tuple[Kind, Body] | None:
    """The message that carries out an action towards a side reached by messages; ``None`` where none does.

    ``answered``: whether the call ever was; a called side that is not free is told as ``busy`` before the answer, every other end as ``ended``.
    """
    match action:
        case call.Tell(_, progress, cause):
            kind = _PROGRESS[progress]
            return kind, Because(cause or Cause.FAILED) if kind is Kind.TRANSFER_FAILED else Nothing()
        case call.Send(_, digits):
            return Kind.DTMF, Keys(digits)
        case call.Transfer(number):
            return Kind.TRANSFER, Target(number)
        case call.Release(_, cause):
            busy = cause in (Cause.BUSY, Cause.CALL_WAITING, Cause.GLARE) and not answered
            return Kind.BUSY if busy else Kind.ENDED, Because(cause)
    return None
