"""What patches have counted, added up: of those that are served, and of those that were."""

from __future__ import annotations

from collections import Counter
from typing import Self

import attrs

from ice.patch.outcome import PatchStatus


@attrs.define
class Totals:
    """Sums by direction (``in``: heard, ``out``: passed on or said), by reason of a refusal, and by how a circle was noticed."""

    packets: Counter[str] = attrs.field(factory=Counter)
    bytes: Counter[str] = attrs.field(factory=Counter)
    refused: Counter[str] = attrs.field(factory=Counter)
    circles: Counter[str] = attrs.field(factory=Counter)

    def add(self, status: PatchStatus) -> None:
        """Add what one patch has counted."""
        for member in status.members:
            for way, traffic in (("in", member.rx), ("out", member.tx)):
                self.packets[way] += traffic.packets
                self.bytes[way] += traffic.bytes
            self.refused.update(member.refused)
        self.circles.update(status.loops)

    def copy(self) -> Self:
        """The same sums, to be added to."""
        return type(self)(self.packets.copy(), self.bytes.copy(), self.refused.copy(), self.circles.copy())
