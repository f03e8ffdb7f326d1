"""Bad neighbours and bad origins: what each tries, by what name it is refused, what it costs, and that the mesh keeps talking."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag, FrameType, control, media
from ice.link.naming import stream_key
from ice.link.peer import (
    MAX_HOPS,
    MAX_NUMBER,
    Delta,
    Entry,
    ack,
    delta,
    digest,
    full,
    interest_message,
    interest_request,
    onward,
    origin_of,
    relay,
    state,
    state_core,
    state_request,
    summary,
    topology_message,
)
from ice.rallypoint.interest import Interest
from ice.rallypoint.ledger import Bounds
from ice.rallypoint.mesh import Mesh, TooManyStreams
from ice.rallypoint.neighbours import End, Send
from tests.unit.rallypoint.mesh_network import (
    Authority,
    Link,
    certificate_of,
    engine,
    id_of,
    signature_of,
)

SALT = b"salt" * 4
KEY = stream_key("alpha")


class Rogue:
    """A Rallypoint with a certificate of its own that says whatever it likes; or what another would say, badly signed."""

    def __init__(self, index: int, salt: bytes = SALT) -> None:
        self.id = id_of(index)
        self.salt = salt
        self.certificate = certificate_of(self.id)
        self.origin = origin_of(self.id, salt)
        self.interest = Interest()

    def state(
        self,
        number: int = 1,
        links: dict[int, int] | None = None,
        *,
        former: tuple[int, ...] = (),
        leaf: bool = False,
        own: bool = False,
        signer: bytes | None = None,
        certificate: bytes | None = None,
    ) -> bytes:
        """A state frame."""
        core = state_core(self.id, self.salt, number, leaf, links or {}, former)
        signature = signature_of(signer or self.certificate, topology_message(core))
        return state(core, signature, self.certificate if certificate is None else certificate, own=own)

    def delta(
        self, number: int, added: tuple[int, ...] = (), removed: tuple[int, ...] = (), *, signer: bytes = b""
    ) -> bytes:
        """A delta frame from what it said last."""
        was = self.interest
        keys = (set(was.keys) | set(added)) - set(removed)
        interest = Interest(keys, number)
        message = interest_message(self.origin, number, len(interest), interest.digest)
        signature = signature_of(signer or self.certificate, message)
        self.interest = interest
        return delta(Delta(self.origin, was.number, number, len(interest), added, removed, {}, signature))


class Case(SynchronousTestCase):
    """An honest engine with an honest and a bad neighbour, both linked to it."""

    bounds = Bounds()

    def setUp(self) -> None:
        self.authority = Authority()
        self.mesh: Mesh[Link] = engine(0, random.Random(1), self.authority, bounds=self.bounds)
        self.good, self.bad = Rogue(1), Rogue(2)
        self.now = 1.0
        self.links: dict[int, Link] = {1: (0, 1, 1), 2: (0, 2, 1)}
        for index, rogue in ((1, self.good), (2, self.bad)):
            link = self.links[index]
            self.mesh.link_up(link, rogue.id, 10, self.now)
            self.mesh.receive(link, rogue.state(own=True, links={self.mesh.origin: 10}), self.now)
            self.mesh.receive(link, summary([], complete=True), self.now)
            self.mesh.receive(link, digest(bytes(8)), self.now)
        self.mesh.take(self.now)
        self.assertEqual(len(self.mesh.reach()), 2)

    def say(self, *frames: bytes, index: int = 2) -> list[object]:
        """The bad neighbour (or another) says something; what the engine wants done."""
        for frame in frames:
            self.mesh.receive(self.links[index], frame, self.now)
        return list(self.mesh.take(self.now))

    def refused(self, reason: str, *frames: bytes, times: int = 1) -> list[object]:
        """The same, and it is refused for this reason."""
        before = self.mesh.refused.get(reason, 0)
        out = self.say(*frames)
        self.assertEqual(self.mesh.refused.get(reason, 0) - before, times, self.mesh.refused)
        return out

    def still_talking(self) -> None:
        """The good neighbour is reached, and what it says is passed on."""
        self.assertIn(self.good.id, [reach.id for reach in self.mesh.reach()])
        self.say(self.good.delta(self.good.interest.number + 1, (KEY,)), index=1)
        account = self.mesh.routes.account("me")
        passed = self.mesh.originate(account, media(0, KEY, 5, 1, b""), 0, KEY, 5, 1, self.now)
        assert passed is not None
        self.assertEqual(passed.route.hops, (self.links[1],))


class ForgeryTests(Case):
    """Saying what others would have to say."""

    def test_a_state_that_its_origin_has_not_signed(self) -> None:
        """Three of them end the link, and nobody is told of any."""
        out: list[object] = []
        for number in range(2, 5):
            self.assertEqual([o for o in out if isinstance(o, Send)], [])
            out = self.refused("forged", self.good.state(number, {}, signer=self.bad.certificate))
        self.assertEqual([o.code for o in out if isinstance(o, End)], ["refused"])
        self.still_talking()
        self.assertEqual(self.say(self.good.state(9, {}, signer=self.bad.certificate)), [])

    def test_an_interest_that_its_origin_has_not_signed(self) -> None:
        """Neither added nor removed, neither as a delta nor as a whole."""
        self.refused("forged", self.good.delta(1, (KEY,), signer=self.bad.certificate))
        frames = full(self.good.origin, 7, [KEY], {}, b"nonsense")
        self.refused("forged", *frames)
        self.good.interest = Interest()
        self.assertEqual(len(self.mesh.ledger.wanted), 0)
        self.still_talking()

    def test_the_certificate_of_another(self) -> None:
        """A newcomer that shows somebody else's."""
        self.refused(
            "identity", Rogue(7).state(certificate=self.bad.certificate, signer=self.bad.certificate)
        )

    def test_no_certificate_of_ours(self) -> None:
        """Is not believed, and not looked at again for a minute."""
        stranger = Rogue(7)
        frame = stranger.state(certificate=b"X" + stranger.id.bytes)
        self.refused("untrusted", frame, frame, times=2)
        self.authority.revoked.add(id_of(8))
        self.refused("untrusted", Rogue(8).state())
        self.still_talking()

    def test_no_certificate_at_all(self) -> None:
        """Is asked for, once a second."""
        frame = Rogue(7).state(certificate=b"")
        out = self.refused("unknown-origin", frame, frame, frame, times=3)
        self.assertEqual([o.frame for o in out if isinstance(o, Send)], [state_request(Rogue(7).origin)])

    def test_a_link_that_says_it_is_somebody_else(self) -> None:
        """Ends at once: its own certificate says who it is."""
        out = self.refused("identity", Rogue(7).state(own=True))
        self.assertEqual([o.code for o in out if isinstance(o, End)], ["refused"])

    def test_a_leaf_that_says_it_is_none(self) -> None:
        """Ends at once where it was let in as one."""
        link = self.links[3] = (0, 3, 1)
        self.mesh.link_up(link, id_of(3), 10, self.now, leaf=True)
        out = self.say(Rogue(3).state(own=True), index=3)
        self.assertEqual(self.mesh.refused["role"], 1)
        self.assertEqual([o.code for o in out if isinstance(o, End)], ["refused"])

    def test_our_own_state_forged(self) -> None:
        """Does not make us take a new origin."""
        me, before = Rogue(0), self.mesh.origin
        own = self.mesh.ledger.records[before]
        core = state_core(me.id, own.state.salt, 99, False, {}, ())
        self.refused("forged", state(core, b"nonsense"))
        self.refused("forged", *full(before, 99, [KEY], {}, b"nonsense"))
        self.assertEqual(self.mesh.origin, before)

    def test_claims_about_our_numbers(self) -> None:
        """Are asked to be proved."""
        origin = self.mesh.origin
        out = self.say(summary([Entry(origin, 99, 0)]))
        self.assertEqual([o.frame for o in out if isinstance(o, Send)], [state_request(origin)])
        number = self.mesh.ledger.records[origin].state.number
        out = self.say(summary([Entry(origin, number, 99)]))
        self.assertEqual([o.frame for o in out if isinstance(o, Send)], [interest_request(origin)])
        self.say(ack(origin, 2**63))
        neighbour = next(n for n in self.mesh.neighbours if n.id == self.bad.id)
        self.assertEqual(neighbour.acknowledged, 0)


