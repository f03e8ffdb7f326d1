"""``ice status --reflectors``: each rule of a reflector, how it stands, what goes through it, and who talks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.cli.satellites import rows, show_standing, words

MAX_ROWS = 50  # rules on a screen; --json shows all that the daemon tells
_COLOURS = {"open": "green", "standby": "cyan", "paused": "bold yellow", "closed": "bold red"}
_ARROWS = {"both": "<->", "in": "->", "out": "<-"}


def show_reflectors(answer: Mapping[str, Any], console: Console) -> None:
    """Write the answer for a person. What is missing in it, because the daemon is older or newer, is left out."""
    show_standing(answer, console)
    rules = rows(answer.get("rules"))
    if not rules:
        console.print(Text("  rules: none"))
        return
    total = answer.get("rules_total", len(rules))
    table = Table(title=f"rules: {total}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "group", "", "stream", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("in", "out", "dropped", "talkers"):
        table.add_column(heading, justify="right")
    for rule in rules[:MAX_ROWS]:
        state = str(rule.get("state", "?"))
        table.add_row(
            str(rule.get("number", "?")),
            Text(_group(rule)),
            Text(_ARROWS.get(str(rule.get("direction")), "?")),
            Text(words(rule.get("stream", "?"))),
            Text(words(state), style=_COLOURS.get(state, "")),
            _number(_in(rule, "in", "packets")),
            _number(_in(rule, "out", "packets")),
            _number(sum(_dropped(rule).values())),
            str(len(_talking(rule, "in")) + len(_talking(rule, "out"))),
        )
    console.print(table)
    if isinstance(total, int) and total > min(len(rules), MAX_ROWS):
        console.print(Text(f"  … and {total - MAX_ROWS} more (--json shows up to {len(rules)})"))
    for rule in rules[:MAX_ROWS]:
        _details(rule, console)


def _details(rule: Mapping[str, Any], console: Console) -> None:
    """What a person should know of a rule beside its line."""
    lines = []
    if rule.get("state") != "open":
        lines.append(words(rule.get("why")))
    if rule.get("listened_to") is False:
        lines.append("nobody on the network has joined the group: the stream is not fetched")
    lines += [words(each) for each in rule.get("warnings") or () if isinstance(each, str)]
    if dropped := {why: count for why, count in _dropped(rule).items() if count}:
        lines.append("dropped: " + ", ".join(f"{count} {words(why)}" for why, count in dropped.items()))
    for each in rows(rule.get("limited")):
        lines.append(
            f"{words(each.get('host'))} sends too much: {_number(each.get('dropped'))} of {_number(each.get('packets'))} dropped"
        )
    for way, heard in (("in", "on the group"), ("out", "on the stream")):
        for each in _talking(rule, way):
            who = each.get("host") or f"source {each.get('source')}"
            lines.append(f"{words(who)} talks {heard}: {_quality(each)}")
    if lines:
        console.print(Text(f"  rule {rule.get('number', '?')}:", style="bold"))
        for line in lines:
            console.print(Text(f"    {line}"))


def _quality(talker: Mapping[str, Any]) -> str:
    jitter = talker.get("jitter_ms")
    parts = [f"{_number(talker.get('packets'))} packets", f"{_number(talker.get('lost'))} lost"]
    if jitter is not None:
        parts.append(f"jitter {jitter} ms")
    if talker.get("payload_type") is not None:
        parts.append(f"payload type {talker['payload_type']}")
    return words(", ".join(parts))


def _group(rule: Mapping[str, Any]) -> str:
    interface = rule.get("interface")
    to = [str(each) for each in rule.get("tx") or () if each != rule.get("rx")]
    parts = [words(rule.get("rx", "?")), f"on {words(interface)}" if interface else ""]
    parts.append(f"(to {words(', '.join(to))})" if to else "")
    return " ".join(part for part in parts if part)


def _in(rule: Mapping[str, Any], way: str, key: str) -> Any:
    flow = rule.get(way)
    return flow.get(key) if isinstance(flow, Mapping) else None


def _dropped(rule: Mapping[str, Any]) -> dict[str, int]:
    """Both ways together, by reason."""
    sums: dict[str, int] = {}
    for way in ("in", "out"):
        found = _in(rule, way, "dropped")
        for why, count in found.items() if isinstance(found, Mapping) else ():
            if isinstance(count, int):
                sums[str(why)] = sums.get(str(why), 0) + count
    return sums


def _talking(rule: Mapping[str, Any], way: str) -> list[Mapping[str, Any]]:
    talkers = rule.get("talkers")
    return [
        each
        for each in rows(talkers.get(way) if isinstance(talkers, Mapping) else None)
        if each.get("talks") is True
    ]


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
