"""Two local networks and two Rallypoints between them: what radios say on one is heard on the other, byte for byte and once, whatever happens to a reflector.

::

    radio a, phone a --- lan a --- reflectors a1, a2 --- rp1 === rp2 --- reflector b --- lan b --- radio b

The reflectors and Rallypoints are real daemons in namespaces; radios are sockets in namespaces of their own, and ffmpeg.
"""

import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime

import attrs
import pytest

from ice.media.rtp import Packet

from .lan import Host, Lan
from .reflectors import Reflectors, plug
from .roads import Place, command, inside, obstacle
from .town import BIN, Town

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))

STREAM = "3f2a9c1e-5b7d-5e0f-8a61-2c4d6e8f0a1b"
SIX = "66666666-5b7d-5e0f-8a61-2c4d6e8f0a1b"
QUIET = "9d1f0a22-0000-5e0f-8a61-2c4d6e8f0a1b"
WIRE = "22222222-5b7d-5e0f-8a61-2c4d6e8f0a1b"
QUIET_GROUP, WIRE_GROUP = "239.192.7.2", "239.192.7.9"
DEVICE, DEVICE_PORT, HORN_PORT = "10.65.0.1", 22_000, 22_001
GROUP, GROUP6, GROUP_PORT = "239.192.7.1", "ff15::7:1", 21_000
RULES = f"""
[reflector]
interface = "lan0"
sender_packets_per_s = 400

[[reflector.rules]]
stream = "{STREAM}"
rx = "{GROUP}:{GROUP_PORT}"

[[reflector.rules]]
stream = "{SIX}"
rx = "[{GROUP6}]:{GROUP_PORT}"
allow = ["fd65::1"]

[[reflector.rules]]
stream = "{QUIET}"
rx = "{QUIET_GROUP}:{GROUP_PORT}"
direction = "in"
"""
PACE_S = 0.02
NOTICED_S = 1.2  # a second, and what a machine with other things to do adds
LIMITS = "limits = { media_bytes = 9000 }"
SNOOPING = f"""
[reflector]
interface = "lan0"

[reflector.snooping]
enabled = true

[[reflector.rules]]
stream = "{QUIET}"
rx = "{GROUP}:{GROUP_PORT}"

[[reflector.rules]]
stream = "{WIRE}"
rx = "10.65.0.104:{DEVICE_PORT}"
tx = "{DEVICE}:{DEVICE_PORT}"
additional_tx = ["10.65.0.255:{HORN_PORT}"]
allow = ["{DEVICE}"]

[[reflector.rules]]
stream = "{WIRE}"
rx = "{WIRE_GROUP}:{GROUP_PORT}"

[[reflector.rules]]
stream = "{QUIET}-six"
rx = "[{GROUP6}]:{GROUP_PORT}"
"""


def rtp(number: int, ssrc: int, payload: bytes = b"\xd5" * 160) -> bytes:
    """20 ms of PCMU."""
    return Packet(0, number & 0xFFFF, 160 * number & 0xFFFF_FFFF, ssrc, payload).encode()


@attrs.define(eq=False)
class Radio:
    """Somebody in the group on one network: what is sent there is not heard by oneself."""

    host: Host
    sock: socket.socket
    group: str = GROUP
    heard: list[bytes] = attrs.field(factory=list)

    @classmethod
    def at(cls, host: Host, group: str = GROUP) -> "Radio":
        def open_it() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind((group, GROUP_PORT))
            index = socket.if_nametoindex("eth0")
            member = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.setblocking(False)
            return sock

        return cls(host, inside(host.namespace, open_it), group)

    @classmethod
    def at6(cls, host: Host) -> "Radio":
        """The same in the IPv6 group."""

        def open_it() -> socket.socket:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((GROUP6, GROUP_PORT))
            index = socket.if_nametoindex("eth0")
            member = struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, GROUP6), index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sock.setblocking(False)
            return sock

        return cls(host, inside(host.namespace, open_it), GROUP6)

    def say(self, data: bytes) -> None:
        self.sock.sendto(data, (self.group, GROUP_PORT))

    def listen(self) -> list[bytes]:
        """Everything that has come, ever."""
        while True:
            try:
                self.heard.append(self.sock.recv(65_535))
            except BlockingIOError:
                return self.heard

    def forget(self) -> None:
        self.listen()
        self.heard = []


