"""Which moment of what was heard is which moment of what was spoken, where a jitter buffer may have changed its delay between any two.

A *picture* (:mod:`ice.media.quality`) is laid over the other as a ribbon is over a rod: the heard one may be stretched and cut, and each stretch and each cut is accounted for. Of all ways to lay it
the cheapest is taken (dynamic programming over the *lag*, by how much the heard is later):

=========================  ===========================================================================
step                       costs, in moments of 10 ms
=========================  ===========================================================================
a moment is there          as much as it differs, 0–1; nothing where neither says anything
a moment is missing        1; nothing where nothing was spoken
there is more than spoken  1 for each moment in which something is heard, and :data:`OPEN` for the seam
=========================  ===========================================================================

So a pause that became longer or shorter costs next to nothing, a syllable that is lost, said twice or clipped costs all of its moments, and what a codec made up in the middle
of a word costs as long as it took.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.float32]
Numbers: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

FINE: Final = 4  # places of the heard picture to a moment of the spoken one: 2.5 ms, the least that a pitch period takes
OPEN: Final = 0.5  # moments: keeps the lag where it is unless something is gained; 5 ms are no syllable


@attrs.frozen
class Alignment:
    """``lags``: where in the heard picture each spoken moment lies, counted from its own place in steps of 2.5 ms, ``int64[moments]``. ``missing``: which moments were passed over.

    ``inserted``: moments that were heard, and are none of those spoken.
    """

    lags: Places
    missing: Flags
    inserted: float


def align(cost: Numbers, active: Flags, heard: Flags) -> Alignment:
    """The cheapest way.

    ``cost[t, k]`` 0–1: how much moment ``t`` differs from what is heard at lag ``k``. ``active[t]``: whether something was spoken. ``heard[4 * t + k]``: whether something is heard there;
    of ``4 * moments + lags`` places.
    """
    moments, lags = cost.shape
    loud = np.concatenate(([0.0], np.cumsum(heard, dtype=np.float64) / FINE))  # heard before each place
    order = np.arange(lags)
    total = np.zeros(lags)
    came_from = np.zeros((moments, lags), np.int16)  # the lag before a seam that is longer
    shorter = np.zeros((moments, lags), np.int8)  # places by which this moment was cut
    for t in range(moments):
        before = loud[FINE * t : FINE * t + lags]
        slack = total - before
        least = np.minimum.accumulate(slack)
        at = np.maximum.accumulate(np.where(slack == least, order, 0))
        longer = np.full(lags, np.inf)
        longer[1:] = before[1:] + least[:-1] + OPEN
        origin = order.copy()
        gained = longer < total
        origin[1:][gained[1:]] = at[:-1][gained[1:]]
        start = np.where(gained, longer, total)
        best, cut = start + cost[t], np.zeros(lags, np.int8)
        source = origin.copy()
        for places in range(1, FINE + 1):
            other = np.full(lags, np.inf)
            other[:-places] = start[places:] + (places / FINE if active[t] else 0.0)
            if places < FINE:
                other += cost[t]
            better = other < best - 1e-9
            best = np.where(better, other, best)
            cut[better] = places
            source[:-places][better[:-places]] = origin[places:][better[:-places]]
        total, came_from[t], shorter[t] = best, source, cut
    return _traced(total, came_from, shorter, loud)


def _traced(
    total: Numbers, came_from: npt.NDArray[np.int16], shorter: npt.NDArray[np.int8], loud: Numbers
) -> Alignment:
    """The way back from the cheapest end."""
    moments = len(came_from)
    path, missing = np.zeros(moments, np.int64), np.zeros(moments, np.bool_)
    inserted = 0.0
    lag = int(np.argmin(total))
    for t in range(moments - 1, -1, -1):
        path[t] = lag
        cut, before = int(shorter[t, lag]), int(came_from[t, lag])
        missing[t] = cut == FINE
        seam = lag + cut  # the lag after what was inserted before this moment
        inserted += float(loud[FINE * t + seam] - loud[FINE * t + before])
        lag = before
    return Alignment(path, missing, inserted)
