"""``ice who``: the people of a mission, live, from its mission control group; and, if asked to, ourselves among them.

Without ``--announce`` nothing is sent: whoever looks is not seen, and sees everybody as they announce themselves, within the mission's interval. With
it we are a member of the team until we leave: everybody is asked to answer at once, and Ctrl-C says good-bye.
"""

from __future__ import annotations

import contextlib
import getpass
import re
import uuid
from pathlib import Path
from typing import Any, Final

import click

from ice.cli.mission_source import mention, password_options, source_of
from ice.cli.options import config_option, json_option, once_options, verbosity
from ice.errors import LocalError
from ice.mission.model import Group, GroupType, Mission
from ice.mission.presence import MAX_NODE_ID, Descriptor, Disposition, Identity, Location, on_earth

MACHINE_ID: Final = Path("/etc/machine-id")
NODE_NAMESPACE: Final = uuid.UUID("5f1f7a3c-38b5-4f0e-9a53-0c6f3f6f7b41")  # of node ids made here
PICTURES: Final = (".svg", ".png")


def _place(context: click.Context, parameter: click.Parameter, value: str | None) -> Location | None:
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    numbers = [float(word) for word in words if re.fullmatch(r"[+-]?[0-9]{1,6}(\.[0-9]{1,12})?", word)]
    if len(numbers) != len(words) or len(numbers) not in (2, 3):
        raise click.BadParameter(
            "expected LATITUDE,LONGITUDE[,METRES] in degrees, such as 47.3769,8.5417 or -33.86,151.21,58"
        )
    if not on_earth(numbers[0], numbers[1]):
        raise click.BadParameter(
            "a latitude is −90…90 and a longitude −180…180 degrees; the latitude comes first"
        )
    return Location(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None)


