"""A configuration shown: as TOML with every key, or as plain values for JSON. Secrets stay hidden in both."""

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from ice.config.fields import SECRET
from ice.config.problems import is_array, table_of
from ice.net.addresses import Address

HIDDEN = "(hidden)"


def as_toml(section: BaseModel) -> str:
    """The whole of `section` as TOML; reading it back gives the same values, but for secrets."""
    return "\n".join(_lines(section, "")).strip() + "\n"


def as_plain(section: BaseModel) -> dict[str, Any]:
    """The whole of `section` as dictionaries, lists, text and numbers."""
    return {
        name: HIDDEN if SECRET in field.metadata else _plain(getattr(section, name))
        for name, field in type(section).model_fields.items()
    }


def toml_value(value: Any) -> str:
    """One value as TOML writes it; None, a thing switched off, is ``""``."""
    value = _plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )  # JSON lets DEL stand, TOML does not


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, Address | Path | UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(element) for element in value]
    if isinstance(value, BaseModel):
        return as_plain(value)
    return value


def _lines(section: BaseModel, path: str) -> Iterator[str]:
    fields = type(section).model_fields
    tables = {name for name, field in fields.items() if table_of(field.annotation)}
    for name, field in fields.items():
        if name not in tables:
            shown = HIDDEN if SECRET in field.metadata else getattr(section, name)
            yield f"{name} = {toml_value(shown)}"
        elif getattr(section, name) == () != field.get_default():
            yield f"{name} = []"  # no table at all, where by default there are some
    for name in fields:
        if name not in tables:
            continue
        inner = f"{path}.{name}" if path else name
        value = getattr(section, name)
        brackets = ("[[", "]]") if is_array(fields[name].annotation) else ("[", "]")
        for table in value if isinstance(value, tuple) else (value,):
            yield ""
            yield f"{brackets[0]}{inner}{brackets[1]}"
            yield from _lines(table, inner)
