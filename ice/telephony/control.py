"""What can be asked of a gateway, over its control (:mod:`ice.observe.control`)::

    {"do":"list"}                                              {"ok":true,"active":true,"calls":[{"id":…,"state":"talking",…}]}
    {"do":"status"}                                            {"ok":true,"status":{…}}
    {"do":"hang-up","id":"0e0c"}                               {"ok":true,"id":"0e0c…"}
    {"do":"dial-out","channel":"north","number":"030 901820"}  {"ok":true,"id":"5a1b…"}

``list`` tells whole telephone numbers, which the status pages do not. An id may be cut, as long as one call alone has it. Who dials out of a channel is whom the number plan's rules are about: a Unix user's name, or the common name of a certificate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from ice.observe.control import Command, Control, Malformed, Refused, Reply, Request
from ice.telephony.messages import MAX_NUMBER
from ice.telephony.service import Gateway
from ice.telephony.status import calls_of

SOCKET: Final = "gateway.sock"
MAX_CHANNEL: Final = 256
LEAST_ID: Final = 4
_ID: Final = re.compile(r"[0-9a-f-]{4,36}\Z")


def control_of(gateway: Gateway, status: Callable[[], Mapping[str, Any]]) -> Control:
    """The control of ``gateway``; ``status`` tells how it is."""

    def list_(request: Request) -> Reply:
        return Reply({"active": gateway.is_active, "calls": calls_of(gateway)})

    def tell(request: Request) -> Reply:
        return Reply({"status": status()})

    def hang_up(request: Request) -> Reply:
        text = request.text("id").lower()
        if not _ID.match(text):
            raise Malformed(
                f"id is that of a call, or its first {LEAST_ID} characters or more: ice calls list shows them"
            )
        found = [UUID(call["id"]) for call in calls_of(gateway) if call["id"].startswith(text)]
        if len(found) > 1:
            raise Refused(f"{len(found)} calls have an id that begins so", "ambiguous")
        if not found or not gateway.hang_up(found[0]):
            raise Refused(f"there is no call {text}", "unknown")
        return Reply({"id": str(found[0])})

    def dial_out(request: Request) -> Reply:
        channel, number = request.text("channel"), request.text("number")
        if not 0 < len(number) <= 4 * MAX_NUMBER or not 0 < len(channel) <= MAX_CHANNEL:
            raise Malformed("channel is the id or name of a channel, number a telephone number")
        return Reply({"id": str(gateway.dial_out(channel, number, request.by))})

    return Control(
        [
            Command("list", list_, changes=False),
            Command("status", tell, changes=False),
            Command("hang-up", hang_up, about=lambda values: _given(values, "id")),
            Command("dial-out", dial_out, about=lambda values: _given(values, "channel", "number")),
        ],
        wall=lambda: gateway.unix_s,
    )


def _given(values: Mapping[str, Any], *keys: str) -> Mapping[str, object]:
    return {key: values[key] for key in keys if isinstance(values.get(key), str)}
