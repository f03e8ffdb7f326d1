"""What passed within the last two seconds, by its very bytes, and what is known of each: where it came from, and which number it has.

Like :class:`ice.streams.recent.Recent`, with a value for each datagram.  The same bytes are the same datagram: two RTP packets differ in their numbers.
What is kept is Python's hash of the bytes, keyed with a secret of the process (PEP 456), in two generations, so that forgetting costs nothing.
"""

from typing import Final, NamedTuple

from ice.reflector.naming import Talker
from ice.streams.generations import Generations

WINDOW_S: Final = 2.0  # longer than any path that can return a datagram
LIMIT: Final = 16_384  # of one stream: 8,000 a second for the whole window; 4 MiB when full


class Passage(NamedTuple):
    """One datagram's first coming."""

    at: float
    port: int  #: which group it came from; -1: the stream
    host: str  #: who sent it there; of the stream: ""
    talker: Talker | None
    local: int  #: the talker's own number of it; of the stream: the source under which it was there


class Passed(Generations[Passage]):
    """The datagrams of the last moments.  Time never runs backwards."""

    __slots__ = ()

    def __init__(self, seconds: float = WINDOW_S, limit: int = LIMIT) -> None:
        super().__init__(seconds, limit)

    def find(self, mark: int, now: float) -> Passage | None:
        """The first coming of the datagram with this mark (``hash(bytes)``), if it was within the window."""
        found = self._young.get(mark)
        if found is None:
            found = self._old.get(mark)
            if found is None:
                return None
        return found if now - found.at <= self._seconds else None

    def keep(self, mark: int, passage: Passage) -> None:
        """Remember a coming."""
        young, _, _ = self.turn(passage.at, 1)
        young[mark] = passage
