"""Calls at an Asterisk without one: each way a call may go, and, whatever happens in which order, that nothing is left on either side."""

from __future__ import annotations

import json
import random
from itertools import count
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.telephony import ari
from ice.telephony.asterisk_call import Close, Expect, Keys, Output, Reply, Say, Step, Terms
from ice.telephony.asterisk_engine import LOST_S, AsteriskEngine
from ice.telephony.asterisk_names import Memo, Names, is_number
from ice.telephony.call import (
    Answers,
    Direction,
    HangsUp,
    Lost,
    Refuses,
    Released,
    Side,
    TransferDone,
    TransferFails,
)
from ice.telephony.causes import Cause
from ice.telephony.trunk import (
    Accept,
    Dial,
    Found,
    HandOver,
    HangUp,
    Happened,
    Health,
    Hold,
    Offered,
    Press,
    Ring,
)

LINE = Side.LINE
UNIX = 1_700_000_000.0
ADA = UUID(int=7)
#: What happens how often: 0 answers, 6 events, the others as they come below.
KINDS = (*([0] * 24), *([6] * 24), 10, 10, 10, 11, *([12] * 6), 13, *([14] * 6), 15, 16, 17, 18)
ENDS = (HangsUp, Refuses, Lost, Released, TransferDone)


class Manager:
    """A call manager as the engine sees it: what there is, what it does when asked, and events on their way."""

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, Any]] = {}
        self.bridges: set[str] = set()
        self.events: list[ari.Fact] = []
        self._number = count()

    def do(self, ask: ari.Ask) -> Reply:
        """Carry out a request."""
        query = dict(ask.query)
        match (ask.method, *ask.path.strip("/").split("/")):
            case ("POST", "channels", "create" | "externalMedia"):
                id = query["channelId"]
                if id in self.channels:
                    return Reply(409)
                self.add(
                    id, "Down" if "endpoint" in query else "Up", dict((ask.body or {}).get("variables", {}))
                )
            case ("DELETE", "channels", id):
                if id not in self.channels:
                    return Reply(404)
                self.end(id, int(query["reason_code"]))
            case ("POST", "channels", id, "answer") if id in self.channels:
                self.change(id, "Up")
            case ("GET", "channels", id, "variable") if id in self.channels:
                value = self.channels[id]["variables"].get(query["variable"])
                return Reply(200, json.dumps({"value": value}).encode()) if value else Reply(404)
            case ("POST", "channels", id, "variable") if id in self.channels:
                self.channels[id]["variables"][query["variable"]] = query["value"]
            case (_, "channels", id, _):
                return Reply(204 if id in self.channels else 404)
            case ("GET", "channels"):
                return Reply(200, json.dumps([self.shown(id) for id in self.channels]).encode())
            case ("GET", "bridges"):
                return Reply(
                    200,
                    json.dumps([{"id": id, "channels": self.members(id)} for id in self.bridges]).encode(),
                )
            case ("POST", "bridges", id):
                self.bridges.add(id)
            case ("POST", "bridges", id, "addChannel"):
                if id not in self.bridges or query["channel"] not in self.channels:
                    return Reply(404)
                self.channels[query["channel"]]["bridge"] = id
            case ("DELETE", "bridges", id):
                if id not in self.bridges:
                    return Reply(404)
                self.bridges.discard(id)
                self.events.append(ari.BridgeGone(id))
        return Reply(200, b"{}")

    def shown(self, id: str) -> dict[str, Any]:
        return {
            "id": id,
            "state": self.channels[id]["state"],
            "dialplan": {"app_name": "Stasis", "app_data": "ice"},
        }

    def members(self, bridge: str) -> list[str]:
        return [id for id, channel in self.channels.items() if channel["bridge"] == bridge]

    def add(self, id: str, state: str, variables: dict[str, str], number: str = "") -> None:
        self.channels[id] = {"state": state, "bridge": "", "variables": variables}
        self.events.append(
            ari.Started(ari.Channel(id, state=state, caller=ari.Party(number=number)), ("4711",))
        )

    def change(self, id: str, state: str) -> None:
        self.channels[id]["state"] = state
        self.events += [ari.Changed(id, state), ari.Dialled(id, "ANSWER" if state == "Up" else "RINGING")]

    def end(self, id: str, q850: int = 16) -> None:
        if self.channels.pop(id, None) is not None:
            self.events += [ari.Left(id), ari.Gone(id, q850)]

    def incoming(self) -> str:
        id = f"17.{next(self._number)}"
        self.add(id, "Ring", {}, "030")
        return id


