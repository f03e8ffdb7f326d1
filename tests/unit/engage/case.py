"""What the tests of imports share: our own fixtures, and the question whether a file is accounted for exactly once."""

import json
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.engage.account import Entry, Fate, leaf_places
from ice.engage.compose import Draft, compose
from ice.engage.kinds import Kind
from ice.engage.reading import Imported, read

DATA = Path(__file__).parent / "data"
SAMPLES = Path(__file__).parents[4] / "shared/samples"


def fixture(name: str) -> Imported:
    """One of our own files, read."""
    return read((DATA / name).read_bytes(), name)


def said(value: object, kind: Kind | None = None, source: str = "file.json") -> Imported:
    """A value, read as if it stood in a file."""
    return read(json.dumps(value).encode(), source, kind)


def entry(file: Imported, path: str) -> Entry:
    """The one entry of this path."""
    (found,) = [each for each in file.account.entries if each.path == path]
    return found


class Case(SynchronousTestCase):
    """A test about imported files."""

    def assertAccounted(self, file: Imported) -> None:
        """Every value of the file has exactly one entry that speaks for it, and no entry speaks for nothing."""
        entries = {each.at: 0 for each in file.account.entries}
        self.assertEqual(len(entries), len(file.account.entries), "two entries of one place")
        for leaf in leaf_places(file.document):
            speaking = [leaf[:length] for length in range(len(leaf) + 1) if leaf[:length] in entries]
            self.assertEqual(len(speaking), 1, (leaf, speaking))
            entries[speaking[0]] += 1
        for each in file.account.entries:
            self.assertEqual(entries[each.at], each.keys, each)

    def assertEntry(self, file: Imported, path: str, fate: Fate, part: str = "") -> None:
        """The entry of this path has this fate, and this in its text or our key."""
        found = entry(file, path)
        self.assertIs(found.fate, fate, found)
        self.assertIn(part, f"{found.ours} {found.why} {found.text}")


def toml(files: Sequence[Imported]) -> str:
    """What becomes of files."""
    return compose(files).toml


def values(draft: Draft, *key: str) -> list[dict[str, object]]:
    """The tables of one list of a draft."""
    return [dict(origin.what.values) for origin in draft.rows if origin.what.key == key]  # type: ignore[union-attr]
