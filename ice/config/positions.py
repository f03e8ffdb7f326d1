"""On which line of a TOML file each key stands.

:mod:`tomllib` gives values without places; this scanner gives places without values, so that every error can name its
line. It never complains: what it cannot follow, :mod:`tomllib` refuses there or before, and the scan ends. It goes first,
because its work grows with the length of the text alone, while :mod:`tomllib` spends the square of a dotted key's length:
at the first key of more than :data:`MAX_DEPTH` parts it stops and says where. A place is found for each table header, each key, each element of an array and
each table of an array of tables; the path of a key is the one its value has in the parsed document, for example
``("rallypoint", "access", 1, "streams", 0)``.
"""

import contextlib
import re
from bisect import bisect_right
from collections.abc import Mapping

import attrs

Path = tuple[str | int, ...]

MAX_DEPTH = (
    32  # parts of a path; the deepest of ours has five: rallypoint.access, which one, streams, which one
)

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")
_BASIC = re.compile(r'"((?:[^"\\\n]|\\[^\n])*)"')
_LITERAL = re.compile(r"'([^'\n]*)'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*"{3,5}')
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


@attrs.frozen
class Repeated:
    """A key that is given a second time."""

    path: Path
    line: int
    first_line: int


@attrs.frozen
class Positions:
    """Where things stand in one text: line numbers, from 1, by path; what is given more than once; and where it became too deep.

    `too_deep` is the line of the first key, list or table more than :data:`MAX_DEPTH` deep, where the scan ended, or 0.
    """

    lines: Mapping[Path, int]
    repeated: tuple[Repeated, ...] = ()
    too_deep: int = 0

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest table around it that is written down; 1 for the document itself."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def scan(text: str) -> Positions:
    """Find the line of every key in `text` (TOML 1.0, line ends ``\\n``)."""
    scanner = _Scanner(text)
    with contextlib.suppress(_Lost):
        scanner.document()
    return Positions(scanner.lines, tuple(scanner.repeated), scanner.too_deep)


class _Lost(Exception):
    """The text is not what a TOML parser would accept here."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.repeated: list[Repeated] = []
        self.too_deep = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._last_table: dict[Path, int] = {}  # path of an array of tables -> index of its newest table
        self._declared: dict[Path, int] = {}  # headers and assignments

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            start = self.at
            if self.text.startswith("[[", start):
                table = self._array_header(start)
            elif self.text[start] == "[":
                table = self._header(start)
            else:
                self._assignment(table)

    def _array_header(self, start: int) -> Path:
        self.at += 2
        parts = self._key()
        self._expect("]]")
        array = self._within((), parts[:-1]) + parts[-1:]
        self._note(array, start)
        index = self._last_table.get(array, -1) + 1
        self._last_table[array] = index
        self._note((*array, index), start)
        return (*array, index)

    def _header(self, start: int) -> Path:
        self.at += 1
        parts = self._key()
        self._expect("]")
        table = self._within((), parts)
        self._note(table, start)
        self._declare(table, start)
        return table

    def _within(self, table: Path, parts: tuple[str, ...]) -> Path:
        """The path that a dotted header means: through an array of tables, it goes by way of the newest one."""
        for part in parts:
            table = (*table, part)
            if (index := self._last_table.get(table)) is not None:
                table = (*table, index)
        return table

    def _assignment(self, table: Path) -> None:
        start = self.at
        path = (*table, *self._key())
        self._expect("=")
        self._skip(_SPACE)
        self._note(path, start)
        self._declare(path, start)
        self._value(path)

    def _value(self, path: Path) -> None:
        text, at = self.text, self.at
        if text.startswith('"""', at):
            self._match(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._match(_LONG_LITERAL)
        elif text.startswith('"', at):
            self._match(_BASIC)
        elif text.startswith("'", at):
            self._match(_LITERAL)
        elif text.startswith("[", at):
            self._array(path)
        elif text.startswith("{", at):
            self._inline_table(path)
        else:
            self._match(_BARE_VALUE)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._follows("]"):
                return
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if not self._follows(","):
                self._expect("]")
                return

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self._follows("}"):
                return
            self._assignment(path)
            self._skip(_BLANK)
            if not self._follows(","):
                self._expect("}")
                return

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        start = self.at
        while True:
            self._bound(len(parts) + 1, start)
            self._skip(_SPACE)
            if self.text.startswith('"', self.at):
                parts.append(_ESCAPE.sub(_unescape, self._match(_BASIC)[1]))
            elif self.text.startswith("'", self.at):
                parts.append(self._match(_LITERAL)[1])
            else:
                parts.append(self._match(_BARE_KEY)[0])
            self._skip(_SPACE)
            if not self._follows("."):
                return tuple(parts)

    def _bound(self, depth: int, offset: int) -> None:
        if depth > MAX_DEPTH:
            self.too_deep = bisect_right(self._starts, offset)
            raise _Lost

    def _note(self, path: Path, offset: int) -> None:
        self._bound(len(path), offset)
        line = bisect_right(self._starts, offset)
        while path and path not in self.lines:
            self.lines[path] = line
            path = path[:-1]

    def _declare(self, path: Path, offset: int) -> None:
        line = bisect_right(self._starts, offset)
        first = self._declared.setdefault(path, offset)
        if first != offset:
            self.repeated.append(Repeated(path, line, bisect_right(self._starts, first)))

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        if not match or match.end() == self.at:
            raise _Lost
        self.at = match.end()
        return match

    def _follows(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _expect(self, token: str) -> None:
        if not self._follows(token):
            raise _Lost


def _unescape(match: re.Match[str]) -> str:
    number = match[1] or match[2]
    if number:
        code = int(number, 16)
        return chr(code) if code < 0x110000 else ""
    return _ESCAPED.get(match[3], match[3])
