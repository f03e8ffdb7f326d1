"""The roster: which address next, and when."""

import subprocess
import sys
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.message import Code
from ice.net.addresses import Address
from ice.streams.roster import (
    FIRST_TROUBLE_S,
    FIRST_TROUBLE_WAIT_S,
    MAX_LEARNED,
    MAX_STAY_AWAY_S,
    SETTLED_S,
    Roster,
    Strategy,
    Try,
    Wait,
    is_terminal,
)

A, B, C = (Address(f"{letter}.test", 7443) for letter in "abc")
OTHER = Address("other.test", 7443)


def roster(*addresses: Address, **settings: object) -> Roster:
    return Roster(addresses or (A, B, C), random=Random(1), **settings)  # type: ignore[arg-type]


def fail(roster: Roster, address: Address, now: float, code: str = "refused", **more: object) -> None:
    roster.ended(address, now, code=code, why=f"{address}: {code}", **more)  # type: ignore[arg-type]


def tries(roster: Roster, now: float, code: str = "refused") -> list[Address]:
    """Every address tried at ``now``, each failing, until there is a pause."""
    tried = []
    while isinstance(step := roster.next(now), Try):
        tried.append(step.address)
        fail(roster, step.address, now, code)
    return tried


def pause(roster: Roster, now: float) -> float:
    step = roster.next(now)
    assert isinstance(step, Wait), step
    return step.until - now


class RoundTests(SynchronousTestCase):
    def test_all_at_once_in_order(self) -> None:
        """A round tries each configured address once, at the same instant, in the order given."""
        self.assertEqual(tries(roster(), 0.0), [A, B, C])

    def test_pause_after_a_round(self) -> None:
        """After a failed round nothing is tried until the pause is over, and then all again."""
        one = roster()
        tries(one, 0.0)
        wait = pause(one, 0.0)
        self.assertTrue(0.05 <= wait <= 0.1, wait)
        self.assertIsInstance(one.next(wait - 0.001), Wait)
        self.assertEqual(tries(one, wait), [A, B, C])

    def test_the_wait_says_why(self) -> None:
        """A wait carries the sentence of the last failure."""
        one = roster(A)
        tries(one, 0.0)
        step = one.next(0.0)
        assert isinstance(step, Wait)
        self.assertEqual(step.why, "a.test:7443: refused")

    def test_pauses_grow_but_stay_short_at_first(self) -> None:
        """For 30 s of trouble no pause exceeds 0.7 s; later they grow to the longest; each is drawn from its upper half."""
        one = roster(A)
        now, early, late = 0.0, [], []
        while now < 600:
            tries(one, now)
            wait = pause(one, now)
            (early if now < FIRST_TROUBLE_S else late).append(wait)
            now += wait
        self.assertLess(early[0], 0.11)
        self.assertGreater(max(early), FIRST_TROUBLE_WAIT_S / 2)
        self.assertLessEqual(max(early), FIRST_TROUBLE_WAIT_S)
        self.assertLessEqual(max(late), 30.0)
        self.assertGreaterEqual(min(late[12:]), 15.0)

    def test_back_off_bounds_are_settings(self) -> None:
        """The shortest and the longest pause are as configured, also where they are below or above the usual first ones."""
        one = roster(A, back_off_min_s=2.0, back_off_max_s=3.0)
        now = 0.0
        for _ in range(40):
            tries(one, now)
            wait = pause(one, now)
            self.assertTrue(1.0 <= wait <= 3.0, wait)
            now += wait

    def test_a_thousand_spread_out(self) -> None:
        """A thousand clients that fail at the same instants do not come back together."""
        due = []
        for seed in range(1_000):
            one = Roster([A], random=Random(seed))
            now = 0.0
            while now < 5.0:
                tries(one, now)
                now += pause(one, now)
            due.append(now - 5.0)
        slots = [sum(1 for each in due if low <= each * 10 < low + 1) for low in range(7)]
        self.assertLessEqual(max(due), FIRST_TROUBLE_WAIT_S)
        self.assertLess(max(slots), 350)

    def test_no_address(self) -> None:
        """A cluster of nobody is our own mistake."""
        self.assertRaises(LocalError, Roster, [])

    def test_twice_is_once(self) -> None:
        """An address configured twice is tried once a round."""
        self.assertEqual(tries(roster(A, B, A), 0.0), [A, B])


