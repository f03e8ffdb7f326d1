"""What crowds have written, and what it says: lost, doubled, out of order, silent for how long, per listener and talker.

Times are seconds of CLOCK_MONOTONIC. A datagram counts for a listener from the moment on when its way to the stream was open for the first time.

- *lost*: handed to a link by its talker, and never heard by this listener. *unsent*: its talker had no path. *doubled*: heard more than once.
- *disordered*: heard behind a later one.
- A *silence* lies between two datagrams heard one after the other, and is as long as that was, without the longest pause that the talker made
  meanwhile; so late and lost datagrams count, and a talker's breath does not.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SILENCE_S = 0.15  # shorter ones are not listed: seven packets, which a jitter buffer may bridge


@attrs.define
class _Entries:
    """Numbers and times, as they were written."""

    numbers: "array[int]" = attrs.field(factory=lambda: array("q"))
    times_s: "array[float]" = attrs.field(factory=lambda: array("d"))
    unsent: "array[int]" = attrs.field(factory=lambda: array("q"))


@attrs.frozen
class Silence:
    """A listener did not hear a talker, from ``begin_s`` on."""

    begin_s: float
    seconds: float


@attrs.frozen(eq=False)
class Pair:
    """What a listener heard of a talker on a stream."""

    listener: str
    talker: str
    stream: str
    attempts: int
    heard: int
    doubled: int
    disordered: int
    lost_at: Floats = attrs.field(repr=False)  #: when each lost one was sent
    unsent_at: Floats = attrs.field(repr=False)
    silences: tuple[Silence, ...] = attrs.field(repr=False)
    silence_s: float
    latency_s: Floats = attrs.field(repr=False)

    @property
    def lost(self) -> int:
        """How many."""
        return len(self.lost_at)

    @property
    def unsent(self) -> int:
        """How many."""
        return len(self.unsent_at)

    def __str__(self) -> str:
        middle, worst = (
            (float(np.median(self.latency_s)), float(self.latency_s.max()))
            if len(self.latency_s)
            else (np.nan, np.nan)
        )
        return (
            f"{self.talker} → {self.listener} on {self.stream}: {self.attempts} tried, {self.unsent} unsent, {self.heard} heard, {self.lost} lost, "
            f"{self.doubled} doubled, {self.disordered} out of order, silence {self.silence_s:.3f} s, latency {middle * 1e3:.1f} (worst {worst * 1e3:.0f}) ms"
        )


@attrs.define
class Tape:
    """Everything that some crowds have written. :meth:`read` again as they go on."""

    paths: list[Path]
    sent: dict[tuple[str, str], _Entries] = attrs.field(factory=dict)  #: (talker, stream)
    heard: dict[tuple[str, str, str], _Entries] = attrs.field(factory=dict)  #: (listener, stream, talker)
    #: (who, stream): when the way opened or closed, and why.
    ways: dict[tuple[str, str], list[tuple[float, bool, str]]] = attrs.field(factory=dict)
    left: dict[tuple[str, str], float] = attrs.field(factory=dict)
    #: who: what was said of the links.
    notices: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    counts: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    late: list[dict[str, Any]] = attrs.field(factory=list)
    marks: dict[Path, int] = attrs.field(factory=dict)
    _read: dict[Path, int] = attrs.field(factory=dict)

    def read(self) -> "Tape":
        """Take in what has been written since; itself."""
        for path in self.paths:
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    self._take(path, json.loads(line))
        return self

    def up(self, who: str, stream: str) -> bool:
        """Whether somebody's way to a stream is open now."""
        ways = self.ways.get((who, stream))
        return bool(ways and ways[-1][1])

    def opened_at(self, who: str, stream: str) -> float:
        """When it opened for the first time; infinity if it never did."""
        return min((at for at, up, _ in self.ways.get((who, stream), ()) if up), default=np.inf)

    def homes(self, who: str) -> list[tuple[float, str]]:
        """When somebody came to which Rallypoint (``host:port``)."""
        return [
            (each["ns"] / 1e9, each["address"])
            for each in self.notices.get(who, ())
            if each["kind"] in ("connected", "moved")
        ]

    def all_homes(self, who: str) -> list[tuple[float, tuple[str, ...]]]:
        """Where somebody was linked, one place or two, from when on."""
        return [(each["ns"] / 1e9, tuple(each["homes"])) for each in self.notices.get(who, ())]

    def home(self, who: str, at_s: float = np.inf) -> str:
        """Where somebody was linked last, at a time; empty: nowhere yet."""
        return next((address for at, address in reversed(self.homes(who)) if at <= at_s), "")

    def linked(self, who: str) -> bool:
        """Whether somebody has a link now."""
        kinds = [each["kind"] for each in self.notices.get(who, ()) if each["kind"] in ("connected", "lost")]
        return bool(kinds) and kinds[-1] == "connected"

    def pairs(self, since_s: float = -np.inf, until_s: float = np.inf) -> list[Pair]:
        """Each listener with each talker of a stream, for what was tried in a time."""
        return list(self._pairs(since_s, until_s))

    def pair(
        self, talker: str, listener: str, stream: str, since_s: float = -np.inf, until_s: float = np.inf
    ) -> Pair:
        """One of them; raises KeyError where there was nothing to hear."""
        for pair in self._pairs(since_s, until_s, (talker, listener, stream)):
            return pair
        raise KeyError((talker, listener, stream))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _take(self, path: Path, line: dict[str, Any]) -> None:
        e, who, at_s = line["e"], line.get("who", ""), line["ns"] / 1e9
        if e in ("sent", "heard"):
            entries = (
                self.sent.setdefault((who, line["stream"]), _Entries())
                if e == "sent"
                else self.heard.setdefault((who, line["stream"], line["talker"]), _Entries())
            )
            entries.numbers.extend(line["n"])
            entries.times_s.extend(at_s + us / 1e6 for us in line["us"])
            entries.unsent.extend(line.get("unsent", ()))
        elif e == "path":
            self.ways.setdefault((who, line["stream"]), []).append((at_s, line["up"], line["why"]))
        elif e == "left":
            self.left[who, line["stream"]] = at_s
        elif e == "notice":
            self.notices.setdefault(who, []).append(line)
        elif e == "counts":
            self.counts[who] = line
        elif e == "late":
            self.late.append(line)
        elif e == "mark":
            self.marks[path] = line["mark"]

    def _pairs(
        self, since_s: float, until_s: float, only: tuple[str, str, str] | None = None
    ) -> Iterator[Pair]:
        listeners: dict[str, list[str]] = {}
        for who, stream in self.ways:
            listeners.setdefault(stream, []).append(who)
        for (talker, stream), entries in self.sent.items():
            numbers = np.array(entries.numbers, dtype=np.int64)
            times = np.array(entries.times_s, dtype=np.float64)
            assert np.array_equal(numbers, np.arange(len(numbers))), f"the trace of {talker} has gaps"
            sent = np.ones(len(times), dtype=bool)
            sent[np.array(entries.unsent, dtype=np.int64)] = False
            for listener in listeners.get(stream, ()):
                if listener == talker or (only is not None and only != (talker, listener, stream)):
                    continue
                begin = max(since_s, self.opened_at(listener, stream))
                end = min(until_s, self.left.get((listener, stream), np.inf))
                chosen = np.flatnonzero((times >= begin) & (times < end))
                if len(chosen):
                    yield self._pair(listener, talker, stream, times, sent, chosen)

    def _pair(
        self,
        listener: str,
        talker: str,
        stream: str,
        times: Floats,
        sent: npt.NDArray[np.bool_],
        chosen: Integers,
    ) -> Pair:
        entries = self.heard.get((listener, stream, talker), _Entries())
        numbers = np.array(entries.numbers, dtype=np.int64)
        arrived = np.array(entries.times_s, dtype=np.float64)
        inside = (numbers >= chosen[0]) & (numbers <= chosen[-1])
        numbers, arrived = numbers[inside], arrived[inside]
        first = np.full(len(times), np.nan)
        first[numbers[::-1]] = arrived[::-1]  # the first time stays
        heard = chosen[~np.isnan(first[chosen])]
        missing = chosen[np.isnan(first[chosen])]
        silences = _silences(times, first, chosen, heard)
        return Pair(
            listener=listener,
            talker=talker,
            stream=stream,
            attempts=len(chosen),
            heard=len(heard),
            doubled=len(numbers) - len(np.unique(numbers)),
            disordered=int(np.sum(numbers[1:] < np.maximum.accumulate(numbers)[:-1])) if len(numbers) else 0,
            lost_at=times[missing[sent[missing]]],
            unsent_at=times[chosen[~sent[chosen]]],
            silences=tuple(each for each in silences if each.seconds >= SILENCE_S),
            silence_s=max((each.seconds for each in silences), default=0.0),
            latency_s=first[heard] - times[heard],
        )


