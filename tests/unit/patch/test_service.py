"""A patch server over a network in memory: patches come and go while people talk."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.burst import BurstSender
from ice.media.codecs import encoder
from ice.media.rtp import Packet
from ice.observe.metrics import Metrics
from ice.patch.announcement import Announcement
from ice.patch.channel import Channel
from ice.patch.channels import Plan
from ice.patch.listing import Audit, PatchList, encode
from ice.patch.plan import Member, Mode, Patch, Reason
from ice.patch.service import PatchServer
from ice.patch.status import add_metrics, states_of, status_of
from ice.patch.store import Store
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.sealed import SealedNetwork
from tests.unit.patch.lab import L16, WALL

DATA = 8
OLD, NEW = (Keyring(Cipher.GCM, derive(key * 32)) for key in ("01", "02"))


class Air(MemoryNetwork):
    """The network as the server has it."""

    why = "the test has cut it"
    homes = ()

    def start(self) -> None:
        pass

    def stop(self, reason: str = "") -> Deferred[None]:
        return succeed(None)

    def seconds(self) -> float:
        return self.clock.seconds()


class Group:
    """The list as a group holds it."""

    def __init__(self) -> None:
        self.leads = False
        self.leader = ""
        self.body: bytes | None = None
        self.changes = 0

    def change(self, body: bytes) -> None:
        self.changes += 1
        self.body = body


class Stage(SynchronousTestCase):
    """Streams a to d, each with somebody who listens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.air: Any = Air(self.clock, delay_s=0.003, seed=3)
        self.folder = Path(self.mktemp())
        self.ears: dict[str, Collector] = {}
        for name in "abcd":
            self.ears[name] = Collector()
            self.air.join(name, self.ears[name])

    def server(self, *patches: Patch, channels: dict[str, Channel] | None = None) -> PatchServer:
        server = PatchServer(
            self.clock,
            self.air,
            plan(*patches, channels=channels),
            Store(self.folder),
            group_id="g",
            wall=lambda: WALL + self.clock.seconds(),
            chance=random.Random(1),
        )
        self.addCleanup(server.stopService)
        return server

    def begun(self, *patches: Patch, channels: dict[str, Channel] | None = None) -> PatchServer:
        server = self.server(*patches, channels=channels)
        server.startService()
        self.clock.advance(0.01)
        return server

    def say(self, stream: str, packets: int = 10, network: Any = None) -> None:
        """A burst on a stream."""
        talker = (self.air if network is None else network).join(stream, Collector())
        self.clock.advance(0)
        sender = BurstSender(encoder("l16"), alias="Ada", chance=random.Random(2))
        sender.press(0.0)
        for sending in sender.pcm(np.ones(960 * packets, np.int16)) + sender.release(0.2):
            talker.send(sending.payload, sending.flags)
            self.clock.pump([0.005] * 4)
        self.clock.pump([0.02] * 20)
        talker.leave()

    def heard(self) -> set[str]:
        """The streams on which speech was heard since the last call."""
        found = set()
        for name, ear in self.ears.items():
            if [each for each in ear.datagrams if not each.flags & DATA]:
                found.add(name)
            ear.datagrams.clear()
        return found

    def ask(
        self, server: PatchServer, how: Callable[[PatchList, int, Any], tuple[PatchList, Audit]]
    ) -> Reason | None:
        audit = server.change(how)
        return None if audit.refusal is None else audit.refusal.reason


