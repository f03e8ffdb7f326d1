"""Who belongs to the mesh: plans drawn from groups and lists, and peering files of every kind, also of no kind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.net.addresses import Address
from ice.rallypoint.peering import (
    CONNECT_TIMEOUT_S,
    DEFAULT_COST,
    MAX_ALTERNATIVES,
    MAX_PEERS,
    MAX_TEXT,
    MAX_WARNINGS,
    Expected,
    IdError,
    Listed,
    PeeringError,
    PeeringFile,
    Plan,
    plan_of,
    rallypoint_id,
    read_peering,
)

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"
SOURCE = "peers.json"


def id_of(number: int) -> UUID:
    """The UUID of Rallypoint `number`."""
    return UUID(f"{number:08x}-0000-4000-8000-000000000000")


A, B, C, D, E = map(id_of, range(1, 6))
AT = {id: Address(f"rp{number}.example.org", 7443) for number, id in enumerate((A, B, C, D, E), 1)}


@attrs.frozen
class M:
    """A member of a group."""

    id: UUID
    address: Address | None = None
    leaf: bool = False
    enabled: bool = True
    cost: int = 0


@attrs.frozen
class G:
    """A group."""

    members: Sequence[M]
    name: str = "town"
    cost: int = 10
    virtual: Sequence[Address] = ()


def town(*ids: UUID, **more: Any) -> G:
    """A group of these, each with its address."""
    return G([M(id, AT[id]) for id in ids], **more)


def listing(*peers: Listed) -> PeeringFile:
    return PeeringFile(SOURCE, peers)


class Ids(SynchronousTestCase):
    def test_as_people_write_them(self) -> None:
        """With and without braces, in any case."""
        for text in (str(A), f"{{{A}}}", str(A).upper(), f" {A}\n"):
            self.assertEqual(rallypoint_id(text), A)

    def test_what_is_none(self) -> None:
        """Anything else is refused, and repeated short and safe."""
        for text in ("", "rp1", str(A)[:-1], f"{{{A}", f"{A}}}", A.hex, f"urn:uuid:{A}", f"{{{{{A}}}}}"):
            self.assertRaises(IdError, rallypoint_id, text)
        with self.assertRaises(IdError) as caught:
            rallypoint_id("\x1b[2J" + "x" * 500)
        self.assertNotIn("\x1b", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 160)


class Groups(SynchronousTestCase):
    def test_each_with_each(self) -> None:
        """A member expects every other one, at its address, at the group's cost, and tells clients of them."""
        plan = plan_of([town(A, B, C)], A)
        self.assertEqual(plan.peers, {B: Expected(B, AT[B], 10), C: Expected(C, AT[C], 10)})
        self.assertEqual(plan.alternatives, (AT[B], AT[C]))
        self.assertEqual((plan.leaf, plan.warnings), (False, ()))

    def test_nothing_configured(self) -> None:
        """No group and no list: no mesh, and nothing to say about it."""
        self.assertEqual(plan_of([], A), Plan())

    def test_itself_alone(self) -> None:
        """A group or list that names nobody but ourselves is in order."""
        self.assertEqual(plan_of([town(A)], A), Plan())
        self.assertEqual(plan_of([], A, listing(Listed(A, AT[A]))), Plan())

    def test_no_member(self) -> None:
        """Whom no group names links with nobody, and hears what to do."""
        plan = plan_of([town(B, C, virtual=[AT[E]])], A)
        self.assertEqual((plan.peers, plan.alternatives), ({}, ()))
        (warning,) = plan.warnings
        self.assertIn(f"{A}, is a member of no group", warning)

    def test_switched_off(self) -> None:
        """A disabled entry is as none; whose own is, is out of service there."""
        groups = [G([M(A, AT[A]), M(B, AT[B], enabled=False), M(C)])]
        self.assertEqual(list(plan_of(groups, A).peers), [C])
        self.assertEqual(plan_of(groups, A).alternatives, ())
        plan = plan_of(groups, B)
        self.assertEqual(plan.peers, {})
        self.assertIn("switched off (enabled = false) in town", plan.warnings[0])

    def test_without_address(self) -> None:
        """Whom nobody can dial is expected all the same."""
        self.assertEqual(plan_of([G([M(A), M(B)])], A).peers, {B: Expected(B, None, 10)})

    def test_costs(self) -> None:
        """A link costs what the dearer of its ends says, else what the group says; both ends find the same."""
        group = G([M(A, cost=3), M(B, cost=7), M(C)], cost=10)
        costs = {(x, y): e.cost for x in (A, B, C) for y, e in plan_of([group], x).peers.items()}
        self.assertEqual(costs, {(A, B): 7, (B, A): 7, (A, C): 3, (C, A): 3, (B, C): 7, (C, B): 7})

    def test_two_groups(self) -> None:
        """A pair in two groups has the lower cost and the first address; a member of one only is no less expected."""
        groups = [
            G([M(A), M(B), M(C, AT[C])], "a", 20),
            G([M(A), M(B, AT[B]), M(C, AT[D]), M(D)], "b", 5),
            G([M(B), M(E)], "not ours", 1),
        ]
        plan = plan_of(groups, A)
        self.assertEqual(
            plan.peers, {B: Expected(B, AT[B], 5), C: Expected(C, AT[C], 5), D: Expected(D, None, 5)}
        )
        self.assertEqual(plan_of(groups[::-1], A).peers[B], plan.peers[B])

    def test_leaves(self) -> None:
        """A leaf expects core members only; core members expect it as a leaf; one word in any group is enough."""
        group = G([M(A, AT[A]), M(B, AT[B], leaf=True), M(C, AT[C], leaf=True)])
        self.assertEqual({e.id: e.leaf for e in plan_of([group], A).peers.values()}, {B: True, C: True})
        leaf = plan_of([group], B)
        self.assertEqual((leaf.leaf, list(leaf.peers)), (True, [A]))
        self.assertEqual(leaf.alternatives, (AT[A], AT[C]))  # for clients, a leaf is a way in like any other
        elsewhere = [town(A, B), G([M(B, leaf=True), M(C)], "elsewhere")]
        self.assertTrue(plan_of(elsewhere, A).peers[B].leaf)
        self.assertTrue(plan_of(elsewhere, B).leaf)

    def test_leaves_alone(self) -> None:
        """Leaves among themselves are told that nobody is linked."""
        plan = plan_of([G([M(A, leaf=True), M(B, leaf=True)])], A)
        self.assertEqual((plan.leaf, plan.peers), (True, {}))
        self.assertIn("so are all others", plan.warnings[0])

    def test_alternatives(self) -> None:
        """Virtual addresses come first, each way once, never our own, and no more than a WELCOME carries."""
        vip = Address("voice.example.org", 7443)
        plan = plan_of([town(A, B, virtual=[vip, AT[A]]), town(A, C, B, name="x", virtual=[vip])], A)
        self.assertEqual(plan.alternatives, (vip, AT[B], AT[C]))
        many = [Address(f"v{n}.example.org", 1) for n in range(100)]
        self.assertEqual(plan_of([town(A, B, virtual=many)], A).alternatives, tuple(many[:MAX_ALTERNATIVES]))

    def test_our_own_address(self) -> None:
        """A neighbour at our own address is dialled all the same (a balancer may stand there), and warned about."""
        plan = plan_of([G([M(A, AT[A]), M(B, AT[A])])], A)
        self.assertEqual(plan.peers[B].address, AT[A])
        self.assertIn("which is our own address", plan.warnings[0])
        self.assertEqual(plan.alternatives, ())

    def test_too_many(self) -> None:
        """More links than a state can name are warned about."""
        plan = plan_of([G([M(id_of(n)) for n in range(300)])], id_of(0))
        self.assertEqual(len(plan.peers), 299)
        self.assertIn("one may have 256", plan.warnings[0])

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_both_ends_agree(self, data: st.DataObject) -> None:
        """Whatever the groups: who expects somebody is expected by them, at the same cost, unless one is out."""
        ids = [id_of(n) for n in range(5)]
        member = st.builds(
            M, id=st.sampled_from(ids), leaf=st.booleans(), enabled=st.booleans(), cost=st.integers(0, 20)
        )
        members = st.lists(member, min_size=1, max_size=5, unique_by=lambda m: m.id)
        groups = data.draw(st.lists(st.builds(G, members, cost=st.integers(1, 20)), max_size=4))
        plans = {id: plan_of(groups, id) for id in ids}
        for id, plan in plans.items():
            self.assertEqual(plan, plan_of(groups, id))
            self.assertNotIn(id, plan.peers)
            self.assertEqual(list(plan.peers), sorted(plan.peers))
            for other, expected in plan.peers.items():
                self.assertEqual(plans[other].peers[id].cost, expected.cost)
                self.assertEqual(plans[other].leaf, expected.leaf)
                self.assertFalse(plan.leaf and expected.leaf)


