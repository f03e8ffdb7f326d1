"""A person's telephone: one call at a time, by messages to the gateway; the counterpart of :mod:`ice.telephony.switchboard`.

An engine: what is heard on the person's stream goes in (:meth:`Handset.receive`), what the person does too (:meth:`Handset.dial`, :meth:`Handset.answer`, …); what is to be done comes out as values: datagrams to
say, what the person should see and hear, when the call's stream is to be joined and left. It runs the same state machine as the gateway, the line being the gateway.

The gateway is found by asking: ``hello`` on the group's stream, ``here`` in answer. It is asked every minute, during a call every 15 s, which also tells it that calls may come, and whenever another gateway says ``here`` to all: a
takeover.

A gateway that dies says nothing of it. Whoever has the call's sound notices first (:meth:`Handset.silence`): then the gateway is asked every 2 s, and a call that stays silent for :data:`DOUBT_S` ends here, with
``line-lost`` where no gateway answers and ``media-lost`` where one does that knows nothing of the call. Where there is no sound to be missed (on hold), two hellos without an answer end it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import attrs

from ice.errors import LocalError
from ice.telephony import call as life
from ice.telephony import messages
from ice.telephony.causes import Cause
from ice.telephony.endpoint import Endpoint, mails
from ice.telephony.envelope import Correspondent, Letter
from ice.telephony.messages import Because, Kind, Media
from ice.telephony.post import Mail, Post
from ice.telephony.switchboard import CALL_HELLO_S, HELLO_S, MISSED
from ice.telephony.waiting import Standing, Verdict, at_user

RETRY_S: Final = 2.0  # between two hellos while no gateway answers, and while nothing is heard of a call
MAX_GATEWAYS: Final = 32  # whose last `here` is remembered: of a group one works, and few stand by
DOUBT_S: Final = 10.0  # without sound in a call; a gateway that was restarted is back sooner


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
    progress: life.Progress
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
    ended: life.Ended


@attrs.frozen
class Reachable:
    """Whether a gateway answers."""

    up: bool
    why: str


Order: TypeAlias = Mail | Incoming | Shown | JoinSound | SetFlow | KeysHeard | Over | Reachable


@attrs.define
class _Entry:
    call: life.Call
    number: str
    joined: bool = False


class Handset(Endpoint[_Entry, Order]):
    """One person's telephone at one gateway group; see the module docstring.

    ``me`` is the UUID of our certificate, which names our stream. ``takes_calls``: whether it rings here. ``timing`` is a little longer than the gateway's, whose word goes first.
    """

    def __init__(
        self,
        group: str,
        me: UUID,
        post: Post,
        *,
        timing: life.Timing | None = None,
        takes_calls: bool = True,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        super().__init__(
            post, life.Side.LINE, timing or life.Timing(setup_s=15.0, ring_s=90.0, transfer_s=20.0)
        )
        self.group = group
        self.stream = messages.user_stream(group, me)  #: where we listen, besides the notices
        self.gateway: Correspondent | None = None
        self._takes_calls = takes_calls
        self._new_id = new_id
        self._hello_at = float("-inf")
        self._answered_at = float("-inf")
        self._here_ms: dict[tuple[str, str, UUID], int] = {}  # of each gateway: their clocks may differ
        self._silent_since: float | None = None

    @property
    def call(self) -> life.Call | None:
        """The call there is; ``None`` where there is none that is not over."""
        return next((entry.call for entry in self._calls.values() if not entry.call.over), None)

    @property
    def busy(self) -> bool:
        """Whether there is a call, if only one whose end is still to be confirmed."""
        return bool(self._calls)

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do next."""
        doubt = [] if self._silent_since is None else [self._silent_since + DOUBT_S]
        return min([*self._dues(), *doubt, self._next_hello])

    @property
    def _next_hello(self) -> float:
        return self._hello_at + (self._pause if self.gateway is not None else RETRY_S)

    @property
    def _pause(self) -> float:
        return RETRY_S if self._silent_since is not None else self._usual_pause

    @property
    def _usual_pause(self) -> float:
        return CALL_HELLO_S if self.call is not None else HELLO_S

    # -- the person

    def dial(self, number: str, name: str, now: float, unix_s: float) -> tuple[UUID, list[Order]]:
        """Call a number; ``name`` is who calls. Raises :class:`~ice.errors.LocalError` without a gateway, during a call, and for no number."""
        if self.gateway is None:
            raise LocalError("no gateway answers: is one running for this group, and are we connected?")
        if self.call is not None:
            raise LocalError("there is a call already; hang up first")
        _check(number)
        id = self._new_id()
        call, _ = life.Call.place(id, life.Direction.OUTGOING, now, self._timing)
        self._calls[id] = _Entry(call, number)
        body = messages.Dial(number, name[: messages.MAX_NAME])
        on = messages.group_stream(self.group)
        return id, list(mails(self._post.begin(id, Kind.DIAL, body, self.gateway, on, now, unix_s)))

    def answer(self, now: float, unix_s: float) -> list[Order]:
        """Take the call that rings."""
        return self._person(life.Answers(life.Side.USER), now, unix_s)

    def reject(self, now: float, unix_s: float) -> list[Order]:
        """Do not take the call that rings."""
        return self._person(life.Refuses(life.Side.USER, Cause.REJECTED), now, unix_s)

    def hang_up(self, now: float, unix_s: float) -> list[Order]:
        """End the call, or give it up, or reject it."""
        return self._person(life.HangsUp(life.Side.USER), now, unix_s)

    def hold(self, now: float, unix_s: float) -> list[Order]:
        """Put the call on hold."""
        return self._person(life.Holds(life.Side.USER), now, unix_s)

    def resume(self, now: float, unix_s: float) -> list[Order]:
        """Go on with a call on hold."""
        return self._person(life.Resumes(life.Side.USER), now, unix_s)

    def press(self, digits: str, now: float, unix_s: float) -> list[Order]:
        """Press keys; raises :class:`~ice.errors.LocalError` for what is none."""
        if not life.keys(digits):
            raise LocalError("telephone keys are 0123456789*#ABCD, 64 at a time at most")
        return self._person(life.Presses(life.Side.USER, digits), now, unix_s)

    def transfer(self, number: str, now: float, unix_s: float) -> list[Order]:
        """Hand the line to a number; raises :class:`~ice.errors.LocalError` for no number."""
        _check(number)
        return self._person(life.Transfers(life.Side.USER, number), now, unix_s)

    def _person(self, event: life.Event, now: float, unix_s: float) -> list[Order]:
        call = self.call
        return [] if call is None else self._feed(self._calls[call.id], event, now, unix_s)

    # -- the gateway

    def greet(self) -> None:
        """Say hello at the next :meth:`tick`: a way to the gateway has opened."""
        self._hello_at = float("-inf")

    def silence(self, since: float | None) -> None:
        """Nothing was heard on the call's stream ``since`` then, though something should be; ``None``: it is heard."""
        if since is not None and self._silent_since is None:
            self.greet()
        self._silent_since = since

    def receive(self, payload: bytes, on: str, source: int, now: float, unix_s: float) -> list[Order]:
        """A datagram was heard on our stream or on the notices' (``on``)."""
        group = messages.group_stream(self.group)
        outputs = self._post.receive(payload, on, source, now, unix_s, lambda _: group)
        return self._from_post(outputs, now, unix_s)

    def tick(self, now: float, unix_s: float) -> list[Order]:
        """Look at the clock; the first call says hello."""
        orders = self._look(now, unix_s)
        began = max((entry.call.marks.began for entry in self._calls.values()), default=float("-inf"))
        if self.gateway is not None and now - max(self._answered_at, began) > MISSED * self._usual_pause:
            orders += self._lose_gateway("the gateway does not answer any more")
            for entry in list(self._calls.values()):
                orders += self._feed(entry, life.Lost(life.Side.LINE), now, unix_s)
        if self._silent_since is not None and now - self._silent_since > DOUBT_S:
            orders += self._give_up(self._silent_since, now, unix_s)
        if now >= self._next_hello:
            self._hello_at = now
            on = messages.group_stream(self.group)
            orders.append(self._post.announce(Kind.HELLO, on, unix_s))
        return orders

    def _give_up(self, since: float, now: float, unix_s: float) -> list[Order]:
        """Nothing was heard of the call for too long."""
        orders: list[Order] = []
        alone = self._answered_at < since
        if alone and self.gateway is not None:
            orders += self._lose_gateway("the gateway does not answer any more")
        self._silent_since = None
        event: life.Event = life.Lost(life.Side.LINE) if alone else life.Stopped(Cause.MEDIA_LOST)
        return orders + self._person(event, now, unix_s)

    def _lose_gateway(self, why: str) -> list[Order]:
        self.gateway = None
        return [Reachable(False, why)]

    def _unheard(self) -> list[Order]:
        """The gateway did not confirm: another one may answer."""
        if self.gateway is None:
            return []
        self.greet()
        return self._lose_gateway("the gateway does not confirm what we say")

    def _elsewhere(self, entry: _Entry, now: float, unix_s: float) -> list[Order]:
        """Another telephone of the person has taken the call, or refused it: this one stops ringing, and says nothing."""
        if entry.call.direction is life.Direction.OUTGOING or entry.call.answered:
            return []
        return self._feed(entry, life.HangsUp(life.Side.LINE, Cause.ANSWERED_ELSEWHERE), now, unix_s)

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
        event = messages.event_of(kind, body, life.Side.LINE)
        if event is None:
            self.refused["no-event"] += kind is not Kind.TRANSFERRING
            return []
        return self._feed(entry, event, now, unix_s)

    def _here(self, letter: Letter, now: float) -> list[Order]:
        sender, before = letter.sender, self.gateway
        if letter.header.ms <= self._here_ms.get(sender.identity.triple, -1):
            self.refused["old-here"] += 1  # played again, it would lead us back to a gateway that has gone
            return []
        self._here_ms[sender.identity.triple] = letter.header.ms
        if (
            len(self._here_ms) > MAX_GATEWAYS
        ):  # forget the oldest, which is the first to be refused by its time
            del self._here_ms[min(self._here_ms, key=lambda who: self._here_ms[who])]
        if not letter.header.to:  # said to all: a gateway that does not know us wants a hello
            same = before is not None and before.identity.triple == sender.identity.triple
            if same:
                self._answered_at = now
            if not same or self.call is not None:
                self.greet()  # it may have been restarted, and wants to go on with our call
            return []
        self.gateway, self._answered_at = sender, now
        if before is None or before.identity.triple != sender.identity.triple:
            return [Reachable(True, f"{sender.identity} is the gateway")]
        return []

    def _offer(self, id: UUID, letter: Letter, now: float, unix_s: float) -> list[Order]:
        assert isinstance(letter.body, messages.Offer)
        offer = letter.body
        standing = self.call
        if standing is None and not self._takes_calls:
            self.refused["takes-no-calls"] += 1
            self._post.close(id, now)  # another telephone of the person may take it
            return []
        entry = self._calls[standing.id] if standing is not None else None
        verdict = at_user(
            Standing.of(entry.call, entry.number) if entry else None, life.Direction.INCOMING, offer.number
        )
        if verdict in (Verdict.WAITING, Verdict.YIELD):
            cause = Cause.CALL_WAITING if verdict is Verdict.WAITING else Cause.GLARE
            self.refused[str(cause)] += 1
            return self._decline(id, Kind.BUSY, cause, now, unix_s)
        orders: list[Order] = []
        if verdict is Verdict.MEET and entry is not None:
            orders += self._feed(entry, life.Stopped(Cause.GLARE), now, unix_s)
        call, _ = life.Call.place(id, life.Direction.INCOMING, now, self._timing)
        new = self._calls[id] = _Entry(call, offer.number)
        orders.append(Incoming(id, offer.number, offer.name, offer.dialled))
        orders += self._join(new, offer.media)
        event: life.Event = (
            life.Answers(life.Side.USER) if verdict is Verdict.MEET else life.Rings(life.Side.USER)
        )
        return orders + self._feed(new, event, now, unix_s)

    def _unknown(self, id: UUID, kind: Kind, now: float, unix_s: float) -> list[Order]:
        """Something about a call that is not ours any more; where a gateway wants to go on with it, it hears that it is over."""
        self.refused["no-call"] += 1
        if kind is Kind.ADOPT:
            return self._decline(id, Kind.ENDED, Cause.HUNG_UP, now, unix_s)
        self._post.close(id, now)
        return []

    def _decline(self, id: UUID, kind: Kind, cause: Cause, now: float, unix_s: float) -> list[Order]:
        """Say that a call is none of ours, and nothing more of it."""
        said = self._say(id, kind, Because(cause), now, unix_s)
        self._post.close(id, now)
        return [*said]

    def _adopted(self, entry: _Entry, media: Media, now: float, unix_s: float) -> list[Order]:
        """The gateway goes on with our call: a new stream, and for it the call is answered and nobody holds it."""
        entry.joined = False
        orders = self._join(entry, media)
        if not entry.call.answered:
            orders += self._feed(entry, life.Answers(life.Side.LINE), now, unix_s)
        state = entry.call.state
        if isinstance(state, life.Held):
            if life.Side.LINE in state.by:
                orders += self._feed(entry, life.Resumes(life.Side.LINE), now, unix_s)
            if life.Side.USER in state.by:
                held = life.Tell(life.Side.LINE, life.Progress.HELD)
                orders += self._carry(entry.call, held, now, unix_s)
        return orders

    def _join(self, entry: _Entry, media: Media) -> list[Order]:
        if entry.joined or entry.call.over:
            return []
        entry.joined = True
        return [JoinSound(entry.call.id, media)]

    def _do(self, entry: _Entry, actions: Sequence[life.Action], now: float, unix_s: float) -> list[Order]:
        orders: list[Order] = []
        call = entry.call
        let_go = False
        for action in actions:
            match action:
                case life.Flow():
                    orders.append(SetFlow(call.id, action.to_user, action.to_line))
                case life.Tell(life.Side.USER, progress, cause):
                    orders.append(Shown(call.id, progress, cause))
                case life.Send(life.Side.USER, digits):
                    orders.append(KeysHeard(call.id, digits))
                case life.Release(life.Side.USER, _):
                    let_go = True
                case life.Close(ended):
                    self._silent_since = None
                    self._post.close(call.id, now)
                    self._calls.pop(call.id, None)
                    orders.append(Over(call.id, ended))
                case life.Ask():  # the gateway has been asked by dial, the person by Incoming: once is enough
                    self.refused["asked-twice"] += 1
                case _:
                    orders += self._carry(call, action, now, unix_s)
        if let_go:  # the person has let go as soon as he is told
            orders += self._feed(entry, life.Released(life.Side.USER), now, unix_s)
        return orders


def _check(number: str) -> None:
    if not 0 < len(number) <= messages.MAX_NUMBER:
        raise LocalError(f"a number has 1 to {messages.MAX_NUMBER} characters, not {len(number)}")
