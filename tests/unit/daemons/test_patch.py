"""The assembly of the patch server: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import json

from ice.daemons.patch import Daemon, Options, makeService
from ice.errors import LocalError
from ice.security.certificates import Role
from tests.unit.daemons import site
from tests.unit.security import wire

PATCH = '[[patches]]\nid = "both"\nstreams = ["hall", "yard"]\n'


class Case(site.SatelliteCase):
    CONFIGURATION = PATCH
    DAEMON = Daemon


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

    def test_reload_of_a_list_that_cannot_be_kept(self) -> None:
        """Changes nothing at all: the certificate is the one of before, too."""
        daemon = self.started()
        shown = daemon.passport.tls.credentials
        self.put("client", wire.ca().leaf("patch", Role.SATELLITE, id=daemon.passport.id))

        def full() -> None:
            raise LocalError("the disk is full")

        self.patch(daemon.server, "_sow", full)
        self.file.write_text(PATCH.replace("yard", "mill"))
        self.assertIn("not reloaded: the disk is full", self.reload(daemon))
        self.assertIs(daemon.passport.tls.credentials, shown)

    def test_reload_of_a_client(self) -> None:
        """Who has the same id and another role is no satellite."""
        daemon = self.started()
        self.put("client", wire.ca().leaf("patch", Role.CLIENT, id=daemon.passport.id))
        self.assertIn("not reloaded", self.reload(daemon))

    def test_passwords_for_everybody(self) -> None:
        """Who lets others read the passwords of missions is told so."""
        words = self.folder / "words"
        words.touch(0o644)
        words.chmod(0o644)
        self.file.write_text('[patch]\npassword_file = "words"\n' + PATCH)
        daemon = self.started()
        self.assertIn("words: its mode lets others read the passwords of missions; type: chmod 600", self.log)
        words.chmod(0o600)
        self.assertNotIn("chmod", self.reload(daemon))

    def test_nothing_to_do(self) -> None:
        """Without a patch it runs, and says how to make one."""
        self.file.write_text("")
        self.started()
        self.assertIn("there is no patch yet: ice patch add", self.log)
