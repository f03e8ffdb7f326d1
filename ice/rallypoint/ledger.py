"""Every origin's newest word, and who is believed.

A flood is believed because of its signature, made with the certificate of its origin, not because of who brought it.  What is refused has a
reason, a counter, and a price in points for the neighbour that brought it (:mod:`ice.rallypoint.neighbours`)::

    malformed         bytes that cannot be                                       2
    forged            the signature does not fit                                 4
    identity          a certificate that names another UUID, a link that leads to another   4, 9
    role              a link of the role leaf whose far side says it is none     9
    untrusted         no certificate of our authority's Rallypoints, or revoked  ½, once a minute for each origin
    absurd            it names itself, adds what is there, removes what is not   2
    absurd-number     a number beyond all numbers                                2
    limit-origins     more Rallypoints, or lives of one, than are held           0
    limit-keys        more streams than are held                                 1, or 0 where it is the sum that is too large
    rate              an origin changes faster than it may                       0
    stale             an older number than is held: floods cross each other      0
    gap               a delta that begins at another number: the whole is asked for
    unknown-origin    no certificate has come with it: the state is asked for
    superseded        an earlier life of a Rallypoint that has since begun another
    equivocation      two states under one number: a cloned machine

**Numbers** count up within one origin and mean nothing to any other; a signature is needed to say one, so nobody can use up another's.  An origin follows
from a UUID and a salt, so nobody can take another's either.  Clocks are not asked.

**Lives.**  A Rallypoint that starts anew is a new origin.  It soon hears its former states from its neighbours, and says from then on which origins
it no longer is; who hears this forgets them at once.  Two Rallypoints that run with one UUID at the same time each say that they are not the
other: both sentences cannot be true, everybody names the *twins*, and goes on with the lower origin as long as anybody is linked to it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import attrs

from ice.errors import RemoteError
from ice.link.peer import Delta, State, interest_message, topology_message
from ice.rallypoint.interest import Interest, Wanted, weight_of
from ice.rallypoint.topology import Record

Sign = Callable[[bytes], bytes]
"""Signs a message with the key of our certificate."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""Whether (certificate, message, signature) fit; the certificate is DER and has been identified."""
Identify = Callable[[bytes], UUID]
"""The UUID of a certificate (DER) of one of our authority's Rallypoints that may be believed now; raises RemoteError."""

#: Floods of one origin that are accepted at once, and how many more each second: an honest one keeps to 30.  A large interest counts
#: for several.
ALLOWANCE = 200.0
ALLOWANCE_PER_S = 60.0
#: Origins of one UUID that are held at once: its life, an earlier one not yet disowned, and twins.
MAX_LIVES = 4
DISTRUST_S = 60.0
_MAX_DISTRUSTED = 256


@attrs.frozen
class Bounds:
    """What is held at most.

    :ivar origins: Rallypoints of the mesh; each costs about 2 kB and its keys.
    :ivar keys: streams that one origin may want.
    :ivar keys_in_all: the same, summed over all origins; each costs 100 to 200 bytes.
    """

    origins: int = 1_024
    keys: int = 131_072
    keys_in_all: int = 1_048_576


