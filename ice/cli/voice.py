"""What ``talk``, ``listen`` and ``check-radio`` share: the way to a stream, and a listener with a playout clock.

Each is a thin driver. Who is heard, and how, is decided in :mod:`ice.media.playout`; how a Rallypoint is found in
:mod:`ice.streams.rallypoint`. Here a clock turns them. The talker is in :mod:`ice.cli.mouth`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, Protocol

import numpy as np
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ice.cli.display import Display, Meter, plural
from ice.cli.loop import Stop, first, sleep
from ice.cli.pacing import MediaClock
from ice.cli.trace import Trace
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.link.naming import format_u64
from ice.media.devices import Loudspeaker
from ice.media.floor_ears import FloorEars
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.playout import BurstBegan, BurstEnded, DigitPressed, Listener, TalkerNamed
from ice.net.clock import Clock, DelayedCall
from ice.streams.interface import Datagram

FRAME: Final = SAMPLE_RATE // 50  # samples pulled at a time: 20 ms
FRAME_S: Final = FRAME / SAMPLE_RATE
AHEAD: Final = 2 * FRAME  # what a loudspeaker has in hand: bridges our timers, and is hardly noticed
MAX_FRAMES_A_TURN: Final = 10
MAX_FILL_S: Final = 60.0  # of silence written for a process that stood still; longer is another recording


class Way:
    """Whether the path of a stream is open, told to a person, and a way to wait for it."""

    def __init__(self, display: Display, stream_id: str) -> None:
        self.up = False
        #: Times that an open path was lost.
        self.losses = 0
        #: Set by who leaves: what happens to the path afterwards is no news.
        self.leaving = False
        self._display = display
        self._stream_id = stream_id
        self._said = ""
        self._homes: tuple[str, ...] = ()
        self._waiting: list[Deferred[None]] = []

    def path(self, up: bool, why: str) -> None:
        """Half of :class:`ice.streams.interface.Receiver`."""
        if self.leaving:
            return
        if self.up and not up:
            self.losses += 1
        self.up = up
        word = "connected to" if up else "no way to"
        self._display.say("path", f"{word} '{self._stream_id}': {why}", up=up, why=why)
        if up:
            while self._waiting:
                self._waiting.pop(0).callback(None)

    def notice(self, notice: Any) -> None:
        """What a network tells; the same failure again and again is one line."""
        homes: tuple[str, ...] = getattr(notice, "homes", ())
        if notice.kind in ("failed", "refused"):
            if notice.text != self._said:
                self._said = notice.text
                yet = "no further link yet" if homes and notice.kind == "failed" else "not connected yet"
                self._display.say("trying", f"{yet}: {notice.text}", code=notice.code, why=notice.text)
        elif homes != self._homes and max(len(homes), len(self._homes)) > 1 and not self.leaving:
            stand = "one link stands: " if len(homes) == 1 else f"{len(homes)} links stand: "
            self._display.say("homes", stand + " and ".join(homes), homes=list(homes))
        self._homes = homes

    async def opened(self, clock: Clock, stop: Stop, timeout_s: float | None, network: Any) -> bool:
        """Wait until the path is open; false when we are asked to stop first.

        Raises :class:`~ice.errors.LocalError` with the last that went wrong after ``timeout_s``.
        """
        if self.up:
            return True
        up: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(up)
        ways = [up, stop.wait()] + ([sleep(clock, timeout_s)] if timeout_s is not None else [])
        index = await first(*ways)
        if index == 2:
            why = getattr(network, "why", "") or "no Rallypoint has answered"
            raise LocalError(f"not connected to '{self._stream_id}' within {timeout_s:g} s: {why}")
        return index == 0


class Heard(Protocol):
    """What a :class:`Playout` pulls sound from: an :class:`Ear`, or several in an :class:`ice.cli.room.Room`."""

    samples: int | None

    def pull(self, samples: int, ahead_s: float = 0.0) -> Pcm:
        """The next ``int16[samples]``, which will sound in ``ahead_s``."""


class Sink(Protocol):
    """Where heard sound goes."""

    def write(self, pcm: Pcm) -> None:
        """Append ``int16[n]``, 48 kHz mono."""


class Ear:
    """Hears a stream and tells what happens: an :class:`ice.streams.interface.Receiver`.

    A :class:`Playout` pulls the sound.
    """

    def __init__(
        self,
        clock: Clock,
        listener: Listener,
        way: Way,
        display: Display,
        *,
        trace: Trace | None = None,
        floor: FloorEars | None = None,
    ) -> None:
        """``floor``: where one talks at a time, who is not to be heard meanwhile."""
        self.listener = listener
        #: When somebody was last heard to talk, or when we began.
        self.busy_at = clock.seconds()
        #: Samples given out since the first burst; none before it.
        self.samples: int | None = None
        self.ended: list[BurstEnded] = []
        self.began: list[BurstBegan] = []
        self._clock = clock
        self._way = way
        self._display = display
        self._trace = trace
        self._floor = floor
        self._unplayable: set[int] = set()  # payload types that were told

    # -- ice.streams.interface.Receiver

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if self._trace is not None:
            self._trace.write(
                "heard", datagram.source, datagram.sequence, datagram.flags, len(datagram.payload)
            )
        now = self._clock.seconds()
        self.listener.datagram(datagram.payload, datagram.flags, datagram.source, now, datagram.sequence)
        if self._floor is not None:
            self._floor.datagram(datagram.payload, datagram.flags, now)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._way.path(up, why)

    # -- sound and events

    def pull(self, samples: int, ahead_s: float = 0.0) -> Pcm:
        """The next ``int16[samples]``, which will sound in ``ahead_s``; events are told."""
        now = self._clock.seconds()
        self.tell()
        if self._floor is not None:
            self._floor.floor.tick(now)
            self.listener.muted = self._floor.floor.muted
        pcm = self.listener.pull(samples, now + ahead_s)
        self.tell()
        if not self.listener.idle:
            self.busy_at = now
        if self.samples is not None:
            self.samples += samples
        return pcm

    def tell(self) -> None:
        """Tell what has happened since the last time."""
        for event in self.listener.events():
            if isinstance(event, BurstBegan):
                if self.samples is None:
                    self.samples = 0
                self.began.append(event)
                self._tell_began(event)
            elif isinstance(event, BurstEnded):
                self.ended.append(event)
                self._tell_ended(event)
            elif isinstance(event, TalkerNamed):
                name = name_of(event.alias, event.source)
                self._display.say(
                    "named", f"{name} talks{_urgency(event)}", **self._who(event.source, event.alias),
                    priority=event.priority, emergency=event.emergency,
                )  # fmt: skip
            elif isinstance(event, DigitPressed):
                self._display.say(
                    "digit", f"{name_of('', event.source)} pressed {event.digit}",
                    **self._who(event.source, ""), digit=event.digit,
                )  # fmt: skip
        for number, why in self.listener.unplayable.items():
            if number not in self._unplayable:
                self._unplayable.add(number)
                self._display.say(
                    "unplayable", f"something came that cannot be played: {why}", payload_type=number, why=why
                )

    def meters(self) -> list[Meter]:
        """Who talks now."""
        now = self._clock.seconds()
        known = {(each.source, each.ssrc): each for each in self.listener.statistics().talkers}
        rows = []
        for talking in self.listener.talking(now):
            talker = known.get((talking.source, talking.ssrc))
            counters = talker.counters if talker is not None else None
            rows.append(
                Meter(
                    name=name_of(talking.alias, talking.source),
                    level_dbov=talking.level_dbov,
                    seconds=talking.duration_s,
                    packets=counters.received if counters else 0,
                    lost=counters.lost if counters else 0,
                    late=counters.late if counters else 0,
                    delay_ms=talker.delay_ms if talker else None,
                    emergency=talking.emergency,
                )
            )
        return rows

    @property
    def at_s(self) -> float:
        """Seconds of sound given out since the first burst began."""
        return (self.samples or 0) / SAMPLE_RATE

    def _who(self, source: int, alias: str) -> dict[str, object]:
        return {"at_s": self.at_s, "source": format_u64(source), "alias": alias}

    def _tell_began(self, event: BurstBegan) -> None:
        self._display.say(
            "began", f"{name_of(event.alias, event.source)} began to talk ({event.codec}){_urgency(event)}",
            **self._who(event.source, event.alias),
            codec=event.codec, priority=event.priority, emergency=event.emergency,
        )  # fmt: skip

    def _tell_ended(self, event: BurstEnded) -> None:
        counters = event.counters
        how = "" if event.why == "mark" else f" (ended by {event.why})"
        self._display.say(
            "ended",
            f"{name_of(event.alias, event.source)} ended: {event.duration_s:.1f} s, "
            f"{plural(counters.received, 'packet')}, {counters.lost} lost, {counters.late} late{how}",
            **self._who(event.source, event.alias),
            seconds=event.duration_s, why=event.why, packets=counters.received, played=counters.played,
            lost=counters.lost, late=counters.late, missing=counters.missing,
            concealed_ms=counters.concealed_ms, recovered=counters.recovered,
            skipped=counters.skipped, duplicate=counters.duplicate,
        )  # fmt: skip


class Playout(ABC):
    """Turns an :class:`Ear` into a sink, 20 ms at a time: :meth:`_turn` says whose clock sets the pace."""

    def __init__(self, clock: Clock, ear: Heard, sink: Sink) -> None:
        self._clock = clock
        self._ear = ear
        self._sink = sink
        self._call: DelayedCall | None = None
        self._failure: Failure | None = None
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin."""
        self._call = self._clock.callLater(0, self._run)

    def stop(self) -> None:
        """Pull no more; stopping twice is harmless."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def stuck(self) -> Deferred[None]:
        """Fails when the sink takes no more (a full disk); cancel it when it is not wanted any more."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self._failure is not None:
            deferred.errback(self._failure)
        else:
            self._waiting.append(deferred)
        return deferred

    def _run(self) -> None:
        self._call = None
        try:
            wait_s = self._turn()
        except LocalError:
            self._failure = Failure()
            while self._waiting:  # one by one, as in ice.cli.loop.Stop
                self._waiting.pop(0).errback(self._failure)
            return
        self._call = self._clock.callLater(wait_s, self._run)

    @abstractmethod
    def _turn(self) -> float:
        """Pull what is due, and say in how many seconds to come again."""


