"""Who may talk: one station's floor by hand, and many stations with delays between them."""

from __future__ import annotations

import heapq
import itertools
import math
import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.floor import (
    STRAGGLERS_S,
    Claim,
    Decision,
    Floor,
    Granted,
    Muted,
    Reason,
    Refused,
    Rules,
    TimeUp,
    TimeWarning,
    Unmuted,
    Usurped,
    transmit_limit,
)

ME = 500


class Ranks(SynchronousTestCase):
    def test_order(self) -> None:
        """Emergencies stand above all priorities, then priority counts, then the lower source."""
        foremost_first = [
            Claim(9, 7, True), Claim(8, 0, True), Claim(7, 255), Claim(1, 10), Claim(2, 10), Claim(0, 0),
        ]  # fmt: skip
        for one, other in itertools.combinations(foremost_first, 2):
            self.assertTrue(other.yields_to(one))
            self.assertFalse(one.yields_to(other))

    def test_nobody_yields_to_himself(self) -> None:
        self.assertFalse(Claim(1, 1).yields_to(Claim(1, 1)))

    def test_bounds(self) -> None:
        """A priority is a byte, times are not negative."""
        self.assertRaises(LocalError, Claim, 1, 256)
        self.assertRaises(LocalError, Claim, 1, -1)
        self.assertRaises(LocalError, Rules, max_tx_s=-1)
        self.assertRaises(LocalError, Rules, max_rx_s=math.nan)
        self.assertRaises(LocalError, Rules, silence_s=0)

    def test_limit(self) -> None:
        """What the group says goes before the policy."""
        self.assertEqual(transmit_limit(120), 120)
        self.assertEqual(transmit_limit(0), 30)
        self.assertEqual(transmit_limit(0, 0), 0)


