"""``ice patch``: see and change what the patch server of this machine joins, over its control socket.

It needs no certificate: who may use the socket, may. What was done, and what was refused, stands in the server's audit log with the name of who asked.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ice.cli.options import config_option, json_option

TIMEOUT_S = 10.0
MAX_ANSWER = 16 * 1024 * 1024
RUNTIME = Path("/run/ice-patch/patch.sock")  # of the unit ice-patch.service
_F = TypeVar("_F", bound=Callable[..., object])


def _socket_option(command: _F) -> _F:
    return click.option(
        "--socket",
        "path",
        type=click.Path(path_type=Path),
        help="Control socket of the server.  [patch.control.socket; that of the unit, or of one's own state folder]",
    )(command)


@click.group()
def patch() -> None:
    """Join channels, and part them: the patch server of this machine."""


@patch.command("list")
@config_option
@_socket_option
@json_option
def list_(config: Path | None, path: Path | None, as_json: bool) -> int:
    """Show the patches, and how each stands."""
    answer = _ask(config, path, {"do": "list"})
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    from rich.console import Console

    from ice.cli.patches import show_list

    show_list(answer, Console())
    return 0


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
@config_option
@_socket_option
def add(
    id: str,
    streams: tuple[str, ...],
    name: str,
    mode: str,
    off: bool,
    config: Path | None,
    path: Path | None,
) -> int:
    """Make a patch of streams, and switch it on."""
    given: dict[str, Any] = {"id": id, "streams": list(streams), "mode": mode, "enabled": not off}
    if name:
        given["name"] = name
    _ask(config, path, {"do": "create", "patch": given})
    click.echo(f"patch {id} joins {len(streams)} streams" + (", and is off" if off else ""))
    return 0


@patch.command()
@click.argument("id")
@config_option
@_socket_option
def on(id: str, config: Path | None, path: Path | None) -> int:
    """Switch a patch on."""
    _ask(config, path, {"do": "activate", "id": id})
    click.echo(f"patch {id} is on")
    return 0


@patch.command()
@click.argument("id")
@config_option
@_socket_option
def off(id: str, config: Path | None, path: Path | None) -> int:
    """Switch a patch off; it is kept."""
    _ask(config, path, {"do": "deactivate", "id": id})
    click.echo(f"patch {id} is off")
    return 0


@patch.command()
@click.argument("id")
@config_option
@_socket_option
def rm(id: str, config: Path | None, path: Path | None) -> int:
    """Delete a patch."""
    _ask(config, path, {"do": "delete", "id": id})
    click.echo(f"patch {id} is deleted")
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
@config_option
@_socket_option
def announce(
    id: str,
    file: Path | None,
    digits: str,
    alias: str,
    priority: int,
    emergency: bool,
    streams: tuple[str, ...],
    config: Path | None,
    path: Path | None,
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
    answer = _ask(config, path, request, sound)
    click.echo(f"patch {id} says it: {answer.get('seconds', 0)} s")
    return 0


def _ask(
    config: Path | None, path: Path | None, request: dict[str, Any], sound: bytes = b""
) -> dict[str, Any]:
    """The server's answer; raises :class:`~ice.errors.IceError` with its words where it refuses, and where nobody answers."""
    from ice.errors import LocalError, RemoteError

    where = path if path is not None else _where(config)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_S)
        try:
            sock.connect(str(where))
            sock.sendall(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n" + sound)
            line = _line(sock)
        except PermissionError:
            raise LocalError(
                f"{where}: you may not use this socket; its group is set by patch.control.group"
            ) from None
        except OSError as error:
            raise LocalError(
                f"no patch server answers at {where}: {error.strerror or error}. Start it with  twistd -n --pidfile= ice-patch ; "
                "where its socket is elsewhere, name it with --socket"
            ) from None
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise RemoteError(f"{where} answers something that is no answer of a patch server")
    if answer.get("ok") is not True:
        code = f" (code {answer['code']})" if isinstance(answer.get("code"), int) else ""
        reason = f"{answer['reason']}{code}: " if answer.get("reason") else ""
        raise RemoteError(f"{reason}{answer.get('error') or 'refused'}")
    return answer


def _line(sock: socket.socket) -> bytes:
    parts: list[bytes] = []
    size = 0
    while not parts or not parts[-1].endswith(b"\n"):
        part = sock.recv(65_536)
        size += len(part)
        if not part or size > MAX_ANSWER:
            break
        parts.append(part)
    return b"".join(parts)


def _where(config: Path | None) -> Path:
    """The socket that the configuration names, else the unit's, where it is there, else one's own."""
    from ice.config.load import load
    from ice.election.connect import state_folder
    from ice.patch.control import SOCKET

    given = load(config).config.patch.control.socket
    if given is not None:
        return given
    own = state_folder(os.environ) / SOCKET
    return RUNTIME if RUNTIME.exists() and not own.exists() else own
