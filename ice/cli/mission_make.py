"""``ice mission new`` and ``ice mission rekey``: what makes keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from ice.cli.mission_source import Source, keep, mention, password_options, source_of
from ice.cli.options import usual_option
from ice.errors import LocalError
from ice.media.engage import Carried, encoder_of
from ice.mission import rekeying
from ice.mission.making import ENCODER, FRAMING_MS, Wanted, new_mission
from ice.mission.model import CIPHERS, GCM, OVERLAP_S, Mission, iso
from ice.mission.packing import pack
from ice.mission.tolerant import shown_text
from ice.mission.writing import write_mission
from ice.net.addresses import parse_address

_SPAN = re.compile(r"(\d{1,6})\s*(s|min|m|h|d|w)?\Z")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, None: 1}
PORT = 7_443  # of a Rallypoint, where none is given


@click.command()
@click.argument("name")
@click.option("--group", "-g", "groups", multiple=True, metavar="NAME", help="An audio group; repeatable.")
@click.option(
    "--rallypoint", multiple=True, metavar="HOST:PORT", help="Where all groups meet; repeatable, in order."
)
@click.option(
    "--multicast",
    metavar="ADDRESS:PORT",
    help="Multicast address of the first group, the others follow [random in 239.192.0.0/14].",
)
@click.option("--no-multicast", is_flag=True, help="No multicast addresses: Rallypoints only.")
@click.option("--no-mission-control", is_flag=True, help="No group for presence, location and alerts.")
@click.option("--description", default="", help="What the mission is for.")
@click.option(
    "--cipher",
    type=click.Choice(CIPHERS),
    default=GCM,
    show_default=True,
    help="aes-256-cbc is the original's.",
)
@click.option("--clear", multiple=True, metavar="NAME", help="A group without a key; repeatable.")
@usual_option("--encoder", click.INT, ENCODER, "Engage's number; 20-29: Opus 6-24 kbit/s.")
@usual_option(
    "--framing", click.IntRange(10, 240), FRAMING_MS, "Milliseconds of speech per packet.", into="framing_ms"
)
@usual_option("--ttl", click.IntRange(1, 255), 1, "Routers that multicast may pass, plus one.")
@click.option(
    "--interface", default="", metavar="NAME", help="Network interface for multicast [the system's]."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write, packed if it ends in .ice; - is standard output [NAME.json].",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def new(
    name: str,
    groups: tuple[str, ...],
    rallypoint: tuple[str, ...],
    multicast: str | None,
    no_multicast: bool,
    no_mission_control: bool,
    description: str,
    cipher: str,
    clear: tuple[str, ...],
    encoder: int,
    framing_ms: int,
    ttl: int,
    interface: str,
    out: Path | None,
    force: bool,
) -> None:
    """Make a mission NAME with random keys, ready to be handed out.

    Groups have multicast addresses of their own, and meet at Rallypoints where some are given; without those they fall over to multicast.
    """
    if multicast is not None and no_multicast:
        raise click.UsageError("--multicast and --no-multicast exclude each other")
    codec = encoder_of(encoder)
    if codec.carried in (Carried.UNSUPPORTED, Carried.HEARD_ONLY):
        click.echo(f"{codec.name}: nobody can talk here with ice, only with programs that carry it", err=True)
    wanted = Wanted(
        name,
        groups or ("Alpha",),
        description=description,
        rallypoints=[parse_address(each, PORT) for each in rallypoint],
        multicast=parse_address(multicast) if multicast else None,
        on_multicast=not no_multicast,
        mission_control=not no_mission_control,
        cipher=cipher,
        clear=clear,
        encoder=encoder,
        framing_ms=framing_ms,
        ttl=ttl,
        interface=interface,
    )
    made = new_mission(wanted, datetime.now(UTC))
    if str(out) == "-":
        click.echo(write_mission(made), nl=False)
        return
    path = out or Path(_file_name(name))
    packed = path.suffix.lower() == ".ice"
    keep(path, pack(write_mission(made, compact=True)) if packed else write_mission(made), force)
    count = len(made.groups)
    click.echo(
        f"{path}: made, with {count} group{'' if count == 1 else 's'}; it holds the keys: hand it only to those who are to hear"
    )
    click.echo("next:")
    click.echo(f"  ice mission show {path}")
    click.echo(f"  ice mission qr {path}    (others scan it)")
    if not packed:
        click.echo(f"  ice mission pack {path} --out {path.with_suffix('.ice')} --password")


def _file_name(name: str) -> str:
    plain = re.sub(r"[^\w.-]+", "-", name.strip()).strip("-.")[:100] or "mission"
    return f"{plain}.json"


@click.command()
@click.argument("file")
@click.option(
    "--group",
    "-g",
    "groups",
    multiple=True,
    metavar="NAME",
    help="A group; repeatable [all that have a key].",
)
@click.option(
    "--at",
    metavar="TIME",
    help="When all begin to send with the next key, ISO 8601 or from now like 36h or 3d [24h].",
)
@click.option(
    "--overlap",
    metavar="SPAN",
    help=f"How long after that the old key is heard, like 12h [{OVERLAP_S // 86_400}d].",
)
@click.option("--finish", is_flag=True, help="Make the next key the only one, when the overlap is over.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write [FILE itself].")
@click.option(
    "--force", is_flag=True, help="Overwrite --out; with --finish: even while the old key is accepted."
)
@password_options
def rekey(
    file: str,
    groups: tuple[str, ...],
    at: str | None,
    overlap: str | None,
    finish: bool,
    out: Path | None,
    force: bool,
    ask: bool,
    password_file: Path | None,
) -> None:
    """Give the groups of a mission their next keys, without a moment of silence.

    Hand the new file to everybody before --at. Whoever has it accepts both keys; all send with the old one until then, with the next from then
    on, and the old one is heard for --overlap more. After that, --finish takes the old one out. The groups' ids stay.
    """
    if finish and (at is not None or overlap is not None):
        raise click.UsageError("--finish takes neither --at nor --overlap")
    source = source_of(file, ask, password_file)
    if out is None and source.path is None:
        raise LocalError("this mission did not come from a file: say where to write it with --out")
    reading = source.reading
    now = datetime.now(UTC)
    if finish:
        changed = rekeying.finish(reading.mission, groups, now, early=force)
    else:
        changed = rekeying.begin(
            reading.mission, groups, _moment(at or "24h", now), _span(overlap or f"{OVERLAP_S}s")
        )
    path = out or source.path
    assert path is not None  # one of the two, as was asked above
    keep(path, _as_it_came(changed, path, source), force or out is None)
    mention(reading.remarks, file)
    _tell(path, reading.mission, changed)


def _as_it_came(mission: Mission, path: Path, source: Source) -> str:
    """JSON, or packed where the file is to be an .ice file."""
    if path.suffix.lower() == ".ice":
        return pack(write_mission(mission, compact=True), source.password)
    if path == source.path and source.was_packed:
        raise LocalError(
            f"{path}: is packed; say where to write with --out (F.json, or F.ice to pack it again)"
        )
    return write_mission(mission)


def _tell(path: Path, before: Mission, after: Mission) -> None:
    old = {group.name: group for group in before.groups}
    for group in after.groups:
        if group.rekey is not None and old[group.name].rekey is None:
            click.echo(
                f"{shown_text(group.name)}: next key from {iso(group.rekey.at)} on; the old one is accepted until {iso(rekeying.end(group.rekey))}"
            )
        elif group.rekey is None and old[group.name].rekey is not None:
            click.echo(f"{shown_text(group.name)}: the next key is the only one now; the id stays {group.id}")
    click.echo(f"{path}: written; hand it to everybody in the mission")


def _moment(text: str, now: datetime) -> datetime:
    text = text.strip()
    try:
        if _SPAN.match(text):
            return now + timedelta(seconds=_span(text))
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo else found.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'expected a time like 2026-01-31T12:00Z, or a span from now like 36h, found "{text[:40]}"',
            param_hint="--at",
        ) from None
    if found < now:
        raise click.BadParameter(
            f"{iso(found)} is past: people need time to get the new file", param_hint="--at"
        )
    return found


def _span(text: str) -> float:
    found = _SPAN.match(text.strip())
    if found is None:
        raise click.BadParameter(f'expected a span like 90min, 12h or 7d, found "{text[:40]}"')
    return float(int(found[1]) * _UNITS[found[2]])
