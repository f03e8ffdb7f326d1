"""The gateway's heart: messages of people on one side, trunks on the other, and the calls between them.

An engine: what comes of streams and trunks goes in (:meth:`Switchboard.receive`, :meth:`Switchboard.report`), what is to be done comes out as values (:data:`Order`). The sound itself
does not pass here: who opens it, when it flows and when it is over does.

**Who may do what** is not decided here but asked of a :class:`Plan`: numbers in normal form, whether somebody may call them, whose number was dialled.

**One person, one call**: :mod:`ice.telephony.waiting`. **Several trunks**: a call that one could not place, before anything was heard of it, is placed on the next.

**Active and standby.** Only the active gateway of a group takes calls. One that becomes standby ends what it has (``takeover``); nothing is left ringing on either side.

**Adopted calls.** An answered call that a trunk still has after our restart (:class:`~ice.telephony.trunk.Found`) goes on: as soon as its person's program says ``hello``, it gets ``adopt`` with a new stream and a new key, since
the old ones died with the process that made them. Where it does not within :data:`ADOPT_S`, and where a call was not answered, the line is let go (``takeover``).

**No call is half open.** Whoever was told of a call is told of its end, and a call is forgotten when both sides have let go (or would not, within the state machine's time).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, TypeAlias
from uuid import UUID

import attrs

from ice.security.certificates import Identity
from ice.telephony import call as life
from ice.telephony import messages
from ice.telephony import trunk as trunking
from ice.telephony.causes import Cause
from ice.telephony.endpoint import Endpoint, mails
from ice.telephony.envelope import Correspondent, Letter
from ice.telephony.messages import Because, Kind, Media
from ice.telephony.post import Mail, Post
from ice.telephony.records import CallRecord
from ice.telephony.trunk import TrunkOrder, could_not
from ice.telephony.waiting import Standing, Verdict, at_gateway

HELLO_S: Final = 60.0  # people say hello so often
CALL_HELLO_S: Final = 15.0  # and so often during a call
MISSED: Final = 2.5  # who missed two of them is not there
USERS_MAX: Final = 8_192
HERE_S: Final = 30.0
ADOPT_S: Final = 25.0  # people in a call say hello every 15 s, and at once when we say that we are there


@attrs.frozen
class Allowed:
    """Somebody may call ``number`` (in normal form) as ``caller``; ``urgent``: whatever the limits (emergency numbers)."""

    number: str
    caller: str = ""
    urgent: bool = False


class Plan(Protocol):
    """The site's numbers and rules."""

    def outgoing(self, who: Identity, number: str) -> Allowed | Cause:
        """Whether somebody may call a number, or why not."""

    def incoming(self, number: str, dialled: str) -> UUID | Cause:
        """Whose number was dialled (the UUID of a person), or why nobody's."""


@attrs.frozen
class AskTrunk:
    """Ask a trunk for something."""

    trunk: str
    request: trunking.Request


@attrs.frozen
class OpenSound:
    """Join the stream of a call under its key; a line of ``trunk`` takes part, which people there see as ``alias``."""

    call: UUID
    media: Media
    trunk: str
    alias: str = ""


@attrs.frozen
class SetFlow:
    """Open and close the directions of a call's sound (:meth:`ice.telephony.audio.CallAudio.flow`)."""

    call: UUID
    to_user: bool
    to_line: bool


@attrs.frozen
class SayKeys:
    """Keys of the line: say them on the call's stream (:meth:`ice.telephony.audio.CallAudio.line_digits`)."""

    call: UUID
    digits: str


@attrs.frozen
class CloseSound:
    """Leave the stream of a call; its connection to the trunk is closed by the trunk."""

    call: UUID


@attrs.frozen
class Record:
    """Write the record; it comes when a call begins and again when it is over, before its sound is closed. What the sound counted is to be added by whoever has it."""

    record: CallRecord


Order: TypeAlias = Mail | AskTrunk | OpenSound | SetFlow | SayKeys | CloseSound | Record


@attrs.frozen
class Line:
    """One call, as pages and people see it. Times are of the switchboard's clock; ``answered`` None: not yet."""

    id: UUID
    direction: life.Direction
    state: str
    user: Identity
    number: str
    dialled: str
    trunk: str
    began: float
    answered: float | None


