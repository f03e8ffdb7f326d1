"""A program whose clock on the wall is wrong, by as many seconds as stand in a file (a double in the machine's order), which may change while it runs.

Usage: ``askew.py FILE PROGRAM [ARGUMENT…]``; the program is one of Python's.  Clocks that only count are as they are.
"""

import mmap
import runpy
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = struct.Struct("=d")


def write(path: Path, seconds: float) -> None:
    """Whoever reads ``path`` is so far ahead from now on."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(SECONDS.pack(seconds))


def main() -> None:
    """Be the program, with another ``time.time``."""
    path, program, *arguments = sys.argv[1:]
    with Path(path).open("rb") as file:
        ahead = mmap.mmap(file.fileno(), SECONDS.size, prot=mmap.PROT_READ)
    real: Callable[[], float] = time.time

    def wrong() -> float:
        return real() + float(SECONDS.unpack_from(ahead)[0])

    time.time = wrong
    time.time_ns = lambda: int(wrong() * 1_000_000_000)
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
