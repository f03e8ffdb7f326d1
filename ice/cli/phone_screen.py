"""What ``ice phone`` shows on a terminal: a number, how the call is, two meters, and which keys there are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from rich.table import Table
from rich.text import Text

from ice.cli.boards import TableScreen
from ice.cli.display import meter
from ice.printable import printable

PAD: Final = ("1 2 3", "4 5 6", "7 8 9", "* 0 #")


@attrs.frozen
class View:
    """How a telephone is now."""

    state: str  #: what is going on, in words
    number: str = ""  #: that is being typed
    typing: str = ""  #: what the number is for
    seconds: float | None = None  #: since the answer
    said_dbov: float = float("-inf")
    heard_dbov: float = float("-inf")
    marks: tuple[str, ...] = ()  #: muted, on hold …
    keys: tuple[tuple[str, str], ...] = ()  #: key and what it does
    urgent: bool = False  #: somebody calls
    trouble: bool = False  #: nobody can be called


def clock(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3_600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def drawn(view: View, title: str) -> Table:
    """The telephone for a terminal: the pad at the left, the call at the right."""
    style = "bold red" if view.trouble else "bold yellow" if view.urgent else "bold"
    state = Text(printable(view.state), style=style)
    if view.seconds is not None:
        state.append(f"  {clock(view.seconds)}", style="bold green")
    for mark in view.marks:
        state.append(f"  [{mark}]", style="yellow")
    typed = Text.assemble((f"{view.typing} ", "dim"), (printable(view.number), "bold cyan"), ("_", "blink"))
    right = (
        state,
        typed if view.typing else Text(""),
        Text.assemble(("you  ", "dim"), meter(view.said_dbov)),
        Text.assemble(("they ", "dim"), meter(view.heard_dbov)),
    )
    table = Table(
        title=Text(printable(title), style="table.title"),
        title_justify="left",
        show_header=False,
        show_edge=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    for pad, line in zip(PAD, right, strict=True):
        table.add_row(Text(pad, style="bold"), line)
    hints = Text()
    for key, does in view.keys:
        hints.append(f"{key} ", style="bold reverse").append(f" {does}   ")
    table.add_row(Text(""), hints)
    return table


class PhoneScreen(TableScreen[View]):
    """A terminal: what happens scrolls, the telephone stands below it."""

    def drawn(self, rows: Sequence[View], title: str) -> Table:
        """See :class:`~ice.cli.boards.TableScreen`: of several views the last."""
        return drawn(rows[-1] if rows else View("beginning"), title)
