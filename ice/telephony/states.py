"""The words in which a call is told: its sides and states, what may happen to it, and what is to be done then; all of them values.

:mod:`ice.telephony.call` puts them together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import attrs

from ice.errors import LocalError
from ice.media.dtmf import DIGITS
from ice.telephony.causes import Cause

MAX_DIGITS: Final = 64  # keys told at once, as many as ice.media.dtmf.Dialer queues


class Side(StrEnum):
    """The two ends of a call."""

    USER = "user"
    LINE = "line"

    @property
    def other(self) -> Side:
        """The far end, seen from this one."""
        return Side.LINE if self is Side.USER else Side.USER


class Direction(StrEnum):
    """Who calls whom."""

    OUTGOING = "outgoing"  #: the user calls, the line is called
    INCOMING = "incoming"  #: the line calls, the user is called

    @property
    def caller(self) -> Side:
        """The side that calls."""
        return Side.USER if self is Direction.OUTGOING else Side.LINE

    @property
    def called(self) -> Side:
        """The side that is called."""
        return self.caller.other


BOTH: Final = frozenset(Side)
NOBODY: Final[frozenset[Side]] = frozenset()


@attrs.frozen
class Timing:
    """How long a call may stand where it is; seconds.

    ``setup_s``: until the called side says anything; ``ring_s``: until it answers, counted from the first ring; ``transfer_s``: until a transfer has an
    outcome; ``release_s``: until a side confirms that it let go; ``longest_s``: a whole call, counted from the answer.
    """

    setup_s: float = 10.0  # a call manager that has found no phone by then never will
    ring_s: float = 60.0  # twelve rings; beyond that a caller has given up
    transfer_s: float = 15.0
    release_s: float = 5.0  # as long as a call message is repeated, and a little more
    longest_s: float = 4 * 3_600.0  # what was forgotten off the hook ends in the end

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            if not getattr(self, field.name) > 0:
                raise LocalError(f"{field.name} must be above 0 s, not {getattr(self, field.name)}")


# States


@attrs.frozen
class Setup:
    """The called side has been asked, and has not said anything yet."""

    until: float


@attrs.frozen
class Ringing:
    """The called side rings."""

    until: float


@attrs.frozen
class Early:
    """The called side has not answered, but is heard by the caller: a ring-back tone, an announcement."""

    until: float


@attrs.frozen
class Talking:
    """Answered; both hear each other."""

    until: float


@attrs.frozen
class Held:
    """Answered; ``by`` has put the call on hold, and nobody hears anybody."""

    until: float
    by: frozenset[Side]


@attrs.frozen
class Transferring:
    """The line is being handed to ``number``; ``held`` says who held the call before, ``last`` when the call would be too long."""

    until: float
    last: float
    number: str
    held: frozenset[Side]
    user_gone: bool = False


@attrs.frozen
class Ending:
    """The call is over because of ``cause``, which ``by`` brought about (neither side: the gateway); ``waits`` have still to let go."""

    until: float
    cause: Cause
    by: Side | None
    waits: frozenset[Side]


@attrs.frozen
class Ended:
    """The end of it. ``unconfirmed``: who was released and never said so."""

    cause: Cause
    by: Side | None
    unconfirmed: frozenset[Side] = NOBODY


State: TypeAlias = Setup | Ringing | Early | Talking | Held | Transferring | Ending | Ended
Asked: TypeAlias = Setup | Ringing | Early  #: before the answer
Answered: TypeAlias = Talking | Held | Transferring


# Events


@attrs.frozen
class Rings:
    """The called side rings."""

    side: Side


@attrs.frozen
class Sounds:
    """The called side sends sound that the caller should hear before the answer (early media)."""

    side: Side


@attrs.frozen
class Answers:
    """The called side has taken the call."""

    side: Side


@attrs.frozen
class Refuses:
    """The called side does not take the call: ``busy``, ``rejected``, or whatever a call manager says."""

    side: Side
    cause: Cause


@attrs.frozen
class HangsUp:
    """A side has ended its part; ``cause`` is what it says about it: a called side before its answer, and a line at any time, is believed."""

    side: Side
    cause: Cause = Cause.HUNG_UP


@attrs.frozen
class Holds:
    """A side puts the call on hold."""

    side: Side


@attrs.frozen
class Resumes:
    """A side that holds wants to go on."""

    side: Side


@attrs.frozen
class Presses:
    """A side pressed telephone keys: any of ``0123456789*#ABCD``."""

    side: Side
    digits: str


