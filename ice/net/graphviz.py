"""Pictures drawn by Graphviz: DOT text in, SVG out, by its program ``dot`` where that is installed.

The program runs beside us, with the least claim to the CPU that can be had, one at a time; whoever asks while it runs is given what it is drawing. It is
killed when it takes too long, since the time for a picture grows much faster than the graph. Its input is ours, but names in it are not:
it gets no arguments but constants, an environment of two variables, and no more of its output is taken than a picture has.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ice.errors import LocalError
from ice.net.clock import Clock, DelayedCall

DRAW_S: Final = 20.0  # a mesh of 50, each linked with each, takes 0.2 s
MAX_SVG: Final = 8 * 1024 * 1024  # bytes; 5,000 links take about 3 MB
MAX_SAID: Final = 1_000  # bytes of complaints that are repeated to a person

# The layout that keeps places that are given, and finds the others' in a moment: a full mesh of 50 took circo 134 s, this one 0.2 s.
# `dot` is Graphviz' name for all of its layouts.
ARGUMENTS: Final = ("-Kneato", "-Tsvg")

Find = Callable[[str], str | None]
"""The path of a program, or None where it is not installed: :func:`shutil.which`."""


class NotDrawn(LocalError):
    """There is no picture; the message says why."""


class Graphviz:
    """Draws, and remembers the last picture."""

    def __init__(self, reactor: Any, find: Find = shutil.which) -> None:
        """``reactor``: an ``IReactorProcess`` and ``IReactorTime``."""
        self._reactor = reactor
        self._find = find
        self._text = ""
        self._picture = b""
        self._waiting: list[Deferred[bytes]] | None = None

    def draw(self, text: str) -> Deferred[bytes]:
        """The SVG of ``text``, or of what is being drawn already; fails with :class:`NotDrawn`."""
        if self._picture and text == self._text:
            return succeed(self._picture)
        if self._waiting is None:
            program = self._find("dot")
            if program is None:
                return fail(
                    NotDrawn(
                        "Graphviz is not installed here, so there is no picture; type: apt install graphviz"
                    )
                )
            self._waiting = []
            command = [program, *ARGUMENTS]
            nice = self._find("nice")
            if nice is not None:
                command = [nice, "-n", "19", *command]
            run = _Run(self._reactor, text, self._drawn)
            environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
            try:
                self._reactor.spawnProcess(run, command[0], command, environment)
            except OSError as error:
                self._waiting = None
                return fail(NotDrawn(f"{command[0]} cannot be run: {error.strerror or error}"))
        waiting: Deferred[bytes] = Deferred(self._not_wanted)
        self._waiting.append(waiting)
        return waiting

    def _drawn(self, text: str, picture: bytes, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if picture:
            self._text, self._picture = text, picture
        for one in waiting or ():
            if picture:
                one.callback(picture)
            else:
                one.errback(NotDrawn(f"Graphviz has drawn nothing: {why}"))

    def _not_wanted(self, one: Deferred[bytes]) -> None:
        if self._waiting and one in self._waiting:
            self._waiting.remove(one)


class _Run(ProcessProtocol):
    """One run of the program; ``done(text, picture, why there is none)`` is called once."""

    transport: Any

    def __init__(self, clock: Clock, text: str, done: Callable[[str, bytes, str], None]) -> None:
        self._clock = clock
        self._text = text
        self._done = done
        self._out: list[bytes] = []
        self._size = 0
        self._said = b""
        self._why = ""
        self._late: DelayedCall | None = None

    def connectionMade(self) -> None:
        """The program runs: it is told what to draw."""
        self._late = self._clock.callLater(DRAW_S, self._give_up, f"it took longer than {DRAW_S:.0f} s")
        self.transport.write(self._text.encode())
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """A piece of the picture."""
        self._size += len(data)
        if self._size > MAX_SVG:
            self._give_up(f"the picture is larger than {MAX_SVG} bytes")
        elif not self._why:
            self._out.append(data)

    def errReceived(self, data: bytes) -> None:
        """A warning or a complaint."""
        self._said = (self._said + data)[:MAX_SAID]

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        picture = b"".join(self._out)
        if not self._why and not reason.check(ProcessDone):
            said = self._said.decode("utf-8", "replace").strip()
            self._why = "".join(c if c.isprintable() else " " for c in said) or str(reason.value)
        if self._why or not picture:
            self._done(self._text, b"", self._why or "it said nothing")
        else:
            self._done(self._text, picture, "")

    def _give_up(self, why: str) -> None:
        self._why = self._why or why
        self._out.clear()
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
