"""Ten thousand links come and go, in every way that a link can end, and the Rallypoint is as it was before."""

import gc
import json
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ice.testing.site import Site

from .conftest import Program
from .stranger import BYE, HELLO, JOIN, Stranger, context, frame

CONNECTS = 10_000
THREADS = 4
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # SO_LINGER on, 0 s: closing sends RST
GROWTH_KIB = 6_000  # what 10,000 links may leave behind in allocators: 600 bytes each

LIMITS = """
[rallypoint.limits]
links_per_identity = 10000
handshakes = 1000
handshakes_per_address = 1000
[log]
level = "warn"
"""


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def come_and_go(address: tuple[str, int], tls: ssl.SSLContext, identity: str, number: int) -> None:
    """One link, ended in one of six ways."""
    way = number % 6
    if way == 0:  # before TLS
        raw = socket.create_connection(address, 10)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        raw.close()
        return
    if way == 1:  # in the handshake
        raw = socket.create_connection(address, 10)
        raw.sendall(b"\x16\x03\x01\x00\x40\x01")
        raw.close()
        return
    with Stranger(address, tls, identity, greet=way > 2) as link:
        if way == 2:  # after the handshake, and HELLO on its way
            link.send(HELLO, {"version": 1, "role": "client", "id": identity})
        elif way == 3:  # joined and talking, then reset
            link.join(f"stream {number % 50}")
            link.talk(f"stream {number % 50}", b"x" * 100)
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif way == 4:  # an orderly end
            link.join("everybody")
            link.talk("everybody", b"x" * 100)
            link.send(BYE, {"code": "leaving", "reason": "done"})
        else:  # a broken rule, and the answer not read
            link.raw(frame(JOIN, {"txn": 1, "stream": "everybody"}) + frame(HELLO, {}))


def test_ten_thousand_links(start: Callable[..., Program], tmp_path: Path) -> None:
    """No descriptor, link, stream or memory stays behind."""
    site = Site.create(tmp_path / "site", clients=("mallory",), extra_toml=LIMITS)
    program = start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", site.config)
    pid, address = program.process.pid, ("127.0.0.1", site.port)

    def status() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.http_port}/status", timeout=15) as answer:
            return json.loads(answer.read())

    deadline = time.monotonic() + 30
    while True:
        try:
            status()
            break
        except OSError:
            assert time.monotonic() < deadline, program.output()
            time.sleep(0.05)
    member = site.client("mallory")
    tls = context(site.pki / "authority.pem", member.certificate, member.key)
    failures: list[BaseException] = []

    def crowd(count: int) -> None:
        def some(first: int) -> None:
            try:
                for number in range(first, count, THREADS):
                    come_and_go(address, tls, str(member.id), number)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=some, args=(first,)) for first in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        until = time.monotonic() + 30
        while (now := status())["links_total"] or now["streams_total"]:
            assert time.monotonic() < until, now
            time.sleep(0.1)
        time.sleep(1.5)  # who is cut off is let go after a second

    def tally() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir(f"/proc/{pid}/fd")), resident_kib(pid)

    crowd(CONNECTS // 5)  # allocators and caches fill
    files, memory = tally()
    crowd(CONNECTS)
    files_after, memory_after = tally()
    assert files_after <= files + 1, (files, files_after)
    assert memory_after - memory <= GROWTH_KIB, (memory, memory_after)
    assert "Traceback" not in program.output(), program.output()
