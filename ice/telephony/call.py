"""One call, from the first word about it to the last: what may happen when, and what is to be done then.

An engine: time is an argument (``now``, seconds of any clock that only goes forward), what is to be done comes out as values, nothing is waited for.

**Two sides.** A call has a *user* and a *line*. In a gateway the user is a person who is reached by call messages, the line a channel of a call manager; in
a person's own program the user is the person, the line the gateway. One side *calls*, the other is *called*: the user calls in an
outgoing call, the line in an incoming one. Only the called side rings, answers and refuses; everything else either may do, save that only the user transfers.

**States.** :class:`Setup` (the called side has been asked) → :class:`Ringing` → :class:`Early` (it rings, and the caller hears the called side
already) → :class:`Talking` ⇄ :class:`Held` (by one or both), :class:`Transferring` → :class:`Ending` (the cause stands, somebody has still to let go) →
:class:`Ended`. Any of the first three may be skipped. What a state needs to know stands in the state.

**One end.** The first fact that ends a call gives its cause, and it never changes: whoever hangs up at the same instant, answers a call that is being
cancelled, or is busy a moment after the time-out, confirms what is decided already. Each side that has not gone by itself is released
(:class:`Release`), and the call is :class:`Ended` when all have confirmed, or at the latest :attr:`Timing.release_s` later (:attr:`Ended.unconfirmed` names those who did not).

**Nothing is lost silently.** Whatever comes where it has no meaning changes nothing and is counted in :attr:`Call.ignored` by its kind and by why (:class:`Ignored`).

The table of states, events and what follows is in ``docs/telephony.md``; a test holds it against this module.
"""

from __future__ import annotations

from collections import Counter
from typing import Final
from uuid import UUID

import attrs

from ice.telephony.causes import Cause
from ice.telephony.states import (
    BOTH,
    DUPLEX,
    MAX_DIGITS,
    NOBODY,
    SILENT,
    Action,
    Answered,
    Answers,
    Ask,
    Asked,
    Close,
    Direction,
    Early,
    Ended,
    Ending,
    Event,
    Flow,
    HangsUp,
    Held,
    Holds,
    Ignored,
    Lost,
    Marks,
    Presses,
    Progress,
    Refuses,
    Release,
    Released,
    Resumes,
    Ringing,
    Rings,
    Send,
    Setup,
    Side,
    Sounds,
    State,
    Stopped,
    Talking,
    Tell,
    Timing,
    Transfer,
    TransferDone,
    TransferFails,
    Transferring,
    Transfers,
    keys,
)

__all__ = [
    "BOTH",
    "DUPLEX",
    "MAX_DIGITS",
    "NOBODY",
    "SILENT",
    "Action",
    "Answered",
    "Answers",
    "Ask",
    "Asked",
    "Call",
    "Close",
    "Direction",
    "Early",
    "Ended",
    "Ending",
    "Event",
    "Flow",
    "HangsUp",
    "Held",
    "Holds",
    "Ignored",
    "Lost",
    "Marks",
    "Presses",
    "Progress",
    "Refuses",
    "Release",
    "Released",
    "Resumes",
    "Ringing",
    "Rings",
    "Send",
    "Setup",
    "Side",
    "Sounds",
    "State",
    "Stopped",
    "Talking",
    "Tell",
    "Timing",
    "Transfer",
    "TransferDone",
    "TransferFails",
    "Transferring",
    "Transfers",
    "keys",
]


#: What a line may give as its reason to end a call that was answered; anything else is a hang-up.
AFTER_ANSWER: Final = frozenset(
    {
        Cause.TRANSFERRED,
        Cause.TOO_LONG,
        Cause.FAILED,
        Cause.LINE_LOST,
        Cause.MEDIA_LOST,
        Cause.SHUTDOWN,
        Cause.TAKEOVER,
    }
)


