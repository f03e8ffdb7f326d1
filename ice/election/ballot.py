"""Ballots: what members of a server group tell each other, once a cycle.

A ballot is one JSON object in one datagram.  On the wire it is canonical, sorted keys and no white space, with its authentication code
among the keys::

    {"hmac":"9f…","id":"0b0e…","lids":[],"ms":1790000000000,"rids":["<group>"],"votes":3}

=========== ======================= ====================================================================================
key         value                   meaning
=========== ======================= ====================================================================================
``id``      UUID                    who votes, and for whom: members vote for themselves
``votes``   integer                 its priority; 0: not ready; negative: out of service
``ms``      integer                 when it was sent, milliseconds since 1970; grows from ballot to ballot
``rids``    list of group ids       the elections that it takes part in: exactly one in practice
``lids``    list of group ids       the groups that it leads
``hmac``    64 hexadecimal digits   HMAC-SHA-256, keyed with the group's salt, over the canonical ballot without this key
``for``     UUID or null            ours, optional: whom the sender ranks first
``held``    integer                 ours, where ``for`` names somebody: milliseconds for which the sender has named nobody else
``heard``   integer                 ours, where ``for`` names somebody: ``ms`` of the newest ballot that it knows of that member
``hears``   integer                 ours, where ``for`` names somebody: members whose valid ballots the sender holds, itself included
``resigned`` true                   ours, optional: the sender led, or took part, and does so no more from this moment
=========== ======================= ====================================================================================

Keys that are not known are under the ``hmac`` and otherwise ignored; numbers are whole.  Whoever changes a bit of this, changes the ``hmac``.

Every refusal is a :class:`Reason`, which is counted. A ballot for another group is told apart before its code is verified, since that
group has a salt of its own.

Facts: "Ballot messages", and Decisions on bytes under ``hmac``, sizes and keys, ``for``, orderly stop.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, NoReturn, TypeAlias

import attrs
import msgspec

from ice.errors import RemoteError

MAX_BALLOT: Final = 1_200  # bytes: one datagram inside the IPv6 minimum MTU of 1,280
MAX_VOTES: Final = 1_000_000
MAX_MS: Final = 2**53 - 1  # what every JSON implementation holds exactly; the year 287396
MAX_HELD_MS: Final = 2**31 - 1
MAX_HEARS: Final = 1_000
MAX_RACES: Final = 16
MAX_ID: Final = 64  # characters
DIGEST: Final = "sha256"
_HMAC: Final = re.compile(r"[0-9a-f]{64}\Z")


class Reason(StrEnum):
    """Why a ballot changes nothing, or that it counts."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"  #: the very ballot was here before, on this path or the other
    REPLAY = "replay"  #: older than what its sender has said since
    FUTURE = "future"  #: its sender's clock is too far ahead of ours
    EXPIRED = "expired"  #: too old
    OWN = "own"  #: we sent it ourselves
    SIZE = "size"  #: more than 1,200 bytes, or none
    JSON = "json"  #: no JSON object in UTF-8, or one with fractions
    REPEATED_KEY = "repeated-key"
    FIELD = "field"  #: a field is missing, or is not what it must be
    HMAC_FORM = "hmac-form"  #: not 64 digits
    HMAC_CASE = "hmac-case"  #: capital letters
    HMAC = "hmac"  #: forged, or of another salt
    NOT_MEMBER = "not-member"
    WRONG_GROUP = "wrong-group"


