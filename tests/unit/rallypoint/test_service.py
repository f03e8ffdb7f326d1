"""A whole Rallypoint with people at it: joins, talk, refusals, reload and the orderly stop."""

from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from ice.config.schema import AccessRule
from ice.errors import IceError
from ice.link.event import JoinedReceived, Opened
from ice.link.frame import Flag, FrameType, control, media
from ice.link.message import Code
from ice.link.naming import new_source, stream_key
from ice.net.addresses import Address
from ice.net.ports import PortTaken
from ice.rallypoint import service
from ice.security.certificates import Role
from tests.unit.rallypoint.stage import Person, Stage, rules
from tests.unit.security import wire


class Case(SynchronousTestCase):
    """With a stage that leaves nothing behind."""

    def stage(self, **settings: Any) -> Stage:
        """A Rallypoint, stopped when the test is over."""
        stage = Stage(**settings)
        self.addCleanup(self.over, stage)
        return stage

    def over(self, stage: Stage) -> None:
        """Stop it and see that nothing is scheduled and nobody counted."""
        if stage.rallypoint.running:
            stage.rallypoint.stopService()
        stage.clock.pump([0.5] * 8)
        self.assertEqual([str(call) for call in stage.clock.getDelayedCalls()], [])
        admission = stage.house.admission
        self.assertEqual((admission.shaking, admission.linked, admission.waiting), (0, 0, 0))
        self.assertEqual((stage.house.registry.streams, stage.house.guests), ({}, set()))
        self.flushLoggedErrors()


class TalkTests(Case):
    def test_two_people_hear_each_other(self) -> None:
        """Byte for byte, and not themselves."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        said = [alice.say("room"), alice.say("room")]
        answer = bob.say("room", b"roger")
        alice.pull(), bob.pull()
        self.assertEqual((bob.heard, alice.heard), (said, [answer]))

    def test_who_has_left_hears_nothing(self) -> None:
        """And its frames are not passed on; it is told once."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        bob.session.leave("room")
        bob.talk_over()
        alice.say("room")
        bob.say("room")
        bob.say("room")
        alice.pull(), bob.pull()
        self.assertEqual((alice.heard, bob.heard, bob.errors()), ([], [], ["not-joined"]))

    def test_who_is_gone_takes_its_streams_along(self) -> None:
        """The next frame reaches nobody, and nobody minds."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        bob.wire.lost(OSError("cable"))
        alice.say("room")
        self.assertEqual(stage.house.relay.copies_delivered, 0)
        self.assertEqual(stage.house.ended, {"lost": 1})

    def test_welcome_says_what_holds_here(self) -> None:
        """Name, alternatives, keep-alive and limits."""
        stage = self.stage(name="north", keepalive_s=7.0, alternatives=(Address("vip.example.org", 7443),))
        opened = stage.knock().hello()[0]
        assert isinstance(opened, Opened)
        welcome = opened.welcome
        self.assertEqual((welcome.name, welcome.keepalive), ("north", 7.0))
        self.assertEqual(welcome.alternatives, ["vip.example.org:7443"])
        self.assertEqual(welcome.limits.packets_per_s, 2_000)
        self.assertEqual(welcome.id, str(stage.house.identity.id))

    def test_a_listener_that_cannot_be_written_to_is_ended(self) -> None:
        """The others hear everything; the broken link goes at the next pulse."""
        stage = self.stage()
        alice = stage.guest(None, "room")
        bad, bob = stage.guest(wire.ca().leaf("bad"), "room"), stage.guest(wire.ca().leaf("bob"), "room")
        bad.wire.broken = RuntimeError("broken")
        alice.say("room")
        bob.pull()
        self.assertEqual(len(bob.heard), 1)
        stage.clock.advance(0.1)
        self.assertTrue(bad.wire.ended)
        self.assertEqual(stage.house.relay.recipients_failed, 1)

    def test_a_silent_link_is_ended(self) -> None:
        """Keep-alive, then 1.5 s; who answers lives."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        stage.pass_time(8.0, bob)
        alice.pull()
        self.assertEqual((alice.end().code, bob.wire.ended), ("idle", False))

    def test_the_rate_comes_back(self) -> None:
        """What is over the limit is dropped and told; a second later one may talk again."""
        stage = self.stage(limits={"packets_per_s": 5})
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        for _ in range(8):
            alice.say("room")
        stage.pass_time(1.0, alice, bob)
        alice.say("room")
        bob.pull()
        self.assertEqual((len(bob.heard), alice.errors()), (6, ["limit"]))
        self.assertEqual(stage.house.errors, {"limit": 1})

    def test_thousands_of_links_are_seen_to_a_few_at_a_time(self) -> None:
        """Each has its turn all the same."""
        self.patch(service, "MOST_DUE", 2)
        stage = self.stage()
        people = [stage.guest(wire.ca().leaf(f"p{n}"), "room") for n in range(5)]
        stage.pass_time(5.9, step_s=0.05)
        self.assertEqual([b"\x00\x08\x06" in person.wire.value() for person in people], [True] * 5)


