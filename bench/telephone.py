"""What a telephone call costs and how it sounds: ``python bench/telephone.py [setup] [delay] [quality] [cores] [hour]``, all without an argument; each less than a minute.

=========  ============================================================================================================================
setup      what the gateway adds to a call's set-up, in real time on a real reactor: from the person's ``dial`` to the request at the call
           manager, and from its answer until each direction is open. Both ends and the streams (in memory) are in this process
delay      what the gateway adds between mouth and ear, each way, buffers at rest: simulated time, so the figure is exact. From a frame's
           arrival to its sound in a datagram (coded and decoded once more), and from a datagram's arrival to its sound in a frame of the line
quality    a spoken sentence from a person's telephone through stream, gateway, the echo of a line and back: Opus twice, linear PCM between
cores      how many calls one core carries, Opus on one side and 8 kHz on the other, everybody speaking, sealed packets and all; CPU time of
           this process, and the share of libopus in it
hour       an hour of a line whose clock is 200 ppm off, with 5 ms of jitter: how much waits, and whether anything clicks; simulated time
=========  ============================================================================================================================
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs
import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater, react

from bench.paired import Summary
from ice.cli.speech import SPEECH
from ice.media import codecs, wav
from ice.media.burst import BurstSender
from ice.media.opus import Decoder, Encoder
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.quality import compare
from ice.media.resample import Downsampler
from ice.media.rtp import Packet
from ice.security.keyring import Keyring, KeyringSealer
from ice.security.traffic import Cipher
from ice.streams.interface import Datagram, Receiver
from ice.telephony.audio import CallAudio
from ice.telephony.call import Answers, Side
from ice.telephony.line_buffer import LineBuffer, LineCounters
from ice.telephony.messages import Media, sound_stream
from ice.telephony.sound import Sounds
from ice.telephony.trunk import Dial, Happened, Request
from ice.telephony.voice import LineVoice
from tests.unit.telephony import site

FRAME = SAMPLE_RATE // 50
CALLS = 20  # of the row "cores", at a time
CORE_S = 6.0  # each so long
WALL = 1_900_000_000.0


def sentence() -> Pcm:
    """The sentence, whole frames of it."""
    pcm = wav.read(SPEECH)
    return pcm[: len(pcm) // FRAME * FRAME]


def at_rate(pcm: Pcm, rate: int) -> Pcm:
    """48 kHz as a line has it."""
    return pcm if rate == SAMPLE_RATE else Downsampler(SAMPLE_RATE // rate).process(pcm)


def line(name: str, value: str, wanted: str) -> None:
    """One row of the report."""
    print(f"  {name:<58}{value:>26}   {wanted}")


# -- setup


class Watched(site.Scripted):
    """A line that answers at once, and notes when what was asked and said."""

    dialled_at = answered_at = 0.0
    heard_at: float | None = None

    def ask(self, request: Request) -> None:
        if isinstance(request, Dial):
            self.dialled_at = time.perf_counter()
        super().ask(request)

    def answer(self, call: UUID) -> None:
        """The called picks up."""
        self.heard_at = None
        self.answered_at = time.perf_counter()
        self.ears.told(self, Happened(call, Answers(Side.LINE)))

    def sound(self, call: UUID, samples: bytes) -> None:
        if self.heard_at is None and np.abs(np.frombuffer(samples, "<i2")).max() > 1_000:
            self.heard_at = time.perf_counter()


async def setup(reactor: Any, calls: int = 25) -> None:
    """The rows of the call's set-up."""
    place = site.Site.__new__(site.Site)
    place.clock, place.turns, place.gateways, place.people = reactor, 0, [], {}
    place.air = site.Air(reactor)
    began = reactor.seconds()
    place.wall = lambda: site.UNIX + reactor.seconds() - began  # type: ignore[method-assign]
    gateway = place.gateway(lambda ears: Watched("line", reactor, ears, rate=16_000), start=False)
    trunk = gateway.trunks["line"]
    assert isinstance(trunk, Watched)
    person = site.Person(place, "ada")
    gateway.startService()
    person.phone.start()
    await deferLater(reactor, 0.3, lambda: None)
    dialling, there, back = [], [], []
    for _ in range(calls):
        asked_at = time.perf_counter()
        id = person.phone.dial("200")
        await deferLater(reactor, 0.15, lambda: None)
        dialling.append(trunk.dialled_at - asked_at)
        sound = gateway.sounds._sounds[id]
        said: list[float] = []
        sending = sound.send
        sound.send = lambda sendings, said=said, sending=sending: (  # type: ignore[method-assign]
            said.extend(time.perf_counter() for _ in sendings),
            sending(sendings),
        )
        talking = Talking(reactor, sound)
        await deferLater(reactor, 0.2 + random.random() * 0.02, lambda: None)
        trunk.answer(id)
        await deferLater(reactor, 0.15, lambda: None)
        talking.stop()
        if trunk.heard_at is not None and said:
            there.append(trunk.heard_at - trunk.answered_at)
            back.append(said[0] - trunk.answered_at)
        person.phone.hang_up()
        await deferLater(reactor, 0.1, lambda: None)
    print(f"set-up, {len(dialling)} calls:")
    for name, values in (
        ("dial → request at the call manager", dialling),
        ("answer → the person is heard at the line", there),
        ("answer → the line is said on the stream", back),
    ):
        summary = Summary.of([value * 1_000 for value in values])
        line(name, f"{summary.median:.1f} ms (≤ {summary.greatest:.1f})", "≤ 50 ms")


