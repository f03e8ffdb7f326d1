"""People on three channels that a patch server joins, all in one process: who hears whom, what when it is switched, and what where something is wrong."""

import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from ice.media import wav
from ice.security.certificates import Role
from ice.testing.site import free_ports

from .conftest import Program, programs, runner
from .foreign import LEAD_S, PCMU, Way, listening, missing
from .patches import Server, Stage, alike, is_ready, stage_in, whole
from .test_missions import OBSTACLE
from .test_voice import wait_until

GROUPS = ("Red", "Blue", "Green")
SHORT_S = 0.6
SHORT_PACKETS = SHORT_S / 0.02 * 1.3  # and the copies of its end
DIES_OUT_S = 1.0
PARTY = Path(__file__).parent / "patch_party.py"


@attrs.define(eq=False)
class Party:
    """The people, and the server that joins them."""

    stage: Stage
    server: Server
    people: Program
    sounds: Iterator[str] = attrs.field(factory=lambda: map(str, itertools.count()))

    def told(self, e: str, **facts: object) -> list[dict[str, Any]]:
        """What the people have told of that kind."""
        found = []
        for line in self.people.output().splitlines():
            told = json.loads(line) if line.startswith("{") else {}
            if told.get("e") == e and all(told.get(key) == value for key, value in facts.items()):
                found.append(told)
        return found

    def until(self, e: str, count: int, **facts: object) -> None:
        """Wait until it was told so often in all."""
        wait_until(lambda: len(self.told(e, **facts)) >= count, f"{e} {facts} {count} times", self.people)

    def talk(self, group: str, sound: str = "said.wav") -> None:
        """Begin to talk."""
        self.people.order(do="talk", group=group, file=sound)

    def say(self, group: str, sound: str = "said.wav") -> None:
        """Talk, until all is said."""
        before = len(self.told("said", group=group))
        self.talk(group, sound)
        self.until("said", before + 1, group=group)

    def save(self) -> tuple[str, dict[str, Any]]:
        """What was heard since the last time: the beginning of the files' names, and the counts."""
        name = next(self.sounds)
        self.people.order(do="save", **{"as": name})
        self.until("saved", 1, name=name)
        return name, self.told("saved", name=name)[0]

    def counts(self) -> dict[str, int]:
        """How many bursts have begun and ended on each group."""
        return {
            f"{e} {group}": len(self.told(e, group=group)) for e in ("began", "ended") for group in GROUPS
        }

    def until_ended(self, bursts: int) -> None:
        """Wait until so many bursts are over on each group."""
        for group in GROUPS:
            self.until("ended", bursts, group=group)

    def member(self, group: str) -> dict[str, Any]:
        """What the server says of one of the groups."""
        [found] = [
            each
            for each in self.server.status()["groups"]["detail"]
            if each["id"] == self.stage.streams[group]
        ]
        return dict(found)


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Party]:
    """The server has the mission in a file of its own, and joins all three groups."""
    folder = tmp_path_factory.mktemp("voices")
    with programs(folder) as start:
        stage = stage_in(start, runner(folder), folder)
        streams = json.dumps(list(stage.streams.values()))
        patches = f'\n[[patches]]\nid = "all"\nstreams = {streams}\nmode = "transcode"\n'
        server = stage.server("patch", patches, mission="server.json")
        wav.write(folder / "short.wav", wav.read(folder / "said.wav")[: round(SHORT_S * 48_000)])
        (folder / "server.json").write_text((folder / "team.json").read_text())
        program = server.begin()
        configs = [stage.place.site.client(name).config for name in ("anna", "bob")]
        people = start(sys.executable, PARTY, "team.json", *configs, cwd=folder, orders=True)
        party = Party(stage, server, people)
        wait_until(server.ready, "all streams are joined", program, people)
        party.until("up", 6)
        yield party


def test_all_directions(party: Party) -> None:
    """Opus at 12 kbit/s under GCM, G.711 in clear and Opus at 24 kbit/s under CBC: a sentence on each is heard on both others, each syllable of it, once and by name."""
    for turn, group in enumerate(GROUPS, 1):
        party.save()
        party.say(group)
        party.until_ended(turn)
        name, _ = party.save()
        for other in GROUPS:
            if other != group:
                assert party.told("began", group=other)[-1]["alias"] == f"on {group}"
                assert party.told("ended", group=other)[-1]["why"] == "mark"
                whole(party.stage.folder / "said.wav", party.stage.folder / f"{name}-{other}.wav")
    # On each its own talker and the two others.
    assert party.counts() == {f"{e} {group}": 3 for e in ("began", "ended") for group in GROUPS}
    assert party.save()[1]["refused"] == {group: {} for group in GROUPS}


