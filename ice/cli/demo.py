"""``ice demo``: two people talk through a real Rallypoint on this machine, one telephones, and what was heard is measured.

Nothing is pretended. A throw-away site is written (authority, certificates, configuration); a Rallypoint runs as an administrator would
start it; a listener and two talkers are processes of their own that speak TLS with it over loopback. Each talker says a real
sentence, one after the other, so that what was heard can be compared with what was said. Meanwhile somebody telephones the echo number (:mod:`ice.cli.demo_call`). Everything that a table line
needs is measured from outside: the processes' traces, and the WAV file that the listener wrote.

What stays in the folder afterwards: the heard sound, a picture of it, and with ``--keep`` or after a failure all the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ice.cli.demo_call import CALLER, HEARD, Echo, Telephones, told
from ice.cli.display import plural
from ice.cli.pages import NotRunning, fetch
from ice.cli.processes import Child, Children, Interrupt, Interrupted
from ice.cli.trace import Comparison, compare, read_trace
from ice.errors import IceError, LocalError

STREAM: Final = "demo"
TALKERS: Final = ("Anna", "Bob")
MARK: Final = ".ice-demo"  # who finds this file in a folder may empty it
START_S: Final = 60.0  # a cold start on a small, busy machine
SLACK_S: Final = 60.0  # on top of the length of what is said
GAP_S: Final = 0.4  # between the talkers, so that the ear hears two sentences
MAX_LOST: Final = 0.01  # share of packets: loopback loses none, a machine at its limits may skip some
MIN_SIMILARITY: Final = 0.9  # what comes whole through Opus scores 0.99
INTERRUPTED: Final = 130


@attrs.frozen
class Heard:
    """What became of one talker's sentence."""

    name: str
    packets: Comparison
    late: int
    similarity: float

    @property
    def arrived(self) -> bool:
        """Whether the speech really arrived: enough of its packets, and it sounds like what was said."""
        return (
            self.packets.sent > 0
            and self.packets.lost <= self.packets.sent * MAX_LOST
            and self.similarity >= MIN_SIMILARITY
        )


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where the throw-away site and the results are written.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3_600),
    default=None,
    help="Let each talk about this long, saying the sentence again.  [default: once]",
)
@click.option("--keep", is_flag=True, help="Keep the site, logs and traces, not only what was heard.")
def demo(folder: Path, seconds: float | None, keep: bool) -> int:
    """Try everything on this machine: a Rallypoint, a listener and two talkers, and a telephone call.

    Uses free ports of 127.0.0.1 and nothing outside its folder. Exit status 0 only if the speech arrived.
    """
    console = Console()
    with Interrupt() as interrupt, _reserved(folder) as place:
        try:
            heard, echo = Demonstration(place, seconds, console, interrupt).run()
        except Interrupted as stopped:
            click.echo(f"stopped by {stopped}; nothing is left running", err=True)
            return INTERRUPTED
        arrived = len(heard) == len(TALKERS) and all(each.arrived for each in heard) and echo.arrived
        if arrived and not keep:
            _tidy(place)
    return 0 if arrived else 1


