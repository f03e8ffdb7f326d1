"""The control of a patch server, line by line; and its socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from ice.errors import LocalError
from ice.patch.control import (
    MAX_CONNECTIONS,
    MAX_LINE,
    MAX_SOUND,
    Control,
    ControlProtocol,
    ControlService,
    socket_path,
)
from ice.patch.plan import Patch
from ice.patch.service import PatchServer
from tests.unit.patch.test_service import Stage


def told(control: Control, *lines: bytes, by: str = "") -> list[dict[str, Any]]:
    """What is answered to these bytes, in one go."""
    protocol, transport = ControlProtocol(control, lambda _: None), StringTransport()
    protocol.makeConnection(transport)
    protocol._by = by or protocol._by
    protocol.dataReceived(b"".join(lines))
    protocol.setTimeout(None)  # type: ignore[no-untyped-call]
    return [json.loads(line) for line in transport.value().splitlines()]


def line(**request: object) -> bytes:
    return json.dumps(request).encode() + b"\n"


class Asked(Stage):
    def control(self, *patches: Patch) -> tuple[PatchServer, Control]:
        server = self.begun(*patches)
        return server, Control(server, lambda: {"daemon": "ice-patch"})

    def test_all_that_can_be_done(self) -> None:
        """Made, listed, changed, switched off and on, deleted: each in a line."""
        server, control = self.control()
        ok = {"ok": True, "detail": []}
        patch = {
            "id": "ab",
            "name": "Nord-Süd",
            "streams": ["a", {"stream": "b", "gain_db": 3}],
            "mode": "mixed",
        }
        self.assertEqual(told(control, line(do="create", patch=patch), by="ada"), [ok])
        [listed] = told(control, line(do="list"))
        [row] = listed["patches"]
        self.assertEqual(
            (row["id"], row["name"], row["state"], row["revision"], row["by"]),
            ("ab", "Nord-Süd", 1, 1, "ada"),
        )
        answers = told(
            control,
            line(do="change", id="ab", patch={"mode": "relay"}, if_revision=1),
            line(do="deactivate", id="ab"),
            line(do="activate", id="ab"),
            line(do="change", id="ab", patch={"streams": ["a", "b", "c"]}),
            line(do="status"),
            line(do="delete", id="ab"),
        )
        self.assertEqual(
            [answer.get("detail") for answer in answers],
            [["mode: mixed → relay"], ["enabled: true → false"], ["enabled: false → true"],
             ["streams: + c", "streams: b: gain 3 → 0 dB"], None, []],
        )  # fmt: skip
        self.assertEqual(answers[4]["status"], {"daemon": "ice-patch"})
        self.assertEqual(server.listing.patches, ())

    def test_refusals(self) -> None:
        """The bridge service's codes by name, and a sentence for what is no request at all."""
        _, control = self.control(Patch.of("ab", "ab"))
        long = [f"s{number}" for number in range(129)]
        for request, reason, code in (
            (line(do="create", patch={"id": "ab", "streams": ["c", "d"]}), "exists", -3),
            (line(do="create", patch={"id": "", "streams": ["c", "d"]}), "invalid", -4),
            (line(do="create", patch={"id": "x", "streams": ["c", "__d"]}), "invalid-stream", -5),
            (line(do="create", patch={"id": "x", "streams": ["c"]}), "too-few", -6),
            (line(do="create", patch={"id": "x", "streams": long}), "too-many", -7),
            (line(do="create", patch={"id": "x", "streams": ["c", "c"]}), "duplicate", -8),
            (line(do="create", patch={"id": "x", "streams": ["c", "a"]}), "loop", -9),
            (line(do="create", patch=[]), "no-json", -1),
            (line(do="create"), "no-json", -1),
            (line(do="change", id="ab", patch={"streams": ["a"]}), "too-few", -6),
            (line(do="change", id="ab", patch={"mode": "relay"}, if_revision=7), "changed", None),
            (line(do="activate", id="none"), "unknown", None),
            (line(do="change", id="none", patch={}), "unknown", None),
            (b"{\n", "no-json", -1),
            (b"[]\n", "no-json", -1),
            (b"[" * 100_000 + b"\n", "no-json", -1),
            (b"\xff\n", "no-json", -1),
            (line(do="dance"), None, None),
            (line(do=["list"]), None, None),
            (line(do="delete", id=3), None, None),
            (line(do="delete", id="ab", if_revision=True), None, None),
            (line(do="change", id="ab", patch={"id": "other"}), None, None),
            (line(do="announce", id="ab"), None, None),
            (line(do="announce", id="ab", digits="x"), None, None),
            (line(do="announce", id="ab", digits="1", priority=256), None, None),
            (line(do="announce", id="ab", bytes=MAX_SOUND + 1), None, None),
            (line(do="announce", id="ab", bytes=-1), None, None),
        ):
            [answer] = told(control, request)
            self.assertEqual(
                (answer["ok"], answer.get("reason"), answer.get("code")), (False, reason, code), request[:80]
            )
            self.assertTrue(answer["error"])

    def test_announced(self) -> None:
        """Sound follows its request, in whatever pieces it comes, and the next request follows it."""
        _, control = self.control(Patch.of("ab", "ab"))
        sound = np.ones(9_600, "<i2").tobytes()
        data = (
            line(do="announce", id="ab", bytes=len(sound), alias="Desk", digits="1")
            + sound
            + line(do="status")
        )
        for size in (len(data), 1_000):
            protocol, transport = ControlProtocol(control, lambda _: None), StringTransport()
            protocol.makeConnection(transport)
            for at in range(0, len(data), size):
                protocol.dataReceived(data[at : at + size])
            protocol.setTimeout(None)  # type: ignore[no-untyped-call]
            first, second = map(json.loads, transport.value().splitlines())
            self.assertEqual((first, second["ok"]), ({"ok": True, "seconds": 0.2}, True))
            self.clock.pump([0.02] * 100)
            self.assertEqual(self.heard(), {"a", "b"})

    def test_too_long(self) -> None:
        """A line without an end is not collected for ever."""
        _, control = self.control()
        protocol, transport = ControlProtocol(control, lambda _: None), StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"x" * (MAX_LINE + 1))
        protocol.setTimeout(None)  # type: ignore[no-untyped-call]
        self.assertTrue(transport.disconnecting)
        self.assertIn("at most", json.loads(transport.value())["error"])

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(("do", "id", "patch", "if_revision", "streams", "alias", "digits", "priority")),
            st.sampled_from(("create", "change", "activate", "announce", "ab", "1"))
            | st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
                ),
                max_leaves=5,
            ),
        )
    )
    def test_anything(self, request: dict[str, Any]) -> None:
        """Whatever is asked has one answer, which says whether it was done."""
        if not hasattr(self, "_control"):
            self._control = self.control(Patch.of("ab", "ab"))[1]
        [answer] = told(self._control, line(**request))
        self.assertIs(type(answer["ok"]), bool)


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


