"""One stream and its rules on real sockets: the thin driver of :class:`ice.reflector.engine.Reflection`.

The stream is joined once, however many rules it has: to listen where any of them speaks into a group where somebody listens, to talk where any hears.  Each rule has a socket that
hears and speaks, and one more for each further destination.  A rule that a reload leaves as it is keeps its sockets, names and counters.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, Protocol

import attrs
from twisted.logger import Logger

from ice.net.addresses import Address
from ice.net.clock import DelayedCall
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import MulticastSocket, SocketCounts, SocketStatus
from ice.net.place import Place
from ice.reflector.engine import Port, Reflection
from ice.reflector.news import News
from ice.reflector.recorder import Recorder
from ice.reflector.rules import Rule
from ice.reflector.translation import Translation
from ice.streams.interface import Datagram
from ice.streams.rallypoint import RallypointNetwork, RallypointStream
from ice.streams.stream import NO_PATH

MOST: Final = 64  # datagrams of one system call (ice.net.batch)


class Carrier(Protocol):
    """What a rule needs of a socket: :class:`ice.net.multicast.MulticastSocket`, or a test's."""

    counts: SocketCounts
    up: bool
    why: str

    def start(self) -> None:
        """Use the place whenever possible."""

    def stop(self) -> None:
        """Be done."""

    def send_many(self, datagrams: Sequence[bytes]) -> int:
        """Send them in order; how many went."""

    def origin(self) -> Address:
        """Where what is sent comes from."""

    def status(self) -> SocketStatus:
        """How it stands."""


@attrs.frozen
class Ground:
    """What all streams of a reflector share."""

    reactor: Any
    network: RallypointNetwork
    watch: InterfaceWatch
    wall: Callable[[], float]
    random: Random
    news: News
    socket_of: Callable[..., Carrier] = MulticastSocket


class Mouth:
    """Sends what one turn of the reactor has brought in one call: many datagrams come out of one TLS record, and a system call for each would cost more than all else.

    They leave when the turn is over, which is at once, or when there are :data:`MOST`.
    """

    __slots__ = ("_failed", "_reactor", "_sock", "_soon", "_waiting", "recorded")

    def __init__(self, reactor: Any, sock: Carrier, failed: Callable[[int], None]) -> None:
        """``failed`` is told how many did not go."""
        self._reactor = reactor
        self._sock = sock
        self._failed = failed
        #: Who is told of all that is given to the socket, where somebody captures it.
        self.recorded: Callable[[list[bytes]], None] | None = None
        self._waiting: list[bytes] = []
        self._soon: DelayedCall | None = None

    def __call__(self, data: bytes) -> bool:
        """Send ``data``; what fails is told later."""
        waiting = self._waiting
        waiting.append(data)
        if len(waiting) >= MOST:
            self._flush()
        elif self._soon is None:
            self._soon = self._reactor.callLater(0, self._turn)
        return True

    def close(self) -> None:
        """Send what waits, and nothing more."""
        self._flush()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None

    def _turn(self) -> None:
        self._soon = None
        self._flush()

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            unsent = len(waiting) - self._sock.send_many(waiting)
            if unsent:
                self._failed(unsent)
            if self.recorded is not None:
                self.recorded(waiting)


