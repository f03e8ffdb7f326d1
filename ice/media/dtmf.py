"""Keys of a telephone: as RTP events (RFC 4733), and as tones (ITU-T Q.23).

A pressed key is a run of small packets, all with the RTP timestamp of its beginning: the first has the marker bit, each further
one tells how long the key has been down so far, and the last is sent three times with the end bit, so that losses neither lose a
key nor hold it down. Events share sequence numbers and clock with the sound of their stream, which is why the clock rate is a
parameter and why :class:`Dialer` says *what* to send when, and leaves the numbering to whoever sends.

:class:`Recogniser` is the other end: it reports each key once, at whichever of its packets comes first.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, MalformedPayload, Pcm
from ice.media.rtp import timestamp_difference
from ice.media.tones import shaped

PAYLOAD: Final = struct.Struct(">BBH")
DIGITS: Final = "0123456789*#ABCD"  # event codes 0–15, RFC 4733 §3.2
MAX_DURATION: Final = 0xFFFF  # RTP clock units; a longer press is told in segments (RFC 4733 §2.5.1.3)
END_PACKETS: Final = 3  # RFC 4733 §2.5.1.4
MIN_DURATION_MS: Final = 40  # ITU-T Q.24: shorter tones need not be recognised
MAX_QUEUED: Final = 64  # keys waiting in a Dialer: more than any number or code has
LATE_TICKS: Final = (
    5 * 48_000
)  # an event less than this behind the newest is a straggler, one further behind a new beginning
REMEMBERED: Final = 16  # timestamps of keys already reported

_FREQUENCIES_HZ: Final = {  # ITU-T Q.23: a row's tone and a column's
    key: (low_hz, high_hz)
    for low_hz, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high_hz, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}


@attrs.frozen
class Event:
    """The payload of one event packet (RFC 4733 §2.3).

    ``code`` 0–255 (0–15 are :data:`DIGITS`), ``duration`` 0–65,535 in RTP clock units since the event's timestamp, ``end`` whether the key
    is up again, ``volume_dbm0`` 0 down to −63, the power of the tone it stands for.
    """

    code: int
    duration: int
    end: bool = False
    volume_dbm0: int = -10

    def encode(self) -> bytes:
        """The four bytes; raises :class:`~ice.errors.LocalError` where a field does not fit."""
        if not -63 <= self.volume_dbm0 <= 0:
            raise LocalError(f"event volume {self.volume_dbm0} dBm0 is not in −63–0")
        try:
            return PAYLOAD.pack(self.code, self.end << 7 | -self.volume_dbm0, self.duration)
        except struct.error as error:
            raise LocalError(f"a telephone event's field does not fit its place: {error}") from None

    @classmethod
    def decode(cls, payload: bytes) -> Event:
        """The event in the first four bytes; raises :class:`~ice.media.payload.MalformedPayload` where they are not there.

        The reserved bit is ignored, as are bytes behind the fourth.
        """
        if len(payload) < PAYLOAD.size:
            raise MalformedPayload(
                "too-short" if payload else "empty",
                f"a telephone event has 4 bytes, this one {len(payload)}",
            )
        code, bits, duration = PAYLOAD.unpack_from(payload)
        return cls(code, duration, bits >= 0x80, -(bits & 0x3F))

    @property
    def digit(self) -> str | None:
        """The key, where the event is one."""
        return DIGITS[self.code] if self.code < len(DIGITS) else None


@attrs.frozen
class EventPacket:
    """What a :class:`Dialer` wants sent: the parts of an RTP packet that are its business."""

    timestamp: int
    payload: bytes
    marker: bool


class Dialer:
    """Turns keys into packets in time; an engine: ``now`` in seconds, and :attr:`deadline` says when to ask again.

    ``clock_rate`` is the RTP clock of the stream in Hz, ``update_ms`` the time between the packets of one key (50, or the framing).
    Keys last ``duration_ms`` with ``gap_ms`` between them; end packets still due when the next key goes down are sent then at once.
    """

    def __init__(
        self,
        clock_rate: int,
        *,
        duration_ms: int = 100,
        gap_ms: int = 100,
        update_ms: int = 50,
        volume_dbm0: int = -10,
    ) -> None:
        longest_ms = MAX_DURATION * 1000 // clock_rate
        if not MIN_DURATION_MS <= duration_ms <= longest_ms:
            raise LocalError(
                f"a key of {duration_ms} ms; at an RTP clock of {clock_rate} Hz it may last {MIN_DURATION_MS}–{longest_ms} ms"
            )
        if gap_ms < MIN_DURATION_MS:
            raise LocalError(
                f"a gap of {gap_ms} ms between keys; at least {MIN_DURATION_MS} ms is heard as one"
            )
        if not 10 <= update_ms <= 100:
            raise LocalError(f"event updates every {update_ms} ms; 10–100 ms make sense")
        self._clock_rate = clock_rate
        self._duration_s, self._gap_s, self._update_s = duration_ms / 1000, gap_ms / 1000, update_ms / 1000
        self._volume_dbm0 = volume_dbm0
        self._queue: deque[tuple[float, EventPacket]] = deque()
        self._keys: deque[float] = deque()  # when each key that is still in the queue is up and its gap over
        self._free = -math.inf

    @property
    def deadline(self) -> float | None:
        """When :meth:`due` has something next; ``None`` when all is sent."""
        return self._queue[0][0] if self._queue else None

    def press(self, digits: str, now: float, timestamp: int) -> None:
        """Press keys one after another, behind those that are still being sent.

        ``timestamp`` is the stream's RTP timestamp at ``now``. Letters may be lower case. Raises :class:`~ice.errors.LocalError` for what is
        no key and for more than 64 keys waiting; nothing is pressed then.
        """
        digits = digits.upper()
        for digit in digits:
            if digit not in DIGITS:
                raise LocalError(f"{digit!r} is no telephone key; keys are {DIGITS}")
        while self._keys and self._keys[0] <= now:
            self._keys.popleft()
        if len(self._keys) + len(digits) > MAX_QUEUED:
            raise LocalError(
                f"{len(self._keys)} keys are waiting, {len(digits)} more would be over {MAX_QUEUED}"
            )
        for digit in digits:
            start = max(now, self._free)
            self._free = start + self._duration_s + self._gap_s
            self._keys.append(self._free)
            ticks = round((start - now) * self._clock_rate)
            self._schedule(DIGITS.index(digit), start, (timestamp + ticks) & 0xFFFF_FFFF)

    def _schedule(self, code: int, start: float, timestamp: int) -> None:
        total = round(self._duration_s * self._clock_rate)
        updates = math.ceil(self._duration_s / self._update_s - 1e-9)
        for update in range(updates + END_PACKETS - 1):
            end = update >= updates - 1
            duration = total if end else round((update + 1) * self._update_s * self._clock_rate)
            payload = Event(code, duration, end, self._volume_dbm0).encode()
            due = min(start + update * self._update_s, self._free)
            self._queue.append((due, EventPacket(timestamp, payload, update == 0)))

    def due(self, now: float) -> list[EventPacket]:
        """The packets to send now, in order."""
        packets = []
        while self._queue and self._queue[0][0] <= now:
            packets.append(self._queue.popleft()[1])
        return packets


@attrs.frozen
class Press:
    """A key that was pressed far away: which, and the RTP timestamp of its beginning."""

    digit: str
    timestamp: int


class Recogniser:
    """Reads the event packets of one talker and reports each key once, whichever of its packets arrive and in what order.

    A key told in segments (longer than 65,535 clock units) is one key. ``ignored`` counts events that are no keys, ``late`` stragglers of
    keys that nothing was heard of in time: reported now they would come in the wrong order.
    """

    def __init__(self) -> None:
        self.ignored = 0
        self.late = 0
        self._reported: deque[int] = deque(maxlen=REMEMBERED)
        self._newest: tuple[int, Event] | None = None

    def receive(self, timestamp: int, payload: bytes) -> Press | None:
        """The key, at the first packet of its kind; raises :class:`~ice.media.payload.MalformedPayload`."""
        event = Event.decode(payload)
        digit = event.digit
        if digit is None:
            self.ignored += 1
            return None
        if self._newest is not None:
            newest_timestamp, newest = self._newest
            ahead = timestamp_difference(timestamp, newest_timestamp)
            if ahead == 0:
                if event.duration >= newest.duration:
                    self._newest = timestamp, event
                return None
            if timestamp in self._reported:
                return None
            if -LATE_TICKS < ahead < 0:
                self.late += 1
                return None
            # Segments follow each other without a gap; losses may leave several out.
            if event.code == newest.code and not newest.end and ahead > 0 and ahead % MAX_DURATION == 0:
                self._newest = timestamp, event
                self._reported.append(timestamp)
                return None
        self._newest = timestamp, event
        self._reported.append(timestamp)
        return Press(digit, timestamp)

    def reset(self) -> None:
        """Forget the talker: the next event begins a new burst."""
        self._reported.clear()
        self._newest = None


def tone(digit: str, samples: int, *, level_dbov: float = -15.0, rate: int = SAMPLE_RATE) -> Pcm:
    """The sound of a key (ITU-T Q.23), ``int16[samples]`` with soft edges; the higher tone 2 dB above the lower, both together at the level.

    Raises :class:`~ice.errors.LocalError` for what is no key and for a level that would clip (above −6 dBov).
    """
    try:
        low_hz, high_hz = _FREQUENCIES_HZ[digit.upper()]
    except KeyError:
        raise LocalError(f"{digit!r} is no telephone key; keys are {DIGITS}") from None
    twist = 10 ** (2 / 20)  # ETSI ES 201 235-2: lines lose more of the high tone
    low = math.sqrt(2 / (1 + twist * twist)) * 32_768 * 10 ** (level_dbov / 20)
    if low * (1 + twist) > 32_767:
        raise LocalError(f"two tones of {level_dbov} dBov together would clip; at most −6")
    time_s = np.arange(samples) * (2 * math.pi / rate)
    wave = low * np.sin(low_hz * time_s) + low * twist * np.sin(high_hz * time_s)
    return shaped(np.asarray(np.rint(wave), np.int16), rate=rate)