class Call:
    """One call; see the module docstring. :meth:`place` begins one."""

    def __init__(self, id: UUID, direction: Direction, now: float, timing: Timing) -> None:
        self.id = id
        self.direction = direction
        self.timing = timing
        self.state: State = Setup(now + timing.setup_s)
        self.marks = Marks(now)
        self.flow = SILENT
        #: Events that changed nothing: (kind of event, why) → how many.
        self.ignored: Counter[tuple[str, Ignored]] = Counter()

    @classmethod
    def place(
        cls, id: UUID, direction: Direction, now: float, timing: Timing | None = None
    ) -> tuple[Call, tuple[Action, ...]]:
        """A call that begins now, and what is to be done first."""
        return cls(id, direction, now, timing or Timing()), (Ask(direction.called),)

    @classmethod
    def adopt(cls, id: UUID, direction: Direction, answered: float, timing: Timing | None = None) -> Call:
        """A call that was ``answered`` before we knew of it: a gateway that was restarted finds it at its call manager."""
        call = cls(id, direction, answered, timing or Timing())
        call.state = Talking(answered + call.timing.longest_s)
        call.marks = Marks(answered, answered=answered)
        call.flow = DUPLEX
        return call

    @property
    def name(self) -> str:
        """The state's name, for people and metrics."""
        return type(self.state).__name__.lower()

    @property
    def answered(self) -> bool:
        """Whether the call was ever answered."""
        return self.marks.answered is not None

    @property
    def over(self) -> bool:
        """Whether the call has its end, whoever has still to let go."""
        return isinstance(self.state, Ending | Ended)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next; ``None`` when there is nothing more to come."""
        return None if isinstance(self.state, Ended) else self.state.until

    def feed(self, event: Event, now: float) -> tuple[Action, ...]:
        """Take what happened; gives what is to be done, in order. Never raises for what comes when."""
        result = self._step(event, now)
        if isinstance(result, Ignored):
            self.ignored[type(event).__name__.lower(), result] += 1
            return ()
        return result

    def tick(self, now: float) -> tuple[Action, ...]:
        """Look at the clock: what is to be done where a time is over, nothing where none is."""
        state = self.state
        if isinstance(state, Ended) or now < state.until:
            return ()
        match state:
            case Setup():
                return self._end(Cause.NO_RESPONSE, None, BOTH, now)
            case Ringing() | Early():
                return self._end(Cause.NO_ANSWER, None, BOTH, now)
            case Talking() | Held():
                return self._end(Cause.TOO_LONG, None, BOTH, now)
            case Transferring():
                return self._transfer_failed(state, Cause.NO_RESPONSE, now)
            case Ending():
                return self._ended(state, state.waits, now)

    # -- within

    def _step(self, event: Event, now: float) -> tuple[Action, ...] | Ignored:
        state = self.state
        if isinstance(state, Ended):
            return Ignored.OVER
        if isinstance(state, Ending):
            return self._let_go(state, event, now)
        if isinstance(event, Stopped):
            return self._end(event.cause, None, self._present(state), now)
        if isinstance(state, Setup | Ringing | Early):
            return self._asked(state, event, now)
        return self._in_call(state, event, now)

    def _present(self, state: State) -> frozenset[Side]:
        gone = isinstance(state, Transferring) and state.user_gone
        return BOTH - {Side.USER} if gone else BOTH

    def _asked(self, state: Asked, event: Event, now: float) -> tuple[Action, ...] | Ignored:
        """Before the answer."""
        assert not isinstance(event, Stopped)
        caller, called = self.direction.caller, self.direction.called
        by_called = event.side is called
        match event:
            case Rings() | Sounds() | Answers() | Refuses() if not by_called:
                return Ignored.WRONG_SIDE
            case Rings():
                if not isinstance(state, Setup):
                    return Ignored.AGAIN
                self.marks = attrs.evolve(self.marks, rang=now)
                return self._enter(Ringing(now + self.timing.ring_s), Tell(caller, Progress.RINGING))
            case Sounds():
                if isinstance(state, Early):
                    return Ignored.AGAIN
                until = now + self.timing.ring_s if isinstance(state, Setup) else state.until
                return self._enter(Early(until), Tell(caller, Progress.EARLY))
            case Answers():
                self.marks = attrs.evolve(self.marks, answered=now)
                return self._enter(Talking(now + self.timing.longest_s), Tell(caller, Progress.ANSWERED))
            case Refuses():
                return self._end(event.cause, called, frozenset({caller}), now)
            case HangsUp():
                cause = event.cause if by_called or event.side is Side.LINE else Cause.CANCELLED
                if cause is Cause.HUNG_UP:  # "normal clearing" before an answer
                    cause = Cause.REJECTED if by_called else Cause.CANCELLED
                return self._end(cause, event.side, frozenset({event.side.other}), now)
            case Lost():
                return self._lost(event.side, now)
            case Presses():
                if by_called or not isinstance(state, Early):
                    return Ignored.NOT_YET
                return (Send(called, event.digits),) if keys(event.digits) else Ignored.NO_KEYS
            case _:
                return Ignored.NOT_YET

    def _in_call(self, state: Answered, event: Event, now: float) -> tuple[Action, ...] | Ignored:
        """After the answer."""
        assert not isinstance(event, Stopped)
        if isinstance(state, Transferring):
            return self._in_transfer(state, event, now)
        side = event.side
        by = state.by if isinstance(state, Held) else NOBODY
        match event:
            case Rings() | Sounds() | Answers() | Refuses():
                return Ignored.TOO_LATE
            case HangsUp():
                return self._end(_said(event), side, frozenset({side.other}), now)
            case Lost():
                return self._lost(side, now)
            case Holds():
                if side in by:
                    return Ignored.AGAIN
                return self._enter(Held(state.until, by | {side}), Tell(side.other, Progress.HELD))
            case Resumes():
                if side not in by:
                    return Ignored.NOT_HELD
                left = by - {side}
                after: State = Held(state.until, left) if left else Talking(state.until)
                return self._enter(after, Tell(side.other, Progress.RESUMED))
            case Presses():
                if by:
                    return Ignored.ON_HOLD
                return (Send(side.other, event.digits),) if keys(event.digits) else Ignored.NO_KEYS
            case Transfers():
                if side is not Side.USER:
                    return Ignored.WRONG_SIDE
                if not event.number:
                    return Ignored.NO_NUMBER
                until = min(state.until, now + self.timing.transfer_s)
                moving = Transferring(until, state.until, event.number, by)
                return self._enter(moving, Tell(Side.USER, Progress.TRANSFERRING), Transfer(event.number))
            case TransferDone() | TransferFails():
                return Ignored.NO_TRANSFER
            case Released():
                return Ignored.NOT_YET

    def _in_transfer(self, state: Transferring, event: Event, now: float) -> tuple[Action, ...] | Ignored:
        """While the line is being handed on. The user may leave: the line is on its way, and is let go where that fails."""
        assert not isinstance(event, Stopped)
        by_user = event.side is Side.USER
        match event:
            case Rings() | Sounds() | Answers() | Refuses():
                return Ignored.TOO_LATE
            case TransferDone() | TransferFails() if by_user:
                return Ignored.WRONG_SIDE
            case TransferDone():
                return self._end(Cause.TRANSFERRED, Side.USER, self._present(state) - {Side.LINE}, now)
            case TransferFails():
                return self._transfer_failed(state, event.cause, now)
            case HangsUp() | Lost() if by_user:
                if state.user_gone:
                    return Ignored.AGAIN
                self.state = attrs.evolve(state, user_gone=True)
                return ()
            case HangsUp():
                return self._end(_said(event), Side.LINE, self._present(state) - {Side.LINE}, now)
            case Lost():
                return self._end(Cause.LINE_LOST, Side.LINE, self._present(state) - {Side.LINE}, now)
            case Released():
                return Ignored.NOT_YET
            case _:
                return Ignored.TRANSFERRING

    def _transfer_failed(self, state: Transferring, cause: Cause, now: float) -> tuple[Action, ...]:
        if state.user_gone:
            return self._end(Cause.TRANSFER_FAILED, None, frozenset({Side.LINE}), now)
        if now >= state.last:
            return self._end(Cause.TOO_LONG, None, BOTH, now)
        after: State = Held(state.last, state.held) if state.held else Talking(state.last)
        return self._enter(after, Tell(Side.USER, Progress.TRANSFER_FAILED, cause))

    def _lost(self, side: Side, now: float) -> tuple[Action, ...]:
        cause = Cause.USER_LOST if side is Side.USER else Cause.LINE_LOST
        return self._end(cause, side, frozenset({side.other}), now)

    def _end(self, cause: Cause, by: Side | None, release: frozenset[Side], now: float) -> tuple[Action, ...]:
        """Decide the end: the one place where a cause is given."""
        self.marks = attrs.evolve(self.marks, decided=now)
        ending = Ending(now + self.timing.release_s, cause, by, release)
        releases = [Release(side, cause) for side in sorted(release)]
        actions = self._enter(ending, *releases)
        return actions if release else actions + self._ended(ending, NOBODY, now)

    def _let_go(self, state: Ending, event: Event, now: float) -> tuple[Action, ...] | Ignored:
        if (
            isinstance(event, HangsUp | Refuses | Lost | Released | TransferDone)
            and event.side in state.waits
        ):
            waits = state.waits - {event.side}
            if not waits:
                return self._ended(state, NOBODY, now)
            self.state = attrs.evolve(state, waits=waits)
            return ()
        return Ignored.OVER

    def _ended(self, state: Ending, unconfirmed: frozenset[Side], now: float) -> tuple[Action, ...]:
        self.marks = attrs.evolve(self.marks, ended=now)
        self.state = Ended(state.cause, state.by, unconfirmed)
        return (Close(self.state),)

    def _enter(self, state: State, *actions: Action) -> tuple[Action, ...]:
        self.state = state
        match state:
            case Talking():
                flow = DUPLEX
            case Early():
                outgoing = self.direction is Direction.OUTGOING
                flow = Flow(to_user=outgoing, to_line=not outgoing)
            case _:
                flow = SILENT
        if flow == self.flow:
            return actions
        self.flow = flow
        return (*actions, flow)


def _said(event: HangsUp) -> Cause:
    """Why a side hangs up after the answer: what the line says where it says more than that, never what a person's program claims."""
    return event.cause if event.side is Side.LINE and event.cause in AFTER_ANSWER else Cause.HUNG_UP
