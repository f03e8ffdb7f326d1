"""Traces and what two of them say together."""

import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.trace import Trace, Traced, compare, parse_trace, percentile, read_trace
from ice.errors import LocalError


class TraceTests(SynchronousTestCase):
    def test_written_and_read(self) -> None:
        """What is written is read back, with the time of writing."""
        path = Path(self.mktemp())
        times = iter((5_000_000_000, 5_020_000_000))
        with Trace(path, clock_ns=lambda: next(times)) as trace:
            trace.write("sent", 0xFEDCBA9876543210, 0, 3, 120)
            trace.write("sent", 0xFEDCBA9876543210, 1, 0, 80)
        self.assertEqual(
            read_trace(path),
            [
                Traced("sent", 0xFEDCBA9876543210, 0, 3, 120, 5_000_000_000),
                Traced("sent", 0xFEDCBA9876543210, 1, 0, 80, 5_020_000_000),
            ],
        )

    def test_where_it_cannot_be_written(self) -> None:
        """A folder that is not there is told by name."""
        error = self.assertRaises(LocalError, Trace, Path("/nowhere/at/all.jsonl"))
        self.assertIn("/nowhere/at/all.jsonl", str(error))

    def test_no_trace(self) -> None:
        """A missing file and a foreign line are told with their place."""
        self.assertIn("cannot be read", str(self.assertRaises(LocalError, read_trace, Path("/nowhere"))))
        for line in ("hello", "[]", "{}", '{"what":"sent","source":"xyz"}', "[" * 10_000):
            error = self.assertRaises(LocalError, list, parse_trace([line], "a.jsonl"))
            self.assertTrue(str(error).startswith("a.jsonl:1: "), error)


def sent(sequence: int, at_ms: float, source: int = 7) -> Traced:
    return Traced("sent", source, sequence, 0, 100, int(at_ms * 1e6))


class CompareTests(SynchronousTestCase):
    def test_latency_loss_and_copies(self) -> None:
        """Names match in any order; what is missing is lost, what came twice counts once and is told."""
        comparison = compare(
            [sent(0, 0), sent(1, 20), sent(2, 40)],
            [sent(2, 43), sent(0, 1), sent(0, 99), sent(5, 1, source=8)],
        )
        self.assertEqual((comparison.sent, comparison.received, comparison.lost), (3, 2, 1))
        self.assertEqual(comparison.duplicated, 1)
        self.assertEqual(comparison.latency_ms, (1.0, 3.0))

    def test_nothing_received(self) -> None:
        """Without any datagram there is no latency, and no error."""
        self.assertTrue(math.isnan(compare([sent(0, 0)], []).percentile_ms(99)))

    def test_percentile(self) -> None:
        """The nearest rank: p50 of 1…100 is 50, p99 99, p100 100."""
        values = [float(n) for n in range(100, 0, -1)]
        self.assertEqual([percentile(values, p) for p in (50, 99, 100, 0)], [50.0, 99.0, 100.0, 1.0])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 100))
    def test_percentile_is_a_value(self, values: list[float], percent: float) -> None:
        """A percentile is always one of the values, and no fewer than its share lie at or below it."""
        found = percentile(values, percent)
        self.assertIn(found, values)
        self.assertGreaterEqual(sum(v <= found for v in values), math.floor(len(values) * percent / 100))
