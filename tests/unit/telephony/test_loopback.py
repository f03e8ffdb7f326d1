"""The built-in call manager, together with the call's state machine: each number to its end; and which trunk is asked."""

from __future__ import annotations

from uuid import UUID

import attrs
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony import call as life
from ice.telephony import trunk
from ice.telephony.call import (
    Call,
    Close,
    Direction,
    Ended,
    Event,
    HangsUp,
    Holds,
    Lost,
    Presses,
    Progress,
    Released,
    Resumes,
    Send,
    Side,
    Tell,
    Transfers,
)
from ice.telephony.causes import Cause
from ice.telephony.loopback import NUMBERS, Loopback
from ice.telephony.trunk import (
    Accept,
    Dial,
    HandOver,
    HangUp,
    Happened,
    Health,
    Offered,
    Press,
    Report,
    Sound,
    TrunkOrder,
    request_of,
)

ID, BACK = UUID(int=1), UUID(int=2)
USER = Side.USER


@attrs.define
class Gateway:
    """As little of a gateway as calls can be made with: calls, and one trunk."""

    loopback: Loopback = attrs.field(factory=lambda: Loopback(8_000, new_id=lambda: BACK))
    now: float = 0.0
    calls: dict[UUID, Call] = attrs.field(factory=dict)
    numbers: dict[UUID, str] = attrs.field(factory=dict)
    told: list[object] = attrs.field(factory=list)  # what the user is told
    sound: list[bytes] = attrs.field(factory=list)
    ends: dict[UUID, Ended] = attrs.field(factory=dict)

    def dial(self, number: str, caller: str = "7") -> None:
        call, actions = Call.place(ID, Direction.OUTGOING, self.now)
        self.calls[ID], self.numbers[ID] = call, number
        self.do(call, actions, caller)

    def do(self, call: Call, actions: object, caller: str = "") -> None:
        for action in actions:  # type: ignore[attr-defined]
            if isinstance(action, Close):
                self.ends[call.id] = action.ended
            request = request_of(call.id, action, number=self.numbers[call.id], caller=caller)
            if request is not None:
                self.hear(self.loopback.ask(request, self.now))
            elif getattr(action, "side", None) is USER:
                self.told.append(action)
                if type(action).__name__ == "Release":
                    self.user(Released(USER), call.id)

    def user(self, event: Event, id: UUID = ID) -> None:
        self.do(self.calls[id], self.calls[id].feed(event, self.now))

    def hear(self, reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, Sound):
                self.sound.append(report.samples)
            elif isinstance(report, Offered):
                call, actions = Call.place(report.call, Direction.INCOMING, self.now)
                self.calls[report.call], self.numbers[report.call] = call, report.number
                self.told.append(report)
                self.do(call, actions)
            elif isinstance(report, Happened):
                call = self.calls[report.call]
                self.do(call, call.feed(report.event, self.now))

    def wait(self, seconds: float, say: bytes = b"") -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            if say:
                self.loopback.sound(ID, say)
            self.hear(self.loopback.tick(self.now))
            for call in self.calls.values():
                self.do(call, call.tick(self.now))


def progress(gateway: Gateway) -> list[Progress]:
    return [action.progress for action in gateway.told if isinstance(action, Tell)]