class JoinTests(Case):
    def test_wrong_wishes_are_told(self) -> None:
        """Each with its code and the transaction that it answers; the link lives on."""
        stage = self.stage(limits={"joins": 3, "streams": 3})
        alice = stage.guest(None, "one")
        foreign = new_source(uuid4())
        for stream, wishes, code in [
            ("__election_1", {}, Code.DENIED),
            ("two", {"source": foreign}, Code.FOREIGN_SOURCE),
            ("two", {"source": "any"}, Code.FOREIGN_SOURCE),
        ]:
            answer = alice.join(stream, **wishes)
            self.assertEqual(answer.error.code, code)
            self.assertEqual(answer.error.txn, alice.session._next_txn - 1)
        alice.join("two"), alice.join("three")
        self.assertIn("3 streams joined on one link", alice.join("four").error.message)
        self.assertIsInstance(alice.join("three", talk=False), JoinedReceived)
        bob = stage.guest(wire.ca().leaf("bob"))
        self.assertIn("3 streams in this Rallypoint", bob.join("four").error.message)
        self.assertIsInstance(bob.join("three"), JoinedReceived)

    def test_a_satellite_carries_others(self) -> None:
        """Source any, and reserved streams."""
        stage = self.stage()
        patch = stage.guest(wire.ca().leaf("patch", Role.SATELLITE), "__election_1", "room", source="any")
        bob = stage.guest(wire.ca().leaf("bob"), "room")
        patch.say("room", source=17)
        patch.say("room", source=18)
        bob.pull()
        self.assertEqual(len(bob.heard), 2)

    def test_an_operator_is_a_client(self) -> None:
        """Admitted as a person is, with a person's rights: own source, no reserved streams, access by name."""
        stage = self.stage()
        desk = stage.guest(wire.ca().leaf("desk", Role.OPERATOR), "room")
        bob = stage.guest(wire.ca().leaf("bob"), "room")
        desk.say("room")
        bob.pull()
        self.assertEqual(len(bob.heard), 1)
        self.assertEqual(desk.join("__election_1").error.code, Code.DENIED)
        self.assertEqual(desk.join("other", source="any").error.code, Code.FOREIGN_SOURCE)

    def test_a_colliding_key_is_refused(self) -> None:
        """Told to the second; the first goes on."""
        stage = self.stage()
        stage.guest(None, "room")
        stage.house.registry.streams[stream_key("room")].id = "another id of the same key"
        answer = stage.guest(wire.ca().leaf("bob")).join("room")
        self.assertEqual(answer.error.code, Code.KEY_COLLISION)

    def test_a_flood_of_joins_ends_the_link(self) -> None:
        """First told to ask more slowly, then ended; a first round of everything is welcome."""
        stage = self.stage(limits={"joins": 20})
        alice = stage.guest(None, *(f"s{n}" for n in range(20)))
        for _ in range(200):
            for _ in range(10):
                alice.session.join("s1")
            alice.talk_over()
            if alice.wire.ended:
                break
        self.assertEqual(alice.end().code, "limit")
        self.assertEqual(set(alice.errors()), {"limit"})
        self.assertLess(stage.house.errors["limit"], 1_002)

    def test_joining_in_peace_is_never_refused(self) -> None:
        """Ten a second for a minute."""
        stage = self.stage(limits={"joins": 5})
        alice = stage.guest(None)
        for n in range(100):
            alice.join(f"s{n % 5}")
            stage.pass_time(0.1, alice)
        self.assertEqual(alice.errors(), [])


