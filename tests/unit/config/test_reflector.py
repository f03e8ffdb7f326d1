"""[reflector] and [[patches]]: what may be written, and every mistake with its line and what to do."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import ConfigError, loads
from ice.config.render import as_toml
from ice.net.addresses import Address

FILE = Path("/site/ice.toml")
RULE = '[[reflector.rules]]\nstream = "red"\nrx = "239.1.1.1:5000"\n'
PATCH = '[[patches]]\nid = "p"\nstreams = ["red", "blue"]\n'


def wrong(text: str) -> list[tuple[int, str, str]]:
    """What is wrong with `text`: line, key and message of each problem."""
    try:
        loads(text, FILE)
    except ConfigError as error:
        return [(problem.line, problem.key, problem.message) for problem in error.problems]
    return []


class Rules(SynchronousTestCase):
    def message(self, text: str) -> str:
        (problem,) = wrong(text)
        return problem[2]

    def test_values(self) -> None:
        """A rule needs a stream and a place; the rest has defaults that suit one LAN."""
        (rule,) = loads(RULE, FILE).config.reflector.rules
        self.assertEqual((rule.stream, rule.rx, rule.tx), ("red", Address("239.1.1.1", 5000), None))
        self.assertEqual((rule.direction, rule.ttl, rule.priority, rule.enabled), ("both", 1, 3, True))
        self.assertTrue(rule.hears)
        self.assertEqual(rule.destinations, (rule.rx,))

    def test_one_way(self) -> None:
        """A rule of one direction hears or sends, and one that is off does neither."""
        (only_in,) = loads(RULE + 'direction = "in"\n', FILE).config.reflector.rules
        self.assertEqual((only_in.hears, only_in.destinations), (True, ()))
        (only_out,) = loads(
            RULE + 'direction = "out"\nadditional_tx = ["239.1.1.9:1"]\n', FILE
        ).config.reflector.rules
        self.assertEqual((only_out.hears, len(only_out.destinations)), (False, 2))
        (off,) = loads(RULE + "enabled = false\n", FILE).config.reflector.rules
        self.assertEqual((off.hears, off.destinations), (False, ()))

    def test_round_trip(self) -> None:
        """What is shown loads to the same values."""
        config = loads(RULE + 'tx = "[ff15::7]:5000"\nallow = ["192.0.2.0/24"]\n' + PATCH, FILE).config
        self.assertEqual(loads(as_toml(config), FILE).config, config)

    def test_mistakes(self) -> None:
        """Every mistake is a sentence."""
        self.assertEqual(wrong("[[reflector.rules]]\nrx = '239.1.1.1:1'\n")[0][2], "this key must be given")
        self.assertIn("in numbers, found the name radio", self.message(RULE.replace("239.1.1.1", "radio")))
        self.assertIn("no place to send to", self.message(RULE + 'tx = "0.0.0.0:5000"\n'))
        self.assertIn("for satellites", self.message(RULE.replace('"red"', '"__x"')))
        self.assertIn("already", self.message(RULE + 'additional_tx = ["239.1.1.1:5000"]\n'))
        self.assertIn(
            "expected both, in or out",
            self.message(RULE.replace("red", "x") + 'direction = "rx"\n').replace("'", ""),
        )
        self.assertIn("0–255", self.message(RULE + "ttl = 256\n"))
        self.assertIn("0–3", self.message(RULE + "priority = 4\n"))
        self.assertIn("network or an address", self.message(RULE + 'allow = ["eth0"]\n'))
        self.assertIn("network interface", self.message(RULE + 'interface = "a/b"\n'))

    def test_unicast(self) -> None:
        """Where rx is an address of this machine, there must be a place to send to, unless nothing is sent."""
        text = RULE.replace("239.1.1.1", "192.0.2.1")
        self.assertIn("give tx", self.message(text))
        self.assertEqual(wrong(text + 'tx = "192.0.2.9:5000"\n'), [])
        self.assertEqual(wrong(text + 'direction = "in"\n'), [])

    def test_said_twice(self) -> None:
        """Two enabled rules that hear or send the same twice are refused, at the second."""
        ((line, key, message),) = wrong(RULE + RULE)
        self.assertEqual((line, key), (4, "reflector.rules"))
        self.assertIn("rule 1 hears 239.1.1.1:5000", message)
        self.assertIn("sends", self.message(RULE + RULE.replace("5000", "5002") + 'tx = "239.1.1.1:5000"\n'))
        self.assertEqual(wrong(RULE + RULE + "enabled = false\n"), [])
        self.assertEqual(wrong(RULE + 'direction = "in"\n' + RULE + 'direction = "out"\n'), [])
        self.assertEqual(wrong(RULE + RULE + 'interface = "eth1"\n'), [])
        self.assertEqual(wrong(RULE + RULE.replace("red", "blue")), [])

    def test_one_file_each(self) -> None:
        """Two rules do not write one capture, nor one the older half of another."""
        one, other = (RULE + f'capture_file = "{name}"\n' for name in ("red.pcap", "red.pcap.old"))
        other = other.replace('"red"', '"blue"')
        self.assertIn("red.pcap.old already: a capture needs files", self.message(one + other))
        self.assertEqual(wrong(one + other.replace("red.pcap", "blue.pcap")), [])
        self.assertIn("capture_bytes", wrong(RULE + "capture_bytes = 1000\n")[0][1])


class Patches(SynchronousTestCase):
    def test_values(self) -> None:
        """A patch needs an id and its streams."""
        (patch,) = loads(PATCH, FILE).config.patches
        self.assertEqual(
            (patch.id, patch.streams, patch.mode, patch.enabled), ("p", ("red", "blue"), "relay", True)
        )

    def test_sizes(self) -> None:
        """A patch has 2 to 128 streams, each once."""
        self.assertIn("at least 2", wrong(PATCH.replace(', "blue"', ""))[0][2])
        many = ", ".join(f'"{n}"' for n in range(129))
        self.assertIn("at most 128", wrong(PATCH.replace('"red", "blue"', many))[0][2])
        self.assertIn("blue is listed twice", wrong(PATCH.replace('"red"', '"blue"'))[0][2])
        self.assertIn("must not be empty", wrong(PATCH.replace('"p"', '""'))[0][2])

    def test_two_enabled(self) -> None:
        """A stream in two enabled patches is refused, and both are named; one of them may wait."""
        other = PATCH.replace('"p"', '"q"').replace("red", "green")
        ((line, key, message),) = wrong(PATCH + other)
        self.assertEqual((line, key), (4, "patches"))
        self.assertIn('"blue" is in two enabled patches, "p" and "q"', message)
        self.assertEqual(wrong(PATCH + other + "enabled = false\n"), [])
        self.assertIn('the id "p" already', wrong(PATCH + PATCH)[0][2])
