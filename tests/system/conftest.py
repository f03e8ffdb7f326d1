"""What every system test may want: a folder outside the checkout, free ports, and programs that never outlive their test.

Programs run as a newcomer's would: no PYTHONPATH, no configuration from the environment, the console scripts of this virtual
environment. Each is a process group of its own, which is ended with the test whatever happens.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent  # not resolved: the virtual environment's own scripts


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would change where Python or ice look."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "ICE_"))
        and key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "VIRTUAL_ENV")
    } | {"PYTHONUNBUFFERED": "1"}


@attrs.define
class Program:
    """A running program; its output, both streams, goes to ``log``."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def order(self, **order: object) -> None:
        """Tell it something, where it was started to be told: a JSON object on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def output(self) -> str:
        """All that it has said so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, text: str, timeout_s: float = 20.0) -> str:
        """Block until it has said ``text``; its output. Fails with the output when it ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if text in (said := self.output()):
                return said
            if ended:
                break
            time.sleep(0.02)
        raise AssertionError(f"{self.process.args!r} did not say {text!r} but:\n{self.output()}")

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal and wait for the end; the exit status (negative: killed by that signal)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[Callable[..., Program]]:
    """What starts programs in ``folder``: ``start(command, *arguments, cwd=…, env=…)``, with ``orders`` to be told something later; all are
    killed in the end."""
    started: list[Program] = []

    def begin(
        *command: object, cwd: Path | None = None, env: dict[str, str] | None = None, orders: bool = False
    ) -> Program:
        log = folder / f"program-{len(started)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                _words(command),
                cwd=cwd or folder,
                env=clean_environment() | (env or {}),
                stdin=subprocess.PIPE if orders else subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(Program(process, log))
        return started[-1]

    try:
        yield begin
    finally:
        for program in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait(10)


def runner(folder: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """What runs programs to their end: ``run(command, *arguments, cwd=…, env=…)``; streams as text, the status unchecked."""

    def execute(
        *command: object, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            _words(command),
            check=False,
            cwd=cwd or folder,
            env=clean_environment() | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return execute


def _words(command: Sequence[object]) -> list[str]:
    """A command line; scripts of this virtual environment by their place."""
    words = [str(word) for word in command]
    if (BIN / words[0]).exists():
        words[0] = str(BIN / words[0])
    return words


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """``start(command, *arguments, cwd=…, env=…)`` starts a program; all are killed when the test ends."""
    with programs(tmp_path) as begin:
        yield begin


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``run(command, *arguments, cwd=…, env=…)`` runs a program to its end; streams as text, the status unchecked."""
    return runner(tmp_path)


@pytest.fixture
def free_ports() -> Callable[[int], Sequence[int]]:
    """``free_ports(3)``: TCP ports of 127.0.0.1 that nobody listens on, all different."""

    def choose(count: int) -> Sequence[int]:
        held = []
        try:
            for _ in range(count):
                sock = socket.socket()
                held.append(sock)
                sock.bind(("127.0.0.1", 0))
            return [sock.getsockname()[1] for sock in held]
        finally:
            for sock in held:
                sock.close()

    return choose
