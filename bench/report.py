"""Results as tables, for a terminal or as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from bench.figures import (
    FIGURES,
    OVERLOADED,
    STALL_LIMIT,
    STALL_RATIO,
    Figure,
    Run,
    doubts,
    faults,
    judged,
    values,
)
from bench.paired import Ratio, Summary, compare
from bench.servers import BY_NAME as SERVERS
from bench.servers import OURS
from bench.workloads import WORKLOADS

#: What is compared with everybody.
RATIOS = tuple(
    figure for figure in FIGURES if figure.workload != "stall" and figure.name not in {"p50", "p99.9"}
)


@attrs.frozen
class Table:
    """A heading, a head and rows of words; the first column is aligned left, the others right."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For a terminal."""
        cells = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]

        def line(row: Sequence[str]) -> str:
            first, *rest = row
            return "  ".join(
                [
                    first.ljust(widths[0]),
                    *(cell.rjust(wide) for cell, wide in zip(rest, widths[1:], strict=True)),
                ]
            ).rstrip()

        rule = "─" * len(line(["x" * wide for wide in widths]))
        return "\n".join((f"\n{self.title}", rule, line(self.head), rule, *map(line, self.rows)))

    def markdown(self) -> str:
        """For a page."""
        marks = ["---", *("---:" for _ in self.head[1:])]
        lines = (f"| {' | '.join(row)} |" for row in (self.head, marks, *self.rows))
        return "\n".join((f"\n### {self.title}\n", *lines))


def tables(results: dict[str, Any]) -> Iterable[Table]:
    """All of it, the goals first."""
    runs: list[Run] = results["runs"]
    yield goals(runs)
    yield compared(runs)
    for workload in WORKLOADS:
        mine = [run for run in runs if run["workload"] == workload.name]
        if mine:
            yield one(workload.name, workload.title, mine)


def goals(runs: Sequence[Run]) -> Table:
    """The goals: ratio, interval, range, and whether they are met."""
    rows = []
    for judgement in judged(runs):
        goal, ratio = judgement.goal, judgement.ratio
        sign = "≥" if goal.figure.more_is_better else "≤"
        rows.append(
            (
                f"{goal.figure.workload}: {goal.figure.name}",
                f"{title(goal.ours)} / {title(judgement.theirs)}",
                f"{ratio.median:.2f}",
                f"{ratio.low:.2f}–{ratio.high:.2f}",
                f"{ratio.least:.2f}–{ratio.greatest:.2f}",
                str(ratio.pairs),
                f"{sign} {goal.reach:g}",
                judgement.reach.value,
                f"{sign} {goal.aim:g}",
                judgement.aim.value,
            )
        )
    stalls = values(runs, STALL_RATIO, "ice")
    if stalls:
        lost = sum(
            faults(run).get("lost", 0)
            for run in runs
            if run["workload"] == "stall" and run["server"] == "ice"
        )
        summary = Summary.of(list(stalls.values()))
        met = "yes" if summary.median <= STALL_LIMIT and not lost else "no"
        rows.append(
            (
                f"stall: p99 of the others, {lost} lost",
                "with stalls / before",
                f"{summary.median:.2f}",
                "",
                f"{summary.least:.2f}–{summary.greatest:.2f}",
                str(summary.count),
                f"≤ {STALL_LIMIT:g}",
                met,
                "",
                "",
            )
        )
    head = ("figure", "ratio of", "median", "95 %", "range", "pairs", "reach", "met", "aim", "met")
    return Table(
        "Goals: medians of paired ratios (yes? / no?: by the median, but the interval spans the goal)",
        head,
        rows,
    )


def compared(runs: Sequence[Run]) -> Table:
    """What ours is to each other server, for every figure: median of paired ratios and its interval."""
    others = [name for name in SERVERS if name != "ice" and any(run["server"] == name for run in runs)]
    rows = []
    for figure in RATIOS:
        ours = values(runs, figure, "ice")
        cells = [_ratio(runs, figure, ours, other) for other in others]
        if any(cells):
            better = "more is better" if figure.more_is_better else "less is better"
            rows.append((f"{figure.workload}: {figure.name} ({better})", *(cell or "–" for cell in cells)))
    return Table("ice, as a multiple of", ("figure", *map(title, others)), rows)


def _ratio(runs: Sequence[Run], figure: Figure, ours: dict[int, float], other: str) -> str:
    workload = next(each for each in WORKLOADS if each.name == figure.workload)
    if other in workload.fewer:
        return ""  # it had fewer links
    ratio: Ratio | None = compare(ours, values(runs, figure, other))
    return f"{ratio.median:.2f} [{ratio.low:.2f}–{ratio.high:.2f}]" if ratio else ""


def one(name: str, heading: str, runs: Sequence[Run]) -> Table:
    """A workload: medians and ranges of every figure, a row per server."""
    figures = [figure for figure in FIGURES if figure.workload == name]
    workload = next(each for each in WORKLOADS if each.name == name)
    rows = []
    for server in SERVERS:
        if not any(run["server"] == server for run in runs):
            continue
        cells = []
        for figure in figures:
            found = list(values(runs, figure, server).values())
            cells.append(_summary(figure, found) if found else "–")
        fewer = " (fewer links)" if server in workload.fewer else ""
        count = sum(run["server"] == server and "failed" not in run["result"] for run in runs)
        rows.append((title(server) + fewer, *cells, str(count)))
    units = (f"{figure.name}, {figure.unit}".rstrip(", ") for figure in figures)
    return Table(f"{name}: {heading}", ("server", *units, "runs"), rows)


def _summary(figure: Figure, found: Sequence[float]) -> str:
    summary = Summary.of(found)
    middle = f"{summary.median:,.{figure.digits}f}"
    if summary.count == 1:
        return middle
    return f"{middle} [{summary.least:,.{figure.digits}f}–{summary.greatest:,.{figure.digits}f}]"


def title(server: str) -> str:
    """A server's name for people."""
    return SERVERS[server].title if server in SERVERS else server


def verdict(runs: Sequence[Run]) -> tuple[bool, list[str]]:
    """Whether ours and the floor did everything right, and what is to be said of all runs."""
    right, lines = True, []
    for run in runs:
        found = faults(run)
        where = f"{run['workload']}, {title(run['server'])}, repeat {run['repeat'] + 1}"
        if found:
            ours = run["server"] in OURS
            right = right and not ours
            words = run["result"].get("failed") or ", ".join(
                f"{count} {name}" for name, count in found.items()
            )
            said = run["result"].get("said")
            lines.append(f"{'WRONG' if ours else 'fault'}: {where}: {words}" + (f" ({said})" if said else ""))
    doubtful: dict[str, int] = {}
    for run in runs:
        for doubt in doubts(run):
            doubtful[doubt] = doubtful.get(doubt, 0) + 1
    lines += [f"doubt: {doubt} ({count} of {len(runs)} runs)" for doubt, count in doubtful.items()]
    loads = len([run for run in runs if run["workload"] not in OVERLOADED])
    lines.append(
        f"every packet of {loads} runs accounted for: nothing of ours lost, doubled, spoilt, echoed or strayed"
        if right
        else "VERDICT: WRONG. The figures of a server that does not do its work mean nothing."
    )
    return right, lines


def render(results: dict[str, Any], markdown: bool) -> str:
    """Everything, with where and on what it was measured."""
    about = results["about"]
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    pieces = [f"\n{facts}"] + [each.markdown() if markdown else each.text() for each in tables(results)]
    lines = verdict(results["runs"])[1]
    pieces.append("\n" + "\n".join(f"- {line}" if markdown else line for line in lines))
    return "\n".join(pieces)
