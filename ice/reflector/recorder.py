"""One rule's datagrams into a file for Wireshark: what comes in at its group and what goes out to it, as they are on the network.

Switched on by ``capture_file`` of a rule, at the start or by a reload; the rule notices nothing of it.  The file is :class:`ice.net.capture.Capture`'s: two halves in turns, mode 0600,
bounded by ``capture_bytes``.  What can not be written, at first or in the middle, is said once and counted, and the rule goes on without; a reload tries again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from ice.net.addresses import Address
from ice.net.capture import Capture, CaptureError, Keep


@attrs.define(eq=False)
class Recorder:
    """A capture of one rule; ``told`` gets the sentence that says why it ended, once."""

    path: Path
    max_bytes: int
    wall: Callable[[], float]
    told: Callable[[str], None]
    why: str = ""  #: why nothing is written, or ""
    _capture: Capture | None = None
    _missed: int = 0  #: since there was no file to begin with

    def start(self) -> None:
        """Begin the file; what was there before is kept as its older half."""
        try:
            self._capture = Capture(self.path, max_bytes=self.max_bytes, keep=Keep.LAST)
        except CaptureError as error:
            self._failed(str(error))

    def heard(self, datagrams: Sequence[tuple[bytes, Address]], group: Address) -> None:
        """These came at ``group``, each from its sender."""
        capture, now = self._capture, self.wall()
        if capture is None:
            self._missed += len(datagrams)
            return
        for data, sender in datagrams:
            capture.add(now, sender, group, data)

    def said(self, datagrams: Sequence[bytes], origin: Address, to: Address) -> None:
        """These were given to the kernel for ``to``, from ``origin``."""
        self.heard([(data, origin) for data in datagrams], to)

    def flush(self) -> None:
        """Now and then: have everything in the file, and tell where it has ended."""
        if self._capture is not None:
            self._capture.flush()
            if self._capture.why and not self.why:
                self._failed(self._capture.why)

    def stop(self) -> None:
        """Be done; what was written stays."""
        if self._capture is not None:
            self._capture.close()

    def same(self, path: Path | None, max_bytes: int) -> bool:
        """Whether this is a capture there, of that size, and works."""
        return (self.path, self.max_bytes, self.why) == (path, max_bytes, "")

    def status(self) -> dict[str, Any]:
        """For people and machines."""
        capture = self._capture
        return {
            "file": str(self.path),
            "why_not": self.why,
            "packets": 0 if capture is None else capture.packets,
            "left_out": self._missed if capture is None else capture.left_out,
        }

    def _failed(self, why: str) -> None:
        self.why = why
        self.told(why)
