"""Processes that never outlive the command that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.processes import Child, Children, Interrupt, Interrupted
from ice.errors import LocalError


def gone(pid: int) -> bool:
    """Whether no process of this id runs (a zombie that nobody of ours will fetch counts as gone)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


class ChildrenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.interrupt = Interrupt()

    def test_group_is_ended(self) -> None:
        """Leaving the block ends a process, and what it has started, even where that ignores SIGTERM."""
        script = "trap '' TERM; (trap '' TERM; exec sleep 600) & echo $!; wait; exec sleep 600"
        with Children(self.interrupt) as children:
            child = children.start("stubborn", ["sh", "-c", script], output=self.folder / "out")
            children.wait_until(lambda: bool(child.lines()), 20, "a pid")
            grandchild = int(child.lines()[0])
            child.end(grace_s=0.05)
        self.assertEqual(child.status, -signal.SIGKILL)
        self.assert_gone(grandchild)

    def assert_gone(self, pid: int) -> None:
        deadline = time.monotonic() + 10
        while not gone(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertTrue(gone(pid))

    def test_we_are_killed(self) -> None:
        """Should we be killed ourselves, what we have started ends too."""
        script = (
            "import os, sys, pathlib; from ice.cli.processes import Child\n"
            "print(Child('sleeper', ['sleep', '600'], output=pathlib.Path(sys.argv[1])).pid, flush=True)\n"
            "os.kill(os.getpid(), 9)"
        )
        output = str(self.folder.absolute() / "out")
        done = subprocess.run(
            [sys.executable, "-c", script, output], stdout=subprocess.PIPE, text=True, check=False
        )
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.assert_gone(int(done.stdout))

    def test_ended_on_failure(self) -> None:
        """An error inside the block ends the processes too."""
        with self.assertRaises(ZeroDivisionError), Children(self.interrupt) as children:
            child = children.start("sleeper", ["sleep", "600"], output=self.folder / "out")
            raise ZeroDivisionError
        self.assertEqual(child.status, -signal.SIGTERM)

    def test_needed_process_ends(self) -> None:
        """A wait ends at once when a process that it needs has ended, and shows what that said last."""
        with Children(self.interrupt) as children:
            child = children.start(
                "the Rallypoint", ["sh", "-c", "echo port taken; exit 3"], output=self.folder / "out"
            )
            error = self.assertRaises(
                LocalError, children.wait_until, lambda: False, 60, "it was ready", child
            )
        self.assertIn("the Rallypoint ended with status 3 before it was ready", str(error))
        self.assertIn("  | port taken", str(error))

    def test_wait_in_vain(self) -> None:
        """A wait has an end."""
        with Children(self.interrupt) as children:
            error = self.assertRaises(LocalError, children.wait_until, lambda: False, 0.0, "rain")
        self.assertIn("in vain for rain", str(error))

    def test_no_such_program(self) -> None:
        """A program that is not there is named."""
        error = self.assertRaises(LocalError, Child, "x", ["/no/such/program"], output=self.folder / "out")
        self.assertIn("/no/such/program", str(error))


class InterruptTests(SynchronousTestCase):
    def test_noted_then_raised(self) -> None:
        """A signal breaks nothing by itself; the next check does, and what was set before returns."""
        before = signal.getsignal(signal.SIGTERM)
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertIs(interrupt.came, signal.SIGTERM)
            self.assertRaises(Interrupted, interrupt.check)
            self.assertRaises(Interrupted, interrupt.sleep, 60)
        self.assertIs(signal.getsignal(signal.SIGTERM), before)

    def test_nohup(self) -> None:
        """A SIGHUP that whoever started us ignores stays ignored."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            self.assertIsNone(interrupt.came)
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)

    def test_nothing_came(self) -> None:
        """Without a signal a wait is a wait."""
        with Interrupt() as interrupt:
            interrupt.sleep(0.001)
            interrupt.check()
