"""A call's life: each way through it, each way out, and that there is only one."""

from __future__ import annotations

from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.call import (
    BOTH,
    DUPLEX,
    SILENT,
    Action,
    Answers,
    Ask,
    Call,
    Close,
    Direction,
    Ended,
    Ending,
    Event,
    Flow,
    HangsUp,
    Holds,
    Ignored,
    Lost,
    Presses,
    Progress,
    Refuses,
    Release,
    Released,
    Resumes,
    Rings,
    Send,
    Side,
    Sounds,
    Stopped,
    Tell,
    Timing,
    Transfer,
    TransferDone,
    TransferFails,
    Transfers,
)
from ice.telephony.causes import Cause, cause_of
from ice.telephony.waiting import Standing, Verdict, at_gateway, at_user

ID = UUID(int=7)
USER, LINE = Side.USER, Side.LINE
OUT, IN = Direction.OUTGOING, Direction.INCOMING


class Stage:
    """A call with its clock."""

    def __init__(self, direction: Direction = OUT) -> None:
        self.now = 100.0
        self.call, self.first = Call.place(ID, direction, self.now)

    def feed(self, *events: Event) -> list[Action]:
        return [action for event in events for action in self.call.feed(event, self.now)]

    def wait(self, seconds: float) -> tuple[Action, ...]:
        self.now += seconds
        return self.call.tick(self.now)


class Outgoing(SynchronousTestCase):
    def test_answered_and_hung_up_by_the_user(self) -> None:
        """The usual call: asked, rings, sounds, answered; the user hangs up, the line lets go."""
        stage = Stage()
        self.assertEqual(stage.first, (Ask(LINE),))
        self.assertEqual(stage.feed(Rings(LINE)), [Tell(USER, Progress.RINGING)])
        self.assertEqual(stage.feed(Sounds(LINE)), [Tell(USER, Progress.EARLY), Flow(True, False)])
        self.assertEqual(stage.feed(Answers(LINE)), [Tell(USER, Progress.ANSWERED), DUPLEX])
        self.assertEqual(stage.feed(HangsUp(USER)), [Release(LINE, Cause.HUNG_UP), SILENT])
        self.assertTrue(stage.call.over)
        self.assertEqual(stage.feed(Released(LINE)), [Close(Ended(Cause.HUNG_UP, USER))])
        self.assertIsNone(stage.call.deadline)
        self.assertEqual(stage.call.ignored, {})

    def test_answered_without_ringing(self) -> None:
        """Answer may be the first word."""
        stage = Stage()
        self.assertEqual(stage.feed(Answers(LINE))[0], Tell(USER, Progress.ANSWERED))
        self.assertEqual(stage.call.name, "talking")

    def test_refusals_keep_their_name(self) -> None:
        """Busy, rejected and what the network says reach the caller as they are."""
        for cause in (Cause.BUSY, Cause.REJECTED, Cause.UNKNOWN_NUMBER, Cause.CONGESTION):
            stage = Stage()
            stage.feed(Rings(LINE))
            self.assertEqual(stage.feed(Refuses(LINE, cause)), [Release(USER, cause)])
            self.assertEqual(stage.feed(Released(USER)), [Close(Ended(cause, LINE))])

    def test_line_clears_normally_before_the_answer(self) -> None:
        """A call manager that just hangs up before an answer has rejected the call."""
        stage = Stage()
        self.assertEqual(stage.feed(HangsUp(LINE)), [Release(USER, Cause.REJECTED)])

    def test_cancel(self) -> None:
        """Who gives up before the answer cancels; the answer that crosses it changes nothing and is counted."""
        stage = Stage()
        stage.feed(Rings(LINE))
        self.assertEqual(stage.feed(HangsUp(USER)), [Release(LINE, Cause.CANCELLED)])
        self.assertEqual(stage.feed(Answers(LINE)), [])
        self.assertEqual(stage.call.ignored, {("answers", Ignored.OVER): 1})
        self.assertEqual(stage.feed(HangsUp(LINE)), [Close(Ended(Cause.CANCELLED, USER))])
        self.assertFalse(stage.call.answered)

    def test_hang_up_at_the_same_instant(self) -> None:
        """The first hang-up gives the cause, the other one confirms it; nobody is asked to let go twice."""
        stage = Stage()
        stage.feed(Answers(LINE))
        actions = stage.feed(HangsUp(LINE), HangsUp(USER))
        self.assertEqual(actions, [Release(USER, Cause.HUNG_UP), SILENT, Close(Ended(Cause.HUNG_UP, LINE))])

    def test_digits_in_early_media(self) -> None:
        """A menu that speaks before the answer gets its keys; the called presses none yet, and a mere ring hears none."""
        stage = Stage()
        stage.feed(Rings(LINE), Presses(USER, "1"))
        stage.feed(Sounds(LINE))
        self.assertEqual(stage.feed(Presses(USER, "2#"), Presses(LINE, "3")), [Send(LINE, "2#")])
        self.assertEqual(stage.call.ignored, {("presses", Ignored.NOT_YET): 2})


