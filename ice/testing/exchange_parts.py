"""Parts of the scripted call manager (:mod:`ice.testing.exchange`): its numbers, what may go wrong, a channel."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ice.net.clock import DelayedCall
from ice.testing.exchange_sound import SoundLink

ECHO: Final = "100"
ANNOUNCEMENT: Final = "101"
BUSY: Final = "102"
RINGS_OUT: Final = "103"
CALLS_BACK: Final = "104"
CONGESTION: Final = "105"
REJECTS: Final = "106"
SILENT: Final = "108"
REFUSALS: Final = {BUSY: 17, CONGESTION: 34, REJECTS: 21}
ANSWERS: Final = (ECHO, ANNOUNCEMENT, CALLS_BACK, SILENT)
KNOWN: Final = (*ANSWERS, *REFUSALS, RINGS_OUT)
CAUSES: Final = {
    0: "Unknown",
    1: "Unallocated (unassigned) number",
    16: "Normal Clearing",
    17: "User busy",
    21: "Call Rejected",
    34: "Circuit/channel congestion",
}
VERSION: Final = "22.10.0"
MODULES: Final = (
    "res_ari.so", "res_ari_applications.so", "res_ari_asterisk.so", "res_ari_bridges.so", "res_ari_channels.so", "res_ari_endpoints.so",
    "res_ari_events.so", "res_http_websocket.so", "res_stasis.so", "res_audiosocket.so", "chan_audiosocket.so", "app_stasis.so",
    "func_callerid.so", "res_musiconhold.so", "bridge_softmix.so", "codec_resample.so", "res_ari_model.so", "res_pjsip.so", "chan_pjsip.so",
)  # fmt: skip
NOTHING: Final = "nothing"
GARBAGE: Final = "garbage"


@attrs.define
class Faults:
    """What goes wrong."""

    uuid_after_s: float = 0.0  #: the UUID is said so late
    events_refused: int = 0  #: status with which the event WebSocket is refused
    start_first: bool = False  #: StasisStart comes before the request is answered
    keys_by_events: bool = False  #: keys are told by events too
    _answers: dict[str, tuple[int | str, int]] = attrs.field(factory=dict)

    def fail(self, operation: str, how: int | str, times: int = -1) -> None:
        """Answer an operation (``create``, ``dial``, ``externalMedia``, ``addChannel``, ``bridge``, ``answer``, ``hangup``, ``channels``, ``bridges``, ``variable``) with this status, ``nothing`` or ``garbage``; so often."""
        self._answers[operation] = (how, times)

    def none(self) -> None:
        """All is well again."""
        self._answers.clear()

    def take(self, operation: str) -> int | str | None:
        """What goes wrong with an operation, once."""
        how, times = self._answers.get(operation, (None, 0))
        if how is not None and times == 1:
            del self._answers[operation]
        elif how is not None and times > 1:
            self._answers[operation] = (how, times - 1)
        return how


@attrs.define(eq=False)
class ExchangeChannel:
    """A channel, with what its far end does."""

    id: str
    name: str
    state: str = "Down"
    number: str = ""
    caller: tuple[str, str] = ("", "")  # number, name
    exten: str = ""
    data: str = ""  # of Stasis
    bridge: str = ""
    link: SoundLink | None = None
    variables: dict[str, str] = attrs.field(factory=dict)
    timers: list[DelayedCall] = attrs.field(factory=list)
    music: bool = False

    @property
    def as_json(self) -> dict[str, Any]:
        """As ARI shows it."""
        return {
            "id": self.id, "name": self.name, "state": self.state, "protocol_id": "", "language": "en", "accountcode": "",
            "caller": {"number": self.caller[0], "name": self.caller[1]}, "connected": {"name": "", "number": ""},
            "creationtime": "2026-11-22T05:00:00.000+0000",
            "dialplan": {
                "context": "default", "exten": self.exten, "priority": 1, "app_name": "Stasis" if self.data else "", "app_data": self.data,
            },
        }  # fmt: skip
