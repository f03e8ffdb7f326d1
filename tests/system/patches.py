"""What tests of patch servers stand on: a Rallypoint, a mission of three groups that differ in codec and key, and patch servers as processes."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from ice.cli.speech import SPEECH
from ice.media import quality, wav
from ice.media.payload import Pcm
from ice.security.certificates import Role
from ice.testing.site import Site, free_ports

from .conftest import Program
from .test_missions import joined
from .test_voice import Rallypoint, finish, wait_until

Start = Callable[..., Program]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

G711, OPUS_12, OPUS_24 = 1, 23, 29  # Engage's numbers of encoders
SENTENCE_S = 2.0  # of the sentence: as much as it takes to tell whether it is the same
WHOLE = 0.97  # of the sentence is there: a lost syllable is a twentieth
ALIKE = 0.75  # measured: more than 0.99 unless a process stands still for more than 60 ms; what codecs make up meanwhile is said besides


@attrs.define(eq=False)
class Server:
    """A patch server: its configuration, and a state folder of its own."""

    start: Start
    run: Run
    id: UUID
    config: Path
    http_port: int
    state: Path
    program: Program | None = None

    def begin(self) -> Program:
        """Start it."""
        words = ("twistd", "-n", "--pidfile=", "ice-patch", "--config", self.config)
        self.program = self.start(*words, env=self.environment)
        return self.program

    def serve(self) -> None:
        """Start it, and wait until it is ready."""
        wait_until(self.ready, "the patch server is ready", self.begin())

    @property
    def environment(self) -> dict[str, str]:
        return {"XDG_STATE_HOME": str(self.state)}

    def ready(self) -> bool:
        return is_ready(self.http_port)

    def status(self) -> dict[str, Any]:
        """What it says of itself; empty while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/status", timeout=2) as page:
                told: dict[str, Any] = json.load(page)
                return told
        except OSError:
            return {}

    def ice(self, *words: object, status: int = 0) -> str:
        """`ice patch` as a person types it; what it says."""
        done = self.run("ice", "patch", *words, "--config", self.config, env=self.environment)
        output = "" if self.program is None else self.program.output()
        assert done.returncode == status, (words, done.stdout, done.stderr, output)
        return done.stdout + done.stderr

    def ask(self, **request: object) -> dict[str, Any]:
        """What is answered on the control socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.state / "ice" / "patch.sock"))
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
            return answer

    def patches(self) -> dict[str, tuple[bool, int]]:
        """Whether each patch is to be on, and how it stands."""
        return {row["id"]: (row["enabled"], row["state"]) for row in self.ask(do="list")["patches"]}

    def audit(self) -> list[str]:
        """What was done and refused, by its audit log."""
        assert self.program is not None
        lines = [line for line in self.program.output().splitlines() if "audit {" in line]
        return [json.loads(line[line.index("{") :])["action"] for line in lines]


@attrs.define(eq=False)
class Stage:
    """A Rallypoint, and a mission with the groups Red, Blue and Green."""

    start: Start
    run: Run
    folder: Path
    place: Rallypoint
    streams: dict[str, str]

    def server(self, name: str, more: str = "", *, mission: str = "team.json") -> Server:
        """A patch server that does not run yet."""
        member = self.place.site.issue(name, Role.SATELLITE)
        [http_port] = free_ports(1)
        with member.config.open("a") as file:
            file.write(
                f'\n[patch]\nmissions = ["{self.folder}/{mission}"]\n\n[patch.http]\nlisten = "127.0.0.1:{http_port}"\n{more}'
            )
        return Server(self.start, self.run, member.id, member.config, http_port, self.folder / name)

    def start_listening(self, name: str, group: str, out: str) -> Program:
        config = self.place.site.client(name).config
        words = ("--json", "--out", f"{out}.wav", "--trace", f"{out}.heard", "--config", config)
        return self.start("ice", "listen", f"team.json/{group}", *words, cwd=self.folder)

    def listen(self, name: str, group: str, out: str) -> Program:
        program = self.start_listening(name, group, out)
        joined(program)
        return program

    def talk(self, name: str, group: str, file: Path, *more: object) -> Program:
        config = self.place.site.client(name).config
        words = ("--json", "--alias", name, "--file", file, "--config", config, *more)
        return self.start("ice", "talk", f"team.json/{group}", *words, cwd=self.folder)


def stage_in(start: Start, run: Run, folder: Path) -> Stage:
    """The Rallypoint runs; Red is Opus at 12 kbit/s under GCM, Blue G.711 in clear, Green Opus at 24 kbit/s under CBC."""
    site = Site.create(folder / "site", clients=("anna", "bob"))
    place = Rallypoint(start, site, folder)
    groups = ["-g", "Red", "-g", "Blue", "-g", "Green", "--clear", "Blue"]
    words = ["--out", "team.json", "--rallypoint", site.address, "--no-multicast", "--no-mission-control"]
    made = start("ice", "mission", "new", "Team", *groups, *words, cwd=folder)
    place.run()
    finish(made)
    mission = json.loads((folder / "team.json").read_text())
    found = {group["name"]: group for group in mission["groups"]}
    for name, encoder in (("Red", OPUS_12), ("Blue", G711), ("Green", OPUS_24)):
        found[name]["txAudio"]["encoder"] = encoder
    found["Green"]["idOverride"], found["Green"]["cipher"] = True, "aes-256-cbc"
    (folder / "team.json").write_text(json.dumps(mission))
    wav.write(folder / "said.wav", wav.read(SPEECH)[: round(SENTENCE_S * 48_000)])
    streams = {name: group["id"].strip("{}").lower() for name, group in found.items()}
    return Stage(start, run, folder, place, streams)


def alike(said: Pcm, heard: Pcm, name: str) -> None:
    """What was heard is what was said, each syllable of it."""
    likeness = quality.compare(said, heard)
    assert likeness.coverage > WHOLE, (name, likeness)
    assert likeness.score > ALIKE, (name, likeness)


def whole(said: Path, heard: Path) -> None:
    """The same of files."""
    alike(wav.read(said), wav.read(heard), heard.name)


def is_ready(http_port: int) -> bool:
    """Whether a daemon says so of itself."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=2) as page:
            return bool(page.status == 200)
    except OSError:
        return False
