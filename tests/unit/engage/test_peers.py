"""Peering files: a group, or the file as it stands."""

from pathlib import Path

from ice.config.load import loads
from ice.engage.account import Fate
from ice.engage.compose import ImportTrouble, compose
from ice.rallypoint.peering import PeeringFile, plan_of, read_peering
from tests.unit.engage.case import DATA, Case, fixture, said, values

OURS = "0f6a1c52-93d4-4b0e-8d77-51c2a9e40b13"


class Peers(Case):
    def test_group(self) -> None:
        """The list becomes a group that makes the same links as the file does."""
        file = fixture("peers.json")
        text = compose([file]).toml
        (group,) = loads(text, Path("/site/ice.toml")).config.groups
        self.assertEqual(group.name, "peers")
        self.assertEqual(
            [(str(m.id)[:8], str(m.address), m.leaf, m.enabled) for m in group.members],
            [
                ("1d2c3b4a", "rp-east.harbour.example:7443", False, True),
                ("2e3d4c5b", "192.0.2.18:7444", True, True),
                ("3f4e5d6c", "rp-old.harbour.example:7443", False, False),
            ],
        )
        self.assertAccounted(file)

    def test_same_plan(self) -> None:
        """With the Rallypoint's own configuration beside it, its own entry is put in, and the plan is that of the file."""
        server = said({"id": OURS, "peeringConfigurationFileName": "/etc/rallypointd/peers.json"})
        draft = compose([server, fixture("peers.json")])
        self.assertNotIn("peering_file", draft.toml)
        self.assertEntry(server, "peeringConfigurationFileName", Fate.CHANGED, "[[groups]]")
        config = loads(draft.toml, Path("/site/ice.toml")).config
        own = next(m.id for m in config.groups[0].members if str(m.id) == OURS)
        listed = read_peering((DATA / "peers.json").read_text(), "peers.json")
        grouped, filed = plan_of(config.groups, own), plan_of((), own, listed)
        self.assertEqual(list(grouped.peers), list(filed.peers))
        self.assertEqual(
            [(p.address, p.leaf) for p in grouped.peers.values()],
            [(p.address, p.leaf) for p in filed.peers.values()],
        )
        self.assertEqual(plan_of((), own, PeeringFile("none")).peers, {})

    def test_leaf(self) -> None:
        """A Rallypoint that is a leaf says so at its own entry."""
        server = said({"id": OURS, "isMeshLeaf": True})
        (group,) = values(compose([server, fixture("peers.json")]), "groups")
        self.assertEqual(group["members"][0], {"id": OURS, "leaf": True})  # type: ignore[index]

    def test_as_it_stands(self) -> None:
        """On request the file is named instead, if a Rallypoint would read it."""
        text = compose([fixture("peers.json")], peers="file").toml
        self.assertIn("peering_file = ", text)
        self.assertNotIn("[[groups]]", text)
        with self.assertRaisesRegex(ImportTrouble, r"peers\[0\]\.id"):
            compose([said({"peers": [{"id": "no uuid"}]})], peers="file")

    def test_both_are_offered(self) -> None:
        """The report names the other way, and a missing own entry."""
        file = fixture("peers.json")
        compose([file])
        steps = "\n".join(file.account.steps)
        self.assertIn("--peers file peers.json", steps)
        self.assertIn("own entry", steps)

    def test_oddities(self) -> None:
        """Entries without a UUID, listed twice, or with odd addresses are told one by one; the others are taken."""
        file = said(
            [
                {"id": "x", "host": {"address": "a", "port": 1}},
                {"id": OURS, "host": {"address": "rp", "port": 99999}},
                {"id": OURS.upper(), "host": {"address": "rp2"}},
                7,
            ],
            source="/etc/mesh peers.json",
        )
        self.assertEqual(
            values(compose([file]), "groups"), [{"name": "mesh peers", "members": [{"id": OURS}]}]
        )
        self.assertAccounted(file)
        self.assertEntry(file, "[0].id", Fate.LEFT, "no UUID")
        self.assertEntry(file, "[2].id", Fate.LEFT, "listed before")
        self.assertEntry(file, "[1].host.port", Fate.LEFT, "99999")
