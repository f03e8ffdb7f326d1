"""A whole gateway: people with their telephones on one side, call managers on the other, and nothing left when a call is over."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid4, uuid5

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.media.tones import sine
from ice.telephony.call import (
    Answers,
    Direction,
    HangsUp,
    Lost,
    Presses,
    Progress,
    Refuses,
    Rings,
    Side,
    Sounds,
)
from ice.telephony.causes import Cause
from ice.telephony.handset import KeysHeard
from ice.telephony.records import RecordStore
from ice.telephony.service import CLOSE_S, CONFIRM_S, TRUNKS_REST_S, TRUNKS_S, Gateway
from ice.telephony.trunk import Accept, Dial, Found, HangUp, Happened, Health, Offered, Sound
from tests.unit.telephony.people import SPACE, UNIX
from tests.unit.telephony.site import RULES, Scripted, Site, records_of

LINE = Side.LINE
TONE = sine(600.0, 48_000)
ADA, BOB = uuid5(SPACE, "ada"), uuid5(SPACE, "bob")


class Calls(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site("ada", "bob")
        self.records = Path(self.mktemp())

    def test_echo(self) -> None:
        """A person calls the echo number, hears himself, hangs up; the record tells how it was."""
        gateway = self.site.gateway(self.site.loopback(16_000), records=self.records)
        ada = self.site["ada"]
        ada.voice = TONE
        id = self.site.dial("ada", "100")
        self.site.wait(0.5)
        self.assertEqual(ada.steps, [Progress.RINGING, Progress.ANSWERED])
        del ada.heard[:]
        self.site.wait(2.0)
        self.assertGreater(level_dbov(ada.sound[-48_000:]), -35)
        (line,) = gateway.board.lines
        self.assertEqual((line.id, line.state, line.number, line.trunk), (id, "talking", "100", "loopback"))
        ada.phone.hang_up()
        self.site.wait(0.5)
        self.assertEqual(self.site.half_open(), {})
        (record,) = records_of(self.records)
        self.assertEqual(
            (record.id, record.user, record.cause, record.by), (id, "ada", Cause.HUNG_UP, Side.USER)
        )
        self.assertEqual((record.codec, record.rate, record.loss_percent), ("slin16", 16_000, 0.0))
        self.assertAlmostEqual(record.talked_s, 2.4, 1)
        self.assertEqual((gateway.setups.rang, gateway.setups.answered), (1, 1))
        self.assertEqual(gateway.board.ended, {Cause.HUNG_UP: 1})

    def test_keys(self) -> None:
        """Keys go to the line and come back from it."""
        gateway = self.site.gateway()
        ada = self.site["ada"]
        ada.voice = TONE
        self.site.dial("ada", "100")
        self.site.wait(0.5)
        ada.phone.press("5#")
        self.site.wait(1.5)
        self.assertEqual("".join(each.digits for each in ada.of(KeysHeard)), "5#")
        self.assertEqual(len(gateway.board), 1)

    def test_ends(self) -> None:
        """Busy, unknown, forbidden, no number: each is said, and written down."""
        self.site.gateway(records=self.records)
        wanted = [
            ("102", Cause.BUSY),
            ("105", Cause.UNKNOWN_NUMBER),
            ("666", Cause.FORBIDDEN),
            ("ada", Cause.INVALID_NUMBER),
        ]
        for number, _ in wanted:
            self.site.dial("ada", number)
            self.site.wait(0.5)
        self.assertEqual(self.site["ada"].causes, [cause for _, cause in wanted])
        self.assertEqual([(each.number, each.cause) for each in records_of(self.records)], wanted)
        self.assertEqual(self.site.half_open(), {})

    def test_called_back(self) -> None:
        """A call to a person's number rings there; he answers and is heard."""
        self.site.gateway(records=self.records)
        bob = self.site["bob"]
        bob.voice = TONE
        self.site.dial("bob", "104")
        self.site.wait(5.0)
        (ringing,) = bob.rings
        self.assertEqual((ringing.number, ringing.dialled), ("104", "8"))
        bob.phone.answer()
        self.site.wait(1.5)
        self.assertGreater(level_dbov(bob.sound[-24_000:]), -35)
        bob.phone.hang_up()
        self.site.wait(0.5)
        self.assertEqual(self.site.half_open(), {})
        out, back = records_of(self.records)
        self.assertEqual((out.direction, back.direction), (Direction.OUTGOING, Direction.INCOMING))
        self.assertEqual((back.user, back.dialled, back.cause), ("bob", "8", Cause.HUNG_UP))

    def test_limit(self) -> None:
        """More calls than may be are refused, but for emergency numbers; a reload changes how many."""
        gateway = self.site.gateway(rules=attrs.evolve(RULES, calls=1))
        self.site.dial("ada", "100")
        self.site.wait(0.3)
        self.assertFalse(gateway.free())
        self.site.dial("bob", "100")
        self.site.wait(0.3)
        self.assertEqual(self.site["bob"].causes, [Cause.LIMIT])
        self.site.dial("bob", "112")
        self.site.wait(0.3)
        self.assertEqual(
            self.site["bob"].causes[1:], [Cause.UNKNOWN_NUMBER]
        )  # the built-in call manager's own word
        gateway.configure(attrs.evolve(RULES, calls=2))
        self.site.dial("bob", "100")
        self.site.wait(0.3)
        self.assertEqual(len(gateway.board), 2)

    def test_hung_up_by_an_operator(self) -> None:
        """An operator ends a call; one that there is not is told so."""
        gateway = self.site.gateway()
        id = self.site.dial("ada", "100")
        self.site.wait(0.5)
        self.assertFalse(gateway.hang_up(uuid4()))
        self.assertTrue(gateway.hang_up(id))
        self.site.wait(0.5)
        self.assertEqual((self.site["ada"].causes, self.site.half_open()), ([Cause.HUNG_UP], {}))

    def test_two_people(self) -> None:
        """Two calls at once do not hear each other."""
        self.site.gateway(self.site.loopback(16_000))
        self.site["ada"].voice = TONE
        for name in ("ada", "bob"):
            self.site.dial(name, "100")
        self.site.wait(2.0)
        self.assertGreater(level_dbov(self.site["ada"].sound[-24_000:]), -35)
        self.assertLess(level_dbov(self.site["bob"].sound[-24_000:]), -55)


