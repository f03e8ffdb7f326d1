"""A server group and its rules: who takes part, how many must be heard, how long things are valid.

Every time of an election is a share of the group's cycle, so that a cycle of a tenth of a second is the same election, only faster.

Facts: "Choosing a Leader", "Quorum", "Election Priority and Out-of-Service"; the last part of each name below is documented there.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Final

import attrs

from ice.errors import LocalError

CYCLE_S: Final = 10.0  # the documented cycle
MIN_CYCLE_S: Final = 0.1  # as fast as VRRP is set in practice
MAX_CYCLE_S: Final = 600.0  # a takeover would take over half an hour: nobody wants that
MAX_MEMBERS: Final = 64  # each sends to each; and votes are a member's place in the list
VALID_CYCLES: Final = 2.0  # a ballot's life: small clock differences, one lost ballot, and sampling
SHORT_CYCLE_S: Final = 2.0  # below, a ballot's age counts from its receipt: clocks are not that exact
MIN_TOLERANCE_S: Final = 0.5  # between the clocks of members
MAX_TOLERANCE_S: Final = 5.0
MARGIN_CYCLES: Final = 0.1  # by so much the right to lead ends before what it rests on
ECHO_CYCLES: Final = 3.0  # no support outlives the leader's own ballot that it answers by more than this
WINS: Final = 2  # consecutive elections that a leader must have won
LOSSES: Final = 2  # consecutive elections after which a leader yields
HAND_OVER_CYCLES: Final = 0.1  # after a resignation the second election comes so soon
FOLLOW_CYCLES: Final = 0.1  # who follows holds its election so long after the leader's ballot


class Quorum(StrEnum):
    """How many members must be heard before one may lead."""

    NONE = "none"
    MAJORITY = "majority"
    N_MINUS_1 = "n-1"

    def required(self, size: int) -> int:
        """Ballots that a member of a group of ``size`` must hold, its own included."""
        match self:
            case Quorum.NONE:
                return 1
            case Quorum.MAJORITY:
                return size // 2 + 1
            case Quorum.N_MINUS_1:
                return max(1, size - 1)


@attrs.frozen
class Member:
    """One satellite of a server group; ``id`` is its permanent candidate id, a UUID in small letters."""

    id: str
    name: str = ""
    enabled: bool = True


@attrs.frozen(slots=False)
class Group:
    """A server group: its id, its members in the order of their priority, its quorum.

    The first of ``salts`` signs, each of them verifies, so that a salt can be changed without a pause. With ``exclusive`` (it means
    something under majority alone) ballots name whom their sender ranks first, and a leader leads only while a majority names it.

    Raises :class:`~ice.errors.LocalError` for a group that cannot be.
    """

    id: str
    members: tuple[Member, ...]
    quorum: Quorum = Quorum.MAJORITY
    cycle_s: float = CYCLE_S
    salts: tuple[bytes, ...] = attrs.field(default=(), repr=False)
    name: str = ""
    exclusive: bool = True

    def __attrs_post_init__(self) -> None:
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise LocalError(f"a server group has 1 to {MAX_MEMBERS} members, not {len(self.members)}")
        if len(self.places) != len(self.members):
            raise LocalError(f"server group {self.name or self.id}: a member is listed twice")
        if not MIN_CYCLE_S <= self.cycle_s <= MAX_CYCLE_S:
            raise LocalError(
                f"server group {self.name or self.id}: a cycle lasts {MIN_CYCLE_S:g} to {MAX_CYCLE_S:g} s, not {self.cycle_s:g}"
            )

    @cached_property
    def places(self) -> dict[str, int]:
        """Each member's votes by its place in the list: as many as there are members for the first, down to 1."""
        return {member.id: len(self.members) - place for place, member in enumerate(self.members)}

    @cached_property
    def disabled(self) -> frozenset[str]:
        """Members that are taken out of service."""
        return frozenset(member.id for member in self.members if not member.enabled)

    @cached_property
    def names(self) -> dict[str, str]:
        """What to call each member before people: its name, else its id."""
        return {member.id: member.name or member.id for member in self.members}

    @cached_property
    def required(self) -> int:
        """Ballots needed for the quorum, one's own included."""
        return self.quorum.required(len(self.members))

    @cached_property
    def names_first(self) -> bool:
        """Ballots of this group say whom their sender ranks first (``for``)."""
        return self.exclusive and self.quorum is Quorum.MAJORITY

    @cached_property
    def valid_s(self) -> float:
        """How long a ballot is valid."""
        return VALID_CYCLES * self.cycle_s

    @cached_property
    def tolerance_s(self) -> float:
        """How far the clock of another member may be from ours."""
        return max(MIN_TOLERANCE_S, min(MAX_TOLERANCE_S, self.cycle_s / 2))

    @cached_property
    def margin_s(self) -> float:
        """How long before its grounds expire the right to lead ends."""
        return MARGIN_CYCLES * self.cycle_s

    def votes_of(self, id: str, *, ready: bool, stored: bool) -> int:
        """The votes that a member gives itself: its place; 0 when it is not ready; negative when it is disabled, or has nothing to work with.

        ``ready``: its control plane reaches it. ``stored``: it has a configuration on disk that it can work by without one.
        """
        place = self.places[id]
        if id in self.disabled:
            return -place
        if ready:
            return place
        return 0 if stored else -place
