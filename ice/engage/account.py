"""What became of every key of a file that is imported: nothing is swallowed, and nothing is told twice.

A :class:`Page` is one JSON object that is being gone through. Whoever reads a key says what becomes of it, and each key gets exactly one
:class:`Entry`, which speaks for everything below it too; :meth:`Page.close` accounts for the keys that nobody knew. An object that is
gone through itself (:meth:`Page.page`, :meth:`Page.pages`) has no entry of its own, unless it is empty. So of every value
in the file exactly one entry's place is the beginning of that value's place.

Values are told only where they are plainly harmless. Whatever may be a secret (a key, a password, a command line) is told
by its place alone.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final, TypeVar

import attrs

from ice.engage.kinds import Kind
from ice.mission.tolerant import Remark, Tolerant, child, kind

_T = TypeVar("_T")
Place = tuple[str | int, ...]
Key = tuple[str, ...]

RALLYPOINTS: Final[Key] = ("network", "rallypoints")
MAX_RALLYPOINTS: Final = 64  # that a client of ours may list


class Fate(StrEnum):
    """What became of a key."""

    TAKEN = "taken over"
    CHANGED = "taken over with a change"
    LEFT = "not taken over"


class Why(StrEnum):
    """Why a key was not taken over."""

    UNKNOWN = "unknown here"
    NOT_HERE = "does not apply"
    REFUSED = "refused for safety"
    WRONG = "not usable"
    STAYS = "stays where it is"
    ELSEWHERE = "given elsewhere"


@attrs.frozen
class Entry:
    """One line of the report.

    :ivar at: the place in the file, as keys and numbers.
    :ivar path: the same for people, like ``limits.maxClients``.
    :ivar ours: our key, like ``rallypoint.limits.links``; empty where there is none.
    :ivar text: what a person should know about it; may be empty.
    :ivar keys: how many values the entry speaks for.
    """

    at: Place
    path: str
    fate: Fate
    ours: str = ""
    why: Why | None = None
    text: str = ""
    keys: int = 1


@attrs.frozen
class Setting:
    """A value for one key of our configuration, and where it came from."""

    key: Key
    value: object
    at: Place
    path: str
    note: str = ""


@attrs.frozen
class Row:
    """One table for a list of tables of our configuration, like ``[[patches]]``.

    :ivar at: the place in the file that it was made from; when the row turns out not to be usable, nothing below that place is.
    :ivar notes: for comments above the table.
    """

    key: Key
    values: Mapping[str, object]
    at: Place
    path: str
    notes: tuple[str, ...] = ()


@attrs.frozen
class Inline:
    """A certificate or key that stands in the file itself.

    :ivar name: of the file that it may be written to.
    """

    name: str
    path: str
    data: bytes = attrs.field(repr=False)


@attrs.define
class Account:
    """Everything that was learned from one file.

    :ivar entries: in the order in which they were made; see :meth:`in_order`.
    :ivar steps: what a person must do by hand, each once.
    :ivar remarks: about the file as such: keys given twice.
    """

    source: str
    kind: Kind
    entries: list[Entry] = attrs.field(factory=list)
    settings: list[Setting] = attrs.field(factory=list)
    rows: list[Row] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)
    remarks: list[Remark] = attrs.field(factory=list)
    inline: list[Inline] = attrs.field(factory=list)
    #: The Rallypoint's own id and whether it is a leaf, for whoever makes a group of its peers.
    own_id: str = ""
    leaf: bool = False

    def step(self, text: str) -> None:
        """Something to do by hand; saying it twice does not double it."""
        if text not in self.steps:
            self.steps.append(text)

    def rallypoint(self, address: str, at: Place, path: str) -> bool:
        """A Rallypoint for clients; all that are found are one setting, each once. False: there are enough already."""
        for index, setting in enumerate(self.settings):
            if setting.key == RALLYPOINTS:
                assert isinstance(setting.value, list)
                if address in setting.value:
                    return True
                if len(setting.value) >= MAX_RALLYPOINTS:
                    return False
                self.settings[index] = attrs.evolve(setting, value=[*setting.value, address])
                return True
        self.settings.append(Setting(RALLYPOINTS, [address], at, path))
        return True

    def assume(self, key: Key, value: object, note: str) -> None:
        """A setting that stands in the file by being absent, or follows from another."""
        self.settings.append(Setting(key, value, (), "", note))

    def refuse(self, places: Mapping[Place, str], reason: Why = Why.WRONG) -> None:
        """What was taken from these places and below turned out not to be usable; say why in the entries."""
        for index, entry in enumerate(self.entries):
            if entry.fate is Fate.LEFT:
                continue
            for length in range(len(entry.at) + 1):
                if (why := places.get(entry.at[:length])) is not None:
                    self.entries[index] = attrs.evolve(entry, fate=Fate.LEFT, ours="", why=reason, text=why)
                    break

    def refuse_since(self, mark: int, why: str) -> None:
        """The same for all entries since there were ``mark`` of them."""
        for index in range(mark, len(self.entries)):
            entry = self.entries[index]
            if entry.fate is not Fate.LEFT:
                self.entries[index] = attrs.evolve(entry, fate=Fate.LEFT, ours="", why=Why.WRONG, text=why)

    def amend(self, texts: Mapping[Place, str], *, fate: Fate | None = None, since: int = 0) -> None:
        """Something more to know about what was taken from exactly these places."""
        for index in range(since, len(self.entries)):
            entry = self.entries[index]
            if entry.fate is not Fate.LEFT and (text := texts.get(entry.at)):
                both = "; ".join(part for part in (entry.text, text) if part)
                self.entries[index] = attrs.evolve(entry, fate=fate or entry.fate, text=both)

    def in_order(self, document: object) -> list[Entry]:
        """The entries in the order of the file."""
        order = {at: index for index, at in enumerate(places(document))}
        return sorted(self.entries, key=lambda entry: order.get(entry.at, len(order)))


class Page:
    """One JSON object, being gone through; reading a key settles what becomes of it unless the reader says so itself.

    The reading methods return None where the key is absent or unusable; what is unusable has got its entry already. What they
    return still wants one of :meth:`taken`, :meth:`changed` and :meth:`left`.
    """

    def __init__(self, value: Mapping[str, object], at: Place, path: str, account: Account) -> None:
        self.at = at
        self.path = path
        self.account = account
        self._object = Tolerant(value, path, [])
        self._settled: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return key in self._object

    def raw(self, key: str) -> object:
        """The value as it stands, or None."""
        return self._object.raw(key)

    def __iter__(self) -> Iterator[str]:
        """All keys of the object, in their order."""
        return iter(tuple(self._object.value))

    # -- reading

    def text(self, key: str, *, secret: bool = False) -> str | None:
        """A string."""
        return self._read(key, lambda: self._object.text(key, secret=secret))

    def whole(self, key: str, low: int | None = None, high: int | None = None) -> int | None:
        """A whole number."""
        return self._read(key, lambda: self._object.whole(key, 0, low, high))

    def number(self, key: str, low: float | None = None, high: float | None = None) -> float | None:
        """A number."""
        return self._read(key, lambda: self._object.number(key, 0.0, low, high))

    def flag(self, key: str) -> bool | None:
        """True or false."""
        return self._read(key, lambda: self._object.flag(key, False))

    def page(self, key: str) -> "Page | None":
        """An object, to be gone through; it must be closed."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(
            value, Mapping
        ):  # it may be a key that stands one level too high: not a letter of it is told
            self.left(key, Why.WRONG, f"expected an object, found {kind(value)}")
            return None
        self._settled.add(key)
        return Page(value, (*self.at, key), child(self.path, key), self.account)

    def pages(self, key: str) -> "list[Page] | None":
        """The objects of a list, each to be gone through; anything else in it is accounted for here."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self.left(key, Why.WRONG, f"expected a list, found {kind(value)}")
            return None
        if not value:
            self.taken(key, text="an empty list")
            return []
        self._settled.add(key)
        return pages_of(value, (*self.at, key), child(self.path, key), self.account)

    def strings(self, key: str) -> list[str] | None:
        """A list of strings; one that holds anything else is unusable as a whole, so that half of it is never taken for all."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.left(key, Why.WRONG, f"expected a list of text, found {_contents(value)}")
            return None
        return list(value)

    def _read(self, key: str, read: Callable[[], _T | None]) -> _T | None:
        if key not in self:
            return None
        self._object.remarks = []
        value = read()
        if self._object.remarks:
            self.left(key, Why.WRONG, _found(self._object.remarks[0].text))
            return None
        return value

    # -- settling

    def taken(self, key: str, ours: str = "", text: str = "") -> None:
        """The key means the same as ``ours``, or what always holds here."""
        self._settle(key, Fate.TAKEN, ours, None, text)

    def changed(self, key: str, ours: str, text: str) -> None:
        """The key is taken over, and not quite as it stands."""
        self._settle(key, Fate.CHANGED, ours, None, text)

    def left(self, key: str, why: Why, text: str, step: str = "") -> None:
        """The key is not taken over, with what to do instead."""
        self._settle(key, Fate.LEFT, "", why, text)
        if step and key in self:
            self.account.step(step)

    def set(self, key: str, ours: str, value: object, text: str = "", *, changed: bool = False) -> None:
        """Take the key over as the setting ``ours``, unless it is settled already."""
        if key in self._settled:
            return
        self._settle(key, Fate.CHANGED if changed else Fate.TAKEN, ours, None, text)
        self.account.settings.append(
            Setting(tuple(ours.split(".")), value, (*self.at, key), child(self.path, key), text)
        )

    def close(self, unknown: str = "", why: Why = Why.UNKNOWN) -> None:
        """Account for the keys that nobody settled."""
        if not self._object.value:
            self.account.entries.append(Entry(self.at, self.path, Fate.TAKEN, text="an empty object", keys=1))
        for key, value in self._object.value.items():
            if key in self._settled:
                continue
            if value is None:
                self.left(key, Why.NOT_HERE, "null, as if it were not there")
            elif key.startswith("_") and not unknown:
                self.left(key, Why.NOT_HERE, "a note of whoever wrote the file; nothing reads it")
            else:
                self.left(key, why, unknown)

    def _settle(self, key: str, fate: Fate, ours: str, why: Why | None, text: str) -> None:
        if key not in self._object.value or key in self._settled:
            return
        self._settled.add(key)
        value = self._object.value[key]
        self.account.entries.append(
            Entry((*self.at, key), child(self.path, key), fate, ours, why, text, leaves(value))
        )


