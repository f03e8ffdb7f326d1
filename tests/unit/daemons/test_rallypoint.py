"""The assembly: what is wrong is said in lines, a reload that cannot be is refused, and the order of start and stop."""

import json
import os

from twisted.logger import capturedLogs
from twisted.python import usage

from ice.daemons.frame import Hangup
from ice.daemons.rallypoint import Daemon, Options, makeService
from ice.security.certificates import Role
from ice.security.minting import list_pem
from tests.unit.daemons import site
from tests.unit.security import wire


class Case(site.Case):
    """With a Rallypoint's site."""

    CONFIGURATION = '[rallypoint]\nhealth_check = "127.0.0.1:7444"\n'
    DAEMON = Daemon

    def setUp(self) -> None:
        super().setUp()
        self.put("rallypoint", wire.rally())


class MakingTests(Case):
    def test_every_mistake_in_the_file_is_a_line(self) -> None:
        """All of them at once, with their places."""
        self.file.write_text("[rallypoint]\nlistn = 1\nkeepalive_s = -1\n")
        lines = self.complaint(makeService, Options()).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("ice.toml:2: rallypoint.listn: unknown key; did you mean 'listen'?", lines[0])

    def test_without_certificates_it_says_what_to_type(self) -> None:
        """Word for word."""
        (self.folder / "pki" / "rallypoint.pem").unlink()
        self.assertIn("ice pki init", self.complaint(makeService, Options()))

    def test_a_client_certificate_is_not_a_rallypoint(self) -> None:
        """Told before a port is opened."""
        self.put("rallypoint", wire.alice())
        self.assertIn("rallypoint", self.complaint(makeService, Options()))

    def test_hangup_is_taken_from_the_first_moment_on(self) -> None:
        """Its default would kill the process."""
        from twisted.internet import reactor

        self.patch(reactor, "seconds", reactor.seconds)  # type: ignore[attr-defined]
        self.assertIsInstance(self.made(makeService, Options()), Daemon)
        self.assertEqual(getattr(self.hangup, "__func__", None), Hangup.received)

    def test_stray_arguments_are_refused(self) -> None:
        """Rather than ignored."""
        self.assertRaises(usage.UsageError, Options().parseOptions, ["ice.toml"])


class LifeTests(Case):
    def test_start_and_stop(self) -> None:
        """Ports, READY; then STOPPING, the balancer's port first, the pages last."""
        daemon = self.started()
        self.assertEqual(self.reactor.open, [7480, 7443, 7444])
        self.assertEqual(self.told.steps(), ["READY=1"])
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
