"""A patch server as a process between people on channels of different codecs and keys: they hear each other, whatever happens to it, and as long as somebody wants it."""

import json
import secrets
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from ice.cli.speech import SPEECH
from ice.cli.trace import read_trace
from ice.media import quality, wav
from ice.security.certificates import Role
from ice.testing.site import Site, free_ports

from .conftest import Program
from .test_missions import joined
from .test_voice import Rallypoint, events, finish, interrupt, wait_until

Start = Callable[..., Program]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

SENTENCE_S = 2.0  # of the sentence: as much as it takes to tell whether it is the same
WHOLE = 0.97  # of the sentence is there: a lost syllable is a twentieth
ALIKE = 0.75  # measured: more than 0.99 unless a process stands still for more than 60 ms; what codecs make up meanwhile is said besides

BACK_S = 2.0 + 1.0  # from a crash until it passes on again; and this machine does other things as well
GROUP_ID = str(uuid4())
CYCLE_S = 0.2
GAP_CYCLES = 5  # the election's own bound is three; this machine does other things as well


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
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=2) as page:
                return bool(page.status == 200)
        except OSError:
            return False

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

    def server(self, name: str, more: str = "") -> Server:
        """A patch server that does not run yet."""
        member = self.place.site.issue(name, Role.SATELLITE)
        [http_port] = free_ports(1)
        with member.config.open("a") as file:
            file.write(
                f'\n[patch]\nmissions = ["{self.folder}/team.json"]\n\n[patch.http]\nlisten = "127.0.0.1:{http_port}"\n{more}'
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


@pytest.fixture
def stage(start: Start, run: Run, tmp_path: Path) -> Stage:
    """The Rallypoint runs; Red is Opus under GCM, Blue G.711 under CBC, Green in clear."""
    site = Site.create(tmp_path / "site", clients=("anna", "bob"))
    place = Rallypoint(start, site, tmp_path)
    words = ["--out", "team.json", "--clear", "Green", "--rallypoint", site.address, "--no-multicast", "--no-mission-control"]  # fmt: skip
    made = start(
        "ice", "mission", "new", "Team", "-g", "Red", "-g", "Blue", "-g", "Green", *words, cwd=tmp_path
    )
    place.run()
    finish(made)
    mission = json.loads((tmp_path / "team.json").read_text())
    groups = {group["name"]: group for group in mission["groups"]}
    blue = groups["Blue"]
    blue["idOverride"], blue["cipher"] = True, "aes-256-cbc"
    blue["txAudio"]["encoder"] = 1  # G.711
    (tmp_path / "team.json").write_text(json.dumps(mission))
    streams = {name: group["id"].strip("{}").lower() for name, group in groups.items()}
    return Stage(start, run, tmp_path, place, streams)


def test_heard(stage: Stage) -> None:
    """Opus under GCM and G.711 under CBC: who talks on one is heard on the other, both ways and through a crash; what people have made and switched stays."""
    red, blue, green = (stage.streams[name] for name in ("Red", "Blue", "Green"))
    server = stage.server(
        "patch", f'\n[[patches]]\nid = "seeded"\nstreams = ["{red}", "{green}"]\nenabled = false\n'
    )
    server.serve()
    assert server.patches() == {"seeded": (False, 0)}
    server.ice("add", "radios", red, blue, "--mode", "transcode", "--name", "Radios")
    assert server.ask(do="activate", id="seeded")["code"] == -9
    assert stat.S_IMODE((server.state / "ice" / "patch.sock").stat().st_mode) == 0o600
    wait_until(server.ready, "both streams are joined")

    said = stage.folder / "said.wav"
    wav.write(said, wav.read(SPEECH)[: round(SENTENCE_S * 48_000)])
    carried(stage, ("anna", "Red"), ("bob", "Blue"), said)

    assert server.program is not None
    server.program.end(signal.SIGKILL)
    begun = time.monotonic()
    server.serve()
    assert time.monotonic() - begun < BACK_S
    assert server.patches() == {"radios": (True, 1), "seeded": (False, 0)}
    assert "Radios" in server.ice("list")
    carried(stage, ("bob", "Blue"), ("anna", "Red"), said)
    told = server.status()
    assert [each["state"] for each in told["groups"]["detail"]] == [1, 1]
    assert [each["sealing"] for each in told["groups"]["detail"]] == [
        "aes-256-gcm, authenticated",
        "aes-256-cbc, unauthenticated",
    ]

    # Part them, and join others; the patch of the file may be switched on now.
    carol = stage.start_listening("bob", "Green", "carol")
    for words in (("off", "radios"), ("on", "seeded"), ("rm", "radios")):
        server.ice(*words)
    assert server.audit()[-3:] == ["deactivate", "activate", "delete"]
    joined(carol)
    wait_until(server.ready, "both streams are joined")
    wav.write(stage.folder / "prompt.wav", wav.read(said)[:48_000])
    server.ice("announce", "seeded", "--file", stage.folder / "prompt.wav", "--alias", "Desk")
    wait_until(lambda: bool(events(carol, "ended")), "the prompt is heard", carol)
    interrupt(carol)
    [prompt] = events(carol, "ended")
    assert (prompt["alias"], prompt["lost"], prompt["why"]) == ("Desk", 0, "mark")


def carried(stage: Stage, talker: tuple[str, str], listener: tuple[str, str], said: Path) -> None:
    """What a listener's loudspeaker has said is what the talker said, once, and each syllable of it."""
    ear = stage.listen(*listener, listener[0])
    finish(stage.talk(*talker, said))
    wait_until(lambda: bool(events(ear, "ended")), f"{listener[0]} has heard it", ear)
    interrupt(ear)
    assert [each["alias"] for each in events(ear, "began")] == [talker[0]]
    likeness = quality.compare(wav.read(said), wav.read(stage.folder / f"{listener[0]}.wav"))
    assert likeness.coverage > WHOLE, likeness
    assert likeness.score > ALIKE, likeness


def test_two_of_a_group(stage: Stage) -> None:
    """Two servers hold one list; the active one is killed in the middle of a word, and the other goes on with the same talker within the election's bound."""
    red, green = stage.streams["Red"], stage.streams["Green"]
    salt = stage.folder / "salt"
    salt.write_text(secrets.token_hex(32))
    salt.chmod(0o600)
    servers = [stage.server(name) for name in ("one", "two")]
    ids = [server.id for server in servers]
    for server in servers:
        with server.config.open("a") as file:
            file.write(
                f'\n[[server_groups]]\nid = "{GROUP_ID}"\ncycle_s = {CYCLE_S}\nquorum = "none"\nsalt_file = "{salt}"\n'
                f'members = [{{ id = "{ids[0]}" }}, {{ id = "{ids[1]}" }}]\n'
            )
        server.begin()
    first, second = servers
    wait_until(lambda: first.status().get("state") == "active" and second.ready(), "the first leads")
    first.ice("add", "both", red, green)
    assert "stands by" in second.ask(do="delete", id="both")["error"]
    wait_until(lambda: second.status()["bridges"]["count"] == 1 and second.ready(), "the other has the list")
    bob = stage.listen("bob", "Green", "bob")
    talker = stage.talk("anna", "Red", SPEECH)
    wait_until(lambda: bool(events(bob, "began")), "anna is heard", bob)
    time.sleep(1.0)
    assert first.program is not None
    first.program.end(signal.SIGKILL)
    finish(talker)
    wait_until(lambda: second.status()["state"] == "active", "the other leads")
    interrupt(bob)
    at = [each.at_ns / 1e9 for each in read_trace(stage.folder / "bob.heard")]
    gap_s = max(later - earlier for earlier, later in pairwise(at))
    assert gap_s < GAP_CYCLES * CYCLE_S + 0.5, gap_s
    assert len(events(bob, "began")) <= 2
