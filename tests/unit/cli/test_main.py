"""The command ``ice``: its table, its errors, its exit statuses."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

import click
from twisted.trial.unittest import SynchronousTestCase

from ice.cli import main as main_module
from ice.cli.main import COMMANDS, LazyGroup, main
from ice.cli.options import verbosity
from ice.errors import LocalError, RemoteError


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``ice`` with these words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


class Running(SynchronousTestCase):
    def running(self, body: object) -> contextlib.AbstractContextManager[object]:
        """Make `body` the command ``ice status`` for a while."""

        @click.command()
        def status() -> None:
            if isinstance(body, BaseException):
                raise body
            if callable(body):
                body()

        return mock.patch.object(LazyGroup, "get_command", return_value=status)

    def setUp(self) -> None:
        self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != "ICE_DEBUG"})

    def test_done(self) -> None:
        """A command that returns has the exit status 0, and may choose another."""
        with self.running(lambda: None):
            self.assertEqual(run("status"), (0, "", ""))
        with self.running(lambda: click.get_current_context().exit(7)):
            self.assertEqual(run("status")[0], 7)

    def test_errors(self) -> None:
        """An error of ours or of the far side is its own sentence, line by line; exit status 1."""
        with self.running(LocalError("one\ntwo")):
            self.assertEqual(run("status"), (1, "", "error: one\nerror: two\n"))
        with self.running(RemoteError("refused")):
            self.assertEqual(run("status"), (1, "", "error: refused\n"))

    def test_faults(self) -> None:
        """A fault of the program is one line too, and says how to see more."""
        with self.running(KeyError("x")):
            status, _, said = run("status")
        self.assertEqual(status, 1)
        self.assertTrue(said.startswith("error: KeyError: 'x'\nerror: this is a fault in ice itself"))
        self.assertNotIn("Traceback", said)

    def test_traceback(self) -> None:
        """-v and ICE_DEBUG show where an error came from."""
        with self.running(LocalError("one")):
            self.assertIn("Traceback", run("-v", "status")[2])
            self.assertIn("Traceback", run("--verbose", "status")[2])
            self.assertNotIn("Traceback", run("status")[2])
            os.environ["ICE_DEBUG"] = "1"
            self.assertIn("Traceback", run("status")[2])

    def test_verbosity(self) -> None:
        """Commands can ask how many -v were given."""
        told: list[int] = []
        with self.running(lambda: told.append(verbosity())):
            run("status")
            run("-vv", "status")
        self.assertEqual(told, [0, 2])
        self.assertEqual(verbosity(), 0)

    def test_interrupted(self) -> None:
        """Ctrl-C ends with 130 and no traceback."""
        with self.running(KeyboardInterrupt()):
            status, out, err = run("status")
        self.assertEqual((status, out, err.strip()), (130, "", "interrupted"))

    def test_usage(self) -> None:
        """Wrong usage has the exit status 2; a near miss is suggested."""
        status, _, said = run("chekc")
        self.assertEqual(status, 2)
        self.assertIn("there is no command 'chekc'; did you mean 'check'?", said)
        self.assertEqual(run("check", "--nonsense")[0], 2)

    def test_help_and_version(self) -> None:
        """Help lists every command with its words; the version is told."""
        status, out, _ = run("--help")
        self.assertEqual(status, 0)
        for name in COMMANDS:
            self.assertIn(f"\n  {name} ", out)
        self.assertEqual(run("--version")[1], f"ice, version {main_module.__version__}\n")


class Table(SynchronousTestCase):
    def test_commands(self) -> None:
        """Each entry of the table names a click command of that name."""
        group = main_module.ice
        assert isinstance(group, LazyGroup)
        for name, (_, words) in COMMANDS.items():
            self.assertTrue(words.endswith("."), name)
            command = group.get_command(click.Context(group), name)
            self.assertIsInstance(command, click.Command)
            self.assertEqual(command.name if command else "", name)

    def test_quick(self) -> None:
        """Help and version need neither Twisted nor the schema nor numpy."""
        script = (
            "import sys; from ice.cli.main import main; main(['--help']);"
            "print([m for m in ('twisted', 'pydantic', 'numpy', 'cryptography') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.splitlines()[-1], "[]")