@attrs.define(eq=False)
class Tie:
    """One rule at work."""

    rule: Rule
    port: Port
    sockets: tuple[Carrier, ...] = ()
    mouths: tuple[Mouth, ...] = ()
    rejoin_s: float = 0.0
    told: dict[int, bool] = attrs.field(factory=dict)
    #: What writes a capture, where the rule wants one.
    recorder: Recorder | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"rule {self.rule.number} ({self.rule.name})"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know beside how it stands, in sentences."""
        recorder = self.recorder
        return (f"nothing is captured: {recorder.why}",) if recorder is not None and recorder.why else ()

    @property
    def up(self) -> bool:
        """Whether every place can be used."""
        return all(sock.up for sock in self.sockets)

    @property
    def why(self) -> str:
        """How the places stand: the first that cannot be used, else the first."""
        return next((sock.why for sock in self.sockets if not sock.up), self.sockets[0].why)


class Reflected:
    """See the module's docstring.  :meth:`use` gives it its rules, at first and at each reload; :meth:`stop` ends it."""

    _log = Logger()

    def __init__(self, ground: Ground, stream_id: str, *, active: bool) -> None:
        self.stream_id = stream_id
        self.ties: tuple[Tie, ...] = ()
        #: How the stream stands.
        self.up = False
        self.why = "not tried yet"
        self.reflection = Reflection(
            stream_id, self._forward, self, wall=ground.wall, random=ground.random, active=active
        )
        self._ground = ground
        self._stream: RallypointStream | None = None
        self._joined = (False, False)
        self._seconds: Callable[[], float] = ground.reactor.seconds
        #: Where several reflectors are a group: whether we may send at this moment; asked before each turn's datagrams are looked at, it makes us a standby in time.
        self.may_act: Callable[[], bool] | None = None

    def use(self, rules: Sequence[tuple[Rule, Translation | None]], rejoin_s: float) -> None:
        """Have these rules from now on."""
        before = {tie.port: tie for tie in self.ties}
        ports = self.reflection.open(
            [(rule.terms, translation) for rule, translation in rules], self._seconds()
        )
        ties = []
        for (rule, _), port in zip(rules, ports, strict=True):
            tie = before.pop(port, None)
            if tie is None or tie.rule.places != rule.places or tie.rejoin_s != rejoin_s:
                if tie is not None:
                    self._close(tie)
                tie = Tie(rule, port, rejoin_s=rejoin_s)
                self._open(tie)
            tie.rule = rule
            self._record(tie)
            ties.append(tie)
        for tie in before.values():
            self._close(tie)
        self.ties = tuple(ties)
        for tie in ties:
            for sock in tie.sockets:
                sock.start()
        self.refresh()
        self.join()

    def stop(self) -> None:
        """Leave the stream and the groups."""
        for tie in self.ties:
            self._close(tie)
        self.ties = ()
        if self._stream is not None:
            self._stream.leave()
            self._stream = None
            self._joined = (False, False)

    def tick(self, now: float) -> None:
        """Some times a second."""
        self.reflection.tick(now)
        for tie in self.ties:
            if tie.recorder is not None:
                tie.recorder.flush()

    def refresh(self) -> None:
        """Which addresses are ours, on the network of each rule."""
        present = self._ground.watch.present
        for tie in self.ties:
            name = tie.sockets[0].status().interface
            interface = present.get(name)
            if interface is not None:
                tie.port.own_hosts = interface.addresses
            elif not name:
                tie.port.own_hosts = tuple(a for each in present.values() for a in each.addresses)

    def want(self, listened: Callable[[str, str], bool]) -> None:
        """Fetch the stream where somebody listens to a group that it goes to; ``listened(interface, group)`` tells."""
        for tie in self.ties:
            tie.port.wanted = any(
                listened(sock.status().interface, sock.status().tx.rpartition(":")[0].strip("[]"))
                for sock in tie.sockets
            )
        self.join()

    def join(self) -> None:
        """Join the stream as it is wanted now."""
        wanted = (self.reflection.wanted, any(tie.rule.terms.hears for tie in self.ties))
        if wanted == self._joined:
            return
        if self._stream is not None:
            self._stream.leave()
            self._stream = None
        self._joined = wanted
        if any(wanted):
            listen, talk = wanted
            self._stream = self._ground.network.join(self.stream_id, self, listen=listen, talk=talk)
        else:
            self.up, self.why = False, "nobody listens to the group"

    # -- ice.streams.interface.Receiver --------------------------------------------------------------------------------

    def datagram(self, datagram: Datagram) -> None:
        """The hot path from the stream."""
        if self.may_act is not None:
            self.may_act()
        self.reflection.datagram(datagram, self._seconds())

    def path(self, up: bool, why: str) -> None:
        """The stream is open, or closed."""
        self.up, self.why = up, why
        # The network says what a person acts on: a link that is lost, a stream that is refused. Hundreds of streams would say the same again.
        self._log.debug(
            "stream {stream} is {how}: {why}",
            stream=self.stream_id,
            how="open" if up else "closed",
            why=why,
        )

    # -- ice.reflector.engine.Watcher ----------------------------------------------------------------------------------

    def flood(self, port: Port, host: str) -> None:
        """Somebody sends too much."""
        self._log.warn(
            "{rule}: {host} sends more than {rate:g} datagrams a second; what is over that is dropped "
            "(reflector.sender_packets_per_s, or deny)",
            rule=self._name(port),
            host=host,
            rate=port.terms.packets_per_s,
        )

    def paused(self, port: Port, why: str, seconds: float) -> None:
        """A circle."""
        self._log.error(
            "{rule} pauses for {seconds:.1f} s: {why}; of all reflectors of a group one may run",
            rule=self._name(port),
            seconds=seconds,
            why=why,
        )

    def resumed(self, port: Port) -> None:
        """Tried again."""
        self._log.info("{rule} is tried again", rule=self._name(port))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _forward(self, datagrams: Sequence[Datagram]) -> Sequence[str]:
        stream = self._stream
        return [NO_PATH] * len(datagrams) if stream is None else stream.forward_many(datagrams)

    def _open(self, tie: Tie) -> None:
        ground, rule, port = self._ground, tie.rule, tie.port
        seconds = self._seconds

        def heard(datagrams: list[tuple[bytes, Address]]) -> None:
            if self.may_act is not None:
                self.may_act()
            if tie.recorder is not None:
                tie.recorder.heard(datagrams, rule.places[0].rx)
            port.heard_many(datagrams, seconds())

        def socket(at: int, place: Place) -> Carrier:
            return ground.socket_of(
                ground.reactor,
                place,
                None,
                lambda up, why: self._changed(tie, at, up, why),
                received_many=heard,
                rejoin_s=tie.rejoin_s,
                listen=rule.terms.hears and at == 0,
                talk=rule.terms.speaks,
                watch=ground.watch,
            )

        tie.sockets = tuple(socket(at, place) for at, place in enumerate(rule.places))

        def unsent(count: int) -> None:
            port.outward.dropped["unsent"] += count

        if rule.terms.speaks:
            tie.mouths = tuple(Mouth(ground.reactor, sock, unsent) for sock in tie.sockets)
        port.sends = tie.mouths

    def _close(self, tie: Tie) -> None:
        for mouth in tie.mouths:
            mouth.close()
        for sock in tie.sockets:
            sock.stop()
        tie.port.sends = ()
        if tie.recorder is not None:
            tie.recorder.stop()

    def _record(self, tie: Tie) -> None:
        """Capture as the rule says now: begin, end, or go on."""
        settings, recorder = tie.rule.settings, tie.recorder
        path, most = settings.capture_file, settings.capture_bytes
        if recorder is not None and not recorder.same(path, most):
            recorder.stop()
            recorder = None
        if recorder is None and path is not None:
            recorder = Recorder(path, most, self._ground.wall, partial(self._not_captured, tie))
            recorder.start()
        tie.recorder = recorder
        for mouth, sock, place in zip(tie.mouths, tie.sockets, tie.rule.places, strict=False):
            mouth.recorded = None if recorder is None else _recording(recorder, sock, place.tx)

    def _not_captured(self, tie: Tie, why: str) -> None:
        self._log.error(
            "{rule}: nothing is captured, and all is passed on as before: {why}",
            rule=tie.name,
            why=why,
        )

    def _changed(self, tie: Tie, at: int, up: bool, why: str) -> None:
        """A place can be used, or can not."""
        before = tie.told.get(at)
        if before is up:
            return
        tie.told[at] = up
        if not up:
            self._ground.news.closed(tie.name, why)
        elif before is not None:  # that a place can be used is news only where it could not
            self._ground.news.opened(tie.name, why)

    def _name(self, port: Port) -> str:
        return next((tie.name for tie in self.ties if tie.port is port), self.stream_id)


def _recording(recorder: Recorder, sock: Carrier, to: Address) -> Callable[[list[bytes]], None]:
    return lambda datagrams: recorder.said(datagrams, sock.origin(), to)