def pages_of(values: list[object], at: Place, path: str, account: Account) -> list[Page]:
    """The objects of a list that stands at ``at``; anything else in it gets its entry."""
    found = []
    for index, each in enumerate(values):
        place, shown = (*at, index), f"{path}[{index}]"
        if isinstance(each, Mapping):
            found.append(Page(each, place, shown, account))
        else:
            text = f"expected an object, found {kind(each)}"
            account.entries.append(
                Entry(place, shown, Fate.LEFT, why=Why.WRONG, text=text, keys=leaves(each))
            )
    return found


def leaves(value: object) -> int:
    """How many values a value holds that hold none themselves; 1 for such a one."""
    return sum(1 for _ in leaf_places(value))


def leaf_places(value: object) -> Iterator[Place]:
    """The place of every value that holds no others: text, numbers, and what is empty."""
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        at, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            waiting += [((*at, key), each) for key, each in reversed(list(value.items()))]
        elif isinstance(value, list) and value:
            waiting += [((*at, index), each) for index, each in reversed(list(enumerate(value)))]
        else:
            yield at


def places(value: object) -> Iterator[Place]:
    """The place of every value, those that hold others before what they hold."""
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        at, value = waiting.pop()
        yield at
        if isinstance(value, Mapping):
            waiting += [((*at, key), each) for key, each in reversed(list(value.items()))]
        elif isinstance(value, list):
            waiting += [((*at, index), each) for index, each in reversed(list(enumerate(value)))]


def _found(remark: str) -> str:
    """A remark of the tolerant reader without what it took instead: here nothing is."""
    return remark.rpartition("; ")[0] or remark


def _contents(value: object) -> str:
    return "other things in it" if isinstance(value, list) else kind(value)
