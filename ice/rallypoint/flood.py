"""Keeping the ledger the same everywhere: floods, summaries, requests.

A new word of an origin is passed to every neighbour but the one it came from, as the bytes it came in, when it is first heard.  A link loses
nothing while it lives, and keeps the order; so this is all there is to do in a mesh that stands.  The rest is for links that come up, for
Rallypoints that refuse or forget something, and for bugs: a summary of the numbers held shows the far side what to send.

What has changed is collected in :attr:`Flood.changed` and :attr:`Flood.keys_changed` for whoever draws conclusions (:mod:`ice.rallypoint.mesh`).
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar
from uuid import UUID

from ice.link.frame import HEADER, FrameType
from ice.link.peer import (
    MAX_FORMER,
    PART_BYTES,
    SALT_BYTES,
    Ack,
    Delta,
    Digest,
    Entry,
    Full,
    PeerFrameError,
    State,
    StateRequest,
    Summary,
    ack,
    delta,
    digest,
    digest_of,
    full,
    interest_message,
    interest_request,
    parse_interest,
    parse_topology,
    state,
    state_core,
    state_request,
    summary,
    topology_message,
)
from ice.rallypoint.interest import Interest
from ice.rallypoint.ledger import Ledger, Refused, Sign
from ice.rallypoint.neighbours import (
    DIGEST_EVERY_S,
    Assembly,
    End,
    Neighbour,
    Notice,
    Output,
    Send,
)
from ice.rallypoint.topology import Record

#: An origin to which no way is known is forgotten after this long: a partition that heals sooner costs nothing.
FORGET_S = 60.0
#: So long after the way to it was lost, or after it was heard of, an origin is still offered to neighbours.
OFFER_S = 10.0
#: What was refused for its rate is asked for again after this long.
REPAIR_S = 1.0
#: A Rallypoint that hears what it never said of itself takes a new origin, but not more often than this.
REBORN_EVERY_S = 10.0

#: Stream ids remembered of one full interest that is being put together; names are for people, routing needs none.
MAX_NAMES = 16_384

LinkT = TypeVar("LinkT", bound=Hashable)


class Flood(Generic[LinkT]):
    """One Rallypoint's part in the flood."""

    def __init__(
        self,
        id: UUID,
        certificate: bytes,
        sign: Sign,
        ledger: Ledger,
        *,
        leaf: bool,
        random_bytes: Callable[[int], bytes],
        now: float,
    ) -> None:
        self.id = id
        self.leaf = leaf
        self.ledger = ledger
        self.neighbours: dict[LinkT, Neighbour[LinkT]] = {}
        self.out: list[Output[LinkT]] = []
        #: UUIDs of which some origin has changed, come or gone; keys whose interest has.
        self.changed: set[UUID] = set()
        self.keys_changed: set[int] = set()
        #: Our own state is not what it should say.
        self.restate = False
        #: We have taken a new origin since this was last looked at.
        self.reborn = False
        #: A link has come, gone, or turned out to lead to another origin.
        self.links_changed = False
        #: TOPOLOGY and INTEREST frames handed to links, and their bytes.
        self.sent = 0
        self.sent_bytes = 0
        self._sign = sign
        self._random_bytes = random_bytes
        self._reborn_at = float("-inf")
        #: Origins of which a neighbour and we may hold different words, because one of us was asked or told too often: when to compare.
        self._repairs: dict[tuple[LinkT, int], float] = {}
        #: Origins that we no longer are, or never were; the newest last.
        self._former: list[int] = []
        self.own = self._begin(certificate, now)

    @property
    def records(self) -> dict[int, Record]:
        """Every origin, ours included."""
        return self.ledger.records

    # -- our own word --------------------------------------------------------------------------------------------------

    def say_state(self, links: dict[int, int]) -> None:
        """Say who we are linked to now."""
        self._restated(self.own, links)
        self._spread_state(self.own, None)

    def say_interest(self, added: Iterable[int], removed: Iterable[int], ids: dict[int, str]) -> None:
        """Say what we want now, and what no longer."""
        own, added, removed = self.own, tuple(added), tuple(removed)
        number = own.interest.number + 1
        interest = own.interest.after(added, removed, number, b"")
        assert interest is not None, "our own wishes are counted"
        self._sign_interest(interest)
        base = own.interest.number
        self._now_wants(own, interest, added, removed)
        names = {key: ids[key] for key in added if key in ids}
        self.ledger.wanted.name(names)
        said = Delta(own.origin, base, number, len(interest), added, removed, names, interest.signature)
        self._spread(delta(said), own, None)

    def renew(self, certificate: bytes, sign: Sign) -> None:
        """Go on under a new certificate of the same UUID, and perhaps with another key."""
        own = self.own
        own.former_certificate, own.certificate = own.certificate, certificate
        self._sign = sign
        self._untell(own.origin)
        self.say_state(own.state.links)
        self.say_interest((), (), {})

    # -- links ---------------------------------------------------------------------------------------------------------

    def up(self, neighbour: Neighbour[LinkT]) -> None:
        """A link stands."""
        self.neighbours[neighbour.link] = neighbour
        self.links_changed = True
        neighbour.told.add(self.own.origin)
        self._send(neighbour, self._state(self.own, certified=True, own=True))
        self._send(neighbour, summary(self._entries(), complete=True))

    def down(self, link: LinkT) -> Neighbour[LinkT] | None:
        """A link is gone."""
        neighbour = self.neighbours.pop(link, None)
        if neighbour is not None:
            self._repairs = {pair: due for pair, due in self._repairs.items() if pair[0] != link}
            self.restate = self.links_changed = True
        return neighbour

    def receive(self, neighbour: Neighbour[LinkT], frame: bytes, now: float) -> None:
        """One whole TOPOLOGY or INTEREST frame."""
        if neighbour.ending:
            return
        kind, body = frame[2], frame[HEADER.size :]
        try:
            said = parse_topology(body) if kind == FrameType.TOPOLOGY else parse_interest(body)
            if isinstance(said, State):
                self._heard_state(neighbour, said, frame, now)
            elif isinstance(said, Delta):
                self._heard_delta(neighbour, said, frame, now)
            elif isinstance(said, Full):
                self._heard_full(neighbour, said, now)
            elif isinstance(said, Ack):
                self._heard_ack(neighbour, said)
            elif isinstance(said, Summary):
                self._heard_summary(neighbour, said, now)
            elif isinstance(said, Digest):
                self._heard_digest(neighbour, said, now)
            elif isinstance(said, StateRequest):
                self._asked_state(neighbour, said.origin, now)
            else:
                self._asked_interest(neighbour, said.origin, now)
        except PeerFrameError as error:
            points = 0 if error.reason == "unsupported" else 2
            self.refuse(neighbour, Refused(error.reason, points, str(error)), now)
        except Refused as refused:
            self.refuse(neighbour, refused, now)

    def refuse(self, neighbour: Neighbour[LinkT], refused: Refused, now: float) -> None:
        """Count, charge, and end a link that has gone too far."""
        self.ledger.refused[refused.reason] += 1
        if refused.points and neighbour.fault(refused.points, now):
            neighbour.ending = True
            self.out.append(End(neighbour.link, "refused", f"too much of it was refused, lastly: {refused}"))
            self.out.append(Notice("faults", neighbour.id, f"{refused.reason}: {refused}"))

    def forget(self, record: Record) -> None:
        """An origin is no more."""
        self.keys_changed.update(self.ledger.forget(record))
        self.changed.add(record.id)
        self._untell(record.origin)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """What is due by time alone."""
        while self._repairs:
            pair, due = next(iter(self._repairs.items()))  # the first that was noted is the first that is due
            if due > now:
                break
            del self._repairs[pair]
            record, neighbour = self.records.get(pair[1]), self.neighbours.get(pair[0])
            if record is not None and neighbour is not None:
                self._send(neighbour, summary([_entry(record)], ask=True))
        value = b""
        for neighbour in self.neighbours.values():
            if neighbour.digest_at <= now:
                value = value or self._digest()
                self._send(neighbour, digest(value))
                neighbour.digest_at = now + DIGEST_EVERY_S

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do."""
        digests = (neighbour.digest_at for neighbour in self.neighbours.values())
        return min(next(iter(self._repairs.values()), float("inf")), min(digests, default=float("inf")))

    # -- hearing -------------------------------------------------------------------------------------------------------

    def _heard_state(self, neighbour: Neighbour[LinkT], said: State, frame: bytes, now: float) -> None:
        origin = said.origin
        if origin == self.own.origin:
            self._heard_ourselves(said, now)
            return
        try:
            record = self.ledger.state(said, now)
        except Refused as refused:
            if refused.reason == "unknown-origin" and neighbour.first("ask state", origin, now, self._bound):
                self._send(neighbour, state_request(origin))
            elif refused.reason == "rate":
                self._repair(neighbour, origin, now)
            elif refused.reason == "superseded" and said.own and said.id == neighbour.id:
                self.out.append(End(neighbour.link, "replaced", str(refused)))
            raise
        neighbour.told.add(origin)
        if record is not None:
            renewed = (
                said.certificate and record.former_certificate and said.certificate == record.certificate
            )
            if renewed:
                self._untell(origin, but=neighbour)
            self.changed.add(said.id)
            if said.id == self.id and origin not in self.own.state.former:
                self._disown(origin)
                self.say_state(self.own.state.links)
            self._spread_state(self.records[origin], neighbour)
        if said.own:
            self._bind(neighbour, said, now)

    def _bind(self, neighbour: Neighbour[LinkT], said: State, now: float) -> None:
        """The far end of a link says which origin it is."""
        if said.id != neighbour.id:
            raise Refused("identity", 9, f"the link of {neighbour.id} says it is {said.id}")
        if neighbour.leaf and not said.leaf:
            raise Refused("role", 9, f"{neighbour.name} was let in as a leaf and says it is none")
        if neighbour.origin != said.origin:
            neighbour.origin = said.origin
            neighbour.acknowledged = 0
            self.restate = self.links_changed = True
        neighbour.carrier.only = said.origin if said.leaf else None
        for other in self.neighbours.values():
            if other is not neighbour and other.id == neighbour.id:
                self.out.append(
                    End(other.link, "replaced", "another link to the same Rallypoint has been opened")
                )

    def _heard_ourselves(self, said: State, now: float) -> None:
        """Our own state comes back.  What we never said was said by a copy of us, or by us before our memory was set back."""
        own = self.own
        if said.number < own.state.number or said.core == own.state.core:
            self.ledger.seen += 1
            return
        if not self.ledger.signed_state(own, said):
            raise Refused("forged", 4, "a state of ours that we have not signed")
        self._be_reborn(now)

    def _heard_delta(self, neighbour: Neighbour[LinkT], said: Delta, frame: bytes, now: float) -> None:
        if said.origin == self.own.origin:
            if said.number > self.own.interest.number:
                self._ask_interest(neighbour, said.origin, now)  # the whole can be proved
            return
        try:
            accepted = self.ledger.delta(said, now)
        except Refused as refused:
            if refused.reason == "gap":
                self._ask_interest(neighbour, said.origin, now)
            elif refused.reason == "unknown-origin":
                if neighbour.first("ask state", said.origin, now, self._bound):
                    self._send(neighbour, state_request(said.origin))
            elif refused.reason == "rate":
                self._repair(neighbour, said.origin, now)
            raise
        if accepted is not None:
            record, interest = accepted
            self._now_wants(record, interest, said.added, said.removed)
            self.ledger.wanted.name(said.ids)
            self._spread(frame, record, neighbour)
        self._acknowledge(neighbour, said.origin)

    def _heard_full(self, neighbour: Neighbour[LinkT], said: Full, now: float) -> None:
        """Parts follow each other; a part of something else, or out of turn, ends what was being put together."""
        held = self.records.get(said.origin)
        if said.count > self.ledger.bounds.keys:
            raise Refused("limit-keys", 1, f"{said.count} streams")
        if held is not None and said.number <= held.interest.number:
            self.ledger.seen += 1
            self._acknowledge(neighbour, said.origin)
            return
        if said.part == 0:
            neighbour.assembly = Assembly(said.origin, said.number, said.count, said.parts)
            # Nothing is held of a neighbour but what it is saying now: 8 bytes for each of at most bounds.keys keys, and names.
        parts = neighbour.assembly
        if (
            parts is None
            or (parts.origin, parts.number, parts.count, parts.parts, parts.next_part)
            != (said.origin, said.number, said.count, said.parts, said.part)
            or len(parts.keys) + len(said.keys) > said.count
            or (parts.keys and said.keys and parts.keys[-1] >= said.keys[0])
        ):
            neighbour.assembly = None
            raise Refused("malformed", 2, "parts of a full interest that do not follow each other")
        parts.keys.extend(said.keys)
        if len(parts.ids) < MAX_NAMES:
            parts.ids.update(said.ids)
        parts.next_part += 1
        if parts.next_part < parts.parts:
            return
        neighbour.assembly = None
        if len(parts.keys) != said.count:
            raise Refused("malformed", 2, f"{len(parts.keys)} keys where {said.count} were promised")
        interest = Interest(parts.keys, said.number, said.signature)
        if said.origin == self.own.origin:
            if not self.ledger.signed_interest(self.own, interest):
                raise Refused("forged", 4, "an interest of ours that we have not signed")
            self._be_reborn(now)
            return
        try:
            record = self.ledger.full(said.origin, interest, now)
        except Refused as refused:
            if refused.reason == "rate":
                self._repair(neighbour, said.origin, now)
            raise
        if record is not None:
            self._now_wants(record, interest, *interest.against(record.interest))
            self.ledger.wanted.name(parts.ids)
            # Others may have missed it as we have: they are told the number, and ask if they lack it.
            self._spread(summary([_entry(record)], ask=True), record, neighbour)
        self._acknowledge(neighbour, said.origin)

    def _heard_ack(self, neighbour: Neighbour[LinkT], said: Ack) -> None:
        if said.origin == self.own.origin:
            neighbour.acknowledged = max(neighbour.acknowledged, min(said.number, self.own.interest.number))

    def _heard_summary(self, neighbour: Neighbour[LinkT], said: Summary, now: float) -> None:
        if said.complete and not neighbour.may_summarize(now):
            raise Refused("rate", 1, "summaries too often")
        listed = {entry.origin: entry for entry in said.entries}
        if said.complete:
            neighbour.listening = True
            neighbour.told = {origin for origin, entry in listed.items() if entry.topology}
        mine = self.own.origin
        if mine in listed:
            if listed[mine].topology > self.own.state.number:
                self._ask_state(neighbour, mine, now)
            elif listed[mine].interest > self.own.interest.number:
                self._ask_interest(neighbour, mine, now)
            else:
                neighbour.acknowledged = max(neighbour.acknowledged, listed[mine].interest)
        lacking: list[Entry] = []
        for record in list(self.records.values()) if said.complete else self._those(listed):
            entry = listed.get(record.origin, Entry(record.origin, 0, 0))
            if self._offers(record, now):
                self._offer(neighbour, record, entry, now)
            if entry.topology > record.state.number or entry.interest > record.interest.number:
                lacking.append(_entry(record))
        if said.ask:
            lacking += [Entry(origin, 0, 0) for origin in listed if origin not in self.records]
            if lacking:
                self._send(neighbour, summary(lacking))
        if said.complete:
            self._send(neighbour, digest(self._digest()))
            neighbour.digest_at = now + DIGEST_EVERY_S

    def _heard_digest(self, neighbour: Neighbour[LinkT], said: Digest, now: float) -> None:
        if not neighbour.ready:
            neighbour.ready = self.restate = True
        elif said.value != self._digest() and neighbour.first("summary", 0, now, self._bound):
            self._send(neighbour, summary(self._entries(), complete=True, ask=True))

    def _asked_state(self, neighbour: Neighbour[LinkT], origin: int, now: float) -> None:
        record = self.records.get(origin)
        if record is not None and neighbour.first("say state", origin, now, self._bound):
            neighbour.told.discard(origin)
            self._offer(neighbour, record, Entry(origin, 0, 0), now)

    def _asked_interest(self, neighbour: Neighbour[LinkT], origin: int, now: float) -> None:
        record = self.records.get(origin)
        if record is not None and neighbour.first("say interest", origin, now, self._bound):
            self._send_full(neighbour, record)

    def _now_wants(
        self, record: Record, interest: Interest, added: Iterable[int], removed: Iterable[int]
    ) -> None:
        self.ledger.wants(record, interest, added, removed)
        self.keys_changed.update(added, removed)

    # -- saying --------------------------------------------------------------------------------------------------------

    @property
    def _bound(self) -> int:
        return 4 * self.ledger.bounds.origins

    def _begin(self, certificate: bytes, now: float) -> Record:
        """Our record under a new origin."""
        salt = self._random_bytes(SALT_BYTES)
        record = Record(State(self.id, salt, 0, self.leaf, {}, {}, (), b""), certificate, now)
        self.ledger.put(record)
        self._restated(record, {})
        return record

    def _disown(self, origin: int) -> None:
        self._former = [*self._former, origin][-MAX_FORMER:]

    def _restated(self, own: Record, links: dict[int, int]) -> None:
        """Our record with its next number, and with the round trips as they are now."""
        was = own.state
        number, past = was.number + 1, tuple(sorted(self._former))
        measured = {n.origin: n.round_trip for n in self.neighbours.values() if n.round_trip}
        timed = {origin: measured[origin] for origin in links if origin in measured}
        core = state_core(self.id, was.salt, number, self.leaf, links, past, timed)
        signature = self._sign(topology_message(core))
        own.state = State(self.id, was.salt, number, self.leaf, dict(links), timed, past, core, signature)
        self.changed.add(self.id)

    def _sign_interest(self, interest: Interest) -> None:
        message = interest_message(self.own.origin, interest.number, len(interest), interest.digest)
        interest.signature = self._sign(message)

    def _be_reborn(self, now: float) -> None:
        """Take a new origin, with the same neighbours and wishes."""
        if now - self._reborn_at < REBORN_EVERY_S:
            return
        self._reborn_at = now
        was = self.own
        self.out.append(
            Notice(
                "reborn",
                self.id,
                "the mesh has heard from us what this process never said: it is a copy of another, or was set back to "
                "an earlier state; it goes on as a new origin",
            )
        )
        keys = list(was.interest.keys)
        names = {key: self.ledger.wanted.ids[key] for key in keys if key in self.ledger.wanted.ids}
        self.forget(was)
        self._disown(was.origin)
        self.own = self._begin(was.certificate, now)
        self.reborn = self.restate = True
        for neighbour in self.neighbours.values():
            neighbour.acknowledged = 0
            neighbour.told.add(self.own.origin)
            self._send(neighbour, self._state(self.own, certified=True, own=True))
        step = PART_BYTES // 300
        for at in range(0, len(keys), step):
            self.say_interest(keys[at : at + step], (), names)

    def _state(self, record: Record, *, certified: bool, own: bool = False) -> bytes:
        certificate = record.certificate if certified else b""
        return state(record.state.core, record.state.signature, certificate, own=own)

    def _spread_state(self, record: Record, but: Neighbour[LinkT] | None) -> None:
        own = record is self.own
        if self.leaf and not own:
            return
        for neighbour in self.neighbours.values():
            if neighbour is not but and (own or neighbour.listening):
                certified = record.origin not in neighbour.told
                neighbour.told.add(record.origin)
                self._send(neighbour, self._state(record, certified=certified, own=own))

    def _spread(self, frame: bytes, record: Record, but: Neighbour[LinkT] | None) -> None:
        """To all neighbours that know the origin; who does not will be sent the whole when its summary shows it."""
        if self.leaf and record is not self.own:
            return
        for neighbour in self.neighbours.values():
            if neighbour is not but and neighbour.listening and record.origin in neighbour.told:
                self._send(neighbour, frame)

    def _offers(self, record: Record, now: float) -> bool:
        if self.leaf and record is not self.own:
            return False
        return record.forget_at is None or now < record.forget_at - FORGET_S + OFFER_S

    def _offer(self, neighbour: Neighbour[LinkT], record: Record, entry: Entry, now: float) -> None:
        """Send what ``entry`` lacks of ``record``."""
        if entry.topology < record.state.number:
            certified = entry.topology == 0 or record.origin not in neighbour.told
            neighbour.told.add(record.origin)
            self._send(neighbour, self._state(record, certified=certified, own=record is self.own))
        if entry.interest < record.interest.number:
            if neighbour.first("say interest", record.origin, now, self._bound):
                self._send_full(neighbour, record)
            else:
                self._repair(neighbour, record.origin, now)

    def _repair(self, neighbour: Neighbour[LinkT], origin: int, now: float) -> None:
        self._repairs.setdefault((neighbour.link, origin), now + REPAIR_S)

    def _send_full(self, neighbour: Neighbour[LinkT], record: Record) -> None:
        interest = record.interest
        frames = full(
            record.origin, interest.number, interest.keys, self.ledger.wanted.ids, interest.signature
        )
        for frame in frames:
            self._send(neighbour, frame)

    def _acknowledge(self, neighbour: Neighbour[LinkT], origin: int) -> None:
        record = self.records.get(origin)
        if record is not None and neighbour.origin == origin:
            self._send(neighbour, ack(origin, record.interest.number))

    def _ask_interest(self, neighbour: Neighbour[LinkT], origin: int, now: float) -> None:
        if neighbour.first("ask interest", origin, now, self._bound):
            self._send(neighbour, interest_request(origin))

    def _ask_state(self, neighbour: Neighbour[LinkT], origin: int, now: float) -> None:
        if neighbour.first("ask state", origin, now, self._bound):
            self._send(neighbour, state_request(origin))

    def _untell(self, origin: int, but: Neighbour[LinkT] | None = None) -> None:
        for neighbour in self.neighbours.values():
            if neighbour is not but:
                neighbour.told.discard(origin)

    def _those(self, origins: Iterable[int]) -> Iterator[Record]:
        return (self.records[origin] for origin in origins if origin in self.records)

    def _entries(self) -> list[Entry]:
        return [_entry(record) for record in self.records.values()]

    def _digest(self) -> bytes:
        return digest_of(_entry(record) for record in self.records.values() if record.forget_at is None)

    def _send(self, neighbour: Neighbour[LinkT], frame: bytes) -> None:
        self.sent += 1
        self.sent_bytes += len(frame)
        self.out.append(Send(neighbour.link, frame))


def _entry(record: Record) -> Entry:
    return Entry(record.origin, record.state.number, record.interest.number)
