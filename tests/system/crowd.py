"""Many people in one process: each has a link of their own, talks in numbered datagrams and writes down what is heard.

``crowd.py PLAN TRACE`` is run where the people live (in a network namespace); it reads orders from standard input and ends when that does.

The plan is a JSON object ``{"people": [{"name": …, "config": file, "streams": [{"stream": id, "listen": true, "talk": true}]}]}``. Orders are JSON objects, a line
each; ``who`` and ``stream`` say whom they are for::

    {"do": "join", "who", "stream", "listen", "talk"}      {"do": "leave", "who", "stream"}
    {"do": "talk", "who", "stream", "every_ms", "flags"}   {"do": "hush", "who", "stream"}
    {"do": "mark", "mark": n}    everything so far is in the file, and the counts of everybody, when this mark is
    {"do": "stop"}

The trace has a JSON object per line, with ``e`` for what it is and times ``ns`` of CLOCK_MONOTONIC, which all namespaces share:

======== ===============================================================================================================
sent     ``who stream ns us n unsent``: numbers ``n`` tried at ``ns`` + ``us`` microseconds; those in ``unsent`` had no path
heard    ``who stream talker ns us n``: numbers ``n`` of ``talker``
path     ``who stream up why ns``
left     ``who stream ns``
notice   ``who kind address code text ns``: what the network says about its links
late     ``who by_ms ns``: this process was kept from sending in time
counts   ``who`` and what its network has counted
mark     ``mark ns``
======== ===============================================================================================================

A number counts the *attempts* of a talker on a stream, from 0, whether there was a path or not, and is in the payload with the talker's
name: a listener's gap is thus known to be lost or never sent.
"""

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import attrs

PAYLOAD = struct.Struct(">5sIB")  # a word, the number, the length of the talker's name behind it
WORD = b"crowd"
PAYLOAD_BYTES = 80  # a packet of speech, 20 ms at 24 kbit/s, with its RTP header
FLUSH_S = 0.25
LATE_S = 0.1


def payload_of(name: str, number: int) -> bytes:
    """A numbered payload."""
    told = name.encode()
    return (PAYLOAD.pack(WORD, number, len(told)) + told).ljust(PAYLOAD_BYTES, b"\0")


def read_payload(payload: bytes) -> tuple[str, int]:
    """The talker's name and the number; raises ValueError for what is none of ours."""
    if len(payload) < PAYLOAD.size or not payload.startswith(WORD):
        raise ValueError(f"not a payload of a crowd: {payload[:16]!r}")
    _, number, size = PAYLOAD.unpack_from(payload)
    return payload[PAYLOAD.size : PAYLOAD.size + size].decode(), number


class Book:
    """The trace: datagrams are gathered, everything else is written at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._gathered: dict[tuple[str, ...], list[tuple[int, int, bool]]] = {}

    def event(self, e: str, **facts: Any) -> None:
        """Something happened."""
        self._write({"e": e, **facts, "ns": time.monotonic_ns()})
        self._file.flush()

    def sent(self, who: str, stream: str, number: int, ok: bool) -> None:
        """A datagram was sent, or was to be."""
        self._gather(("sent", who, stream), number, ok)

    def heard(self, who: str, stream: str, talker: str, number: int) -> None:
        """A datagram was heard."""
        self._gather(("heard", who, stream, talker), number, True)

    def flush(self) -> None:
        """Write what has been gathered."""
        gathered, self._gathered = self._gathered, {}
        for (e, who, stream, *talker), entries in gathered.items():
            first_ns = entries[0][1]
            line: dict[str, Any] = {"e": e, "who": who, "stream": stream, "ns": first_ns}
            line["n"] = [number for number, _, _ in entries]
            line["us"] = [(at_ns - first_ns) // 1_000 for _, at_ns, _ in entries]
            if e == "heard":
                line["talker"] = talker[0]
            else:
                line["unsent"] = [number for number, _, ok in entries if not ok]
            self._write(line)
        self._file.flush()

    def _gather(self, key: tuple[str, ...], number: int, ok: bool) -> None:
        entry = (number, time.monotonic_ns(), ok)
        self._gathered.setdefault(key, []).append(entry)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


class Voice:
    """A person on a stream; an :class:`ice.streams.interface.Receiver`."""

    def __init__(self, person: "Person", stream_id: str, listen: bool, talk: bool) -> None:
        self._person = person
        self._stream_id = stream_id
        self._number = 0
        self._every_s = 0.0
        self._flags = 0
        self._due = 0.0
        self._call: Any = None
        self._stream = person.network.join(stream_id, self, listen=listen, talk=talk)

    def datagram(self, datagram: Any) -> None:
        """Heard."""
        talker, number = read_payload(datagram.payload)
        self._person.book.heard(self._person.name, self._stream_id, talker, number)

    def path(self, up: bool, why: str) -> None:
        """The way is open, or closed."""
        self._person.book.event("path", who=self._person.name, stream=self._stream_id, up=up, why=why)

    def talk(self, every_s: float, flags: int) -> None:
        """Send a datagram now, and so often from now on."""
        self.hush()
        self._every_s, self._flags = every_s, flags
        self._due = self._person.reactor.seconds()
        self._send()

    def hush(self) -> None:
        """Be silent."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def leave(self) -> None:
        """Be done."""
        self.hush()
        self._stream.leave()
        self._person.book.event("left", who=self._person.name, stream=self._stream_id)

    def _send(self) -> None:
        self._call = None
        person, number = self._person, self._number
        self._number += 1
        ok = self._stream.send(payload_of(person.name, number), self._flags)
        person.book.sent(person.name, self._stream_id, number, ok)
        now = person.reactor.seconds()
        if now - self._due > LATE_S:
            person.book.event("late", who=person.name, by_ms=round((now - self._due) * 1e3))
            self._due = now  # what was not said in time is not made up for
        self._due += self._every_s
        self._call = person.reactor.callLater(max(0.0, self._due - now), self._send)


