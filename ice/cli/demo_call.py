"""The call of ``ice demo``: a person telephones the echo number through a gateway with the built-in call manager, while the others talk.

A gateway runs as an administrator would start it, ``ice call`` as a person would; what is judged is the WAV file that the person heard.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from ice.cli.processes import Child, Children
from ice.errors import LocalError

if TYPE_CHECKING:
    from ice.testing.site import Site

ECHO: Final = "100"
CALLER: Final = "Carol"
HEARD: Final = "echo.wav"
MIN_SIMILARITY: Final = (
    0.7  # 0.99 on an idle machine; one that is busy with everything at once skips a syllable
)
RING_S: Final = 1.0  # until the echo answers
TAIL_S: Final = 0.6  # what is on its way when the sentence is over


@attrs.frozen
class Echo:
    """What became of the call: how like the echo was, and what was lost; ``seconds`` it stood."""

    similarity: float
    seconds: float

    @property
    def arrived(self) -> bool:
        """Whether the person really heard himself."""
        return self.similarity >= MIN_SIMILARITY


class Telephones:
    """A gateway and one person of a site, in ``folder``. ``program`` is twistd, ``say`` tells a sentence."""

    def __init__(self, folder: Path, site: Site, program: str, say: Callable[[str], None]) -> None:
        from ice.security.certificates import Role

        self._folder = folder
        self._program = program
        self._say = say
        gateway = site.issue("gateway", Role.SATELLITE)
        caller = site.issue(CALLER.lower())
        self._gateway_config, self._caller_config = gateway.config, caller.config
        _add(
            gateway.config,
            '[gateway.http]\nlisten = ""\n[gateway.records]\nfile = "calls.db"\n[gateway.control]\nsocket = "gateway.sock"\n',
        )
        _add(caller.config, f'[telephone]\ngroup = "{gateway.id}"\n')

    def begin(self, children: Children, speech: Path, speech_s: float) -> Child:
        """Start the gateway, and the call; whoever waits for its end has the child."""
        gateway = children.start(
            "the gateway",
            [self._program, "-n", "--pidfile=", "ice-gateway", "--config", str(self._gateway_config)],
            output=self._folder / "gateway.log",
            cwd=self._folder,
        )
        call = children.start(
            CALLER,
            [
                *(sys.executable, "-m", "ice", "call", ECHO, "--json", "--silent"),
                *("--config", str(self._caller_config), "--file", str(speech), "--out", HEARD),
                *("--for", str(speech_s + TAIL_S), "--timeout", "60"),
            ],
            output=self._folder / "call.log",
            cwd=self._folder,
        )
        self._say(
            f"a telephony gateway, process {gateway.pid}; {CALLER} calls the echo number, process {call.pid}"
        )
        return call

    def measure(self, call: Child, speech: Path) -> Echo:
        """What the person heard, once the call is over. Raises :class:`~ice.errors.LocalError` where it came to nothing."""
        from ice.media import quality, wav
        from ice.media.payload import SAMPLE_RATE

        if call.status != 0:
            raise LocalError(f"{CALLER}'s call ended with status {call.status}:\n{call.tail()}")
        sound = wav.read(self._folder / HEARD)
        return Echo(quality.similarity(wav.read(speech), sound), len(sound) / SAMPLE_RATE)


def told(child: Child) -> list[dict[str, Any]]:
    """What a ``--json`` process has told so far; lines that are no objects are passed over."""
    found = []
    for line in child.lines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


def _add(config: Path, text: str) -> None:
    config.write_text(config.read_text("utf-8") + "\n" + text, "utf-8")
