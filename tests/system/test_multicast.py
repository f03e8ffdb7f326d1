"""Streams on a local network of real hosts: groups that share a port, interfaces that come and go, what is on the wire."""

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from .conftest import Program
from .lan import Host, Lan, Packet
from .roads import inside, obstacle

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))

PORT = 5_000
ONE, TWO = f"239.255.73.1:{PORT}", f"239.255.73.2:{PORT}"
SIX, SEVEN = f"[ff15::73:1]:{PORT}", f"[ff15::73:2]:{PORT}"
BACK_S = 3.0  # an interface that is there again is used again within seconds

Start = Callable[..., Program]


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    """A network of three hosts."""
    lan = Lan(3)
    yield lan
    lan.close()


def heard(program: Program) -> set[tuple[str, str]]:
    """On which stream somebody heard what was said on which: ``{("one", "anna on one")}``."""
    return {
        (line.split(" ")[1], line.split(" ", 2)[2].rpartition(" ")[0])
        for line in program.output().splitlines()
        if line.startswith("heard ")
    }


def count(program: Program, stream: str, name: str) -> int:
    """A counter of the latest counts line."""
    lines = [line for line in program.output().splitlines() if line.startswith(f"counts {stream} ")]
    found = re.findall(rf"\b{name}=(\d+)", lines[-1]) if lines else []
    return sum(map(int, found)) if found else 0


