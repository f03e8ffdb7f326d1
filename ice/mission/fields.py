"""How a class of the model and a JSON object are the same thing: one line per field, read and written by it.

``framing_ms: int = whole("framingMs", 60, 0, 1000)`` says the key, the default, the range. :func:`load` makes a value out of a
:class:`~ice.mission.tolerant.Tolerant`; :func:`dump` makes the JSON object again. The two lose nothing between them: every value
keeps the object that it was read from (``written``), and what has not been changed since is written as it stood there, in its place,
wrong values and legacy spellings included. What has changed is written anew; what nobody knows (``more``) is carried along.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs

from ice.mission.tolerant import Json, Tolerant

_SPEC: Final = "ice.mission"


class Unusable(Exception):
    """A value that must not be replaced by its default, for the default would be worse than nothing (a key, say)."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


@attrs.frozen
class Spec:
    """How a field stands in JSON.

    :ivar key: its name there.
    :ivar read: makes the value, its default included.
    :ivar write: makes the JSON value; None leaves the key out.
    :ivar legacy: older names of the key, of which the first that is there counts where the key itself is not.
    :ivar always: a new object has this key even where its value is the default.
    """

    key: str
    read: Callable[[Tolerant, str], Any]
    write: Callable[[Any], Json]
    legacy: tuple[str, ...] = ()
    always: bool = False

    def key_in(self, value: Mapping[str, Json]) -> str:
        """The name under which this field stands, or would stand, in an object."""
        if self.legacy and value.get(self.key) is None:
            return next((key for key in self.legacy if value.get(key) is not None), self.key)
        return self.key


NEW: Final[Mapping[str, Json]] = MappingProxyType(
    {}
)  # where nothing was read; an empty object was read is another


@attrs.frozen
class Part:
    """What all parts of a mission have.

    :ivar more: keys that are not known, as they came.
    :ivar written: the JSON object that this was read from;
        :data:`NEW` for what we made. Not to be changed, and no part of equality.
    """

    more: Mapping[str, Json] = attrs.field(factory=dict, kw_only=True, repr=False, hash=False)
    written: Mapping[str, Json] = attrs.field(default=NEW, kw_only=True, repr=False, eq=False)

    @property
    def is_new(self) -> bool:
        """Whether this was made here, and not read."""
        return self.written is NEW


_P = TypeVar("_P", bound=Part)


def spec_of(field: "attrs.Attribute[Any]") -> Spec | None:
    """How a field of a part stands in JSON; None for one that does not."""
    spec = field.metadata.get(_SPEC)
    assert spec is None or isinstance(spec, Spec)
    return spec


def load(kind: type[_P], tolerant: Tolerant) -> _P:
    """The value that an object says, with remarks in ``tolerant`` about what it does not say well.

    :raises Unusable: a value that cannot be replaced.
    """
    values = {
        field.name: spec.read(tolerant, spec.key_in(tolerant.value))
        for field in attrs.fields(kind)
        if (spec := spec_of(field)) is not None
    }
    return kind(**values, more=tolerant.rest(), written=tolerant.value)


def dump(part: Part) -> dict[str, Json]:
    """The object to write: as it was read, where it has not been changed."""
    kind = type(part)
    before = load(kind, Tolerant(part.written, "", [])) if not part.is_new else kind()
    specs = {
        spec.key_in(part.written): (field.name, spec)
        for field in attrs.fields(kind)
        if (spec := spec_of(field)) is not None
    }
    found: dict[str, Json] = {}
    for key, value in part.written.items():
        if key not in specs:
            if key in part.more:
                found[key] = part.more[key]
            continue
        name, spec = specs[key]
        now = getattr(part, name)
        if now == getattr(before, name):
            found[key] = value
        elif (changed := spec.write(now)) is not None:
            found[key] = changed
    for key, (name, spec) in specs.items():
        if key in part.written:
            continue
        now = getattr(part, name)
        if now != getattr(before, name) or (spec.always and part.is_new):
            added = spec.write(now)
            if added is not None:
                found[key] = added
    for key, value in part.more.items():
        found.setdefault(key, value)
    return found


# -- fields. All return Any, since they stand where a class declares its field's type.


def _field(
    spec: Spec, *, secret: bool = False, factory: Callable[[], object] | None = None, default: Any = None
) -> Any:
    metadata = {_SPEC: spec}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, repr=not secret)
    return attrs.field(default=default, metadata=metadata, repr=not secret)


def own(
    key: str,
    read: Callable[[Tolerant, str], Any],
    write: Callable[[Any], Json],
    default: Any = None,
    *,
    legacy: tuple[str, ...] = (),
    always: bool = False,
    secret: bool = False,
) -> Any:
    """A field with a way of its own of being read and written."""
    return _field(Spec(key, read, write, legacy, always), default=default, secret=secret)


def text(key: str, default: str = "", *, always: bool = False, secret: bool = False) -> Any:
    """A string."""
    spec = Spec(key, lambda t, k: t.text(k, default, secret=secret), same, always=always)
    return _field(spec, default=default, secret=secret)


def whole(
    key: str,
    default: int = 0,
    low: int | None = None,
    high: int | None = None,
    *,
    always: bool = False,
    legacy: tuple[str, ...] = (),
) -> Any:
    """A whole number in a range."""
    spec = Spec(key, lambda t, k: t.whole(k, default, low, high), same, legacy, always)
    return _field(spec, default=default)


def number(key: str, default: float, low: float | None = None, high: float | None = None) -> Any:
    """A number in a range."""
    return _field(Spec(key, lambda t, k: t.number(k, default, low, high), _plainly), default=default)


def flag(key: str, default: bool, *, always: bool = False) -> Any:
    """True or false."""
    return _field(Spec(key, lambda t, k: t.flag(k, default), same, always=always), default=default)


def texts(key: str) -> Any:
    """A tuple of strings."""
    return _field(Spec(key, lambda t, k: t.texts(k), _listed), default=())


def wholes(key: str, low: int, high: int) -> Any:
    """A tuple of whole numbers."""
    return _field(Spec(key, lambda t, k: t.wholes(k, low, high), _listed), default=())


def one(key: str, kind: type[Part], *, legacy: tuple[str, ...] = (), always: bool = False) -> Any:
    """A nested object, which is all defaults where it is absent."""

    def read(tolerant: Tolerant, found: str) -> Part:
        inner = tolerant.object(found)
        return kind() if inner is None else load(kind, inner)

    return _field(Spec(key, read, dump, legacy, always), factory=kind)


def perhaps(key: str, kind: type[Part], *, always: bool = False) -> Any:
    """A nested object, or None."""

    def read(tolerant: Tolerant, found: str) -> Part | None:
        inner = tolerant.object(found)
        return None if inner is None else load(kind, inner)

    def write(value: Part | None) -> Json:
        return None if value is None else dump(value)

    return _field(Spec(key, read, write, always=always), default=None)


def many(key: str, kind: type[Part], *, legacy: tuple[str, ...] = ()) -> Any:
    """A tuple of nested objects."""

    def read(tolerant: Tolerant, found: str) -> tuple[Part, ...]:
        return tuple(load(kind, inner) for inner in tolerant.objects(found))

    def write(values: tuple[Part, ...]) -> Json:
        return [dump(value) for value in values]

    return _field(Spec(key, read, write, legacy), default=())


def same(value: Any) -> Json:
    """What is written as it is."""
    return value


def _listed(values: tuple[Json, ...]) -> Json:
    return list(values)


def _plainly(value: float) -> Json:
    return int(value) if value == int(value) else value
