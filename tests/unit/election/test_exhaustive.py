"""A small group, every way that it can go: three members, whatever is heard or lost, whoever starts anew, to a depth.

A step is one member's turn, a third of a cycle: from now until its next turn what it says is heard by both others, by one of them or by neither; or it stands
still for a cycle and a half; or its process starts anew; or stops in an orderly way and starts.  All sequences of steps to a depth are tried.  States that are alike, but for the
date, are gone on from once.
"""

import copy
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import Ballot
from ice.election.decisions import Lead, Send
from ice.election.rules import Quorum
from ice.election.tally import Tally
from tests.unit.election.groups import MS, group

CYCLE_S = 10.0
TURN_S = CYCLE_S / 3
IDS = ("a", "b", "c")
HEARERS = {id: tuple(other for other in IDS if other != id) for id in IDS}
SUBSETS = {id: ((), HEARERS[id][:1], HEARERS[id][1:], HEARERS[id]) for id in IDS}
STILL, ANEW, STOPS = "stands still", "starts anew", "stops and starts"


def copied(value: Any) -> Any:
    """A value whose containers are its own, two deep: what is in them is frozen."""
    if isinstance(value, dict):
        return type(value)(
            {key: each.copy() if isinstance(each, list) else each for key, each in value.items()}
        )
    if isinstance(value, list):
        return value.copy()
    if type(value).__name__ in ("Support", "Clocks", "Fence", "Tally"):
        other = copy.copy(value)
        for key, each in getattr(value, "__dict__", {}).items():
            setattr(other, key, copied(each))
        return other
    return value


