"""Who belongs to the mesh: the links that a Rallypoint wants, drawn from its groups and from a peering file, without I/O.

**Groups** are tables of the configuration, the same on every machine. A Rallypoint takes part in each group that names the UUID
of its certificate, and wants a link with every other member. Both ends of a pair find the same cost: the dearer of those
that the two entries give, else the group's; in two groups, the lower.

**A peering file** is the list that a site of the original already has: JSON, an object with ``peers`` or the bare array. It may name
its own reader, so that one list serves all. What the original would have swallowed without a word (a wrongly typed value, an
unknown key) is read as the original reads it, by its default, and told as a warning; what cannot be meant is refused as a
whole, so that half a list never ends links: no JSON, no list, no UUID.

**A leaf** is one everywhere: one enabled entry, in any group or in the list, that says so is enough. It wants links with core members
only, and core members expect it as a leaf.

The plan is a function of these values alone: the same configuration gives the same plan, whatever was before.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.link.peer import MAX_LINKS
from ice.net.addresses import Address, AddressError, parse_address

DEFAULT_COST: Final = 10  # of a link; there is room below for better ones
DEFAULT_PORT: Final = 7443
CONNECT_TIMEOUT_S: Final = 5.0
MAX_CONNECT_TIMEOUT_S: Final = 120.0  # as network.connect_timeout_s
MAX_TEXT: Final = 1 << 20  # characters; 1,024 peers with a certificate each stay under it
MAX_PEERS: Final = 1_024  # entries; four times what one Rallypoint may be linked with
MAX_WARNINGS: Final = 20  # kinds told about one file; a file with more is another kind of file
MAX_ALTERNATIVES: Final = 64  # addresses that a WELCOME carries (docs/link-protocol.md)
SHOWN: Final = 40  # characters of wrong text that are repeated to its author

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class PeeringError(LocalError):
    """A peering file that cannot be used; the message names the file, the place in it, what was expected and what came."""


class IdError(LocalError, ValueError):
    """Text that is no Rallypoint's id. (A ValueError so that pydantic shows it.)"""


def rallypoint_id(text: str) -> UUID:
    """A Rallypoint's UUID as people write it: any case, with or without braces.  Raises :class:`IdError`."""
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    if not _UUID.fullmatch(bare):
        raise IdError(
            f'expected the UUID of a Rallypoint\'s certificate (ice pki show FILE), found "{_shown(text)}"'
        )
    return UUID(bare)


# -- what goes in ---------------------------------------------------------------------------------------------------------


class Member(Protocol):
    """One entry of a group, as the configuration has it."""

    @property
    def id(self) -> UUID:
        """Of its certificate."""

    @property
    def address(self) -> Address | None:
        """Where it is dialled; None: it dials."""

    @property
    def leaf(self) -> bool:
        """It never carries others' traffic."""

    @property
    def enabled(self) -> bool:
        """False: as if the entry were not there."""

    @property
    def cost(self) -> int:
        """Of each link with it; 0: the group's."""


class Group(Protocol):
    """Rallypoints that are linked each with each."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def cost(self) -> int:
        """Of each link between members that give none themselves."""

    @property
    def virtual(self) -> Sequence[Address]:
        """Ways in besides the members' own addresses."""

    @property
    def members(self) -> Sequence[Member]:
        """Each Rallypoint once."""


@attrs.frozen
class Listed:
    """One entry of a peering file."""

    id: UUID
    address: Address | None = None
    enabled: bool = True
    leaf: bool = False
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    #: Whether we should be a leaf on the link with it; None: as we are on all.
    asks_for_leaf: bool | None = None


@attrs.frozen
class PeeringFile:
    """A peering file that holds: its entries, each id once, and what is odd about it."""

    source: str
    peers: tuple[Listed, ...] = ()
    warnings: tuple[str, ...] = ()


# -- what comes out -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Expected:
    """A Rallypoint that we want a link with; ``address`` None: it must dial us."""

    id: UUID
    address: Address | None = None
    cost: int = DEFAULT_COST
    leaf: bool = False
    connect_timeout_s: float = CONNECT_TIMEOUT_S


@attrs.frozen
class Plan:
    """Our part in the mesh.

    :ivar leaf: whether we are a leaf ourselves.
    :ivar peers: in the order of their ids; never ourselves, and no leaves where we are one.
    :ivar alternatives: other ways into the mesh, for clients: virtual addresses, then members', never our own.
    :ivar warnings: sentences about what is probably not meant.
    """

    leaf: bool = False
    peers: Mapping[UUID, Expected] = attrs.field(factory=dict)
    alternatives: tuple[Address, ...] = ()
    warnings: tuple[str, ...] = ()
    #: How many of the alternatives are virtual addresses; the others are equally good.
    virtual: int = 0