class Talking:
    """Somebody who talks into a call's sound all the time, as if he had been on the stream before."""

    def __init__(self, reactor: Any, sound: Any) -> None:
        self._reactor, self._sound = reactor, sound
        self._pcm = np.tile(sentence(), 3)
        self._sender = BurstSender(codecs.encoder("opus", fec=False), chance=random.Random(1))
        self._sender.press(reactor.seconds())
        self._count = 0
        self._timer = reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._timer = self._reactor.callLater(0.02, self._turn)
        for sending in self._sender.pcm(self._pcm[self._count * FRAME : (self._count + 1) * FRAME]):
            self._sound.datagram(Datagram(sending.flags, 7, self._count, sending.payload))
        self._count += 1

    def stop(self) -> None:
        """Be quiet."""
        self._timer.cancel()


# -- delay


def delay() -> None:
    """The rows of mouth to ear, by simulated time."""
    print("mouth to ear, added by the gateway:")
    for rate in (8_000, 16_000):
        line(f"line → stream, {rate // 1000} kHz", f"{from_line(rate):.1f} ms", "≤ 60 ms")
        line(f"stream → line, {rate // 1000} kHz", f"{to_line(rate):.1f} ms", "≤ 60 ms")


def from_line(rate: int, phase: float = 0.007) -> float:
    """From a frame's arrival to its sound in a datagram, decoded once more; milliseconds."""
    audio = CallAudio(voice=LineVoice(rate), chance=random.Random(0))
    audio.add_line("line", rate)
    audio.flow(True, True, 0.0)
    spoken, decoder = sentence(), Decoder()
    coded = at_rate(spoken, rate).astype("<i2").tobytes()
    step = rate // 50 * 2
    heard = []
    for number in range(len(spoken) // FRAME):
        now = number * 0.02
        if number:
            audio.line_sound("line", rate, coded[(number - 1) * step : number * step], now - 0.02 + phase)
        turn = audio.tick(now)
        heard += [decoder.decode(Packet.decode(each.payload).payload) for each in turn.to_stream]
    # What came first arrived at the phase, what was said first was said at 0.
    return compare(spoken, np.concatenate(heard)).offset_ms - phase * 1_000


def to_line(rate: int, phase: float = 0.007) -> float:
    """From a datagram's arrival to its sound in a line's frame, the coding's own delay left out; milliseconds. The first seconds are not judged: the buffer comes to rest."""
    audio = CallAudio(voice=LineVoice(rate), chance=random.Random(0))
    audio.add_line("line", rate)
    audio.flow(True, True, 0.0)
    spoken = np.tile(sentence(), 4)
    sender, decoder = BurstSender(codecs.encoder("opus", fec=False), chance=random.Random(1)), Decoder()
    sender.press(0.0)
    said, heard = [], []
    for number in range(len(spoken) // FRAME):
        now = number * 0.02
        for sending in sender.pcm(spoken[number * FRAME : (number + 1) * FRAME]):
            said.append(decoder.decode(Packet.decode(sending.payload).payload))
            audio.datagram(sending.payload, sending.flags, 7, now + phase, number)
        for _, samples in audio.tick(now + 0.02).to_lines:
            heard.append(np.frombuffer(samples, "<i2"))
    last = len(sentence())
    known = at_rate(np.concatenate(said)[-last:], rate)
    found = np.concatenate(heard)[-last * rate // SAMPLE_RATE :].astype(np.int16)
    # The line's frame of this step sounds from its tick on, 20 ms after the datagram's own step.
    return compare(up(known, rate), up(found, rate)).offset_ms + 20.0 - phase * 1_000


def up(pcm: Pcm, rate: int) -> Pcm:
    """A line's sound at 48 kHz, for comparing."""
    times = np.arange(len(pcm) * SAMPLE_RATE // rate) * rate / SAMPLE_RATE
    return np.rint(np.interp(times, np.arange(len(pcm)), pcm)).astype(np.int16)


# -- quality


def quality() -> None:
    """The rows of speech through everything, by simulated time."""
    try:
        from pesq import pesq
    except ImportError:
        print("quality: needs the library pesq")
        return
    print("speech, telephone → stream → gateway → echo of a line → back:")
    spoken = sentence()
    for rate, band, judged_at, wanted in (
        (16_000, "wb", 16_000, "≥ 3.3 PESQ-WB"),
        (8_000, "nb", 8_000, "≥ 3.8 PESQ-NB"),
    ):
        place = site.Site("ada")
        place.gateway(place.loopback(rate))
        person = place["ada"]
        place.dial("ada", "100")
        place.wait(0.3)
        place.turns = 0
        person.voice = np.concatenate((spoken, np.zeros(2 * SAMPLE_RATE, np.int16)))
        place.wait(len(spoken) / SAMPLE_RATE + 1.0)
        sound = person.sound[: len(person.sound) // FRAME * FRAME]
        score = pesq(judged_at, at_rate(spoken, judged_at), at_rate(sound, judged_at), band)
        line(f"Opus 24 kbit/s ↔ linear PCM at {rate // 1000} kHz", f"{score:.2f}", wanted)


# -- cores


class Wires:
    """A network that delivers nothing and counts: the sound of calls is handed in."""

    def __init__(self) -> None:
        self.receivers: dict[str, Receiver] = {}
        self.sent = 0
        self.up = True
        self.source = 1
        self.stream_id = ""

    def join(self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True) -> Wires:
        self.receivers[stream_id] = receiver
        receiver.path(True, "")
        return self

    def send(self, payload: bytes, flags: int = 0) -> bool:
        self.sent += 1
        return True

    def leave(self) -> None:
        """There is nothing to leave."""


def cores() -> None:
    """The rows of calls per core."""
    whole, opus = one_run(timed=False), one_run(timed=True)
    print(f"calls on one core, {CALLS} for {CORE_S:g} s:")
    line("Opus 24 kbit/s ↔ 8 kHz, everybody speaking", f"{CALLS * CORE_S / whole[0]:.0f} calls", "≥ 60")
    line("CPU for 20 ms of one call", f"{whole[0] / (CALLS * CORE_S * 50) * 1e6:.0f} µs", "")
    line("of it libopus", f"{100 * opus[1] / whole[0]:.0f} %", "")


def one_run(*, timed: bool) -> tuple[float, float]:
    """CPU seconds of all, and those in libopus."""
    spent = [0.0]
    kept = Encoder.encode, Decoder.decode

    def watching(method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            began = time.thread_time()
            made = method(*arguments)
            spent[0] += time.thread_time() - began
            return made

        return watched

    clock, wires = Clock(), Wires()
    lines: dict[UUID, int] = {}
    sounds = Sounds(
        clock,
        wires,
        wall=lambda: WALL + clock.seconds(),
        say=lambda trunk, call, samples: lines.__setitem__(call, lines.get(call, 0) + 1),
        keys=lambda call, digits: None,
        lost=lambda call, cause: None,
        chance=random.Random(0),
    )
    frames = round(CORE_S * 50)
    people, coded = [], at_rate(np.tile(sentence(), 3), 8_000).astype("<i2").tobytes()
    for number in range(CALLS):
        id = UUID(int=number + 1)
        media = Media(sound_stream(id), f"{number + 1:064x}")
        keyring = Keyring.of(media.key, Cipher.GCM)
        sealer = KeyringSealer(keyring, media.stream)
        sender = BurstSender(codecs.encoder("opus", fec=False), chance=random.Random(number))
        sender.press(0.0)
        pcm = np.tile(np.roll(sentence(), -7_919 * number), 2)[: frames * FRAME]
        packets = [
            Datagram(each.flags, number + 10, index, sealer.seal(each.payload, WALL, first=not index))
            for index, each in enumerate(sender.pcm(pcm))
        ]
        sounds.open(id, media, "pbx", 8_000, "100")
        sounds.flow(id, True, True)
        people.append((id, wires.receivers[media.stream], packets))
    if timed:
        Encoder.encode, Decoder.decode = watching(kept[0]), watching(kept[1])  # type: ignore[method-assign]
    try:
        began = time.process_time()
        for step in range(frames):
            for number, (id, receiver, packets) in enumerate(people):
                receiver.datagram(packets[step])
                start = (step + number * 37) * 320 % (len(coded) - 320)
                sounds.heard("pbx", id, 8_000, coded[start : start + 320])
            for _ in range(4):
                clock.advance(0.005)
        return time.process_time() - began, spent[0]
    finally:
        Encoder.encode, Decoder.decode = kept  # type: ignore[method-assign]


# -- hour


HERTZ, RATE, TONE = 400.0, 16_000, 8_000  # of the tone that a line says for an hour


@attrs.frozen
class Drifted:
    """What became of the tone: the least and most that waited, and the loudest second difference, as a part of the tone's own."""

    least_ms: float
    most_ms: float
    click: float
    counters: LineCounters


def drifted(ppm: float, seconds: float = 3_600.0) -> Drifted:
    """A tone on a line whose clock runs ``ppm`` faster than ours."""
    chance, buffer, count = random.Random(1), LineBuffer(RATE), RATE // 50
    due, number, least, most, click = 0.0307, 0, 1e9, 0.0, 0.0
    before = np.zeros(2, np.int64)
    step = 2 * np.pi * HERTZ / RATE
    places = np.arange(count) * step
    for tick in range(round(seconds * 50)):
        now = tick * 0.02
        while due <= now:
            wave = np.sin(places + number * count * step)
            buffer.feed(np.rint(TONE * wave).astype("<i2").tobytes(), due)
            number += 1
            due = max(due, 0.0107 + (number + 1) * 0.02 / (1 + ppm * 1e-6) + chance.random() * 0.005)
        pcm = buffer.pull(now)
        if pcm is None or tick < 50:
            continue
        joined = np.concatenate((before, pcm.astype(np.int64)))
        before = joined[-2:]
        if tick > 51:
            click = max(click, float(np.abs(np.diff(joined, 2)).max()))
            least, most = min(least, buffer.waiting_ms), max(most, buffer.waiting_ms)
    smooth = TONE * (2 * np.pi * HERTZ / SAMPLE_RATE) ** 2
    return Drifted(least, most, click / smooth, buffer.counters)


def hour() -> None:
    """The rows of an hour with two clocks, one for each core."""
    print("an hour, the line's clock 200 ppm off, 5 ms of jitter:")
    both = (200.0, -200.0)
    with ProcessPoolExecutor(len(both)) as pool:
        for ppm, found in zip(both, pool.map(drifted, both), strict=True):
            counters = found.counters
            made_up = (
                f"{counters.concealed_ms:.0f}, {counters.skipped_ms:.0f}, {counters.shortened_ms:.0f} ms"
            )
            line(
                f"{ppm:+.0f} ppm: sound that waits", f"{found.least_ms:.1f}–{found.most_ms:.1f} ms", "bounded"
            )
            line("underruns; concealed, skipped, shortened", f"{counters.underruns}; {made_up}", "0")
            line("the loudest click, by the tone's own curvature", f"{found.click:.2f}", "≈ 1: none")


def main() -> None:
    """See the module docstring."""
    rows = {"delay": delay, "quality": quality, "cores": cores, "hour": hour}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("row", nargs="*", choices=["setup", *rows, []], help="which rows; all without any")
    wanted = parser.parse_args().row or ["setup", *rows]
    for name in wanted:
        if name in rows:
            rows[name]()
    if "setup" in wanted:

        def run(reactor: Any) -> Deferred[None]:
            return Deferred.fromCoroutine(setup(reactor))

        react(run, [])


if __name__ == "__main__":
    main()
