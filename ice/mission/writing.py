"""Writes missions: what was not changed stands as it was read, numbers as they were spelt, keys in their order.

Groups are sorted by name, descending, as the format wants them; a group that was changed gets the id that its new contents have. The text is
compact where it is to be packed, and indented where people read it.
"""

import json
from collections.abc import Mapping
from typing import Final

import attrs

from ice.mission.fields import dump, load
from ice.mission.identity import effective_id, mission_id, stream_id
from ice.mission.implied import implied
from ice.mission.model import Group, Mission, Origin
from ice.mission.parts import MissionRallypoint
from ice.mission.tolerant import Json, Tolerant, Written

INDENT: Final = 2


def write_mission(mission: Mission, *, compact: bool = False) -> str:
    """The mission as JSON: indented and with a last newline, or on one line without white space."""
    value = as_json(mission)
    return write_json(value) if compact else write_json(value, INDENT) + "\n"


def as_json(mission: Mission) -> dict[str, Json]:
    """The mission as a JSON object, groups sorted."""
    groups = [
        _group(group, mission.rallypoint)
        for group in sorted(mission.groups, key=lambda group: group.name, reverse=True)
    ]
    before = load(Mission, Tolerant(mission.written, "", []))
    id = mission.written.get("id") if before.name == mission.name else None
    key = "talkgroups" if "groups" not in mission.written and "talkgroups" in mission.written else "groups"
    found = dump(attrs.evolve(mission, groups=before.groups, id=before.id))
    if mission.is_new:  # a new one: in the order of the specification
        rest = {name: each for name, each in found.items() if name not in ("id", "groups")}
        return {"meta": rest.pop("meta"), "id": mission_id(mission.name), **rest, "groups": groups}
    if id is None and before.name != mission.name:
        id = mission_id(mission.name)
    if id is not None:
        found["id"] = id
    found[key] = groups
    return found


def _group(group: Group, of_mission: MissionRallypoint | None) -> Json:
    if not group.is_new and group == implied(load(Group, Tolerant(group.written, "", [])), of_mission):
        return group.written
    stated = attrs.evolve(group, id=effective_id(group))
    if group.rallypoints_from is Origin.CLUSTER and group.cluster is not None:
        cluster = attrs.evolve(group.cluster, rallypoints=group.rallypoints)
        stated = attrs.evolve(stated, rallypoints=(), cluster=cluster)
    elif group.rallypoints_from is Origin.MISSION:
        stated = attrs.evolve(stated, rallypoints=())
    found = dump(stated)
    if not group.is_new and stream_id(str(group.written.get("id", ""))) == stream_id(stated.id):
        found["id"] = group.written["id"]
    return found


def write_json(value: Json, indent: int | None = None) -> str:
    """JSON as :func:`ice.mission.tolerant.read_json` gives it, as text that says the same with the same numbers.

    :param indent: spaces per level, or None for one line without white space.
    """
    pieces: list[str] = []
    _write(value, pieces, indent, "\n" if indent is not None else "")
    return "".join(pieces)


def _write(value: Json, pieces: list[str], indent: int | None, line: str) -> None:
    if isinstance(value, str):
        pieces.append(_text(value))
    elif isinstance(value, Written):
        pieces.append(value.text)
    elif isinstance(value, Mapping):
        inner = line + " " * (indent or 0)
        separator = "{" + inner
        for key, each in value.items():
            pieces += (separator, _text(key), ": " if indent is not None else ":")
            _write(each, pieces, indent, inner)
            separator = "," + inner
        pieces.append(line + "}" if value else "{}")
    elif isinstance(value, list):
        inner = line + " " * (indent or 0)
        separator = "[" + inner
        for each in value:
            pieces.append(separator)
            _write(each, pieces, indent, inner)
            separator = "," + inner
        pieces.append(line + "]" if value else "[]")
    else:
        pieces.append(json.dumps(value))


def _text(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8, but an escape
        return json.dumps(value)
    return text
