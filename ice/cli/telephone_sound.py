"""Where the sound of a telephone comes from, and where it goes: a microphone and a loudspeaker with the tones that say how a call goes on, or files, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from ice.cli.mouth import file_pieces
from ice.cli.pacing import MediaClock
from ice.cli.voice import FRAME, FRAME_S, Sink
from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.tones import shaped, silence, sine
from ice.telephony.call import Direction, Ringing, Setup
from ice.telephony.phone import Phone

RING_S: Final = 5.0  # ring-back tone: one second of sound, four without (ITU-T E.180)


class Voice(Protocol):
    """What the person says."""

    def turn(self, now: float, say: Callable[[Pcm], None] | None) -> None:
        """Say what is due, where somebody is to hear it (``say`` is none where nobody is); asked every 10 ms."""


class FileVoice:
    """A file, from the moment on when somebody hears it; then silence."""

    def __init__(self, path: Path, times: int) -> None:
        from ice.media.wav import read

        pcm = read(path)
        if not len(pcm):
            raise LocalError(f"{path}: holds no sound; name another with --file")
        self.seconds = len(pcm) * times / SAMPLE_RATE
        self._pieces = file_pieces(pcm, FRAME, times)
        self._clock: MediaClock | None = None

    def turn(self, now: float, say: Callable[[Pcm], None] | None) -> None:
        """See :class:`Voice`. On hold the file waits."""
        if say is None:
            self._clock = None
            return
        if self._clock is None:
            self._clock = MediaClock(FRAME_S, now)
        while self._clock.due(now):
            piece = next(self._pieces, None)
            if piece is not None:
                say(piece)


class MicrophoneVoice:
    """A microphone."""

    def __init__(self, microphone: Any) -> None:
        self._microphone = microphone

    def turn(self, now: float, say: Callable[[Pcm], None] | None) -> None:
        """See :class:`Voice`. What was said while nobody listened is nobody's business."""
        for block in self._microphone.read():
            if say is not None:
                say(block)


class NoVoice:
    """Nothing: the telephone says silence by itself."""

    def turn(self, now: float, say: Callable[[Pcm], None] | None) -> None:
        """See :class:`Voice`."""


class Nowhere:
    """A sink for what nobody hears."""

    def write(self, pcm: Pcm) -> None:
        """See :class:`ice.cli.voice.Sink`."""


class Earpiece:
    """What the person hears: the call, and before it the tones that say how it goes on; see :class:`ice.cli.voice.Heard`."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone
        self._ring = np.concatenate(
            (shaped(sine(425.0, SAMPLE_RATE, level_dbov=-25.0)), silence(int((RING_S - 1) * SAMPLE_RATE)))
        )
        self._bell = np.concatenate(
            [shaped(sine(hertz, SAMPLE_RATE // 20, level_dbov=-15.0)) for hertz in (800.0, 1_000.0) * 10]
            + [silence(int((RING_S - 1) * SAMPLE_RATE))]
        )
        self._at = 0
        self.samples: int | None = 0

    def pull(self, samples: int, ahead_s: float = 0.0) -> Pcm:
        """See :class:`ice.cli.voice.Heard`."""
        pcm = self._phone.pull(samples, ahead_s)
        call = self._phone.call
        if call is None or not isinstance(call.state, Setup | Ringing):
            self._at = 0
            return pcm
        if isinstance(call.state, Setup) and call.direction is Direction.OUTGOING:
            return pcm
        tone = self._ring if call.direction is Direction.OUTGOING else self._bell
        places = np.arange(self._at, self._at + samples) % len(tone)
        self._at += samples
        return tone[places]


@contextlib.contextmanager
def voice_of(file: Path | None, times: int, device: str | None, silent: bool) -> Iterator[Voice]:
    """Where what is said comes from. Raises :class:`~ice.media.devices.NoSound` where there is no microphone, with what to do."""
    if file is not None:
        yield FileVoice(file, times)
    elif silent:
        yield NoVoice()
    else:
        from ice.media.devices import Microphone

        microphone = _device(Microphone, device)
        with contextlib.closing(microphone):
            yield MicrophoneVoice(microphone)


@contextlib.contextmanager
def sink_of(file: Path | None, device: str | None, silent: bool) -> Iterator[Sink]:
    """Where what is heard goes. Raises :class:`~ice.media.devices.NoSound` where there is no loudspeaker, with what to do."""
    if file is not None:
        from ice.media.wav import WavWriter

        with WavWriter(file) as writer:
            yield writer
    elif silent:
        yield Nowhere()
    else:
        from ice.media.devices import Loudspeaker

        loudspeaker = _device(Loudspeaker, device)
        with contextlib.closing(loudspeaker):
            yield loudspeaker


def _device(kind: Callable[[str | None], Any], name: str | None) -> Any:
    from ice.media.devices import NoSound

    try:
        return kind(name)
    except NoSound as error:
        raise NoSound(f"{error}; --silent telephones without sound devices") from None
