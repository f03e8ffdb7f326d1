"""Through which patches a burst has come, so that none goes round in a circle.

What a patch says anew, transcoded or mixed, has a new name; no window on its way can know it for what was here before. So it carries in its
header extension the identities of the patches that made it anew (:attr:`ice.media.rtp.Talk.via`), and who finds itself there drops it. Where the list is full,
after fifteen patches, a burst goes no further.

The extension is on the first five packets of a burst and on each tenth. What was read of a talker holds until he says something else, or has been silent for
:data:`FORGET_S`; so of a burst that comes back, at most nine packets pass, and only where the first five were lost.

The identity is the *patch's*, not the server's: the same on all servers of a group (so that the one which stands by never takes the other's output for
a talker), and different for two patches of one server (so that a burst may pass through both). It is UUIDv5 of the group's id and the patch's id.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from ice.media.rtp import MAX_VIA, Talk

FORGET_S: Final = 30.0  # of silence, as everywhere
MAX_TALKERS: Final = 256  # remembered; a talker is known again at his next extension
NAMESPACE: Final = UUID(
    "1d6cbb1e-7f0b-5d5c-9a55-0c1f9b9b8a01"
)  # of the identities of patches; any would do, this is ours

#: Reasons for which a packet is dropped.
CAME_BACK: Final = "via"
TOO_FAR: Final = "via-full"


def identity_of(group_id: str, patch_id: str) -> bytes:
    """The identity of a patch that a group of servers serves, 16 bytes."""
    return uuid5(NAMESPACE, f"{group_id}\n{patch_id}").bytes


class Vias:
    """What is known of the ways of talkers; an engine, time is an argument. A talker is (stream, source, SSRC)."""

    def __init__(self, own: bytes) -> None:
        self.own = own
        self._ways: dict[tuple[str, int, int], tuple[float, tuple[bytes, ...]]] = {}

    def __len__(self) -> int:
        return len(self._ways)

    def ask(self, talker: tuple[str, int, int], talk: Talk | None, now: float) -> str:
        """Why a packet of the talker is dropped, or ``""``; ``talk`` is what its extension says, None where it has none."""
        if talk is not None:
            if talk.via:
                self._remember(talker, now, talk.via)
            else:
                self._ways.pop(talker, None)
                return ""
        known = self._ways.get(talker)
        if known is None:
            return ""
        heard_at, way = known
        if talk is None:
            if now - heard_at > FORGET_S:
                del self._ways[talker]
                return ""
            self._ways[talker] = now, way
        if self.own in way:
            return CAME_BACK
        return TOO_FAR if len(way) >= MAX_VIA else ""

    def way(self, talker: tuple[str, int, int]) -> tuple[bytes, ...]:
        """The identities that the talker's bursts came through, the oldest first; nothing where he is heard at first hand."""
        known = self._ways.get(talker)
        return known[1] if known is not None else ()

    def _remember(self, talker: tuple[str, int, int], now: float, way: tuple[bytes, ...]) -> None:
        if len(self._ways) >= MAX_TALKERS and talker not in self._ways:
            del self._ways[min(self._ways, key=lambda each: self._ways[each][0])]
        self._ways[talker] = now, way
