"""Traces: one JSON line per datagram, of who sends and of who hears, and what two of them say together.

A line is ``{"what": "sent"|"heard", "source": 16 hex digits, "sequence": u32, "flags": u8, "bytes": n, "ns": …}``; ``ns`` is
``CLOCK_MONOTONIC`` in nanoseconds, which all processes of one host share, so that the difference between a line of the
sender and the line of the same name (source, sequence) of a listener is the one-way latency, the network and both
operating systems included, the jitter buffer not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

import attrs

from ice.errors import LocalError
from ice.link.naming import format_u64, parse_u64

FLUSH_LINES = 250  # five seconds of one talker: a killed process loses no more


class Trace:
    """A file that a trace is written to. Use it as a context manager, or call :meth:`close`."""

    def __init__(self, path: Path, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        try:
            self._file: TextIO = path.open("w", encoding="utf-8")
        except OSError as error:
            raise LocalError(
                f"{path}: the trace cannot be written: {error.strerror}; name another file with --trace"
            ) from None
        #: What the time is read from.
        self.clock_ns = clock_ns
        self._lines = 0

    def write(
        self, what: str, source: int, sequence: int, flags: int, size: int, at_ns: int | None = None
    ) -> None:
        """Note one datagram, of now or of ``at_ns``; ``what`` is ``sent`` or ``heard``."""
        if at_ns is None:
            at_ns = self.clock_ns()
        self._file.write(
            f'{{"what":"{what}","source":"{format_u64(source)}","sequence":{sequence},"flags":{int(flags)},'
            f'"bytes":{size},"ns":{at_ns}}}\n'
        )
        self._lines += 1
        if self._lines % FLUSH_LINES == 0:
            self._file.flush()

    def close(self) -> None:
        """Write what is left; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@attrs.frozen
class Traced:
    """One line of a trace."""

    what: str
    source: int
    sequence: int
    flags: int
    size: int
    at_ns: int


def read_trace(path: Path) -> list[Traced]:
    """The lines of a trace file, in order; raises :class:`~ice.errors.LocalError` naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LocalError(f"{path}: the trace cannot be read: {error.strerror}") from None
    return list(parse_trace(text.splitlines(), str(path)))


def parse_trace(lines: Iterable[str], where: str) -> Iterable[Traced]:
    """Each line as a value; raises :class:`~ice.errors.LocalError` naming ``where`` and the line's number."""
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            yield Traced(
                str(entry["what"]),
                parse_u64(entry["source"]),
                int(entry["sequence"]),
                int(entry["flags"]),
                int(entry["bytes"]),
                int(entry["ns"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise LocalError(f"{where}:{number}: no line of a trace: {line[:80]!r}") from None


@attrs.frozen
class Comparison:
    """What a sender's and a listener's trace say together."""

    sent: int
    received: int
    lost: int  #: sent and never heard
    duplicated: int  #: heard more than once
    latency_ms: tuple[float, ...] = attrs.field(
        repr=False
    )  #: of each datagram received, in the order of sending

    def percentile_ms(self, percent: float) -> float:
        """The latency below which ``percent`` of the datagrams lie; NaN where none was received."""
        return percentile(self.latency_ms, percent)


def compare(sent: Sequence[Traced], heard: Sequence[Traced]) -> Comparison:
    """Match datagrams by name. What was heard of sources that did not send here is left out."""
    first: dict[tuple[int, int], int] = {}
    duplicated = 0
    for entry in heard:
        name = (entry.source, entry.sequence)
        if name in first:
            duplicated += 1
        else:
            first[name] = entry.at_ns
    latencies = [
        (first[name] - entry.at_ns) / 1e6
        for entry in sent
        if (name := (entry.source, entry.sequence)) in first
    ]
    return Comparison(len(sent), len(latencies), len(sent) - len(latencies), duplicated, tuple(latencies))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value at rank ``percent`` of 100 (nearest rank); NaN for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[min(len(ordered), int(rank)) - 1]
