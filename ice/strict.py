"""JSON from elsewhere, read strictly: bounded in size and depth, no key twice in one object, no number that is none."""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

from ice.errors import RemoteError

MAX_DEPTH: Final = 32  # the deepest part of what we read (a bridges file's groups) has some ten
#: A text, and one without an end up to where the data ends: were that none, it would be looked for again from each quote in it, which takes the square of the size.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


class NoJson(RemoteError):
    """These bytes are no JSON that is read here; the message says where and why."""


def load(data: bytes, most: int) -> object:
    """The value of a document of at most ``most`` bytes. Raises :class:`NoJson`."""
    if len(data) > most:
        raise NoJson(f"{len(data)} bytes are too many; at most {most} are read")
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b'""', data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise NoJson(f"JSON {deepest} levels deep; at most {MAX_DEPTH} are read")
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NoJson(f"this is no JSON: {error}") from None
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is there twice in one object")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
