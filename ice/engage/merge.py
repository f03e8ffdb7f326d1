"""An import put into a configuration that is there already: what the file gives is never changed, unless somebody insists.

A key that the file gives with another value is a :class:`Conflict`, and so is a table of a list (a patch, a rule, a group) that is
there under the same name with other content. Lists whose order decides (access rules, thresholds) are taken whole or not at all. The text
keeps its comments and its order. Whatever was done to it, the result is read again and must say exactly what was meant, or
nothing comes of it.
"""

import copy
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Item, Table

from ice.config.load import loads
from ice.engage.account import Key, Row, Setting
from ice.engage.compose import Draft, ImportTrouble, Origin, comment, row_lines, setting_line, written
from ice.errors import IceError

_NAMED_BY: Final[Mapping[Key, tuple[str, ...]]] = {
    # what makes two tables of a list the same thing; lists that are not here are taken whole
    ("patches",): ("id",),
    ("groups",): ("name",),
    ("reflector", "rules"): ("stream", "rx", "interface"),
}


@attrs.frozen
class Conflict:
    """Something that the file says otherwise.

    :ivar key: our key, like ``rallypoint.listen`` or ``patches``.
    :ivar theirs: what the import would have said, as TOML.
    :ivar ours: what the file says and goes on saying.
    :ivar origin: where the import had it from.
    """

    key: str
    theirs: str
    ours: str
    origin: str

    def __str__(self) -> str:
        return f"{self.key}: the file says {self.ours} and keeps it; {self.origin} says {self.theirs}"


@attrs.frozen
class Merged:
    """The text with the import in it, how much was added, and what was not."""

    text: str = attrs.field(repr=False)
    added: int
    conflicts: tuple[Conflict, ...]


