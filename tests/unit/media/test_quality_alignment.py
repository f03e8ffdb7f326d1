"""The laying of one picture over another: where the lag goes, and what is missing or inserted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media.quality_alignment import FINE, Alignment, align

LAGS = 25


def laid(lags: list[int | None], *, active: bool = True, heard: bool = True) -> Alignment:
    """Moments that are found at these lags alone, or nowhere."""
    cost = np.ones((len(lags), LAGS))
    for moment, lag in enumerate(lags):
        if lag is not None:
            cost[moment, lag] = 0.0
    places = FINE * len(lags) + LAGS
    return align(cost, np.full(len(lags), active), np.full(places, heard))


class Laying(SynchronousTestCase):
    def test_one_lag(self) -> None:
        """What lies at one lag stays there."""
        found = laid([5] * 20)
        self.assertEqual((found.lags.tolist(), found.missing.any(), found.inserted), ([5] * 20, False, 0.0))

    def test_more_than_was_spoken(self) -> None:
        """The lag grows where something was inserted; what is heard there counts, silence does not."""
        lags: list[int | None] = [5] * 10 + [5 + 2 * FINE] * 10
        for heard, inserted in ((True, 2.0), (False, 0.0)):
            found = laid(lags, heard=heard)
            self.assertEqual(
                (found.lags.tolist(), found.missing.any(), found.inserted), (lags, False, inserted)
            )

    def test_less_than_was_spoken(self) -> None:
        """The lag falls by a moment for each that is missing."""
        found = laid([9] * 10 + [None, None] + [9 - 2 * FINE] * 10)
        self.assertEqual(found.lags.tolist(), [9] * 10 + [9 - FINE] + [9 - 2 * FINE] * 11)
        self.assertEqual(np.flatnonzero(found.missing).tolist(), [10, 11])
        self.assertEqual(found.inserted, 0.0)

    def test_a_single_stray_moment(self) -> None:
        """A moment that fits elsewhere by chance moves nothing: to go there and back would cost more."""
        found = laid([5] * 10 + [13] + [5] * 10)
        self.assertEqual(found.lags.tolist(), [5] * 21)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 30), st.integers(0, 2**32 - 1))
    def test_always_possible(self, moments: int, seed: int) -> None:
        """Whatever the costs are, time runs forwards, no lag is outside, and no more is missing or inserted than there is."""
        chance = np.random.default_rng(seed)
        places = FINE * moments + LAGS
        found = align(
            chance.random((moments, LAGS)), chance.random(moments) < 0.5, chance.random(places) < 0.5
        )
        self.assertTrue(np.all((found.lags >= 0) & (found.lags < LAGS)))
        self.assertTrue(np.all(np.diff(found.lags) >= -FINE))
        self.assertTrue(0.0 <= found.inserted <= places / FINE)
