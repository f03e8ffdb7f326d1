"""The sound of all calls at work: each call's stream is joined under its key, its engine (:class:`~ice.telephony.audio.CallAudio`) is asked every 20 ms, and what it gives is said.

**One clock for all.** A single timer, on a grid, however many calls there are: what a timer comes late is not added up, and who slept makes up for five frames at most (the engine's rule). Calls are spread over
:data:`PHASES` places in the 20 ms, so that sixty of them do not keep the process from its sockets for the time of sixty.

**Keys** of a call's sound are in memory alone, and only as long as the call: each call has :func:`joined <ice.telephony.joining.join_sound>` by itself.

**Lost.** A stream whose path stays closed for :data:`LOST_S` is told as lost, and one on which nobody says anything for :data:`SILENT_S` while it is to be heard: a person's program says silence where nobody speaks, so it is gone.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

import attrs
from twisted.logger import Logger

from ice.media.burst import Sending
from ice.net.alarm import Alarm
from ice.net.clock import Clock, DelayedCall
from ice.streams.interface import Datagram, Network
from ice.telephony.audio import FRAME_S, AudioStatistics, CallAudio
from ice.telephony.causes import Cause
from ice.telephony.joining import join_sound
from ice.telephony.messages import Media
from ice.telephony.voice import LineVoice

PHASES: Final = 4
STEP_S: Final = FRAME_S / PHASES
LOST_S: Final = 30.0
SILENT_S: Final = 10.0  # as long as a person's program waits for us (ice.telephony.handset); a way that is lost is found again sooner
LOOK_S: Final = 1.0
LINE: Final = "line"  # a call has one line


@attrs.define
class SoundTotals:
    """What the sound of calls that are over has come to; packets of people, milliseconds of lines."""

    heard: int = 0
    lost: int = 0
    concealed_ms: float = 0.0
    skipped_ms: float = 0.0
    said: int = 0
    slept_frames: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)

    def add(self, statistics: AudioStatistics) -> None:
        """Add what one call has counted."""
        counters = statistics.stream.counters
        self.heard += counters.received
        self.lost += counters.lost
        for line in statistics.lines.values():
            self.concealed_ms += line.counters.concealed_ms
            self.skipped_ms += line.counters.skipped_ms
            self.refused.update(line.refused)
        self.said += statistics.datagrams_sent
        self.slept_frames += statistics.slept_frames
        self.refused.update(statistics.refused)
        self.refused.update(statistics.stream.refused)

    def copy(self) -> SoundTotals:
        """As they are now."""
        return attrs.evolve(self, refused=self.refused.copy())


class CallSound:
    """The sound of one call."""

    def __init__(
        self,
        clock: Clock,
        network: Network,
        wall: Callable[[], float],
        media: Media,
        trunk: str,
        rate: int,
        alias: str,
        chance: random.Random | None,
    ) -> None:
        self.trunk = trunk
        self.rate = rate
        self.stream_id = media.stream
        self.audio = CallAudio(voice=LineVoice(rate), alias=alias, chance=chance)
        self.audio.add_line(LINE, rate)
        self.phase = 0
        #: Since when the path is closed; None while it is open.
        self.down_since: float | None = clock.seconds()
        self.unsent = 0
        self._clock = clock
        self._stream = join_sound(network, media, self, wall)

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        now = self._clock.seconds()
        self.audio.datagram(datagram.payload, datagram.flags, datagram.source, now, datagram.sequence)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.down_since = None if up else self._clock.seconds()

    def send(self, sendings: Iterable[Sending]) -> None:
        """Say what is due on the stream."""
        for sending in sendings:
            self.unsent += not self._stream.send(sending.payload, sending.flags)

    def leave(self) -> None:
        """Be done with the stream."""
        self._stream.leave()


class Sounds:
    """The sound of all calls; see the module docstring.

    ``say(trunk, call, samples)`` gives a line its next 20 ms, ``keys(call, digits)`` tells keys that people pressed on a stream, ``lost(call, cause)`` that a call's sound is no more. ``wall`` is the time of day.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        network: Network,
        *,
        wall: Callable[[], float],
        say: Callable[[str, UUID, bytes], None],
        keys: Callable[[UUID, str], None],
        lost: Callable[[UUID, Cause], None],
        chance: random.Random | None = None,
    ) -> None:
        #: How late the timer was at worst since somebody asked last, seconds.
        self.latest_s = 0.0
        self._clock = clock
        self._network = network
        self._wall = wall
        self._say = say
        self._keys = keys
        self._lost = lost
        self._chance = chance
        self._sounds: dict[UUID, CallSound] = {}
        self._leaving: dict[str, tuple[CallSound, list[DelayedCall]]] = {}
        self._gone = SoundTotals()
        self._grid = 0.0
        self._step = 0
        self._due = 0.0
        self._running = False
        self._alarm = Alarm(clock, self._turn)
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._sounds)

    def __contains__(self, call: UUID) -> bool:
        return call in self._sounds

    # -- calls

    def open(self, call: UUID, media: Media, trunk: str, rate: int, alias: str) -> None:
        """Join the stream of a call, with a line at ``rate`` Hz of ``trunk``; nothing flows yet.

        Raises :class:`~ice.errors.LocalError` for a rate that lines do not have, and where Opus is not there.
        """
        self.close(call)
        self._left(media.stream)
        sound = CallSound(self._clock, self._network, self._wall, media, trunk, rate, alias, self._chance)
        crowds = Counter(each.phase for each in self._sounds.values())
        sound.phase = min(range(PHASES), key=lambda phase: crowds[phase])
        self._sounds[call] = sound
        if not self._running:
            self._running = True
            self._grid, self._step = self._clock.seconds(), sound.phase - 1
            self._arm()

    def flow(self, call: UUID, to_user: bool, to_line: bool) -> None:
        """Open and close the directions."""
        if (sound := self._sounds.get(call)) is not None:
            sound.audio.flow(to_user, to_line, self._clock.seconds())

    def digits(self, call: UUID, digits: str) -> None:
        """Say keys of the line on the stream."""
        if (sound := self._sounds.get(call)) is not None:
            sound.audio.line_digits(digits, self._clock.seconds())

    def heard(self, trunk: str, call: UUID, rate: int, samples: bytes) -> bool:
        """A line of ``trunk`` has spoken; False where it is none of these calls."""
        sound = self._sounds.get(call)
        if sound is None or sound.trunk != trunk:
            return False
        sound.audio.line_sound(LINE, rate, samples, self._clock.seconds())
        return True

    def close(self, call: UUID) -> None:
        """End what is said, and leave the stream as soon as that is out (within 60 ms)."""
        sound = self._sounds.pop(call, None)
        if sound is None:
            return
        self._gone.add(sound.audio.statistics())
        now = self._clock.seconds()
        timers: list[DelayedCall] = []
        last = 0.0
        for sending in sound.audio.finish(now):
            last = max(0.0, sending.due - now)
            timers.append(self._clock.callLater(last, sound.send, (sending,)))
        timers.append(self._clock.callLater(last, self._left, sound.stream_id))
        self._leaving[sound.stream_id] = (sound, timers)

    def stop(self) -> None:
        """Leave all streams at once."""
        for call in list(self._sounds):
            self.close(call)
        for stream_id in list(self._leaving):
            self._left(stream_id)
        self._running = False
        self._alarm.cancel()

    # -- what is known

    def take_latest(self) -> float:
        """How late the timer was at worst since this was asked last, seconds."""
        latest, self.latest_s = self.latest_s, 0.0
        return latest

    def statistics(self, call: UUID) -> AudioStatistics | None:
        """What a call's sound has counted; None for a call that has none."""
        sound = self._sounds.get(call)
        return None if sound is None else sound.audio.statistics()

    def rate(self, call: UUID) -> int:
        """The rate of a call's line, Hz; 0 for a call that has none."""
        sound = self._sounds.get(call)
        return 0 if sound is None else sound.rate

    def totals(self) -> SoundTotals:
        """What the sound of all calls has counted since the start."""
        totals = self._gone.copy()
        for sound in self._sounds.values():
            totals.add(sound.audio.statistics())
        return totals

    # -- within

    def _left(self, stream_id: str) -> None:
        found = self._leaving.pop(stream_id, None)
        if found is None:
            return
        sound, timers = found
        for timer in timers:
            if timer.active():
                timer.cancel()
        sound.leave()

    def _arm(self) -> None:
        """Set the timer to the next step at which any call is due."""
        phases = {sound.phase for sound in self._sounds.values()}
        following = range(self._step + 1, self._step + 1 + PHASES)
        step = next(step for step in following if step % PHASES in phases)
        self._due = self._grid + step * STEP_S
        self._alarm.set(self._due)

    def _turn(self) -> None:
        """The timer: every call whose phase has come."""
        now = self._clock.seconds()
        self.latest_s = max(self.latest_s, now - self._due)
        step = math.floor((now - self._grid) / STEP_S + 1e-6)
        for each in range(max(self._step + 1, step - PHASES + 1), step + 1):
            at = self._grid + each * STEP_S
            for call, sound in list(self._sounds.items()):
                if sound.phase == each % PHASES and call in self._sounds:
                    self._tick(call, sound, at)
        self._step = step
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._watch(now)
        if self._sounds and self._running:
            self._arm()
        else:
            self._running = False

    def _tick(self, call: UUID, sound: CallSound, at: float) -> None:
        try:
            turn = sound.audio.tick(at)
        except Exception:
            self._log.failure("the sound of call {call} failed", call=str(call))
            self._lost(call, Cause.FAILED)
            return
        sound.send(turn.to_stream)
        for _, samples in turn.to_lines:
            self._say(sound.trunk, call, samples)
        if turn.digits:
            self._keys(call, turn.digits)

    def _watch(self, now: float) -> None:
        for call, sound in list(self._sounds.items()):
            if sound.down_since is not None and now - sound.down_since > LOST_S:
                self._log.warn(
                    "call {call}: its stream was not reached for {seconds:g} s",
                    call=str(call),
                    seconds=LOST_S,
                )
                self._lost(call, Cause.MEDIA_LOST)
            elif sound.audio.silent_s(now) > SILENT_S:
                self._log.info(
                    "call {call}: nothing came of its person for {seconds:g} s",
                    call=str(call),
                    seconds=SILENT_S,
                )
                self._lost(call, Cause.MEDIA_LOST)
