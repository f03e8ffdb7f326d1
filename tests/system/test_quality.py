"""How good a way is, and what voice takes of it: measured over a real Rallypoint, and over a long way to it."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ice.testing.site import Site

from .conftest import BIN, clean_environment
from .slow_path import LongWay

WAIT_S = 60.0
LONG_S = 0.06  # one way
SLOW_MS = 40.0  # allowance for a machine that does other things as well


@attrs.frozen
class Place:
    """A Rallypoint that runs, and two people."""

    site: Site

    def begin(self, *words: object) -> "subprocess.Popen[str]":
        """Start an ``ice`` command."""
        return subprocess.Popen(
            [BIN / "ice", *map(str, words)], cwd=self.site.folder, env=clean_environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, *words: object, status: int = 0) -> tuple[str, str]:
        """Run an ``ice`` command to its end; what it said."""
        process = self.begin(*words)
        said, complained = process.communicate(timeout=WAIT_S)
        assert process.returncode == status, (said, complained)
        return said, complained


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One Rallypoint for all tests here."""
    site = Site.create(tmp_path_factory.mktemp("quality") / "site", clients=("anna", "bob"))
    command = [BIN / "twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)]
    log = Path(site.folder / "rallypoint.log")
    with log.open("wb") as stream:
        daemon = subprocess.Popen(
            command, cwd=site.folder, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + WAIT_S
        while not _ready(site):
            assert daemon.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield Place(site)
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait(10)


def _ready(site: Site) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.http_port}/readyz", timeout=5) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def told(said: str) -> dict[str, Any]:
    """The event with the result."""
    (found,) = (event for event in map(json.loads, said.splitlines()) if event["event"] == "quality")
    return dict(found)


def test_two_ends(place: Place) -> None:
    """Over a way of 60 ms in each direction: that latency, nothing lost, acceptable; the other end says what it has answered; by the parrot meanwhile."""
    anna, bob = (place.site.client(name).config for name in ("anna", "bob"))
    way = LongWay(place.site.port, LONG_S)
    far = place.site.folder / "far.toml"
    far.write_text(anna.read_text().replace(place.site.address, f"127.0.0.1:{way.port}", 1))
    answerer = place.begin("quality", "probe", "--answer", "--config", bob)
    parrot = place.begin("quality", "parrot", "--parrot", "--seconds", 1, "--json", "--config", bob)
    try:
        said, _ = place.ask("quality", "probe", "--seconds", 2, "--json", "--config", far)
        answerer.send_signal(signal.SIGINT)
        answered, complained = answerer.communicate(timeout=WAIT_S)
        echoed, _ = parrot.communicate(timeout=WAIT_S)
    finally:
        way.close()
        for each in (answerer, parrot):
            each.kill()
    found = told(said)
    for direction in (found["there"], found["back"]):
        assert (direction["sent"], direction["lost"]) == (100, 0)
        assert LONG_S * 1_000 - 1 <= direction["latency_ms"] < LONG_S * 1_000 + SLOW_MS, found
        assert direction["grades"]["latency"] == "acceptable"
        assert direction["grades"]["loss"] == "ideal"
    assert LONG_S * 1_000 - 1 <= found["uncertainty_ms"] < LONG_S * 1_000 + SLOW_MS
    assert found["grade"] == "acceptable"
    assert found["complete"]
    assert "of 1 run" in answered, (answered, complained)
    echo = told(echoed)
    assert (echo["there"]["sent"], echo["there"]["lost"], echo["back"]) == (50, 0, None)
    assert parrot.returncode == 0


def test_plan_and_wire(place: Place) -> None:
    """What is planned for packets as they were spoken is what is on the wire, on both links. Meanwhile somebody asks where nobody answers: told what to do there."""
    anna, bob = (place.site.client(name).config for name in ("anna", "bob"))
    lonely = place.begin("quality", "lonely", "--timeout", 1, "--config", bob)
    said, _ = place.ask("bandwidth", "--measure", 2, "--json", "--config", anna)
    (report,) = json.loads(said)["measured"]
    assert report["sent"] == report["heard"] > 100
    rows = {row["what"]: row for row in report["rows"]}
    for what in ("talker's link, out", "listener's link, in"):
        assert abs(rows[what]["off_as_spoken"]) < 0.08, report
        assert abs(rows[what]["off_plan"]) < 0.25, report
    # How often a far system acknowledges is its own affair: within half of a plan that says so.
    for what in ("talker's link, back", "listener's link, back"):
        assert -0.5 < rows[what]["off_as_spoken"] < 1.0, report
    _, complained = lonely.communicate(timeout=WAIT_S)
    assert lonely.returncode == 1
    assert "ice quality lonely --answer" in complained
