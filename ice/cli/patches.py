"""``ice status --patches`` and ``ice patch list``: each patch of a patch server, how it stands, its streams, and who talks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.cli.satellites import MAX_ROWS, number, rows, show_standing, words

_BRIDGE = {1: ("on", "green"), 0: ("off", "dim"), -1: ("refused", "bold red")}
_STANDBY = "standby", "cyan"
_GROUP = {
    1: ("joined", "green"),
    3: ("joining", "yellow"),
    5: ("disconnected", "bold red"),
    -1: ("silent", "bold red"),
}


def show_patches(answer: Mapping[str, Any], console: Console) -> None:
    """Write the status for a person. What is missing in it, because the daemon is older or newer, is left out."""
    show_standing(answer, console, [("trouble", answer.get("trouble"))])
    bridges, groups = _detail(answer, "bridges"), _detail(answer, "groups")
    names = {each.get("id"): each.get("name") for each in groups}
    _bridges(
        [
            {
                **each,
                "streams": [names.get(stream) or stream for stream in each.get("groups") or ()],
            }
            for each in bridges
        ],
        console,
    )
    if groups:
        _groups(groups, console)
    for talker in rows(answer.get("talkers"))[:MAX_ROWS]:
        who = words(talker.get("alias")) or words(talker.get("ssrc"))
        held = "" if talker.get("passed") is True else ", held back"
        console.print(Text(f"  {who} talks on {words(talker.get('stream'))}{held}"))


def show_list(answer: Mapping[str, Any], console: Console) -> None:
    """Write the list of patches for a person."""
    names, listed = answer.get("names"), list[Mapping[str, Any]]()
    called = names if isinstance(names, Mapping) else {}
    if answer.get("active") is False:
        console.print(
            Text("this server stands by: another of its group passes on, and takes changes", style="cyan")
        )
    for each in rows(answer.get("patches")):
        streams = [
            stream.get("stream") if isinstance(stream, Mapping) else stream
            for stream in each.get("streams") or ()
        ]
        listed.append({**each, "streams": [_called(stream, called) for stream in streams]})
    _bridges(listed, console)


def _called(stream: Any, names: Mapping[str, Any]) -> Any:
    return (names.get(stream) or stream) if isinstance(stream, str) else stream


def _bridges(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not rows:
        console.print(Text("  patches: none; make one with: ice patch add ID STREAM STREAM"))
        return
    table = Table(title=f"patches: {len(rows)}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "name", "mode", "state", "streams"):
        table.add_column(heading, overflow="fold")
    for each in rows[:MAX_ROWS]:
        found = _state(each)
        state, colour = _BRIDGE.get(found, ("?", "yellow"))
        if found == 0 and each.get("enabled") is True:
            state, colour = _STANDBY
        told = Text(state, style=colour)
        if each.get("why"):
            told.append(f": {words(each['why'])}")
        streams = each.get("streams")
        table.add_row(
            Text(words(each.get("id"))),
            Text(words(each.get("name"))),
            Text(words(each.get("mode"))),
            told,
            Text(", ".join(map(words, streams if isinstance(streams, list) else ()))),
        )
    console.print(table)
    _more(len(rows), console)
    for each in rows[:MAX_ROWS]:
        for caution in cautions(each):
            console.print(Text(f"  patch {words(each.get('id'))}: {caution}", style="yellow"))


def cautions(told: Mapping[str, Any]) -> list[str]:
    """What a patch is warned of: that it lets out in clear what is said under a key, streams that nobody describes."""
    found = told.get("warnings")
    return [words(each) for each in found] if isinstance(found, list) else []


def _groups(rows: list[Mapping[str, Any]], console: Console) -> None:
    table = Table(title=f"streams: {len(rows)}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("stream", "state", "key"):
        table.add_column(heading, overflow="fold")
    for heading in ("heard", "sent"):
        table.add_column(heading, justify="right")
    table.add_column("not passed on", overflow="fold")
    for each in rows[:MAX_ROWS]:
        state, colour = _GROUP.get(_state(each), ("?", "yellow"))
        told = Text(state, style=colour)
        if state not in ("joined", "?") and each.get("why"):
            told.append(f": {words(each['why'])}")
        refused = each.get("refused")
        table.add_row(
            Text(words(each.get("name") or each.get("id"))),
            told,
            Text(words(each.get("sealing"))),
            _packets(each.get("rxTraffic")),
            _packets(each.get("txTraffic")),
            Text(", ".join(f"{words(count)} {words(word)}" for word, count in refused.items()))
            if isinstance(refused, Mapping)
            else "",
        )
    console.print(table)
    _more(len(rows), console)


def _more(count: int, console: Console) -> None:
    if count > MAX_ROWS:
        console.print(Text(f"  … and {count - MAX_ROWS} more (see --json)"))


def _detail(answer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = answer.get(key)
    return rows(value.get("detail") if isinstance(value, Mapping) else None)


def _packets(value: Any) -> str:
    return number(value.get("packets") if isinstance(value, Mapping) else None)


def _state(row: Mapping[str, Any]) -> int:
    value = row.get("state")
    return value if isinstance(value, int) else 99
