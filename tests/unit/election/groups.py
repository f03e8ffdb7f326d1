"""Groups for tests: members a, b, c … in the order of their priority."""

import random

import attrs

from ice.election.rules import Group, Member, Quorum
from ice.election.simulate import Overlap, World

SALT = bytes(range(32))
GROUP_ID = "6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"
MS = 1_790_000_000_000


def group(
    size: int = 3, quorum: Quorum = Quorum.MAJORITY, cycle_s: float = 10.0, *, exclusive: bool = True
) -> Group:
    """A group of so many members, named by letters, the first in the alphabet the first in the list."""
    members = tuple(Member(letter, letter.upper()) for letter in "abcdefg"[:size])
    return Group(GROUP_ID, members, quorum, cycle_s, (SALT,), "test", exclusive)


def with_members(old: Group, order: str, disabled: str = "") -> Group:
    """The same group with its members in another order, some of them disabled."""
    members = tuple(Member(letter, letter.upper(), letter not in disabled) for letter in order)
    return attrs.evolve(old, members=members)


def world(old: Group, seed: int = 0, **options: bool) -> World:
    """Its simulation, everybody started within a cycle, at moments that the seed says."""
    made = World(old, seed=seed, **options)
    chance = random.Random(seed)
    for id in made.machines:
        made.at(chance.uniform(0, old.cycle_s), lambda id=id: made.start(id))  # type: ignore[misc]
    return made


def longest(overlaps: list[Overlap]) -> float:
    """The longest time in which two led."""
    return max((each.ends_s - each.begins_s for each in overlaps), default=0.0)
