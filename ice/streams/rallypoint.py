"""Streams over a Rallypoint cluster: one link at a time to whichever address is best, or two, every stream joined again on each.

Four parts share the work.  The :class:`~ice.streams.roster.Roster` decides which address is tried when, and
:class:`~ice.streams.homes.Homes` which links are kept, made and given up.  A :class:`~ice.streams.connection.Connection` is one link, from dialling to
its end.  The :class:`RallypointNetwork` here joins streams on connections, and datagrams to streams.

::

    a home is missing --homes.step--> an attempt, or several that race --the first WELCOME--> a home: every stream JOINs
         ^                                                                                       |
         +---- lost, BYE, silence: a path is down when it is joined at no other home <-----------+

**Two homes** (``homes=2``).  Every stream is joined at both, what we say goes out on both, or on one, and :class:`~ice.streams.heard.Heard` lets
each datagram through once.  While one of the two stands nothing is lost and no receiver hears of it; the other is replaced meanwhile.

**Moving back** (strategy ``fail-back``).  While a home is not at the preferred address, the roster names a better one now and then.  It is
connected beside it as the *candidate*, joins the same streams, and takes over when all of them are joined and nobody has talked
for a second.  Until then both are listened to: a move loses nothing.  Where the home is lost meanwhile, the candidate takes its place at once.

**Names.**  A stream keeps its source over reconnects, and over leaving and joining again; its sequence counts what was put on a link, from
0, by one.  What could not be sent is lost: :meth:`RallypointStream.send` says so, and nothing is kept for later.  To say it 0.2 s late would not
fill the gap that listeners have heard already; who must lose nothing keeps two homes.

**Time.**  One delayed call, at most 100 ms away, turns everything; between ``stop()`` having fired and ``start()`` there is none.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from random import Random
from secrets import randbits
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ice import __version__
from ice.errors import LocalError
from ice.link.event import Ended, ErrorReceived, Event, JoinedReceived
from ice.link.frame import FLAGS_AT, MEDIA, Flag
from ice.link.message import VERSION, Code, Hello, LinkRole, Welcome
from ice.link.naming import checked_stream_id
from ice.link.wake import Wake
from ice.net.addresses import Address
from ice.net.clock import Clock, DelayedCall
from ice.net.link import PULSE_S, Link
from ice.streams.connection import Connection
from ice.streams.counts import Counts, counted
from ice.streams.dialling import Dialler
from ice.streams.homes import Dial, Homes, Outcome, Place
from ice.streams.interface import Datagram, Receiver
from ice.streams.joining import Joining, Refusal
from ice.streams.notices import Home, Notice, Notices
from ice.streams.roster import Roster, Strategy
from ice.streams.stream import NO_PATH, TOO_LARGE, Name, Names, RallypointStream
from ice.streams.ways import Ways, WaysFile
from ice.streams.words import plain

QUIET_S = 1.0  # nobody talks: longer than any framing, jitter or pause between two words' packets
REASON_LEFT = "the program has ended"
LEAST_TURN_S = 0.001  # rounding may make a deadline due a moment before it is past
_DATA = int(Flag.DATA)  # plain: the & of an enumeration is dear, and this is asked of each datagram


class TalkOn(StrEnum):
    """Where a network with two homes says what it says."""

    BOTH = "both"
    ONE = "one"


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
        homes: int = 1,
        talk_on: TalkOn = TalkOn.BOTH,
        protects: Callable[[str], bool] = lambda stream_id: False,
        connect_timeout_s: float = 5.0,
        rollover_s: float = 10.0,
        back_off_min_s: float = 0.1,
        back_off_max_s: float = 30.0,
        ways_file: WaysFile | None = None,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> None:
        """``identity`` is the UUID of our certificate; ``satellite`` whether its role lets us pass on others' datagrams.

        ``homes``: links to keep, 1 or 2; ``protects``: which streams' datagrams are flagged protected; ``rollover_s``: how often a better address is
        probed; ``wall``: seconds since 1970.  Times are seconds.  Raises :class:`LocalError` without an address.
        """
        self._random = random if random is not None else Random()
        self.roster = Roster(
            addresses,
            strategy=strategy,
            back_off_min_s=back_off_min_s,
            back_off_max_s=back_off_max_s,
            probe_s=rollover_s,
            random=self._random,
            ways=Ways(() if ways_file is None else ways_file.load()),
        )
        self.satellite = satellite
        self.counts = Counts()
        #: Whether we have stood still ourselves.
        self.wake = Wake()
        self._homes: Homes[Connection] = Homes(self.roster, homes)
        self._notices = Notices(homes, self._where, on_notice)
        self._talk_on_one = talk_on is TalkOn.ONE
        self._protects = protects
        self._ways_file = ways_file
        self._wall = wall
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
        self._held: dict[Connection, list[bytes]] | None = None  # frames that go out together
        self._running = False
        self._naps = 0
        self._next_turn: DelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    # -- for the program ---------------------------------------------------------------------------------------------

    def join(
        self,
        stream_id: str,
        receiver: Receiver,
        *,
        listen: bool = True,
        talk: bool = True,
        protected: bool | None = None,
    ) -> RallypointStream:
        """See :meth:`ice.streams.interface.Network.join`.  Raises :class:`LocalError` for a stream that is joined already.

        ``protected``: whether what we send here is flooded over the core of the mesh; None: as ``protects`` says.
        """
        name = self._names.of(checked_stream_id(stream_id))
        if name.key in self._streams:
            raise LocalError(
                f"stream {stream_id!r} is joined already (or another of the same key): join it once, and share it"
            )
        if protected is None:
            protected = self._protects(stream_id)
        stream = RallypointStream(self, name, receiver, listen=listen, talk=talk, protected=protected)
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
        self._homes.clear()
        self._remember(None)
        self._paths(reason)
        if not self._connections:
            return succeed(None)
        self._stopped = Deferred()
        return self._stopped

    @property
    def up(self) -> bool:
        """Whether a link stands."""
        return bool(self._homes.standing)

    @property
    def homes(self) -> tuple[Home, ...]:
        """The links that stand, the oldest place first."""
        now = self._clock.seconds()
        return tuple(
            Home(
                address=line.address,
                id=line.far_id,
                name=plain(line.welcome.name) if line.welcome is not None else "",
                round_trip_s=None if line.session is None else line.session.vigil.round_trip_s,
                age_s=now - line.begun_at,
            )
            for line in self._homes.standing
        )

    @property
    def wanted(self) -> int:
        """How many links are kept."""
        return self._homes.wanted

    @property
    def address(self) -> Address | None:
        """The Rallypoint in use, if a link stands; the first of two."""
        return next((line.address for line in self._homes.standing), None)

    @property
    def round_trip_s(self) -> float | None:
        """The latest answer of the far program to a PING, if a link stands and has asked."""
        return next((home.round_trip_s for home in self.homes if home.round_trip_s is not None), None)

    @property
    def why(self) -> str:
        """What went wrong last, for people."""
        return self.roster.why

    # -- for streams (ice.streams.stream) ----------------------------------------------------------------------------

    def put(self, stream: RallypointStream, frames: Sequence[bytes]) -> Mapping[int, str]:
        """Send whole MEDIA frames of ``stream``, on every link where it is said; those that went nowhere by their index, and why."""
        counts, lost = self.counts, dict[int, str]()
        lines = self._lines(stream)
        if not lines:
            counts.without_path += len(frames)
            return dict.fromkeys(range(len(frames)), NO_PATH)
        longest = max(map(len, frames)) - MEDIA.size
        most = max(line.media_bytes for line in lines)
        if longest > most:
            lost = {at: TOO_LARGE for at, each in enumerate(frames) if len(each) - MEDIA.size > most}
            counts.too_large += len(lost)
            frames = [each for at, each in enumerate(frames) if at not in lost]
            if not frames:
                return lost
        copies = 0
        for line in lines:
            fitting = frames
            if longest > line.media_bytes:
                fitting = [each for each in frames if len(each) - MEDIA.size <= line.media_bytes]
            copies += len(fitting)
            if self._held is not None:
                self._held.setdefault(line, []).extend(fitting)
            elif line.link is not None and fitting:
                line.link.send_many(fitting)
        counts.sent += len(frames)
        counts.sent_bytes += sum(map(len, frames)) - MEDIA.size * len(frames)
        counts.copies += copies - len(frames)
        if not all(each[FLAGS_AT] & _DATA for each in frames):
            self._talked_at = self._clock.seconds()
        return lost

    def hold(self) -> None:
        """Keep what is sent from now on back, on whatever streams, until :meth:`let_go`: within the same call of the reactor, and never twice."""
        assert self._held is None, "held already"
        self._held = {}

    def let_go(self) -> None:
        """Send what was kept back, in one write for each link: one encryption and one system call for a datagram to many streams."""
        held, self._held = self._held or {}, None
        for line, frames in held.items():
            if line.link is not None and frames:
                line.link.send_many(frames)

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
        wall_s = self._wall()
        self.roster.learn(welcome.alternatives, connection.address, wall_s)
        outcome = self._homes.opened(connection, now, wall_s)
        if outcome.place is Place.HOME:
            self._in_use(connection)
        elif outcome.place is Place.SAME:
            self._notices.same(connection.address)
        self._leave(outcome)
        if connection.open:
            for stream in list(self._streams.values()):
                joining.ask(stream)
        self._soon()

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
        if not flags & _DATA:
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
            elif stream is not None and self._homes.place(connection) is Place.HOME:
                self._path(stream, "")
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
        place = self._homes.place(connection)
        if not self._running or place is Place.NONE:
            return
        self.counts.failures[counted(ended.code)] += 1
        outcome = self._homes.ended(
            connection,
            now,
            code=ended.code,
            why=ended.reason,
            retry_after_s=ended.retry_after_s,
            alternatives=ended.alternatives,
            wall_s=self._wall(),
        )
        if place is Place.HOME:
            self._notices.lost(connection.address, ended)
        else:
            self._notices.failed(connection.address, ended)
        if outcome.promoted is not None:
            self._in_use(outcome.promoted)
        self._leave(outcome)
        hopeful = (
            self._homes.attempts and ended.code != "timeout"
        )  # another attempt may bring better news at once
        if place is Place.HOME or not (self._homes.standing or hopeful):
            self._paths(ended.reason)
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
            self._notices.stood_still()
        for connection in list(self._connections):
            connection.pulse(now)
        for joining in list(self._joinings.values()):
            joining.pulse()
        self._remember(now)
        return self._decide(now)

    def _decide(self, now: float) -> float:
        """Dial, probe or move where it is time; when it wants to be asked again."""
        homes, until = self._homes, now + PULSE_S
        while self._running:
            step = homes.step(now)
            if not isinstance(step, Dial):
                until = min(until, step.until)
                break
            connection = self._new_connection(step.address)
            homes.began(connection, step)
            connection.start()
        if homes.candidate is not None and homes.candidate.open:
            self._move(now)
        self.counts.raced, self.counts.same = homes.raced, homes.same
        deadlines = [connection.deadline for connection in self._connections]
        return max(now + LEAST_TURN_S, min([until, *deadlines]))

    def _remember(self, now: float | None) -> None:
        """Write down what we know of other ways, when nobody talks; now, where there will be no other time (None)."""
        ways, file = self.roster.ways, self._ways_file
        if file is not None and ways.changed and (now is None or file.due(now, self._talked_at)):
            ways.changed = False
            file.save(ways, self._wall())

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

    def _lines(self, stream: RallypointStream) -> list[Connection]:
        """The links on which we say what is said on ``stream`` now."""
        joinings = self._joinings
        lines = [
            line
            for line in self._homes.standing
            if (joining := joinings.get(line)) is not None and joining.has(stream)
        ]
        if self._talk_on_one and len(lines) > 1:
            # One that keeps up is better than the first: a frozen Rallypoint is noticed by its queue long before its link is dead.
            return [next((line for line in lines if _keeps_up(line)), lines[0])]
        return lines

    def _where(self) -> tuple[str, ...]:
        """The addresses of our homes."""
        return tuple(str(line.address) for line in self._homes.standing)

    def _in_use(self, connection: Connection) -> None:
        """A connection has become a home."""
        welcome = connection.welcome
        self._notices.connected(connection.address, "" if welcome is None else welcome.name)

    def _leave(self, outcome: Outcome[Connection]) -> None:
        """Part from links that nobody needs."""
        for connection in outcome.leave:
            connection.leave(outcome.why)

    def _move(self, now: float) -> None:
        """The candidate takes over when it has all our streams and nobody is talking."""
        old, new = self._homes.worst, self._homes.candidate
        if old is None or new is None or now - self._talked_at < QUIET_S:
            return
        have, wanted = self._joinings[new], self._joinings.get(old)
        if wanted is not None and not all(have.has(stream) for stream in wanted.streams):
            return
        self._homes.move(now, self._wall())
        self.counts.moves += 1
        self._in_use(new)
        self._notices.moved(old.address, new.address)
        self._paths("")
        old.leave(f"moved back to {new.address}")

    def _paths(self, why: str) -> None:
        """Tell every stream where it stands; ``why`` it is closed where it is joined at no home."""
        for stream in list(self._streams.values()):
            self._path(stream, why)

    def _path(self, stream: RallypointStream, why: str) -> None:
        """The same for one stream."""
        at = [
            str(line.address)
            for line in self._homes.standing
            if (joining := self._joinings.get(line)) is not None and joining.has(stream)
        ]
        stream.path(bool(at), f"joined at {' and '.join(at)}" if at else why)

    def _refused(self, connection: Connection, refusal: Refusal) -> None:
        """A Rallypoint does not let us into a stream: a person must know; the stream asks again later."""
        self.counts.refused_joins[counted(refusal.code)] += 1
        place = self._homes.place(connection)
        if place is Place.CANDIDATE:
            worst = self._homes.worst
            here = None if worst is None else self._joinings.get(worst)
            if here is None or not here.has(refusal.stream):
                return  # what we do not have here, we do not lose there
            connection.give_up(
                Code.DENIED, f"it refuses stream {plain(refusal.stream.stream_id)}: {refusal.why}"
            )
            return
        if refusal.news:
            self._notices.refused(connection.address, refusal.stream.stream_id, refusal.code, refusal.why)
        if place is Place.HOME:
            self._path(refusal.stream, f"{connection.address} refuses: {refusal.why}")

    def _complaint(self, connection: Connection, code: str, message: str) -> None:
        """An ERROR that answers no JOIN."""
        self.counts.errors[counted(code)] += 1
        joining = self._joinings[connection]
        if joining.complain():
            self._notices.complaint(connection.address, code, message)
        if code == Code.NOT_JOINED:
            joining.repeat(self._streams.values())


def _keeps_up(line: Connection) -> bool:
    session = line.session
    return session is not None and session.outbox.open


def _pass_on(to: "Deferred[None]", result: None) -> None:
    to.callback(None)


__all__ = ["Home", "Name", "Notice", "RallypointNetwork", "RallypointStream", "TalkOn"]
