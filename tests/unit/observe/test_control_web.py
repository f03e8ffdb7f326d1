"""The control over HTTPS without TLS: what is read of a request that is longer than any may be; the rest is in the system tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from ice.observe.control import Command, Control, Reply
from ice.observe.control_web import _Watching, bounded
from ice.observe.web import QuietSite
from ice.security.refusals import Reason, Refusal

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


class Transport(StringTransport):
    """Knows whether it was cut off."""

    cut = False

    def abortConnection(self) -> None:
        self.cut = True


class Page(Resource):
    """Remembers what was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[bytes] = []

    def render(self, request: Any) -> bytes:
        self.asked.append(request.content.read())
        return b"done"


class Bodies(SynchronousTestCase):
    def setUp(self) -> None:
        self.control = Control([Command("say", lambda request: Reply(), attached=100)], max_line=50)
        self.page = Page()
        site = QuietSite(self.page, bounded(self.control), Clock(), 30.0, "test")
        self.channel: Any = site.buildProtocol(None)
        self.transport = Transport()
        self.channel.makeConnection(self.transport)

    def test_as_long_as_any(self) -> None:
        """A line, its end and what follows it."""
        self.channel.dataReceived(HEAD + b"content-length: 151\r\n\r\n" + b"x" * 151)
        self.assertEqual(self.page.asked, [b"x" * 151])
        self.assertFalse(self.transport.cut)

    def test_longer_than_any(self) -> None:
        """Ends the connection at once, whatever the far side does; nothing of it is kept, and it is counted."""
        self.channel.dataReceived(HEAD + b"content-length: 152\r\n\r\n")
        self.assertTrue(self.transport.cut)
        self.channel.dataReceived(b"x" * 151)
        self.assertEqual(self.channel._channel.requests[0].content.getvalue(), b"")
        self.channel.dataReceived(b"x")
        self.assertEqual(self.page.asked, [])
        self.assertEqual(self.control.counts["unknown", "malformed"], 1)

    def test_of_no_length(self) -> None:
        """What comes in chunks is not done, though all of it came at once."""
        self.channel.dataReceived(HEAD + b'transfer-encoding: chunked\r\n\r\nc\r\n{"do":"who"}\r\n0\r\n\r\n')
        self.assertTrue(self.transport.cut)
        self.assertEqual(self.page.asked, [])
        self.assertEqual(self.control.counts["unknown", "malformed"], 1)


class Strangers(SynchronousTestCase):
    def test_log(self) -> None:
        """Who is refused again and again is counted each time, and fills no log."""
        control, clock = Control([]), Clock()
        site = QuietSite(Page(), bounded(control), clock, 30.0, "test")
        watching: Any = _Watching(site, control, "patch.control", clock)
        lines: list[str] = []

        def note(event: dict[str, Any]) -> None:
            if event.get("log_namespace", "").endswith("_Watching"):
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        stranger, refusal = (
            IPv4Address("TCP", "192.0.2.7", 4),
            Refusal(Reason.ROLE, "no operator", by_us=True),
        )
        for _ in range(100):
            watching.told(stranger, refusal)
        self.assertEqual((len(lines), control.turned_away["role"]), (1, 100))
        clock.advance(60.0)
        watching.told(stranger, refusal)
        self.assertIn("192.0.2.7: role: no operator (99 more like it before)", lines[1])
