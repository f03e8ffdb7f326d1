"""Presence: one person's state in one datagram, JSON as the original's media engine writes it.

A :class:`Descriptor` says who somebody is, how things stand with them, where they are, how they are connected and powered, and by
when they will say so again. It is the payload of one datagram on a mission's group of type 2, sealed like audio. The same value
is written as Cursor-on-Target XML by :mod:`ice.mission.cot`; :mod:`ice.mission.presence_wire` reads whichever comes.

What others send is read as the original reads it: a key that is missing or of a wrong type counts as absent, with a
:class:`~ice.mission.tolerant.Remark`; what cannot be presence at all is refused with a :class:`Reason`. What is not known is not
written: location, connectivity and power are whole or not there.

An orderly good-bye has no word of its own in the original; ours is a descriptor whose ``nextUpdate`` equals its ``ts``: who knows
nothing of it lets the sender time out at once, which is what is meant.

A datagram that we send has at most :data:`MAX_SENT` bytes; :func:`fitted` gives things up in a fixed order until it does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import IntFlag, StrEnum
from typing import Any, Final

import attrs

from ice.errors import IceError, LocalError, RemoteError
from ice.mission.tolerant import Remark, Tolerant, read_json
from ice.printable import printable

MAX_READ: Final = 8_192  # bytes: several times what anybody's MTU lets through
MAX_SENT: Final = 1_200  # bytes: sealed and framed it stays inside the IPv6 minimum MTU of 1,280
MAX_NODE_ID: Final = 128  # characters of a node id: a UUID has 36, an Android CoT uid about 24
MAX_TEXT: Final = 2_048  # characters kept of any other text
MAX_NAME_SENT: Final = 48  # characters to which a name is cut when nothing else helps any more
MAX_ALIASES: Final = 128  # groups of a mission: the original's own bound for groups that belong together
MAX_U32: Final = 0xFFFF_FFFF
UNSET: Final = -999.999  # the original's mark for a number of a location that is not known


class Reason(StrEnum):
    """Why a datagram of a presence group was not taken."""

    TOO_LARGE = "too-large"
    FORMAT = "unknown-format"
    PROTOBUF = "tak-protobuf"
    JSON = "bad-json"
    XML = "bad-xml"
    FORBIDDEN = "forbidden-xml"  #: a document type or entities: no honest sender writes them
    EVENT = "not-a-person"  #: Cursor-on-Target about something else: a marker, a chat, a ping
    NOBODY = "no-node-id"


class PresenceError(RemoteError):
    """What came is no presence; ``reason`` is what it is counted under."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Kind(StrEnum):
    """What a datagram tells of a person."""

    PRESENCE = "presence"  #: the whole state
    LEAVING = "leaving"  #: good-bye
    ALERT = "alert"  #: an emergency, and where; Cursor-on-Target has an event of its own for it
    CALM = "calm"  #: the emergency is over


class Form(StrEnum):
    """How a descriptor is written."""

    JSON = "json"  #: presence format 1
    COT = "cot"  #: presence format 2


class Disposition(IntFlag):
    """The bits of ``disposition`` that have a meaning; others are the application's own, and kept."""

    EMERGENCY = 1
    AVAILABLE = 2
    BUSY = 4


CONNECTIVITY: Final = {1: "wired", 2: "wifi", 3: "cellular"}
POWER_SOURCES: Final = {1: "battery", 2: "wired"}
POWER_STATES: Final = {1: "charging", 2: "discharging", 3: "not charging", 4: "full"}


@attrs.frozen
class Identity:
    """Who: the node id is a device's own, the rest is for people."""

    node_id: str = ""
    user_id: str = ""
    display_name: str = ""
    avatar: str = ""


@attrs.frozen
class GroupAlias:
    """Under what name a person talks on a group of the mission."""

    group_id: str
    alias: str = ""
    status: int = 0  #: u16, the application's own


