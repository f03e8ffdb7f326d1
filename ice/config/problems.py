"""What is wrong with a configuration, in words: one :class:`Problem` per mistake, all of them in one error.

Schema errors come from pydantic as codes; here each becomes the sentence a person can act on, with the key and the
line it belongs to.
"""

import datetime
import difflib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

import annotated_types
import attrs
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ice.config.positions import Path, Positions
from ice.errors import LocalError
from ice.printable import printable

SHOWN = 40  # characters of a wrong value that are repeated to its author
MAX_SHOWN = 100  # problems printed; a file with more than that is another kind of file

_UNITS = {"_s": " of seconds", "_ms": " of milliseconds", "_percent": " (percent)", "_bytes": " of bytes"}


@attrs.frozen
class Problem:
    """One mistake: the file as it was named, the line (0: the file as a whole), the dotted key (may be empty)."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class ConfigError(LocalError):
    """A configuration that cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if more := len(self.problems) - len(lines):
            lines.append(f"… and {more} more")
        return "\n".join(lines)


def dotted(path: Path) -> str:
    """The name of a key for people: ``rallypoint.access.streams``; places in arrays are told by the line."""
    return ".".join(plain(part) for part in path if isinstance(part, str))


def plain(text: str, limit: int = SHOWN) -> str:
    """Text of a stranger, safe on a terminal and no longer than `limit` characters."""
    return printable(text, limit)


def found(value: object) -> str:
    """What was written instead, in words: ``"five"``, ``3.5``, ``a list``."""
    if isinstance(value, str):
        return f'"{plain(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and not -(10**18) < value < 10**18:
        return "a number of more than 18 digits"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    return "something else"


def words(
    errors: Iterable[ErrorDetails], root: type[BaseModel], file: str, positions: Positions
) -> list[Problem]:
    """Translate what pydantic found wrong with a document for `root` into problems, in the order of their lines."""
    errors = list(errors)
    problems = []
    for error in errors:
        path: Path = tuple(error["loc"])
        if error["type"] == "too_short" and any(
            len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in errors
        ):
            continue  # an array is short because its elements are wrong, and they are reported
        context = error.get("ctx", {})
        other = (*path[:-1], context["also"]) if "also" in context else path
        if "below" in context:
            path = (*path, context["below"])
        line = positions.line(
            path if path in positions.lines else other
        )  # a default may clash with what is written
        problems.append(Problem(file, line, dotted(path), _sentence(error, path, root)))
    return sorted(problems, key=lambda problem: problem.line)


def _sentence(error: ErrorDetails, path: Path, root: type[BaseModel]) -> str:
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path, value, root)
    if kind == "missing":
        return "this key must be given"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"expected a table, found {found(value)}"
    if kind == "literal_error":
        return _choice(str(context.get("expected", "")), value)
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        return f"{found(value)} is not in {_range(path, root)}"
    if kind == "string_too_short" or (kind == "too_short" and value == ""):
        return "must not be empty"
    if kind == "too_short":
        return f"at least {context.get('min_length', 1)} must be listed"
    if kind == "too_long":
        return f"at most {context.get('max_length')} may be listed"
    if kind == "finite_number":
        return f"expected {_number('a number', path)}, found {found(value)}"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if expected := _EXPECTED.get(kind):
        return f"expected {_number(expected, path)}, found {found(value)}"
    return str(error["msg"])


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "tuple_type": "a list in [ ]",
    "is_instance_of": "the name of a file in quotes",
}


def _number(expected: str, path: Path) -> str:
    key = path[-1] if path else ""
    if expected.endswith("number") and isinstance(key, str):
        for suffix, unit in _UNITS.items():
            if key.endswith(suffix):
                return "a number of bytes per second" if key == "bytes_per_s" else expected + unit
    return expected


def _choice(expected: str, value: object) -> str:
    """``expected`` arrives as ``'opus', 'pcmu', 'pcma' or 'l16'``."""
    names = re.findall(r"'([^']*)'", expected)
    sentence = f"expected {expected.replace(chr(39), '')}, found {found(value)}"
    close = (
        difflib.get_close_matches(value.lower(), names, n=1)
        if isinstance(value, str) and len(value) < 64
        else []
    )
    return f"{sentence}; did you mean '{close[0]}'?" if close else sentence


def _range(path: Path, root: type[BaseModel]) -> str:
    lower = upper = None
    model, key = model_at(path[:-1], root), path[-1] if path else ""
    field = model.model_fields.get(str(key)) if model else None
    for mark in field.metadata if field else ():
        if isinstance(mark, annotated_types.Ge):
            lower = mark.ge
        elif isinstance(mark, annotated_types.Le):
            upper = mark.le
    if lower is None or upper is None:
        return f"{lower} or more" if upper is None else f"{upper} or less"
    return f"{lower}–{upper}"


def _unknown(path: Path, value: object, root: type[BaseModel]) -> str:
    key = str(path[-1])
    what = "section" if isinstance(value, Mapping) else "key"
    model = model_at(path[:-1], root)
    names = list(model.model_fields) if model else []
    if len(key) < 64 and (close := difflib.get_close_matches(key.lower().replace("-", "_"), names, n=1)):
        return f"unknown {what}; did you mean '{close[0]}'?"
    homes = [dotted(home) for home, other in tables(root) if key in other.model_fields]
    if homes:
        return f"unknown {what}; it belongs in " + " or ".join(
            f"[{home}]" if home else "the top level" for home in homes
        )
    where = f"[{dotted(path[:-1])}]" if len(path) > 1 else "the top level"
    return f"unknown {what}; {where} has " + ", ".join(names)


def model_at(path: Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The section class of the table at `path` of a document for `root`, or None where there is none."""
    model: type[BaseModel] | None = root
    for part in path:
        if model is None or isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        model = table_of(field.annotation) if field else None
    return model


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The section class that a field of this type holds, alone or in a list; None for a plain value."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (tuple, list, Union, types.UnionType):
        return next(filter(None, map(table_of, get_args(annotation))), None)
    return None


def is_array(annotation: Any) -> bool:
    """True where a field of this type is written as an array."""
    return get_origin(annotation) in (tuple, list)


def tables(root: type[BaseModel], path: Path = ()) -> list[tuple[Path, type[BaseModel]]]:
    """Every table that a document for `root` may have, outer before inner, in the order of the schema."""
    result: list[tuple[Path, type[BaseModel]]] = [(path, root)]
    for name, field in root.model_fields.items():
        if model := table_of(field.annotation):
            result += tables(model, (*path, name))
    return result
