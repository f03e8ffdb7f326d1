"""``ice talk``: speak on a stream or on a group of a mission, from a file or a microphone.

The burst begins when the way to the stream is open, so that the first syllable is heard, and ends with its last sound and the marks
of its end on their way. A file is spoken in real time. With a microphone, space or enter presses and releases; where standard
input is no terminal, it talks until Ctrl-C.

Where one talks at a time (a mission's group, or ``media.half_duplex``), a press while somebody else has the floor is refused with the reason; a file and an
open microphone wait for it. Who is talked over by a higher priority, or has talked as long as is allowed, is stopped and told. An open microphone ends with
its time: nobody holds that key, so nobody would let it go.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ice.cli.options import config_option, json_option, password_option, verbosity

if TYPE_CHECKING:
    from ice.cli.channels import Wanted

TIMEOUT_S = 10.0
ATTEND_S = 0.3  # listened before the first press: longer than any framing, so that who talks already is known
LINGER_S = 0.25  # the last bytes of a burst leave with this reactor turn; this is for a slow way
INTERRUPTED = 130
METERS_PER_S = 12
LIVE_S = 0.01  # between two looks at keys and microphone


@attrs.frozen
class Wishes:
    """What was asked for; times in seconds, none where the configuration decides."""

    config: Path | None
    file: Path | None
    loop: int
    device: str | None
    codec: str | None
    bitrate: int | None
    alias: str | None
    emergency: bool
    priority: int | None
    timeout_s: float | None
    trace: Path | None
    as_json: bool


@click.command()
@click.argument("stream", metavar="STREAM|MISSION/GROUP")
@config_option
@password_option
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
    type=click.Choice(["opus", "pcmu", "pcma", "l16", "gsm", "g722", "amr-nb", "speex", "codec2"]),
    help="How the voice is coded.  [media.codec]",
)
@click.option(
    "--bitrate", type=click.IntRange(450, 128_000), help="Bits per second, at most.  [media.bitrate]"
)
@click.option("--alias", help="Name that listeners see, at most 16 bytes.  [identity.alias]")
@click.option(
    "--emergency", is_flag=True, help="Mark the burst as an emergency: the last to be dropped anywhere."
)
@click.option("--priority", type=click.IntRange(0, 255), help="Told to listeners.  [media.priority]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    help="Give up when not connected after so many seconds.  [10, and what a group waits before it fails over]",
)
@click.option(
    "--trace", type=click.Path(path_type=Path, dir_okay=False), help="Note each datagram as a JSON line."
)
@json_option
def talk(
    stream: str,
    config: Path | None,
    password_file: Path | None,
    file: Path | None,
    loop: int,
    device: str | None,
    codec: str | None,
    bitrate: int | None,
    alias: str | None,
    emergency: bool,
    priority: int | None,
    timeout: float | None,
    trace: Path | None,
    as_json: bool,
) -> int:
    """Talk on a stream of the configured Rallypoints, or on a group of a mission, from a microphone or a file.

    A mission is a file (.json, .ice, a picture of its QR code); MISSION/GROUP is a group of it, by name or id. A mission that needs no
    Rallypoint needs no configuration either.

    Exit status 0 when all was sent, 1 when it could not be or was stopped by the floor's rules, 130 when a file was broken off by Ctrl-C.
    """
    from ice.cli import loop as loops
    from ice.cli.channels import wanted

    words = wanted(
        [stream], password_file
    )  # before the reactor runs: it may ask for a password, and Ctrl-C must end that
    wishes = Wishes(
        config, file, loop, device, codec, bitrate, alias, emergency, priority, timeout,
        trace, as_json,
    )  # fmt: skip

    async def main(reactor: Any, stop: loops.Stop) -> int:
        return await speak(reactor, stop, wishes, words)

    return loops.run(main, verbosity=verbosity())


async def speak(reactor: Any, stop: Any, wishes: Wishes, words: Wanted) -> int:
    """Talk as wished on what ``words`` names; the exit status."""
    from ice.cli.channels import Networks, configuration, media_of, one
    from ice.cli.display import display_for
    from ice.cli.floor_gate import Gate
    from ice.cli.loop import sleep
    from ice.cli.mouth import Mouth
    from ice.cli.trace import Trace
    from ice.cli.voice import Way

    channel = one(words)
    loaded = configuration(wishes.config, words)
    media = media_of(loaded)
    sender, samples = _sender(channel, loaded, media, wishes)
    rules = channel.rules(media)
    with contextlib.ExitStack() as held:
        source = held.enter_context(_source(wishes))
        trace = held.enter_context(Trace(wishes.trace)) if wishes.trace is not None else None
        display = display_for(f"talking on {channel.name}", as_json=wishes.as_json, broken=stop.ask)
        held.callback(display.close)
        way = Way(display, channel.name)
        networks = Networks(reactor, loaded, words, way.notice)
        networks.tell(display, words)
        gate = None
        if not rules.full_duplex or rules.max_tx_s:
            priority = media.priority if wishes.priority is None else wishes.priority
            gate = Gate(reactor, rules, display, priority=priority, emergency=wishes.emergency)
            held.callback(gate.close)
        attentive = _Attentive(way, None if rules.full_duplex else gate)
        stream = networks.join(channel, attentive, listen=not rules.full_duplex)
        mouth = Mouth(reactor, stream, sender, samples, gate=gate, trace=trace)
        networks.start()
        timeout_s = wishes.timeout_s
        if timeout_s is None:
            timeout_s = TIMEOUT_S + networks.patience_s(channel)
        whole = True
        try:
            if await way.opened(reactor, stop, timeout_s, networks):
                networks.tell_sealing(display, channel)
                if not rules.full_duplex:
                    await sleep(reactor, ATTEND_S)
                whole = await source.speak(reactor, stop, mouth, _Tell(display, mouth, wishes))
                await sleep(reactor, LINGER_S)
                networks.tell_refused(display, channel)
        finally:
            way.leaving = True
            await networks.stop()
        _summarise(display, mouth, networks, way, stop)
    if wishes.file is None:
        return 0 if whole else 1
    if stop.asked:
        return INTERRUPTED
    return 0 if whole and mouth.said.sent else 1


def _sender(channel: Any, loaded: Any, media: Any, wishes: Wishes) -> tuple[Any, int]:
    """Our voice as the stream wants it, and the samples of a packet."""
    from ice.cli.mouth import alias_of, frame_samples_of, sender_of
    from ice.errors import LocalError
    from ice.mission import voice

    alias = wishes.alias
    if channel.group is None:
        alias = alias_of(loaded, alias)
    else:
        alias = alias or channel.group.alias
        try:
            alias = alias or (alias_of(loaded, None) if loaded is not None else _user())
        except LocalError:
            alias = _user()  # a mission that is spoken over multicast needs no certificate
    if channel.group is None:
        sender = sender_of(
            media,
            alias=alias,
            codec=wishes.codec,
            bitrate=wishes.bitrate,
            priority=wishes.priority,
            emergency=wishes.emergency,
        )
        return sender, frame_samples_of(media)
    if wishes.codec is not None or wishes.bitrate is not None:
        raise LocalError(
            f"how voice is coded on '{channel.name}' is the mission's to say: leave out --codec and --bitrate"
        )
    priority = media.priority if wishes.priority is None else wishes.priority
    return voice.sender(
        channel.group, alias=alias, priority=priority, emergency=wishes.emergency, fec=media.fec
    )


def _user() -> str:
    """Who sits here, as far as this machine knows."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # a number without a name, as in many containers


