"""People of a mission, as processes: over multicast with nothing else running, and over a real Rallypoint.

The missions are made by ``ice mission new``; what is talked and heard goes through ``ice talk`` and ``ice listen`` as a person types them. Much of it
happens at once, since a sentence takes its time. The multicast groups are drawn for each run, so that two runs on one network do not hear each other.
"""

import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from ice.cli.speech import SPEECH
from ice.media import quality, wav
from ice.media.payload import Pcm
from ice.testing.site import Site

from .conftest import Program
from .test_voice import ALIKE, Rallypoint, events, finish, interrupt, wait_until

Start = Callable[..., Program]

HUM_HZ, HUM_PEAK = 3_000, 3_000
SENTENCE_S = 3.0  # of the sentence: as much as it takes to tell whether it is the same
KEY = "cryptoPassword"


def place() -> str:
    """A multicast address and port that nobody else is likely to use now."""
    chance = random.SystemRandom()
    octets = (239, 192 + chance.randrange(4), chance.randrange(1, 255), chance.randrange(1, 250))
    return f"{'.'.join(map(str, octets))}:{chance.randrange(20_000, 60_000, 2)}"


def no_multicast() -> str:
    """Why this host cannot hear itself over multicast, "" if it can."""
    host, _, port = place().rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        try:
            heard.bind((host, int(port)))
            joined = socket.inet_aton(host) + socket.inet_aton("0.0.0.0")
            heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            heard.settimeout(1.0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as said:
                said.sendto(b"anybody?", (host, int(port)))
            heard.recv(16)
        except OSError as error:
            return f"this host has no multicast: {error}"
    return ""


@attrs.frozen
class Exercise:
    """People without a site: a folder with missions, where no configuration is."""

    start: Start
    folder: Path

    def mission(self, file: str, *options: object) -> Program:
        """Make a mission."""
        return self.start("ice", "mission", "new", "Exercise", "--out", file, *options, cwd=self.folder)

    def change(self, file: str, other: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Another mission file, in which something of each group is different and its id is kept."""
        mission = json.loads((self.folder / file).read_text())
        for group in mission["groups"]:
            group["idOverride"] = True
            change(group)
        (self.folder / other).write_text(json.dumps(mission))

    def listen(self, name: str, *words: object) -> Program:
        """Somebody who listens; what is heard is in ``NAME.wav``."""
        return self.start("ice", "listen", *words, "--json", "--out", f"{name}.wav", cwd=self.folder)

    def talk(self, name: str, word: str, file: Path, *options: object) -> Program:
        """Somebody who talks."""
        return self.start(
            "ice", "talk", word, "--json", "--alias", name, "--file", file, *options, cwd=self.folder
        )

    def sound(self, name: str) -> Pcm:
        """What somebody's loudspeaker would have said."""
        return wav.read(self.folder / f"{name}.wav")


def sentence(path: Path) -> Path:
    """A file with the beginning of a sentence."""
    wav.write(path, wav.read(SPEECH)[: round(SENTENCE_S * 48_000)])
    return path


def hum(path: Path, seconds: float) -> Path:
    """A file that hums."""
    turns = np.arange(round(seconds * 48_000)) * 2 * np.pi * HUM_HZ / 48_000
    wav.write(path, (HUM_PEAK * np.sin(turns)).astype(np.int16))
    return path


def joined(program: Program, groups: int = 1) -> None:
    """Wait until somebody is on all of his groups."""
    wait_until(
        lambda: sum(event["up"] for event in events(program, "path")) >= groups,
        "all groups are joined",
        program,
    )


def one(program: Program, event: str, **fields: object) -> dict[str, Any]:
    """The one event of that name with those fields."""
    found = [e for e in events(program, event) if all(e.get(k) == v for k, v in fields.items())]
    assert len(found) == 1, (event, fields, program.output())
    return found[0]


OBSTACLE = no_multicast()


@pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE)
def test_without_any_server(start: Start, tmp_path: Path) -> None:
    """A mission from `ice mission new` is all that a team needs: speech arrives whole, each group as loud as asked, who has another key hears nothing and
    is told why, and a higher priority stops who talks."""
    team = Exercise(start, tmp_path)
    finish(team.mission("team.json", "-g", "Red", "-g", "Blue", "-g", "Green", "--multicast", place()))
    team.change("team.json", "wrong.json", lambda group: group.update({KEY: "0F" * 32}))
    alone = team.listen("alone", "team.json/red")
    wrong = team.listen("wrong", "wrong.json/Red")
    everywhere = team.listen("everywhere", "team.json", "--volume", "Blue=25", "--volume", "Green=0")
    said = sentence(tmp_path / "said.wav")
    long, short = hum(tmp_path / "long.wav", 3.0), hum(tmp_path / "short.wav", 0.5)
    joined(alone)
    joined(wrong)
    joined(everywhere, 3)

    anna = team.talk("Anna", "team.json/Red", said)
    bob = team.talk("Bob", "team.json/Blue", long)
    carl = team.talk("Carl", "team.json/Green", long, "--loop", "100")
    wait_until(lambda: any(e["alias"] == "Carl" for e in events(everywhere, "began")), "Carl is heard", carl)
    chief = team.talk("Chief", "team.json/Green", short, "--priority", "5")
    wait_until(lambda: bool(events(wrong, "sealed-refused")), "it is told why nothing is heard", wrong)
    finish(carl, status=1)
    for talker in (anna, bob, chief):
        finish(talker)
    wait_until(lambda: len(events(everywhere, "ended")) == 4, "all have ended", everywhere)
    wait_until(lambda: bool(events(alone, "ended")), "the sentence is over", alone)
    for listener in (alone, wrong, everywhere):
        interrupt(listener)

    # The sentence arrives whole.
    sent = one(anna, "summary")["sent"]
    assert sent > 50 * SENTENCE_S
    ended = one(alone, "ended")
    assert (ended["alias"], ended["lost"], ended["late"], ended["why"]) == ("Anna", 0, 0, "mark")
    summary = one(alone, "summary")
    assert (summary["datagrams"], summary["missed"], summary["refused"]) == (sent, 0, {})
    likeness = quality.compare(wav.read(said), team.sound("alone"))
    assert likeness.score > ALIKE
    assert likeness.coverage > 0.99
    assert one(alone, "sealing") == {
        "event": "sealing", "cipher": "aes-256-gcm", "authenticated": True, "sealed": 0, "opened": sent, "refused": {},
    }  # fmt: skip

    # Another key: nothing, and the reason.
    summary = one(wrong, "summary")
    assert (summary["bursts"], summary["datagrams"], summary["out_s"]) == (0, 0, 0)
    assert one(wrong, "sealed-refused")["reason"] == "tag"
    assert one(wrong, "sealing")["refused"] == {"tag": sent}

    # Three groups at once, one of them softer and one of them not heard.
    began = one(everywhere, "began", channel="Blue")
    both = team.sound("everywhere")[round((began["at_s"] + 0.5) * 48_000) :][: 2 * 48_000]
    hertz = np.fft.rfftfreq(len(both), 1 / 48_000)
    humming = np.where(np.abs(hertz - HUM_HZ) < 5, np.fft.rfft(both.astype(np.float64)), 0)
    strength = float(np.sqrt(2 * np.mean(np.fft.irfft(humming, len(both)) ** 2)))
    assert 0.2 < strength / HUM_PEAK < 0.3

    # The higher priority goes on, and the other is told.
    usurped = one(carl, "usurped")
    assert (usurped["by"], usurped["reason"], usurped["priority"]) == ("Chief", "outranked", 5)
    stopped = one(everywhere, "ended", alias="Carl")
    assert stopped["why"] == "mark"
    assert one(everywhere, "ended", alias="Chief")["lost"] == 0
    assert not events(chief, "refused")


def test_over_a_rallypoint(start: Start, tmp_path: Path) -> None:
    """The same words reach a group that names a Rallypoint, whoever calls it by which name."""
    site = Rallypoint(start, Site.create(tmp_path / "site", clients=("anna", "bob")), tmp_path)
    team = Exercise(start, tmp_path)
    made = team.mission("team.json", "-g", "Red", "--rallypoint", site.site.address, "--no-multicast")
    site.run()
    finish(made)
    bob = team.listen("bob", "team.json", "--config", site.site.client("bob").config)
    joined(bob)
    said = sentence(tmp_path / "said.wav")
    anna = team.talk("Anna", "team.json/RED", said, "--config", site.site.client("anna").config)
    finish(anna)
    wait_until(lambda: bool(events(bob, "ended")), "the sentence is over", bob)
    interrupt(bob)
    sent = one(anna, "summary")["sent"]
    ended, summary = one(bob, "ended"), one(bob, "summary")
    assert (ended["alias"], ended["lost"], ended["late"], ended["why"]) == ("Anna", 0, 0, "mark")
    assert (summary["datagrams"], summary["missed"], summary["refused"]) == (sent, 0, {})
    assert quality.compare(wav.read(said), team.sound("bob")).score > ALIKE
    assert one(bob, "sealing")["opened"] == sent
