"""``twistd ice-rallypoint``: its options, and the assembly of the whole daemon (:mod:`ice.daemons.frame` has what it shares with others).

From the outside in: :class:`Daemon`, then the heartbeat for systemd's watchdog, the status pages, the Rallypoint, the port for load balancers.

**SIGHUP** reads certificates and revocations too.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from ice.config.load import Loaded
from ice.config.schema import Config
from ice.daemons import frame
from ice.daemons.frame import Frame, certificate_cautions
from ice.net.health import HealthCheckFactory
from ice.net.ports import PortService
from ice.rallypoint.federation import treaties_of
from ice.rallypoint.mesh_metrics import add_mesh_metrics
from ice.rallypoint.peering import PeeringFile, Plan, plan_of
from ice.rallypoint.peering_watch import PeeringWatch
from ice.rallypoint.reports import Reports
from ice.rallypoint.service import Rallypoint
from ice.rallypoint.signatures import sign_with
from ice.rallypoint.status import add_metrics, status_of
from ice.rallypoint.treaty import Treaty
from ice.security.contexts import ServerTls
from ice.security.trust import Credentials, Foreign, Trust


class Options(frame.Options):
    """The command line of ``twistd ice-rallypoint``."""

    longdesc = "A Rallypoint: switches voice streams between TLS links. SIGHUP reloads configuration and certificates."


def makeService(options: Options) -> Frame:
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    return frame.assemble(Daemon, options)


class Daemon(Frame):
    """Everything that runs in one ``ice-rallypoint`` process.

    Raises :class:`~ice.errors.IceError` where the certificates cannot be used.
    """

    sections = ("authority", "log", "rallypoint", "groups", "federations")
    leaving = "telling links to go elsewhere"
    doing = "accepting links"

    def __init__(self, reactor: Any, loaded: Loaded, **more: Any) -> None:
        super().__init__(reactor, loaded, **more)
        config = loaded.config
        settings = config.rallypoint
        credentials, trust = read_certificates(config, self._wall())
        self.rallypoint = Rallypoint(reactor, settings, ServerTls(credentials, trust), wall=self._wall)
        add_metrics(self.metrics, self.rallypoint)
        add_mesh_metrics(self.metrics, self.rallypoint.house.backbone, reactor.seconds)
        self.reports = Reports(reactor, settings.reports, self.rallypoint)
        self.open_pages(
            settings.http.listen,
            "rallypoint.http.listen",
            title="ice Rallypoint",
            ready=self.rallypoint.ready,
            status=lambda: status_of(self.rallypoint),
            pages=self.reports.pages,
        )
        self.attach(self.rallypoint)
        self.peering = PeeringWatch(reactor, settings.mesh, self._listed)
        self.attach(self.peering)
        self.attach(self.reports)
        self._told: tuple[str, ...] = ()
        self._link_up(self._plan(loaded))
        self.rallypoint.federate(self._treaties(loaded, trust))
        self._balancer: PortService | None = None
        if settings.health_check is not None:
            self._balancer = PortService(
                reactor, settings.health_check, HealthCheckFactory(), "rallypoint.health_check"
            )
            self.attach(self._balancer)

    def files(self) -> tuple[int, str]:
        """See :class:`Frame`."""
        links = self.loaded.config.rallypoint.limits.links
        return links, f"rallypoint.limits.links = {links}"

    def leave(self) -> "Deferred[None]":
        """Send balancers and clients elsewhere first."""
        if self._balancer is not None:
            self._balancer.close()
        return maybeDeferred(self.rallypoint.stopService)

    def prepare(self, loaded: Loaded) -> Callable[[], str]:
        """See :class:`Frame`."""
        credentials, trust = read_certificates(loaded.config, self._wall())
        plan = self._plan(loaded)
        treaties = self._treaties(loaded, trust)
        if plan.peers:
            sign_with(credentials.key)  # complains before anything is changed

        def apply() -> str:
            settings = loaded.config.rallypoint
            ended = self.rallypoint.reload(settings, credentials, trust)
            self._link_up(plan)
            self.rallypoint.federate(treaties)
            self.peering.reload(settings.mesh)
            self.reports.reload(settings.reports)
            return f"{ended} links are no longer admitted and were told so"

        return apply

    def _plan(self, loaded: Loaded) -> Plan:
        """Whom we want links with, by that configuration and the peering list of now."""
        return plan_of(loaded.config.groups, self.rallypoint.house.identity.id, self.peering.current)

    def _treaties(self, loaded: Loaded, trust: Trust) -> tuple[Treaty, ...]:
        """What that configuration shares with whom."""
        return treaties_of(loaded.config.federations, trust, self.rallypoint.house.identity.id)

    def _link_up(self, plan: Plan) -> None:
        self.rallypoint.mesh(plan)
        for warning in plan.warnings:
            if warning not in self._told:
                self._log.warn("{oddity}", oddity=warning)
        self._told = plan.warnings

    def _listed(self, peering: PeeringFile | None) -> None:
        """The peering list is another one."""
        self._link_up(self._plan(self.loaded))

    def cautions(self, loaded: Loaded) -> Iterable[str]:
        """See :class:`Frame`."""
        settings, tls = loaded.config.rallypoint, self.rallypoint.house.tls
        return [
            *tls.trust.warnings,
            *certificate_cautions(
                tls.credentials.certificate,
                settings.certificate,
                settings.key,
                self._wall(),
                who="clients",
                name="rallypoint",
            ),
        ]


def read_certificates(config: Config, now: datetime) -> tuple[Credentials, Trust]:
    """What the Rallypoint shows and whom it believes; raises :class:`~ice.errors.LocalError` with what to type."""
    settings, authority = config.rallypoint, config.authority
    credentials = Credentials.read(settings.certificate, settings.key)
    foreign = [
        Foreign.read(each.name, each.authority, [ally.id for ally in each.rallypoints], each.revocations, now)
        for each in config.federations
    ]
    return credentials, Trust.read(authority.certificates, authority.revocations, now, foreign)
