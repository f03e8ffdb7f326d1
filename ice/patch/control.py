"""What can be asked of a patch server, over its control (:mod:`ice.observe.control`)::

    {"do":"list"}                                                     {"ok":true,"patches":[{…,"revision":3,"state":1}]}
    {"do":"status"}                                                   {"ok":true,"status":{…}}
    {"do":"create","patch":{"id":"ns","streams":["north","south"]}}   {"ok":true,"detail":[]}
    {"do":"change","id":"ns","patch":{…},"if_revision":3}             {"ok":false,"reason":"changed","error":"…"}
    {"do":"activate","id":"ns"}   deactivate, delete                  {"ok":true,"detail":["enabled: false → true"]}
    {"do":"announce","id":"ns","bytes":96000,"alias":"Desk"}          followed by so many bytes of int16, little-endian, 48 kHz mono

A stream is called by its id, or by the name that its group has in a mission. Refusals have the words of the original's bridge service for them as ``reason`` and ``code``. ``change`` takes the keys of a patch that are to be other ones. ``announce`` has further ``digits``,
``priority``, ``emergency``, ``streams``; its sound is bounded by its own length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from ice.media.codecs import SAMPLE_RATE
from ice.observe.control import NO_JSON, Command, Control, Malformed, Refused, Reply, Request
from ice.patch.announcement import MAX_S, Announcement
from ice.patch.listing import patch_json
from ice.patch.parsing import MAX_REQUEST, read_patch
from ice.patch.plan import MAX_STREAMS, Member, Mode, Patch, PatchRefused, Refusal, shown
from ice.patch.report import ERROR, NONE
from ice.patch.service import Change, PatchServer

MAX_LINE: Final = MAX_REQUEST + 1_024  # a patch, and what stands around it
MAX_SOUND: Final = int(MAX_S * SAMPLE_RATE) * 2  # bytes
SOCKET: Final = "patch.sock"
Tell = Callable[[], Mapping[str, Any]]


def control_of(server: PatchServer, status: Tell) -> Control:
    """The control of ``server``; ``status`` tells how it is."""
    desk = _Desk(server, status)
    change = partial(Command, about=_about)
    return Control(
        [
            Command("list", desk.list, changes=False),
            Command("status", desk.status, changes=False),
            change("create", desk.create),
            change("change", desk.change),
            change("activate", partial(desk.switch, "activate")),
            change("deactivate", partial(desk.switch, "deactivate")),
            change("delete", partial(desk.switch, "delete")),
            change("announce", desk.announce, attached=MAX_SOUND),
        ],
        max_line=MAX_LINE,
        wall=lambda: server.unix_s,
    )


class _Desk:
    """What is asked for, done with a server."""

    def __init__(self, server: PatchServer, status: Tell) -> None:
        self._server = server
        self._status = status

    def list(self, request: Request) -> Reply:
        server = self._server
        now = server.network.seconds()
        rows = []
        for id in sorted(server.listing.entries):
            entry = server.listing.entries[id]
            joint, refusal = server.joints.get(id), server.standing.get(id)
            row: dict[str, Any] = patch_json(entry.patch) | {
                "revision": entry.revision,
                "by": entry.by,
                "ms": entry.ms,
                "state": ERROR if refusal is not None else NONE,
            }
            if joint is not None:
                row["state"] = joint.engine.status(now).state
            if refusal is not None:
                row["why"] = refusal.message
            if warnings := server.plan.cautions(entry.patch):
                row["warnings"] = [*warnings]
            rows.append(row)
        ids = {stream for entry in server.listing.entries.values() for stream in entry.patch.stream_ids}
        known = server.plan.channels
        names = {id: known[id].name for id in sorted(ids) if id in known and known[id].name}
        return Reply({"active": server.is_active, "patches": rows, "names": names})

    def status(self, request: Request) -> Reply:
        return Reply({"status": self._status()})

    def create(self, request: Request) -> Reply:
        patch = _read(self._meant(request.values.get("patch")))
        return self._change(
            patch.id, lambda old, ms, facts: old.create(patch, by=request.by, ms=ms, facts=facts)
        )

    def change(self, request: Request) -> Reply:
        id, revision, given = request.text("id"), _revision(request), request.values.get("patch")
        entry = self._server.listing.entries.get(id)
        if not isinstance(given, dict) or "id" in given:
            raise Malformed(
                "patch is an object with those keys of the patch that are to be others; its id stays"
            )
        if entry is None:
            return self._change(id, lambda old, ms, facts: old.change(id, by=request.by, ms=ms))
        # Read as a whole patch, so that each value is held to the rules of one.
        values = _differing(_read(patch_json(entry.patch) | self._meant(given)), given)
        return self._change(
            id,
            lambda old, ms, facts: old.change(
                id, by=request.by, ms=ms, if_revision=revision, facts=facts, **values
            ),
        )

    def switch(self, how: str, request: Request) -> Reply:
        id, revision, by = request.text("id"), _revision(request), request.by
        if how == "activate":
            return self._change(
                id, lambda old, ms, facts: old.activate(id, by=by, ms=ms, if_revision=revision, facts=facts)
            )
        return self._change(
            id,
            lambda old, ms, facts: (old.deactivate if how == "deactivate" else old.delete)(
                id, by=by, ms=ms, if_revision=revision
            ),
        )

    def announce(self, request: Request) -> Reply:
        pcm = np.frombuffer(request.attached[: len(request.attached) // 2 * 2], "<i2").astype(np.int16)
        announcement = Announcement(
            pcm,
            request.text("digits", ""),
            request.text("alias", ""),
            request.whole("priority", 0, 0, 255),
            request.flag("emergency"),
            tuple(map(self._server.plan.meant, request.texts("streams")[: MAX_STREAMS + 1])),
        )
        id, plan = request.text("id"), self._server.plan
        self._server.announce(id, announcement)
        streams = announcement.streams or self._server.listing.entries[id].patch.stream_ids
        unknown = plan.unknown(streams)
        warnings = [f"it is not said on {unknown}: no mission describes that"] if unknown else []
        seconds = round(len(pcm) / SAMPLE_RATE, 1)
        detail = [f"{seconds:.1f} s of sound", f"{len(announcement.digits)} telephone keys"]
        told: dict[str, object] = {"seconds": seconds}
        return Reply(told | {"warnings": warnings} if warnings else told, {"detail": detail})

    def _meant(self, given: Any) -> Any:
        """What is given of a patch, with the ids of streams that are called by the names of their groups."""
        if not isinstance(given, dict) or not isinstance(given.get("streams"), list):
            return given
        if len(given["streams"]) > MAX_STREAMS:  # which will be refused
            return given
        meant = self._server.plan.meant
        streams = [
            meant(each)
            if isinstance(each, str)
            else each | {"stream": meant(each["stream"])}
            if isinstance(each, dict) and isinstance(each.get("stream"), str)
            else each
            for each in given["streams"]
        ]
        return given | {"streams": streams}

    def _change(self, id: str, wanted: Change) -> Reply:
        server = self._server
        audit = server.change(wanted)
        if audit.refusal is not None:
            raise _refused(audit.refusal)
        told: dict[str, object] = {"detail": [*audit.detail]}
        entry = server.listing.entries.get(id)
        if entry is not None and entry.patch.enabled and (warnings := server.plan.cautions(entry.patch)):
            told["warnings"] = [*warnings]
        return Reply(told, {"detail": [*audit.detail]} if audit.detail else {})


def _read(value: object) -> Patch:
    try:
        return read_patch(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except PatchRefused as error:
        raise _refused(error.refusal) from None


def _refused(refusal: Refusal) -> Refused:
    kind = Malformed if refusal.reason == NO_JSON else Refused
    return kind(refusal.message, str(refusal.reason), refusal.reason.code)


def _differing(patch: Patch, given: Mapping[str, object]) -> dict[str, Any]:
    found: dict[str, tuple[Member, ...] | str | Mode | bool] = {
        "name": patch.name,
        "streams": patch.streams,
        "mode": patch.mode,
        "enabled": patch.enabled,
    }
    return {key: value for key, value in found.items() if key in given}


def _revision(request: Request) -> int | None:
    revision = request.values.get("if_revision")
    if revision is not None and (isinstance(revision, bool) or not isinstance(revision, int)):
        raise Malformed("if_revision is a whole number")
    return revision


def _about(values: Mapping[str, Any]) -> Mapping[str, object]:
    """Which patch a request is about, whatever it is made of."""
    given = values.get("patch")
    id = values.get("id", given.get("id") if isinstance(given, dict) else None)
    return {"patch": shown(id)} if isinstance(id, str) else {}