class _Attentive:
    """A receiver that wants to know of the path, and of the floor where there is one."""

    def __init__(self, way: Any, gate: Any) -> None:
        self.path = way.path
        self._gate = gate

    def datagram(self, datagram: Any) -> None:
        """Somebody else talks: of interest for the floor alone."""
        if self._gate is not None:
            self._gate.datagram(datagram)


class _Tell:
    """Tells of bursts."""

    def __init__(self, display: Any, mouth: Any, wishes: Wishes) -> None:
        self._display, self._mouth, self._wishes = display, mouth, wishes
        self._before = (0, 0)

    def ready(self, what: str) -> None:
        """The microphone is open, and nothing has been sent yet."""
        self._display.say("ready", what)

    def began(self, what: str) -> None:
        """The key is pressed, and the floor is ours."""
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

    async def speak(self, reactor: Any, stop: Any, mouth: Any, tell: _Tell) -> bool:
        """The whole file, in real time, as soon as the floor is ours; false when it was stopped amid it."""
        from twisted.internet.task import LoopingCall

        from ice.cli.mouth import file_pieces

        if not await mouth.wait(stop):
            return True
        times = f", {self._times} times" if self._times > 1 else ""
        tell.began(f"{self._path.name}, {len(self._pcm) / 48_000:.1f} s{times}")
        meters = LoopingCall(tell.meters)
        meters.clock = reactor
        meters.start(1 / METERS_PER_S, now=False)
        try:
            await mouth.say(file_pieces(self._pcm, mouth.frame_samples, self._times), stop)
        finally:
            meters.stop()
        tell.ended(mouth.duration_s)
        return not mouth.interrupted


