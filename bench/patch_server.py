"""What a patch server costs and how soon it acts, as a process beside a Rallypoint: real daemons, TLS on loopback, people in this process.

``python bench/patch_server.py [--part cpu|latency|crash|many] [--seconds 3]``, under a minute for all parts.

=======  ===========================================================================================================================
cpu      CPU time of the Rallypoint for each packet that it delivers to one of three listeners, and of the patch server for each that it passes on to one
         of three streams: of one CBC key (the same bytes), and from GCM to CBC. One talker, 1,000 packets a second; measured in turn, thrice
latency  a packet's arrival on the other stream after its arrival on its own; the way through the Rallypoint a second time is in it
crash    from kill -9 until the talker is heard on the other stream again, the unit's RestartSec included
many     300 patches of four streams: from the start until all are joined, beside a server without any; how long one takes to switch, and the longest silence
         between two packets of another meanwhile
=======  ===========================================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs
import numpy as np
from twisted.internet import task
from twisted.internet.defer import ensureDeferred

from bench.paired import median
from ice.cli.control import Desk
from ice.cli.demo import _answers, _beside_python
from ice.cli.patch import PATCH
from ice.config.load import load
from ice.link.frame import Flag
from ice.media.rtp import Packet
from ice.mission.reading import read_mission
from ice.net.clock import steady
from ice.security.certificates import Role
from ice.streams.interface import Datagram
from ice.streams.team import Team, team_of
from ice.testing.site import Site, free_ports

LIMITS = "[rallypoint.limits]\npackets_per_s = 1_000_000\nbytes_per_s = 1_000_000_000\njoins = 4096"
RATE = 1_000  # packets a second
SPEECH_RATE = 50
PAYLOAD = bytes(60)  # of Opus at 24 kbit/s
MANY, STREAMS = 300, 4
RESTART_S = 0.1  # RestartSec of etc/systemd/ice-patch.service
WAIT_S = 60.0
PEOPLE = ("talker", "anna", "bob", "carol")
SAME, OTHER = ("a0", "a1", "a2", "a3"), ("g0", "c1", "c2", "c3")
FAN = "fan"


@attrs.define(eq=False)
class Daemon:
    """A daemon as a process, and its status page."""

    words: list[str]
    folder: Path
    http_port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / f"{self.words[0]}-{self.http_port}.log").open("ab") as log:
            command = [_beside_python("twistd"), "-n", "--pidfile=", *self.words]
            environment = {"XDG_STATE_HOME": str(self.folder / f"state-{self.http_port}")}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=environment)

    def ready(self) -> bool:
        return _answers(f"http://127.0.0.1:{self.http_port}/readyz")

    def cpu_s(self) -> float:
        """CPU time so far, to the nanosecond."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def ask(self, **request: object) -> None:
        """Over the control socket; raises where it is refused."""
        Desk(PATCH, None, self.folder / f"state-{self.http_port}" / "ice" / "patch.sock").ask(request)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None


class Ear:
    """Notes when each packet came."""

    def __init__(self) -> None:
        self.up = False
        self.at: dict[int, float] = {}

    def datagram(self, datagram: Datagram) -> None:
        """Heard; a relay keeps numbers."""
        if not datagram.flags & Flag.DATA:
            self.at.setdefault(datagram.sequence, time.monotonic())

    def path(self, up: bool, why: str) -> None:
        """The way is open, or closed."""
        self.up = up


