"""The jitter buffer: packets of one talker in, as the network brings them; instructions out, as the ear needs them.

An engine: time is an argument, payloads are opaque, nothing is decoded here. :meth:`JitterBuffer.insert` takes a packet with its
arrival time; :meth:`JitterBuffer.pull` says what to sound next: :class:`Play` this payload, :class:`Conceal` a hole,
:class:`Ended` (the burst is over), or nothing (silence until the next pull).

**One timeline.** Sequence numbers and timestamps are unwrapped into a number and a position (clock ticks) that only grow. A sender
may begin anew at each burst (the original's ``resetRtpOnTx``), may go on counting, or may jump because it was built that way: each
is a change of the offset between its count and ours, never a loss. At the start of a burst, and where timestamps jump without
sense, the offset is chosen so that the packet counts as *usually* late (the median transit). Forward jumps of at most
:data:`MAX_AHEAD` numbers are losses; others are believed when a burst mark or the next packet confirms them (RFC 3550, A.1).

**Delay.** With ``base`` the smallest transit known (:mod:`ice.media.transit`), a packet sounds at ``position + base + delay``. The
target delay is the 98th percentile of transits above the base, plus what the consumer pulls ahead of time, plus a guard of 5 ms,
within ``min_ms`` and ``max_ms``; until 25 packets are known at least ``start_ms``. The delay really in force follows the target:

* it is taken up in full before a burst's first sample sounds, and again after every silence of a talker with DTX;
* it *grows* when a packet is missing that may still come (its time by the target is not over), or when nothing is there at all:
  the hole is concealed and the position waits. Whatever comes then is played, not thrown away;
* it *shrinks* when it lies a frame and 20 ms above the target: quiet frames are left out (:attr:`Pace.EASE`), and where there are none for a second
  and the excess is heard as slowness, or at once where it is large, every other frame is shortened by a pitch period
  (:attr:`Pace.HASTEN`). On a calm network nothing is ever touched: what is decoded is what is heard, bit for bit;
* it is *bounded*: what would sound more than ``max_ms`` late, because something froze and then delivered seconds at once, is skipped up to
  now, and the stall is not learned.

**Silence and loss.** A jump of timestamps without a jump of numbers is silence (DTX), whatever its length; a jump of numbers is loss,
concealed frame by frame with the following payload at hand for in-band FEC, and given up as silence after :data:`CONCEAL_MS`.

**Bursts.** A burst begins with a packet marked first, or with any packet when none is running; it ends when the packet marked last has
been played (or given up), when the next burst's turn has come, or when nothing has arrived for ``end_of_burst_ms`` (four times that for
a talker whose pauses are known to be DTX).

**Accounts.** Every packet ends in exactly one counter::

    received = played + late + duplicate + repeated + after_end + stray + skipped + overflow + waiting
"""

from __future__ import annotations

from bisect import insort
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.instruction import Arrival, Conceal, Counters, Ended, Instruction, Pace, Play
from ice.media.rtp import sequence_difference, timestamp_difference
from ice.media.transit import WINDOW_MIN, TransitWindow

__all__ = ["Arrival", "Conceal", "Counters", "Ended", "Instruction", "JitterBuffer", "Pace", "Play"]

MAX_AHEAD: Final = 3_000  # packets: MAX_DROPOUT of RFC 3550 A.1, a minute of 20 ms
MAX_BEHIND: Final = 100  # packets: MAX_MISORDER of RFC 3550 A.1
MAX_PAUSE_S: Final = 60.0  # a longer jump of timestamps inside a burst is a new count, not a pause
EARLY_S: Final = 0.25  # a jump of timestamps that puts a packet this far before its time is a new count too
RESTART_SLACK: Final = (
    MAX_BEHIND  # numbers left free before a restart: its first packets may come in another order
)
MAX_WAITING: Final = 512  # packets: ten seconds of 20 ms; more is a flood, or nobody pulls
SEEN: Final = (1 << 1_024) - 1  # numbers in which a second copy is recognised
CONCEAL_MS: Final = 100  # a codec's guess is a drone after this; silence is more honest
HOLD_CONCEAL_MS: Final = 60  # the same while it is not known whether this is a loss or a pause
HOLD_STEP_MS: Final = 20  # how long to wait in one step; the pull after it looks again
GUARD_S: Final = 0.005  # timers of an ordinary machine are late by a few milliseconds
EXCESS_FREE_S: Final = (
    0.02  # above one frame: what start_ms and a consumer's block leave over on a calm network
)
EXCESS_EASE_S: Final = 0.2  # too long a delay is believed after this
EXCESS_HASTEN_S: Final = 1.0  # no quiet frame came by for so long: shorten speech …
EXCESS_HEARD_S: Final = 0.06  # … if the excess is worth it: less than this nobody notices in a conversation
EXCESS_LARGE_S: Final = 0.15  # far too long a delay: shorten speech at once
PAUSING_TALKER: Final = 4  # factor on end_of_burst_ms, as in the original for streams known to signal
TRAILING_S: Final = 1.0  # how long after a marked end further end marks belong to it
EPSILON_S: Final = 1e-6


