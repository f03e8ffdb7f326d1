"""Who on a local network has joined which group: IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810), read and asked.

An engine: packets and time come in, packets to send and a verdict come out.  :class:`Memberships` watches one interface::

    report of a host  -->  joined until subscription_s after the last one
    leave of a host   -->  asked once more; left unless somebody reports within two seconds

**Who asks.**  Hosts tell without being asked when they join, and else only when a querier asks.  Where ``query_s`` is not 0 we are one, unless a machine of a lower address asks already (RFC 3376 section 6.6.2);
then it does for both.

**When in doubt, yes.**  Nobody is left without sound for what we do not know: for the first seconds every group counts as joined, and on a network where IGMPv2 or MLDv1 is spoken all of them always do: there a
host keeps silent when it has heard another's report, and that other may be ourselves.

Our own memberships, and those of other programs on this machine, are nobody's on the network: what comes from our own addresses does not count.
"""

import ipaddress
import struct
from collections.abc import Iterator
from typing import Final

import attrs

ROBUSTNESS: Final = 2  # RFC 3376 section 8.1
RESPONSE_S: Final = 10.0  # section 8.3: hosts answer within that
LAST_S: Final = 1.0  # section 8.8: and a question about one group within this
QUERY_S: Final = 125.0  # section 8.2: what others are taken to do where we do not ask
LEARNING_S: Final = RESPONSE_S + 2.0  # after the first question everybody has answered by then
OLD_S: Final = 400.0  # section 8.12: an older version is spoken for so long after it was last heard
MAX_GROUPS: Final = 8_192
MAX_RECORDS: Final = 1_024  # of one report; an Ethernet frame holds 180
ALL_HOSTS: Final = "224.0.0.1"
ALL_NODES: Final = "ff02::1"

_QUERY, _V1, _V2, _LEAVE, _V3 = 0x11, 0x12, 0x16, 0x17, 0x22
_MLD_QUERY, _MLD_REPORT, _MLD_DONE, _MLD2_REPORT = 130, 131, 132, 143
_INCLUDE: Final = frozenset({1, 3})  # MODE_IS_INCLUDE, CHANGE_TO_INCLUDE: nobody, where no source follows
_JOINS: Final = frozenset({2, 4, 5})  # MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE, ALLOW_NEW_SOURCES


@attrs.frozen
class Word:
    """What one host says of one group (``group`` is "" for a general query)."""

    kind: str  #: ``join``, ``leave`` or ``query``
    group: str
    old: bool = False  #: in IGMPv1, IGMPv2 or MLDv1


def read_igmp(message: bytes) -> Iterator[Word]:
    """What an IGMP message (the payload of an IPv4 packet) says; nothing, where it is malformed."""
    if len(message) < 8 or checksum(message) != 0:
        return
    kind = message[0]
    group = str(ipaddress.IPv4Address(message[4:8]))
    if kind == _QUERY:
        yield Word("query", "" if group == "0.0.0.0" else group, old=len(message) == 8)
    elif kind in (_V1, _V2):
        yield Word("join", group, old=True)
    elif kind == _LEAVE:
        yield Word("leave", group, old=True)
    elif kind == _V3:
        yield from _records(message, 4)


def read_mld(message: bytes) -> Iterator[Word]:
    """What an ICMPv6 message says of groups; nothing, where it says nothing or is malformed.  Its checksum is the kernel's affair."""
    if len(message) < 8:
        return
    kind = message[0]
    if kind == _MLD2_REPORT:
        yield from _records(message, 16)
    elif kind in (_MLD_QUERY, _MLD_REPORT, _MLD_DONE) and len(message) >= 24:
        group = str(ipaddress.IPv6Address(message[8:24]))
        if kind == _MLD_QUERY:
            yield Word("query", "" if group == "::" else group, old=len(message) == 24)
        else:
            yield Word("join" if kind == _MLD_REPORT else "leave", group, old=True)


def _records(message: bytes, size: int) -> Iterator[Word]:
    """The records of an IGMPv3 or MLDv2 report, whose addresses have ``size`` bytes."""
    count = min(struct.unpack_from(">H", message, 6)[0], MAX_RECORDS)
    at = 8
    for _ in range(count):
        if at + 4 + size > len(message):
            return
        kind, auxiliary, sources = struct.unpack_from(">BBH", message, at)
        group = str(ipaddress.ip_address(message[at + 4 : at + 4 + size]))
        at += 4 + size + size * sources + 4 * auxiliary
        if at > len(message):
            return
        if kind in _JOINS or (kind in _INCLUDE and sources):
            yield Word("join", group)
        elif kind in _INCLUDE:
            yield Word("leave", group)


