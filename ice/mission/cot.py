"""Presence as Cursor-on-Target: one XML event per datagram, ↔ the same :class:`~ice.mission.presence.Descriptor`.

Groups with presence format 2 speak it, so that teams with TAK applications see each other. An event has a type:

===================  ===================================================================================================
``a-f-…`` ``a-a-…``  a friend's position: the whole state (``a-f-G-U-C`` is what we write, a unit on the ground)
``b-a-o-tbl`` …      an alert: ``b-a-o-can`` (or ``<emergency cancel="true">``) ends it; ``<link>`` names the person
``t-x-d-d``          good-bye, of whom ``<link>`` names
===================  ===================================================================================================

What stands for what: ``uid`` is the node id, ``contact/@callsign`` the display name, ``remarks`` the comment, ``point`` and ``track`` the
location, ``status/@battery`` the power level, ``time`` and ``stale`` are ``ts`` and ``next_update``. What TAK has no place for goes into a
detail of our own, ``__ice``, which others ignore: its absence means that the disposition is not told. A place that is not known is written
as TAK does, 0° 0° with an error of 9,999,999 m.

**Safe parsing.** Expat, told that everything is UTF-8; a document type ends the parsing before any entity can be declared, so nothing is ever
expanded or fetched; size, depth and number of elements are bounded; only the names above are kept.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers import expat

from ice.mission.presence import (
    MAX_ALIASES,
    MAX_U32,
    Connectivity,
    Descriptor,
    Form,
    GroupAlias,
    Identity,
    Kind,
    Location,
    Power,
    PresenceError,
    Reason,
    Told,
    bounded,
    node_id,
    on_earth,
    text,
)
from ice.mission.tolerant import Remark, shown

UNIT: Final = "a-f-G-U-C"  # friend, ground, unit, combat: what TAK applications send for a person
ALERT: Final = "b-a-o-tbl"
CANCEL: Final = "b-a-o-can"
GOOD_BYE: Final = "t-x-d-d"
ALERT_SUFFIX: Final = "-9-1-1"  # of the uid of a person's alert
CALLSIGN_SUFFIX: Final = "-Alert"
ALERT_LABEL: Final = "911 Alert"
UNKNOWN_M: Final = 9_999_999.0  # TAK's mark for a height or an error that is not known
ALERT_LASTS_S: Final = 60  # an alert is repeated while it lasts; this is for who looks only at `stale`
MAX_DEPTH: Final = 16  # real events have 4
MAX_ELEMENTS: Final = 512  # real events have 20
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WANTED: Final = frozenset({"contact", "emergency", "link", "remarks", "status", "track", "__ice"})
_SPECIAL: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\t": "&#9;",
    "\n": "&#10;",
    "\r": "&#13;",
}

Attributes = dict[str, str]


# -- reading -----------------------------------------------------------------------------------------------------------


def read_event(payload: bytes) -> Told:
    """What a Cursor-on-Target event tells of a person.

    Raises :class:`~ice.mission.presence.PresenceError`: no XML, forbidden XML, or an event about something else.
    """
    bounded(payload)
    return _Reading(_parsed(payload)).told()


class _Event:
    """The parts of an event that are wanted, as text."""

    def __init__(self) -> None:
        self.attributes: Attributes = {}
        self.point: Attributes = {}
        self.details: dict[str, Attributes] = {}
        self.words: dict[str, str] = {}
        self.groups: list[Attributes] = []


def _parsed(payload: bytes) -> _Event:
    event = _Event()
    path: list[str] = []
    elements = 0

    def begin(name: str, attributes: Attributes) -> None:
        nonlocal elements
        elements += 1
        path.append(name)
        if len(path) > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise PresenceError(
                Reason.XML,
                f"a Cursor-on-Target event deeper than {MAX_DEPTH} or with more than {MAX_ELEMENTS} elements",
            )
        match path:
            case ["event"]:
                event.attributes = attributes
            case ["event", "point"]:
                event.point = event.point or attributes
            case ["event", "detail", _] if name in _WANTED:
                event.details.setdefault(name, attributes)
            case ["event", "detail", "__ice", "group"] if len(event.groups) < MAX_ALIASES:
                event.groups.append(attributes)

    def end(name: str) -> None:
        path.pop()

    def words(data: str) -> None:
        match path:
            case ["event", "detail", ("remarks" | "emergency") as name]:
                event.words[name] = event.words.get(name, "") + data

    def doctype(*_: object) -> None:
        raise PresenceError(Reason.FORBIDDEN, "XML with a document type: refused, entities could hide in it")

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    try:
        parser.Parse(payload, True)
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code) or "not XML"
        raise PresenceError(Reason.XML, f"XML that cannot be read: line {error.lineno}: {why}") from None
    return event


class _Reading:
    """Makes a value of an event; what is wrong is left out with a remark."""

    def __init__(self, event: _Event) -> None:
        self._event = event
        self._remarks: list[Remark] = []

    def told(self) -> Told:
        event = self._event
        type = event.attributes.get("type", "")
        cancelled = event.details.get("emergency", {}).get("cancel", "").strip().lower() == "true"
        if type.startswith(
            ("a-f-", "a-a-")
        ):  # friend, assumed friend; others are what somebody has seen, not who is there
            return self._presence()
        if type == CANCEL or (type.startswith("b-a-") and cancelled):
            return self._about_another(Kind.CALM)
        if type.startswith("b-a-"):
            return self._about_another(Kind.ALERT)
        if type == GOOD_BYE and "link" in event.details:
            return self._about_another(Kind.LEAVING)
        raise PresenceError(
            Reason.EVENT, f"a Cursor-on-Target event of type {shown(type)}: nobody's presence"
        )

    def _presence(self) -> Told:
        event = self._event
        contact = event.details.get("contact", {})
        ice = event.details.get("__ice")
        ours = ice if ice is not None else {}
        ts, stale = self._times()
        descriptor = Descriptor(
            Identity(
                self._node_id(event.attributes.get("uid", "")),
                text(ours.get("user", "")),
                text(contact.get("callsign", "")),
                text(ours.get("avatar", "")),
            ),
            ts=ts,
            next_update=stale,
            comment=text(event.words.get("remarks", "").strip()),
            disposition=self._whole("__ice.disposition", ours.get("disposition"), MAX_U32),
            group_aliases=tuple(
                GroupAlias(
                    text(each.get("id", "")),
                    text(each.get("alias", "")),
                    self._whole("__ice.group.status", each.get("status"), 0xFFFF),
                )
                for each in event.groups
            ),
            location=self._location(self._whole("__ice.fix", ours.get("fix"), MAX_U32)),
            custom=text(ours.get("custom", "")),
            announce_on_receive=ours.get("announce") == "true",
            connectivity=self._connectivity(ours.get("connectivity")),
            power=self._power(ours.get("power")),
        )
        return Told(
            Kind.PRESENCE,
            Form.COT,
            descriptor,
            disposition_known="disposition" in ours,
            remarks=tuple(self._remarks),
        )

    def _about_another(self, kind: Kind) -> Told:
        """An event whose uid is its own: whom it is about stands in its link, or in its uid without the usual ending."""
        event = self._event
        uid = event.details.get("link", {}).get("uid") or event.attributes.get("uid", "").removesuffix(
            ALERT_SUFFIX
        )
        callsign = event.details.get("contact", {}).get("callsign", "").removesuffix(CALLSIGN_SUFFIX)
        ts, stale = self._times()
        descriptor = Descriptor(
            Identity(
                self._node_id(uid),
                display_name=text(event.words.get("emergency", "").strip() or callsign),
            ),
            ts=ts,
            next_update=ts if kind is Kind.LEAVING else stale,
            comment=text(event.details.get("emergency", {}).get("type", "")) if kind is Kind.ALERT else "",
            disposition=1 if kind is Kind.ALERT else 0,
            location=None if kind is Kind.LEAVING else self._location(0),
        )
        known = kind is not Kind.LEAVING
        return Told(kind, Form.COT, descriptor, disposition_known=known, remarks=tuple(self._remarks))

    def _node_id(self, uid: str) -> str:
        found = node_id(uid)
        if not found:
            raise PresenceError(
                Reason.NOBODY, "a Cursor-on-Target event without a uid: nobody can be told by it"
            )
        return found

    def _times(self) -> tuple[int, int]:
        attributes = self._event.attributes
        return self._time("time", attributes.get("time")), self._time("stale", attributes.get("stale"))

    def _time(self, name: str, value: str | None) -> int:
        if value is None:
            return 0
        try:
            moment = datetime.fromisoformat(value.strip()[:40])
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = -1.0
        if not 0 <= seconds <= MAX_U32:
            self._wrong(name, "a time such as 2026-01-31T12:00:00.000Z", value)
            return 0
        return int(seconds)

    def _location(self, ts: int) -> Location | None:
        point, track = self._event.point, self._event.details.get("track", {})
        latitude, longitude = (
            self._number("point.lat", point.get("lat")),
            self._number("point.lon", point.get("lon")),
        )
        if latitude is None or longitude is None:
            return None
        error = self._number("point.ce", point.get("ce"))
        if not latitude and not longitude and (error is None or error >= UNKNOWN_M):
            return None
        if not on_earth(latitude, longitude):
            self._wrong("point", "a place on earth", f"{latitude:g}, {longitude:g}")
            return None
        height = self._number("point.hae", point.get("hae"))
        course = self._number("track.course", track.get("course"))
        speed = self._number("track.speed", track.get("speed"))
        return Location(
            latitude,
            longitude,
            altitude_m=None if height is None or height >= UNKNOWN_M else height,
            direction_deg=None if course is None else course % 360,
            speed_m_s=speed,
            ts=ts,
        )

    def _connectivity(self, value: str | None) -> Connectivity | None:
        numbers = self._wholes("__ice.connectivity", value, 3)
        return Connectivity(*numbers) if numbers and numbers[0] > 0 else None

    def _power(self, value: str | None) -> Power | None:
        level = self._number("status.battery", self._event.details.get("status", {}).get("battery"))
        if level is None or not 0 < level <= 100:
            return None
        source, state = self._wholes("__ice.power", value, 2) or (
            1,
            0,
        )  # TAK tells of a battery, not what it does
        return Power(source, state, round(level) or 1)

    def _wholes(self, name: str, value: str | None, count: int) -> tuple[int, ...] | None:
        if value is None:
            return None
        words = value.split(",")
        if len(words) == count and all(re.fullmatch(r"-?[0-9]{1,5}", word) for word in words):
            return tuple(map(int, words))
        self._wrong(name, f"{count} whole numbers", value)
        return None

    def _whole(self, name: str, value: str | None, most: int) -> int:
        if value is None:
            return 0
        if re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= most:
            return int(value)
        self._wrong(name, f"a whole number in 0–{most}", value)
        return 0

    def _number(self, name: str, value: str | None) -> float | None:
        if value is None:
            return None
        number = float(value) if _NUMBER.fullmatch(value.strip()) else math.nan
        if not math.isfinite(number):
            if value.strip().lower() != "nan":  # a usual way of saying that it is not known
                self._wrong(name, "a number", value)
            return None
        return number

    def _wrong(self, name: str, expected: str, value: str) -> None:
        self._remarks.append(
            Remark(f"event.{name}", f"expected {expected}, not {shown(value)}; taken as not known")
        )


# -- writing -----------------------------------------------------------------------------------------------------------


def write_event(kind: Kind, descriptor: Descriptor) -> bytes:
    """An event of this kind, whole, whatever its length.

    ``LEAVING``, ``ALERT`` and ``CALM`` tell who, and an alert where, and nothing else.
    """
    if kind is Kind.PRESENCE:
        return _position(descriptor)
    who = descriptor.identity
    name = who.display_name or who.node_id
    link = _element("link", uid=who.node_id, type=UNIT, relation="p-p")
    if kind is Kind.LEAVING:
        detail = link + _element("contact", callsign=name)
        return _event(descriptor, f"{who.node_id}-leaves", GOOD_BYE, "h-g-i-g-o", detail, lasts_s=20)
    if kind is Kind.ALERT:
        detail = link + _element("contact", callsign=name + CALLSIGN_SUFFIX)
        detail += f'<emergency type="{ALERT_LABEL}">{_escaped(name)}</emergency>'
        type = ALERT
    else:
        detail = link + f'<emergency cancel="true">{_escaped(name)}</emergency>'
        type = CANCEL
    return _event(descriptor, who.node_id + ALERT_SUFFIX, type, "h-e", detail, lasts_s=ALERT_LASTS_S)


def _position(descriptor: Descriptor) -> bytes:
    who, place, power = descriptor.identity, descriptor.location, descriptor.power
    detail = _element("contact", callsign=who.display_name) if who.display_name else ""
    if place is not None and (place.direction_deg is not None or place.speed_m_s is not None):
        detail += _element(
            "track", course=_rounded(place.direction_deg, 1), speed=_rounded(place.speed_m_s, 2)
        )
    if power is not None and power.level_percent:
        detail += _element("status", battery=power.level_percent)
    if descriptor.comment:
        detail += f"<remarks>{_escaped(descriptor.comment)}</remarks>"
    detail += _ours(descriptor)
    how = "m-g" if place is not None else "h-e"
    return _event(descriptor, who.node_id, UNIT, how, detail)


def _ours(descriptor: Descriptor) -> str:
    place, link, power = descriptor.location, descriptor.connectivity, descriptor.power
    opened = _element(
        "__ice",
        disposition=descriptor.disposition,
        user=descriptor.identity.user_id or None,
        avatar=descriptor.identity.avatar or None,
        custom=descriptor.custom or None,
        announce="true" if descriptor.announce_on_receive else None,
        fix=place.ts if place is not None and place.ts else None,
        connectivity=f"{link.type},{link.strength},{link.rating}" if link is not None and link.type else None,
        power=f"{power.source},{power.state}" if power is not None and power.level_percent else None,
    )
    groups = "".join(
        _element("group", id=each.group_id, alias=each.alias or None, status=each.status or None)
        for each in descriptor.group_aliases
    )
    return f"{opened[:-2]}>{groups}</__ice>" if groups else opened


def _event(
    descriptor: Descriptor, uid: str, type: str, how: str, detail: str, *, lasts_s: int | None = None
) -> bytes:
    time = _zulu(descriptor.ts)
    stale = descriptor.next_update if lasts_s is None else min(descriptor.ts + lasts_s, MAX_U32)
    head = _element(
        "event", version="2.0", uid=uid, type=type, time=time, start=time, stale=_zulu(stale), how=how
    )
    place = None if type == GOOD_BYE else descriptor.location
    point = _element(
        "point",
        lat=_rounded(place.latitude, 7) if place is not None else 0.0,
        lon=_rounded(place.longitude, 7) if place is not None else 0.0,
        hae=_rounded(place.altitude_m, 2)
        if place is not None and place.altitude_m is not None
        else UNKNOWN_M,
        ce=UNKNOWN_M,
        le=UNKNOWN_M,
    )
    words = f"<?xml version='1.0' encoding='UTF-8'?>{head[:-2]}>{point}<detail>{detail}</detail></event>"
    return words.encode("utf-8", "replace")


def _element(name: str, **attributes: Any) -> str:
    told = "".join(
        f' {key}="{_escaped(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{told}/>"


def _escaped(words: str) -> str:
    if words.isascii() and words.isalnum():
        return words
    return "".join(_SPECIAL.get(c) or (c if _allowed(c) else "�") for c in words)


def _allowed(character: str) -> bool:
    """Whether XML 1.0 has this character at all (section 2.2)."""
    return " " <= character <= "\ud7ff" or "\ue000" <= character <= "\ufffd" or character >= "\U00010000"


def _zulu(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
