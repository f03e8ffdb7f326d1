"""``ice calls`` and ``ice status --calls``: what is asked, what is shown, and nothing of a stranger's that a terminal would obey."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.calls import calls
from ice.cli.calls_output import MAX_ROWS, show_calls, show_gateway, show_records
from ice.cli.control import Desk
from ice.cli.status import status
from ice.errors import LocalError, RemoteError
from ice.telephony.call import Direction, Side
from ice.telephony.causes import Cause
from ice.telephony.records import CallRecord, RecordStore

CALL = {
    "id": "9dd5765b-c562-46c3-b07b-8b8c3abbfc4b", "direction": "outgoing", "state": "talking", "user": "ada", "number": "+4930901820",
    "trunk": "pbx", "age_s": 70.0, "talked_s": 65.0, "sound": {"heard_packets": 99, "lost_packets": 1, "jitter_ms": 12.5},
}  # fmt: skip
CHANNEL = {
    "id": "78aa79dd", "direction": "incoming", "state": "talking", "channel": "north", "number": "", "trunk": "pbx", "age_s": 3.0,
    "talked_s": None, "where": "channel", "talking": True,
}  # fmt: skip


def shown(write: Any, *what: Any) -> str:
    """What a person sees."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    write(*what, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Asked(SynchronousTestCase):
    def ask(self, answer: Any, *words: str) -> tuple[Result, list[dict[str, Any]]]:
        """Run ``ice calls`` against an answer, or an error."""
        asked: list[dict[str, Any]] = []

        def answered(desk: Desk, request: dict[str, Any], attached: bytes = b"") -> dict[str, Any]:
            asked.append(request)
            if isinstance(answer, Exception):
                raise answer
            result: dict[str, Any] = answer
            return result

        with mock.patch.object(Desk, "ask", answered):
            return CliRunner().invoke(calls, words, standalone_mode=False), asked

    def test_list(self) -> None:
        """The calls there are, as a table or as the gateway tells them."""
        answer = {"ok": True, "calls": [CALL, CHANNEL]}
        result, asked = self.ask(answer, "list")
        self.assertEqual(asked, [{"do": "list"}])
        for word in ("9dd5765b", "ada", "north", "talking", "1.0 %", "withheld"):
            self.assertIn(word, result.output)
        result, _ = self.ask(answer, "list", "--json")
        self.assertEqual(json.loads(result.output), answer)

    def test_do(self) -> None:
        """A call is ended, or placed from a channel; what the gateway refuses is its own sentence."""
        result, asked = self.ask({"ok": True, "id": CALL["id"]}, "hang-up", "9dd5")
        self.assertEqual(asked, [{"do": "hang-up", "id": "9dd5"}])
        self.assertIn(f"call {CALL['id']} is ended", result.output)
        result, asked = self.ask({"ok": True, "id": "x"}, "dial", "north", "030 90")
        self.assertEqual(asked, [{"do": "dial-out", "channel": "north", "number": "030 90"}])
        self.assertIn("calling 030 90 for north", result.output)
        result, _ = self.ask(RemoteError("there is no call 9dd5"), "hang-up", "9dd5")
        self.assertIsInstance(result.exception, RemoteError)


