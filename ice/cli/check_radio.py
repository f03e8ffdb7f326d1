"""``ice check-radio``: say something to the parrot, hear it back, and be told how good the way is.

A Rallypoint's parrot keeps what one says and plays it back to the same link when the burst ends. So one person alone learns in
ten seconds what another would hear: whether every packet comes through, how long it takes, and how much the answer sounds like
what was said.

**Delay.** The round trip is what the link's own PING took last: once to the Rallypoint and once back, as far as it is to somebody else at the same
place. What another person would wait for between mouth and ear is that, a packet's length, and what the jitter buffer adds. How
soon the parrot answered after our last packet is told to machines: a daemon that is short of time shows there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import attrs
import click

from ice.cli.options import config_option, json_option, timeout_option, usual_option, verbosity

ANSWER_S: Final = 5.0  # how long the parrot may be silent before we say that it does not answer
LIVE_S: Final = 5.0  # a sentence
GOOD: Final = 0.9  # of similarity: nothing is missing
USABLE: Final = 0.7  # of similarity: words are understood
LONG_DELAY_S: Final = 0.4  # ITU-T G.114: above this people begin to talk at the same time


@attrs.frozen
class Report:
    """What came back. Times in milliseconds, none where they are not known."""

    sent: int
    heard: int
    missed: int
    late: int
    similarity: float
    round_trip_ms: float | None
    answer_ms: float | None
    buffer_ms: float | None
    mouth_to_ear_ms: float | None

    @property
    def usable(self) -> bool:
        """Whether people could talk this way."""
        return self.heard > 0 and self.similarity >= USABLE

    @property
    def verdict(self) -> str:
        """A sentence or two."""
        if not self.heard:
            return "Nothing came back: the parrot does not answer."
        if not self.usable:
            return (
                "Bad: what comes back is hardly what was said. Look at packets lost and late above, "
                "at the network in between, and with --live at the microphone."
            )
        words = (
            "Good: every word comes through."
            if self.similarity >= GOOD
            else "Usable, but something is missing."
        )
        if self.missed or self.late:
            words += f" {self.missed} packets were lost and {self.late} came too late."
        if self.mouth_to_ear_ms is not None and self.mouth_to_ear_ms > LONG_DELAY_S * 1_000:
            words += " The delay is long: people will talk at the same time."
        return words


@click.command("check-radio")
@click.argument("stream", required=False)
@config_option
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Say this WAV file.  [a sentence that comes with ice]",
)
@click.option(
    "--live", is_flag=True, help="Speak into the microphone, and hear the answer on the loudspeaker."
)
@usual_option("--seconds", click.FloatRange(1, 25), LIVE_S, "How long to record with --live.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Keep what came back in a WAV file."
)
@timeout_option(10.0)
@json_option
def check_radio(
    stream: str | None,
    config: Path | None,
    file: Path | None,
    live: bool,
    seconds: float,
    out: Path | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Say something to the parrot on STREAM (by default the configured one) and hear it back.

    Exit status 0 when people could talk this way, else 1.
    """
    from ice.cli import loop
    from ice.config.load import load

    loaded = load(config)
    stream_id = stream or loaded.config.rallypoint.parrot or "parrot"

    async def main(reactor: Any, stop: loop.Stop) -> int:
        return await _check(
            reactor, stop, loaded, stream_id, file=file, live_s=seconds if live else None, out=out,
            timeout_s=timeout, as_json=as_json,
        )  # fmt: skip

    return loop.run(main, verbosity=verbosity())


async def _check(
    reactor: Any,
    stop: Any,
    loaded: Any,
    stream_id: str,
    *,
    file: Path | None,
    live_s: float | None,
    out: Path | None,
    timeout_s: float,
    as_json: bool,
) -> int:
    from ice.cli.display import display_for
    from ice.cli.voice import Way
    from ice.media import wav
    from ice.streams.connect import network_of

    display = display_for(f"checking by {stream_id}", as_json=as_json, broken=stop.ask)
    with contextlib.closing(display):
        spoken = _said(file) if live_s is None else None
        way = Way(display, stream_id)
        # One link, whatever the configuration says: on two there would be two parrots.
        network = network_of(loaded, reactor, on_notice=way.notice, homes=1)
        try:
            trial = Trial(reactor, stop, loaded, network, stream_id, way, display)
            network.start()
            if not await way.opened(reactor, stop, timeout_s, network):
                return 130
            if spoken is None:
                assert live_s is not None
                spoken = await trial.record(live_s)
            report = await trial.run(spoken)
            if live_s is not None and trial.answer is not None:
                await trial.play(trial.answer)
        finally:
            way.leaving = True
            await network.stop()
        if out is not None and trial.answer is not None:
            wav.write(out, trial.answer)
        _show(display, report, out)
    return 0 if report.usable else 1


