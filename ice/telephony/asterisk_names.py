"""What of a call can be read at the call manager itself: the names of its channels and its bridge, and a note on its channel.

A gateway that was restarted, or has taken over, knows nothing but what it finds there. Channels and bridges that we make bear names of our own choosing, ``APP-CALL-PART``, so that what is ours is seen in any list
(and by a person at Asterisk's console); a channel that called us has Asterisk's name, and is ours where our application holds it. The note, :class:`Memo`, is the channel variable :data:`MEMO`: whose call it is, with whom, since when.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote
from uuid import UUID

import attrs

from ice.telephony.call import Direction

MEMO: Final = "ICE_CALL"
VERSION: Final = "1"
NOBODY: Final = UUID(int=0)
MAX_MEMO: Final = 1_024
EMPTY: Final = "%"  # never a whole field of what is quoted
_FIELDS: Final = 8
_NUMBER: Final = re.compile(r"\+?[0-9A-D*#]{1,64}\Z")


def is_number(text: str) -> bool:
    """Whether this may be put into an endpoint's name: digits and keys, a plus before them, 64 at most, nothing that Asterisk would take for syntax."""
    return _NUMBER.match(text) is not None


class Names:
    """The names of one application's channels and bridges."""

    def __init__(self, app: str) -> None:
        self.app = app
        self._ours = re.compile(
            re.escape(app) + r"-([0-9a-f]{32})(?:-(line|(?:media|target)(?=-))(?:-[0-9]{1,6})?)?\Z"
        )

    def bridge(self, call: UUID) -> str:
        """The bridge in which a call's channels meet."""
        return f"{self.app}-{call.hex}"

    def line(self, call: UUID) -> str:
        """The channel of a call that we place."""
        return f"{self.app}-{call.hex}-line"

    def media(self, call: UUID, number: int) -> str:
        """The channel of a call's sound, the ``number``-th."""
        return f"{self.app}-{call.hex}-media-{number}"

    def target(self, call: UUID, number: int) -> str:
        """The channel to whom a call is handed over, the ``number``-th."""
        return f"{self.app}-{call.hex}-target-{number}"

    def part(self, id: str) -> tuple[UUID, str] | None:
        """Which call a name belongs to, and which part of it is meant (``line``, ``media``, ``target``, nothing for the bridge); ``None`` for a name that is not ours."""
        found = self._ours.match(id)
        return (UUID(found[1]), found[2] or "") if found is not None else None


@attrs.frozen
class Memo:
    """What is noted on the channel of a call. ``answered_unix_s`` is 0 before its answer; ``handed`` is the channel to whom it was handed over."""

    call: UUID
    direction: Direction
    number: str
    dialled: str = ""
    user: UUID = NOBODY
    answered_unix_s: float = 0.0
    handed: str = ""

    def text(self) -> str:
        """The note: fields with one blank between, quoted as in URLs."""
        fields = (
            VERSION, str(self.call), str(self.direction), str(self.user), f"{self.answered_unix_s:.3f}",
            self.number, self.dialled, self.handed,
        )  # fmt: skip
        return " ".join(quote(field, safe="+*#") or EMPTY for field in fields)

    @classmethod
    def read(cls, text: str) -> Memo | None:
        """The note of that text, or ``None`` where it is none of ours."""
        fields = ["" if field == EMPTY else unquote(field) for field in text[:MAX_MEMO].split(" ")]
        if len(fields) != _FIELDS or fields[0] != VERSION:
            return None
        _, call, direction, user, answered, number, dialled, handed = fields
        try:
            memo = cls(UUID(call), Direction(direction), number, dialled, UUID(user), float(answered), handed)
        except ValueError:
            return None
        return memo if 0 <= memo.answered_unix_s < 1e11 else None
