"""Two organisations: what crosses between them, what does not, and what is said about it."""

import json
from collections import Counter
from uuid import UUID, uuid4

from twisted.trial.unittest import SynchronousTestCase

from ice.config.federation import AllySettings, FederationSettings
from ice.errors import LocalError
from ice.link.event import ErrorReceived, JoinedReceived
from ice.link.frame import Flag
from ice.link.message import Code
from ice.observe.metrics import Metrics
from ice.rallypoint.federation import known_code, treaties_of
from ice.rallypoint.status import add_metrics, status_of
from ice.security.certificates import Role
from ice.security.refusals import Reason
from ice.security.trust import Foreign, Trust
from tests.unit.rallypoint.coasts import Coasts, Shore
from tests.unit.rallypoint.stage import Person
from tests.unit.security import wire


class Case(SynchronousTestCase):
    """Two organisations, a and b."""

    def coasts(self, *names: str, **more: float) -> Coasts:
        """Rallypoints of these names; nothing is agreed yet."""
        coasts = Coasts(*names, **more)
        self.addCleanup(coasts.stop)
        return coasts

    def hears(
        self, coasts: Coasts, talker: Person, *listeners: Person, stream: str = "town", count: int = 5
    ) -> None:
        """Each listener hears what the talker says now, byte for byte, each frame once and in order."""
        before = [len(each.heard) for each in listeners]
        own = len(talker.heard)
        said = []
        for _ in range(count):
            said.append(talker.say(stream))
            coasts.run(0.02, talker, *listeners)
        coasts.run(0.2, talker, *listeners)
        for each, at in zip(listeners, before, strict=True):
            self.assertEqual(each.heard[at:], said)
        self.assertEqual(len(talker.heard), own)

    def silence(self, coasts: Coasts, talker: Person, *listeners: Person, stream: str = "town") -> None:
        """None of them hears a word."""
        before = [len(each.heard) for each in listeners]
        for _ in range(3):
            talker.say(stream)
            coasts.run(0.05, talker, *listeners)
        self.assertEqual([len(each.heard) for each in listeners], before)


