"""The mesh as a picture: Graphviz DOT text of every Rallypoint that the flood tells of, and the links between them.

The forms are those of the original's link graph, so that tools which read that read this::

    strict digraph "…" {
    "4b5c…"[shape=hexagon color=firebrick style=filled]        a Rallypoint of the core
    "9a01…"[shape=box color=gray style=filled]                 a leaf
    "4b5c…"->"9a01…"[dir=none]                                 a link that stands
    "4b5c…"->"77ee…"[style=dotted arrowhead=o]                 one that is wanted, or that one end only tells of
    "192.0.2.7:4711"->"4b5c…"[dir=none]                        a client, where clients are shown
    }

The original draws what one Rallypoint sees of itself; the flood tells us of all, so one picture holds the whole mesh.  We ourselves are drawn with
a second outline.  Every pair of Rallypoints has one edge, and one that stands begins at the lower UUID: the pictures of several, laid together, are still one picture.

With ``details`` it is meant to be looked at: nodes carry names, links their cost and round trip (in a large mesh under the pointer only), and everybody
has a place, the core on a circle, leaves and whoever has no link on a wider one. A full mesh leaves a layout program nothing to find, and some take minutes
over it.

**Quoting.**  Names come from other machines.  Everything that is not ours stands in double quotes, where DOT knows two characters only: ``"`` is written
``\\"``, and ``\\`` is doubled, since it begins Graphviz's own escapes.  What cannot be printed (line breaks, text that runs backwards) becomes ``?``, and ``&``
is written out, since Graphviz reads HTML entities in labels.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import cos, sin, tau
from typing import Any
from uuid import UUID

import attrs

from ice.rallypoint.mesh import Mesh
from ice.rallypoint.mesh_view import Here, Peer, names, peer_id
from ice.rallypoint.topology import cost_of

CORE_STYLE = "[shape=hexagon color=firebrick style=filled]"
LEAF_STYLE = "[shape=box color=gray style=filled]"
CLIENT_STYLE = "[dir=none]"
MAX_EDGES = (
    5_000  # a full mesh of 100; nobody sees anything in a picture of more, and drawing it would take minutes
)
MAX_TEXT = 64  # characters of a name
MAX_LABELS = 40  # edges; where there are more, what is written on them covers them
OURSELVES = "peripheries=2"
PLACE_IN = 2.8  # inches along a circle for one Rallypoint, and between the two circles

_LINKED = "[dir=none]"
_NOT_LINKED = "[style=dotted arrowhead=o]"


@attrs.frozen
class Style:
    """How the graph is drawn.

    :ivar core, leaf: attributes of a Rallypoint, in square brackets, as DOT has them, or nothing.
    :ivar client: the same, of the line from a client.
    :ivar enclosed: whether the text is a graph of its own; otherwise only its lines, to be put together with those of others.
    """

    core: str = CORE_STYLE
    leaf: str = LEAF_STYLE
    client: str = CLIENT_STYLE
    enclosed: bool = True
    details: bool = False


DOCUMENTED = Style()


@attrs.frozen
class Edge:
    """A line between two Rallypoints, or from one that wants a link to the other."""

    one: UUID
    other: UUID
    linked: bool
    cost: int = 0
    round_trip_s: float | None = None


def link_graph(
    here: Here,
    peers: Sequence[Peer],
    mesh: Mesh[Any] | None,
    style: Style = DOCUMENTED,
    clients: Iterable[str] = (),
) -> str:
    """DOT text.  ``clients``: addresses of clients that are linked with us."""
    called = names(here, peers)
    leaves = leaves_of(here, peers, mesh)
    edges = edges_of(here, peers, mesh)
    places = _places(leaves, edges) if style.details else {}
    lines = []
    for id in sorted(leaves):
        drawn = style.leaf if leaves[id] else style.core
        extra = [OURSELVES] if id == here.id else []
        if style.details:
            twins = mesh is not None and id in mesh.twins
            words = _label(
                called.get(id, "")[:MAX_TEXT], peer_id(id), "TWINS: two run with this id" if twins else ""
            )
            extra += [f"label={words}", places[id], "fontsize=11"]
            if drawn == CORE_STYLE:
                extra.append("fontcolor=white")  # black on firebrick cannot be read
        lines.append(f"{quoted(str(id))}{_with(drawn, extra)}")
    us = quoted(str(here.id))
    lines += [f"{quoted(address)}->{us}{style.client}" for address in islice(clients, MAX_EDGES)]
    labels = len(edges) <= MAX_LABELS
    several = len({edge.cost for edge in edges if edge.linked}) > 1
    for edge in edges[:MAX_EDGES]:
        extra = _told(edge, called, labels, several) if style.details else []
        drawn = _with(_LINKED if edge.linked else _NOT_LINKED, extra)
        lines.append(f"{quoted(str(edge.one))}->{quoted(str(edge.other))}{drawn}")
    if len(edges) > MAX_EDGES:
        lines.append(f"// {len(edges) - MAX_EDGES} links are not drawn")
    if style.enclosed:
        lines = [f"strict digraph {us} {{", *lines, "}"]
    return "\n".join(lines) + "\n"


def leaves_of(here: Here, peers: Iterable[Peer], mesh: Mesh[Any] | None) -> dict[UUID, bool]:
    """Every Rallypoint that is known or expected, and whether it is a leaf: as it says itself, else as we expect."""
    found = {here.id: mesh is not None and mesh.leaf}
    found |= {peer.id: peer.leaf for peer in peers}
    if mesh is not None:
        found |= {record.id: record.state.leaf for record in mesh.records}
    return found


def edges_of(here: Here, peers: Iterable[Peer], mesh: Mesh[Any] | None) -> list[Edge]:
    """Links that stand, then those that do not, each in the order of its ends; one for each pair."""
    linked: dict[tuple[UUID, UUID], Edge] = {}
    wanted: dict[tuple[UUID, UUID], Edge] = {}
    if mesh is not None:
        ids = {record.origin: record.id for record in mesh.records}
        for one, id in ids.items():
            for other, weight in mesh.graph.neighbours(one).items():
                if other in ids and id < ids[other]:
                    cost, round_trip_s = cost_of(weight), mesh.round_trip_s(one, other)
                    linked[id, ids[other]] = Edge(id, ids[other], True, cost, round_trip_s)
        for record in mesh.records:
            for other in record.state.links:
                if other in ids and ids[other] != record.id:
                    wanted.setdefault(_pair(record.id, ids[other]), Edge(record.id, ids[other], False))
    for peer in peers:
        pair = _pair(here.id, peer.id)
        if peer.state == "linked":
            linked.setdefault(pair, Edge(*pair, True, peer.cost, peer.round_trip_s))
        else:
            wanted.setdefault(pair, Edge(here.id, peer.id, False))
    missing = [edge for pair, edge in wanted.items() if pair not in linked]
    return [linked[pair] for pair in sorted(linked)] + sorted(missing, key=lambda e: (e.one, e.other))


def quoted(text: str) -> str:
    """``text`` as one DOT identifier, whatever is in it."""
    shown = "".join(character if character.isprintable() else "?" for character in text[: 4 * MAX_TEXT])
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _label(*lines: str) -> str:
    """Lines of a label, those that are empty left out."""
    # \n between the lines is Graphviz's own; within one there is none left.
    return (
        '"'
        + r"\n".join(quoted(line[: 3 * MAX_TEXT].replace("&", "&amp;"))[1:-1] for line in lines if line)
        + '"'
    )


def _told(edge: Edge, called: Mapping[UUID, str], labels: bool, several: bool) -> list[str]:
    """What is said of an edge: under the pointer, and where there is room beside it; the cost there only where there are ``several``."""
    ends = " – ".join(called.get(id, "")[:MAX_TEXT] or peer_id(id) for id in (edge.one, edge.other))
    cost = f"cost {edge.cost}" if edge.linked else "not linked"
    round_trip = "" if edge.round_trip_s is None else f"{edge.round_trip_s * 1_000:.1f} ms"
    told = [f"tooltip={_label(', '.join(filter(None, (ends, cost, round_trip))))}"]
    if labels and edge.linked and (several or round_trip):
        told += [f"label={_label(cost if several else '', round_trip)}", "fontsize=9"]
    return told


def _places(leaves: Mapping[UUID, bool], edges: Iterable[Edge]) -> dict[UUID, str]:
    """Where everybody stands, in inches, nailed down."""
    linked = {id for edge in edges if edge.linked for id in (edge.one, edge.other)}
    inner = sorted(id for id, leaf in leaves.items() if id in linked and not leaf)
    outer = sorted(leaves.keys() - set(inner))
    radius = PLACE_IN * max(1.0, len(inner) / tau)
    wide = max(radius + PLACE_IN, PLACE_IN * len(outer) / tau)
    places = {}
    for circle, far in ((inner, radius), (outer, wide)):
        for n, id in enumerate(circle):
            angle = tau * (n / len(circle) + 0.25)
            places[id] = f'pos="{far * cos(angle):.2f},{far * sin(angle):.2f}!"'
    return places


def _with(style: str, extra: Sequence[str]) -> str:
    """Attributes in brackets, and some more."""
    inside = [part for part in (style.strip()[1:-1].strip(), *extra) if part]
    return f"[{' '.join(inside)}]" if inside else ""


def _pair(one: UUID, other: UUID) -> tuple[UUID, UUID]:
    return (one, other) if one < other else (other, one)
