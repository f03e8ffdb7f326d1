"""Lines, JSON and the live table."""

import io
import json
import math
from unittest import mock

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.display import METER_CELLS, JsonLines, Lines, Meter, Screen, display_for, jsonable, meter, plural


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class DisplayTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Piped, an event is its sentence and meters are nothing."""
        out = io.StringIO()
        display = display_for("stream", as_json=False, out=out)
        display.say("began", "Anna began", alias="Anna")
        display.meters([Meter("Anna", -20.0, 1.0)])
        display.close()
        self.assertEqual(out.getvalue(), "Anna began\n")

    def test_json(self) -> None:
        """For machines an event is one object; what is no number is null."""
        out = io.StringIO()
        display = display_for("stream", as_json=True, out=out)
        display.say("summary", "done", alias="Ænna", p50_ms=math.nan, packets=3)
        self.assertIsInstance(display, JsonLines)
        self.assertEqual(
            json.loads(out.getvalue()), {"event": "summary", "alias": "Ænna", "p50_ms": None, "packets": 3}
        )

    def test_terminal(self) -> None:
        """On a terminal there is a live table, with markup of foreign names left as it is."""
        out = Terminal()
        with mock.patch.dict("os.environ", {"TERM": "xterm"}):
            display = display_for("stream", as_json=False, out=out)
        self.assertIsInstance(display, Screen)
        display.say("began", "[red]Anna[/red] began")
        display.meters([Meter("Anna", -3.0, 2.5, packets=125, lost=1, late=2, delay_ms=40.0, emergency=True)])
        display.close()
        self.assertIn("[red]Anna[/red] began", out.getvalue())

    def test_what_a_terminal_obeys(self) -> None:
        """Names come from files and radios of others: neither an event nor a row of the table can move the cursor, ring or begin a line."""
        evil = "[/b]\x1b[2JRed\r\nx\x00\x07\x9b31m"
        lines, screen = io.StringIO(), Terminal()
        display_for("stream", as_json=False, out=lines).say("path", f"connected to '{evil}'")
        self.assertEqual(lines.getvalue(), "connected to '[/b]\ufffd[2JRed\ufffd\nx\ufffd\ufffd\ufffd31m'\n")
        with mock.patch.dict("os.environ", {"TERM": "xterm"}):
            display = display_for(evil, as_json=False, out=screen)
        display.say("path", f"connected to '{evil}'")
        display.meters([Meter(evil, -3.0, 2.5)])
        display.close()
        for obeyed in ("\x1b[2J", "\x00", "\x07", "\x9b"):
            self.assertNotIn(obeyed, screen.getvalue())

    def test_half_a_pair(self) -> None:
        """Half of a UTF-16 pair, which JSON can name and no encoder takes, stays JSON that says the same."""
        out = io.StringIO()
        display_for("stream", as_json=True, out=out).say("named", "x", alias="\ud800ü")
        out.getvalue().encode()
        self.assertEqual(json.loads(out.getvalue())["alias"], "\ud800ü")

    def test_dumb_terminal(self) -> None:
        """A terminal that cannot move its cursor gets lines."""
        with mock.patch.dict("os.environ", {"TERM": "dumb"}):
            self.assertIs(type(display_for("stream", as_json=False, out=Terminal())), Lines)

    def test_table(self) -> None:
        """A row shows who, how loud, how long and what went wrong."""
        out = io.StringIO()
        console = Console(file=out, width=120, force_terminal=False)
        screen = Screen(console, "stream alpha")
        self.addCleanup(screen.close)
        console.print(screen._table([Meter("Anna", -3.0, 2.5, packets=125, lost=1, late=2, delay_ms=40.0)]))
        for word in ("stream alpha", "Anna", "2.5", "125", "40 ms"):
            self.assertIn(word, out.getvalue())

    def test_reader_gone(self) -> None:
        """When whoever reads us has closed the pipe, we are told instead of failing."""

        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        told: list[bool] = []
        Lines(Closed(), broken=lambda: told.append(True)).say("began", "Anna began")
        self.assertEqual(told, [True])

    def test_meter(self) -> None:
        """Silence is an empty meter, full scale a full one, and nothing is ever longer or shorter."""
        for level, cells in (
            (-math.inf, 0),
            (-90.0, 0),
            (-60.0, 0),
            (-30.0, METER_CELLS // 2),
            (0.0, METER_CELLS),
        ):
            bar = meter(level).plain
            self.assertEqual((bar.count("█"), len(bar)), (cells, METER_CELLS), level)

    def test_words(self) -> None:
        """Numbers agree with their nouns; nested values become JSON."""
        self.assertEqual(
            [plural(n, "packet") for n in (0, 1, 2_000)], ["0 packets", "1 packet", "2,000 packets"]
        )
        self.assertEqual(jsonable({"a": (math.inf, 1.23456789)}), {"a": [None, 1.234568]})