class AbsurdityTests(Case):
    """Well-signed nonsense."""

    def test_replays(self) -> None:
        """Cost nothing, do nothing, and are passed on to nobody."""
        frames = [self.good.state(number, {self.mesh.origin: 10}) for number in (2, 3, 4)]
        self.say(*frames, index=1)
        out = self.refused("stale", frames[0], frames[1], times=2)
        self.assertEqual([o for o in out if isinstance(o, Send)], [])
        self.assertEqual(self.mesh.ledger.records[self.good.origin].state.number, 4)

    def test_a_number_near_the_maximum(self) -> None:
        """Harms the one who says it, and a number beyond it is no number."""
        self.refused("absurd-number", self.bad.state(2**64 - 1))
        self.say(self.bad.state(MAX_NUMBER - 1, {self.mesh.origin: 10}))
        self.say(self.bad.delta(MAX_NUMBER - 1, (KEY,)))
        self.say(self.good.state(2, {self.mesh.origin: 10}), index=1)
        self.assertEqual(self.mesh.ledger.records[self.good.origin].state.number, 2)
        # Its next life begins at 1 and is understood at once.
        again = Rogue(2, b"another life ...")
        self.say(again.state(1, {self.mesh.origin: 10}, former=(self.bad.origin,), own=True))
        self.assertEqual([r.origin for r in self.mesh.records if r.id == self.bad.id], [again.origin])
        self.still_talking()

    def test_a_topology_that_names_everything(self) -> None:
        """Gains no edge that the other end does not name; naming itself is refused."""
        far = [Rogue(n) for n in range(10, 30)]
        for rogue in far:
            self.say(rogue.state(1, {self.good.origin: 1}), index=1)
        links = {rogue.origin: 1 for rogue in (self.good, *far)}
        self.say(self.bad.state(2, {**links, self.mesh.origin: 1}))
        self.assertEqual(self.mesh.graph.edges, 2)
        self.assertEqual(
            [r.cost for r in self.mesh.reach() if r.id == self.bad.id], [10], "the dearer end's cost"
        )
        self.refused("absurd", self.bad.state(3, {self.bad.origin: 1}))
        self.refused("absurd", self.bad.state(3, former=(self.bad.origin,)))

    def test_a_former_origin_of_somebody_else(self) -> None:
        """Only its own UUID's origins can be disowned."""
        self.say(self.bad.state(2, {self.mesh.origin: 10}, former=(self.good.origin, self.mesh.origin)))
        self.still_talking()

    def test_a_delta_that_adds_what_is_there(self) -> None:
        """Or removes what is not: it cannot lead from what was to what is signed."""
        self.say(self.bad.delta(1, (KEY,)))
        self.bad.interest.number = 1
        frame = self.bad.delta(2, (KEY,))
        self.refused("absurd", frame)
        self.bad.interest = Interest([KEY], 1)
        self.refused("absurd", self.bad.delta(2, (), (KEY + 1,)))

    def test_a_delta_from_elsewhere(self) -> None:
        """The whole is asked for, once a second."""
        self.bad.interest = Interest([KEY], 5)
        out = self.refused("gap", self.bad.delta(6, (KEY + 1,)), self.bad.delta(7, (KEY + 2,)), times=2)
        self.assertEqual([o.frame for o in out if isinstance(o, Send)], [interest_request(self.bad.origin)])

    def test_noise(self) -> None:
        """Ends the link after a few; kinds of a later version do not."""
        self.refused("unsupported", *[control(FrameType.TOPOLOGY, b"\x77")] * 100, times=100)
        out = self.refused("malformed", *[control(FrameType.INTEREST, b"\x01")] * 5, times=5)
        self.assertEqual([o.code for o in out if isinstance(o, End)], ["refused"])
        self.still_talking()

    def test_parts_that_do_not_follow(self) -> None:
        """A full interest out of turn, twice, or with keys that go back."""
        keys = [n << 40 for n in range(20_000)]
        first, second, *rest = full(self.bad.origin, 1, keys, {}, b"")
        self.assertEqual(len(rest), 2)
        self.refused("malformed", second)
        self.refused("malformed", first, first, second, second)
        self.refused("unknown-origin", *full(99, 1, [1], {}, b""))

    def test_two_states_under_one_number(self) -> None:
        """A cloned machine: everybody keeps the same one of them."""
        one, other = (
            self.bad.state(5, {self.mesh.origin: 10}),
            self.bad.state(5, {self.mesh.origin: 10, 7: 1}),
        )
        self.say(one)
        kept = max(one, other)
        self.say(other)
        self.say(one)
        self.assertEqual(
            self.mesh.ledger.records[self.bad.origin].state.links.keys(),
            {self.mesh.origin, 7} if kept == other else {self.mesh.origin},
        )
        self.assertEqual(self.mesh.refused["equivocation"], 1)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from([0x12, 0x13, 0x11]), st.binary(max_size=120)), max_size=20))
    def test_any_bytes(self, frames: list[tuple[int, bytes]]) -> None:
        """Nothing is raised, whatever comes."""
        self.setUp()
        for kind, body in frames:
            frame = control(FrameType(kind), body)
            if kind == 0x11:
                self.assertIsNone(self.mesh.relay(self.links[2], frame, self.now))
            else:
                self.say(frame)
        self.still_talking()


