"""Streams over two networks, a Rallypoint's first: the driver of :mod:`ice.streams.failover` and :mod:`ice.streams.copies`.

::

    program --send--> FailoverStream --Failover.send: which ways?--> primary stream and/or secondary stream
    program <-datagram- FailoverStream <-Copies.heard: a copy? whose?-- both, always

Both networks are joined as soon as the stream is, and both are listened to: who has failed over already is heard by who has not. What is compared are
payloads, so what is sent on both has to be the same bytes: a cipher belongs *outside*, ``SealedNetwork(FailoverNetwork(…))``.

Where one of the two networks is not there, streams are those of the other, with the same state and counts.
"""

from collections.abc import Callable
from functools import partial

import attrs
import msgspec
from twisted.logger import Logger

from ice.errors import LocalError
from ice.net.clock import Clock, DelayedCall
from ice.streams.copies import Copies, Path
from ice.streams.failover import (
    AFTER_S,
    HOLD_S,
    SETTLE_S,
    Failover,
    FailoverCounts,
    FailoverStatus,
    Way,
)
from ice.streams.interface import Datagram, Network, Receiver, Stream

LEAST_TURN_S = 0.001  # rounding may make a deadline due a moment before it is past
REASON_LEFT = "the program has ended"


class FailoverNetwork:
    """An :class:`ice.streams.interface.Network` over two: ``primary`` (Rallypoints) first, ``secondary`` (multicast) where that does not answer.

    It drives its streams only: who made the two networks starts and stops them. :meth:`start` says when to begin to count; a network that is never started
    counts from each join. :meth:`stop` leaves nothing in the reactor.
    """

    def __init__(
        self,
        clock: Clock,
        primary: Network | None,
        secondary: Network | None,
        *,
        after_s: float = AFTER_S,
        settle_s: float = SETTLE_S,
        hold_s: float = HOLD_S,
        answer: bool = True,
        name_of: Callable[[str], str] = lambda stream_id: "multicast",
        instead: str = "",
    ) -> None:
        """``after_s``: without a Rallypoint until talk goes over ``secondary``, 0 at once; ``settle_s``: talk goes both ways after a return;
        ``hold_s``: a running burst stays where it is at most; ``answer``: talk goes both ways also while somebody is heard on ``secondary`` alone;
        ``name_of``: what the secondary path of a stream is called in sentences; ``instead``: why there is no primary where there should be one.
        Times are seconds. Raises :class:`LocalError` without any network.
        """
        if primary is None and secondary is None:
            raise LocalError(
                "there is neither a Rallypoint nor a multicast address: expected one of them at least"
            )
        self._clock = clock
        self._networks = (primary, secondary)
        self._engine = partial(
            Failover,
            primary=primary is not None,
            secondary=secondary is not None,
            after_s=after_s,
            settle_s=settle_s,
            hold_s=hold_s,
            instead=instead,
        )
        self._answer = answer
        self._name_of = name_of
        self._streams: set[FailoverStream] = set()
        self._stopped = False

    def join(
        self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True
    ) -> "FailoverStream":
        """See :meth:`ice.streams.interface.Network.join`; raises what the two networks raise."""
        engine = self._engine(now=self._clock.seconds(), name=self._name_of(stream_id))
        stream = FailoverStream(
            self._clock,
            engine,
            stream_id,
            receiver,
            talk=talk,
            answer=self._answer,
            on_left=self._streams.discard,
        )
        stream.join(self._networks, listen=listen)
        self._streams.add(stream)
        if self._stopped:
            stream.rest(REASON_LEFT)
        return stream

    def start(self) -> None:
        """The networks are being started: a Rallypoint has ``after_s`` from now on."""
        self._stopped = False
        for stream in list(self._streams):
            stream.begin()

    def stop(self, reason: str = REASON_LEFT) -> None:
        """Change no way any more, and wait for nothing: the networks are being stopped."""
        self._stopped = True
        for stream in list(self._streams):
            stream.rest(reason)


@attrs.frozen
class _Ear:
    """The receiver of one of the two paths."""

    stream: "FailoverStream"
    which: Path

    def datagram(self, datagram: Datagram) -> None:
        self.stream.heard(self.which, datagram)

    def path(self, up: bool, why: str) -> None:
        self.stream.path_of(self.which, up, why)