def _picture(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in PICTURES:
        raise click.BadParameter(f"{value}: a map is written as .svg or .png")
    return value


@click.command()
@click.argument("mission", metavar="MISSION")
@config_option
@click.option(
    "--group",
    "group_name",
    metavar="NAME",
    help="Mission control group, by name or id, where there are several.",
)
@once_options("team")
@click.option(
    "--timeout", type=click.FloatRange(0.1), help="Give up when not connected after this long.  [never]"
)
@click.option(
    "--talkers/--no-talkers", default=True, help="Listen to the audio groups too, to show who talks.  [yes]"
)
@click.option(
    "--map", "chart", type=click.Path(path_type=Path, dir_okay=False), callback=_picture,
    help="Keep a map picture there (.svg or .png).",
)  # fmt: skip
@click.option(
    "--geojson",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep everybody's place there as GeoJSON.",
)
@click.option("--announce", metavar="NAME", help="Be seen by the others, under this name.")
@click.option("--status", "comment", metavar="TEXT", help="With --announce: a word about what you do.")
@click.option("--busy", is_flag=True, help="With --announce: busy, not available.")
@click.option(
    "--location", metavar="LAT,LON[,M]", callback=_place,
    help="Where you are, in degrees: shows how far the others are; told to them with --announce.",
)  # fmt: skip
@click.option("--emergency", is_flag=True, help="With --announce: raise an emergency, until you leave.")
@click.option(
    "--node-id",
    metavar="ID",
    help="With --announce: the id of this device.  [this machine's, for you and that name]",
)
@password_options
@json_option
def who(
    mission: str,
    config: Path | None,
    group_name: str | None,
    once: float | None,
    seconds: float | None,
    timeout: float | None,
    talkers: bool,
    chart: Path | None,
    geojson: Path | None,
    announce: str | None,
    comment: str | None,
    busy: bool,
    location: Location | None,
    emergency: bool,
    node_id: str | None,
    ask: bool,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Show who is there in MISSION (a file, a packed text, a link, a picture of a QR code).

    Only with --announce are you seen yourself. Ctrl-C ends it. Exit status 0 when it ended as asked, 1 when something was in the way.
    """
    from ice.cli import loop
    from ice.cli.channels import Wanted, configuration
    from ice.cli.who_watch import Wishes

    me = _me(announce, comment, busy, location, emergency, node_id)
    source = source_of(mission, ask, password_file)
    reading = source.reading
    if not as_json:
        mention(reading.remarks, source.name)
    group = control_group(reading.mission, group_name)
    loaded = configuration(config, Wanted((), (reading.mission,), ()))
    wishes = Wishes(
        once,
        seconds if once is None else once,
        timeout,
        as_json,
        chart,
        geojson,
        talkers,
        me,
        emergency,
        location,
    )

    async def main(reactor: Any, stop: loop.Stop) -> int:
        return await watch(reactor, stop, loaded, reading.mission, group, wishes)

    return loop.run(main, verbosity=verbosity())


def _me(
    name: str | None,
    comment: str | None,
    busy: bool,
    location: Location | None,
    emergency: bool,
    node_id: str | None,
) -> Descriptor | None:
    """What we tell of ourselves, or None; raises :class:`click.UsageError` for what makes no sense without a name."""
    if name is None:
        for option, given in (("--status", comment), ("--busy", busy), ("--node-id", node_id)):
            if given:
                raise click.UsageError(
                    f"{option} is told to others: say under which name, with --announce NAME"
                )
        if emergency:
            raise click.UsageError("--emergency needs --announce NAME: others must see who it is")
        return None
    if not name.strip():
        raise click.UsageError("--announce needs a name that others can read")
    if node_id is not None and (
        not node_id.strip() or len(node_id) > MAX_NODE_ID or not node_id.isprintable()
    ):
        raise click.UsageError(f"a node id is 1–{MAX_NODE_ID} printable characters, usually a UUID")
    return Descriptor(
        Identity(node_id.strip() if node_id is not None else own_node_id(name), display_name=name.strip()),
        comment=comment or "",
        disposition=Disposition.BUSY if busy else Disposition.AVAILABLE,
        location=location,
    )


def own_node_id(name: str) -> str:
    """A node id that stays the same for a person, a name and a machine, so that who comes back is nobody else; random where the machine has no id."""
    try:
        machine = MACHINE_ID.read_text("ascii").strip()
        person = getpass.getuser()
    except (OSError, UnicodeDecodeError, KeyError):
        return str(uuid.uuid4())
    if not machine:
        return str(uuid.uuid4())
    # Through a hash, and never as it is: systemd asks that the machine's id be kept to itself.
    return str(uuid.uuid5(NODE_NAMESPACE, f"{machine}\n{person}\n{name}"))


def control_group(mission: Mission, name: str | None) -> Group:
    """The mission control group that is meant; raises :class:`~ice.errors.LocalError` that says what there is."""
    groups = [group for group in mission.groups if group.type is GroupType.PRESENCE]
    if name is not None:
        found = mission.group(name) or next((g for g in groups if g.name.casefold() == name.casefold()), None)
        if found is None or found not in groups:
            there = ", ".join(f"'{each.name}'" for each in groups) or "none"
            raise LocalError(
                f"mission '{mission.name}' has no mission control group '{name}'; there are: {there}"
            )
        return found
    if not groups:
        raise LocalError(
            f"mission '{mission.name}' has no mission control group (type 2), so nobody tells there who they are; "
            "with one, made by `ice mission new` or by hand, they would"
        )
    if len(groups) > 1:
        there = ", ".join(f"'{each.name}'" for each in groups)
        raise LocalError(
            f"mission '{mission.name}' has {len(groups)} mission control groups; say which with --group: {there}"
        )
    return groups[0]


async def watch(reactor: Any, stop: Any, loaded: Any, mission: Mission, group: Group, wishes: Any) -> int:
    """Show who is there until it is time to stop; the exit status."""
    from ice.cli.boards import board_for
    from ice.cli.voice import Way
    from ice.cli.who_board import ScreenBoard
    from ice.cli.who_watch import Watch
    from ice.streams.team import team_of

    with contextlib.ExitStack() as held:
        title = f"{mission.name}: who is there"
        board = board_for(
            ScreenBoard, title, as_json=wishes.as_json, live=wishes.once_s is None, broken=stop.ask
        )
        held.callback(board.close)
        way = Way(board, group.name)
        team = team_of(mission, loaded, reactor, on_notice=way.notice)
        watch = Watch(reactor, team, group, wishes, board, way)
        watch.join()
        team.start()
        try:
            if await way.opened(reactor, stop, wishes.timeout_s, team):
                await watch.until(stop)
        finally:
            watch.leave()
            way.leaving = True
            await team.stop()
        watch.summarise()
    return 0
