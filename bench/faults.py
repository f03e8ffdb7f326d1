"""What can happen to a town, when by chance it does, and what it explains: the plan and the judge of a chaos run, without doing anything.

**The plan** (`schedule`) follows from the seed and the length alone. One fault is over, and what it may cost as well, before the next begins; but three times in ten the next
begins while it lasts.

**The judge** (`Judge`) holds each lost datagram against the windows of what happened. A window is as long as docs/mesh.md and docs/link-protocol.md promise and not longer,
plus `ALLOWANCE_S` for a machine that does everything at once, and it is for those only whom the fault concerns: who was linked to that Rallypoint, or the two ends of that
link. What a lone fault does not concern is not excused by it. Where a fault begins while others are in force, traffic already goes round something: its window is for
all, and longer by the time that people lose with Rallypoints that do not answer.

| fault | concerns | explains, from `LAG_S` before it on |
|---|---|---|
| kill | people of that Rallypoint | 0.3 s |
| freeze | the same | until it is over, at most the alive rule (2.5 s); + 0.3 s |
| cut of a link, silent | people of the one Rallypoint with people of the other | 2.5 s + 0.1 s |
| cut of a link, by reset | the same | 0.1 s |
| cut of the way between a site and a Rallypoint | people of that site who are linked to it | 2.5 s + 0.3 s |
| partition | people of the one side with people of the other | until 2 s after it is over |
| | people whose own Rallypoint is on the other side | 2.5 s + 0.3 s, and one try of each Rallypoint there |
| restart | people of that Rallypoint | the time to drain (1 s) + 0.3 s |
| slow, reload | | nothing |

People with two homes, in a protected stream, are to lose nothing by any one fault: to them only a partition is a reason, and only where they are on different sides, or
both homes of one are on the other side; and faults at once.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from random import Random

import attrs

ALIVE_S = 2.5  # silence until a link counts as dead, during a burst
AGAIN_S = 0.1  # a broken link: until it is gone round
MOVE_S = 0.3  # a client: until it is linked to another Rallypoint
HEAL_S = 2.0  # a partition: until it is whole again
DRAIN_S = 1.0  # rallypoint.drain_s
CONNECT_S = 2.0  # network.connect_timeout_s of the people in a chaos run
ALLOWANCE_S = 0.5  # two cores, five Rallypoints and twenty people
LAG_S = 0.3  # what was on its way when it happened
IN_FORCE_S = (
    3.5  # after its end, and until all links stand again, a fault still counts as one that others meet
)

CALM_S = 8.0  # before the first fault, and after the last
RECOVERY_S = 12.0  # after the last fault: until everything is well
TOGETHER = 0.3  # how often a fault begins while another lasts

#: Kind: how often by comparison, the least and the greatest length in seconds.
KINDS: dict[str, tuple[int, float, float]] = {
    "kill": (4, 1.0, 8.0),
    "freeze": (4, 0.5, 8.0),
    "cut": (4, 1.0, 9.0),
    "reset": (3, 1.0, 9.0),
    "cut-site": (2, 1.0, 8.0),
    "slow": (3, 3.0, 9.0),
    "partition": (3, 2.0, 9.0),
    "restart": (2, 3.0, 4.0),
    "reload": (2, 0.2, 0.5),
}
HARMLESS = ("slow", "reload")
ONE_RALLYPOINT = ("kill", "freeze", "restart", "reload")


@attrs.frozen
class Fault:
    """Something that is to happen; times from the beginning of the run."""

    number: int
    kind: str
    at_s: float
    lasts_s: float
    #: A Rallypoint; the ends of a road; or one side of a partition, Rallypoints and sites.
    places: tuple[str, ...]
    delay_s: float = 0.0  #: of a slow road, one way

    def __str__(self) -> str:
        joined = (
            "–".join(self.places)
            if len(self.places) == 2 and self.kind not in ("partition", *ONE_RALLYPOINT)
            else " ".join(self.places)
        )
        return f"{self.kind} {joined}" + (f" {self.delay_s * 1e3:.0f} ms" if self.delay_s else "")


@attrs.frozen
class Happened:
    """A fault as it really was, in seconds of the clock of the traces; ``end_s``: when it was undone (a restarted Rallypoint: ready)."""

    fault: Fault
    begin_s: float
    end_s: float
    #: When every Rallypoint that ran had all its links again; until then traffic may go round something.
    whole_s: float = float("-inf")

    @property
    def in_force_s(self) -> float:
        """Until when other faults meet this one."""
        return max(self.end_s + IN_FORCE_S, self.whole_s)

    @property
    def harmless(self) -> bool:
        """Whether it may cost nothing."""
        return self.fault.kind in HARMLESS


def schedule(seed: int, seconds: float, rallypoints: Sequence[str], sites: Sequence[str]) -> list[Fault]:
    """What happens in a run; the same for the same arguments."""
    rng = Random(seed)
    faults: list[Fault] = []
    beside: list[Fault] = []
    at_s = CALM_S
    while True:
        fault = _draw(rng, len(faults), at_s, rallypoints, sites, beside)
        end_s = max(each.at_s + each.lasts_s for each in [*beside, fault])
        if end_s > seconds - RECOVERY_S - CALM_S:
            return faults
        faults.append(fault)
        if not beside and rng.random() < TOGETHER:
            beside = [fault]
            at_s = fault.at_s + rng.uniform(0.1, fault.lasts_s)
        else:
            beside = []
            at_s = end_s + IN_FORCE_S + rng.uniform(0.5, 4.0)


def _draw(
    rng: Random,
    number: int,
    at_s: float,
    rallypoints: Sequence[str],
    sites: Sequence[str],
    beside: Sequence[Fault],
) -> Fault:
    while True:
        kind = rng.choices(list(KINDS), [often for often, _, _ in KINDS.values()])[0]
        _, least_s, most_s = KINDS[kind]
        lasts_s, delay_s = round(rng.uniform(least_s, most_s), 2), 0.0
        if kind in ONE_RALLYPOINT:
            places = [rng.choice(rallypoints)]
        elif kind == "cut-site":
            number_of_site = rng.randrange(len(sites))
            places = [sites[number_of_site], rallypoints[number_of_site % len(rallypoints)]]
        elif kind == "partition":
            two = rng.sample(range(len(rallypoints)), 2)
            places = [rallypoints[each] for each in two]
            places += [site for index, site in enumerate(sites) if index % len(rallypoints) in two]
        else:
            places = rng.sample(list(rallypoints), 2)
            if kind == "slow":
                delay_s = round(rng.uniform(0.02, 0.15), 3)
        if not any(_clash(kind, places, other) for other in beside):
            return Fault(number, kind, round(at_s, 2), lasts_s, tuple(places), delay_s)


def _clash(kind: str, places: Sequence[str], other: Fault) -> bool:
    """Two faults that would undo each other, or leave too little of the town."""
    if kind == other.kind == "partition":
        return True
    if kind in ONE_RALLYPOINT and other.kind in ONE_RALLYPOINT:
        return places[0] == other.places[0]
    return set(places) == set(other.places)


@attrs.frozen
class Window:
    """A time in which a fault explains what some miss; ``spares`` those with two homes."""

    happened: Happened
    begin_s: float
    end_s: float
    concerns: "Concerns"
    spares: bool


Concerns = Callable[[str, str, float], bool]


@attrs.define
class Where:
    """Who was linked where, at any time, and lives at which site."""

    #: Per person: (time, Rallypoint), ascending.
    homes: dict[str, list[tuple[float, str]]]
    sites: dict[str, str]
    #: Per person with two homes: (time, Rallypoints), ascending.
    two: dict[str, list[tuple[float, tuple[str, ...]]]] = attrs.field(factory=dict)

    def home(self, who: str, at_s: float) -> str:
        """Where somebody was linked last; before the first link: at the first."""
        homes = self.homes[who]
        return homes[max(0, bisect_right(homes, at_s, key=lambda each: each[0]) - 1)][1]

    def all_homes(self, who: str, at_s: float) -> tuple[str, ...]:
        """All places where somebody was linked; before the first link: the first."""
        if who not in self.two:
            return (self.home(who, at_s),)
        two = self.two[who]
        return two[max(0, bisect_right(two, at_s, key=lambda each: each[0]) - 1)][1]


class Judge:
    """Knows what happened, and says what it explains."""

    def __init__(self, happened: Iterable[Happened], where: Where) -> None:
        self._where = where
        self._happened = sorted(happened, key=lambda each: each.begin_s)
        #: All windows, by their beginning.
        self.windows = sorted(
            (window for each in self._happened if not each.harmless for window in self._windows(each)),
            key=lambda window: window.begin_s,
        )

    def why(self, talker: str, listener: str, at_s: float) -> Happened | None:
        """What explains that ``listener`` missed what ``talker`` said then; None: nothing does."""
        two = talker in self._where.two and listener in self._where.two
        for window in self.windows:
            if window.begin_s > at_s:
                break
            if two and window.spares:
                continue
            if at_s <= window.end_s and window.concerns(talker, listener, at_s):
                return window.happened
        return None

    def _windows(self, this: Happened) -> list[Window]:
        met = [
            other
            for other in self._happened
            if other is not this and other.begin_s <= this.begin_s <= other.in_force_s
        ]
        lag_s = LAG_S + sum(2 * other.fault.delay_s for other in met)
        met = [other for other in met if not other.harmless]
        more_s = ALLOWANCE_S + lag_s - LAG_S
        more_s += sum(MOVE_S + _silent(other.fault) * CONNECT_S for other in met)
        return [
            Window(
                this,
                this.begin_s - lag_s,
                end_s + more_s,
                (lambda talker, listener, at_s: True) if met else concerns,
                spares=not met and this.fault.kind != "partition",
            )
            for end_s, concerns in self._lone(this)
        ]

    def _lone(self, this: Happened) -> list[tuple[float, Concerns]]:
        """When each window of a fault ends, and for whom it is, were it the only one."""
        fault, begin_s, end_s, where = this.fault, this.begin_s, this.end_s, self._where

        def lives_at(name: str, who: str, at_s: float) -> bool:
            return name in (where.home(who, at_s), where.home(who, begin_s))

        def of_rallypoint(talker: str, listener: str, at_s: float) -> bool:
            return any(lives_at(fault.places[0], who, at_s) for who in (talker, listener))

        def of_link(talker: str, listener: str, at_s: float) -> bool:
            one, other = fault.places
            return (lives_at(one, talker, at_s) and lives_at(other, listener, at_s)) or (
                lives_at(other, talker, at_s) and lives_at(one, listener, at_s)
            )

        def of_site(talker: str, listener: str, at_s: float) -> bool:
            site, name = fault.places
            return any(where.sites[who] == site and lives_at(name, who, at_s) for who in (talker, listener))

        def across(talker: str, listener: str, at_s: float) -> bool:
            if (
                talker in where.two and listener in where.two
            ):  # somebody at home on both sides is heard on the own one
                return len({where.sites[who] in fault.places for who in (talker, listener)}) == 2
            return len({where.home(who, at_s) in fault.places for who in (talker, listener)}) == 2

        def away(talker: str, listener: str, at_s: float) -> bool:
            return any(
                all((where.sites[who] in fault.places) != (home in fault.places) for home in homes)
                for who in (talker, listener)
                for homes in (where.all_homes(who, at_s), where.all_homes(who, begin_s))
            )

        match fault.kind:
            case "kill":
                return [(begin_s + MOVE_S, of_rallypoint)]
            case "freeze":
                return [(min(end_s, begin_s + ALIVE_S) + MOVE_S, of_rallypoint)]
            case "restart":
                return [(begin_s + DRAIN_S + MOVE_S, of_rallypoint)]
            case "cut":
                return [(begin_s + ALIVE_S + AGAIN_S, of_link)]
            case "reset":
                return [(begin_s + AGAIN_S, of_link)]
            case "cut-site":
                return [(begin_s + ALIVE_S + MOVE_S, of_site)]
            case "partition":
                tries_s = _silent(fault) * CONNECT_S
                return [(end_s + HEAL_S, across), (begin_s + ALIVE_S + MOVE_S + tries_s, away)]
        return []


def _silent(fault: Fault) -> int:
    """How many Rallypoints do not answer somebody who looks for one, and do not refuse either."""
    return {"freeze": 1, "cut-site": 1, "partition": 3}.get(fault.kind, 0)
