"""What a Rallypoint tells of its mesh, as JSON-able values: the mesh status, the route map, the way of a datagram.

**One status document for three readers.**  The fields of the mesh status that satellite servers publish (``version``, ``state``, ``active``, ``updatedMs``,
``mesh``) and those of a Rallypoint's status report (``ts``, ``uptime``, ``systemCpuLoad``, ``links``, ``routing``, ``rx``, ``tx``, ``throughput``) have no name in
common but ``version``, so one object carries both, in the documented spelling.  What we tell beyond them is in snake_case: ``peers``, ``reach``, ``detours``,
``twins``, ``origins``, ``floods``, ``relays``, ``federated``.

A *peer id* is the first 18 characters of a Rallypoint's UUID.  A :class:`Peer`, or an :class:`Ally`, is whatever the links to other Rallypoints are kept
in; nothing here asks for time or changes anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import exp
from typing import Any, Protocol
from uuid import UUID

import attrs

from ice.errors import RemoteError
from ice.link.message import MAX_STREAM_ID
from ice.link.naming import format_u64, stream_key
from ice.link.peer import MAX_HOPS
from ice.rallypoint.mesh import Hop, Mesh, Reach
from ice.rallypoint.topology import Record
from ice.telephony.streams import discreet

PEER_ID = 18  # characters of a UUID that are shown
MAX_ROUTES = 10_000  # streams in a route map: some 2 MB, 30 ms of work
SMOOTHED_S = 60.0  # what the smoothed throughput remembers
LEAST_INTERVAL_S = 1.0  # between two looks at a counter that make a rate

_STATES = {"waiting": 0, "connecting": 1}  # of a link: 2 linked, we dialled; 3 linked, it dialled
_CORE, _LEAF = 1, 2


class AskedWrongly(RemoteError):
    """What was asked for is not there; the message says what is."""


class Linked(Protocol):
    """Another Rallypoint that is expected or linked, as it stands now."""

    @property
    def id(self) -> UUID:
        """In its certificate, or expected there."""

    @property
    def name(self) -> str:
        """What it calls itself; empty before it has."""

    @property
    def address(self) -> str:
        """Where it dialled from, or where we dial; empty where it is to dial us."""

    @property
    def state(self) -> str:
        """``linked``, ``connecting`` or ``waiting``."""

    @property
    def inbound(self) -> bool:
        """It dialled us."""

    @property
    def failures(self) -> int:
        """Attempts that failed since it was last linked."""

    @property
    def since_s(self) -> float:
        """Age of the link, or of the attempt."""

    @property
    def round_trip_s(self) -> float | None:
        """The latest; None before the first."""

    @property
    def received(self) -> int:
        """Frames of media that came on this link."""

    @property
    def sent(self) -> int:
        """Frames of media written to it."""

    @property
    def received_bytes(self) -> int:
        """Bytes of them."""

    @property
    def sent_bytes(self) -> int:
        """Bytes of them."""

    @property
    def queue(self) -> int:
        """Frames of media that wait for it."""

    @property
    def why(self) -> str:
        """Why it is not linked, in a sentence."""


class Peer(Linked, Protocol):
    """A Rallypoint of the mesh."""

    @property
    def leaf(self) -> bool:
        """It carries nobody else's traffic."""

    @property
    def cost(self) -> int:
        """Of the link, by our configuration."""


class Ally(Linked, Protocol):
    """A Rallypoint of another organisation, linked outside the mesh."""

    @property
    def federation(self) -> str:
        """What the configuration calls the agreement with it."""

    @property
    def incoming(self) -> Sequence[str]:
        """Streams that come in now."""

    @property
    def outgoing(self) -> Sequence[str]:
        """Streams that go out now."""

    @property
    def refused(self) -> Sequence[str]:
        """What they do not grant, a sentence for each stream."""

    @property
    def dropped(self) -> int:
        """Frames of theirs that were dropped through a fault of their own."""


@attrs.frozen
class Here:
    """What documents say of the Rallypoint that makes them, beside its links to others."""

    id: UUID
    name: str
    version: str
    #: Seconds since 1970, and since the start.
    unix_s: float
    uptime_s: float
    #: Of one core.
    cpu_percent: float
    draining: bool
    #: Links of clients, and streams joined, summed over them.
    clients: int
    joins: int
    #: Streams with members here.
    streams: int
    #: Media from and to clients since the start.
    received: int
    received_bytes: int
    sent: int
    sent_bytes: int


