"""A patch server as a process between people on channels of different codecs and keys: they hear each other, whatever happens to it, and as long as somebody wants it."""

import json
import signal
import stat
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ice.cli.speech import SPEECH
from ice.media import quality, wav
from ice.security.certificates import Role
from ice.testing.site import Site, free_ports

from .conftest import Program
from .test_missions import joined
from .test_voice import Rallypoint, events, finish, interrupt, wait_until

Start = Callable[..., Program]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

SENTENCE_S = 2.0  # of the sentence: as much as it takes to tell whether it is the same
ALIKE = 0.9  # what goes through Opus and G.711 scores more


@attrs.define(eq=False)
class Stage:
    """A Rallypoint, a patch server, a mission with the groups Red, Blue and Green."""

    start: Start
    run: Run
    folder: Path
    place: Rallypoint
    config: Path
    http_port: int
    streams: dict[str, str]
    server: Program | None = None

    def serve(self) -> Program:
        """Start the patch server, and wait until it is ready."""
        self.server = self.start(
            "twistd", "-n", "--pidfile=", "ice-patch", "--config", self.config, env=self.environment
        )
        wait_until(self.ready, "the patch server is ready", self.server)
        return self.server

    @property
    def environment(self) -> dict[str, str]:
        return {"XDG_STATE_HOME": str(self.folder / "state")}

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=2) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/status", timeout=2) as page:
            told: dict[str, Any] = json.load(page)
        return told

    def ice(self, *words: object, status: int = 0) -> str:
        """`ice patch` as a person types it; what it says."""
        done = self.run("ice", "patch", *words, "--config", self.config, env=self.environment)
        assert done.returncode == status, (
            words,
            done.stdout,
            done.stderr,
            self.server and self.server.output(),
        )
        return done.stdout + done.stderr

    def patches(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ice("list", "--json"))["patches"]
        return found

    def start_listening(self, name: str, group: str, out: str) -> Program:
        config = self.place.site.client(name).config
        return self.start("ice", "listen", f"team.json/{group}", "--json", "--out", f"{out}.wav", "--config", config, cwd=self.folder)  # fmt: skip

    def listen(self, name: str, group: str, out: str) -> Program:
        program = self.start_listening(name, group, out)
        joined(program)
        return program

    def talk(self, name: str, group: str, file: Path) -> Program:
        config = self.place.site.client(name).config
        return self.start("ice", "talk", f"team.json/{group}", "--json", "--alias", name, "--file", file, "--config", config, cwd=self.folder)  # fmt: skip


@pytest.fixture
def stage(start: Start, run: Run, tmp_path: Path) -> Stage:
    """Everything runs, and there is no patch yet."""
    site = Site.create(tmp_path / "site", clients=("anna", "bob"))
    satellite = site.issue("patch", Role.SATELLITE)
    place = Rallypoint(start, site, tmp_path)
    [http_port] = free_ports(1)
    made = start("ice", "mission", "new", "Team", "--out", "team.json", "-g", "Red", "-g", "Blue", "-g", "Green", "--clear", "Green",
                 "--rallypoint", site.address, "--no-multicast", "--no-mission-control", cwd=tmp_path)  # fmt: skip
    place.run()
    finish(made)
    mission = json.loads((tmp_path / "team.json").read_text())
    groups = {group["name"]: group for group in mission["groups"]}
    blue = groups["Blue"]
    blue["idOverride"], blue["cipher"] = True, "aes-256-cbc"
    blue["txAudio"]["encoder"] = 1  # G.711
    (tmp_path / "team.json").write_text(json.dumps(mission))
    streams = {name: group["id"].strip("{}").lower() for name, group in groups.items()}
    with satellite.config.open("a") as file:
        file.write(
            f'\n[patch]\nmissions = ["{tmp_path}/team.json"]\n\n[patch.http]\nlisten = "127.0.0.1:{http_port}"\n'
        )
        file.write(
            f'\n[[patches]]\nid = "seeded"\nstreams = ["{streams["Red"]}", "{streams["Green"]}"]\nenabled = false\n'
        )
    stage = Stage(start, run, tmp_path, place, satellite.config, http_port, streams)
    stage.serve()
    return stage


def test_heard(stage: Stage) -> None:
    """Opus under GCM and G.711 under CBC: who talks on one is heard on the other, both ways and through a crash; what people have made and switched stays."""
    red, blue = stage.streams["Red"], stage.streams["Blue"]
    assert [each["id"] for each in stage.patches()] == ["seeded"]
    stage.ice("add", "radios", red, blue, "--mode", "transcode", "--name", "Radios")
    assert "code -9" in stage.ice("on", "seeded", status=1)
    socket = stage.folder / "state" / "ice" / "patch.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    wait_until(stage.ready, "both streams are joined")

    said = stage.folder / "said.wav"
    wav.write(said, wav.read(SPEECH)[: round(SENTENCE_S * 48_000)])
    bob = stage.listen("bob", "Blue", "bob")
    finish(stage.talk("anna", "Red", said))
    wait_until(lambda: bool(events(bob, "ended")), "bob has heard it", bob)
    interrupt(bob)
    heard(stage, "bob", bob, "anna", said)

    assert stage.server is not None
    stage.server.end(signal.SIGKILL)
    anna = stage.start_listening("anna", "Red", "anna")
    stage.serve()
    joined(anna)
    rows = {each["id"]: (each["enabled"], each["state"]) for each in stage.patches()}
    assert rows == {"radios": (True, 1), "seeded": (False, 0)}
    finish(stage.talk("bob", "Blue", said))
    wait_until(lambda: bool(events(anna, "ended")), "anna has heard it", anna)
    interrupt(anna)
    heard(stage, "anna", anna, "bob", said)
    told = stage.status()
    assert [each["state"] for each in told["groups"]["detail"]] == [1, 1]
    assert [each["sealing"] for each in told["groups"]["detail"]] == [
        "aes-256-gcm, authenticated",
        "aes-256-cbc, unauthenticated",
    ]

    # Part them, and join others; the patch of the file may be switched on now.
    carol = stage.start_listening("bob", "Green", "carol")
    for words in (("off", "radios"), ("on", "seeded"), ("rm", "radios")):
        stage.ice(*words)
    audit = [line for line in stage.server.output().splitlines() if "audit " in line][-3:]
    actions = [json.loads(line[line.index("{") :])["action"] for line in audit]
    assert actions == ["deactivate", "activate", "delete"]
    joined(carol)
    wait_until(stage.ready, "both streams are joined")
    wav.write(stage.folder / "prompt.wav", wav.read(said)[:48_000])
    stage.ice("announce", "seeded", "--file", stage.folder / "prompt.wav", "--alias", "Desk")
    wait_until(lambda: bool(events(carol, "ended")), "the prompt is heard", carol)
    interrupt(carol)
    [prompt] = events(carol, "ended")
    assert (prompt["alias"], prompt["lost"], prompt["why"]) == ("Desk", 0, "mark")


def heard(stage: Stage, name: str, listener: Program, talker: str, said: Path) -> None:
    """What a listener's loudspeaker has said is what the talker said, once."""
    assert [each["alias"] for each in events(listener, "began")] == [talker]
    likeness = quality.compare(wav.read(said), wav.read(stage.folder / f"{name}.wav"))
    assert likeness.score > ALIKE, likeness
    assert likeness.coverage > 0.97, likeness
