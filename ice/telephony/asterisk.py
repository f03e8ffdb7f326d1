"""An Asterisk as a trunk: the driver round :mod:`ice.telephony.asterisk_engine`. It has the sockets and the clock, and decides nothing.

Events come by a WebSocket and requests go by HTTP (:mod:`ice.telephony.ari_link`), sound comes and goes by AudioSocket (:mod:`ice.telephony.audiosocket_server`). The trunk is up while the WebSocket is connected, our application
registered there, and everything compared that stood there before. Only one gateway of a group has its trunk started: Asterisk gives an application to the WebSocket that came last.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from ice.config.gateway import TrunkSettings
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.net.clock import DelayedCall
from ice.telephony import ari
from ice.telephony.ari_door import Door, read_password
from ice.telephony.ari_link import AriEvents, AriRest
from ice.telephony.asterisk_call import Close, Expect, Output, Reply, Say, Tag, Terms
from ice.telephony.asterisk_engine import AsteriskEngine
from ice.telephony.audiosocket_server import AudioSocketServer
from ice.telephony.trunk import Ears, Health, Report, Request, Sound

HERE: Final = Address("127.0.0.1", 0)
LAST_WORDS_S: Final = 1.0  # for requests that are under way when the trunk is stopped
NOT_STARTED: Final = Health(False, "not started")


def door_of(settings: TrunkSettings) -> Door:
    """The door that a trunk's settings name. Raises :class:`~ice.errors.LocalError` for a password or certificates that cannot be read, or that others may read."""
    return Door.open(settings.url, settings.user, read_password(settings.password_file), settings.authority)


