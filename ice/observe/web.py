"""What all web sites of a daemon have in common: few connections at a time, short timeouts, nothing logged per request, no version of ours in the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from ice.net.clock import Clock

TEXT: Final = "text/plain; charset=utf-8"


class QuietSite(Site):
    """A site that tells nobody of its requests; its port opens in the log under ``title``."""

    noisy = False  # a line per start and stop of a port is no event that a person acts on

    def __init__(
        self, resource: Resource, request: type[Request], reactor: Clock, idle_s: float, title: str
    ) -> None:
        self._title = title
        super().__init__(resource, requestFactory=request, timeout=idle_s, reactor=reactor)  # type: ignore[no-untyped-call]

    def logPrefix(self) -> str:
        """What Twisted calls it in the log."""
        return self._title

    def log(self, request: Any) -> None:
        """Nothing: a balancer asks every second."""


class Few(WrappingFactory):
    """At most ``most`` connections at a time to what is wrapped, and ``each`` from one address; ``refused`` counts those closed at once, of whom ``full`` is told, too."""

    noisy = False

    def __init__(
        self, wrapped: Any, most: int, full: Callable[[], None] | None = None, each: int | None = None
    ) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self._most = most
        self._each = most if each is None else each
        self._full = full
        self.refused = 0

    def logPrefix(self) -> str:
        """What Twisted calls it in the log: as what is wrapped."""
        wrapped: Any = self.wrappedFactory
        return str(wrapped.logPrefix())

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]  # None refuses
        """One connection more, or None: closed at once."""
        if len(self.protocols) >= self._most or self._from(addr) >= self._each:
            self.refused += 1
            if self._full is not None:
                self._full()
            return None
        return super().buildProtocol(addr)

    def _from(self, addr: IAddress | None) -> int:
        host = getattr(addr, "host", None)
        return sum(getattr(each.getPeer(), "host", None) == host for each in self.protocols)


def answer(request: Request, code: int, kind: str, body: bytes, allow: bytes = b"") -> bytes:
    """Set the head of an answer; gives what is to be sent of ``body``. ``allow``: the methods there are, for 405."""
    request.responseHeaders.removeHeader(b"server")
    request.setResponseCode(code)
    for name, value in (
        (b"content-type", kind.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ):
        request.setHeader(name, value)
    if allow:
        request.setHeader(b"allow", allow)
    return b"" if request.method == b"HEAD" else body
