"""``ice status`` against answers of every kind."""

import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.pages import NotRunning, fetch, fetch_object
from ice.cli.status import duration, show, status
from ice.errors import LocalError, RemoteError

ANSWER: dict[str, Any] = {
    "daemon": "ice-rallypoint",
    "version": "0.1.0",
    "name": "north",
    "state": "running",
    "ready": True,
    "why_not_ready": "",
    "uptime_s": 3_725.0,
    "listening": ["127.0.0.1:7443"],
    "cpu_percent": 3.5,
    "certificate": {"expires": "2031-03-01T00:00:00+00:00", "days_left": 300},
    "links_total": 2,
    "links": [
        {
            "name": "anna[red]",
            "role": "client",
            "address": "192.0.2.7:4711",
            "age_s": 61.0,
            "rtt_ms": 12.5,
            "received": 1_234,
            "sent": 5,
            "dropped": {"full": 1, "old": 2, "refused": 0},
            "streams": [{"stream": "town", "listen": True, "talk": False}],
        }
    ],
    "streams_total": 1,
    "streams": [{"stream": "town", "listeners": 3, "talkers": 1, "packets": 99}],
    "counters": {
        "media_received": 1_234,
        "media_sent": 3_702,
        "newcomers_refused": {"limit": 4, "denied": 0},
    },
}


@contextmanager
def served(code: int, body: bytes) -> Iterator[str]:
    """A web page on loopback; its address."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its verdict."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(answer: dict[str, Any]) -> str:
    out = io.StringIO()
    show(answer, Console(file=out, width=120))
    return out.getvalue()


class StatusTests(SynchronousTestCase):
    def ask(self, *arguments: str) -> Result:
        return CliRunner().invoke(status, list(arguments), standalone_mode=False)

    def test_table(self) -> None:
        """A person sees who is linked, to what, and what went wrong; foreign names are text, not markup."""
        said = shown(ANSWER)
        for words in (
            "ice-rallypoint 'north' is running",
            "1 h 2 min",
            "until 2031-03-01 (300 days)",
            "1,234 packets in; 3,702 out; newcomers refused: 4 limit",
            "anna[red]",
            "← town",
            "12.5 ms",
            "… and 1 more",
        ):
            self.assertIn(words, said)

    def test_not_ready(self) -> None:
        """A daemon that does not want newcomers says why."""
        self.assertIn(
            "draining, not ready: it stops",
            shown(ANSWER | {"state": "draining", "ready": False, "why_not_ready": "it stops"}),
        )

    def test_other_version(self) -> None:
        """What an older or newer daemon does not tell is left out."""
        self.assertIn("daemon '?' is ?", shown({}))
        shown({"links": [{}], "streams": [{}], "counters": {}, "certificate": {}})

    def test_exit_status(self) -> None:
        """0 when ready, 1 when not; JSON is the daemon's own answer."""
        for ready, code in ((True, 0), (False, 1)):
            answer = ANSWER | {"ready": ready}
            with served(200, json.dumps(answer).encode()) as url:
                result = self.ask("--url", url, "--json")
                self.assertEqual((result.return_value, json.loads(result.output)), (code, answer))

    def test_not_running(self) -> None:
        """Nobody there: what to do is said."""
        error = self.assertRaises(NotRunning, fetch, "http://127.0.0.1:1/status")
        self.assertIn("make run", str(error))
        self.assertIsInstance(self.ask("--url", "http://127.0.0.1:1").exception, NotRunning)

    def test_no_status_page(self) -> None:
        """An address that is none, another program's page, an error page: each is told apart."""
        for url in ("foo", "ftp://host/", "http://"):
            self.assertRaises(LocalError, fetch, url)
        for code, body, words in (
            (404, b"no such page", "answers 404: no such page"),
            (200, b"<html>", "no status document"),
            (200, b"[]", "no status document"),
            (200, b"[" * 100_000, "no status document"),
        ):
            with served(code, body) as url:
                self.assertIn(words, str(self.assertRaises(RemoteError, fetch_object, url)))

    def test_durations(self) -> None:
        """Two units at most, and nothing for what is no number."""
        cases: list[tuple[Any, str | None]] = [
            (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_320, "2 h 2 min"), (180_000, "2 d 2 h"), (None, None), (-1, None),
        ]  # fmt: skip
        for seconds, words in cases:
            self.assertEqual(duration(seconds), words)
