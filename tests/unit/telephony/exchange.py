"""A gateway with the built-in call manager on a network of streams in memory: what a telephone's driver has at its other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import attrs
from twisted.internet.task import Clock

from ice.link.frame import Flag
from ice.security.certificates import Identity, Role
from ice.streams.interface import Datagram, Stream
from ice.streams.memory import MemoryNetwork
from ice.telephony import switchboard, trunk
from ice.telephony.audio import CallAudio
from ice.telephony.call import Direction, Timing
from ice.telephony.causes import Cause
from ice.telephony.joining import join_sound
from ice.telephony.loopback import Loopback
from ice.telephony.messages import group_stream
from ice.telephony.post import Mail, Post
from ice.telephony.records import CallRecord
from ice.telephony.switchboard import Allowed, Switchboard
from tests.unit.telephony.people import SPACE, UNIX, envelopes

GROUP = str(uuid5(SPACE, "group"))
RATE = 16_000


class Numbers:
    """Everybody may call everything; whoever calls a person's name calls him."""

    def outgoing(self, who: Identity, number: str) -> Allowed | Cause:
        return Allowed(number, who.name)

    def incoming(self, number: str, dialled: str) -> UUID | Cause:
        return uuid5(SPACE, dialled)


class _Ear:
    def __init__(self, heard: Any) -> None:
        self.datagram = heard

    def path(self, up: bool, why: str) -> None:
        """In memory there is always one."""


@attrs.define(eq=False)
class _Sound:
    """A call's sound at the gateway."""

    call: UUID
    audio: CallAudio
    stream: Stream
    clock: Clock

    def datagram(self, datagram: Datagram) -> None:
        now = self.clock.seconds()
        self.audio.datagram(datagram.payload, datagram.flags, datagram.source, now, datagram.sequence)


class Exchange:
    """See the module docstring; asked to :meth:`turn` every 10 ms by the test."""

    def __init__(self, clock: Clock, network: MemoryNetwork, name: str = "gateway") -> None:
        self.clock, self.network, self.name = clock, network, name
        self.loopback = Loopback(RATE, ring_s=0.2, call_back_s=0.5)
        self.records: dict[UUID, CallRecord] = {}
        self.sounds: dict[UUID, _Sound] = {}
        self.keys: list[str] = []
        self.dead = False
        self.board = Switchboard(
            GROUP,
            Post(envelopes(name, Role.SATELLITE), self.unix - 1),
            Numbers(),
            ("loopback",),
            timing=Timing(setup_s=2.0, ring_s=3.0),
        )
        self._in = network.join(group_stream(GROUP), _Ear(self._message), talk=False)
        self._out: dict[str, Stream] = {}
        self._do(self.board.report("loopback", trunk.Health(True, "ok"), self.now, self.unix))
        self._do(self.board.set_active(True, self.now, self.unix))

    @property
    def now(self) -> float:
        return self.clock.seconds()

    @property
    def unix(self) -> float:
        return UNIX + self.now

    def kill(self) -> None:
        """The process is gone, without a word."""
        self.dead = True
        for stream in (self._in, *self._out.values(), *(sound.stream for sound in self.sounds.values())):
            stream.leave()

    def found(self, call: UUID, user: UUID) -> None:
        """The call manager still has a call of a gateway that died."""
        self.loopback.ask(trunk.Dial(call, "100"), self.now)
        self._report(trunk.Found(call, Direction.OUTGOING, "100", user, self.unix))

    def turn(self) -> None:
        """10 ms have passed."""
        if self.dead:
            return
        for report in self.loopback.tick(self.now):
            self._report(report)
        self._do(self.board.tick(self.now, self.unix))
        for sound in list(self.sounds.values()):
            turn = sound.audio.tick(self.now)
            for sending in turn.to_stream:
                sound.stream.send(sending.payload, sending.flags)
            for _, samples in turn.to_lines:
                self.loopback.sound(sound.call, samples)
            if turn.digits:
                self.keys.append(turn.digits)
                self._do(self.board.keys_heard(sound.call, turn.digits, self.now, self.unix))

    def half_open(self) -> int:
        """What is left of calls here."""
        return len(self.board) + len(self.loopback) + len(self.sounds)

    def _message(self, datagram: Datagram) -> None:
        stream = group_stream(GROUP)
        self._do(self.board.receive(datagram.payload, stream, datagram.source, self.now, self.unix))

    def _report(self, report: trunk.Report) -> None:
        if isinstance(report, trunk.Sound):
            if report.call in self.sounds:
                self.sounds[report.call].audio.line_sound("line", report.rate, report.samples, self.now)
        else:
            self._do(self.board.report("loopback", report, self.now, self.unix))

    def _do(self, orders: Sequence[Any]) -> None:
        for order in orders:
            match order:
                case Mail(stream_id, payload):
                    self._say(stream_id, payload)
                case switchboard.AskTrunk(_, request):
                    for report in self.loopback.ask(request, self.now):
                        self.clock.callLater(0, self._report, report)
                case switchboard.OpenSound(call, media, _):
                    audio = CallAudio(alias="line")
                    audio.add_line("line", RATE)
                    ear = _Ear(lambda datagram, call=call: self.sounds[call].datagram(datagram))
                    self.sounds[call] = _Sound(
                        call, audio, join_sound(self.network, media, ear, lambda: self.unix), self.clock
                    )
                case switchboard.SetFlow(call, to_user, to_line):
                    self.sounds[call].audio.flow(to_user, to_line, self.now)
                case switchboard.SayKeys(call, digits):
                    self.sounds[call].audio.line_digits(digits, self.now)
                case switchboard.CloseSound(call):
                    self.sounds.pop(call).stream.leave()
                case switchboard.Record(record):
                    self.records[record.id] = record

    def _say(self, stream_id: str, payload: bytes) -> None:
        if stream_id not in self._out:
            self._out[stream_id] = self.network.join(stream_id, _Ear(lambda _: None), listen=False)
            self.clock.callLater(0, self._out[stream_id].send, payload, int(Flag.DATA))
        else:
            self._out[stream_id].send(payload, int(Flag.DATA))
