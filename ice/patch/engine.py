"""The engine of a patch, by its mode."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ice.patch.channel import Channel
from ice.patch.junction import Junction
from ice.patch.keys import Locks
from ice.patch.mixed import MixedPatch
from ice.patch.plan import Mode, Patch
from ice.patch.relay import RelayPatch
from ice.patch.transcode import TranscodePatch

_KINDS: Mapping[Mode, type[Junction]] = {
    Mode.RELAY: RelayPatch,
    Mode.TRANSCODE: TranscodePatch,
    Mode.MIXED: MixedPatch,
}


def engine_for(
    patch: Patch,
    channels: Mapping[str, Channel],
    *,
    locks: Locks | None = None,
    group_id: str = "",
    chance: random.Random | None = None,
    active: bool = True,
) -> Junction:
    """The engine that serves ``patch``; see :class:`~ice.patch.junction.Junction`.

    Raises :class:`~ice.patch.plan.PatchRefused` for a patch that cannot be.
    """
    return _KINDS[patch.mode](patch, channels, locks=locks, group_id=group_id, chance=chance, active=active)