class Small:
    """Three members whose clocks agree and whose datagrams take no time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tallies: dict[str, Tally] = {}
        self.heard = dict(HEARERS)
        self.still: dict[str, float] = {}
        self.two = False

    def clone(self) -> "Small":
        other = copy.copy(self)
        other.tallies = {id: copied(tally) for id, tally in self.tallies.items()}
        other.heard, other.still = self.heard.copy(), self.still.copy()
        return other

    def unix_ms(self) -> int:
        return MS + round(self.now * 1_000)

    def start(self, id: str, quorum: Quorum, *, exclusive: bool) -> None:
        self.tallies[id] = Tally(group(3, quorum, CYCLE_S, exclusive=exclusive), id, self.now, self.unix_ms())
        self.serve(id)

    def serve(self, id: str) -> None:
        """Carry what it says to those who hear it, and what they answer."""
        waiting: list[tuple[str, Ballot]] = []
        for act in self.tallies[id].acts():
            if isinstance(act, Send):
                self.tallies[id].sent(self.now)
                waiting += [(to, act.ballot) for to in self.heard[id]]
            elif isinstance(act, Lead):
                self.look()
        for to, ballot in waiting:
            if to not in self.still and to in self.tallies:
                self.tallies[to].hear(ballot, self.now, self.unix_ms())
                self.serve(to)
        self.look()

    def look(self) -> None:
        """Whether two may forward at this moment: a fence is asked also where its process stands still, for it may wake."""
        self.two |= (
            sum(
                tally.active and tally.fence.allows(self.now, self.unix_ms())
                for tally in self.tallies.values()
            )
            > 1
        )

    def run(self, until: float) -> None:
        """What is due is done in its order."""
        while True:
            due = [
                (max(tally.deadline, self.now, self.still.get(id, 0.0)), id)
                for id, tally in self.tallies.items()
            ]
            moment, id = min(due, default=(until, ""))
            if moment >= until:
                break
            self.now = moment
            self.still.pop(id, None)
            self.look()
            self.tallies[id].tick(self.now, self.unix_ms())
            self.serve(id)
        self.now = until

    def key(self) -> tuple[object, ...]:
        """What decides what happens from here on."""
        now, ms = self.now, self.unix_ms()

        def told(ballot: Ballot) -> tuple[object, ...]:
            return (
                ballot.votes,
                ms - ballot.ms,
                ballot.lids,
                ballot.named,
                ballot.held_ms,
                ms - ballot.heard_ms,
                ballot.hears,
            )

        parts: list[object] = [tuple(self.heard.values()), tuple(sorted(self.still.items()))]
        for id, tally in self.tallies.items():
            state = vars(tally)
            parts.append((
                id, tally.active, tally.wins, tally.losses, tally.named, tally._coasting,
                round(tally.deadline - now, 3), round(tally._next - now, 3), round(tally._first - now, 3),
                round(tally._extra - now, 3), round(tally._lead_at - now, 3),
                tuple(round(each - now, 3) for each in state["_hand_over"]),
                min(round(now - tally._started, 3), 40.0), round(now - tally._sent_at, 3), min(round(now - tally._followed, 3), CYCLE_S),
                tuple(sorted((other, ms - newest) for other, newest in tally._newest.items())),
                tuple(sorted((other, round(at - now, 3)) for other, at in tally._promises.items() if at > now - 20.001)),
                tuple(sorted((other, told(held.ballot)) for other, held in tally._ballots.items() if held.expires >= now)),
                tuple(sorted(
                    (other, min(0.0, round(lease.begins - now, 3)), round(lease.ends - now, 3))
                    for other, lease in tally._support._leases.items() if lease.ends >= now
                )),
                tuple(ms - each for each, at in tally._support._mine.items() if at > now - 30.001),
            ))  # fmt: skip
        return tuple(parts)


def steady(quorum: Quorum, *, exclusive: bool) -> Small:
    """The three a third of a cycle apart, the first of them leading for a while."""
    small = Small()
    for id in IDS:
        small.start(id, quorum, exclusive=exclusive)
        small.run(small.now + TURN_S)
    small.run(6 * CYCLE_S)
    assert [tally.active for tally in small.tallies.values()] == [True, False, False]
    return small


def successors(small: Small, turn: int, *, mishaps: bool) -> Iterator[tuple[object, Small]]:
    """All that may happen in a turn."""
    id = IDS[turn % 3]
    for hearers in SUBSETS[id]:
        after = small.clone()
        after.heard[id] = hearers
        yield (id, hearers), after
    if mishaps:
        tally = small.tallies[id]
        after = small.clone()
        after.still[id] = after.now + 1.5 * CYCLE_S
        yield (id, STILL), after
        for what in (ANEW, STOPS):
            after = small.clone()
            if what == STOPS:
                after.tallies[id].resign(after.now, after.unix_ms())
                after.serve(id)
            after.start(id, tally.group.quorum, exclusive=tally.group.exclusive)
            yield (id, what), after


def explore(begin: Small, depth: int, *, mishaps: bool) -> tuple[int, int, tuple[object, ...] | None]:
    """States and steps seen, and the first sequence of steps that leads to two leaders."""
    level: dict[object, tuple[Small, tuple[object, ...]]] = {begin.key(): (begin, ())}
    states, steps = 1, 0
    for turn in range(depth):
        following: dict[object, tuple[Small, tuple[object, ...]]] = {}
        for small, way in level.values():
            for what, after in successors(small, turn, mishaps=mishaps):
                after.run(begin.now + (turn + 1) * TURN_S)
                steps += 1
                if after.two:
                    return states, steps, (*way, what)
                following.setdefault(after.key(), (after, (*way, what)))
        level = following
        states += len(level)
    return states, steps, None


def ways(quorum: Quorum, *, exclusive: bool) -> Iterator[tuple[str, Small]]:
    """Where everything may go on from: all is well; the leader is not heard, hears nothing, or stands still, for two thirds of three cycles."""
    for name, heard in (
        ("well", {}),
        ("not heard", {"a": ()}),
        ("hears nothing", {"b": ("c",), "c": ("b",)}),
        ("nobody hears", {"a": (), "b": (), "c": ()}),
    ):
        begin = steady(quorum, exclusive=exclusive)
        begin.heard.update(heard)
        begin.run(begin.now + (2 * CYCLE_S if heard else 0))
        yield name, begin


class Exhaustive(SynchronousTestCase):
    def deep(self, depth: int, shallow: int) -> None:
        seen = 0
        for name, begin in ways(Quorum.MAJORITY, exclusive=True):
            for turns, mishaps in ((depth, False), (shallow, True)):
                states, steps, found = explore(begin, turns, mishaps=mishaps)
                self.assertIsNone(found, name)
                self.assertGreater(states, 3**shallow)
                seen += steps
        self.assertGreater(seen, 1_000)

    def test_majority_that_names(self) -> None:
        """With `for` no sequence of steps leads to two leaders."""
        self.deep(5, 3)

    def test_documented(self) -> None:
        """Without `for` the search finds two leaders where some are heard that do not hear: so it would have found them above."""
        for quorum in (Quorum.MAJORITY, Quorum.N_MINUS_1, Quorum.NONE):
            found = [explore(begin, 5, mishaps=False)[2] for _, begin in ways(quorum, exclusive=False)]
            self.assertTrue(any(found), quorum)

    def test_one_way_only(self) -> None:
        """The documented majority with links that work both ways or not at all: one leads, but for the time in which a claim is on its way."""
        for heard in ({"a": (), "b": ("c",), "c": ("b",)}, {"a": ("b",), "b": ("a",), "c": ()}):
            begin = steady(Quorum.MAJORITY, exclusive=False)
            begin.heard.update(heard)
            begin.run(begin.now + 10 * CYCLE_S)
            self.assertFalse(begin.two)
