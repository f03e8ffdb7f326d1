"""The daemon's own small web page: alive, ready, metrics, status. Loopback by default.

==============  ==========================================================================================
``/healthz``    200 while the process does its work; 503 and the reason when it does not: restart it
``/readyz``     200 when newcomers are welcome; 503 with one reason a line when they should go elsewhere
``/metrics``    Prometheus' text format
``/status``     one JSON object for ``ice status``
``/``           all of them as links
==============  ==========================================================================================

A daemon adds pages of its own (:attr:`Health.pages`), which may be asked with a query and may take their time.

It is made to be asked often and by anybody who can reach it: GET and HEAD only, no request bodies, few connections, short
timeouts, no version of ours in the answers, nothing logged per request, questions and answers bounded. All of it is one leaf
resource, since there is nothing to traverse.
"""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from ice.errors import LocalError, RemoteError
from ice.net.clock import Clock
from ice.observe.metrics import CONTENT_TYPE, Metrics
from ice.observe.web import TEXT, Few, QuietSite, answer

MAX_CONNECTIONS: Final = 64  # a scraper, a balancer or two and a person; more is somebody's mistake
IDLE_S: Final = 15.0  # scrapers keep their connection for the next round only where it costs nobody

MAX_ASKED: Final = (
    4_096  # bytes of path and query; the longest stream id takes 768, every byte written as %xx
)
MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes of a page; `ice` reads no more either

Check = Callable[[], str | None]
"""Asked per request: None when all is well, else the reason in words."""

Answer = tuple[str, bytes]
"""A page: its content type, and what is in it."""

MakePage = Callable[[Mapping[str, str]], "Answer | Deferred[Answer]"]
"""Makes a page, now or later, out of its query (the first value of each name).  A :class:`~ice.errors.RemoteError` is the asker's fault, and
answered 400; a :class:`~ice.errors.LocalError` is ours, 503; both with their own words."""


@attrs.frozen
class Health:
    """What the pages show. ``alive``: every check of ``/healthz``; ``ready``: those of ``/readyz``; ``status`` makes the JSON object.

    ``pages``: more of them, by path.
    """

    alive: Sequence[Check] = ()
    ready: Sequence[Check] = ()
    status: Callable[[], Mapping[str, Any]] = dict
    metrics: Metrics = attrs.field(factory=Metrics)
    title: str = "ice"
    pages: Mapping[str, MakePage] = attrs.field(factory=dict)


@attrs.frozen
class _Page:
    code: int
    kind: str
    body: bytes


class Pages(Resource):
    """The pages of one :class:`Health`."""

    isLeaf = True
    _log = Logger()

    def __init__(self, health: Health) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._health = health
        self._pages: dict[bytes, Callable[[], _Page]] = {
            b"/": self._index,
            b"/healthz": lambda: _verdict(health.alive, "alive"),
            b"/readyz": lambda: _verdict(health.ready, "ready"),
            b"/metrics": lambda: _Page(200, CONTENT_TYPE, health.metrics.render()),
            b"/status": self._status,
        }

    def render(self, request: Request) -> Any:
        """Answer GET and HEAD; everything else is 405."""
        page = self._page(request)
        if isinstance(page, Deferred):
            gone: list[Failure] = []
            request.notifyFinish().addErrback(gone.append)
            page.addCallback(partial(self._finish, request, gone))
            return NOT_DONE_YET
        return self._answer(request, page)

    def _answer(self, request: Request, page: _Page) -> bytes:
        return answer(request, page.code, page.kind, page.body, b"GET, HEAD" if page.code == 405 else b"")

    def _finish(self, request: Request, gone: Sequence[object], page: _Page) -> None:
        if not gone:
            request.write(self._answer(request, page))
            request.finish()

    def _page(self, request: Request) -> "_Page | Deferred[_Page]":
        if request.method not in (b"GET", b"HEAD"):
            return _Page(405, TEXT, b"only GET and HEAD\n")
        make = self._pages.get(request.path)
        try:
            if make is not None:
                return make()
            more = self._health.pages.get(request.path.decode("ascii", "replace"))
            if more is None:
                return _Page(404, TEXT, f"there are {' '.join(self._paths())}\n".encode())
            return self._asked(more, request)
        except Exception:
            return self._failed(request.path, Failure())

    def _asked(self, make: MakePage, request: Request) -> "_Page | Deferred[_Page]":
        """A page of the daemon's own."""
        if len(request.uri) > MAX_ASKED:
            return _Page(414, TEXT, b"%d bytes of question at most\n" % MAX_ASKED)
        try:
            query = {name.decode(): values[0].decode() for name, values in request.args.items()}
        except UnicodeDecodeError:
            return _Page(400, TEXT, b"a question is UTF-8, written as %xx\n")
        made = make(query)
        if isinstance(made, Deferred):
            page: Deferred[_Page] = made.addCallbacks(_made, partial(self._failed, request.path))
            return page
        return _made(made)

    def _failed(self, path: bytes, failure: Failure) -> _Page:
        if failure.check(LocalError, RemoteError):
            code = 400 if failure.check(RemoteError) else 503
            return _Page(code, TEXT, f"{failure.value}\n".encode("utf-8", "replace"))
        shown = path.decode("ascii", "replace")
        self._log.failure("page {path} cannot be made", failure=failure, path=shown)
        return _Page(500, TEXT, b"this page cannot be made; the log says why\n")

    def _paths(self) -> list[str]:
        return ["/healthz", "/readyz", "/metrics", "/status", *self._health.pages]

    def _status(self) -> _Page:
        body = json.dumps(self._health.status(), indent=1, default=str).encode()
        return _Page(200, "application/json", body + b"\n")

    def _index(self) -> _Page:
        title = html.escape(self._health.title)
        links = "".join(f'<li><a href="{p}">{p}</a></li>' for p in map(html.escape, self._paths()))
        body = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{links}</ul>\n"
        return _Page(200, "text/html; charset=utf-8", body.encode())


def _made(answer: Answer) -> _Page:
    kind, body = answer
    if len(body) > MAX_ANSWER:
        return _Page(503, TEXT, b"this page has become larger than %d bytes\n" % MAX_ANSWER)
    return _Page(200, kind, body)


def _verdict(checks: Sequence[Check], word: str) -> _Page:
    reasons = [reason for check in checks if (reason := check()) is not None]
    if reasons:
        return _Page(503, TEXT, "".join(f"not {word}: {reason}\n" for reason in reasons).encode())
    return _Page(200, TEXT, f"{word}\n".encode())


class _Request(Request):
    """A request without a body: one that announces a body loses its connection unread, since no page here takes any."""

    def gotLength(self, length: int | None) -> None:
        """The headers are in, and announce ``length`` bytes of body (None: chunked)."""
        super().gotLength(0)  # type: ignore[no-untyped-call]
        if length != 0:
            self.channel.loseConnection()


class HealthSite(Few):
    """The factory to listen with: at most :data:`MAX_CONNECTIONS` at a time; ``refused`` counts those closed at once."""

    def __init__(self, health: Health, reactor: Clock) -> None:
        super().__init__(QuietSite(Pages(health), _Request, reactor, IDLE_S, "status pages"), MAX_CONNECTIONS)
