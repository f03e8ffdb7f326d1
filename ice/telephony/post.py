"""Call messages that arrive: each once, in order, confirmed, and repeated until then; replays and strangers do not.

An engine for either end. ``now`` is any clock that only goes forward, ``unix_s`` the wall clock; what is to be done comes out as values: datagrams to put on a stream
(:class:`Mail`), messages that have come (:class:`Delivered`), messages that nobody confirmed (:class:`Undelivered`) or that the far side refused (:class:`Returned`).

**Ids and retries.** Every message has an id, and those of a call are numbered by their sender from 0. What is to be confirmed is repeated after :data:`REPEAT_S` until
its ``ack`` comes: with the same id and number, signed anew, so that its time is always fresh. A message that has come already is confirmed again and not delivered again;
one that comes before its turn is not confirmed, so it comes again in its turn.

**Whose call.** A call belongs to two: whoever began it, and whom it was begun with. What a third member of the network says about it is refused (``stranger``), however well it is signed.
A call is begun by ``dial`` and ``offer`` alone; ``adopt``, which only gateways say, begins its messages anew where a gateway was restarted or another one has taken over.

**Replays.** A message whose time is not within :data:`WINDOW_S` of our clock is refused (``clock``). Within it, what was delivered is remembered by call and number, and calls that
are over are remembered for as long as any of their messages could be played again. ``ack`` and ``error`` repeat the id of what they answer, 64 random bits, so they are fresh by
themselves, and somebody whose clock is wrong hears it. After a restart nothing is remembered, so what would begin a call must be newer than our start.

**Several programs.** A person may run more than one under the same identity, on one stream (``shared``). What is said of a call that one of them does not know may be another's, so it says nothing of it;
and a confirmation of what it has not said tells it that another one has acted (:class:`Elsewhere`).

**Bounds.** Every sender has a budget of messages, counted by the half of its name on the link that its Rallypoint holds it to, before anything costly is done, and by its identity afterwards; so have calls in all. Where there
is no room, new calls are refused (``full``) and nothing is forgotten early.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.link.naming import PREFIX_SHIFT
from ice.telephony.envelope import Correspondent, Envelopes, Letter
from ice.telephony.messages import (
    BEGINNING,
    UNCONFIRMED,
    Body,
    Code,
    Header,
    Kind,
    MessageRefused,
    Nothing,
    Refusal,
)

REPEAT_S: Final = (0.25, 0.5, 1.0, 2.0, 2.0, 2.0)  # pauses after each sending; 7.75 s in all
WINDOW_S: Final = (
    120.0  # clocks of phones are seldom a minute wrong, and nobody keeps a replay for so short a time
)
SETTLE_S: Final = 15.0  # after a start: calls that are not known yet may still be adopted, so nobody is told that they are gone
MAX_CALLS: Final = 2_048  # open at once; a gateway refuses calls long before, by its own limits
MAX_CLOSED: Final = 16_384  # remembered as over
MAX_WAITING: Final = 64  # messages of one call that are not confirmed yet: more than a person does in 8 s
LINK_BURST, LINK_PER_S = 60.0, 30.0  # of all sources of one identity, before a signature is looked at
IDENTITY_BURST, IDENTITY_PER_S = 40.0, 20.0  # of one identity, verified
MAX_BUDGETS: Final = 4_096


@attrs.frozen
class Mail:
    """Say ``payload`` on ``stream``, flagged as data."""

    stream: str
    payload: bytes = attrs.field(repr=False)


@attrs.frozen
class Delivered:
    """A message has come, for the first and only time."""

    letter: Letter


@attrs.frozen
class Undelivered:
    """Nobody confirmed this message of ours; ``call`` is its call."""

    call: UUID
    kind: Kind


@attrs.frozen
class Returned:
    """The far side refused this message of ours."""

    call: UUID
    kind: Kind
    refusal: Refusal


@attrs.frozen
class Elsewhere:
    """The far side confirmed something of this call that we have not said: another program of ours has."""

    call: UUID


Output: TypeAlias = Mail | Delivered | Undelivered | Returned | Elsewhere


@attrs.define
class _Waiting:
    """A message of ours that is not confirmed yet."""

    id: str
    kind: Kind
    body: Body
    n: int
    sent: int
    due: float


@attrs.define
class _Talk:
    """What is known of the messages of one call."""

    far: Correspondent
    on: str  #: the stream on which we write to the far side
    next_out: int = 0
    next_in: int = 0
    waiting: deque[_Waiting] = attrs.field(factory=deque)
    closing: bool = False
    adopted_id: str = ""
    adopted_ms: int = -1


class _Budgets:
    """A bucket per name that fills with time; the name used longest ago makes room."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._levels: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, name: object, now: float) -> bool:
        level, at = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_s)
        good = level >= 1
        self._levels[name] = (level - 1 if good else level, now)
        if len(self._levels) > MAX_BUDGETS:
            self._levels.popitem(last=False)
        return good


