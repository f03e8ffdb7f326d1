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

MAX_HZ = 20_000
MAX_TONE_MS = 60_000
PATCH = Controlled(
    "patch server", "ice-patch", "patch.control", "patch.sock", lambda config: config.patch.control
)


class _Tone(click.ParamType[tuple[float, int]]):
    """``HZ:MS``, a tone or (0 Hz) a pause."""

    name = "tone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        pitch, _, length = str(value).partition(":")
        try:
            found = float(pitch), int(length)
        except ValueError:
            self.fail(f"{value!r} is no tone; 1000:500 is one of 1000 Hz, half a second long", param, ctx)
        if not 0 <= found[0] <= MAX_HZ or not 0 < found[1] <= MAX_TONE_MS:
            self.fail(f"{value!r}: a tone has up to {MAX_HZ} Hz and lasts up to {MAX_TONE_MS} ms", param, ctx)
        return found


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
@click.option(
    "--gain",
    "gains",
    type=(str, float),
    multiple=True,
    metavar="STREAM DB",
    help="How much louder (or softer: negative) a stream is for the others, in the mode mixed; repeatable.",
)
@click.option(
    "--automatic-gain",
    "automatic",
    multiple=True,
    metavar="STREAM",
    help="Let a stream's gain follow its speech, in the mode mixed; repeatable.",
)
@click.option("--off", is_flag=True, help="Keep it ready, and let nothing pass yet.")
@control_options(PATCH)
def add(
    id: str,
    streams: tuple[str, ...],
    name: str,
    mode: str,
    gains: tuple[tuple[str, float], ...],
    automatic: tuple[str, ...],
    off: bool,
    desk: Desk,
) -> int:
    """Make a patch of streams, and switch it on."""
    louder = dict(gains)
    if strange := [stream for stream in (*louder, *automatic) if stream not in streams]:
        raise click.UsageError(f"{strange[0]} is no stream of this patch")
    members = [
        {"stream": stream, "gain_db": louder.get(stream, 0.0), "automatic_gain": stream in automatic}
        for stream in streams
    ]
    given: dict[str, Any] = {"id": id, "streams": members, "mode": mode, "enabled": not off}
    if name:
        given["name"] = name
    answer = desk.ask({"do": "create", "patch": given})
    click.echo(f"patch {id} joins {len(streams)} streams" + (", and is off" if off else ""))
    _caution(answer)
    return 0


@patch.command()
@click.argument("id")
@click.argument("stream")
@click.argument("db", type=float)
@click.option(
    "--automatic/--fixed", default=None, help="Whether it follows the stream's speech besides.  [as it was]"
)
@control_options(PATCH)
def gain(id: str, stream: str, db: float, automatic: bool | None, desk: Desk) -> int:
    """Make a stream louder or softer (-DB, behind --) for the others, in the mode mixed; nobody is interrupted."""
    from ice.errors import LocalError

    answer = desk.ask({"do": "list"})
    rows, names = [row for row in answer["patches"] if row["id"] == id], answer.get("names", {})
    members = [
        member
        for row in rows
        for member in row["streams"]
        if member["stream"] == stream or names.get(member["stream"], "").casefold() == stream.casefold()
    ]
    if not members:
        raise LocalError(
            f"there is no patch {id!r} with the stream {stream!r}; ice patch list shows what there is"
        )
    members[0]["gain_db"] = db
    if automatic is not None:
        members[0]["automatic_gain"] = automatic
    [row] = rows
    desk.ask({"do": "change", "id": id, "patch": {"streams": row["streams"]}, "if_revision": row["revision"]})
    click.echo(f"patch {id}: {stream} has {db:+g} dB")
    return 0


@patch.command()
@click.argument("id")
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="WAV file that is said, up to 5 minutes."
)
@click.option(
    "--tone",
    "tones",
    type=_Tone(),
    multiple=True,
    metavar="HZ:MS",
    help="A tone before it, as 1000:500; 0:200 is a pause; repeatable.",
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
    tones: tuple[tuple[float, int], ...],
    digits: str,
    alias: str,
    priority: int,
    emergency: bool,
    streams: tuple[str, ...],
    desk: Desk,
) -> int:
    """Say tones, a recorded prompt, or telephone keys into a patch."""
    if not (file or tones or digits):
        raise click.UsageError(
            "an announcement has tones (--tone), sound (--file), or telephone keys (--digits)"
        )
    sound = _sound(tones, file)
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
    _caution(answer)
    return 0


def _sound(tones: tuple[tuple[float, int], ...], file: Path | None) -> bytes:
    """Tones, then what the file has, as the control takes sound."""
    from ice.media.codecs import SAMPLE_RATE
    from ice.media.tones import shaped, silence, sine
    from ice.media.wav import read

    pieces = []
    for pitch, length_ms in tones:
        samples = length_ms * SAMPLE_RATE // 1000
        pieces.append(shaped(sine(pitch, samples)) if pitch else silence(samples))
    if file is not None:
        pieces.append(read(file))
    return b"".join(piece.astype("<i2").tobytes() for piece in pieces)
