"""What a machine tells of itself, from files as Linux writes them."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.who_machine import connectivity, power
from ice.mission.presence import Connectivity, Power

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
{name}\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
"""
WIRELESS = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   48.  -62.  -256        0      0      0      0     31        0
"""


class Machine(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def supply(self, name: str, **lines: str) -> None:
        """One of the machine's supplies."""
        folder = self.folder / name
        folder.mkdir()
        for key, line in lines.items():
            (folder / key).write_text(line + "\n")

    def test_battery(self) -> None:
        """The fullest of the machine's own batteries; mains and a mouse's are none."""
        self.supply("AC", type="Mains", online="1")
        self.supply("BAT0", type="Battery", capacity="61", status="Discharging")
        self.supply("BAT1", type="Battery", capacity="83", status="Not charging")
        self.supply("hid", type="Battery", scope="Device", capacity="99", status="Full")
        self.assertEqual(power(self.folder), Power(1, 3, 83))

    def test_no_battery(self) -> None:
        """Where there is none, or it does not say, nothing is told."""
        self.assertIsNone(power(self.folder))
        self.assertIsNone(power(self.folder / "nowhere"))
        self.supply("BAT0", type="Battery", capacity="-3", status="Unknown")
        self.assertIsNone(power(self.folder))

    def test_network(self) -> None:
        """Wired, wifi with its strength, or cellular, as the default route goes."""
        routes, wireless = self.folder / "route", self.folder / "wireless"
        wireless.write_text(WIRELESS)
        (self.folder / "wlan0" / "wireless").mkdir(parents=True)
        for name, expected in (
            ("eth0", Connectivity(1)),
            ("wlan0", Connectivity(2, -62)),
            ("wwan0", Connectivity(3)),
        ):
            routes.write_text(ROUTES.format(name=name))
            self.assertEqual(connectivity(routes, self.folder, wireless), expected)
        self.assertEqual(connectivity(routes, self.folder, self.folder / "nowhere"), Connectivity(3))

    def test_no_network(self) -> None:
        """Without a default route nothing is told."""
        self.assertIsNone(connectivity(self.folder / "nowhere", self.folder, self.folder / "nowhere"))