class Refused(RemoteError):
    """A flood is not believed; ``points``: what it costs its sender."""

    def __init__(self, reason: str, points: float, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.points = points


class Ledger:
    """Records of all origins, our own included."""

    def __init__(self, identify: Identify, verify: Verify, bounds: Bounds) -> None:
        self.bounds = bounds
        self.records: dict[int, Record] = {}
        self.wanted = Wanted()
        #: Floods refused, by reason; and those that brought nothing new.
        self.refused: Counter[str] = Counter()
        self.seen = 0
        self.accepted = 0
        self._identify = identify
        self._verify = verify
        self._lives: dict[UUID, list[int]] = {}
        self._distrusted: dict[int, float] = {}

    # -- states --------------------------------------------------------------------------------------------------------

    def state(self, said: State, now: float) -> Record | None:
        """The record that ``said`` makes or changes; None when it says nothing new.  Raises :class:`Refused`."""
        origin = said.origin
        record = self.records.get(origin)
        if record is not None and said.core == record.state.core:
            self.seen += 1
            return None
        if origin in said.links or origin in said.former:
            raise Refused("absurd", 2, "a state that names its own origin")
        if record is None:
            certificate = self._newcomer(said, origin, now)
        else:
            if said.number < record.state.number:
                raise Refused(
                    "stale", 0, f"number {said.number} of {record.name}; {record.state.number} is held"
                )
            certificate = record.certificate
            if said.certificate and said.certificate != certificate:
                self._identified(said, now)
                certificate = said.certificate
            self._allowed(record, now)
        message = topology_message(said.core)
        if not self._verify(certificate, message, said.signature) and not (
            record is not None and self._signed(record, message, said.signature)
        ):
            raise Refused("forged", 4, f"a state of {said.id} that its certificate has not signed")
        if record is None:
            record = self._open(Record(said, certificate, now))
        elif said.number == record.state.number and said.core < record.state.core:
            raise Refused("equivocation", 0, f"two states of {record.name} under one number")
        elif certificate != record.certificate:
            record.former_certificate, record.certificate = record.certificate, certificate
        record.state = said
        record.allowance -= 1
        self.accepted += 1
        return record

    def put(self, record: Record) -> None:
        """Our own record."""
        self.records[record.origin] = record
        self._lives.setdefault(record.id, []).append(record.origin)

    def forget(self, record: Record) -> list[int]:
        """Forget an origin; returns the keys that it wanted."""
        keys = list(record.interest.keys)
        self.wanted.change(record.origin, (), keys)
        del self.records[record.origin]
        lives = self._lives[record.id]
        lives.remove(record.origin)
        if not lives:
            del self._lives[record.id]
        return keys

    def lives(self, id: UUID) -> Iterator[Record]:
        """All origins of one UUID that are held."""
        return (self.records[origin] for origin in self._lives.get(id, ()))

    def outranked(self, record: Record) -> Record | None:
        """The origin of the same UUID that this one has to give way to."""
        if len(self._lives.get(record.id, ())) < 2:
            return None
        for other in self.lives(record.id):
            if other is record or record.origin not in other.state.former:
                continue
            if other.origin not in record.state.former:
                return other
            if other.origin < record.origin and self._linked(other):
                return other
        return None

    def reconsider(self) -> list[Record]:
        """Records whose certificate is not believed any more (a revocation, an authority gone)."""
        lost = []
        for record in self.records.values():
            try:
                self._identify(record.certificate)
            except RemoteError:
                lost.append(record)
        self._distrusted.clear()
        return lost

    # -- interest ------------------------------------------------------------------------------------------------------

    def delta(self, said: Delta, now: float) -> tuple[Record, Interest] | None:
        """The interest that a delta leads to; None when it is not new.  Raises :class:`Refused`."""
        record = self._known(said.origin)
        if said.number <= record.interest.number:
            self.seen += 1
            return None
        if said.base != record.interest.number:
            raise Refused("gap", 0, f"a delta from {said.base}; {record.interest.number} is held")
        self._fits(record, said.count)
        interest = record.interest.after(said.added, said.removed, said.number, said.signature)
        if interest is None or len(interest) != said.count:
            raise Refused("absurd", 2, "a delta that adds what is there, or removes what is not")
        self._accept(record, interest, now)
        return record, interest

    def full(self, origin: int, interest: Interest, now: float) -> Record | None:
        """The record whose whole interest this is; None when it is not new.  Raises :class:`Refused`."""
        record = self._known(origin)
        if interest.number <= record.interest.number:
            self.seen += 1
            return None
        self._fits(record, len(interest))
        self._accept(record, interest, now)
        return record

    def wants(self, record: Record, interest: Interest, added: Iterable[int], removed: Iterable[int]) -> None:
        """Let an accepted interest be the present one, and its difference from the last be known."""
        self.wanted.change(record.origin, added, removed)
        record.interest = interest

    def signed_interest(self, record: Record, interest: Interest) -> bool:
        """Whether the origin has signed this interest."""
        message = interest_message(record.origin, interest.number, len(interest), interest.digest)
        return self._signed(record, message, interest.signature)

    def signed_state(self, record: Record, said: State) -> bool:
        """Whether the origin has signed this state."""
        return self._signed(record, topology_message(said.core), said.signature)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _newcomer(self, said: State, origin: int, now: float) -> bytes:
        """The certificate of an origin that is not held yet."""
        if self._distrusted.get(origin, 0.0) > now:
            raise Refused("untrusted", 0, f"{said.id} was not believed a moment ago")
        for other in self.lives(said.id):
            if origin in other.state.former and other.origin not in said.former:
                raise Refused("superseded", 0, f"{other.name} has begun another life since")
        if not said.certificate:
            raise Refused("unknown-origin", 0, f"a state of {said.id} without its certificate")
        if len(self.records) >= self.bounds.origins:
            raise Refused("limit-origins", 0, f"{self.bounds.origins} origins are held")
        self._identified(said, now)
        lives = [self.records[o] for o in self._lives.get(said.id, ())]
        if len(lives) >= MAX_LIVES:
            raise Refused("limit-origins", 0, f"{MAX_LIVES} lives of {said.id} are held")
        return said.certificate

    def _identified(self, said: State, now: float) -> None:
        try:
            id = self._identify(said.certificate)
        except RemoteError as error:
            if len(self._distrusted) >= _MAX_DISTRUSTED:
                self._distrusted.clear()
            self._distrusted[said.origin] = now + DISTRUST_S
            raise Refused("untrusted", 0.5, str(error)) from None
        if id != said.id:
            raise Refused("identity", 4, f"a state of {said.id} with the certificate of {id}")

    def _open(self, record: Record) -> Record:
        record.allowance = ALLOWANCE
        self.put(record)
        return record

    def _known(self, origin: int) -> Record:
        record = self.records.get(origin)
        if record is None:
            raise Refused("unknown-origin", 0, "the interest of an origin that has not introduced itself")
        return record

    def _fits(self, record: Record, count: int) -> None:
        if count > self.bounds.keys:
            raise Refused("limit-keys", 1, f"{record.name} wants {count} streams")
        if self.wanted.held - len(record.interest) + count > self.bounds.keys_in_all:
            raise Refused("limit-keys", 0, f"{self.bounds.keys_in_all} keys are held")

    def _accept(self, record: Record, interest: Interest, now: float) -> None:
        weight = weight_of(len(interest))
        self._allowed(record, now, weight)
        if not self.signed_interest(record, interest):
            raise Refused("forged", 4, f"an interest of {record.name} that it has not signed")
        record.allowance -= weight
        self.accepted += 1

    def _allowed(self, record: Record, now: float, weight: float = 1.0) -> None:
        earned = (now - record.allowance_at) * ALLOWANCE_PER_S
        record.allowance = min(ALLOWANCE, record.allowance + earned)
        record.allowance_at = now
        if record.allowance < weight:
            raise Refused("rate", 0, f"{record.name} changes more than {ALLOWANCE_PER_S:.0f} times a second")

    def _signed(self, record: Record, message: bytes, signature: bytes) -> bool:
        return any(self._verify(known, message, signature) for known in record.certificates)

    def _linked(self, record: Record) -> bool:
        """Whether anybody else agrees to be linked to it."""
        return any(
            record.origin in other.state.links
            for other in self._those(record.state.links)
            if other.id != record.id
        )

    def _those(self, origins: Iterable[int]) -> Iterator[Record]:
        return (self.records[origin] for origin in origins if origin in self.records)
