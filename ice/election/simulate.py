"""A server group on paper: members, links and mishaps, with the very engine that satellites run.

Time is that of an observer who sees everything. Each :class:`Machine` has clocks of its own: one that only counts, perhaps a little too fast, and one
on the wall that somebody may set.  What a machine forwards is what its fence allows at that moment; :class:`World` notes every moment at which two do.

A frozen machine's datagrams wait in its socket; when it wakes, it finds them before it finds out how late it is, which is the worst order.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ice.election.ballot import Ballot
from ice.election.decisions import Changed, Lead, Send, State, Yield
from ice.election.rules import Group
from ice.election.status import message
from ice.election.tally import Tally

EPOCH_S: Final = 1_790_000_000.0  # the date of the simulation's moment 0
BACKLOG: Final = 1_000  # datagrams that a frozen machine's socket keeps
OFF: Final = "off"  # the state of a machine that does not run


@attrs.define
class Machine:
    """One member: its clocks, whether it runs, and its tally while it does."""

    id: str
    tally: Tally | None = None
    skew_s: float = 0.0  #: its clock on the wall, ahead of the observer's
    rate: float = 1.0  #: of its monotonic clock
    base_s: float = 0.0  #: what that showed at moment 0
    frozen: bool = False
    ready: bool = True
    stored: bool = True
    deaf: bool = False  #: its transports take nothing: what it sends is lost, and it knows
    backlog: list[Ballot | bytes] = attrs.Factory(list)
    alarm: int = 0  #: the number of its newest timer: older ones mean nothing

    def mono(self, at: float) -> float:
        """What its monotonic clock shows at that moment."""
        return self.base_s + at * self.rate

    def moment(self, mono: float) -> float:
        """When its monotonic clock shows that."""
        return (mono - self.base_s) / self.rate

    def unix_ms(self, at: float) -> int:
        """What its clock on the wall shows."""
        return int((EPOCH_S + at + self.skew_s) * 1_000)

    @property
    def runs(self) -> Tally | None:
        """Its tally, where the process exists and is not frozen."""
        return None if self.frozen else self.tally

    def forwards_until(self, at: float) -> float:
        """Until when it forwards, if nothing happens; ``at`` or earlier where it does not."""
        tally = self.runs
        if tally is None or not tally.active:
            return at
        return at + tally.fence.left_s(self.mono(at), self.unix_ms(at)) / self.rate


@attrs.frozen
class Entry:
    """Something that happened; ``who`` is a member's id, or empty where it happened to the network."""

    at_s: float
    who: str
    what: str
    state: str = ""


@attrs.frozen
class Overlap:
    """Two or more forwarded at once."""

    begins_s: float
    ends_s: float
    who: tuple[str, ...]


@attrs.define
class Network:
    """How datagrams fare between machines; changed while the simulation runs."""

    delay_s: tuple[float, float] = (0.001, 0.002)
    loss: float = 0.0
    duplicates: float = 0.0
    cut: set[tuple[str, str]] = attrs.Factory(set)  #: from, to
    far: dict[tuple[str, str], float] = attrs.Factory(dict)  #: more delay, from, to


