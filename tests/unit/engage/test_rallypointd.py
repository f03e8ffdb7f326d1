"""rallypointd_conf.json: what becomes of each key, and what must never become of some."""

import tomllib
from pathlib import Path

from ice.config.load import loads
from ice.engage.account import Fate
from ice.engage.compose import compose
from ice.engage.kinds import Kind
from tests.unit.engage.case import Case, entry, fixture, said, toml, values
from tests.unit.keys import private_key_pem

SECRETS = (
    "736d7567676c65722773",
    "halyard-and-mainsail",
    "HARBOUR-LICENCE-KEY",
    "harbour-token",
    "page-somebody",
    "harbour:tide",
)


class WholeFile(Case):
    def setUp(self) -> None:
        self.file = fixture("rallypointd_conf.json")
        self.draft = compose([self.file])

    def test_accounted(self) -> None:
        """Every key of a whole file is accounted for, once."""
        self.assertAccounted(self.file)

    def test_holds(self) -> None:
        """What comes out is a configuration, without a fault."""
        config = loads(self.draft.toml, Path("/site/ice.toml")).config
        self.assertEqual(str(config.rallypoint.listen[0]), "0.0.0.0:7443")
        self.assertEqual(str(config.rallypoint.health_check), "0.0.0.0:7445")
        self.assertEqual((config.rallypoint.limits.links, config.rallypoint.limits.streams), (512, 2000))
        self.assertEqual(config.rallypoint.limits.cpu_refuse_percent, 70)
        self.assertEqual(config.rallypoint.limits.cpu_delay_percent, 70)
        self.assertEqual(config.rallypoint.reports.refresh_s, 10.0)
        self.assertFalse(config.rallypoint.reports.enclosure)
        self.assertIsNone(config.rallypoint.reports.route_map_file)
        self.assertEqual(
            [(rule.at_or_above_ms, rule.action) for rule in config.rallypoint.mesh.round_trip],
            [(250, "warn"), (4000, "drop")],
        )
        self.assertEqual(config.reflector.interface, "ens19")

    def test_names_its_sources(self) -> None:
        """Each line tells where it came from, and keys that are so by default do not stand there."""
        self.assertIn("links = 512  # rallypointd_conf.json: limits.maxClients", self.draft.toml)
        self.assertNotIn('status_file = ""', self.draft.toml)
        same = compose([said({"listenPort": 7443, "limits": {"maxRegisteredStreams": 100_000}})])
        self.assertNotIn("streams", same.toml)

    def test_reflectors(self) -> None:
        """Static reflectors become rules; one that multicastRestrictions forbid is off, one without usable addresses is not taken."""
        rules = loads(self.draft.toml, Path("/site/ice.toml")).config.reflector.rules
        self.assertEqual(
            [(rule.stream, str(rule.rx), rule.direction, rule.ttl, rule.enabled) for rule in rules],
            [
                ("5c0a7d7e-2f11-4e0c-9a3b-7d1e6f2a9c01", "239.192.40.1:21000", "both", 8, True),
                ("pilots", "239.192.40.2:21002", "in", 8, True),
                ("forbidden", "239.192.66.6:21004", "out", 8, False),
            ],
        )
        self.assertIsNone(rules[0].tx)
        self.assertEqual(str(rules[1].tx), "239.192.40.3:21002")
        self.assertEqual(list(map(str, rules[1].additional_tx)), ["239.192.40.4:21002"])
        self.assertEqual(rules[1].interface, "ens20")
        self.assertEntry(self.file, "staticReflectors[3].id", Fate.LEFT, "cannot be taken over")
        self.assertEntry(self.file, "multicastTxOptions.priority", Fate.CHANGED, "4 is none of them")
        self.assertEntry(self.file, "multicastRestrictions", Fate.CHANGED, "1 of 3")

    def test_secrets(self) -> None:
        """No password, key or command is told, in no part of the answer."""
        everything = self.draft.toml + repr(self.file) + "\n".join(map(str, self.file.account.entries))
        everything += "\n".join(self.file.account.steps)
        for secret in SECRETS:
            self.assertNotIn(secret, everything)

    def test_references_and_commands(self) -> None:
        """@file, @certstore and commands are reported as refused."""
        for path in (
            "certificate.certificate",
            "certificate.key",
            "tls.caCertificates",
            "peeringConfigurationFileCommand",
            "certStorePasswordHex",
            "statusReport.runCmd",
            "peerRtBehaviors[2].runCmd",
        ):
            self.assertEntry(self.file, path, Fate.LEFT, "refused for safety")
        self.assertNotIn("peering_command", self.draft.toml)

    def test_steps(self) -> None:
        """What is left to do by hand is named with its commands."""
        steps = "\n".join(self.file.account.steps)
        for part in ("ice pki issue rallypoint", "ice pki revoke", "leaf = true", "ice-reflector"):
            self.assertIn(part, steps)


