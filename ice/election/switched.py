"""Work that is begun and stopped by a flag (:class:`ice.election.satellite.Work`), so that a hand-over takes no time: a standby hears everything as the active one does, says nothing, and goes
on in the middle of a word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol


class Switch(Protocol):
    """Who has the flag."""

    def active(self) -> None:
        """Speak from now on."""

    def standby(self) -> None:
        """Say nothing from now on."""


class SwitchedWork(ABC):
    """``switch`` as work; a standby until it is told otherwise."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        switch.standby()

    def active(self) -> None:
        """Speak from now on."""
        self._switch.active()

    def standby(self) -> None:
        """Say nothing."""
        self._switch.standby()

    @abstractmethod
    def ready(self) -> str | None:
        """None while it could work, else why not."""

    @abstractmethod
    def stored(self) -> bool:
        """Whether it has something to work by on its own disk."""