def igmp_query(group: str, response_s: float, query_s: float) -> bytes:
    """An IGMPv3 query (RFC 3376 section 4.1); ``group`` "": a general one."""
    address = ipaddress.IPv4Address(group or "0.0.0.0").packed
    begin = struct.pack(">BB", _QUERY, _code(response_s * 10))
    end = address + struct.pack(">BBH", ROBUSTNESS, _code(query_s), 0)
    return begin + struct.pack(">H", checksum(begin + b"\0\0" + end)) + end


def mld_query(group: str, response_s: float, query_s: float) -> bytes:
    """An MLDv2 query (RFC 3810 section 5.1); the kernel fills in its checksum."""
    address = ipaddress.IPv6Address(group or "::").packed
    most = min(round(response_s * 1_000), 0x7FFF)
    return (
        struct.pack(">BBHHH", _MLD_QUERY, 0, 0, most, 0)
        + address
        + struct.pack(">BBH", ROBUSTNESS, _code(query_s), 0)
    )


def checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071); of a message with its checksum in place it is 0."""
    if len(message) % 2:
        message += b"\0"
    total: int = sum(struct.unpack(f">{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _code(value: float) -> int:
    """A time as a byte: itself up to 127, else a mantissa and an exponent, rounded down (RFC 3376 section 4.1.1)."""
    whole = max(1, min(round(value), 31_744))
    if whole < 128:
        return whole
    exponent = whole.bit_length() - 8
    mantissa = (whole >> (exponent + 3)) & 0x0F
    return 0x80 | exponent << 4 | mantissa


class Memberships:
    """One interface and family.  ``own``: our addresses there; ``query_s`` 0: we never ask; ``subscription_s`` 0: as the RFC reckons it."""

    def __init__(self, own: tuple[str, ...], query_s: float, subscription_s: float, now: float) -> None:
        self.own = own
        self.refused = 0  #: groups not remembered, since there were too many
        self.reports = 0  #: words of others about groups
        self._query_s = query_s
        self._kept_s = subscription_s or ROBUSTNESS * (query_s or QUERY_S) + RESPONSE_S
        self._until: dict[str, float] = {}
        self._asked: dict[str, int] = {}
        self._asks_at = now
        self._knows_at = now + LEARNING_S if query_s else now + self._kept_s
        self._old_until = float("-inf")

    def heard(self, host: str, word: Word, now: float) -> list[str]:
        """``host`` said this; groups to ask about at once, one question each."""
        if host in self.own:
            return []
        if word.kind == "query":
            if word.old:
                self._old_until = now + OLD_S
            if not word.group and self._query_s and self._goes_before(host):
                self._asks_at = now + ROBUSTNESS * self._query_s + RESPONSE_S / 2
            return []
        self.reports += 1
        if word.old:
            self._old_until = now + OLD_S
        if word.kind == "join":
            if word.group in self._until or len(self._until) < MAX_GROUPS:
                self._until[word.group] = now + self._kept_s
            else:
                self.refused += 1
            return []
        if word.group not in self._until:
            return []
        self._until[word.group] = min(self._until[word.group], now + ROBUSTNESS * LAST_S)
        return [word.group] if self._query_s else []

    def listened(self, group: str, now: float) -> bool:
        """Whether somebody on the network wants this group, as far as is known."""
        return now < self._knows_at or now < self._old_until or self._until.get(group, 0.0) > now

    def asks(self, now: float) -> bool:
        """Whether it is time for a general query; asking this answers it."""
        if not self._query_s or now < self._asks_at:
            return False
        self._asks_at = now + self._query_s
        for group in [group for group, until in self._until.items() if until <= now]:
            del self._until[group]
        return True

    @property
    def groups(self) -> tuple[str, ...]:
        """Those remembered, for people."""
        return tuple(sorted(self._until))

    def _goes_before(self, host: str) -> bool:
        """Whether that querier is the one to ask: the lowest address; 0.0.0.0 is a switch that stands in for one."""
        ip = ipaddress.ip_address(host.partition("%")[0])
        own = [each for each in map(ipaddress.ip_address, self.own) if each.version == ip.version]
        return int(ip) != 0 and bool(own) and int(ip) < min(map(int, own))
