"""Real foreign ends: ffmpeg and GStreamer talk to us and hear us over a multicast group, and tshark looks on.

Everything happens at the same time on four hosts of a local network: on one the foreign senders, on one ours, on two the foreign receivers, each stream on a group of its own. So
every score of ours is held against what the foreign program itself makes of the same stream in the same run: PESQ depends on the sentence and on the machine's mood.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from ice.media import foreign, wav
from ice.media.burst import END_COPIES

from .conftest import Program
from .foreign import (
    ALLOWED,
    G722,
    GSM,
    OPUS,
    PCMU,
    SPEEX,
    WAIT_S,
    Kind,
    Stage,
    Way,
    missing,
    score,
    spoken,
    wait_until,
)
from .lan import Lan
from .roads import obstacle

PARTY = Path(__file__).with_name("foreign_party.py")
EXPEDITED = 46  # DSCP of voice, RFC 3246

MISSING = missing("ffmpeg", "gst-launch-1.0", "tshark")

pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


MAIN, MORE = (OPUS, PCMU), (GSM, G722, SPEEX)


def ended(ours: Program) -> int:
    """On how many streams ours has heard a burst to its end."""
    return len(set(re.findall(r"^ended (\S+)", ours.output(), re.MULTILINE)))


def carried(kind: Kind) -> bool:
    """Whether we both say and hear it on this machine."""
    support = {each.family: each for each in foreign.support()}
    return kind.name not in support or bool(support[kind.name].sends and support[kind.name].hears)


@attrs.frozen
class Heard:
    """What came of it all: sounds by who said it and who heard it, what ours said about itself, what was on the wire."""

    sounds: dict[tuple[str, str], Path]
    ours: str
    capture: Path

    def score(self, way: str, by: str, rate: int) -> float:
        """Of one stream as one party heard it."""
        path = self.sounds[way, by]
        assert path.exists(), f"{by} heard nothing of {way}\n{self.ours}"
        return score(path, rate)


FROM_FFMPEG = (Way("ffmpeg-opus", OPUS, 1), Way("ffmpeg-pcmu", PCMU, 2))
FROM_GSTREAMER = (Way("gstreamer-opus", OPUS, 3), Way("gstreamer-pcmu", PCMU, 4))
OTHERS = (Way("gstreamer-gsm", GSM, 5), Way("ffmpeg-g722", G722, 6), Way("ffmpeg-speex", SPEEX, 7))
OURS = (Way("ours-opus", OPUS, 11), Way("ours-pcmu", PCMU, 12))
OUR_OTHERS = tuple(Way(f"ours-{kind.name}", kind, 13 + n) for n, kind in enumerate(MORE))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """Everybody talks and hears at the same time, once for all tests."""
    folder = tmp_path_factory.mktemp("foreign")
    file = folder / "speech.wav"
    wav.write(file, spoken())
    programs: list[Program] = []

    def start(*command: str) -> Program:
        log = folder / f"program-{len(programs)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip
        programs.append(Program(process, log))
        return programs[-1]

    lan = Lan(4)
    try:
        yield _perform(Stage((*lan.hosts,), start, folder), file, programs)  # type: ignore[arg-type]
    finally:
        for program in programs:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait(10)
        lan.close()


def _perform(stage: Stage, file: Path, programs: list[Program]) -> Heard:
    _, us, ffmpegs, gstreamers = stage.hosts
    for host in stage.hosts:
        host.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
    others = [way for way in OTHERS if carried(way.kind)]
    our_others = [way for way in OUR_OTHERS if carried(way.kind)]
    theirs = (*FROM_FFMPEG, *FROM_GSTREAMER, *others)
    capture = stage.folder / "wire.pcapng"
    shark = stage.start(*ffmpegs.command("tshark", "-q", "-i", "eth0", "-f", "udp", "-w", capture))
    hears = [f"hear={way.name},{way.group}:{way.port}" for way in theirs]
    says = [
        f"say={way.name},{way.group}:{way.port},{way.kind.name},20,{int(way.kind is OPUS)}"
        for way in (*OURS, *our_others)
    ]
    ours = stage.start(*us.command(sys.executable, PARTY, f"file={file}", *hears, *says))
    by_ffmpeg = [way for way in theirs if way.by == "ffmpeg"] + [*OURS, *our_others]
    by_gstreamer = [way for way in theirs if way.by == "gstreamer"] + [*OURS]
    receivers = [stage.hears(way, "ffmpeg") for way in by_ffmpeg]
    receivers += [stage.hears(way, "gstreamer") for way in by_gstreamer]
    wait_until(lambda: ours.output().count("up ") == len(hears) + len(says), ours)
    for host, ways in ((ffmpegs, by_ffmpeg), (gstreamers, by_gstreamer)):
        wait_until(lambda host=host, ways=ways: stage.joined(host) == len(ways), *receivers)  # type: ignore[misc]
    wait_until(lambda: capture.exists() and capture.stat().st_size > 0, shark)

    senders = [stage.says(way, file) for way in theirs]
    ours.process.send_signal(signal.SIGUSR1)
    for sender in senders:
        assert sender.process.wait(WAIT_S) == 0, sender.output()
    wait_until(lambda: ours.output().count("said ") == len(says), ours)
    wait_until(lambda: ended(ours) == len(hears), ours)
    for program in (*receivers, shark):
        program.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    # ffmpeg waits for a packet before it looks at the first signal.
    for program in receivers[: len(by_ffmpeg)]:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGINT)
    for program in (*receivers, shark):
        program.process.wait(WAIT_S)
    sounds = {(way.name, "us"): stage.folder / f"{way.name}.wav" for way in theirs}
    sounds |= {(way.name, "ffmpeg"): stage.sound(way, "ffmpeg") for way in by_ffmpeg}
    sounds |= {(way.name, "gstreamer"): stage.sound(way, "gstreamer") for way in by_gstreamer}
    return Heard(sounds, ours.output() + "\n".join(each.output() for each in programs), capture)


@pytest.mark.parametrize("way", (*FROM_FFMPEG, *FROM_GSTREAMER, *OTHERS), ids=lambda way: way.name)
def test_we_hear_them(heard: Heard, way: Way) -> None:
    """What a foreign program says sounds here as it does in its own receiver."""
    if not carried(way.kind):
        pytest.skip(f"{way.kind.name} is not carried here")
    ours, theirs = (heard.score(way.name, by, way.kind.rate) for by in ("us", way.by))
    print(f"{way.name}: {ours:.2f} here, {theirs:.2f} there")
    assert ours >= theirs - ALLOWED


@pytest.mark.parametrize("by", ("ffmpeg", "gstreamer"))
@pytest.mark.parametrize("way", OURS, ids=lambda way: way.name)
def test_they_hear_us(heard: Heard, way: Way, by: str) -> None:
    """What we say sounds in a foreign receiver as what its own program says."""
    ours = heard.score(way.name, by, way.kind.rate)
    theirs = heard.score(f"{by}-{way.kind.name}", by, way.kind.rate)
    print(f"{way.name}: {ours:.2f} from us, {theirs:.2f} from {by} itself")
    assert ours >= theirs - ALLOWED


@pytest.mark.parametrize(
    ("way", "other"), tuple(zip(OUR_OTHERS, OTHERS, strict=True)), ids=lambda way: way.name
)
def test_ffmpeg_hears_our_other_codecs(heard: Heard, way: Way, other: Way) -> None:
    """So do the codecs that go through a library: ffmpeg hears ours as a foreign sender's is heard."""
    if not carried(way.kind):
        pytest.skip(f"{way.kind.name} is not carried here")
    ours, theirs = (
        heard.score(way.name, "ffmpeg", way.kind.rate),
        heard.score(other.name, other.by, way.kind.rate),
    )
    print(f"{way.name}: {ours:.2f} from us, {theirs:.2f} from {other.by}")
    assert ours >= theirs - ALLOWED


