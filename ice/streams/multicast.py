"""Streams on a local network: each stream is a multicast group (or a unicast peer, or a broadcast), and there is no server.

:class:`MulticastNetwork` is the network; where a stream is heard and said, a :class:`Place`, is told by its ``place_of``.  Sockets, interfaces and everything that can go wrong with them
are :mod:`ice.net.multicast`'s affair; here datagrams get names, and what was here before is dropped.

**Names.**  There are none of ours on the wire; :mod:`ice.streams.naming` gives them on hearing.

**Once.**  :class:`~ice.streams.recent.Recent` knows the bytes of the last two seconds, said and heard.  Our own datagrams are not heard when another machine's reflector returns them, and what comes on two
ways is heard once.  What is passed on (:meth:`MulticastStream.forward`) is asked the same, so that two reflectors on one network do not answer each other for ever.

Everything is bounded: senders, bytes, datagrams.
"""

from collections.abc import Callable
from secrets import randbits
from typing import Any, Protocol
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred, succeed

from ice.config.multicast import MulticastSettings
from ice.errors import LocalError
from ice.link.naming import checked_stream_id
from ice.net.addresses import Address
from ice.net.clock import DelayedCall
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import REJOIN_S, MulticastSocket, Place, SocketCounts, SocketStatus
from ice.net.multicast_options import VOICE
from ice.streams.heard import Heard
from ice.streams.interface import Datagram, Receiver
from ice.streams.joined import Joined
from ice.streams.naming import Naming
from ice.streams.recent import Recent
from ice.streams.stream import Name, Names


@attrs.define
class MulticastCounts:
    """What one stream did and met above its socket.  Datagrams."""

    sent: int = 0  #: given to the kernel
    sent_bytes: int = 0  #: their payloads
    without_path: int = 0  #: not sent: there was no socket, or it could not send
    passed_on: int = 0  #: of those sent: others', forwarded
    circular: int = 0  #: not passed on: the stream had carried them before
    received: int = 0  #: given to the receiver
    received_bytes: int = 0  #: their payloads
    own: int = 0  #: our own, returned by another machine, not heard again
    duplicates: int = 0  #: the same bytes again, not heard again
    not_wanted: int = 0  #: heard where we talk only
    receiver_errors: int = 0  #: the receiver raised an exception
    restarts: int = 0  #: times that a talker's RTP numbers began somewhere else
    crowded: int = (
        0  #: times that bytes were forgotten before two seconds were over, since there were too many
    )
    forgotten: int = 0  #: senders forgotten, since there were too many


@attrs.frozen
class MulticastStatus:
    """How one stream stands, for people and monitors.  Times are the reactor's seconds."""

    stream_id: str
    interface: str  #: in use, or wanted; "" where none is needed
    rx: str
    tx: str
    joined: bool  #: a member of the group just now
    up: bool
    why: str  #: in a sentence
    heard_at: float | None  #: when the last datagram came
    senders: int  #: known now
    counts: MulticastCounts
    socket: SocketCounts


class Carrier(Protocol):
    """What a stream needs of a socket: :class:`ice.net.multicast.MulticastSocket`, or a test's."""

    counts: SocketCounts

    def start(self) -> None:
        """Use the place whenever possible."""

    def stop(self) -> None:
        """Be done."""

    def send(self, data: bytes) -> bool:
        """Send; False where that failed."""

    def status(self) -> SocketStatus:
        """How it stands."""


def place_of_settings(
    settings: MulticastSettings,
    rx: Address,
    tx: Address,
    *,
    interface: str = "",
    ttl: int | None = None,
    priority: int = VOICE,
    sources: tuple[str, ...] = (),
    sealed: bool = False,
) -> Place:
    """A place as a mission or a rule tells it, with what ``[multicast]`` says of this machine where they say nothing."""
    return Place(
        rx,
        tx,
        interface or settings.interface,
        settings.ttl if ttl is None else ttl,
        priority,
        settings.loopback,
        sources,
        sealed,
    )


