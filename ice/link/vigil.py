"""Whether the far side lives, and takes what is sent: keep-alive and freshness of one end of a link, without I/O.

**Alive.**  After ``keepalive`` seconds of silence (one second while a burst is running) a PING is due; a link on which
nothing at all is heard for 1.5 s after a PING is dead.  Who notices that much too late has itself been stopped, and asks again.

**Fresh.**  An end that sends media asks every second as well, and an acceptor every three seconds where its opener has shown
that it answers promptly.  While a PING is unanswered for longer than :attr:`Vigil.stale_after_s` the outbox is shut,
because what was written since may still lie in somebody's kernel buffer: only the far program's answer says what was
really taken.
"""

from enum import Enum

from ice.link.outbox import Outbox

DEAD_AFTER_PING_S = 1.5
OWN_STALL_S = 0.5  # who notices a death this much too late knows nothing of the far side
BUSY_INTERVAL_S = 1.0  # between PINGs while media flows
CALM_INTERVAL_S = (
    3.0  # the same, of an acceptor that trusts its opener: a hall of listeners is not asked every second
)
PROMPT_S = 0.25  # an answer within this is prompt
PROMPT_IN_A_ROW = 3  # so many make an opener trusted; the first late one ends the trust
PATIENCE_S = 0.3  # the acceptor of an idle link lets the opener ask first: one PING serves both ends
BUSY_MEMORY_S = 2.0  # a burst counts as running this long after its last packet
STALE_AFTER_S = 0.5
STALE_AFTER_MAX_S = 1.4  # a long round trip may stretch the bound, but never past the death of the link
MAX_PINGS_OUT = 8

_NEVER = float("-inf")


class Verdict(Enum):
    """What time has brought."""

    NOTHING = "nothing"
    ASK = "ask"  #: send a PING with :attr:`Vigil.ping_number`
    DEAD = "dead"


class Vigil:
    """One end's watch over the other.  PINGs are numbered; a PONG answers all up to its own."""

    __slots__ = (
        "_asked_at",
        "_heard_at",
        "_least_round_trip_s",
        "_media_heard_at",
        "_media_sent_at",
        "_opener",
        "_outbox",
        "_pinged_at",
        "_pings",
        "_prompt",
        "carried",
        "fence",
        "keepalive_s",
        "ping_number",
        "round_trip_s",
    )

    def __init__(self, *, opener: bool, keepalive_s: float, outbox: Outbox, now: float) -> None:
        self.keepalive_s = keepalive_s
        #: Set by whoever writes media; looked at by :meth:`tick`.
        self.carried = False
        #: The PING whose answer shows that what comes is new, after we have stood still; 0 for none.
        self.fence = 0
        #: Of the latest PING that was answered.
        self.round_trip_s: float | None = None
        #: Of the latest PING.
        self.ping_number = 0
        self._opener = opener
        self._outbox = outbox
        self._heard_at = now
        self._media_heard_at = _NEVER
        self._media_sent_at = _NEVER
        self._pings: list[tuple[int, float]] = []  # unanswered: number, when
        self._pinged_at = _NEVER
        self._asked_at: float | None = None  # the first PING since anything was heard
        self._least_round_trip_s = float("inf")
        self._prompt = 0  # PINGs answered promptly in a row

    @property
    def unanswered(self) -> int:
        """PINGs that wait for their answer; bounded."""
        return len(self._pings)

    @property
    def stale_after_s(self) -> float:
        """How long a PING may be unanswered before media waits: half a second, or more on a long path."""
        if self._least_round_trip_s == float("inf"):
            return STALE_AFTER_S
        return min(STALE_AFTER_MAX_S, max(STALE_AFTER_S, 1.5 * self._least_round_trip_s))

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is due at the latest."""
        if self._asked_at is None:
            due = self._heard_at + self._interval_s()
        else:
            due = self._asked_at + DEAD_AFTER_PING_S
        if self._pings and not self._outbox.stale:
            due = min(due, self._pings[0][1] + self.stale_after_s)
        if self._carrying():
            due = min(due, self._pinged_at + self.busy_interval_s())
        return due

    def heard(self, now: float) -> None:
        """Bytes came, whatever they are."""
        self._heard_at = now
        self._asked_at = None

    def heard_media(self, now: float) -> None:
        """Bytes came, and some of them were media."""
        self._heard_at = self._media_heard_at = now
        self._asked_at = None

    def doubt(self, now: float) -> None:
        """Ask whether what comes is new: :attr:`fence` is 0 again once this PING, and so everything before it, is answered."""
        self._ask(now)
        self.fence = self.ping_number

    def answered(self, number: int, now: float) -> None:
        """A PONG came; a number that was never asked is passed over."""
        if self.fence <= number <= self.ping_number:
            self.fence = 0
        while self._pings and self._pings[0][0] <= number <= self.ping_number:
            asked, asked_at = self._pings.pop(0)
            if asked == number:
                self.round_trip_s = now - asked_at
                self._least_round_trip_s = min(self._least_round_trip_s, self.round_trip_s)
                self._prompt = self._prompt + 1 if self.round_trip_s <= PROMPT_S else 0
        if self._outbox.stale and (not self._pings or now - self._pings[0][1] < self.stale_after_s):
            self._outbox.stale = False

    def tick(self, now: float) -> Verdict:
        """Let time pass; opens and shuts the outbox, and says what is to be done."""
        if self.carried:
            self.carried = False
            self._media_sent_at = now
        if self._pings and not self._outbox.stale and now - self._pings[0][1] >= self.stale_after_s:
            self._outbox.stale = True
            self._prompt = 0
        if self._asked_at is not None and (late := now - self._asked_at - DEAD_AFTER_PING_S) >= 0:
            if late <= OWN_STALL_S:
                return Verdict.DEAD
            self._asked_at = None  # it is we who stood still, so its answer may lie unread: ask again
        silent = self._asked_at is None and now - self._heard_at >= self._interval_s()
        if silent or (self._carrying() and now - self._pinged_at >= self.busy_interval_s()):
            self._ask(now)
            return Verdict.ASK
        return Verdict.NOTHING

    def _ask(self, now: float) -> None:
        if len(self._pings) >= MAX_PINGS_OUT:
            del self._pings[1]  # the oldest stays: it says since when the far side owes an answer
        self.ping_number += 1
        self._pings.append((self.ping_number, now))
        self._pinged_at = now
        if self._asked_at is None:
            self._asked_at = now

    def _carrying(self) -> bool:
        return self.carried or self._media_sent_at > self._pinged_at

    def busy_interval_s(self) -> float:
        """Seconds between two PINGs while media flows."""
        trusted = self._prompt >= PROMPT_IN_A_ROW and not self._opener
        return CALM_INTERVAL_S if trusted else BUSY_INTERVAL_S

    def _interval_s(self) -> float:
        latest = max(self._media_heard_at, self._media_sent_at)
        if self.carried or self._heard_at - latest < BUSY_MEMORY_S:
            return min(self.busy_interval_s(), self.keepalive_s)
        return self.keepalive_s if self._opener else self.keepalive_s + PATIENCE_S
