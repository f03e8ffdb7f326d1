"""What a patch server tells of itself in the shape that the original's bridge service writes, for tools that read that.

``{"id","version","ts","uptime","bridges":{"count","detail":[{"id","name","groups":[…],"state"}]},
"groups":{"count","detail":[{"id","name","state","rxTraffic":{"packets","bytes","errors"},"txTraffic":{…}}]}}``; ``ts`` in Unix seconds.

States of bridges: −1 error, 0 none, 1 ok, 2 creating, 3 deleted; of groups −1 error, 0 none, 1 ok, 2 creating, 3 joining, 4 left, 5 disconnected, 6 deleted. What is ours besides
stands in keys of its own: ``why``, ``mode``, ``enabled``, ``warnings``, ``sealing``, ``refused``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ice.patch.outcome import MemberStatus, PatchStatus, Traffic
from ice.patch.plan import Patch, Refusal

ERROR, NONE, OK = -1, 0, 1


def report(
    patches: Iterable[Patch],
    running: Mapping[str, PatchStatus],
    standing: Mapping[str, Refusal | None],
    *,
    id: str,
    version: str,
    unix_s: float,
    uptime_s: float,
    names: Mapping[str, str] | None = None,
    warnings: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, object]:
    """The document as a value for JSON.

    ``running``: the engines' status by patch id; ``standing``: as :func:`ice.patch.plan.standing` gives it; ``names`` of streams, for people; ``warnings`` by patch id.
    """
    names, warnings = names or {}, warnings or {}
    bridges: list[dict[str, object]] = []
    groups: list[dict[str, object]] = []
    for patch in patches:
        status, refusal = running.get(patch.id), standing.get(patch.id)
        bridge: dict[str, object] = {
            "id": patch.id,
            "name": patch.name,
            "groups": list(patch.stream_ids),
            "state": ERROR if refusal is not None else NONE if status is None else status.state,
            "mode": str(patch.mode),
            "enabled": patch.enabled,
        }
        if refusal is not None:
            bridge["why"] = refusal.message
        if warnings.get(patch.id):
            bridge["warnings"] = list(warnings[patch.id])
        bridges.append(bridge)
        groups += [_group(member, names) for member in (status.members if status is not None else ())]
    return {
        "id": id,
        "version": version,
        "ts": int(unix_s),
        "uptime": int(uptime_s),
        "bridges": {"count": len(bridges), "detail": bridges},
        "groups": {"count": len(groups), "detail": groups},
    }


def _group(member: MemberStatus, names: Mapping[str, str]) -> dict[str, object]:
    return {
        "id": member.stream,
        "name": names.get(member.stream, member.stream),
        "state": member.state,
        "rxTraffic": _traffic(member.rx),
        "txTraffic": _traffic(member.tx),
        "why": member.why,
        "sealing": member.sealing,
        "refused": dict(member.refused),
    }


def _traffic(traffic: Traffic) -> dict[str, int]:
    return {"packets": traffic.packets, "bytes": traffic.bytes, "errors": traffic.errors}
