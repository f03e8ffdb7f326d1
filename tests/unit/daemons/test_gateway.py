"""The assembly of the gateway: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import json
from types import SimpleNamespace
from typing import Any

from ice.daemons.gateway import Daemon, Options, _heir, makeService
from ice.errors import LocalError
from ice.security.certificates import Role
from ice.telephony.loopback_trunk import LoopbackTrunk
from tests.unit.daemons import site
from tests.unit.security import wire

TEXT = '[gateway]\nclear = ["north"]\n[[gateway.dial_in]]\nnumber = "500"\nchannel = "north"\n'


class Case(site.SatelliteCase):
    CONFIGURATION = TEXT
    DAEMON = Daemon


class Making(Case):
    def test_mistakes_are_lines(self) -> None:
        """With file, line and key; exit status 1."""
        self.file.write_text(TEXT + 'kee = "voice"\n')
        (line,) = self.complaint(makeService, Options()).splitlines()
        self.assertIn("ice.toml:6: gateway.dial_in.kee", line)

    def test_who_is_no_satellite(self) -> None:
        """Is told how to become one."""
        self.put("client", wire.alice())
        error = self.assertRaises(LocalError, self.daemon)
        self.assertIn("ice pki issue gateway --role satellite", str(error))

    def test_a_channel_that_nobody_describes(self) -> None:
        """Is refused before anything is opened."""
        self.file.write_text(TEXT.replace('"north"]', '"south"]'))
        self.assertIn("gateway.clear", self.complaint(makeService, Options()))

    def test_records(self) -> None:
        """They are kept in the state folder, mode 0600, by one gateway alone; or not at all."""
        daemon = self.daemon()
        path = self.folder / "calls.db"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertIn("another gateway writes these", str(self.assertRaises(LocalError, self.daemon)))
        assert daemon.gateway.records is not None
        daemon.gateway.records.close()
        path.unlink()
        self.file.write_text(TEXT + "[gateway.records]\nkeep_days = 0\n")
        self.assertIsNone(self.daemon().gateway.records)
        self.assertFalse(path.exists())


class Heirs(Case):
    def test_heir(self) -> None:
        """Another is there to lead where one was heard that may; and perhaps one is where nothing is known."""

        def heir(**votes: int) -> bool:
            election: Any = SimpleNamespace(
                own_id="us", tally=SimpleNamespace(outcome=SimpleNamespace(votes=votes))
            )
            return _heir(election)

        self.assertEqual(
            [heir(us=3), heir(us=3, them=2), heir(us=3, them=0), heir(us=3, them=-1), heir()],
            [False, True, True, False, True],
        )


class Living(Case):
    def test_start_and_stop(self) -> None:
        """systemd hears of each step; calls are taken, the pages are there, and nothing is left open."""
        daemon = self.started()
        self.assertEqual(self.told.steps(), ["READY=1"])
        self.assertEqual(daemon.doing, "active, 0 calls")
        self.assertEqual(self.reactor.open, [7483])
        self.assertIsNone(daemon.gateway.ready())
        status = json.loads(json.dumps(daemon.health.status()))
        self.assertEqual(
            (status["daemon"], status["state"], status["group"]),
            ("ice-gateway", "active", str(daemon.passport.id)),
        )
        self.assertIn(b"ice_gateway_trunk_up", daemon.metrics.render())
        self.assertEqual(daemon.metrics.errors, 0)
        self.assertIn("is let into the channel north without a code", self.log)
        daemon.stopService()
        self.reactor.pump([0.1] * 20)
        self.assertEqual(self.told.steps()[1], "STOPPING=1")
        self.assertEqual(self.reactor.open, [])

    def test_reload(self) -> None:
        """Numbers and limits are read anew; what needs a restart is named; what is wrong changes nothing."""
        daemon = self.started()
        self.file.write_text(TEXT.replace("[gateway]\n", "[gateway]\ncalls = 7\n"))
        self.assertIn("changed gateway.calls; 0 calls", self.reload(daemon))
        self.assertEqual(daemon.gateway.rules.calls, 7)
        self.file.write_text(
            '[gateway.numbers]\ncountry = "49"\n[[gateway.trunks]]\nname = "own"\nkind = "loopback"\n'
        )
        self.assertIn("after a restart: gateway.clear, gateway.trunks, gateway.dial_in", self.reload(daemon))
        user = '[[gateway.numbers.users]]\nid = "2c9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e"\nnumber = "99999999999999"\n'
        self.file.write_text(user)
        self.assertIn("not reloaded", self.reload(daemon))
        self.assertEqual(daemon.gateway.rules.plan.country, "49")

    def test_more_than_a_rallypoint_takes(self) -> None:
        """Who wants more calls than a link carries is told so at the start."""
        self.file.write_text(TEXT.replace("[gateway]\n", "[gateway]\ncalls = 60\n"))
        self.started()
        self.assertIn("takes 32 from one link: raise", self.log)

    def test_a_code_for_everybody(self) -> None:
        """Who lets others read the code of a channel is told so."""
        code = self.folder / "code"
        code.write_text("4711")
        code.chmod(0o644)
        self.file.write_text(TEXT + 'code_file = "code"\n')
        daemon = self.started()
        self.assertIn("code: its mode lets others read this access code; type: chmod 600", self.log)
        code.chmod(0o600)
        self.assertNotIn("access code", self.reload(daemon))

    def test_work_that_cannot_be_ended(self) -> None:
        """Is told, and everything else is closed all the same."""
        daemon = self.started()
        stop = daemon.gateway.stopService

        def fail() -> object:
            stop()
            raise ZeroDivisionError

        daemon.retire = fail
        daemon.stopService()
        self.reactor.pump([0.1] * 40)
        self.assertEqual(self.reactor.open, [])
        self.assertIn("the work could not be ended in good order", self.log)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_renewed_certificate(self) -> None:
        """Links show it from now on; call messages go on under the old one, and that is said."""
        daemon = self.started()
        self.put("client", wire.ca().leaf("gateway", Role.SATELLITE, id=daemon.passport.id))
        self.assertIn("restart the gateway before that expires", self.reload(daemon))

    def test_server_group(self) -> None:
        """In one, it stands by until it is elected, its trunks are not started, and people write to the group."""
        salt = self.folder / "salt"
        salt.write_text("00" * 32)
        salt.chmod(0o600)
        group = "5e2bb1f4-91a2-4a53-a2ff-02f6d4b3fd50"
        daemon = self.daemon()
        id = str(daemon.passport.id)
        assert daemon.gateway.records is not None
        daemon.gateway.records.close()
        self.file.write_text(
            f'{TEXT}[[server_groups]]\nid = "{group}"\nsalt_file = "salt"\nquorum = "none"\n[[server_groups.members]]\nid = "{id}"\n'
        )
        daemon = self.started()
        trunk = daemon.gateway.trunks["loopback"]
        assert isinstance(trunk, LoopbackTrunk)
        self.assertFalse(trunk.health.up)
        self.assertEqual((daemon.doing, daemon.gateway.group_id), ("standing by, 0 calls", group))
        assert daemon.election is not None
        daemon.gateway.guard(lambda: True)
        daemon.gateway.active()
        self.reactor.pump([0.1] * 2)
        self.assertEqual((daemon.doing, trunk.health.up), ("active, 0 calls", True))
        daemon.stopService()
        self.reactor.pump([0.1] * 40)
        self.assertFalse(trunk.health.up)
