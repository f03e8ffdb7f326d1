"""Relay: each datagram goes to every other stream as it is, under the name that it has, and nothing is decoded.

What a listener hears is what was said, bit for bit: his own receiver decodes each talker's codec, keeps the burst's borders and knows the talker by name,
priority and SSRC. Where keys differ, the packet is sealed anew for each stream (:mod:`ice.patch.keys`); where they are the same, or there are none, all get the same bytes.

**No circle.** The name (source and sequence) stays, so a datagram goes through this patch once, by whichever stream it came, and through every stream
once, however many patches join it.

**The floor** is read off the packets' heads; of a talker who has lost it nothing more is passed on but the end of his burst.
"""

from __future__ import annotations

from ice.patch.floor import Verdict
from ice.patch.junction import Admitted, Junction
from ice.patch.outcome import Out


class RelayPatch(Junction):
    """See the module docstring, and :class:`~ice.patch.junction.Junction`."""

    keeps_names = True

    def _prepare(self) -> None:
        """A relay has nothing of its own."""

    def _take(self, packet: Admitted, now: float, unix_s: float) -> list[Out]:
        joined, datagram, payload, _, verdict = packet
        if verdict is not Verdict.PASS:
            return self._refuse(joined, verdict.value, now)
        return self._pass_on(joined, datagram, payload, unix_s)
