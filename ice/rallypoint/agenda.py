"""Who is due when: a heap of deadlines, so that thousands of links that need nothing cost nothing.

An entry is never taken out when its deadline moves; it is passed over when its time comes, because it is no longer the
one that its owner names. Nor does an entry keep its owner: who is gone is gone before its time comes.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar
from weakref import ref


class Dated(Protocol):
    """Whoever can be due."""

    due: float


Item = TypeVar("Item", bound=Dated)


class Agenda(Generic[Item]):
    """Deadlines in seconds, and whose they are."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, ref[Item]]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def expect(self, item: Item, due: float) -> None:
        """``item`` is due then, and no longer when it said before; ``inf`` for never."""
        item.due = due
        if due != float("inf"):
            heappush(self._heap, (due, next(self._order), ref(item)))

    def take(self, now: float) -> Item | None:
        """One that is due now, the longest first; it is due no more until it is expected again."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, owner = heappop(heap)
            item = owner()
            if item is not None and item.due == due:
                item.due = float("inf")
                return item
        return None
