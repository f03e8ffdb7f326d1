"""The control of a daemon: what is asked, answered, counted and kept in the audit log; and its Unix socket without one."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.observe.control import Asker, Command, Control, Malformed, Refused, Reply, Request
from ice.observe.control_socket import SocketProtocol, SocketService, socket_path
from ice.observe.metrics import Metrics


def echo(request: Request) -> Reply:
    """Answers with all that it was given."""
    return Reply({"by": request.by, "bytes": len(request.attached)}, {"told": dict(request.values)})


class Asked(SynchronousTestCase):
    def setUp(self) -> None:
        self.later: list[Deferred[Reply]] = []
        self.lines: list[dict[str, Any]] = []

        def wait(request: Request) -> Deferred[Reply]:
            self.later.append(Deferred())
            return self.later[-1]

        def no(request: Request) -> Reply:
            raise Refused("not today", "closed", -3)

        def broken(request: Request) -> Reply:
            raise ZeroDivisionError

        def local(request: Request) -> Reply:
            raise LocalError("the disk is full")

        self.control = Control(
            [
                Command("echo", echo, changes=False),
                Command("say", echo, attached=100),
                Command("wait", wait, about=lambda values: {"call": values.get("call")}),
                Command("at once", lambda request: succeed(Reply())),
                Command("no", no),
                Command("broken", broken),
                Command("local", local),
                Command(
                    "texts",
                    lambda request: Reply({"texts": request.texts("x"), "n": request.whole("n", 3, 0, 5)}),
                ),
            ],
            max_line=1_000,
            wall=lambda: 1_790_000_000.0,
        )
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: dict[str, Any]) -> None:
        if event.get("log_format") == "audit {line}":
            self.lines.append(json.loads(event["line"]))

    def begun(self) -> tuple[SocketProtocol, StringTransport]:
        protocol, transport = SocketProtocol(self.control, lambda _: None), StringTransport()
        protocol.makeConnection(transport)
        protocol._asker = Asker("ada", {"via": "unix", "uid": 7})
        self.addCleanup(protocol.setTimeout, None)
        return protocol, transport

    def told(self, *lines: bytes) -> list[dict[str, Any]]:
        protocol, transport = self.begun()
        protocol.dataReceived(b"".join(line + b"\n" for line in lines))
        return [json.loads(line) for line in transport.value().splitlines()]

    def test_answers(self) -> None:
        """A line each, in order; what fails says why, and what comes next is heard all the same."""
        answers = self.told(
            b'{"do":"echo"}', b'{"do":"no"}', b'{"do":"local"}', b'{"do":"broken"}', b'{"do":"at once"}'
        )
        self.assertEqual(
            answers,
            [
                {"ok": True, "by": "ada", "bytes": 0},
                {"ok": False, "error": "not today", "reason": "closed", "code": -3},
                {"ok": False, "error": "the disk is full"},
                {"ok": False, "error": "this could not be done; the log of the daemon says why", "reason": "failed"},
                {"ok": True},
            ],
        )  # fmt: skip
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(
            dict(self.control.counts),
            {("echo", "done"): 1, ("no", "refused"): 1, ("local", "refused"): 1, ("broken", "failed"): 1,
             ("at once", "done"): 1},
        )  # fmt: skip

    def test_audit(self) -> None:
        """Whatever changes something is one line, done or refused: when, who, by which way, what. What only looks is none."""
        self.told(b'{"do":"echo"}', b'{"do":"no"}', b'{"do":"say"}')
        who = {"by": "ada", "via": "unix", "uid": 7, "ms": 1_790_000_000_000}
        self.assertEqual(
            self.lines,
            [
                who | {"action": "no", "done": False, "message": "not today", "reason": "closed", "code": -3},
                who | {"action": "say", "done": True, "told": {"do": "say"}},
            ],
        )

    def test_later(self) -> None:
        """A command that takes its time: those behind it on the connection wait, and the answer comes when it is there."""
        protocol, transport = self.begun()
        protocol.dataReceived(b'{"do":"wait","call":"c1"}\n{"do":"echo"}\n')
        self.assertEqual((transport.value(), transport.producerState), (b"", "paused"))
        self.later[0].callback(Reply({"up": True}))
        self.assertEqual(
            [json.loads(line) for line in transport.value().splitlines()],
            [{"ok": True, "up": True}, {"ok": True, "by": "ada", "bytes": 0}],
        )
        self.assertEqual((self.lines[0]["call"], self.lines[0]["done"]), ("c1", True))

    def test_gone_before_the_answer(self) -> None:
        """Who has left is told nothing; what he asked for is in the audit log."""
        protocol, transport = self.begun()
        protocol.dataReceived(b'{"do":"wait"}\n')
        protocol.connectionLost()
        self.later[0].errback(Refused("busy", "busy"))
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.lines[0]["reason"], "busy")

    def test_attached(self) -> None:
        """Bytes follow the line that announces them, in whatever pieces, and the next line follows them."""
        data = b'{"do":"say","bytes":5}\n12345{"do":"echo"}\n'
        for size in (len(data), 1):
            protocol, transport = self.begun()
            for at in range(0, len(data), size):
                protocol.dataReceived(data[at : at + size])
            self.assertEqual([json.loads(line)["bytes"] for line in transport.value().splitlines()], [5, 0])

    def test_bounds(self) -> None:
        """More than any request has is refused, and the connection is closed: nobody knows where the next one begins."""
        for data in (
            b"x" * 1_001,
            b'{"do":"echo","x":"' + b"x" * 1_000 + b'"}\n',
            b'{"do":"say","bytes":101}\n',
            b'{"do":"say","bytes":-1}\n',
            b'{"do":"say","bytes":true}\n',
            b'{"do":"say","bytes":1.5}\n',
        ):
            protocol, transport = self.begun()
            protocol.dataReceived(data)
            self.assertTrue(transport.disconnecting, data)
            self.assertIs(transport.producer, None)  # who is still one is never let go
            self.assertIs(json.loads(transport.value())["ok"], False)

    def test_no_requests(self) -> None:
        """What is none is refused with a sentence; the connection goes on."""
        for line in (
            b"", b"{", b"[]", b"\xff", b"1", b'{"do":3}', b'{"do":"dance"}', b"{}", b'{"do":"echo","do":"no"}',
            b'{"do":"echo","n":NaN}', b"[" * 500, b'{"do":"texts","x":[1]}', b'{"do":"texts","n":6}', b'{"do":"texts","n":true}',
        ):  # fmt: skip
            [refused, echoed] = self.told(line, b'{"do":"echo"}')
            self.assertEqual((refused["ok"], echoed["ok"]), (False, True), line)
            self.assertTrue(refused["error"])
        self.assertEqual(self.control.counts["unknown", "malformed"], 11)
        self.assertEqual(self.control.counts["texts", "malformed"], 3)

    def test_unread(self) -> None:
        """Who does not read his answers is not heard meanwhile, so that they do not pile up here; nothing that he asks is lost."""
        protocol, transport = self.begun()
        self.assertIs(transport.producer, protocol)
        self.assertIs(transport.streaming, True)
        protocol.pauseProducing()  # as a transport that is full has it
        protocol.dataReceived(b'{"do":"wait"}\n{"do":"echo"}\n')
        self.assertEqual((transport.producerState, transport.value(), self.later), ("paused", b"", []))
        protocol.resumeProducing()
        self.assertEqual((transport.producerState, len(self.later)), ("paused", 1))
        protocol.pauseProducing()
        protocol.resumeProducing()  # the answer is still to come, so what was asked behind it waits
        self.assertEqual((transport.producerState, transport.value()), ("paused", b""))
        protocol.pauseProducing()
        self.later[0].callback(Reply())
        self.assertEqual((transport.producerState, transport.value().count(b"\n")), ("paused", 1))
        protocol.resumeProducing()
        self.assertEqual((transport.producerState, transport.value().count(b"\n")), ("producing", 2))

    def test_idle(self) -> None:
        """Who says nothing for long is shown the door, whether he reads what he was told or not."""
        protocol, transport = self.begun()
        protocol.timeoutConnection()
        self.assertTrue(transport.disconnected)
        self.assertEqual(self.control.turned_away["idle"], 1)

    def test_metrics(self) -> None:
        """Requests by command and outcome, and those who did not come so far."""
        self.told(b'{"do":"echo"}', b"{")
        self.control.full()
        metrics = Metrics()
        self.control.add_metrics(metrics, "ice_x_control_")
        text = metrics.render().decode()
        self.assertIn('ice_x_control_requests_total{command="echo",outcome="done"} 1', text)
        self.assertIn('ice_x_control_requests_total{command="unknown",outcome="malformed"} 1', text)
        self.assertIn('ice_x_control_turned_away_total{reason="full"} 1', text)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=80))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes in a line has one answer."""
        try:
            asked = self.control.read(data)
        except Malformed as error:
            self.assertIs(self.control.refuse(error)["ok"], False)
        else:
            self.assertIs(type(asked.attached), int)


