"""What differs between two missions, group by group, key by key. Keys that are secret are said to differ, never shown."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from ice.mission.fields import Part, spec_of
from ice.mission.identity import stream_id
from ice.mission.model import Group, Mission, iso
from ice.mission.tolerant import child, shown

SECRET: Final = frozenset({"cryptoPassword", "certificateKey"})


@attrs.frozen
class Change:
    """One difference. :ivar group: its group's name, or empty; :ivar path: the key; :ivar before, after: in words, empty for none."""

    group: str
    path: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.path:
            return "is new" if self.after else "is gone"
        if not self.before:
            return f"{self.path}: {self.after}, was not there"
        return (
            f"{self.path}: {self.before} → {self.after}"
            if self.after
            else f"{self.path}: {self.before}, is gone"
        )


def differences(before: Mission, after: Mission) -> list[Change]:
    """What is different in the second, in the order of the model; groups are the same by name, else by id."""
    found = [Change("", *each) for each in _parts("", before, after, ("groups",))]
    partner = _pairs(before, after)
    for index, group in enumerate(before.groups):
        other = partner.get(index)
        if other is None:
            found.append(Change(group.name, "", group.name, ""))
        else:
            found += [Change(group.name, *each) for each in _parts("", group, after.groups[other], ())]
    taken = set(partner.values())
    found += [
        Change(group.name, "", "", group.name)
        for index, group in enumerate(after.groups)
        if index not in taken
    ]
    return found


def _pairs(before: Mission, after: Mission) -> dict[int, int]:
    """Which group of the second is which of the first, by index."""
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    ways: tuple[Callable[[Group], tuple[str, ...]], ...] = (
        lambda group: (group.name, stream_id(group.id)),
        lambda group: (group.name,),
        lambda group: (stream_id(group.id),),
    )
    for way in ways:
        waiting: dict[tuple[str, ...], deque[int]] = defaultdict(deque)
        for index, group in enumerate(after.groups):
            if index not in taken:
                waiting[way(group)].append(index)
        for index, group in enumerate(before.groups):
            if index not in pairs and waiting[way(group)]:
                pairs[index] = waiting[way(group)].popleft()
                taken.add(pairs[index])
    return pairs


def _parts(path: str, before: Part, after: Part, without: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for field in attrs.fields(type(before)):
        spec = spec_of(field)
        if spec is None or field.name in without:
            continue
        one, other = getattr(before, field.name), getattr(after, field.name)
        if one != other:
            yield from _values(child(path, spec.key), spec.key, one, other)
    for key in {**before.more, **after.more}:
        one, other = before.more.get(key), after.more.get(key)
        if one != other:
            yield from _values(child(path, key), key, one, other)


def _values(path: str, key: str, one: Any, other: Any) -> Iterator[tuple[str, str, str]]:
    if key in SECRET:
        yield path, "a key" if one else "", ("another key" if one else "a key") if other else ""
    elif isinstance(one, Part) and isinstance(other, Part):
        yield from _parts(path, one, other, ())
    elif isinstance(one, tuple) and isinstance(other, tuple):
        for index in range(max(len(one), len(other))):
            here = one[index] if index < len(one) else None
            there = other[index] if index < len(other) else None
            if here != there:
                yield from _values(f"{path}[{index}]", "", here, there)
    else:
        yield path, _words(one), _words(other)


def _words(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, Part):
        return _summary(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping | list | str | bool | int | float):
        return shown(value)
    return str(value)


def _summary(part: Part) -> str:
    """A part that is there on one side only: its keys that are not the default, without secrets."""
    said = []
    for field in attrs.fields(type(part)):
        spec = spec_of(field)
        value = getattr(part, field.name)
        if spec is None or value is None or value == () or value == "":
            continue
        if spec.key in SECRET:
            said.append("a key")
        elif isinstance(value, Part):
            if value != type(value)():
                said.append(_summary(value))
        elif spec.always or value != field.default:
            said.append(f"{spec.key} {_words(value)}")
    return f"{{{', '.join(said)}}}"
