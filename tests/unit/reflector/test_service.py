"""The reflector put together: rules come and go, streams are joined as they are wanted, and status tells how each stands."""

import json
import os
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import attrs
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import loads
from ice.link.frame import MEDIA, media
from ice.link.naming import stream_key
from ice.media.rtp import Talk
from ice.net.addresses import Address
from ice.net.interfaces import Interface
from ice.net.multicast import SocketCounts, SocketStatus
from ice.observe.metrics import Metrics
from ice.reflector.service import Plan, Reflector
from ice.reflector.status import add_metrics, status_of
from ice.security.keyring import Keyring
from ice.streams.memory import Collector
from ice.streams.sealed import SealedNetwork
from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on, run
from tests.unit.net.test_capture import records
from tests.unit.reflector.world import NOON, rtp

RADIO = Address("10.0.0.1", 5_004)
A = "a.test:7443"


@attrs.define(eq=False)
class Wire:
    """A socket that is a list."""

    reactor: Any
    place: Any
    received: Any
    changed: Any
    more: dict[str, Any]
    counts: SocketCounts = attrs.field(factory=SocketCounts)
    sent: list[bytes] = attrs.field(factory=list)
    up: bool = False
    why: str = "not tried yet"
    running: bool = False
    calls: int = 0

    def start(self) -> None:
        if not self.running:
            self.running = True
            self.stand(True, f"joined {self.place.rx} on eth0")

    def stop(self) -> None:
        self.running = self.up = False

    def stand(self, up: bool, why: str) -> None:
        """The place can be used from now on, or can not."""
        self.up, self.why = up, why
        self.changed(up, why)

    def send_many(self, datagrams: Any) -> int:
        if not (self.running and self.up):
            return 0
        self.sent += datagrams
        self.calls += 1
        return len(datagrams)

    def hear(self, *datagrams: bytes, sender: Address = RADIO) -> None:
        self.more["received_many"]([(data, sender) for data in datagrams])

    def origin(self) -> Address:
        return Address("10.0.0.10", 40_000)

    def status(self) -> SocketStatus:
        return SocketStatus(
            "eth0", str(self.place.rx), str(self.place.tx), self.running, self.up, self.why, None
        )


class Watch:
    """One interface that never changes."""

    def __init__(self) -> None:
        self.present = {"eth0": Interface(2, "eth0", 0x1043, ("10.0.0.10",))}
        self.told: list[Any] = []

    def add(self, changed: Any) -> None:
        self.told.append(changed)

    def remove(self, changed: Any) -> None:
        self.told.remove(changed)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dialler = MemoryDialler(self.clock, latency_s=0.001)
        self.rallypoint = MemoryRallypoint(self.clock)
        self.dialler.there[A] = self.rallypoint
        self.network = network_on(self.dialler, A, satellite=True)
        self.wires: list[Wire] = []
        self.watch: Any = Watch()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def wire(self, reactor: Any, place: Any, received: Any, changed: Any, **more: Any) -> Wire:
        self.wires.append(Wire(reactor, place, received, changed, more))
        return self.wires[-1]

    def plan(self, *rules: str, begin: str = "", before: Plan | None = None) -> Plan:
        text = begin + "".join(f"\n[[reflector.rules]]\n{rule}\n" for rule in rules)
        return Plan.of(loads(text, self.folder / "ice.toml").config, before)

    def rule(self, stream: str = "hall", rx: str = "239.1.1.1:5000", more: str = "") -> str:
        return f'stream = "{stream}"\nrx = "{rx}"\n{more}'

    def started(self, plan: Plan | None = None) -> Reflector:
        self.reflector = Reflector(
            self.clock,
            self.network,
            plan if plan is not None else self.plan(self.rule()),
            wall=lambda: NOON,
            random=Random(1),
            watch=self.watch,
            socket_of=self.wire,
        )
        self.reflector.startService()
        self.addCleanup(self.stopped)
        run(self.clock, 0.2)
        return self.reflector

    def stopped(self) -> None:
        done: list[None] = []
        self.reflector.stopService().addCallback(done.append)
        run(self.clock, 3.0)
        self.assertEqual((len(done), self.clock.getDelayedCalls(), self.watch.told), (1, [], []))
        self.assertFalse(any(wire.running for wire in self.wires))
        self.assertEqual(self.flushLoggedErrors(), [])

    def say(self, data: bytes, sequence: int, stream: str = "hall", source: int = 5) -> None:
        """Somebody far away."""
        self.rallypoint.say(media(0, stream_key(stream), source, sequence, data))
        run(self.clock, 0.02)

    def on_stream(self, stream: str = "hall") -> list[bytes]:
        frames = [
            frame for frame in self.rallypoint.media if MEDIA.unpack_from(frame)[3] == stream_key(stream)
        ]
        return [frame[MEDIA.size :] for frame in frames]


