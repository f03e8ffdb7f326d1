"""The assembly: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, globalLogPublisher
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load
from ice.daemons import rallypoint as module
from ice.daemons.rallypoint import Daemon, Hangup, Options, makeService
from ice.net.notify import Notifier
from ice.observe.logs import LogOutput
from ice.security.certificates import Role
from ice.security.files import KEY_MODE
from ice.security.minting import certificate_pem, key_pem, list_pem
from tests.unit.security import wire


class Told(Notifier):
    """A notifier that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _send(self, *lines: str) -> bool:
        self.lines.append(lines[0])
        return True


class Reactor(MemoryReactorClock):
    """A reactor whose ports can be closed, or are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()
        self.open: list[int] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        listening = super().listenTCP(port, factory, backlog, interface)
        self.open.append(port)
        listening.stopListening = lambda: self.open.remove(port)  # type: ignore[method-assign]
        return listening


class Case(SynchronousTestCase):
    """With a site in a folder."""

    def setUp(self) -> None:
        self.patch(
            os, "environ", {**os.environ, "ICE_TLS": "twisted"}
        )  # a memory reactor has no sockets to own
        self.folder = Path(self.mktemp())
        pki = self.folder / "pki"
        pki.mkdir(parents=True)
        (pki / "authority.pem").write_bytes(certificate_pem(wire.ca().certificate))
        self.put("rallypoint", wire.rally())
        self.file = self.folder / "ice.toml"
        self.file.write_text('[rallypoint]\nhealth_check = "127.0.0.1:7444"\n')
        self.reactor: Any = Reactor()
        self.told = Told()

    def put(self, name: str, credentials: Any) -> None:
        """A certificate and key, as files."""
        (self.folder / "pki" / f"{name}.pem").write_bytes(certificate_pem(credentials.certificate))
        key = self.folder / "pki" / f"{name}.key"
        key.write_bytes(key_pem(credentials.key))
        key.chmod(KEY_MODE)

    def daemon(self) -> Daemon:
        """The daemon, on a reactor in memory."""
        self.log = io.StringIO()
        output = LogOutput(self.log, colour=False, journal=False)
        return Daemon(self.reactor, load(self.file), notifier=self.told, output=output, wall=lambda: wire.NOW)

    def started(self) -> Daemon:
        """The same, started; stopped after the test."""
        daemon = self.daemon()
        self.patch(module, "raise_file_limit", lambda links: None)
        daemon.privilegedStartService()
        daemon.startService()
        self.addCleanup(self.stopped, daemon)
        return daemon

    def stopped(self, daemon: Daemon) -> None:
        if daemon.running:
            daemon.stopService()
        self.reactor.pump([0.1] * 5)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    @contextmanager
    def complaint(self) -> Iterator[io.StringIO]:
        """Expect exit status 1, and give what was said on standard error."""
        said = io.StringIO()
        with redirect_stderr(said):
            error = self.assertRaises(SystemExit, self.act)
        self.assertEqual(error.code, 1)
        self.assertNotIn("Traceback", said.getvalue())
        yield said

    def act(self) -> object:
        """What :meth:`complaint` expects to end the process."""
        raise NotImplementedError


class MakingTests(Case):
    def act(self) -> object:
        options = Options()
        options.parseOptions(["--config", str(self.file)])
        before = signal.getsignal(signal.SIGHUP)
        try:
            return makeService(options)
        finally:
            self.hangup = signal.signal(signal.SIGHUP, before)

    def test_every_mistake_in_the_file_is_a_line(self) -> None:
        """All of them at once, with their places."""
        self.file.write_text("[rallypoint]\nlistn = 1\nkeepalive_s = -1\n")
        with self.complaint() as said:
            lines = said.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("ice.toml:2: rallypoint.listn: unknown key; did you mean 'listen'?", lines[0])

    def test_without_certificates_it_says_what_to_type(self) -> None:
        """Word for word."""
        (self.folder / "pki" / "rallypoint.pem").unlink()
        with self.complaint() as said:
            self.assertIn("ice pki init", said.getvalue())

    def test_a_client_certificate_is_not_a_rallypoint(self) -> None:
        """Told before a port is opened."""
        self.put("rallypoint", wire.alice())
        with self.complaint() as said:
            self.assertIn("rallypoint", said.getvalue())

    def test_hangup_is_taken_from_the_first_moment_on(self) -> None:
        """Its default would kill the process."""
        from twisted.internet import reactor

        self.patch(reactor, "seconds", reactor.seconds)  # type: ignore[attr-defined]
        self.assertIsInstance(self.act(), Daemon)
        self.assertEqual(getattr(self.hangup, "__func__", None), Hangup.received)

    def test_stray_arguments_are_refused(self) -> None:
        """Rather than ignored."""
        self.assertRaises(usage.UsageError, Options().parseOptions, ["ice.toml"])

    def test_a_hangup_before_there_is_a_daemon_does_nothing(self) -> None:
        """And afterwards it is one call on the reactor's thread."""

        class Threads:
            def __init__(self) -> None:
                self.called: list[Any] = []

            def callFromThread(self, call: Any) -> None:
                self.called.append(call)

        threads = Threads()
        hangup = Hangup(threads)
        hangup.received(1, None)
        threads.called.pop()()
        done: list[int] = []
        hangup.act = lambda: done.append(1)
        hangup.received(1, None)
        self.assertEqual(done, [])
        threads.called.pop()()
        self.assertEqual(done, [1])


