"""What ``ice status`` shows of every satellite (reflector, patch server, gateway), and how it reads what a daemon of another age tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from ice.cli.display import duration
from ice.printable import printable

MAX_ROWS = 50  # of a table on a screen; --json shows all that the daemon tells


def show_standing(answer: Mapping[str, Any], console: Console, more: Iterable[tuple[str, Any]] = ()) -> None:
    """Write whether it works, for how long, and by which Rallypoints; ``more``: other facts, each with its label, where there are any."""
    ready = answer.get("ready") is True
    why = "" if ready else f", not ready: {words(answer.get('why_not_ready')) or 'no reason given'}"
    head = Text(f"{words(answer.get('daemon') or 'daemon')} is {words(answer.get('state') or '?')}{why}")
    head.stylize("bold green" if ready else "bold yellow")
    console.print(head)
    facts = [
        ("up for", duration(answer.get("uptime_s", answer.get("uptime")))),
        ("version", answer.get("version")),
        ("linked to", _links(answer) or f"nobody: {words(answer.get('why_no_link')) or '?'}"),
        *more,
    ]
    for label, value in facts:
        if value:
            console.print(Text(f"  {label + ':':<13}{words(value)}"))


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none is left out."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def words(value: Any) -> str:
    """Anything on a line, cut."""
    return "" if value is None else printable(str(value), 400)


def number(value: Any) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) else "?"


def _links(answer: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{words(each.get('name') or '?')} at {words(each.get('address'))}"
        + ("" if each.get("rtt_ms") is None else f" ({words(each['rtt_ms'])} ms)")
        for each in rows(answer.get("rallypoints"))
    )
