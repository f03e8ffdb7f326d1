"""Was this packet here before?  Windows of the counters of an AES-256-GCM group, one per start id, and why a packet is refused.

A *start id* is 8 bytes: the wall clock at the sender's start (u32, Unix seconds) and 4 random bytes.  Under it the sender
counts its packets from 0, and a listener lets each counter through once: those ahead of the highest move the window, those
within 1,024 behind it are taken in any order, older ones are late.  Only packets whose tag has been verified are asked
about, so nobody without the key can put anything in here or push anything out, and any jump forward may be believed.

**Forgetting must not open a door.**  A start id that was forgotten would be taken for a new one, and all it ever said could
be played again.  So a start id is never forgotten while it would still be admitted as new: what is forgotten (and only
where there is no room) began more than 24 h ago *and* has been silent for an hour.  The youngest of the forgotten is
remembered as a mark; what began no later than that and is not known is refused for good, so that setting the listener's
clock back does not help either.  Where there is nothing to forget, new starts are refused and counted
(:attr:`Refused.STARTS`): only somebody with the key can bring that about.

Times are Unix seconds and arguments; the listener's own restart forgets everything (``docs/traffic-encryption.md`` says what
that means).
"""

from enum import StrEnum
from typing import Final

SIZE: Final = 1_024  # packets that may overtake each other: 20 s of one talker at 20 ms
MAX_AGE_S: Final = 24 * 3_600.0  # an unheard start id older than this is a recording, or a wrong clock
AHEAD_S: Final = 600.0  # how far ahead of ours a sender's clock may be
MAX_STARTS: Final = (
    16_384  # start ids of one stream within a day: 200 people with 80 starts each; 6 MiB at the very most
)
SILENCE_S: Final = 3_600.0  # who began a day ago and was heard within this time is still talking
SCAN_S: Final = 60.0  # the full table is searched for what may be forgotten this often at most

_FULL = (1 << SIZE) - 1


class Refused(StrEnum):
    """Why a packet was not opened; the name of a counter."""

    TOO_SHORT = "too-short"  #: shorter than the smallest packet of the cipher
    LENGTH = "length"  #: not whole blocks (CBC), or longer than a datagram
    TAG = "tag"  #: changed on its way, of another stream, or sealed with a key that is not ours (GCM)
    PADDING = "padding"  #: changed on its way, or sealed with a key that is not ours (CBC)
    IMPLAUSIBLE = "implausible"  #: decrypted to what is no packet: likewise (CBC)
    REPLAY = "replay"  #: here before, tag and all
    LATE = "late"  #: behind the window of 1,024: overtaken by that many, or a replay
    OLD = "old"  #: the start was never heard and is older than 24 h: a recording, or a wrong clock
    FUTURE = "future"  #: the start lies too far ahead: the sender's clock or ours is wrong
    STARTS = "starts"  #: more starts within a day than are remembered
    OLD_KEY = "old-key"  #: sealed with the key before the last, after the overlap: somebody has missed the change of keys
    MISMATCH = "mismatch"  #: sealed with our key and the other cipher
    CLEAR = "clear"  #: not encrypted at all


class _Window:
    """The counters heard under one start id.  Bit ``n`` of the bitmap stands for ``high - n``."""

    __slots__ = ("bits", "heard_at", "high")

    def __init__(self, counter: int, unix_s: float) -> None:
        self.high = counter
        self.bits = 1
        self.heard_at = unix_s


class Starts:
    """The start ids heard on one stream under one key.

    ``accept_recordings`` admits start ids of any age, and with it gives up every protection against replays from before they were
    forgotten; ``clock_ahead_s``: how far ahead of ours a start may lie.
    """

    __slots__ = (
        "_accept_recordings",
        "_clock_ahead_s",
        "_forgotten",
        "_max_starts",
        "_scanned_at",
        "_windows",
    )

    def __init__(
        self, *, accept_recordings: bool = False, clock_ahead_s: float = AHEAD_S, max_starts: int = MAX_STARTS
    ) -> None:
        self._accept_recordings = accept_recordings
        self._clock_ahead_s = clock_ahead_s
        self._max_starts = max_starts
        self._windows: dict[bytes, _Window] = {}
        self._forgotten = -1  # the youngest start that was ever forgotten
        self._scanned_at = float("-inf")

    def __len__(self) -> int:
        return len(self._windows)

    def ask(self, start: bytes, counter: int, unix_s: float) -> Refused | None:
        """Why a packet, its tag verified, must not be let through at ``unix_s``, or None; asking marks it as heard."""
        window = self._windows.get(start)
        if window is None:
            refused = self._admit(int.from_bytes(start[:4], "big"), unix_s)
            if refused is None:
                self._windows[start] = _Window(counter, unix_s)
            return refused
        ahead = counter - window.high
        if ahead > 0:
            window.bits = ((window.bits << ahead) | 1) & _FULL if ahead < SIZE else 1
            window.high = counter
        elif ahead <= -SIZE:
            return Refused.LATE
        else:
            bit = 1 << -ahead
            if window.bits & bit:
                return Refused.REPLAY
            window.bits |= bit
        window.heard_at = unix_s
        return None

    def _admit(self, began: int, unix_s: float) -> Refused | None:
        if began > unix_s + self._clock_ahead_s:
            return Refused.FUTURE
        if not self._accept_recordings and (began < unix_s - MAX_AGE_S or began <= self._forgotten):
            return Refused.OLD
        if len(self._windows) >= self._max_starts:
            self._forget(unix_s)
            if len(self._windows) >= self._max_starts:
                return Refused.STARTS
        return None

    def _forget(self, unix_s: float) -> None:
        """Make room, where that opens no door."""
        if abs(unix_s - self._scanned_at) < SCAN_S:
            return
        self._scanned_at = unix_s
        oldest = unix_s - MAX_AGE_S
        silent = unix_s - SILENCE_S
        gone = [
            start
            for start, window in self._windows.items()
            if int.from_bytes(start[:4], "big") < oldest and window.heard_at < silent
        ]
        for start in gone:
            del self._windows[start]
            self._forgotten = max(self._forgotten, int.from_bytes(start[:4], "big"))
