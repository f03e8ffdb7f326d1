"""Many Rallypoints, one voice network: real daemons on hosts of their own, roads that are cut between them, and numbered speech over all of it.

One town serves all tests: five Rallypoints of the core, ``rp1`` to ``rp5``, a leaf ``rp6``, and by each a site with two people (``a1`` and ``b1`` by ``rp1``).
Every test begins with everything well and everybody at home. What the mesh promises stands in :data:`BOUNDS`; a machine that does other things as well
has :data:`SLOW_S` more for each.
"""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ice.cli.speech import SPEECH
from ice.cli.trace import compare, read_trace
from ice.media import quality, wav

from .roads import obstacle
from .tally import Pair, among, told
from .town import BIN, WAIT_S, Program, Town

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")

CORE = ["rp1", "rp2", "rp3", "rp4", "rp5"]
STREAM = "square"
ALIVE_S = 2.5  # the alive rule of docs/link-protocol.md, section 6, during a burst
BOUNDS = {"reset": 0.1, "silence": ALIVE_S + 0.1, "killed": 0.3, "frozen": ALIVE_S + 0.3, "healed": 2.0}
SLOW_S = 0.3
PROTECTED = 0x10


def people_of(*sites: int) -> list[str]:
    """Everybody of those sites."""
    return [f"{letter}{site}" for site in sites for letter in "ab"]


