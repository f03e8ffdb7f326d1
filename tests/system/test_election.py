"""Three satellites of one group in namespaces of their own, with a Rallypoint and a local network between them: who leads, whatever is killed, frozen or filtered.

The cycle is a tenth of a second.  Times are taken by the satellites themselves, on the one clock that namespaces share.
"""

import json
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from ice.election.ballot import Ballot, encode
from ice.security.certificates import Role

from .lan import Lan
from .roads import Place, command, inside, obstacle
from .town import BIN, Program, Town

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))

CYCLE_S = 0.1
GROUP_ID = str(uuid4())
BALLOTS = ("239.255.74.43", 7445)
DOOR = 9_000
NAMES = ("a", "b", "c")
MEMBER = Path(__file__).with_name("member.py")


def now() -> float:
    """As the satellites tell the time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@attrs.define(eq=False)
class Stage:
    """Everything, running."""

    town: Town
    lan: Lan
    folder: Path
    ids: dict[str, str]
    members: dict[str, Program]

    def place(self, name: str) -> Place:
        return self.members[name].place

    def said(self, name: str, what: str) -> list[float]:
        """When a member said this."""
        text = self.members[name].log.read_text("utf-8", "replace")
        return [float(at) for at in re.findall(rf"^{what} ([0-9.]+)$", text, re.M)]

    def acts(self, name: str) -> bool:
        """Whether a member's work is active."""
        ups, downs = self.said(name, "active"), self.said(name, "standby")
        return bool(ups) and (not downs or ups[-1] > downs[-1]) and self.members[name].runs

    @property
    def leaders(self) -> list[str]:
        return [name for name in NAMES if self.acts(name)]

    def status(self, name: str) -> dict[str, Any]:
        """The file that a member writes."""
        path = self.folder / name / f"election-{GROUP_ID}-{self.ids[name][:8]}.json"
        answer: dict[str, Any] = json.loads(path.read_text())
        return answer

    def until(self, true: Callable[[], bool], what: str, timeout_s: float = 10.0) -> float:
        return self.town.until(true, what, timeout_s=timeout_s, every_s=0.005)

    def whole(self) -> None:
        """Everybody runs, the first leads, and all know it."""
        for name in NAMES:
            if not self.members[name].runs:
                self.members[name].start()
        self.until(
            lambda: self.leaders == ["a"] and all(self.knows(name, "a") for name in NAMES),
            "the first leads",
        )
        time.sleep(3 * CYCLE_S)

    def order(self, name: str, line: str) -> None:
        """Write a line to a member."""
        process = self.members[name].process
        assert process is not None and process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()

    def knows(self, name: str, leader: str) -> bool:
        try:
            return bool(self.status(name)["details"]["leader"] == self.ids[leader])
        except OSError:
            return False


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Rallypoint, a network, and three members that run."""
    folder = tmp_path_factory.mktemp("election")
    lan: Lan | None = None
    with Town.build(folder, rallypoints=1, sites=3, mesh=False) as town:
        try:
            lan = Lan(1)
            ids = {
                name: str(town._authority.issue(name, Role.SATELLITE, datetime.now(UTC)).id) for name in NAMES
            }
            salt = folder / "election.salt"
            salt.write_text(secrets.token_hex(32))
            salt.chmod(0o600)
            group = (
                f'[[server_groups]]\nid = "{GROUP_ID}"\nname = "test"\ncycle_s = {CYCLE_S}\ninterface = "lan0"\n'
                f'salt_file = "election.salt"\nmembers = [\n'
                + "".join(f'  {{ id = "{ids[name]}", name = "{name}" }},\n' for name in NAMES)
                + "]\n"
            )
            members = {}
            for number, name in enumerate(NAMES, 1):
                place = town.roads.places[f"s{number}"]
                plug(place, lan, 100 + number)
                config = folder / f"{name}.toml"
                config.write_text(
                    f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
                    f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n'
                    f'[network]\nrallypoints = ["{town.rallypoints["rp1"].address}"]\nways_file = ""\n\n{group}'
                )
                words = [sys.executable, MEMBER, config, folder / name, f"0.0.0.0:{DOOR}"]
                members[name] = town.program(name, place, words)
            town.start()
            made = Stage(town, lan, folder, ids, members)
            for name in NAMES:
                members[name].start()
            yield made
        finally:
            town.close()
            if lan is not None:
                lan.close()


def plug(place: Place, lan: Lan, number: int, device: str = "lan0") -> None:
    """Connect a member to the local network, as ``device``."""
    port = f"port{number}"
    command("ip", "link", "add", "name", device, "netns", place.namespace, "type", "veth", "peer", "name", port, "netns", lan.switch)  # fmt: skip
    command("ip", "-n", lan.switch, "-batch", "-", script=(f"link set {port} master lan up",))
    here = (f"address add 10.65.0.{number}/24 dev {device}", f"link set {device} up")
    command("ip", "-n", place.namespace, "-batch", "-", script=here)


def test_kill_and_return(stage: Stage) -> None:
    """The next takes over within the documented bound, by which keepalived's at the same pace is known; the first takes the lead back when it returns."""
    stage.whole()
    for name in NAMES:
        details = stage.status(name)["details"]
        assert details["rpStatus"] == details["igmpStatus"] == {"state": "healthy"}, details
    killed = now()
    stage.members["a"].kill()
    stage.until(lambda: stage.leaders == ["b"], "the second leads")
    assert 0 < stage.said("b", "active")[-1] - killed < 5 * CYCLE_S
    assert stage.said("c", "active") == []
    stage.whole()
    up, down = stage.said("a", "active")[-1], stage.said("b", "standby")[-1]
    assert down <= up + 0.02, "one stopped before the other began"