class Passing(Case):
    def test_both_ways(self) -> None:
        """From the socket to the Rallypoint and back, the same bytes; readiness says when."""
        reflector = self.started()
        [wire] = self.wires
        wire.hear(rtp(1), rtp(2))
        run(self.clock, 0.02)
        self.assertEqual(self.on_stream(), [rtp(1), rtp(2)])
        self.say(rtp(1, ssrc=9), 0)
        self.assertEqual(wire.sent, [rtp(1, ssrc=9)])
        self.assertIsNone(reflector.ready())
        self.assertEqual(reflector.streams["hall"].ties[0].port.own_hosts, ("10.0.0.10",))

    def test_further_places(self) -> None:
        """additional_tx has a socket of its own, which only talks."""
        self.started(self.plan(self.rule(more='additional_tx = ["10.0.0.7:6000"]')))
        self.say(rtp(1), 0)
        self.assertEqual([wire.sent for wire in self.wires], [[rtp(1)], [rtp(1)]])
        self.assertEqual([wire.more["listen"] for wire in self.wires], [True, False])

    def test_directions(self) -> None:
        """A rule joins as it needs: to talk only, to listen only."""
        self.started(
            self.plan(
                self.rule("one", more='direction = "in"'),
                self.rule("two", "239.1.1.2:5000", more='direction = "out"'),
            )
        )
        asked = {join.stream: (join.listen, join.talk) for join in self.rallypoint.joins}
        self.assertEqual(asked, {"one": (False, True), "two": (True, False)})
        self.assertEqual([wire.more["talk"] for wire in self.wires], [False, True])

    def test_by_the_turn(self) -> None:
        """All that one turn has brought goes out in one call, in order; what does not go is counted."""
        self.started()
        [wire] = self.wires
        frames = [media(0, stream_key("hall"), 5, n, rtp(n, ssrc=9)) for n in range(100)]
        self.rallypoint.say(b"".join(frames))
        run(self.clock, 0.02)
        self.assertEqual(wire.sent, [rtp(n, ssrc=9) for n in range(100)])
        self.assertEqual(wire.calls, 2)
        wire.up = False
        self.say(rtp(100, ssrc=9), 100)
        self.assertEqual(self.reflector.ties[0].port.outward.dropped, {"unsent": 1})

    def test_too_large(self) -> None:
        """What no Rallypoint takes is counted by that name, and what has no path by its own."""
        self.started()
        [wire] = self.wires
        wire.hear(bytes(9_000), bytes(65_507), bytes(1_472))
        self.dialler.there.clear()
        self.rallypoint.crash()
        run(self.clock, 0.1)
        wire.hear(b"lost")
        port = self.reflector.ties[0].port
        self.assertEqual(port.inward.dropped, {"too-large": 2, "no-path": 1})
        self.assertIn("no link to a Rallypoint", self.reflector.ready() or "")

    def test_standby(self) -> None:
        """A standby sends nothing either way, and goes on when it is made active."""
        reflector = self.started()
        reflector.standby()
        [wire] = self.wires
        wire.hear(rtp(1))
        self.say(rtp(1, ssrc=9), 0)
        self.assertEqual((self.on_stream(), wire.sent), ([], []))
        reflector.active()
        wire.hear(rtp(2))
        self.say(rtp(2, ssrc=9), 1)
        self.assertEqual((self.on_stream(), wire.sent), ([rtp(2)], [rtp(2, ssrc=9)]))