@attrs.define(eq=False)
class Stage(Reflectors):
    """Everything, running."""

    lans: dict[str, Lan] = attrs.field(factory=dict)

    def radio(self, lan: str, number: int = 1) -> Radio:
        return Radio.at(self.lans[lan].hosts[number - 1])

    def converse(self, seconds: float, *talks: tuple[Radio, int], begin: int = 0) -> int:
        """Each of these talks in PCMU, at the usual pace; how many packets each has said."""
        count, due = round(seconds / PACE_S), time.monotonic()
        for number in range(begin, begin + count):
            for radio, ssrc in talks:
                radio.say(rtp(number, ssrc))
            due += PACE_S
            time.sleep(max(0.0, due - time.monotonic()))
            for radio, _ in talks:
                radio.listen()
        return count


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The Rallypoints and the reflectors of each network run, but for a2; c has no network yet."""
    folder = tmp_path_factory.mktemp("reflectors")
    with Town.build(folder, rallypoints=2, sites=4, rallypoint_toml=LIMITS) as town:
        stage = Stage(town)
        try:
            for lan, hosts in (("a", 2), ("b", 1), ("c", 1)):
                stage.lans[lan] = Lan(hosts)
            for number, (name, lan, home) in enumerate(
                (("a1", "a", "rp1"), ("a2", "a", "rp1"), ("b", "b", "rp2"), ("c", "c", "rp2")), 1
            ):
                place = town.roads.places[f"s{number}"]
                if name != "c":
                    plug(place, stage.lans[lan], 100 + number)
                stage.add(name, place, home, SNOOPING if name == "c" else RULES)
            for name in ("a1", "b", "c"):
                stage.reflectors[name].start()  # beside the Rallypoints, which they find when those are there
            town.start()
            stage.await_ready("a1", "b")
            yield stage
        finally:
            town.close()
            for each in stage.lans.values():
                each.close()


def test_there_and_back(stage: Stage) -> None:
    """What is said on either network is heard on the other: the same bytes, each once; what is too long or empty is counted by that name."""
    anna, bob = stage.radio("a"), stage.radio("b")
    count = stage.converse(1.5, (anna, 7), (bob, 9))
    stage.until(lambda: len(anna.listen()) >= count and len(bob.listen()) >= count, "all is heard")
    assert anna.heard == [rtp(n, 9) for n in range(count)]
    assert bob.heard == [rtp(n, 7) for n in range(count)]

    bob.forget()
    said = {size: b"\x07" * size for size in (0, 1, 1_472, 9_000, 65_507)}
    for data in said.values():
        anna.say(data)
    dropped = {"too-large": 1}
    stage.until(lambda: stage.rule("a1")["in"]["dropped"] == dropped, "one is too large")
    stage.until(lambda: len(bob.listen()) == 3, "three are heard")
    assert bob.heard == [said[1], said[1_472], said[9_000]]
    assert stage.rule("a1")["sockets"][0]["empty"] == 1

    talker = stage.rule("b")["talkers"]["out"]
    assert {(each["packets"], each["lost"], each["payload_type"]) for each in talker} >= {(count, 0, 0)}
    ssrc = [each for each in stage.rule("a1")["talkers"]["in"] if each["ssrc"] == "00000007"]
    assert [(each["host"], each["packets"], each["lost"]) for each in ssrc] == [("10.65.0.1", count, 0)]
    assert 0 <= ssrc[0]["jitter_ms"] < 20
    words = [BIN / "ice", "status", "--reflectors", "--config", stage.town.folder / "a1.toml"]
    words = ["env", "COLUMNS=200", *words]
    said = subprocess.run(stage.place("a1").command(*words), check=False, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"{GROUP}:{GROUP_PORT} on lan0" in said.stdout
    assert "dropped: 1 too-large" in said.stdout
    metrics = stage.ask("a1", "/metrics")[1].decode()
    assert re.search(r'^ice_reflector_datagrams_total\{direction="out",rule="1"\} \d', metrics, re.M)
    assert 'ice_reflector_dropped_total{direction="in",reason="too-large"} 1.0' in metrics


def test_interface_appears_later(stage: Stage) -> None:
    """A reflector whose network is not there runs, says what is missing, and works as soon as it has come."""
    assert not stage.ready("c")
    assert "there is no interface lan0 here" in stage.rule("c")["why"]
    plug(stage.place("c"), stage.lans["c"], 104)
    stage.await_ready("c")
    assert stage.rule("c")["interface"] == "lan0"
    assert stage.reflectors["c"].log.read_text().count("there is no interface lan0 here") == 1, (
        "said once for all"
    )


def test_one_source_alone(stage: Stage) -> None:
    """IPv6, and a rule that allows one machine: it is heard on the other network, and its neighbour is not, since the kernel joins from the one alone."""
    stage.until(lambda: stage.status("a1")["rules"][1]["sockets"][0]["joined"], "the IPv6 group is joined")
    anna, phone, bob = (
        Radio.at6(stage.lans[lan].hosts[number]) for lan, number in (("a", 0), ("a", 1), ("b", 0))
    )
    for number in range(10):
        phone.say(rtp(number, 48))
        anna.say(rtp(number, 47))
    stage.until(lambda: len(bob.listen()) >= 10, "she is heard")
    assert bob.heard == [rtp(number, 47) for number in range(10)]
    assert stage.status("a1")["rules"][1]["in"] == {"packets": 10, "bytes": 1_720, "dropped": {}}
    bob.say(rtp(1, 49))
    stage.until(lambda: rtp(1, 49) in anna.listen(), "he is heard")


def test_interface_down_and_up(stage: Stage) -> None:
    """The reflector's interface fails in the middle of talk: status says which and why, and both ways are heard again within seconds of its return."""
    anna, bob = stage.radio("a"), stage.radio("b")
    place = stage.place("a1")
    stage.converse(0.3, (anna, 17), (bob, 19))
    command("ip", "-n", place.namespace, "link", "set", "lan0", "down")
    stage.until(lambda: stage.rule("a1")["state"] == "closed", "the rule is closed")
    assert "lan0 is down" in stage.rule("a1")["why"]
    assert b"lan0 is down" in stage.ask("a1", "/readyz")[1]
    command("ip", "-n", place.namespace, "link", "set", "lan0", "up")
    for radio in (anna, bob):
        radio.forget()
    begun, number = time.monotonic(), 1_000
    while not (anna.heard and bob.heard):
        assert time.monotonic() - begun < 5.0, stage.town.told()
        number += stage.converse(0.1, (anna, 17), (bob, 19), begin=number)
    assert not stage.ready("a1"), "what the kernel took away with the interface: its IPv6 address"
    assert "lan0 has no IPv6 address" in stage.status("a1")["why_not_ready"]
    command("ip", "-n", place.namespace, "address", "add", "fd65::101/64", "dev", "lan0", "nodad")
    stage.until(lambda: stage.ready("a1"), "all is well again", 3.0)


