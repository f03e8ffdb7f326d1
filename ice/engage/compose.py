"""Accounts of imported files to one text for ``etc/ice.toml``, held against our own schema before anybody sees it.

A setting that our schema refuses is taken back, and its entry says why; so what is printed always loads. Only access rules are never
taken back one by one: without one of them, a door that was shut would stand open, so the whole import is refused. Keys
that say what is so by default are left out of the text and told in the report.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, Literal

import attrs
from pydantic import ValidationError

from ice.config.positions import Positions
from ice.config.problems import Problem, model_at, tables, words
from ice.config.render import toml_value
from ice.config.schema import Config
from ice.engage.account import MAX_RALLYPOINTS, RALLYPOINTS, Account, Fate, Key, Place, Row, Setting, Why
from ice.engage.kinds import Kind
from ice.engage.reading import Imported
from ice.engage.restrictions import ACCESS
from ice.errors import LocalError
from ice.printable import printable

MAX_ROUNDS: Final = 32  # of taking back; what is wrong after that many is taken back list by list
GROUPS: Final[Key] = ("groups",)
PATCHES: Final[Key] = ("patches",)
PEERING_FILE: Final[Key] = ("rallypoint", "mesh", "peering_file")
MAX_COMMENT: Final = 160  # characters


class ImportTrouble(LocalError):
    """What was read cannot become a configuration; nothing is written."""


@attrs.frozen
class Origin:
    """A setting or row, and the file that it came from."""

    what: Setting | Row
    account: Account = attrs.field(repr=False)

    @property
    def comment(self) -> str:
        """For the line of the setting, or above the table."""
        parts = [PurePath(self.account.source).name]
        if self.what.path:
            parts.append(self.what.path)
        if isinstance(self.what, Setting) and self.what.note:
            parts.append(self.what.note)
        return comment(": ".join(parts[:2]) + "".join(f"; {part}" for part in parts[2:]))


@attrs.frozen
class Draft:
    """What is to be written: settings that differ from the default, and rows, each list in its order."""

    settings: tuple[Origin, ...]
    rows: tuple[Origin, ...]

    def __bool__(self) -> bool:
        return bool(self.settings or self.rows)

    @property
    def toml(self) -> str:
        """As text, with a comment at each setting that tells where it came from."""
        return "\n".join(_text(self)).strip() + "\n"


def compose(files: Sequence[Imported], *, peers: Literal["groups", "file"] = "groups") -> Draft:
    """Put together what was read from several files of one machine; their accounts are brought up to date.

    :param peers: whether a peering file becomes a group, or is used as it stands.
    :raises ImportTrouble: two Rallypoints' configurations, access rules that cannot be written, a peering file that cannot be used as it stands.
    """
    servers = [each.account for each in files if each.account.kind is Kind.RALLYPOINT]
    if len(servers) > 1:
        raise ImportTrouble(
            f"{servers[0].source} and {servers[1].source} are the configurations of two Rallypoints; "
            "a machine has one: import them one by one, each with --out of its own"
        )
    for each in files:
        if each.account.kind is Kind.PEERING:
            _peering(each, servers[0] if servers else None, peers)
    mode = next((each.mode for each in files if each.mode), "")
    settings = _settings(files)
    rows = [Origin(_with_mode(row, mode), each.account) for each in files for row in each.account.rows]
    return _without_defaults(*_valid(settings, rows))


def comment(text: str) -> str:
    """Text that may follow a # in TOML: one line, printable, not long."""
    return printable(text, MAX_COMMENT)


# -- peering files


def _peering(file: Imported, server: Account | None, peers: str) -> None:
    account = file.account
    if peers == "file":
        if file.as_it_stands:
            raise ImportTrouble(
                f"{file.as_it_stands}; it cannot be used as it stands, only as a group (--peers groups)"
            )
        name = os.path.abspath(account.source)
        account.rows.clear()
        account.settings.append(Setting(PEERING_FILE, name, (), "", "used as it stands"))
        account.entries[:] = [
            attrs.evolve(entry, ours=".".join(PEERING_FILE)) if entry.fate is not Fate.LEFT else entry
            for entry in account.entries
        ]
        if server is not None:
            server.settings[:] = [each for each in server.settings if each.key != PEERING_FILE]
            server.amend({("peeringConfigurationFileName",): f"it is {name}"}, fate=Fate.CHANGED)
        return
    if file.as_it_stands:
        account.step(f"this file cannot be used as it stands: {file.as_it_stands}")
    else:
        account.step(
            f"instead of [[groups]], {account.source} can be used as it stands: ice import --peers file {shlex.quote(account.source)}"
        )
    own = _own_entry(account, server)
    if not own:
        account.step(
            "add this Rallypoint's own entry (id, address) to the members of the group, and give every machine the same table"
        )
    if server is not None:
        name = PurePath(account.source).name
        named = [each for each in server.settings if each.key == PEERING_FILE]
        if any(PurePath(str(each.value)).name == name for each in named):
            server.settings[:] = [each for each in server.settings if each.key != PEERING_FILE]
            text = "what it lists is a group now ([[groups]])"
            server.amend({("peeringConfigurationFileName",): text}, fate=Fate.CHANGED)


