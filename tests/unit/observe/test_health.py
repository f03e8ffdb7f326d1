"""The health pages, asked byte for byte over an in-memory connection."""

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError, RemoteError
from ice.observe import health as module
from ice.observe.health import IDLE_S, MAX_ASKED, MAX_CONNECTIONS, Answer, Health, HealthSite
from ice.observe.metrics import Metrics


class Connection:
    """One client of a site."""

    def __init__(self, site: HealthSite) -> None:
        protocol = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        assert protocol is not None
        self.protocol: IProtocol = protocol
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes; the status, headers and body of the answer."""
        self.transport.clear()
        self.protocol.dataReceived(request)
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}, body

    def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Ask for a page."""
        return self.ask(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


class Asking(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reasons: dict[str, str | None] = {"alive": None, "ready": None}
        self.status: dict[str, Any] = {"links": 3}
        metrics = Metrics(process=False)
        metrics.gauge("ice_links", "Links.", lambda: 3)
        health = Health(
            alive=[lambda: self.reasons["alive"]],
            ready=[lambda: None, lambda: self.reasons["ready"]],
            status=lambda: self.status,
            metrics=metrics,
            title="ice <rallypoint>",
            pages={"/echo": self.echo, "/late": lambda query: self.late},
        )
        self.site = HealthSite(health, self.clock)
        self.connection = Connection(self.site)
        self.error: Exception | None = None
        self.late: Deferred[Answer] = Deferred()

    def echo(self, query: Mapping[str, str]) -> Answer:
        """A page of a daemon's own."""
        if self.error is not None:
            raise self.error
        return "text/x", repr(dict(query)).encode()

    def test_own_pages(self) -> None:
        """A daemon's own page has its own type, and the first value of each name of the query."""
        code, headers, body = self.connection.get("/echo?a=1&b=%C3%A9&a=2&c=")
        self.assertEqual((code, headers["content-type"]), (200, "text/x"))
        self.assertEqual(body.decode(), "{'a': '1', 'b': 'é', 'c': ''}")
        self.assertEqual(self.connection.get("/echo", "HEAD")[2], b"")
        self.assertEqual(self.connection.get("/echo", "POST")[0], 405)
        self.assertIn(b'href="/echo"', self.connection.get("/")[2])
        self.assertIn(b"/echo", self.connection.get("/nothing")[2])

    def test_whose_fault_it_is(self) -> None:
        """The asker's is 400 and ours 503, in words; a fault in the program is 500 and in the log."""
        for error, code, said in (
            (RemoteError("no such stream"), 400, b"no such stream\n"),
            (LocalError("not installed"), 503, b"not installed\n"),
        ):
            self.error = error
            self.assertEqual(self.connection.get("/echo")[::2], (code, said))
        self.error = KeyError("secret")
        code, _, body = self.connection.get("/echo")
        self.assertEqual(code, 500)
        self.assertNotIn(b"secret", body)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_questions_are_bounded(self) -> None:
        """Too long a question is 414, one that is no text 400."""
        self.assertEqual(self.connection.get("/echo?a=" + "x" * MAX_ASKED)[0], 414)
        self.assertEqual(self.connection.get("/echo?a=%FF")[0], 400)

    def test_answers_are_bounded(self) -> None:
        """A page that has become too large is refused, not sent."""
        self.patch(module, "MAX_ANSWER", 10)
        self.assertEqual(self.connection.get("/echo?a=" + "x" * 20)[0], 503)

    def test_a_page_that_takes_its_time(self) -> None:
        """It is answered when it is made."""
        self.connection.protocol.dataReceived(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(self.connection.transport.value(), b"")
        self.late.callback(("image/x", b"picture"))
        answer = self.connection.transport.value()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
        self.assertTrue(answer.endswith(b"\r\n\r\npicture"), answer)
        self.assertEqual(self.connection.get("/healthz")[0], 200)

    def test_a_late_page_that_fails(self) -> None:
        """As one that fails at once."""
        self.connection.protocol.dataReceived(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.late.errback(LocalError("not installed"))
        self.assertIn(b"503", self.connection.transport.value().split(b"\r\n")[0])
        self.assertTrue(self.connection.transport.value().endswith(b"not installed\n"))

    def test_who_does_not_wait(self) -> None:
        """A page for somebody who is gone is thrown away."""
        self.connection.protocol.dataReceived(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.connection.protocol.connectionLost(Failure(ConnectionLost()))
        self.late.callback(("image/x", b"picture"))
        self.assertEqual(self.connection.transport.value(), b"")

    def test_healthz(self) -> None:
        """200 while alive, 503 with the reason when not."""
        self.assertEqual(self.connection.get("/healthz")[0], 200)
        self.reasons["alive"] = "no heartbeat for 9 s"
        code, _, body = self.connection.get("/healthz")
        self.assertEqual((code, body), (503, b"not alive: no heartbeat for 9 s\n"))

    def test_readyz(self) -> None:
        """200 when newcomers are welcome, 503 with the reason when not; a daemon that drains is still alive."""
        self.assertEqual(self.connection.get("/readyz")[::2], (200, b"ready\n"))
        self.reasons["ready"] = "draining"
        self.assertEqual(self.connection.get("/readyz")[::2], (503, b"not ready: draining\n"))
        self.assertEqual(self.connection.get("/healthz")[0], 200)

    def test_metrics(self) -> None:
        """Prometheus' text, with its content type."""
        code, headers, body = self.connection.get("/metrics")
        self.assertEqual(code, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain; version="))
        self.assertIn(b"ice_links 3.0\n", body)

    def test_status(self) -> None:
        """One JSON object, made anew for each request."""
        self.assertEqual(json.loads(self.connection.get("/status")[2]), {"links": 3})
        self.status["links"] = 4
        self.assertEqual(json.loads(self.connection.get("/status?x=1")[2]), {"links": 4})

    def test_broken_page(self) -> None:
        """A page that cannot be made is 500 without a traceback; the log has it."""
        self.status = {("not", "a key"): 1}  # type: ignore[dict-item]
        code, _, body = self.connection.get("/status")
        self.assertEqual(code, 500)
        self.assertNotIn(b"Traceback", body)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_index_escapes(self) -> None:
        """The index names the daemon, as text."""
        self.assertIn(b"<h1>ice &lt;rallypoint&gt;</h1>", self.connection.get("/")[2])

    def test_head(self) -> None:
        """HEAD says how long the page is and sends none of it."""
        _, headers, body = self.connection.get("/healthz", "HEAD")
        self.assertEqual((headers["content-length"], body), ("6", b""))

    def test_other_methods(self) -> None:
        """Everything but GET and HEAD is 405."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            code, headers, _ = Connection(self.site).get("/status", method)
            self.assertEqual((code, headers["allow"]), (405, "GET, HEAD"), method)

    def test_unknown_page(self) -> None:
        """A page that is not there is 404 and names those that are."""
        for path in ("/nothing", "/healthz/", "/../etc/passwd", "//"):
            code, _, body = Connection(self.site).get(path)
            self.assertEqual(code, 404, path)
            self.assertIn(b"/readyz", body)

    def test_no_version(self) -> None:
        """No answer names the software behind it, or may be cached."""
        for path in ("/", "/healthz", "/nothing"):
            _, headers, body = self.connection.get(path)
            self.assertNotIn("server", headers)
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertNotIn(b"Twisted", body)

    def test_no_body(self) -> None:
        """A request that announces a body, by length or in chunks, is closed unread."""
        for header in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
            connection = Connection(self.site)
            connection.protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            self.assertTrue(connection.transport.disconnecting, header)

    def test_huge_header(self) -> None:
        """A header without end is cut off."""
        connection = Connection(self.site)
        connection.protocol.dataReceived(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        self.assertTrue(connection.transport.disconnecting)

    def test_idle(self) -> None:
        """A connection that says nothing is closed."""
        self.clock.advance(IDLE_S + 1)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_too_many_connections(self) -> None:
        """Beyond the bound connections are refused and counted; a place that comes free is given again."""
        connections = [Connection(self.site) for _ in range(MAX_CONNECTIONS - 1)]
        self.assertIsNone(self.site.buildProtocol(None))
        self.assertEqual(self.site.refused, 1)
        connections[0].protocol.connectionLost(None)  # type: ignore[arg-type]
        self.assertEqual(Connection(self.site).get("/healthz")[0], 200)
