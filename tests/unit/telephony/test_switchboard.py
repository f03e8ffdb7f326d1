"""Telephones, gateway and call manager joined: whole calls, and that none is left half open anywhere."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security.certificates import Role
from ice.telephony import messages, switchboard, trunk
from ice.telephony.call import Direction, Ended, Progress, Side
from ice.telephony.causes import Cause
from ice.telephony.envelope import Letter
from ice.telephony.handset import MAX_GATEWAYS, Incoming, JoinSound, Reachable, SetFlow, Shown
from ice.telephony.messages import Kind
from ice.telephony.post import Post
from tests.unit.telephony.people import SPACE, correspondent, envelopes
from tests.unit.telephony.world import World

ADA = uuid5(SPACE, "ada")


def shown(world: World, name: str) -> list[Progress]:
    return [each.progress for each in world[name].of(Shown)]


class Outgoing(SynchronousTestCase):
    def test_echo(self) -> None:
        """Found the gateway, dialled, rang, answered, keys both ways, hung up: the same stream and key at both ends, one record."""
        world = World("ada")
        self.assertEqual([each.up for each in world["ada"].of(Reachable)], [True])
        id = world.dial("ada", "100")
        world.wait(0.5)
        self.assertEqual(shown(world, "ada"), [Progress.RINGING, Progress.ANSWERED])
        (joined,) = world["ada"].of(JoinSound)
        opened = next(each for each in world.orders if isinstance(each, switchboard.OpenSound))
        self.assertEqual(joined.media, opened.media)
        self.assertEqual(world["ada"].of(SetFlow)[-1], SetFlow(id, True, True))
        world.do("ada", "press", "12#")
        world.wait(0.1)
        self.assertIn(switchboard.SayKeys(id, "12#"), world.orders)
        world.to_board(world.board.keys_heard(id, "7", world.now, world.unix))
        self.assertIn(("loopback", trunk.Press(id, "7")), world.asked)
        world.do("ada", "hang_up")
        world.wait(0.5)
        self.assertEqual(world["ada"].ends, [Ended(Cause.HUNG_UP, Side.USER)])
        self.assertEqual(world.half_open(), {})
        record = world.records[id]
        self.assertEqual(
            (record.user, record.number, record.trunk, record.cause),
            ("ada", "100", "loopback", Cause.HUNG_UP),
        )
        self.assertLess(abs(record.talked_s - 0.4), 0.15)

    def test_set_up_takes_no_time(self) -> None:
        """The trunk is asked in the same turn in which the dial message comes, and sound flows in the one of the answer."""
        world = World("ada")
        id = world.dial("ada", "100")
        world.deliver()
        self.assertEqual(world.asked[0][1], trunk.Dial(id, "100", "7", "ada", ADA))
        self.assertEqual(shown(world, "ada"), [Progress.RINGING])

    def test_ends(self) -> None:
        """Busy, unknown, forbidden, an announcement's own end, nobody answers: each by its name at the telephone and on record."""
        for number, cause in (
            ("102", Cause.BUSY),
            ("999", Cause.UNKNOWN_NUMBER),
            ("666", Cause.FORBIDDEN),
            ("101", Cause.HUNG_UP),
            ("103", Cause.NO_ANSWER),
        ):
            world = World("ada")
            id = world.dial("ada", number)
            world.wait(12.0 if number == "103" else 4.0)
            self.assertEqual([ended.cause for ended in world["ada"].ends], [cause], number)
            self.assertEqual((world.records[id].cause, world.half_open()), (cause, {}), number)

    def test_hold_and_transfer(self) -> None:
        """On hold and back; handed on, the person's part ends as transferred."""
        world = World("ada")
        id = world.dial("ada", "100")
        world.wait(0.5)
        world.do("ada", "hold")
        world.wait(0.1)
        self.assertEqual(world.asked[-1][1], trunk.Hold(id))
        world.do("ada", "resume")
        world.do("ada", "transfer", "999")
        world.wait(0.2)
        self.assertEqual(shown(world, "ada")[-1], Progress.TRANSFER_FAILED)
        world.do("ada", "transfer", "101")
        world.wait(0.2)
        self.assertEqual([ended.cause for ended in world["ada"].ends], [Cause.TRANSFERRED])
        self.assertEqual((world.records[id].cause, world.half_open()), (Cause.TRANSFERRED, {}))

    def test_limits(self) -> None:
        """No more calls than there may be, save urgent ones; one per person."""
        world = World("ada", "bob", "eve", max_calls=1)
        world.dial("ada", "100")
        world.wait(0.5)
        world.dial("bob", "100")
        world.dial("eve", "112")
        world.wait(0.5)
        self.assertEqual([ended.cause for ended in world["bob"].ends], [Cause.LIMIT])
        self.assertEqual([ended.cause for ended in world["eve"].ends], [Cause.UNKNOWN_NUMBER])
        self.assertRaises(LocalError, world.dial, "ada", "100")

    def test_next_trunk(self) -> None:
        """A trunk that cannot hands over to the next before anything was heard; the last one's word counts."""
        world = World("ada", trunks=("north", "south"))
        world.trunks["north"]._lines = dict.fromkeys(range(256))  # type: ignore[assignment, misc]
        world.trunks["north"].tick = lambda now: []  # type: ignore[method-assign]
        id = world.dial("ada", "100")
        world.wait(0.5)
        self.assertEqual(shown(world, "ada"), [Progress.RINGING, Progress.ANSWERED])
        self.assertEqual(
            (world.sounding[id], [name for name, _ in world.asked]), ("south", ["north", "south"])
        )
        world.do("ada", "hang_up")
        world.wait(0.5)
        self.assertEqual(world.records[id].trunk, "south")


