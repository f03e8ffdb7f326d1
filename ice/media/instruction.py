"""What a jitter buffer says: instructions for whoever decodes, what became of each packet, and the counters of it all."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs


class Pace(enum.Enum):
    """What the receiver should do with the frame that it is about to play, to bring the delay towards its target."""

    NORMAL = "normal"
    EASE = "ease"  #: leave it out if it is quiet
    HASTEN = "hasten"  #: leave it out if it is quiet, else shorten it by a pitch period
    SLACKEN = "slacken"  #: play it twice if it is quiet


@attrs.frozen
class Play:
    """Sound this payload, ``duration`` ticks long, ``delay_s`` later than the fastest packet could have sounded.

    ``joined`` is false where the audio before it was skipped: the decoder's memory does not fit.
    """

    payload: bytes
    duration: int
    pace: Pace
    delay_s: float
    joined: bool = True


@attrs.frozen
class Conceal:
    """Make up ``duration`` ticks; ``following`` is the payload right behind the hole, where it is there (for in-band FEC)."""

    duration: int
    following: bytes | None = None


@attrs.frozen
class Ended:
    """The burst has been played to its end; ``why`` is ``mark``, ``silence`` or ``next`` (the next burst began)."""

    why: str


Instruction: TypeAlias = Play | Conceal | Ended


class Arrival(enum.Enum):
    """What became of a packet at its arrival; the value is the counter's name (``waiting`` is not counted yet)."""

    WAITING = "waiting"
    LATE = "late"  #: its time was over
    DUPLICATE = "duplicate"
    REPEATED = "repeated"  #: another copy of the packet that ends the burst, as senders send on purpose
    AFTER_END = "after_end"  #: an end mark behind the end
    STRAY = "stray"  #: fits no count that we know; one such packet may still be confirmed by the next


@attrs.define
class Counters:
    """Plain integers that only grow; packets unless the name says otherwise (the accounts are in the module docstring)."""

    received: int = 0
    played: int = 0
    late: int = 0
    duplicate: int = 0
    repeated: int = 0
    after_end: int = 0
    stray: int = 0
    skipped: int = 0
    overflow: int = 0
    missing: int = (
        0  #: packets that were not there in their time (those of them that came later are ``late``)
    )
    concealed_ms: int = 0  #: audio made up for them
    recovered: int = 0  #: of them, those that the following payload gave back (the receiver counts them)
    underruns: int = 0  #: times that nothing was there to play inside a burst (a pause, or a late network)
    hastened: int = 0  #: frames that the receiver was asked to leave out or shorten
    restarts: int = 0  #: changes of the sender's count
    bursts: int = 0
    skips: int = 0  #: times that playing jumped to now

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return max(0, self.missing - self.late)

    def copy(self) -> Counters:
        """The counters as they are now."""
        return attrs.evolve(self)

    def since(self, earlier: Counters) -> Counters:
        """What was added after ``earlier`` was copied."""
        return Counters(*(a - b for a, b in zip(attrs.astuple(self), attrs.astuple(earlier), strict=True)))

    def plus(self, other: Counters) -> Counters:
        """Both together."""
        return Counters(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))
