"""``ice watch`` as a process of its own: a radio on loopback that loses packets, a group where nobody speaks, and a group of which the mission says that it is sealed."""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ice.media.rtp import Packet

from .conftest import Program
from .test_who import _multicast_on_lo

pytestmark = pytest.mark.skipif(not _multicast_on_lo(), reason="no loopback interface to speak on")

RED, BLUE, GREEN = "239.255.78.1", "239.255.78.2", "239.255.78.3"


def test_watch(start: Callable[..., Program], tmp_path: Path) -> None:
    """Who talks on a mission's groups is told as it happens, with codec, loss and rate; Ctrl-C gives the summary."""
    port = 30_000 + os.getpid() % 20_000
    groups = [
        {"type": 1, "name": name, "interfaceName": "lo", "rx": {"address": group, "port": port},
         "tx": {"address": group, "port": port}} | more
        for name, group, more in (("Red", RED, {}), ("Blue", BLUE, {"cryptoPassword": "1f" * 32}), ("Green", GREEN, {}))
    ]  # fmt: skip
    (tmp_path / "mission.json").write_text(json.dumps({"name": "Exercise", "groups": groups}))
    program = start("ice", "watch", "mission.json", "--json", "--capture", "seen.pcap", cwd=tmp_path)
    program.wait_for(GREEN)
    over = threading.Event()

    def talk() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            on_lo = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex("lo"))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, on_lo)
            for number in range(60):
                if number not in (20, 21, 22):
                    sock.sendto(Packet(8, number, number * 160, 0xABCD, bytes(160)).encode(), (RED, port))
                sock.sendto(b"\x80\x08" + os.urandom(80), (BLUE, port))
                if over.wait(0.02):
                    return

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        program.wait_for('"ended"')
        began = time.monotonic()
        while program.output().count('"ended"') < 2 and time.monotonic() - began < 5:
            time.sleep(0.02)
    finally:
        over.set()
        talking.join()
    assert program.end(2) == 0
    told = [json.loads(line) for line in program.output().splitlines() if line.startswith("{")]
    ended = {each["name"]: each for each in told if each["event"] == "ended"}
    red, blue = ended["Red"], ended["Blue"]
    assert (red["codec"], red["ssrc"], red["burst_packets"], red["burst_lost"]) == ("pcma", "0000abcd", 57, 3)
    assert red["jitter_ms"] < 20
    assert (blue["codec"], blue["ssrc"], blue["burst_packets"]) == ("sealed", None, 60)
    summary = told[-1]
    assert summary["event"] == "summary"
    assert {each["name"]: (each["up"], len(each["voices"])) for each in summary["groups"]} == {
        "Red": (True, 1),
        "Blue": (True, 1),
        "Green": (True, 0),
    }
    assert summary["captured"] == 117
    assert (tmp_path / "seen.pcap").stat().st_mode & 0o777 == 0o600
    assert packets_in((tmp_path / "seen.pcap").read_bytes()) == {RED: 57, BLUE: 60}


def packets_in(data: bytes) -> dict[str, int]:
    """How many packets of a capture went where."""
    found: dict[str, int] = {}
    at = 24
    while at < len(data):
        to = socket.inet_ntoa(data[at + 32 : at + 36])
        found[to] = found.get(to, 0) + 1
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    return found
