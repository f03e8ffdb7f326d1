"""What a person, or a program, sees while voice is running: live meters, plain lines, or JSON.

One interface, three faces. On a terminal the talkers stand in a live table with their level meters and what happened scrolls above
it; where the output is piped each event is one plain line; with ``--json`` each is one object. Whoever tells an event gives both:
a sentence for people and fields for machines. Names in a sentence come from missions, links and radios that others have written, so
no sentence reaches a terminal with anything in it that a terminal obeys.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TextIO, TypeVar

import attrs
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ice.printable import printable

F = TypeVar("F")

METER_CELLS = 24
METER_FLOOR_DBOV = -60.0  # a quiet room; below that a meter stands still
LOUD_DBOV = -6.0
_HALF = re.compile("[\ud800-\udfff]")
FRESH_PER_S = 12  # pictures per second: enough for a meter, little for a slow terminal


@attrs.frozen
class Meter:
    """One row of the live table: a talker, or ourselves."""

    name: str
    level_dbov: float  #: of the last frames; -inf for silence
    seconds: float  #: since the burst began
    packets: int = 0
    lost: int = 0
    late: int = 0
    delay_ms: float | None = None  #: of the jitter buffer
    emergency: bool = False


class Display(Protocol):
    """Where events and meters are shown."""

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        """Something happened: ``event`` and ``fields`` for machines, ``sentence`` for people."""

    def meters(self, rows: Sequence[Meter]) -> None:
        """Who talks now and how loud; called often, shown when there is a place for it."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Lines:
    """A plain line for each event; no meters."""

    def __init__(self, out: TextIO | None = None, *, broken: Callable[[], None] = lambda: None) -> None:
        self._out = out if out is not None else sys.stdout
        self._broken = broken

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        self._write(_lines(sentence))

    def meters(self, rows: Sequence[Meter]) -> None:
        """Nothing: a log is no place for a needle."""

    def close(self) -> None:
        self._write(None)

    def _write(self, line: str | None) -> None:
        try:
            if line is not None:
                self._out.write(line + "\n")
            self._out.flush()
        except BrokenPipeError:
            # Whoever read us is gone (`| head`): end quietly, and let the interpreter's own last flush find an open file.
            if self._out is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._broken()


class JsonLines(Lines):
    """An object for each event: ``{"event": …, …}``; what is not a number (yet) is null."""

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        self._write(json_text({"event": event, **{k: jsonable(v) for k, v in fields.items()}}))


class Scrolling:
    """A terminal: what happens scrolls, and below it stands a picture of how things are now."""

    def __init__(self, console: Console, picture: RenderableType, *, per_s: float = FRESH_PER_S) -> None:
        self._live = Live(
            picture, console=console, refresh_per_second=per_s, transient=True, redirect_stderr=False
        )
        self._live.start()

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        self.scroll(sentence)

    def scroll(self, sentence: str, style: str = "", *, bell: bool = False) -> None:
        """A sentence that scrolls, and rings where it is urgent."""
        self._live.console.print(Text(_lines(sentence), style=style))
        if bell:
            self._live.console.bell()

    def meters(self, rows: Sequence[Meter]) -> None:
        """Nothing, where nobody is heard."""

    def show(self, picture: RenderableType) -> None:
        """The picture, as it is now."""
        self._live.update(picture)

    def close(self) -> None:
        self._live.stop()


class Screen(Scrolling):
    """A terminal: events scroll, talkers stand below them in a live table."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = printable(title)
        super().__init__(console, self._table(()))

    def meters(self, rows: Sequence[Meter]) -> None:
        self.show(self._table(rows))

    def _table(self, rows: Sequence[Meter]) -> Table:
        table = Table(
            title=Text(self._title, style="table.title"),
            title_justify="left",
            expand=False,
            show_edge=False,
            pad_edge=False,
        )
        for heading in ("who", "level"):
            table.add_column(heading, no_wrap=True)
        for heading in ("seconds", "packets", "lost", "late", "delay"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(
                Text(printable(row.name), style="bold red" if row.emergency else "bold"),
                meter(row.level_dbov),
                f"{row.seconds:.1f}",
                str(row.packets),
                Text(str(row.lost), style="red" if row.lost else ""),
                Text(str(row.late), style="yellow" if row.late else ""),
                "" if row.delay_ms is None else f"{row.delay_ms:.0f} ms",
            )
        if not rows:
            table.add_row(Text("nobody talks", style="dim"), meter(-math.inf), "", "", "", "", "")
        return table


def face_for(
    screen: Callable[[Console], F],
    lines: Callable[..., F],
    json: Callable[..., F],
    *,
    as_json: bool,
    live: bool = True,
    out: TextIO | None = None,
    broken: Callable[[], None] = lambda: None,
) -> F:
    """The face that fits: JSON where asked for, a terminal that can move its cursor where there is one and ``live`` is wanted, else plain lines."""
    stream = out if out is not None else sys.stdout
    if as_json:
        return json(stream, broken=broken)
    if live and stream.isatty() and os.environ.get("TERM") != "dumb":
        return screen(Console(file=stream))
    return lines(stream, broken=broken)


def display_for(
    title: str, *, as_json: bool, out: TextIO | None = None, broken: Callable[[], None] = lambda: None
) -> Display:
    """The face that fits: JSON where asked for, a live table on a terminal, else plain lines."""
    screen: Callable[[Console], Display] = partial(Screen, title=title)
    return face_for(screen, Lines, JsonLines, as_json=as_json, out=out, broken=broken)


def meter(level_dbov: float) -> Text:
    """A level as a bar from −60 to 0 dBov, red where it is near clipping."""
    share = 0.0 if level_dbov == -math.inf else (level_dbov - METER_FLOOR_DBOV) / -METER_FLOOR_DBOV
    cells = round(max(0.0, min(1.0, share)) * METER_CELLS)
    hot = max(0, cells - round((LOUD_DBOV - METER_FLOOR_DBOV) / -METER_FLOOR_DBOV * METER_CELLS))
    return Text.assemble(
        ("█" * (cells - hot), "green"), ("█" * hot, "red"), ("·" * (METER_CELLS - cells), "dim")
    )


def _lines(sentence: str) -> str:
    """A sentence, or a report of several lines, with nothing else in it that a terminal obeys."""
    return "\n".join(map(printable, sentence.split("\n")))


def plural(count: int, noun: str) -> str:
    """``1 packet``, ``2 packets``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: Any) -> str | None:
    """``42 s``, ``12 min``, ``3 h 5 min``, ``4 d 2 h``; none for what is no number."""
    if not isinstance(seconds, int | float) or seconds < 0:
        return None
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def json_text(value: object, *, indent: int | None = None) -> str:
    """``value`` as JSON, letters as they are. Halves of UTF-16 pairs, which a mission's names can have and no encoder takes, are escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return (
        "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
        if _HALF.search(text)
        else text
    )


def jsonable(value: Any) -> Any:
    """``value`` with everything that JSON has no word for turned into null; floats cut to microseconds."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return value
