"""Model checking: whatever happens to members, clocks and networks, two never lead; and when all is well again, one does.

The rules are thrown in any order by hypothesis; the engine is the one that satellites run. Each machine class is one promise of docs/election.md.
"""

from abc import abstractmethod
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import Ballot
from ice.election.rules import Quorum
from ice.election.simulate import Network, World
from tests.unit.election.groups import group, longest, with_members

CYCLES = st.floats(0, 3.5, width=16)
WHO = st.integers(0, 6)
MANY = 10  # ballots that somebody has recorded


class Recorder(World):
    """A world in which somebody listens, and may say again what was said."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.heard: list[Ballot | bytes] = []

    def send(self, to: str, datagram: Ballot | bytes, delay_s: float) -> None:
        self.heard.append(datagram)
        del self.heard[:-MANY]
        super().send(to, datagram, delay_s)


class Troubles(RuleBasedStateMachine):
    """What may happen to any group."""

    QUORUM: ClassVar = Quorum.MAJORITY
    EXCLUSIVE: ClassVar = True
    CYCLE_S: ClassVar = st.sampled_from([10.0, 0.1])
    DELAY: ClassVar = 2.5  # cycles
    SKEW_S: ClassVar = 0.0  # each clock, either way
    FREEZES: ClassVar = True
    LOSSES: ClassVar = True  # else what is sent is heard by all of a part, soon
    CHANGES: ClassVar = True  # of priorities and readiness
    SIZES: ClassVar = st.integers(1, 7)

    @initialize(data=st.data(), seed=st.integers(0, 2**32))
    def begin(self, data: st.DataObject, seed: int) -> None:
        self.group = group(
            data.draw(self.SIZES), self.QUORUM, data.draw(self.CYCLE_S), exclusive=self.EXCLUSIVE
        )
        self.cycle_s = self.group.cycle_s
        self.world = Recorder(self.group, seed=seed, late_s=(0.0, 0.02 * self.cycle_s))
        self.ids = list(self.world.machines)
        for number, machine in enumerate(self.world.machines.values()):
            machine.base_s = 1_000.0 * number
            machine.rate = 1 + 1e-5 * (number - 3)
            self.world.at(
                data.draw(st.floats(0, 1, width=16)) * self.cycle_s,
                lambda id=machine.id: self.world.start(id),  # type: ignore[misc]
            )
        self.world.run(data.draw(st.sampled_from([0, 0.5, 4])) * self.cycle_s)

    def one(self, who: int) -> str:
        return self.ids[who % len(self.ids)]

    @rule(cycles=CYCLES)
    def time_passes(self, cycles: float) -> None:
        self.world.run(self.world.now + cycles * self.cycle_s)

    @rule(who=WHO)
    def kill(self, who: int) -> None:
        self.world.kill(self.one(who))

    @rule(who=WHO)
    def stop(self, who: int) -> None:
        self.world.stop(self.one(who))

    @rule(who=WHO)
    def start(self, who: int) -> None:
        self.world.start(self.one(who))

    @precondition(lambda self: self.FREEZES)
    @rule(who=WHO, cycles=st.floats(0.0625, 4, width=16))
    def freeze(self, who: int, cycles: float) -> None:
        id = self.one(who)
        self.world.freeze(id)
        self.world.at(self.world.now + cycles * self.cycle_s, lambda: self.world.wake(id))

    @rule(bits=st.integers(0, 2**7 - 1))
    def partition(self, bits: int) -> None:
        part = {id for number, id in enumerate(self.ids) if bits >> number & 1}
        self.world.partition(part, set(self.ids) - part)

    @precondition(lambda self: self.LOSSES)
    @rule(ways=st.lists(st.tuples(WHO, WHO), max_size=12))
    def cut_one_way(self, ways: list[tuple[int, int]]) -> None:
        self.world.network.cut |= {(self.one(sender), self.one(receiver)) for sender, receiver in ways}

    @precondition(lambda self: self.LOSSES)
    @rule(way=st.sampled_from(["from", "to", "both"]), kept=WHO)
    def lose_the_leader(self, way: str, kept: int) -> None:
        """All ways from whoever leads are cut, or all to it; but for one member, perhaps."""
        for leader in self.world.forwarding():
            for other in set(self.ids) - {leader, self.one(kept)}:
                self.world.network.cut |= {(leader, other)} if way != "to" else set()
                self.world.network.cut |= {(other, leader)} if way != "from" else set()

    @rule(share=st.floats(0, 1, width=16))
    def slow_to_the_leader(self, share: float) -> None:
        """What whoever leads hears is on its way for longer than what others hear."""
        for leader in self.world.forwarding():
            for other in self.ids:
                self.world.network.far[other, leader] = share * self.DELAY * self.cycle_s / 2

    @precondition(lambda self: self.LOSSES)
    @rule(who=WHO)
    def heard_again(self, who: int) -> None:
        """All ways from one member work."""
        id = self.one(who)
        self.world.network.cut -= {(id, other) for other in self.ids}

    @rule()
    def heal(self) -> None:
        self.world.network.cut.clear()
        self.world.network.far.clear()

    @precondition(lambda self: self.LOSSES)
    @rule(loss=st.sampled_from([0.0, 0.1, 0.5, 0.9]), duplicates=st.sampled_from([0.0, 0.5]))
    def lossy(self, loss: float, duplicates: float) -> None:
        self.world.network.loss, self.world.network.duplicates = loss, duplicates

    @rule(low=st.floats(0, 1, width=16), high=st.floats(0, 1, width=16))
    def slow(self, low: float, high: float) -> None:
        most = self.DELAY / 2 * self.cycle_s
        self.world.network.delay_s = (min(low, high) * most, max(low, high) * most)

    @precondition(lambda self: self.CHANGES)
    @rule(order=st.permutations(range(7)), disabled=st.sets(WHO, max_size=2))
    def priorities(self, order: list[int], disabled: set[int]) -> None:
        kept = "".join(self.ids[each] for each in order if each < len(self.ids))
        self.world.configure(with_members(self.group, kept, "".join(self.one(who) for who in disabled)))

    @precondition(lambda self: self.CHANGES)
    @rule(who=WHO, ready=st.booleans(), stored=st.booleans())
    def readiness(self, who: int, ready: bool, stored: bool) -> None:
        self.world.set_ready(self.one(who), ready=ready, stored=stored)

    @precondition(lambda self: self.LOSSES)
    @rule(who=WHO, deaf=st.booleans())
    def silent(self, who: int, deaf: bool) -> None:
        self.world.machines[self.one(who)].deaf = deaf

    @rule(who=WHO, which=st.integers(0, MANY - 1))
    def replay(self, who: int, which: int) -> None:
        if self.world.heard:
            heard = self.world.heard
            self.world.send(self.one(who), heard[which % len(heard)], 0.0)

    @precondition(lambda self: self.SKEW_S > 0)
    @rule(who=WHO, share=st.floats(-1, 1, width=16))
    def set_clock(self, who: int, share: float) -> None:
        self.world.set_clock(self.one(who), share * self.SKEW_S)

    @invariant()
    def fences_stand(self) -> None:
        """Who leads has a right that ends; who does not lead has none."""
        for machine in self.world.machines.values() if hasattr(self, "world") else ():
            tally = machine.tally
            if tally is not None:
                assert tally.active or not tally.fence.allows(float("-inf"), 0)
                assert (
                    not tally.active or tally.fence.until < machine.mono(self.world.now) + self.group.valid_s
                )

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.recovers()

    def recovers(self) -> None:
        """Everything is well again: within the bound the first in the list leads, everybody knows it, and nobody else does."""
        world = self.world
        before = len(world.overlaps)
        world.network = Network(delay_s=(0.001 * self.cycle_s, 0.01 * self.cycle_s))
        world.configure(self.group)
        for id, machine in world.machines.items():
            machine.deaf = False
            machine.skew_s = 0.0
            world.set_ready(id, ready=True)
            world.wake(id)
        world.start()
        for machine in world.machines.values():
            if machine.tally is not None and machine.tally.group != self.group:  # it slept through the change
                machine.tally.configure(self.group, machine.mono(world.now), machine.unix_ms(world.now))
        # what is on its way still comes (DELAY), what was accepted ahead of time passes (tolerance), then two elections
        settle = self.DELAY + self.group.tolerance_s / self.cycle_s + 9
        world.run(world.now + settle * self.cycle_s)
        self.check(world, before)
        assert world.forwarding() == ["a"], world.forwarding()
        for machine in world.machines.values():
            assert machine.tally is not None and machine.tally.leader == "a"
        began = world.led_s
        world.run(world.now + 5 * self.cycle_s)
        assert world.led_s - began > 4.999 * self.cycle_s, "the leader kept its lead"

    @abstractmethod
    def check(self, world: World, before: int) -> None:
        """What must never have happened."""


class ClocksAgree(Troubles):
    """Clocks within the margin of each other: two never lead, however long datagrams are on their way."""

    CYCLE_S = st.just(10.0)
    SKEW_S = 0.49

    @invariant()
    def one_leads(self) -> None:
        if hasattr(self, "world"):
            self.check(self.world, 0)

    def check(self, world: World, before: int) -> None:
        assert not world.overlaps, world.overlaps


class DelaysAreShort(ClocksAgree):
    """Datagrams arrive within the margin: two never lead, however wrong clocks are."""

    CYCLE_S = st.sampled_from([10.0, 1.0, 0.1])
    SKEW_S = 3_600.0
    DELAY = 0.09
    FREEZES = False


class NothingHolds(ClocksAgree):
    """Wrong clocks and late datagrams: two lead for less than a cycle at a time."""

    CYCLE_S = st.sampled_from([10.0, 1.0, 0.1])
    SKEW_S = 6.0

    def check(self, world: World, before: int) -> None:
        assert longest(world.overlaps) < self.cycle_s, world.overlaps


class Documented(Troubles):
    """Majority without `for`: two may lead for a while, but not once the network is whole."""

    EXCLUSIVE = False
    SKEW_S = 0.49

    def check(self, world: World, before: int) -> None:
        late = [each for each in world.overlaps[before:] if each.ends_s > world.now - 3 * self.cycle_s]
        assert not late, late


class Parts(Documented):
    """Majority without `for`, where members hear each other both ways or not at all, soon, stand never still, and keep their priorities: two lead for less than two cycles, the life of the ballots that parts have of each other."""

    DELAY = 0.09
    SKEW_S = 0.0
    CYCLE_S = st.just(10.0)
    FREEZES = False
    LOSSES = False
    CHANGES = False

    def check(self, world: World, before: int) -> None:
        super().check(world, before)
        assert longest(world.overlaps) < 2.0 * self.cycle_s, world.overlaps


class PartsButOne(Parts):
    """N minus 1, from three members on: the same."""

    QUORUM = Quorum.N_MINUS_1
    SIZES = st.integers(3, 7)


class NoQuorum(Documented):
    """No quorum: parts each have a leader, one leads when they meet again."""

    QUORUM = Quorum.NONE


class AllButOne(Documented):
    """N minus 1: the same."""

    QUORUM = Quorum.N_MINUS_1


QUICK = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

# The promise that matters most; so much finds most faults of an engine, and test_counterexamples the others.
THOROUGH = settings(QUICK, max_examples=120, stateful_step_count=30)


class Model(SynchronousTestCase):
    def test_clocks_agree(self) -> None:
        """With `for` and clocks within the margin two never lead, and one leads when all is well."""
        run_state_machine_as_test(ClocksAgree, settings=THOROUGH)  # type: ignore[no-untyped-call]

    def test_delays_are_short(self) -> None:
        """With `for` and delays within the margin two never lead, whatever clocks do."""
        run_state_machine_as_test(DelaysAreShort, settings=QUICK)  # type: ignore[no-untyped-call]

    def test_nothing_holds(self) -> None:
        """With `for`, wrong clocks and late datagrams, two lead for less than a cycle."""
        run_state_machine_as_test(NothingHolds, settings=QUICK)  # type: ignore[no-untyped-call]

    def test_documented_majority(self) -> None:
        """Without `for` one leads when all is well."""
        run_state_machine_as_test(Documented, settings=QUICK)  # type: ignore[no-untyped-call]

    def test_parts(self) -> None:
        """Without `for`, parts of a divided group both lead for less than two cycles, under majority and N minus 1."""
        run_state_machine_as_test(Parts, settings=QUICK)  # type: ignore[no-untyped-call]
        run_state_machine_as_test(PartsButOne, settings=QUICK)  # type: ignore[no-untyped-call]

    def test_no_quorum(self) -> None:
        """Without quorum one leads when all is well."""
        run_state_machine_as_test(NoQuorum, settings=QUICK)  # type: ignore[no-untyped-call]

    def test_all_but_one(self) -> None:
        """With N minus 1 one leads when all is well."""
        run_state_machine_as_test(AllButOne, settings=QUICK)  # type: ignore[no-untyped-call]
