"""Foreign programs on two local networks, tied together by reflectors and two Rallypoints; in front of one of the reflectors a router that routes multicast.

::

    ffmpeg --- outer lan --- smcroute --- lan a --- reflector a --- rp1 === rp2 --- reflector b --- lan b --- GStreamer

ffmpeg speaks on the left and GStreamer hears it on the right, and the other way round, in three codecs, all at the same time. What is heard there is held against what the speaking program's own
receiver has heard beside it, on its own network.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from ice.media import wav

from .conftest import Program as Running
from .foreign import ALLOWED, L16, OPUS, PCMU, WAIT_S, Stage, Way, missing, score, spoken, wait_until
from .lan import Lan
from .reflectors import Reflectors, plug
from .roads import Place as Somewhere
from .roads import command, obstacle
from .town import Town

MISSING = missing("ffmpeg", "gst-launch-1.0", "smcrouted")
pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

TTL = 4  # the router takes one off
KINDS = (PCMU, OPUS, L16)
WAYS = tuple(
    Way(f"{by}-{kind.name}", kind, 20 + number)
    for number, (by, kind) in enumerate((by, kind) for by in ("ffmpeg", "gstreamer") for kind in KINDS)
)
OTHER = {"ffmpeg": "gstreamer", "gstreamer": "ffmpeg"}


def rules(capture: str = "") -> str:
    """A rule for each way, the first of them captured."""
    head = '\n[reflector]\ninterface = "lan0"\n'
    each = (
        f'\n[[reflector.rules]]\nstream = "{way.name}"\nrx = "{way.group}:{way.port}"\nttl = {TTL}\n'
        + (f'capture_file = "{capture}"\n' if capture and way is WAYS[0] else "")
        for way in WAYS
    )
    return head + "".join(each)


@attrs.frozen
class Heard:
    """Where what was heard of each way is: by the neighbour on the speaker's network, and by the other program on the other; and what the left reflector has captured."""

    near: Stage
    far: Stage
    reflectors: Reflectors
    capture: Path


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """Everybody speaks and hears at the same time, once for all tests."""
    folder = tmp_path_factory.mktemp("reflected")
    programs: list[Running] = []
    lans: list[Lan] = []
    with Town.build(folder / "town", rallypoints=2, sites=2) as town:
        try:
            lans += [Lan(3), Lan(1), Lan(2)]
            yield _perform(town, *lans, folder, programs)
        finally:
            for program in programs:
                if program.process.poll() is None:
                    program.process.kill()
                    program.process.wait(10)
            town.close()
            for lan in lans:
                lan.close()


def _perform(town: Town, outer: Lan, inner: Lan, right: Lan, folder: Path, programs: list[Running]) -> Heard:
    capture = folder / "rule.pcap"
    reflectors = Reflectors(town)
    for number, (name, lan, home) in enumerate((("a", inner, "rp1"), ("b", right, "rp2")), 1):
        place = town.roads.places[f"s{number}"]
        plug(place, lan, 100 + number)
        reflectors.add(name, place, home, rules(str(capture) if name == "a" else "")).start()
    town.start()
    _route(town, outer, inner)

    def start(*words: str) -> Running:
        log = folder / f"program-{len(programs)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        programs.append(Running(process, log))
        return programs[-1]

    ffmpegs, gstreamers = outer.hosts[1:], right.hosts  # the router has the address of the first
    for host in (*ffmpegs, *gstreamers):
        host.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
    stages = []
    for name in ("near", "far"):
        (folder / name).mkdir()
        stages.append(Stage((ffmpegs[0], ffmpegs[0], ffmpegs[1], gstreamers[1]), start, folder / name, TTL))
    near, far = stages
    receivers = [(near.hears(way, way.by), way.by) for way in WAYS]
    receivers += [(far.hears(way, OTHER[way.by]), OTHER[way.by]) for way in WAYS]
    for host in (ffmpegs[1], gstreamers[1]):
        wait_until(lambda host=host: near.joined(host) == len(WAYS), *programs)  # type: ignore[misc]
    reflectors.await_ready("a", "b")
    file = folder / "speech.wav"
    wav.write(file, spoken())
    right_stage = attrs.evolve(near, hosts=(gstreamers[0], *near.hosts[1:]))
    senders = [(near if way.by == "ffmpeg" else right_stage).says(way, file) for way in WAYS]
    for sender in senders:
        assert sender.process.wait(WAIT_S) == 0, sender.output()
    time.sleep(0.3)
    for program, _ in receivers:
        program.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    # ffmpeg waits for a packet before it looks at the first signal.
    for program, by in receivers:
        if by == "ffmpeg" and program.process.poll() is None:
            program.process.send_signal(signal.SIGINT)
    for program, _ in receivers:
        program.process.wait(WAIT_S)
    return Heard(near, far, reflectors, capture)


