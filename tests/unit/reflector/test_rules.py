"""From the configuration to places and terms; what a person is reminded of; mistakes before anything is changed."""

import json
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.checks import Finding, Severity, check_site
from ice.config.load import loads
from ice.config.schema import Config
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.net.place import Place
from ice.reflector.rules import (
    Remark,
    by_stream,
    read_key,
    remarks_on,
    rules_of,
    translation_of,
    warnings_about,
)
from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.traffic import DEFAULT_SALT

GROUP = Address("239.192.7.1", 21_000)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def config(self, rules: str, begin: str = "") -> Config:
        return loads(f"{begin}\n{rules}", self.folder / "ice.toml").config

    def rule(self, more: str = "", rx: str = str(GROUP)) -> str:
        return f'[[reflector.rules]]\nstream = "hall"\nrx = "{rx}"\n{more}\n'

    def key(self, text: str, mode: int = 0o600) -> Path:
        path = self.folder / "hall.key"
        path.write_text(text)
        path.chmod(mode)
        return path

    def remarks(self, more: str, rx: str = str(GROUP)) -> list[Remark]:
        return list(remarks_on(self.config(self.rule(more, rx))))


class Places(Case):
    def test_the_usual(self) -> None:
        """One group both ways: one place, on the interface that is nearest to the rule."""
        begin = '[multicast]\ninterface = "eth9"\nloopback = false\n[reflector]\ninterface = "eth1"\n'
        [one, two] = rules_of(
            self.config(self.rule() + self.rule('interface = "eth2"\nttl = 4\npriority = 2'), begin)
        )
        self.assertEqual(one.places, (Place(GROUP, GROUP, "eth1", 1, 3, False),))
        self.assertEqual(two.places, (Place(GROUP, GROUP, "eth2", 4, 2, False),))
        self.assertNotEqual(one.terms, two.terms)
        self.assertEqual((one.terms.group, one.terms.hears, one.terms.speaks), (str(GROUP), True, True))

    def test_more_places(self) -> None:
        """tx and additional_tx: the first socket hears, the others talk only."""
        [rule] = rules_of(
            self.config(self.rule('tx = "239.1.1.1:5"\nadditional_tx = ["10.0.0.9:6"]\ndirection = "out"'))
        )
        self.assertEqual([str(place.tx) for place in rule.places], ["239.1.1.1:5", "10.0.0.9:6"])
        self.assertEqual((rule.terms.hears, rule.terms.speaks), (False, True))
        self.assertEqual(rule.terms.spoken, ("239.1.1.1:5", "10.0.0.9:6"))

    def test_sources(self) -> None:
        """Where only single addresses are allowed, the kernel joins from them alone; networks are the engine's."""
        cases = {
            'allow = ["10.0.0.1", "10.0.0.2"]': ("10.0.0.1", "10.0.0.2"),
            'allow = ["10.0.0.0/24"]': (),
            'allow = ["10.0.0.1", "2001:db8::1"]': (),
            'allow = ["10.0.0.1"]\ndirection = "out"': (),
        }
        for more, sources in cases.items():
            [rule] = rules_of(self.config(self.rule(more)))
            self.assertEqual(rule.places[0].sources, sources, more)

    def test_switched_off(self) -> None:
        """Rules that are off are no rules; numbers are those of the file; rules of a stream belong together."""
        text = self.rule("enabled = false") + self.rule(rx="239.1.1.2:5") + self.rule(rx="239.1.1.3:5")
        rules = rules_of(self.config(text))
        self.assertEqual([rule.number for rule in rules], [2, 3])
        self.assertEqual({stream: len(found) for stream, found in by_stream(rules).items()}, {"hall": 2})

    def engage(self, *reflectors: object) -> Config:
        document = {
            "id": "rp",
            "listenPort": 7443,
            "multicastTxOptions": {"priority": 3, "ttl": 8},
            "staticReflectors": reflectors,
        }
        (self.folder / "rallypointd_conf.json").write_text(json.dumps(document))
        return self.config(self.rule(), '[reflector]\nengage_file = "rallypointd_conf.json"')

    def test_from_engage(self) -> None:
        """The static reflectors of the original are rules that say the same, behind our own."""
        here, there = {"address": "239.1.1.1", "port": 5}, {"address": "239.1.1.2", "port": 6}
        config = self.engage(
            {
                "id": "{AB12}",
                "rx": here,
                "tx": there,
                "additionalTx": [{"address": "10.0.0.9", "port": 7}],
                "multicastInterfaceName": "eth3",
            },
            {"id": "cd34", "rx": there, "tx": there, "directionRestriction": 1},
        )
        [own, first, second] = rules_of(config)
        self.assertEqual((own.number, first.number, second.number), (1, 2, 3))
        self.assertEqual(first.stream, "ab12")
        self.assertEqual(
            first.places,
            (
                Place(Address("239.1.1.1", 5), Address("239.1.1.2", 6), "eth3", 8),
                Place(Address("10.0.0.9", 7), Address("10.0.0.9", 7), "eth3", 8),
            ),
        )
        self.assertEqual((second.terms.hears, second.terms.speaks), (True, False))

    def test_engage_mistakes(self) -> None:
        """A file that is missing, or a reflector that cannot be, is a mistake that names it."""
        self.assertRaises(LocalError, rules_of, self.config("", '[reflector]\nengage_file = "nowhere.json"'))
        config = self.engage(
            {"id": "x", "rx": {"address": "a-name", "port": 5}, "tx": {"address": "239.1.1.1", "port": 5}}
        )
        error = self.assertRaises(LocalError, rules_of, config)
        self.assertIn("rallypointd_conf.json: staticReflectors", str(error))
        [remark] = [each for each in remarks_on(config) if each.wrong]
        self.assertEqual((remark.index, remark.key), (-1, "engage_file"))
        twice = {
            "id": "hall",
            "rx": {"address": "239.192.7.1", "port": 21000},
            "tx": {"address": "239.192.7.1", "port": 21000},
        }
        self.assertRaises(LocalError, rules_of, self.engage(twice))