@attrs.define(eq=False)
class Stage:
    """The Rallypoint, the mission, a talker and listeners in this process."""

    reactor: Any
    folder: Path
    site: Site
    rallypoint: Daemon
    teams: list[Team]
    number: int = 0

    def patch_server(self, toml: str) -> Daemon:
        member = self.site.issue(f"patch{secrets.token_hex(2)}", Role.SATELLITE)
        [http_port] = free_ports(1)
        with member.config.open("a") as file:
            file.write(
                f'\n[patch]\nmissions = ["{self.folder}/team.json"]\n{toml}\n[patch.http]\nlisten = "127.0.0.1:{http_port}"\n'
            )
        return Daemon(["ice-patch", "--config", str(member.config)], self.folder, http_port)

    def join(self, who: int, stream: str, *, listen: bool = True) -> tuple[Any, Ear]:
        ear = Ear()
        return self.teams[who].join(stream, ear, listen=listen, talk=not listen), ear

    async def sleep(self, seconds: float) -> None:
        await task.deferLater(self.reactor, seconds)

    async def until(self, true: Callable[[], bool], what: str) -> float:
        """Wait; how long it took."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > WAIT_S:
                raise SystemExit(f"waited in vain until {what}; see {self.folder}")
            await self.sleep(0.005)
        return time.monotonic() - began

    async def talk(self, stream: Any, rate: int, seconds: float) -> int:
        """One burst without an end; how many packets."""
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            while sent < (now - began) * rate:
                packet = Packet(
                    118, self.number & 0xFFFF, self.number * 960 & 0xFFFF_FFFF, 7, PAYLOAD, sent == 0
                )
                stream.send(packet.encode(), int(Flag.FIRST) if sent == 0 else 0)
                self.number += 1
                sent += 1
            await self.sleep(max(0.0, began + sent / rate - time.monotonic()))
        return sent


def mission_of(port: int) -> str:
    """Groups a* and c* under a CBC key each, g* under GCM, and one in clear."""
    keys = {letter: secrets.token_hex(32) for letter in "acg"}
    groups = [
        {"type": 1, "id": name, "name": name, "idOverride": True}
        | {"txAudio": {"encoder": 29, "framingMs": 20, "enabled": True}}
        | ({"cryptoPassword": keys[name[0]]} if name[0] in keys else {})
        | {"cipher": "aes-256-gcm" if name[0] == "g" else "aes-256-cbc"}
        | {"rallypoints": [{"host": {"address": "127.0.0.1", "port": port}}]}
        for name in (*SAME, *OTHER, FAN)
    ]
    return json.dumps({"id": "bench", "name": "bench", "groups": groups})


@contextlib.asynccontextmanager
async def stage(reactor: Any) -> AsyncIterator[Stage]:
    """Everything but patch servers."""
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as held:
        folder = Path(place)
        site = Site.create(folder / "site", clients=PEOPLE, extra_toml=LIMITS)
        rallypoint = Daemon(["ice-rallypoint", "--config", str(site.config)], folder, site.http_port)
        rallypoint.start()
        held.callback(rallypoint.end)
        text = mission_of(site.port)
        (folder / "team.json").write_text(text)
        mission = read_mission(text, "team.json").mission
        teams = [team_of(mission, load(site.client(name).config), reactor) for name in PEOPLE]
        found = Stage(reactor, folder, site, rallypoint, teams)
        await found.until(rallypoint.ready, "the Rallypoint is ready")
        for team in teams:
            team.start()
        try:
            yield found
        finally:
            for team in teams:
                await team.stop()


@contextlib.contextmanager
def running(server: Daemon) -> Iterator[Daemon]:
    """Until the block ends."""
    server.start()
    try:
        yield server
    finally:
        server.end()


def patches(**streams: tuple[str, ...]) -> str:
    """``[[patches]]`` in the mode relay."""
    return "\n".join(
        f'[[patches]]\nid = "{id}"\nstreams = {json.dumps(list(names))}' for id, names in streams.items()
    )


async def cpu(found: Stage, seconds: float) -> None:
    """What a packet costs, out."""
    rows: dict[str, list[float]] = {
        "Rallypoint, to 3 listeners": [],
        "relay, one CBC key, to 3": [],
        "relay, GCM to CBC, to 3": [],
    }
    fan, _ = found.join(0, FAN, listen=False)
    listeners = [found.join(who, FAN)[1] for who in (1, 2, 3)]
    with running(found.patch_server(patches(same=SAME, other=OTHER))) as server:
        mouths = [found.join(0, stream, listen=False)[0] for stream in (SAME[0], OTHER[0])]
        ears = [found.join(1, stream)[1] for stream in (SAME[1], OTHER[1])]
        everybody = [*listeners, *ears]
        await found.until(
            lambda: server.ready() and all(ear.up for ear in everybody) and fan.up, "all are joined"
        )
        for _ in range(3):
            for (name, values), mouth, daemon, ear in zip(
                rows.items(),
                (fan, *mouths),
                (found.rallypoint, server, server),
                (listeners[0], *ears),
                strict=True,
            ):
                heard, before = len(ear.at), daemon.cpu_s()
                sent = await found.talk(mouth, RATE, seconds / 3)
                await found.sleep(0.1)
                values.append((daemon.cpu_s() - before) / (3 * sent) * 1e6)
                if len(ear.at) - heard < 0.98 * sent:
                    raise SystemExit(f"{name}: only {len(ear.at) - heard} of {sent} packets were heard")
                await found.sleep(0.6)  # the burst is over
    base = median(next(iter(rows.values())))
    print(f"{'CPU per packet that goes out':34} {'µs':>7} {'range':>15} {'against Rallypoint':>20}")
    for name, values in rows.items():
        middle = median(values)
        print(f"{name:34} {middle:7.1f} {min(values):7.1f}–{max(values):.1f} {middle / base:19.2f}×")


async def latency(found: Stage, seconds: float) -> None:
    """What a relay adds."""
    with running(found.patch_server(patches(other=OTHER))) as server:
        mouth, _ = found.join(0, OTHER[0], listen=False)
        near, far = found.join(1, OTHER[0])[1], found.join(1, OTHER[1])[1]
        await found.until(lambda: server.ready() and near.up and far.up and mouth.up, "all are joined")
        await found.talk(mouth, SPEECH_RATE, max(4.0, seconds))
        await found.sleep(0.2)
    added = np.array([(far.at[each] - near.at[each]) * 1e3 for each in near.at if each in far.at])
    print(
        f"latency added by a relay, GCM to CBC, {len(added)} packets: {np.median(added):.2f} ms in the middle, "
        f"p99 {np.percentile(added, 99):.2f} ms"
    )


async def crash(found: Stage, seconds: float) -> None:
    """How soon it is back."""
    with running(found.patch_server(patches(other=OTHER))) as server:
        mouth, _ = found.join(0, OTHER[0], listen=False)
        far = found.join(1, OTHER[1])[1]
        await found.until(lambda: server.ready() and far.up and mouth.up, "all are joined")
        talking = ensureDeferred(found.talk(mouth, SPEECH_RATE, 6.0))
        await found.until(lambda: len(far.at) > 20, "it is heard")
        killed = time.monotonic()
        server.end(signal.SIGKILL)
        await found.sleep(RESTART_S)
        server.start()
        ready_s = RESTART_S + await found.until(server.ready, "it is ready")
        await talking
    back = min(at for at in far.at.values() if at > killed + RESTART_S)
    print(
        f"from kill -9 to sound again, RestartSec {RESTART_S} s included: {back - killed:.2f} s; ready after {ready_s:.2f} s"
    )


async def many(found: Stage, seconds: float) -> None:
    """Three hundred patches."""
    names = {f"p{number}": tuple(f"s{number}-{place}" for place in range(STREAMS)) for number in range(MANY)}
    empty = found.patch_server("")
    empty.start()
    alone_s = await found.until(empty.ready, "it is ready")
    empty.end()
    with running(found.patch_server('clear = ["s*"]\n' + patches(other=OTHER, **names))) as server:
        start_s = await found.until(server.ready, "it is ready")
        mouth, _ = found.join(0, OTHER[0], listen=False)
        far = found.join(1, OTHER[1])[1]
        await found.until(lambda: far.up and mouth.up, "all are joined")
        talking = ensureDeferred(found.talk(mouth, SPEECH_RATE, 4.0))
        await found.until(lambda: len(far.at) > 20, "it is heard")
        took = []
        for number in range(40):
            began = time.monotonic()
            word = "activate" if number % 2 else "deactivate"
            server.ask(do=word, id=f"p{number // 2}")
            took.append((time.monotonic() - began) * 1e3)
            await found.sleep(0.05)
        await talking
    at = np.sort(np.array(list(far.at.values())))
    print(
        f"{MANY} patches of {STREAMS}: all joined {start_s:.2f} s after the start, a server without any {alone_s:.2f} s; one is switched in {median(took):.1f} ms; "
        f"longest silence of another meanwhile {np.max(np.diff(at)) * 1e3:.0f} ms (packets come every 20 ms)"
    )


PARTS: dict[str, Callable[[Stage, float], Any]] = {
    "cpu": cpu,
    "latency": latency,
    "crash": crash,
    "many": many,
}


async def measure(reactor: Any, parts: list[str], seconds: float) -> None:
    """Each part on a stage of its own."""
    steady(reactor)
    for part in parts:
        async with stage(reactor) as found:
            await PARTS[part](found, seconds)


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--part", choices=tuple(PARTS), action="append")
    options.add_argument("--seconds", type=float, default=3.0)
    asked = options.parse_args()
    task.react(lambda reactor: ensureDeferred(measure(reactor, asked.part or list(PARTS), asked.seconds)))


if __name__ == "__main__":
    main()
