"""Streams over a Rallypoint cluster: one link at a time to whichever address is best, every stream joined again on each.

Three parts share the work.  The :class:`~ice.streams.roster.Roster` decides which address is tried when.  A
:class:`~ice.streams.connection.Connection` is one link, from dialling to its end.  The :class:`RallypointNetwork` here joins streams on
connections, and datagrams to streams.

::

    no connection --roster.next--> main is dialling --WELCOME--> main is open: every stream JOINs
         ^                                                            |
         +---- lost, BYE, silence: every path is down <---------------+

**Moving back** (strategy ``fail-back``).  While ``main`` is not the preferred address, the roster names a better one now and then.  It is
connected beside ``main`` as the *candidate*, joins the same streams, and takes over when all of them are joined and nobody has talked
for a second.  Until then both are listened to, and :class:`~ice.streams.heard.Heard` lets each datagram through once: a move loses
nothing.  Where ``main`` is lost meanwhile, the candidate takes its place at once.

**Names.**  A stream keeps its source over reconnects, and over leaving and joining again; its sequence counts what was put on a link, from
0, by one.  What could not be sent is lost: :meth:`RallypointStream.send` says so, and nothing is kept for later.

**Time.**  One delayed call, at most 100 ms away, turns everything; between ``stop()`` having fired and ``start()`` there is none.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from secrets import randbits
from uuid import UUID

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ice import __version__
from ice.errors import LocalError
from ice.link.event import Ended, ErrorReceived, Event, JoinedReceived
from ice.link.frame import MEDIA, Flag
from ice.link.message import VERSION, Code, Hello, LinkRole, Welcome
from ice.link.naming import checked_stream_id
from ice.link.wake import STOOD_STILL_S, Wake
from ice.net.addresses import Address
from ice.net.clock import Clock, DelayedCall
from ice.net.link import PULSE_S, Link
from ice.streams.connection import Connection, Phase
from ice.streams.counts import Counts, counted
from ice.streams.dialling import Dialler
from ice.streams.interface import Datagram, Receiver
from ice.streams.joining import Joining, Refusal
from ice.streams.roster import Roster, Strategy, Try
from ice.streams.stream import Name, Names, RallypointStream
from ice.streams.words import plain

QUIET_S = 1.0  # nobody talks: longer than any framing, jitter or pause between two words' packets
REASON_LEFT = "the program has ended"


@attrs.frozen
class Notice:
    """Something a person may want to see: for command lines and status pages.

    ``kind`` is ``connected``, ``lost`` (the link in use), ``failed`` (an attempt), ``refused`` (a stream) or ``moved``.
    """

    kind: str
    address: str
    code: str
    text: str


class RallypointNetwork:
    """An :class:`ice.streams.interface.Network` over a Rallypoint cluster.

    Make it, :meth:`join` at any time, :meth:`start` it, and wait for :meth:`stop`.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        *,
        addresses: Sequence[Address],
        dialler: Dialler,
        identity: UUID,
        name: str = "",
        satellite: bool = False,
        strategy: Strategy = Strategy.FAIL_BACK,
        connect_timeout_s: float = 5.0,
        rollover_s: float = 10.0,
        back_off_min_s: float = 0.1,
        back_off_max_s: float = 30.0,
        random: Random | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> None:
        """``identity`` is the UUID of our certificate; ``satellite`` whether its role lets us pass on others' datagrams.

        ``rollover_s``: how often a better address is probed.  Times are seconds.  Raises :class:`LocalError` without an address.
        """
        self._random = random if random is not None else Random()
        self.roster = Roster(
            addresses,
            strategy=strategy,
            back_off_min_s=back_off_min_s,
            back_off_max_s=back_off_max_s,
            probe_s=rollover_s,
            random=self._random,
        )
        self.satellite = satellite
        self.counts = Counts()
        #: Whether we have stood still ourselves.
        self.wake = Wake()
        self.on_notice = on_notice
        #: The connection in use or in the making, and the one that may replace it.
        self._main: Connection | None = None
        self._candidate: Connection | None = None
        self._connections: set[Connection] = set()
        self._joinings: dict[Connection, Joining] = {}
        self._clock = clock
        self._dialler = dialler
        self._hello = Hello(
            version=VERSION,
            role=LinkRole.CLIENT,
            id=str(identity),
            name=name,
            agent=f"ice/{__version__}",
        )
        self._timeout_s = connect_timeout_s
        self._names = Names(identity, randbits if random is None else random.getrandbits)
        self._streams: dict[int, RallypointStream] = {}
        self._talked_at = float("-inf")
        self._logged: set[tuple[Address, str]] = set()
        self._running = False
        self._naps = 0
        self._next_turn: DelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    # -- for the program ---------------------------------------------------------------------------------------------

    def join(
        self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True
    ) -> RallypointStream:
        """See :meth:`ice.streams.interface.Network.join`.  Raises :class:`LocalError` for a stream that is joined already."""
        name = self._names.of(checked_stream_id(stream_id))
        if name.key in self._streams:
            raise LocalError(
                f"stream {stream_id!r} is joined already (or another of the same key): join it once, and share it"
            )
        stream = RallypointStream(self, name, receiver, listen=listen, talk=talk)
        self._streams[name.key] = stream
        for joining in self._joinings.values():
            joining.ask(stream)
        return stream

    def start(self) -> None:
        """Begin to connect.  Raises :class:`LocalError` while it runs; a network that has stopped may start again."""
        if self._running or self._stopped is not None:
            raise LocalError("this network is running, or has not finished stopping: wait for stop()")
        self._running = True
        self._soon()

    def stop(self, reason: str = REASON_LEFT) -> "Deferred[None]":
        """Leave all streams, say BYE, close; fires when nothing is left in the reactor."""
        if self._stopped is not None:
            again: Deferred[None] = Deferred()
            self._stopped.addCallback(partial(_pass_on, again))
            return again
        self._running = False
        self.wake.rest()
        self._cancel_turn()
        for connection, joining in list(self._joinings.items()):
            for stream in list(self._streams.values()):
                joining.leave(stream)
            connection.leave(reason)
        for connection in list(self._connections):
            connection.leave(reason)
        self._main = self._candidate = None
        self._paths(reason)
        if not self._connections:
            return succeed(None)
        self._stopped = Deferred()
        return self._stopped

    @property
    def up(self) -> bool:
        """Whether a link stands."""
        return self._main is not None and self._main.phase is Phase.OPEN

    @property
    def address(self) -> Address | None:
        """The Rallypoint in use, if a link stands."""
        return self._main.address if self._main is not None and self.up else None

    @property
    def round_trip_s(self) -> float | None:
        """The latest answer of the far program to a PING, if a link stands and has asked."""
        session = self._main.session if self._main is not None else None
        return session.vigil.round_trip_s if session is not None else None

    @property
    def why(self) -> str:
        """What went wrong last, for people."""
        return self.roster.why

    # -- for streams (ice.streams.stream) ----------------------------------------------------------------------------

    def put(self, stream: RallypointStream, frame: bytes, flags: int) -> bool:
        """Send a whole MEDIA frame of ``stream``."""
        main, counts = self._main, self.counts
        if main is None or not stream.up:
            counts.without_path += 1
            return False
        size = len(frame) - MEDIA.size
        if size > main.media_bytes:
            counts.too_large += 1
            return False
        assert main.link is not None  # a stream is up on an open connection only
        main.link.send_media(frame)
        counts.sent += 1
        counts.sent_bytes += size
        if not flags & Flag.DATA:
            self._talked_at = self._clock.seconds()
        return True

    def seconds(self) -> float:
        """Now."""
        return self._clock.seconds()

    def left(self, stream: RallypointStream) -> None:
        """``stream`` is done with."""
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
            for joining in self._joinings.values():
                joining.leave(stream)

    # -- ice.streams.connection.Keeper -------------------------------------------------------------------------------

    def opened(self, connection: Connection, welcome: Welcome) -> None:
        """A Rallypoint let us in: join every stream there."""
        now = self._clock.seconds()
        self.counts.connects += 1
        link, session = connection.link, connection.session
        assert link is not None and session is not None  # WELCOME came through them
        joining = self._joinings[connection] = Joining(
            session,
            link.flush,
            random=self._random,
            satellite=self.satellite,
            clock=self._clock.seconds,
        )
        if connection is self._main:
            self._in_use(connection, welcome, now)
        for stream in list(self._streams.values()):
            joining.ask(stream)

    def heard(self, link: Link, frame: bytes) -> None:
        """The hot path: one datagram, from whichever link."""
        _, _, flags, key, source, sequence = MEDIA.unpack_from(frame)
        counts = self.counts
        stream = self._streams.get(key)
        if stream is None or not stream.listen:
            counts.not_wanted += 1
            return
        if source == stream.source:
            counts.own += 1
            return
        now = self._clock.seconds()
        if verdict := stream.heard.ask(source, sequence, now):
            stream.count_unheard(verdict)
            return
        if not flags & Flag.DATA:
            self._talked_at = now
        counts.received += 1
        counts.received_bytes += len(frame) - MEDIA.size
        stream.deliver(Datagram(flags, source, sequence, frame[MEDIA.size :]))

    def event(self, connection: Connection, event: Event) -> None:
        """JOINED or ERROR."""
        joining = self._joinings.get(connection)
        if joining is None:
            return
        if isinstance(event, JoinedReceived):
            stream = joining.joined(event)
            if isinstance(stream, Refusal):
                self._refused(connection, stream)
            elif stream is not None and connection is self._main:
                stream.path(True, f"joined at {connection.address}")
        elif isinstance(event, ErrorReceived):
            refusal = joining.error(event.error)
            if refusal is not None:
                self._refused(connection, refusal)
            else:
                self._complaint(connection, event.error.code, event.error.message)

    def over(self, connection: Connection, ended: Ended) -> None:
        """A connection has ended or never came to be."""
        now = self._clock.seconds()
        was_open = self._joinings.pop(connection, None) is not None
        if was_open and connection.session is not None:
            outbox = connection.session.outbox
            self.counts.dropped_full += outbox.dropped_full
            self.counts.dropped_old += outbox.dropped_old + outbox.forget()
        if not self._running or connection not in (self._main, self._candidate):
            return
        self.counts.failures[counted(ended.code)] += 1
        self.roster.ended(
            connection.address,
            now,
            code=ended.code,
            why=ended.reason,
            retry_after_s=ended.retry_after_s,
            alternatives=ended.alternatives,
        )
        if connection is self._main:
            self._main = None
            if was_open:
                self._log.warn(
                    "Link to {address} lost ({code}): {why}",
                    address=str(connection.address),
                    code=counted(ended.code),
                    why=ended.reason,
                )
                self._tell("lost", connection.address, ended.code, ended.reason)
            else:
                self._attempt_failed(connection, ended)
            if self._candidate is not None:
                self._promote(now)
            self._paths(ended.reason)
        else:
            self._candidate = None
            self._attempt_failed(connection, ended)
        self._soon()

    def closed(self, connection: Connection) -> None:
        """Nothing is left of a connection."""
        self._connections.discard(connection)
        if self._stopped is not None and not self._connections:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    # -- inside: time --------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Turn as soon as whoever is calling has returned."""
        if self._running:
            self._cancel_turn()
            self._next_turn = self._clock.callLater(0, self._turn)

    def _cancel_turn(self) -> None:
        if self._next_turn is not None and self._next_turn.active():
            self._next_turn.cancel()
        self._next_turn = None

    def _turn(self) -> None:
        self._next_turn = None
        now = self._clock.seconds()
        wake = now + PULSE_S
        try:
            wake = self._let_pass(now)
        except Exception:
            # one broken turn must not end all connecting for ever
            self._log.failure("A turn of the network failed")
        if self._running and self._next_turn is None:
            self._next_turn = self._clock.callLater(min(PULSE_S, max(0.0, wake - now)), self._turn)

    def _let_pass(self, now: float) -> float:
        self.wake.beat(now)
        if self.wake.naps != self._naps:
            self._naps = self.wake.naps
            self._log.warn(
                "This process stood still for over {bound:g} s: audio that came meanwhile is dropped",
                bound=STOOD_STILL_S,
            )
        for connection in list(self._connections):
            connection.pulse(now)
        for joining in list(self._joinings.values()):
            joining.pulse()
        return self._decide(now)

    def _decide(self, now: float) -> float:
        """Dial, probe or move where it is time; when the roster wants to be asked again."""
        if not self._running:
            return now
        if self._main is None:
            step = self.roster.next(now)
            if not isinstance(step, Try):
                return step.until
            self._main = self._new_connection(step.address)
            self._main.start()
        elif self._candidate is None:
            better = self.roster.better(now)
            if better is not None:
                self._candidate = self._new_connection(better)
                self._candidate.start()
        elif self._candidate.phase is Phase.OPEN:
            self._move(now)
        return now + PULSE_S

    def _new_connection(self, address: Address) -> Connection:
        self.counts.attempts += 1
        connection = Connection(
            address,
            clock=self._clock,
            dialler=self._dialler,
            hello=self._hello,
            timeout_s=self._timeout_s,
            keeper=self,
            wake=self.wake,
        )
        self._connections.add(connection)
        return connection

    # -- inside: links and streams -----------------------------------------------------------------------------------

    def _in_use(self, connection: Connection, welcome: Welcome, now: float) -> None:
        self.roster.opened(connection.address, now, welcome.alternatives)
        self._logged.clear()
        name = plain(welcome.name)
        self._log.info("Linked to {name} at {address}", name=name, address=str(connection.address))
        self._tell("connected", connection.address, "", f"linked to {name or connection.address}")

    def _promote(self, now: float) -> None:
        """The candidate takes the place of a lost main connection, however far it has come."""
        self._main, self._candidate = self._candidate, None
        main = self._main
        if main is not None and main.phase is Phase.OPEN and main.welcome is not None:
            self._in_use(main, main.welcome, now)

    def _move(self, now: float) -> None:
        """The candidate takes over when it has all our streams and nobody is talking."""
        old, new = self._main, self._candidate
        if old is None or new is None or now - self._talked_at < QUIET_S:
            return
        have, wanted = self._joinings[new], self._joinings.get(old)
        if wanted is not None and not all(have.has(stream) for stream in wanted.streams):
            return
        self._main, self._candidate = new, None
        self.counts.moves += 1
        if new.welcome is not None:
            self._in_use(new, new.welcome, now)
        self._tell("moved", new.address, "", f"moved back from {old.address} to {new.address}")
        self._paths("")
        old.leave(f"moved back to {new.address}")

    def _paths(self, why: str) -> None:
        """Tell every stream where it stands on the connection in use; ``why`` it is closed where it is not joined."""
        main = self._main
        joining = self._joinings.get(main) if main is not None else None
        for stream in list(self._streams.values()):
            if main is not None and joining is not None and joining.has(stream):
                stream.path(True, f"joined at {main.address}")
            else:
                stream.path(False, why)

    def _attempt_failed(self, connection: Connection, ended: Ended) -> None:
        """Say why, but not at every attempt: once per address and cause until a link stands."""
        news = (connection.address, counted(ended.code))
        if news not in self._logged:
            self._logged.add(news)
            self._log.warn("No link ({code}): {why}", code=news[1], why=ended.reason)
        self._tell("failed", connection.address, ended.code, ended.reason)

    def _refused(self, connection: Connection, refusal: Refusal) -> None:
        """A Rallypoint does not let us into a stream: a person must know; the stream asks again later."""
        self.counts.refused_joins[counted(refusal.code)] += 1
        if connection is self._candidate:
            here = None if self._main is None else self._joinings.get(self._main)
            if here is None or not here.has(refusal.stream):
                return  # what we do not have here, we do not lose there
            connection.give_up(
                Code.DENIED, f"it refuses stream {plain(refusal.stream.stream_id)}: {refusal.why}"
            )
            return
        why = f"{connection.address} refuses: {refusal.why}"
        if refusal.news:
            self._log.warn(
                "Stream {stream} refused by {address} ({code}): {why}",
                stream=plain(refusal.stream.stream_id),
                address=str(connection.address),
                code=counted(refusal.code),
                why=refusal.why,
            )
            self._tell("refused", connection.address, refusal.code, why)
        if connection is self._main:
            refusal.stream.path(False, why)

    def _complaint(self, connection: Connection, code: str, message: str) -> None:
        """An ERROR that answers no JOIN."""
        self.counts.errors[counted(code)] += 1
        joining = self._joinings[connection]
        if joining.complain():
            self._log.warn(
                "{address} complains ({code}): {why}",
                address=str(connection.address),
                code=counted(code),
                why=plain(message),
            )
        if code == Code.NOT_JOINED:
            joining.repeat(self._streams.values())

    def _tell(self, kind: str, address: Address, code: str, text: str) -> None:
        if self.on_notice is not None:
            try:
                self.on_notice(Notice(kind, str(address), code, text))
            except Exception:
                self._log.failure("A listener to notices failed")


def _pass_on(to: "Deferred[None]", result: None) -> None:
    to.callback(None)


__all__ = ["Name", "Notice", "RallypointNetwork", "RallypointStream"]
