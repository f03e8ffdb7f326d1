"""What callers are told: spoken prompts and beeps, each a sound under a name (:class:`~ice.telephony.dial_in.Prompt`).

Speech is files, ``code.wav`` and so on: ours, in English, lie in ``ice/telephony/data``; a site may have a folder of its own, in its own language (:mod:`ice.telephony.prompts_spoken` makes one from texts). Beeps are computed, unless
the site's folder has a file for them too. Everything is read when the gateway starts and kept; what is missing or no WAV file is said once, and becomes a beep: no caller is turned away because of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from twisted.logger import Logger

from ice.media import tones
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.tones import shaped, sine
from ice.media.wav import BadWav, read
from ice.telephony.dial_in import Prompt

DATA: Final = Path(__file__).parent / "data"
LONGEST_S: Final = 20.0  # of a prompt; nobody listens to more before he may key in a code
LARGEST: Final = 4_000_000  # bytes of a file: 20 s at 48 kHz stereo


def _warning() -> Pcm:
    """One short high beep."""
    return shaped(sine(1_400.0, SAMPLE_RATE // 12))


def _signal() -> Pcm:
    """What stands for speech that is not there: one long beep."""
    return shaped(sine(660.0, SAMPLE_RATE // 2))


BEEPS: Final[Mapping[Prompt, Callable[[], Pcm]]] = MappingProxyType(
    {
        Prompt.TALK: tones.talk_permit,
        Prompt.BUSY: tones.busy,
        Prompt.STOPPED: tones.error,
        Prompt.ENDING: _warning,
    }
)
SPOKEN: Final = tuple(prompt for prompt in Prompt if prompt not in BEEPS)


class Prompts:
    """All prompts as ``int16[n]`` at 48 kHz; ``folder``: the site's own, else ours. See the module docstring."""

    _log = Logger()

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = DATA if folder is None else folder
        #: Prompts whose files could not be used, and why.
        self.missing: dict[Prompt, str] = {}
        self._sounds = {prompt: self._load(prompt) for prompt in Prompt}

    def pcm(self, prompt: Prompt) -> Pcm:
        """The sound of a prompt."""
        return self._sounds[prompt]

    def _load(self, prompt: Prompt) -> Pcm:
        path = self.folder / f"{prompt}.wav"
        beep = BEEPS.get(prompt)
        try:
            size = path.stat().st_size
            if size > LARGEST:
                raise BadWav(f"{path}: {size:,} bytes; a prompt has at most {LARGEST:,}")
            return read(path, max_seconds=LONGEST_S)
        except FileNotFoundError:
            if beep is not None:
                return beep()
            why = f"{path}: is not there"
        except OSError as error:
            why = f"{path}: cannot be read: {error.strerror or error}"
        except BadWav as error:
            why = str(error)
        self.missing[prompt] = why
        self._log.warn(
            "Callers hear a beep instead of the prompt {prompt}: {why}", prompt=str(prompt), why=why
        )
        return _signal() if beep is None else beep()
