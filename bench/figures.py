"""The figures that are read out of runs, and the goals they are held to."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bench.paired import Ratio, Verdict, compare, judge, median
from bench.servers import PEERS

Run = Mapping[str, Any]
"""``{"workload", "server", "repeat", "result"}``, the result being the load generator's line."""


@attrs.frozen
class Figure:
    """A number of a workload.

    :ivar name: for tables.
    :ivar workload: whose.
    :ivar path: keys in the result of a run.
    :ivar unit: of the number.
    :ivar digits: behind the point.
    :ivar more_is_better: a yield, not a cost.
    """

    name: str
    workload: str
    path: tuple[str, ...]
    unit: str
    digits: int = 1
    more_is_better: bool = False

    def of(self, result: Mapping[str, Any]) -> float | None:
        """The number in one run, None when it is not there."""
        at: Any = result
        for key in self.path:
            if not isinstance(at, Mapping) or key not in at:
                return None
            at = at[key]
        return float(at)


@attrs.frozen
class Goal:
    """A ratio to reach.

    :ivar figure: of what.
    :ivar ours: server of the numerator.
    :ivar theirs: of the denominator; of several the best one in the run.
    :ivar reach: what must be.
    :ivar aim: what would be good.
    """

    figure: Figure
    ours: str
    theirs: tuple[str, ...]
    reach: float
    aim: float


@attrs.frozen
class Judged:
    """A goal and what was measured; ``theirs`` is the one compared with."""

    goal: Goal
    theirs: str
    ratio: Ratio
    reach: Verdict
    aim: Verdict


def _cpu(workload: str) -> Figure:
    return Figure("CPU per delivery", workload, ("cpu_us",), "µs")


CALM_CPU, MULTI_CPU, HALL_CPU = _cpu("calm"), _cpu("multi"), _cpu("hall")
HALL_SPREAD = Figure("first to last", "hall", ("spread_ms", "p50"), "ms", 2)
CALM_P99 = Figure("p99", "calm", ("latency_ms", "p99"), "ms", 2)
WIDE_BEST = Figure("deliveries/s at p99 ≤ 25 ms", "wide", ("best_per_s",), "/s", 0, more_is_better=True)
IDLE_MEMORY = Figure("memory per link", "idle", ("kib_per_link",), "KiB")
STORM_HEARD = Figure("all hear again", "storm", ("heard_s",), "s", 2)
STALL_RATIO = Figure("p99 of the others, to before", "stall", ("p99_ratio",), "×", 2)

FIGURES = (
    CALM_CPU,
    Figure("p50", "calm", ("latency_ms", "p50"), "ms", 2),
    CALM_P99,
    Figure("p99.9", "calm", ("latency_ms", "p999"), "ms", 2),
    MULTI_CPU,
    Figure("p50", "multi", ("latency_ms", "p50"), "ms", 2),
    Figure("p99", "multi", ("latency_ms", "p99"), "ms", 2),
    HALL_CPU,
    HALL_SPREAD,
    Figure("p99", "hall", ("latency_ms", "p99"), "ms", 2),
    WIDE_BEST,
    Figure("CPU per delivery there", "wide", ("best_cpu_us",), "µs"),
    IDLE_MEMORY,
    Figure("CPU while idle", "idle", ("cpu_percent",), "%", 2),
    Figure("CPU per join", "idle", ("join_cpu_ms",), "ms", 2),
    STORM_HEARD,
    Figure("all back", "storm", ("back_s",), "s", 2),
    Figure("CPU per link", "storm", ("back_cpu_ms",), "ms", 2),
    STALL_RATIO,
    Figure("p99 of the others", "stall", ("latency_ms", "p99"), "ms", 2),
    Figure("oldest heard on waking", "stall", ("woken_ms", "max"), "ms", 0),
    Figure("audio over 2 s old", "stall", ("stale_s",), "s", 2),
    Figure("stalled links ended", "stall", ("gone",), "", 0),
)

STALL_LIMIT = 1.25  # what the reading links may feel of those that do not

