"""``[multicast]``: how this machine takes part in groups on the local network."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ice.config.fields import RESTART, Section
from ice.printable import printable

# What Linux allows as the name of an interface: at most 15 bytes, no slash, colon or space, and not "." or "..".
_NAME = re.compile(r"(?!\.{1,2}\Z)[!-.0-9;-~]{1,15}\Z")


def _interface(value: str) -> str:
    if value and not _NAME.match(value):
        raise PydanticCustomError(
            "interface",
            'expected the name of a network interface like "eth0", at most 15 characters, found "{shown}"',
            {"shown": printable(value, 40)},
        )
    return value


InterfaceName = Annotated[str, AfterValidator(_interface)]
"""The name of a network interface, or ""."""


class MulticastSettings(Section):
    """How this machine takes part in multicast groups on the local network."""

    enabled: Annotated[bool, RESTART] = Field(
        True,
        description="Use multicast where a group has an address for it; false: Rallypoints only, whatever a mission says.",
    )
    interface: Annotated[InterfaceName, RESTART] = Field(
        "",
        description="Network interface of groups that name none; empty: the one by which the system routes to the group.",
    )
    ttl: Annotated[int, RESTART] = Field(
        1,
        ge=0,
        le=255,
        description="How many networks what we say may cross (hops), where a mission does not say; 1: this one only.",
    )
    rejoin_s: Annotated[float, RESTART] = Field(
        8.0,
        ge=0,
        le=3_600,
        description="Join a group again after so much silence, since switches forget who listens; 0: never.",
    )
    loopback: Annotated[bool, RESTART] = Field(
        True, description="Let other programs on this machine hear what we say."
    )
