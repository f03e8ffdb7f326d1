"""Several Rallypoints, linked: what people at one hear of people at another."""

from itertools import combinations
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.config.groups import RoundTripRule
from ice.link.event import JoinedReceived
from ice.link.frame import Flag
from ice.link.message import Code
from ice.net.addresses import Address
from ice.rallypoint.peering import Expected, Plan
from tests.unit.rallypoint.sea import Sea
from tests.unit.rallypoint.stage import Person


class BackboneTests(SynchronousTestCase):
    """A mesh of whole Rallypoints, less the sockets."""

    def sea(self, *names: str, **more: object) -> Sea:
        """Rallypoints of these names, linked each with each."""
        sea = Sea(*names, **more)  # type: ignore[arg-type]
        self.addCleanup(sea.stop)
        sea.mesh()
        return sea

    def hears(
        self, sea: Sea, talker: Person, *listeners: Person, stream: str = "town", count: int = 5
    ) -> None:
        """Each listener hears what the talker says now, each frame once and in order, and the talker hears nothing."""
        before = [len(each.heard) for each in listeners]
        own = len(talker.heard)
        said = []
        for _ in range(count):
            said.append(talker.say(stream))
            sea.run(0.02, talker, *listeners)
        sea.run(0.2, talker, *listeners)
        for each, at in zip(listeners, before, strict=True):
            self.assertEqual(each.heard[at:], said)
        self.assertEqual(len(talker.heard), own)

    def test_one_link_per_pair_whoever_calls(self) -> None:
        """All call all; in the end there is one link for each pair, and both ends know it."""
        sea = self.sea("a", "b", "c", "d", "e")
        for one, other in combinations(sea.islands, 2):
            self.assertIn(other, sea[one].linked())
            self.assertIn(one, sea[other].linked())
            here = sea[one].backbone.fars[sea[other].id]
            there = sea[other].backbone.fars[sea[one].id]
            self.assertNotEqual(here.inbound, there.inbound)
        for island in sea.islands.values():
            self.assertEqual(len(list(island.backbone.mesh.neighbours)), 4)

    def test_people_hear_each_other_everywhere(self) -> None:
        """Byte for byte, each frame once, at every Rallypoint, and not the one who talks."""
        sea = self.sea("a", "b", "c")
        people = [sea[name].person("town") for name in sea.islands]
        sea.run(0.5, *people)
        for talker in people:
            self.hears(sea, talker, *(each for each in people if each is not talker))
        for island in sea.islands.values():
            counts = island.backbone.mesh.counts
            self.assertEqual((counts.duplicate, counts.hops, counts.own_origin), (0, 0, 0))

    def test_nobody_is_bothered_with_what_nobody_wants(self) -> None:
        """A Rallypoint without listeners gets nothing."""
        sea = self.sea("a", "b", "c")
        talker, listener = sea["a"].person("town"), sea["b"].person("town")
        sea.run(0.5, talker, listener)
        self.hears(sea, talker, listener)
        self.assertEqual(sea["c"].rallypoint.house.relay.relays_received, 0)

    def test_who_is_joined_hears_the_first_syllable(self) -> None:
        """JOINED is held until the neighbours know; a word said right behind it, elsewhere, is heard."""
        sea = self.sea("a", "b", delay_s=0.05)
        talker = sea["a"].person("town")
        sea.run(0.5, talker)
        listener = sea["b"].person()
        listener.session.join("town", source=listener.source)
        listener.talk_over()
        self.assertFalse(any(isinstance(event, JoinedReceived) for event in listener.events))
        while not any(isinstance(event, JoinedReceived) for event in listener.events):
            sea.run(0.02, listener)
        frame = talker.say("town")
        sea.run(0.3, talker, listener)
        self.assertEqual(listener.heard, [frame])

    def test_joined_is_not_held_for_ever(self) -> None:
        """A neighbour that does not answer delays JOINED by 250 ms."""
        sea = self.sea("a", "b")
        sea.cut("a", "b", silent=True)
        listener = sea["b"].person()
        listener.session.join("town", source=listener.source)
        listener.talk_over()
        sea.run(0.2, listener)
        self.assertFalse(any(isinstance(event, JoinedReceived) for event in listener.events))
        sea.run(0.1, listener)
        self.assertTrue(any(isinstance(event, JoinedReceived) for event in listener.events))

    def test_alone_there_is_nobody_to_wait_for(self) -> None:
        """With groups, and nobody linked, JOINED comes in the same moment."""
        sea = Sea("a", "b")
        self.addCleanup(sea.stop)
        sea["a"].plan([sea["b"]])
        sea["b"].die()
        sea.run(0.1)
        listener = sea["a"].person()
        listener.session.join("town", source=listener.source)
        listener.talk_over()
        sea.run(0.02, listener)
        self.assertTrue(any(isinstance(event, JoinedReceived) for event in listener.events))

    def test_a_broken_link_is_gone_round(self) -> None:
        """The link between two is reset: the third carries what they say, and nothing is doubled."""
        sea = self.sea("a", "b", "c")
        talker, listener, third = (sea[name].person("town") for name in "abc")
        sea.run(0.5, talker, listener, third)
        self.hears(sea, talker, listener, third)
        sea.cut("a", "b")
        sea.run(0.1, talker, listener, third)
        self.hears(sea, talker, listener, third, count=50)
        self.assertEqual(sea["a"].linked(), {"c"})

    def test_a_silent_link_is_gone_round(self) -> None:
        """The link falls silent: it is noticed by the alive rule during a burst, and then gone round."""
        sea = self.sea("a", "b", "c")
        talker, listener = sea["a"].person("town"), sea["b"].person("town")
        sea.run(0.5, talker, listener)
        self.hears(sea, talker, listener)
        sea.cut("a", "b", silent=True)
        for _ in range(130):  # a burst of 2.6 s: the alive rule, and 100 ms
            talker.say("town")
            sea.run(0.02, talker, listener)
        sea.run(0.1, talker, listener)
        self.hears(sea, talker, listener, count=10)

    def test_a_killed_rallypoint_comes_back_as_another_life(self) -> None:
        """It is linked again, and what its people say is heard."""
        sea = self.sea("a", "b", "c")
        listener = sea["a"].person("town")
        sea["b"].die()
        sea.run(1.0, listener)
        self.assertEqual(sea["a"].linked(), {"c"})
        sea["b"].boot()
        sea["b"].rallypoint.startService()
        sea["b"].plan(list(sea.islands.values()))
        sea.run(5.0, listener)
        self.assertEqual(sea["a"].linked(), {"b", "c"})
        talker = sea["b"].person("town")
        sea.run(0.5, talker, listener)
        self.hears(sea, talker, listener)

    def test_a_leaf_carries_nothing_of_others(self) -> None:
        """Two that can only meet over a leaf do not hear each other; both hear the leaf, and it hears them."""
        sea = Sea("a", "b", "leaf")
        self.addCleanup(sea.stop)
        sea.cuts.add(frozenset("ab"))
        sea.mesh()
        a, b, leaf = (sea[name].person("town") for name in ("a", "b", "leaf"))
        sea.run(0.5, a, b, leaf)
        self.hears(sea, leaf, a, b)
        before = len(b.heard)
        self.hears(sea, a, leaf)
        self.assertEqual(len(b.heard), before)

    def test_protected_frames_are_flooded(self) -> None:
        """A protected frame comes by every way, and is heard once."""
        sea = self.sea("a", "b", "c", "d")
        talker, listener = sea["a"].person("town"), sea["b"].person("town")
        sea.run(0.5, talker, listener)
        frame = talker.say("town", flags=Flag.PROTECTED)
        sea.run(0.3, talker, listener)
        self.assertEqual(listener.heard, [frame])
        self.assertGreater(sea["b"].backbone.mesh.counts.duplicate, 0)

    def test_a_talker_on_two_rallypoints_is_heard_once(self) -> None:
        """The same datagrams by two links to two Rallypoints: everybody hears each once, whichever copy is first."""
        sea = self.sea("a", "b", "c")
        listener = sea["c"].person("town")
        one, two = sea["a"].person(), sea["b"].person()
        two.credentials, two.source = one.credentials, one.source
        for each in (one, two):
            each.session.join("town", source="any" if each is two else one.source, listen=False)
            each.talk_over()
        sea.run(0.5, one, two, listener)
        frames = [one.frame("town") for _ in range(6)]
        for at, frame in enumerate(frames):
            one.send(frame)
            sea.run(0.02 * (at % 3), one, two, listener)
        sea.run(0.3, one, two, listener)
        self.assertEqual(listener.heard, frames)

    def test_a_stranger_is_refused_and_told_why(self) -> None:
        """A Rallypoint that only one side has listed: no link, a reason on both sides, and no storm of calls."""
        sea = Sea("a", "b")
        self.addCleanup(sea.stop)
        sea["a"].plan([sea["b"]])
        sea["b"].plan([])
        sea["b"].rallypoint.mesh(Plan(peers={UUID(int=9): Expected(UUID(int=9))}))
        sea.run(10.0)
        self.assertEqual(sea["a"].linked(), set())
        (row,) = sea["a"].backbone.rows(sea.clock.seconds())
        self.assertIn("no group here has the member", row.why)
        self.assertEqual(sea["b"].backbone.refused, {"not-listed": 1})

    def test_our_own_address_in_the_list(self) -> None:
        """Dialling a member leads back here: it is named, and not tried at once again."""
        sea = Sea("a", "b")
        self.addCleanup(sea.stop)
        id = sea["b"].id
        sea["a"].rallypoint.mesh(Plan(peers={id: Expected(id, Address("a", 7443))}))
        sea.run(5.0)
        (row,) = sea["a"].backbone.rows(sea.clock.seconds())
        self.assertIn("own", row.why)
        self.assertEqual(row.failures, 1)

    def test_a_client_cannot_pose_as_a_rallypoint(self) -> None:
        """The role is in the certificate."""
        sea = self.sea("a", "b")
        person = sea["a"].person()
        other = Person(sea["a"], person.credentials, "192.0.2.1", 1)  # type: ignore[arg-type]
        sea["a"].arrived(other)
        other.hello(role="peer")
        self.assertEqual(other.end().code, Code.ROLE)

    def test_clients_are_sent_to_different_neighbours(self) -> None:
        """Virtual ways in stand first for all; the members behind them in an order for each."""
        sea = self.sea("a", "b", "c", "d", "e")
        house = sea["a"].house
        vip = Address("vip", 7443)
        members = tuple(Address(name, 7443) for name in "bcde")
        house.backbone.plan = Plan(peers=house.backbone.plan.peers, alternatives=(vip, *members), virtual=1)
        told = [house.alternatives for _ in range(50)]
        self.assertEqual({each[0] for each in told}, {"vip:7443"})
        self.assertEqual({each[1] for each in told}, set(map(str, members)))
        self.assertTrue(all(sorted(each) == sorted(told[0]) for each in told))

    def test_members_come_and_go(self) -> None:
        """A changed plan ends the link with whoever left it, and only that one."""
        sea = self.sea("a", "b", "c")
        kept = sea["a"].backbone.fars[sea["b"].id]
        sea["a"].plan([sea["b"]])
        sea.run(1.0)
        self.assertEqual(sea["a"].linked(), {"b"})
        self.assertIs(sea["a"].backbone.fars[sea["b"].id], kept)
        sea["a"].plan(list(sea.islands.values()))
        sea.run(5.0)
        self.assertEqual(sea["a"].linked(), {"b", "c"})
        self.assertIs(sea["a"].backbone.fars[sea["b"].id], kept)

    def test_a_stopping_rallypoint_is_gone_round(self) -> None:
        """It says so to the others before its links end; people elsewhere lose nothing."""
        sea = self.sea("a", "b", "c")
        sea.cut("a", "c")
        talker, listener = sea["a"].person("town"), sea["c"].person("town")
        sea.run(1.0, talker, listener)
        self.hears(sea, talker, listener)  # over b
        sea.cuts.clear()
        sea.run(20.0, talker, listener)
        stopped = sea["b"].rallypoint.stopService()
        self.hears(sea, talker, listener, count=100)
        self.assertTrue(stopped.called)
        self.assertEqual(sea["a"].linked(), {"c"})

    def test_a_slow_link_is_dropped_where_that_is_asked_for(self) -> None:
        """A rule of the configuration ends links with a long round trip."""
        sea = self.sea("a", "b", delay_s=0.2)
        backbone = sea["a"].backbone
        self.assertEqual(sea["a"].linked(), {"b"})
        backbone._round_trip = (RoundTripRule(at_or_above_ms=300, action="drop"),)
        sea.run(12.0)
        self.assertGreaterEqual(backbone.ended.get(Code.REFUSED, 0), 1)

    def test_the_end_of_people_is_told(self) -> None:
        """When the last listener of a Rallypoint leaves, it is sent nothing more."""
        sea = self.sea("a", "b")
        talker, listener = sea["a"].person("town"), sea["b"].person("town")
        sea.run(0.5, talker, listener)
        self.hears(sea, talker, listener)
        listener.wire.abortConnection()
        sea.run(2.0, talker)
        before = sea["b"].rallypoint.house.relay.relays_received
        talker.say("town")
        sea.run(0.5, talker)
        self.assertEqual(sea["b"].rallypoint.house.relay.relays_received, before)
