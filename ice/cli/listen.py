"""``ice listen``: hear a stream, on a loudspeaker or into a file, and see who talks.

With ``--out`` the file begins with the first burst and is continuous from there on: pauses between bursts are silence of their true
length, so a moment in the file is a moment of the clock. Ctrl-C ends it with a summary; the file plays at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from ice.cli.options import config_option, json_option, verbosity

METERS_PER_S = 12


@attrs.frozen
class Wishes:
    """What was asked for; times in seconds."""

    stream_id: str
    out: Path | None
    device: str | None
    seconds: float | None
    idle_exit_s: float | None
    timeout_s: float | None
    trace: Path | None
    as_json: bool


@click.command()
@click.argument("stream")
@config_option
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
    stream: str,
    config: Path | None,
    out: Path | None,
    device: str | None,
    seconds: float | None,
    idle_exit: float | None,
    timeout: float | None,
    trace: Path | None,
    as_json: bool,
) -> int:
    """Listen to STREAM, on a loudspeaker or into a file.

    Ctrl-C ends it. Exit status 0 when it ended as asked, 1 when something was in the way.
    """
    from ice.cli import loop
    from ice.config.load import load

    loaded = load(config)
    wishes = Wishes(stream, out, device, seconds, idle_exit, timeout, trace, as_json)

    async def main(reactor: Any, stop: loop.Stop) -> int:
        return await hear(reactor, stop, loaded, wishes)

    return loop.run(main, verbosity=verbosity())


async def hear(reactor: Any, stop: Any, loaded: Any, wishes: Wishes) -> int:
    """Listen until it is time to stop; the exit status."""
    from ice.cli.display import display_for
    from ice.cli.trace import Trace
    from ice.cli.voice import Ear, Way, listener_of, playout_of
    from ice.streams.connect import network_of

    with contextlib.ExitStack() as held:
        sound = held.enter_context(_sound(wishes))
        trace = held.enter_context(Trace(wishes.trace)) if wishes.trace is not None else None
        display = display_for(f"listening to {wishes.stream_id}", as_json=wishes.as_json, broken=stop.ask)
        held.callback(display.close)
        way = Way(display, wishes.stream_id)
        network = network_of(loaded, reactor, on_notice=way.notice)
        ear = Ear(reactor, listener_of(loaded.config.media), way, display, trace=trace)
        playout = playout_of(reactor, ear, sound)
        network.join(wishes.stream_id, ear, talk=False)
        network.start()
        try:
            if await way.opened(reactor, stop, wishes.timeout_s, network):
                playout.start()
                await _until_done(reactor, stop, wishes, ear, playout, display)
        finally:
            playout.stop()
            way.leaving = True
            await network.stop()
        _summarise(display, ear, way, wishes, network.wake.dropped_stale)
    return 0


async def _until_done(reactor: Any, stop: Any, wishes: Wishes, ear: Any, playout: Any, display: Any) -> None:
    """Show who talks until a person, the time or the silence says that it is enough."""
    from twisted.internet.task import LoopingCall

    from ice.cli.loop import first, sleep

    began = ear.busy_at = reactor.seconds()
    meters = LoopingCall(lambda: display.meters(ear.meters()))
    meters.clock = reactor
    meters.start(1 / METERS_PER_S, now=False)
    try:
        while not stop.asked:
            ends = []
            if wishes.seconds is not None:
                ends.append(began + wishes.seconds)
            if wishes.idle_exit_s is not None:
                ends.append(ear.busy_at + wishes.idle_exit_s)
            left = min(ends) - reactor.seconds() if ends else None
            if left is not None and left <= 0:
                return
            waits = [stop.wait(), playout.stuck()]
            if left is not None:
                waits.append(sleep(reactor, left))
            await first(*waits)
    finally:
        meters.stop()


def _summarise(display: Any, ear: Any, way: Any, wishes: Wishes, stale: int) -> None:
    from ice.cli.display import plural

    ear.tell()
    statistics = ear.listener.statistics()
    counters = statistics.counters
    asleep = f", {stale} dropped because this program stood still meanwhile" if stale else ""
    where = f"; {ear.at_s:.1f} s of sound in {wishes.out}" if wishes.out is not None else ""
    display.say(
        "summary",
        f"heard {plural(len(ear.began), 'burst')}, {plural(statistics.datagrams, 'packet')}: "
        f"{statistics.missed} lost on the way, {counters.late} late{asleep}{where}",
        stream=wishes.stream_id, bursts=len(ear.began), datagrams=statistics.datagrams, octets=statistics.octets,
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