class World:
    """Engine and call manager; nothing moves by itself."""

    def __init__(self) -> None:
        self.now = 100.0
        self.numbers = count(1)
        self.manager = Manager()
        self.engine = self.new_engine()
        self.pending: list[Say] = []
        self.medias: set[UUID] = set()
        self.reports: list[Any] = []
        self.linked = False

    def new_engine(self) -> AsteriskEngine:
        terms = Terms("ice", "PJSIP/{number}@provider", "slin16", "127.0.0.1:9019")
        return AsteriskEngine(terms, lambda: UNIX + self.now, lambda: UUID(int=next(self.numbers) << 64))

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Say():
                    self.pending.append(output)
                case Expect(media):
                    self.medias.add(media)
                case Close(media):
                    self.medias.discard(media)
                case _:
                    self.reports.append(output)

    def link(self) -> None:
        self.linked = True
        self.take(self.engine.linked(self.now))

    def unlink(self) -> None:
        self.linked = False
        self.take(self.engine.unlinked("it broke", self.now))

    def restart(self) -> None:
        """The gateway dies; its connections of sound with it."""
        self.pending.clear()
        self.medias.clear()
        self.linked = False
        self.engine = self.new_engine()
        for id in [id for id in self.manager.channels if "-media-" in id]:
            self.manager.end(id)
        self.manager.events.clear()

    def answer(self, index: int = 0, reply: Reply | None = None, *, done: bool = True) -> Say:
        say = self.pending.pop(index)
        real = self.manager.do(say.ask) if done else Reply(500)
        self.take(self.engine.answered(say.tag, reply or real, self.now))
        return say

    def hear(self, index: int = 0) -> None:
        fact = self.manager.events.pop(index)
        if self.linked:
            self.take(self.engine.fact(fact, self.now))

    def go_on(self) -> None:
        """All requests and events that are on their way."""
        for _ in range(2_000):
            if self.pending:
                self.answer()
            elif self.manager.events:
                self.hear()
            else:
                return
        raise AssertionError("it never comes to rest")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.engine.tick(self.now))

    def ask(self, request: Any) -> None:
        self.take(self.engine.request(request, self.now))

    def up(self) -> World:
        self.link()
        self.go_on()
        return self

    def dial(self, number: str = "100") -> UUID:
        call = UUID(int=next(self.numbers))
        self.ask(Dial(call, number, user=ADA))
        return call

    def talking(self) -> UUID:
        call = self.dial()
        self.go_on()
        self.manager.change(self.engine.names.line(call), "Up")
        self.go_on()
        return call

    def events(self, call: UUID) -> list[Any]:
        return [each.event for each in self.reports if isinstance(each, Happened) and each.call == call]

    @property
    def calls(self) -> list[UUID]:
        return [each.call for each in self.reports if isinstance(each, Offered | Found)]


