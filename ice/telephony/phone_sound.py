"""A person's end of a call's sound: what he says onto the call's stream, what he hears there, and his keys.

An engine: time is an argument, and what is to be sent comes out as :class:`~ice.media.burst.Sending`. Sound goes both ways at once; one burst lasts as long as the person is to be heard.

**Said.** :meth:`PhoneSound.say` takes sound as it comes, of a microphone or a file, in pieces of any size and by *its* clock. Where nothing comes for :data:`FILL_S`, silence is said in its place
(:meth:`PhoneSound.tick`): a line from which nothing comes is taken for dead. What comes faster than it is spoken (a device that gives all at once what it held back) is cut, so that nobody hears us late for the rest of the call.

**Heard.** :meth:`PhoneSound.pull` gives the next samples whenever a loudspeaker or a file wants some: everybody on the stream but ourselves.

**Keys** go as telephone events (RFC 4733), within the burst; those of the far side come out of :meth:`PhoneSound.digits`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.burst import BurstSender, Sending
from ice.media.codecs import Encoder, OpusEncoder
from ice.media.dtmf import Dialer
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.playout import BurstBegan, DigitPressed, Listener, ListenerStatistics
from ice.telephony.voice import BITRATE

FRAME_S: Final = 0.02
FILL_S: Final = 0.06  # without sound from the person: more than a device's blocks are apart
FILL_MAX_S: Final = 1.0  # filled at once after a process stood still; more would only fill queues
AHEAD_S: Final = 0.25  # said ahead of the clock: what a device may hold back and give at once
FAST: Final = 1e-3  # a device's clock may be so much faster than ours for ever


@attrs.frozen
class SoundStatistics:
    """What was said and heard in one call; packets."""

    sent: int
    unsent: int  #: for want of a path
    cut_s: float  #: that came faster than it was spoken
    filled_s: float  #: of silence, where nothing came
    heard: ListenerStatistics
    refused: Mapping[str, int]


class PhoneSound:
    """The sound of one call at the person's end; see the module docstring.

    ``voice`` codes what is said (Opus at 24 kbit/s, 20 ms, unless given), ``alias`` is what others on the stream see. Both directions are closed at first.
    """

    def __init__(
        self,
        *,
        voice: Encoder | None = None,
        alias: str = "",
        jitter_min_ms: float = 20.0,
        jitter_max_ms: float = 500.0,
        chance: random.Random | None = None,
    ) -> None:
        voice = voice if voice is not None else OpusEncoder(BITRATE, 20, fec=False)
        self._sender = BurstSender(voice, alias=alias, chance=chance)
        self._clock_rate = voice.codec.clock_rate
        self._dialer = Dialer(self._clock_rate)
        self._listener = Listener(jitter_min_ms=jitter_min_ms, jitter_max_ms=jitter_max_ms)
        self.listens = self.talks = False
        #: Of the last that was said and heard.
        self.said_dbov = self.heard_dbov = SILENCE_DBOV
        #: When something last came from the stream; minus infinity for never.
        self.heard_at = float("-inf")
        self.sent = self.unsent = 0  #: datagrams, counted by who sends them
        self._said_until = self._counted_at = 0.0
        self._ahead_s = self._cut_s = self._filled_s = 0.0
        self._later: list[Sending] = []
        self._digits = ""
        self._refused: Counter[str] = Counter()

    def flow(self, listen: bool, talk: bool, now: float) -> list[Sending]:
        """Open and close the two directions; gives what is to be sent now."""
        if talk and not self.talks:
            self._sender.press(now)
            self._said_until = self._counted_at = now
            self._ahead_s = 0.0
        elif self.talks and not talk:
            self._later += self._sender.release(now)
            self._dialer = Dialer(self._clock_rate)  # keys that were on their way are gone with the burst
            self.said_dbov = SILENCE_DBOV
        if listen and not self.listens:
            self.heard_at = max(self.heard_at, now)  # from now on something is expected
        self.listens, self.talks = listen, talk
        return self._due(now)

    # -- said

    def say(self, pcm: Pcm, now: float) -> list[Sending]:
        """The person says ``int16[n]``, 48 kHz mono: what has become whole with it. Nothing, and counted, where he is not to be heard."""
        if not self.talks:
            self._refused["not-open"] += 1
            return []
        spoken_s = len(pcm) / SAMPLE_RATE
        self._ahead_s = max(0.0, self._ahead_s - (now - self._counted_at) * (1 + FAST))
        self._counted_at = now
        if self._ahead_s + spoken_s > AHEAD_S + FRAME_S:
            self._cut_s += spoken_s
            return []
        self._ahead_s += spoken_s
        self._said_until = now
        self.said_dbov = level_dbov(pcm)
        return self._sender.pcm(pcm)

    def press(self, digits: str, now: float) -> None:
        """Press keys; raises :class:`~ice.errors.LocalError` for what is none, for more than 64 that wait, and where nobody hears them."""
        if not self.talks:
            raise LocalError("nobody hears keys now")
        self._dialer.press(digits, now, self._sender.timestamp)

    def tick(self, now: float) -> list[Sending]:
        """What is to be sent by now beside what is said; asked every 20 ms."""
        sendings = self._due(now)
        if not self.talks:
            return sendings
        silent_s = now - self._said_until
        if silent_s > FILL_S:
            filled_s = min(silent_s, FILL_MAX_S)
            self._filled_s += filled_s
            self._said_until = now
            self.said_dbov = SILENCE_DBOV
            sendings += self._sender.pcm(np.zeros(round(filled_s * SAMPLE_RATE), np.int16))
        sendings += [self._sender.event(event, now) for event in self._dialer.due(now)]
        return sendings

    def _due(self, now: float) -> list[Sending]:
        due = [each for each in self._later if each.due <= now]
        self._later = [each for each in self._later if each.due > now]
        return due

    # -- heard

    def datagram(self, payload: bytes, flags: int, source: int, sequence: int, now: float) -> None:
        """A datagram was heard on the stream; as :meth:`ice.media.playout.Listener.datagram`."""
        self.heard_at = now
        self._listener.datagram(payload, flags, source, now, sequence)
        self._note()

    def pull(self, samples: int, now: float) -> Pcm:
        """The next ``int16[samples]`` of everybody else, to sound at ``now``; silence while the person is to hear nothing."""
        pcm = self._listener.pull(samples, now)
        self._note()
        if not self.listens:
            pcm = np.zeros(samples, np.int16)
        self.heard_dbov = level_dbov(pcm)
        return pcm

    def digits(self) -> str:
        """Keys of the far side since this was last asked."""
        digits, self._digits = self._digits, ""
        return digits

    def _note(self) -> None:
        for event in self._listener.events():
            if isinstance(event, DigitPressed):
                self._digits += event.digit
            elif isinstance(event, BurstBegan):
                self.heard_at = max(self.heard_at, event.at)

    def statistics(self) -> SoundStatistics:
        """What was said and heard so far."""
        return SoundStatistics(
            self.sent,
            self.unsent,
            self._cut_s,
            self._filled_s,
            self._listener.statistics(),
            MappingProxyType(dict(self._refused)),
        )
