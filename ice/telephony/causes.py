"""Why a call ended: one name per fact, the same in messages, records, metrics and logs, and what telephony calls it (ITU-T Q.850).

A call manager says a number; :func:`cause_of` finds our name for it, and :attr:`Cause.q850` is the number that we say to one. Several of our names share
a number, because a call manager need not know what we know.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Cause(StrEnum):
    """Why a call ended."""

    # Said by people.
    HUNG_UP = "hung-up"  #: somebody who was in the call hung up
    CANCELLED = "cancelled"  #: the caller gave up before the answer
    BUSY = "busy"  #: the called is in another call
    REJECTED = "rejected"  #: the called does not want it
    TRANSFERRED = "transferred"  #: the line was handed to somebody else
    ANSWERED_ELSEWHERE = "answered-elsewhere"  #: another device of the called was quicker
    # Said by a timer of ours.
    NO_RESPONSE = "no-response"  #: the called side did not say anything at all
    NO_ANSWER = "no-answer"  #: it rang, and nobody came
    TOO_LONG = "too-long"  #: as long as a call may last
    TRANSFER_FAILED = "transfer-failed"  #: a transfer failed, and who asked for it had left
    # Said by the telephone network.
    UNKNOWN_NUMBER = "unknown-number"  #: nobody has that number
    INVALID_NUMBER = "invalid-number"  #: that is no number
    UNREACHABLE = "unreachable"  #: no way to the number, or its phone is switched off or not registered
    CONGESTION = "congestion"  #: no channel free
    FORBIDDEN = "forbidden"  #: the network or the site's own rules do not allow it
    INCOMPATIBLE = "incompatible"  #: no common way to speak
    FAILED = "failed"  #: the network says no more than that
    # Said by the gateway.
    CALL_WAITING = "call-waiting"  #: the user is in a call already, and there is no second one
    GLARE = "glare"  #: two calls began at the same instant, and the other one went on
    LIMIT = "limit"  #: as many calls as may be
    NO_TRUNK = "no-trunk"  #: no call manager can be reached
    USER_LOST = "user-lost"  #: the user's program does not answer any more
    LINE_LOST = "line-lost"  #: the connection to the call manager broke, and the call with it
    MEDIA_LOST = "media-lost"  #: no sound came for too long
    SHUTDOWN = "shutdown"  #: the gateway was stopped
    TAKEOVER = "takeover"  #: another gateway has taken over, and could not take this call along
    GATEWAY_LOST = "gateway-lost"  #: the gateway died; found out at its next start

    @property
    def q850(self) -> int:
        """The cause number (ITU-T Q.850) to say to a call manager."""
        return _Q850[self]

    @property
    def text(self) -> str:
        """The fact as a sentence for a person."""
        return _TEXTS[self]


_Q850: Final[Mapping[Cause, int]] = MappingProxyType(
    {
        Cause.HUNG_UP: 16,
        Cause.CANCELLED: 16,
        Cause.BUSY: 17,
        Cause.REJECTED: 21,
        Cause.TRANSFERRED: 16,
        Cause.ANSWERED_ELSEWHERE: 26,
        Cause.NO_RESPONSE: 18,
        Cause.NO_ANSWER: 19,
        Cause.TOO_LONG: 31,
        Cause.TRANSFER_FAILED: 31,
        Cause.UNKNOWN_NUMBER: 1,
        Cause.INVALID_NUMBER: 28,
        Cause.UNREACHABLE: 20,
        Cause.CONGESTION: 34,
        Cause.FORBIDDEN: 57,
        Cause.INCOMPATIBLE: 88,
        Cause.FAILED: 41,
        Cause.CALL_WAITING: 17,
        Cause.GLARE: 17,
        Cause.LIMIT: 42,
        Cause.NO_TRUNK: 38,
        Cause.USER_LOST: 20,
        Cause.LINE_LOST: 38,
        Cause.MEDIA_LOST: 41,
        Cause.SHUTDOWN: 41,
        Cause.TAKEOVER: 41,
        Cause.GATEWAY_LOST: 41,
    }
)

#: Numbers of Q.850 that a call manager may say about a call, as our names; whatever is missing is ``failed``.
_CAUSES: Final[Mapping[int, Cause]] = MappingProxyType(
    {
        1: Cause.UNKNOWN_NUMBER,  # unallocated number
        2: Cause.UNREACHABLE,  # no route to transit network
        3: Cause.UNREACHABLE,  # no route to destination
        16: Cause.HUNG_UP,  # normal call clearing
        17: Cause.BUSY,
        18: Cause.NO_RESPONSE,  # no user responding
        19: Cause.NO_ANSWER,  # user alerted, no answer
        20: Cause.UNREACHABLE,  # subscriber absent
        21: Cause.REJECTED,
        22: Cause.UNKNOWN_NUMBER,  # number changed
        26: Cause.ANSWERED_ELSEWHERE,  # non-selected user clearing
        27: Cause.UNREACHABLE,  # destination out of order
        28: Cause.INVALID_NUMBER,  # address incomplete
        29: Cause.FORBIDDEN,  # facility rejected
        31: Cause.HUNG_UP,  # normal, unspecified
        34: Cause.CONGESTION,  # no circuit available
        38: Cause.LINE_LOST,  # network out of order
        42: Cause.CONGESTION,  # switching equipment congestion
        44: Cause.CONGESTION,  # requested channel not available
        50: Cause.FORBIDDEN,  # facility not subscribed
        52: Cause.FORBIDDEN,  # outgoing call barred
        54: Cause.FORBIDDEN,  # incoming call barred
        57: Cause.FORBIDDEN,  # bearer capability not authorised
        58: Cause.INCOMPATIBLE,  # bearer capability not available
        65: Cause.INCOMPATIBLE,  # bearer capability not implemented
        66: Cause.INCOMPATIBLE,  # channel type not implemented
        79: Cause.INCOMPATIBLE,  # service or option not implemented
        88: Cause.INCOMPATIBLE,  # incompatible destination
        102: Cause.NO_RESPONSE,  # recovery on timer expiry
    }
)

_TEXTS: Final[Mapping[Cause, str]] = MappingProxyType(
    {
        Cause.HUNG_UP: "the call is over",
        Cause.CANCELLED: "the caller gave up",
        Cause.BUSY: "the number is busy",
        Cause.REJECTED: "the called does not take the call",
        Cause.TRANSFERRED: "the call was handed on",
        Cause.ANSWERED_ELSEWHERE: "the call was answered on another device",
        Cause.NO_RESPONSE: "nothing was heard from the called side",
        Cause.NO_ANSWER: "nobody answered",
        Cause.TOO_LONG: "the call has reached the longest time allowed",
        Cause.TRANSFER_FAILED: "the call could not be handed on",
        Cause.UNKNOWN_NUMBER: "nobody has this number",
        Cause.INVALID_NUMBER: "this is not a telephone number",
        Cause.UNREACHABLE: "the number cannot be reached now",
        Cause.CONGESTION: "all lines are busy",
        Cause.FORBIDDEN: "this call is not allowed",
        Cause.INCOMPATIBLE: "the two ends have no common way to speak",
        Cause.FAILED: "the telephone network reports a failure",
        Cause.CALL_WAITING: "the person is in another call",
        Cause.GLARE: "two calls met, and the other one goes on",
        Cause.LIMIT: "there are as many calls as may be",
        Cause.NO_TRUNK: "no call manager can be reached",
        Cause.USER_LOST: "the person's program does not answer any more",
        Cause.LINE_LOST: "the connection to the call manager broke",
        Cause.MEDIA_LOST: "no sound came for too long",
        Cause.SHUTDOWN: "the gateway was stopped",
        Cause.TAKEOVER: "another gateway has taken over",
        Cause.GATEWAY_LOST: "the gateway died during the call",
    }
)


def cause_of(q850: int) -> Cause:
    """Our name for a cause number of a call manager; ``failed`` for one that says nothing more precise (0 and 127 among them)."""
    return _CAUSES.get(q850, Cause.FAILED)
