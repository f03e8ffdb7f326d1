"""Writing files that must never be half there, overwritten by accident, or readable by others for an instant.

A file is written under a temporary name in its own folder, with its final mode from the first byte on, flushed to the disk, and only then given its
name. Without ``replace`` the name is given by a hard link, which fails if it is taken, so that two programs at once cannot overwrite
each other either.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from ice.errors import LocalError

KEY_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700  # it will hold the authority's key


class AlreadyThere(LocalError):
    """A file that would be overwritten exists, and nobody said that it may be."""


@attrs.frozen
class Draft:
    """A file to be written.

    :ivar path: its name.
    :ivar data: all of it; never shown, for it may be a key.
    :ivar mode: its permissions, whatever the umask.
    """

    path: Path
    data: bytes = attrs.field(repr=False)
    mode: int = PUBLIC_MODE


def make_folder(folder: Path) -> None:
    """Make a folder, mode 0700, with its parents; one that exists is left as it is.

    :raises LocalError: it cannot be made.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)
            folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise LocalError(f"{folder}: cannot make this folder: {error.strerror or error}") from None
    if not folder.is_dir():
        raise LocalError(f"{folder}: expected a folder, but there is a file of this name")


def write(drafts: Sequence[Draft], replace: bool = False) -> None:
    """Write files, each whole or not at all, in the order given; all are on the disk before the first gets its name.

    With several files (a key and its certificate) a power cut between two renames can leave the first new and the second old:
    microseconds, and told by `Credentials.read`. An error before leaves everything as it was; without ``replace`` names already given are
    taken back.

    :param replace: whether files that exist are replaced.
    :raises AlreadyThere: one exists, and ``replace`` is false; none was written.
    :raises LocalError: the disk is full, the folder is not ours, …
    """
    if not replace:
        taken = [draft.path for draft in drafts if os.path.lexists(draft.path)]
        if taken:
            raise _taken(taken)
    staged: list[tuple[Path, Draft]] = []
    named: list[Path] = []
    current = Path()
    try:
        try:
            for draft in drafts:
                current = draft.path
                temporary = _stage(draft)
                staged.append((temporary, draft))
            for temporary, draft in staged:
                current = draft.path
                if replace:
                    os.replace(temporary, draft.path)
                else:
                    _give_name(temporary, draft.path)
                    named.append(draft.path)
        except OSError as error:
            for path in named:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError) and not replace:
                raise _taken([Path(str(error.filename2 or error.filename))]) from None
            raise LocalError(f"{current}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    for folder in {draft.path.parent for draft in drafts}:
        _flush_folder(folder)


def _taken(paths: Sequence[Path]) -> AlreadyThere:
    return AlreadyThere(
        f"{', '.join(map(str, paths))}: already there and left as it is; add --force to overwrite it for good"
    )


def _stage(draft: Draft) -> Path:
    """The data, on the disk, under a temporary name beside its own."""
    temporary = draft.path.with_name(f".{draft.path.name}.{secrets.token_hex(6)}.tmp")
    # The mode is given to open, so that no moment exists at which a key could be opened by others.
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, draft.mode & 0o600
    )
    try:
        with _closing(descriptor):
            view = memoryview(draft.data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, draft.mode)  # the umask may have taken more than it should
            os.fsync(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _give_name(temporary: Path, path: Path) -> None:
    """Name a file that must not exist yet; where the file system knows no hard links, with a check just before."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(17, "File exists", str(path)) from None
        os.replace(temporary, path)


def _flush_folder(folder: Path) -> None:
    """Make the new names last; a file system that cannot is no reason to fail now that everything is written."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with _closing(descriptor):
            os.fsync(descriptor)
