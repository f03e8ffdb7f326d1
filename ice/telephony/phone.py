"""A person's telephone over a network of streams: the driver of :class:`~ice.telephony.handset.Handset`, and of the sound of its calls.

It joins three streams for its messages, and the call's stream under its key while there is a call. What the person should see is told to one callable (:data:`Seen`); what he does are methods that
answer whether it had any effect. Sound goes in by :meth:`Phone.say`, as it comes, and out by :meth:`Phone.pull`, whenever somebody wants some: a microphone and a loudspeaker set their own pace, and so do files.

**Keys** are said once: as telephone events on the call's stream while the person is heard there, as a message before the answer.

**Silence.** A gateway says something on a call's stream all the time, noise where nobody speaks. Where nothing comes for :data:`SILENT_S` it may have died, and the handset asks after it.

Runs on the reactor's thread; time is the clock's, and ``wall`` the time of day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import attrs
import numpy as np
from twisted.internet.defer import Deferred

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.burst import Sending
from ice.media.codecs import Encoder
from ice.media.mixer import SILENCE_DBOV
from ice.media.payload import Pcm
from ice.net.clock import Clock, DelayedCall
from ice.security.certificates import Identity, role_and_id
from ice.security.trust import Credentials, Trust
from ice.streams.interface import Datagram, Network, Stream
from ice.telephony import call as life
from ice.telephony import handset, messages
from ice.telephony.envelope import Envelopes, any_satellite
from ice.telephony.handset import Handset, Incoming, KeysHeard, Over, Reachable, Shown
from ice.telephony.joining import join_sound
from ice.telephony.messages import Media
from ice.telephony.phone_sound import FRAME_S, PhoneSound, SoundStatistics
from ice.telephony.post import Mail, Post

SILENT_S: Final = 2.0  # without a packet on a stream that should have fifty a second
LEAVE_S: Final = 0.1  # the last copies of a burst's end are on their way by then
PATIENCE_S: Final = 2.0  # a hang-up is confirmed within a round trip; who stops does not wait longer


@attrs.frozen
class Path:
    """Whether the ways to the gateway and back are open; ``why`` is a sentence."""

    up: bool
    why: str


#: What the person should see.
Seen: TypeAlias = Path | Reachable | Incoming | Shown | KeysHeard | Over


class _Way:
    """One of the streams of messages: an :class:`ice.streams.interface.Receiver`."""

    def __init__(self, heard: Callable[[Datagram], None], told: Callable[[str], None]) -> None:
        self.up = False
        self._heard = heard
        self._told = told

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._heard(datagram)

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.up = up
        self._told(why)


class _Line:
    """A call's stream, and its sound: an :class:`ice.streams.interface.Receiver`."""

    def __init__(
        self,
        clock: Clock,
        network: Network,
        call: UUID,
        media: Media,
        sound: PhoneSound,
        wall: Callable[[], float],
    ) -> None:
        self.call = call
        self.sound = sound
        self._clock = clock
        self._stream = join_sound(network, media, self, wall)

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        now = self._clock.seconds()
        self.sound.datagram(datagram.payload, datagram.flags, datagram.source, datagram.sequence, now)

    def path(self, up: bool, why: str) -> None:
        """Nobody is told: that sound does not come is noticed by its absence."""

    def send(self, sendings: list[Sending]) -> None:
        """Say on the stream."""
        for sending in sendings:
            sent = self._stream.send(sending.payload, sending.flags)
            self.sound.sent += sent
            self.sound.unsent += not sent

    def tick(self, now: float) -> None:
        """Send what is due."""
        self.send(self.sound.tick(now))

    def leave(self) -> None:
        """Leave the stream; what was still to be said is said."""
        self.tick(self._clock.seconds())
        self._stream.leave()


