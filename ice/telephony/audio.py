"""The sound of one call: people on a full-duplex stream at one end, telephone lines at the other.

An engine: time is an argument. :meth:`CallAudio.datagram` takes what is heard on the stream, :meth:`CallAudio.line_sound` what a line says;
:meth:`CallAudio.tick`, asked every 20 ms by *our* clock, gives what is to be said to both. The output is never clocked by an input: a line sends nothing while its
far side is silent, and wants to be sent something always.

**Who hears whom.** People on the stream hear each other there, without us. To the stream goes the sum of all lines; to each line the sum of everybody on the stream and of all *other* lines (mix-minus). So
nobody's own sound ever comes back to him: no echo canceller is needed, because there is nothing to cancel. What carries our own RTP source, wherever it comes from, is refused (``own``).

**Clocks.** Each person has a jitter buffer (:mod:`ice.media.playout`), each line a :class:`~ice.telephony.line_buffer.LineBuffer`; both follow the clock of what comes in.

**Keys.** Telephone events on the stream (RFC 4733) come out as digits for the lines (:attr:`Turn.digits`); digits of a line become telephone events on the stream.

**Flow.** :meth:`CallAudio.flow` opens and closes each direction: before the answer, on hold. A line whose direction is closed is sent noise all the same, since a call manager takes a line
that is sent nothing for dead; on the stream a closed direction is silence, the burst is ended.

**Latency**, with buffers at rest and frames of 20 ms: line to stream some 25 ms from a frame's arrival to its datagram, and the encoder's 6.5 ms; stream to line what the jitter buffer
holds, 40 ms at first and then what the path needs, 25 ms at the least. Resamplers add 2 ms at 8 kHz, nothing at 48 kHz.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.burst import BurstSender, Sending
from ice.media.codecs import Encoder
from ice.media.dtmf import DIGITS, Dialer
from ice.media.mixer import Limiter, Sum, accumulate
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.playout import DigitPressed, Event, Listener, ListenerStatistics
from ice.media.resample import Downsampler
from ice.telephony.comfort import LEVEL_DBOV, ComfortNoise
from ice.telephony.line_buffer import FRAME, FRAME_MS, LineBuffer, LineCounters
from ice.telephony.voice import LineVoice

FRAME_S: Final = FRAME_MS / 1000
CATCH_UP: Final = 5  # frames that a late tick makes up for; what was slept through beyond is gone
WIDE: Final = 16_000  # Hz, of lines that can do more than a telephone
LINES_MAX: Final = 16  # of one call; more is a conference bridge's business


@attrs.frozen
class Turn:
    """What is to be said now.

    ``to_stream``: datagrams, in order; ``to_lines``: (line, samples at its rate, 16 bit little-endian), in order; ``digits``: keys that people on the stream pressed, for the lines;
    ``events``: who began and ended to talk.
    """

    to_stream: tuple[Sending, ...]
    to_lines: tuple[tuple[str, bytes], ...]
    digits: str
    events: tuple[Event, ...]


NOTHING: Final = Turn((), (), "", ())


@attrs.frozen
class LineStatistics:
    """One line: its buffer's counters and state."""

    rate: int
    counters: LineCounters
    waiting_ms: float
    target_ms: float
    drift_ppm: float
    refused: Mapping[str, int]


@attrs.frozen
class AudioStatistics:
    """All that a call's sound has counted."""

    stream: ListenerStatistics
    lines: Mapping[str, LineStatistics]
    refused: Mapping[str, int]
    datagrams_sent: int
    frames: int
    slept_frames: int  #: that were never made, because nobody asked in time


class FrameClock:
    """When frames are due, by our clock: one every 20 ms from the first question on. A late question makes up for a few; what was slept through beyond is gone."""

    def __init__(self) -> None:
        self.next_at: float | None = None
        #: Frames that were never made, because nobody asked in time.
        self.slept = 0

    def due(self, now: float) -> list[float]:
        """The frames that are due, each by its time; asking counts them as made."""
        if self.next_at is None:
            self.next_at = now
        behind = math.floor((now - self.next_at) / FRAME_S + 1e-6) + 1
        if behind > CATCH_UP:
            self.slept += behind - CATCH_UP
            self.next_at += (behind - CATCH_UP) * FRAME_S
            behind = CATCH_UP
        times = []
        for _ in range(behind):
            times.append(self.next_at)
            self.next_at += FRAME_S
        return times


