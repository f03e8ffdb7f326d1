"""The listener's end of a stream: datagrams in, one mixed sound out, and who is talking.

An engine: time is an argument. :meth:`Listener.datagram` takes each datagram as it arrives, :meth:`Listener.pull` gives the next samples
whenever a loudspeaker, a file or another codec wants some, :meth:`Listener.events` tells what happened since it was last asked.

**Talkers.** A talker is an SSRC of a source (and of an RTP clock: who changes that begins anew). Each has a
:class:`~ice.media.receiver.Receiver`; all that talk are mixed. They are bounded in number, per source and in all, and forgotten after
a while; a source that changes its SSRC with every burst starts with the delay that its last one needed.

**What is lost.** Two counts tell of losses, and they answer different questions: ``missed`` counts gaps in the datagrams' own numbers, so it
is what the network lost of this source; the jitter buffers' ``missing``, ``late`` and ``skipped`` say what the ear did not get, for whatever
reason. A pause, a new count and repeated end marks are in neither.

**Marks.** A burst begins and ends where the link flags or our header extension say so. The RTP marker alone begins one only for talkers who have never
sent anything better, and not twice in a row: some senders set it on everything (ffmpeg does, with Opus and Speex). The link's FIRST is no better than
the marker where it stands on one marked packet after the other: a way into the mesh may have made it of the marker.

**Refusals.** Each datagram that does not become sound is counted under a word: ``data`` (flagged so), ``rtp-…`` (no RTP, and why),
``payload-type`` (nobody here decodes it), ``codec-missing`` (somebody could, were a library installed), ``payload-…`` (cannot be what it says), ``talkers`` (too many at once).
:attr:`Listener.unplayable` says in a sentence per payload type what a person can do about the first two.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs
import numpy as np

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.codecs import Codec, MalformedPayload, Pcm
from ice.media.instruction import Arrival, Counters, Ended
from ice.media.jitter import JitterBuffer
from ice.media.library import CodecMissing
from ice.media.mixer import SILENCE_DBOV, Limiter, accumulate
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.probe import is_probe
from ice.media.receiver import Receiver
from ice.media.rtp import NOBODY, MalformedRtp, Packet, Talk, TalkFlag
from ice.media.table import PCMU

TALKERS_MAX: Final = 64  # at once; more than anybody can follow
TALKERS_PER_SOURCE: Final = 4  # SSRCs of one source: a burst that ends, one that begins, and some confusion
SOURCES_MAX: Final = 1_024  # whose datagram numbers are remembered
FORGET_S: Final = 30.0  # of silence; the original resets a stream after as long
MISSED_MAX: Final = (
    2_000  # a larger forward jump of datagram numbers is a new beginning (as in ice.link.window)
)
EVENTS_MAX: Final = 1_000  # for whoever never asks
FORGOTTEN: Final = "forgotten"  # why a burst ends whose talker had to make room
# Plain numbers: arithmetic with enum members costs a microsecond each, and this is met by every packet.
_FIRST, _LAST, _URGENT, _DATA = int(Flag.FIRST), int(Flag.LAST), int(Flag.URGENT), int(Flag.DATA)
_START, _END = int(TalkFlag.BURST_START), int(TalkFlag.BURST_END)
START_MS: Final = 40.0  # of delay while nothing is known of a path: what a calm one never needs to change


@attrs.frozen
class Talking:
    """Somebody who talks now. ``level_dbov`` of what was pulled last (−127 to 0), ``duration_s`` since the burst began."""

    source: int
    ssrc: int
    alias: str
    priority: int
    emergency: bool
    codec: str
    level_dbov: float
    duration_s: float


@attrs.frozen
class BurstBegan:
    """A burst's first packet arrived at ``at``; its sound follows after the buffer's delay."""

    source: int
    ssrc: int
    at: float
    alias: str
    priority: int
    emergency: bool
    codec: str


@attrs.frozen
class TalkerNamed:
    """Within a burst, it has become known, or has changed, who talks and how urgently."""

    source: int
    ssrc: int
    at: float
    alias: str
    priority: int
    emergency: bool


@attrs.frozen
class BurstEnded:
    """A burst has been played to its end, because of a ``mark``, by ``silence``, as the ``next`` one began, or (``forgotten``) to make room.

    ``counters`` are the burst's own.
    """

    source: int
    ssrc: int
    at: float
    alias: str
    duration_s: float
    why: str
    counters: Counters


@attrs.frozen
class DigitPressed:
    """A telephone key came within a talker's stream (RFC 4733)."""

    source: int
    ssrc: int
    at: float
    digit: str


