"""A patch server as a process between people on channels of different codecs and keys: they hear each other, whatever happens to it, and as long as somebody wants it."""

import secrets
import signal
import stat
import time
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from ice.cli.speech import SPEECH
from ice.cli.trace import read_trace
from ice.media import wav

from .patches import Run, Server, Stage, Start, stage_in, whole
from .test_missions import joined
from .test_voice import events, finish, interrupt, wait_until

BACK_S = 2.0 + 1.0  # from a crash until it passes on again; and this machine does other things as well
GROUP_ID = str(uuid4())
CYCLE_S = 0.2
INTERRUPTED = 130  # Ctrl-C amid a file
GAP_CYCLES = 5  # the election's own bound is three; this machine does other things as well


@pytest.fixture
def stage(start: Start, run: Run, tmp_path: Path) -> Stage:
    """The Rallypoint runs."""
    return stage_in(start, run, tmp_path)


def test_heard(stage: Stage) -> None:
    """What people have made and switched is there after a crash, and carries speech; they part two streams and join others, and say something on those."""
    red, blue, green = (stage.streams[name] for name in ("Red", "Blue", "Green"))
    server = stage.server(
        "patch", f'\n[[patches]]\nid = "seeded"\nstreams = ["{red}", "{green}"]\nenabled = false\n'
    )
    ear, carol = (
        stage.start_listening(*each) for each in (("anna", "Red", "anna"), ("bob", "Green", "carol"))
    )
    server.serve()
    assert server.patches() == {"seeded": (False, 0)}
    server.ice("add", "radios", red, blue, "--mode", "transcode", "--name", "Radios")
    assert server.ask(do="activate", id="seeded")["code"] == -9
    assert stat.S_IMODE((server.state / "ice" / "patch.sock").stat().st_mode) == 0o600
    wait_until(server.ready, "both streams are joined")
    joined(ear)
    joined(carol)

    assert server.program is not None
    server.program.end(signal.SIGKILL)
    begun = time.monotonic()
    server.serve()
    assert time.monotonic() - begun < BACK_S
    assert server.patches() == {"radios": (True, 1), "seeded": (False, 0)}
    assert [each["name"] for each in server.ask(do="list")["patches"]] == ["Radios", "seeded"]
    said = stage.folder / "said.wav"
    finish(stage.talk("bob", "Blue", said))
    wait_until(lambda: bool(events(ear, "ended")), "anna has heard it", ear)
    interrupt(ear)
    assert [each["alias"] for each in events(ear, "began")] == ["bob"]
    whole(said, stage.folder / "anna.wav")
    told = server.status()
    assert [each["state"] for each in told["groups"]["detail"]] == [1, 1]
    assert [each["sealing"] for each in told["groups"]["detail"]] == [
        "aes-256-gcm, authenticated",
        "not encrypted",
    ]

    # Part them, and join others; the patch of the file may be switched on now.
    for word, id in (("deactivate", "radios"), ("activate", "seeded"), ("delete", "radios")):
        assert server.ask(do=word, id=id)["ok"]
    assert server.audit()[-3:] == ["deactivate", "activate", "delete"]
    wait_until(server.ready, "both streams are joined")
    wav.write(stage.folder / "prompt.wav", wav.read(said)[:28_800])
    server.ice("announce", "seeded", "--file", stage.folder / "prompt.wav", "--alias", "Desk")
    wait_until(lambda: bool(events(carol, "ended")), "the prompt is heard", carol)
    interrupt(carol)
    [prompt] = events(carol, "ended")
    assert (prompt["alias"], prompt["lost"], prompt["why"]) == ("Desk", 0, "mark")


def test_two_of_a_group(stage: Stage) -> None:
    """Two servers hold one list, and are killed in turns in the middle of a word: whoever is left goes on with the same talker within the election's bound, and who comes back takes its place."""
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
    bob = stage.start_listening("bob", "Green", "bob")
    first, second = servers
    wait_until(lambda: first.status().get("state") == "active" and second.ready(), "the first leads")
    assert first.ask(do="create", patch={"id": "both", "streams": [red, green]})["ok"]
    assert "stands by" in second.ask(do="delete", id="both")["error"]
    wait_until(lambda: second.status()["bridges"]["count"] == 1 and second.ready(), "the other has the list")
    joined(bob)
    wav.write(stage.folder / "long.wav", np.tile(wav.read(SPEECH), 6))
    talker = stage.talk("anna", "Red", stage.folder / "long.wav")
    wait_until(lambda: bool(events(bob, "began")), "anna is heard", bob)
    time.sleep(0.5)
    killed(first)
    wait_until(lambda: second.status()["state"] == "active", "the other leads")
    first.begin()
    wait_until(lambda: first.status().get("state") == "active", "the first is back, and leads")
    killed(second)
    time.sleep(GAP_CYCLES * CYCLE_S)
    second.begin()
    wait_until(second.ready, "the other is back, and stands by")
    killed(first)
    wait_until(lambda: second.status()["state"] == "active", "the other leads again")
    time.sleep(0.5)
    for program, status in ((talker, INTERRUPTED), (bob, 0)):
        interrupt(program, status)
    at = [each.at_ns / 1e9 for each in read_trace(stage.folder / "bob.heard")]
    gap_s = max(later - earlier for earlier, later in pairwise(at))
    assert gap_s < GAP_CYCLES * CYCLE_S + 0.5, gap_s
    assert len(events(bob, "began")) <= 4, "no more bursts than servers that came to lead"


def killed(server: Server) -> None:
    """Kill it in the middle of a word."""
    assert server.program is not None
    server.program.end(signal.SIGKILL)
