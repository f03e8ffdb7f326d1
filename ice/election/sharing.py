"""How a group document comes to all members, and how they come to agree on the newest: an engine.

Messages and moments go in; messages to say and documents to keep come out.  ``now`` is seconds of any clock that only counts, ``unix_ms`` Unix milliseconds; ``leads`` says whether
we are the active member, ``leader`` who is, as far as we know.

* **The active member announces** (``HAVE``) once a cycle, at least a second apart; while nobody leads, everybody does, three times as rarely.
* **Who hears of a newer document** than its own collects it: it waits a moment for pieces that come anyway, then asks the announcer for what is missing (``WANT``), again and
  again ever more rarely, and of whoever announces it later.  A complete document that fits its header is kept, and said to be had: so the active member knows who has it (:meth:`Sharing.holders`).
* **Who hears of an older one** than its own from another says ``HAVE`` after a random moment, unless another does.  So it does not matter who was away, the active member included.
* **A change** is made by the active member only: it is kept, announced and sent to all at once, unasked.
* **Pieces are paced**: :data:`BURST` of them every :data:`PACE_S`, so that a large document does not crowd out ballots.

**After a division** two active members may each have changed the document.  The newer one counts for all (:attr:`~ice.election.document.Header.rank`); where the satellites know how to merge bodies, the
active member that takes a newer document merges it with what it had, and publishes what neither had; and who takes a newer document in the place of one that perhaps nobody else
has seen, says so once and keeps that one for the active member to collect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

import attrs

from ice.election.document import (
    Document,
    DocumentRefused,
    Have,
    Header,
    Piece,
    Want,
    Wrong,
    checked,
    compose,
    decode_message,
    encode_have,
    encode_want,
    in_ranges,
)
from ice.election.rules import Group
from ice.errors import LocalError

NEVER: Final = float("inf")
ANNOUNCE_S: Final = 1.0  # at least, between announcements
NOBODY_LEADS: Final = 3  # so many times as rarely
BURST: Final = 16  # pieces at a time
PACE_S: Final = 0.1  # between bursts: 160 kB/s
PATIENCE_S: Final = 0.3  # without another piece, what is missing is asked for
MAX_PATIENCE_S: Final = 10.0
TRIES: Final = (
    20  # requests without an answer, after which a collection is given up until it is announced again
)
MAX_KNOWN: Final = 256  # digests of former documents; who comes back with an older one costs a needless merge
CORRECT_S: Final = (0.05, 0.4)  # random: one of several says that it has a newer one


@attrs.frozen
class Say:
    """Send this message."""

    data: bytes


@attrs.frozen
class Keep:
    """This document is ours from now on: write it down, and tell the satellite."""

    document: Document
    ours: bool  #: we made it ourselves


Deed: TypeAlias = Say | Keep


@attrs.define
class _Collection:
    header: Header
    of: str
    ask_at: float
    patience_s: float = PATIENCE_S
    tries: int = 0
    pieces: dict[int, bytes] = attrs.Factory(dict)


class Sharing:
    """One member's part. ``merge(ours, theirs)`` gives the body that holds what both hold; it must be commutative and idempotent."""

    def __init__(
        self,
        group: Group,
        own_id: str,
        now: float,
        document: Document | None = None,
        *,
        merge: Callable[[bytes, bytes], bytes] | None = None,
        random: Random | None = None,
    ) -> None:
        self.group = group
        self.own_id = own_id
        self.document = document
        self.leads = False
        self.leader: str | None = None
        self.kept = True  #: what we have is on our disk
        self.refused: Counter[Wrong] = Counter()  #: messages and documents, by reason
        self.counts: Counter[str] = (
            Counter()
        )  #: announced, asked, pieces-sent, pieces-heard, taken, merged, given-up
        self._merge = merge
        self._random = random if random is not None else Random()
        self._deeds: list[Deed] = []
        self._heard: dict[str, tuple[int, int, str, str]] = {}  # what others have
        self._collection: _Collection | None = None
        self._outgoing: dict[tuple[bytes, int], None] = {}
        self._former: Document | None = None  # ours before, which perhaps nobody else has seen
        self._known: dict[str, None] = {}  # digests of documents that we have had
        self._former_at = NEVER
        self._confirm_at = NEVER
        self._confirmed: tuple[str, object] = ("", None)
        self._send_at = NEVER
        self._correct_at = NEVER
        self._announce_at = now + self._pause(1)
        if document is not None:
            self._know(document)

    # -- inputs --------------------------------------------------------------------------------------------------------

    def stand(self, leads: bool, leader: str | None, now: float) -> None:
        """Whether we lead, and who does; call it before every other input."""
        if leads and not self.leads:
            self._correct_at = now  # so that everybody knows at once what counts
        self.leads, self.leader = leads, leader

    def receive(self, data: bytes, now: float, unix_ms: int) -> None:
        """A message about documents came."""
        try:
            said = decode_message(data, self.group.id, self.group.places, self.group.salts)
        except DocumentRefused as refusal:
            self.refused[refusal.wrong] += 1
            return
        match said:
            case Have():
                self._have(said, now)
            case Want():
                self._want(said, now)
            case Piece():
                self._piece(said, now, unix_ms)

    def change(self, body: bytes, now: float, unix_ms: int) -> Document:
        """The document's body is another one. Raises :class:`LocalError` where we do not lead, or it is too large."""
        if not self.leads:
            who = (
                "nobody leads just now"
                if self.leader is None
                else f"{self.group.names.get(self.leader, self.leader)} leads"
            )
            raise LocalError(
                f"the group's document is changed by its active member only, and {who}: ask there"
            )
        number = 1 if self.document is None else self.document.header.number + 1
        document = compose(self.group.id, number, unix_ms, self.own_id, body)
        self._take(document, ours=True)
        self._announce(now)
        self._announce_at = now + self._pause(1)
        short = document.header.short
        self._outgoing = {(short, place): None for place in range(document.header.pieces)}
        self._send_at = now
        return document

    def written(self, kept: bool, now: float) -> None:
        """Whether our document is on our disk now; where it is not we hold it in memory, and say so."""
        if kept and not self.kept:
            self._confirm_at = now
        self.kept = kept

    def reached(self, now: float) -> None:
        """A way to the others has opened: whoever may announce does so soon."""
        if self.leads or self.leader is None:
            self._correct_at = min(self._correct_at, now + self._moment())

    def tick(self, now: float, unix_ms: int) -> None:
        """It is :attr:`deadline`, or another moment; called once a cycle in any case."""
        if now >= self._send_at:
            self._burst(now)
        if now >= self._former_at:
            self._former_at = NEVER
            self._have_said(self._former)
        if now >= min(self._correct_at, self._confirm_at):
            self._announce(now)
        if now >= self._announce_at:
            if self.leads or self.leader is None:
                self._announce(now)
            self._announce_at = now + self._pause(1 if self.leads else NOBODY_LEADS)
        collection = self._collection
        if collection is not None and now >= collection.ask_at:
            self._ask(collection, now)

    def deeds(self) -> list[Deed]:
        """What is to be done since the last call."""
        deeds, self._deeds = self._deeds, []
        return deeds

    # -- what can be asked ---------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is to be called besides once a cycle: what cannot wait for that."""
        ask_at = NEVER if self._collection is None else self._collection.ask_at
        said_at = min(self._correct_at, self._confirm_at, self._former_at)
        return min(self._send_at, said_at, ask_at)

    def holders(self) -> frozenset[str]:
        """Members that are known to have our document on their disks, ourselves included."""
        if self.document is None:
            return frozenset()
        rank = self.document.header.rank
        others = frozenset(id for id, had in self._heard.items() if had == rank)
        return others | {self.own_id} if self.kept else others

    @property
    def collecting(self) -> tuple[int, int, int] | None:
        """Number of the document that is being collected, pieces heard, pieces there are."""
        collection = self._collection
        if collection is None:
            return None
        return collection.header.number, len(collection.pieces), collection.header.pieces

    # -- inside --------------------------------------------------------------------------------------------------------

    def _pause(self, times: int) -> float:
        return max(ANNOUNCE_S, self.group.cycle_s) * (times - self._random.uniform(0.05, 0.15))

    def _moment(self) -> float:
        return self._random.uniform(*CORRECT_S)

    def _announce(self, now: float) -> None:
        self._correct_at = self._confirm_at = NEVER
        self._have_said(self.document)

    def _have_said(self, document: Document | None) -> None:
        if document is not None:
            have = Have(self.own_id, document.header, self.kept)
            self._deeds.append(Say(encode_have(have, self.group.salts[0])))
            self.counts["announced"] += 1

    def _have(self, have: Have, now: float) -> None:
        header, own = have.header, self.document
        if have.sender == self.own_id:
            return
        if have.kept:
            self._heard[have.sender] = header.rank
        else:
            self._heard.pop(have.sender, None)
        if own is not None and header.rank == own.header.rank:
            self._correct_at = NEVER
            if have.sender == self.leader and self._confirmed != (have.sender, header.rank):
                self._confirmed = have.sender, header.rank
                self._confirm_at = now + self._moment()  # so that it knows who has it
            return
        if own is None or header.rank > own.header.rank or self._forked(header):
            collection = self._collection
            if collection is None or header.rank > collection.header.rank:
                self._collection = _Collection(
                    header, have.sender, now + PATIENCE_S * self._random.uniform(1, 2)
                )
            elif header.rank == collection.header.rank:
                collection.of = have.sender  # which is alive, and worth asking soon
                collection.ask_at = min(collection.ask_at, now + PATIENCE_S * self._random.uniform(1, 2))
        if own is not None and header.rank < own.header.rank and self._correct_at == NEVER:
            self._correct_at = now + self._moment()

    def _forked(self, header: Header) -> bool:
        """Whether this document is none of those that ours came from, and ours to merge."""
        return self._merge is not None and self.leads and header.digest not in self._known

    def _know(self, document: Document) -> None:
        self._known[document.header.digest] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _want(self, want: Want, now: float) -> None:
        asked = self._ours(want.short)
        if want.of != self.own_id or asked is None:
            return
        last = asked.header.pieces
        for begin, end in want.ranges:
            self._outgoing.update({(want.short, place): None for place in range(begin, min(end, last))})
        if self._outgoing and self._send_at == NEVER:
            self._send_at = now

    def _burst(self, now: float) -> None:
        for short, place in list(self._outgoing)[:BURST]:
            del self._outgoing[short, place]
            document = self._ours(short)
            if document is not None:
                self._deeds.append(Say(document.piece(place)))
                self.counts["pieces-sent"] += 1
        self._send_at = now + PACE_S if self._outgoing else NEVER

    def _ours(self, short: bytes) -> Document | None:
        """The document whose digest begins so, if we have it."""
        for document in (self.document, self._former):
            if document is not None and document.header.short == short:
                return document
        return None

    def _ask(self, collection: _Collection, now: float) -> None:
        collection.tries += 1
        if collection.tries > TRIES:
            self._collection = None
            self.counts["given-up"] += 1
            return
        header = collection.header
        missing = in_ranges(set(range(header.pieces)) - collection.pieces.keys())
        self._deeds.append(Say(encode_want(Want(self.own_id, collection.of, header.short, missing))))
        self.counts["asked"] += 1
        collection.ask_at = now + collection.patience_s * self._random.uniform(1, 2)
        collection.patience_s = min(MAX_PATIENCE_S, 2 * collection.patience_s)

    def _piece(self, piece: Piece, now: float, unix_ms: int) -> None:
        collection = self._collection
        if collection is None or piece.short != collection.header.short:
            return
        header = collection.header
        if piece.place >= header.pieces or len(piece.data) != header.piece_bytes(piece.place):
            self.refused[Wrong.FORM] += 1
            return
        if piece.place in collection.pieces:
            return
        self.counts["pieces-heard"] += 1
        collection.pieces[piece.place] = piece.data
        collection.tries, collection.patience_s = 0, PATIENCE_S
        collection.ask_at = now + PATIENCE_S * self._random.uniform(1, 2)
        if len(collection.pieces) == header.pieces:
            self._collection = None
            packed = b"".join(collection.pieces[place] for place in range(header.pieces))
            try:
                document = checked(header, packed)
            except DocumentRefused as refusal:
                self.refused[refusal.wrong] += 1
            else:
                self._complete(document, now, unix_ms)

    def _complete(self, theirs: Document, now: float, unix_ms: int) -> None:
        own = self.document
        newer = own is None or theirs.header.rank > own.header.rank
        if newer:
            if (
                own is not None
                and self._merge is not None
                and not self.leads
                and self._perhaps_unseen(own, theirs)
            ):
                self._former, self._former_at = own, now + self._moment()
            self._take(theirs, ours=False)
            self._confirmed = self.leader or "", theirs.header.rank
            self._confirm_at = now + self._moment() / 4
        self._know(theirs)
        if self._merge is None or not self.leads or own is None:
            return
        assert self.document is not None
        body = self._merge(own.body(), theirs.body())
        if body != self.document.body():
            self.counts["merged"] += 1
            self.change(body, now, unix_ms)

    def _perhaps_unseen(self, own: Document, theirs: Document) -> bool:
        """Whether the group may go on from ``theirs`` without ever having seen what we had."""
        if own.header.number == theirs.header.number:
            return True
        return own.header.by == self.own_id and self.holders() == {self.own_id}

    def _take(self, document: Document, *, ours: bool) -> None:
        self.document = document
        self._know(document)
        self._outgoing.clear()
        self._send_at = NEVER
        collection = self._collection
        if collection is not None and collection.header.rank <= document.header.rank:
            self._collection = None
        self.counts["taken"] += 1
        self._deeds.append(Keep(document, ours))