@attrs.frozen
class StreamRow:
    """A stream with members here, and what has passed on it; None: that is not counted."""

    id: str
    key: int
    clients: int
    received: int
    received_bytes: int | None = None
    sent: int | None = None
    sent_bytes: int | None = None


class Throughput:
    """Bits per second out of a count of bytes: between the last two looks, and smoothed over a minute."""

    def __init__(self) -> None:
        self._bytes = 0
        self._at: float | None = None
        self.rate = 0.0
        self.smoothed = 0.0

    def look(self, count: int, now: float) -> None:
        """The count is this now.  Looks within a second of the last are passed over, and so is a count that has gone down."""
        if self._at is not None:
            elapsed = now - self._at
            if elapsed < LEAST_INTERVAL_S:
                return
            self.rate = max(0, count - self._bytes) * 8 / elapsed
            self.smoothed += (self.rate - self.smoothed) * (1 - exp(-elapsed / SMOOTHED_S))
        self._bytes, self._at = count, now


# -- status ------------------------------------------------------------------------------------------------------------


def status_document(
    here: Here,
    peers: Sequence[Peer],
    mesh: Mesh[Any] | None,
    throughput: Throughput | None = None,
    allies: Sequence[Ally] = (),
) -> dict[str, Any]:
    """The mesh status.  ``mesh``: None where no other Rallypoint of ours is configured; ``allies`` count as peers where documented names do."""
    everybody: list[Linked] = [*peers, *allies]
    linked = [peer for peer in everybody if peer.state == "linked"]
    inbound = [peer for peer in linked if peer.inbound]
    outbound = [peer for peer in linked if not peer.inbound]
    message = (
        f"{'OUT OF SERVICE: stopping' if here.draining else 'ACTIVE'}: "
        f"{len(inbound)} inbound peers, {len(outbound)} outbound peers"
    )
    timed = round_trips(peers, mesh)
    counts = None if mesh is None else mesh.counts
    relays_in = 0 if counts is None else counts.passed + sum(counts.dropped().values())
    relays_out = 0 if counts is None else counts.copies
    return {
        "version": here.version,
        "state": "unhealthy" if _ill(here, peers, mesh) else "healthy",
        "active": not here.draining,
        "updatedMs": int(here.unix_s * 1_000),
        "mesh": {
            "message": message,
            "inboundPeers": [{"peerId": peer_id(peer.id), "address": peer.address} for peer in inbound],
            "outboundPeers": [{"peerId": peer_id(peer.id), "address": peer.address} for peer in outbound],
        },
        "ts": int(here.unix_s),
        "uptime": int(here.uptime_s),
        "systemCpuLoad": round(here.cpu_percent, 1),
        "links": {
            "clients": {"count": here.clients},
            "peers": {"count": len(linked), "list": [_listed(peer) for peer in everybody]},
        },
        "routing": {"streams": here.streams, "paths": here.joins + _paths_abroad(mesh)},
        "rx": {"packets": here.received + relays_in},
        "tx": {"packets": here.sent + relays_out},
        "throughput": {
            "rate": round(throughput.rate) if throughput else 0,
            "rateEma": round(throughput.smoothed) if throughput else 0,
        },
        "id": str(here.id),
        "name": here.name,
        "meshed": mesh is not None,
        "peers": [_peer(peer, timed.get(peer.id)) for peer in peers],
        "federated": [_ally(ally) for ally in allies],
        **({} if mesh is None else _mesh(mesh, names(here, peers), [peer.id for peer in peers])),
    }


def bytes_of(here: Here, peers: Iterable[Peer]) -> int:
    """All bytes of media that came and went: what :class:`Throughput` looks at."""
    abroad = sum(peer.received_bytes + peer.sent_bytes for peer in peers)
    return here.received_bytes + here.sent_bytes + abroad


def peer_id(id: UUID) -> str:
    """The part of a UUID that people are shown."""
    return str(id)[:PEER_ID]


def names(here: Here, peers: Iterable[Peer]) -> dict[UUID, str]:
    """What Rallypoints call themselves, as far as they have told us."""
    return {here.id: here.name} | {peer.id: peer.name for peer in peers if peer.name}


def round_trips(peers: Iterable[Peer], mesh: Mesh[Any] | None) -> dict[UUID, float]:
    """Round trips of links that stand: as we have measured them, else as the far end says.  On an idle link one end asks, and serves both."""
    told = {}
    if mesh is not None:
        for neighbour in mesh.neighbours:
            if neighbour.origin is not None:
                told[neighbour.id] = mesh.round_trip_s(mesh.origin, neighbour.origin)
    found = (
        (p.id, told.get(p.id) if p.round_trip_s is None else p.round_trip_s)
        for p in peers
        if p.state == "linked"
    )
    return {id: round_trip_s for id, round_trip_s in found if round_trip_s is not None}