class BallotRefused(RemoteError):
    """A ballot is not one; ``reason`` names why, the message says more."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@attrs.frozen
class Ballot:
    """What a member says in a cycle. ``names`` says whether the key ``for`` is there at all; ``named`` is its value."""

    id: str
    votes: int
    ms: int
    rids: tuple[str, ...]
    lids: tuple[str, ...] = ()
    names: bool = False
    named: str | None = None
    held_ms: int = 0
    heard_ms: int = 0
    resigned: bool = False
    hears: int = 0


def encode(ballot: Ballot, salt: bytes) -> bytes:
    """The bytes of a ballot, signed with ``salt``; at most :data:`MAX_BALLOT`."""
    value: dict[str, object] = {
        "id": ballot.id,
        "lids": ballot.lids,
        "ms": ballot.ms,
        "rids": ballot.rids,
        "votes": ballot.votes,
    }
    if ballot.names:
        value["for"] = ballot.named
        if ballot.named is not None:
            value["held"] = ballot.held_ms
            value["heard"] = ballot.heard_ms
            value["hears"] = ballot.hears
    if ballot.resigned:
        value["resigned"] = True
    signed = canonical(value)
    at = signed.index(_BEHIND_CODE)
    data = b"".join(
        (signed[:at], _CODE, hmac.digest(salt, signed, DIGEST).hex().encode(), _CODE_END, signed[at:])
    )
    assert len(data) <= MAX_BALLOT, len(data)
    return data


def decode(data: bytes, group_id: str, members: Collection[str], salts: Sequence[bytes]) -> Ballot:
    """The ballot in a datagram, which was sent by one of ``members`` of the group and signed with one of its ``salts``.

    Raises :class:`BallotRefused`, whose reason is to be counted. Time is not looked at here.
    """
    found = _as_we_write(data, salts) if len(data) <= MAX_BALLOT else None
    if found is not None and group_id in found.rids and found.id in members:
        return found
    return _decode(data, group_id, members, salts)


def _decode(data: bytes, group_id: str, members: Collection[str], salts: Sequence[bytes]) -> Ballot:
    """As :func:`decode`, whoever wrote it in whichever way, with a reason for each refusal."""
    value = _object(data)
    ballot, code = _ballot(value)
    if group_id not in ballot.rids:
        raise BallotRefused(
            Reason.WRONG_GROUP, f"expected a ballot for the group {group_id}, it is for {_shown(ballot.rids)}"
        )
    if ballot.id not in members:
        raise BallotRefused(Reason.NOT_MEMBER, f"{_shown(ballot.id)} is no member of the group {group_id}")
    del value["hmac"]
    try:
        signed = canonical(value)
    except UnicodeEncodeError:  # half a surrogate pair can be escaped in JSON, and is no text
        raise BallotRefused(Reason.JSON, "expected text that UTF-8 can carry") from None
    if not _signed(signed, code.encode(), salts):
        raise BallotRefused(
            Reason.HMAC,
            f"the ballot that names {ballot.id} as its sender was not signed with this group's salt: forged, or the salt files differ",
        )
    return ballot


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no white space, and letters outside ASCII as they are, in UTF-8; of values without fractions."""
    return _ENCODER.encode(value)


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_CODE: Final = b'"hmac":"'
_CODE_END: Final = b'",'
_BEHIND_CODE: Final = b'"id":'  # the key that follows hmac; quotes inside a text are escaped

_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
_Ids: TypeAlias = Annotated[tuple[_Text, ...], msgspec.Meta(max_length=MAX_RACES)]


