"""Runs the unit tests: trial, once for each package under tests/unit, as many at once as there are processors.

Usage: python .ci/units.py      (from the top of the checkout)

A package has a process of its own, so none stands on what another has left behind. What passes is one line; what does not is shown whole, and its
folder is kept. The closing line is trial's own, over all packages; the exit status is 0 only if all passed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

UNIT = Path("tests/unit")
CLOSING = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^)]*)\))?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What came of one package."""

    name: str
    passed: bool
    counts: Counter[str]
    duration_s: float
    output: str


def names() -> list[str]:
    """Packages and modules of tests, the largest first, so that no long one is left for the end."""
    sizes = {}
    for path in UNIT.iterdir():
        if path.is_dir() and any(path.glob("test_*.py")):
            sizes[f"tests.unit.{path.name}"] = sum(each.stat().st_size for each in path.glob("test_*.py"))
        elif path.match("test_*.py"):
            sizes[f"tests.unit.{path.stem}"] = path.stat().st_size
    return sorted(sizes, key=lambda name: -sizes[name])


def run(name: str) -> Outcome:
    """Try one of them."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}."))
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "twisted.trial",
        "--reporter=text",
        f"--temp-directory={folder / 'trial'}",
    ]
    done = subprocess.run(
        [*command, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    closing = list(CLOSING.finditer(done.stdout))
    counts: Counter[str] = Counter()
    for word in (closing[-1]["counts"] or "").split(", ") if closing else ():
        kind, _, number = word.partition("=")
        counts[kind] = int(number)
    passed = done.returncode == 0 and bool(closing) and bool(counts)
    output = done.stdout
    if passed:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        output += f"\nits folder: {folder}\n"
        counts["errors"] += not (counts["failures"] or counts["errors"])  # it died, or had no tests
    return Outcome(name, passed, counts, time.monotonic() - began, output)


def main() -> int:
    """Run them all; 0 only if all passed."""
    total: Counter[str] = Counter()
    skipped: list[str] = []
    passed = True
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as workers:
        for future in as_completed([workers.submit(run, name) for name in names()]):
            each = future.result()
            total += each.counts
            passed = passed and each.passed
            said = ", ".join(f"{number} {kind}" for kind, number in each.counts.items())
            print(f"{each.name:<26}{said:<40}{each.duration_s:6.1f} s", flush=True)
            if not each.passed:
                print(each.output, flush=True)
            elif each.counts["skips"]:
                skipped.append(each.output[each.output.find("[SKIPPED]") :])
    for reasons in skipped:
        print(reasons, flush=True)
    counts = ", ".join(f"{kind}={number}" for kind, number in total.items())
    print(f"{'PASSED' if passed else 'FAILED'} ({counts})", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
