"""Reads JSON as the original reads it: what is wrong is replaced by its default, but here a remark says so.

The original takes every key as optional and swallows what it does not understand. Files that sites have lived with for years
are therefore full of small mistakes, and must go on working. So nothing that the original reads is refused here: a value of
the wrong kind, or out of range, becomes the default and a :class:`Remark` that names its place; a key that nobody asked for
is kept for whoever writes the file again (:meth:`Tolerant.rest`). ``null`` counts as absent, as it does there.

What is no JSON at all is refused by a :class:`MissionError` with line and column. So is what only means harm: text that is too large or too
deep. Numbers come out with their spelling (:class:`Written`), so that a file that is read and written again keeps ``1.50``.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import attrs

from ice.errors import RemoteError
from ice.printable import printable

_T = TypeVar("_T")
Json = object  # whatever read_json returns; a name of its own, for Tolerant.object hides the builtin

MAX_BYTES: Final = 2 * 1024 * 1024  # a hundred groups with inline certificates are a quarter of it
MAX_DEPTH: Final = (
    64  # the original's own files are seven deep; Python's reader would end at about a thousand
)
MAX_OBJECTS: Final = 50_000  # of a site's largest lists; each is a value that is made
MAX_REMARKS: Final = 500  # who made more mistakes than this does not read the rest
MAX_NUMBER: Final = 300  # digits; the largest float has 309, and int() is quadratic
SHOWN: Final = 40  # characters of wrong text that are repeated to its author
TYPOGRAPHIC: Final = frozenset("“”„‟«»″〝〞＂‘’‚‛‹›′＇")  # what word processors and telephones make of "
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*\Z")


class MissionError(RemoteError):
    """Something that cannot be read as a mission (or as another of the original's files).

    :ivar source: the file, or what else was read, as the person named it.
    :ivar line: counted from 1, or None where no line is to blame.
    :ivar column: in characters, counted from 1.
    :ivar path: where in the JSON, like ``groups[2].rx``; empty for all of it.
    """

    def __init__(
        self, source: str, text: str, *, line: int | None = None, column: int | None = None, path: str = ""
    ) -> None:
        place = source if line is None else f"{source}:{line}:{column}"
        super().__init__(f"{place}: {path}: {text}" if path else f"{place}: {text}")
        self.source = source
        self.line = line
        self.column = column
        self.path = path


@attrs.frozen
class Remark:
    """Something that the original would have swallowed without a word.

    :ivar path: where, like ``groups[2].txAudio.framingMs``; empty for the file as a whole.
    :ivar text: what was expected, what came, and what is taken in its place.
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class Written(float):
    """A number and how it was written: ``1.50``, ``1e3``, ``-0``, or more digits than a float holds."""

    text: str

    def __new__(cls, text: str) -> "Written":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


class Doubled(dict[str, Any]):
    """A JSON object in which keys occur more than once; the last of each counts, as in the original."""

    twice: tuple[str, ...] = ()


def child(path: str, key: str) -> str:
    """The path of a member: ``groups[0].name``, or ``groups[0]["odd key"]``."""
    if not _PLAIN_KEY.match(key):
        return f"{path}[{json.dumps(shown_text(key), ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


class Tolerant:
    """One JSON object that is being read; ``remarks`` collects what was not as expected.

    A key is known from the moment that somebody asks for it, whatever comes of the question.
    """

    def __init__(self, value: Mapping[str, object], path: str, remarks: list[Remark]) -> None:
        self.value = value
        self.path = path
        self.remarks = remarks
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether the key is there with a value; ``null`` is none."""
        return self.value.get(key) is not None

    def raw(self, key: str) -> object:
        """The value as it stands, or None."""
        self._asked.add(key)
        return self.value.get(key)

    def text(self, key: str, default: str = "", *, secret: bool = False) -> str:
        """A string; a ``secret`` one is not repeated when it is wrong."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        self._wrong(key, "text in quotes", value, _taken(default), secret=secret)
        return default

    def whole(self, key: str, default: int, low: int | None = None, high: int | None = None) -> int:
        """A whole number from ``low`` to ``high``; ``60.0`` is one."""
        value = self.raw(key)
        if value is None:
            return default
        number = _as_whole(value)
        if number is None or not _within(number, low, high):
            self._wrong(key, f"a whole number{_range(low, high)}", value, _taken(default))
            return default
        return number

    def number(self, key: str, default: float, low: float | None = None, high: float | None = None) -> float:
        """A finite number from ``low`` to ``high``."""
        value = self.raw(key)
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not _within(value, low, high)
        ):
            self._wrong(key, f"a number{_range(low, high)}", value, _taken(default))
            return default
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value, _taken(default))
        return default

    def object(self, key: str) -> "Tolerant | None":
        """An object, or None where there is none."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, Mapping):
            return Tolerant(value, child(self.path, key), self.remarks)
        self._wrong(key, "an object in braces", value, "it is left out")
        return None

    def objects(self, key: str) -> list["Tolerant"]:
        """The objects of a list; anything else in it is passed over."""
        path = child(self.path, key)
        found = []
        for index, value in enumerate(self._list(key)):
            if isinstance(value, Mapping):
                found.append(Tolerant(value, f"{path}[{index}]", self.remarks))
            else:
                self.remark(
                    f"{path}[{index}]", f"expected an object in braces, found {shown(value)}; it is left out"
                )
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings of a list; anything else in it is passed over."""
        return tuple(
            self._those(key, "text in quotes", lambda value: value if isinstance(value, str) else None)
        )

    def wholes(self, key: str, low: int | None = None, high: int | None = None) -> tuple[int, ...]:
        """The whole numbers of a list that are within range; anything else in it is passed over."""

        def fitting(value: Json) -> int | None:
            number = _as_whole(value)
            return number if number is not None and _within(number, low, high) else None

        return tuple(self._those(key, f"a whole number{_range(low, high)}", fitting))

    def rest(self) -> Mapping[str, Json]:
        """The keys that nobody has asked for yet, in their order."""
        return {key: value for key, value in self.value.items() if key not in self._asked}

    def about(self, key: str, text: str) -> None:
        """Add a remark about a member of this object."""
        self.remark(child(self.path, key), text)

    def remark(self, path: str, text: str) -> None:
        """Add a remark; after :data:`MAX_REMARKS` only one more, which says so."""
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(Remark(path, text))
        elif len(self.remarks) == MAX_REMARKS:
            self.remarks.append(Remark("", f"more than {MAX_REMARKS} remarks: the rest are not told"))

    def _list(self, key: str) -> list[Json]:
        value = self.raw(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        self._wrong(key, "a list in square brackets", value, "it is left out")
        return []

    def _those(self, key: str, expected: str, fitting: Callable[[Json], _T | None]) -> Iterator[_T]:
        for index, value in enumerate(self._list(key)):
            found = fitting(value)
            if found is None:
                path = f"{child(self.path, key)}[{index}]"
                self.remark(path, f"expected {expected}, found {shown(value)}; it is left out")
            else:
                yield found

    def _wrong(self, key: str, expected: str, value: Json, instead: str, *, secret: bool = False) -> None:
        found = kind(value) if secret else shown(value)
        self.about(key, f"expected {expected}, found {found}; {instead}")


def read_json(data: str | bytes, source: str) -> object:
    """What a JSON text says: dicts (:class:`Doubled` where keys are repeated), lists, str, bool, None, int, :class:`Written`.

    :param source: its name in errors.
    :raises MissionError: it is no JSON, too large or too deep; with line and column.
    """
    text = _decoded(data, source)
    _check_shape(text, source)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        _refuse(text, source, error)
    except _BadNumber as error:
        raise MissionError(source, str(error)) from None


def doubled(value: object) -> list[Remark]:
    """A remark for each key that an object of this JSON value holds more than once."""
    found: list[Remark] = []
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting and len(found) < MAX_REMARKS:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            if isinstance(value, Doubled):
                found += [
                    Remark(child(path, key), "this key stands here more than once; the last one counts")
                    for key in value.twice
                ]
            waiting += [(child(path, key), each) for key, each in reversed(list(value.items()))]
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", each) for index, each in reversed(list(enumerate(value)))]
    return found[:MAX_REMARKS]


def kind(value: object) -> str:
    """What a JSON value is, without what it says."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "an object" if isinstance(value, Mapping) else "a list"


def shown(value: object) -> str:
    """A JSON value as it is repeated to its author: short, and nothing in it that a terminal obeys."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{shown_text(value)}"'
    if isinstance(value, Written):
        return shown_text(value.text)
    if isinstance(value, int | float):
        return shown_text(str(value))
    return kind(value)


def shown_text(text: str) -> str:
    """Text as it is repeated to its author: at most :data:`SHOWN` characters, all printable."""
    return printable(text, SHOWN)


# -- what is behind


class _BadNumber(ValueError):
    """A number that JSON does not know."""


def _as_whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == math.floor(value):
        return int(value)
    return None


def _within(number: float, low: float | None, high: float | None) -> bool:
    return (low is None or number >= low) and (high is None or number <= high)


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" of at most {high:g}"
    return f" of at least {low}" if high is None else f" in {low}–{high}"


def _taken(default: object) -> str:
    return "none is taken" if default == "" else f"{shown(default)} is taken"


def _whole(text: str) -> int | Written:
    if len(text) > 18 or text == "-0":  # what every reader's 64-bit integers hold for certain
        return _real(text)
    return int(text)


def _real(text: str) -> Written:
    if len(text) > MAX_NUMBER:
        raise _BadNumber(f"a number of {len(text)} characters; at most {MAX_NUMBER} are read")
    return Written(text)


def _constant(text: str) -> NoReturn:
    raise _BadNumber(f"expected JSON, found {text}, which is no number in JSON; write a number, or null")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key, _ in pairs:
        if key in seen:
            twice[key] = None
        seen.add(key)
    found = Doubled(plain)
    found.twice = tuple(twice)
    return found


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_whole, parse_float=_real, parse_constant=_constant
)