def plan_of(groups: Sequence[Group], own: UUID, listed: PeeringFile | None = None) -> Plan:
    """Which links the Rallypoint ``own`` wants, by the groups of its configuration and the peering file, where there is one."""
    entries = listed.peers if listed is not None else ()
    out = any(peer.id == own and not peer.enabled for peer in entries)
    if out:
        entries = ()
    joined = [
        (group, entry) for group in groups for entry in group.members if entry.id == own and entry.enabled
    ]
    leaves = {m.id for group in groups for m in group.members if m.enabled and m.leaf}
    leaves |= {peer.id for peer in entries if peer.enabled and peer.leaf}
    leaf = own in leaves
    warnings = list(_about_membership(groups, own)) if not joined else []
    if out:
        warnings.append(f"the peering file switches this Rallypoint, {own}, off: nobody is linked by it")

    found: dict[UUID, Expected] = {}
    for group, ours in joined:
        for member in group.members:
            if not member.enabled or member.id == own:
                continue
            cost = max(ours.cost, member.cost) or group.cost
            before = found.get(member.id, Expected(member.id, cost=cost))
            found[member.id] = attrs.evolve(
                before,
                address=before.address or member.address,
                cost=min(cost, before.cost),
                leaf=member.id in leaves,
            )
    grouped = dict(found)
    for peer in entries:
        if peer.id == own:
            continue  # one list for all
        if not peer.enabled:
            if peer.id in grouped:
                warnings.append(
                    f"{peer.id} is switched off in the peering file, but a group has it: it is linked"
                )
            continue
        before = found.get(peer.id, Expected(peer.id))
        if before.address and peer.address and before.address != peer.address:
            warnings.append(
                f"{peer.id} is at {before.address} by its group and at {peer.address} by the peering file: "
                "the group's is dialled"
            )
        if peer.asks_for_leaf is not None and peer.asks_for_leaf != leaf:
            warnings.append(_about_policy(peer.id, leaf))
        found[peer.id] = attrs.evolve(
            before,
            address=before.address or peer.address,
            leaf=peer.id in leaves,
            connect_timeout_s=peer.connect_timeout_s,
        )

    ours_at = {entry.address for _, entry in joined} | {peer.address for peer in entries if peer.id == own}
    peers = {id: found[id] for id in sorted(found) if not (leaf and found[id].leaf)}
    warnings += _about_addresses(found, grouped, ours_at)
    if found and not peers:
        warnings.append("this Rallypoint is a leaf, and so are all others: nobody is there to link with")
    if len(peers) > MAX_LINKS:
        warnings.append(
            f"links with {len(peers)} Rallypoints are wanted; one may have {MAX_LINKS}: make smaller groups"
        )
    virtual = dict.fromkeys(way for group, _ in joined for way in group.virtual if way not in ours_at)
    ways = [*virtual, *(e.address for e in found.values())]
    distinct = dict.fromkeys(way for way in ways if way is not None and way not in ours_at)
    ways_in = tuple(distinct)[:MAX_ALTERNATIVES]
    return Plan(leaf, peers, ways_in, tuple(warnings), min(len(virtual), len(ways_in)))


def _about_membership(groups: Sequence[Group], own: UUID) -> Iterator[str]:
    naming = [group.name for group in groups if any(member.id == own for member in group.members)]
    if naming:
        yield f"this Rallypoint, {own}, is switched off (enabled = false) in {', '.join(naming)}: it is out of service there"
    elif groups:
        yield f"this Rallypoint, {own}, is a member of no group: add its id to one, on every machine"


def _about_policy(id: UUID, leaf: bool) -> str:
    wanted, what = ("no leaf", "a leaf") if leaf else ("a leaf", "no leaf")
    return (
        f"the peering file asks us to be {wanted} (outboundLeafPolicy) on the link with {id}, but we are {what}: "
        "a Rallypoint is a leaf on all its links or on none (leaf in a group, forceIsMeshLeaf in a list, at our own id)"
    )


def _about_addresses(
    found: Mapping[UUID, Expected], grouped: Mapping[UUID, Expected], ours: set[Address | None]
) -> Iterator[str]:
    """Addresses that lead to two Rallypoints. What the groups alone say twice, the configuration's own warnings tell."""
    first: dict[Address, UUID] = {}
    for id, peer in found.items():
        if peer.address is None:
            continue
        if peer.address in ours:
            yield f"{id} is said to be at {peer.address}, which is our own address: dialling it may lead back here"
        elif (other := first.setdefault(peer.address, id)) != id and not (id in grouped and other in grouped):
            yield f"{id} and {other} are both said to be at {peer.address}: dialling it leads to one of them"