class HalfDuplex(SynchronousTestCase):
    def setUp(self) -> None:
        self.floor = Floor()

    def test_free(self) -> None:
        """Nobody talks: talk, without a limit where none is set."""
        self.assertEqual(self.floor.request(Claim(ME), 0.0), Granted(Claim(ME), (), math.inf))
        self.assertEqual(self.floor.own, Claim(ME))

    def test_busy(self) -> None:
        """Somebody of equal rank talks: refused, and told by whom and how long he holds the floor if he says no more."""
        self.floor.heard(1, 10.0, priority=5)
        self.assertEqual(self.floor.request(Claim(ME, 5), 10.25), Refused(Reason.BUSY, Claim(1, 5), 0.25))
        self.assertIsNone(self.floor.own)
        self.assertEqual(self.floor.refused, {Reason.BUSY: 1})

    def test_outranked(self) -> None:
        """Somebody of higher rank talks: refused with a reason of its own; an emergency is one whatever its priority."""
        self.floor.heard(1, 10.0, priority=6)
        refused = self.floor.request(Claim(ME, 5), 10.0)
        self.assertEqual(refused, Refused(Reason.OUTRANKED, Claim(1, 6), 0.5))
        self.floor.heard(2, 10.0, priority=0, emergency=True)
        refused = self.floor.request(Claim(ME, 255), 10.0)
        self.assertEqual(refused, Refused(Reason.OUTRANKED, Claim(2, 0, True), 0.5))

    def test_names_the_foremost(self) -> None:
        """Two talk: the refusal names the one of higher rank, and waits for both."""
        self.floor.heard(1, 10.0, priority=9)
        self.floor.heard(2, 10.3, priority=5)
        refused = self.floor.request(Claim(ME, 5), 10.4)
        assert isinstance(refused, Refused)
        self.assertEqual((refused.reason, refused.by), (Reason.OUTRANKED, Claim(1, 9)))
        self.assertAlmostEqual(refused.remaining_s, 0.4)

    def test_higher_takes_over(self) -> None:
        """Only lower ones talk: granted over them, and they are silenced here at once."""
        self.floor.heard(1, 10.0, priority=4)
        granted = self.floor.request(Claim(ME, 5), 10.0)
        self.assertEqual(granted, Granted(Claim(ME, 5), (Claim(1, 4),), math.inf))
        self.assertEqual(self.floor.deadline, 10.0)
        self.assertEqual(self.floor.tick(10.0), (Muted(1, Reason.OUTRANKED, Claim(ME, 5)),))
        self.assertEqual(self.floor.release(10.1), (Unmuted(1),))

    def test_end_mark_frees_at_once(self) -> None:
        """Behind an end mark nobody waits."""
        self.floor.heard(1, 10.0)
        self.assertEqual(self.floor.ended(1, 10.01), ())
        self.assertIsInstance(self.floor.request(Claim(ME), 10.01), Granted)

    def test_silence_frees(self) -> None:
        """Without an end mark it takes half a second of silence, two where his packets mark their ends."""
        self.floor.heard(1, 10.0)
        self.assertIsInstance(self.floor.request(Claim(ME), 10.49), Refused)
        self.assertIsInstance(self.floor.request(Claim(ME), 10.5), Granted)
        signalled = Floor()
        signalled.heard(1, 10.0, signals=True)
        self.assertIsInstance(signalled.request(Claim(ME), 11.99), Refused)
        self.assertIsInstance(signalled.request(Claim(ME), 12.0), Granted)

    def test_straggler_begins_nothing(self) -> None:
        """A packet that the end mark has overtaken holds no floor; a burst that says it begins does, and so does a later one."""
        for late, first, held in [
            (0.05, False, False),
            (0.05, True, True),
            (STRAGGLERS_S + 0.01, False, True),
        ]:
            floor = Floor()
            floor.heard(1, 10.0)
            floor.ended(1, 10.0)
            floor.heard(1, 10.0 + late, first=first)
            self.assertIs(isinstance(floor.request(Claim(ME), 10.0 + late), Refused), held)

    def test_usurped(self) -> None:
        """We talk and hear a higher rank: stop, told by whom; a lower one is silenced instead."""
        self.floor.request(Claim(ME, 5), 10.0)
        self.assertEqual(self.floor.heard(1, 12.0, priority=4), (Muted(1, Reason.OUTRANKED, Claim(ME, 5)),))
        decisions = self.floor.heard(2, 12.4, priority=6)
        self.assertEqual(decisions, (Usurped(Reason.OUTRANKED, Claim(2, 6), 12.4 - 10.0),))
        self.assertIsNone(self.floor.own)
        self.assertEqual(self.floor.muted, {1})
        self.assertEqual(self.floor.usurped, {Reason.OUTRANKED: 1})

    def test_rise_of_a_talker(self) -> None:
        """Who raises his rank amid his burst usurps us then; packets that say nothing of it change nothing."""
        self.floor.request(Claim(ME, 5), 10.0)
        self.floor.heard(1, 10.1, priority=4)
        self.assertEqual(self.floor.heard(1, 10.2), ())
        (usurped, *_) = self.floor.heard(1, 10.3, emergency=True)
        self.assertEqual(usurped, Usurped(Reason.OUTRANKED, Claim(1, 4, True), 10.3 - 10.0))

    def test_collision(self) -> None:
        """Two of equal rank began at once: the lower source goes on, at both ends."""
        low, high = Floor(), Floor()
        low.request(Claim(1, 5), 0.0)
        high.request(Claim(2, 5), 0.0)
        self.assertEqual(low.heard(2, 0.1, priority=5), ())
        self.assertEqual(high.heard(1, 0.1, priority=5), (Usurped(Reason.COLLISION, Claim(1, 5), 0.1),))
        self.assertEqual(low.own, Claim(1, 5))

    def test_emergency_amid_a_burst(self) -> None:
        """An emergency key pressed while talking raises the burst, which keeps its beginning; where it is not enough, it ends."""
        floor = Floor(Rules(max_tx_s=30))
        floor.request(Claim(ME, 5), 10.0)
        granted = floor.request(Claim(ME, 5, True), 20.0)
        self.assertEqual(granted, Granted(Claim(ME, 5, True), (), 40.0))
        floor.heard(1, 21.0, priority=6)
        self.assertEqual(floor.request(Claim(ME, 5), 21.0), Refused(Reason.OUTRANKED, Claim(1, 6), 0.5))
        self.assertIsNone(floor.own)

    def test_own_packets(self) -> None:
        """What comes back of our own is nobody else, even after the release; later the number is free for others."""
        self.floor.request(Claim(ME), 0.0)
        self.assertEqual(self.floor.heard(ME, 0.1, priority=200), ())
        self.floor.release(0.2)
        self.floor.heard(ME, 0.3)
        self.assertEqual(self.floor.talking(0.3), ())
        self.floor.heard(ME, 1.0)
        self.assertEqual([talking.claim.source for talking in self.floor.talking(1.0)], [ME])

    def test_release_twice(self) -> None:
        """Releasing what is not pressed is harmless."""
        self.assertEqual(self.floor.release(1.0), ())


