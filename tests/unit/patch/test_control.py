"""The control of a patch server, line by line; and its socket."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from ice.observe.control import Asker, Control
from ice.observe.control_socket import SocketProtocol
from ice.patch.channel import Channel
from ice.patch.control import MAX_SOUND, control_of
from ice.patch.plan import Patch
from ice.patch.service import PatchServer
from ice.patch.store import Store
from tests.unit.patch.lab import L16
from tests.unit.patch.test_service import Stage


def told(control: Control, *lines: bytes, by: str = "") -> list[dict[str, Any]]:
    """What is answered to these bytes, in one go."""
    protocol, transport = SocketProtocol(control, lambda _: None), StringTransport()
    protocol.makeConnection(transport)
    if by:
        protocol._asker = Asker(by)
    protocol.dataReceived(b"".join(lines))
    protocol.setTimeout(None)  # type: ignore[no-untyped-call]
    return [json.loads(line) for line in transport.value().splitlines()]


def line(**request: object) -> bytes:
    return json.dumps(request).encode() + b"\n"


class Asked(Stage):
    def control(self, *patches: Patch) -> tuple[PatchServer, Control]:
        server = self.begun(*patches)
        return server, control_of(server, lambda: {"daemon": "ice-patch"})

    def test_all_that_can_be_done(self) -> None:
        """Made, listed, changed, switched off and on, deleted: each in a line."""
        server, control = self.control()
        ok = {"ok": True, "detail": []}
        patch = {
            "id": "ab",
            "name": "Nord-Süd",
            "streams": ["a", {"stream": "b", "gain_db": 3}],
            "mode": "mixed",
        }
        self.assertEqual(told(control, line(do="create", patch=patch), by="ada"), [ok])
        [listed] = told(control, line(do="list"))
        [row] = listed["patches"]
        self.assertEqual(
            (row["id"], row["name"], row["state"], row["revision"], row["by"]),
            ("ab", "Nord-Süd", 1, 1, "ada"),
        )
        answers = told(
            control,
            line(do="change", id="ab", patch={"mode": "relay"}, if_revision=1),
            line(do="deactivate", id="ab"),
            line(do="activate", id="ab"),
            line(do="change", id="ab", patch={"streams": ["a", "b", "c"]}),
            line(do="status"),
            line(do="delete", id="ab"),
        )
        self.assertEqual(
            [answer.get("detail") for answer in answers],
            [["mode: mixed → relay"], ["enabled: true → false"], ["enabled: false → true"],
             ["streams: + c", "streams: b: gain 3 → 0 dB"], None, []],
        )  # fmt: skip
        self.assertEqual(answers[4]["status"], {"daemon": "ice-patch"})
        self.assertEqual(server.listing.patches, ())

    def test_refusals(self) -> None:
        """The bridge service's codes by name, and a sentence for what is no request at all."""
        _, control = self.control(Patch.of("ab", "ab"))
        long = [f"s{number}" for number in range(129)]
        for request, reason, code in (
            (line(do="create", patch={"id": "ab", "streams": ["c", "d"]}), "exists", -3),
            (line(do="create", patch={"id": "", "streams": ["c", "d"]}), "invalid", -4),
            (line(do="create", patch={"id": "x", "streams": ["c", "__d"]}), "invalid-stream", -5),
            (line(do="create", patch={"id": "x", "streams": ["c"]}), "too-few", -6),
            (line(do="create", patch={"id": "x", "streams": long}), "too-many", -7),
            (line(do="create", patch={"id": "x", "streams": ["c", "c"]}), "duplicate", -8),
            (line(do="create", patch={"id": "x", "streams": ["c", "a"]}), "loop", -9),
            (line(do="create", patch=[]), "no-json", -1),
            (line(do="create"), "no-json", -1),
            (line(do="change", id="ab", patch={"streams": ["a"]}), "too-few", -6),
            (line(do="change", id="ab", patch={"mode": "relay"}, if_revision=7), "changed", None),
            (line(do="activate", id="none"), "unknown", None),
            (line(do="change", id="none", patch={}), "unknown", None),
            (b"{\n", "no-json", -1),
            (b"[]\n", "no-json", -1),
            (b"[" * 100_000 + b"\n", "no-json", -1),
            (b'{"do":"activate","id":"ab","id":"cd"}\n', "no-json", -1),
            (b'{"do":"announce","id":"ab","digits":"1","priority":NaN}\n', "no-json", -1),
            (b"\xff\n", "no-json", -1),
            (line(do="dance"), None, None),
            (line(do=["list"]), None, None),
            (line(do="delete", id=3), None, None),
            (line(do="delete", id="ab", if_revision=True), None, None),
            (line(do="change", id="ab", patch={"id": "other"}), None, None),
            (line(do="announce", id="ab"), None, None),
            (line(do="announce", id="ab", digits="x"), None, None),
            (line(do="announce", id="ab", digits="1", priority=256), None, None),
            (line(do="announce", id="ab", bytes=MAX_SOUND + 1), None, None),
            (line(do="announce", id="ab", bytes=-1), None, None),
        ):
            [answer] = told(control, request)
            self.assertEqual(
                (answer["ok"], answer.get("reason"), answer.get("code")), (False, reason, code), request[:80]
            )
            self.assertTrue(answer["error"])

    def test_names(self) -> None:
        """Streams may be called by the names of their groups, in any case; a name that two have is refused."""
        server = self.begun(
            channels={
                "e": Channel("e", "Fire", voice=L16),
                "f": Channel("f", "Two", voice=L16),
                "g": Channel("g", "Two", voice=L16),
            }
        )
        control = control_of(server, dict)
        [made] = told(
            control, line(do="create", patch={"id": "p", "streams": ["fire", {"stream": "a", "gain_db": 1}]})
        )
        self.assertTrue(made["ok"])
        self.assertEqual(server.listing.entries["p"].patch.stream_ids, ("e", "a"))
        [changed] = told(control, line(do="change", id="p", patch={"streams": ["b", "FIRE"]}))
        self.assertEqual(changed["detail"], ["streams: − a", "streams: + b"])
        self.assertEqual(told(control, line(do="list"))[0]["names"], {"e": "Fire"})
        [announced] = told(control, line(do="announce", id="p", digits="1", streams=["Fire"]))
        self.assertTrue(announced["ok"], announced)
        [twice] = told(control, line(do="create", patch={"id": "q", "streams": ["two", "a"]}))
        self.assertIn("the name of 2 groups", twice["error"])

    def test_two_at_once(self) -> None:
        """Of two who read the same revision and change it the first wins, and the other is told; of two who switch on what shares a stream, too."""
        _, control = self.control(Patch.of("ab", "ab", enabled=False), Patch.of("bc", "bc", enabled=False))
        change = line(do="change", id="ab", patch={"name": "mine"}, if_revision=1)
        first, second = told(control, change, by="ada"), told(control, change, by="ben")
        self.assertEqual((first[0]["ok"], second[0]["reason"]), (True, "changed"))
        [on] = told(control, line(do="activate", id="ab"), by="ada")
        [off] = told(control, line(do="activate", id="bc"), by="ben")
        self.assertEqual((on["ok"], off["reason"]), (True, "loop"))
        answers = told(
            control,
            line(do="delete", id="ab"),
            line(do="activate", id="ab"),
            line(do="delete", id="ab"),
            line(do="create", patch={"id": "ab", "streams": ["a", "b"], "enabled": False}),
            line(do="deactivate", id="ab"),
            line(do="change", id="ab", patch={"enabled": True, "streams": ["a", "c"]}),
            line(do="activate", id="bc"),
        )
        self.assertEqual(
            [answer.get("reason", answer["ok"]) for answer in answers],
            [True, "unknown", "unknown", True, True, True, "loop"],
        )

    def test_interleaved(self) -> None:
        """See :meth:`interleave`."""
        for seed in range(30):
            self.folder = Path(self.mktemp())
            self.interleave(random.Random(seed))

    def interleave(self, chance: random.Random) -> None:
        """Two clients whose requests come in pieces, between each other's: each gets its answers in order, no stream is in two patches that stand, and the disk has what is served."""
        server, control = self.control()
        people = []
        for name in ("ada", "ben"):
            asked = [self.something(chance) for _ in range(12)]
            protocol, transport = SocketProtocol(control, lambda _: None), StringTransport()
            protocol.makeConnection(transport)
            protocol._asker = Asker(name)
            people.append((protocol, transport, b"".join(asked)))
        left = [data for *_, data in people]
        while any(left):
            at = chance.choice([index for index, data in enumerate(left) if data])
            size = chance.randrange(1, 120)
            people[at][0].dataReceived(left[at][:size])
            left[at] = left[at][size:]
        for protocol, transport, _ in people:
            protocol.setTimeout(None)  # type: ignore[no-untyped-call]
            self.assertEqual(len(transport.value().splitlines()), 12)
        served = [stream for id in server.joints for stream in server.listing.entries[id].patch.stream_ids]
        self.assertEqual(len(served), len(set(served)))
        self.assertEqual(
            {id for id, entry in server.listing.entries.items() if entry.patch.enabled}, set(server.joints)
        )
        self.assertEqual(Store(self.folder).read()[0], server.listing)
        server.stopService()

    def something(self, chance: random.Random) -> bytes:
        """A request that may be right or wrong."""
        id, streams = chance.choice(("p", "q", "r")), chance.sample("abcd", chance.randrange(1, 4))
        do = chance.choice(("create", "change", "activate", "deactivate", "delete", "dance"))
        if do == "create":
            return line(do=do, patch={"id": id, "streams": streams, "enabled": chance.random() < 0.7})
        if do == "change":
            return line(do=do, id=id, patch={"streams": streams}, if_revision=chance.randrange(1, 4))
        return line(do=do, id=id)

    def test_announced(self) -> None:
        """Sound follows its request, in whatever pieces it comes, and the next request follows it."""
        _, control = self.control(Patch.of("ab", "ab"))
        sound = np.ones(9_600, "<i2").tobytes()
        data = (
            line(do="announce", id="ab", bytes=len(sound), alias="Desk", digits="1")
            + sound
            + line(do="status")
        )
        for size in (len(data), 1_000):
            protocol, transport = SocketProtocol(control, lambda _: None), StringTransport()
            protocol.makeConnection(transport)
            for at in range(0, len(data), size):
                protocol.dataReceived(data[at : at + size])
            protocol.setTimeout(None)  # type: ignore[no-untyped-call]
            first, second = map(json.loads, transport.value().splitlines())
            self.assertEqual((first, second["ok"]), ({"ok": True, "seconds": 0.2}, True))
            self.clock.pump([0.02] * 100)
            self.assertEqual(self.heard(), {"a", "b"})

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(("do", "id", "patch", "if_revision", "streams", "alias", "digits", "priority")),
            st.sampled_from(("create", "change", "activate", "announce", "ab", "1"))
            | st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
                ),
                max_leaves=5,
            ),
        )
    )
    def test_anything(self, request: dict[str, Any]) -> None:
        """Whatever is asked has one answer, which says whether it was done."""
        if not hasattr(self, "_control"):
            self._control = self.control(Patch.of("ab", "ab"))[1]
        [answer] = told(self._control, line(**request))
        self.assertIs(type(answer["ok"]), bool)
