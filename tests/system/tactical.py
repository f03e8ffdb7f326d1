"""Somebody of a mission, in a process: joins one of its groups, talks in bursts of real RTP when told to, and hears like a person.

``tactical.py PLAN TRACE`` reads orders from standard input, a JSON object a line, and ends when that does. The plan: ``{"mission": file, "config": file or null,
"group": name, "settle_s": s}``. Orders: ``{"do": "talk"}``, ``{"do": "hush"}`` (at the end of the burst), ``{"do": "stop"}``.

The trace has a JSON object per line, with ``e`` for what it is and ``ns`` of CLOCK_MONOTONIC, which all namespaces share:

======= ================================================================================================
path    ``up why way``
sent    ``n flags ok``: RTP sequence number ``n``, tried
said    ``bursts``: so many have been said
heard   ``n source``
began   a burst begins for the ear; ``ended`` ``why``
talkers ``most``: so many were heard at the same moment, more than ever before
end     ``counts`` of failover, ``refused`` of what was sealed, ``missed`` of the ear
======= ================================================================================================
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from crowd import Book, orders_to

BURST_FRAMES = 25  # 0.5 s
PAUSE_S = 0.1
FRAME_S = 0.02
FRAME = 960


class Person:
    """See the module's docstring."""

    def __init__(self, reactor: Any, plan: dict[str, Any], book: Book) -> None:
        from ice.config.load import load
        from ice.media.burst import BurstSender
        from ice.media.codecs import encoder
        from ice.media.playout import Listener
        from ice.mission.reading import read_mission
        from ice.streams.team import team_of

        mission = read_mission(Path(plan["mission"]).read_bytes(), plan["mission"]).mission
        loaded = load(Path(plan["config"])) if plan["config"] else None
        self._reactor = reactor
        self._book = book
        self.team = team_of(mission, loaded, reactor, settle_s=plan["settle_s"])
        self._sender = BurstSender(encoder("pcmu"), alias=plan["group"])
        self._ear = Listener()
        self._most = 0
        self._talking = False
        self._frames = 0
        self._due = 0.0
        group = self.team.group(plan["group"])
        self._stream = self.team.join(group.stream_id, self)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def datagram(self, datagram: Any) -> None:
        """Heard."""
        from ice.media.rtp import Packet

        self._book.event("heard", n=Packet.decode(datagram.payload).sequence, source=datagram.source)
        self._ear.datagram(
            datagram.payload, datagram.flags, datagram.source, self._reactor.seconds(), datagram.sequence
        )

    def path(self, up: bool, why: str) -> None:
        """The way is open, or closed, or another one."""
        stream = getattr(self, "_stream", None)
        way = "" if stream is None else str(self.team.status()[0].failover.way)
        self._book.event("path", up=up, why=why, way=way)

    def pull(self) -> None:
        """What a loudspeaker would play."""
        now = self._reactor.seconds()
        self._ear.pull(FRAME, now)
        talkers = len(self._ear.talking(now))
        if talkers > self._most:
            self._most = talkers
            self._book.event("talkers", most=talkers)
        for event in self._ear.events():
            name = type(event).__name__
            if name == "BurstBegan":
                self._book.event("began")
            elif name == "BurstEnded":
                self._book.event("ended", why=event.why)

    # -- talking -------------------------------------------------------------------------------------------------------

    def obey(self, order: dict[str, Any]) -> None:
        """One order."""
        begin = order["do"] == "talk" and not self._talking
        self._talking = order["do"] == "talk"
        if begin and not self._sender.pressed:
            self._press()

    def _press(self) -> None:
        self._frames = 0
        self._due = self._reactor.seconds()
        self._sender.press(self._due)
        self._frame()

    def _frame(self) -> None:
        now = self._reactor.seconds()
        if self._frames == BURST_FRAMES:
            sendings = self._sender.release(now)
            for sending in sendings:
                self._reactor.callLater(max(0.0, sending.due - sendings[0].due), self._send, sending)
            rest = sendings[-1].due - sendings[0].due + PAUSE_S
            self._book.event("said", bursts=self._sender.bursts)
            if self._talking:
                self._reactor.callLater(rest, self._press)
            return
        self._frames += 1
        for sending in self._sender.pcm(np.zeros(FRAME, np.int16)):
            self._send(sending)
        self._due = max(self._due + FRAME_S, now)
        self._reactor.callLater(self._due - now, self._frame)

    def _send(self, sending: Any) -> None:
        from ice.media.rtp import Packet

        ok = self._stream.send(sending.payload, sending.flags)
        self._book.event("sent", n=Packet.decode(sending.payload).sequence, flags=sending.flags, ok=ok)

    def end(self) -> None:
        """The last lines."""
        status = self.team.status()[0]
        ear = self._ear.statistics()
        self._book.event(
            "end",
            counts=attrs.asdict(status.failover.counts),
            refused=dict(status.sealing.refused),
            missed=ear.missed,
            corrupt=ear.corrupt,
        )


async def live(reactor: Any, stop: Any, plan: dict[str, Any], book: Book) -> int:
    """Until told to stop."""
    from twisted.internet.task import LoopingCall

    person = Person(reactor, plan, book)
    pulling = LoopingCall(person.pull)
    pulling.clock = reactor
    pulling.start(FRAME_S, now=False)
    person.team.start()
    threading.Thread(target=orders_to, args=(reactor, person.obey, stop.ask), daemon=True).start()
    await stop.wait()
    pulling.stop()
    person.end()
    await person.team.stop()
    return 0


def main() -> int:
    """Run."""
    from ice.cli import loop

    plan = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
        return loop.run(lambda reactor, stop: live(reactor, stop, plan, Book(file)))


if __name__ == "__main__":
    sys.exit(main())
