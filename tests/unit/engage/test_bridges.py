"""bridges.json and talk groups: patches, reflector rules, and keys that nobody sees."""

from pathlib import Path

from ice.config.load import loads
from ice.engage.account import Fate
from ice.engage.compose import compose
from ice.engage.kinds import Kind
from tests.unit.engage.case import Case, fixture, said, values


def group(id: str, **more: object) -> dict[str, object]:
    """A group on multicast alone."""
    return {
        "id": id,
        "rx": {"address": "239.1.1.1", "port": 5000},
        "tx": {"address": "239.1.1.1", "port": 5000},
        **more,
    }


class Bridges(Case):
    def setUp(self) -> None:
        self.file = fixture("bridges.json")
        self.draft = compose([self.file])

    def test_accounted(self) -> None:
        """Every key is accounted for, once."""
        self.assertAccounted(self.file)

    def test_patches(self) -> None:
        """Bridges become patches; of two that share a stream the later is off; one of a single group is none."""
        patches = loads(self.draft.toml, Path("/site/ice.toml")).config.patches
        self.assertEqual(
            [(patch.id, patch.streams, patch.enabled, patch.mode) for patch in patches],
            [
                ("tugs-pilots", ("7b6a5948-3726-4514-8302-f1e0d9c8b7a6", "pilots-trunk"), True, "relay"),
                ("drill", ("pilots-trunk", "drill"), False, "relay"),
                ("waiting", ("drill", "pilots-trunk"), False, "relay"),
            ],
        )
        self.assertEntry(self.file, "bridges[1].enabled", Fate.CHANGED, "tugs-pilots already")
        self.assertEntry(self.file, "bridges[3].groups", Fate.LEFT, "this one 1")

    def test_rules(self) -> None:
        """A group on multicast alone becomes a reflector rule; those with Rallypoints need none and name them."""
        config = loads(self.draft.toml, Path("/site/ice.toml")).config
        (rule,) = config.reflector.rules
        self.assertEqual(
            (rule.stream, str(rule.rx), str(rule.tx)),
            ("pilots-trunk", "239.192.41.2:22002", "239.192.41.3:22002"),
        )
        self.assertEqual((rule.interface, rule.ttl, rule.priority), ("ens20", 16, 3))
        self.assertEqual(
            list(map(str, config.network.rallypoints)),
            ["rp-east.harbour.example:7443", "rp-west.harbour.example:7443"],
        )

    def test_keys(self) -> None:
        """Keys of groups are refused, not told, and it is said where they belong."""
        self.assertEntry(self.file, "groups[0].cryptoPassword", Fate.LEFT, "refused for safety")
        self.assertNotIn("A0B1C2", self.draft.toml + str(self.file.account.entries) + repr(self.file))
        self.assertIn("cryptoPassword", "\n".join(self.file.account.steps))

    def test_notes(self) -> None:
        """Keys that begin with _ are kept as comments, unless they may be secret."""
        self.assertIn("# _wizardCreated: audio\n[[patches]]", self.draft.toml)
        bridge = {"id": "b", "groups": ["x", "y"], "_password": "tide", "_deep": {"a": [1]}}
        file = said([bridge])
        self.assertNotIn("tide", compose([file]).toml)
        self.assertEntry(file, "[0]._password", Fate.LEFT)
        self.assertAccounted(file)


BRIDGES = {"bridges": [{"id": "b", "groups": ["x", "y"]}]}


class Strangers(Case):
    def test_terminal(self) -> None:
        """Nothing that a terminal obeys comes through, and the value is what it was."""
        name = "a\u009b31mb\u202e\U000e0001"
        text = compose([said([{"id": "b", "name": name, "groups": ["x", "y"]}])]).toml
        self.assertTrue(all(c.isprintable() or c == "\n" for c in text))
        self.assertEqual(loads(text, Path("/site/ice.toml")).config.patches[0].name, name)


class Modes(Case):
    def mode(self, *files: object) -> object:
        (patch,) = values(compose([said(file) for file in files]), "patches")
        return patch.get("mode")

    def test_of_the_service(self) -> None:
        """raw, multistream and mixed are relay, transcode and mixed; relay is the default and left out."""
        for number, mode in ((0, None), (1, "transcode"), (2, "mixed"), (3, None)):
            service = {"mode": number, "bridgingConfigurationFileName": "b", "enginePolicy": {}}
            self.assertEqual(self.mode(BRIDGES, service), mode)
            self.assertEqual(self.mode(service, BRIDGES), mode)

    def test_of_a_bridge(self) -> None:
        """A bridge that names its mode itself is believed."""
        for word, mode in ((2, "mixed"), ("multistream", "transcode"), ("raw", None), ("loud", None)):
            self.assertEqual(self.mode([{"id": "b", "groups": ["x", "y"], "mode": word}]), mode)

    def test_of_a_group(self) -> None:
        """Without any of these the groups say it."""
        groups = [group("x", bridgeTargetOutputDetail={"mode": 1})]
        self.assertEqual(self.mode({**BRIDGES, "groups": groups}), "transcode")

    def test_service(self) -> None:
        """The configuration of a bridge service is accounted for, its policy too; no command, no password."""
        file = fixture("engagebridged_conf.json")
        self.assertIs(file.account.kind, Kind.BRIDGE_SERVICE)
        self.assertAccounted(file)
        self.assertEntry(file, "bridgingConfigurationFileCommand", Fate.LEFT, "refused for safety")
        self.assertEntry(file, "enginePolicy.networking.defaultNic", Fate.TAKEN, "multicast.interface")
        for secret in ("tide", "74696465"):
            self.assertNotIn(secret, compose([file]).toml + str(file.account))


class Groups(Case):
    def test_talkgroups(self) -> None:
        """What a radio gateway announces becomes rules, with the old name of txOptions."""
        file = fixture("talkgroups.json")
        self.assertAccounted(file)
        self.assertEqual(
            values(compose([file]), "reflector", "rules"),
            [{"stream": "c0ffee00-1111-4222-8333-444455556666", "rx": "239.192.43.1:24000", "ttl": 128}],
        )

    def test_unusable(self) -> None:
        """A group without an id or an address makes no rule, and says so at each of its keys."""
        for odd in (
            group(""),
            {"id": "x", "rx": {"address": "239.1.1.1"}},
            group("x", tx={"address": "radio", "port": 1}),
        ):
            file = said({"groups": [odd]})
            self.assertEqual(values(compose([file]), "reflector", "rules"), [])
            self.assertAccounted(file)
            self.assertTrue(any("no reflector rule" in entry.text for entry in file.account.entries))

    def test_two_of_one_place(self) -> None:
        """Two groups that would say everything twice: the later is taken back, with the reason of our own configuration."""
        file = said({"groups": [group("x"), group("X")]})
        self.assertEqual(len(values(compose([file]), "reflector", "rules")), 1)
        self.assertEntry(file, "groups[1].id", Fate.LEFT, "said twice")