Event: TypeAlias = BurstBegan | TalkerNamed | BurstEnded | DigitPressed


@attrs.frozen
class TalkerStatistics:
    """One talker that is remembered now; delays in milliseconds above the fastest packet's."""

    source: int
    ssrc: int
    alias: str
    codec: str
    counters: Counters
    corrupt: int
    waiting: int
    jitter_ms: float
    delay_ms: float
    target_ms: float


@attrs.frozen
class ListenerStatistics:
    """All that a listener has counted; ``counters`` sum over all talkers, those already forgotten included."""

    datagrams: int
    octets: int
    missed: int
    refused: Mapping[str, int]
    corrupt: int
    counters: Counters
    talkers: tuple[TalkerStatistics, ...]


@attrs.define
class _Source:
    """What is remembered of a source beyond its SSRCs."""

    highest: int | None = None
    missed: int = 0
    delay_ms: float = START_MS
    gain: float = 1.0


class Listener:
    """Hears a stream; see the module docstring. Not for use from two threads at once.

    ``payload_types`` is what the stream's RTP payload types mean; ``talkers_max`` and ``forget_s`` bound what is remembered. Raises :class:`~ice.errors.LocalError` for settings that cannot be.
    """

    def __init__(
        self,
        *,
        jitter_min_ms: float = 20,
        jitter_max_ms: float = 1_000,
        end_of_burst_ms: float = 500,
        talkers_max: int = TALKERS_MAX,
        forget_s: float = FORGET_S,
        payload_types: PayloadMap = DEFAULT,
    ) -> None:
        if talkers_max < 1:
            raise LocalError(f"a listener hears at least one talker, not {talkers_max}")
        self._settings = (jitter_min_ms, jitter_max_ms, end_of_burst_ms)
        JitterBuffer(
            min_ms=jitter_min_ms, max_ms=jitter_max_ms
        )  # complains now rather than at the first packet
        self._talkers_max = talkers_max
        self._forget_s = forget_s
        #: SSRCs that are not to be heard now (:attr:`ice.media.floor.Floor.muted`); their bursts are followed all the same.
        self.muted: frozenset[int] = frozenset()
        self._payload_types = payload_types
        self._unplayable: dict[int, str] = {}
        self._receivers: dict[tuple[int, int, int], Receiver] = {}
        self._sources: dict[int, _Source] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._limiter = Limiter()
        self._datagrams = self._octets = self._missed = self._corrupt = 0
        self._refused: Counter[str] = Counter()
        self._forgotten = Counters()
        self._swept_at = float("-inf")

    # -- in

    def datagram(
        self, payload: bytes, flags: int, source: int, now: float, sequence: int | None = None
    ) -> None:
        """Take a datagram as it arrived at ``now``; never raises for what it holds.

        ``flags`` (:class:`ice.link.frame.Flag`), ``source`` and ``sequence`` are its name and marks on the link; without ``sequence`` nothing
        can be said about what was missed.
        """
        self._datagrams += 1
        self._octets += len(payload)
        if sequence is not None:
            self._count_missed(self._source(source), sequence)
        if flags & _DATA or is_probe(payload):
            self._refused["data"] += 1
            return
        try:
            packet = Packet.decode(payload)
        except MalformedRtp as error:
            self._refused[f"rtp-{error.reason}"] += 1
            return
        if self._payload_types.is_telephone_event(packet.payload_type):
            self._telephone_event(packet, flags, source, now)
            return
        codec = self._payload_types.codec(packet.payload_type)
        if codec is None or packet.payload_type in self._unplayable:
            self._cannot_play(packet, codec, flags, source, now)
            return
        receiver = self._receiver(source, packet.ssrc, codec, now)
        if receiver is None:
            self._refused["talkers"] += 1
            return
        samples = 0
        if packet.payload:
            try:
                samples = receiver.samples_48k(packet.payload_type, packet.payload)
            except MalformedPayload as error:
                self._refused[f"payload-{error.reason}"] += 1
                return
            except CodecMissing as error:
                self._unplayable[packet.payload_type] = str(error)
                if not receiver.buffer.counters.received:  # nothing of it was ever heard
                    self._forget(receiver)
                self._cannot_play(packet, codec, flags, source, now)
                return
        elif not flags & _LAST:
            self._refused["payload-empty"] += 1
            return
        self._insert(receiver, packet, samples // codec.ticks_to_48k, flags, now)

    @property
    def unplayable(self) -> Mapping[int, str]:
        """Payload types that came and cannot be played, each with a sentence that says why and what helps."""
        return MappingProxyType(self._unplayable)

    def set_gain(self, source: int, gain: float) -> None:
        """Hear a source louder or softer (1 is as it is, 0 not at all); kept for its next bursts.

        Raises :class:`~ice.errors.LocalError` for a gain outside 0–16.
        """
        if not 0.0 <= gain <= 16.0:
            raise LocalError(f"a talker's gain of {gain} is not in 0–16")
        self._source(source).gain = gain
        for receiver in self._receivers.values():
            if receiver.source == source:
                receiver.gain = gain

    # -- out

    def pull(self, samples: int, now: float) -> Pcm:
        """The next ``int16[samples]`` of everybody together; ``now`` is when the first of them sounds."""
        frames: list[Pcm] = []
        gains: list[float] = []
        for receiver in self._receivers.values():
            if receiver.talking_since is None and receiver.buffer.idle:
                continue
            pcm, ended = receiver.pull(samples, now)
            for end in ended:
                self._ended(receiver, end, now)
            if pcm is not None and receiver.ssrc not in self.muted:
                frames.append(pcm)
                gains.append(receiver.gain)
        self._sweep(now)
        if not frames:
            return np.zeros(samples, np.int16)
        if len(frames) == 1 and gains[0] == 1.0 and self._limiter.gain == 1.0:
            return frames[0]  # which is what the limiter would say
        return self._limiter.limit(accumulate(frames, gains))

    def talking(self, now: float) -> tuple[Talking, ...]:
        """Who talks now, the most urgent first."""
        found = [
            Talking(
                receiver.source,
                receiver.ssrc,
                receiver.talk.alias,
                receiver.talk.priority,
                _emergency(receiver),
                receiver.codec.name,
                receiver.level_dbov,
                now - receiver.talking_since,
            )
            for receiver in self._receivers.values()
            if receiver.talking_since is not None
        ]
        return tuple(sorted(found, key=lambda each: (not each.emergency, -each.priority, -each.duration_s)))

    def events(self) -> list[Event]:
        """What happened since this was last asked, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    @property
    def idle(self) -> bool:
        """Whether nobody talks and nothing waits to be heard."""
        return all(r.talking_since is None and r.buffer.idle for r in self._receivers.values())

    def statistics(self) -> ListenerStatistics:
        """The counters as they are now."""
        total = self._forgotten
        for receiver in self._receivers.values():
            total = total.plus(receiver.buffer.counters)
        return ListenerStatistics(
            self._datagrams,
            self._octets,
            self._missed,
            MappingProxyType(dict(self._refused)),
            self._corrupt + sum(receiver.corrupt for receiver in self._receivers.values()),
            total.copy(),
            tuple(_statistics(receiver) for receiver in self._receivers.values()),
        )

    def missed_of(self, source: int) -> int:
        """Datagrams of that source that the network lost, as far as its numbers tell."""
        known = self._sources.get(source)
        return known.missed if known is not None else 0

    # -- within

    def _insert(
        self, receiver: Receiver, packet: Packet, ticks: int, flags: int, now: float, *, aside: bool = False
    ) -> None:
        talk, marks = NOBODY, 0
        if packet.extension is not None:
            talk = Talk.from_extension(packet.extension)
            marks = int(talk.flags)
        marked_again = packet.marker and receiver.marker_before
        first = bool(marks & _START or (flags & _FIRST and not marked_again))
        last = bool(flags & _LAST or marks & _END)
        receiver.marks = receiver.marks or first or last
        if packet.marker and not receiver.marks and not marked_again:
            first = True
        receiver.marker_before = packet.marker and not last
        receiver.last_heard_at = now
        buffer = receiver.buffer
        payload = b"" if aside or not packet.payload else bytes((packet.payload_type,)) + packet.payload
        if receiver.talking_since is None:
            receiver.counted = buffer.counters.copy()
        arrival = buffer.insert(
            packet.sequence, packet.timestamp, now, payload, ticks, first=first, last=last, aside=aside
        )
        if arrival is not Arrival.WAITING:
            return
        if first:
            receiver.urgent = False
            receiver.talk = attrs.evolve(receiver.talk, flags=TalkFlag(0))
        before = receiver.talk, receiver.urgent
        if talk is not NOBODY and talk != NOBODY:
            receiver.talk = attrs.evolve(talk, flags=talk.flags & TalkFlag.EMERGENCY)
        receiver.urgent = receiver.urgent or bool(flags & _URGENT)
        if receiver.talking_since is None:
            self._began(receiver, now)
        elif before != (receiver.talk, receiver.urgent) and not first:
            who = receiver.talk
            self._events.append(
                TalkerNamed(
                    receiver.source, receiver.ssrc, now, who.alias, who.priority, _emergency(receiver)
                )
            )

    def _began(self, receiver: Receiver, now: float) -> None:
        receiver.talking_since = now
        who = receiver.talk
        self._events.append(
            BurstBegan(
                receiver.source,
                receiver.ssrc,
                now,
                who.alias,
                who.priority,
                _emergency(receiver),
                receiver.codec.name,
            )
        )

    def _ended(self, receiver: Receiver, end: Ended, now: float) -> None:
        since = receiver.talking_since if receiver.talking_since is not None else now
        counters = receiver.buffer.counters.since(receiver.counted)
        self._events.append(
            BurstEnded(
                receiver.source,
                receiver.ssrc,
                now,
                receiver.talk.alias,
                max(0.0, now - since),
                end.why,
                counters,
            )
        )
        self._source(receiver.source).delay_ms = receiver.buffer.target_ms
        receiver.talking_since = None
        receiver.counted = receiver.buffer.counters.copy()
        if receiver.buffer.idle or end.why == FORGOTTEN:
            receiver.urgent = False
            receiver.level_dbov = SILENCE_DBOV
        else:  # the next burst waits already
            self._began(receiver, now)

    def _telephone_event(self, packet: Packet, flags: int, source: int, now: float) -> None:
        receiver = self._find(source, packet.ssrc)
        if receiver is None:  # keys alone: they come with the clock of telephones, which no sound contradicts
            receiver = self._receiver(source, packet.ssrc, PCMU, now)
            if receiver is None:
                self._refused["talkers"] += 1
                return
        try:
            press = receiver.recogniser.receive(packet.timestamp, packet.payload)
        except MalformedPayload as error:
            self._refused[f"payload-{error.reason}"] += 1
            return
        if press is not None:
            self._events.append(DigitPressed(source, packet.ssrc, now, press.digit))
        self._insert(receiver, packet, 0, flags, now, aside=True)

    def _cannot_play(self, packet: Packet, codec: Codec | None, flags: int, source: int, now: float) -> None:
        """Count what nobody here decodes, and say why once."""
        self._refused["payload-type" if codec is None else "codec-missing"] += 1
        if packet.payload_type not in self._unplayable:
            self._unplayable[packet.payload_type] = self._payload_types.explain(packet.payload_type)
        receiver = self._find(source, packet.ssrc)
        if receiver is not None:  # its number is used, whatever it is
            self._insert(receiver, packet, 0, flags, now, aside=True)

    def _find(self, source: int, ssrc: int) -> Receiver | None:
        """The receiver of an SSRC that was heard last, whatever its clock."""
        found = [r for r in self._receivers.values() if r.source == source and r.ssrc == ssrc]
        return max(found, key=lambda receiver: receiver.last_heard_at, default=None)

    def _receiver(self, source: int, ssrc: int, codec: Codec, now: float) -> Receiver | None:
        key = source, ssrc, codec.clock_rate
        receiver = self._receivers.get(key)
        if receiver is not None:
            return receiver
        of_source = [r for r in self._receivers.values() if r.source == source]
        if len(of_source) >= TALKERS_PER_SOURCE:
            self._forget(min(of_source, key=lambda each: each.last_heard_at))
        elif len(self._receivers) >= self._talkers_max:
            silent = [r for r in self._receivers.values() if r.talking_since is None and r.buffer.idle]
            if not silent and not of_source:
                return None
            self._forget(min(silent or of_source, key=lambda each: each.last_heard_at))
        known = self._source(source)
        least_ms, most_ms, end_ms = self._settings
        buffer = JitterBuffer(
            codec.clock_rate, min_ms=least_ms, max_ms=most_ms, start_ms=known.delay_ms, end_of_burst_ms=end_ms
        )
        receiver = self._receivers[key] = Receiver(source, ssrc, codec, buffer, self._payload_types)
        receiver.gain = known.gain
        receiver.last_heard_at = now
        return receiver

    def _forget(self, receiver: Receiver) -> None:
        receiver.buffer.abandon()
        if receiver.talking_since is not None:
            self._ended(receiver, Ended(FORGOTTEN), receiver.last_heard_at)
        self._forgotten = self._forgotten.plus(receiver.buffer.counters)
        self._corrupt += receiver.corrupt
        del self._receivers[receiver.source, receiver.ssrc, receiver.codec.clock_rate]

    def _sweep(self, now: float) -> None:
        """Forget the long silent, once a second."""
        if now - self._swept_at < 1.0:
            return
        self._swept_at = now
        for receiver in list(self._receivers.values()):
            if receiver.talking_since is None and now - receiver.last_heard_at > self._forget_s:
                self._forget(receiver)

    def _source(self, source: int) -> _Source:
        known = self._sources.get(source)
        if known is None:
            if len(self._sources) >= SOURCES_MAX:
                del self._sources[next(iter(self._sources))]
            known = self._sources[source] = _Source()
        return known

    def _count_missed(self, source: _Source, sequence: int) -> None:
        """Serial arithmetic of 32 bits (RFC 1982); each datagram arrives at most once, so one behind the highest was counted as missed."""
        if source.highest is None:
            source.highest = sequence
            return
        ahead = ((sequence - source.highest + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        if 0 < ahead <= MISSED_MAX:
            source.missed += ahead - 1
            self._missed += ahead - 1
        elif -MISSED_MAX <= ahead < 0:
            if source.missed:
                source.missed -= 1
                self._missed -= 1
            return
        source.highest = sequence


def _emergency(receiver: Receiver) -> bool:
    return receiver.urgent or bool(receiver.talk.flags & TalkFlag.EMERGENCY)


def _statistics(receiver: Receiver) -> TalkerStatistics:
    buffer = receiver.buffer
    return TalkerStatistics(
        receiver.source,
        receiver.ssrc,
        receiver.talk.alias,
        receiver.codec.name,
        buffer.counters.copy(),
        receiver.corrupt,
        buffer.waiting,
        buffer.jitter_ms,
        buffer.delay_ms,
        buffer.target_ms,
    )