class Sealed(Case):
    def test_with_a_member(self) -> None:
        """With the group's key a clear radio and the members of an encrypted group hear each other; on the stream there is noise."""
        key = "0f1e2d3c4b5a6978" * 4
        (self.folder / "hall.key").write_text(key + "\n")
        (self.folder / "hall.key").chmod(0o600)
        for cipher in ("aes-256-gcm", "aes-256-cbc"):
            self.rallypoint.media.clear()
            heard = Collector()
            member = network_on(self.dialler, A, identity=UUID(int=9), seed=9)
            sealed = SealedNetwork(member, {"hall": Keyring.of(key, cipher)}.get, lambda: NOON)
            stream = sealed.join("hall", heard)
            member.start()
            reflector = self.started(self.plan(self.rule(more=f'key_file = "hall.key"\ncipher = "{cipher}"')))
            self.wires[-1].hear(rtp(1))
            run(self.clock, 0.02)
            self.assertEqual(heard.payloads, [rtp(1)])
            self.assertNotIn(b"sound", self.on_stream()[0])
            self.assertTrue(stream.send(rtp(2, ssrc=9)))
            self.say(b"a stranger without the key, long enough", 0)
            self.assertEqual(self.wires[-1].sent, [rtp(2, ssrc=9)])
            [reason] = reflector.ties[0].port.outward.dropped
            self.assertTrue(reason.startswith("sealed-"), reason)
            self.assertIn(
                "everybody on that network can listen", status_of(reflector)["rules"][0]["warnings"][0]
            )
            done: list[None] = []
            reflector.stopService().addCallback(done.append)
            member.stop().addCallback(done.append)
            run(self.clock, 2.0)
            self.assertEqual(len(done), 2)
            self.network = network_on(self.dialler, A, satellite=True)


