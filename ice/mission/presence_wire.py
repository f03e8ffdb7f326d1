"""Presence on the wire, whichever way it is written: a datagram's first character tells JSON from Cursor-on-Target.

A group's presence format says what *we* write; what others write is read either way, so that a team may change its format without a gap.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ice.mission.cot import read_event, write_event
from ice.mission.presence import (
    MAX_SENT,
    Descriptor,
    Form,
    Kind,
    PresenceError,
    Reason,
    Told,
    bounded,
    fitted,
    read_descriptor,
    write_descriptor,
)

_MARK: Final = b"\xef\xbb\xbf"  # a UTF-8 byte order mark, which some libraries put before everything
_TAK: Final = 0xBF  # the first byte of the TAK protocol, version 1


def read(payload: bytes) -> Told:
    """What a datagram tells of a person; raises :class:`~ice.mission.presence.PresenceError` and nothing else."""
    bounded(payload)
    body = payload.removeprefix(_MARK).lstrip()
    if body.startswith(b"{"):
        return read_descriptor(body)
    if body.startswith(b"<"):
        return read_event(body)
    if payload[:1] and payload[0] == _TAK:
        raise PresenceError(
            Reason.PROTOBUF,
            "presence in the TAK protocol's binary version 1, which is not read here; set the sender to XML (version 0)",
        )
    raise PresenceError(
        Reason.FORMAT, "neither JSON nor Cursor-on-Target XML: is it encrypted with another key?"
    )


def write(
    kind: Kind, descriptor: Descriptor, form: Form, limit: int = MAX_SENT
) -> tuple[bytes, tuple[str, ...]]:
    """A datagram of at most ``limit`` bytes, and what was shortened for it: see :func:`ice.mission.presence.fitted`.

    In JSON an emergency is a bit of the whole state and good-bye a pair of times, so every kind is a descriptor there.
    """
    writer: Callable[[Descriptor], bytes]
    writer = write_descriptor if form is Form.JSON else partial(write_event, kind)
    return fitted(descriptor, writer, limit)
