"""A site in a folder, for the daemons on a reactor in memory: certificates, a configuration, systemd's ear, the log."""

import io
import os
import signal
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import Loaded, load
from ice.daemons import frame
from ice.net.notify import Notifier
from ice.observe.logs import LogOutput
from ice.security.certificates import Role
from ice.security.files import KEY_MODE
from ice.security.minting import certificate_pem, key_pem
from ice.security.trust import Credentials
from ice.streams.connect import Passport
from ice.streams.rallypoint import RallypointNetwork
from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on
from tests.unit.reflector.test_service import A
from tests.unit.security import wire


class Told(Notifier):
    """A notifier that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _send(self, *lines: str) -> bool:
        self.lines.append(lines[0])
        return True

    def steps(self) -> list[str]:
        """What it was told, but for heartbeats."""
        return [line for line in self.lines if line != "WATCHDOG=1"]


class Reactor(MemoryReactorClock):
    """A reactor whose ports can be closed, or are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()
        self.open: list[int] = []

    def addReader(self, reader: Any) -> None:
        """Nothing is ever readable."""

    def removeReader(self, reader: Any) -> None:
        """See :meth:`addReader`."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        listening = super().listenTCP(port, factory, backlog, interface)
        self.open.append(port)
        listening.stopListening = lambda: self.open.remove(port)  # type: ignore[method-assign]
        return listening


class Case(SynchronousTestCase):
    """With a site, whose daemons write to ``log``."""

    CONFIGURATION = ""
    DAEMON: Any  #: the class
    SETTLES: tuple[float, ...] = ()  #: how long until what was started has found its place

    def setUp(self) -> None:
        self.patch(
            os, "environ", {**os.environ, "ICE_TLS": "twisted"}
        )  # a memory reactor has no sockets to own
        self.folder = Path(self.mktemp())
        (self.folder / "pki").mkdir(parents=True)
        (self.folder / "pki" / "authority.pem").write_bytes(certificate_pem(wire.ca().certificate))
        self.file = self.folder / "ice.toml"
        self.file.write_text(self.CONFIGURATION)
        self.reactor: Any = Reactor()
        self.told = Told()
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.patch(frame, "raise_file_limit", lambda needed, reason: None)

    def put(self, name: str, credentials: Any) -> None:
        """A certificate and key, as files."""
        (self.folder / "pki" / f"{name}.pem").write_bytes(certificate_pem(credentials.certificate))
        key = self.folder / "pki" / f"{name}.key"
        key.write_bytes(key_pem(credentials.key))
        key.chmod(KEY_MODE)

    def daemon(self, **more: Any) -> Any:
        """The daemon, on a reactor in memory; its log goes where nobody looks."""
        return self.DAEMON(
            self.reactor,
            load(self.file),
            notifier=self.told,
            output=LogOutput(io.StringIO(), colour=False, journal=False),
            wall=lambda: wire.NOW,
            **more,
        )

    def started(self) -> Any:
        """The same, started; stopped after the test."""
        daemon = self.daemon()
        self.begin(daemon)
        self.reactor.pump(self.SETTLES)
        return daemon

    @property
    def log(self) -> str:
        """What was logged, a line each."""
        return "\n".join(formatEvent(event) for event in self.events)

    def begin(self, daemon: Any) -> None:
        """Start it as twistd does; it is stopped after the test, and must leave nothing behind."""
        daemon.privilegedStartService()
        daemon.startService()
        self.addCleanup(self.end, daemon)

    def end(self, daemon: Any) -> None:
        if daemon.running:
            daemon.stopService()
        self.reactor.pump([0.1] * 40)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def reload(self, daemon: Any) -> str:
        """Reload; what was logged meanwhile, and systemd was told."""
        del self.events[:]
        daemon.reload()
        self.assertEqual([line.split("=")[0] for line in self.told.lines[-2:]], ["RELOADING", "READY"])
        return self.log

    def made(self, make: Callable[[Any], object], options: Any) -> object:
        """What twistd's plugin makes of this site's configuration; the signal is put back."""
        options.parseOptions(["--config", str(self.file)])
        before = signal.getsignal(signal.SIGHUP)
        try:
            return make(options)
        finally:
            self.hangup = signal.signal(signal.SIGHUP, before)

    def complaint(self, make: Callable[[Any], object], options: Any) -> str:
        """What is said on standard error where nothing can be made: exit status 1, no traceback."""
        said = io.StringIO()
        with redirect_stderr(said):
            error = self.assertRaises(SystemExit, self.made, make, options)
        self.assertEqual(error.code, 1)
        self.assertNotIn("Traceback", said.getvalue())
        return said.getvalue()


class SatelliteCase(Case):
    """With a satellite's site: its certificate, a Rallypoint in memory, a state folder."""

    SETTLES = (0.01,) * 20

    def setUp(self) -> None:
        super().setUp()
        self.put("client", satellite())

    def daemon(self, **more: Any) -> Any:
        """See :meth:`Case.daemon`."""
        folders = {"STATE_DIRECTORY": str(self.folder), "RUNTIME_DIRECTORY": str(self.folder)}
        return super().daemon(network=self.network, environ=folders, **more)

    def network(self, loaded: Loaded, reactor: Any, passport: Passport) -> RallypointNetwork:
        """Links in memory, with a Rallypoint that answers."""
        dialler = MemoryDialler(reactor)
        dialler.there[A] = MemoryRallypoint(reactor)
        return network_on(dialler, A, satellite=passport.satellite)


@cache
def satellite() -> Credentials:
    """A satellite's certificate, and its key."""
    return wire.ca().leaf("satellite", Role.SATELLITE)
