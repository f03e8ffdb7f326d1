"""Whole groups on paper: how long a takeover takes, what a divided group does, and every case that once made two lead."""

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ice.election.decisions import State
from ice.election.rules import Quorum
from ice.election.simulate import World
from tests.unit.election.groups import group, longest, with_members, world

CYCLE_S = 10.0


def prompt(size: int = 3, quorum: Quorum = Quorum.MAJORITY, **options: bool) -> World:
    """A group without delays, all started at moment 0, after five cycles: a leads, and sends its ballots at full cycles."""
    made = World(group(size, quorum, CYCLE_S, **options))
    made.network.delay_s = (0.0, 0.0)
    made.start()
    made.run(50.5)
    assert made.forwarding() == ["a"], made.forwarding()
    return made


def state(made: World, id: str) -> State:
    tally = made.machines[id].tally
    assert tally is not None
    return tally.state


class Takeovers(SynchronousTestCase):
    def gap(self, made: World, most_s: float) -> float:
        """How long nobody forwards from now on, to a hundredth of a cycle."""
        begin, step = made.now, made.group.cycle_s / 100
        while not made.forwarding():
            made.run(made.now + step)
            self.assertLess(made.now - begin, most_s)
        return (made.now - begin) / made.group.cycle_s

    def test_killed(self) -> None:
        """A leader that dies is replaced after two to four cycles; with `for` never more than one more, and mostly in less."""
        for cycle_s in (10.0, 0.1):
            for quorum, exclusive, most in (
                (Quorum.MAJORITY, True, 3.3), (Quorum.MAJORITY, False, 4), (Quorum.NONE, True, 4), (Quorum.N_MINUS_1, True, 4),
            ):  # fmt: skip
                gaps = []
                for seed in range(12):
                    made = world(group(3, quorum, cycle_s, exclusive=exclusive), seed)
                    made.network.delay_s = (0.001 * cycle_s, 0.01 * cycle_s)
                    made.run((10 + seed / 12) * cycle_s)
                    made.kill("a")
                    gaps.append(self.gap(made, 5 * cycle_s))
                    self.assertEqual(made.forwarding(), ["b"])
                    self.assertEqual(made.overlaps, [])
                self.assertGreater(min(gaps), 1.9)
                self.assertLess(max(gaps), most)

    def test_stopped(self) -> None:
        """An orderly stop is over in little more than a tenth of a cycle, again and again."""
        for quorum in Quorum:
            made = prompt(4, quorum)
            made.network.delay_s = (0.01, 0.1)
            made.stop("a")
            self.assertLess(self.gap(made, CYCLE_S), 0.13)
            made.run(made.now + 25)
            self.assertEqual(made.forwarding(), ["b"])
            made.start("a")
            made.run(made.now + 50)
            self.assertEqual((made.forwarding(), made.overlaps), (["a"], []))

    def test_disabled(self) -> None:
        """So is disabling the leader, or taking it down in the list."""
        for change in ({"order": "abc", "disabled": "a"}, {"order": "bca"}):
            made = prompt()
            led_s = made.led_s
            made.configure(with_members(made.group, **change))
            made.run(made.now + 60)
            self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))
            self.assertGreater(made.led_s - led_s, 60 - 0.25 * CYCLE_S)

    def test_newcomer(self) -> None:
        """One of higher priority takes over, with `for` without a moment of two, and next to none of nobody."""
        made = prompt()
        made.kill("a")
        made.run(120)
        made.start("a")
        led_s = made.led_s
        made.run(200)
        self.assertEqual((made.forwarding(), made.overlaps), (["a"], []))
        self.assertGreater(made.led_s - led_s, 80 - 0.2 * CYCLE_S)

    def test_scaled(self) -> None:
        """A hundredth of the cycle is the same election, only faster."""
        told = []
        for cycle_s in (10.0, 0.1):
            made = World(group(3, cycle_s=cycle_s))
            made.network.delay_s = (0.0005 * cycle_s, 0.0005 * cycle_s)
            made.start()
            for moment, what in ((6, made.kill), (11, made.start), (17, made.stop), (22, made.start)):
                made.at(moment * cycle_s, lambda what=what: what("a"))  # type: ignore[misc]
            made.run(30 * cycle_s)
            told.append([
                (entry.who, entry.what.split(":")[0], round(entry.at_s / cycle_s, 1))
                for entry in made.timeline if entry.what.startswith(("leads", "yields"))
            ])  # fmt: skip
        self.assertEqual(*told)
        self.assertEqual([who for who, what, _ in told[0] if what == "leads"], ["a", "b", "a", "b", "a"])

    def test_coasting(self) -> None:
        """A leader that is not ready leads on until one that is has won twice; where nobody is ready it goes on."""
        made = prompt()
        for id in "abc":
            made.set_ready(id, ready=False)
        made.run(150)
        self.assertEqual(made.forwarding(), ["a"])
        made.set_ready("c", ready=True)
        led_s = made.led_s
        made.run(250)
        self.assertEqual((made.forwarding(), made.overlaps), (["c"], []))
        self.assertGreater(made.led_s - led_s, 100 - 1.3 * CYCLE_S)

    def test_lost_ballots(self) -> None:
        """One lost ballot of the leader, or of each follower in its turn, changes nobody's place."""
        made = prompt(5)
        for sender in "abcde":
            made.network.cut = {(sender, other) for other in "abcde"}
            made.run(made.now + 0.999 * CYCLE_S)
            made.network.cut = set()
            made.run(made.now + 2 * CYCLE_S)
        self.assertEqual(
            [entry.what for entry in made.timeline if entry.at_s > 50 and "leads:" in entry.what], []
        )
        self.assertAlmostEqual(made.led_s, made.now - 20, delta=0.2)


