"""Whom to call, and when: the dial-out of a Rallypoint to the others that it wants links with.  Without I/O.

Both ends of a pair may dial; which of two links stays is decided where they meet (:func:`stays`).  So that they seldom meet, the one with
the lower UUID calls first and the other a moment later, and everybody spreads its calls at random: a mesh that starts all at
once would otherwise shake hands N² times in the same second.

Who does not answer is called again after 0.25 s, then twice as long each time, up to 1 s in the first half minute and 15 s later, a random half of it shaved off; who
refuses us is called once a minute, because only a person can change that.
"""

from collections.abc import Collection, Mapping
from random import Random
from uuid import UUID

import attrs

from ice.rallypoint.peering import Expected

FIRST_AGAIN_S = 0.25
#: So soon it is called for the first half minute of trouble: a machine that starts again, a road that is mended.
EARLY_S = 30.0
EARLY_AGAIN_S = 1.0
MOST_AGAIN_S = 15.0
REFUSED_AGAIN_S = 60.0
#: The one with the higher UUID leaves the other this much time to call first.
YIELD_S = 0.5
#: Links of one pair that came to be within this crossed each other; a later one is a new beginning.
CROSSING_S = 10.0


@attrs.define
class Call:
    """How it stands with one Rallypoint that is to be called."""

    expected: Expected
    due: float
    failures: int = 0
    #: Since when there is no link, and no hope of one at once.
    trouble_at: float | None = None
    calling: bool = False
    #: Why there is no link, for people.
    why: str = ""


class Calls:
    """The calls of one Rallypoint."""

    def __init__(self, own: UUID, random: Random) -> None:
        self._own = own
        self._random = random
        self._calls: dict[UUID, Call] = {}

    def __getitem__(self, id: UUID) -> Call | None:
        return self._calls.get(id)

    def expect(self, peers: Mapping[UUID, Expected], spread_s: float, now: float) -> None:
        """These are wanted from now on; who is new is called within ``spread_s``."""
        for id in self._calls.keys() - peers.keys():
            del self._calls[id]
        for id, expected in peers.items():
            call = self._calls.get(id)
            if call is None:
                due = now + self._random.uniform(0, spread_s) + self._yield_s(id)
                self._calls[id] = Call(expected, due)
            elif call.expected.address != expected.address:
                call.expected, call.failures, call.due = expected, 0, now
            else:
                call.expected = expected

    def due(self, linked: Collection[UUID], now: float) -> list[Expected]:
        """Whom to call now; each counts as being called until :meth:`failed` or :meth:`linked`."""
        found = []
        for id, call in self._calls.items():
            if (
                call.due <= now
                and not call.calling
                and call.expected.address is not None
                and id not in linked
            ):
                call.calling = True
                found.append(call.expected)
        return found

    def linked(self, id: UUID) -> None:
        """A link stands, whoever called."""
        call = self._calls.get(id)
        if call is not None:
            call.failures, call.trouble_at, call.why = 0, None, ""

    def answered(self, id: UUID) -> None:
        """Our call is over, with a link or because there is one already."""
        call = self._calls.get(id)
        if call is not None:
            call.calling = False

    def failed(
        self, id: UUID, why: str, now: float, *, refused: bool = False, again_s: float | None = None
    ) -> None:
        """Our call came to nothing.  ``refused``: it will again until a person changes something; ``again_s``: when we were told to come back."""
        call = self._calls.get(id)
        if call is None:
            return
        call.calling, call.why = False, why
        call.failures += 1
        if call.trouble_at is None:
            call.trouble_at = now
        most_s = EARLY_AGAIN_S if now - call.trouble_at < EARLY_S else MOST_AGAIN_S
        wait_s = REFUSED_AGAIN_S if refused else min(most_s, FIRST_AGAIN_S * 2 ** min(call.failures - 1, 10))
        call.due = now + max(again_s or 0.0, wait_s * self._random.uniform(0.5, 1.0))

    def lost(self, id: UUID, why: str, now: float, *, again_s: float | None = None) -> None:
        """A link that stood is gone: call soon."""
        call = self._calls.get(id)
        if call is not None:
            call.why = why
            call.due = now + (again_s or 0.0) + self._random.uniform(0, 0.1) + self._yield_s(id)

    def _yield_s(self, id: UUID) -> float:
        return YIELD_S if id < self._own else 0.0


def stays(own: UUID, far: UUID, *, old_dialled: bool, new_dialled: bool, old_age_s: float) -> bool:
    """Whether the old of two links with one Rallypoint stays.  ``…_dialled``: it was we who dialled it.

    Both ends come to the same answer: of two that crossed each other the one opened by the lower UUID stays.  Otherwise the far side, which knows of
    the old link as well, would not have opened another without need: the new one stays.
    """
    if old_dialled == new_dialled or old_age_s > CROSSING_S:
        return False
    old_opener = own if old_dialled else far
    return old_opener == min(own, far)
