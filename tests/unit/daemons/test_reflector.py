"""The assembly of the reflector: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import io
import json
import signal
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import Loaded, load
from ice.daemons import reflector as module
from ice.daemons.reflector import Daemon, Options, makeService
from ice.errors import LocalError
from ice.observe.logs import LogOutput
from ice.streams.rallypoint import RallypointNetwork
from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on
from tests.unit.daemons.test_rallypoint import Told
from tests.unit.reflector.test_service import A, Wire

RULE = '[[reflector.rules]]\nstream = "hall"\nrx = "239.1.1.1:5000"\n'


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.file = self.folder / "ice.toml"
        self.file.write_text(RULE)
        self.reactor: Any = MemoryReactorClock()
        self.reactor.addReader = self.reactor.removeReader = lambda reader: None
        self.told = Told()
        self.wires: list[Wire] = []
        self.satellite = True
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.patch(module, "raise_file_limit", lambda links: None)

    def wire(self, reactor: Any, place: Any, received: Any, changed: Any, **more: Any) -> Wire:
        self.wires.append(Wire(reactor, place, received, changed, more))
        return self.wires[-1]

    def network(self, loaded: Loaded, reactor: Any) -> RallypointNetwork:
        dialler = MemoryDialler(reactor)
        dialler.there[A] = MemoryRallypoint(reactor)
        return network_on(dialler, A, satellite=self.satellite)

    def daemon(self) -> Daemon:
        return Daemon(
            self.reactor,
            load(self.file),
            notifier=self.told,
            output=LogOutput(io.StringIO(), colour=False, journal=False),
            network=self.network,
            socket_of=self.wire,
        )

    @property
    def log(self) -> str:
        """What was logged, a line each."""
        return "\n".join(formatEvent(event) for event in self.events)

    def steps(self) -> list[str]:
        """What systemd was told, but for heartbeats."""
        return [line for line in self.told.lines if line != "WATCHDOG=1"]

    def started(self) -> Daemon:
        daemon = self.daemon()
        daemon.privilegedStartService()
        daemon.startService()
        self.reactor.pump([0.01] * 20)
        self.addCleanup(self.stopped, daemon)
        return daemon

    def stopped(self, daemon: Daemon) -> None:
        if daemon.running:
            daemon.stopService()
        self.reactor.pump([0.1] * 40)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class Making(Case):
    def act(self, *words: str) -> str:
        options = Options()
        options.parseOptions(["--config", str(self.file)])
        before, said = signal.getsignal(signal.SIGHUP), io.StringIO()
        try:
            with redirect_stderr(said):
                error = self.assertRaises(SystemExit, makeService, options)
        finally:
            signal.signal(signal.SIGHUP, before)
        self.assertEqual(error.code, 1)
        self.assertNotIn("Traceback", said.getvalue())
        return said.getvalue()

    def test_mistakes_are_lines(self) -> None:
        """With file, line and key; exit status 1."""
        self.file.write_text(RULE + 'ttl = 300\ninterfase = "eth0"\n')
        lines = self.act().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("ice.toml:4: reflector.rules.ttl", lines[0])

    def test_without_certificates(self) -> None:
        """It says what to type."""
        self.assertIn("ice pki init", self.act())

    def test_a_key_that_is_not_there(self) -> None:
        """Told before anything is dialled."""
        self.file.write_text(RULE + 'key_file = "hall.key"\n')
        self.assertIn("hall.key: the key of a stream cannot be read", self.act())

    def test_who_is_no_satellite(self) -> None:
        """Cannot pass on what others say, and is told how to become one."""
        self.satellite = False
        error = self.assertRaises(LocalError, self.daemon)
        self.assertIn("ice pki issue reflector --role satellite", str(error))

    def test_arguments(self) -> None:
        """There is nothing to give but options."""
        self.assertRaises(usage.UsageError, Options().parseOptions, ["now"])


class Living(Case):
    def test_start_and_stop(self) -> None:
        """systemd hears of each step; nothing is left in the reactor."""
        daemon = self.started()
        self.assertEqual(self.steps(), ["READY=1"])
        self.assertTrue(self.wires[0].running)
        self.assertIsNone(daemon.reflector.ready())
        daemon.stopService()
        self.reactor.pump([0.1] * 20)
        self.assertEqual(self.steps()[1], "STOPPING=1")
        self.assertFalse(self.wires[0].running)

    def test_pages(self) -> None:
        """The status pages are where the configuration says, and status is JSON."""
        daemon = self.started()
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [7481])
        self.assertEqual(json.loads(json.dumps(daemon.health.status()))["daemon"], "ice-reflector")
        self.assertIn(b"ice_reflector_rules", daemon.metrics.render())

    def test_no_rules(self) -> None:
        """Without a rule it runs, says so, and waits for a reload."""
        self.file.write_text("")
        daemon = self.started()
        self.assertIn("no enabled rule", self.log)
        self.file.write_text(RULE)
        daemon.reload()
        self.reactor.pump([0.01] * 20)
        self.assertIsNone(daemon.reflector.ready())

    def test_reload(self) -> None:
        """Rules are read anew; what needs a restart is named; what is wrong changes nothing."""
        daemon = self.started()
        [wire] = self.wires
        self.file.write_text(
            RULE + RULE.replace("239.1.1.1", "239.1.1.2") + '[network]\nstrategy = "random"\n'
        )
        daemon.reload()
        self.assertEqual(len(self.wires), 2)
        self.assertIn("after a restart: network.strategy", self.log)
        self.file.write_text(RULE + "key_file = 'nowhere.key'\n")
        daemon.reload()
        self.assertIn("not reloaded", self.log)
        self.assertTrue(all(each.running for each in self.wires))
        self.assertIs(wire, self.wires[0])
        self.assertEqual(self.steps(), ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"])

    def test_reminders(self) -> None:
        """What is changed in datagrams is a warning at every start."""
        self.file.write_text(RULE + 'payload_types = ["97=111"]\n')
        self.started()
        self.assertIn("RTP payload types are rewritten: 97=111", self.log)
