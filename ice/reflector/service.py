"""The static reflector as a Twisted service: its network of Rallypoints, the streams of its rules, reload and stop.

All that is decided is decided in the engines beside this file, and what happens on sockets in :mod:`ice.reflector.stream`; here streams come and go.

Of all reflectors of a group one may send.  Whoever elects it calls :meth:`Reflector.active` and :meth:`Reflector.standby`; a standby hears everything, names it as
the active one does, and sends nothing, so that it goes on in the middle of a word.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ice.config.reflector import SnoopingSettings
from ice.config.schema import Config
from ice.errors import LocalError
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import MulticastSocket
from ice.reflector.news import News
from ice.reflector.rules import Rule, by_stream, rules_of, translation_of
from ice.reflector.snooping import Snooping
from ice.reflector.stream import Carrier, Ground, Reflected, Tie
from ice.reflector.translation import Translation
from ice.streams.rallypoint import RallypointNetwork

TICK_S = 0.25  # how late a pause may end
TICKS_PER_LOOK = 4  # our own addresses are looked at once a second


@attrs.frozen
class Plan:
    """What a configuration wants of a reflector; making one tells every mistake before anything is changed."""

    rules: tuple[tuple[Rule, Translation | None], ...]
    rejoin_s: float
    snooping: SnoopingSettings

    @classmethod
    def of(cls, config: Config, before: "Plan | None" = None) -> "Plan":
        """The plan of ``config``.  Translations that ``before`` has alike are kept, with what they know of talkers and packets.

        Raises :class:`~ice.errors.LocalError` for keys and codecs that cannot be used.
        """
        rules = rules_of(config)
        salt = config.traffic.salt() if any(rule.settings.key_file for rule in rules) else b""
        old = {} if before is None else {rule.settings: made for rule, made in before.rules}
        pairs = []
        for rule in rules:
            try:
                made = translation_of(rule.settings, salt, clock_ahead_s=config.traffic.clock_ahead_s)
            except LocalError as error:
                raise LocalError(f"rule {rule.number} ({rule.name}): {error}") from None
            same = old.get(rule.settings)
            if same is not None and made is not None and same.keyring == made.keyring:
                made = same
            pairs.append((rule, made))
        return cls(tuple(pairs), config.multicast.rejoin_s, config.reflector.snooping)


class Reflector(Service):
    """One reflector.  ``network`` is not started yet; it must be a satellite's, since others' datagrams are passed on."""

    _log = Logger()
    name = "reflector"

    def __init__(
        self,
        reactor: Any,
        network: RallypointNetwork,
        plan: Plan,
        *,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
        watch: InterfaceWatch | None = None,
        socket_of: Callable[..., Carrier] = MulticastSocket,
    ) -> None:
        self.network = network
        self.plan = plan
        self.streams: dict[str, Reflected] = {}
        self.is_active = True
        self._may_act: Callable[[], bool] | None = None
        self.started_at: float | None = None
        self._reactor = reactor
        self._news = News(
            lambda what: self._log.warn("{what}", what=what),
            lambda what: self._log.info("{what}", what=what),
        )
        self._ground = Ground(
            reactor,
            network,
            InterfaceWatch(reactor) if watch is None else watch,
            wall,
            random if random is not None else Random(),
            self._news,
            socket_of,
        )
        #: Who on the local networks listens to what; None: everybody is taken to.
        self.snooping: Snooping | None = None
        self._pulse = LoopingCall(self._tick)
        self._pulse.clock = reactor
        self._ticks = 0
        self._stopping: Deferred[None] | None = None

    # -- IService ------------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Link to the Rallypoints and open every rule."""
        super().startService()  # type: ignore[no-untyped-call]
        self.started_at = self._reactor.seconds()
        self._ground.watch.add(self._interfaces)  # one look for all sockets
        self._snoop()
        self._use()
        self.network.start()
        self._pulse.start(TICK_S, now=False)
        self._log.info(
            "reflecting {rules} rules on {streams} streams",
            rules=len(self.plan.rules),
            streams=len(self.streams),
        )

    def stopService(self) -> "Deferred[None]":
        """Leave every group and stream; fires when the links are closed.  Stopping twice is harmless."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        if self._pulse.running:
            self._pulse.stop()
        for each in self.streams.values():
            each.stop()
        if self.snooping is not None:
            self.snooping.stop()
        self._ground.watch.remove(self._interfaces)
        self._news.tell()
        return self.network.stop("the reflector stops")

    # -- for the assembly ----------------------------------------------------------------------------------------------

    def reload(self, plan: Plan) -> None:
        """Go on by other rules; those that stay notice nothing."""
        self.plan = plan
        if self.running:
            self._snoop()
            self._use()

    def active(self) -> None:
        """Send from now on."""
        self._act(True)

    def standby(self) -> None:
        """Hear and remember, and send nothing."""
        self._act(False)

    def guard(self, may_act: Callable[[], bool]) -> None:
        """Ask ``may_act`` before datagrams are looked at; where it says no it has called :meth:`standby` already."""
        self._may_act = may_act
        for each in self.streams.values():
            each.may_act = may_act

    def ready(self) -> str | None:
        """None where every rule can do its work, else why not."""
        if not self.running:
            return "the reflector is stopping" if self.started_at is not None else "not started yet"
        if (obstacle := self.obstacle()) is not None:
            return obstacle
        for each in self.streams.values():
            if not each.up and each.reflection.wanted:
                return f"stream {each.stream_id}: {each.why}"
        for tie in self.ties:
            if tie.port.circle.paused:
                return f"{tie.name} pauses: {tie.port.circle.why}"
        return None

    def obstacle(self) -> str | None:
        """What of our own is in the way, None where nothing is: no rule, no link, a place that cannot be used."""
        if not self.plan.rules:
            return "there is no enabled rule (reflector.rules)"
        if not self.network.up:
            return f"no link to a Rallypoint: {self.network.why or 'connecting'}"
        for tie in self.ties:
            if not tie.up:
                return f"{tie.name}: {tie.why}"
        return None

    @property
    def uptime_s(self) -> float:
        """Seconds since it started; 0 before."""
        return 0.0 if self.started_at is None else self._reactor.seconds() - self.started_at

    @property
    def ties(self) -> Sequence[Tie]:
        """Every rule at work, in the order of the configuration."""
        ties = [tie for each in self.streams.values() for tie in each.ties]
        return sorted(ties, key=lambda tie: tie.rule.number)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _use(self) -> None:
        made = {rule.number: translation for rule, translation in self.plan.rules}
        wanted = by_stream(tuple(rule for rule, _ in self.plan.rules))
        for stream_id in [each for each in self.streams if each not in wanted]:
            self.streams.pop(stream_id).stop()
        for stream_id, rules in wanted.items():
            each = self.streams.get(stream_id)
            if each is None:
                each = self.streams[stream_id] = Reflected(self._ground, stream_id, active=self.is_active)
                each.may_act = self._may_act
            each.use([(rule, made[rule.number]) for rule in rules], self.plan.rejoin_s)

    def _act(self, active: bool) -> None:
        if active is self.is_active:
            return
        self.is_active = active
        for each in self.streams.values():
            each.reflection.active = active
        self._log.info(
            "{what}",
            what="active: sending from now on" if active else "standby: hearing, and sending nothing",
        )

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self._news.tell()
        self._ticks += 1
        for each in self.streams.values():
            each.tick(now)
            if not self._ticks % TICKS_PER_LOOK:
                each.refresh()
        snooping = self.snooping
        if snooping is not None:
            snooping.tick({sock.status().interface for tie in self.ties for sock in tie.sockets})
            for each in self.streams.values():
                each.want(snooping.listened)

    def _snoop(self) -> None:
        """Begin to listen to who joins, or cease to."""
        wanted = self.plan.snooping
        if self.snooping is not None and self.snooping.settings != wanted:
            self.snooping.stop()
            self.snooping = None
        if wanted.enabled and self.snooping is None:
            self.snooping = Snooping(self._reactor, self._ground.watch, wanted)
        if self.snooping is None:
            for each in self.streams.values():
                each.want(lambda interface, group: True)

    def _interfaces(self) -> None:
        """The interfaces are others."""
        for each in self.streams.values():
            each.refresh()
