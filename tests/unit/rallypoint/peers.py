"""Values that the pages about the mesh are drawn from, as tests want them."""

from typing import Any

import attrs

from ice.rallypoint.backbone import PeerRow
from ice.rallypoint.federation import AllyRow
from ice.rallypoint.mesh_view import Here
from tests.unit.rallypoint.mesh_network import Network, id_of

HERE = Here(
    id=id_of(0),
    name="north",
    version="1.0",
    unix_s=1_790_000_000.25,
    uptime_s=61.5,
    cpu_percent=3.21,
    draining=False,
    clients=2,
    joins=3,
    streams=1,
    received=10,
    received_bytes=1_000,
    sent=20,
    sent_bytes=2_000,
)

WAITING = PeerRow(
    id=id_of(9),
    name="",
    address="rp9.example.org:7443",
    state="waiting",
    inbound=False,
    leaf=False,
    cost=10,
    failures=7,
    since_s=0.0,
    round_trip_s=None,
    received=0,
    sent=0,
    received_bytes=0,
    sent_bytes=0,
    queue=0,
    why="connection refused",
)


def waiting(index: int, **changes: Any) -> PeerRow:
    """A Rallypoint that is expected, and not linked."""
    return attrs.evolve(WAITING, id=id_of(index), **changes)


def linked(index: int, **changes: Any) -> PeerRow:
    """One that is."""
    values = {
        "name": f"rp{index}",
        "address": f"192.0.2.{index}:7443",
        "state": "linked",
        "failures": 0,
        "since_s": 12.34,
        "round_trip_s": 0.0125,
        "received": 5,
        "received_bytes": 500,
        "sent": 7,
        "sent_bytes": 700,
        "why": "",
    }
    return waiting(index, **(values | changes))


def ally(index: int, **changes: Any) -> AllyRow:
    """One of another organisation, that dialled us."""
    values = {
        "federation": "county",
        "id": id_of(index),
        "name": f"far{index}",
        "address": f"198.51.100.{index}:7443",
        "state": "linked",
        "inbound": True,
        "failures": 0,
        "since_s": 5.0,
        "round_trip_s": 0.03,
        "incoming": ("dispatch",),
        "outgoing": ("fireground",),
        "refused": (),
        "received": 3,
        "sent": 4,
        "received_bytes": 300,
        "sent_bytes": 400,
        "dropped": 0,
        "queue": 0,
        "why": "",
    }
    return AllyRow(**(values | changes))


def square() -> Network:
    """0 – 1 – 2 – 3 – 0, where 3 is a leaf, and 2 and 3 want the stream ``alpha``."""
    network = Network(1)
    network.add(3)
    network.add(1, leaf=True)
    for a, b in ((0, 1), (1, 2), (2, 3), (0, 3)):
        network.join(a, b, 10, 0.01)
    for index in (2, 3):
        network.nodes[index].listen("alpha")
    network.settle()
    return network
