"""What all daemons share: SIGHUP before there is a daemon, open files, what is said of a certificate."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from ice.daemons import frame
from ice.daemons.frame import Hangup, certificate_cautions
from tests.unit.security import wire


class HangupTests(SynchronousTestCase):
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


class FilesTests(SynchronousTestCase):
    def test_the_soft_limit_is_raised_to_the_hard_one(self) -> None:
        """And no further; what is too little for the links is told."""
        set_to: list[tuple[int, int]] = []
        self.patch(frame.resource, "getrlimit", lambda which: (1_024, 4_096))
        self.patch(frame.resource, "setrlimit", lambda which, limits: set_to.append(limits))
        frame.raise_file_limit(1_000, "a test")
        self.assertEqual(set_to, [(4_096, 4_096)])
        with capturedLogs() as events:
            frame.raise_file_limit(10_000, "a test")
        [event] = events
        self.assertIn("4096 files, but a test needs 10128", formatEvent(event))


class CautionTests(SynchronousTestCase):
    def test_what_is_good_is_not_mentioned(self) -> None:
        """Neither a certificate that is valid, nor a key that only its owner reads."""
        self.assertEqual(self.said(0), [])

    def test_a_certificate_that_is_over(self) -> None:
        """Who will refuse it, and what to type."""
        [line] = self.said(40)
        self.assertIn("Rallypoints will refuse here.pem: ", line)
        self.assertIn("ice pki renew bridge", line)

    def test_a_key_for_everybody(self) -> None:
        """The mode is told with its remedy."""
        key = Path(self.mktemp())
        key.touch(0o644)
        [line] = self.said(0, key)
        self.assertIn("chmod 600", line)

    def said(self, days: int, key: Path = Path("nowhere.key")) -> list[str]:
        now = wire.NOW + timedelta(days=days)
        leaf = wire.alice().certificate
        return certificate_cautions(leaf, Path("here.pem"), key, now, who="Rallypoints", name="bridge")
