"""Live sound: a microphone and a loudspeaker of this machine, 48 kHz mono, through PortAudio.

PortAudio calls us on a thread of its own, once per block; everything else of the suite lives on one thread. Between the two
stands a bounded queue of blocks and nothing else: the microphone's callback appends, the loudspeaker's takes away. Who talks asks
:meth:`Microphone.read` now and then for what has come; who listens keeps :attr:`Loudspeaker.buffered` at a few blocks. So the
device's own clock sets the pace in both directions and no clock drifts against another.

PortAudio and its Python binding are an extra (``audio``), imported on first use: a Rallypoint and a file player need neither.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

import numpy as np

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

BLOCK: Final = SAMPLE_RATE // 100  # 10 ms: small beside a frame, large beside a context switch
MAX_WAITING: Final = 100  # blocks; a second of sound nobody fetched is not wanted any more
INSTALL: Final = (
    "live sound is not installed: type  pip install 'ice-voice[audio]'  and  sudo apt install libportaudio2  "
    "(or use a file: --file to talk, --out to listen)"
)


class NoSound(LocalError):
    """There is no microphone or loudspeaker to be had; the message says what to do."""


def backend() -> Any:
    """The ``sounddevice`` module; raises :class:`NoSound` with what to install where it or PortAudio is missing."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the binding is here, the library is not
        raise NoSound(f"{INSTALL} [{error}]") from None
    return sounddevice


class Microphone:
    """What is said here, in blocks of 10 ms, oldest dropped (and counted) when nobody fetches them.

    ``device`` is a number or part of a name as ``python -m sounddevice`` lists them; none: the system's choice.
    Raises :class:`NoSound` where it cannot be opened.
    """

    def __init__(self, device: int | str | None = None, *, sounddevice: Any = None) -> None:
        library = sounddevice if sounddevice is not None else backend()
        self._blocks: deque[Pcm] = deque(maxlen=MAX_WAITING)
        #: Blocks that were not fetched in time, and those that PortAudio says it lost.
        self.dropped = 0
        self.overruns = 0
        self._stream = _opened(library, "microphone", library.InputStream, self._came, device)

    def _came(self, data: Any, frames: int, time: Any, status: Any) -> None:
        if status:
            self.overruns += 1
        if len(self._blocks) == MAX_WAITING:
            self.dropped += 1
        self._blocks.append(np.array(data[:, 0], np.int16))

    def read(self) -> list[Pcm]:
        """The blocks that came since the last call, oldest first; perhaps none. Never waits."""
        blocks = []
        while self._blocks:
            blocks.append(self._blocks.popleft())
        return blocks

    def close(self) -> None:
        """Stop listening to the room."""
        self._stream.close()


class Loudspeaker:
    """What is heard here. Silence is played, and counted, where nothing was written in time.

    ``device`` as for :class:`Microphone`. Raises :class:`NoSound` where it cannot be opened.
    """

    def __init__(self, device: int | str | None = None, *, sounddevice: Any = None) -> None:
        library = sounddevice if sounddevice is not None else backend()
        self._lock = threading.Lock()
        self._waiting = np.zeros(0, np.int16)
        #: Times that the device wanted sound and there was not enough.
        self.underruns = 0
        #: Samples thrown away because more than a second waited.
        self.dropped = 0
        self._stream = _opened(library, "loudspeaker", library.OutputStream, self._wanted, device)

    @property
    def buffered(self) -> int:
        """Samples written and not yet taken by the device."""
        return len(self._waiting)

    def write(self, pcm: Pcm) -> None:
        """Append ``int16[n]`` to what will be heard."""
        with self._lock:
            waiting = np.concatenate((self._waiting, pcm))
            surplus = max(0, len(waiting) - MAX_WAITING * BLOCK)
            self.dropped += surplus
            self._waiting = waiting[surplus:]

    def _wanted(self, out: Any, frames: int, time: Any, status: Any) -> None:
        with self._lock:
            ready, self._waiting = self._waiting[:frames], self._waiting[frames:]
        if len(ready) < frames:
            self.underruns += 1
        out[: len(ready), 0] = ready
        out[len(ready) :, 0] = 0

    def close(self) -> None:
        """Be silent."""
        self._stream.close()


def _opened(library: Any, what: str, kind: Any, callback: Any, device: int | str | None) -> Any:
    if isinstance(device, str) and device.isdigit():
        device = int(device)
    try:
        stream = kind(
            samplerate=SAMPLE_RATE,
            channels=1,
            dtype="int16",
            blocksize=BLOCK,
            device=device,
            callback=callback,
        )
        stream.start()
    except (library.PortAudioError, ValueError) as error:
        named = "the default device" if device is None else f"device {device!r}"
        raise NoSound(
            f"the {what} ({named}) cannot be opened: {error}; see the list with  python -m sounddevice"
        ) from None
    return stream
