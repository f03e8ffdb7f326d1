"""What ``ice watch`` shows: a live table on a terminal, a plain line for each event where it is piped, objects with ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from rich.table import Table
from rich.text import Text

from ice.cli.boards import TableScreen, aligned
from ice.cli.display import duration
from ice.streams.activity import Voice
from ice.streams.words import plain

BARS: Final = " ▁▂▃▄▅▆▇█"
FULL: Final = 50  # packets a second: a talker with 20 ms packets fills a bar
BAD_LOSS_PERCENT: Final = 1.0  # heard by most people, whatever the codec conceals
BAD_JITTER_MS: Final = 30.0  # more than most jitter buffers begin with
HEADINGS: Final = ("group", "who", "codec", "packets/s", "kbit/s", "lost", "jitter", "last 10 s", "heard")
RIGHT: Final = (3, 4, 5, 6)


@attrs.frozen
class Row:
    """One line of the table: a voice, or a group where nobody is heard."""

    group: str
    who: str = ""
    codec: str = ""
    packets: str = ""
    kbit: str = ""
    lost: str = ""
    jitter: str = ""
    levels: str = ""
    heard: str = ""
    active: bool = False
    bad: bool = False  #: lossy, or with much jitter
    trouble: bool = False  #: the group cannot be heard

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts under :data:`HEADINGS`."""
        return (
            self.group,
            self.who,
            self.codec,
            self.packets,
            self.kbit,
            self.lost,
            self.jitter,
            self.levels,
            self.heard,
        )


def name_of(voice: Voice) -> str:
    """Whose voice it is, as far as it says, and from where."""
    where = str(voice.sender) if voice.ssrc is None else f"{voice.sender} {voice.ssrc:08x}"
    return f"{plain(voice.alias)} ({where})" if voice.alias else where


def row_of(group: str, voice: Voice, now: float) -> Row:
    """A voice as a line."""
    loss = loss_percent(voice)
    ago = max(0.0, now - voice.heard_at)
    return Row(
        group=group,
        who=name_of(voice),
        codec=voice.codec,
        packets=f"{voice.packets_per_s:.0f}" if voice.packets_per_s >= 0.5 else "",
        kbit=f"{voice.kbit_per_s:.0f}" if voice.packets_per_s >= 0.5 else "",
        lost="" if voice.ssrc is None else f"{loss:.1f} %" if voice.lost else "0",
        jitter="" if voice.jitter_ms is None else f"{voice.jitter_ms:.1f} ms",
        levels=bars(voice.levels),
        heard="now" if voice.active else f"{duration(ago)} ago",
        active=voice.active,
        bad=loss >= BAD_LOSS_PERCENT or (voice.jitter_ms or 0.0) >= BAD_JITTER_MS,
    )


def loss_percent(voice: Voice) -> float:
    """Of all that should have come."""
    return 100.0 * voice.lost / max(1, voice.lost + voice.packets)


def bars(levels: Sequence[int]) -> str:
    """Packets of each second as a picture; what is not nothing is seen."""
    steps = len(BARS) - 1
    return "".join(BARS[0 if not each else max(1, min(steps, round(each / FULL * steps)))] for each in levels)


class ScreenBoard(TableScreen[Row]):
    """A terminal: events scroll, voices stand below them."""

    def drawn(self, rows: Sequence[Row], title: str) -> Table:
        """See :class:`~ice.cli.boards.TableScreen`."""
        return drawn(rows, title)

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        """See :class:`~ice.cli.boards.Board`. Who begins and ends is seen in the table."""
        if event not in ("began", "ended"):
            self.scroll(sentence)


def drawn(rows: Sequence[Row], title: str) -> Table:
    """The table for a terminal; a group's name stands once."""
    table = Table(title=title, title_justify="left", expand=False, show_edge=False, pad_edge=False)
    for n, heading in enumerate(HEADINGS):
        table.add_column(
            heading, no_wrap=n not in (0, 1), overflow="fold", justify="right" if n in RIGHT else "left"
        )
    before = ""
    for row in rows:
        style = "red" if row.trouble else "" if row.active else "dim"
        texts = [Text(cell, style=style) for cell in row.cells]
        if row.active:
            texts[1].stylize("bold")
            texts[7].stylize("green")
        if row.bad:
            texts[5].stylize("yellow")
            texts[6].stylize("yellow")
        if row.group == before:
            texts[0] = Text("")
        before = row.group
        table.add_row(*texts)
    if not rows:
        table.add_row(Text("nothing yet", style="dim"), *("" for _ in HEADINGS[1:]))
    return table


def plain_table(rows: Sequence[Row]) -> list[str]:
    """The table as aligned columns, uncut, with a dash where there is nothing; without the picture."""
    shown = [n for n in range(len(HEADINGS)) if HEADINGS[n] != "last 10 s"]
    return aligned([[cells[n] for n in shown] for cells in (HEADINGS, *(row.cells for row in rows))])