class Lists(SynchronousTestCase):
    def test_one_list_for_all(self) -> None:
        """Each reader expects all the others; the own entry is skipped without a word."""
        peers = listing(*(Listed(id, AT[id]) for id in (A, B, C)))
        plan = plan_of([], B, peers)
        self.assertEqual(
            plan.peers, {A: Expected(A, AT[A], DEFAULT_COST), C: Expected(C, AT[C], DEFAULT_COST)}
        )
        self.assertEqual((plan.alternatives, plan.warnings), ((AT[A], AT[C]), ()))

    def test_own_id_is_not_needed(self) -> None:
        """A list of others only is one, too."""
        self.assertEqual(list(plan_of([], A, listing(Listed(B))).peers), [B])

    def test_with_groups(self) -> None:
        """A list adds to the groups: what a group says of cost and address stands, time-outs are the list's."""
        peers = listing(Listed(B, AT[E], connect_timeout_s=9.0), Listed(D, AT[D]))
        plan = plan_of([town(A, B, C, cost=3)], A, peers)
        self.assertEqual(plan.peers[B], Expected(B, AT[B], 3, connect_timeout_s=9.0))
        self.assertEqual(plan.peers[D], Expected(D, AT[D], DEFAULT_COST))
        self.assertEqual(list(plan.peers), [B, C, D])
        self.assertIn("the group's is dialled", plan.warnings[0])

    def test_switched_off(self) -> None:
        """A disabled entry is not expected, unless a group has it; whose own is disabled is linked by no list."""
        peers = listing(Listed(A, enabled=False), Listed(B), Listed(C, enabled=False))
        self.assertEqual(plan_of([], B, peers).peers, {})
        off = plan_of([], A, peers)
        self.assertEqual(off.peers, {})
        self.assertIn("switches this Rallypoint", off.warnings[0])
        both = plan_of([town(B, C)], B, peers)
        self.assertEqual(list(both.peers), [C])
        self.assertIn("a group has it", both.warnings[0])

    def test_leaves(self) -> None:
        """forceIsMeshLeaf makes a peer a leaf, and us where it stands at our own id."""
        peers = listing(Listed(A), Listed(B, leaf=True), Listed(C, leaf=True))
        self.assertEqual([e.leaf for e in plan_of([], A, peers).peers.values()], [True, True])
        plan = plan_of([], B, peers)
        self.assertEqual((plan.leaf, list(plan.peers)), (True, [A]))

    def test_policy(self) -> None:
        """A role asked for on one link is a warning unless it is ours on all."""
        for ours, asked, warned in [
            (False, None, False),
            (True, None, False),
            (False, False, False),
            (True, True, False),
            (False, True, True),
            (True, False, True),
        ]:
            peers = listing(Listed(A, leaf=ours), Listed(B, asks_for_leaf=asked))
            plan = plan_of([], A, peers)
            self.assertEqual((plan.leaf, list(plan.peers)), (ours, [B]))
            self.assertEqual([("outboundLeafPolicy" in w) for w in plan.warnings], [True] * warned)

    def test_shared_address(self) -> None:
        """Two ids at one address are warned about where a list says so."""
        plan = plan_of([], A, listing(Listed(B, AT[B]), Listed(C, AT[B])))
        self.assertIn(f"{C} and {B} are both said to be at", plan.warnings[0])
        self.assertEqual(plan.alternatives, (AT[B],))


