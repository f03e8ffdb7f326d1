"""``twistd ice-reflector``: its options, and the assembly of the whole daemon.

From the outside in: :class:`Daemon` (logs, the order of start and stop), then the heartbeat for systemd's watchdog, the status pages, the
reflector.  It is a daemon of its own, never a part of a Rallypoint: all Rallypoints of a site work at once, and of reflectors of a group only one may.

**SIGHUP** reads the configuration again: rules that stay notice nothing, others come and go.  What cannot be used is refused with the reasons in
the log, and the daemon runs on as it was.  Certificates and the list of Rallypoints are read at the start only.

**In a server group** (``[[server_groups]]`` has our certificate's id as a member) the reflector starts as a standby and sends while it is elected (:mod:`ice.election`); otherwise
it is alone and always active.  A stop resigns first. The election's status is on the page ``/election``, and in a file of the state folder.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python import usage

from ice.config.changes import changes
from ice.config.load import Loaded, load
from ice.daemons.rallypoint import Hangup, PortService, raise_file_limit
from ice.election.connect import election_of, server_group
from ice.election.metrics import add_metrics as add_election_metrics
from ice.election.rules import Group
from ice.election.service import Election
from ice.errors import IceError, LocalError
from ice.net.clock import steady
from ice.net.container import REMEDY, container
from ice.net.multicast import MulticastSocket
from ice.net.multicast import descriptors as multicast_descriptors
from ice.net.notify import Heartbeat, Notifier
from ice.net.poll import shorten
from ice.net.tls import descriptors
from ice.observe.health import Health, HealthSite
from ice.observe.logs import LoggingService, LogOutput
from ice.observe.metrics import Metrics
from ice.rallypoint.service import PortTaken
from ice.reflector.elected import ReflectorWork
from ice.reflector.rules import Rule, warnings_about
from ice.reflector.service import Plan, Reflector
from ice.reflector.status import add_metrics, status_of
from ice.reflector.stream import Carrier
from ice.streams.connect import network_of, passport_of
from ice.streams.rallypoint import RallypointNetwork

SECTIONS = ("authority", "identity", "log", "multicast", "network", "reflector", "server_groups", "traffic")
STUCK = 70  # EX_SOFTWARE: systemd restarts it
FILES_PER_RULE = 2  # a socket that hears, one that talks


class Options(usage.Options):
    """The command line of ``twistd ice-reflector``."""

    longdesc = (
        "A static reflector: ties streams of the Rallypoints to multicast groups. SIGHUP reloads its rules."
    )
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

    shorten(steady(reactor), (*descriptors(), *multicast_descriptors()))
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


class Daemon(LoggingService):
    """Everything that runs in one ``ice-reflector`` process.

    Raises :class:`~ice.errors.IceError` where the certificate, a key or a codec cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        notifier: Notifier | None = None,
        output: LogOutput | None = None,
        network: Callable[[Loaded, Any], RallypointNetwork] = network_of,
        socket_of: Callable[..., Carrier] = MulticastSocket,
    ) -> None:
        config = loaded.config
        if output is None:
            output = LogOutput()
        output.configure(format=config.log.format, level=config.log.level)
        super().__init__(output)
        self._format = config.log.format  # of the start, like every setting that a restart changes
        self.loaded = loaded
        plan = Plan.of(config)
        links = network(loaded, reactor)
        if not links.satellite:
            raise LocalError(
                f"{config.identity.certificate}: a reflector passes on what others say, for which the certificate needs the role satellite; "
                "type: ice pki issue reflector --role satellite, and name it in identity.certificate and identity.key"
            )
        self.notifier = Notifier.from_environment() if notifier is None else notifier
        self.reflector = Reflector(reactor, links, plan, socket_of=socket_of)
        self.heartbeat = Heartbeat(reactor, self.notifier)
        self.metrics = Metrics()
        add_metrics(self.metrics, self.reflector)
        self.metrics.gauge(
            "ice_reactor_lag_seconds", "How late the reactor's last beat came.", lambda: self.heartbeat.lag_s
        )
        self.health = Health(
            alive=(self.heartbeat.stale,),
            ready=(self.reflector.ready,),
            status=self._status,
            metrics=self.metrics,
            title="ice reflector",
            pages={"/election": self._election_page},
        )
        self._reactor = reactor
        self.election = self._election(loaded, links)
        self._attach(self.heartbeat)
        listen = config.reflector.http.listen
        if listen is not None:
            site = HealthSite(self.health, reactor)
            self._attach(PortService(reactor, listen, site, "reflector.http.listen"))
        self._attach(self.reflector)
        if self.election is not None:
            self._attach(self.election)

    def privilegedStartService(self) -> None:
        """Open the status pages' port; one that is taken ends the process with a line and exit status 1."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except PortTaken as error:
            self._log.critical(
                "{error}", error=str(error)
            )  # the log is open by now, and may be the only place
            raise SystemExit(1) from None

    def startService(self) -> None:
        """Start, and tell systemd."""
        self._caution(self.loaded, self.reflector.plan)
        raise_file_limit(FILES_PER_RULE * len(self.reflector.plan.rules))
        super().startService()  # type: ignore[no-untyped-call]
        self.notifier.ready(self._doing)

    def stopService(self) -> "Deferred[None]":
        """Resign, then leave streams and groups; the status pages and the heart go on until that is done."""
        self.notifier.stopping("leaving streams and groups")
        stopped: Deferred[None] = succeed(None) if self.election is None else self.election.stopService()
        stopped.addBoth(lambda _: self.reflector.stopService())
        return stopped.addBoth(self._left)

    def _left(self, result: object) -> Any:
        return super().stopService()  # type: ignore[no-untyped-call]

    def reload(self) -> None:
        """Read the configuration again; what is wrong is logged, and nothing has changed."""
        self.notifier.reloading("reading the configuration")
        try:
            self._reload()
        except IceError as error:
            for line in str(error).splitlines():
                self._log.error("not reloaded: {line}", line=line)
            self._log.error("running on with the configuration as it was")
        except Exception:
            self._log.failure("not reloaded; running on with the configuration as it was")
        self.notifier.ready(self._doing)

    def _reload(self) -> None:
        loaded = load(self.loaded.path)
        plan = Plan.of(loaded.config, self.reflector.plan)
        different = changes(self.loaded.config, loaded.config, SECTIONS)
        group = self._rules(loaded)
        self.reflector.reload(plan)
        if self.election is not None and group is not None:
            self.election.configure(group)
        self.loaded = loaded
        self.output.configure(format=self._format, level=loaded.config.log.level)
        self._caution(loaded, plan)
        self._log.info(
            "reloaded {path}: changed {changes}; {rules} rules",
            path=str(loaded.path),
            changes=str(different),
            rules=len(plan.rules),
        )

    # -- the server group ----------------------------------------------------------------------------------------------

    def _election(self, loaded: Loaded, links: RallypointNetwork) -> Election | None:
        """The election of this reflector, None where it is alone: no server group has it as a member."""
        if not loaded.config.server_groups:
            return None
        id = passport_of(loaded, self._reactor).id
        settings = server_group(loaded, id)
        if settings is None:
            return None
        election = election_of(
            loaded,
            settings,
            id,
            links,
            ReflectorWork(self.reflector),
            self._reactor,
            wall=time.time,
            environ=os.environ,
            stuck=self._stuck,
        )
        self.reflector.guard(lambda: election.may_act)
        add_election_metrics(self.metrics, election, self._reactor.seconds)
        return election

    def _rules(self, loaded: Loaded) -> Group | None:
        """The rules of our server group by another configuration. Raises :class:`LocalError` where we are in another, or in none any more, or in one at last."""
        if self.election is None:
            groups = loaded.config.server_groups
            if groups and server_group(loaded, passport_of(loaded, self._reactor).id) is not None:
                raise LocalError(
                    f"{loaded.path}: this reflector is in a server group now: restart it for that"
                )
            return None
        settings = server_group(loaded, UUID(self.election.own_id))
        if settings is None or str(settings.id) != self.election.group.id:
            raise LocalError(
                f"{loaded.path}: this reflector is in another server group now, or in none: restart it for that"
            )
        return settings.rules()

    def _status(self) -> dict[str, Any]:
        told = status_of(self.reflector)
        if self.election is not None:
            told["election"] = self.election.status()
        return told

    def _election_page(self, query: object) -> tuple[str, bytes]:
        """The election's own status, as its file has it."""
        if self.election is None:
            raise LocalError("this reflector is in no server group (server_groups)")
        return "application/json", json.dumps(self.election.status(), ensure_ascii=False).encode() + b"\n"

    def _stuck(self, why: str) -> None:
        """It may still be sending, and another will: end at once, and leave the rest to the kernel and systemd."""
        self._log.critical("{why}: the process ends", why=why)
        os._exit(STUCK)

    @property
    def _doing(self) -> str:
        return f"reflecting {len(self.reflector.plan.rules)} rules"

    def _attach(self, service: Service) -> None:
        service.setServiceParent(self)

    def _caution(self, loaded: Loaded, plan: Plan) -> None:
        """Log what is allowed but probably not meant, and what is changed in datagrams."""
        if not plan.rules:
            self._log.warn(
                "there is no enabled rule: write one in [[reflector.rules]] of {path}, then reload",
                path=str(loaded.path),
            )
        where = container()
        if where is not None and where.trouble:
            self._log.warn("this is {trouble}; {remedy}", trouble=where.trouble, remedy=REMEDY)
        rules: list[Rule] = [rule for rule, _ in plan.rules]
        for caution in [
            *map(str, loaded.warnings),
            *(text for rule in rules for text in warnings_about(rule)),
        ]:
            self._log.warn("{caution}", caution=caution)