# -- the peering file -----------------------------------------------------------------------------------------------------

_FILE_KEYS: Final = {"id", "version", "comments", "peers"}
_PEER_KEYS: Final = {
    "id",
    "enabled",
    "host",
    "connectionTimeoutSecs",
    "forceIsMeshLeaf",
    "outboundLeafPolicy",
}
_HOST_KEYS: Final = {"address", "port"}
_NOT_USED: Final = {
    "certificate": "not used: a Rallypoint shows everybody the certificate of [rallypoint]",
    "path": "not used: Rallypoints speak TLS with each other, not WebSocket",
    "protocol": "not used: Rallypoints speak TLS with each other, not WebSocket",
    "additionalProtocols": "not used: Rallypoints speak TLS with each other, not WebSocket",
}
_POLICIES: Final[dict[object, bool | None]] = {0: None, 1: True, 2: False}


def read_peering(text: str, source: str) -> PeeringFile:
    """Read a peering file; ``source`` is what people call it. Raises :class:`PeeringError`, whatever the text."""
    if len(text) > MAX_TEXT:
        raise PeeringError(f"{source}: is larger than {MAX_TEXT} characters; is it a peering file at all?")
    return _Reader(source).file(_parse(text.removeprefix("\ufeff"), source))


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys were given more than once."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        made.repeated = tuple(key for key, count in counts.items() if count > 1)
    return made


class _NoJson(ValueError):
    """A word that Python takes for a number and JSON does not."""


def _no_number(word: str) -> NoReturn:
    raise _NoJson(f"{word} is no JSON")


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise PeeringError(
                f'{source}: is empty; expected JSON, an object with "peers" or an array'
            ) from None
        what = error.msg[:1].lower() + error.msg[1:]
        raise PeeringError(f"{source}:{error.lineno}: column {error.colno}: no JSON: {what}") from None
    except _NoJson as error:
        raise PeeringError(f"{source}: {error}") from None
    except ValueError:  # more digits than Python converts
        raise PeeringError(f"{source}: a number in it has thousands of digits") from None
    except RecursionError:
        raise PeeringError(f"{source}: is nested far deeper than any peering file") from None