class Incoming_(SynchronousTestCase):
    def call_back(self, *names: str) -> World:
        world = World(*(names or ("ada",)))
        world.dial("ada", "104")
        world.wait(2.3)
        return world

    def test_answered(self) -> None:
        """Called back: it rings with number and name, is answered, and ends when the person hangs up."""
        world = self.call_back()
        (incoming,) = world["ada"].of(Incoming)
        self.assertEqual((incoming.number, incoming.dialled, incoming.name), ("104", "7", "Loopback"))
        world.do("ada", "answer")
        world.wait(0.2)
        self.assertEqual(world.asked[-1][1], trunk.Accept(incoming.call, ADA))
        world.do("ada", "hang_up")
        world.wait(0.5)
        self.assertEqual(world.half_open(), {})
        record = world.records[incoming.call]
        self.assertEqual((record.direction, record.user, record.dialled), (Direction.INCOMING, "ada", "7"))

    def test_rejected(self) -> None:
        """A call that is not wanted is rejected at the line."""
        world = self.call_back()
        world.do("ada", "reject")
        world.wait(0.5)
        (incoming,) = world["ada"].of(Incoming)
        self.assertIn(("loopback", trunk.HangUp(incoming.call, Cause.REJECTED)), world.asked)
        self.assertEqual(world.half_open(), {})

    def offer(self, world: World, dialled: str, number: str = "1", id: int = 77) -> Any:
        call = UUID(int=id)
        offered = trunk.Offered(call, number, dialled)
        world.to_board(world.board.report("loopback", offered, world.now, world.unix))
        return call

    def test_refused(self) -> None:
        """Nobody's number, somebody who is not there, somebody who talks: the line hears why at once."""
        world = World("ada")
        world.dial("ada", "100")
        world.wait(0.5)
        for id, (dialled, cause) in enumerate(
            (("9", Cause.UNKNOWN_NUMBER), ("8", Cause.UNREACHABLE), ("7", Cause.CALL_WAITING))
        ):
            call = self.offer(world, dialled, id=id)
            self.assertEqual(world.asked[-1][1], trunk.HangUp(call, cause))
            self.assertEqual(world.records[call].cause, cause)

    def test_glare(self) -> None:
        """She dials while a call for her is on its way: her call goes on, the other one ends, on both ends alike."""
        for number in ("100", "1"):  # the second is the number that calls her: then they meet
            world = World("ada")
            if number == "1":
                world.dead.add("loopback")  # it knows nothing of the call that the test offers
            offered = self.offer(world, "7", number="1")
            dialled = world.dial("ada", number)
            world.wait(1.0)
            left = {call.id for call in world.board.calls}
            self.assertEqual(left, {offered if number == "1" else dialled})
            self.assertEqual(len(world["ada"].phone._calls), 1)
            self.assertEqual(
                [ended.cause for ended in world["ada"].ends], [Cause.GLARE] if number == "1" else []
            )


