"""What members publish, and how readers judge it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.election.decisions import State
from ice.election.rules import Quorum
from ice.election.status import COLOURS, STALE_S, UNUSED, Shown, Transport, guarantee, judge, message, report
from ice.election.tally import Tally
from tests.unit.election.groups import GROUP_ID, MS, group, with_members
from tests.unit.election.test_tally import Told

WELL = Transport("healthy")
ILL = Transport("unhealthy", "no Rallypoint answers")


def told_by(told: Told, *ways: Transport) -> dict[str, Any]:
    found = report(told.tally, told.now, told.unix_ms, *ways)
    assert json.loads(json.dumps(found)) == found
    return found


class Reports(SynchronousTestCase):
    def test_documented(self) -> None:
        """The documented fields, in their order, of a leader."""
        told = Told(of=group(3, exclusive=False)).through(2.5, {"id": "b"}, {"id": "c", "votes": -1})
        found = told_by(told, WELL)
        self.assertEqual(list(found), ["version", "state", "active", "updatedMs", "details"])
        self.assertEqual(
            (found["version"], found["state"], found["active"], found["updatedMs"]),
            (1, "healthy", True, MS + 25_000),
        )
        details = found["details"]
        self.assertEqual(
            list(details)[:8],
            ["message", "httpStatus", "igmpStatus", "rpStatus", "won", "elected", "quorum", "votes"],
        )
        self.assertTrue(details["message"].startswith("ACTIVE: "))
        self.assertEqual(details["httpStatus"], {"state": "notRunning"})
        self.assertEqual(details["igmpStatus"], {"state": "notRunning"})
        self.assertEqual(details["rpStatus"], {"state": "healthy"})
        for key in ("won", "elected", "quorum"):
            self.assertEqual(details[key], {GROUP_ID: True})
        self.assertEqual(details["votes"], {GROUP_ID: {"a": 3, "b": 2, "c": -1}})
        self.assertEqual((details["state"], details["leader"], details["term"]), ("active", "a", 1))

    def test_won_without_leading(self) -> None:
        """Won, and not elected: two wins are needed."""
        told = Told(of=group(1)).to(1)
        details = told_by(told, WELL)["details"]
        self.assertEqual((details["won"], details["elected"]), ({GROUP_ID: True}, {GROUP_ID: False}))

    def test_health(self) -> None:
        """One healthy transport is enough; without any, or with a wrong clock, the election system is unhealthy."""
        told = Told()
        for ways, state in (
            ((WELL,), "healthy"),
            ((ILL, WELL), "healthy"),
            ((ILL,), "unhealthy"),
            ((UNUSED, UNUSED), "unhealthy"),
        ):
            self.assertEqual(told_by(told, *ways)["state"], state)
        self.assertEqual(
            told_by(told, ILL)["details"]["rpStatus"],
            {"state": "unhealthy", "reason": "no Rallypoint answers"},
        )
        for id in "bc":
            told.hear(id, age_s=100.0)
        found = told_by(told.to(1), WELL)
        self.assertEqual((found["state"], found["details"]["state"]), ("unhealthy", "standbyClockSkew"))
        self.assertEqual(found["details"]["clocks"], {"b": -100.0, "c": -100.0})

    def test_messages(self) -> None:
        """Every state has its message, which begins as documented."""
        begins = {
            State.ACTIVE: (Told(of=group(1)).to(3), "ACTIVE: "),
            State.OUT_OF_SERVICE: (Told(of=with_members(group(), "abc", "a")).to(1), "OUT OF SERVICE: "),
            State.NO_QUORUM: (Told().to(3), "STANDBY: Quorum not achieved; "),
            State.GETTING_READY: (Told(of=group(1)).to(1), "GETTING READY: Waiting to win 2 consecutive elections (won 1 so far)."),
            State.NOT_WINNER: (Told("c").through(3, {"id": "a"}), "STANDBY: Ballots received from 2 candidates. Leading server: a"),
        }  # fmt: skip
        for state, (told, begin) in begins.items():
            self.assertEqual(told.tally.state, state)
            self.assertTrue(message(told.tally).startswith(begin), message(told.tally))
        self.assertTrue(message(begins[State.NO_QUORUM][0].tally).endswith("leader will not be elected"))

    def test_guarantees(self) -> None:
        """Each rule says what it promises."""
        words = {
            guarantee(Tally(each, "a", 0.0, MS))
            for each in (
                group(3, Quorum.NONE), group(2, Quorum.N_MINUS_1), group(3, Quorum.N_MINUS_1), group(), group(exclusive=False),
            )
        }  # fmt: skip
        self.assertEqual(len(words), 5)


class Readers(SynchronousTestCase):
    FINE: dict[str, Any] = {"version": 1, "state": "healthy", "active": False, "updatedMs": MS}  # noqa: RUF012

    def shown(self, **changes: Any) -> Shown:
        return judge({**self.FINE, **changes}, MS)

    def test_judge(self) -> None:
        """Active and Standby; Stale after two minutes, either way; Error for what is none or says so; Offline before all."""
        self.assertEqual((self.shown(), self.shown(active=True)), (Shown.STANDBY, Shown.ACTIVE))
        old = int(STALE_S * 1_000)
        self.assertEqual(self.shown(updatedMs=MS - old), Shown.STANDBY)
        self.assertEqual(self.shown(updatedMs=MS - old - 1, state="unhealthy"), Shown.STALE)
        self.assertEqual(self.shown(updatedMs=MS + old + 1), Shown.STALE)
        self.assertEqual(self.shown(state="unhealthy", active=True), Shown.ERROR)
        self.assertEqual(judge(self.FINE, MS, connected=False), Shown.OFFLINE)
        for wrong in (
            {"state": "fine"},
            {"state": None},
            {"active": 1},
            {"updatedMs": "now"},
            {"updatedMs": True},
        ):
            self.assertEqual(self.shown(**wrong), Shown.ERROR)
        self.assertEqual(set(COLOURS), set(Shown))

    def test_original(self) -> None:
        """Where the state's name stands on top it is understood."""
        self.assertEqual(self.shown(state="standbyNotWinner"), Shown.STANDBY)
        self.assertEqual(self.shown(state="active", active=True), Shown.ACTIVE)
        self.assertEqual(self.shown(state="standbyClockSkew"), Shown.ERROR)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(st.sampled_from(["state", "active", "updatedMs"]), inner),
        )
    )
    def test_anything(self, value: object) -> None:
        """Whatever is read, it is judged."""
        self.assertIsInstance(judge(value, MS), Shown)
