"""What was heard on one stream: a window of sequence numbers per source, bounded.

One :class:`Heard` belongs to one stream of one process and is shared by all the links on which the stream is joined, so
that a datagram which comes on two of them is heard once.
"""

from ice.link.window import Verdict, Window

MAX_SOURCES = 4_096  # talkers of one stream within an hour; 0.6 MiB of windows


class Heard:
    """The windows of one stream."""

    __slots__ = ("_max_sources", "_windows", "forgotten")

    def __init__(self, max_sources: int = MAX_SOURCES) -> None:
        self._windows: dict[int, Window] = {}
        self._max_sources = max_sources
        self.forgotten = 0  #: windows given up because there were too many sources

    def __len__(self) -> int:
        return len(self._windows)

    def ask(self, source: int, sequence: int, now: float) -> Verdict:
        """Whether this datagram is new at ``now``; asking marks it as heard."""
        window = self._windows.get(source)
        if window is None:
            if len(self._windows) >= self._max_sources:
                self._make_room()
            window = self._windows[source] = Window()
        return window.ask(sequence, now)

    def _make_room(self) -> None:
        """Forget the half that was silent longest: rarely done, and then for long."""
        by_age = sorted(self._windows.items(), key=lambda item: item[1].asked_at)
        gone = max(1, len(by_age) // 2)
        self.forgotten += gone
        self._windows = dict(by_age[gone:])
