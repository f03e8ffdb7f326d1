"""The list of patches: one document that all servers of a group hold, so that whoever takes over bridges the same.

**One document.** Canonical JSON: UTF-8, sorted keys, no white space, non-ASCII unescaped; the same list has the same bytes everywhere::

    {"deleted":[{"by":…,"id":…,"ms":…,"revision":…}],
     "patches":[{"by":…,"enabled":…,"enabled_ms":…,"id":…,"mode":…,"ms":…,"name":…,"revision":…,
                 "streams":[{"stream":…,"gain_db":…,"automatic_gain":…}]}],
     "version":1}

Entries stand in the order of their ids; of a stream what is ordinary is left out. ``revision`` counts the changes of one patch from 1, ``ms`` is when the last was
made (Unix milliseconds), ``by`` who made it; ``enabled_ms`` is when the patch was last switched on. What was deleted is remembered, so that nobody who comes back brings it back.

**Two lists become one** by :meth:`PatchList.merge`: of each patch the entry with the higher ``revision`` counts, then the later ``ms``, then the deletion, then the greater
``by``, then the greater content. So it does not matter who merges what with what, in which order, how often. Where the outcome has one stream in two enabled patches,
:func:`ice.patch.plan.standing` says which of them stands.

**Files and people.** A file (``[[patches]]``, ``bridges.json``) seeds the list, people change it. One rule says who wins (:meth:`PatchList.sown`): *what has changed in the
file since it was last read is done as if a person had asked for it at that moment; what has not changed in it changes nothing*. So what people do stays done until somebody edits
that very line of the file. A patch that is read for the first time is created if there is none of its id, and none was deleted; else the list stays as it is.

Every change, and every refusal, is an :class:`Audit`, for the log that answers who did what when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs

from ice.patch.plan import (
    Facts,
    Member,
    Mode,
    Patch,
    Reason,
    Refusal,
    check,
    check_active,
    check_streams,
    shown,
)

_T = TypeVar("_T")
VERSION: Final = 1
MAX_PATCHES: Final = 4_096
MAX_MEMBERS: Final = 65_536  # streams of all patches together: 4,096 of 16
MAX_DELETED: Final = 4_096  # remembered; the oldest is forgotten first
MAX_BYTES: Final = 16 * 1024 * 1024  # 65,536 streams of 200 bytes
MAX_BY: Final = 128  # characters of a name
MAX_MS: Final = 1 << 53  # what every JSON reader holds exactly
_WAITS: Final = frozenset((Reason.LOOP, Reason.DUPLEX, Reason.NO_RALLYPOINT))  # why a patch cannot be active


class Action(StrEnum):
    """What somebody wanted done."""

    CREATE = "create"
    CHANGE = "change"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    DELETE = "delete"
    READ = "read"  # a file, or a document


@attrs.frozen
class Audit:
    """Who wanted what at ``ms``, and what became of it. ``refusal`` None: done. ``detail``: what changed, as ``name: before → after``."""

    ms: int
    by: str
    action: Action
    patch: str
    refusal: Refusal | None = None
    detail: tuple[str, ...] = ()

    def line(self) -> str:
        """One line of JSON."""
        value: dict[str, object] = {
            "ms": self.ms,
            "by": self.by,
            "action": str(self.action),
            "patch": self.patch,
            "done": self.refusal is None,
        }
        if self.detail:
            value["detail"] = list(self.detail)
        if self.refusal is not None:
            value |= {"reason": str(self.refusal.reason), "message": self.refusal.message}
            if self.refusal.reason.code is not None:
                value["code"] = self.refusal.reason.code
        return _canonical(value)


@attrs.frozen(cache_hash=True)
class Entry:
    """A patch in the list."""

    patch: Patch
    revision: int
    ms: int
    by: str
    enabled_ms: int = 0


@attrs.frozen
class Deleted:
    """A patch that was in the list."""

    id: str
    revision: int
    ms: int
    by: str


@attrs.frozen
class PatchList:
    """The list; a frozen value. Each change gives a new one, and its :class:`Audit`; what is refused gives the same one."""

    entries: Mapping[str, Entry] = MappingProxyType({})
    deleted: Mapping[str, Deleted] = MappingProxyType({})

    # -- told --------------------------------------------------------------------------------------------------------

    @property
    def patches(self) -> tuple[Patch, ...]:
        """All patches, in the order of their ids."""
        return tuple(self.entries[id].patch for id in sorted(self.entries))

    @property
    def since(self) -> Mapping[str, int]:
        """When each enabled patch was switched on, for :func:`~ice.patch.plan.standing`."""
        return {id: entry.enabled_ms for id, entry in self.entries.items() if entry.patch.enabled}

    # -- changes -----------------------------------------------------------------------------------------------------

    def create(
        self, patch: Patch, *, by: str, ms: int, facts: Mapping[str, Facts] | None = None
    ) -> tuple[PatchList, Audit]:
        """Add a patch. A person may give a deleted patch's id again."""
        return self._create(patch, by, ms, facts or {}, again=True)

    def change(
        self,
        id: str,
        *,
        by: str,
        ms: int,
        name: str | None = None,
        streams: tuple[Member, ...] | None = None,
        mode: Mode | None = None,
        enabled: bool | None = None,
        if_revision: int | None = None,
        facts: Mapping[str, Facts] | None = None,
    ) -> tuple[PatchList, Audit]:
        """Change what is given of a patch; ``if_revision``: only if nobody else has changed it since."""
        return self._set(
            id,
            {"name": name, "streams": streams, "mode": mode, "enabled": enabled},
            Action.CHANGE,
            by,
            ms,
            if_revision,
            facts or {},
        )

    def activate(
        self,
        id: str,
        *,
        by: str,
        ms: int,
        if_revision: int | None = None,
        facts: Mapping[str, Facts] | None = None,
    ) -> tuple[PatchList, Audit]:
        """Switch a patch on; one that is on already stays so, and nothing is counted."""
        return self._set(id, {"enabled": True}, Action.ACTIVATE, by, ms, if_revision, facts or {})

    def deactivate(
        self, id: str, *, by: str, ms: int, if_revision: int | None = None
    ) -> tuple[PatchList, Audit]:
        """Switch a patch off."""
        return self._set(id, {"enabled": False}, Action.DEACTIVATE, by, ms, if_revision, {})

    def delete(self, id: str, *, by: str, ms: int, if_revision: int | None = None) -> tuple[PatchList, Audit]:
        """Remove a patch; it is remembered as deleted."""
        entry = self.entries.get(id)
        refusal = _unknown(id) if entry is None else _changed(entry, if_revision)
        if entry is None or refusal is not None:
            return self, Audit(ms, by, Action.DELETE, shown(id), refusal)
        entries = {key: value for key, value in self.entries.items() if key != id}
        deleted = {**self.deleted, id: Deleted(id, entry.revision + 1, ms, by[:MAX_BY])}
        return PatchList(_frozen(entries), _bounded(deleted)), Audit(ms, by, Action.DELETE, id)

    # -- files -------------------------------------------------------------------------------------------------------

    def sown(
        self,
        patches: Iterable[Patch],
        before: Iterable[Patch] = (),
        *,
        by: str,
        ms: int,
        facts: Mapping[str, Facts] | None = None,
    ) -> tuple[PatchList, tuple[Audit, ...]]:
        """What a file says now, where it said ``before`` when it was last read; see the module docstring.

        A later patch of an id that the file has already is refused (``exists``), and so is what its author could not have asked for; a new patch that
        only cannot be active beside the others is there, switched off.
        """
        facts = facts or {}
        old = {patch.id: patch for patch in before}
        new: dict[str, Patch] = {}
        audits: list[Audit] = []
        listing = self
        for patch in patches:
            if patch.id in new:
                refusal = Refusal(Reason.EXISTS, f"{shown(patch.id)!r} is in the file twice", shown(patch.id))
                audits.append(Audit(ms, by, Action.CREATE, shown(patch.id), refusal))
            else:
                new[patch.id] = patch
        # What ends first: a stream may move from one patch to another within one edit.
        for id in old:
            if id not in new and id in listing.entries:
                listing, audit = listing.delete(id, by=by, ms=ms)
                audits.append(audit)
        steps: list[tuple[bool, Patch, dict[str, object]]] = []
        for id, patch in new.items():
            was = old.get(id)
            differs = {} if was is None else _differences(was, patch)
            if was is None or differs:
                ends = bool(differs) and differs.get("enabled") is not True
                steps.append((not ends, patch, differs))
        for _, patch, differs in sorted(steps, key=lambda step: step[0]):
            if not differs:
                created, audit = listing._create(patch, by, ms, facts, again=False)
                if audit.refusal is not None and audit.refusal.reason in _WAITS:
                    audits.append(attrs.evolve(audit, action=Action.ACTIVATE))
                    created, audit = listing._create(
                        attrs.evolve(patch, enabled=False), by, ms, facts, again=False
                    )
                listing = created
            else:
                listing, audit = listing._set(patch.id, differs, Action.CHANGE, by, ms, None, facts)
            audits.append(audit)
        return listing, tuple(audits)

    # -- lists -------------------------------------------------------------------------------------------------------

    def merge(self, other: PatchList) -> PatchList:
        """One list of two, the same whoever merges and in whatever order."""
        entries: dict[str, Entry] = {}
        deleted: dict[str, Deleted] = {}
        for id in {*self.entries, *self.deleted, *other.entries, *other.deleted}:
            found: list[Entry | Deleted] = []
            for listing in (self, other):
                found += [
                    each for each in (listing.entries.get(id), listing.deleted.get(id)) if each is not None
                ]
            winner = max(found, key=_weight)
            if isinstance(winner, Entry):
                entries[id] = winner
            else:
                deleted[id] = winner
        if len(entries) > MAX_PATCHES:  # two full lists: those who were there first
            first = sorted(
                entries.values(), key=lambda each: (not each.patch.enabled, each.ms, each.patch.id)
            )
            entries = {each.patch.id: each for each in first[:MAX_PATCHES]}
        return PatchList(_frozen(entries), _bounded(deleted))

    # -- within ------------------------------------------------------------------------------------------------------

    def _create(
        self, patch: Patch, by: str, ms: int, facts: Mapping[str, Facts], *, again: bool
    ) -> tuple[PatchList, Audit]:
        deleted = self.deleted.get(patch.id)
        refusal = check(patch)
        if refusal is None and patch.id in self.entries:
            refusal = Refusal(Reason.EXISTS, f"there is a patch {patch.id!r} already", patch.id)
        if refusal is None and deleted is not None and not again:
            refusal = Refusal(
                Reason.DELETED,
                f"{patch.id!r} was deleted by {deleted.by}; create it by hand, or give it another id",
                patch.id,
            )
        if refusal is None:
            refusal = self._full(len(patch.streams), 1) or self._may_be(patch, facts)
        if refusal is not None:
            return self, Audit(ms, by, Action.CREATE, shown(patch.id), refusal)
        revision = 1 if deleted is None else deleted.revision + 1
        entry = Entry(patch, revision, ms, by[:MAX_BY], ms if patch.enabled else 0)
        remembered = {key: value for key, value in self.deleted.items() if key != patch.id}
        return (
            PatchList(_frozen({**self.entries, patch.id: entry}), _frozen(remembered)),
            Audit(ms, by, Action.CREATE, patch.id),
        )

    def _set(
        self,
        id: str,
        values: Mapping[str, object],
        action: Action,
        by: str,
        ms: int,
        if_revision: int | None,
        facts: Mapping[str, Facts],
    ) -> tuple[PatchList, Audit]:
        entry = self.entries.get(id)
        if entry is None:
            return self, Audit(ms, by, action, shown(id), _unknown(id))
        before = entry.patch
        given: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
        patch = attrs.evolve(before, **given)
        refusal = _changed(entry, if_revision) or check(patch)
        if refusal is None and patch != before:
            refusal = self._full(len(patch.streams) - len(before.streams), 0) or self._may_be(patch, facts)
        if refusal is not None:
            return self, Audit(ms, by, action, id, refusal)
        detail = tuple(_told(before, patch))
        if not detail:
            return self, Audit(ms, by, action, id)
        enabled_ms = entry.enabled_ms if before.enabled else ms
        changed = Entry(patch, entry.revision + 1, ms, by[:MAX_BY], enabled_ms if patch.enabled else 0)
        return PatchList(_frozen({**self.entries, id: changed}), self.deleted), Audit(
            ms, by, action, id, None, detail
        )

    def _may_be(self, patch: Patch, facts: Mapping[str, Facts]) -> Refusal | None:
        if not patch.enabled:
            return None
        return check_streams(patch, facts) or check_active(patch, self.patches)

    def _full(self, members: int, patches: int) -> Refusal | None:
        total = sum(len(entry.patch.streams) for entry in self.entries.values()) + members
        if len(self.entries) + patches > MAX_PATCHES or total > MAX_MEMBERS:
            return Refusal(
                Reason.LIMIT,
                f"the list holds at most {MAX_PATCHES} patches of {MAX_MEMBERS} streams together; delete some that nobody uses",
            )
        return None


