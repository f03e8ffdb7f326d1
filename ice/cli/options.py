"""Options that several subcommands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., object])

VERBOSE = "ice.verbose"  # where the number of -v stands in click's shared `meta`


def config_option(command: _F) -> _F:
    """Add ``--config FILE``; the command receives ``config: Path | None``, ready for :func:`ice.config.load.load`."""
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        help="Configuration file [ICE_CONFIG, ./etc/ice.toml, /etc/ice/ice.toml].",
    )(command)


def password_option(command: _F) -> _F:
    """Add ``--password-file FILE``; the command receives ``password_file: Path | None``."""
    return click.option(
        "--password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File whose first line is the password of a sealed mission.  [asked for]",
    )(command)


def json_option(command: _F) -> _F:
    """Add ``--json``; the command receives ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for machines.")(command)


def usual_option(
    name: str, kind: "click.ParamType[Any]", usual: object, help: str, *, into: str | None = None
) -> Callable[[_F], _F]:
    """Add an option that has a value unless told otherwise, which its help shows; ``into``: the parameter's name where it is another."""
    names = (name,) if into is None else (name, into)
    return click.option(*names, type=kind, default=usual, show_default=True, help=help)


def timeout_option(
    usual_s: float, help: str = "Give up when not connected after so many seconds.", *, into: str = "timeout"
) -> Callable[[_F], _F]:
    """Add ``--timeout SECONDS``."""
    return usual_option("--timeout", click.FloatRange(0.1), usual_s, help, into=into)


def once_options(table: str) -> Callable[[_F], _F]:
    """Add ``--once SECONDS`` and ``--seconds SECONDS`` to a command that shows a table live; it receives ``once`` and ``seconds``."""

    def add(command: _F) -> _F:
        once = f"Listen so long, print the {table} once, and end."
        longer = click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this long.")
        return click.option("--once", type=click.FloatRange(0.1), metavar="SECONDS", help=once)(
            longer(command)
        )

    return add


def verbosity() -> int:
    """How many ``-v`` were given to ``ice``; 0 outside a command."""
    context = click.get_current_context(silent=True)
    return int(context.meta.get(VERBOSE, 0)) if context else 0
