"""Small files that outlive the process: a group document, the configuration that a satellite coasts by, a status for others to read.

A file is written under another name in the same folder, flushed to the disk and renamed, so that whoever reads sees the old one or the new one, also after a loss of power.  Its mode
is 0600 unless said otherwise: what a satellite works by may name keys.  What cannot be written is a :class:`~ice.errors.LocalError`; it is the caller's to go on without.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from ice.errors import LocalError

PRIVATE = 0o600
PUBLIC = 0o644


def keep(path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = True) -> None:
    """Replace what stands in ``path`` by ``data``; its folder is made where it is missing (0700).

    ``durable``: wait until the disk has it. Raises :class:`LocalError` that names the file.
    """
    spare = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(spare, path)
        except BaseException:
            with contextlib.suppress(OSError):
                spare.unlink()
            raise
        if durable:
            _flush_folder(path.parent)
    except OSError as error:
        raise LocalError(f"{path}: cannot be written: {error.strerror or error}") from None


def kept(path: Path, limit: int) -> bytes | None:
    """What stands in ``path``, at most ``limit`` bytes; None where there is no such file. Raises :class:`LocalError`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise LocalError(f"{path}: expected at most {limit} bytes: is it the right file?")
    return data


class LastConfiguration:
    """The configuration that a satellite had last from its control plane, to coast by while that cannot be reached."""

    MAX_BYTES = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return self.path.is_file()

    def keep(self, data: bytes) -> None:
        """This is the one from now on. Raises :class:`LocalError`."""
        if len(data) > self.MAX_BYTES:
            raise LocalError(f"{self.path}: expected at most {self.MAX_BYTES} bytes of configuration")
        keep(self.path, data)

    def read(self) -> bytes | None:
        """The last one, or None. Raises :class:`LocalError`."""
        return kept(self.path, self.MAX_BYTES)


def _flush_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
