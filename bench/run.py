"""Measure ice beside a bare C relay and whatever of nats-server, mosquitto and mumble-server is installed.

``python bench/run.py``                        ten interleaved pairs of everything (70 minutes)
``python bench/run.py --quick``                two minutes, for a look
``python bench/run.py --servers ice,floor --workloads calm,hall --pairs 5``
``python bench/run.py report [--markdown] [results.json]``  the tables again
``python bench/run.py picture [results.json]``              the pictures again

In each repeat every workload is given to all servers in turn, each a fresh process pinned to core 0, the load generator on
core 1; the order is rotated from repeat to repeat. docs/performance.md says how to read what comes out.

Exit status: 0, or 1 when ours or the floor did something wrong or a run failed, 130 when interrupted.
"""

import argparse
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import compiling, picture, report
from bench.figures import Run, complete
from bench.servers import BY_NAME as SERVERS
from bench.servers import DidNotStart, Place, Server, find, pinned, started
from bench.workloads import BY_NAME as WORKLOADS
from bench.workloads import FULL_PAIRS, Workload
from ice.net import fanout
from ice.testing.site import Site

RESULTS = compiling.BENCH / "results"
RUN_S = 180.0  # no run takes so long, however slow the machine
FILES = 20_000  # descriptors that a server may hold; children inherit it
Plan = list[tuple[int, Workload, Server]]


def plan(workloads: Sequence[Workload], servers: Sequence[Server], pairs: int, quick: bool) -> Plan:
    """Repeat by repeat, workload by workload, all servers in turn; who begins changes with the repeat."""
    order: Plan = []
    for repeat in range(pairs):
        turned = [*servers[repeat % len(servers) :], *servers[: repeat % len(servers)]]
        for workload in workloads:
            order += [
                (repeat, workload, server) for server in turned if workload.takes(server.name, quick, repeat)
            ]
    return order


def measure(
    place: Place, workload: Workload, server: Server, quick: bool, cpu: int, name: str
) -> dict[str, Any]:
    """One run in a fresh process; ``{"failed": why}`` when it did not work out."""
    member = place.site.client("load")
    try:
        with started(server, place, name) as running:
            command = [str(compiling.build("loadgen")), "--mode", server.mode, "--port", str(running.port)]
            command += [
                "--ca",
                str(place.authority),
                "--cert",
                str(member.certificate),
                "--key",
                str(member.key),
            ]
            command += ["--id", str(member.id), "--pids", str(running.process.pid)]
            command += workload.arguments(server.name, quick)
            with pinned(cpu):
                done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
            ended = running.process.poll()
    except (DidNotStart, subprocess.TimeoutExpired) as trouble:
        return {"failed": str(trouble)}
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"failed": f"the load generator ended with {done.returncode}: {done.stderr.strip()[-300:]}"}
    if ended is not None:
        return {"failed": f"the server ended with {ended} in the middle"}
    return complete(result)


