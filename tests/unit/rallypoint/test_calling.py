"""Whom to call, and when."""

from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.net.addresses import Address
from ice.rallypoint.calling import (
    CROSSING_S,
    EARLY_AGAIN_S,
    EARLY_S,
    MOST_AGAIN_S,
    REFUSED_AGAIN_S,
    YIELD_S,
    Calls,
    stays,
)
from ice.rallypoint.peering import Expected

LOW, OWN, HIGH = UUID(int=1), UUID(int=2), UUID(int=3)
AT = Address("rp.example.org", 7443)


def expecting(*ids: UUID, address: Address | None = AT) -> dict[UUID, Expected]:
    """These, at that address."""
    return {id: Expected(id, address) for id in ids}


class CallsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls = Calls(OWN, Random(1))

    def due(self, now: float, *linked: UUID) -> list[UUID]:
        return [expected.id for expected in self.calls.due(linked, now)]

    def test_calls_are_spread(self) -> None:
        """Nobody is called before its moment, and everybody within the spread (and the yielding)."""
        self.calls.expect(expecting(*(UUID(int=n) for n in range(10, 60))), 2.0, 100.0)
        self.assertLess(len(self.due(100.2)), 20)
        self.due(102.0)
        self.assertEqual(sum(self.calls[UUID(int=n)].calling for n in range(10, 60)), 50)

    def test_the_lower_id_calls_first(self) -> None:
        """The higher one leaves it the time to."""
        self.calls.expect(expecting(LOW, HIGH), 0.0, 0.0)
        self.assertEqual(self.due(0.0), [HIGH])
        self.assertEqual(self.due(YIELD_S), [LOW])

    def test_who_is_linked_or_has_no_address_is_not_called(self) -> None:
        """There is no need, or no way."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.assertEqual(self.due(1.0, HIGH), [])
        self.calls.expect(expecting(HIGH, address=None), 0.0, 0.0)
        self.assertEqual(self.due(1.0), [])

    def test_one_call_at_a_time(self) -> None:
        """Until it is over."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.assertEqual(self.due(0.0), [HIGH])
        self.assertEqual(self.due(50.0), [])
        self.calls.answered(HIGH)
        self.assertEqual(self.due(50.0), [HIGH])

    def test_back_off(self) -> None:
        """Each wait is longer, to a bound; a link makes it short again."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        now, waits = 0.0, []
        while now < 120.0:
            self.assertEqual(self.due(now), [HIGH])
            self.calls.failed(HIGH, "nothing listens there", now)
            waits.append((now, self.calls[HIGH].due - now))
            now = self.calls[HIGH].due
        self.assertLessEqual(waits[0][1], 0.25)
        self.assertTrue(all(wait <= EARLY_AGAIN_S for at, wait in waits if at < EARLY_S))
        self.assertTrue(all(MOST_AGAIN_S / 2 <= wait <= MOST_AGAIN_S for at, wait in waits if at > EARLY_S))
        self.assertEqual(self.calls[HIGH].failures, len(waits))
        self.calls.linked(HIGH)
        self.calls.lost(HIGH, "reset", now)
        self.assertLessEqual(self.calls[HIGH].due, now + 0.1)
        self.assertEqual(self.calls[HIGH].failures, 0)

    def test_a_refusal_is_not_argued_with(self) -> None:
        """It is tried once a minute."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.due(0.0)
        self.calls.failed(HIGH, "no group here has the member", 0.0, refused=True)
        self.assertGreaterEqual(self.calls[HIGH].due, REFUSED_AGAIN_S / 2)

    def test_who_asks_for_time_gets_it(self) -> None:
        """retry_after of a BYE."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.due(0.0)
        self.calls.failed(HIGH, "stopping", 0.0, again_s=40.0)
        self.assertGreaterEqual(self.calls[HIGH].due, 40.0)

    def test_another_address_is_tried_at_once(self) -> None:
        """Somebody has mended the configuration."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.due(0.0)
        self.calls.failed(HIGH, "?", 0.0, refused=True)
        self.calls.expect(expecting(HIGH, address=Address("rp2", 7443)), 0.0, 1.0)
        self.assertEqual(self.due(1.0), [HIGH])

    def test_who_is_expected_no_more_is_forgotten(self) -> None:
        """And what is heard of it later is ignored."""
        self.calls.expect(expecting(HIGH), 0.0, 0.0)
        self.calls.expect({}, 0.0, 1.0)
        self.assertEqual(self.due(2.0), [])
        self.calls.failed(HIGH, "", 2.0)
        self.calls.lost(HIGH, "", 2.0)
        self.calls.linked(HIGH)
        self.calls.answered(HIGH)


class StaysTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(a=st.uuids(), b=st.uuids(), age_s=st.floats(0, 100))
    def test_both_ends_keep_the_same_of_two_that_crossed(self, a: UUID, b: UUID, age_s: float) -> None:
        """Each sees its own link first, and the other's second."""
        if a == b:
            return
        a_keeps_own = stays(a, b, old_dialled=True, new_dialled=False, old_age_s=age_s)
        b_keeps_own = stays(b, a, old_dialled=True, new_dialled=False, old_age_s=age_s)
        if age_s <= CROSSING_S:
            self.assertNotEqual(a_keeps_own, b_keeps_own)
        else:
            self.assertFalse(a_keeps_own or b_keeps_own)

    def test_the_same_caller_again(self) -> None:
        """It has lost the old link, whether we have noticed or not."""
        for dialled in (True, False):
            self.assertFalse(stays(LOW, HIGH, old_dialled=dialled, new_dialled=dialled, old_age_s=1.0))
