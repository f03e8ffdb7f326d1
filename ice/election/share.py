"""The group document on a disk and on the election's ways: the thin driver of :class:`ice.election.sharing.Sharing`.

The document is read when the election is made, and written before it is told to anybody: who says that it has a document still has it after a loss of power, unless it says that its disk refuses it, which is then tried again.  A file that cannot be
read, or is not the group's, is left where it is under another name (``….bad``), and the member begins without: the others have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from ice.election.document import (
    MAX_HEADER,
    MAX_PACKED,
    Document,
    DocumentRefused,
    decode_document,
    encode_document,
)
from ice.election.keeping import keep, kept
from ice.election.rules import Group
from ice.election.sharing import NEVER, Keep, Say, Sharing
from ice.errors import IceError, LocalError
from ice.net.clock import Clock, DelayedCall

LEAST_WAIT_S: Final = 0.001
AGAIN_S: Final = 10.0  # a disk that refused the document is tried again


class Share:
    """See the module's docstring. ``standing`` says whether we lead, and who does; ``learned`` hears the body of each document that others have made."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        group: Group,
        own_id: str,
        say: Callable[[bytes], bool],
        *,
        wall: Callable[[], float],
        standing: Callable[[], tuple[bool, str | None]],
        path: Path | None = None,
        merge: Callable[[bytes, bytes], bytes] | None = None,
        learned: Callable[[bytes], None] | None = None,
    ) -> None:
        self.path = path
        self.unkept = ""  #: why the document is not on the disk; empty: it is, or there is none
        self._clock = clock
        self._group = group
        self._say = say
        self._wall = wall
        self._standing = standing
        self._learned = learned
        self._timer: DelayedCall | None = None
        self._timer_at = float("inf")
        self._running = False
        self._again_at = float("inf")  # when to try the disk again
        self.sharing = Sharing(group, own_id, clock.seconds(), self._read(), merge=merge)

    def start(self) -> None:
        """Take part."""
        self._running = True
        self._do()

    def stop(self) -> None:
        """Take part no more."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    @property
    def body(self) -> bytes | None:
        """The document's body, None where the group has none that we know of."""
        document = self.sharing.document
        return None if document is None else document.body()

    def change(self, body: bytes) -> int:
        """The document is another one from now on; its number. Raises :class:`LocalError` where we do not lead, or it is too large."""
        self._stand()
        document = self.sharing.change(body, *self._times())
        self._do()
        return document.header.number

    def heard(self, data: bytes) -> None:
        """A message about documents came."""
        if self._running:
            self._stand()
            self.sharing.receive(data, *self._times())
            self._do()

    def turn(self) -> None:
        """Once a cycle, and when we begin or cease to lead."""
        if self._running:
            self._stand()
            if self._clock.seconds() >= self._again_at and self.sharing.document is not None:
                self._write(self.sharing.document)
            self.sharing.tick(*self._times())
            self._do()

    def reached(self) -> None:
        """A way has opened."""
        if self._running:
            self.sharing.reached(self._clock.seconds())
            self._do()

    def configure(self, group: Group) -> None:
        """The group has changed; under a new salt the document is signed anew."""
        again = group.salts[:1] != self._group.salts[:1]
        self._group = self.sharing.group = group
        if again and self.sharing.document is not None:
            self._write(self.sharing.document)

    def status(self) -> dict[str, Any]:
        """How it stands with the document, as JSON-able values."""
        sharing = self.sharing
        document, collecting = sharing.document, sharing.collecting
        told: dict[str, Any] = {
            "number": 0 if document is None else document.header.number,
            "heldBy": sorted(sharing.holders()),
            "unkept": self.unkept,
            "counts": dict(sharing.counts),
            "refused": {str(wrong): count for wrong, count in sharing.refused.items()},
        }
        if document is not None:
            told |= {
                "by": document.header.by,
                "ms": document.header.ms,
                "bytes": document.header.body_bytes,
                "digest": document.header.digest,
            }
        if collecting is not None:
            told["collecting"] = dict(zip(("number", "pieces", "of"), collecting, strict=True))
        return told

    # -- inside --------------------------------------------------------------------------------------------------------

    def _times(self) -> tuple[float, int]:
        return self._clock.seconds(), int(self._wall() * 1_000)

    def _stand(self) -> None:
        self.sharing.stand(*self._standing(), self._clock.seconds())

    def _do(self) -> None:
        while deeds := self.sharing.deeds():
            for deed in deeds:
                match deed:
                    case Keep(document, ours):
                        self._write(document)
                        self._log.info(
                            "group {group}: document {number} by {by}, {size} bytes",
                            group=self._group.name or self._group.id,
                            number=document.header.number,
                            by=self._group.names.get(document.header.by, document.header.by),
                            size=document.header.body_bytes,
                        )
                        if not ours and self._learned is not None:
                            self._tell(document)
                    case Say(data):
                        self._say(data)
        self._rearm()

    def _tell(self, document: Document) -> None:
        assert self._learned is not None
        try:
            self._learned(document.body())
        except Exception:
            self._log.failure("group {group}: its document could not be used", group=self._group.id)

    def _rearm(self) -> None:
        if not self._running:
            return
        due = self.sharing.deadline
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due == NEVER:
            return
        self._timer_at = due
        self._timer = self._clock.callLater(max(LEAST_WAIT_S, due - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.turn()

    def _read(self) -> Document | None:
        if self.path is None:
            return None
        try:
            data = kept(self.path, MAX_HEADER + 1 + MAX_PACKED)
            if data is None:
                return None
            return decode_document(data, self._group.id, self._group.places, self._group.salts)
        except DocumentRefused as refusal:
            spare = self.path.with_name(f"{self.path.name}.bad")
            self._log.error(
                "{path} is no document of this group, and is {spare} now: {why}; the other members have one",
                path=str(self.path),
                spare=spare.name,
                why=str(refusal),
            )
            with contextlib.suppress(OSError):
                self.path.replace(spare)
        except LocalError as error:
            self._log.error("{error}; the other members have the document", error=str(error))
        return None

    def _write(self, document: Document) -> None:
        if self.path is None:
            return
        before, self.unkept, self._again_at = self.unkept, "", float("inf")
        try:
            keep(self.path, encode_document(document, self._group.salts[0]))
        except IceError as error:
            self.unkept, self._again_at = str(error), self._clock.seconds() + AGAIN_S
            if not before:
                self._log.error(
                    "{error}; the document is not kept over a restart, and the disk is tried again",
                    error=self.unkept,
                )
        else:
            if before:
                self._log.info("{path}: the document is on the disk again", path=str(self.path))
        self.sharing.written(not self.unkept, self._clock.seconds())