class Demonstration:
    """One run: :meth:`run` does all of it and ends every process that it has started."""

    def __init__(self, folder: Path, seconds: float | None, console: Console, interrupt: Interrupt) -> None:
        self._folder = folder
        self._console = console
        self._interrupt = interrupt
        self._seconds = seconds

    def run(self) -> tuple[list[Heard], Echo]:
        """Let them talk, measure, show; what was heard of each talker, and of the call."""
        from ice.cli.speech import SPEECH
        from ice.media.wav import inspect
        from ice.testing.site import Site

        self._say("a throw-away site: an authority, six certificates, a configuration")
        site = Site.create(self._folder / "site", clients=("listener", *TALKERS))
        telephones = Telephones(self._folder, site, _beside_python("twistd"), self._say)
        sentence_s = inspect(SPEECH).seconds
        rounds = 1 if self._seconds is None else max(1, math.ceil(self._seconds / sentence_s))
        with Children(self._interrupt) as children:
            rallypoint = self._start_rallypoint(children, site)
            listener = self._start_listener(children, site, rallypoint, sentence_s * rounds)
            call = telephones.begin(children, SPEECH, sentence_s)
            for name in TALKERS:
                self._let_talk(
                    children, site, name, SPEECH, rounds, sentence_s * rounds, rallypoint, listener
                )
                self._interrupt.sleep(GAP_S)
            children.wait_until(
                lambda: len(_events(listener, "ended")) >= len(TALKERS),
                START_S,
                "the last word to be heard",
                rallypoint,
            )
            listener.end()
            children.wait_until(
                lambda: call.status is not None, START_S + SLACK_S, "the call was over", rallypoint
            )
        echo = telephones.measure(call, SPEECH)
        heard = self._measure(SPEECH, rounds, _events(listener, "began"), _events(listener, "ended"))
        self._show(heard, echo)
        return heard, echo

    # -- the processes ---------------------------------------------------------------------------------------------

    def _start_rallypoint(self, children: Children, site: Any) -> Child:
        program = _beside_python("twistd")
        child = children.start(
            "the Rallypoint",
            [program, "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)],
            output=self._folder / "rallypoint.log",
            cwd=self._folder,
        )
        ready = f"http://127.0.0.1:{site.http_port}/readyz"
        children.wait_until(lambda: _answers(ready), START_S, "it was ready", child)
        self._say(f"a Rallypoint on 127.0.0.1:{site.port} (TLS 1.3), process {child.pid}")
        return child

    def _start_listener(self, children: Children, site: Any, rallypoint: Child, length_s: float) -> Child:
        listener = children.start(
            "the listener",
            [
                *(sys.executable, "-m", "ice", "listen", STREAM, "--json"),
                *("--config", str(site.client("listener").config)),
                *("--out", "heard.wav", "--trace", "heard.jsonl"),
                *("--idle-exit", str(START_S + length_s)),
            ],
            output=self._folder / "listener.log",
            cwd=self._folder,
        )
        children.wait_until(
            lambda: any(event.get("up") for event in _events(listener, "path")),
            START_S,
            "the listener was connected",
            rallypoint,
            listener,
        )
        self._say(f"a listener on the stream '{STREAM}', process {listener.pid}")
        return listener

    def _let_talk(
        self,
        children: Children,
        site: Any,
        name: str,
        speech: Path,
        rounds: int,
        length_s: float,
        rallypoint: Child,
        listener: Child,
    ) -> None:
        talker = children.start(
            name,
            [
                *(sys.executable, "-m", "ice", "talk", STREAM, "--json", "--alias", name),
                *("--config", str(site.client(name).config)),
                *("--file", str(speech), "--loop", str(rounds), "--trace", f"{name.lower()}.jsonl"),
            ],
            output=self._folder / f"{name.lower()}.log",
            cwd=self._folder,
        )
        children.wait_until(
            lambda: bool(_events(talker, "began")) or talker.status == 0,
            START_S,
            f"{name} began to talk",
            rallypoint,
            listener,
            talker,
        )
        self._say(f"{name} talks, process {talker.pid}")
        with self._progress() as progress:
            task = progress.add_task(name, total=length_s)
            began = time.monotonic()

            def over() -> bool:
                progress.update(task, completed=min(length_s, time.monotonic() - began))
                return talker.status is not None

            children.wait_until(over, length_s + SLACK_S, f"{name} had finished", rallypoint, listener)
            progress.update(task, completed=length_s)
        if talker.status != 0:
            raise LocalError(f"{name} ended with status {talker.status}:\n{talker.tail()}")

    # -- what came of it -----------------------------------------------------------------------------------------

    def _measure(
        self, speech: Path, rounds: int, began: list[dict[str, Any]], ended: list[dict[str, Any]]
    ) -> list[Heard]:
        import numpy as np

        from ice.media import picture, quality, wav
        from ice.media.payload import SAMPLE_RATE

        sentence = np.tile(wav.read(speech), rounds)
        sound = wav.read(self._folder / "heard.wav")
        spoken = np.zeros(len(sound), np.int16)
        traced = read_trace(self._folder / "heard.jsonl")
        heard = []
        for name in TALKERS:
            packets = compare(read_trace(self._folder / f"{name.lower()}.jsonl"), traced)
            starts = [event["at_s"] for event in began if event["alias"] == name]
            ends = [event for event in ended if event["alias"] == name]
            likeness = 0.0
            if starts and ends:
                first, last = round(starts[0] * SAMPLE_RATE), round(ends[-1]["at_s"] * SAMPLE_RATE)
                likeness = quality.similarity(sentence, sound[first:last])
                there = spoken[first : first + len(sentence)]
                there[:] = sentence[: len(there)]
            heard.append(Heard(name, packets, sum(event["late"] for event in ends), likeness))
        try:
            picture.draw(self._folder / "speech.png", (("spoken", spoken), ("heard", sound)))
        except picture.PillowMissing as missing:
            self._say(f"no picture: {missing}")
        return heard

    def _show(self, heard: list[Heard], echo: Echo) -> None:
        table = Table(title="what was heard", title_justify="left")
        table.add_column("talker")
        for heading in ("sent", "received", "lost", "late", "latency p50", "p99", "similarity"):
            table.add_column(heading, justify="right")
        for each in heard:
            table.add_row(
                each.name,
                *map(str, (each.packets.sent, each.packets.received, each.packets.lost, each.late)),
                f"{each.packets.percentile_ms(50):.1f} ms",
                f"{each.packets.percentile_ms(99):.1f} ms",
                f"{each.similarity:.3f}",
                style="" if each.arrived else "red",
            )
        self._console.print()
        self._console.print(table)
        call = f"{CALLER} heard an echo for {echo.seconds:.1f} s, similarity {echo.similarity:.3f}"
        self._console.print(f"call:     {call}", style="" if echo.arrived else "red", highlight=False)
        self._console.print(f"heard:    {self._folder / 'heard.wav'}", soft_wrap=True, highlight=False)
        self._console.print(f"echo:     {self._folder / HEARD}", soft_wrap=True, highlight=False)
        drawn = self._folder / "speech.png"
        if drawn.exists():
            self._console.print(f"picture:  {drawn}", soft_wrap=True, highlight=False)
        missing = [each for each in heard if not each.arrived]
        if missing or not echo.arrived:
            for each in missing:
                self._console.print(
                    f"{each.name} was not heard well: {plural(each.packets.lost, 'packet')} lost, similarity "
                    f"{each.similarity:.3f} (at least {MIN_SIMILARITY} is wanted); see {self._folder}/*.log",
                    soft_wrap=True,
                    highlight=False,
                )
        else:
            self._console.print("Every word arrived.", style="bold green")

    def _say(self, sentence: str) -> None:
        self._console.print(f"· {sentence}", soft_wrap=True, highlight=False)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("  {task.description:<6}"),
            BarColumn(40),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )


def _events(child: Child, name: str) -> list[dict[str, Any]]:
    """The events of that name which a ``--json`` process has told so far."""
    return [event for event in told(child) if event.get("event") == name]


def _answers(url: str) -> bool:
    try:
        return fetch(url, timeout_s=1.0)[0] == 200
    except (NotRunning, IceError):
        return False


def _beside_python(program: str) -> str:
    """A console script of this Python's environment; raises :class:`~ice.errors.LocalError` where it is not installed."""
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise LocalError(f"{program} is not installed beside {sys.executable}; type  pip install twisted")
    return found


@contextlib.contextmanager
def _reserved(folder: Path) -> Iterator[Path]:
    """The folder, absolute, empty and ours alone; raises :class:`~ice.errors.LocalError` where it holds somebody's files."""
    folder = folder.absolute()
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / MARK).exists() and any(folder.iterdir()):
                raise LocalError(f"{folder} is not empty and not a demo's; name another folder with --folder")
            lock = held.enter_context((folder / MARK).open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder, keep=(MARK,))
        except BlockingIOError:
            raise LocalError(
                f"another demo is running in {folder}; wait for it, or name another folder with --folder"
            ) from None
        except OSError as error:
            raise LocalError(
                f"{folder} cannot be used: {error.strerror or error}; name another with --folder"
            ) from None
        yield folder


def _tidy(folder: Path) -> None:
    """Leave only what a person wants to hear and see."""
    _empty(folder, keep=(MARK, "heard.wav", HEARD, "speech.png"))


def _empty(folder: Path, keep: tuple[str, ...]) -> None:
    for path in folder.iterdir():
        if path.name not in keep:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