def test_nothing_was_refused(heard: Heard) -> None:
    """Every packet of theirs became sound: none was refused, none was missing."""
    assert set(re.findall(r"^refused \S+ (.*)$", heard.ours, re.MULTILINE)) == {"{}"}


def test_what_tshark_sees(heard: Heard) -> None:
    """tshark takes what we send for RTP of that payload type, in order, whole, marked where it begins, with the DSCP of voice."""
    for way in OURS:
        fields = (
            "rtp.p_type",
            "ip.dsfield.dscp",
            "rtp.seq",
            "rtp.marker",
            "rtp.ext",
            "rtp.timestamp",
            "rtp.ssrc",
        )
        words = [
            "tshark",
            "-r",
            str(heard.capture),
            "-d",
            f"udp.port=={way.port},rtp",
            "-Y",
            f"rtp && udp.dstport == {way.port}",
            "-T",
            "fields",
        ]
        for field in fields:
            words += ["-e", field]
        told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=WAIT_S).stdout
        packets = [line.split("\t") for line in told.splitlines()]
        print(way.name, len(packets), packets[0], packets[-1])
        assert {packet[0] for packet in packets} == {str(way.kind.payload_type)}
        assert {packet[1] for packet in packets} == {str(EXPEDITED)}
        numbers = list(dict.fromkeys(int(packet[2]) for packet in packets))  # the end comes several times
        assert numbers == [(numbers[0] + n) % 65_536 for n in range(len(numbers))]
        assert len(packets) - len(numbers) == (END_COPIES - 1 if way.kind is OPUS else 0)
        assert [packet[3] for packet in packets] == ["1"] + ["0"] * (len(packets) - 1)
        extended = [packet[4] for packet in packets]
        assert set(extended) == ({"0", "1"} if way.kind is OPUS else {"0"})
        assert len({packet[6] for packet in packets}) == 1
        steps = {(int(later[5]) - int(earlier[5])) % 2**32 for earlier, later in pairwise(packets)}
        assert steps <= {0, way.kind.clock // 50}
