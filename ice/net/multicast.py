"""Datagrams on a local network: one place where they are heard, one where they are said, and whether that works just now.

A :class:`Place` says where: a multicast group (one of each direction, if need be), a single machine, or everybody (broadcast).  A :class:`MulticastSocket` is
the place in use.  It tells its owner two things: each datagram with its sender (``received``), and whether the place can be used, with a sentence
(``changed``).  What the datagrams are is not its affair: streams, ballots and reflectors are built on it alike.

::

    closed --- the interface is there, has an address, sockets open, the group is joined ---> open
      ^                                                                                         |
      +---- interface gone or without carrier or address, nothing can be sent for a second <----+

**Which interface.**  :func:`ice.net.place.choose` says, and why there is none.  It is asked again whenever the interfaces change (:mod:`ice.net.interfaces`), and every second while closed.  An interface that returns under its
name is another one for the kernel, with another number: the sockets are opened anew.  One whose address changed is the same: the group is left and joined again,
so that switches and routers hear of it from the address that is now true.

**Joining again after silence.**  A switch that has lost its memory does not send us the group any more, and nobody would notice.  When nothing of others was heard for ``rejoin_s`` (our own voice looped back proves nothing), the
group is left and joined on the same socket, which makes the kernel report its membership.  What waits in the socket is not touched by that, the two calls follow each other within
some microseconds, and they are made only when nothing has come for seconds.  Membership belongs to an interface: while another program of this machine is in the
same group, the kernel reports nothing on our leaving and joining.

**Our own voice.**  Loopback is on by default, so that two programs of one machine hear each other; what we said ourselves comes back too and is dropped, known by our own talking port.
"""

import socket
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol

import attrs
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from ice.net import batch
from ice.net import multicast_options as options
from ice.net.addresses import Address
from ice.net.batch import Intake, Outlet
from ice.net.clock import DelayedCall
from ice.net.interfaces import Interface, InterfaceWatch
from ice.net.multicast_options import RECEIVE_BUFFER
from ice.net.place import Closed, Place, choose

MAX_DATAGRAM: Final = (
    65_507  # the largest payload of one UDP datagram over IPv4; over IPv6 no more is taken either
)
BATCH: Final = 64  # datagrams of one socket before others have their turn: a millisecond of Python; a link brings up to 300
MAX_KNOWN: Final = 1_024  # senders whose address is kept as text; a flood of invented ones costs no more
PULSE_S: Final = 1.0  # how often a closed place is tried, and a silent one looked at
FAILING_S: Final = 1.0  # nothing could be sent for this long: the path is closed
REJOIN_S: Final = 8.0
BEHIND_S: Final = 60.0  # that the kernel drops is said again after so long
STILL_S: Final = (
    3.0  # a turn of the reactor is milliseconds, a pulse a second: after this we have stood still
)


@attrs.define
class SocketCounts:
    """What one :class:`MulticastSocket` did and met.  Datagrams, unless said otherwise."""

    sent: int = 0  #: given to the kernel
    sent_bytes: int = 0  #: their payloads
    unsent: Counter[str] = attrs.field(
        factory=Counter
    )  #: not sent, by reason: ``closed`` or the kernel's name of the error (eperm, enetunreach, enobufs, emsgsize, …)
    received: int = 0  #: given to the owner
    received_bytes: int = 0  #: their payloads
    stale: int = 0  #: dropped, since they had come while this process stood still
    own: int = 0  #: our own, looped back by the kernel, not given to the owner
    too_large: int = 0  #: longer than 65,507 bytes, dropped
    empty: int = 0  #: without payload, dropped
    other_interface: int = 0  #: of the same IPv6 group on another interface, dropped
    kernel_dropped: int = 0  #: dropped by the kernel, since we were too slow to read
    receive_errors: int = 0  #: reading failed
    owner_errors: int = 0  #: the owner raised an exception
    opens: int = 0  #: times the sockets were opened
    joins: int = 0  #: times the group was joined, however often
    rejoins: int = 0  #: of those, after silence or a change of address
    join_failures: Counter[str] = attrs.field(factory=Counter)  #: by the kernel's name of the error


