"""How ``ice quality`` shows what was found: a table and a verdict for people, one object for machines."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ice.cli.display import Display, plural
from ice.media.path_quality import Direction, Grade, Path

COLUMNS: Final = ("", "latency", "(95 %)", "jitter", "(highest)", "loss", "verdict")
WORDS: Final = {
    Grade.IDEAL: "Ideal: nothing on this way disturbs voice.",
    Grade.ACCEPTABLE: "Acceptable: voice works, at some cost in delay or in words.",
    Grade.UNACCEPTABLE: "Unacceptable: voice suffers on this way.",
}


def show(display: Display, path: Path, *, rate: float, size: int, stalls: int, complete: bool) -> int:
    """Tell it; the exit status: 0 unless the way is unacceptable."""
    lines = _table(path)
    if path.round_trip_ms is not None and path.round_trip_least_ms is not None and path.back is not None:
        lines += [
            "",
            f"round trip:   {path.round_trip_ms:.1f} ms, at the quickest {path.round_trip_least_ms:.1f} ms",
        ]
        lines.append(
            f"uncertainty:  one-way latencies hold to ± {path.uncertainty_ms:.1f} ms: two clocks cannot tell a way that is longer "
            "in one direction from one that is equally long in both, which is assumed"
        )
    elif path.back is None:
        lines += [
            "",
            "There and back together, by the parrot; the latency is half of what the link's own PING takes, whatever way is the longer one.",
        ]
    kbits = rate * size * 8 / 1_000
    lines.append(
        f"probes:       {rate:g} a second of {plural(size, 'byte')}, {kbits:.1f} kbit/s each way before headers"
    )
    if not complete:
        lines.append(
            "The far end no longer answered when asked what it had heard: what was lost there is told as far as it is known."
        )
    if stalls:
        lines.append(f"This machine stood still {plural(stalls, 'time')}: some of that delay is ours.")
    if path.answerers > 1:
        lines.append(
            f"{path.answerers} ends answer on this stream; this is the way to the one that answered first."
        )
    verdict = _verdict(path)
    lines.append(verdict)
    display.say(
        "quality", "\n".join(lines), grade=str(path.grade), verdict=verdict, doubtful=path.doubtful,
        there=_fields(path.there), back=None if path.back is None else _fields(path.back),
        round_trip_ms=path.round_trip_ms, round_trip_least_ms=path.round_trip_least_ms,
        uncertainty_ms=path.uncertainty_ms, answerers=path.answerers, rate=rate, size=size, kbits_per_s=kbits,
        stalls=stalls, complete=complete,
    )  # fmt: skip
    return 1 if path.grade is Grade.UNACCEPTABLE else 0


def _table(path: Path) -> list[str]:
    rows = [COLUMNS]
    names = ("there", "back") if path.back is not None else ("there and back",)
    for name, direction in zip(names, (path.there, path.back), strict=False):
        if direction is not None:
            rows.append(
                (
                    name, _ms(direction.latency_ms), _ms(direction.latency_p95_ms), _ms(direction.jitter_ms),
                    _ms(direction.jitter_max_ms), f"{direction.loss_percent:.2f} %", str(direction.grade),
                )
            )  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if place in (0, len(COLUMNS) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _verdict(path: Path) -> str:
    words = WORDS[path.grade]
    reasons = [
        f"{figure}{' ' + name if path.back is not None else ''} is {grade}"
        for name, direction in (("there", path.there), ("back", path.back))
        if direction is not None
        for figure, grade in direction.grades.items()
        if grade is path.grade and grade is not Grade.IDEAL
    ]
    if reasons:
        words += f" ({', '.join(reasons)}.)"
    if path.doubtful:
        words += " Were the way much longer in one direction, it would be worse in that."
    return words


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _fields(direction: Direction) -> dict[str, Any]:
    grades = {figure: str(grade) for figure, grade in direction.grades.items()}
    return {
        **attrs.asdict(direction),
        "loss_percent": direction.loss_percent,
        "grades": grades,
        "grade": str(direction.grade),
    }
