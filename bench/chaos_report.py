"""What a chaos run has found: counted, as tables, as JSON, and as a picture of the whole time."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Self

import attrs
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.faults import CALM_S, Happened, Judge
from tests.system.tally import Pair

PLAIN_WIDE = 150  # columns, where nobody looks at a terminal
MOST_TOLD = 20  # unexplained ones that are told one by one; JSON has all
SHOWN_SILENCE_S = 0.25
ALWAYS_WRONG = (
    "hops",
    "malformed",
)  # a datagram that went round until its hops were used up; bytes that cannot be


@attrs.define
class Toll:
    """What one fault has cost those whom it concerns."""

    happened: Happened
    lost: int = 0
    unsent: int = 0
    silence_s: float = 0.0


@attrs.frozen
class Missed:
    """A datagram that a listener did not get; ``why``: the number of the fault that explains it."""

    at_s: float
    talker: str
    listener: str
    sent: bool
    why: int | None


@attrs.frozen
class Account:
    """The findings. Times are seconds from the beginning of the run."""

    seed: int
    seconds: float
    calm_s: float
    tolls: Sequence[Toll]
    pairs: Sequence[Pair] = attrs.field(repr=False)
    missed: Sequence[Missed] = attrs.field(repr=False)
    windows: Sequence[tuple[float, float]] = attrs.field(repr=False)
    drops: dict[str, dict[str, int]]
    copies: dict[str, int]  #: that clients recognised: of a move between two Rallypoints
    late_ms: int  #: how long the people's own processes were kept from talking, at most
    troubles: Sequence[str]
    _begin_s: float

    @classmethod
    def of(
        cls,
        *,
        seed: int,
        begin_s: float,
        calm_s: float,
        end_s: float,
        pairs: Sequence[Pair],
        judge: Judge,
        happened: Sequence[Happened],
        drops: dict[str, dict[str, int]],
        copies: dict[str, int],
        late_ms: int,
        troubles: Iterable[str],
    ) -> Self:
        """Hold everything that was missed against what happened; times as the traces have them."""
        tolls = {each.fault.number: Toll(each) for each in sorted(happened, key=lambda each: each.begin_s)}
        missed = []
        for pair in pairs:
            for times, sent in ((pair.lost_at, True), (pair.unsent_at, False)):
                for at_s in times:
                    cause = judge.why(pair.talker, pair.listener, float(at_s))
                    number = None if cause is None else cause.fault.number
                    missed.append(Missed(float(at_s) - begin_s, pair.talker, pair.listener, sent, number))
                    if number is not None:
                        tolls[number].lost += sent
                        tolls[number].unsent += not sent
            for silence in pair.silences:
                cause = judge.why(pair.talker, pair.listener, silence.begin_s)
                if cause is not None:
                    toll = tolls[cause.fault.number]
                    toll.silence_s = max(toll.silence_s, silence.seconds)
        found = [*troubles]
        calm = [each for each in missed if each.at_s >= calm_s - begin_s]
        if calm:
            found.append(f"in peace, {len(calm)} datagrams were missed")
        for reason in ALWAYS_WRONG:
            count = sum(each.get(reason, 0) for each in drops.values())
            if count:
                found.append(f"{count} datagrams were dropped on the way as {reason!r}")
        return cls(
            seed=seed,
            seconds=end_s - begin_s,
            calm_s=calm_s - begin_s,
            tolls=list(tolls.values()),
            pairs=pairs,
            missed=missed,
            windows=[(window.begin_s - begin_s, window.end_s - begin_s) for window in judge.windows],
            drops=drops,
            copies=copies,
            late_ms=late_ms,
            troubles=found,
            begin_s=begin_s,
        )

    @property
    def unexplained(self) -> list[Missed]:
        """Missed, and nothing that happened is the reason."""
        return [each for each in self.missed if each.why is None]

    @property
    def doubled(self) -> int:
        """Heard twice."""
        return sum(pair.doubled for pair in self.pairs)

    @property
    def good(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.unexplained or self.doubled or self.troubles)

    def time(self, at_s: float) -> float:
        """From the clock of the traces to seconds from the beginning."""
        return at_s - self._begin_s

    def value(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "calm_from_s": round(self.calm_s, 1),
            "good": self.good,
            "troubles": list(self.troubles),
            "sums": self.sums(),
            "faults": [
                {
                    "number": toll.happened.fault.number,
                    "kind": toll.happened.fault.kind,
                    "places": list(toll.happened.fault.places),
                    "delay_s": toll.happened.fault.delay_s,
                    "begin_s": round(self.time(toll.happened.begin_s), 3),
                    "end_s": round(self.time(toll.happened.end_s), 3),
                    "all_linked_s": round(self.time(toll.happened.whole_s), 3),
                    "lost": toll.lost,
                    "unsent": toll.unsent,
                    "longest_silence_s": round(toll.silence_s, 3),
                }
                for toll in self.tolls
            ],
            "pairs": [
                {
                    "talker": pair.talker,
                    "listener": pair.listener,
                    "stream": pair.stream,
                    "tried": pair.attempts,
                    "heard": pair.heard,
                    "lost": pair.lost,
                    "unsent": pair.unsent,
                    "doubled": pair.doubled,
                    "disordered": pair.disordered,
                    "longest_silence_s": round(pair.silence_s, 3),
                }
                for pair in self.pairs
            ],
            "unexplained": [
                {
                    "at_s": round(each.at_s, 3),
                    "talker": each.talker,
                    "listener": each.listener,
                    "sent": each.sent,
                }
                for each in self.unexplained
            ],
            "dropped_on_the_way": self.drops,
        }

    def sums(self) -> dict[str, Any]:
        """Over all pairs."""
        latency = np.concatenate([pair.latency_s for pair in self.pairs]) if self.pairs else np.zeros(1)
        lost = [each for each in self.missed if each.sent]
        return {
            "tried": sum(pair.attempts for pair in self.pairs),
            "heard": sum(pair.heard for pair in self.pairs),
            "lost_explained": sum(each.why is not None for each in lost),
            "lost_unexplained": sum(each.why is None for each in lost),
            "unsent_explained": sum(each.why is not None and not each.sent for each in self.missed),
            "unsent_unexplained": sum(each.why is None and not each.sent for each in self.missed),
            "doubled": self.doubled,
            "disordered": sum(pair.disordered for pair in self.pairs),
            "copies_recognised_by_clients": sum(self.copies.values()),
            "latency_ms_median": round(float(np.median(latency)) * 1e3, 2),
            "latency_ms_p99": round(float(np.percentile(latency, 99)) * 1e3, 2),
            "people_late_ms": self.late_ms,
        }


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(account: Account) -> None:
    """For a person; plain where the output is no terminal."""
    console = Console(width=None if Console().is_terminal else PLAIN_WIDE)
    faults = _table(
        "what happened", "at", "fault", "for", "linked after", "lost", "unsent", "longest silence"
    )
    for toll in account.tolls:
        this = toll.happened
        faults.add_row(
            f"{account.time(this.begin_s):.1f} s",
            str(this.fault),
            f"{this.end_s - this.begin_s:.1f} s",
            f"{max(0.0, this.whole_s - this.end_s):.1f} s",
            str(toll.lost or "–"),
            str(toll.unsent or "–"),
            f"{toll.silence_s:.2f} s" if toll.silence_s else "–",
        )
    console.print(faults)
    people = _table(
        "what each listener heard", "listener", "of", "tried", "heard", "lost", "unsent", "unexplained", "doubled", "longest silence"
    )  # fmt: skip
    for listener in sorted({pair.listener for pair in account.pairs}):
        mine = [pair for pair in account.pairs if pair.listener == listener]
        wrong = sum(each.listener == listener for each in account.unexplained)
        people.add_row(
            listener,
            " ".join(sorted(pair.talker for pair in mine)),
            *(
                str(sum(getattr(pair, name) for pair in mine))
                for name in ("attempts", "heard", "lost", "unsent")
            ),
            f"[bold red]{wrong}[/]" if wrong else "0",
            str(sum(pair.doubled for pair in mine)),
            f"{max(pair.silence_s for pair in mine):.2f} s",
        )
    console.print(people)
    sums = _table("in all", "what", "how many")
    for name, count in account.sums().items():
        sums.add_row(name.replace("_", " "), str(count))
    for reason in sorted({reason for each in account.drops.values() for reason in each}):
        count = sum(each.get(reason, 0) for each in account.drops.values())
        sums.add_row(f"copies dropped on the way: {reason}", str(count))
    console.print(sums)
    for each in account.unexplained[:MOST_TOLD]:
        what = "lost" if each.sent else "unsent"
        console.print(f"unexplained: {each.at_s:.2f} s: {each.talker} → {each.listener} {what}")
    if len(account.unexplained) > MOST_TOLD:
        console.print(f"… and {len(account.unexplained) - MOST_TOLD} more")
    for trouble in account.troubles:
        console.print(f"wrong: {trouble}")
    console.print(
        f"seed {account.seed}: nothing doubled, nothing circulated, nothing lost without a reason, all recovered"
        if account.good
        else f"seed {account.seed}: WRONG"
    )


def _table(title: str, first: str, *more: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column(first)
    for name in more:
        words = name in ("fault", "of", "what")
        table.add_column(name, justify="left" if words else "right")
    return table


# -- picture -----------------------------------------------------------------------------------------------------------

LEFT, RIGHT, TOP, LANE, ROW = 70, 20, 78, 17, 20
WIDE = 1_600
INK, SOFT, GRID = "#1f2933", "#6b7785", "#e3e7eb"
WINDOW, SILENCE, LOST, UNSENT, WRONG, DOUBLED = (
    "#fbf1d3",
    "#9aa5b1",
    "#e0a526",
    "#62a8f0",
    "#d4253d",
    "#8b4fc6",
)
COLOURS = {
    "kill": "#d4553d",
    "freeze": "#1763c6",
    "cut": "#8b4fc6",
    "reset": "#b07fdc",
    "cut-site": "#6d4c9f",
    "slow": "#2f9e6e",
    "partition": "#1f2933",
    "restart": "#e07b39",
    "reload": "#7aa17a",
}


def draw(account: Account) -> str:
    """An SVG: faults as bars; a row per listener with silences, what was lost for a reason, and what was without."""
    lanes, lane_of = _lanes(account)
    listeners = sorted({pair.listener for pair in account.pairs})
    rows_at = TOP + lanes * LANE + 30
    high = rows_at + len(listeners) * ROW + 40
    scale = (WIDE - LEFT - RIGHT) / max(account.seconds, 1.0)

    def x(at_s: float) -> float:
        return round(LEFT + min(max(at_s, 0.0), account.seconds) * scale, 2)

    verdict = "all as it should be" if account.good else "WRONG"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDE}" height="{high}" fill="#ffffff"/>',
        _words(LEFT, 24, f"chaos, seed {account.seed}: {verdict}", INK, size=17),
        *_legend(),
    ]
    bottom = rows_at + len(listeners) * ROW
    for begin_s, end_s in account.windows:
        parts.append(_bar(x(begin_s), rows_at, x(end_s), bottom, WINDOW))
    step = next(step for step in (5, 10, 30, 60, 300, 3600) if account.seconds / step <= 25)
    for mark in range(0, int(account.seconds) + 1, step):
        parts.append(f'<path d="M{x(mark)} {TOP - 8}V{bottom}" stroke="{GRID}"/>')
        parts.append(_words(x(mark), TOP - 12, f"{mark} s", SOFT, "middle"))
    for toll in account.tolls:
        parts += _fault(account, toll, TOP + lane_of[toll.happened.fault.number] * LANE, x)
    parts.append(
        f'<path d="M{x(account.calm_s)} {TOP - 8}V{bottom}" stroke="{COLOURS["slow"]}" stroke-dasharray="4 3"/>'
    )
    for number, listener in enumerate(listeners):
        parts += _row(account, listener, rows_at + number * ROW, x, scale)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _lanes(account: Account) -> tuple[int, dict[int, int]]:
    """A lane for each fault, so that none covers another or its name."""
    free: list[float] = []
    lane_of = {}
    for toll in account.tolls:
        this = toll.happened
        begin_s, end_s = account.time(this.begin_s), account.time(this.end_s)
        words_s = len(str(this.fault)) * 6.2 * account.seconds / (WIDE - LEFT - RIGHT)
        lane = next((index for index, until in enumerate(free) if until <= begin_s), len(free))
        if lane == len(free):
            free.append(0.0)
        free[lane] = max(end_s, begin_s + words_s)
        lane_of[this.fault.number] = lane
    return max(1, len(free)), lane_of


def _fault(account: Account, toll: Toll, top: float, x: Any) -> list[str]:
    this = toll.happened
    begin, end = x(account.time(this.begin_s)), x(account.time(this.end_s))
    told = (
        f"{this.fault}: {account.time(this.begin_s):.2f}–{account.time(this.end_s):.2f} s, {toll.lost} lost, {toll.unsent} unsent, "
        f"silent for {toll.silence_s:.2f} s at most"
    )
    bar = _bar(begin, top + 2, max(end, begin + 2), top + 6, COLOURS[this.fault.kind])
    words = _words(begin, top + 15, str(this.fault), COLOURS[this.fault.kind], size=9)
    return [f"<g><title>{escape(told)}</title>{bar}{words}</g>"]


def _row(account: Account, listener: str, top: float, x: Any, scale: float) -> list[str]:
    middle = top + ROW / 2
    parts = [
        _words(LEFT - 10, middle + 4, listener, INK, "end"),
        f'<path d="M{LEFT} {top + ROW}H{WIDE - RIGHT}" stroke="{GRID}"/>',
    ]
    for pair in account.pairs:
        if pair.listener != listener:
            continue
        for silence in pair.silences:
            if silence.seconds >= SHOWN_SILENCE_S:
                begin_s = account.time(silence.begin_s)
                parts.append(_bar(x(begin_s), middle - 2, x(begin_s + silence.seconds), middle + 2, SILENCE))
    mine = [each for each in account.missed if each.listener == listener]
    for colour, above, below, chosen in (
        (UNSENT, 1, 7, [each.at_s for each in mine if not each.sent and each.why is not None]),
        (LOST, -7, -1, [each.at_s for each in mine if each.sent and each.why is not None]),
        (WRONG, -10, 10, [each.at_s for each in mine if each.why is None]),
    ):
        parts += _ticks(
            sorted({round(x(at_s), 0) for at_s in chosen}), middle + above, middle + below, colour
        )
    doubled = sum(pair.doubled for pair in account.pairs if pair.listener == listener)
    if doubled:
        parts.append(_words(WIDE - RIGHT, middle + 4, f"{doubled} doubled", DOUBLED, "end"))
    return parts


def _ticks(marks: Sequence[float], top: float, bottom: float, colour: str) -> list[str]:
    if not marks:
        return []
    path = "".join(f"M{mark:g} {top:g}V{bottom:g}" for mark in marks)
    return [f'<path d="{path}" stroke="{colour}" stroke-width="1"/>']


def _bar(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    return f'<rect x="{left:g}" y="{top:g}" width="{max(0.5, right - left):.2f}" height="{bottom - top:g}" fill="{colour}"/>'


def _words(left: float, base: float, words: str, ink: str, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{left:g}" y="{base:g}" fill="{ink}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def _legend() -> list[str]:
    parts, left = [], LEFT
    legend = (
        (WINDOW, "explained by a fault"),
        (SILENCE, f"silence of a talker, over {SHOWN_SILENCE_S:g} s"),
        (LOST, "lost"),
        (UNSENT, "not sent: no way"),
        (WRONG, "missed WITHOUT a reason"),
        (COLOURS["slow"], f"from here on peace, {CALM_S:g} s or more"),
    )
    for colour, words in legend:
        parts.append(_bar(left, 38, left + 12, 50, colour))
        parts.append(_words(left + 17, 48, words, SOFT))
        left += 40 + round(len(words) * 6.2)
    return parts