class LostTests(SynchronousTestCase):
    def test_settled_link_lost(self) -> None:
        """When a link that stood is lost, the others are tried at once and the lost address last."""
        one = roster()
        one.next(0.0)
        one.opened(A, 0.0)
        fail(one, A, 100.0, "idle")
        self.assertEqual(tries(one, 100.0), [B, C, A])

    def test_short_link_is_trouble_going_on(self) -> None:
        """A link that is lost soon after WELCOME does not begin the back-off anew: the rest of the round, then a longer pause."""
        one = roster(A)
        now, pauses = 0.0, []
        for _ in range(6):
            self.assertEqual(one.next(now), Try(A))
            one.opened(A, now)
            now += 0.1
            fail(one, A, now, "limit")
            pauses.append(pause(one, now))
            now += pauses[-1]
        self.assertGreater(pauses[-1], 3 * pauses[0])

    def test_settled_link_forgets_old_trouble(self) -> None:
        """After a link that stood, pauses begin short again."""
        one = roster(A)
        now = 0.0
        while now < 300:
            tries(one, now)
            now += pause(one, now)
        one.next(now)
        one.opened(A, now)
        now += SETTLED_S
        fail(one, A, now, "lost")
        self.assertEqual(tries(one, now), [A])
        self.assertLessEqual(pause(one, now), 0.1)

    def test_bye_with_alternatives(self) -> None:
        """Where a BYE names other ways in, those are tried before anything else, and remembered behind the configured ones."""
        one = roster(A, B)
        one.next(0.0)
        one.opened(A, 0.0)
        fail(one, A, 50.0, "draining", alternatives=["other.test", "a.test:7443", ":bad:"])
        self.assertEqual(tries(one, 50.0), [OTHER, B, A])
        self.assertEqual(one.known, (A, B, OTHER))
        self.assertEqual(one.bad_alternatives, 1)

    def test_two_that_drain(self) -> None:
        """Two Rallypoints whose BYE names the other one do not send us to and fro without a pause."""
        one = roster(A, B)
        tried = 0
        while isinstance(step := one.next(0.0), Try):
            tried += 1
            self.assertLess(tried, 5)
            other = B if step.address == A else A
            fail(one, step.address, 0.0, "draining", alternatives=[str(other)])

    def test_retry_after_is_respected(self) -> None:
        """Whoever asks us to come back later is left out of the rounds until then; the others are not."""
        one = roster(A, B)
        one.next(0.0)
        fail(one, A, 0.0, "limit", retry_after_s=20.0)
        now = 0.0
        while now < 20.0:
            self.assertEqual(tries(one, now), [B])
            now += pause(one, now)
        while now < 26.0:
            tried = tries(one, now)
            now += pause(one, now)
        self.assertEqual(tried, [A, B])

    def test_retry_after_is_bounded(self) -> None:
        """Nobody can send us away for a day."""
        one = roster(A)
        one.next(0.0)
        fail(one, A, 0.0, "limit", retry_after_s=86_400.0)
        self.assertTrue(MAX_STAY_AWAY_S <= pause(one, 0.0) <= 1.25 * MAX_STAY_AWAY_S)

    def test_terminal_refusals_wait_longest(self) -> None:
        """After a refusal that trying again cannot mend, the address rests for the longest pause at once, while others are tried."""
        for code in (Code.IDENTITY, Code.REVOKED, Code.DENIED, Code.VERSION, "told-expired", "name-mismatch"):
            self.assertTrue(is_terminal(code))
            one = roster(A)
            self.assertEqual(tries(one, 0.0, code), [A])
            self.assertTrue(15.0 <= pause(one, 0.0) <= 30.0)
        two = roster(A, B)
        two.next(0.0)
        fail(two, A, 0.0, Code.REVOKED)
        self.assertEqual(tries(two, 0.0), [B])
        self.assertLessEqual(pause(two, 0.0), 0.1)
        self.assertEqual(two.why, "b.test:7443: refused")


