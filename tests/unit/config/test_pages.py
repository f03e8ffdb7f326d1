"""The shipped file, the reference page and the examples say what the schema says."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from twisted.trial.unittest import SynchronousTestCase

from ice.config.groups import GroupSettings, MemberSettings
from ice.config.load import Loaded, load, loads
from ice.config.problems import is_array, tables
from ice.config.reference import page, template
from ice.config.schema import AccessRule, Config
from ice.net.addresses import Address

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "etc/ice.toml"
SWITCHED_OFF = re.compile(r"^#(?=\[\[|[a-z_]+ = )", re.MULTILINE)


def defaults() -> Config:
    """The defaults as an empty file beside the shipped one gives them."""
    return loads("", SHIPPED).config


def keys(value: dict[str, Any], path: str = "") -> set[str]:
    """The dotted names of all keys and tables in a parsed file."""
    found: set[str] = set()
    for name, inner in value.items():
        found.add(path + name)
        for table in inner if isinstance(inner, list) else [inner]:
            if isinstance(table, dict):
                found |= keys(table, f"{path}{name}.")
    return found


def schema_keys() -> set[str]:
    """The dotted names of all keys and tables of the schema."""
    return {
        ".".join([*map(str, path), name]) for path, model in tables(Config) for name in model.model_fields
    }


class Shipped(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = SHIPPED.read_text("utf-8")
        self.switched_on = SWITCHED_OFF.sub("", self.text)

    def test_sets_nothing(self) -> None:
        """As shipped, the file gives exactly the defaults, and nothing to warn about."""
        loaded = load(SHIPPED)
        self.assertEqual(loaded.config, defaults())
        self.assertEqual(loaded.warnings, ())

    def test_tells_the_defaults(self) -> None:
        """With every key switched on it gives exactly the defaults; lists of tables have one, with its own defaults or an example."""
        config = loads(self.switched_on, SHIPPED).config
        self.assertEqual(config.rallypoint.access, (AccessRule(),))
        (group,) = config.groups
        (member,) = group.members
        self.assertEqual(group, GroupSettings(name="town", members=(member,)))
        self.assertEqual(member, MemberSettings(id=member.id, address=Address("rp1.example.org", 7443)))
        without: dict[str, Any] = {"rallypoint": config.rallypoint.model_copy(update={"access": ()})}
        without["reflector"] = config.reflector.model_copy(update={"rules": ()})
        numbers = config.gateway.numbers.model_copy(update={"rules": (), "users": ()})
        gateway: dict[str, Any] = {"trunks": (), "dial_in": (), "numbers": numbers}
        without["gateway"] = config.gateway.model_copy(update=gateway)
        without |= {name: () for name, field in Config.model_fields.items() if is_array(field.annotation)}
        self.assertEqual(config.model_copy(update=without), defaults())

    def test_every_key(self) -> None:
        """Every key and table of the schema stands in it, and nothing else."""
        self.assertEqual(keys(tomllib.loads(self.switched_on)), schema_keys())

    def test_every_key_is_explained(self) -> None:
        """Above every key stands one line of explanation."""
        lines = self.text.split("\n")
        for above, line in pairwise(lines):
            if SWITCHED_OFF.match(line) or line.startswith("["):
                self.assertRegex(above, r"^# \S.{15,}", line)

    def test_current(self) -> None:
        """The committed file is what the schema gives: python -m ice.config.reference --toml > etc/ice.toml"""
        self.assertEqual(self.text, template())


class Page(SynchronousTestCase):
    def test_current(self) -> None:
        """The committed page is what the schema gives: python -m ice.config.reference > docs/configuration.md"""
        self.assertEqual((ROOT / "docs/configuration.md").read_text("utf-8"), page())

    def test_rows(self) -> None:
        """Each row of a table has the five cells of its heading."""
        rows = [line for line in page().split("\n") if line.startswith("|")]
        settings = sum(1 for _, model in tables(Config) for _ in plain_fields(model))
        headings = sum(1 for _, model in tables(Config) if list(plain_fields(model)))
        self.assertEqual(len(rows), settings + 2 * headings)
        for row in rows:
            self.assertEqual(len(re.findall(r"(?<!\\)\|", row)), 6, row)


def plain_fields(model: type[BaseModel]) -> list[str]:
    """The fields of a section that are no tables."""
    inner = {path[-1] for path, _ in tables(model) if len(path) == 1}
    return [name for name in model.model_fields if name not in inner]


class Examples(SynchronousTestCase):
    def load(self, name: str) -> Loaded:
        return load(ROOT / "etc/examples" / name)

    def test_all_load_clean(self) -> None:
        """Every example loads without error or warning, and says at its top what it is for."""
        files = sorted((ROOT / "etc/examples").glob("*.toml"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            self.assertEqual(load(file).warnings, (), file.name)
            self.assertTrue(file.read_text("utf-8").startswith("# "), file.name)

    def test_what_they_show(self) -> None:
        """The site names its Rallypoint's address on both ends; the laptop runs no Rallypoint."""
        site, laptop = self.load("single-site.toml"), self.load("laptop.toml")
        self.assertIn(site.config.network.rallypoints[0], site.config.rallypoint.listen)
        self.assertIn(site.config.network.rallypoints[0], laptop.config.network.rallypoints)
        self.assertFalse(laptop.gives("rallypoint"))
