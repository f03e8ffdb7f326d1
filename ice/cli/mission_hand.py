"""``ice mission pack``, ``unpack`` and ``qr``: how a mission gets from one person to another."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from ice.cli.mission_source import given_password, keep, mention, password_options, source_of
from ice.errors import LocalError
from ice.mission.fitting import lean as leaner
from ice.mission.fitting import qr_text
from ice.mission.packing import deflected
from ice.mission.packing import pack as packed
from ice.mission.picture import columns, draw_characters, draw_png, draw_svg
from ice.mission.tolerant import read_json
from ice.mission.writing import write_json, write_mission

_KEYS = "it holds keys: whoever has it hears everything"
lean_option = click.option("--lean", is_flag=True, help="Leave out keys that only say the default.")
url_option = click.option(
    "--url", metavar="URL", help="Deflection URL: a telephone's camera opens this page."
)


@click.command()
@click.argument("file")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write, by custom F.ice [standard output]."
)
@url_option
@lean_option
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@password_options
def pack(
    file: str,
    out: Path | None,
    url: str | None,
    lean: bool,
    force: bool,
    ask: bool,
    password_file: Path | None,
) -> None:
    """Pack a mission into an .ice file, or one line of text.

    With --password it is sealed, and opens only with that word; without, whoever has it can read it.
    """
    reading = source_of(file).reading
    mission = leaner(reading.mission) if lean else reading.mission
    password = given_password(ask, password_file, twice=True)
    text = packed(write_mission(mission, compact=True), password)
    if url is not None:
        text = deflected(url, text)
    mention(reading.remarks, file)
    if out is None or str(out) == "-":
        _warn(password)
        click.echo(text)
        return
    keep(out, text, force)
    click.echo(f"{out}: {len(text):,} bytes; {'sealed with the password' if password else _KEYS}")


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
    if out is None or str(out) == "-":
        _warn(None)
        click.echo(text, nl=False)
        return
    keep(out, text, force)
    click.echo(f"{out}: written; {_KEYS}")


@click.command()
@click.argument("file")
@click.option("--out", type=click.Path(path_type=Path), help="F.png or F.svg to write [the terminal].")
@url_option
@lean_option
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@password_options
def qr(
    file: str,
    out: Path | None,
    url: str | None,
    lean: bool,
    force: bool,
    ask: bool,
    password_file: Path | None,
) -> None:
    """Show a mission as a QR code, or draw one into a file.

    A QR code holds 2,953 bytes; a mission that is too large is told what to leave out and how much that gains. Whoever photographs the
    code has the mission: --password seals it.
    """
    kind = out.suffix.lower() if out is not None else ""
    if out is not None and kind not in (".png", ".svg"):
        raise click.UsageError("--out wants a name that ends in .png or .svg")
    reading = source_of(file).reading
    mission = leaner(reading.mission) if lean else reading.mission
    text = qr_text(mission, url, given_password(ask, password_file, twice=True))
    mention(reading.remarks, file)
    if out is not None:
        keep(out, draw_png(text) if kind == ".png" else draw_svg(text), force)
        click.echo(
            f"{out}: {len(text):,} bytes in a QR code; {'sealed with the password' if _sealed(ask, password_file) else _KEYS}"
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


def _sealed(ask: bool, password_file: Path | None) -> bool:
    return ask or password_file is not None


def _warn(password: str | None) -> None:
    """Say what is about to stand on a terminal, where others may see it."""
    if password is None and sys.stdout.isatty():
        click.echo(f"this mission stands here in clear; {_KEYS}", err=True)
