"""What the doctor says of a reflector's rules."""

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.examine import Result, Verdict
from ice.cli.examine_reflector import reflector_use
from ice.config.load import loads
from ice.net.interfaces import IFF_MULTICAST, IFF_RUNNING, IFF_UP, Interface, InterfaceTrouble

UP = IFF_UP | IFF_RUNNING | IFF_MULTICAST
ETH0 = Interface(2, "eth0", UP, ("192.0.2.7",))
ETH1 = Interface(3, "eth1", IFF_UP | IFF_MULTICAST, ())


class ReflectorTests(SynchronousTestCase):
    def ask(self, text: str, *present: Interface, snoop: bool = True) -> list[Result]:
        machine: Mapping[str, Interface] = {each.name: each for each in present}
        config = loads(text, Path("ice.toml")).config
        return list(reflector_use(config, look=lambda: machine, snoop=lambda: snoop, root=self.root))

    def setUp(self) -> None:
        self.root = Path(self.mktemp())

    def rules(self, count: int = 1, more: str = 'interface = "eth0"') -> str:
        return "".join(
            f'[[reflector.rules]]\nstream = "s{n}"\nrx = "239.1.{n // 250}.{n % 250 + 1}:5000"\n{more}\n'
            for n in range(count)
        )

    def test_nothing_to_say(self) -> None:
        """Without rules there is nothing to look at."""
        self.assertEqual(self.ask(""), [])
        self.assertEqual(self.ask(self.rules(more="enabled = false")), [])

    def test_interfaces(self) -> None:
        """Each interface that rules name is looked at once; one that is missing or down fails, with what to do."""
        text = (
            self.rules(2)
            + self.rules(1, 'interface = "eth1"').replace("s0", "t")
            + self.rules(1, 'interface = "eth9"').replace("s0", "u")
        )
        found = {result.subject: result.verdict for result in self.ask(text, ETH0, ETH1)}
        self.assertEqual(
            found,
            {"reflector eth0": Verdict.OK, "reflector eth1": Verdict.FAIL, "reflector eth9": Verdict.FAIL},
        )
        [none] = self.ask(self.rules(more=""), ETH0)
        self.assertEqual(none.verdict, Verdict.WARN)

    def test_limits_of_a_rallypoint(self) -> None:
        """More streams than a Rallypoint takes by default is a warning that names the settings."""
        results = self.ask(self.rules(300), ETH0)
        self.assertIn("rallypoint.limits.joins = 300", results[-1].remedy)
        self.assertIn("40 talkers", self.ask(self.rules(60), ETH0)[-1].found)

    def test_rights(self) -> None:
        """Snooping needs a right that is told of where it is missing."""
        text = "[reflector.snooping]\nenabled = true\n" + self.rules()
        self.assertEqual(self.ask(text, ETH0)[-1].verdict, Verdict.OK)
        self.assertIn("CAP_NET_RAW", self.ask(text, ETH0, snoop=False)[-1].found)

    def test_a_kernel_that_does_not_tell(self) -> None:
        """Is a warning, no error."""

        def look() -> Mapping[str, Interface]:
            raise InterfaceTrouble("netlink is not allowed here")

        config = loads(self.rules(), Path("ice.toml")).config
        [result] = reflector_use(config, look=look)
        self.assertEqual(result.verdict, Verdict.WARN)

    def test_room_in_the_kernel(self) -> None:
        """What a group's socket may hold is told in time, where it is less than we ask for."""
        core = self.root / "proc/sys/net/core"
        core.mkdir(parents=True)
        (core / "rmem_max").write_text("212992\n")
        self.assertIn(
            "554 datagrams of a group wait, 11 s of one talker", self.ask(self.rules(), ETH0)[-1].found
        )
        (core / "rmem_max").write_text("4194304\n")
        self.assertEqual(len(self.ask(self.rules(), ETH0)), 1)