class Hearing(SynchronousTestCase):
    def test_lower_are_silenced(self) -> None:
        """While a higher one talks the lower are not played; they are again when it ends, by mark or by silence."""
        floor = Floor()
        self.assertEqual(floor.heard(1, 0.0, priority=1), ())
        self.assertEqual(floor.heard(2, 0.1, priority=2), (Muted(1, Reason.OUTRANKED, Claim(2, 2)),))
        self.assertEqual(floor.heard(1, 0.2), ())
        self.assertEqual(floor.ended(2, 0.3), (Unmuted(1),))
        floor.heard(2, 0.4, priority=2, first=True)
        self.assertEqual(floor.heard(1, 0.5), ())
        floor.heard(1, 0.8)
        self.assertEqual(floor.deadline, 0.9)
        self.assertEqual(floor.tick(0.9), (Unmuted(1),))

    def test_equals_are_both_heard(self) -> None:
        """A collision is heard until one of the two has stopped: nobody else decides it."""
        floor = Floor()
        floor.heard(1, 0.0)
        self.assertEqual(floor.heard(2, 0.0), ())

    def test_silenced_who_ends_is_forgotten(self) -> None:
        """Who ends while silenced is no longer silenced: his next burst may be heard."""
        floor = Floor()
        floor.heard(1, 0.0, priority=1)
        floor.heard(2, 0.0, priority=2)
        self.assertEqual(floor.ended(1, 0.1), (Unmuted(1),))
        self.assertEqual(floor.muted, frozenset())

    def test_too_long(self) -> None:
        """A stuck key is silenced after the limit, and holds no floor: others may talk, and are not usurped by it."""
        floor = Floor(Rules(max_rx_s=3.0))
        decisions: list[Decision] = []
        for step in range(40):
            decisions += floor.heard(1, step / 10, priority=9)
        self.assertEqual(decisions, [Muted(1, Reason.TOO_LONG)])
        self.assertIsInstance(floor.request(Claim(ME), 4.0), Granted)
        self.assertEqual(floor.heard(1, 4.1), ())
        self.assertEqual(floor.own, Claim(ME))
        self.assertEqual(floor.ended(1, 4.2), (Unmuted(1),))
        self.assertEqual([type(each) for each in floor.heard(1, 4.3, priority=9, first=True)], [Usurped])

    def test_too_long_by_the_clock(self) -> None:
        """The limit strikes at its time, not with the next packet."""
        floor = Floor(Rules(max_rx_s=0.3))
        floor.heard(1, 0.0)
        self.assertEqual(floor.deadline, 0.3)
        self.assertEqual(floor.tick(0.3), (Muted(1, Reason.TOO_LONG),))
        self.assertEqual(floor.deadline, 0.5)

    def test_transmissions(self) -> None:
        """Bursts are numbered; sticky ones that follow each other in time share a number, until it is invalidated."""
        floor = Floor(Rules(sticky_s=10))

        def burst(at: float, *, sticky: bool, invalidated: bool = False) -> int:
            floor.heard(1, at, sticky=sticky, first=True)
            (talking,) = floor.talking(at)
            floor.ended(1, at, invalidated=invalidated)
            return talking.transmission

        numbers = [
            burst(0, sticky=False), burst(1, sticky=True), burst(11, sticky=True), burst(21.5, sticky=True),
            burst(22, sticky=True, invalidated=True), burst(23, sticky=True),
        ]  # fmt: skip
        self.assertEqual(numbers, [1, 2, 2, 3, 3, 4])

    def test_bounded(self) -> None:
        """More talkers than can be are counted and not noticed; one of higher rank takes the place of the least."""
        floor = Floor(talkers_max=3)
        for source in range(10):
            floor.heard(source, 0.0, priority=5)
        self.assertEqual((len(floor.talking(0.0)), floor.overflow), (3, 7))
        floor.request(Claim(ME, 6), 0.0)
        (usurped, *_) = floor.heard(77, 0.1, priority=7)
        self.assertEqual(usurped, Usurped(Reason.OUTRANKED, Claim(77, 7), 0.1))
        for source in range(10_000):
            floor.heard(source, 1.0 + source)
        self.assertLessEqual(len(floor._ended), 12)