class ClockPlayout(Playout):
    """Into a file, by our own clock; silence between bursts included, so that the sink's time is the clock's time."""

    def __init__(self, clock: Clock, ear: Heard, sink: Sink) -> None:
        super().__init__(clock, ear, sink)
        self._media: MediaClock | None = None
        self._skipped_s = 0.0

    def _turn(self) -> float:
        clock, media = self._clock, self._media
        if media is None:
            media = self._media = MediaClock(FRAME_S, clock.seconds())
        while media.due(clock.seconds()):
            self._fill(media.skipped_s)
            pcm = self._ear.pull(FRAME)
            if self._ear.samples is not None:
                self._sink.write(pcm)
        return max(0.0, media.next_at - clock.seconds())

    def _fill(self, skipped_s: float) -> None:
        """Silence in place of what a stall has swallowed."""
        missing_s, self._skipped_s = skipped_s - self._skipped_s, skipped_s
        if missing_s > 0 and self._ear.samples is not None:
            samples = int(min(missing_s, MAX_FILL_S) * SAMPLE_RATE)
            self._sink.write(silence(samples))
            self._ear.samples += samples


class DevicePlayout(Playout):
    """Into a loudspeaker, by its clock: whenever it has taken some, it gets some."""

    def __init__(self, clock: Clock, ear: Heard, sink: Loudspeaker) -> None:
        super().__init__(clock, ear, sink)
        self._device = sink

    def _turn(self) -> float:
        device = self._device
        # Bounded: a device that takes without end must not keep us from the network.
        for _ in range(MAX_FRAMES_A_TURN):
            if device.buffered >= AHEAD:
                break
            device.write(self._ear.pull(FRAME, ahead_s=device.buffered / SAMPLE_RATE))
        return FRAME_S / 4


def playout_of(clock: Clock, ear: Heard, sink: Sink) -> Playout:
    """The playout that fits the sink."""
    return (
        DevicePlayout(clock, ear, sink) if isinstance(sink, Loudspeaker) else ClockPlayout(clock, ear, sink)
    )


def listener_of(settings: MediaSettings, payload_types: PayloadMap = DEFAULT) -> Listener:
    """A listener with the jitter buffer of the configuration."""
    return Listener(
        payload_types=payload_types,
        jitter_min_ms=settings.jitter_min_ms,
        jitter_max_ms=settings.jitter_max_ms,
        end_of_burst_ms=settings.end_of_burst_ms,
    )


def silence(samples: int) -> Pcm:
    """``int16[samples]`` of nothing."""
    return np.zeros(samples, np.int16)


def name_of(alias: str, source: int) -> str:
    """What a talker is called: its alias, or the part of its source that its identity gives."""
    return alias or f"talker {format_u64(source)[:8]}"


def _urgency(event: BurstBegan | TalkerNamed) -> str:
    words = ["EMERGENCY"] if event.emergency else []
    words += [f"priority {event.priority}"] if event.priority else []
    return f" [{', '.join(words)}]" if words else ""
