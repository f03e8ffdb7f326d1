"""Asking a daemon's control (:mod:`ice.observe.control`): over its Unix socket on this machine, or over HTTPS with the person's certificate, which needs the role operator.

Commands take :func:`control_options`, and get a :class:`Desk`, of which they ask.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs
import click

from ice.cli.options import config_option, json_option
from ice.errors import LocalError, RemoteError

if TYPE_CHECKING:
    from OpenSSL import SSL
    from rich.console import Console

    from ice.config.control import ControlSettings
    from ice.config.schema import Config
    from ice.security.contexts import ClientTls

TIMEOUT_S: Final = 10.0
MAX_ANSWER: Final = 16 * 1024 * 1024
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., object])


@attrs.frozen
class Controlled:
    """A daemon that can be controlled.

    ``title`` in sentences ("patch server"), ``daemon`` as it is started ("ice-patch"), ``section`` of its control in the configuration ("patch.control"), ``socket`` its file name, and
    where its settings are.
    """

    title: str
    daemon: str
    section: str
    socket: str
    settings: Callable[[Config], ControlSettings]

    @property
    def runtime(self) -> Path:
        """The socket of the daemon's unit."""
        return Path("/run") / self.daemon / self.socket


def control_options(controlled: Controlled) -> Callable[[_F], Callable[..., object]]:
    """Add ``--config``, ``--socket`` and ``--server``; the command receives ``desk: Desk`` instead of all three."""

    def decorate(command: _F) -> Callable[..., object]:
        @functools.wraps(command)
        def asked(*args: Any, config: Path | None, path: Path | None, server: str, **more: Any) -> object:
            if path is not None and server:
                raise click.UsageError("--socket is on this machine, --server on another: give one of them")
            return command(*args, desk=Desk(controlled, config, path, server), **more)

        with_socket = click.option(
            "--socket",
            "path",
            type=click.Path(path_type=Path),
            help=f"Control socket of the server.  [{controlled.section}.socket; that of the unit, or of one's own state folder]",
        )(config_option(asked))
        return click.option(
            "--server",
            default="",
            metavar="https://HOST:PORT",
            help="Control a server over HTTPS, as identity.certificate, whose role is operator.",
        )(with_socket)

    return decorate


