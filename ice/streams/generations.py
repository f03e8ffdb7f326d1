"""What was here a moment ago, in two generations, so that forgetting costs nothing and there are never more than so many.

When the young generation is full or old enough, it becomes the old one, and the old one is forgotten as a whole.
"""

from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class Generations(Generic[ValueT]):
    """Values of the last moments by their marks.  Time is an argument, in seconds, and never runs backwards."""

    __slots__ = ("_begun_at", "_half", "_old", "_seconds", "_young", "overflows")

    def __init__(self, seconds: float, limit: int) -> None:
        """``seconds``: how long a value is remembered; ``limit``: how many at most (at least 2)."""
        self._seconds = seconds
        self._half = max(1, limit // 2)
        self._young: dict[int, ValueT] = {}
        self._old: dict[int, ValueT] = {}
        self._begun_at = 0.0
        #: Times that values were forgotten too early, since there were too many.
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def turn(self, now: float, count: int) -> tuple[dict[int, ValueT], dict[int, ValueT], float]:
        """For who looks up and keeps at ``now``: the young generation, with room for ``count`` more, to be asked first; the old one; and since when what is there counts."""
        young, age = self._young, now - self._begun_at
        if age > self._seconds or len(young) + count > self._half:
            if age <= self._seconds:
                self.overflows += 1
            # What is older than the window is of no use: a generation that ended long ago is not kept as the old one.
            self._old = young if age <= 2 * self._seconds else {}
            self._young = young = {}
            self._begun_at = now
        return young, self._old, now - self._seconds