@attrs.frozen(order=True)
class _Packet:
    number: int
    position: int = attrs.field(order=False)
    duration: int = attrs.field(order=False)
    burst: int = attrs.field(order=False)
    payload: bytes = attrs.field(order=False)

    @property
    def end(self) -> int:
        return self.position + self.duration


@attrs.frozen
class _Count:
    """Where the sender's count stands against ours: its highest packet so far in both."""

    sequence: int
    timestamp: int
    number: int
    position: int
    duration: int


@attrs.frozen
class _Suspect:
    """A packet that fits no count we know; the packet right behind it would confirm that a new count has begun."""

    sequence: int
    timestamp: int
    at: float
    payload: bytes
    duration: int
    last: bool

    def confirmed_by(self, sequence: int, timestamp: int, clock_hz: int) -> bool:
        ticks = timestamp_difference(timestamp, self.timestamp)
        return sequence_difference(sequence, self.sequence) == 1 and 0 <= ticks <= MAX_PAUSE_S * clock_hz


class JitterBuffer:
    """The buffer of one talker (one SSRC); see the module docstring.

    ``clock_hz`` is the RTP clock, in whose ticks positions and durations count. ``start_ms`` is the delay while little is known;
    whoever knows the path already (an earlier SSRC of the same source) passes that buffer's :attr:`target_ms`.
    """

    def __init__(
        self,
        clock_hz: int = 48_000,
        *,
        min_ms: float = 20,
        max_ms: float = 1_000,
        start_ms: float = 40,
        end_of_burst_ms: float = 500,
    ) -> None:
        if clock_hz <= 0 or not 0 <= min_ms <= max_ms:
            raise LocalError(
                f"a jitter buffer needs a clock above 0 Hz and 0 ≤ min_ms ≤ max_ms; got {clock_hz}, {min_ms}, {max_ms}"
            )
        self.counters = Counters()
        self.clock_hz = clock_hz
        self._min_s, self._max_s = min_ms / 1000, max_ms / 1000
        self._start_s = min(max(start_ms / 1000, self._min_s), self._max_s)
        self._end_of_burst_s = end_of_burst_ms / 1000
        self._transits = TransitWindow(self._max_s)
        # What has arrived.
        self._count: _Count | None = None
        self._previous: _Count | None = None
        self._suspect: _Suspect | None = None
        self._waiting: list[_Packet] = []
        self._seen, self._seen_high = 0, 0
        self._burst = 0  # number of the burst that arrives; 0 before the first
        self._border = -1  # packets up to this number belong to the burst before
        self._open = False  # whether that burst may still go on
        self._ends: dict[int, int] = {}  # burst -> number of the packet marked last
        self._ended_at = float("-inf")
        self._last_arrival = float("-inf")
        self._newest_transit = 0.0
        # What is played.
        self._playing = 0  # burst, or 0 for none
        self._next = -RESTART_SLACK - 1
        self._position = 0
        self._duration = clock_hz // 50
        self._held = 0  # ticks made up or silent while the position waited
        self._given_up = 0  # ticks concealed in the present hole
        self._joined = True
        self._pauses = False
        self._ahead_s = 0.0
        self._delay_s = 0.0
        self._excess_since: float | None = None
        self._odd = False

    @property
    def target_ms(self) -> float:
        """The delay that is aimed at, above the fastest packet's."""
        return self._target() * 1000

    @property
    def delay_ms(self) -> float:
        """The delay at which the last packet was played."""
        return self._delay_s * 1000

    @property
    def jitter_ms(self) -> float:
        """The 98th percentile of transits above the fastest."""
        return self._transits.spread * 1000

    @property
    def waiting(self) -> int:
        """Packets that wait to be played (and one that waits to be confirmed)."""
        return len(self._waiting) + (self._suspect is not None)

    @property
    def idle(self) -> bool:
        """Whether no burst is running and none is waiting."""
        return not self._playing and not self._waiting

    # -- packets in

    def insert(
        self,
        sequence: int,
        timestamp: int,
        now: float,
        payload: bytes,
        duration: int,
        *,
        first: bool = False,
        last: bool = False,
        aside: bool = False,
    ) -> Arrival:
        """Take a packet: ``sequence`` u16 and ``timestamp`` u32 as on the wire, ``duration`` ticks (0 for a mere mark).

        ``first`` and ``last``: what any layer said about its place in the burst. ``aside``: the packet shares the talker's numbers and is
        no sound, its timestamp is its own affair (RFC 4733 events). Never raises, whatever comes.
        """
        self.counters.received += 1
        duration = max(0, duration)
        if last and not first and self._is_trailing(sequence, now):
            self.counters.after_end += 1
            return Arrival.AFTER_END
        if aside and (place := self._place_aside(sequence)) is not None:
            arrival = self._accept(place, now, b"", 0, last)
            self._account(arrival)
            return arrival
        place = self._place(sequence, timestamp, now, duration, first, last)
        if place is None:
            suspect, self._suspect = (
                self._suspect,
                _Suspect(sequence, timestamp, now, payload, duration, last),
            )
            if suspect is None or not suspect.confirmed_by(sequence, timestamp, self.clock_hz):
                self.counters.stray += suspect is not None
                return Arrival.STRAY
            self._suspect = None
            self._accept(
                self._restart(suspect.sequence, suspect.timestamp, suspect.at, suspect.duration),
                suspect.at,
                suspect.payload,
                suspect.duration,
                suspect.last,
            )
            place = self._place(sequence, timestamp, now, duration, False, last)
            assert place is not None  # one number after a count that has just begun
        elif self._suspect is not None:
            self._reconsider(self._suspect)
        arrival = self._accept(place, now, payload, duration, last)
        self._account(arrival)
        return arrival

    def _account(self, arrival: Arrival) -> None:
        if arrival is not Arrival.WAITING:
            setattr(self.counters, arrival.value, getattr(self.counters, arrival.value) + 1)

    def _is_trailing(self, sequence: int, now: float) -> bool:
        """Whether an end mark belongs to the burst that has just ended: some senders mark several packets."""
        if self._count is None or self._open or now - self._ended_at > TRAILING_S:
            return False
        return 0 < sequence_difference(sequence, self._count.sequence) <= MAX_BEHIND

    def _reconsider(self, suspect: _Suspect) -> None:
        """A packet that fitted no count may fit the one that has begun since (its marked first packet came second)."""
        assert self._count is not None
        if abs(sequence_difference(suspect.sequence, self._count.sequence)) > MAX_BEHIND:
            return
        self._suspect = None
        place = self._place(
            suspect.sequence, suspect.timestamp, suspect.at, suspect.duration, False, suspect.last
        )
        if place is None:
            self.counters.stray += 1
        else:
            self._account(self._accept(place, suspect.at, suspect.payload, suspect.duration, suspect.last))

    def abandon(self) -> None:
        """Give up what waits (counted as overflow): nobody will pull any more."""
        self.counters.overflow += len(self._waiting)
        self._waiting.clear()
        if self._suspect is not None:
            self.counters.stray += 1
            self._suspect = None

    def _place(
        self, sequence: int, timestamp: int, now: float, duration: int, first: bool, last: bool
    ) -> tuple[int, int] | None:
        """Number and position of a packet on our timeline, the timeline moved on where need be; ``None``: not believed yet."""
        count = self._count
        if count is None:
            return self._restart(sequence, timestamp, now, duration)
        steps = sequence_difference(sequence, count.sequence)
        ticks = timestamp_difference(timestamp, count.timestamp)
        pause = MAX_PAUSE_S * self.clock_hz
        if -MAX_BEHIND <= steps <= 0 and -pause <= ticks <= 0 and (steps < 0 or ticks == 0):
            return count.number + steps, count.position + ticks
        if 0 < steps <= MAX_AHEAD:
            number = count.number + steps
            end = self._ends.get(self._burst)
            behind_end = end is not None and number > end and not last  # several packets may be marked last
            if first or not self._open or behind_end:
                position = self._begin(count.number, now)
            else:
                position = count.position + ticks
                if ticks <= 0 or position < count.position + count.duration:
                    position = count.position + steps * count.duration
                elif ticks > steps * count.duration:
                    transit = now - position / self.clock_hz
                    if ticks > pause or transit < self._transits.base - EARLY_S:
                        position = self._anchor(now)
                        self.counters.restarts += 1
            self._count = _Count(sequence, timestamp, number, position, duration or count.duration)
            return number, position
        if self._previous is not None:
            steps = sequence_difference(sequence, self._previous.sequence)
            ticks = timestamp_difference(timestamp, self._previous.timestamp)
            if -MAX_BEHIND <= steps <= 0 and -pause <= ticks <= 0:
                return self._previous.number + steps, self._previous.position + ticks
        return self._restart(sequence, timestamp, now, duration) if first else None

    def _place_aside(self, sequence: int) -> tuple[int, int] | None:
        """The place of a packet that takes a number in the running burst, and no time."""
        count = self._count
        if count is None or not self._open:
            return None
        steps = sequence_difference(sequence, count.sequence)
        if not -MAX_BEHIND <= steps <= MAX_BEHIND:
            return None
        if steps > 0:
            self._count = attrs.evolve(count, sequence=sequence, number=count.number + steps)
            return count.number + steps, count.position + count.duration
        return count.number + steps, count.position

    def _restart(self, sequence: int, timestamp: int, now: float, duration: int) -> tuple[int, int]:
        """Begin a burst with a count of its own."""
        count = self._count
        if count is None:
            number = 0
        else:
            self.counters.restarts += 1
            number = count.number + 1 + RESTART_SLACK
        self._previous = count
        position = self._begin(number - 1 - RESTART_SLACK, now)
        self._count = _Count(sequence, timestamp, number, position, duration or self._duration)
        return number, position

    def _begin(self, border: int, now: float) -> int:
        """A burst begins behind the number ``border``; its first position."""
        position = self._anchor(now)
        self._burst += 1
        self._border = border
        self._open = True
        self.counters.bursts += 1
        return position

    def _anchor(self, now: float) -> int:
        """The position of a packet that arrives now and is as late as packets usually are; never before what came already."""
        position = round((now - self._transits.usual) * self.clock_hz)
        if self._count is not None:
            position = max(position, self._count.position + self._count.duration)
        return position

    def _accept(
        self, place: tuple[int, int], now: float, payload: bytes, duration: int, last: bool
    ) -> Arrival:
        number, position = place
        burst = self._burst if number > self._border else self._burst - 1
        behind = self._seen_high - number
        seen = behind >= 0 and (behind >= 1_024 or self._seen >> behind & 1)
        ended = self._ends.get(burst)
        if last and burst == self._burst and self._count is not None and number == self._count.number:
            self._ends[burst] = number
        if seen:
            over = burst == self._burst and not self._open and number == self._next - 1
            return Arrival.REPEATED if last and (number == ended or over) else Arrival.DUPLICATE
        if behind < 0:
            self._seen = (self._seen << min(-behind, 1_024) | 1) & SEEN
            self._seen_high = number
        else:
            self._seen |= 1 << behind
        self._last_arrival = now
        if duration:
            transit = now - position / self.clock_hz
            if self._count is not None and number == self._count.number:
                self._newest_transit = transit
            self._transits.add(transit, duration / self.clock_hz)
        if number < self._next:
            return Arrival.LATE
        packet, waiting = _Packet(number, position, duration, burst, payload), self._waiting
        if waiting and number < waiting[-1].number:
            insort(waiting, packet)
        else:
            waiting.append(packet)
        if len(waiting) > MAX_WAITING:
            self.counters.overflow += 1
            self._joined = False
            self._pass(self._waiting.pop(0))
        return Arrival.WAITING

    # -- instructions out

    def pull(self, now: float, *, ahead_s: float = 0.0) -> Instruction | None:
        """What to sound next; ``None``: silence until the next pull.

        ``ahead_s``: how long after ``now`` the asked-for sample will sound, because a consumer takes a block at a time.
        """
        self._ahead_s = max(ahead_s, self._ahead_s * 0.999)
        when = now + ahead_s
        while True:
            head = self._waiting[0] if self._waiting else None
            if not self._playing:
                if head is None or when < self._due(head.position):
                    return None
                self._playing = head.burst
                self._next, self._position = head.number, head.position
                self._held = self._given_up = 0
                self._excess_since = None
                continue
            if head is None or head.burst != self._playing:
                return self._wait_or_end(head, now, when)
            if head.number > self._next:
                settled, instruction = self._hole(head, when)
                if settled:
                    continue
                return instruction
            if head.duration and head.position - self._position >= max(1, self._duration // 2):
                self._pauses = True
                if when < self._due(head.position):
                    return None
            delay_s = when - head.position / self.clock_hz - self._transits.base
            if delay_s > self._max_s + head.duration / self.clock_hz + EPSILON_S:
                self._skip(when)
                continue
            self._waiting.pop(0)
            return self._play(head, delay_s, when)

    def _target(self) -> float:
        want = self._transits.spread + self._ahead_s + GUARD_S
        if len(self._transits) < WINDOW_MIN:
            want = max(want, self._start_s)
        return min(max(want, self._min_s), self._max_s)

    def _due(self, position: int) -> float:
        """When the sample at ``position`` sounds if the delay is as aimed at."""
        return position / self.clock_hz + self._transits.base + self._target() - EPSILON_S

    def _wait_or_end(self, head: _Packet | None, now: float, when: float) -> Instruction | None:
        end = self._ends.get(self._playing)
        if end is not None and self._next > end:
            return self._end("mark", now)
        if head is not None:
            if when >= self._due(head.position):
                return self._end("next", now)
        elif now - self._last_arrival >= self._end_of_burst_s * (PAUSING_TALKER if self._pauses else 1):
            return self._end("silence", now)
        return self._hold()

    def _end(self, why: str, now: float) -> Ended:
        self._ends.pop(self._playing, None)
        if self._playing == self._burst:
            self._open = False
            self._ended_at = now
        self._playing = 0
        return Ended(why)

    def _hold(self) -> Conceal | None:
        """Make up a little while the position waits: what is missing may still come."""
        step = min(self._duration, self.clock_hz * HOLD_STEP_MS // 1000)
        if not self._held:
            self.counters.underruns += 1
        self._held += step
        return Conceal(step) if self._held * 1000 <= HOLD_CONCEAL_MS * self.clock_hz else None

    def _hole(self, head: _Packet, when: float) -> tuple[bool, Conceal | None]:
        """One missing number before ``head``: whether it is settled without a sound, and else what to sound."""
        if when < self._due(self._position):
            return False, self._hold()
        missing = head.number - self._next
        step = min(self._duration, max(0, head.position - self._position) // missing)
        if not step or self._given_up * 1000 >= CONCEAL_MS * self.clock_hz:
            self.counters.missing += missing
            self._next = head.number
            return True, None
        self.counters.missing += 1
        self._next += 1
        self._position += step
        self._given_up += step
        self.counters.concealed_ms += step * 1000 // self.clock_hz
        if self._held >= step and when > self._due(self._position):
            self._held -= step  # it was made up while we waited for it
            return True, None
        following = head.payload if missing == 1 and self._position == head.position else None
        return False, Conceal(step, following)

    def _play(self, packet: _Packet, delay_s: float, when: float) -> Play:
        duration_s = packet.duration / self.clock_hz
        pace = self._pace(delay_s, duration_s, when)
        joined, self._joined = self._joined, True
        self.counters.played += 1
        self._delay_s = delay_s
        self._held = self._given_up = 0
        self._pass(packet)
        return Play(packet.payload, packet.duration, pace, delay_s, joined)

    def _pass(self, packet: _Packet) -> None:
        """The playing position is behind ``packet`` now."""
        self._next = packet.number + 1
        self._position = packet.end
        if packet.duration:
            self._duration = packet.duration

    def _pace(self, delay_s: float, duration_s: float, when: float) -> Pace:
        excess = delay_s - self._target()
        if excess < -duration_s:
            self._excess_since = None
            return Pace.SLACKEN
        if excess <= duration_s + EXCESS_FREE_S:
            self._excess_since = None
            return Pace.NORMAL
        if self._excess_since is None:
            self._excess_since = when
        since = when - self._excess_since
        if since < EXCESS_EASE_S:
            return Pace.NORMAL
        self._odd = not self._odd
        self.counters.hastened += 1
        hasten = excess > EXCESS_LARGE_S or (since >= EXCESS_HASTEN_S and excess > EXCESS_HEARD_S)
        return Pace.HASTEN if self._odd and hasten else Pace.EASE

    def _skip(self, when: float) -> None:
        """Pass over what is too old: the path's stall is over, or its delay is another one for good."""
        self.counters.skips += 1
        self._transits.reset(self._newest_transit)
        self._joined = False
        self._excess_since = None
        while self._waiting and when > self._due(self._waiting[0].end):
            packet = self._waiting[0]
            if packet.burst != self._playing:
                break
            self.counters.skipped += 1
            self._pass(self._waiting.pop(0))
