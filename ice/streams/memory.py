"""Streams in memory: a network on which tests and lessons happen, with faults to order and without chance.

One :class:`MemoryNetwork` is one place where all who join a stream hear each other; every :meth:`MemoryNetwork.join` is a party of its own.
What is lost, late or overtaken is drawn from a seed, so the same test sees the same faults each time.

>>> from twisted.internet.task import Clock
>>> clock = Clock()
>>> network = MemoryNetwork(clock, delay_s=0.02)
>>> heard = Collector()
>>> talker = network.join("town-hall", Collector())
>>> listener = network.join("town-hall", heard)
>>> clock.advance(0)  # the paths open
>>> talker.send(b"hello")
True
>>> clock.advance(0.02)
>>> heard.payloads
[b'hello']
"""

from random import Random
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.link.frame import MAX_MEDIA_PAYLOAD
from ice.link.naming import checked_stream_id, new_source
from ice.net.clock import Clock
from ice.streams.heard import Heard
from ice.streams.interface import Datagram, Receiver

REORDER_S = 0.05  # how much later an overtaken datagram comes: after the next two of 20 ms


@attrs.define
class MemoryCounts:
    """What happened on a memory network, in deliveries (one per datagram and listener) unless said otherwise."""

    sent: int = 0  #: datagrams
    without_path: int = 0  #: datagrams not sent
    too_large: int = 0  #: datagrams not sent
    circular: int = 0  #: datagrams not passed on: the stream had carried them before
    delivered: int = 0
    lost: int = 0
    overtaken: int = 0
    duplicates: int = 0
    missed: int = 0  #: the listener had left, or its path was down, when it came


class MemoryNetwork:
    """An :class:`ice.streams.interface.Network` in memory.

    ``loss`` and ``reorder`` are probabilities of one delivery, 0–1; ``delay_s`` is how long a delivery takes, or the least and the
    most it takes.  Nothing is ever delivered inside :meth:`MemoryStream.send`: advance the clock, if only by 0.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        loss: float = 0.0,
        delay_s: float | tuple[float, float] = 0.0,
        reorder: float = 0.0,
        seed: int = 0,
        max_payload: int = MAX_MEDIA_PAYLOAD,
    ) -> None:
        self.loss = loss
        self.reorder = reorder
        self.delay_s = delay_s
        self.counts = MemoryCounts()
        self.clock = clock
        self.max_payload = max_payload
        self._random = Random(seed)
        self._streams: dict[str, list[MemoryStream]] = {}
        self._up = True

    def join(
        self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True
    ) -> "MemoryStream":
        """See :meth:`ice.streams.interface.Network.join`; the path opens as soon as the caller has returned."""
        identity = UUID(int=self._random.getrandbits(128), version=4)
        source = new_source(identity, self._random.getrandbits)
        stream = MemoryStream(self, checked_stream_id(stream_id), source, receiver, listen=listen, talk=talk)
        self._streams.setdefault(stream_id, []).append(stream)
        self.clock.callLater(0, self._begin, stream)
        return stream

    def hold(self) -> None:
        """See :meth:`ice.streams.rallypoint.RallypointNetwork.hold`; here nothing is gained by it."""

    def let_go(self) -> None:
        """See :meth:`hold`."""

    @property
    def up(self) -> bool:
        """Whether the path of every stream is open."""
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        if up is not self._up:
            self._up = up
            for streams in list(self._streams.values()):
                for stream in list(streams):
                    stream.path(up, self._why())

    def _begin(self, stream: "MemoryStream") -> None:
        stream.path(self._up, self._why())

    def _why(self) -> str:
        return "joined in memory" if self._up else "the test has cut the path"

    def carry(self, sender: "MemoryStream", datagram: Datagram) -> bool:
        """Send to every other party on the sender's stream."""
        if not sender.up:
            self.counts.without_path += 1
            return False
        if len(datagram.payload) > self.max_payload:
            self.counts.too_large += 1
            return False
        self.counts.sent += 1
        for stream in self._streams.get(sender.stream_id, ()):
            if stream is sender or not stream.listen:
                continue
            if self._random.random() < self.loss:
                self.counts.lost += 1
                continue
            self.clock.callLater(self._delay(), stream.deliver, datagram)
        return True

    def _delay(self) -> float:
        least, most = self.delay_s if isinstance(self.delay_s, tuple) else (self.delay_s, self.delay_s)
        delay = self._random.uniform(least, most)
        if self._random.random() < self.reorder:
            self.counts.overtaken += 1
            delay += REORDER_S
        return delay

    def left(self, stream: "MemoryStream") -> None:
        """A party has left."""
        streams = self._streams.get(stream.stream_id, [])
        if stream in streams:
            streams.remove(stream)
            if not streams:
                del self._streams[stream.stream_id]


class MemoryStream:
    """One party on a stream of a :class:`MemoryNetwork`."""

    def __init__(
        self,
        network: MemoryNetwork,
        stream_id: str,
        source: int,
        receiver: Receiver,
        *,
        listen: bool,
        talk: bool,
    ) -> None:
        self.stream_id = stream_id
        self.source = source
        self.listen = listen
        self.talk = talk
        self.up = False
        self._network = network
        self._receiver = receiver
        self._heard = Heard()
        self._sequence = 0
        self._left = False

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """See :meth:`ice.streams.interface.Stream.send`."""
        if not self.talk:
            raise LocalError(f"stream {self.stream_id!r} was joined to listen only (talk=False)")
        sent = self._network.carry(self, Datagram(flags, self.source, self._sequence, bytes(payload)))
        if sent:
            self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        return sent

    def forward(self, datagram: Datagram) -> bool:
        """See :meth:`ice.streams.interface.PassingStream.forward`; everybody is a satellite here."""
        network = self._network
        if not self.up:
            network.counts.without_path += 1
            return False
        again = self._heard.ask(datagram.source, datagram.sequence, network.clock.seconds())
        if again or datagram.source == self.source:
            network.counts.circular += 1
            return False
        return network.carry(self, datagram)

    def leave(self) -> None:
        """See :meth:`ice.streams.interface.Stream.leave`."""
        if not self._left:
            self._left = True
            self.up = False
            self._network.left(self)

    def path(self, up: bool, why: str) -> None:
        """The path opens or closes."""
        if not self._left and up is not self.up:
            self.up = up
            self._receiver.path(up, why)

    def deliver(self, datagram: Datagram) -> None:
        """A datagram has come this far."""
        counts = self._network.counts
        if self._left or not self.up:
            counts.missed += 1
        elif datagram.source == self.source or self._heard.ask(
            datagram.source, datagram.sequence, self._network.clock.seconds()
        ):
            counts.duplicates += 1
        else:
            counts.delivered += 1
            self._receiver.datagram(datagram)


class Collector:
    """A receiver that keeps what it hears, for tests and first steps."""

    def __init__(self) -> None:
        #: Every datagram, in the order heard.
        self.datagrams: list[Datagram] = []
        #: Every change of the path: whether it is up, and why.
        self.paths: list[tuple[bool, str]] = []

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.datagrams.append(datagram)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.paths.append((up, why))

    @property
    def payloads(self) -> list[bytes]:
        """What was said, in the order heard."""
        return [datagram.payload for datagram in self.datagrams]

    @property
    def sequences(self) -> list[int]:
        """The numbers, in the order heard."""
        return [datagram.sequence for datagram in self.datagrams]