class Trunks(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site("ada")
        self.ada = self.site["ada"]

    def trunk(self, gateway: Gateway, name: str = "pbx") -> Scripted:
        trunk = gateway.trunks[name]
        assert isinstance(trunk, Scripted)
        return trunk

    def test_next(self) -> None:
        """A call that one trunk cannot place is placed on the next, and sounds there."""
        gateway = self.site.gateway(self.site.scripted("a"), self.site.scripted("b"))
        first, second = self.trunk(gateway, "a"), self.trunk(gateway, "b")
        first.mute = True
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        (dialled,) = first.of(Dial)
        self.assertEqual((dialled.number, dialled.caller), ("200", "7"))
        first.tell(Happened(id, Refuses(LINE, Cause.CONGESTION)))
        self.site.wait(0.2)
        self.assertEqual([each.call for each in second.of(Dial)], [id])
        del second.said[:]
        self.site.wait(0.2)
        self.assertEqual(set(second.said), {id})
        second.tell(Happened(id, Answers(LINE)))
        self.site.wait(0.2)
        self.assertEqual(self.ada.steps, [Progress.RINGING, Progress.ANSWERED])

    def test_down(self) -> None:
        """Without a trunk there is no call, but for an emergency, which is tried all the same."""
        gateway = self.site.gateway(self.site.scripted())
        trunk = self.trunk(gateway)
        trunk.tell(Health(False, "cut"))
        self.site.wait(0.1)
        self.site.dial("ada", "200")
        self.site.wait(0.2)
        self.assertEqual((self.ada.causes, trunk.of(Dial)), ([Cause.NO_TRUNK], []))
        self.site.dial("ada", "112")
        self.site.wait(0.2)
        self.assertEqual([each.number for each in trunk.of(Dial)], ["112"])

    def test_reconnect(self) -> None:
        """A trunk that goes down and comes back ends no call."""
        gateway = self.site.gateway(self.site.scripted())
        trunk = self.trunk(gateway)
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        trunk.tell(Happened(id, Answers(LINE)))
        trunk.tell(Health(False, "the connection broke"))
        self.site.wait(20.0)
        trunk.tell(Health(True, "connected"))
        self.site.wait(0.5)
        self.assertEqual([line.state for line in gateway.board.lines], ["talking"])
        self.assertEqual(self.ada.causes, [])

    def test_line_lost(self) -> None:
        """A line that is lost ends its call, on both sides."""
        gateway = self.site.gateway(self.site.scripted())
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        self.trunk(gateway).tell(Happened(id, Answers(LINE)))
        self.trunk(gateway).tell(Happened(id, Lost(LINE)))
        self.site.wait(0.5)
        self.assertEqual((self.ada.causes, self.site.half_open()), ([Cause.LINE_LOST], {}))

    def test_failing(self) -> None:
        """A trunk that raises is a line that is lost; one that cannot be started is down."""
        gateway = self.site.gateway(self.site.scripted())
        self.trunk(gateway).broken = True
        self.site.dial("ada", "200")
        self.site.wait(0.5)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.ada.causes, self.site.half_open()), ([Cause.LINE_LOST], {}))

        def broken(gateway: Gateway) -> None:
            self.trunk(gateway, "b").broken = True

        other = self.site.gateway(
            self.site.scripted("a"), self.site.scripted("b"), name="other", prepare=broken, start=False
        )
        other.startService()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.site.wait(0.1)
        self.assertIn("b: cannot be started: the port is taken", other.board.order.health.why)
        self.assertTrue(other.board.order.health.up)

    def test_stray_sound(self) -> None:
        """Sound of a call that there is not is counted."""
        gateway = self.site.gateway(self.site.scripted())
        self.trunk(gateway).tell(Sound(uuid4(), 8_000, bytes(320)))
        self.site.wait(0.1)
        self.assertEqual(gateway.stray_sound, 1)

    def test_no_sound(self) -> None:
        """A call that can have no sound ends at once, on both sides."""
        gateway = self.site.gateway(self.site.scripted())
        with mock.patch("ice.telephony.sound.CallSound", side_effect=LocalError("libopus is not there")):
            self.site.dial("ada", "200")
            self.site.wait(0.5)
        self.assertEqual((self.ada.causes, self.site.half_open()), ([Cause.FAILED], {}))
        self.assertEqual(self.trunk(gateway).of(HangUp)[0].cause, Cause.FAILED)

    def test_one_name(self) -> None:
        """Two trunks have two names."""
        self.assertRaises(
            LocalError, self.site.gateway, self.site.scripted("a"), self.site.scripted("a"), start=False
        )

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=12))
    @settings(max_examples=15, deadline=None)
    def test_any_reports(self, script: list[tuple[int, int]]) -> None:
        """Whatever a trunk reports of whatever call in whatever order: nobody is left with half a call."""
        site = Site("ada")
        gateway = site.gateway(site.scripted())
        trunk = gateway.trunks["pbx"]
        assert isinstance(trunk, Scripted)
        ids = [site.dial("ada", "200"), UUID(int=5), UUID(int=6)]
        events: list[Any] = [
            Rings(LINE), Sounds(LINE), Answers(LINE), Refuses(LINE, Cause.BUSY), HangsUp(LINE), Lost(LINE), Presses(LINE, "5"),
        ]  # fmt: skip
        for kind, which in script:
            call = ids[which]
            if kind < len(events):
                trunk.tell(Happened(call, events[kind]))
            elif kind == 7:
                trunk.tell(Offered(call, "300", "7", "Eve"))
            elif kind == 8:
                trunk.tell(Found(call, Direction.OUTGOING, "200", ADA, UNIX))
            else:
                trunk.tell(Sound(call, 8_000, bytes(script[0][1] * 7)))
            site.wait(0.05)
        gateway.standby()
        site.wait(8.0)
        self.assertEqual(site.half_open(), {})
        gateway.stopService()
        site.wait(2.0)
        wanted = {each.call for each in trunk.of(Dial)} | {each.call for each in trunk.of(Accept)}
        released = {each.call for each in trunk.of(HangUp)}
        gone = {ids[which] for kind, which in script if kind in (3, 4, 5)}
        self.assertEqual(wanted - released - gone, set())