# -- bytes -----------------------------------------------------------------------------------------------------------


def encode(listing: PatchList) -> bytes:
    """The list as canonical JSON."""
    # Put together of entries whose text is remembered: of a thousand one has changed, and speech waits meanwhile.
    patches = ",".join([_entry_text(listing.entries[id]) for id in sorted(listing.entries)])
    deleted = _canonical(
        [
            {"id": each.id, "revision": each.revision, "ms": each.ms, "by": each.by}
            for each in (listing.deleted[id] for id in sorted(listing.deleted))
        ]
    )
    return f'{{"deleted":{deleted},"patches":[{patches}],"version":{VERSION}}}'.encode()


def patch_json(patch: Patch) -> dict[str, object]:
    """A patch as JSON has it: what is ordinary of a stream is left out."""
    return {
        "id": patch.id,
        "name": patch.name,
        "mode": str(patch.mode),
        "enabled": patch.enabled,
        "streams": [_member_json(member) for member in patch.streams],
    }


@lru_cache(2 * MAX_PATCHES)
def _entry_text(entry: Entry) -> str:
    return _canonical(_entry_json(entry))


def _entry_json(entry: Entry) -> dict[str, object]:
    return patch_json(entry.patch) | {
        "revision": entry.revision,
        "ms": entry.ms,
        "by": entry.by,
        "enabled_ms": entry.enabled_ms,
    }


