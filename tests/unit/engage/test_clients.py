"""Policies, missions, lists of Rallypoints, identities and options: what a client's machine takes from them."""

import tomllib

from ice.engage.account import Fate
from ice.engage.compose import ImportTrouble, compose
from tests.unit.engage.case import Case, fixture, said, toml


class Policy(Case):
    def test_settings(self) -> None:
        """What an administrator decided is taken over, what is about the engine is told."""
        file = fixture("policy.json")
        self.assertEqual(
            tomllib.loads(toml([file])),
            {
                "network": {"strategy": "round-robin", "rollover_s": 7.0, "back_off_max_s": 8.0},
                "media": {"max_talk_s": 45.0, "jitter_min_ms": 60, "end_of_burst_ms": 700},
                "multicast": {"interface": "ens19", "rejoin_s": 5.0},
            },
        )
        self.assertAccounted(file)
        for secret in ("HARBOUR-LICENCE-KEY", "HARBOUR-ACTIVATION"):
            self.assertNotIn(secret, str(file.account))

    def test_clashes_with_a_default(self) -> None:
        """A value that cannot stand beside our defaults is taken back."""
        file = said({"networking": {"rtpJitterMinMs": 9000}})
        self.assertNotIn("9000", toml([file]))
        self.assertEntry(file, "networking.rtpJitterMinMs", Fate.LEFT, "9000")


class Mission(Case):
    def test_stays(self) -> None:
        """A mission stays a mission; its Rallypoints and how they are chosen are taken over, and commands for it named."""
        file = fixture("mission.json")
        self.assertEqual(
            tomllib.loads(toml([file])),
            {
                "network": {
                    "rallypoints": ["rp-east.harbour.example:7443", "rp-west.harbour.example:7443"],
                    "strategy": "round-robin",
                    "connect_timeout_s": 3.0,
                }
            },
        )
        self.assertAccounted(file)
        self.assertIn("ice mission show mission.json", file.account.steps[0])
        self.assertNotIn("00112233", str(file.account))
        self.assertEntry(file, "groups[0].rallypoints[1].caCertificates", Fate.LEFT, "not followed")

    def test_application(self) -> None:
        """The Rallypoint that an application put at the top is taken, unless it is switched off."""
        mission = {"id": "m", "name": "M", "groups": []}
        on = said({**mission, "rallypoint": {"use": True, "address": "rp", "port": 1}})
        self.assertIn('["rp:1"]', toml([on]))
        off = said({**mission, "rallypoint": {"use": False, "address": "rp", "port": 1}})
        self.assertNotIn("rp:1", toml([off]))
        self.assertAccounted(off)


class Others(Case):
    def test_rallypoints(self) -> None:
        """A list of Rallypoints becomes network.rallypoints, in its order, names in small letters, with the usual port."""
        file = fixture("rallypoints.json")
        self.assertEqual(
            tomllib.loads(toml([file])),
            {"network": {"rallypoints": ["rp-east.harbour.example:7443", "[2001:db8::7]:7443"]}},
        )
        self.assertEntry(file, "[1].verifyPeer", Fate.LEFT, "refused for safety")
        self.assertAccounted(file)

    def test_several_lists(self) -> None:
        """Rallypoints of several files are put together, each once."""
        text = toml([fixture("rallypoints.json"), fixture("mission.json"), fixture("options.json")])
        self.assertEqual(
            tomllib.loads(text)["network"]["rallypoints"],
            [
                "rp-east.harbour.example:7443",
                "[2001:db8::7]:7443",
                "rp-west.harbour.example:7443",
                "192.0.2.77:7443",
            ],
        )

    def test_too_many(self) -> None:
        """The first 64 Rallypoints are taken, and the others told."""
        file = said([{"host": {"address": f"rp{n}"}} for n in range(66)])
        self.assertEqual(len(tomllib.loads(toml([file]))["network"]["rallypoints"]), 64)
        self.assertEntry(file, "[64].host.address", Fate.LEFT, "64 Rallypoints already")
        self.assertAccounted(file)

    def test_identity(self) -> None:
        """A display name becomes the alias, if it is short enough."""
        self.assertEqual(toml([fixture("identity.json")]).split("  #")[0], '[identity]\nalias = "First mate"')
        long = said({"displayName": "A name of more than sixteen bytes"})
        self.assertEntry(long, "displayName", Fate.LEFT, "16 bytes")

    def test_first_counts(self) -> None:
        """Where two files say the same key otherwise, the first counts and the other's report says so."""
        one, two = said({"networking": {"defaultNic": "a"}}), said({"networking": {"defaultNic": "b"}})
        self.assertIn('interface = "a"', toml([one, two]))
        self.assertEntry(two, "networking.defaultNic", Fate.LEFT, "given elsewhere")

    def test_two_rallypoints(self) -> None:
        """Two Rallypoints' configurations are not one machine's."""
        with self.assertRaisesRegex(ImportTrouble, "two Rallypoints"):
            compose([said({"listenPort": 1}), said({"listenPort": 2})])
