"""A group's rules: how many must be heard, what a place in the list is worth, how times scale; and whose clock is wrong."""

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.election.clocks import SEEN_CYCLES, Clocks, Wrong
from ice.election.fence import Fence
from ice.election.rules import MAX_MEMBERS, Group, Member, Quorum
from ice.errors import LocalError
from tests.unit.election.groups import MS, SALT, group, with_members


class Rules(SynchronousTestCase):
    def test_quorum(self) -> None:
        """The documented table: ballots that are needed, one's own included."""
        table = {
            Quorum.NONE: [1, 1, 1, 1, 1],
            Quorum.MAJORITY: [1, 2, 2, 3, 3],
            Quorum.N_MINUS_1: [1, 1, 2, 3, 4],
        }
        for quorum, needed in table.items():
            self.assertEqual([group(size, quorum).required for size in range(1, 6)], needed)

    def test_votes(self) -> None:
        """As many votes as members for the first, down to one; none when not ready; negative out of service."""
        three = with_members(group(3), "bca", disabled="c")
        self.assertEqual([three.votes_of(id, ready=True, stored=True) for id in "abc"], [1, 3, -2])
        self.assertEqual([three.votes_of(id, ready=False, stored=True) for id in "abc"], [0, 0, -2])
        self.assertEqual([three.votes_of(id, ready=False, stored=False) for id in "abc"], [-1, -3, -2])

    def test_times(self) -> None:
        """Clocks may differ by half a cycle, at least half a second, at most five."""
        self.assertEqual(
            [group(cycle_s=cycle).tolerance_s for cycle in (0.1, 1, 4, 10, 60)], [0.5, 0.5, 2, 5, 5]
        )
        self.assertEqual([group(cycle_s=cycle).valid_s for cycle in (0.1, 10)], [0.2, 20])

    def test_wrong(self) -> None:
        """Groups that cannot be are refused, with the reason."""
        for wrong in ({"members": ()}, {"cycle_s": 0.09}, {"cycle_s": float("nan")}, {"cycle_s": 601}):
            self.assertRaises(LocalError, attrs.evolve, group(), **wrong)
        twice: Any = (Member("a"), Member("a"))
        self.assertIn("twice", str(self.assertRaises(LocalError, Group, "g", twice)))
        many: Any = tuple(Member(str(number)) for number in range(MAX_MEMBERS + 1))
        self.assertRaises(LocalError, Group, "g", many)

    def test_secret(self) -> None:
        """A group that is shown does not show its salt."""
        self.assertNotIn(repr(SALT), repr(group()))


class WhoseClock(SynchronousTestCase):
    def verdict(self, *ahead: float, cycle_s: float = 10.0) -> Wrong | None:
        clocks = Clocks(group(7, cycle_s=cycle_s))
        for number, each in enumerate(ahead):
            clocks.see(str(number), each, 0.0)
        return clocks.verdict(0.0)

    def test_outvoted(self) -> None:
        """Two others that agree, and are more than those who agree with us, put us in the wrong."""
        self.assertEqual(self.verdict(3_600, 3_601), Wrong(2, 3_601))
        self.assertEqual(self.verdict(-8, -9, 0.1), None)  # two against two
        self.assertEqual(self.verdict(-8, -9, -7, 0.1), Wrong(3, -8))

    def test_not_decided(self) -> None:
        """One other cannot put us in the wrong, nor can two that disagree, nor one of two halves the other."""
        self.assertIsNone(self.verdict())
        self.assertIsNone(self.verdict(3_600))
        self.assertIsNone(self.verdict(3_600, -3_600))
        self.assertIsNone(self.verdict(3_600, 3_600, 0))
        self.assertIsNone(self.verdict(5, 5))  # within the tolerance

    def test_late_ballots(self) -> None:
        """Ballots that come late make no clock wrong while a prompt one is remembered."""
        clocks = Clocks(group())
        for id in "bc":
            clocks.see(id, 0.0, 0.0)
            for moment in range(1, 4):
                clocks.see(id, -8.0, moment * 7.0)
        self.assertIsNone(clocks.verdict(21.0))
        self.assertEqual(clocks.verdict(SEEN_CYCLES * 10 + 1), Wrong(2, -8.0))
        self.assertIsNone(clocks.verdict(60.0))  # nothing heard for long: nothing known

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(-20, 20), min_size=2, max_size=7), st.integers(0, 6))
    def test_not_everybody(self, clocks_s: list[float], who: int) -> None:
        """Never does everybody exclude himself."""
        verdicts = [
            self.verdict(*(other - own for place, other in enumerate(clocks_s) if place != number))
            for number, own in enumerate(clocks_s)
        ]
        self.assertIn(None, verdicts)


class Fences(SynchronousTestCase):
    def test_right(self) -> None:
        """The right holds before its end, by both clocks; there is none at first and none after it is revoked."""
        fence = Fence()
        self.assertFalse(fence.allows(0.0, MS))
        fence.grant(105.0, 100.0, MS)
        self.assertEqual(fence.left_s(101.0, MS + 1_000), 4.0)
        for now, unix_ms, allowed in (
            (100.0, MS, True),
            (104.999, MS + 4_999, True),
            (105.0, MS + 4_999, False),
            (101.0, MS + 5_000, False),  # the machine stood still, and its first clock with it
            (104.0, MS - 3_600_000, True),  # put back: no longer, no shorter
            (105.0, MS - 3_600_000, False),
        ):
            self.assertEqual(fence.allows(now, unix_ms), allowed, (now, unix_ms))
        fence.revoke()
        self.assertFalse(fence.allows(100.0, MS))