def merge(text: str, draft: Draft, file: Path, *, force: bool = False) -> Merged:
    """Put ``draft`` into the text of the configuration ``file``.

    :param force: let the import win where both say something.
    :raises ConfigError: the file as it is, or with the import in it, does not hold.
    :raises ImportTrouble: its form is beyond what can be edited here.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    loads(text, file)
    present = tomllib.loads(text)
    wanted = copy.deepcopy(present)
    conflicts: list[Conflict] = []
    settings = [each for each in draft.settings if _wants(present, each, wanted, conflicts, force)]
    rows = _rows(present, draft, wanted, conflicts, force)
    if not settings and not rows:
        return Merged(text, 0, tuple(conflicts))
    try:
        made = _edited(text, settings, rows, force)
        right = tomllib.loads(made) == wanted
    except (TOMLKitError, tomllib.TOMLDecodeError, ValueError, TypeError, KeyError, AttributeError):
        right = False  # an edit that went wrong, in whatever way
    if not right:
        raise ImportTrouble(
            f"{file}: is written in a form that cannot be edited without risk; without --out the import is "
            "printed, to be put in by hand"
        )
    try:
        loads(made, file)
    except IceError as error:
        raise ImportTrouble(
            f"{error}\nso the file is left as it is: with the import in it, it would not hold"
        ) from None
    return Merged(made, len(settings) + len(rows), tuple(conflicts))


def _wants(
    present: Mapping[str, Any], origin: Origin, wanted: dict[str, Any], conflicts: list[Conflict], force: bool
) -> bool:
    """Whether a setting is to be written; then it is in ``wanted``."""
    setting = origin.what
    assert isinstance(setting, Setting)
    table: Any = present
    for name in setting.key[:-1]:
        table = table.get(name, {})
    last = setting.key[-1]
    if last in table:
        if table[last] == setting.value:
            return False
        if not force:
            conflicts.append(
                Conflict(".".join(setting.key), written(setting.value), written(table[last]), origin.comment)
            )
            return False
    inner = wanted
    for name in setting.key[:-1]:
        inner = inner.setdefault(name, {})
    inner[last] = setting.value
    return True


@attrs.frozen
class _Write:
    """A list of tables to be written: those to add, or all of it anew."""

    key: Key
    rows: tuple[Origin, ...]
    anew: bool


def _rows(
    present: Mapping[str, Any], draft: Draft, wanted: dict[str, Any], conflicts: list[Conflict], force: bool
) -> list[_Write]:
    writes = []
    for key in dict.fromkeys(origin.what.key for origin in draft.rows):
        origins = [origin for origin in draft.rows if origin.what.key == key]
        table: Any = present
        for name in key:
            table = table.get(name, {}) if isinstance(table, Mapping) else {}
        there = table if isinstance(table, list) else []
        inner = wanted
        for name in key[:-1]:
            inner = inner.setdefault(name, {})
        if key in _NAMED_BY:
            fresh = _named(key, there, origins, conflicts)
            if fresh:
                inner[key[-1]] = [*there, *(_plain(origin) for origin in fresh)]
                writes.append(_Write(key, tuple(fresh), False))
            continue
        values = [_plain(origin) for origin in origins]
        if there == values:
            continue
        if there and not force:
            shown = f"{len(there)} table{'s' * (len(there) != 1)} of its own"
            conflicts.append(Conflict(".".join(key), f"{len(values)} others", shown, origins[0].comment))
            continue
        inner[key[-1]] = values
        writes.append(_Write(key, tuple(origins), bool(there)))
    return writes


def _named(key: Key, there: list[Any], origins: list[Origin], conflicts: list[Conflict]) -> list[Origin]:
    """The rows that the list does not have yet. One that it has otherwise is a conflict, also for who insists."""
    names = _NAMED_BY[key]
    known = {tuple(str(each.get(name, "")) for name in names): each for each in there}
    fresh = []
    for origin in origins:
        values = _plain(origin)
        identity = tuple(str(values.get(name, "")) for name in names)
        if identity not in known:
            fresh.append(origin)
        elif known[identity] != values:
            what = " ".join(part for part in identity if part)
            conflicts.append(
                Conflict(".".join(key), "it otherwise", f"what {comment(what)} is", origin.comment)
            )
    return fresh


def _plain(origin: Origin) -> dict[str, Any]:
    assert isinstance(origin.what, Row)
    return dict(origin.what.values)


# -- the text


def _edited(text: str, settings: list[Origin], rows: list[_Write], force: bool) -> str:
    """The text with everything in it, as well as can be; whether it is right is for others to see."""
    rest = []
    for origin in settings:
        placed = _switched_on(text, origin)
        if placed is None:
            rest.append(origin)
        else:
            text = placed
    document = tomlkit.parse(text)
    for origin in rest:
        assert isinstance(origin.what, Setting)
        table = _table(document, origin.what.key[:-1])
        item: Item = tomlkit.item(origin.what.value)
        item.comment(origin.comment)
        table[origin.what.key[-1]] = item
    for write in rows:
        if write.anew:
            tables = tomlkit.aot()
            for origin in write.rows:
                table = tomlkit.table()
                for name, value in _plain(origin).items():
                    table.add(name, value)
                tables.append(table)
            _table(document, write.key[:-1])[write.key[-1]] = tables
    text = tomlkit.dumps(document)
    for write in rows:
        if not write.anew:
            text = f"{text.rstrip()}\n" + "\n".join(_lines(write)) + "\n"
    return text


def _lines(write: _Write) -> list[str]:
    return [line for origin in write.rows for line in ("", *row_lines(origin))]


def _table(document: Any, key: Key) -> Any:
    """The table of this name, made where there is none."""
    for name in key:
        if name not in document:
            document[name] = tomlkit.table()
        document = document[name]
        if isinstance(document, AoT) or not isinstance(document, Table | Mapping):
            raise ImportTrouble(f"{'.'.join(key)} is no table there")
    return document


def _switched_on(text: str, origin: Origin) -> str | None:
    """The text with the setting below its own ``#key = default``, as the shipped file has it; None where there is no such line."""
    assert isinstance(origin.what, Setting)
    *outer, last = origin.what.key
    header = re.compile(rf"^\[{re.escape('.'.join(outer))}\][ \t]*(?:#.*)?$", re.MULTILINE)
    begin = header.search(text)
    if begin is None or '"""' in text or "'''" in text:  # a line of a long text may look like anything
        return None
    end = re.compile(r"^#?\[", re.MULTILINE).search(text, begin.end())
    until = end.start() if end is not None else len(text)
    if re.compile(rf"^{re.escape(last)}[ \t]*=", re.MULTILINE).search(text, begin.end(), until):
        return None
    line = re.compile(rf"^#{re.escape(last)} = .*$", re.MULTILINE).search(text, begin.end(), until)
    if line is None:
        return None
    return f"{text[: line.end()]}\n{setting_line(origin)}{text[line.end() :]}"