class BoundTests(Case):
    """Too much of everything."""

    bounds = Bounds(origins=8, keys=1_000, keys_in_all=1_500)

    def test_a_million_stream_keys(self) -> None:
        """Stop at the bound of one origin, and of all; the good neighbour has room left."""
        self.say(self.bad.delta(1, tuple(range(1, 1_001))))
        self.assertEqual(self.mesh.ledger.wanted.held, 1_000)
        self.refused("limit-keys", self.bad.delta(2, (5_000,)))
        third = Rogue(3)
        self.say(third.state())
        self.refused("limit-keys", third.delta(1, tuple(range(1, 600))))
        self.still_talking()
        self.refused("limit-keys", *full(self.bad.origin, 9, list(range(2_000)), {}, b""))

    def test_many_origins(self) -> None:
        """Rallypoints beyond the bound are not held; lives of one neither."""
        self.refused("limit-origins", *(Rogue(n).state() for n in range(3, 20)), times=12)
        self.assertEqual(len(list(self.mesh.records)), 8)
        self.still_talking()

    def test_many_lives(self) -> None:
        """The same certificate under ever new salts."""
        lives = [Rogue(2, bytes([n]) * 16).state() for n in range(10)]
        self.refused("limit-origins", *lives, times=7)
        self.still_talking()

    def test_floods_faster_than_anybody_needs(self) -> None:
        """Are refused before their signature is looked at; what was missed is compared a second later."""
        out: list[object] = []
        for number in range(2, 400):
            out = self.say(self.bad.state(number, {self.mesh.origin: 10}))
        self.assertGreater(self.mesh.refused["rate"], 150)
        self.assertEqual([o for o in out if isinstance(o, End)], [])
        self.now += 1.1
        out = list(self.mesh.take(self.now))
        held = self.mesh.ledger.records[self.bad.origin]
        expected = summary([Entry(self.bad.origin, held.state.number, 0)], ask=True)
        self.assertEqual([o.frame for o in out if isinstance(o, Send)], [expected])
        self.still_talking()

    def test_asking_for_ever(self) -> None:
        """The same is answered once a second; complete summaries are answered four times, then every five seconds."""
        self.say(self.good.delta(1, (KEY,)), index=1)
        out = self.say(*[interest_request(self.good.origin)] * 50, *[state_request(self.good.origin)] * 50)
        self.assertEqual(len([o for o in out if isinstance(o, Send)]), 2)
        out = self.say(*[summary([Entry(self.good.origin, 0, 0)])] * 50)
        full_ones = [o for o in out if isinstance(o, Send) and o.frame[2] == FrameType.INTEREST]
        self.assertEqual(full_ones, [])
        self.now += 100
        out = self.refused("rate", *[summary([], complete=True)] * 10, times=6)
        self.assertEqual([o for o in out if isinstance(o, End)], [])

    def test_our_own_streams(self) -> None:
        """Are refused to the guest, where others would not believe them."""
        for n in range(1_000):
            self.mesh.want(stream_key(str(n)), str(n), self.now)
        self.assertRaises(TooManyStreams, self.mesh.want, KEY, "alpha", self.now)