class FullDuplex(SynchronousTestCase):
    def test_never_refuses(self) -> None:
        """All talk and all are heard, whatever their ranks."""
        floor = Floor(Rules(full_duplex=True))
        floor.heard(1, 0.0, emergency=True)
        self.assertEqual(floor.request(Claim(ME), 0.0), Granted(Claim(ME), (), math.inf))
        self.assertEqual(floor.heard(2, 0.1, priority=255), ())
        self.assertEqual(floor.own, Claim(ME))
        self.assertEqual(floor.muted, frozenset())

    def test_limits_hold(self) -> None:
        """The limits of time are no matter of rank."""
        floor = Floor(Rules(full_duplex=True, max_tx_s=1, max_rx_s=1))
        floor.request(Claim(ME), 0.0)
        for tenths in range(0, 10, 3):
            floor.heard(1, tenths / 10)
        self.assertEqual(floor.tick(1.0), (TimeUp(1.0), Muted(1, Reason.TOO_LONG)))


class Limits(SynchronousTestCase):
    def test_warning_and_end(self) -> None:
        """A burst is warned once, five seconds before, and ended at the limit; the next has all of its time."""
        floor = Floor(Rules(max_tx_s=30))
        granted = floor.request(Claim(ME), 100.0)
        self.assertEqual(granted, Granted(Claim(ME), (), 130.0))
        floor.tick(100.0)
        self.assertEqual(floor.deadline, 125.0)
        self.assertEqual(floor.tick(124.9), ())
        self.assertEqual(floor.tick(125.0), (TimeWarning(5.0),))
        self.assertEqual(floor.tick(126.0), ())
        self.assertEqual(floor.deadline, 130.0)
        self.assertEqual(floor.tick(130.0), (TimeUp(30.0),))
        self.assertIsNone(floor.own)
        self.assertEqual(floor.timed_out, 1)
        self.assertEqual(floor.deadline, math.inf)
        self.assertEqual(floor.request(Claim(ME), 131.0), Granted(Claim(ME), (), 161.0))
        self.assertEqual(floor.tick(156.0), (TimeWarning(5.0),))

    def test_short_limit(self) -> None:
        """Where the limit is short the warning comes at half the time, not at the press."""
        floor = Floor(Rules(max_tx_s=4))
        floor.request(Claim(ME), 0.0)
        self.assertEqual(floor.tick(1.9), ())
        self.assertEqual(floor.tick(2.0), (TimeWarning(2.0),))

    def test_stall(self) -> None:
        """A process that slept over both is told once: it is over."""
        floor = Floor(Rules(max_tx_s=30))
        floor.request(Claim(ME), 0.0)
        self.assertEqual(floor.tick(99.0), (TimeUp(99.0),))


# -- many stations -----------------------------------------------------------------------------------------------------

FRAME_S = 0.06


@attrs.frozen
class Member:
    """One station of a play: its claim, when it presses, and when it lets go."""

    claim: Claim
    press_at: float
    release_at: float


class Play:
    """Stations on one channel, a delay of its own from each to each; packets each 60 ms, marked or not."""

    def __init__(self, members: list[Member], *, delay_max_s: float, marked: bool, seed: int) -> None:
        chance = random.Random(seed)
        self.members = members
        self.floors = {member.claim.source: Floor() for member in members}
        self.delays = {
            pair: chance.uniform(0.0, delay_max_s) for pair in itertools.permutations(self.floors, 2)
        }
        self.marked = marked
        self.now = 0.0
        self.on_air: dict[int, Claim] = {}
        self.granted: list[int] = []
        self._order = itertools.count()
        self._events: list[tuple[float, int, str, int, object]] = []
        for member in members:
            self._at(member.press_at, "press", member.claim.source, member.claim)
            self._at(member.release_at, "release", member.claim.source, None)

    def _at(self, time: float, what: str, source: int, detail: object) -> None:
        heapq.heappush(self._events, (time, next(self._order), what, source, detail))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, source, detail = heapq.heappop(self._events)
            floor = self.floors[source]
            self._obey(source, floor.tick(self.now))
            if what == "press":
                assert isinstance(detail, Claim)
                if isinstance(floor.request(detail, self.now), Granted):
                    self.granted.append(source)
                    self.on_air[source] = detail
                    self._at(self.now, "frame", source, True)
            elif what == "release":
                if source in self.on_air:
                    self._obey(source, floor.release(self.now))
                    self._silent(source)
            elif what == "frame":
                if source in self.on_air:
                    self._send(source, self.on_air[source], first=bool(detail), last=False)
                    self._at(self.now + FRAME_S, "frame", source, False)
            else:
                claim, first, last = detail  # type: ignore[misc]
                if last and self.marked:
                    self._obey(source, floor.ended(claim.source, self.now))
                elif not last:
                    told = floor.heard(
                        claim.source,
                        self.now,
                        priority=claim.priority,
                        emergency=claim.emergency,
                        first=first,
                    )
                    self._obey(source, told)

    def _send(self, source: int, claim: Claim, *, first: bool, last: bool) -> None:
        for other in self.floors:
            if other != source:
                self._at(self.now + self.delays[source, other], "packet", other, (claim, first, last))

    def _silent(self, source: int) -> None:
        self._send(source, self.on_air.pop(source), first=False, last=True)

    def _obey(self, source: int, decisions: tuple[Decision, ...]) -> None:
        for decision in decisions:
            if isinstance(decision, Usurped):
                self._silent(source)


