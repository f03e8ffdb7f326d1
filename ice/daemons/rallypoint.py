"""``twistd ice-rallypoint``: its options, and the assembly of the whole daemon.

From the outside in: :class:`Daemon` (logs, the order of start and stop), then the heartbeat for systemd's watchdog, the status
pages, the Rallypoint, the port for load balancers. What is wrong with the configuration, a certificate or a port is said on
standard error (a port: in the log, which is open by then) in lines a person can act on, and the exit status is 1.

**SIGHUP** reads everything again: configuration, certificates, revocations. What cannot be used is refused with the reasons in
the log, and the daemon runs on as it was. The signal is taken from the first moment on, since its default is to kill.
"""

import resource
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from ice.config.changes import changes
from ice.config.load import Loaded, load
from ice.config.schema import Config
from ice.errors import IceError
from ice.net.addresses import Address
from ice.net.clock import steady
from ice.net.health import HealthCheckFactory
from ice.net.notify import Heartbeat, Notifier
from ice.net.poll import shorten
from ice.net.tls import descriptors
from ice.observe.health import Health, HealthSite
from ice.observe.logs import LoggingService, LogOutput
from ice.observe.metrics import Metrics
from ice.rallypoint.federation import treaties_of
from ice.rallypoint.mesh_metrics import add_mesh_metrics
from ice.rallypoint.peering import PeeringFile, Plan, plan_of
from ice.rallypoint.peering_watch import PeeringWatch
from ice.rallypoint.reports import Reports
from ice.rallypoint.service import PortTaken, Rallypoint
from ice.rallypoint.signatures import sign_with
from ice.rallypoint.status import add_metrics, status_of
from ice.rallypoint.treaty import Treaty
from ice.security.certificates import Validity, key_mode_warning, validity, validity_in_words
from ice.security.contexts import ServerTls
from ice.security.trust import Credentials, Foreign, Trust

SPARE_FILES = 128  # descriptors beside links: ports, status pages, logs, files read by a reload
MOST_FILES = 1 << 20  # a hard limit may be "infinity", which no kernel means


class Options(usage.Options):
    """The command line of ``twistd ice-rallypoint``."""

    longdesc = "A Rallypoint: switches voice streams between TLS links. SIGHUP reloads configuration and certificates."
    optParameters = [  # noqa: RUF012  # as usage.Options has it
        [
            "config",
            "c",
            None,
            "Configuration file; otherwise ICE_CONFIG, etc/ice.toml or /etc/ice/ice.toml.",
        ],
    ]

    def parseArgs(self, *arguments: str) -> None:
        """There is nothing to give but options."""
        if arguments:
            raise usage.UsageError(f"unexpected argument: {arguments[0]}")


def makeService(options: Options) -> "Daemon":
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    from twisted.internet import reactor

    shorten(steady(reactor), descriptors())
    hangup = Hangup(reactor)
    signal.signal(signal.SIGHUP, hangup.received)
    path = None if options["config"] is None else Path(options["config"])
    try:
        daemon = Daemon(reactor, load(path))
    except IceError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    hangup.act = daemon.reload
    return daemon


