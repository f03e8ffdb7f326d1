"""How good a path is for voice: one-way latency, jitter and loss of each direction, held against the documented table.

Two engines. :class:`Asker` sends probes in the cadence of voice and reckons; :class:`Answerer` sends each back at once, with the times when it came and went. :class:`Echo` is
the asker where nobody but a parrot answers. Time is an argument.

**One way from two clocks.** A probe tells when it was sent by one clock and when it came by another, so the difference is the delay *and* what the clocks are apart (θ). Of the way
back it is the delay less θ. Of all probes of ten seconds the quickest of each direction is taken: the path with no queue on it. *If the path is equally long both ways*,
θ is half the difference of the two, and all else follows (the clock filter of NTP, RFC 5905 section 10). If it is not, what one direction gets too little the other gets
too much, by at most half of the quickest round trip: that is :attr:`Path.uncertainty_ms`, and no measurement between two unsynchronised clocks can do better. θ is reckoned anew
every ten seconds, so that clocks that run apart (50 ppm are 30 ms in ten minutes) do no harm.

**Jitter** is RFC 3550's (section 6.4.1): a running mean, over 16 packets or so, of how much the spacing on arrival differs from the spacing on sending. θ drops out of it. Judged is the mean of
that over the run; the highest is told.

**Loss.** The answerer counts what came; so probes lost on the way there and answers lost on the way back are told apart. The end of a run is asked for until it is answered. What came twice counts
once.

**The table** ("Required Network Quality of Service"): latency under 40 ms is ideal, up to 250 acceptable; jitter 5 and 30 ms; loss none and up to 2 %. A path is as good as the worst of its figures.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.probe import Kind, MalformedProbe, Probe

PROBES_PER_S: Final = 50  # as voice of 20 ms
SIZE: Final = 172  # bytes: G.711 of 20 ms with its RTP header
MAX_PROBES: Final = 200_000  # an hour of voice
OFFSET_WINDOW_NS: Final = 10_000_000_000
ASK_EVERY_S: Final = 0.2
ASK_END_S: Final = 3.0  # an end that nobody answers so long is not answered
RUNS_MAX: Final = 64  # that an answerer remembers; the one asked longest ago is forgotten
ANSWERS_PER_S: Final = 1_000  # no probe is answered above it: nobody is made to flood a stream
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_RISE: Final = 16  # packets until RFC 3550's running mean, which begins at 0, says something


class Grade(StrEnum):
    """How good, in the words of the table."""

    IDEAL = "ideal"
    ACCEPTABLE = "acceptable"
    UNACCEPTABLE = "unacceptable"


_ORDER: Final = list(Grade)


@attrs.frozen
class Limits:
    """Up to ``ideal`` (below it; loss: none) and up to and with ``acceptable``."""

    ideal: float
    acceptable: float

    def grade(self, value: float) -> Grade:
        """How good a value is."""
        if value < self.ideal or value <= 0:
            return Grade.IDEAL
        return Grade.ACCEPTABLE if value <= self.acceptable else Grade.UNACCEPTABLE


LATENCY_MS: Final = Limits(40, 250)
JITTER_MS: Final = Limits(5, 30)
LOSS_PERCENT: Final = Limits(0, 2)


def worst(grades: Sequence[Grade]) -> Grade:
    """The worst of them; unacceptable where there are none."""
    return max(grades, key=_ORDER.index, default=Grade.UNACCEPTABLE)


@attrs.frozen
class Direction:
    """One way. Latencies in ms (the median is judged), none where nothing is known of them; ``jitter_ms`` mean and highest of RFC 3550's."""

    sent: int
    lost: int
    latency_ms: float | None
    latency_p95_ms: float | None
    latency_max_ms: float | None
    jitter_ms: float | None
    jitter_max_ms: float | None
    overtaken: int = 0
    duplicates: int = 0

    @property
    def loss_percent(self) -> float:
        """Of what was sent."""
        return 100 * self.lost / self.sent if self.sent else 100.0

    @property
    def grades(self) -> dict[str, Grade]:
        """Each figure that is known, graded."""
        found = {"loss": LOSS_PERCENT.grade(self.loss_percent)}
        if self.latency_ms is not None:
            found["latency"] = LATENCY_MS.grade(self.latency_ms)
        if self.jitter_ms is not None:
            found["jitter"] = JITTER_MS.grade(self.jitter_ms)
        return found

    @property
    def grade(self) -> Grade:
        """The worst of them."""
        return worst(list(self.grades.values()))


@attrs.frozen
class Path:
    """What was found: ``there`` and ``back`` (none where both are one figure: a parrot's), round trips, and how wrong a one-way latency may be."""

    there: Direction
    back: Direction | None
    round_trip_ms: float | None
    round_trip_least_ms: float | None
    uncertainty_ms: float | None
    answerers: int = 1

    @property
    def grade(self) -> Grade:
        """As good as the worse direction."""
        return worst([each.grade for each in (self.there, self.back) if each is not None])

    @property
    def doubtful(self) -> bool:
        """Whether a path that is longer one way than the other could have another grade."""
        if self.uncertainty_ms is None:
            return False
        for direction in (self.there, self.back):
            if direction is None or direction.latency_ms is None:
                continue
            slower = LATENCY_MS.grade(direction.latency_ms + self.uncertainty_ms)
            if (
                slower is not LATENCY_MS.grade(direction.latency_ms)
                and worst([slower, self.grade]) is not self.grade
            ):
                return True
        return False