class Capturing(Case):
    def rule_into(self, name: str) -> str:
        return self.rule(more=f'capture_file = "{name}"\ncapture_bytes = 200_000')

    def captured(self, name: str) -> list[tuple[str, str, bytes]]:
        """From where, to where, what: as the packets of a file say."""
        found = []
        for _, packet in records((self.folder / name).read_bytes()):
            at = [f"{ip_address(packet[n : n + 4])}:{int.from_bytes(packet[m : m + 2], 'big')}" for n, m in ((12, 20), (16, 22))]  # fmt: skip
            found.append((at[0], at[1], packet[28:]))
        return found

    def test_on_and_off(self) -> None:
        """A reload begins a capture of one rule and ends it, both ways are in it with their addresses, and the rule notices nothing."""
        reflector = self.started()
        [wire] = self.wires
        wire.hear(rtp(1))
        plan = self.plan(self.rule_into("hall.pcap"), before=reflector.plan)
        reflector.reload(plan)
        wire.hear(rtp(2))
        self.say(rtp(1, ssrc=9), 0)
        reflector.reload(plan)
        wire.hear(rtp(3), sender=Address("10.0.0.2", 6_000))
        run(self.clock, 0.3)
        self.assertEqual(
            self.captured("hall.pcap"),
            [
                ("10.0.0.1:5004", "239.1.1.1:5000", rtp(2)),
                ("10.0.0.10:40000", "239.1.1.1:5000", rtp(1, ssrc=9)),
                ("10.0.0.2:6000", "239.1.1.1:5000", rtp(3)),
            ],
        )
        self.assertEqual((self.folder / "hall.pcap").stat().st_mode & 0o777, 0o600)
        [told] = status_of(reflector)["rules"]
        self.assertEqual(
            told["capture"],
            {"file": str((self.folder / "hall.pcap").absolute()), "why_not": "", "packets": 3, "left_out": 0},
        )
        self.assertIn("what is said is written into", told["warnings"][0])
        reflector.reload(self.plan(self.rule(), before=plan))
        wire.hear(rtp(4))
        self.assertEqual(len(self.captured("hall.pcap")), 3)
        self.assertEqual((self.wires, status_of(reflector)["rules"][0]["capture"]), ([wire], None))

    def test_a_full_disk(self) -> None:
        """A disk that is full ends the capture: said once, counted, and everything passes as before; a reload tries again."""
        plan = self.plan(self.rule_into("hall.pcap"))
        reflector = self.started(plan)
        [tie] = reflector.ties
        assert tie.recorder is not None and tie.recorder._capture is not None
        assert tie.recorder._capture._file is not None
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, tie.recorder._capture._file.fileno())
        os.close(full)
        [wire] = self.wires
        with capturedLogs() as logs:
            for number in range(200):
                wire.hear(rtp(number, payload=bytes(900)))
                run(self.clock, 0.02)
            run(self.clock, 1.0)
        self.assertEqual(len(self.on_stream()), 200)
        told = [formatEvent(each) for each in logs if "captured" in each["log_format"]]
        self.assertEqual([("No space left" in each, "passed on as before" in each) for each in told], [(True, True)])  # fmt: skip
        [rule] = status_of(reflector)["rules"]
        self.assertGreater(rule["capture"]["left_out"], 0)
        self.assertIn("No space left", " ".join(rule["warnings"]))
        reflector.reload(plan)
        wire.hear(rtp(900))
        run(self.clock, 0.3)
        self.assertEqual([data for _, _, data in self.captured("hall.pcap")], [rtp(900)])

    def test_no_such_folder(self) -> None:
        """Where nothing can be written nothing is, with the reason, and the rule is at work."""
        with capturedLogs() as logs:
            reflector = self.started(self.plan(self.rule_into("nowhere/hall.pcap")))
        self.wires[0].hear(rtp(1))
        run(self.clock, 0.3)
        self.assertEqual((self.on_stream(), reflector.ready()), ([rtp(1)], None))
        self.assertEqual(sum("captured" in each["log_format"] for each in logs), 1)
        self.assertEqual(status_of(reflector)["rules"][0]["capture"]["left_out"], 1)


class Reloading(Case):
    def test_rules_come_and_go(self) -> None:
        """One that stays keeps its socket and counters; one that goes leaves stream and group; a new one is open at once."""
        reflector = self.started(self.plan(self.rule("one"), self.rule("two", "239.1.1.2:5000")))
        one = self.wires[0]
        one.hear(rtp(1))
        reflector.reload(self.plan(self.rule("three", "239.1.1.3:5000"), self.rule("one")))
        run(self.clock, 0.2)
        self.assertEqual([wire.running for wire in self.wires], [True, False, True])
        self.assertEqual(self.rallypoint.leaves, ["two"])
        self.assertEqual(
            [(tie.rule.number, tie.port.inward.packets) for tie in reflector.ties], [(1, 0), (2, 1)]
        )
        one.hear(rtp(2))
        run(self.clock, 0.02)
        self.assertEqual(self.on_stream("one"), [rtp(1), rtp(2)])

    def test_another_place(self) -> None:
        """A rule with another ttl has another socket, and keeps what it knows."""
        reflector = self.started()
        port = reflector.ties[0].port
        reflector.reload(self.plan(self.rule(more="ttl = 5")))
        run(self.clock, 0.1)
        self.assertIs(reflector.ties[0].port, port)
        self.assertEqual([wire.running for wire in self.wires], [False, True])
        self.say(rtp(1), 0)
        self.assertEqual(self.wires[1].sent, [rtp(1)])

    def test_a_change_of_what_is_changed(self) -> None:
        """A translation that appears is at work at once; one that stays is the same."""
        reflector = self.started()
        data = rtp(1, extension=Talk(alias="Anna").to_extension())
        strip = self.rule(more="strip_extensions = true")
        reflector.reload(self.plan(strip))
        self.say(data, 0)
        self.assertEqual(self.wires[0].sent, [rtp(1)])
        again = self.plan(strip, before=reflector.plan)
        self.assertIs(again.rules[0][1], reflector.plan.rules[0][1])

    def test_direction(self) -> None:
        """A stream whose rules need something else now is joined anew."""
        reflector = self.started()
        reflector.reload(self.plan(self.rule(more='direction = "out"')))
        run(self.clock, 0.2)
        self.assertEqual([(join.listen, join.talk) for join in self.rallypoint.joins][-1], (True, False))


