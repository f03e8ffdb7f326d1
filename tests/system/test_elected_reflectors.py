"""Three reflectors of a server group on one network, one of which sends: what is said there without a pause is heard on the other network, each packet once at most, whatever happens to them.

::

    ffmpeg, anna --- lan a --- reflectors a1, a2, a3 --- rp1 === rp2 --- reflector b --- lan b --- radio bob
                                  |   |   |
                               lan c: ballots
"""

import json
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from ice.media.rtp import Packet
from ice.security.certificates import Role

from . import askew
from .lan import Lan
from .reflectors import plug
from .roads import Place, command, obstacle
from .test_election import plug as plug_in
from .test_reflector import GROUP, GROUP_PORT, PACE_S, RULES, Radio, Stage, rtp
from .town import BIN, Town

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))

CYCLE_S = 0.2
BOUND_S = 5 * CYCLE_S  # without the leader: its ballots expire, two elections, the machine's load
PLANNED_S = CYCLE_S  # an orderly hand-over
GROUP_ID = str(uuid4())
NAMES = ("a1", "a2", "a3")
BEFORE_S, AFTER_S = 0.2, 0.3  # of speech around what happens
HOUR_S = 3_600.0


@attrs.define(eq=False)
class Scene:
    """The stage, and the two who speak and hear all the while."""

    stage: Stage
    bob: Radio
    ballots: Lan
    clocks: dict[str, Path]
    heard: set[int] = attrs.field(factory=set)  # by bob, ever

    def status(self, name: str) -> dict[str, Any]:
        """A reflector's election."""
        answer: dict[str, Any] = json.loads(self.stage.ask(name, "/election")[1])
        return answer

    def details(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.status(name)["details"]
        return answer

    @property
    def leaders(self) -> list[str]:
        """Who says that it sends."""
        found = []
        for name in NAMES:
            program = self.stage.reflectors[name]
            try:
                if program.runs and not program.frozen and self.stage.status(name)["state"] == "active":
                    found.append(name)
            except OSError:
                continue
        return found

    def until_leads(self, name: str) -> None:
        self.stage.until(lambda: self.leaders == [name], f"{name} leads")

    def freeze(self, name: str) -> None:
        self.stage.reflectors[name].signal(signal.SIGSTOP)
        self.stage.reflectors[name].frozen = True

    def thaw(self, name: str) -> None:
        self.stage.reflectors[name].signal(signal.SIGCONT)
        self.stage.reflectors[name].frozen = False

    def numbers(self) -> list[int]:
        """Packets that bob has heard since last asked; none of them at any time before."""
        found = [
            packet.sequence for packet in map(Packet.decode, self.bob.listen()) if packet.payload_type == 0
        ]
        self.bob.heard = []
        assert len(set(found)) == len(found) and not self.heard & set(found), "heard twice"
        self.heard.update(found)
        return found

    def gap_s(self, strike: Callable[[], object], fact: Callable[[], object], *, late: bool = False) -> float:
        """Something happens, and what comes of it: for how long bob heard nothing meanwhile. ``late``: packets may come when others have overtaken them."""
        self.numbers()
        time.sleep(BEFORE_S)
        strike()
        fact()
        time.sleep(AFTER_S)
        found = self.numbers()
        assert late or found == sorted(found)
        assert len(found) > (BEFORE_S + AFTER_S) / PACE_S / 2, "bob hears at the end"
        return max(after - before - 1 for before, after in pairwise(sorted(found))) * PACE_S


@contextmanager
def speech(town: Town, lan: Lan) -> Iterator[None]:
    """PCMU into the group of a network, numbered from 0: as ffmpeg speaks it, or a thread of ours where there is none."""
    host = lan.hosts[0]
    if shutil.which("ffmpeg") is not None:
        words = [
            "ffmpeg",
            "-hide_banner",
            "-loglevel",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=8000",
            "-af",
            "asetnsamples=160",
            "-c:a",
            "pcm_mulaw",
            "-f",
            "rtp",
            "-seq",
            "0",
        ]
        url = f"rtp://{GROUP}:{GROUP_PORT}?ttl=1&localaddr={host.address}&pkt_size=172"
        place = Place(f"host{host.number}", host.number, host.namespace)
        speaker = town.program("ffmpeg", place, [*words, url])
        speaker.start()
        try:
            yield
        finally:
            speaker.kill()
        return
    anna, over = Radio.at(host), threading.Event()

    def speak() -> None:
        number, due = 0, time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            anna.say(rtp(number, 7))
            number, due = number + 1, due + PACE_S

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Everything runs, the first reflector leads, and speech is heard."""
    folder = tmp_path_factory.mktemp("elected")
    lans: dict[str, Lan] = {}
    with Town.build(folder, rallypoints=2, sites=4) as town:
        try:
            lans |= {"a": Lan(1), "b": Lan(1)}
            ballots = lans["c"] = Lan(0)
            names = (*NAMES, "b")
            ids = {name: town._authority.issue(name, Role.SATELLITE, datetime.now(UTC)).id for name in names}
            (folder / "election.salt").write_text(secrets.token_hex(32))
            (folder / "election.salt").chmod(0o600)
            members = "".join(f'  {{ id = "{ids[name]}", name = "{name}" }},\n' for name in NAMES)
            group = (
                f'\n[[server_groups]]\nid = "{GROUP_ID}"\nname = "reflectors"\ncycle_s = {CYCLE_S}\ninterface = "lan1"\n'
                f"members = [\n{members}]\n"
            )
            reflectors, clocks = {}, {}
            for number, name in enumerate(names, 1):
                place = town.roads.places[f"s{number}"]
                plug(place, lans[name[0]], 100 + number)
                if name in NAMES:
                    plug_in(place, ballots, 100 + number, "lan1")
                clocks[name] = folder / f"{name}.clock"
                askew.write(clocks[name], 0.0)
                config = folder / f"{name}.toml"
                config.write_text(
                    f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
                    f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n'
                    f'[network]\nrallypoints = ["{town.rallypoints["rp2" if name == "b" else "rp1"].address}"]\nways_file = ""\n'
                    f"{RULES}{group if name in NAMES else ''}"
                )
                words = [
                    "env",
                    f"STATE_DIRECTORY={folder / name}",
                    BIN / "python",
                    Path(askew.__file__),
                    clocks[name],
                    BIN / "twistd",
                    "-n",
                    "--pidfile=",
                    "ice-reflector",
                    "--config",
                    config,
                ]
                reflectors[name] = town.program(name, place, words)
            town.start()
            stage = Stage(town, lans=lans, reflectors=reflectors)
            made = Scene(stage, stage.radio("b"), ballots, clocks)
            stage.start(*names)
            made.until_leads("a1")
            with speech(town, lans["a"]):
                stage.until(lambda: made.numbers() != [], "speech is heard")
                yield made
            for program in reflectors.values():
                assert "Traceback" not in program.log.read_text()
        finally:
            town.close()
            for lan in lans.values():
                lan.close()


def test_killed_and_back(scene: Scene) -> None:
    """kill -9: the next goes on within the bound; when the first returns and takes over, hardly anything is missed."""
    a1 = scene.stage.reflectors["a1"]
    assert 0 < scene.gap_s(a1.kill, lambda: scene.until_leads("a2")) < BOUND_S
    assert scene.gap_s(a1.start, lambda: scene.until_leads("a1")) <= PLANNED_S


def test_frozen_and_awake(scene: Scene) -> None:
    """Frozen for longer than its ballots live: another goes on; of the speech that waited in its sockets it sends not one packet."""
    before = scene.stage.rule("a1")["in"]
    assert scene.gap_s(lambda: scene.freeze("a1"), lambda: scene.until_leads("a2")) < BOUND_S
    time.sleep(4 * CYCLE_S)
    after: dict[str, Any] = {}

    def awake() -> None:
        after.update(scene.stage.rule("a1")["in"])
        scene.until_leads("a1")

    assert scene.gap_s(lambda: scene.thaw("a1"), awake) < BOUND_S
    waited = after["dropped"]["standby"] - before["dropped"].get("standby", 0)
    assert waited >= 4 * CYCLE_S / PACE_S, (before, after)
    assert after["packets"] - before["packets"] <= 2 * BEFORE_S / PACE_S, (before, after)


def test_clock(scene: Scene) -> None:
    """The clock of one is set an hour ahead: it is excluded and says why. The others are unaffected if it stood by, and go on within the bound if it led."""

    def excluded(name: str) -> bool:
        return bool(scene.details(name)["state"] == "standbyClockSkew")

    def back(name: str) -> None:
        askew.write(scene.clocks[name], 0.0)
        scene.stage.until(lambda: not excluded(name), f"{name} takes part again")

    terms = [scene.details(name)["term"] for name in ("a1", "a2")]
    gap_s = scene.gap_s(
        lambda: askew.write(scene.clocks["a3"], HOUR_S),
        lambda: scene.stage.until(lambda: excluded("a3"), "the third is excluded"),
    )
    assert gap_s == 0
    told = scene.status("a3")
    assert told["state"] == "unhealthy"
    assert told["details"]["message"].startswith(
        "CLOCK SKEW: This clock is 3600.0 s ahead of that of 2 other members"
    )
    back("a3")
    assert [scene.details(name)["term"] for name in ("a1", "a2")] == terms

    gap_s = scene.gap_s(
        lambda: askew.write(scene.clocks["a1"], HOUR_S),
        lambda: scene.stage.until(lambda: scene.leaders == ["a2"] and excluded("a1"), "the second leads"),
    )
    assert gap_s < BOUND_S
    assert scene.details("a2")["ballots"]["future"] > 0
    assert scene.gap_s(lambda: back("a1"), lambda: scene.until_leads("a1")) <= PLANNED_S


def test_ballots_filtered(scene: Scene) -> None:
    """A switch filters the ballots' multicast, silently, while the Rallypoint carries them: nobody is missed, nobody else leads."""
    terms = [scene.details(name)["term"] for name in NAMES]
    ports = [f"port{101 + at}" for at in range(len(NAMES))]

    def filter_it(how: str) -> None:
        for port in ports:
            command("bridge", "-n", scene.ballots.switch, "link", "set", "dev", port, "mcast_flood", how)

    command("ip", "-n", scene.ballots.switch, "link", "set", "lan", "type", "bridge", "mcast_snooping", "0")

    def noticed(state: str) -> None:
        scene.stage.until(
            lambda: all(scene.details(name)["igmpStatus"]["state"] == state for name in NAMES),
            f"multicast is {state}",
        )

    assert scene.gap_s(lambda: filter_it("off"), lambda: noticed("unhealthy")) == 0
    assert scene.gap_s(lambda: filter_it("on"), lambda: noticed("healthy")) == 0
    assert [scene.details(name)["term"] for name in NAMES] == terms
    assert scene.leaders == ["a1"]


def test_divided(scene: Scene) -> None:
    """The leader hears the speech, and neither the Rallypoints nor the others: another goes on; what the first could not get rid of comes late or never, and not twice."""
    roads, port = scene.stage.town.roads, "port101"

    def blocked(there: bool) -> None:
        state = "0" if there else "3"  # disabled, forwarding
        command("bridge", "-n", scene.ballots.switch, "link", "set", "dev", port, "state", state)
        (roads.cut_many if there else roads.heal_many)([("s1", "rp1"), ("s1", "rp2")])

    assert scene.gap_s(lambda: blocked(True), lambda: scene.until_leads("a2")) < BOUND_S
    assert scene.gap_s(lambda: blocked(False), lambda: scene.until_leads("a1"), late=True) < BOUND_S


def test_stopped(scene: Scene) -> None:
    """An orderly stop takes a cycle at most; who leads, and since when, is on the page and among the metrics."""
    a1 = scene.stage.reflectors["a1"]
    gap_s = scene.gap_s(lambda: a1.signal(signal.SIGTERM), lambda: scene.until_leads("a2"))
    assert gap_s <= PLANNED_S
    assert a1.wait() in (0, -signal.SIGTERM)  # twistd ends by the signal that it was stopped with
    assert scene.details("a3")["leader"] == scene.details("a2")["leader"]
    metrics = scene.stage.ask("a2", "/metrics")[1].decode()
    for line in (
        'ice_election_state{state="active"} 1.0',
        "ice_election_term ",
        "ice_election_leader_seconds ",
    ):
        assert line in metrics
    assert 'ice_election_ballots_total{reason="counted"}' in metrics
