"""Whose clock is wrong: ours, or another's.

Each ballot shows how far its sender's clock seems to be ahead of ours, less the time that it was on its way.  The most of that within a few cycles is the
best estimate; a single late ballot makes no clock wrong.  Ballots count here also when they are refused because of their time: just those tell.

We exclude ourselves when at least two others agree with each other, within the tolerance, and are more than those who agree with us, ourselves included.
So two members cannot decide it, and of two halves none excludes itself.

Facts: Decisions, "my clock is wrong".
"""

from __future__ import annotations

import attrs

from ice.election.rules import Group

SEEN_CYCLES = 3.0  # for so long a difference that was seen counts


@attrs.frozen
class Wrong:
    """Our clock is wrong: by how much that of ``others`` members, who agree, is ahead of it (negative: behind)."""

    others: int
    ahead_s: float


class Clocks:
    """The differences between our clock and those of the other members."""

    def __init__(self, group: Group) -> None:
        self._window_s = SEEN_CYCLES * group.cycle_s
        self._tolerance_s = group.tolerance_s
        self._seen: dict[str, list[tuple[float, float]]] = {}
        self._strange_at = float("-inf")  # when a difference beyond the tolerance was seen last

    def see(self, id: str, ahead_s: float, now: float) -> None:
        """A ballot of this member came, whose time stamp is by so much ahead of our clock."""
        seen = self._seen.setdefault(id, [])
        seen.append((now, ahead_s))
        if not -self._tolerance_s <= ahead_s <= self._tolerance_s:
            self._strange_at = now
        while seen[0][0] < now - self._window_s or len(seen) > 8:
            del seen[0]

    def differences(self, now: float) -> dict[str, float]:
        """How far each member's clock is ahead of ours, of those who were heard lately."""
        since = now - self._window_s
        found = {}
        for id, seen in self._seen.items():
            lately = [ahead for at, ahead in seen if at >= since]
            if lately:
                found[id] = max(lately)
        return found

    def verdict(self, now: float) -> Wrong | None:
        """Whether our clock is the wrong one."""
        if len(self._seen) < 2 or self._strange_at < now - self._window_s:
            return None  # nobody could be right against us
        ahead = sorted(self.differences(now).values())
        with_us = 1 + sum(-self._tolerance_s <= each <= self._tolerance_s for each in ahead)
        best: list[float] = []
        for low in ahead:
            agreeing = [each for each in ahead if low <= each <= low + self._tolerance_s]
            middle = agreeing[len(agreeing) // 2]
            if len(agreeing) > len(best) and abs(middle) > self._tolerance_s:
                best = agreeing
        if len(best) <= with_us:  # which is one at least: so two others are needed
            return None
        return Wrong(len(best), best[len(best) // 2])
