"""``twistd ice-gateway``: its options, and the assembly of the whole daemon (:mod:`ice.daemons.satellite` has what it shares with others).

**SIGHUP** reads numbers, rules and limits too (``gateway.numbers``, ``gateway.calls`` …); calls that stand notice nothing. Trunks, channels and the file of records are read at the start only.

**In a server group** one gateway of the group takes calls; people write to the group.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from ice.config.load import Loaded
from ice.daemons import frame
from ice.daemons.satellite import COMMON, SatelliteDaemon, others_read
from ice.election.connect import state_folder
from ice.election.service import Election
from ice.net.addresses import Address
from ice.observe.control_service import ControlService
from ice.observe.control_socket import socket_path
from ice.telephony.connect import gateway_of
from ice.telephony.control import SOCKET, control_of
from ice.telephony.status import add_metrics, status_of
from ice.telephony.wanted import rules_of

PACKETS_PER_S = 50  # of one call
SHARE = 0.8  # of what a link may send; the rest is for messages, and for what a stall held back


class Options(frame.Options):
    """The command line of ``twistd ice-gateway``."""

    longdesc = (
        "A telephony gateway: telephone calls for people and channels. SIGHUP reloads its configuration."
    )


def makeService(options: Options) -> frame.Frame:
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    return frame.assemble(Daemon, options)


class Daemon(SatelliteDaemon):
    """Everything that runs in one ``ice-gateway`` process.

    Raises :class:`~ice.errors.IceError` where the certificate, a mission, a code or the file of records cannot be used.
    """

    kind, usual_name = "gateway", "gateway"
    sections = (*COMMON, "gateway")
    leaving = "ending calls"

    def __init__(self, reactor: Any, loaded: Loaded, **more: Any) -> None:
        super().__init__(reactor, loaded, **more)
        settings, id = loaded.config.gateway, self.passport.id
        self.gateway = gateway_of(
            loaded,
            reactor,
            self.links,
            self.passport,
            str(id if self.seat is None else self.seat.id),
            elected=self.seat is not None,
            environ=self.environ,
        )
        self._shown = (
            self.passport.tls.credentials.certificate
        )  # by call messages, for the life of the process
        add_metrics(self.metrics, self.gateway)
        if self.seat is not None:
            election = self.elect(self.seat, self.gateway)
            self.gateway.guard(lambda: election.may_act, lambda: _heir(election))
        self.open_pages(
            settings.http.listen,
            "gateway.http.listen",
            title="ice gateway",
            ready=self.gateway.ready,
            status=self.full_status,
            pages=self.pages,
        )
        control = control_of(self.gateway, self.full_status)
        control.add_metrics(self.metrics, "ice_gateway_control_")
        path = socket_path(settings.control.socket, SOCKET, self.environ, state_folder(self.environ))
        self.attach(
            ControlService(reactor, control, settings.control, "gateway.control", path, self.passport.tls)
        )
        self.attach(self.gateway)
        if self.election is not None:
            self.attach(self.election)

    @property
    def doing(self) -> str:
        """See :class:`Frame`."""
        state = "active" if self.gateway.is_active else "standing by"
        return f"{state}, {len(self.gateway.board)} calls"

    def status(self) -> dict[str, Any]:
        """See :class:`SatelliteDaemon`."""
        return status_of(self.gateway, str(self.passport.id))

    def retire(self) -> "Deferred[None] | None":
        """End all calls and leave the streams."""
        return self.gateway.stopService()

    def replan(self, loaded: Loaded) -> Callable[[], str]:
        """See :class:`SatelliteDaemon`."""
        rules = rules_of(loaded.config.gateway)

        def apply() -> str:
            self.gateway.configure(rules)
            return f"{len(self.gateway.board)} calls"

        return apply

    def remarks(self, loaded: Loaded) -> Iterable[str]:
        """What is allowed, but perhaps not meant."""
        settings = loaded.config.gateway
        limits = loaded.config.rallypoint.limits
        most = min(limits.packets_per_s * SHARE // PACKETS_PER_S, limits.joins // 2)
        if settings.calls > most:
            yield (
                f"gateway.calls is {settings.calls}, but a Rallypoint with the limits of this configuration takes {most:.0f} from one link: raise "
                "rallypoint.limits.packets_per_s and rallypoint.limits.joins there"
            )
        if not settings.trunks:
            yield "there is no call manager but the built-in one, with the numbers 100 to 104: gateway.trunks"
        for each in settings.dial_in:
            if each.code_file is None:
                yield f"whoever calls {each.number} is let into the channel {each.channel} without a code: gateway.dial_in.code_file"
            yield from others_read(each.code_file, "this access code")
        yield from others_read(settings.password_file, "the passwords of missions")
        if _seen(settings.http.listen):
            yield f"{settings.http.listen} shows who telephones to anybody who can reach it, without encryption"
        if self.passport.tls.credentials.certificate != self._shown:
            yield "calls go on under the certificate that was read at the start: restart the gateway before that expires"


def _heir(election: Election) -> bool:
    """Whether another member was heard in the last election that may lead, or nothing is known of any: whoever stood still knows nothing of who leads by now."""
    votes = election.tally.outcome.votes
    return not votes or any(count >= 0 for id, count in votes.items() if id != election.own_id)


def _seen(listen: Address | None) -> bool:
    return listen is not None and not listen.is_loopback
