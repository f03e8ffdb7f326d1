"""ARI as values: requests as Asterisk documents them, events to facts, and nothing that breaks the reader."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import RemoteError
from ice.telephony import ari
from ice.telephony.ari import Ask, EventReader
from ice.telephony.causes import Cause

CHANNEL = {
    "id": "1700000000.7", "name": "PJSIP/provider-00000001", "state": "Ring", "protocol_id": "a@b",
    "caller": {"name": "Ada", "number": "030901820"}, "connected": {"name": "", "number": ""}, "accountcode": "",
    "dialplan": {"context": "from-provider", "exten": "4711", "priority": 2, "app_name": "Stasis", "app_data": "ice,4711"},
    "creationtime": "2026-11-22T05:00:00.000+0000", "language": "en",
}  # fmt: skip


def event(kind: str, **more: Any) -> str:
    return json.dumps(
        {"type": kind, "application": "ice", "timestamp": "2026-11-22T05:00:00.000+0000", **more}
    )


class Requests(SynchronousTestCase):
    def test_documented(self) -> None:
        """Methods, paths and parameters as in Asterisk's API documentation."""
        self.assertEqual(
            ari.external_media("ice-1-media-1", "ice", "127.0.0.1:9019", "u", "slin16"),
            Ask(
                "POST",
                "/channels/externalMedia",
                (
                    ("channelId", "ice-1-media-1"), ("app", "ice"), ("external_host", "127.0.0.1:9019"), ("encapsulation", "audiosocket"),
                    ("transport", "tcp"), ("connection_type", "client"), ("format", "slin16"), ("direction", "both"), ("data", "u"),
                ),
            ),
        )  # fmt: skip
        self.assertEqual(ari.hang_up("c", 17), Ask("DELETE", "/channels/c", (("reason_code", "17"),)))
        self.assertEqual(ari.music("c", False), Ask("DELETE", "/channels/c/moh"))
        self.assertEqual(ari.join("b", "c"), Ask("POST", "/bridges/b/addChannel", (("channel", "c"),)))
        self.assertEqual(ari.create("PJSIP/1@p", "ice", "c", {"X": "1"}).body, {"variables": {"X": "1"}})
        self.assertEqual(ari.dial("c", 70), Ask("POST", "/channels/c/dial", (("timeout", "70"),)))

    def test_no_way_out(self) -> None:
        """A name with a slash stays one piece of the path; logs show method and path, not what was said."""
        ask = ari.send_keys("../bridges/x?y", "1234")
        self.assertEqual(ask.path, "/channels/..%2Fbridges%2Fx%3Fy/dtmf")
        self.assertNotIn("1234", str(ask))


