"""Which Rallypoint wants which streams: what others have said (:class:`Interest`, :class:`Wanted`) and what we say (:class:`Wishes`).

An origin's interest is a set of stream keys and a number.  Each change has the next number and is told as a delta; what is signed is
the number and the hash of the *whole* set, so that whoever holds the set can pass it on, proof included, to one who missed a delta.

A Rallypoint counts its own listeners per stream and tells the mesh of the first and the last only.  The first is told at once, with
everything else of the same turn; the last is told a second later, because people who leave a stream often come back to it.  Who
joins is told JOINED when the direct neighbours hold the change, after 250 ms at the latest.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import sha256

from ice.link.peer import PART_BYTES, cost_of

#: A stream that nobody here listens to any more is told to the mesh after this long.
LINGER_S = 1.0
#: JOINED waits for the neighbours this long at most (docs/link-protocol.md).
SETTLE_S = 0.25
#: What one change of an interest costs all who check it: the hash is over all of its keys.
KEYS_PER_FLOOD = 4_096
#: Stream ids remembered; of more streams only the keys are known, which is all that routing needs.
MAX_IDS = 131_072
_FEW = 64  # changes that are cheaper to insert one by one than to sort anew
_MAX_CHANGES = 4_096  # in one delta


class Interest:
    """What one origin wants: its keys, ascending; replaced by each accepted delta or full, never changed in place."""

    __slots__ = ("digest", "keys", "number", "signature")

    def __init__(self, keys: Iterable[int] = (), number: int = 0, signature: bytes = b"") -> None:
        self.keys = keys if isinstance(keys, array) else array("Q", sorted(keys))
        self.number = number
        self.signature = signature
        self.digest = _digest(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        at = bisect_left(self.keys, key)
        return at < len(self.keys) and self.keys[at] == key

    def after(
        self, added: Iterable[int], removed: Iterable[int], number: int, signature: bytes
    ) -> "Interest | None":
        """This interest with a delta applied; None when it adds what is there or removes what is not."""
        added, removed = tuple(added), tuple(removed)
        if any(key in self for key in added) or not all(key in self for key in removed):
            return None
        if len(added) + len(removed) > _FEW:
            return Interest((set(self.keys) | set(added)) - set(removed), number, signature)
        keys = array("Q", self.keys)
        for key in removed:
            del keys[bisect_left(keys, key)]
        for key in added:
            keys.insert(bisect_left(keys, key), key)
        return Interest(keys, number, signature)

    def against(self, other: "Interest") -> tuple[list[int], list[int]]:
        """The keys that this one has and ``other`` has not, and the other way round."""
        mine, theirs = set(self.keys), set(other.keys)
        return list(mine - theirs), list(theirs - mine)


def weight_of(keys: int) -> float:
    """What a change of an interest of so many keys counts for, in floods."""
    return 1 + keys / KEYS_PER_FLOOD


def _digest(keys: "array[int]") -> bytes:
    if sys.byteorder == "little":
        keys = array("Q", keys)
        keys.byteswap()
    return sha256(keys).digest()


class Wanted:
    """The origins that want each stream, ours among them, and the ids of streams as far as they were told."""

    def __init__(self) -> None:
        self._origins: dict[int, tuple[int, ...]] = {}
        #: Stream ids by key, of streams that somebody wants.
        self.ids: dict[int, str] = {}
        #: Keys held, summed over all origins.
        self.held = 0
        #: Ids refused because another id with the same key is in use.
        self.collisions = 0

    def __len__(self) -> int:
        return len(self._origins)

    def __iter__(self) -> Iterator[int]:
        return iter(self._origins)

    def origins(self, key: int) -> tuple[int, ...]:
        """Who wants the stream."""
        return self._origins.get(key, ())

    def change(self, origin: int, added: Iterable[int], removed: Iterable[int]) -> None:
        """``origin`` wants ``added`` now, and ``removed`` no longer."""
        for key in added:
            there = self._origins.get(key)
            self._origins[key] = (origin,) if there is None else (*there, origin)
            self.held += 1
        for key in removed:
            left = tuple(other for other in self._origins[key] if other != origin)
            self.held -= 1
            if left:
                self._origins[key] = left
            else:
                del self._origins[key]
                self.ids.pop(key, None)

    def name(self, ids: dict[int, str]) -> None:
        """Remember stream ids; the first of two with the same key stays."""
        for key, stream_id in ids.items():
            if len(self.ids) >= MAX_IDS:
                return
            if key in self._origins and self.ids.setdefault(key, stream_id) != stream_id:
                self.collisions += 1


class Wishes:
    """What this Rallypoint's own listeners want, and what of it the mesh has not been told yet."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._ids: dict[int, str] = {}
        self._added: dict[int, None] = {}
        #: Streams without listeners: when that is told.
        self._leaving: dict[int, float] = {}
        #: Streams whose JOINED waits: until when, and for which number; None until it is told.
        self._waiting: dict[int, tuple[float, int | None]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def keys(self) -> Iterable[int]:
        """Streams with listeners."""
        return self._counts.keys()

    @property
    def ids(self) -> dict[int, str]:
        """Their ids, and those of streams left within a second."""
        return self._ids

    def want(self, key: int, stream_id: str, now: float) -> bool:
        """One listener more; whether the neighbours know already.  If not, :meth:`settle` will name the key."""
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        if not count and self._leaving.pop(key, None) is None:
            self._ids[key] = stream_id
            self._added[key] = None
            self._waiting[key] = (now + SETTLE_S, None)
        return key not in self._waiting

    def unwant(self, key: int, now: float) -> None:
        """One listener less."""
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        elif count:
            del self._counts[key]
            if key in self._added:
                del self._added[key], self._ids[key]
            else:
                self._leaving[key] = now + LINGER_S

    @property
    def news(self) -> bool:
        """Whether somebody waits for the mesh to be told."""
        return bool(self._added)

    def take(self, now: float) -> tuple[list[int], list[int]]:
        """Keys to add and to remove in one delta; call until both are empty."""
        added: list[int] = []
        size = 0
        for key in self._added:
            size += cost_of(self._ids[key])
            if size > PART_BYTES or len(added) >= _MAX_CHANGES:
                break
            added.append(key)
        for key in added:
            del self._added[key]
        # The first to leave stands first: every key waits equally long.
        removed: list[int] = []
        if not added:
            for key, due in self._leaving.items():
                if due > now or len(removed) >= _MAX_CHANGES:
                    break
                removed.append(key)
            for key in removed:
                del self._leaving[key], self._ids[key]
        return added, removed

    def told(self, added: Iterable[int], number: int) -> None:
        """The mesh is being told of ``added`` under ``number``."""
        for key in added:
            if key in self._waiting:
                self._waiting[key] = (self._waiting[key][0], number)

    def settle(self, acknowledged: int | None, now: float) -> list[int]:
        """Streams whose JOINED need not wait longer; ``acknowledged``: the number that all neighbours hold, None: there are none."""
        done = [
            key
            for key, (until, number) in self._waiting.items()
            if until <= now
            or key not in self._counts
            or (number is not None and (acknowledged is None or number <= acknowledged))
        ]
        for key in done:
            del self._waiting[key]
        return done

    def settled(self, acknowledged: int | None) -> bool:
        """Whether :meth:`settle` has something to do whatever the time is."""
        return any(
            key not in self._counts
            or (number is not None and (acknowledged is None or number <= acknowledged))
            for key, (_, number) in self._waiting.items()
        )

    def renumber(self) -> None:
        """Numbers begin anew (a new origin): who waits for an old one waits for time alone."""
        self._waiting = {key: (until, None) for key, (until, _) in self._waiting.items()}

    @property
    def deadline(self) -> float:
        """When :meth:`take` or :meth:`settle` have something to do that time alone brings."""
        leaving = next(iter(self._leaving.values()), float("inf"))
        waiting = min((until for until, _ in self._waiting.values()), default=float("inf"))
        return min(leaving, waiting)
