"""What a patch wants sent, what it has noticed, and what it has counted: values for whoever drives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import attrs

from ice.streams.interface import Datagram


class Passed(NamedTuple):
    """Somebody's datagram, to be passed on under its own name: ``forward(datagram)`` on each of the streams."""

    streams: tuple[str, ...]
    datagram: Datagram


class Spoken(NamedTuple):
    """What the patch itself says: ``send(payload, flags)`` on each of the streams."""

    streams: tuple[str, ...]
    flags: int
    payload: bytes


Out: TypeAlias = Passed | Spoken


@attrs.frozen
class Loop:
    """What is said comes back: another patch, or a bridge of another make, joins the same streams. ``text`` is a sentence for a person.

    ``how``: ``via`` (it came through us, and says so), ``names`` (datagrams that we passed on come back by another stream), ``own`` (what
    we said ourselves comes back by another stream), ``twin`` (one talker is on two streams at once). ``through``: identities of other patches that it came through.
    """

    patch: str
    how: str
    stream: str
    text: str
    through: tuple[str, ...] = ()


@attrs.define
class Traffic:
    """What went one way on one stream."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0


@attrs.frozen
class MemberStatus:
    """One stream of a patch. ``sealing``: in a few words; ``refused``: packets that were heard and not passed on, by reason.

    ``state`` 1 ok, 3 joining, 5 disconnected, −1 error (its key), as the original counts them.
    """

    stream: str
    state: int
    why: str
    sealing: str
    rx: Traffic
    tx: Traffic
    refused: Mapping[str, int]


@attrs.frozen
class TalkerStatus:
    """Somebody who talks in a patch now, and whether he is passed on."""

    stream: str
    ssrc: int
    alias: str
    priority: int
    emergency: bool
    passed: bool


@attrs.frozen
class PatchStatus:
    """One patch: ``state`` 1 ok, 0 none (it stands by), as the original counts them."""

    id: str
    name: str
    mode: str
    state: int
    members: tuple[MemberStatus, ...]
    talkers: tuple[TalkerStatus, ...]
    loops: Mapping[str, int] = attrs.field(factory=Counter)
