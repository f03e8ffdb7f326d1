"""Prompts from texts: ``python -m ice.telephony.prompts_spoken TEXTS FOLDER``.

TEXTS is a TOML file with the voice and a sentence per prompt (``ice/telephony/data/prompts.toml`` is the one ours are made of; copy and translate it); eSpeak NG speaks them, and FOLDER gets
a WAV file of each: 8 kHz, 16 bit, mono, without silence round it, all equally loud. Whoever has a better voice, his own say, puts his own files there instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

import numpy as np

from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.tones import shaped
from ice.media.wav import read, write
from ice.telephony.prompts import LONGEST_S, SPOKEN

RATE: Final = 8_000  # Hz: what a telephone carries
LEVEL_DBOV: Final = -22.0  # as loud as people on a telephone
QUIET: Final = 200  # of 32,768: softer than that is no speech
PAUSE: Final = SAMPLE_RATE // 20  # left before and after
MAX_TEXT: Final = 500  # characters
DEFAULT_VOICE: Final = "en-gb"
DEFAULT_SPEED: Final = 165  # words a minute


def spoken(text: str, voice: str = DEFAULT_VOICE, speed: int = DEFAULT_SPEED) -> Pcm:
    """A sentence as ``int16[n]`` at 48 kHz; raises :class:`~ice.errors.LocalError` where eSpeak NG is missing or does not speak it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        try:
            words = ["espeak-ng", "-v", voice, "-s", str(speed), "-w", str(path), "--stdin"]
            subprocess.run(words, input=text.encode(), check=True, capture_output=True, timeout=30)
        except FileNotFoundError:
            raise LocalError("espeak-ng is not installed (Debian: apt install espeak-ng)") from None
        except subprocess.SubprocessError as error:
            why = getattr(error, "stderr", b"") or b""
            raise LocalError(
                f"espeak-ng did not say {text[:40]!r} with the voice {voice!r}: {why.decode(errors='replace').strip() or error}"
            ) from None
        return _trimmed(read(path, max_seconds=LONGEST_S))


def _trimmed(pcm: Pcm) -> Pcm:
    """Without the silence round it, at our level."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > QUIET)
    if not len(loud):
        raise LocalError("espeak-ng said nothing at all")
    pcm = pcm[max(0, int(loud[0]) - PAUSE) : int(loud[-1]) + PAUSE]
    gain = 10 ** ((LEVEL_DBOV - level_dbov(pcm)) / 20)
    return shaped(np.clip(np.rint(pcm * gain), -32_768, 32_767).astype(np.int16))


def make(texts: Path, folder: Path) -> list[Path]:
    """Write the prompts of a file of texts into a folder; gives the files. Raises :class:`~ice.errors.LocalError`."""
    try:
        found = tomllib.loads(texts.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LocalError(f"{texts}: expected a TOML file of texts: {error}") from None
    said = found.get("prompts", {})
    voice, speed = str(found.get("voice", DEFAULT_VOICE)), int(found.get("speed", DEFAULT_SPEED))
    missing = [str(prompt) for prompt in SPOKEN if not isinstance(said.get(prompt), str)]
    if missing:
        raise LocalError(f"{texts}: [prompts] says nothing for {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for prompt in SPOKEN:
        path = folder / f"{prompt}.wav"
        write(path, spoken(said[prompt][:MAX_TEXT], voice, speed), rate=RATE)
        made.append(path)
    return made


def main(words: list[str]) -> int:
    """The command; the exit status."""
    if len(words) != 2:
        print("usage: python -m ice.telephony.prompts_spoken TEXTS FOLDER", file=sys.stderr)
        return 2
    try:
        for path in make(Path(words[0]), Path(words[1])):
            print(f"{path}: {path.stat().st_size:,} bytes")
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
