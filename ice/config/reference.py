"""The two pages that are drawn from the schema, so that they cannot lag behind it.

::

    python -m ice.config.reference --toml > etc/ice.toml          # what is shipped: every key, switched off
    python -m ice.config.reference > docs/configuration.md        # the reference

Tests compare both files with what these functions write.
"""

import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ice.config.fields import RESTART
from ice.config.problems import is_array, table_of
from ice.config.render import toml_value
from ice.config.schema import Config
from ice.net.addresses import Address

_TOML_HEAD = """\
# The configuration of every ice program on this machine.
#
# All settings are here, each with its default, switched off by a # in front: remove that # and change the value.
# What stands in [[ ]] may be given any number of times, together with its keys; here it has an example.
# File names are relative to the folder of this file. Keys and passwords are never written here, only the names of
# their files. Try a change with:  ice check
# Then tell a running Rallypoint:  systemctl reload ice-rallypoint  (or send it SIGHUP)
# The reference: docs/configuration.md
"""

_PAGE_HEAD = """\
# Configuration

<!-- Written by `python -m ice.config.reference > docs/configuration.md`; change ice/config/schema.py, not this page. -->

One file in [TOML](https://toml.io/en/v1.0.0) configures every ice program of a machine. It is looked for in this order,
and the first that is found is read:

1. `--config FILE`
2. the environment variable `ICE_CONFIG`
3. `etc/ice.toml` in the current folder
4. `/etc/ice/ice.toml`

Every setting has a default, so an empty file is a valid one. Relative file names are relative to the folder of the
configuration file; `~` is the home of whoever runs the program. Keys and passwords are never written in it, only the
names of the files that hold them. `etc/ice.toml`, as shipped, shows every key; `etc/examples/` has whole sites.

`ice check` tells everything that is wrong with the file and with the certificates it names, all at once, each with file,
line, key and what to do; its exit status is 0 or 1. `ice check --print` shows the effective configuration. An unknown key
is an error:

```
etc/ice.toml:41: rallypoint.keepalives: unknown key; did you mean 'keepalive_s'?
```

A running Rallypoint reads the file again on SIGHUP (`systemctl reload ice-rallypoint`). A bad file is refused and changes
nothing. Settings marked *restart* are read once, when a program starts; all others are applied by the reload.

Units are in the names: `_s` is seconds (fractions allowed), `_ms` milliseconds, `_bytes` and `_percent` speak for
themselves. An address is `host:port`, with an IPv6 address in brackets: `"[2001:db8::7]:7443"`. Where a program listens is
always an IP address; `0.0.0.0` means each IPv4 address of the machine, `[::]` each of its addresses.
"""


def template() -> str:
    """The text of ``etc/ice.toml``: every key commented out with its default, under its section's heading."""
    return "\n".join([_TOML_HEAD, *_template(Config, "")]).rstrip() + "\n"


def page() -> str:
    """The text of ``docs/configuration.md``."""
    return "\n".join([_PAGE_HEAD, *_page(Config, "")]).rstrip() + "\n"


def _tables(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """Each table directly inside `model`: its dotted name, its class, whether it may be given several times."""
    for name, field in model.model_fields.items():
        if table := table_of(field.annotation):
            yield f"{path}.{name}" if path else name, table, is_array(field.annotation)


def _template(model: type[BaseModel], path: str) -> Iterator[str]:
    for name, table, several in _tables(model, path):
        yield f"# {_heading(table)}"
        yield f"#[[{name}]]" if several else f"[{name}]"
        for key, field in table.model_fields.items():
            if not table_of(field.annotation):
                yield f"# {field.description}{_bounds_note(field)}"
                yield f"#{key} = {toml_value(_example(field))}"
        yield ""
        yield from _template(table, name)


def _page(model: type[BaseModel], path: str) -> Iterator[str]:
    for name, table, several in _tables(model, path):
        yield f"## `[[{name}]]`" if several else f"## `[{name}]`"
        yield ""
        yield _cell(_heading(table)) + (" May be given any number of times." if several else "")
        yield ""
        yield "| key | values | default | applied by | meaning |"
        yield "|---|---|---|---|---|"
        for key, field in table.model_fields.items():
            if not table_of(field.annotation):
                applied = "restart" if RESTART in field.metadata else "reload"
                default = "must be given" if field.is_required() else f"`{toml_value(field.get_default())}`"
                cells = [f"`{key}`", _values(field), default, applied]
                yield "| " + " | ".join(map(_cell, [*cells, field.description or ""])) + " |"
        yield ""
        yield from _page(table, name)


def _example(field: FieldInfo) -> Any:
    """What stands in the shipped file: the default, but an example where the default would show nothing."""
    return field.examples[0] if field.examples else field.get_default()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("* ?", r"\* ?")


def _heading(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _bounds(field: FieldInfo) -> tuple[Any, Any]:
    lower = next((mark.ge for mark in field.metadata if isinstance(mark, annotated_types.Ge)), None)
    upper = next((mark.le for mark in field.metadata if isinstance(mark, annotated_types.Le)), None)
    return lower, upper


def _bounds_note(field: FieldInfo) -> str:
    lower, upper = _bounds(field)
    return "" if lower is None or upper is None else f" ({lower}–{upper})"


def _values(field: FieldInfo) -> str:
    lower, upper = _bounds(field)
    words = _type_in_words(field.annotation)
    return f"{words}, {lower}–{upper}" if lower is not None and upper is not None else words


def _type_in_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{toml_value(choice)}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return _type_in_words(arguments[0]) + ' or `""`'
    if origin is tuple:
        return "list: " + _type_in_words(arguments[0])
    if hasattr(annotation, "__metadata__"):
        return _type_in_words(arguments[0])
    return _TYPES.get(annotation) or str(annotation)


_TYPES: dict[Any, str] = {
    Address: "address",
    Path: "file",
    str: "text",
    bool: "true, false",
    int: "whole number",
    float: "number",
    UUID: "UUID",
}


if __name__ == "__main__":
    sys.stdout.write(template() if "--toml" in sys.argv[1:] else page())
