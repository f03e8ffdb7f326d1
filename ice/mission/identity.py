"""Ids that follow from what they name: whoever configures the same has the same channel, without asking anybody.

A group's id is the UUID version 5 (RFC 4122 section 4.3), in the namespace below, of these texts joined without anything between them: name,
type, cryptoPassword as written, rx address and port, tx address and port, then of each Rallypoint in order its address and port.
What is absent contributes nothing. A mission's id is that of its name alone. Since ``cryptoPassword`` goes into a public id, it must be
random: a word behind it could be guessed by trying.
"""

import uuid
from collections.abc import Iterator
from typing import Final

import attrs

from ice.mission.model import Group, GroupType, Mission, Origin
from ice.mission.parts import Host

NAMESPACE: Final = uuid.UUID("d15fbc09-ad8b-4080-be3c-15ab56d08d00")


def group_id(group: Group) -> str:
    """The id by the recipe, in lower case and without braces, whatever ``group.id`` and ``group.id_override`` say."""
    return _uuid5("".join(_said(group)))


def mission_id(name: str) -> str:
    """The id of a mission of this name."""
    return _uuid5(name)


def stream_id(group_id: str) -> str:
    """The id of a group as Rallypoints and keys know it: without braces, in lower case."""
    bare = group_id[1:-1] if group_id.startswith("{") and group_id.endswith("}") else group_id
    return bare.lower()


def effective_id(group: Group) -> str:
    """The id that counts: as written where that is overridden or where the recipe says the same, else by the recipe."""
    if group.id_override and group.id:
        return group.id
    computed = group_id(group)
    return group.id if stream_id(group.id) == computed else computed


def renewed(mission: Mission) -> Mission:
    """The mission with every id as it counts now, after something has been changed."""
    groups = tuple(attrs.evolve(group, id=effective_id(group)) for group in mission.groups)
    id = mission_id(mission.name)
    return attrs.evolve(mission, id=mission.id if stream_id(mission.id) == id else id, groups=groups)


def _said(group: Group) -> Iterator[str]:
    yield group.name
    # 0 counts where a file says 0, and not where it says nothing.
    if group.type is not GroupType.UNKNOWN or group.written.get("type") is not None:
        yield str(int(group.type))
    if group.crypto_password is not None:
        yield group.crypto_password
    for host in (group.rx, group.tx):
        if host is not None:
            yield from _place(host)
    if group.rallypoints_from is not Origin.MISSION:
        for rallypoint in group.rallypoints:
            yield from _place(rallypoint.host)


def _place(host: Host) -> Iterator[str]:
    yield host.address
    if host.port or host.written.get("port") is not None:
        yield str(host.port)


def _uuid5(name: str) -> str:
    # Half a surrogate pair has no UTF-8; JavaScript's encoders put U+FFFD in its place.
    sound = name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return str(uuid.uuid5(NAMESPACE, sound))