class LifeTests(Case):
    def test_start_and_stop(self) -> None:
        """Ports, READY; then STOPPING, the balancer's port first, the pages last."""
        daemon = self.started()
        self.assertEqual(self.reactor.open, [7480, 7443, 7444])
        self.assertEqual([line for line in self.told.lines if line != "WATCHDOG=1"], ["READY=1"])
        done: list[object] = []
        daemon.stopService().addCallback(done.append)
        self.assertEqual(self.told.lines[-1], "STOPPING=1")
        self.reactor.advance(0.1)
        self.assertEqual((self.reactor.open, len(done)), ([], 1))

    def test_the_pages_say_how_it_is(self) -> None:
        """Status as JSON, metrics, readiness."""
        daemon = self.started()
        pages = daemon.health
        self.assertEqual([check() for check in (*pages.alive, *pages.ready)], [None, None])
        self.assertEqual(json.loads(json.dumps(pages.status()))["daemon"], "ice-rallypoint")
        self.assertIn(b"ice_reactor_lag_seconds", daemon.metrics.render())

    def test_pages_and_balancer_may_be_off(self) -> None:
        """An empty address opens no port."""
        self.file.write_text('[rallypoint]\nhttp.listen = ""\n')
        self.started()
        self.assertEqual(self.reactor.open, [7443])

    def test_a_port_that_is_taken_ends_the_process(self) -> None:
        """Whichever it is, with one line."""
        for port, setting in ((7443, "rallypoint.listen"), (7480, "rallypoint.http.listen")):
            self.reactor.taken = {port}
            daemon = self.daemon()
            with capturedLogs() as events:
                ended = self.assertRaises(SystemExit, daemon.privilegedStartService)
            self.assertEqual((ended.code, len(events), events[0]["log_level"].name), (1, 1, "critical"))
            self.assertIn(
                f"cannot listen on 127.0.0.1:{port}: Address already in use ({setting}", events[0]["error"]
            )


class ReloadTests(Case):
    def reload(self, daemon: Daemon) -> str:
        """Reload; what was logged."""
        self.log.truncate(0)
        globalLogPublisher.addObserver(daemon.output)
        try:
            daemon.reload()
        finally:
            globalLogPublisher.removeObserver(daemon.output)
        self.assertEqual([line.split("=")[0] for line in self.told.lines[-2:]], ["RELOADING", "READY"])
        return self.log.getvalue()

    def test_a_good_file_is_taken(self) -> None:
        """What changed is told, and what waits for a restart."""
        daemon = self.started()
        self.file.write_text('[rallypoint]\nname = "south"\nlisten = ["127.0.0.1:9443"]\n')
        said = self.reload(daemon)
        self.assertIn("rallypoint.name", said)
        self.assertIn("after a restart: ", said)
        self.assertEqual(daemon.rallypoint.house.name, "south")

    def test_a_bad_file_changes_nothing(self) -> None:
        """Each reason is in the log."""
        daemon = self.started()
        self.file.write_text("[rallypoint]\nnam = 1\n")
        said = self.reload(daemon)
        self.assertIn("did you mean 'name'?", said)
        self.assertIn("running on", said)
        self.assertEqual(daemon.rallypoint.house.name, "rally")

    def test_a_certificate_of_nobody_we_trust_changes_nothing(self) -> None:
        """Nor does one that is missing."""
        daemon = self.started()
        self.put("rallypoint", wire.other_ca().leaf("rally"))
        self.assertIn("not reloaded", self.reload(daemon))
        (self.folder / "pki" / "rallypoint.key").unlink()
        self.assertIn("not reloaded", self.reload(daemon))
        self.assertEqual(daemon.rallypoint.house.tls.credentials.certificate, wire.rally().certificate)

    def test_certificates_and_revocations_are_read_again(self) -> None:
        """Without a word in the configuration."""
        daemon = self.started()
        renewed = wire.ca().leaf("rally", Role.RALLYPOINT)
        self.put("rallypoint", renewed)
        revoked = wire.ca().revoking(wire.alice())
        (self.folder / "pki" / "revoked.pem").write_bytes(list_pem([revoked]))
        self.reload(daemon)
        tls = daemon.rallypoint.house.tls
        self.assertEqual(tls.credentials.certificate, renewed.certificate)
        self.assertIsNotNone(tls.trust.refuses(wire.alice().certificate, wire.NOW))

    def test_a_key_that_others_may_read_is_warned_of(self) -> None:
        """At the start and at each reload."""
        daemon = self.started()
        os.chmod(self.folder / "pki" / "rallypoint.key", 0o644)
        self.assertIn("chmod 600", self.reload(daemon))


class FilesTests(SynchronousTestCase):
    def test_the_soft_limit_is_raised_to_the_hard_one(self) -> None:
        """And no further; what is too little for the links is told."""
        set_to: list[tuple[int, int]] = []
        self.patch(module.resource, "getrlimit", lambda which: (1_024, 4_096))
        self.patch(module.resource, "setrlimit", lambda which, limits: set_to.append(limits))
        module.raise_file_limit(1_000)
        self.assertEqual(set_to, [(4_096, 4_096)])
        with capturedLogs() as events:
            module.raise_file_limit(10_000)
        self.assertEqual([event["needed"] for event in events], [10_128])
