"""An election as a Twisted service: one member's :class:`~ice.election.tally.Tally` with clocks, ways and the work of its satellite.

What is decided is decided in the engine; here its acts are carried out::

    Send     encoded, and given to every way; a resignation three times, and only when the work has stopped
    Lead     the frame begins the work (ice.election.satellite)
    Yield    the frame stops it; the fence is closed already
    Changed  the status is published: a file, a page, a report to whoever watches

**After a freeze.** A process that was stopped, or whose machine slept, finds its sockets full before its timers run.  Whoever forwards asks :attr:`Election.may_act` each time before
it takes datagrams from a socket: a look at two clocks, which also tells the engine when the right has run out, so that from that moment the satellite is a standby.  Ballots that waited
meanwhile are judged by their own time; the engine notices the sleep before it looks at the first.

**Stopping.** The work stops first, then the resignation is said, three times a few milliseconds apart, on every way; then the ways are left.  Others elect at the first copy that they hear.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ice.election.ballot import Ballot
from ice.election.decisions import Changed, Lead, Send, State, Yield
from ice.election.keeping import PUBLIC, keep
from ice.election.messages import Kind, Report, encode_report
from ice.election.rules import SHORT_CYCLE_S, Group
from ice.election.satellite import MIN_DEADLINE_S, REST_S, Phase, Satellite, Work
from ice.election.share import Share
from ice.election.status import REPUBLISH_S, Transport, message, report
from ice.election.tally import Tally
from ice.election.transports import MULTICAST, RALLYPOINT, Way, keyring_of
from ice.election.wheel import LEAST_WAIT_S, Wheel
from ice.errors import LocalError
from ice.net.clock import Clock

NEVER: Final = math.inf
COPY_S: Final = 0.02  # between copies of a resignation: longer than a burst of losses in a switch's queue
REST_CYCLES: Final = 3.0
SLOTS: Final = 16  # in a slow cycle: elections of this machine whose moments are near each other are held together, which wakes processors more rarely


@attrs.frozen
class Wishes:
    """How an election is run, beside what its group says."""

    deadline_s: float | None = None  #: of a hand-over; None: a cycle, at least two seconds
    status_file: Path | None = None  #: where the status is written, for other programs
    document_file: Path | None = None  #: where the group document is kept


class Election(Service):
    """One member's election. ``ways``: see :mod:`ice.election.transports`; ``wall``: seconds since 1970.

    ``clock`` is a reactor made steady (:func:`ice.net.clock.steady`). ``stuck`` is called with a sentence when the work cannot be stopped: the process should end at once.
    ``wheel``: shared by the elections of a process that has many. ``merge``: see :class:`ice.election.sharing.Sharing`; ``learned`` is called with the body of each group document that is new to us.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        group: Group,
        own_id: str,
        work: Work,
        ways: Sequence[Way],
        *,
        wishes: Wishes | None = None,
        wall: Callable[[], float] = time.time,
        stuck: Callable[[str], None] | None = None,
        merge: Callable[[bytes, bytes], bytes] | None = None,
        learned: Callable[[bytes], None] | None = None,
        wheel: Wheel | None = None,
    ) -> None:
        self.setName(f"election {group.name or group.id}")  # type: ignore[no-untyped-call]
        self.own_id = own_id
        self.ways = tuple(ways)
        self.wishes = wishes if wishes is not None else Wishes()
        self.why_not_ready = ""
        self.ignored = 0  #: messages of kinds that we do not know
        self.receive_errors = 0
        self._clock = clock
        self._wall = wall
        self._group = group
        deadline_s = self.wishes.deadline_s
        self.satellite = Satellite(
            clock,
            work,
            deadline_s=max(MIN_DEADLINE_S, group.cycle_s) if deadline_s is None else deadline_s,
            failed=self._failed,
            stuck=self._stuck,
        )
        self._on_stuck = stuck
        self._rests_until = 0.0
        self._out: deque[Send] = deque()
        self._resigning = False  # a resignation waits until the work has stopped
        self._acting = False
        self._wheel = Wheel(clock) if wheel is None else wheel
        self._woken_at = self._armed_for = NEVER
        self._published_at = float("-inf")
        self._told_state: State | None = None
        self._told_ways: tuple[Transport, ...] = ()
        self._write_failed = False
        self._said_at = 0.0  # when the last copy of what we said last goes out
        self.tally = self._new_tally()
        self.share = Share(
            clock,
            group,
            own_id,
            self._say,
            wall=wall,
            path=self.wishes.document_file,
            merge=merge,
            learned=learned,
            standing=lambda: (self.tally.active, self.tally.leader),
        )

    # -- IService ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Open the ways and take part."""
        super().startService()  # type: ignore[no-untyped-call]
        now = self._clock.seconds()
        self.tally = self._new_tally()
        for way in self.ways:
            way.start(self, now, reports=False)
        self.share.start()
        self._act()

    def stopService(self) -> Deferred[None]:
        """Stop working, resign, leave; fires when that is done. Stopping twice is harmless."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        self.share.stop()
        self.tally.resign(*self._times())
        self._act()
        done = self.satellite.settled()
        done.addCallback(lambda _: self._last_words())
        done.addCallback(lambda _: self._leave())
        return done

    # -- for the daemon ------------------------------------------------------------------------------------------------

    @property
    def may_act(self) -> bool:
        """Whether we may act for the group at this moment. Ask before datagrams are taken from a socket; it costs a microsecond."""
        tally = self.tally
        if not tally.active:
            return False
        now, unix_ms = self._times()
        if tally.fence.allows(now, unix_ms):
            return True
        tally.tick(now, unix_ms)  # which finds out the same, and says why
        self._act()
        return False

    @property
    def group(self) -> Group:
        """The group and its rules."""
        return self._group

    def changed(self) -> None:
        """The work's readiness may have changed; it is looked at now, and once a cycle."""
        if self.running:
            self._readiness()
            self._act()

    def configure(self, group: Group) -> None:
        """The group has changed: members, priorities and salts count at once, another cycle or quorum begins anew. Raises :class:`LocalError`."""
        if group.id != self._group.id:
            raise LocalError(f"this is the election of {self._group.id}; for {group.id} start another one")
        now, unix_ms = self._times()
        self.tally.configure(group, now, unix_ms)
        again, self._group = group.salts != self._group.salts, group
        self.share.configure(group)
        if again:
            for way in self.ways:
                way.renew(keyring_of(group))
        if self.running:
            self._act()

    def status(self) -> dict[str, Any]:
        """The documented status JSON, with what only the driver knows under ``details``: ``satellite``, ``document``, ``ready``."""
        now, unix_ms = self._times()
        states = dict(zip((way.name for way in self.ways), self._states(now), strict=True))
        told = report(
            self.tally,
            now,
            unix_ms,
            states.get(RALLYPOINT, Transport()),
            states.get(MULTICAST, Transport()),
        )
        if self.satellite.phase is Phase.STUCK:
            told["state"] = "unhealthy"
        told["details"]["satellite"] = str(self.satellite.phase)
        told["details"]["notReady"] = self.why_not_ready
        told["details"]["document"] = self.share.status()
        return told

    # -- ice.election.transports.Hears ---------------------------------------------------------------------------------

    def heard(self, way: Way, data: bytes) -> None:
        """A message came."""
        if not self.running:
            return
        kind = data[0] if data else 0
        if kind in (Kind.HAVE, Kind.WANT, Kind.PIECE):
            self.share.heard(data)
        elif kind == Kind.BALLOT or kind >= 0x20 or not data:
            now, unix_ms = self._times()
            self.tally.receive(data, now, unix_ms)
            voter = self.tally.voter(data)
            if voter is not None:
                way.meet(voter, now)
            self._act()
        elif kind != Kind.REPORT:
            self.ignored += 1

    def path(self, way: Way, up: bool, why: str) -> None:
        """A way is open, or closed."""
        tell = self._log.info if up else self._log.warn
        tell(
            "election {group}: {way} is {how}: {why}",
            group=self._named,
            way=way.name,
            how="open" if up else "closed",
            why=why,
        )
        if up:
            self.share.reached()
        self._health()

    # -- inside: acts --------------------------------------------------------------------------------------------------

    def _new_tally(self) -> Tally:
        why = self.satellite.work.ready()
        self.why_not_ready = why or ""
        return Tally(
            self._group, self.own_id, *self._times(), ready=why is None, stored=self.satellite.work.stored()
        )

    def _times(self) -> tuple[float, int]:
        return self._clock.seconds(), int(self._wall() * 1_000)

    def _act(self) -> None:
        """Carry out what the engine wants, in its order; what an act brings about comes after it."""
        if self._acting:
            return
        acts = self.tally.acts()
        if not acts:
            self._rearm()
            return
        self._acting = True
        changed = False
        try:
            while acts:
                for act in acts:
                    match act:
                        case Send():
                            self._resigning |= act.ballot.resigned
                            self._out.append(act)
                            self._flush()
                        case Lead(why):
                            self._log.info("election {group}: ACTIVE: {why}", group=self._named, why=why)
                            self.satellite.lead()
                        case Yield(why):
                            self._log.warn("election {group}: STANDBY: {why}", group=self._named, why=why)
                            self.satellite.rest()
                        case Changed():
                            changed = True
                acts = self.tally.acts()
        finally:
            self._acting = False
        if changed:
            self.share.turn()
            self._publish()
        self._rearm()

    def _flush(self) -> None:
        """Send what waits; a resignation, and what comes after it, waits until the work has stopped."""
        if self._resigning and self.satellite.phase is Phase.STOPPING:
            self.satellite.settled().addCallback(lambda _: self._flush())
            return
        if self.satellite.phase is Phase.STUCK:
            self._out.clear()  # nobody else shall begin because of us
        self._resigning = False
        while self._out:
            send = self._out.popleft()
            self._send(send.ballot, send.copies)

    def _send(self, ballot: Ballot, copies: int) -> None:
        data = self.tally.encode(ballot)
        self._say_ballot(data)
        for copy in range(1, copies):
            self._clock.callLater(copy * COPY_S, self._say_ballot, data)
        self._said_at = self._clock.seconds() + (copies - 1) * COPY_S

    def _say_ballot(self, data: bytes) -> None:
        if self._say(data):
            self.tally.sent(self._clock.seconds())

    def _say(self, data: bytes) -> bool:
        """Whether any way took it."""
        sent = False
        for way in self.ways:
            if way.running:
                sent |= way.send(data)
        return sent

    # -- inside: time --------------------------------------------------------------------------------------------------

    def _rearm(self) -> None:
        """Be called at the engine's deadline; a timer that is early is cheaper than one that is moved each time."""
        deadline = self.tally.deadline
        if not self.running or self._armed_for <= deadline:
            return
        self._armed_for = deadline
        due = self._due()
        if due < self._woken_at:
            self._disarm()
            self._armed_for, self._woken_at = deadline, due
            self._wheel.add(due, self._tick)

    def _disarm(self) -> None:
        if self._woken_at != NEVER:
            self._wheel.remove(self._woken_at, self._tick)
        self._woken_at = self._armed_for = NEVER

    def _due(self) -> float:
        """When to look at the engine next: its deadline, or the next slot after it; but not after the right to act has run out."""
        tally, cycle_s = self.tally, self._group.cycle_s
        due = min(tally.deadline, self._published_at + REPUBLISH_S + self._slack_s)
        if cycle_s < SHORT_CYCLE_S or due == NEVER:
            return due
        slot_s = cycle_s / SLOTS
        slot = math.ceil(due / slot_s) * slot_s
        return max(due, min(slot, tally.fence.until)) if tally.active else slot

    @property
    def _slack_s(self) -> float:
        """How much earlier or later than due the status is published again: with an election, since each waking costs."""
        return min(self._group.cycle_s, REPUBLISH_S) / 2

    def _tick(self) -> None:
        self._woken_at = self._armed_for = NEVER
        now, unix_ms = self._times()
        if now >= self.tally.deadline:
            self._readiness()
            self.tally.tick(now, unix_ms)
            self._health()
        self._act()
        self.share.turn()
        if now >= self._published_at + REPUBLISH_S - self._slack_s:
            self._publish()
            self._rearm()

    def _readiness(self) -> None:
        """Ask the work, once a cycle."""
        why: str | None
        try:
            why = self.satellite.work.ready()
            stored = self.satellite.work.stored()
        except Exception as error:
            self._log.failure("election {group}: the work does not say if it is ready", group=self._named)
            why, stored = f"it does not say: {error}", False
        if self.satellite.phase is Phase.STUCK:
            why, stored = "it is stuck", False
        elif self._clock.seconds() < self._rests_until:
            why, stored = "it could not begin, and rests", False
        if (why or "") != self.why_not_ready:
            self.why_not_ready = why or ""
            self._log.info(
                "election {group}: {what}",
                group=self._named,
                what="ready" if why is None else f"not ready: {why}",
            )
        self.tally.set_ready(ready=why is None, stored=stored)

    # -- inside: trouble -----------------------------------------------------------------------------------------------

    def _failed(self, why: str) -> None:
        """The work could not begin: let another."""
        self._log.error("election {group}: {why}; giving up the lead", group=self._named, why=why)
        self._rests_until = self._clock.seconds() + max(REST_S, REST_CYCLES * self._group.cycle_s)
        self._renounce()

    def _stuck(self, why: str) -> None:
        """The work could not be stopped."""
        self._log.critical("election {group}: {why}", group=self._named, why=why)
        self._renounce()
        self._publish()
        if self._on_stuck is not None:
            self._on_stuck(why)

    def _renounce(self) -> None:
        if self.running:
            self._readiness()
            now, unix_ms = self._times()
            self.tally.configure(self._group, now, unix_ms)  # with negative votes it stands down here
            self._act()

    # -- inside: telling -----------------------------------------------------------------------------------------------

    @property
    def _named(self) -> str:
        return self._group.name or self._group.id

    def _states(self, now: float) -> tuple[Transport, ...]:
        cycle_s = self._group.cycle_s
        return tuple([way.state(now, cycle_s, self.ways) for way in self.ways])

    def _health(self) -> None:
        """Notice a way that has become healthy, or ceased to be."""
        states = self._states(self._clock.seconds())
        if [each.state for each in states] != [each.state for each in self._told_ways]:
            if self._told_ways:
                for way, state in zip(self.ways, states, strict=True):
                    self._log.info(
                        "election {group}: ballots by {way}: {state}{why}",
                        group=self._named,
                        way=way.name,
                        state=state.state,
                        why=f": {state.reason}" if state.reason else "",
                    )
            self._told_ways = states
            if self.running:
                self._publish()

    def _publish(self) -> None:
        """Tell how it is, in all places."""
        tally = self.tally
        self._published_at = self._clock.seconds()
        words = message(tally)
        if tally.state is not self._told_state:
            self._told_state = tally.state
            self._log.info("election {group}: {message}", group=self._named, message=words)
        if self.running:
            unix_ms = int(self._wall() * 1_000)
            self._say(
                encode_report(
                    Report(
                        self.own_id,
                        str(tally.state),
                        tally.active,
                        tally.leader,
                        words,
                        tally.why,
                        tally.term,
                        unix_ms,
                    )
                )
            )
        if self.wishes.status_file is not None:
            self._write(self.wishes.status_file)

    def _write(self, path: Path) -> None:
        data = json.dumps(self.status(), indent=2, ensure_ascii=False).encode() + b"\n"
        try:
            keep(path, data, mode=PUBLIC, durable=False)
        except LocalError as error:
            if not self._write_failed:
                self._log.error("election {group}: {error}", group=self._named, error=str(error))
            self._write_failed = True
        else:
            self._write_failed = False

    # -- inside: the end -----------------------------------------------------------------------------------------------

    def _last_words(self) -> Deferred[None]:
        """Fires when the last copy of the resignation is out."""
        self._flush()
        done: Deferred[None] = Deferred()
        wait_s = max(0.0, self._said_at - self._clock.seconds())
        self._clock.callLater(wait_s + LEAST_WAIT_S, done.callback, None)
        return done

    def _leave(self) -> None:
        self._disarm()
        for way in self.ways:
            way.stop()
        self._publish()
