"""C libraries that a codec may need: looked for when it is first used, and named with their package where they are not there.

Loading is asked once per process: whoever installs a library restarts what is to use it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Final

import attrs

from ice.errors import LocalError

EXTRA: Final = "pip install 'ice-voice[codecs]'"


class CodecMissing(LocalError):
    """What would carry a codec is not installed; the message says what to install."""


@attrs.frozen
class Library:
    """A C library: the file names under which distributions have it, the best first, and Debian's package."""

    title: str
    files: tuple[str, ...]
    package: str

    def load(self) -> ctypes.CDLL:
        """The library; raises :class:`CodecMissing`."""
        found = _loaded(self.files)
        if found is None:
            raise CodecMissing(f"{self.title} is not installed: apt install {self.package}")
        return found


@functools.cache
def _loaded(files: tuple[str, ...]) -> ctypes.CDLL | None:
    for file in files:
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    return None


class Owned:
    """Something that a C library made, ended when nobody holds it any more; raises :class:`CodecMissing` where it made nothing."""

    def __init__(
        self, title: str, create: Callable[[], int | None], destroy: Callable[[ctypes.c_void_p], object]
    ) -> None:
        address = create()
        if not address:
            raise CodecMissing(f"{title} has no room for another talker, or was built without this codec")
        self.pointer = ctypes.c_void_p(address)
        weakref.finalize(self, destroy, self.pointer)


def libav() -> ModuleType:
    """PyAV, Python's binding of FFmpeg's libraries; raises :class:`CodecMissing`."""
    found = _libav()
    if found is None:
        raise CodecMissing(f"PyAV is not installed: {EXTRA}")
    return found


@functools.cache
def _libav() -> ModuleType | None:
    try:
        return importlib.import_module("av")
    except ImportError:
        return None
