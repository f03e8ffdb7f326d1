"""``ice election watch``: the members of a server group, live: who leads, who stands by, and why.

Nothing is sent: ballots and reports are heard on the ways that the group has, as its members hear them.  For the Rallypoints' stream a satellite's certificate is needed; where there is none, multicast
alone is listened to, and that is said.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ice.cli.options import config_option, json_option, verbosity
from ice.election.watching import Row, Watching
from ice.printable import printable

REFRESH_S: Final = 0.25
CYCLES_ONCE: Final = 1.2  # in which every member has said something
MESSAGE_CELLS: Final = 90
HEADINGS: Final = ("member", "votes", "state", "names", "heard by", "clock", "says")


@click.command()
@click.argument("group", metavar="GROUP")
@config_option
@click.option("--once", is_flag=True, help="Listen for a cycle, print the members once, and end.")
@click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this long.")
@json_option
def watch(group: str, config: Path | None, once: bool, seconds: float | None, as_json: bool) -> int:
    """Watch the server group GROUP (its name or id): members, votes, states, who leads and why.

    Nothing is sent. Exit status 0 when somebody leads at the end, else 1.
    """
    from ice.cli import loop
    from ice.config.load import load
    from ice.election.connect import named_group

    loaded = load(config)
    settings = named_group(loaded, group)
    rules = settings.rules()
    if once:
        seconds = CYCLES_ONCE * rules.cycle_s + 1.0

    async def main(reactor: Any, stop: loop.Stop) -> int:
        return await _watch(reactor, stop, loaded, settings, rules, seconds, once, as_json)

    return loop.run(main, verbosity=verbosity())


async def _watch(
    reactor: Any,
    stop: Any,
    loaded: Any,
    settings: Any,
    rules: Any,
    seconds: float | None,
    once: bool,
    as_json: bool,
) -> int:
    from twisted.internet.task import LoopingCall

    from ice.cli.loop import first, sleep
    from ice.election.connect import ways_of
    from ice.errors import LocalError
    from ice.streams.connect import network_of

    network = None
    if settings.rallypoint:
        try:
            network = network_of(loaded, reactor)
        except LocalError as error:
            if not settings.interface:
                raise
            click.echo(f"not by the Rallypoints: {printable(str(error))}", err=True)
    if network is not None and not network.satellite:
        click.echo(
            "not by the Rallypoints: their stream of ballots is for certificates of the role satellite, and this one "
            f"({loaded.config.identity.certificate}) has another",
            err=True,
        )
        network = None
    watching = Watching(rules)
    face: Face = _face(watching, as_json=as_json, live=not once)
    ear = _Ear(reactor.seconds, watching, face)
    ways = ways_of(
        settings, rules, network, reactor, wall=time.time, rejoin_s=loaded.config.multicast.rejoin_s
    )
    if network is not None:
        network.start()
    for way in ways:
        way.start(ear, reactor.seconds())
    loop = LoopingCall(lambda: face.look(reactor.seconds()))
    loop.clock = reactor
    running = loop.start(REFRESH_S)
    try:
        waits = [stop.wait(), running]
        if seconds is not None:
            waits.append(sleep(reactor, seconds))
        await first(*waits)
    finally:
        if loop.running:
            loop.stop()
        face.close()
        for way in ways:
            way.stop()
        if network is not None:
            await network.stop()
    now = reactor.seconds()
    if once and not as_json:
        print_table(watching, now)
    elif as_json:
        face.tell(now)
    else:
        click.echo(printable(watching.summary(now)))
    return 0 if watching.leader(now) is not None else 1


class _Ear:
    """Hears a way for the engine (:class:`ice.election.transports.Hears`)."""

    def __init__(self, seconds: Callable[[], float], watching: Watching, face: Face) -> None:
        self._seconds = seconds
        self._watching = watching
        self._face = face

    def heard(self, way: Any, data: bytes) -> None:
        self._watching.hear(way.name, data, self._seconds(), int(time.time() * 1_000))

    def path(self, way: Any, up: bool, why: str) -> None:
        self._face.path(way.name, up, why)


class Face:
    """What is shown: a line for each change."""

    def __init__(self, watching: Watching) -> None:
        self.watching = watching
        self._shown: dict[str, str] = {}
        self._summary = ""

    def path(self, way: str, up: bool, why: str) -> None:
        """A way is open, or closed."""
        click.echo(f"{way} is {'open' if up else 'closed'}: {printable(why)}", err=True)

    def look(self, now: float) -> None:
        """Say what has changed."""
        changed = False
        for row in self.watching.rows(now):
            words = row.message if row.message and row.state != "offline" else ""
            if self._shown.get(row.id) != row.state:
                changed = True
                self._shown[row.id] = row.state
                self.member(row, words)
        summary = self.watching.summary(now)
        if changed or summary != self._summary:
            self._summary = summary
            self.summary(summary, now)

    def member(self, row: Row, words: str) -> None:
        """A member's state is another one."""
        click.echo(printable(f"{row.name}: {row.state}" + (f" ({words})" if words else "")))

    def summary(self, words: str, now: float) -> None:
        """Who leads, in other words than before."""
        click.echo(printable(words))

    def tell(self, now: float) -> None:
        """Everything, at the end."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonFace(Face):
    """An object for each change of anything."""

    def path(self, way: str, up: bool, why: str) -> None:
        self._say({"event": "path", "way": way, "up": up, "why": why})

    def member(self, row: Row, words: str) -> None:
        """Told with the summary."""

    def summary(self, words: str, now: float) -> None:
        self.tell(now)

    def tell(self, now: float) -> None:
        watching = self.watching
        self._say(
            {
                "event": "election",
                "group": watching.group.id,
                "leader": watching.leader(now),
                "summary": watching.summary(now),
                "members": [facts(row) for row in watching.rows(now)],
                "ballots": dict(watching.counts),
            }
        )

    def _say(self, value: dict[str, Any]) -> None:
        from ice.cli.display import json_text

        click.echo(json_text(value))


class ScreenFace(Face):
    """A terminal: changes scroll, the members stand below them."""

    def __init__(self, watching: Watching, console: Console) -> None:
        super().__init__(watching)
        self._live = Live(
            drawn(watching.rows(0.0), title(watching, "listening")),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stderr=False,
        )
        self._live.start()

    def path(self, way: str, up: bool, why: str) -> None:
        self._live.console.print(
            Text(f"{way} is {'open' if up else 'closed'}: {printable(why)}", style="dim")
        )

    def member(self, row: Row, words: str) -> None:
        text = f"{time.strftime('%H:%M:%S')} {row.name}: {row.state}" + (f" ({words})" if words else "")
        self._live.console.print(Text(printable(text)))

    def summary(self, words: str, now: float) -> None:
        """It is the title."""

    def look(self, now: float) -> None:
        super().look(now)
        self._live.update(
            drawn(self.watching.rows(now), title(self.watching, self.watching.summary(now))), refresh=True
        )

    def close(self) -> None:
        self._live.stop()


def _face(watching: Watching, *, as_json: bool, live: bool) -> Face:
    if as_json:
        return JsonFace(watching)
    if live and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return ScreenFace(watching, Console())
    return Face(watching) if live else _Silent(watching)


class _Silent(Face):
    """Shows nothing until the end."""

    def look(self, now: float) -> None:
        """Nothing."""

    def path(self, way: str, up: bool, why: str) -> None:
        if not up:
            super().path(way, up, why)


def facts(row: Row) -> dict[str, Any]:
    """A row for machines."""
    return {
        "id": row.id,
        "name": row.name,
        "votes": row.votes,
        "state": row.state,
        "leads": row.leads,
        "names": row.names or None,
        "heard_s_ago": {way: round(age, 3) for way, age in row.ways.items()},
        "clock_ahead_s": None if row.clock_s is None else round(row.clock_s, 3),
        "message": row.message,
    }


def cells(row: Row) -> tuple[str, ...]:
    """The texts under :data:`HEADINGS`."""
    texts = (
        row.name,
        "" if row.votes is None else str(row.votes),
        row.state,
        row.names,
        ", ".join(f"{way} {age:.1f} s ago" for way, age in sorted(row.ways.items())),
        "" if row.clock_s is None or abs(row.clock_s) < 0.1 else f"{row.clock_s:+.1f} s",
        row.message,
    )
    return tuple(printable(each, MESSAGE_CELLS) for each in texts)


def title(watching: Watching, words: str) -> str:
    """What stands above the table."""
    group = watching.group
    return printable(f"{group.name or group.id} ({group.quorum}, cycle {group.cycle_s:g} s): {words}")


def drawn(rows: Sequence[Row], heading: str) -> Table:
    """The table for a terminal."""
    table = Table(
        title=Text(heading, style="table.title"), title_justify="left", expand=False, show_edge=False
    )
    for at, name in enumerate(HEADINGS):
        table.add_column(name, justify="right" if at == 1 else "left", overflow="fold")
    for row in rows:
        style = "bold green" if row.leads else "dim" if row.votes is None else ""
        table.add_row(*(Text(cell, style=style) for cell in cells(row)))
    return table


def print_table(watching: Watching, now: float) -> None:
    """The table once: drawn on a terminal, aligned columns elsewhere."""
    rows, heading = watching.rows(now), title(watching, watching.summary(now))
    if sys.stdout.isatty():
        Console().print(drawn(rows, heading))
        return
    lines = [HEADINGS, *(tuple(cell or "-" for cell in cells(row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo(heading)
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
