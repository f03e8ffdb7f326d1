"""Deadlines: everybody at their time, nobody twice, nobody forgotten."""

from weakref import ref

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.rallypoint.agenda import Agenda

NEVER = float("inf")


class Somebody:
    """Who can be due."""

    due = NEVER


class AgendaTests(SynchronousTestCase):
    """One agenda."""

    def test_in_order(self) -> None:
        """Who was due first comes first, and only when it is due."""
        agenda: Agenda[Somebody] = Agenda()
        one, two = Somebody(), Somebody()
        agenda.expect(one, 2.0)
        agenda.expect(two, 1.0)
        self.assertIsNone(agenda.take(0.9))
        self.assertEqual([agenda.take(5.0), agenda.take(5.0), agenda.take(5.0)], [two, one, None])

    def test_moved(self) -> None:
        """A deadline that moved, either way, or was given up, counts once and at its last time."""
        agenda: Agenda[Somebody] = Agenda()
        one, two, three = Somebody(), Somebody(), Somebody()
        for due in (3.0, 1.0, 2.0):
            agenda.expect(one, due)
        agenda.expect(two, 1.0)
        agenda.expect(two, 4.0)
        agenda.expect(three, 1.0)
        agenda.expect(three, NEVER)
        self.assertIsNone(agenda.take(1.9))
        self.assertEqual([agenda.take(2.0), agenda.take(3.9)], [one, None])
        self.assertEqual([agenda.take(4.0), agenda.take(9.0), len(agenda)], [two, None, 0])

    def test_taken_is_due_no_more(self) -> None:
        """Until it is expected again."""
        agenda: Agenda[Somebody] = Agenda()
        one = Somebody()
        agenda.expect(one, 1.0)
        self.assertIs(agenda.take(1.0), one)
        self.assertEqual(one.due, NEVER)
        agenda.expect(one, 1.0)
        self.assertIs(agenda.take(1.0), one)

    def test_nobody_is_kept(self) -> None:
        """Who is gone is gone, and the agenda passes over it."""
        agenda: Agenda[Somebody] = Agenda()
        one, two = Somebody(), Somebody()
        agenda.expect(one, 1.0)
        agenda.expect(two, 2.0)
        gone = ref(one)
        del one
        self.assertIsNone(gone())
        self.assertIs(agenda.take(5.0), two)

    @given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10)), max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_everybody_once(self, wishes: list[tuple[int, float]]) -> None:
        """Whatever was expected in whatever order, each comes once, at the time it was last expected."""
        agenda: Agenda[Somebody] = Agenda()
        people = [Somebody() for _ in range(5)]
        last: dict[Somebody, float] = {}
        for who, due in wishes:
            agenda.expect(people[who], due)
            last[people[who]] = due
        seen = []
        for now in sorted(last.values()):
            while (item := agenda.take(now)) is not None:
                self.assertLessEqual(last[item], now)
                seen.append(item)
        self.assertEqual(len(seen), len(last))
        self.assertEqual(set(seen), set(last))