def _decoded(data: str | bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise MissionError(
            source, f"{len(data):,} bytes of JSON; at most {MAX_BYTES:,} are read. Is this the right file?"
        )
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    encoding = json.detect_encoding(data)  # UTF-16 too: some editors save so
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        raise MissionError(
            source,
            f"expected UTF-8, found byte 0x{data[error.start]:02x}; save the file as UTF-8",
            line=before.count(b"\n") + 1,
            column=error.start - before.rfind(b"\n"),
        ) from None


def _check_shape(text: str, source: str) -> None:
    depth = objects = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("{", "["):
            depth += 1
            objects += token == "{"
            if objects > MAX_OBJECTS:
                raise MissionError(
                    source, f"more than {MAX_OBJECTS:,} objects in braces. Is this the right file?"
                )
            if depth > MAX_DEPTH:
                line, column = _place(text, match.start())
                raise MissionError(
                    source, f"nested more than {MAX_DEPTH} deep; no mission is", line=line, column=column
                )
        elif token in ("}", "]"):
            depth -= 1


def _place(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _refuse(text: str, source: str, error: json.JSONDecodeError) -> NoReturn:
    position = error.pos
    quote = _typographic(text, position)
    if quote is not None:
        line, column = _place(text, quote)
        raise MissionError(
            source,
            f"found the typographic quote {text[quote]}, which a word processor or a telephone makes: "
            'type the plain " of a keyboard in its place',
            line=line,
            column=column,
        ) from None
    before = text[:position].rstrip()
    if text[position : position + 1] in ("}", "]") and before.endswith(","):
        position = len(before) - 1  # where newer readers point too
    line, column = _place(text, position)
    raise MissionError(source, _why(text, position, error.msg), line=line, column=column) from None


def _typographic(text: str, position: int) -> int | None:
    """The typographic quote that is to blame for an error at ``position``, if one is."""
    start = 0  # of what stands outside of strings
    last = None  # string before the error
    for match in _STRING.finditer(text, 0, min(len(text), position + 1)):
        for index in range(start, match.start()):
            if text[index] in TYPOGRAPHIC:
                return index
        start = match.end()
        last = match
    for index in range(start, min(len(text), position + 1)):
        if text[index] in TYPOGRAPHIC:
            return index
    if last is not None:  # "name”: "Red" : the string did not end where its author meant it to
        for index in range(last.start(), last.end()):
            if text[index] in TYPOGRAPHIC and text[index + 1 : index + 3].lstrip()[:1] in (
                ":",
                ",",
                "}",
                "]",
            ):
                return index
    return None


def _why(text: str, position: int, message: str) -> str:
    if not text.strip():
        return "expected JSON, found nothing: the file is empty"
    if position >= len(text.rstrip()):
        return f"the JSON ends too early ({message}); is the file whole?"
    found = text[position : position + 20].split("\n")[0]
    if found.startswith(("//", "/*", "#")):
        return "JSON knows no comments: take this one out"
    if found.startswith("'"):
        return "JSON wants the double quote \" here, not '"
    if found.startswith(",") and text[position + 1 :].lstrip()[:1] in ("}", "]"):
        return "there is a comma too many here"
    return f"this is no JSON: {message[:1].lower()}{message[1:]}, found {shown(found)}"
