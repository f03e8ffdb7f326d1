"""What two organisations share, and how the opener of a link between them learns what the other grants.  Without I/O.

A :class:`Treaty` is one ``[[federations]]`` table, made ready to be asked. *Incoming* and *outgoing* are said as seen from here: what may come in from
them, what may go out to them.  Each side goes by its own lists alone, so a stream flows one way where the one lists it as outgoing and the
other as incoming.

**Asking.** The opener says one JOIN per stream for everything that it lists.  Where a JOIN for both directions is denied it asks again for
incoming alone, then for outgoing alone, because an answer does not say which of the two was meant, and a direction that is refused must not silence the
other.
"""

from collections import deque
from collections.abc import Mapping
from uuid import UUID

import attrs

from ice.link.message import Code
from ice.rallypoint.peering import Expected
from ice.security.certificates import Identity
from ice.security.trust import Foreign


@attrs.frozen
class Treaty:
    """What is agreed with one other organisation.

    :ivar peers: their Rallypoints by UUID; those without an address dial us.
    :ivar packets_per_s: what one link of theirs may bring in; ``bytes_per_s`` likewise.
    """

    foreign: Foreign
    peers: Mapping[UUID, Expected]
    incoming: frozenset[str]
    outgoing: frozenset[str]
    packets_per_s: int
    bytes_per_s: int

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        return self.foreign.name

    @property
    def shared(self) -> frozenset[str]:
        """Every stream, whichever way."""
        return self.incoming | self.outgoing

    @property
    def rate(self) -> tuple[int, int]:
        """Packets and bytes per second."""
        return self.packets_per_s, self.bytes_per_s

    def covers(self, identity: Identity) -> bool:
        """Whether this is one of their Rallypoints."""
        return identity.id in self.peers and self.foreign.knows(identity)

    def refuses(self, stream: str, *, listen: bool, talk: bool) -> str | None:
        """Why their JOIN is not granted, or None; ``listen`` and ``talk`` are theirs: we send, they send."""
        wrong = []
        if listen and stream not in self.outgoing:
            wrong.append("listen: it is not among the streams that go out to you here (outgoing)")
        if talk and stream not in self.incoming:
            wrong.append("talk: it is not among the streams that come in from you here (incoming)")
        if not wrong and stream not in self.shared:
            wrong.append("be: it is not shared with you here")
        return f"'{stream}': you may not " + "; nor may you ".join(wrong) if wrong else None

    def shares_as(self, other: "Treaty") -> bool:
        """Whether the same may be said under both, by and to whomever."""
        return (self.name, self.incoming, self.outgoing) == (other.name, other.incoming, other.outgoing)


@attrs.frozen
class Question:
    """One JOIN: may ``stream`` come in, may it go out?"""

    stream: str
    incoming: bool
    outgoing: bool


class Asking:
    """The questions of one link that we opened, and what came of them."""

    def __init__(self, treaty: Treaty) -> None:
        self._open = deque(
            Question(stream, stream in treaty.incoming, stream in treaty.outgoing)
            for stream in sorted(treaty.shared)
        )
        self._asked: dict[int, Question] = {}
        #: What was said to the first, both-ways question about a stream that is asked in parts now.
        self._first: dict[str, str] = {}
        #: Streams granted, by direction.
        self.incoming: set[str] = set()
        self.outgoing: set[str] = set()
        #: Streams of which something was refused, and the sentence about it.
        self.refused: dict[str, str] = {}

    def next(self) -> Question | None:
        """What to ask now; None: nothing."""
        return self._open.popleft() if self._open else None

    def asked(self, txn: int, question: Question) -> None:
        """It was asked under this number."""
        self._asked[txn] = question

    def joined(self, txn: int) -> Question | None:
        """It was granted; None where nothing was asked under this number."""
        question = self._asked.pop(txn, None)
        if question is None:
            return None
        if question.incoming:
            self.incoming.add(question.stream)
        if question.outgoing:
            self.outgoing.add(question.stream)
        first = self._first.pop(question.stream, None)
        if first is not None:
            self._refuse(
                question.stream, first, incoming=not question.incoming, outgoing=not question.outgoing
            )
        return question

    def denied(self, txn: int, code: str, message: str) -> Question | None:
        """It was not; None where nothing was asked under this number, or the same stream is asked about again."""
        question = self._asked.pop(txn, None)
        if question is None:
            return None
        stream = question.stream
        if code == Code.DENIED and question.incoming and question.outgoing:
            self._first[stream] = message
            self._open.append(Question(stream, True, False))
            return None
        first = self._first.get(stream)
        if code == Code.DENIED and question.incoming and first is not None:
            self._open.append(Question(stream, False, True))
            return None
        self._first.pop(stream, None)
        both = first is not None
        self._refuse(
            stream, first or message, incoming=question.incoming or both, outgoing=question.outgoing or both
        )
        return question

    def impossible(self, question: Question, why: str) -> None:
        """It could not even be asked."""
        self._refuse(question.stream, why, incoming=question.incoming, outgoing=question.outgoing)

    def _refuse(self, stream: str, message: str, *, incoming: bool, outgoing: bool) -> None:
        ways = " and ".join(
            way for way, refused in (("coming in", incoming), ("going out", outgoing)) if refused
        )
        self.refused[stream] = f"{stream!a} is kept from {ways}: {message}"