@attrs.frozen
class _Sample:
    """One probe that was answered; nanoseconds, of two clocks."""

    sequence: int
    sent: int
    received: int
    answered: int
    came: int


class Asker:
    """Sends a run of probes, at ``per_s``, ``count`` in all, ``size`` bytes each; ``run`` is a random number of 32 bits."""

    def __init__(self, run: int, count: int, *, per_s: float = PROBES_PER_S, size: int = SIZE) -> None:
        if not 1 <= count <= MAX_PROBES:
            raise LocalError(f"a run has 1 to {MAX_PROBES} probes, not {count}")
        self.run = run & 0xFFFF_FFFF
        self.count = count
        self.spacing_s = 1 / per_s
        #: Probes that were given out, and handed to the network.
        self.sent = 0
        #: Probes of the run that the far end has counted, as far as it has said; none before it has.
        self.counted: int | None = None
        #: Whether anybody has answered.
        self.answered = False
        #: Whether the far end has told the count of the whole run.
        self.complete = False
        self.duplicates = self.strange = 0
        #: Bytes of a probe.
        self.size = size
        self._asked = 0
        self._samples: dict[int, _Sample] = {}
        self._answerer: int | None = None
        self._others: set[int] = set()
        self._order: list[int] = []

    def ask(self, now: float) -> bytes:
        """Is anybody there, or: how many have come? Every :data:`ASK_EVERY_S` until it is answered."""
        self._asked += 1
        return Probe(
            Kind.ASK, self.run, self.run, self._asked, round(now * _NS), count=self.sent, size=self.size
        ).encode()

    def probe(self, now: float) -> bytes:
        """The next probe, to be sent now; call :meth:`went` with whether it was."""
        return Probe(Kind.PROBE, self.run, self.run, self.sent, round(now * _NS), size=self.size).encode()

    def went(self) -> None:
        """The probe that was given last is on its way."""
        self.sent += 1

    def heard(self, payload: bytes, now: float) -> None:
        """Something came; what is no answer to this run is passed over (and counted where it is a probe)."""
        try:
            probe = Probe.decode(payload)
        except MalformedProbe:
            return
        if probe.run != self.run or probe.kind not in (Kind.ANSWER, Kind.COUNT):
            self.strange += 1
            return
        if self._answerer is None:
            self._answerer = probe.sender
        elif probe.sender != self._answerer:
            self._others.add(probe.sender)  # somebody else answers on this stream too: one path is measured
            return
        self.answered = True
        if probe.kind is Kind.COUNT:
            if self.sent:
                self.counted = max(probe.count, self.counted or 0)
                self.complete |= self.sent >= self.count
            return
        if probe.sequence >= self.sent:
            self.strange += 1
        elif probe.sequence in self._samples:
            self.duplicates += 1
        else:
            self.counted = max(probe.count, self.counted or 0)
            self._samples[probe.sequence] = _Sample(
                probe.sequence, probe.sent_ns, probe.received_ns, probe.answered_ns, round(now * _NS)
            )
            self._order.append(probe.sequence)

    def report(self) -> Path:
        """What is known so far."""
        samples = [self._samples[sequence] for sequence in self._order]
        counted = min(self.sent, max(self.counted or 0, len(samples)))
        offsets = _offsets(samples)
        there = [
            (each.sent, each.received, each.received - each.sent - offsets[_window(each)]) for each in samples
        ]
        back = [
            (each.answered, each.came, each.came - each.answered + offsets[_window(each)]) for each in samples
        ]
        rounds = sorted(each.came - each.sent - (each.answered - each.received) for each in samples)
        least = rounds[0] / _MS if rounds else None
        return Path(
            there=_direction(there, self.sent, self.sent - counted),
            back=_direction(back, counted, counted - len(samples), self.duplicates),
            round_trip_ms=_percentile(rounds, 0.5),
            round_trip_least_ms=least,
            uncertainty_ms=None if least is None else max(0.0, least / 2),
            answerers=len(self._others) + (self._answerer is not None),
        )