class Numbers(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = Gateway()

    def test_echo(self) -> None:
        """100 rings, answers, and says back sound and keys, in order and nothing else."""
        gateway = self.gateway
        gateway.dial("100")
        gateway.wait(1.1)
        self.assertEqual(progress(gateway), [Progress.RINGING, Progress.ANSWERED])
        gateway.wait(1.0, b"ab" * 160)
        self.assertEqual(set(gateway.sound), {b"ab" * 160})
        self.assertGreater(len(gateway.sound), 45)
        gateway.user(Presses(USER, "5#"))
        self.assertEqual(gateway.told[-1], Send(USER, "5#"))
        gateway.user(HangsUp(USER))
        self.assertEqual(gateway.ends, {ID: Ended(Cause.HUNG_UP, USER)})
        self.assertEqual((len(gateway.loopback), gateway.loopback.deadline), (0, None))

    def test_hold(self) -> None:
        """Nothing is said back to who holds."""
        gateway = self.gateway
        gateway.dial("100")
        gateway.wait(1.1)
        gateway.user(Holds(USER))
        gateway.wait(0.5, b"ab")
        self.assertEqual(gateway.sound, [])
        gateway.user(Resumes(USER))
        gateway.wait(0.5, b"ab")
        self.assertGreater(len(gateway.sound), 20)
        self.assertGreater(gateway.loopback.dropped["nobody-listens"], 20)

    def test_announcement(self) -> None:
        """101 is heard early, answers, says all of it and hangs up."""
        gateway = self.gateway
        gateway.dial("101")
        gateway.wait(1.5)
        self.assertEqual(gateway.calls[ID].name, "early")
        gateway.wait(3.0)
        self.assertEqual(progress(gateway), [Progress.RINGING, Progress.EARLY, Progress.ANSWERED])
        self.assertEqual(gateway.ends, {ID: Ended(Cause.HUNG_UP, Side.LINE)})
        pcm = np.frombuffer(b"".join(gateway.sound), "<i2")
        self.assertLess(abs(len(pcm) / 8_000 - 2.1), 0.05)
        self.assertGreater(int(np.abs(pcm).max()), 4_000)

    def test_busy(self) -> None:
        """102 is busy, any other number unknown."""
        for number, cause in (("102", Cause.BUSY), ("999", Cause.UNKNOWN_NUMBER)):
            gateway = Gateway()
            gateway.dial(number)
            self.assertEqual(gateway.ends, {ID: Ended(cause, Side.LINE)})
            self.assertEqual(len(gateway.loopback), 0)

    def test_rings_out(self) -> None:
        """103 rings until the caller's patience is over; the line is let go."""
        self.gateway.dial("103")
        self.gateway.wait(61)
        self.assertEqual(self.gateway.ends, {ID: Ended(Cause.NO_ANSWER, None)})
        self.assertEqual(len(self.gateway.loopback), 0)

    def test_calls_back(self) -> None:
        """104 hangs up and calls back; who answers hears himself."""
        gateway = self.gateway
        gateway.dial("104", caller="7")
        gateway.wait(2.0)
        self.assertEqual(gateway.ends[ID].cause, Cause.HUNG_UP)
        gateway.wait(3.0)
        self.assertIn(Offered(BACK, "104", "7", "Loopback"), gateway.told)
        gateway.user(life.Answers(USER), BACK)
        gateway.sound.clear()
        gateway.loopback.sound(BACK, b"xy")
        gateway.wait(0.1)
        self.assertEqual(gateway.sound, [b"xy"])
        gateway.user(HangsUp(USER), BACK)
        self.assertEqual(len(gateway.loopback), 0)

    def test_nobody_answers_the_call_back(self) -> None:
        """It gives up after half a minute."""
        self.gateway.dial("104")
        self.gateway.wait(36)
        self.gateway.user(life.Rings(USER), BACK)
        self.assertEqual(self.gateway.ends[BACK].cause, Cause.NO_RESPONSE)
        self.assertEqual(len(self.gateway.loopback), 0)

    def test_transfer(self) -> None:
        """Between its own numbers; elsewhere it fails, and the call goes on."""
        gateway = self.gateway
        gateway.dial("100")
        gateway.wait(1.1)
        gateway.user(Transfers(USER, "999"))
        self.assertEqual(gateway.told[-1], Tell(USER, Progress.TRANSFER_FAILED, Cause.UNKNOWN_NUMBER))
        gateway.user(Transfers(USER, "101"))
        self.assertEqual(gateway.ends[ID], Ended(Cause.TRANSFERRED, USER))
        self.assertEqual(len(gateway.loopback), 0)

    def test_unknown_calls(self) -> None:
        """A request about nothing is answered: lost, or released."""
        loopback = Loopback()
        self.assertEqual(loopback.ask(Accept(ID), 0.0), [Happened(ID, Lost(Side.LINE))])
        self.assertEqual(loopback.ask(HangUp(ID, Cause.BUSY), 0.0), [Happened(ID, Released(Side.LINE))])
        loopback.sound(ID, b"ab")
        self.assertEqual(loopback.dropped, {"no-line": 1})
        self.assertRaises(LocalError, Loopback, 44_100)

    def test_too_fast(self) -> None:
        """Whoever says a minute at once hears a second of it."""
        gateway = self.gateway
        gateway.dial("100")
        gateway.wait(1.1)
        for _ in range(200):
            gateway.loopback.sound(ID, b"ab")
        self.assertEqual(gateway.loopback.dropped, {"too-fast": 150})

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([*NUMBERS, "999"]).map(lambda number: Dial(ID, number, "7")),
                st.sampled_from([Accept(ID), Accept(BACK), HangUp(ID, Cause.HUNG_UP), Press(ID, "1")]),
                st.sampled_from([HandOver(ID, "100"), trunk.Hold(ID), trunk.Resume(ID), trunk.Ring(BACK)]),
                st.sampled_from([0.1, 1.0, 5.0, 40.0]),
            ),
            max_size=20,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_any_order(self, steps: list[object]) -> None:
        """Whatever is asked when: it answers, and in the end nothing is left but what nobody hung up."""
        loopback, now = Loopback(new_id=lambda: BACK), 0.0
        for step in steps:
            if isinstance(step, float):
                now += step
                loopback.tick(now)
            else:
                loopback.ask(step, now)  # type: ignore[arg-type]
        for id in (ID, BACK):
            loopback.ask(HangUp(id, Cause.HUNG_UP), now)
        loopback.tick(now + 10)
        loopback.tick(now + 100)
        self.assertEqual((len(loopback), loopback.deadline), (0, None))


class Order(SynchronousTestCase):
    def test_choice(self) -> None:
        """The first that is up; one that failed comes last for a while; none twice for one call."""
        order = TrunkOrder(["north", "south"])
        self.assertEqual((order.choose(0.0), order.health.up), (None, False))
        for name in order.names:
            order.told(name, Health(True, "ok"))
        self.assertEqual((order.choose(0.0), order.choose(0.0, ["north"])), ("north", "south"))
        order.failed("north", 0.0)
        self.assertEqual((order.choose(1.0), order.choose(31.0)), ("south", "north"))
        order.told("south", Health(False, "connection refused"))
        self.assertEqual(order.choose(1.0), "north")
        self.assertEqual(order.health, Health(True, "south: connection refused"))
        self.assertRaises(LocalError, TrunkOrder, [])
        self.assertRaises(LocalError, TrunkOrder, ["a", "a"])
