"""What the lobby wants done, and what it tells of its calls; all of it values.

:mod:`ice.telephony.lobby_engine` gives them, :mod:`ice.telephony.lobby` carries them out.
"""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID, uuid5

import attrs

from ice.errors import LocalError
from ice.telephony.call import Direction
from ice.telephony.causes import Cause
from ice.telephony.switchboard import AskTrunk, Record

_CHANNELS: Final = UUID("7f1f1f0c-93f2-4a68-8a0e-2c5b0d0c5f0b")  # names made of stream ids live here


def channel_id(stream: str) -> UUID:
    """Under what trunks note a channel's calls, where they would note a person's UUID."""
    return uuid5(_CHANNELS, stream)


@attrs.frozen
class Join:
    """Join the stream of a channel."""

    stream: str


@attrs.frozen
class Leave:
    """Leave the stream of a channel."""

    stream: str


@attrs.frozen
class SayStream:
    """Send a datagram on a channel."""

    stream: str
    payload: bytes = attrs.field(repr=False)
    flags: int


@attrs.frozen
class SayLine:
    """Sound 20 ms to a line."""

    trunk: str
    call: UUID
    samples: bytes = attrs.field(repr=False)


Order: TypeAlias = AskTrunk | Record | Join | Leave | SayStream | SayLine


class DialOutRefused(LocalError):
    """The channel cannot call this number now; ``cause`` as records have it."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@attrs.frozen
class LobbyCall:
    """A call as people see it: ``state`` of the call, ``where`` the caller is (``ringing``, ``door``, ``channel``), whether he talks; times in seconds."""

    id: UUID
    direction: Direction
    number: str
    dialled: str
    channel: str
    name: str
    alias: str
    trunk: str
    who: str
    state: str
    where: str
    talking: bool
    began: float
    answered: float | None