class Echo:
    """The asker where a parrot answers: it sends what was said back with its spacing when all is said, so that loss and jitter are of both ways together."""

    def __init__(self, run: int, count: int, *, per_s: float = PROBES_PER_S, size: int = SIZE) -> None:
        self._asker = Asker(run, count, per_s=per_s, size=size)
        self._came: dict[int, tuple[int, int]] = {}
        self._duplicates = 0
        self.count = count
        self.size = size
        self.spacing_s = self._asker.spacing_s

    @property
    def sent(self) -> int:
        """Probes that are on their way."""
        return self._asker.sent

    @property
    def heard_all(self) -> bool:
        """Whether everything has come back."""
        return len(self._came) >= self.sent > 0

    @property
    def heard_any(self) -> bool:
        """Whether anything has come back."""
        return bool(self._came)

    def probe(self, now: float) -> bytes:
        """See :meth:`Asker.probe`."""
        return self._asker.probe(now)

    def went(self) -> None:
        """See :meth:`Asker.went`."""
        self._asker.went()

    def heard(self, payload: bytes, now: float) -> None:
        """Something came: ours, or it is passed over."""
        try:
            probe = Probe.decode(payload)
        except MalformedProbe:
            return
        if probe.run != self._asker.run or probe.kind is not Kind.PROBE or probe.sequence >= self.sent:
            return
        if probe.sequence in self._came:
            self._duplicates += 1
        else:
            self._came[probe.sequence] = (probe.sent_ns, round(now * _NS))

    def report(self, round_trip_s: float | None) -> Path:
        """What is known; ``round_trip_s`` is the link's own, half of which is the latency."""
        times = [(sent, came, 0) for sent, came in self._came.values()]
        both = _direction(times, self.sent, self.sent - len(times), self._duplicates)
        half = None if round_trip_s is None else round_trip_s * 500
        both = attrs.evolve(both, latency_ms=half, latency_p95_ms=None, latency_max_ms=None)
        trip = None if round_trip_s is None else round_trip_s * 1_000
        return Path(both, None, trip, trip, half)


@attrs.define
class _Run:
    """What an answerer knows of one run; ``came`` has a bit for each probe."""

    came: bytearray
    count: int = 0


class Answerer:
    """Answers probes; ``sender`` is a random number of 32 bits that says who answers."""

    def __init__(self, sender: int) -> None:
        self.sender = sender & 0xFFFF_FFFF
        #: Probes answered, duplicates included; not answered because there were too many in a second; runs begun.
        self.answered = self.throttled = self.runs = 0
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._second = -1
        self._in_second = 0

    def heard(self, payload: bytes, now: float) -> Probe | None:
        """What to answer (:meth:`Probe.encode`), or nothing: it is no question, or one too many."""
        try:
            probe = Probe.decode(payload)
        except MalformedProbe:
            return None
        if probe.kind not in (Kind.PROBE, Kind.ASK) or probe.sequence >= MAX_PROBES:
            return None
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        if self._in_second > ANSWERS_PER_S:
            self.throttled += 1
            return None
        run = self._runs.get(probe.run)
        if run is None:
            self.runs += 1
            run = self._runs[probe.run] = _Run(bytearray())
            if len(self._runs) > RUNS_MAX:
                self._runs.popitem(last=False)
        self._runs.move_to_end(probe.run)
        if probe.kind is Kind.PROBE:
            place, bit = probe.sequence // 8, 1 << probe.sequence % 8
            if place >= len(run.came):
                run.came.extend(bytes(place + 1 - len(run.came)))
            if not run.came[place] & bit:
                run.came[place] |= bit
                run.count += 1
        self.answered += 1
        at = round(now * _NS)
        return probe.answer(self.sender, at, at, run.count)


def _window(sample: _Sample) -> int:
    return sample.sent // OFFSET_WINDOW_NS


def _offsets(samples: Sequence[_Sample]) -> dict[int, int]:
    """By how much the far clock is ahead, in each window of time; nanoseconds."""
    quickest: dict[int, tuple[int, int]] = {}
    for each in samples:
        there, back = each.received - each.sent, each.came - each.answered
        least = quickest.get(_window(each), (there, back))
        quickest[_window(each)] = min(least[0], there), min(least[1], back)
    return {window: (there - back) // 2 for window, (there, back) in quickest.items()}


def _direction(times: Sequence[tuple[int, int, int]], sent: int, lost: int, duplicates: int = 0) -> Direction:
    """From (sent, came, latency) of each packet, in nanoseconds."""
    latencies = sorted(latency for _, _, latency in times)
    arrived = sorted(times, key=lambda each: each[1])
    jitters: list[float] = []
    jitter = 0.0
    overtaken = 0
    for (sent_a, came_a, _), (sent_b, came_b, _) in itertools.pairwise(arrived):
        jitter += (abs((came_b - came_a) - (sent_b - sent_a)) - jitter) / 16
        jitters.append(jitter)
        overtaken += sent_b < sent_a
    settled = jitters[_RISE:] if len(jitters) > 2 * _RISE else jitters
    return Direction(
        sent=sent,
        lost=max(0, lost),
        latency_ms=_percentile(latencies, 0.5),
        latency_p95_ms=_percentile(latencies, 0.95),
        latency_max_ms=_percentile(latencies, 1.0),
        jitter_ms=math.fsum(settled) / len(settled) / _MS if settled else None,
        jitter_max_ms=max(jitters) / _MS if jitters else None,
        overtaken=overtaken,
        duplicates=duplicates,
    )


def _percentile(ordered: Sequence[int], share: float) -> float | None:
    """A percentile of ordered nanoseconds, in ms; never below 0, which only rounding and clocks that run apart can bring about."""
    if not ordered:
        return None
    return max(0, ordered[min(len(ordered) - 1, int(share * len(ordered)))]) / _MS