class _Reader:
    """Reads one file, and gathers what is odd about it: once per kind, at its first place, with the number of others."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._first: dict[tuple[str, str], str] = {}
        self._more: dict[tuple[str, str], int] = {}

    def file(self, document: Any) -> PeeringFile:
        """The whole of it."""
        if isinstance(document, _Object):
            self._look_over(document, "", _FILE_KEYS)
            if "peers" not in document:
                raise self._refusal("", 'expected "peers", the list of Rallypoints; it is not there')
            entries, path = document["peers"], "peers"
        else:
            entries, path = document, ""
        if not isinstance(entries, list):
            expected = "a list of Rallypoints" if path else 'an object with "peers", or a list of Rallypoints'
            raise self._refusal(path, f"expected {expected}, found {_found(entries)}")
        if len(entries) > MAX_PEERS:
            raise self._refusal(path, f"{len(entries)} Rallypoints are listed; at most {MAX_PEERS} may be")
        peers: dict[UUID, Listed] = {}
        places: dict[UUID, str] = {}
        for index, entry in enumerate(entries):
            place = f"{path}[{index}]"
            peer = self._peer(entry, place)
            if peers.pop(peer.id, None) is not None:
                self._warn(
                    place, "id", f"{peer.id} is listed at {places[peer.id]} too; this later entry counts"
                )
            peers[peer.id] = peer
            places[peer.id] = place
        return PeeringFile(self._source, tuple(peers.values()), tuple(self._warnings()))

    def _peer(self, entry: Any, path: str) -> Listed:
        if not isinstance(entry, _Object):
            raise self._refusal(path, f"expected an object with an id, found {_found(entry)}")
        if not isinstance(entry.get("id"), str):
            came = f"found {_found(entry['id'])}" if "id" in entry else "it is not there"
            raise self._refusal(f"{path}.id", f"expected the UUID of a Rallypoint's certificate; {came}")
        try:
            id = rallypoint_id(entry["id"])
        except IdError as error:
            raise self._refusal(f"{path}.id", str(error)) from None
        self._look_over(entry, path, _PEER_KEYS)
        return Listed(
            id=id,
            address=self._address(entry, path),
            enabled=self._truth(entry, path, "enabled", True),
            leaf=self._truth(entry, path, "forceIsMeshLeaf", False),
            connect_timeout_s=self._timeout(entry, path),
            asks_for_leaf=self._policy(entry, path),
        )

    def _address(self, entry: _Object, path: str) -> Address | None:
        host = entry.get("host")
        if host is None:
            return None
        if not isinstance(host, _Object):
            self._warn(
                path, "host", f"expected an object with address and port, found {_found(host)}; not dialled"
            )
            return None
        path += ".host"
        self._look_over(host, path, _HOST_KEYS)
        text, port = host.get("address"), host.get("port")
        if text is None or text == "":
            return None
        if not isinstance(text, str):
            self._warn(path, "address", f"expected text, found {_found(text)}; not dialled")
            return None
        if port is not None and not (type(port) is int and 0 <= port <= 65535):
            self._warn(
                path, "port", f"expected a number in 1–65535, found {_found(port)}; {DEFAULT_PORT} is taken"
            )
            port = DEFAULT_PORT
        return self._place(text.strip(), port or 0, path)

    def _place(self, text: str, port: int, path: str) -> Address | None:
        """``text`` with ``port`` (0: none is given), or the port that it has itself."""
        try:
            address = parse_address(text)
        except AddressError:
            try:
                address = parse_address(text, default_port=port or DEFAULT_PORT)
            except AddressError as error:
                self._warn(path, "address", f"{error}; not dialled")
                return None
            if not port:
                self._warn(path, "port", f"none is given; {DEFAULT_PORT} is taken")
        else:
            if port not in (0, address.port):
                self._warn(path, "port", f"the address itself says {address.port}, which is taken")
        if address.is_wildcard:
            self._warn(path, "address", f"{address} is no place to dial; not dialled")
            return None
        return address

    def _truth(self, entry: _Object, path: str, key: str, default: bool) -> bool:
        value = entry.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            taken = "true" if default else "false"
            self._warn(path, key, f"expected true or false, found {_found(value)}; {taken} is taken")
            return default
        return value

    def _timeout(self, entry: _Object, path: str) -> float:
        key, value = "connectionTimeoutSecs", entry.get("connectionTimeoutSecs")
        if value is None or (value == 0 and not isinstance(value, bool)):
            return CONNECT_TIMEOUT_S
        number = (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(_small(value))
        )
        if not number or value < 0:
            self._warn(path, key, f"expected seconds, found {_found(value)}; {CONNECT_TIMEOUT_S:g} are taken")
            return CONNECT_TIMEOUT_S
        if value > MAX_CONNECT_TIMEOUT_S:
            self._warn(
                path, key, f"more than {MAX_CONNECT_TIMEOUT_S:g} seconds; {MAX_CONNECT_TIMEOUT_S:g} are taken"
            )
        return max(0.1, min(float(_small(value)), MAX_CONNECT_TIMEOUT_S))

    def _policy(self, entry: _Object, path: str) -> bool | None:
        key, value = "outboundLeafPolicy", entry.get("outboundLeafPolicy")
        if value is None:
            return None
        if type(value) is not int or value not in _POLICIES:
            self._warn(path, key, f"expected 0, 1 or 2, found {_found(value)}; 0 is taken")
            return None
        return _POLICIES[value]

    def _look_over(self, table: _Object, path: str, known: set[str]) -> None:
        for key in table:
            if key not in known:
                why = (
                    _NOT_USED.get(key, "unknown key, not used")
                    if known is _PEER_KEYS
                    else "unknown key, not used"
                )
                self._warn(path, key, why)
        for key in table.repeated:
            self._warn(path, key, "given twice; the last counts")

    def _warn(self, path: str, key: str, message: str) -> None:
        kind = (key, message)
        if kind in self._first:
            self._more[kind] = self._more.get(kind, 0) + 1
        else:
            self._first[kind] = ".".join(part for part in (path, _shown(key)) if part)

    def _warnings(self) -> Iterator[str]:
        for kind, place in list(self._first.items())[:MAX_WARNINGS]:
            more = self._more.get(kind, 0)
            yield f"{self._source}: {place}: {kind[1]}" + (f" (and {more} more like it)" if more else "")
        if (rest := len(self._first) - MAX_WARNINGS) > 0:
            yield f"{self._source}: … and {rest} more kinds of oddities"

    def _refusal(self, path: str, message: str) -> PeeringError:
        return PeeringError(": ".join(part for part in (self._source, path, message) if part))


def _small(value: int | float) -> float:
    """As a float; a whole number that is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _found(value: object) -> str:
    """What was written instead, in words."""
    if isinstance(value, str):
        return f'"{_shown(value)}"' if value else "an empty text"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value) if -1e18 < value < 1e18 else "a very large number"
    return "an object" if isinstance(value, dict) else "a list"


def _shown(text: str) -> str:
    """Wrong text as it is repeated to its author: short, and nothing in it that a terminal obeys."""
    text = "".join(character if character.isprintable() else "�" for character in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
