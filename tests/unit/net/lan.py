"""A reactor of which a test is the loop: time is a clock's, sockets are read when the test says so."""

import select
from typing import Any

from twisted.internet.task import Clock


class Loop(Clock):
    """What sockets and watches want of a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        if reader in self.readers:
            self.readers.remove(reader)

    def turn(self, wait_s: float = 0.0) -> int:
        """Let everybody read once for whom something has come; how many did."""
        ready, _, _ = select.select(self.readers, [], [], wait_s)
        for reader in ready:
            reader.doRead()
        return len(ready)

    def until(self, fact: Any) -> bool:
        """Turn until ``fact()`` holds; False after a second without news."""
        while not fact():
            if not self.turn(1.0):
                return False
        return True
