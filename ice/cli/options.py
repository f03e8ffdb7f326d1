"""Options that several subcommands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

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


def verbosity() -> int:
    """How many ``-v`` were given to ``ice``; 0 outside a command."""
    context = click.get_current_context(silent=True)
    return int(context.meta.get(VERBOSE, 0)) if context else 0
