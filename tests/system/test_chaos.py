"""The plan and the judge of a chaos run, on paper: nothing is started."""

import xml.etree.ElementTree as ElementTree

import attrs
import numpy as np
import pytest

from bench.chaos import Drops
from bench.chaos_report import Account, draw
from bench.faults import (
    ALIVE_S,
    ALLOWANCE_S,
    CALM_S,
    CONNECT_S,
    IN_FORCE_S,
    KINDS,
    MOVE_S,
    RECOVERY_S,
    Fault,
    Happened,
    Judge,
    Where,
    schedule,
)

from .tally import Pair, Silence

NAMES = [f"rp{number}" for number in range(1, 6)]
SITES = [f"s{number}" for number in range(1, 6)]
WHERE = Where(
    homes={f"p{number}": [(0.0, f"rp{number}")] for number in range(1, 6)},
    sites={f"p{number}": f"s{number}" for number in range(1, 6)},
)


def happened(kind: str, begin_s: float, end_s: float, *places: str, number: int = 0) -> Happened:
    """A fault that happened."""
    return Happened(Fault(number, kind, begin_s, end_s - begin_s, places), begin_s, end_s)


def test_a_seed_is_a_plan() -> None:
    """The same seed gives the same plan, another one another; all kinds occur, two at once at most, and the beginning and the end are peaceful."""
    plan = schedule(7, 600.0, NAMES, SITES)
    assert plan == schedule(7, 600.0, NAMES, SITES) != schedule(8, 600.0, NAMES, SITES)
    assert {fault.kind for seed in range(5) for fault in schedule(seed, 600.0, NAMES, SITES)} == set(KINDS)
    assert len(plan) > 40
    assert plan[0].at_s >= CALM_S
    assert max(fault.at_s + fault.lasts_s for fault in plan) <= 600.0 - RECOVERY_S - CALM_S
    for seed in range(20):
        plan = schedule(seed, 600.0, NAMES, SITES)
        for fault in plan:
            at_once = [
                each for each in plan if each.at_s - IN_FORCE_S < fault.at_s < each.at_s + each.lasts_s
            ]
            assert len(at_once) <= 2, at_once
            assert fault.kind != "partition" or len(fault.places) == 4
    assert schedule(7, 20.0, NAMES, SITES) == []


@pytest.mark.parametrize(
    ("this", "concerned", "until_s", "not_concerned"),
    [
        (happened("kill", 10, 15, "rp1"), ("p1", "p2"), 10.3, ("p2", "p3")),
        (happened("freeze", 10, 18, "rp1"), ("p2", "p1"), 12.8, ("p2", "p3")),
        (happened("freeze", 10, 11, "rp1"), ("p2", "p1"), 11.3, ("p2", "p3")),
        (happened("restart", 10, 14, "rp1"), ("p1", "p2"), 11.3, ("p2", "p3")),
        (happened("cut", 10, 18, "rp1", "rp2"), ("p1", "p2"), 12.6, ("p1", "p3")),
        (happened("reset", 10, 18, "rp1", "rp2"), ("p2", "p1"), 10.1, ("p2", "p3")),
        (happened("cut-site", 10, 18, "s1", "rp1"), ("p1", "p2"), 12.8, ("p2", "p3")),
        (happened("partition", 10, 18, "rp1", "rp2", "s1", "s2"), ("p1", "p3"), 20.0, ("p1", "p2")),
    ],
    ids=lambda value: str(value.fault) if isinstance(value, Happened) else None,
)
def test_what_a_lone_fault_explains(
    this: Happened, concerned: tuple[str, str], until_s: float, not_concerned: tuple[str, str]
) -> None:
    """A lone fault explains what those whom it concerns miss, as long as is promised and not longer, and nothing else."""
    judge = Judge([this], WHERE)
    assert judge.why(*concerned, 10.0) is this
    assert judge.why(*concerned, until_s + ALLOWANCE_S - 0.01) is this
    assert judge.why(*concerned, until_s + ALLOWANCE_S + 0.01) is None
    assert judge.why(*concerned, 9.5) is None
    assert judge.why(*not_concerned, 10.1) is None


@pytest.mark.parametrize("kind", ["slow", "reload"])
def test_some_faults_explain_nothing(kind: str) -> None:
    """A slow road loses nothing, nor does a reload."""
    judge = Judge([happened(kind, 10, 18, "rp1", "rp2")], WHERE)
    assert judge.why("p1", "p2", 10.1) is None