class _Live:
    """Says what a microphone hears, between two presses of space or enter."""

    def __init__(self, microphone: Any, keys: Any) -> None:
        self._microphone, self._keys = microphone, keys

    async def speak(self, reactor: Any, stop: Any, mouth: Any, tell: _Tell) -> bool:
        """Until Ctrl-C, or ``q``; false when an open microphone has been stopped since its time was over."""
        from ice.cli.loop import first, sleep

        keys = self._keys
        if keys is None:
            tell.ready("live, until Ctrl-C")
        else:
            tell.ready("live: space or enter to talk and to stop, q to quit")
            keys.start(reactor)
        shown_at = -math.inf
        over = False
        while not (stop.asked or over or (keys is not None and keys.quit)):
            await first(sleep(reactor, LIVE_S), stop.wait())
            # Fetched also while nobody is to hear it: what was said before the press is nobody's business.
            blocks = self._microphone.read()
            wanted = keys is None or keys.pressed
            if wanted and not mouth.pressed:
                if mouth.press(waiting=keys is None) is None:
                    tell.began("live")
                elif keys is not None:
                    keys.pressed = False  # refused: it is pressed again when the floor is free
            elif mouth.pressed and (not wanted or mouth.interrupted):
                over = keys is None and mouth.time_up
                if keys is not None:
                    keys.pressed = False
                await self._release(mouth, tell)
            if mouth.pressed:
                for block in blocks:
                    mouth.hear(block)
            if reactor.seconds() - shown_at > 1 / METERS_PER_S:
                shown_at = reactor.seconds()
                tell.meters()
        if mouth.pressed:
            await self._release(mouth, tell)
        return not over

    async def _release(self, mouth: Any, tell: _Tell) -> None:
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


def _summarise(display: Any, mouth: Any, networks: Any, way: Any, stop: Any) -> None:
    from ice.cli.display import plural

    said, dropped = mouth.said, networks.dropped
    lost = said.unsent + dropped
    display.say(
        "summary",
        f"sent {plural(said.sent, 'packet')}, {said.octets:,} bytes" + (f"; {lost} lost on this side" if lost else ""),
        sent=said.sent, unsent=said.unsent, dropped=dropped, octets=said.octets, stalls=said.stalls,
        path_losses=way.losses, round_trip_ms=_ms(networks.round_trip_s), interrupted=stop.asked,
    )  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1_000
