"""The control of a daemon over HTTPS, on a real port: who is let in, what is answered, and what is kept of it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from ice.cli.control import Desk
from ice.cli.patch import PATCH
from ice.errors import IceError, LocalError
from ice.net.addresses import Address
from ice.observe import control_web
from ice.observe.control import Command, Control, Reply
from ice.observe.control_web import web_service
from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.trust import Credentials, Trust

NOW = datetime.now(UTC)


@attrs.define
class Shown:
    """What the daemon shows and believes; a reload puts others there."""

    credentials: Credentials
    trust: Trust


@attrs.frozen
class Stage:
    """A control on a port, and the folder of the site's certificates."""

    folder: Path
    authority: Authority
    control: Control
    shown: Shown
    port: int
    lines: list[dict[str, Any]]

    def desk(self, name: str) -> Desk:
        """Somebody's computer, with the certificate of that name."""
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n'
            '[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n'
        )
        return Desk(PATCH, config, None, f"https://127.0.0.1:{self.port}")

    def asked(self, name: str, request: dict[str, Any], attached: bytes = b"") -> Deferred[Any]:
        """What that person is answered."""
        return deferToThread(self.desk(name).ask, request, attached)

    def trust(self) -> Trust:
        """The site's authority and its list, as they are on the disk."""
        pki = self.folder / "pki"
        return Trust.read([pki / "authority.pem"], pki / "revoked.pem", NOW)


def later(request: Any) -> Deferred[Reply]:
    """An answer that takes a moment."""
    from twisted.internet import reactor

    done: Deferred[Reply] = Deferred()
    reactor.callLater(0.05, done.callback, Reply({"late": True}))  # type: ignore[attr-defined]
    return done


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    from twisted.internet import reactor

    monkeypatch.setattr(control_web, "HANDSHAKE_S", 1.0)
    pki = tmp_path / "pki"
    authority = Authority.create(pki, NOW)
    authority.issue("patch", Role.SATELLITE, NOW, addresses=(ip_address("127.0.0.1"),))
    for name, role in (("ada", Role.OPERATOR), ("bob", Role.CLIENT)):
        authority.issue(name, role, NOW)
    control = Control(
        [
            Command("who", lambda request: Reply({"by": request.by, "bytes": len(request.attached)}), attached=1_000_000),
            Command("later", later),
            Command("fail", lambda request: Reply({"x": 1 / 0})),
        ]
    )  # fmt: skip
    shown = Shown(
        Credentials.read(pki / "patch.pem", pki / "patch.key"),
        Trust.read([pki / "authority.pem"], pki / "revoked.pem", NOW),
    )
    lines: list[dict[str, Any]] = []

    def note(event: dict[str, Any]) -> None:
        if event.get("log_format") == "audit {line}":
            lines.append(json.loads(event["line"]))

    globalLogPublisher.addObserver(note)
    service = web_service(reactor, Address("127.0.0.1", 0), control, shown, "patch.control")
    service.startService()
    port: int = service._port.getHost().port
    yield Stage(tmp_path, authority, control, shown, port, lines)
    globalLogPublisher.removeObserver(note)
    service.stopService()