EVERYBODY = people_of(1, 2, 3, 4, 5)
ONE_EACH = ["a1", "a2", "a3", "a4", "a5"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The town, with everybody in it."""
    with Town.build(tmp_path_factory.mktemp("town"), rallypoints=5, leaves=1, sites=6) as town:
        town.start()
        town.settle({f"s{site}": people_of(site) for site in range(1, 7)}, STREAM)
        yield town


@pytest.fixture
def town(built: Town) -> Iterator[Town]:
    """The town, well and quiet."""
    built.restore()
    yield built
    print(built.told())  # shown where the test failed


def heard_of(town: Town, since_s: float, until_s: float = float("inf")) -> list[Pair]:
    """Who heard whom, of what was said in a time, the leaf's people aside."""
    return [
        pair
        for pair in town.tape.read().pairs(since_s, until_s)
        if pair.stream == STREAM and pair.listener in EVERYBODY and pair.talker in EVERYBODY
    ]


def others(pairs: Sequence[Pair], concerned: Sequence[Pair]) -> list[Pair]:
    """Those that are not among the concerned."""
    return [pair for pair in pairs if pair not in concerned]


def assert_whole(pairs: Sequence[Pair]) -> None:
    """Nothing is lost, unsent, doubled or out of order."""
    assert_complete(pairs)
    assert not [p for p in pairs if p.disordered], told(pairs)


def assert_complete(pairs: Sequence[Pair]) -> None:
    """Nothing is lost, unsent or doubled."""
    assert pairs
    wrong = [p for p in pairs if p.lost or p.unsent or p.doubled]
    assert not wrong, told(wrong)


def assert_silence(pairs: Sequence[Pair], bound: str) -> None:
    """Nothing is doubled, and nobody was silent for longer than the bound."""
    assert pairs
    assert not [p for p in pairs if p.doubled], told(pairs)
    worst = max(pairs, key=lambda pair: pair.silence_s)
    print(f"{bound}: silent for {worst.silence_s:.3f} s at most (bound {BOUNDS[bound]:g} s): {worst}")
    assert worst.silence_s <= BOUNDS[bound] + SLOW_S, told(pairs)


def test_everybody_hears_everybody(town: Town) -> None:
    """Ten talkers over five Rallypoints: nothing lost, nothing doubled, no copy made in vain; and each hop costs little more than one Rallypoint."""
    time.sleep(2.5)  # after a change, old and new ways are both served for 2 s
    town.mark()
    before = {name: town.drops(name) for name in CORE}
    masked = {who: town.tape.counts[who]["duplicates"] for who in EVERYBODY}
    begin_s = time.monotonic()
    with town.talking(*EVERYBODY):
        time.sleep(4.0)
    pairs = heard_of(town, begin_s)
    assert len(pairs) == 90
    assert min(pair.attempts for pair in pairs) > 150
    assert_whole(pairs)
    assert {who: town.tape.counts[who]["duplicates"] for who in EVERYBODY} == masked
    assert {name: town.drops(name) for name in CORE} == before
    at_home = np.concatenate([pair.latency_s for pair in pairs if pair.talker[1] == pair.listener[1]])
    abroad = np.concatenate([pair.latency_s for pair in pairs if pair.talker[1] != pair.listener[1]])
    one, two = (float(np.median(each)) * 1e3 for each in (at_home, abroad))
    print(f"latency over one Rallypoint {one:.2f} ms, over two {two:.2f} ms (medians)")
    assert two - one <= 2 * one


@pytest.mark.parametrize("how", ["reset", "silence"])
def test_a_broken_link_is_gone_round(town: Town, how: str) -> None:
    """One link of the full mesh breaks during bursts: heard again over another Rallypoint in time, nobody else notices, and its return is not noticed at all."""
    begin_s = time.monotonic()
    with town.talking(*ONE_EACH):
        time.sleep(1.0)
        town.roads.cut("rp1", "rp2", how=how)
        time.sleep(BOUNDS[how] + 1.5)
        healed_s = time.monotonic()
        town.roads.heal()
        town.until(lambda: town.whole("rp1", "rp2"), "the link stands again")
        time.sleep(1.0)
    before = heard_of(town, begin_s, healed_s)
    concerned = among(before, people_of(1), people_of(2))
    assert_silence(concerned, how)
    assert_whole(others(before, concerned))
    assert_whole(heard_of(town, healed_s))


def test_a_partition_and_its_healing(town: Town) -> None:
    """Two and three Rallypoints apart: each half talks on without a gap, and two seconds after the healing all hear all."""
    near, far = [1, 2], [3, 4, 5, 6]
    begin_s = time.monotonic()
    with town.talking(*ONE_EACH):
        time.sleep(1.0)
        town.roads.partition(
            *([f"{kind}{site}" for site in half for kind in ("rp", "s")] for half in (near, far))
        )
        time.sleep(5.0)
        healed_s = time.monotonic()
        town.roads.heal()
        time.sleep(BOUNDS["healed"] + SLOW_S + 1.5)
    pairs = heard_of(town, begin_s)
    for half in (people_of(*near), people_of(*far)):
        assert_whole(among(pairs, half))
    across = among(pairs, people_of(*near), people_of(*far))
    assert not [pair for pair in across if pair.doubled], told(across)
    last_s = max(float(pair.lost_at.max(initial=begin_s)) for pair in across)
    print(
        f"healed: what was said {last_s - healed_s:.3f} s after it is heard on the other side (bound {BOUNDS['healed']:g} s)"
    )
    assert last_s - healed_s <= BOUNDS["healed"] + SLOW_S, told(across)
    town.until(town.whole, "all links stand again")


@pytest.mark.parametrize("what", ["killed", "frozen"])
def test_people_move_on(town: Town, what: str) -> None:
    """The Rallypoint of a talker and a listener is killed, or frozen, during bursts: they are heard and hear again in time, and nobody else notices."""
    begin_s = time.monotonic()
    with town.talking(*ONE_EACH):
        time.sleep(1.0)
        if what == "killed":
            town.kill("rp1")
        else:
            town.freeze("rp1")
        time.sleep(BOUNDS[what] + 1.5)
        again_s = time.monotonic()
        if what == "frozen":
            town.thaw("rp1")  # it finds everything that was said to it meanwhile
        time.sleep(1.0)
    before = heard_of(town, begin_s, again_s)
    concerned = [*among(before, people_of(1), people_of(2, 3, 4, 5)), *among(before, people_of(1))]
    assert_silence(concerned, what)
    assert_whole(others(before, concerned))
    assert_whole(heard_of(town, again_s))


def test_a_leaf_carries_nothing_of_others(town: Town) -> None:
    """With all links of a Rallypoint cut but that to a leaf: the leaf's people hear it and are heard, and nothing passes through the leaf."""
    begin_s = time.monotonic()
    with town.talking("a1", "a2", "a6"):
        time.sleep(1.0)
        town.roads.partition(["rp1"], ["rp2", "rp3", "rp4", "rp5"], how="reset")
        cut_s = time.monotonic() + BOUNDS["reset"] + SLOW_S
        time.sleep(3.0)
        end_s = time.monotonic()
    apart = among(town.tape.pairs(cut_s, end_s), people_of(1), people_of(2))
    assert apart and not any(pair.heard for pair in apart), told(apart)
    leaf = [
        pair
        for pair in town.tape.pairs(begin_s, end_s)
        if ("6" in pair.talker and pair.listener in people_of(1, 2, 3))
        or (pair.listener in people_of(6) and pair.talker in ("a1", "a2"))
    ]
    assert_whole(leaf)
    relays = town.mesh("rp6")["relays"]
    assert relays["dropped"]["leaf-origin"] == 0
    assert town.mesh("rp2")["relays"]["dropped"]["leaf-origin"] == 0


def test_who_is_joined_hears_the_first_syllable(town: Town) -> None:
    """Somebody joins a stream of which nobody near has heard, while it is talked on far away over a slow road: from JOINED on nothing is missed."""
    town.roads.slow("rp1", "rp4", 0.06)
    time.sleep(1.5)  # until a round trip has been seen
    streams = [f"door-{number}" for number in range(6)]
    for stream in streams:
        town.tell("a4", "join", stream=stream, listen=False)
    town.until(lambda: all(town.tape.read().up("a4", stream) for stream in streams), "a4 may talk")
    held_s = []
    for stream in streams:
        town.tell("a4", "talk", stream=stream, every_ms=5.0)
        time.sleep(0.3)
        asked_s = time.monotonic()
        town.tell("a1", "join", stream=stream)
        town.until(partial(is_up, town, "a1", stream), "a1 is joined", every_s=0.005)
        held_s.append(town.tape.opened_at("a1", stream) - asked_s)
        time.sleep(0.3)
        town.tell("a4", "hush", stream=stream)
    time.sleep(0.5)
    town.mark()
    pairs = [town.tape.pair("a4", "a1", stream) for stream in streams]
    print("JOINED after", ", ".join(f"{each * 1e3:.0f}" for each in held_s), "ms")
    assert min(pair.attempts for pair in pairs) > 30
    assert_whole(pairs)
    assert min(held_s) > 0.12, "JOINED came before the far Rallypoint could have answered"
    assert max(held_s) < 0.25 + SLOW_S, "JOINED is not held for longer than 250 ms"


def test_who_joins_does_not_wait_without_need(town: Town) -> None:
    """JOINED comes as soon as all neighbours have acknowledged, which takes milliseconds on short roads, not when the longest wait of 250 ms is over."""
    held_s = []
    for stream in (f"gate-{number}" for number in range(7)):
        asked_s = time.monotonic()
        town.tell("a1", "join", stream=stream)
        town.until(partial(is_up, town, "a1", stream), "a1 is joined", every_s=0.005)
        held_s.append(town.tape.opened_at("a1", stream) - asked_s)
    print("JOINED after", ", ".join(f"{each * 1e3:.0f}" for each in held_s), "ms")
    assert float(np.median(held_s)) < 0.1


def is_up(town: Town, who: str, stream: str) -> bool:
    """Whether somebody has joined a stream."""
    return town.tape.read().up(who, stream)


def test_a_restarted_rallypoint_is_understood(town: Town) -> None:
    """Killed and started again at once: it is a new origin, the old one is gone everywhere, and its people come home without missing a word."""
    old = {row["id"]: row["origin"] for row in town.mesh("rp1")["origins"]}
    id = str(town.rallypoints["rp3"].id)
    begin_s = time.monotonic()
    with town.talking("a1", "a2", "a4"):
        time.sleep(0.5)
        town.kill("rp3")
        town.launch("rp3")
        town.await_ready("rp3")
        town.until(town.whole, "it is linked with all others again")
        back_s = time.monotonic()
        time.sleep(1.0)
    pairs = heard_of(town, begin_s)
    assert_whole(among(pairs, people_of(1, 2, 4, 5)))
    assert_whole(heard_of(town, back_s))
    for name in ("rp1", "rp2", "rp6"):
        origins = [row["origin"] for row in town.mesh(name)["origins"] if row["id"] == id]
        assert len(origins) == 1 and origins != [old[id]], (name, origins)
    town.until(town.all_home, "its people are at home again")  # moving home needs a moment of quiet
    home_s = time.monotonic()
    with town.talking("a1", "a3"):
        time.sleep(1.0)
    assert_whole([pair for pair in heard_of(town, home_s) if pair.talker in ("a1", "a3")])


def test_a_stopping_rallypoint_is_gone_round(town: Town) -> None:
    """The Rallypoint over which others go stops in order: their traffic leaves it without a loss, and its own people are told to go elsewhere."""
    town.roads.cut("rp1", "rp3", how="reset")
    town.until(lambda: town.rallypoints["rp3"].id not in town.linked("rp1"), "rp1 and rp3 are apart")
    time.sleep(0.5)
    (way,) = [row for row in town.mesh("rp1")["reach"] if row["id"] == str(town.rallypoints["rp3"].id)]
    carrier = way["via_name"]
    assert carrier in ("rp2", "rp4", "rp5"), way
    begin_s = time.monotonic()
    with town.talking(*ONE_EACH):
        time.sleep(1.0)
        town.stop(carrier)
        time.sleep(1.0)
    away = people_of(int(carrier[2]))
    pairs = heard_of(town, begin_s)
    assert_whole([pair for pair in pairs if pair.talker not in away and pair.listener not in away])
    moved = [pair for pair in pairs if pair.talker in away or pair.listener in away]
    assert_silence(moved, "killed")
    ends = [each["code"] for who in away for each in town.tape.notices[who] if each["kind"] == "lost"]
    assert ends[-1] == "draining", ends


def test_a_reload_is_not_noticed(town: Town) -> None:
    """SIGHUP to every Rallypoint, twice, during bursts: no link drops, no datagram is lost."""
    begin_s = time.monotonic()
    with town.talking(*ONE_EACH):
        for _ in range(2):
            time.sleep(0.5)
            for name in CORE:
                town.reload(name)
        time.sleep(1.0)
    assert_whole(heard_of(town, begin_s))


def test_nothing_circulates(town: Town) -> None:
    """After all that the other tests have done, no datagram went round until its hops were used up, and none is doubled on the way any more."""
    time.sleep(2.5)  # old and new next hops are both served for two seconds
    before = {name: town.drops(name) for name in [*CORE, "rp6"]}
    with town.talking(*ONE_EACH):
        time.sleep(1.5)
    assert {name: town.drops(name) for name in before} == before
    for name, drops in before.items():
        assert not drops["hops"] and not drops["malformed"], (name, drops)


def test_a_sentence_across_the_mesh(town: Town, tmp_path: Path) -> None:
    """``ice talk`` at one Rallypoint, ``ice listen`` at another: every packet arrives, and the same words."""
    talker, listener = (
        Program(
            who, town.roads.places[site],
            [str(BIN / "ice"), *words, "--json", "--config", str(town.person(who, site)), "--trace", str(tmp_path / f"{who}.trace")],
            tmp_path / f"{who}.log",
        )
        for who, site, words in (
            ("anna", "s2", ["talk", "speech", "--file", str(SPEECH)]),
            ("bob", "s5", ["listen", "speech", "--out", str(tmp_path / "bob.wav"), "--idle-exit", "2"]),
        )
    )  # fmt: skip
    try:
        listener.start()
        town.until(
            lambda: any(event["event"] == "path" and event["up"] for event in said(listener)), "bob listens"
        )
        talker.start()
        assert talker.wait(WAIT_S) == 0, talker.tail()
        assert listener.wait(WAIT_S) == 0, listener.tail()
    finally:
        talker.kill() if talker.runs else None
        listener.kill() if listener.runs else None
    packets = compare(read_trace(tmp_path / "anna.trace"), read_trace(tmp_path / "bob.trace"))
    assert packets.sent > 290
    assert (packets.lost, packets.duplicated) == (0, 0)
    assert quality.compare(wav.read(SPEECH), wav.read(tmp_path / "bob.wav")).score > 0.95


def said(program: Program) -> list[dict[str, object]]:
    """The JSON events that a command has told so far."""
    lines = program.log.read_text("utf-8", "replace").splitlines() if program.log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def test_dual_homed_people_miss_nothing(built: Town) -> None:
    """Protected speech of people with two homes: whichever Rallypoint is killed or frozen, whichever link is cut, nothing is lost and nothing doubled."""
    built.restore()
    people = {"s1": "d1", "s3": "d3", "s5": "d5"}
    for site, who in people.items():
        built.crowd(site, {who: [{"stream": "twice"}]}, more_toml="homes = 2", name=f"dual-{site}")
    names = list(people.values())
    built.until(lambda: all(built.tape.read().up(who, "twice") for who in names), "they have joined")
    begin_s = time.monotonic()
    for who in names:
        built.tell(who, "talk", stream="twice", flags=PROTECTED)
    await_two_homes(built, names)
    built.kill("rp1")
    time.sleep(1.5)
    built.launch("rp1")
    built.await_ready("rp1")
    built.until(built.whole, "rp1 is back")
    await_two_homes(built, names)
    built.freeze("rp3")
    time.sleep(ALIVE_S + 1.0)
    built.thaw("rp3")
    built.until(built.whole, "rp3 is back")
    await_two_homes(built, names)
    for a, b in (("rp1", "rp5"), ("s1", "rp1")):
        built.roads.cut(a, b)
        time.sleep(1.0)
        built.roads.heal()
        built.until(built.whole, "the links stand again")
        await_two_homes(built, names)
    for who in names:
        built.tell(who, "hush", stream="twice")
    time.sleep(0.5)
    built.mark()
    pairs = [pair for pair in built.tape.pairs(begin_s) if pair.stream == "twice"]
    assert len(pairs) == 6
    assert_complete(pairs)
    # A path that comes to a talker in mid-sentence may be quicker than the one that carried alone, by what a busy machine keeps back: a jitter buffer's daily bread.
    assert max(p.disordered for p in pairs) <= 10, told(pairs)
    assert max(p.silence_s for p in pairs) <= SLOW_S, told(pairs)


def await_two_homes(town: Town, names: Sequence[str]) -> None:
    """Wait until everybody's speech goes out twice: a Rallypoint that was frozen still counts links that are gone, the talker knows better."""

    def spoken(who: str) -> tuple[int, int]:
        counts = town.tape.counts[who]
        return counts["sent"], counts["copies"]

    def twice() -> bool:
        town.mark()
        before = {who: spoken(who) for who in names}
        time.sleep(0.2)
        town.mark()
        gains = [
            (now[0] - then[0], now[1] - then[1])
            for who in names
            for then, now in [(before[who], spoken(who))]
        ]
        return all(copies == sent > 0 for sent, copies in gains)

    town.until(twice, "everybody has two homes")
