"""What the modes transcode and mixed have in common: talkers are heard through a jitter buffer, and said anew from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from ice.media.playout import Listener
from ice.patch.floor import Verdict
from ice.patch.junction import Admitted, Junction
from ice.patch.members import Joined
from ice.patch.outcome import Out


class AnewPatch(Junction):
    """A patch that decodes; see :class:`~ice.patch.junction.Junction`."""

    talkers_max: ClassVar[int]  #: of one ear

    @abstractmethod
    def _ear(self, packet: Admitted, now: float) -> Listener | None:
        """Who hears this packet, and whether it passes noted; None where there is no room for another talker."""

    def _take(self, packet: Admitted, now: float, unix_s: float) -> list[Out]:
        joined, datagram, payload, _, verdict = packet
        if verdict is not Verdict.PASS:
            joined.refused[verdict.value] += 1
        if not self.active:
            return []
        ear = self._ear(packet, now)
        if ear is None:
            return self._refuse(joined, "talkers", now)
        ear.datagram(payload, datagram.flags, datagram.source, now)
        self._wake(now)
        return []

    def _new_ear(self, joined: Joined) -> Listener:
        return Listener(talkers_max=self.talkers_max, payload_types=joined.channel.voice.payload_types)
