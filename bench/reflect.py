"""What it costs to pass multicast on: ours beside a loop in C, and beside the kernel's own forwarding.

``sudo python bench/reflect.py [--rounds 5] [--seconds 1] [--endurance 60] [--quick] [--only ice,loop]``

Three network namespaces in a row, joined by two cables (veth). In the middle one somebody forwards two groups, one each way; at the ends, one program (``bench/reflect.c load``)
sends and hears, in one thread with one clock. Who forwards has core 0 for itself, the load core 1.

Who is compared, in every round one after the other:

``ice``          :class:`ice.net.multicast.MulticastSocket` by the turn, as the reflector uses it, with its compiled half, in Twisted's reactor
``ice-python``   the same with ``ICE_FANOUT=python``: nothing compiled
``ice-single``   the same, compiled, but each datagram told and sent by itself (``received``, ``send``)
``loop``         ``bench/reflect.c loop``: poll, then recvmsg and sendto for each datagram
``many``         the same with recvmmsg and sendmmsg: what batches are worth
``kernel``       multicast routing set up by ``smcrouted``: the datagrams never come to a program (where smcroute is installed)

``reflector``    the daemon itself, ``twistd ice-reflector``, each datagram into or out of one stream over TLS; see :mod:`bench.reflect_site`
``reflector-python``  the same with ``ICE_FANOUT=python``

All but the last two are the socket layer alone: no names, no rules, no link.

*CPU* is the time of all threads of who forwards (schedstat) divided by the datagrams that arrived, at 20,000/s and at 60,000/s, both ways; *per core* is the inverse of
the latter, where a turn of the reactor has several to take (the daemon: at 5,000/s, where most turns bring one datagram and waking up is what is measured, and at 60,000/s). The kernel has none of its
own: its forwarding is done in the sender's time. *Rate*: the fastest one, of steps by a quarter, at which no more than 1 in 1,000 was lost, in the best of two tries: on a machine with other work to do it is a
lower bound. *Latency*: at 1,000 datagrams per second, from when one was due to when it was heard; "added" is over the C loop of the same round.
*Endurance*: loss at half the rate that is to be reached (30,000/s compiled, 12,500/s pure).
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs

from bench.compiling import BENCH, BUILD
from bench.paired import median
from bench.reflect_site import last_words, site
from bench.report import Table

SIZE = 172  # G.711, 20 ms: 160 bytes and an RTP header
STEADY = 20_000
BUSY = 60_000
CALM = 1_000
FIRST_RATE, STEP, HIGHEST = 20_000, 1.25, 400_000
LOST_SHARE = 0.001
REACH = {"ice": 60_000, "ice-python": 25_000, "reflector": 60_000, "reflector-python": 25_000}
AUTOGROUP = Path("/proc/self/autogroup")  # sched(7): where it is, nice counts inside of a session only
SITE = {"reflector": "", "reflector-python": "python"}
SITE_STEADY = 5_000  # two reflectors, a Rallypoint and the load share two cores
PORT = 20_000
THERE, BACK = f"239.255.77.1:{PORT}", f"239.255.77.2:{PORT}"
EVERYBODY = ("ice", "ice-python", "ice-single", "loop", "many", "kernel", *SITE)


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """What else the machine does disturbs us less: a session of our own, ahead of the others."""
    with contextlib.suppress(OSError):
        os.setsid()
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text("-15")
    with contextlib.suppress(OSError):
        os.nice(-15)
    yield


class CannotMeasure(Exception):
    """What is missing, and what to do."""


def run(*words: object) -> None:
    """A command that must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"{' '.join(map(str, words))}: {done.stderr.strip()[-300:]}")