class Crossing(Case):
    """What people hear."""

    def test_both_ways(self) -> None:
        """People of two organisations hear each other on a stream that both list both ways, also across each one's mesh."""
        coasts = self.coasts("a1", "a2", "b1", "b2")
        coasts.federate()
        people = [coasts[name].person("town") for name in coasts.islands]
        coasts.run(1.0, *people)
        for talker in people:
            self.hears(coasts, talker, *(each for each in people if each is not talker))

    def test_every_gateway_to_every_gateway(self) -> None:
        """Two and two Rallypoints are four links, one per pair whoever called; nothing is lost or doubled in 200 datagrams."""
        coasts = self.coasts("a1", "a2", "b1", "b2")
        coasts.federate()
        for one in coasts.side("a"):
            for other in coasts.side("b"):
                here, there = one.federation.allies[other.id], other.federation.allies[one.id]
                self.assertNotEqual(here.inbound, there.inbound)
        talker, near, far = (
            coasts["a1"].person("town"),
            coasts["a2"].person("town"),
            coasts["b2"].person("town"),
        )
        coasts.run(1.0, talker, near, far)
        self.hears(coasts, talker, near, far, count=200)
        for shore in coasts.islands.values():
            self.assertEqual(shore.rallypoint.house.relay.dropped()["not-joined"], 0)

    def test_a_gateway_is_killed(self) -> None:
        """With one of two gateways of one side gone in the middle of a burst, it goes on by the other without a gap or a copy, and is whole again
        when it is back."""
        coasts = self.coasts("a1", "a2", "a3", "b1", "b2", "b3")
        for letter in "ab":
            for shore in coasts.side(letter):
                shore.plan(coasts.side(letter))
        gates = {"a": [coasts["a1"], coasts["a2"]], "b": [coasts["b1"], coasts["b2"]]}
        for letter, others in (("a", "b"), ("b", "a")):
            for shore in gates[letter]:
                shore.agree(shore.treaty(gates[others], ["town"], ["town"]))
        coasts.run(3.0)
        talker, listener = coasts["a3"].person("town"), coasts["b3"].person("town")
        coasts.run(1.0, talker, listener)
        said = []
        for at in range(100):
            said.append(talker.say("town"))
            if at == 50:
                coasts.run(
                    0.1, talker, listener
                )  # a reset loses what is under way; what is asked is what comes after it
                coasts["b1"].die()
            coasts.run(0.02, talker, listener)
        coasts.run(0.5, talker, listener)
        self.assertEqual(listener.heard, said)
        coasts["b1"].boot()
        coasts["b1"].rallypoint.startService()
        coasts["b1"].plan(coasts.side("b"))
        coasts["b1"].agree(coasts["b1"].treaty(gates["a"], ["town"], ["town"]))
        coasts.run(20.0, talker, listener)
        self.assertEqual(coasts["b1"].allies(), {"a1", "a2"})
        self.hears(coasts, talker, listener, count=30)

    def test_one_way(self) -> None:
        """What only comes in is not sent out, though the other side would take it; and the other way round."""
        coasts = self.coasts("a1", "b1")
        coasts["a1"].agree(coasts["a1"].treaty([coasts["b1"]], ["news"], ["calls"]))
        coasts["b1"].agree(coasts["b1"].treaty([coasts["a1"]], ["news", "calls"], ["news", "calls"]))
        coasts.run(3.0)
        a, b = coasts["a1"].person("news", "calls"), coasts["b1"].person("news", "calls")
        coasts.run(0.5, a, b)
        self.hears(coasts, b, a, stream="news")
        self.silence(coasts, a, b, stream="news")
        self.hears(coasts, a, b, stream="calls")
        self.silence(coasts, b, a, stream="calls")

    def test_a_direction_that_is_refused_does_not_silence_the_other(self) -> None:
        """The opener asks for both; the acceptor grants one. Whichever it is, and whoever opened, that one is heard."""
        for opener, acceptor in (("a1", "b1"), ("b1", "a1")):
            for way in ("incoming", "outgoing"):
                coasts = self.coasts("a1", "b1")
                one, other = coasts[opener], coasts[acceptor]
                one.agree(one.treaty([other], ["town"], ["town"]))
                some, none = (["town"], []) if way == "incoming" else ([], ["town"])
                other.agree(other.treaty([one], some, none, dials=False))
                coasts.run(3.0)
                here, there = one.person("town"), other.person("town")
                coasts.run(0.5, here, there)
                talker, listener = (here, there) if way == "incoming" else (there, here)
                self.hears(coasts, talker, listener)
                self.silence(coasts, listener, talker)
                row = one.federation.rows(coasts.clock.seconds())[0]
                granted = (row.outgoing, row.incoming) if way == "incoming" else (row.incoming, row.outgoing)
                self.assertEqual(granted, (("town",), ()))
                self.assertIn("coming in" if way == "incoming" else "going out", row.refused[0])
                self.assertEqual(one.rallypoint.house.relay.dropped()["not-joined"], 0)
                self.assertEqual(other.rallypoint.house.relay.dropped()["not-joined"], 0)

    def test_streams_that_only_one_lists(self) -> None:
        """Nothing crosses on a stream that the other side does not list, either way, and the link stays for those that it does."""
        coasts = self.coasts("a1", "b1")
        coasts["a1"].agree(coasts["a1"].treaty([coasts["b1"]], ["town", "mine"], ["town", "mine"]))
        coasts["b1"].agree(coasts["b1"].treaty([coasts["a1"]], ["town", "theirs"], ["town", "theirs"]))
        coasts.run(3.0)
        a, b = coasts["a1"].person("town", "mine", "theirs"), coasts["b1"].person("town", "mine", "theirs")
        coasts.run(0.5, a, b)
        self.hears(coasts, a, b)
        for stream in ("mine", "theirs"):
            self.silence(coasts, a, b, stream=stream)
            self.silence(coasts, b, a, stream=stream)

    def test_other_streams_stay_at_home(self) -> None:
        """A stream that is not listed is not sent to them, and not taken from them."""
        coasts = self.coasts("a1", "b1")
        coasts.federate()
        a, b = coasts["a1"].person("town", "secret"), coasts["b1"].person("secret")
        coasts.run(0.5, a, b)
        self.silence(coasts, a, b, stream="secret")
        self.assertEqual(coasts["b1"].federation.media_passed()["received"], 0)

    def test_the_first_syllable(self) -> None:
        """Who is JOINED on one side before the link stands hears the first word after it, said right behind the JOIN."""
        coasts = self.coasts("a1", "b1", delay_s=0.05)
        a, b = coasts["a1"].person("town"), coasts["b1"].person("town")
        coasts["a1"].agree(coasts["a1"].treaty([coasts["b1"]], ["town"], ["town"]))
        coasts["b1"].agree(coasts["b1"].treaty([coasts["a1"]], ["town"], ["town"], dials=False))
        while not coasts["a1"].allies():
            coasts.run(0.01, a, b, step_s=0.01)
        frame = a.say("town")
        coasts.run(1.0, a, b)
        self.assertEqual(b.heard, [frame])

    def test_protected(self) -> None:
        """Flags and payload cross unchanged."""
        coasts = self.coasts("a1", "a2", "b1", "b2")
        coasts.federate()
        talker, listener = coasts["a1"].person("town"), coasts["b2"].person("town")
        coasts.run(0.5, talker, listener)
        frame = talker.say("town", b"\x00\xffopaque", flags=Flag.PROTECTED | Flag.URGENT | 0x80)
        coasts.run(0.3, talker, listener)
        self.assertEqual(listener.heard, [frame])

    def test_a_stream_shared_with_two_ties_all_three(self) -> None:
        """What comes in from one goes out to another where both list the stream; and nothing runs in a circle where those two know each other."""
        coasts = self.coasts("a1", "b1", "b2")  # b1 and b2 share an authority and no mesh: two organisations
        names = ("a1", "b1", "b2")
        a1, b1, b2 = (coasts[name] for name in names)
        a1.agree(a1.treaty([b1, b2], ["town"], ["town"]))
        for shore in (b1, b2):
            shore.agree(shore.treaty([a1], ["town"], ["town"]))
        coasts.run(3.0)
        people = [coasts[name].person("town") for name in names]
        coasts.run(0.5, *people)
        for talker in people:
            self.hears(coasts, talker, *(each for each in people if each is not talker))

    def test_more_than_a_link_may_bring(self) -> None:
        """What is over the rate of the federation is dropped, counted, and they are told; the link lives on."""
        coasts = self.coasts("a1", "b1")
        coasts["a1"].agree(coasts["a1"].treaty([coasts["b1"]], ["town"], ["town"]))
        coasts["b1"].agree(coasts["b1"].treaty([coasts["a1"]], ["town"], ["town"], rate=(5, 1_000_000)))
        coasts.run(3.0)
        talker, listener = coasts["a1"].person("town"), coasts["b1"].person("town")
        coasts.run(0.5, talker, listener)
        for _ in range(20):
            talker.say("town")
        coasts.run(0.3, talker, listener)
        self.assertLessEqual(len(listener.heard), 10)  # a second's worth twice
        self.assertGreaterEqual(coasts["b1"].rallypoint.house.relay.dropped_limit, 10)
        self.assertEqual(coasts["b1"].federation.errors, {Code.LIMIT: 1})
        self.assertEqual(coasts["b1"].allies(), {"a1"})


