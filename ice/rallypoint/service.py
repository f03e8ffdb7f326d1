"""The Rallypoint as a Twisted service: ports, newcomers, the pulse, reload and the orderly stop.

Everything that is decided is decided in the engines beside this file; here their answers are carried out.

**The pulse.** Every 100 ms those links are seen to that are due (:mod:`ice.rallypoint.agenda`), and a tenth of all is surveyed: whether
media has begun to flow there. A link that needs nothing costs a look a second.

**The stop.** Ports close first, so that newcomers go elsewhere; every link is told BYE ``draining`` with the alternatives, and
the stop is complete when all connections are gone, or when ``drain_s`` is over.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from secrets import randbits
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ice.config.schema import LimitSettings, RallypointSettings
from ice.errors import LocalError
from ice.link.message import Code
from ice.link.naming import new_source, stream_key
from ice.link.wake import STOOD_STILL_S
from ice.net.addresses import format_address
from ice.net.clock import Clock, DelayedCall
from ice.net.link import PULSE_S, Link
from ice.net.ports import PortTaken
from ice.rallypoint.access import Access, Rule
from ice.rallypoint.admission import Admission, AdmissionLimits, Load, Phase, Refused, Ticket, networks
from ice.rallypoint.backbone import Backbone
from ice.rallypoint.door import Arrival, OpenPort, Port, open_port
from ice.rallypoint.federation import Federation
from ice.rallypoint.guest import Guest
from ice.rallypoint.house import House
from ice.rallypoint.parrot import Parrot
from ice.rallypoint.peering import Plan
from ice.rallypoint.registry import Subscriber
from ice.rallypoint.treaty import Treaty
from ice.security.certificates import Identity, Role
from ice.security.contexts import ClientTls, ServerTls
from ice.security.trust import Credentials, Trust
from ice.streams.dialling import Dialler, TlsDialler

MOST_DUE = 2_000  # links seen to in one beat, some 20 ms; more wait for the next
BEATS_PER_SURVEY = 10  # each link is looked at once a second
TURN_S = 0.02  # between two turns of newcomers, while any wait
LEAST_DRAIN_S = 0.1  # a BYE needs a turn of the reactor to leave


class Rallypoint(Service):
    """One Rallypoint.  ``reactor`` carries its ports and its time."""

    _log = Logger()
    name = "rallypoint"

    def __init__(
        self,
        reactor: Any,
        settings: RallypointSettings,
        tls: ServerTls,
        *,
        open_port: OpenPort = open_port,
        cpu_s: Callable[[], float] = time.process_time,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        random_bits: Callable[[int], int] = randbits,
        dialler: Callable[[Any, ClientTls], Dialler] = TlsDialler,
    ) -> None:
        self._reactor = reactor
        self._clock: Clock = reactor
        self._open_port = open_port
        self._cpu_s = cpu_s
        self._make_dialler = dialler
        self._ports: list[Port] = []
        self._waiting: dict[Ticket, Arrival] = {}
        self._load = Load()
        self._pulse = LoopingCall(self._beat)
        self._pulse.clock = reactor
        self._round: list[Guest] = []
        self._share = 1
        self._naps = 0
        self._turn: DelayedCall | None = None
        self._parrot_call: DelayedCall | None = None
        self._parrot_key = 0
        self._drained: Deferred[None] | None = None
        self._drain_until = 0.0
        self._parted = False
        self.started_at: float | None = None
        self.house: House[Guest] = House(
            clock=reactor,
            wall=wall,
            tls=tls,
            identity=own_identity(tls.trust, tls.credentials),
            settings=settings,
            access=access_of(settings),
            admission=Admission(limits_of(settings.limits)),
            now=reactor.seconds(),
        )
        self.house.backbone = Backbone(
            reactor,
            self.house.identity.id,
            self.house.registry,
            self.house.relay,
            self.house.wake,
            dialler=self._dialler,
        )
        self.house.federation = Federation(
            reactor,
            self.house.identity.id,
            self.house.registry,
            self.house.relay,
            self.house.wake,
            dialler=lambda tls: self._make_dialler(reactor, tls),
            settled=self.house.backbone.when_settled,
        )
        if settings.parrot:
            own_id = self.house.identity.id
            self.house.parrot = Parrot(lambda: new_source(own_id, random_bits))
            self._parrot_key = stream_key(settings.parrot)
            self.house.registry.echo(self._parrot_key, self._heard_by_parrot)

    # -- IService ---------------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Open the ports; raises :class:`PortTaken`, with none left open."""
        for address in self.house.settings.listen:
            try:
                port = self._open_port(
                    self._reactor, address.host, address.port, self.house.tls, self._arrived
                )
            except CannotListenError as error:
                for opened in self._ports:
                    opened.stopListening()
                self._ports.clear()
                raise PortTaken.of(address, "rallypoint.listen", error) from None
            self._ports.append(port)

    def startService(self) -> None:
        """Accept links."""
        if not self._ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        self.started_at = self._clock.seconds()
        self.house.now = self.started_at
        self._pulse.start(PULSE_S, now=False)
        self._log.info(
            "{who} listens on {where}", who=str(self.house.identity), where=", ".join(self.listening)
        )

    def stopService(self) -> Deferred[None]:
        """Tell everybody, and wait until they are gone or ``drain_s`` is over; stopping twice is harmless."""
        house = self.house
        if not self.running or house.admission.draining:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        house.admission.draining = True
        for port in self._ports:
            port.stopListening()
        self._ports.clear()
        for ticket, arrival in self._waiting.items():
            arrival.drop()
            house.admission.gone(ticket)
        self._waiting.clear()
        self._log.info("stopping: {links} links are told to go elsewhere", links=len(house.guests))
        house.backbone.drain()
        for guest in list(house.guests):
            if guest.far is None and guest.ally is None:
                guest.end_for_drain()
        self._drained = Deferred()
        self._drain_until = self._clock.seconds() + max(LEAST_DRAIN_S, house.settings.drain_s)
        drained = self._drained
        self._drain()
        return drained

    # -- for the assembly -------------------------------------------------------------------------------------------------

    @property
    def listening(self) -> list[str]:
        """Where links are accepted now."""
        hosts = [port.getHost() for port in self._ports]
        return [format_address(host.host, host.port) for host in hosts]

    @property
    def uptime_s(self) -> float:
        """Seconds since it started; 0 before."""
        return 0.0 if self.started_at is None else self._clock.seconds() - self.started_at

    def ready(self) -> str | None:
        """None where newcomers are welcome, else why they should go elsewhere."""
        admission = self.house.admission
        if admission.draining:
            return "this Rallypoint is stopping"
        if not self._ports:
            return "the ports are not open yet"
        if admission.cpu_percent > admission.limits.cpu_refuse_percent:
            return f"the CPU is {admission.cpu_percent:.0f} percent used"
        if admission.linked >= admission.limits.links:
            return f"all {admission.limits.links} places are taken"
        return None

    def mesh(self, plan: Plan) -> None:
        """Be linked with these Rallypoints from now on; links with those that stay live on.

        Raises :class:`~ice.errors.LocalError` where our key cannot sign; then nothing has changed.
        """
        house = self.house
        house.backbone.apply(
            plan,
            house.tls.credentials,
            house.tls.trust.domestic,  # what floods say is never believed of another organisation
            name=house.name,
            spread_s=house.settings.mesh.spread_s,
            round_trip=house.settings.mesh.round_trip,
        )

    def federate(self, treaties: Iterable[Treaty]) -> None:
        """Be linked with these other organisations from now on; links that their treaty still allows live on.

        Raises :class:`~ice.errors.LocalError` where the certificates cannot be used; then nothing has changed.
        """
        house = self.house
        house.federation.apply(
            treaties,
            house.tls.credentials,
            house.tls.trust,
            name=house.name,
            spread_s=house.settings.mesh.spread_s,
        )

    def _dialler(self) -> Dialler:
        tls = self.house.tls
        return self._make_dialler(self._reactor, ClientTls(tls.credentials, tls.trust))

    def reload(self, settings: RallypointSettings, credentials: Credentials, trust: Trust) -> int:
        """Go on by new rules; how many links they do not admit any more (those are told why, and ended).

        Raises :class:`~ice.errors.LocalError` when the certificate cannot be used; then nothing has changed.
        """
        house = self.house
        identity = own_identity(trust, credentials)
        house.tls.swap(credentials, trust)
        house.identity = identity
        house.settings = settings
        house.access = access_of(settings)
        house.admission.limits = limits_of(settings.limits)
        return sum(not guest.reconsider() for guest in list(house.guests))

    # -- newcomers --------------------------------------------------------------------------------------------------------

    def _arrived(self, arrival: Arrival) -> None:
        house = self.house
        answer = house.admission.arrive(arrival.host, self._clock.seconds())
        if isinstance(answer, Refused):
            arrival.drop()
            kept = house.throttle.passes((arrival.host, answer.reason), house.now)
            if kept is not None:
                self._log.warn(
                    "refused {address}: {reason}: {sentence} ({kept} more like it before)",
                    address=arrival.host,
                    reason=answer.reason,
                    sentence=answer.sentence,
                    kept=kept,
                )
        elif answer.phase is Phase.WAITING:
            self._waiting[answer] = arrival
            if self._turn is None:
                self._turn = self._clock.callLater(TURN_S, self._admit_waiting)
        else:
            self._begin(answer, arrival)

    def _begin(self, ticket: Ticket, arrival: Arrival) -> None:
        arrival.begin(Guest(self.house, ticket, arrival.port).link)

    def _admit_waiting(self) -> None:
        self._turn = None
        begin, late = self.house.admission.turns(self._clock.seconds())
        for ticket in begin:
            self._begin(ticket, self._waiting.pop(ticket))
        for ticket in late:
            self._waiting.pop(ticket).drop()
        if self._waiting:
            self._turn = self._clock.callLater(TURN_S, self._admit_waiting)

    # -- the pulse --------------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        house = self.house
        now = house.now = self._clock.seconds()
        house.wake.beat(now)
        if house.wake.naps != self._naps:
            self._naps = house.wake.naps
            self._log.warn(
                "this process stood still for over {bound:g} s: audio that came meanwhile is dropped (a suspended machine, or no CPU left?)",
                bound=STOOD_STILL_S,
            )
        house.admission.cpu_percent = self._load.measure(self._cpu_s(), now)
        house.registry.sweep(now)
        house.backbone.pulse(now)
        house.federation.pulse(now)
        if house.relay.broken:
            self._end_broken()
        self._see_to(now)
        if self._drained is not None:
            self._drain()

    def _see_to(self, now: float) -> None:
        house = self.house
        for _ in range(MOST_DUE):
            guest = house.agenda.take(now)
            if guest is None:
                break
            self._carefully(guest, guest.pulse, now)
        if not self._round:
            self._round = list(house.guests)
            self._share = len(self._round) // BEATS_PER_SURVEY + 1
        for _ in range(min(self._share, len(self._round))):
            guest = self._round.pop()
            self._carefully(guest, guest.survey, now)

    def _carefully(self, guest: Guest, look: Callable[[float], None], now: float) -> None:
        try:
            look(now)
        except Exception:
            self._log.failure("the pulse of {address} failed", address=guest.address)
            guest.due = float("inf")
            guest.link.abort()

    def _end_broken(self) -> None:
        broken, self.house.relay.broken = self.house.relay.broken, {}
        for recipient, error in broken.items():
            self._log.error("a link cannot be written to and is ended: {error}", error=repr(error))
            if isinstance(recipient, Link):
                try:
                    recipient.end(Code.INTERNAL, "this Rallypoint could not write to the link")
                except Exception:
                    recipient.abort()

    def _drain(self) -> None:
        drained, guests = self._drained, self.house.guests
        if drained is None:
            return
        left = [guest for guest in guests if guest.far is None and guest.ally is None]
        now = self._clock.seconds()
        if not self._parted and (not left or now >= self._drain_until):
            # Other Rallypoints go round us by now, and what our last talkers said has left.
            self._parted = True
            self.house.backbone.stop("this Rallypoint is stopping")
            self.house.federation.stop("this Rallypoint is stopping")
            self._drain_until = max(self._drain_until, now + LEAST_DRAIN_S)
        if (guests or self.house.backbone.busy or self.house.federation.busy) and now < self._drain_until:
            return
        if guests:
            self._log.info("{count} links did not go in time and are cut", count=len(guests))
            for guest in list(guests):
                guest.link.abort()
        self._drained = None
        if self._pulse.running:
            self._pulse.stop()
        self.house.wake.rest()
        for call in (self._turn, self._parrot_call):
            if call is not None and call.active():
                call.cancel()
        drained.callback(None)

    # -- the parrot -------------------------------------------------------------------------------------------------------

    def _heard_by_parrot(self, subscriber: Subscriber, frame: bytes, now: float) -> None:
        parrot = self.house.parrot
        if parrot is not None:
            parrot.heard(subscriber, frame, self._clock.seconds())
            self._wake_parrot()

    def _wake_parrot(self) -> None:
        parrot, call = self.house.parrot, self._parrot_call
        if parrot is None or (call is not None and call.active()):
            return
        deadline = parrot.deadline
        if deadline != float("inf"):
            wait_s = min(max(0.0, deadline - self._clock.seconds()), PARROT_LOOK_S)
            self._parrot_call = self._clock.callLater(wait_s, self._parrot_plays)

    def _parrot_plays(self) -> None:
        parrot = self.house.parrot
        if parrot is None:
            return
        self._parrot_call = None
        for talker, frame in parrot.play(self._clock.seconds()):
            membership = talker.memberships.get(self._parrot_key)
            if membership is not None and membership.listen:
                talker.recipient.send_media(frame)
        self._wake_parrot()


