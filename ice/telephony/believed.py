"""Who is believed as a gateway: what gateways alone say could otherwise come from any satellite of the site, a reflector, say.

The id under ``[telephone]`` is that of a server group, or of a lone gateway's certificate; nothing in it tells which. So the satellite of that very id is always believed. Another one is believed where
``[[server_groups]]`` lists it as a member of that group; and where the group is not listed, by its role alone.
"""

from __future__ import annotations

from collections.abc import Callable

from ice.config.schema import Config
from ice.security.certificates import Identity, Role


def gateways_of(config: Config, group: str) -> Callable[[Identity], bool]:
    """Whether somebody may speak as a gateway of ``group``, the id of a server group or certificate in lower case; a member out of service may, as long as he does."""
    members = {
        str(member.id) for each in config.server_groups if str(each.id) == group for member in each.members
    }

    def may(identity: Identity) -> bool:
        id = str(identity.id)
        return identity.role is Role.SATELLITE and (not members or id == group or id in members)

    return may