@attrs.frozen
class Transfers:
    """The user wants the line handed to ``number``, without being asked back (blind transfer)."""

    side: Side
    number: str


@attrs.frozen
class TransferDone:
    """The line has been handed over."""

    side: Side


@attrs.frozen
class TransferFails:
    """The line could not be handed over."""

    side: Side
    cause: Cause = Cause.FAILED


@attrs.frozen
class Lost:
    """A side cannot be reached any more and is not expected back: what was to be told it is void."""

    side: Side


@attrs.frozen
class Released:
    """A side confirms that it let go."""

    side: Side


@attrs.frozen
class Stopped:
    """The gateway itself ends the call: ``shutdown``, ``takeover``, ``media-lost``, ``limit``, ``glare`` …"""

    cause: Cause


Event: TypeAlias = (
    Rings
    | Sounds
    | Answers
    | Refuses
    | HangsUp
    | Holds
    | Resumes
    | Presses
    | Transfers
    | TransferDone
    | TransferFails
    | Lost
    | Released
    | Stopped
)


# What is to be done


class Progress(StrEnum):
    """What a side is told about a call that goes on."""

    RINGING = "ringing"
    EARLY = "early"
    ANSWERED = "answered"
    HELD = "held"
    RESUMED = "resumed"
    TRANSFERRING = "transferring"
    TRANSFER_FAILED = "transfer-failed"


@attrs.frozen
class Ask:
    """Ask the called side to take the call."""

    side: Side


@attrs.frozen
class Tell:
    """Tell a side how the call goes on; ``cause`` where something failed."""

    side: Side
    progress: Progress
    cause: Cause | None = None


@attrs.frozen
class Flow:
    """From now on sound goes to the user, to the line, to both or to neither."""

    to_user: bool
    to_line: bool


@attrs.frozen
class Send:
    """Pass keys on to a side."""

    side: Side
    digits: str


@attrs.frozen
class Transfer:
    """Have the line handed to ``number``."""

    number: str


@attrs.frozen
class Release:
    """End a side's part of the call; it confirms by :class:`Released` (or by hanging up itself)."""

    side: Side
    cause: Cause


@attrs.frozen
class Close:
    """All is over: write the record, forget the call."""

    ended: Ended


Action: TypeAlias = Ask | Tell | Flow | Send | Transfer | Release | Close


class Ignored(StrEnum):
    """Why an event changed nothing."""

    OVER = "over"  #: the call has its end already
    AGAIN = "again"  #: it is so already
    NOT_YET = "not-yet"  #: the call is not answered
    TOO_LATE = "too-late"  #: the call is answered
    WRONG_SIDE = "wrong-side"  #: this side cannot say that
    NOT_HELD = "not-held"  #: this side does not hold the call
    ON_HOLD = "on-hold"  #: nobody hears it
    NO_TRANSFER = "no-transfer"  #: none is under way
    TRANSFERRING = "transferring"  #: one is under way
    NO_KEYS = "no-keys"  #: none, too many, or what is no key
    NO_NUMBER = "no-number"  #: there is no number to hand the line to


SILENT: Final = Flow(False, False)
DUPLEX: Final = Flow(True, True)


@attrs.frozen
class Marks:
    """When it began, first rang, was answered, was decided and was over; ``now`` of the caller's clock."""

    began: float
    rang: float | None = None
    answered: float | None = None
    decided: float | None = None
    ended: float | None = None


def keys(digits: str) -> bool:
    """Whether these are one to :data:`MAX_DIGITS` telephone keys."""
    return 0 < len(digits) <= MAX_DIGITS and all(digit in DIGITS for digit in digits)