class _Wire(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A ballot with the keys that we know and no others, in the order of :class:`Ballot`."""

    id: _Text
    votes: Annotated[int, msgspec.Meta(ge=-MAX_VOTES, le=MAX_VOTES)]
    ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]
    rids: _Ids
    lids: _Ids
    hmac: str
    named: _Text | msgspec.UnsetType | None = msgspec.field(name="for", default=msgspec.UNSET)
    held: Annotated[int, msgspec.Meta(ge=0, le=MAX_HELD_MS)] = -1
    heard: Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)] = -1
    hears: Annotated[int, msgspec.Meta(ge=0, le=MAX_HEARS)] = -1
    resigned: bool = False


_WIRE: Final = msgspec.json.Decoder(_Wire)


def _as_we_write(data: bytes, salts: Sequence[bytes]) -> Ballot | None:
    """The authentic ballot in ``data`` where it is canonical and ordinary, as nearly all are; else None, and nothing is known of it.

    The code is over the canonical ballot without it: of a canonical one, over the very bytes with the code cut out.  Where that is so a member has
    signed these bytes, so that no key can be there twice.
    """
    at = data.find(_CODE)
    begin, end = at + len(_CODE), at + len(_CODE) + 64
    if at < 0 or data[end : end + 2] != _CODE_END:
        return None
    code, signed = data[begin:end], data[:at] + data[end + 2 :]
    if not _signed(signed, code, salts):
        return None
    try:
        wire = _WIRE.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    named = wire.named
    if wire.hmac.encode() != code:  # it stood deeper inside
        return None
    if named is None or named is msgspec.UNSET:
        if wire.resigned and wire.lids:
            return None
        return Ballot(
            wire.id,
            wire.votes,
            wire.ms,
            wire.rids,
            wire.lids,
            named is None,
            resigned=wire.resigned,
        )
    if wire.resigned or wire.held < 0 or wire.heard < 0 or wire.hears < 0:
        return None
    return Ballot(
        wire.id,
        wire.votes,
        wire.ms,
        wire.rids,
        wire.lids,
        True,
        named,
        wire.held,
        wire.heard,
        False,
        wire.hears,
    )


def _signed(signed: bytes, code: bytes, salts: Sequence[bytes]) -> bool:
    """Whether one of ``salts`` makes ``code`` of what was signed; every one is tried."""
    found = False
    for salt in salts:
        found |= hmac.compare_digest(hmac.digest(salt, signed, DIGEST).hex().encode(), code)
    return found


def _object(data: bytes) -> dict[str, Any]:
    if not 0 < len(data) <= MAX_BALLOT:
        raise BallotRefused(Reason.SIZE, f"expected 1 to {MAX_BALLOT} bytes, found {len(data)}")
    try:
        value = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise BallotRefused(Reason.JSON, f"expected a JSON object, {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise BallotRefused(Reason.JSON, f"expected a JSON object, found {type(value).__name__}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BallotRefused(
            Reason.REPEATED_KEY, "a key is there twice; which of them counts would be a guess"
        )
    return value


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"numbers of a ballot are whole, found {text[:20]}")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_no_fraction, parse_constant=_no_fraction
)


def _ballot(value: dict[str, Any]) -> tuple[Ballot, str]:
    code = value.get("hmac")
    if not isinstance(code, str) or not _HMAC.match(code):
        lower = isinstance(code, str) and _HMAC.match(code.lower()) is not None
        raise BallotRefused(
            Reason.HMAC_CASE if lower else Reason.HMAC_FORM,
            "expected 64 hexadecimal digits in small letters under hmac",
        )
    named = value.get("for")
    resigned = value.get("resigned", False)
    ballot = Ballot(
        _text(value, "id"),
        _whole(value, "votes", -MAX_VOTES, MAX_VOTES),
        _whole(value, "ms", 0, MAX_MS),
        _races(value, "rids"),
        _races(value, "lids"),
        "for" in value,
        None if named is None else _text(value, "for"),
        0 if named is None else _whole(value, "held", 0, MAX_HELD_MS),
        0 if named is None else _whole(value, "heard", 0, MAX_MS),
        resigned is True,
        0 if named is None else _whole(value, "hears", 0, MAX_HEARS),
    )
    if not isinstance(resigned, bool):
        raise _wrong("resigned", "true")
    if ballot.resigned and (ballot.lids or named is not None):
        raise BallotRefused(Reason.FIELD, "who resigns leads nothing and names nobody")
    return ballot, code


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ID:
        raise _wrong(key, f"a text of 1 to {MAX_ID} characters")
    return text


def _whole(value: dict[str, Any], key: str, low: int, high: int) -> int:
    number = value.get(key)
    if type(number) is not int or not low <= number <= high:
        raise _wrong(key, f"a whole number from {low} to {high}")
    return number


def _races(value: dict[str, Any], key: str) -> tuple[str, ...]:
    races = value.get(key)
    if not isinstance(races, list) or len(races) > MAX_RACES:
        raise _wrong(key, f"a list of at most {MAX_RACES} group ids")
    for race in races:
        if not isinstance(race, str) or not 0 < len(race) <= MAX_ID:
            raise _wrong(key, "group ids")
    return tuple(races)


def _wrong(key: str, expected: str) -> BallotRefused:
    return BallotRefused(Reason.FIELD, f"{key}: expected {expected}")


def _shown(value: object) -> str:
    return ascii(value)[:80]
