"""What a gateway says of itself, and what can be asked of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.observe.metrics import Metrics
from ice.telephony.call import Direction, Timing
from ice.telephony.causes import Cause
from ice.telephony.control import control_of
from ice.telephony.lobby_orders import LobbyCall
from ice.telephony.service import Gateway
from ice.telephony.status import add_metrics, calls_of, masked, status_of
from ice.telephony.trunk import Happened, Health, Offered, Report, Sound
from tests.unit.patch.test_control import line, told
from tests.unit.telephony.site import Scripted, Site

CALLER = UUID(int=500)


class Channels:
    """A lobby with one caller in it; whatever is of his call is its own."""

    def __init__(self) -> None:
        self.heard: list[Report] = []
        self.placed: list[tuple[str, str, str]] = []
        self.active = False
        self.callers = [
            LobbyCall(
                CALLER, Direction.INCOMING, "+493055501", "500", "north", "", "Eve", "pbx", "", "talking", "channel", True, 0.0, 0.1
            )
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.callers)

    def takes(self, trunk: str, report: Report) -> bool:
        return getattr(report, "call", None) == CALLER

    def told(self, trunk: str, report: Report) -> None:
        self.heard.append(report)

    def dial_out(self, channel: str, number: str, who: str, *, urgent: bool = False) -> UUID:
        self.placed.append((channel, number, who))
        return UUID(int=len(self.placed))

    def end(self, call: UUID, cause: Cause = Cause.HUNG_UP) -> bool:
        known = any(each.id == call for each in self.callers)
        self.callers = [each for each in self.callers if each.id != call]
        return known

    def calls(self) -> list[LobbyCall]:
        return self.callers

    def status(self) -> dict[str, Any]:
        return {
            "calls": len(self.callers),
            "codes": {"right": 1, "wrong": 2},
            "ended": {"busy": 3},
            "refused": {"limit": 4},
        }

    def configure(self, timing: Timing) -> None:
        self.timing = timing

    def set_active(self, active: bool) -> None:
        self.active = active
        if not active:
            self.callers = []

    def stop(self, cause: Cause = Cause.SHUTDOWN) -> Deferred[None]:
        self.set_active(False)
        return succeed(None)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site("ada")
        self.lobby = Channels()

        def prepare(gateway: Gateway) -> None:
            gateway.lobby = self.lobby

        self.gateway = self.site.gateway(self.site.scripted(), prepare=prepare, records=Path(self.mktemp()))
        trunk = self.gateway.trunks["pbx"]
        assert isinstance(trunk, Scripted)
        self.trunk = trunk

    def calling(self) -> str:
        id = self.site.dial("ada", "030 901820")
        self.site.wait(0.3)
        return str(id)


class Told(Case):
    def test_status(self) -> None:
        """Everything at a glance, as plain values; of numbers the last three digits."""
        id = self.calling()
        self.trunk.counters["odd"] = 2
        status = json.loads(json.dumps(status_of(self.gateway, "me")))
        self.assertEqual(
            (status["daemon"], status["state"], status["ready"], status["people"]),
            ("ice-gateway", "active", True, 1),
        )
        wanted = {"name": "pbx", "up": True, "why": "connected", "rate": 8000, "counters": {"odd": 2}}
        self.assertEqual(status["trunks"], [wanted])
        person, caller = status["calls"]
        self.assertEqual(
            (person["id"], person["number"], person["state"], person["user"]),
            (id[:8], "…820", "ringing", "ada"),
        )
        self.assertEqual(
            (caller["number"], caller["dialled"], caller["channel"], caller["where"]),
            ("…501", "500", "north", "channel"),
        )
        self.assertEqual((status["ended"], status["refused"]), ({"busy": 3}, {"limit": 4}))
        self.assertEqual(status["records"], {"kept": 1, "lost": 0})
        self.assertNotIn("901820", json.dumps(status))
        self.assertNotIn(id, json.dumps(status))  # it names the stream of the call
        whole = calls_of(self.gateway)[0]
        self.assertEqual((whole["id"], whole["number"]), (id, "+4930901820"))

    def test_masked(self) -> None:
        """A site's short numbers say nothing about anybody outside."""
        self.assertEqual(
            [masked(each) for each in ("", "100", "12345", "+49301")], ["", "100", "12345", "…301"]
        )

    def test_metrics(self) -> None:
        """Every figure can be read, with and without calls, and is explained in the handbook."""
        metrics = Metrics(process=False)
        add_metrics(metrics, self.gateway)
        self.calling()
        text = metrics.render().decode()
        self.assertEqual(metrics.errors, 0)
        for wanted in (
            'ice_gateway_calls{state="ringing"} 1.0',
            'ice_gateway_trunk_up{trunk="pbx"} 1.0',
            'ice_gateway_ended_total{cause="busy"} 3.0',
            'ice_gateway_codes_total{outcome="wrong"} 2.0',
            "ice_gateway_channel_calls 1.0",
        ):
            self.assertIn(wanted, text)
        page = (Path(__file__).parents[3] / "docs" / "operation.md").read_text("utf-8")
        names = [name for name in metrics._meters if name.startswith("ice_gateway_")]
        self.assertEqual([name for name in names if f"`{name}" not in page], [])

    def test_late(self) -> None:
        """How late the clock of sound was is told once."""
        self.calling()
        self.site.clock.advance(0.5)
        self.assertGreater(self.gateway.sounds.take_latest(), 0.4)
        self.assertEqual(self.gateway.sounds.take_latest(), 0.0)


