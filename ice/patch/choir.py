"""Sound that many members of a conference hear alike, coded once.

Of ten people three talk: seven hear the same, all three, and each of the three hears the other two. So four sounds are coded, not ten. What a stream gets must be the work of one coder that goes on, since the ear
at its end goes on from packet to packet: whoever begins to hear something else takes a copy of the common coder with him, and goes on alone; who has heard the same as the others for half a second comes back. Both
coders have described the same sound by then, so that what they remember is the same but for rounding, and the change is not heard.

A :class:`Singer` is an encoder like any other, for a :class:`~ice.patch.speaker.Speaker`; its :class:`Choir` knows whether the work is done already.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ice.media.codecs import OpusEncoder, Pcm
from ice.media.mixer import Limiter

ALIKE_STEPS: Final = 25  # of 20 ms: long enough for the memory of a speech coder, short enough to be worth it


class Choir:
    """Members of one voice, of frames as long as a step. :meth:`step` before each step of sound."""

    def __init__(self, leader: OpusEncoder) -> None:
        self.leader = leader
        self.limiter = Limiter()
        self._now = 0
        self._used = self._reset = self._adopted = -2  # steps: far enough back to be over
        self._pcm: Pcm | None = None
        self._payload = b""

    def step(self) -> None:
        """Time goes on."""
        self._now += 1

    def encode(self, pcm: Pcm) -> bytes:
        """The common packet; coded when the first asks for it."""
        if self._used != self._now or self._pcm is None or not np.array_equal(pcm, self._pcm):
            self._payload = self.leader.encode(pcm)
            self._pcm, self._used = pcm, self._now
        return self._payload

    def begin(self) -> bool:
        """Begin a burst together; false when one is running."""
        if self._reset == self._now:
            return True
        if not self._silent:
            return False
        self.leader.reset()
        self._reset, self._pcm = self._now, None
        return True

    def adopt(self, coder: OpusEncoder, limiter: Limiter) -> None:
        """Somebody joins: where nobody led, he does."""
        if self._silent and self._adopted != self._now:
            self._adopted = self._now
            self.leader.continue_from(coder)
            self.limiter.gain = limiter.gain

    @property
    def _silent(self) -> bool:
        """Whether nobody follows the leader's packets at this time."""
        return self._used < self._now - 1


class Singer:
    """One member's encoder: an :class:`ice.media.codecs.Encoder`."""

    def __init__(self, choir: Choir, own: OpusEncoder) -> None:
        self._choir = choir
        self._own = own
        self._own_limiter = Limiter()
        self._alike = 0  # steps for which the member has heard what the others hear
        self.following = False
        self.codec, self.framing_ms = own.codec, own.framing_ms
        self.samples, self.timestamp_step = own.samples, own.timestamp_step

    @property
    def limiter(self) -> Limiter:
        """Who turns down what is too loud: in common, as long as it is heard in common."""
        return self._choir.limiter if self.following else self._own_limiter

    def hear(self, common: bool) -> None:
        """Whether the member hears in this step what the others hear; to be said before any of them is coded."""
        self._alike = self._alike + 1 if common else 0
        if self.following and not common:
            self.following = False
            self._own.continue_from(self._choir.leader)
            self._own_limiter.gain = self._choir.limiter.gain
        elif not self.following and self._alike >= ALIKE_STEPS:
            self._choir.adopt(self._own, self._own_limiter)
            self.following = True

    def voices(self, count: int) -> None:
        """See :meth:`ice.media.opus.Encoder.voices`."""
        (self._choir.leader if self.following else self._own).voices(count)

    def encode(self, pcm: Pcm) -> bytes:
        """See :class:`ice.media.codecs.Encoder`."""
        return self._choir.encode(pcm) if self.following else self._own.encode(pcm)

    def expect_loss(self, percent: int) -> None:
        """See :class:`ice.media.codecs.Encoder`."""
        self._own.expect_loss(percent)
        self._choir.leader.expect_loss(percent)

    def reset(self) -> None:
        """A burst begins, with what the member hears in this step."""
        self.following = self._alike > 0 and self._choir.begin()
        if not self.following:
            self._own.reset()
