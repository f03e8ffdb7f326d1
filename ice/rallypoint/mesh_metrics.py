"""Figures of the mesh for Prometheus.

As everywhere, labels are reasons and codes of a fixed set.  The one exception is the round trip, which has a peer id: there are as many as this
Rallypoint is configured to have links, and an alarm that does not say to whom is worth little.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from ice.observe.metrics import Metrics
from ice.rallypoint.backbone import Backbone
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.mesh_view import Peer, peer_id, round_trips

LINK_STATES = ("linked", "connecting", "waiting")


def add_mesh_metrics(metrics: Metrics, backbone: Backbone, seconds: Callable[[], float]) -> None:
    """Register every figure of the mesh; they are read when somebody asks, and are 0 where there is none.

    ``seconds``: the reactor's time.
    """
    begin = "ice_rallypoint_mesh_"
    gauge, counter = metrics.gauge, metrics.counter

    def peers() -> list[Peer]:
        return list(backbone.rows(seconds()))

    def of(read: Callable[[Mesh[Any]], float]) -> Callable[[], float]:
        return lambda: 0 if backbone.mesh is None else read(backbone.mesh)

    def by_reason(read: Callable[[Mesh[Any]], dict[str, int]]) -> Callable[[], dict[str, int]]:
        return lambda: {} if backbone.mesh is None else read(backbone.mesh)

    def states() -> dict[str, int]:
        found = Counter(peer.state for peer in peers())
        return {state: found[state] for state in LINK_STATES}

    def timed() -> dict[str, float]:
        return {peer_id(id): round_trip_s for id, round_trip_s in round_trips(peers(), backbone.mesh).items()}

    def detours(reached: bool) -> Callable[[], float]:
        def count() -> float:
            if backbone.mesh is None:
                return 0
            return sum(
                (detour.reach is not None) == reached
                for detour in backbone.mesh.detours(peer.id for peer in peers())
            )

        return count

    gauge(begin + "links", "Other Rallypoints that links are wanted with, by state.", states, ("state",))
    gauge(begin + "round_trip_seconds", "Latest round trip of each link that stands.", timed, ("peer",))
    gauge(
        begin + "queue_frames",
        "Media frames that wait for other Rallypoints.",
        lambda: sum(peer.queue for peer in peers()),
    )
    gauge(begin + "rallypoints", "Other Rallypoints that can be reached.", of(lambda mesh: len(mesh.reach())))
    gauge(begin + "detours", "Wanted links that are missing and gone round.", detours(True))
    gauge(begin + "unreached", "Wanted Rallypoints that cannot be reached at all.", detours(False))
    gauge(begin + "twins", "Rallypoint ids under which two run at once.", of(lambda mesh: len(mesh.twins)))
    gauge(begin + "origins", "Lives of Rallypoints that are known.", of(lambda mesh: len(list(mesh.records))))
    gauge(begin + "edges", "Links in the whole mesh, as told.", of(lambda mesh: mesh.graph.edges))
    gauge(begin + "streams_wanted", "Streams wanted by anybody.", of(lambda mesh: len(mesh.ledger.wanted)))
    gauge(begin + "trees", "Trees in use.", of(lambda mesh: len(mesh.forest)))
    gauge(begin + "windows", "Forwarding windows held.", of(lambda mesh: mesh.routes.windows))
    counter(begin + "links_ended_total", "Links that ended, by code.", lambda: backbone.ended, ("code",))
    counter(
        begin + "calls_failed_total",
        "Calls that came to nothing, by code.",
        lambda: backbone.out.failed,
        ("code",),
    )
    counter(
        begin + "refused_total", "Rallypoints not let in, by reason.", lambda: backbone.refused, ("reason",)
    )
    counter(
        begin + "floods_sent_total",
        "TOPOLOGY and INTEREST frames sent to links.",
        of(lambda mesh: mesh.floods["sent"]),
    )
    counter(begin + "floods_sent_bytes_total", "Bytes of them.", of(lambda mesh: mesh.floods["sent_bytes"]))
    counter(begin + "floods_accepted_total", "Words that were new.", of(lambda mesh: mesh.floods["accepted"]))
    counter(begin + "floods_known_total", "Words that were not.", of(lambda mesh: mesh.floods["known"]))
    counter(
        begin + "floods_refused_total",
        "Words not believed, by reason.",
        by_reason(lambda mesh: mesh.refused),
        ("reason",),
    )
    counter(
        begin + "relays_passed_total",
        "Datagrams of other Rallypoints that came for the first time.",
        of(lambda mesh: mesh.counts.passed),
    )
    counter(
        begin + "relays_originated_total",
        "Datagrams of our clients sent to other Rallypoints.",
        of(lambda mesh: mesh.counts.originated),
    )
    counter(
        begin + "relays_copies_total", "Copies of both handed to links.", of(lambda mesh: mesh.counts.copies)
    )
    counter(
        begin + "relays_protected_total", "Protected ones among both.", of(lambda mesh: mesh.counts.flooded)
    )
    counter(
        begin + "relays_dropped_total",
        "Datagrams of other Rallypoints not passed on, by reason.",
        by_reason(lambda mesh: mesh.counts.dropped()),
        ("reason",),
    )
    counter(
        begin + "windows_evicted_total",
        "Forwarding windows forgotten for want of room.",
        of(lambda mesh: mesh.counts.windows_evicted),
    )
