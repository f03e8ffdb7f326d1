"""Mesh status, route map and traces: the documented names, and what they say."""

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ice.link.naming import format_u64, stream_key
from ice.rallypoint import mesh_view
from ice.rallypoint.mesh_view import (
    AskedWrongly,
    StreamRow,
    Throughput,
    bytes_of,
    peer_id,
    route_map,
    status_document,
    trace_document,
)
from tests.unit.rallypoint.mesh_network import Network, id_of
from tests.unit.rallypoint.peers import HERE, ally, linked, square, waiting

ALPHA = stream_key("alpha")


def types(value: Any) -> Any:
    """A document with the types of its values in place of them; of a list its first element."""
    if isinstance(value, dict):
        return {key: types(each) for key, each in value.items()}
    if isinstance(value, list):
        return [types(each) for each in value[:1]]
    return type(value).__name__


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = square()
        self.mesh = self.network.nodes[0].mesh
        self.peers = [linked(1, inbound=True), linked(3, leaf=True), waiting(9)]

    def told(self, **changes: Any) -> dict[str, Any]:
        """The document, as it is read from JSON."""
        document = status_document(attrs.evolve(HERE, **changes), self.peers, self.mesh, Throughput())
        told = json.loads(json.dumps(document))
        assert isinstance(told, dict)
        return told

    def test_the_satellites_document(self) -> None:
        """Version, state, active, time, message, peers by direction with their peer ids."""
        told = self.told()
        wanted = {
            "version": "str",
            "state": "str",
            "active": "bool",
            "updatedMs": "int",
            "mesh": {
                "message": "str",
                "inboundPeers": [{"peerId": "str", "address": "str"}],
                "outboundPeers": [{"peerId": "str", "address": "str"}],
            },
        }
        self.assertEqual(types({key: told[key] for key in wanted}), wanted)
        self.assertEqual((told["version"], told["state"], told["active"]), ("1.0", "healthy", True))
        self.assertEqual(told["updatedMs"], 1_790_000_000_250)
        self.assertEqual(told["mesh"]["message"], "ACTIVE: 1 inbound peers, 1 outbound peers")
        (inbound,) = told["mesh"]["inboundPeers"]
        self.assertEqual(inbound, {"peerId": str(id_of(1))[:18], "address": "192.0.2.1:7443"})
        self.assertRegex(inbound["peerId"], r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}\Z")

    def test_the_monitors_document(self) -> None:
        """Time, load, links, routing, packets, throughput, with peers' types and states as numbers."""
        told = self.told()
        wanted = {
            "ts": "int",
            "uptime": "int",
            "version": "str",
            "systemCpuLoad": "float",
            "links": {
                "clients": {"count": "int"},
                "peers": {
                    "count": "int",
                    "list": [
                        {
                            "id": "str",
                            "address": "str",
                            "type": "int",
                            "state": "int",
                            "failedConnections": "int",
                        }
                    ],
                },
            },
            "routing": {"streams": "int", "paths": "int"},
            "rx": {"packets": "int"},
            "tx": {"packets": "int"},
            "throughput": {"rate": "int", "rateEma": "int"},
        }
        self.assertEqual(types({key: told[key] for key in wanted}), wanted)
        self.assertEqual((told["ts"], told["uptime"], told["systemCpuLoad"]), (1_790_000_000, 61, 3.2))
        self.assertEqual((told["links"]["clients"]["count"], told["links"]["peers"]["count"]), (2, 2))
        found = [
            (each["type"], each["state"], each["failedConnections"])
            for each in told["links"]["peers"]["list"]
        ]
        self.assertEqual(found, [(1, 3, 0), (2, 2, 0), (1, 0, 7)])
        self.assertEqual(told["routing"], {"streams": 1, "paths": 3 + 2})
        self.assertEqual((told["rx"]["packets"], told["tx"]["packets"]), (10, 20))

    def test_every_state_of_a_link(self) -> None:
        """Not linked, in progress, linked outbound, linked inbound."""
        self.peers = [waiting(1), waiting(2, state="connecting"), linked(3), linked(4, inbound=True)]
        self.assertEqual([each["state"] for each in self.told()["links"]["peers"]["list"]], [0, 1, 2, 3])

    def test_what_is_ours(self) -> None:
        """Who is reached how, what is gone round, who is known, what was refused."""
        told = self.told()
        self.assertEqual(
            (told["id"], told["name"], told["role"], told["meshed"]), (str(id_of(0)), "north", "core", True)
        )
        self.assertEqual([each["links"] for each in told["reach"]], [1, 1, 2])
        self.assertEqual(told["reach"][2]["id"], str(id_of(2)))
        self.assertEqual(told["reach"][2]["via_name"], "rp1")
        (missing,) = told["detours"]
        self.assertEqual((missing["id"], missing["reached"]), (str(id_of(9)), False))
        self.assertEqual((told["twins"], told["edges"], told["streams_wanted"]), ([], 4, 1))
        origins = {each["id"]: each for each in told["origins"]}
        self.assertEqual(len(origins), 4)
        self.assertEqual((origins[str(id_of(3))]["role"], origins[str(id_of(3))]["streams"]), ("leaf", 1))
        self.assertEqual([each["ours"] for each in origins.values()].count(True), 1)
        self.assertGreater(told["floods"]["sent"], 0)
        self.assertEqual(told["floods"]["refused"], self.mesh.refused)
        self.assertEqual(told["relays"]["dropped"]["duplicate"], 0)
        peer = told["peers"][0]
        self.assertEqual((peer["rtt_ms"], peer["direction"], peer["queue"]), (12.5, "in", 0))
        self.assertEqual(told["peers"][2]["why"], "connection refused")

    def test_a_detour(self) -> None:
        """A Rallypoint that we want a link with and reach by another says which."""
        self.peers[2] = waiting(2)
        (missing,) = self.told()["detours"]
        self.assertEqual(
            (missing["reached"], missing["via"], missing["links"], missing["cost"]),
            (True, peer_id(id_of(1)), 2, 20),
        )

    def test_who_does_not_ask_is_told(self) -> None:
        """A round trip that we have not measured is as the far end says; one of a link that is gone is none."""
        network = square()
        far = network.nodes[1]
        link = next(neighbour.link for neighbour in far.mesh.neighbours if neighbour.id == id_of(0))
        far.mesh.set_round_trip(link, 0.033, network.now)
        far.pump()
        network.run(5)
        self.mesh = network.nodes[0].mesh
        self.peers = [linked(1, round_trip_s=None), linked(3), waiting(2, round_trip_s=0.1)]
        self.assertEqual([peer["rtt_ms"] for peer in self.told()["peers"]], [33.0, 12.5, None])

    def test_allies(self) -> None:
        """Rallypoints of other organisations are peers by the documented names, and listed with what they share by ours."""
        document = status_document(HERE, self.peers, self.mesh, None, [ally(7), ally(8, state="waiting")])
        told = json.loads(json.dumps(document))
        self.assertEqual(told["mesh"]["message"], "ACTIVE: 2 inbound peers, 1 outbound peers")
        self.assertIn(
            {"peerId": peer_id(id_of(7)), "address": "198.51.100.7:7443"}, told["mesh"]["inboundPeers"]
        )
        self.assertEqual([each["state"] for each in told["links"]["peers"]["list"]], [3, 2, 0, 3, 0])
        self.assertEqual([each["type"] for each in told["links"]["peers"]["list"]], [1, 2, 1, 1, 1])
        first = told["federated"][0]
        self.assertEqual(
            (first["federation"], first["incoming"], first["outgoing"]),
            ("county", ["dispatch"], ["fireground"]),
        )
        self.assertEqual(len(told["peers"]), 3)

    def test_out_of_service(self) -> None:
        """While it stops it is not active, and says so."""
        told = self.told(draining=True)
        self.assertFalse(told["active"])
        self.assertTrue(told["mesh"]["message"].startswith("OUT OF SERVICE: "), told["mesh"]["message"])

    def test_who_is_alone_is_ill(self) -> None:
        """One that reaches nobody though others are wanted; one that wants nobody is not."""
        network = Network()
        network.add()
        self.mesh = network.nodes[0].mesh
        self.assertEqual(self.told()["state"], "unhealthy")
        self.peers = []
        self.assertEqual(self.told()["state"], "healthy")

    def test_a_twin_is_ill(self) -> None:
        """It is named, and says of itself that all is not well."""
        self.mesh._twins.add(id_of(0))
        told = self.told()
        self.assertEqual((told["twins"], told["state"]), ([str(id_of(0))], "unhealthy"))

    def test_without_a_mesh(self) -> None:
        """Where no other is configured the documented fields are there all the same."""
        told = json.loads(json.dumps(status_document(HERE, [], None)))
        self.assertEqual(
            told["mesh"],
            {"message": "ACTIVE: 0 inbound peers, 0 outbound peers", "inboundPeers": [], "outboundPeers": []},
        )
        self.assertEqual((told["state"], told["meshed"], told["routing"]["paths"]), ("healthy", False, 3))


class ThroughputTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """Bits per second since the last look, and smoothed; looks that come too soon are passed over."""
        throughput = Throughput()
        throughput.look(1_000, 10.0)
        self.assertEqual((throughput.rate, throughput.smoothed), (0, 0))
        throughput.look(2_000, 10.5)
        self.assertEqual(throughput.rate, 0)
        throughput.look(11_000, 20.0)
        self.assertEqual(throughput.rate, 8_000)
        self.assertTrue(0 < throughput.smoothed < 8_000)
        for n in range(100):
            throughput.look(11_000 + 10_000 * n, 20.0 + 10 * n)
        self.assertEqual(round(throughput.smoothed), 8_000)

    def test_a_count_that_goes_down(self) -> None:
        """A link that is gone takes its bytes with it: that is no negative rate."""
        throughput = Throughput()
        throughput.look(1_000, 0.0)
        throughput.look(10, 10.0)
        self.assertEqual((throughput.rate, throughput.smoothed), (0, 0))

    def test_all_bytes_count(self) -> None:
        """Of clients and of other Rallypoints, in and out."""
        self.assertEqual(bytes_of(HERE, [linked(1), linked(2)]), 1_000 + 2_000 + 2 * (500 + 700))


class RouteMapTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Streams here first, then those that others want; figures that are not counted are left out."""
        mesh = square().nodes[0].mesh
        beta = stream_key("beta")
        rows = [StreamRow("beta", beta, 3, 5), StreamRow("gamma", 7, 1, 5, 500, 10, 1_000)]
        told = json.loads(json.dumps(route_map(rows, mesh)))
        self.assertEqual(
            told,
            {
                "routeMap": [
                    {"id": "beta", "clients": 3, "peers": 0, "rxTraffic": {"blobs": 5}, "txTraffic": {}},
                    {
                        "id": "gamma",
                        "clients": 1,
                        "peers": 0,
                        "rxTraffic": {"blobs": 5, "bytes": 500},
                        "txTraffic": {"blobs": 10, "bytes": 1_000},
                    },
                    {"id": "alpha", "clients": 0, "peers": 2, "rxTraffic": {"blobs": 0}, "txTraffic": {}},
                ]
            },
        )

    def test_our_own_interest_is_no_peer(self) -> None:
        """Of a stream that we want too only the others count."""
        mesh = square().nodes[2].mesh
        (route,) = route_map([StreamRow("alpha", ALPHA, 1, 0)], mesh)["routeMap"]
        self.assertEqual(route["peers"], 1)

    def test_it_is_bounded(self) -> None:
        """Streams here go before those of others."""
        self.patch(mesh_view, "MAX_ROUTES", 2)
        rows = [StreamRow(str(n), n, 1, 0) for n in range(5)]
        told = route_map(rows, square().nodes[0].mesh)["routeMap"]
        self.assertEqual([route["id"] for route in told], ["0", "1"])

    def test_a_stream_whose_name_is_not_known(self) -> None:
        """It has its key for a name."""
        mesh = square().nodes[0].mesh
        mesh.ledger.wanted.ids.clear()
        (route,) = route_map([], mesh)["routeMap"]
        self.assertEqual(route["id"], format_u64(ALPHA))

    def test_without_a_mesh(self) -> None:
        """Only what is here."""
        self.assertEqual(route_map([], None), {"routeMap": []})


class TraceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mesh = square().nodes[0].mesh

    def traced(self, stream: str = "alpha", start: str = "") -> dict[str, Any]:
        """The document, as it is read from JSON."""
        told = json.loads(json.dumps(trace_document(HERE, [linked(1)], self.mesh, stream, start)))
        assert isinstance(told, dict)
        return told

    def test_the_tree(self) -> None:
        """From here: to the leaf directly, to the far corner by way of the other."""
        told = self.traced()
        self.assertEqual((told["stream"], told["key"]), ("alpha", format_u64(ALPHA)))
        self.assertEqual(
            (told["from"]["name"], told["from"]["here"], told["from"]["wants"]), ("north", True, False)
        )
        hops = {hop["id"]: hop for hop in told["hops"]}
        self.assertEqual({hop["parent"] for hop in hops.values()}, {str(id_of(0)), str(id_of(1))})
        passing = hops[str(id_of(1))]
        self.assertEqual(
            (passing["name"], passing["wants"], passing["links"], passing["cost"]), ("rp1", False, 1, 10)
        )
        self.assertEqual((hops[str(id_of(2))]["wants"], hops[str(id_of(2))]["links"]), (True, 2))
        self.assertEqual(told["not_reached"], [])

    def test_from_another(self) -> None:
        """By its id, the beginning of that, or its name, in any case."""
        for start in (str(id_of(1)), str(id_of(1))[:18].upper(), "RP1"):
            told = self.traced(start=start)
            self.assertEqual((told["from"]["id"], told["from"]["here"]), (str(id_of(1)), False))

    def test_who_is_not_known(self) -> None:
        """Or not uniquely: those that could be meant are told."""
        error = self.assertRaises(AskedWrongly, self.traced, start="nowhere")
        self.assertIn("is no Rallypoint of this mesh", str(error))
        self.assertIn(peer_id(id_of(2)), str(error))
        same = [linked(1, name="same"), linked(3, name="same")]
        error = self.assertRaises(AskedWrongly, trace_document, HERE, same, self.mesh, "alpha", "same")
        self.assertIn("fits several", str(error))
        self.assertNotIn(peer_id(id_of(2)), str(error))

    def test_nobody_wants_it(self) -> None:
        """An empty tree is an answer too."""
        told = self.traced("nothing")
        self.assertEqual((told["hops"], told["not_reached"]), ([], []))

    def test_who_is_not_reached(self) -> None:
        """Who wants it behind a leaf only, whom nothing passes through, is named."""
        network = square()
        network.cut(1, 2)
        network.run(5)
        self.mesh = network.nodes[0].mesh
        self.assertEqual([each["id"] for each in self.traced()["not_reached"]], [str(id_of(2))])

    def test_streams_that_cannot_be(self) -> None:
        """None, one that is too long, text that UTF-8 cannot carry."""
        for stream in ("", "x" * 257, "\ud800"):
            self.assertRaises(AskedWrongly, self.traced, stream)

    def test_without_a_mesh(self) -> None:
        """There is no way to show."""
        self.assertRaises(AskedWrongly, trace_document, HERE, [], None, "alpha")