@attrs.define
class _Entry:
    """One call with all that belongs to it."""

    call: life.Call
    far: Correspondent
    number: str
    caller: str
    trunk: str
    media: Media
    record: CallRecord
    since: float  #: when it came to us
    tried: set[str] = attrs.field(factory=set)

    @property
    def user(self) -> tuple[str, str, UUID]:
        return self.far.identity.triple


class Switchboard(Endpoint[_Entry, Order]):
    """One gateway's calls; see the module docstring.

    ``group`` is the gateway group's id, ``trunks`` the names of the trunks in order, ``max_calls`` how many at a time, those included that ``elsewhere`` counts. ``random_bytes`` makes keys. Starts as standby.
    """

    def __init__(
        self,
        group: str,
        post: Post,
        plan: Plan,
        trunks: Sequence[str],
        *,
        timing: life.Timing | None = None,
        max_calls: int = 60,
        elsewhere: Callable[[], int] = lambda: 0,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(post, life.Side.USER, timing or life.Timing())
        self.group = group
        self.active = False
        self.order = TrunkOrder(trunks)
        self.ended: Counter[Cause] = Counter()
        self._plan = plan
        self._max_calls = max_calls
        self._others = elsewhere
        self._random_bytes = random_bytes
        self._users: dict[tuple[str, str, UUID], tuple[Correspondent, float]] = {}
        self._here_at = 0.0
        self._found: dict[UUID, tuple[str, trunking.Found, float]] = {}  # trunk, what, until when

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def calls(self) -> tuple[life.Call, ...]:
        """The calls there are, over or not."""
        return tuple(entry.call for entry in self._calls.values())

    @property
    def lines(self) -> tuple[Line, ...]:
        """The same calls for pages and people, the oldest first."""
        return tuple(
            Line(
                entry.call.id,
                entry.call.direction,
                entry.call.name,
                entry.far.identity,
                entry.number,
                entry.record.dialled,
                entry.trunk,
                entry.call.marks.began,
                entry.call.marks.answered,
            )
            for entry in self._calls.values()
        )

    @property
    def people(self) -> int:
        """How many people's programs are there."""
        return len(self._users)

    @property
    def full(self) -> bool:
        """Whether there are as many calls as may be."""
        return len(self._calls) + self._others() >= self._max_calls

    def configure(self, plan: Plan, timing: life.Timing, max_calls: int) -> None:
        """Go on by another plan and other limits; calls that stand keep their times."""
        self._plan, self._timing, self._max_calls = plan, timing, max_calls

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = self._dues()
        if self.active:
            dues.append(self._here_at)
        dues += [until for _, _, until in self._found.values()]
        return min(dues, default=None)

    def set_active(self, active: bool, now: float, unix_s: float) -> list[Order]:
        """The election has spoken."""
        if active is self.active:
            return []
        self.active = active
        if not active:
            return self.stop(Cause.TAKEOVER, now, unix_s)
        return self._here(now, unix_s)

    def stop(self, cause: Cause, now: float, unix_s: float) -> list[Order]:
        """End all calls; what is still to be said is repeated by :meth:`tick` until it is confirmed."""
        orders: list[Order] = [
            AskTrunk(name, trunking.HangUp(id, cause)) for id, (name, _, _) in self._found.items()
        ]
        self._found.clear()
        for entry in list(self._calls.values()):
            orders += self._feed(entry, life.Stopped(cause), now, unix_s)
        return orders

    def abandon(self, trunks: Collection[str], now: float, unix_s: float) -> list[Order]:
        """Leave the answered calls of these trunks to another gateway, which finds their lines: nothing is said and nothing asked, and whoever finds them may be we ourselves."""
        orders: list[Order] = []
        for entry in list(self._calls.values()):
            call = entry.call
            if entry.trunk not in trunks or not call.answered or call.over:
                continue
            del self._calls[call.id]
            self._post.forget(call.id)
            self.ended[Cause.TAKEOVER] += 1
            record = entry.record.over(call, life.Ended(Cause.TAKEOVER, None), unix_s - now)
            orders += [Record(attrs.evolve(record, ended=unix_s)), CloseSound(call.id)]
        self._found.clear()
        return orders

    def end(self, call: UUID, cause: Cause, now: float, unix_s: float) -> list[Order]:
        """End one call for a reason of the gateway's own: ``media-lost``, say."""
        entry = self._calls.get(call)
        return [] if entry is None else self._feed(entry, life.Stopped(cause), now, unix_s)

    def keys_heard(self, call: UUID, digits: str, now: float, unix_s: float) -> list[Order]:
        """A person pressed keys on the call's stream (:attr:`ice.telephony.audio.Turn.digits`)."""
        entry = self._calls.get(call)
        return [] if entry is None else self._feed(entry, life.Presses(life.Side.USER, digits), now, unix_s)

    # -- people

    def receive(self, payload: bytes, on: str, source: int, now: float, unix_s: float) -> list[Order]:
        """A datagram was heard on the group's stream."""
        outputs = self._post.receive(payload, on, source, now, unix_s, self._stream_of)
        return self._from_post(outputs, now, unix_s)

    def tick(self, now: float, unix_s: float) -> list[Order]:
        """Look at the clock."""
        orders = self._look(now, unix_s)
        if self.active and now >= self._here_at:
            orders += self._here(now, unix_s)
        for user, (_, heard_at) in list(self._users.items()):
            if now - heard_at > MISSED * HELLO_S:
                del self._users[user]
        for id, (name, _, until) in list(self._found.items()):
            if now >= until:
                del self._found[id]
                orders.append(AskTrunk(name, trunking.HangUp(id, Cause.TAKEOVER)))
        return orders + self._vanished(now, unix_s)

    def _vanished(self, now: float, unix_s: float) -> list[Order]:
        """End the calls of people whose programs say nothing any more."""
        orders: list[Order] = []
        for entry in list(self._calls.values()):
            _, heard_at = self._users.get(entry.user, (None, float("-inf")))
            if now - max(heard_at, entry.since) > MISSED * CALL_HELLO_S and not entry.call.over:
                orders += self._feed(entry, life.Lost(life.Side.USER), now, unix_s)
        return orders

    def _here(self, now: float, unix_s: float) -> list[Order]:
        self._here_at = now + HERE_S
        return [self._post.announce(Kind.HERE, messages.notice_stream(self.group), unix_s)]

    def _stream_of(self, who: Correspondent) -> str:
        return messages.user_stream(self.group, who.identity.id)

    def _letter(self, letter: Letter, now: float, unix_s: float) -> list[Order]:
        kind, sender = letter.header.kind, letter.sender
        if kind is Kind.HELLO:
            return self._hello(sender, now, unix_s)
        user = sender.identity.triple
        if user in self._users:  # whatever he says, he is there
            self._users[user] = (sender, now)
        id = letter.header.call_id
        if id is None:
            return []
        if kind is Kind.DIAL and id not in self._calls:
            return self._dial(id, letter, now, unix_s)
        entry = self._calls.get(id)
        event = messages.event_of(kind, letter.body, life.Side.USER)
        if entry is None or event is None:
            self.refused["no-call" if entry is None else "no-event"] += 1
            if entry is None:
                self._post.close(id, now)
            return []
        entry.far = sender
        return self._feed(entry, event, now, unix_s)

    def _hello(self, sender: Correspondent, now: float, unix_s: float) -> list[Order]:
        if not self.active:
            return []
        user = sender.identity.triple
        if user not in self._users and len(self._users) >= USERS_MAX:
            self.refused["users"] += 1
            return []
        self._users[user] = (sender, now)
        here = self._post.announce(Kind.HERE, self._stream_of(sender), unix_s, sender)
        return [here, *self._adopt(now, unix_s)]

    # -- calls begin

    def _dial(self, id: UUID, letter: Letter, now: float, unix_s: float) -> list[Order]:
        assert isinstance(letter.body, messages.Dial)
        sender, body = letter.sender, letter.body
        user = sender.identity.triple
        orders: list[Order] = []
        allowed = self._plan.outgoing(sender.identity, body.number)
        number = allowed.number if isinstance(allowed, Allowed) else body.number
        record = CallRecord(
            id, life.Direction.OUTGOING, number, unix_s, str(sender.identity.id), sender.identity.name
        )
        standing = self._standing(user)
        verdict = at_gateway(standing[1] if standing else None, life.Direction.OUTGOING, number)
        chosen = self.order.choose(now)
        if chosen is None and isinstance(allowed, Allowed) and allowed.urgent:
            chosen = self.order.names[0]  # it may be up all the same
        cause = None
        if not self.active:
            cause = Cause.TAKEOVER
        elif isinstance(allowed, Cause):
            cause = allowed
        elif verdict in (Verdict.WAITING, Verdict.YIELD):
            cause = Cause.CALL_WAITING if verdict is Verdict.WAITING else Cause.GLARE
        elif self.full and not allowed.urgent:
            cause = Cause.LIMIT
        elif chosen is None:
            cause = Cause.NO_TRUNK
        if cause is not None or isinstance(allowed, Cause) or chosen is None:
            return self._refuse_dial(record, cause or Cause.NO_TRUNK, now, unix_s)
        if verdict is Verdict.REPLACE and standing is not None:
            orders += self._feed(standing[0], life.Stopped(Cause.GLARE), now, unix_s)
        call, actions = life.Call.place(id, life.Direction.OUTGOING, now, self._timing)
        entry = _Entry(
            call, sender, number, allowed.caller, chosen, self._media(id),
            attrs.evolve(record, trunk=chosen), now, {chosen},
        )  # fmt: skip
        self._calls[id] = entry
        orders += [Record(entry.record), OpenSound(id, entry.media, chosen, number)]
        orders += self._say(id, Kind.PROCEEDING, messages.Proceeding(entry.media), now, unix_s)
        return orders + self._do(entry, actions, now, unix_s)

    def _refuse_dial(self, record: CallRecord, cause: Cause, now: float, unix_s: float) -> list[Order]:
        self.refused[str(cause)] += 1
        said = self._say(record.id, Kind.ENDED, Because(cause), now, unix_s)
        self._post.close(record.id, now)
        over = attrs.evolve(record, ended=unix_s, cause=cause)
        return [Record(over), *said]

    def report(self, name: str, report: trunking.Report, now: float, unix_s: float) -> list[Order]:
        """Something came of a trunk; its sound goes to the call's sound directly, and is ignored here."""
        match report:
            case trunking.Health():
                self.order.told(name, report)
            case trunking.Offered():
                return self._offered(name, report, now, unix_s)
            case trunking.Found():
                if not self.active or report.call in self._calls or len(self._found) >= self._max_calls:
                    return [AskTrunk(name, trunking.HangUp(report.call, Cause.TAKEOVER))]
                self._found[report.call] = (name, report, now + ADOPT_S)
                return self._adopt(now, unix_s)
            case trunking.Happened():
                entry = self._calls.get(report.call)
                if (
                    entry is None
                    and report.call in self._found
                    and isinstance(report.event, life.HangsUp | life.Lost)
                ):
                    del self._found[report.call]
                    return []
                if entry is None or entry.trunk != name:
                    self.refused["no-call"] += not isinstance(report.event, life.Released)
                    return []
                return self._happened(entry, report.event, now, unix_s)
        return []

    def _offered(self, name: str, offer: trunking.Offered, now: float, unix_s: float) -> list[Order]:
        found = self._plan.incoming(offer.number, offer.dialled)
        known = None
        if isinstance(found, UUID):
            known = next((who for who, _ in self._users.values() if who.identity.id == found), None)
        record = CallRecord(
            offer.call, life.Direction.INCOMING, offer.number, unix_s, dialled=offer.dialled, trunk=name
        )
        if known is not None:
            record = attrs.evolve(record, user_id=str(known.identity.id), user=known.identity.name)
        standing = self._standing(known.identity.triple) if known else None
        verdict = at_gateway(standing[1] if standing else None, life.Direction.INCOMING, offer.number)
        cause = None
        if not self.active:
            cause = Cause.TAKEOVER
        elif isinstance(found, Cause):
            cause = found
        elif known is None:
            cause = Cause.UNREACHABLE
        elif verdict is not Verdict.TAKE:
            cause = Cause.CALL_WAITING
        elif self.full or offer.call in self._calls:
            cause = Cause.LIMIT
        if cause is not None or known is None:
            cause = cause or Cause.UNREACHABLE
            self.refused[str(cause)] += 1
            over = attrs.evolve(record, ended=unix_s, cause=cause)
            return [Record(over), AskTrunk(name, trunking.HangUp(offer.call, cause))]
        call, actions = life.Call.place(offer.call, life.Direction.INCOMING, now, self._timing)
        entry = _Entry(call, known, offer.number, "", name, self._media(offer.call), record, now)
        self._calls[offer.call] = entry
        body = messages.Offer(
            offer.number[: messages.MAX_NUMBER],
            entry.media,
            offer.name[: messages.MAX_NAME],
            offer.dialled[: messages.MAX_NUMBER],
        )
        outputs = self._post.begin(offer.call, Kind.OFFER, body, known, self._stream_of(known), now, unix_s)
        orders: list[Order] = [
            Record(record),
            OpenSound(offer.call, entry.media, name, offer.name or offer.number),
        ]
        orders += mails(outputs)
        return orders + self._do(
            entry, [each for each in actions if not isinstance(each, life.Ask)], now, unix_s
        )

    def _adopt(self, now: float, unix_s: float) -> list[Order]:
        """Go on with calls that were found and whose people are there."""
        orders: list[Order] = []
        known = {who.identity.id: who for who, _ in self._users.values()}
        for id, (name, found, _) in list(self._found.items()):
            far = known.get(found.user)
            if far is None or self._post.is_open(id):
                continue
            del self._found[id]
            age_s = max(0.0, unix_s - found.answered_unix_s)
            call = life.Call.adopt(id, found.direction, now - age_s, self._timing)
            record = CallRecord(
                id, found.direction, found.number, unix_s - age_s, str(far.identity.id), far.identity.name,
                found.dialled, name,
            )  # fmt: skip
            entry = _Entry(call, far, found.number, "", name, self._media(id), record, now)
            self._calls[id] = entry
            body = messages.Proceeding(entry.media)
            outputs = self._post.begin(id, Kind.ADOPT, body, far, self._stream_of(far), now, unix_s)
            orders += [
                Record(record),
                OpenSound(id, entry.media, name, found.number),
                SetFlow(id, True, True),
            ]
            orders += mails(outputs)
        return orders

    # -- calls go on

    def _happened(self, entry: _Entry, event: life.Event, now: float, unix_s: float) -> list[Order]:
        """An event of the line: one that says no more than that this trunk cannot is the next trunk's turn."""
        call = entry.call
        if could_not(call, event):
            self.order.failed(entry.trunk, now)
            following = self.order.choose(now, entry.tried)
            if following is not None:
                entry.trunk = following
                entry.tried.add(following)
                entry.record = attrs.evolve(entry.record, trunk=following)
                request = trunking.Dial(
                    call.id, entry.number, entry.caller, entry.far.identity.name, entry.far.identity.id
                )
                return [
                    CloseSound(call.id), OpenSound(call.id, entry.media, following, entry.number),
                    AskTrunk(following, request),
                ]  # fmt: skip
        return self._feed(entry, event, now, unix_s)

    def _do(self, entry: _Entry, actions: Sequence[life.Action], now: float, unix_s: float) -> list[Order]:
        """Carry out what a call's state machine wants done."""
        orders: list[Order] = []
        call = entry.call
        for action in actions:
            request = trunking.request_of(
                call.id,
                action,
                number=entry.number,
                caller=entry.caller,
                name=entry.far.identity.name,
                user=entry.far.identity.id,
            )
            if request is not None:
                orders.append(AskTrunk(entry.trunk, request))
                continue
            match action:
                case life.Flow():
                    orders.append(SetFlow(call.id, action.to_user, action.to_line))
                case life.Send():
                    orders.append(SayKeys(call.id, action.digits))
                case life.Close():
                    orders += self._close(entry, action, now, unix_s)
                case _:
                    orders += self._carry(call, action, now, unix_s)
        return orders

    def _close(self, entry: _Entry, close: life.Close, now: float, unix_s: float) -> list[Order]:
        self.ended[close.ended.cause] += 1
        self._post.close(entry.call.id, now)
        self._calls.pop(entry.call.id, None)
        record = entry.record.over(entry.call, close.ended, unix_s - now)
        return [Record(record), CloseSound(entry.call.id)]

    def _standing(self, user: tuple[str, str, UUID]) -> tuple[_Entry, Standing] | None:
        for entry in self._calls.values():
            standing = Standing.of(entry.call, entry.number) if entry.user == user else None
            if standing is not None:
                return entry, standing
        return None

    def _media(self, id: UUID) -> Media:
        return Media(messages.sound_stream(id), self._random_bytes(32).hex())
