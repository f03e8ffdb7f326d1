"""Places with roads between them: network namespaces, each with one way out, to a router where every two places have a road of their own.

::

    place 1: 10.64.1.2 --veth-- 10.64.1.1                10.64.2.1 --veth-- 10.64.2.2 :place 2
                                         \\  the router  /
    place 3: 10.64.3.2 --veth-- 10.64.3.1                10.64.4.1 --veth-- 10.64.4.2 :place 4

The router is a namespace too. What happens to one road happens in its routing rules (``ip rule from A to B …``), which need nothing but
iproute2 and concern two addresses alone, so that any road can be cut or slowed while all others stay as they are:

- *silence*: a rule ``blackhole``; packets vanish, nobody is told.
- *reset*: both ends' connections are destroyed (``ss -K``), which sends the resets that a crashed process sends; then a rule ``prohibit`` refuses new ones.
- *slow*: a rule that leads through a TUN device, where `late_road.py` holds each packet. (Not every kernel has ``netem``.)

Namespaces carry the process id in their name: sites at once do not meet, and what a killed test left behind is found and removed by the next one.
Addresses are inside the namespaces only.
"""

import ctypes
import functools
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x4000_0000
OURS = re.compile(r"ice(\d+)-")
CUT_RULES, SLOW_RULES = (
    1_000,
    20_000,
)  # preferences, the first that fits decides: a cut road is cut, slow or not
SLOW_TABLE = "100"
SLOW_DEVICE = "late"
MOST_PLACES = 99
COMMAND_S = 30.0

ROUTER_SETTINGS = {
    "net/ipv4/ip_forward": 1,
    "net/ipv4/conf/all/rp_filter": 0,  # late packets come from the TUN device
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/icmp_ratelimit": 0,  # each refused connection is told so
}


class RoadsError(Exception):
    """A command failed; the message is the command and what it said."""


