"""``twistd ice-patch``: its options, and the assembly of the whole daemon.

From the outside in: :class:`Daemon` (logs, the order of start and stop), then the heartbeat for systemd's watchdog, the status pages, the control socket, the patch server.

**SIGHUP** reads the configuration again, with its missions and the bridges file: what has changed in it is done, patches that stay notice nothing, and streams with new keys go on under these. What cannot be
used is refused with the reasons in the log, and the daemon runs on as it was. Certificates and the list of Rallypoints are read at the start only.

**In a server group** (``[[server_groups]]`` has our certificate's id as a member) the server starts as a standby and speaks while it is elected (:mod:`ice.election`), and the list of patches is the group's document;
otherwise it is alone and always active. A stop resigns first. The election's status is on the page ``/election``, and in a file of the state folder.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python import usage

from ice.config.changes import changes
from ice.config.election import ServerGroupSettings
from ice.config.load import Loaded, load
from ice.daemons.rallypoint import Hangup, PortService, raise_file_limit
from ice.election.connect import election_of, server_group, state_folder
from ice.election.metrics import add_metrics as add_election_metrics
from ice.election.rules import Group
from ice.election.service import Election
from ice.errors import IceError, LocalError
from ice.net.clock import steady
from ice.net.notify import Heartbeat, Notifier
from ice.net.poll import shorten
from ice.net.tls import descriptors
from ice.observe.health import Health, HealthSite
from ice.observe.logs import LoggingService, LogOutput
from ice.observe.metrics import Metrics
from ice.patch.channels import Plan
from ice.patch.control import Control, ControlService, socket_path
from ice.patch.elected import PatchWork, SharedList
from ice.patch.service import PatchServer
from ice.patch.status import add_metrics, status_of
from ice.patch.store import Store
from ice.rallypoint.service import PortTaken
from ice.streams.connect import network_of, passport_of
from ice.streams.rallypoint import RallypointNetwork

SECTIONS = ("authority", "identity", "log", "network", "patch", "patches", "server_groups", "traffic")
STUCK = 70  # EX_SOFTWARE: systemd restarts it


class Options(usage.Options):
    """The command line of ``twistd ice-patch``."""

    longdesc = "A patch server: joins channels, so that their people hear each other. SIGHUP reloads its configuration."
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


class Daemon(LoggingService):
    """Everything that runs in one ``ice-patch`` process.

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
        environ: Mapping[str, str] = os.environ,
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
                f"{config.identity.certificate}: a patch server passes on what others say, for which the certificate needs the role satellite; "
                "type: ice pki issue patch --role satellite, and name it in identity.certificate and identity.key"
            )
        self.notifier = Notifier.from_environment() if notifier is None else notifier
        self._id = passport_of(loaded, reactor).id
        settings = server_group(loaded, self._id) if config.server_groups else None
        folder = state_folder(environ)
        self.server = PatchServer(
            reactor, links, plan, Store(folder), group_id=str(self._id if settings is None else settings.id)
        )
        self.election: Election | None = None
        if settings is not None:
            self.election = self._election(loaded, settings, links, reactor, environ)
        self.heartbeat = Heartbeat(reactor, self.notifier)
        self.metrics = Metrics()
        add_metrics(self.metrics, self.server)
        if self.election is not None:
            add_election_metrics(self.metrics, self.election, reactor.seconds)
        self.metrics.gauge(
            "ice_reactor_lag_seconds", "How late the reactor's last beat came.", lambda: self.heartbeat.lag_s
        )
        self.health = Health(
            alive=(self.heartbeat.stale,),
            ready=(self.server.ready,),
            status=self._status,
            metrics=self.metrics,
            title="ice patch server",
            pages={"/election": self._election_page},
        )
        path = socket_path(config.patch.control, environ, folder)
        control = Control(self.server, self._status)
        self._attach(self.heartbeat)
        listen = config.patch.http.listen
        if listen is not None:
            site = HealthSite(self.health, reactor)
            self._attach(PortService(reactor, listen, site, "patch.http.listen"))
        self._attach(ControlService(reactor, path, control, config.patch.operators))
        self._attach(self.server)
        if self.election is not None:
            self._attach(self.election)

    def privilegedStartService(self) -> None:
        """Open the status pages' port and the control socket; one that cannot be opened ends the process with a line and exit status 1."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except (PortTaken, LocalError) as error:
            self._log.critical(
                "{error}", error=str(error)
            )  # the log is open by now, and may be the only place
            raise SystemExit(1) from None

    def startService(self) -> None:
        """Start, and tell systemd."""
        raise_file_limit(0)
        super().startService()  # type: ignore[no-untyped-call]
        self._caution(self.loaded, self.server.plan)
        self.notifier.ready(self._doing)

    def stopService(self) -> "Deferred[None]":
        """Resign, then end what we say and leave the streams; the status pages and the heart go on until that is done."""
        self.notifier.stopping("leaving the streams")
        stopped: Deferred[None] = succeed(None) if self.election is None else self.election.stopService()
        stopped.addBoth(lambda _: self.server.stopService())
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
        plan = Plan.of(loaded.config)
        different = changes(self.loaded.config, loaded.config, SECTIONS)
        group = None if self.election is None else self._rules(loaded)
        self.server.reload(plan)
        if self.election is not None and group is not None:
            self.election.configure(group)
        self.loaded = loaded
        self.output.configure(format=self._format, level=loaded.config.log.level)
        self._caution(loaded, plan)
        self._log.info(
            "reloaded {path}: changed {changes}; {patches} patches",
            path=str(loaded.path),
            changes=str(different),
            patches=len(self.server.listing.entries),
        )

    # -- the server group ----------------------------------------------------------------------------------------------

    def _election(
        self,
        loaded: Loaded,
        settings: ServerGroupSettings,
        links: RallypointNetwork,
        reactor: Any,
        environ: Mapping[str, str],
    ) -> Election:
        """The election of this patch server, and the list as its group's document."""
        server = self.server
        election = election_of(
            loaded,
            settings,
            self._id,
            links,
            PatchWork(server),
            reactor,
            wall=time.time,
            environ=environ,
            stuck=self._stuck,
            merge=server.merged,
            learned=server.learned,
        )
        server.guard(lambda: election.may_act)
        server.shared = SharedList(election)
        if election.share.body is not None:
            try:
                server.learned(election.share.body)
            except IceError as error:
                self._log.error("the group's document is passed over: {why}", why=str(error))
        return election

    def _rules(self, loaded: Loaded) -> Group:
        """The rules of our server group by another configuration. Raises :class:`LocalError` where we are no member any more."""
        assert self.election is not None
        settings = server_group(loaded, UUID(self.election.own_id))
        if settings is None or str(settings.id) != self.election.group.id:
            raise LocalError(
                f"{loaded.path}: this patch server is in another server group now, or in none: restart it for that"
            )
        return settings.rules()

    def _status(self) -> dict[str, Any]:
        told = status_of(self.server, str(self._id))
        if self.election is not None:
            told["election"] = self.election.status()
        return told

    def _election_page(self, query: object) -> tuple[str, bytes]:
        """The election's own status, as its file has it."""
        if self.election is None:
            raise LocalError("this patch server is in no server group (server_groups)")
        return "application/json", json.dumps(self.election.status(), ensure_ascii=False).encode() + b"\n"

    def _stuck(self, why: str) -> None:
        """It may still be sending, and another will: end at once, and leave the rest to the kernel and systemd."""
        self._log.critical("{why}: the process ends", why=why)
        os._exit(STUCK)

    @property
    def _doing(self) -> str:
        return f"serving {len(self.server.joints)} of {len(self.server.listing.entries)} patches"

    def _attach(self, service: Service) -> None:
        service.setServiceParent(self)

    def _caution(self, loaded: Loaded, plan: Plan) -> None:
        """Log what is allowed but probably not meant."""
        if not self.server.listing.entries:
            self._log.warn(
                "there is no patch yet: ice patch add, or [[patches]] of {path}", path=str(loaded.path)
            )
        for caution in [*map(str, loaded.warnings), *plan.remarks]:
            self._log.warn("{caution}", caution=caution)
        unknown = plan.unknown(
            stream for joint in self.server.joints.values() for stream in joint.engine.patch.stream_ids
        )
        if plan.channels and unknown:
            self._log.warn(
                "no mission describes {streams}: taken as Opus, half duplex, in clear (patch.missions)",
                streams=unknown,
            )
