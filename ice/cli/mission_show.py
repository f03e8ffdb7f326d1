"""``ice mission show``, ``check``, ``id`` and ``diff``: what is in a mission, what is odd about it, what changed. Keys stay hidden."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ice.cli.display import json_text
from ice.cli.mission_source import mention, password_options, source_of
from ice.cli.options import json_option
from ice.media.engage import ENCODERS
from ice.mission.checking import Finding
from ice.mission.checking import check as findings_of
from ice.mission.comparing import differences
from ice.mission.identity import group_id, mission_id, stream_id
from ice.mission.model import GCM, Group, GroupType, Mission, iso
from ice.mission.parts import Host
from ice.mission.reading import Reading
from ice.mission.tolerant import shown_text
from ice.net.addresses import format_address
from ice.printable import printable

_TYPES = {
    GroupType.UNKNOWN: "unknown",
    GroupType.AUDIO: "audio",
    GroupType.PRESENCE: "mission control",
    GroupType.RAW: "raw",
}
_BETWEEN = 3  # characters between columns
_HEADINGS = ("group", "type", "key", "multicast", "rallypoints", "codec", "id")


@click.command()
@click.argument("file")
@click.option("--secrets", is_flag=True, help="Show the keys themselves; mind who looks on.")
@json_option
@password_options
def show(file: str, secrets: bool, as_json: bool, ask: bool, password_file: Any) -> None:
    """Show a mission and its groups.

    Keys are not shown, nor anything made of them: "yes/GCM" says that there is one, and which cipher it is for.
    """
    source = source_of(file, ask, password_file)
    reading = source.reading
    if as_json:
        click.echo(json_text(_as_object(reading, secrets), indent=2))
        return
    mission = reading.mission
    click.echo(f"{printable(mission.name) or '(no name)'}   {mission.id}")
    if mission.description:
        click.echo(printable(mission.description))
    if mission.meta.created:
        click.echo(f"made {printable(mission.meta.created)}")
    rows = [_row(group) for group in mission.groups]
    if sys.stdout.isatty():
        _table(rows)
    else:
        click.echo("\t".join(_HEADINGS))
        for row in rows:
            click.echo("\t".join(row))
    for line in _further(mission, secrets):
        click.echo(line)
    mention(reading.remarks, file)


def _table(rows: list[tuple[str, ...]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("type", "key"))
    for row in rows:
        key = row[_HEADINGS.index("key")]
        styles = (
            "bold",
            "",
            "red" if key == "no" else "yellow" if key.endswith("CBC") else "green",
            "",
            "",
            "",
            "dim",
        )
        # Text, for [::1]:7443 would be taken for markup.
        table.add_row(*(Text(cell, style=style) for cell, style in zip(row, styles, strict=True)))
    console = Console()
    widths = (max(map(cell_len, column)) for column in zip(_HEADINGS, *rows, strict=True))
    if sum(widths) + _BETWEEN * (len(_HEADINGS) - 1) <= console.width:
        console.print(table)
        return
    for row in rows:  # a table in which ids and addresses are broken cannot be read, nor copied from
        click.echo(click.style(row[0], bold=True))
        for heading, cell in zip(_HEADINGS[1:], row[1:], strict=True):
            click.echo(f"  {heading:<12}{cell}")


def _row(group: Group) -> tuple[str, ...]:
    return (
        printable(group.name) or "-",
        _TYPES[group.type],
        _key(group),
        _multicast(group) or "-",
        ", ".join(_place(each.host) for each in group.rallypoints) or "-",
        _codec(group) or "-",
        printable(group.id),
    )


def _key(group: Group) -> str:
    if group.crypto_password is None:
        return "no"
    return "yes/GCM" if group.cipher == GCM else "yes/CBC"


def _multicast(group: Group) -> str:
    if group.rx is None and group.tx is None:
        return ""
    if (
        group.rx is None
        or group.tx is None
        or (group.rx.address, group.rx.port) == (group.tx.address, group.tx.port)
    ):
        host = group.rx or group.tx
        assert host is not None
        return _place(host) if host.address else ""
    return f"{_place(group.rx)} (sends to {_place(group.tx)})"


def _place(host: Host) -> str:
    return printable(format_address(host.address, host.port) if host.address else "-")


def _codec(group: Group) -> str:
    if group.type is not GroupType.AUDIO:
        return ""
    codec = ENCODERS[group.tx_audio.encoder]
    named = group.tx_audio.encoder_name or codec.name
    duplex = ", full duplex" if group.tx_audio.fdx else ""
    return f"{printable(named)}, {group.tx_audio.framing_ms} ms{duplex}"


def _further(mission: Mission, secrets: bool) -> Iterator[str]:
    falling = {group.multicast_failover_s for group in mission.groups if group.enable_multicast_failover}
    alike = len(falling) == 1 and all(group.enable_multicast_failover for group in mission.groups)
    if alike:
        yield f"all fall over to multicast after {falling.pop():g} s without a Rallypoint"
    for group in mission.groups:
        name = printable(group.name)
        if group.enable_multicast_failover and not alike:
            yield f"{name}: falls over to multicast after {group.multicast_failover_s:g} s without a Rallypoint"
        if group.rekey is not None:
            yield f"{name}: next key from {iso(group.rekey.at)} on"
        if group.description:
            yield f"{name}: {printable(group.description)}"
    if secrets:
        for group in mission.groups:
            yield f"{printable(group.name)}: cryptoPassword {group.crypto_password or '(none)'}"
            if group.rekey is not None:
                yield f"{printable(group.name)}: next cryptoPassword {group.rekey.crypto_password}"


def _as_object(reading: Reading, secrets: bool) -> dict[str, Any]:
    mission = reading.mission
    return {
        "id": mission.id,
        "name": mission.name,
        "description": mission.description,
        "created": mission.meta.created or None,
        "groups": [_group_object(group, secrets) for group in mission.groups],
        "remarks": [{"path": remark.path, "text": remark.text} for remark in reading.remarks],
    }


def _group_object(group: Group, secrets: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": group.id,
        "stream": stream_id(group.id),
        "id_override": group.id_override,
        "name": group.name,
        "description": group.description,
        "type": _TYPES[group.type],
        "encrypted": group.crypto_password is not None,
        "cipher": group.cipher if group.crypto_password is not None else None,
        "rx": _host_object(group.rx),
        "tx": _host_object(group.tx),
        "ttl": group.tx_options.ttl,
        "priority": group.tx_options.priority,
        "interface": group.interface_name or None,
        "rallypoints": [_host_object(each.host) for each in group.rallypoints],
        "rallypoints_from": group.rallypoints_from.value if group.rallypoints else None,
        "multicast_failover": group.enable_multicast_failover,
        "multicast_failover_s": group.multicast_failover_s,
        "encoder": group.tx_audio.encoder if group.type is GroupType.AUDIO else None,
        "codec": ENCODERS[group.tx_audio.encoder].name if group.type is GroupType.AUDIO else None,
        "framing_ms": group.tx_audio.framing_ms if group.type is GroupType.AUDIO else None,
        "full_duplex": group.tx_audio.fdx,
        "next_key_at": iso(group.rekey.at) if group.rekey is not None else None,
    }
    if secrets:
        found["crypto_password"] = group.crypto_password
        found["next_crypto_password"] = group.rekey.crypto_password if group.rekey is not None else None
    return found


def _host_object(host: Host | None) -> dict[str, Any] | None:
    return None if host is None else {"address": host.address, "port": host.port}


def _about_file(path: Path | None, mission: Mission) -> Iterator[Finding]:
    """A note where other users of this machine can read keys."""
    if path is None or not any(group.crypto_password for group in mission.groups):
        return
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        yield Finding(
            "",
            f"it holds keys, and others on this machine can read it (mode {mode & 0o777:04o}): chmod 600 {printable(str(path))}",
            False,
        )


@click.command()
@click.argument("file")
@json_option
@password_options
@click.pass_context
def check(ctx: click.Context, file: str, as_json: bool, ask: bool, password_file: Any) -> None:
    """Say everything that is odd about a mission.

    Warnings are what will not work, can be guessed or will surprise; notes are worth knowing. Exit status 1 when there are warnings.
    """
    source = source_of(file, ask, password_file)
    reading = source.reading
    findings = [*findings_of(reading, datetime.now(UTC)), *_about_file(source.path, reading.mission)]
    warnings = sum(finding.serious for finding in findings)
    if as_json:
        answer = {
            "ok": not warnings,
            "findings": [
                {"severity": "warning" if each.serious else "note", "path": each.path, "text": each.text}
                for each in findings
            ],
        }
        click.echo(json_text(answer, indent=2))
        ctx.exit(1 if warnings else 0)
    for each in findings:
        click.echo((click.style("warning: ", fg="yellow") if each.serious else "note: ") + str(each))
    notes = len(findings) - warnings
    counted = ", ".join(
        f"{n} {word}{'s' * (n != 1)}" for n, word in ((warnings, "warning"), (notes, "note")) if n
    )
    click.echo(f"{source.name}: {counted or 'all is well'}")
    ctx.exit(1 if warnings else 0)


@click.command("id")
@click.argument("file")
@json_option
@password_options
def identify(file: str, as_json: bool, ask: bool, password_file: Any) -> None:
    """Show the ids that follow from a mission's contents.

    Whoever configures the same has the same ids, without asking. One that is overridden (idOverride) stays as it is written.
    """
    reading = source_of(file, ask, password_file).reading
    mission = reading.mission
    rows = [(mission.name, mission.id, mission_id(mission.name), str(mission.written.get("id") or ""), False)]
    for group in mission.groups:
        written = str(group.written.get("id") or "")
        rows.append((group.name, group.id, group_id(group), written, group.id_override))
    if as_json:
        keys = ("name", "id", "computed", "written", "overridden")
        click.echo(json_text([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    for name, id, computed, written, overridden in rows:
        notes = []
        if overridden:
            notes.append(
                "overridden" + (f"; the recipe gives {computed}" if stream_id(id) != computed else "")
            )
        elif written and stream_id(written) != stream_id(id):
            notes.append(f"the file says {shown_text(written)}")
        click.echo("\t".join([printable(id), printable(name), *notes]))


@click.command()
@click.argument("before")
@click.argument("after")
@json_option
@password_options
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, as_json: bool, ask: bool, password_file: Any) -> None:
    """Show what differs between two missions, group by group.

    Keys are said to differ, not shown. Exit status 1 when something differs.
    """
    one = source_of(before, ask, password_file).reading.mission
    other = source_of(after, ask, password_file).reading.mission
    changes = differences(one, other)
    if as_json:
        answer = [
            {
                "group": each.group or None,
                "path": each.path or None,
                "before": each.before,
                "after": each.after,
            }
            for each in changes
        ]
        click.echo(json_text(answer, indent=2))
        ctx.exit(1 if changes else 0)
    last = None
    for each in changes:
        if each.group != last:
            click.echo(click.style(printable(each.group), bold=True) if each.group else "the mission")
            last = each.group
        colour = "green" if not each.before else "red" if not each.after else None
        click.echo("  " + click.style(printable(str(each)), fg=colour))
    if not changes:
        click.echo("they say the same")
    ctx.exit(1 if changes else 0)