def _ill(here: Here, peers: Sequence[Peer], mesh: Mesh[Any] | None) -> bool:
    """Whether this Rallypoint, not another, is in trouble: alone where others are expected, or one of twins."""
    if mesh is None:
        return False
    return here.id in mesh.twins or (bool(peers) and not mesh.reach())


def _listed(peer: Linked) -> dict[str, Any]:
    linked = 3 if peer.inbound else 2
    leaf = getattr(peer, "leaf", False)  # an ally is no part of the mesh, and so no leaf of it
    return {
        "id": str(peer.id),
        "address": peer.address,
        "type": _LEAF if leaf else _CORE,
        "state": linked if peer.state == "linked" else _STATES.get(peer.state, 0),
        "failedConnections": peer.failures,
    }


def _link(peer: Linked, round_trip_s: float | None) -> dict[str, Any]:
    return {
        "id": str(peer.id),
        "peer_id": peer_id(peer.id),
        "name": peer.name,
        "address": peer.address,
        "state": peer.state,
        "direction": "in" if peer.inbound else "out",
        "failures": peer.failures,
        "since_s": round(peer.since_s, 1),
        "rtt_ms": _ms(round_trip_s),
        "received": peer.received,
        "sent": peer.sent,
        "received_bytes": peer.received_bytes,
        "sent_bytes": peer.sent_bytes,
        "queue": peer.queue,
        "why": peer.why,
    }


def _peer(peer: Peer, round_trip_s: float | None) -> dict[str, Any]:
    return _link(peer, round_trip_s) | {"role": "leaf" if peer.leaf else "core", "cost": peer.cost}


def _ally(ally: Ally) -> dict[str, Any]:
    return _link(ally, ally.round_trip_s) | {
        "federation": ally.federation,
        "incoming": list(ally.incoming),
        "outgoing": list(ally.outgoing),
        "refused": list(ally.refused),
        "dropped": ally.dropped,
    }


def _mesh(mesh: Mesh[Any], called: Mapping[UUID, str], expected: Sequence[UUID]) -> dict[str, Any]:
    reach = mesh.reach()
    return {
        "role": "leaf" if mesh.leaf else "core",
        "reach": [_reach(far, called) for far in reach],
        "detours": [
            _who(detour.id, called)
            | (
                {"reached": False}
                if detour.reach is None
                else {"reached": True, **_way(detour.reach, called)}
            )
            for detour in mesh.detours(expected)
        ],
        "twins": sorted(str(id) for id in mesh.twins),
        "origins": [_origin(record, mesh, called) for record in mesh.records],
        "edges": mesh.graph.edges,
        "trees": len(mesh.forest),
        "routes": len(mesh.routes),
        "windows": mesh.routes.windows,
        "streams_wanted": len(mesh.ledger.wanted),
        "floods": mesh.floods | {"refused": mesh.refused},
        "relays": {
            "passed": mesh.counts.passed,
            "originated": mesh.counts.originated,
            "copies": mesh.counts.copies,
            "protected": mesh.counts.flooded,
            "dropped": mesh.counts.dropped(),
        },
    }


def _who(id: UUID, called: Mapping[UUID, str]) -> dict[str, Any]:
    return {"id": str(id), "peer_id": peer_id(id), "name": called.get(id, "")}


def _way(reach: Reach, called: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "cost": reach.cost,
        "links": reach.depth,
        "via": peer_id(reach.via),
        "via_name": called.get(reach.via, ""),
    }


def _reach(reach: Reach, called: Mapping[UUID, str]) -> dict[str, Any]:
    return _who(reach.id, called) | _way(reach, called)


def _origin(record: Record, mesh: Mesh[Any], called: Mapping[UUID, str]) -> dict[str, Any]:
    return _who(record.id, called) | {
        "origin": format_u64(record.origin),
        "ours": record.origin == mesh.origin,
        "role": "leaf" if record.state.leaf else "core",
        "reached": record.forget_at is None,
        "links": len(record.state.links),
        "streams": len(record.interest),
        "state_number": record.state.number,
        "interest_number": record.interest.number,
    }


