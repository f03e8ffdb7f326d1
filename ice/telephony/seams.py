"""What a gateway is put together from, and what each part is to be: trunks at work, and the lobby of channels' calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from twisted.internet.defer import Deferred

from ice.telephony import trunk as trunking
from ice.telephony.call import Timing
from ice.telephony.causes import Cause
from ice.telephony.lobby_orders import LobbyCall


class TrunkDriver(trunking.Trunk, Protocol):
    """A trunk at work."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What came and led to nothing, or was refused, by why."""

    def start(self) -> None:
        """Connect, and again whenever the connection is lost; how that goes is told as health. What the call manager still has of ours is told as found."""

    def stop(self) -> Deferred[None]:
        """Let go of the call manager; fires when nothing is left in the reactor."""


class Lobby(Protocol):
    """Calls that belong to a channel (:class:`ice.telephony.lobby.Lobby`)."""

    def __len__(self) -> int: ...

    def takes(self, trunk: str, report: trunking.Report) -> bool:
        """Whether a report is the lobby's."""

    def told(self, trunk: str, report: trunking.Report) -> None:
        """Something came of a trunk, and it is the lobby's."""

    def configure(self, timing: Timing) -> None:
        """Go on by other times."""

    def dial_out(self, channel: str, number: str, who: str, *, urgent: bool = False) -> UUID:
        """Call a number in normal form for a channel, ``urgent`` ones whatever the limits. Raises :class:`~ice.errors.LocalError`."""

    def end(self, call: UUID, cause: Cause = Cause.HUNG_UP) -> bool:
        """Hang up; false where there is no such call."""

    def calls(self) -> Sequence[LobbyCall]:
        """The calls there are."""

    def status(self) -> Mapping[str, Any]:
        """Counters and callers, as plain values."""

    def set_active(self, active: bool) -> None:
        """The election has spoken."""

    def stop(self, cause: Cause = Cause.SHUTDOWN) -> Deferred[None]:
        """End all calls; fires when all lines have let go, or would not."""


class Listening(trunking.Ears, Protocol):
    """Who is told by trunks: a gateway."""

    def may_ask(self) -> bool:
        """Whether call managers may be asked for anything now: not by a gateway whose place another takes."""


MakeTrunk: TypeAlias = Callable[[Listening], TrunkDriver]
"""Makes a trunk that tells a gateway what happens."""
