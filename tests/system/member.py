"""A satellite for tests: takes part in the election of its server group, and passes on datagrams while it may.

Usage: ``member.py CONFIG STATUS_FOLDER [ADDRESS:PORT]``.  Each line that it prints is one fact with a time (``CLOCK_BOOTTIME``, which all processes of a machine share): ``active T``, ``standby T``,
``passed N T`` and ``dropped N T`` of datagrams that came to its port.  A line on its standard input becomes the group document; ``stall SECONDS`` makes it stand still in the middle of
what its reactor has been told, as a slow disk may.  SIGTERM: an orderly stop.  Times are seconds.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.internet import stdio
from twisted.internet.protocol import DatagramProtocol
from twisted.protocols.basic import LineReceiver

from ice.config.load import load
from ice.election.connect import election_of, server_group
from ice.errors import IceError
from ice.net.clock import steady
from ice.streams.connect import network_of, passport_of
from ice.streams.rallypoint import RallypointNetwork


def tell(*words: object) -> None:
    """Print a fact."""
    print(*words, f"{time.clock_gettime(time.CLOCK_BOOTTIME):.6f}", flush=True)


class Work:
    """What a satellite does."""

    def __init__(self, network: RallypointNetwork) -> None:
        self.network = network

    def active(self) -> None:
        tell("active")

    def standby(self) -> None:
        tell("standby")

    def ready(self) -> str | None:
        return None  # the group shall work without Rallypoints too

    def stored(self) -> bool:
        return True


class Door(DatagramProtocol):
    """A port whose datagrams are passed on."""

    def __init__(self, election: Any) -> None:
        self.election = election
        self.passed = self.dropped = 0

    def datagramReceived(self, data: bytes, addr: object) -> None:
        if self.election.may_act:
            self.passed += 1
        else:
            self.dropped += 1
        tell("passed", self.passed, "dropped", self.dropped)


class Orders(LineReceiver):
    """Standard input."""

    delimiter = b"\n"

    def __init__(self, election: Any) -> None:
        self.election = election

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(b"stall "):
            time.sleep(float(line[6:]))
            tell("stalled")
            return
        try:
            tell("document", self.election.share.change(line))
        except IceError as error:
            tell("refused", error)


def main() -> None:
    """Take part until the signal."""
    from twisted.internet import reactor

    steady(reactor)
    anything: Any = reactor
    path, folder, *door = sys.argv[1:]
    loaded = load(Path(path))
    id: UUID = passport_of(loaded, reactor).id
    network = network_of(loaded, reactor)
    settings = server_group(loaded, id)
    assert settings is not None
    election = election_of(
        loaded,
        settings,
        id,
        network,
        Work(network),
        reactor,
        wall=time.time,
        environ={"STATE_DIRECTORY": folder},
        learned=lambda body: tell("learned", body.decode()),
        stuck=lambda why: os._exit(70),
    )
    if door:
        host, _, port = door[0].rpartition(":")
        anything.listenUDP(int(port), Door(election), host)
    stdio.StandardIO(Orders(election))

    def begin() -> None:
        network.start()
        election.startService()
        tell("started")

    async def end() -> None:
        await election.stopService()
        tell("resigned")
        await network.stop()

    from twisted.internet.defer import Deferred

    anything.callWhenRunning(begin)
    anything.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(end()))
    anything.run()


if __name__ == "__main__":
    main()
