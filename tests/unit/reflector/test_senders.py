"""Who is heard, and how much; what passed a moment ago."""

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from ice.reflector.passed import Passage, Passed
from ice.reflector.senders import Senders


class SendersTests(SynchronousTestCase):
    def test_lists(self) -> None:
        """Allowed networks less the denied; families apart; an IPv4 address written as IPv6 is the IPv4 address."""
        senders = Senders((ip_network("10.0.0.0/8"), ip_network("fe80::/10")), (ip_network("10.9.0.0/16"),))
        verdicts = {
            "10.1.1.1": True,
            "10.9.1.1": False,
            "192.0.2.1": False,
            "::ffff:10.1.1.1": True,
            "fe80::1%eth0": True,
            "fd00::1": False,
        }
        self.assertEqual({host: senders.allows(host) for host in verdicts}, verdicts)
        self.assertTrue(Senders((), (ip_network("10.9.0.0/16"),)).allows("192.0.2.1"))

    def test_rate(self) -> None:
        """Half a second's worth at once, then the rate; what was refused costs nothing."""
        host = Senders((), ()).of("10.0.0.1", 100.0, 5.0)
        self.assertEqual(sum(host.passes(100.0, 5.0) for _ in range(80)), 50)
        self.assertEqual(sum(host.passes(100.0, 5.125) for _ in range(80)), 12)
        self.assertEqual((host.packets, host.limited), (160, 98))

    def test_bound(self) -> None:
        """A thousand forged addresses make us forget the first, and nothing more."""
        senders = Senders((), (), max_hosts=10)
        for n in range(15):
            senders.of(f"10.0.0.{n}", 1.0, 0.0)
        self.assertEqual((len(senders.hosts), senders.forgotten), (10, 5))


class PassedTests(SynchronousTestCase):
    def test_window(self) -> None:
        """What passed is known for two seconds, and not after."""
        passed = Passed()
        first = Passage(1.0, 0, "a", None, 0)
        passed.keep(7, first)
        self.assertIs(passed.find(7, 3.0), first)
        self.assertIsNone(passed.find(7, 3.001))
        self.assertIsNone(passed.find(8, 1.0))

    def test_bound(self) -> None:
        """Never more than the limit; forgetting early is counted."""
        passed = Passed(limit=10)
        for mark in range(100):
            passed.keep(mark, Passage(1.0, 0, "a", None, 0))
        self.assertLessEqual(len(passed), 10)
        self.assertEqual(passed.overflows, 19)
        self.assertIsNotNone(passed.find(99, 1.0))