#: The parrot looks this often whether a burst has ended: a call is not moved at each packet.
PARROT_LOOK_S = 0.02


def own_identity(trust: Trust, credentials: Credentials) -> Identity:
    """Who this Rallypoint is by its certificate.

    Raises :class:`~ice.errors.IceError` where that is of no authority trusted here, or not a Rallypoint's.
    """
    identity = trust.domestic.peer(credentials.certificate).identity
    if identity.role is not Role.RALLYPOINT:
        raise LocalError(
            f"rallypoint.certificate is that of a {identity.role}, {identity}; expected the role rallypoint "
            "(type: ice pki issue NAME --role rallypoint)"
        )
    return identity


def access_of(settings: RallypointSettings) -> Access:
    """The access rules, made ready."""
    return Access(
        Rule.of(rule.name, rule.streams, listen=rule.listen, talk=rule.talk, allow=rule.allow)
        for rule in settings.access
    )


def limits_of(limits: LimitSettings) -> AdmissionLimits:
    """The limits that concern newcomers."""
    return AdmissionLimits(
        denied_networks=networks(limits.denied_addresses),
        links=limits.links,
        links_per_address=limits.links_per_address,
        links_per_identity=limits.links_per_identity,
        handshakes=limits.handshakes,
        handshakes_per_address=limits.handshakes_per_address,
        handshake_s=limits.handshake_s,
        cpu_delay_percent=limits.cpu_delay_percent,
        cpu_refuse_percent=limits.cpu_refuse_percent,
        newcomers_waiting=limits.newcomers_waiting,
    )
