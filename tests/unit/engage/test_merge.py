"""An import put into a configuration that is there: nothing of it is lost or changed, everything is read again."""

import tomllib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ice.config.load import ConfigError
from ice.config.reference import template
from ice.engage.compose import Draft, ImportTrouble, compose
from ice.engage.merge import Merged, merge
from tests.unit.engage.case import Case, fixture, said

FILE = Path("/site/ice.toml")


def whole() -> Draft:
    """Everything that our fixtures give one machine."""
    return compose(
        [fixture(name) for name in ("rallypointd_conf.json", "peers.json", "bridges.json", "policy.json")]
    )


class Merging(Case):
    def put(self, text: str, *files: object, force: bool = False) -> Merged:
        return merge(text, compose([said(file) for file in files]), FILE, force=force)

    def test_into_the_shipped_file(self) -> None:
        """Into the shipped file it goes below the explanation of each key, and says what it says alone."""
        draft = whole()
        merged = merge(template(), draft, FILE)
        self.assertEqual(_without_empty(tomllib.loads(merged.text)), tomllib.loads(draft.toml))
        self.assertEqual(merged.conflicts, ())
        lines = merged.text.split("\n")
        for origin in draft.settings:
            key = origin.what.key[-1]
            index = next(
                i for i, line in enumerate(lines) if line.startswith(f"{key} = ") and origin.comment in line
            )
            self.assertTrue(lines[index - 1].startswith(f"#{key} = "), lines[index])
        rest = iter(lines)
        self.assertTrue(all(line in rest for line in template().split("\n")), "a line of the file is gone")

    def test_twice(self) -> None:
        """A second time there is nothing to add and nothing in conflict."""
        draft = whole()
        once = merge(template(), draft, FILE)
        again = merge(once.text, draft, FILE)
        self.assertEqual((again.text, again.added, again.conflicts), (once.text, 0, ()))

    def test_keeps_what_is_given(self) -> None:
        """A key that the file gives stays, with its comment, and is told as a conflict; the others are put in."""
        text = '[rallypoint]\nlisten = ["192.0.2.1:7443"] # mine\n'
        merged = self.put(text, {"listenPort": 7000, "externalHealthCheckResponder": {"listenPort": 7445}})
        self.assertIn('listen = ["192.0.2.1:7443"] # mine', merged.text)
        self.assertIn('health_check = "0.0.0.0:7445"', merged.text)
        self.assertEqual(
            [str(conflict) for conflict in merged.conflicts],
            [
                (
                    'rallypoint.listen: the file says ["192.0.2.1:7443"] and keeps it; '
                    'file.json: listenPort says ["0.0.0.0:7000"]'
                )
            ],
        )

    def test_force(self) -> None:
        """Whoever insists gets the import's value."""
        merged = self.put('[rallypoint]\nlisten = ["192.0.2.1:7443"]\n', {"listenPort": 7000}, force=True)
        self.assertEqual(tomllib.loads(merged.text), {"rallypoint": {"listen": ["0.0.0.0:7000"]}})
        self.assertEqual(merged.conflicts, ())

    def test_lists(self) -> None:
        """Tables of a list are added behind those that are there; one of the same name stays as it is."""
        text = '[[patches]]\nid = "a"\nstreams = ["x", "y"]\n# the end\n'
        bridges = [{"id": "a", "groups": ["p", "q"]}, {"id": "b", "groups": ["r", "s"]}]
        merged = self.put(text, bridges)
        self.assertTrue(merged.text.startswith(text))
        self.assertEqual([patch["id"] for patch in tomllib.loads(merged.text)["patches"]], ["a", "b"])
        self.assertEqual([conflict.key for conflict in merged.conflicts], ["patches"])

    def test_order_decides(self) -> None:
        """Access rules are not mixed: those of the file stay alone, or give way as a whole to who insists."""
        text = '[[rallypoint.access]]\nname = "boss"\n'
        restrictions = {"listenPort": 7000, "groupRestrictions": {"type": 1, "elements": ["red"]}}
        merged = self.put(text, restrictions)
        self.assertEqual(tomllib.loads(merged.text)["rallypoint"]["access"], [{"name": "boss"}])
        self.assertEqual([conflict.key for conflict in merged.conflicts], ["rallypoint.access"])
        forced = self.put(text, restrictions, force=True)
        self.assertEqual(tomllib.loads(forced.text)["rallypoint"]["access"], [{"streams": ["red"]}])

    def test_forms(self) -> None:
        """Dotted keys, inline tables, quoted keys and headers in any order are edited or refused, never broken."""
        wanted = {"listenPort": 7000, "limits": {"maxRegisteredStreams": 9}}
        for text in (
            "",
            "\ufeff# only a comment",
            "rallypoint.drain_s = 2.0\n",
            "[rallypoint.limits]\nlinks = 5\n[rallypoint]\ndrain_s = 2.0\n",
            "rallypoint = { drain_s = 2.0, limits = { links = 5 } }\n",
            '["rallypoint"]\n"drain_s" = 2.0\r\n',
            "[rallypoint]\nlimits.links = 5\n[log]\n",
            "[[patches]]\nid = 'p'\nstreams = ['a', 'b']\n",
        ):
            before = tomllib.loads(text.removeprefix("\ufeff"))
            merged = tomllib.loads(self.put(text, wanted).text)
            self.assertEqual(merged["rallypoint"].pop("listen"), ["0.0.0.0:7000"], text)
            self.assertEqual(merged["rallypoint"]["limits"].pop("streams"), 9, text)
            merged["rallypoint"]["limits"] = merged["rallypoint"]["limits"] or before.get(
                "rallypoint", {}
            ).get("limits")
            if not merged["rallypoint"]["limits"]:
                del merged["rallypoint"]["limits"]
            self.assertEqual(
                {key: value for key, value in merged.items() if value}, {k: v for k, v in before.items() if v}
            )

    def test_lists_written_inline(self) -> None:
        """A list that is written as one array is not broken: the import goes in, or it is said that it cannot."""
        text = 'patches = [{ id = "a", streams = ["x", "y"] }]\n'
        try:
            merged = self.put(text, [{"id": "b", "groups": ["r", "s"]}])
        except ImportTrouble as error:
            self.assertIn("by hand", str(error))
        else:
            self.assertEqual(len(tomllib.loads(merged.text)["patches"]), 2)

    def test_wrong_files(self) -> None:
        """A file that does not hold is refused with its own faults, and one that would not hold afterwards, too."""
        with self.assertRaisesRegex(ConfigError, "unknown key"):
            self.put("[log]\nlevle = 'info'\n", {"listenPort": 7000})
        text = '[[patches]]\nid = "a"\nstreams = ["x", "y"]\n'
        with self.assertRaisesRegex(ImportTrouble, '"a" and "b"'):
            self.put(text, [{"id": "b", "groups": ["y", "z"]}])

    @given(st.lists(st.sampled_from(template().split("\n\n")), unique=True, max_size=4))
    @settings(max_examples=40, deadline=None)
    def test_any_part_of_the_shipped_file(self, parts: list[str]) -> None:
        """Whatever sections are there in whatever order, the import says the same."""
        draft = compose([fixture("policy.json")])
        merged = merge("\n\n".join(parts), draft, FILE)
        found = {key: value for key, value in tomllib.loads(merged.text).items() if value}
        self.assertEqual(_without_empty(found), tomllib.loads(draft.toml))

    def test_example(self) -> None:
        """The example of a site takes an import, and goes on holding."""
        path = Path(__file__).parents[3] / "etc/examples/single-site.toml"
        merged = merge(path.read_text(), compose([fixture("bridges.json")]), path)
        self.assertIn("network.rallypoints", [conflict.key for conflict in merged.conflicts])
        self.assertIn("[[patches]]", merged.text)


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        found = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each != {}}
    return value