def _route(town: Town, outer: Lan, inner: Lan) -> None:
    """A host of the inner network becomes the router between the two."""
    router = Somewhere("router", 0, inner.hosts[0].namespace)
    plug(router, outer, 99)
    quiet = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
    command("ip", "netns", "exec", router.namespace, "sh", "-c", quiet)
    doors = ("eth0", "lan0")
    lines = [f"phyint {door} enable ttl-threshold 1" for door in doors]
    lines += [f"mroute from {a} group {way.group} to {b}" for way in WAYS for a, b in (doors, doors[::-1])]
    conf = town.folder / "smcroute.conf"
    conf.write_text("\n".join(lines) + "\n")
    socket = town.folder / "smc.sock"
    words = ["smcrouted", "-n", "-N", "-f", conf, "-P", town.folder / "smc.pid", "-u", socket]
    town.program("smcrouted", router, words).start()

    def routes() -> bool:
        told = command("ip", "netns", "exec", router.namespace, "cat", "/proc/net/ip_mr_vif")
        return socket.exists() and all(door in told for door in doors)

    town.until(routes, "multicast is routed")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_heard_on_the_other_network(heard: Heard, way: Way) -> None:
    """What one program says on its network sounds in the other program on the other network as in the speaker's own receiver beside it."""
    scores = []
    for stage, by in ((heard.near, way.by), (heard.far, OTHER[way.by])):
        sound = stage.sound(way, by)
        assert sound.exists(), f"{by} has heard nothing of {way.name}"
        scores.append(score(sound, way.kind.rate))
    print(f"{way.name}: {scores[1]:.2f} on the other network, {scores[0]:.2f} beside the speaker")
    assert scores[1] >= scores[0] - ALLOWED


def test_nothing_was_lost(heard: Heard) -> None:
    """Every packet that came to a reflector went out of the other one, and nothing else did."""
    status = {name: heard.reflectors.status(name)["rules"] for name in ("a", "b")}
    for number, way in enumerate(WAYS):
        one, other = (status[name][number] for name in (("a", "b") if way.by == "ffmpeg" else ("b", "a")))
        assert one["in"]["packets"] == other["out"]["packets"] > 200 * (way.kind is not L16), (one, other)
        assert one["in"]["dropped"] == other["out"]["dropped"] == {}
        assert sum(each["lost"] for each in one["talkers"]["in"]) == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed (apt install tshark)")
def test_captured(heard: Heard) -> None:
    """The capture of one rule opens in tshark, which finds RTP in it: as much as the rule has passed, from who said it to the group, in order."""
    way, rule = WAYS[0], heard.reflectors.rule("a")
    told = subprocess.run(
        ["tshark", "-r", str(heard.capture), "-o", "udp.check_checksum:TRUE", "-d", f"udp.port=={way.port},rtp", "-Y", "rtp", "-T", "fields",
         "-e", "ip.src", "-e", "ip.dst", "-e", "rtp.p_type", "-e", "rtp.seq", "-e", "udp.checksum.status"],
        check=True, capture_output=True, text=True, timeout=WAIT_S,
    ).stdout  # fmt: skip
    packets = [line.split("\t") for line in told.splitlines()]
    assert {tuple(each[:3]) for each in packets} == {("10.65.0.2", way.group, "0")}
    assert {each[4] for each in packets} == {"1"}, "a checksum is wrong"
    first = int(packets[0][3])
    assert [int(each[3]) for each in packets] == [(first + n) % 65_536 for n in range(len(packets))]
    speech = rule["talkers"]["in"][0]["packets"]
    assert len(packets) == speech <= rule["capture"]["packets"]
    assert heard.capture.stat().st_mode & 0o777 == 0o600