class Silent(Control):
    """Answers with who asks."""

    def __init__(self) -> None:
        super().__init__([Command("who", lambda request: Reply({"by": request.by}), changes=False)])


class Sockets(SynchronousTestCase):
    """What is decided before anybody listens; the socket itself is in the system tests."""

    def test_groups(self) -> None:
        """The socket may be a group's; one that there is none of is an error that names the setting."""
        service = SocketService(Clock(), Path(self.mktemp()), Silent(), "no such group", "patch.control")
        with self.assertRaisesRegex(LocalError, r"patch\.control\.group"):
            service.privilegedStartService()

    def test_no_member(self) -> None:
        """A group of which this process is no member is told with what to do, and nothing is left open."""
        path = Path(self.mktemp())
        closed: list[bool] = []

        class Port:
            def stopListening(self) -> None:
                closed.append(True)

        class Reactor:
            def listenUNIX(self, name: str, factory: object, mode: int) -> Port:
                path.touch(mode)
                return Port()

        def chown(path: object, uid: int, gid: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "chown", chown)
        group = grp.getgrgid(os.getgid()).gr_name
        service = SocketService(Reactor(), path, Silent(), group, "patch.control")
        with self.assertRaisesRegex(
            LocalError, r"no member of it.*SupplementaryGroups=.*patch\.control\.group"
        ):
            service.privilegedStartService()
        self.assertEqual(closed, [True])
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_place(self) -> None:
        """As configured, else where systemd says, else beside the state."""
        folder, name = Path("/var/lib/ice"), "patch.sock"
        self.assertEqual(socket_path(Path("/x"), name, {"RUNTIME_DIRECTORY": "/run/a"}, folder), Path("/x"))
        self.assertEqual(
            socket_path(None, name, {"RUNTIME_DIRECTORY": "/run/a:/run/b"}, folder), Path("/run/a/patch.sock")
        )
        self.assertEqual(socket_path(None, name, {}, folder), Path("/var/lib/ice/patch.sock"))
