"""One talker as he is said anew on streams of one voice: sound in, datagrams out, telephone keys between them."""

from __future__ import annotations

import random
from typing import Final

from ice.errors import LocalError
from ice.media import opus
from ice.media.burst import Sending
from ice.media.codecs import Encoder, Pcm
from ice.media.dtmf import Dialer
from ice.media.rtp import Talk
from ice.patch.channel import Voice
from ice.patch.choir import Singer

KEYS_MAX: Final = 32  # telephone keys that wait; what is over is not dialled


class Speaker:
    """Bursts through one encoder; see :class:`ice.media.burst.BurstSender`, which it drives."""

    def __init__(
        self, voice: Voice, coder: Encoder, ssrc: int, talk: Talk, chance: random.Random | None = None
    ) -> None:
        self._sender = voice.sender(coder, talk, ssrc, chance)
        self._coder = coder
        self._clock_rate = coder.codec.clock_rate
        self._keys = voice.payload_types.telephone_event is not None
        self._dialer: Dialer | None = None

    @property
    def pressed(self) -> bool:
        """Whether a burst is running."""
        return self._sender.pressed

    @property
    def talk(self) -> Talk:
        """As whom the last or present burst goes out."""
        return self._sender.talk

    @property
    def dials(self) -> bool:
        """Whether telephone keys can be said here as events."""
        return self._keys

    @property
    def dialling(self) -> bool:
        """Whether keys are still to be said."""
        return self._dialer is not None and self._dialer.deadline is not None

    def press(self, talk: Talk, emergency: bool, now: float) -> None:
        """Begin a burst."""
        self._sender.talk = talk
        self._sender.emergency = emergency
        self._sender.press(now)

    def entitle(self, talk: Talk, emergency: bool) -> None:
        """Say from now on that this one talks, where it is another than before."""
        if (
            self._sender.talk is not talk and self._sender.talk != talk
        ) or self._sender.emergency != emergency:
            self._sender.talk = talk
            self._sender.emergency = emergency

    def voices(self, count: int) -> None:
        """How many there are in the sound from now on; see :meth:`ice.media.opus.Encoder.voices`."""
        if isinstance(self._coder, opus.Encoder | Singer):
            self._coder.voices(count)

    def say(self, pcm: Pcm, now: float) -> list[Sending]:
        """The datagrams that have become whole with this sound, and those of keys that are due."""
        return self._sender.pcm(pcm) + self._dialled(now)

    def dial(self, digits: str, now: float) -> None:
        """Say telephone keys within the burst, where the stream has them; a burst is running."""
        if not self._keys:
            return
        if self._dialer is None:
            self._dialer = Dialer(self._clock_rate)
        try:
            self._dialer.press(digits[:KEYS_MAX], now, self._sender.timestamp)
        except LocalError:  # too many wait
            return

    def release(self, now: float) -> list[Sending]:
        """End the burst; keys that were not said yet are not said any more."""
        self._dialer = None
        return self._sender.release(now)

    def _dialled(self, now: float) -> list[Sending]:
        dialer: Dialer | None = self._dialer
        return [] if dialer is None else [self._sender.event(event, now) for event in dialer.due(now)]