def test_orderly_stop(stage: Stage) -> None:
    """A planned hand-over takes a cycle."""
    stage.whole()
    stage.members["a"].signal(signal.SIGTERM)
    stage.until(lambda: stage.leaders == ["b"], "the second leads")
    stopped = stage.said("a", "standby")[-1]
    assert 0 <= stage.said("b", "active")[-1] - stopped < 1.5 * CYCLE_S  # others share this machine
    assert stage.members["a"].wait() == 0


def test_freeze(stage: Stage) -> None:
    """Who was frozen passes on nothing of what waited for it, and stands by."""
    stage.whole()
    sock = inside(stage.place("c").namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    door = ("10.65.0.101", DOOR)
    sock.sendto(b"while it leads", door)
    stage.until(lambda: stage.said("a", "passed 1 dropped 0") != [], "one is passed on")
    frozen = now()
    stage.members["a"].signal(signal.SIGSTOP)
    stage.until(lambda: stage.acts("b"), "the second leads")
    assert stage.said("b", "active")[-1] - frozen < 5 * CYCLE_S
    for _ in range(50):
        sock.sendto(b"late", door)
    sock.close()
    woke = now()
    stage.members["a"].signal(signal.SIGCONT)
    stage.until(lambda: stage.said("a", "passed 1 dropped 50") != [], "all are dropped")
    assert stage.said("a", "standby")[-1] >= woke
    assert stage.said("a", "standby")[-1] <= stage.said("a", "passed 1 dropped 1")[0]
    stage.whole()


def test_stall(stage: Stage) -> None:
    """Who stands still between hearing of datagrams and reading them asks for its right first: no timer and no ballot has told it meanwhile."""
    stage.whole()
    a = stage.members["a"]
    stood = len(stage.said("a", "standby"))
    sock = inside(stage.place("c").namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    a.signal(signal.SIGSTOP)  # so that it hears of all this at once
    stage.order("a", f"stall {5 * CYCLE_S}")
    for _ in range(50):
        sock.sendto(b"in time, but not read", ("10.65.0.101", DOOR))
    sock.close()
    a.signal(signal.SIGCONT)
    stage.until(lambda: stage.said("a", "stalled") != [] and stage.acts("b"), "the second leads")
    stage.until(lambda: len(stage.said("a", "standby")) > stood, "the first stands by")
    counted = r"^passed (\d+) dropped (\d+) "
    told = [tuple(map(int, each)) for each in re.findall(counted, a.log.read_text(), re.M)]
    assert len(told) > 50 and told[-50][1] == told[-51][1] + 1, "the very first is dropped"
    assert told[-1][0] == told[-51][0], "and so are the others"
    stage.whole()


@pytest.mark.parametrize("way", ["igmpStatus", "rpStatus"])
def test_one_way_filtered(stage: Stage, way: str) -> None:
    """Multicast filtered in the switch, then the Rallypoint dead: nobody else leads, and the status says which way is gone."""
    stage.whole()
    terms = [stage.status(name)["details"]["term"] for name in NAMES]
    ups = [stage.said(name, "active") for name in NAMES]
    ports = [f"port{101 + at}" for at in range(3)]
    if way == "igmpStatus":
        flags = "mcast_flood off"
        command("ip", "-n", stage.lan.switch, "link", "set", "lan", "type", "bridge", "mcast_snooping", "0")
        for port in ports:
            command("bridge", "-n", stage.lan.switch, "link", "set", "dev", port, *flags.split())
    else:
        stage.town.kill("rp1")
    try:
        stage.until(
            lambda: all(stage.status(name)["details"][way]["state"] == "unhealthy" for name in NAMES),
            f"{way} is unhealthy",
        )
        time.sleep(10 * CYCLE_S)
        for name in NAMES:
            told = stage.status(name)
            assert told["state"] == "healthy" and told["details"]["leader"] == stage.ids["a"]
    finally:
        if way == "igmpStatus":
            for port in ports:
                command("bridge", "-n", stage.lan.switch, "link", "set", "dev", port, "mcast_flood", "on")
        else:
            stage.town.start("rp1")
    stage.until(
        lambda: all(stage.status(name)["details"][way]["state"] == "healthy" for name in NAMES),
        f"{way} is healthy again",
    )
    assert [stage.said(name, "active") for name in NAMES] == ups
    assert [stage.status(name)["details"]["term"] for name in NAMES] == terms


def test_document(stage: Stage) -> None:
    """What the active member is told all members have on their disks; a standby refuses."""
    stage.whole()
    stage.order("b", "by the wrong one")
    stage.order("a", "patches 1")
    for name in ("b", "c"):
        stage.until(lambda name=name: stage.said(name, "learned patches 1") != [], f"{name} has it")  # type: ignore[misc]
    assert (
        "refused the group's document is changed by its active member only"
        in stage.members["b"].log.read_text()
    )
    for name in NAMES:
        path = stage.folder / name / f"group-{GROUP_ID}-{stage.ids[name][:8]}.document"
        assert path.stat().st_mode & 0o777 == 0o600


def test_watch(stage: Stage) -> None:
    """Whoever watches sees the members, their states, who leads and why, on both ways, and is not seen."""
    stage.whole()
    done = subprocess.run(
        stage.place("c").command(
            BIN / "ice", "election", "watch", "test", "--once", "--json", "--config", stage.folder / "c.toml"
        ),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    last = next(each for each in reversed(told) if each["event"] == "election")
    assert last["leader"] == stage.ids["a"]
    assert [each["name"] for each in last["members"]] == list(NAMES)
    assert {way for each in last["members"] for way in each["heard_s_ago"]} == {"rallypoint", "multicast"}
    assert last["summary"].startswith("a leads")


def test_hostile_ballots(stage: Stage) -> None:
    """Forged, replayed, oversized, foreign, of another time and nonsense on the multicast group: counted, and nothing changes."""
    stage.whole()

    def open_it() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(BALLOTS)
        member = struct.pack("=4s4si", socket.inet_aton(BALLOTS[0]), bytes(4), socket.if_nametoindex("eth0"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.settimeout(5)
        return sock

    host = stage.lan.hosts[0]
    sock = inside(host.namespace, open_it)
    ballot = b""
    while ballot[:1] != b"{" or stage.ids["a"].encode() not in ballot:
        ballot = sock.recv(2_048)
    time.sleep(3 * CYCLE_S)  # so that newer ones have come
    terms = [stage.status(name)["details"]["term"] for name in NAMES]
    told = [stage.said(name, what) for name in NAMES for what in ("active", "standby")]
    forged = re.sub(rb'"votes":\d+', b'"votes":99', ballot)
    resigned = re.sub(rb'"votes":\d+', b'"resigned":true,"votes":-1', ballot).replace(
        GROUP_ID.encode(), b"0" * 36, 1
    )
    hostile = [ballot, forged, resigned, ballot.replace(GROUP_ID.encode(), str(uuid4()).encode())]
    hostile += [b"{" * 1_201, b"{}", b'{"id":1.5}', b"\0" * 100, b"\1{}", secrets.token_bytes(300)]
    hostile += [ballot[:-1] + b',"votes":99}', ballot.replace(b'"hmac"', b'"HMAC"'), ballot[:100]]
    salt = bytes.fromhex(
        (stage.folder / "election.salt").read_text()
    )  # what comes now is signed as it should be
    claim = Ballot(stage.ids["c"], 99, time.time_ns() // 1_000_000, (GROUP_ID,), (GROUP_ID,), True, stage.ids["c"], 200, 1, hears=3)  # fmt: skip
    hostile += [encode(attrs.evolve(claim, ms=claim.ms + ahead), salt) for ahead in (3_600_000, -3_600_000)]
    hostile += [encode(attrs.evolve(claim, id=str(uuid4())), salt)]
    for _ in range(20):
        for data in hostile:
            sock.sendto(data, BALLOTS)
        time.sleep(0.005)
    sock.close()
    time.sleep(3 * CYCLE_S)
    assert stage.leaders == ["a"]
    assert [stage.status(name)["details"]["term"] for name in NAMES] == terms
    assert [stage.said(name, what) for name in NAMES for what in ("active", "standby")] == told
    stage.members["c"].kill()  # a change, so that the others write their status anew
    stage.members["b"].signal(signal.SIGTERM)
    stage.members["b"].wait()
    counts = stage.status("b")["details"]["ballots"]
    for reason in (
        "replay",
        "hmac",
        "wrong-group",
        "size",
        "json",
        "future",
        "not-member",
        "repeated-key",
        "hmac-form",
    ):
        assert counts.get(reason, 0) >= 20, counts
