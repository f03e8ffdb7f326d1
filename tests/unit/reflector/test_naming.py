"""Names: the same for everybody who hears the same, never behind where they were, and agreed on where two differ."""

from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.window import Verdict, Window
from ice.reflector.naming import BLOCK_S, DAY_S, FORGET_S, Naming, Talker

HOST = "192.0.2.1"
GROUP = "239.1.2.3:5000"
MIDNIGHT = 20_000 * DAY_S


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.unix = MIDNIGHT + 12 * 3_600.0

    def naming(self, group: str = GROUP, **more: Any) -> Naming:
        return Naming(group, lambda: self.unix, **more)

    def name(self, naming: Naming, number: int, now: float = 0.0, ssrc: int = 7) -> tuple[int, int]:
        talker = naming.of_rtp(HOST, ssrc, now)
        return talker.source, talker.named(talker.number(number, now))


class Same(Case):
    def test_two_who_hear_the_same(self) -> None:
        """Two reflectors give one packet one name, whenever within four seconds they met the talker, and whatever their own clocks of monotonic time are."""
        one, two = self.naming(), self.naming()
        said = list(range(65_500, 65_536)) + list(range(100))
        first = [self.name(one, number, 5.0 + at / 50) for at, number in enumerate(said)]
        second = [self.name(two, number, 9_000.0 + at / 50) for at, number in enumerate(said)]
        self.assertEqual(first, second)
        self.assertEqual([n for _, n in first], list(range(first[0][1], first[0][1] + len(said))))

    def test_what_is_in_a_name(self) -> None:
        """Site, group, host and SSRC each make another source; the zone of a link-local address makes none."""
        names = {
            self.naming().of_rtp(HOST, 7, 0).source,
            self.naming(site="yard").of_rtp(HOST, 7, 0).source,
            self.naming("239.1.2.4:5000").of_rtp(HOST, 7, 0).source,
            self.naming().of_rtp("192.0.2.2", 7, 0).source,
            self.naming().of_rtp(HOST, 8, 0).source,
            self.naming().of_opaque(HOST, 7, 0).source,
        }
        self.assertEqual(len(names), 6)
        self.assertEqual(
            self.naming().of_rtp("fe80::1%eth0", 7, 0).source,
            self.naming().of_rtp("fe80::1%enp3s0", 7, 0).source,
        )

    def test_vector(self) -> None:
        """Fixed for all versions: two of different age may run side by side."""
        self.assertEqual(self.name(self.naming(), 1_000), (0x9C396BB55E1120F2, 0x2A3003E8))


class Numbers(Case):
    def test_beginning_anew(self) -> None:
        """A radio that counts from 0 at every press is no gap, and no repetition: numbers go on by one."""
        naming = self.naming()
        numbers = [self.name(naming, n, n / 50)[1] for n in range(100)]
        numbers += [self.name(naming, n, 3.0 + n / 50)[1] for n in range(100)]
        numbers += [self.name(naming, n, 6.0 + (n - 40_000) / 50)[1] for n in range(40_000, 40_100)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 300)))

    def test_overtaken_and_lost(self) -> None:
        """What was overtaken a moment ago has its own number; a gap stays a gap."""
        naming = self.naming()
        begin = self.name(naming, 10, 0.0)[1]
        self.assertEqual([self.name(naming, n, 0.02)[1] - begin for n in (12, 11, 15, 13)], [2, 1, 5, 3])
        self.assertEqual(self.name(naming, 9, 0.03)[1], begin - 1)

    def test_after_an_hour(self) -> None:
        """Who was silent for an hour is a new talker, in the block of that time."""
        naming = self.naming()
        begin = self.name(naming, 10, 0.0)[1]
        self.unix += FORGET_S + 4
        again = self.name(naming, 10, FORGET_S + 1)[1]
        self.assertEqual(again - begin, int((FORGET_S + 4) // BLOCK_S) << 16)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.integers(0, 65_535), min_size=1, max_size=30),
        st.lists(st.integers(0, 65_535), min_size=1, max_size=30),
        st.integers(0, 80_000),
        st.integers(2 * BLOCK_S, 6_000),
    )
    def test_restart(self, before: list[int], after: list[int], second: int, later: int) -> None:
        """A reflector that starts again goes on ahead of where it was: at most one packet of a talker is not believed at once."""
        self.unix = MIDNIGHT + second
        window = Window()
        for at, number in enumerate(before):
            source, sequence = self.name(self.naming_once(), number, at / 50)
            window.ask(sequence, at / 50)
        del self._naming
        self.unix += later
        source2, first = self.name(self.naming_once(), after[0], 0.0)
        _, following = self.name(self._naming, (after[0] + 1) & 0xFFFF, 0.02)
        del self._naming
        if self.unix < MIDNIGHT + DAY_S:
            self.assertEqual(source2, source)
            verdicts = [window.ask(first, 10.0), window.ask(following, 10.02)]
            self.assertEqual(verdicts[1], Verdict.FRESH)
        else:
            self.assertNotEqual(source2, source)

    def naming_once(self) -> Naming:
        if not hasattr(self, "_naming"):
            self._naming = self.naming()
        return self._naming

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(0, 65_535), min_size=1, max_size=60))
    def test_any_numbers(self, numbers: list[int]) -> None:
        """Whatever numbers come at a talker's pace, each datagram has a name of its own: nothing that is said is taken for a repetition."""
        naming = self.naming()
        given_names = [self.name(naming, number, at * 0.25) for at, number in enumerate(numbers)]
        self.assertEqual(len(set(given_names)), len(numbers))