@attrs.frozen
class Location:
    """A place on earth (WGS 84)."""

    latitude: float  #: degrees, −90…90
    longitude: float  #: degrees, −180…180
    altitude_m: float | None = None
    direction_deg: float | None = None  #: 0…360, clockwise from north
    speed_m_s: float | None = None
    ts: int = 0  #: unix seconds of the fix, by the sender's clock; 0: not told


@attrs.frozen
class Connectivity:
    """How a device reaches the network."""

    type: int  #: a key of :data:`CONNECTIVITY`; 0 is not written
    strength: int = 0  #: dBm, as a rule
    rating: int = 0  #: the operating system's own


@attrs.frozen
class Power:
    """How a device is powered."""

    source: int  #: a key of :data:`POWER_SOURCES`
    state: int  #: a key of :data:`POWER_STATES`
    level_percent: int


@attrs.frozen
class Descriptor:
    """One person's state: the original's PresenceDescriptor."""

    identity: Identity
    ts: int = 0  #: unix seconds of sending; 0: not told
    next_update: int = (
        0  #: unix seconds by which the next one is sent; equal to ``ts``: good-bye; 0: not told
    )
    comment: str = ""
    disposition: int = 0  #: u32, see :class:`Disposition`
    group_aliases: tuple[GroupAlias, ...] = ()
    location: Location | None = None
    custom: str = ""  #: the application's own text
    announce_on_receive: bool = False  #: whoever hears this is asked to answer at once
    connectivity: Connectivity | None = None
    power: Power | None = None
    self_made: bool = False  #: ``self``: written by the original for its own application only

    @property
    def emergency(self) -> bool:
        """Whether the emergency bit is set."""
        return bool(self.disposition & Disposition.EMERGENCY)


@attrs.frozen
class Told:
    """What a datagram told."""

    kind: Kind
    form: Form
    descriptor: Descriptor
    #: Whether the disposition was told; where not, an emergency told before goes on.
    disposition_known: bool = True
    remarks: tuple[Remark, ...] = ()


# -- reading -----------------------------------------------------------------------------------------------------------


