"""``ice mission pack``, ``unpack`` and ``qr``: how a mission gets from one person to another."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from ice.cli.mission_source import given_password, keep, mention, password_options, source_of
from ice.errors import LocalError
from ice.mission.fitting import lean as leaner
from ice.mission.fitting import qr_text
from ice.mission.model import Mission
from ice.mission.packing import deflected
from ice.mission.packing import pack as packed
from ice.mission.picture import columns, draw_characters, draw_png, draw_svg
from ice.mission.tolerant import read_json
from ice.mission.writing import write_json, write_mission

_KEYS = "it holds keys: whoever has it hears everything"


@attrs.frozen
class Handing:
    """How a mission is to be handed on: into which file, behind which page, sealed with what."""

    out: Path | None
    url: str | None
    lean: bool
    force: bool
    ask: bool
    password_file: Path | None

    def mission(self, read: Mission) -> Mission:
        """What of the mission goes along."""
        return leaner(read) if self.lean else read

    @property
    def sealed(self) -> bool:
        """Whether it takes a password to open it."""
        return self.ask or self.password_file is not None

    def password(self) -> str | None:
        """That password; typed twice where it is asked for."""
        return given_password(self.ask, self.password_file, twice=True)


def handing(out_help: str) -> Callable[[Callable[[str, Handing], None]], Callable[..., None]]:
    """Add the argument FILE and the options of :class:`Handing`; the command receives ``file`` and ``to``."""

    def add(command: Callable[[str, Handing], None]) -> Callable[..., None]:
        @click.argument("file")
        @click.option("--out", type=click.Path(path_type=Path), help=out_help)
        @click.option("--url", metavar="URL", help="Deflection URL: a telephone's camera opens this page.")
        @click.option("--lean", is_flag=True, help="Leave out keys that only say the default.")
        @click.option("--force", is_flag=True, help="Overwrite what is there.")
        @password_options
        @functools.wraps(command)
        def run(file: str, **given: Any) -> None:
            command(file, Handing(**given))

        return run

    return add


@click.command()
@handing("File to write, by custom F.ice [standard output].")
def pack(file: str, to: Handing) -> None:
    """Pack a mission into an .ice file, or one line of text.

    With --password it is sealed, and opens only with that word; without, whoever has it can read it.
    """
    reading = source_of(file).reading
    password = to.password()
    text = packed(write_mission(to.mission(reading.mission), compact=True), password)
    if to.url is not None:
        text = deflected(to.url, text)
    mention(reading.remarks, file)
    told = f"{len(text):,} bytes; {'sealed with the password' if password else _KEYS}"
    _hand_over(text, to.out, to.force, password, told)


@click.command()
@click.argument("file")
@click.option("--out", type=click.Path(path_type=Path), help="File to write [standard output].")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@password_options
def unpack(file: str, out: Path | None, force: bool, ask: bool, password_file: Path | None) -> None:
    """Print the JSON in a packed mission or in a picture of a QR code.

    Numbers and the order of keys are as they were packed; line breaks are added for people.
    """
    source = source_of(file, ask, password_file)
    text = write_json(read_json(source.text, source.name), 2) + "\n"
    _hand_over(text, out, force, None, f"written; {_KEYS}")


@click.command()
@handing("F.png or F.svg to write [the terminal].")
def qr(file: str, to: Handing) -> None:
    """Show a mission as a QR code, or draw one into a file.

    A QR code holds 2,953 bytes; a mission that is too large is told what to leave out and how much that gains. Whoever photographs the
    code has the mission: --password seals it.
    """
    kind = to.out.suffix.lower() if to.out is not None else ""
    if to.out is not None and kind not in (".png", ".svg"):
        raise click.UsageError("--out wants a name that ends in .png or .svg")
    reading = source_of(file).reading
    text = qr_text(to.mission(reading.mission), to.url, to.password())
    mention(reading.remarks, file)
    if to.out is not None:
        keep(to.out, draw_png(text) if kind == ".png" else draw_svg(text), to.force)
        click.echo(
            f"{to.out}: {len(text):,} bytes in a QR code; {'sealed with the password' if to.sealed else _KEYS}"
        )
        return
    if sys.stdout.isatty():
        wide = columns(text)
        there = shutil.get_terminal_size().columns
        if there < wide:
            raise LocalError(
                f"this code takes {wide} columns, the terminal has {there}: make its window wider or its letters smaller, or use --out F.png"
            )
    click.echo(draw_characters(text, coloured=sys.stdout.isatty()), nl=False)


def _hand_over(text: str, out: Path | None, force: bool, password: str | None, told: str) -> None:
    """Onto the terminal, or into a file, of which ``told`` is said."""
    if out is None or str(out) == "-":
        _warn(password)
        click.echo(text, nl=not text.endswith("\n"))
        return
    keep(out, text, force)
    click.echo(f"{out}: {told}")


def _warn(password: str | None) -> None:
    """Say what is about to stand on a terminal, where others may see it."""
    if password is None and sys.stdout.isatty():
        click.echo(f"this mission stands here in clear; {_KEYS}", err=True)