class Divided(SynchronousTestCase):
    def parts(self, quorum: Quorum, exclusive: bool, *parts: str) -> list[str]:
        """Who leads when a group falls into parts; when it is whole again, a leads alone."""
        made = prompt(sum(map(len, parts)), quorum, exclusive=exclusive)
        made.partition(*parts)
        made.run(150)
        found = made.forwarding()
        made.network.cut.clear()
        made.run(230)
        self.assertEqual(made.forwarding(), ["a"])
        return found

    def test_documented(self) -> None:
        """None: a leader in each part. Majority and N minus 1: in the part that has enough, if there is one."""
        for exclusive in (True, False):
            self.assertEqual(self.parts(Quorum.NONE, exclusive, "ab", "c"), ["a", "c"])
            self.assertEqual(self.parts(Quorum.NONE, exclusive, "a", "b", "c"), ["a", "b", "c"])
            self.assertEqual(self.parts(Quorum.MAJORITY, exclusive, "a", "bc"), ["b"])
            self.assertEqual(self.parts(Quorum.MAJORITY, exclusive, "ab", "cd"), [])
            self.assertEqual(self.parts(Quorum.MAJORITY, exclusive, "ab", "cde"), ["c"])
            self.assertEqual(self.parts(Quorum.N_MINUS_1, exclusive, "a", "bcde"), ["b"])
            self.assertEqual(self.parts(Quorum.N_MINUS_1, exclusive, "ab", "cde"), [])
            self.assertEqual(self.parts(Quorum.N_MINUS_1, exclusive, "a", "b"), ["a", "b"])

    def test_divided_while_handing_over(self) -> None:
        """The leader is disabled, the group divides and the order changes, all in one moment: by the documented rule two lead until the ballots from before have expired; with `for` one."""
        for exclusive, most in ((False, 2 * CYCLE_S), (True, 0.0)):
            made = prompt(3, exclusive=exclusive)
            made.network.delay_s = (0.01, 0.01)
            made.configure(with_members(made.group, "abc", "a"))
            made.partition("b", "ac")
            made.configure(with_members(made.group, "cba"))
            made.run(200)
            self.assertEqual(made.forwarding(), ["c"])
            self.assertLessEqual(longest(made.overlaps), most)
            self.assertEqual(bool(made.overlaps), not exclusive)

    def one_way(self, *ways: str, exclusive: bool) -> World:
        """Of three, only these ways work, each written from-to, from three and a half cycles on."""
        made = prompt(exclusive=exclusive)
        made.network.cut = {(one, other) for one in "abc" for other in "abc"} - {
            (way[0], way[1]) for way in ways
        }
        made.run(200)
        return made

    def test_not_heard(self) -> None:
        """A leader that hears all and is heard by none: the documented majority gets two leaders, `for` one."""
        self.assertEqual(self.one_way("ba", "ca", "bc", "cb", exclusive=False).forwarding(), ["a", "b"])
        made = self.one_way("ba", "ca", "bc", "cb", exclusive=True)
        self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))

    def test_deaf(self) -> None:
        """The first in the list is heard by all, and hears nobody: it keeps nobody from leading."""
        made = self.one_way("ab", "ac", "bc", "cb", exclusive=True)
        self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))

    def test_not_transitive(self) -> None:
        """a and b hear each other, b and c hear each other, a and c do not: one leads, whoever is in the middle."""
        for middle, leader in (("b", "a"), ("a", "a"), ("c", "a")):
            ends = "abc".replace(middle, "")
            ways = [way for end in ends for way in (end + middle, middle + end)]
            made = self.one_way(*ways, exclusive=True)
            self.assertEqual((made.forwarding(), made.overlaps), ([leader], []))

    def test_one_way_chain(self) -> None:
        """A hears B and B hears C, but A does not hear C: two of the documented rule where each hears one, one at most with `for`."""
        self.assertEqual(self.one_way("ba", "cb", exclusive=False).forwarding(), ["a", "b"])
        self.assertEqual(self.one_way("ba", "cb", exclusive=True).forwarding(), [])

    def test_ring(self) -> None:
        """Each hears one other and is heard by the third: with `for` nobody leads, and the status says why."""
        made = self.one_way("ab", "bc", "ca", exclusive=True)
        self.assertEqual((made.forwarding(), made.overlaps), ([], []))
        tally = made.machines["a"].tally
        assert tally is not None
        last = [entry.what for entry in made.timeline if entry.who == "a"][-1]
        self.assertEqual(state(made, "a"), State.NO_QUORUM)
        self.assertIn("name this one first, 2 are needed (are some heard by others only?)", last)