def command(*words: str, script: Iterable[str] = ()) -> str:
    """Run a command, with lines for its standard input; what it said. Raises :class:`RoadsError`."""
    done = subprocess.run(
        words,
        input="".join(f"{line}\n" for line in script),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode:
        raise RoadsError(
            f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def inside(namespace: str, call: Callable[[], T]) -> T:
    """``call()`` in a network namespace: in a thread of its own, which goes there and never comes back.

    A socket made so belongs to the namespace for life, whoever uses it. Raises what ``call`` raises.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def go() -> None:
        try:
            door = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(door, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            finally:
                os.close(door)
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@functools.cache
def obstacle() -> str | None:
    """Why there can be no roads on this machine, or None: tried once."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "ss"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt install iproute2)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun, which slow roads are made of"
    name = f"ice{os.getpid()}-{secrets.token_hex(2)}-try"
    try:
        command("ip", "netns", "add", name)
        try:
            command("ip", "-n", name, "rule", "add", "pref", "1000", "to", "10.64.1.2", "blackhole")
            command("ip", "netns", "exec", name, "true")
        finally:
            command("ip", "netns", "delete", name)
    except (RoadsError, OSError, subprocess.TimeoutExpired) as error:
        return f"no network namespaces with rules here: {error}"
    return None


def sweep() -> list[str]:
    """Remove the namespaces of processes that have ended without doing so; their names."""
    removed = []
    for name in sorted(os.listdir(NAMESPACES)) if NAMESPACES.exists() else ():
        match = OURS.match(name)
        if match and not Path("/proc", match[1]).exists():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            removed.append(name)
    return removed


@attrs.frozen
class Place:
    """A network namespace with one address."""

    name: str
    number: int
    namespace: str

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"10.64.{self.number}.2"

    @property
    def gateway(self) -> str:
        """The router's end of its way out."""
        return f"10.64.{self.number}.1"

    @property
    def door(self) -> str:
        """The router's device towards it."""
        return f"to-{self.number}"

    def command(self, *words: object) -> list[str]:
        """A command as it is to be started here; it becomes the process that is started."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A TCP connection from here; raises OSError."""
        sock = inside(self.namespace, socket.socket)
        try:
            sock.settimeout(timeout_s)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock


class Roads:
    """See the module's docstring. Close it in the end, whatever happened."""

    def __init__(self, names: Sequence[str]) -> None:
        """Build a place for each name. Raises :class:`RoadsError`, with nothing left behind."""
        if not 0 < len(names) <= MOST_PLACES or len(set(names)) != len(names):
            raise RoadsError(f"expected 1 to {MOST_PLACES} different names, got {names}")
        sweep()
        begin = f"ice{os.getpid()}-{secrets.token_hex(2)}-"
        self.router = begin + "router"
        self.places = {name: Place(name, number, begin + name) for number, name in enumerate(names, 1)}
        #: How each road that is cut was cut.
        self.cuts: dict[frozenset[str], str] = {}
        #: One way, in seconds, of each road that is slow.
        self.slowed: dict[frozenset[str], float] = {}
        self._late: subprocess.Popen[bytes] | None = None
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    # -- what happens to roads -----------------------------------------------------------------------------------------

    def cut(self, a: str, b: str, how: str = "silence") -> None:
        """Nothing passes between two places any more, and nobody is told (``silence``) or connections end at once (``reset``)."""
        self.cut_many([(a, b)], how)

    def cut_many(self, pairs: Iterable[tuple[str, str]], how: str = "silence") -> None:
        """Cut several roads at one time; one that is cut already stays as it is."""
        if how not in ("silence", "reset"):
            raise ValueError(f"expected silence or reset, got {how!r}")
        fresh = [pair for pair in pairs if frozenset(pair) not in self.cuts]
        if how == "reset":
            for a, b in fresh:
                self._kill_connections(a, b)  # before the rule: the far end is to hear of it
        action = "blackhole" if how == "silence" else "prohibit"
        self._in_router(
            f"rule add pref {self._preference(CUT_RULES, one, other)} from {one.address} to {other.address} {action}"
            for a, b in fresh
            for one, other in self._both_ways(a, b)
        )
        for a, b in fresh:
            self.cuts[frozenset((a, b))] = how
            if how == "reset":  # what was opened in the moment between
                self._kill_connections(a, b)
                self._kill_connections(b, a)

    def slow(self, a: str, b: str, delay_s: float) -> None:
        """Packets between two places take so much longer, each way; 0: no more."""
        road = frozenset((a, b))
        if delay_s <= 0:
            self._quicken([road])
            return
        late = self._late_road()
        for one, other in self._both_ways(a, b):
            self._order(late, f"delay {one.address} {other.address} {delay_s:.6f}")
        if road not in self.slowed:
            self._in_router(
                f"rule add pref {self._preference(SLOW_RULES, one, other)} from {one.address} to {other.address} "
                f"iif {one.door} lookup {SLOW_TABLE}"
                for one, other in self._both_ways(a, b)
            )
        self.slowed[road] = delay_s

    def partition(self, *sides: Sequence[str], how: str = "silence") -> None:
        """Cut every road between places of different sides."""
        self.cut_many(
            [
                (a, b)
                for number, side in enumerate(sides)
                for other in sides[number + 1 :]
                for a in side
                for b in other
            ],
            how,
        )

    def heal(self, *between: str) -> None:
        """The road between two places is well again; without names, all roads are."""
        if between:
            a, b = between
            self.heal_many([(a, b)])
        else:
            self.heal_many([(a, b) for a, b in map(sorted, {*self.cuts, *self.slowed})])

    def heal_many(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Several roads are well again, at one time."""
        roads = [frozenset(pair) for pair in pairs]
        cut = [road for road in roads if self.cuts.pop(road, None) is not None]
        self._in_router(
            f"rule del pref {self._preference(CUT_RULES, one, other)}"
            for road in cut
            for one, other in self._both_ways(*road)
        )
        self._quicken(roads)

    def connections(self, a: str, b: str) -> int:
        """How many TCP connections place ``a`` has with ``b``."""
        here, there = self.places[a], self.places[b]
        return len(command("ss", "-N", here.namespace, "-H", "-t", "-n", "dst", there.address).splitlines())

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove everything; closing twice is harmless. Programs inside must have ended before."""
        if self._late is not None:
            self._late.kill()
            self._late.communicate()
            self._late = None
        for name in [*(place.namespace for place in self.places.values()), self.router]:
            if (NAMESPACES / name).exists():
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        places = list(self.places.values())
        command(
            "ip",
            "-batch",
            "-",
            script=(f"netns add {name}" for name in [self.router, *(place.namespace for place in places)]),
        )
        settings = "; ".join(f"echo {value} > /proc/sys/{path}" for path, value in ROUTER_SETTINGS.items())
        command("ip", "netns", "exec", self.router, "sh", "-ec", settings)
        command(
            "ip",
            "-batch",
            "-",
            script=(
                f"link add name eth0 netns {place.namespace} type veth peer name {place.door} netns {self.router}"
                for place in places
            ),
        )
        self._in_router(
            line
            for place in places
            for line in (
                f"address add {place.gateway}/24 dev {place.door}",
                f"link set {place.door} up",
            )
        )
        for place in places:
            command(
                "ip",
                "-n",
                place.namespace,
                "-batch",
                "-",
                script=(
                    "link set lo up",
                    f"address add {place.address}/24 dev eth0",
                    "link set eth0 up",
                    f"route add default via {place.gateway}",
                ),
            )

    def _in_router(self, lines: Iterable[str]) -> None:
        script = list(lines)
        if script:
            command("ip", "-n", self.router, "-batch", "-", script=script)

    def _both_ways(self, a: str, b: str) -> list[tuple[Place, Place]]:
        one, other = self.places[a], self.places[b]
        return [(one, other), (other, one)]

    def _preference(self, base: int, one: Place, other: Place) -> int:
        return base + one.number * (MOST_PLACES + 1) + other.number

    def _kill_connections(self, a: str, b: str) -> None:
        here, there = self.places[a], self.places[b]
        command("ss", "-N", here.namespace, "-H", "-t", "-K", "dst", there.address)

    def _quicken(self, roads: Iterable[frozenset[str]]) -> None:
        for road in roads:
            if self.slowed.pop(road, None) is not None:
                both = self._both_ways(*road)
                self._in_router(
                    f"rule del pref {self._preference(SLOW_RULES, one, other)}" for one, other in both
                )
                for one, other in both:
                    self._order(self._late_road(), f"clear {one.address} {other.address}")

    def _late_road(self) -> "subprocess.Popen[bytes]":
        if self._late is None:
            program = Path(__file__).with_name("late_road.py")
            self._late = late = subprocess.Popen(
                ["ip", "netns", "exec", self.router, sys.executable, "-ISu", str(program), SLOW_DEVICE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._answer(late, b"ready")
            self._in_router(
                (
                    f"link set {SLOW_DEVICE} txqueuelen 10000 up",
                    f"route add default dev {SLOW_DEVICE} table {SLOW_TABLE}",
                )
            )
        if self._late.poll() is not None:
            raise RoadsError(f"the program that slows roads has ended with status {self._late.returncode}")
        return self._late

    def _order(self, late: "subprocess.Popen[bytes]", line: str) -> None:
        assert late.stdin is not None
        late.stdin.write(line.encode() + b"\n")
        late.stdin.flush()
        self._answer(late, b"ok")

    @staticmethod
    def _answer(late: "subprocess.Popen[bytes]", expected: bytes) -> None:
        assert late.stdout is not None
        said = late.stdout.readline().strip()
        if said != expected:
            raise RoadsError(f"the program that slows roads said {said!r}; expected {expected!r}")
