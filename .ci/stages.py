"""Runs the stages of `make test` one after the other and ends with one table and one line of counts.

Usage: python .ci/stages.py [STAGE …]      (from the top of the checkout; no names: all stages)

Every stage runs, whatever the others said; the exit status is 0 only if all passed. Output streams as it comes. A stage of
tests is counted by its own closing line; a check (ruff, mypy) counts as one. A stage that outlives its time limit is ended,
with everything it started, and counted as failed.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

PYTHON = sys.executable
# System tests wait for the world most of the time, so two files go on at once; a file's tests stay together, in order.
SYSTEM = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
QUIET_MYPY = [] if sys.stdout.isatty() else ["--no-color-output"]


@dataclass(frozen=True)
class Stage:
    """A command, its time limit, and whether its output counts tests."""

    name: str
    command: list[str]
    limit_s: float
    counts_tests: bool = False


STAGES = [
    Stage("ruff", [PYTHON, "-m", "ruff", "check", "--quiet", "."], 300),
    Stage("format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."], 300),
    Stage("mypy", [PYTHON, "-m", "mypy", *QUIET_MYPY], 900),
    Stage("unit", [PYTHON, ".ci/units.py"], 1500, True),
    Stage("system", [*SYSTEM, "tests/system"], 2400, True),
]

TRIAL = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^)]*)\))?\s*$")
PYTEST = re.compile(r"^=+ (?P<counts>.*\d+ \w+.*) in [\d.]+s.*=+\s*$")
COUNT = re.compile(r"(\w+)=(\d+)|(\d+) (\w+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PASSED = {"successes", "passed", "expectedFailures", "xfailed"}
FAILED = {"failures", "errors", "unexpectedSuccesses", "failed", "error", "xpassed"}
SKIPPED = {"skips", "skipped"}


@dataclass
class Outcome:
    """What became of a stage."""

    stage: Stage
    verdict: str
    duration_s: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def count(line: str, outcome: Outcome) -> None:
    """Take the counts from the closing line of trial or pytest; other lines say nothing."""
    line = COLOUR.sub("", line)
    match = TRIAL.match(line) or PYTEST.match(line)
    if match is None:
        return
    outcome.passed = outcome.failed = outcome.skipped = 0
    for name_a, number_a, number_b, name_b in COUNT.findall(match["counts"] or ""):
        name, number = name_a or name_b, int(number_a or number_b)
        outcome.passed += number * (name in PASSED)
        outcome.failed += number * (name in FAILED)
        outcome.skipped += number * (name in SKIPPED)


def end(process: "subprocess.Popen[str]") -> None:
    """End the stage and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run(stage: Stage) -> Outcome:
    """Run one stage in a process group of its own."""
    print(f"\n== {stage.name} ==", flush=True)
    began = time.monotonic()
    outcome = Outcome(stage, "passed", 0.0)
    late = threading.Event()
    process = subprocess.Popen(
        stage.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    def stop_late() -> None:
        late.set()
        end(process)

    timer = threading.Timer(stage.limit_s, stop_late)
    timer.start()
    try:
        assert process.stdout is not None
        line = ""
        # Character by character, so that the dots of a test run are seen as they come.
        while character := process.stdout.read(1):
            sys.stdout.write(character)
            line += character
            if character == "\n":
                if stage.counts_tests:
                    count(line, outcome)
                line = ""
            if character in ".\nFEs":
                sys.stdout.flush()
        status = process.wait()
    except KeyboardInterrupt:
        end(process)
        raise
    finally:
        timer.cancel()
    outcome.duration_s = time.monotonic() - began
    if status != 0:
        outcome.verdict = f"over {stage.limit_s:.0f} s" if late.is_set() else "failed"
        outcome.failed = max(outcome.failed, 1)
    elif stage.counts_tests and not outcome.passed:
        outcome.verdict, outcome.failed = "no tests", 1
    elif not stage.counts_tests:
        outcome.passed = 1
    return outcome


def main(names: list[str]) -> int:
    """Run the named stages (all without names); print the table; 0 only if all passed."""
    known = [stage.name for stage in STAGES]
    if unknown := [name for name in names if name not in known]:
        print(f"no stage {unknown[0]!r}; there are: {' '.join(known)}", file=sys.stderr)
        return 2
    try:
        outcomes = [run(stage) for stage in STAGES if not names or stage.name in names]
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        return 130
    print(f"\n{'stage':<10}{'verdict':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>10}")
    for each in outcomes:
        print(
            f"{each.stage.name:<10}{each.verdict:<14}{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.duration_s:>8.1f} s"
        )
    print(
        f"\n{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed, "
        f"{sum(o.skipped for o in outcomes)} skipped"
    )
    return 0 if all(o.verdict == "passed" for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