class Elected(SynchronousTestCase):
    """One of a group works."""

    def setUp(self) -> None:
        self.site = Site("ada", "bob")

    def scripted(self, gateway: Gateway) -> Scripted:
        trunk = gateway.trunks["pbx"]
        assert isinstance(trunk, Scripted)
        return trunk

    def test_standby_is_silent(self) -> None:
        """A standby has not started its trunks, and answers nobody."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        self.site.wait(5.0)
        self.assertFalse(self.scripted(gateway).health.up)
        self.assertRaises(LocalError, self.site.dial, "ada", "100")
        gateway.active()
        gateway.active()
        self.site.wait(3.0)
        self.site.dial("ada", "200")
        self.site.wait(0.1)
        self.assertEqual(len(self.scripted(gateway).of(Dial)), 1)

    def test_takeover(self) -> None:
        """Who becomes a standby ends his calls on both sides before his trunks close; nothing is left ringing."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        gateway.active()
        self.site.wait(0.2)
        trunk = self.scripted(gateway)
        answered = self.site.dial("ada", "200")
        self.site.wait(0.1)
        trunk.tell(Happened(answered, Answers(LINE)))
        ringing = self.site.dial("bob", "201")
        self.site.wait(0.2)
        done = gateway.standby()
        self.assertNoResult(done)
        self.site.wait(0.2)
        self.assertEqual(trunk.stops, 1)
        self.successResultOf(done)
        self.assertEqual({each.call for each in trunk.of(HangUp)}, {answered, ringing})
        self.assertEqual(
            (self.site["ada"].causes, self.site["bob"].causes), ([Cause.TAKEOVER], [Cause.TAKEOVER])
        )
        self.assertEqual(self.site.half_open(), {})
        self.successResultOf(gateway.standby())

    def test_takeover_of_the_deaf(self) -> None:
        """Neither people nor call managers who confirm nothing keep a gateway from standing by in time."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        gateway.active()
        self.site.wait(0.2)
        trunk = self.scripted(gateway)
        self.site.dial("ada", "200")
        self.site.wait(0.2)
        trunk.mute = True
        trunk.closing = Deferred()
        self.site.air.up = False
        done = gateway.standby()
        self.site.wait(CONFIRM_S + CLOSE_S + 0.1)
        self.successResultOf(done)
        self.flushLoggedErrors()
        self.site.wait(10.0)
        self.assertEqual(len(gateway.board), 0)

    def test_adopted(self) -> None:
        """When the active gateway dies, the next goes on with answered calls that the call manager still has; the rest is let go."""
        first = self.site.gateway(self.site.scripted(), elected=True)
        second = self.site.gateway(self.site.scripted(), elected=True, name="second")
        first.active()
        self.site.wait(0.5)
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        old, new = self.scripted(first), self.scripted(second)
        old.tell(Happened(id, Answers(LINE)))
        self.site.wait(1.0)
        self.die(first)
        nobody = UUID(int=77)
        new.found = [
            Found(id, Direction.OUTGOING, "200", ADA, self.site.wall() - 1.0),
            Found(nobody, Direction.OUTGOING, "200", uuid5(SPACE, "eve"), self.site.wall() - 1.0),
        ]
        second.active()
        self.site.wait(2.0)
        self.assertEqual([line.id for line in second.board.lines], [id])
        self.assertEqual(self.site["ada"].causes, [])
        del new.said[:]
        self.site["ada"].voice = TONE
        self.site.wait(0.5)
        self.assertIn(id, new.said)
        statistics = second.sounds.statistics(id)
        assert statistics is not None
        self.assertGreater(statistics.stream.counters.received, 10)
        self.site.wait(26.0)
        self.assertEqual([each.call for each in new.of(HangUp)], [nobody])
        self.site["ada"].phone.hang_up()
        self.site.wait(0.5)
        self.assertEqual((self.site["ada"].causes, len(second.board)), ([Cause.HUNG_UP], 0))

    def die(self, gateway: Gateway) -> None:
        """The process is gone: it neither hears nor says anything."""
        self.site.gateways.remove(gateway)
        gateway.sounds.stop()
        gateway.mailroom.close()
        assert gateway._stream is not None
        gateway._stream.leave()
        gateway._stream = None
        gateway._alarm.cancel()

    def test_hands_off(self) -> None:
        """Who may not act any more touches neither lines nor people: another may have them already, and goes on with them."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        other = self.site.gateway(self.site.scripted(), elected=True, name="other")
        gateway.active()
        self.site.wait(0.5)
        trunk, new = self.scripted(gateway), self.scripted(other)
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        trunk.tell(Happened(id, Answers(LINE)))
        self.site.wait(1.0)
        ringing = self.site.dial("bob", "201")
        self.site.wait(0.2)
        new.found = [Found(id, Direction.OUTGOING, "200", ADA, self.site.wall() - 1.0)]
        other.active()
        gateway.guard(lambda: False)
        done = gateway.standby()
        said = gateway.mailroom.counts["said"]
        trunk.tell(Offered(UUID(int=9), "300", "7"))
        self.site.wait(2.0)
        self.successResultOf(done)
        self.assertEqual([each.call for each in trunk.of(HangUp)], [ringing])
        self.assertEqual((trunk.stops, gateway.mailroom.counts["said"]), (1, said))
        self.assertEqual((gateway.may_ask(), other.may_ask()), (False, True))
        self.assertEqual(self.site["bob"].causes, [Cause.TAKEOVER])
        self.assertEqual([line.id for line in other.board.lines], [id])
        self.site.wait(8.0)
        self.assertEqual((len(gateway.board), len(gateway.sounds)), (0, 0))
        self.assertEqual(self.site["ada"].causes, [])

    def test_no_heir(self) -> None:
        """Where nobody is there to follow, calls end on both sides."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        gateway.active()
        self.site.wait(0.5)
        id = self.site.dial("ada", "200")
        self.site.wait(0.1)
        self.scripted(gateway).tell(Happened(id, Answers(LINE)))
        self.site.wait(0.2)
        gateway.guard(lambda: False, lambda: False)
        gateway.standby()
        self.site.wait(0.5)
        self.assertEqual([each.call for each in self.scripted(gateway).of(HangUp)], [id])
        self.assertEqual(self.site["ada"].causes, [Cause.TAKEOVER])

    def test_nobody_takes_up_the_built_in(self) -> None:
        """Calls of the built-in call manager end with their gateway, however it loses its lead, and people are told."""
        gateway = self.site.gateway(elected=True)
        gateway.active()
        self.site.wait(0.5)
        self.site.dial("ada", "100")
        self.site.wait(0.5)
        gateway.guard(lambda: False)
        gateway.standby()
        self.site.wait(0.5)
        self.assertEqual((self.site["ada"].causes, self.site.half_open()), ([Cause.TAKEOVER], {}))

    def test_fence(self) -> None:
        """What comes after the right to act has ended finds a standby."""
        gateway = self.site.gateway(self.site.scripted(), elected=True)
        gateway.active()
        self.site.wait(0.2)
        trunk = self.scripted(gateway)
        asked = 0

        def may_act() -> bool:
            nonlocal asked
            asked += 1
            gateway.standby()
            return False

        gateway.guard(may_act)
        trunk.tell(Offered(UUID(int=9), "300", "7"))
        self.site.wait(0.2)
        self.assertFalse(gateway.is_active)
        self.assertEqual((trunk.asked, len(gateway.board), trunk.stops), ([], 0, 1))
        self.assertLess(asked, 10)

    def test_ready(self) -> None:
        """Ready means: a Rallypoint, and while active a trunk; who lacked one rests, so that another may try."""
        gateway = self.site.gateway(self.site.scripted(), elected=True, start=False)
        self.assertEqual(gateway.ready(), "not started yet")
        gateway.startService()
        self.assertIsNone(gateway.ready())
        self.assertTrue(gateway.stored())
        self.site.air.up = False
        self.assertIn("no link to a Rallypoint", gateway.ready() or "")
        self.site.air.up = True
        gateway.active()
        self.site.wait(0.1)
        self.assertIsNone(gateway.ready())
        self.scripted(gateway).tell(Health(False, "cut off"))
        self.site.wait(0.1)
        self.assertIsNone(gateway.ready())
        self.site.wait(TRUNKS_S)
        self.assertIn("pbx: cut off", gateway.ready() or "")
        gateway.standby()
        self.site.wait(0.1)
        self.assertIn("when this gateway was active last", gateway.ready() or "")
        self.site.wait(TRUNKS_REST_S)
        self.assertIsNone(gateway.ready())
        self.successResultOf(gateway.stopService())
        self.assertEqual(gateway.ready(), "the gateway is stopping")


class Ends(SynchronousTestCase):
    def test_stop(self) -> None:
        """A stop ends calls on both sides, closes the records, and leaves nothing in the clock but people's own."""
        site = Site("ada")
        path = Path(self.mktemp())
        gateway = site.gateway(records=path)
        site.dial("ada", "100")
        site.wait(0.5)
        done = gateway.stopService()
        site.wait(0.5)
        self.successResultOf(done)
        self.assertEqual((site["ada"].causes, site.half_open()), ([Cause.SHUTDOWN], {}))
        (record,) = records_of(path)
        self.assertEqual(record.cause, Cause.SHUTDOWN)
        RecordStore(path, UNIX).close()  # nobody holds it
        site["ada"].phone.stop()
        site.wait(3.0)
        self.assertEqual(site.clock.getDelayedCalls(), [])
        self.successResultOf(gateway.stopService())

    def test_records_lost(self) -> None:
        """Records that cannot be written are counted, and logged once; calls go on."""
        site = Site("ada")
        gateway = site.gateway(records=Path(self.mktemp()))
        assert gateway.records is not None
        with mock.patch.object(gateway.records, "write", side_effect=LocalError("the disk is full")):
            site.dial("ada", "100")
            site.wait(0.5)
            site["ada"].phone.hang_up()
            site.wait(0.5)
        self.assertEqual((gateway.records_lost, site["ada"].causes), (2, [Cause.HUNG_UP]))

    def test_under_loss(self) -> None:
        """With a fifth of all messages lost calls are made and ended all the same, and none is left half open."""
        for seed in range(2):
            site = Site("ada", "bob", loss=0.2, seed=seed)
            gateway = site.gateway()
            site.wait(3.0)
            chance = random.Random(seed)
            for _ in range(4):
                for person in site.people.values():
                    if person.phone.call is None and chance.random() < 0.8:
                        try:
                            person.phone.dial(chance.choice(("100", "101", "102", "103", "104")))
                        except LocalError:
                            continue  # no gateway was heard of lately
                    elif chance.random() < 0.5:
                        person.phone.hang_up()
                site.wait(chance.uniform(0.1, 3.0))
            for _ in range(3):
                for person in site.people.values():
                    person.phone.hang_up()
                site.wait(10.0)
            gateway.standby()
            site.wait(10.0)
            self.assertEqual(site.half_open(), {}, seed)
