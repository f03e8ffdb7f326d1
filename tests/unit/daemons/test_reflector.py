"""The assembly of the reflector: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import json
from typing import Any

from twisted.python import usage

from ice.daemons.reflector import Daemon, Options, makeService
from ice.errors import LocalError
from ice.security.certificates import Role
from ice.security.minting import list_pem
from tests.unit.daemons import site
from tests.unit.reflector.test_service import Wire
from tests.unit.security import wire

RULE = '[[reflector.rules]]\nstream = "hall"\nrx = "239.1.1.1:5000"\n'


class Case(site.SatelliteCase):
    CONFIGURATION = RULE
    DAEMON = Daemon

    def setUp(self) -> None:
        super().setUp()
        self.wires: list[Wire] = []

    def socket(self, reactor: Any, place: Any, received: Any, changed: Any, **more: Any) -> Wire:
        self.wires.append(Wire(reactor, place, received, changed, more))
        return self.wires[-1]

    def daemon(self, **more: Any) -> Any:
        return super().daemon(socket_of=self.socket, **more)


class Making(Case):
    def test_mistakes_are_lines(self) -> None:
        """With file, line and key; exit status 1."""
        self.file.write_text(RULE + 'ttl = 300\ninterfase = "eth0"\n')
        lines = self.complaint(makeService, Options()).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("ice.toml:4: reflector.rules.ttl", lines[0])

    def test_without_certificates(self) -> None:
        """It says what to type."""
        (self.folder / "pki" / "client.pem").unlink()
        self.assertIn("ice pki init", self.complaint(makeService, Options()))

    def test_a_key_that_is_not_there(self) -> None:
        """Told before anything is dialled."""
        self.file.write_text(RULE + 'key_file = "hall.key"\n')
        self.assertIn("hall.key: the key of a stream cannot be read", self.complaint(makeService, Options()))

    def test_who_is_no_satellite(self) -> None:
        """Cannot pass on what others say, and is told how to become one."""
        self.put("client", wire.alice())
        error = self.assertRaises(LocalError, self.daemon)
        self.assertIn("ice pki issue reflector --role satellite", str(error))

    def test_arguments(self) -> None:
        """There is nothing to give but options."""
        self.assertRaises(usage.UsageError, Options().parseOptions, ["now"])


class Living(Case):
    def test_start_and_stop(self) -> None:
        """systemd hears of each step; nothing is left in the reactor."""
        daemon = self.started()
        self.assertEqual(self.told.steps(), ["READY=1"])
        self.assertTrue(self.wires[0].running)
        self.assertIsNone(daemon.reflector.ready())
        daemon.stopService()
        self.reactor.pump([0.1] * 20)
        self.assertEqual(self.told.steps()[1], "STOPPING=1")
        self.assertFalse(self.wires[0].running)

    def test_pages(self) -> None:
        """The status pages are where the configuration says, and status is JSON."""
        daemon = self.started()
        self.assertEqual(self.reactor.open, [7481])
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
        self.assertEqual(self.told.steps(), ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"])

    def test_reminders(self) -> None:
        """What is changed in datagrams is a warning at every start."""
        self.file.write_text(RULE + 'payload_types = ["97=111"]\n')
        self.started()
        self.assertIn("RTP payload types are rewritten: 97=111", self.log)

    def test_certificates(self) -> None:
        """A renewed one is shown from the next link on; another satellite's, or nobody's that we trust, changes nothing."""
        daemon = self.started()
        renewed = wire.ca().leaf("reflector", Role.SATELLITE, id=daemon.passport.id)
        self.put("client", renewed)
        (self.folder / "pki" / "revoked.pem").write_bytes(list_pem([wire.ca().revoking(wire.rally())]))
        self.reload(daemon)
        tls = daemon.passport.tls
        self.assertEqual(tls.credentials.certificate, renewed.certificate)
        self.assertIsNotNone(tls.trust.refuses(wire.rally().certificate, wire.NOW))
        for other in (wire.ca().leaf("another", Role.SATELLITE), wire.other_ca().leaf("reflector")):
            self.put("client", other)
            self.assertIn("not reloaded", self.reload(daemon))
        self.assertEqual(tls.credentials.certificate, renewed.certificate)

    def test_a_certificate_that_is_over(self) -> None:
        """It is told at the start, and what to type."""
        self.put("client", wire.ca().leaf("reflector", Role.SATELLITE, end=wire.NOW - wire.DAY / 2))
        self.started()
        self.assertIn("Rallypoints will refuse", self.log)
        self.assertIn("ice pki renew reflector", self.log)

    def test_server_groups(self) -> None:
        """Who comes into one, or leaves it, has to be started again."""
        daemon = self.started()
        self.file.write_text(RULE + self.group(str(daemon.passport.id)))
        self.assertIn("is in a server group now: restart", self.reload(daemon))

    def group(self, id: str) -> str:
        salt = self.folder / "salt"
        salt.write_text("00" * 32)
        salt.chmod(0o600)
        return f'[[server_groups]]\nid = "5e2bb1f4-91a2-4a53-a2ff-02f6d4b3fd50"\nsalt_file = "salt"\n[[server_groups.members]]\nid = "{id}"\n'
