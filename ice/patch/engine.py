"""The engine of a patch, by its mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from ice.patch.channel import Channel
from ice.patch.junction import Junction, Setting
from ice.patch.mixed import MixedPatch
from ice.patch.plan import Mode, Patch
from ice.patch.relay import RelayPatch
from ice.patch.transcode import TranscodePatch

_KINDS: Mapping[Mode, type[Junction]] = {
    Mode.RELAY: RelayPatch,
    Mode.TRANSCODE: TranscodePatch,
    Mode.MIXED: MixedPatch,
}


def engine_for(patch: Patch, channels: Mapping[str, Channel], **setting: Unpack[Setting]) -> Junction:
    """The engine that serves ``patch``; see :class:`~ice.patch.junction.Junction`.

    Raises :class:`~ice.patch.plan.PatchRefused` for a patch that cannot be.
    """
    return _KINDS[patch.mode](patch, channels, **setting)
