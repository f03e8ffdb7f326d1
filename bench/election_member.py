"""Members of server groups in one process, for bench/election.py.

``election_member.py INTERFACE CYCLE SIZE ID[,ID…] GROUPS [documented]``: the members ID (numbers from 0; the lower, the higher their priority) of GROUPS groups of SIZE members, by multicast, each with a socket of its own.  Ballots name
the leader; with ``documented`` those of every second group do not.  It prints ``active T GROUP`` and ``standby T GROUP`` (``CLOCK_BOOTTIME``). SIGTERM: an orderly stop.
"""

import itertools
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ice.election.rules import Group, Member, Quorum
from ice.election.service import Election
from ice.election.transports import Air, MulticastWay, NoWay, keyring_of, place_of
from ice.election.wheel import Wheel
from ice.net.clock import steady
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import descriptors
from ice.net.poll import shorten


def uuid(*words: object) -> str:
    """A UUID out of words, the same in every process."""
    return str(UUID(bytes=sha256(repr(words).encode()).digest()[:16], version=4))


class Work:
    """Tells when it is what."""

    def __init__(self, group: int) -> None:
        self.group = group

    def _tell(self, what: str) -> None:
        print(what, f"{time.clock_gettime(time.CLOCK_BOOTTIME):.6f}", self.group, flush=True)

    def active(self) -> None:
        self._tell("active")

    def standby(self) -> None:
        self._tell("standby")

    def ready(self) -> str | None:
        return None

    def stored(self) -> bool:
        return True


def main() -> None:
    """Take part until the signal."""
    from twisted.internet import reactor

    shorten(steady(reactor), descriptors())
    anything: Any = reactor
    interface, cycle, size, numbers, groups, *rule = sys.argv[1:]
    watch = InterfaceWatch(reactor)
    airs = {number: Air(reactor, place_of(interface), watch=watch) for number in map(int, numbers.split(","))}
    elections, wheel = [], Wheel(anything)
    for at, (number, air) in itertools.product(range(int(groups)), airs.items()):
        members = tuple(Member(uuid("member", at, each), f"m{each}") for each in range(int(size)))
        salt = sha256(b"%d" % at).digest()
        group = Group(
            uuid("group", at),
            members,
            Quorum.MAJORITY,
            float(cycle),
            (salt,),
            f"g{at}",
            not (rule and at % 2),
        )
        way = MulticastWay(air, group.id, keyring_of(group), wall=time.time)
        ways = (NoWay("rallypoint", "not used here"), way)
        elections.append(Election(anything, group, members[number].id, Work(at), ways, wheel=wheel))

    def begin() -> None:
        for at, each in enumerate(elections):  # as if they had been started at any time
            anything.callLater(float(cycle) * at / len(elections), each.startService)

    async def end() -> None:
        for each in elections:
            await each.stopService()

    from twisted.internet.defer import Deferred

    anything.callWhenRunning(begin)
    anything.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(end()))
    anything.run()


if __name__ == "__main__":
    main()
