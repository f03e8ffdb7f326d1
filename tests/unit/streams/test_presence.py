"""A presence group on a stream: two who see each other, an observer who is not seen, and what is not presence."""

import json
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.mission.announcing import Manner
from ice.mission.people import Happened, State, What
from ice.mission.presence import Descriptor, Form, Identity, Location
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.presence import READ_PER_S, Presence

CONTROL = "mission-control"
UNIX = 1_800_000_000.0


def me(name: str, **more: Any) -> Descriptor:
    """What somebody tells of themselves."""
    return Descriptor(Identity(f"node-{name}", display_name=name), **more)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, delay_s=0.02)
        self.wire = Collector()
        self.events: dict[str, list[Happened]] = {}
        self.tap = self.network.join(CONTROL, self.wire)
        self.pass_by(0)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, in steps."""
        for _ in range(max(1, round(seconds * 10))):
            self.clock.advance(0.1 if seconds else 0)

    def party(self, name: str | None, **changes: Any) -> Presence:
        """Somebody who joins; without a name, an observer."""
        told = self.events.setdefault(name or "", [])
        presence = Presence(
            self.clock,
            manner=changes.pop("manner", Manner()),
            me=None if name is None else me(name, **changes),
            on_events=told.extend,
            wall=lambda: UNIX + self.clock.seconds(),
            random=Random(name),
        )
        presence.join(self.network, CONTROL)
        return presence

    def whats(self, name: str = "") -> list[What]:
        """What somebody was told."""
        return [each.what for each in self.events[name]]


class Meeting(Case):
    def test_two(self) -> None:
        """Who joins sees at once who was there, and is seen; who leaves has left."""
        anna = self.party("anna", location=Location(47.5, 8.25))
        self.pass_by(20)
        bob = self.party("bob")
        self.pass_by(1)
        (seen,) = bob.people.present
        self.assertEqual((seen.name, seen.descriptor.location), ("anna", Location(47.5, 8.25)))
        self.assertEqual([each.name for each in anna.people.present], ["bob"])
        self.pass_by(120)
        self.assertEqual(self.whats("anna"), [What.JOINED])
        bob.leave()
        bob.leave()
        self.pass_by(0.1)
        self.assertIs(anna.people.everybody[0].state, State.LEFT)
        anna.leave()
        self.pass_by(0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wire(self) -> None:
        """Each datagram is one JSON object, flagged as data; at rest one per interval."""
        anna = self.party("anna")
        self.pass_by(10)
        self.wire.datagrams.clear()
        self.pass_by(300)
        self.assertTrue(10 <= len(self.wire.datagrams) <= 13)
        for datagram in self.wire.datagrams:
            self.assertEqual(datagram.flags, Flag.DATA)
            self.assertEqual(json.loads(datagram.payload)["identity"]["nodeId"], "node-anna")
        anna.leave()
        self.pass_by(0.1)
        last = json.loads(self.wire.payloads[-1])
        self.assertEqual(last["nextUpdate"], last["ts"])

    def test_observer(self) -> None:
        """An observer sees everybody in time, and sends nothing."""
        anna = self.party("anna")
        self.pass_by(10)
        observer = self.party(None)
        self.pass_by(31)
        self.assertEqual([each.name for each in observer.people.present], ["anna"])
        self.assertEqual(anna.people.everybody, ())
        self.assertEqual(observer.counts["sent"], 0)
        observer.leave()
        anna.leave()
        self.pass_by(0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_emergency(self) -> None:
        """An emergency is there within a moment, urgent, survives the path's loss, and ends when it is called off."""
        anna, observer = self.party("anna"), self.party(None)
        self.pass_by(7)
        self.wire.datagrams.clear()
        anna.emergency(True)
        self.pass_by(0.1)
        self.assertEqual(self.whats(), [What.JOINED, What.EMERGENCY])
        self.assertEqual(self.wire.datagrams[0].flags, Flag.DATA | Flag.URGENT)
        self.network.up = False
        self.pass_by(100)
        self.assertTrue(observer.people.everybody[0].emergency)
        self.network.up = True
        self.pass_by(1)
        self.assertIs(observer.people.everybody[0].state, State.HERE)
        anna.emergency(False)
        self.pass_by(0.1)
        self.assertIs(self.whats()[-1], What.CALM)

    def test_change(self) -> None:
        """A change is told."""
        anna, _ = self.party("anna"), self.party(None)
        self.pass_by(12)
        anna.change(me("anna", comment="lunch"))
        self.pass_by(0.1)
        self.assertEqual(self.events[""][-1].changed, ("comment",))

    def test_cot(self) -> None:
        """A group of format 2 is spoken in XML, and one who speaks JSON there is understood all the same."""
        anna = self.party("anna", manner=Manner(form=Form.COT))
        bob = self.party("bob")
        self.pass_by(6)
        self.assertTrue(any(payload.startswith(b"<?xml") for payload in self.wire.payloads))
        self.assertEqual([each.name for each in anna.people.present], ["bob"])
        self.assertEqual([each.name for each in bob.people.present], ["anna"])
        anna.emergency(True)
        self.pass_by(0.1)
        self.assertIn(What.EMERGENCY, self.whats("bob"))
        self.assertTrue(any(b"b-a-o-tbl" in payload for payload in self.wire.payloads))
        anna.leave()
        self.pass_by(0.1)
        self.assertEqual(self.whats("bob")[-2:], [What.CALM, What.LEFT])

    def test_lossy(self) -> None:
        """With one datagram in five lost, ten people still know each other within two intervals."""
        self.network.loss = 0.2
        team = [self.party(f"n{number}") for number in range(10)]
        self.pass_by(65)
        known = sum(len(each.people.present) for each in team)
        self.assertGreaterEqual(known, 88)


