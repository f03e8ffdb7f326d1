"""Compile the load generator and the floor, when their sources are newer than what is there."""

import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent
BUILD = BENCH.parent / "build" / "bench"  # ignored by git, removed by ``make clean``

PARTS = ("account.c", "dialects.c", "links.c", "measure.c")
SOURCES = {
    "loadgen": (BENCH / "loadgen.c", *(BENCH / "native" / part for part in PARTS)),
    "floor": (BENCH / "floor.c",),
}
FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Wshadow")
LIBRARIES = ("-lssl", "-lcrypto", "-lm")


class CannotBuild(Exception):
    """There is no compiler, no OpenSSL headers, or the sources are wrong; the message says which."""


def build(name: str, more: tuple[str, ...] = ()) -> Path:
    """The program ``name`` of :data:`SOURCES`, compiled with ``more`` flags."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotBuild("no C compiler: apt install gcc libssl-dev")
    marks = "".join(f".{flag.lstrip('-').replace('=', '')}" for flag in more)
    made = BUILD / f"{name}{marks}"
    newest = max(path.stat().st_mtime for path in (*SOURCES[name], BENCH / "native" / "load.h"))
    if made.exists() and made.stat().st_mtime > newest:
        return made
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [compiler, *FLAGS, *more, "-o", str(made), *map(str, SOURCES[name]), *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = (
            "\nOpenSSL's headers are missing: apt install libssl-dev"
            if "openssl/" in done.stderr and "No such file" in done.stderr
            else ""
        )
        raise CannotBuild(f"{' '.join(command)}\n{done.stderr}{hint}")
    return made
