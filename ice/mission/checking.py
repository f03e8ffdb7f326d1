"""What a careful colleague would say about a mission before it is handed out.

Findings are of two weights. A *warning* is something that will not work, or will surprise: groups that hear each other, keys that can be
guessed, ids that differ from those of others. A *note* is worth knowing, and may be meant so.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.engage import Carried, encoder_of
from ice.mission.fitting import packed_size
from ice.mission.identity import stream_id
from ice.mission.model import CBC, GCM, Group, GroupType, Mission, iso
from ice.mission.packing import QR_BYTES
from ice.mission.parts import Host
from ice.mission.reading import Reading
from ice.mission.rekeying import end
from ice.mission.tolerant import shown_text
from ice.mission.voice import is_audio
from ice.mission.weakness import weakness

MAX_NAME: Final = 16  # characters that every client shows
MAX_DESCRIPTION: Final = 256
_LOCAL: Final = (ipaddress.ip_network("239.0.0.0/8"), ipaddress.ip_network("ff00::/8"))


@attrs.frozen
class Finding:
    """One thing to say. :ivar path: as of a remark; :ivar serious: a warning, not only a note."""

    path: str
    text: str
    serious: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def check(reading: Reading, now: datetime) -> list[Finding]:
    """Everything there is to say about a mission, warnings first."""
    mission = reading.mission
    found = [Finding(remark.path, remark.text, True) for remark in reading.remarks]
    found += _about_all(mission)
    key = "talkgroups" if "talkgroups" in mission.written and "groups" not in mission.written else "groups"
    for index, group in enumerate(mission.groups):
        path = f"{key}[{index}]"
        found += _about_place(path, group)
        found += _about_key(path, group, mission, now)
        found += _about_words(path, group)
        found += _about_codec(path, group)
    return [*(each for each in found if each.serious), *(each for each in found if not each.serious)]


def _about_all(mission: Mission) -> Iterator[Finding]:
    controls = [group.name for group in mission.groups if group.is_mission_control]
    if not controls:
        yield Finding(
            "groups", "no group is mission control (type 2): nobody will see who is there, nor an alert", True
        )
    elif len(controls) > 1:
        which = ", ".join(map(_quoted, controls))
        yield Finding(
            "groups",
            f"{len(controls)} groups are mission control (type 2), {which}; there is to be one",
            True,
        )
    for same, called in _shared(mission, lambda group: group.name).items():
        if len(called) > 1:
            yield Finding("groups", f"{len(called)} groups are called {_quoted(same)}", True)
    for same, names in _shared(mission, lambda group: stream_id(group.id)).items():
        if len(names) > 1:
            yield Finding(
                "groups",
                f"{_those(names)} have one id, {shown_text(same)}: they are one stream to every Rallypoint",
                True,
            )
    for same, names in _shared(mission, lambda group: (group.crypto_password or "").lower()).items():
        if same and len(names) > 1:
            yield Finding("groups", f"{_those(names)} have one key: who may hear one may hear all", True)
    yield from _about_shared_places(mission)
    unauthenticated = sum(
        group.crypto_password is not None and group.cipher == CBC for group in mission.groups
    )
    if unauthenticated:
        yield Finding(
            "groups",
            f"{unauthenticated} of {len(mission.groups)} use {CBC}, which hides what is said, but cannot tell when packets were "
            f'altered; where nobody has the original\'s programs, set "cipher" to {GCM}',
            False,
        )
    if len(mission.description) > MAX_DESCRIPTION:
        yield Finding(
            "description", f"has {len(mission.description)} characters; {MAX_DESCRIPTION} are shown", False
        )
    if len(mission.name) > MAX_NAME:
        yield Finding(
            "name", f"has {len(mission.name)} characters; up to {MAX_NAME} are shown everywhere", False
        )
    if "meta" not in mission.written:
        yield Finding("meta", "is missing: a mission of Engage, not of ICE; it is read all the same", False)
    try:
        size = packed_size(mission)
    except LocalError as error:
        yield Finding("", str(error), True)
        return
    if size > QR_BYTES:
        yield Finding(
            "",
            f"packed it has {size:,} bytes, {size - QR_BYTES:,} more than a QR code holds; a file will do",
            False,
        )


def _about_shared_places(mission: Mission) -> Iterator[Finding]:
    places: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for group in mission.groups:
        if group.rx is not None and group.rx.address:
            places[group.rx.address, group.rx.port].append(group)
    for (address, port), groups in places.items():
        if len(groups) < 2:
            continue
        if len({group.crypto_password for group in groups}) == len(groups) and all(
            g.crypto_password for g in groups
        ):
            effect = "each gets the other's packets and cannot decrypt them, which counts as damage"
        else:
            effect = "what is said in one is heard in the other"
        yield Finding(
            "groups",
            f"{_those([group.name for group in groups])} receive at {address}:{port}: on multicast {effect} "
            "(Rallypoints keep them apart by id); give each an address of its own",
            True,
        )


def _about_place(path: str, group: Group) -> Iterator[Finding]:
    if group.rx is None and group.tx is None and not group.rallypoints:
        yield Finding(
            f"{path}",
            f"{_quoted(group.name)} has neither addresses nor Rallypoints: nobody can be reached",
            True,
        )
    elif (group.rx is None) != (group.tx is None):
        missing, there, effect = ("rx", "tx", "hear") if group.rx is None else ("tx", "rx", "say")
        yield Finding(
            f"{path}.{missing}",
            f"is missing: on multicast ice takes {there} for it; other programs may {effect} nothing there",
            not group.rallypoints,
        )
    for key, host in (("rx", group.rx), ("tx", group.tx)):
        if host is not None and not (key == "tx" and host == group.rx):
            yield from _about_host(f"{path}.{key}", host, bool(group.rallypoints))
    for index, rallypoint in enumerate(group.rallypoints):
        if not rallypoint.host.address or not rallypoint.host.port:
            yield Finding(
                f"{path}.rallypoints[{index}].host", "has no address or no port: it cannot be dialled", True
            )
        if rallypoint.certificate_key and not rallypoint.certificate_key.startswith("@"):
            yield Finding(
                f"{path}.rallypoints[{index}].certificateKey",
                "is a private key: everybody who gets this mission can be whoever it belongs to",
                True,
            )
        if not rallypoint.verify_peer:
            yield Finding(
                f"{path}.rallypoints[{index}].verifyPeer",
                "is false: anybody can pose as this Rallypoint",
                True,
            )
    if group.enable_multicast_failover and (group.rx is None or not group.rx.address):
        yield Finding(
            f"{path}.enableMulticastFailover", "is true, but there is no address to fall back to", True
        )
    if (
        group.rx is not None
        and group.tx is not None
        and (group.rx.address, group.rx.port) != (group.tx.address, group.tx.port)
    ):
        yield Finding(
            f"{path}.tx",
            "is another place than rx: who has this mission does not hear others who have it, unless something ties the two",
            False,
        )


def _about_host(path: str, host: Host, has_rallypoints: bool) -> Iterator[Finding]:
    if not host.address:
        yield Finding(f"{path}.address", "is empty: this group is not on multicast", not has_rallypoints)
        return
    if not host.port:
        yield Finding(f"{path}.port", "expected 1–65535, found none: nothing can be sent there", True)
    try:
        ip = ipaddress.ip_address(host.address)
    except ValueError:
        yield Finding(f"{path}.address", f"{_quoted(host.address)} is no IP address", True)
        return
    if ip.is_multicast and not any(ip in network for network in _LOCAL):
        yield Finding(
            f"{path}.address",
            f"{ip} is a public multicast address; 239.0.0.0/8 is meant for the inside of an organisation",
            False,
        )


def _about_key(path: str, group: Group, mission: Mission, now: datetime) -> Iterator[Finding]:
    if group.crypto_password is None:
        yield Finding(path, f"{_quoted(group.name)} is in clear: everybody on the way hears it", False)
        return
    names = (group.name, mission.name, mission.id, group.id)
    keys = [("cryptoPassword", group.crypto_password)]
    if group.rekey is not None:
        keys.append(("rekey.cryptoPassword", group.rekey.crypto_password))
        if group.rekey.crypto_password.lower() == group.crypto_password.lower():
            yield Finding(f"{path}.rekey", "the next key is the old one", True)
        if now >= end(group.rekey):
            yield Finding(
                f"{path}.rekey",
                f"the old key ended at {iso(end(group.rekey))}: ice mission rekey FILE --finish",
                True,
            )
        else:
            yield Finding(f"{path}.rekey", f"the key changes at {iso(group.rekey.at)}", False)
    for key, value in keys:
        weak = weakness(value, names)
        if weak is not None:
            yield Finding(
                f"{path}.{key}",
                f"{weak}; whoever guesses it hears {_quoted(group.name)}, and the group's public id tells when the guess is right: "
                "make a random one with ice mission rekey",
                True,
            )


def _about_codec(path: str, group: Group) -> Iterator[Finding]:
    if not is_audio(group):
        return
    try:
        row = encoder_of(group.tx_audio.encoder)
    except LocalError as error:
        yield Finding(f"{path}.txAudio.encoder", f"{error}; nobody can talk here with ice", True)
        return
    if row.carried is Carried.UNSUPPORTED:
        yield Finding(
            f"{path}.txAudio.encoder", f"is {row.name}, which ice neither says nor hears: {row.why}", True
        )
    elif row.carried is Carried.HEARD_ONLY:
        yield Finding(f"{path}.txAudio.encoder", f"is {row.name}, which ice hears but does not say", True)


def _about_words(path: str, group: Group) -> Iterator[Finding]:
    if group.type in (GroupType.UNKNOWN, GroupType.RAW):
        yield Finding(f"{path}.type", f"{_quoted(group.name)} is neither audio nor mission control", False)
    if len(group.name) > MAX_NAME:
        yield Finding(
            f"{path}.name", f"has {len(group.name)} characters; up to {MAX_NAME} are shown everywhere", False
        )


def _shared(mission: Mission, key: Callable[[Group], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for group in mission.groups:
        found[key(group)].append(group.name)
    return found


def _those(names: list[str]) -> str:
    return f"{', '.join(map(_quoted, names[:-1]))} and {_quoted(names[-1])}"


def _quoted(name: str) -> str:
    return f'"{shown_text(name)}"'
