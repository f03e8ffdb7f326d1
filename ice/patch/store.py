"""The list of patches on the disk, and beside it what the files said when they were last read.

Both are whole or not there, whatever happens: they are written under other names, flushed to the disk, and renamed, the list first. A change counts when it is on the disk: what cannot be kept is
refused. Dying between the two renames loses nothing, since what the files say is then compared once more, with what has been done already.

A list that cannot be read is left under another name (``….bad``), and the server begins with what the files say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from twisted.logger import Logger

from ice.errors import IceError, LocalError
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
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LocalError(
                f"{path}: the list of patches cannot be read: {error.strerror or error}"
            ) from None
        try:
            return decode(data)
        except IceError as error:
            spare = path.with_name(f"{path.name}.bad")
            self._log.error(
                "{path} is no list of patches and is {spare} now: {why}",
                path=str(path),
                spare=spare.name,
                why=str(error),
            )
            with contextlib.suppress(OSError):
                path.replace(spare)
            return None