class Calls(SynchronousTestCase):
    def nothing_left(self, world: World) -> None:
        world.go_on()
        left = (
            world.manager.channels,
            world.manager.bridges,
            len(world.engine),
            len(world.engine.debris),
            world.medias,
        )
        self.assertEqual(left, ({}, set(), 0, 0, set()))

    def test_order(self) -> None:
        """Bridge, sound and channel are asked for at once; dialled when the channel has joined and the sound is there; the note says whose it is."""
        world = World().up()
        call = world.dial()
        self.assertEqual([say.tag.step for say in world.pending], [Step.BRIDGE, Step.MEDIA, Step.LINE])
        self.assertEqual(len(world.medias), 1)  # expected before it is asked for
        steps = []
        for _ in range(40):
            if world.pending:
                steps.append(world.answer().tag.step)
            elif world.manager.events:
                world.hear()
        self.assertEqual(steps[3:], [Step.JOIN, Step.JOIN, Step.DIAL])
        note = Memo.read(world.manager.channels[world.engine.names.line(call)]["variables"]["ICE_CALL"])
        assert note is not None
        self.assertEqual((note.user, note.answered_unix_s), (ADA, 0.0))
        world.manager.change(world.engine.names.line(call), "Up")
        world.go_on()
        self.assertEqual(world.events(call), [Answers(LINE)])  # told twice, said once
        world.ask(HangUp(call, Cause.HUNG_UP))
        self.nothing_left(world)
        self.assertEqual(world.events(call)[-1], Released(LINE))

    def test_given_up_too_early(self) -> None:
        """Hung up before anything exists: what comes into being afterwards is ended on sight."""
        world = World().up()
        call = world.dial()
        world.ask(HangUp(call, Cause.CANCELLED))
        removals = [index for index, say in enumerate(world.pending) if say.tag.step is Step.REMOVE]
        for index in reversed(removals):  # they overtake the requests that make things
            world.answer(index)
        self.assertEqual(world.events(call), [Released(LINE)])
        self.nothing_left(world)

    def test_nothing_answered(self) -> None:
        """A request without an answer that was carried out all the same."""
        world = World().up()
        call = world.dial()
        world.answer(2, Reply(None, why="it does not answer in time"))
        self.assertEqual(world.events(call), [Refuses(LINE, Cause.NO_TRUNK)])
        self.nothing_left(world)

    def test_removal_is_repeated(self) -> None:
        """What could not be ended is told again, with pauses, and given up after a minute."""
        world = World().up()
        call = world.talking()
        world.ask(HangUp(call, Cause.HUNG_UP))
        for _ in range(200):
            while world.pending:
                world.answer(done=False)
            world.wait(1.0)
        self.assertEqual(world.events(call)[-1], Released(LINE))
        self.assertEqual((len(world.engine.debris), world.engine.debris.given_up), (0, 3))

    def test_lost(self) -> None:
        """The event WebSocket does not come back: the call is lost after a while; in time: it goes on."""
        world = World().up()
        call = world.talking()
        world.unlink()
        world.wait(LOST_S - 1)
        world.up()
        world.wait(LOST_S)
        self.assertEqual(world.events(call), [Answers(LINE)])
        world.unlink()
        world.wait(LOST_S)
        self.assertEqual(world.events(call)[-1], Lost(LINE))
        self.assertEqual(
            [report.up for report in world.reports if isinstance(report, Health)], [True, False, True, False]
        )

    def test_found(self) -> None:
        """After a restart: an answered call is found with its user and since when, and has sound again; one that rang is ended."""
        world = World().up()
        call, ringing = world.talking(), world.dial("103")
        world.go_on()
        answered = UNIX + world.now
        world.restart()
        world.wait(30)
        world.up()
        (found,) = [each for each in world.reports if isinstance(each, Found)]
        self.assertEqual((found.call, found.user, found.direction), (call, ADA, Direction.OUTGOING))
        self.assertAlmostEqual(found.answered_unix_s, answered, 2)
        self.assertEqual(len(world.manager.members(world.engine.names.bridge(call))), 2)
        self.assertNotIn(world.engine.names.line(ringing), world.manager.channels)
        world.ask(HangUp(call, Cause.TAKEOVER))
        self.nothing_left(world)

    def test_called_while_connecting(self) -> None:
        """Who calls before all is compared is offered when it is, whichever comes first, the list or the event; who has gone by then is not."""
        for listed in (False, True):
            world = World()
            world.link()
            if listed:
                world.answer()  # the channels: none yet
            calls = [world.manager.incoming() for _ in range(2)]
            world.manager.end(calls[0])
            while world.manager.events:
                world.hear()
            world.go_on()
            self.assertEqual([report for report in world.reports if isinstance(report, Health)][-1].up, True)
            (offer,) = [each for each in world.reports if isinstance(each, Offered)]
            self.assertEqual((offer.number, offer.dialled), ("030", "4711"))
            self.assertIn(calls[1], world.manager.channels)
            world.ask(HangUp(offer.call, Cause.BUSY))
            self.nothing_left(world)

    def test_listed_before_told(self) -> None:
        """The list is faster than the event: the caller is not taken for somebody whom a gateway before us has left."""
        world = World()
        world.link()
        called = world.manager.incoming()
        world.answer()
        world.answer()
        world.hear()
        world.go_on()
        self.assertEqual(len([each for each in world.reports if isinstance(each, Offered)]), 1)
        self.assertIn(called, world.manager.channels)

    def test_called_while_away(self) -> None:
        """Who called before all was compared, and hung up while the event WebSocket was away, is forgotten; who is still there is offered."""
        world = World()
        world.link()
        calls = [world.manager.incoming() for _ in range(2)]
        world.hear()
        world.hear()
        world.pending.clear()
        world.unlink()
        world.manager.end(calls[0])
        world.manager.events.clear()
        world.up()
        self.assertEqual(len([each for each in world.reports if isinstance(each, Offered)]), 1)
        self.assertEqual(list(world.manager.channels), [calls[1]])

    def test_hand_over(self) -> None:
        """To who does not answer in time: told, and gone; to who answers: the pair stays until one of the two goes."""
        world = World().up()
        call = world.talking()
        world.ask(HandOver(call, "5"))
        world.go_on()
        world.wait(14.0)
        self.assertEqual(world.events(call)[-1], TransferFails(LINE, Cause.NO_ANSWER))
        world.ask(HandOver(call, "6"))
        world.go_on()
        target = world.engine.names.target(call, 2)
        world.manager.change(target, "Up")
        world.go_on()
        self.assertEqual(world.events(call)[-1], TransferDone(LINE))
        self.assertEqual((world.engine.pairs, len(world.manager.channels)), (1, 2))
        world.manager.end(world.engine.names.line(call))
        self.nothing_left(world)

    @given(st.integers(0, 2**32))
    @settings(max_examples=150, deadline=None)
    def test_whatever_happens(self, seed: int) -> None:
        """Requests, events, answers in any order, lost, late, refused, the link broken, the gateway restarted: at the end nothing is left, and each call has had its end."""
        chance = random.Random(seed)
        world = World().up()
        dialled: list[UUID] = []
        for _ in range(120):
            calls = dialled + world.calls
            call = chance.choice(calls) if calls else UUID(int=1 << 100)
            channels = list(world.manager.channels)
            what = chance.choice(KINDS)  # see there
            if what < 6 and world.pending:
                index = chance.randrange(min(3, len(world.pending)))
                fate = chance.random()
                asked = world.pending[
                    index
                ].tag.step  # a 404 is believed where it says that something is gone
                statuses = [409, 500] if asked in (Step.REMOVE, Step.MEMO) else [404, 409, 500]
                if fate < 0.92:
                    world.answer(index)
                else:
                    world.answer(
                        index,
                        Reply(None) if fate < 0.96 else Reply(chance.choice(statuses)),
                        done=fate < 0.94,
                    )
            elif what < 10 and world.manager.events:
                world.hear(
                    chance.randrange(min(3, len(world.manager.events))) if chance.random() < 0.1 else 0
                )
            elif what == 10:
                dialled.append(world.dial(chance.choice(["100", "1;2"])))
            elif what == 11:
                world.ask(HangUp(call, Cause.HUNG_UP))
            elif what == 12:
                request = chance.choice(
                    [
                        Accept(call),
                        Ring(call),
                        Hold(call),
                        Press(call, "1"),
                        HandOver(call, "5"),
                    ]
                )
                world.ask(request)
            elif what == 13:
                world.manager.incoming()
            elif what == 14 and channels:
                far = [id for id in channels if "-media-" not in id] or channels
                world.manager.change(chance.choice(far), chance.choice(["Ringing", "Up", "Up"]))
            elif what == 15 and channels:
                world.manager.end(chance.choice(channels), chance.choice([0, 1, 16, 17, 34]))
            elif what == 16 and world.medias:
                world.take(world.engine.media_ended(chance.choice(sorted(world.medias)), world.now))
            elif what == 17:
                world.wait(chance.choice([0.1, 1.0, 5.0]))
            elif what == 18 and chance.random() < 0.3:
                if world.linked:
                    chance.choice([world.unlink, world.restart])()
                else:
                    world.link()
        if not world.linked:
            world.link()
        for _ in range(3):
            world.go_on()
            world.wait(15.0)
        alive = {id for id in dialled + world.calls if id in world.engine._lines}
        for call in alive:
            world.ask(HangUp(call, Cause.HUNG_UP))
        world.go_on()
        for pair in list(world.engine._pairs.values()):
            world.manager.end(pair.line)
        for _ in range(4):
            world.go_on()
            world.wait(30.0)
        world.unlink()
        world.link()  # what was lost on the way is seen by looking
        self.nothing_left(world)
        for call in alive:
            self.assertIsInstance(world.events(call)[-1], ENDS)


