"""What a tally decides: the states by their documented names, and what its driver is to do.

Facts: "Election State Descriptions".
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import attrs

from ice.election.ballot import Ballot


class State(StrEnum):
    """How a member stands; the documented names, and one of ours."""

    ACTIVE = "active"
    OUT_OF_SERVICE = "standbyOutOfService"
    NO_QUORUM = "standbyQuorumNotAchieved"
    GETTING_READY = "standbyGettingReady"
    NOT_WINNER = "standbyNotWinner"
    CLOCK_SKEW = "standbyClockSkew"


@attrs.frozen
class Send:
    """Send this ballot over every transport, so many times."""

    ballot: Ballot
    copies: int = 1


@attrs.frozen
class Lead:
    """Begin to work."""

    why: str


@attrs.frozen
class Yield:
    """Stop working."""

    why: str


@attrs.frozen
class Changed:
    """The status is another one: publish it."""


Act: TypeAlias = Send | Lead | Yield | Changed


@attrs.frozen
class Held:
    """A member's newest ballot, and until when it is valid by our monotonic clock, inclusive."""

    ballot: Ballot
    expires: float


@attrs.frozen
class Outcome:
    """Our last election: what was heard, who came first, whether we won."""

    held: bool = False  #: there was one since the start
    first: str | None = None
    quorum: bool = False
    won: bool = False
    named: int = 0  #: members whose ballots name us, ourselves included
    exclusive: bool = False  #: every ballot said whom it names
    votes: dict[str, int] = attrs.Factory(dict)
