"""The assembly of the patch server: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import json
from typing import Any

from ice.config.load import Loaded, load
from ice.daemons.patch import Daemon, Options, makeService
from ice.errors import LocalError
from ice.security.certificates import Role
from ice.streams.connect import Passport
from ice.streams.rallypoint import RallypointNetwork
from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on
from tests.unit.daemons import site
from tests.unit.reflector.test_service import A
from tests.unit.security import wire

PATCH = '[[patches]]\nid = "both"\nstreams = ["hall", "yard"]\n'


class Case(site.Case):
    CONFIGURATION = PATCH

    def setUp(self) -> None:
        super().setUp()
        self.put("client", wire.ca().leaf("patch", Role.SATELLITE))

    def network(self, loaded: Loaded, reactor: Any, passport: Passport) -> RallypointNetwork:
        dialler = MemoryDialler(reactor)
        dialler.there[A] = MemoryRallypoint(reactor)
        return network_on(dialler, A, satellite=passport.satellite)

    def daemon(self) -> Daemon:
        return Daemon(
            self.reactor,
            load(self.file),
            notifier=self.told,
            output=self.output(),
            wall=lambda: wire.NOW,
            network=self.network,
            environ={"STATE_DIRECTORY": str(self.folder), "RUNTIME_DIRECTORY": str(self.folder)},
        )

    def started(self) -> Daemon:
        daemon = self.daemon()
        self.begin(daemon)
        self.reactor.pump([0.01] * 20)
        return daemon


class Making(Case):
    def test_mistakes_are_lines(self) -> None:
        """With file, line and key; exit status 1."""
        self.file.write_text(PATCH + 'moode = "mixed"\n')
        [line] = self.complaint(makeService, Options()).splitlines()
        self.assertIn("ice.toml:4: patches.moode", line)

    def test_who_is_no_satellite(self) -> None:
        """Cannot pass on what others say, and is told how to become one."""
        self.put("client", wire.alice())
        error = self.assertRaises(LocalError, self.daemon)
        self.assertIn("ice pki issue patch --role satellite", str(error))


class Living(Case):
    def test_start_and_stop(self) -> None:
        """systemd hears of each step; the list is served."""
        daemon = self.started()
        self.assertEqual(self.told.steps(), ["READY=1"])
        self.assertEqual(daemon.doing, "serving 1 of 1 patches")
        status = json.loads(json.dumps(daemon.health.status()))
        self.assertEqual(status["daemon"], "ice-patch")
        daemon.stopService()
        self.reactor.pump([0.1] * 20)
        self.assertEqual(self.told.steps()[1], "STOPPING=1")

    def test_reload(self) -> None:
        """Patches are read anew; what is wrong changes nothing."""
        daemon = self.started()
        self.file.write_text(
            PATCH + PATCH.replace("both", "two").replace("hall", "barn").replace("yard", "mill")
        )
        self.assertIn("changed patches; 2 patches", self.reload(daemon))
        self.file.write_text(PATCH + "streams = 3\n")
        self.assertIn("not reloaded", self.reload(daemon))
        self.assertEqual(daemon.doing, "serving 2 of 2 patches")

    def test_nothing_to_do(self) -> None:
        """Without a patch it runs, and says how to make one."""
        self.file.write_text("")
        self.started()
        self.assertIn("there is no patch yet: ice patch add", self.log)
