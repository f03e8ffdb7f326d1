"""A person's telephone: one call at a time, by messages to the gateway; the counterpart of :mod:`ice.telephony.switchboard`.

An engine: what is heard on the person's stream goes in (:meth:`Handset.receive`), what the person does too (:meth:`Handset.dial`, :meth:`Handset.answer`, …); what is to be done comes out as values: datagrams to
say, what the person should see and hear, when the call's stream is to be joined and left. It runs the same state machine as the gateway, the line being the gateway.

The gateway is found by asking: ``hello`` on the group's stream, ``here`` in answer. It is asked every minute, during a call every 15 s, which also tells it that calls may come, and whenever another gateway says ``here`` to all: a
takeover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import attrs

from ice.errors import LocalError
from ice.telephony import messages
from ice.telephony.call import (
    Action,
    Answers,
    Ask,
    Call,
    Close,
    Direction,
    Ended,
    Event,
    Flow,
    HangsUp,
    Held,
    Holds,
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
    Stopped,
    Tell,
    Timing,
    Transfers,
    keys,
)
from ice.telephony.causes import Cause
from ice.telephony.envelope import Correspondent, Letter
from ice.telephony.messages import Because, Kind, Media
from ice.telephony.post import Delivered, Mail, Output, Post, Returned, Undelivered
from ice.telephony.switchboard import CALL_HELLO_S, HELLO_S, MISSED
from ice.telephony.waiting import Standing, Verdict, at_user

RETRY_S: Final = 2.0  # between two hellos while no gateway answers


@attrs.frozen
class Incoming:
    """Somebody calls: ring. ``number`` may be empty (withheld)."""

    call: UUID
    number: str
    name: str
    dialled: str


@attrs.frozen
class Shown:
    """How the call goes on, for the person."""

    call: UUID
    progress: Progress
    cause: Cause | None = None


@attrs.frozen
class JoinSound:
    """Join the stream of the call under its key."""

    call: UUID
    media: Media


@attrs.frozen
class SetFlow:
    """Whether the person is heard (``talk``) and hears (``listen``)."""

    call: UUID
    listen: bool
    talk: bool


@attrs.frozen
class KeysHeard:
    """The far side pressed keys."""

    call: UUID
    digits: str


@attrs.frozen
class Over:
    """The call is over: leave its stream."""

    call: UUID
    ended: Ended


@attrs.frozen
class Reachable:
    """Whether a gateway answers."""

    up: bool
    why: str


Order: TypeAlias = Mail | Incoming | Shown | JoinSound | SetFlow | KeysHeard | Over | Reachable


@attrs.define
class _Entry:
    call: Call
    number: str
    joined: bool = False


class Handset:
    """One person's telephone at one gateway group; see the module docstring.

    ``me`` is the UUID of our certificate, which names our stream. ``timing`` is a little longer than the gateway's, whose word goes first.
    """

    def __init__(
        self,
        group: str,
        me: UUID,
        post: Post,
        *,
        timing: Timing | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self.group = group
        self.stream = messages.user_stream(group, me)  #: where we listen, besides the notices
        self.gateway: Correspondent | None = None
        self.refused: Counter[str] = Counter()
        self._post = post
        self._timing = timing or Timing(setup_s=15.0, ring_s=90.0, transfer_s=20.0)
        self._new_id = new_id
        self._calls: dict[UUID, _Entry] = {}
        self._hello_at = float("-inf")
        self._answered_at = float("-inf")
        self._here_ms = -1

    @property
    def call(self) -> Call | None:
        """The call there is; ``None`` where there is none that is not over."""
        return next((entry.call for entry in self._calls.values() if not entry.call.over), None)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [due for entry in self._calls.values() if (due := entry.call.deadline) is not None]
        dues += [due for due in (self._post.deadline,) if due is not None]
        return min([*dues, self._next_hello])

    @property
    def _next_hello(self) -> float:
        return self._hello_at + (self._pause if self.gateway is not None else RETRY_S)

    @property
    def _pause(self) -> float:
        return CALL_HELLO_S if self.call is not None else HELLO_S

    # -- the person

    def dial(self, number: str, name: str, now: float, unix_s: float) -> tuple[UUID, list[Order]]:
        """Call a number; ``name`` is who calls. Raises :class:`~ice.errors.LocalError` without a gateway, during a call, and for no number."""
        if self.gateway is None:
            raise LocalError("no gateway answers: is one running for this group, and are we connected?")
        if self.call is not None:
            raise LocalError("there is a call already; hang up first")
        if not 0 < len(number) <= messages.MAX_NUMBER:
            raise LocalError(f"a number has 1 to {messages.MAX_NUMBER} characters")
        id = self._new_id()
        call, _ = Call.place(id, Direction.OUTGOING, now, self._timing)
        self._calls[id] = _Entry(call, number)
        body = messages.Dial(number, name[: messages.MAX_NAME])
        on = messages.group_stream(self.group)
        outputs = self._post.begin(id, Kind.DIAL, body, self.gateway, on, now, unix_s)
        return id, [each for each in outputs if isinstance(each, Mail)]

    def answer(self, now: float, unix_s: float) -> list[Order]:
        """Take the call that rings."""
        return self._person(Answers(Side.USER), now, unix_s)

    def reject(self, now: float, unix_s: float) -> list[Order]:
        """Do not take the call that rings."""
        return self._person(Refuses(Side.USER, Cause.REJECTED), now, unix_s)

    def hang_up(self, now: float, unix_s: float) -> list[Order]:
        """End the call, or give it up, or reject it."""
        return self._person(HangsUp(Side.USER), now, unix_s)

    def hold(self, now: float, unix_s: float) -> list[Order]:
        """Put the call on hold."""
        return self._person(Holds(Side.USER), now, unix_s)

    def resume(self, now: float, unix_s: float) -> list[Order]:
        """Go on with a call on hold."""
        return self._person(Resumes(Side.USER), now, unix_s)

    def press(self, digits: str, now: float, unix_s: float) -> list[Order]:
        """Press keys; raises :class:`~ice.errors.LocalError` for what is none."""
        if not keys(digits):
            raise LocalError("telephone keys are 0123456789*#ABCD, 64 at a time at most")
        return self._person(Presses(Side.USER, digits), now, unix_s)

    def transfer(self, number: str, now: float, unix_s: float) -> list[Order]:
        """Hand the line to a number."""
        return self._person(Transfers(Side.USER, number), now, unix_s)

    def _person(self, event: Event, now: float, unix_s: float) -> list[Order]:
        call = self.call
        return [] if call is None else self._feed(self._calls[call.id], event, now, unix_s)

    # -- the gateway

    def receive(self, payload: bytes, on: str, source: int, now: float, unix_s: float) -> list[Order]:
        """A datagram was heard on our stream or on the notices' (``on``)."""
        group = messages.group_stream(self.group)
        outputs = self._post.receive(payload, on, source, now, unix_s, lambda _: group)
        return self._from_post(outputs, now, unix_s)

    def tick(self, now: float, unix_s: float) -> list[Order]:
        """Look at the clock; the first call says hello."""
        orders = self._from_post(self._post.tick(now, unix_s), now, unix_s)
        for entry in list(self._calls.values()):
            orders += self._do(entry, entry.call.tick(now), now, unix_s)
        began = max((entry.call.marks.began for entry in self._calls.values()), default=float("-inf"))
        if self.gateway is not None and now - max(self._answered_at, began) > MISSED * self._pause:
            orders += self._lose_gateway("the gateway does not answer any more")
            for entry in list(self._calls.values()):
                orders += self._feed(entry, Lost(Side.LINE), now, unix_s)
        if now >= self._next_hello:
            self._hello_at = now
            on = messages.group_stream(self.group)
            orders.append(self._post.announce(Kind.HELLO, on, unix_s))
        return orders

    def _lose_gateway(self, why: str) -> list[Order]:
        self.gateway = None
        return [Reachable(False, why)]

    def _from_post(self, outputs: list[Output], now: float, unix_s: float) -> list[Order]:
        orders: list[Order] = []
        for output in outputs:
            match output:
                case Mail():
                    orders.append(output)
                case Delivered(letter):
                    orders += self._letter(letter, now, unix_s)
                case Undelivered(call, _) | Returned(call, _, _):
                    if isinstance(output, Undelivered) and self.gateway is not None:
                        orders += self._lose_gateway("the gateway does not confirm what we say")
                        self._hello_at = float("-inf")
                    if call in self._calls:
                        orders += self._feed(self._calls[call], Lost(Side.LINE), now, unix_s)
        for entry in list(self._calls.values()):
            if entry.call.over and not self._post.is_open(entry.call.id):
                orders += self._feed(entry, Released(Side.LINE), now, unix_s)
        return orders

    def _letter(self, letter: Letter, now: float, unix_s: float) -> list[Order]:
        kind, body = letter.header.kind, letter.body
        if kind is Kind.HERE:
            return self._here(letter, now)
        id = letter.header.call_id
        if id is None:
            return []
        if kind is Kind.OFFER and id not in self._calls:
            return self._offer(id, letter, now, unix_s)
        entry = self._calls.get(id)
        if entry is None:
            return self._unknown(id, kind, now, unix_s)
        if kind is Kind.ADOPT and isinstance(body, messages.Proceeding):
            return self._adopted(entry, body.media, now, unix_s)
        if isinstance(body, messages.Proceeding):
            return self._join(entry, body.media)
        event = messages.event_of(kind, body, Side.LINE)
        if event is None:
            self.refused["no-event"] += kind is not Kind.TRANSFERRING
            return []
        return self._feed(entry, event, now, unix_s)

    def _here(self, letter: Letter, now: float) -> list[Order]:
        sender, before = letter.sender, self.gateway
        if (
            letter.header.ms <= self._here_ms
        ):  # an older one, played again, would lead us back to a gateway that has gone
            self.refused["old-here"] += 1
            return []
        self._here_ms = letter.header.ms
        if not letter.header.to:  # said to all: a gateway that does not know us wants a hello
            same = before is not None and before.identity.triple == sender.identity.triple
            if same:
                self._answered_at = now
            if (
                not same or self.call is not None
            ):  # it may have been restarted, and wants to go on with our call
                self._hello_at = float("-inf")
            return []
        self.gateway, self._answered_at = sender, now
        if before is None or before.identity.triple != sender.identity.triple:
            return [Reachable(True, f"{sender.identity} is the gateway")]
        return []

    def _offer(self, id: UUID, letter: Letter, now: float, unix_s: float) -> list[Order]:
        assert isinstance(letter.body, messages.Offer)
        offer = letter.body
        standing = self.call
        entry = self._calls[standing.id] if standing is not None else None
        verdict = at_user(
            Standing.of(entry.call, entry.number) if entry else None, Direction.INCOMING, offer.number
        )
        if verdict in (Verdict.WAITING, Verdict.YIELD):
            cause = Cause.CALL_WAITING if verdict is Verdict.WAITING else Cause.GLARE
            self.refused[str(cause)] += 1
            outputs = self._post.say(id, Kind.BUSY, Because(cause), now, unix_s)
            self._post.close(id, now)
            return [each for each in outputs if isinstance(each, Mail)]
        orders: list[Order] = []
        if verdict is Verdict.MEET and entry is not None:
            orders += self._feed(entry, Stopped(Cause.GLARE), now, unix_s)
        call, _ = Call.place(id, Direction.INCOMING, now, self._timing)
        new = self._calls[id] = _Entry(call, offer.number)
        orders.append(Incoming(id, offer.number, offer.name, offer.dialled))
        orders += self._join(new, offer.media)
        event: Event = Answers(Side.USER) if verdict is Verdict.MEET else Rings(Side.USER)
        return orders + self._feed(new, event, now, unix_s)

    def _unknown(self, id: UUID, kind: Kind, now: float, unix_s: float) -> list[Order]:
        """Something about a call that is not ours any more; where a gateway wants to go on with it, it hears that it is over."""
        self.refused["no-call"] += 1
        outputs: list[Output] = []
        if kind is Kind.ADOPT:
            outputs = self._post.say(id, Kind.ENDED, Because(Cause.HUNG_UP), now, unix_s)
        self._post.close(id, now)
        return [each for each in outputs if isinstance(each, Mail)]

    def _adopted(self, entry: _Entry, media: Media, now: float, unix_s: float) -> list[Order]:
        """The gateway goes on with our call: a new stream, and for it the call is answered and nobody holds it."""
        entry.joined = False
        orders = self._join(entry, media)
        if not entry.call.answered:
            orders += self._feed(entry, Answers(Side.LINE), now, unix_s)
        state = entry.call.state
        if isinstance(state, Held):
            if Side.LINE in state.by:
                orders += self._feed(entry, Resumes(Side.LINE), now, unix_s)
            if Side.USER in state.by:
                orders += self._say(entry.call, Tell(Side.LINE, Progress.HELD), now, unix_s)
        return orders

    def _join(self, entry: _Entry, media: Media) -> list[Order]:
        if entry.joined or entry.call.over:
            return []
        entry.joined = True
        return [JoinSound(entry.call.id, media)]

    def _feed(self, entry: _Entry, event: Event, now: float, unix_s: float) -> list[Order]:
        return self._do(entry, entry.call.feed(event, now), now, unix_s)

    def _do(self, entry: _Entry, actions: tuple[Action, ...], now: float, unix_s: float) -> list[Order]:
        orders: list[Order] = []
        call = entry.call
        let_go = False
        for action in actions:
            match action:
                case Flow():
                    orders.append(SetFlow(call.id, action.to_user, action.to_line))
                case Tell(Side.USER, progress, cause):
                    orders.append(Shown(call.id, progress, cause))
                case Send(Side.USER, digits):
                    orders.append(KeysHeard(call.id, digits))
                case Release(Side.USER, _):
                    let_go = True
                case Close(ended):
                    self._post.close(call.id, now)
                    self._calls.pop(call.id, None)
                    orders.append(Over(call.id, ended))
                case Ask():
                    pass  # the person is asked by Incoming, the gateway by dial
                case _:
                    orders += self._say(call, action, now, unix_s)
        if let_go:  # the person has let go as soon as he is told
            orders += self._feed(entry, Released(Side.USER), now, unix_s)
        return orders

    def _say(self, call: Call, action: Action, now: float, unix_s: float) -> list[Order]:
        found = messages.body_of(action, answered=call.answered)
        if found is None:
            return []
        try:
            outputs = self._post.say(call.id, *found, now, unix_s)
        except LocalError:  # 64 messages wait: the post gives up on them soon, and the call with them
            self.refused["unsayable"] += 1
            return []
        finally:
            if isinstance(action, Release):
                self._post.close(call.id, now)
        return [each for each in outputs if isinstance(each, Mail)]