class Snoops:
    """Knows who listens."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.joined = {"239.1.1.1"}
        self.on: set[str] = set()
        self.trouble = ""

    def groups(self) -> dict[str, list[str]]:
        return {"eth0": sorted(self.joined)}

    def listened(self, interface: str, group: str) -> bool:
        return group in self.joined

    def tick(self, interfaces: set[str]) -> None:
        self.on = interfaces

    def stop(self) -> None:
        self.on = set()


class Snooping(Case):
    def test_fetched_where_wanted(self) -> None:
        """A stream is listened to while anybody has joined one of its groups; what the group says is brought in all the same."""
        reflector = self.started()
        snoops: Any = Snoops(reflector.plan.snooping)
        reflector.snooping = snoops
        snoops.joined.clear()
        run(self.clock, 0.5)
        self.assertEqual(snoops.on, {"eth0"})
        self.assertEqual((self.rallypoint.joins[-1].listen, self.rallypoint.joins[-1].talk), (False, True))
        self.wires[0].hear(rtp(1))
        run(self.clock, 0.02)
        self.assertEqual(self.on_stream(), [rtp(1)])
        self.assertFalse(status_of(reflector)["rules"][0]["listened_to"])
        self.assertIsNone(reflector.ready())
        snoops.joined.add("239.1.1.1")
        run(self.clock, 0.5)
        self.say(rtp(2), 0)
        self.assertEqual(self.wires[0].sent, [rtp(2)])

    def test_switched_off(self) -> None:
        """Without snooping everybody counts as listening, at once after a reload too."""
        reflector = self.started(self.plan(self.rule(), begin="[reflector.snooping]\nenabled = true\n"))
        snoops: Any = Snoops(reflector.plan.snooping)
        snoops.joined.clear()
        assert reflector.snooping is not None
        reflector.snooping.stop()
        reflector.snooping = snoops
        run(self.clock, 0.5)
        self.assertFalse(reflector.ties[0].port.wanted)
        reflector.reload(self.plan(self.rule()))
        run(self.clock, 0.5)
        self.assertTrue(reflector.ties[0].port.wanted)
        self.assertTrue(self.rallypoint.joins[-1].listen)


class Status(Case):
    def test_it_is_json(self) -> None:
        """Everything a person asks: state, why, warnings, counters, talkers with loss and jitter, who floods."""
        begin = "[reflector]\nsender_packets_per_s = 100\n"
        reflector = self.started(
            self.plan(
                self.rule(more="strip_extensions = true"), self.rule("two", "239.1.1.2:5000"), begin=begin
            )
        )
        for number in range(50):
            self.wires[0].hear(rtp(2 * number))
            run(self.clock, 0.02)
            self.say(rtp(number, ssrc=9), number)
        self.wires[0].hear(*(rtp(n, ssrc=3) for n in range(100)), sender=Address("10.0.0.66", 9))
        self.wires[1].stand(False, "eth0 is down")
        status = json.loads(json.dumps(status_of(reflector)))
        one, two = status["rules"]
        self.assertEqual((status["ready"], status["state"]), (False, "active"))
        self.assertEqual(status["why_not_ready"], "rule 2 (239.1.1.2:5000 <-> two): eth0 is down")
        self.assertEqual((one["state"], two["state"], two["why"]), ("open", "closed", "eth0 is down"))
        self.assertIn("header extensions are taken out", one["warnings"][0])
        self.assertEqual(one["in"]["dropped"], {"limited": 50})
        self.assertEqual(one["limited"], [{"host": "10.0.0.66", "packets": 100, "dropped": 50}])
        talkers = {each["host"]: each for each in one["talkers"]["in"]}
        anna = talkers["10.0.0.1"]
        self.assertEqual((anna["packets"], anna["lost"], anna["payload_type"]), (50, 49, 0))
        [far] = one["talkers"]["out"]
        self.assertEqual((far["packets"], far["lost"], far["source"]), (50, 0, f"{5:016x}"))

    def test_paused(self) -> None:
        """A circle is in status, readiness, log and metrics, and ends by itself."""
        reflector = self.started()
        [wire] = self.wires
        for number in range(60):
            wire.hear(rtp(number))
            wire.hear(rtp(number), sender=Address("10.0.0.20", 40_000))
            self.rallypoint.say(media(0, stream_key("hall"), 77, number, rtp(number)))
            run(self.clock, 0.01)
        status = status_of(reflector)["rules"][0]
        self.assertEqual(status["state"], "paused")
        self.assertIn("a circle", status["why"])
        self.assertIn("10.0.0.20", status["why"])
        self.assertGreater(status["pause_s"], 1.0)
        self.assertIn("pauses: a circle", reflector.ready() or "")
        run(self.clock, 3.0)
        self.assertEqual(status_of(reflector)["rules"][0]["state"], "open")

    def test_log(self) -> None:
        """A place that cannot be used is a warning, once, and its return is told; that all is well at the start is not."""
        with capturedLogs() as events:
            self.started()
            for up, why in (
                (False, "eth0 is down"),
                (False, "eth0 is down"),
                (True, "joined"),
                (True, "joined"),
            ):
                self.wires[0].stand(up, why)
                run(self.clock, 0.3)
        told = [
            (event["log_level"].name, event["what"].partition("): ")[2])
            for event in events
            if event.get("what", "").startswith("rule 1 ")
        ]
        self.assertEqual(told, [("warn", "eth0 is down"), ("info", "joined")])

    def test_metrics(self) -> None:
        """Figures by rule and direction, reasons summed, none of them with an address."""
        reflector = self.started()
        self.wires[0].hear(rtp(1), bytes(9_000))
        run(self.clock, 0.02)
        metrics = Metrics(process=False)
        add_metrics(metrics, reflector)
        page = metrics.render().decode()
        for line in (
            'ice_reflector_datagrams_total{direction="in",rule="1"} 1.0',
            'ice_reflector_dropped_total{direction="in",reason="too-large"} 1.0',
            'ice_reflector_rules{state="open"} 1.0',
            "ice_reflector_active 1.0",
            'ice_reflector_talkers{direction="in"} 1.0',
        ):
            self.assertIn(line, page)
        self.assertEqual(metrics.errors, 0)
        self.assertNotIn("10.0.0", page)
        self.assertNotIn("hall", page)

    def test_explained(self) -> None:
        """Whoever reads a metric's name in an alarm finds it in docs/operation.md."""
        root = Path(__file__).parents[3]
        page = (root / "docs/operation.md").read_text("utf-8")
        metrics = Metrics(process=False)
        add_metrics(metrics, self.started())
        names = [family.name for family in metrics.families() if family.name.startswith("ice_reflector")]
        missing = [name for name in names if name.removeprefix("ice_reflector") not in page]
        self.assertEqual(missing, [])

    def test_many_rules(self) -> None:
        """500 rules: no cross-talk, each hears its own group and stream alone."""
        rules = [self.rule(f"s{n}", f"239.2.{n // 250}.{n % 250 + 1}:5000") for n in range(500)]
        self.started(self.plan(*rules))
        self.wires[123].hear(rtp(1))
        self.say(rtp(2), 0, "s321")
        self.assertEqual([n for n, wire in enumerate(self.wires) if wire.sent], [321])
        self.assertEqual(self.on_stream("s123"), [rtp(1)])
        self.assertEqual(len(self.rallypoint.media), 1)
