"""docs/telephony.md and the code say the same: states, causes, kinds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.telephony import call
from ice.telephony.call import Call, Direction, Event, Side
from ice.telephony.causes import Cause
from ice.telephony.messages import Kind

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "telephony.md").read_text("utf-8")
USER, LINE = Side.USER, Side.LINE

#: How each state is reached in an outgoing call: the user calls, the line is called.
WAYS: dict[str, list[Event]] = {
    "setup": [],
    "ringing": [call.Rings(LINE)],
    "early": [call.Sounds(LINE)],
    "talking": [call.Answers(LINE)],
    "held": [call.Answers(LINE), call.Holds(USER)],
    "transferring": [call.Answers(LINE), call.Transfers(USER, "1")],
}
EVENTS: dict[str, Callable[[Side], Event]] = {
    "rings": call.Rings,
    "sounds": call.Sounds,
    "answers": call.Answers,
    "refuses": lambda side: call.Refuses(side, Cause.BUSY),
    "hangs up": call.HangsUp,
    "lost": call.Lost,
    "presses": lambda side: call.Presses(side, "1"),
    "holds": call.Holds,
    "resumes": call.Resumes,
    "transfers": lambda side: call.Transfers(side, "1"),
    "transfer done": call.TransferDone,
    "transfer fails": call.TransferFails,
}
SIDES = {
    "caller": [USER],
    "called": [LINE],
    "user": [USER],
    "line": [LINE],
    "either": [USER, LINE],
    "another": [LINE],  # the user holds
    "holder": [USER],
}


def rows(after: str) -> list[list[str]]:
    """The cells of the table behind a comment, without its head."""
    text = PAGE[PAGE.index(f"<!-- {after}") :]
    lines = re.findall(r"^\|(.*)\|$", text[: text.index("\n\n", text.index("\n|"))], re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.split("|")] for line in lines[2:]]


def at(state: str) -> Call:
    made, _ = Call.place(UUID(int=1), Direction.OUTGOING, 0.0)
    for event in WAYS[state]:
        made.feed(event, 0.0)
    assert made.name == state, (made.name, state)
    return made


class Page(SynchronousTestCase):
    def test_transitions(self) -> None:
        """Every row is what the machine does, and the machine does nothing that is in no row."""
        told = {}
        for state, what, after, _ in rows("transitions"):
            who, _, event = what.partition(" ")
            for side in SIDES[who]:
                told[state, event, side] = after
        done = {}
        for state in WAYS:
            for event, make in EVENTS.items():
                for side in Side:
                    made = at(state)
                    made.feed(make(side), 0.0)
                    if not made.ignored:
                        done[state, event, side] = "ending" if made.over else made.name
        self.assertEqual(told, done)

    def test_reasons(self) -> None:
        """Each reason to ignore an event is named."""
        line = PAGE[PAGE.index("Why an event is ignored") :].split("\n", 1)[0]
        self.assertEqual(set(re.findall(r"`([a-z-]+)`", line)), {str(why) for why in call.Ignored})

    def test_causes(self) -> None:
        """Each cause with its number and its sentence."""
        self.assertEqual(
            [tuple(row) for row in rows("causes")], [(str(c), str(c.q850), c.text) for c in Cause]
        )

    def test_kinds(self) -> None:
        """Each kind of message, in order."""
        self.assertEqual([row[0] for row in rows("kinds")], [str(kind) for kind in Kind])
