"""[[server_groups]]: what may be written, what the election makes of it, and every mistake."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import ConfigError, loads
from ice.config.render import as_toml
from ice.election.rules import Quorum
from ice.errors import LocalError
from ice.net.addresses import Address

FILE = Path("/site/ice.toml")
HEAD = '[[server_groups]]\nid = "{6D0F4A52-93A1-4F0E-8A55-0C54B6AD8B11}"\nname = "north"\n'
ONE = '[[server_groups.members]]\nid = "1d3a7c52-8f61-4b0e-9c27-5e4f6a8b9c0d"\nname = "ref1"\n'
TWO = '[[server_groups.members]]\nid = "2d3a7c52-8f61-4b0e-9c27-5e4f6a8b9c0d"\nenabled = false\n'


class ServerGroups(SynchronousTestCase):
    def message(self, text: str) -> str:
        error = self.assertRaises(ConfigError, loads, text, FILE)
        (problem,) = error.problems
        return problem.message

    def test_values(self) -> None:
        """A group needs an id and members; the rest suits three reflectors on a site's Rallypoints."""
        (group,) = loads(HEAD + ONE + TWO, FILE).config.server_groups
        self.assertEqual(
            (group.quorum, group.exclusive, group.cycle_s, group.rallypoint), ("majority", True, 10.0, True)
        )
        self.assertEqual(
            (group.interface, group.multicast, group.ttl), ("", Address("239.255.74.43", 7445), 8)
        )
        self.assertEqual(group.salt_file, Path("/site/election.salt"))

    def test_rules(self) -> None:
        """The election knows the group by small letters, its members in their order, and the salts of its files."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "old").write_text("ab" * 32 + "\n")
        (folder / "new").write_text("CD" * 16)
        head = HEAD + 'quorum = "n-1"\ncycle_s = 0.1\nsalt_file = "old"\nnext_salt_file = "new"\n'
        (group,) = loads(head + ONE + TWO, folder / "ice.toml").config.server_groups
        rules = group.rules()
        self.assertEqual(rules.id, "6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11")
        self.assertEqual(
            [(each.id[0], each.name, each.enabled) for each in rules.members],
            [("1", "ref1", True), ("2", "", False)],
        )
        self.assertEqual((rules.quorum, rules.cycle_s), (Quorum.N_MINUS_1, 0.1))
        self.assertEqual(rules.salts, (b"\xab" * 32, b"\xcd" * 16))

    def test_salts(self) -> None:
        """A salt file that is not there, or holds none, is named; what stands in it is not said."""
        path = Path(self.mktemp()).resolve()
        (group,) = loads(HEAD + f'salt_file = "{path}"\n' + ONE, FILE).config.server_groups
        self.assertIn("cannot be read", str(self.assertRaises(LocalError, group.rules)))
        for text in ("", "secret", "ab" * 15, "ab" * 65, "ab" * 5_000):
            path.write_text(text)
            error = str(self.assertRaises(LocalError, group.rules))
            self.assertIn("openssl rand -hex 32", error)
            self.assertNotIn("secret", error)

    def test_round_trip(self) -> None:
        """What is shown loads to the same values."""
        config = loads(HEAD + 'interface = "eth0"\n' + ONE + TWO, FILE).config
        self.assertEqual(loads(as_toml(config), FILE).config, config)

    def test_mistakes(self) -> None:
        """Every mistake is a sentence."""
        self.assertIn("must be given", self.message(HEAD))
        self.assertIn("member already", self.message(HEAD + ONE + ONE))
        self.assertIn("no way", self.message(HEAD + "rallypoint = false\n" + ONE))
        self.assertIn("no multicast group", self.message(HEAD + 'multicast = "192.0.2.1:7445"\n' + ONE))
        self.assertIn("id of its own", self.message(HEAD + ONE + HEAD + ONE))
        other = HEAD.replace("6D0F", "7D0F")
        eth0 = 'interface = "eth0"\n'
        self.assertIn("uses 239.255.74.43:7445 on eth0", self.message(HEAD + eth0 + ONE + other + eth0 + ONE))
        self.assertTrue(self.message(HEAD + "cycle_s = 0.05\n" + ONE))
