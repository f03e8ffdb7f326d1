"""Files to frozen values: find the configuration, read it, and return it whole or not at all.

Looked for in this order: the argument (``--config``), the environment variable ``ICE_CONFIG``, ``etc/ice.toml`` in the
current folder, ``/etc/ice/ice.toml``. Whatever is wrong with the file, everything wrong with it is reported in one
:class:`~ice.config.problems.ConfigError`. Loading changes nothing but its result, so a daemon that reloads keeps
running on what it had.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from pydantic import ValidationError

from ice.config.cautions import warnings_about
from ice.config.fields import Section
from ice.config.positions import MAX_DEPTH, Positions, Repeated, scan
from ice.config.problems import ConfigError, Problem, dotted, plain, words
from ice.config.schema import Config
from ice.printable import printable

__all__ = ["MAX_BYTES", "PLACES", "ConfigError", "Loaded", "Problem", "load", "loads"]

MAX_BYTES = 1 << 20  # a large site with thousands of access rules stays under it
PLACES = (Path("etc/ice.toml"), Path("/etc/ice/ice.toml"))
HOW_TO_MAKE_ONE = (
    "copy etc/ice.toml from the source of ice to one of these places (as shipped it sets nothing: an empty file "
    "means the same), or name another with --config FILE"
)


@attrs.frozen
class Loaded:
    """A configuration that holds, and where it came from.

    `config` carries absolute paths. `warnings` are what is allowed but probably not meant. `positions` knows the line
    of each key that the file gives. `usual` is true for the file that is also found without being named, so that
    commands need no ``--config`` to mean it.
    """

    config: Config
    path: Path
    warnings: tuple[Problem, ...]
    positions: Positions = attrs.field(repr=False, eq=False)
    usual: bool = False

    def gives(self, *key: str) -> bool:
        """True when the file itself gives `key` (``loaded.gives("identity", "certificate")``)."""
        return key in self.positions.lines


def load(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read the configuration at `path`, or the first that is found; :class:`ConfigError` tells all that is wrong."""
    usual = _usual(environ)
    file = path if path is not None else usual
    if file is None:
        looked = ", ".join(["ICE_CONFIG (not set)", *(str(place) for place in PLACES)])
        raise ConfigError(
            [Problem("", 0, "", f"no configuration found; looked at {looked}; {HOW_TO_MAKE_ONE}")]
        )
    loaded = loads(_read(file), file)
    return attrs.evolve(loaded, usual=usual is not None and loaded.path == Path(os.path.abspath(usual)))


def load_if_any(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Loaded | None:
    """As :func:`load`, but none where no file is named and none is found: a mission over multicast needs no configuration."""
    return None if path is None and _usual(environ) is None else load(path, environ=environ)


def loads(text: str, file: Path) -> Loaded:
    """Read a configuration from `text` as if it stood in `file`, which need not exist."""
    shown = plain_path(file)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    values, positions = _parse(text, shown)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError(words(details, Config, shown, positions)) from None
    path = Path(os.path.abspath(file))
    config = _absolute(config, path.parent)
    return Loaded(config, path, warnings_about(config, shown, positions), positions)


def plain_path(file: Path) -> str:
    """The name of a file as it is shown to people: as it was given, without what a terminal might obey."""
    return printable(str(file))


def _usual(environ: Mapping[str, str]) -> Path | None:
    """The file that is read where none is named on the command line."""
    if named := environ.get("ICE_CONFIG"):
        return Path(named)
    return next((place for place in PLACES if place.exists()), None)


def _read(file: Path) -> str:
    def refuse(message: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(plain_path(file), line, "", message)])

    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse(f"there is no such file; {HOW_TO_MAKE_ONE}") from None
    except IsADirectoryError:
        raise refuse("expected a file, found a folder") from None
    except PermissionError:
        raise refuse("this user may not read it; see its owner and mode with ls -l") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES} bytes; is it a configuration at all?")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refuse(f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8", line) from None


def _parse(text: str, shown: str) -> tuple[dict[str, Any], Positions]:
    positions = scan(text)
    if positions.too_deep:
        message = f"keys, lists or tables are nested more than {MAX_DEPTH} deep; no setting is"
        raise ConfigError([Problem(shown, positions.too_deep, "", message)])
    try:
        return tomllib.loads(text), positions
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(text, shown, str(error))]) from None
    except ValueError as error:  # what tomllib lets through: numbers of more digits than Python converts
        raise ConfigError(
            [Problem(shown, 0, "", f"a value cannot be read: {plain(str(error), 160)}")]
        ) from None


_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TYPOGRAPHIC = re.compile("[\u2018-\u201f\u00ab\u00bb\u2032\u2033\u2039\u203a\uff02\uff07]")
_INVISIBLE = re.compile("[\u00a0\u2000-\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff]")
_BARE_WORD = re.compile(r"=\s*([A-Za-z][\w.:/-]*)")
_BOOLEANS = {"True": "true", "False": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_REPEATING = ("Cannot overwrite", "Cannot declare", "Duplicate inline table key")


def _syntax(text: str, shown: str, said: str) -> Problem:
    """What tomllib `said`, as line, column and a hint at the usual causes."""
    lines = text.split("\n")
    place = _PLACE.search(said)
    message = said[: place.start()] if place else said
    at_end = not place or place[1] is None
    line, column = (len(lines), len(lines[-1]) + 1) if at_end or not place else (int(place[1]), int(place[2]))
    if message.startswith(_REPEATING) and (again := _repeated(text, line)):
        return Problem(
            shown, again.line, dotted(again.path), f"given twice; the first time on line {again.first_line}"
        )
    written = lines[line - 1] if line <= len(lines) else ""
    end = " (the end of the file)" if at_end else ""
    return Problem(shown, line, "", f"column {column}{end}: {_cause(written, plain(message, 160))}")


def _repeated(text: str, line: int) -> Repeated | None:
    return next((again for again in scan(text).repeated if again.line <= line), None)


def _cause(written: str, message: str) -> str:
    code = written.split("#")[0]
    if quote := _TYPOGRAPHIC.search(code):
        return f'{quote[0]} (U+{ord(quote[0]):04X}) is a typographic quotation mark; TOML wants the plain "'
    if blank := _INVISIBLE.search(code):
        return (
            f"an invisible character (U+{ord(blank[0]):04X}) stands in column {blank.start() + 1}; delete it"
        )
    if message == "Invalid value" and (word := _BARE_WORD.search(code)):
        if word[1] in _BOOLEANS:
            return f"expected {_BOOLEANS[word[1]]}, found {word[1]}"
        return f'text needs quotes: "{plain(word[1])}"'
    if message.startswith("Expected '=' after a key") and re.match(r"\s*[\w.-]+\s*:", code):
        return "a key and its value are joined by =, not by :"
    return message[:1].lower() + message[1:]


def _absolute(section: Any, folder: Path) -> Any:
    """The same section with every relative file name made absolute against `folder`."""
    if isinstance(section, Path):
        return Path(os.path.normpath(folder / section))
    if isinstance(section, tuple):
        return tuple(_absolute(element, folder) for element in section)
    if isinstance(section, Section):
        new = {name: _absolute(getattr(section, name), folder) for name in type(section).model_fields}
        return section.model_copy(update=new)
    return section
