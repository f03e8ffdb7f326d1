"""What the doctor says of multicast: which interface, which IGMP, and containers that only seem to multicast."""

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.examine import Result, Verdict
from ice.cli.examine_multicast import multicast_use
from ice.config.multicast import MulticastSettings
from ice.net.interfaces import IFF_LOOPBACK, IFF_MULTICAST, IFF_RUNNING, IFF_UP, Interface, InterfaceTrouble

UP = IFF_UP | IFF_RUNNING | IFF_MULTICAST
LO = Interface(1, "lo", IFF_UP | IFF_RUNNING | IFF_LOOPBACK, ("127.0.0.1",))
ETH0 = Interface(2, "eth0", UP, ("192.0.2.7",))
WLAN0 = Interface(3, "wlan0", UP, ("198.51.100.7",))
IGMP = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n2\teth0      :     2      V{}\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.write("proc/net/igmp", IGMP.format(3))
        self.route: int | None = 2

    def write(self, name: str, text: str = "") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def ask(self, *present: Interface, **settings: object) -> list[Result]:
        machine: Mapping[str, Interface] = {each.name: each for each in (LO, *present)}
        return list(
            multicast_use(
                MulticastSettings(**settings),  # type: ignore[arg-type]
                look=lambda: machine,
                route=lambda address: self.route,
                root=self.root,
            )
        )


class Which(Case):
    def test_routed(self) -> None:
        """By its route, with its IGMP: nothing to complain of."""
        results = self.ask(ETH0, WLAN0)
        self.assertEqual([each.verdict for each in results], [Verdict.OK, Verdict.OK])
        self.assertIn("use eth0", results[0].found)
        self.assertEqual((results[1].subject, results[1].found), ("igmp eth0", "version 3, 2 groups joined"))

    def test_no_route(self) -> None:
        """Without a route the only one will do; of two somebody must choose; where there is none, that is said."""
        self.route = None
        (route, *_) = self.ask(ETH0)
        self.assertIs(route.verdict, Verdict.WARN)
        self.assertEqual(route.remedy, "sudo ip route add 239.0.0.0/8 dev eth0")
        (route,) = self.ask(ETH0, WLAN0)
        self.assertIn("eth0 and wlan0", route.found)
        self.assertIn("multicast.interface", route.remedy)
        (route,) = self.ask()
        self.assertIn("no interface", route.found)

    def test_route_to_nowhere(self) -> None:
        """A route to loopback keeps groups on the machine."""
        self.route = 1
        (route,) = self.ask(ETH0)
        self.assertIn("stay on this machine", route.found)

    def test_named(self) -> None:
        """The interface that is configured must be there, up, able, and have an address."""
        self.assertIs(self.ask(ETH0, interface="eth0")[0].verdict, Verdict.OK)
        for interface, said in (
            (WLAN0, "no such interface here; there are: wlan0"),
            (Interface(2, "eth0", IFF_UP | IFF_MULTICAST), "down"),
            (Interface(2, "eth0", IFF_UP | IFF_RUNNING), "does not multicast"),
            (Interface(2, "eth0", UP), "no address"),
        ):
            (result,) = self.ask(interface, interface="eth0")
            self.assertIs(result.verdict, Verdict.FAIL)
            self.assertIn(said, result.found)
            self.assertTrue(result.remedy)

    def test_off(self) -> None:
        """Who has switched multicast off is told nothing more."""
        (result,) = self.ask(interface="none", enabled=False)
        self.assertIs(result.verdict, Verdict.OK)

    def test_not_allowed(self) -> None:
        """Where the kernel may not be asked, that is the finding."""

        def look() -> Mapping[str, Interface]:
            raise InterfaceTrouble("netlink is not allowed")

        (result,) = multicast_use(MulticastSettings(), look=look, root=self.root)
        self.assertEqual((result.verdict, result.found), (Verdict.WARN, "netlink is not allowed"))


class Igmp(Case):
    def test_old(self) -> None:
        """An old version is told, and whose doing it is."""
        self.write("proc/net/igmp", IGMP.format(2))
        self.assertIn("router", self.ask(ETH0)[1].found)
        self.write("proc/sys/net/ipv4/conf/eth0/force_igmp_version", "2\n")
        self.assertIn("force_igmp_version=0", self.ask(ETH0)[1].remedy)

    def test_none(self) -> None:
        """A kernel without multicast, and an interface that joined nothing."""
        self.write("proc/net/igmp", "Idx\n")
        self.assertIn("no group", self.ask(ETH0)[1].found)
        (self.root / "proc/net/igmp").unlink()
        self.assertIn("CONFIG_IP_MULTICAST", self.ask(ETH0)[1].found)


class Containers(Case):
    def test_bridged(self) -> None:
        """Behind a bridge nothing of the LAN comes in, whatever kind of container it is; the command that mends it is told."""
        self.write("sys/class/net/eth0/uevent", "INTERFACE=eth0\nIFINDEX=2\n")
        for name, text, kind in (
            (".dockerenv", "", "Docker"),
            ("run/.containerenv", "", "Podman"),
            ("proc/1/environ", "PATH=/bin\0container=lxc\0", "lxc"),
        ):
            self.write(name, text)
            result = self.ask(ETH0)[-1]
            self.assertEqual((result.subject, result.verdict), ("container", Verdict.WARN))
            self.assertIn(kind, result.found)
            self.assertIn("--network host", result.remedy)
            (self.root / name).unlink()

    def test_with_a_network_of_its_own(self) -> None:
        """A container with the host's network, or an address on the LAN, is well."""
        self.write(".dockerenv")
        self.write("sys/class/net/eth0/uevent", "DEVTYPE=macvlan\nINTERFACE=eth0\n")
        self.assertIs(self.ask(ETH0)[-1].verdict, Verdict.OK)
        self.write("sys/class/net/eth0/uevent", "INTERFACE=eth0\n")
        self.write("sys/class/net/eno1/device/vendor")
        self.assertIn("eno1", self.ask(ETH0)[-1].found)