class Agreeing(Case):
    def both(self) -> tuple[Naming, Naming]:
        """Two who met a talker at different times: on different days, even."""
        one = self.naming()
        self.old = self.name(one, 100)
        self.unix += DAY_S
        two = self.naming()
        self.new = self.name(two, 100)
        self.assertNotEqual(self.old, self.new)
        return one, two

    def tell(self, to: Naming, name: tuple[int, int], follow: bool = False) -> bool:
        talker = to.of_rtp(HOST, 7, 0.1)
        return to.elsewhere(talker, 100, *name, follow=follow)

    def test_both_tell(self) -> None:
        """Each hears how the other names a packet, in any order: from the next one on they agree."""
        for swap in (False, True):
            one, two = self.both()
            pairs = [(one, self.new), (two, self.old)]
            for naming, name in reversed(pairs) if swap else pairs:
                self.assertTrue(self.tell(naming, name))
            self.assertEqual(self.name(one, 101, 0.1), self.name(two, 101, 0.1))
            self.assertEqual(self.name(one, 101, 0.1)[0], min(self.old[0], self.new[0]))
            self.assertEqual(one.agreed + two.agreed, 1)

    def test_a_standby_follows(self) -> None:
        """Who sends nothing takes the other's name whatever it is, and goes on with it."""
        one, two = self.both()
        self.assertTrue(self.tell(two, self.old, follow=True))
        self.assertEqual(self.name(two, 101, 0.1), self.name(one, 101, 0.1))

    def test_one_ahead(self) -> None:
        """One source, two counts: the one ahead is taken by the other."""
        one, two = self.naming(), self.naming()
        a, b = one.of_opaque(HOST, 9, 0), two.of_opaque(HOST, 9, 0)
        for _ in range(5):
            a.count(0.0)
        at = a.count(0.0), b.count(0.0)
        names = a.named(at[0]), b.named(at[1])
        self.assertTrue(one.elsewhere(a, at[0], b.source, names[1]))
        self.assertTrue(two.elsewhere(b, at[1], a.source, names[0]))
        self.assertEqual(a.named(a.count(1.0)), b.named(b.count(1.0)))
        self.assertEqual((one.agreed, two.agreed), (0, 1))

    def test_strangers_teach_nothing(self) -> None:
        """A name that no reflector could have given is nobody's business here: somebody echoes."""
        one, _ = self.both()
        self.assertFalse(self.tell(one, (1, 1), follow=True))
        self.assertEqual(self.name(one, 101, 0.1), (self.old[0], self.old[1] + 1))

    def test_our_own_host(self) -> None:
        """What another reflector would call RTP that we send into the group is known, for the day and the days around it."""
        one = self.naming()
        theirs = one.of_rtp("10.0.0.5", 99, 0.0).source
        self.assertTrue(one.given_to(("10.0.0.9", "10.0.0.5"), 99, theirs))
        self.unix += 3 * DAY_S
        self.assertTrue(one.given_to(("10.0.0.5",), 99, theirs))
        self.assertFalse(one.given_to(("10.0.0.5",), 98, theirs))
        self.assertFalse(one.given_to((), 99, theirs))


class Bounds(Case):
    kinds: ClassVar = 20

    def test_many_talkers(self) -> None:
        """The half that was silent longest is forgotten; who talks is not."""
        naming = self.naming(max_talkers=self.kinds)
        for ssrc in range(self.kinds + 1):
            naming.of_rtp(HOST, ssrc, 1.0 + ssrc).at = 1.0 + ssrc
        self.assertEqual((len(naming), naming.forgotten), (self.kinds // 2 + 1, self.kinds // 2))
        self.assertIn(self.kinds, {int(t.key, 16) for t in naming.talkers})

    def test_ciphertext(self) -> None:
        """Who once sends what cannot be RTP is read no more, and counted by port."""
        naming = self.naming()
        self.assertTrue(naming.speaks_rtp(HOST, 5))
        naming.unreadable(HOST, 5)
        self.assertFalse(naming.speaks_rtp(HOST, 5))
        self.assertTrue(naming.speaks_rtp(HOST, 6))
        for port in range(1_000):
            naming.unreadable(HOST, port + 10)
        self.assertTrue(naming.speaks_rtp(HOST, 5))

    def test_a_talker_is_small(self) -> None:
        """No dictionary for each."""
        self.assertFalse(hasattr(Talker("", "", 0, 0), "__dict__"))
