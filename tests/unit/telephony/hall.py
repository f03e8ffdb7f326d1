"""A lobby, its callers at a trunk that does as it is told, and people on the channel, on one clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from uuid import UUID

import numpy as np
from twisted.internet.task import Clock

from ice.media.burst import BurstSender, Sending
from ice.media.dtmf import Dialer
from ice.media.floor import Rules
from ice.media.mixer import level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.playout import BurstBegan, BurstEnded, DigitPressed, Event, Listener
from ice.media.resample import Downsampler, Upsampler
from ice.media.rtp import Talk
from ice.media.tones import sine
from ice.patch.channel import Channel, Voice
from ice.streams.interface import Datagram, Network
from ice.streams.memory import MemoryNetwork
from ice.telephony import trunk as trunking
from ice.telephony.call import Answers, HangsUp, Presses, Released, Rings, Side, Timing
from ice.telephony.call import Event as LineEvent
from ice.telephony.dial_in import DialIn, Prompt
from ice.telephony.lobby import Lobby, Place, Prompts
from ice.telephony.records import CallRecord
from ice.telephony.trunk import Health, TrunkOrder

FRAME = 960
STEP = 0.02
UNIX = 1_790_000_000.0
L16 = Voice(codec="l16")
#: What each prompt sounds like here: a fifth of a second of its own tone.
HERTZ = {prompt: 500.0 + 100 * number for number, prompt in enumerate(Prompt)}


class Tones(Prompts):
    """Prompts that a test tells apart by their frequency."""

    def _load(self, prompt: Prompt) -> Pcm:
        return sine(HERTZ[prompt], SAMPLE_RATE // 5)


def amount(pcm: Pcm, hertz: float) -> float:
    """The amplitude of one frequency, as a share of the loudest a tone of ours is."""
    if not len(pcm):
        return 0.0
    n = np.arange(len(pcm))
    return (
        float(abs(np.dot(pcm.astype(float), np.exp(-2j * np.pi * hertz * n / SAMPLE_RATE))))
        * 2
        / len(pcm)
        / 5_800
    )


class Phone:
    """A telephone at the far end of a line: says what it is given, keeps what it hears."""

    def __init__(self, hall: Hall, id: UUID, rate: int) -> None:
        self.id = id
        self.gone = False
        self._hall = hall
        self._rate = rate
        self._say = np.zeros(FRAME, np.int16)  # that its sound goes is heard by its first frame
        self._pieces: list[Pcm] = []
        factor = SAMPLE_RATE // rate
        self._up = Upsampler(factor) if factor > 1 else None
        self._down = Downsampler(factor) if factor > 1 else None

    def say(self, pcm: Pcm) -> None:
        """Speak from now on, after what is being said already."""
        self._say = np.concatenate((self._say, pcm))

    def mute(self) -> None:
        """Say nothing of what was to be said."""
        self._say = self._say[:0]

    def press(self, digits: str) -> None:
        """Press keys, one after another."""
        for digit in digits:
            self.happen(Presses(Side.LINE, digit))

    def happen(self, event: LineEvent) -> None:
        self._hall.report(trunking.Happened(self.id, event))

    def hang_up(self) -> None:
        self.gone = True
        self.happen(HangsUp(Side.LINE))

    @property
    def heard(self) -> Pcm:
        """Everything so far."""
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)

    def last(self, seconds: float) -> Pcm:
        """The last seconds of it."""
        return self.heard[-round(seconds * SAMPLE_RATE) :]

    def prompts(self) -> list[Prompt]:
        """The prompts that were heard, in order."""
        found: list[Prompt] = []
        for start in range(0, len(self.heard) - 2 * FRAME, 2 * FRAME):
            piece = self.heard[start : start + 2 * FRAME]
            best = max(HERTZ, key=lambda prompt: amount(piece, HERTZ[prompt]))
            if amount(piece, HERTZ[best]) > 0.5 and found[-1:] != [best]:
                found.append(best)
        return found

    def step(self) -> None:
        """20 ms of speech."""
        if len(self._say) and not self.gone:
            pcm, self._say = self._say[:FRAME], self._say[FRAME:]
            pcm = np.concatenate((pcm, np.zeros(FRAME - len(pcm), np.int16)))
            pcm = pcm if self._down is None else self._down.process(pcm)
            self._hall.report(trunking.Sound(self.id, self._rate, pcm.astype("<i2").tobytes()))

    def hear(self, samples: bytes) -> None:
        assert len(samples) == self._rate // 50 * 2, "lines want 20 ms at their rate"
        pcm = np.frombuffer(samples, "<i2").astype(np.int16)
        self._pieces.append(pcm if self._up is None else self._up.process(pcm))


class Person:
    """Somebody on the channel."""

    def __init__(self, hall: Hall, place: Place, name: str, priority: int = 0) -> None:
        self.name = name
        self.events: list[Event] = []
        self.datagrams: list[Datagram] = []
        self._hall = hall
        self._clock = hall.clock
        voice = place.channel.voice
        coder = voice.encoder()
        chance = random.Random(name)
        self.sender: BurstSender = voice.sender(coder, Talk(name, priority), chance.getrandbits(32), chance)
        self.dialer = Dialer(coder.codec.clock_rate)
        self._listener = Listener(payload_types=voice.payload_types)
        self._say = np.zeros(0, np.int16)
        self._pieces: list[Pcm] = []
        self.stream = hall.air.join(place.channel.stream_id, self)

    def say(self, pcm: Pcm) -> None:
        """A burst, from now on."""
        self._say = pcm
        self.sender.press(self._clock.seconds())

    def release(self) -> None:
        """Be silent."""
        self._say = self._say[:0]
        if self.sender.pressed:
            self._send(self.sender.release(self._clock.seconds()))

    def datagram(self, datagram: Datagram) -> None:
        self.datagrams.append(datagram)
        self._listener.datagram(
            datagram.payload, datagram.flags, datagram.source, self._clock.seconds(), datagram.sequence
        )

    def path(self, up: bool, why: str) -> None:
        """Of no interest."""

    def step(self) -> None:
        if self.sender.pressed:
            pcm, self._say = self._say[:FRAME], self._say[FRAME:]
            if len(pcm) < FRAME:
                self.release()
            else:
                self._send(self.sender.pcm(pcm))
        self._pieces.append(self._listener.pull(FRAME, self._clock.seconds()))
        self.events += self._listener.events()

    def _send(self, sendings: Sequence[Sending]) -> None:
        for sending in sendings:
            self.stream.send(sending.payload, sending.flags)

    @property
    def heard(self) -> Pcm:
        return np.concatenate(self._pieces)

    def last(self, seconds: float) -> Pcm:
        return self.heard[-round(seconds * SAMPLE_RATE) :]

    @property
    def began(self) -> list[str]:
        """Who began to talk, in order."""
        return [event.alias for event in self.events if isinstance(event, BurstBegan)]

    @property
    def ended(self) -> list[BurstEnded]:
        return [event for event in self.events if isinstance(event, BurstEnded)]

    @property
    def digits(self) -> str:
        return "".join(event.digit for event in self.events if isinstance(event, DigitPressed))


def place(
    stream: str = "north", *, full_duplex: bool = False, max_tx_s: float = 30.0, voice: Voice = L16
) -> Place:
    """A channel whose sound costs nothing to code."""
    return Place(
        Channel(stream, stream.title(), full_duplex, voice), Rules(full_duplex=full_duplex, max_tx_s=max_tx_s)
    )


class Hall:
    """Everything on one clock."""

    def __init__(
        self,
        *dial_ins: DialIn,
        places: Sequence[Place] = (),
        rate: int = 16_000,
        trunks: Sequence[str] = ("t",),
        free: bool = True,
        prompts: Prompts | None = None,
        timing: Timing | None = None,
        delay_s: float = 0.002,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, delay_s=delay_s)
        self.air: Network = self.network  # by which people join: sealed, where a test wants that
        self.rate = rate
        self.free = free
        self.asked: list[tuple[str, trunking.Request]] = []
        self.records: dict[UUID, CallRecord] = {}
        self.phones: dict[UUID, Phone] = {}
        self.people: list[Person] = []
        self.silent_trunk = False  # it confirms nothing
        self.order = TrunkOrder(trunks)
        for name in trunks:
            self.order.told(name, Health(True, "ok"))
        self.places = {each.channel.stream_id: each for each in places or (place(),)}
        self._number = 0
        self.lobby = Lobby(
            self.clock,
            self.network,
            dial_ins or (DialIn("500", "north", "4711"),),
            self.places,
            self.order,
            ask=self._ask,
            sound=self._sound,
            record=self._record,
            rate_of=lambda trunk: rate,
            normal=lambda number: number.replace(" ", "") or None,
            free=lambda: self.free,
            look=look,
            wall=lambda: UNIX + self.clock.seconds(),
            timing=timing,
            prompts=prompts or Tones(),
            chance=random.Random(7),
        )
        self.lobby.set_active(True)

    # -- the trunk

    def report(self, report: trunking.Report, trunk: str = "t") -> bool:
        taken = self.lobby.takes(trunk, report)
        if taken:
            self.lobby.told(trunk, report)
        return taken

    def call(self, number: str = "030 1", dialled: str = "500", name: str = "", trunk: str = "t") -> Phone:
        """Somebody calls."""
        self._number += 1
        phone = self.phones[UUID(int=self._number)] = Phone(self, UUID(int=self._number), self.rate)
        assert self.report(trunking.Offered(phone.id, number, dialled, name), trunk)
        return phone

    def inside(self, number: str = "030 1", dialled: str = "500", code: str = "4711") -> Phone:
        """Somebody calls, knows the code, and has heard the welcome."""
        phone = self.call(number, dialled)
        self.wait(0.6)
        if code:
            phone.press(code + "#")
        self.wait(0.8)
        return phone

    def answer(self, id: UUID) -> Phone:
        """The number that a channel has called answers."""
        phone = self.phones[id] = Phone(self, id, self.rate)
        phone.happen(Rings(Side.LINE))
        self.wait(0.1)
        phone.happen(Answers(Side.LINE))
        return phone

    def _ask(self, trunk: str, request: trunking.Request) -> None:
        self.asked.append((trunk, request))
        if isinstance(request, trunking.HangUp) and not self.silent_trunk:
            phone = self.phones.get(request.call)
            if phone is not None:
                phone.gone = True
            self.clock.callLater(
                0, lambda: self.report(trunking.Happened(request.call, Released(Side.LINE)), trunk)
            )

    def _sound(self, trunk: str, call: UUID, samples: bytes) -> None:
        self.phones[call].hear(samples)

    def _record(self, record: CallRecord) -> None:
        self.records[record.id] = record

    def requests(self, kind: type[trunking.Request]) -> list[trunking.Request]:
        return [request for _, request in self.asked if isinstance(request, kind)]

    # -- the channel

    def person(self, name: str, *, priority: int = 0, stream: str = "north") -> Person:
        """Somebody joins the channel."""
        person = Person(self, self.places[stream], name, priority)
        self.people.append(person)
        self.clock.advance(0)
        return person

    # -- time

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            for phone in list(self.phones.values()):
                phone.step()
            for person in self.people:
                person.step()
            self.clock.advance(STEP)

    def leftovers(self) -> dict[str, int]:
        """What is left of calls, everywhere."""
        left = {
            "calls": len(self.lobby),
            "timers": len(self.clock.getDelayedCalls()),
            "rooms": len(self.lobby.status()["channels"]),
            "streams": sum(len(each) for each in self.network._streams.values()) - len(self.people),
        }
        return {name: count for name, count in left.items() if count}


def loud(pcm: Pcm) -> bool:
    """Whether somebody is heard rather than comfort noise."""
    return level_dbov(pcm) > -50.0