def by_id(
    controlled: Controlled,
    do: str,
    told: str,
    *,
    then: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> Callable[..., object]:
    """A command that asks for ``do`` with an ID, says ``told`` of it ("patch {id} is on"), and does ``then`` with the answer."""

    @click.argument("id")
    @control_options(controlled)
    def asked(id: str, desk: Desk) -> int:
        answer = desk.ask({"do": do, "id": id})
        click.echo(told.format(id=id))
        then(answer)
        return 0

    return asked


def listing(controlled: Controlled, show: Callable[[dict[str, Any], Console], None]) -> Callable[..., object]:
    """A command that asks for the list, and shows it to people, or to machines as it is."""

    @control_options(controlled)
    @json_option
    def asked(desk: Desk, as_json: bool) -> int:
        answer = desk.ask({"do": "list"})
        if as_json:
            click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            from rich.console import Console

            show(answer, Console())
        return 0

    return asked


@attrs.frozen
class Desk:
    """Where a daemon is asked: its socket, which is found where ``path`` is None, or ``server`` over HTTPS."""

    controlled: Controlled
    config: Path | None
    path: Path | None = None
    server: str = ""

    def ask(self, request: dict[str, Any], attached: bytes = b"") -> dict[str, Any]:
        """The daemon's answer; raises :class:`~ice.errors.IceError` with its words where it refuses, and where nobody answers."""
        line = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        where, data = self._over_https(line + attached) if self.server else self._over_socket(line + attached)
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RemoteError(f"{where} answers something that is no answer of a {self.controlled.title}")
        if answer.get("ok") is not True:
            code = f" (code {answer['code']})" if isinstance(answer.get("code"), int) else ""
            reason = f"{answer['reason']}{code}: " if answer.get("reason") else ""
            raise RemoteError(f"{reason}{answer.get('error') or 'refused'}")
        return answer

    # -- the socket ----------------------------------------------------------------------------------------------------

    def _over_socket(self, data: bytes) -> tuple[str, bytes]:
        controlled, where = self.controlled, self.path or self._find()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            try:
                sock.connect(str(where))
                with contextlib.suppress(
                    BrokenPipeError
                ):  # what it says before it has heard all is the answer
                    sock.sendall(data)
                return str(where), _line(sock)
            except PermissionError:
                raise LocalError(
                    f"{where}: you may not use this socket; its group is set by {controlled.section}.group"
                ) from None
            except OSError as error:
                raise LocalError(
                    f"no {controlled.title} answers at {where}: {error.strerror or error}. Start it with  twistd -n --pidfile= {controlled.daemon} ; "
                    "where its socket is elsewhere, name it with --socket; where it is on another machine, with --server"
                ) from None

    def _find(self) -> Path:
        """The socket that the configuration names, else the unit's, where it is there, else one's own."""
        from ice.config.load import load
        from ice.election.connect import state_folder

        given = self.controlled.settings(load(self.config).config).socket
        if given is not None:
            return given
        own, runtime = state_folder(os.environ) / self.controlled.socket, self.controlled.runtime
        return runtime if runtime.exists() and not own.exists() else own

    # -- HTTPS ---------------------------------------------------------------------------------------------------------

    def _over_https(self, data: bytes) -> tuple[str, bytes]:
        parts = urlsplit(self.server)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "https" or not host or not port or parts.path not in ("", "/"):
            raise LocalError(
                f"{self.server!r}: expected https://HOST:PORT, as {self.controlled.section}.listen is there"
            )
        status, body = post(host, port, self._tls(), data)
        if status not in (200, 400, 409, 500):
            raise RemoteError(
                f"{self.server} answers {status}: {body[:400].decode('utf-8', 'replace').strip()}"
            )
        return self.server, body

    def _tls(self) -> ClientTls:
        from datetime import UTC, datetime

        from ice.config.load import load
        from ice.observe.control_web import ALPN
        from ice.security.certificates import Role
        from ice.security.contexts import ClientTls
        from ice.streams.connect import certificates_of, identity_in

        config = load(self.config).config
        credentials, trust = certificates_of(config, datetime.now(UTC))
        role, _ = identity_in(credentials, config)
        if role is not Role.OPERATOR:
            raise LocalError(
                f"{config.identity.certificate} has the role {role}; a {self.controlled.title} is controlled over HTTPS by the role operator: "
                "ice pki issue NAME --role operator, and name it in identity.certificate and identity.key"
            )
        return ClientTls(credentials, trust, config.network.verify_name, wants=Role.SATELLITE, alpn=ALPN)


def post(
    host: str, port: int, tls: ClientTls, body: bytes, timeout_s: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """Status and body of the answer to a POST of ``body``. Raises :class:`~ice.errors.IceError` with what is in the way."""
    from OpenSSL import SSL

    from ice.net.addresses import format_address
    from ice.security.refusals import Reason, explain

    address = format_address(host, port)
    deadline = time.monotonic() + timeout_s  # moved on by each piece that goes: a prompt may take its time
    head = (
        f"POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode()
    try:
        with socket.create_connection((host, port), timeout_s) as sock:
            sock.setblocking(False)
            connection = tls.connection(host, sock)
            patiently(sock, connection.do_handshake, deadline)
            left = memoryview(head + body)
            while left:
                left = left[patiently(sock, functools.partial(connection.send, left[:65_536]), deadline) :]
                deadline = time.monotonic() + timeout_s
            return _response(_all(sock, connection, deadline))
    except SSL.Error as error:
        refusal = explain(error)
        who = (
            ""
            if refusal.reason is Reason.CLOSED
            else "we refuse it: "
            if refusal.by_us
            else "it refuses us: "
        )
        raise RemoteError(f"{address}: {who}{refusal}") from None
    except OSError as error:
        raise LocalError(
            f"nobody answers at {address}: {error.strerror or error or 'no answer in time'}"
        ) from None


def patiently(sock: socket.socket, act: Callable[[], _T], deadline: float) -> _T:
    """Do something with TLS on a socket that does not block, as soon as it can be done; raises :class:`TimeoutError` at ``deadline`` (monotonic)."""
    from OpenSSL import SSL

    while True:
        try:
            return act()
        except (SSL.WantReadError, SSL.WantWriteError) as want:
            left = deadline - time.monotonic()
            writing = [sock] if isinstance(want, SSL.WantWriteError) else []
            if left <= 0 or not any(select.select([sock], writing, [], left)):
                raise TimeoutError("no answer in time") from None


def _all(sock: socket.socket, connection: SSL.Connection, deadline: float) -> bytes:
    """Everything up to the end that the far side makes."""
    from OpenSSL import SSL

    parts: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER:
        try:
            part = patiently(sock, functools.partial(connection.recv, 65_536), deadline)
        except (SSL.ZeroReturnError, SSL.SysCallError):
            if not parts:
                raise
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


class _Heard:
    """Bytes in the place of a socket, for :class:`http.client.HTTPResponse`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _response(data: bytes) -> tuple[int, bytes]:
    try:
        heard: Any = _Heard(data)
        response = http.client.HTTPResponse(heard)
        response.begin()
        return response.status, response.read()
    except (http.client.HTTPException, ValueError):
        raise RemoteError("what answers there is no HTTP, or ends in the middle") from None


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
