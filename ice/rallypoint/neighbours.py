"""A neighbour: the far end of a link of ours, what it knows, and what it may still do wrong.

A link is opaque here: whatever the driver calls it by.  One link per Rallypoint; which of two that were dialled crosswise stays is the
driver's to say.

**Coming up.**  Both ends say their own state, certificate included, and a complete summary.  On the far side's summary we send whatever it
lacks, then a digest, which says: that was all.  Only when both have heard the other's digest do they announce the link, so that nothing is ever
routed through a Rallypoint that does not know yet where to send it.  Until a neighbour's summary has come, nothing of others is sent to
it: its summary will show what it lacks.

**Faults.**  Every refused flood costs its sender points, which it earns back slowly; who has none left loses the link.  Points are charged for what an
honest Rallypoint never passes on, since it checks first; what crossing floods explain costs nothing.
"""

from array import array
from collections.abc import Hashable
from typing import Generic, TypeVar
from uuid import UUID

import attrs

from ice.link.peer import round_trip_of
from ice.rallypoint.routes import Carrier

#: Points a neighbour has, and what it earns back.
PATIENCE = 8.0
PATIENCE_PER_S = 0.1
#: The same thing is not asked of, or answered to, one neighbour more often.
ASK_EVERY_S = 1.0
#: A neighbour that has nothing new says so this often.
DIGEST_EVERY_S = 30.0
#: Complete summaries that a neighbour may send at once, and how soon another is earned.
SUMMARIES = 4.0
SUMMARIES_PER_S = 0.2

#: What the newest round trip counts for.
ROUND_TRIP_WEIGHT = 0.25

LinkT = TypeVar("LinkT", bound=Hashable)


@attrs.frozen
class Send(Generic[LinkT]):
    """A whole control frame for a link; never dropped while the link lives."""

    link: LinkT
    frame: bytes


@attrs.frozen
class End(Generic[LinkT]):
    """The link is to be ended with BYE; the driver says :meth:`~ice.rallypoint.mesh.Mesh.link_down` when it is."""

    link: LinkT
    code: str
    reason: str


@attrs.frozen
class Settled:
    """The direct neighbours know that we want this stream, or have had their 250 ms: JOINED may be sent."""

    key: int


@attrs.frozen
class Notice:
    """Something a person acts on.  ``what``: ``twin``, ``reborn``, ``came``, ``gone``, ``faults``."""

    what: str
    id: UUID
    sentence: str


Output = Send[LinkT] | End[LinkT] | Settled | Notice


@attrs.define
class Assembly:
    """A full interest of which parts are still to come; they follow each other on one link."""

    origin: int
    number: int
    count: int
    parts: int
    next_part: int = 0
    keys: "array[int]" = attrs.field(factory=lambda: array("Q"))
    ids: dict[int, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Neighbour(Generic[LinkT]):
    """One live link to another Rallypoint."""

    link: LinkT
    id: UUID
    cost: int
    since: float
    #: Let in as a leaf: its own state must say so too.
    leaf: bool = False
    carrier: Carrier = attrs.field(factory=Carrier)
    #: Its present origin, once it has said so.
    origin: int | None = None
    #: It has said what it holds: floods of others go to it.
    listening: bool = False
    #: It has said that it has sent all we lacked: the link is announced.
    ready: bool = False
    #: Origins whose certificate it has.
    told: set[int] = attrs.field(factory=set)
    #: The newest of our own interest numbers that it holds.
    acknowledged: int = 0
    assembly: Assembly | None = None
    #: The round trip on this link, smoothed, in seconds; None before the first was measured.
    round_trip_s: float | None = None
    digest_at: float = float("inf")
    #: When something was last asked of it or answered to it: (what, origin).
    spoken: dict[tuple[str, int], float] = attrs.field(factory=dict)
    refused: int = 0
    #: It has run out of points: nothing of it is heard any more.
    ending: bool = False
    _points: float = PATIENCE
    _points_at: float = 0.0
    _summaries: float = SUMMARIES
    _summaries_at: float = 0.0

    @property
    def name(self) -> str:
        """The peer id shown to people."""
        return str(self.id)[:18]

    @property
    def round_trip(self) -> int:
        """The same as a state tells it; 0 before the first was measured."""
        return 0 if self.round_trip_s is None else round_trip_of(self.round_trip_s)

    def measured(self, seconds: float) -> None:
        """One round trip more: a single late answer moves the figure by a quarter of the difference."""
        was = self.round_trip_s
        self.round_trip_s = seconds if was is None else was + (seconds - was) * ROUND_TRIP_WEIGHT

    def fault(self, points: float, now: float) -> bool:
        """Charge ``points``; whether it has none left."""
        self.refused += 1
        earned = (now - self._points_at) * PATIENCE_PER_S
        self._points = min(PATIENCE, self._points + earned) - points
        self._points_at = now
        return self._points < 0

    def may_summarize(self, now: float) -> bool:
        """Whether a complete summary of it is answered."""
        self._summaries = min(SUMMARIES, self._summaries + (now - self._summaries_at) * SUMMARIES_PER_S)
        self._summaries_at = now
        if self._summaries < 1.0:
            return False
        self._summaries -= 1.0
        return True

    def first(self, what: str, origin: int, now: float, bound: int) -> bool:
        """Whether ``what`` of ``origin`` was not asked or answered within the last second; notes that it is now."""
        name = (what, origin)
        if now - self.spoken.get(name, float("-inf")) < ASK_EVERY_S:
            return False
        if len(self.spoken) >= bound:
            self.spoken = {n: at for n, at in self.spoken.items() if now - at < ASK_EVERY_S}
            if len(self.spoken) >= bound:
                return False
        self.spoken[name] = now
        return True