class Refusing(Case):
    """Who is not let in, and what is not granted."""

    def test_roles(self) -> None:
        """Theirs come as a federation and nothing else; ours as anything else. Each is told which."""
        coasts = self.coasts("a1", "b1")
        a1, id = coasts["a1"], coasts["b1"].id
        a1.agree(a1.treaty([coasts["b1"]], ["town"], ["town"], dials=False))
        for role in ("client", "peer", "leaf"):
            stranger = a1.stranger(role, of=wire.other_ca(), id=id)
            self.assertEqual(stranger.end().code, Code.ROLE)
            self.assertIn("'federation'", stranger.end().reason)
        for person in (
            a1.stranger("federation", of=wire.ca(), id=id),
            a1.stranger("federation", of=wire.ca()),
        ):
            self.assertEqual(person.end().code, Code.ROLE)
            self.assertIn("our own authority", person.end().reason)
        client = Person(a1, wire.ca().leaf(), "192.0.2.3", 1)  # type: ignore[arg-type]
        a1.arrived(client)
        client.hello(role="federation")
        self.assertEqual(client.end().code, Code.ROLE)
        self.assertEqual((a1.allies(), a1.linked()), (set(), set()))

    def test_not_listed(self) -> None:
        """Another Rallypoint of their authority does not come past the certificate's look."""
        coasts = self.coasts("a1", "b1")
        a1 = coasts["a1"]
        a1.agree(a1.treaty([coasts["b1"]], ["town"], ["town"], dials=False))
        stranger = self._at_the_door(a1, uuid4())
        self.assertEqual(stranger.end().code, Code.IDENTITY)
        self.assertIn("not among those listed", stranger.end().reason)

    def _at_the_door(self, shore: Shore, id: UUID) -> Person:
        """Somebody whom TLS let in by rules that a reload has changed since."""
        credentials = wire.other_ca().leaf("stranger", Role.RALLYPOINT, id)
        before = shore.tls.trust
        shore.tls.swap(shore.credentials, wire.trusting(wire.ca(), wire.other_ca()))
        person = Person(shore, credentials, "192.0.2.2", 1)  # type: ignore[arg-type]
        shore.tls.swap(shore.credentials, before)
        shore.arrived(person)
        person.pull()
        return person

    def test_what_an_ally_may_join(self) -> None:
        """Exactly the listed streams, each in its direction: everything else is denied, naming stream and direction, and the link lives on."""
        coasts = self.coasts("a1", "b1")
        a1, id = coasts["a1"], coasts["b1"].id
        a1.agree(a1.treaty([coasts["b1"]], ["in", "both"], ["out", "both"], dials=False))
        ally = a1.stranger("federation", of=wire.other_ca(), id=id)
        granted = (("both", True, True), ("in", False, True), ("out", True, False), ("in", False, False))
        for stream, listen, talk in granted:
            answer = ally.join(stream, listen=listen, talk=talk, source="any")
            self.assertIsInstance(answer, JoinedReceived, (stream, listen, talk))
        denied = (
            ("in", True, True, "listen"),
            ("out", True, True, "talk"),
            ("in", True, False, "outgoing"),
            ("out", False, True, "incoming"),
            ("other", True, True, "listen"),
            ("other", False, False, "not shared"),
            ("__election_x", True, False, "listen"),
            ("*", True, True, "listen"),
            ("parrot", True, True, "listen"),
        )
        for stream, listen, talk, word in denied:
            answer = ally.join(stream, listen=listen, talk=talk, source="any")
            assert isinstance(answer, ErrorReceived)
            self.assertEqual(answer.error.code, Code.DENIED)
            self.assertIn(f"'{stream}'", answer.error.message)
            self.assertIn(word, answer.error.message)
        self.assertEqual(a1.federation.errors, {Code.DENIED: len(denied)})
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        (row,) = a1.federation.rows(coasts.clock.seconds())
        self.assertEqual((row.incoming, row.outgoing), (("both",), ("both", "out")))

    def test_talking_where_nothing_comes_in(self) -> None:
        """Media on a stream that does not come in is dropped, counted and answered once, whatever its source says."""
        coasts = self.coasts("a1", "b1")
        a1, id = coasts["a1"], coasts["b1"].id
        a1.agree(a1.treaty([coasts["b1"]], [], ["town"], dials=False))
        ally = a1.stranger("federation", of=wire.other_ca(), id=id)
        self.assertIsInstance(ally.join("town", listen=True, talk=False, source="any"), JoinedReceived)
        listener = a1.person("town", "secret")
        for _ in range(3):
            ally.say("town")
            ally.say("secret")
        coasts.run(0.2, ally, listener)
        self.assertEqual(listener.heard, [])
        self.assertEqual(a1.rallypoint.house.relay.dropped_not_joined, 6)
        self.assertEqual(ally.errors(), [Code.NOT_JOINED, Code.NOT_JOINED])

    def test_sources(self) -> None:
        """Names go through unchanged, of whomever; where a link declares one, it is held to it."""
        coasts = self.coasts("a1", "b1")
        a1, id = coasts["a1"], coasts["b1"].id
        a1.agree(a1.treaty([coasts["b1"]], ["town", "one"], [], dials=False))
        ally, listener = a1.stranger("federation", of=wire.other_ca(), id=id), a1.person("town", "one")
        ally.join("town", listen=False, source="any")
        ally.join("one", listen=False, source=7)
        frames = [ally.say("town", source=1), ally.say("town", source=2), ally.say("one", source=7)]
        ally.say("one", source=8)
        coasts.run(0.2, ally, listener)
        self.assertEqual(listener.heard, frames)
        self.assertEqual(ally.errors(), [Code.FOREIGN_SOURCE])

    def test_who_asks_for_ever(self) -> None:
        """An ally that joins and leaves without end does not flood our mesh with it: its link ends."""
        coasts = self.coasts("a1", "b1")
        a1, id = coasts["a1"], coasts["b1"].id
        a1.agree(a1.treaty([coasts["b1"]], ["town"], ["town"], dials=False))
        ally = a1.stranger("federation", of=wire.other_ca(), id=id)
        for _ in range(40):
            ally.session.join("town", source="any")
            ally.session.leave("town")
        ally.talk_over()
        self.assertEqual(ally.end().code, Code.LIMIT)
        self.assertEqual(a1.rallypoint.house.registry.streams, {})

    def test_floods(self) -> None:
        """What belongs to the mesh ends the link; the mesh believes nobody but ours."""
        coasts = self.coasts("a1", "a2", "b1")
        a1, a2 = coasts["a1"], coasts["a2"]
        for shore in (a1, a2):
            shore.agree(shore.treaty([coasts["b1"]], ["town"], ["town"], dials=False))
            shore.plan([a1, a2])
        coasts.run(3.0)
        believer = a1.backbone._believer
        assert believer is not None
        self.assertEqual(believer.trust.foreign, ())
        self.assertEqual(a1.linked(), {"a2"})
        self.assertEqual(len(a1.backbone.mesh.reach()), 1)
        ally = a1.stranger("federation", of=wire.other_ca(), id=coasts["b1"].id)
        ally.send(b"\x00\x09\x12" + bytes(9))
        ally.pull()
        self.assertEqual(ally.end().code, Code.ROLE)
        self.assertEqual(a1.linked(), {"a2"})

    def test_an_unknown_side(self) -> None:
        """Only we have listed them: they do not let us in, both know why, and we call again once a minute and not more."""
        coasts = self.coasts("a1", "b1")
        a1, b1 = coasts["a1"], coasts["b1"]
        a1.agree(a1.treaty([b1], ["town"], ["town"]))
        coasts.run(20.0)
        (row,) = a1.federation.rows(coasts.clock.seconds())
        self.assertEqual((row.state, row.failures), ("waiting", 1))
        self.assertIn("none of the 1 authorities trusted here", row.why)
        self.assertEqual(a1.federation.out.failed, {Code.IDENTITY: 1})

    def test_who_answers_in_their_place(self) -> None:
        """One of our own at their address is no ally."""
        coasts = self.coasts("a1", "a2", "b1")
        a1 = coasts["a1"]
        treaty = a1.treaty([coasts["b1"]], ["town"], ["town"])
        coasts.islands["b1"], coasts.islands["a2"] = coasts.islands["a2"], coasts.islands["b1"]
        a1.agree(treaty)
        coasts.run(2.0)
        self.assertEqual(a1.federation.allies, {})
        self.assertEqual(set(a1.federation.out.failed), {Code.IDENTITY})


