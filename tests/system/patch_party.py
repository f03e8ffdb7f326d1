"""Two people of a mission in one process: one hears all of its groups, each for itself; the other talks on one after the other.

``patch_party.py MISSION EAR_CONFIG MOUTH_CONFIG`` reads orders from standard input, a JSON object a line, and ends when that does::

    {"do": "talk", "group": name, "file": sound}     {"do": "save", "as": name}

The trace on standard output has a JSON object per line, with ``e`` for what it is and ``ns`` of CLOCK_MONOTONIC: ``up`` (of a ``group``, for ``who``), ``began`` and ``ended`` (a burst on a ``group``, by ``alias``,
``why``), ``said`` (``group``), ``saved`` (``as``: what was heard since the last time is in ``AS-GROUP.wav``; ``packets`` and ``refused`` of each group).
"""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from crowd import Book, orders_to

FRAME_S = 0.02
FRAME = 960


class Ear:
    """Hears a group: an :class:`ice.streams.interface.Receiver`."""

    def __init__(self, party: "Party", group: Any) -> None:
        from ice.media.playout import Listener
        from ice.mission import voice

        self.group = group
        self.packets = 0
        self.sound: list[Any] = []
        self._party = party
        self._listener = Listener(payload_types=voice.payload_types(group))

    def datagram(self, datagram: Any) -> None:
        """Heard."""
        self._listener.datagram(datagram.payload, datagram.flags, datagram.source, self._party.now())
        if not datagram.flags & 8:  # data: the patches' probes
            self.packets += 1

    def path(self, up: bool, why: str) -> None:
        """The way is open, or closed."""
        self._party.book.event("up" if up else "down", who="ear", group=self.group.name, why=why)

    def pull(self, at: float) -> None:
        """What a loudspeaker would say."""
        self.sound.append(self._listener.pull(FRAME, at))
        for event in self._listener.events():
            name = type(event).__name__
            if name in ("BurstBegan", "BurstEnded"):
                self._party.book.event(
                    name.removeprefix("Burst").lower(),
                    group=self.group.name,
                    alias=event.alias,
                    why=getattr(event, "why", ""),
                )


class Mouth:
    """Is on a group to talk there; what others say is nothing to it."""

    def __init__(self, party: "Party", group: Any) -> None:
        self._party, self._group = party, group
        self.stream: Any = None

    def datagram(self, datagram: Any) -> None:
        """Heard."""

    def path(self, up: bool, why: str) -> None:
        """The way is open, or closed."""
        self._party.book.event("up" if up else "down", who="mouth", group=self._group.name, why=why)


class Party:
    """See the module's docstring."""

    def __init__(self, reactor: Any, book: Book, mission_file: str, configs: list[str]) -> None:
        from ice.cli.pacing import MediaClock
        from ice.config.load import load
        from ice.mission.identity import stream_id
        from ice.mission.reading import read_mission
        from ice.mission.voice import is_audio
        from ice.streams.team import team_of

        mission = read_mission(Path(mission_file).read_bytes(), mission_file).mission
        self._reactor = reactor
        self.book = book
        self.now = reactor.seconds
        self.teams = [team_of(mission, load(Path(each)), reactor) for each in configs]
        groups = [group for group in mission.groups if is_audio(group)]
        self._groups = {group.name: group for group in groups}
        self.ears = [Ear(self, group) for group in groups]
        for ear in self.ears:
            self.teams[0].join(stream_id(ear.group.id), ear, talk=False)
        self._streams = {
            group.name: self.teams[1].join(stream_id(group.id), Mouth(self, group), listen=False)
            for group in groups
        }
        self._media = MediaClock(FRAME_S, self.now())

    def pull(self) -> None:
        """Everybody's next frame, as far as it is due."""
        while self._media.due(self.now()):
            for ear in self.ears:
                ear.pull(self.now())

    def obey(self, order: dict[str, Any]) -> None:
        """One order."""
        if order["do"] == "talk":
            self._talk(order["group"], Path(order["file"]))
        else:
            self._save(order["as"])

    def _talk(self, name: str, file: Path) -> None:
        from ice.media import wav
        from ice.mission import voice

        sender, _ = voice.sender(self._groups[name], alias=f"on {name}")
        pcm = wav.read(file)
        sender.press(0.0)
        sendings = sender.pcm(pcm) + sender.release(len(pcm) / 48_000)  # all is coded before the first is due
        stream = self._streams[name]
        for each in sendings:
            self._reactor.callLater(each.due, stream.send, each.payload, each.flags)
        self._reactor.callLater(sendings[-1].due + 0.01, self.book.event, "said", group=name)

    def _save(self, name: str) -> None:
        from ice.media import wav
        from ice.mission.identity import stream_id

        refused = {}
        for ear in self.ears:
            wav.write(Path(f"{name}-{ear.group.name}.wav"), np.concatenate(ear.sound))
            ear.sound = []
            refused[ear.group.name] = dict(self.teams[0].sealing(stream_id(ear.group.id)).refused)
        packets = {ear.group.name: ear.packets for ear in self.ears}
        for ear in self.ears:
            ear.packets = 0
        self.book.event("saved", name=name, packets=packets, refused=refused)


async def live(reactor: Any, stop: Any, book: Book) -> int:
    """Until told to stop."""
    from twisted.internet.task import LoopingCall

    party = Party(reactor, book, sys.argv[1], sys.argv[2:])
    for team in party.teams:
        team.start()
    pulling = LoopingCall(party.pull)
    pulling.clock = reactor
    pulling.start(FRAME_S / 2, now=False)
    threading.Thread(target=orders_to, args=(reactor, party.obey, stop.ask), daemon=True).start()
    await stop.wait()
    pulling.stop()
    for team in party.teams:
        await team.stop()
    return 0


def main() -> int:
    """Run."""
    from ice.cli import loop

    return loop.run(lambda reactor, stop: live(reactor, stop, Book(sys.stdout)))


if __name__ == "__main__":
    sys.exit(main())