class OnASocket(TestCase):
    def setUp(self) -> None:
        self.path = (
            Path(self.mktemp()).absolute().relative_to(Path.cwd()) / "patch.sock"
        )  # short: a name has 108 bytes

        class Silent:
            def ask(self, request: dict[str, Any], by: str, sound: bytes = b"") -> dict[str, Any]:
                return {"ok": True, "by": by}

        self.service = ControlService(reactor, self.path, Silent())  # type: ignore[arg-type]

    async def asked(self) -> bytes:
        protocol = Line()
        await connectProtocol(UNIXClientEndpoint(reactor, str(self.path)), protocol)
        protocol.transport.write(b"{}\n")  # type: ignore[union-attr,call-arg,misc]
        answer = await protocol.done
        self.addCleanup(protocol.transport.loseConnection)  # type: ignore[union-attr]
        return answer

    async def test_who_asks(self) -> None:
        """The kernel says who it is; nobody else can open the socket, which is gone when the server is."""
        import pwd

        self.service.startService()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(
            json.loads(await self.asked()), {"ok": True, "by": pwd.getpwuid(os.getuid()).pw_name}
        )
        await self.service.stopService()
        self.assertFalse(self.path.exists())

    async def test_too_many(self) -> None:
        """More at once than anybody needs are shown the door."""
        self.service.startService()
        answers = [await self.asked() for _ in range(MAX_CONNECTIONS + 1)]
        self.assertEqual([bool(answer) for answer in answers], [True] * MAX_CONNECTIONS + [False])
        await self.service.stopService()

    async def test_left_behind(self) -> None:
        """The socket of a killed server is replaced; that of a living one, and a file, are left alone."""
        self.path.parent.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(self.path))
        self.service.startService()
        other = ControlService(reactor, self.path, self.service._control)
        with self.assertRaisesRegex(LocalError, "another patch server"):
            other.privilegedStartService()
        self.assertTrue(await self.asked())
        await self.service.stopService()
        self.path.write_text("a note")
        with self.assertRaisesRegex(LocalError, "a file of this name"):
            other.privilegedStartService()
        self.assertEqual(self.path.read_text(), "a note")

    def test_groups(self) -> None:
        """The socket may be a group's; one that there is none of is an error that names the setting."""
        self.service._operators = "no such group"
        with self.assertRaisesRegex(LocalError, "patch.operators"):
            self.service.privilegedStartService()

    def test_place(self) -> None:
        """As configured, else where systemd says, else beside the list."""
        folder = Path("/var/lib/ice")
        self.assertEqual(socket_path(Path("/x"), {"RUNTIME_DIRECTORY": "/run/a"}, folder), Path("/x"))
        self.assertEqual(
            socket_path(None, {"RUNTIME_DIRECTORY": "/run/a:/run/b"}, folder), Path("/run/a/patch.sock")
        )
        self.assertEqual(socket_path(None, {}, folder), Path("/var/lib/ice/patch.sock"))
