"""What every daemon of the suite is made of: its command line, SIGHUP, logs, the heart, the status pages, the order of start and stop.

A daemon is a :class:`Frame` with work in it. What is wrong with the configuration, a certificate or a port is said on standard error (a port: in the log, which is open by then) in
lines a person can act on, and the exit status is 1.

**SIGHUP** reads the configuration again. Everything that can be refused is tried first (:meth:`Frame.prepare`); what cannot be used is refused with the reasons in the log, and the
daemon runs on as it was. The signal is taken from the first moment on, since its default is to kill.
"""

import gc
import resource
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from ice.config.changes import changes
from ice.config.load import Loaded, load
from ice.errors import IceError, LocalError
from ice.net.addresses import Address
from ice.net.clock import DelayedCall, steady
from ice.net.notify import Heartbeat, Notifier
from ice.net.poll import shorten
from ice.net.ports import PortService
from ice.net.tls import descriptors
from ice.observe.health import Check, Health, HealthSite, MakePage
from ice.observe.logs import LoggingService, LogOutput
from ice.observe.metrics import Metrics
from ice.security.certificates import Validity, key_mode_warning, validity, validity_in_words

SETTLED_S = 2.0  # from the start until what lasts has been made
SPARE_FILES = 128  # descriptors beside those of the work: ports, status pages, logs, files read by a reload
MOST_FILES = 1 << 20  # a hard limit may be "infinity", which no kernel means


class Options(usage.Options):
    """The command line of a daemon; ``longdesc`` is the daemon's own."""

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


def assemble(daemon: "type[Frame]", options: Options) -> "Frame":
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    from twisted.internet import reactor

    shorten(steady(reactor), (*descriptors(), *daemon.readers()))
    hangup = Hangup(reactor)
    signal.signal(signal.SIGHUP, hangup.received)
    path = None if options["config"] is None else Path(options["config"])
    try:
        made = daemon(reactor, load(path))
    except IceError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    hangup.act = made.reload
    return made


class Frame(LoggingService, ABC):
    """Everything that runs in one process of ours; a daemon attaches its work.

    ``sections``: the tables of the configuration that it reads, ``leaving``: what systemd is told while it stops. Raises :class:`~ice.errors.IceError` where something cannot be used.
    """

    _log = Logger()
    sections: ClassVar[tuple[str, ...]]
    leaving: ClassVar[str]
    health: Health

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
        self._reactor = reactor
        self._wall = wall
        self._settling: DelayedCall | None = None
        self.loaded = loaded
        self.notifier = Notifier.from_environment() if notifier is None else notifier
        self.heartbeat = Heartbeat(reactor, self.notifier)
        self.metrics = Metrics()
        self.metrics.gauge(
            "ice_reactor_lag_seconds", "How late the reactor's last beat came.", lambda: self.heartbeat.lag_s
        )
        self.attach(self.heartbeat)

    @classmethod
    def readers(cls) -> tuple[type, ...]:
        """Descriptors beside those of TLS that the reactor may read without ceremony (:func:`ice.net.poll.shorten`)."""
        return ()

    # -- what a daemon says of itself ----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def doing(self) -> str:
        """What it does now, for systemd's status line."""

    @abstractmethod
    def prepare(self, loaded: Loaded) -> Callable[[], str]:
        """Try another configuration; raises :class:`IceError` where it cannot be used, and nothing has changed.

        What is returned applies it and says what came of it; only its first step may still refuse.
        """

    @abstractmethod
    def cautions(self, loaded: Loaded) -> Iterable[str]:
        """What is allowed but probably not meant; told at the start and after a reload."""

    @abstractmethod
    def leave(self) -> "Deferred[None]":
        """End the work in good order; the status pages and the heart go on until that is done."""

    def files(self) -> tuple[int, str]:
        """How many descriptors the work needs, and what says so."""
        return 0, ""

    # -- what it is made of --------------------------------------------------------------------------------------------

    def attach(self, service: Service) -> None:
        """Start and stop ``service`` with the daemon."""
        service.setServiceParent(self)

    def open_pages(
        self,
        listen: Address | None,
        setting: str,
        *,
        title: str,
        ready: Check,
        status: Callable[[], Mapping[str, Any]],
        pages: Mapping[str, MakePage],
    ) -> None:
        """Show the status pages at ``listen``, which ``setting`` names; None: nowhere."""
        self.health = Health(
            alive=(self.heartbeat.stale,),
            ready=(ready,),
            status=status,
            metrics=self.metrics,
            title=title,
            pages=pages,
        )
        if listen is not None:
            site = HealthSite(self.health, self._reactor)
            self.attach(PortService(self._reactor, listen, site, setting))

    # -- its life ------------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Open every port; one that cannot be opened ends the process with a line and exit status 1."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except LocalError as error:
            self._log.critical(
                "{error}", error=str(error)
            )  # the log is open by now, and may be the only place
            raise SystemExit(1) from None

    def startService(self) -> None:
        """Start, and tell systemd."""
        raise_file_limit(*self.files())
        super().startService()  # type: ignore[no-untyped-call]
        self._caution(self.loaded)
        self._settling = self._reactor.callLater(SETTLED_S, self._settled)
        self.notifier.ready(self.doing)

    def _settled(self) -> None:
        # What was made at the start stays. To look through all of it takes the collector 50 to 100 ms, again and again while thousands of datagrams come and go,
        # in which the kernel has to hold what comes.
        self._settling = None
        gc.freeze()

    def stopService(self) -> "Deferred[None]":
        """End the work, then everything else."""
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.cancel()
        self.notifier.stopping(self.leaving)
        left: Deferred[Any] = maybeDeferred(self.leave)
        return left.addBoth(self._left)

    def _left(self, result: object) -> Any:
        if isinstance(result, Failure):  # the rest has to be closed all the same
            self._log.failure("the work could not be ended in good order", result)
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
        self.notifier.ready(self.doing)

    def _reload(self) -> None:
        loaded = load(self.loaded.path)
        apply = self.prepare(loaded)
        different = changes(self.loaded.config, loaded.config, self.sections)
        outcome = apply()
        self.loaded = loaded
        self.output.configure(format=self._format, level=loaded.config.log.level)
        self._caution(loaded)
        self._log.info(
            "reloaded {path}: changed {changes}; {outcome}",
            path=str(loaded.path),
            changes=str(different),
            outcome=outcome,
        )

    def _caution(self, loaded: Loaded) -> None:
        for caution in [*map(str, loaded.warnings), *self.cautions(loaded)]:
            self._log.warn("{caution}", caution=caution)


def certificate_cautions(
    certificate: x509.Certificate, path: Path, key: Path, now: datetime, *, who: str, name: str
) -> list[str]:
    """What is wrong with a certificate that we show, and its key's file: ``who`` will refuse it, and ``name`` is what to renew."""
    cautions = []
    mode = key_mode_warning(key)
    if mode is not None:
        cautions.append(mode)
    if validity(certificate, now) is not Validity.VALID:
        cautions.append(
            f"{who} will refuse {path}: {validity_in_words(certificate, now)}; type: ice pki renew {name}, then reload"
        )
    return cautions


def raise_file_limit(needed: int, reason: str) -> None:
    """Allow as many open files as the system lets us; log where that is less than ``needed`` and some more, for ``reason``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < needed + SPARE_FILES:
        Frame._log.warn(
            "this process may open {files} files, but {reason} needs {needed}: raise LimitNOFILE= in the unit, or ulimit -n",
            files=soft,
            reason=reason,
            needed=needed + SPARE_FILES,
        )
