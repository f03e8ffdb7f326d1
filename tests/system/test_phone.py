"""People telephone through the real daemons: what is said comes back, each end has its name, and nobody's death leaves a call standing on the other side."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from ice.cli.speech import SPEECH
from ice.media import quality, wav
from ice.telephony.handset import DOUBT_S
from ice.telephony.sound import SILENT_S
from ice.testing.site import Site

from .conftest import Program
from .telephones import Gateway, Terminal, gateway
from .test_voice import Rallypoint, events, finish, wait_until

Start = Callable[..., Program]

NAMES = ("ada", "bob", "carol", "dave", "eve", "frank")
ALIKE = 0.93  # through Opus twice and a line of 16 kHz
SLOW_S = 6.0  # for a machine that does other things as well


@attrs.define
class Town:
    """Everything that runs."""

    start: Start
    site: Site
    folder: Path
    gateway: Gateway
    other: Gateway  #: of a group of its own, to be killed

    def run(self, who: str, command: str, *more: object, at: Gateway | None = None) -> Program:
        """A person's program."""
        config = self.site.client(who).config
        group = (at or self.gateway).group
        return self.start(
            "ice", command, "--json", "--config", config, "--group", group, *more, cwd=self.folder
        )


@pytest.fixture
def town(start: Start, tmp_path: Path) -> Iterator[Town]:
    """A Rallypoint and two gateways, ready."""
    site = Site.create(tmp_path / "site", clients=NAMES)
    numbers = "".join(
        f'[[gateway.numbers.users]]\nid = "{site.client(name).id}"\nnumber = "70{n}"\n'
        for n, name in enumerate(NAMES)
    )
    place = Rallypoint(start, site, tmp_path)
    first, second = gateway(start, site, "first", numbers), gateway(start, site, "second")
    place.run()
    for each in (first, second):
        wait_until(each.ready, "a gateway is ready", each.program)
    yield Town(start, site, tmp_path, first, second)


def over(program: Program) -> dict[str, Any]:
    """How a program's call ended."""
    [end] = events(program, "over")
    return end


def test_calls(town: Town) -> None:
    """A sentence comes back whole, keys too; busy, given up and unknown have their status; who is called back answers; a softphone at a terminal holds, hands on, and hangs up.

    Meanwhile one person's program and one gateway are killed: the other side is told within the time that the documentation says, and nothing is left anywhere.
    """
    eve = town.run("eve", "call", "100", "--silent")
    frank = town.run("frank", "call", "100", "--silent", at=town.other)
    ada = town.run(
        "ada", "call", "100", "--file", SPEECH, "--out", "ada.wav", "--press", "12", "--for",
        len(wav.read(SPEECH)) / 48_000 + 1.5,
    )  # fmt: skip
    for program in (eve, frank):
        wait_until(lambda: bool(events(program, "answered")), "answered", program)  # noqa: B023
    [calling] = events(eve, "calling")
    eve_call = calling["call"]
    assert eve_call in {each["id"] for each in town.gateway.calls()}
    eve.end(signal.SIGKILL)
    town.other.program.end(signal.SIGKILL)
    killed_at = time.monotonic()
    told = when(lambda: bool(events(frank, "over")), "frank is told that the gateway is gone")
    missed = when(
        lambda: eve_call not in {each["id"] for each in town.gateway.calls() if each["state"] != "ending"},
        "the gateway misses eve",
    )

    ringing = town.run("bob", "answer", "--auto", "--silent", "--for", "1")
    dave = Terminal(
        "ice", "phone", "--silent", "--config", town.site.client("dave").config, "--group", town.gateway.group,
        cwd=town.folder,
    )  # fmt: skip
    try:
        short = [
            (town.run("carol", "call", "102", "--silent"), "busy", 3),
            (town.run("frank", "call", "999", "--silent"), "unknown-number", 4),
        ]
        wait_until(lambda: bool(events(ringing, "waiting")), "bob waits for calls", ringing)
        town.run("bob", "call", "104", "--silent")
        wait_until(lambda: dave.shows("ready"), "the softphone is ready")
        dave.type("100\r")
        wait_until(lambda: dave.shows("talking with 100"), "dave talks")
        dave.type("5h")
        wait_until(lambda: dave.shows("on hold by you"), "dave holds")
        dave.type("ht103\r")
        wait_until(lambda: dave.shows("the call was handed on"), "dave hands on")
        dave.type("q")
        assert dave.process.wait(10) == 0, dave.output()
        for program, cause, status in short:
            finish(program, status)
            assert over(program)["cause"] == cause
        ring_out = town.run("carol", "call", "103", "--silent", "--ring", "0.5")
        finish(ring_out, 3)
        assert over(ring_out)["cause"] == "cancelled"
        finish(ringing)
        assert [each["number"] for each in events(ringing, "incoming")] == ["104"]
    finally:
        dave.close()

    finish(ada)
    assert "".join(each["digits"] for each in events(ada, "keys")) == "12"
    end = over(ada)
    assert (end["missed"], end["unsent"], end["late"]) == (0, 0, 0), end
    likeness = quality.compare(wav.read(SPEECH), wav.read(town.folder / "ada.wav"))
    assert (likeness.score > ALIKE, likeness.coverage) == (True, 1.0), likeness

    assert missed.result(60) - killed_at < SILENT_S + SLOW_S
    finish(frank, 1)
    assert over(frank)["cause"] == "line-lost"
    assert told.result(60) - killed_at < DOUBT_S + SLOW_S


def when(true: Callable[[], bool], what: str) -> "Future[float]":
    """Watch aside; when it was true first."""

    def watch() -> float:
        wait_until(true, what)
        return time.monotonic()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(watch)
    pool.shutdown(wait=False)
    return future