@pytest.mark.skipif(bool(missing("ffmpeg")), reason="ffmpeg is not installed (apt install ffmpeg)")
@pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE)
def test_a_receiver_beyond_a_reflector(party: Party) -> None:
    """Blue goes on to a multicast group, where ffmpeg hears it: what is said on Red in Opus, sealed, comes there as plain G.711."""
    stage, way = party.stage, Way("blue", PCMU, 77)
    member = stage.place.site.issue("reflector", Role.SATELLITE)
    [http_port] = free_ports(1)
    rule = f'[[reflector.rules]]\nstream = "{stage.streams["Blue"]}"\nrx = "{way.group}:{way.port}"\n'
    with member.config.open("a") as file:
        file.write(f'\n[reflector.http]\nlisten = "127.0.0.1:{http_port}"\n{rule}')
    heard = stage.folder / "ffmpeg.pcm"
    ffmpeg = stage.start("ffmpeg", *listening(way.session(stage.folder), heard))
    reflector = stage.start("twistd", "-n", "--pidfile=", "ice-reflector", "--config", member.config)
    spoken = wav.read(stage.folder / "said.wav")
    wav.write(stage.folder / "lead.wav", np.concatenate((np.zeros(round(LEAD_S * 48_000), np.int16), spoken)))
    wait_until(lambda: is_ready(http_port), "the reflector is ready", reflector)
    party.say("Red", "lead.wav")
    wait_until(lambda: heard.exists() and heard.stat().st_size > 2 * len(spoken), "ffmpeg hears it", ffmpeg)
    time.sleep(0.2)
    alike(spoken, np.fromfile(heard, "<i2"), "ffmpeg")
    ffmpeg.end(signal.SIGKILL)  # it would wait for one more packet
    reflector.end()


def test_switched_while_somebody_talks(party: Party) -> None:
    """Switched off in the middle of a word: the others' burst is ended at once, the talker's own listeners notice nothing; switched on again, it goes on."""
    before = party.counts()

    def more(e: str, group: str) -> int:
        return party.counts()[f"{e} {group}"] - before[f"{e} {group}"]

    party.talk("Red")
    wait_until(lambda: more("began", "Blue") == 1, "Blue hears it")
    assert party.server.ask(do="deactivate", id="all")["ok"]
    wait_until(lambda: more("ended", "Blue") == more("ended", "Green") == 1, "it is over for them")
    assert more("ended", "Red") == 0
    assert party.told("ended", group="Blue")[-1]["why"] == "mark"
    assert party.server.ask(do="activate", id="all")["ok"]
    wait_until(lambda: more("ended", "Red") == 1, "it is over")
    wait_until(lambda: more("ended", "Blue") == more("began", "Blue") == 2, "Blue has heard the rest")
    assert more("began", "Red") == 1


def test_a_wrong_key(party: Party) -> None:
    """The server has another key for one group: this one is silent in both directions, and shown; the others go on. With the right key it is one of them again."""
    before = party.counts()
    file = party.stage.folder / "server.json"
    right = file.read_text()
    mission = json.loads(right)
    [green] = [group for group in mission["groups"] if group["name"] == "Green"]
    green["cryptoPassword"] = "0f" * 32
    file.write_text(json.dumps(mission))
    reload(party)
    party.save()
    party.say("Green", "short.wav")
    party.say("Red", "short.wav")
    wait_until(lambda: party.counts()["ended Blue"] > before["ended Blue"], "Blue hears Red")
    _, told = party.save()
    counts = party.counts()
    assert (counts["began Blue"] - before["began Blue"], counts["began Red"] - before["began Red"]) == (1, 1)
    assert party.told("began", group="Blue")[-1]["alias"] == "on Red"
    assert counts["began Green"] - before["began Green"] == 1, "but its own"
    assert sum(told["refused"]["Green"].values()) > 20
    wrong = party.member("Green")
    assert sum(wrong["refused"].values()) > 20, wrong
    assert party.member("Blue")["refused"] == {}
    file.write_text(right)
    reload(party)
    party.say("Green", "short.wav")
    wait_until(lambda: party.counts()["began Blue"] == counts["began Blue"] + 1, "Blue hears Green")


def reload(party: Party) -> None:
    """The server reads its files again."""
    assert party.server.program is not None
    before = party.server.program.output().count("reloaded")
    party.server.program.process.send_signal(signal.SIGHUP)
    program = party.server.program
    wait_until(lambda: program.output().count("reloaded") > before, "it has read its files", program)


def test_a_circle(party: Party) -> None:
    """A second server, of another group, joins two of the same streams: what is said goes round once at most, dies out within a second, and both servers name it."""
    streams = json.dumps([party.stage.streams[group] for group in ("Red", "Blue")])
    patches = f'\n[[patches]]\nid = "again"\nstreams = {streams}\nmode = "transcode"\n'
    other = party.stage.server("other", patches)
    other.serve()
    party.save()
    party.say("Red", "short.wav")
    time.sleep(DIES_OUT_S)
    _, told = party.save()
    spoken = told["packets"]["Red"]
    # Red hears its own talker and no more; Blue what either patch makes of him, Green what the one does of both.
    assert spoken < SHORT_PACKETS, told
    assert max(told["packets"].values()) < 2.3 * spoken, told
    time.sleep(0.3)
    assert party.save()[1]["packets"] == dict.fromkeys(GROUPS, 0)
    loops = [server.status()["loops"] for server in (party.server, other)]
    assert all(loops), loops
    assert other.program is not None
    other.program.end()
