"""``ice patch``: see and change what a patch server joins, over its control: of this machine over a Unix socket, of another one (``--server``) over HTTPS.

The socket needs no certificate: who may use it, may. What was done, and what was refused, stands in the server's audit log with the name of who asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ice.cli.control import Controlled, Desk, by_id, control_options, listing

if TYPE_CHECKING:
    from rich.console import Console

PATCH = Controlled(
    "patch server", "ice-patch", "patch.control", "patch.sock", lambda config: config.patch.control
)


@click.group()
def patch() -> None:
    """Join channels, and part them: the patch server of this machine."""


def _show(answer: dict[str, Any], console: Console) -> None:
    from ice.cli.patches import show_list

    show_list(answer, console)


def _caution(answer: dict[str, Any]) -> None:
    """Tell on standard error what the person who has switched it should know."""
    if answer.get("warnings"):
        from ice.cli.patches import cautions

        for caution in cautions(answer):
            click.echo(f"beware: {caution}", err=True)


patch.command("list", help="Show the patches, and how each stands.")(listing(PATCH, _show))
patch.command("on", help="Switch a patch on.")(by_id(PATCH, "activate", "patch {id} is on", then=_caution))
patch.command("off", help="Switch a patch off; it is kept.")(by_id(PATCH, "deactivate", "patch {id} is off"))
patch.command("rm", help="Delete a patch.")(by_id(PATCH, "delete", "patch {id} is deleted"))


@patch.command()
@click.argument("id")
@click.argument("streams", nargs=-1, required=True, metavar="STREAM STREAM...")
@click.option("--name", default="", help="Name for people.  [the id]")
@click.option(
    "--mode",
    type=click.Choice(["relay", "transcode", "mixed"]),
    default="relay",
    show_default=True,
    help="How speech passes: as it is, coded anew for each stream, or mixed.",
)
@click.option("--off", is_flag=True, help="Keep it ready, and let nothing pass yet.")
@control_options(PATCH)
def add(
    id: str,
    streams: tuple[str, ...],
    name: str,
    mode: str,
    off: bool,
    desk: Desk,
) -> int:
    """Make a patch of streams, and switch it on."""
    given: dict[str, Any] = {"id": id, "streams": list(streams), "mode": mode, "enabled": not off}
    if name:
        given["name"] = name
    answer = desk.ask({"do": "create", "patch": given})
    click.echo(f"patch {id} joins {len(streams)} streams" + (", and is off" if off else ""))
    _caution(answer)
    return 0


@patch.command()
@click.argument("id")
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="WAV file that is said, up to 5 minutes."
)
@click.option("--digits", default="", help="Telephone keys that are said after it.")
@click.option("--alias", default="", help="Name that listeners see, at most 16 bytes.")
@click.option("--priority", type=click.IntRange(0, 255), default=0, show_default=True)
@click.option("--emergency", is_flag=True, help="Mark it as an emergency.")
@click.option("--stream", "streams", multiple=True, help="Only on this stream of the patch; repeatable.")
@control_options(PATCH)
def announce(
    id: str,
    file: Path | None,
    digits: str,
    alias: str,
    priority: int,
    emergency: bool,
    streams: tuple[str, ...],
    desk: Desk,
) -> int:
    """Say a recorded prompt, or telephone keys, into a patch."""
    sound = b""
    if file is not None:
        from ice.media.wav import read

        sound = read(file).astype("<i2").tobytes()
    if not sound and not digits:
        raise click.UsageError("an announcement has sound (--file), or telephone keys (--digits)")
    request = {
        "do": "announce",
        "id": id,
        "bytes": len(sound),
        "digits": digits,
        "alias": alias,
        "priority": priority,
        "emergency": emergency,
        "streams": list(streams),
    }
    answer = desk.ask(request, sound)
    click.echo(f"patch {id} says it: {answer.get('seconds', 0)} s")
    return 0
