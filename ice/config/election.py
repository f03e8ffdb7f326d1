"""``[[server_groups]]``: satellites of which one works while the others stand by.

A server group is the same table on every machine, for all kinds of satellites; a satellite finds itself in it by the UUID of its certificate
(``[identity]``). The salt that signs ballots is a file of its own, the same on every member.
"""

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import RESTART, FileName, Listed, OptionalFileName, Section, Text, within_bytes
from ice.config.groups import IdField, each_once
from ice.config.multicast import InterfaceName
from ice.config.reflector import Destination
from ice.config.salt import read_salt
from ice.election.rules import (
    CYCLE_S,
    MAX_CYCLE_S,
    MAX_MEMBERS,
    MIN_CYCLE_S,
    Group,
    Member,
    Quorum,
)
from ice.net.addresses import Address

MAX_SERVER_GROUPS = 256
MIN_SALT_BYTES = 16
MAX_SALT_BYTES = 64  # HMAC-SHA-256 takes no more than its block as it is
BALLOTS = Address("239.255.74.43", 7445)  # administrative scope (RFC 2365)


class ServerMemberSettings(Section):
    """One satellite of the server group above; the higher in the list, the sooner it leads."""

    id: IdField = Field(
        description="The UUID in its certificate (ice pki show FILE tells it).",
        examples=["1d3a7c52-8f61-4b0e-9c27-5e4f6a8b9c0d"],
    )
    name: Annotated[Text, within_bytes(256)] = Field("", description="Name of the satellite, for people.")
    enabled: bool = Field(
        True,
        description="Set to false, the satellite is out of service: it never leads, and is counted all the same.",
    )


class ServerGroupSettings(Section):
    """Satellites of which one works while the others stand by: the same table on every machine."""

    id: IdField = Field(
        description="Id of the server group, a UUID made once (uuidgen) and never changed.",
        examples=["6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"],
    )
    name: Annotated[Text, within_bytes(256)] = Field(
        "", description="Name of the server group, for people.", examples=["reflectors north"]
    )
    quorum: Literal["none", "majority", "n-1"] = Field(
        "majority",
        description="Members that must be heard, itself included, before one leads: none, majority (more than half) or n-1 (all but one).",
    )
    exclusive: bool = Field(
        True,
        description="With majority: count only those who name the leader in their ballots, so that two never lead; false: the documented rule alone.",
    )
    cycle_s: float = Field(
        CYCLE_S,
        ge=MIN_CYCLE_S,
        le=MAX_CYCLE_S,
        description="How often members vote; a dead leader is replaced after two to four of it. 10 as the original; 0.1 where every second counts.",
    )
    salt_file: FileName = Field(
        Path("election.salt"),
        description="File with the salt of the ballots, 32 to 128 hexadecimal digits, the same on every member; nobody else may read it.",
    )
    next_salt_file: OptionalFileName = Field(
        None, description="Another salt that is accepted, while salts are changed; empty: none."
    )
    rallypoint: bool = Field(True, description="Send and hear ballots over the Rallypoints.")
    interface: Annotated[InterfaceName, RESTART] = Field(
        "",
        description="Network interface for ballots over multicast, by its name; empty: none are sent over multicast.",
    )
    multicast: Annotated[Destination, RESTART] = Field(
        BALLOTS, description="Multicast group and port of the ballots, for this server group alone."
    )
    ttl: Annotated[int, RESTART] = Field(
        8, ge=0, le=255, description="Routers that a ballot over multicast may pass, plus 1."
    )
    hand_over_s: float = Field(
        0.0,
        ge=0,
        le=300,
        description="A satellite that needs longer to begin or to stop its work is stuck, which is an error; 0: a cycle, at least 2 seconds.",
    )
    members: Listed[ServerMemberSettings] = Field(min_length=1, max_length=MAX_MEMBERS)

    _each_once = field_validator("members")(each_once)

    @field_validator("interface")
    @classmethod
    def _some_way(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("rallypoint") is False:
            raise PydanticCustomError(
                "ways",
                "ballots have no way: set rallypoint = true, or name an interface for multicast",
                {"also": "rallypoint"},
            )
        return value

    @field_validator("multicast")
    @classmethod
    def _multicast(cls, value: Address) -> Address:
        if value.ip is None or not value.ip.is_multicast:
            raise PydanticCustomError("multicast", "{address} is no multicast group", {"address": str(value)})
        return value

    def rules(self) -> Group:
        """The group as the election knows it; raises :class:`~ice.errors.LocalError` that names the file where a salt cannot be read."""
        files = [self.salt_file] + ([self.next_salt_file] if self.next_salt_file else [])
        return Group(
            str(self.id),
            tuple(Member(str(each.id), each.name, each.enabled) for each in self.members),
            Quorum(self.quorum),
            self.cycle_s,
            tuple(_salt(file) for file in files),
            self.name,
            self.exclusive,
        )


def distinct_server_groups(groups: tuple[ServerGroupSettings, ...]) -> tuple[ServerGroupSettings, ...]:
    """Refuse a second server group of one id, and two that send their ballots to the same multicast group."""
    seen: dict[UUID, int] = {}
    places: dict[tuple[str, Address], int] = {}
    for index, group in enumerate(groups):
        if seen.setdefault(group.id, index) != index:
            raise PydanticCustomError(
                "twice",
                'a server group has the id "{id}" already; each has an id of its own',
                {"id": str(group.id), "below": index},
            )
        place = group.interface, group.multicast
        if group.interface and places.setdefault(place, index) != index:
            raise PydanticCustomError(
                "taken",
                "the server group {number} uses {address} on {interface} already: give each a group or a port of its own",
                {
                    "number": places[place] + 1,
                    "address": str(group.multicast),
                    "interface": group.interface,
                    "below": index,
                },
            )
    return groups


def _salt(path: Path) -> bytes:
    advice = "make one with `openssl rand -hex 32`, and copy it to every member of the server group"
    return read_salt(path, "the salt of ballots", MIN_SALT_BYTES, MAX_SALT_BYTES, advice)
