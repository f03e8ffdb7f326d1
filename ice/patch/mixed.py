"""Mixed: each stream hears one voice, the mix of everybody on the other streams.

A mixer in the sense of RFC 3550 §7.1. On each stream a jitter buffer per talker; every 20 ms each stream's sound is pulled, made louder or softer by the member's gain, and
summed; each stream gets the sum less its own part (*mix-minus*), limited so that shouting does not clip, in its own codec. What it hears is
anonymous: no alias; the priority and the emergency flag are those of the foremost who is in it.

**Half duplex**: one talker at a time is in it (:mod:`ice.patch.floor`: the highest rank, of equals who came first). The mix speaks under an SSRC whose upper half is
zero, below practically all stations', so that a station which began at the same time yields to it.

**Full duplex**: everybody is in it, a conference.

**Borders.** A burst of the mix begins when somebody on another stream begins and ends when the last of them has ended.

**Work.** What members of one voice hear alike is coded once (:mod:`ice.patch.choir`); sound of five voices and more is coded as a crowd (:meth:`ice.media.opus.Encoder.voices`), which costs a tenth; sums and
limits are taken of all members together.

**Gain.** A member's ``gain_db`` is how loud it is for others; ``automatic_gain`` follows its speech besides (:mod:`ice.patch.gain`), off by default.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.codecs import OpusEncoder
from ice.media.mixer import Limiter, Sum, limit_all
from ice.media.playout import DigitPressed, Listener, Talking
from ice.media.rtp import MAX_VIA, Talk
from ice.patch.anew import AnewPatch
from ice.patch.announcement import Announcement
from ice.patch.channel import Leg
from ice.patch.choir import Choir, Singer
from ice.patch.floor import Standing, Verdict
from ice.patch.gain import AutomaticGain, amplitude
from ice.patch.junction import STEP, Admitted
from ice.patch.members import Joined
from ice.patch.outcome import Out
from ice.patch.plan import Patch
from ice.patch.speaker import Speaker

SSRC_BITS: Final = 16  # of the mixes' own: below those of 65,535 stations in 65,536
TALKERS_MAX: Final = 16  # of one member at once
CHOIR: Final = 3  # members of one voice: of two, one hears what the other says
LOWEST: Final = (False, 0)  # emergency and priority


@attrs.define(eq=False)
class _Party:
    """One member: an ear, and a mouth."""

    joined: Joined
    listener: Listener
    gain: float
    automatic: AutomaticGain | None
    speaker: Speaker | None  # None where we cannot speak
    singer: Singer | None  # None where nobody shares the work with it
    own_limiter: Limiter = attrs.field(factory=Limiter)
    passing: frozenset[int] = frozenset()  # SSRCs whose last packets might cross
    talkers: tuple[Talking, ...] = ()  # who is in this member's sound now
    part: Sum | None = None  # what it contributes to this step
    rank: tuple[bool, int] = LOWEST  # of the foremost among them
    digits: str = ""

    @property
    def stream(self) -> str:
        return self.joined.channel.stream_id

    @property
    def limiter(self) -> Limiter:
        return self.own_limiter if self.singer is None else self.singer.limiter


class MixedPatch(AnewPatch):
    """See the module docstring, and :class:`~ice.patch.junction.Junction`."""

    first_come = True
    talkers_max = TALKERS_MAX

    def _prepare(self) -> None:
        self._parties: dict[str, _Party] = {}
        self._choirs: list[Choir] = []
        choirs: dict[str, Choir] = {}
        for leg in self._legs:
            leader = _leader_of(leg)
            if leader is not None:
                self._choirs.append(Choir(leader))
                choirs.update(dict.fromkeys(leg.streams, self._choirs[-1]))
        for member in self.patch.streams:
            joined = self._joined[member.stream]
            voice = joined.channel.voice
            speaker = singer = None
            if not joined.silent_because:
                coder = voice.encoder()
                choir = choirs.get(member.stream)
                if choir is not None and isinstance(coder, OpusEncoder):
                    coder = singer = Singer(choir, coder)
                speaker = Speaker(voice, coder, self._new_ssrc(), Talk(), self.chance)
            self._parties[member.stream] = _Party(
                joined,
                self._new_ear(joined),
                amplitude(member.gain_db),
                AutomaticGain() if member.automatic_gain else None,
                speaker,
                singer,
            )

    def rename(self, patch: Patch) -> None:
        """See :meth:`Junction.rename`."""
        super().rename(patch)
        for member in patch.streams:
            party = self._parties[member.stream]
            party.gain = amplitude(member.gain_db)
            if (party.automatic is not None) is not member.automatic_gain:
                party.automatic = AutomaticGain() if member.automatic_gain else None

    def _new_ssrc(self) -> int:
        return self.chance.getrandbits(SSRC_BITS)

    def _ear(self, packet: Admitted, now: float) -> Listener | None:
        party = self._parties[packet.joined.channel.stream_id]
        if packet.verdict is Verdict.PASS:
            party.passing |= {packet.head.ssrc}
        else:
            party.passing -= {packet.head.ssrc}
        return party.listener

    def _pull(self, at: float, unix_s: float) -> list[Out]:
        for choir in self._choirs:
            choir.step()
        for party in self._parties.values():
            self._hear(party, at)
        total = np.zeros(STEP, np.int32)
        heard: list[_Party] = []
        for party in self._parties.values():
            if party.part is not None:
                heard.append(party)
                total += party.part
        heard.sort(key=attrgetter("rank"), reverse=True)
        announcing = self._announcing()
        outs: list[Out] = []
        mixes: list[tuple[_Party, Speaker, Sum]] = []
        for party in self._parties.values():
            if party.speaker is not None:
                mix = self._mix(party, party.speaker, heard, total, announcing, at)
                if mix is not None:
                    mixes.append((party, party.speaker, mix))
                elif party.speaker.pressed:
                    outs += self._send((party.stream,), party.speaker.release(at), at, unix_s)
        if mixes:
            # Who hears the same, turned down by the same limiter, hears one sound.
            different = {(party.limiter, id(mix)): mix for party, _, mix in mixes}
            limited = limit_all([limiter for limiter, _ in different], np.stack(list(different.values())))
            sounds = dict(zip(different, limited, strict=True))
            for party, speaker, mix in mixes:
                said = speaker.say(sounds[party.limiter, id(mix)], at)
                outs += self._send((party.stream,), said, at, unix_s)
        if self._playing is not None and (self._playing.over or self.floor.own is None):
            outs += self._end_announcement("said" if self.floor.own is not None else "cut", at, unix_s)
        return outs

    def _busy(self) -> bool:
        if super()._busy():
            return True
        return any(
            not party.listener.idle or (party.speaker is not None and party.speaker.pressed)
            for party in self._parties.values()
        )

    def _end_all(self, now: float, unix_s: float) -> list[Out]:
        outs: list[Out] = []
        for stream, party in self._parties.items():
            if party.speaker is not None and party.speaker.pressed:
                outs += self._send((stream,), party.speaker.release(now), now, unix_s)
            party.listener = self._new_ear(party.joined)
            party.passing, party.talkers, party.part = frozenset(), (), None
        return outs

    # -- announcements are a part of the mix -------------------------------------------------------------------------

    def _begin_announcement(self, announcement: Announcement, now: float) -> None:
        """Nothing yet: the next step says it."""

    def _announcing(self) -> tuple[Sum, Sum, str] | None:
        if self._playing is None or self.floor.own is None:
            return None
        tones, silent, digits = self._playing.take(STEP)
        return tones.astype(np.int32), silent.astype(np.int32), digits

    # -- within ------------------------------------------------------------------------------------------------------

    def _hear(self, party: _Party, at: float) -> None:
        """Pull one member's next step, of those who may be heard."""
        listener = party.listener
        party.part, party.talkers, party.digits = None, (), ""
        if listener.idle:
            party.passing = frozenset()
            listener.events()
            return
        talking = listener.talking(at)
        heard = tuple([talker for talker in talking if self._crosses(party, talker, at)])
        if len(heard) < len(talking) or listener.muted:
            listener.muted = frozenset(talker.ssrc for talker in talking if talker not in heard)
        pcm = listener.pull(STEP, at)
        for event in listener.events():
            if isinstance(event, DigitPressed) and event.ssrc not in listener.muted:
                party.digits += event.digit
        if not heard:
            return
        party.talkers = heard
        party.rank = max([(talker.emergency, talker.priority) for talker in heard])
        gain = party.gain
        if party.automatic is not None:
            gain *= party.automatic.follow(pcm)
        party.part = pcm.astype(np.int32) if gain == 1.0 else np.rint(pcm * np.float32(gain)).astype(np.int32)

    def _crosses(self, party: _Party, talker: Talking, at: float) -> bool:
        standing = self.floor.standing(talker.ssrc, at)
        return standing is Standing.CROSSES or (standing is Standing.OVER and talker.ssrc in party.passing)

    def _mix(
        self,
        party: _Party,
        speaker: Speaker,
        heard: list[_Party],
        total: Sum,
        announcing: tuple[Sum, Sum, str] | None,
        at: float,
    ) -> Sum | None:
        """What one member is told in this step, everybody but itself, and under what title; None where there is nothing. ``heard``: who is heard, the foremost first."""
        others = [other for other in heard if other is not party]
        way, kept = self._way(others)
        mix = total if party.part is None else total - party.part
        if len(kept) < len(others):
            mix = sum((other.part for other in kept if other.part is not None), np.zeros(STEP, np.int32))
        rank = kept[0].rank if kept else LOWEST
        voices = sum([len(other.talkers) for other in kept])
        digits = "".join([other.digits for other in kept])
        if announcing is not None and self._playing is not None:
            announcement = self._playing.announcement
            if not announcement.streams or party.stream in announcement.streams:
                tones, silent, keys = announcing
                mix = mix + (silent if speaker.dials else tones)
                digits += keys
                voices += 1
                rank = max(rank, (announcement.emergency, announcement.priority))
        if not voices:
            return np.zeros(STEP, np.int32) if speaker.dialling else None
        emergency, priority = rank
        if party.singer is not None:
            party.singer.hear(mix is total)
        talk = speaker.talk
        if talk.priority != priority or talk.via[:-1] != way or not talk.via:
            talk = Talk(priority=priority, via=(*way, self.identity))
        if speaker.pressed:
            speaker.entitle(talk, emergency)
        else:
            speaker.press(talk, emergency, at)
        if digits:
            speaker.dial(digits, at)
        speaker.voices(voices)
        return mix

    def _way(self, others: list[_Party]) -> tuple[tuple[bytes, ...], list[_Party]]:
        """Through which patches what is in a mix has come; members for whom there is no room in that list are left out of it."""
        if not len(self._vias):
            return (), others
        way: dict[bytes, None] = {}
        kept: list[_Party] = []
        for party in others:
            added = dict(way)
            for talker in party.talkers:
                added.update(dict.fromkeys(self._vias.way((party.stream, talker.source, talker.ssrc))))
            if len(added) >= MAX_VIA:
                party.joined.refused["via-full"] += 1
                continue
            way = added
            kept.append(party)
        return tuple(way), kept


def _leader_of(leg: Leg) -> OpusEncoder | None:
    """Who codes what streams of one voice hear alike; None where there is little to share, or frames that a step does not fill."""
    if len(leg.streams) < CHOIR:
        return None
    try:
        leader = leg.voice.encoder()
    except LocalError:
        return None
    return leader if isinstance(leader, OpusEncoder) and leader.samples == STEP else None
