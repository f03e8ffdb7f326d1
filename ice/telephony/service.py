"""The telephony gateway as a Twisted service: its network of Rallypoints, its trunks, the switchboard between them, the sound of calls, and their records.

What is decided is decided in :mod:`ice.telephony.switchboard`; here its orders are carried out, and what comes of streams and trunks is handed to it. Calls that belong to a channel are the
:class:`~ice.telephony.seams.Lobby`'s: it is asked first whether something that a trunk reports is its own.

**One of a group.** People write to a group of gateways; the active one answers (:meth:`Gateway.active`, :meth:`Gateway.standby`, :mod:`ice.election`). A standby has joined the group's stream and says nothing, and its trunks are *not started*: a
call manager hands its calls to whoever has connected last. Who becomes a standby with nobody to follow him ends his calls on both sides (``takeover``), waits a moment for that to be confirmed, and lets the trunks go. Who becomes active starts
his trunks, and adopts what they still have of the gateway before him.

**Hands off.** Who leads no more (he is stopped, stood still, or another has more votes) while another of the group is there to lead, touches nothing that this one takes up, or has already: lines that outlive a process are neither hung up nor are their
people told anything. The next gateway finds these lines, and goes on with those that were answered; the others end. So an orderly change of gateways ends no call that stands.

**Trunks.** A trunk that goes down ends no call by itself: whether a call is over is for the trunk to say, which may find it again when it is back.

**Ready.** A gateway is ready while a Rallypoint reaches it and, if it is active, a trunk is up or went down less than :data:`TRUNKS_S` ago. One that has given up its lead for want of a trunk stays
unready for :data:`TRUNKS_REST_S`, so that another may try.

**Secrets.** Keys of calls are made here and are in memory alone; of numbers and keys that people press, nothing is logged. Who called whom stands in the records, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.logger import Logger

from ice.errors import LocalError
from ice.net.alarm import Alarm
from ice.net.clock import DelayedCall
from ice.streams.interface import Datagram, Stream
from ice.streams.rallypoint import RallypointNetwork
from ice.telephony import messages
from ice.telephony import trunk as trunking
from ice.telephony.call import Lost, Released, Side
from ice.telephony.causes import Cause
from ice.telephony.loopback_trunk import LoopbackTrunk
from ice.telephony.mailroom import Mailroom
from ice.telephony.measures import Setups, measured
from ice.telephony.plan import Rules
from ice.telephony.post import Mail, Post
from ice.telephony.records import CallRecord, RecordStore
from ice.telephony.seams import Lobby, MakeTrunk, TrunkDriver
from ice.telephony.sound import Sounds
from ice.telephony.switchboard import (
    AskTrunk,
    CloseSound,
    OpenSound,
    Order,
    Record,
    SayKeys,
    SetFlow,
    Switchboard,
)

LOOK_S: Final = 1.0  # while there are calls: whose program says nothing any more
CONFIRM_S: Final = 0.7  # that calls are over, before the trunks are let go
CLOSE_S: Final = 1.1  # for the trunks to close; with CONFIRM_S below the election's shortest deadline
TRUNKS_S: Final = 30.0
TRUNKS_REST_S: Final = 60.0


class Gateway(Service):
    """One gateway. ``network`` is not started yet, ``trunks`` are asked in their order; ``group_id`` is the group of gateways, or our own id.

    ``records`` None: none are kept. ``elected``: it starts as a standby, and is told when to begin. :attr:`lobby` is given after it is made. Raises :class:`LocalError` for trunks of one name.
    """

    _log = Logger()
    name = "gateway"

    def __init__(
        self,
        reactor: Any,
        network: RallypointNetwork,
        group_id: str,
        post: Post,
        rules: Rules,
        trunks: Sequence[MakeTrunk],
        *,
        records: RecordStore | None = None,
        elected: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.network = network
        self.group_id = group_id
        self.post = post
        self.rules = rules
        self.is_active = False
        self.started_at: float | None = None
        self.lobby: Lobby | None = None
        self.records = records
        #: Records that could not be written, and sound of calls that there are not.
        self.records_lost = self.stray_sound = 0
        self.setups = Setups()
        self.mailroom = Mailroom(reactor, network)
        self.trunks: dict[str, TrunkDriver] = {}
        for make in trunks:
            trunk = make(self)
            self.trunks[trunk.name] = trunk
        if len(self.trunks) != len(trunks):
            raise LocalError("two trunks have one name")
        self.board = Switchboard(
            group_id,
            post,
            rules.plan,
            tuple(self.trunks),
            timing=rules.timing,
            max_calls=rules.calls,
            elsewhere=lambda: 0 if self.lobby is None else len(self.lobby),
        )
        self.sounds = Sounds(reactor, network, wall=wall, say=self.say, keys=self._keys, lost=self._lost)
        self._reactor = reactor
        self._wall = wall
        self._elected = elected
        self._may_act: Callable[[], bool] | None = None
        self._heir: Callable[[], bool] = lambda: True
        self._hands_off = False
        self._stream: Stream | None = None
        self._alarm = Alarm(reactor, self._tick)
        self._health: dict[str, bool] = {}
        self._no_trunk_since: float | None = None
        self._rests_until = float("-inf")
        self._quiet: list[Deferred[None]] = []

    # -- IService ------------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Link to the Rallypoints, hear what people say, and work unless somebody is to be elected first."""
        super().startService()  # type: ignore[no-untyped-call]
        self.started_at = self._reactor.seconds()
        self._stream = self.network.join(messages.group_stream(self.group_id), self, talk=False)
        self.network.start()
        if not self._elected:
            self.active()

    def stopService(self) -> Deferred[None]:
        """End all calls on both sides and leave every stream; fires when nothing is left. Stopping twice is harmless."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        ended = self._retire(Cause.SHUTDOWN)
        ended.addBoth(self._leave)
        return ended

    # -- the election (ice.election.satellite.Work) --------------------------------------------------------------------

    def active(self) -> None:
        """Take calls from now on, and those that a gateway which is no more has left."""
        if self.is_active:
            return
        self.is_active = True
        self._hands_off = False
        now = self._reactor.seconds()
        self._no_trunk_since = now
        self._carry(self.board.set_active(True, now, self._wall()))
        if self.lobby is not None:
            self.lobby.set_active(True)
        for trunk in self.trunks.values():
            try:
                trunk.start()
            except LocalError as error:  # told as its health
                self.told(trunk, trunking.Health(False, str(error)))
            except Exception as error:  # the others may do
                self._log.failure("trunk {trunk} cannot be started", trunk=trunk.name)
                self.told(trunk, trunking.Health(False, f"cannot be started: {error}"))
        self._log.info("active: taking calls by {trunks}", trunks=", ".join(self.trunks))

    def standby(self) -> Deferred[None]:
        """End all calls (``takeover``), or keep one's hands off them, and let the trunks go; fires when that is done, within 1.8 s."""
        if not self.is_active:
            return succeed(None)
        self.is_active = False  # from here on, for whoever calls this again meanwhile
        if self._may_act is not None and not self._may_act() and self._heir():
            self._leave_to_another()
        if self._trunks_down():
            self._rests_until = self._reactor.seconds() + TRUNKS_REST_S
        done = self._retire(Cause.TAKEOVER)
        self._log.info("standby: taking no calls")
        return done

    def _leave_to_another(self) -> None:
        """Keep one's hands off lines that another gateway takes up."""
        for line in self.board.lines:
            if line.answered is None:  # the next one lets it go anyway; its person need not wait for that
                self._lost(line.id, Cause.TAKEOVER)
        self._hands_off = True
        lasting = [name for name, trunk in self.trunks.items() if _outlives_us(trunk)]
        self._carry(self.board.abandon(lasting, self._reactor.seconds(), self._wall()))

    def ready(self) -> str | None:
        """None where it could work, else why not; see the module's docstring."""
        if not self.running:
            return "the gateway is stopping" if self.started_at is not None else "not started yet"
        if not self.network.up:
            return f"no link to a Rallypoint: {self.network.why or 'connecting'}"
        if self.is_active and self._trunks_down():
            return f"no call manager: {self.board.order.health.why}"
        if not self.is_active and self._reactor.seconds() < self._rests_until:
            return "no call manager could be reached when this gateway was active last"
        return None

    def stored(self) -> bool:
        """The configuration is on this machine's disk, always."""
        return True

    def guard(self, may_act: Callable[[], bool], heir: Callable[[], bool] = lambda: True) -> None:
        """Ask ``may_act`` before anything that came is looked at; where it says no, it has called :meth:`standby` already. ``heir``: whether another of the group is there to lead."""
        self._may_act, self._heir = may_act, heir

    # -- for people ----------------------------------------------------------------------------------------------------

    def configure(self, rules: Rules) -> None:
        """Go on by other numbers and limits; calls that stand keep their times."""
        self.rules = rules
        self.board.configure(rules.plan, rules.timing, rules.calls)
        if self.lobby is not None:
            self.lobby.configure(rules.timing)

    def dial_out(self, channel: str, number: str, who: str) -> UUID:
        """Call a number for a channel; ``who`` wants it, and is whom the number plan's rules are about. Raises :class:`LocalError` with why not."""
        if self.lobby is None:
            raise LocalError("no channel telephones here: it needs a number of its own (gateway.dial_in)")
        if not self.is_active:
            raise LocalError("this gateway stands by: ask the active one of its group")
        allowed = self.rules.plan.dialled((who,), number)
        if isinstance(allowed, Cause):
            raise LocalError(f"this number cannot be called: {allowed}")
        own = sum(call.who == who for call in self.lobby.calls())
        own += sum(line.user.name == who for line in self.board.lines)
        if own >= self.rules.calls_per_user and not allowed.urgent:
            raise LocalError(f"{who} has {own} calls, as many as one may have (gateway.calls_per_user)")
        return self.lobby.dial_out(channel, allowed.number, who, urgent=allowed.urgent)

    def hang_up(self, call: UUID) -> bool:
        """End a call; false where there is none of this id."""
        if self.lobby is not None and self.lobby.end(call):
            return True
        known = any(line.id == call for line in self.board.lines)
        self._carry(self.board.end(call, Cause.HUNG_UP, self._reactor.seconds(), self._wall()))
        return known

    # -- for the lobby -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Whether we still may act; finding out that we may not makes us a standby."""
        if self._may_act is not None and self.is_active:
            self._may_act()

    def ask(self, trunk: str, request: trunking.Request) -> None:
        """Ask a trunk for something; where it fails, the line is lost."""
        driver = self.trunks[trunk]
        if self._hands_off and _outlives_us(driver):
            self._reactor.callLater(
                0, self.told, driver, trunking.Happened(request.call, Released(Side.LINE))
            )
            return
        try:
            driver.ask(request)
        except Exception:
            self._log.failure("trunk {trunk} failed over a request", trunk=trunk)
            lost = trunking.Happened(request.call, Lost(Side.LINE))
            self._reactor.callLater(0, self.told, driver, lost)

    def may_ask(self) -> bool:
        """Whether call managers may be asked for anything now; see *Hands off*."""
        self.look()
        return not self._hands_off

    def say(self, trunk: str, call: UUID, samples: bytes) -> None:
        """Say 20 ms to a line."""
        self.trunks[trunk].sound(call, samples)

    def rate_of(self, trunk: str) -> int:
        """The rate of a trunk's lines, Hz."""
        return self.trunks[trunk].rate

    def normal(self, number: str) -> str | None:
        """A number's normal form by the plan as it is now; None for no number."""
        return self.rules.plan.normal(number)

    def free(self) -> bool:
        """Whether one more call may be."""
        return not self.board.full

    def record(self, record: CallRecord) -> None:
        """Keep a record; one that cannot be written is counted, and ends no call."""
        if record.ended is not None:
            self.setups.add(record)
            self._log.info(
                "call {call} is over: {direction} by {trunk}, {cause}{by}, {seconds} s",
                call=str(record.id),
                direction=str(record.direction),
                trunk=record.trunk or "no trunk",
                cause=str(record.cause),
                by=f" by the {record.by}" if record.by is not None else "",
                seconds=round(record.talked_s, 1),
            )
        if self.records is None:
            return
        try:
            self.records.write(record, self._wall())
        except LocalError as error:
            if not self.records_lost:
                self._log.error("{error}; more of these are counted only", error=str(error))
            self.records_lost += 1

    # -- what comes ----------------------------------------------------------------------------------------------------

    def told(self, trunk: trunking.Trunk, report: trunking.Report) -> None:
        """See :class:`ice.telephony.trunk.Ears`."""
        if isinstance(report, trunking.Sound):
            if not self.sounds.heard(trunk.name, report.call, report.rate, report.samples):
                if self.lobby is not None and self.lobby.takes(trunk.name, report):
                    self.lobby.told(trunk.name, report)
                else:
                    self.stray_sound += 1
            return
        self.look()
        if isinstance(report, trunking.Health):
            self._trunk_health(trunk.name, report)
        if self.lobby is not None and self.lobby.takes(trunk.name, report):
            self.lobby.told(trunk.name, report)
            self._settle()
            return
        self._carry(self.board.report(trunk.name, report, self._reactor.seconds(), self._wall()))

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`: somebody has said something to the group."""
        self.look()
        on = messages.group_stream(self.group_id)
        now, unix_s = self._reactor.seconds(), self._wall()
        self._carry(self.board.receive(datagram.payload, on, datagram.source, now, unix_s))

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`: people who do not hear from us say hello anew when they do."""
        if not up and self.running:
            self._log.warn("the way to the group's stream is closed: {why}", why=why)

    @property
    def uptime_s(self) -> float:
        """Seconds since it started; 0 before."""
        return 0.0 if self.started_at is None else self._reactor.seconds() - self.started_at

    @property
    def seconds(self) -> float:
        """Now, on the clock of calls."""
        return float(self._reactor.seconds())

    @property
    def unix_s(self) -> float:
        """The time of day."""
        return self._wall()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _carry(self, orders: Sequence[Order]) -> None:
        """Do what the switchboard wants done."""
        for order in orders:
            match order:
                case Mail():
                    self.mailroom.say(order)
                case AskTrunk(trunk, request):
                    self.ask(trunk, request)
                case OpenSound():
                    self._open(order)
                case SetFlow(call, to_user, to_line):
                    self.sounds.flow(call, to_user, to_line)
                case SayKeys(call, digits):
                    self.sounds.digits(call, digits)
                case CloseSound(call):
                    self.sounds.close(call)
                case Record(record):
                    self.record(self._measured(record))
        self._settle()

    def _open(self, order: OpenSound) -> None:
        rate = self.trunks[order.trunk].rate
        try:
            self.sounds.open(order.call, order.media, order.trunk, rate, order.alias)
        except LocalError as error:
            self._log.error("call {call} has no sound: {error}", call=str(order.call), error=str(error))
            self._reactor.callLater(0, self._lost, order.call, Cause.FAILED)

    def _measured(self, record: CallRecord) -> CallRecord:
        """A record with what the sound has counted, where the call is over."""
        statistics = self.sounds.statistics(record.id) if record.ended is not None else None
        return record if statistics is None else measured(record, statistics)

    def _keys(self, call: UUID, digits: str) -> None:
        self._carry(self.board.keys_heard(call, digits, self._reactor.seconds(), self._wall()))

    def _lost(self, call: UUID, cause: Cause) -> None:
        self._carry(self.board.end(call, cause, self._reactor.seconds(), self._wall()))

    def _settle(self) -> None:
        """After anything happened: set the timer, and tell who waits for the last call to be over."""
        if self._quiet and not len(self.board) and (self.lobby is None or not len(self.lobby)):
            waiting, self._quiet = self._quiet, []
            for each in waiting:
                each.callback(None)
        due = self.board.deadline
        now = self._reactor.seconds()
        if len(self.board):
            due = now + LOOK_S if due is None else min(due, now + LOOK_S)
        self._alarm.set(due if self._stream is not None else None)

    def _tick(self) -> None:
        self.look()
        self._carry(self.board.tick(self._reactor.seconds(), self._wall()))

    def _trunk_health(self, name: str, health: trunking.Health) -> None:
        if self._health.get(name) is not health.up:
            tell = self._log.info if health.up else self._log.warn
            tell(
                "trunk {trunk} is {state}: {why}",
                trunk=name,
                state="up" if health.up else "down",
                why=health.why,
            )
        self._health[name] = health.up
        if any(self._health.values()):
            self._no_trunk_since = None
        elif self._no_trunk_since is None:
            self._no_trunk_since = self._reactor.seconds()

    def _trunks_down(self) -> bool:
        since = self._no_trunk_since
        return since is not None and self._reactor.seconds() - since > TRUNKS_S

    def _retire(self, cause: Cause) -> Deferred[None]:
        """End all calls, wait until that is confirmed, and let the trunks go."""
        self.is_active = False
        now, unix_s = self._reactor.seconds(), self._wall()
        if self.board.active:
            orders = self.board.stop(cause, now, unix_s)
            orders += self.board.set_active(False, now, unix_s)
            self._carry(orders)
        if self.lobby is not None:
            if cause is Cause.SHUTDOWN:
                self.lobby.stop(cause)
            else:
                self.lobby.set_active(False)
        quiet: Deferred[None] = Deferred()
        self._quiet.append(quiet)
        alarm = self._reactor.callLater(CONFIRM_S, self._enough, quiet)
        quiet.addCallback(self._let_go, alarm)
        self._settle()
        return quiet

    def _enough(self, quiet: Deferred[None]) -> None:
        """Who has not confirmed by now is told again, or finds out."""
        if quiet in self._quiet:
            self._quiet.remove(quiet)
            quiet.callback(None)

    def _let_go(self, result: object, alarm: DelayedCall) -> Deferred[None]:
        if alarm.active():
            alarm.cancel()
        if self.is_active:  # meanwhile
            return succeed(None)
        stopping = [maybeDeferred(trunk.stop) for trunk in self.trunks.values()]
        closed: Deferred[Any] = gatherResults(stopping, consumeErrors=True)
        closed.addTimeout(CLOSE_S, self._reactor)
        closed.addErrback(lambda failure: self._log.failure("a trunk did not close in time", failure))
        return closed.addCallback(self._trunks_gone)

    def _trunks_gone(self, result: object) -> None:
        now, unix_s = self._reactor.seconds(), self._wall()
        for name in self.trunks:
            self._health[name] = False
            self.board.report(
                name, trunking.Health(False, "not started: this gateway stands by"), now, unix_s
            )
        self._no_trunk_since = None

    def _leave(self, result: object) -> Deferred[None]:
        if self._stream is not None:
            self._stream.leave()
            self._stream = None
        self._alarm.cancel()
        self.sounds.stop()
        self.mailroom.close()
        left = self.network.stop("the gateway stops")
        if self.records is not None:
            self.records.close()
        return left


def _outlives_us(trunk: TrunkDriver) -> bool:
    """Whether lines of this trunk stand when the process is gone, so that another gateway may take them up."""
    return not isinstance(trunk, LoopbackTrunk)