class FailoverStream:
    """A stream joined by :meth:`FailoverNetwork.join`."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        engine: Failover,
        stream_id: str,
        receiver: Receiver,
        *,
        talk: bool,
        answer: bool,
        on_left: Callable[["FailoverStream"], None],
    ) -> None:
        self.stream_id = stream_id
        self.talk = talk
        self._clock = clock
        self._engine = engine
        self._receiver = receiver
        self._answer = answer
        self._on_left = on_left
        self._streams: list[Stream | None] = [None, None]
        self._copies: Copies | None = None
        self._told: tuple[bool, Way | None] | None = None
        self._news = False
        self._resting: str | None = None
        self._joined = False
        self._left = False
        self._failed = False
        self._call: DelayedCall | None = None

    def __repr__(self) -> str:
        return f"<stream {self.stream_id!r} {self.way}>"

    # -- ice.streams.interface.Stream, PassingStream -------------------------------------------------------------------

    @property
    def source(self) -> int:
        """The name under which we talk at the Rallypoint, or over multicast where there is none."""
        return next(stream.source for stream in self._streams if stream is not None)

    @property
    def up(self) -> bool:
        """Whether the path is open now."""
        return self._engine.up and self._resting is None and not self._left

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """Send a datagram under our own name; False (and counted) where there is no way now.

        Raises :class:`LocalError` where the stream was joined to listen only.
        """
        return self._send(payload, flags, None, None)

    def forward(self, datagram: Datagram) -> bool:
        """Pass on somebody else's datagram under its own name; False (and counted) where there is no way, or where it was here before.

        Raises :class:`LocalError` without a satellite's certificate, and where a path cannot pass on.
        """
        self._may_talk()
        if self._copies is not None and (
            datagram.source in self._own_sources() or self._copies.passed(datagram, self._clock.seconds())
        ):
            self._engine.counts.circular += 1
            return False
        return self._send(datagram.payload, datagram.flags, datagram.source, datagram)

    def leave(self) -> None:
        """Be done with the stream; nothing is heard afterwards.  Leaving twice is harmless."""
        if not self._left:
            self._left = True
            self._cancel()
            for stream in self._streams:
                if stream is not None:
                    stream.leave()
            self._on_left(self)

    # -- how it stands -------------------------------------------------------------------------------------------------

    @property
    def way(self) -> Way:
        """Where what is said goes."""
        return self._engine.way if self._resting is None and not self._left else Way.NONE

    @property
    def limited(self) -> bool:
        """Whether multicast has to do what a Rallypoint should."""
        return self.up and self._engine.limited

    @property
    def why(self) -> str:
        """Why the path is as it is, in a sentence."""
        if self._left:
            return "left"
        return self._resting if self._resting is not None else self._why()

    @property
    def counts(self) -> FailoverCounts:
        """What has been counted since the stream was joined."""
        return self._engine.counts

    def status(self) -> FailoverStatus:
        """All of it as a value."""
        now = self._clock.seconds()
        self._why()
        return attrs.evolve(
            self._engine.status(self.stream_id, now),
            way=self.way,
            up=self.up,
            limited=self.limited,
            why=self.why,
        )

    # -- for the network -----------------------------------------------------------------------------------------------

    def join(self, networks: tuple[Network | None, Network | None], *, listen: bool) -> None:
        """Join the stream at both; what one of them raises leaves nothing joined."""
        try:
            for which, network in zip(Path, networks, strict=True):
                if network is not None:
                    self._streams[which] = network.join(
                        self.stream_id, _Ear(self, which), listen=listen, talk=self.talk
                    )
        except BaseException:
            self.leave()
            raise
        if all(stream is not None for stream in self._streams):
            self._copies = Copies()
        self._joined = True
        self._arm()

    def begin(self) -> None:
        """Count anew how long no Rallypoint has answered."""
        self._resting = None
        self._engine.begin(self._clock.seconds())
        self._changed()

    def rest(self, reason: str) -> None:
        """Change no way, until :meth:`begin`."""
        self._resting = reason
        self._cancel()
        self._changed()

    # -- for the two paths ---------------------------------------------------------------------------------------------

    def path_of(self, which: Path, up: bool, why: str) -> None:
        """One of the paths has opened or closed."""
        if self._left:
            return
        self._engine.path(which, up, why, self._clock.seconds())
        # That multicast is ready is no news yet; that no Rallypoint answers is.
        self._news = self._news or which is Path.PRIMARY or self._engine.due is None
        self._changed()

    def heard(self, which: Path, datagram: Datagram) -> None:
        """A datagram has come on one of the paths."""
        if self._left:
            return
        counts = self._engine.counts
        copies = self._copies
        if copies is None:
            counts.heard_primary += which is Path.PRIMARY
            counts.heard_secondary += which is Path.SECONDARY
            self._give(datagram)
            return
        given = copies.heard(which, datagram, self._clock.seconds())
        if self._answer:
            self._engine.company(copies.alone_at)
        self._give_all(copies, given)
        if copies.due is not None:
            self._arm()

    def _give_all(self, copies: Copies, given: list[Datagram]) -> None:
        counts = self._engine.counts
        counts.copies, counts.own = copies.copies, copies.own
        counts.heard_primary, counts.heard_secondary = copies.given
        for each in given:
            self._give(each)

    def _give(self, datagram: Datagram) -> None:
        """Hand a datagram to the receiver; what it raises is its own affair."""
        if self._left:
            return
        counts = self._engine.counts
        try:
            self._receiver.datagram(datagram)
        except Exception:
            counts.receiver_errors += 1
            if not self._failed:  # once per stream: fifty lines a second help nobody
                self._failed = True
                self._log.failure("The receiver of stream {stream} failed", stream=self.stream_id)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _may_talk(self) -> None:
        if not self.talk:
            raise LocalError(f"stream {self.stream_id!r} was joined to listen only (talk=False)")

    def _own_sources(self) -> list[int]:
        return [stream.source for stream in self._streams if stream is not None]

    def _send(self, payload: bytes, flags: int, source: int | None, passed_on: Datagram | None) -> bool:
        self._may_talk()
        counts = self._engine.counts
        if self._resting is not None or self._left:
            counts.without_path += 1
            return False
        now = self._clock.seconds()
        ways, flags = self._engine.send(flags, now, source)
        if passed_on is not None and flags != passed_on.flags:
            passed_on = msgspec.structs.replace(passed_on, flags=flags)
        took = [way for way in ways if self._put(way, payload, flags, passed_on, now)]
        if not took:
            counts.without_path += 1
            return False
        counts.sent_primary += Path.PRIMARY in took
        counts.sent_secondary += Path.SECONDARY in took
        counts.sent_both += len(took) - 1
        return True

    def _put(self, way: Path, payload: bytes, flags: int, passed_on: Datagram | None, now: float) -> bool:
        stream = self._streams[way]
        if stream is None:
            return False
        if passed_on is None:
            sent = stream.send(payload, flags)
        else:
            forward: Callable[[Datagram], bool] | None = getattr(stream, "forward", None)
            if forward is None:
                raise LocalError(
                    f"the {way.name.lower()} path of {self.stream_id!r} cannot pass on datagrams"
                )
            sent = forward(passed_on)
        if sent and self._copies is not None:
            self._copies.sent(way, payload, now)
        return sent

    def _why(self) -> str:
        """The engine's sentence, with what the paths say by now."""
        for which, stream in zip(Path, self._streams, strict=True):
            why = getattr(stream, "why", None)
            if isinstance(why, str):
                self._engine.explain(which, why)
        return self._engine.why(self._clock.seconds())

    def _changed(self) -> None:
        """Something may have changed: tell the receiver, and be woken when the next thing does."""
        if self._left or not self._joined:
            return
        up = self.up
        told = up, self._engine.way if up else None
        if told != self._told and (self._told is not None or up or self._news):
            self._told = told
            self._tell(up, self.why)
        self._arm()

    def _tell(self, up: bool, why: str) -> None:
        try:
            self._receiver.path(up, why)
        except Exception:
            self._engine.counts.receiver_errors += 1
            self._log.failure("The receiver of stream {stream} failed", stream=self.stream_id)

    def _arm(self) -> None:
        self._cancel()
        if self._left or self._resting is not None or not self._joined:
            return
        now = self._clock.seconds()
        held = None if self._copies is None else self._copies.due
        dues = [due for due in (self._engine.due, held) if due is not None]
        if self._told is None and self._engine.up:
            self._call = self._clock.callLater(0, self._turn)  # said while the stream was being joined
        elif dues:
            self._call = self._clock.callLater(max(LEAST_TURN_S, min(dues) - now), self._turn)

    def _turn(self) -> None:
        self._call = None
        now = self._clock.seconds()
        if self._copies is not None:
            self._give_all(self._copies, self._copies.release(now))
        self._engine.turn(now)
        self._changed()

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None


__all__ = [
    "Failover",
    "FailoverCounts",
    "FailoverNetwork",
    "FailoverStatus",
    "FailoverStream",
    "Way",
]
