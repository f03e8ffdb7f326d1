"""What members of a group tell each other beside ballots: their reports, and the kinds of messages that there are.

A message is a datagram whose first byte tells its kind::

    {     a ballot (ice.election.ballot)
    0x01  I have this group document            (ice.election.document)
    0x02  send me these pieces of it
    0x03  a piece of it
    0x04  a report: how I am, for whoever watches

Other bytes are of the future: ignored, and counted.  Only ballots are signed one by one; the others come sealed with the group's key, so whoever
could forge one is a member.

A report is JSON, at most 1,100 bytes::

    {"active":false,"from":"0b0e…","leader":"1c2d…","message":"STANDBY: …","ms":1790000000000,"state":"standbyNotWinner","term":3,"why":"started"}
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, Final, TypeGuard

import attrs

from ice.election.ballot import MAX_MS, canonical
from ice.election.decisions import State

MAX_MESSAGE: Final = (
    1_150  # sealed and under multicast's prefix, still one datagram inside the IPv6 minimum MTU
)
MAX_WORDS: Final = 300  # characters of a sentence
MAX_ID: Final = 64
_STATES: Final = frozenset(str(state) for state in State)


class Kind(IntEnum):
    """First bytes of messages."""

    HAVE = 1
    WANT = 2
    PIECE = 3
    REPORT = 4
    BALLOT = 0x7B


@attrs.frozen
class Report:
    """How a member says it is. ``ms``: when, Unix milliseconds by its clock."""

    sender: str
    state: str
    active: bool
    leader: str | None
    message: str
    why: str
    term: int
    ms: int


def encode_report(report: Report) -> bytes:
    """The message."""
    words = report.message[:MAX_WORDS], report.why[:MAX_WORDS]
    for limit in (MAX_WORDS, 100, 20):
        data = bytes([Kind.REPORT]) + canonical(
            {
                "from": report.sender,
                "state": report.state,
                "active": report.active,
                "leader": report.leader,
                "message": words[0][:limit],
                "why": words[1][:limit],
                "term": report.term,
                "ms": report.ms,
            }
        )
        if len(data) <= MAX_MESSAGE:
            break
    return data


def decode_report(data: bytes) -> Report | None:
    """The report in a message, or None where there is none."""
    value = read_object(data)
    if value is None:
        return None
    sender, state, active = value.get("from"), value.get("state"), value.get("active")
    leader, message, why = value.get("leader"), value.get("message"), value.get("why")
    term, ms = value.get("term"), value.get("ms")
    if not (
        is_id(sender)
        and isinstance(state, str)
        and state in _STATES
        and isinstance(active, bool)
        and (leader is None or is_id(leader))
        and isinstance(message, str)
        and isinstance(why, str)
        and is_whole(term)
        and is_whole(ms)
    ):
        return None
    return Report(sender, state, active, leader, message[:MAX_WORDS], why[:MAX_WORDS], term, ms)


def read_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object behind a message's first byte, or None."""
    if not 1 < len(data) <= MAX_MESSAGE:
        return None
    try:
        value = json.loads(data[1:].decode())
        canonical(value)  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_id(value: object) -> TypeGuard[str]:
    """Whether this may be a member's or a group's id."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def is_whole(value: object) -> TypeGuard[int]:
    """Whether this is a whole number that every JSON reader holds."""
    return type(value) is int and 0 <= value <= MAX_MS
