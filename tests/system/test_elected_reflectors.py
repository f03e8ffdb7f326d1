"""Three reflectors of a server group on one network, one of which sends: what is said there is heard on the other network once, whoever is killed, frozen or stopped.

::

    radio anna --- lan a --- reflectors a1, a2, a3 --- rp1 === rp2 --- reflector b --- lan b --- radio bob
"""

import json
import secrets
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ice.media.rtp import Packet
from ice.security.certificates import Role

from .lan import Lan
from .roads import obstacle
from .test_reflector import PACE_S, RULES, Radio, Stage, plug
from .town import BIN, Town

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))

CYCLE_S = 0.2
BOUND_S = 5 * CYCLE_S  # without the leader: its ballots expire, two elections, the machine's load
GROUP_ID = str(uuid4())
NAMES = ("a1", "a2", "a3")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything runs, and the first reflector leads."""
    folder = tmp_path_factory.mktemp("elected")
    lans: dict[str, Lan] = {}
    with Town.build(folder, rallypoints=2, sites=4) as town:
        try:
            lans |= {"a": Lan(1), "b": Lan(1)}
            names = (*NAMES, "b")
            ids = {name: town._authority.issue(name, Role.SATELLITE, datetime.now(UTC)).id for name in names}
            (folder / "election.salt").write_text(secrets.token_hex(32))
            (folder / "election.salt").chmod(0o600)
            members = "".join(f'  {{ id = "{ids[name]}", name = "{name}" }},\n' for name in NAMES)
            group = (
                f'\n[[server_groups]]\nid = "{GROUP_ID}"\nname = "reflectors"\ncycle_s = {CYCLE_S}\ninterface = "lan0"\n'
                f"members = [\n{members}]\n"
            )
            reflectors = {}
            for number, name in enumerate(names, 1):
                place = town.roads.places[f"s{number}"]
                plug(place, lans[name[0]], 100 + number)
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
                    BIN / "twistd",
                    "-n",
                    "--pidfile=",
                    "ice-reflector",
                    "--config",
                    config,
                ]
                reflectors[name] = town.program(name, place, words)
            town.start()
            made = Stage(town, lans, reflectors)
            made.start(*names)
            made.until(lambda: leaders(made) == ["a1"], "the first leads")
            yield made
        finally:
            town.close()
            for lan in lans.values():
                lan.close()


def leaders(stage: Stage) -> list[str]:
    """Who says that it leads."""
    return [name for name in NAMES if state(stage, name) == "active"]


def state(stage: Stage, name: str) -> str:
    """How a reflector stands."""
    try:
        return str(stage.status(name)["state"])
    except OSError:
        return "off"


def numbers(radio: Radio) -> list[int]:
    """Which packets have come, in the order heard."""
    return [Packet.decode(data).sequence for data in radio.listen()]


def speak(
    stage: Stage, anna: Radio, bob: Radio, strike: Callable[[], None], seconds: float, begin: int
) -> tuple[float, int]:
    """Anna speaks all the while, after half a second something happens: the longest silence that bob heard, and the number of her next packet. Nothing is heard twice, and it ends well."""
    bob.forget()
    first = begin
    begin += stage.converse(0.5, (anna, 7), begin=begin)
    strike()
    total = begin + stage.converse(seconds, (anna, 7), begin=begin)
    stage.until(lambda: total - 1 in numbers(bob), "the last packet is heard")
    found = numbers(bob)
    assert len(set(found)) == len(found), "heard twice"
    assert found == sorted(found)
    assert found[0] == first
    return max(after - before - 1 for before, after in pairwise(found)) * PACE_S, total


def test_whoever_leads_is_heard_once(stage: Stage) -> None:
    """Killed, frozen, awake again, stopped, back: the gap is within the bound, and no packet comes twice."""
    anna, bob = stage.radio("a"), stage.radio("b")
    said = 0

    def talk(strike: Callable[[], None], seconds: float) -> float:
        nonlocal said
        gap_s, said = speak(stage, anna, bob, strike, seconds, said)
        return gap_s

    assert talk(lambda: None, 0.5) == 0
    a1, a2, a3 = (stage.reflectors[name] for name in NAMES)

    killed_s = talk(a1.kill, 1.5)
    assert PACE_S <= killed_s < BOUND_S
    assert leaders(stage) == ["a2"]

    a1.start()
    back_s = talk(lambda: None, 3.0)  # the first takes the lead back in the middle of it
    stage.until(lambda: leaders(stage) == ["a1"], "the first leads again")
    assert back_s < BOUND_S

    frozen_s = talk(lambda: a1.signal(signal.SIGSTOP), 1.5)
    assert frozen_s < BOUND_S
    woken_s = talk(lambda: a1.signal(signal.SIGCONT), 2.5)  # finds 1.5 s of speech in its sockets
    assert woken_s < BOUND_S

    stage.until(lambda: leaders(stage) == ["a1"], "the first leads again")
    stopped_s = talk(lambda: a1.signal(signal.SIGTERM), 1.0)
    assert a1.wait() in (0, -signal.SIGTERM)  # twistd ends by the signal that it was stopped with
    assert stopped_s <= CYCLE_S
    details: dict[str, Any] = json.loads(stage.ask("a3", "/election")[1])
    assert details["details"]["leader"] == json.loads(stage.ask("a2", "/election")[1])["details"]["leader"]
    metrics = stage.ask("a2", "/metrics")[1].decode()
    assert 'ice_election_state{state="active"} 1.0' in metrics
    for program in (a2, a3):
        assert Path(program.log).read_text().count("Traceback") == 0