class Trouble(SynchronousTestCase):
    def test_left_to_another(self) -> None:
        """Calls that another gateway takes up are forgotten without a word to anybody; those that ring, and other trunks' ones, stay."""
        world = World("ada", "bob")
        answered, ringing = world.dial("ada", "100"), world.dial("bob", "103")
        world.wait(1.0)
        self.assertEqual(world.board.abandon(["other"], world.now, world.unix), [])
        orders = world.board.abandon(["loopback"], world.now, world.unix)
        (record,) = [each.record for each in orders if isinstance(each, switchboard.Record)]
        self.assertEqual((record.id, record.cause, record.ended), (answered, Cause.TAKEOVER, world.unix))
        self.assertEqual({type(each) for each in orders}, {switchboard.Record, switchboard.CloseSound})
        self.assertEqual([call.id for call in world.board.calls], [ringing])
        world.to_board(orders)
        found = trunk.Found(answered, Direction.OUTGOING, "100", uuid5(SPACE, "ada"), world.unix - 1.0)
        world.to_board(world.board.report("loopback", found, world.now, world.unix))
        world.wait(1.0)
        self.assertEqual({call.id for call in world.board.calls}, {answered, ringing})

    def test_takeover(self) -> None:
        """A gateway that is active no more ends everything; nothing rings on."""
        world = World("ada", "bob")
        world.dial("ada", "100")
        world.dial("bob", "103")
        world.wait(0.5)
        world.to_board(world.board.set_active(False, world.now, world.unix))
        world.wait(1.0)
        self.assertEqual(world.half_open(), {})
        self.assertEqual([world[name].ends[0].cause for name in ("ada", "bob")], [Cause.TAKEOVER] * 2)
        world.dial("ada", "100")
        world.wait(0.5)
        self.assertEqual(world.half_open(), {})

    def test_person_vanishes(self) -> None:
        """Where nothing comes through any more, both ends let go by themselves: no line is kept, no telephone believes in a call."""
        for number in ("100", "103"):
            world = World("ada")
            id = world.dial("ada", number)
            world.wait(0.5)
            world.loss = 1.0
            world.wait(50.0)
            self.assertEqual(world.half_open(), {})
            self.assertEqual([ended.cause for ended in world["ada"].ends], [Cause.LINE_LOST])
            self.assertEqual(world.records[id].cause, Cause.USER_LOST if number == "100" else Cause.NO_ANSWER)

    def test_a_call_after_a_long_rest(self) -> None:
        """Hellos come seldom between calls; one that begins after 50 s is not lost for that."""
        world = World("ada")
        world.wait(50.0)
        world.dial("ada", "100")
        world.wait(60.0)
        self.assertEqual((world["ada"].ends, len(world.board)), ([], 1))
        self.assertEqual([each.up for each in world["ada"].of(Reachable)], [True])

    def test_an_old_gateway_is_not_played_back(self) -> None:
        """A `here` that was heard before, or is older than the last, leads nowhere."""
        world = World("ada")
        phone = world["ada"].phone
        heres = [each for each in world.orders if getattr(each, "stream", "") == phone.stream]
        world.wait(1.0)
        for mail in heres:
            world.to_person(world["ada"], phone.receive(mail.payload, mail.stream, 5, world.now, world.unix))
        self.assertEqual(phone.refused, {"old-here": len(heres)})
        self.assertGreater(len(heres), 0)

    def test_the_next_gateway_s_clock_is_behind(self) -> None:
        """After a takeover a `here` counts though the former gateway's clock was a minute ahead; the former one's last, played again, does not."""
        world = World("ada")
        phone = world["ada"].phone
        assert phone.gateway is not None
        (former, *_) = [each for each in world.orders if getattr(each, "stream", "") == phone.stream]
        for name in ("second", "third"):
            post = Post(envelopes(name, Role.SATELLITE), world.unix)
            here = post.announce(Kind.HERE, phone.stream, world.unix - 60.0, correspondent("ada"))
            orders = phone.receive(here.payload, here.stream, 6, world.now, world.unix)
            self.assertEqual([each.up for each in orders if isinstance(each, Reachable)], [True])
            self.assertEqual(phone.gateway.identity.name, name)
            self.assertEqual(phone.receive(here.payload, here.stream, 6, world.now, world.unix), [])
        self.assertEqual(phone.receive(former.payload, former.stream, 5, world.now, world.unix), [])
        self.assertEqual((phone.refused, phone.gateway.identity.name), ({"old-here": 3}, "third"))

    def test_gateways_are_remembered_within_bounds(self) -> None:
        """However many satellites say `here`, a few are remembered."""
        world = World("ada")
        phone = world["ada"].phone
        began_ms = round(world.unix * 1_000)
        for number in range(began_ms, began_ms + MAX_GATEWAYS + 3):
            header = messages.Header(
                call="", id=f"{number:016x}", kind=Kind.HERE, ms=number, n=0, on=phone.stream, re="", to=""
            )
            sender = correspondent(f"gateway {number}", Role.SATELLITE)
            phone._letter(Letter(sender, header, messages.Nothing()), world.now, world.unix)
        self.assertEqual((len(phone._here_ms), phone.refused), (MAX_GATEWAYS, {}))
        self.assertEqual(min(phone._here_ms.values()), began_ms + 3)

    def test_trunk_dies(self) -> None:
        """A call manager that says nothing any more: the call ends by its times, the person hears why."""
        world = World("ada")
        world.dead.add("loopback")
        id = world.dial("ada", "100")
        world.wait(9.0)
        self.assertEqual([ended.cause for ended in world["ada"].ends], [Cause.NO_RESPONSE])
        self.assertEqual((world.records[id].cause, world.half_open()), (Cause.NO_RESPONSE, {}))

    def restarted(self, hold: bool = False) -> tuple[World, UUID]:
        """Ada talks; the gateway dies and comes back 0.2 s later, and finds her line at its trunk."""
        world = World("ada")
        id = world.dial("ada", "100")
        world.wait(0.5)
        if hold:
            world.do("ada", "hold")
            world.wait(0.1)
        world.deaf = True
        world.wait(0.2)
        world.do("ada", "press", "5")  # said to nobody
        world.restart()
        found = trunk.Found(id, Direction.OUTGOING, "100", uuid5(SPACE, "ada"), world.unix - 0.5)
        world.to_board(world.board.report("loopback", found, world.now, world.unix))
        return world, id

    def test_adopted_after_a_restart(self) -> None:
        """The call goes on: new stream and key at both ends, keys that nobody heard are said again, and it ends as any other."""
        world, id = self.restarted()
        world.wait(1.0)
        first, second = world["ada"].of(JoinSound)
        self.assertNotEqual(first.media.key, second.media.key)
        self.assertIn(switchboard.OpenSound(id, second.media, "loopback", "100"), world.orders)
        self.assertIn(("loopback", trunk.Press(id, "5")), world.asked)
        self.assertEqual(world["ada"].ends, [])
        world.do("ada", "hang_up")
        world.wait(1.0)
        self.assertEqual([ended.cause for ended in world["ada"].ends], [Cause.HUNG_UP])
        self.assertEqual(world.half_open(), {})
        self.assertGreater(world.records[id].talked_s, 1.0)

    def test_adopted_on_hold(self) -> None:
        """Who held the call holds it still."""
        world, _ = self.restarted(hold=True)
        world.wait(1.0)
        self.assertEqual([call.name for call in world.board.calls], ["held"])
        world.do("ada", "resume")
        world.wait(0.2)
        self.assertEqual([call.name for call in world.board.calls], ["talking"])

    def test_nobody_to_adopt_for(self) -> None:
        """A line whose person has gone, or knows nothing of the call any more, is let go."""
        world = World("ada")
        for user, seconds in (("bob", 26.0), ("ada", 1.0)):
            id = uuid5(SPACE, "call " + user)
            found = trunk.Found(id, Direction.OUTGOING, "100", uuid5(SPACE, user), world.unix)
            world.to_board(world.board.report("loopback", found, world.now, world.unix))
            world.wait(seconds)
            self.assertEqual(world.asked[-1][1].call, id)
            self.assertIsInstance(world.asked[-1][1], trunk.HangUp)
        self.assertEqual(world.half_open(), {})

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ("dial", "hang_up", "answer", "reject", "hold", "resume", "press", "transfer")
                ),
                st.sampled_from(("100", "101", "102", "103", "104", "999")),
                st.sampled_from((0.02, 0.3, 1.5)),
            ),
            max_size=8,
        ),
        st.sampled_from((0.0, 0.2)),
        st.integers(0, 1_000),
    )
    @settings(max_examples=15, deadline=None)
    def test_nothing_is_left(self, steps: list[tuple[str, str, float]], loss: float, seed: int) -> None:
        """Whatever a person does in whatever order, with a lossy stream: in the end no call is half open anywhere, and each has one end on record."""
        world = World("ada", loss=0.0, seed=seed)
        world.loss = loss
        dialled = 0
        for what, number, pause in steps:
            try:
                if what == "dial":
                    world.dial("ada", number)
                    dialled += 1
                else:
                    world.do("ada", what, *((number,) if what in ("press", "transfer") else ()))
            except LocalError:
                pass
            world.wait(pause)
        world.loss = 0.0
        world.do("ada", "hang_up")
        world.wait(3.0)
        world.do("ada", "hang_up")
        world.wait(14.0)
        self.assertEqual(world.half_open(), {})
        self.assertTrue(all(record.cause is not None for record in world.records.values()))
        self.assertEqual(len(world["ada"].ends), len(set(map(id, world["ada"].ends))))
        self.assertGreaterEqual(len(world["ada"].ends), dialled)
