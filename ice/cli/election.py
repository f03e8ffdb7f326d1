"""``ice election``: which satellite of a server group works; ``watch`` shows it, ``simulate`` tries a group on paper, with the engine that satellites run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ice.cli.election_watch import watch
from ice.cli.options import json_option
from ice.errors import LocalError

if TYPE_CHECKING:
    from ice.election.rules import Group
    from ice.election.simulate import World

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
MAX_SCRIPT: Final = 1_000_000  # bytes
MAX_STEPS: Final = 20_000  # cycles in a simulation: some seconds of computing
SALT: Final = bytes(32)  # of a group that is nowhere but on paper


@click.group()
def election() -> None:
    """Which satellite of a server group works, while the others stand by."""


election.add_command(watch)


@election.command()
@click.argument("steps", nargs=-1)
@click.option(
    "--members",
    type=click.IntRange(1, len(LETTERS)),
    default=3,
    show_default=True,
    help="How many: a, b, c …",
)
@click.option(
    "--quorum", type=click.Choice(["none", "majority", "n-1"]), default="majority", show_default=True,
    help="Members that must be heard before one leads.",
)  # fmt: skip
@click.option("--documented", is_flag=True, help="Majority by the documented rule: ballots name nobody.")
@click.option(
    "--cycle", "cycle_s", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds."
)
@click.option(
    "--script", type=click.Path(path_type=Path, dir_okay=False), help="File with steps, one in a line."
)
@click.option("--for", "length", help="How long: seconds, or cycles (12c).  [6 cycles after the last step]")
@click.option(
    "--delay", "delay_ms", type=click.FloatRange(0, 600_000), default=2.0, show_default=True,
    help="Milliseconds that a ballot is on its way.",
)  # fmt: skip
@click.option(
    "--loss", type=click.FloatRange(0, 100), default=0.0, show_default=True, help="Percent of ballots lost."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is left to chance.")
@click.option(
    "--all", "everything", is_flag=True, help="Every change of a status, also where the state stays."
)
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: a .svg or .png file."
)
@json_option
def simulate(
    steps: tuple[str, ...],
    members: int,
    quorum: str,
    documented: bool,
    cycle_s: float,
    script: Path | None,
    length: str | None,
    delay_ms: float,
    loss: float,
    seed: int,
    everything: bool,
    picture: Path | None,
    as_json: bool,
) -> int:
    """Try a server group on paper: what happens when.

    STEPS are mishaps, each in quotes: "30 kill a" "60 start a" "5c partition ab c". Steps: kill, start, stop, freeze, wake, cut a>b, partition, heal,
    clock, loss, delay, disable, enable, order, ready, unready, empty.
    """
    from ice.election.rules import Group, Member, Quorum
    from ice.election.script import play, read_script
    from ice.election.simulate import World

    names = LETTERS[:members]
    group = Group(
        "paper",
        tuple(Member(name) for name in names),
        Quorum(quorum),
        cycle_s,
        (SALT,),
        exclusive=not documented,
    )
    lines = [*steps]
    if script is not None:
        lines += _lines(script)
    read = read_script(lines, names, cycle_s)
    last = max((step.at_s for step in read), default=0.0)
    until = _length(length, cycle_s) if length else last + 6 * cycle_s
    if until > MAX_STEPS * cycle_s:
        raise LocalError(f"a simulation is at most {MAX_STEPS} cycles long")
    world = World(group, seed=seed, wire=True)
    world.network.delay_s = (delay_ms * 0.8 / 1_000, delay_ms * 1.2 / 1_000)
    world.network.loss = loss / 100
    world.start()
    play(world, read)
    world.run(until)
    if picture is not None:
        from ice.election.picture import draw

        draw(picture, world)
    if as_json:
        click.echo(json.dumps(_told(world), indent=2))
    else:
        _show(world, everything=everything)
    return 0


def _lines(script: Path) -> list[str]:
    from ice.election.keeping import kept

    data = kept(script, MAX_SCRIPT)
    if data is None:
        raise LocalError(f"{script}: there is no such script")
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        raise LocalError(f"{script}: expected a script in UTF-8") from None


def _length(text: str, cycle_s: float) -> float:
    try:
        length = float(text.removesuffix("c")) * (cycle_s if text.endswith("c") else 1)
    except ValueError:
        length = -1.0
    if not 0 < length < float("inf"):
        raise LocalError(f"--for: expected seconds or cycles, like 120 or 12c, found {text[:20]}")
    return length


def _show(world: World, *, everything: bool) -> None:
    states: dict[str, str] = {}
    for entry in world.timeline:
        decision = entry.what.startswith(("leads:", "yields:"))
        if entry.who and not everything and not decision and states.get(entry.who) == entry.state:
            continue
        if entry.state:
            states[entry.who] = entry.state
        who = entry.who or "·"
        words = entry.what if entry.who else click.style(entry.what, bold=True)
        click.echo(f"{entry.at_s:10.3f} s  {who}  {words}")
    share = 100 * world.led_s / world.now
    click.echo(f"somebody led for {world.led_s:.1f} of {world.now:.1f} s ({share:.1f} %)")
    for overlap in world.overlaps:
        click.echo(
            f"two led at once: {' and '.join(overlap.who)} for {overlap.ends_s - overlap.begins_s:.3f} s from {overlap.begins_s:.3f} s"
        )
    if not world.overlaps:
        click.echo("two never led at once")


def _told(world: World) -> dict[str, Any]:
    return {
        "members": list(world.machines),
        "rules": _rules(world.group),
        "length_s": world.now,
        "led_s": round(world.led_s, 3),
        "overlaps": [
            {"from_s": round(each.begins_s, 3), "to_s": round(each.ends_s, 3), "who": list(each.who)}
            for each in world.overlaps
        ],
        "leading": world.forwarding(),
        "timeline": [
            {"at_s": round(entry.at_s, 3), "who": entry.who or None, "what": entry.what, "state": entry.state or None}
            for entry in world.timeline
        ],
    }  # fmt: skip


def _rules(group: Group) -> dict[str, Any]:
    return {"quorum": str(group.quorum), "cycle_s": group.cycle_s, "exclusive": group.names_first}
