"""A mission without any server, and with a Rallypoint that comes and goes while people talk.

Four namespaces: the talker's network, the listener's, the Rallypoint's, and between them a router that routes multicast (smcroute). Programs and daemons are real;
what the listener hears is real RTP, sealed with the group's key, and goes through a real jitter buffer.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest

from .roads import Place, command, obstacle
from .town import PORT, Program, Town

GROUP_ADDRESS = "239.9.9.1"
AFTER_S = 1.0  # multicastFailoverSecs
SETTLE_S = 2.5  # both ways after a return; 30 s in life
SLACK_S = 0.4  # allowance for a machine that does other things as well
IN_FLIGHT_S = 0.1  # what was handed to a Rallypoint so shortly before it was killed may have died with it


def _obstacle() -> str | None:
    if shutil.which("smcrouted") is None:
        return "smcroute is not installed (apt install smcroute)"
    return obstacle()


pytestmark = pytest.mark.skipif(_obstacle() is not None, reason=_obstacle() or "")


@attrs.define(eq=False)
class Voice:
    """One of the two people, and what was written down."""

    program: Program
    trace: Path

    def order(self, do: str) -> None:
        assert self.program.process is not None and self.program.process.stdin is not None
        self.program.process.stdin.write(json.dumps({"do": do}).encode() + b"\n")
        self.program.process.stdin.flush()

    def lines(self, e: str) -> list[dict[str, Any]]:
        """Everything of one kind so far."""
        if not self.trace.exists():
            return []
        whole = [line for line in self.trace.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [entry for entry in map(json.loads, whole) if entry["e"] == e]

    @property
    def way(self) -> str:
        """How the group is reached, as the person was told last."""
        paths = self.lines("path")
        if not paths or not paths[-1]["up"]:
            return ""
        return "multicast" if "multicast" in paths[-1]["why"] else "rallypoint"

    @property
    def bursts(self) -> int:
        """Bursts said so far."""
        return max((line["bursts"] for line in self.lines("said")), default=0)


@attrs.define(eq=False)
class Scene:
    """Two people of one mission, and a Rallypoint that does not run yet."""

    town: Town
    anna: Voice
    bob: Voice

    def until(self, true: Callable[[], bool], what: str) -> None:
        self.town.until(true, what, timeout_s=15.0, every_s=0.02)

    def both_over(self, way: str) -> None:
        self.until(lambda: self.anna.way == self.bob.way == way, f"both talk over {way}")

    def some_bursts(self, count: int = 1) -> None:
        """Until so many whole bursts more have been said."""
        wanted = self.anna.bursts + 1 + count
        self.until(lambda: self.anna.bursts >= wanted, f"burst {wanted} has been said")

    def in_the_middle(self) -> None:
        """Until a burst has run for a while: what happens now happens in the middle of speech."""
        begun = self.anna.bursts
        self.until(lambda: self.anna.bursts > begun, "a burst ends")
        self.until(lambda: self.anna.lines("sent")[-1]["flags"] == 0, "the next one runs")
        time.sleep(0.2)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Everything but the Rallypoint runs."""
    with Town.build(tmp_path / "town", rallypoints=1, sites=2, mesh=False) as town:
        roads, folder = town.roads, town.folder
        doors = [roads.places[site].door for site in town.sites]
        lines = [f"phyint {door} enable ttl-threshold 1" for door in doors]
        lines += [f"mroute from {a} group {GROUP_ADDRESS} to {b}" for a in doors for b in doors if a != b]
        conf = folder / "smcroute.conf"
        conf.write_text("\n".join(lines) + "\n")
        router = Place("router", 0, roads.router)
        words = ["smcrouted", "-n", "-N", "-f", conf, "-P", folder / "smc.pid", "-u", folder / "smc.sock"]
        town.program("smcrouted", router, words).start()
        mission = folder / "mission.json"
        at = {"address": GROUP_ADDRESS, "port": 24_000}
        [rallypoint] = town.rallypoints.values()
        group = {
            "type": 1,
            "name": "Red",
            "rx": at,
            "tx": at,
            "txOptions": {"priority": 3, "ttl": 4},
            "cryptoPassword": "0f1e2d3c4b5a6978" * 4,
            "cipher": "aes-256-gcm",
            "enableMulticastFailover": True,
            "multicastFailoverSecs": AFTER_S,
            "rallypoints": [{"host": {"address": rallypoint.place.address, "port": PORT}}],
        }
        mission.write_text(json.dumps({"name": "Exercise", "groups": [group]}))
        people = []
        for name, site in zip(("anna", "bob"), town.sites, strict=True):
            plan, trace = folder / f"{name}.json", folder / f"{name}.jsonl"
            config = town.person(name, site)
            plan.write_text(
                json.dumps(
                    {"mission": str(mission), "config": str(config), "group": "Red", "settle_s": SETTLE_S}
                )
            )
            program = town.program(
                name,
                roads.places[site],
                [sys.executable, Path(__file__).with_name("tactical.py"), plan, trace],
            )
            program.start()
            people.append(Voice(program, trace))
        town.until(
            lambda: (
                (folder / "smc.sock").exists() and all(door in _interfaces(roads.router) for door in doors)
            ),
            "multicast is routed",
        )
        yield Scene(town, *people)