class Reloading(Case):
    """Agreements that change while links stand."""

    def setUp(self) -> None:
        self.sea = self.coasts("a1", "b1", "b2")
        self.a1, self.b1, self.b2 = (self.sea[name] for name in ("a1", "b1", "b2"))
        self.sea.federate()
        self.assertEqual(self.a1.allies(), {"b1", "b2"})

    def renew(self, *others: Shore, incoming: tuple[str, ...] = ("town",), **more: object) -> None:
        """Another agreement at a1."""
        self.a1.agree(self.a1.treaty(others or (self.b1, self.b2), incoming, ["town"], **more))  # type: ignore[arg-type]

    def test_nothing_changes(self) -> None:
        """The same again: every link lives on, and so they do with another rate, which holds from then on."""
        before = dict(self.a1.federation.allies)
        self.renew()
        self.renew(rate=(7, 70_000))
        self.sea.run(1.0)
        self.assertEqual(self.a1.federation.allies, before)
        self.assertEqual({ally.subscriber.packets_per_s for ally in before.values()}, {7})

    def test_one_is_listed_no_more(self) -> None:
        """Its link ends with ``refused``; the other lives on."""
        kept = self.a1.federation.allies[self.b2.id]
        ended = [
            (shore, Counter(shore.federation.ended)) for shore in (self.a1, self.b1)
        ]  # calls may have crossed
        self.renew(self.b2)
        self.sea.run(2.0)
        self.assertEqual(self.a1.federation.allies, {self.b2.id: kept})
        for shore, before in ended:
            self.assertEqual(Counter(shore.federation.ended) - before, {Code.REFUSED: 1})

    def test_all_is_over(self) -> None:
        """Without any federation every such link ends, whoever opened it, and people hear nothing more."""
        a, b = self.a1.person("town"), self.b1.person("town")
        self.sea.run(0.5, a, b)
        self.hears(self.sea, a, b)
        self.a1.agree()
        self.sea.run(1.0, a, b)
        self.assertEqual((self.a1.federation.allies, self.a1.federation.rows(0.0)), ({}, []))
        ended = Counter(self.a1.federation.ended)
        del ended[Code.REPLACED]  # calls may have crossed before
        self.assertEqual(ended, {Code.REFUSED: 2})
        self.silence(self.sea, a, b)

    def test_other_streams(self) -> None:
        """Lists that have changed end the links with ``leaving``; new ones stand within a second and go by the new lists."""
        a, b = self.a1.person("town", "news"), self.b1.person("town", "news")
        for shore in (self.b1, self.b2):
            shore.agree(shore.treaty([self.a1], ["town"], ["town", "news"]))
        self.renew(incoming=("town", "news"))
        self.sea.run(2.0, a, b)
        self.assertEqual(self.a1.allies(), {"b1", "b2"})
        for shore in (self.a1, self.b1):  # calls may have crossed
            self.assertEqual(set(shore.federation.ended) - {Code.REPLACED}, {Code.LEAVING})
        self.hears(self.sea, b, a, stream="news")
        self.hears(self.sea, a, b)

    def test_revoked(self) -> None:
        """One that is on their list now is ended with ``revoked``, and not let in again."""
        self.renew(revoked=[self.b1])
        self.sea.run(10.0)
        self.assertEqual(self.a1.allies(), {"b2"})
        self.assertIn(Code.REVOKED, self.a1.federation.ended)

    def test_an_authority_becomes_ours(self) -> None:
        """A foreign authority that is one of ours from now on: its Rallypoints are no allies any more."""
        both = wire.trusting(wire.ca(), wire.other_ca())
        self.a1.rallypoint.reload(self.a1.rallypoint.house.settings, self.a1.credentials, both)
        self.a1.rallypoint.federate(())
        self.sea.run(1.0)
        self.assertEqual(self.a1.federation.allies, {})

    def test_death_and_return(self) -> None:
        """Silence is noticed by the alive rule, a reset at once; both ends know, and the link is back when the way is."""
        a, b = self.a1.person("town"), self.b1.person("town")
        for silent in (False, True):
            self.sea.cut("a1", "b1", silent=silent)
            self.sea.run(8.0, a, b)
            self.assertEqual((self.a1.allies(), self.b1.allies()), ({"b2"}, set()))
            self.sea.cuts.clear()
            self.sea.run(20.0, a, b)
            self.assertEqual((self.a1.allies(), self.b1.allies()), ({"b1", "b2"}, {"a1"}))
            self.hears(self.sea, a, b)

    def test_stopping(self) -> None:
        """A Rallypoint that stops ends its federated links with ``draining``, after its people."""
        a, b = self.a1.person("town"), self.b1.person("town")
        self.sea.run(0.5, a, b)
        said = a.say("town")
        stopped = self.a1.rallypoint.stopService()
        self.sea.run(3.0, b)
        self.assertTrue(stopped.called)
        self.assertEqual(b.heard, [said])
        self.assertEqual(Counter(self.b1.federation.ended)[Code.DRAINING], 1)