def _own_entry(account: Account, server: Account | None) -> bool:
    """Put the Rallypoint of this machine among the members, where its configuration tells its id."""
    if server is None or not server.own_id:
        return False
    for index, row in enumerate(account.rows):
        members = row.values.get("members")
        if row.key != GROUPS or not isinstance(members, list):
            continue
        ours = next((member for member in members if member.get("id") == server.own_id), None)
        if ours is None:
            ours = {"id": server.own_id}
            members = [ours, *members]
        if server.leaf:
            ours["leaf"] = True
        account.rows[index] = attrs.evolve(row, values={**row.values, "members": members})
    return True


def _with_mode(row: Row, mode: str) -> Row:
    """A patch in the mode that the bridge service gives to all its bridges."""
    if row.key != PATCHES or not mode:
        return row
    return attrs.evolve(row, values={**row.values, "mode": mode})


# -- what holds


def _settings(files: Sequence[Imported]) -> list[Origin]:
    """Each key once: the first file that gives it counts; lists of Rallypoints are put together."""
    found: dict[Key, Origin] = {}
    given = [Origin(setting, each.account) for each in files for setting in each.account.settings]
    for origin in sorted(given, key=lambda origin: not origin.what.at):  # what follows from others comes last
        setting = origin.what
        assert isinstance(setting, Setting)
        before = found.setdefault(setting.key, origin)
        if before is origin:
            continue
        assert isinstance(before.what, Setting)
        if (
            setting.key == RALLYPOINTS
            and isinstance(setting.value, list)
            and isinstance(before.what.value, list)
        ):
            both = list(dict.fromkeys([*before.what.value, *setting.value]))[:MAX_RALLYPOINTS]
            found[setting.key] = attrs.evolve(before, what=attrs.evolve(before.what, value=both))
        elif setting.value != before.what.value and setting.at:
            origin.account.refuse({setting.at: f"{before.comment} says otherwise, and counts"}, Why.ELSEWHERE)
    return list(found.values())


def _valid(settings: list[Origin], rows: list[Origin]) -> tuple[list[Origin], list[Origin], Config]:
    """As much as our schema accepts, and the configuration that it makes."""
    for turn in range(MAX_ROUNDS + len(settings) + len(rows)):
        try:
            return settings, rows, Config.model_validate(_nested(settings, rows))
        except ValidationError as error:
            details = error.errors(include_url=False)
        refused: dict[int, str] = {}
        for detail in details:
            path: Place = tuple(detail["loc"])
            if "below" in (context := detail.get("ctx", {})):
                path = (*path, context["below"])
            also = (*path[: len(detail["loc"]) - 1], context["also"]) if "also" in context else path
            message = _sentence(words([detail], Config, "", Positions({})), path)
            culprits = list(_culprits(path, also, settings, rows, whole=turn >= MAX_ROUNDS))
            if not culprits:
                raise ImportTrouble(f"what was read makes no configuration: {message}")
            for culprit in culprits:
                refused[id(culprit)] = message
        gone = [origin for origin in (*settings, *rows) if id(origin) in refused]
        for origin in gone:
            if origin.what.key == ACCESS:
                raise ImportTrouble(
                    f"{origin.account.source}: {origin.what.path}: an access rule cannot be written "
                    f"({refused[id(origin)]}); without it others would be let in, so nothing is imported"
                )
        _take_back(gone, refused)
        settings = [origin for origin in settings if id(origin) not in refused]
        rows = [origin for origin in rows if id(origin) not in refused]
    raise ImportTrouble("what was read makes no configuration")


def _sentence(problems: Sequence[Problem], path: Place) -> str:
    if not problems:
        return "it does not hold here"
    inner = [str(part) for part in path if isinstance(part, str)]
    return f"{problems[0].key or '.'.join(inner)}: {problems[0].message}"


