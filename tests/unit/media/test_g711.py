"""G.711 against the recommendation's own tables of decision values."""

from bisect import bisect_left, bisect_right

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media import g711

ALL = np.arange(-32_768, 32_768).astype(np.int16)


def decision_values(first: int, doubling_after: list[int]) -> list[int]:
    """Decision values on the 16-bit scale: steps of ``first``, doubling after so many intervals, 128 intervals in all."""
    values, step = [0], first
    for intervals in doubling_after:
        for _ in range(intervals):
            values.append(values[-1] + step)
        step *= 2
    return values


def mu_decisions() -> list[int]:
    """G.711 table 2: x1 = 0, x2 = 1, then 15 steps of 2, 16 of 4, 16 of 8 … up to 8,159, on a scale of 14 bits."""
    values = [0, 1]
    for step, count in ((2, 15), (4, 16), (8, 16), (16, 16), (32, 16), (64, 16), (128, 16), (256, 16)):
        for _ in range(count):
            values.append(values[-1] + step)
    assert values[-1] == 8_159
    return [4 * value for value in values]


def a_decisions() -> list[int]:
    """G.711 table 1: 32 steps of 2, then 16 each of 4, 8 … 128, up to 4,096, on a scale of 13 bits."""
    values = decision_values(2, [32, 16, 16, 16, 16, 16, 16])
    assert values[-1] == 4_096
    return [8 * value for value in values]


def interval(decisions: list[int], sample: int) -> int:
    """The number of the sample's interval, counted from zero: closed below for positive samples, mirrored for negative ones."""
    if sample >= 0:
        return min(bisect_right(decisions, sample) - 1, 127)
    return min(max(bisect_left(decisions, -sample) - 1, 0), 127)


def mu_code(sample: int, decisions: list[int]) -> int:
    """Table 2: the character signal counts down from 1111 1111 (positive) or 0111 1111 (negative)."""
    return (0xFF if sample >= 0 else 0x7F) - interval(decisions, sample)


def a_code(sample: int, decisions: list[int]) -> int:
    """Table 1: the character signal counts up from 1000 0000 or 0000 0000, then its even bits are inverted."""
    return ((0x80 if sample >= 0 else 0x00) + interval(decisions, sample)) ^ 0x55


class EncodeTests(SynchronousTestCase):
    def test_mu_all_values(self) -> None:
        """All 65,536 samples fall into the intervals of the recommendation."""
        decisions = mu_decisions()
        self.assertEqual(g711.encode_mu(ALL), bytes(mu_code(int(sample), decisions) for sample in ALL))

    def test_a_all_values(self) -> None:
        """All 65,536 samples fall into the intervals of the recommendation."""
        decisions = a_decisions()
        self.assertEqual(g711.encode_a(ALL), bytes(a_code(int(sample), decisions) for sample in ALL))

    def test_known_codes(self) -> None:
        """Zero, its mirror, and both overload points."""
        edge = np.array([0, -1, 32_767, -32_768], np.int16)
        self.assertEqual(g711.encode_mu(edge).hex(), "ff7f8000")
        self.assertEqual(g711.encode_a(edge).hex(), "d555aa2a")

    def test_boundaries(self) -> None:
        """A positive sample on a decision value belongs above it, a negative one nearer to zero."""
        samples = np.array([3, 4, 11, 12, -4, -5, -12, -13], np.int16)
        self.assertEqual(g711.encode_mu(samples).hex(), "fffefefd7f7e7e7d")
        samples = np.array([15, 16, -16, -17], np.int16)
        self.assertEqual(g711.encode_a(samples).hex(), "d5d45554")


class DecodeTests(SynchronousTestCase):
    def test_middle_of_each_interval(self) -> None:
        """Every code becomes the middle of its interval (the first of µ-law becomes zero)."""
        for decisions, code, decode in (
            (mu_decisions(), mu_code, g711.decode_mu),
            (a_decisions(), a_code, g711.decode_a),
        ):
            for number in range(128):
                low, high = decisions[number], decisions[number + 1]
                middle = 0 if decode is g711.decode_mu and number == 0 else (low + high) // 2
                pair = bytes((code(low, decisions), code(-low - 1, decisions)))
                self.assertEqual(decode(pair).tolist(), [middle, -middle])

    def test_round_trip_of_codes(self) -> None:
        """Decoding and encoding again keeps every code; only µ-law's negative zero becomes the positive one."""
        codes = bytes(range(256))
        self.assertEqual(g711.encode_a(g711.decode_a(codes)), codes)
        self.assertEqual(g711.encode_mu(g711.decode_mu(codes)), codes.replace(b"\x7f", b"\xff"))

    def test_digital_milliwatt(self) -> None:
        """The recommendation's 1 kHz sequences (tables 5 and 6) are one sine at 0 dBm0, in both laws."""
        mu = g711.decode_mu(bytes.fromhex("1e0b0b1e9e8b8b9e")).astype(float)
        a = g711.decode_a(bytes.fromhex("34212134b4a1a1b4")).astype(float)
        # The theoretical overload levels are 3.17 dBm0 and 3.14 dBm0, at the last decision values.
        for wave, overload, level in ((mu, 4 * 8_159, -3.17), (a, 8 * 4_096, -3.14)):
            self.assertEqual(wave[:4].tolist(), (-wave[4:]).tolist())
            peak = np.sqrt(2 * np.mean(wave**2))
            self.assertApproximates(float(20 * np.log10(peak / overload)), level, 0.02)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        """Every byte string is G.711, one sample per byte."""
        self.assertEqual(len(g711.decode_mu(data)), len(data))
        self.assertEqual(g711.decode_a(data).dtype, np.int16)

    def test_strided_input(self) -> None:
        """A view that skips samples is encoded as what it shows."""
        self.assertEqual(g711.encode_mu(ALL[::7]), g711.encode_mu(ALL[::7].copy()))