class Telling(Case):
    """What people are shown."""

    def test_rows(self) -> None:
        """Linked, waiting for a call, and calling in vain: each with its reason."""
        coasts = self.coasts("a1", "b1", "b2", "b3")
        a1, b1 = coasts["a1"], coasts["b1"]
        dialled = a1.treaty([b1, coasts["b2"]], ["town"], ["town"])
        called = a1.treaty([coasts["b3"]], ["town"], ["town"], dials=False)
        b1.agree(b1.treaty([a1], ["town"], ["town"], dials=False))
        coasts.islands["b2"].rallypoint._ports.clear()
        isles = Foreign("isles", called.foreign.authorities, called.foreign.ids)
        a1.agree(dialled, type(called)(isles, called.peers, called.incoming, called.outgoing, *called.rate))
        coasts.run(3.0)
        talker, listener = a1.person("town"), b1.person("town")
        self.hears(coasts, talker, listener)
        rows = a1.federation.rows(coasts.clock.seconds())
        self.assertEqual(
            [(r.federation, r.id) for r in rows],
            [("abroad", b1.id), ("abroad", coasts["b2"].id), ("isles", coasts["b3"].id)],
        )
        linked, vain, waiting = rows
        self.assertEqual(
            (linked.state, linked.name, linked.address, linked.inbound), ("linked", "b1", "b1:7443", False)
        )
        self.assertEqual((linked.incoming, linked.outgoing, linked.refused), (("town",), ("town",), ()))
        self.assertEqual((linked.sent, linked.received), (5, 0))
        self.assertGreater(vain.failures, 1)
        self.assertIn("refused", vain.why)
        self.assertEqual(
            (waiting.state, waiting.why), ("waiting", "it is to call us: no address is configured")
        )
        self.assertEqual(a1.federation.media_passed()["sent"], 5)
        (there,) = b1.federation.rows(coasts.clock.seconds())
        self.assertEqual(
            (there.inbound, there.incoming, there.outgoing, there.received), (True, ("town",), ("town",), 5)
        )

    def test_status_and_metrics(self) -> None:
        """Status and figures tell the same, as JSON and without names of foreign make in labels."""
        coasts = self.coasts("a1", "b1", "b2")
        coasts.federate(outgoing=("town", "calls"))
        a1 = coasts["a1"]
        metrics = Metrics(process=False)
        add_metrics(metrics, a1.rallypoint)
        talker, listener = a1.person("town"), coasts["b1"].person("town")
        coasts.run(0.5, talker, listener)
        self.hears(coasts, talker, listener)
        coasts.cut("a1", "b2")
        coasts.run(1.0, talker, listener)
        told = json.loads(json.dumps(status_of(a1.rallypoint)))["federations"]
        self.assertEqual(
            [(each["name"], each["state"]) for each in told], [("b1", "linked"), ("", "waiting")]
        )
        self.assertEqual((told[0]["incoming"], told[0]["outgoing"]), (["town"], ["calls", "town"]))
        self.assertEqual((told[0]["id"], told[0]["sent"], told[0]["refused"]), (str(coasts["b1"].id), 5, []))
        self.assertEqual(told[0]["direction"] == "inbound", a1.federation.allies[coasts["b1"].id].inbound)
        self.assertTrue(told[1]["why"])
        page = metrics.render().decode()
        for line in (
            'ice_rallypoint_federation_links{state="linked"} 1.0',
            'ice_rallypoint_federation_links{state="waiting"} 1.0',
            'ice_rallypoint_federation_streams{direction="incoming"} 1.0',
            'ice_rallypoint_federation_streams{direction="outgoing"} 2.0',
            "ice_rallypoint_federation_media_sent_total 10.0",
            'ice_rallypoint_federation_links_ended_total{code="lost"} 1.0',
            "ice_metric_errors_total 0.0",
        ):
            self.assertIn(line + "\n", page)

    def test_counts_outlive_links(self) -> None:
        """What passed on links that are gone is still told."""
        coasts = self.coasts("a1", "b1")
        coasts.federate()
        talker, listener = coasts["a1"].person("town"), coasts["b1"].person("town")
        coasts.run(0.5, talker, listener)
        self.hears(coasts, talker, listener)
        coasts.cut("a1", "b1")
        coasts.run(1.0, talker, listener)
        self.assertEqual(coasts["a1"].federation.media_passed()["sent"], 5)
        self.assertEqual(coasts["b1"].federation.media_passed()["received"], 5)

    def test_codes(self) -> None:
        """A far side's inventions are counted as one."""
        self.assertEqual(known_code("revoked"), "revoked")
        self.assertEqual(known_code(f"told-{Reason.NOT_LISTED}"), "told-not-listed")
        self.assertEqual(known_code("because"), "other")


class Agreeing(SynchronousTestCase):
    """From the configuration."""

    def test_treaties(self) -> None:
        """A table and the authority read for it become a treaty; our own UUID in it is refused."""
        id = uuid4()
        settings = FederationSettings(
            name="coast",
            authority=("x.pem",),
            incoming=("a",),
            outgoing=("b",),
            rallypoints=(AllySettings(id=id),),
        )
        foreign = Foreign("coast", (wire.other_ca().certificate,), frozenset({id}))
        trust = Trust((wire.ca().certificate,), foreign=(foreign,))
        (treaty,) = treaties_of([settings], trust, uuid4())
        self.assertEqual((treaty.name, treaty.incoming, treaty.outgoing), ("coast", {"a"}, {"b"}))
        self.assertEqual((set(treaty.peers), treaty.rate), ({id}, (20_000, 20_000_000)))
        self.assertIn("own UUID", str(self.assertRaises(LocalError, treaties_of, [settings], trust, id)))
