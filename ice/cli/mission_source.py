"""How the subcommands of ``ice mission`` are given missions and passwords, and how they write files with keys in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from ice.errors import LocalError
from ice.mission.packing import PasswordNeeded, WrongPassword
from ice.mission.password import read_password
from ice.mission.reading import Reading, json_in, mission_text, read_mission
from ice.security.files import KEY_MODE, Draft, write

_F = TypeVar("_F", bound=Callable[..., object])
STANDARD_INPUT = "-"


def password_options(command: _F) -> _F:
    """Add ``--password`` (asks for it) and ``--password-file``; the command receives ``ask`` and ``password_file``.

    There is no way to give the word itself: other people's process lists, and our shell's history, would have it.
    """
    command = click.option(
        "--password-file",
        type=click.Path(path_type=Path),
        help="First line: the password that seals the mission.",
    )(command)
    return click.option(
        "--password", "ask", is_flag=True, help="Ask for the password that seals the mission."
    )(command)


def given_password(ask: bool, password_file: Path | None, *, twice: bool = False) -> str | None:
    """The password, or None where none was asked for. ``twice``: a new one, typed again for certainty."""
    if password_file is not None:
        return read_password(password_file)
    if not ask:
        return None
    found = click.prompt("password", hide_input=True, confirmation_prompt=twice, err=True)
    assert isinstance(found, str)
    return found


@attrs.frozen
class Source:
    """A mission that was given. :ivar name: for messages; :ivar path: its file, where it has one; :ivar password: what it is sealed with."""

    name: str
    text: str | bytes = attrs.field(repr=False)
    path: Path | None
    password: str | None = attrs.field(repr=False)

    @property
    def was_packed(self) -> bool:
        """Whether the JSON was inside something else; what is JSON itself comes as the bytes that the file has."""
        return self.path is not None and isinstance(self.text, str)

    @property
    def reading(self) -> Reading:
        """The mission, with remarks."""
        return read_mission(self.text, self.name)


def source_of(given: str, ask: bool = False, password_file: Path | None = None) -> Source:
    """What was given, unpacked; a sealed one on a terminal is asked for its password without being told to."""
    password = given_password(ask, password_file)
    try:
        return _source(given, password)
    except PasswordNeeded:
        if given == STANDARD_INPUT or not sys.stdin.isatty():
            raise
        return _source(given, given_password(True, None))
    except WrongPassword:
        if not ask or not sys.stdin.isatty():
            raise
        click.echo("the password does not open this mission; once more", err=True)
        return _source(given, given_password(True, None))


def _source(given: str, password: str | None) -> Source:
    if given == STANDARD_INPUT:
        data = sys.stdin.buffer.read()
        return Source("standard input", json_in(data, "standard input", password), None, password)
    text, name = mission_text(given, password)
    return Source(name, text, Path(given) if name == given and os.path.exists(given) else None, password)


def mention(remarks: Sequence[Any], name: str) -> None:
    """Tell on standard error that there is more to say than this command shows."""
    if remarks:
        count = f"{len(remarks)} remark{'' if len(remarks) == 1 else 's'}"
        click.echo(f"{count} about this file; see them with: ice mission check {name}", err=True)


def keep(path: Path, data: str | bytes, force: bool) -> None:
    """Write a file that may hold keys: nobody else can read it, nothing is overwritten unless ``force`` says so."""
    if path.is_dir():
        raise LocalError(f"{path}: is a folder; name a file in it")
    write([Draft(path, data.encode() if isinstance(data, str) else data, KEY_MODE)], replace=force)