class Incoming(SynchronousTestCase):
    def test_answered(self) -> None:
        """The user is asked; what he says reaches the line."""
        stage = Stage(IN)
        self.assertEqual(stage.first, (Ask(USER),))
        actions = stage.feed(Rings(USER), Answers(USER), HangsUp(LINE), Released(USER))
        self.assertEqual(
            actions,
            [
                Tell(LINE, Progress.RINGING),
                Tell(LINE, Progress.ANSWERED),
                DUPLEX,
                Release(USER, Cause.HUNG_UP),
                SILENT,
                Close(Ended(Cause.HUNG_UP, LINE)),
            ],
        )

    def test_user_rejects(self) -> None:
        """Rejecting is the called user's to say, and the line hears it."""
        stage = Stage(IN)
        self.assertEqual(stage.feed(Refuses(USER, Cause.REJECTED)), [Release(LINE, Cause.REJECTED)])

    def test_wrong_side(self) -> None:
        """The caller can neither ring nor answer its own call."""
        stage = Stage(IN)
        stage.feed(Rings(LINE), Answers(LINE), Sounds(LINE), Refuses(LINE, Cause.BUSY))
        self.assertEqual(stage.call.name, "setup")
        self.assertEqual(sum(stage.call.ignored.values()), 4)
        self.assertEqual({why for _, why in stage.call.ignored}, {Ignored.WRONG_SIDE})


