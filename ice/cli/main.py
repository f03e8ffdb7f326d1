"""The command ``ice``: finds the subcommand, runs it, and turns errors into one line and an exit status.

A subcommand is one file in this package and one line in :data:`COMMANDS`. It is imported when it is called for, so that
``ice --help`` stays quick and a missing library (libopus, say) spoils only the commands that need it.

Exit status: 0 done; 1 it did not work, said why on standard error; 2 wrong usage; 130 interrupted (Ctrl-C). A traceback is
shown with ``-v`` or when ``ICE_DEBUG`` is set, and only then.
"""

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ice import __version__
from ice.cli.options import VERBOSE
from ice.errors import IceError
from ice.printable import printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

COMMANDS: Mapping[str, tuple[str, str]] = {
    # name: (module:object, what `ice --help` says about it)
    "check": ("ice.cli.check:check", "Check the configuration and the certificates it names."),
    "pki": ("ice.cli.pki:pki", "Make and look after the certificates of a site."),
    "import": ("ice.cli.import_:import_", "Take over the files of an Engage site into the configuration."),
    "talk": ("ice.cli.talk:talk", "Talk on a stream, from a microphone or a file."),
    "listen": ("ice.cli.listen:listen", "Listen to a stream, on a loudspeaker or into a file."),
    "call": ("ice.cli.call:call", "Call a telephone number."),
    "answer": ("ice.cli.answer:answer", "Wait for a telephone call, and take it."),
    "phone": ("ice.cli.phone:phone", "Be a telephone in this terminal."),
    "mission": ("ice.cli.mission:mission", "Make missions, look at them, hand them on."),
    "check-radio": ("ice.cli.check_radio:check_radio", "Say something to the parrot and hear it back."),
    "quality": ("ice.cli.quality:quality", "Measure latency, jitter and loss to another end."),
    "bandwidth": ("ice.cli.bandwidth:bandwidth", "Plan what voice needs of a network, or measure it."),
    "who": ("ice.cli.who:who", "Show who is in a mission, where, and how they are; or be seen there."),
    "watch": ("ice.cli.watch:watch", "Show who is active on multicast groups, live."),
    "election": ("ice.cli.election:election", "See which satellite of a group works; try a group on paper."),
    "patch": ("ice.cli.patch:patch", "Join channels, and part them: the patch server of this machine."),
    "calls": ("ice.cli.calls:calls", "See and end telephone calls, call from a channel, read the records."),
    "status": ("ice.cli.status:status", "Ask a running daemon how it is, or how its mesh is."),
    "trace": ("ice.cli.mesh:trace", "Show the way of a stream through the mesh, and each hop's delay."),
    "doctor": (
        "ice.cli.doctor:doctor",
        "Find what is wrong with this machine, and the command that mends it.",
    ),
    "demo": ("ice.cli.demo:demo", "Try everything on this machine: two talkers, a listener, a Rallypoint."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run; listing them imports nothing."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table: the order in which a newcomer needs them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None for a name that is not in the table."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is no click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with a suggestion where the name is nearly one of ours."""
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.table, n=1)
            ctx.fail(f"there is no command '{name}'" + (f"; did you mean '{close[0]}'?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's own words, so that help needs no import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in self.table.items()])


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ice")
@click.option("-v", "--verbose", count=True, help="Say more; show where an error came from.")
@click.pass_context
def ice(ctx: click.Context, verbose: int) -> None:
    """Voice between people whose radios must talk to each other."""
    ctx.meta[VERBOSE] = verbose


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ice`` with `arguments`, by default those of this process, and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = ice.main(args=words, prog_name="ice", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _failed(error, traced=bool(os.environ.get("ICE_DEBUG")) or _asked_for_more(words))


def _failed(error: Exception, *, traced: bool) -> int:
    if traced:
        traceback.print_exception(error)
    if isinstance(error, IceError):
        lines = (str(error) or type(error).__name__).splitlines()
    elif isinstance(error, OSError) and error.errno in FULL:  # standard output goes into a file there
        lines = [f"what is said here cannot be written: {error.strerror}"]
    else:
        lines = [f"{type(error).__name__}: {error}"]
        if not traced:
            lines.append("this is a fault in ice itself; run it again as `ice -v …` to see where")
    for line in lines:
        click.echo(click.style("error: ", fg="red") + printable(line), err=True)
    return 1


def _asked_for_more(words: Sequence[str]) -> bool:
    """Whether ``-v`` stands before the subcommand, where click's own account of it is gone once an error is out."""
    for word in words:
        if not word.startswith("-"):
            return False
        if word == "--verbose" or (word[1:] and set(word[1:]) == {"v"}):
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