class Records(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "calls.db"
        record = CallRecord(
            UUID(int=1), Direction.OUTGOING, "+4930901820", 1_900_000_000.0, user="ada", trunk="pbx"
        )
        with RecordStore(self.file, 1_900_000_000.0) as store:
            store.write(record, 1_900_000_000.0)
            store.write(
                CallRecord(
                    UUID(int=2), Direction.INCOMING, "=cmd()", 1_900_000_100.0, user="bob", answered=1_900_000_105.0, ended=1_900_000_165.0,
                    cause=Cause.HUNG_UP, by=Side.LINE, rate=8_000, loss_percent=1.5, jitter_ms=3.0,
                ),
                1_900_000_200.0,
            )  # fmt: skip

    def run_(self, *words: str) -> Result:
        return CliRunner().invoke(calls, ["records", *words], standalone_mode=False)

    def test_shown(self) -> None:
        """The newest first; a call that is not over says so."""
        output = self.run_("--file", str(self.file)).output
        self.assertLess(output.index("bob"), output.index("ada"))
        for word in ("hung-up", "not yet", "1.5 %"):
            self.assertIn(word, output)

    def test_chosen(self) -> None:
        """By person, number, cause and time."""
        for words, found in (
            (("--user", "ada"), "ada"),
            (("--cause", "hung-up"), "bob"),
            (("--number", "+4930901820"), "ada"),
            (("--since", "2030-03-17T17:48:00+00:00"), "bob"),
            (("--until", "2030-03-17T17:47:00+00:00"), "ada"),
            (("--limit", "1"), "bob"),
        ):
            lines = self.run_("--file", str(self.file), "--json", *words).output.splitlines()
            self.assertEqual([json.loads(line)["user"] for line in lines], [found], words)
        self.assertIn("no such call", self.run_("--file", str(self.file), "--user", "eve").output)

    def test_exported(self) -> None:
        """CSV with a line of names, in which no stranger's number is a formula."""
        rows = list(csv.DictReader(io.StringIO(self.run_("--file", str(self.file), "--csv").output)))
        self.assertEqual([row["number"] for row in rows], ["'=cmd()", "+4930901820"])

    def test_where(self) -> None:
        """As configured, else where a gateway keeps them; where there are none, it says where it looked."""
        config = self.folder / "ice.toml"
        config.write_text('[gateway.records]\nfile = "calls.db"\n')
        self.assertIn("bob", self.run_("--config", str(config)).output)
        config.write_text("")
        with mock.patch.dict("os.environ", {"XDG_STATE_HOME": str(self.folder.absolute())}):
            result = self.run_("--config", str(config))
            self.assertIsInstance(result.exception, LocalError)
            self.assertIn("name the file with --file", str(result.exception))
            (self.folder / "ice").mkdir()
            self.file.rename(self.folder / "ice" / "calls.db")
            self.assertIn("bob", self.run_("--config", str(config)).output)

    def test_mistakes(self) -> None:
        """A time, a cause and a form that cannot be are told."""
        for words, told in (
            (("--since", "soon"), "expected a time"),
            (("--cause", "bored"), "--cause is one of hung-up"),
            (("--csv", "--json"), "not both"),
        ):
            result = self.run_("--file", str(self.file), *words)
            self.assertIn(told, str(result.exception))


class Shown(SynchronousTestCase):
    def test_gateway(self) -> None:
        """Whether it works, its trunks, what calls came to, and the calls."""
        answer = {
            "daemon": "ice-gateway", "state": "active", "ready": False, "why_not_ready": "no call manager: cut", "uptime_s": 70, "people": 3,
            "trunks": [{"name": "pbx", "up": False, "why": "cut"}], "ended": {"hung-up": 2}, "refused": {}, "calls": [CALL],
            "sound": {"heard_packets": 10, "lost_packets": 1, "concealed_s": 0.5},
        }  # fmt: skip
        said = shown(show_gateway, answer)
        for word in (
            "ice-gateway is active, not ready: no call manager: cut",
            "pbx is down: cut",
            "2 hung-up",
            "1 of 10 packets lost",
            "calls: 1",
        ):
            self.assertIn(word, said)

    def test_other_ages(self) -> None:
        """What a daemon of another age leaves out is left out."""
        self.assertIn("calls: none", shown(show_gateway, {}))
        self.assertIn("calls: none", shown(show_calls, []))
        self.assertIn("no such call", shown(show_records, []))
        self.assertIn("… and 3 more", shown(show_calls, [CALL] * (MAX_ROWS + 3)))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda each: st.lists(each) | st.dictionaries(st.sampled_from([*CALL, *CHANNEL]), each),
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_anything(self, value: Any) -> None:
        """Whatever is told, something harmless is shown."""
        for answer in ({"calls": [value, CALL], "trunks": value, "ended": value, "sound": value}, value):
            if isinstance(answer, dict):
                said = shown(show_gateway, answer)
                self.assertNotIn("\x1b", said)

    def test_command(self) -> None:
        """One page is asked at a time; a server elsewhere by its control."""
        result = CliRunner().invoke(status, ["--calls", "--patches"])
        self.assertEqual(result.exit_code, 2)
        with mock.patch.object(
            Desk, "ask", lambda desk, request: {"status": {"daemon": desk.controlled.daemon, "ready": True}}
        ):
            result = CliRunner().invoke(
                status, ["--calls", "--server", "https://gw:1"], standalone_mode=False
            )
        self.assertIn("ice-gateway is", result.output)
