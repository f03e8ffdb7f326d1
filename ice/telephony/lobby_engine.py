"""Calls that belong to a channel: who dials a number that leads there, and whom the channel calls.

An engine: what comes of trunks and streams goes in, what is to be done comes out as values (:data:`~ice.telephony.lobby_orders.Order`). Each call is a :class:`~ice.telephony.call.Call` whose user is the channel: it answers at once, and lets go at once. A caller is a
:class:`~ice.telephony.visitor.Visitor`, first at the door, then in a :class:`~ice.telephony.lobby_room.Room`; a room is joined when the first comes in and left when the last has gone and the end of his burst is said.

**Bounds.** Calls of a channel (:data:`~ice.telephony.lobby_room.CALLERS_MAX`, those at the door included, so that nobody fills a gateway with calls that only wait for a code), and of the gateway as a whole (``free``).

**Numbers** of callers stand in the records, and in no log.

**Active and standby.** Only the active gateway of a group takes calls; one that becomes standby ends what it has (``takeover``).

**Found calls.** An answered call that its trunk still has after our restart goes on: one to a number of ours at the door, where who was let in before is asked for his code once more, since nobody can say that he ever knew it; one that a channel
had placed in the channel. Trunks know whose call it is by a UUID (:func:`~ice.telephony.lobby_orders.channel_id`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import attrs
from twisted.logger import Logger

from ice.errors import LocalError
from ice.media.playout import Listener
from ice.printable import printable
from ice.streams.interface import Datagram
from ice.telephony import call as life
from ice.telephony import trunk as trunking
from ice.telephony.audio import AudioStatistics, FrameClock, Line
from ice.telephony.call import Call, Direction, Side
from ice.telephony.causes import Cause
from ice.telephony.dial_in import DialIn, Door, Key, Visit
from ice.telephony.lobby_orders import (
    DialOutRefused,
    Join,
    Leave,
    LobbyCall,
    Order,
    SayLine,
    SayStream,
    channel_id,
)
from ice.telephony.lobby_room import CALLERS_MAX, Place, Room
from ice.telephony.measures import measured
from ice.telephony.messages import MAX_NUMBER
from ice.telephony.prompts import Prompts
from ice.telephony.records import CallRecord
from ice.telephony.switchboard import AskTrunk, Record
from ice.telephony.visitor import Visitor

LOOK_S: Final = 0.02  # between two looks while somebody is on a line: a frame
SHOWN: Final = 40  # characters of a stranger's number in a log


@attrs.define(eq=False)
class _Caller:
    """One call with all that belongs to it; ``stream``: where it leads."""

    call: Call
    trunk: str
    dial_in: DialIn
    stream: str
    number: str
    name: str
    who: str
    record: CallRecord
    tried: set[str]
    visitor: Visitor | None = None
    inside: bool = False
    parted: bool = False


class LobbyEngine:
    """See the module docstring; :class:`ice.telephony.lobby.Lobby` says what the arguments are.

    Raises :class:`~ice.errors.LocalError` for two dial-ins of one number, a code that is none, and a channel whose codec is not here.
    """

    _log = Logger()

    def __init__(
        self,
        dial_ins: Sequence[DialIn],
        places: Mapping[str, Place],
        order: trunking.TrunkOrder,
        *,
        rate_of: Callable[[str], int],
        normal: Callable[[str], str | None],
        free: Callable[[], bool],
        timing: life.Timing,
        prompts: Prompts,
        chance: random.Random,
    ) -> None:
        self.active = False
        #: Calls that did not come about, and those that are over, by cause; whatever came of calls that are not there.
        self.refused: Counter[str] = Counter()
        self.ended: Counter[Cause] = Counter()
        #: What callers did, over all calls that are over: bursts, and refusals of the floor by reason.
        self.bursts = 0
        self.floor: Counter[str] = Counter()
        self._places = {
            each.channel: places.get(each.channel) or Place.plain(each.channel) for each in dial_ins
        }
        self._order = order
        self._rate_of, self._normal, self._free = rate_of, normal, free
        self.timing = timing
        self._prompts = prompts
        self._chance = chance
        self._numbers: dict[str, list[DialIn]] = {}
        self._doors: dict[DialIn, Door] = {}
        for each in dial_ins:
            same = self._numbers.setdefault(self._normalised(each.number), [])
            if any(not other.trunk or not each.trunk or other.trunk == each.trunk for other in same):
                raise LocalError(f"the number {each.number} leads into two channels")
            same.append(each)
            self._doors[each] = Door(each.code)
        for place in self._places.values():
            place.channel.voice.encoder()  # complains now rather than at the first caller
        self._calls: dict[UUID, _Caller] = {}
        self._rooms: dict[str, Room] = {}
        self._frames = FrameClock()

    def __len__(self) -> int:
        return len(self._calls)

    # -- what there is

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [due for each in self._calls.values() if (due := each.call.deadline) is not None]
        if self._sounding():
            dues.append(self._frames.next_at if self._frames.next_at is not None else float("-inf"))
        return min(dues, default=None)

    def calls(self) -> tuple[LobbyCall, ...]:
        """The calls there are, over or not."""
        return tuple(self._shown(each) for each in self._calls.values())

    def status(self) -> dict[str, Any]:
        """Counters, and who is where; plain values."""
        doors: Counter[str] = Counter()
        for door in self._doors.values():
            doors.update(door.counts)
        bursts, floor = self.bursts, Counter(self.floor)
        for each in self._calls.values():
            if each.visitor is not None:
                bursts += each.visitor.bursts
                floor.update(each.visitor.refused)
        return {
            "active": self.active,
            "calls": len(self._calls),
            "at_door": sum(each.visitor is not None and not each.inside for each in self._calls.values()),
            "inside": sum(each.inside for each in self._calls.values()),
            "talking": sum(each.talking for each in self.calls()),
            "channels": {stream: len(room) for stream, room in self._rooms.items()},
            "codes": {"right": doors["right"], "wrong": doors["wrong"]},
            "bursts": bursts,
            "floor": dict(floor),
            "refused": dict(self.refused),
            "ended": {str(cause): count for cause, count in self.ended.items()},
            "missing_prompts": sorted(map(str, self._prompts.missing)),
        }  # fmt: skip

    # -- from trunks

    def takes(self, trunk: str, report: trunking.Report) -> bool:
        """Whether a report is ours: a call to one of our numbers, and whatever comes of a call that we have."""
        match report:
            case trunking.Offered():
                return self._dial_in(trunk, report.dialled) is not None
            case trunking.Found():
                return report.call in self._calls or self._whose(trunk, report) is not None
            case trunking.Happened() | trunking.Sound():
                return report.call in self._calls
        return False

    def report(self, trunk: str, report: trunking.Report, now: float, unix_s: float) -> list[Order]:
        """Something came of a trunk, and it is ours."""
        match report:
            case trunking.Offered():
                return self._offered(trunk, report, now, unix_s)
            case trunking.Found():
                return self._found(trunk, report, now, unix_s)
            case trunking.Sound(id, rate, samples):
                caller = self._calls.get(id)
                if caller is not None and caller.visitor is not None:
                    caller.visitor.line.hear(rate, samples, now)
            case trunking.Happened(id, event):
                caller = self._calls.get(id)
                if caller is None or caller.trunk != trunk:
                    self.refused["no-call"] += 1
                    return []
                return self._happened(caller, event, now, unix_s)
        return []

    # -- from streams

    def datagram(self, stream: str, datagram: Datagram, now: float) -> None:
        """A datagram was heard on a channel."""
        room = self._rooms.get(stream)
        if room is not None:
            room.datagram(datagram, now)

    def path(self, stream: str, up: bool, now: float) -> None:
        """The way to a channel has opened or closed."""
        room = self._rooms.get(stream)
        if room is not None:
            room.path(up, now)

    # -- of our own

    def dial_out(
        self, channel: str, number: str, who: str, now: float, unix_s: float, *, urgent: bool = False
    ) -> tuple[UUID, list[Order]]:
        """Call ``number`` (in normal form, and allowed) for a channel, by its stream id or its name; ``who`` wants it. ``urgent``: whatever the limits. Raises :class:`~ice.telephony.lobby_orders.DialOutRefused`."""
        dial_in = next(
            (
                each
                for place in self._numbers.values()
                for each in place
                if channel in (each.channel, self._places[each.channel].channel.name)
            ),
            None,
        )
        if dial_in is None:
            raise DialOutRefused(
                Cause.FORBIDDEN,
                f"no number leads into {printable(channel, SHOWN)!r}: only channels with [[gateway.dial_in]] can call",
            )
        trunk = dial_in.trunk or self._order.choose(now)
        if not self.active:
            raise DialOutRefused(Cause.TAKEOVER, "this gateway is on standby: ask the active one")
        if trunk is None:
            raise DialOutRefused(Cause.NO_TRUNK, f"no call manager can be reached: {self._order.health.why}")
        if not urgent and not self._room_for(dial_in.channel):
            raise DialOutRefused(Cause.LIMIT, "there are as many calls as may be")
        id = uuid4()
        call, actions = Call.place(id, Direction.OUTGOING, now, self.timing)
        record = CallRecord(id, Direction.OUTGOING, number, unix_s, user=who, trunk=trunk)
        caller = _Caller(call, trunk, dial_in, dial_in.channel, number, "", who, record, {trunk})
        self._calls[id] = caller
        return id, [Record(record), *self._do(caller, actions, now, unix_s)]

    def end(self, call: UUID, cause: Cause, now: float, unix_s: float) -> list[Order]:
        """End one call; one that is not there is no error."""
        caller = self._calls.get(call)
        return [] if caller is None else self._feed(caller, life.Stopped(cause), now, unix_s)

    def stop(self, cause: Cause, now: float, unix_s: float) -> list[Order]:
        """End all calls and take no more; what is left of bursts is said at once."""
        self.active = False
        orders: list[Order] = []
        for caller in list(self._calls.values()):
            orders += self._feed(caller, life.Stopped(cause), now, unix_s)
        for stream, room in self._rooms.items():
            orders += [SayStream(stream, each.payload, each.flags) for each in room.finish()]
        return orders + self._tidy()

    def set_active(self, active: bool, now: float, unix_s: float) -> list[Order]:
        """The election has spoken."""
        if active is self.active:
            return []
        self.active = active
        return [] if active else self.stop(Cause.TAKEOVER, now, unix_s)

    def tick(self, now: float, unix_s: float) -> list[Order]:
        """Look at the clock."""
        orders: list[Order] = []
        for caller in list(self._calls.values()):
            orders += self._do(caller, caller.call.tick(now), now, unix_s)
        if self._sounding():
            for at in self._frames.due(now):
                orders += self._frame(at, now, unix_s)
        else:
            self._frames.next_at = None
        return orders + self._tidy()

    # -- calls begin

    def _normalised(self, number: str) -> str:
        return self._normal(number) or number

    def _dial_in(self, trunk: str, dialled: str) -> DialIn | None:
        found = self._numbers.get(self._normalised(dialled), ())
        return next((each for each in found if each.trunk in ("", trunk)), None)

    def _whose(self, trunk: str, found: trunking.Found) -> DialIn | None:
        """Which channel's a found call is."""
        if found.direction is Direction.INCOMING:
            return self._dial_in(trunk, found.dialled)
        return next((each for each in self._doors if channel_id(each.channel) == found.user), None)

    def _room_for(self, stream: str) -> bool:
        """Whether a channel, and the gateway, have room for one more call."""
        there = sum(each.stream == stream for each in self._calls.values())
        return there < CALLERS_MAX and self._free()

    def _offered(self, trunk: str, offer: trunking.Offered, now: float, unix_s: float) -> list[Order]:
        dial_in = self._dial_in(trunk, offer.dialled)
        record = CallRecord(
            offer.call, Direction.INCOMING, offer.number, unix_s, dialled=offer.dialled, trunk=trunk
        )
        cause = None
        if dial_in is None:
            cause = Cause.UNKNOWN_NUMBER
        elif not self.active:
            cause = Cause.TAKEOVER
        elif offer.call in self._calls or not self._room_for(dial_in.channel):
            cause = Cause.LIMIT
        if cause is not None or dial_in is None:
            cause = cause or Cause.UNKNOWN_NUMBER
            self.refused[str(cause)] += 1
            if offer.call in self._calls:  # whoever names two calls alike loses neither
                return []
            over = attrs.evolve(record, ended=unix_s, cause=cause)
            return [Record(over), AskTrunk(trunk, trunking.HangUp(offer.call, cause))]
        call, actions = Call.place(offer.call, Direction.INCOMING, now, self.timing)
        caller = _Caller(call, trunk, dial_in, dial_in.channel, offer.number, offer.name, "", record, set())
        self._calls[offer.call] = caller
        orders = [Record(record), *self._do(caller, actions, now, unix_s)]
        return orders + self._feed(caller, life.Answers(Side.USER), now, unix_s)

    def _found(self, trunk: str, found: trunking.Found, now: float, unix_s: float) -> list[Order]:
        """After a restart: an answered call goes on, at the door where it was not we who called."""
        dial_in = self._whose(trunk, found)
        if found.call in self._calls:
            return []
        if dial_in is None or not self.active or not self._room_for(dial_in.channel):
            return [AskTrunk(trunk, trunking.HangUp(found.call, Cause.TAKEOVER))]
        age_s = max(0.0, unix_s - found.answered_unix_s)
        call = Call.adopt(found.call, found.direction, now - age_s, self.timing)
        record = CallRecord(
            found.call, found.direction, found.number, unix_s - age_s, dialled=found.dialled, trunk=trunk,
            answered=unix_s - age_s,
        )  # fmt: skip
        caller = _Caller(call, trunk, dial_in, dial_in.channel, found.number, "", "", record, set())
        self._calls[found.call] = caller
        self._begin(caller, now)
        return [Record(record)]

    # -- calls go on

    def _happened(self, caller: _Caller, event: life.Event, now: float, unix_s: float) -> list[Order]:
        """An event of the line: one that says no more than that this trunk cannot is the next trunk's turn, where the channel may have it."""
        if trunking.could_not(caller.call, event):
            self._order.failed(caller.trunk, now)
            following = None if caller.dial_in.trunk else self._order.choose(now, caller.tried)
            if following is not None:
                caller.trunk = following
                caller.tried.add(following)
                caller.record = attrs.evolve(caller.record, trunk=following)
                return self._do(caller, [life.Ask(Side.LINE)], now, unix_s)
        return self._feed(caller, event, now, unix_s)

    def _feed(self, caller: _Caller, event: life.Event, now: float, unix_s: float) -> list[Order]:
        return self._do(caller, caller.call.feed(event, now), now, unix_s)

    def _do(self, caller: _Caller, actions: Sequence[life.Action], now: float, unix_s: float) -> list[Order]:
        """Carry out what a call's state machine wants done."""
        orders: list[Order] = []
        call = caller.call
        if call.over:
            self._part(caller, now)
        for action in actions:
            request = trunking.request_of(
                call.id,
                action,
                number=caller.number,
                caller=caller.dial_in.number,
                name=self._name(caller),
                user=channel_id(caller.stream),
            )
            if request is not None:
                orders.append(AskTrunk(caller.trunk, request))
                continue
            match action:
                case life.Flow(to_user, to_line):
                    if caller.visitor is not None:
                        caller.visitor.hold(not to_user, now)
                    elif call.answered and to_line and not call.over:
                        self._begin(caller, now)
                case life.Send(Side.USER, digits):
                    if caller.visitor is not None:
                        caller.visitor.press(digits, now)
                        orders += self._look_after(caller, now, unix_s)
                case life.Release(Side.USER):
                    orders += self._feed(caller, life.Released(Side.USER), now, unix_s)
                case life.Close(ended):
                    orders += self._close(caller, ended, now, unix_s)
        return orders

    def _begin(self, caller: _Caller, now: float) -> None:
        """The call is answered: to the door with him, or inside where it was we who called."""
        dial_in = caller.dial_in
        place = self._places[caller.stream]
        key = Key.OPEN if place.channel.full_duplex else dial_in.key
        called = caller.call.direction is Direction.OUTGOING
        number = self._normalised(caller.number)[:MAX_NUMBER]
        visit = Visit(self._doors[dial_in], number, key, now, called=called)
        alias = dial_in.alias_of(caller.number, caller.name)
        line = Line(self._rate_of(caller.trunk))
        caller.visitor = Visitor(visit, line, dial_in, alias, self._prompts, self._chance)
        caller.visitor.begin(now)

    def _frame(self, at: float, now: float, unix_s: float) -> list[Order]:
        """20 ms of every line and every room."""
        orders: list[Order] = []
        for stream, room in self._rooms.items():
            sendings, lines = room.frame(at)
            orders += [SayStream(stream, each.payload, each.flags) for each in sendings]
            orders += [SayLine(self._calls[id].trunk, id, samples) for id, samples in lines]
        for id, caller in list(self._calls.items()):
            visitor = caller.visitor
            if visitor is None or caller.parted:
                continue
            if not caller.inside:
                visitor.step(at, float("inf"))
                orders.append(SayLine(caller.trunk, id, visitor.hear(None)))
            orders += self._look_after(caller, now, unix_s)
        return orders

    def _look_after(self, caller: _Caller, now: float, unix_s: float) -> list[Order]:
        """Let him in, or hang up, where his visit has come to that."""
        visitor = caller.visitor
        if visitor is None or caller.parted:
            return []
        if visitor.leaving is not None and visitor.told_all:
            if visitor.leaving is Cause.FORBIDDEN:
                self._log.warn(
                    "call {call}: who calls did not know the code of {channel}, or had tried too often",
                    call=str(caller.call.id),
                    channel=self._name(caller),
                )
            return self._feed(caller, life.Stopped(visitor.leaving), now, unix_s)
        if not visitor.wants_in or caller.inside:
            return []
        orders: list[Order] = []
        room = self._rooms.get(caller.stream)
        if room is None:
            room = self._rooms[caller.stream] = Room(self._places[caller.stream], self._chance)
            orders.append(Join(caller.stream))
        caller.inside = True
        room.enter(caller.call.id, visitor, now)
        return orders

    # -- calls end

    def _part(self, caller: _Caller, now: float) -> None:
        """The call is over: nobody hears him any more, and he nobody."""
        if caller.parted:
            return
        caller.parted = True
        if caller.visitor is None:
            return
        room = self._rooms.get(caller.stream)
        people = room.statistics() if caller.inside and room is not None else Listener().statistics()
        line = caller.visitor.line.statistics()
        caller.record = measured(caller.record, AudioStatistics(people, {"line": line}, {}, 0, 0, 0))
        if caller.inside and room is not None:
            room.leave(caller.call.id, now)
        else:
            caller.visitor.part(now)
        caller.inside = False
        self.bursts += caller.visitor.bursts
        self.floor.update(caller.visitor.refused)

    def _close(self, caller: _Caller, ended: life.Ended, now: float, unix_s: float) -> list[Order]:
        self.ended[ended.cause] += 1
        self._calls.pop(caller.call.id, None)
        record = caller.record.over(caller.call, ended, unix_s - now)
        return [Record(record)]

    def _tidy(self) -> list[Order]:
        """Leave channels where nobody is any more."""
        left = [stream for stream, room in self._rooms.items() if room.idle]
        for stream in left:
            del self._rooms[stream]
        return [Leave(stream) for stream in left]

    # -- within

    def _sounding(self) -> bool:
        """Whether frames are wanted."""
        return bool(self._rooms) or any(
            each.visitor is not None and not each.parted for each in self._calls.values()
        )

    def _name(self, caller: _Caller) -> str:
        return self._places[caller.stream].channel.shown

    def _shown(self, caller: _Caller) -> LobbyCall:
        call, visitor = caller.call, caller.visitor
        where = "channel" if caller.inside else "ringing" if visitor is None else "door"
        return LobbyCall(
            call.id, call.direction, caller.number, caller.record.dialled, caller.stream, self._name(caller),
            "" if visitor is None else visitor.alias, caller.trunk, caller.who, call.name, where,
            caller.inside and visitor is not None and visitor.talking, call.marks.began, call.marks.answered,
        )  # fmt: skip