def _interfaces(namespace: str) -> str:
    return command("ip", "netns", "exec", namespace, "cat", "/proc/net/ip_mr_vif")


def test_through_it_all(scene: Scene) -> None:
    """No server; a Rallypoint appears, dies, returns and dies again, each time in the middle of a burst: nothing is heard twice, nothing is lost but what the time to fail over takes."""
    town, anna, bob = scene.town, scene.anna, scene.bob
    scene.both_over("multicast")
    anna.order("talk")
    scene.some_bursts()
    alone_until = time.monotonic_ns()

    scene.in_the_middle()
    town.launch("rp1")
    scene.both_over("rallypoint")
    time.sleep(SETTLE_S)
    scene.some_bursts()  # the last of which went to the Rallypoint alone
    scene.in_the_middle()
    first_kill = time.monotonic_ns()
    town.kill("rp1")
    scene.both_over("multicast")
    scene.some_bursts()

    scene.in_the_middle()
    town.launch("rp1")
    scene.both_over("rallypoint")
    scene.in_the_middle()  # of a burst that goes both ways
    second_kill = time.monotonic_ns()
    town.kill("rp1")
    scene.both_over("multicast")
    scene.some_bursts()
    anna.order("hush")
    scene.until(lambda: time.monotonic_ns() - anna.lines("sent")[-1]["ns"] > 3e8, "the last burst is over")
    for voice in (anna, bob):
        voice.order("stop")
        assert voice.program.wait() == 0, voice.program.tail()

    sent, heard = anna.lines("sent"), bob.lines("heard")
    unsent = [line for line in sent if not line["ok"]]
    counts = Counter(line["n"] for line in heard)
    said = Counter(line["n"] for line in sent)

    # Nothing is heard twice, but for the end marks, which are said thrice.
    assert all(counts[n] <= said[n] for n in counts)
    assert not anna.lines("heard"), "own talk does not come back"
    # With no server at all everything is heard.
    assert not [line for line in sent if line["ns"] < alone_until and line["n"] not in counts]
    # What was not sent was not sent in the time to fail over, once: the second time multicast had everything anyway.
    assert unsent
    assert first_kill < unsent[0]["ns"] and unsent[-1]["ns"] < first_kill + (AFTER_S + SLACK_S) * 1e9
    # What was sent was heard, but for what was inside a Rallypoint that died; so nothing is lost at the returns.
    lost = [line["ns"] for line in sent if line["ok"] and line["n"] not in counts]
    near = [(kill - IN_FLIGHT_S * 1e9, kill + IN_FLIGHT_S * 1e9) for kill in (first_kill,)]
    assert all(any(a <= ns <= b for a, b in near) for ns in lost), (lost, first_kill, second_kill)
    # The gap is at most what the mission says, but for what a busy machine adds.
    times = [line["ns"] for line in heard]
    gaps = [later - earlier for earlier, later in pairwise(times) if earlier < first_kill + 5e8 < later + 5e8]
    gap = max(gaps) / 1e9
    assert gap <= AFTER_S + SLACK_S, gap
    # For the ear: one talker at a time, each burst once; the one that was interrupted goes on after the gap.
    assert max(line["most"] for line in bob.lines("talkers")) == 1
    assert len(bob.lines("began")) <= anna.bursts + 1
    [end] = bob.lines("end")
    assert end["refused"] == {}
    print(
        f"bursts {anna.bursts}, began {len(bob.lines('began'))}, sent {len(sent)}, unsent {len(unsent)}, "
        f"lost in flight {len(lost)}, gap {gap:.3f} s, copies suppressed {end['counts']['copies']}"
    )