class World:
    """All machines of a group and the network between them, from moment 0."""

    def __init__(
        self, group: Group, *, seed: int = 0, wire: bool = False, late_s: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.group = group
        self.now = 0.0
        self.network = Network()
        self.machines = {member.id: Machine(member.id) for member in group.members}
        self.timeline: list[Entry] = []
        self.overlaps: list[Overlap] = []
        self.led_s = 0.0  #: time in which somebody forwarded
        self._wire = wire  # carry bytes, not values: slower
        self._late_s = late_s  # timers come so much late
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    # -- what happens ------------------------------------------------------------------------------------------------

    def at(self, moment: float, what: Callable[[], None]) -> None:
        """Something will happen at that moment."""
        heapq.heappush(self._queue, (moment, next(self._order), what))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until:
            moment, _, what = heapq.heappop(self._queue)
            self._pass(max(moment, self.now))
            what()
        self._pass(until)

    def start(self, *ids: str) -> None:
        """These machines' processes start, all of them where none is named."""
        for id in ids or self.machines:
            machine = self.machines[id]
            if machine.tally is None:
                machine.tally = Tally(
                    self.group,
                    id,
                    machine.mono(self.now),
                    machine.unix_ms(self.now),
                    ready=machine.ready,
                    stored=machine.stored,
                )
                self._serve(machine)

    def kill(self, id: str) -> None:
        """The process dies without a word."""
        machine = self.machines[id]
        machine.tally = None
        machine.frozen = False
        machine.backlog.clear()
        self._log(id, "killed", OFF)

    def stop(self, id: str) -> None:
        """The process is stopped in an orderly way."""
        machine = self.machines[id]
        if (tally := machine.runs) is not None:
            tally.resign(machine.mono(self.now), machine.unix_ms(self.now))
            self._serve(machine)
            machine.tally = None
            self._log(id, "stopped", OFF)

    def freeze(self, id: str) -> None:
        """The process stands still."""
        self.machines[id].frozen = True
        self._log(id, "frozen", OFF)

    def wake(self, id: str) -> None:
        """The process goes on, and finds its backlog."""
        machine = self.machines[id]
        if not machine.frozen:
            return
        machine.frozen = False
        if machine.tally is not None:
            self._log(id, "wakes", machine.tally.state)
            backlog, machine.backlog = machine.backlog, []
            for datagram in backlog:
                self._arrive(machine, datagram)
            self._ring(machine, machine.alarm)

    def set_clock(self, id: str, skew_s: float) -> None:
        """Somebody sets the machine's clock on the wall."""
        self.machines[id].skew_s = skew_s
        self._log(id, f"clock {skew_s:+g} s")

    def configure(self, group: Group) -> None:
        """Every running machine learns of a change to the group."""
        self.group = group
        for machine in self.machines.values():
            if (tally := machine.runs) is not None:
                tally.configure(group, machine.mono(self.now), machine.unix_ms(self.now))
                self._serve(machine)

    def set_ready(self, id: str, *, ready: bool, stored: bool = True) -> None:
        """A machine's control plane comes or goes."""
        machine = self.machines[id]
        machine.ready, machine.stored = ready, stored
        if machine.tally is not None:
            machine.tally.set_ready(ready=ready, stored=stored)
        self._log(id, "ready" if ready else "not ready")

    def partition(self, *parts: Iterable[str]) -> None:
        """Only those of one part hear each other."""
        sets = [set(part) for part in parts]
        self.network.cut = {
            (one, other)
            for one in self.machines
            for other in self.machines
            if one != other and not any({one, other} <= part for part in sets)
        }

    # -- what can be asked -------------------------------------------------------------------------------------------

    def forwarding(self) -> list[str]:
        """Who forwards at this moment."""
        return [id for id, machine in self.machines.items() if machine.forwards_until(self.now) > self.now]

    def log(self, what: str) -> None:
        """Something happens to the network."""
        self._log("", what)

    # -- the inside --------------------------------------------------------------------------------------------------

    def _pass(self, until: float) -> None:
        """Nothing happens until then; note who forwards meanwhile."""
        if until > self.now:
            ends = sorted(
                (
                    (min(machine.forwards_until(self.now), until), id)
                    for id, machine in self.machines.items()
                    if machine.tally is not None and machine.tally.active
                ),
                reverse=True,
            )
            ends = [each for each in ends if each[0] > self.now]
            if ends:
                self.led_s += ends[0][0] - self.now
            if len(ends) > 1:
                self._overlap(self.now, ends[1][0], tuple(sorted(id for _, id in ends)))
        self.now = until

    def _overlap(self, begins: float, ends: float, who: tuple[str, ...]) -> None:
        if self.overlaps and self.overlaps[-1].ends_s >= begins and self.overlaps[-1].who == who:
            begins = self.overlaps.pop().begins_s
        self.overlaps.append(Overlap(begins, ends, who))

    def _log(self, who: str, what: str, state: str = "") -> None:
        self.timeline.append(Entry(self.now, who, what, state))

    def _serve(self, machine: Machine) -> None:
        """Do what the machine's tally wants done."""
        tally = machine.tally
        if tally is None:
            return
        for act in tally.acts():
            match act:
                case Send(ballot, copies):
                    if not machine.deaf:
                        for _ in range(copies):
                            self._carry(machine.id, ballot, tally)
                        tally.sent(machine.mono(self.now))
                case Lead(why):
                    self._log(machine.id, f"leads: {why}", State.ACTIVE)
                case Yield(why):
                    self._log(machine.id, f"yields: {why}", tally.state)
                case Changed():
                    self._log(machine.id, message(tally), tally.state)
        machine.alarm = alarm = machine.alarm + 1
        if tally.deadline < float("inf"):
            late = self._random.uniform(*self._late_s)
            moment = max(machine.moment(tally.deadline) + late, self.now)
            self.at(moment, lambda: self._ring(machine, alarm))

    def _ring(self, machine: Machine, alarm: int) -> None:
        if alarm == machine.alarm and (tally := machine.runs) is not None:
            tally.tick(machine.mono(self.now), machine.unix_ms(self.now))
            self._serve(machine)

    def _carry(self, sender: str, ballot: Ballot, tally: Tally) -> None:
        datagram = tally.encode(ballot) if self._wire else ballot
        network = self.network
        for machine in self.machines.values():
            way = (sender, machine.id)
            if machine.id == sender or way in network.cut:
                continue
            copies = 1 + (network.duplicates > 0 and self._random.random() < network.duplicates)
            for _ in range(copies):
                if network.loss == 0 or self._random.random() >= network.loss:
                    self.send(
                        machine.id,
                        datagram,
                        self._random.uniform(*network.delay_s) + network.far.get(way, 0.0),
                    )

    def send(self, to: str, datagram: Ballot | bytes, delay_s: float) -> None:
        """A datagram is on its way."""
        machine = self.machines[to]
        self.at(self.now + delay_s, lambda: self._arrive(machine, datagram))

    def _arrive(self, machine: Machine, datagram: Ballot | bytes) -> None:
        if machine.tally is None:
            return
        if machine.frozen:
            if len(machine.backlog) < BACKLOG:
                machine.backlog.append(datagram)
            return
        now, unix_ms = machine.mono(self.now), machine.unix_ms(self.now)
        if isinstance(datagram, bytes):
            machine.tally.receive(datagram, now, unix_ms)
        else:
            machine.tally.hear(datagram, now, unix_ms)
        self._serve(machine)