class Parts(SynchronousTestCase):
    def test_names(self) -> None:
        """Names are ours by their form, and no other's are."""
        names, call = Names("ice"), UUID(int=5)
        for name, part in (
            (names.bridge(call), ""),
            (names.line(call), "line"),
            (names.media(call, 3), "media"),
            (names.target(call, 1), "target"),
        ):
            self.assertEqual(names.part(name), (call, part))
        for name in (
            "1700000000.5",
            "ice2-" + names.line(call)[4:],
            names.line(call) + ";2",
            names.bridge(call) + "-media",  # without its number it is nobody's
            names.bridge(call) + "-target",
            "",
            names.bridge(call) + "\n",
        ):
            self.assertIsNone(names.part(name))

    def test_numbers(self) -> None:
        """What may stand in an endpoint's name: nothing that Asterisk would take for syntax."""
        for good in ("100", "+4930901820", "*21#", "1" * 64):
            self.assertTrue(is_number(good))
        for bad in ("", "1" * 65, "1@2", "1/2", "1&2", "1,2", "1 2", "${X}", "1\n", "１２"):
            self.assertFalse(is_number(bad), bad)

    @given(st.text(max_size=20), st.text(max_size=20), st.uuids(), st.uuids(), st.floats(0, 4e9))
    @settings(max_examples=100, deadline=None)
    def test_note(self, number: str, dialled: str, call: UUID, user: UUID, answered: float) -> None:
        """A note comes back as it was, whatever is in it."""
        number, dialled = (text.encode("utf-8", "ignore").decode() for text in (number, dialled))
        memo = Memo(call, Direction.INCOMING, number, dialled, user, round(answered, 3), "x y")
        self.assertEqual(Memo.read(memo.text()), memo)
        self.assertNotIn("  ", memo.text())

    @given(st.text(max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_no_note(self, text: str) -> None:
        """Anything else is no note."""
        self.assertIsNone(Memo.read(text))
        self.assertIsNone(Memo.read("1 x y z 0 1 2 3"))
        self.assertIsNone(Memo.read(f"1 {UUID(int=1)} incoming {UUID(int=1)} nan 1 2 3"))

    def test_keys(self) -> None:
        """A key told twice counts once; the same key pressed twice, told twice each, counts twice."""
        keys = Keys()
        told = [
            ("1", "sound", 0.0),
            ("1", "event", 0.05),
            ("1", "event", 0.3),
            ("1", "sound", 0.31),
            ("1", "sound", 5.0),
        ]
        self.assertEqual([keys.take(*each) for each in told], [True, False, True, False, True])
