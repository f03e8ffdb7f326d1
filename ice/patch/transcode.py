"""Transcode: each talker is decoded, and coded anew for each stream, in its codec, its framing and with its marks.

A translator in the sense of RFC 3550 §7.2: talkers stay apart, each under his own SSRC (so that the stations on all streams settle contests alike), with his alias, his
priority and his emergency flag; sequence numbers and timestamps are the stream's own. The datagrams have names of our own, and say in their header extension through
which patches they have come (:mod:`ice.patch.via`).

**Time.** A talker's packets go through a jitter buffer: what is missing is made up by his codec, what comes late or twice makes no difference, so what goes out is
whole and in order. A burst goes out from its first packet on; until the buffer's delay is over (some 40 ms on a calm network) it is silence, which keeps the other
stations from talking into the first syllable.

**Borders.** Each burst of ours begins with a marked packet and ends with one, sent as often as the stream wants, whether the talker's own end came or was lost,
whether he was outranked, the patch was switched off, or his stream was lost.

**Sharing.** Streams of equal voices share one encoder for each talker; of ten streams with one codec, nine get the same bytes.

Telephone keys (RFC 4733) are recognised and pressed anew. Data that is no sound is passed on as in the mode relay.
"""

from __future__ import annotations

from typing import Final

import attrs

from ice.media.codecs import Encoder
from ice.media.playout import BurstBegan, BurstEnded, DigitPressed, Event, Listener, TalkerNamed
from ice.media.rtp import Talk, clip_alias
from ice.patch.anew import AnewPatch
from ice.patch.channel import Leg
from ice.patch.floor import Standing, Verdict
from ice.patch.junction import STEP, Admitted
from ice.patch.members import Joined
from ice.patch.outcome import Out
from ice.patch.speaker import Speaker

TALKERS_MAX: Final = 64  # remembered at a time, each with his decoder
FORGET_S: Final = 30.0  # of silence
SSRCS_PER_TALKER: Final = 2  # clocks of one SSRC; the listener's own bound


@attrs.define(eq=False)
class _Talker:
    """One SSRC of one source on one stream."""

    joined: Joined
    source: int
    ssrc: int
    listener: Listener
    heard_at: float
    talking: bool = False
    ending: bool = False  # his sound is over, telephone keys are still being said
    passed: bool = False  # whether his last packet might cross
    talk: Talk = attrs.field(factory=Talk)
    emergency: bool = False
    coders: dict[int, Encoder] = attrs.field(factory=dict)
    speakers: list[tuple[Speaker, tuple[str, ...]]] = attrs.field(factory=list)


class TranscodePatch(AnewPatch):
    """See the module docstring, and :class:`~ice.patch.junction.Junction`."""

    talkers_max = SSRCS_PER_TALKER

    def _prepare(self) -> None:
        self._talkers: dict[tuple[str, int, int], _Talker] = {}

    def _ear(self, packet: Admitted, now: float) -> Listener | None:
        talker = self._talker(packet.joined, packet.datagram.source, packet.head.ssrc, now)
        if talker is None:
            return None
        talker.heard_at = now
        talker.passed = packet.verdict is Verdict.PASS
        return talker.listener

    def _pull(self, at: float, unix_s: float) -> list[Out]:
        outs: list[Out] = []
        for talker in list(self._talkers.values()):
            if not talker.talking and talker.listener.idle:
                if at - talker.heard_at > FORGET_S:
                    del self._talkers[talker.joined.channel.stream_id, talker.source, talker.ssrc]
                continue
            outs += self._play(talker, at, unix_s)
        return outs + self._say_announcement(at, unix_s)

    def _busy(self) -> bool:
        if super()._busy():
            return True
        return any(talker.talking or not talker.listener.idle for talker in self._talkers.values())

    def _end_all(self, now: float, unix_s: float) -> list[Out]:
        outs: list[Out] = []
        for talker in self._talkers.values():
            outs += self._release(talker, now, unix_s)
        self._talkers.clear()
        return outs

    # -- within ------------------------------------------------------------------------------------------------------

    def _play(self, talker: _Talker, at: float, unix_s: float) -> list[Out]:
        """The next step of one talker to all other streams."""
        pcm = talker.listener.pull(STEP, at)
        events = talker.listener.events()
        ends = [index for index, event in enumerate(events) if isinstance(event, BurstEnded)]
        border = ends[-1] + 1 if ends else len(events)
        digits = self._follow(talker, events[:border])
        standing = self.floor.standing(talker.ssrc, at)
        outs: list[Out] = []
        if standing is Standing.WITHHELD:
            outs = self._release(talker, at, unix_s)
        elif talker.talking and not talker.speakers and (standing is Standing.CROSSES or talker.passed):
            self._press(talker, at)
        if talker.speakers:
            talk = self._titled(talker)
            for speaker, streams in talker.speakers:
                speaker.entitle(talk, talker.emergency)
                if digits:
                    speaker.dial(digits, at)
                outs += self._send(streams, speaker.say(pcm, at), at, unix_s)
        if ends:
            talker.ending = True
        if talker.ending and not any(speaker.dialling for speaker, _ in talker.speakers):
            talker.talking = talker.ending = False
            outs += self._release(talker, at, unix_s)
        self._follow(talker, events[border:])  # the next burst, which goes out from the next step on
        return outs

    def _follow(self, talker: _Talker, events: list[Event]) -> str:
        """Take note of what happened to a talker; the telephone keys among it."""
        digits = ""
        for event in events:
            if isinstance(event, BurstBegan | TalkerNamed):
                talker.talking = True
                talker.talk = Talk(clip_alias(event.alias), event.priority)
                talker.emergency = event.emergency
            elif isinstance(event, DigitPressed):
                digits += event.digit
        return digits

    def _press(self, talker: _Talker, at: float) -> None:
        origin = talker.joined.channel.stream_id
        talk = self._titled(talker)
        for index, leg in enumerate(self._legs):
            streams = tuple(
                stream
                for stream in leg.streams
                if stream != origin and not self._joined[stream].silent_because
            )
            if streams:
                speaker = Speaker(leg.voice, self._coder(talker, index, leg), talker.ssrc, talk, self.chance)
                speaker.press(talk, talker.emergency, at)
                talker.speakers.append((speaker, streams))

    def _release(self, talker: _Talker, at: float, unix_s: float) -> list[Out]:
        outs: list[Out] = []
        for speaker, streams in talker.speakers:
            outs += self._send(streams, speaker.release(at), at, unix_s)
        talker.speakers = []
        return outs

    def _titled(self, talker: _Talker) -> Talk:
        way = self._vias.way((talker.joined.channel.stream_id, talker.source, talker.ssrc))
        return attrs.evolve(talker.talk, via=(*way, self.identity))

    def _coder(self, talker: _Talker, index: int, leg: Leg) -> Encoder:
        coder = talker.coders.get(index)
        if coder is None:
            coder = talker.coders[index] = leg.voice.encoder()
        return coder

    def _talker(self, joined: Joined, source: int, ssrc: int, now: float) -> _Talker | None:
        key = joined.channel.stream_id, source, ssrc
        talkers = self._talkers
        talker = talkers.get(key)
        if talker is None:
            if len(talkers) >= TALKERS_MAX and not self._make_room():
                return None
            talker = talkers[key] = _Talker(joined, source, ssrc, self._new_ear(joined), now)
        return talker

    def _make_room(self) -> bool:
        silent = [key for key, talker in self._talkers.items() if not talker.talking and talker.listener.idle]
        if not silent:
            return False
        del self._talkers[min(silent, key=lambda key: self._talkers[key].heard_at)]
        return True