class Listening(Case):
    def listen(self, **more: object) -> object:
        return (
            tomllib.loads(toml([said({"staticReflectors": [], **more})])).get("rallypoint", {}).get("listen")
        )

    def test_where(self) -> None:
        """The original listens everywhere unless told otherwise, also where it says nothing about it."""
        self.assertEqual(self.listen(), ["0.0.0.0:7443"])
        self.assertEqual(self.listen(listenPort=7000), ["0.0.0.0:7000"])
        self.assertEqual(self.listen(ipFamily=6), ["[::]:7443"])
        self.assertEqual(self.listen(ipFamily=0, listenPort=1), ["[::]:1"])
        self.assertEqual(self.listen(interfaceName="192.0.2.9"), ["192.0.2.9:7443"])

    def test_never_wider(self) -> None:
        """An interface named by its name never becomes every address; only this machine, until its address is written there."""
        self.assertEqual(self.listen(interfaceName="eth1", listenPort=7000), ["127.0.0.1:7000"])
        self.assertIsNone(self.listen(interfaceName="eth1"))  # which is the default

    def test_mistakes(self) -> None:
        """What cannot be used is told with what was expected and what came."""
        file = said({"listenPort": "7443", "ipFamily": 5})
        self.assertEntry(file, "listenPort", Fate.LEFT, 'expected a whole number in 1–65535, found "7443"')
        self.assertEntry(file, "ipFamily", Fate.LEFT, "expected 0, 4 or 6")