GOALS = (
    Goal(HALL_CPU, "ice", ("floor",), 1.15, 1.0),
    Goal(HALL_SPREAD, "ice", ("floor",), 1.15, 1.0),
    Goal(HALL_CPU, "ice", ("mosquitto",), 1.05, 0.9),
    Goal(HALL_SPREAD, "ice", ("mosquitto",), 1.05, 0.9),
    Goal(HALL_CPU, "ice", ("nats",), 0.6, 0.5),
    Goal(HALL_SPREAD, "ice", ("nats",), 0.6, 0.5),
    Goal(CALM_CPU, "ice", ("floor",), 1.4, 1.2),
    Goal(MULTI_CPU, "ice", ("floor",), 1.4, 1.2),
    Goal(CALM_CPU, "ice", ("nats",), 0.95, 0.8),
    Goal(MULTI_CPU, "ice", ("nats",), 0.95, 0.8),
    Goal(CALM_CPU, "ice", ("mumble",), 0.65, 0.5),
    Goal(MULTI_CPU, "ice", ("mumble",), 0.65, 0.5),
    Goal(CALM_CPU, "ice-python", ("mumble",), 0.7, 0.6),
    Goal(CALM_P99, "ice", PEERS, 1.1, 0.8),
    Goal(WIDE_BEST, "ice", ("mosquitto",), 1.0, 1.3),
    Goal(WIDE_BEST, "ice", ("floor",), 0.7, 0.9),
    Goal(IDLE_MEMORY, "ice", ("floor",), 1.5, 1.1),
    Goal(STORM_HEARD, "ice", ("nats",), 1.5, 1.0),
)


def complete(result: dict[str, Any]) -> dict[str, Any]:
    """The generator's line with what follows from it: the CPU share in percent, the best step of a ramp, the ratio of a stall."""
    if "cpu_share" in result:
        result["cpu_percent"] = 100 * result["cpu_share"]
    good = [step for step in result.get("steps", ()) if step["good"]]
    if good:
        result["best_cpu_us"] = max(good, key=lambda step: step["rate"])["cpu_us"]
    before = result.get("before_ms")
    if before and before["p99"] and result.get("latency_ms"):
        result["p99_ratio"] = result["latency_ms"]["p99"] / before["p99"]
    return result


def values(runs: Sequence[Run], figure: Figure, server: str) -> dict[int, float]:
    """The figure of one server by repeat; runs that failed have none."""
    found: dict[int, float] = {}
    for run in runs:
        if run["workload"] == figure.workload and run["server"] == server:
            value = figure.of(run["result"])
            if value is not None:
                found[run["repeat"]] = value
    return found


def judged(runs: Sequence[Run]) -> list[Judged]:
    """Every goal that the runs can say something about."""
    found = []
    for goal in GOALS:
        theirs = _best(runs, goal)
        if theirs is None:
            continue
        ratio = compare(values(runs, goal.figure, goal.ours), values(runs, goal.figure, theirs))
        if ratio is not None:
            more = goal.figure.more_is_better
            verdicts = judge(ratio, goal.reach, more), judge(ratio, goal.aim, more)
            found.append(Judged(goal, theirs, ratio, *verdicts))
    return found


def _best(runs: Sequence[Run], goal: Goal) -> str | None:
    """Of those to compare with the one with the best median."""
    sign = -1 if goal.figure.more_is_better else 1
    medians = {
        server: sign * median(list(found.values()))
        for server in goal.theirs
        if (found := values(runs, goal.figure, server))
    }
    return min(medians, key=lambda server: medians[server]) if medians else None


WRONG = ("lost", "duplicated", "reordered", "echoed", "strayed", "corrupt", "refusals", "dead")
OVERLOADED = frozenset(
    {"wide"}
)  # its last steps ask too much on purpose: a late answer to PING is no fault there


def faults(run: Run) -> dict[str, int]:
    """What a run did wrong: counts by name, empty when all was well."""
    result = run["result"]
    if "failed" in result:
        return {"failed": 1}
    found = {name: result["faults"][name] for name in WRONG if result["faults"][name]}
    if run["workload"] in OVERLOADED:
        found.pop("dead", None)
    return found


def doubts(run: Run) -> list[str]:
    """Why a run may say more of the machine than of the server."""
    result = run["result"]
    generator = result.get("generator")
    found = []
    if run["workload"] in ("calm", "multi", "hall", "stall") and generator:
        if generator["cpu_share"] > 0.85:
            found.append("the load generator had no core to spare")
        if generator["late_share"] > 0.02:
            found.append(f"{generator['late_share']:.0%} of the packets were sent over 5 ms late")
        if generator["wait_share"] > 0.1:
            found.append("the load generator waited for its core")
    if result.get("stolen_share", 0) > 0.05:
        found.append("the host took the cores away")
    if result.get("generator_limited"):
        found.append("the load generator was the limit: the server can do more")
    return found