def build() -> Path:
    """``bench/reflect.c``, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotMeasure("no C compiler: apt install gcc")
    BUILD.mkdir(parents=True, exist_ok=True)
    made = BUILD / "reflect"
    source = BENCH / "reflect.c"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        run(compiler, "-O2", "-Wall", "-Wextra", "-Wshadow", "-o", made, source)
    return made


class Road:
    """Two ends and the middle, as namespaces."""

    def __init__(self) -> None:
        mark = f"reflect{os.getpid()}"
        self.left, self.middle, self.right = (f"{mark}-{each}" for each in ("a", "f", "b"))

    def __enter__(self) -> "Road":
        if os.geteuid() or shutil.which("ip") is None:
            raise CannotMeasure("namespaces need root and iproute2: sudo python bench/reflect.py")
        try:
            for name in (self.left, self.middle, self.right):
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            for end, door, net in ((self.left, "f0", "10.201.1"), (self.right, "f1", "10.201.2")):
                run(
                    "ip",
                    "link",
                    "add",
                    "e0",
                    "netns",
                    end,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    door,
                    "netns",
                    self.middle,
                )
                for name, device, host in ((end, "e0", 1), (self.middle, door, 2)):
                    run("ip", "-n", name, "address", "add", f"{net}.{host}/24", "dev", device)
                    run("ip", "-n", name, "link", "set", device, "up")
                run("ip", "-n", end, "route", "add", "default", "via", f"{net}.2")
            words = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done; echo 1 > /proc/sys/net/ipv4/ip_forward"
            for name in (self.left, self.middle, self.right):
                run("ip", "netns", "exec", name, "sh", "-c", words)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.left, self.middle, self.right):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def load(self, program: Path, rate: float, seconds: float) -> dict[str, Any]:
        """Traffic both ways, and what came of it."""
        ways = [self.left, "e0", self.right, "e0", THERE, self.right, "e0", self.left, "e0", BACK]
        words = [
            "taskset",
            "-c",
            "1",
            str(program),
            "load",
            str(rate),
            str(seconds),
            str(SIZE),
            *ways,
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 30)
        found: dict[str, Any] = json.loads(done.stdout)
        found["lost"] = found["sent"] - found["received"]
        return found


@contextlib.contextmanager
def forwarding(who: str, road: Road, program: Path) -> Iterator[int | None]:
    """Somebody forwards in the middle; the process whose time counts, if there is one."""
    inside = ["ip", "netns", "exec", road.middle, "taskset", "-c", "0"]
    ways = ["f0", "f1", THERE, "f1", "f0", BACK]
    environment = dict(os.environ)
    if who == "kernel":
        with _kernel(road):
            yield None
        return
    if who in SITE:
        folder = BUILD / road.middle
        with site(folder, road.middle, THERE, BACK, SITE[who]) as pid:
            until = time.monotonic() + 20
            while road.load(program, CALM, 0.3)["lost"]:
                if time.monotonic() > until:
                    raise CannotMeasure(f"{who} does not forward: {last_words(folder)}")
            yield pid
        return
    if who in ("loop", "many"):
        words = [*inside, str(program), who, *ways]
    else:
        environment["ICE_FANOUT"] = "python" if who == "ice-python" else ""
        words = [
            *inside,
            sys.executable,
            __file__,
            "--forward",
            "single" if who == "ice-single" else "turns",
            *ways,
        ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said.startswith("ready"):
            raise CannotMeasure(f"{who} does not forward: {said}")
        if who in REACH and ("python" in said) is (who == "ice"):
            raise CannotMeasure(
                f"{who} is {said}: python -m pip install -e . with a C compiler builds the compiled half"
            )
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def _kernel(road: Road) -> Iterator[None]:
    smcrouted = shutil.which("smcrouted")
    if smcrouted is None:
        raise CannotMeasure("smcroute is not installed: apt install smcroute")
    folder = BUILD / road.middle
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "conf").write_text(
        "phyint f0 enable ttl-threshold 1\nphyint f1 enable ttl-threshold 1\n"
        f"mroute from f0 group {THERE.partition(':')[0]} to f1\nmroute from f1 group {BACK.partition(':')[0]} to f0\n"
    )
    words = [
        "ip",
        "netns",
        "exec",
        road.middle,
        smcrouted,
        "-n",
        "-N",
        "-f",
        folder / "conf",
        "-P",
        folder / "pid",
        "-u",
        folder / "sock",
    ]
    process = subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def cpu_ns(pid: int) -> int:
    """CPU time of a process, all threads."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
    )