class Settings(Case):
    def test_limits(self) -> None:
        """0 is no bound in the original, and here there is always one."""
        file = said({"listenPort": 7443, "limits": {"maxClients": 0, "maxPeers": 4}})
        self.assertNotIn("links", compose([file]).toml)
        self.assertEntry(file, "limits.maxClients", Fate.LEFT, "0 is no bound there")
        self.assertEntry(file, "limits.maxPeers", Fate.LEFT)

    def test_out_of_our_range(self) -> None:
        """A value that our schema refuses is taken back, and its entry says why."""
        file = said({"listenPort": 7443, "limits": {"maxClients": 5_000_000, "maxRegisteredStreams": 77}})
        text = compose([file]).toml
        self.assertIn("streams = 77", text)
        self.assertNotIn("links", text)
        self.assertEntry(file, "limits.maxClients", Fate.LEFT, "5000000 is not in 1–1000000")

    def test_peering_file(self) -> None:
        """The name of a peering file is taken, with its ${id}; a reference in its place is not."""
        text = toml([said({"id": "rp7", "peeringConfigurationFileName": "/etc/p_${id}.json"})])
        self.assertIn('peering_file = "/etc/p_rp7.json"', text)
        file = said({"peeringConfigurationFileName": "@/etc/shadow"})
        self.assertNotIn("shadow", toml([file]))
        self.assertEntry(file, "peeringConfigurationFileName", Fate.LEFT, "refused for safety")

    def test_file_names(self) -> None:
        """A relative name is said to be one, and a name of Windows is none here."""
        file = said({"peeringConfigurationFileName": "peers.json"})
        self.assertIn('peering_file = "peers.json"', toml([file]))
        self.assertEntry(file, "peeringConfigurationFileName", Fate.CHANGED, "folder of the configuration")
        for name in ("\\ProgramData\\peers.json", "C:/peers.json", "a\x07b", " "):
            file = said({"peeringConfigurationFileName": name})
            self.assertNotIn("peering_file", toml([file]), name)
            self.assertEntry(file, "peeringConfigurationFileName", Fate.LEFT)

    def test_weakened_security(self) -> None:
        """What would switch protection off is refused, what agrees with us is taken."""
        file = said(
            {
                "listenPort": 7443,
                "disableMessageSigning": True,
                "disableLoopDetection": False,
                "tls": {"verifyPeers": False, "allowSelfSignedCertificates": True},
            }
        )
        self.assertEntry(file, "disableMessageSigning", Fate.LEFT, "refused for safety")
        self.assertEntry(file, "disableLoopDetection", Fate.TAKEN)
        self.assertEntry(file, "tls.verifyPeers", Fate.LEFT, "refused for safety")
        self.assertEntry(file, "tls.allowSelfSignedCertificates", Fate.LEFT, "refused for safety")

    def test_key_one_level_too_high(self) -> None:
        """A private key in a place where none belongs is not shown either."""
        pem = private_key_pem()
        file = said({"listenPort": 7443, "certificate": pem, "tls": pem, "limits": [pem]})
        self.assertAccounted(file)
        self.assertNotIn("PRIVATE", "\n".join(map(str, file.account.entries)))

    def test_inline(self) -> None:
        """Certificates that stand in the file are offered for writing, and nothing of them is told."""
        pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        file = said(
            {"certificate": {"certificate": pem, "key": pem}, "tls": {"caCertificates": ["@x", pem]}},
            Kind.RALLYPOINT,
        )
        names = [(each.name, each.path) for each in file.account.inline]
        self.assertEqual(
            names,
            [
                ("rallypoint.pem", "certificate.certificate"),
                ("rallypoint.key", "certificate.key"),
                ("authority-2.pem", "caCertificates[1]"),
            ],
        )
        self.assertNotIn("MIIB", repr(file))
        self.assertEqual(file.account.inline[0].data, pem.encode())

    def test_round_trips(self) -> None:
        """A threshold of 0 ms becomes the least that a rule may have; what does nothing is left out."""
        file = said(
            {"peerRtBehaviors": [{"behavior": 1}, {"behavior": 3, "atOrAboveMs": 0}, {"behavior": 7}]}
        )
        self.assertEqual(
            values(compose([file]), "rallypoint", "mesh", "round_trip"),
            [{"at_or_above_ms": 1, "action": "error"}],
        )
        self.assertEntry(file, "peerRtBehaviors[2].behavior", Fate.LEFT, "expected 0, 1, 2, 3 or 99")

    def test_report_switched_off(self) -> None:
        """The file of a report that is off is told and not taken."""
        file = said({"linkGraph": {"enabled": False, "fileName": "/tmp/x.dot", "minRefreshSecs": 1}})
        self.assertNotIn("x.dot", compose([file]).toml.split("[rallypoint.reports]")[-1])
        self.assertEntry(file, "linkGraph.fileName", Fate.LEFT, "link_graph_file")

    def test_unknown(self) -> None:
        """A key that nobody knows is reported by its place, and its value is not told."""
        file = said({"listenPort": 7443, "newPassword": "hunter2", "_note": "mine"})
        self.assertEqual(entry(file, "newPassword").why, "unknown here")
        self.assertNotIn("hunter2", str(file.account.entries))
        self.assertEntry(file, "_note", Fate.LEFT, "does not apply")
