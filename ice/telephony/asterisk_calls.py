"""Calls at an Asterisk, one by one: how each is put together, goes on, is handed over and ends. Engine; :mod:`ice.telephony.asterisk_engine` adds what is done about all of them at once.

**A call that we place**: a mixing bridge, a channel of sound (external media: Asterisk connects to our AudioSocket server) and a channel to the number are asked for at once, each under a name
of our own choosing; the last is *created*, not originated, since a created channel is in our hands before it is dialled: in the bridge with its sound, it is heard before it answers. When both are there, it is dialled.

**A call that comes** is a channel that the dial plan leads into our application. Bridge and sound are made while it rings; when the user answers, the channel is answered and joins them.

**Keys** towards the line go by ARI (a 0x03 on the AudioSocket would end it); keys of the line come by AudioSocket, by events, or by both, and count once.

**Hand-over** dials the other number from here, into the same bridge, and lets go of the sound when it has answered. A REFER (``/channels/…/redirect``) is refused by most providers and never says how it went; the dial plan
(``/continue``) cannot take a channel that ARI created. So a hand-over that fails is known, with its cause, and the call goes on. The two channels that are left wait for each other's end (:class:`~ice.telephony.asterisk_call.Pair`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID, uuid4

from ice.printable import printable
from ice.telephony import ari
from ice.telephony.asterisk_call import (
    Close,
    Debris,
    Expect,
    Keys,
    Leg,
    Line,
    MediaLeg,
    Output,
    Pair,
    Reply,
    Say,
    Step,
    Tag,
    Target,
    Terms,
)
from ice.telephony.asterisk_names import MEMO, NOBODY, Names, is_number
from ice.telephony.call import (
    Answers,
    Direction,
    Event,
    HangsUp,
    Holds,
    Lost,
    Presses,
    Refuses,
    Released,
    Resumes,
    Rings,
    Side,
    Sounds,
    TransferDone,
    TransferFails,
)
from ice.telephony.causes import Cause, cause_of
from ice.telephony.trunk import (
    Accept,
    Dial,
    HandOver,
    HangUp,
    Happened,
    Health,
    Hold,
    Offered,
    Press,
    Request,
    Resume,
    Ring,
)

LINE: Final = Side.LINE
LET_GO_S: Final = 3.0  # for a channel that was told to hang up; a gateway waits 5 s
MEDIA_MAX: Final = 4  # channels of sound that one call may have: the first, and three that broke
MEDIA_AGAIN_S: Final = 1.0
TRANSFER_S: Final = 14.0  # a gateway waits 15 s for an outcome
CALLS_MAX: Final = 1_024
PAIRS_MAX: Final = 1_024
TEXT_MAX: Final = 64  # characters of a name or number, as call messages have them


class AsteriskCalls(ABC):
    """The calls of one trunk; see the module docstring. Every method that says what happened gives what is to be done.

    ``wall`` tells the time of day, ``new_id`` makes ids.
    """

    def __init__(self, terms: Terms, wall: Callable[[], float], new_id: Callable[[], UUID] = uuid4) -> None:
        self.terms = terms
        self.names = Names(terms.app)
        self.health = Health(False, "not connected yet")
        #: What came and led to nothing, or should not have been, by reason.
        self.counters: Counter[str] = Counter()
        self._wall = wall
        self._new_id = new_id
        self._linked = False
        self._lines: dict[UUID, Line] = {}
        self._of: dict[str, UUID] = {}  # channel -> call
        self._medias: dict[UUID, UUID] = {}  # UUID of a connection -> call
        self._keys: dict[UUID, Keys] = {}
        self._pairs: dict[str, Pair] = {}  # by each of its channels
        self._out: list[Output] = []
        self.debris = Debris(self._out.append)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [due for line in self._lines.values() for due in line.dues]
        return min(self.debris.dues + dues, default=None)

    def call_of(self, media: UUID) -> UUID | None:
        """Whose sound comes by the connection of this UUID."""
        return self._medias.get(media)

    def media_of(self, call: UUID) -> UUID | None:
        """The connection by which a call's sound goes."""
        line = self._lines.get(call)
        return line.media.uuid if line is not None and line.media is not None else None

    # -- what the gateway wants ----------------------------------------------------------------------------------------

    def request(self, request: Request, now: float) -> list[Output]:
        """Carry out a request of the gateway."""
        line = self._lines.get(request.call)
        if isinstance(request, Dial):
            self._place(request)
        elif isinstance(request, HangUp):
            self._hang_up(line, request, now)
        elif line is None or line.ending is not None:
            self._happened(request.call, Lost(LINE))
        else:
            self._carry(line, request, now)
        return self._flush()

    def _carry(self, line: Line, request: Request, now: float) -> None:
        match request:
            case Ring() if not line.outgoing:
                self._say(ari.ring(line.leg.id), Step.SAY, line)
                self._prepare(line)
            case Accept() if not line.outgoing and not line.accepted:
                line.accepted = True
                line.user = request.user or line.user
                self._prepare(line)
                self._say(ari.answer(line.leg.id), Step.ANSWER, line, line.leg.id)
            case Press():
                self._say(ari.send_keys(line.leg.id, request.digits), Step.SAY, line)
            case Hold() | Resume():
                line.held = isinstance(request, Hold)
                if line.answered and line.target is None:
                    self._say(ari.music(line.leg.id, line.held), Step.SAY, line)
            case HandOver():
                self._hand_over(line, request.number, now)
            case _:
                self.counters["no-sense"] += 1

    def _place(self, request: Dial) -> None:
        cause = None
        if not self.health.up:
            cause = Cause.NO_TRUNK
        elif not is_number(request.number):
            cause = Cause.INVALID_NUMBER
        elif request.call in self._lines or len(self._lines) >= CALLS_MAX:
            cause = Cause.CONGESTION
        if cause is not None:
            self.counters[f"refused-{cause}"] += 1
            self._happened(request.call, Refuses(LINE, cause))
            return
        leg = Leg(self.names.line(request.call))
        line = Line(
            request.call,
            Direction.OUTGOING,
            request.number,
            leg,
            caller=request.caller,
            user=request.user or NOBODY,
        )
        self._lines[line.id] = line
        self._of[leg.id] = line.id
        self._prepare(line)
        self._create(line, leg, request.number, Step.LINE, request.caller, request.name)

    def _create(self, line: Line, leg: Leg, number: str, step: Step, caller: str, name: str) -> None:
        variables = {MEMO: line.memo().text()} if step is Step.LINE else {}
        if is_number(caller):  # who is called sees the line that is connected to his
            variables |= {"CALLERID(num)": caller, "CONNECTEDLINE(num,i)": caller}
        if shown := printable(name, TEXT_MAX):
            variables |= {"CALLERID(name)": shown, "CONNECTEDLINE(name,i)": shown}
        endpoint = self.terms.dial.replace("{number}", number)
        self._say(ari.create(endpoint, self.names.app, leg.id, variables), step, line, leg.id)

    def _hang_up(self, line: Line | None, request: HangUp, now: float) -> None:
        if line is None:
            self._happened(request.call, Released(LINE))
        elif line.ending is None:
            line.ending, line.lost_by = now + LET_GO_S, None
            self.debris.channel(line.leg.id, request.cause.q850, now)
            self._clear(line, now)

    def _hand_over(self, line: Line, number: str, now: float) -> None:
        if not line.answered or line.target is not None or not is_number(number) or not self._linked:
            cause = Cause.FAILED if is_number(number) else Cause.INVALID_NUMBER
            self._happened(line.id, TransferFails(LINE, cause))
            return
        line.targets += 1
        line.target = Target(self.names.target(line.id, line.targets), until=now + TRANSFER_S)
        self._of[line.target.id] = line.id
        if line.held:  # who is handed over hears it ring
            self._say(ari.music(line.leg.id, False), Step.SAY, line)
        self._create(
            line, line.target, number, Step.TARGET, line.caller if line.outgoing else line.number, ""
        )

    # -- what the call manager says ------------------------------------------------------------------------------------

    def fact(self, fact: ari.Fact, now: float) -> list[Output]:
        """An event has come."""
        match fact:
            case ari.Started(channel, args):
                self._started(channel, args, now)
            case ari.Gone(channel, q850):
                self._gone(channel, cause_of(q850), now)
            case ari.Left(channel):
                self._left(channel, now)
            case ari.BridgeGone(bridge):
                self._bridge_gone(bridge, now)
            case ari.Replaced():
                self.counters["replaced"] += 1
            case _:
                line = self._lines.get(self._of.get(fact.channel, NOBODY))
                if line is None or line.ending is not None:
                    self.counters["unknown-channel" if line is None else "over"] += 1
                elif line.target is not None and fact.channel == line.target.id:
                    self._of_target(line, fact, now)
                elif fact.channel == line.leg.id:
                    self._of_line(line, fact, now)
        return self._flush()

    def media_connected(self, media: UUID) -> list[Output]:
        """The connection of a call's sound is there."""
        if media not in self._medias:
            self.counters["unknown-media"] += 1
            self._out.append(Close(media))
        return self._flush()

    def media_ended(self, media: UUID, now: float) -> list[Output]:
        """The connection of a call's sound has ended, or did not come in time."""
        line = self._lines.get(self._medias.get(media, NOBODY))
        if line is not None and line.media is not None and line.media.uuid == media:
            self._media_lost(line, now)
        return self._flush()

    def media_key(self, media: UUID, digit: str, now: float) -> list[Output]:
        """A telephone key was told by the connection of a call's sound."""
        line = self._lines.get(self._medias.get(media, NOBODY))
        if line is not None and line.ending is None:
            self._key(line, digit, "sound", now)
        return self._flush()

    def answered(self, tag: Tag, reply: Reply, now: float) -> list[Output]:
        """What came of a request."""
        if not reply.good and tag.step not in (Step.SAY, Step.REMOVE):
            self.counters[f"{tag.step.value}-{reply.kind}"] += 1
        match tag.step:
            case Step.CHANNELS | Step.BRIDGES | Step.MEMO:
                self._looked(tag, reply, now)
            case Step.REMOVE:
                self._removed(tag, reply, now)
            case Step.SAY:
                self.counters["unsaid"] += not reply.good
            case _:
                line = self._lines.get(tag.call)
                if line is None or line.ending is not None:
                    self._late(tag, reply, now)
                else:
                    self._replied(line, tag, reply, now)
        return self._flush()

    def tick(self, now: float) -> list[Output]:
        """Look at the clock."""
        for line in list(self._lines.values()):
            if line.ending is not None and now >= line.ending:
                self.counters["unconfirmed"] += 1
                self._released(line)
            elif line.lost_by is not None and now >= line.lost_by:
                self._finish(line, Lost(LINE), now)
            elif line.target is not None and now >= line.target.until:
                self._transfer_failed(line, Cause.NO_ANSWER, now)
            elif line.media_at is not None and now >= line.media_at:
                line.media_at = None
                if self._linked and line.ending is None:
                    self._prepare(line)
        self.debris.tick(now)
        return self._flush()

    # -- channels of calls ---------------------------------------------------------------------------------------------

    def _started(self, channel: ari.Channel, args: tuple[str, ...], now: float) -> None:
        line = self._lines.get(self._of.get(channel.id, NOBODY))
        if line is not None and line.ending is None:
            for leg in (line.leg, line.media, line.target):
                if leg is not None and leg.id == channel.id:
                    leg.here = True
            self._go_on(line)
        elif line is not None or self.names.part(channel.id) is not None or channel.id in self.debris:
            self.counters["late"] += 1  # it came into being after it was given up
            self.debris.channel(channel.id, Cause.FAILED.q850, now)
        elif channel.id in self._pairs:
            self.counters["again"] += 1
        elif not self.health.up or len(self._lines) >= CALLS_MAX:
            self.counters["refused-incoming"] += 1
            self.debris.channel(channel.id, Cause.CONGESTION.q850, now)
        else:
            self._offer(channel, args)

    def _offer(self, channel: ari.Channel, args: tuple[str, ...]) -> None:
        dialled = printable((args[0] if args and args[0] else channel.dialplan.exten), TEXT_MAX)
        number = channel.caller.number if is_number(channel.caller.number) else ""
        name = printable(channel.caller.name, TEXT_MAX)
        leg = Leg(channel.id, made=True, here=True)
        line = Line(self._new_id(), Direction.INCOMING, number, leg, dialled=dialled)
        self._lines[line.id] = line
        self._of[leg.id] = line.id
        self._out.append(Offered(line.id, number, dialled, "" if name.lower() == "anonymous" else name))

    def _of_line(self, line: Line, fact: ari.Fact, now: float) -> None:
        match fact:
            case ari.Key(_, digit):
                self._key(line, digit, "event", now)
            case ari.OnHold(_, on) if line.answered and on is not line.far_holds:
                line.far_holds = on
                self._happened(line.id, Holds(LINE) if on else Resumes(LINE))
            case ari.Changed(_, "Ringing") | ari.Dialled(_, "RINGING") if line.outgoing and not line.rang:
                line.rang = True
                self._happened(line.id, Rings(LINE))
            case ari.Dialled(_, "PROGRESS") if line.outgoing and not line.sounded and not line.answered:
                line.sounded = True
                self._happened(line.id, Sounds(LINE))
            case ari.Changed(_, "Up") | ari.Dialled(_, "ANSWER") if line.outgoing and not line.answered:
                self._line_answered(line)
            case ari.Dialled(_, status) if status in ari.DIAL_ENDS and line.outgoing and not line.answered:
                self._finish(line, Refuses(LINE, ari.DIAL_ENDS[status]), now)

    def _of_target(self, line: Line, fact: ari.Fact, now: float) -> None:
        match fact:
            case ari.Changed(_, "Up") | ari.Dialled(_, "ANSWER"):
                self._handed(line, now)
            case ari.Dialled(_, status) if status in ari.DIAL_ENDS:
                self._transfer_failed(line, ari.DIAL_ENDS[status], now)

    def _line_answered(self, line: Line) -> None:
        line.answered_unix_s = self._wall()
        self._note(line)
        if line.outgoing:
            self._happened(line.id, Answers(LINE))
        elif line.held:
            self._say(ari.music(line.leg.id, True), Step.SAY, line)

    def _left(self, channel: str, now: float) -> None:
        """A channel is out of our hands: about to be gone, or somebody has led it elsewhere."""
        line = self._lines.get(self._of.get(channel, NOBODY))
        if line is None or line.ending is not None or channel != line.leg.id:
            return
        line.leg.here = False
        if line.lost_by is None:
            line.lost_by = now + LET_GO_S  # its end, and why, is told in a moment

    def _gone(self, channel: str, cause: Cause, now: float) -> None:
        self.debris.gone(channel)
        line = self._lines.get(self._of.get(channel, NOBODY))
        if line is None:
            self.counters["unknown-channel"] += self.names.part(channel) is None
        elif channel == line.leg.id:
            self._of.pop(channel, None)
            if line.ending is not None:
                self._released(line)
            else:
                self._finish(line, HangsUp(LINE, cause), now)
        elif line.media is not None and channel == line.media.id:
            self._media_lost(line, now)
        elif line.target is not None and channel == line.target.id:
            self._transfer_failed(line, cause, now)

    def _bridge_gone(self, bridge: str, now: float) -> None:
        self.debris.gone(bridge)
        part = self.names.part(bridge)
        line = self._lines.get(part[0]) if part is not None else None
        if line is not None and line.bridge_up and line.ending is None:
            self.counters["bridge-lost"] += 1
            self._finish(line, HangsUp(LINE, Cause.FAILED), now)

    def _key(self, line: Line, digit: str, source: str, now: float) -> None:
        keys = self._keys.setdefault(line.id, Keys())
        if keys.take(digit, source, now):
            self._happened(line.id, Presses(LINE, digit))

    # -- putting a call together ---------------------------------------------------------------------------------------

    def _prepare(self, line: Line) -> None:
        """Bridge and sound."""
        if not line.bridge_asked:
            line.bridge_asked = True
            bridge = self.names.bridge(line.id)
            self._say(ari.make_bridge(bridge, bridge), Step.BRIDGE, line, bridge)
        if line.media is None:
            line.media_at = None
            line.medias += 1
            uuid = self._new_id()
            line.media = MediaLeg(self.names.media(line.id, line.medias), uuid=uuid)
            self._of[line.media.id] = line.id
            self._medias[uuid] = line.id
            self._out.append(Expect(uuid))
            ask = ari.external_media(
                line.media.id, self.names.app, self.terms.host, str(uuid), self.terms.format
            )
            self._say(ask, Step.MEDIA, line, line.media.id)

    def _go_on(self, line: Line) -> None:
        """Do what can be done now: join what is there, dial what has joined."""
        media, target = line.media, line.target
        wanted = line.outgoing or line.answered
        for leg, ready in ((line.leg, wanted), (media, True), (target, True)):
            if leg is not None and ready and line.bridge_up and leg.made and leg.here and not leg.joining:
                leg.joining = True
                self._say(ari.join(self.names.bridge(line.id), leg.id), Step.JOIN, line, leg.id)
        if line.outgoing and line.leg.joined and media is not None and media.made:
            self._dial_leg(line, line.leg, int(self.terms.ring_s) + 10)
        if target is not None and target.joined:
            self._dial_leg(line, target, int(TRANSFER_S))

    def _dial_leg(self, line: Line, leg: Leg, timeout_s: int) -> None:
        if not leg.dialled:
            leg.dialled = True
            self._say(ari.dial(leg.id, timeout_s), Step.DIAL, line, leg.id)

    def _replied(self, line: Line, tag: Tag, reply: Reply, now: float) -> None:
        """What came of a request for a call that goes on."""
        target = line.target
        if target is not None and tag.id == target.id:
            if not reply.good:
                self._transfer_failed(line, ari.refusal(reply.status, number=tag.step is Step.TARGET), now)
                return
            target.made = True
            target.joined |= tag.step is Step.JOIN
        elif line.media is not None and tag.id == line.media.id:
            if not reply.good:
                self._media_failed(line, reply, now)
                return
            line.media.made = True
            line.media.joined |= tag.step is Step.JOIN
        elif tag.step is Step.BRIDGE or tag.id == line.leg.id:
            if not reply.good:
                cause = ari.refusal(reply.status, number=tag.step is Step.LINE)
                self._finish(line, self._failure(line, cause), now)
                return
            line.bridge_up |= tag.step is Step.BRIDGE
            line.leg.made |= tag.step is not Step.BRIDGE
            line.leg.joined |= tag.step is Step.JOIN
            if tag.step is Step.ANSWER:
                self._line_answered(line)
        else:
            self._late(tag, reply, now)
            return
        self._go_on(line)

    def _failure(self, line: Line, cause: Cause) -> Event:
        """How a call that cannot be told to the gateway: one that was not answered is refused."""
        return Refuses(LINE, cause) if line.outgoing and not line.answered else HangsUp(LINE, cause)

    def _late(self, tag: Tag, reply: Reply, now: float) -> None:
        """Something was made for a call that is over: it goes at once."""
        makes = tag.step in (Step.BRIDGE, Step.MEDIA, Step.LINE, Step.TARGET)
        if makes and (reply.good or reply.status is None):
            self.counters["late"] += 1
            if tag.step is Step.BRIDGE:
                self.debris.bridge(tag.id, now)
            else:
                self.debris.channel(tag.id, Cause.FAILED.q850, now)

    def _media_failed(self, line: Line, reply: Reply, now: float) -> None:
        self._drop_media(line, now)
        if not line.answered:
            self._finish(line, self._failure(line, ari.refusal(reply.status)), now)
        elif reply.status is None and line.medias < MEDIA_MAX:
            line.media_at = now + MEDIA_AGAIN_S  # it may be about to be gone: that will be seen, or not
        elif self._linked:
            self._finish(line, HangsUp(LINE, Cause.MEDIA_LOST), now)

    def _media_lost(self, line: Line, now: float) -> None:
        self.counters["media-lost"] += 1
        self._drop_media(line, now)
        if line.ending is not None or not self._linked:
            return
        if line.medias >= MEDIA_MAX:
            self._finish(line, self._failure(line, Cause.MEDIA_LOST), now)
        else:
            self._prepare(line)

    def _drop_media(self, line: Line, now: float) -> None:
        media, line.media = line.media, None
        if media is not None:
            self._of.pop(media.id, None)
            self._medias.pop(media.uuid, None)
            self._out.append(Close(media.uuid))
            self.debris.channel(media.id, Cause.HUNG_UP.q850, now)

    # -- handing over --------------------------------------------------------------------------------------------------

    def _transfer_failed(self, line: Line, cause: Cause, now: float) -> None:
        target, line.target = line.target, None
        if target is None:
            return
        self._of.pop(target.id, None)
        self.debris.channel(target.id, Cause.CANCELLED.q850, now)
        if line.held:
            self._say(ari.music(line.leg.id, True), Step.SAY, line)
        self._happened(line.id, TransferFails(LINE, cause))

    def _handed(self, line: Line, now: float) -> None:
        assert line.target is not None
        pair = Pair(line.leg.id, line.target.id, self.names.bridge(line.id))
        if len(self._pairs) < 2 * PAIRS_MAX:
            self._pairs[pair.line] = self._pairs[pair.target] = pair
        self._say(ari.set_variable(pair.line, MEMO, line.memo(pair.target).text()), Step.SAY, line)
        self._drop_media(line, now)
        self._forget(line)
        self._happened(line.id, TransferDone(LINE))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self, line: Line, event: Event, now: float) -> None:
        """A call has ended at its line: say so, and leave nothing behind."""
        if line.leg.id in self._of:  # not gone by itself
            self.debris.channel(line.leg.id, getattr(event, "cause", Cause.FAILED).q850, now)
        self._clear(line, now)
        self._forget(line)
        self._happened(line.id, event)

    def _released(self, line: Line) -> None:
        self._forget(line)
        self._happened(line.id, Released(LINE))

    def _clear(self, line: Line, now: float) -> None:
        """Let go of all that is not the line itself."""
        self._drop_media(line, now)
        target, line.target = line.target, None
        if target is not None:
            self._of.pop(target.id, None)
            self.debris.channel(target.id, Cause.CANCELLED.q850, now)
        if line.bridge_asked:
            line.bridge_asked = line.bridge_up = False
            self.debris.bridge(self.names.bridge(line.id), now)

    def _forget(self, line: Line) -> None:
        self._lines.pop(line.id, None)
        self._keys.pop(line.id, None)
        for leg in (line.leg, line.media, line.target):
            if leg is not None:
                self._of.pop(leg.id, None)

    def _removed(self, tag: Tag, reply: Reply, now: float) -> None:
        if not reply.good and reply.status != 404:
            return  # it is said again
        self.debris.gone(tag.id)
        line = self._lines.get(self._of.get(tag.id, NOBODY))
        over = reply.status == 404 or not self._linked  # nothing more will be told about it
        if line is not None and line.ending is not None and tag.id == line.leg.id and over:
            self._released(line)

    def _note(self, line: Line) -> None:
        self._say(ari.set_variable(line.leg.id, MEMO, line.memo().text()), Step.SAY, line)

    def _say(self, ask: ari.Ask, step: Step, line: Line, id: str = "") -> None:
        self._out.append(Say(ask, Tag(step, line.id, id)))

    def _happened(self, call: UUID, event: Event) -> None:
        self._out.append(Happened(call, event))

    def _healthy(self, up: bool, why: str) -> None:
        health = Health(up, why)
        if health != self.health:
            self.health = health
            self._out.append(health)

    def _flush(self) -> list[Output]:
        out = self._out.copy()
        self._out.clear()
        return out

    @abstractmethod
    def _looked(self, tag: Tag, reply: Reply, now: float) -> None:
        """What came of asking what there is."""