class StrategyTests(SynchronousTestCase):
    def test_round_robin_goes_on(self) -> None:
        """Round robin: a lost link leads to the next in the list; a round begins behind the last one tried."""
        one = roster(strategy=Strategy.ROUND_ROBIN)
        self.assertEqual(one.next(0.0), Try(A))
        one.opened(A, 0.0)
        fail(one, A, 60.0, "lost")
        self.assertEqual(one.next(60.0), Try(B))
        one.opened(B, 60.0)
        self.assertIsNone(one.better(1_000.0))
        fail(one, B, 1_000.0, "lost")
        self.assertEqual(tries(one, 1_000.0), [C, A, B])

    def test_random_shuffles(self) -> None:
        """Random: every round holds all, and clients begin at different ones."""
        firsts = set()
        for seed in range(30):
            one = Roster([A, B, C], strategy=Strategy.RANDOM, random=Random(seed))
            tried = tries(one, 0.0)
            self.assertCountEqual(tried, [A, B, C])
            firsts.add(tried[0])
        self.assertEqual(firsts, {A, B, C})

    def test_fail_back_probes_the_better(self) -> None:
        """Fail back: while on a later address, an earlier one is named every probe_s or so, the best first."""
        one = roster(probe_s=10.0)
        one.next(0.0)
        fail(one, A, 0.0)
        one.next(0.0)
        fail(one, B, 0.0)
        one.opened(C, 0.0)
        self.assertIsNone(one.better(9.9))
        self.assertEqual(one.better(15.0), A)
        fail(one, A, 16.0)
        self.assertEqual(one.better(16.0), B, "the next better one at once")
        fail(one, B, 17.0)
        self.assertIsNone(one.better(17.0), "both are left in peace for a while")
        self.assertEqual(one.better(32.0), A)
        one.opened(A, 32.0)
        self.assertEqual(one.current, A)

    def test_the_first_is_never_left(self) -> None:
        """On the preferred address there is nothing better."""
        one = roster()
        one.next(0.0)
        one.opened(A, 0.0)
        self.assertIsNone(one.better(1e6))

    def test_one_that_flaps_is_probed_rarely(self) -> None:
        """An address that takes us back and drops us again and again is probed ever more rarely."""
        one = roster(A, B, probe_s=10.0)
        one.next(0.0)
        fail(one, A, 0.0)
        one.next(0.0)
        one.opened(B, 0.0)
        now, gaps, last = 0.0, [], 0.0
        while now < 2_000:
            now += 1.0
            if one.better(now) == A:
                gaps.append(now - last)
                last = now
                one.opened(A, now)
                fail(one, A, now + 0.5, "lost")
                self.assertEqual(one.next(now + 0.5), Try(B), "back at once")
                one.opened(B, now + 0.5)
        self.assertGreater(max(gaps), 8 * gaps[0])

    def test_learned_are_bounded_and_ranked_last(self) -> None:
        """Addresses from WELCOME stand behind the configured ones, and there are only so many."""
        one = roster(A)
        one.next(0.0)
        one.opened(A, 0.0, [f"host{number}.test" for number in range(100)])
        self.assertEqual(len(one.learned), MAX_LEARNED)
        self.assertEqual(one.known[0], A)
        fail(one, A, 60.0, "lost")
        self.assertEqual(one.next(60.0), Try(Address("host0.test", 7443)))


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(list(Strategy)),
        st.integers(0, 2**32),
        st.lists(
            st.tuples(
                st.sampled_from(["open", "fail", "terminal", "later"]),
                st.floats(0, 40),
                st.lists(st.sampled_from(["x.test", "y.test", "a.test", ""]), max_size=2),
            ),
            max_size=60,
        ),
    )
    def test_it_never_stops_nor_storms(
        self, strategy: Strategy, seed: int, story: list[tuple[str, float, list[str]]]
    ) -> None:
        """Whatever happens, there is always a next attempt within bounds, and never a storm at one instant."""
        one = Roster([A, B], strategy=strategy, random=Random(seed))
        now = 0.0
        at_once = 0
        for what, lasts, alternatives in story:
            step = one.next(now)
            if isinstance(step, Wait):
                self.assertGreater(step.until, now)
                self.assertLessEqual(step.until - now, 1.25 * MAX_STAY_AWAY_S)
                now, at_once = step.until, 0
                continue
            at_once += 1
            self.assertLessEqual(at_once, 2 * len(one.known) + 2)
            if what == "open":
                one.opened(step.address, now, alternatives)
                now += lasts
                at_once = 0 if lasts else at_once
                fail(one, step.address, now, "lost", alternatives=alternatives)
            elif what == "later":
                fail(one, step.address, now, "limit", retry_after_s=lasts, alternatives=alternatives)
            else:
                fail(one, step.address, now, "revoked" if what == "terminal" else "refused")

    def test_it_is_an_engine(self) -> None:
        """Importing the roster brings no reactor with it."""
        code = (
            "import sys, ice.streams.roster, ice.streams.heard; sys.exit('twisted.internet' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)
