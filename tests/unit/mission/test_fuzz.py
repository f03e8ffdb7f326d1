"""A short run of the fuzzer; long ones are run by hand (``python -m tests.unit.mission.fuzz SEED COUNT``)."""

from twisted.trial.unittest import SynchronousTestCase

from ice.mission import packing
from tests.unit.mission.fuzz import fuzz_mission


class Fuzz(SynchronousTestCase):
    def test_a_few_hundred(self) -> None:
        """Damaged missions are read or refused by us, and what is read is written and read again the same."""
        self.patch(packing, "_SCRYPT_N", 2)
        ends = fuzz_mission(5, 400)
        self.assertEqual(sum(ends.values()), 400)
        self.assertGreater(ends["read"], 50)
        self.assertGreater(ends["MissionError"], 50)

    def test_repeatable(self) -> None:
        """The same seed tries the same."""
        self.assertEqual(fuzz_mission(7, 30), fuzz_mission(7, 30))
