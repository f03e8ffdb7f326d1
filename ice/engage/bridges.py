"""``bridges.json`` and what is like it: bridges become ``[[patches]]``, groups that live on multicast become reflector rules.

A patch here joins streams of the Rallypoints. A group without Rallypoints is on multicast only, so its stream must be brought to the
Rallypoints first: that is a reflector rule of the same stream id, served by another daemon. A group with Rallypoints needs
none; its multicast addresses are for people who have lost them (failover) and stay in missions.

Keys of groups (``cryptoPassword``) are never told. They belong into a mission file, which only those read who may.
"""

from collections.abc import Mapping
from typing import Final

from ice.engage.account import Account, Fate, Page, Row, Why, pages_of
from ice.engage.missions import cluster, rallypoint_list
from ice.engage.places import IDS_STEP, address_in, stream_name
from ice.engage.rallypointd import tx_options
from ice.mission.tolerant import shown_text

MODES: Final[Mapping[int, str]] = {0: "relay", 1: "transcode", 2: "mixed"}
MODE_NAMES: Final = {"raw": "relay", "multistream": "transcode", "mixed": "mixed"}
SECRET: Final = "baseline key material; it is neither shown nor copied"
IN_MISSION: Final = "a mission says it: ice mission show FILE reads groups as they are"
MAX_NOTE: Final = 200  # characters of a key beginning with _ that are kept as a comment
_RULE: Final = "reflector.rules"
_KEYS_STEP: Final = (
    "groups have keys (cryptoPassword): put the groups into a mission file that only its people can read "
    "(mode 0600), or make new keys with ice mission rekey"
)


def read(document: object, account: Account) -> None:
    """Account for every key of a bridges file, or a list of bridges."""
    if isinstance(document, dict):
        page = Page(document, (), "", account)
        groups, bridges = page.pages("groups") or [], page.pages("bridges") or []
        page.close()
    else:
        groups, bridges = [], pages_of(document if isinstance(document, list) else [], (), "", account)
    modes: dict[str, str] = {}
    for group in groups:
        _group(group, modes)
    ids: set[str] = set()
    owners: dict[str, str] = {}
    for bridge in bridges:
        _bridge(bridge, ids, owners, modes)
    if any(row.key == ("patches",) for row in account.rows):
        account.step(
            "patches are served by the daemon ice-patch, one active at a time; every stream in one must be on the Rallypoints"
        )
        account.step(
            "a patch is silent on streams that nobody describes: name the mission with their groups, or this very file, in patch.missions (mode 0600, for it has keys)"
        )
        account.step(IDS_STEP)


def read_talkgroups(document: object, account: Account) -> None:
    """Account for every key of what a radio gateway announces: its talk groups are on multicast."""
    if isinstance(document, dict):
        page = Page(document, (), "", account)
        groups = page.pages("talkgroups") or []
        for key in ("version", "dateTimeStamp", "thingInfo"):
            page.left(key, Why.NOT_HERE, "tells about the gateway; nothing here asks for it")
        page.close()
    else:
        groups = pages_of(document if isinstance(document, list) else [], (), "", account)
    for group in groups:
        _group(group, {})


def _bridge(page: Page, ids: set[str], owners: dict[str, str], modes: Mapping[str, str]) -> None:
    account = page.account
    mark = len(account.entries)
    wrong = ""
    id = (page.text("id") or "").strip()
    if not id or id in ids:
        wrong = "another bridge has this id" if id else "there is no id"
    page.taken("id", "patches.id")
    values: dict[str, object] = {"id": id}
    if (name := page.text("name")) is not None:
        values["name"] = name
        page.taken("name", "patches.name")
    streams = list(dict.fromkeys(stream_name(group) for group in page.strings("groups") or ()))
    if not 2 <= len(streams) <= 128:
        wrong = wrong or f"a patch has 2 to 128 different streams, and this one {len(streams)}"
    values["streams"] = streams
    page.taken("groups", "patches.streams", "ids without braces, in small letters")
    enabled = page.flag("enabled") is not False
    page.taken("enabled", "patches.enabled")
    mode = _mode(page) or _common_mode(streams, modes)
    if mode != "relay":
        values["mode"] = mode
    notes = _notes(page)
    page.close()
    clash = next((stream for stream in streams if enabled and stream in owners), None)
    if clash is not None and not wrong:
        values["enabled"] = enabled = False
        text = (
            f"switched off: {shown_text(clash)} is in the enabled patch {shown_text(owners[clash])} already"
        )
        account.amend({(*page.at, "id"): text, (*page.at, "enabled"): text}, fate=Fate.CHANGED, since=mark)
        account.step(
            "some bridges share a group: a stream is in one enabled patch at most, so later ones are off; choose"
        )
    elif not enabled:
        values["enabled"] = False
    if wrong:
        account.refuse_since(mark, f"this bridge cannot be taken over: {wrong}")
        return
    ids.add(id)
    if enabled:
        owners.update(dict.fromkeys(streams, id))
    account.rows.append(Row(("patches",), values, page.at, page.path, notes))


