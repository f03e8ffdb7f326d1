"""The list of patches on the disk, and beside it what the files said when they were last read.

Both are whole or not there, whatever happens: they are written under other names, flushed to the disk, and renamed, the list first. A change counts when it is on the disk: what cannot be kept is
refused. Dying between the two renames loses nothing, since what the files say is then compared once more, with what has been done already.

**Coasting.** Whatever is found, the server starts: patches must not fall silent for a damaged disk. A list that cannot be read (damaged, cut short, of a newer version, not ours to read) is left under
another name (``….bad``), the log says what is lost and how to have it back, and the server begins with what the files say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from twisted.logger import Logger

from ice.errors import IceError
from ice.patch.listing import MAX_BYTES, Entry, PatchList, encode
from ice.patch.parsing import decode
from ice.patch.plan import Patch
from ice.security.files import KEY_MODE, Draft, make_folder, write

LIST: Final = "patches.json"
FILES_SAID: Final = "patches-files.json"


class Store:
    """The two files in ``folder``, which is made where it is missing; see the module docstring."""

    _log = Logger()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing_path = folder / LIST
        self.said_path = folder / FILES_SAID

    def read(self) -> tuple[PatchList, tuple[Patch, ...]]:
        """The list, and what the files said; both empty at the first start."""
        listing = self._read(self.listing_path)
        if listing is None:
            # Without the list, what the files said is no longer what was done.
            return PatchList(), ()
        said = self._read(self.said_path)
        return listing, () if said is None else said.patches

    def keep(self, listing: PatchList, said: Iterable[Patch] | None = None) -> None:
        """This is the list from now on, and this is what the files have said (None: as it was). Raises :class:`LocalError`: nothing is kept."""
        make_folder(self.folder)
        drafts = [Draft(self.listing_path, encode(listing), KEY_MODE)]
        if said is not None:
            entries = {patch.id: Entry(patch, 1, 0, "") for patch in reversed(tuple(said))}
            drafts.append(Draft(self.said_path, encode(PatchList(MappingProxyType(entries))), KEY_MODE))
        write(drafts, replace=True)

    def _read(self, path: Path) -> PatchList | None:
        for left in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed while it wrote
            with contextlib.suppress(OSError):
                left.unlink()
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            return decode(data)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            why = f"it cannot be read: {error.strerror or error}"
        except IceError as error:
            why = str(error)
        self._put_aside(path, why)
        return None

    def _put_aside(self, path: Path, why: str) -> None:
        spare = path.with_name(f"{path.name}.bad")
        try:
            path.replace(spare)
            where = f"is {spare.name} now"
        except OSError as error:
            where = f"cannot be put aside: {error.strerror or error}"
        if path == self.listing_path:
            lost = (
                "patches that people made, changed or deleted are as the configuration has them, or as the server group has them; "
                f"to go back: stop the server, mend {spare}, move it to {path.name}, start"
            )
        else:
            lost = "patches of the configuration are taken for new ones: those that are in the list stay as they are"
        self._log.error(
            "{path} is no list of patches, and {where} ({why}): {lost}",
            path=str(path),
            where=where,
            why=why,
            lost=lost,
        )