class Changes(Case):
    def test_two_streams_on_one_group(self) -> None:
        """Two streams tied to one group are one, which is said; not where neither hears what the other says there."""

        def found(one: str, other: str, begin: str = "") -> list[tuple[int, str]]:
            rules = self.rule(one) + self.rule(other).replace("hall", "yard")
            return [
                (each.index, each.key) for each in remarks_on(self.config(rules, begin)) if not each.wrong
            ]

        self.assertEqual(found("", ""), [(0, "rx"), (1, "rx")])
        self.assertEqual(found("", 'direction = "out"'), [(1, "rx")])
        self.assertEqual(found('direction = "in"', 'direction = "in"'), [])
        self.assertEqual(found("", 'interface = "eth1"'), [])
        self.assertEqual(found("", "enabled = false"), [])
        self.assertEqual(found("", "", "[multicast]\nloopback = false\n"), [])

    def test_nothing_by_default(self) -> None:
        """A plain rule changes nothing and has nothing to be reminded of."""
        [rule] = rules_of(self.config(self.rule()))
        self.assertIsNone(translation_of(rule.settings, DEFAULT_SALT))
        self.assertEqual(list(warnings_about(rule)), [])

    def test_each_is_told(self) -> None:
        """Every change is a remark with its key, and has its line."""
        key = self.key("0f" * 32)
        more = (
            'payload_types = ["97=111"]\nstrip_extensions = true\nradio_codec = "pcmu"\nstream_codec = "opus"\n'
            f'key_file = "{key.name}"'
        )
        remarks = self.remarks(more)
        self.assertEqual(
            [(remark.key, remark.wrong) for remark in remarks],
            [
                ("payload_types", False),
                ("strip_extensions", False),
                ("key_file", False),
                ("radio_codec", False),
                ("stream_codec", False),
            ],
        )
        [rule] = rules_of(self.config(self.rule(more)))
        change = translation_of(rule.settings, DEFAULT_SALT)
        assert change is not None
        self.assertTrue(change.sealed)
        self.assertTrue(
            all(text.startswith("rule 1 (239.192.7.1:21000 <-> hall): ") for text in warnings_about(rule))
        )

    def test_keys(self) -> None:
        """A key that is missing, or none, is a mistake that does not show it; one that others may read is a warning."""
        [missing] = [r for r in self.remarks('key_file = "nowhere.key"') if r.wrong]
        self.assertIn("No such file", missing.text)
        self.assertEqual(missing.key, "key_file")
        secret = "zz-this-is-secret"
        self.key(secret)
        [bad] = [r for r in self.remarks('key_file = "hall.key"') if r.wrong]
        self.assertIn("hexadecimal", bad.text)
        self.assertNotIn(secret, bad.text)
        path = self.key("0F" * 32 + "\n", 0o644)
        self.assertTrue(any("chmod 600" in r.text for r in self.remarks('key_file = "hall.key"')))
        self.assertEqual(
            read_key(path, "aes-256-gcm", DEFAULT_SALT), read_key(path, "aes-256-gcm", DEFAULT_SALT)
        )
        self.key("")
        self.assertRaises(LocalError, read_key, path, "aes-256-gcm", DEFAULT_SALT)

    def test_an_open_door(self) -> None:
        """A unicast place that hears anybody is worth a word."""
        [remark] = self.remarks('tx = "10.0.0.9:6000"', rx="10.0.0.1:6000")
        self.assertIn("name them in allow", remark.text)
        self.assertEqual(self.remarks('tx = "10.0.0.9:6000"\nallow = ["10.0.0.9"]', rx="10.0.0.1:6000"), [])

    def test_payload_types(self) -> None:
        """Two numbers of 0 to 127, each side's once."""
        for wrong in ('["97"]', '["128=1"]', '["1=2", "1=3"]', '["1=2", "3=2"]', '["a=b"]'):
            self.assertRaises(LocalError, self.config, self.rule(f"payload_types = {wrong}"))
        [rule] = rules_of(self.config(self.rule('payload_types = ["97 = 111", "0=8"]')))
        self.assertEqual(rule.settings.numbers, {97: 111, 0: 8})


class Checked(Case):
    """What ``ice check`` makes of it."""

    def findings(self, role: Role, text: str) -> list[Finding]:
        now = datetime.now(UTC)
        authority = Authority.create(self.folder / "pki", now)
        authority.issue("client", role, now)
        return check_site(loads(text, self.folder / "ice.toml"), now)

    def test_role(self) -> None:
        """Whoever has rules needs a satellite's certificate, and is told how to make one; nobody is asked for a Rallypoint's."""
        [finding] = self.findings(Role.CLIENT, self.rule())
        self.assertEqual(finding.severity, Severity.ERROR)
        self.assertIn("with the role satellite, found the role client", finding.message)
        self.assertIn("--role satellite", finding.remedy)

    def test_remarks(self) -> None:
        """Changes are warnings, mistakes errors, with file, line and key."""
        text = self.rule() + self.rule('strip_extensions = true\nkey_file = "none.key"', rx="239.1.1.2:5")
        found = [(f.severity, f.line, f.key) for f in self.findings(Role.SATELLITE, text)]
        self.assertEqual(
            found,
            [
                (Severity.ERROR, 9, "reflector.rules.key_file"),
                (Severity.WARNING, 8, "reflector.rules.strip_extensions"),
                (Severity.WARNING, 9, "reflector.rules.key_file"),
            ],
        )