class ComingTests(Case):
    def test_hello_must_name_the_certificate(self) -> None:
        """BYE identity, before anything else."""
        alice = self.stage().knock()
        alice.hello(id=str(uuid4()))
        self.assertEqual(alice.end().code, "identity")

    def test_peers_are_not_configured_here(self) -> None:
        """BYE role for each role but client."""
        stage = self.stage()
        for role in ("peer", "leaf", "federation"):
            person = stage.knock()
            person.hello(role=role)
            self.assertEqual(person.end().code, "role", role)
        stage.clock.advance(1.5)
        self.assertEqual(stage.house.ended, {"role": 3})

    def test_without_alpn_there_is_no_link(self) -> None:
        """BYE alpn after the handshake."""
        stage = self.stage()
        person = Person(stage, wire.alice(), "192.0.2.1", 1)
        person.wire.negotiatedProtocol = None
        stage.arrived(person)
        person.pull()
        self.assertEqual(person.end().code, "alpn")

    def test_too_many_links_of_one_identity(self) -> None:
        """BYE limit, and room again when one is gone."""
        stage = self.stage(limits={"links_per_identity": 2})
        first, _ = stage.guest(), stage.guest()
        third = stage.knock()
        third.hello()
        self.assertEqual(third.end().code, "limit")
        first.session.end(Code.LEAVING, "done")
        first.push()
        stage.guest()
        self.assertEqual(stage.house.admission.refused, {"links-per-identity": 1})

    def test_a_crowd_beyond_the_limits_is_dropped_unread(self) -> None:
        """Before TLS costs anything; the others come in."""
        stage = self.stage(limits={"handshakes_per_address": 3})
        silent = [stage.knock(shakes_hands=False) for _ in range(5)]
        self.assertEqual([p.dropped for p in silent], [False] * 3 + [True] * 2)
        self.assertEqual([p.begun for p in silent], [True] * 3 + [False] * 2)
        stage.guest(host="192.0.2.2")
        stage.clock.advance(0.1)
        stage.clock.pump([0.5] * 21)
        self.assertTrue(all(p.wire.ended for p in silent[:3]))
        self.assertEqual(stage.house.admission.refused, {"handshakes-per-address": 2, "handshake-late": 3})
        self.assertEqual(stage.house.handshakes_failed, {})

    def test_one_deadline_for_tls_and_hello(self) -> None:
        """Who shakes hands late has less time for HELLO; a byte a second does not help."""
        stage = self.stage(limits={"handshake_s": 4.0})
        person = stage.knock(shakes_hands=False)
        stage.pass_time(3.0)
        person.wire.protocol.handshakeCompleted()
        for byte in control(FrameType.HELLO, b'{"version"')[:12]:
            if person.wire.ended or person.wire.disconnecting:
                break
            person.send(bytes([byte]))
            stage.pass_time(0.2)
        person.pull()
        self.assertEqual(person.end().code, "idle")
        self.assertLess(stage.clock.seconds() - 1_000, 4.5)
        self.assertEqual(stage.house.admission.refused, {"handshake-late": 1})

    def test_who_must_wait_comes_in_later(self) -> None:
        """In order, and nothing was begun for it before."""
        stage = self.stage(limits={"handshakes": 1})
        first, second = stage.knock(), stage.knock(wire.ca().leaf("bob"))
        stage.clock.advance(0.1)
        self.assertEqual((first.begun, second.begun), (True, False))
        first.hello()
        stage.clock.advance(0.1)
        self.assertTrue(second.begun)
        self.assertIsInstance(second.hello()[-1], Opened)

    def test_who_waits_too_long_is_dropped(self) -> None:
        """Its place in the waiting room is free again."""
        stage = self.stage(limits={"handshakes": 1, "handshake_s": 2.0})
        stage.knock(shakes_hands=False)
        stage.clock.advance(1.0)
        late = stage.knock()
        stage.knock(shakes_hands=False)
        stage.pass_time(2.2)
        self.assertTrue(late.begun or late.dropped)

    def test_a_busy_cpu_is_measured(self) -> None:
        """It delays, and the status says so; flat out for long, newcomers are refused."""
        stage = self.stage()
        for _ in range(100):
            stage.cpu_s += 0.1
            stage.clock.advance(0.1)
        self.assertIn("percent used", stage.rallypoint.ready() or "")
        self.assertTrue(stage.knock().dropped)

    def test_a_failed_handshake_is_explained_and_counted(self) -> None:
        """By reason, in the log once per address."""
        stage = self.stage()
        for _ in range(3):
            person = stage.knock(shakes_hands=False)
            person.wire.lost(OSError("reset"))
        self.assertEqual(stage.house.handshakes_failed, {"told-closed": 3})
        self.assertEqual(stage.house.admission.shaking, 0)

    def test_a_certificate_revoked_while_it_shook_hands(self) -> None:
        """The rules of now hold, not those of the beginning."""
        stage = self.stage()
        person = stage.knock(shakes_hands=False)
        trust = wire.trusting(revocations=(wire.ca().revoking(wire.alice()),))
        stage.rallypoint.reload(stage.settings, wire.rally(), trust)
        person.wire.protocol.handshakeCompleted()
        person.pull()
        self.assertEqual(person.end().code, "revoked")