@attrs.frozen
class SocketStatus:
    """How a :class:`MulticastSocket` stands.  Times are the reactor's seconds."""

    interface: str  #: in use, or wanted, or "" where none is needed
    rx: str
    tx: str
    joined: bool  #: a member of the group just now
    up: bool
    why: str
    heard_at: float | None  #: when the last datagram came


class Received(Protocol):
    """What a socket does with each datagram."""

    def __call__(self, data: bytes, sender: Address) -> None:
        """``data`` came from ``sender``."""


class ReceivedMany(Protocol):
    """What a socket does with all that a turn has brought."""

    def __call__(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """These came, in this order, each with its sender: at least one, at most :data:`BATCH`.  The same sender is the same object for as long as it is known."""


class MulticastSocket:
    """A :class:`Place` in use: :meth:`start` it, :meth:`send` or :meth:`send_many` at any time, :meth:`stop` it.

    ``received(data, sender)`` gets each datagram of others, 1 to 65,507 bytes; ``received_many``, where given, gets them by the turn instead, for who has many.  ``changed(up, why)`` is called when the place becomes usable or ceases to be, the first time from
    :meth:`start`; ``why`` is a sentence.  ``watch``: share one among all the sockets of a program.  ``listen``, ``talk``: do only one of the two.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: Place,
        received: Received | None,
        changed: Callable[[bool, str], None],
        *,
        received_many: ReceivedMany | None = None,
        rejoin_s: float = REJOIN_S,
        listen: bool = True,
        talk: bool = True,
        watch: InterfaceWatch | None = None,
        intake: Intake | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        """``rejoin_s``: join again after so much silence, in seconds; 0: never.  ``intake``, ``outlet``: those of :mod:`ice.net.batch`, unless a test has its own."""
        self.place = place
        self.counts = SocketCounts()
        self.up = False
        self.why = "not tried yet"
        self.joined = False
        self.heard_at: float | None = None
        self._reactor = reactor
        self._received = received
        self._received_many = received_many
        self._changed = changed
        self._intake = intake if intake is not None else batch.intake()
        self._outlet = outlet if outlet is not None else batch.outlet()
        self._known = _Known(self._meet)
        self._rejoin_s = rejoin_s
        self._listen = listen
        self._talk = talk
        self._watch = watch if watch is not None else InterfaceWatch(reactor)
        self._using: Interface | None = None
        self._rx: socket.socket | None = None
        self._tx: socket.socket | None = None
        self._ear: _Ear | None = None
        self._own_host = ""
        self._own_port = 0
        self._to: tuple[str, int] | tuple[str, int, int, int] = ("", 0)
        self._quiet_since = 0.0
        self._failing_since: float | None = None
        self._failing_why = ""
        self._dropped = 0
        self._behind_at = float("-inf")
        self._beat_at = 0.0
        self._told: bool | None = None
        self._running = False
        self._failed = False
        self._pulse: DelayedCall | None = None

    # -- for the owner -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Use the place as soon as that is possible, and again whenever it is; starting twice is harmless."""
        if not self._running:
            self._running = True
            self._watch.add(self._look)  # which looks now, where it is the first
            if self._told is None:
                self._look()
            if self._running:  # who was told may have stopped us
                self._beat_at = self._reactor.seconds()
                self._pulse = self._reactor.callLater(PULSE_S, self._beat)

    def stop(self) -> None:
        """Be done; nothing is told afterwards.  Stopping twice is harmless."""
        if self._running:
            self._running = False
            self._watch.remove(self._look)
            if self._pulse is not None and self._pulse.active():
                self._pulse.cancel()
            self._close()
            self.up, self.why = False, "left"

    def send(self, data: bytes) -> bool:
        """Send one datagram to ``place.tx``; False, and counted by reason, where the kernel did not take it."""
        tx, counts = self._tx, self.counts
        if tx is None:
            counts.unsent["closed"] += 1
            return False
        try:
            tx.sendto(data, self._to)
        except OSError as error:
            self._not_sent(error)
            return False
        counts.sent += 1
        counts.sent_bytes += len(data)
        if self._failing_since is not None:
            self._sent_again()
        return True

    def send_many(self, datagrams: Sequence[bytes]) -> int:
        """Send them to ``place.tx`` in order; how many the kernel took.  The others are counted by reason."""
        tx, counts = self._tx, self.counts
        if tx is None:
            counts.unsent["closed"] += len(datagrams)
            return 0
        given = self._outlet.give(tx, datagrams, self._to)
        counts.sent += given.sent
        counts.sent_bytes += given.sent_bytes
        for error in given.errors:
            self._not_sent(OSError(error, ""))
        if self._failing_since is not None and given.sent:
            self._sent_again()
        return given.sent

    def origin(self) -> Address:
        """Where what we say comes from: our address on the interface in use (unspecified where there is none), and our port."""
        using, six = self._using, ":" in self.place.tx.host
        known = () if using is None else using.addresses_of(six)
        return Address(self._own_host or (known[0] if known else "::" if six else "0.0.0.0"), self._own_port)

    def status(self) -> SocketStatus:
        """How it stands."""
        using = self._using
        return SocketStatus(
            interface=self.place.interface if using is None else using.name,
            rx=str(self.place.rx),
            tx=str(self.place.tx),
            joined=self.joined,
            up=self.up,
            why=self.why,
            heard_at=self.heard_at,
        )

    # -- inside: opening and closing -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Open, close, or join again, as the interfaces are now."""
        if not self._running:
            return
        self._known.clear()  # who we are may have changed
        try:
            wanted = choose(self.place, self._watch, listen=self._listen, talk=self._talk)
        except Closed as closed:
            self._close()
            self._tell(False, str(closed))
            return
        before = self._using
        if self._is_open and _number(before) == _number(wanted):
            self._using = wanted
            if wanted is not None and before is not None and wanted.addresses != before.addresses:
                self._rejoin()
            return
        self._close()
        self._open(wanted)

    @property
    def _is_open(self) -> bool:
        return self._tx is not None or self._rx is not None

    def _open(self, interface: Interface | None) -> None:
        place, counts = self.place, self.counts
        index = 0 if interface is None else interface.index
        name = "" if interface is None else interface.name
        step, joining = f"cannot open a socket for {place.tx}", False
        try:
            if self._listen:
                step = f"cannot listen on {place.rx}"
                self._rx = options.listening(place.rx, index, shared=self._shared)
            if self._talk:
                step = f"cannot send to {place.tx}"
                self._tx = self._rx if self._symmetric else options.talking(place.tx, index)
                assert self._tx is not None
                options.mark(
                    self._tx, place.tx, ttl=place.ttl, priority=place.priority, loopback=place.loopback
                )
                host, self._own_port = self._tx.getsockname()[:2]
                self._own_host = host if self._tx is self._rx and host not in ("0.0.0.0", "::") else ""
                self._to = options.destination(place.tx, index)
            if self._rx is not None and self._hears_group:
                step, joining = f"cannot join {place.rx.host}" + (f" on {name}" if name else ""), True
                options.join(self._rx, place.rx.host, index, place.sources)
                self.joined = True
                counts.joins += 1
        except OSError as error:
            if joining:
                counts.join_failures[options.reason(error)] += 1
            self._using = interface
            self._close()
            why = options.explain(
                error, to=place.rx.host if joining else place.tx.host, interface=name, joining=joining
            )
            self._tell(False, f"{step}: {why}")
            return
        self._using = interface
        self._known.clear()
        counts.opens += 1
        self._quiet_since = self._reactor.seconds()
        self._failing_since = None
        self._dropped = 0
        if self._rx is not None:
            self._ear = _Ear(self._reactor, self._rx, self._read, self._ear_lost)
        self._tell(True, self._where())

    def _close(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None
        for sock in (self._tx, self._rx):
            if sock is not None:
                sock.close()  # which leaves the group
        self._tx = self._rx = self._using = None
        self.joined = False
        self._failing_since = None

    def _ear_lost(self) -> None:
        """The reactor gave the socket up."""
        self._close()
        self._tell(False, "the socket was lost; it is opened again")

    @property
    def _symmetric(self) -> bool:
        """Machine to machine: what we say comes from the port where we listen (RFC 4961), so that it finds its way back through a NAT."""
        rx, tx = self._rx, self.place.tx.host
        return (
            rx is not None
            and not self._shared
            and not options.is_multicast(tx)
            and tx != options.BROADCAST
            and options.family_of(tx) == rx.family
        )

    @property
    def _hears_group(self) -> bool:
        return options.is_multicast(self.place.rx.host)

    @property
    def _shared(self) -> bool:
        """Whether others may listen at the same address and port: on a group or a broadcast, all hear the same."""
        host = self.place.rx.host
        return self._hears_group or host == options.BROADCAST or self._watch.broadcast(host)

    def _where(self) -> str:
        place, using = self.place, self._using
        on = f" on {using.name}" if using is not None else ""
        if self.joined:
            return f"joined {place.rx}{on}"
        return f"{'listening at ' + str(place.rx) if self._listen else 'talking to ' + str(place.tx)}{on}"

    # -- inside: time --------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        self._stood_still()
        self._pulse = self._reactor.callLater(PULSE_S, self._beat)
        try:
            if not self._is_open:
                self._look()
                return
            if not self.up:
                self._probe()
            now = self._reactor.seconds()
            if self.joined and self._rejoin_s and now - self._quiet_since >= self._rejoin_s:
                self._rejoin()
        except Exception:
            self._log.failure("a turn of the multicast socket at {place} failed", place=str(self.place.rx))

    def _rejoin(self) -> None:
        """Leave and join, so that switches and routers hear of us again."""
        rx, using, place, counts = self._rx, self._using, self.place, self.counts
        self._quiet_since = self._reactor.seconds()
        if rx is None or using is None or not self.joined:
            return
        options.leave(rx, place.rx.host, using.index, place.sources)
        try:
            options.join(rx, place.rx.host, using.index, place.sources)
        except OSError as error:
            counts.join_failures[options.reason(error)] += 1
            why = options.explain(error, to=place.rx.host, interface=using.name, joining=True)
            self._close()
            self._tell(False, f"cannot join {place.rx.host} on {using.name} again: {why}")
            return
        counts.joins += 1
        counts.rejoins += 1

    # -- inside: sending -----------------------------------------------------------------------------------------------

    def _not_sent(self, error: OSError) -> None:
        why = options.reason(error)
        self.counts.unsent[why] += 1
        if why == "emsgsize":
            return  # the datagram's fault, not the path's
        now = self._reactor.seconds()
        if self._failing_since is None:
            self._failing_since = now
        elif self.up and now - self._failing_since >= FAILING_S:
            using = "" if self._using is None else self._using.name
            said = options.explain(error, to=self.place.tx.host, interface=using)
            self._tell(False, f"cannot send to {self.place.tx}: {said}")

    def _sent_again(self) -> None:
        self._failing_since = None
        if not self.up:
            self._tell(True, self._where())

    def _probe(self) -> None:
        """Whether sending works again: an empty datagram, which says nothing to anybody."""
        if self._tx is None or self._failing_since is None:
            return
        try:
            self._tx.sendto(b"", self._to)
        except OSError:
            return
        self._sent_again()

    # -- inside: hearing -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """What has come, up to :data:`BATCH` datagrams."""
        rx, counts, using = self._rx, self.counts, self._using
        if rx is None:
            return
        if self._stood_still():
            return
        strict = using is not None and rx.family == socket.AF_INET6 and self._hears_group
        taken = self._intake.take(rx, BATCH, MAX_DATAGRAM, using.index if strict and using is not None else 0)
        counts.receive_errors += taken.failed
        counts.empty += taken.empty
        counts.too_large += taken.too_large
        counts.other_interface += taken.other_interface
        if taken.dropped is not None and taken.dropped != self._dropped:
            self._behind(rx, taken.dropped)
        known = self._known
        heard = [
            (data, sender)
            for data, key in zip(taken.datagrams, taken.senders, strict=True)
            if (sender := known[key]) is not None
        ]
        counts.own += len(taken.datagrams) - len(heard)
        if not heard:
            return
        self.heard_at = self._quiet_since = self._reactor.seconds()
        if self._received_many is not None:
            counts.received += len(heard)
            counts.received_bytes += sum([len(data) for data, _ in heard])
            try:
                self._received_many(heard)
            except Exception:
                self._owner_failed()
            return
        assert self._received is not None
        for data, sender in heard:
            counts.received += 1
            counts.received_bytes += len(data)
            try:
                self._received(data, sender)
            except Exception:
                self._owner_failed()
            if self._rx is not rx:  # the owner has stopped us
                break

    def _behind(self, rx: socket.socket, dropped: int) -> None:
        """The kernel had no room for what came while we did not read: count it, and say it once in a while."""
        more, self._dropped = (dropped - self._dropped) & 0xFFFF_FFFF, dropped
        self.counts.kernel_dropped += more
        now = self._reactor.seconds()
        if now - self._behind_at < BEHIND_S:
            return
        self._behind_at = now
        held = rx.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        room = "the processor is too slow, or others have it"
        if held < RECEIVE_BUFFER:
            room = f"it may hold {held:,} bytes: sudo sysctl net.core.rmem_max={RECEIVE_BUFFER}, then restart"
        self._log.warn(
            "{place}: the kernel has dropped {more} datagrams, since more came than were read; {room}",
            place=str(self.place.rx),
            more=more,
            room=room,
        )

    def _owner_failed(self) -> None:
        self.counts.owner_errors += 1
        if not self._failed:  # once: fifty lines a second say no more
            self._failed = True
            self._log.failure("whoever hears {place} failed", place=str(self.place.rx))

    def _meet(self, key: Hashable) -> Address | None:
        """Who sends under this key; None: ourselves."""
        host, port = self._intake.host_and_port(key)
        return None if port == self._own_port and self._is_own(host) else Address(host, port)

    def _stood_still(self) -> bool:
        """Where we have not run for :data:`STILL_S` (the machine slept, a debugger), what waits is old speech: nobody is to hear it."""
        now = self._reactor.seconds()
        still, self._beat_at = now - self._beat_at > STILL_S, now
        rx = self._rx
        if not still or rx is None:
            return False
        try:
            for _ in range(
                RECEIVE_BUFFER // 256
            ):  # more than it can hold, with what the kernel counts for each
                rx.recv(1)
                self.counts.stale += 1
        except OSError:
            pass
        return True

    def _is_own(self, host: str) -> bool:
        """Whether a datagram from our own port at ``host`` is our own."""
        return host == self._own_host if self._own_host else self._watch.local(host)

    def _tell(self, up: bool, why: str) -> None:
        self.up, self.why = up, why
        if up is self._told:
            return
        self._told = up
        try:
            self._changed(up, why)
        except Exception:
            self.counts.owner_errors += 1
            self._log.failure("whoever uses {place} failed", place=str(self.place.rx))


class _Known(dict[Hashable, Address | None]):
    """Senders by their keys; who is not there is met."""

    def __init__(self, meet: Callable[[Hashable], Address | None]) -> None:
        super().__init__()
        self._meet = meet

    def __missing__(self, key: Hashable) -> Address | None:
        if len(self) >= MAX_KNOWN:
            self.clear()
        self[key] = sender = self._meet(key)
        return sender


def _number(interface: Interface | None) -> int:
    return 0 if interface is None else interface.index


@implementer(IReadDescriptor)
class _Ear:
    """A socket that the reactor watches."""

    def __init__(
        self, reactor: Any, sock: socket.socket, read: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self._reactor, self._sock, self._read, self._lost = reactor, sock, read, lost
        reactor.addReader(self)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "multicast"

    def doRead(self) -> None:
        """See IReadDescriptor."""
        self._read()

    def connectionLost(self, reason: object) -> None:
        """See IFileDescriptor."""
        self._lost()

    def close(self) -> None:
        """Be watched no more; the socket is closed by its owner."""
        self._reactor.removeReader(self)


def descriptors() -> tuple[type, ...]:
    """What the reactor reads sockets by, for :func:`ice.net.poll.shorten`."""
    return (_Ear,)


__all__ = ["MAX_DATAGRAM", "MulticastSocket", "Place", "SocketCounts", "SocketStatus", "descriptors"]