class Trial:
    """One sentence to the parrot and back."""

    def __init__(
        self, reactor: Any, stop: Any, loaded: Any, network: Any, stream_id: str, way: Any, display: Any
    ) -> None:
        from ice.cli.mouth import Mouth, alias_of, frame_samples_of, sender_of
        from ice.cli.voice import Ear, listener_of

        settings = loaded.config.media
        self._reactor, self._stop, self._network = reactor, stop, network
        self._display = display
        self._ear = Ear(reactor, listener_of(settings), way, _Quiet())
        receiver = _Timed(self._ear, reactor)
        self._receiver = receiver
        stream = network.join(stream_id, receiver)
        self._framing_ms = settings.framing_ms
        self._mouth = Mouth(
            reactor,
            stream,
            sender_of(settings, alias=alias_of(loaded, None)),
            frame_samples_of(settings),
            end_copies=False,
        )
        #: What came back, int16, 48 kHz mono.
        self.answer: Any = None

    async def run(self, spoken: Any) -> Report:
        """Say it, hear it, compare; the parrot plays the answer when all is said."""
        import numpy as np

        from ice.cli.loop import first, sleep
        from ice.cli.mouth import file_pieces
        from ice.cli.voice import ClockPlayout
        from ice.media.quality import compare

        reactor, ear = self._reactor, self._ear
        sound: list[Any] = []
        playout = ClockPlayout(reactor, ear, _Kept(sound))
        playout.start()
        length_s = len(spoken) / 48_000
        self._display.say("began", f"saying {length_s:.1f} s to the parrot …", seconds=length_s)
        await self._mouth.say(file_pieces(spoken, self._mouth.frame_samples), self._stop)
        ended_at = self._mouth.ended_at
        self._display.say("listening", "listening to what it says …")
        buffer_ms = None
        give_up = reactor.seconds() + ANSWER_S
        while not ear.ended and not self._stop.asked and reactor.seconds() < give_up:
            for talker in ear.listener.statistics().talkers:
                buffer_ms = talker.delay_ms
            if not ear.listener.idle:
                give_up = reactor.seconds() + ANSWER_S
            await first(sleep(reactor, 0.05), self._stop.wait())
        playout.stop()
        statistics = ear.listener.statistics()
        self.answer = np.concatenate(sound) if sound else None
        first_at = self._receiver.first_at
        answer_ms = None if first_at is None or ended_at is None else (first_at - ended_at) * 1_000
        round_trip_s = self._network.round_trip_s
        round_trip_ms = answer_ms if round_trip_s is None else round_trip_s * 1_000
        to_ear = None
        if round_trip_ms is not None and buffer_ms is not None:
            to_ear = round_trip_ms + buffer_ms + self._framing_ms
        return Report(
            sent=self._mouth.said.sent,
            heard=statistics.datagrams,
            missed=max(statistics.missed, self._mouth.said.unsent),
            late=statistics.counters.late,
            similarity=compare(spoken, self.answer).score if self.answer is not None else 0.0,
            round_trip_ms=round_trip_ms,
            answer_ms=answer_ms,
            buffer_ms=buffer_ms,
            mouth_to_ear_ms=to_ear,
        )

    async def record(self, seconds: float) -> Any:
        """What the microphone hears."""
        import numpy as np

        from ice.cli.loop import first, sleep
        from ice.media.devices import Microphone

        microphone = Microphone()
        blocks: list[Any] = []
        self._display.say("speak", f"speak now, for {seconds:.0f} s …")
        try:
            until = self._reactor.seconds() + seconds
            while self._reactor.seconds() < until and not self._stop.asked:
                await first(sleep(self._reactor, 0.05), self._stop.wait())
                blocks += microphone.read()
        finally:
            microphone.close()
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)

    async def play(self, pcm: Any) -> None:
        """On the loudspeaker."""
        from ice.cli.loop import first, sleep
        from ice.media.devices import Loudspeaker

        loudspeaker = Loudspeaker()
        try:
            for start in range(0, len(pcm), 4_800):
                loudspeaker.write(pcm[start : start + 4_800])
                if self._stop.asked:
                    break
                await first(sleep(self._reactor, 0.1), self._stop.wait())
        finally:
            loudspeaker.close()


def _said(file: Path | None) -> Any:
    from ice.cli.speech import SPEECH
    from ice.media import wav

    return wav.read(file if file is not None else SPEECH, max_seconds=25.0)


def _show(display: Any, report: Report, out: Path | None) -> None:
    lines = [
        f"packets:     {report.sent} sent, {report.heard} came back, {report.missed} lost, {report.late} too late"
    ]
    if report.round_trip_ms is not None:
        lines.append(f"round trip:  {report.round_trip_ms:.1f} ms to the Rallypoint and back")
    if report.mouth_to_ear_ms is not None:
        lines.append(
            f"delay:       {report.mouth_to_ear_ms:.0f} ms from a mouth to an ear, {report.buffer_ms:.0f} ms of it against jitter"
        )
    lines.append(f"quality:     {report.similarity:.2f} of 1.00 alike")
    if out is not None:
        lines.append(f"heard:       {out}")
    display.say(
        "report", "\n".join([*lines, report.verdict]),
        **attrs.asdict(report), usable=report.usable, verdict=report.verdict, out=str(out) if out else None,
    )  # fmt: skip


class _Quiet:
    """A display that shows nothing: the parrot is no talker whom one wants announced."""

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        """Nothing."""

    def meters(self, rows: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Kept:
    """A sink in memory."""

    def __init__(self, sound: list[Any]) -> None:
        self._sound = sound

    def write(self, pcm: Any) -> None:
        """Keep it."""
        self._sound.append(pcm)


class _Timed:
    """A receiver that notes when it first heard anything."""

    def __init__(self, ear: Any, clock: Any) -> None:
        self.first_at: float | None = None
        self.path = ear.path
        self._ear, self._clock = ear, clock

    def datagram(self, datagram: Any) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if self.first_at is None:
            self.first_at = self._clock.seconds()
        self._ear.datagram(datagram)
