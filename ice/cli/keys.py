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
class Input:
    """What comes in at a file descriptor, as it comes; ``typed`` is called with the bytes, with none at its end. What the descriptor is, and was, is left as it is."""

    def __init__(self, descriptor: int, typed: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._typed = typed
        self._reactor: Any = None

    def start(self, reactor: Any) -> None:
        """Read from now on; a file that cannot be waited for (which is read at once) is read to its end."""
        try:
            reactor.addReader(self)
        except PermissionError:  # epoll waits for no regular file
            while data := os.read(self._descriptor, 65_536):
                self._typed(data)
            self._typed(b"")
            return
        self._reactor = reactor

    def stop(self) -> None:
        """Read no more."""
        if self._reactor is not None:
            self._reactor.removeReader(self)

    # -- IReadDescriptor

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def doRead(self) -> None:
        """There is something to read."""
        try:
            data = os.read(self._descriptor, 4_096)
        except OSError:
            data = b""
        self._typed(data)
        if not data:
            self.stop()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    def logPrefix(self) -> str:
        """For Twisted's own log lines."""
        return "keys"


class Typed(Input):
    """What is typed at a terminal, as it is typed and without echo. A context manager: leaving it puts the terminal right again."""

    def __init__(self, descriptor: int, typed: Callable[[bytes], None]) -> None:
        super().__init__(descriptor, typed)
        self._before: list[Any] | None = None

    def __enter__(self) -> Typed:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)


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
