"""How fast a leader is replaced, beside keepalived in the same run; and what many elections cost.

``sudo python bench/election.py [--only takeover|cost|default-cycle] [--rounds 20] [--freezes 5] [--cost-seconds 30] [--groups 200] [--quick]``

**Takeover.** Three namespaces on one switch.  In each round, one after the other: our three members with a cycle of 0.1 s (majority, ballots that name the leader), and keepalived's three (VRRPv3,
adverts each 100 ms) with the same priorities.  The first is killed (``kill -9``), frozen (SIGSTOP) or stopped (SIGTERM) at a random moment of its cycle.  *Takeover* is until another is the leader: ours says so
itself; of keepalived it is its first advert on the wire, seen by this program on the switch.  Both clocks are the machine's ``CLOCK_BOOTTIME``.

**Cost.** 200 groups of five members at the default cycle of 10 s on this host, ballots by multicast on one link: in one process, and in five, each of which is one member of all groups and wakes with
cold caches.  CPU is that of all these processes (``/proc/PID/schedstat``) over the time, after everybody has elected.

**Default cycle.** 40 groups of three at 10 s in three processes, every second by the documented rule, their elections spread over the cycle. The process that leads all of them is killed; it takes a minute and a half of waiting.

Without root, namespaces or keepalived, what needs them is left out, and that is said.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs

from bench.paired import median
from bench.report import Table
from tests.system.lan import Host, Lan, Tap
from tests.system.roads import command, obstacle

CYCLE_S = 0.1
VRRP = 112  # IP protocol
REACH = 1.2  # of keepalived's median
REACH_CPU = 3.0  # percent of a core
CYCLE_DEFAULT_S = 10.0
REACH_DOCUMENTED = 40.0  # seconds: two cycles until its ballots have expired, two elections
REACH_FOR = 50.0  # a cycle more, where ballots name the leader
MEMBER = Path(__file__).with_name("election_member.py")
SETTLE_S = 1.0
WAIT_S = 15.0


def now() -> float:
    """The clock of everybody."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@attrs.define(eq=False)