class Clocks(SynchronousTestCase):
    def test_an_hour(self) -> None:
        """A member whose clock is off by an hour is excluded and says so; the others are not affected."""
        for quorum in Quorum:
            for who in "abc":
                for skew_s in (3_600.0, -3_600.0):
                    made = prompt(3, quorum)
                    made.set_clock(who, skew_s)
                    made.run(130)
                    leader = "b" if who == "a" else "a"
                    self.assertEqual((made.forwarding(), state(made, who)), ([leader], State.CLOCK_SKEW))
                    self.assertEqual(longest(made.overlaps), 0.0)
                    made.set_clock(who, 0.0)
                    made.run(220)
                    self.assertEqual(made.forwarding(), ["a"])

    def test_creeping(self) -> None:
        """A clock that runs away second by second is found out too."""
        made = prompt(5)
        for second in range(12):
            made.at(60 + 10 * second, lambda second=second: made.set_clock("a", -1.0 * second))  # type: ignore[misc]
        made.run(260)
        self.assertEqual((made.forwarding(), state(made, "a")), (["b"], State.CLOCK_SKEW))
        self.assertEqual(longest(made.overlaps), 0.0)

    def test_two(self) -> None:
        """Two members cannot decide whose clock is wrong: majority has no leader then, N minus 1 two."""
        for quorum, leaders in ((Quorum.MAJORITY, []), (Quorum.N_MINUS_1, ["a", "b"])):
            made = prompt(2, quorum)
            made.set_clock("b", 3_600.0)
            made.run(150)
            self.assertEqual(made.forwarding(), leaders)

    def test_frozen(self) -> None:
        """A leader that wakes from a freeze has no right any more before it has read a single datagram."""
        for quorum in Quorum:
            for cycles in (2.0, 3.0, 30.0):
                made = prompt(3, quorum)
                made.freeze("a")
                made.run(made.now + cycles * CYCLE_S)
                machine = made.machines["a"]
                machine.frozen = False
                self.assertLessEqual(machine.forwards_until(made.now), made.now)
                machine.frozen = True
                made.wake("a")
                self.assertNotIn("a", made.forwarding())
                made.run(made.now + 80)
                self.assertEqual((made.forwarding(), made.overlaps), (["a"], []))

    def test_virtual_machine_stopped(self) -> None:
        """A virtual machine that stands still with all its clocks has no right as soon as its clock on the wall is put right."""
        made = prompt()
        machine = made.machines["a"]
        made.freeze("a")
        made.run(made.now + 40)
        machine.base_s -= 40.0
        machine.skew_s = -40.0
        machine.frozen = False
        self.assertGreater(machine.forwards_until(made.now), made.now)  # it cannot know
        machine.skew_s = 0.0
        self.assertLessEqual(machine.forwards_until(made.now), made.now)


