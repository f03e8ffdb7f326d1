"""``ice talk``: speak on a stream, from a file or a microphone.

The burst begins when the way to the stream is open, so that the first syllable is heard, and ends with its last sound and the marks
of its end on their way. A file is spoken in real time. With a microphone, space or enter presses and releases; where standard
input is no terminal, it talks until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import attrs
import click

from ice.cli.options import config_option, json_option, verbosity

LINGER_S = 0.25  # the last bytes of a burst leave with this reactor turn; this is for a slow way
INTERRUPTED = 130
METERS_PER_S = 12


@attrs.frozen
class Wishes:
    """What was asked for; times in seconds, none where the configuration decides."""

    stream_id: str
    file: Path | None
    loop: int
    device: str | None
    codec: str | None
    bitrate: int | None
    alias: str | None
    emergency: bool
    priority: int | None
    timeout_s: float
    trace: Path | None
    as_json: bool


@click.command()
@click.argument("stream")
@config_option
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Say this WAV file instead of talking live.",
)
@click.option(
    "--loop", type=click.IntRange(1, 1_000_000), default=1, help="Say the file so many times in one burst."
)
@click.option("--device", help="Microphone: number or part of its name (see: python -m sounddevice).")
@click.option(
    "--codec",
    type=click.Choice(["opus", "pcmu", "pcma", "l16"]),
    help="How the voice is coded.  [media.codec]",
)
@click.option(
    "--bitrate", type=click.IntRange(6_000, 128_000), help="Of Opus, bits per second.  [media.bitrate]"
)
@click.option("--alias", help="Name that listeners see, at most 16 bytes.  [identity.alias]")
@click.option(
    "--emergency", is_flag=True, help="Mark the burst as an emergency: the last to be dropped anywhere."
)
@click.option("--priority", type=click.IntRange(0, 255), help="Told to listeners.  [media.priority]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Give up when not connected after so many seconds.",
)
@click.option(
    "--trace", type=click.Path(path_type=Path, dir_okay=False), help="Note each datagram as a JSON line."
)
@json_option
def talk(
    stream: str,
    config: Path | None,
    file: Path | None,
    loop: int,
    device: str | None,
    codec: str | None,
    bitrate: int | None,
    alias: str | None,
    emergency: bool,
    priority: int | None,
    timeout: float,
    trace: Path | None,
    as_json: bool,
) -> int:
    """Talk on STREAM, from a microphone or a file.

    Exit status 0 when all was sent, 1 when it could not be, 130 when a file was broken off by Ctrl-C.
    """
    from ice.cli import loop as loops
    from ice.config.load import load

    loaded = load(config)
    wishes = Wishes(
        stream, file, loop, device, codec, bitrate, alias, emergency, priority, timeout, trace, as_json
    )

    async def main(reactor: Any, stop: loops.Stop) -> int:
        return await speak(reactor, stop, loaded, wishes)

    return loops.run(main, verbosity=verbosity())


async def speak(reactor: Any, stop: Any, loaded: Any, wishes: Wishes) -> int:
    """Talk as wished; the exit status."""
    from ice.cli.display import display_for
    from ice.cli.loop import sleep
    from ice.cli.trace import Trace
    from ice.cli.voice import Mouth, Way, alias_of, frame_samples_of, sender_of
    from ice.streams.connect import network_of

    sender = sender_of(
        loaded.config.media,
        alias=alias_of(loaded, wishes.alias),
        codec=wishes.codec,
        bitrate=wishes.bitrate,
        priority=wishes.priority,
        emergency=wishes.emergency,
    )
    with contextlib.ExitStack() as held:
        source = held.enter_context(_source(wishes))
        trace = held.enter_context(Trace(wishes.trace)) if wishes.trace is not None else None
        display = display_for(f"talking on {wishes.stream_id}", as_json=wishes.as_json, broken=stop.ask)
        held.callback(display.close)
        way = Way(display, wishes.stream_id)
        network = network_of(loaded, reactor, on_notice=way.notice)
        stream = network.join(wishes.stream_id, _Deaf(way), listen=False)
        mouth = Mouth(reactor, stream, sender, frame_samples_of(loaded.config.media), trace=trace)
        network.start()
        try:
            if await way.opened(reactor, stop, wishes.timeout_s, network):
                await source.speak(reactor, stop, mouth, _Tell(display, mouth, wishes))
                await sleep(reactor, LINGER_S)
        finally:
            way.leaving = True
            await network.stop()
        _summarise(display, mouth, network, way, stop)
    if stop.asked and wishes.file is not None:
        return INTERRUPTED
    return 0 if mouth.said.sent or wishes.file is None else 1


class _Deaf:
    """A receiver that wants to know of the path only."""

    def __init__(self, way: Any) -> None:
        self.path = way.path

    def datagram(self, datagram: Any) -> None:
        """Not for us: we joined to talk."""


class _Tell:
    """Tells of bursts."""

    def __init__(self, display: Any, mouth: Any, wishes: Wishes) -> None:
        self._display, self._mouth, self._wishes = display, mouth, wishes
        self._before = (0, 0)

    def began(self, what: str) -> None:
        """The key is pressed."""
        self._before = (self._mouth.said.sent, self._mouth.said.unsent)
        urgent = " [EMERGENCY]" if self._wishes.emergency else ""
        self._display.say("began", f"talking: {what}{urgent}", what=what, emergency=self._wishes.emergency)

    def ended(self, seconds: float) -> None:
        """The key is released and all is sent."""
        from ice.cli.display import plural

        self._display.meters([])
        sent = self._mouth.said.sent - self._before[0]
        unsent = self._mouth.said.unsent - self._before[1]
        lost = f", {unsent} not sent for want of a path" if unsent else ""
        self._display.say(
            "ended",
            f"ended: {seconds:.1f} s, {plural(sent, 'packet')}{lost}",
            seconds=seconds,
            sent=sent,
            unsent=unsent,
        )

    def meters(self) -> None:
        """How loud we are."""
        from ice.cli.display import Meter

        mouth = self._mouth
        rows = [Meter("we", mouth.level_dbov, mouth.duration_s, mouth.said.sent)] if mouth.pressed else []
        self._display.meters(rows)


class _File:
    """Says a file."""

    def __init__(self, path: Path, times: int) -> None:
        from ice.errors import LocalError
        from ice.media.wav import read

        self._path, self._times = path, times
        self._pcm = read(path)
        if not len(self._pcm):
            raise LocalError(f"{path}: holds no sound; name another with --file")

    async def speak(self, reactor: Any, stop: Any, mouth: Any, tell: _Tell) -> None:
        """The whole file, in real time."""
        from twisted.internet.task import LoopingCall

        from ice.cli.voice import file_pieces

        samples = mouth.frame_samples
        times = f", {self._times} times" if self._times > 1 else ""
        tell.began(f"{self._path.name}, {len(self._pcm) / 48_000:.1f} s{times}")
        meters = LoopingCall(tell.meters)
        meters.clock = reactor
        meters.start(1 / METERS_PER_S, now=False)
        try:
            await mouth.say(file_pieces(self._pcm, samples, self._times), stop)
        finally:
            meters.stop()
        tell.ended(mouth.duration_s)


class _Live:
    """Says what a microphone hears, between two presses of space or enter."""

    def __init__(self, microphone: Any, keys: Any) -> None:
        self._microphone, self._keys = microphone, keys

    async def speak(self, reactor: Any, stop: Any, mouth: Any, tell: _Tell) -> None:
        """Until Ctrl-C, or ``q``."""
        from ice.cli.loop import first, sleep

        if self._keys is None:
            mouth.press()
            tell.began("live, until Ctrl-C")
        else:
            tell.began("live: space or enter to talk and to stop, q to quit")
            self._keys.start(reactor)
        shown_at = -math.inf
        while not stop.asked and not (self._keys is not None and self._keys.quit):
            await first(sleep(reactor, 0.01), stop.wait())
            wanted = self._keys is None or self._keys.pressed
            blocks = (
                self._microphone.read()
            )  # fetched also while silent: what was said before the press is nobody's business
            if wanted and not mouth.pressed:
                mouth.press()
            elif not wanted and mouth.pressed:
                seconds = mouth.duration_s
                await mouth.release()
                tell.ended(seconds)
            if mouth.pressed:
                for block in blocks:
                    mouth.hear(block)
            if reactor.seconds() - shown_at > 1 / METERS_PER_S:
                shown_at = reactor.seconds()
                tell.meters()
        if mouth.pressed:
            seconds = mouth.duration_s
            await mouth.release()
            tell.ended(seconds)


@contextlib.contextmanager
def _source(wishes: Wishes) -> Any:
    """Where the voice comes from: a file, or a microphone."""
    if wishes.file is not None:
        yield _File(wishes.file, wishes.loop)
        return
    import sys

    from ice.cli.keys import Keys
    from ice.media.devices import Microphone

    microphone = Microphone(wishes.device)
    try:
        if sys.stdin.isatty():
            with Keys(sys.stdin.fileno()) as keys:
                yield _Live(microphone, keys)
        else:
            yield _Live(microphone, None)
    finally:
        microphone.close()


def _summarise(display: Any, mouth: Any, network: Any, way: Any, stop: Any) -> None:
    from ice.cli.display import plural

    said, counts = mouth.said, network.counts
    dropped = counts.dropped_full + counts.dropped_old
    lost = said.unsent + dropped
    display.say(
        "summary",
        f"sent {plural(said.sent, 'packet')}, {said.octets:,} bytes" + (f"; {lost} lost on this side" if lost else ""),
        sent=said.sent, unsent=said.unsent, dropped=dropped, octets=said.octets, stalls=said.stalls,
        path_losses=way.losses, round_trip_ms=_ms(network.round_trip_s), interrupted=stop.asked,
    )  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1_000
