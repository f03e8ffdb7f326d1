"""Several streams heard at once, each at its own volume: one sound for one loudspeaker or file.

A :class:`Room` is to a :class:`~ice.cli.voice.Playout` what a single :class:`~ice.cli.voice.Ear` is. The recording's clock is shared: it begins with
the first burst on any stream, and a moment told of one stream's burst is the moment in the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ice.cli.display import Display, Meter
from ice.cli.voice import Ear
from ice.errors import LocalError
from ice.media.mixer import Limiter, accumulate
from ice.media.payload import SAMPLE_RATE, Pcm

MAX_VOLUME_PERCENT = 400  # +12 dB: what a faint microphone at the other end may want


@attrs.frozen
class Seat:
    """One stream in the room: what it is called, who hears it, and how loud (1 as it is)."""

    name: str
    ear: Ear
    gain: float = 1.0


class Room:
    """Hears all seats together."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = tuple(seats)
        self._limiter = Limiter()
        self._ears = [seat.ear for seat in seats]
        self._gains = [seat.gain for seat in seats]

    @property
    def samples(self) -> int | None:
        """Samples given out since the first burst on any stream; none before it."""
        return self._ears[0].samples

    @samples.setter
    def samples(self, samples: int | None) -> None:
        for ear in self._ears:
            ear.samples = samples

    @property
    def at_s(self) -> float:
        """Seconds of sound given out since the first burst began."""
        return (self.samples or 0) / SAMPLE_RATE

    @property
    def busy_at(self) -> float:
        """When somebody was last heard to talk on any stream, or when we began."""
        return max(ear.busy_at for ear in self._ears)

    @busy_at.setter
    def busy_at(self, now: float) -> None:
        for ear in self._ears:
            ear.busy_at = now

    def pull(self, samples: int, ahead_s: float = 0.0) -> Pcm:
        """The next ``int16[samples]`` of all streams together, which will sound in ``ahead_s``; events are told."""
        pieces = [ear.pull(samples, ahead_s) for ear in self._ears]
        begun = max((ear.samples for ear in self._ears if ear.samples is not None), default=None)
        if begun is not None:
            self.samples = begun
        if len(pieces) == 1 and self._gains[0] == 1.0:
            return pieces[0]
        return self._limiter.limit(accumulate(pieces, self._gains))

    def tell(self) -> None:
        """Tell what has happened since the last time."""
        for ear in self._ears:
            ear.tell()

    def meters(self) -> list[Meter]:
        """Who talks now; with the stream's name where there are several."""
        if len(self.seats) == 1:
            return self._ears[0].meters()
        return [
            attrs.evolve(row, name=f"{seat.name}: {row.name}")
            for seat in self.seats
            for row in seat.ear.meters()
        ]


class Named:
    """A display that says of which stream it speaks."""

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, name

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        """See :class:`~ice.cli.display.Display`."""
        self._display.say(event, f"[{self._name}] {sentence}", channel=self._name, **fields)

    def meters(self, rows: Sequence[Meter]) -> None:
        """See :class:`~ice.cli.display.Display`."""
        self._display.meters(rows)

    def close(self) -> None:
        """The display is closed by who has opened it."""


def volumes(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """``NAME=PERCENT`` or, for all, ``PERCENT`` as gains by name; raises :class:`~ice.errors.LocalError` for anything else."""
    gains: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            percent = float(number.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= MAX_VOLUME_PERCENT:
            raise LocalError(
                f"--volume {text}: expected NAME=PERCENT with 0 to {MAX_VOLUME_PERCENT} percent, like Red=50"
            )
        found = [each for each in names if each.casefold() == name.casefold()] if equals else list(names)
        if not found:
            raise LocalError(
                f"--volume {text}: '{name}' is none of {', '.join(repr(each) for each in names)}"
            )
        gains.update(dict.fromkeys(found, percent / 100))
    return gains
