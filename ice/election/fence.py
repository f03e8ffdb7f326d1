"""The fence: until when this process has the right to be active.

A process cannot know that it was frozen, or its machine suspended, until it runs again; and then the first thing that it finds is a socket full of
datagrams that it was to forward.  So whoever forwards asks first, each time that it is called to read::

    if not fence.allows(clock(), unix_ms()):
        ...  # drop what is read; the tally will say what has become of us

The right is granted anew with every election, and ends by itself: before the ballots that it rests on expire, and before one's own last ballot can
have expired at others.  It ends by two clocks, whichever is first.  ``now`` is to be a clock that counts on while the machine is suspended
(``CLOCK_BOOTTIME``).  ``unix_ms`` is the clock on the wall, which somebody may set; it closes the fence where a whole virtual machine was
stopped, and with it the first clock, as soon as the time on the wall has been put right.  Put back, it never makes a right longer.

Pure; the :class:`~ice.election.tally.Tally` owns one, and grants and revokes.
"""

from __future__ import annotations

from typing import Final

NEVER: Final = float("-inf")


class Fence:
    """The right to be active, by two clocks."""

    __slots__ = ("_until", "_until_ms")

    def __init__(self) -> None:
        self._until = NEVER
        self._until_ms = NEVER

    def __repr__(self) -> str:
        return f"<Fence until {self._until:.3f}>"

    @property
    def until(self) -> float:
        """When the right ends by the monotonic clock; minus infinity where there is none."""
        return self._until

    def grant(self, until: float, now: float, unix_ms: int) -> None:
        """The right holds from ``now`` to before ``until``, by the clock on the wall so long as well."""
        self._until = until
        self._until_ms = unix_ms + (until - now) * 1_000

    def revoke(self) -> None:
        """The right ends here."""
        self._until = self._until_ms = NEVER

    def left_s(self, now: float, unix_ms: int) -> float:
        """How long the right holds yet, as both clocks stand; negative infinity where there is none."""
        return min(self._until - now, (self._until_ms - unix_ms) / 1_000)

    def allows(self, now: float, unix_ms: int) -> bool:
        """Whether one may act at this moment; asked before a socket's backlog is touched. Two comparisons."""
        return now < self._until and unix_ms < self._until_ms
