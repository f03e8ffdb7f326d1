"""The list of patches on the disk."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.patch.listing import PatchList
from ice.patch.plan import Member, Mode, Patch
from ice.patch.store import FILES_SAID, LIST, Store

PATCH = Patch("ns", "Nord-Süd", (Member("north", 3.0), Member("south", 0.0, True)), True, Mode.MIXED)


class OnTheDisk(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"
        self.listing, audit = PatchList().create(PATCH, by="ada", ms=1)
        assert audit.refusal is None

    def test_round_trip(self) -> None:
        """What is kept is read, by another process too, and nobody else may read it."""
        said = (PATCH, Patch.of("other", "xy", enabled=False))
        Store(self.folder).keep(self.listing, said)
        listing, read = Store(self.folder).read()
        self.assertEqual(listing, self.listing)
        self.assertEqual({patch.id: patch for patch in read}, {patch.id: patch for patch in said})
        for name in (LIST, FILES_SAID):
            self.assertEqual(stat.S_IMODE((self.folder / name).stat().st_mode), 0o600)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), sorted((LIST, FILES_SAID)))

    def test_first_start(self) -> None:
        """Without files there is no patch, and nothing is written by reading."""
        self.assertEqual(Store(self.folder).read(), (PatchList(), ()))
        self.assertFalse(self.folder.exists())

    def test_the_list_alone(self) -> None:
        """A change by a person leaves alone what the files said."""
        store = Store(self.folder)
        store.keep(PatchList(), (PATCH,))
        store.keep(self.listing)
        self.assertEqual(store.read(), (self.listing, (PATCH,)))

    def test_the_list_is_lost(self) -> None:
        """Then what the files said is no longer what was done, and they are read as for the first time."""
        store = Store(self.folder)
        store.keep(self.listing, (PATCH,))
        (self.folder / LIST).unlink()
        self.assertEqual(store.read(), (PatchList(), ()))

    def test_spoilt(self) -> None:
        """A file that is no list is left under another name, whatever is in it."""
        store = Store(self.folder)
        store.keep(self.listing, (PATCH,))
        whole = (self.folder / LIST).read_bytes()
        for spoilt in (
            b"",
            b"\x00" * 100,
            whole[:-1],
            whole.replace(b'"version":1', b'"version":2'),
            b"[" * 10_000,
        ):
            (self.folder / LIST).write_bytes(spoilt)
            self.assertEqual(store.read(), (PatchList(), ()))
            self.assertEqual((self.folder / f"{LIST}.bad").read_bytes(), spoilt)
            self.assertFalse((self.folder / LIST).exists())

    def test_nowhere_to_write(self) -> None:
        """What cannot be kept is an error that names the file, and what was kept stays."""
        store = Store(self.folder)
        store.keep(self.listing, ())
        self.folder.rename(f"{self.folder}-old")
        self.folder.write_text("a file")
        with self.assertRaisesRegex(LocalError, "expected a folder"):
            store.keep(PatchList())
