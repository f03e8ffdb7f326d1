"""``ice status``: ask a running Rallypoint how it is, over its status page; with ``--mesh``, how its mesh is; with ``--reflectors``, a reflector; with
``--patches``, a patch server; with ``--calls``, a telephony gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.cli.calls_output import show_gateway
from ice.cli.display import duration
from ice.cli.mesh import show_mesh, whole
from ice.cli.options import config_option, json_option
from ice.cli.pages import START, TIMEOUT_S, fetch_object, site
from ice.cli.patches import show_patches
from ice.cli.reflectors import show_reflectors

MAX_ROWS = 50  # of links and streams on a screen; --json shows all that the daemon tells


@click.command()
@config_option
@click.option("--url", help="Address of the status pages, http://host:port.  [rallypoint.http.listen]")
@click.option(
    "--server",
    default="",
    metavar="https://HOST:PORT",
    help="With --patches and --calls: ask a server elsewhere over its control, as identity.certificate, whose role is operator.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=TIMEOUT_S, show_default=True, help="Seconds to wait."
)
@click.option("--mesh", is_flag=True, help="Show the other Rallypoints instead, and how each is reached.")
@click.option("--reflectors", is_flag=True, help="Ask the reflector of this machine instead: its rules.")
@click.option("--patches", is_flag=True, help="Ask the patch server of this machine instead: its patches.")
@click.option("--calls", is_flag=True, help="Ask the telephony gateway of this machine instead: its calls.")
@json_option
def status(
    config: Path | None,
    url: str | None,
    timeout: float,
    mesh: bool,
    reflectors: bool,
    patches: bool,
    calls: bool,
    server: str,
    as_json: bool,
) -> int:
    """Ask a running Rallypoint how it is.

    Exit status 0 when it runs and welcomes newcomers, else 1; with --mesh: 0 when all is well and every Rallypoint that is
    wanted can be reached, by whatever way, else 1; with --reflectors: 0 when every rule does its work, else 1; with --patches: 0 when every patch that is on does;
    with --calls: 0 when calls can be made, or another gateway of the group is there for them, else 1.
    """
    if mesh + reflectors + patches + calls > 1:
        raise click.UsageError(
            "--mesh is a Rallypoint's, --reflectors a reflector's, --patches a patch server's, --calls a gateway's: ask for one of them"
        )
    if server and (url or not (patches or calls)):
        raise click.UsageError("--server is for --patches and --calls, and instead of --url")
    if server:
        from ice.cli.calls import GATEWAY
        from ice.cli.control import Desk
        from ice.cli.patch import PATCH

        answer = Desk(PATCH if patches else GATEWAY, config, None, server).ask({"do": "status"})["status"]
    else:
        page = "mesh" if mesh else "status"
        section = "patch" if patches else "reflector" if reflectors else "gateway" if calls else "rallypoint"
        start = START if section == "rallypoint" else f"twistd -n --pidfile= ice-{section}"
        answer = fetch_object(f"{site(config, url, section)}/{page}", timeout_s=timeout, start=start)
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    elif mesh:
        show_mesh(answer, Console())
    elif reflectors:
        show_reflectors(answer, Console())
    elif patches:
        show_patches(answer, Console())
    elif calls:
        show_gateway(answer, Console())
    else:
        show(answer, Console())
    return 0 if (whole(answer) if mesh else answer.get("ready") is True) else 1


def show(answer: Mapping[str, Any], console: Console) -> None:
    """Write the answer for a person. What is missing in it, because the daemon is older or newer, is left out."""
    name, state = answer.get("name") or "?", answer.get("state") or "?"
    ready = (
        ""
        if answer.get("ready") is True
        else f", not ready: {answer.get('why_not_ready') or 'no reason given'}"
    )
    head = Text(f"{answer.get('daemon', 'daemon')} '{name}' is {state}{ready}")
    head.stylize("bold green" if not ready else "bold yellow")
    console.print(head)
    certificate = answer.get("certificate")
    facts = [
        ("up for", duration(answer.get("uptime_s"))),
        ("version", answer.get("version")),
        ("id", answer.get("id")),
        ("listens on", ", ".join(map(str, answer.get("listening") or ()))),
        ("CPU", f"{answer['cpu_percent']} %" if "cpu_percent" in answer else None),
        ("certificate", _certificate(certificate) if isinstance(certificate, Mapping) else None),
    ]
    for label, value in facts:
        if value:
            console.print(Text(f"  {label + ':':<13}{value}"))
    _traffic(answer.get("counters"), console)
    _links(answer, console)
    _streams(answer, console)


def _certificate(certificate: Mapping[str, Any]) -> str:
    return f"until {str(certificate.get('expires', '?'))[:10]} ({certificate.get('days_left', '?')} days)"


def _traffic(counters: Any, console: Console) -> None:
    if not isinstance(counters, Mapping):
        return
    words = [
        f"{_number(counters.get('media_received'))} packets in",
        f"{_number(counters.get('media_sent'))} out",
    ]
    for key, label in (
        ("media_dropped", "not passed on"),
        ("queue_dropped", "dropped for slow listeners"),
        ("newcomers_refused", "newcomers refused"),
        ("handshakes_failed", "handshakes failed"),
    ):
        reasons = counters.get(key)
        if isinstance(reasons, Mapping) and any(reasons.values()):
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
            words.append(f"{label}: {told}")
    console.print(Text(f"  {'traffic:':<13}{'; '.join(words)}"))


def _links(answer: Mapping[str, Any], console: Console) -> None:
    links = answer.get("links")
    if not isinstance(links, list):
        return
    total = answer.get("links_total", len(links))
    table = Table(title=f"links: {total}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("who", "role", "from", "streams"):
        table.add_column(heading, overflow="fold")
    for heading in ("since", "rtt", "in", "out", "dropped"):
        table.add_column(heading, justify="right")
    for link in links[:MAX_ROWS]:
        dropped = link.get("dropped")
        round_trip = link.get("rtt_ms")
        table.add_row(
            Text(str(link.get("name", "?"))),
            Text(str(link.get("role", "?"))),
            Text(str(link.get("address", "?"))),
            Text(", ".join(_joined(each) for each in link.get("streams") or ())),
            duration(link.get("age_s")) or "",
            "" if round_trip is None else f"{round_trip} ms",
            _number(link.get("received")),
            _number(link.get("sent")),
            _number(sum(dropped.values()) if isinstance(dropped, Mapping) else None),
        )
    _print(table, total, len(links), console)


def _joined(stream: Mapping[str, Any]) -> str:
    """A stream's name, with an arrow for who only listens or only talks."""
    listens, talks = stream.get("listen", True), stream.get("talk", True)
    arrow = "" if listens and talks else "← " if listens else "→ "
    return f"{arrow}{stream.get('stream', '?')}"


def _streams(answer: Mapping[str, Any], console: Console) -> None:
    streams = answer.get("streams")
    if not isinstance(streams, list):
        return
    total = answer.get("streams_total", len(streams))
    table = Table(title=f"streams: {total}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stream")
    for heading in ("listeners", "talkers", "packets"):
        table.add_column(heading, justify="right")
    for stream in streams[:MAX_ROWS]:
        table.add_row(
            Text(str(stream.get("stream", "?"))),
            *(_number(stream.get(key)) for key in ("listeners", "talkers", "packets")),
        )
    _print(table, total, len(streams), console)


def _print(table: Table, total: Any, known: int, console: Console) -> None:
    if not table.rows:
        console.print(Text(f"  {table.title}"))
        return
    console.print(table)
    if isinstance(total, int) and total > min(known, MAX_ROWS):
        console.print(Text(f"  … and {total - min(known, MAX_ROWS)} more (--json shows up to {known})"))


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