class Phone:
    """One person's telephone; see the module docstring.

    ``group`` is the gateway group's id, ``credentials`` who we are, ``trust`` whom we believe now. ``see`` is told what happens, ``alias`` is what others on a call's stream see of us; ``voice`` makes the encoder of a
    call (Opus at 24 kbit/s unless given); ``takes_calls``: whether it rings when somebody calls; ``gateways`` says who is believed as a gateway
    (:func:`ice.telephony.believed.gateways_of` knows it of a configuration). The network is the caller's: started and stopped by him.

    Raises :class:`~ice.errors.LocalError` for a certificate that calls cannot be made with.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        group: str,
        credentials: Credentials,
        trust: Callable[[], Trust],
        see: Callable[[Seen], None],
        *,
        wall: Callable[[], float],
        alias: str = "",
        voice: Callable[[], Encoder] | None = None,
        jitter_max_ms: float = 500.0,
        timing: life.Timing | None = None,
        takes_calls: bool = True,
        new_id: Callable[[], UUID] = uuid4,
        gateways: Callable[[Identity], bool] = any_satellite,
    ) -> None:
        _, me = role_and_id(credentials.certificate)
        post = Post(Envelopes(credentials, trust, gateways), wall(), shared=True)
        self.group = group
        self.alias = alias
        #: Samples that :meth:`pull` has given since a call's sound began; none before it.
        self.samples: int | None = None
        #: The number of the call there is, or was last.
        self.number = ""
        self._handset = Handset(group, me, post, timing=timing, takes_calls=takes_calls, new_id=new_id)
        self._clock = clock
        self._network = network
        self._see = see
        self._wall = wall
        self._voice = voice
        self._jitter_max_ms = jitter_max_ms
        self._ways: dict[str, tuple[_Way, Stream]] = {}
        self._up = False
        self._line: _Line | None = None
        self._leaving: dict[_Line, DelayedCall] = {}
        self._statistics: SoundStatistics | None = None
        self._due: DelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._orders: deque[handset.Order] = deque()
        self._carrying = False

    # -- life

    def start(self) -> None:
        """Join the streams and look for a gateway; nothing happens when it runs already."""
        if self._ways:
            return
        group = messages.group_stream(self.group)
        for stream_id in (group, self._handset.stream, messages.notice_stream(self.group)):
            way = _Way(partial(self._message, stream_id), self._path)
            talk = stream_id == group
            self._ways[stream_id] = way, self._network.join(stream_id, way, listen=not talk, talk=talk)
        self._tick()

    def stop(self) -> Deferred[None]:
        """Hang up, wait until the far side has confirmed that (2 s at most), and leave; fires when all is left."""
        stopped: Deferred[None] = Deferred()
        self.hang_up()

        def leave(_: object = None) -> None:
            if limit.active():
                limit.cancel()
            if not stopped.called:
                self._leave()
                stopped.callback(None)

        limit = self._clock.callLater(PATIENCE_S, leave)
        self.idle().addCallback(leave)
        return stopped

    def idle(self) -> Deferred[None]:
        """Fires when there is no call, not even one of which the end is still to be confirmed."""
        waiting: Deferred[None] = Deferred(self._idle.remove)
        self._idle.append(waiting)
        self._settle()
        return waiting

    def _leave(self) -> None:
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None
        if self._line is not None:
            self._line.leave()
            self._line = None
        for line, call in list(self._leaving.items()):
            call.cancel()
            line.leave()
        self._leaving.clear()
        ways, self._ways, self._up = self._ways, {}, False
        for _, stream in ways.values():
            stream.leave()

    # -- what is known

    @property
    def up(self) -> bool:
        """Whether the ways of messages are open."""
        return self._up

    @property
    def gateway(self) -> str:
        """Who answers as the gateway; empty where nobody does."""
        found = self._handset.gateway
        return "" if found is None else str(found.identity)

    @property
    def call(self) -> life.Call | None:
        """The call there is."""
        return self._handset.call

    @property
    def talking(self) -> bool:
        """Whether the person is heard."""
        return self._line is not None and self._line.sound.talks

    @property
    def levels_dbov(self) -> tuple[float, float]:
        """What is said and what is heard, of the last frame."""
        if self._line is None:
            return SILENCE_DBOV, SILENCE_DBOV
        return self._line.sound.said_dbov, self._line.sound.heard_dbov

    @property
    def statistics(self) -> SoundStatistics | None:
        """Of the sound of the call there is, or was last."""
        return self._line.sound.statistics() if self._line is not None else self._statistics

    # -- the person

    def dial(self, number: str) -> UUID:
        """Call a number. Raises :class:`~ice.errors.LocalError` without a gateway, during a call, and for no number."""
        id, orders = self._handset.dial(number, self.alias, self._clock.seconds(), self._wall())
        self.number = number
        self._carry_out(orders)
        return id

    def answer(self) -> bool:
        """Take the call that rings."""
        return self._person(self._handset.answer)

    def reject(self) -> bool:
        """Do not take the call that rings."""
        return self._person(self._handset.reject)

    def hang_up(self) -> bool:
        """End the call, or give it up, or reject it."""
        return self._person(self._handset.hang_up)

    def hold(self) -> bool:
        """Put the call on hold: nobody hears anybody."""
        return self._person(self._handset.hold)

    def resume(self) -> bool:
        """Go on with a call on hold."""
        return self._person(self._handset.resume)

    def transfer(self, number: str) -> bool:
        """Hand the line to a number; raises :class:`~ice.errors.LocalError` for no number."""
        return self._person(lambda now, unix_s: self._handset.transfer(number, now, unix_s))

    def press(self, digits: str) -> bool:
        """Press keys; raises :class:`~ice.errors.LocalError` for what is none."""
        if not life.keys(digits):
            raise LocalError("telephone keys are 0123456789*#ABCD, 64 at a time at most")
        if self._line is not None and self._line.sound.talks:
            self._line.sound.press(digits, self._clock.seconds())
            return True
        return self._person(lambda now, unix_s: self._handset.press(digits, now, unix_s))

    def _person(self, act: Callable[[float, float], list[handset.Order]]) -> bool:
        orders = act(self._clock.seconds(), self._wall())
        self._carry_out(orders)
        return bool(orders)

    # -- sound

    def say(self, pcm: Pcm) -> None:
        """The person says ``int16[n]``, 48 kHz mono, as it comes; nothing happens where he is not to be heard."""
        if self._line is not None and self._line.sound.talks:
            self._line.send(self._line.sound.say(pcm, self._clock.seconds()))

    def pull(self, samples: int, ahead_s: float = 0.0) -> Pcm:
        """The next ``int16[samples]``, which will sound in ``ahead_s``."""
        if self.samples is not None:
            self.samples += samples
        if self._line is None:
            return np.zeros(samples, np.int16)
        return self._line.sound.pull(samples, self._clock.seconds() + ahead_s)

    # -- within

    def _message(self, stream_id: str, datagram: Datagram) -> None:
        if datagram.flags & Flag.DATA:
            now, unix_s = self._clock.seconds(), self._wall()
            self._carry_out(self._handset.receive(datagram.payload, stream_id, datagram.source, now, unix_s))

    def _path(self, why: str) -> None:
        up = all(way.up for way, _ in self._ways.values())
        if up is self._up:
            return
        self._up = up
        if up:
            self._handset.greet()
        self._see(Path(up, why))
        self._schedule()

    def _carry_out(self, orders: Sequence[handset.Order]) -> None:
        """Do what is to be done, in order: who is told something may act at once, and what comes of that is done behind the rest."""
        self._orders += orders
        if self._carrying:
            return
        self._carrying = True
        try:
            while self._orders:
                self._do(self._orders.popleft())
        finally:
            self._carrying = False
        self._settle()
        self._schedule()

    def _do(self, order: handset.Order) -> None:
        match order:
            case Mail(stream_id, payload):
                if stream_id in self._ways:
                    self._ways[stream_id][1].send(payload, int(Flag.DATA))
            case handset.JoinSound(call, media):
                self._join(call, media)
            case handset.SetFlow(call, listen, talk):
                self._set_flow(call, listen, talk)
            case _:
                if isinstance(order, Incoming):
                    self.number = order.number
                elif isinstance(order, Over):
                    self._part(order.call)
                self._see(order)

    def _join(self, call: UUID, media: Media) -> None:
        """Join a call's stream; a gateway that has taken over gives the call that there is another one."""
        before = self._line
        sound = PhoneSound(
            voice=self._voice() if self._voice is not None else None,
            alias=self.alias,
            jitter_max_ms=self._jitter_max_ms,
        )
        same = before is not None and before.call == call
        flow = (before.sound.listens, before.sound.talks) if before is not None and same else None
        self._part()
        for line, later in list(self._leaving.items()):
            if line.call == call:  # the same stream under another key: it cannot be joined twice
                later.cancel()
                del self._leaving[line]
                line.leave()
        self._line = _Line(self._clock, self._network, call, media, sound, self._wall)
        if flow is not None:
            self._set_flow(call, *flow)

    def _set_flow(self, call: UUID, listen: bool, talk: bool) -> None:
        line = self._line
        if line is None or line.call != call:
            return
        if listen and self.samples is None:
            self.samples = 0
        line.send(line.sound.flow(listen, talk, self._clock.seconds()))

    def _part(self, call: UUID | None = None) -> None:
        """Leave a call's stream, of any call unless one is named, as soon as the end of what was said is out."""
        line = self._line
        if line is None or call not in (None, line.call):
            return
        self._line = None
        self._statistics = line.sound.statistics()
        line.send(line.sound.flow(False, False, self._clock.seconds()))

        def leave() -> None:
            del self._leaving[line]
            line.leave()

        self._leaving[line] = self._clock.callLater(LEAVE_S, leave)

    def _settle(self) -> None:
        while self._idle and not self._handset.busy:
            self._idle.pop(0).callback(None)

    def _schedule(self) -> None:
        """Come again when something is due."""
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None
        if self._ways:
            wait_s = max(0.0, self._handset.deadline - self._clock.seconds())
            self._due = self._clock.callLater(FRAME_S if self._line is not None else wait_s, self._tick)

    def _tick(self) -> None:
        now, line = self._clock.seconds(), self._line
        if line is not None:
            line.tick(now)
            digits = line.sound.digits()
            if digits:
                self._see(KeysHeard(line.call, digits))
            silent = line.sound.listens and now - line.sound.heard_at > SILENT_S
            self._handset.silence(line.sound.heard_at if silent else None)
        orders = self._handset.tick(now, self._wall()) if now >= self._handset.deadline else []
        self._carry_out(orders)