def _silences(times: Floats, first: Floats, chosen: Integers, heard: Integers) -> list[Silence]:
    """Every stretch between two datagrams heard, the ends of the time included."""
    begin, end = times[chosen[0]], times[chosen[-1]]
    if not len(heard):
        return [Silence(float(begin), float(end - begin))]
    arrived = np.maximum.accumulate(first[heard])
    found = [Silence(float(begin), float(arrived[0] - begin))]
    if len(heard) > 1:
        pauses = np.diff(times)[: heard[-1]]
        longest_pause = np.maximum.reduceat(pauses, heard[:-1])
        lengths = np.diff(arrived) - longest_pause
        found += [  # where the talker rested as well, the rest came first: who misses something misses what was said after it
            Silence(float(arrived[index + 1] - lengths[index]), float(lengths[index]))
            for index in np.flatnonzero(lengths > 0.0)
        ]
    found.append(Silence(float(arrived[-1]), float(end - arrived[-1])))
    return found


def told(pairs: Iterable[Pair]) -> str:
    """All pairs as lines, for the message of a test that failed."""
    return "\n" + "\n".join(map(str, pairs))


def among(pairs: Iterable[Pair], *people: Sequence[str]) -> list[Pair]:
    """Those whose talker and listener are of one group; or, of two groups, one of each, whoever talks."""
    if len(people) == 1:
        return [pair for pair in pairs if pair.talker in people[0] and pair.listener in people[0]]
    one, other = people
    return [
        pair
        for pair in pairs
        if (pair.talker in one and pair.listener in other) or (pair.talker in other and pair.listener in one)
    ]