def peers_of(text: str) -> tuple[Listed, ...]:
    return read_peering(text, SOURCE).peers


class Reading(SynchronousTestCase):
    def warnings(self, peer: dict[str, Any]) -> tuple[Listed, list[str]]:
        """What is made of one entry, and the warnings without the file's name."""
        read = read_peering(json.dumps([{"id": str(A), **peer}]), SOURCE)
        (found,) = read.peers
        for warning in read.warnings:
            self.assertTrue(warning.startswith("peers.json: "), warning)
        return found, [warning.removeprefix("peers.json: ") for warning in read.warnings]

    def test_both_forms(self) -> None:
        """An object with peers, and the bare array; a byte order mark is read past."""
        entry = {
            "id": f"{{{A}}}",
            "enabled": True,
            "host": {"address": "RP1.example.org", "port": 7444},
            "connectionTimeoutSecs": 3,
            "forceIsMeshLeaf": True,
            "outboundLeafPolicy": 2,
        }
        expected = (Listed(A, Address("rp1.example.org", 7444), True, True, 3.0, False),)
        whole = {"id": "x", "version": 3, "comments": "ours", "peers": [entry]}
        for document in (whole, [entry]):
            read = read_peering("\ufeff" + json.dumps(document, indent=1), SOURCE)
            self.assertEqual((read.peers, read.warnings, read.source), (expected, (), SOURCE))

    def test_little(self) -> None:
        """An id is enough; nulls are as nothing; no peer at all is a list."""
        bare = (Listed(A, None, True, False, CONNECT_TIMEOUT_S, None),)
        self.assertEqual(peers_of(f'[{{"id": "{A}"}}]'), bare)
        nothing = dict.fromkeys(
            ["enabled", "host", "connectionTimeoutSecs", "forceIsMeshLeaf", "outboundLeafPolicy"]
        )
        self.assertEqual(self.warnings(nothing), (bare[0], []))
        self.assertEqual(self.warnings({"host": {"address": "", "port": 0}}), (bare[0], []))
        self.assertEqual(self.warnings({"connectionTimeoutSecs": 0, "outboundLeafPolicy": 0}), (bare[0], []))
        for text in ("[]", '{"peers": []}'):
            self.assertEqual(peers_of(text), ())

    def test_refused(self) -> None:
        """What cannot be meant is refused as a whole, with its place, what was expected and what came."""
        for text, message in [
            ("", 'peers.json: is empty; expected JSON, an object with "peers" or an array'),
            (" \n", 'peers.json: is empty; expected JSON, an object with "peers" or an array'),
            (
                "[\n  {\n]",
                "peers.json:3: column 1: no JSON: expecting property name enclosed in double quotes",
            ),
            ("[NaN]", "peers.json: NaN is no JSON"),
            ("5", 'peers.json: expected an object with "peers", or a list of Rallypoints, found 5'),
            ("null", 'peers.json: expected an object with "peers", or a list of Rallypoints, found null'),
            ("{}", 'peers.json: expected "peers", the list of Rallypoints; it is not there'),
            ('{"peers": {}}', "peers.json: peers: expected a list of Rallypoints, found an object"),
            ('{"peers": null}', "peers.json: peers: expected a list of Rallypoints, found null"),
            ('["a"]', 'peers.json: [0]: expected an object with an id, found "a"'),
            (
                '{"peers": [{}]}',
                "peers.json: peers[0].id: expected the UUID of a Rallypoint's certificate; it is not there",
            ),
            ('[{"id": 7}]', "peers.json: [0].id: expected the UUID of a Rallypoint's certificate; found 7"),
            (
                f'{{"peers": [{{"id": "{A}"}}, {{"id": "rp2"}}]}}',
                (
                    "peers.json: peers[1].id: expected the UUID of a Rallypoint's certificate (ice pki show FILE), "
                    'found "rp2"'
                ),
            ),
        ]:
            with self.assertRaises(PeeringError) as caught:
                read_peering(text, SOURCE)
            self.assertEqual(str(caught.exception), message)
            self.assertIsInstance(caught.exception, LocalError)

    def test_bounds(self) -> None:
        """Length, number and depth are bounded; so are the digits of a number."""
        entries = [{"id": str(id_of(n))} for n in range(MAX_PEERS + 1)]
        self.assertEqual(len(peers_of(json.dumps(entries[:-1]))), MAX_PEERS)
        for text, words in [
            (" " * (MAX_TEXT + 1), "is larger than"),
            (json.dumps(entries), "1025 Rallypoints are listed; at most 1024"),
            ("[" * 200_000, "is nested far deeper"),
            ('{"peers":' * 100_000, "is nested far deeper"),
            ("[" + "9" * 10_000 + "]", "thousands of digits"),
        ]:
            with self.assertRaises(PeeringError) as caught:
                read_peering(text, SOURCE)
            self.assertIn(words, str(caught.exception))
            self.assertLess(len(str(caught.exception)), 200)

    def test_wrong_types(self) -> None:
        """A wrongly typed value is read by its default, as the original reads it, and told."""
        plain = Listed(A)
        for peer, message in [
            ({"enabled": "false"}, '[0].enabled: expected true or false, found "false"; true is taken'),
            ({"enabled": 0}, "[0].enabled: expected true or false, found 0; true is taken"),
            ({"forceIsMeshLeaf": 1}, "[0].forceIsMeshLeaf: expected true or false, found 1; false is taken"),
            (
                {"connectionTimeoutSecs": "5"},
                '[0].connectionTimeoutSecs: expected seconds, found "5"; 5 are taken',
            ),
            (
                {"connectionTimeoutSecs": -1},
                "[0].connectionTimeoutSecs: expected seconds, found -1; 5 are taken",
            ),
            (
                {"connectionTimeoutSecs": False},
                "[0].connectionTimeoutSecs: expected seconds, found false; 5 are taken",
            ),
            (
                {"connectionTimeoutSecs": 10**400},
                "[0].connectionTimeoutSecs: expected seconds, found a very large number; 5 are taken",
            ),
            ({"outboundLeafPolicy": 3}, "[0].outboundLeafPolicy: expected 0, 1 or 2, found 3; 0 is taken"),
            (
                {"outboundLeafPolicy": True},
                "[0].outboundLeafPolicy: expected 0, 1 or 2, found true; 0 is taken",
            ),
            ({"host": "a:1"}, '[0].host: expected an object with address and port, found "a:1"; not dialled'),
            ({"host": {"address": 5}}, "[0].host.address: expected text, found 5; not dialled"),
            (
                {"host": {"address": "a b"}},
                (
                    '[0].host.address: "a b" is not a host name: expected letters, digits, - and dots '
                    "(write other alphabets in their xn-- form); not dialled"
                ),
            ),
            (
                {"host": {"address": "0.0.0.0", "port": 1}},
                "[0].host.address: 0.0.0.0:1 is no place to dial; not dialled",
            ),
        ]:
            self.assertEqual(self.warnings(peer), (plain, [message]))

    def test_times(self) -> None:
        """A time-out of 0 is ours, a longer one than a person waits is cut."""
        self.assertEqual(self.warnings({"connectionTimeoutSecs": 2.5})[0].connect_timeout_s, 2.5)
        peer, (warning,) = self.warnings({"connectionTimeoutSecs": 500})
        self.assertEqual(peer.connect_timeout_s, 120.0)
        self.assertIn("120 are taken", warning)

    def test_addresses(self) -> None:
        """Names and addresses of both families, brackets or not; a port inside, or none."""
        for host, address, warned in [
            ({"address": "10.0.0.1", "port": 7000}, Address("10.0.0.1", 7000), ""),
            ({"address": "2001:DB8::1", "port": 7000}, Address("2001:db8::1", 7000), ""),
            ({"address": "[2001:db8::1]", "port": 7000}, Address("2001:db8::1", 7000), ""),
            ({"address": " rp ", "port": 7000}, Address("rp", 7000), ""),
            ({"address": "rp:7000"}, Address("rp", 7000), ""),
            ({"address": "rp:7000", "port": 7001}, Address("rp", 7000), "the address itself says 7000"),
            ({"address": "rp"}, Address("rp", 7443), "none is given; 7443 is taken"),
            ({"address": "rp", "port": 0}, Address("rp", 7443), "none is given; 7443 is taken"),
            ({"address": "rp", "port": "70"}, Address("rp", 7443), 'found "70"; 7443 is taken'),
            ({"address": "rp", "port": 65536}, Address("rp", 7443), "found 65536; 7443 is taken"),
        ]:
            peer, warnings = self.warnings({"host": host})
            self.assertEqual(peer.address, address)
            self.assertEqual(len(warnings), bool(warned))
            self.assertIn(warned, "".join(warnings))

    def test_unknown_and_unused(self) -> None:
        """Keys that are not used are told once per kind, with their first place and how many more there are."""
        peer = {"certificate": {"certificate": "@a.pem"}, "sni": "x"}
        entries = [{"id": str(id), **peer} for id in (A, B, C)]
        read = read_peering(json.dumps({"peers": entries, "meshName": "m"}), SOURCE)
        self.assertEqual(
            read.warnings,
            (
                "peers.json: meshName: unknown key, not used",
                (
                    "peers.json: peers[0].certificate: not used: a Rallypoint shows everybody the certificate of "
                    "[rallypoint] (and 2 more like it)"
                ),
                "peers.json: peers[0].sni: unknown key, not used (and 2 more like it)",
            ),
        )
        self.assertEqual(len(read.peers), 3)

    def test_many_oddities(self) -> None:
        """A file full of them is told in a bounded number of lines."""
        text = json.dumps([{"id": str(A), **{f"k{n}\x1b": n for n in range(5000)}}])
        warnings = read_peering(text, SOURCE).warnings
        self.assertEqual(len(warnings), MAX_WARNINGS + 1)
        self.assertEqual(warnings[-1], "peers.json: … and 4980 more kinds of oddities")
        self.assertNotIn("\x1b", "".join(warnings))

    def test_twice(self) -> None:
        """Of two entries with one id the later counts, of two equal keys too; both are told."""
        text = f'[{{"id": "{A}", "enabled": false}}, {{"id": "{B}"}}, {{"id": "{{{A}}}", "enabled": false, "enabled": true}}]'
        read = read_peering(text, SOURCE)
        self.assertEqual(read.peers, (Listed(B), Listed(A)))
        self.assertEqual(
            read.warnings,
            (
                "peers.json: [2].enabled: given twice; the last counts",
                f"peers.json: [2].id: {A} is listed at [0] too; this later entry counts",
            ),
        )

    def test_samples(self) -> None:
        """Files of real sites that are no peering files are refused, or read with warnings; none gets past."""
        files = sorted(SAMPLES.rglob("*.json")) if SAMPLES.is_dir() else []
        if not files:
            self.skipTest("the sample files are not here")
        for file in files:
            try:
                read = read_peering(file.read_text("utf-8", "replace"), file.name)
            except PeeringError as error:
                self.assertIn(file.name, str(error))
            else:
                self.assertIn("peer", file.name)
                self.assertTrue(read.peers)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([str(A), f"{{{B}}}", "rp:1", "::1", "\ud800", 0, 1, 2, 7443, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "peers",
                    "enabled",
                    "host",
                    "address",
                    "port",
                    "connectionTimeoutSecs",
                    "forceIsMeshLeaf",
                    "outboundLeafPolicy",
                    "certificate",
                    "\ud800",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {"id": st.sampled_from([str(A), str(B), f"{{{C}}}"])},
    optional={
        "enabled": VALUES,
        "host": VALUES | st.fixed_dictionaries({}, optional={"address": VALUES, "port": VALUES}),
        "connectionTimeoutSecs": VALUES,
        "forceIsMeshLeaf": VALUES,
        "outboundLeafPolicy": VALUES,
        "other": VALUES,
    },
)


class AnyText(SynchronousTestCase):
    def check(self, text: str) -> None:
        """`text` is a list that a plan can be made of, or an error in one line that names the file."""
        try:
            read = read_peering(text, SOURCE)
        except PeeringError as error:
            said = [str(error)]
        else:
            said = list(read.warnings)
            self.assertEqual(len({peer.id for peer in read.peers}), len(read.peers))
            for peer in read.peers:
                self.assertTrue(0.1 <= peer.connect_timeout_s <= 120)
                if peer.address is not None:
                    self.assertTrue(1 <= peer.address.port <= 65535)
            plan = plan_of([town(A, B)], A, read)
            self.assertNotIn(A, plan.peers)
        for line in said:
            self.assertTrue(line.startswith("peers.json"), line)
            self.assertTrue(line.encode().decode().isprintable(), line)
            self.assertLess(len(line), 400)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=60) | VALUES.map(json.dumps))
    @example('{"peers": [{"id": "\\ud800"}]}')
    @example('[{"id": "\\u001b[2J"}]')
    def test_reads_or_says_why(self, text: str) -> None:
        """Any text is a list or refused with a sentence."""
        self.check(text)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(ENTRY, max_size=4))
    def test_any_values(self, entries: list[dict[str, Any]]) -> None:
        """Entries with an id are read, whatever else stands in them."""
        text = json.dumps(entries)
        self.check(text)
        if not any(word in text for word in ("NaN", "Infinity")):
            self.assertEqual(
                {peer.id for peer in peers_of(text)}, {rallypoint_id(entry["id"]) for entry in entries}
            )

    def test_truncated(self) -> None:
        """Every beginning of a file is refused, never half read."""
        text = json.dumps({"peers": [{"id": str(A), "host": {"address": "rp", "port": 7443}}]})
        for length in range(len(text)):
            with self.assertRaises(PeeringError):
                read_peering(text[:length], SOURCE)