class Hangup:
    """SIGHUP, turned into a call on the reactor's thread; before there is anything to reload it does nothing."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.act: Callable[[], None] | None = None

    def received(self, number: int, frame: object) -> None:
        """The signal came."""
        self._reactor.callFromThread(self._call)

    def _call(self) -> None:
        if self.act is not None:
            self.act()


class Daemon(LoggingService):
    """Everything that runs in one ``ice-rallypoint`` process.

    Raises :class:`~ice.errors.IceError` where the certificates cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        notifier: Notifier | None = None,
        output: LogOutput | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        config = loaded.config
        if output is None:
            output = LogOutput()
        output.configure(format=config.log.format, level=config.log.level)
        super().__init__(output)
        self._format = config.log.format  # of the start, like every setting that a restart changes
        self._wall = wall
        self.loaded = loaded
        credentials, trust = read_certificates(config, wall())
        self.notifier = Notifier.from_environment() if notifier is None else notifier
        self.rallypoint = Rallypoint(reactor, config.rallypoint, ServerTls(credentials, trust), wall=wall)
        self.heartbeat = Heartbeat(reactor, self.notifier)
        self.metrics = Metrics()
        add_metrics(self.metrics, self.rallypoint)
        self.metrics.gauge(
            "ice_reactor_lag_seconds", "How late the reactor's last beat came.", lambda: self.heartbeat.lag_s
        )
        add_mesh_metrics(self.metrics, self.rallypoint.house.backbone, reactor.seconds)
        self._attach(self.heartbeat)
        self.reports = Reports(reactor, config.rallypoint.reports, self.rallypoint)
        self.health = Health(
            alive=(self.heartbeat.stale,),
            ready=(self.rallypoint.ready,),
            status=lambda: status_of(self.rallypoint),
            metrics=self.metrics,
            title="ice Rallypoint",
            pages=self.reports.pages,
        )
        settings = config.rallypoint
        if settings.http.listen is not None:
            site = HealthSite(self.health, reactor)
            self._attach(PortService(reactor, settings.http.listen, site, "rallypoint.http.listen"))
        self._attach(self.rallypoint)
        self.peering = PeeringWatch(reactor, settings.mesh, self._listed)
        self._attach(self.peering)
        self._attach(self.reports)
        self._told: tuple[str, ...] = ()
        self._link_up(self._plan(loaded))
        self.rallypoint.federate(self._treaties(loaded, trust))
        self._balancer: PortService | None = None
        if settings.health_check is not None:
            self._balancer = PortService(
                reactor, settings.health_check, HealthCheckFactory(), "rallypoint.health_check"
            )
            self._attach(self._balancer)

    def privilegedStartService(self) -> None:
        """Open every port; one that is taken ends the process with a line and exit status 1."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except PortTaken as error:
            self._log.critical(
                "{error}", error=str(error)
            )  # the log is open by now, and may be the only place
            raise SystemExit(1) from None

    def startService(self) -> None:
        """Start, and tell systemd."""
        self._caution(self.loaded)
        raise_file_limit(self.loaded.config.rallypoint.limits.links)
        super().startService()  # type: ignore[no-untyped-call]
        self.notifier.ready("accepting links")

    def stopService(self) -> Deferred[None]:
        """Send balancers and clients elsewhere first; the status pages and the heart go on until that is done."""
        self.notifier.stopping("telling links to go elsewhere")
        if self._balancer is not None:
            self._balancer.close()
        stopped: Deferred[None] = maybeDeferred(self.rallypoint.stopService)
        return stopped.addBoth(self._drained)

    def _drained(self, result: object) -> Any:
        return super().stopService()  # type: ignore[no-untyped-call]

    def reload(self) -> None:
        """Read everything again; what is wrong is logged, and nothing has changed."""
        self.notifier.reloading("reading the configuration")
        try:
            self._reload()
        except IceError as error:
            for line in str(error).splitlines():
                self._log.error("not reloaded: {line}", line=line)
            self._log.error("running on with the configuration as it was")
        except Exception:
            self._log.failure("not reloaded; running on with the configuration as it was")
        self.notifier.ready("accepting links")

    def _reload(self) -> None:
        loaded = load(self.loaded.path)
        credentials, trust = read_certificates(loaded.config, self._wall())
        plan = self._plan(loaded)
        treaties = self._treaties(loaded, trust)
        if plan.peers:
            sign_with(credentials.key)  # complains before anything is changed
        ended = self.rallypoint.reload(loaded.config.rallypoint, credentials, trust)
        different = changes(
            self.loaded.config, loaded.config, ("authority", "log", "rallypoint", "groups", "federations")
        )
        self.loaded = loaded
        self._link_up(plan)
        self.rallypoint.federate(treaties)
        self.peering.reload(loaded.config.rallypoint.mesh)
        self.reports.reload(loaded.config.rallypoint.reports)
        self.output.configure(format=self._format, level=loaded.config.log.level)
        self._caution(loaded)
        self._log.info(
            "reloaded {path}: changed {changes}; {ended} links are no longer admitted and were told so",
            path=str(loaded.path),
            changes=str(different),
            ended=ended,
        )

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

    def _attach(self, service: Service) -> None:
        service.setServiceParent(self)

    def _caution(self, loaded: Loaded) -> None:
        """Log what is allowed but probably not meant."""
        tls = self.rallypoint.house.tls
        cautions = [*map(str, loaded.warnings), *tls.trust.warnings]
        mode = key_mode_warning(loaded.config.rallypoint.key)
        if mode is not None:
            cautions.append(mode)
        certificate, now = tls.credentials.certificate, self._wall()
        if validity(certificate, now) is not Validity.VALID:
            cautions.append(
                f"clients will refuse {loaded.config.rallypoint.certificate}: {validity_in_words(certificate, now)}; "
                "type: ice pki renew rallypoint"
            )
        for caution in cautions:
            self._log.warn("{caution}", caution=caution)


class PortService(Service):
    """A plain TCP port that is open while the service runs; raises :class:`PortTaken` when it cannot be."""

    def __init__(self, reactor: Any, address: Address, factory: Any, setting: str) -> None:
        self._reactor = reactor
        self._address = address
        self._factory = factory
        self._setting = setting
        self._port: Any = None

    def privilegedStartService(self) -> None:
        """Open it."""
        address = self._address
        try:
            self._port = self._reactor.listenTCP(address.port, self._factory, 50, address.host)
        except CannotListenError as error:
            raise PortTaken.of(address, self._setting, error) from None

    def startService(self) -> None:
        """Open it where that was not done before."""
        if self._port is None:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]

    def close(self) -> Any:
        """Close it now; closing twice is harmless."""
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    def stopService(self) -> Any:
        """Close it."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.close()


def read_certificates(config: Config, now: datetime) -> tuple[Credentials, Trust]:
    """What the Rallypoint shows and whom it believes; raises :class:`~ice.errors.LocalError` with what to type."""
    settings, authority = config.rallypoint, config.authority
    credentials = Credentials.read(settings.certificate, settings.key)
    foreign = [
        Foreign.read(each.name, each.authority, [ally.id for ally in each.rallypoints], each.revocations, now)
        for each in config.federations
    ]
    return credentials, Trust.read(authority.certificates, authority.revocations, now, foreign)


def raise_file_limit(links: int) -> None:
    """Allow as many open files as the system lets us; log where that is less than ``links`` need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < links + SPARE_FILES:
        Daemon._log.warn(
            "this process may open {files} files, but rallypoint.limits.links = {links} needs {needed}: "
            "raise LimitNOFILE= in the unit, or ulimit -n",
            files=soft,
            links=links,
            needed=links + SPARE_FILES,
        )