class Post:
    """One end's messages; see the module docstring. ``started_unix_s``: when this end began to listen; ``shared``: whether other programs of the same identity may be there."""

    def __init__(
        self,
        envelopes: Envelopes,
        started_unix_s: float,
        *,
        shared: bool = False,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._envelopes = envelopes
        self._shared = shared
        self._started_ms = int(started_unix_s * 1000)
        self._random_bytes = random_bytes
        self._talks: dict[UUID, _Talk] = {}
        self._closed: OrderedDict[UUID, float] = OrderedDict()
        self._links = _Budgets(LINK_BURST, LINK_PER_S)
        self._identities = _Budgets(IDENTITY_BURST, IDENTITY_PER_S)
        #: What came and was not delivered, by reason.
        self.refused: Counter[str] = Counter()
        self.sent = self.repeated = self.delivered = self.confirmed = 0

    def __len__(self) -> int:
        return len(self._talks)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [message.due for talk in self._talks.values() for message in talk.waiting]
        return min(dues, default=None)

    def is_open(self, call: UUID) -> bool:
        """Whether anything of this call is still to be said or confirmed."""
        return call in self._talks

    # -- ours

    def announce(self, kind: Kind, on: str, unix_s: float, to: Correspondent | None = None) -> Mail:
        """``hello`` or ``here``, said once, to one or to all. Raises :class:`~ice.errors.LocalError` for other kinds."""
        if kind not in (Kind.HELLO, Kind.HERE):
            raise LocalError(f"{kind} belongs to a call")
        return self._mail(kind, Nothing(), to, on, None, 0, "", self._new_id(), unix_s)

    def begin(
        self, call: UUID, kind: Kind, body: Body, far: Correspondent, on: str, now: float, unix_s: float
    ) -> list[Output]:
        """Begin a call: ``dial``, ``offer`` or ``adopt`` to ``far``, who listens on the stream ``on``.

        Raises :class:`~ice.errors.LocalError` for another kind, a call that has begun already, and too many calls.
        """
        if kind not in BEGINNING or call in self._talks:
            raise LocalError(f"{kind} does not begin call {call}, or it has begun already")
        if len(self._talks) >= MAX_CALLS:
            raise LocalError(f"{MAX_CALLS} calls are open; no more can be begun")
        self._talks[call] = _Talk(far, on)
        return self.say(call, kind, body, now, unix_s)

    def say(self, call: UUID, kind: Kind, body: Body, now: float, unix_s: float) -> list[Output]:
        """Say something about a call to its far side, repeated until it is confirmed.

        Raises :class:`~ice.errors.LocalError` for a call that is not open, and for more than :data:`MAX_WAITING` messages that nobody confirms.
        """
        talk = self._talks.get(call)
        if talk is None or talk.closing:
            raise LocalError(f"call {call} is not open: nothing can be said about it")
        if len(talk.waiting) >= MAX_WAITING:
            raise LocalError(f"{MAX_WAITING} messages of call {call} wait for a confirmation")
        message = _Waiting(self._new_id(), kind, body, talk.next_out, 1, now + REPEAT_S[0])
        mail = self._mail(kind, body, talk.far, talk.on, call, message.n, "", message.id, unix_s)
        talk.next_out += 1
        talk.waiting.append(message)
        self.sent += 1
        return [mail]

    def refuse(self, letter: Letter, on: str, code: Code, text: str, unix_s: float) -> Mail:
        """Tell the sender of a message that it is refused: ``error``, said once."""
        return self._answer(Kind.ERROR, Refusal(code, text), letter, on, unix_s)

    def answer_on(self, call: UUID, on: str) -> None:
        """From now on write to the call's far side on this stream (a call that it began: until then nothing can be said)."""
        talk = self._talks.get(call)
        if talk is not None:
            talk.on = on

    def close(self, call: UUID, now: float) -> None:
        """Nothing more is to be said about a call; what waits for its confirmation is repeated to the end."""
        talk = self._talks.get(call)
        if talk is not None:
            talk.closing = True
            self._drop_if_done(call, talk, now)

    def forget(self, call: UUID) -> None:
        """Be done with a call at once, as if nothing had ever been said of it: another end goes on with it."""
        self._talks.pop(call, None)

    # -- theirs

    def receive(
        self,
        payload: bytes,
        on: str,
        source: int,
        now: float,
        unix_s: float,
        answer_on: Callable[[Correspondent], str],
    ) -> list[Output]:
        """A datagram was heard on the stream ``on``, from ``source`` (its name on the link).

        ``answer_on`` says on which stream its sender listens. Never raises for what came.
        """
        if not self._links.take(source >> PREFIX_SHIFT, now):  # the lower half is its sender's to choose
            return self._refuse("budget")
        try:
            letter = self._envelopes.open(payload, on, unix_s)
        except MessageRefused as error:
            return self._refuse(error.reason)
        if not self._identities.take(letter.sender.identity.triple, now):
            return self._refuse("budget")
        back = answer_on(letter.sender)
        header = letter.header
        call = header.call_id
        if call is not None and header.kind is Kind.ACK:
            return self._acknowledged(call, letter, now)
        if call is not None and header.kind is Kind.ERROR:
            return self._returned(call, letter, now)
        skew_s = header.ms / 1000 - unix_s
        if abs(skew_s) > WINDOW_S:
            text = f"your clock and ours differ by {abs(skew_s):.0f} s; at most {WINDOW_S:.0f} s are taken"
            return [*self._refuse("clock"), *self._error(letter, back, Code.CLOCK, text, unix_s)]
        if header.kind in (Kind.HELLO, Kind.HERE):
            self.delivered += 1
            return [Delivered(letter)]
        if call is None:
            return self._refuse("no-call")
        return self._take(call, letter, back, now, unix_s)

    def tick(self, now: float, unix_s: float) -> list[Output]:
        """Repeat what is due, give up what was repeated often enough."""
        outputs: list[Output] = []
        for call, talk in list(self._talks.items()):
            for message in list(talk.waiting):
                if now < message.due:
                    continue
                if message.sent > len(REPEAT_S) - 1:
                    talk.waiting.clear()  # what was said after it would not be understood either
                    outputs.append(Undelivered(call, message.kind))
                    break
                message.due = now + REPEAT_S[message.sent]
                message.sent += 1
                self.repeated += 1
                outputs.append(self._again(call, talk, message, unix_s))
            self._drop_if_done(call, talk, now)
        self._forget(now)
        return outputs

    # -- within

    def _take(self, call: UUID, letter: Letter, back: str, now: float, unix_s: float) -> list[Output]:
        self._forget(now)
        header = letter.header
        talk = self._talks.get(call)
        if talk is None:
            if call in self._closed:
                if header.kind is Kind.ENDED or header.kind is Kind.BUSY:
                    self.refused["over"] += 1  # it may have missed our confirmation
                    return [self._ack(letter, back, unix_s)]
                return self._unknown(letter, back, "over", unix_s)
            if header.kind not in BEGINNING or header.n or (self._shared and header.kind is Kind.ADOPT):
                return self._unknown(letter, back, "unknown-call", unix_s)
            if header.ms < self._started_ms:
                text = "this end was started after that was said; if you said it just now, one of the two clocks is wrong"
                return [*self._refuse("before-start"), *self._error(letter, back, Code.CLOCK, text, unix_s)]
            if len(self._talks) >= MAX_CALLS or len(self._closed) >= MAX_CLOSED:
                return [
                    *self._refuse("full"),
                    *self._error(letter, back, Code.FULL, "too many calls", unix_s),
                ]
            talk = self._talks[call] = _Talk(letter.sender, back)
            talk.adopted_id, talk.adopted_ms = header.id, header.ms
        elif header.kind is Kind.ADOPT and header.id != talk.adopted_id:
            if header.n or header.ms <= talk.adopted_ms or talk.closing:
                return self._refuse("order")
            self._begin_anew(talk, letter, back, now)
        elif talk.far.identity.triple != letter.sender.identity.triple:
            return self._refuse("stranger")
        elif header.kind in BEGINNING and (header.n or (talk.next_out and not talk.next_in)):
            return self._refuse("order")  # a second beginning, or of a call that we began
        if header.n > talk.next_in:
            return self._refuse("early")
        ack = self._ack(letter, back, unix_s)
        if header.n < talk.next_in:
            self.refused["again"] += 1
            return [ack]
        talk.next_in += 1
        talk.far = letter.sender  # a certificate may be renewed during a call
        self.delivered += 1
        if talk.closing:
            self.refused["over"] += 1
            return [ack]
        return [ack, Delivered(letter)]

    def _begin_anew(self, talk: _Talk, letter: Letter, back: str, now: float) -> None:
        """Another gateway, or the same after a restart, goes on with the call: both ends count from 0 again."""
        talk.far, talk.on = letter.sender, back
        talk.adopted_id, talk.adopted_ms = letter.header.id, letter.header.ms
        talk.next_in = 0
        for number, message in enumerate(talk.waiting):
            message.n, message.sent, message.due = number, 0, now
        talk.next_out = len(talk.waiting)

    def _acknowledged(self, call: UUID, letter: Letter, now: float) -> list[Output]:
        talk = self._mine(call, letter)
        message = self._find(talk, letter)
        if talk is None or message is None:
            self.refused["ack"] += 1
            others = self._shared and talk is not None and letter.header.n >= talk.next_out
            return [Elsewhere(call)] if others else []
        talk.waiting.remove(message)
        self.confirmed += 1
        for later in talk.waiting:  # what came before its turn need not wait for its time
            if later.n == message.n + 1 and later.sent > 1:
                later.due = now
        self._drop_if_done(call, talk, now)
        return []

    def _returned(self, call: UUID, letter: Letter, now: float) -> list[Output]:
        assert isinstance(letter.body, Refusal)
        talk = self._mine(call, letter)
        message = self._find(talk, letter)
        if talk is None or message is None:
            return self._refuse("error")
        if letter.body.code is Code.UNKNOWN_CALL and talk.waiting[0].n == 0 and message.n:
            return []  # the beginning is still on its way, and this comes again behind it
        talk.waiting.clear()
        self._drop_if_done(call, talk, now)
        return [Returned(call, message.kind, letter.body)]

    def _mine(self, call: UUID, letter: Letter) -> _Talk | None:
        talk = self._talks.get(call)
        if talk is None or talk.far.identity.triple != letter.sender.identity.triple:
            return None
        return talk

    def _find(self, talk: _Talk | None, letter: Letter) -> _Waiting | None:
        if talk is None:
            return None
        return next((each for each in talk.waiting if each.id == letter.header.re), None)

    def _drop_if_done(self, call: UUID, talk: _Talk, now: float) -> None:
        if talk.closing and not talk.waiting:
            self._talks.pop(call, None)
            self._closed[call] = now + 2 * WINDOW_S

    def _forget(self, now: float) -> None:
        """Forget calls of which nothing can be played again any more."""
        while self._closed and next(iter(self._closed.values())) <= now:
            self._closed.popitem(last=False)

    def _unknown(self, letter: Letter, back: str, why: str, unix_s: float) -> list[Output]:
        text = "nothing is known of this call, or it is over"
        if self._shared or unix_s * 1000 < self._started_ms + SETTLE_S * 1000:
            return self._refuse(why)
        return [*self._refuse(why), *self._error(letter, back, Code.UNKNOWN_CALL, text, unix_s)]

    def _error(self, letter: Letter, back: str, code: Code, text: str, unix_s: float) -> list[Output]:
        if letter.header.kind in UNCONFIRMED or not letter.header.call:
            return []  # an error is never answered by another
        return [self._answer(Kind.ERROR, Refusal(code, text), letter, back, unix_s)]

    def _ack(self, letter: Letter, back: str, unix_s: float) -> Mail:
        return self._answer(Kind.ACK, Nothing(), letter, back, unix_s)

    def _answer(self, kind: Kind, body: Body, letter: Letter, on: str, unix_s: float) -> Mail:
        header = letter.header
        call = header.call_id
        return self._mail(kind, body, letter.sender, on, call, header.n, header.id, self._new_id(), unix_s)

    def _again(self, call: UUID, talk: _Talk, message: _Waiting, unix_s: float) -> Mail:
        return self._mail(
            message.kind, message.body, talk.far, talk.on, call, message.n, "", message.id, unix_s
        )

    def _mail(
        self,
        kind: Kind,
        body: Body,
        to: Correspondent | None,
        on: str,
        call: UUID | None,
        n: int,
        re: str,
        id: str,
        unix_s: float,
    ) -> Mail:
        header = Header(
            call=str(call) if call else "",
            id=id,
            kind=kind,
            ms=int(unix_s * 1000),
            n=n,
            on=on,
            re=re,
            to=to.address if to else "",
        )
        return Mail(on, self._envelopes.write(header, body, to))

    def _new_id(self) -> str:
        return self._random_bytes(8).hex()

    def _refuse(self, reason: str) -> list[Output]:
        self.refused[reason] += 1
        return []
