"""The roster: which address next, and when."""

import subprocess
import sys
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.message import Code
from ice.net.addresses import Address
from ice.streams.roster import (
    FIRST_LEARNED,
    FIRST_TROUBLE_S,
    FIRST_TROUBLE_WAIT_S,
    LEARNED_PAUSE_S,
    MAX_LEARNED_AT_ONCE,
    MAX_STAY_AWAY_S,
    SETTLED_S,
    Roster,
    Strategy,
    Try,
    Wait,
    is_terminal,
)
from ice.streams.ways import MAX_WAYS, Way, Ways

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


def tries_of(roster: Roster, now: float) -> list[Address]:
    """Every address named at ``now``, without a word of what becomes of it."""
    named: list[Address] = []
    while isinstance(step := roster.next(now, named), Try):
        named.append(step.address)
    return named


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

    def test_a_thousand_told_at_once_spread_out(self) -> None:
        """A thousand clients to whom a Rallypoint that stops says the same at one moment come back over half a second."""
        due = []
        for seed in range(1_000):
            one = Roster([A], random=Random(seed))
            one.next(0.0)
            one.opened(A, 0.0)
            fail(one, A, 50.0, "draining", retry_after_s=1.0)
            due.append(pause(one, 50.0) - 1.0)
        slots = [sum(1 for each in due if low <= each * 10 < low + 1) for low in range(6)]
        self.assertGreaterEqual(min(due), 0.0)
        self.assertLess(max(due), 0.7)
        self.assertLess(max(slots), 300)

    def test_a_thousand_fall_back_spread_out(self) -> None:
        """A thousand clients that lost their Rallypoint together look for it again over seconds, not together."""
        due = []
        for seed in range(1_000):
            one = Roster([A, B], random=Random(seed), probe_s=10.0)
            one.next(0.0)
            one.opened(A, 0.0)
            fail(one, A, 50.0, "lost")
            self.assertEqual(one.next(50.0), Try(B))
            one.opened(B, 50.0)
            now = 50.0
            while one.better(now) is None:
                now += 0.1
            due.append(now - 50.0)
        slots = [sum(1 for each in due if low <= each < low + 1) for low in range(10, 16)]
        self.assertGreaterEqual(min(due), 10.0)
        self.assertLess(max(slots), 300)

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
        one.left(C)
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
                one.left(B)
                one.opened(A, now)
                fail(one, A, now + 0.5, "lost")
                self.assertEqual(one.next(now + 0.5), Try(B), "back at once")
                one.opened(B, now + 0.5)
        self.assertGreater(max(gaps), 8 * gaps[0])

    def test_learned_are_not_better(self) -> None:
        """On a learned address every configured one is better, and no other learned one."""
        one = roster(A)
        one.next(0.0)
        one.opened(OTHER, 0.0)
        one.learn(["more.test"], OTHER)
        self.assertEqual(one.better(50.0), A)
        fail(one, A, 50.0)
        self.assertIsNone(one.better(50.0))


