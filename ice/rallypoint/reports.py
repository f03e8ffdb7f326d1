"""What a Rallypoint shows of its mesh: pages beside the status pages, and files for monitors, both made of the same documents.

==============  ==========================================================================================
``/mesh``       the mesh status (JSON), for ``ice status --mesh``
``/mesh.dot``   the link graph (Graphviz DOT)
``/mesh.svg``   the link graph, drawn, with names, costs and round trips
``/routes``     the route map (JSON)
``/trace``      ``?stream=ID``, ``&from=RALLYPOINT``: the tree that a datagram takes (JSON), for ``ice trace``
==============  ==========================================================================================

**Files** are looked after every ``refresh_s``. The status is written each time, the others when they have changed, and once a minute, so that
their age says whether we live. Documents are made by the reactor's thread, out of what is in memory; a thread of their own writes them, because a
disk, or what pretends to be one, may be slow; and a file whose last write is not over is passed over. Whoever reads one sees the former
or the new one, never a part: it is written beside its name and then renamed.

A file that cannot be written, or a picture that cannot be drawn, is told in the log once, and once more when it is well again.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

import ice
from ice.config.reports import ReportSettings
from ice.net.graphviz import Graphviz
from ice.observe.health import Answer, MakePage
from ice.rallypoint.guest import Guest
from ice.rallypoint.link_graph import Style, link_graph
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.mesh_view import (
    Here,
    Peer,
    StreamRow,
    Throughput,
    bytes_of,
    route_map,
    status_document,
    trace_document,
)
from ice.rallypoint.service import Rallypoint

WRITTEN_EVERY_S: Final = 60.0  # what has not changed is written this often all the same
DRAWN_EVERY_S: Final = (
    60.0  # round trips in the picture may be as old as this; drawing takes a tenth of a second or more
)
MAX_CLIENTS: Final = 1_000  # shown in a picture

JSON: Final = "application/json"
DOT: Final = "text/vnd.graphviz; charset=utf-8"
SVG: Final = "image/svg+xml"

_PICTURE = "picture"

InThread = Callable[[Callable[[], None]], Deferred[None]]
"""Calls something in another thread; fails with what it raises."""


class Reports(Service):
    """The files, and :attr:`pages` for :class:`~ice.observe.health.Health`."""

    _log = Logger()
    name = "reports"

    def __init__(
        self,
        reactor: Any,
        settings: ReportSettings,
        rallypoint: Rallypoint,
        *,
        in_thread: InThread | None = None,
        graphviz: Graphviz | None = None,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """``in_thread``: where files are written, by default a thread of the reactor's pool."""
        self._reactor = reactor
        self._settings = settings
        self._rallypoint = rallypoint
        self._in_thread = in_thread or partial(_in_reactor_thread, reactor)
        self._graphviz = Graphviz(reactor) if graphviz is None else graphviz
        self._unix_s = unix_s
        self._throughput = Throughput()
        self._files: dict[Path, _File] = {}
        self._complaints: dict[object, str] = {}
        self._drawn_of = ""
        self._drawn_at = float("-inf")
        self._loop = LoopingCall(self._refresh)
        self._loop.clock = reactor
        #: For the health site, by path.
        self.pages: Mapping[str, MakePage] = {
            "/mesh": lambda query: (JSON, self._status()),
            "/mesh.dot": lambda query: (DOT, self._graph(self._style).encode()),
            "/mesh.svg": self._picture,
            "/routes": lambda query: (JSON, self._routes()),
            "/trace": self._trace,
        }

    def startService(self) -> None:
        """Write the files now, and again and again."""
        super().startService()  # type: ignore[no-untyped-call]
        self._begin()

    def stopService(self) -> None:
        """Write nothing more; a write that has begun goes on to its end."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def reload(self, settings: ReportSettings) -> None:
        """Go on by new settings."""
        if settings == self._settings:
            return
        self._settings = settings
        self._files.clear()
        self._complaints.clear()
        self._drawn_at = float("-inf")
        if self.running:
            if self._loop.running:
                self._loop.stop()
            self._begin()

    # -- documents ------------------------------------------------------------------------------------------------------

    def _seen(self) -> tuple[Here, list[Peer], Mesh[Any] | None]:
        backbone = self._rallypoint.house.backbone
        peers: list[Peer] = list(backbone.rows(self._reactor.seconds()))
        return here_of(self._rallypoint, self._unix_s()), peers, backbone.mesh

    def _status(self) -> bytes:
        here, peers, mesh = self._seen()
        now = self._reactor.seconds()
        allies = self._rallypoint.house.federation.rows(now)
        self._throughput.look(bytes_of(here, peers), now)
        return _json(status_document(here, peers, mesh, self._throughput, allies))

    def _routes(self) -> bytes:
        house = self._rallypoint.house
        return _json(route_map(map(_row, house.registry.streams.values()), house.backbone.mesh))

    @property
    def _style(self) -> Style:
        settings = self._settings
        return Style(
            core=settings.core_style,
            leaf=settings.leaf_style,
            client=settings.client_style,
            enclosed=settings.enclosure,
        )

    def _graph(self, style: Style) -> str:
        clients = []
        if self._settings.clients:
            guests = self._rallypoint.house.guests
            clients = sorted(guest.address for guest in guests if guest.member is not None)[:MAX_CLIENTS]
        return link_graph(*self._seen(), style, clients)

    def _detailed(self) -> str:
        return self._graph(attrs.evolve(self._style, enclosed=True, details=True))

    def _picture(self, query: Mapping[str, str]) -> Deferred[Answer]:
        return self._graphviz.draw(self._detailed()).addCallback(lambda svg: (SVG, svg))

    def _trace(self, query: Mapping[str, str]) -> Answer:
        return JSON, _json(trace_document(*self._seen(), query.get("stream", ""), query.get("from", "")))

    # -- files ----------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        settings = self._settings
        if settings.status_file or settings.link_graph_file or settings.route_map_file:
            self._loop.start(settings.refresh_s, now=True)

    def _refresh(self) -> None:
        settings = self._settings
        try:
            if settings.status_file is not None:
                self._offer(settings.status_file, self._status())
            if settings.route_map_file is not None:
                self._offer(settings.route_map_file, self._routes())
            if settings.link_graph_file is not None:
                graph = self._graph(self._style)
                self._offer(settings.link_graph_file, graph.encode())
                if settings.svg:
                    self._draw(settings.link_graph_file, graph)
        except Exception:
            self._log.failure("the reports about the mesh cannot be made")

    def _offer(self, path: Path, data: bytes) -> None:
        """Let a file hold this, if it does not."""
        file, now = self._files.setdefault(path, _File()), self._reactor.seconds()
        if file.busy or (data == file.holds and now - file.written_at < WRITTEN_EVERY_S):
            return
        file.busy = True
        writing = self._in_thread(partial(write, path, data))
        writing.addCallback(lambda _: self._written(path, file, data, now))
        writing.addErrback(partial(self._not_written, path, file))

    def _written(self, path: Path, file: "_File", data: bytes, now: float) -> None:
        file.busy, file.holds, file.written_at = False, data, now
        self._well(path)

    def _not_written(self, path: Path, file: "_File", failure: Failure) -> None:
        file.busy = False
        error = failure.value
        why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        self._complain(
            path,
            f"cannot write {path}: {why} (rallypoint.reports; the user of this daemon must be able to write its folder)",
        )

    def _draw(self, beside: Path, graph: str) -> None:
        """Have the picture drawn anew where the graph has changed, or where it has become old."""
        now = self._reactor.seconds()
        if graph == self._drawn_of and now - self._drawn_at < DRAWN_EVERY_S:
            return
        self._drawn_of, self._drawn_at = graph, now
        path = beside.with_suffix(".svg")
        if path in (beside, self._settings.status_file, self._settings.route_map_file):
            path = beside.with_name(beside.name + ".svg")
        drawing = self._graphviz.draw(self._detailed())
        drawing.addCallback(partial(self._drawn, path))
        drawing.addErrback(lambda failure: self._complain(_PICTURE, str(failure.value)))

    def _drawn(self, path: Path, picture: bytes) -> None:
        self._well(_PICTURE)
        self._offer(path, picture)

    def _complain(self, about: object, sentence: str) -> None:
        if self._complaints.get(about) != sentence:
            self._complaints[about] = sentence
            self._log.warn("{sentence}", sentence=sentence)

    def _well(self, about: object) -> None:
        former = self._complaints.pop(about, None)
        if former is not None:
            self._log.info("mended: {sentence}", sentence=former)


@attrs.define(eq=False)
class _File:
    """What we know of a file."""

    holds: bytes = b""
    written_at: float = float("-inf")
    busy: bool = False


def here_of(rallypoint: Rallypoint, unix_s: float) -> Here:
    """What there is to say of this Rallypoint itself; ``unix_s``: the time of day."""
    house = rallypoint.house
    relay = house.relay
    members = [guest.member for guest in house.guests if guest.member is not None]
    return Here(
        id=house.identity.id,
        name=house.name,
        version=ice.__version__,
        unix_s=unix_s,
        uptime_s=rallypoint.uptime_s,
        cpu_percent=house.admission.cpu_percent,
        draining=house.admission.draining,
        clients=len(members),
        joins=sum(len(member.subscriber.memberships) for member in members),
        streams=len(house.registry.streams),
        received=relay.frames_received,
        received_bytes=relay.bytes_received,
        sent=relay.copies_delivered,
        sent_bytes=house.sent_bytes + sum(map(_sent_bytes, house.guests)),
    )


def write(path: Path, data: bytes) -> None:
    """Let the file at ``path`` hold ``data``; readers see all of it or what was there before.  Raises :class:`OSError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Never through a link that somebody has put there; and what was left there by a process of the same number is in the way.
        beside.unlink(missing_ok=True)
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(file, "wb") as stream:
            stream.write(data)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _in_reactor_thread(reactor: Any, call: Callable[[], None]) -> Deferred[None]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), call)


def _sent_bytes(guest: Guest) -> int:
    """Of a client: what goes to another Rallypoint is counted with that."""
    return 0 if guest.far is not None else guest.link.sent_bytes


def _row(stream: Any) -> StreamRow:
    return StreamRow(
        id=stream.id,
        key=stream.key,
        clients=len(stream.members),
        received=stream.packets,
        received_bytes=stream.bytes,
        sent=stream.copies,
        sent_bytes=stream.copied_bytes,
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
