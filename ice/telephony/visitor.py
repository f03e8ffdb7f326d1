"""One caller's mouth and ears at a channel: what he says there, what he hears, who lets him.

An engine: :meth:`Visitor.step`, asked every 20 ms by our clock, takes 20 ms of his line, turns his keys or his voice into a press and a release, asks the floor, and speaks; :meth:`Visitor.hear` gives back what his line is to
sound. :class:`~ice.telephony.dial_in.Visit` decides, this carries out.

**A station of his own.** A caller has his own RTP source, alias, rank and floor: for everybody else, other callers included, he is one more radio. Only the membership of the stream is shared.

**Preroll.** What the voice opens begins :data:`~ice.telephony.dial_in.PREROLL_S` before it was noticed: his sound goes through a short queue and is said that much later for the length of the burst, evenly, so that no listener's buffer
has to run. Before a key there is nothing to be kept.

**Echo.** A telephone gives back some of what it is told. What comes from a line and is far softer than what was just sent to it opens no voice key (:data:`ECHO_DB`).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

import attrs
import numpy as np

from ice.media.burst import Sending
from ice.media.codecs import Encoder
from ice.media.floor import Claim, Decision, Floor, Refused, Rules, TimeUp, TimeWarning, Usurped
from ice.media.floor_ears import FloorEars
from ice.media.mixer import SILENCE_DBOV, Sum, level_dbov
from ice.media.payload import Pcm
from ice.media.rtp import Talk
from ice.patch.channel import Channel, Voice
from ice.patch.speaker import Speaker
from ice.telephony.audio import FRAME_S, Line
from ice.telephony.causes import Cause
from ice.telephony.comfort import ComfortNoise
from ice.telephony.dial_in import (
    PREROLL_S,
    Action,
    Admit,
    AskFloor,
    DialIn,
    End,
    Key,
    Play,
    Prompt,
    Silence,
    Visit,
)
from ice.telephony.dial_in import Talk as Speak
from ice.telephony.line_buffer import FRAME, FRAME_MS
from ice.telephony.prompts import BEEPS, Prompts
from ice.telephony.voice import LineVoice

PREROLL: Final = round(PREROLL_S / FRAME_S)  # frames
KEPT_MAX: Final = 50  # frames that wait for an answer of the floor: a second
ATTEND_S: Final = (
    0.3  # listened before the first press: longer than any framing, so that who talks already is known
)
PATIENCE_S: Final = 1.0  # so long the floor is waited for while there is no way to the channel
OPENING_S: Final = (
    0.5  # of silence when the line's first sound has come: a telephone at the ear, not on its way
)
LATEST_S: Final = (
    1.5  # after the answer: so long a line may need until its sound goes, if it says nothing itself
)
ECHO_DB: Final = 12.0  # below what was sent: ITU-T G.122 asks more of any line
ECHO_FRAMES: Final = 20  # 400 ms: so late an echo comes at most
PROMPTS_MAX: Final = 6  # that wait; more nobody needs to hear

_SILENT: Final = np.zeros(FRAME, np.int16)


class Player:
    """Says sounds one after another."""

    def __init__(self) -> None:
        self._pieces: deque[Pcm] = deque()

    def __bool__(self) -> bool:
        """Whether something is being said."""
        return bool(self._pieces)

    def play(self, pcm: Pcm) -> None:
        """Say this when all else is said; what nobody would wait for is dropped."""
        if len(self._pieces) < PROMPTS_MAX:
            self._pieces.append(pcm)

    def hush(self) -> None:
        """Say nothing more."""
        self._pieces.clear()

    def take(self) -> Pcm | None:
        """The next 20 ms, filled up with silence."""
        if not self._pieces:
            return None
        pcm = self._pieces.popleft()
        if len(pcm) > FRAME:
            self._pieces.appendleft(pcm[FRAME:])
            return pcm[:FRAME]
        return np.concatenate((pcm, _SILENT[len(pcm) :]))


def encoder_for(voice: Voice, rate: int) -> Encoder:
    """An encoder of a channel for what comes from a line of ``rate`` Hz; raises :class:`~ice.errors.LocalError` where there is none here."""
    if voice.codec == "opus" and voice.framing_ms == FRAME_MS and not voice.dtx:
        return LineVoice(rate, voice.bitrate)
    return voice.encoder()


class Visitor:
    """One caller; see the module docstring. He is let in by :meth:`enter` when :attr:`wants_in`, and hung up when :attr:`leaving` is due."""

    def __init__(
        self,
        visit: Visit,
        line: Line,
        dial_in: DialIn,
        alias: str,
        prompts: Prompts,
        chance: random.Random,
    ) -> None:
        self.visit = visit
        self.line = line
        #: Whether the door has opened for him; why he is to be hung up, when all is said to him.
        self.wants_in = False
        self.leaving: Cause | None = None
        self.alias = alias
        #: What he says on the channel in this step, if anything.
        self.said: Pcm | None = None
        #: Refusals of the floor and orders to stop, by reason; presses while there was no way.
        self.refused: Counter[str] = Counter()
        self.bursts = 0
        self.ears: FloorEars | None = None
        self._dial_in = dial_in
        self._prompts = prompts
        self._player = Player()
        self._noise = ComfortNoise(start=chance.getrandbits(16))
        self._speaker: Speaker | None = None
        self._claim = Claim(chance.getrandbits(32), dial_in.priority)
        self._talk = Talk(alias, dial_in.priority)
        self._waiting: deque[Pcm] = deque()
        self._asked_at = 0.0
        self._attends_until = 0.0
        self._held = False
        self._told_from = float("inf")  # before, nobody would hear what he is told
        self._telling = False
        self._sent_dbov: deque[float] = deque(maxlen=ECHO_FRAMES)
        self._out: list[Sending] = []

    # -- the call

    def begin(self, now: float) -> None:
        """The call is answered."""
        self._told_from = now + LATEST_S
        self._do(self.visit.begin(now), now)

    def press(self, digits: str, now: float) -> None:
        """Keys of his telephone. At the door a key silences what is being said: he knows it."""
        for digit in digits:
            if not self.visit.inside and not self.visit.over:
                self._player.hush()
            elif self.visit.key is Key.OPEN and self._speaker is not None and self._speaker.pressed:
                self._speaker.dial(digit, now)
                continue
            self._do(self.visit.digit(digit, now), now)

    def hold(self, held: bool, now: float) -> None:
        """The line is put on hold, or taken off it."""
        if held is not self._held:
            self._held = held
            self._do(self.visit.hold() if held else self.visit.resume(now), now)

    def part(self, now: float) -> list[Sending]:
        """The call is over: what is still to be said on the channel, each when it is due."""
        self._do(self.visit.hung_up(), now)
        self._player.hush()
        return self.said_now()

    # -- the channel

    @property
    def ssrc(self) -> int:
        """Under which source he talks."""
        return self._claim.source

    @property
    def talking(self) -> bool:
        """Whether he is heard on the channel."""
        return self.visit.talking

    def enter(self, channel: Channel, rules: Rules, now: float, chance: random.Random) -> None:
        """He hears the channel from now on, and may ask to talk. Raises :class:`~ice.errors.LocalError` where its codec is not here."""
        self.wants_in = False
        coder = encoder_for(channel.voice, self.line.rate)
        self._speaker = Speaker(channel.voice, coder, self.ssrc, self._talk, chance)
        self._attends_until = now + ATTEND_S
        if not channel.full_duplex:
            limits = [limit for limit in (self._dial_in.max_talk_s, rules.max_tx_s) if limit > 0]
            self.ears = FloorEars(Floor(attrs.evolve(rules, max_tx_s=min(limits, default=0.0))))
        elif self.visit.talking:
            self._speaker.press(self._talk, False, now)
            self.bursts += 1

    def overhear(self, payload: bytes, flags: int, now: float) -> None:
        """Somebody else, another caller perhaps, says a datagram on the channel."""
        if self.ears is not None:
            self._decide(self.ears.datagram(payload, flags, now), now)

    def lost_path(self, now: float) -> None:
        """There is no way to the channel any more: he is told that he is not heard."""
        if self.ears is not None and self.visit.talking:
            self.refused["no-path"] += 1
            self._do(self.visit.stopped(), now)

    def said_now(self) -> list[Sending]:
        """What he has said since this was last asked; what is due later is the end of a burst."""
        out, self._out = self._out, []
        return out

    # -- 20 ms

    def step(self, now: float, up_since: float) -> None:
        """The next 20 ms of his line; ``up_since``: since when there is a way to the channel, infinity for not at all."""
        if not self._telling:
            if self.line.heard_at > float("-inf"):
                self._told_from = min(self._told_from, self.line.heard_at + OPENING_S)
            self._telling = now >= self._told_from
        pcm = self.line.buffer.pull(now)
        if self._held:
            pcm = None
        level = self.line.buffer.level_dbov if pcm is not None else SILENCE_DBOV
        if level < max(self._sent_dbov, default=SILENCE_DBOV) - ECHO_DB:
            level = SILENCE_DBOV
        self._do(self.visit.voice(level, now), now)
        self._do(self.visit.tick(now), now)
        if self.ears is not None:
            floor = self.ears.floor
            if floor.deadline <= now:
                self._decide(floor.tick(now), now)
            if self.visit.asking:
                self._ask(floor, now, up_since)
        self._say(pcm if pcm is not None else _SILENT, now)

    def hear(self, channel: Sum | None) -> bytes:
        """20 ms for his line: everybody else on the channel, and what is told him alone; noise where there is nothing."""
        told = self._player.take() if self._telling else None
        if self._held or (channel is None and told is None):
            self._sent_dbov.append(SILENCE_DBOV)
            return self.line.encode(self._noise.take(FRAME))
        total = channel if channel is not None else np.zeros(FRAME, np.int32)
        pcm = self.line.limiter.limit(total if told is None else total + told)
        self._sent_dbov.append(level_dbov(pcm))
        return self.line.encode(pcm)

    @property
    def told_all(self) -> bool:
        """Whether all that was to be told him has been said."""
        return not self._player

    # -- within

    def _say(self, pcm: Pcm, now: float) -> None:
        """His 20 ms, to the channel or into the preroll."""
        self.said = None
        speaker = self._speaker
        if speaker is None:
            return
        if speaker.pressed:
            self._waiting.append(pcm)
            self.said = self._waiting.popleft()
            self._out += speaker.say(self.said, now)
        elif self.visit.key is Key.VOICE:
            self._waiting.append(pcm)
            most = KEPT_MAX if self.visit.asking else PREROLL
            while len(self._waiting) > most:
                self._waiting.popleft()

    def _ask(self, floor: Floor, now: float, up_since: float) -> None:
        """Ask for the floor, as soon as it is known who has it."""
        ready_at = max(self._attends_until, up_since + ATTEND_S)
        if now < ready_at:
            if up_since == float("inf") and now - self._asked_at >= PATIENCE_S:
                self.refused["no-path"] += 1
                self._do(self.visit.refused(), now)
            return
        answer = floor.request(self._claim, now)
        if isinstance(answer, Refused):
            self.refused[str(answer.reason)] += 1
            self._do(self.visit.refused(), now)
        else:
            self._do(self.visit.granted(now), now)

    def _decide(self, decisions: Iterable[Decision], now: float) -> None:
        """What the floor says while he talks."""
        for decision in decisions:
            if isinstance(decision, Usurped | TimeUp):
                self.refused[str(decision.reason) if isinstance(decision, Usurped) else "time-up"] += 1
                self._do(self.visit.stopped(), now)
            elif isinstance(decision, TimeWarning):
                self._play(Prompt.ENDING)

    def _do(self, actions: Iterable[Action], now: float) -> None:
        """Carry out what the visit wants."""
        for action in actions:
            match action:
                case Play(prompt):
                    self._play(prompt)
                case Admit():
                    self.wants_in = True
                case AskFloor():
                    self._asked_at = now
                case Speak(since):
                    self._open(since, now)
                case Silence():
                    self._close(now)
                case End(cause):
                    self.leaving = cause

    def _play(self, prompt: Prompt) -> None:
        if prompt in BEEPS:  # said when it happens, or it says something else
            self._player.hush()
        self._player.play(self._prompts.pcm(prompt))

    def _open(self, since: float, now: float) -> None:
        """His burst begins with what he said from ``since`` on."""
        if self._speaker is None:  # a full-duplex channel that he has still to enter
            return
        keep = round((now - since) / FRAME_S)
        while len(self._waiting) > keep:
            self._waiting.popleft()
        self._speaker.press(self._talk, False, now)
        self.bursts += 1

    def _close(self, now: float) -> None:
        """His burst is over; what waits in the preroll is the pause that ended it."""
        self._waiting.clear()
        if self._speaker is not None and self._speaker.pressed:
            self._out += self._speaker.release(now)
        if self.ears is not None:
            self.ears.floor.release(now)
