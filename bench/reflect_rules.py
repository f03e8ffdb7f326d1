"""How long a reflector with many rules takes to start, and whether each group stays by itself: real daemons in three namespaces.

``sudo python bench/reflect_rules.py [--rules 500]``

A Rallypoint and two reflectors in the middle of :mod:`bench.reflect`'s road have as many rules as are asked for, one stream and one group each, all on one port. *Start* is from the
start of the process until its ``/readyz`` says that every rule works: Python's own start, the link, every group joined, every stream joined. Then each group is said one thing on the
left, and what each group hears on the right is held against it. Exit status 0 when all is as it must be.
"""

import argparse
import contextlib
import ctypes
import http.client
import json
import os
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.compiling import BUILD
from bench.reflect import PORT, CannotMeasure, Road, ahead
from bench.reflect_site import add, begin, last_words, running

PATIENCE_S = 60.0
_T = TypeVar("_T")


def inside(namespace: str, what: Callable[[], _T]) -> _T:
    """Do something in a namespace: sockets stay where they were made."""
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        _enter(there.fileno())
        try:
            return what()
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(
        descriptor, 0x4000_0000
    ):  # CLONE_NEWNET; os.setns came with 3.12
        raise OSError(ctypes.get_errno(), "setns")


def group(number: int) -> str:
    """The address of a rule's group."""
    return f"239.255.{100 + number // 250}.{1 + number % 250}"


def write(folder: Path, rules: int) -> None:
    """Certificates and configurations."""
    authority = begin(folder, f"joins = {max(256, rules)}", http="127.0.0.1:7480")
    for name, interface, port in (("left", "f0", 7481), ("right", "f1", 7482)):
        each = "".join(
            f'[[reflector.rules]]\nstream = "stream-{number}"\nrx = "{group(number)}:{PORT}"\nttl = 8\n'
            for number in range(rules)
        )
        add(folder, authority, name, f'interface = "{interface}"', each, http=f"127.0.0.1:{port}")


def readiness(namespace: str, port: int) -> str:
    """What ``/readyz`` says: "" where all is well."""

    def ask() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace").strip()
            return "" if answer.status == 200 else said or str(answer.status)
        except OSError as error:
            return str(error)
        finally:
            connection.close()

    return inside(namespace, ask)


@contextlib.contextmanager
def daemon(folder: Path, namespace: str, name: str, kind: str, port: int) -> Iterator[float]:
    """One daemon, ready; how long that took, in seconds."""
    began = time.monotonic()
    with running(folder, namespace, name, kind) as process:
        while said := readiness(namespace, port):
            if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                raise CannotMeasure(f"{name} is not ready: {said}\n{last_words(folder)}")
            time.sleep(0.01)
        yield time.monotonic() - began


def cross_talk(road: Road, rules: int) -> list[str]:
    """Say one thing in each group on the left; what is wrong with what each hears on the right, in sentences."""

    def ear(number: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, 49, 0)  # IP_MULTICAST_ALL
        sock.bind((group(number), PORT))
        member = struct.pack("=4s4si", socket.inet_aton(group(number)), bytes(4), socket.if_nametoindex("e0"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.setblocking(False)
        return sock

    def mouth() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex("e0"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        return sock

    ears = inside(road.right, lambda: [ear(number) for number in range(rules)])
    with inside(road.left, mouth) as sock:
        for number in range(rules):
            sock.sendto(b"said to group %d" % number, (group(number), PORT))
            time.sleep(0.0005)
    time.sleep(1.0)
    wrong = []
    for number, each in enumerate(ears):
        heard = []
        with each, contextlib.suppress(BlockingIOError):
            while True:
                heard.append(each.recv(2_000))
        if heard != [b"said to group %d" % number]:
            wrong.append(f"group {number} heard {heard}")
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", type=int, default=500)
    rules = parser.parse_args().rules
    try:
        with ahead(), Road() as road:
            folder = BUILD / road.middle
            write(folder, rules)
            with (
                contextlib.ExitStack() as held,
                daemon(folder, road.middle, "rallypoint", "ice-rallypoint", 7480),
                daemon(folder, road.middle, "right", "ice-reflector", 7482) as one,
                daemon(folder, road.middle, "left", "ice-reflector", 7481) as other,
            ):
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                wrong = cross_talk(road, rules)
    except CannotMeasure as missing:
        print(missing, file=sys.stderr)
        return 1
    print(
        f"{rules} rules: ready {one:.2f} s and {other:.2f} s after the start of the process; load average {os.getloadavg()[0]:.1f}"
    )
    print(
        f"each of {rules} groups said one thing: "
        + (f"{len(wrong)} heard something else" if wrong else "each heard its own, once")
    )
    for each in wrong[:5]:
        print(each)
    print(json.dumps({"rules": rules, "start_s": [one, other], "wrong": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