def test_two_homes() -> None:
    """People with two homes are excused by no lone fault but a partition that puts them on different sides, or cuts one off from both homes; and by faults at once."""
    homes = {"p1": ("rp1", "rp2"), "p2": ("rp2", "rp3"), "p3": ("rp3", "rp4"), "p5": ("rp1", "rp2")}
    where = Where(WHERE.homes, WHERE.sites, {who: [(0.0, each)] for who, each in homes.items()})
    for kind in ("kill", "freeze", "restart"):
        judge = Judge([happened(kind, 10, 15, "rp1")], where)
        assert judge.why("p1", "p2", 10.1) is None
        assert judge.why("p1", "p4", 10.1), "who has one home is excused"
    assert Judge([happened("cut", 10, 15, "rp1", "rp2")], where).why("p1", "p2", 10.1) is None
    divided = Judge([happened("partition", 10, 30, "rp1", "rp2", "s1", "s2")], where)
    assert divided.why("p1", "p3", 20.0)
    assert divided.why("p1", "p2", 10.1) is None, "p2 is at home on both sides"
    assert divided.why("p3", "p5", 10.1), "p5 is cut off from both homes"
    assert divided.why("p3", "p5", 29.0) is None
    both = Judge([happened("freeze", 10, 18, "rp1"), happened("kill", 12, 17, "rp2", number=1)], where)
    assert both.why("p1", "p2", 12.1)


def test_faults_at_once() -> None:
    """A fault that begins while another is in force explains what anybody misses, and for longer where people lose time with who does not answer."""
    first, second = happened("freeze", 10, 18, "rp1"), happened("kill", 15, 17, "rp2", number=1)
    judge = Judge([second, first], WHERE)
    assert judge.why("p3", "p4", 12.0) is None
    assert judge.why("p3", "p4", 15.2) is second
    end_s = 15 + MOVE_S + ALLOWANCE_S + MOVE_S + CONNECT_S
    assert judge.why("p3", "p4", end_s - 0.01) is second
    assert judge.why("p3", "p4", end_s + 0.01) is None
    early = happened("reset", 1, 5, "rp1", "rp2")
    assert Judge([early, second], WHERE).why("p3", "p4", 15.2) is None
    late = attrs.evolve(early, whole_s=15.1)  # a link that is still missing is gone round
    assert Judge([late, second], WHERE).why("p3", "p4", 15.2) is second


def test_who_moved_is_concerned_where_they_are() -> None:
    """People who have moved are concerned by what happens to their new Rallypoint, and no more by what happens to the old one."""
    where = Where({**WHERE.homes, "p1": [(0.0, "rp1"), (5.0, "rp3")]}, WHERE.sites)
    assert Judge([happened("kill", 10, 15, "rp3")], where).why("p1", "p2", 10.1)
    assert not Judge([happened("kill", 10, 15, "rp1")], where).why("p1", "p2", 10.1)
    away = happened("partition", 10, 30, "rp1", "rp2", "s1", "s2")
    assert Judge([away], where).why("p1", "p3", 10.0 + ALIVE_S), "their Rallypoint is on the other side"


def account(pairs: list[Pair]) -> Account:
    """An account of a minute in which a Rallypoint was killed."""
    this = attrs.evolve(happened("kill", 110, 115, "rp1"), whole_s=116.0)
    return Account.of(
        seed=5, begin_s=100.0, calm_s=150.0, end_s=160.0, pairs=pairs, judge=Judge([this], WHERE), happened=[this],
        drops={"rp1": {"duplicate": 3, "hops": 0}}, copies={"p1": 1}, late_ms=0, troubles=[],
    )  # fmt: skip


def pair(listener: str, lost_at: list[float], doubled: int = 0) -> Pair:
    """What a listener heard of p1."""
    return Pair(
        listener=listener, talker="p1", stream="town", attempts=1_000, heard=1_000 - len(lost_at), doubled=doubled, disordered=0,
        lost_at=np.array(lost_at), unsent_at=np.array([110.3]), silences=(Silence(110.0, 0.3),), silence_s=0.3,
        latency_s=np.full(10, 0.01),
    )  # fmt: skip


def test_an_account() -> None:
    """Losses with a reason are no fault, and the picture shows them; one without, or one doubled, is."""
    good = account([pair("p2", [110.1, 110.2])])
    assert good.good
    assert (good.tolls[0].lost, good.tolls[0].unsent, good.tolls[0].silence_s) == (2, 1, 0.3)
    picture = draw(good)
    ElementTree.fromstring(picture)
    assert "kill rp1" in picture and "WITHOUT" in picture and "WRONG" not in picture
    assert good.value()["sums"]["lost_explained"] == 2
    assert not account([pair("p2", [110.1, 120.0])]).good
    assert not account([pair("p2", [], doubled=1)]).good
    calm = account([pair("p2", [155.0])])
    assert calm.troubles and not calm.good
    assert "WRONG" in draw(calm)


def test_counters_survive_a_restart() -> None:
    """Copies dropped on the way are summed over the lives of a Rallypoint."""
    drops = Drops()
    for counted in ({"hops": 0, "duplicate": 5}, {"hops": 0, "duplicate": 7}, {"hops": 0, "duplicate": 2}):
        drops.take("rp1", counted)
    assert drops.totals == {"rp1": {"hops": 0, "duplicate": 9}}
    assert drops.sum("duplicate") == 9