def test_flood(stage: Stage) -> None:
    """One address that floods is held to its rate, named in log, status and counters; who speaks from another is heard whole."""
    anna, phone, bob = stage.radio("a"), stage.radio("a", 2), stage.radio("b")
    bob.forget()
    due = time.monotonic()
    for number in range(2_000):
        phone.say(rtp(number, 66))
        if number % 40 == 0:
            anna.say(rtp(number // 40, 27))
        if number % 40 == 39:
            due += PACE_S
            time.sleep(max(0.0, due - time.monotonic()))
            bob.listen()
    stage.until(lambda: sum(Packet.decode(data).ssrc == 27 for data in bob.listen()) == 50, "anna is heard")
    [limited] = stage.rule("a1")["limited"]
    assert limited["host"] == "10.65.0.2"
    assert limited["dropped"] >= 1_300
    flood = [data for data in bob.heard if Packet.decode(data).ssrc == 66]
    assert 0 < len(flood) <= 2_000 - limited["dropped"]
    assert "10.65.0.2 sends more than 400 datagrams a second" in stage.reflectors["a1"].log.read_text()


def test_two_by_mistake(stage: Stage) -> None:
    """A second reflector on one network: each packet is still heard once on the other, there is no storm, and status and log say why."""
    stage.start("a2")
    anna, bob = stage.radio("a"), stage.radio("b")
    for radio in (anna, bob):
        radio.forget()
    before = {name: stage.rule(name) for name in ("a1", "b")}
    begun = datetime.now()
    count = stage.converse(4.0, (anna, 37), (bob, 39))
    time.sleep(0.3)
    there = [data for data in bob.listen() if Packet.decode(data).ssrc == 37]
    back = [data for data in anna.listen() if Packet.decode(data).ssrc == 39]
    assert len(set(there)) >= 0.9 * count
    assert len(there) == len(set(there)), "heard twice on the other network"
    assert len(set(back)) >= 0.9 * count
    # What both bring from the stream into the group is there twice at most: nobody answers anybody.
    assert len(back) <= 2 * count
    rules = {name: stage.rule(name) for name in stage.reflectors}
    for name in ("a1", "b"):
        passed = sum(rules[name][way]["packets"] - before[name][way]["packets"] for way in ("in", "out"))
        assert passed <= 2.2 * count, (name, rules[name])
    # Which of the two is first to yield is chance; that one does, with the reason, within a second, and tries again, is not.
    logs = "\n".join(stage.reflectors[name].log.read_text() for name in ("a1", "a2"))
    pauses = re.findall(r"^(\S+ \S+) error .* pauses for \S+ s: (.*) comes back from .*of all reflectors of a group one may run", logs, re.M)  # fmt: skip
    assert pauses, rules
    first = min(datetime.fromisoformat(at) for at, _ in pauses)
    assert (first - begun).total_seconds() < NOTICED_S, pauses
    assert "is tried again" in logs
    noticed = sum(rules[name]["circle"]["noticed"] for name in ("a1", "a2"))
    metrics = "".join(stage.ask(name, "/metrics")[1].decode() for name in ("a1", "a2"))
    circles = re.findall(r'^ice_reflector_circles_total\{rule="1"\} (\S+)', metrics, re.M)
    assert sum(map(float, circles)) == noticed >= 1
    assert "came back" in " ".join(rules["a1"]["warnings"] + rules["a2"]["warnings"])


def test_one_device_and_everybody(stage: Stage) -> None:
    """A machine that knows no multicast: it is said to from where it is heard, a horn hears a broadcast, and whoever is not in the list is not heard."""
    [host] = stage.lans["c"].hosts

    def open_it(at: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((at, port))
        sock.settimeout(3.0)
        return sock

    device, horn = inside(
        host.namespace, lambda: (open_it(DEVICE, DEVICE_PORT), open_it("0.0.0.0", HORN_PORT))
    )
    stranger = inside(stage.place("c").namespace, lambda: open_it("10.65.0.104", 0))
    radio = Radio.at(host, WIRE_GROUP)
    with device, horn, stranger:
        stage.until(lambda: stage.status("c")["rules"][2]["listened_to"], "the radio is known")
        radio.say(rtp(1, 57))
        assert device.recvfrom(2_000) == (rtp(1, 57), ("10.65.0.104", DEVICE_PORT))
        assert horn.recv(2_000) == rtp(1, 57)
        device.sendto(rtp(1, 58), ("10.65.0.104", DEVICE_PORT))
        stranger.sendto(rtp(1, 59), ("10.65.0.104", DEVICE_PORT))
        stage.until(lambda: stage.status("c")["rules"][1]["in"]["dropped"] == {"denied": 1}, "another is not")
        assert radio.listen() == [rtp(1, 58)]


def test_nobody_listens(stage: Stage) -> None:
    """A stream is fetched only where somebody on the network has joined its group: at once when he joins (IGMP, MLD), and no more when he has left. Nothing goes between Rallypoints meanwhile."""

    def fetched() -> bool:
        streams = stage.town.status("rp2")["streams"]
        return any(each["stream"] == QUIET and each["listeners"] for each in streams)

    def between() -> float:
        """Copies that Rallypoints have sent each other."""
        told = stage.town.ask("rp1", "/metrics")[1].decode()
        found = re.search(r"^ice_rallypoint_mesh_relays_copies_total (\S+)", told, re.M)
        assert found is not None
        return float(found[1])

    anna = attrs.evolve(stage.radio("a"), group=QUIET_GROUP)
    stage.until(lambda: not stage.rule("c")["listened_to"] and not fetched(), "nobody listens", 20.0)
    assert stage.ready("c")
    said = 0

    def passes() -> float:
        """How many of five datagrams of the stream go from one Rallypoint to the other."""
        nonlocal said
        sent, brought = between(), stage.status("a1")["rules"][2]["in"]["packets"]
        said += stage.converse(0.1, (anna, 67), begin=said)
        stage.until(
            lambda: stage.status("a1")["rules"][2]["in"]["packets"] == brought + 5, "it is brought in"
        )
        return between() - sent

    stage.until(lambda: not passes(), "nothing goes between Rallypoints any more, a second later", 3.0)
    assert not stage.status("c")["rules"][3]["listened_to"]
    six = Radio.at6(stage.lans["c"].hosts[0])
    stage.until(lambda: bool(stage.status("c")["rules"][3]["listened_to"]), "somebody listens by IPv6", 3.0)
    six.sock.close()
    carl = stage.radio("c")
    stage.until(lambda: stage.rule("c")["listened_to"] and fetched(), "somebody listens", 3.0)
    assert passes() == 5
    assert carl.listen() == [rtp(n, 67) for n in range(said - 5, said)]
    carl.sock.close()
    stage.until(lambda: not stage.rule("c")["listened_to"] and not fetched(), "nobody listens again", 6.0)


def test_no_multicast_route(stage: Stage) -> None:
    """On a machine with two networks and no route for groups the daemon runs and says what to write, and so does the doctor; a route is taken as soon as it is there."""
    one, other = stage.lans["a"].hosts[1], stage.lans["b"].hosts[0]
    config = f'[[reflector.rules]]\nstream = "{STREAM}"\nrx = "239.192.8.1:{GROUP_PORT}"\n'
    with stage.lans["a"].second(one, other):
        place = Place("lost", one.number, one.namespace)
        program = stage.add("lost", place, "rp1", config)
        program.start()
        words = one.command(BIN / "ice", "doctor", "--config", stage.town.folder / "lost.toml")
        doctor = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        stage.until(lambda: b"there is no route" in _answer(stage, "lost"), "it answers")
        why = stage.rule("lost")["why"]
        assert "eth0" in why and "eth1" in why and "interface" in why, why
        stage.until(lambda: why in program.log.read_text(), "the log has it")
        said = doctor.communicate(timeout=20)[0]
        assert re.search(r"warn .*multicast route .*none for 239", said), said
        assert 'multicast.interface = "eth0"' in said
        one.ip("route", "add", "239.0.0.0/8", "dev", "eth1")
        stage.until(lambda: bool(stage.rule("lost")["sockets"][0]["joined"]), "the group is joined", 4.0)
        assert stage.rule("lost")["interface"] == "eth1"
        program.signal(signal.SIGTERM)
        program.wait()


def _answer(stage: Stage, name: str) -> bytes:
    try:
        return stage.ask(name)[1]
    except OSError:
        return b""
