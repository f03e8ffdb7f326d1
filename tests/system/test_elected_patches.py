"""Two patch servers of a group between people on two channels: one that was frozen for longer than its ballots live passes on nothing of what waited for it."""

import secrets
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest

from ice.cli.speech import SPEECH

from .patches import Run, Server, Stage, Start, stage_in
from .test_voice import wait_until

CYCLE_S = 0.2
FROZEN_S = 0.6  # after another leads: several lives of a ballot
GROUP_ID = uuid4()


@pytest.fixture
def stage(start: Start, run: Run, tmp_path: Path) -> Stage:
    """The Rallypoint runs."""
    return stage_in(start, run, tmp_path)


def packets(server: Server, way: str) -> int:
    """Packets that a server has heard (rx) or passed on (tx)."""
    return sum(group[f"{way}Traffic"]["packets"] for group in server.status()["groups"]["detail"])


def test_frozen_and_awake(stage: Stage) -> None:
    """SIGSTOP in the middle of a word: the other goes on; after SIGCONT the first hears what waited, and says not one packet of it."""
    (stage.folder / "salt").write_text(secrets.token_hex(32))
    (stage.folder / "salt").chmod(0o600)
    first, second = servers = [stage.server(name) for name in ("one", "two")]
    for server in servers:
        with server.config.open("a") as file:
            file.write(
                f'\n[[server_groups]]\nid = "{GROUP_ID}"\ncycle_s = {CYCLE_S}\nquorum = "none"\nsalt_file = "{stage.folder}/salt"\n'
                f'members = [{{ id = "{first.id}" }}, {{ id = "{second.id}" }}]\n'
            )
        server.begin()
    wait_until(lambda: first.status().get("state") == "active" and second.ready(), "the first leads")
    first.ice("add", "both", stage.streams["Red"], stage.streams["Green"])
    wait_until(lambda: second.status()["bridges"]["count"] == 1 and second.ready(), "the other has the list")
    stage.talk("anna", "Red", SPEECH)
    wait_until(lambda: packets(first, "tx") > 10, "anna is passed on")
    assert first.program is not None
    heard, passed = packets(first, "rx"), packets(first, "tx")
    first.program.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: second.status()["state"] == "active", "the other leads")
    time.sleep(FROZEN_S)
    first.program.process.send_signal(signal.SIGCONT)
    waited = FROZEN_S / 0.02 / 2
    wait_until(lambda: packets(first, "rx") - heard > waited, "it hears what waited")
    assert packets(first, "tx") - passed < 10, "no more than what it said before it was frozen"