class Line:
    """One line: its buffer, and the way back to its rate. Raises :class:`~ice.errors.LocalError` for a rate that lines do not have."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.buffer = LineBuffer(rate)
        self.limiter = Limiter()
        self.down = Downsampler(SAMPLE_RATE // rate) if rate != SAMPLE_RATE else None
        self.refused: Counter[str] = Counter()
        self.heard_at = float("-inf")

    def hear(self, rate: int, samples: bytes, now: float) -> None:
        """The line has spoken; what comes at another rate or as half a sample is counted and dropped."""
        if rate != self.rate:
            self.refused["rate"] += 1
        elif len(samples) < 2:
            self.refused["empty"] += 1
        else:
            self.heard_at = now
            self.buffer.feed(samples, now)

    def encode(self, pcm: Pcm) -> bytes:
        """A frame of 48 kHz as the line wants it: 16 bit little-endian at its rate."""
        if self.down is not None:
            pcm = self.down.process(pcm)
        return pcm.astype("<i2").tobytes()

    def statistics(self) -> LineStatistics:
        """The counters as they are now."""
        buffer = self.buffer
        return LineStatistics(
            self.rate,
            attrs.evolve(buffer.counters),
            buffer.waiting_ms,
            buffer.target_ms,
            buffer.drift_ppm,
            MappingProxyType(dict(self.refused)),
        )


class CallAudio:
    """The sound of one call; see the module docstring. Not for use from two threads at once.

    ``voice`` encodes what the stream hears, in frames of 20 ms (:class:`~ice.telephony.voice.LineVoice` for the rate of the lines, 16 kHz unless given); ``alias`` is what people see of the line. ``noise_dbov`` is the level of
    comfort noise, −127 for none. ``chance`` is where RTP's random numbers come from.

    Raises :class:`~ice.errors.LocalError` for an encoder of other frames.
    """

    def __init__(
        self,
        *,
        voice: Encoder | None = None,
        alias: str = "",
        priority: int = 0,
        payload_types: PayloadMap = DEFAULT,
        noise_dbov: float = LEVEL_DBOV,
        jitter_max_ms: float = 500.0,
        chance: random.Random | None = None,
    ) -> None:
        voice = voice if voice is not None else LineVoice(WIDE)
        if voice.samples != FRAME:
            raise LocalError(f"a call speaks in frames of {FRAME_MS} ms, not of {voice.framing_ms}")
        self._sender = BurstSender(
            voice, alias=alias, priority=priority, payload_types=payload_types, chance=chance
        )
        self._clock_rate = voice.codec.clock_rate
        self._dialer = Dialer(self._clock_rate)
        self._limiter = Limiter()
        self._listener = Listener(jitter_max_ms=jitter_max_ms, payload_types=payload_types)
        self._events = payload_types.telephone_event is not None
        self._lines: dict[str, Line] = {}
        self._noise = ComfortNoise(noise_dbov)
        self._stream_noise = ComfortNoise(noise_dbov, SAMPLE_RATE)
        self._to_stream = self._to_lines = False
        self._clock = FrameClock()
        self._releasing: list[Sending] = []
        self._refused: Counter[str] = Counter()
        self._frames = 0
        self._stream_heard_at = self._opened_at = float("-inf")

    # -- lines

    def add_line(self, name: str, rate: int) -> None:
        """A line takes part, with sound at ``rate`` Hz (8, 12, 16, 24 or 48 kHz).

        Raises :class:`~ice.errors.LocalError` for another rate, a name that is there already, and more than 16 lines.
        """
        if name in self._lines or len(self._lines) >= LINES_MAX:
            raise LocalError(f"line {name!r} takes part already, or there are {LINES_MAX}")
        self._lines[name] = Line(rate)

    def remove_line(self, name: str) -> None:
        """A line takes part no more; one that is not there is no error."""
        self._lines.pop(name, None)

    def flow(self, to_stream: bool, to_lines: bool, now: float) -> None:
        """Open and close the two directions; both are closed at first."""
        if to_stream and not self._to_stream:
            following = self._clock.next_at
            self._sender.press(following if following is not None else now)
        elif not to_stream and self._to_stream:
            self._releasing += self._sender.release(now)
            self._dialer = Dialer(self._clock_rate)  # keys that were on their way are gone with the burst
        if to_lines and not self._to_lines:
            self._opened_at = now
        self._to_stream, self._to_lines = to_stream, to_lines

    # -- in

    def datagram(
        self, payload: bytes, flags: int, source: int, now: float, sequence: int | None = None
    ) -> None:
        """A datagram was heard on the stream; as :meth:`ice.media.playout.Listener.datagram`."""
        if len(payload) >= 12 and int.from_bytes(payload[8:12], "big") == self._sender.ssrc:
            self._refused["own"] += 1
            return
        self._stream_heard_at = now
        self._listener.datagram(payload, flags, source, now, sequence)

    def line_sound(self, name: str, rate: int, samples: bytes, now: float) -> None:
        """A line has spoken; what comes of an unknown line, at another rate or as half a sample is counted and dropped."""
        line = self._lines.get(name)
        if line is None:
            self._refused["no-line"] += 1
        else:
            line.hear(rate, samples, now)

    def line_digits(self, digits: str, now: float) -> bool:
        """Keys were pressed at a line: said as telephone events; ``False`` (and counted) where that cannot be."""
        if not self._to_stream or not self._events:
            self._refused["digits-unheard"] += 1
            return False
        if not digits or any(digit not in DIGITS for digit in digits):
            self._refused["digits"] += 1
            return False
        try:
            self._dialer.press(digits, now, self._sender.timestamp)
        except LocalError:  # more than 64 keys wait
            self._refused["digits-many"] += 1
            return False
        return True

    def finish(self, now: float) -> tuple[Sending, ...]:
        """The call is over: what is still to be said on the stream, each when it is due (within 60 ms)."""
        self.flow(False, False, now)
        rest, self._releasing = tuple(self._releasing), []
        return rest

    # -- out

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is next due; ``None`` before the first."""
        return self._clock.next_at

    def tick(self, now: float) -> Turn:
        """What is to be said, for each 20 ms that have passed; the first call begins the count."""
        times = self._clock.due(now)
        if not times and not self._releasing:
            return NOTHING
        to_stream = [sending for sending in self._releasing if sending.due <= now]
        self._releasing = [sending for sending in self._releasing if sending.due > now]
        to_lines: list[tuple[str, bytes]] = []
        digits = ""
        events: list[Event] = []
        for at in times:
            self._frame(at, to_stream, to_lines)
            for event in self._listener.events():
                if isinstance(event, DigitPressed):
                    digits += event.digit
                else:
                    events.append(event)
        return Turn(tuple(to_stream), tuple(to_lines), digits, tuple(events))

    def _frame(self, now: float, to_stream: list[Sending], to_lines: list[tuple[str, bytes]]) -> None:
        """20 ms of everything."""
        self._frames += 1
        people = self._listener.pull(FRAME, now)
        silent = not people.any()
        voices = {name: line.buffer.pull(now) for name, line in self._lines.items()}
        spoken = [pcm for pcm in voices.values() if pcm is not None]
        lines: Sum = accumulate(spoken) if spoken else np.zeros(FRAME, np.int32)
        if self._to_stream:
            out = self._limiter.limit(lines) if spoken else self._stream_noise.take(FRAME)
            to_stream += self._sender.pcm(out)
            to_stream += [self._sender.event(event, now) for event in self._dialer.due(now)]
        for name, line in self._lines.items():
            own = voices[name]
            alone = silent and not (len(spoken) - (own is not None))
            if alone or not self._to_lines:
                to_lines.append((name, line.encode(self._noise.take(FRAME))))
                continue
            rest = lines + people if own is None else lines + people - own
            to_lines.append((name, line.encode(line.limiter.limit(rest))))

    # -- what is known

    def silent_s(self, now: float) -> float:
        """For how long nothing has come from the stream though it is to be heard; 0 where it is not. People's programs say silence where nobody speaks."""
        return now - max(self._stream_heard_at, self._opened_at) if self._to_lines else 0.0

    def heard_at(self) -> tuple[float, float]:
        """When something last came from the stream, and from any line; minus infinity for never."""
        lines = max((line.heard_at for line in self._lines.values()), default=float("-inf"))
        return self._stream_heard_at, lines

    def statistics(self) -> AudioStatistics:
        """The counters as they are now."""
        lines = {name: line.statistics() for name, line in self._lines.items()}
        return AudioStatistics(
            self._listener.statistics(),
            MappingProxyType(lines),
            MappingProxyType(dict(self._refused)),
            self._sender.datagrams,
            self._frames,
            self._clock.slept,
        )