CLAIMS = st.builds(Claim, st.integers(0, 2**32 - 1), st.integers(0, 3), st.booleans())
CROWDS = st.lists(CLAIMS, min_size=2, max_size=7, unique_by=lambda claim: claim.source)


class ManyStations(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(CROWDS, st.data(), st.booleans(), st.integers(0, 2**16))
    def test_one_goes_on(self, claims: list[Claim], data: st.DataObject, marked: bool, seed: int) -> None:
        """All press within half a second and hold: once all have heard each other the foremost of those who began talks, and nobody else.

        And nobody is foremost by waiting: who is of the highest rank is never refused by a lower one.
        """
        press = [data.draw(st.floats(0.0, 0.5), label=f"press {claim.source}") for claim in claims]
        members = [Member(claim, at, 5.0) for claim, at in zip(claims, press, strict=True)]
        play = Play(members, delay_max_s=0.3, marked=marked, seed=seed)
        play.run(0.5 + 0.3 + FRAME_S + 1e-6)
        began = [claim for claim in claims if claim.source in play.granted]
        foremost = max(began, key=lambda claim: (claim.rank, -claim.source))
        self.assertEqual(list(play.on_air), [foremost.source])
        self.assertEqual(foremost.rank, max(claim.rank for claim in claims))
        play.run(4.9)
        self.assertEqual(list(play.on_air), [foremost.source], "and it stays so")
        for source, floor in play.floors.items():
            if source != foremost.source:
                self.assertNotIn(foremost.source, floor.muted)

    @settings(max_examples=50, deadline=None)
    @given(CROWDS, st.data(), st.booleans(), st.integers(0, 2**16))
    def test_nothing_lingers(self, claims: list[Claim], data: st.DataObject, marked: bool, seed: int) -> None:
        """However they press and let go, a while after the last has, every floor is free, unsilenced and still."""
        members = []
        for claim in claims:
            at = data.draw(st.floats(0.0, 3.0))
            members.append(Member(claim, at, at + data.draw(st.floats(0.001, 2.0))))
        play = Play(members, delay_max_s=0.3, marked=marked, seed=seed)
        play.run(math.inf)
        self.assertEqual(play.on_air, {})
        for floor in play.floors.values():
            floor.tick(play.now + 0.5)
            self.assertEqual(
                (floor.talking(play.now + 0.5), floor.muted, floor.deadline), ((), frozenset(), math.inf)
            )
            self.assertIsInstance(floor.request(Claim(2**40), play.now + 0.5), Granted)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(2, 6), st.integers(0, 2**16))
    def test_nobody_starves(self, stations: int, seed: int) -> None:
        """Equals who press again and again, each for a second, all come to talk: a refusal is no sentence."""
        chance = random.Random(seed)
        claims = [Claim(source) for source in chance.sample(range(1000), stations)]
        members = [
            Member(claim, at := chance.uniform(0, 60.0), at + 1.0) for claim in claims for _ in range(12)
        ]
        members.sort(key=lambda member: member.press_at)
        apart: list[Member] = []
        for member in members:  # a person lets go before he presses again
            mine = [each for each in apart if each.claim is member.claim]
            if not mine or member.press_at > mine[-1].release_at:
                apart.append(member)
        play = Play(apart, delay_max_s=0.2, marked=True, seed=seed)
        play.run(math.inf)
        self.assertEqual(set(play.granted), {claim.source for claim in claims})