def by_hand(stage: Stage, name: str, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """What is answered to a request written by hand, as a script would."""
    context = ssl.create_default_context(cafile=str(stage.folder / "pki" / "authority.pem"))
    context.load_cert_chain(stage.folder / "pki" / f"{name}.pem", stage.folder / "pki" / f"{name}.key")
    with (
        socket.create_connection(("127.0.0.1", stage.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response.status, response.read()


@ensureDeferred
async def test_operator(stage: Stage) -> None:
    """An operator is answered, also with much attached and after a while; the audit log knows her by her certificate."""
    assert await stage.asked("ada", {"do": "who"}) == {"ok": True, "by": "ada", "bytes": 0}
    sound = bytes(range(256)) * 3_000
    answer = await stage.asked("ada", {"do": "who", "bytes": len(sound)}, sound)
    assert answer["bytes"] == len(sound)
    assert (await stage.asked("ada", {"do": "later"}))["late"] is True
    with pytest.raises(IceError, match="failed"):
        await stage.asked("ada", {"do": "fail"})
    with pytest.raises(IceError, match="do is one of"):
        await stage.asked("ada", {"do": "dance"})
    line = stage.lines[0]
    assert (line["by"], line["via"], line["from"], line["action"]) == ("ada", "https", "127.0.0.1", "who")
    assert len(line["certificate"]) == 36
    assert line["serial"]


@ensureDeferred
async def test_nobody_else(stage: Stage) -> None:
    """A client, a satellite, an expired and a revoked operator, one of another authority, one without a certificate: all refused, counted by reason."""
    with pytest.raises(LocalError, match="the role operator"):  # found out at home already
        await stage.asked("bob", {"do": "who"})
    authority = stage.authority
    authority.issue("old", Role.OPERATOR, NOW - timedelta(days=30), days=1)
    authority.issue("out", Role.OPERATOR, NOW)
    other = Authority.create(stage.folder / "other", NOW)
    other.issue("eve", Role.OPERATOR, NOW)
    for end in (".pem", ".key"):
        (stage.folder / "pki" / f"eve{end}").write_bytes((stage.folder / "other" / f"eve{end}").read_bytes())
    authority.revoke("out", NOW)
    stage.shown.trust = stage.trust()  # as a reload does
    request = "POST / HTTP/1.1\nhost: x\ncontent-type: application/json\ncontent-length: 12\n"
    for name, told in (("old", "expired"), ("out", "revoked"), ("eve", "authority")):
        with pytest.raises(IceError, match=told):
            await stage.asked(name, {"do": "who"})
    for name in ("bob", "patch"):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            await deferToThread(by_hand, stage, name, request, b'{"do":"who"}')
    assert dict(stage.control.turned_away) == {"expired": 1, "revoked": 1, "unknown-authority": 1, "role": 2}
    assert stage.lines == []


@ensureDeferred
async def test_revoked_meanwhile(stage: Stage) -> None:
    """Who is revoked while connected is told so at the next request; a renewed server certificate is shown from the next connection on."""

    def twice() -> list[int]:
        pki = stage.folder / "pki"
        context = ssl.create_default_context(cafile=str(pki / "authority.pem"))
        context.load_cert_chain(pki / "ada.pem", pki / "ada.key")
        connection = http.client.HTTPSConnection("127.0.0.1", stage.port, timeout=5, context=context)
        codes = []
        for _ in range(2):
            connection.request("POST", "/", b'{"do":"who"}', {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            codes.append(response.status)
            stage.authority.revoke("ada", NOW) if len(codes) == 1 else None
            stage.shown.trust = stage.trust()
        connection.close()
        return codes

    assert await deferToThread(twice) == [200, 403]
    assert stage.control.turned_away["revoked"] == 1


@ensureDeferred
async def test_strange_requests(stage: Stage) -> None:
    """What is no request of the control has a status that says so, and changes nothing."""
    json_type, one = "content-type: application/json\n", b'{"do":"who"}'
    for head, body, status in (
        ("GET / HTTP/1.1\nhost: x\n", b"", 405),
        ("POST /other HTTP/1.1\nhost: x\n", b"", 404),
        ("POST / HTTP/1.1\nhost: x\ncontent-type: text/plain\ncontent-length: 12\n", one, 415),  # from a page in a browser
        (f"POST / HTTP/1.1\nhost: x\n{json_type}content-length: 1\n", b"{", 400),
        (f"POST / HTTP/1.1\nhost: x\n{json_type}content-length: 14\n", one + b"\n1", 400),
        (f"POST / HTTP/1.1\nhost: x\n{json_type}content-length: 12\n", one, 200),
    ):  # fmt: skip
        found, answer = await deferToThread(by_hand, stage, "ada", head, body)
        assert (found, bool(answer)) == (status, True), head
    for length in ("content-length: 99999999", "transfer-encoding: chunked"):
        with pytest.raises((http.client.HTTPException, ConnectionError, ssl.SSLError)):
            await deferToThread(by_hand, stage, "ada", f"POST / HTTP/1.1\nhost: x\n{json_type}{length}\n")
    assert len(stage.lines) == 1


@ensureDeferred
async def test_nobody_keeps_others_out(stage: Stage) -> None:
    """Of one address a few connections are taken, and who does not come to the point is shown the door."""
    held = [socket.create_connection(("127.0.0.1", stage.port), 5) for _ in range(control_web.EACH + 2)]
    try:
        with pytest.raises(IceError):
            await stage.asked("ada", {"do": "who"})
        assert stage.control.turned_away["full"] == 3
        for sock in held:
            assert await deferToThread(ended, sock)
        assert stage.control.turned_away["handshake"] == control_web.EACH
        assert (await stage.asked("ada", {"do": "who"}))["by"] == "ada"
    finally:
        for sock in held:
            sock.close()


def ended(sock: socket.socket) -> bool:
    """Whether the far side has ended it, within its time."""
    sock.settimeout(5)
    try:
        return not sock.recv(1)
    except ConnectionError:
        return True


def test_certificate_without_names(stage: Stage) -> None:
    """A certificate that nobody could dial is found out before the port is open."""
    from twisted.internet import reactor

    stage.authority.issue("bare", Role.SATELLITE, NOW)
    pki = stage.folder / "pki"
    stage.shown.credentials = Credentials.read(pki / "bare.pem", pki / "bare.key")
    with pytest.raises(LocalError, match=r"renew bare --dns.*patch\.control\.listen"):
        web_service(reactor, Address("127.0.0.1", 0), stage.control, stage.shown, "patch.control")
