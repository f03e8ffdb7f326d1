"""Clients of two Rallypoints that do not know each other: who moves, how fast, what is remembered, and what two homes lose.

Real daemons and real commands; nothing is meshed here, so whoever hears whom is at the same Rallypoint.
"""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from ice.cli.speech import SPEECH
from ice.cli.trace import Traced, compare, read_trace
from ice.security.certificates import Role
from ice.security.register import addresses
from ice.testing.site import LOOPBACK, Site, free_ports

from .conftest import Program
from .test_voice import events, interrupt, wait_until

Start = Callable[..., Program]

SILENCE_S = 0.3  # of an ordinary client whose Rallypoint was killed
ALIVE_S = 2.5  # until a frozen one is given up, during a burst
SLOW_S = 0.5  # allowance for a machine that does other things as well


@attrs.frozen
class Pair:
    """A site with two Rallypoints, ``a`` and ``b``; ``a`` names ``b`` in WELCOME."""

    start: Start
    site: Site
    folder: Path
    port_b: int

    @property
    def a(self) -> str:
        return self.site.address

    @property
    def b(self) -> str:
        return f"{LOOPBACK}:{self.port_b}"

    def run(self, name: str) -> Program:
        """Start one, and wait until its port is open."""
        config, port = (
            (self.site.config, self.site.port) if name == "a" else (self.site.folder / "b.toml", self.port_b)
        )
        program = self.start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", config)
        wait_until(lambda: _open(port), f"{name} is open", program)
        return program

    def configure(self, *rallypoints: str, more: str = "") -> None:
        """What the clients have in their configuration."""
        listed = ", ".join(f'"{each}"' for each in rallypoints)
        for member in self.site.clients:
            text = member.config.read_text().replace(
                f'rallypoints = ["{self.a}"]', f"rallypoints = [{listed}]\n{more}"
            )
            member.config.write_text(text)

    def listen(self, name: str, *more: object) -> Program:
        """Somebody who listens, joined; what is heard is in ``NAME.heard``."""
        program = self.start(
            "ice", "listen", "town", "--json", "--config", self.site.client(name).config,
            "--out", f"{name}.wav", "--trace", f"{name}.heard", *more, cwd=self.folder,
        )  # fmt: skip
        wait_until(lambda: any(e["up"] for e in events(program, "path")), f"{name} is joined", program)
        return program

    def talk(self, name: str) -> Program:
        """Somebody who talks without end; what is sent is in ``NAME.sent``."""
        return self.start(
            "ice", "talk", "town", "--json", "--config", self.site.client(name).config,
            "--file", SPEECH, "--loop", "1000", "--trace", f"{name}.sent", cwd=self.folder,
        )  # fmt: skip

    def heard(self, name: str) -> list[Traced]:
        """What somebody has heard."""
        return read_trace(self.folder / f"{name}.heard")

    def sent(self, name: str) -> list[Traced]:
        """What somebody has sent."""
        return read_trace(self.folder / f"{name}.sent")


@pytest.fixture
def pair(start: Start, tmp_path: Path) -> Pair:
    """Two Rallypoints that do not run yet, and two people."""
    port_a, http_a, port_b = free_ports(3)
    site = Site.create(
        tmp_path / "site",
        clients=("anna", "bob"),
        port=port_a,
        http_port=http_a,
        rallypoint_toml=f'alternatives = ["{LOOPBACK}:{port_b}"]',
    )
    site.authority.issue(
        "b", Role.RALLYPOINT, datetime.now(UTC), dns=("localhost",), addresses=addresses((LOOPBACK,))
    )
    (site.folder / "b.toml").write_text(
        f'[rallypoint]\nlisten = ["{LOOPBACK}:{port_b}"]\ncertificate = "pki/b.pem"\nkey = "pki/b.key"\n'
        '[rallypoint.http]\nlisten = ""\n'
    )
    return Pair(start, site, tmp_path, port_b)


