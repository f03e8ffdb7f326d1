"""``ice quality``: how good the way between two ends is, one-way latency, jitter and loss, by the documented table.

One end answers (``--answer``), the other measures. Any way will do: a stream of the configured Rallypoints, a group of a mission by Rallypoint or
multicast, sealed or not. Where nobody is at the other end, ``--parrot`` measures against the Rallypoint's parrot, there and back.

The reckoning is :mod:`ice.media.path_quality`'s. Probes are data, not voice: nobody hears them, and they take no floor.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ice.cli.options import (
    config_option,
    json_option,
    password_option,
    timeout_option,
    usual_option,
    verbosity,
)
from ice.errors import LocalError

PARROT_SECONDS: Final = 20.0  # a parrot keeps 30 s of a burst
SETTLE_S: Final = 0.3
QUIET_S: Final = 1.0  # a parrot that has been silent for so long in its answer has said all
INTERRUPTED: Final = 130
PROBE_BYTES: Final = 172


@click.command()
@click.argument("stream")
@config_option
@password_option
@click.option("--answer", is_flag=True, help="Be the other end: answer until Ctrl-C, or for --seconds.")
@click.option("--parrot", is_flag=True, help="The stream is a Rallypoint's parrot: measure there and back.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 3_600), help="How long to measure.  [10; with --answer, for ever]"
)
@usual_option("--rate", click.FloatRange(1, 500), 50.0, "Probes a second.")
@usual_option("--size", click.IntRange(48, 1_400), PROBE_BYTES, "Bytes of a probe, in fours.")
@timeout_option(15.0, "Give up when there is no way, or no answer, after so many seconds.")
@json_option
def quality(
    stream: str,
    config: Path | None,
    password_file: Path | None,
    answer: bool,
    parrot: bool,
    seconds: float | None,
    rate: float,
    size: int,
    timeout: float,
    as_json: bool,
) -> int:
    """Measure how good the way is to whoever answers on STREAM, or on a mission's group (FILE/GROUP).

    At the other end: ice quality STREAM --answer. Use a stream of its own, or a quiet one: the probes take the bandwidth of one talker each way.

    Exit status 0 when the way is ideal or acceptable, 1 when it is not.
    """
    from ice.cli import loop
    from ice.cli.channels import Networks, configuration, one, wanted
    from ice.streams.connect import network_of

    if answer and parrot:
        raise LocalError("--answer and --parrot: who answers does not measure; give one of them")
    if parrot and (seconds or 0) > PARROT_SECONDS:
        raise LocalError(f"a parrot keeps 30 s at most: measure against it for {PARROT_SECONDS:g} s or less")
    words = wanted((stream,), password_file)
    channel = one(words)
    loaded = configuration(config, words)
    count = max(1, round((seconds or 10.0) * rate))

    async def main(reactor: Any, stop: loop.Stop) -> int:
        from ice.cli.display import display_for

        title = f"{'answering' if answer else 'measuring'} on {channel.name}"
        display = display_for(title, as_json=as_json, broken=stop.ask)
        with contextlib.closing(display):
            end = End(reactor, stop, display, channel.name, stream, timeout)
            if parrot and channel.group is None and loaded is not None:
                # One link, whatever the configuration says: on two there would be two parrots.
                single = network_of(loaded, reactor, on_notice=end.way.notice, homes=1)
                end.joined(single, single.join(channel.stream_id, end))
            else:
                networks = Networks(reactor, loaded, words, end.way.notice)
                end.joined(networks, networks.join(channel, end))
            async with end:
                if answer:
                    return await answer_probes(end, seconds)
                if parrot:
                    return await measure_parrot(end, count, rate, size)
                return await measure(end, count, rate, size)

    return loop.run(main, verbosity=verbosity())


class End:
    """One end of the way: an :class:`ice.streams.interface.Receiver`, and what it sends. ``word``: what the other end is to be asked for."""

    def __init__(self, reactor: Any, stop: Any, display: Any, name: str, word: str, timeout_s: float) -> None:
        from ice.cli.voice import Way

        self.reactor, self.stop, self.display = reactor, stop, display
        self.name, self.word, self.timeout_s = name, word, timeout_s
        self.way = Way(display, name)
        #: Who is told what comes, and when.
        self.listener: Callable[[bytes, float], None] = _nobody

    def joined(self, network: Any, stream: Any) -> None:
        """By what network, which is started and stopped with us."""
        self._network, self.stream = network, stream

    async def __aenter__(self) -> End:
        self._network.start()
        give_up = self.reactor.seconds() + self.timeout_s
        while not self.way.up and not self.stop.asked:
            if self.reactor.seconds() > give_up:
                await self.__aexit__()
                raise LocalError(f"no way to '{self.name}' within {self.timeout_s:g} s: {self._network.why}")
            await self.pause(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.way.leaving = True
        await self._network.stop()

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.way.path(up, why)

    def datagram(self, datagram: Any) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.listener(datagram.payload, self.reactor.seconds())

    @property
    def round_trip_s(self) -> float | None:
        """Of the link to the Rallypoint, where there is one."""
        trip: float | None = self._network.round_trip_s
        return trip

    async def pause(self, seconds: float) -> None:
        """Wait, or until we are asked to stop."""
        from ice.cli.loop import first, sleep

        if seconds > 0:
            await first(sleep(self.reactor, seconds), self.stop.wait())

    async def send_all(self, engine: Any, *, mark: bool = False) -> int:
        """Send a run in its cadence; ``mark``: with the flags of a burst. How often we stood still ourselves."""
        from ice.cli.pacing import MediaClock
        from ice.link.frame import Flag

        clock = MediaClock(engine.spacing_s, self.reactor.seconds())
        for number in range(engine.count):
            while not self.stop.asked and not clock.due(self.reactor.seconds()):
                await self.pause(max(0.0, clock.next_at - self.reactor.seconds()))
            if self.stop.asked:
                break
            flags = Flag.DATA
            if mark:
                flags |= Flag.FIRST if number == 0 else Flag(0)
                flags |= Flag.LAST if number == engine.count - 1 else Flag(0)
            payload = engine.probe(self.reactor.seconds())
            self.stream.send(payload, int(flags))
            engine.went()  # what finds no path is lost like any other
        return clock.stalls


def _nobody(payload: bytes, now: float) -> None:
    """Nothing is wanted yet."""


def _random() -> int:
    return int.from_bytes(os.urandom(4))


async def answer_probes(end: End, seconds: float | None) -> int:
    """Be the other end."""
    from ice.link.frame import Flag
    from ice.media.path_quality import Answerer

    answerer = Answerer(_random())
    told = 0

    def heard(payload: bytes, now: float) -> None:
        nonlocal told
        reply = answerer.heard(payload, now)
        if reply is None:
            return
        end.stream.send(reply.encode(), int(Flag.DATA))
        if answerer.runs > told:
            told = answerer.runs
            end.display.say("run", f"answering run {reply.run:08x}", run=f"{reply.run:08x}")

    end.listener = heard
    if not end.stop.asked:
        end.display.say(
            "ready", f"answering on '{end.name}'; at the other end: ice quality {end.word}",
            stream=end.name,
        )  # fmt: skip
    give_up = float("inf") if seconds is None else end.reactor.seconds() + seconds
    while not end.stop.asked and end.reactor.seconds() < give_up:
        await end.pause(min(1.0, give_up - end.reactor.seconds()))
    from ice.cli.display import plural

    end.display.say(
        "answered", f"{plural(answerer.answered, 'probe')} answered, of {plural(answerer.runs, 'run')}",
        answered=answerer.answered, runs=answerer.runs, throttled=answerer.throttled,
    )  # fmt: skip
    return 0


async def measure(end: End, count: int, rate: float, size: int) -> int:
    """Measure against somebody who answers; the exit status."""
    from ice.link.frame import Flag
    from ice.media.path_quality import ASK_END_S, ASK_EVERY_S, Asker

    asker = Asker(_random(), count, per_s=rate, size=size // 4 * 4)
    end.listener = asker.heard
    give_up = end.reactor.seconds() + end.timeout_s
    while not asker.answered and not end.stop.asked:
        if end.reactor.seconds() > give_up:
            raise LocalError(
                f"nobody answers on '{end.name}': start `ice quality {end.word} --answer` at the other end"
            )
        end.stream.send(asker.ask(end.reactor.seconds()), int(Flag.DATA))
        await end.pause(ASK_EVERY_S)
    if not end.stop.asked:
        end.display.say(
            "began", f"{count:,} probes, {rate:g} a second, of {asker.size} bytes …", probes=count
        )
    stalls = await end.send_all(asker)
    if end.stop.asked and not asker.sent:
        return INTERRUPTED
    asker.count = asker.sent  # who is interrupted hears what is known so far
    await end.pause(SETTLE_S)
    give_up = end.reactor.seconds() + ASK_END_S
    while not asker.complete and end.reactor.seconds() < give_up:
        end.stream.send(asker.ask(end.reactor.seconds()), int(Flag.DATA))
        await end.pause(ASK_EVERY_S)
        if end.stop.asked:
            break
    from ice.cli.quality_output import show

    return show(
        end.display, asker.report(), rate=rate, size=asker.size, stalls=stalls, complete=asker.complete
    )


async def measure_parrot(end: End, count: int, rate: float, size: int) -> int:
    """Measure against a parrot; the exit status."""
    from ice.media.path_quality import Echo

    echo = Echo(_random(), count, per_s=rate, size=size // 4 * 4)
    last = [0.0]

    def heard(payload: bytes, now: float) -> None:
        last[0] = now
        echo.heard(payload, now)

    end.listener = heard
    if not end.stop.asked:
        end.display.say("began", f"{count:,} probes to the parrot, {rate:g} a second …", probes=count)
    stalls = await end.send_all(echo, mark=True)
    if end.stop.asked:
        return INTERRUPTED
    last[0] = give_up = end.reactor.seconds()
    give_up += end.timeout_s
    while not echo.heard_all and not end.stop.asked and end.reactor.seconds() < give_up:
        if echo.heard_any:
            give_up = last[0] + QUIET_S
        await end.pause(0.05)
    if not echo.heard_any and not end.stop.asked:
        raise LocalError(
            f"the parrot does not answer: is '{end.name}' the stream of one (rallypoint.parrot)?"
        )
    from ice.cli.quality_output import show

    return show(
        end.display, echo.report(end.round_trip_s), rate=rate, size=echo.size, stalls=stalls, complete=True
    )