@attrs.define
class Measured:
    """What one round found of one of them."""

    who: str
    cpu_us: float | None
    cpu_busy_us: float | None
    rate: float | None
    p50_us: float
    p99_us: float
    max_us: float
    lost_steady: int


def measure(who: str, road: Road, program: Path, seconds: float, *, search: bool) -> Measured:
    """One round of one of them."""
    with forwarding(who, road, program) as pid:
        road.load(program, CALM, 0.3)  # addresses and routes are known, caches are warm
        calm = road.load(program, CALM, max(seconds, 1.0) * 2)
        spent, lost = [], 0
        for rate in (SITE_STEADY if who in SITE else STEADY, BUSY):
            before = 0 if pid is None else cpu_ns(pid)
            done = road.load(program, rate, seconds)
            spent.append(None if pid is None else (cpu_ns(pid) - before) / 1e3 / max(1, done["received"]))
            lost = lost or done["lost"] * (rate in (SITE_STEADY, STEADY))
        first = SITE_STEADY if who in SITE else FIRST_RATE
        best = fastest(road, program, first, min(seconds, 0.5)) if search else None
    return Measured(who, *spent, best, calm["p50_us"], calm["p99_us"], calm["max_us"], lost)


def fastest(road: Road, program: Path, first: float, seconds: float) -> float:
    """The fastest rate of the ladder at which next to nothing was lost."""
    best, rate = 0.0, float(first)
    while rate <= HIGHEST:
        tries = (road.load(program, rate, seconds) for _ in range(2))
        if not any(
            done["lost"] <= LOST_SHARE * done["sent"] and done["sent_per_s"] >= 0.97 * rate for done in tries
        ):
            break
        best, rate = rate, rate * STEP
    return best


def endure(who: str, road: Road, program: Path, seconds: float) -> dict[str, Any]:
    """Half of what is to be reached, for long."""
    with forwarding(who, road, program):
        road.load(program, CALM, 0.3)
        return road.load(program, REACH[who] / 2, seconds)


def table(results: dict[str, Any]) -> Table:
    """One row for each of them."""
    rounds = results["rounds"]
    loops = {each["round"]: each for each in rounds if each["who"] == "loop"}

    def middle(mine: Sequence[dict[str, Any]], name: str) -> float | None:
        values = [each[name] for each in mine if each[name] is not None]
        return median(values) if values else None

    def word(value: float | None, form: str = ".1f") -> str:
        return "" if value is None else format(value, form)

    lines = []
    for who in dict.fromkeys(each["who"] for each in rounds):
        mine = [each for each in rounds if each["who"] == who]
        paired = [(each, loops[each["round"]]) for each in mine if each["round"] in loops]
        cpu = middle(mine, "cpu_busy_us")
        times = [one["cpu_busy_us"] / other["cpu_busy_us"] for one, other in paired if one["cpu_busy_us"]]
        added = [one["p99_us"] - other["p99_us"] for one, other in paired]
        lines.append(
            (
                who, word(middle(mine, "cpu_us"), ".2f"), word(cpu, ".2f"), word(None if cpu is None else 1e6 / cpu, ",.0f"), word(median(times) if times else None, ".2f"),
                word(middle(mine, "rate"), ",.0f"), word(middle(mine, "p50_us"), ".0f"), word(middle(mine, "p99_us"), ".0f"),
                word(median(added) if added else None, "+.0f"), str(sum(each["lost_steady"] for each in mine)),
            )
        )  # fmt: skip
    head = (
        "",
        "CPU, µs",
        "busy",
        "per core and s",
        "× loop",
        "rate, /s",
        "p50, µs",
        "p99, µs",
        "added p99, µs",
        "lost, steady",
    )
    title = f"forwarding {SIZE} bytes both ways, median of {results['of']} rounds, load average {results['load average']:.1f}"
    return Table(title, head, lines)