class Person:
    """Somebody with a certificate and a link."""

    def __init__(self, reactor: Any, book: Book, name: str, config: Path) -> None:
        from ice.config.load import load
        from ice.streams.connect import network_of

        self.reactor, self.book, self.name = reactor, book, name
        self.network = network_of(load(config), reactor, on_notice=self._notice)
        self._voices: dict[str, Voice] = {}

    def join(self, stream: str, listen: bool = True, talk: bool = True) -> None:
        """Join a stream."""
        self._voices[stream] = Voice(self, stream, listen, talk)

    def leave(self, stream: str) -> None:
        """Leave it."""
        self._voices.pop(stream).leave()

    def talk(self, stream: str, every_ms: float = 20.0, flags: int = 0) -> None:
        """Talk on it."""
        self._voices[stream].talk(every_ms / 1e3, flags)

    def hush(self, stream: str) -> None:
        """Do not."""
        self._voices[stream].hush()

    def hush_all(self) -> None:
        """Be silent everywhere."""
        for voice in self._voices.values():
            voice.hush()

    def count(self) -> None:
        """Write down what the network has counted."""
        counts = attrs.asdict(self.network.counts)
        self.book.event("counts", who=self.name, naps=self.network.wake.naps, **counts)

    def _notice(self, notice: Any) -> None:
        facts = attrs.asdict(notice)
        self.book.event("notice", who=self.name, **facts)


class Crowd:
    """Everybody, and their orders."""

    def __init__(self, reactor: Any, plan: dict[str, Any], book: Book) -> None:
        self._book = book
        self.people: dict[str, Person] = {}
        for spec in plan["people"]:
            person = Person(reactor, book, spec["name"], Path(spec["config"]))
            self.people[person.name] = person
            for stream in spec["streams"]:
                person.join(**stream)

    def start(self) -> None:
        """Connect everybody."""
        for person in self.people.values():
            person.network.start()

    async def stop(self) -> None:
        """Everybody leaves."""
        for person in self.people.values():
            person.hush_all()
            person.count()
        for person in self.people.values():
            await person.network.stop("the crowd goes home")
        self._book.flush()

    def obey(self, order: dict[str, Any]) -> None:
        """One order, but ``stop``."""
        do = order.pop("do")
        if do == "mark":
            for person in self.people.values():
                person.count()
            self._book.flush()
            self._book.event("mark", mark=order["mark"])
            return
        person = self.people[order.pop("who")]
        acts: dict[str, Callable[..., None]] = {
            "join": person.join,
            "leave": person.leave,
            "talk": person.talk,
            "hush": person.hush,
        }
        acts[do](**order)


def orders_to(reactor: Any, obey: Callable[[dict[str, Any]], None], ask: Callable[[], None]) -> None:
    """Read standard input in a thread of its own, and hand each order to the reactor; ``ask`` when it ends."""
    rest = b""
    while piece := os.read(0, 65_536):  # not sys.stdin: its lock would be held when the process ends
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "stop":
                reactor.callFromThread(ask)
            else:
                reactor.callFromThread(obey, order)
    reactor.callFromThread(ask)


async def gather(reactor: Any, stop: Any, plan: dict[str, Any], book: Book) -> int:
    """Live until told to stop."""
    from twisted.internet.task import LoopingCall

    crowd = Crowd(reactor, plan, book)
    flushing = LoopingCall(book.flush)
    flushing.clock = reactor
    flushing.start(FLUSH_S, now=False)
    crowd.start()
    threading.Thread(target=orders_to, args=(reactor, crowd.obey, stop.ask), daemon=True).start()
    await stop.wait()
    flushing.stop()
    await crowd.stop()
    return 0


def main() -> int:
    """Run."""
    from ice.cli import loop

    plan = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
        return loop.run(lambda reactor, stop: gather(reactor, stop, plan, Book(file)))


if __name__ == "__main__":
    sys.exit(main())
