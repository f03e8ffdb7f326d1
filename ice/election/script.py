"""Mishaps on paper: a small script, a line each, for :mod:`ice.election.simulate`.

::

    # seconds  what      who
    30         kill      a
    60         start     a
    90         freeze    b 15        # stands still for 15 s
    120        cut       a>b c>a     # one way each; `a-b` both ways
    150        partition ab c        # only those of one word hear each other
    170        heal                  # all links are whole
    200        clock     c 3600      # its clock is an hour ahead
    230        loss      20          # percent; `delay 50` milliseconds

Further: ``stop`` (in order), ``wake``, ``disable``, ``enable``, ``order bca``, ``unready``, ``ready``, ``empty`` (not ready, and no stored configuration). Members are called
a, b, c … in the order of their priority; a moment may be in cycles: ``3c``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ice.election.rules import Member
from ice.election.simulate import World
from ice.errors import LocalError

MAX_LINES: Final = 10_000
MAX_MOMENT_S: Final = 10_000_000.0


@attrs.frozen
class Step:
    """A line of a script: when, what, to whom or what; ``text`` is the line as it was written."""

    at_s: float
    verb: str
    words: tuple[str, ...]
    text: str


def read_script(lines: Iterable[str], members: Iterable[str], cycle_s: float) -> list[Step]:
    """The steps of a script in their order; raises :class:`~ice.errors.LocalError` that names the line."""
    known = set(members)
    steps: list[Step] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(steps) == MAX_LINES:
            raise LocalError(f"line {number}: a script has at most {MAX_LINES} steps")
        try:
            if len(words) < 2 or words[1] not in VERBS:
                raise LocalError(f"expected a moment and one of {', '.join(sorted(VERBS))}, like `30 kill a`")
            at_s = _number(words[0].removesuffix("c")) * (cycle_s if words[0].endswith("c") else 1)
            if not 0 <= at_s <= MAX_MOMENT_S:
                raise LocalError(f"{words[0]} is no moment of a simulation")
            VERBS[words[1]](tuple(words[2:]), known)
        except LocalError as error:
            raise LocalError(f"line {number}: {' '.join(words)}: {error}") from None
        steps.append(Step(at_s, words[1], tuple(words[2:]), " ".join(words[1:])))
    return sorted(steps, key=lambda step: step.at_s)


def play(world: World, steps: Iterable[Step]) -> None:
    """Have the steps happen in a world, each at its moment."""
    for step in steps:
        world.at(step.at_s, lambda step=step: _do(world, step))  # type: ignore[misc]


def _do(world: World, step: Step) -> None:
    world.log(step.text)
    VERBS[step.verb](step.words, set(world.machines))(world)


Doing = Callable[[World], object]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LocalError(f"expected a number, found {text[:40]}")
    return number


def _names(words: tuple[str, ...], known: set[str]) -> list[str]:
    names = list("".join(words))
    for name in names:
        if name not in known:
            raise LocalError(f"there is no member {name}, only {', '.join(sorted(known))}")
    if not names:
        raise LocalError("expected the letters of members")
    return names


def _each(act: Callable[[World, str], object]) -> Callable[[tuple[str, ...], set[str]], Doing]:
    def read(words: tuple[str, ...], known: set[str]) -> Doing:
        names = _names(words, known)
        return lambda world: [act(world, name) for name in names]

    return read


def _one_number(words: tuple[str, ...], low: float, high: float) -> float:
    if len(words) != 1 or not low <= (number := _number(words[0])) <= high:
        raise LocalError(f"expected one number from {low:g} to {high:g}")
    return number


def _freeze(words: tuple[str, ...], known: set[str]) -> Doing:
    (name,) = _names(words[:1], known)
    length = _one_number(words[1:], 0, MAX_MOMENT_S) if len(words) > 1 else math.inf

    def do(world: World) -> None:
        world.freeze(name)
        if length < math.inf:
            world.at(world.now + length, lambda: world.wake(name))

    return do


def _clock(words: tuple[str, ...], known: set[str]) -> Doing:
    (name,) = _names(words[:1], known)
    ahead_s = _one_number(words[1:], -1e9, 1e9)
    return lambda world: world.set_clock(name, ahead_s)


def _cut(words: tuple[str, ...], known: set[str]) -> Doing:
    ways: set[tuple[str, str]] = set()
    for word in words:
        if len(word) != 3 or word[1] not in ">-":
            raise LocalError(f"expected a>b (one way) or a-b (both), found {word[:20]}")
        one, other = _names((word[0] + word[2],), known)
        ways |= {(one, other)} | ({(other, one)} if word[1] == "-" else set())
    if not ways:
        raise LocalError("expected ways like a>b or a-b")

    def do(world: World) -> None:
        world.network.cut |= ways

    return do


def _partition(words: tuple[str, ...], known: set[str]) -> Doing:
    _names(words, known)
    return lambda world: world.partition(*words)


def _heal(words: tuple[str, ...], known: set[str]) -> Doing:
    if words:
        raise LocalError("heal takes no words: all links are whole again")
    return lambda world: world.network.cut.clear()


def _loss(words: tuple[str, ...], known: set[str]) -> Doing:
    percent = _one_number(words, 0, 100)
    return lambda world: setattr(world.network, "loss", percent / 100)


def _delay(words: tuple[str, ...], known: set[str]) -> Doing:
    delay_s = _one_number(words, 0, 600_000) / 1_000
    return lambda world: setattr(world.network, "delay_s", (delay_s * 0.8, delay_s * 1.2))


def _enabled(on: bool) -> Callable[[World, str], None]:
    def act(world: World, name: str) -> None:
        members = (
            attrs.evolve(member, enabled=on) if member.id == name else member
            for member in world.group.members
        )
        world.configure(attrs.evolve(world.group, members=tuple(members)))

    return act


def _order(words: tuple[str, ...], known: set[str]) -> Doing:
    names = _names(words, known)
    if sorted(names) != sorted(known):
        raise LocalError("expected every member once")

    def do(world: World) -> None:
        by_id: dict[str, Member] = {member.id: member for member in world.group.members}
        world.configure(attrs.evolve(world.group, members=tuple(by_id[name] for name in names)))

    return do


VERBS: Final[dict[str, Callable[[tuple[str, ...], set[str]], Doing]]] = {
    "kill": _each(World.kill),
    "start": _each(World.start),
    "stop": _each(World.stop),
    "freeze": _freeze,
    "wake": _each(World.wake),
    "clock": _clock,
    "cut": _cut,
    "partition": _partition,
    "heal": _heal,
    "loss": _loss,
    "delay": _delay,
    "disable": _each(_enabled(False)),
    "enable": _each(_enabled(True)),
    "order": _order,
    "ready": _each(lambda world, name: world.set_ready(name, ready=True)),
    "unready": _each(lambda world, name: world.set_ready(name, ready=False)),
    "empty": _each(lambda world, name: world.set_ready(name, ready=False, stored=False)),
}
