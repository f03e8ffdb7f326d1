"""Whether this process has stood still: suspended, frozen, or starved of its processor.  Without I/O.

Whoever stood still finds in the kernel's buffers what was said meanwhile.  Its own clock is the only witness, because nothing in the
bytes tells their age; so each :class:`~ice.net.link.Link` asks here before it takes bytes from its connection, and after a nap
has its session ask the far side (:meth:`ice.link.session.Session.doubt`): what was sent before that answer is old.

One of these serves all links of a process: somebody calls :meth:`Wake.beat` a few times a second, and a link that is readable earlier
than that, as it is after a nap, notices by :attr:`Wake.doubt_at`.
"""

#: Longer between two beats, and we stood still. Less than the 2 s after which audio is too old, more than any turn of the reactor may take.
STOOD_STILL_S = 1.5


class Wake:
    """The watch over ourselves."""

    __slots__ = ("doubt_at", "dropped_stale", "naps")

    def __init__(self) -> None:
        #: Whoever looks later than this has found a nap, and calls :meth:`beat`. Never, before the first beat.
        self.doubt_at = float("inf")
        #: How often we stood still.
        self.naps = 0
        #: Frames of audio dropped for that, on all links.
        self.dropped_stale = 0

    def beat(self, now: float) -> None:
        """We are awake at ``now``."""
        if now > self.doubt_at:
            self.naps += 1
        self.doubt_at = now + STOOD_STILL_S

    def rest(self) -> None:
        """Nobody beats from here on, and that is no nap."""
        self.doubt_at = float("inf")
