"""A trunk: what a gateway asks of a call manager, and what it is told, whichever call manager it is.

Requests and reports are values. A call is named by a UUID: ours for calls that we place, the trunk's for calls that it offers (what a call manager calls its channels is the driver's own affair). What
happens to a call at its line comes as the events of the call's state machine, said by :attr:`~ice.telephony.call.Side.LINE`; sound comes and goes beside that, 20 ms at a time and not kept.

* A driver (``asterisk``) has sockets, and calls :class:`Ears` whenever something comes.
* The built-in call manager (:mod:`ice.telephony.loopback`) is an engine; its driver turns its reports into the same calls.

:func:`request_of` says which request carries out what the state machine wants done at the line. :class:`TrunkOrder` says which of several trunks is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol, TypeAlias
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.telephony import call as life
from ice.telephony.causes import Cause

REST_S: Final = 30.0  # a trunk that failed a call is asked last for so long

# Requests


@attrs.frozen
class Dial:
    """Place a call to ``number``; ``caller`` and ``name`` are what the called should see, where the trunk can say it.

    ``user`` is the person who calls: the trunk notes it where the call manager keeps it, for :class:`Found`.
    """

    call: UUID
    number: str
    caller: str = ""
    name: str = ""
    user: UUID | None = None


@attrs.frozen
class Ring:
    """The called user of an offered call rings."""

    call: UUID


@attrs.frozen
class Accept:
    """The called user has answered: open the line; ``user`` as of :class:`Dial`."""

    call: UUID
    user: UUID | None = None


@attrs.frozen
class HangUp:
    """Let the line go; it reports :class:`~ice.telephony.call.Released` when it has."""

    call: UUID
    cause: Cause


@attrs.frozen
class Press:
    """Pass keys on to the line."""

    call: UUID
    digits: str


@attrs.frozen
class Hold:
    """Put the line on hold: its music, if it has any."""

    call: UUID


@attrs.frozen
class Resume:
    """Take the line off hold."""

    call: UUID


@attrs.frozen
class HandOver:
    """Hand the line to ``number`` without asking back; reports :class:`~ice.telephony.call.TransferDone` or ``TransferFails``."""

    call: UUID
    number: str


Request: TypeAlias = Dial | Ring | Accept | HangUp | Press | Hold | Resume | HandOver

# Reports


@attrs.frozen
class Offered:
    """Somebody calls one of our numbers. ``number`` and ``name``: who, as far as that is known; ``dialled``: whom."""

    call: UUID
    number: str
    dialled: str
    name: str = ""


@attrs.frozen
class Found:
    """After a restart the trunk still has this call, answered: it may be adopted, or hung up.

    ``user`` is the person whose call it is, ``answered_unix_s`` since when: whoever places and accepts calls writes both where the call manager keeps them.
    """

    call: UUID
    direction: life.Direction
    number: str
    user: UUID
    answered_unix_s: float
    dialled: str = ""


@attrs.frozen
class Happened:
    """Something happened to a call at its line."""

    call: UUID
    event: life.Event


@attrs.frozen
class Sound:
    """A line has spoken: 16 bit little-endian mono at ``rate`` Hz."""

    call: UUID
    rate: int
    samples: bytes = attrs.field(repr=False)


@attrs.frozen
class Health:
    """Whether the trunk takes calls; ``why`` is a sentence."""

    up: bool
    why: str


Report: TypeAlias = Offered | Found | Happened | Sound | Health


class Ears(Protocol):
    """Whoever uses a trunk: a gateway."""

    def told(self, trunk: Trunk, report: Report) -> None:
        """Something came of the trunk. Never called from within :meth:`Trunk.ask` or :meth:`Trunk.sound`."""


class Trunk(Protocol):
    """A way to telephone lines."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    @property
    def rate(self) -> int:
        """The sampling rate of its lines, Hz."""

    @property
    def health(self) -> Health:
        """Whether it takes calls now."""

    def ask(self, request: Request) -> None:
        """Have something done; what came of it is told. A request for a call that is not there is answered by ``Lost``, a ``HangUp`` by ``Released``."""

    def sound(self, call: UUID, samples: bytes) -> None:
        """Say 20 ms to a line, at :attr:`rate`; dropped and counted where there is none."""


def request_of(
    id: UUID,
    action: life.Action,
    *,
    number: str = "",
    caller: str = "",
    name: str = "",
    user: UUID | None = None,
) -> Request | None:
    """The request that carries out what a call's state machine wants done at the line; ``None`` where nothing is to be asked of a trunk.

    ``number``, ``caller`` and ``name`` are those of the call, for the first request of an outgoing one; ``user`` is whose call it is.
    """
    line, progress = life.Side.LINE, life.Progress
    match action:
        case life.Ask(side) if side is line:
            return Dial(id, number, caller, name, user)
        case life.Tell(side, progress.RINGING) if side is line:
            return Ring(id)
        case life.Tell(side, progress.ANSWERED) if side is line:
            return Accept(id, user)
        case life.Tell(side, progress.HELD) if side is line:
            return Hold(id)
        case life.Tell(side, progress.RESUMED) if side is line:
            return Resume(id)
        case life.Send(side, digits) if side is line:
            return Press(id, digits)
        case life.Transfer(target):
            return HandOver(id, target)
        case life.Release(side, cause) if side is line:
            return HangUp(id, cause)
    return None


#: Causes after which the same call may be tried on the next trunk: this one could not, nobody was reached.
ELSEWHERE: Final = frozenset({Cause.NO_TRUNK, Cause.LINE_LOST, Cause.CONGESTION, Cause.NO_RESPONSE})


def could_not(call: life.Call, event: life.Event) -> bool:
    """Whether an event of a call that we place says no more than that its trunk could not: the next one may be asked."""
    if not isinstance(call.state, life.Setup) or call.direction is not life.Direction.OUTGOING:
        return False
    if isinstance(event, life.Lost):
        return True
    return isinstance(event, life.Refuses | life.HangsUp) and event.cause in ELSEWHERE


class TrunkOrder:
    """Which of several trunks a call is placed on: in the order given, those that are down or have just failed behind the others.

    Raises :class:`~ice.errors.LocalError` for no trunk and for names twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names or len(set(names)) != len(names):
            raise LocalError(f"trunks need different names, at least one: {', '.join(names) or 'none'}")
        self.names = tuple(names)
        self._health = {name: Health(False, "not heard of yet") for name in names}
        self._rests = dict.fromkeys(names, float("-inf"))

    def told(self, name: str, health: Health) -> None:
        """A trunk's health has changed."""
        self._health[name] = health

    def failed(self, name: str, now: float) -> None:
        """A call could not be placed on this trunk, through its own fault."""
        self._rests[name] = now + REST_S

    def choose(self, now: float, tried: Collection[str] = ()) -> str | None:
        """The trunk to ask next, none of those that were ``tried`` for this call; ``None`` where none is up."""
        able = [name for name in self.names if self._health[name].up and name not in tried]
        return min(able, key=lambda name: (self._rests[name] > now, self.names.index(name)), default=None)

    @property
    def health(self) -> Health:
        """Whether any trunk takes calls; what is wrong with the others."""
        down = [f"{name}: {health.why}" for name, health in self._health.items() if not health.up]
        if len(down) < len(self.names):
            return Health(True, "; ".join(down) or "all trunks are up")
        return Health(False, "; ".join(down))