def _open(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def swallowing() -> Iterator[str]:
    """An address that answers no SYN: it listens, and its queue of connections that nobody accepts is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            each = held.enter_context(socket.socket())
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect((LOOPBACK, port))
        time.sleep(0.1)
        with socket.socket() as trial:
            trial.settimeout(0.5)
            try:
                trial.connect((LOOPBACK, port))
            except TimeoutError:
                pass
            else:
                pytest.skip("this kernel answers though the queue is full")
        yield f"{LOOPBACK}:{port}"


def silence(heard: list[Traced], around_ns: int) -> float:
    """The longest time without a packet, in seconds, that begins between just before that moment and 5 s after it."""
    at = [each.at_ns for each in heard]
    gaps = [
        (later - earlier) / 1e9
        for earlier, later in pairwise(at)
        if around_ns - 1e8 < earlier < around_ns + 5e9
    ]
    return max(gaps)


def at(program: Program, address: str) -> bool:
    """Whether the last word of the path is that it is open there."""
    paths = events(program, "path")
    return bool(paths) and paths[-1]["up"] and address in paths[-1]["why"]


def test_remembered(pair: Pair) -> None:
    """A client that was told of another Rallypoint finds it after a restart, though the only configured one is dead."""
    a = pair.run("a")
    listener = pair.listen("bob")
    assert at(listener, pair.a)
    interrupt(listener)
    remembered = pair.site.folder / "ways.json"
    (ways,) = json.loads(remembered.read_text())["networks"].values()
    assert [way["address"] for way in ways] == [pair.b]
    assert remembered.stat().st_mode & 0o777 == 0o600
    a.end(signal.SIGKILL)
    pair.run("b")
    listener = pair.listen("bob", "--timeout", "30")
    assert at(listener, pair.b)
    interrupt(listener)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_home(pair: Pair, number: int) -> None:
    """The Rallypoint of talker and listener dies during a burst: both are at the other one within the promised time."""
    a = pair.run("a")
    pair.run("b")
    listener, talker = pair.listen("bob"), pair.talk("anna")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    time.sleep(4.0)  # the rule that is kept is that of a burst that is running
    died_ns = time.monotonic_ns()
    a.process.send_signal(number)
    wait_until(lambda: at(listener, pair.b) and at(talker, pair.b), "both are at b", listener, talker)
    time.sleep(1.0)
    interrupt(talker, status=130)
    interrupt(listener)
    waited_s = silence(pair.heard("bob"), died_ns)
    bound_s = SILENCE_S + (ALIVE_S if number == signal.SIGSTOP else 0.0)
    print(f"silence of {waited_s * 1_000:.0f} ms, at most {bound_s * 1_000:.0f} are allowed")
    assert waited_s < bound_s + SLOW_S
    assert compare(pair.sent("anna"), pair.heard("bob")).duplicated == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_two_homes(pair: Pair, number: int) -> None:
    """Who is at both loses nothing and hears nothing twice when one of them dies, and is told of it."""
    pair.configure(pair.a, pair.b, more="homes = 2")
    a = pair.run("a")
    pair.run("b")
    listener, talker = pair.listen("bob"), pair.talk("anna")
    for program in (listener, talker):
        wait_until(
            lambda program=program: any(len(e["homes"]) == 2 for e in events(program, "homes")),
            "both links",
            program,
        )
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    time.sleep(2.0)
    a.process.send_signal(number)
    wait_until(lambda: events(listener, "homes")[-1]["homes"] == [pair.b], "bob knows", listener)
    time.sleep(2.0)
    interrupt(talker, status=130)
    time.sleep(0.5)
    interrupt(listener)
    packets = compare(pair.sent("anna"), pair.heard("bob"))
    assert packets.sent > 200
    assert (packets.lost, packets.duplicated) == (0, 0)
    assert [event["up"] for event in events(listener, "path")] == [True]


def test_swallowed(pair: Pair) -> None:
    """An address that answers nothing costs a fraction of a second, not the time-out."""
    with swallowing() as nowhere:
        pair.configure(nowhere, pair.b, more="connect_timeout_s = 60.0")
        pair.run("b")
        begun = time.monotonic()
        listener = pair.listen("bob")
        print(f"joined after {time.monotonic() - begun:.2f} s, the start of the program included")
        assert time.monotonic() - begun < 20.0
        assert at(listener, pair.b)
        interrupt(listener)
