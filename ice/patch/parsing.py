"""Lists, requests and bridge files as they come from elsewhere: JSON, believed only where it fits.

Three shapes are read. The *list* (:mod:`ice.patch.listing`) is ours and read strictly: an unknown key, a repeated one, a value of another kind refuses the whole document, for half a
list would switch patches off. A *patch* in a request is read strictly too, and refused by word and code. A *bridges file* is what sites have
(``{"bridges":[{"id","name","groups","enabled","mode"}], "groups":[…]}``): keys that we have no use for are passed over, a bridge that cannot be is
refused by itself, the others are taken.

Sizes are bounded before anything is built, and depth by what a list needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NoReturn

import attrs

from ice import strict
from ice.engage.places import stream_name
from ice.errors import RemoteError
from ice.patch.listing import (
    MAX_BY,
    MAX_BYTES,
    MAX_DELETED,
    MAX_MEMBERS,
    MAX_MS,
    MAX_PATCHES,
    VERSION,
    Deleted,
    Entry,
    PatchList,
)
from ice.patch.plan import Member, Mode, Patch, PatchRefused, Reason, Refusal, check, shown

MAX_REQUEST: Final = 256 * 1024  # a patch of 128 streams of 256 bytes, each written as \\uXXXX
MODES: Final = (Mode.RELAY, Mode.TRANSCODE, Mode.MIXED)  # the original's 0 raw, 1 multistream, 2 mixed
MODE_WORDS: Final[Mapping[str, Mode]] = {
    **{str(mode): mode for mode in Mode},
    "raw": Mode.RELAY,
    "multistream": Mode.TRANSCODE,
}
_PATCH_KEYS: Final = frozenset(("id", "name", "mode", "enabled", "streams"))
_ENTRY_KEYS: Final = _PATCH_KEYS | {"revision", "ms", "by", "enabled_ms"}


class ListingError(RemoteError):
    """A document that is no list of patches; ``str()`` says where and why."""


@attrs.frozen
class Sowing:
    """What a bridges file says: patches that can be, and what was refused."""

    patches: tuple[Patch, ...]
    refused: tuple[Refusal, ...]


def decode(data: bytes) -> PatchList:
    """A list of patches from its bytes; raises :class:`ListingError`."""
    value = _load(data, MAX_BYTES)
    if not isinstance(value, dict):
        raise ListingError("the list of patches is a JSON object")
    if value.get("version") != VERSION or isinstance(value.get("version"), bool):
        raise ListingError(
            f"the list of patches has version {VERSION} here, not {shown(repr(value.get('version')))}: update this server"
        )
    _only(value, frozenset(("version", "patches", "deleted")), "the list")
    patches, deleted = _rows(value, "patches", MAX_PATCHES), _rows(value, "deleted", MAX_DELETED)
    entries: dict[str, Entry] = {}
    members = 0
    for index, row in enumerate(patches):
        where = f"patches[{index}]"
        _only(row, _ENTRY_KEYS, where)
        try:
            patch = _patch(row)
        except PatchRefused as error:
            raise ListingError(f"{where}: {error}") from None
        members += len(patch.streams)
        if patch.id in entries or members > MAX_MEMBERS:
            raise ListingError(
                f"{where}: " + ("its id is there twice" if patch.id in entries else "too many streams")
            )
        enabled_ms = _whole(row, "enabled_ms", 0, where)
        entries[patch.id] = Entry(patch, *_mark(row, where), enabled_ms)
    gone: dict[str, Deleted] = {}
    for index, row in enumerate(deleted):
        where = f"deleted[{index}]"
        _only(row, frozenset(("id", "revision", "ms", "by")), where)
        id = row.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= MAX_BY or id in gone or id in entries:
            raise ListingError(f"{where}: expected an id that is nowhere else in the list")
        gone[id] = Deleted(id, *_mark(row, where))
    return PatchList(MappingProxyType(entries), MappingProxyType(gone))


def read_patch(data: bytes) -> Patch:
    """A patch from a request: ``{"id", "name", "streams", "mode", "enabled"}``; a stream is a text, or ``{"stream", "gain_db", "automatic_gain"}``.

    Raises :class:`~ice.patch.plan.PatchRefused`.
    """
    try:
        value = _load(data, MAX_REQUEST)
    except ListingError as error:
        raise PatchRefused(Refusal(Reason.NO_JSON, str(error))) from None
    if not isinstance(value, dict):
        raise PatchRefused(
            Refusal(Reason.NO_JSON, "a patch is a JSON object: id, name, streams, mode, enabled")
        )
    unknown = sorted(key for key in value if key not in _PATCH_KEYS)
    if unknown:
        raise PatchRefused(
            Refusal(
                Reason.INVALID,
                f"{shown(unknown[0])!r} is no key of a patch; they are {', '.join(sorted(_PATCH_KEYS))}",
            )
        )
    return _patch(value)


def read_bridges(data: bytes, mode: Mode | None = None) -> Sowing:
    """The patches of a bridges file, a list of bridges, or one bridge. ``mode``: of bridges, and groups, that name none; relay where it is None.

    Raises :class:`~ice.patch.plan.PatchRefused` (``no-json``) for what is none of these.
    """
    try:
        value = _load(data, MAX_BYTES)
    except ListingError as error:
        raise PatchRefused(Refusal(Reason.NO_JSON, str(error))) from None
    rows: object = value
    groups: object = []
    if isinstance(value, dict):
        rows = value.get("bridges", [] if "groups" in value and "id" not in value else [value])
        groups = value.get("groups", []) if "bridges" in value else []
    if not isinstance(rows, list):
        raise PatchRefused(
            Refusal(Reason.NO_JSON, 'a bridges file is {"bridges": [{"id", "name", "groups", "enabled"}]}')
        )
    asked = _modes_of_groups(groups)
    patches: dict[str, Patch] = {}
    refused: list[Refusal] = []
    for index, row in enumerate(rows):
        if len(patches) >= MAX_PATCHES:
            refused.append(Refusal(Reason.LIMIT, f"more than {MAX_PATCHES} bridges; the others are left out"))
            break
        try:
            patch = _bridge(row, index, mode, asked)
        except PatchRefused as error:
            refused.append(error.refusal)
            continue
        if patch.id in patches:
            refused.append(
                Refusal(
                    Reason.EXISTS,
                    f"bridges[{index}]: another bridge has the id {shown(patch.id)!r}",
                    patch.id,
                )
            )
        else:
            patches[patch.id] = patch
    return Sowing(tuple(patches.values()), tuple(refused))


# -- a patch ---------------------------------------------------------------------------------------------------------


def _patch(row: Mapping[str, object]) -> Patch:
    id = row.get("id")
    if not isinstance(id, str):
        _invalid(f"id is a text, not {_kind(id)}")
    name = row.get("name", "")
    if not isinstance(name, str):
        _invalid(f"name is a text, not {_kind(name)}", id)
    enabled = row.get("enabled", True)
    if not isinstance(enabled, bool):
        _invalid(f"enabled is true or false, not {_kind(enabled)}", id)
    mode = row.get("mode", str(Mode.RELAY))
    if not isinstance(mode, str) or mode not in list(Mode):
        _invalid(f"mode is one of {', '.join(Mode)}, not {shown(str(mode))!r}", id)
    streams = row.get("streams")
    if not isinstance(streams, list):
        _invalid_stream(f"streams is a list, not {_kind(streams)}", id)
    if len(streams) > MAX_MEMBERS:
        raise PatchRefused(Refusal(Reason.TOO_MANY, f"{len(streams)} streams are too many", shown(id)))
    patch = Patch(id, name or id, tuple(_member(each, id) for each in streams), enabled, Mode(mode))
    refusal = check(patch)
    if refusal is not None:
        raise PatchRefused(refusal)
    return patch


def _member(value: object, id: str) -> Member:
    if isinstance(value, str):
        return Member(value)
    if not isinstance(value, dict) or not isinstance(value.get("stream"), str):
        _invalid_stream(f"a stream is its id, or an object with the key stream, not {_kind(value)}", id)
    if not value.keys() <= {"stream", "gain_db", "automatic_gain"}:
        _invalid_stream("a stream has the keys stream, gain_db and automatic_gain", id)
    gain_db, automatic = value.get("gain_db", 0.0), value.get("automatic_gain", False)
    if isinstance(gain_db, bool) or not isinstance(gain_db, int | float) or not -1_000 < gain_db < 1_000:
        _invalid(f"gain_db is a number of decibels, not {shown(str(gain_db))}", id)
    if not isinstance(automatic, bool):
        _invalid(f"automatic_gain is true or false, not {_kind(automatic)}", id)
    return Member(value["stream"], float(gain_db), automatic)


def _bridge(row: object, index: int, mode: Mode | None, asked: Mapping[str, Mode]) -> Patch:
    if not isinstance(row, dict):
        _invalid(f"bridges[{index}] is an object, not {_kind(row)}")
    id = row.get("id")
    if not isinstance(id, str) or not id.strip():
        _invalid(f"bridges[{index}] has no id")
    id = id.strip()
    name = row.get("name")
    groups = row.get("groups")
    if not isinstance(groups, list) or any(not isinstance(group, str) for group in groups):
        _invalid_stream("groups is a list of group ids", id)
    streams = [stream_name(group) for group in groups]
    said = row.get("mode")
    chosen = MODE_WORDS.get(said.strip().lower()) if isinstance(said, str) else None
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < len(MODES):
        chosen = MODES[said]
    if chosen is None:
        wanted = {asked[stream] for stream in streams if stream in asked}
        # Where groups differ, the one that changes most does for all.
        chosen = next((each for each in (Mode.MIXED, Mode.TRANSCODE) if each in wanted), mode or Mode.RELAY)
    patch = Patch.of(
        id,
        streams,
        name=name if isinstance(name, str) else "",
        enabled=row.get("enabled") is not False,
        mode=chosen,
    )
    refusal = check(patch)
    if refusal is not None:
        raise PatchRefused(refusal)
    return patch


def _modes_of_groups(groups: object) -> dict[str, Mode]:
    found: dict[str, Mode] = {}
    for group in groups if isinstance(groups, list) else []:
        if not isinstance(group, dict) or not isinstance(group.get("id"), str):
            continue
        detail = group.get("bridgeTargetOutputDetail")
        mode = detail.get("mode") if isinstance(detail, dict) else None
        if isinstance(mode, int) and not isinstance(mode, bool) and 0 <= mode < len(MODES):
            found[stream_name(group["id"])] = MODES[mode]
    return found


# -- values ----------------------------------------------------------------------------------------------------------


def _mark(row: Mapping[str, object], where: str) -> tuple[int, int, str]:
    by = row.get("by")
    if not isinstance(by, str) or len(by) > MAX_BY:
        raise ListingError(f"{where}: by is a text of at most {MAX_BY} characters")
    return _whole(row, "revision", 1, where), _whole(row, "ms", 0, where), by


def _whole(row: Mapping[str, object], key: str, least: int, where: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_MS:
        raise ListingError(f"{where}: {key} is a whole number from {least} to 2⁵³")
    return value


def _rows(value: Mapping[str, object], key: str, most: int) -> list[dict[str, object]]:
    rows = value.get(key)
    if not isinstance(rows, list) or any(not isinstance(row, dict) for row in rows):
        raise ListingError(f"{key} is a list of objects")
    if len(rows) > most:
        raise ListingError(f"{key} has {len(rows)} entries; at most {most} are read")
    return rows


def _only(row: Mapping[str, object], keys: frozenset[str], where: str) -> None:
    for key in row:
        if key not in keys:
            raise ListingError(f"{where}: {shown(key)!r} is no key that is known here")


def _load(data: bytes, most: int) -> object:
    try:
        return strict.load(data, most)
    except strict.NoJson as error:
        raise ListingError(str(error)) from None


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return {bool: "true or false", str: "a text", list: "a list", dict: "an object"}.get(
        type(value), "a number"
    )


def _invalid(message: str, id: str = "") -> NoReturn:
    raise PatchRefused(Refusal(Reason.INVALID, message, shown(id)))


def _invalid_stream(message: str, id: str = "") -> NoReturn:
    raise PatchRefused(Refusal(Reason.INVALID_STREAM, message, shown(id)))
