"""Statistics of interleaved runs: ratios within a repeat, their median, and how sure it is.

Two servers are only ever compared by runs of the same repeat, which were minutes and not hours apart: a machine that is twice
as slow after lunch changes both alike. The interval is a percentile bootstrap (Efron, 1979) of the median of those ratios; with ten pairs it
is honest about noise, though a little too narrow, and with fewer than five it is only the range.
"""

import math
import random
from collections.abc import Mapping, Sequence
from enum import StrEnum

import attrs

RESAMPLES = 5_000  # the ends of a 95 % interval then rest on 125 values each
CONFIDENCE = 0.95
FEWEST = 5  # of fewer values a resampled median is one of them and says nothing new


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two.

    :raises ValueError: there is none.
    """
    if not values:
        raise ValueError("the median of nothing")
    ranked = sorted(values)
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


@attrs.frozen
class Summary:
    """Several values of one figure: median, least, greatest, and how many."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


@attrs.frozen
class Ratio:
    """Paired ratios: their median, its interval, their range, and how many pairs."""

    median: float
    low: float
    high: float
    least: float
    greatest: float
    pairs: int


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Ours to theirs in every repeat that has both, theirs not zero."""
    return [ours[repeat] / theirs[repeat] for repeat in sorted(ours.keys() & theirs.keys()) if theirs[repeat]]


def interval(values: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """The interval that holds the true median with :data:`CONFIDENCE`; the same values give the same one."""
    if len(values) < FEWEST:
        return min(values), max(values)
    chance = random.Random(seed)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    return medians[math.floor(tail * RESAMPLES)], medians[math.ceil((1 - tail) * RESAMPLES) - 1]


def compare(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Ratio | None:
    """The paired ratio of two servers, by repeat; None when no repeat has both."""
    paired = ratios(ours, theirs)
    if not paired:
        return None
    low, high = interval(paired)
    return Ratio(median(paired), low, high, min(paired), max(paired), len(paired))


class Verdict(StrEnum):
    """Whether a goal is met."""

    SURE = "yes"  # the whole interval is on the right side
    LIKELY = "yes?"  # the median is
    UNLIKELY = "no?"  # the median is not, but the interval touches it
    MISSED = "no"

    @property
    def met(self) -> bool:
        """By the median."""
        return self in (Verdict.SURE, Verdict.LIKELY)


def judge(ratio: Ratio, goal: float, more_is_better: bool) -> Verdict:
    """Whether ``ratio`` reaches ``goal``: at most that much of a cost, at least that much of a yield.

    Fewer than :data:`FEWEST` pairs make nothing sure.
    """
    values = (ratio.low, ratio.median, ratio.high)
    best_to_worst = tuple(-value for value in reversed(values)) if more_is_better else values
    limit = -goal if more_is_better else goal
    best, middle, worst = best_to_worst
    if ratio.pairs < FEWEST:
        return Verdict.LIKELY if middle <= limit else Verdict.UNLIKELY
    if worst <= limit:
        return Verdict.SURE
    if middle <= limit:
        return Verdict.LIKELY
    return Verdict.UNLIKELY if best <= limit else Verdict.MISSED