def _paths_abroad(mesh: Mesh[Any] | None) -> int:
    """Pairs of a stream and another Rallypoint that wants it."""
    if mesh is None:
        return 0
    return mesh.ledger.wanted.held - len(mesh.ledger.records[mesh.origin].interest)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 1)


# -- route map ---------------------------------------------------------------------------------------------------------


def route_map(streams: Iterable[StreamRow], mesh: Mesh[Any] | None) -> dict[str, Any]:
    """Every stream with members here, then those that only others want; :data:`MAX_ROUTES` at most.

    ``peers`` counts the other Rallypoints that want a stream.  A figure that is not counted is left out.
    """
    local = list(islice(streams, MAX_ROUTES))
    here = {row.key for row in local}
    routes = chain((_route(row, _wanting(mesh, row.key)) for row in local), _abroad(mesh, here))
    return {"routeMap": list(islice(routes, MAX_ROUTES))}


def _route(row: StreamRow, peers: int) -> dict[str, Any]:
    return {
        "id": discreet(row.id),
        "clients": row.clients,
        "peers": peers,
        "rxTraffic": _traffic(row.received, row.received_bytes),
        "txTraffic": _traffic(row.sent, row.sent_bytes),
    }


def _traffic(blobs: int | None, size: int | None) -> dict[str, int]:
    return {name: count for name, count in (("blobs", blobs), ("bytes", size)) if count is not None}


def _abroad(mesh: Mesh[Any] | None, here: set[int]) -> Iterator[dict[str, Any]]:
    if mesh is None:
        return
    for key in mesh.ledger.wanted:
        if key not in here:
            yield _route(StreamRow(mesh.stream_id(key) or format_u64(key), key, 0, 0), _wanting(mesh, key))


def _wanting(mesh: Mesh[Any] | None, key: int) -> int:
    return 0 if mesh is None else sum(origin != mesh.origin for origin in mesh.ledger.wanted.origins(key))


# -- the way of a datagram ---------------------------------------------------------------------------------------------


def trace_document(
    here: Here, peers: Sequence[Peer], mesh: Mesh[Any] | None, stream: str, start: str = ""
) -> dict[str, Any]:
    """The tree that a datagram of ``stream`` takes from the Rallypoint ``start``: a UUID, the beginning of one, or a name; empty: from here.

    Raises :class:`AskedWrongly`.
    """
    try:
        size = len(stream.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_STREAM_ID:
        raise AskedWrongly(f"a stream id has 1 to {MAX_STREAM_ID} bytes of UTF-8; ask for /trace?stream=ID")
    if mesh is None:
        raise AskedWrongly("this Rallypoint has no others beside it: there is no mesh to go through")
    called = names(here, peers)
    root = _found(mesh, called, start) if start else mesh.ledger.records[mesh.origin]
    key = stream_key(stream)
    hops = mesh.trace(key, root.origin)
    wanting = {mesh.ledger.records[origin].id for origin in mesh.ledger.wanted.origins(key)}
    reached = {hop.child for hop in hops if hop.wants and hop.depth <= MAX_HOPS}
    return {
        "stream": stream,
        "key": format_u64(key),
        "from": _who(root.id, called) | {"here": root.origin == mesh.origin, "wants": root.id in wanting},
        "hops": [_hop(hop, called) for hop in hops],
        "not_reached": [_who(id, called) for id in sorted(wanting - reached - {root.id}, key=str)],
    }


def _hop(hop: Hop, called: Mapping[UUID, str]) -> dict[str, Any]:
    return _who(hop.child, called) | {
        "parent": str(hop.parent),
        "links": hop.depth,
        "cost": hop.cost,
        "wants": hop.wants,
        "rtt_ms": _ms(hop.round_trip_s),
    }


def _found(mesh: Mesh[Any], called: Mapping[UUID, str], asked: str) -> Record:
    """The Rallypoint that is meant."""
    word = asked.casefold()
    known: dict[UUID, Record] = {}
    for record in mesh.records:  # of several lives the one that can be reached
        if record.id not in known or record.forget_at is None:
            known[record.id] = record
    fits = [record for id, record in known.items() if called.get(id, "").casefold() == word]
    fits = fits or [record for id, record in known.items() if str(id).startswith(word)]
    if len(fits) == 1:
        return fits[0]
    shown = ", ".join(
        sorted(f"{peer_id(r.id)} {called.get(r.id, '')}".rstrip() for r in fits or known.values())[:20]
    )
    what = "fits several Rallypoints" if fits else "is no Rallypoint of this mesh"
    raise AskedWrongly(f"{asked[:80]!r} {what}: {shown}")
