"""The control socket of a patch server, on a real Unix socket."""

import json
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from ice.errors import LocalError
from ice.observe.control_socket import MAX_CONNECTIONS, SocketService
from tests.unit.observe.test_control import Silent


class Line(Protocol):
    """Collects until a line has come, or the connection is over."""

    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if b"\n" in data and not self.done.called:
            self.done.callback(self.data)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.done.called:
            self.done.callback(self.data)


def service_at(path: Path) -> SocketService:
    """The socket of a server that answers with who asks."""
    from twisted.internet import reactor

    return SocketService(reactor, path, Silent())


async def asked(path: Path, lines: list[Line]) -> bytes:
    """The answer to one request; the connection stays open in ``lines``."""
    from twisted.internet import reactor

    protocol = Line()
    await connectProtocol(UNIXClientEndpoint(reactor, str(path)), protocol)
    lines.append(protocol)
    protocol.transport.write(b'{"do":"who"}\n')  # type: ignore[union-attr,call-arg,misc]
    return await protocol.done


def closed(lines: list[Line]) -> None:
    """Leave no connection."""
    for protocol in lines:
        protocol.transport.abortConnection()  # type: ignore[union-attr]


@ensureDeferred
async def test_who_asks(tmp_path: Path) -> None:
    """The kernel says who it is; nobody else can open the socket, which is gone when the server is."""
    path, lines = tmp_path / "patch.sock", []  # type: tuple[Path, list[Line]]
    service = service_at(path)
    service.startService()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(await asked(path, lines)) == {"ok": True, "by": pwd.getpwuid(os.getuid()).pw_name}
    closed(lines)
    await service.stopService()
    assert not path.exists()


@ensureDeferred
async def test_too_many(tmp_path: Path) -> None:
    """More at once than anybody needs are shown the door."""
    path, lines = tmp_path / "patch.sock", []  # type: tuple[Path, list[Line]]
    service = service_at(path)
    service.startService()
    answers = [await asked(path, lines) for _ in range(MAX_CONNECTIONS + 1)]
    assert [bool(answer) for answer in answers] == [True] * MAX_CONNECTIONS + [False]
    closed(lines)
    await service.stopService()


@ensureDeferred
async def test_left_behind(tmp_path: Path) -> None:
    """The socket of a killed server is replaced; that of a living one, and a file, are left alone."""
    path, lines = tmp_path / "patch.sock", []  # type: tuple[Path, list[Line]]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    service, other = service_at(path), service_at(path)
    service.startService()
    with pytest.raises(LocalError, match="another daemon"):
        other.privilegedStartService()
    assert await asked(path, lines)
    closed(lines)
    await service.stopService()
    path.write_text("a note")
    with pytest.raises(LocalError, match="a file of this name"):
        other.privilegedStartService()
    assert path.read_text() == "a note"
