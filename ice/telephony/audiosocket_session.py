"""One AudioSocket connection as it lives: who it says it is, how long that may take, how much may come, and how it ends.

An engine between the bytes (:mod:`ice.telephony.audiosocket`) and whoever owns the socket. A connection says its UUID first, within :data:`NAMED_WITHIN_S`; whether anybody
waits for that UUID, and that none comes twice, only the owner of all connections can know: :class:`Rendezvous`.

Hang-up, end of file and reset are one fact, the call's end here, since a call manager that was told to hang up just closes the connection. Sound that comes
faster than :data:`FLOOD_FACTOR` times real time for a second is no sound: the connection is ended (``flood``). Silence is no reason: no frames come while the far side is silent.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID

import attrs

from ice.telephony.audiosocket import Digit, Failed, HungUp, Named, Odd, Oddity, Reader, Sound

NAMED_WITHIN_S: Final = 5.0  # Asterisk says it in 2 ms; a stranger never
FLOOD_FACTOR: Final = 4.0  # a second that was stalled and comes in one piece is no flood
FLOOD_BURST_S: Final = 2.0  # of sound at once
FASTEST_BYTES_PER_S: Final = 2 * 192_000  # the highest rate there is
OTHERS_PER_S: Final = 50.0  # messages that are no sound: keys come ten a second at most
OTHERS_BURST: Final = 100.0
ODD_MAX: Final = 1_000  # messages without a meaning on one connection: a call manager sends none


class Why(StrEnum):
    """Why a connection ended, or was ended."""

    HUNG_UP = "hung-up"  #: the call manager said so, or closed it between two messages
    CUT = "cut"  #: it broke off within a message
    ERROR = "error"  #: the call manager reported an error
    NAMELESS = "nameless"  #: no UUID came in time, or something else came first
    STRANGER = "stranger"  #: a UUID that nobody waits for
    TWICE = "twice"  #: a UUID that is connected already
    RENAMED = "renamed"  #: a second UUID on one connection
    FLOOD = "flood"  #: more than anybody can say
    NONSENSE = "nonsense"  #: too many messages without a meaning


@attrs.frozen
class Ended:
    """The connection is over: close it, whoever began; ``text`` says more where there is more to say."""

    why: Why
    text: str = ""


Event: TypeAlias = Named | Digit | Sound | Ended


class _Budget:
    """So much at once, so much per second: a bucket that fills with time."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._level, self._at = burst, now

    def take(self, amount: float, now: float) -> bool:
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._per_s)
        self._at = now
        self._level -= amount
        return self._level >= 0


class Session:
    """One connection; ``now`` in seconds. After an :class:`Ended` nothing comes any more, whatever is fed."""

    def __init__(self, now: float) -> None:
        self.call: UUID | None = None  #: who it said it is
        self.ended: Ended | None = None
        self.odd: Counter[Oddity] = Counter()  #: messages without a meaning, by reason
        self.odd_samples = 0  #: frames that ended within a sample
        self.octets = 0
        self.heard_at = now
        self._reader = Reader()
        self._name_by = now + NAMED_WITHIN_S
        self._octets = _Budget(FLOOD_BURST_S * FASTEST_BYTES_PER_S, FASTEST_BYTES_PER_S, now)
        self._sound_s = _Budget(FLOOD_FACTOR * FLOOD_BURST_S, FLOOD_FACTOR, now)
        self._others = _Budget(OTHERS_BURST, OTHERS_PER_S, now)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to say next."""
        return self._name_by if self.call is None and self.ended is None else None

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes have come."""
        if self.ended is not None:
            return []
        self.octets += len(data)
        self.heard_at = now
        if not self._octets.take(len(data), now):
            return [self._end(Why.FLOOD, "more bytes than sound has")]
        events: list[Event] = []
        for message in self._reader.feed(data):
            event = self._take(message, now)
            if event is not None:
                events.append(event)
            if self.ended is not None:
                break
        return events

    def closed(self) -> list[Event]:
        """The connection is at its end (end of file, reset); nothing where it was ended before."""
        if self.ended is not None:
            return []
        if self.call is None:
            return [self._end(Why.NAMELESS, "closed before it said which call it is")]
        return [self._end(Why.CUT if self._reader.waiting else Why.HUNG_UP)]

    def tick(self, now: float) -> list[Event]:
        """Look at the clock."""
        if self.deadline is None or now < self._name_by:
            return []
        return [self._end(Why.NAMELESS, f"no UUID within {NAMED_WITHIN_S:g} s")]

    def refuse(self, why: Why) -> Ended:
        """The owner of all connections does not want this one."""
        return self._end(why)

    def _take(self, message: Named | HungUp | Digit | Sound | Failed | Odd, now: float) -> Event | None:
        if isinstance(message, Sound):
            if self.call is None:
                return self._end(Why.NAMELESS, "sound came before the UUID")
            self.odd_samples += message.odd
            seconds = len(message.samples) / 2 / message.rate
            return (
                message if self._sound_s.take(seconds, now) else self._end(Why.FLOOD, "faster than real time")
            )
        if not self._others.take(1, now):
            return self._end(Why.FLOOD, "too many messages that are no sound")
        match message:
            case Named() if self.call is None:
                self.call = message.call
                return message
            case Named():
                return self._end(Why.RENAMED)
            case HungUp():
                return self._end(Why.HUNG_UP)
            case Failed():
                return self._end(Why.ERROR, message.text)
            case Odd():
                self.odd[message.why] += 1
                if self.call is None:
                    return self._end(
                        Why.NAMELESS, f"a message of kind 0x{message.kind:02x} came before the UUID"
                    )
                return self._end(Why.NONSENSE) if sum(self.odd.values()) > ODD_MAX else None
            case Digit():
                if self.call is None:
                    return self._end(Why.NAMELESS, "a key came before the UUID")
                return message

    def _end(self, why: Why, text: str = "") -> Ended:
        if self.ended is None:
            self.ended = Ended(why, text)
        return self.ended


class Rendezvous:
    """Which UUIDs are waited for, and which are connected: a call manager may connect before its answer to our request has come."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, float] = {}
        self._connected: set[UUID] = set()
        #: Connections that were not let in, by reason.
        self.refused: Counter[Why] = Counter()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._connected)

    def expect(self, call: UUID, until: float) -> None:
        """A connection of this UUID is to come, at the latest at ``until``; to be said before the call manager is asked for it."""
        if call not in self._connected:
            self._waiting[call] = until

    def arrived(self, call: UUID, now: float) -> Why | None:
        """A connection says this UUID: why it is not let in, or ``None``."""
        why = None
        if call in self._connected:
            why = Why.TWICE
        elif self._waiting.get(call, float("-inf")) < now:
            why = Why.STRANGER
        if why is not None:
            self.refused[why] += 1
            return why
        del self._waiting[call]
        self._connected.add(call)
        return None

    def forget(self, call: UUID) -> None:
        """The call is over, or its connection is."""
        self._waiting.pop(call, None)
        self._connected.discard(call)

    def clear(self) -> None:
        """All calls and their connections are over."""
        self._waiting.clear()
        self._connected.clear()

    def overdue(self, now: float) -> list[UUID]:
        """UUIDs whose connection has not come in time; forgotten now."""
        late = [call for call, until in self._waiting.items() if until < now]
        for call in late:
            del self._waiting[call]
        return late