class ParrotTests(Case):
    def test_one_hears_oneself_and_nobody_else_does(self) -> None:
        """The burst comes back with its spacing, under a source of the Rallypoint's."""
        stage = self.stage()
        alice, bob = stage.guest(None, "parrot"), stage.guest(wire.ca().leaf("bob"), "parrot")
        for n in range(5):
            alice.say("parrot", b"%d" % n, flags=Flag.LAST if n == 4 else 0)
            stage.pass_time(0.02, step_s=0.02)
        stage.pass_time(0.2, step_s=0.01)
        alice.pull(), bob.pull()
        self.assertEqual([frame[24:] for frame in alice.heard], [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual((alice.sequences(), bob.heard), ([0, 1, 2, 3, 4], []))

    def test_who_leaves_is_not_played_to(self) -> None:
        """Nor who stops listening."""
        stage = self.stage()
        alice, bob = stage.guest(None, "parrot"), stage.guest(wire.ca().leaf("bob"), "parrot")
        alice.say("parrot")
        bob.say("parrot")
        alice.session.leave("parrot")
        bob.session.join("parrot", listen=False, source=bob.source)
        alice.talk_over(), bob.talk_over()
        stage.pass_time(1.0, alice, bob)
        self.assertEqual((alice.heard, bob.heard), ([], []))

    def test_it_can_be_off(self) -> None:
        """Then the stream is like any other."""
        stage = self.stage(parrot="")
        alice, bob = stage.guest(None, "parrot"), stage.guest(wire.ca().leaf("bob"), "parrot")
        alice.say("parrot")
        bob.pull()
        self.assertEqual(len(bob.heard), 1)


class ReloadTests(Case):
    def test_links_that_are_still_admitted_live_on(self) -> None:
        """With the new limits; new connections see the new certificate."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        renewed = wire.ca().leaf("rally", Role.RALLYPOINT, id=stage.house.identity.id)
        ended = stage.rallypoint.reload(rules(limits={"packets_per_s": 1}), renewed, wire.trusting())
        self.assertEqual((ended, stage.tls.credentials), (0, renewed))
        alice.say("room"), alice.say("room")
        bob.pull(), alice.pull()
        self.assertEqual((len(bob.heard), alice.errors()), (1, ["limit"]))

    def test_the_revoked_are_told_and_ended(self) -> None:
        """Nobody else is."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        trust = wire.trusting(revocations=(wire.ca().revoking(wire.alice()),))
        self.assertEqual(stage.rallypoint.reload(stage.settings, wire.rally(), trust), 1)
        alice.pull()
        self.assertEqual((alice.end().code, bob.wire.disconnecting), ("revoked", False))

    def test_an_authority_that_is_trusted_no_more(self) -> None:
        """Its people are ended; a Rallypoint of no trusted authority is refused, and nothing changes."""
        stage = self.stage()
        alice = stage.guest()
        both = wire.trusting(wire.other_ca())
        with self.assertRaises(IceError):
            stage.rallypoint.reload(stage.settings, wire.rally(), both)
        self.assertEqual((stage.tls.trust, alice.wire.disconnecting), (wire.trusting(), False))
        new = wire.other_ca().leaf("rally", Role.RALLYPOINT)
        self.assertEqual(stage.rallypoint.reload(stage.settings, new, both), 1)
        alice.pull()
        self.assertEqual(alice.end().code, "identity")

    def test_streams_that_are_no_longer_allowed_are_left(self) -> None:
        """Told by ERROR denied; what is still allowed stays, also when it is only half of it."""
        stage = self.stage()
        alice = stage.guest(None, "ops", "room", "lobby")
        bob = stage.guest(wire.ca().leaf("bob"), "ops", "room", "lobby")
        access = (
            AccessRule(name="alice", streams=("ops",), allow=False),
            AccessRule(name="alice", streams=("room",), listen=False, allow=False),
            AccessRule(),
        )
        stage.rallypoint.reload(rules(access=access), wire.rally(), wire.trusting())
        alice.pull()
        self.assertEqual(alice.errors(), ["denied", "denied"])
        for stream in ("ops", "room", "lobby"):
            bob.say(stream)
            alice.say(stream)
        alice.pull(), bob.pull()
        self.assertEqual((len(alice.heard), len(bob.heard)), (2, 1))


class StopTests(Case):
    def test_everybody_is_told_where_to_go(self) -> None:
        """BYE draining with the alternatives; the stop is complete when all are gone."""
        stage = self.stage(alternatives=(Address("other.example.org", 7443),), drain_s=3.0)
        people = [stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")]
        waiting = stage.knock(shakes_hands=False)
        done: list[object] = []
        stopped = stage.rallypoint.stopService()
        assert isinstance(stopped, Deferred)
        stopped.addCallback(done.append)
        self.assertEqual(
            (stage.ports[0].open, stage.rallypoint.ready()), (False, "this Rallypoint is stopping")
        )
        self.assertTrue(waiting.wire.ended)
        self.assertEqual(done, [])
        for person in people:
            person.pull()
            self.assertEqual(
                (person.end().code, person.end().alternatives), ("draining", ("other.example.org:7443",))
            )
            self.assertEqual(person.end().retry_after_s, 3.0)
        stage.clock.advance(0.1)
        self.assertEqual(done, [None])

    def test_who_does_not_go_is_cut(self) -> None:
        """After the time for draining; newcomers are refused meanwhile."""
        stage = self.stage(drain_s=0.5)
        alice = stage.guest(None, "room")
        done: list[object] = []
        stage.rallypoint.stopService().addCallback(done.append)
        self.assertTrue(stage.knock().dropped)
        stage.pass_time(0.4)
        self.assertEqual(done, [])
        stage.pass_time(0.2)
        self.assertEqual((done, alice.wire.ended), ([None], True))

    def test_stopping_twice_is_harmless(self) -> None:
        """And so is stopping what was never started."""
        stage = self.stage()
        stage.rallypoint.stopService()
        self.successResultOf(stage.rallypoint.stopService())
        idle = Stage(start=False)
        self.successResultOf(idle.rallypoint.stopService())

    def test_a_port_that_is_taken_is_told(self) -> None:
        """With address and setting; none is left open."""
        stage = Stage(start=False, listen=(Address("127.0.0.1", 7443), Address("127.0.0.1", 7444)))
        opened = stage._open

        def taken(reactor: Any, host: str, port: int, tls: Any, arrived: Any) -> Any:
            if port == 7444:
                raise CannotListenError(host, port, OSError(98, "Address already in use"))
            return opened(reactor, host, port, tls, arrived)

        stage.rallypoint._open_port = taken
        error = self.assertRaises(PortTaken, stage.rallypoint.privilegedStartService)
        self.assertIn("cannot listen on 127.0.0.1:7444: Address already in use", str(error))
        self.assertFalse(stage.ports[0].open)
        self.assertIn("not open", stage.rallypoint.ready() or "")


class HostileTests(Case):
    def test_two_people_talk_on_while_others_misbehave(self) -> None:
        """Each of these is dealt with by code, and no packet is lost."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        join = control(FrameType.JOIN, b'{"txn":1,"stream":"' + b"x" * 257 + b'"}')
        for bad, code in [
            (b"GET / HTTP/1.1\r\n\r\n", {"bad-frame", "too-large", "order"}),
            (b"\xff\xff\x10" + b"x" * 50, {"too-large"}),
            (b"\x00\x05\x10", {"bad-frame"}),
            (b"\x00\x05\x06hello", {"bad-frame"}),
            (control(FrameType.RELAY, b"x"), {"role"}),
            (control(FrameType.HELLO, b"{}"), {"order"}),
            (control(FrameType.WELCOME, b"{}"), {"role"}),
        ]:
            mallory = stage.guest(wire.ca().leaf("mallory"), "room")
            alice.say("room")
            mallory.send(bad)
            alice.say("room")
            mallory.pull()
            self.assertIn(mallory.end().code, code, bad)
        mallory = stage.guest(wire.ca().leaf("mallory"), "room")
        for bad in (
            control(FrameType(0x05), b"{"),
            join,
            control(FrameType.JOIN, b'{"txn":2,"stream":"\xff"}'),
            control(FrameType.JOIN, b"[" * 5_000),
            media(0, stream_key("room"), mallory.source ^ 1, 0, b""),
            media(0, 77, mallory.source, 0, b""),
        ):
            mallory.send(bad)
        mallory.pull()
        self.assertEqual(
            mallory.errors(),
            ["bad-json", "bad-stream", "bad-stream", "bad-json", "foreign-source", "not-joined"],
        )
        bob.pull()
        self.assertEqual(bob.sequences(), list(range(14)))

    def test_a_flood_of_unknown_frames_ends_the_link(self) -> None:
        """Each costs an answer, so that only so many are given; the talker beside it is not heard less."""
        stage = self.stage()
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        mallory = stage.guest(wire.ca().leaf("mallory"))
        mallory.send(b"\x00\x00\x77" * 5_000)
        alice.say("room")
        mallory.pull(), bob.pull()
        self.assertEqual((mallory.end().code, len(bob.heard)), ("limit", 1))
        self.assertLess(len(mallory.errors()), 2_001)

    def test_who_never_reads_costs_nobody_else(self) -> None:
        """Its queue is bounded and it is ended; the talker and the other listener notice nothing."""
        stage = self.stage(limits={"queue_frames": 10})
        alice, bob = stage.guest(None, "room"), stage.guest(wire.ca().leaf("bob"), "room")
        deaf = stage.guest(wire.ca().leaf("deaf"), "room")
        deaf.wire.producer.pauseProducing()
        for _ in range(200):
            alice.say("room")
            stage.pass_time(0.02, alice, bob, step_s=0.02)
        self.assertEqual(bob.sequences(), list(range(200)))
        self.assertTrue(deaf.wire.ended or deaf.wire.disconnecting)
        stage.pass_time(1.5, alice, bob)
        self.assertGreater(stage.house.dropped_full, 50)