class MulticastNetwork:
    """An :class:`ice.streams.interface.Network` without any server.

    Make it, :meth:`join` at any time, :meth:`start` it, and wait for :meth:`stop`.
    """

    def __init__(
        self,
        reactor: Any,
        place_of: Callable[[str], Place | None],
        *,
        identity: UUID,
        rejoin_s: float = REJOIN_S,
        watch: InterfaceWatch | None = None,
        socket_of: Callable[..., Carrier] = MulticastSocket,
        random_bits: Callable[[int], int] = randbits,
    ) -> None:
        """``place_of``: where a stream is, or None where nobody has said; ``identity``: our UUID, from which our own sources are made; ``rejoin_s``: join again after so
        much silence, 0: never; ``watch``: to share one with other sockets; ``socket_of``: what makes a socket, for tests.
        """
        self._reactor = reactor
        self._place_of = place_of
        self._names = Names(identity, random_bits)
        self._rejoin_s = rejoin_s
        self._watch = watch if watch is not None else InterfaceWatch(reactor)
        self._socket_of = socket_of
        self._random_bits = random_bits
        self._streams: dict[str, MulticastStream] = {}
        self._running = False

    def join(
        self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True
    ) -> "MulticastStream":
        """See :meth:`ice.streams.interface.Network.join`.  Raises :class:`LocalError` for a stream that is joined already.

        The path is told of when the caller has returned.
        """
        name = self._names.of(checked_stream_id(stream_id))
        if stream_id in self._streams:
            raise LocalError(f"stream {stream_id!r} is joined already: join it once, and share it")
        stream = MulticastStream(self, name, receiver, self._random_bits(64), listen=listen, talk=talk)
        self._streams[stream_id] = stream
        if self._running:
            stream.begin(self._place_of(stream_id))
        return stream

    def start(self) -> None:
        """Use every stream that is joined, and those to come; starting twice is harmless."""
        if not self._running:
            self._running = True
            self.refresh()

    def stop(self) -> "Deferred[None]":
        """Leave every stream; fires when nothing is left in the reactor, which is at once."""
        self._running = False
        for stream in list(self._streams.values()):
            stream.leave()
        return succeed(None)

    def refresh(self) -> None:
        """Ask ``place_of`` again for every stream; those that stay where they are notice nothing."""
        for stream in list(self._streams.values()):
            stream.begin(self._place_of(stream.stream_id))

    @property
    def up(self) -> bool:
        """Whether any stream can be used."""
        return any(stream.up for stream in self._streams.values())

    def status(self) -> tuple[MulticastStatus, ...]:
        """Every stream."""
        return tuple(stream.status() for stream in self._streams.values())

    # -- for streams ---------------------------------------------------------------------------------------------------

    def open(self, stream: "MulticastStream", place: Place) -> Carrier:
        """A socket for ``stream``, not started."""
        return self._socket_of(
            self._reactor,
            place,
            stream.heard,
            stream.path,
            rejoin_s=self._rejoin_s,
            listen=stream.listen,
            talk=stream.talk,
            watch=self._watch,
        )

    def seconds(self) -> float:
        """Now."""
        return float(self._reactor.seconds())

    def soon(self, call: Callable[[], None]) -> DelayedCall:
        """Call when whoever is calling has returned."""
        delayed: DelayedCall = self._reactor.callLater(0, call)
        return delayed

    def left(self, stream: "MulticastStream") -> None:
        """``stream`` is done with."""
        if self._streams.get(stream.stream_id) is stream:
            del self._streams[stream.stream_id]


