"""Groups of Rallypoints and [rallypoint.mesh]: what may be written, every mistake with its line, and what is warned about."""

from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.config.changes import changes
from ice.config.groups import MeshSettings, RoundTripRule
from ice.config.load import ConfigError, loads
from ice.config.render import as_plain, as_toml
from ice.net.addresses import Address
from ice.rallypoint.peering import Expected, Plan, plan_of

FILE = Path("/site/ice.toml")
A, B, C = (UUID(f"{n:08x}-0000-4000-8000-000000000000") for n in (1, 2, 3))

TOWN = f"""\
[[groups]]
name = "town"
cost = 20
virtual = ["Voice.example.org:7443"]
members = [
  {{ id = "{A}", address = "rp1.example.org:7443" }},
  {{ id = "{{{str(B).upper()}}}", address = "[2001:db8::2]:7443", leaf = true, cost = 5 }},
  {{ id = "{C}", enabled = false }},
]
"""


def wrong(text: str) -> list[tuple[int, str, str]]:
    """What is wrong with `text`: line, key and message of each problem."""
    try:
        loads(text, FILE)
    except ConfigError as error:
        return [(problem.line, problem.key, problem.message) for problem in error.problems]
    return []


def warned(text: str) -> list[tuple[int, str, str]]:
    """What is warned about: line, key and message."""
    return [(warning.line, warning.key, warning.message) for warning in loads(text, FILE).warnings]


def members(*lines: str, name: str = "town") -> str:
    """A group of these; the first stands on line 4 of the table."""
    return (
        f'[[groups]]\nname = "{name}"\nmembers = [\n'
        + "".join(f"  {{ {each} }},\n" for each in lines)
        + "]\n"
    )


class Groups(SynchronousTestCase):
    def test_values(self) -> None:
        """Ids, addresses and defaults arrive typed."""
        (group,) = loads(TOWN, FILE).config.groups
        self.assertEqual((group.name, group.cost), ("town", 20))
        self.assertEqual(group.virtual, (Address("voice.example.org", 7443),))
        self.assertEqual(
            [(m.id, m.address, m.leaf, m.enabled, m.cost) for m in group.members],
            [
                (A, Address("rp1.example.org", 7443), False, True, 0),
                (B, Address("2001:db8::2", 7443), True, True, 5),
                (C, None, False, False, 0),
            ],
        )
        self.assertEqual(loads(TOWN, FILE).warnings, ())

    def test_as_tables(self) -> None:
        """Members may be written as tables of their own."""
        text = f'[[groups]]\nname = "x"\n[[groups.members]]\nid = "{A}"\naddress = ""\n[[groups.members]]\nid = "{B}"\n'
        (group,) = loads(text, FILE).config.groups
        self.assertEqual([(m.id, m.address) for m in group.members], [(A, None), (B, None)])

    def test_none(self) -> None:
        """Without groups there is no mesh, and nothing to say."""
        loaded = loads("", FILE)
        self.assertEqual((loaded.config.groups, loaded.warnings), ((), ()))
        self.assertEqual(plan_of(loaded.config.groups, A), Plan())

    def test_plan(self) -> None:
        """A Rallypoint makes its plan of the groups as they are read."""
        plan = plan_of(loads(TOWN, FILE).config.groups, A)
        self.assertEqual(plan.peers, {B: Expected(B, Address("2001:db8::2", 7443), 5, leaf=True)})
        self.assertEqual(
            plan.alternatives, (Address("voice.example.org", 7443), Address("2001:db8::2", 7443))
        )

    def test_shown(self) -> None:
        """What ice check --print shows reads back as it is, and plain values are text."""
        config = loads(TOWN + "[rallypoint.mesh]\nround_trip = []\n", FILE).config
        shown = as_toml(config)
        self.assertEqual(loads(shown, FILE).config, config)
        self.assertIn("[[groups.members]]", shown)
        self.assertEqual(as_plain(config)["groups"][0]["members"][1]["id"], str(B))

    def test_reload(self) -> None:
        """A change of any member is a change of groups, and a reload applies it."""
        before, after = loads(TOWN, FILE).config, loads(TOWN.replace("cost = 5", "cost = 6"), FILE).config
        self.assertEqual(changes(before, after).live, ("groups",))


class Mistakes(SynchronousTestCase):
    def check(self, text: str, *expected: tuple[int, str, str]) -> None:
        self.assertEqual(wrong(text), list(expected))

    def test_ids(self) -> None:
        """What is no UUID is told on its line."""
        self.check(
            members(f'id = "{A}"', 'id = "rp2"', "id = 7", "leaf = true"),
            (
                5,
                "groups.members.id",
                'expected the UUID of a Rallypoint\'s certificate (ice pki show FILE), found "rp2"',
            ),
            (6, "groups.members.id", "expected the UUID of a Rallypoint's certificate, in quotes"),
            (7, "groups.members.id", "this key must be given"),
        )

    def test_twice(self) -> None:
        """One id twice in a group, however written, is told where it stands again."""
        self.check(
            members(f'id = "{A}"', f'id = "{B}"', f'id = "{{{str(A).upper()}}}"'),
            (6, "groups.members", f"{A} is a member already"),
        )

    def test_names(self) -> None:
        """Groups have names of their own."""
        one = members(f'id = "{A}"')
        self.check(one + one, (6, "groups", 'a group is named "town" already; each has a name of its own'))
        self.check(f'[[groups]]\nmembers = [{{ id = "{A}" }}]', (1, "groups.name", "this key must be given"))
        self.check(members(f'id = "{A}"', name=""), (2, "groups.name", "must not be empty"))

    def test_members(self) -> None:
        """A group has members."""
        self.check('[[groups]]\nname = "x"', (1, "groups.members", "this key must be given"))
        self.check('[[groups]]\nname = "x"\nmembers = []', (3, "groups.members", "at least 1 must be listed"))
        self.check("[groups]\nname = 'x'", (1, "groups", "expected a list in [ ], found a table"))

    def test_costs_and_addresses(self) -> None:
        """Numbers out of their range and addresses that are none."""
        self.check(
            members(
                f'id = "{A}", cost = 65536',
                f'id = "{B}", address = "rp2"',
                f'id = "{C}", address = "0.0.0.0:1"',
            )
            + "cost = 0\nvirtual = ['x']",
            (4, "groups.members.cost", "65536 is not in 0–65535"),
            (5, "groups.members.address", 'a port is missing: write "rp2:7443"'),
            (
                6,
                "groups.members.address",
                "0.0.0.0:1 is no place to dial: write the name or address by which others reach it",
            ),
            (8, "groups.cost", "0 is not in 1–65535"),
            (9, "groups.virtual", 'a port is missing: write "x:7443"'),
        )

    def test_unknown_keys(self) -> None:
        """A key that is none names the one that was probably meant."""
        self.check(
            members(f'id = "{A}", leafs = true'),
            (4, "groups.members.leafs", "unknown key; did you mean 'leaf'?"),
        )
        self.check("[[group]]\nname = 'x'", (1, "group", "unknown key; did you mean 'groups'?"))