class Lobbies(Case):
    def test_whose(self) -> None:
        """What a trunk reports of a channel's call, sound included, is the lobby's; the rest is not."""
        own = [Offered(CALLER, "300", "500"), Sound(CALLER, 8_000, bytes(320))]
        for report in (*own, Sound(UUID(int=1), 8_000, bytes(320)), Health(False, "cut")):
            self.trunk.tell(report)
        self.site.wait(0.1)
        self.assertEqual(self.lobby.heard, own)
        self.assertEqual(self.gateway.stray_sound, 1)
        self.assertFalse(self.gateway.board.order.health.up)

    def test_active_together(self) -> None:
        """The lobby works when its gateway does, and ends with it."""
        self.assertTrue(self.lobby.active)
        done = self.gateway.standby()
        self.site.wait(0.1)
        self.successResultOf(done)
        self.assertFalse(self.lobby.active)

    def test_limits_are_common(self) -> None:
        """Channels' calls count among the calls that may be."""
        self.gateway.configure(self.gateway.rules.__class__(self.gateway.rules.plan, calls=1))
        self.assertFalse(self.gateway.free())
        self.site.dial("ada", "100")
        self.site.wait(0.2)
        self.assertEqual(self.site["ada"].causes, [Cause.LIMIT])

    def test_dial_out(self) -> None:
        """A number is called in its normal form, as far as the plan, the person's share and the election allow it."""
        self.gateway.dial_out("north", "030 901820", "desk")
        self.assertEqual(self.lobby.placed, [("north", "+4930901820", "desk")])
        for number, words in {"666": "forbidden", "x": "invalid-number"}.items():
            self.assertIn(
                words, str(self.assertRaises(LocalError, self.gateway.dial_out, "north", number, "desk"))
            )
        self.lobby.callers = [
            LobbyCall(UUID(int=n), Direction.OUTGOING, "1", "", "north", "", "", "pbx", "desk", "talking", "channel", False, 0, 0)
            for n in range(4)
        ]  # fmt: skip
        self.assertIn(
            "as many as one may",
            str(self.assertRaises(LocalError, self.gateway.dial_out, "north", "100", "desk")),
        )
        self.gateway.dial_out("north", "112", "desk")
        self.gateway.dial_out("north", "100", "other")
        self.gateway.standby()
        self.assertIn(
            "stands by", str(self.assertRaises(LocalError, self.gateway.dial_out, "north", "100", "desk"))
        )
        self.gateway.lobby = None
        self.assertIn(
            "gateway.dial_in",
            str(self.assertRaises(LocalError, self.gateway.dial_out, "north", "100", "desk")),
        )


class Asked(Case):
    def test_all_that_can_be_done(self) -> None:
        """Calls are listed with whole numbers, ended by the beginning of their id, and placed from a channel."""
        id = self.calling()
        control = control_of(self.gateway, lambda: {"daemon": "ice-gateway"})
        (listed,) = told(control, line(do="list"))
        self.assertEqual([each["number"] for each in listed["calls"]], ["+4930901820", "+493055501"])
        answers = told(
            control,
            line(do="status"),
            line(do="hang-up", id=id[:6].upper()),
            line(do="hang-up", id=str(CALLER)),
            line(do="dial-out", channel="north", number="100"),
            by="desk",
        )
        self.assertEqual([each["ok"] for each in answers], [True] * 4)
        self.assertEqual((answers[1]["id"], answers[2]["id"]), (id, str(CALLER)))
        self.assertEqual(self.lobby.placed, [("north", "100", "desk")])
        self.site.wait(0.5)
        self.assertEqual(self.site["ada"].causes, [Cause.REJECTED])  # it had not been answered

    def test_refusals(self) -> None:
        """What cannot be done is told in words; nothing happens."""
        control = control_of(self.gateway, dict)
        self.lobby.callers *= 2
        for request, words in (
            (line(do="hang-up", id="12"), "first 4 characters"),
            (line(do="hang-up", id="abcd"), "no call abcd"),
            (line(do="hang-up", id="00000000"), "2 calls"),
            (line(do="hang-up"), "id is a text"),
            (line(do="dial-out", channel="", number="1"), "channel is"),
            (line(do="dial-out", channel="north", number="1" * 500), "number a telephone number"),
            (line(do="dial-out", channel="north", number="666"), "forbidden"),
        ):
            (answer,) = told(control, request)
            self.assertFalse(answer["ok"])
            self.assertIn(words, answer["error"])
        self.assertEqual(self.lobby.placed, [])

    def test_happenings_of_a_channels_call(self) -> None:
        """An end of a channel's call that its lobby knows does not reach the switchboard."""
        from ice.telephony.call import HangsUp, Side

        self.trunk.tell(Happened(CALLER, HangsUp(Side.LINE)))
        self.site.wait(0.1)
        self.assertEqual(len(self.lobby.heard), 1)
        self.assertEqual(self.gateway.board.refused["no-call"], 0)