class AsteriskTrunk:
    """A :class:`~ice.telephony.trunk.Trunk` by an Asterisk; see the module docstring. What it has to tell is told to ``ears``.

    ``ring_s`` is how long the gateway lets a number ring; ``may_ask`` is asked before each request: a gateway that stood still, and is replaced, must not touch what another has taken up. Files are read by :meth:`start`.
    """

    _log = Logger()

    def __init__(
        self,
        settings: TrunkSettings,
        reactor: Any,
        ears: Ears,
        *,
        ring_s: float = 60.0,
        wall: Callable[[], float] = time.time,
        chance: random.Random | None = None,
        may_ask: Callable[[], bool] = lambda: True,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.rate = settings.rate
        self.requests: Counter[str] = (
            Counter()
        )  #: of ARI, by what came of them: the HTTP status, or ``unanswered``
        self.sockets = AudioSocketServer(
            reactor, settings.listen or HERE, self, rate=settings.rate, allow=settings.allow
        )
        self.reader = ari.EventReader()
        self.engine: AsteriskEngine | None = None
        self._reactor = reactor
        self._ears = ears
        self._ring_s = ring_s
        self._wall = wall
        self._chance = chance
        self._may_ask = may_ask
        self._before: Counter[str] = Counter()  # of engines that are no more
        self._rest: AriRest | None = None
        self._events: AriEvents | None = None
        self._reports: deque[Report] = deque()
        self._telling: DelayedCall | None = None
        self._timer: DelayedCall | None = None
        self._timer_at = 0.0
        self._asked: set[Deferred[Reply]] = set()
        self._quiet: Deferred[None] | None = None

    @property
    def health(self) -> Health:
        """Whether it takes calls now."""
        return self.engine.health if self.engine is not None else NOT_STARTED

    @property
    def counters(self) -> Counter[str]:
        """What came and led to nothing, or was refused, by where and why: ``ari-…``, ``event-…``, ``sound-…``."""
        found: Counter[str] = Counter()
        engine = self._before + (self.engine.counters if self.engine is not None else Counter[str]())
        for prefix, counter in (
            ("ari", engine),
            ("event", self.reader.ignored),
            ("sound", self.sockets.counters),
        ):
            found.update({f"{prefix}-{why}": count for why, count in counter.items() if count})
        return found

    def start(self) -> None:
        """Connect, and again whenever the connection is lost; what Asterisk still has of ours is told as found. Starting twice is harmless.

        Raises :class:`~ice.errors.LocalError` where a file cannot be read, or the AudioSocket port not be had.
        """
        if self._events is not None:
            return
        door = door_of(self.settings)
        try:
            self.sockets.start()
        except CannotListenError as trouble:
            raise LocalError(f"gateway.trunks.listen: {trouble}") from None
        if self.engine is None:
            self.engine = AsteriskEngine(self._terms(self._host()), self._wall)
        self._rest = AriRest(self._reactor, door)
        self._events = AriEvents(self._reactor, door, self.settings.app, self, chance=self._chance)
        self._events.start()

    def stop(self) -> Deferred[None]:
        """Let go of Asterisk: requests and ends that are under way get a second more; fires when nothing is left in the reactor.

        Calls are not ended by this: whoever stops the gateway has hung them up, and where it could not, the next one finds them.
        """
        events, self._events = self._events, None
        if events is None:
            return succeed(None)
        quiet: Deferred[None] = succeed(None)
        if self._busy:
            quiet = self._quiet = Deferred()
            late = self._reactor.callLater(LAST_WORDS_S, self._hush, quiet)
            quiet.addBoth(lambda _: late.cancel() if late.active() else None)
        quiet.addCallback(lambda _: self._close(events))
        return quiet

    def ask(self, request: Request) -> None:
        """See :meth:`ice.telephony.trunk.Trunk.ask`."""
        engine = self.engine if self.engine is not None else AsteriskEngine(self._terms(""), self._wall)
        self._do(engine.request(request, self._reactor.seconds()))

    def sound(self, call: UUID, samples: bytes) -> None:
        """See :meth:`ice.telephony.trunk.Trunk.sound`."""
        media = self.engine.media_of(call) if self.engine is not None else None
        if media is None:
            self.sockets.counters["no-call"] += 1
        else:
            self.sockets.say(media, samples)

    # -- of the event WebSocket (ice.telephony.ari_link.Listener) ------------------------------------------------------

    def linked(self) -> None:
        """See :class:`ice.telephony.ari_link.Listener`."""
        self._log.info("trunk {trunk}: connected to {url}", trunk=self.name, url=self.settings.url)
        self._feed(lambda engine, now: engine.linked(now))

    def unlinked(self, why: str, status: int | None) -> None:
        """See :class:`ice.telephony.ari_link.Listener`."""
        before = self.health
        self._feed(lambda engine, now: engine.unlinked(why, now))
        if self.health != before:
            self._log.warn("trunk {trunk}: {url}: {why}", trunk=self.name, url=self.settings.url, why=why)

    def event(self, text: str) -> None:
        """See :class:`ice.telephony.ari_link.Listener`."""
        fact = self.reader.read(text)
        if fact is None:
            return
        self._feed(lambda engine, now: engine.fact(fact, now))
        if isinstance(fact, ari.Replaced) and self._events is not None:
            self._events.rest()

    # -- of the sound (ice.telephony.audiosocket_server.Hearer) --------------------------------------------------------

    def connected(self, media: UUID) -> None:
        """See :class:`ice.telephony.audiosocket_server.Hearer`."""
        self._feed(lambda engine, now: engine.media_connected(media))

    def heard(self, media: UUID, rate: int, samples: bytes) -> None:
        """See :class:`ice.telephony.audiosocket_server.Hearer`."""
        call = self.engine.call_of(media) if self.engine is not None else None
        if call is not None:
            self._ears.told(self, Sound(call, rate, samples))

    def pressed(self, media: UUID, digit: str) -> None:
        """See :class:`ice.telephony.audiosocket_server.Hearer`."""
        self._feed(lambda engine, now: engine.media_key(media, digit, now))

    def ended(self, media: UUID, why: str) -> None:
        """See :class:`ice.telephony.audiosocket_server.Hearer`."""
        self._feed(lambda engine, now: engine.media_ended(media, now))

    # -- within --------------------------------------------------------------------------------------------------------

    def _terms(self, host: str) -> Terms:
        settings = self.settings
        return Terms(settings.app, settings.dial, settings.format, host, self._ring_s)

    def _host(self) -> str:
        """Where Asterisk reaches our AudioSocket server."""
        advertise = self.settings.advertise
        if advertise is not None:
            return str(advertise if advertise.port else Address(advertise.host, self.sockets.port))
        return str(Address((self.settings.listen or HERE).host, self.sockets.port))

    def _feed(self, happened: Callable[[AsteriskEngine, float], list[Output]]) -> None:
        if self.engine is not None:
            self._do(happened(self.engine, self._reactor.seconds()))

    def _do(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Say(ask, tag):
                    self._say(ask, tag)
                case Expect(media, within_s):
                    self.sockets.expect(media, within_s)
                case Close(media):
                    self.sockets.close(media)
                case _:
                    self._reports.append(output)
        if self._reports and self._telling is None:
            self._telling = self._reactor.callLater(0, self._tell)
        self._arm()
        if self._quiet is not None and not self._busy:
            self._hush(self._quiet)

    @property
    def _busy(self) -> bool:
        """Whether something is under way that should not be broken off."""
        return bool(self._asked) or (self.engine is not None and self.engine.ending > 0)

    def _say(self, ask: ari.Ask, tag: Tag) -> None:
        if self._rest is None or not self._may_ask():
            return  # stopped: what is left over is found by the next one
        asked = self._rest.ask(ask)
        self._asked.add(asked)
        asked.addCallback(self._answered, asked, ask, tag)

    def _answered(self, reply: Reply, asked: Deferred[Reply], ask: ari.Ask, tag: Tag) -> None:
        self._asked.discard(asked)
        self.requests[reply.kind] += 1
        if not reply.good and reply.status not in (404, 409):
            self._log.debug("trunk {trunk}: {ask}: {reply}", trunk=self.name, ask=str(ask), reply=str(reply))
        self._feed(lambda engine, now: engine.answered(tag, reply, now))

    def _tell(self) -> None:
        self._telling = None
        for _ in range(len(self._reports)):
            report = self._reports.popleft()
            try:
                self._ears.told(self, report)
            except Exception:  # the others are told all the same
                self._log.failure("trunk {trunk}: nobody could bear a report", trunk=self.name)
        if self._reports and self._telling is None:
            self._telling = self._reactor.callLater(0, self._tell)

    def _arm(self) -> None:
        due = self.engine.deadline if self.engine is not None and self._events is not None else None
        if self._timer is not None:
            if due is not None and self._timer_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self._reactor.callLater(max(0.0, due - self._reactor.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._feed(lambda engine, now: engine.tick(now))

    def _hush(self, quiet: Deferred[None]) -> None:
        if self._quiet is quiet:
            self._quiet = None
            quiet.callback(None)

    def _close(self, events: AriEvents) -> Deferred[None]:
        self._tell()
        rest, self._rest = self._rest, None
        waits: list[Deferred[Any]] = [events.stop(), self.sockets.stop()]
        if rest is not None:
            waits.append(rest.close())
        if self.engine is not None:
            self._before.update(self.engine.counters)
            self.engine = None
        for timer in (self._timer, self._telling):
            if timer is not None:
                timer.cancel()
        self._timer = self._telling = None
        self._reports.clear()
        done: Deferred[Any] = DeferredList(waits, consumeErrors=True)
        return done.addCallback(lambda _: None)