class Events(SynchronousTestCase):
    def test_facts(self) -> None:
        """Each kind that means something to a call."""
        channel = msgspec.convert(CHANNEL, ari.Channel)
        id = CHANNEL["id"]
        facts = {
            event("StasisStart", channel=CHANNEL, args=["4711"]): ari.Started(channel, ("4711",)),
            event("StasisEnd", channel=CHANNEL): ari.Left(id),
            event("ChannelStateChange", channel=CHANNEL): ari.Changed(id, "Ring"),
            event("ChannelDestroyed", channel=CHANNEL, cause=17, cause_txt="User busy"): ari.Gone(id, 17),
            event("ChannelDtmfReceived", channel=CHANNEL, digit="a", duration_ms=100): ari.Key(id, "A"),
            event("ChannelHold", channel=CHANNEL, musicclass="x"): ari.OnHold(id, True),
            event("ChannelUnhold", channel=CHANNEL): ari.OnHold(id, False),
            event("Dial", peer=CHANNEL, dialstatus="RINGING", dialstring="", forward=""): ari.Dialled(
                id, "RINGING"
            ),
            event("BridgeDestroyed", bridge={"id": "b", "channels": [], "creator": ""}): ari.BridgeGone("b"),
            event("ApplicationReplaced"): ari.Replaced(),
        }
        reader = EventReader()
        for text, fact in facts.items():
            self.assertEqual(reader.read(text), fact)
        self.assertEqual((reader.facts, dict(reader.ignored)), (len(facts), {}))

    def test_nonsense(self) -> None:
        """Unknown kinds, events without what they are about, no events, too long ones: counted by reason."""
        reader = EventReader()
        for text in (
            event("ChannelVarset", channel=CHANNEL, variable="X", value=""),
            event("NewThing", channel=3), event("StasisStart", args=[]), event("Dial", dialstatus="BUSY"),
            "", "{", "[]", '"x"', "{}", '{"type": 3}', event("StasisStart", channel=3), "[" * 200_000,
            event("StasisStart", channel=CHANNEL, args=["x" * ari.MAX_EVENT]),
        ):  # fmt: skip
            self.assertIsNone(reader.read(text))
        self.assertEqual(dict(reader.ignored), {"unknown": 1, "bare": 2, "garbage": 8, "long": 1})
        self.assertEqual(reader.idle, 1)

    @given(st.one_of(st.text(max_size=400), st.binary(max_size=400)))
    @settings(max_examples=100, deadline=None)
    def test_anything(self, text: str | bytes) -> None:
        """Whatever comes, nothing is raised, and everything is counted."""
        reader = EventReader()
        fact = reader.read(text)
        self.assertEqual(sum(reader.ignored.values()) + reader.idle, fact is None)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "channel", "peer", "bridge", "args", "cause", "caller", "state"]), inner, max_size=4), max_leaves=12), st.sampled_from(["StasisStart", "Dial", "ChannelDestroyed", "BridgeDestroyed", "ChannelHold"]))  # fmt: skip
    @settings(max_examples=100, deadline=None)
    def test_any_shape(self, value: object, kind: str) -> None:
        """A known kind with anything in it."""
        fields = value if isinstance(value, dict) else {"channel": value}
        reader = EventReader()
        reader.read(json.dumps({**fields, "type": kind}))
        self.assertEqual(reader.facts + sum(reader.ignored.values()), 1)

    def test_truncated(self) -> None:
        """An event cut off at any byte is garbage."""
        text = event("StasisStart", channel=CHANNEL, args=["4711"])
        reader = EventReader()
        for length in range(len(text)):
            self.assertIsNone(reader.read(text[:length]))
        self.assertEqual(dict(reader.ignored), {"garbage": len(text)})


class Answers(SynchronousTestCase):
    def test_lists(self) -> None:
        """Channels and bridges as ARI shows them; anything else is the far side's mistake, in words."""
        (channel,) = ari.read_channels(json.dumps([CHANNEL]).encode())
        self.assertTrue(channel.belongs("ice"))
        self.assertFalse(channel.belongs("ic"))
        self.assertEqual(
            ari.read_info(b'{"system": {"version": "22.10.0"}, "build": {}}').system.version, "22.10.0"
        )
        for data in (b"", b"{}", b"[3]", b"<html>", b"\xff", b"[" * 100_000):
            with self.assertRaises(RemoteError):
                ari.read_channels(data)

    def test_refusals(self) -> None:
        """What an HTTP status means for a call; one that says no more than that this trunk cannot, has a cause by which the next is asked."""
        found = {
            status: ari.refusal(status, number=True) for status in (None, 400, 401, 403, 404, 409, 500, 503)
        }
        self.assertEqual(ari.refusal(400), Cause.FAILED)
        self.assertEqual(
            found,
            {
                None: Cause.NO_TRUNK, 400: Cause.INVALID_NUMBER, 401: Cause.NO_TRUNK, 403: Cause.NO_TRUNK, 404: Cause.UNREACHABLE,
                409: Cause.FAILED, 500: Cause.CONGESTION, 503: Cause.CONGESTION,
            },
        )  # fmt: skip
