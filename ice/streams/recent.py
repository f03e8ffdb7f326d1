"""Was this very datagram here a moment ago?  The bytes themselves, for about two seconds.

Multicast gives datagrams no names.  What we said comes back by loopback, and by another machine's reflector; what somebody else said may come twice, on two
interfaces, or by a Rallypoint as well as by multicast.  The same bytes within :data:`WINDOW_S` are the same datagram: two RTP packets differ in their sequence numbers,
two sealed ones in all their bytes.

What is kept is 64 bits of each datagram, Python's own hash of bytes, which is keyed with a secret of the process (PEP 456): nobody can make a datagram that
is mistaken for another.  They stand in two generations (:mod:`ice.streams.generations`): asking costs two look-ups, forgetting nothing, and there are never more than ``limit``.
"""

from ice.streams.generations import Generations

WINDOW_S = 2.0  # longer than any path that can return a datagram, shorter than any repetition that is meant
LIMIT = 4_096  # 40 talkers at 50 packets per second for two seconds; 0.5 MiB


class Recent(Generations[float]):
    """The datagrams of the last moments, each with the time of its coming.  Time is an argument, in seconds, and never runs backwards."""

    __slots__ = ()

    def __init__(self, seconds: float = WINDOW_S, limit: int = LIMIT) -> None:
        super().__init__(seconds, limit)

    def ask(self, payload: bytes, now: float) -> bool:
        """Whether these very bytes were here within the window; where they were not, they are from now on."""
        mark = hash(payload)
        if self._held(mark, now):
            return True
        young, _, _ = self.turn(now, 1)
        young[mark] = now
        return False

    def seen(self, payload: bytes, now: float) -> bool:
        """The same question, without remembering the bytes."""
        return self._held(hash(payload), now)

    def _held(self, mark: int, now: float) -> bool:
        at = self._young.get(mark)
        if at is None:
            at = self._old.get(mark)
        return at is not None and now - at <= self._seconds
