"""Calls that belong to a channel, at work: :mod:`ice.telephony.lobby_engine` with a clock, streams and trunks.

One timer: every 20 ms while somebody is on a line, else when a call has something to wait for. Channels are joined while callers are in them, and sealed with their own keys.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred

from ice.errors import LocalError
from ice.net.alarm import Alarm
from ice.net.clock import Clock
from ice.streams.interface import Datagram, Network, Stream
from ice.streams.sealed import SealedNetwork
from ice.telephony.call import Timing
from ice.telephony.causes import Cause
from ice.telephony.dial_in import DialIn
from ice.telephony.lobby_engine import LobbyEngine
from ice.telephony.lobby_orders import DialOutRefused, Join, Leave, LobbyCall, Order, SayLine, SayStream
from ice.telephony.lobby_room import Place, place_of
from ice.telephony.prompts import Prompts
from ice.telephony.records import CallRecord
from ice.telephony.switchboard import AskTrunk, Record
from ice.telephony.trunk import Report, Request, Sound, TrunkOrder

__all__ = ["DialIn", "DialOutRefused", "Lobby", "LobbyCall", "Place", "Prompts", "place_of"]


def _as_it_is(number: str) -> str | None:
    return number


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


class Lobby:
    """See the module docstring.

    ``dial_ins`` lead into channels, which ``places`` describes by stream id (others are Opus in clear, half duplex); ``trunks`` says which call manager is asked, and is told of their health by whoever has it. ``ask``, ``sound`` and ``record`` carry out what
    is to be done. ``rate_of`` is the rate of a trunk's lines, ``normal`` a number's normal form, ``free`` whether the gateway as a whole takes one more call; ``look`` is called before anything is said or heard (the election's fence). Begins as standby.

    Raises :class:`~ice.errors.LocalError` for two dial-ins of one number, a code that is none, a place whose key is missing, and a channel whose codec is not here.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        dial_ins: Sequence[DialIn],
        places: Mapping[str, Place],
        trunks: TrunkOrder,
        *,
        ask: Callable[[str, Request], None],
        sound: Callable[[str, UUID, bytes], None],
        record: Callable[[CallRecord], None],
        rate_of: Callable[[str], int],
        normal: Callable[[str], str | None] = _as_it_is,
        free: Callable[[], bool] = _always,
        look: Callable[[], None] = _nothing,
        wall: Callable[[], float] = time.time,
        timing: Timing | None = None,
        prompts: Prompts | None = None,
        chance: random.Random | None = None,
    ) -> None:
        for place in places.values():
            if place.channel.shut and any(each.channel == place.channel.stream_id for each in dial_ins):
                raise LocalError(
                    f"the channel {place.channel.shown} is encrypted, and its key is not here: nobody can be let in"
                )
        self.engine = LobbyEngine(
            dial_ins,
            places,
            trunks,
            rate_of=rate_of,
            normal=normal,
            free=free,
            timing=timing or Timing(),
            prompts=prompts or Prompts(),
            chance=chance or random.SystemRandom(),
        )
        self._clock = clock
        keyrings = {stream: place.channel.keyring for stream, place in places.items()}
        self._network = SealedNetwork(network, keyrings.get, wall)
        self._ask, self._sound, self._record = ask, sound, record
        self._wall = wall
        self._look = look
        self._alarm = Alarm(clock, self._tick)
        self._streams: dict[str, Stream] = {}
        self._stopping: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self.engine)

    # -- from trunks

    def takes(self, trunk: str, report: Report) -> bool:
        """Whether a report is ours: a call to one of our numbers, and whatever comes of a call that we have."""
        return self.engine.takes(trunk, report)

    def told(self, trunk: str, report: Report) -> None:
        """Something came of a trunk, and it is ours."""
        orders = self.engine.report(trunk, report, self._clock.seconds(), self._wall())
        if orders or not isinstance(
            report, Sound
        ):  # fifty times a second and line there is nothing to be done
            self._carry(orders)

    # -- for people

    def dial_out(self, channel: str, number: str, who: str, *, urgent: bool = False) -> UUID:
        """Call a number for a channel (its stream id or its name); who answers is in it. ``number`` is in normal form and allowed by the plan; ``who`` wants it; ``urgent``: whatever the limits.

        Raises :class:`~ice.telephony.lobby_orders.DialOutRefused`.
        """
        now, unix_s = self._clock.seconds(), self._wall()
        id, orders = self.engine.dial_out(channel, number, who, now, unix_s, urgent=urgent)
        self._carry(orders)
        return id

    def end(self, call: UUID, cause: Cause = Cause.HUNG_UP) -> bool:
        """Hang up; false where there is no such call."""
        orders = self.engine.end(call, cause, self._clock.seconds(), self._wall())
        self._carry(orders)
        return bool(orders)

    def calls(self) -> tuple[LobbyCall, ...]:
        """The calls there are; times of our clock."""
        return self.engine.calls()

    def status(self) -> dict[str, Any]:
        """Counters, and who is where, as plain values."""
        return self.engine.status()

    # -- for the gateway

    def configure(self, timing: Timing) -> None:
        """Go on by other times; calls that stand keep theirs."""
        self.engine.timing = timing

    def set_active(self, active: bool) -> None:
        """The election has spoken; as standby all calls end with ``takeover``."""
        self._carry(self.engine.set_active(active, self._clock.seconds(), self._wall()))

    def stop(self, cause: Cause = Cause.SHUTDOWN) -> Deferred[None]:
        """End all calls and take no more; fires when all lines have let go or would not, at most 5 s later."""
        done: Deferred[None] = Deferred()
        self._stopping.append(done)
        self._carry(self.engine.stop(cause, self._clock.seconds(), self._wall()))
        return done

    # -- within

    def _carry(self, orders: Iterable[Order]) -> None:
        for order in orders:
            match order:
                case SayLine(trunk, call, samples):
                    self._sound(trunk, call, samples)
                case SayStream(name, payload, flags):
                    stream = self._streams.get(name)
                    if stream is not None:
                        stream.send(payload, flags)
                case AskTrunk(trunk, request):
                    self._ask(trunk, request)
                case Record(record):
                    self._record(record)
                case Join(name):
                    stream = self._network.join(name, _Ear(self, name))
                    self._streams[name] = stream
                    if stream.up:
                        self.path(name, True)
                case Leave(name):
                    stream = self._streams.pop(name, None)
                    if stream is not None:
                        stream.leave()
        if self._stopping and not len(self.engine):
            done, self._stopping = self._stopping, []
            for each in done:
                each.callback(None)
        self._alarm.set(self.engine.deadline)

    def heard(self, stream: str, datagram: Datagram) -> None:
        """A datagram came on a channel."""
        self._look()
        self.engine.datagram(stream, datagram, self._clock.seconds())

    def path(self, stream: str, up: bool) -> None:
        """The way to a channel has opened or closed."""
        self.engine.path(stream, up, self._clock.seconds())

    def _tick(self) -> None:
        self._look()
        self._carry(self.engine.tick(self._clock.seconds(), self._wall()))


class _Ear:
    """One channel's receiver."""

    def __init__(self, lobby: Lobby, stream: str) -> None:
        self._lobby = lobby
        self._stream = stream

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._lobby.heard(self._stream, datagram)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._lobby.path(self._stream, up)
