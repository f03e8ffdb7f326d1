"""``ice listen``: hear streams and groups of missions, on a loudspeaker or into a file, and see who talks.

With ``--out`` the file begins with the first burst and is continuous from there on: pauses between bursts are silence of their true
length, so a moment in the file is a moment of the clock. Ctrl-C ends it with a summary; the file plays at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ice.cli.options import config_option, json_option, password_option, verbosity

if TYPE_CHECKING:
    from ice.cli.channels import Wanted

METERS_PER_S = 12


@attrs.frozen
class Wishes:
    """What was asked for; times in seconds."""

    config: Path | None
    volumes: tuple[str, ...]
    out: Path | None
    device: str | None
    seconds: float | None
    idle_exit_s: float | None
    timeout_s: float | None
    trace: Path | None
    as_json: bool


@click.command()
@click.argument("streams", nargs=-1, required=True, metavar="STREAM|MISSION[/GROUP]...")
@config_option
@password_option
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="NAME=PERCENT",
    help="How loud a stream or group is, 100 as it is; repeatable; a bare number is for all.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write what is heard into a WAV file."
)
@click.option("--device", help="Loudspeaker: number or part of its name (see: python -m sounddevice).")
@click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this long.")
@click.option(
    "--idle-exit", type=click.FloatRange(0.1), help="Stop when nobody has talked for this many seconds."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), help="Give up when not connected after this long.  [never]"
)
@click.option(
    "--trace", type=click.Path(path_type=Path, dir_okay=False), help="Note each datagram as a JSON line."
)
@json_option
def listen(
    streams: tuple[str, ...],
    config: Path | None,
    password_file: Path | None,
    volumes: tuple[str, ...],
    out: Path | None,
    device: str | None,
    seconds: float | None,
    idle_exit: float | None,
    timeout: float | None,
    trace: Path | None,
    as_json: bool,
) -> int:
    """Listen to streams of the configured Rallypoints and to groups of missions, on a loudspeaker or into a file.

    A mission is a file (.json, .ice, a picture of its QR code): all of its audio groups at once, or MISSION/GROUP, by name or id.
    Ctrl-C ends it. Exit status 0 when it ended as asked, 1 when something was in the way.
    """
    from ice.cli import loop
    from ice.cli.channels import wanted

    words = wanted(
        streams, password_file
    )  # before the reactor runs: it may ask for a password, and Ctrl-C must end that
    wishes = Wishes(config, volumes, out, device, seconds, idle_exit, timeout, trace, as_json)

    async def main(reactor: Any, stop: loop.Stop) -> int:
        return await hear(reactor, stop, wishes, words)

    return loop.run(main, verbosity=verbosity())


async def hear(reactor: Any, stop: Any, wishes: Wishes, words: Wanted) -> int:
    """Listen to what ``words`` name until it is time to stop; the exit status."""
    from ice.cli.channels import Networks, configuration, media_of
    from ice.cli.display import display_for
    from ice.cli.room import Named, Room, Seat, volumes
    from ice.cli.trace import Trace
    from ice.cli.voice import Ear, Way, listener_of, playout_of
    from ice.media.floor import Floor
    from ice.media.floor_ears import FloorEars

    loaded = configuration(wishes.config, words)
    media = media_of(loaded)
    gains = volumes(wishes.volumes, [channel.name for channel in words.channels])
    with contextlib.ExitStack() as held:
        sound = held.enter_context(_sound(wishes))
        trace = held.enter_context(Trace(wishes.trace)) if wishes.trace is not None else None
        display = display_for(f"listening to {words.title}", as_json=wishes.as_json, broken=stop.ask)
        held.callback(display.close)
        links = Way(display, words.title)
        networks = Networks(reactor, loaded, words, links.notice)
        networks.tell(display, words)
        seats, ways, displays = [], [], []
        for channel in words.channels:
            own = display if len(words.channels) == 1 else Named(display, channel.name)
            way = Way(own, channel.name)
            ways.append(way)
            displays.append(own)
            rules = channel.rules(media)
            floor = None if rules.full_duplex and not rules.max_rx_s else FloorEars(Floor(rules))
            ear = Ear(reactor, listener_of(media, channel.payload_types), way, own, trace=trace, floor=floor)
            seats.append(Seat(channel.name, ear, channel.gain * gains.get(channel.name, 1.0)))
        for channel, seat in zip(words.channels, seats, strict=True):
            networks.join(channel, seat.ear, talk=False)
        room = Room(seats)
        playout = playout_of(reactor, room, sound)

        def watch() -> None:
            for channel, own in zip(words.channels, displays, strict=True):
                networks.tell_refused(own, channel)

        networks.start()
        try:
            if await _opened(reactor, stop, ways, wishes.timeout_s, networks):
                playout.start()
                await _until_done(reactor, stop, wishes, room, playout, display, watch)
        finally:
            playout.stop()
            for way in (links, *ways):
                way.leaving = True
            await networks.stop()
        watch()
        for channel, way, seat, own in zip(words.channels, ways, seats, displays, strict=True):
            networks.tell_sealing(own, channel)
            _summarise(own, seat.ear, way, seat.name, wishes, networks.stale)
    return 0


async def _opened(reactor: Any, stop: Any, ways: Any, timeout_s: float | None, networks: Any) -> bool:
    """Wait until one of the ways is open; false when we are asked to stop first."""
    from twisted.internet.defer import ensureDeferred

    from ice.cli.loop import first

    await first(*(ensureDeferred(way.opened(reactor, stop, timeout_s, networks)) for way in ways))
    return not stop.asked


async def _until_done(
    reactor: Any, stop: Any, wishes: Wishes, room: Any, playout: Any, display: Any, watch: Callable[[], None]
) -> None:
    """Show who talks until a person, the time or the silence says that it is enough; ``watch`` is called each second."""
    from twisted.internet.task import LoopingCall

    from ice.cli.loop import first, sleep

    began = room.busy_at = reactor.seconds()
    meters, watching = LoopingCall(lambda: display.meters(room.meters())), LoopingCall(watch)
    for looping, every_s in ((meters, 1 / METERS_PER_S), (watching, 1.0)):
        looping.clock = reactor
        looping.start(every_s, now=False)
    try:
        while not stop.asked:
            ends = []
            if wishes.seconds is not None:
                ends.append(began + wishes.seconds)
            if wishes.idle_exit_s is not None:
                ends.append(room.busy_at + wishes.idle_exit_s)
            left = min(ends) - reactor.seconds() if ends else None
            if left is not None and left <= 0:
                return
            waits = [stop.wait(), playout.stuck()]
            if left is not None:
                waits.append(sleep(reactor, left))
            await first(*waits)
    finally:
        meters.stop()
        watching.stop()


def _summarise(display: Any, ear: Any, way: Any, name: str, wishes: Wishes, stale: int) -> None:
    from ice.cli.display import plural

    ear.tell()
    statistics = ear.listener.statistics()
    counters = statistics.counters
    # A link drops before it is known of which stream a datagram is: the count is that of all streams together.
    asleep = f", {stale} dropped on all links because this program stood still meanwhile" if stale else ""
    where = f"; {ear.at_s:.1f} s of sound in {wishes.out}" if wishes.out is not None else ""
    display.say(
        "summary",
        f"heard {plural(len(ear.began), 'burst')}, {plural(statistics.datagrams, 'packet')}: "
        f"{statistics.missed} lost on the way, {counters.late} late{asleep}{where}",
        stream=name, bursts=len(ear.began), datagrams=statistics.datagrams, octets=statistics.octets,
        missed=statistics.missed, stale=stale, lost=counters.lost, late=counters.late, missing=counters.missing,
        skipped=counters.skipped, duplicate=counters.duplicate, concealed_ms=counters.concealed_ms,
        refused=dict(statistics.refused), corrupt=statistics.corrupt, path_losses=way.losses,
        out=str(wishes.out) if wishes.out is not None else None, out_s=ear.at_s,
    )  # fmt: skip


@contextlib.contextmanager
def _sound(wishes: Wishes) -> Iterator[Any]:
    """Where the sound goes: a file, or a loudspeaker."""
    if wishes.out is not None:
        from ice.media.wav import WavWriter

        with WavWriter(wishes.out) as writer:
            yield writer
        return
    from ice.media.devices import Loudspeaker

    loudspeaker = Loudspeaker(wishes.device)
    try:
        yield loudspeaker
    finally:
        loudspeaker.close()