class InCall(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.stage.feed(Answers(LINE))

    def test_hold_by_both(self) -> None:
        """Sound flows again when nobody holds any more."""
        feed = self.stage.feed
        self.assertEqual(feed(Holds(USER)), [Tell(LINE, Progress.HELD), SILENT])
        self.assertEqual(feed(Holds(LINE)), [Tell(USER, Progress.HELD)])
        self.assertEqual(feed(Holds(LINE), Presses(USER, "1")), [])
        self.assertEqual(feed(Resumes(USER)), [Tell(LINE, Progress.RESUMED)])
        self.assertEqual(feed(Resumes(USER)), [])
        self.assertEqual(feed(Resumes(LINE)), [Tell(USER, Progress.RESUMED), DUPLEX])
        self.assertEqual(
            self.stage.call.ignored,
            {
                ("holds", Ignored.AGAIN): 1,
                ("presses", Ignored.ON_HOLD): 1,
                ("resumes", Ignored.NOT_HELD): 1,
            },
        )

    def test_digits_both_ways(self) -> None:
        """Keys go to the other side; what is no key, or too many, goes nowhere."""
        self.assertEqual(
            self.stage.feed(Presses(USER, "12#"), Presses(LINE, "A")), [Send(LINE, "12#"), Send(USER, "A")]
        )
        self.assertEqual(self.stage.feed(Presses(USER, ""), Presses(USER, "x"), Presses(USER, "1" * 65)), [])
        self.assertEqual(self.stage.call.ignored, {("presses", Ignored.NO_KEYS): 3})

    def test_transfer(self) -> None:
        """The line is handed on, and the user let go."""
        self.assertEqual(
            self.stage.feed(Transfers(USER, "+4930123")),
            [Tell(USER, Progress.TRANSFERRING), Transfer("+4930123"), SILENT],
        )
        self.assertEqual(self.stage.feed(TransferDone(LINE)), [Release(USER, Cause.TRANSFERRED)])

    def test_transfer_fails(self) -> None:
        """What was before the transfer is again, a hold included; so after a time without an outcome."""
        self.stage.feed(Holds(USER), Transfers(USER, "1"))
        told = Tell(USER, Progress.TRANSFER_FAILED, Cause.BUSY)
        self.assertEqual(self.stage.feed(TransferFails(LINE, Cause.BUSY)), [told])
        self.assertEqual(self.stage.call.name, "held")
        self.stage.feed(Resumes(USER), Transfers(USER, "1"))
        told = Tell(USER, Progress.TRANSFER_FAILED, Cause.NO_RESPONSE)
        self.assertEqual(self.stage.wait(15.0), (told, DUPLEX))
        self.assertEqual(self.stage.call.name, "talking")

    def test_user_leaves_during_the_transfer(self) -> None:
        """The transfer goes on; where it fails, the line is let go, since nobody is left."""
        self.stage.feed(Transfers(USER, "1"))
        self.assertEqual(self.stage.feed(HangsUp(USER)), [])
        self.assertEqual(
            self.stage.feed(TransferFails(LINE), Released(LINE)),
            [Release(LINE, Cause.TRANSFER_FAILED), Close(Ended(Cause.TRANSFER_FAILED, None))],
        )

    def test_user_leaves_and_the_transfer_succeeds(self) -> None:
        """Then nobody is left to let go."""
        self.stage.feed(Transfers(USER, "1"), HangsUp(USER))
        self.assertEqual(self.stage.feed(TransferDone(LINE)), [Close(Ended(Cause.TRANSFERRED, USER))])

    def test_only_the_user_transfers(self) -> None:
        """A line's transfer is its call manager's own affair; and a number is needed."""
        self.stage.feed(Transfers(LINE, "1"), Transfers(USER, ""))
        self.assertEqual(
            self.stage.call.ignored,
            {("transfers", Ignored.WRONG_SIDE): 1, ("transfers", Ignored.NO_NUMBER): 1},
        )

    def test_lost(self) -> None:
        """A side that is lost is not asked to let go; the other one is."""
        for side, cause in ((USER, Cause.USER_LOST), (LINE, Cause.LINE_LOST)):
            stage = Stage()
            stage.feed(Answers(LINE))
            self.assertEqual(stage.feed(Lost(side)), [Release(side.other, cause), SILENT])

    def test_stopped(self) -> None:
        """The gateway's own reasons end both sides."""
        actions = self.stage.feed(Stopped(Cause.TAKEOVER))
        self.assertEqual(actions, [Release(LINE, Cause.TAKEOVER), Release(USER, Cause.TAKEOVER), SILENT])
        self.assertEqual(self.stage.feed(Released(LINE), Lost(USER)), [Close(Ended(Cause.TAKEOVER, None))])


class Timers(SynchronousTestCase):
    def test_nothing_is_heard(self) -> None:
        """The called side says nothing: no-response, and both are let go."""
        stage = Stage()
        self.assertEqual(stage.wait(9.9), ())
        self.assertEqual(
            stage.wait(0.1), (Release(LINE, Cause.NO_RESPONSE), Release(USER, Cause.NO_RESPONSE))
        )

    def test_no_answer_counts_from_the_first_ring(self) -> None:
        """Early media does not begin the time anew."""
        stage = Stage()
        stage.feed(Rings(LINE))
        stage.wait(30)
        stage.feed(Sounds(LINE))
        self.assertEqual(stage.wait(29.9), ())
        self.assertEqual(stage.wait(0.1)[0], Release(LINE, Cause.NO_ANSWER))

    def test_longest_call(self) -> None:
        """A call ends after the longest time, holds and transfers included."""
        stage = Stage()
        stage.feed(Answers(LINE))
        stage.wait(4 * 3_600 - 1)
        stage.feed(Holds(USER), Transfers(USER, "1"))
        self.assertEqual(stage.wait(1)[0], Release(LINE, Cause.TOO_LONG))

    def test_nobody_confirms(self) -> None:
        """Who does not let go in time is named, and the call is over all the same."""
        stage = Stage()
        stage.wait(10)
        self.assertEqual(stage.wait(5), (Close(Ended(Cause.NO_RESPONSE, None, BOTH)),))

    def test_times_are_checked(self) -> None:
        """A time of 0 s is refused at once."""
        self.assertRaises(LocalError, Timing, ring_s=0)


class Causes(SynchronousTestCase):
    def test_every_cause_has_number_and_sentence(self) -> None:
        """No cause without what it is called elsewhere."""
        for cause in Cause:
            self.assertTrue(1 <= cause.q850 <= 127)
            self.assertTrue(cause.text)

    def test_numbers_of_the_network(self) -> None:
        """Known numbers have their names, all others are failures."""
        self.assertEqual(cause_of(17), Cause.BUSY)
        self.assertEqual([cause_of(n) for n in (0, 127, -1, 10_000)], [Cause.FAILED] * 4)


class Waiting(SynchronousTestCase):
    def test_free(self) -> None:
        """Who has no call takes any; a call that is over is none."""
        self.assertEqual(at_gateway(None, IN, "1"), Verdict.TAKE)
        self.assertEqual(at_user(None, OUT, "1"), Verdict.TAKE)
        stage = Stage()
        self.assertIsNotNone(Standing.of(stage.call, "1"))
        stage.feed(Refuses(LINE, Cause.BUSY))
        self.assertIsNone(Standing.of(stage.call, "1"))

    def test_no_call_waiting(self) -> None:
        """Who talks, or has dialled, is not called, and dials no second call."""
        for standing in (Standing(OUT, "1", False), Standing(OUT, "1", True), Standing(IN, "1", True)):
            for direction in Direction:
                self.assertEqual(at_gateway(standing, direction, "2"), Verdict.WAITING)

    def test_glare(self) -> None:
        """Both ends decide alike: the dialled call goes on, the offered one does not."""
        self.assertEqual(at_gateway(Standing(IN, "1", False), OUT, "2"), Verdict.REPLACE)
        self.assertEqual(at_user(Standing(OUT, "2", False), IN, "1"), Verdict.YIELD)

    def test_glare_of_two_who_call_each_other(self) -> None:
        """They meet in the call that has come."""
        self.assertEqual(at_gateway(Standing(IN, "1", False), OUT, "1"), Verdict.YIELD)
        self.assertEqual(at_user(Standing(OUT, "1", False), IN, "1"), Verdict.MEET)


EVENTS = st.one_of(
    st.builds(Rings, st.sampled_from(Side)),
    st.builds(Sounds, st.sampled_from(Side)),
    st.builds(Answers, st.sampled_from(Side)),
    st.builds(Refuses, st.sampled_from(Side), st.sampled_from(Cause)),
    st.builds(HangsUp, st.sampled_from(Side), st.sampled_from(Cause)),
    st.builds(Holds, st.sampled_from(Side)),
    st.builds(Resumes, st.sampled_from(Side)),
    st.builds(Presses, st.sampled_from(Side), st.text("0123456789*#ABCDx", max_size=70)),
    st.builds(Transfers, st.sampled_from(Side), st.sampled_from(("", "+491"))),
    st.builds(TransferDone, st.sampled_from(Side)),
    st.builds(TransferFails, st.sampled_from(Side), st.sampled_from(Cause)),
    st.builds(Lost, st.sampled_from(Side)),
    st.builds(Released, st.sampled_from(Side)),
    st.builds(Stopped, st.sampled_from(Cause)),
)


class AnyCall(RuleBasedStateMachine):
    """Whatever comes from both sides and the clock, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.actions: list[Action] = []
        self.call: Call | None = None

    @precondition(lambda self: self.call is None)
    @rule(direction=st.sampled_from(Direction))
    def begin(self, direction: Direction) -> None:
        self.call, first = Call.place(ID, direction, self.now)
        self.actions += first

    @precondition(lambda self: self.call is not None)
    @rule(event=EVENTS)
    def event(self, event: Event) -> None:
        assert self.call is not None
        state, ignored = self.call.state, sum(self.call.ignored.values())
        actions = self.call.feed(event, self.now)
        counted = sum(self.call.ignored.values()) - ignored
        assert counted in (0, 1)
        if counted:
            assert actions == () and self.call.state == state
        else:  # what was not counted as ignored did something
            assert actions or self.call.state != state
        self.actions += actions

    @precondition(lambda self: self.call is not None)
    @rule(seconds=st.sampled_from((0.1, 5.0, 15.0, 61.0, 20_000.0)))
    def wait(self, seconds: float) -> None:
        assert self.call is not None
        self.now += seconds
        self.actions += self.call.tick(self.now)
        assert self.call.deadline is None or self.call.deadline > self.now - 20_000

    @invariant()
    def one_answer_one_end(self) -> None:
        if self.call is None:
            return
        answers = [a for a in self.actions if isinstance(a, Tell) and a.progress is Progress.ANSWERED]
        closes = [a for a in self.actions if isinstance(a, Close)]
        releases = [a for a in self.actions if isinstance(a, Release)]
        assert len(answers) <= 1 and len(closes) <= 1
        assert len({a.side for a in releases}) == len(releases) and len({a.cause for a in releases}) <= 1
        assert bool(closes) == isinstance(self.call.state, Ended)
        assert bool(answers) == self.call.answered
        if self.call.over:
            assert self.call.flow == SILENT
            assert isinstance(self.call.state, Ending | Ended)
            assert all(a.cause is self.call.state.cause for a in releases)
        if closes:  # nothing is told after the end
            assert isinstance(self.actions[-1], Close)

    def teardown(self) -> None:
        """Left alone, every call ends by its own timers, on both sides."""
        if self.call is None:
            return
        for _ in range(4):
            if self.call.deadline is not None:
                self.now = max(self.now, self.call.deadline)
                self.actions += self.call.tick(self.now)
        assert isinstance(self.call.state, Ended) and self.call.deadline is None
        self.one_answer_one_end()


class AnyOrder(SynchronousTestCase):
    def test_any_order_ends_once(self) -> None:
        """Any order of events and times ends in one terminal state with one cause; what is ignored is counted."""
        AnyCall.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
        case = AnyCall.TestCase()
        case.runTest()