class Served(Stage):
    def test_joined(self) -> None:
        """What is said on one stream is heard on those of its patch and no other, in every mode; nothing is left in the reactor."""
        for mode in Mode:
            server = self.begun(Patch.of("ab", "ab", mode=mode), Patch.of("cd", "cd", mode=mode))
            self.say("a")
            self.assertEqual(self.heard(), {"a", "b"}, mode)
            self.say("d")
            self.assertEqual(self.heard(), {"c", "d"}, mode)
            self.assertIsNone(server.ready())
            server.stopService()
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.say("a")
            self.assertEqual(self.heard(), {"a"})
            for path in self.folder.iterdir():
                path.unlink()

    def test_switched(self) -> None:
        """People switch patches on and off; others notice nothing, and a second patch of a stream is refused while the first is on."""
        server = self.begun(Patch.of("ab", "ab"), Patch.of("cd", "cd"))
        kept = server.joints["cd"]
        self.assertIsNone(self.ask(server, lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms)))
        self.clock.advance(0.01)
        self.say("a")
        self.assertEqual(self.heard(), {"a"})
        created = lambda old, ms, facts: old.create(Patch.of("bc", "bc"), by="ada", ms=ms, facts=facts)  # noqa: E731
        self.assertEqual(self.ask(server, created), Reason.LOOP)
        self.assertIsNone(
            self.ask(server, lambda old, ms, facts: old.activate("ab", by="ada", ms=ms, facts=facts))
        )
        self.clock.advance(0.01)
        self.say("a")
        self.assertEqual(self.heard(), {"a", "b"})
        self.assertIs(server.joints["cd"], kept)
        self.assertEqual(server.asked, {"done": 4, "loop": 1})
        self.assertEqual(states_of(server), {"ab": "open", "cd": "open"})

    def test_undescribed(self) -> None:
        """A stream that nobody describes is silent both ways, and the status says why, until the configuration calls it clear; the other streams go on."""
        for mode in Mode:
            self.ears["e"] = Collector()
            self.air.join("e", self.ears["e"])
            server = self.begun(Patch.of("abe", "abe", mode=mode))
            self.say("a")
            self.assertEqual(self.heard(), {"a", "b"}, mode)
            self.say("e")
            self.assertEqual(self.heard(), {"e"}, mode)
            told = status_of(server, "id")
            [stream] = [each for each in told["groups"]["detail"] if each["id"] == "e"]
            self.assertEqual((stream["state"], stream["sealing"]), (-1, "unknown"))
            self.assertIn("patch.clear", stream["why"])
            self.assertIn("no mission describes e", told["bridges"]["detail"][0]["warnings"][0])
            kept = server.plan
            server.reload(Plan(kept.patches, (), kept.channels, (), ("e",)))
            self.clock.advance(0.01)
            self.say("a")
            self.assertEqual(self.heard(), {"a", "b", "e"}, mode)
            self.assertNotIn("warnings", status_of(server, "id")["bridges"]["detail"][0])
            server.stopService()
            for path in self.folder.iterdir():
                path.unlink()
            self.heard()

    def test_gains(self) -> None:
        """Another gain is heard at once in a mix, and the patch is not begun anew."""
        server = self.begun(Patch.of("ab", "ab", mode=Mode.MIXED))
        kept = server.joints["ab"]
        loudest = []
        for gain in (0.0, -20.0, 6.0):
            streams = (Member("a", gain), Member("b"))
            self.ask(
                server,
                lambda old, ms, facts, streams=streams: old.change("ab", by="x", ms=ms, streams=streams),
            )
            self.ears["b"].datagrams.clear()
            self.say("a", packets=20)
            packets = [
                Packet.decode(each.payload) for each in self.ears["b"].datagrams if not each.flags & DATA
            ]
            loudest.append(
                max(
                    int(np.abs(np.frombuffer(packet.payload, ">i2")).max())
                    for packet in packets
                    if packet.payload
                )
            )
        self.assertIs(server.joints["ab"], kept)
        self.assertTrue(loudest[1] * 5 < loudest[0] < loudest[2], loudest)

    def test_killed(self) -> None:
        """What people did is there after a crash, and the files, which say what they said, do not undo it."""
        server = self.begun(Patch.of("ab", "ab"))
        self.ask(server, lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        self.ask(
            server, lambda old, ms, facts: old.create(Patch.of("cd", "cd"), by="ada", ms=ms, facts=facts)
        )
        again = self.begun(Patch.of("ab", "ab"))  # the first still runs; its disk is what counts
        self.assertEqual(states_of(again), {"ab": "off", "cd": "open"})

    def test_files_change(self) -> None:
        """A reload does what has changed in the files, and leaves alone what people have changed."""
        server = self.begun(Patch.of("ab", "ab"), Patch.of("cd", "cd"))
        self.ask(server, lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        kept = server.joints["cd"]
        server.reload(plan(Patch.of("ab", "ab", name="Two"), Patch.of("cd", "cd", name="Others")))
        self.assertEqual(states_of(server), {"ab": "off", "cd": "open"})
        self.assertIs(server.joints["cd"], kept)
        self.assertEqual(kept.engine.status(0.0).name, "Others")
        server.reload(plan(Patch.of("cd", "abc")))
        self.clock.advance(0.01)
        self.assertEqual(states_of(server), {"cd": "open"})
        self.say("c")
        self.assertEqual(self.heard(), {"a", "b", "c"})

    def test_new_keys(self) -> None:
        """New keys are used from the next packet on, and the patch goes on as it is; a stream that becomes clear begins its patch anew."""
        patch = Patch.of("ab", "ab")
        server = self.begun(patch, channels={"a": Channel("a", voice=L16, keyring=OLD)})
        kept = server.joints["ab"]
        people = SealedNetwork(
            self.air, lambda stream: NEW if stream == "a" else None, lambda: WALL + self.clock.seconds()
        )
        self.say("a", network=people)
        self.assertEqual(self.heard(), {"a"})
        self.assertEqual(kept.engine.status(0.0).members[0].refused.keys(), {"tag"})
        server.reload(plan(patch, channels={"a": Channel("a", voice=L16, keyring=NEW)}))
        self.assertIs(server.joints["ab"], kept)
        self.say("a", network=people)
        self.assertEqual(self.heard(), {"a", "b"})
        server.reload(plan(patch, channels={"a": Channel("a", voice=L16)}))
        self.assertIsNot(server.joints["ab"], kept)

    def test_disk_is_full(self) -> None:
        """A change that cannot be kept is not made."""
        server = self.begun(Patch.of("ab", "ab"))
        self.folder.rename(f"{self.folder}-gone")
        self.folder.write_text("no folder")
        with self.assertRaisesRegex(LocalError, "expected a folder"):
            server.change(lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        self.assertEqual(states_of(server), {"ab": "open"})
        with self.assertRaises(LocalError):
            server.reload(plan())
        self.assertEqual(len(server.plan.patches), 1)
        self.folder.unlink()
        Path(f"{self.folder}-gone").rename(self.folder)

    def test_announced(self) -> None:
        """A prompt is heard on all streams of a patch; one into nowhere says what to do."""
        server = self.begun(Patch.of("ab", "ab"), Patch.of("off", "cd", enabled=False))
        prompt = Announcement(np.ones(9_600, np.int16), alias="Desk")
        server.announce("ab", prompt)
        self.clock.pump([0.02] * 20)
        self.assertEqual(self.heard(), {"a", "b"})
        for id, words in (("off", "ice patch on off"), ("none", "there is no patch")):
            with self.assertRaisesRegex(LocalError, words):
                server.announce(id, prompt)

    def test_counted(self) -> None:
        """What is counted stays counted when a patch is switched off, and no metric's name is missing in docs/operation.md."""
        server = self.begun(Patch.of("ab", "ab"))
        self.say("a")
        before = server.totals()
        self.assertEqual(before.packets["in"], 13)
        self.ask(server, lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        self.assertEqual(server.totals(), before)
        metrics = Metrics()
        add_metrics(metrics, server)
        page = metrics.render().decode()
        self.assertIn('ice_patch_packets_total{direction="in"} 13', page)
        operation = (Path(__file__).resolve().parents[3] / "docs" / "operation.md").read_text("utf-8")
        for name in set(re.findall(r"^# TYPE (ice_patch_\S+) ", page, re.M)):
            self.assertRegex(operation, rf"`{name}(_total)?[`{{]")

    def test_down(self) -> None:
        """A stream that cannot be reached makes its patch closed, and the server says which and why."""
        server = self.begun(Patch.of("ab", "ab"))
        self.air.up = False
        self.assertEqual(states_of(server), {"ab": "closed"})
        self.assertIn("the test has cut", server.ready() or "")
        told = status_of(server, "id")
        self.assertEqual([each["state"] for each in told["groups"]["detail"]], [3, 3])
        self.air.up = True
        self.assertIsNone(server.ready())
        json.dumps(status_of(server, "id"))


class OneOfAGroup(Stage):
    def test_standby(self) -> None:
        """A standby hears and says nothing; it speaks from the moment it is told to, in the middle of a burst, and ceases when it may no more."""
        server = self.begun(Patch.of("ab", "ab"))
        server.standby()
        self.say("a")
        self.assertEqual((self.heard(), states_of(server)), ({"a"}, {"ab": "standby"}))
        server.active()
        self.say("a")
        self.assertEqual(self.heard(), {"a", "b"})
        server.guard(
            lambda: bool(server.standby())
        )  # the right has run out, which is found out when somebody looks
        self.say("a")
        self.assertEqual((self.heard(), server.is_active), ({"a"}, False))

    def test_side_by_side(self) -> None:
        """What the active server passes on is no circle for the standby, in any mode; and nobody hears anything twice."""
        for mode in Mode:
            patch = Patch.of("ab", "ab", mode=mode)
            active = self.begun(patch)
            standby = self.begun(patch)
            standby.standby()
            for _ in range(3):
                self.say("a", 30)
            self.assertEqual(self.heard(), {"a", "b"})
            for server in (active, standby):
                status = server.joints["ab"].engine.status(0.0)
                self.assertEqual(
                    (status.loops, [each.refused for each in status.members]), ({}, [{}, {}]), mode
                )
            active.stopService()
            standby.stopService()
            for path in self.folder.iterdir():
                path.unlink()

    def test_the_groups_list(self) -> None:
        """Only who leads changes the list, and the group has each change; what others change is served and kept; what files say here is offered when we lead."""
        server = self.server(Patch.of("ab", "ab"))
        group = server.shared = Group()
        server.standby()
        server.startService()
        self.assertEqual(group.changes, 0)
        for leader, words in (("", "none leads"), ("east", "ask 'east'")):
            group.leader = leader
            with self.assertRaisesRegex(LocalError, f"stands by.*{words}"):
                server.change(lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        theirs, _ = PatchList().create(Patch.of("cd", "cd"), by="bob", ms=5)
        server.learned(encode(theirs))
        self.assertEqual(states_of(server).keys(), {"ab", "cd"})
        self.assertEqual(Store(self.folder).read()[0], server.listing)
        group.body, group.leads = encode(theirs), True
        server.active()
        self.clock.advance(1.0)
        self.assertEqual((group.changes, group.body), (1, encode(server.listing)))
        self.ask(server, lambda old, ms, facts: old.deactivate("ab", by="ada", ms=ms))
        self.assertEqual((group.changes, group.body), (2, encode(server.listing)))
        self.clock.pump([1.0] * 3)
        self.assertEqual(group.changes, 2)
        assert group.body is not None
        self.assertEqual(server.merged(group.body, encode(theirs)), group.body)


def plan(*patches: Patch, channels: dict[str, Channel] | None = None) -> Plan:
    """What a configuration might say."""
    known = {name: Channel(name, voice=L16) for name in "abcd"}
    return Plan(patches, (), known | (channels or {}))
