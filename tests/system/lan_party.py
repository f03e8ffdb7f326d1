"""One who takes part in streams on a local network, for tests: says numbered words on each, and tells what it hears.

Usage: ``lan_party.py [name=anna] [rejoin=8] [every=0.05] STREAM,RX,TX[,INTERFACE[,OPTION…]] …``, options being ``ttl=8 priority=1 loopback=0 source=10.65.0.1 listen=0 talk=0``.
Each line that it prints is one fact: ``path STREAM up|down WHY``, ``heard STREAM TEXT``, and ``counts STREAM …`` every second.  Ends with its signal.
"""

import sys
from typing import Any
from uuid import uuid4

from twisted.internet import task

from ice.net.addresses import parse_address
from ice.streams.interface import Datagram
from ice.streams.multicast import MulticastNetwork, MulticastStream, Place


class Party:
    """A receiver that prints."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id

    def datagram(self, datagram: Datagram) -> None:
        print("heard", self.stream_id, datagram.payload.decode(), flush=True)

    def path(self, up: bool, why: str) -> None:
        print("path", self.stream_id, "up" if up else "down", why, flush=True)


def main(reactor: Any) -> Any:
    """Take part until the end."""
    settings = dict(word.split("=", 1) for word in sys.argv[1:] if "," not in word)
    name = settings.get("name", "anna")
    places: dict[str, Place] = {}
    joins: dict[str, dict[str, bool]] = {}
    for word in sys.argv[1:]:
        if "," not in word:
            continue
        stream_id, rx, tx, *more = word.split(",")
        interface = more[0] if more else ""
        said = dict(option.split("=", 1) for option in more[1:])
        places[stream_id] = Place(
            parse_address(rx),
            parse_address(tx),
            interface,
            ttl=int(said.get("ttl", "1")),
            priority=int(said.get("priority", "3")),
            loopback=said.get("loopback", "1") == "1",
            sources=(said["source"],) if "source" in said else (),
        )
        joins[stream_id] = {what: said.get(what, "1") == "1" for what in ("listen", "talk")}
    network = MulticastNetwork(
        reactor, places.get, identity=uuid4(), rejoin_s=float(settings.get("rejoin", "8"))
    )
    streams: list[MulticastStream] = [network.join(each, Party(each), **joins[each]) for each in places]
    network.start()
    number = 0

    def talk() -> None:
        nonlocal number
        number += 1
        for stream in streams:
            if stream.talk:
                stream.send(f"{name} on {stream.stream_id} {number}".encode())

    def count() -> None:
        for each in network.status():
            print("counts", each.stream_id, each.counts, each.socket, flush=True)

    task.LoopingCall(talk).start(float(settings.get("every", "0.05")), now=False)
    task.LoopingCall(count).start(1.0)
    from twisted.internet.defer import Deferred

    return Deferred()


if __name__ == "__main__":
    task.react(main)
