"""``ice calls``: the calls of a telephony gateway, over its control; and what its records say, from their file."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ice.cli.control import Controlled, Desk, control_options
from ice.cli.options import config_option, json_option
from ice.errors import LocalError

if TYPE_CHECKING:
    from ice.telephony.causes import Cause

GATEWAY = Controlled(
    "gateway", "ice-gateway", "gateway.control", "gateway.sock", lambda config: config.gateway.control
)
UNIT_RECORDS = Path("/var/lib/ice/calls.db")  # where the unit of the gateway keeps them


@click.group()
def calls() -> None:
    """Telephone calls: the gateway of this machine, and its records."""


@calls.command("list")
@control_options(GATEWAY)
@json_option
def list_(desk: Desk, as_json: bool) -> int:
    """Show the calls there are."""
    answer = desk.ask({"do": "list"})
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    from rich.console import Console

    from ice.cli.calls_output import show_calls
    from ice.cli.satellites import rows

    show_calls(rows(answer.get("calls")), Console())
    return 0


@calls.command("hang-up")
@click.argument("id")
@control_options(GATEWAY)
def hang_up(id: str, desk: Desk) -> int:
    """End a call; ice calls list tells its ID, of which the beginning is enough."""
    answer = desk.ask({"do": "hang-up", "id": id})
    click.echo(f"call {answer.get('id')} is ended")
    return 0


@calls.command()
@click.argument("channel")
@click.argument("number")
@control_options(GATEWAY)
def dial(channel: str, number: str, desk: Desk) -> int:
    """Call NUMBER for a CHANNEL; who answers hears it, and may talk on it."""
    answer = desk.ask({"do": "dial-out", "channel": channel, "number": number})
    click.echo(f"calling {number} for {channel}: call {answer.get('id')}")
    return 0


@calls.command()
@config_option
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the records.  [gateway.records.file; that of the unit, or of one's own state folder]",
)
@click.option(
    "--since", metavar="TIME", help="Calls that began then or later: 2026-01-31, or 2026-01-31T12:00."
)
@click.option("--until", metavar="TIME", help="Calls that began before.")
@click.option("--user", default="", help="Of a person: the name or UUID.")
@click.option("--number", default="", help="With a number, far or dialled, in its normal form.")
@click.option("--cause", default="", help="That ended so: busy, no-answer, hung-up …")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="How many, the newest first."
)
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with a line of names.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object per line.")
def records(
    config: Path | None,
    file: Path | None,
    since: str | None,
    until: str | None,
    user: str,
    number: str,
    cause: str,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Show call records, or export them; the gateway may be running."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    from ice.telephony.records import json_lines, read, write_csv

    found = read(
        file or _file(config),
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        user=user,
        number=number,
        cause=_cause(cause),
        limit=limit,
    )
    if as_csv:
        write_csv(found, sys.stdout)
    elif as_json:
        for line in json_lines(found):
            click.echo(line)
    else:
        from rich.console import Console

        from ice.cli.calls_output import show_records

        show_records(found, Console())
    return 0


def _file(config: Path | None) -> Path:
    """Where the records are: as configured, that of the unit, or of one's own state folder."""
    import os

    from ice.config.load import load
    from ice.election.connect import state_folder
    from ice.telephony.connect import RECORDS

    loaded = load(config)
    if (given := loaded.config.gateway.records.file) is not None:
        return given
    own = state_folder(os.environ) / RECORDS
    found = next((path for path in (own, UNIT_RECORDS) if path.exists()), None)
    if found is None:
        raise LocalError(
            f"there are no call records at {own} nor at {UNIT_RECORDS}: name the file with --file"
        )
    return found


def _time(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(
            f"{option}: expected a time like 2026-01-31 or 2026-01-31T12:00, found {text[:40]!r}"
        ) from None


def _cause(text: str) -> Cause | None:
    from ice.telephony.causes import Cause

    if not text:
        return None
    try:
        return Cause(text)
    except ValueError:
        raise click.UsageError(f"--cause is one of {', '.join(Cause)}") from None
