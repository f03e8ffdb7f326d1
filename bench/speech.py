"""Speech quality through the whole path, against libopus alone: PESQ-WB (ITU-T P.862.2) and our own similarity.

``python bench/speech.py [--times 3] [--bitrate 24000]``

A throw-away site, the real daemon, ``ice listen`` and ``ice talk`` as processes over TLS on loopback. Each burst comes from a new
talker, whom the listener does not know yet, so that its jitter buffer has everything to find out. The reference is the same
sentence through libopus's encoder and decoder in this process, with the same settings and nothing in between.
PESQ depends on the sentence: the difference is what counts. Needs the extra ``quality`` (pesq).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from ice.cli.demo import _answers, _beside_python
from ice.cli.processes import Children, Interrupt
from ice.cli.speech import SPEECH
from ice.cli.trace import compare, read_trace
from ice.media import quality, wav
from ice.media.codecs import decoder, encoder
from ice.media.payload import Pcm
from ice.testing.site import Site

PESQ_RATE = 16_000


def alone(spoken: Pcm, bitrate: int) -> Pcm:
    """The sentence through libopus and nothing else."""
    voice = encoder("opus", bitrate=bitrate)
    voice.expect_loss(0)
    ear = decoder(voice.codec.payload_type)
    size = voice.samples
    padded = np.concatenate((spoken, np.zeros(size - len(spoken) % size, np.int16)))
    return np.concatenate(
        [ear.decode(voice.encode(padded[at : at + size])) for at in range(0, len(padded), size)]
    )


def pesq_wb(spoken: Pcm, heard: Pcm) -> float:
    """The score, 1.0 to 4.6."""
    from pesq import pesq

    reference, degraded = (soxr.resample(pcm, 48_000, PESQ_RATE) for pcm in (spoken, heard))
    return float(pesq(PESQ_RATE, reference, degraded, "wb"))


def events(lines: list[str], name: str) -> list[dict[str, Any]]:
    """The events of that name."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in found if event["event"] == name]


def through_the_path(folder: Path, speech: Path, times: int, bitrate: int) -> tuple[list[Pcm], int]:
    """What was heard of each burst, and how many packets were lost in all."""
    site = Site.create(folder / "site", clients=("listener", "talker"))
    ice = [sys.executable, "-m", "ice"]
    lost = 0
    with Interrupt() as interrupt, Children(interrupt) as children:
        daemon = children.start(
            "the Rallypoint",
            [_beside_python("twistd"), "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)],
            output=folder / "rallypoint.log",
            cwd=folder,
        )
        ready = f"http://127.0.0.1:{site.http_port}/readyz"
        children.wait_until(lambda: _answers(ready), 60, "it was ready", daemon)
        listener = children.start(
            "the listener",
            [
                *(*ice, "listen", "town", "--json", "--config", str(site.client("listener").config)),
                *("--out", "heard.wav", "--trace", "heard.jsonl"),
            ],
            output=folder / "listener.log",
            cwd=folder,
        )
        children.wait_until(lambda: bool(events(listener.lines(), "path")), 60, "it was joined", listener)
        for number in range(times):
            talker = children.start(
                "the talker",
                [
                    *(
                        *ice,
                        "talk",
                        "town",
                        "--config",
                        str(site.client("talker").config),
                        "--file",
                        str(speech),
                    ),
                    *("--codec", "opus", "--bitrate", str(bitrate), "--trace", f"sent-{number}.jsonl"),
                ],
                output=folder / f"talker-{number}.log",
                cwd=folder,
            )
            children.wait_until(
                lambda talker=talker: talker.status is not None, 120, "it had talked", listener
            )
            children.wait_until(
                lambda number=number: len(events(listener.lines(), "ended")) > number,
                60,
                "it was heard",
                listener,
            )
        listener.end()
        began, ended = events(listener.lines(), "began"), events(listener.lines(), "ended")
    heard = read_trace(folder / "heard.jsonl")
    for number in range(times):
        lost += compare(read_trace(folder / f"sent-{number}.jsonl"), heard).lost
    sound = wav.read(folder / "heard.wav")
    pieces = [
        sound[round(first["at_s"] * 48_000) : round(last["at_s"] * 48_000)]
        for first, last in zip(began, ended, strict=True)
    ]
    return pieces, lost


def main() -> int:
    """Measure and print; 0 when the path costs no more than 0.1 PESQ and no packet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--bitrate", type=int, default=24_000)
    parser.add_argument("--file", type=Path, default=SPEECH)
    options = parser.parse_args()
    spoken = wav.read(options.file)
    reference = alone(spoken, options.bitrate)
    base = pesq_wb(spoken, reference)
    print(f"{'':<22}{'PESQ-WB':>9}{'less':>8}{'similarity':>12}")
    print(f"{'libopus alone':<22}{base:>9.3f}{'':>8}{quality.similarity(spoken, reference):>12.3f}")
    with tempfile.TemporaryDirectory() as folder:
        heard, lost = through_the_path(Path(folder), options.file.resolve(), options.times, options.bitrate)
    worst = 0.0
    for number, pcm in enumerate(heard, 1):
        score = pesq_wb(spoken, pcm)
        worst = max(worst, base - score)
        print(
            f"{f'whole path, burst {number}':<22}{score:>9.3f}{base - score:>8.3f}{quality.similarity(spoken, pcm):>12.3f}"
        )
    print(f"packets lost: {lost}; worst difference: {worst:.3f} (at most 0.1 is wanted)")
    return 0 if worst <= 0.1 and lost == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