def wait_until(fact: Callable[[], bool], timeout_s: float, *programs: Program) -> float:
    """Wait for a fact; how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if fact():
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError("\n---\n".join(program.output()[-3_000:] for program in programs))


def careless(host: Host, group: str) -> socket.socket:
    """A socket as many programs open it: bound to every address, member of one group."""

    def open_it() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", PORT))
        index = socket.if_nametoindex("eth0")
        member = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.settimeout(5.0)
        return sock

    return inside(host.namespace, open_it)


def test_two_groups_on_one_port(lan: Lan, start: Start) -> None:
    """One host, four groups on one port, in one program and in another: nobody hears a packet of a group that is not his, while a careless socket does."""
    first, second, _ = lan.hosts
    anna = start(
        *first.party(f"one,{ONE},{ONE},eth0", f"two,{TWO},{TWO},eth0", f"six,{SIX},{SIX},eth0", name="anna")
    )
    bert = start(*first.party(f"two,{TWO},{TWO},eth0", f"seven,{SEVEN},{SEVEN},eth0", name="bert"))
    carl = start(*second.party(f"one,{ONE},{ONE}", f"six,{SIX},{SIX}", f"seven,{SEVEN},{SEVEN}", name="carl"))
    expected = [
        (anna, {("one", "carl on one"), ("two", "bert on two"), ("six", "carl on six")}),
        (bert, {("two", "anna on two"), ("seven", "carl on seven")}),
        (carl, {("one", "anna on one"), ("six", "anna on six"), ("seven", "bert on seven")}),
    ]
    wait_until(lambda: all(words <= heard(each) for each, words in expected), 15, anna, bert, carl)
    with careless(first, ONE.partition(":")[0]) as sock:
        wait_until(lambda: b" on two" in sock.recv(100), 5, anna)  # so there was something to be kept apart
    time.sleep(0.3)
    for program, words in expected:
        assert heard(program) == words, program.output()
    wait_until(lambda: count(anna, "one", "own") > 0, 5, anna)  # by the kernel's loopback, and not heard
    assert count(bert, "seven", "other_interface") == 0


def test_one_group_on_two_networks(lan: Lan, start: Start) -> None:
    """The same group and port on two interfaces, by two programs and by one: what is said on one network is not heard on the other."""
    first, second, _ = lan.hosts
    with lan.second(first, second):
        lines = [
            [f"four,{ONE},{ONE},{device}", f"six,{SIX},{SIX},{device}", f"name={device}"]
            for device in ("eth0", "eth1")
        ]
        apart = [start(*first.party(*words)) for words in lines]
        both = start(
            *second.party(
                *(word.replace(",", f"{at},", 1) for at, words in enumerate(lines) for word in words[:2]),
                name="both",
            )
        )
        wait_until(
            lambda: all(len(heard(program)) >= 2 for program in apart) and len(heard(both)) >= 4,
            15,
            *apart,
            both,
        )
        time.sleep(0.5)
        for at, program in enumerate(apart):
            assert heard(program) == {(each, f"both on {each}{at}") for each in ("four", "six")}
        assert heard(both) == {
            (f"{each}{at}", f"eth{at} on {each}") for each in ("four", "six") for at in (0, 1)
        }


def test_interface_that_comes_and_goes(lan: Lan, start: Start) -> None:
    """A cable pulled, an address changed, an interface taken out and put in again: each is said, and heard again within seconds."""
    first, second, _ = lan.hosts
    anna = start(*first.party(f"one,{ONE},{ONE},eth0", f"six,{SIX},{SIX},eth0", name="anna"))
    bert = start(*second.party(f"one,{ONE},{ONE}", f"six,{SIX},{SIX}", name="bert"))

    def both_hear() -> None:
        begin = [len(program.output()) for program in (anna, bert)]
        wait_until(
            lambda: all(
                f"heard {stream} " in program.output()[at:]
                for program, at in zip((anna, bert), begin, strict=True)
                for stream in ("one", "six")
            ),
            BACK_S,
            anna,
            bert,
        )

    def paths() -> list[str]:
        return [line for line in anna.output().splitlines() if line.startswith("path one ")]

    wait_until(lambda: len(heard(anna)) == 2 and len(heard(bert)) == 2, 15, anna, bert)
    first.unplug()
    wait_until(lambda: "path one down there is no interface eth0" in anna.output(), BACK_S, anna)
    wait_until(lambda: "path six down" in anna.output(), BACK_S, anna)
    first.plug()
    wait_until(lambda: len(paths()) == 3, BACK_S, anna)
    both_hear()

    first.cable(False)
    wait_until(lambda: "no carrier" in paths()[-1], BACK_S, anna)
    first.cable(True)
    wait_until(lambda: " up " in paths()[-1], BACK_S, anna)
    both_hear()

    first.ip("address", "delete", f"{first.address}/24", "dev", "eth0")
    wait_until(lambda: "no IPv4 address" in paths()[-1], BACK_S, anna)
    first.ip("address", "add", "10.65.0.77/24", "dev", "eth0")
    wait_until(lambda: " up " in paths()[-1], BACK_S, anna)
    both_hear()
    first.ip("address", "add", f"{first.address}/24", "dev", "eth0")
    wait_until(lambda: count(anna, "one", "rejoins") >= 1, BACK_S, anna)
    both_hear()
    first.ip("address", "delete", "10.65.0.77/24", "dev", "eth0")
    first.ip("address", "replace", f"{first.address}/24", "dev", "eth0")


def test_on_the_wire(lan: Lan, start: Start) -> None:
    """The priority class is the code point on the wire, the time to live its hops, for both families; and after silence memberships are reported again."""
    first = lan.hosts[0]
    tap = first.tap()
    classes = {0: 0, 1: 40, 2: 34, 3: 46}
    places = [
        f"p{priority},239.255.73.{10 + priority}:{PORT},239.255.73.{10 + priority}:{PORT},eth0,priority={priority},ttl=5"
        for priority in classes
    ]
    anna = start(*first.party(*places, f"six,{SIX},{SIX},eth0,ttl=9", name="anna", rejoin=1))
    for priority, dscp in classes.items():
        packet = tap.until(lambda p, to=f"239.255.73.{10 + priority}": p.protocol == 17 and p.to == to)  # type: ignore[misc]
        assert (packet.dscp, packet.hops, packet.source) == (dscp, 5, first.address)
        assert packet.payload.startswith(b"anna on p%d " % priority)
    packet = tap.until(lambda p: p.version == 6 and p.protocol == 17)
    assert (packet.dscp, packet.hops, packet.to) == (46, 9, SIX[1:].partition("]")[0])

    def reports(group: bytes, protocol: int, types: tuple[int, ...]) -> Callable[[Packet], bool]:
        return lambda p: p.protocol == protocol and p.data[0] in types and group in p.data

    anna.wait_for("counts p0")
    wait_until(lambda: count(anna, "p0", "rejoins") > 0, 5, anna)
    tap.close()
    tap = first.tap()  # what is reported now is reported again
    tap.until(reports(socket.inet_aton("239.255.73.10"), 2, (0x16, 0x22)), 5)
    tap.until(reports(socket.inet_pton(socket.AF_INET6, "ff15::73:1"), 58, (131, 143)), 5)
    tap.close()


def test_places_of_every_kind(lan: Lan, start: Start) -> None:
    """Other groups there than back, one source only, machine to machine, broadcast, loopback off: each heard by those who should, and nobody else."""
    first, second, third = lan.hosts
    here, there = f"{first.address}:{PORT + 2}", f"{second.address}:{PORT + 2}"
    everybody = f"255.255.255.255:{PORT + 4}"
    network = f"10.65.0.255:{PORT + 6}"
    anna = start(
        *first.party(
            f"pair,{ONE},{TWO},eth0",
            f"from2,{SIX},{SIX},eth0,source={second.address6}",
            f"peer,{here},{there}",
            f"all,{everybody},{everybody},eth0",
            f"net,{network},{network},eth0",
            f"quiet,239.255.73.30:{PORT},239.255.73.30:{PORT},eth0,loopback=0",
            name="anna",
        )
    )
    dora = start(*first.party(f"quiet,239.255.73.30:{PORT},239.255.73.30:{PORT},eth0", name="dora"))
    bert = start(
        *second.party(
            f"pair,{TWO},{ONE},eth0",
            f"from2,{SIX},{SIX},eth0",
            f"peer,{there},{here}",
            f"all,{everybody},{everybody},eth0",
            f"net,{network},{network}",
            f"quiet,239.255.73.30:{PORT},239.255.73.30:{PORT},eth0",
            name="bert",
        )
    )
    carl = start(
        *third.party(
            f"from2,{SIX},{SIX},eth0",
            f"quiet,239.255.73.30:{PORT},239.255.73.30:{PORT},eth0,source={second.address}",
            name="carl",
        )
    )
    both = ("pair", "from2", "peer", "all", "net", "quiet")
    expected = [
        (
            anna,
            {
                *((each, f"bert on {each}") for each in both),
                ("quiet", "dora on quiet"),
                ("quiet", "carl on quiet"),
            },
        ),
        (
            bert,
            {
                *((each, f"anna on {each}") for each in both),
                *((each, f"carl on {each}") for each in ("from2", "quiet")),
                ("quiet", "dora on quiet"),
            },
        ),
        (carl, {("from2", "anna on from2"), ("from2", "bert on from2"), ("quiet", "bert on quiet")}),
        (dora, {("quiet", "bert on quiet"), ("quiet", "carl on quiet")}),
    ]
    wait_until(lambda: all(words <= heard(each) for each, words in expected), 15, anna, bert, carl, dora)
    time.sleep(0.3)
    for program, words in expected:
        assert heard(program) == words, program.output()


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed (apt install nftables)")
def test_a_firewall_of_ones_own(lan: Lan, start: Start) -> None:
    """What this machine's own firewall refuses to send closes the path, with the reason, and opens it when it no longer does."""
    first = lan.hosts[0]
    anna = start(*first.party(f"one,{ONE},{ONE},eth0", name="anna"))
    anna.wait_for("path one up")
    rules = "table ip ours { chain out { type filter hook output priority 0; ip daddr 239.255.73.1 drop; }; }"
    subprocess.run(first.command("nft", rules), check=True)
    said = anna.wait_for("path one down cannot send to", 5)
    assert "firewall" in said
    subprocess.run(first.command("nft", "delete table ip ours"), check=True)
    wait_until(lambda: anna.output().count("path one up") == 2, 5, anna)
    wait_until(lambda: "'eperm'" in anna.output(), 3, anna)