class MulticastStream(Joined):
    """A stream joined by :meth:`MulticastNetwork.join`."""

    def __init__(
        self,
        network: MulticastNetwork,
        name: Name,
        receiver: Receiver,
        nonce: int,
        *,
        listen: bool,
        talk: bool,
    ) -> None:
        self.counts = MulticastCounts()
        super().__init__(name.stream_id, name.source, receiver, self.counts, listen=listen, talk=talk)
        #: Where it is, or None where nobody has said.
        self.place: Place | None = None
        self._network = network
        self._nonce = nonce
        self._naming = Naming(name.stream_id, nonce, sealed=False)
        self._window = Heard()
        self._said = Recent()
        self._heard = Recent()
        self._socket: Carrier | None = None
        self._soon: DelayedCall | None = None

    # -- ice.streams.interface.Stream, PassingStream -------------------------------------------------------------------

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """See :meth:`ice.streams.interface.Stream.send`.  ``flags`` are not on the wire: RTP says the same in its own words.

        Raises :class:`LocalError` where the stream was joined to listen only.
        """
        self._may_talk()
        return self._put(bytes(payload))

    def forward(self, datagram: Datagram) -> bool:
        """See :meth:`ice.streams.interface.PassingStream.forward`.  Nobody's leave is needed on a local network.

        Raises :class:`LocalError` where the stream was joined to listen only.
        """
        self._may_talk()
        counts, now, payload = self.counts, self._network.seconds(), datagram.payload
        if not self.up:
            counts.without_path += 1
            return False
        if (
            datagram.source == self.source
            or self._window.ask(datagram.source, datagram.sequence, now)
            or self._heard.seen(payload, now)
            or self._said.seen(payload, now)
        ):
            counts.circular += 1
            return False
        sent = self._put(payload)
        counts.passed_on += sent
        return sent

    def status(self) -> MulticastStatus:
        """How it stands."""
        place, sock = self.place, self._socket
        self.counts.restarts, self.counts.forgotten = self._naming.restarts, self._naming.forgotten
        self.counts.crowded = self._said.overflows + self._heard.overflows
        below = None if sock is None else sock.status()
        return MulticastStatus(
            stream_id=self.stream_id,
            interface="" if below is None else below.interface,
            rx="" if place is None else str(place.rx),
            tx="" if place is None else str(place.tx),
            joined=below is not None and below.joined,
            up=self.up,
            why=self.why if below is None else below.why,
            heard_at=None if below is None else below.heard_at,
            senders=len(self._naming),
            counts=self.counts,
            socket=SocketCounts() if sock is None else sock.counts,
        )

    # -- for the network and the socket --------------------------------------------------------------------------------

    def begin(self, place: Place | None) -> None:
        """Be at ``place`` from now on; None: nowhere."""
        if self._left or (place == self.place and (self._socket is not None or self._soon is not None)):
            return
        self._close()
        self.place = place
        self._naming.sealed = place is not None and place.sealed
        if place is not None:
            self._socket = self._network.open(self, place)
        self._soon = self._network.soon(self._begin)

    def _begin(self) -> None:
        self._soon = None
        if self._socket is not None:
            self._socket.start()
        else:
            self.path(False, f"nobody has said where stream {self.stream_id} is on a local network")

    def heard(self, data: bytes, sender: Address) -> None:
        """The hot path: a datagram from the socket."""
        counts, now = self.counts, self._network.seconds()
        if not self.listen or self._left:
            counts.not_wanted += 1
            return
        if self._said.seen(data, now):
            counts.own += 1
            return
        if self._heard.ask(data, now):
            counts.duplicates += 1
            return
        flags, source, sequence = self._naming.name(data, sender)
        self._window.ask(source, sequence, now)  # marked, so that it is never passed on to where it came from
        counts.received += 1
        counts.received_bytes += len(data)
        self.deliver(Datagram(flags, source, sequence, data))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _put(self, payload: bytes) -> bool:
        counts, sock = self.counts, self._socket
        if sock is None or not sock.send(payload):
            counts.without_path += 1
            return False
        self._said.ask(payload, self._network.seconds())
        counts.sent += 1
        counts.sent_bytes += len(payload)
        return True

    def _close(self) -> None:
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None
        if self._socket is not None:
            self._socket.stop()
            self._socket = None

    def _gone(self) -> None:
        self._close()
        self._network.left(self)


__all__ = [
    "MulticastCounts",
    "MulticastNetwork",
    "MulticastStatus",
    "MulticastStream",
    "Naming",
    "Place",
    "place_of_settings",
]
