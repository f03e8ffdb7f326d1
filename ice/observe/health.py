"""The daemon's own small web page: alive, ready, metrics, status. Loopback by default.

==============  ==========================================================================================
``/healthz``    200 while the process does its work; 503 and the reason when it does not: restart it
``/readyz``     200 when newcomers are welcome; 503 with one reason a line when they should go elsewhere
``/metrics``    Prometheus' text format
``/status``     one JSON object for ``ice status``
``/``           the four above as links
==============  ==========================================================================================

It is made to be asked often and by anybody who can reach it: GET and HEAD only, no request bodies, few connections, short
timeouts, no version of ours in the answers, nothing logged per request. All of it is one leaf resource, since there is
nothing to traverse.
"""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from ice.net.clock import Clock
from ice.observe.metrics import CONTENT_TYPE, Metrics

MAX_CONNECTIONS: Final = 64  # a scraper, a balancer or two and a person; more is somebody's mistake
IDLE_S: Final = 15.0  # scrapers keep their connection for the next round only where it costs nobody

Check = Callable[[], str | None]
"""Asked per request: None when all is well, else the reason in words."""

_TEXT = "text/plain; charset=utf-8"


@attrs.frozen
class Health:
    """What the pages show. ``alive``: every check of ``/healthz``; ``ready``: those of ``/readyz``; ``status`` makes the JSON object."""

    alive: Sequence[Check] = ()
    ready: Sequence[Check] = ()
    status: Callable[[], Mapping[str, Any]] = dict
    metrics: Metrics = attrs.field(factory=Metrics)
    title: str = "ice"


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

    def render(self, request: Request) -> bytes:
        """Answer GET and HEAD; everything else is 405."""
        request.responseHeaders.removeHeader(b"server")
        page = self._page(request)
        request.setResponseCode(page.code)
        for name, value in (
            (b"content-type", page.kind.encode()),
            (b"content-length", b"%d" % len(page.body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ):
            request.setHeader(name, value)
        if page.code == 405:
            request.setHeader(b"allow", b"GET, HEAD")
        return b"" if request.method == b"HEAD" else page.body

    def _page(self, request: Request) -> _Page:
        if request.method not in (b"GET", b"HEAD"):
            return _Page(405, _TEXT, b"only GET and HEAD\n")
        make = self._pages.get(request.path)
        if make is None:
            return _Page(404, _TEXT, b"there are /healthz /readyz /metrics /status\n")
        try:
            return make()
        except Exception:
            self._log.failure("page {path} cannot be made", path=request.path.decode("ascii", "replace"))
            return _Page(500, _TEXT, b"this page cannot be made; the log says why\n")

    def _status(self) -> _Page:
        body = json.dumps(self._health.status(), indent=1, default=str).encode()
        return _Page(200, "application/json", body + b"\n")

    def _index(self) -> _Page:
        title = html.escape(self._health.title)
        links = "".join(
            f'<li><a href="{p}">{p}</a></li>' for p in ("/healthz", "/readyz", "/metrics", "/status")
        )
        body = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{links}</ul>\n"
        return _Page(200, "text/html; charset=utf-8", body.encode())


def _verdict(checks: Sequence[Check], word: str) -> _Page:
    reasons = [reason for check in checks if (reason := check()) is not None]
    if reasons:
        return _Page(503, _TEXT, "".join(f"not {word}: {reason}\n" for reason in reasons).encode())
    return _Page(200, _TEXT, f"{word}\n".encode())


class _Request(Request):
    """A request without a body: one that announces a body loses its connection unread, since no page here takes any."""

    def gotLength(self, length: int | None) -> None:
        """The headers are in, and announce ``length`` bytes of body (None: chunked)."""
        super().gotLength(0)  # type: ignore[no-untyped-call]
        if length != 0:
            self.channel.loseConnection()


class _Site(Site):
    noisy = False  # a line per start and stop of a port is no event that a person acts on

    def log(self, request: Any) -> None:
        """Nothing: a balancer asks every second."""


class HealthSite(WrappingFactory):
    """The factory to listen with: at most :data:`MAX_CONNECTIONS` at a time; ``refused`` counts those closed at once."""

    noisy = False

    def __init__(self, health: Health, reactor: Clock) -> None:
        site = _Site(Pages(health), requestFactory=_Request, timeout=IDLE_S, reactor=reactor)  # type: ignore[no-untyped-call]
        super().__init__(site)  # type: ignore[no-untyped-call]
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]  # None refuses
        """One connection more, or None: closed at once."""
        if len(self.protocols) >= MAX_CONNECTIONS:
            self.refused += 1
            return None
        return super().buildProtocol(addr)