class TwoLed(SynchronousTestCase):
    """Cases in which two led, until the rules were what they are."""

    def test_flipping(self) -> None:
        """c names b, then a again, unheard by b: only one of them may count on it.

        `held` exists because of this: the naming of b was heard by b, that of a by a, and both were valid.
        """
        made = prompt()
        made.network.cut = {("a", "b"), ("a", "c")}
        made.run(65)
        made.network.cut = {("a", "b")}
        made.network.far["a", "c"] = 5.0
        made.run(71.6)  # c and b have heard nothing of a for two cycles and name b
        self.assertEqual(made.machines["c"].tally.named, "b")  # type: ignore[union-attr]
        made.network.cut = {("a", "b"), ("c", "b")}
        made.run(77)
        self.assertEqual(made.machines["c"].tally.named, "a")  # type: ignore[union-attr]
        made.run(85)
        self.assertEqual(made.forwarding(), ["b"])
        made.run(140)
        self.assertEqual((made.forwarding(), made.overlaps), (["a"], []))

    def test_late_resignation(self) -> None:
        """a resigns and starts again; c hears the resignation late, and names b; a may not live on what c said to it before.

        `heard` exists because of this: who is named knows which of its lives was meant.
        """
        made = prompt()
        made.run(51.5)
        made.network.far["a", "c"] = 15.0
        made.stop("a")
        made.network.far.clear()
        made.network.cut = {("a", "b"), ("a", "c"), ("b", "a")}
        made.start("a")
        made.run(61.9)  # c has named a once more
        made.network.cut |= {("c", "a")}
        made.run(140)
        self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))

    def test_resigned_and_back(self) -> None:
        """a is disabled, and enabled again at once, cut off from the others: it has given back what they lent it."""
        made = prompt()
        made.run(51.5)
        whole = made.group
        made.network.cut = {("b", "a"), ("c", "a")}
        made.configure(with_members(whole, "abc", disabled="a"))
        made.run(51.6)
        made.partition("a", "bc")
        made.configure(whole)
        made.run(140)
        self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))

    def test_late_ballots(self) -> None:
        """What a leader hears late is not younger for it: it stops when those who named it may name another."""
        for cycle_s in (10.0, 1.0):
            for late in (0.3, 0.6, 0.9):
                made = World(group(3, cycle_s=cycle_s))
                made.network.delay_s = (0.0, 0.0)
                made.start()
                made.run(5.05 * cycle_s)
                made.network.far = {("b", "a"): late * cycle_s, ("c", "a"): late * cycle_s}
                made.run(8.05 * cycle_s)
                made.network.cut = {("a", "b"), ("a", "c")}
                made.run(20 * cycle_s)
                self.assertEqual((made.forwarding(), made.overlaps), (["b"], []))

    def test_growing(self) -> None:
        """A group grows by one member at a time: majorities of the old and of the new size have a member in common."""
        made = World(with_members(group(5), "abcde"))
        made.network.delay_s = (0.0, 0.0)
        four = attrs.evolve(made.group, members=made.group.members[:4])
        made.start("a", "b", "c", "d")
        made.run(60)
        for tally in (made.machines[id].tally for id in "ab"):
            assert tally is not None
            tally.configure(four, made.now, made.machines["a"].unix_ms(made.now))
        made.partition("ab", "cde")
        made.start("e")
        made.run(140)
        self.assertEqual((made.forwarding(), made.overlaps), (["c"], []))
