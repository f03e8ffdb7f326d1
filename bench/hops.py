"""What a hop of the mesh costs in time, and what an idle mesh says: real daemons, real TLS, on loopback.

``python bench/hops.py [--seconds 20] [--idle 20]``

*Hops.* Rallypoints in a row, each linked with the next only; one talker at the first, a listener at each. All people are in this one process, so
that one clock stamps every datagram when it is handed to its link and when it is given to its receiver. The listener at the first
Rallypoint has one Rallypoint in its way, the next has one hop more, and so on.

*Idle.* So many Rallypoints in one group, linked each with each, and nobody there: bytes on the loopback interface in half a minute (TLS, TCP and IP
headers and acknowledgements included), divided by the links. Run it on a quiet machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ice.cli.demo import _answers, _beside_python
from ice.cli.processes import Children, Interrupt
from ice.cli.trace import percentile
from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.register import Entry, addresses
from ice.testing.site import LOOPBACK, free_ports

RATE = 50.0
SIZE = 120
SETTLE_S = 3.0
IDLE_S = 30.0


class Row:
    """Rallypoints with groups of our choosing."""

    def __init__(self, folder: Path, count: int, groups: Sequence[Sequence[int]]) -> None:
        now = datetime.now(UTC)
        self.folder = folder
        self.ports = free_ports(2 * count)
        self.authority = Authority.create(folder / "pki", now, name="hops")
        near = addresses((LOOPBACK, "::1"))
        switches = [
            self.authority.issue(f"rp{n}", Role.RALLYPOINT, now, dns=("localhost",), addresses=near)
            for n in range(count)
        ]
        self.groups = "\n".join(self._group(n, members, switches) for n, members in enumerate(groups))
        for n in range(count):
            self._config(f"rp{n}", n, "")

    def _group(self, number: int, members: Sequence[int], switches: Sequence[Entry]) -> str:
        rows = ",\n".join(
            f'  {{ id = "{switches[n].id}", address = "{LOOPBACK}:{self.ports[2 * n]}" }}' for n in members
        )
        return f'[[groups]]\nname = "group {number}"\nmembers = [\n{rows}\n]\n'

    def _config(self, name: str, at: int, identity: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'{identity}[network]\nrallypoints = ["{LOOPBACK}:{self.ports[2 * at]}"]\nways_file = ""\n\n'
            f'[rallypoint]\nlisten = ["{LOOPBACK}:{self.ports[2 * at]}"]\n'
            f'certificate = "pki/rp{at}.pem"\nkey = "pki/rp{at}.key"\n\n'
            f'[rallypoint.http]\nlisten = "{LOOPBACK}:{self.ports[2 * at + 1]}"\n\n{self.groups}'
        )
        return path

    def person(self, name: str, at: int) -> Path:
        """Somebody at one of them; the configuration."""
        self.authority.issue(name, Role.CLIENT, datetime.now(UTC))
        return self._config(
            name, at, f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
        )

    def start(self, children: Children) -> None:
        """All daemons, ready."""
        count = len(self.ports) // 2
        daemons = [
            children.start(
                f"rp{n}",
                [
                    _beside_python("twistd"),
                    "-n",
                    "--pidfile=",
                    "ice-rallypoint",
                    "--config",
                    str(self.folder / f"rp{n}.toml"),
                ],
                output=self.folder / f"rp{n}.log",
                cwd=self.folder,
            )
            for n in range(count)
        ]
        for n in range(count):
            page = f"http://{LOOPBACK}:{self.ports[2 * n + 1]}/readyz"
            children.wait_until(lambda page=page: _answers(page), 120, "all were ready", *daemons)  # type: ignore[misc]


class Ear:
    """Notes when each datagram came."""

    def __init__(self) -> None:
        self.at_ns: dict[int, int] = {}
        self.doubled = 0
        self.up = False

    def datagram(self, datagram: Any) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.doubled += datagram.sequence in self.at_ns
        self.at_ns[datagram.sequence] = time.monotonic_ns()

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.up = up


def hops(folder: Path, count: int, seconds: float) -> int:
    """Measure a row of ``count`` Rallypoints and print; 0 when nothing was lost or doubled."""
    row = Row(folder, count, [(n, n + 1) for n in range(count - 1)])
    people = [row.person("talker", 0), *(row.person(f"listener{n}", n) for n in range(count))]
    with Interrupt() as interrupt, Children(interrupt) as children:
        row.start(children)
        sent, ears = _talk(people, seconds)
    lost = sum(len(sent) - len(ear.at_ns) for ear in ears)
    doubled = sum(ear.doubled for ear in ears)
    print(
        f"{count} Rallypoints in a row, {len(sent)} datagrams of {SIZE} bytes at {RATE:g}/s: {lost} lost, {doubled} doubled"
    )
    print("hops  p50, ms  p99, ms  added to the one before, p50, ms  as a multiple of one Rallypoint")
    before = first = 0.0
    for n, ear in enumerate(ears):
        ms = [(at - sent[sequence]) / 1e6 for sequence, at in ear.at_ns.items()]
        p50 = percentile(ms, 50)
        first = first or p50
        added = f"{p50 - before:28.3f}  {(p50 - before) / first:27.2f}" if n else ""
        print(f"{n:4}  {p50:7.3f}  {percentile(ms, 99):7.3f}  {added}")
        before = p50
    return 1 if lost or doubled else 0


def _talk(configs: Sequence[Path], seconds: float) -> tuple[dict[int, int], list[Ear]]:
    """Everybody in this process: when each datagram was sent, and what each listener heard."""
    from twisted.internet.task import LoopingCall

    from ice.cli import loop
    from ice.config.load import load
    from ice.streams.connect import connect

    sent: dict[int, int] = {}
    ears = [Ear() for _ in configs[1:]]

    async def main(reactor: Any, stop: loop.Stop) -> None:
        mouth = Ear()
        networks = [connect(load(config), reactor) for config in configs]
        stream = networks[0].join("town", mouth, listen=False)
        for network, ear in zip(networks[1:], ears, strict=True):
            network.join("town", ear, talk=False)
        while not (mouth.up and all(ear.up for ear in ears)) and not stop.asked:
            await loop.sleep(reactor, 0.05)
        await loop.sleep(reactor, SETTLE_S)
        payload = bytes(SIZE)

        def say() -> None:
            sent[len(sent)] = time.monotonic_ns()
            stream.send(payload)

        talking = LoopingCall(say)
        talking.clock = reactor
        talking.start(1 / RATE)
        await loop.sleep(reactor, seconds)
        talking.stop()
        await loop.sleep(reactor, 1.0)
        for network in networks:
            await network.stop()

    loop.run(main)
    return sent, ears


def idle(folder: Path, count: int) -> int:
    """Measure a group of ``count`` Rallypoints with nobody there, and print."""
    row = Row(folder, count, [tuple(range(count))])
    links = count * (count - 1) // 2
    with Interrupt() as interrupt, Children(interrupt) as children:
        row.start(children)
        interrupt.sleep(20.0)  # linked, and what that has set off told to all
        before, at = _loopback_bytes(), time.monotonic()
        interrupt.sleep(IDLE_S)
        passed = time.monotonic() - at
        per_s = (_loopback_bytes() - before) / passed
        stand = (folder / "rp0.log").read_text().count("linked with")
    print(
        f"{count} Rallypoints, {links} links (rp0 has {stand}), idle: {per_s:.0f} bytes/s in all, {per_s / links:.1f} per link"
    )
    return 0


def _loopback_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[0])
    raise SystemExit("there is no loopback interface in /proc/net/dev")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--hops", type=int, default=3, help="hops at most (3); 0: leave that out")
    parser.add_argument("--idle", type=int, default=0, help="Rallypoints of an idle mesh; 0: leave that out")
    asked = parser.parse_args()
    status = 0
    os.environ.pop("ICE_CONFIG", None)
    with tempfile.TemporaryDirectory(prefix="ice-hops-") as name:
        if asked.hops:
            (folder := Path(name) / "hops").mkdir()
            status = hops(folder, asked.hops + 1, asked.seconds)
        if asked.idle:
            (folder := Path(name) / "idle").mkdir()
            status |= idle(folder, asked.idle)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
