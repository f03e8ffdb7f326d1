"""What a patch server keeps: whatever it has said was done is there after kill -9 at any moment; and without Rallypoints it goes on by the list on its disk."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from ice.observe.control import Asker
from ice.patch.channels import Plan
from ice.patch.control import control_of
from ice.patch.listing import PatchList
from ice.patch.plan import Patch
from ice.patch.service import PatchServer
from ice.patch.store import LIST, Store
from ice.security.certificates import Role
from ice.testing.site import Site, free_ports
from tests.unit.patch.test_service import Air

from .patches import Run, Server, Start
from .test_voice import Rallypoint, wait_until

KILLS = 30
LIVES_S = 0.03  # on average; some thirty changes
ADA = Asker("ada", {"via": "test"})


def changes(folder: Path, answers: int, seed: int) -> None:
    """Ask a patch server for one change after another, as fast as it goes, and pass on each answer; never ends."""
    chance = random.Random(seed)
    clock: Any = Clock()
    server = PatchServer(clock, Air(clock), Plan(clear=("*",)), Store(folder), group_id="g", chance=chance)
    control = control_of(server, dict)
    while True:
        id = f"p{chance.randrange(8)}"
        asked: dict[str, Any] = {"do": chance.choice(("activate", "deactivate", "delete")), "id": id}
        if id not in server.listing.entries:
            streams = [f"s{chance.randrange(20)}" for _ in range(chance.randrange(1, 5))]
            asked = {"do": "create", "patch": {"id": id, "streams": streams, "mode": "mixed"}}
        answer = control.perform(control.read(json.dumps(asked).encode()), ADA)
        assert isinstance(answer, dict)
        revision = {
            each.patch.id: [each.revision, each.patch.enabled] for each in server.listing.entries.values()
        }
        os.write(answers, json.dumps([answer["ok"], revision]).encode() + b"\n")


def test_killed_at_random(tmp_path: Path) -> None:
    """After each kill the file is whole, and has the last change that was confirmed, or the one behind it."""
    chance, confirmed, seen = random.Random(8), 0, set()
    for life in range(KILLS):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:  # pragma: no cover
            try:
                changes(tmp_path / "state", writing, life)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading, "rb") as answers:
            first = answers.readline()  # it is at work
            time.sleep(chance.uniform(0, 2 * LIVES_S))
            os.kill(child, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            lines = [line for line in [first, *answers.read().split(b"\n")] if line.strip()]
        told = [json.loads(line) for line in lines]
        confirmed += sum(ok for ok, _ in told)
        listing, _ = Store(tmp_path / "state").read()
        found = {each.patch.id: [each.revision, each.patch.enabled] for each in listing.entries.values()}
        last = told[-1][1]
        differs = {id for id in {*found, *last} if found.get(id) != last.get(id)}
        assert len(differs) <= 1, (last, found)
        for id in differs:  # a change that was on the disk, and not confirmed yet
            before, after = last.get(id), found.get(id)
            assert before is None or after is None or after[0] == before[0] + 1, (before, after)
        seen.add(json.dumps(found))
        names = {path.name for path in (tmp_path / "state").iterdir()}
        assert names == {LIST}, names
    assert confirmed > KILLS // 2  # some ten times as many on a machine that does nothing else
    assert len(seen) > KILLS // 4


def readiness(server: Server) -> tuple[int, str]:
    """Status and words of the page /readyz; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/readyz", timeout=2) as page:
            return int(page.status), page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_coasts(start: Start, run: Run, tmp_path: Path) -> None:
    """The Rallypoint is away when the server starts: it serves the list of its disk, can be controlled, over HTTPS too, and joins when the Rallypoint comes, and comes again."""
    site = Site.create(tmp_path / "site", clients=("anna",))
    place = Rallypoint(start, site, tmp_path)
    member = site.issue("patch", Role.SATELLITE, addresses=("127.0.0.1",))
    http_port, control_port = free_ports(2)
    with member.config.open("a") as file:
        file.write(
            f'\n[patch]\nclear = ["?"]\n\n[patch.http]\nlisten = "127.0.0.1:{http_port}"\n\n'
            f'[patch.control]\nlisten = "127.0.0.1:{control_port}"\n'
        )
    server = Server(start, run, member.id, member.config, http_port, tmp_path / "patch")
    listing, _ = PatchList().create(Patch.of("ab", "ab"), by="ada", ms=1)
    Store(server.state / "ice").keep(listing)

    server.begin()
    wait_until(lambda: readiness(server)[0] == 503, "it says that it is not ready", server.program)
    assert "no link to a Rallypoint" in readiness(server)[1]
    assert server.patches() == {"ab": (True, 1)}
    operator = site.issue("desk", Role.OPERATOR)
    words = ("--server", f"https://127.0.0.1:{control_port}", "--config", operator.config)
    done = run("ice", "patch", "add", "cd", "c", "d", *words)
    assert done.returncode == 0, done.stderr
    anna = run("ice", "patch", "list", *words[:2], "--config", site.client("anna").config)
    assert (anna.returncode, "role operator" in anna.stderr) == (1, True)
    assert server.program is not None
    [audit] = [
        json.loads(line[line.index("{") :])
        for line in server.program.output().splitlines()
        if "audit {" in line
    ]
    assert (audit["action"], audit["by"], audit["via"], audit["certificate"]) == (
        "create",
        "desk",
        "https",
        str(operator.id),
    )

    begun: Callable[[], bool] = server.ready
    rallypoint = place.run()
    wait_until(begun, "it has joined", server.program)
    rallypoint.end(signal.SIGKILL)
    wait_until(lambda: not begun(), "it has noticed", server.program)
    assert server.patches() == {"ab": (True, 1), "cd": (True, 1)}
    place.run()
    wait_until(begun, "it has joined again", server.program)
    status = run("ice", "status", "--patches", "--json", *words)
    assert (status.returncode, json.loads(status.stdout)["bridges"]["count"]) == (0, 2)
    assert server.program.process.poll() is None
