"""Was this very datagram here a moment ago?  The bytes themselves, for about two seconds.

Multicast gives datagrams no names.  What we said comes back by loopback, and by another machine's reflector; what somebody else said may come twice, on two
interfaces, or by a Rallypoint as well as by multicast.  The same bytes within :data:`WINDOW_S` are the same datagram: two RTP packets differ in their sequence numbers,
two sealed ones in all their bytes.

What is kept is 64 bits of each datagram, Python's own hash of bytes, which is keyed with a secret of the process (PEP 456): nobody can make a datagram that
is mistaken for another.  They stand in two generations: when the young one is full or old enough, it becomes the old one, and the old one is forgotten as a whole.
So asking costs two look-ups, forgetting costs nothing, and there are never more than ``limit``.
"""

WINDOW_S = 2.0  # longer than any path that can return a datagram, shorter than any repetition that is meant
LIMIT = 4_096  # 40 talkers at 50 packets per second for two seconds; 0.5 MiB


class Recent:
    """The datagrams of the last moments.  Time is an argument, in seconds, and never runs backwards."""

    __slots__ = ("_begun_at", "_half", "_old", "_seconds", "_young", "overflows")

    def __init__(self, seconds: float = WINDOW_S, limit: int = LIMIT) -> None:
        """``seconds``: how long bytes are remembered; ``limit``: how many datagrams at most (at least 2)."""
        self._seconds = seconds
        self._half = max(1, limit // 2)
        self._young: dict[int, float] = {}
        self._old: dict[int, float] = {}
        self._begun_at = 0.0
        #: Times that datagrams were forgotten too early, since there were too many.
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def ask(self, payload: bytes, now: float) -> bool:
        """Whether these very bytes were here within the window; where they were not, they are from now on."""
        mark = hash(payload)
        if self._held(mark, now):
            return True
        young = self._young
        aged = now - self._begun_at > self._seconds
        if aged or len(young) >= self._half:
            if not aged:
                self.overflows += 1
            # what is older than the window is of no use: a generation that ended long ago is not kept as the old one
            self._old = young if now - self._begun_at <= 2 * self._seconds else {}
            self._young = young = {}
            self._begun_at = now
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