class Cautions(SynchronousTestCase):
    def test_itself_alone(self) -> None:
        """A group of one is in order."""
        self.assertEqual(warned(members(f'id = "{A}", address = "rp1:7443"')), [])

    def test_leaves_only(self) -> None:
        """A group of leaves links nobody."""
        text = members(f'id = "{A}", leaf = true', f'id = "{B}", leaf = true', f'id = "{C}", enabled = false')
        ((line, key, message),) = warned(text)
        self.assertEqual((line, key), (3, "groups.members"))
        self.assertIn("every member is a leaf", message)

    def test_contradictions(self) -> None:
        """Two groups that say different things of one Rallypoint, and two Rallypoints at one address."""
        text = members(f'id = "{A}", address = "a:1", leaf = true', f'id = "{B}"') + members(
            f'id = "{A}", address = "a:2"',
            f'id = "{B}", address = "a:1"',
            f'id = "{C}", address = "a:1", enabled = false',
            name="x",
        )
        self.assertEqual(
            warned(text),
            [
                (
                    10,
                    "groups.members.leaf",
                    f"{A} is a leaf in one group and not in another: it is one in all",
                ),
                (10, "groups.members.address", f"{A} is at a:1 in another group: it is dialled there"),
                (
                    11,
                    "groups.members.address",
                    f"a:1 is the address of {A} too: dialling it leads to one of them",
                ),
            ],
        )


class Mesh(SynchronousTestCase):
    def check(self, text: str, *expected: tuple[int, str, str]) -> None:
        self.assertEqual(wrong("[rallypoint.mesh]\n" + text), list(expected))

    def test_defaults(self) -> None:
        """No list, and a warning from 300 ms on."""
        mesh = loads("", FILE).config.rallypoint.mesh
        self.assertEqual(mesh, MeshSettings())
        self.assertEqual((mesh.peering_file, mesh.peering_command), (None, ()))
        self.assertEqual(mesh.round_trip, (RoundTripRule(at_or_above_ms=300, action="warn"),))

    def test_values(self) -> None:
        """Files stand beside the configuration; rules are tables."""
        text = (
            '[rallypoint.mesh]\npeering_file = "peers.json"\npeering_reread_s = 5\n'
            '[[rallypoint.mesh.round_trip]]\nat_or_above_ms = 900\naction = "drop"\n'
        )
        mesh = loads(text, FILE).config.rallypoint.mesh
        self.assertEqual((mesh.peering_file, mesh.peering_reread_s), (Path("/site/peers.json"), 5.0))
        self.assertEqual(mesh.round_trip, (RoundTripRule(at_or_above_ms=900, action="drop"),))
        self.assertEqual(loads('[rallypoint.mesh]\npeering_file = ""', FILE).config, loads("", FILE).config)

    def test_command(self) -> None:
        """A program has its full name, and is not given beside a file."""
        self.check(
            'peering_command = ["our-peers", "-x"]',
            (
                2,
                "rallypoint.mesh.peering_command",
                'expected the full name of a program, like "/usr/local/bin/our-peers", found "our-peers"',
            ),
        )
        self.check(
            'peering_file = "x"\npeering_command = ["/bin/x"]',
            (3, "rallypoint.mesh.peering_command", "peering_file is given too; name one of the two"),
        )
        self.check(
            "peering_command = '/bin/x'",
            (2, "rallypoint.mesh.peering_command", 'expected a list in [ ], found "/bin/x"'),
        )

    def test_rules(self) -> None:
        """Thresholds differ, actions are known."""
        self.check(
            'round_trip = [{ at_or_above_ms = 5 },\n{ at_or_above_ms = 5, action = "info" }]',
            (3, "rallypoint.mesh.round_trip", "two rules begin at 5 ms"),
        )
        self.check(
            'round_trip = [{ action = "stop" }]',
            (2, "rallypoint.mesh.round_trip.action", 'expected info, warn, error or drop, found "stop"'),
        )

    def test_ranges(self) -> None:
        """Times are bounded."""
        self.check(
            "peering_reread_s = 0.5\nspread_s = -1",
            (2, "rallypoint.mesh.peering_reread_s", "0.5 is not in 1–86400"),
            (3, "rallypoint.mesh.spread_s", "-1 is not in 0–300"),
        )
