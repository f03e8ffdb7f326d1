"""What systemd hears, through a real datagram socket, and a heart that beats with its clock."""

import os
import socket
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.net.notify import BEAT_S, MAX_STATUS, Heartbeat, Notifier, watchdog_interval_s


class Telling(SynchronousTestCase):
    def listen(self, address: str) -> Callable[[], bytes]:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.setblocking(False)
        manager.bind(address)
        return lambda: manager.recv(4096)

    def test_words(self) -> None:
        """Each call is one datagram in sd_notify's words."""
        path = os.path.relpath(self.mktemp())
        heard = self.listen(path)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": os.path.abspath(path)})
        self.assertTrue(notifier.ready("3 links"))
        self.assertEqual(heard(), b"READY=1\nSTATUS=3 links")
        notifier.status("4 links")
        self.assertEqual(heard(), b"STATUS=4 links")
        notifier.watchdog()
        self.assertEqual(heard(), b"WATCHDOG=1")
        notifier.stopping()
        self.assertEqual(heard(), b"STOPPING=1")
        notifier.reloading()
        self.assertRegex(heard(), rb"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")

    def test_abstract(self) -> None:
        """An address with @ is in Linux' abstract namespace."""
        name = f"ice-test-{os.getpid()}"
        heard = self.listen("\0" + name)
        self.assertTrue(Notifier("@" + name).ready())
        self.assertEqual(heard(), b"READY=1")

    def test_no_forged_lines(self) -> None:
        """A status with line breaks stays one bounded assignment."""
        name = f"ice-test-status-{os.getpid()}"
        heard = self.listen("\0" + name)
        Notifier("@" + name).status("a\nWATCHDOG=trigger " + "x" * 1000)
        said = heard()
        self.assertEqual(said.count(b"\n"), 0)
        self.assertEqual(len(said), len("STATUS=") + MAX_STATUS)

    def test_nobody_asked(self) -> None:
        """Without NOTIFY_SOCKET, or with an address that is no path, nothing is sent and nothing fails."""
        for environ in (
            {},
            {"NOTIFY_SOCKET": ""},
            {"NOTIFY_SOCKET": "vsock:2:1"},
            {"NOTIFY_SOCKET": "relative"},
        ):
            notifier = Notifier.from_environment(environ)
            self.assertFalse(notifier.ready())
            self.assertEqual(notifier.dropped, 0)

    def test_nobody_there(self) -> None:
        """A socket that is gone costs the notification, not the daemon."""
        notifier = Notifier("/nonexistent/notify")
        self.assertFalse(notifier.ready())
        self.assertFalse(notifier.watchdog())
        self.assertEqual(notifier.dropped, 2)


class WatchdogInterval(SynchronousTestCase):
    def test_half(self) -> None:
        """Beats come twice as often as systemd wants them."""
        self.assertEqual(watchdog_interval_s({"WATCHDOG_USEC": "10000000"}), 5.0)

    def test_whose(self) -> None:
        """A watchdog for another process is not ours."""
        environ = {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "42"}
        self.assertEqual(watchdog_interval_s(environ, pid=42), 5.0)
        self.assertIsNone(watchdog_interval_s(environ, pid=43))

    def test_none(self) -> None:
        """No watchdog, or nonsense, means none."""
        for text in ("", "0", "-5", "5s", "٣"):
            self.assertIsNone(watchdog_interval_s({"WATCHDOG_USEC": text}))
        self.assertIsNone(watchdog_interval_s({}))


class Counting(Notifier):
    """A notifier that counts what it would say to the watchdog."""

    beats = 0

    def watchdog(self) -> bool:
        self.beats += 1
        return True


class Beating(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.notifier = Counting()
        self.complaint: str | None = None
        self.heart = Heartbeat(self.clock, self.notifier, 2.0, lambda: self.complaint)
        self.heart.startService()

    def tearDown(self) -> None:
        self.heart.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_beats(self) -> None:
        """At once, then every interval."""
        self.assertEqual(self.notifier.beats, 1)
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.notifier.beats, 4)
        self.assertIsNone(self.heart.stale())

    def test_stuck_reactor(self) -> None:
        """A reactor that comes back late shows its lag; until it does, the heart is stale."""
        self.clock.rightNow += 7.5  # time passes and the reactor runs nothing
        self.assertIn("no heartbeat for 7.5 s", self.heart.stale() or "")
        self.clock.advance(0)
        self.assertEqual(self.heart.lag_s, 5.5)
        self.clock.advance(0.5)
        self.clock.advance(2.0)
        self.assertEqual(self.heart.worst_lag_s, 5.5)
        self.assertIsNone(self.heart.stale())

    def test_unwell(self) -> None:
        """While the daemon says that it is unwell the watchdog goes hungry and the page tells why."""
        self.complaint = "relay stopped"
        self.clock.pump([2.0] * 4)
        self.assertEqual(self.notifier.beats, 1)
        self.assertIn("relay stopped", self.heart.stale() or "")
        self.complaint = None
        self.clock.advance(2.0)
        self.assertIsNone(self.heart.stale())

    def test_default_interval(self) -> None:
        """Without a watchdog the heart still beats, for the health page."""
        self.assertEqual(Heartbeat(self.clock, self.notifier).interval_s, BEAT_S)