class Member:
    """A program that takes part, and what it says."""

    words: list[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it in a process group of its own."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def signal(self, number: int) -> None:
        """To all its processes."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Whatever it is doing."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def last(self, what: str, group: int = 0) -> float:
        """When it said this of a group last; 0: never."""
        return self.lasts(what).get(group, 0.0)

    def lasts(self, what: str) -> dict[int, float]:
        """When it said this last, by group."""
        times = {}
        for line in self.log.read_text("utf-8", "replace").splitlines(keepends=True):
            words = line.split()
            if len(words) == 3 and words[0] == what and line.endswith("\n"):
                times[int(words[2])] = float(words[1])
        return times


def until(true: Callable[[], bool], what: str, wait_s: float = WAIT_S, every_s: float = 0.002) -> None:
    """Wait for a fact."""
    began = now()
    while not true():
        if now() - began > wait_s:
            raise SystemExit(f"waited {wait_s:g} s in vain until {what}")
        time.sleep(every_s)


class Ours:
    """Three members of ours."""

    name = "ice"

    def __init__(self, lan: Lan, folder: Path) -> None:
        self.members = [
            Member(
                host.command(sys.executable, MEMBER, "eth0", CYCLE_S, 3, at, 1),
                folder / f"ice-{at}.log",
            )
            for at, host in enumerate(lan.hosts)
        ]

    def settle(self) -> None:
        """Everybody runs, the first leads."""
        for each in self.members:
            if each.process is None or each.process.poll() is not None:
                each.start()
        until(
            lambda: (
                self.members[0].last("active") > self.members[0].last("standby")
                and all(each.last("active") <= each.last("standby") for each in self.members[1:])
            ),
            "the first of ours leads",
        )

    def taken(self, since: float) -> float:
        """When another led."""
        until(lambda: any(each.last("active") > since for each in self.members[1:]), "another of ours leads")
        return min(at for each in self.members[1:] if (at := each.last("active")) > since)

    def close(self) -> None:
        """End all."""
        for each in self.members:
            each.end()


class Keepalived:
    """Three of keepalived."""

    name = "keepalived"

    def __init__(self, lan: Lan, folder: Path) -> None:
        self.members = []
        self.hosts: list[Host] = list(lan.hosts)
        self.tap = Tap(lan.switch, "lan")
        for at, host in enumerate(lan.hosts):
            config = folder / f"keepalived-{at}.conf"
            config.write_text(
                f"global_defs {{\n router_id r{at}\n vrrp_version 3\n}}\n"
                f"vrrp_instance V {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {103 - at}\n"
                f" advert_int {CYCLE_S}\n virtual_ipaddress {{\n  10.65.0.200/24 dev eth0\n }}\n}}\n"
            )
            words = host.command(
                "keepalived", "--vrrp", "--dont-fork", "--log-console", f"--use-file={config}",
                f"--pid={folder}/keepalived-{at}.pid", f"--vrrp_pid={folder}/vrrp-{at}.pid",
            )  # fmt: skip
            self.members.append(Member(words, folder / f"keepalived-{at}.log"))

    def advert(self, wanted: Callable[[str], bool]) -> str:
        """Wait for the next advert of somebody who is wanted; whose it is."""
        packet = self.tap.until(
            lambda packet: packet.version == 4 and packet.protocol == VRRP and wanted(packet.source), WAIT_S
        )
        return packet.source

    def settle(self) -> None:
        """Everybody runs, the first is the master and has been for some adverts."""
        for each in self.members:
            if each.process is None or each.process.poll() is not None:
                each.start()
        time.sleep(0.5)
        row = 0
        while row < 5:
            row = row + 1 if self.advert(lambda address: True) == self.hosts[0].address else 0

    def taken(self, since: float) -> float:
        """When another sent its first advert."""
        self.advert(lambda address: address != self.hosts[0].address)
        return now()

    def close(self) -> None:
        """End all."""
        for each in self.members:
            each.end()
        self.tap.close()


def drain(tap: Tap) -> None:
    """Forget what was on the wire."""
    tap._sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            tap._sock.recv(65_535)
    tap._sock.settimeout(0.2)


def takeover(side: Ours | Keepalived, how: str, chance: random.Random) -> float:
    """One takeover, in seconds; all is as before afterwards."""
    side.settle()
    time.sleep(SETTLE_S + chance.uniform(0, CYCLE_S))
    first = side.members[0]
    if isinstance(side, Keepalived):
        drain(side.tap)
    since = now()
    first.signal({"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}[how])
    took_s = side.taken(since) - since
    if how == "freeze":
        time.sleep(0.3)
        first.signal(signal.SIGCONT)
        time.sleep(0.3)
    elif first.process is not None:
        first.process.wait(WAIT_S)
    return took_s


def takeovers(rounds: int, freezes: int) -> dict[str, Any]:
    """All of them, ours and keepalived's in turns."""
    figures: dict[str, Any] = {}
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        lan = Lan(3)
        sides: list[Ours | Keepalived] = [Ours(lan, Path(name))]
        if shutil.which("keepalived"):
            sides.append(Keepalived(lan, Path(name)))
        else:
            print("keepalived is not installed (apt install keepalived): ours alone")
        try:
            for how, count in (("kill", rounds), ("freeze", freezes), ("stop", freezes)):
                for at in range(count):
                    for side in sides:
                        took_s = takeover(side, how, chance)
                        figures.setdefault(how, {}).setdefault(side.name, []).append(round(took_s, 4))
                    words = ", ".join(f"{each} {times[-1]:.3f} s" for each, times in figures[how].items())
                    print(f"{how} {at + 1}/{count}: {words}", flush=True)
        finally:
            for side in sides:
                side.close()
            lan.close()
    return figures


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextlib.contextmanager
def crowd(
    lan: Lan, folder: Path, groups: int, size: int, cycle_s: float, together: bool, *rule: str
) -> Iterator[list[Member]]:
    """Processes on one host, each a member of all groups; or one, which is all members. ``rule``: see bench/election_member.py."""
    host = lan.hosts[0]
    members = [
        Member(
            host.command(sys.executable, MEMBER, "eth0", cycle_s, size, at, groups, *rule),
            folder / f"crowd-{at}.log",
        )
        for at in ([",".join(map(str, range(size)))] if together else range(size))
    ]
    try:
        for each in members:
            each.start()
        yield members
    finally:
        for each in members:
            each.end()


def cost(groups: int, size: int, cycle_s: float, seconds: float, together: bool) -> dict[str, Any]:
    """Percent of a core that all members of all groups take together."""
    with tempfile.TemporaryDirectory() as name:
        lan = Lan(1)
        try:
            with crowd(lan, Path(name), groups, size, cycle_s, together) as members:
                time.sleep(2.5 * cycle_s)
                until(lambda: members[0].last("active") > 0, "the first group has a leader")
                time.sleep(3.5 * cycle_s)
                pids = [each.process.pid for each in members if each.process is not None]
                before, began = sum(map(cpu_s, pids)), now()
                time.sleep(seconds)
                used, passed = sum(map(cpu_s, pids)) - before, now() - began
        finally:
            lan.close()
    return {
        "processes": 1 if together else size,
        "groups": groups,
        "members": size,
        "cycle_s": cycle_s,
        "seconds": round(passed, 2),
        "cpu_percent": round(100 * used / passed, 3),
        "us_per_ballot_heard": round(1e6 * used / (passed * groups * size * (size - 1) / cycle_s), 1),
    }


def default_cycle(groups: int, cycle_s: float) -> dict[str, list[float]]:
    """Seconds until another leads after ``kill -9``, by rule, in order."""
    with tempfile.TemporaryDirectory() as name:
        lan = Lan(1)
        try:
            with crowd(lan, Path(name), groups, 3, cycle_s, False, "documented") as members:
                first, *others = members
                leads = lambda: len(first.lasts("active")) == groups  # noqa: E731
                until(leads, "the first leads all groups", 6 * cycle_s, 0.1)
                time.sleep(2 * cycle_s)  # until followers go by its ballots
                since = now()
                first.end()

                def taken() -> dict[int, float]:
                    found: dict[int, float] = {}
                    for each in others:
                        for group, at in each.lasts("active").items():
                            if at > since:
                                found[group] = min(at - since, found.get(group, at))
                    return found

                until(lambda: len(taken()) == groups, "all groups have another leader", 8 * cycle_s, 0.1)
                took = taken()
        finally:
            lan.close()
    return {
        rule: sorted(round(each, 2) for group, each in took.items() if group % 2 == odd)
        for odd, rule in enumerate(("for", "documented"))
    }


def table(figures: dict[str, Any]) -> Table:
    """The takeovers."""
    rows = []
    for how, sides in figures.items():
        ours = median(sides["ice"])
        theirs = median(sides["keepalived"]) if "keepalived" in sides else None
        rows.append(
            [
                f"{how} (n = {len(sides['ice'])})",
                f"{1e3 * ours:.0f} ({1e3 * min(sides['ice']):.0f}–{1e3 * max(sides['ice']):.0f})",
                "–"
                if theirs is None
                else f"{1e3 * theirs:.0f} ({1e3 * min(sides['keepalived']):.0f}–{1e3 * max(sides['keepalived']):.0f})",
                "–" if theirs is None else f"{ours / theirs:.2f}",
            ]
        )
    return Table("Takeover, ms: median (least–greatest)", ["", "ice", "keepalived", "ratio"], rows)


def main() -> int:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--freezes", type=int, default=10)
    parser.add_argument("--cost-seconds", type=float, default=30.0)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--only", choices=("takeover", "cost", "default-cycle"))
    parser.add_argument("--quick", action="store_true", help="three of each, ten seconds of cost")
    parser.add_argument("--json", type=Path, help="write the figures there")
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.rounds = wanted.freezes = 3
        wanted.cost_seconds = 10.0
    why = obstacle()
    if why is not None:
        print(f"nothing can be measured here: {why}")
        return 0
    command("true")
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }
    if wanted.only in (None, "takeover"):
        result["takeover_s"] = takeovers(wanted.rounds, wanted.freezes)
        print(table(result["takeover_s"]).text())
        sides = result["takeover_s"]["kill"]
        if "keepalived" in sides:
            ratio = median(sides["ice"]) / median(sides["keepalived"])
            print(f"\nkill: {ratio:.2f} of keepalived's, to reach: {REACH:g}")
    if wanted.only == "default-cycle" or (wanted.only is None and not wanted.quick):
        result["default_cycle_s"] = default_cycle(40, CYCLE_DEFAULT_S)
        for rule, bound in (("for", REACH_FOR), ("documented", REACH_DOCUMENTED)):
            times = result["default_cycle_s"][rule]
            print(
                f"cycle of {CYCLE_DEFAULT_S:g} s, kill -9, {rule}: median {median(times):.1f} s ({times[0]:.1f}–{times[-1]:.1f}, n = {len(times)}); to reach: {bound:g} s at most"
            )
    if wanted.only in (None, "cost"):
        result["cost"] = [
            cost(wanted.groups, 5, 10.0, wanted.cost_seconds, together) for together in (True, False)
        ]
        for each in result["cost"]:
            print(
                f"{wanted.groups} groups of 5 at 10 s in {each['processes']} process(es): {each['cpu_percent']:.2f} % of a core, "
                f"{each['us_per_ballot_heard']:.0f} µs for each ballot heard, everything counted; to reach: {REACH_CPU:g} %"
            )
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
