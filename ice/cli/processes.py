"""Processes that one command starts and that never outlive it.

Each runs in a session of its own, so that a Ctrl-C of the terminal reaches only us and we end the others in order; each is ended
with everything it has started; and should we be killed without a chance to do so, the kernel ends each of them. Nothing here raises in the middle of a step when a signal comes: :class:`Interrupt` only notes it,
and every wait asks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from ice.errors import LocalError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S: Final = 0.05
GRACE_S: Final = 5.0  # a Rallypoint drains for a second, a listener writes its file's last block


_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_libc: Final = ctypes.CDLL(None)  # looked up before any fork


def _end_with_parent() -> None:
    """Runs in the child between fork and exec: SIGTERM when the parent is gone. One system call, no lock taken."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that ask us to stop; not SIGHUP where whoever started us (nohup) wants it ignored."""
    return tuple(
        number
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    )


class Interrupted(Exception):
    """A person or the system asked us to stop."""


class Interrupt:
    """Notes Ctrl-C, SIGTERM and SIGHUP while it is entered; :meth:`check` raises :class:`Interrupted` afterwards."""

    def __init__(self) -> None:
        self.came: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        for number in heeded():
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = signal.Signals(number)

    def check(self) -> None:
        """Raise if we were asked to stop."""
        if self.came is not None:
            raise Interrupted(self.came.name)

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until a signal comes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(POLL_S, left))
        self.check()


class Child:
    """A process in a session of its own, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], *, output: Path, cwd: Path | None = None) -> None:
        self.name = name
        self.output = output
        with output.open("wb") as file:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509  # one system call; see there
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            except OSError as error:
                raise LocalError(f"{name} cannot be started: {command[0]}: {error.strerror}") from None
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; none while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.status is None:
            self._process.send_signal(number)

    def end(self, grace_s: float = GRACE_S) -> None:
        """End the process and whatever it has started: politely first, then not. Returns when all are gone."""
        if self.status is None:
            self._kill_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._kill_group(signal.SIGKILL)
        self._process.wait()

    def _kill_group(self, number: signal.Signals) -> None:
        # The group lives on while any member does, also when its first process is gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def lines(self) -> list[str]:
        """What it has written so far."""
        return self.output.read_text(encoding="utf-8", errors="replace").splitlines()

    def tail(self, count: int = 20) -> str:
        """The last lines it has written, indented."""
        return "\n".join(f"  | {line}" for line in self.lines()[-count:]) or "  | (it said nothing)"


class Children:
    """The processes of one command; leaving the ``with`` block ends them, the last started first."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._children: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.end()

    def start(self, name: str, command: Sequence[str], *, output: Path, cwd: Path | None = None) -> Child:
        """Start a process; raises :class:`~ice.errors.LocalError` where there is no such program."""
        self._interrupt.check()
        child = Child(name, command, output=output, cwd=cwd)
        self._children.append(child)
        return child

    def wait_until(self, true: Callable[[], bool], timeout_s: float, what: str, *needed: Child) -> None:
        """Wait for ``true()``; raises :class:`~ice.errors.LocalError` when time is over or a process that is needed has ended."""
        until = time.monotonic() + timeout_s
        while not true():
            self._interrupt.check()
            for child in needed:
                if child.status is not None and not true():
                    raise LocalError(
                        f"{child.name} ended with status {child.status} before {what}:\n{child.tail()}"
                    )
            if time.monotonic() >= until:
                said = "\n".join(f"{child.name} said:\n{child.tail()}" for child in needed)
                raise LocalError(f"waited {timeout_s:.0f} s in vain for {what}\n{said}".rstrip())
            time.sleep(POLL_S)