def _culprits(
    path: Place, also: Place, settings: list[Origin], rows: list[Origin], *, whole: bool
) -> Iterator[Origin]:
    """What must go for the fault at ``path`` to go; with ``whole``, the whole list that it is in."""
    for key in dict.fromkeys(row.what.key for row in rows):
        if path[: len(key)] != key:
            continue
        those = [row for row in rows if row.what.key == key]
        number = path[len(key)] if len(path) > len(key) else None
        if isinstance(number, int) and number < len(those) and not whole:
            yield those[number]
        else:
            yield from those
        return
    exact = [s for s in settings if s.what.key in (path[: len(s.what.key)], also[: len(s.what.key)])]
    yield from exact or [s for s in settings if s.what.key[: len(path) - 1] == path[:-1] and len(path) > 1]


def _take_back(gone: Sequence[Origin], why: Mapping[int, str]) -> None:
    """Say in the reports that these are not taken over after all."""
    accounts = {id(origin.account): origin.account for origin in gone}
    for number, account in accounts.items():
        texts = {o.what.at: why[id(o)] for o in gone if id(o.account) == number and o.what.at}
        account.refuse(texts)


def _nested(settings: Sequence[Origin], rows: Sequence[Origin]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for origin in settings:
        assert isinstance(origin.what, Setting)
        *outer, last = origin.what.key
        table = nested
        for name in outer:
            table = table.setdefault(name, {})
        table[last] = origin.what.value
    for origin in rows:
        assert isinstance(origin.what, Row)
        *outer, last = origin.what.key
        table = nested
        for name in outer:
            table = table.setdefault(name, {})
        table.setdefault(last, []).append(dict(origin.what.values))
    return nested


def _without_defaults(settings: list[Origin], rows: list[Origin], config: Config) -> Draft:
    kept = []
    default = Config()
    texts: dict[int, tuple[Account, dict[Place, str]]] = {}
    for origin in settings:
        if _at(config, origin.what.key) != _at(default, origin.what.key):
            kept.append(origin)
        elif origin.what.at:
            texts.setdefault(id(origin.account), (origin.account, {}))[1][origin.what.at] = (
                "as it is by default"
            )
    for account, places in texts.values():
        account.amend(places)
    return Draft(tuple(kept), tuple(map(_brief, rows)))


def _brief(origin: Origin) -> Origin:
    """A row without what is so by default; access rules stay as they are, for they are read with care."""
    row, model = origin.what, model_at(origin.what.key, Config)
    if not isinstance(row, Row) or model is None or row.key == ACCESS:
        return origin
    defaults = {
        name: field.get_default() for name, field in model.model_fields.items() if not field.is_required()
    }
    values = {
        key: value for key, value in row.values.items() if key not in defaults or defaults[key] != value
    }
    return attrs.evolve(origin, what=attrs.evolve(row, values=values))


def _at(section: Any, key: Key) -> Any:
    for name in key:
        section = getattr(section, name)
    return section


# -- as text


def _text(draft: Draft) -> Iterator[str]:
    if not draft:
        yield "# nothing in these files differs from what is so by default"
    for path, _ in tables(Config):
        settings = [origin for origin in draft.settings if origin.what.key[:-1] == path]
        if settings:
            yield ""
            yield f"[{'.'.join(map(str, path))}]"
            yield from map(setting_line, settings)
        for origin in draft.rows:
            if origin.what.key == path:
                yield ""
                yield from row_lines(origin)


def written(value: object) -> str:
    """A value as TOML, with nothing in it that a terminal obeys: what is not printable is written by its number."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in toml_value(value))


def setting_line(origin: Origin) -> str:
    """``key = value`` and where it came from."""
    assert isinstance(origin.what, Setting)
    return f"{origin.what.key[-1]} = {written(origin.what.value)}  # {origin.comment}"


def row_lines(origin: Origin) -> Iterator[str]:
    """One ``[[table]]`` under a comment that tells where it came from."""
    assert isinstance(origin.what, Row)
    yield f"# {origin.comment}"
    for note in origin.what.notes:
        yield f"# {comment(note)}"
    yield f"[[{'.'.join(origin.what.key)}]]"
    for key, value in origin.what.values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{key} = ["
            yield from (f"  {written(each)}," for each in value)
            yield "]"
        else:
            yield f"{key} = {written(value)}"