def ratios(rounds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How fast the daemon is beside a loop in C and beside the kernel, by the fastest rates without loss."""
    rates: dict[str, float] = {}
    for who in EVERYBODY:
        found = [each["rate"] for each in rounds if each["who"] == who and each["rate"]]
        if found:
            rates[who] = median(found)
    for who in SITE:
        beside = [
            f"{rates[who] / rates[other]:.2f} of {words}"
            for other, words in (("loop", "the C loop's"), ("kernel", "the kernel's own forwarding's"))
            if who in rates and other in rates
        ]
        if beside:
            yield f"{who}: its rate is {', '.join(beside)}"


def forward(words: Sequence[str]) -> None:
    """Be who forwards, with sockets of :mod:`ice.net.multicast`."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor as installed

    from ice.net import batch
    from ice.net.addresses import Address, parse_address
    from ice.net.interfaces import InterfaceWatch
    from ice.net.multicast import MulticastSocket, Place, descriptors
    from ice.net.poll import shorten

    reactor: Any = installed
    shorten(reactor, descriptors())
    watch, sockets = InterfaceWatch(reactor), list[MulticastSocket]()
    manner, *words = words

    def changed(up: bool, why: str) -> None:
        if len(sockets) == 2 * len(words) // 3 and all(each.up for each in sockets):
            print("ready " + batch.in_use(), flush=True)

    for came, goes, group in zip(words[::3], words[1::3], words[2::3], strict=True):
        at = parse_address(group)
        out = MulticastSocket(
            reactor, Place(at, at, goes, ttl=8, loopback=False), None, changed, listen=False, watch=watch
        )
        send, send_many = out.send, out.send_many

        def one(data: bytes, sender: Address, send: Any = send) -> None:
            send(data)

        def many(heard: list[tuple[bytes, Address]], send: Any = send_many) -> None:
            send([data for data, _ in heard])

        ear = MulticastSocket(
            reactor,
            Place(at, at, came),
            one,
            changed,
            received_many=many if manner == "turns" else None,
            talk=False,
            watch=watch,
        )
        sockets += [out, ear]
    for each in sockets:
        each.start()
    reactor.run()


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--forward"]:
        forward(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (1)")
    parser.add_argument(
        "--endurance",
        type=float,
        default=0.0,
        help="seconds at half of the rate to be reached; 0: leave that out",
    )
    parser.add_argument("--quick", action="store_true", help="no search for the fastest rate")
    parser.add_argument("--only", default=",".join(EVERYBODY))
    parser.add_argument("--out", type=Path, help="the JSON file (bench/results/reflect-….json)")
    asked = parser.parse_args()
    wanted = [who for who in EVERYBODY if who in asked.only.split(",")]
    results: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load average": os.getloadavg()[0],
        "of": asked.rounds,
        "rounds": [],
        "endurance": {},
    }
    try:
        program = build()
        with ahead(), Road() as road:
            for number in range(asked.rounds):
                for who in list(wanted):
                    try:
                        found = measure(who, road, program, asked.seconds, search=not asked.quick)
                    except CannotMeasure as missing:
                        print(f"{who} is left out: {missing}", file=sys.stderr)
                        wanted.remove(who)
                        continue
                    results["rounds"].append({"round": number, **attrs.asdict(found)})
                    print(".", end="", file=sys.stderr, flush=True)
            for who in REACH if asked.endurance else ():
                if who in wanted:
                    results["endurance"][who] = endure(who, road, program, asked.endurance)
    except CannotMeasure as missing:
        print(missing, file=sys.stderr)
        return 1
    print(table(results).text())
    for line in ratios(results["rounds"]):
        print(line)
    for who, found in results["endurance"].items():
        print(
            f"{who}: {found['offered_per_s']:,.0f}/s for {asked.endurance:g} s: {found['lost']} of {found['sent']:,} lost"
        )
    out = asked.out or BENCH / "results" / f"reflect-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1))
    print(f"\n{out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
