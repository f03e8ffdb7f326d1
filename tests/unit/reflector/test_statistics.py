"""Loss and jitter, as RFC 3550 reckons them, per talker."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.reflector.statistics import Reception


class ReceptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reception = Reception()

    def hear(self, number: int, late_s: float = 0.0, payload_type: int = 0, marker: bool = False) -> None:
        at = 1_000.0 + number * 0.02 + late_s
        self.reception.heard(payload_type | marker << 7, number & 0xFFFF, 160 * number & 0xFFFF_FFFF, at)

    def test_even(self) -> None:
        """Packets at their pace, over the wrap of the numbers: no loss, no jitter."""
        for number in range(65_000, 66_000):
            self.hear(number)
        report = self.reception.report()
        self.assertEqual((report.packets, report.lost, report.payload_type), (1_000, 0, 0))
        self.assertAlmostEqual(report.jitter_ms or 0.0, 0.0, places=3)

    def test_lost_and_late(self) -> None:
        """Gaps are loss, until what was missing comes after all."""
        for number in (0, 1, 4, 5, 3):
            self.hear(number)
        self.assertEqual(self.reception.lost, 1)

    def test_jitter(self) -> None:
        """Every second packet 8 ms late: the mean difference is 8 ms, which the estimate approaches by sixteenths."""
        for number in range(500):
            self.hear(number, 0.008 * (number % 2))
        self.assertAlmostEqual(self.reception.report().jitter_ms or 0.0, 8.0, places=1)

    def test_a_new_burst(self) -> None:
        """Neither the pause nor where timestamps and numbers begin anew is loss or jitter."""
        for number in range(50):
            self.hear(number)
        for number in range(50):
            self.reception.heard(
                0x80 if not number else 0, 40_000 + number, 77_777 + 160 * number, 2_000.0 + 0.02 * number
            )
        for number in range(10):  # the same numbers again, after a pause
            self.reception.heard(0, number, 160 * number, 3_000.0 + 0.02 * number)
        report = self.reception.report()
        self.assertEqual((report.packets, report.lost), (110, 0))
        self.assertAlmostEqual(report.jitter_ms or 0.0, 0.0, places=3)

    def test_unknown_codec(self) -> None:
        """Without a clock there is no jitter to tell; loss there is."""
        for number in (0, 1, 3):
            self.hear(number, payload_type=119)
        report = self.reception.report()
        self.assertEqual((report.lost, report.jitter_ms), (1, None))

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                *[st.integers(0, 255), st.integers(0, 65_535), st.integers(0, 2**32 - 1)], st.floats(0, 10)
            ),
            max_size=50,
        )
    )
    def test_anything(self, packets: list[tuple[int, int, int, float]]) -> None:
        """Nothing that can stand in a header is an error, and nothing becomes negative."""
        now, reception = 0.0, Reception()
        for second, number, timestamp, wait in packets:
            now += wait
            reception.heard(second, number, timestamp, now)
        report = reception.report()
        self.assertEqual(report.packets, len(packets))
        self.assertGreaterEqual(report.lost, 0)
        self.assertGreaterEqual(report.jitter_ms or 0.0, 0.0)
