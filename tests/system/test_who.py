"""Two people of a mission see each other without any server, and a third looks on unseen: real processes, multicast on loopback."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Program


def _multicast_on_lo() -> bool:
    try:
        links = subprocess.run(["ip", "-j", "link", "show", "lo"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return "UP" in json.loads(links.stdout)[0]["flags"]


pytestmark = pytest.mark.skipif(not _multicast_on_lo(), reason="no loopback interface to speak on")


def objects(program: Program) -> list[dict[str, Any]]:
    """What a program has told so far."""
    lines = program.output().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def wait_for(program: Program, event: str, name: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """The first event of this kind about somebody of this name."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for told in objects(program):
            if told["event"] == event and told.get("name") == name:
                return told
        assert program.process.poll() is None, program.output()
        time.sleep(0.02)
    raise AssertionError(f"no {event} of {name}:\n{program.output()}")


def test_they_see_each_other(
    start: Callable[..., Program],
    run: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
) -> None:
    """Joining, an emergency with a place, a good-bye: each is seen by the others within moments, sealed, though one writes JSON and one Cursor-on-Target.

    The observer draws a map.
    """
    made = run("ice", "mission", "new", "Exercise", "-g", "Red", "--interface", "lo", "--out", "m.json")
    assert made.returncode == 0, made.stderr
    mission = json.loads((tmp_path / "m.json").read_text())
    for file, form in (("m.json", 1), ("cot.json", 2)):
        for group in mission["groups"]:
            if group["type"] == 2:
                group["presence"] = {"format": form, "intervalSecs": 2, "minIntervalSecs": 1}
        (tmp_path / file).write_text(json.dumps(mission))
    observer = start("ice", "who", "m.json", "--json", "--map", "map.svg", "--geojson", "team.geojson")
    observer.wait_for('"unseen"')
    anna = start(
        "ice", "who", "m.json", "--json", "--announce", "Anna", "--location", "47.5,8.25", "--no-talkers"
    )
    wait_for(observer, "joined", "Anna")
    bob = start(
        "ice", "who", "cot.json", "--json", "--announce", "Bob", "--emergency", "--location", "47.51,8.25"
    )
    assert wait_for(anna, "emergency", "Bob")["latitude"] == 47.51
    assert wait_for(bob, "joined", "Anna")["latitude"] == 47.5
    assert bob.end(signal.SIGINT) == 0
    wait_for(anna, "calm", "Bob")
    wait_for(anna, "left", "Bob")
    assert anna.end(signal.SIGTERM) == 0
    wait_for(observer, "left", "Anna")
    assert observer.end(signal.SIGINT) == 0
    last = objects(observer)[-1]
    assert (last["event"], last["sent"], last["refused"]) == ("team", 0, {})
    assert {each["name"]: each["format"] for each in last["people"]} == {"Anna": "json", "Bob": "cot"}
    places = json.loads((tmp_path / "team.geojson").read_text())["features"]
    assert sorted(each["geometry"]["coordinates"][1] for each in places) == [47.5, 47.51]
    assert ">Anna: left<" in (tmp_path / "map.svg").read_text()