class Refusing(Case):
    def test_counts(self) -> None:
        """What is no presence is counted by reason, and harms nobody."""
        observer = self.party(None)
        self.pass_by(0.1)
        for payload in (
            b"",
            b"\x80\x76",
            b"{",
            b"<!DOCTYPE a><a/>",
            b"<event type='t-x-c-t'/>",
            b"{}",
            b"x" * 4_000,
        ):
            self.tap.send(payload)
        self.pass_by(0.1)
        self.assertEqual(
            dict(observer.counts),
            {
                "heard": 7,
                "unknown-format": 3,
                "bad-json": 1,
                "forbidden-xml": 1,
                "not-a-person": 1,
                "no-node-id": 1,
            },
        )

    def test_flood(self) -> None:
        """A flood is not read beyond what a large team could say, and the rest of the team is heard again after it."""
        observer = self.party(None)
        self.pass_by(0.1)
        for _ in range(3 * int(READ_PER_S)):
            self.tap.send(b"{}")
        self.pass_by(0.1)
        self.assertEqual(observer.counts["no-node-id"] + observer.counts["flood"], 3 * int(READ_PER_S))
        self.assertLessEqual(observer.counts["no-node-id"], READ_PER_S * 1.2)
        self.pass_by(1)
        self.tap.send(json.dumps({"identity": {"nodeId": "n"}}).encode())
        self.pass_by(0.1)
        self.assertEqual(len(observer.people.present), 1)

    def test_echo(self) -> None:
        """Our own words, brought back by somebody who reflects them, are not somebody else under our node id."""
        anna = self.party("anna")
        self.pass_by(1)
        self.tap.send(self.wire.payloads[0])
        self.pass_by(0.1)
        self.assertEqual((anna.counts["echo"], self.whats("anna")), (1, []))

    def test_ignored(self) -> None:
        """Of whom the mission wants nothing, nothing is shown."""
        observer = Presence(self.clock, manner=Manner(), ignored=["{NODE-ANNA}", ""])
        observer.join(self.network, CONTROL)
        self.party("anna")
        self.party("bob")
        self.pass_by(1)
        self.assertEqual([each.name for each in observer.people.present], ["bob"])
        self.assertEqual(observer.counts["ignored"], 1)

    def test_listen_only(self) -> None:
        """Where the mission lets nobody announce, wanting to is an error that says so."""
        with self.assertRaisesRegex(LocalError, "listening only"):
            self.party("anna", manner=Manner(listen_only=True))

    def test_too_large(self) -> None:
        """What fits into no datagram is refused when it is set, not when it is sent."""
        with self.assertRaises(LocalError):
            Presence(self.clock, manner=Manner(), me=Descriptor(Identity("n" * 2_000)))