def _member_json(member: Member) -> dict[str, object]:
    value: dict[str, object] = {"stream": member.stream}
    if member.gain_db:
        value["gain_db"] = float(member.gain_db)
    if member.automatic_gain:
        value["automatic_gain"] = True
    return value


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


# -- small things ----------------------------------------------------------------------------------------------------


def _weight(each: Entry | Deleted) -> tuple[int, int, bool, str, str]:
    content = _entry_text(each) if isinstance(each, Entry) else ""
    return each.revision, each.ms, isinstance(each, Deleted), each.by, content


def _differences(before: Patch, after: Patch) -> dict[str, object]:
    fields: tuple[tuple[str, Callable[[Patch], object]], ...] = (
        ("name", lambda patch: patch.name),
        ("streams", lambda patch: patch.streams),
        ("enabled", lambda patch: patch.enabled),
        ("mode", lambda patch: patch.mode),
    )
    return {name: read(after) for name, read in fields if read(before) != read(after)}


def _told(before: Patch, after: Patch) -> Iterable[str]:
    for name in _differences(before, after):
        old, new = getattr(before, name), getattr(after, name)
        if name == "streams":
            was, now = {each.stream: each for each in old}, {each.stream: each for each in new}
            yield from (f"streams: − {shown(stream)}" for stream in was if stream not in now)
            yield from (f"streams: + {shown(stream)}" for stream in now if stream not in was)
            if [each for each in was if each in now] != [each for each in now if each in was]:
                yield "streams: another order"
            yield from (
                f"streams: {shown(stream)}: gain {was[stream].gain_db:g} → {now[stream].gain_db:g} dB"
                for stream in now
                if stream in was and was[stream].gain_db != now[stream].gain_db
            )
            yield from (
                f"streams: {shown(stream)}: automatic gain {'on' if now[stream].automatic_gain else 'off'}"
                for stream in now
                if stream in was and was[stream].automatic_gain is not now[stream].automatic_gain
            )
        else:
            yield f"{name}: {_word(old)} → {_word(new)}"


def _word(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else shown(str(value))


def _unknown(id: str) -> Refusal:
    return Refusal(Reason.UNKNOWN, f"there is no patch {shown(id)!r}", shown(id))


def _changed(entry: Entry, if_revision: int | None) -> Refusal | None:
    if if_revision is None or if_revision == entry.revision:
        return None
    return Refusal(
        Reason.CHANGED,
        f"{entry.patch.id!r} was changed by {entry.by} since it was read (revision {entry.revision}, not {if_revision}); "
        "look at it again",
        entry.patch.id,
    )


def _frozen(values: dict[str, _T]) -> Mapping[str, _T]:
    return MappingProxyType(values)


def _bounded(deleted: dict[str, Deleted]) -> Mapping[str, Deleted]:
    """The newest of what was deleted."""
    if len(deleted) > MAX_DELETED:
        newest = sorted(deleted.values(), key=lambda each: (each.ms, each.id), reverse=True)[:MAX_DELETED]
        deleted = {each.id: each for each in newest}
    return MappingProxyType(deleted)
