"""Passwords of sealed missions in files: who may read the file, may read the missions.

There is no way to give the word itself to a command, or to write it into a configuration: other people's process lists, our shell's history, and copies of the configuration would have it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ice.errors import LocalError

MAX_PASSWORD: Final = 1_024  # bytes of a line
MAX_PASSWORDS: Final = 16  # each costs a tenth of a second to try


def read_password(path: Path) -> str:
    """The first line of a file. Raises :class:`LocalError`, without what stands there."""
    return _word(path, _read(path, MAX_PASSWORD + 1).split(b"\n", 1)[0], "the first line")


def read_passwords(path: Path) -> tuple[str, ...]:
    """The lines of a file, one password each; empty ones are passed over. Raises :class:`LocalError`, without what stands there."""
    lines = _read(path, MAX_PASSWORDS * (MAX_PASSWORD + 2)).splitlines()
    words = tuple(_word(path, line, f"line {number}") for number, line in enumerate(lines, 1) if line)
    if not 0 < len(words) <= MAX_PASSWORDS:
        raise LocalError(
            f"{path}: expected 1 to {MAX_PASSWORDS} lines with a password each, but there are {len(words)}"
        )
    return words


def _read(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise LocalError(f"{path}: cannot be read: {error.strerror or error}") from None


def _word(path: Path, line: bytes, where: str) -> str:
    line = line.removesuffix(b"\r")
    if len(line) > MAX_PASSWORD:
        raise LocalError(f"{path}: {where} is longer than {MAX_PASSWORD} bytes: is it the password?")
    if not line:
        raise LocalError(f"{path}: {where} is empty: write the password there")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise LocalError(f"{path}: {where} is no UTF-8 text") from None
