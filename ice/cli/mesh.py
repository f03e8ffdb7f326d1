"""The mesh on a screen: what ``ice status --mesh`` prints, and ``ice trace``.

On a terminal there are tables; where the output is piped, the same rows as plain lines of aligned columns, uncut, with a dash where there
is nothing. Names come from other machines and are text here, never markup, and nothing that a terminal obeys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.cli.display import duration, plural
from ice.cli.options import config_option, json_option
from ice.cli.pages import TIMEOUT_S, fetch_object, site

MAX_DEPTH = 64  # of a tree that is shown
GAP = 3  # between two columns of a table

Row = Sequence[str]


# -- ice status --mesh -------------------------------------------------------------------------------------------------


def whole(answer: Mapping[str, Any]) -> bool:
    """Whether all is as it should be: it serves, every Rallypoint that is wanted can be reached, and none is there twice."""
    missing = any(not each.get("reached") for each in _listed(answer, "detours"))
    healthy = answer.get("state") == "healthy" and answer.get("active") is True
    return healthy and not missing and not answer.get("twins")


def show_mesh(answer: Mapping[str, Any], console: Console) -> None:
    """Write a mesh status for a person. What is missing in it, because the daemon is older or newer, is left out."""
    mesh = answer.get("mesh")
    message = mesh.get("message") if isinstance(mesh, Mapping) else None
    name = f"{answer.get('name') or '?'} ({answer.get('role', 'core')})"
    head = Text(_plain(f"mesh of {name}: {message or answer.get('state') or '?'}"))
    head.stylize("bold green" if whole(answer) else "bold yellow")
    _line(console, head)
    allies = _listed(answer, "federated")
    if allies:
        rows = [_ally_row(each) for each in allies]
        table(console, f"Rallypoints of other organisations: {len(allies)}", _ALLIES, rows, _ASIDE)
    if answer.get("meshed") is False:
        words = "  no other Rallypoint of ours is configured: [[groups]] or rallypoint.mesh.peering_file"
        _line(console, Text(words))
        return
    twins = answer.get("twins")
    for id in twins if isinstance(twins, list) else ():
        words = (
            f"  TWINS: two Rallypoints run with the id {id}: stop one, or give it a certificate of its own"
        )
        _line(console, Text(_plain(words), style="bold red"))
    peers = _listed(answer, "peers")
    table(
        console,
        f"Rallypoints that links are wanted with: {len(peers)}",
        _PEERS,
        [_peer_row(each) for each in peers],
        _ASIDE,
    )
    missing = _listed(answer, "detours")
    if missing:
        table(console, f"without a link: {len(missing)}", _DETOURS, [_detour_row(each) for each in missing])
    above = {str(each.get("id")) for each in (*peers, *missing)}
    far = [each for each in _listed(answer, "reach") if str(each.get("id")) not in above]
    if far:
        table(console, f"others in the mesh: {len(far)}", _REACH, [_reach_row(each) for each in far])
    _floods(answer, console)


_PEERS = (
    "who",
    "id",
    "state",
    "role",
    "where",
    "-cost",
    "-rtt",
    "-in",
    "-out",
    "-waiting",
    "-since",
    "why not",
)
_ALLIES = (
    "federation",
    "who",
    "id",
    "state",
    "where",
    "coming in",
    "going out",
    "-rtt",
    "-in",
    "-out",
    "-dropped",
    "-since",
    "why not",
)
_ASIDE = ("why not", "where", "id", "coming in", "going out")  # what stands below a table that is too wide
_DETOURS = ("who", "id", "reached by way of", "-links", "-cost")
_REACH = ("who", "id", "by way of", "-links", "-cost")


def _peer_row(peer: Mapping[str, Any]) -> Row:
    linked = peer.get("state") == "linked"
    return (
        str(peer.get("name") or ""),
        str(peer.get("peer_id", "?")),
        _state(peer),
        str(peer.get("role", "?")),
        str(peer.get("address") or ""),
        _number(peer.get("cost")),
        _ms(peer.get("rtt_ms")),
        _number(peer.get("received")) if linked else "",
        _number(peer.get("sent")) if linked else "",
        _number(peer.get("queue")) if linked else "",
        (duration(peer.get("since_s")) or "") if linked else "",
        _why(peer),
    )


def _ally_row(ally: Mapping[str, Any]) -> Row:
    linked = ally.get("state") == "linked"
    refused = ally.get("refused")
    return (
        str(ally.get("federation") or ""),
        str(ally.get("name") or ""),
        str(ally.get("peer_id", "?")),
        _state(ally),
        str(ally.get("address") or ""),
        _joined(ally.get("incoming")),
        _joined(ally.get("outgoing")),
        _ms(ally.get("rtt_ms")),
        _number(ally.get("received")) if linked else "",
        _number(ally.get("sent")) if linked else "",
        _number(ally.get("dropped")) if linked else "",
        (duration(ally.get("since_s")) or "") if linked else "",
        _joined(refused, "; ") if refused else _why(ally),
    )


def _state(peer: Mapping[str, Any]) -> str:
    if peer.get("state") != "linked":
        return str(peer.get("state", "?"))
    return f"linked {peer.get('direction', '?')}"  # out: we called


def _why(peer: Mapping[str, Any]) -> str:
    failures, why = peer.get("failures"), str(peer.get("why") or "")
    if not isinstance(failures, int) or not failures:
        return why
    return f"{why} ({plural(failures, 'failure')})" if why else plural(failures, "failure")


def _joined(words: Any, between: str = ", ") -> str:
    return between.join(map(str, words)) if isinstance(words, list) else ""


def _detour_row(detour: Mapping[str, Any]) -> Row:
    who = (str(detour.get("name") or ""), str(detour.get("peer_id", "?")))
    if not detour.get("reached"):
        return (*who, "not at all", "", "")
    return (*who, _via(detour), _number(detour.get("links")), _number(detour.get("cost")))


def _reach_row(reach: Mapping[str, Any]) -> Row:
    return (
        str(reach.get("name") or ""),
        str(reach.get("peer_id", "?")),
        _via(reach),
        _number(reach.get("links")),
        _number(reach.get("cost")),
    )


def _via(way: Mapping[str, Any]) -> str:
    return f"{way.get('via_name') or ''} {way.get('via', '?')}".strip()


def _floods(answer: Mapping[str, Any], console: Console) -> None:
    floods, relays = answer.get("floods"), answer.get("relays")
    if isinstance(floods, Mapping):
        words = f"{_number(floods.get('sent'))} sent, {_number(floods.get('accepted'))} believed"
        _line(console, Text(_plain(f"  {'floods:':<13}{words}{_reasons('refused', floods.get('refused'))}")))
    if isinstance(relays, Mapping):
        words = (
            f"{_number(relays.get('originated'))} of our clients, {_number(relays.get('passed'))} of others"
        )
        _line(console, Text(_plain(f"  {'packets:':<13}{words}{_reasons('dropped', relays.get('dropped'))}")))


def _reasons(what: str, counts: Any) -> str:
    if not isinstance(counts, Mapping) or not any(counts.values()):
        return ""
    return f"; {what}: " + ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


# -- ice trace ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("stream")
@click.option(
    "--from",
    "start",
    default="",
    metavar="RALLYPOINT",
    help="Where it enters: id, its beginning, or name.  [the one asked]",
)
@config_option
@click.option("--url", help="Address of the status pages, http://host:port.  [rallypoint.http.listen]")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=TIMEOUT_S, show_default=True, help="Seconds to wait."
)
@json_option
def trace(
    stream: str, start: str, config: Path | None, url: str | None, timeout: float, as_json: bool
) -> int:
    """Show the way of STREAM through the mesh, and each hop's delay.

    The Rallypoint that is asked draws the tree that a datagram takes to every other Rallypoint where somebody listens. A delay is half of
    a round trip as the two ends of a link have measured it within the last minutes, and counts from the root.

    Exit status 0 when everybody who wants the stream is reached, else 1.
    """
    query = {"stream": stream} | ({"from": start} if start else {})
    answer = fetch_object(f"{site(config, url)}/trace?{urlencode(query)}", timeout_s=timeout)
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        console = Console()
        for line in tree_lines(answer, ascii_only=console.options.ascii_only):
            _line(console, Text(line))
    return 1 if answer.get("not_reached") else 0


def tree_lines(answer: Mapping[str, Any], *, ascii_only: bool = False) -> list[str]:
    """The tree of a trace as lines, the root first."""
    root = answer.get("from")
    root = root if isinstance(root, Mapping) else {}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for hop in _listed(answer, "hops"):
        children.setdefault(str(hop.get("parent")), []).append(hop)
    notes = [note for note, told in (("listens", root.get("wants")), ("asked", root.get("here"))) if told]
    lines = [
        f"'{answer.get('stream', '?')}' from {_who(root)}" + (f"  [{', '.join(notes)}]" if notes else "")
    ]
    lines += _below(str(root.get("id")), children, 0.0, "", ascii_only)
    if len(lines) == 1:
        lines.append("nobody else wants it")
    lines += [f"not reached: {_who(each)}" for each in _listed(answer, "not_reached")]
    return [_plain(line) for line in lines]


def _below(
    id: str,
    children: dict[str, list[Mapping[str, Any]]],
    so_far_ms: float | None,
    indent: str,
    ascii_only: bool,
) -> Iterator[str]:
    corner, fork, bar = ("`- ", "|- ", "|  ") if ascii_only else ("└─ ", "├─ ", "│  ")
    # Taken out, so that nothing that a daemon says can go round in a circle; and no datagram goes deeper than 16.
    hops = children.pop(id, []) if len(indent) < 3 * MAX_DEPTH else []
    for number, hop in enumerate(hops, 1):
        last = number == len(hops)
        round_trip_ms = hop.get("rtt_ms")
        delay_ms = round_trip_ms / 2 if isinstance(round_trip_ms, int | float) else None
        there_ms = None if delay_ms is None or so_far_ms is None else so_far_ms + delay_ms
        notes = [
            "listens" if hop.get("wants") else "passes on",
            f"cost {hop.get('cost', '?')}",
            _delay(delay_ms, there_ms),
        ]
        yield f"{indent}{corner if last else fork}{_who(hop)}  [{', '.join(notes)}]"
        yield from _below(
            str(hop.get("id")), children, there_ms, indent + ("   " if last else bar), ascii_only
        )


def _delay(delay_ms: float | None, there_ms: float | None) -> str:
    if delay_ms is None:
        return "delay not known"
    if there_ms is None or abs(there_ms - delay_ms) < 0.05:
        return f"{delay_ms:.1f} ms"
    return f"{delay_ms:.1f} ms, from the root {there_ms:.1f} ms"


def _who(each: Mapping[str, Any]) -> str:
    return f"{each.get('name') or ''} {each.get('peer_id', '?')}".strip()


# -- both --------------------------------------------------------------------------------------------------------------


def table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Row], aside: Sequence[str] = ()
) -> None:
    """Rows under headings; one that begins with ``-`` stands to the right.

    On a terminal columns without anything in them are left out, and those in ``aside``, one after the other, stand below the table
    while it is too wide.
    """
    shown = [[_plain(cell) for cell in row] for row in rows]
    names = [heading.lstrip("-") for heading in headings]
    if not rows or not console.is_terminal:
        _line(console, Text(f"  {title}"))
    if not rows:
        return
    if not console.is_terminal:
        lines = [[cell or "-" for cell in row] for row in (names, *shown)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            _line(console, Text("  " + "  ".join(cells).rstrip()))
        return
    used = [n for n in range(len(headings)) if any(row[n] for row in shown)]
    below: list[int] = []
    for name in aside:
        if sum(max(cell_len(row[n]) for row in (names, *shown)) + GAP for n in used) <= console.width:
            break
        below += [n for n in used if names[n] == name]
        used = [n for n in used if names[n] != name]
    who, id = names.index("who"), names.index("id")
    if id in below:
        used = sorted({*used, who})
        for row in shown:
            row[who] = row[who] or row[id]
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for n in used:
        drawn.add_column(
            names[n], justify="right" if headings[n].startswith("-") else "left", overflow="fold"
        )
    for row in shown:
        drawn.add_row(*(Text(row[n]) for n in used))
    console.print(drawn)
    for row in shown:
        told = [row[n] for n in sorted(below) if row[n] and row[n] != row[who]]
        if told:
            _line(console, Text(f"  {row[who] or row[id]}: {'; '.join(told)}"))


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)


def _listed(answer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = answer.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _ms(value: Any) -> str:
    return f"{value} ms" if isinstance(value, int | float) else ""