def about(servers: Sequence[Server], quick: bool) -> dict[str, str]:
    """Where, when and with what."""
    told = {"measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    if quick:
        told["a quick look:"] = "no judgement"
    processor = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    told["on"] = processor[1] if processor else platform.machine()
    told["Linux"] = platform.release().split("-")[0]
    told["Python"] = platform.python_version()
    commit = _words("git", "-C", str(compiling.BENCH), "rev-parse", "--short", "HEAD")
    told["ice"] = f"{commit or 'of unknown commit'} (fan-out {fanout.in_use()})"
    for server in servers:
        if server.program:
            flag = {"mosquitto": "-h", "mumble": "-version"}.get(server.name, "--version")
            version = re.search(r"\d+\.\d+\.\d+", _words(find(server.program) or "", flag))
            told[server.title] = version[0] if version else "?"
    return told


def _words(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def clock(seconds: float) -> str:
    """``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def bench(options: argparse.Namespace) -> int:
    """Run the plan, keep the JSON after every run, and print and draw at the end."""
    quick = options.quick
    servers = [SERVERS[name] for name in options.servers]
    missing = [server for server in servers if server.path() is None]
    for server in missing:
        print(f"without {server.title}: apt install {server.package}")
    servers = [server for server in servers if server not in missing]
    order = plan([WORKLOADS[name] for name in options.workloads], servers, options.pairs, quick)
    if not order:
        print("nothing to do: none of these servers takes part in these workloads")
        return 1
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two cores are needed: one for the server, one for the load generator")
        return 1
    compiling.build("loadgen")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard)
    )
    estimate = sum(workload.seconds[not quick] for _, workload, _ in order)
    runs: list[Run] = []
    results = {"about": about(servers, quick), "quick": quick, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    kept = options.json or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}{'-quick' if quick else ''}.json"
    print(f"{len(order)} runs, about {clock(estimate)} minutes; kept in {kept}", flush=True)
    interrupted = False
    begun = time.monotonic()
    spent = 0.0
    with tempfile.TemporaryDirectory(prefix="ice-bench-") as folder:
        place = _place(Path(folder), cores[0], tuple(options.floor_flag))
        try:
            for number, (repeat, workload, server) in enumerate(order):
                took = time.monotonic() - begun
                left = max(0.0, (estimate - spent) * (took / spent if number > 5 else 1.0))
                _say(
                    f"[{number + 1}/{len(order)}] {clock(took)}, {clock(left)} left: pair {repeat + 1}, {workload.name}, {server.title}"
                )
                result = measure(place, workload, server, quick, cores[1], f"run-{number}")
                spent += workload.seconds[not quick]
                runs.append(
                    {"workload": workload.name, "server": server.name, "repeat": repeat, "result": result}
                )
                for line in report.verdict(runs[-1:])[1][:-1]:
                    _say(line + "\n")
                kept.write_text(json.dumps(results, indent=1))
        except KeyboardInterrupt:
            interrupted = True
    _say("")
    if not runs:
        return 130
    (RESULTS / "latest.json").write_text(json.dumps(results, indent=1))
    print(report.render(results, markdown=False))
    drawn = picture.draw(results, kept.with_suffix(""))
    print(f"\n{clock(time.monotonic() - begun)} minutes; {kept}", *drawn, sep="\n  ")
    if interrupted:
        return 130
    return 0 if report.verdict(runs)[0] else 1


def _place(folder: Path, cpu: int, floor_flags: tuple[str, ...]) -> Place:
    folder.chmod(0o755)  # murmurd is somebody else and has a folder of its own in it
    return Place(folder, Site.create(folder / "site", clients=("load",)), cpu, floor_flags)


def _say(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)
    elif text:
        print(text.rstrip("\n"), flush=True)


def _names(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        strange = [name for name in chosen if name not in known]
        if strange:
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: not one of {', '.join(known)}")
        return chosen

    return parse


def _read(options: argparse.Namespace) -> dict[str, Any]:
    path: Path = options.results or RESULTS / "latest.json"
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: expected the JSON that a benchmark has kept: {error}")
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two minutes, small sizes: does it work, and roughly how well?"
    )
    parser.add_argument("--pairs", type=int, help=f"repeats ({FULL_PAIRS}; 1 with --quick)")
    parser.add_argument("--servers", type=_names(SERVERS), default=list(SERVERS), help=",".join(SERVERS))
    parser.add_argument(
        "--workloads", type=_names(WORKLOADS), default=list(WORKLOADS), help=",".join(WORKLOADS)
    )
    parser.add_argument("--json", type=Path, help="where to keep the results (bench/results/…)")
    parser.add_argument(
        "--floor-flag",
        action="append",
        default=[],
        help="compile the floor with a fault, e.g. --floor-flag=-DLOSE=1000: must end in WRONG",
    )
    what = parser.add_subparsers(dest="what")
    again = what.add_parser("report", help="print the tables of kept results")
    again.add_argument("--markdown", action="store_true")
    again.add_argument("results", type=Path, nargs="?")
    draw = what.add_parser("picture", help="draw the pictures of kept results")
    draw.add_argument("results", type=Path, nargs="?")
    options = parser.parse_args(arguments)
    if options.what == "report":
        print(report.render(_read(options), options.markdown))
        return 0
    if options.what == "picture":
        path: Path = options.results or RESULTS / "latest.json"
        print(*picture.draw(_read(options), path.with_suffix("")), sep="\n")
        return 0
    if options.pairs is None:
        options.pairs = 1 if options.quick else FULL_PAIRS
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    try:
        return bench(options)
    except compiling.CannotBuild as trouble:
        print(trouble)
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