def _mode(page: Page) -> str:
    """The mode that a bridge gives itself (not in the original's own files, but in some), or ``""``."""
    value = page.raw("mode")
    mode = ""
    if isinstance(value, str):
        mode = MODE_NAMES.get(value.strip().lower(), "")
    elif isinstance(value, int) and not isinstance(value, bool):
        mode = MODES.get(value, "")
    if mode:
        page.taken("mode", "patches.mode")
    else:
        page.left("mode", Why.WRONG, "expected 0 (raw), 1 (multistream) or 2 (mixed)")
    return mode


def _common_mode(streams: list[str], modes: Mapping[str, str]) -> str:
    """The mode that the groups of a bridge ask for; the one that changes most where they differ."""
    asked = {modes[stream] for stream in streams if stream in modes}
    return next((mode for mode in ("mixed", "transcode") if mode in asked), "relay")


def _notes(page: Page) -> tuple[str, ...]:
    """Keys that begin with ``_``, as comments; those that may hold a secret are only named."""
    notes = []
    for key in page:
        if not key.startswith("_"):
            continue
        value = page.raw(key)
        inner = value.get("type") if isinstance(value, dict) and set(value) == {"type"} else value
        if isinstance(inner, str | bool | int) and len(str(inner)) <= MAX_NOTE and not _may_be_secret(key):
            notes.append(f"{shown_text(key)}: {shown_text(str(inner))}")
            page.changed(key, "", "kept as a comment")
        else:
            page.left(key, Why.NOT_HERE, "a note of whoever wrote the file; nothing reads it")
    return tuple(notes)


def _may_be_secret(key: str) -> bool:
    return any(word in key.lower() for word in ("pass", "key", "secret", "crypto", "token", "pin"))


def _group(page: Page, modes: dict[str, str]) -> None:
    """One group's definition; a rule where it lives on multicast alone."""
    account = page.account
    mark = len(account.entries)
    stream = stream_name(page.text("id") or "")
    notes = _notes(page)
    password = page.raw("cryptoPassword")
    if password:
        page.left("cryptoPassword", Why.REFUSED, SECRET, step=_KEYS_STEP)
    page.taken("cryptoPassword", text="empty: speech in the clear")
    if (detail := page.page("bridgeTargetOutputDetail")) is not None:
        mode = detail.whole("mode", 0, 2)
        if mode is not None:
            modes[stream] = MODES[mode]
            detail.taken("mode", "patches.mode")
        detail.close()
    if _rallypoints(page):
        for key in ("rx", "tx", "txOptions", "networkOptions", "interfaceName"):
            page.left(
                key,
                Why.NOT_HERE,
                "the group has Rallypoints; this is for people who lost them, and missions say it",
            )
        page.taken("id", text="a stream of the Rallypoints; no reflector rule is needed")
        page.close(IN_MISSION, Why.NOT_HERE)
        return
    page.taken("id", f"{_RULE}.stream")
    values: dict[str, object] = {"stream": stream}
    wrong = "" if stream else "there is no id"
    for key in ("rx", "tx"):
        inner = page.page(key)
        address = address_in(inner, f"{_RULE}.{key}") if inner is not None else None
        if address is None or address.ip is None:
            wrong = wrong or f"{key} is no address in numbers"
        elif str(address) != values.get("rx"):
            values[key] = str(address)
    for key in ("networkOptions", "txOptions"):  # the first is an old name of the second
        if (options := page.page(key)) is not None:
            values |= tx_options(options, _RULE)
    if (interface := (page.text("interfaceName") or "").strip()) != "":
        values["interface"] = interface
    page.taken("interfaceName", f"{_RULE}.interface")
    page.close(IN_MISSION, Why.NOT_HERE)
    if wrong:
        account.refuse_since(mark, f"no reflector rule can be made of this group: {wrong}")
        return
    account.rows.append(Row(("reflector", "rules"), values, page.at, page.path, notes))
    account.step(
        "reflector rules are served by the daemon ice-reflector, one active at a time, on the network of the multicast groups"
    )
    account.step(IDS_STEP)


def _rallypoints(page: Page) -> bool:
    """Whether the group is on Rallypoints, by either of the keys that say so; those found become ``network.rallypoints``."""
    on = bool(page.raw("rallypoints"))
    inner = page.raw("rallypointCluster")
    on = on or (isinstance(inner, dict) and bool(inner.get("rallypoints")))
    rallypoint_list(page, "rallypoints")
    cluster(page)
    return on