class DatagramTests(Case):
    """RELAY frames that should not be."""

    def relay(self, frame: bytes, index: int = 2) -> str | None:
        """The reason why a frame was dropped, if it was."""
        before = self.mesh.counts.dropped()
        passed = self.mesh.relay(self.links[index], frame, self.now)
        after = self.mesh.counts.dropped()
        reasons = [reason for reason in after if after[reason] > before[reason]]
        self.assertEqual(passed is None, bool(reasons))
        return reasons[0] if reasons else None

    def test_reasons(self) -> None:
        """Each by its name."""
        good = relay(self.bad.origin, media(0, KEY, 9, 0, b"x"))
        self.assertEqual(self.relay(good), None)
        self.assertEqual(self.relay(good), "duplicate")
        self.assertEqual(self.relay(good, index=1), "duplicate")
        self.assertEqual(self.relay(relay(self.mesh.origin, media(0, KEY, 9, 1, b"x"))), "own-origin")
        self.assertEqual(self.relay(relay(12345, media(0, KEY, 9, 1, b"x"))), "unknown-origin")
        protected = media(int(Flag.PROTECTED), KEY, 9, 1, b"x")
        self.assertEqual(self.relay(relay(12345, protected)), "unknown-origin")
        ahead = relay(self.bad.origin, media(0, KEY, 9, 5_000, b"x"))
        self.assertEqual(self.relay(ahead), "jump")
        self.assertEqual(self.relay(relay(self.bad.origin, media(0, KEY, 9, 2**31, b"x"))), "late")
        fresh = relay(self.bad.origin, media(0, KEY, 9, 2, b"x"))
        self.assertEqual(self.relay(onward(fresh, MAX_HOPS)), "hops")
        for damaged in (good[:20], good[:-1], good + b"x", good[:14] + b"\x11" + good[15:], b""):
            self.assertEqual(self.relay(damaged), "malformed")
        self.assertIsNone(self.mesh.relay((9, 9, 9), fresh, self.now))

    def test_the_last_hop_delivers_and_passes_nothing_on(self) -> None:
        """A frame that has been passed on 15 times is heard here, and goes no further."""
        self.say(self.good.delta(1, (KEY,)), index=1)
        frame = relay(self.bad.origin, media(0, KEY, 9, 0, b"x"))
        passed = self.mesh.relay(self.links[2], onward(frame, MAX_HOPS - 1), self.now)
        assert passed is not None
        self.assertEqual((passed.frame, self.mesh.counts.hops), (b"", 1))

    def test_a_leaf_brings_its_own_only(self) -> None:
        """Never others' traffic."""
        link = self.links[3] = (0, 3, 1)
        leaf = Rogue(3)
        self.mesh.link_up(link, leaf.id, 10, self.now, leaf=True)
        self.say(leaf.state(own=True, leaf=True), index=3)
        self.assertEqual(self.relay(relay(leaf.origin, media(0, KEY, 9, 0, b"x")), index=3), None)
        self.assertEqual(
            self.relay(relay(self.good.origin, media(0, KEY, 9, 1, b"x")), index=3), "leaf-origin"
        )

    def test_the_bytes_stay_the_bytes(self) -> None:
        """What goes on differs in one byte; what is delivered in none."""
        self.say(self.good.delta(1, (KEY,)), index=1)
        frame = relay(self.bad.origin, media(3, KEY, 9, 0, b"payload"))
        passed = self.mesh.relay(self.links[2], frame, self.now)
        assert passed is not None
        self.assertEqual(passed.frame, onward(frame, 1))
        self.assertEqual(passed.route.hops, (self.links[1],))
        again = self.mesh.relay(self.links[2], relay(self.bad.origin, media(3, KEY, 9, 1, b"")), self.now)
        assert again is not None
        self.assertIs(again.route.hops, passed.route.hops)