def read_descriptor(payload: bytes) -> Told:
    """What a JSON descriptor tells; raises :class:`PresenceError` for what cannot be one."""
    bounded(payload)
    try:
        value = read_json(payload, "presence")
    except IceError as error:
        raise PresenceError(Reason.JSON, f"presence that is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise PresenceError(Reason.JSON, "presence is a JSON object, not a list or a single value")
    remarks: list[Remark] = []
    top = Tolerant(value, "", remarks)
    who = top.object("identity")
    identity = Identity() if who is None else _identity(who)
    if not identity.node_id:
        raise PresenceError(Reason.NOBODY, "presence without identity.nodeId: nobody can be told by it")
    ts = top.whole("ts", 0, 0, MAX_U32)
    next_update = top.whole("nextUpdate", 0, 0, MAX_U32)
    descriptor = Descriptor(
        identity,
        ts=ts,
        next_update=next_update,
        comment=text(top.text("comment")),
        disposition=top.whole("disposition", 0, 0, MAX_U32),
        group_aliases=_aliases(top),
        location=_location(top, remarks),
        custom=_custom(value, top),
        announce_on_receive=top.flag("announceOnReceive", False),
        connectivity=_connectivity(top),
        power=_power(top),
        self_made=top.flag("self", False),
    )
    kind = Kind.LEAVING if ts and next_update == ts else Kind.PRESENCE
    return Told(kind, Form.JSON, descriptor, remarks=tuple(remarks))


def bounded(payload: bytes) -> None:
    """Refuse what is longer than any honest presence."""
    if len(payload) > MAX_READ:
        raise PresenceError(
            Reason.TOO_LARGE, f"presence of {len(payload)} bytes; at most {MAX_READ} are read"
        )


def text(value: str) -> str:
    """A text that can be written again: cut, and without halves of UTF-16 pairs, which JSON can smuggle in."""
    cut = value[:MAX_TEXT]
    return cut if cut.isascii() else "".join("�" if "\ud800" <= c <= "\udfff" else c for c in cut)


def node_id(value: str) -> str:
    """A node id, or a uid, as it is kept: one line of printable characters; empty where there is none."""
    return printable(value[:MAX_NODE_ID].strip())


def _identity(who: Tolerant) -> Identity:
    return Identity(
        node_id=node_id(who.text("nodeId")),
        user_id=text(who.text("userId")),
        display_name=text(who.text("displayName")),
        avatar=text(who.text("avatar")),
    )


def _aliases(top: Tolerant) -> tuple[GroupAlias, ...]:
    return tuple(
        GroupAlias(text(each.text("groupId")), text(each.text("alias")), each.whole("status", 0, 0, 0xFFFF))
        for each in top.objects("groupAliases")[:MAX_ALIASES]
    )


def _location(top: Tolerant, remarks: list[Remark]) -> Location | None:
    place = top.object("location")
    if place is None:
        return None
    latitude, longitude = place.number("latitude", UNSET), place.number("longitude", UNSET)
    if _unset(latitude) or _unset(longitude):
        return None
    if not on_earth(latitude, longitude):
        words = f"expected a latitude of −90…90 and a longitude of −180…180, not {latitude:g}, {longitude:g}; taken as not known"
        remarks.append(Remark("location", words))
        return None
    direction = _known(place.number("direction", UNSET))
    return Location(
        latitude,
        longitude,
        altitude_m=_known(place.number("altitude", UNSET)),
        direction_deg=None if direction is None else direction % 360,
        speed_m_s=_known(place.number("speed", UNSET)),
        ts=place.whole("ts", 0, 0, MAX_U32),
    )


def on_earth(latitude: float, longitude: float) -> bool:
    """Whether these degrees are a place; not so for what is no number."""
    return -90 <= latitude <= 90 and -180 <= longitude <= 180


def _unset(value: float) -> bool:
    return not math.isfinite(value) or abs(value - UNSET) < 1e-3


def _known(value: float) -> float | None:
    return None if _unset(value) else value


def _custom(value: dict[str, object], top: Tolerant) -> str:
    custom = value.get("custom")
    if isinstance(custom, dict | list):  # some applications write their object where its text belongs
        return text(json.dumps(custom, ensure_ascii=False, separators=(",", ":")))
    return text(top.text("custom"))


def _connectivity(top: Tolerant) -> Connectivity | None:
    found = top.object("connectivity")
    if found is None:
        return None
    type = found.whole("type", 0, 0, 255)
    strength = found.whole("strength", 0, -32_768, 32_767)
    rating = found.whole("rating", 0, -32_768, 32_767)
    return Connectivity(type, strength, rating) if type else None


def _power(top: Tolerant) -> Power | None:
    found = top.object("power")
    if found is None:
        return None
    source, state = found.whole("source", 0, 0, 255), found.whole("state", 0, 0, 255)
    level = found.whole("level", 0, 0, 100)
    return Power(source, state, level) if source and state and level else None


# -- writing -----------------------------------------------------------------------------------------------------------


def write_descriptor(descriptor: Descriptor) -> bytes:
    """A descriptor as JSON, whole, whatever its length; what is not known is left out."""
    who = descriptor.identity
    identity = {"nodeId": who.node_id}
    identity |= {
        key: value
        for key, value in (
            ("userId", who.user_id),
            ("displayName", who.display_name),
            ("avatar", who.avatar),
        )
        if value
    }
    told: dict[str, Any] = {}
    if descriptor.self_made:
        told["self"] = True
    told |= {"ts": descriptor.ts, "nextUpdate": descriptor.next_update, "identity": identity}
    if descriptor.comment:
        told["comment"] = descriptor.comment
    told["disposition"] = descriptor.disposition
    if descriptor.group_aliases:
        told["groupAliases"] = [
            {"groupId": each.group_id, "alias": each.alias, "status": each.status}
            for each in descriptor.group_aliases
        ]
    if descriptor.location is not None:
        told["location"] = _location_told(descriptor.location)
    if descriptor.custom:
        told["custom"] = descriptor.custom
    if descriptor.announce_on_receive:
        told["announceOnReceive"] = True
    link, power = descriptor.connectivity, descriptor.power
    if link is not None and link.type:
        told["connectivity"] = {"type": link.type, "strength": link.strength, "rating": link.rating}
    if power is not None and power.source and power.state and power.level_percent:
        told["power"] = {"source": power.source, "state": power.state, "level": power.level_percent}
    return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _location_told(place: Location) -> dict[str, float]:
    told: dict[str, float] = {"ts": place.ts} if place.ts else {}
    told |= {"latitude": round(place.latitude, 7), "longitude": round(place.longitude, 7)}  # 1 cm
    if place.altitude_m is not None:
        told["altitude"] = round(place.altitude_m, 2)
    if place.direction_deg is not None:
        told["direction"] = round(place.direction_deg, 1)
    if place.speed_m_s is not None:
        told["speed"] = round(place.speed_m_s, 2)
    return told


def fitted(
    descriptor: Descriptor, write: Callable[[Descriptor], bytes], limit: int = MAX_SENT
) -> tuple[bytes, tuple[str, ...]]:
    """The descriptor in at most ``limit`` bytes, and the names of what was shortened or given up for it.

    In this order, each only as far as it is needed: the avatar, the custom text, group aliases from the last, the comment from its end, the
    user id, the display name down to :data:`MAX_NAME_SENT` characters. Raises :class:`~ice.errors.LocalError` where even that is not enough.
    """
    data = write(descriptor)
    if len(data) <= limit:
        return data, ()
    given_up = []
    for name, shorter in _SHORTER:
        longest = _length(descriptor, name)
        if not longest:
            continue
        # The longest rest that fits, by halving: what is left out only ever makes it shorter.
        low, high = 0, longest
        while low < high:
            middle = (low + high + 1) // 2
            if len(write(shorter(descriptor, middle))) <= limit:
                low = middle
            else:
                high = middle - 1
        descriptor = shorter(descriptor, low)
        given_up.append(name)
        data = write(descriptor)
        if len(data) <= limit:
            return data, tuple(given_up)
    raise LocalError(f"presence of {len(data)} bytes at its shortest; a datagram takes {limit}")


def _whole_or_none(field: str) -> Callable[[Descriptor, int], Descriptor]:
    def shorter(descriptor: Descriptor, length: int) -> Descriptor:
        if length >= _length(descriptor, field):
            return descriptor
        if field == "custom":
            return attrs.evolve(descriptor, custom="")
        return attrs.evolve(descriptor, identity=attrs.evolve(descriptor.identity, **{field: ""}))

    return shorter


def _fewer_aliases(descriptor: Descriptor, length: int) -> Descriptor:
    return attrs.evolve(descriptor, group_aliases=descriptor.group_aliases[:length])


def _cut(value: str, length: int) -> str:
    return value if length >= len(value) else value[: length - 1] + "…" if length else ""


def _shorter_comment(descriptor: Descriptor, length: int) -> Descriptor:
    return attrs.evolve(descriptor, comment=_cut(descriptor.comment, length))


def _shorter_name(descriptor: Descriptor, length: int) -> Descriptor:
    who = descriptor.identity
    name = _cut(who.display_name, max(length, min(MAX_NAME_SENT, len(who.display_name))))
    return attrs.evolve(descriptor, identity=attrs.evolve(who, display_name=name))


_SHORTER: Final[tuple[tuple[str, Callable[[Descriptor, int], Descriptor]], ...]] = (
    ("avatar", _whole_or_none("avatar")),
    ("custom", _whole_or_none("custom")),
    ("group_aliases", _fewer_aliases),
    ("comment", _shorter_comment),
    ("user_id", _whole_or_none("user_id")),
    ("display_name", _shorter_name),
)


def _length(descriptor: Descriptor, field: str) -> int:
    holder: object = descriptor if hasattr(descriptor, field) else descriptor.identity
    return len(getattr(holder, field))
