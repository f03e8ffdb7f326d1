"""What a patch server says of itself: one JSON-able value for people and ``ice status --patches``, and figures for Prometheus.

The value has the shape of the original's bridge service (:mod:`ice.patch.report`), with what is ours beside it. Metrics are labelled with words of fixed sets, never with a stream or a talker: a list may have
4,096 patches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import ice
from ice.observe.metrics import Metrics
from ice.observe.satellite import add_standing, standing_of
from ice.patch.outcome import PatchStatus
from ice.patch.report import report
from ice.patch.service import PatchServer

MAX_TALKERS: Final = 64  # shown
STATES: Final = ("open", "closed", "standby", "refused", "off")


def status_of(server: PatchServer, id: str) -> dict[str, Any]:
    """The whole state of the server ``id``, as JSON-able values; times in seconds, round trips in milliseconds."""
    running = _running(server)
    told = report(
        server.listing.patches,
        running,
        server.standing,
        id=id,
        version=ice.__version__,
        unix_s=server.unix_s,
        uptime_s=server.uptime_s,
        names={stream: channel.shown for stream, channel in server.plan.channels.items()},
        warnings={id: server.plan.cautions(joint.engine.patch) for id, joint in server.joints.items()},
    )
    return (
        {"daemon": "ice-patch"}
        | told
        | standing_of(server)
        | {
            "talkers": [
                {
                    "patch": status.id,
                    "stream": talker.stream,
                    "ssrc": f"{talker.ssrc:08x}",
                    "alias": talker.alias,
                    "priority": talker.priority,
                    "emergency": talker.emergency,
                    "passed": talker.passed,
                }
                for status in running.values()
                for talker in status.talkers
            ][:MAX_TALKERS],
            "loops": {id: dict(status.loops) for id, status in running.items() if status.loops},
            "changes": dict(server.asked),
            "trouble": f"the list is not on the disk: {server.unkept}" if server.unkept else "",
        }
    )


def states_of(server: PatchServer) -> dict[str, str]:
    """How each patch stands, in a word of :data:`STATES`."""
    found = {}
    for patch in server.listing.patches:
        joint = server.joints.get(patch.id)
        if not patch.enabled:
            state = "off"
        elif joint is None:
            state = "refused"
        elif joint.down is not None:
            state = "closed"
        else:
            state = "open" if server.is_active else "standby"
        found[patch.id] = state
    return found


def add_metrics(metrics: Metrics, server: PatchServer) -> None:
    """Register every figure of ``server``; they are read when somebody asks."""
    begin = "ice_patch_"
    gauge, counter = metrics.gauge, metrics.counter
    add_standing(metrics, server, begin, "speaks")
    gauge(
        begin + "list_kept",
        "1 while the list is on the disk, 0 where the disk refuses it.",
        lambda: float(not server.unkept),
    )
    gauge(
        begin + "patches",
        "Patches of the list, by state.",
        lambda: dict.fromkeys(STATES, 0) | Counter(states_of(server).values()),
        ("state",),
    )
    gauge(
        begin + "talkers",
        "Who talks now in a patch.",
        lambda: sum(len(status.talkers) for status in _running(server).values()),
    )

    counter(
        begin + "packets_total",
        "Packets heard (in), and passed on or said (out).",
        lambda: dict(server.totals().packets),
        ("direction",),
    )
    counter(
        begin + "bytes_total",
        "The same in bytes.",
        lambda: dict(server.totals().bytes),
        ("direction",),
    )
    counter(
        begin + "refused_total",
        "Packets heard and not passed on, by reason.",
        lambda: dict(server.totals().refused),
        ("reason",),
    )
    counter(
        begin + "circles_total",
        "Packets that told of a circle, by how.",
        lambda: dict(server.totals().circles),
        ("how",),
    )
    counter(
        begin + "changes_total",
        "Changes of the list that were asked for here: done, or why not.",
        lambda: dict(server.asked),
        ("outcome",),
    )


def _running(server: PatchServer) -> Mapping[str, PatchStatus]:
    now = server.network.seconds()
    return {id: joint.engine.status(now) for id, joint in server.joints.items()}
