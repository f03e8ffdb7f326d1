"""Tables that follow what happens: live on a terminal below the events, nowhere in a log, and once at the end where that is asked for.

A *board* is a :class:`~ice.cli.display.Display` with a table of rows; what a row is, and how the table is drawn, is the command's own affair.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TextIO, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from ice.cli.display import Display, JsonLines, Lines, Scrolling, face_for

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

FRESH_PER_S = 4


class Board(Display, Protocol[R_contra]):
    """Where events and rows are shown."""

    def rows(self, rows: Sequence[R_contra]) -> None:
        """The table as it is now."""


class LinesBoard(Lines):
    """A plain line for each event; the table only when it is asked for."""

    def rows(self, rows: Sequence[object]) -> None:
        """Nothing: a log has no table."""


class JsonBoard(JsonLines):
    """An object for each event."""

    def rows(self, rows: Sequence[object]) -> None:
        """Nothing: machines get facts."""


class TableScreen(Scrolling, ABC, Generic[R]):
    """A terminal: events scroll, the rows stand below them as :meth:`drawn` has them."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        super().__init__(console, self.drawn((), title), per_s=FRESH_PER_S)

    @abstractmethod
    def drawn(self, rows: Sequence[R], title: str) -> Table:
        """The picture of the rows."""

    def rows(self, rows: Sequence[R]) -> None:
        """See :class:`Board`."""
        self.show(self.drawn(rows, self._title))


def board_for(
    screen: Callable[[Console, str], Board[R]],
    title: str,
    *,
    as_json: bool,
    live: bool = True,
    out: TextIO | None = None,
    broken: Callable[[], None] = lambda: None,
) -> Board[R]:
    """The face that fits; ``live``: a table that follows, where there is a terminal for it."""
    return face_for(
        lambda console: screen(console, title),
        LinesBoard,
        JsonBoard,
        as_json=as_json,
        live=live,
        out=out,
        broken=broken,
    )


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as columns, uncut, with a dash where there is nothing."""
    full = [[cell or "-" for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(*full, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in full
    ]


def print_table(
    draw: Callable[[Sequence[R], str], Table],
    plain: Callable[[Sequence[R]], Sequence[str]],
    rows: Sequence[R],
    title: str,
    out: Any = None,
) -> None:
    """A table once: drawn on a terminal, as plain lines elsewhere."""
    stream = out if out is not None else sys.stdout
    if stream.isatty():
        Console(file=stream).print(draw(rows, title))
        return
    for line in plain(rows):
        stream.write(line + "\n")
    stream.flush()
