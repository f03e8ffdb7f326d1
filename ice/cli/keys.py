"""Keys of a terminal, one by one: push to talk, or whatever a command makes of them."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

TOGGLES = frozenset(b" \r\n")
QUITS = frozenset(b"qQ\x04")  # the last is Ctrl-D


@implementer(IReadDescriptor)
class Typed:
    """What is typed at a terminal, as it is typed and without echo; ``typed`` is called with the bytes, with none at the terminal's end.

    A context manager: leaving it puts the terminal right again.
    """

    def __init__(self, descriptor: int, typed: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._typed = typed
        self._before: list[Any] | None = None
        self._reactor: Any = None

    def __enter__(self) -> Typed:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._reactor is not None:
            self._reactor.removeReader(self)
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def start(self, reactor: Any) -> None:
        """Read keys as they are pressed."""
        self._reactor = reactor
        reactor.addReader(self)

    # -- IReadDescriptor

    def fileno(self) -> int:
        """The terminal's file descriptor."""
        return self._descriptor

    def doRead(self) -> None:
        """There is something to read."""
        try:
            data = os.read(self._descriptor, 64)
        except OSError:
            data = b""
        self._typed(data)
        if not data and self._reactor is not None:
            self._reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    def logPrefix(self) -> str:
        """For Twisted's own log lines."""
        return "keys"


class Keys(Typed):
    """Push to talk: space or enter presses, and releases; ``q`` quits."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, self.typed)
        self.pressed = False
        self.quit = False

    def __enter__(self) -> Keys:
        super().__enter__()
        return self

    def typed(self, data: bytes) -> None:
        """Bytes came from the terminal; none at all is its end."""
        if not data:
            self.quit = True
        for byte in data:
            if byte in TOGGLES:
                self.pressed = not self.pressed
            elif byte in QUITS:
                self.quit = True
