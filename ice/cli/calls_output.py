"""``ice status --calls``, ``ice calls`` and ``ice calls records``, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.cli.display import duration
from ice.cli.satellites import rows, show_standing, words

if TYPE_CHECKING:
    from ice.telephony.records import CallRecord

MAX_ROWS = 50  # calls on a screen; --json shows all that the gateway tells
_COLOURS = {"talking": "green", "held": "yellow", "ending": "dim", "ended": "dim"}


def show_gateway(answer: Mapping[str, Any], console: Console) -> None:
    """Write the status for a person. What is missing in it, because the daemon is older or newer, is left out."""
    sound = answer.get("sound")
    told = ""
    if isinstance(sound, Mapping):
        told = f"{words(sound.get('lost_packets'))} of {words(sound.get('heard_packets'))} packets lost, {words(sound.get('concealed_s'))} s concealed"
    facts = (
        ("people", answer.get("people")),
        ("ended", _counts(answer.get("ended"))),
        ("refused", _counts(answer.get("refused"))),
        ("sound", told),
    )
    show_standing(answer, console, facts)
    for trunk in rows(answer.get("trunks")):
        up = trunk.get("up") is True
        state = Text("up" if up else "down", style="green" if up else "bold red")
        line = Text(f"  {'trunk:':<13}{words(trunk.get('name'))} is ").append_text(state)
        console.print(line.append(f": {words(trunk.get('why'))}"))
    show_calls(rows(answer.get("calls")), console)


def show_calls(calls: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Write a list of calls for a person."""
    if not calls:
        console.print(Text("  calls: none"))
        return
    table = Table(title=f"calls: {len(calls)}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "who", "", "number", "by", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("for", "loss", "jitter"):
        table.add_column(heading, justify="right")
    for call in calls[:MAX_ROWS]:
        sound = call.get("sound")
        figures: Mapping[str, Any] = sound if isinstance(sound, Mapping) else {}
        state = str(call.get("state", "?"))
        where = f", {words(call['where'])}" if call.get("where") else ""
        talking = ", talks" if call.get("talking") is True else ""
        seconds = call.get("talked_s")
        table.add_row(
            words(call.get("id"))[:8],
            Text(words(call.get("channel") or call.get("user") or "?")),
            "<-" if call.get("direction") == "incoming" else "->",
            Text(words(call.get("number")) or "withheld"),
            Text(words(call.get("trunk"))),
            Text(f"{words(state)}{where}{talking}", style=_COLOURS.get(state, "")),
            duration(seconds if seconds is not None else call.get("age_s")) or "?",
            _share(figures),
            f"{words(figures['jitter_ms'])} ms" if "jitter_ms" in figures else "",
        )
    console.print(table)
    if len(calls) > MAX_ROWS:
        console.print(Text(f"  … and {len(calls) - MAX_ROWS} more (see --json)"))


def show_records(records: Sequence[CallRecord], console: Console) -> None:
    """Write call records for a person."""
    if not records:
        console.print(Text("no such call"))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("began", "who", "", "number", "by", "ended"):
        table.add_column(heading, overflow="fold")
    for heading in ("talked", "loss", "jitter"):
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(
            datetime.fromtimestamp(record.began).strftime("%Y-%m-%d %H:%M:%S"),
            Text(words(record.user or record.dialled or "?")),
            "<-" if record.direction == "incoming" else "->",
            Text(words(record.number) or "withheld"),
            Text(words(record.trunk)),
            Text("not yet" if record.cause is None else str(record.cause)),
            duration(record.talked_s) if record.answered is not None else "",
            f"{record.loss_percent:.1f} %" if record.rate else "",
            f"{record.jitter_ms:.0f} ms" if record.rate else "",
        )
    console.print(table)


def _share(sound: Mapping[str, Any]) -> str:
    heard, lost = sound.get("heard_packets"), sound.get("lost_packets")
    if not isinstance(heard, int) or not isinstance(lost, int) or not heard + lost:
        return ""
    return f"{100 * lost / (heard + lost):.1f} %"


def _counts(value: Any) -> str:
    counts = value if isinstance(value, Mapping) else {}
    return ", ".join(f"{words(count)} {words(word)}" for word, count in counts.items() if count)