class LearnedTests(SynchronousTestCase):
    def names(self, count: int, word: str = "host") -> list[str]:
        return [f"{word}{number}.test:7443" for number in range(count)]

    def test_bounded_and_ranked_last(self) -> None:
        """Addresses from WELCOME stand behind the configured ones, and there are only so many."""
        one = roster(A)
        one.next(0.0)
        one.opened(A, 0.0)
        one.learn(self.names(100), A)
        self.assertEqual(len(one.learned), MAX_WAYS)
        self.assertEqual(one.known[0], A)
        fail(one, A, 60.0, "lost")
        self.assertEqual(one.next(60.0), Try(Address("host0.test", 7443)))

    def test_after_the_configured_ones(self) -> None:
        """When a link is lost the other configured addresses come first, then learned ones in the order told, then the lost one."""
        one = roster(A, B)
        one.next(0.0)
        one.opened(A, 0.0)
        one.learn(["x.test", "y.test"], A)
        fail(one, A, 60.0, "lost")
        self.assertEqual(
            [str(each) for each in tries(one, 60.0)][:4],
            ["b.test:7443", "x.test:7443", "y.test:7443", "a.test:7443"],
        )

    def test_known_from_before(self) -> None:
        """With all configured addresses dead, those that are remembered are tried at once; what worked last before all."""
        ways = Ways([Way(Address("x.test", 7443), 5.0), Way(Address("y.test", 7443), 5.0, 4.0)])
        one = roster(A, B, ways=ways)
        self.assertEqual([each.host[0] for each in tries(one, 0.0)], ["a", "b", "y", "x"])

    def test_what_works_is_tried_in_every_round(self) -> None:
        """A learned address where a link has stood is tried in every round, like a configured one."""
        one = roster(A)
        one.next(0.0)
        one.opened(A, 0.0)
        one.learn(["x.test", "y.test"], A, 100.0)
        fail(one, A, 60.0, "lost")
        x, y = Address("x.test", 7443), Address("y.test", 7443)
        self.assertEqual(one.next(60.0), Try(x))
        one.opened(x, 60.0, 160.0)
        fail(one, x, 160.0, "lost")
        self.assertEqual(tries(one, 160.0), [A, y, x])
        now = 160.0 + pause(one, 160.0)
        self.assertEqual(tries(one, now), [A, x])

    def test_configured_ones_do_not_wait(self) -> None:
        """However many addresses were learned, and though none of them answers, a configured one is tried as often as ever."""
        one = roster(A)
        one.next(0.0)
        one.opened(A, 0.0)
        one.learn(self.names(MAX_WAYS), A)
        fail(one, A, 60.0, "lost")
        busy: dict[Address, float] = {}
        now, tried, most = 60.0, [], 0
        while now < 90.0:
            for address in [each for each, since in busy.items() if now - since >= 5.0]:
                del busy[address]
                fail(one, address, now, "timeout")
            while isinstance(step := one.next(now, busy), Try):
                if step.address == A:
                    tried.append(now)
                    fail(one, A, now)
                else:
                    busy[step.address] = now
                if len(busy) >= most:
                    most = len(busy)
            now += 0.05
        gaps = [later - earlier for earlier, later in pairwise(tried)]
        self.assertLess(max(gaps), FIRST_TROUBLE_WAIT_S + 0.1)
        self.assertLessEqual(most, FIRST_LEARNED + MAX_LEARNED_AT_ONCE)

    def test_dead_ones_are_tried_rarely(self) -> None:
        """Learned addresses that refuse are not tried in every round, but again after some seconds."""
        one = roster(A)
        one.next(0.0)
        one.opened(A, 0.0)
        one.learn(self.names(30), A)
        fail(one, A, 60.0, "lost")
        now, dialled = 60.0, 0
        while now < 60.0 + 2 * LEARNED_PAUSE_S:
            dialled += sum(each != A for each in tries(one, now))
            now += pause(one, now)
        self.assertTrue(60 <= dialled <= 90, dialled)

    def test_new_ways_are_there_at_once(self) -> None:
        """What a WELCOME names while a second link is missing is tried without waiting for the next round."""
        one = roster(A)
        self.assertEqual(one.next(0.0), Try(A))
        one.opened(A, 0.0)
        self.assertIsInstance(one.next(0.0), Wait)
        one.learn(["other.test"], A)
        self.assertEqual(one.next(0.0), Try(OTHER))

    def test_busy_ones_are_left_out(self) -> None:
        """What is being dialled, or is a home, is not named again."""
        one = roster()
        self.assertEqual(one.next(0.0), Try(A))
        one.opened(A, 0.0)
        self.assertEqual(one.next(0.0, {B}), Try(C))
        step = one.next(0.0, {B, C})
        assert isinstance(step, Wait)
        self.assertEqual(one.next(step.until, {B, C}).__class__, Wait)

    def test_the_same_rallypoint_rests(self) -> None:
        """An address that leads to where we are rests, ever longer, until a home is lost."""
        one = roster(A, B, probe_s=10.0)
        one.next(0.0)
        one.opened(A, 0.0)
        now, times = 0.0, 0
        while now < 60.0:
            for address in tries_of(one, now):
                self.assertEqual(address, B)
                times += 1
                one.same(B, now)
            now += 0.1
        self.assertTrue(2 <= times <= 4, times)
        fail(one, A, now, "lost")
        self.assertEqual(tries(one, now), [B, A])

    def test_a_second_link_is_looked_for_now_and_then(self) -> None:
        """While one home stands, the pauses for the other never exceed the time between probes."""
        one = roster(A, B, probe_s=10.0)
        one.next(0.0)
        one.opened(A, 0.0)
        now, pauses = 0.0, []
        while now < 300.0:
            tries(one, now)
            pauses.append(pause(one, now))
            now += pauses[-1]
        self.assertTrue(5.0 <= max(pauses) <= 10.0, max(pauses))

    def test_ways_that_lead_nowhere(self) -> None:
        """Text that is no address, wildcards, and our own machine, told by somebody elsewhere, are counted and not learned."""
        one = roster(A)
        one.learn(["", "0.0.0.0:7443", "127.0.0.1:22", "[::1]:22", "localhost", "x.test:0", "ok.test"], A)
        self.assertEqual([str(each) for each in one.learned], ["ok.test:7443"])
        self.assertEqual(one.bad_alternatives, 6)
        here = Address("127.0.0.1", 7443)
        two = roster(here)
        two.learn(["127.0.0.1:7444"], here)
        self.assertEqual(len(two.learned), 1, "a test site on one machine")

    def test_forgotten_after_a_week(self) -> None:
        """What no WELCOME has named for a week is forgotten when one comes."""
        day = 86_400.0
        one = roster(A)
        one.learn(["x.test", "y.test"], A, 0.0)
        one.learn(["y.test"], A, 5 * day)
        self.assertEqual(len(one.learned), 2)
        one.learn(["z.test"], A, 8 * day)
        self.assertEqual({each.host for each in one.learned}, {"y.test", "z.test"})

    def test_begin_again(self) -> None:
        """After a stop everything is tried again from the beginning."""
        one = roster(A, B)
        tries(one, 0.0)
        one.opened(A, 0.0)
        one.restart()
        self.assertIsNone(one.current)
        self.assertEqual(tries(one, 0.0), [A, B])


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
            self.assertLessEqual(at_once, 3 * len(one.known) + 2)
            if what == "open":
                one.opened(step.address, now)
                one.learn(alternatives, step.address)
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
