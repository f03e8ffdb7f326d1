"""New missions: random keys, addresses that nobody else is likely to have, settings that work on a LAN and through a Rallypoint.

Addresses are drawn from 239.192.0.0/14, which is meant for the inside of an organisation (RFC 2365 section 6.2): two octets at random,
then one address per group in a row, each with an even port of its own. None of them falls on an Ethernet address that switches flood for
224.0.0.x (RFC 1112 section 6.4).
"""

import ipaddress
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import attrs

from ice.errors import LocalError
from ice.mission.identity import renewed
from ice.mission.model import GCM, KEY_BYTES, Group, GroupType, Mission, iso
from ice.mission.parts import Host, Meta, Rallypoint, TxAudio, TxOptions
from ice.net.addresses import Address

MISSION_CONTROL: Final = "Mission Control"
ENCODER: Final = 25  # Opus, 16 kbit/s: speech without audible damage
FRAMING_MS: Final = 20  # the shortest: delay is what people mind on a LAN; a narrow link wants 60
MAX_TX_S: Final = 120  # a button that is sat upon
FIRST_PORT: Final = 20_000
MAX_GROUPS: Final = 250  # addresses in one run of the last octet


@attrs.frozen
class Wanted:
    """What a new mission is to be like.

    :ivar multicast: address and port of the first group, the others follow; None draws them.
    :ivar on_multicast: whether groups have multicast addresses at all.
    :ivar clear: names of groups without a key.
    """

    name: str
    groups: Sequence[str]
    description: str = ""
    rallypoints: Sequence[Address] = ()
    multicast: Address | None = None
    on_multicast: bool = True
    mission_control: bool = True
    cipher: str = GCM
    clear: Sequence[str] = ()
    encoder: int = ENCODER
    framing_ms: int = FRAMING_MS
    ttl: int = 1
    interface: str = ""


def new_key(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """A random ``cryptoPassword``."""
    return random_bytes(KEY_BYTES).hex().upper()


def new_mission(wanted: Wanted, now: datetime, random_bytes: Callable[[int], bytes] = os.urandom) -> Mission:
    """A mission with random keys.

    :raises LocalError: names that are empty or given twice, a place that is no multicast address, no way to reach anybody.
    """
    names = [MISSION_CONTROL] * wanted.mission_control + list(wanted.groups)
    _check(wanted, names)
    places: list[Host | None] = [None] * len(names)
    if wanted.on_multicast:
        first = wanted.multicast or _drawn(random_bytes)
        places = [*_places(first, len(names))]
    rallypoints = tuple(Rallypoint(Host(each.host, each.port)) for each in wanted.rallypoints)
    groups = tuple(
        Group(
            type=GroupType.PRESENCE if wanted.mission_control and index == 0 else GroupType.AUDIO,
            name=name,
            crypto_password=None if name in wanted.clear else new_key(random_bytes),
            rx=place,
            tx=place,
            tx_audio=TxAudio()
            if wanted.mission_control and index == 0
            else TxAudio(encoder=wanted.encoder, framing_ms=wanted.framing_ms, max_tx_s=MAX_TX_S),
            tx_options=TxOptions(ttl=wanted.ttl),
            rallypoints=rallypoints,
            enable_multicast_failover=bool(rallypoints) and place is not None,
            interface_name=wanted.interface,
            cipher=wanted.cipher,
        )
        for index, (name, place) in enumerate(zip(names, places, strict=True))
    )
    return renewed(
        Mission(
            meta=Meta(created=iso(now.replace(microsecond=now.microsecond // 1_000 * 1_000))),
            name=wanted.name,
            description=wanted.description,
            groups=groups,
        )
    )


def _check(wanted: Wanted, names: Sequence[str]) -> None:
    if not wanted.name.strip():
        raise LocalError("a mission has a name: its id is made of it")
    if not wanted.groups and not wanted.mission_control:
        raise LocalError("a mission has groups: name one with --group")
    if len(names) > MAX_GROUPS:
        raise LocalError(f"{len(names)} groups; at most {MAX_GROUPS} are made at once")
    for name in names:
        if not name.strip():
            raise LocalError("a group has a name: its id is made of it")
        if names.count(name) > 1:
            raise LocalError(f'two groups are to be called "{name}"; each has a name of its own')
    unknown = [name for name in wanted.clear if name not in names]
    if unknown:
        raise LocalError(f'"{unknown[0]}" is to be in clear, but is no group of this mission')
    if not wanted.on_multicast and not wanted.rallypoints:
        raise LocalError("nobody could be reached: give --rallypoint host:port, or leave out --no-multicast")
    if wanted.multicast is not None:
        ip = wanted.multicast.ip
        if ip is None or not ip.is_multicast:
            raise LocalError(
                f"{wanted.multicast} is no multicast address: expected one of 239.0.0.0/8, or of ff00::/8 in brackets"
            )


def _drawn(random_bytes: Callable[[int], bytes]) -> Address:
    high, low = random_bytes(2)
    return Address(f"239.{192 + high % 4}.{1 + low % 254}.1", FIRST_PORT)


def _places(first: Address, count: int) -> list[Host]:
    ip = first.ip
    assert ip is not None  # checked, or drawn
    if first.port + 2 * (count - 1) > 65_535 or not (ip + count - 1).is_multicast:
        raise LocalError(f"{count} addresses and ports from {first} on: there are not so many; begin lower")
    return [Host(str(ipaddress.ip_address(ip + index)), first.port + 2 * index) for index in range(count)]
